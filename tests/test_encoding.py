"""Plain Python to the bytes of an element."""

import datetime
import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from xdicom.encoding import encode
from xdicom.errors import NotOneValueError, TagValueError
from xdicom.keywords import as_tag
from xdicom.values import UniqueValues

PRIVATE = 0x00291010


def put(name, value, **given):
    """Encode a value by its element's VR."""
    return encode(as_tag(name), "", value, **given)


@pytest.mark.parametrize(
    ("name", "value", "raw"),
    [
        ("EchoTime", 23.0, b"23.0"),
        ("EchoTime", np.float32(0.5), b"0.5 "),
        ("EchoTime", np.array(2.5), b"2.5 "),
        ("EchoTime", "23", b"23"),
        ("PixelSpacing", [1, 1.5], b"1\\1.5 "),
        ("PixelSpacing", (1, 1.5), b"1\\1.5 "),
        ("PixelSpacing", np.array([1, 1.5]), b"1.0\\1.5 "),
        ("PixelSpacing", "1\\1.5", b"1\\1.5 "),
        ("PixelSpacing", (1.0, None), b"1.0\\"),
        ("InstanceNumber", 7, b"7 "),
        ("Rows", 128, b"\x80\0"),
        ("Rows", 128.0, b"\x80\0"),
        ("Rows", "128", b"\x80\0"),
        ("Rows", np.uint16(128), b"\x80\0"),
        ("ImageType", ["DERIVED", "PRIMARY"], b"DERIVED\\PRIMARY "),
        ("ImageType", "DERIVED\\PRIMARY", b"DERIVED\\PRIMARY "),
        ("SOPInstanceUID", "1.2.840", b"1.2.840\0"),
        ("PatientName", "Doe^John", b"Doe^John"),
        ("StudyDate", datetime.date(2022, 11, 19), b"20221119"),
        ("AcquisitionTime", 12 * 60 * 60, b"120000"),
        ("FrameAcquisitionDateTime", datetime.datetime(2022, 11, 19), b"20221119000000"),
        ("DiffusionBValue", 1000, struct.pack("<d", 1000)),
        ("DiffusionGradientOrientation", (0, 0, 1), struct.pack("<3d", 0, 0, 1)),
        ("TagThickness", float("nan"), struct.pack("<d", float("nan"))),
        ("FrameIncrementPointer", "EchoTime", b"\x18\0\x81\0"),
        ("FrameIncrementPointer", (0x0018, 0x0081), b"\x18\0\x81\0"),
        ("FrameIncrementPointer", Tag(0x0018, 0x0081), b"\x18\0\x81\0"),
        ("FrameIncrementPointer", ["EchoTime", (0x0028, 0x0010)], b"\x18\0\x81\0\x28\0\x10\0"),
        ("FrameIncrementPointer", ((0x0018, 0x0081), (0x0028, 0x0010)), b"\x18\0\x81\0\x28\0\x10\0"),
        ("ImageComments", "a\\b", b"a\\b "),
        ("ICCProfile", b"\1\2\3", b"\1\2\3\0"),
        ("ICCProfile", bytearray(b"\1\2"), b"\1\2"),
        ("LUTData", [1, 2, 65535], b"\1\0\2\0\xff\xff"),
        ("LUTData", np.array([1, 2]), b"\1\0\2\0"),
        ("SpecificCharacterSet", ["", "ISO 2022 IR 87"], b"\\ISO 2022 IR 87 "),
    ],
)
def test_values_become_bytes(name, value, raw):
    """Each VR is written in little endian, of even length."""
    assert put(name, value) == raw


@pytest.mark.parametrize("name", ["EchoTime", "PatientID", "Rows", "ICCProfile", "ReferencedImageSequence", PRIVATE])
@pytest.mark.parametrize("value", ["", [], (), np.array([]), UniqueValues([None])], ids=repr)
def test_empty_values_are_no_bytes(name, value):
    """Empty text, no values, and a present and empty value of another record make an empty element."""
    assert put(name, value) == b""


