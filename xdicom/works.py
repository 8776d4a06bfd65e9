"""What a save must write: for each file with edits the elements that change, for each staged image a new file.

How files get into place is known in `journal`, how one is put together in `splice` and `writer`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .charsets import decode_text
from .columns import Known
from .copying import changed_blocks
from .edits import NEW, REMOVED, REPLACED, Layer, Overlay
from .errors import BrokenFileError, SaveError
from .frames import CHARSET, Frames
from .groups import FRAME_GROUPS, SHARED_GROUPS
from .header import Header
from .imagery import STORED_TAGS, refuse_part_of_picture
from .instance import INSTANCE_UID, NUMBER_OF_FRAMES, read_instance
from .journal import Work
from .layers import Layers, hidden_rows
from .layouts import Layouts
from .naming import Paths, new_uid
from .pixelmodule import STALE_PRIVATE
from .placing import placed
from .rows import StoredPixels, instances_of, row_headers, staged_rows
from .scan import SeriesKey
from .source import Source, Stamp
from .splice import NewPixels, spliced
from .tags import label
from .writer import Block, file_blocks

Rows = NDArray[np.intp]

TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ALLOCATED = 0x00280100
# Files of at most so many bytes are read at once.
_SMALL = 1 << 20
# Real-world value mapping, which is of the pixels that were there.
_STALE_MACROS = (0x00409096,)
_FOLLOW = frozenset({SHARED_GROUPS, FRAME_GROUPS})


def works_of(layers: Layers, wanted: Sequence[Layer], overlays: dict[Layer, Overlay]) -> Iterator[Work]:
    """Yield what must be written for the edits of saved tables.

    Parameters
    ----------
    layers
        The tables.
    wanted
        Those to save.
    overlays
        All edits.

    Raises
    ------
    SaveError
        If an edit cannot be written, before anything is.
    """
    layouts = Layouts()
    for layer in wanted:
        base, overlay = layers.base(layer), overlays.get(layer)
        if base is None or not overlay or not (base.file >= 0).any():
            continue
        if not hidden_rows(base, overlay).all():
            refuse_stored_tags(overlay)
        if layer.kind == NEW:
            continue
        yield from _edited_files(base, overlay, layouts)


def refuse_stored_tags(overlay: Overlay) -> None:
    """Refuse edits of what describes stored pixels: a file that says so would be garbled."""
    refused = [tag for tag in overlay if tag in STORED_TAGS]
    if refused:
        names = ", ".join(label(tag) for tag in refused)
        raise SaveError(f"{names} was edited, but the pixels were not: set_ndarray() makes it true, restore() drops it")


def _edited_files(base: Frames, overlay: Overlay, layouts: Layouts) -> Iterator[Work]:
    removed = hidden_rows(base, overlay, (REMOVED,))
    replaced = hidden_rows(base, overlay, (REPLACED,))
    columns = _changed_columns(base, overlay)
    order = np.lexsort((base.number, base.file))
    bounds = np.flatnonzero(np.diff(base.file[order], prepend=-2, append=-2))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = order[start:stop]
        path, stamp = _file_of(base, int(rows[0]))
        if removed[rows].all():
            yield Work("remove", path, stamp, None)
            continue
        if (removed | replaced)[rows].all():
            continue
        if replaced[rows].any():
            raise SaveError(
                f"some frames of {os.fsdecode(path)!r} got new pixels and others not: set_ndarray() all of them"
            )
        stay = rows[~removed[rows]]
        changes = {tag: new for tag, column in columns.items() if (new := column.at(stay.tolist())) is not None}
        keep = base.number[stay].tolist() if len(stay) < len(rows) else None
        if keep is not None:
            refuse_part_of_picture(base.take(stay))
            # Frame numbers would otherwise mean other frames than before
            changes[INSTANCE_UID] = [("UI", new_uid().encode())] * len(stay)
        if changes:
            edit = _FileEdit(os.path.join(base.files.root, path), len(rows), changes, keep)
            yield Work("replace", path, stamp, partial(_rewritten, edit, layouts))


def _file_of(base: Frames, row: int) -> tuple[bytes, Stamp]:
    return base.files.paths[base.file[row]], Stamp(*base.files.stamps[base.file[row]].tolist())


class _ChangedColumn(NamedTuple):
    """One tag before and after the edits, by row."""

    before: Sequence[Known | None]
    after: Sequence[Known | None]

    def at(self, rows: Sequence[int]) -> list[Known | None] | None:
        """Return the new values of the rows of one file; None if these are the old ones."""
        new = [self.after[row] for row in rows]
        return None if new == [self.before[row] for row in rows] else new


def _changed_columns(base: Frames, overlay: Overlay) -> dict[int, _ChangedColumn]:
    edited = {tag: column for tag, column in overlay.items() if tag >= 0}
    table = base.with_columns(edited)
    return {tag: _ChangedColumn(_raw_by_row(base, tag), _raw_by_row(table, tag)) for tag in edited}


def _raw_by_row(frames: Frames, tag: int) -> list[Known | None]:
    raws, codes = frames.raw_values(tag)
    return [raws[code] if code >= 0 else None for code in codes.tolist()]


class _FileEdit(NamedTuple):
    """What becomes of one file.

    Attributes
    ----------
    path
        Absolute.
    frames
        How many it has.
    changes
        By tag one value for each frame that stays.
    keep
        Numbers of the frames that stay; None for all.
    """

    path: bytes
    frames: int
    changes: Mapping[int, Sequence[Known | None]]
    keep: Sequence[int] | None = None


def _rewritten(edit: _FileEdit, layouts: Layouts, pixels: NewPixels | None = None) -> Iterator[Block]:
    """Yield the bytes of a file with some elements, frames or all pixels changed."""
    with Source(edit.path) as source:
        if pixels is None:
            source.hold(_SMALL)
        try:
            header = layouts.read_header(source)
            # The stamp says that it is the same file; only what has several frames is worth a second look.
            is_plain = edit.frames == 1 and NUMBER_OF_FRAMES not in header.elements
            if not is_plain and len(read_instance(header)) != edit.frames:
                raise SaveError("it has another number of frames than when it was scanned: rescan()")
            drop, scrub = (_STALE_MACROS, STALE_PRIVATE) if pixels else ((), ())
            top = placed(header, edit.frames, edit.changes, keep=edit.keep, drop=drop, scrub=scrub)
            _check_text(header, top)
        except (BrokenFileError, SaveError) as error:
            name = os.fsdecode(edit.path)
            raise SaveError(f"{name!r} cannot be edited: {error}; restore() drops the edits") from error
        yield from spliced(source, header, top, pixels=pixels, keep=edit.keep)


def _check_text(header: Header, changes: Mapping[int, Known | None]) -> None:
    """Refuse text that the file's character set does not have."""
    texts = {tag: new for tag, new in changes.items() if new and new[0] in TEXT_VRS and not new[1].isascii()}
    if not texts:
        return
    value = changes.get(CHARSET, ("CS", header.raw(CHARSET)) if CHARSET in header.elements else None)
    charset = value[1].decode("ascii", "replace").strip("\0 ") if value else ""
    for tag, (vr, raw) in texts.items():
        if not charset or "\ufffd" in decode_text(raw, charset, names=vr == "PN"):
            raise SaveError(
                f"{label(tag)} is not text in its SpecificCharacterSet, {charset or 'ISO_IR 6'!r}: set it again"
            )


