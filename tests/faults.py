"""One file for each fault that DICOM folders have: valid but for the one thing that its name tells.

The files are built from bytes, since pydicom rightly refuses to write most of them.
"""

import gzip
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from encapsulations import ENCAPSULATED
from factories import base_dataset, make_presentation_state, make_report, make_structure_set, write
from pydicom.dataset import Dataset
from rawdicom import (
    BIG,
    BITS,
    DEFLATED,
    EXPLICIT,
    FRAME,
    HIGH,
    IMPLICIT,
    NAME,
    PHOTOMETRIC,
    PIXELS,
    PRIVATE,
    ROWS,
    SAMPLES,
    SIGN,
    STORED,
    base,
    body,
    changed,
    element,
    encoded,
    file,
    header,
    item,
    meta,
    number,
    text,
)


class Fault(NamedTuple):
    """A file that has one fault.

    Attributes
    ----------
    make
        Writes it into a folder and returns its path.
    header
        "read": it gives rows; "problem": `problems()` names it, with or without rows; "skip": it is not DICOM, and only
        counted; "either": both to read it and to name it are right.
    pixels
        "equal": FRAME is read; "refuse": reading pixels raises a clear error; "other": it has other pixels, that
        pydicom reads; "none": it has no pixels; "either": to read FRAME or to refuse are both right.
    """

    make: Callable[[Path], Path]
    header: str
    pixels: str


FAULTS: dict[str, Fault] = {}


def fault(header: str, pixels: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Register a function that returns the bytes of a file."""

    def register(function: Callable[[], bytes]) -> Callable[[], bytes]:
        add(function.__name__, header, pixels, function)
        return function

    return register


def add(name: str, header: str, pixels: str, content: Callable[[], bytes]) -> None:
    """Register a file by name."""

    def make(folder: Path) -> Path:
        path = folder / f"{name}.dcm"
        path.write_bytes(content())
        return path

    FAULTS[name] = Fault(make, header, pixels)


# -- containers and transfer syntaxes


def implicit() -> bytes:
    """Return the elements in implicit little endian."""
    return encoded(base(), explicit=False)


def big() -> bytes:
    """Return the elements in explicit big endian."""
    return encoded(base(">"), order=">")


def deflated(content: bytes) -> bytes:
    """Return raw deflated bytes."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


CONTAINERS: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "valid": ("read", "equal", lambda: file(body())),
    "valid_implicit": ("read", "equal", lambda: file(implicit(), IMPLICIT)),
    "valid_big_endian": ("read", "equal", lambda: file(big(), BIG)),
    "valid_deflated": ("read", "equal", lambda: file(deflated(body()), DEFLATED)),
    "no_preamble": ("read", "equal", lambda: meta(EXPLICIT) + body()),
    "no_meta_explicit": ("read", "equal", body),
    "no_meta_implicit": ("read", "equal", implicit),
    "no_meta_big_endian": ("read", "equal", big),
    "meta_without_group_length": (
        "read",
        "equal",
        lambda: b"\0" * 128 + b"DICM" + meta(EXPLICIT, group_length=None) + body(),
    ),
    "meta_group_length_short": (
        "either",
        "either",
        lambda: b"\0" * 128 + b"DICM" + meta(EXPLICIT, group_length=-20) + body(),
    ),
    "meta_group_length_long": (
        "either",
        "either",
        lambda: b"\0" * 128 + b"DICM" + meta(EXPLICIT, group_length=900) + body(),
    ),
    "no_syntax": ("read", "either", lambda: file(body(), None)),
    "no_syntax_implicit": ("read", "either", lambda: file(implicit(), None)),
    "empty_syntax": ("read", "either", lambda: file(body(), "")),
    "unknown_syntax": ("read", "refuse", lambda: file(body(), "1.2.3.4.5")),
    "explicit_is_implicit": ("read", "either", lambda: file(implicit(), EXPLICIT)),
    "implicit_is_explicit": ("read", "either", lambda: file(body(), IMPLICIT)),
    "little_is_big": ("problem", "either", lambda: file(big(), EXPLICIT)),
    "preamble_of_tiff": ("read", "equal", lambda: file(body(), preamble=b"II*\0" + b"\x7f" * 124)),
    "truncated_meta": ("problem", "refuse", lambda: file(b"")[:180]),
    "truncated_header": ("problem", "refuse", lambda: file(body()[:333])),
    "truncated_pixels": ("problem", "refuse", lambda: file(body()[:-20])),
    "truncated_deflated": ("problem", "either", lambda: file(deflated(body())[:-60], DEFLATED)),
    "trailing_garbage": ("either", "equal", lambda: file(body() + b"\xde\xad\xbe\xef" * 9)),
    "trailing_zeros": ("either", "equal", lambda: file(body() + bytes(512))),
    "trailing_padding": ("read", "equal", lambda: file(body() + element(0xFFFCFFFC, "OB", bytes(64)))),
    "deflate_bomb": ("problem", "refuse", lambda: file(deflated(header() + bytes(1 << 26)), DEFLATED)),
}


