"""Walk the element headers in a buffer of little-endian DICOM, without decoding or copying any value.

It opens no file; what it does not recognise it refuses, for `header` to hand to pydicom.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import BrokenFileError

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
GE_PRIVATE = "1.2.840.113619.5.2"

UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 200
# Files have some hundred elements; a flood of empty ones takes minutes and gigabytes.
MAX_ELEMENTS = 50_000
MAX_NESTED = 4_000_000

TRANSFER_SYNTAX = 0x00020010
FLOAT_PIXELS, DOUBLE_PIXELS, PIXELS = 0x7FE00008, 0x7FE00009, 0x7FE00010
PIXEL_TAGS = frozenset({FLOAT_PIXELS, DOUBLE_PIXELS, PIXELS})
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

# PS3.5 7.1.2: the long ones have two reserved bytes and a 32 bit length.
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_SHORT_VRS = "AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS"
_NAMES = [*LONG_VRS, *(_SHORT_VRS[i : i + 2] for i in range(0, len(_SHORT_VRS), 2))]
VRS = {name.encode(): (name, name in LONG_VRS) for name in _NAMES}

_REMEMBERED = 64  # lists of tags: layouts differ in more than these
_ENDLESS = ("SQ", "UN", "")  # VRs that may have undefined length

_SHORT = struct.Struct("<HH2sH").unpack_from
_TAG_LENGTH = struct.Struct("<HHL").unpack_from
_LENGTH = struct.Struct("<L").unpack_from


class Element(NamedTuple):
    """Where the value of one element lies: tag, VR ("" in implicit VR), offset and length in bytes."""

    tag: int
    vr: str
    offset: int
    length: int


class ItemElement(NamedTuple):
    """One element by value: tag, VR ("" in implicit VR) and raw little-endian value."""

    tag: int
    vr: str
    raw: bytes


class PixelElement(NamedTuple):
    """The pixel data element: tag, VR, offset of its value, and length in bytes (-1 when encapsulated)."""

    tag: int
    vr: str
    offset: int
    length: int


class NeedMoreError(Exception):
    """The buffer ends before byte `end`."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


class UnrecognisedError(Exception):
    """The walker does not know this encoding; pydicom may."""


@dataclass(slots=True)
class Walk:
    """What a pass over the element headers found; `guards` are the spans that fix the layout."""

    position: int
    tags: list[int] = field(default_factory=list)
    vrs: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    guards: list[tuple[int, int]] = field(default_factory=list)
    pixels: PixelElement | None = None

    def values(self, buffer: bytes) -> list[ItemElement]:
        """Return the elements with their values cut from the buffer."""
        rows = zip(self.tags, self.vrs, self.offsets, self.lengths, strict=True)
        return [ItemElement(tag, vr, buffer[offset : offset + length]) for tag, vr, offset, length in rows]


def element_header(buffer: bytes, position: int, implicit: bool) -> tuple[int, str, int, int]:
    """Return tag, VR, value offset and length of the element at `position`."""
    try:
        if implicit:
            group, element, length = _TAG_LENGTH(buffer, position)
            return group << 16 | element, "", position + 8, length
        group, element, code, length = _SHORT(buffer, position)
        vr, is_long = VRS[code]
        if is_long:
            return group << 16 | element, vr, position + 12, _LENGTH(buffer, position + 8)[0]
    except struct.error:
        raise NeedMoreError(position + 12) from None
    except KeyError:
        raise UnrecognisedError(f"VR {code!r} at byte {position}") from None
    return group << 16 | element, vr, position + 8, length


def header_size(vr: str, implicit: bool) -> int:
    """Return the bytes before the value of an element."""
    return 12 if vr in LONG_VRS and not implicit else 8


def _tag_length(buffer: bytes, position: int) -> tuple[int, int]:
    try:
        group, element, length = _TAG_LENGTH(buffer, position)
    except struct.error:
        raise NeedMoreError(position + 8) from None
    return group << 16 | element, length


def skip_items(buffer: bytes, position: int, implicit: bool, guards: list[tuple[int, int]], depth: int = 1) -> int:
    """Return the offset of the delimiter that ends the items of undefined length at `position`."""
    if depth > MAX_DEPTH:
        raise BrokenFileError(f"sequences are nested deeper than {MAX_DEPTH}")
    while True:
        tag, length = _tag_length(buffer, position)
        guards.append((position, position + 8))
        if len(guards) > MAX_NESTED:
            raise BrokenFileError(f"there are more than {MAX_NESTED} elements in sequences")
        if tag == SEQUENCE_END:
            return position
        if tag != ITEM:
            raise UnrecognisedError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) in place of an item at byte {position}")
        position += 8
        if length == UNDEFINED:
            position = _skip_item(buffer, position, implicit, guards, depth)
        else:
            position += length


