"""Facts about xdicom.groups: which macro holds a tag, and the two sequences with some of them changed."""

import struct

import pytest
import rawdicom as raw
from hypothesis import given
from hypothesis import strategies as st

from xdicom.errors import BrokenFileError, SaveError
from xdicom.groups import Groups, edited, parse_groups, places, without_private
from xdicom.runs import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Style
from xdicom.walker import sequence_items

TIMING, FLIP, REPETITION = 0x00189112, 0x00181314, 0x00180080
ECHO, EFFECTIVE, ECHO_TIME = 0x00189114, 0x00189082, 0x00180081
DIFFUSION, GRADIENT, ORIENTATION, B_VALUE = 0x00189117, 0x00189076, 0x00189089, 0x00189087
ANATOMY, REGION, LATERALITY = 0x00209071, 0x00082218, 0x00209072
POSITION_MACRO, POSITION, LOCATION = 0x00209113, 0x00200032, 0x00201041
COMMENTS = 0x00204000


def double(value: float) -> bytes:
    """Return an FD."""
    return struct.pack("<d", value)


def macro(tag: int, *elements: bytes, explicit: bool = True) -> bytes:
    """Return a sequence of one item."""
    return raw.element(tag, "SQ", raw.item(b"".join(elements)), explicit=explicit)


def content(*, flip: bytes = b"12", explicit: bool = True) -> bytes:
    """Return an item with a timing macro, an anatomy with a code, and a private sequence."""
    options = {"explicit": explicit}
    timing = macro(
        TIMING, raw.element(REPETITION, "DS", b"5 ", **options), raw.element(FLIP, "DS", flip, **options), **options
    )
    code = macro(REGION, raw.element(0x00080100, "SH", b"T-1 ", **options), **options)
    anatomy = macro(ANATOMY, code, raw.element(LATERALITY, "CS", b"U ", **options), **options)
    creator = raw.element(0x00210010, "LO", b"VENDOR", **options)
    inner = raw.element(0x00210010, "LO", b"SCALES", **options) + raw.element(0x00211001, "DS", b"2 ", **options)
    return timing + anatomy + creator + macro(0x00211001, inner, **options)


def groups(shared: bytes = b"", *frames: bytes, explicit: bool = True) -> Groups:
    """Return parsed groups."""
    items = b"".join(map(raw.item, frames))
    return parse_groups(("SQ", raw.item(shared)), ("SQ", items), implicit=not explicit)


def values(each: bytes, style: Style = EXPLICIT_LITTLE) -> dict[int, bytes]:
    """Return what a functional group item says."""
    (item,) = sequence_items(raw.item(each), style.implicit)
    return {place.element.tag: place.element.raw for place in places(item, style.implicit)}


def shown(found: Groups, tag: int) -> list[bytes | None]:
    """Return what each frame has of a tag, as readers see it."""
    shared = values(found.shared, found.shared_style)
    return [{**shared, **values(each, found.frame_style)}.get(tag) for each in found.frames]


def test_places():
    """Elements of macros and of one inner level are found; codes, references and private ones are not."""
    gradient = macro(GRADIENT, raw.element(ORIENTATION, "FD", double(1) * 3))
    reference = macro(0x00081140, raw.element(0x00081155, "UI", b"1.2\0"))
    found = values(reference + content() + macro(DIFFUSION, raw.element(B_VALUE, "FD", double(50)), gradient))
    assert set(found) == {REPETITION, FLIP, LATERALITY, B_VALUE, ORIENTATION}


@pytest.mark.parametrize("explicit", [True, False])
def test_a_shared_value_stays_shared(explicit):
    """A value for all frames changes in the shared groups; everything else stays, to the byte."""
    before = groups(content(explicit=explicit), b"", b"", explicit=explicit)
    after, rest = edited(before, {FLIP: [("DS", b"20")] * 2}, set())
    assert rest == []
    assert after.shared == content(flip=b"20", explicit=explicit)
    assert list(after.frames) == [b"", b""]


@pytest.mark.parametrize("explicit", [True, False])
def test_a_shared_value_that_frames_differ_in(explicit):
    """A macro in which frames come to differ moves to each of them, with all that it says."""
    before = groups(content(explicit=explicit), b"", b"", explicit=explicit)
    after, _ = edited(before, {FLIP: [("DS", b"20"), ("DS", b"30")]}, set())
    assert shown(after, FLIP) == [b"20", b"30"]
    assert shown(after, REPETITION) == [b"5 ", b"5 "]
    assert TIMING not in {
        element.tag for item in sequence_items(after.shared_value(), not explicit) for element in item
    }


def test_a_value_of_each_frame():
    """A value that frames have of their own changes there, also to one for all."""
    before = groups(b"", content(flip=b"10"), content(flip=b"20"))
    after, _ = edited(before, {FLIP: [("DS", b"30")] * 2}, set())
    assert list(after.frames) == [content(flip=b"30")] * 2
    assert after.shared == b""


def test_a_macro_in_both_places():
    """Where frames have a macro that is shared too, both are understood as they are read."""
    own = macro(TIMING, raw.element(FLIP, "DS", b"10"))
    before = groups(content(), own, b"")
    assert shown(before, FLIP) == [b"10", b"12"]
    after, _ = edited(before, {FLIP: [("DS", b"1 "), ("DS", b"2 ")]}, set())
    assert (shown(after, FLIP), shown(after, REPETITION)) == ([b"1 ", b"2 "], [b"5 ", b"5 "])


