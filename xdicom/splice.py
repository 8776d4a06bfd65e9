"""An edited file from the old one: changed elements are spliced in, every other byte is copied as it is.

What must follow an edit follows: group lengths, the class and instance in the file meta elements, offset tables. Which
element goes where is told by the caller.
"""

import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from .columns import Known
from .errors import BrokenFileError, SaveError
from .formats import NATIVE
from .header import Header, inflated
from .instance import EXTENDED_LENGTHS, EXTENDED_OFFSETS, read_instance
from .runs import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Patch,
    Run,
    Style,
    big_frame,
    changed,
    patched,
    patches_of,
    run_of,
    swapped,
    walk_run,
)
from .source import Source
from .walker import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    GE_PRIVATE,
    IMPLICIT,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
    Layout,
    header_size,
)
from .writer import Block, item_bytes

_BLOCK = 4 << 20
# Files of one series share layouts, and mostly what becomes of them. Edits that are worth remembering, in bytes.
_LAYOUTS, _REMEMBERED, _SHORT = 64, 256, 4096
_CLASS, _INSTANCE, _META_CLASS, _META_INSTANCE = 0x00080016, 0x00080018, 0x00020002, 0x00020003
_META_SYNTAX, _PIXELS_LENGTH = 0x00020010, 0x7FE00000
# PS3.5 A.4: offsets and lengths of compressed frames, and their length together.
_EXTENDED = (EXTENDED_OFFSETS, EXTENDED_LENGTHS, 0x7FE00003)

Changes = Mapping[int, Known | None]
Read = Callable[[int, int], bytes]


class NewPixels(NamedTuple):
    """Native little-endian PixelData: its length in bytes, BitsAllocated, and what gives the bytes of each frame."""

    length: int
    bits: int
    blocks: Callable[[], Iterable[Block]]


@dataclass(frozen=True)
class _Old:
    """The file as it is, inflated where it was deflated.

    `pixels` are the bytes from the header of the pixel element to its end; where there are none, both are the end.
    """

    buffer: bytes
    meta: Run
    data: Run
    style: Style
    pixels: tuple[int, int]
    size: int
    read: Read
    deflated: bool = False


def spliced(
    source: Source,
    header: Header,
    changes: Changes,
    *,
    pixels: NewPixels | None = None,
    keep: Sequence[int] | None = None,
) -> Iterator[Block]:
    """Return the bytes of a file with some top-level elements changed.

    Parameters
    ----------
    source, header
        The file as it is.
    changes
        VR and raw value (little endian; sequences in explicit VR, or as the file has them where the VR is "" or UN) by
        tag; None removes an element.
    pixels
        Take the place of the old ones, compressed or not.
    keep
        Numbers of the frames that stay, from 0, ascending.

    Raises
    ------
    SaveError
        If the file cannot be spliced safely, with the reason; before anything is yielded.
    """
    try:
        wanted = dict(changes)
        if pixels is not None:
            wanted |= dict.fromkeys(_EXTENDED)
        if pixels is not None or keep is not None:
            wanted[_PIXELS_LENGTH] = None
        if keep is None and _is_plain(source, header, changes):
            return _plain(source, header, wanted, pixels)
        return _rebuilt(source, header, wanted, pixels, keep)
    except (SaveError, BrokenFileError) as error:
        name = source.path.decode("utf-8", "backslashreplace")
        raise SaveError(f"{name!r} cannot be edited safely: {error}; restore() drops the edits") from error


def _is_plain(source: Source, header: Header, changes: Changes) -> bool:
    """Say whether native pixels end a file that is read as it stands, and no element behind them changes."""
    pixels = header.pixels
    if pixels is None or header.relocated or any(tag > PIXELS for tag in changes):
        return False
    return pixels.length >= 0 and pixels.offset + pixels.length == source.stamp.size


