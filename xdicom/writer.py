"""Write a new DICOM file, explicit VR little endian, byte for byte.

It decodes no values and chooses no names: elements come as raw little-endian bytes, and where the file goes is told.
"""

import errno
import hashlib
import itertools
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .errors import SaveError, TagValueError
from .walker import EXPLICIT, LONG_VRS, PIXEL_TAGS, PIXELS, VRS

Element = tuple[int, str, bytes]
Values = Mapping[int, tuple[str, bytes]]
Block = bytes | bytearray | memoryview

IMPLEMENTATION_CLASS_UID = "2.25.181407210825848137165877591694790537671"
"""Says in every file that xdicom wrote it."""

_UNDEFINED = 0xFFFFFFFF
_UNDEFINED_PIXELS = struct.pack("<HH2s2xL", PIXELS >> 16, PIXELS & 0xFFFF, b"OB", _UNDEFINED)
_SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
_SHORT_LIMIT = 0xFFFE
_NUL_PADDED = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UI", "UN"})
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)

_SOP_CLASS, _SOP_INSTANCE, _FRAMES = 0x00080016, 0x00080018, 0x00280008
_SAMPLES, _ROWS, _COLUMNS = 0x00280002, 0x00280010, 0x00280011
_ALLOCATED, _STORED, _HIGH_BIT, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_SMALLEST, _LARGEST, _PADDING = (0x00280106, 0x00280108), (0x00280107, 0x00280109), (0x00280120, 0x00280121)


class PixelForm(NamedTuple):
    """How pixels that are copied as they are stand in a file: the element, its length in bytes, the transfer syntax.

    A length of None is undefined: the pixels come as items, fragments of compressed frames.
    """

    tag: int
    vr: str
    length: int | None
    transfer_syntax: str = EXPLICIT


class Written(NamedTuple):
    """What was written: size in bytes, and blake2b digest of all of it."""

    size: int
    digest: bytes


def write_file(
    target: str | os.PathLike[str],
    elements: Iterable[Element],
    pixels: Block | Iterable[Block] | None = None,
    *,
    length: int | None = None,
    form: PixelForm | None = None,
    mode: int = 0o644,
) -> Written:
    """Write a new Part 10 file in explicit VR little endian, and flush it.

    Parameters
    ----------
    target
        Where; nothing may be there yet, not even a link.
    elements
        (tag, VR, raw little-endian value) in any order. Group 2 is made anew, group lengths are left out, and pixel
        data come separately. Sequences have explicit VR and explicit lengths (`explicit.explicit_values`).
    pixels
        Value of PixelData, native little endian, whole or in blocks of any sizes; None for an object without pixels.
    length
        Of the blocks together, in bytes; as Rows, Columns and the like say where not given.
    form
        In place of length: what `pixels` are, whatever Rows, Columns and the like say.
    mode
        Permissions of the file, less the umask.

    Returns
    -------
    Written
        Size and digest of the file.

    Raises
    ------
    SaveError
        If the target exists, can't be written or the disk is full, or the pixels aren't as long as the header says.
        The part that was written is removed; so it is whatever else goes wrong.
    TagValueError
        If an element can't be encoded.
    """
    return write_blocks(target, file_blocks(elements, pixels, length=length, form=form), mode=mode)


def file_blocks(
    elements: Iterable[Element],
    pixels: Block | Iterable[Block] | None = None,
    *,
    length: int | None = None,
    form: PixelForm | None = None,
) -> Iterator[Block]:
    """Return the bytes of a new file, block by block; for parameters and errors see `write_file`."""
    blocks = [pixels] if isinstance(pixels, bytes | bytearray | memoryview) else pixels
    ordered = _ordered(elements)
    if any(tag in PIXEL_TAGS for tag, _, _ in ordered):
        raise SaveError("pixel data are among the elements: expected them separately, as pixels")
    values = {tag: (vr, raw) for tag, vr, raw in ordered}
    if blocks is not None and form is None:
        form = PixelForm(PIXELS, "OB" if _number(values, _ALLOCATED) <= 8 else "OW", _pixel_length(values, length))
    place = PIXELS if form is None else form.tag
    before = b"".join(element_bytes(*element) for element in ordered if element[0] < place)
    after = b"".join(element_bytes(*element) for element in ordered if element[0] > place)
    start = bytes(128) + b"DICM" + _meta(values, EXPLICIT if form is None else form.transfer_syntax) + before
    if blocks is None or form is None:
        return iter([start, after])
    if form.length is None:
        start += _UNDEFINED_PIXELS
        return itertools.chain([start], blocks, [_SEQUENCE_END, after])
    start += _header(form.tag, form.vr, form.length + form.length % 2)
    return _streamed(start, blocks, form.length, after)


