"""What a save must write: for each file with edits the elements that change, for each staged image a new file.

How files get into place is known in `journal`, how one is put together in `splice` and `writer`.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .charsets import decode_text
from .columns import Column, Known
from .copying import changed_blocks
from .edits import NEW, REMOVED, REPLACED, Layer, Overlay
from .elements import differences, headers_of, values_at
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
from .rows import StoredPixels, instances_of, row_columns, staged_rows
from .scan import SeriesKey
from .source import Source, Stamp
from .splice import NewPixels, spliced
from .tags import label
from .writer import Block, file_blocks

Rows = NDArray[np.intp]

TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_IMAGE, _ALLOCATED = 0x0028, 0x00280100
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
    changed = _ChangedColumns(base, overlay)
    for file in _files(base, overlay):
        if file.is_removed:
            yield Work("remove", file.path, file.stamp, None)
            continue
        if file.is_gone:
            continue
        if file.has_new_pixels:
            raise SaveError(
                f"some frames of {os.fsdecode(file.path)!r} got new pixels and others not: set_ndarray() all of them"
            )
        changes = changed.at(file.stay)
        keep = base.number[file.stay].tolist() if len(file.stay) < file.frames else None
        if keep is not None:
            refuse_part_of_picture(base.take(np.array(file.stay)))
            # Frame numbers would otherwise mean other frames than before
            changes = {**changes, INSTANCE_UID: [("UI", new_uid().encode())] * len(file.stay)}
        if changes:
            edit = _FileEdit(os.path.join(base.files.root, file.path), file.frames, changes, layouts, keep)
            yield Work("replace", file.path, file.stamp, edit)


class _File(NamedTuple):
    """What becomes of the rows of one file: how many frames it has, and which rows stay as they are or are edited."""

    path: bytes
    stamp: Stamp
    frames: int
    stay: Sequence[int]
    is_removed: bool
    is_gone: bool
    has_new_pixels: bool


def _files(base: Frames, overlay: Overlay) -> Iterator[_File]:
    """Yield the files of a table; gone is one whose rows are all removed or replaced."""
    order = np.lexsort((base.number, base.file))
    starts = np.flatnonzero(np.diff(base.file[order], prepend=-2))
    removed = hidden_rows(base, overlay, (REMOVED,))[order]
    replaced = hidden_rows(base, overlay, (REPLACED,))[order]
    every = np.logical_and.reduceat
    files = base.file[order[starts]].tolist()
    stamps = base.files.stamps[files].tolist()
    told = [every(removed, starts), every(removed | replaced, starts), np.logical_or.reduceat(replaced, starts)]
    rows, stays = order.tolist(), (~removed).tolist()
    spans = itertools.pairwise([*starts.tolist(), len(rows)])
    for file, stamp, (start, stop), *found in zip(files, stamps, spans, *(each.tolist() for each in told), strict=True):
        stay = list(itertools.compress(rows[start:stop], stays[start:stop]))
        yield _File(base.files.paths[file], Stamp(*stamp), stop - start, stay, *found)


def _file_of(base: Frames, row: int) -> tuple[bytes, Stamp]:
    return base.files.paths[base.file[row]], Stamp(*base.files.stamps[base.file[row]].tolist())


class _ChangedColumns:
    """The tags of a table before and after the edits."""

    def __init__(self, base: Frames, overlay: Overlay) -> None:
        edited = {tag: column for tag, column in overlay.items() if tag >= 0}
        table = base.with_columns(edited)
        self._tags = list(edited)
        self._before, self._after = ([frames.raw_values(tag) for tag in edited] for frames in (base, table))
        self._codes = [codes.tolist() for _, codes in (*self._before, *self._after)]
        self._known: dict[tuple[int, ...], Mapping[int, Sequence[Known | None]]] = {}

    def at(self, rows: Sequence[int]) -> Mapping[int, Sequence[Known | None]]:
        """Return the new values of the rows of one file by tag, without those that are the old ones."""
        held = tuple([codes[row] for codes in self._codes for row in rows])
        found = self._known.get(held)  # mostly the same becomes of all files
        if found is None:
            found = self._known[held] = self._differing(rows)
        return found

    def _differing(self, rows: Sequence[int]) -> dict[int, Sequence[Known | None]]:
        old, new = (
            [[raws[codes[row]] if codes[row] >= 0 else None for row in rows] for raws, codes in columns]
            for columns in (self._before, self._after)
        )
        return {tag: after for tag, before, after in zip(self._tags, old, new, strict=True) if before != after}


@dataclass(slots=True)
class _FileEdit:
    """What becomes of one file; a call gives its new bytes.

    Attributes
    ----------
    path
        Absolute.
    frames
        How many it has.
    changes
        By tag one value for each frame that stays.
    layouts
        Of the files of this save.
    keep
        Numbers of the frames that stay; None for all.
    pixels
        Take the place of the old ones.
    """

    path: bytes
    frames: int
    changes: Mapping[int, Sequence[Known | None]]
    layouts: Layouts
    keep: Sequence[int] | None = None
    pixels: NewPixels | None = None

    def __call__(self) -> Iterator[Block]:
        with Source(self.path) as source:
            if self.pixels is None:
                source.hold(_SMALL)
            try:
                header = self.layouts.read_header(source)
                # The stamp says that it is the same file; only what has several frames is worth a second look.
                is_plain = self.frames == 1 and NUMBER_OF_FRAMES not in header.elements
                if not is_plain and len(read_instance(header)) != self.frames:
                    raise SaveError("it has another number of frames than when it was scanned: rescan()")
                drop, scrub = (_STALE_MACROS, STALE_PRIVATE) if self.pixels else ((), ())
                top = placed(header, self.frames, self.changes, keep=self.keep, drop=drop, scrub=scrub)
                _check_text(header, top)
            except (BrokenFileError, SaveError) as error:
                name = os.fsdecode(self.path)
                raise SaveError(f"{name!r} cannot be edited: {error}; restore() drops the edits") from error
            yield from spliced(source, header, top, pixels=self.pixels, keep=self.keep)


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
    frames: Frames, key: SeriesKey, paths: Callable[[], Paths], replaced: Mapping[str, tuple[Frames, int]]
) -> Iterator[Work]:
    """Yield what must be written for the staged images of a series.

    Parameters
    ----------
    frames
        Their rows.
    key
        Of the series.
    paths
        Returns what gives the paths of new files; asked for where there are some.
    replaced
        By SOPInstanceUID the saved rows whose files get new pixels.
    """
    uids, codes = frames.column(INSTANCE_UID)
    groups = _rows_by(codes, frames.number)
    images = _NewImages(frames, row_columns(frames), StoredPixels(frames))
    # Frames of one instance may be staged in several chunk files.
    found = {uid: rows for code, rows in groups.items() if (uid := str(uids[code]) if code >= 0 else "") in replaced}
    by_table: dict[int, dict[str, Rows]] = {}
    for uid, rows in found.items():
        by_table.setdefault(id(replaced[uid][0]), {})[uid] = rows
    for part in by_table.values():
        base = replaced[next(iter(part))][0]
        yield from _with_new_pixels(images, part, base, [replaced[uid][1] for uid in part])
    others = np.setdiff1d(np.arange(len(frames)), np.concatenate([np.zeros(0, np.intp), *found.values()]))
    if others.size:
        yield from _added(images, others, groups, key, paths())


def _rows_by(codes: NDArray[np.integer], number: NDArray[np.integer]) -> dict[int, Rows]:
    """Return the rows of each code, by frame number."""
    order = np.lexsort((number, codes))
    bounds = [0, *(np.flatnonzero(np.diff(codes[order])) + 1).tolist(), len(order)]
    parts = [order[start:stop] for start, stop in itertools.pairwise(bounds)]
    return {int(codes[part[0]]): part for part in parts if part.size}


class _NewImages(NamedTuple):
    """The staged frames of a series: their table, their elements in explicit VR, and their pixels."""

    frames: Frames
    columns: Mapping[int, Column]
    pixels: StoredPixels

    def blocks(self, rows: Sequence[int], described: Sequence[Mapping[int, Known]]) -> Iterator[Block]:
        return (self.pixels.read(row, described[row]) for row in rows)


def _with_new_pixels(
    images: _NewImages, instances: Mapping[str, Rows], base: Frames, places: Sequence[int]
) -> Iterator[Work]:
    """Yield the replacements of files whose pixels and what describes them are new.

    Parameters
    ----------
    images
        The frames of a series.
    instances
        Rows by SOPInstanceUID, each in the order of their numbers.
    base
        The table of saved frames.
    places
        For each instance a row in it.
    """
    files, layouts = _rows_by(base.file, base.number), Layouts()
    there = [files[int(base.file[place])] for place in places]
    new, old, keep = [], [], []
    for rows, held in zip(instances.values(), there, strict=True):
        numbers = images.frames.number[rows].tolist() if len(rows) < len(held) else None
        before = held if numbers is None else held[numbers]
        if len(rows) > len(before):
            name = os.fsdecode(_file_of(base, int(held[0]))[0])
            raise SaveError(
                f"{len(rows)} new images have the SOPInstanceUID of {name!r}, which holds {len(before)}: "
                "give each its own, or restore() drops the edits"
            )
        new.append(rows)
        old.append(before)
        keep.append(numbers)
    changes = _changes_of(images.columns, row_columns(base), new, old)
    described = headers_of({tag: c for tag, c in images.columns.items() if tag >> 16 == _IMAGE}, len(images.frames))
    for uid, rows, held, numbers, own in zip(instances, new, there, keep, changes, strict=True):
        path, stamp = _file_of(base, int(held[0]))
        bits = int.from_bytes(described[rows[0]][_ALLOCATED][1], "little")
        listed = rows.tolist()
        length = sum(map(images.pixels.nbytes, listed))
        pixels = NewPixels(length, bits, partial(images.blocks, listed, described))
        edit = _FileEdit(os.path.join(base.files.root, path), len(held), own, layouts, numbers, pixels)
        yield Work("replace", path, stamp, edit, uid)


def _changes_of(
    new: Mapping[int, Column], old: Mapping[int, Column], rows: Sequence[Rows], old_rows: Sequence[Rows]
) -> list[dict[int, list[Known | None]]]:
    """Return for each file the elements in which one of its frames changes, one value a frame."""
    changes: list[dict[int, list[Known | None]]] = [{} for _ in rows]
    together = np.concatenate(rows)
    starts = [0, *itertools.accumulate(map(len, rows))][:-1]
    for tag, differs in differences(new, old, together, np.concatenate(old_rows)):
        if tag in _FOLLOW:
            continue
        values = values_at(new.get(tag), together)
        for number in np.flatnonzero(np.logical_or.reduceat(differs, starts)).tolist():
            changes[number][tag] = values[starts[number] : starts[number] + len(rows[number])]
    return changes


def _added(images: _NewImages, rows: Rows, groups: Mapping[int, Rows], key: SeriesKey, paths: Paths) -> Iterator[Work]:
    """Yield the new files of some rows."""
    frames, is_new = images.frames, staged_rows(images.frames)
    codes = frames.column(INSTANCE_UID)[1]
    headers = headers_of(images.columns, len(frames)) if is_new[rows].any() else []
    for place, instance in instances_of(frames.take(rows), key):
        row = int(rows[place])
        path, together = os.fsencode(paths.path(instance)), groups[int(codes[row])]
        if is_new[row] and len(together) > 1:
            raise SaveError(
                "an enhanced image was copied while its own new pixels were not saved: save that series first"
            )
        content = (
            _image(images.pixels, row, headers[row]) if is_new[row] else partial(changed_blocks, frames.take(together))
        )
        yield Work("create", path, Stamp(-1, -1, -1), content, instance.sop_uid)


def _image(pixels: StoredPixels, row: int, header: dict[int, Known]) -> Callable[[], Iterator[Block]]:
    """Return what gives the bytes of one staged image."""

    def content() -> Iterator[Block]:
        elements = [(tag, vr, raw) for tag, (vr, raw) in header.items()]
        yield from file_blocks(elements, pixels.read(row, header))

    return content
