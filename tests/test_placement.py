"""Facts about where arrays lie in the patient, before and after selections, worked out by hand."""

import numpy as np
import pytest
import xarray as xr
from fake_table import ABSENT, FakeFrames
from hypothesis import given
from hypothesis import strategies as st

from xdicom.array import to_dataarray
from xdicom.errors import GeometryError
from xdicom.placement import affine_of, world_coordinates
from xdicom.stack import stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
SPACING = (0.5, 0.75)
POSITIONS = [(float(-10 + i), float(5 - 2 * i), float(3 * i)) for i in range(5)]


def volume(positions=POSITIONS, orientation=OBLIQUE, spacing=SPACING, dims=("slice",), **more):
    """Return slices of 6 rows x 8 columns as an array."""
    count = len(positions)
    frames = FakeFrames(
        ImagePositionPatient=positions,
        ImageOrientationPatient=[orientation] * count if isinstance(orientation, tuple) else orientation,
        PixelSpacing=[spacing] * count if isinstance(spacing, tuple) else spacing,
        InstanceNumber=list(range(count)),
        pixels=np.arange(count * 48, dtype=np.int16).reshape(-1, 6, 8),
        **more,
    )
    return to_dataarray(frames, stack(frames, dims))


def centre(da, slice_index, row, column):
    """Return where a voxel of the whole volume lies, by the equation of PS3.3 C.7.6.2.1.1, in slice order of `da`."""
    position = np.array([da[f"ImagePositionPatient_{axis}"].values[slice_index] for axis in "xyz"])
    x, y = np.array(OBLIQUE[:3]), np.array(OBLIQUE[3:])
    return position + x * SPACING[1] * column + y * SPACING[0] * row


# -- coordinates


def test_rows_and_columns_are_in_mm():
    """Row is the index times the row spacing, column the index times the column spacing."""
    da = volume()
    np.testing.assert_array_equal(da["row"], np.arange(6) * 0.5)
    np.testing.assert_array_equal(da["column"], np.arange(8) * 0.75)


def test_rows_are_rounded_so_that_two_series_align():
    """Spacings that differ by less than rounding give equal coordinates."""
    a, b = volume(spacing=(0.33333333, 1.0)), volume(spacing=(0.33333334, 1.0))
    np.testing.assert_array_equal(a["row"], np.round(np.arange(6) / 3, 3))
    assert (a - b).sizes == a.sizes


def test_rows_of_a_microscope_stay_apart():
    """Where pixels are less than a micrometre apart, more decimals are kept."""
    np.testing.assert_allclose(volume(spacing=(0.00025, 0.00025))["row"], np.arange(6) * 0.00025, rtol=1e-12)


def test_slice_coordinate_is_in_mm_along_the_normal():
    """The normal of sagittal planes is -x: slices at x = 2 and x = -1 lie at -2 and 1."""
    da = volume([(2.0, 0.0, 0.0), (-1.0, 7.0, 9.0)], SAGITTAL)
    np.testing.assert_array_equal(da["slice"], [-2.0, 1.0])


def test_positions_are_exact_along_the_slice_dim():
    """Positions keep all their decimals, along the slice dim."""
    da = volume([(0.123456, 0.0, 0.0), (0.123456, 0.0, 2.000456)], AXIAL)
    assert da["ImagePositionPatient_x"].dims == ("slice",)
    np.testing.assert_array_equal(da["ImagePositionPatient_z"], [0.0, 2.000456])


def test_positions_are_along_the_slice_dim_also_with_one_slice():
    """A single slice has its position along the slice dim."""
    assert volume(POSITIONS[:1])["ImagePositionPatient_x"].dims == ("slice",)


def test_positions_are_along_whatever_dim_they_follow():
    """Where slices are arranged by another tag, that is the slice dim."""
    da = volume(dims=("InstanceNumber",))
    assert da["ImagePositionPatient_z"].dims == ("InstanceNumber",)
    assert da["slice_step_z"].item() == 3.0


def test_positions_that_differ_by_less_than_the_tolerance_need_one_dim():
    """Positions that jitter by less than 1e-3 mm from volume to volume are along the slice dim only."""
    positions = [(0.0, 0.0, z + jitter) for jitter in (0.0, 0.0004) for z in (0.0, 2.0)]
    da = volume(positions, AXIAL, dims=("slice", "EchoTime"), EchoTime=[1.0, 1.0, 2.0, 2.0])
    assert da["ImagePositionPatient_z"].dims == ("slice",)


