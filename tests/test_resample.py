"""One grid onto another: SimpleITK and linear functions of the place as oracles, and what is read and held."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from grids import affine, grid, linear, rotation, world

import xdicom as xd
from xdicom import resample as module
from xdicom.errors import GeometryError
from xdicom.placement import affine_of
from xdicom.resample import resample, resample_mask
from xdicom.selection import Selection, selectable
from xdicom.slabs import slices_of

TURN = rotation(25, 0) @ rotation(-40, 2) @ rotation(13, 1)
SOURCE, TARGET = (9, 14, 12), (7, 11, 13)


def random_grid(seed=0, shape=SOURCE, matrix=None, **options):
    """Return a grid of noise."""
    values = np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)
    return grid(values, affine() if matrix is None else matrix, **options)


def target_inside(turn=TURN, shape=TARGET, spacing=(1.1, 1.3, 2.1)):
    """Return a grid around the middle of the source, turned against it."""
    # Not quite the middle, so that no place is as near to two voxels.
    middle = affine()[:3, :3] @ ((np.array(SOURCE[::-1]) - 0.9) / 2) + affine()[:3, 3]
    matrix = affine(spacing, turn=turn, origin=(0, 0, 0))
    matrix[:3, 3] = middle - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return grid(np.zeros(shape), matrix), matrix


def by_simpleitk(source, target, order):
    """Return what SimpleITK's Resample gives, NaN outside."""
    sitk = pytest.importorskip("SimpleITK")

    def image(array):
        matrix = affine_of(array)
        made = sitk.GetImageFromArray(np.ascontiguousarray(array.values, float))
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        made.SetSpacing(lengths.tolist())
        made.SetOrigin(matrix[:3, 3].tolist())
        made.SetDirection((matrix[:3, :3] / lengths).ravel().tolist())
        return made

    kind = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear}[order]
    outside = -1e30
    found = sitk.Resample(image(source), image(target), sitk.Transform(), kind, outside, sitk.sitkFloat64)
    values = sitk.GetArrayFromImage(found)
    return np.where(values == outside, np.nan, values)


# -- against SimpleITK


@pytest.mark.parametrize("order", [0, 1], ids=["nearest", "linear"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_simpleitk_at_any_angle(seed, order):
    """Any oblique grid onto any other gives SimpleITK's values within rounding, and is outside at the same voxels."""
    rng = np.random.default_rng(seed)
    turns = [rotation(a, 0) @ rotation(b, 1) @ rotation(c, 2) for a, b, c in rng.uniform(-180, 180, (2, 3))]
    source = random_grid(seed, matrix=affine(rng.uniform(0.7, 4, 3), turn=turns[0], origin=(0, 0, 0)))
    middle = affine_of(source)[:3, :3] @ ((np.array(SOURCE[::-1]) - 1) / 2)
    target = grid(np.zeros(TARGET), affine(rng.uniform(0.7, 3, 3), turn=turns[1], origin=middle + 0.01))
    found = resample(source, target, order=order).values
    expected = by_simpleitk(source, target, order)
    assert np.isfinite(expected).sum() > 50
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("order", [0, 1], ids=["nearest", "linear"])
@pytest.mark.parametrize("turned", [False, True], ids=["axial onto oblique", "oblique onto axial"])
def test_equals_simpleitk_on_real_images(real_copy, turned, order):
    """A localiser and an oblique field map of one patient, each onto the other."""
    with xd.database(real_copy("multiframe")) as db:
        (axial,) = (series.to_xarray("slice") for series in db.series(SeriesDescription="Ax_localiser_BH"))
        (oblique,) = db.series(SeriesDescription="Cor_B0map_BH")
        oblique = oblique.to_xarray("slice", duplicates="first")
        source, target = (oblique, axial) if turned else (axial, oblique)
        found, expected = resample(source, target, order=order).values, by_simpleitk(source, target, order)
    assert np.isfinite(expected).sum() > 50_000
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)


def moved_onto(array, other):
    """Return an array moved so that its middle lies nearly in that of another."""
    middles = [slices_of(each).centres().mean(axis=0) for each in (array, other)]
    shift = middles[1] - middles[0] + [0.31, 0.17, 0.23]
    names = [f"ImagePositionPatient_{axis}" for axis in "xyz"]
    return array.assign_coords({name: array[name] + by for name, by in zip(names, shift, strict=True)})


@pytest.mark.slow
@pytest.mark.parametrize("order", [0, 1], ids=["nearest", "linear"])
@pytest.mark.parametrize(
    "name", ["siemens-two-echoes", "philips-enhanced-b0", "siemens-enhanced-rest", "ge-fmri-4d", "rider-flip-angles"]
)
def test_equals_simpleitk_from_vendor_to_vendor(real_copy, name, order):
    """The geometry of each vendor's files, classic or enhanced, onto an oblique one and back."""
    arrays = []
    for folder, description in ((name, None), ("multiframe", "Cor_B0map_BH")):
        with xd.database(real_copy(folder)) as db:
            series = db.series(**({"SeriesDescription": description} if description else {}))[0]
            arrays.append(series.to_xarray("slice", duplicates="first").load())
    first, second = moved_onto(arrays[0], arrays[1]), arrays[1]
    for source, target in ((first, second), (second, first)):
        found, expected = resample(source, target, order=order).values, by_simpleitk(source, target, order)
        assert np.isfinite(expected).sum() > 1000
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        # SimpleITK takes the mean step between slices, we each slice's position, which files round to some decimals.
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.nanmax(np.abs(expected)))


