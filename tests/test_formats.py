"""What headers say about the bytes of a frame."""

from typing import Any

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword

from xdicom.colour import Palette
from xdicom.errors import PixelError
from xdicom.formats import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    FORMAT_TAGS,
    PixelFormat,
    container_dtype,
    frame_nbytes,
    frame_shape,
    pixel_format,
    smallest_integer,
    stored_dtype,
    stored_limits,
)

PLAIN = {
    "Rows": 3,
    "Columns": 5,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
}


def described(kind: str = "int", vr: str = "", syntax: str = EXPLICIT_LITTLE, **changes: Any) -> PixelFormat:
    """Return the format of a header that is plain but for some changes; None removes."""
    values = {tag_for_keyword(name): value for name, value in (PLAIN | changes).items()}
    return pixel_format(values.get, syntax, kind, vr=vr)


def test_plain_header() -> None:
    """Every attribute of the header is in the format."""
    assert described() == PixelFormat(EXPLICIT_LITTLE, 3, 5, 1, 16, 12, 11, False, "MONOCHROME2", 0)


def test_format_is_hashable() -> None:
    """Equal headers give formats that are one key."""
    assert len({described(), described(), described(BitsStored=11, HighBit=10)}) == 2


def test_only_format_tags_are_asked_for() -> None:
    """FORMAT_TAGS lists every tag that decides the format."""
    asked = set()
    values = {tag_for_keyword(name): value for name, value in PLAIN.items()}
    values |= {tag_for_keyword("PhotometricInterpretation"): "PALETTE COLOR"}
    with pytest.raises(PixelError):
        pixel_format(lambda tag: (asked.add(tag), values.get(tag))[1], EXPLICIT_LITTLE)
    assert asked <= set(FORMAT_TAGS)


@pytest.mark.parametrize(
    "name", ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation", "PixelRepresentation"]
)
def test_missing_attribute_is_named(name: str) -> None:
    """Without an attribute that matters the text names it."""
    with pytest.raises(PixelError, match=f"{name} is missing"):
        described(**{name: None})


@pytest.mark.parametrize(
    ("name", "default"), [("SamplesPerPixel", 1), ("BitsStored", 16), ("HighBit", 11), ("PlanarConfiguration", 0)]
)
def test_defaults(name: str, default: int) -> None:
    """One sample, all bits and the highest of them are taken for granted."""
    changes = {"BitsStored": None, "HighBit": None} if name == "BitsStored" else {name: None}
    fields = {"SamplesPerPixel": "samples", "BitsStored": "bits_stored", "HighBit": "high_bit"}
    assert getattr(described(**changes), fields.get(name, "planar")) == default


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Rows": 0}, "Rows is 0"),
        ({"Columns": "5"}, "Columns is '5', expected one integer"),
        ({"Rows": (3, 4)}, r"Rows is \(3, 4\)"),
        ({"BitsAllocated": 12}, "BitsAllocated is 12, expected 1, 8, 16, 32, 64"),
        ({"BitsStored": 17}, "BitsStored is 17, more than BitsAllocated, 16"),
        ({"HighBit": 10}, "HighBit is 10, expected 11"),
        ({"HighBit": 16}, "HighBit is 16"),
        ({"PixelRepresentation": 2}, "PixelRepresentation is 2"),
        ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel is 1, expected 3 for RGB"),
        ({"PhotometricInterpretation": "YBR_FULL", "SamplesPerPixel": 3}, "BitsAllocated is 16, expected 8"),
        ({"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 3}, "expected 1 for PALETTE COLOR"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "RedPaletteColorLookupTableDescriptor is None"),
    ],
)
def test_contradictions_raise(changes: dict[str, Any], text: str) -> None:
    """Values that are impossible or contradict each other are shown."""
    with pytest.raises(PixelError, match=text):
        described(**changes)