# -- elements


def nested(depth: int) -> bytes:
    """Return a file with sequences in each other."""
    inner = element(0x00080104, "LO", b"inside")
    for _ in range(depth):
        inner = element(0x00081140, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner, length=0xFFFFFFFF)
        inner += b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    elements = base()
    early = {tag: elements.pop(tag) for tag in list(elements) if tag < 0x00081140}
    return file(encoded(early) + inner + encoded(elements))


def with_private(raw: bytes) -> bytes:
    """Return a file whose private element is given as bytes."""
    elements = base()
    late = {tag: elements.pop(tag) for tag in list(elements) if tag >= PRIVATE}
    late.pop(PRIVATE)
    return file(encoded(elements) + raw + encoded(late))


ELEMENTS: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "odd_length": ("either", "equal", lambda: with_private(element(PRIVATE, "LO", b"odd"))),
    "length_beyond_end": ("problem", "refuse", lambda: with_private(element(PRIVATE, "UN", b"ab", length=1 << 30))),
    "unknown_never_ends": ("problem", "refuse", lambda: with_private(element(PRIVATE, "UN", b"", length=0xFFFFFFFF))),
    "sequence_never_ends": ("problem", "refuse", lambda: with_private(element(PRIVATE, "SQ", b"", length=0xFFFFFFFF))),
    "nested_100": ("read", "equal", lambda: nested(100)),
    "nested_20000": ("problem", "either", lambda: nested(20_000)),
    "duplicate_tag": (
        "either",
        "equal",
        lambda: with_private(element(PRIVATE, "LO", b"first ") + element(PRIVATE, "LO", b"second")),
    ),
    "out_of_order": (
        "either",
        "equal",
        lambda: with_private(element(PRIVATE, "LO", b"ab") + element(NAME, "PN", b"Z")),
    ),
    "group_lengths": ("read", "equal", lambda: changed(t00280000=("UL", struct.pack("<I", 120)))),
    "unknown_vr": ("either", "either", lambda: with_private(element(PRIVATE, "ZZ", b"ab"))),
    "blank_vr": ("either", "either", lambda: with_private(element(PRIVATE, "  ", b"ab"))),
    "rows_one_byte": ("read", "refuse", lambda: changed(t00280010=("US", b"\6"))),
    "rows_unknown_vr": ("read", "either", lambda: changed(t00280010=("UN", number(6)))),
    "many_empty_elements": (
        "read",
        "equal",
        lambda: with_private(b"".join(element(0x00291002 + i, "LO", b"") for i in range(250))),
    ),
}


# -- values: the header is read and the pixels are FRAME, whatever the text

