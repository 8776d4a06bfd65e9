"""Bytes of an element to plain Python."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom.decoding import MAX_DEPTH, decode
from xdicom.keywords import VRS

PRIVATE = 0x00291010


def element(tag, vr, raw):
    """Return an explicit VR element."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in ("SQ", "UN", "OB", "OW", "UT"):
        return head + struct.pack("<HL", 0, len(raw)) + raw
    return head + struct.pack("<H", len(raw)) + raw


def implicit_element(tag, raw):
    """Return an implicit VR element."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(raw)) + raw


def item(content, undefined=False):
    """Return a sequence item."""
    if undefined:
        return b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + b"\xfe\xff\x0d\xe0\0\0\0\0"
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(content)) + content


@pytest.mark.parametrize("vr", sorted(VRS))
def test_no_bytes_are_none(vr):
    """An empty element is None in every VR."""
    assert decode(PRIVATE, vr, b"") is None


@pytest.mark.parametrize(
    ("vr", "raw", "value"),
    [
        ("AE", b" STORE ", "STORE"),
        ("AS", b"018M", "018M"),
        ("AT", b"\x18\x00\x81\x00", (0x0018, 0x0081)),
        ("AT", b"\x18\x00\x81\x00\x28\x00\x10\x00", ((0x0018, 0x0081), (0x0028, 0x0010))),
        ("CS", b"ORIGINAL\\PRIMARY ", ("ORIGINAL", "PRIMARY")),
        ("CS", b"A \\\\ B", ("A", "", "B")),
        ("DA", b"20221119", "20221119"),
        ("DA", b"1997.04.24", "19970424"),
        ("DA", b"20221119\\1997.04.24 ", ("20221119", "19970424")),
        ("DS", b" 1.5 ", 1.5),
        ("DS", b"1\\-2.5e3\\.5 ", (1.0, -2500.0, 0.5)),
        ("DS", b"1\\\\3", (1.0, None, 3.0)),
        ("DS", b"5\0", 5.0),
        ("DT", b"20221119120000.5+0100 ", "20221119120000.5+0100"),
        ("FD", struct.pack("<d", 0.1), 0.1),
        ("FL", struct.pack("<2f", 0.5, -1), (0.5, -1.0)),
        ("IS", b" -12 ", -12),
        ("IS", b"1\\2 ", (1, 2)),
        ("IS", b"5.0 ", 5),
        ("IS", b"5.5 ", 5.5),
        ("LO", b" SIEMENS ", "SIEMENS"),
        ("LT", b"  two\\lines\r\n ", "  two\\lines\r\n"),
        ("OB", b"\1\2", b"\1\2"),
        ("OW", b"\1\2", b"\1\2"),
        ("PN", b"Doe^John== ", "Doe^John"),
        ("PN", b"A^B\\C^D", ("A^B", "C^D")),
        ("SH", b"a\\b ", ("a", "b")),
        ("SL", struct.pack("<l", -5), -5),
        ("SS", struct.pack("<h", -5), -5),
        ("ST", b" x ", " x"),
        ("SV", struct.pack("<q", -(2**60)), -(2**60)),
        ("TM", b"120000", 43200.0),
        ("UC", b" x \\y ", (" x", "y")),
        ("UI", b"1.2.840\0", "1.2.840"),
        ("UI", b"1.2\\1.3\0", ("1.2", "1.3")),
        ("UL", struct.pack("<L", 2**31), 2**31),
        ("UN", b"\1\2\3\4", b"\1\2\3\4"),
        ("UR", b"http://a\\b ", "http://a\\b"),
        ("US", struct.pack("<2H", 65535, 1), (65535, 1)),
        ("UT", b" x\\y ", " x\\y"),
        ("UV", struct.pack("<Q", 2**63), 2**63),
    ],
)
def test_each_vr_has_a_plain_type(vr, raw, value):
    """Values are Python's own types, without padding, several ones a tuple."""
    found = decode(PRIVATE, vr, raw)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("vr", ["CS", "DS", "IS", "LO", "SH", "PN", "UI", "TM", "DA", "LT", "UC", "UR"])