def test_geometry_is_in_scalars():
    """Directions, spacings and slice step are scalar coordinates where they are constant."""
    da = volume()
    names = ["row_direction_x", "column_direction_y", "slice_step_y", "row_spacing", "column_spacing"]
    assert [da[name].item() for name in names] == [0.8, 0.48, -2.0, 0.5, 0.75]


def test_step_of_a_single_slice_is_its_spacing_along_the_normal():
    """One slice has the step that SpacingBetweenSlices says, before SliceThickness."""
    da = volume([(0.0, 0.0, 0.0)], AXIAL, SpacingBetweenSlices=[4.0], SliceThickness=[3.0])
    assert da["slice_step_z"].item() == 4.0


def test_step_of_a_single_slice_may_be_its_thickness():
    """Without SpacingBetweenSlices it is SliceThickness."""
    assert volume([(0.0, 0.0, 0.0)], AXIAL, SliceThickness=[3.0])["slice_step_z"].item() == 3.0


def test_step_that_is_unknown_is_absent():
    """One slice without either has no step."""
    assert "slice_step_z" not in volume([(0.0, 0.0, 0.0)], AXIAL).coords


def test_unequal_steps_are_along_the_slice_dim():
    """With a gap the step is a coordinate along the slice dim; the last slice has that of the one before."""
    da = volume([(0.0, 0.0, z) for z in (0.0, 2.0, 5.0)], AXIAL)
    np.testing.assert_array_equal(da["slice_step_z"], [2.0, 3.0, 3.0])


def test_varying_spacing_is_along_the_slice_dim_and_rows_are_indices():
    """Where the spacing varies, it is a coordinate along the slice dim, and rows are counted."""
    da = volume(POSITIONS[:2], spacing=[(1.0, 1.0), (2.0, 2.0)])
    np.testing.assert_array_equal(da["row_spacing"], [1.0, 2.0])
    assert da["row"].dtype.kind == "i"


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_frames_without_geometry_have_indices(tag):
    """Without position, orientation or spacing rows and columns are pixel indices."""
    values = {
        "ImagePositionPatient": [(0.0, 0.0, 0.0)],
        "ImageOrientationPatient": [AXIAL],
        "PixelSpacing": [(0.5, 0.5)],
    }
    frames = FakeFrames(**{**values, tag: [ABSENT]})
    da = to_dataarray(frames, stack(frames, ()))
    np.testing.assert_array_equal(da["row"], [0, 1, 2])
    assert "row_spacing" not in da.coords


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ({"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}, "right angle"),
        ({"spacing": (0.0, 1.0)}, "PixelSpacing holds 0"),
        ({"spacing": [(1.0, 1.0)] * 4 + [None]}, "1 of 5 frames have no complete PixelSpacing"),
    ],
)
def test_broken_geometry_says_why(broken, text):
    """Frames whose geometry is broken have none, and an attribute says why."""
    da = volume(dims=("InstanceNumber",), **broken)
    assert text in da.attrs["geometry_problem"]
    assert "row_direction_x" not in da.coords


# -- affine


def test_affine_is_that_of_the_standard():
    """The columns are row direction x column spacing, column direction x row spacing, the step, the first position."""
    da = volume()
    expected = np.column_stack([np.multiply(OBLIQUE[:3], 0.75), np.multiply(OBLIQUE[3:], 0.5), (1, -2, 3), (-10, 5, 0)])
    order = 1 if da["ImagePositionPatient_x"][0] == -10 else -1
    expected[:, 2] *= order
    expected[:, 3] = [da[f"ImagePositionPatient_{axis}"].values[0] for axis in "xyz"]
    np.testing.assert_allclose(affine_of(da)[:3], expected, atol=1e-12)


def test_affine_keeps_the_tilt():
    """The third column of a tilted stack is its step, not along the normal."""
    da = volume([(0.0, -0.5 * i, 2.0 * i) for i in range(4)], AXIAL)
    np.testing.assert_allclose(affine_of(da)[:3, 2], [0, -0.5, 2.0])