def _plain(source: Source, header: Header, wanted: Changes, pixels: NewPixels | None) -> Iterator[Block]:
    """Return the bytes of a plain file; the first block has the header of the pixel element."""
    layout, old = header.layout, header.pixels
    assert old is not None
    start = old.offset - header_size(old.vr, layout.implicit)
    style = IMPLICIT_LITTLE if layout.implicit else EXPLICIT_LITTLE
    meta, data = _head_patches(_meta_run(layout), _data_run(layout, start), style, wanted)
    patches = [*meta, *data]
    if pixels is None:
        head = patched(header.buffer, 0, old.offset, patches)
        return itertools.chain([head], _copied(source.read, old.offset, source.stamp.size))
    element, body = _new_pixels(style, pixels)
    return itertools.chain([patched(header.buffer, 0, start, patches) + element], body)


def _rebuilt(
    source: Source,
    header: Header,
    wanted: dict[int, Known | None],
    pixels: NewPixels | None,
    keep: Sequence[int] | None,
) -> Iterator[Block]:
    """Return the bytes of any file, part by part."""
    old = _opened(source, header)
    element = b""
    body: Iterable[Block]
    if pixels is not None:
        if old.pixels[0] >= old.size or old.pixels[1] < 0:
            raise SaveError("it has no pixel data, or damaged ones, that could be replaced")
        element, body = _new_pixels(old.style, pixels)
        if header.transfer_syntax not in NATIVE:
            wanted[_META_SYNTAX] = "UI", (IMPLICIT if old.style.implicit else EXPLICIT).encode()
    elif keep is not None:
        element, body, offsets = _kept_frames(old, header, keep)
        wanted |= offsets
    else:
        body = _copied(old.read, old.pixels[0], old.size if old.pixels[1] < 0 else min(old.pixels[1], old.size))
    head, tail = _head(old, wanted), _tail(old, wanted)
    if old.deflated:
        return itertools.chain([head[0]], _deflated(itertools.chain([head[1], element], body, tail)))
    return itertools.chain([b"".join([*head, element])], body, tail)


def _deflated(blocks: Iterable[Block]) -> Iterator[bytes]:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    size = 0
    for block in blocks:
        packed = engine.compress(block)
        size += len(packed)
        yield packed
    packed = engine.flush()
    yield packed + b"\0" * ((size + len(packed)) % 2)


def _copied(read: Read, start: int, end: int) -> Iterator[bytes]:
    for position in range(start, end, _BLOCK):
        yield read(position, min(_BLOCK, end - position))


# -- the old file


def _opened(source: Source, header: Header) -> _Old:
    """Find the elements of a file in its own bytes; SaveError where only pydicom can."""
    buffer, layout, size = header.buffer, header.layout, source.stamp.size
    read: Read = source.read
    style = IMPLICIT_LITTLE if layout.implicit else EXPLICIT_LITTLE
    meta = _meta_run(layout)
    meta_end = meta.end
    if header.transfer_syntax == DEFLATED:
        plain = inflated(source, meta_end)
        buffer, size, read = plain, len(plain), _reader(plain)
    pixels = header.pixels
    start = size if pixels is None else pixels.offset - header_size(pixels.vr, layout.implicit)
    stop = size if pixels is None else _behind_pixels(header)
    if header.relocated and header.transfer_syntax != DEFLATED:
        style = _other_style(header)
        buffer = source.read(0, start)
        meta_end = meta_end if meta.tags else 0 if buffer[128:132] != b"DICM" else 132
        data = walk_run(buffer, meta_end, start, style)
        _refuse_difference(header, data)
    else:
        data = _data_run(layout, start)
    return _Old(buffer, meta, data, style, (start, stop), size, read, header.transfer_syntax == DEFLATED)


@lru_cache(_LAYOUTS)
def _meta_run(layout: Layout) -> Run:
    """Return the file meta elements; without any, an empty run where the first element begins."""
    count = sum(1 for tag in layout.tags if tag >> 16 == 2)
    first = layout.offsets[0] - header_size(layout.vrs[0], layout.implicit and not count) if layout.tags else layout.end
    end = layout.offsets[count - 1] + layout.lengths[count - 1] if count else first
    return _part(layout, slice(count), end, False)


@lru_cache(_LAYOUTS)
def _data_run(layout: Layout, end: int) -> Run:
    """Return the elements of the dataset, before the pixels."""
    return _part(layout, slice(len(_meta_run(layout).tags), None), end, layout.implicit)


def _part(layout: Layout, part: slice, end: int, implicit: bool) -> Run:
    columns = layout.tags[part], layout.vrs[part], layout.offsets[part], layout.lengths[part]
    return run_of(*columns, end=end, implicit=implicit)


