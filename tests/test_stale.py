"""Files that changed since they were scanned: found again where the frame is the same, refused where it isn't."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from factories import make_image
from pydicom.multival import MultiValue
from test_locations import FMT, HEADER, frame, read, table

from xdicom import locations as locations_module
from xdicom.errors import BrokenFileError, StaleError
from xdicom.header import read_header
from xdicom.instance import Found, format_of, known_rescale, read_instance, uid_hash
from xdicom.locations import Locations
from xdicom.pixels import Rescale
from xdicom.source import Source


@pytest.fixture
def found_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Give a function that stands in for finding a frame in a changed file; these files have no real header."""
    return lambda relocate: monkeypatch.setattr(locations_module, "relocate", relocate)


def grow(path: Path, extra: int = 14) -> None:
    """Rewrite a file with a longer header, as an edit of a tag does."""
    data = path.read_bytes()
    path.write_bytes(bytes(extra) + data)


def test_changed_file_is_read_where_the_frame_is_now(tmp_path: Path, found_as: Any) -> None:
    """A frame that moved within its file is found again by UID and number."""
    locations = table(tmp_path, 2, 3)
    grow(tmp_path / "IM1.dcm")
    asked = []

    def relocate(source: Source, uid: int, number: int) -> Any:
        asked.append((source.path, uid, number))
        return Found(HEADER + 14 + 48 * number, 48, FMT, Rescale(2, -10))

    found_as(relocate)
    np.testing.assert_array_equal(read(locations), [frame(i) for i in range(6)])
    path = os.fsencode(tmp_path / "IM1.dcm")
    assert asked == [(path, uid_hash("1.2.1"), number) for number in range(3)]


def test_touched_file_is_looked_at_again(tmp_path: Path, found_as: Any) -> None:
    """Another mtime alone makes the frame be found again, for the size may stay the same."""
    locations = table(tmp_path)
    os.utime(tmp_path / "IM2.dcm", ns=(0, 0))
    found_as(lambda *_: None)
    with pytest.raises(StaleError, match=r"IM2.dcm' changed since it was scanned: frame 0 is not in it any more"):
        read(locations)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Found(0, 48, replace(FMT, rows=5), Rescale(2, -10)), "rows 4 became 5"),
        (Found(0, 48, replace(FMT, transfer_syntax="1.2"), Rescale(2, -10)), "transfer_syntax .* became 1.2"),
        (Found(0, 48, replace(FMT, signed=False), Rescale(2, -10)), "signed True became False"),
        (Found(0, 48, FMT, Rescale(2, -10), (0, 0, 2, 2)), "the slice lies elsewhere in the picture"),
        (Found(0, 48, FMT, Rescale(2, -9)), "intercept -10.0 became -9.0"),
        (Found(0, 48, FMT, Rescale(lut=(0, 8, b"\0"))), "slope 2.0 became 1.0, intercept -10.0 became 0.0, lut"),
    ],
)
def test_frame_that_is_no_longer_the_same_is_stale(found: Any, text: str, tmp_path: Path, found_as: Any) -> None:
    """Another matrix, dtype, encoding or rescale raises, says what changed and what to type."""
    locations = table(tmp_path)
    grow(tmp_path / "IM0.dcm")
    found_as(lambda *_: found)
    with pytest.raises(StaleError, match=rf"IM0.dcm' changed since it was scanned: {text}: rescan\(\)"):
        read(locations)


def test_file_that_broke_is_stale(tmp_path: Path, found_as: Any) -> None:
    """A file that can't be parsed any more is stale, with the reason."""
    locations = table(tmp_path)
    grow(tmp_path / "IM0.dcm")

    def relocate(*_: Any) -> Any:
        raise BrokenFileError("no DICOM any more")

    found_as(relocate)
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


def test_untouched_files_are_not_parsed(tmp_path: Path, found_as: Any) -> None:
    """While the stamp holds no header is read."""
    found_as(lambda *_: pytest.fail("a header was read"))
    locations = table(tmp_path)
    np.testing.assert_array_equal(read(locations), [frame(i) for i in range(5)])


# -- with real headers


def scanned(path: Path) -> Locations:
    """Return where the pixels of a DICOM file of one frame are."""
    with Source(path) as source:
        header = read_header(source)
        instance = read_instance(header)
    ds = pydicom.dcmread(path)

    def get(tag: int) -> object:
        value = ds[tag].value if tag in ds else None
        return tuple(value) if isinstance(value, MultiValue) else value

    return Locations.build(
        root=b"",
        paths=[os.fsencode(path)],
        stamps=[source.stamp],
        file=[0],
        number=[0],
        offset=instance.offsets,
        length=instance.lengths,
        formats=[format_of(get, header.pixels.vr, header.pixels.tag, header.transfer_syntax)],
        format_codes=[0],
        rescales=[known_rescale(get)],
        rescale_codes=[0],
        uids=[str(ds.SOPInstanceUID)],
    )


def edit(path: Path, **tags: Any) -> None:
    """Change elements of a DICOM file behind its reader's back."""
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def test_longer_header_does_not_shift_pixels(tmp_path: Path) -> None:
    """A longer PatientName moves the pixels within the file; the same voxels are read."""
    path = make_image(tmp_path / "a.dcm", frame(0), RescaleSlope="2", RescaleIntercept="-10")
    locations = scanned(path)
    edit(path, PatientName="A much longer name than before")
    assert scanned(path).offset[0] != locations.offset[0]
    np.testing.assert_array_equal(read(locations), [frame(0)])
    out = np.empty((1, 4, 6), np.int32)
    locations.read([0], out)
    np.testing.assert_array_equal(out[0], frame(0).astype("i4") * 2 - 10)


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"SOPInstanceUID": "1.2.3"}, "frame 0 is not in it any more"),
        ({"RescaleSlope": "3"}, "slope 2.0 became 3.0"),
        ({"Rows": 3}, "is not in it any more|rows 4 became 3"),
        ({"PixelRepresentation": 0}, "signed True became False"),
    ],
)
def test_other_frame_in_a_real_file_is_stale(tags: dict[str, Any], text: str, tmp_path: Path) -> None:
    """Another instance, rescale, matrix or sign in the same file is never read as the old frame."""
    path = make_image(tmp_path / "a.dcm", frame(0), RescaleSlope="2", RescaleIntercept="-10")
    locations = scanned(path)
    edit(path, **tags)
    with pytest.raises(StaleError, match=text):
        read(locations)


def test_file_that_is_no_dicom_any_more_is_stale(tmp_path: Path) -> None:
    """Whatever was put in the file's place, the reason is told."""
    path = make_image(tmp_path / "a.dcm", frame(0))
    locations = scanned(path)
    path.write_bytes(b"not DICOM at all" * 100)
    with pytest.raises(StaleError, match="can no longer be read"):
        read(locations)