VALUES: dict[str, tuple[int, str, bytes]] = {
    "ds_text": (0x00180050, "DS", b"four"),
    "ds_empty": (0x00180050, "DS", b""),
    "ds_long": (0x00180050, "DS", b"4.0000000000000000000001"),
    "ds_nan": (0x00180050, "DS", b"NaN "),
    "ds_comma": (0x00180050, "DS", b"4,0 "),
    "is_text": (0x00200013, "IS", b"one "),
    "is_decimal": (0x00200013, "IS", b"1.0 "),
    "charset_unknown": (0x00080005, "CS", b"KLINGON "),
    "charset_empty": (0x00080005, "CS", b""),
    "charset_lies": (NAME, "PN", b"D\xc3\xb6e^J\xff"),
    "name_control": (NAME, "PN", b"Doe\n\x1b[31m\0^%s"),
    "name_formula": (NAME, "PN", b"=1+1"),
    "name_long": (NAME, "PN", b"D" * 500),
    "date_dots": (0x00080020, "DA", b"2024.02.29"),
    "date_month_13": (0x00080020, "DA", b"20241301"),
    "date_day_first": (0x00080020, "DA", b"29022024"),
    "time_colons": (0x00080030, "TM", b"10:15:00"),
    "time_hour_25": (0x00080030, "TM", b"250000"),
    "instance_uid_letters": (0x00080018, "UI", b"abc.def "),
    "instance_uid_path": (0x00080018, "UI", b"../../outside\0"),
    "instance_uid_newline": (0x00080018, "UI", b"2.25\n7"),
    "instance_uid_long": (0x00080018, "UI", b"1" * 100),
    "series_uid_empty": (0x0020000E, "UI", b""),
    "position_nan": (0x00200032, "DS", b"NaN\\0\\0 "),
    "position_two": (0x00200032, "DS", b"1\\2 "),
    "orientation_not_unit": (0x00200037, "DS", b"2\\0\\0\\0\\3\\0 "),
    "orientation_zero": (0x00200037, "DS", b"0\\0\\0\\0\\0\\0 "),
    "spacing_zero": (0x00280030, "DS", b"0\\0 "),
    "spacing_one": (0x00280030, "DS", b"2 "),
}
ABSENT = {
    "no_instance_uid": 0x00080018,
    "no_series_uid": 0x0020000E,
    "no_study_uid": 0x0020000D,
    "no_class_uid": 0x00080016,
    "no_position": 0x00200032,
    "no_orientation": 0x00200037,
    "no_spacing": 0x00280030,
    "no_patient_id": 0x00100020,
}


# -- descriptions of pixels


def pixels(shape: tuple[int, ...], bits: int, data: bytes, photometric: str, **more: tuple[str, bytes]) -> bytes:
    """Return a file with other pixels than FRAME; shape is (rows, columns, samples)."""
    described = {
        "t00280010": ("US", number(shape[0])),
        "t00280011": ("US", number(shape[1])),
        "t00280002": ("US", number(shape[2])),
        "t00280100": ("US", number(bits)),
        "t00280101": ("US", number(bits)),
        "t00280102": ("US", number(bits - 1)),
        "t00280004": ("CS", text(photometric)),
        "t7fe00010": ("OW" if bits > 8 else "OB", data + b"\0" * (len(data) % 2)),
    }
    return changed(**described | more)


def floats(tag: int, vr: str, kind: str, bits: int) -> bytes:
    """Return a file of floating-point pixels."""
    elements = base() | {BITS: ("US", number(bits)), tag: (vr, FRAME.astype(kind).tobytes())}
    for absent in (STORED, HIGH, SIGN, PIXELS):
        del elements[absent]
    return file(encoded(elements))


def palette(*, segmented: bool = False, bits: int = 16) -> bytes:
    """Return a palette image of 4 x 4 indices from 0 to 15."""
    table = np.arange(16) * 4096 if bits == 16 else np.arange(16) * 17
    data = table.astype("<u2").tobytes()
    if segmented:  # PS3.3 C.7.9.2: a discrete segment of 2, then a linear one to the end
        data = struct.pack("<7H", 0, 2, 0, int(table[1]), 1, 14, int(table[15]))
    first = 0x00281221 if segmented else 0x00281201
    tables = {f"t{first + i:08x}": ("OW", data) for i in range(3)}
    descriptors = {f"t{0x00281101 + i:08x}": ("US", struct.pack("<3H", 16, 0, bits)) for i in range(3)}
    return pixels((4, 4, 1), 8, bytes(range(16)), "PALETTE COLOR", **tables, **descriptors)