def test_none_is_refused():
    """None removes an element, which is not encoding."""
    with pytest.raises(TagValueError, match="EchoTime cannot be None: None removes an element; type ''"):
        put("EchoTime", None)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("Rows", 65536, "Rows cannot be 65536: VR US holds 0 to 65535"),
        ("Rows", -1, "0 to 65535"),
        ("Rows", 1.5, "whole numbers"),
        ("Rows", "many", "no number"),
        ("Rows", [1, 2], "2 values where 1 may stand"),
        ("Rows", b"\1\0", "whole numbers"),
        ("EchoTime", float("nan"), "finite"),
        ("EchoTime", [1, 2], "2 values where 1 may stand"),
        ("PixelSpacing", 1.0, "1 values where 2 may stand"),
        ("PixelSpacing", [[1, 2]], "list inside a list"),
        ("PixelSpacing", np.eye(2), r"array of shape \(2, 2\)"),
        ("ImageOrientationPatient", [1, 0, 0], "3 values where 6 may stand"),
        ("PatientID", 5, "type '5'"),
        ("PatientID", {"a": 1}, "takes text"),
        ("OtherPatientIDs", ["a\\b"], "backslash"),
        ("PatientID", "a\\b", "2 values where 1"),
        ("ImageComments", ["a", "b"], "2 values where 1"),
        ("FrameIncrementPointer", "EchoTim", "did you mean 'EchoTime'"),
        ("LUTData", [1.5], "uint16"),
        ("LUTData", [65536], "uint16"),
        ("LUTData", [-1], "uint16"),
        ("LUTData", ["x"], "takes bytes or an array"),
        ("LUTData", [[1], [1, 2]], "takes bytes or an array"),
        ("VectorGridData", [1e300], "float32"),
        ("ReferencedImageSequence", "x", "list of dicts"),
        ("ReferencedImageSequence", [1], "list of dicts"),
        ("ReferencedImageSequence", 1, "list of dicts"),
        (PRIVATE, "x", "no dictionary has this element; give its VR"),
    ],
)
def test_what_does_not_fit_is_refused(name, value, says):
    """The error has the element, the value, what its VR holds, and what to type."""
    with pytest.raises(TagValueError, match=says):
        put(name, value)


@pytest.mark.parametrize(
    ("vr", "low", "high"),
    [
        ("US", 0, 2**16 - 1),
        ("SS", -(2**15), 2**15 - 1),
        ("UL", 0, 2**32 - 1),
        ("SL", -(2**31), 2**31 - 1),
        ("UV", 0, 2**64 - 1),
        ("SV", -(2**63), 2**63 - 1),
    ],
)
def test_binary_integers_have_a_range(vr, low, high):
    """The ends of the range are held, what lies beyond is refused."""
    assert len(encode(PRIVATE, vr, [low, high])) == 2 * len(encode(PRIVATE, vr, low))
    for value in (low - 1, high + 1):
        with pytest.raises(TagValueError, match=f"{low} to {high}"):
            encode(PRIVATE, vr, value)


def test_a_float_has_a_range():
    """What exceeds 32 bits is refused in FL."""
    with pytest.raises(TagValueError, match="as large"):
        encode(PRIVATE, "FL", 1e300)


@pytest.mark.parametrize(("signed", "value"), [(True, -1), (False, 65535)])
def test_the_sign_decides(signed, value):
    """US or SS is what PixelRepresentation says."""
    assert put("SmallestImagePixelValue", value, signed=signed) == b"\xff\xff"
    with pytest.raises(TagValueError):
        put("SmallestImagePixelValue", value, signed=not signed)


def test_multiplicity_in_steps():
    """A multiplicity of 3-3n takes threes."""
    assert put("ContourData", [1, 2, 3] * 2) == b"1\\2\\3\\1\\2\\3 "
    with pytest.raises(TagValueError, match="4 values where 3-3n may stand"):
        put("ContourData", [1, 2, 3, 4])


def test_a_private_element_has_a_multiplicity():
    """The private dictionary says how many values its elements take."""
    given = {"creator": "SIEMENS MR HEADER"}
    assert encode(0x0019100E, "", (0, 0, 1), **given) == struct.pack("<3d", 0, 0, 1)
    with pytest.raises(TagValueError, match="2 values where 3"):
        encode(0x0019100E, "", (0, 1), **given)


# -- UniqueValues


def test_one_unique_value_is_unwrapped():
    """A UniqueValues of one is its value, also as one of several values."""
    assert put("EchoTime", UniqueValues([23.0])) == b"23.0"
    assert put("PixelSpacing", UniqueValues([(1.0, 2.0)])) == b"1.0\\2.0 "
    assert put("PixelSpacing", [UniqueValues([1.0]), UniqueValues([2.0])]) == b"1.0\\2.0 "


@pytest.mark.parametrize("values", [UniqueValues([1, 2]), UniqueValues()], ids=repr)
def test_other_unique_values_are_refused(values):
    """Several values are no multi-value, and none is not an empty one."""
    with pytest.raises(NotOneValueError):
        put("ImagesInAcquisition", values)


# -- character sets


def test_text_is_in_its_character_set():
    """Text is written in the character set that is given."""
    assert put("PatientName", "Müller", charset="ISO_IR 100") == b"M\xfcller"


def test_several_names_begin_anew():
    """Each of several names is written with its own escape sequences."""
    raw = encode(PRIVATE, "PN", ["山^太", "田"], charset="\\ISO 2022 IR 87")
    assert raw.split(b"\\")[1].rstrip() == b"\x1b$BED\x1b(B"


@pytest.mark.parametrize("charset", ["", "ISO_IR 100", "ISO_IR 6"])
@pytest.mark.parametrize("name", ["PatientName", "SeriesDescription", "ImageComments"])
def test_text_outside_its_character_set(charset, name):
    """Text that the character set lacks is refused, and ISO_IR 192 is named."""
    with pytest.raises(TagValueError, match="ISO_IR 192"):
        put(name, "山田", charset=charset)


def test_lengths_count_characters():
    """The limit of 64 is in characters, not bytes."""
    assert len(put("PatientID", "山" * 64, charset="ISO_IR 192")) == 192