keys = st.one_of(
    st.integers(0, 4).map(lambda i: slice(i, i + 1)),
    st.builds(slice, st.none() | st.integers(0, 2), st.none() | st.integers(3, 5), st.sampled_from([None, 1, 2])),
    st.sampled_from([slice(None, None, -1), slice(4, 0, -2)]),
)


@given(st.tuples(keys, keys, keys), st.permutations(["slice", "row", "column"]))
def test_affine_and_world_stay_right_after_any_selection(selection, order):
    """After any slice, step, flip and transposition, both say where each voxel that is left was before."""
    da = volume().compute()
    part = da.isel(dict(zip(("slice", "row", "column"), selection, strict=True))).transpose(*order)
    left = [np.arange(size)[key] for size, key in zip((5, 6, 8), selection, strict=True)]
    matrix, world = affine_of(part), world_coordinates(part)
    for k, j, i in [(0, 0, 0), tuple(len(index) - 1 for index in left)]:
        expected = centre(da, left[0][k], left[1][j], left[2][i])
        np.testing.assert_allclose((matrix @ [i, j, k, 1])[:3], expected, atol=1e-9)
        voxel = world.isel(slice=k, row=j, column=i)
        np.testing.assert_allclose([voxel[axis].item() for axis in "xyz"], expected, atol=1e-9)


def test_affine_of_one_slice_uses_its_step():
    """With one slice left, as a scalar, the step is still known."""
    np.testing.assert_array_equal(np.abs(affine_of(volume().isel(slice=2))[:3, 2]), [1, 2, 3])


def test_affine_of_one_row_is_known():
    """A single row that was selected keeps its place and the spacing."""
    da = volume()
    np.testing.assert_allclose(affine_of(da.isel(row=3))[:3, 3], centre(da, 0, 3, 0))


def test_affine_survives_arithmetic():
    """Geometry is still there after arithmetic of two arrays."""
    da = volume()
    np.testing.assert_array_equal(affine_of(da * 2 + da), affine_of(da))


def test_affine_uses_the_exact_spacing():
    """Rows are rounded to 1e-3 mm, the affine isn't."""
    da = volume(spacing=(1 / 3, 1 / 3))
    np.testing.assert_allclose(np.linalg.norm(affine_of(da)[:3, 0]), 1 / 3, rtol=1e-12)


def test_affine_of_coarser_rows_has_their_spacing():
    """Two rows averaged are twice as far apart, and begin half a spacing later."""
    da = volume()
    coarse = da.coarsen(row=2).mean()
    matrix = affine_of(coarse)
    np.testing.assert_allclose(matrix[:3, 1], np.array(OBLIQUE[3:]) * 1.0)
    np.testing.assert_allclose(matrix[:3, 3], centre(da, 0, 0.5, 0))


def test_unequal_slices_have_no_affine_but_world_coordinates():
    """A gap raises for the affine; world coordinates stay right."""
    da = volume([(0.0, 0.0, z) for z in (0.0, 2.0, 5.0)], AXIAL)
    with pytest.raises(GeometryError, match="unequal"):
        affine_of(da)
    np.testing.assert_array_equal(world_coordinates(da)["z"].isel(row=0, column=0), [0, 2, 5])


def test_unequal_rows_have_no_affine():
    """Rows 0, 1 and 5 have no common step."""
    with pytest.raises(GeometryError, match="row has unequal steps"):
        affine_of(volume().isel(row=[0, 1, 5]))


@pytest.mark.parametrize("dim", ["slice", "row", "column"])
def test_nothing_has_no_affine(dim):
    """A selection outside of the array leaves nothing that could lie anywhere."""
    with pytest.raises(GeometryError, match=f"the array has no {dim}"):
        affine_of(volume().isel({dim: slice(100, None)}))


def test_averaged_slices_have_no_affine():
    """After mean("slice") the position is gone, and the error says what to do."""
    with pytest.raises(GeometryError, match=r"mean\(\) drops it, select with isel\(\)"):
        affine_of(volume().mean("slice"))


def test_averaged_rows_have_no_world_coordinates():
    """After mean("row") there is no row to be placed."""
    with pytest.raises(GeometryError, match="no coordinate 'row'"):
        world_coordinates(volume().mean("row"))


