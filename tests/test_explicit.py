"""Facts about xdicom.explicit: sequences of implicit VR or undefined length, as explicit VR with explicit lengths."""

import struct
import warnings

import pydicom
import pytest
from conftest import corpus_files, corpus_id
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from xdicom.errors import BrokenFileError
from xdicom.explicit import CompressedPixelsError, explicit_values, to_explicit
from xdicom.walker import sequence_items
from xdicom.writer import element_bytes

SOURCES, PRIVATE = 0x00082112, 0x00291010


def encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    """Return a dataset as pydicom writes it."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def sequence_value(items: list[Dataset], *, implicit: bool, undefined: bool = False) -> bytes:
    """Return the value of a sequence as pydicom writes it, without a delimiter."""
    for item in items:
        item.is_undefined_length_sequence_item = undefined
    element = DataElement(SOURCES, "SQ", Sequence(items))
    element.is_undefined_length = undefined
    dataset = Dataset()
    dataset.add(element)
    raw = encoded(dataset, implicit=implicit)[8 if implicit else 12 :]
    return raw.removesuffix(b"\xfe\xff\xdd\xe0\0\0\0\0") if undefined else raw


def parsed(raw: bytes) -> Sequence:
    """Return the sequence of an explicit value, read by pydicom."""
    buffer = DicomBytesIO(element_bytes(SOURCES, "SQ", raw))
    return read_dataset(buffer, is_implicit_VR=False, is_little_endian=True)[SOURCES].value


def nested(depth: int) -> Dataset:
    """Return a dataset with sequences inside each other."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = f"1.2.{depth}"
    if depth:
        item.PurposeOfReferenceCodeSequence = [nested(depth - 1)]
        item["PurposeOfReferenceCodeSequence"].is_undefined_length = bool(depth % 2)
        item.is_undefined_length_sequence_item = bool(depth % 3)
    return item


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_nested_sequences_come_back(implicit, undefined):
    """Sequences inside sequences, of defined and undefined length, have the values that they had."""
    raw = sequence_value([nested(4), nested(3), Dataset()], implicit=implicit, undefined=undefined)
    assert parsed(to_explicit(raw, implicit=implicit)) == Sequence([nested(4), nested(3), Dataset()])


def test_no_undefined_length_is_left():
    """All lengths are explicit."""
    raw = to_explicit(sequence_value([nested(4)], implicit=True, undefined=True))
    assert b"\xff\xff\xff\xff" not in raw
    assert b"\xfe\xff\xdd\xe0" not in raw
    assert b"\xfe\xff\x0d\xe0" not in raw


def test_delimiter_at_the_end_is_dropped():
    """A value that still has its delimiter gives the same."""
    raw = sequence_value([nested(1)], implicit=True, undefined=True)
    assert to_explicit(raw + b"\xfe\xff\xdd\xe0\0\0\0\0") == to_explicit(raw)


@pytest.mark.parametrize("implicit", [True, False])
def test_explicit_lengths_and_vrs_change_nothing(implicit):
    """What is explicit already stays identical to the byte; implicit becomes what pydicom writes as explicit."""
    expected = sequence_value([nested(0), nested(0)], implicit=False)
    assert to_explicit(sequence_value([nested(0), nested(0)], implicit=implicit), implicit=implicit) == expected


def vrs(raw: bytes, **options) -> dict[int, str]:
    """Return the VRs that the elements of an implicit item get."""
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(raw)) + raw
    return {element.tag: element.vr for element in next(sequence_items(to_explicit(item, **options), False))}


def implicit_element(tag: int, raw: bytes) -> bytes:
    """Return an element in implicit VR."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(raw)) + raw


@pytest.mark.parametrize(("signed", "vr"), [(True, "SS"), (False, "US")])
def test_us_or_ss_follows_the_pixels(signed, vr):
    """US or SS is decided by PixelRepresentation outside of the sequence."""
    assert vrs(implicit_element(0x00280106, b"\1\0"), signed=signed) == {0x00280106: vr}


def test_us_or_ss_follows_the_item():
    """PixelRepresentation inside of the item comes first."""
    raw = implicit_element(0x00280103, b"\1\0") + implicit_element(0x00280106, b"\1\0")
    assert vrs(raw)[0x00280106] == "SS"


def test_private_elements_have_the_vr_of_their_creator():
    """Private elements have the VR of pydicom's private dictionary, the creator LO, and unknown ones UN."""
    raw = implicit_element(0x00290010, b"SIEMENS CSA HEADER") + implicit_element(PRIVATE - 8, b"IMAGE NUM 4 ")
    raw += implicit_element(PRIVATE, b"SV10") + implicit_element(0x00291110, b"??")
    assert vrs(raw) == {0x00290010: "LO", PRIVATE - 8: "CS", PRIVATE: "OB", 0x00291110: "UN"}


def test_unknown_sequence_of_undefined_length_is_sq():
    """An element of undefined length is a sequence, known or not."""
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    raw = struct.pack("<HHL", 0x0029, 0x1010, 0xFFFFFFFF) + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert vrs(raw) == {PRIVATE: "SQ"}