def colour(photometric: str, planar: int, count: int = 72) -> bytes:
    """Return a colour image of 4 x 6 pixels."""
    data = bytes(i * 3 % 251 for i in range(count))
    return pixels((4, 6, 3), 8, data, photometric, t00280006=("US", number(planar)))


def dirty() -> bytes:
    """Return FRAME with noise above the 12 bits that count."""
    return changed(t7fe00010=("OW", (FRAME | 0xA000).astype("<u2").tobytes()))


def modality_lut() -> bytes:
    """Return a file with a Modality LUT sequence of 4096 entries from 100."""
    lut = element(0x00283002, "US", struct.pack("<3H", 4096, 0, 16)) + element(0x00283004, "LO", b"US")
    lut += element(0x00283006, "OW", (np.arange(4096) + 100).astype("<u2").tobytes())
    return changed(t00283000=("SQ", item(lut)))


DESCRIPTIONS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "no_rows": ("refuse", lambda: changed(drop=ROWS)),
    "no_bits_allocated": ("refuse", lambda: changed(drop=BITS)),
    "no_bits_stored": ("either", lambda: changed(drop=STORED)),
    "no_samples": ("either", lambda: changed(drop=SAMPLES)),
    "no_sign": ("either", lambda: changed(drop=SIGN)),
    "no_photometric": ("either", lambda: changed(drop=PHOTOMETRIC)),
    "rows_zero": ("refuse", lambda: changed(t00280010=("US", number(0)))),
    "bits_stored_over_allocated": ("refuse", lambda: changed(t00280101=("US", number(20)))),
    "matrix_huge": ("refuse", lambda: changed(t00280010=("US", b"\xff\xff"), t00280011=("US", b"\xff\xff"))),
    "frames_huge": ("refuse", lambda: changed(t00280008=("IS", b"2147483647"))),
    "frames_too_many": ("refuse", lambda: changed(t00280008=("IS", b"4 "))),
    "frames_zero": ("either", lambda: changed(t00280008=("IS", b"0 "))),
    "frames_text": ("either", lambda: changed(t00280008=("IS", b"many"))),
    "pixels_twice": ("refuse", lambda: changed(t7fe00010=("OW", FRAME.tobytes() * 2))),
    "pixels_padded": ("either", lambda: changed(t7fe00010=("OW", FRAME.tobytes() + b"\0\0"))),
    "float_pixels": ("equal", lambda: floats(0x7FE00008, "OF", "<f4", 32)),
    "double_pixels": ("equal", lambda: floats(0x7FE00009, "OD", "<f8", 64)),
    "one_bit": ("other", lambda: pixels((3, 7, 1), 1, b"\xa5\x5a\x0f", "MONOCHROME2")),
    "palette_16": ("other", palette),
    "palette_8": ("other", lambda: palette(bits=8)),
    "palette_segmented": ("other", lambda: palette(segmented=True)),
    "rgb_by_pixel": ("other", lambda: colour("RGB", 0)),
    "rgb_by_plane": ("other", lambda: colour("RGB", 1)),
    "ybr_full": ("other", lambda: colour("YBR_FULL", 0)),
    "ybr_full_422": ("other", lambda: colour("YBR_FULL_422", 0, 48)),
    "garbage_high_bits": ("equal", dirty),
    "slope_zero": ("either", lambda: changed(t00281053=("DS", b"0 "), t00281052=("DS", b"0 "))),
    "slope_empty": ("either", lambda: changed(t00281053=("DS", b""), t00281052=("DS", b"0 "))),
    "slope_text": ("either", lambda: changed(t00281053=("DS", b"one "), t00281052=("DS", b"0 "))),
    "slope_nan": ("either", lambda: changed(t00281053=("DS", b"NaN "), t00281052=("DS", b"0 "))),
    "slope_two": ("either", lambda: changed(t00281053=("DS", b"1\\2 "), t00281052=("DS", b"0 "))),
    "modality_lut": ("other", modality_lut),
}


# -- no DICOM at all