def new_files(
    frames: Frames, key: SeriesKey, paths: Paths, replaced: Mapping[str, tuple[Frames, int]]
) -> Iterator[Work]:
    """Yield what must be written for the staged images of a series.

    Parameters
    ----------
    frames
        Their rows.
    key
        Of the series.
    paths
        Gives the paths of new files.
    replaced
        By SOPInstanceUID the saved rows whose files get new pixels.
    """
    headers, is_new, pixels = row_headers(frames), staged_rows(frames), StoredPixels(frames)
    groups = _rows_by(frames.column(INSTANCE_UID)[1], frames.number)
    done, layouts, saved = set(), Layouts(), _Saved()
    for row, instance in instances_of(frames, key):
        if instance.sop_uid in replaced:
            if instance.sop_uid not in done:  # frames of one instance may be staged in several chunk files
                rows = groups[int(frames.column(INSTANCE_UID)[1][row])]
                images = _NewImages([headers[i] for i in rows], frames.number[rows].tolist(), rows, pixels)
                work = _with_new_pixels(images, saved.file_of(*replaced[instance.sop_uid]), layouts)
                yield work._replace(instance=instance.sop_uid)
            done.add(instance.sop_uid)
            continue
        place = os.fsencode(paths.path(instance))
        rows = groups[int(frames.column(INSTANCE_UID)[1][row])]
        if is_new[row] and len(rows) > 1:
            raise SaveError(
                "an enhanced image was copied while its own new pixels were not saved: save that series first"
            )
        content = _image(pixels, row, headers[row]) if is_new[row] else partial(changed_blocks, frames.take(rows))
        yield Work("create", place, Stamp(-1, -1, -1), content, instance.sop_uid)