def flush_directory(path: str | os.PathLike[str]) -> None:
    """Make the names in a directory survive a power loss (does nothing on Windows, which has no such call)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems can't
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def element_bytes(tag: int, vr: str, raw: bytes) -> bytes:
    """Return one element in explicit VR little endian: header, value, padding to even length.

    A value that is too long for the 16 bit length of its VR is written as UN (PS3.5 6.2.2).

    Raises
    ------
    TagValueError
        If the VR is unknown or the value is longer than 4 GB.
    """
    if len(raw) % 2:
        raw += b"\0" if vr in _NUL_PADDED else b" "
    return _header(tag, vr, len(raw)) + raw


def sequence_bytes(items: Iterable[Iterable[Element]]) -> bytes:
    """Return the value of a sequence: items of elements in explicit VR, lengths explicit too.

    Parameters
    ----------
    items
        Each the elements of an item, in any order; sequences among them as this function returns them.
    """
    return b"".join(item_bytes(b"".join(element_bytes(*element) for element in _ordered(item))) for item in items)


def item_bytes(content: bytes) -> bytes:
    """Return the item of a sequence that holds encoded elements."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def check_pixel_module(elements: Values, low: int, high: int) -> None:
    """Check what no validator sees: that stored integers fit, and that US and SS follow PixelRepresentation.

    Parameters
    ----------
    elements
        VR and raw value by tag.
    low, high
        Least and greatest stored integer of the pixels.

    Raises
    ------
    SaveError
        With every fault found.
    """
    allocated, stored = _number(elements, _ALLOCATED), _number(elements, _STORED)
    high_bit, signed = _number(elements, _HIGH_BIT), _number(elements, _SIGNED)
    bounds = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    faults = []
    if not 0 < stored <= allocated or high_bit != stored - 1:
        faults.append(f"BitsAllocated {allocated}, BitsStored {stored} and HighBit {high_bit} don't go together")
    if not bounds[0] <= low <= high <= bounds[1]:
        faults.append(f"pixels from {low} to {high} are beyond the {bounds[0]} to {bounds[1]} that BitsStored allows")
    for tag in (*_SMALLEST, *_LARGEST, *_PADDING):
        if tag in elements and len(elements[tag][1]) >= 2:
            faults += _dependent_faults(tag, elements[tag], bool(signed), (low, high))
    if faults:
        raise SaveError("the pixel description is wrong: " + "; ".join(faults))


def _dependent_faults(tag: int, element: tuple[str, bytes], signed: bool, extent: tuple[int, int]) -> list[str]:
    """Return what is wrong with an element whose VR depends on PixelRepresentation."""
    vr, name = "SS" if signed else "US", f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    if element[0] != vr:
        return [f"{name} has VR {element[0]} where PixelRepresentation wants {vr}"]
    value = int.from_bytes(element[1][:2], "little", signed=signed)
    if (tag in _SMALLEST and value > extent[0]) or (tag in _LARGEST and value < extent[1]):
        return [f"{name} is {value} where the pixels reach from {extent[0]} to {extent[1]}"]
    return []


def _number(values: Values, tag: int, default: int | None = None) -> int:
    """Return an element of VR US, or IS in the case of NumberOfFrames."""
    raw = values[tag][1] if tag in values else b""
    if tag == _FRAMES and raw.strip(b" \0"):
        return int(raw)
    if len(raw) >= 2:
        return int.from_bytes(raw[:2], "little")
    if default is not None:
        return default
    raise SaveError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is absent or empty, and pixels can't be written without it")


def _pixel_length(values: Values, length: int | None) -> int:
    """Return the length of the pixels in bytes, before padding, by the header and as the caller says."""
    bits = _number(values, _ROWS) * _number(values, _COLUMNS) * _number(values, _ALLOCATED)
    expected = (bits * _number(values, _SAMPLES, 1) * _number(values, _FRAMES, 1) + 7) // 8
    if length not in (None, expected):
        raise SaveError(f"the pixels have {length} bytes where Rows, Columns and the like say {expected}")
    if expected >= _UNDEFINED - 1:
        raise SaveError(f"{expected} bytes of pixels don't fit one file: expected less than 4 GB")
    return expected


