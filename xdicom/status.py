"""What is staged, told edit by edit with the values before and after.

It changes nothing.
"""

from typing import NamedTuple

from . import tags
from .catalog import Problem
from .columns import Column
from .edits import HIDDEN, NEW, REMOVED, REPLACED, Edits
from .layers import Layers
from .scan import SeriesKey


class Change(NamedTuple):
    """One staged edit: the series, the tag (or what else was done), and its values before and after."""

    series: SeriesKey
    what: str
    before: tags.UniqueValues
    after: tags.UniqueValues


def changes_under(prefix: tuple[str, ...], layers: Layers, edits: Edits) -> list[Change]:
    """Return what is staged under a record; what is set aside comes last in its table."""
    changes = []
    nothing = tags.unique([])
    now = {layer: key for key, found in layers.by_key().items() for layer in found}
    overlays = edits.overlays()
    for layer in layers.ever_under(prefix):
        base, table = layers.base(layer), layers.table(layer)
        key = now.get(layer, layer.key)
        if layer.kind == NEW and base is not None:
            count = int((base.file >= 0).sum())
            changes.append(Change(key, f"{count} new frames" if count else "new, empty", nothing, nothing))
        for tag in sorted(overlays.get(layer, {})):
            if tag in HIDDEN:
                changes.append(Change(key, label_of(tag), nothing, nothing))
            elif base is not None and table is not None:
                changes.append(Change(key, label_of(tag), base.unique(tag), table.unique(tag)))
        for tag, column in sorted(edits.aside().get(layer, {}).items()):
            what = f"{label_of(tag)} (set aside: the file changed or went)"
            changes.append(Change(layer.key, what, nothing, _decoded(tag, column)))
    return changes


def problems_of(edits: Edits) -> list[Problem]:
    """Return which edits are set aside."""
    found = []
    for layer, overlay in edits.aside().items():
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
