"""Write one file anew with some elements changed: pixels, compressed or not, are copied as they stand.

Which elements change is told by the caller's table, in comparison with what the file says.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .columns import Known
from .errors import BrokenFileError, SaveError
from .explicit import explicit_values
from .frames import Files, Frames
from .groups import FRAME_GROUPS, SHARED_GROUPS
from .header import Header, inflated, read_header
from .imagery import refuse_part_of_picture
from .modules import CHARSET
from .overlay import has_text_beyond_ascii, overlaid
from .parallel import scan_files
from .placing import placed
from .source import Source, Stamp
from .splice import spliced
from .walker import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, walk_meta
from .writer import Block, PixelForm, file_blocks, write_blocks

_BLOCK = 4 << 20
_HEAD = 1 << 16
_ALLOCATED = 0x00280100
_WORDS = {"OB": 1, "OW": 2, "OF": 4, "OD": 8}
_LARGEST = {"OB": b"\x08", "OW": b"\x10"}

Changes = Mapping[int, Known | None]


def open_unchanged(frames: Frames, row: int) -> Source:
    """Open the file of a row, if it is still the file that was scanned.

    Raises
    ------
    SaveError
        If it is not, is gone, or cannot be read.
    """
    path = os.path.join(frames.files.root, frames.files.paths[frames.file[row]])
    try:
        source = Source(path)
    except OSError as error:
        raise SaveError(f"{os.fsdecode(path)!r} cannot be read: {error.strerror or error}") from error
    if source.stamp != Stamp(*frames.files.stamps[frames.file[row]].tolist()):
        source.close()
        raise SaveError(f"{os.fsdecode(path)!r} changed since it was scanned: rescan()")
    return source


def copy_file(frames: Frames, row: int, target: Path) -> None:
    """Copy the file of a row byte for byte, and flush it.

    Raises
    ------
    SaveError
        If the file changed since it was scanned, or cannot be read.
    """
    with open_unchanged(frames, row) as source, open(target, "xb") as file:
        for block in _blocks(source, 0, source.stamp.size):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def copy_changed(frames: Frames, target: Path) -> None:
    """Write the file of some rows anew; see `changed_blocks`."""
    write_blocks(target, changed_blocks(frames))


def changed_blocks(frames: Frames) -> Iterator[Block]:
    """Yield the bytes of the file of some rows, with the elements in which the table differs from the file.

    Parameters
    ----------
    frames
        Frames of one file; where some of it are missing, they are left out.

    Raises
    ------
    SaveError
        If the file changed since it was scanned, cannot be read, or cannot be written faithfully.
    """
    frames = frames.take(np.argsort(frames.number, kind="stable"))
    with open_unchanged(frames, 0) as source:
        header = read_header(source)
        before = _scanned(source)
        count = len(before)
        if not np.isin(frames.number, before.number).all() or len(np.unique(frames.number)) < len(frames):
            raise SaveError(f"{os.fsdecode(source.path)!r} has {count} frames, and others were to be written: rescan()")
        keep = frames.number.tolist() if len(frames) < count else None
        refuse_part_of_picture(frames)
        try:
            changes = placed(header, count, _changes(frames, before.take(frames.number)), keep=keep)
        except (SaveError, BrokenFileError) as error:
            raise SaveError(f"{os.fsdecode(source.path)!r} cannot be rewritten: {error}") from error
        settled = _settled(header, changes)
        if keep is not None or any(tag >> 16 == 2 for tag in header.layout.tags):
            yield from spliced(source, header, settled, keep=keep)
        else:
            yield from _anew(source, header, settled)


def _scanned(source: Source) -> Frames:
    """Return the table of one file as it is."""
    tables, _ = scan_files(b"", [source.path], workers=1)
    table = next(iter(tables.values()), None)
    if table is None:
        raise SaveError(f"{os.fsdecode(source.path)!r} can no longer be read")
    files = Files(b"", [source.path], np.array([source.stamp], np.int64))
    return Frames(files, table.file, table.number, table.offset, table.length, table.columns)


def _changes(frames: Frames, before: Frames) -> dict[int, list[Known | None]]:
    """Return the elements in which rows differ from their file, one value a row."""
    changes = {}
    for tag in sorted({*before.tags(), *frames.tags()} - {SHARED_GROUPS, FRAME_GROUPS}):
        old, new = _raw_by_row(before, tag), _raw_by_row(frames, tag)
        if tag >> 16 != 2 and old != new:
            changes[tag] = new
    return changes


def _explicit(header: Header) -> dict[int, Known]:
    """Return the elements of a file in explicit VR."""
    items = {item.tag: (item.vr, bytes(item.raw)) for item in header.items() if item.tag >> 16 != 2}
    return explicit_values(items, implicit=header.layout.implicit and not header.relocated)


def _settled(header: Header, changes: Changes) -> dict[int, Known | None]:
    """Return changes whose text and that of the file are in one character set."""
    settled = dict(changes)
    added = {tag: value for tag, value in changes.items() if value is not None and value[0]}
    if CHARSET not in changes and not has_text_beyond_ascii(added):
        return settled
    values = _explicit(header)
    kept = {tag: value for tag, value in values.items() if tag not in changes or tag == CHARSET}
    laid = overlaid(kept, added)
    settled |= {tag: laid[tag] for tag in added if tag in laid}
    settled.pop(CHARSET, None)
    if laid.get(CHARSET) != values.get(CHARSET):
        settled[CHARSET] = laid.get(CHARSET)
    return settled


def _anew(source: Source, header: Header, changes: Changes) -> Iterator[Block]:
    """Yield a file with file meta elements, which its source lacks."""
    merged = {**_explicit(header), **changes}
    elements = [(tag, *value) for tag, value in merged.items() if value is not None]
    if header.pixels is None:
        yield from file_blocks(elements)
        return
    form, blocks = _pixels(source, header)
    yield from file_blocks(elements, blocks, form=form)


def _raw_by_row(frames: Frames, tag: int) -> list[Known | None]:
    raws, codes = frames.raw_values(tag)
    return [raws[code] if code >= 0 else None for code in codes.tolist()]


def _pixels(source: Source, header: Header) -> tuple[PixelForm, Iterator[bytes]]:
    """Return how pixels are written, and the blocks of their bytes."""
    assert header.pixels is not None
    tag, vr, offset, length = header.pixels
    if length < 0:
        begin, end = header.fragments[0][0] - 8, header.fragments[-1][0] + header.fragments[-1][1]
        return PixelForm(tag, "OB", None, header.transfer_syntax), _blocks(source, begin, end - begin)
    vr = vr or "OW"  # PS3.5 A.1: in implicit VR
    form = PixelForm(tag, vr, length)
    if header.transfer_syntax == DEFLATED:
        start = walk_meta(source.read(0, min(_HEAD, source.stamp.size)), source.stamp.size).position
        return form, iter([inflated(source, start)[offset : offset + length]])
    if offset + length > source.stamp.size:
        raise SaveError(f"the pixels of {os.fsdecode(source.path)!r} are truncated")
    if header.transfer_syntax in (EXPLICIT, IMPLICIT):
        return form, _blocks(source, offset, length)
    allocated = header.raw(_ALLOCATED)[:1] if _ALLOCATED in header.elements else b""
    # OW is a stream of 16-bit words; what larger pixels look like in big endian is anybody's guess.
    is_clear = header.transfer_syntax == BIG_ENDIAN and (vr not in ("OB", "OW") or allocated <= _LARGEST[vr])
    if not is_clear:
        found = f"native pixels in {header.transfer_syntax!r}, BitsAllocated {int.from_bytes(allocated)}, VR {vr}"
        raise SaveError(f"{os.fsdecode(source.path)!r} has {found}: they cannot be copied faithfully")
    return form, (_swapped(block, _WORDS.get(vr, 2)) for block in _blocks(source, offset, length))


def _blocks(source: Source, offset: int, length: int) -> Iterator[bytes]:
    """Yield the bytes of a range."""
    for start in range(offset, offset + length, _BLOCK):
        size = min(_BLOCK, offset + length - start)
        try:
            block = source.read(start, size)
        except OSError as error:
            raise SaveError(f"{os.fsdecode(source.path)!r} cannot be read: {error.strerror or error}") from error
        if len(block) != size:
            raise SaveError(f"{os.fsdecode(source.path)!r} ends at byte {start + len(block)}: it is changing")
        yield block


def _swapped(block: bytes, width: int) -> bytes:
    return np.frombuffer(block, np.uint8).reshape(-1, width)[:, ::-1].tobytes()
