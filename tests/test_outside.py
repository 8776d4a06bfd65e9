"""Files that other programs change under staged edits: never overwritten or resurrected, and no edit is lost."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from crashes import state, status, voxels
from factories import make_pixels, make_series, set_pixels, uid

import xdicom
from xdicom import journal as journal_module
from xdicom.errors import SaveError

ASIDE = "PatientComments (set aside: the file changed or went)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a series of three files."""
    return make_series(tmp_path / "data", 3).folder


@pytest.fixture
def db(folder: Path) -> Iterator[Any]:
    """Give the database of that folder, with an edit staged on all three."""
    found = xdicom.database(folder)
    found.series()[0].PatientComments = "staged"
    yield found
    found.close()


def path_of(folder: Path, number: int = 2) -> Path:
    """Return one of the files."""
    return folder / f"a_{number:05d}.dcm"


def rewrite(folder: Path, **tags: Any) -> None:
    """Let another program change a file in place."""
    ds = pydicom.dcmread(path_of(folder))
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.save_as(path_of(folder))


def enlarge(folder: Path) -> None:
    """Let another program give a file another matrix."""
    ds = pydicom.dcmread(path_of(folder))
    set_pixels(ds, make_pixels(1, (12, 10), "uint16", None, "other")[0])
    ds.save_as(path_of(folder))


def replace(folder: Path) -> None:
    """Let another program put another object in the place of a file."""
    ds = pydicom.dcmread(path_of(folder))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid("another")
    ds.save_as(folder / "new")
    os.replace(folder / "new", path_of(folder))


def remove(folder: Path) -> None:
    """Let another program remove a file."""
    path_of(folder).unlink()


def touch(folder: Path) -> None:
    """Let another program write a file as it is."""
    os.utime(path_of(folder))


CHANGES = [rewrite, enlarge, replace, remove, touch]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_file_stops_the_save(change: Callable[[Path], None], folder: Path, db: Any) -> None:
    """A file that is no longer the one that was scanned stops the save, before any file is touched."""
    change(folder)
    before, staged = state(folder), status(db)
    with pytest.raises(SaveError, match=r"nothing was saved; rescan\(\) shows what is there"):
        db.save()
    assert state(folder) == before
    assert status(db) == staged


@pytest.mark.parametrize("change", [lambda folder: rewrite(folder, PatientName="Other^Name"), touch])
def test_edits_of_the_same_image_stay(change: Callable[[Path], None], folder: Path, db: Any) -> None:
    """After rescan() edits hold where SOPInstanceUID and matrix are the same, and the other's change is kept."""
    change(folder)
    db.rescan()
    name = pydicom.dcmread(path_of(folder)).PatientName
    assert status(db) == [("PatientComments", [], ["staged"])]
    db.save()
    saved = pydicom.dcmread(path_of(folder))
    assert (saved.PatientComments, saved.PatientName) == ("staged", name)


@pytest.mark.parametrize("change", [enlarge, replace, remove])
def test_edits_of_another_image_are_set_aside(change: Callable[[Path], None], folder: Path, db: Any) -> None:
    """Where the image is another or gone, its edits are kept and shown, and a save neither writes nor drops them."""
    change(folder)
    db.rescan()
    before = state(folder)
    assert (ASIDE, [], ["staged"]) in status(db)
    assert any("set aside" in problem.reason for problem in db.problems())
    db.save()
    after = state(folder)
    assert after.get(path_of(folder).name) == before.get(path_of(folder).name)
    assert after.keys() == before.keys()
    assert pydicom.dcmread(path_of(folder, 1)).PatientComments == "staged"
    assert status(db) == [(ASIDE, [], ["staged"])]
    db.close()
    again = xdicom.database(folder)
    assert status(again) == [(ASIDE, [], ["staged"])]
    again.restore()
    assert status(again) == []
    assert not again.problems()
    again.close()


def test_edits_set_aside_hold_again_when_the_file_is_back(folder: Path, db: Any, tmp_path: Path) -> None:
    """A file that comes back finds its edits."""
    shutil.move(path_of(folder), tmp_path / "away")
    db.rescan()
    assert (ASIDE, [], ["staged"]) in status(db)
    shutil.move(tmp_path / "away", folder / "elsewhere.dcm")
    db.rescan()
    assert status(db) == [("PatientComments", [], ["staged"])]
    db.save()
    assert pydicom.dcmread(folder / "elsewhere.dcm").PatientComments == "staged"


def test_edits_do_not_reach_files_that_come_later(folder: Path, db: Any) -> None:
    """A file that comes into an edited series is not edited."""
    other = make_series(folder / "later", 4).files[3]
    for path in (folder / "later").glob("*.dcm"):
        if path != other:
            path.unlink()
    before = other.read_bytes()
    db.rescan()
    assert "PatientComments" not in {change.what for change in db.status() if len(change.after) > 1}
    db.save()
    assert other.read_bytes() == before
    assert pydicom.dcmread(path_of(folder, 1)).PatientComments == "staged"


def test_removal_does_not_reach_files_that_come_later(folder: Path) -> None:
    """A file that comes into a series whose removal is staged stays."""
    db = xdicom.database(folder)
    db.series()[0].remove()
    other = make_series(folder / "later", 4).files[3]
    for path in (folder / "later").glob("*.dcm"):
        if path != other:
            path.unlink()
    db.rescan()
    db.save()
    assert list(state(folder)) == ["later/a_00004.dcm"]
    db.close()


