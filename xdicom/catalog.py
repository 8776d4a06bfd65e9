"""The persisted list of the files and frames of one folder, in SQLite.

It reads files that are new or changed, once, and answers everything else from what it keeps. Edits are not known here.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files as package_files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import CatalogError
from .folder import is_network, list_files, private_folder
from .frames import Frames
from .instance import INSTANCE_UID
from .parallel import Scan, scan_files
from .scan import Outcome, SeriesKey
from .seriestables import SeriesTables
from .source import Stamp
from .tables import Table

NAME = "catalog.sqlite"
VERSION = "1"
_BUSY_SECONDS = 30
_PAUSE = 0.02
_UNREADABLE = Stamp(-1, -1, -1)
_ATTEMPTS = 5
# The tables that a reader has copies of in memory while another process is writing.
_SHADOWED = ("file", "series", "value")


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


class _Look(NamedTuple):
    """What is new in the folder, compared with the catalog after one scan: files that came, changed and went."""

    scan: int
    paths: list[bytes]
    changed: set[int]
    removed: set[int]
    outcomes: dict[int, Outcome]
    tables: dict[SeriesKey, Table]


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
        self._version, self._generation, self._is_compared = 0, 0, False
        self._is_writing = False
        self._memory_scan: int | None = None
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
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA fullfsync=ON")
            connection.execute("PRAGMA synchronous=OFF")  # a file that is still empty may be lost
            _set_journal_mode(connection, "truncate" if is_network(path.parent) else "wal")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._ensure_schema(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise CatalogError(f"{str(path)!r} cannot be used ({error}); {_REMEDY}") from error
        except CatalogError as error:
            connection.close()
            raise CatalogError(f"{str(path)!r}: {error}") from None
        return connection

    @staticmethod
    def _ensure_schema(connection: sqlite3.Connection) -> None:
        """Create the tables in an empty database; refuse one with other tables, triggers or views."""
        wanted = _statements(package_files(__package__).joinpath("schema.sql").read_text("utf-8"))
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
        found = {row[0] for row in connection.execute(query)}
        if not found:  # else nothing is locked: another process may be writing
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in wanted:
                        connection.execute(statement)
                    connection.execute("INSERT INTO property VALUES ('version', ?)", [VERSION])
                found = {row[0] for row in connection.execute(query)}
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
        if found != set(wanted):
            raise CatalogError(f"the catalog is not one that this version of xdicom wrote; {_REMEDY}")

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self.lock:
            self.connection.close()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let errors of the database be those of this package."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.Error) -> CatalogError:
        """Return what SQLite says in our words."""
        text = f"the catalog of {str(self.root)!r}"
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            return CatalogError(f"the database of {str(self.root)!r} is closed: open it again, xdicom.database(...)")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return CatalogError(f"{text} is busy: {error}; another process scans or edits, try again")
        is_damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or not isinstance(
            error, sqlite3.OperationalError
        )
        return CatalogError(f"{text} cannot be used ({error})" + (f"; {_REMEDY}" if is_damaged else ""))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and one transaction: committed at the end, rolled back on any error. One in another joins it.

        Raises
        ------
        CatalogError
            If the database cannot be written; nothing is in it then.
        """
        with self.lock:
            if self._is_writing:
                yield self.connection
                return
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                self._is_writing = True
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException as error:
                _roll_back(self.connection)
                if isinstance(error, sqlite3.Error):
                    raise self._told(error) from error
                raise
            finally:
                self._is_writing = self._is_compared = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let everything that is read see one committed state, whatever other processes write meanwhile."""
        with self.lock, self.guarded():
            if self.connection.in_transaction:
                yield
                return
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self._is_compared = False
                _roll_back(self.connection)

    @contextmanager
    def durably(self) -> Iterator[None]:
        """Let transactions survive a power loss: for the points of no return of a save."""
        with self.lock:
            self.connection.execute("PRAGMA synchronous=FULL")
            try:
                yield
            finally:
                self.connection.execute("PRAGMA synchronous=NORMAL")

    def truncate_log(self) -> None:
        """Let no old values stay in SQLite's log, unless somebody is reading them just now."""
        with self.lock, suppress(sqlite3.Error):
            self.connection.execute("PRAGMA busy_timeout=0")
            try:
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self.connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")

    def property(self, name: str) -> str:
        """Return a named value, "" where there is none."""
        row = self.connection.execute("SELECT value FROM main.property WHERE name = ?", [name]).fetchone()
        return "" if row is None else str(row[0])

    def set_property(self, name: str, value: str) -> None:
        """Keep a named value, durably; "" removes it."""
        with self.durably(), self.transaction() as connection:
            connection.execute("DELETE FROM property WHERE name = ?", [name])
            if value:
                connection.execute("INSERT INTO property VALUES (?, ?)", [name, value])

    def paths(self) -> list[bytes]:
        """Return the path of every file, DICOM or not."""
        with self.lock:
            return [row[0] for row in self.connection.execute("SELECT path FROM file")]

    def generation(self) -> int:
        """Return a number that is another one after another process has written into the database."""
        with self.lock:
            if not self._is_compared:  # once a transaction, for in it nothing of others comes
                with self.reading():
                    version = self.connection.execute("PRAGMA data_version").fetchone()[0]
                    if version != self._version:
                        self._version, self._generation = version, self._generation + 1
                        self._frames.clear()
                    self._is_compared = True
            return self._generation

    # -- filling

    def scan_again(self, paths: Sequence[bytes]) -> Scan:
        """Read files anew for `store_again`, without those that are gone."""
        paths = [path for path in paths if os.path.lexists(os.path.join(self.root_bytes, path))]
        return Scan(paths, *scan_files(self.root_bytes, paths))

    def store_again(
        self,
        connection: sqlite3.Connection,
        paths: Sequence[bytes],
        scanned: Scan,
    ) -> None:
        """Replace what is known of files by what was read anew, in a transaction of the caller's."""
        known = {row[0]: row[1] for row in connection.execute("SELECT path, id FROM file")}
        self._store(connection, {known[path] for path in paths if path in known}, *scanned)
        self._count_scan(connection)

    def rescan(self, progress: Callable[[int, int], None] | None = None, *, in_memory: bool = False) -> Report:
        """Read what is new or changed since the last scan, and keep it in one transaction.

        Parameters
        ----------
        progress
            Called with the number of files read and that to read.
        in_memory
            Write nothing: another process is writing, and what is new is for this object only.

        Returns
        -------
        Report
        """
        with self.lock:
            self.leave_memory()
            for _ in range(_ATTEMPTS):
                look = self._look(progress)
                if self._keep(look, in_memory):
                    break
            else:  # others write all the time: keep them out
                with self.transaction() as connection:
                    look = self._look(progress)
                    self._write(connection, look)
            new = len(look.paths) - len(look.changed)
            return self._report(self.connection, new, len(look.changed), len(look.removed))

    def _look(self, progress: Callable[[int, int], None] | None) -> _Look:
        """Compare the folder with the catalog and read what is new; nothing is locked."""
        with self.reading():
            scan = self._scan_number()
            rows = self.connection.execute("SELECT path, id, size, mtime_ns, inode FROM file")
            known = {row[0]: row[1:] for row in rows}
            # A save that is not finished has its files half in place: until then they are what they were.
            pending = {row[0] for row in self.connection.execute("SELECT path FROM job_file")}
        paths: list[bytes] = []
        outcomes: dict[int, Outcome] = {}
        present, changed = set(pending), set()
        for path, stamp in list_files(self.root_bytes, known):
            present.add(path)
            row = known.get(path)
            failed = isinstance(stamp, OSError)
            if path in pending or (row is not None and row[1:] == (_UNREADABLE if failed else stamp)):
                continue
            if isinstance(stamp, OSError):
                reason = f"it cannot be read: {stamp.strerror or stamp}"
                outcomes[len(paths)] = Outcome(_UNREADABLE, "broken", [reason])
            paths.append(path)
            if row is not None:
                changed.add(row[0])
        removed = {row[0] for path, row in known.items() if path not in present}
        wanted = [i for i in range(len(paths)) if i not in outcomes]
        tables, scanned = scan_files(self.root_bytes, [paths[i] for i in wanted], progress)
        outcomes.update({wanted[i]: outcome for i, outcome in scanned.items()})
        ids = np.asarray(wanted, np.int32)
        tables = {key: table._replace(file=ids[table.file]) for key, table in tables.items()}
        return _Look(scan, paths, changed, removed, outcomes, tables)

    def _keep(self, look: _Look, in_memory: bool) -> bool:
        """Keep what was seen, unless another process changed the catalog meanwhile."""
        if in_memory or not (look.paths or look.removed):
            with self.reading():
                if self._scan_number() != look.scan:
                    return False
                if look.paths or look.removed:
                    self._enter_memory()
                    self._store(self.connection, look.changed | look.removed, look.paths, look.tables, look.outcomes)
                    self.connection.execute("COMMIT")
            return True
        with self.transaction() as connection:
            if self._scan_number() != look.scan:
                return False
            self._write(connection, look)
        return True

    def _write(self, connection: sqlite3.Connection, look: _Look) -> None:
        if look.paths or look.removed:
            self._store(connection, look.changed | look.removed, look.paths, look.tables, look.outcomes)
            self._count_scan(connection)

    def _scan_number(self) -> int:
        """Return a number that grows whenever files come, change or go in the catalog, or a save begins."""
        return int(self.property("generation") or 0)

    def _count_scan(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO property VALUES ('generation', ?)", [str(self._scan_number() + 1)])

    def begin_job(self, connection: sqlite3.Connection) -> None:
        """Let scans that are under way look again: files are about to change."""
        self._count_scan(connection)

    def _enter_memory(self) -> None:
        """Copy the tables of files into memory, where they stand before those of the folder."""
        for name in _SHADOWED:
            row = self.connection.execute("SELECT sql FROM main.sqlite_master WHERE name = ?", [name]).fetchone()
            self.connection.execute(row[0].replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
            self.connection.execute(f"INSERT INTO temp.{name} SELECT * FROM main.{name}")
        self._memory_scan = self._scan_number()

    def leave_memory(self) -> bool:
        """Use the tables of the folder again; return whether those in memory were used."""
        with self.lock:
            if self._memory_scan is None:
                return False
            for name in _SHADOWED:
                self.connection.execute(f"DROP TABLE temp.{name}")
            self._memory_scan = None
            self._frames.clear()
            return True

    def is_outdated(self) -> bool:
        """Say whether what is in memory is older than the catalog of the folder."""
        with self.lock:
            return self._memory_scan is not None and self._memory_scan != self._scan_number()

    @staticmethod
    def _report(connection: sqlite3.Connection, new: int, changed: int, removed: int) -> Report:
        counts = dict(connection.execute("SELECT status, count(*) FROM file GROUP BY status"))
        return Report(new, changed, removed, sum(counts.values()), counts.get("skipped", 0), counts.get("broken", 0))

    def _store(
        self,
        connection: sqlite3.Connection,
        gone: set[int],
        paths: Sequence[bytes],
        tables: Mapping[SeriesKey, Table],
        outcomes: Mapping[int, Outcome],
    ) -> None:
        """Write files and their frames into the catalog in place of those that are gone."""
        first = self._series.next_file()
        connection.executemany(
            "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (first + i, path, *outcomes[i].stamp, outcomes[i].status, "\n".join(outcomes[i].problems))
                for i, path in enumerate(paths)
            ),
        )
        numbered = {key: table._replace(file=(table.file + first).astype(np.int32)) for key, table in tables.items()}
        self.generation()  # forgets tables that others changed meanwhile
        self._series.exchange(gone, numbered, self._frames)
        self._frames.clear()

    # -- answering

    def keys(self) -> list[SeriesKey]:
        """Return the keys of all series."""
        with self.reading():
            return self._series.keys()

    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the table of one series, or None where the catalog has no such series."""
        with self.lock:
            self.generation()
            if key not in self._frames:
                with self.reading():
                    self._frames[key] = self._series.frames(key)
            return self._frames[key]

    def problems(self) -> list[Problem]:
        """Return the files that could not be used, or not in full, each with the reason."""
        with self.reading():
            rows = self.connection.execute(
                "SELECT path, problems FROM file"
                " WHERE status = 'broken' OR (status = 'ok' AND problems <> '') ORDER BY path"
            ).fetchall()
        found = [Problem(os.fsdecode(path), reason) for path, text in rows for reason in text.split("\n")]
        return found + self._duplicates()

    def _duplicates(self) -> list[Problem]:
        """Return the files whose SOPInstanceUID another file has too, but for the whole one that comes first."""
        found = []
        for key in self.keys():
            frames = self.frames(key)
            if frames is None or frames.columns.get(INSTANCE_UID) is None:
                continue
            first = np.flatnonzero(frames.number == frames.number.min())
            codes = frames.columns[INSTANCE_UID].all_codes(len(frames))[first]
            counts = np.bincount(codes[codes >= 0], minlength=1)
            for code in np.flatnonzero(counts > 1).tolist():
                rows = first[codes == code]
                paths = [os.fsdecode(frames.files.paths[file]) for file in frames.file[rows].tolist()]
                good, *others = [
                    path for _, path in sorted(zip((frames.offset[rows] < 0).tolist(), paths, strict=True))
                ]
                found += [Problem(path, f"it has the same SOPInstanceUID as {good!r}") for path in others]
        return found

    def damage(self) -> list[Problem]:
        """Return what SQLite finds wrong with the catalog's file."""
        with self.lock:
            found = [str(row[0]) for row in self.connection.execute("PRAGMA integrity_check")]
        return [Problem(str(self.private), text) for text in found if text != "ok"]

    def counts(self) -> Report:
        """Return how many files there are, were skipped, are broken."""
        with self.reading():
            return self._report(self.connection, 0, 0, 0)


_REMEDY = "delete it to have the folder scanned anew (unsaved edits in it are lost)"


def _set_journal_mode(connection: sqlite3.Connection, mode: str) -> None:
    """Set how SQLite keeps its promises; SQLite itself does not wait for another process that does so now."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != mode:
        try:
            connection.execute(f"PRAGMA journal_mode={mode}")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _roll_back(connection: sqlite3.Connection) -> None:
    """Roll back, unless there is nothing to: after some errors SQLite has done so itself."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _statements(script: str) -> list[str]:
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]
