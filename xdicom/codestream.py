"""Headers of JPEG, JPEG-LS and JPEG 2000 codestreams: matrix, samples, precision, sign, colour.

It decodes no pixels.
"""

import struct
from typing import NamedTuple

from .errors import PixelError

_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_BARE = {0x01, *range(0xD0, 0xD9)}


class Codestream(NamedTuple):
    """What the header of a codestream says; `photometric` is "" where it says nothing of colour."""

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    photometric: str = ""


def jpeg_header(data: bytes) -> Codestream:
    """Read the header of a JPEG or JPEG-LS codestream up to its frame header.

    Raises
    ------
    PixelError
        It is none, or is truncated.
    """
    if data[:2] != b"\xff\xd8":
        raise PixelError(f"the frame begins with {data[:4].hex(' ') or 'nothing'}, expected a JPEG codestream (ff d8)")
    position, colour = 2, ""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > len(data):
            raise PixelError("the JPEG codestream has no frame header")
        marker = data[position + 1]
        if marker == 0xFF or marker in _BARE:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position + 4 : position + 2 + length]
        if marker in _SOF:
            return _frame_header(segment, colour)
        colour = colour or _application(marker, segment)
        position += 2 + length


def _application(marker: int, segment: bytes) -> str:
    """Return the colour that a JFIF or Adobe marker tells."""
    if marker == 0xE0 and segment[:4] == b"JFIF":
        return "YBR_FULL"
    if marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
        return {0: "RGB", 1: "YBR_FULL"}.get(segment[11], "")
    return ""


def _frame_header(segment: bytes, colour: str) -> Codestream:
    """Read a frame header (SOF); component identifiers R G B tell more than a marker."""
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        raise PixelError("the frame header of the JPEG codestream is truncated")
    precision, rows, columns, samples = struct.unpack_from(">BHHB", segment)
    identifiers = segment[6 : 6 + 3 * samples : 3]
    if identifiers in (b"RGB", b"rgb"):
        colour = "RGB"
    return Codestream(rows, columns, samples, precision, photometric=colour)


def jpeg2000_header(data: bytes) -> Codestream:
    """Read the image size marker (SIZ) of a JPEG 2000 codestream, bare or in a JP2 file.

    Raises
    ------
    PixelError
        It is none, is truncated, or its components differ in size, precision or sign.
    """
    start = data.find(b"\xff\x4f\xff\x51") if data[:4] == b"\0\0\0\x0c" else 0
    if start < 0 or data[start : start + 4] != b"\xff\x4f\xff\x51":
        raise PixelError(f"the frame begins with {data[:4].hex(' ') or 'nothing'}, expected JPEG 2000 (ff 4f ff 51)")
    if len(data) < start + 42:
        raise PixelError("the header of the JPEG 2000 codestream is truncated")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (samples,) = struct.unpack_from(">H", data, start + 40)
    components = data[start + 42 : start + 42 + 3 * samples]
    if len(components) < 3 * samples or not samples:
        raise PixelError("the header of the JPEG 2000 codestream is truncated")
    if len(set(components[::3])) > 1:
        raise PixelError("the components of the JPEG 2000 codestream differ in precision or sign")
    depth = components[0]
    return Codestream(bottom - top, right - left, samples, (depth & 0x7F) + 1, bool(depth & 0x80))
