"""What a save must write: for each file with edits the elements that change, for each staged image a new file.

How files get into place is known in `journal`, how one is put together in `splice` and `writer`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from .columns import Column, Known, Ref
from .edits import NEW, REMOVED, REPLACED, Layer, Overlay
from .errors import SaveError
from .frames import Frames
from .imagery import STORED_TAGS
from .instance import FRAME_GROUPS, SHARED_GROUPS
from .journal import Work
from .layers import Layers, hidden_rows
from .naming import Paths
from .rows import instances_of, row_headers
from .scan import SeriesKey
from .source import Source, Stamp
from .splice import spliced
from .writer import check_pixel_module, file_blocks

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
        refused = [tag for tag in overlay if tag in STORED_TAGS]
        if refused and not hidden_rows(base, overlay).all():
            name = ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in refused)
            raise SaveError(
                f"{name} describes stored pixels and was edited: set_ndarray() makes it true, restore() drops it; nothing was saved"
            )
        yield from _edited_files(base, overlay)


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
            raise SaveError(f"some frames of {os.fsdecode(path)!r} were removed or got new pixels and others not, which cannot be saved yet")
        changes = _changes(base, overlay, rows)
        if changes:
            yield Work("replace", path, stamp, _splicer(os.path.join(base.files.root, path), changes))


def _changes(base: Frames, overlay: Overlay, rows: "np.ndarray[tuple[int], np.dtype[np.intp]]") -> dict[int, Known | None]:
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
        raise SaveError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) differs between the frames of {path!r}: such edits cannot be saved yet")


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
    headers = row_headers(frames)
    for row, instance in instances_of(frames, key):
        if instance.sop_uid in replaced:
            work = _with_new_pixels(frames, row, headers[row], *replaced[instance.sop_uid])
            yield work._replace(instance=instance.sop_uid)
        else:
            place = os.fsencode(paths.path(instance))
            yield Work("create", place, Stamp(-1, -1, -1), _image(frames, row, headers[row]), instance.sop_uid)


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


def stored_bytes(frames: Frames, row: int, header: dict[int, Known]) -> bytes:
    """Return the stored values of one row as little-endian bytes, held against its header."""
    one = frames.locations.take([row])
    stored = np.empty((1, *one.frame_shape()), one.dtype(rescale=False))
    one.read([0], stored, rescale=False)
    check_pixel_module(header, int(stored.min()), int(stored.max()))
    return stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def _image(frames: Frames, row: int, header: dict[int, Known]) -> Callable[[], Iterator[bytes]]:
    """Return what gives the bytes of one staged image, or of an object without pixels."""

    def content() -> Iterator[bytes]:
        elements = [(tag, vr, raw) for tag, (vr, raw) in header.items()]
        if frames.offset[row] < 0:
            yield from file_blocks(elements, None)
            return
        yield from file_blocks(elements, stored_bytes(frames, row, header))

    return content