@pytest.mark.parametrize(("kind", "bits", "dtype"), [("float", 32, "f4"), ("double", 64, "f8")])
def test_float_pixels_need_no_sign(kind: str, bits: int, dtype: str) -> None:
    """Float Pixel Data has neither BitsStored nor PixelRepresentation, and keeps its dtype."""
    fmt = described(kind, BitsAllocated=bits, BitsStored=None, HighBit=None, PixelRepresentation=None)
    assert stored_dtype(fmt) == np.dtype(dtype)


@pytest.mark.parametrize(
    ("allocated", "stored", "signed", "dtype"),
    [
        (1, 1, 0, "u1"),
        (8, 8, 0, "u1"),
        (8, 8, 1, "i1"),
        (16, 8, 0, "u1"),
        (16, 9, 1, "i2"),
        (16, 12, 0, "u2"),
        (16, 16, 1, "i2"),
        (32, 17, 0, "u4"),
        (32, 32, 1, "i4"),
        (64, 64, 0, "u8"),
    ],
)
def test_stored_dtype_is_the_smallest(allocated: int, stored: int, signed: int, dtype: str) -> None:
    """The dtype of stored values follows BitsStored and sign, not BitsAllocated."""
    fmt = described(BitsAllocated=allocated, BitsStored=stored, HighBit=stored - 1, PixelRepresentation=signed)
    assert stored_dtype(fmt) == np.dtype(dtype)
    limits = np.iinfo(dtype)
    low, high = stored_limits(fmt)
    assert limits.min <= low < high <= limits.max


def test_palette_gives_its_own_dtype_and_shape() -> None:
    """A palette image has three samples of the bits of the palette's entries."""
    fmt = PixelFormat(EXPLICIT_LITTLE, 2, 3, bits_allocated=8, palette=Palette(0, 16, b"\0\0", b"\0\0", b"\0\0"))
    assert (stored_dtype(fmt), frame_shape(fmt)) == (np.dtype("u2"), (2, 3, 3))


@pytest.mark.parametrize(
    ("fmt", "size"),
    [
        (PixelFormat(EXPLICIT_LITTLE, 3, 5), 30),
        (PixelFormat(EXPLICIT_LITTLE, 3, 5, bits_allocated=1, bits_stored=1, high_bit=0), 2),
        (PixelFormat(EXPLICIT_LITTLE, 3, 4, 3, 8, 8, 7), 36),
        (PixelFormat(EXPLICIT_LITTLE, 3, 4, 3, 8, 8, 7, photometric="YBR_FULL_422"), 24),
        (PixelFormat("", 3, 5, kind="staged", staged_dtype="float64"), 120),
    ],
)
def test_frame_nbytes(fmt: PixelFormat, size: int) -> None:
    """A native frame has rows x columns x samples values; subsampled colour has two samples a pixel."""
    assert frame_nbytes(fmt) == size


def test_container_has_the_byte_order_of_the_file() -> None:
    """Samples in a big-endian file are big endian."""
    assert container_dtype(described(syntax=EXPLICIT_BIG)) == np.dtype(">u2")


def test_words_are_swapped_only_in_big_endian() -> None:
    """8-bit pixels lie swapped only as OW of a big-endian file."""
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    pairs = [("OB", EXPLICIT_BIG), ("OB", ""), ("OW", EXPLICIT_BIG), ("OW", "")]
    found = [described(vr=vr, syntax=syntax, **bits).word_swapped for vr, syntax in pairs]
    assert found == [False, False, True, False]


def test_staged_objects_are_refused() -> None:
    """A staged dtype that is no number, such as a pickled object, raises."""
    with pytest.raises(PixelError, match="staged pixels of dtype 'O'"):
        container_dtype(PixelFormat("", 3, 5, kind="staged", staged_dtype="O"))


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 255, "u1"), (0, 256, "u2"), (-1, 127, "i1"), (-1, 128, "i2"), (0, 2**64 - 1, "u8"), (-(2**63), 0, "i8")],
)
def test_smallest_integer(low: int, high: int, dtype: str) -> None:
    """The smallest dtype that holds both ends."""
    assert smallest_integer(low, high) == np.dtype(dtype)


def test_no_integer_beyond_64_bits() -> None:
    """What no integer dtype holds gives None."""
    assert smallest_integer(-1, 2**63) is None