@pytest.mark.parametrize("raw", [b"  ", b"\0\0", b" \0"])
def test_padding_alone_is_none(vr, raw):
    """A value of nothing but padding is an empty one."""
    assert decode(PRIVATE, vr, raw) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 43200.0),
        ("1230", 45000.0),
        ("123015", 45015.0),
        ("123015.5", 45015.5),
        ("123015.123456", 45015.123456),
        ("123015.", 45015.0),
        ("12:30:15.25", 45015.25),
        ("12:30", 45000.0),
        ("000000", 0.0),
        ("235960", 86400.0),
    ],
)
def test_times_are_seconds(text, seconds):
    """Whole, partial, fractional and ACR-NEMA times are seconds since midnight."""
    found = decode(PRIVATE, "TM", text.encode())
    assert found == seconds
    assert type(found) is float


@pytest.mark.parametrize("vr", ["DS", "IS", "TM"])
@pytest.mark.parametrize(
    "text", ["abc", "1,5", "nan", "NaN", "inf", "-Infinity", "1_0", "0x10", "1.2.3", "1e999", "2²", "--1", "12\0x"]
)
def test_junk_is_its_text(vr, text):
    """What is no number of its VR is the text without padding."""
    assert decode(PRIVATE, vr, text.encode("latin-1") + b" ") == text


@pytest.mark.parametrize("text", ["25", "1260", "126015", "120061", "1200.5", "1:30", "120000-130000", "12000"])
def test_what_is_no_time_is_its_text(text):
    """Times that do not exist and ranges are text."""
    assert decode(PRIVATE, "TM", text.encode()) == text


@pytest.mark.parametrize("text", ["2022", "00000000", "19.11.2022", "20220101-20221231", "junk"])
def test_odd_dates_are_their_text(text):
    """Dates that are none stay as they stand."""
    assert decode(PRIVATE, "DA", text.encode()) == text


def test_junk_among_numbers_is_text():
    """Only the part that is no number stays text."""
    assert decode(PRIVATE, "DS", b"1\\x\\3") == (1.0, "x", 3.0)


def test_long_integers():
    """A number of thousands of digits is text, not an error."""
    assert decode(PRIVATE, "IS", b"9" * 5000) == "9" * 5000


