"""Facts about stacks with gaps, unequal steps or a tilt on a regular grid.

The pixels hold where they are in the patient, which is linear, so that linear interpolation gives it back exactly.
"""

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_accessor import COLUMNS, NORMAL, OBLIQUE, ROWS, SPACING, volume, volumes

from xdicom.errors import GeometryError

START = np.array([-10.0, 5.0, 30.0])
ALONG_ROWS = np.array(OBLIQUE[3:])


def stack(depths, tilt=0.0):
    """Return positions at depths along the normal, which move down the rows by `tilt` mm a mm."""
    return np.array([START + depth * NORMAL + tilt * depth * ALONG_ROWS for depth in depths])


def check(regular, tilted=True):
    """Fail unless the pixels of arrays on a regular grid are where that says; return which are inside.

    Beyond the centres of the outermost rows, up to half a pixel, values are those of these centres; so of what is
    tilted, rows at the border do not count.
    """
    assert regular[0].dicom.affine.shape == (4, 4)
    world = regular[0].dicom.world_coords()
    inside = ~np.isnan(regular[0].values)
    if tilted:
        inside[:, 1:-1] &= inside[:, :-2] & inside[:, 2:]
        inside[:, [0, -1]] = False
    for axis, da in zip("xyz", regular, strict=True):
        expected = world[axis].transpose(*da.dims).values
        np.testing.assert_allclose(da.values[inside], expected[inside], rtol=0, atol=1e-3)
    return inside


def test_missing_slices_are_filled():
    """Where slices are missing, values are interpolated between neighbours; those that were there stay."""
    arrays = volumes(stack([0.0, 2.0, 8.0, 10.0, 12.0]))
    regular = [da.dicom.to_regular() for da in arrays]
    assert regular[0].sizes["slice"] == 7
    assert check(regular, tilted=False).all()
    np.testing.assert_allclose(regular[0].isel(slice=[0, 1, 4, 5, 6]), arrays[0], atol=1e-4)


def test_distance_is_that_of_which_gaps_are_multiples():
    """Half of the slices may be missing; distances that are no multiples give their median."""
    assert volume(stack([0.0, 2.0, 6.0, 8.0, 12.0])).dicom.to_regular().sizes["slice"] == 7
    irregular = volume(stack([0.0, 1.1, 4.2, 11.6])).dicom.to_regular()
    assert irregular.sizes["slice"] == 5
    np.testing.assert_allclose(np.linalg.norm(irregular.dicom.affine[:3, 2]), 11.6 / 4)


def test_regular_stacks_stay_as_they_are():
    """A regular stack comes back with its values and its affine."""
    da = volume(stack([0.0, 2.0, 4.0]))
    regular = da.dicom.to_regular()
    np.testing.assert_allclose(regular, da, atol=1e-5)
    np.testing.assert_allclose(regular.dicom.affine, da.dicom.affine, atol=1e-9)
    assert (regular - da).sizes == da.sizes


def test_tilted_stacks_are_straightened_without_loss():
    """The grid of a tilted stack is upright, and so large that every slice is on it."""
    regular = [da.dicom.to_regular() for da in volumes(stack(np.arange(5) * 2.5, tilt=0.3))]
    check(regular)
    assert regular[0].sizes["row"] == ROWS + 4  # 3 mm of 0.9375 mm each
    assert np.isfinite(regular[0]).sum() >= 5 * (ROWS - 1) * COLUMNS
    matrix = regular[0].dicom.affine
    np.testing.assert_allclose(matrix[:3, 2], NORMAL * 2.5, atol=1e-9)


def test_tilted_stacks_become_images_of_simpleitk():
    """SimpleITK takes the straightened stack."""
    sitk = pytest.importorskip("SimpleITK")
    image = volume(stack(np.arange(5) * 2.5, tilt=0.3)).dicom.to_regular().dicom.to_sitk()
    assert isinstance(image, sitk.Image)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=6, unique=True).map(lambda places: [p / 2 for p in places]),
    st.floats(-0.5, 0.5),
    st.sampled_from([1, -1]),
    st.none() | st.sampled_from([0.7, 2.0]),
)
def test_values_are_where_the_grid_says(depths, tilt, row, step):
    """Whatever gaps and tilt: each voxel inside has the value of its place, in the order of the slices."""
    arrays = [da.isel(row=slice(None, None, row)) for da in volumes(stack(sorted(depths), tilt), dims=("slice",))]
    regular = [da.dicom.to_regular(step=step) for da in arrays]
    check(regular)
    if step is not None:
        np.testing.assert_allclose(np.linalg.norm(regular[0].dicom.affine[:3, 2]), step)


def test_decreasing_stacks_stay_decreasing():
    """The first slice stays the first."""
    da = volume(stack([0.0, 2.0, 6.0])).isel(slice=slice(None, None, -1))
    regular = da.dicom.to_regular(step=2.0)
    np.testing.assert_allclose(regular.isel(slice=0), da.isel(slice=0), atol=1e-5)
    np.testing.assert_allclose(regular.dicom.affine[:3, 2], -2 * NORMAL, atol=1e-9)


def test_slices_in_any_order_are_sorted():
    """Slices that are not in the order of their positions are put into it."""
    regular = [da.dicom.to_regular() for da in volumes(stack([0.0, 4.0, 2.0, 6.0]), dims=("InstanceNumber",))]
    assert regular[0].dims == ("slice", "row", "column")
    assert check(regular, tilted=False).all()
    assert regular[0].sizes["slice"] == 4


def test_labels_are_kept():
    """By order=0 a mask keeps its labels and dtype, 0 outside."""
    da = volume(stack(np.arange(4) * 2.5, tilt=0.4))
    labels = xr.full_like(da, 7, dtype=np.uint8)
    regular = labels.dicom.to_regular(order=0)
    assert regular.dtype == np.uint8
    assert set(np.unique(regular)) == {0, 7}


def test_other_dims_stay():
    """Time goes along."""
    da = volume(stack([0.0, 2.0, 6.0])).expand_dims(EchoTime=[1.0, 2.0])
    assert da.dicom.to_regular(step=2.0).sizes == {"EchoTime": 2, "slice": 4, "row": ROWS, "column": COLUMNS}


def test_it_is_lazy():
    """Nothing is read before it is asked for."""
    regular = volume(stack([0.0, 2.0, 6.0])).dicom.to_regular()
    assert isinstance(regular.data, dask.array.Array)


def test_single_slices_have_no_grid():
    """One slice is no stack, and the error says so."""
    with pytest.raises(GeometryError, match="one slice"):
        volume(stack([0.0, 2.0])).isel(slice=[0]).dicom.to_regular()


def test_slices_at_one_place_have_no_grid():
    """Two slices at one place are refused."""
    with pytest.raises(GeometryError, match=r"same position|planes"):
        volume(stack([0.0, 0.0, 2.0, 2.0]), dims=("InstanceNumber",)).dicom.to_regular()


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan])
def test_steps_are_more_than_nothing(step):
    """A step of no mm is refused."""
    with pytest.raises(ValueError, match="more than 0"):
        volume(stack([0.0, 2.0])).dicom.to_regular(step=step)


def test_spacing_is_that_of_the_first_slice():
    """Rows and columns keep their spacing."""
    regular = volume(stack([0.0, 2.0, 6.0])).dicom.to_regular()
    assert (regular.row_spacing.item(), regular.column_spacing.item()) == pytest.approx(SPACING)
