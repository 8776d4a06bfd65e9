"""The catalog with the edits laid over it: tables as records see them, by the keys that they have now.

Readers know nothing of edits; what is staged, and how, is in `edits`.
"""

import numpy as np
from numpy.typing import NDArray

from .catalog import Catalog
from .columns import Column, Known, Ref
from .edits import HIDDEN, NEW, SAVED, Edits, Layer, Overlay
from .frames import Frames
from .imagery import STORED_TAGS, as_stored
from .scan import GROUPING_TAGS, SeriesKey, series_key


class Layers:
    """Tables of a catalog and of its edits.

    Parameters
    ----------
    catalog, edits
        Of one folder.
    """

    def __init__(self, catalog: Catalog, edits: Edits) -> None:
        self._catalog, self._edits = catalog, edits
        self._tables: dict[Layer, Frames | None] = {}
        self._by_key: dict[SeriesKey, list[Layer]] | None = None

    def refresh(self) -> None:
        """Forget what was derived, after a change of catalog or edits."""
        self._tables.clear()
        self._by_key = None

    def by_key(self) -> dict[SeriesKey, list[Layer]]:
        """Return the tables of each series, by the key that it has now; those of new patients and studies end in ""."""
        if self._catalog.changed_elsewhere():
            self._edits.refresh()
            self.refresh()
        if self._by_key is None:
            found: dict[SeriesKey, list[Layer]] = {}
            overlays = self._edits.overlays()
            saved = [Layer(SAVED, key) for key in self._catalog.keys()]
            for layer in (*saved, *[Layer(NEW, key) for key in self._edits.keys()]):
                overlay = overlays.get(layer)
                key = layer.key if overlay is None else self._key_now(layer, overlay)
                if key is not None:
                    found.setdefault(key, []).append(layer)
            self._by_key = found
        return self._by_key

    def under(self, prefix: tuple[str, ...]) -> list[Layer]:
        """Return the tables that are under a record now."""
        return [layer for key, layers in self.by_key().items() if key[: len(prefix)] == prefix for layer in layers]

    def ever_under(self, prefix: tuple[str, ...]) -> list[Layer]:
        """Return the tables that are under a record now or were at the last save, removed ones too."""
        size = len(prefix)
        now = self.under(prefix)  # first, for it sees what other processes wrote
        edited = [layer for layer in self._edits.layers() if layer.key[:size] == prefix]
        return list(dict.fromkeys([*now, *edited]))

    def _key_now(self, layer: Layer, overlay: Overlay) -> SeriesKey | None:
        """Return the key that edits give a table, or None where nothing is left of it."""
        table = self.table(layer)
        if table is None or not len(table):
            return None
        if not any(tag in overlay for tag in GROUPING_TAGS):
            return layer.key
        path = table.files.paths[table.file[0]] if table.file[0] >= 0 else b""
        key = series_key(first_values(table, GROUPING_TAGS), path)
        return SeriesKey(key.patient, key.study if layer.key.study else "", key.series if layer.key.series else "")

    def base(self, layer: Layer) -> Frames | None:
        """Return a table without the edits."""
        if layer.kind == SAVED:
            return self._catalog.frames(layer.key)
        table = self._edits.frames(layer.key)
        aside = None if table is None else self._edits.is_aside(table)
        return table if table is None or aside is None or not aside.any() else table.take(np.flatnonzero(~aside))

    def table(self, layer: Layer) -> Frames | None:
        """Return a table with the edits laid over it."""
        if layer not in self._tables:
            base, overlay = self.base(layer), self._edits.overlays().get(layer)
            self._tables[layer] = base if base is None or not overlay else laid_over(base, overlay)
        return self._tables[layer]

    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the rows of a series as they are now; the placeholder only where there is nothing else."""
        tables = [table for layer in self.by_key().get(key, ()) if (table := self.table(layer)) is not None]
        if not tables:
            return None
        joined = Frames.concat(tables)
        real = np.flatnonzero(joined.file >= 0)
        return joined if len(real) in (0, len(joined)) else joined.take(real)


def laid_over(base: Frames, overlay: Overlay) -> Frames:
    """Return a table with edited columns; what describes stored pixels is kept for reading them."""
    changes: dict[int, Column | None] = {tag: column for tag, column in overlay.items() if tag >= 0}
    for tag in STORED_TAGS & changes.keys() & base.columns.keys():
        changes[as_stored(tag)] = base.columns[tag]
    table = base.with_columns(changes)
    hidden = hidden_rows(base, overlay)
    return table.take(np.flatnonzero(~hidden)) if hidden.any() else table


def hidden_rows(base: Frames, overlay: Overlay, pseudo_tags: tuple[int, ...] = HIDDEN) -> NDArray[np.bool_]:
    """Say which rows of a table are removed, or give way to staged ones."""
    hidden = np.zeros(len(base), bool)
    for tag in pseudo_tags:
        column = overlay.get(tag)
        if column is not None:
            hidden |= column.all_codes(len(base)) >= 0
    return hidden


def first_values(table: Frames, wanted: tuple[int, ...]) -> dict[int, Known]:
    """Return the raw values of the first row for some tags; long ones are left out."""
    found: dict[int, Known] = {}
    for tag in wanted:
        column = table.columns.get(tag)
        if column is not None and (code := column.all_codes(len(table))[0]) >= 0:
            vr, value = column.values[code]
            if not isinstance(value, Ref):
                found[tag] = vr, value
    return found
