"""Elements one after the other in a buffer: where each begins, and their bytes with some of them changed.

It knows encodings, but neither files nor what elements mean.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .columns import Known
from .errors import BrokenFileError
from .keywords import concrete_vr
from .walker import (
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    UNDEFINED,
    VRS,
    NeedMoreError,
    UnrecognisedError,
    Walk,
    header_size,
    sequence_items,
    walk_elements,
)
from .writer import Block, element_bytes, item_bytes

# Bytes of the numbers in a value; AT is two of 16 bits.
_WIDTHS = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4),
    **dict.fromkeys(("UV", "SV", "FD", "OD", "OV"), 8),
}
_TEXTS = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"])


class Style(NamedTuple):
    """How elements are encoded."""

    implicit: bool = False
    big: bool = False


EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG = Style(), Style(implicit=True), Style(big=True)


@dataclass(frozen=True, eq=False)
class Run:
    """Elements one after the other: tag, VR and place of each header and value, and where the last one ends."""

    tags: Sequence[int]
    vrs: Sequence[str]
    starts: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]
    end: int

    @property
    def begin(self) -> int:
        """Where the first one begins."""
        return self.starts[0] if self.starts else self.end

    @cached_property
    def places(self) -> dict[int, int]:
        """Where in the run each tag is; of duplicates the last."""
        return {tag: i for i, tag in enumerate(self.tags)}

    @cached_property
    def group_sizes(self) -> dict[int, int]:
        """Bytes of each group that has a length, by that tag; the element itself does not count."""
        named = [tag for tag in self.places if not tag & 0xFFFF and self.lengths[self.places[tag]] == 4]
        if not named:
            return {}
        sizes = dict.fromkeys([tag >> 16 for tag in named], 0)
        for tag, start, stop in zip(self.tags, self.starts, [*self.starts[1:], self.end], strict=True):
            if tag & 0xFFFF and tag >> 16 in sizes:
                sizes[tag >> 16] += stop - start
        return {tag: sizes[tag >> 16] for tag in named}

    def spans(self, tag: int) -> list[tuple[int, int]]:
        """Return where elements of a tag, of which there should be one, begin and end, headers included."""
        if tag not in self.places:
            return []
        places = [self.places[tag]]
        if len(self.places) < len(self.tags):
            places = [i for i, other in enumerate(self.tags) if other == tag]
        return [(self.starts[i], self.starts[i + 1] if i + 1 < len(self.starts) else self.end) for i in places]

    def value(self, buffer: bytes, tag: int) -> tuple[str, bytes] | None:
        """Return VR ("" in implicit VR) and raw value of an element, of duplicates the last; None if not there."""
        if tag not in self.places:
            return None
        i = self.places[tag]
        return self.vrs[i], buffer[self.offsets[i] : self.offsets[i] + self.lengths[i]]


def run_of(
    tags: Sequence[int], vrs: Sequence[str], offsets: Sequence[int], lengths: Sequence[int], *, end: int, implicit: bool
) -> Run:
    """Return the run of elements whose values lie at `offsets`."""
    starts = [offset - header_size(vr, implicit) for offset, vr in zip(offsets, vrs, strict=True)]
    return Run(tags, vrs, starts, offsets, lengths, end)


def walk_run(buffer: bytes, begin: int, end: int, style: Style) -> Run:
    """Return the run of elements between two bytes.

    Raises
    ------
    BrokenFileError
        If they cannot be parsed.
    """
    if style.big:
        return _walk_big(buffer, begin, end)
    walk = Walk(begin)
    try:
        walk_elements(buffer, walk, style.implicit, end, nested=True)
    except (NeedMoreError, UnrecognisedError) as reason:
        raise BrokenFileError(f"elements cannot be parsed: {reason}") from None
    return run_of(walk.tags, walk.vrs, walk.offsets, walk.lengths, end=walk.position, implicit=style.implicit)


def encoded(tag: int, value: Known, style: Style) -> bytes:
    """Return an element with a little-endian value in some encoding.

    Parameters
    ----------
    tag
        Of the element.
    value
        Items of a sequence are in explicit VR, or as the encoding has them where the VR is "" or UN.
    style
        The encoding.

    Raises
    ------
    TagValueError
        If the value is too long.
    """
    vr, raw = value
    if style.implicit:
        return _framed_implicit(tag, vr, _to_implicit(raw) if vr == "SQ" else raw)
    little = element_bytes(tag, vr or concrete_vr(tag), raw)
    return _to_big(little) if style.big else little


def _framed_implicit(tag: int, vr: str, raw: bytes) -> bytes:
    if len(raw) % 2:
        raw += b" " if vr in _TEXTS else b"\0"
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(raw)) + raw


def changed(buffer: bytes, run: Run, wanted: Mapping[int, Known | None], style: Style) -> bytes:
    """Return the bytes of a run with some elements changed; all others are copied as they are.

    Parameters
    ----------
    buffer, run
        The elements.
    wanted
        New values by tag, None removes one. An element that is there is changed in its place, a new one put in where it
        belongs. Lengths of edited groups follow.
    style
        How the elements are encoded.

    Returns
    -------
    bytes
        From `run.begin` to `run.end`.
    """
    return patched(buffer, run.begin, run.end, patches_of(run, wanted, style))


Patch = tuple[int, int, bytes, int]
"""Where bytes begin and end that become others, these, and the tag."""


def patched(buffer: bytes, begin: int, end: int, patches: Iterable[Patch]) -> bytes:
    """Return the bytes between two places, with those of patches replaced."""
    view = memoryview(buffer)
    parts: list[Block] = []
    position = begin
    for start, stop, replacement, _ in patches:
        parts += (view[position:start], replacement)
        position = stop
    parts.append(view[position:end])
    return b"".join(parts)


def patches_of(run: Run, wanted: Mapping[int, Known | None], style: Style) -> list[Patch]:
    """Return which bytes of a run become which others, in their order; for parameters see `changed`."""
    new = {tag: encoded(tag, value, style) for tag, value in wanted.items() if value is not None}
    patches = _patches(run, wanted, new)
    patches += _length_patches(run, patches, style)
    return sorted(patches, key=lambda patch: (*patch[:2], patch[3]))


def _patches(run: Run, wanted: Mapping[int, object], new: Mapping[int, bytes]) -> list[Patch]:
    """Return which bytes become which others, each with the tag; of duplicates one is left."""
    patches: list[Patch] = []
    for tag in sorted(wanted):
        spans = run.spans(tag)
        if spans:
            contents = [new.get(tag, b""), *[b""] * (len(spans) - 1)]
            patches += [(*span, content, tag) for span, content in zip(spans, contents, strict=True)]
        elif tag in new:
            # The tags of a damaged file may be in any order.
            place = next((start for other, start in zip(run.tags, run.starts, strict=True) if other > tag), run.end)
            patches.append((place, place, new[tag], tag))
    return patches


def _length_patches(run: Run, patches: Sequence[Patch], style: Style) -> list[Patch]:
    """Return what makes the group lengths of edited groups true."""
    found: list[Patch] = []
    edited = {patch[3] for patch in patches}
    for tag, size in run.group_sizes.items():
        grown = [patch for patch in patches if patch[3] >> 16 == tag >> 16]
        if grown and tag not in edited:
            size += sum(len(patch[2]) - (patch[1] - patch[0]) for patch in grown)
            offset = run.offsets[run.places[tag]]
            found.append((offset, offset + 4, struct.pack(">L" if style.big else "<L", size), tag))
    return found


# -- items


def split_items(raw: bytes, style: Style) -> Iterator[tuple[bytes, bytes]]:
    """Yield each item of a sequence: its elements, and all of it as it stands.

    Raises
    ------
    BrokenFileError
        If the items cannot be parsed.
    """
    position = 0
    while position + 8 <= len(raw):
        group, element, length = struct.unpack_from("<HHL", raw, position)
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            return
        if tag != ITEM:
            raise BrokenFileError(f"({group:04X},{element:04X}) in place of a sequence item")
        content = position + 8
        if length == UNDEFINED:
            run = walk_run(raw, content, len(raw), style)
            if raw[run.end : run.end + 4] != struct.pack("<HH", ITEM_END >> 16, ITEM_END & 0xFFFF):
                raise BrokenFileError("a sequence item has no end")
            stop, end = run.end, run.end + 8
        else:
            stop = end = content + length
            if end > len(raw):
                raise BrokenFileError("a sequence item ends behind its sequence")
        yield raw[content:stop], raw[position:end]
        position = end


def _to_implicit(raw: bytes) -> bytes:
    """Return the items of a sequence in explicit VR in implicit VR."""
    items = []
    for item in sequence_items(raw, False):
        elements = [encoded(element.tag, (element.vr, element.raw), IMPLICIT_LITTLE) for element in item]
        items.append(item_bytes(b"".join(elements)))
    return b"".join(items)


# -- big endian


def swapped(raw: bytes, width: int) -> bytes:
    """Return numbers of `width` bytes in the other byte order."""
    whole = len(raw) // width * width
    return np.frombuffer(raw[:whole], np.uint8).reshape(-1, width)[:, ::-1].tobytes() + raw[whole:]


def big_frame(tag: int, vr: str, length: int) -> bytes:
    """Return the header of an element in explicit VR big endian."""
    layout = ">HH2s2xL" if vr in LONG_VRS else ">HH2sH"
    return struct.pack(layout, tag >> 16, tag & 0xFFFF, vr.encode(), length)


def _to_big(little: bytes) -> bytes:
    """Return elements in explicit VR little endian in big endian."""
    run = walk_run(little, 0, len(little), EXPLICIT_LITTLE)
    parts = []
    for tag, vr, offset, length in zip(run.tags, run.vrs, run.offsets, run.lengths, strict=True):
        raw = little[offset : offset + length]
        if vr == "SQ":
            items = [_to_big(content) for content, _ in split_items(raw, EXPLICIT_LITTLE)]
            raw = b"".join(struct.pack(">HHL", ITEM >> 16, ITEM & 0xFFFF, len(item)) + item for item in items)
        else:
            raw = swapped(raw, _WIDTHS.get(vr, 1))
        parts.append(big_frame(tag, vr, len(raw)) + raw)
    return b"".join(parts)


def _big_header(buffer: bytes, position: int) -> tuple[int, str, int, int]:
    """Return tag, VR, value offset and length of an element in explicit VR big endian."""
    try:
        group, element, code, short = struct.unpack_from(">HH2sH", buffer, position)
        if group == 0xFFFE:
            return group << 16 | element, "", position + 8, struct.unpack_from(">L", buffer, position + 4)[0]
        vr, is_long = VRS[code]
        if is_long:
            return group << 16 | element, vr, position + 12, struct.unpack_from(">L", buffer, position + 8)[0]
    except (struct.error, KeyError):
        raise BrokenFileError(f"no big-endian element at byte {position}") from None
    return group << 16 | element, vr, position + 8, short


def _walk_big(buffer: bytes, begin: int, end: int) -> Run:
    """Return the run of big-endian elements between two bytes."""
    tags: list[int] = []
    vrs: list[str] = []
    starts: list[int] = []
    offsets: list[int] = []
    lengths: list[int] = []
    position = begin
    while position < end:
        tag, vr, offset, length = _big_header(buffer, position)
        stop = _big_sequence_end(buffer, offset, end) if length == UNDEFINED else offset + length
        if stop > end or tag >> 16 == 0xFFFE:
            raise BrokenFileError(
                f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {position} is out of place or too long"
            )
        tags.append(tag)
        vrs.append(vr)
        starts.append(position)
        offsets.append(offset)
        lengths.append(stop - offset - (8 if length == UNDEFINED else 0))
        position = stop
    return Run(tags, vrs, starts, offsets, lengths, position)


def _big_sequence_end(buffer: bytes, position: int, end: int) -> int:
    """Return the byte behind the delimiter that ends a sequence of undefined length."""
    open_items = 1  # the sequence itself, and items and sequences of undefined length in it
    while position < end:
        tag, _, offset, length = _big_header(buffer, position)
        if tag in (ITEM_END, SEQUENCE_END):
            open_items -= 1
            position = offset
            if not open_items:
                return position
        elif length == UNDEFINED:
            open_items += 1
            position = offset
        else:
            position = offset + length
    raise BrokenFileError("a big-endian sequence has no end")