def _skip_item(buffer: bytes, position: int, implicit: bool, guards: list[tuple[int, int]], depth: int) -> int:
    """Return the offset behind the delimiter that ends the item of undefined length at `position`."""
    while True:
        tag = _tag_length(buffer, position)[0]
        if tag >> 16 == 0xFFFE:
            guards.append((position, position + 8))
            if tag != ITEM_END:
                raise UnrecognisedError(f"delimiter (FFFE,{tag & 0xFFFF:04X}) in an item at byte {position}")
            return position + 8
        _, vr, offset, length = element_header(buffer, position, implicit)
        guards.append((position, offset))
        if length == UNDEFINED:
            # PS3.5 6.2.2: UN of undefined length holds implicit VR items.
            position = skip_items(buffer, offset, implicit or vr == "UN", guards, depth + 1) + 8
        else:
            position = offset + length


def walk_elements(buffer: bytes, walk: Walk, implicit: bool, size: int, *, nested: bool = False) -> None:
    """Walk elements from `walk.position` until pixel data, a delimiter or byte `size`.

    With `nested`, pixel data (of an icon) is an element like others.

    Raises
    ------
    NeedMoreError
        If the buffer ends before the elements do; `walk` then holds what came before.
    UnrecognisedError
        If an element header makes no sense.
    BrokenFileError
        If an element reaches beyond `size`, or there are too many.
    """
    position, guards = walk.position, walk.guards
    tags, vrs, offsets, lengths = walk.tags.append, walk.vrs.append, walk.offsets.append, walk.lengths.append
    while position < size:
        walk.position = position
        if size - position < 8:
            raise BrokenFileError(f"the header is truncated: {size - position} stray bytes at its end")
        if buffer[position : position + 2] == b"\xfe\xff" and buffer[position + 2 : position + 4] != b"\x00\xe0":
            return
        tag, vr, offset, length = element_header(buffer, position, implicit)
        if tag in PIXEL_TAGS and not nested:
            guards.append((position, offset))
            walk.pixels = PixelElement(tag, vr, offset, -1 if length == UNDEFINED else length)
            return
        end = offset + length
        if length == UNDEFINED:
            if vr not in _ENDLESS and not (nested and tag == PIXELS):
                raise UnrecognisedError(f"{vr} of undefined length at byte {offset}")
            # PS3.5 6.2.2: UN of undefined length holds implicit VR items.
            length = skip_items(buffer, offset, implicit or vr == "UN", guards) - offset
            end = offset + length + 8
        if end > size:
            name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
            raise BrokenFileError(f"the header is truncated: {name} ends at byte {end} of {size}")
        guards.append((position, offset))
        tags(tag)
        vrs(vr)
        offsets(offset)
        lengths(length)
        position = end
        if len(walk.tags) > MAX_ELEMENTS:
            raise BrokenFileError(f"there are more than {MAX_ELEMENTS} elements")
    walk.position = position


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the elements of a file lie, shared by all files whose element headers are the same bytes.

    `guards` are the spans of these bytes: starts and stops, ascending.
    """

    transfer_syntax: str
    implicit: bool
    tags: tuple[int, ...]
    vrs: tuple[str, ...]
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    pixels: PixelElement | None
    end: int
    guards: NDArray[np.intp]

    @classmethod
    def of(cls, walk: Walk, syntax: str, implicit: bool) -> "Layout":
        """Freeze what a walk found."""
        end = walk.pixels.offset if walk.pixels else walk.position
        columns = tuple(walk.tags), tuple(walk.vrs), tuple(walk.offsets), tuple(walk.lengths)
        guards = np.array(sorted(walk.guards), np.intp).reshape(-1, 2)
        return cls(syntax, implicit, *columns, walk.pixels, end, guards)

    @property
    def elements(self) -> Mapping[int, Element]:
        """Where the value of each tag lies; of duplicates the last."""
        return _Elements(self)

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Index of each tag in the columns; of duplicates the last."""
        return _places(self.tags)

    @cached_property
    def offset_array(self) -> NDArray[np.intp]:
        """`offsets` as an array, ascending."""
        return np.asarray(self.offsets, np.intp)

    @cached_property
    def guard_index(self) -> NDArray[np.intp]:
        """Byte positions whose bytes decide that a file has this layout, ascending."""
        fixed = [(128, 132)]
        if TRANSFER_SYNTAX in self.tags:
            i = self.tags.index(TRANSFER_SYNTAX)
            fixed.append((self.offsets[i], self.offsets[i] + self.lengths[i]))
        spans = np.concatenate([np.array(fixed, np.intp), self.guards])
        starts, stops = spans[np.argsort(spans[:, 0], kind="stable")].T
        sizes = stops - starts
        before = np.cumsum(sizes) - sizes
        found: NDArray[np.intp] = np.arange(sizes.sum()) + np.repeat(starts - before, sizes)
        return found


