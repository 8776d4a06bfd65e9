"""Locate every element of one DICOM file, and its pixels, without decoding any value.

Values are decoded in `tags`, and pixels in `pixels`; what is not plain little endian is left to pydicom.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import pydicom
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element

from .errors import BrokenFileError, NotDicomError
from .source import Source
from .walker import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    LONG_VRS,
    PIXEL_TAGS,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
    VRS,
    ItemElement,
    Layout,
    NeedMoreError,
    PixelElement,
    UnrecognisedError,
    Walk,
    walk_elements,
    walk_layout,
    walk_meta,
)

MAX_HEADER = 256 << 20
MAX_INFLATED = 2 << 30
MAX_RATIO = 200
WINDOW = 16384


class Element(NamedTuple):
    """Where the value of one element lies: tag, VR ("" in implicit VR), offset and length in bytes."""

    tag: int
    vr: str
    offset: int
    length: int


@dataclass
class Header:
    """The elements of one file as located values.

    Attributes
    ----------
    layout
        Where the elements before the pixels lie in `buffer`.
    buffer
        The bytes up to `layout.end`.
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

    @cached_property
    def elements(self) -> dict[int, Element]:
        """Top-level elements before the pixels by tag, group 2 included; of duplicates the last."""
        layout = self.layout
        rows = zip(layout.tags, layout.vrs, layout.offsets, layout.lengths, strict=True)
        return {row[0]: Element(*row) for row in rows}

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


def read_header(source: Source) -> Header:
    """Locate the elements and the pixels of one file.

    Parameters
    ----------
    source
        An open file.

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
    size = source.stamp.size
    if size == 0:
        raise NotDicomError("the file is empty")
    wanted = WINDOW
    while True:
        buffer = source.read(0, min(wanted, size))
        try:
            layout = walk_layout(buffer, size)
            break
        except NeedMoreError as need:
            if need.end > size or len(buffer) == size:
                raise BrokenFileError(f"the header is truncated at byte {size}") from None
            if need.end > MAX_HEADER:
                raise BrokenFileError(f"the header is longer than {MAX_HEADER} bytes") from None
            wanted = max(2 * wanted, need.end + 64)
        except UnrecognisedError as reason:
            return _read_unusual(source, str(reason))
    if len(buffer) < layout.end:
        buffer = source.read(0, layout.end)
    header = Header(layout, buffer[: layout.end])
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
        if len(ahead) - (position - start) < 8:
            header.problems.append("the pixel data is truncated: it ends without a sequence delimiter")
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
    """Read what the walker does not: other encodings, no preamble, no meta, unknown VRs."""
    buffer = source.read(0, min(WINDOW, source.stamp.size))
    if buffer[128:132] != b"DICM" and not _looks_like_dicom(buffer):
        raise NotDicomError("there is no DICOM prefix at byte 128 and no element at byte 0")
    try:
        return _through_pydicom(source)
    except (BrokenFileError, NotDicomError):
        raise
    except RecursionError:
        raise BrokenFileError("sequences are nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever its parts raise on damaged files
        raise BrokenFileError(f"{reason}; pydicom: {type(error).__name__}: {error}") from None


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
    """Let pydicom read the header, and lay it out anew in explicit little endian."""
    start, meta = _meta_of(source)
    if str(meta.get("TransferSyntaxUID", "")) == DEFLATED:
        return _deflated(source)
    stopped: list[tuple[int, str, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if int(tag) in PIXEL_TAGS:
            stopped.append((int(tag), vr or "", length))
        return bool(stopped)

    with open(source.path, "rb") as file:
        dataset = pydicom.filereader.read_partial(file, at_pixels, force=True)
        position = file.tell()
    implicit, little = dataset.original_encoding
    syntax = str(meta.get("TransferSyntaxUID", "")) or (IMPLICIT if implicit else EXPLICIT)
    header = _relaid(dataset, meta, syntax if little else BIG_ENDIAN)
    if not stopped:
        _distrust_end(source, header, position)
    else:
        tag, vr, length = stopped[0]
        offset = position + (12 if vr in LONG_VRS else 8)
        pixels = PixelElement(tag, vr, offset, -1 if length == UNDEFINED else length)
        header.layout = replace(header.layout, pixels=pixels, implicit=bool(implicit))
        if little:
            read_behind_pixels(source, header)
        elif offset + length > source.stamp.size:
            header.problems.append("the pixel data is truncated")
    _refuse_junk(header, bool(start))
    return header


def _meta_of(source: Source) -> tuple[int, pydicom.dataset.FileMetaDataset]:
    """Return where the file meta elements end (0 where there are none), and these."""
    with open(source.path, "rb") as file:
        preamble = pydicom.filereader.read_preamble(file, force=True)
        if preamble is None:
            file.seek(0)
        meta = pydicom.filereader._read_file_meta_info(file)
        return (file.tell() if preamble or meta else 0), meta


def _distrust_end(source: Source, header: Header, position: int) -> None:
    """Note where pydicom stopped before the end, for it drops what follows without a word."""
    size = source.stamp.size
    rest = source.read(position, min(64, size - position)) if position < size else b""
    if any(rest):
        header.problems.append(f"the header is truncated or damaged at byte {position} of {size}")


def _refuse_junk(header: Header, has_prefix: bool) -> None:
    """Refuse what parsed by chance: a file without prefix must show a UID, or a known element in order."""
    tags = [tag for tag in header.layout.tags if tag >> 16 > 2]
    if not tags and not header.layout.tags:
        raise NotDicomError("no element could be read")
    if has_prefix:
        return
    known = sum(pydicom.datadict.dictionary_has_tag(tag) for tag in tags)
    if known < max(1, len(tags) // 3):
        raise NotDicomError("there is no DICOM prefix, and hardly any known element")


def _deflated(source: Source) -> Header:
    """Walk a deflated dataset; offsets count in the file as it would be without deflation."""
    buffer = source.read(0, min(WINDOW, source.stamp.size))
    walk = walk_meta(buffer, source.stamp.size)
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


def _relaid(dataset: pydicom.Dataset, meta: pydicom.Dataset, syntax: str) -> Header:
    """Write pydicom's elements in explicit little endian and walk that; offsets do not point into the file."""
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = True, False
    target.write(b"\0" * 128 + b"DICM")
    problems = []
    for owner in (meta, dataset):
        for tag in sorted(owner.keys()):
            if int(tag) not in PIXEL_TAGS:
                problems += _write_element(target, owner, tag)
    buffer = target.getvalue()
    walk = Walk(132)
    walk_elements(buffer, walk, False, len(buffer))
    return Header(Layout.of(walk, syntax, False), buffer, problems=problems, relocated=True)


def _write_element(target: DicomBytesIO, owner: pydicom.Dataset, tag: Any) -> list[str]:
    """Append one element; return what is wrong with it where it cannot be written."""
    alone = DicomBytesIO()
    alone.is_little_endian, alone.is_implicit_VR = True, False
    try:
        write_data_element(alone, owner[tag], pydicom.charset.convert_encodings(owner.get("SpecificCharacterSet", "")))
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever its parts raise on damaged values
        return [f"({int(tag) >> 16:04X},{int(tag) & 0xFFFF:04X}) cannot be read: {error}"]
    target.write(alone.getvalue())
    return []


__all__ = ["Element", "Header", "inflated", "read_header"]
