"""Headers of JPEG, JPEG-LS and JPEG 2000 codestreams."""

import struct

import pytest

from xdicom.codestream import Codestream, jpeg2000_header, jpeg_header
from xdicom.errors import PixelError


def jpeg(*segments: bytes, sof: int = 0xC0, ids: bytes = b"\x01", precision: int = 8) -> bytes:
    """Return the beginning of a JPEG codestream of 4 rows and 6 columns with some segments before its frame header."""
    frame = struct.pack(">BHHB", precision, 4, 6, len(ids)) + b"".join(bytes([i, 0x11, 0]) for i in ids)
    return b"\xff\xd8" + b"".join(segments) + segment(sof, frame)


def segment(marker: int, content: bytes) -> bytes:
    """Return a marker segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def siz(depths: bytes, *, right: int = 6, bottom: int = 4, left: int = 0, top: int = 0) -> bytes:
    """Return the beginning of a JPEG 2000 codestream; `depths` has a byte (bits - 1, sign in bit 7) a component."""
    sizes = struct.pack(">8I", right, bottom, left, top, right, bottom, 0, 0)
    components = b"".join(bytes([depth, 1, 1]) for depth in depths)
    content = struct.pack(">H", 0) + sizes + struct.pack(">H", len(depths)) + components
    return b"\xff\x4f" + segment(0x51, content) + bytes(8)


@pytest.mark.parametrize("sof", [0xC0, 0xC1, 0xC2, 0xC3, 0xF7])
def test_jpeg_matrix(sof: int) -> None:
    """Matrix, samples and precision come from the frame header of any process, JPEG-LS too."""
    assert jpeg_header(jpeg(sof=sof, precision=12)) == Codestream(4, 6, 1, 12)


def test_jpeg_skips_tables_and_fill() -> None:
    """Huffman tables are not taken for a frame header; fill bytes are passed over."""
    assert jpeg_header(jpeg(segment(0xC4, bytes(20)) + b"\xff\xff")).rows == 4


@pytest.mark.parametrize(
    ("segments", "ids", "photometric"),
    [
        (b"", b"\x01\x02\x03", ""),
        (segment(0xE0, b"JFIF\0\1\1"), b"\x01\x02\x03", "YBR_FULL"),
        (segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"), b"\x01\x02\x03", "RGB"),
        (segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"), b"\x01\x02\x03", "YBR_FULL"),
        (segment(0xE0, b"JFIF\0\1\1"), b"RGB", "RGB"),
    ],
)
def test_jpeg_colour(segments: bytes, ids: bytes, photometric: str) -> None:
    """Colour follows component identifiers, then JFIF and Adobe markers, and may be unknown."""
    assert jpeg_header(jpeg(segments, ids=ids)).photometric == photometric


@pytest.mark.parametrize("data", [b"", b"\x00\x01", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x04", jpeg()[:-2]])
def test_damaged_jpeg_raises(data: bytes) -> None:
    """What is no JPEG, or has no frame header, raises PixelError."""
    with pytest.raises(PixelError):
        jpeg_header(data)


def test_jpeg2000_matrix() -> None:
    """Matrix, samples, precision and sign come from SIZ."""
    assert jpeg2000_header(siz(b"\x8c")) == Codestream(4, 6, 1, 13, signed=True)


def test_jpeg2000_matrix_starts_at_its_offset() -> None:
    """The image offset on the reference grid is no part of the image."""
    assert jpeg2000_header(siz(b"\x07\x07\x07", right=16, bottom=8, left=10, top=4)) == Codestream(4, 6, 3, 8)


def test_jpeg2000_in_a_jp2_file() -> None:
    """A codestream wrapped in a JP2 file is found."""
    assert jpeg2000_header(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20) + siz(b"\x07")).columns == 6


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0", siz(b"\x07")[:30], siz(b"\x07\x08\x07"), siz(b"")])
def test_damaged_jpeg2000_raises(data: bytes) -> None:
    """What is no JPEG 2000, is truncated, or has components that differ raises PixelError."""
    with pytest.raises(PixelError):
        jpeg2000_header(data)
