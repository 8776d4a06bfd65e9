"""Locate every element of one DICOM file, and its pixels, without decoding any value.

Values are decoded in `tags`, and pixels in `pixels`; what is not plain little endian is left to pydicom.
"""

import io
import itertools
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from .errors import BrokenFileError, NotDicomError
from .source import Source
from .walker import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    LONG_VRS,
    MAX_ELEMENTS,
    PIXEL_TAGS,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
    VRS,
    Element,
    ItemElement,
    Layout,
    NeedMoreError,
    PixelElement,
    UnrecognisedError,
    Walk,
    is_big_endian,
    named_syntax,
    walk_elements,
    walk_layout,
    walk_meta,
)

MAX_HEADER = 256 << 20
MAX_INFLATED = 2 << 30
MAX_RATIO = 200
WINDOW = 16384
# Bytes of the numbers in a value, for big endian; AT is two of 16 bits.
_WIDTHS = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4),
    **dict.fromkeys(("UV", "SV", "FD", "OD", "OV"), 8),
}
# warnings.catch_warnings is not safe with threads.
_PYDICOM = threading.Lock()


@dataclass
class Header:
    """The elements of one file as located values.

    Attributes
    ----------
    layout
        Where the elements before the pixels lie in `buffer`.
    buffer
        The bytes up to `layout.end`, at least.
    tail
        Elements behind the pixels, by value.
    fragments
        (offset, length) in bytes of each fragment of encapsulated pixels, item headers excluded; the first is the
        Basic Offset Table.
    offset_table
        The numbers in the Basic Offset Table.
    problems
        What is wrong with the file though it can be read.
    relocated
        True where `buffer` is not the file's own bytes (deflated, big endian, ...), so that offsets of elements do
        not point into the file; that of the pixels does, but for a deflated file.
    """

    layout: Layout
    buffer: bytes
    tail: list[ItemElement] = field(default_factory=list)
    fragments: list[tuple[int, int]] = field(default_factory=list)
    offset_table: tuple[int, ...] = ()
    problems: list[str] = field(default_factory=list)
    relocated: bool = False

    @property
    def transfer_syntax(self) -> str:
        """Transfer syntax UID; a guess where the file names none."""
        return self.layout.transfer_syntax

    @property
    def pixels(self) -> PixelElement | None:
        """The pixel data element, or None."""
        return self.layout.pixels

    @property
    def elements(self) -> Mapping[int, Element]:
        """Top-level elements before the pixels by tag, group 2 included; of duplicates the last."""
        return self.layout.elements

    def raw(self, tag: int) -> bytes:
        """Return the raw value, little endian; KeyError where the file has no such element."""
        for element in self.tail:
            if element.tag == tag:
                return element.raw
        found = self.elements[tag]
        return self.buffer[found.offset : found.offset + found.length]

    def vr(self, tag: int) -> str:
        """Return the VR as written, "" in implicit VR; KeyError where the file has no such element."""
        for element in self.tail:
            if element.tag == tag:
                return element.vr
        return self.elements[tag].vr

    def items(self) -> Iterator[ItemElement]:
        """Yield every element but the pixels as (tag, VR, raw value)."""
        behind = {element.tag for element in self.tail}
        for found in self.elements.values():
            if found.tag not in behind:
                yield ItemElement(found.tag, found.vr, self.buffer[found.offset : found.offset + found.length])
        yield from self.tail


def read_header(source: Source, window: int = WINDOW) -> Header:
    """Locate the elements and the pixels of one file.

    Parameters
    ----------
    source
        An open file.
    window
        How many bytes to read at first.

    Returns
    -------
    Header

    Raises
    ------
    NotDicomError
        If the file is not DICOM.
    BrokenFileError
        If it is DICOM but damaged so that its header cannot be trusted.
    """
    if source.stamp.size == 0:
        raise NotDicomError("the file is empty")
    buffer = source.read(0, window)
    has_prefix = buffer[128:132] == b"DICM"
    if not has_prefix and not _looks_like_dicom(buffer):
        raise NotDicomError("there is no DICOM prefix at byte 128 and no element at byte 0")
    try:
        header = _walked(source, buffer, 132 if has_prefix else 0)
    except UnrecognisedError as reason:
        header = _read_unusual(source, str(reason))
    if not has_prefix:
        _refuse_junk(header)
    return header