def _ordered(elements: Iterable[Element]) -> list[Element]:
    """Return elements sorted by tag, without group 2 and group lengths; duplicates are refused."""
    ordered = sorted((e for e in elements if e[0] >> 16 != 2 and e[0] & 0xFFFF), key=lambda element: element[0])
    for one, other in itertools.pairwise(ordered):
        if one[0] == other[0]:
            raise SaveError(f"({one[0] >> 16:04X},{one[0] & 0xFFFF:04X}) is given twice")
    return ordered


def _header(tag: int, vr: str, length: int) -> bytes:
    if vr.encode() not in VRS:
        raise TagValueError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has VR {vr!r}: expected one of PS3.5 6.2")
    if length >= _UNDEFINED:
        raise TagValueError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has {length} bytes: expected less than 4 GB")
    if length > _SHORT_LIMIT and vr not in LONG_VRS:
        vr = "UN"
    layout = "<HH2s2xL" if vr in LONG_VRS else "<HH2sH"
    return struct.pack(layout, tag >> 16, tag & 0xFFFF, vr.encode(), length)


def _meta(values: Values, transfer_syntax: str) -> bytes:
    """Return group 2 (PS3.10 7.1)."""
    from . import __version__

    missing = [
        name for tag, name in ((_SOP_CLASS, "SOPClassUID"), (_SOP_INSTANCE, "SOPInstanceUID")) if not _uid(values, tag)
    ]
    if missing:
        raise SaveError(f"{' and '.join(missing)} are absent or empty, and no file can be written without")
    group = b"".join(
        [
            element_bytes(0x00020001, "OB", b"\0\1"),
            element_bytes(0x00020002, "UI", _uid(values, _SOP_CLASS)),
            element_bytes(0x00020003, "UI", _uid(values, _SOP_INSTANCE)),
            element_bytes(0x00020010, "UI", transfer_syntax.encode()),
            element_bytes(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()),
            element_bytes(0x00020013, "SH", f"XDICOM_{__version__}"[:16].encode()),
        ]
    )
    return element_bytes(0x00020000, "UL", struct.pack("<L", len(group))) + group


def _uid(values: Values, tag: int) -> bytes:
    return values[tag][1].strip(b"\0 ") if tag in values else b""


def _streamed(start: bytes, blocks: Iterable[Block], length: int, after: bytes) -> Iterator[Block]:
    yield start
    done = 0
    for block in blocks:
        view = memoryview(block).cast("B")
        done += len(view)
        if done > length:
            break
        yield view
    if done != length:
        raise SaveError(
            f"the pixels have {'at least ' if done > length else ''}{done} bytes where {length} were expected"
        )
    yield bytes(length % 2) + after


def write_blocks(target: str | os.PathLike[str], blocks: Iterable[Block], *, mode: int = 0o644) -> Written:
    """Create a file of blocks and flush it; remove it again whatever goes wrong; see `write_file`."""
    target = Path(target)
    try:
        descriptor = os.open(target, _FLAGS, mode)
    except FileExistsError:
        raise SaveError(f"{str(target)!r} exists already, and a new file never replaces another") from None
    except OSError as error:
        raise SaveError(f"{str(target)!r} can't be created: {error.strerror}") from error
    try:
        try:
            return _write(target, descriptor, blocks)
        finally:
            os.close(descriptor)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise


def _write(target: Path, descriptor: int, blocks: Iterable[Block]) -> Written:
    size, digest = 0, hashlib.blake2b(digest_size=32)
    for block in blocks:  # outside of `reported`: what the pixels' own source raises is no fault of this file
        size += len(block)
        digest.update(block)
        with _reported(target):
            view = memoryview(block)
            while view:
                view = view[os.write(descriptor, view) :]
    with _reported(target):
        _flush(descriptor)
    return Written(size, digest.digest())


@contextmanager
def _reported(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise SaveError(f"{str(target)!r} can't be written: {reason}") from error


def _flush(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # there, fsync leaves data in the drive's cache
    else:
        os.fsync(descriptor)