# -- by hand


@pytest.mark.parametrize("tilt", [0.0, 0.9, -1.7], ids=["upright", "tilted", "tilted back"])
def test_linear_functions_of_the_place_are_kept(tilt):
    """Values that are a linear function of the place in the patient are that function at the target's places."""
    own = affine(turn=rotation(10, 0), tilt=tilt)
    source = grid(linear(world(own, SOURCE)), own)
    matrix = affine((1.1, 1.3, 2.1), turn=TURN, origin=own[:3, :3] @ [5, 6, 3] + own[:3, 3])
    found = resample(source, grid(np.zeros(TARGET), matrix)).values
    expected = linear(world(matrix, TARGET))
    fractions = np.linalg.inv(own)[:3, :3] @ (world(matrix, TARGET).reshape(3, -1) - own[:3, 3:])
    limits = np.array(SOURCE[::-1])[:, None] - 1
    between = ((fractions >= 0) & (fractions <= limits)).all(axis=0).reshape(TARGET)
    assert between.sum() > 100
    np.testing.assert_allclose(found[between], expected[between], rtol=1e-9)
    beyond = ((fractions < -0.501) | (fractions > limits + 0.501)).any(axis=0).reshape(TARGET)
    assert np.isnan(found[beyond]).all()
    assert np.isfinite(found[~beyond & between]).all()


def test_a_small_rotation_is_applied():
    """0.4 mrad change values by what a linear function of the place changes by."""
    own = affine((1, 1, 2), origin=(0, 0, 0))
    source = grid(linear(world(own, (3, 40, 300)), weights=(0, 1, 0)), own)
    turned = affine((1, 1, 2), origin=(0, 5, 0), turn=rotation(np.degrees(4e-4), 2))
    found = resample(source, grid(np.zeros((3, 20, 290)), turned)).values
    np.testing.assert_allclose(found[1, 0], 10 + np.arange(290) * np.sin(4e-4), atol=1e-9)


def test_a_grid_onto_itself_is_itself():
    """Every order keeps the values at the voxels."""
    source = random_grid(matrix=affine(turn=TURN))
    for order in range(6):
        np.testing.assert_allclose(resample(source, source, order=order).values, source.values, rtol=1e-5)


def test_half_a_voxel_beyond_centres_has_the_value_of_the_border():
    """Between the outermost centre and the border of the stack values are those of the outermost voxel."""
    source = grid(np.arange(4.0)[None, None, :] * np.ones((1, 1, 1)), affine((1, 1, 1), origin=(0, 0, 0)), thickness=1)
    probe = grid(np.zeros((1, 1, 5)), affine((0.2, 1, 1), origin=(-0.7, 0, 0)))
    assert resample(source, probe).values[0, 0].tolist() == [
        pytest.approx(np.nan, nan_ok=True),
        0,
        0,
        0,
        pytest.approx(0.1),
    ]