def _walked(source: Source, buffer: bytes, start: int) -> Header:
    """Walk the elements from byte `start`, given the first bytes of a file; more are read where needed."""
    size = source.stamp.size
    while True:
        try:
            layout = walk_layout(buffer, size, start=start)
            break
        except NeedMoreError as need:
            if need.end > size or len(buffer) == size:
                raise BrokenFileError(f"the header is truncated at byte {size}") from None
            if need.end > MAX_HEADER:
                raise BrokenFileError(f"the header is longer than {MAX_HEADER} bytes") from None
            buffer = source.read(0, max(2 * len(buffer), need.end + 64))
            if len(buffer) < min(need.end, size):
                raise BrokenFileError(f"the file ends at byte {len(buffer)}, not {size}: it is changing") from None
    if len(buffer) < layout.end:
        buffer = source.read(0, layout.end)
    header = Header(layout, buffer[: layout.end])
    if layout.implicit != (layout.transfer_syntax == IMPLICIT) and layout.tags[-1] >> 16 > 2:
        kind = "implicit" if layout.implicit else "explicit"
        header.problems.append(f"the elements are in {kind} VR, against transfer syntax {layout.transfer_syntax!r}")
    read_behind_pixels(source, header)
    return header


def read_behind_pixels(source: Source, header: Header) -> None:
    """Find the fragments and the elements behind the pixel data; note what is wrong there."""
    pixels = header.pixels
    if pixels is None:
        return
    size = source.stamp.size
    if pixels.length < 0:
        end = _walk_fragments(source, header, pixels.offset)
    else:
        end = pixels.offset + pixels.length
        if end > size:
            there = max(0, size - pixels.offset)
            header.problems.append(
                f"the pixel data is truncated: {pixels.length} bytes are announced, {there} are there"
            )
    if 0 <= end < size:
        _read_tail(source, header, end)


def _walk_fragments(source: Source, header: Header, position: int) -> int:
    """Fill `header.fragments` and return the offset behind the pixels, or -1 where they are damaged."""
    size, ahead, start = source.stamp.size, b"", 0
    while True:
        if not start <= position <= start + len(ahead) - 8:
            ahead, start = source.read(position, 64), position
        if position == size and header.fragments:
            header.problems.append("the pixel data ends without a sequence delimiter")
            header.offset_table = _offset_table(source, header.fragments)
            return size
        if len(ahead) - (position - start) < 8:
            header.problems.append("the pixel data is truncated: it ends within an item")
            return -1
        group, element, length = struct.unpack_from("<HHL", ahead, position - start)
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            header.offset_table = _offset_table(source, header.fragments)
            return position + 8
        if tag != ITEM or length == UNDEFINED or position + 8 + length > size:
            header.problems.append(f"the encapsulated pixel data is damaged at byte {position}")
            return -1
        header.fragments.append((position + 8, length))
        position += 8 + length


def _offset_table(source: Source, fragments: list[tuple[int, int]]) -> tuple[int, ...]:
    """Read the Basic Offset Table, which is the first fragment."""
    if not fragments or fragments[0][1] % 4 or fragments[0][1] > MAX_HEADER:
        return ()
    raw = source.read(*fragments[0])
    return struct.unpack(f"<{len(raw) // 4}L", raw)


def _read_tail(source: Source, header: Header, start: int) -> None:
    """Read the elements behind the pixels; junk there is a problem, not an error."""
    size = source.stamp.size
    if size - start > MAX_HEADER:
        header.problems.append(f"{size - start} bytes that were not read follow the pixel data")
        return
    buffer = source.read(start, size - start)
    walk = Walk(0)
    try:
        walk_elements(buffer, walk, header.layout.implicit, len(buffer))
    except (NeedMoreError, UnrecognisedError, BrokenFileError):
        pass_over = len(buffer) - walk.position
        if any(buffer[walk.position :]):
            header.problems.append(f"{pass_over} bytes that are no elements follow the pixel data")
    if walk.pixels:
        header.problems.append("there is a second pixel data element; the first is used")
    header.tail = walk.values(buffer)
    if any(tag < PIXELS for tag in walk.tags):
        header.problems.append("elements are out of order: some follow the pixel data that belong before it")