# -- sequences

CODES = "ReferencedImageSequence"


def written(dataset, implicit):
    """Return the value of a sequence of one dataset as pydicom writes it."""
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = True, implicit
    element = pydicom.DataElement(as_tag(CODES), "SQ", Sequence([dataset]))
    write_data_element(target, element)
    return target.getvalue()[8 if implicit else 12 :]


@pytest.fixture
def dataset():
    """Return a dataset with text, numbers and a nested sequence."""
    inner = Dataset()
    inner.CodeValue = "T-04"
    inner.CodeMeaning = ""
    outer = Dataset()
    outer.PatientName = "Doe^John"
    outer.EchoTime = 23.5
    outer.PixelSpacing = [1, 2]
    outer.Rows = 5
    outer.FrameIncrementPointer = 0x00180081
    outer.SOPInstanceUID = "1.2.3"
    outer.AnatomicRegionSequence = [inner]
    outer.add_new(0x00290010, "LO", "ME")
    outer.add_new(0x00291001, "DS", "2")
    return outer


@pytest.mark.parametrize("implicit", [False, True])
def test_datasets_are_written_as_by_pydicom(dataset, implicit):
    """A pydicom Dataset becomes the bytes that pydicom writes."""
    assert put(CODES, [dataset], implicit=implicit) == written(dataset, implicit)
    assert put(CODES, dataset, implicit=implicit) == written(dataset, implicit)


@pytest.mark.parametrize("implicit", [False, True])
def test_dicts_are_written_as_by_pydicom(dataset, implicit):
    """A dict by any names becomes the bytes of the same dataset."""
    del dataset[0x00291001]
    item = {
        "PatientName": "Doe^John",
        (0x0018, 0x0081): 23.5,
        0x00280030: [1.0, 2.0],
        "Rows": 5,
        "FrameIncrementPointer": (0x0018, 0x0081),
        "SOPInstanceUID": "1.2.3",
        "AnatomicRegionSequence": {"CodeValue": "T-04", "CodeMeaning": None},
        "(0029,0010)": "ME",
    }
    assert put(CODES, item, implicit=implicit) == written(dataset, implicit)


def test_an_item_has_its_own_character_set():
    """An item's own character set goes before the inherited one."""
    raw = put(CODES, {"SpecificCharacterSet": "ISO_IR 144", "CodeMeaning": "Ф"}, charset="ISO_IR 100")
    assert raw.endswith(b"LO\2\0\xc4 ")


def test_an_item_has_several_character_sets():
    """Several character sets in an item are a list."""
    raw = put(CODES, {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "山"})
    assert b"\x1b$B;3\x1b(B" in raw


def test_an_item_has_its_own_sign():
    """An item's own PixelRepresentation decides between US and SS."""
    assert put(CODES, {"PixelRepresentation": 1, "SmallestImagePixelValue": -1}).endswith(b"SS\2\0\xff\xff")


def test_a_private_element_of_an_item():
    """A private element in an item has the VR that its creator's dictionary gives."""
    raw = put(CODES, {"(0019,0010)": "SIEMENS MR HEADER", "(0019,100C)": 1000})
    assert raw.endswith(b"IS\4\x001000")


def test_an_unknown_element_of_an_item():
    """A private element whose VR is unknown is refused in a dict, unless it is bytes or items."""
    with pytest.raises(TagValueError, match=r"\(0029,1010\) in it: no dictionary"):
        put(CODES, {"(0029,1010)": 5})
    assert put(CODES, {"(0029,1010)": b"ab"}).endswith(b"UN\0\0\2\0\0\0ab")
    assert b"SQ" in put(CODES, {"(0029,1010)": [{"CodeValue": "T"}]})


def test_the_error_names_the_inner_element():
    """The error of a value in a sequence names its element."""
    with pytest.raises(TagValueError, match=r"ReferencedImageSequence cannot be .*: Rows in it: VR US holds"):
        put(CODES, {"Rows": -1})


def test_what_is_too_long_for_its_vr_is_unknown():
    """A value over 64 KB in a VR with a short length is written as UN (PS3.5 6.2.2)."""
    assert b"US\2\0" in put(CODES, {"SelectorUSValue": 1})
    assert b"UN\0\0" + struct.pack("<L", 80000) in put(CODES, {"SelectorUSValue": [1] * 40000})


def test_group_lengths_are_left_out():
    """Group lengths of a Dataset, which would be wrong, are not written."""
    assert put(CODES, {(0x0008, 0x0000): 5, "CodeValue": "T"}) == put(CODES, {"CodeValue": "T"})


def test_nesting_has_a_limit():
    """Sequences deeper than what is read are not written."""
    item = {}
    for _ in range(201):
        item = {CODES: [item]}
    with pytest.raises(TagValueError, match="nested deeper than 200"):
        put(CODES, item)


def test_items_of_unknown_are_implicit():
    """Items in an element that the file calls UN are written in implicit VR (PS3.5 6.2.2)."""
    assert encode(PRIVATE, "UN", [{"CodeValue": "T"}]) == put(CODES, {"CodeValue": "T"}, implicit=True)
