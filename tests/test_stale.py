"""Files that changed since they were scanned: found again where the frame is the same, refused where it isn't."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_locations import FMT, HEADER, frame, read, table

from xdicom.errors import BrokenFileError, StaleError
from xdicom.locations import uid_hash
from xdicom.pixels import Rescale
from xdicom.source import Source


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for xdicom.scan whose `relocate` tests set."""
    module = ModuleType("xdicom.scan")
    monkeypatch.setitem(sys.modules, "xdicom.scan", module)
    return module


def grow(path: Path, extra: int = 14) -> None:
    """Rewrite a file with a longer header, as an edit of a tag does."""
    data = path.read_bytes()
    path.write_bytes(bytes(extra) + data)


def test_changed_file_is_read_where_the_frame_is_now(tmp_path: Path, scan: ModuleType) -> None:
    """A frame that moved within its file is found again by UID and number."""
    locations = table(tmp_path, 2, 3)
    grow(tmp_path / "IM1.dcm")
    asked = []

    def relocate(source: Source, uid: int, number: int) -> Any:
        asked.append((source.path, uid, number))
        return HEADER + 14 + 48 * number, 48, FMT, Rescale(2, -10)

    scan.relocate = relocate
    np.testing.assert_array_equal(read(locations), [frame(i) for i in range(6)])
    path = os.fsencode(tmp_path / "IM1.dcm")
    assert asked == [(path, uid_hash("1.2.1"), number) for number in range(3)]


def test_touched_file_is_looked_at_again(tmp_path: Path, scan: ModuleType) -> None:
    """Another mtime alone makes the frame be found again, for the size may stay the same."""
    locations = table(tmp_path)
    os.utime(tmp_path / "IM2.dcm", ns=(0, 0))
    scan.relocate = lambda *_: None
    with pytest.raises(StaleError, match=r"IM2.dcm' changed since it was scanned: frame 0 is not in it any more"):
        read(locations)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ((0, 48, replace(FMT, rows=5), Rescale(2, -10)), "rows 4 became 5"),
        ((0, 48, replace(FMT, transfer_syntax="1.2"), Rescale(2, -10)), "transfer_syntax .* became 1.2"),
        ((0, 48, replace(FMT, signed=False), Rescale(2, -10)), "signed True became False"),
        ((0, 48, FMT, Rescale(2, -9)), "intercept -10.0 became -9.0"),
        ((0, 48, FMT, Rescale(lut=(0, 8, b"\0"))), "slope 2.0 became 1.0, intercept -10.0 became 0.0, lut"),
    ],
)
def test_frame_that_is_no_longer_the_same_is_stale(found: Any, text: str, tmp_path: Path, scan: ModuleType) -> None:
    """Another matrix, dtype, encoding or rescale raises, says what changed and what to type."""
    locations = table(tmp_path)
    grow(tmp_path / "IM0.dcm")
    scan.relocate = lambda *_: found
    with pytest.raises(StaleError, match=rf"IM0.dcm' changed since it was scanned: {text}: rescan\(\)"):
        read(locations)


def test_file_that_broke_is_stale(tmp_path: Path, scan: ModuleType) -> None:
    """A file that can't be parsed any more is stale, with the reason."""
    locations = table(tmp_path)
    grow(tmp_path / "IM0.dcm")

    def relocate(*_: Any) -> Any:
        raise BrokenFileError("no DICOM any more")

    scan.relocate = relocate
    with pytest.raises(StaleError, match="can no longer be read: no DICOM any more"):
        read(locations)


def test_vanished_file_is_stale(tmp_path: Path) -> None:
    """A file that is gone raises StaleError with its path."""
    locations = table(tmp_path)
    (tmp_path / "IM3.dcm").unlink()
    with pytest.raises(StaleError, match=r"IM3.dcm' has gone since it was scanned: rescan\(\)"):
        read(locations)


def test_changed_staged_array_is_stale(tmp_path: Path) -> None:
    """Staged pixels are written once: another file in their place is never read."""
    locations = table(tmp_path, fmt=replace(FMT, kind="staged", staged_dtype="int16"), rescales=(Rescale(),))
    np.testing.assert_array_equal(read(locations), [frame(i) for i in range(5)])
    grow(tmp_path / "IM0.dcm")
    with pytest.raises(StaleError, match=r"the staged pixels in .* are no longer those of this array"):
        read(locations)


def test_untouched_files_are_not_parsed(tmp_path: Path, scan: ModuleType) -> None:
    """While the stamp holds no header is read."""
    scan.relocate = lambda *_: pytest.fail("a header was read")
    locations = table(tmp_path)
    np.testing.assert_array_equal(read(locations), [frame(i) for i in range(5)])