@lru_cache(_REMEMBERED)
def _places(tags: tuple[int, ...]) -> Mapping[int, int]:
    return {tag: i for i, tag in enumerate(tags)}


class _Elements(Mapping[int, Element]):
    """The elements of a layout, put together when they are asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def __getitem__(self, tag: int) -> Element:
        layout, i = self._layout, self._layout.places[tag]
        return Element(tag, layout.vrs[i], layout.offsets[i], layout.lengths[i])

    def __contains__(self, tag: object) -> bool:
        return tag in self._layout.places

    def __iter__(self) -> Iterator[int]:
        return iter(self._layout.places)

    def __len__(self) -> int:
        return len(self._layout.places)


def walk_layout(buffer: bytes, size: int, *, start: int = 132) -> Layout:
    """Walk a file's header from its first bytes.

    Parameters
    ----------
    buffer
        The first bytes of the file.
    size
        Length of the file in bytes.
    start
        Where the first element is: 132, or 0 in a file without preamble.

    Returns
    -------
    Layout
        With the VR encoding that is seen, whatever the transfer syntax says; where none is named, with a guessed one,
        or "" where the pixels are encapsulated.

    Raises
    ------
    NeedMoreError
        If the header is longer than the buffer.
    UnrecognisedError
        If only pydicom may read this encoding.
    BrokenFileError
        If an element reaches beyond the end of the file.
    """
    if start and buffer[128:132] != b"DICM":
        raise UnrecognisedError("no preamble")
    walk = walk_meta(buffer, size, start=start)
    syntax = named_syntax(buffer, walk)
    if syntax in (DEFLATED, BIG_ENDIAN, GE_PRIVATE) or is_big_endian(buffer, walk.position):
        raise UnrecognisedError(f"transfer syntax {syntax!r}")
    implicit = walk.position < size and buffer[walk.position + 4 : walk.position + 6] not in VRS
    walk_elements(buffer, walk, implicit, size)
    if walk.position < size and not walk.pixels:
        raise UnrecognisedError(f"a delimiter outside any sequence at byte {walk.position}")
    if not syntax and not (walk.pixels and walk.pixels.length < 0):
        syntax = IMPLICIT if implicit else EXPLICIT
    return Layout.of(walk, syntax, implicit)


def is_big_endian(buffer: bytes, position: int) -> bool:
    """Say whether a dataset begins with a low group number in big endian."""
    return buffer[position : position + 1] == b"\0" and buffer[position + 1 : position + 2] != b"\0"


def walk_meta(buffer: bytes, size: int, *, start: int = 132) -> Walk:
    """Walk the elements of group 2, explicit in every transfer syntax (PS3.10 7.1)."""
    walk = Walk(position=start)
    while buffer[walk.position : walk.position + 2] == b"\x02\x00":
        tag, vr, offset, length = element_header(buffer, walk.position, False)
        if offset + length > min(size, len(buffer)):
            raise NeedMoreError(offset + length)
        walk.guards.append((walk.position, offset))
        walk.tags.append(tag)
        walk.vrs.append(vr)
        walk.offsets.append(offset)
        walk.lengths.append(length)
        walk.position = offset + length
    if walk.position + 8 > len(buffer) and walk.position < size:
        raise NeedMoreError(walk.position + 8)
    return walk


def named_syntax(buffer: bytes, meta: Walk) -> str:
    """Return the transfer syntax that group 2 names, or ""."""
    if TRANSFER_SYNTAX not in meta.tags:
        return ""
    i = meta.tags.index(TRANSFER_SYNTAX)
    raw = buffer[meta.offsets[i] : meta.offsets[i] + meta.lengths[i]]
    return raw.decode("ascii", "replace").strip("\0 ")


def sequence_items(raw: bytes, implicit: bool) -> Iterator[list[ItemElement]]:
    """Yield the elements of each item of a sequence, given its raw value.

    Parameters
    ----------
    raw
        The value of the sequence, without its delimiter.
    implicit
        Whether the elements in it have no VR written.

    Raises
    ------
    BrokenFileError
        If the items do not parse.
    """
    position = 0
    try:
        while position + 8 <= len(raw):
            tag, length = _tag_length(raw, position)
            if tag != ITEM:
                raise BrokenFileError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) in place of a sequence item")
            position += 8
            undefined = length == UNDEFINED
            end = len(raw) if undefined else position + length
            walk = Walk(position)
            walk_elements(raw, walk, implicit, end, nested=True)
            yield walk.values(raw)
            position = walk.position + 8 if undefined else end
    except (NeedMoreError, UnrecognisedError) as reason:
        raise BrokenFileError(f"a sequence item cannot be parsed: {reason}") from None
