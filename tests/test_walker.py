"""The walker: where elements lie in a buffer, and what it refuses."""

import struct

import pytest
from rawdicom import EXPLICIT, IMPLICIT, base, body, element, encoded, file, item, meta, text

from xdicom import walker
from xdicom.errors import BrokenFileError
from xdicom.walker import NeedMoreError, UnrecognisedError, sequence_items, walk_layout

ENDLESS = 0xFFFFFFFF
ITEM_END, SEQUENCE_END = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
SEQUENCE, INNER, BEHIND = 0x00081140, 0x00081150, 0x00400001


def endless_item(content: bytes) -> bytes:
    """Return an item of undefined length."""
    return b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + ITEM_END


def endless(tag: int, vr: str, items: bytes, *, explicit: bool = True) -> bytes:
    """Return a sequence of undefined length."""
    return element(tag, vr, items, length=ENDLESS, explicit=explicit) + SEQUENCE_END


def walked(content: bytes, syntax: str | None = EXPLICIT) -> dict[int, bytes]:
    """Return the raw values of a file by tag."""
    whole = file(content, syntax)
    layout = walk_layout(whole, len(whole))
    spans = zip(layout.tags, layout.offsets, layout.lengths, strict=True)
    return {tag: whole[offset : offset + length] for tag, offset, length in spans}


def test_values_lie_where_the_layout_says() -> None:
    """Offset and length of every element cut out its value."""
    found = walked(body())
    assert {tag: found[tag] for tag in base() if tag in found} == {
        tag: raw for tag, (_, raw) in base().items() if tag != walker.PIXELS
    }


def test_implicit_elements_have_no_vr() -> None:
    """In implicit VR the VR is "" for the dictionary to give."""
    whole = file(encoded(base(), explicit=False), IMPLICIT)
    layout = walk_layout(whole, len(whole))
    assert {vr for tag, vr in zip(layout.tags, layout.vrs, strict=True) if tag >> 16 > 2} == {""}


def test_sequence_of_undefined_length_ends_at_its_delimiter() -> None:
    """The value is the items without the delimiter, and the next element follows it."""
    items = endless_item(element(INNER, "UI", b"1.2\0")) * 2
    found = walked(endless(SEQUENCE, "SQ", items) + element(BEHIND, "LO", b"ab"))
    assert (found[SEQUENCE], found[BEHIND]) == (items, b"ab")


def test_unknown_vr_of_undefined_length_holds_implicit_items() -> None:
    """A private sequence written as UN is walked as implicit VR (PS3.5 6.2.2)."""
    items = endless_item(element(INNER, "UI", b"1.2\0", explicit=False))
    found = walked(endless(0x00091001, "UN", items) + element(BEHIND, "LO", b"ab"))
    assert (found[0x00091001], found[BEHIND]) == (items, b"ab")


def test_private_sequence_in_implicit_vr_is_walked() -> None:
    """An unknown element of undefined length in implicit VR is a sequence."""
    items = endless_item(element(INNER, "UI", b"1.2\0", explicit=False))
    content = endless(0x00091001, "", items, explicit=False) + element(BEHIND, "LO", b"ab", explicit=False)
    assert walked(content, IMPLICIT)[0x00091001] == items


def test_nested_items_of_defined_length_are_passed_over() -> None:
    """Items with a length inside an endless sequence need no walk."""
    items = item(element(INNER, "UI", b"1.2\0")) + endless_item(b"")
    assert walked(endless(SEQUENCE, "SQ", items))[SEQUENCE] == items


@pytest.mark.parametrize("depth", [1, 50, 199])
def test_nesting_is_followed_up_to_a_limit(depth: int) -> None:
    """Sequences in sequences are walked as deep as files go."""
    inner = b""
    for _ in range(depth):
        inner = endless(SEQUENCE, "SQ", endless_item(inner))
    assert list(walked(inner))[-1] == SEQUENCE


def test_deep_nesting_is_broken() -> None:
    """Deeper than the limit raises, long before Python's stack ends."""
    inner = b""
    for _ in range(walker.MAX_DEPTH + 1):
        inner = endless(SEQUENCE, "SQ", endless_item(inner))
    with pytest.raises(BrokenFileError, match="nested deeper than 200"):
        walked(inner)


def test_flood_of_elements_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """More elements than any file has are not collected."""
    monkeypatch.setattr(walker, "MAX_ELEMENTS", 50)
    flood = b"".join(element(0x00091000 + i, "LO", b"") for i in range(60))
    with pytest.raises(BrokenFileError, match="more than 50 elements"):
        walked(flood)


