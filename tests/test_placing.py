"""Facts about xdicom.placing: where in a file the tags of its frames go, and what fewer frames ask for."""

import struct
from pathlib import Path

import pydicom
import pytest
import rawdicom as raw
from factories import make_enhanced

from xdicom.errors import SaveError
from xdicom.groups import FRAME_GROUPS, SHARED_GROUPS
from xdicom.header import Header, read_header
from xdicom.placing import placed
from xdicom.source import Source

FLIP, NAME, COMMENTS = 0x00181314, 0x00100010, 0x00204000


def header_of(path: Path) -> Header:
    """Return the header of a file."""
    with Source(path) as source:
        return read_header(source)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated"])
def test_enhanced(tmp_path, syntax):
    """Only what changes is named: the sequence that a tag is in, or the tag itself at the top level."""
    header = header_of(make_enhanced(tmp_path / "e.dcm", syntax=syntax).files[0])
    name = ("PN", b"A ")
    assert placed(header, 3, {NAME: [name] * 3}) == {NAME: name}
    assert placed(header, 3, {FLIP: [("DS", b"7 ")] * 3}).keys() == {SHARED_GROUPS}
    assert placed(header, 3, {FLIP: [("DS", b"7 "), None, None]}).keys() == {SHARED_GROUPS, FRAME_GROUPS}
    with pytest.raises(SaveError, match="no functional group holds"):
        placed(header, 3, {COMMENTS: [("LT", b"a "), None, None]})


def test_without_frames_of_their_own(tmp_path):
    """A file with shared groups alone gets per-frame ones where frames come to differ."""

    def change(dataset: pydicom.Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence

    header = header_of(make_enhanced(tmp_path / "e.dcm", change=change).files[0])
    assert placed(header, 3, {FLIP: [("DS", b"7 "), None, None]}).keys() == {SHARED_GROUPS, FRAME_GROUPS}


def test_groups_that_do_not_fit(tmp_path):
    """Functional groups of another number of frames are refused, not guessed at."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset.PerFrameFunctionalGroupsSequence.pop()

    header = header_of(make_enhanced(tmp_path / "e.dcm", change=change).files[0])
    with pytest.raises(SaveError, match="2 items for 3 frames"):
        placed(header, 3, {FLIP: [("DS", b"7 ")] * 3})


def multiframe(tmp_path: Path, **elements: tuple[str, bytes]) -> Header:
    """Return the header of a file of three frames without functional groups."""
    base = {f"t{tag:08X}": value for tag, value in raw.base().items()} | {"t00280008": ("IS", b"3 ")}
    base["t7FE00010"] = "OW", bytes(180)
    path = tmp_path / "m.dcm"
    path.write_bytes(raw.changed(**(base | elements)))
    return header_of(path)


def test_frames_that_stay(tmp_path):
    """NumberOfFrames and vectors with a value a frame follow; what names frames by number goes."""
    header = multiframe(
        tmp_path,
        t00280009=("AT", struct.pack("<6H", 0x18, 0x1065, 0x54, 0x0010, 0x54, 0x0080)),
        t00181065=("DS", b"0\\10\\20 "),
        t00540010=("US", struct.pack("<3H", 1, 2, 3)),
        t00286010=("US", b"\2\0"),
    )
    found = placed(header, 3, {}, keep=[0, 2])
    assert found == {
        0x00280008: ("IS", b"2"),
        0x00181065: ("DS", b"0\\30"),
        0x00540010: ("US", struct.pack("<2H", 1, 3)),
        0x00286010: None,
    }


def test_overlays_of_several_frames(tmp_path):
    """Frames of a file whose overlays have frames too cannot be removed."""
    header = multiframe(tmp_path, t60000015=("IS", b"3 "))
    with pytest.raises(SaveError, match="overlays"):
        placed(header, 3, {}, keep=[0])