def _rows_by(codes: NDArray[np.integer], number: NDArray[np.integer]) -> dict[int, Rows]:
    """Return the rows of each code, by frame number."""
    order = np.lexsort((number, codes))
    parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    return {int(codes[part[0]]): part for part in parts}


class _NewImages(NamedTuple):
    """The staged frames of one file: their headers, frame numbers and rows, and the pixels of rows."""

    headers: Sequence[dict[int, Known]]
    numbers: Sequence[int]
    rows: Rows
    pixels: StoredPixels

    def blocks(self) -> Iterator[Block]:
        return (self.pixels.read(int(row), header) for row, header in zip(self.rows, self.headers, strict=True))


class _OldFile(NamedTuple):
    """One saved file: absolute and relative path, stamp, and the headers of its frames."""

    full: bytes
    path: bytes
    stamp: Stamp
    headers: Sequence[dict[int, Known]]


class _Saved:
    """Tables of saved frames, file by file; what is known of one table serves all its files."""

    def __init__(self) -> None:
        self._tables: dict[int, tuple[list[dict[int, Known]], dict[int, Rows]]] = {}

    def file_of(self, base: Frames, row: int) -> _OldFile:
        """Return the file of a row."""
        if id(base) not in self._tables:
            self._tables[id(base)] = row_headers(base), _rows_by(base.file, base.number)
        headers, files = self._tables[id(base)]
        path, stamp = _file_of(base, row)
        there = files[int(base.file[row])]
        return _OldFile(os.path.join(base.files.root, path), path, stamp, [headers[i] for i in there])


def _with_new_pixels(images: _NewImages, old: _OldFile, layouts: Layouts) -> Work:
    """Return the replacement of a file whose pixels and what describes them are new."""
    count, headers = len(old.headers), images.headers
    keep = images.numbers if len(headers) < count else None
    before = old.headers if keep is None else [old.headers[number] for number in keep]
    changes: dict[int, list[Known | None]] = {}
    for tag in sorted({tag for header in (*before, *headers) for tag in header}):
        new = [header.get(tag) for header in headers]
        if tag not in _FOLLOW and new != [header.get(tag) for header in before]:
            changes[tag] = new
    bits = int.from_bytes(headers[0][_ALLOCATED][1], "little")
    length = sum(images.pixels.nbytes(int(row)) for row in images.rows)
    pixels = NewPixels(length, bits, images.blocks)
    return Work(
        "replace", old.path, old.stamp, partial(_rewritten, _FileEdit(old.full, count, changes, keep), layouts, pixels)
    )


def _image(pixels: StoredPixels, row: int, header: dict[int, Known]) -> Callable[[], Iterator[Block]]:
    """Return what gives the bytes of one staged image."""

    def content() -> Iterator[Block]:
        elements = [(tag, vr, raw) for tag, (vr, raw) in header.items()]
        yield from file_blocks(elements, pixels.read(row, header))

    return content