def test_gaps_are_outside():
    """In a stack with a missing slice, what lies in no slab is NaN, and what lies in one has its value."""
    source = grid(np.array([1.0, 2, 3, 5, 6])[:, None, None] * np.ones((5, 2, 2)), affine((1, 1, 1), origin=(0, 0, 0)),
                  places=[0, 1, 2, 4, 5], thickness=1)  # fmt: skip
    probe = grid(np.zeros((6, 2, 2)), affine((1, 1, 0.5), origin=(0, 0, 1.5)))
    expected = [2.5, 3, 3, np.nan, 5, 5]
    np.testing.assert_allclose(resample(source, probe).values[:, 0, 0], expected)


# -- other dims, coordinates


def four_dimensional():
    """Return a grid of two echoes and three slices whose times differ."""
    values = np.random.default_rng(3).normal(100, 30, (2, 3, 6, 5))
    times = np.arange(6.0).reshape(2, 3)
    return grid(
        values,
        affine(),
        dims=("EchoTime", "slice", "row", "column"),
        EchoTime=[5.0, 10.0],
        AcquisitionTime=(("EchoTime", "slice"), times),
        TriggerTime=("slice", [7.0, 8.0, 9.0]),
        FlipAngle=30.0,
        stack_dims="FlipAngle EchoTime slice",
    ).assign_attrs(PatientID="p", Rows=6, SliceThickness=4.0)


def test_other_dims_pass_through():
    """Each volume of a 4-D array is resampled as it would be alone."""
    source, (target, _) = four_dimensional(), target_inside()
    found = resample(source, target)
    assert found.dims == source.dims
    for echo in range(2):
        alone = resample(source.isel(EchoTime=echo), target)
        np.testing.assert_array_equal(found.isel(EchoTime=echo).values, alone.values)


def test_order_of_dims_is_kept():
    """A source whose slices come first keeps them there."""
    source, (target, _) = four_dimensional(), target_inside()
    turned = resample(source.transpose("slice", "EchoTime", "row", "column"), target)
    assert turned.dims == ("slice", "EchoTime", "row", "column")
    np.testing.assert_array_equal(turned.transpose(*source.dims).values, resample(source, target).values)


def test_geometry_is_the_targets_and_the_rest_the_sources():
    """The result has the target's affine, and the source's other coordinates and attributes."""
    source, (target, matrix) = four_dimensional(), target_inside()
    found = resample(source, target)
    np.testing.assert_allclose(affine_of(found), matrix, atol=1e-9)
    assert (found.EchoTime.values.tolist(), float(found.FlipAngle), found.attrs["PatientID"]) == ([5, 10], 30, "p")
    assert "Rows" not in found.attrs
    renamed = resample(source.rename(slice="SliceLocation").assign_coords(stack_dims="FlipAngle SliceLocation"), target)
    assert str(renamed.stack_dims.values) == "FlipAngle slice"


def test_what_varies_from_slice_to_slice_is_that_of_the_nearest():
    """A slice of the target has the times of the source's slice whose plane is nearest to its centre."""
    source = four_dimensional()
    target = grid(np.zeros((4, 6, 5)), affine((1.5, 2, 2.2), origin=(-10, -20, 30.0)))
    found = resample(source, target)
    assert found.TriggerTime.values.tolist() == [7, 8, 8, 9]
    assert found.AcquisitionTime.values.tolist() == [[0, 1, 1, 2], [3, 4, 4, 5]]


def test_slice_thickness_is_the_targets():
    """SliceThickness is a coordinate with the target's value, NaN where it has none."""
    source = four_dimensional()
    with_it = resample(source, random_grid(thickness=2.5))
    without = resample(source, random_grid())
    assert (float(with_it.SliceThickness), bool(np.isnan(without.SliceThickness))) == (2.5, True)
    assert "SliceThickness" not in with_it.attrs


def test_a_single_image_has_no_slice_dim():
    """A target without a slice dim gives an array without one, and a source without one is a slab."""
    source, (target, _) = random_grid(), target_inside()
    one = resample(source, target.isel(slice=3))
    assert one.dims == ("row", "column")
    np.testing.assert_array_equal(one.values, resample(source, target).isel(slice=3).values)
    back = resample(source.isel(slice=4).assign_attrs(SliceThickness=4), source)
    assert np.isfinite(back.values).all(axis=(1, 2)).tolist() == [index == 4 for index in range(9)]