def test_removal():
    """A removed element goes everywhere, and a macro that it empties too; a partial removal leaves the others."""
    only = macro(ECHO, raw.element(EFFECTIVE, "FD", double(5)))
    after, _ = edited(groups(only, b"", b""), {EFFECTIVE: [None, None]}, set())
    assert after.shared == b""
    after, _ = edited(groups(only, b"", b""), {EFFECTIVE: [None, ("FD", double(7))]}, set())
    assert shown(after, EFFECTIVE) == [None, double(7)]
    assert after.frames[0] == b""
    after, _ = edited(groups(content(), content(flip=b"7 ")), {FLIP: [None]}, set())
    assert shown(after, FLIP) == [None]
    assert shown(after, REPETITION) == [b"5 "]


def test_echo_time():
    """EchoTime is written as the FD of EffectiveEchoTime, whether that is there or not."""
    there = macro(ECHO, raw.element(EFFECTIVE, "FD", double(5)))
    for shared in (there, b""):
        after, rest = edited(groups(shared, b""), {ECHO_TIME: [("DS", b"6.5 ")]}, set())
        assert (shown(after, EFFECTIVE), rest) == ([double(6.5)], [])
    with pytest.raises(SaveError, match="no number"):
        edited(groups(there, b""), {ECHO_TIME: [("DS", b"soon")]}, set())


def test_a_macro_that_is_not_there():
    """A tag of the standard's macros makes its macro: shared where all agree, nested where the standard nests it."""
    after, _ = edited(groups(b"", b"", b""), {ORIENTATION: [("FD", double(1) * 3)] * 2}, set())
    item = macro(DIFFUSION, macro(GRADIENT, raw.element(ORIENTATION, "FD", double(1) * 3)))
    assert (after.shared, list(after.frames)) == (item, [b"", b""])
    own = macro(DIFFUSION, raw.element(B_VALUE, "FD", double(50)))
    after, _ = edited(groups(b"", own, own), {ORIENTATION: [("FD", double(1) * 3)] * 2}, set())
    assert shown(after, ORIENTATION) == [double(1) * 3] * 2
    assert after.shared == b""


def test_slice_location():
    """SliceLocation, where it would be derived from the position, is written beside the position."""
    position = macro(POSITION_MACRO, raw.element(POSITION, "DS", b"1\\2\\3 "))
    after, rest = edited(groups(b"", position), {LOCATION: [("DS", b"9 ")]}, {LOCATION})
    assert (shown(after, LOCATION), rest) == ([b"9 "], [LOCATION])


def test_what_belongs_outside():
    """A tag that no macro holds, or that is at the top level, is left to the caller; one in both places is in both."""
    before = groups(content(), b"")
    changes = {COMMENTS: [("LT", b"x ")], 0x00180023: [("CS", b"3D")], FLIP: [("DS", b"1 ")]}
    after, rest = edited(before, changes, {0x00180023, FLIP})
    assert rest == [COMMENTS, 0x00180023, FLIP]
    assert shown(after, FLIP) == [b"1 "]


def test_macros_that_go():
    """Whole macros go from everywhere."""
    after, _ = edited(groups(content(), content()), {}, set(), drop=[TIMING])
    assert (shown(after, FLIP), shown(after, LATERALITY)) == ([None], [b"U "])


@pytest.mark.parametrize("explicit", [True, False])
def test_private_elements_that_go(explicit):
    """Private elements go by creator, at any depth; the rest stays to the byte."""
    before = groups(content(explicit=explicit), content(explicit=explicit), explicit=explicit)
    after = without_private(before, {("SCALES", 0x0021, 0x01)})
    private = raw.element(0x00211001, "DS", b"2 ", explicit=explicit)
    assert private not in after.shared
    assert private not in after.frames[0]
    assert without_private(before, {("VENDOR", 0x0021, 0x05)}) == before


def test_groups_in_un():
    """Sequences that were stored as UN hold implicit VR, and are edited so."""
    items = raw.item(content(explicit=False))
    found = parse_groups(("UN", items), None, implicit=False)
    assert found.shared_style == IMPLICIT_LITTLE
    after, _ = edited(found._replace(frames=[b""]), {FLIP: [("DS", b"20")]}, set())
    assert after.shared == content(flip=b"20", explicit=False)


def test_two_encodings():
    """A macro cannot move between sequences of two encodings."""
    found = parse_groups(("UN", raw.item(content(explicit=False))), ("SQ", raw.item(b"") * 2), implicit=False)
    with pytest.raises(SaveError, match="two encodings"):
        edited(found, {FLIP: [("DS", b"1 "), ("DS", b"2 ")]}, set())


def test_damage():
    """What does not parse raises, and several shared items are refused."""
    with pytest.raises(BrokenFileError):
        parse_groups(("SQ", b"junk junk"), None, implicit=False)
    with pytest.raises(SaveError, match="2 items"):
        parse_groups(("SQ", raw.item(b"") * 2), None, implicit=False)


FLIPS = st.lists(st.one_of(st.none(), st.sampled_from([b"1 ", b"2 "])), min_size=3, max_size=3)


@given(steps=st.lists(st.tuples(st.sampled_from([FLIP, REPETITION]), FLIPS), max_size=5), explicit=st.booleans())
def test_any_edits(steps, explicit):
    """After any edits each frame has what it was given last."""
    found = groups(content(explicit=explicit), b"", b"", b"", explicit=explicit)
    expected = {FLIP: [b"12"] * 3, REPETITION: [b"5 "] * 3}
    for tag, flips in steps:
        found, _ = edited(found, {tag: [None if flip is None else ("DS", flip) for flip in flips]}, set())
        expected[tag] = flips
    assert {tag: shown(found, tag) for tag in expected} == expected
    assert shown(found, LATERALITY) == [b"U "] * 3