def test_flood_of_nested_elements_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither are those in sequences."""
    monkeypatch.setattr(walker, "MAX_NESTED", 50)
    with pytest.raises(BrokenFileError, match="more than 50 elements in sequences"):
        walked(endless(SEQUENCE, "SQ", endless_item(b"") * 60))


def test_short_buffer_asks_for_more() -> None:
    """A buffer that ends within the header says how many bytes are needed at least."""
    whole = file(body())
    for end in range(140, len(whole) - 80):
        with pytest.raises(NeedMoreError) as caught:
            walk_layout(whole[:end], len(whole))
        assert end < caught.value.end <= len(whole)


def test_element_beyond_the_file_is_broken() -> None:
    """A length that leads out of the file is told with the element."""
    whole = file(element(0x00091001, "UN", b"ab", length=1000) + bytes(8))
    with pytest.raises(BrokenFileError, match=r"\(0009,1001\) ends at byte"):
        walk_layout(whole, len(whole))


@pytest.mark.parametrize(
    "content",
    [
        element(0x00091001, "ZZ", b"ab"),
        element(0x00091001, "LO", b"ab", length=0xFFFF)[:-2] + b"\xff\xff",
        endless(0x00091001, "OB", item(b"ab")),
        element(SEQUENCE, "SQ", element(INNER, "UI", b"1.2\0"), length=ENDLESS) + SEQUENCE_END,
        element(SEQUENCE, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + SEQUENCE_END, length=ENDLESS),
        SEQUENCE_END + element(BEHIND, "LO", b"ab"),
    ],
    ids=["unknown VR", "length past end", "endless text", "no item", "item not ended", "stray delimiter"],
)
def test_what_is_not_understood_is_refused(content: bytes) -> None:
    """Nothing is guessed: other readers may know better."""
    with pytest.raises((UnrecognisedError, BrokenFileError)):
        walked(element(0x00080060, "CS", b"MR") + content)


@pytest.mark.parametrize("syntax", [walker.DEFLATED, walker.BIG_ENDIAN, walker.GE_PRIVATE])
def test_other_encodings_are_refused(syntax: str) -> None:
    """What is not plain little endian is none of the walker's business."""
    with pytest.raises(UnrecognisedError, match="transfer syntax"):
        walked(body(), syntax)


def test_dataset_may_begin_at_byte_0() -> None:
    """Without preamble and meta the syntax is guessed from the first element."""
    assert walk_layout(body(), len(body()), start=0).transfer_syntax == EXPLICIT


def test_missing_syntax_is_not_guessed_for_encapsulated_pixels() -> None:
    """Which codec it is nobody knows."""
    whole = file(element(walker.PIXELS, "OB", item(b"") + SEQUENCE_END, length=ENDLESS), None)
    assert walk_layout(whole, len(whole)).transfer_syntax == ""


def test_meta_of_wrong_length_is_walked_by_its_elements() -> None:
    """The group length of group 2 is not believed."""
    whole = b"\0" * 128 + b"DICM" + meta(EXPLICIT, group_length=-20) + body()
    assert 0x00100010 in walk_layout(whole, len(whole)).tags


def test_same_headers_make_the_same_guards() -> None:
    """Files whose values differ, but not their lengths, share the bytes that fix the layout."""
    one = file(encoded(base()))
    two = file(encoded(base() | {0x00100010: ("PN", b"Roe^Jane")}))
    index = walk_layout(one, len(one)).guard_index
    assert [one[i] for i in index] == [two[i] for i in index]


def test_guards_cover_headers_inside_endless_sequences() -> None:
    """A file whose inner elements lie elsewhere does not share the layout."""
    one, two = (
        file(endless(SEQUENCE, "SQ", endless_item(element(0x00080100, "SH", a) + element(0x00080102, "SH", b))))
        for a, b in ((b"ab", b"cdef"), (b"abcd", b"ef"))
    )
    index = walk_layout(one, len(one)).guard_index
    assert len(one) == len(two)
    assert [one[i] for i in index] != [two[i] for i in index]


def test_items_are_given_by_value() -> None:
    """Each item of a sequence is its elements."""
    content = item(element(INNER, "UI", b"1.2\0")) + endless_item(element(INNER, "UI", b"1.3\0"))
    assert [[found.raw for found in one] for one in sequence_items(content, implicit=False)] == [[b"1.2\0"], [b"1.3\0"]]


def test_pixels_of_an_icon_are_an_element_like_others() -> None:
    """Native pixel data within an item does not end it."""
    icon = element(walker.PIXELS, "OW", b"\1\2") + element(0x7FE10010, "LO", text("FACTORY"))
    (only,) = sequence_items(endless_item(icon), implicit=False)
    assert [found.tag for found in only] == [walker.PIXELS, 0x7FE10010]


def test_encapsulated_icon_is_passed_over() -> None:
    """Fragments within an item are not taken for items."""
    icon = endless(walker.PIXELS, "OB", item(b"") + item(b"\xff\xd8"))
    (only,) = sequence_items(endless_item(icon), implicit=False)
    assert only[0].raw == item(b"") + item(b"\xff\xd8")


@pytest.mark.parametrize(
    "raw", [b"junkjunk", item(b"junkjunkjunk"), struct.pack("<HHL", 0xFFFE, 0xE000, 500) + bytes(20)]
)
def test_damaged_items_are_broken(raw: bytes) -> None:
    """What does not parse raises."""
    with pytest.raises(BrokenFileError):
        list(sequence_items(raw, implicit=False))