@pytest.mark.parametrize("vr", ["US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "AT"])
def test_odd_lengths_are_bytes(vr):
    """A length that is no multiple of the VR's gives the bytes."""
    assert decode(PRIVATE, vr, b"\1\2\3") == b"\1\2\3"


def test_more_numbers_than_expected():
    """Four bytes in US are two values."""
    assert decode(0x00280010, "US", b"\0\2\0\0") == (512, 0)


# -- what the dictionaries say


@pytest.mark.parametrize("vr", ["", "UN", "??", "ox", "1A"])
def test_the_dictionary_serves_for_what_is_no_vr(vr):
    """Implicit VR, UN and nonsense are decoded by the dictionary."""
    assert decode(0x00180081, vr, b"23.0") == 23.0


def test_an_unknown_element_is_bytes():
    """What no dictionary has is bytes."""
    assert decode(PRIVATE, "", b"ab") == b"ab"


def test_the_private_dictionary_serves():
    """A private element of a known creator is decoded by its VR."""
    assert decode(0x0019100C, "UN", b"1000", creator="SIEMENS MR HEADER") == 1000


def test_a_private_creator_is_text():
    """A private creator is LO in implicit VR and UN too."""
    assert decode(0x00190010, "", b"SIEMENS ") == "SIEMENS"


def test_a_group_length_is_a_number():
    """A group length is UL in implicit VR too."""
    assert decode(0x00080000, "", b"\4\0\0\0") == 4


@pytest.mark.parametrize(("signed", "value"), [(False, 65535), (True, -1)])
def test_the_sign_decides(signed, value):
    """US or SS is what PixelRepresentation says."""
    assert decode(0x00280106, "", b"\xff\xff", signed=signed) == value


def test_a_written_vr_goes_before_the_sign():
    """Where the file names US or SS, that holds."""
    assert decode(0x00280106, "US", b"\xff\xff", signed=True) == 65535


@pytest.mark.parametrize("vr", ["US", "SS", ""])
def test_a_descriptor_begins_unsigned(vr):
    """The number of entries of a lookup table is unsigned whatever its VR."""
    raw = struct.pack("<HhH", 65535, -5, 16)
    assert decode(0x00283002, vr, raw, signed=True)[0] == 65535


def test_text_is_in_its_character_set():
    """Text is decoded in the character set that is given; codes are not."""
    assert decode(PRIVATE, "LO", b"\xc4\xd6", charset="ISO_IR 144") == "Фж"
    assert decode(PRIVATE, "CS", b"\xc4\xd6", charset="ISO_IR 144") == "ÄÖ"


def test_values_are_apart_after_decoding():
    """A second byte that looks like a backslash does not separate values."""
    raw = "昞\\x".encode("gb18030")
    assert raw.count(b"\\") == 2
    assert decode(PRIVATE, "LO", raw, charset="GB18030") == ("昞", "x")


# -- sequences

EXPLICIT = element(0x00080100, "SH", b"T-04") + element(0x00180081, "DS", b"23")
IMPLICIT = implicit_element(0x00080100, b"T-04") + implicit_element(0x00180081, b"23")
VALUES = {"CodeValue": "T-04", "EchoTime": 23.0}
CODES = 0x00081140


@pytest.mark.parametrize("undefined", [False, True])
def test_a_sequence_is_a_list_of_dicts(undefined):
    """Items are dicts by keyword, whatever kind of length they have."""
    assert decode(CODES, "SQ", item(EXPLICIT, undefined) + item(b"", undefined)) == [VALUES, {}]


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("given", [{"vr": ""}, {"vr": "UN"}, {"vr": "SQ", "implicit": True}, {"vr": "SQ"}])
def test_an_implicit_sequence(undefined, given):
    """Items in implicit VR are known by the VR of the sequence, or by `implicit`, or by themselves."""
    assert decode(CODES, given["vr"], item(IMPLICIT, undefined), implicit=given.get("implicit", False)) == [VALUES]


def test_unknown_holds_explicit_items():
    """UN whose items do not parse in implicit VR is tried in explicit VR."""
    assert decode(CODES, "UN", item(EXPLICIT)) == [VALUES]


def test_an_unknown_element_of_items():
    """Bytes of an unknown element that are items are a sequence."""
    assert decode(PRIVATE, "UN", item(IMPLICIT)) == [VALUES]


def test_no_items_are_none():
    """A sequence with a delimiter only is empty."""
    assert decode(CODES, "SQ", b"\xfe\xff\xdd\xe0\0\0\0\0") is None


def test_private_elements_are_labelled():
    """Private elements are by number, and decoded by the creator in their item."""
    content = element(0x00190010, "LO", b"SIEMENS MR HEADER ") + element(0x0019100C, "UN", b"1000")
    assert decode(CODES, "SQ", item(content)) == [{"(0019,0010)": "SIEMENS MR HEADER", "(0019,100C)": 1000}]


def test_nested_sequences():
    """Sequences in sequences are lists in dicts, and empty elements None."""
    inner = element(CODES, "SQ", item(EXPLICIT)) + element(0x00080104, "LO", b"")
    found = decode(CODES, "SQ", item(inner, True))
    assert found == [{"ReferencedImageSequence": [VALUES], "CodeMeaning": None}]


def test_nested_sequences_of_undefined_length():
    """A sequence of undefined length inside an item ends at its delimiter."""
    head = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    inner = head + item(EXPLICIT, True) + b"\xfe\xff\xdd\xe0\0\0\0\0" + element(0x00180087, "DS", b"3 ")
    assert decode(CODES, "SQ", item(inner, True)) == [
        {"ReferencedImageSequence": [VALUES], "MagneticFieldStrength": 3.0}
    ]


def test_unknown_of_undefined_length_inside():
    """UN of undefined length holds implicit VR (PS3.5 6.2.2)."""
    head = struct.pack("<HH2sHL", 0x0029, 0x1010, b"UN", 0, 0xFFFFFFFF)
    inner = head + item(IMPLICIT, True) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert decode(CODES, "SQ", item(inner)) == [{"(0029,1010)": [VALUES]}]


def test_encapsulated_data_inside():
    """Encapsulated pixels of an icon are bytes, and what follows is read."""
    fragments = item(b"") + item(b"\1\2\3\4")
    head = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    inner = EXPLICIT + head + fragments + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert decode(CODES, "SQ", item(inner)) == [{**VALUES, "PixelData": fragments}]


def test_an_item_has_its_own_character_set():
    """An item's own character set goes before the inherited one."""
    own = element(0x00080005, "CS", b"ISO_IR 144") + element(0x00080104, "LO", b"\xc4 ")
    inherited = element(0x00080104, "LO", b"\xc4 ")
    found = decode(CODES, "SQ", item(own) + item(inherited), charset="ISO_IR 100")
    assert [values["CodeMeaning"] for values in found] == ["Ф", "Ä"]


def test_an_item_has_its_own_sign():
    """An item's own PixelRepresentation goes before the inherited one."""
    own = implicit_element(0x00280103, b"\1\0") + implicit_element(0x00280106, b"\xff\xff")
    inherited = implicit_element(0x00280106, b"\xff\xff")
    found = decode(CODES, "", item(own) + item(inherited))
    assert [values["SmallestImagePixelValue"] for values in found] == [-1, 65535]


def test_an_implicit_item_in_explicit_vr():
    """Implicit items inside an explicit sequence are recognised."""
    assert decode(CODES, "SQ", item(EXPLICIT) + item(IMPLICIT)) == [VALUES, VALUES]


@pytest.mark.parametrize(
    "raw",
    [
        b"\1\2\3\4\5\6\7\x08\x09",
        item(EXPLICIT)[:-1],
        item(EXPLICIT[:-1]),
        b"\xfe\xff\x00\xe0\xff\xff\xff\x7f" + EXPLICIT,
        item(element(0x00080100, "SH", b"x") + b"\1\2\3"),
        item(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + item(b"ab")),
    ],
)
def test_what_is_no_sequence_is_bytes(raw):
    """Bytes that do not parse stay bytes."""
    assert decode(CODES, "SQ", raw) == raw


def test_a_broken_sequence_inside_is_bytes():
    """Only the inner sequence that does not parse stays bytes."""
    inner = element(CODES, "SQ", b"\1\2\3\4\5\6\7\x08") + EXPLICIT
    assert decode(CODES, "SQ", item(inner)) == [{"ReferencedImageSequence": b"\1\2\3\4\5\6\7\x08", **VALUES}]


def _nested(depth, undefined):
    raw = item(EXPLICIT)
    for _ in range(depth - 1):
        if undefined:
            head = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
            raw = item(head + raw + b"\xfe\xff\xdd\xe0\0\0\0\0", True)
        else:
            raw = item(element(CODES, "SQ", raw))
    return raw


def _depth(found):
    depth = 0
    while isinstance(found, list):
        depth, found = depth + 1, found[0].get("ReferencedImageSequence")
    return depth


@pytest.mark.parametrize("undefined", [False, True])
def test_nesting_as_deep_as_allowed(undefined):
    """Two hundred levels decode."""
    assert _depth(decode(CODES, "SQ", _nested(MAX_DEPTH, undefined))) == MAX_DEPTH


@pytest.mark.parametrize("undefined", [False, True])
def test_nesting_deeper_than_allowed(undefined):
    """Thousands of levels neither raise nor crash."""
    assert _depth(decode(CODES, "SQ", _nested(5000, undefined))) <= MAX_DEPTH


def test_nesting_with_a_small_stack():
    """Where Python's stack is nearly used up, decoding still does not raise."""

    def deeper(left):
        return decode(CODES, "SQ", _nested(150, True)) if left == 0 else deeper(left - 1)

    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1
    assert deeper(sys.getrecursionlimit() - used - 60)


@given(st.sampled_from([*sorted(VRS), "", "??"]), st.binary(max_size=40), st.booleans(), st.booleans())
def test_decoding_never_raises(vr, raw, signed, implicit):
    """Any bytes have a value in any VR."""
    for tag in (PRIVATE, CODES, 0x00280106, 0x00283002, 0x00180081):
        decode(tag, vr, raw, charset="\\ISO 2022 IR 87", signed=signed, implicit=implicit)


@given(st.binary(max_size=60), st.integers(0, 60), st.booleans())
def test_damaged_sequences_never_raise(noise, place, undefined):
    """A sequence with other bytes in it has some value."""
    raw = item(element(CODES, "SQ", item(EXPLICIT, undefined)) + EXPLICIT, undefined)
    damaged = raw[:place] + noise + raw[place + len(noise) :]
    for vr in ("SQ", "UN", ""):
        decode(CODES, vr, damaged)
