"""Facts about xdicom.store: what a save, a restore or a removal of one record does to what others have staged."""

import gc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import make_enhanced, make_series

import xdicom
from xdicom.errors import RecordError, TagValueError


@pytest.fixture
def db(tmp_path: Path):
    """Give the database of a folder with two series of two images."""
    make_series(tmp_path, 2, name="a")
    make_series(tmp_path, 2, name="b")
    found = xdicom.database(tmp_path)
    yield found
    found.close()


def named(db):
    """Return the two series in the order of their names."""
    return [db.series(SeriesDescription=f"series {name}")[0] for name in "ab"]


@pytest.mark.parametrize("count", [2, 30])
def test_an_edit_asks_the_database_for_little(count, tmp_path):
    """However many images it is of: one transaction with one row, and nothing read but whether others wrote."""
    db = xdicom.database(make_series(tmp_path, count).folder)
    try:
        (series,) = db.series()
        series.PatientName = "First^Edit"
        asked: list[str] = []
        db._store.catalog.connection.set_trace_callback(asked.append)
        series.PatientName = "Second^Edit"
        db._store.catalog.connection.set_trace_callback(None)
        assert [statement.split()[0] for statement in asked] == ["BEGIN", "PRAGMA", "INSERT", "COMMIT"]
        assert series.PatientName == ["Second^Edit"]
    finally:
        db.close()


def test_refused_edit_leaves_what_was_staged(db):
    """Of several values of which one is refused none is staged, and earlier ones are as they were."""
    series = named(db)[0]
    series.PatientComments = "mine"
    with pytest.raises(TagValueError, match="PatientBirthDate"):
        series[["PatientComments", "PatientBirthDate"]] = ["other", "no date"]
    assert series.PatientComments == ["mine"]
    assert [change.what for change in db.status()] == ["PatientComments"]
    series.PatientComments = "next"
    assert series.PatientComments == ["next"]


def test_edit_of_a_record_that_is_gone_takes_no_lock(db, tmp_path):
    """It is told, and others can write."""
    series = named(db)[0]
    series.remove()
    db.save()
    with pytest.raises(RecordError, match="this series has no frames any more"):
        series.PatientComments = "nobody"
    assert not (tmp_path / ".xdicom" / "lock").exists()
    db.series()[0].PatientComments = "here"
    with pytest.raises(RecordError, match="this series has no frames any more"):
        series.PatientComments = "nobody"


def test_save_of_one_series_keeps_pixels_staged_for_another(db):
    """Staged frames of a series that is in the files already are not forgotten when another one is saved."""
    a, b = named(db)
    halved = a.ndarray() // 2
    a.set_ndarray(halved)
    b.PatientComments = "another"
    b.save()
    assert [change.what for change in db.status()] == ["new pixels"]
    np.testing.assert_array_equal(a.ndarray(), halved)
    db.save()
    assert db.status() == []
    np.testing.assert_array_equal(a.ndarray(), halved)


def test_save_of_one_series_keeps_frames_added_to_another(db):
    """Copies staged into a series with files are not forgotten when another series is saved."""
    a, b = named(db)
    copy = a.copy_to(a.study)
    copy.save()
    extended = np.concatenate([copy.ndarray()] * 2, axis=2)
    copy.set_ndarray(extended, dims="slice_location", coords=[np.arange(4.0)])
    b.PatientComments = "another"
    b.save()
    np.testing.assert_array_equal(copy.ndarray("slice_location"), extended)
    assert db.status()


