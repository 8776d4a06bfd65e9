"""Facts about xdicom.store: what a save, a restore or a removal of one record does to what others have staged."""

from pathlib import Path

import numpy as np
import pytest
from factories import make_series

import xdicom


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
