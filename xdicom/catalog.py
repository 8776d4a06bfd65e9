"""The persisted list of the files and frames of one folder, in SQLite.

It reads files that are new or changed, once, and answers everything else from what it keeps. Edits are not known here.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files as package_files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .columns import Column
from .errors import CatalogError
from .folder import is_network, list_files, private_folder
from .frames import Files, Frames
from .instance import INSTANCE_UID
from .packing import pack_integers, pack_raws, unpack_integers, unpack_raws
from .parallel import scan_files
from .scan import Outcome, SeriesKey
from .source import Stamp
from .tables import Table

_IS_KEY = "(patient, study, series) = (?, ?, ?)"
NAME = "catalog.sqlite"
VERSION = "1"
_BUSY_SECONDS = 30
_UNREADABLE = Stamp(-1, -1, -1)


class Problem(NamedTuple):
    """A file that could not be used, or not in full, and why."""

    path: str
    reason: str


class Report(NamedTuple):
    """What a rescan found: numbers of files that are new, changed, removed; and of all, skipped and broken."""

    new: int
    changed: int
    removed: int
    files: int
    skipped: int
    broken: int


class _Columns(Mapping[int, Column]):
    """The columns of one series, unpacked when first asked for."""

    def __init__(self, packed: dict[int, tuple[bytes, bytes | None]], count: int) -> None:
        self._packed, self._count = packed, count
        self._columns: dict[int, Column] = {}

    def __getitem__(self, tag: int) -> Column:
        found = self._columns.get(tag)
        if found is None:
            raws, codes = self._packed[tag]
            values = unpack_raws(raws)
            rows = None if codes is None else unpack_integers(codes, np.int32, self._count)
            if not values or (rows is not None and rows.size and not -1 <= rows.min() <= rows.max() < len(values)):
                raise CatalogError(f"the catalog is damaged: values of {tag:08X} that do not fit its rows")
            found = self._columns[tag] = Column(values, rows)
        return found

    def __contains__(self, tag: object) -> bool:
        return tag in self._packed

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


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
        rows = self._connection.execute(f"SELECT tag, raws, codes FROM {self._value} WHERE series = ?", [series])
        columns = _Columns({tag: (raws, codes) for tag, raws, codes in rows}, count)
        return Table(file, number, offset, length, columns)

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
        rows = [
            (
                cursor.lastrowid,
                tag,
                pack_raws(column.values),
                None if column.codes is None else pack_integers(column.codes),
            )
            for tag, column in sorted(table.columns.items())
        ]
        self._connection.executemany(f"INSERT INTO {self._value} VALUES (?, ?, ?, ?)", rows)

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

    def drop_files(self, gone: set[int]) -> None:
        """Remove files, and the rows of frames in them."""
        dropped = np.fromiter(gone, np.int64, len(gone))
        found = self._connection.execute(f"SELECT patient, study, series, frames, file FROM {self._series}").fetchall()
        for *parts, count, file in found:
            lost = np.isin(unpack_integers(file, np.int32, count), dropped)
            if not lost.any():
                continue
            key = SeriesKey(*parts)
            table = self.read(key)
            self.delete(key)
            if table is not None and not lost.all():
                self.insert(key, table.take(np.flatnonzero(~lost)))
        self._connection.executemany(f"DELETE FROM {self._file} WHERE id = ?", ((file,) for file in gone))

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


class Catalog:
    """The catalog of one folder.

    Parameters
    ----------
    root
        The user's folder; nothing in it but `.xdicom` is ever written.

    Raises
    ------
    CatalogError
        If the folder does not exist, or its catalog is damaged or of another version.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise CatalogError(f"{str(self.root)!r} is no folder; give the folder that holds the DICOM files")
        self.root = self.root.resolve()
        self.private = private_folder(self.root)
        self.lock = threading.RLock()
        self._frames: dict[SeriesKey, Frames | None] = {}
        self._version, self._generation = 0, 0
        self.connection = self._open(self.private / NAME)
        self.root_bytes = os.fsencode(self.root)
        self._series = SeriesTables(self.connection, self.root_bytes)

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError as error:
            raise CatalogError(f"{str(path)!r} cannot be used ({error.strerror}); {_REMEDY}") from error
        os.close(descriptor)
        path.chmod(0o600)  # SQLite gives its other files the same mode
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA synchronous=OFF")  # a file that is still empty may be lost
            connection.execute(f"PRAGMA journal_mode={'TRUNCATE' if is_network(path.parent) else 'WAL'}")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._ensure_schema(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise CatalogError(f"{str(path)!r} cannot be used ({error}); {_REMEDY}") from error
        except CatalogError:
            connection.close()
            raise
        return connection

    @staticmethod
    def _ensure_schema(connection: sqlite3.Connection) -> None:
        """Create the tables in an empty database; refuse one with other tables, triggers or views."""
        script = package_files(__package__).joinpath("schema.sql").read_text("utf-8")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute("INSERT INTO property VALUES ('version', ?)", [VERSION])
            found = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
            if found != set(_statements(script)):
                raise CatalogError(f"the catalog is not one that this version of xdicom wrote; {_REMEDY}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self.lock:
            self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and one transaction: committed at the end, rolled back on any error."""
        with self._reading():
            try:
                self.connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                text = f"the catalog of {str(self.root)!r} is busy: {error}; another process scans or edits, try again"
                raise CatalogError(text) from error
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite ends it by itself on some errors
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def durably(self) -> Iterator[None]:
        """Let transactions survive a power loss: for the points of no return of a save."""
        with self.lock:
            self.connection.execute("PRAGMA synchronous=FULL")
            try:
                yield
            finally:
                self.connection.execute("PRAGMA synchronous=NORMAL")

    def paths(self) -> list[bytes]:
        """Return the path of every file, DICOM or not."""
        with self.lock:
            return [row[0] for row in self.connection.execute("SELECT path FROM file")]

    def generation(self) -> int:
        """Return a number that is another one after another process has written into the database."""
        with self._reading():
            version = self.connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._version = version
                self._generation += 1
                self._frames.clear()
            return self._generation

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold the lock, and tell of a damaged database in our words."""
        with self.lock:
            try:
                yield
            except sqlite3.DatabaseError as error:
                raise CatalogError(f"the catalog of {str(self.root)!r} cannot be used ({error}); {_REMEDY}") from error

    # -- filling

    def rescan_files(self, paths: Sequence[bytes]) -> None:
        """Read some files anew, in a transaction of the caller's; those that are gone are dropped."""
        known = {row[0]: row[1] for row in self.connection.execute("SELECT path, id FROM file")}
        gone = {known[path] for path in paths if path in known}
        there = [path for path in paths if os.path.lexists(os.path.join(self.root_bytes, path))]
        self._store(self.connection, there, {}, gone, None)

    def rescan(self, progress: Callable[[int, int], None] | None = None) -> Report:
        """Read what is new or changed since the last scan, in one transaction.

        Parameters
        ----------
        progress
            Called with the number of files read and that to read.

        Returns
        -------
        Report
        """
        with self.transaction() as connection:
            known = {row[0]: row[1:] for row in connection.execute("SELECT path, id, size, mtime_ns, inode FROM file")}
            paths: list[bytes] = []
            outcomes: dict[int, Outcome] = {}
            present, changed = set(), []
            for path, stamp in list_files(self.root_bytes):
                present.add(path)
                row = known.get(path)
                failed = isinstance(stamp, OSError)
                if row is not None and row[1:] == (_UNREADABLE if failed else stamp):
                    continue
                if isinstance(stamp, OSError):
                    reason = f"it cannot be read: {stamp.strerror or stamp}"
                    outcomes[len(paths)] = Outcome(_UNREADABLE, "broken", [reason])
                paths.append(path)
                if row is not None:
                    changed.append(row[0])
            removed = [row[0] for path, row in known.items() if path not in present]
            if paths or removed:
                self._store(connection, paths, outcomes, {*changed, *removed}, progress)
            return self._report(connection, len(paths) - len(changed), len(changed), len(removed))

    @staticmethod
    def _report(connection: sqlite3.Connection, new: int, changed: int, removed: int) -> Report:
        counts = dict(connection.execute("SELECT status, count(*) FROM file GROUP BY status"))
        return Report(new, changed, removed, sum(counts.values()), counts.get("skipped", 0), counts.get("broken", 0))

    def _store(
        self,
        connection: sqlite3.Connection,
        paths: list[bytes],
        outcomes: dict[int, Outcome],
        gone: set[int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Scan files and write them into the catalog in place of those that are gone."""
        wanted = [i for i in range(len(paths)) if i not in outcomes]
        tables, scanned = scan_files(self.root_bytes, [paths[i] for i in wanted], progress)
        outcomes.update({wanted[i]: outcome for i, outcome in scanned.items()})
        if gone:
            self._series.drop_files(gone)
        first = self._series.next_file()
        connection.executemany(
            "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (first + i, path, *outcomes[i].stamp, outcomes[i].status, "\n".join(outcomes[i].problems))
                for i, path in enumerate(paths)
            ),
        )
        ids = first + np.asarray(wanted, np.int32)
        for key, table in tables.items():
            self._series.append(key, table._replace(file=ids[table.file].astype(np.int32)))
        self._frames.clear()

    # -- answering

    def keys(self) -> list[SeriesKey]:
        """Return the keys of all series."""
        with self._reading():
            return self._series.keys()

    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the table of one series, or None where the catalog has no such series."""
        with self._reading():
            self.generation()
            if key not in self._frames:
                self._frames[key] = self._series.frames(key)
            return self._frames[key]

    def problems(self) -> list[Problem]:
        """Return the files that could not be used, or not in full, each with the reason."""
        with self._reading():
            rows = self.connection.execute(
                "SELECT path, problems FROM file"
                " WHERE status = 'broken' OR (status = 'ok' AND problems <> '') ORDER BY path"
            ).fetchall()
        found = [Problem(os.fsdecode(path), reason) for path, text in rows for reason in text.split("\n")]
        return found + self._duplicates()

    def _duplicates(self) -> list[Problem]:
        """Return the files whose SOPInstanceUID another file has too."""
        found = []
        for key in self.keys():
            frames = self.frames(key)
            if frames is None or frames.columns.get(INSTANCE_UID) is None:
                continue
            first = np.flatnonzero(frames.number == frames.number.min())
            codes = frames.columns[INSTANCE_UID].all_codes(len(frames))[first]
            counts = np.bincount(codes[codes >= 0], minlength=1)
            for row, code in zip(first.tolist(), codes.tolist(), strict=True):
                if code >= 0 and counts[code] > 1:
                    path = os.fsdecode(frames.files.paths[frames.file[row]])
                    found.append(Problem(path, "another file has the same SOPInstanceUID"))
        return found

    def counts(self) -> Report:
        """Return how many files there are, were skipped, are broken."""
        with self._reading():
            return self._report(self.connection, 0, 0, 0)


_REMEDY = "delete it to have the folder scanned anew (unsaved edits in it are lost)"


def _statements(script: str) -> list[str]:
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]
