"""Records as the tree that people see: names, counts and sizes, as plain data.

How a tree is drawn is known in `display`.
"""

from collections.abc import Sequence

from .display import Node
from .frames import Frames
from .scan import SeriesKey
from .store import Store


def node_of(store: Store, key: tuple[str, ...]) -> Node:
    """Return a record as plain data for the tree."""
    if len(key) < 3:
        children = [node_of(store, child) for child in store.children(key)]
        frames = sum(child.frames for child in children)
        note = "" if children else "empty, unsaved"
        return Node(_label(store, key), frames, sum(child.nbytes for child in children), children, note)
    series_key = SeriesKey(*key)
    table = store.frames(series_key)
    count = 0 if table is None else int((table.file >= 0).sum())
    note = "unsaved" if store.is_unsaved(series_key) else ""
    return Node(_label(store, key), count, store.nbytes(series_key), (), note if count else "empty, unsaved")


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
