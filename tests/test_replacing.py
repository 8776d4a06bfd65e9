"""Images set on a series that has some: which frames keep header and UID, which are added, which go."""

import gc

import dask.array
import numpy as np
import pydicom
import pytest
from factories import AXIAL, make_enhanced, make_series

import xdicom as xd
from xdicom import errors

PLACES = [30.0, 34.0, 38.0]


@pytest.fixture
def db(tmp_path):
    """A series of three slices at two flip angles, 6 rows and 5 columns."""
    make_series(tmp_path / "data", 3, {"FlipAngle": [5.0, 20.0]}, layout=AXIAL, EchoTime=2.0)
    with xd.database(tmp_path / "data") as database:
        yield database
    gc.collect()


@pytest.fixture
def flat(tmp_path):
    """A series of three slices only."""
    make_series(tmp_path / "flat", 3, layout=AXIAL, EchoTime=2.0)
    with xd.database(tmp_path / "flat") as database:
        yield database.series()[0]
    gc.collect()


@pytest.fixture
def series(db):
    """Return the one series."""
    return db.series()[0]


def uids(series, name="slice_location"):
    """Return SOPInstanceUIDs by the value of a tag or attribute."""
    frames = series.frames()
    return dict(zip(frames[name].round(3).tolist(), frames["SOPInstanceUID"].tolist(), strict=True))