def _reader(content: bytes) -> Read:
    def read(start: int, length: int) -> bytes:
        return content[start : start + length]

    return read


def _other_style(header: Header) -> Style:
    """Return the encoding of a file that is not plain little endian, if it is a known one."""
    if header.transfer_syntax == BIG_ENDIAN:
        return EXPLICIT_BIG
    if header.transfer_syntax == GE_PRIVATE:  # implicit little endian but for the pixels
        return IMPLICIT_LITTLE
    raise SaveError("only pydicom reads its encoding")


def _refuse_difference(header: Header, data: Run) -> None:
    """Refuse where the elements are not those that were read."""
    layout = header.layout
    read = {tag: length for tag, vr, length in zip(layout.tags, layout.vrs, layout.lengths, strict=True) if vr != "SQ"}
    here = dict(zip(data.tags, data.lengths, strict=True))
    same = {tag for tag in layout.tags if tag >> 16 != 2} == here.keys()
    if not same or any(here[tag] != length for tag, length in read.items() if tag in here):
        raise SaveError("its elements can be read in two ways")


def _behind_pixels(header: Header) -> int:
    """Return where the pixel element ends; SaveError where that is not known."""
    pixels = header.pixels
    assert pixels is not None
    if pixels.length >= 0:
        return pixels.offset + pixels.length
    if any("damaged" in problem or "truncated" in problem for problem in header.problems):
        return -1
    last = header.fragments[-1] if header.fragments else (pixels.offset, 0)
    return last[0] + last[1] + 8


# -- the new one


def _head(old: _Old, wanted: Mapping[int, Known | None]) -> tuple[bytes, bytes]:
    """Return what is before the pixels: preamble and file meta elements, and the elements of the dataset."""
    behind = set(_tail_tags(old, wanted))
    before = {tag: value for tag, value in wanted.items() if tag not in behind}
    meta, data = _head_patches(old.meta, old.data, old.style, before)
    end = old.meta.end if old.meta.tags else old.data.begin
    return patched(old.buffer, 0, end, meta), patched(old.buffer, old.data.begin, old.data.end, data)


def _head_patches(meta: Run, data: Run, style: Style, wanted: Changes) -> tuple[list[Patch], list[Patch]]:
    """Return what becomes of the file meta elements and of the dataset, see `_all_patches`."""
    is_short = sum(len(value[1]) for value in wanted.values() if value is not None) <= _SHORT
    return (_remembered_patches if is_short else _all_patches)(meta, data, style, tuple(wanted.items()))


def _all_patches(
    meta: Run, data: Run, style: Style, wanted: Sequence[tuple[int, Known | None]]
) -> tuple[list[Patch], list[Patch]]:
    """Return which bytes of the file meta elements become which others, and which of the dataset."""
    values = dict(wanted)
    named = {tag: value for tag, value in wanted if tag >> 16 == 2} if meta.tags else {}
    follow = {_META_CLASS: values.get(_CLASS), _META_INSTANCE: values.get(_INSTANCE)}
    named |= {tag: ("UI", value[1]) for tag, value in follow.items() if value is not None and tag in meta.tags}
    others = {tag: value for tag, value in wanted if tag >> 16 != 2}
    return patches_of(meta, named, EXPLICIT_LITTLE), patches_of(data, others, style)


_remembered_patches = lru_cache(_REMEMBERED)(_all_patches)


def _tail_run(old: _Old) -> tuple[bytes, Run] | None:
    """Return the bytes behind the pixels, and their elements; None where they are not all elements."""
    stop = old.pixels[1]
    if stop < 0 or stop >= old.size:
        return b"", Run([], [], [], [], [], 0)
    buffer = old.read(stop, old.size - stop)
    try:
        run = walk_run(buffer, 0, len(buffer), old.style)
    except BrokenFileError:
        return None
    return (buffer, run) if run.end == len(buffer) and 0 not in run.tags else None


def _tail_tags(old: _Old, wanted: Mapping[int, Known | None]) -> list[int]:
    """Return those of some tags that are, or belong, behind the pixels."""
    if old.pixels[0] >= old.size:
        return []
    there: set[int] = set()
    if old.pixels[1] < old.size:
        found = _tail_run(old)
        there = set(found[1].tags) if found else set()
    return [tag for tag in wanted if tag in there or tag > PIXELS]