def test_edits_keep_to_their_rows_when_rows_move(folder: Path) -> None:
    """Per-frame edits stay with their frames when files before them come and go."""
    db = xdicom.database(folder)
    series = db.series()[0]
    doubled = series.ndarray() // 2
    series.set_ndarray(doubled)
    path_of(folder, 1).rename(folder / "z.dcm")
    make_series(folder / "0", 1, name="other")
    db.rescan()
    found = next(each for each in db.series() if len(each.frames()) == 3)
    np.testing.assert_array_equal(found.ndarray(), doubled)
    db.save()
    np.testing.assert_array_equal(found.ndarray(), doubled)
    assert "z.dcm" in state(folder)
    db.close()


@pytest.mark.parametrize("change", [enlarge, replace, remove])
def test_new_pixels_of_a_changed_file_resurrect_nothing(change: Callable[[Path], None], folder: Path) -> None:
    """New pixels staged for a file that went or became another image are set aside, not written as a new file."""
    db = xdicom.database(folder)
    series = db.series()[0]
    series.set_ndarray(series.ndarray() // 2)
    change(folder)
    db.rescan()
    before = state(folder)
    assert any("new pixels (set aside" in what for what, _, _ in status(db))
    db.save()
    after = state(folder)
    assert after.keys() == before.keys()
    assert after.get(path_of(folder).name) == before.get(path_of(folder).name)
    assert any("new pixels (set aside" in what for what, _, _ in status(db))
    db.restore()
    assert status(db) == []
    db.close()


@pytest.mark.parametrize("change", [rewrite, enlarge, replace, remove])
def test_change_between_ready_and_in_place(
    change: Callable[[Path], None], folder: Path, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes after the point of no return is left as it is, its edits are kept, the error says so."""
    commit = journal_module.Journal._commit_ready

    def then_change(*args: Any) -> None:
        commit(*args)
        change(folder)

    monkeypatch.setattr(journal_module.Journal, "_commit_ready", then_change)
    with pytest.raises(SaveError, match="1 of 3 files changed while they were saved"):
        db.save()
    monkeypatch.undo()
    if change is remove:
        assert not path_of(folder).exists()
    else:
        assert "PatientComments" not in pydicom.dcmread(path_of(folder))
    assert pydicom.dcmread(path_of(folder, 1)).PatientComments == "staged"
    assert any("PatientComments" in what for what, _, _ in status(db))
    db.rescan()
    assert any("PatientComments" in what for what, _, _ in status(db))


def test_file_in_the_way_of_a_new_one_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that comes where a new one is to be put stays; the new frames stay staged and get another place."""
    db = xdicom.database(folder)
    series = db.series()[0]
    made = series.study.new_series(SeriesDescription="made", SeriesNumber=9)
    made.set_xarray(series.to_xarray("slice_location") + 1)
    values = made.ndarray()
    commit = journal_module.Journal._commit_ready
    way = []

    def then_come(self: Any, rows: Any, *rest: Any) -> None:
        commit(self, rows, *rest)
        way.append(folder / os.fsdecode(rows[0].path))
        way[0].parent.mkdir(parents=True)
        way[0].write_bytes(b"something else")

    monkeypatch.setattr(journal_module.Journal, "_commit_ready", then_come)
    with pytest.raises(SaveError, match="1 of 3 files changed while they were saved"):
        db.save()
    monkeypatch.undo()
    assert way[0].read_bytes() == b"something else"
    np.testing.assert_array_equal(made.ndarray(), values)
    db.save()
    assert way[0].read_bytes() == b"something else"
    assert status(db) == []
    np.testing.assert_array_equal(made.ndarray(), values)
    db.close()


def test_staged_copies_outlive_their_source(folder: Path) -> None:
    """Copies that are only staged keep their pixels when the files that they are of are replaced or removed."""
    db = xdicom.database(folder)
    first = db.series()[0]
    copied = first.copy_to(first.study)
    key, expected = copied.key, copied.ndarray()
    first.PatientComments = "longer than before"
    first.save()
    np.testing.assert_array_equal(copied.ndarray(), expected)
    first.remove()
    db.series()
    db._store.save(first.key)
    db.close()
    db = xdicom.database(folder)
    assert [series.key for series in db.series()] == [key]
    np.testing.assert_array_equal(db.series()[0].ndarray(), expected)
    db.save()
    np.testing.assert_array_equal(db.series()[0].ndarray(), expected)
    assert len(state(folder)) == 3
    db.series()[0].PatientComments = "the next writer sweeps"
    assert list((folder / ".xdicom" / "edits.zarr").iterdir()) == []
    db.close()


def test_folder_with_staged_pixels_may_be_moved(folder: Path, tmp_path: Path) -> None:
    """Staged pixels are found again after the folder was renamed."""
    db = xdicom.database(folder)
    series = db.series()[0]
    series.set_ndarray(series.ndarray() // 2)
    expected = voxels(db)
    db.close()
    folder.rename(tmp_path / "moved")
    db = xdicom.database(tmp_path / "moved")
    db.series()[0].PatientComments = "makes this process the writer, which sweeps"
    np.testing.assert_array_equal(db.series()[0].ndarray(), expected["series a"])
    db.save()
    np.testing.assert_array_equal(db.series()[0].ndarray(), expected["series a"])
    db.close()
