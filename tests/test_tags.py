"""What is encoded is decoded again, and decoding agrees with pydicom on every file that PyPI ships."""

import math
import warnings

import numpy as np
import pydicom
import pytest
from conftest import corpus_files, corpus_id
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.valuerep import TM

from xdicom import tags
from xdicom.errors import XdicomError
from xdicom.header import read_header
from xdicom.source import Source

PRIVATE, CHARSET = 0x00291010, 0x00080005


def test_the_module_gathers_what_it_names():
    """Every public name is there."""
    assert all(hasattr(tags, name) for name in tags.__all__)


# -- round trips


def _several(values, low=1):
    return st.lists(values, min_size=low, max_size=4).map(lambda parts: parts[0] if len(parts) == 1 else tuple(parts))


def _text(alphabet, most, low=0):
    return st.text(alphabet, min_size=low, max_size=most).filter(lambda text: text == text.strip(" "))


_LINE = st.characters(codec="utf-8", min_codepoint=0x20, exclude_characters="\\\x7f", exclude_categories=["Cc"])
_WORDS = _text(_LINE, 16, 1)
_UIDS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8).map(lambda parts: ".".join(map(str, parts)))
_NAMES = st.lists(_text("aZé山 ", 10, 1), min_size=1, max_size=3).map("^".join)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_DECIMALS = st.floats(-1.7976e308, 1.7976e308)
EXACT = {
    "AE": _several(_text("abcXYZ019_", 16, 1)),
    "AS": st.from_regex(r"[0-9]{3}[DWMY]", fullmatch=True),
    "AT": _several(st.tuples(st.integers(0, 65535), st.integers(0, 65535))),
    "CS": _several(_text("ABC012 _", 16, 1)),
    "DA": _several(st.dates().map(lambda date: f"{date:%Y%m%d}".rjust(8, "0"))),
    "DS": _several(st.integers(-(10**14), 10**14).map(float) | st.integers(-(10**6), 10**6).map(lambda x: x / 64)),
    "FD": _several(_FLOATS),
    "FL": _several(st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "IS": _several(st.integers(-(2**31), 2**31 - 1)),
    "LO": _several(_WORDS),
    "LT": st.text(_LINE | st.sampled_from("\r\n\t\\"), min_size=1).filter(lambda text: text == text.rstrip(" ")),
    "OB": st.binary(min_size=2, max_size=20).filter(lambda raw: len(raw) % 2 == 0),
    "OW": st.binary(min_size=2, max_size=20).filter(lambda raw: len(raw) % 2 == 0),
    "PN": _several(_NAMES),
    "SH": _several(_WORDS),
    "SL": _several(st.integers(-(2**31), 2**31 - 1)),
    "SS": _several(st.integers(-(2**15), 2**15 - 1)),
    "SV": _several(st.integers(-(2**63), 2**63 - 1)),
    "TM": _several(st.integers(0, 86400 * 10**6 - 1).map(lambda micro: micro / 10**6)),
    "UC": _several(_WORDS),
    "UI": _several(_UIDS),
    "UL": _several(st.integers(0, 2**32 - 1)),
    "UR": st.just("https://example.org/a?b=c"),
    "US": _several(st.integers(0, 2**16 - 1)),
    "UT": st.text(_LINE, min_size=1).filter(lambda text: text == text.rstrip(" ")),
    "UV": _several(st.integers(0, 2**64 - 1)),
}


@pytest.mark.parametrize("vr", sorted(EXACT))
@given(data=st.data())
def test_values_come_back(vr, data):
    """A value that its VR holds exactly reads back identical, type included, and has even length."""
    value = data.draw(EXACT[vr])
    raw = tags.encode(PRIVATE, vr, value, charset="ISO_IR 192")
    assert len(raw) % 2 == 0
    found = tags.decode(PRIVATE, vr, raw, charset="ISO_IR 192")
    assert found == value
    assert type(found) is type(value)


_ITEM = st.fixed_dictionaries(
    {},
    optional={
        "EchoTime": st.none() | EXACT["DS"].filter(lambda value: not isinstance(value, tuple)),
        "PatientName": _NAMES,
        "ImageComments": EXACT["LT"].filter(lambda text: len(text) < 1000),
        "Rows": st.integers(0, 65535),
        "LUTData": EXACT["OW"],
        "FrameIncrementPointer": EXACT["AT"],
        "OffendingElement": EXACT["AT"],
        "(0029,1010)": EXACT["OB"].filter(lambda raw: not raw.startswith(b"\xfe\xff\x00\xe0")),
        "(6002,0010)": st.integers(0, 65535),
    },
)
_ITEMS = st.recursive(
    st.lists(_ITEM, min_size=1, max_size=3),
    lambda inner: st.lists(
        st.builds(lambda item, nested: item | {"ReferencedImageSequence": nested}, _ITEM, inner), min_size=1, max_size=2
    ),
    max_leaves=4,
)


@given(_ITEMS, st.booleans())
def test_sequences_come_back(items, implicit):
    """Lists of dicts read back identical, in explicit and implicit VR."""
    raw = tags.encode(0x00081140, "SQ", items, charset="ISO_IR 192", implicit=implicit)
    assert tags.decode(0x00081140, "SQ", raw, charset="ISO_IR 192", implicit=implicit) == items


@given(_DECIMALS)
def test_any_decimal_is_stable(value):
    """A float in DS may lose digits once, and none the second time."""
    once = tags.decode(PRIVATE, "DS", tags.encode(PRIVATE, "DS", value))
    assert once == pytest.approx(value, rel=1e-8, abs=0)
    assert tags.decode(PRIVATE, "DS", tags.encode(PRIVATE, "DS", once)) == once


def test_arrays_come_back():
    """A column of values as an array can be encoded value by value."""
    column = tags.to_array([(0.5, 0.5), (1.0, 2.0)])
    assert [tags.decode(0x00280030, "DS", tags.encode(0x00280030, "DS", row)) for row in column] == [
        (0.5, 0.5),
        (1.0, 2.0),
    ]
    assert isinstance(column, np.ndarray)


# -- pydicom as oracle

# pydicom gives the whole items of a sequence that is cut short; here it stays bytes.
CUT_SHORT = {("DICOMDIR-nooffset", 0x00041220), ("rtplan_truncated.dcm", 0x300A00B0)}
_TRAILING = {"LT", "PN", "ST", "UC", "UR", "UT"}


def _plain(vr, value):
    """Return a value of pydicom as the plain type that `decode` gives."""
    if vr == "SQ":
        return [_item(dataset) for dataset in value] or None
    if isinstance(value, MultiValue | list):
        parts = tuple(_plain_part(vr, part) for part in value)
        return (parts[0] if len(parts) == 1 else parts) if parts else None
    part = _plain_part(vr, value)
    return None if part in ("", b"") else part


def _plain_part(vr, value):
    if value is None or isinstance(value, bytes):
        return value
    if vr == "AT":
        return (value >> 16, value & 0xFFFF)
    if isinstance(value, int | float):
        return (float if isinstance(value, float) else int)(value)
    text = str(value).rstrip(" \0") if vr in _TRAILING else str(value).strip(" \0")
    if vr == "DA" and text[4:5] == text[7:8] == ".":
        return text.replace(".", "")
    if vr == "TM":
        return _seconds(text)
    return None if text == "" and vr in ("DS", "IS") else text


def _seconds(text):
    try:
        time = TM(text.replace(":", ""))
    except ValueError:
        return text
    if time is None:
        return None
    return ((time.hour * 3600 + time.minute * 60 + time.second) * 10**6 + time.microsecond) / 10**6


def _item(dataset):
    return {tags.label(element.tag): _plain(element.VR, element.value) for element in dataset}


def _same(one, other):
    """Return whether values are equal, with types, and NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _context(dataset, tag):
    """Return what decoding an element needs of those around it."""
    charset = "" if tag == CHARSET else dataset.get("SpecificCharacterSet") or ""
    creator = dataset.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF) if tags.is_private(tag) and tag & 0xFF00 else None
    return {
        "charset": charset if isinstance(charset, str) else "\\".join(charset),
        "signed": dataset.get("PixelRepresentation") == 1,
        "creator": str(creator.value or "") if creator else "",
    }


def _raw_value(dataset, tag, header):
    """Return VR, bytes and whether implicit, of an element that pydicom has read or, while reading, parsed."""
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement):
        return raw.VR or "", raw.value or b"", raw.is_implicit_VR, raw.is_little_endian
    known = header is not None and not header.relocated and tag in header.elements
    return (header.vr(tag), header.raw(tag), header.layout.implicit, True) if known else ("", b"", False, False)


def _disagreements(path, dataset, header):
    """Return what differs from pydicom in one file."""
    for part in (dataset.file_meta, dataset):
        for tag in [int(tag) for tag in part.keys()]:  # noqa: SIM118 - iteration would decode
            vr, raw, implicit, is_little = _raw_value(part, tag, header)
            if not is_little or (path.name, tag) in CUT_SHORT:
                continue
            element = part[tag]
            wanted = _plain(element.VR, element.value)
            found = tags.decode(tag, vr, raw, implicit=implicit, **_context(part, tag))
            is_items = element.VR == "UN" and isinstance(found, list)  # bytes to pydicom
            if not is_items and not _same(found, wanted):
                yield f"{tags.label(tag)} {vr} {raw[:80]!r}: {found!r:.200} for {wanted!r:.200}"


def _assert_agreement(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about the files
        try:
            dataset = pydicom.dcmread(path, force=True)
        except (pydicom.errors.InvalidDicomError, EOFError):
            return  # pydicom cannot read this file
        try:
            with Source(path) as source:
                header = read_header(source)
        except XdicomError:
            header = None
        assert list(_disagreements(path, dataset, header)) == []


@pytest.mark.parametrize("path", corpus_files(), ids=corpus_id)
def test_decoding_agrees_with_pydicom(path):
    """Every element of a file decodes to what pydicom gives, as plain types."""
    _assert_agreement(path)


def test_decoding_agrees_with_pydicom_on_large_headers(nibabel_gunzipped):
    """Siemens and Philips headers in nibabel's gzipped files agree too."""
    for path in nibabel_gunzipped:
        _assert_agreement(path)


def test_decoding_agrees_with_pydicom_on_real_data(real_data):
    """One file of each real series agrees too."""
    for name in ("siemens-enhanced-rest", "molli-enhanced", "ge-fmri-4d", "siemens-two-echoes", "ultrasound-palette"):
        for path in sorted(path for path in real_data(name).rglob("*") if path.is_file())[:2]:
            _assert_agreement(path)