def _read_unusual(source: Source, reason: str) -> Header:
    """Read what the walker does not: deflated, big endian, unknown VRs."""
    try:
        with _PYDICOM, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            header = _through_pydicom(source)
    except (BrokenFileError, NotDicomError):
        raise
    except RecursionError:
        raise BrokenFileError("sequences are nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever its parts raise on damaged files
        raise BrokenFileError(f"{reason}; pydicom: {type(error).__name__}: {_one_line(error)}") from None
    header.problems += dict.fromkeys(f"pydicom: {_one_line(warning.message)}" for warning in told)
    return header


def _one_line(message: object) -> str:
    """Return the first line of a message, cut to a sensible length."""
    return next(iter(str(message).splitlines()), "")[:300]


def _looks_like_dicom(buffer: bytes) -> bool:
    """Say whether a file without prefix begins with an element of a low group and a sensible length."""
    if len(buffer) < 16:
        return False
    for order in "<>":
        group, element, code, short = struct.unpack_from(f"{order}HH2sH", buffer)
        if group in (2, 8, 0x10) and element <= 0x2000:
            if code in VRS and short <= 1024:
                return True
            if struct.unpack_from(f"{order}L", buffer, 4)[0] <= 1024:
                return True
    return False


def _through_pydicom(source: Source) -> Header:
    """Let pydicom read the header, and lay it out anew in little endian."""
    head = source.read(0, WINDOW)
    meta = walk_meta(head, source.stamp.size, start=132 if head[128:132] == b"DICM" else 0)
    syntax = named_syntax(head, meta)
    if syntax == DEFLATED:
        return _deflated(source, meta)
    if syntax not in ("", BIG_ENDIAN) and is_big_endian(head, meta.position):
        raise BrokenFileError(f"the elements are in big endian, against transfer syntax {syntax!r}")
    stopped: list[tuple[int, str, int]] = []
    count = itertools.count()

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if next(count) > MAX_ELEMENTS:
            raise BrokenFileError(f"there are more than {MAX_ELEMENTS} elements")
        if int(tag) in PIXEL_TAGS:
            stopped.append((int(tag), vr or "", length))
        return bool(stopped)

    with open(source.path, "rb") as file:
        dataset = pydicom.filereader.read_partial(file, at_pixels, force=True)
        position = file.tell()
    implicit, little = dataset.original_encoding
    guess = BIG_ENDIAN if not little else syntax or (IMPLICIT if implicit else EXPLICIT)
    header = _relaid(dataset, head[: meta.position], meta, guess)
    if not stopped:
        _distrust_end(source, header, position)
        return header
    tag, vr, length = stopped[0]
    offset = position + (12 if vr in LONG_VRS else 8)
    pixels = PixelElement(tag, vr, offset, -1 if length == UNDEFINED else length)
    header.layout = replace(header.layout, pixels=pixels)
    if little:
        read_behind_pixels(source, header)
    elif offset + length > source.stamp.size:
        header.problems.append("the pixel data is truncated")
    else:
        behind = io.BytesIO(source.read(offset + length, min(MAX_HEADER, source.stamp.size)))
        tail = _explicit_bytes(pydicom.filereader.read_dataset(behind, False, False), header.problems)
        walk = Walk(0)
        walk_elements(tail, walk, False, len(tail))
        header.tail = walk.values(tail)
    return header


def _distrust_end(source: Source, header: Header, position: int) -> None:
    """Note where pydicom stopped before the end, for it drops what follows without a word."""
    size = source.stamp.size
    rest = source.read(position, min(64, size - position)) if position < size else b""
    if any(rest):
        header.problems.append(f"the header is truncated or damaged at byte {position} of {size}")


def _refuse_junk(header: Header) -> None:
    """Refuse a file without prefix that parsed by chance: it must have known elements."""
    tags = [tag for tag in header.layout.tags if tag >> 16 > 2]
    known = sum(pydicom.datadict.dictionary_has_tag(tag) for tag in tags)
    if known < max(1, len(tags) // 3):
        raise NotDicomError("there is no DICOM prefix, and hardly any known element")


def _deflated(source: Source, walk: Walk) -> Header:
    """Walk a deflated dataset; offsets count in the file as it would be without deflation."""
    buffer = inflated(source, walk.position)
    try:
        walk_elements(buffer, walk, False, len(buffer))
    except (NeedMoreError, UnrecognisedError) as reason:
        raise BrokenFileError(f"the deflated dataset is damaged: {reason}") from None
    header = Header(Layout.of(walk, DEFLATED, False), buffer[: walk.position], relocated=True)
    pixels = header.pixels
    if pixels and pixels.offset + pixels.length > len(buffer):
        header.problems.append("the pixel data is truncated")
    elif pixels and pixels.offset + pixels.length < len(buffer):
        tail = Walk(pixels.offset + pixels.length)
        walk_elements(buffer, tail, False, len(buffer))
        header.tail = tail.values(buffer)
    return header


def inflated(source: Source, start: int) -> bytes:
    """Return the file as it would be with the dataset at byte `start` not deflated, within limits."""
    packed = source.read(start, source.stamp.size - start)
    limit = min(MAX_INFLATED, max(64 << 20, MAX_RATIO * len(packed)))
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = engine.decompress(packed, limit)
    except zlib.error as error:
        raise BrokenFileError(f"the deflated dataset is damaged: {error}") from None
    if engine.unconsumed_tail:
        raise BrokenFileError(f"the deflated dataset is larger than {limit} bytes")
    if not engine.eof:
        raise BrokenFileError("the deflated dataset is truncated")
    return source.read(0, start) + plain


def _relaid(dataset: pydicom.Dataset, head: bytes, meta: Walk, syntax: str) -> Header:
    """Lay out pydicom's elements anew behind those of group 2, so that offsets do not point into the file."""
    problems: list[str] = []
    buffer = head + _explicit_bytes(dataset, problems)
    walk_elements(buffer, meta, False, len(buffer))
    return Header(Layout.of(meta, syntax, False), buffer, problems=problems, relocated=True)


def _explicit_bytes(dataset: pydicom.Dataset, problems: list[str]) -> bytes:
    """Return the elements of a dataset in explicit little endian."""
    return b"".join(_explicit_elements(dataset, problems))


def _explicit_elements(dataset: pydicom.Dataset, problems: list[str]) -> Iterator[bytes]:
    """Yield the elements of a dataset in explicit little endian, with the bytes of values as they are."""
    for tag in sorted(dataset.keys()):
        try:
            vr, raw = _explicit_value(dataset, tag, problems)
        except (RecursionError, BrokenFileError):
            raise
        except Exception as error:  # noqa: BLE001 - pydicom raises whatever its parts raise on damaged values
            problems.append(f"({int(tag) >> 16:04X},{int(tag) & 0xFFFF:04X}) cannot be read: {_one_line(error)}")
            continue
        if vr not in LONG_VRS and len(raw) > 0xFFFF:
            vr = "UN"
        head = struct.pack("<HH2s", int(tag) >> 16, int(tag) & 0xFFFF, vr.encode())
        yield head + (struct.pack("<HL", 0, len(raw)) if vr in LONG_VRS else struct.pack("<H", len(raw))) + raw


def _explicit_value(dataset: pydicom.Dataset, tag: BaseTag, problems: list[str]) -> tuple[str, bytes]:
    """Return VR and raw little-endian value of an element; pydicom has decoded what it needs for itself."""
    unread: object = dataset.get_item(tag)
    if isinstance(unread, RawDataElement) and unread.VR != "SQ":
        vr = str(unread.VR or "")
        vr = vr if vr.encode() in VRS else _dictionary_vr(int(tag))
        raw = unread.value or b""
        if len(raw) < unread.length:  # pydicom takes what is there
            raise BrokenFileError(f"the header is truncated: {len(raw)} bytes of {unread.length} are there")
        return vr, raw if unread.is_little_endian else _swapped(raw, _WIDTHS.get(vr, 1))
    element = dataset[tag]
    if element.VR == "SQ":
        items = [_explicit_bytes(item, problems) for item in element.value]
        return "SQ", b"".join(struct.pack("<HHL", ITEM >> 16, ITEM & 0xFFFF, len(item)) + item for item in items)
    if isinstance(element.value, int):
        return element.VR, element.value.to_bytes(_WIDTHS[element.VR], "little", signed=element.value < 0)
    values = [element.value] if isinstance(element.value, str) else list(element.value or ())
    text = "\\".join(str(value) for value in values).encode("ascii", "replace")
    return element.VR, text + b" " * (len(text) % 2)


def _dictionary_vr(tag: int) -> str:
    try:
        return pydicom.datadict.dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"


def _swapped(raw: bytes, width: int) -> bytes:
    """Return big-endian numbers of `width` bytes in little endian."""
    whole = len(raw) // width * width
    return np.frombuffer(raw[:whole], np.uint8).reshape(-1, width)[:, ::-1].tobytes() + raw[whole:]


__all__ = ["Element", "Header", "inflated", "read_header"]
