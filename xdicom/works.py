"""What a save must write: for each file with edits the elements that change, for each staged image a new file.

How files get into place is known in `journal`, how one is put together in `splice` and `writer`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from .columns import Column, Known, Ref
from .copying import changed_blocks
from .edits import NEW, REMOVED, REPLACED, Layer, Overlay
from .errors import SaveError
from .frames import Frames
from .imagery import STORED_TAGS
from .instance import FRAME_GROUPS, SHARED_GROUPS
from .journal import Work
from .layers import Layers, hidden_rows
from .naming import Paths
from .rows import instances_of, row_headers, staged_rows, stored_bytes
from .scan import SeriesKey
from .source import Source, Stamp
from .splice import spliced
from .tags import label
from .writer import Block, file_blocks

_GROUPS = frozenset({SHARED_GROUPS, FRAME_GROUPS})


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
    for layer in wanted:
        base, overlay = layers.base(layer), overlays.get(layer)
        if layer.kind == NEW or base is None or not overlay:
            continue
        if not hidden_rows(base, overlay).all():
            refuse_stored_tags(overlay)
        yield from _edited_files(base, overlay)


def refuse_stored_tags(overlay: Overlay) -> None:
    """Refuse edits of what describes stored pixels: a file that says so would be garbled."""
    refused = [tag for tag in overlay if tag in STORED_TAGS]
    if refused:
        names = ", ".join(label(tag) for tag in refused)
        raise SaveError(f"{names} was edited, but the pixels were not: set_ndarray() makes it true, restore() drops it")


def _edited_files(base: Frames, overlay: Overlay) -> Iterator[Work]:
    removed = hidden_rows(base, overlay, (REMOVED,))
    replaced = hidden_rows(base, overlay, (REPLACED,))
    order = np.argsort(base.file, kind="stable")
    bounds = np.flatnonzero(np.diff(base.file[order], prepend=-2, append=-2))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = order[start:stop]
        path, stamp = base.files.paths[base.file[rows[0]]], Stamp(*base.files.stamps[base.file[rows[0]]].tolist())
        if removed[rows].all():
            yield Work("remove", path, stamp, None)
            continue
        if replaced[rows].all():
            continue
        if (removed | replaced)[rows].any():
            raise SaveError(
                f"some frames of {os.fsdecode(path)!r} were removed or replaced, others not: it cannot be saved yet"
            )
        changes = _changes(base, overlay, rows)
        if changes:
            yield Work("replace", path, stamp, _splicer(os.path.join(base.files.root, path), changes))


def _changes(
    base: Frames, overlay: Overlay, rows: "np.ndarray[tuple[int], np.dtype[np.intp]]"
) -> dict[int, Known | None]:
    """Return the elements of one file that change."""
    changes: dict[int, Known | None] = {}
    for tag, column in overlay.items():
        if tag < 0:
            continue
        if len(rows) > 1 or _GROUPS & base.columns.keys():
            _refuse_groups(base, tag, rows)
        after = _value(column, len(base), int(rows[0]))
        before = _value(base.columns.get(tag), len(base), int(rows[0]))
        if after != before:
            changes[tag] = after
    return changes


def _refuse_groups(base: Frames, tag: int, rows: "np.ndarray[tuple[int], np.dtype[np.intp]]") -> None:
    """Refuse what may lie in functional groups: top-level elements alone can be told by their one value a file."""
    column = base.columns.get(tag)
    if column is not None and len(np.unique(column.all_codes(len(base))[rows])) > 1:
        path = os.fsdecode(base.files.paths[base.file[rows[0]]])
        raise SaveError(f"{label(tag)} differs between the frames of {path!r}: such edits cannot be saved yet")


def _value(column: Column | None, count: int, row: int) -> Known | None:
    if column is None:
        return None
    code = int(column.all_codes(count)[row])
    if code < 0:
        return None
    vr, value = column.values[code]
    return (vr, b"") if isinstance(value, Ref) else (vr, value)


def _splicer(path: bytes, changes: dict[int, Known | None]) -> Callable[[], Iterator[bytes]]:
    def content() -> Iterator[bytes]:
        with Source(path) as source:
            yield from spliced(source, changes)

    return content


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
    headers, is_new = row_headers(frames), staged_rows(frames)
    for row, instance in instances_of(frames, key):
        if instance.sop_uid in replaced:
            yield _with_new_pixels(frames, row, headers[row], *replaced[instance.sop_uid])
        else:
            place = os.fsencode(paths.path(instance))
            rows = frames.take(np.flatnonzero(frames.file == frames.file[row]))
            content = _image(frames, row, headers[row]) if is_new[row] else partial(changed_blocks, rows)
            yield Work("create", place, Stamp(-1, -1, -1), content)


def _with_new_pixels(frames: Frames, row: int, header: dict[int, Known], base: Frames, old: int) -> Work:
    """Return the replacement of a file whose pixels and what describes them are new."""
    path, stamp = base.files.paths[base.file[old]], Stamp(*base.files.stamps[base.file[old]].tolist())
    if int((base.file == base.file[old]).sum()) > 1:
        raise SaveError(f"{os.fsdecode(path)!r} holds several frames: new pixels of such files cannot be saved yet")
    before = row_headers(base.take([old]))[0]
    changes: dict[int, Known | None] = {tag: raw for tag, raw in header.items() if before.get(tag) != raw}
    changes |= {tag: None for tag in before if tag not in header and tag & 0xFFFF}

    def content() -> Iterator[bytes]:
        stored = stored_bytes(frames, row, header)
        with Source(os.path.join(base.files.root, path)) as source:
            yield from spliced(source, changes, stored)

    return Work("replace", path, stamp, content)


def _image(frames: Frames, row: int, header: dict[int, Known]) -> Callable[[], Iterator[Block]]:
    """Return what gives the bytes of one staged image."""

    def content() -> Iterator[Block]:
        elements = [(tag, vr, raw) for tag, (vr, raw) in header.items()]
        yield from file_blocks(elements, stored_bytes(frames, row, header))

    return content
