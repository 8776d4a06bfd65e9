"""Facts about xdicom.runs: elements one after the other, with some changed."""

import struct

import pytest
import rawdicom as raw
from hypothesis import given
from hypothesis import strategies as st

from xdicom.errors import BrokenFileError
from xdicom.runs import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Style, changed, encoded, split_items, walk_run

STYLES = [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG]
VALUES = st.dictionaries(
    st.integers(0x00100010, 0x00100030),
    st.tuples(st.sampled_from(["LO", "UT"]), st.binary(max_size=6).map(lambda value: value + value)),
    max_size=6,
)


def joined(values: dict[int, tuple[str, bytes]], style: Style) -> bytes:
    """Return elements one after the other."""
    return b"".join(encoded(tag, values[tag], style) for tag in sorted(values))


@given(before=VALUES, changes=VALUES, gone=st.sets(st.integers(0x00100010, 0x00100030)), style=st.sampled_from(STYLES))
def test_any_changes(before, changes, gone, style):
    """Changed elements are what they would be if written anew, wherever the run lies in a buffer."""
    buffer = b"before" + joined(before, style)
    run = walk_run(buffer, 6, len(buffer), style)
    wanted = {**changes, **dict.fromkeys(gone)}
    after = {tag: value for tag, value in {**before, **wanted}.items() if value is not None}
    assert changed(buffer, run, wanted, style) == joined(after, style)


def test_padding():
    """Values of odd length are padded as their VR wants it."""
    assert encoded(0x00100010, ("PN", b"A"), IMPLICIT_LITTLE)[-2:] == b"A "
    assert encoded(0x00080018, ("UI", b"1"), IMPLICIT_LITTLE)[-2:] == b"1\0"
    assert encoded(0x00100010, ("PN", b"A"), EXPLICIT_BIG)[-2:] == b"A "


def test_sequences():
    """A sequence in explicit VR is written in the style of the file; one in that style already stays."""
    item = raw.item(raw.element(0x00281050, "DS", b"1 ") + raw.element(0x00280106, "US", b"\1\0"))
    implicit = raw.item(
        raw.element(0x00281050, "DS", b"1 ", explicit=False) + raw.element(0x00280106, "US", b"\1\0", explicit=False)
    )
    assert encoded(0x00283010, ("SQ", item), IMPLICIT_LITTLE).endswith(implicit)
    assert encoded(0x00283010, ("", implicit), IMPLICIT_LITTLE).endswith(implicit)
    assert encoded(0x00283010, ("SQ", item), EXPLICIT_BIG).endswith(b"\0\1")


def test_items():
    """Items come with what is in them and as they stand, of undefined length too."""
    inside = raw.element(0x00281050, "DS", b"1 ")
    end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    endless = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inside + end
    assert list(split_items(raw.item(inside) + endless, EXPLICIT_LITTLE)) == [
        (inside, raw.item(inside)),
        (inside, endless),
    ]


@pytest.mark.parametrize(
    "junk", [b"junkjunk", struct.pack("<HHL", 0xFFFE, 0xE000, 99), b"\xfe\xff\0\xe0\xff\xff\xff\xff"]
)
def test_items_that_are_none(junk):
    """Junk in place of items raises."""
    with pytest.raises(BrokenFileError):
        list(split_items(junk, EXPLICIT_LITTLE))


@pytest.mark.parametrize("style", STYLES)
def test_elements_that_are_none(style):
    """Junk in place of elements raises."""
    with pytest.raises(BrokenFileError):
        walk_run(b"\x10\0\x10\0\xff\xff\xff\x7f", 0, 8, style)


@pytest.mark.parametrize("style", STYLES)
def test_new_elements_of_two_groups(style):
    """Of elements that are put in at one place, those of a group with a length count in it, and no others."""
    buffer = joined({0x00100000: ("UL", bytes(4)), 0x00100010: ("PN", b"Name"), 0x00280010: ("US", b"\1\0")}, style)
    run = walk_run(buffer, 0, len(buffer), style)
    new = changed(buffer, run, {0x00104000: ("LT", b"abcd"), 0x00180050: ("DS", b"1 ")}, style)
    after = walk_run(new, 0, len(new), style)
    assert list(after.tags) == [0x00100000, 0x00100010, 0x00104000, 0x00180050, 0x00280010]
    length = struct.unpack(">L" if style.big else "<L", after.value(new, 0x00100000)[1])[0]
    assert length == after.starts[3] - after.starts[1]
