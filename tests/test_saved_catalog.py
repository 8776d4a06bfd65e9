"""What the catalog knows after a save is what a new scan of the folder finds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factories import make_enhanced, make_series
from test_corpus import FOLDERS

import xdicom as xd

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
Rows = dict[tuple[bytes, int], dict[int, object]]


def known(db: xd.Database) -> dict[object, Rows]:
    """Return what the catalog holds of each frame."""
    found = {}
    for series in db.series():
        frames = series.frames()
        columns = {tag: frames.raw_values(tag) for tag in frames.columns}
        places = [frames.files.paths[file] for file in frames.file.tolist()]
        rows = zip(places, frames.number.tolist(), frames.offset.tolist(), frames.length.tolist(), strict=True)
        found[tuple(series.SeriesInstanceUID)] = {
            (path, number): {-1000: (offset, length)}
            | {tag: raws[codes[row]] for tag, (raws, codes) in columns.items() if codes[row] >= 0}
            for row, (path, number, offset, length) in enumerate(rows)
        }
    return found


def close_as_scanned(db: xd.Database, folder: Path) -> None:
    """Close a database, and fail where its catalog was not that of a new scan."""
    after = known(db)
    db.close()
    shutil.rmtree(folder / ".xdicom")
    db = xd.database(folder)
    expected = known(db)
    db.close()
    assert after == expected
    assert after


@pytest.mark.parametrize("name", FOLDERS)
def test_real_series_with_one_tag_edited(name: str, real_copy: Callable[[str], Path]) -> None:
    """Of scanners' files whose headers all get longer."""
    folder = real_copy(name)
    db = xd.database(folder)
    db.PatientName = "Anonymous^With a long name"
    db.save()
    close_as_scanned(db, folder)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_many_layouts(tmp_path: Path, syntax: str) -> None:
    """Of files with values of many lengths, some of them too long to be kept, or with new pixels."""
    for name, count in (("a", 12), ("b", 3)):
        make_series(tmp_path / name, count, {"EchoTime": [1, 2.25]}, name=name, syntax=syntax)
    db = xd.database(tmp_path)
    one, other = db.series()
    one.ImageComments = "x" * 3000
    db.save()
    one.set(("Maker", 0x0071, 1), b"ab" * 900, VR="OB")
    array = other.ndarray(dims=("SliceLocation", "EchoTime"))
    other.set_ndarray(array[..., ::-1] + 1, dims=("SliceLocation", "EchoTime"))
    db.save()
    close_as_scanned(db, tmp_path)


def test_enhanced(tmp_path: Path) -> None:
    """Of enhanced files with an edit of their functional groups and of new pixels."""
    make_enhanced(tmp_path / "a.dcm", 3, {"FlipAngle": [5, 10]})
    db = xd.database(tmp_path)
    (series,) = db.series()
    series.EchoTime = 3.5
    series.save()
    series.set_ndarray(np.zeros_like(series.ndarray()) + 7)
    series.save()
    close_as_scanned(db, tmp_path)


def test_tags_and_files_that_come_and_go(tmp_path: Path) -> None:
    """Of series that lose a tag and get another, lose files, join, go, or change hands."""
    for name, count in (("a", 4), ("b", 3), ("c", 2), ("d", 2)):
        make_series(tmp_path / name, count, {"EchoTime": [1, 2]}, name=name)
    db = xd.database(tmp_path)
    one, other, third, last = sorted(db.series(), key=lambda each: str(each.SeriesDescription))
    del one.EchoTime
    one.ImageComments = "of some files of a series"
    db.save()
    other.remove(EchoTime=2)
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        one[name] = third[name]
    last.move_to(other.study)
    db.save()
    assert sorted(len(each.frames()) for each in db.series()) == [3, 4, 12]
    db.series()[0].remove()
    db.save()
    close_as_scanned(db, tmp_path)
