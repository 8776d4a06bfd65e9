"""The tables of series in SQLite, packed: those of the catalog and, in the same form, those of what is staged.

What is in the files is not known here, nor who may write when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .columns import Column
from .errors import CatalogError
from .frames import Files, Frames
from .packing import pack_integers, pack_raws, unpack_integers, unpack_raws
from .scan import SeriesKey
from .source import Stamp
from .tables import Table

if TYPE_CHECKING:
    import sqlite3

_IS_KEY = "(patient, study, series) = (?, ?, ?)"


class _Columns(Mapping[int, Column]):
    """The columns of one series, unpacked when first asked for; `packed` is how the database holds them."""

    def __init__(self, packed: dict[int, tuple[bytes, bytes | None]], count: int) -> None:
        self.packed, self._count = packed, count
        self._columns: dict[int, Column] = {}

    def __getitem__(self, tag: int) -> Column:
        found = self._columns.get(tag)
        if found is None:
            raws, codes = self.packed[tag]
            values = unpack_raws(raws)
            rows = None if codes is None else unpack_integers(codes, np.int32, self._count)
            if not values or (rows is not None and rows.size and not -1 <= rows.min() <= rows.max() < len(values)):
                raise CatalogError(f"the catalog is damaged: values of {tag:08X} that do not fit its rows")
            found = self._columns[tag] = Column(values, rows)
        return found

    def __contains__(self, tag: object) -> bool:
        return tag in self.packed

    def __iter__(self) -> Iterator[int]:
        return iter(self.packed)

    def __len__(self) -> int:
        return len(self.packed)


class SeriesTables:
    """The tables of series in SQLite: those of the catalog, or with the prefix `staged_` those of the edits.

    Parameters
    ----------
    connection
        An open database with the tables of `schema.sql`.
    root
        The folder that paths are relative to.
    prefix
        "" or "staged_".
    """

    def __init__(self, connection: sqlite3.Connection, root: bytes, prefix: str = "") -> None:
        self._connection, self._root = connection, root
        self._file, self._series, self._value = f"{prefix}file", f"{prefix}series", f"{prefix}value"

    def keys(self) -> list[SeriesKey]:
        """Return the keys of all series."""
        rows = self._connection.execute(f"SELECT patient, study, series FROM {self._series}")
        return [SeriesKey(*row) for row in rows]

    def next_file(self) -> int:
        """Return the first free file number."""
        return 1 + (self._connection.execute(f"SELECT max(id) FROM {self._file}").fetchone()[0] or 0)

    def read(self, key: SeriesKey) -> Table | None:
        """Return the table of a series, with `file` as file numbers, or None."""
        row = self._connection.execute(
            f'SELECT id, frames, file, number, "offset", length FROM {self._series} WHERE {_IS_KEY}', key
        ).fetchone()
        if row is None:
            return None
        series, count = row[:2]
        file, number = (unpack_integers(blob, np.int32, count) for blob in row[2:4])
        offset, length = (unpack_integers(blob, np.int64, count) for blob in row[4:6])
        return Table(file, number, offset, length, _Columns(self._packed_of(series), count))

    def _packed_of(self, series: int) -> dict[int, tuple[bytes, bytes | None]]:
        rows = self._connection.execute(f"SELECT tag, raws, codes FROM {self._value} WHERE series = ?", [series])
        return {tag: (raws, codes) for tag, raws, codes in rows}

    def add_files(self, files: Sequence[tuple[bytes, Stamp]]) -> int:
        """Append files (not those of the catalog, which have more columns) and return the number of the first."""
        first = self.next_file()
        rows = [(first + i, path, *stamp) for i, (path, stamp) in enumerate(files)]
        self._connection.executemany(f"INSERT INTO {self._file} VALUES (?, ?, ?, ?, ?)", rows)
        return first

    def insert(self, key: SeriesKey, table: Table) -> None:
        """Write the table of a series that is not there yet."""
        cursor = self._connection.execute(
            f'INSERT INTO {self._series} (patient, study, series, frames, file, number, "offset", length)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [*key, len(table.file), *[pack_integers(array) for array in table[:4]]],
        )
        rows = [(cursor.lastrowid, tag, *packed) for tag, packed in _packed(table)]
        self._connection.executemany(f"INSERT INTO {self._value} VALUES (?, ?, ?, ?)", rows)

    def _overwrite(self, series: int, table: Table, held: Frames | None = None) -> None:
        """Write the table of a series in the place of the one that is there: most columns stay what they are."""
        self._connection.execute(
            f'UPDATE {self._series} SET (frames, file, number, "offset", length) = (?, ?, ?, ?, ?) WHERE id = ?',
            [len(table.file), *[pack_integers(array) for array in table[:4]], series],
        )
        columns = held.columns if held is not None else None
        known = dict(columns.packed if isinstance(columns, _Columns) else self._packed_of(series))
        rows = [(series, tag, *packed) for tag, packed in _packed(table) if known.pop(tag, None) != packed]
        self._connection.executemany(
            f"DELETE FROM {self._value} WHERE (series, tag) = (?, ?)", [(series, tag) for tag in known]
        )
        self._connection.executemany(f"INSERT OR REPLACE INTO {self._value} VALUES (?, ?, ?, ?)", rows)

    def delete(self, key: SeriesKey) -> None:
        """Remove the table of a series; nothing happens where there is none."""
        found = f"SELECT id FROM {self._series} WHERE {_IS_KEY}"
        self._connection.execute(f"DELETE FROM {self._value} WHERE series = ({found})", key)
        self._connection.execute(f"DELETE FROM {self._series} WHERE {_IS_KEY}", key)

    def append(self, key: SeriesKey, table: Table) -> None:
        """Add rows to a series, new or not."""
        before = self.read(key)
        if before is not None:
            self.delete(key)
            table = Table.concat([before, table])
        self.insert(key, table)

    def exchange(
        self, gone: set[int], tables: Mapping[SeriesKey, Table], held: Mapping[SeriesKey, Frames | None]
    ) -> None:
        """Remove files and the rows of frames in them, and add rows to series, new or not.

        Parameters
        ----------
        gone
            Numbers of the files.
        tables
            The rows.
        held
            What is in the database, as far as it was read already.
        """
        dropped = np.fromiter(gone, np.int64, len(gone))
        every = f"SELECT id, patient, study, series, frames, file FROM {self._series}"
        found = [(every, ())] if gone else [(f"{every} WHERE {_IS_KEY}", key) for key in tables]
        new = dict(tables)
        for series, *parts, count, file in [row for query in found for row in self._connection.execute(*query)]:
            key = SeriesKey(*parts)
            lost = np.isin(unpack_integers(file, np.int32, count), dropped)
            added = [new.pop(key)] if key in new else []
            if lost.all() and not added:
                self.delete(key)
            elif lost.all():
                self._overwrite(series, added[0], held.get(key))
            elif (lost.any() or added) and (before := self.read(key)) is not None:
                self._overwrite(series, Table.concat([before.take(np.flatnonzero(~lost)), *added]))
        for key, table in new.items():
            self.insert(key, table)
        self._connection.executemany(f"DELETE FROM {self._file} WHERE id = ?", ((file,) for file in gone))

    def drop_unused_files(self) -> list[bytes]:
        """Forget files that no series has rows of; return the paths of the others."""
        used: set[int] = set()
        for count, file in self._connection.execute(f"SELECT frames, file FROM {self._series}"):
            used.update(np.unique(unpack_integers(file, np.int32, count)).tolist())
        files = self._connection.execute(f"SELECT id, path FROM {self._file}").fetchall()
        gone = [(number,) for number, _ in files if number not in used]
        self._connection.executemany(f"DELETE FROM {self._file} WHERE id = ?", gone)
        return [path for number, path in files if number in used]

    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the rows of a series with their files attached, or None."""
        table = self.read(key)
        if table is None:
            return None
        numbers = np.unique(table.file[table.file >= 0])
        rows = self._connection.execute(
            f"SELECT id, path, size, mtime_ns, inode FROM {self._file} WHERE id BETWEEN ? AND ?",
            [int(numbers[0]), int(numbers[-1])] if numbers.size else [0, -1],
        )
        by_id = {row[0]: row for row in rows}
        if not by_id.keys() >= set(numbers.tolist()):
            raise CatalogError("the catalog is damaged: frames of files that it does not list")
        kept = [by_id[i] for i in numbers.tolist()]
        files = Files(
            self._root, [row[1] for row in kept], np.array([row[2:] for row in kept], np.int64).reshape(-1, 3)
        )
        # A placeholder has no file: -1 stays -1.
        file = np.where(table.file < 0, -1, np.searchsorted(numbers, table.file)).astype(np.int32)
        return Frames(files, file, table.number, table.offset, table.length, table.columns)


def _packed(table: Table) -> Iterator[tuple[int, tuple[bytes, bytes | None]]]:
    """Yield the columns of a table by tag, packed."""
    for tag, column in sorted(table.columns.items()):
        yield tag, (pack_raws(column.values), None if column.codes is None else pack_integers(column.codes))
