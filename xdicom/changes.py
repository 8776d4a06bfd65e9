"""What is staged, as a list that people read: series by series, tag by tag, with values before and after.

It changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from . import tags
from .catalog import Problem
from .columns import Column
from .edits import HIDDEN, NEW, REMOVED, REPLACED, SAVED, Layer, Overlay
from .frames import Frames
from .instance import INSTANCE_UID
from .layers import Layers, hidden_rows
from .scan import SeriesKey

_NOTHING = tags.unique([])


class Change(NamedTuple):
    """One staged edit: the series, the tag (or what else was done), and its values before and after."""

    series: SeriesKey
    what: str
    before: tags.UniqueValues
    after: tags.UniqueValues


def changes_of(
    layers: Layers, wanted: Iterable[Layer], overlays: Mapping[Layer, Overlay], aside: Mapping[Layer, Overlay]
) -> list[Change]:
    """Return what is staged in some tables, grouped by the series that they are now.

    Parameters
    ----------
    layers
        All tables.
    wanted
        Those asked for.
    overlays
        All edits.
    aside
        Those whose files changed outside or went; they come last in their series.
    """
    now = {layer: key for key, found in layers.by_key().items() for layer in found}
    grouped: dict[SeriesKey, list[Layer]] = {}
    for layer in wanted:
        grouped.setdefault(now.get(layer, layer.key), []).append(layer)
    found = []
    for key, group in grouped.items():
        mine = {layer: overlays.get(layer, {}) for layer in group}
        found += [Change(key, what, _NOTHING, _NOTHING) for what in _of_frames(layers, mine, key)]
        found += _of_tags(layers, mine, key)
        for layer in group:
            for tag, column in sorted(aside.get(layer, {}).items()):
                what = f"{label_of(tag)} (set aside: the file changed or went)"
                found.append(Change(key, what, _NOTHING, _decoded(tag, column)))
    return found


def _of_frames(layers: Layers, group: Mapping[Layer, Overlay], key: SeriesKey) -> Iterator[str]:
    """Say which frames are new, removed or have new pixels."""
    counts = {REMOVED: 0, REPLACED: 0}
    total = 0
    replaced: set[object] = set()
    for layer, overlay in group.items():
        base = layers.base(layer)
        if layer.kind == SAVED and base is not None and not overlay.keys().isdisjoint(HIDDEN):
            total += len(base)
            counts = {tag: counts[tag] + int(hidden_rows(base, overlay, (tag,)).sum()) for tag in counts}
            replaced |= set(base.take(np.flatnonzero(hidden_rows(base, overlay, (REPLACED,)))).unique(INSTANCE_UID))
    if counts[REMOVED]:
        yield "removed" if counts[REMOVED] == total else f"{counts[REMOVED]} of {total} frames removed"
    if counts[REPLACED]:
        yield "new pixels"
    staged = [
        base.take(np.flatnonzero(~hidden_rows(base, overlay)))
        for layer, overlay in group.items()
        if layer.kind == NEW and (base := layers.base(layer)) is not None
    ]
    if not staged:
        return
    fresh = sum(_unknown(table, replaced) for table in staged)
    if fresh:
        yield f"{fresh} new frame{'s' if fresh > 1 else ''}"
    elif not any((table.file >= 0).any() for table in staged) and not layers.has_frames(tuple(filter(None, key))):
        yield "new, empty"


def _unknown(table: Frames, replaced: set[object]) -> int:
    """Return how many staged frames take no saved frame's place."""
    values, codes = table.column(INSTANCE_UID)
    is_known = np.array([*(uid in replaced for uid in values), False], bool)[codes]
    return int(((table.file >= 0) & ~is_known).sum())


def _of_tags(layers: Layers, group: Mapping[Layer, Overlay], key: SeriesKey) -> Iterator[Change]:
    """Yield the edited tags with values as they are saved, or were staged, and as they are now."""
    saved = [layer for layer in group if layer.kind == SAVED] or list(group)
    for tag in sorted({tag for overlay in group.values() for tag in overlay if tag >= 0}):
        before = [base.unique(tag) for layer in saved if (base := layers.base(layer)) is not None]
        after = [table.unique(tag) for layer in group if (table := layers.table(layer)) is not None]
        yield Change(key, tags.label(tag), _joined(before), _joined(after))


def _joined(found: Iterable[tags.UniqueValues]) -> tags.UniqueValues:
    return tags.unique(value for values in found for value in values)


def problems_of(aside: Mapping[Layer, Overlay]) -> list[Problem]:
    """Return which edits are set aside, as faults that `problems()` lists."""
    found = []
    for layer, overlay in aside.items():
        names = ", ".join(label_of(tag) for tag in sorted(overlay))
        reason = f"files changed or went under staged edits of {names}: these are set aside, restore() drops them"
        found.append(Problem(f"series {layer.key.series}", reason))
    return found


def label_of(tag: int) -> str:
    """Name what an edit is about."""
    return {REMOVED: "removed", REPLACED: "new pixels"}.get(tag) or tags.label(tag)


def _decoded(tag: int, column: Column | None) -> tags.UniqueValues:
    """Return the values of an edit that is set aside."""
    raws = [] if column is None or tag < 0 else column.values
    return tags.unique([tags.decode(tag, vr, raw) for vr, raw in raws if isinstance(raw, bytes)])