def test_save_of_one_series_keeps_pixels_that_are_set_aside(db, tmp_path):
    """New pixels of files that went are still shown as set aside after another series was saved."""
    a, b = named(db)
    a.set_ndarray(a.ndarray() // 2)
    for path in tmp_path.glob("a_*.dcm"):
        path.unlink()
    db.rescan()
    b.PatientComments = "another"
    b.save()
    assert any("new pixels (set aside" in change.what for change in db.status())
    assert not list(tmp_path.glob("a_*.dcm"))


def test_save_of_a_series_forgets_the_new_study_that_it_is_in(db):
    """A new study counts as saved with the first series in it."""
    source = db.series()[0].to_xarray("slice_location")
    study = db.patients()[0].new_study(StudyDescription="new")
    series = study.new_series(SeriesDescription="first")
    series.set_xarray(source)
    db.save()
    assert db.status() == []
    assert study.series() == [series]


# Frames that are removed by conditions -------------------------------------------------------------------------------


def test_remove_by_conditions_deletes_these_files_only(db, tmp_path):
    """Frames that match go at save, others stay; restore takes it back before."""
    a, _ = named(db)
    whole = a.ndarray()
    a.remove(InstanceNumber=1)
    assert [change.what for change in db.status()] == ["1 of 2 frames removed"]
    np.testing.assert_array_equal(a.ndarray(), whole[..., 1:])
    a.restore()
    np.testing.assert_array_equal(a.ndarray(), whole)
    a.remove(InstanceNumber=1)
    a.remove(InstanceNumber=[1, 2])
    assert named_or_none(db, "a") == []
    db.restore()
    a.remove(InstanceNumber=1)
    db.save()
    assert sorted(path.name for path in tmp_path.rglob("*.dcm")) == ["a_00002.dcm", "b_00001.dcm", "b_00002.dcm"]
    np.testing.assert_array_equal(a.ndarray(), whole[..., 1:])


def named_or_none(db, name):
    """Return the series of a name."""
    return db.series(SeriesDescription=f"series {name}")


def test_remove_by_conditions_acts_on_every_series_of_a_record(db, tmp_path):
    """A condition on a database is one on all of its frames."""
    db.remove(InstanceNumber=lambda number: number > 1)
    db.save()
    assert sorted(path.name for path in tmp_path.rglob("*.dcm")) == ["a_00001.dcm", "b_00001.dcm"]


def test_remove_by_conditions_that_nothing_meets_is_told(db):
    """No frame goes where none matches, and the values that there are stand in the error."""
    with pytest.raises(RecordError, match=r"no frame matches \{'InstanceNumber': 7\}; there are .*\[1, 2\]"):
        db.remove(InstanceNumber=7)
    assert db.status() == []


def test_remove_by_conditions_among_staged_frames(db, tmp_path):
    """Of frames that were never saved, those that match are dropped, and the rest is saved."""
    a, _ = named(db)
    copy = a.copy_to(a.study)
    whole = copy.ndarray()
    copy.remove(InstanceNumber=2)
    np.testing.assert_array_equal(copy.ndarray(), whole[..., :1])
    db.save()
    assert len(list(tmp_path.rglob("*.dcm"))) == 5
    assert db.status() == []
    np.testing.assert_array_equal(copy.ndarray(), whole[..., :1])


def test_remove_by_conditions_of_all_staged_frames_leaves_the_new_record(db):
    """A new series whose frames are all removed is empty again."""
    a, _ = named(db)
    made = a.study.new_series(SeriesDescription="made")
    made.set_xarray(a.to_xarray("slice_location"))
    made.remove(InstanceNumber=[1, 2])
    assert [change.what for change in made.status()] == ["new, empty"]


@pytest.mark.parametrize("removed", [1, 2, [1, 2]])
def test_remove_by_conditions_of_images_with_new_pixels(removed, db, tmp_path):
    """An image with staged pixels that is removed goes with its file, others keep theirs."""
    a, _ = named(db)
    whole = a.ndarray()
    a.set_ndarray(whole // 2)
    a.remove(InstanceNumber=removed)
    left = [number for number in (1, 2) if number not in np.atleast_1d(removed)]
    db.save()
    assert db.status() == []
    assert sorted(path.name for path in tmp_path.glob("a_*.dcm")) == [f"a_0000{number}.dcm" for number in left]
    if left:
        np.testing.assert_array_equal(a.ndarray(), whole[..., [number - 1 for number in left]] // 2)


def test_remove_by_conditions_of_images_with_new_pixels_is_taken_back(db):
    """Restore after new pixels and a removal gives what is in the files."""
    a, _ = named(db)
    whole = a.ndarray()
    a.set_ndarray(whole // 2)
    a.remove(InstanceNumber=1)
    a.restore()
    assert db.status() == []
    np.testing.assert_array_equal(a.ndarray(), whole)


def test_remove_of_part_of_an_enhanced_file(tmp_path):
    """The frames that stay are one enhanced file, with a new SOPInstanceUID, for frame numbers mean others now."""
    make_enhanced(tmp_path / "e.dcm", slices=3, dims={"EffectiveEchoTime": [10.0, 20.0]})
    before = pydicom.dcmread(tmp_path / "e.dcm")
    db = xdicom.database(tmp_path)
    series = db.series()[0]
    kept = series.ndarray(["slice_location", "EchoTime"])[..., 1]
    series.remove(EchoTime=10.0)
    db.save()
    after = pydicom.dcmread(tmp_path / "e.dcm")
    assert (before.NumberOfFrames, after.NumberOfFrames) == (6, 3)
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert len(after.PerFrameFunctionalGroupsSequence) == 3
    np.testing.assert_array_equal(series.ndarray("slice_location"), kept)
    db.close()


# What is left of staged pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["save", "restore"])
def test_pixels_that_are_staged_no_more_go_on_close(end, db, tmp_path):
    """Staged pixels that were saved or dropped take no room once who staged them closes; those still staged stay."""
    a, b = named(db)
    halved = b.ndarray() // 2
    a.set_ndarray(a.ndarray() // 2)
    b.set_ndarray(halved)
    getattr(a, end)()
    assert len(list((tmp_path / ".xdicom" / "edits.zarr").iterdir())) == 2
    db.close()
    assert len(list((tmp_path / ".xdicom" / "edits.zarr").iterdir())) == 1
    again = xdicom.database(tmp_path)
    np.testing.assert_array_equal(named(again)[1].ndarray(), halved)
    again.restore()
    again.close()
    assert not list((tmp_path / ".xdicom" / "edits.zarr").iterdir())


def test_arrays_of_a_database_in_memory_outlive_its_move_into_a_folder(tmp_path):
    """A lazy array that was made before save(folder) still reads its voxels; what is temporary goes with it."""
    values = np.arange(60).reshape(2, 5, 6)
    series = xdicom.as_series(values)
    temporary = series._store.root
    arrays = [series.to_xarray(), series.to_xarray(chunks=None)]
    expected = [array.copy().values for array in arrays]
    series.save(tmp_path / "out")
    assert series._store.root == tmp_path / "out"
    for array, before in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array.copy().values, before)
    series.database.close()
    assert temporary.exists()
    del array, arrays
    gc.collect()
    assert not temporary.exists()
