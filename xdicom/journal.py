"""Put new, changed and removed files in place: all of them or, whatever happens, none.

Files are written and flushed aside first; one SQLite transaction is the point of no return, and who opens the folder
next finishes what was interrupted after it. What is in the files is not its business.
"""

import ctypes
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .catalog import Catalog
from .edits import Edits, Layer
from .errors import SaveError
from .naming import inside
from .scan import SeriesKey
from .source import Stamp
from .writer import Block, flush_directory

TEMPORARY = "tmp"
_SEVERAL = 8
_NO_STAMP = Stamp(-1, -1, -1)

Progress = Callable[[int, int], None]


class Work(NamedTuple):
    """One file of a save.

    Attributes
    ----------
    action
        "replace", "create" or "remove".
    path
        Relative to the folder.
    stamp
        Of the file as it was scanned; that of a new one does not count.
    content
        Gives the bytes of the new file.
    """

    action: str
    path: bytes
    stamp: Stamp
    content: Callable[[], Iterator[Block]] | None


class _Row(NamedTuple):
    path: bytes
    temp: bytes
    action: str
    size: int
    digest: bytes
    old_size: int
    old_mtime_ns: int
    old_inode: int


class Journal:
    """Saves into one folder.

    Parameters
    ----------
    catalog, edits
        Of the folder.
    """

    def __init__(self, catalog: Catalog, edits: Edits) -> None:
        self._catalog, self._edits = catalog, edits
        self._root = catalog.root_bytes
        self._folder = catalog.private / TEMPORARY

    def save(self, works: Sequence[Work], layers: Iterable[Layer], progress: Progress | None = None) -> None:
        """Write files, put them in place, and forget the edits that are in them now.

        Parameters
        ----------
        works
            The files.
        layers
            The tables whose edits they hold.
        progress
            Called with the number of files written and that of all.

        Raises
        ------
        SaveError
            If a file cannot be written, or is not the one any more that was scanned; nothing has changed then.
        """
        try:
            rows = self._prepare(works, progress)
            self._commit_ready(rows, layers)
        except BaseException as error:
            self.sweep()
            if isinstance(error, OSError) and not isinstance(error, SaveError):
                raise SaveError(f"nothing was saved, edits are still staged: {error.strerror or error}") from error
            raise
        self._finish(rows)

    def recover(self) -> None:
        """Finish a save that was interrupted after its point of no return, and sweep up what others left."""
        rows = self._rows()
        if rows:
            self._finish(rows)
        self.sweep()

    def is_pending(self) -> bool:
        """Say whether a save waits to be finished."""
        return bool(self._rows())

    def sweep(self) -> None:
        """Remove temporary files that no job refers to."""
        if not self._rows():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _rows(self) -> list[_Row]:
        with self._catalog.lock:
            return [_Row(*row) for row in self._catalog.connection.execute("SELECT * FROM job_file ORDER BY path")]

    # -- before the point of no return

    def _prepare(self, works: Sequence[Work], progress: Progress | None) -> list[_Row]:
        """Write every new file aside, flushed, and check that each target is still the file that was scanned."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        rows = []
        for number, work in enumerate(works):
            rows.append(self._write(work, self._folder / str(number)))
            if progress:
                progress(number + 1, len(works))
        _flush_all([Path(os.fsdecode(row.temp)) for row in rows if row.action != "remove"], self._folder)
        for work in works:
            self._check_target(work)
        return rows

    def _write(self, work: Work, temp: Path) -> _Row:
        digest, size = hashlib.blake2b(digest_size=16), 0
        if work.content is not None:
            descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            try:
                for block in work.content():
                    digest.update(block)
                    view = memoryview(block)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    size += len(block)
                self._take_mode(work, descriptor)
            finally:
                os.close(descriptor)
        return _Row(work.path, os.fsencode(temp), work.action, size, digest.digest(), *work.stamp)

    def _take_mode(self, work: Work, descriptor: int) -> None:
        """Give a new file the mode and owner of the old one, or those that new files get."""
        if not hasattr(os, "fchmod"):
            return
        if work.action == "create":
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(descriptor, 0o666 & ~umask)
            return
        status = os.lstat(self._target(work.path))
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, status.st_uid, status.st_gid)

    def _target(self, path: bytes) -> bytes:
        return os.path.join(self._root, path)

    def _check_target(self, work: Work) -> None:
        name = os.fsdecode(work.path)
        try:
            status = os.lstat(self._target(work.path))
        except FileNotFoundError:
            if work.action == "create":
                inside(os.fsdecode(self._root), name)
                return
            raise SaveError(
                f"{name!r} has gone since it was scanned: nothing was saved; rescan() shows what is there"
            ) from None
        if work.action == "create":
            raise SaveError(f"{name!r} is there already: nothing was saved")
        if stat.S_ISLNK(status.st_mode):
            raise SaveError(f"{name!r} is a link: saving would replace it; nothing was saved")
        if Stamp.of(status) != work.stamp:
            raise SaveError(f"{name!r} changed since it was scanned: nothing was saved; rescan() shows what is there")

    def _commit_ready(self, rows: Sequence[_Row], layers: Iterable[Layer]) -> None:
        with self._catalog.durably(), self._catalog.transaction() as connection:
            connection.executemany("INSERT INTO job_file VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO job_layer VALUES (?, ?, ?, ?)", [(kind, *key) for kind, key in layers])

    # -- behind it

    def _finish(self, rows: Sequence[_Row]) -> None:
        """Put every file in place, then forget job and edits; may be done again from any point."""
        folders = set()
        for row in rows:
            folders |= self._put_in_place(row)
        for folder in folders:
            flush_directory(os.fsdecode(folder))
        with self._catalog.durably(), self._catalog.transaction() as connection:
            layers = [Layer(kind, SeriesKey(*key)) for kind, *key in connection.execute("SELECT * FROM job_layer")]
            self._catalog.rescan_files([row.path for row in rows])
            self._edits.forget_within(connection, layers)
            connection.execute("DELETE FROM job_file")
            connection.execute("DELETE FROM job_layer")
        self._edits.refresh()
        self.sweep()

    def _put_in_place(self, row: _Row) -> set[bytes]:
        """Move one file to its place, or remove it; return the folders that must be flushed."""
        target, temp = self._target(row.path), row.temp
        folders = {os.path.dirname(target)}
        if row.action == "remove":
            old = Stamp(row.old_size, row.old_mtime_ns, row.old_inode)
            if os.path.lexists(target) and Stamp.of(os.lstat(target)) == old:
                os.unlink(target)
            return folders
        if not os.path.lexists(temp):
            return folders
        if row.action == "replace":
            os.replace(temp, target)
            return folders
        folders |= _make_folders(os.path.dirname(target))
        try:
            os.link(temp, target)
        except FileExistsError:
            if not os.path.samefile(temp, target):
                raise SaveError(
                    f"{os.fsdecode(target)!r} came into the way of a save: move it away and open the folder again"
                ) from None
        os.unlink(temp)
        return folders


def _make_folders(folder: bytes) -> set[bytes]:
    """Make a folder and those above it; return the parents of those made."""
    touched = set()
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for each in reversed(missing):
        os.mkdir(each)
        touched.add(os.path.dirname(each))
    return touched


def _flush_all(paths: Sequence[Path], folder: Path) -> None:
    """Flush files and the folder that they are in; many by one flush of their file system."""
    if len(paths) > _SEVERAL and _flush_file_system(folder):
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    flush_directory(folder)


def _flush_file_system(folder: Path) -> bool:
    """Flush the file system of a folder; False where the platform has no such call."""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
    return True