FOREIGN: dict[str, Callable[[], bytes]] = {
    "zero_bytes": lambda: b"",
    "text_short": lambda: b"hello\n",
    "text_long": lambda: b"These are notes about the scan.\n" * 60,
    "csv": lambda: b"PatientID,Age\nP1,54\n" * 30,
    "json": lambda: b'{"PatientID": "P1"}' + b" " * 300,
    "gzip": lambda: gzip.compress(file(body()), mtime=0),
    "jpeg": lambda: b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(400),
    "apple_double": lambda: b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(400),
    "zeros": lambda: bytes(1000),
}


# -- places: names and kinds of files, where the system has them


def fifo(folder: Path) -> Path:
    """Make a FIFO, which blocks whoever opens it to read."""
    os.mkfifo(folder / "fifo.dcm")
    return folder / "fifo.dcm"


def unix_socket(folder: Path) -> Path:
    """Make a socket in the file system."""
    here = os.open(folder, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(f"/proc/self/fd/{here}/socket.dcm")  # the path of a socket may have 108 bytes only
    finally:
        os.close(here)
    return folder / "socket.dcm"


def link(name: str, target: str) -> Callable[[Path], Path]:
    """Return a function that makes a symbolic link."""

    def make(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return make


def named(name: bytes) -> Callable[[Path], Path]:
    """Return a function that writes the valid file under a strange name."""

    def make(folder: Path) -> Path:
        path = folder / os.fsdecode(name)
        path.write_bytes(file(body()))
        return path

    return make


def unreadable(folder: Path) -> Path:
    """Write a file that its owner may not read (root may)."""
    path = named(b"unreadable.dcm")(folder)
    path.chmod(0)
    return path


def dicomdir(folder: Path) -> Path:
    """Write a DICOMDIR that lists a file outside its folder."""
    ds, record = base_dataset("media", "1.2.840.10008.1.3.10"), Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["..", "..", "outside"]
    ds.FileSetID, ds.DirectoryRecordSequence = "MEDIA", [record]
    return write(folder / "DICOMDIR", ds)


PLACES: dict[str, Fault] = {
    "fifo": Fault(fifo, "skip", "none"),
    "socket": Fault(unix_socket, "skip", "none"),
    "link_to_itself": Fault(link("loop", "loop"), "skip", "none"),
    "link_to_parent": Fault(link("parent", ".."), "skip", "none"),
    "link_dangling": Fault(link("dangling.dcm", "nowhere.dcm"), "skip", "none"),
    "name_not_utf8": Fault(named(b"caf\xe9.dcm"), "read", "equal"),
    "name_with_newline": Fault(named(b"two\nlines.dcm"), "read", "equal"),
    "name_without_suffix": Fault(named(b"IM0001"), "read", "equal"),
    "unreadable": Fault(unreadable, "problem", "none"),
}
OBJECTS: dict[str, Fault] = {
    "report": Fault(lambda folder: make_report(folder / "report.dcm"), "read", "none"),
    "presentation_state": Fault(lambda folder: make_presentation_state(folder / "state.dcm"), "read", "none"),
    "structure_set": Fault(lambda folder: make_structure_set(folder / "structures.dcm"), "read", "none"),
    "dicomdir": Fault(dicomdir, "either", "none"),
}


def _register() -> None:
    """Put all the tables into FAULTS."""
    for name, (need, reading, content) in (CONTAINERS | ELEMENTS).items():
        add(name, need, reading, content)
    for name, (tag, vr, value) in VALUES.items():
        add(name, "either", "equal", lambda tag=tag, vr=vr, value=value: changed(**{f"t{tag:08x}": (vr, value)}))
    for name, tag in ABSENT.items():
        add(name, "either", "equal", lambda tag=tag: changed(drop=tag))
    for name, (reading, content) in (DESCRIPTIONS | ENCAPSULATED).items():
        add(name, "either", reading, content)
    for name, content in FOREIGN.items():
        add(name, "skip", "none", content)
    FAULTS.update(PLACES)
    FAULTS.update(OBJECTS)


_register()


def make_all(folder: Path, *names: str) -> Iterator[tuple[str, Path]]:
    """Make the faults of these names, or all, each in a folder of its own; yield name and path."""
    for name in names or FAULTS:
        (folder / name).mkdir(parents=True)
        yield name, FAULTS[name].make(folder / name)