@pytest.mark.parametrize("key", [slice(None, None, -1), [3, 0, 8, 1, 2, 7, 4, 6, 5]], ids=["flipped", "mixed"])
def test_order_of_slices_does_not_matter(key):
    """A source that was flipped or shuffled gives the same values."""
    source, (target, _) = random_grid(), target_inside()
    expected = resample(source, target)
    np.testing.assert_allclose(resample(source.isel(slice=key), target).values, expected.values, rtol=1e-6)


def test_steps_and_flips_of_rows_and_columns_are_followed():
    """A source of every second row, columns reversed, is where it is."""
    own = affine(turn=TURN)
    source = grid(linear(world(own, SOURCE)), own)
    part = source.isel(row=slice(1, None, 2), column=slice(None, None, -1))
    found = resample(part, source).values
    np.testing.assert_allclose(found[:, 1:12], source.values[:, 1:12], rtol=1e-9)


# -- NaN


@pytest.mark.parametrize("order", [0, 1])
def test_nan_stays_where_it_is(order):
    """On the same grid, NaN spreads to no neighbour."""
    source = random_grid()
    source.values[4, 5, 6] = np.nan
    np.testing.assert_array_equal(np.isnan(resample(source, source, order=order).values), np.isnan(source.values))


def test_nan_counts_where_its_voxel_does():
    """Between a voxel and one that is NaN the value is NaN, however little that one counts."""
    source = grid(
        np.array([1.0, np.nan, 3, 4])[None, None, :] * np.ones((2, 2, 1)), affine((1, 1, 1), origin=(0, 0, 0))
    )
    probe = grid(np.zeros((2, 2, 5)), affine((0.75, 1, 1), origin=(0, 0, 0)))
    np.testing.assert_allclose(resample(source, probe).values[0, 0], [1, np.nan, np.nan, 3.25, 4])


def test_splines_do_not_smear_nan():
    """With cubic splines a NaN is NaN in its reach, and elsewhere values stay finite."""
    source = random_grid()
    source.values[4, 5, 6] = np.nan
    found = resample(source, source, order=3).values
    assert np.isnan(found[3:6, 4:7, 5:8]).all()
    assert np.isnan(found).sum() <= 5**3


# -- masks


def test_masks_are_inside_where_half_of_them_is():
    """A binary mask is interpolated linearly, and a voxel is inside from one half on."""
    mask = grid(np.array([0, 0, 7, 7, 0])[None, None, :] * np.ones((2, 2, 1), int), affine((1, 1, 1), origin=(0, 0, 0)))
    probe = grid(np.zeros((2, 2, 9)), affine((0.5, 1, 1), origin=(0, 0, 0)))
    found = resample_mask(mask, probe)
    assert found.values[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0]
    assert found.dtype == np.uint8


def test_masks_are_zero_outside_and_at_nan():
    """Outside the source, and where it is NaN, nothing is inside."""
    mask = grid(np.array([1.0, np.nan, 1, 1])[None, None, :] * np.ones((2, 2, 1)), affine((1, 1, 1), origin=(0, 0, 0)))
    probe = grid(np.zeros((2, 2, 6)), affine((1, 1, 1), origin=(-1, 0, 0)))
    assert resample_mask(mask, probe).values[0, 0].tolist() == [0, 1, 0, 1, 1, 0]


def test_labels_are_those_of_the_nearest_voxel():
    """Labels are not mixed, whatever lies between them."""
    labels = np.random.default_rng(1).integers(0, 4, SOURCE).astype(np.int16)
    source, (target, _) = grid(labels, affine()), target_inside()
    found = resample_mask(source, target, labels=True)
    expected = by_simpleitk(source, target, 0)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found.values, np.nan_to_num(expected))


def test_labels_are_zero_where_the_source_is_nan():
    """NaN is no label."""
    source = random_grid()
    source.values[4, 5, 6] = np.nan
    found = resample_mask(source, source, labels=True)
    np.testing.assert_array_equal(found.values, np.nan_to_num(source.values))
    assert found.attrs == resample(source, source).attrs


def test_integers_are_rounded_to():
    """A dtype of integers takes rounded values."""
    source, (target, _) = (
        grid(np.random.default_rng(1).integers(0, 255, SOURCE).astype(np.uint8), affine()),
        target_inside(),
    )
    exact = resample(source, target, fill=0).values
    np.testing.assert_array_equal(resample(source, target, fill=0, dtype=np.uint8).values, np.rint(exact))


