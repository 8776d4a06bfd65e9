"""DICOM files put together from bytes, so that each byte of them can be wrong on purpose."""

import struct

import numpy as np

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")

Elements = dict[int, tuple[str, bytes]]

FRAME = (np.arange(30, dtype="<u2") * 37 % 4096).reshape(6, 5)
FRAME.flags.writeable = False
ROWS, COLUMNS, BITS, STORED, HIGH, SIGN = 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103
SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, PIXELS = 0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x7FE00010
SLOPE, INTERCEPT, NAME, PRIVATE = 0x00281053, 0x00281052, 0x00100010, 0x00291001


def element(tag: int, vr: str, value: bytes, *, explicit: bool = True, order: str = "<", length: int = -1) -> bytes:
    """Return an element; a length that is given stands in the file instead of the true one."""
    length = len(value) if length < 0 else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack(order + "I", length) + value
    if vr in LONG_VRS:
        return head + vr.encode() + b"\0\0" + struct.pack(order + "I", length) + value
    return head + vr.encode() + struct.pack(order + "H", length) + value


def item(value: bytes) -> bytes:
    """Return a sequence item, or a fragment, of defined length."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def text(value: str, pad: str = " ") -> bytes:
    """Return text of even length."""
    raw = value.encode("latin-1")
    return raw + pad.encode() * (len(raw) % 2)


def number(value: int, order: str = "<") -> bytes:
    """Return an unsigned short."""
    return struct.pack(order + "H", value)


def base(order: str = "<") -> Elements:
    """Return the elements of a valid image; `order` is the byte order of its numbers."""
    short = {SAMPLES: 1, ROWS: 6, COLUMNS: 5, BITS: 16, STORED: 12, HIGH: 11, SIGN: 0}
    return {
        0x00080005: ("CS", b"ISO_IR 100"),
        0x00080016: ("UI", text("1.2.840.10008.5.1.4.1.1.4", "\0")),
        0x00080018: ("UI", text("2.25.77001", "\0")),
        0x00080020: ("DA", b"20240229"),
        0x00080030: ("TM", b"101500"),
        0x00080060: ("CS", b"MR"),
        0x0008103E: ("LO", b"faults"),
        NAME: ("PN", b"Doe^Jane"),
        0x00100020: ("LO", b"P1"),
        0x00180050: ("DS", b"4.0 "),
        0x0020000D: ("UI", text("2.25.770", "\0")),
        0x0020000E: ("UI", text("2.25.771", "\0")),
        0x00200011: ("IS", b"1 "),
        0x00200013: ("IS", b"1 "),
        0x00200032: ("DS", text("-10\\-20\\30")),
        0x00200037: ("DS", text("1\\0\\0\\0\\1\\0")),
        PHOTOMETRIC: ("CS", b"MONOCHROME2 "),
        0x00280030: ("DS", b"2\\1.5 "),
        **{tag: ("US", number(value, order)) for tag, value in short.items()},
        0x00290010: ("LO", text("FACTORY")),
        PRIVATE: ("LO", b"secret"),
        PIXELS: ("OW", FRAME.astype(order + "u2").tobytes()),
    }


def encoded(elements: Elements, *, explicit: bool = True, order: str = "<") -> bytes:
    """Return elements one after another, ascending."""
    return b"".join(element(tag, *elements[tag], explicit=explicit, order=order) for tag in sorted(elements))


def meta(syntax: str | None, *, group_length: int | None = 0) -> bytes:
    """Return group 2; its length is added to `group_length`, and left out where that is None."""
    body = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", text("1.2.840.10008.5.1.4.1.1.4", "\0"))
    body += element(0x00020003, "UI", text("2.25.77001", "\0"))
    body += b"" if syntax is None else element(0x00020010, "UI", text(syntax, "\0"))
    if group_length is None:
        return body
    return element(0x00020000, "UL", struct.pack("<I", len(body) + group_length)) + body


def file(body: bytes, syntax: str | None = EXPLICIT, *, preamble: bytes = b"\0" * 128) -> bytes:
    """Return a Part 10 file."""
    return preamble + b"DICM" + meta(syntax) + body


def changed(*, drop: int = 0, **by_name: tuple[str, bytes]) -> bytes:
    """Return a file with one element dropped, or with elements by hexadecimal name (t00280010=...) put in."""
    elements = base()
    elements.pop(drop, None)
    elements |= {int(name[1:], 16): value for name, value in by_name.items()}
    return file(encoded(elements))


def body() -> bytes:
    """Return the elements of the valid image in explicit little endian."""
    return encoded(base())


def header() -> bytes:
    """Return the elements before the pixels."""
    return encoded({tag: value for tag, value in base().items() if tag != PIXELS})