def test_un_of_undefined_length_holds_implicit_items():
    """In explicit VR, UN of undefined length holds implicit VR and becomes a sequence of explicit VR."""
    inner = sequence_value([nested(0)], implicit=True)
    un = struct.pack("<HH2s2xL", 0x0029, 0x1010, b"UN", 0xFFFFFFFF) + inner + b"\xfe\xff\xdd\xe0\0\0\0\0"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(un)) + un
    element = next(sequence_items(to_explicit(item, implicit=False), False))[0]
    assert (element.vr, element.raw) == ("SQ", sequence_value([nested(0)], implicit=False))


def test_group_lengths_are_dropped():
    """Group lengths inside of items would be wrong."""
    assert vrs(implicit_element(0x00080000, bytes(4)) + implicit_element(0x00080060, b"MR")) == {0x00080060: "CS"}


def test_nested_pixel_data_stay():
    """The pixels of an icon stay with it."""
    raw = implicit_element(0x00280010, b"\1\0") + implicit_element(0x7FE00010, b"\1\2")
    assert b"\xe0\x7f\x10\0OW\0\0\2\0\0\0\1\2" in to_explicit(struct.pack("<HHL", 0xFFFE, 0xE000, len(raw)) + raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xfe\xff\x00\xe0\x08\0\0\0\x08\0",
        implicit_element(0x00080060, b"MR"),
        b"\xfe\xff\x00\xe0",
        struct.pack("<HHL", 0xFFFE, 0xE000, 10) + implicit_element(0x00080060, b"MRMR"),
    ],
)
def test_damaged_sequences_raise(raw):
    """What can't be parsed raises."""
    with pytest.raises(BrokenFileError, match="can't be parsed"):
        to_explicit(raw)


def test_deep_nesting_raises():
    """Sequences nested deeper than 200 raise, and no RecursionError."""
    raw = b""
    for _ in range(250):
        raw = implicit_element(SOURCES, struct.pack("<HHL", 0xFFFE, 0xE000, len(raw)) + raw)
    with pytest.raises(BrokenFileError, match="deeper"):
        to_explicit(raw[8:])


def test_nesting_of_200_is_fine():
    """200 levels are converted."""
    raw = b""
    for _ in range(199):
        raw = implicit_element(SOURCES, struct.pack("<HHL", 0xFFFE, 0xE000, len(raw)) + raw)
    assert len(to_explicit(raw[8:])) > len(raw)


def test_explicit_values_of_an_implicit_header():
    """Elements of a header get VRs, and sequences among them explicit VR."""
    header = {
        0x00080005: ("", b"ISO_IR 100"),
        SOURCES: ("", sequence_value([nested(0)], implicit=True)),
        0x00280106: ("", b"\xff\xff"),
        0x00280103: ("", b"\1\0"),
    }
    values = explicit_values(header, implicit=True)
    assert {tag: vr for tag, (vr, _) in values.items()} == {
        0x00080005: "CS",
        SOURCES: "SQ",
        0x00280103: "US",
        0x00280106: "SS",
    }
    assert parsed(values[SOURCES][1]) == Sequence([nested(0)])


def test_compressed_pixels_in_a_sequence_raise():
    """Compressed pixels can't be in a file of native pixels."""
    fragments = b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    raw = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + fragments
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(raw)) + raw
    with pytest.raises(CompressedPixelsError, match="compressed pixels"):
        to_explicit(item, implicit=False)


def test_sequences_with_compressed_pixels_are_left_out():
    """A compressed icon is left out of a header's elements."""
    fragments = b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    raw = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + fragments
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(raw)) + raw
    header = {0x00080060: ("CS", b"MR"), 0x00880200: ("SQ", item)}
    assert explicit_values(header, implicit=False) == {0x00080060: ("CS", b"MR")}


def sequences_of(path) -> tuple[bool, list[list[Dataset]]]:
    """Return signedness and sequences of a file, but for icons, and LUTs whose VR pydicom takes from their length."""
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = False
            for item in element.value:
                item.is_undefined_length_sequence_item = False
    unwanted = ("IconImageSequence", "ModalityLUTSequence", "VOILUTSequence")
    found = [list(e.value) for e in dataset if e.VR == "SQ" and not e.tag.is_private and e.keyword not in unwanted]
    for items in found:
        sequence_value(items, implicit=True)
    return dataset.get("PixelRepresentation") == 1, found


@pytest.mark.parametrize("path", [path for path in corpus_files() if "truncated" not in path.name], ids=corpus_id)
def test_corpus_sequences_come_back(path):
    """Every sequence of the corpus that pydicom can write is, from implicit VR, what pydicom writes in explicit VR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            signed, sequences = sequences_of(path)
        except Exception as reason:  # noqa: BLE001 - deliberately broken files
            pytest.skip(f"platform: pydicom can't read and write this file: {reason!r}")
        for items in sequences:
            expected = sequence_value(items, implicit=False)
            assert to_explicit(sequence_value(items, implicit=True, undefined=True), signed=signed) == expected