# -- dask


class Recorder:
    """An array that says what was read of it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.read = []

    def __getitem__(self, key):
        found = self.values[key]
        self.read.append(found.size)
        return found


def recorded(source):
    """Return an array that reads from a recorder, and the recorder."""
    recorder = Recorder(source.values)
    return source.copy(data=selectable(Selection.all_of(recorder), tuple((n,) for n in source.shape))), recorder


@pytest.mark.parametrize("order", [0, 1, 3])
def test_blocks_join_without_seams(monkeypatch, order):
    """Many small blocks give what one gives."""
    source, (target, _) = random_grid(), target_inside()
    whole = resample(source, target, order=order)
    monkeypatch.setattr(module, "MOST_VOXELS", 60)
    parts = resample(source, target, order=order)
    assert parts.data.npartitions > 20 * whole.data.npartitions
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-5)


def test_nothing_is_read_before_it_is_computed():
    """Making the array reads nothing."""
    source, recorder = recorded(random_grid())
    lazy = resample(source, target_inside()[0])
    assert isinstance(lazy.data, da.Array)
    assert recorder.read == []


def test_a_part_reads_only_what_it_needs(monkeypatch):
    """A block of the target reads the box of the source around it, not the rest."""
    monkeypatch.setattr(module, "MOST_VOXELS", 300)
    source, recorder = recorded(random_grid(shape=(40, 40, 40), matrix=affine((1, 1, 1))))
    lazy = resample(source, grid(np.zeros((40, 40, 40)), affine((1, 1, 1), turn=rotation(10, 2))))
    lazy.isel(slice=slice(20, 21), row=slice(20, 22), column=slice(20, 22)).compute()
    assert 0 < sum(recorder.read) < 1000


def test_tasks_hold_little_however_large_the_source(monkeypatch):
    """No task reads more than the limit, also of a source much finer than the target, and of an oblique one."""
    monkeypatch.setattr(module, "MOST_VOXELS", 2000)
    source, recorder = recorded(random_grid(shape=(60, 60, 60), matrix=affine((0.5, 0.5, 0.5))))
    target = grid(np.zeros((20, 20, 20)), affine((1.5, 1.5, 1.5), turn=TURN))
    resample(source, target).compute()
    assert len(recorder.read) > 20
    assert max(recorder.read) <= 2 * 2000


def test_volumes_along_other_dims_are_taken_in_turn(monkeypatch):
    """Many volumes are not held together."""
    monkeypatch.setattr(module, "MOST_VOXELS", 2000)
    values = np.random.default_rng(0).normal(size=(50, 5, 10, 10))
    source, recorder = recorded(grid(values, affine(), dims=("time", "slice", "row", "column")))
    resample(source, source.isel(time=0)).compute()
    assert max(recorder.read) <= 2000


def test_dask_sources_of_any_kind_work():
    """A computed array, chunked anyhow, gives the same values."""
    source, (target, _) = random_grid(), target_inside()
    lazy = source.copy(data=da.from_array(source.values, chunks=(2, 5, 7))) * 2
    np.testing.assert_allclose(resample(lazy, target).values, 2 * resample(source, target).values, rtol=1e-6)


def test_a_target_elsewhere_is_all_outside():
    """Two grids that do not touch give NaN, or the fill, without reading."""
    source, recorder = recorded(random_grid())
    away = grid(np.zeros(TARGET), affine(origin=(900, 0, 0)))
    assert np.isnan(resample(source, away).values).all()
    assert (resample(source, away, fill=-1).values == -1).all()
    assert recorder.read == []


# -- what is refused


def test_unknown_orders_are_refused():
    """Splines have orders 0 to 5."""
    with pytest.raises(ValueError, match="order=7"):
        resample(random_grid(), random_grid(), order=7)


def test_arrays_without_geometry_are_refused():
    """What lies nowhere can be brought nowhere."""
    bare = xr.DataArray(np.zeros((2, 3, 4)), dims=("slice", "row", "column"))
    with pytest.raises(GeometryError):
        resample(bare, random_grid())
    with pytest.raises(GeometryError):
        resample(random_grid(), bare)
