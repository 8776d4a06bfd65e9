"""An edited file from the old one: changed elements are spliced in, every other byte is copied as it is.

What must follow an edit follows: group lengths, and the class and instance in the file meta elements.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .columns import Known
from .errors import SaveError
from .header import Header, inflated, read_header
from .source import Source
from .walker import BIG_ENDIAN, DEFLATED, EXPLICIT, LONG_VRS, PIXELS, Layout, sequence_items
from .writer import element_bytes, item_bytes

_BLOCK = 4 << 20
_CLASS, _INSTANCE, _META_CLASS, _META_INSTANCE = 0x00080016, 0x00080018, 0x00020002, 0x00020003
_META_SYNTAX, _ALLOCATED = 0x00020010, 0x00280100

Changes = Mapping[int, Known | None]


@dataclass(frozen=True)
class _Piece:
    """One element as bytes, its header included; `raw` is its value."""

    tag: int
    encoded: bytes
    raw: bytes


def spliced(source: Source, changes: Changes, pixels: bytes | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file with some elements changed.

    Parameters
    ----------
    source
        The file as it is.
    changes
        VR and raw value (little endian, sequences in explicit VR) by tag; None removes an element.
    pixels
        Native little-endian PixelData in place of the old, compressed or not.

    Raises
    ------
    SaveError
        If the file cannot be spliced safely, with the reason.
    BrokenFileError
        If its header cannot be read.
    """
    header = read_header(source)
    name = source.path.decode("utf-8", "backslashreplace")
    if header.transfer_syntax == BIG_ENDIAN:
        raise SaveError(f"{name!r} is big endian: edits of such files cannot be saved; restore() drops them")
    if header.transfer_syntax == DEFLATED:
        if pixels is not None:
            raise SaveError(f"{name!r} is deflated: new pixels of such files cannot be saved; restore() drops them")
        yield from _deflated(source, header, changes)
        return
    if header.relocated:
        raise SaveError(
            f"{name!r} is damaged or oddly encoded, so that it cannot be edited safely; restore() drops the edits"
        )
    if pixels is not None and header.pixels is not None and header.pixels.length < 0:
        changes = {**changes, _META_SYNTAX: ("UI", EXPLICIT.encode())}
    head, start = _head(header, header.buffer, changes)
    yield head
    if pixels is not None:
        yield _pixel_element(header, changes, pixels)
        start = _behind_pixels(header)
    for position in range(start, source.stamp.size, _BLOCK):
        yield source.read(position, _BLOCK)


def _deflated(source: Source, header: Header, changes: Changes) -> Iterator[bytes]:
    """Splice the inflated dataset and deflate it again."""
    start = next(i for i, tag in enumerate(header.layout.tags) if tag >> 16 > 2)
    begin = header.layout.offsets[start] - _header_size(header.layout.vrs[start])
    plain = inflated(source, begin)
    head, pixels = _head(header, plain, changes)
    meta = _meta_end(head)
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = engine.compress(head[meta:] + plain[pixels:]) + engine.flush()
    yield head[:meta] + packed + b"\0" * (len(packed) % 2)


def _pixel_element(header: Header, changes: Changes, pixels: bytes) -> bytes:
    """Return the element of native pixels."""
    bits = changes.get(_ALLOCATED) or ("US", header.raw(_ALLOCATED))
    vr = "OB" if struct.unpack("<H", bits[1])[0] <= 8 else "OW"
    return _piece(PIXELS, (vr, pixels), header.layout.implicit).encoded


def _behind_pixels(header: Header) -> int:
    """Return where the old pixel element ends."""
    found = header.pixels
    if found is None or any("pixel data" in problem for problem in header.problems):
        raise SaveError("the file has no pixel data, or damaged ones, that could be replaced")
    if found.length >= 0:
        return found.offset + found.length
    last = header.fragments[-1] if header.fragments else (found.offset, 0)
    return last[0] + last[1] + 8


def _meta_end(head: bytes) -> int:
    """Return where the file meta elements end, by their group length."""
    (length,) = struct.unpack_from("<L", head, 140)
    return 144 + int(length)


def _header_size(vr: str) -> int:
    return 12 if vr in LONG_VRS else 8


