"""Facts about letting go of files that lose their names."""

import os
import sys
import threading
from pathlib import Path

import pytest
from factories import make_series

import xdicom as xd
from xdicom import freeing
from xdicom.freeing import Freeing, _ranges

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="platform: only there are files held")


def held_below(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open, nameless ones too."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # the descriptor of the listing itself
            continue
    return [target for target in found if target.startswith(str(folder))]


def wait_for_threads() -> None:
    """Wait until all files are let go of."""
    for thread in threading.enumerate():
        if thread.name == "xdicom-freeing":
            thread.join(60)


def test_ranges():
    """Descriptors are closed in runs, of which none has a number in it that is not theirs."""
    assert list(_ranges([7, 3, 4, 9, 8])) == [(3, 5), (7, 10)]
    assert list(_ranges([5])) == [(5, 6)]


@pytest.mark.parametrize("count", [1, 63, 64, 700])
def test_all_are_let_go(tmp_path, count):
    """However many files lose their names, all are freed soon, and what else is open stays open."""
    paths = [os.fsencode(tmp_path / str(number)) for number in range(count)]
    for path in paths:
        Path(os.fsdecode(path)).write_bytes(b"x")
    with open(tmp_path / "other", "wb") as other:
        with Freeing(tmp_path, count) as files:
            for path in paths:
                files.hold(path)
                os.unlink(path)
        wait_for_threads()
        assert held_below(tmp_path) == [str(tmp_path / "other")]
        other.write(b"still open")


def test_a_file_that_cannot_be_held(tmp_path):
    """A file that cannot be opened is none of its business."""
    with Freeing(tmp_path, 1000) as files:
        files.hold(os.fsencode(tmp_path / "missing"))
    assert held_below(tmp_path) == []


def test_a_save_of_many_files(tmp_path, monkeypatch):
    """A save that frees the old files later leaves the new ones in place, and none open."""
    monkeypatch.setattr(freeing, "_MANY", 2)
    make_series(tmp_path, slices=5)
    series = xd.database(tmp_path).series()[0]
    series.PatientName = "New^Name"
    series.save()
    wait_for_threads()
    assert xd.database(tmp_path).series()[0].PatientName == "New^Name"
    assert [path for path in held_below(tmp_path) if path.endswith(".dcm") or "(deleted)" in path] == []