def test_array_without_geometry_has_no_affine():
    """An ultrasound or angiography image has none, and the error says so."""
    frames = FakeFrames(InstanceNumber=[1, 2])
    with pytest.raises(GeometryError, match="ultrasound"):
        affine_of(to_dataarray(frames, stack(frames, ("frame",))))


def test_any_other_array_has_no_affine():
    """An array that isn't ours raises the same error."""
    with pytest.raises(GeometryError, match="no coordinate"):
        affine_of(xr.DataArray(np.zeros((2, 2))))


def test_unknown_step_has_no_affine():
    """One slice without spacing or thickness has no affine."""
    with pytest.raises(GeometryError, match="the step to a next slice can't be known"):
        affine_of(volume([(0.0, 0.0, 0.0)], AXIAL))


def test_several_orientations_have_no_affine_but_world_coordinates():
    """Slices of two orientations have directions along their dim, and world coordinates."""
    da = volume([(0.0, 0.0, 1.0), (0.0, 0.0, 2.0)], [AXIAL, SAGITTAL], dims=("InstanceNumber",))
    with pytest.raises(GeometryError, match="row_direction_x varies"):
        affine_of(da)
    world = world_coordinates(da).isel(row=0, column=1)
    np.testing.assert_array_equal(world["x"], [0.75, 0])
    np.testing.assert_array_equal(world["y"], [0, 0.75])


def test_one_of_several_orientations_has_an_affine():
    """One slice selected of several orientations has its own affine."""
    da = volume([(0.0, 0.0, 1.0), (2.0, 0.0, 2.0)], [AXIAL, SAGITTAL], dims=("InstanceNumber",))
    matrix = affine_of(da.isel(InstanceNumber=1))
    np.testing.assert_allclose(matrix[:3, 0], [0, 0.75, 0])
    np.testing.assert_allclose(matrix[:3, 3], [2, 0, 2])


def test_varying_spacing_has_world_coordinates():
    """Each slice is placed by its own spacing."""
    da = volume([(0.0, 0.0, 1.0), (0.0, 0.0, 2.0)], AXIAL, [(1.0, 1.0), (2.0, 2.0)])
    np.testing.assert_array_equal(world_coordinates(da)["y"].isel(row=3, column=5), [3.0, 6.0])
    assert affine_of(da.isel(slice=1))[1, 1] == 2.0


def test_positions_along_two_dims_have_world_coordinates():
    """A table that moves from volume to volume gives positions along both dims."""
    positions = [(0.0, 0.0, z + shift) for shift in (0.0, 100.0) for z in (0.0, 2.0)]
    da = volume(positions, AXIAL, dims=("EchoTime", "InstanceNumber_index"), EchoTime=[1.0, 1.0, 2.0, 2.0])
    with pytest.raises(GeometryError, match="several dims"):
        affine_of(da)
    np.testing.assert_array_equal(world_coordinates(da)["z"].isel(row=1, column=1), [[0, 2], [100, 102]])
    assert affine_of(da.isel(EchoTime=1))[2, 2] == 2.0


def test_world_coordinates_have_the_dims_of_the_array_in_its_order():
    """The dims are those of slices, rows and columns, in the order of the array, and no others."""
    world = world_coordinates(volume([(0.0, 0.0, 0.0), (0.0, 0.0, 1.0)], OBLIQUE).transpose("column", "row", "slice"))
    assert world["x"].dims == ("column", "row", "slice")


def test_world_coordinates_of_a_lazy_array_are_lazy():
    """A large array gets its coordinates in chunks, too, those of an array in memory are in memory."""
    assert world_coordinates(volume())["x"].chunks is not None
    assert world_coordinates(volume().compute())["x"].chunks is None


def test_world_coordinates_are_of_slices_that_have_frames_only_in_part():
    """A point without a frame doesn't take the position from its slice."""
    positions = [(0.0, 0.0, 0.0), (0.0, 0.0, 2.0), (0.0, 0.0, 2.0)]
    frames = FakeFrames(
        ImagePositionPatient=positions,
        ImageOrientationPatient=[AXIAL] * 3,
        PixelSpacing=[SPACING] * 3,
        EchoTime=[2.0, 1.0, 2.0],
    )
    da = to_dataarray(frames, stack(frames, ("slice", "EchoTime"), missing="fill"))
    np.testing.assert_array_equal(da["ImagePositionPatient_z"], [0, 2])
    assert affine_of(da)[2, 2] == 2.0