def _head(header: Header, buffer: bytes, changes: Changes) -> tuple[bytes, int]:
    """Return the bytes before the pixels with the changes, and where the pixel element begins in the old file."""
    layout = header.layout
    first, pieces, end = _pieces(header, buffer)
    behind = [tag for tag in changes if layout.pixels is not None and tag > layout.pixels.tag]
    if behind:
        raise SaveError(f"elements behind the pixels cannot be edited: {', '.join(f'{tag:08X}' for tag in behind)}")
    wanted = {**changes, **_followers(pieces, changes)}
    result = _laid_out(pieces, wanted, layout.implicit)
    lengths = _group_lengths(result, {tag >> 16 for tag in wanted}, layout.implicit)
    return buffer[:first] + b"".join(lengths.get(piece.tag, piece.encoded) for piece in result), end


def _pieces(header: Header, buffer: bytes) -> tuple[int, list[_Piece], int]:
    """Cut a header into its elements; return where the first begins, them, and where the last ends."""
    layout = header.layout
    if not layout.tags:
        raise SaveError("the file has no elements before its pixels")
    implicit = layout.implicit and layout.tags[0] >> 16 != 2
    begin = layout.offsets[0] - (8 if implicit else _header_size(layout.vrs[0]))
    pixels = layout.pixels
    end = layout.end
    if pixels is not None:
        end = pixels.offset - (8 if layout.implicit else _header_size(pixels.vr))
    pieces = []
    position = begin
    starts = [offset - _size_of_header(layout, i) for i, offset in enumerate(layout.offsets)]
    for i, tag in enumerate(layout.tags):
        stop = starts[i + 1] if i + 1 < len(starts) else end
        offset = layout.offsets[i]
        pieces.append(_Piece(tag, buffer[position:stop], buffer[offset : offset + layout.lengths[i]]))
        position = stop
    return begin, pieces, end


def _size_of_header(layout: Layout, index: int) -> int:
    tag, vr = layout.tags[index], layout.vrs[index]
    return 8 if layout.implicit and tag >> 16 != 2 else _header_size(vr)


def _followers(pieces: list[_Piece], changes: Changes) -> dict[int, Known]:
    """Return the file meta elements that follow an edited class or instance."""
    there = {piece.tag for piece in pieces}
    follow = {_META_CLASS: changes.get(_CLASS), _META_INSTANCE: changes.get(_INSTANCE)}
    return {tag: ("UI", value[1]) for tag, value in follow.items() if value is not None and tag in there}


def _laid_out(pieces: list[_Piece], wanted: Mapping[int, Known | None], implicit: bool) -> list[_Piece]:
    """Put changed elements in the place of old ones, and new ones where they belong."""
    left = {tag: value for tag, value in sorted(wanted.items()) if value is not None}
    result: list[_Piece] = []
    for piece in pieces:
        result += [_piece(tag, left.pop(tag), implicit) for tag in list(left) if tag < piece.tag]
        if piece.tag not in wanted:
            result.append(piece)
        elif piece.tag in left:
            result.append(_piece(piece.tag, left.pop(piece.tag), implicit))
    return result + [_piece(tag, value, implicit) for tag, value in left.items()]


def _piece(tag: int, value: Known, implicit: bool) -> _Piece:
    vr, raw = value
    encoded = element_bytes(tag, vr, raw)
    if implicit and tag >> 16 != 2:
        if vr == "SQ":
            return _Piece(tag, _implicit_element(tag, _to_implicit(raw)), raw)
        padded = encoded[_header_size(vr) :]
        encoded = _implicit_element(tag, padded)
    return _Piece(tag, encoded, raw)


def _implicit_element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _to_implicit(raw: bytes) -> bytes:
    """Return the items of a sequence in implicit VR."""
    items = []
    for item in sequence_items(raw, False):
        values = [(element.tag, _to_implicit(element.raw) if element.vr == "SQ" else element.raw) for element in item]
        items.append(item_bytes(b"".join(_implicit_element(*value) for value in values)))
    return b"".join(items)


def _group_lengths(pieces: list[_Piece], edited: set[int], implicit: bool) -> dict[int, bytes]:
    """Return the group length elements of edited groups that have one, by tag."""
    found = {}
    for group in edited:
        tag = group << 16
        if any(piece.tag == tag for piece in pieces):
            size = sum(len(piece.encoded) for piece in pieces if piece.tag >> 16 == group and piece.tag != tag)
            found[tag] = _piece(tag, ("UL", struct.pack("<L", size)), implicit).encoded
    return found
