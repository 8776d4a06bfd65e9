"""The catalog with the edits laid over it: tables as records see them, by the keys that they have now.

Readers know nothing of edits; what is staged, and how, is in `edits`.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .catalog import Catalog
from .columns import Column, Known, Raw, Ref, as_stored
from .editing import with_twins
from .edits import GONE, HIDDEN, NEW, SAVED, TOKEN, Edits, Layer, Overlay
from .frames import Frames
from .imagery import STORED_TAGS, stored_column
from .scan import BIRTH_DATE, GROUPING_TAGS, PATIENT_NAME, SeriesKey, series_key

# Name and birth date stand for the patient only where there is no PatientID.
_NAMING_TAGS = tuple(tag for tag in GROUPING_TAGS if tag not in (PATIENT_NAME, BIRTH_DATE))


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
        self._keys: dict[Layer, SeriesKey] = {}
        self._generation = 0

    def refresh(self) -> None:
        """Forget what was derived, after a change of catalog or edits."""
        self._tables.clear()
        self._by_key = None

    def relaid(self, layers: Iterable[Layer]) -> None:
        """Forget what was derived of some tables, after a change of their edits; all of it, if their keys changed."""
        changed, overlays = list(layers), self._edits.overlays()
        for layer in changed:
            self._tables.pop(layer, None)
        if any(self._key_now(layer, overlays.get(layer)) != self._keys.get(layer) for layer in changed):
            self.refresh()

    def by_key(self) -> dict[SeriesKey, list[Layer]]:
        """Return the tables of each series, by the key that it has now; those of new patients and studies end in ""."""
        generation = self._catalog.generation()
        if generation != self._generation:
            self._generation = generation
            self._edits.refresh()
            self.refresh()
        if self._by_key is None:
            found: dict[SeriesKey, list[Layer]] = {}
            overlays = self._edits.overlays()
            saved = [Layer(SAVED, key) for key in self._catalog.keys()]  # noqa: SIM118 - a method, no mapping
            staged = [Layer(NEW, key) for key in self._edits.keys()]  # noqa: SIM118 - a method, no mapping
            for layer in (*saved, *staged):
                key = self._key_now(layer, overlays.get(layer))
                if key is not None:
                    found.setdefault(key, []).append(layer)
            self._by_key = found
            self._keys = {layer: key for key, layers in found.items() for layer in layers}
        return self._by_key

    def key_of(self, layer: Layer) -> SeriesKey | None:
        """Return the key that a table has now, or None where nothing is left of it."""
        if self._by_key is None:
            self.by_key()
        return self._keys.get(layer)

    def under(self, prefix: tuple[str, ...]) -> list[Layer]:
        """Return the tables that are under a record now."""
        return [layer for key, layers in self.by_key().items() if key[: len(prefix)] == prefix for layer in layers]

    def has_frames(self, prefix: tuple[str, ...]) -> bool:
        """Say whether there is more under a record than placeholders."""
        tables = [self.table(layer) for layer in self.under(prefix)]
        return any(table is not None and (table.file >= 0).any() for table in tables)

    def ever_under(self, prefix: tuple[str, ...]) -> list[Layer]:
        """Return the tables that are under a record now or were at the last save, removed ones too.

        Staged frames go with the saved ones that give way to them, wherever these are now.
        """
        size = len(prefix)
        now = self.by_key()  # first, for it sees what other processes wrote
        placed = dict.fromkeys(layer for layers in now.values() for layer in layers)
        # Staged tables that are elsewhere now go with what they are under; those set aside as a whole are nowhere.
        edited = [layer for layer in self._edits.layers() if layer.kind == SAVED or layer not in placed]
        found = list(dict.fromkeys([*self.under(prefix), *(each for each in edited if each.key[:size] == prefix)]))
        found += [layer for layer in self.giving_way_to(found) if layer not in found]
        gone = {token for layer in found if layer.kind == SAVED for token in self._giving_way(layer)}
        staged = [layer for layer in placed if layer.kind == NEW] if gone else []
        return found + [layer for layer in staged if layer not in found and gone & self._tokens(layer)]

    def giving_way_to(self, staged: Iterable[Layer]) -> list[Layer]:
        """Return the saved tables with frames that give way to those of staged tables."""
        tokens = {token for layer in staged if layer.kind == NEW for token in self._tokens(layer)}
        saved = [layer for layer in self._edits.overlays() if layer.kind == SAVED] if tokens else []
        return [layer for layer in saved if tokens & self._giving_way(layer)]

    def _giving_way(self, layer: Layer) -> set[Raw]:
        """Return the tokens of the staged frames to which rows of a saved table give way."""
        overlay = self._edits.overlays().get(layer, {})
        columns = [column for tag in HIDDEN if (column := overlay.get(tag)) is not None]
        return {raw for column in columns for raw in column.values if raw != GONE}

    def _tokens(self, layer: Layer) -> set[Raw]:
        base = self.base(layer)
        return set(base.columns[TOKEN].values) if base is not None and TOKEN in base.columns else set()

    def moved_from(self, key: SeriesKey) -> dict[Layer, tuple[SeriesKey, Frames]]:
        """Return the staged tables that are under other keys now than they were staged under, if one is in the way."""
        now = {layer: found for found, layers in self.by_key().items() for layer in layers if layer.kind == NEW}
        if now.get(Layer(NEW, key), key) == key:
            return {}
        moved = {layer: found for layer, found in now.items() if layer.key != found}
        return {layer: (found, table) for layer, found in moved.items() if (table := self.table(layer)) is not None}

    def _key_now(self, layer: Layer, overlay: Overlay | None) -> SeriesKey | None:
        """Return the key that edits give a table, or None where nothing is left of it."""
        if overlay is None:
            return layer.key
        table = self.table(layer)
        if table is None or not len(table):
            return None
        wanted = GROUPING_TAGS if "\0" in layer.key.patient else _NAMING_TAGS
        if not any(tag in overlay for tag in wanted):
            return layer.key
        path = table.files.paths[table.file[0]] if table.file[0] >= 0 else b""
        key = series_key(first_values(table, GROUPING_TAGS), path)
        return SeriesKey(key.patient, key.study if layer.key.study else "", key.series if layer.key.series else "")

    def base(self, layer: Layer) -> Frames | None:
        """Return a table without the edits."""
        source = self._catalog if layer.kind == SAVED else self._edits
        return source.frames(layer.key)

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
    """Return a table with edited columns, without rows that are removed or give way."""
    table = with_edits(base, overlay)
    if not any(tag in overlay for tag in HIDDEN):
        return table
    hidden = hidden_rows(base, overlay)
    return table.take(np.flatnonzero(~hidden)) if hidden.any() else table


def with_edits(base: Frames, overlay: Overlay) -> Frames:
    """Return a table with edited columns, all rows; what describes stored pixels is kept for reading them."""
    changes = with_twins(base, {tag: column for tag, column in overlay.items() if tag >= 0})
    for tag in STORED_TAGS & changes.keys():
        if tag in base.columns:
            changes[as_stored(tag)] = stored_column(base, tag)
    return base.with_columns(changes)


def hidden_rows(base: Frames, overlay: Overlay, pseudo_tags: tuple[int, ...] = HIDDEN) -> NDArray[np.bool_]:
    """Say which rows of a table are removed, or give way to staged ones."""
    hidden = np.zeros(len(base), bool)
    for tag in pseudo_tags:
        column = overlay.get(tag)
        if column is not None:
            hidden |= column.all_codes(len(base)) >= 0
    return hidden


def hiding(rows: NDArray[np.bool_], token: Raw) -> Column:
    """Return the pseudo-column that hides some rows."""
    return Column([token], np.where(rows, 0, -1).astype(np.int32))


def also_hiding(column: Column | None, rows: NDArray[np.bool_]) -> Column:
    """Return the pseudo-column that hides some more rows, for good."""
    values, codes = ([], np.full(len(rows), -1)) if column is None else (column.values, column.all_codes(len(rows)))
    return Column([*values, GONE], np.where(rows, len(values), codes).astype(np.int32))


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
