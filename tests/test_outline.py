"""Records as text: the tree with counts, sizes, dims and what is not saved."""

from pathlib import Path

import numpy as np
import pytest
from factories import make_enhanced, make_report, make_series

import xdicom as xd
from xdicom import outline


@pytest.mark.parametrize(
    ("options", "dims"),
    [
        ({}, "slice 3 x 6 x 5"),
        ({"slices": 1}, "slice 1 x 6 x 5"),
        ({"ImageOrientationPatient": None}, "frame 3 x 6 x 5"),
        ({"ImagePositionPatient": [0, 0, 0], "SliceLocation": None, "InstanceNumber": 1}, "in no grid, 6 x 5"),
    ],
)
def test_dims_are_shown(tmp_path: Path, options: dict, dims: str) -> None:
    """With their sizes, rows and columns last; where no dims are plain the size of an image."""
    make_series(tmp_path, **options)
    line = repr(xd.database(tmp_path).series()[0])
    assert line.endswith(f"  {dims}")


def test_reports_have_no_dims(tmp_path: Path) -> None:
    """An object without pixels says so."""
    make_report(tmp_path / "a.dcm")
    assert repr(xd.database(tmp_path).series()[0]).endswith("  no image")


def test_enhanced_frames_are_counted(tmp_path: Path) -> None:
    """One file of six frames is six frames."""
    make_enhanced(tmp_path / "a.dcm", slices=6)
    assert "6 frames" in repr(xd.database(tmp_path))
    assert "slice 6 x 6 x 5" in repr(xd.database(tmp_path))


def test_dims_are_not_inferred_for_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large database shows the size of images only, a part of it all."""
    make_series(tmp_path, name="a")
    make_series(tmp_path, name="b", SeriesNumber=2)
    monkeypatch.setattr(outline, "MOST_INFERRED", 1)
    database = xd.database(tmp_path)
    assert "slice" not in repr(database)
    assert "6 x 5" in repr(database)
    assert "slice 3 x 6 x 5" in repr(database.series()[0])


def test_what_is_not_saved_is_marked(tmp_path: Path) -> None:
    """On the series, and counted in the head; restored, it is gone."""
    make_series(tmp_path)
    database = xd.database(tmp_path)
    database.series()[0].EchoTime = 5
    head, *_, last = repr(database).splitlines()
    assert head.endswith("(1 edit not saved: see status())")
    assert last.endswith("  unsaved")
    database.restore()
    head, *_, last = repr(database).splitlines()
    assert head == f"Database {tmp_path.resolve()}"
    assert last.endswith("6 x 5")


def test_removed_series_are_counted_in_the_head(tmp_path: Path) -> None:
    """What is not in the tree any more, but comes back with restore()."""
    make_series(tmp_path)
    database = xd.database(tmp_path)
    database.series()[0].remove()
    assert "1 edit not saved" in repr(database)
    database.restore()


def test_what_is_no_dicom_is_no_problem(tmp_path: Path) -> None:
    """It is counted, and problems() is named for broken files only."""
    make_series(tmp_path)
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert repr(xd.database(tmp_path)).splitlines()[0].endswith("(1 not DICOM)")


def test_a_record_that_is_gone_says_so(tmp_path: Path) -> None:
    """Looking at a handle raises nothing."""
    series = xd.database().new_patient().new_study().new_series()
    series.set_ndarray(np.zeros((3, 4, 2)), ("SliceLocation",), coords=[[0, 1]])
    series.remove()
    assert repr(series).startswith("<Series: this series has no frames any more")
    assert "no frames any more" in series._repr_html_()


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    """And never advises to delete the catalog, where unsaved edits are."""
    make_series(tmp_path)
    database = xd.database(tmp_path)
    series = database.series()[0]
    database.close()
    for record in (database, series):
        for text in (repr(record), record._repr_html_()):
            assert "is closed: open it again" in text
            assert "delete" not in text


def test_long_lists_are_cut(tmp_path: Path) -> None:
    """In a session; the command line shows all."""
    for number in range(4):
        make_series(tmp_path, 1, name=str(number), SeriesNumber=number)
    store = xd.database(tmp_path)._store
    assert "and 2 more" in outline.tree_of(store, (), limit=2)
    assert outline.tree_of(store, ()).count("series ") == 4


def test_long_trees_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records of few children there are."""
    for number in range(6):
        make_series(tmp_path, 1, name=str(number), PatientID=str(number), StudyInstanceUID=f"2.25.{number}")
    monkeypatch.setattr(outline, "MOST_LINES", 10)
    database = xd.database(tmp_path)
    assert repr(database).splitlines()[-1].startswith("... and 9 more lines")
    assert len(outline.tree_of(database._store, ()).splitlines()) == 1 + 3 * 6


def test_arrays_keep_the_repr_of_xarray(tmp_path: Path) -> None:
    """A DataArray is xarray's, in text and in HTML."""
    make_series(tmp_path)
    da = xd.database(tmp_path).series()[0].to_xarray()
    assert repr(da).startswith("<xarray.DataArray 'pixels' (slice: 3, row: 6, column: 5)>")
    assert "xr-wrap" in da._repr_html_()
