"""Facts about DICOM JSON: what it says, that pydicom reads it, and that the way back gives the same bytes."""

import base64
import json
import struct
import warnings

import pydicom
import pytest
from conftest import corpus_files, corpus_id
from hypothesis import given
from hypothesis import strategies as st

from xdicom.dicomjson import from_json, to_json
from xdicom.errors import BrokenFileError, NotDicomError
from xdicom.lone import lone_frames
from xdicom.rows import row_headers
from xdicom.writer import sequence_bytes

PAD = b" \0"


def way_back(elements):
    """Return elements after a way through JSON text."""
    return from_json(json.loads(json.dumps(to_json(elements), allow_nan=False)))


@pytest.mark.parametrize(
    ("vr", "raw", "value"),
    [
        ("DS", b"1.5\\2 ", [1.5, 2]),
        ("DS", b"1.50\\-0\\1e5", ["1.50", "-0", "1e5"]),
        ("DS", b"nan ", ["nan"]),
        ("IS", b"12\\\\07", [12, None, "07"]),
        ("LO", b"ab \\ cd", ["ab ", " cd"]),
        ("UI", b"1.2.3\0", ["1.2.3"]),
        ("PN", b"Doe^Jane==Jn", [{"Alphabetic": "Doe^Jane", "Phonetic": "Jn"}]),
        ("LT", b"a\\b", ["a\\b"]),
        ("TM", b"101500.25 ", ["101500.25"]),
        ("US", b"\1\0\2\0", [1, 2]),
        ("FD", struct.pack("<d", 0.1), [0.1]),
        ("FL", struct.pack("<f", 0.1), [struct.unpack("<f", struct.pack("<f", 0.1))[0]]),
        ("AT", b"\x18\0\x14\x13", ["00181314"]),
    ],
)
def test_values_are_as_the_standard_has_them(vr, raw, value):
    """Numbers are numbers where they give the text back, names are parts, empty values null."""
    assert to_json({0x00091010: (vr, raw)}) == {"00091010": {"vr": vr, "Value": value}}
    assert way_back({0x00091010: (vr, raw)})[0x00091010][1].rstrip(PAD) == raw.rstrip(PAD)


@pytest.mark.parametrize(
    ("vr", "raw"),
    [
        ("OB", b"\1\2\3"),
        ("UN", b"anything"),
        ("US", b"\1"),
        ("FD", struct.pack("<d", float("nan"))),
        ("LO", b"\xff\xfe"),
        ("PN", b"a=b=c=d"),
        ("PN", b"Doe^Jane=="),
        ("AT", b"\1\2"),
        ("SQ", b"junk and no items"),
    ],
)
def test_what_json_cannot_say_is_base64(vr, raw):
    """Bytes, and values that are not what their VR says, come back as they were."""
    assert to_json({0x00091010: (vr, raw)})["00091010"]["InlineBinary"] == base64.b64encode(raw).decode()
    assert way_back({0x00091010: (vr, raw)}) == {0x00091010: (vr, raw)}


def test_empty_elements_have_no_value():
    """An element without a value has its VR only."""
    assert to_json({0x00080050: ("SH", b"")}) == {"00080050": {"vr": "SH"}}
    assert from_json({"00080050": {"vr": "SH"}, "00081140": {"vr": "SQ", "Value": []}}) == {
        0x00080050: ("SH", b""),
        0x00081140: ("SQ", b""),
    }


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("ISO_IR 100", "Müller"),
        ("ISO_IR 192", "山田"),
        ("GB18030", "王小东"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎"),
    ],
)
def test_text_is_in_its_character_set(charset, text):
    """Text is Unicode in JSON, and comes back in the character set that the elements name."""
    from xdicom.charsets import encode_text

    raw = encode_text(text, charset, names=True)
    elements = {0x00080005: ("CS", charset.encode()), 0x00100010: ("PN", raw)}
    assert to_json(elements)["00100010"]["Value"][0]["Alphabetic"] == text.split("=")[0]
    assert way_back(elements)[0x00100010] == ("PN", raw)


@given(st.sampled_from(["LO", "PN", "DS", "IS", "UI", "UT", "US", "FD", "AT", "OW", "DA"]), st.binary(max_size=40))
def test_any_bytes_come_back(vr, raw):
    """Whatever the bytes, they come back but for padding at the end."""
    assert way_back({0x00091010: (vr, raw)})[0x00091010][1].rstrip(PAD) == raw.rstrip(PAD)


@pytest.mark.parametrize("path", corpus_files(), ids=corpus_id)
def test_headers_of_the_corpus_come_back(path):
    """Every element of a real header, nested ones included, comes back, and pydicom reads the same from the JSON."""
    try:
        tables = lone_frames([path])
    except (NotDicomError, BrokenFileError):
        return  # and so it has no header
    for frames in tables.values():
        header = row_headers(frames.take([0]))[0]
        model = to_json(header)
        back = from_json(json.loads(json.dumps(model, allow_nan=False)))
        assert {tag: (vr, raw.rstrip(PAD)) for tag, (vr, raw) in back.items() if vr != "SQ"} == {
            tag: (vr, raw.rstrip(PAD)) for tag, (vr, raw) in header.items() if vr != "SQ"
        }
        assert to_json(back) == model
        _pydicom_reads(model)


def _pydicom_reads(model):
    """Let pydicom read elements, but for what it refuses in files, too: UN of a known tag, and junk in IS."""
    known = {tag: element for tag, element in model.items() if element["vr"] != "UN" and element.get("Value") != ["1A"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(pydicom.Dataset.from_json(known)) == len(known)


@pytest.mark.parametrize(
    "model",
    [
        [],
        {"PatientID": {"vr": "LO"}},
        {"0010002": {"vr": "LO"}},
        {"00100020": None},
        {"00100020": {"Value": ["a"]}},
        {"00100020": {"vr": "XX", "Value": ["a"]}},
        {"00100020": {"vr": "LO", "Value": [["a"]]}},
        {"00100020": {"vr": "LO", "Value": "ab"[:0] or 7}},
        {"00280010": {"vr": "US", "Value": ["a"]}},
        {"00280010": {"vr": "US", "Value": [70000]}},
        {"00280010": {"vr": "OB", "InlineBinary": "***"}},
        {"00280010": {"vr": "OB", "Value": [1]}},
        {"00281140": {"vr": "SQ", "Value": ["a"]}},
        {"00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}, "00100010": {"vr": "PN", "Value": ["山"]}},
        {"00280009": {"vr": "AT", "Value": ["zz"]}},
    ],
)
def test_other_json_is_refused(model):
    """What is no DICOM JSON is refused with what it is."""
    with pytest.raises(BrokenFileError):
        from_json(model)


def test_nesting_is_limited():
    """Sequences in sequences without end are refused, and do not end the interpreter."""
    model = {}
    for _ in range(200):
        model = {"00081140": {"vr": "SQ", "Value": [model]}}
    with pytest.raises(BrokenFileError, match="no dataset"):
        from_json(model)


def test_deep_sequences_come_back():
    """A sequence that is nested deeply is told by its bytes from some depth on, and comes back."""
    raw = b""
    for _ in range(150):
        raw = sequence_bytes([[(0x00081140, "SQ", raw)]])
    assert way_back({0x00081140: ("SQ", raw)}) == {0x00081140: ("SQ", raw)}