DIMS = ("SliceLocation", "FlipAngle")
SHAPE = (5, 6, 3, 2)
rng = np.random.default_rng(1)
ARRAYS = {
    "uint8": rng.integers(0, 200, SHAPE).astype(np.uint8),
    "int16": rng.integers(-3000, 3000, SHAPE).astype(np.int16),
    "labels": rng.integers(0, 4, SHAPE),
    "float32": rng.normal(size=SHAPE).astype(np.float32),
    "float64": rng.normal(size=SHAPE) * 1e-7,
    "large": rng.integers(-(2**30), 2**30, SHAPE).astype(np.int32),
    "nan": np.where(rng.random(SHAPE) < 0.2, np.nan, rng.normal(size=SHAPE)),
    "bool": rng.random(SHAPE) < 0.5,
    "constant": np.full(SHAPE, 2.5),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_values_before_and_after_save_and_reopening(db, series, tmp_path, name, lazy):
    """What ndarray reads after staging is what it reads after saving and reopening, bit for bit."""
    array = dask.array.from_array(ARRAYS[name], chunks=(5, 6, 1, 1)) if lazy else ARRAYS[name]
    series.set_ndarray(array, dims=DIMS)
    staged = series.ndarray(DIMS)
    values = series.to_xarray(DIMS).values
    assert np.array_equal(np.moveaxis(values, (-2, -1), (1, 0)), staged, equal_nan=staged.dtype.kind == "f")
    db.save()
    assert series.ndarray(DIMS).tobytes() == staged.tobytes()
    with xd.database(tmp_path / "data") as again:
        assert again.series()[0].ndarray(DIMS).tobytes() == staged.tobytes()
        assert again.series()[0].ndarray(DIMS).dtype == staged.dtype


@pytest.mark.parametrize("name", ["uint8", "int16", "labels", "bool"])
def test_integers_are_exact(series, name):
    """Integers of 16 bits read back identical."""
    series.set_ndarray(ARRAYS[name], dims=DIMS)
    assert np.array_equal(series.ndarray(DIMS), ARRAYS[name])


@pytest.mark.parametrize("name", ["float32", "float64", "nan", "constant"])
def test_floats_are_near(series, name):
    """Floats are right within half a step of 65,536, and NaN stays NaN."""
    array = ARRAYS[name]
    series.set_ndarray(array, dims=DIMS)
    found = series.ndarray(DIMS)
    assert np.array_equal(np.isnan(found), np.isnan(array))
    assert np.nanmax(np.abs(found - array)) <= 0.51 * (np.nanmax(array) - np.nanmin(array)) / 65000 + 1e-12


def test_the_same_number_keeps_headers(series, db):
    """Without another number of images, headers and UIDs stay."""
    before = series.frames()["SOPInstanceUID"].tolist()
    series.set_ndarray(series.ndarray() * 2)
    db.save()
    assert sorted(series.frames()["SOPInstanceUID"].tolist()) == sorted(before)
    assert series.EchoTime == 2.0
    assert series.FlipAngle == [5.0, 20.0]


def test_other_slices(flat):
    """Slices that match keep their UID; one is added as a clone, with a position by its coordinate; one is gone."""
    before, values = uids(flat), flat.ndarray("slice_location")
    array = np.concatenate([values[..., 1:], values[..., :1]], axis=-1)
    flat.set_ndarray(array, dims="slice_location", coords=[[34.0, 38.0, 41.0]])
    after = uids(flat)
    assert list(after) == [34.0, 38.0, 41.0]
    assert (after[34.0], after[38.0]) == (before[34.0], before[38.0])
    assert after[41.0] not in before.values()
    assert flat.EchoTime == 2.0
    assert np.array_equal(flat.ndarray("slice_location"), array)


def test_added_slices_have_geometry(flat):
    """The position of an added slice follows the normal from its neighbour's, and so does SliceLocation."""
    flat.set_ndarray(np.ones((5, 6, 5)), dims="slice_location", coords=[[30.0, 32.0, 34.0, 36.0, 38.0]])
    flat.database.save()
    affine = flat.affine
    assert np.allclose(affine[:3, 2], [0, 0, 2])
    assert len(flat.SliceLocation) == 5
    assert flat.InstanceNumber == [1, 2, 3, 4, 5]


def test_files_of_added_and_removed_slices(flat, tmp_path):
    """After saving there is one file an image: those kept in their place, others gone."""
    kept = flat.frames().files.paths[1]
    flat.set_ndarray(np.ones((5, 6, 2)), dims="slice_location", coords=[[34.0, 50.0]])
    flat.save()
    files = sorted((tmp_path / "flat").rglob("*.dcm"))
    assert len(files) == 2
    assert tmp_path / "flat" / kept.decode() in files
    assert {pydicom.dcmread(path).SliceLocation for path in files} == {34, 50}


def test_another_flip_angle(series):
    """A value of a tag that is a dim is written into the added images."""
    array = np.ones((5, 6, 3, 3), np.int16) * [1, 2, 3]
    series.set_ndarray(array, dims=DIMS, coords=[PLACES, [5.0, 10.0, 20.0]])
    assert series.FlipAngle == [5.0, 10.0, 20.0]
    assert np.array_equal(series.ndarray(DIMS), array)


def test_set_twice(flat):
    """Images set a second time replace those set first; slices of the files that come back keep no stale pixels."""
    flat.set_ndarray(np.ones((5, 6, 1)), dims="slice_location", coords=[[34.0]])
    flat.set_ndarray(np.full((5, 6, 2), 2), dims="slice_location", coords=[[34.0, 38.0]])
    assert np.array_equal(flat.ndarray(), np.full((5, 6, 2), 2))
    flat.save()
    assert np.array_equal(flat.ndarray(), np.full((5, 6, 2), 2))
    flat.database.restore()
    assert len(flat.frames()) == 2


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_needs_coords(flat, count):
    """Another number of images without coordinates raises, and says what to give; nothing is staged."""
    with pytest.raises(errors.EditError, match="coords="):
        flat.set_ndarray(np.ones((5, 6, count)))
    with pytest.raises(errors.EditError, match="coords="):
        flat.set_ndarray(np.ones((5, 6, count)), dims="slice_location")
    assert flat.status() == []


def test_coords_that_hold_a_value_twice(flat):
    """Two images at one place raise."""
    with pytest.raises(errors.EditError, match="twice"):
        flat.set_ndarray(np.ones((5, 6, 4)), dims="slice_location", coords=[[30.0, 30.0, 34.0, 38.0]])


def test_dims_that_tell_too_little(series):
    """Dims that leave several frames at one place raise."""
    with pytest.raises(errors.StackError):
        series.set_ndarray(np.ones((5, 6, 4)), dims="slice_location", coords=[[30.0, 34.0, 38.0, 42.0]])


def test_another_matrix_keeps_the_field_of_view(flat):
    """Twice the columns are half as wide, and the image covers the same area."""
    before = flat.affine
    flat.set_ndarray(np.ones((10, 6, 3)))
    assert (flat.Columns, flat.Rows) == (10, 6)
    corner = before @ [-0.5, -0.5, 0, 1]
    assert np.allclose(flat.affine @ [-0.5, -0.5, 0, 1], corner)
    assert np.allclose(flat.affine @ [9.5, 5.5, 0, 1], before @ [4.5, 5.5, 0, 1])


def test_another_spacing(flat):
    """spacing= says how far pixels of another matrix are apart."""
    flat.set_ndarray(np.ones((10, 6, 3)), spacing=(3.0, 2.5))
    assert flat.PixelSpacing == [(2.5, 3.0)]


def test_set_xarray_keeps_instances(series):
    """An array that came from the series finds its frames by instance, and its changed tags are taken."""
    before = uids(series, "InstanceNumber")
    da = series.to_xarray(DIMS)
    series.set_xarray(da.assign_coords(FlipAngle=[6.0, 21.0]) + 1)
    assert series.FlipAngle == [6.0, 21.0]
    assert uids(series, "InstanceNumber") == before


def test_set_xarray_of_a_part(series):
    """Part of the series' array leaves that part."""
    da = series.to_xarray(DIMS)
    series.set_xarray(da.isel(FlipAngle=[1]) * 2)
    assert series.FlipAngle == 20.0
    assert len(series.frames()) == 3
    series.restore()
    assert len(series.frames()) == 6


def test_restore_after_other_slices(flat):
    """Everything is as it was after restore."""
    before = uids(flat), flat.ndarray().tobytes()
    flat.set_ndarray(np.ones((5, 6, 2)), dims="slice_location", coords=[[50.0, 60.0]])
    flat.study.restore()
    assert (uids(flat), flat.ndarray().tobytes()) == before


def test_frames_of_one_file(tmp_path):
    """To a file of several frames none can be added, and the error says what to do instead."""
    make_enhanced(tmp_path / "data" / "enhanced.dcm", 3, layout=AXIAL)
    with xd.database(tmp_path / "data") as db:
        series = db.series()[0]
        with pytest.raises(errors.EditError, match="new_sibling"):
            series.set_ndarray(np.ones((5, 6, 4)), dims="slice_location", coords=[[30.0, 34.0, 38.0, 42.0]])
