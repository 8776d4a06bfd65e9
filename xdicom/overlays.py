"""Edited columns in SQLite, laid out for the rows that a table has now, however files came, went or changed since.

An edit whose row is not there any more is set aside: kept and shown, but neither read nor saved. What edits mean is not
known here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .catalog import Catalog
from .columns import Column, Raw
from .errors import CatalogError
from .frames import Frames
from .identity import UNEDITED, Identity, joined, merged, placed
from .packing import pack_integers, pack_raws, unpack_integers, unpack_raws
from .scan import SeriesKey

if TYPE_CHECKING:
    import sqlite3

    from numpy.typing import NDArray

SAVED, NEW = 0, 1
# A pseudo-tag: the rows that have a value are removed.
REMOVED = -16
# The rows that have a value give way to staged ones with the same SOPInstanceUID.
REPLACED = -17
HIDDEN = (REMOVED, REPLACED)
# Of staged frames: the token that marks the saved rows which are removed for them or give way.
TOKEN = -18
# In place of such a token: removed for good.
GONE: Raw = ("", b"1")
_IS_LAYER = "(kind, patient, study, series) = (?, ?, ?, ?)"


class Layer(NamedTuple):
    """A table that edits are laid over: that of a series in the catalog (SAVED) or a staged one (NEW)."""

    kind: int
    key: SeriesKey


Overlay = dict[int, Column | None]


class _Loaded(NamedTuple):
    """All edits: for the rows that are there, of others, and hashes of the SOPInstanceUIDs of new pixels of those.

    `elsewhere` are the tables whose edits are stored for other rows than these tables have.
    """

    aligned: dict[Layer, Overlay]
    aside: dict[Layer, Overlay]
    uids: set[int]
    elsewhere: set[Layer]


class Overlays:
    """The edited columns of a folder.

    Parameters
    ----------
    catalog
        Of the folder, whose database they share.
    base
        Gives the table of a layer without edits, None where there is none (any more).

    Notes
    -----
    The rows that the edits of a saved table were made for are stored once a table, and each edit has a code for each of
    them. Rows of the table as it is now come first, those set aside behind them; UNEDITED marks rows that an edit is
    not about. Edits of staged tables hold for all their rows.
    """

    def __init__(self, catalog: Catalog, base: Callable[[Layer], Frames | None]) -> None:
        self._catalog, self._base = catalog, base
        self._identities: dict[Layer, tuple[Frames, Identity, bytes]] = {}
        self._loaded: _Loaded | None = None

    def refresh(self) -> None:
        """Lay everything out anew when it is next asked for."""
        self._loaded = None

    def aligned(self) -> dict[Layer, Overlay]:
        """Return the edited columns of every table, one code a row as it is now; None where an element is removed."""
        return self._load().aligned

    def aside(self) -> dict[Layer, Overlay]:
        """Return the edits of every table whose rows are not there any more, or changed outside."""
        return self._load().aside

    def aside_uids(self) -> set[int]:
        """Return hashes of the SOPInstanceUIDs whose new pixels are set aside with their files."""
        return self._load().uids

    def layers(self) -> list[Layer]:
        """Return every table that has edits, set aside or not."""
        return list(dict.fromkeys([*self.aligned(), *self.aside()]))

    # -- reading

    def _load(self) -> _Loaded:
        with self._catalog.lock:
            if self._loaded is None:
                stored: dict[Layer, Overlay] = {}
                for kind, *parts, tag, raws, codes in self._catalog.connection.execute("SELECT * FROM edit"):
                    stored.setdefault(Layer(kind, SeriesKey(*parts)), {})[tag] = _unpacked(raws, codes)
                loaded = _Loaded({}, {}, set(), set())
                for layer, overlay in stored.items():
                    if layer.kind == NEW:
                        loaded.aligned[layer] = overlay
                        continue
                    self._lay_out(layer, overlay, loaded)
                self._loaded = loaded
            return self._loaded

    def _lay_out(self, layer: Layer, overlay: Overlay, loaded: _Loaded) -> None:
        """Part the edits of one table into those of rows that are there, and others."""
        base, now = self._now(layer)
        digest, there = self._stored(layer)
        if base is not None and now is not None and digest == now[1] and not _has_unedited(overlay):
            loaded.aligned[layer] = overlay
            return
        loaded.elsewhere.add(layer)
        if there is None:
            return
        source = np.empty(0, np.intp) if now is None else now[0].find(there)
        lost = np.setdiff1d(np.arange(there.rows), source)
        if base is not None:
            laid = _over(base, overlay, source)
            if laid:
                loaded.aligned[layer] = laid
        set_aside = {tag: _edited_rows(placed(column, lost)) for tag, column in overlay.items()} if lost.size else {}
        found: Overlay = {tag: column for tag, column in set_aside.items() if column is not None}
        if found:
            loaded.aside[layer] = found
        replaced = overlay.get(REPLACED)
        if replaced is not None and lost.size:
            loaded.uids.update(there.uid[lost[replaced.all_codes(there.rows)[lost] >= 0]].tolist())

    def _now(self, layer: Layer) -> tuple[Frames | None, tuple[Identity, bytes] | None]:
        """Return the table as it is, and the identity of its rows with its digest."""
        base = self._base(layer)
        if base is None:
            self._identities.pop(layer, None)
            return None, None
        known = self._identities.get(layer)
        if known is None or known[0] is not base:
            identity = Identity.of(base)
            known = self._identities[layer] = base, identity, identity.digest()
        return base, known[1:]

    def _stored(self, layer: Layer) -> tuple[bytes, Identity | None]:
        """Return digest and rows that the edits of a table were made for."""
        row = self._catalog.connection.execute(
            f"SELECT digest, identity FROM edit_row WHERE {_IS_LAYER}", [layer.kind, *layer.key]
        ).fetchone()
        return (b"", None) if row is None else (row[0], Identity.unpack(row[1]))

    # -- writing, in transactions of the caller's

    def lay(
        self,
        connection: sqlite3.Connection,
        changes: Mapping[Layer, Overlay],
        undone: Mapping[Layer, Iterable[int]],
    ) -> None:
        """Stage columns and drop the edits of other tags, and know all edits then without reading them again."""
        loaded, laid = self._loaded, {}
        for layer in dict.fromkeys([*undone, *changes]):
            overlay, dropped = changes.get(layer, {}), list(undone.get(layer, ()))
            if loaded is None or layer in loaded.elsewhere:
                self.refresh()
                self.drop(connection, [layer], dropped)
                self.write(connection, {layer: overlay})
                continue
            earlier = loaded.aligned.get(layer, {})
            kept = {tag: column for tag, column in earlier.items() if tag not in dropped}
            if len(kept) < len(earlier):
                self.drop(connection, [layer], dropped)
            if kept:  # their rows are known and stored
                self._insert(connection, layer, overlay)
            else:
                self.write(connection, {layer: overlay})
            laid[layer] = {**kept, **overlay}
        if self._loaded is not None:
            aligned = {layer: overlay for layer, overlay in {**self._loaded.aligned, **laid}.items() if overlay}
            self._loaded = _Loaded(aligned, *self._loaded[1:])

    def write(self, connection: sqlite3.Connection, changes: Mapping[Layer, Overlay]) -> None:
        """Stage columns for the rows that tables have now, each in place of an earlier edit of the same tag."""
        for layer, overlay in changes.items():
            if overlay:
                behind = self._rebase(connection, layer)
                rows = {tag: self._with_aside(layer, tag, column, *behind) for tag, column in overlay.items()}
                self._insert(connection, layer, rows)

    def drop(
        self, connection: sqlite3.Connection, layers: Iterable[Layer], wanted: Iterable[int] | None = None
    ) -> None:
        """Drop the edits of tables, or those of some tags, also where they are set aside."""
        tags = None if wanted is None else list(wanted)
        for layer in layers:
            place = [layer.kind, *layer.key]
            if tags is None:
                connection.execute(f"DELETE FROM edit WHERE {_IS_LAYER}", place)
            else:
                rows = [(*place, tag) for tag in tags]
                connection.executemany(f"DELETE FROM edit WHERE {_IS_LAYER} AND tag = ?", rows)
            connection.execute(
                f"DELETE FROM edit_row WHERE {_IS_LAYER} AND NOT EXISTS (SELECT 1 FROM edit WHERE {_IS_LAYER})",
                [*place, *place],
            )

    def settle(self, connection: sqlite3.Connection, layer: Layer, failed: Callable[[bytes], bool]) -> None:
        """Drop the edits of a table that are in its files now; those set aside, or of files that failed, stay."""
        base, now = self._now(layer)
        digest, there = self._stored(layer)
        kept = np.empty(0, np.intp)
        if there is not None:
            kept = np.arange(there.rows)
            if base is not None and now is not None:
                source = kept if digest == now[1] else now[0].find(there)
                bad = np.array([*(failed(path) for path in base.files.paths), False], bool)[base.file]
                kept = np.setdiff1d(kept, source[~bad])
        overlay = self._overlay(layer) if kept.size else {}
        self.drop(connection, [layer])
        rest: Overlay = {tag: placed(column, kept) for tag, column in overlay.items()}
        rest = {tag: column for tag, column in rest.items() if column and _edited_rows(column)}
        if rest and there is not None:
            self._insert_identity(connection, layer, there.take(kept))
            self._insert(connection, layer, rest)

    def _rebase(self, connection: sqlite3.Connection, layer: Layer) -> tuple[int, int]:
        """Lay the edits of a table out for its rows as they are; return how many these are, and how many are aside."""
        base, now = self._now(layer)
        if layer.kind == NEW or base is None or now is None:
            return 0, 0
        digest, there = self._stored(layer)
        if there is None:
            self._insert_identity(connection, layer, now[0])
            return len(base), 0
        if digest == now[1]:
            return len(base), 0
        source = now[0].find(there)
        lost = np.setdiff1d(np.arange(there.rows), source)
        rows = np.concatenate([source, lost])
        overlay: Overlay = {tag: placed(column, rows) for tag, column in self._overlay(layer).items()}
        self._insert_identity(connection, layer, now[0].concat(there.take(lost)))
        self._insert(connection, layer, overlay)
        return len(base), len(lost)

    def _with_aside(self, layer: Layer, tag: int, column: Column | None, count: int, aside: int) -> Column | None:
        """Return a column with what an earlier edit says of the rows that are set aside."""
        earlier = self._overlay(layer) if aside else {}
        if tag not in earlier:
            return column if not aside else joined(column, _unedited(aside), count, aside)
        return joined(column, placed(earlier[tag], np.arange(count, count + aside)), count, aside)

    def _overlay(self, layer: Layer) -> Overlay:
        rows = self._catalog.connection.execute(
            f"SELECT tag, raws, codes FROM edit WHERE {_IS_LAYER}", [layer.kind, *layer.key]
        )
        return {tag: _unpacked(raws, codes) for tag, raws, codes in rows}

    @staticmethod
    def _insert(connection: sqlite3.Connection, layer: Layer, overlay: Overlay) -> None:
        rows = [(layer.kind, *layer.key, tag, *_packed(column)) for tag, column in overlay.items()]
        connection.executemany("INSERT OR REPLACE INTO edit VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    @staticmethod
    def _insert_identity(connection: sqlite3.Connection, layer: Layer, identity: Identity) -> None:
        row = [layer.kind, *layer.key, identity.digest(), identity.pack()]
        connection.execute("INSERT OR REPLACE INTO edit_row VALUES (?, ?, ?, ?, ?, ?)", row)


def _over(base: Frames, overlay: Overlay, source: NDArray[np.intp]) -> Overlay:
    """Return edited columns for the rows of a table; where a row is not edited, its value stays."""
    found: Overlay = {}
    for tag, column in overlay.items():
        moved = placed(column, source)
        if _edited_rows(moved) is not None:
            found[tag] = merged(None if tag < 0 else base.columns.get(tag), moved, len(base))
    return {tag: column for tag, column in found.items() if tag >= 0 or column is not None}


def _has_unedited(overlay: Overlay) -> bool:
    codes = [column.codes for column in overlay.values() if column is not None and column.codes is not None]
    return any(bool((each == UNEDITED).any()) for each in codes)


def _edited_rows(column: Column) -> Column | None:
    """Return the rows of a column that are edited, or None where none is."""
    codes = column.all_codes(0)
    rows = np.flatnonzero(codes != UNEDITED)
    return Column(column.values, codes[rows]) if rows.size else None


def _unedited(count: int) -> Column:
    return Column([], np.full(count, UNEDITED, np.int32))


_COUNT = struct.Struct("<L")


def _packed(column: Column | None) -> tuple[bytes | None, bytes | None]:
    if column is None:
        return None, None
    codes = None if column.codes is None else _COUNT.pack(len(column.codes)) + pack_integers(column.codes)
    return pack_raws(column.values), codes


def _unpacked(raws: bytes | None, codes: bytes | None) -> Column | None:
    if raws is None:
        return None
    if codes is None:
        return Column(unpack_raws(raws))
    if len(codes) < _COUNT.size:
        raise CatalogError("the catalog is damaged: an edit that cannot be unpacked")
    count = _COUNT.unpack_from(codes)[0]
    return Column(unpack_raws(raws), unpack_integers(codes[_COUNT.size :], np.int32, count))
