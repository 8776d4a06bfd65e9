"""Re-encode elements in explicit VR little endian with explicit lengths, whatever VR and lengths they were read with.

It changes no value but those of sequences; a VR that is not written comes from the dictionary, else it is UN.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace

from .errors import BrokenFileError
from .keywords import concrete_vr
from .walker import (
    ITEM,
    ITEM_END,
    MAX_DEPTH,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
    NeedMoreError,
    UnrecognisedError,
    element_header,
)
from .writer import Values, element_bytes, item_bytes

_SIGNED = 0x00280103


class CompressedPixelsError(BrokenFileError):
    """A sequence holds compressed pixels, which can't be in a file of native ones."""


@dataclass(slots=True)
class _Context:
    """What decides the VRs in one item: how it is encoded, the signedness of pixels, its private creators."""

    implicit: bool
    signed: bool
    depth: int = 0
    creators: dict[int, str] = field(default_factory=dict)

    def inner(self, implicit: bool) -> "_Context":
        if self.depth >= 2 * MAX_DEPTH:  # a sequence and its item each count
            raise BrokenFileError(f"sequences are nested deeper than {MAX_DEPTH}")
        return replace(self, implicit=implicit, depth=self.depth + 1, creators={})

    def note(self, tag: int, raw: bytes) -> None:
        """Remember what later elements of the item depend on."""
        if _is_creator(tag):
            self.creators[tag] = raw.decode("latin-1").strip(" \0")
        elif tag == _SIGNED and len(raw) == 2:
            self.signed = raw != b"\0\0"

    def vr(self, tag: int) -> str:
        creator = self.creators.get(tag >> 16 << 16 | tag >> 8 & 0xFF, "")
        return concrete_vr(tag, creator=creator, signed=self.signed)


def explicit_values(header: Values, *, implicit: bool) -> dict[int, tuple[str, bytes]]:
    """Return the elements of a header as `writer.write_file` takes them.

    Parameters
    ----------
    header
        VR ("" where it isn't written) and raw little-endian value by tag.
    implicit
        Whether the sequences in it are in implicit VR.

    Returns
    -------
    dict
        VR and value by tag, sorted. A sequence with compressed pixels, such as an icon, is left out.

    Raises
    ------
    BrokenFileError
        If a sequence can't be parsed.
    """
    context = _Context(implicit, signed=False)
    for tag, (_, raw) in header.items():
        context.note(tag, raw)
    result = {}
    for tag, (written, raw) in sorted(header.items()):
        vr = written or context.vr(tag)
        with suppress(CompressedPixelsError):
            result[tag] = (vr, to_explicit(raw, implicit=implicit, signed=context.signed) if vr == "SQ" else raw)
    return result


def to_explicit(raw: bytes, *, implicit: bool = True, signed: bool = False) -> bytes:
    """Return the value of a sequence in explicit VR with explicit lengths, all that is nested in it included.

    Parameters
    ----------
    raw
        Its items, little endian, with or without a delimiter at the end.
    implicit
        Whether they are in implicit VR.
    signed
        Whether PixelRepresentation is 1 outside the sequence.

    Raises
    ------
    BrokenFileError
        If the items can't be parsed.
    CompressedPixelsError
        If pixels in them are compressed.
    """
    try:
        return _items(raw, 0, len(raw), _Context(implicit, signed))[0]
    except (NeedMoreError, UnrecognisedError) as reason:
        raise BrokenFileError(f"a sequence can't be parsed: {reason}") from None


def _is_creator(tag: int) -> bool:
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def _items(buffer: bytes, position: int, end: int, context: _Context) -> tuple[bytes, int]:
    """Return the items from `position` on, re-encoded, and where the sequence ends: at `end` or behind a delimiter."""
    items: list[bytes] = []
    while position < end:
        tag, _, content, length = element_header(buffer, position, True)
        if tag == SEQUENCE_END:
            return b"".join(items), content
        if tag != ITEM:
            raise UnrecognisedError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) in place of an item at byte {position}")
        until = end if length == UNDEFINED else _within(content + length, end)
        elements, position = _elements(buffer, content, until, context.inner(context.implicit))
        items.append(item_bytes(elements))
    return b"".join(items), position


def _elements(buffer: bytes, position: int, end: int, context: _Context) -> tuple[bytes, int]:
    """Return the elements of an item, re-encoded, and where the item ends."""
    elements: list[bytes] = []
    while position < end:
        delimiter, _, content, _ = element_header(buffer, position, True)
        if delimiter == ITEM_END:
            return b"".join(elements), content
        tag, written, content, length = element_header(buffer, position, context.implicit)
        vr = written or context.vr(tag)
        if length == UNDEFINED:
            if tag == PIXELS:
                raise CompressedPixelsError(f"compressed pixels at byte {position} of a sequence: expected native ones")
            if vr not in ("SQ", "UN"):
                raise UnrecognisedError(f"{vr} of undefined length at byte {position}")
            vr, implicit = "SQ", context.implicit or written == "UN"  # PS3.5 6.2.2: such UN holds implicit VR
            raw, position = _items(buffer, content, end, context.inner(implicit))
        else:
            position = _within(content + length, end)
            raw = buffer[content:position]
            if vr == "SQ":
                raw = _items(raw, 0, length, context.inner(context.implicit))[0]
        context.note(tag, raw)
        if tag & 0xFFFF:  # group lengths are retired, and would be wrong
            elements.append(element_bytes(tag, vr, raw))
    return b"".join(elements), position


def _within(position: int, end: int) -> int:
    if position > end:
        raise UnrecognisedError(f"an element ends at byte {position} of {end}")
    return position