def _tail(old: _Old, wanted: Mapping[int, Known | None]) -> Iterable[bytes]:
    """Return what is behind the pixels."""
    changes = {tag: wanted[tag] for tag in _tail_tags(old, wanted)}
    stop = old.pixels[1]
    if not changes:
        return _copied(old.read, stop, old.size) if stop >= 0 else []
    found = _tail_run(old)
    if found is None or stop < 0:
        raise SaveError("what follows the pixels cannot be parsed, and elements there were edited")
    buffer, run = found
    return [changed(buffer, run, changes, old.style)]


def _pixel_header(style: Style, length: int, vr: str, tag: int = PIXELS) -> bytes:
    """Return the header of the pixel element."""
    if style.big:
        return big_frame(tag, vr, length)
    named = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    return named + (b"" if style.implicit else struct.pack("<2s2x", vr.encode())) + struct.pack("<L", length)


def _new_pixels(style: Style, pixels: NewPixels) -> tuple[bytes, Iterable[Block]]:
    """Return the element of native pixels in the style of the file: its header, and its value."""
    vr = "OB" if pixels.bits <= 8 and not style.implicit else "OW"
    length = pixels.length + pixels.length % 2
    if length >= UNDEFINED:
        raise SaveError(f"{length} bytes of pixels do not fit one file: expected less than 4 GB")
    is_swapped = style.big and vr == "OW"
    blocks = (swapped(bytes(block), 2) for block in pixels.blocks()) if is_swapped else _blocks(pixels)
    return _pixel_header(style, length, vr), itertools.chain(blocks, [b"\0" * (pixels.length % 2)])


def _blocks(pixels: NewPixels) -> Iterator[Block]:
    yield from pixels.blocks()


def _kept_frames(
    old: _Old, header: Header, keep: Sequence[int]
) -> tuple[bytes, Iterable[Block], dict[int, Known | None]]:
    """Return header and value of the pixel element of some frames, and the extended offset tables that go with it."""
    instance = read_instance(header)
    spans = [(instance.offsets[i], instance.lengths[i]) for i in keep if i < len(instance)]
    if header.pixels is None or len(spans) < len(keep) or any(start < 0 for start, _ in spans):
        raise SaveError("the pixels of its frames cannot be told apart, so that none can be removed")
    if header.pixels.length >= 0:
        length = sum(size for _, size in spans)
        vr = header.pixels.vr or "OW"
        frames = (old.read(*span) for span in spans)
        start = _pixel_header(old.style, length + length % 2, vr, header.pixels.tag)
        return start, itertools.chain(frames, [b"\0" * (length % 2)]), {}
    places = [0]
    for _, size in spans:
        places.append(places[-1] + size)
    has_table = bool(header.offset_table) and places[-1] < UNDEFINED
    table = struct.pack(f"<{len(spans)}L", *places[:-1]) if has_table else b""
    frames = (old.read(*span) for span in spans)
    end = struct.pack("<HHL", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)
    start = _pixel_header(old.style, UNDEFINED, header.pixels.vr or "OB")
    return start, itertools.chain([item_bytes(table)], frames, [end]), _extended_tables(header, places)


def _extended_tables(header: Header, places: Sequence[int]) -> dict[int, Known | None]:
    """Return the extended offset tables of frames, where the file has them."""
    tables: dict[int, Known | None] = {}
    count = len(places) - 1
    if EXTENDED_OFFSETS in header.elements:
        tables[EXTENDED_OFFSETS] = "OV", struct.pack(f"<{count}Q", *places[:-1])
    if EXTENDED_LENGTHS in header.elements:  # of the one fragment of each frame, without its item header
        sizes = [places[i + 1] - places[i] - 8 for i in range(count)]
        tables[EXTENDED_LENGTHS] = "OV", struct.pack(f"<{count}Q", *sizes)
    if _EXTENDED[2] in header.elements:
        tables[_EXTENDED[2]] = "UV", struct.pack("<Q", sum(places[i + 1] - places[i] - 8 for i in range(count)))
    return tables
