"""Records as the tree that people see: names, counts, sizes and dims, as plain data.

How a tree is drawn is known in `display`, as HTML in `notebook`.
"""

from collections.abc import Sequence

import numpy as np

from .display import Node, count_of, tree_text
from .errors import PixelError, StackError
from .frames import Frames
from .reading import arranged
from .scan import SeriesKey
from .store import Store

MOST_INFERRED = 25
"""Of more series dims are not inferred, which takes a few ms each; the size of their images is shown."""
MOST_LINES = 200


def tree_of(store: Store, key: tuple[str, ...], *, limit: int | None = None) -> str:
    """Return a record as text: for the database its headline, then the tree.

    Parameters
    ----------
    store, key
        The record.
    limit
        The most children shown below one record; the others are counted. None shows all of everything.
    """
    return _cut(_whole_tree(store, key, limit), limit)


def _cut(text: str, limit: int | None) -> str:
    """Leave out what no screen holds; with a limit of None nothing."""
    lines = text.split("\n")
    more = len(lines) - MOST_LINES
    if limit is None or more <= 0:
        return text
    return "\n".join([*lines[:MOST_LINES], f"... and {more:,} more lines, see children, or the command xdicom tree"])


def _whole_tree(store: Store, key: tuple[str, ...], limit: int | None) -> str:
    if key:
        return tree_text([node_of(store, key)], limit=limit)
    nodes = nodes_of(store, key)
    more = len(nodes) - len(nodes[:limit])
    rest = [f"and {more:,} more"] if more else []
    return "\n".join(
        [headline(store), *([tree_text(nodes[:limit], limit=limit)] if nodes else ["no DICOM here"]), *rest]
    )


def headline(store: Store) -> str:
    """Return where a database is, and what there is besides images that are well and saved."""
    counts = store.catalog.counts()
    remarks = [f"{counts.skipped} not DICOM"] if counts.skipped else []
    if counts.broken:
        remarks.append(f"{counts.broken} broken: see problems()")
    edits = len(store.status(()))
    if edits:
        remarks.append(f"{count_of(edits, 'edit')} not saved: see status()")
    place = "in memory" if store.in_memory else str(store.root)
    return f"Database {place}" + (f" ({', '.join(remarks)})" if remarks else "")


def nodes_of(store: Store, key: tuple[str, ...]) -> list[Node]:
    """Return what is below a record as plain data for the tree."""
    is_detailed = len(store.keys(key)) <= MOST_INFERRED
    return [_node(store, child, is_detailed) for child in store.children(key)]


def node_of(store: Store, key: tuple[str, ...]) -> Node:
    """Return a record as plain data for the tree."""
    return _node(store, key, len(store.keys(key)) <= MOST_INFERRED)


def _node(store: Store, key: tuple[str, ...], is_detailed: bool) -> Node:
    if len(key) < 3:
        children = [_node(store, child, is_detailed) for child in store.children(key)]
        frames = sum(child.frames for child in children)
        note = "" if children else "empty, unsaved"
        return Node(_label(store, key), frames, sum(child.nbytes for child in children), children, note)
    series_key = SeriesKey(*key)
    table = store.frames(series_key)
    count = 0 if table is None else int((table.file >= 0).sum())
    if table is None or not count:
        return Node(_label(store, key), 0, store.nbytes(series_key), (), "empty, unsaved")
    note = "unsaved" if store.is_unsaved(series_key) else ""
    return Node(_label(store, key), count, store.nbytes(series_key), (), note, dims_text(table, is_detailed))


def dims_text(frames: Frames, is_inferred: bool = True) -> str:
    """Return how frames are arranged.

    Parameters
    ----------
    frames
        Of a series.
    is_inferred
        Name the dims, where the choice is plain.

    Returns
    -------
    str
        Such as "slice 36 x EchoTime 2 x 64 x 64", of which the last two are rows and columns; "64 x 64" where dims are
        not inferred; "no image" for reports and the like.
    """
    images = frames.images()
    if not len(images):
        return "no image"
    matrix = " x ".join(_size(images, name) for name in ("Rows", "Columns"))
    if not is_inferred:
        return matrix
    try:
        _, grid = arranged(images, None, missing="raise", duplicates="raise")
    except PixelError:
        return f"not readable, {matrix}"
    except StackError:
        return f"in no grid, {matrix}"
    return " x ".join([*(f"{dim} {size}" for dim, size in zip(grid.dims, grid.shape, strict=True)), matrix])


def _size(images: Frames, name: str) -> str:
    found = np.unique(images.values(name))
    return str(int(found[0])) if len(found) == 1 and np.isfinite(found[0]) else "various"


_LABELS = {
    1: ("PatientID", "PatientName"),
    2: ("StudyDate", "StudyDescription"),
    3: ("SeriesNumber", "SeriesDescription", "Modality"),
}


def _label(store: Store, key: tuple[str, ...]) -> str:
    return label(key, store.tables(key))


def label(key: tuple[str, ...], tables: Sequence[Frames]) -> str:
    """Return what a record is called in a tree.

    Parameters
    ----------
    key
        Its key.
    tables
        The rows of its series, of which the first says what it is called.
    """
    parts: list[str] = []
    for name in _LABELS[len(key)]:
        value = next((value for table in tables[:1] for value in table.unique(name) if value not in (None, "")), None)
        if value is not None and str(value) not in parts:
            parts.append(str(value))
    return " ".join(parts) or f"({key[-1].strip(chr(0))[:24] or 'no name'})"
