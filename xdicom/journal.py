"""Put new, changed and removed files in place: all of them or, whatever happens, none.

Files are written and flushed aside first; one SQLite transaction is the point of no return, and who opens the folder
next finishes what was interrupted after it. What is in the files is not its business.
"""

import os
import shutil
import stat
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from .catalog import Catalog
from .edits import Edits, Layer
from .errors import SaveError
from .flushing import EarlyWriting, flushed
from .folder import PRIVATE_NAME
from .freeing import Freeing
from .instance import uid_hash
from .naming import inside
from .parallel import Scan, scan_files
from .replaced import note_replaced
from .scan import SeriesKey
from .source import Stamp, Start
from .temporary import Status, checksum_of, link_new, owner_of, stamp_of, write_temporary
from .writer import Block, flush_directory

TEMPORARY = "tmp"
_ELSEWHERE = "temporary folders elsewhere"
_NO_STAMP = Stamp(-1, -1, -1)
_ATTEMPTS, _PAUSE = 3, 0.1
_MOST_KEPT = 64 << 20
_ORDER = {"create": 0, "replace": 1, "remove": 2}

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
    instance
        SOPInstanceUID of staged frames that the file is written from.
    """

    action: str
    path: bytes
    stamp: Stamp
    content: Callable[[], Iterator[Block]] | None
    instance: str = ""


class _Row(NamedTuple):
    """One file of a job; `temp` is b"" where a file is removed, and relative to the private folder if it is in it."""

    path: bytes
    temp: bytes
    action: str
    instance: str
    digest: bytes
    old: Stamp
    new: Stamp


class Journal:
    """Saves into one folder.

    Parameters
    ----------
    catalog, edits
        Of the folder.
    """

    def __init__(self, catalog: Catalog, edits: Edits) -> None:
        self._catalog, self._edits = catalog, edits
        self._root = os.path.join(catalog.root_bytes, b"")
        self._private = os.path.join(os.fsencode(catalog.private), b"")
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
            If a file cannot be written, or is not the one any more that was scanned; nothing has changed then. Also if
            files could not be put in place afterwards; the text says what became of the save.
        """
        ordered = sorted(works, key=lambda work: _ORDER[work.action])
        try:
            rows, scan = self._prepare(ordered, progress)
            kept = self._keep_sources(rows)
            self._commit_ready(rows, layers, kept)
        except BaseException as error:
            self._sweep()
            if isinstance(error, OSError) and not isinstance(error, SaveError):
                raise SaveError(f"nothing was saved, edits are still staged: {error.strerror or error}") from error
            raise
        failed = self._finish_surely(rows, scan)
        if failed:
            raise SaveError(_refusal(failed, len(rows)))

    def recover(self) -> None:
        """Finish a save that was interrupted after its point of no return, and sweep up what others left.

        Raises
        ------
        OSError
            If files cannot be put in place.
        """
        rows = self._rows()
        if rows:
            states = [self._state(row, verify=True) for row in rows]
            if "lost" in states and "placed" not in states:
                # Its commit was reported as failed, and its files were swept; or a disk lost what it had flushed.
                self._forget_job()
            else:
                self._finish(rows, verify=True)
        self._sweep()

    def is_pending(self) -> bool:
        """Say whether a save waits to be finished."""
        return bool(self._rows())

    def is_untidy(self) -> bool:
        """Say whether an earlier save left something."""
        return self._folder.exists() or self.is_pending() or bool(self._elsewhere())

    def _sweep(self) -> None:
        """Remove temporary files that no job refers to."""
        with suppress(OSError):  # the next sweeps then
            if self.is_pending():
                return
            shutil.rmtree(self._folder, ignore_errors=True)
            elsewhere = self._elsewhere()
            for folder in elsewhere:
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # it is the private folder of another database
                    os.rmdir(os.path.dirname(folder))
            if elsewhere:
                self._catalog.set_property(_ELSEWHERE, "")

    def _elsewhere(self) -> list[str]:
        """Return the folders of temporary files on other file systems than that of the private folder."""
        with self._catalog.reading():
            found = self._catalog.property(_ELSEWHERE)
        return [os.fsdecode(bytes.fromhex(each)) for each in found.split()]

    def _rows(self) -> list[_Row]:
        with self._catalog.reading():
            found = self._catalog.connection.execute("SELECT * FROM job_file").fetchall()
        rows = [_Row(*row[:5], Stamp(*row[5:8]), Stamp(*row[8:])) for row in found]  # type: ignore[call-arg]
        return sorted(rows, key=lambda row: (_ORDER[row.action], row.path))

    # -- before the point of no return

    def _prepare(self, works: Sequence[Work], progress: Progress | None) -> tuple[list[_Row], Scan]:
        """Write every new file aside, flushed, and check that each target is still the file that was scanned.

        Returns the files, and what a scan finds in them: what the disk does meanwhile costs no time.
        """
        _refuse_twice(works)
        parents = [os.path.dirname(work.path) for work in works]
        self._refuse_outside(set(parents))
        # Again when all is written, but who waits for nothing is told at once.
        found = [self._checked_target(work) for work in works]
        folders = self._make_folders(set(parents))
        names = {parent: os.path.join(os.fsencode(folder), b"") for parent, folder in folders.items()}
        temps = [b"%b%d" % (names[parent], number) for number, parent in enumerate(parents)]
        rows, starts = self._write_all(works, found, temps, progress)
        scan = self._flush_and_scan([row for row in rows if row.temp], starts, set(folders.values()))
        for above in {above for folder in folders.values() for above in list(folder.parents)[:3]}:
            flush_directory(above)
        for work, before in zip(works, found, strict=True):
            if owner_of(self._checked_target(work)) != owner_of(before):
                name = os.fsdecode(work.path)
                raise SaveError(f"owner or mode of {name!r} changed while it was saved: nothing was saved; save again")
        return rows, scan

    def _write_all(
        self, works: Sequence[Work], found: Sequence[Status], temps: Sequence[bytes], progress: Progress | None
    ) -> tuple[list[_Row], dict[int, Start]]:
        """Write every new file aside; return also the first bytes of new files, as long as all are not many.

        These are by the place of the file among the new ones.
        """
        rows: list[_Row] = []
        starts: dict[int, Start] = {}
        kept = count = 0
        with EarlyWriting() as early:
            for number, (work, before, temp) in enumerate(zip(works, found, temps, strict=True), 1):
                if work.content is None:
                    rows.append(_Row(work.path, b"", work.action, work.instance, b"", work.stamp, _NO_STAMP))
                else:
                    new = write_temporary(temp, work.content(), before, instead_of=work.path, close=early.close)
                    name = temp.removeprefix(self._private)
                    rows.append(_Row(work.path, name, work.action, work.instance, new.checksum, work.stamp, new.stamp))
                    kept += len(new.start)
                    if new.start and kept <= _MOST_KEPT:
                        starts[count] = new.stamp, new.start
                    count += 1
                if progress:
                    progress(number, len(works))
        return rows, starts

    def _flush_and_scan(self, rows: Sequence[_Row], starts: Mapping[int, Start], folders: Collection[Path]) -> Scan:
        """Flush new files and the folders that they are in; read meanwhile what is in them."""
        paths, temps = [row.path for row in rows], [self._temp(row) for row in rows]
        with ExitStack() as flushes:
            for folder in folders:
                within = os.path.join(os.fsencode(folder), b"")
                flushes.enter_context(flushed([temp for temp in temps if temp.startswith(within)], folder))
            return Scan(paths, *scan_files(self._catalog.root_bytes, paths, places=temps, starts=starts))

    def _make_folders(self, parents: Iterable[bytes]) -> dict[bytes, Path]:
        """Make a folder for new files on each file system that they go to: no file can be moved between these.

        Returns these folders by those that the files go to.
        """
        name = uuid.uuid4().hex
        found = {os.stat(self._private).st_dev: self._folder / name}
        devices = {parent: self._device(parent) for parent in parents}
        for device, place in devices.values():
            found.setdefault(device, Path(os.fsdecode(place), PRIVATE_NAME, name))
        elsewhere = [folder for folder in found.values() if folder.parent != self._folder]
        if elsewhere:  # told before they are made, so that they are found after a crash
            self._catalog.set_property(_ELSEWHERE, " ".join(os.fsencode(folder).hex() for folder in elsewhere))
        for folder in found.values():
            folder.mkdir(mode=0o700, parents=True)
        return {parent: found[device] for parent, (device, _) in devices.items()}

    def _device(self, folder: bytes) -> tuple[int, bytes]:
        """Return the file system that a folder is or will be on, and the innermost one that is there."""
        place = self._target(folder)
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        return os.stat(place).st_dev, place

    def _target(self, path: bytes) -> bytes:
        return self._root + path

    def _temp(self, row: _Row) -> bytes:
        return row.temp if os.path.isabs(row.temp) else self._private + row.temp

    def _refuse_outside(self, folders: Iterable[bytes]) -> None:
        """Refuse folders that a link leads out of the database, or where nothing can be put in place."""
        for folder in folders:
            inside(os.fsdecode(self._catalog.root_bytes), os.fsdecode(folder))
            place = self._target(folder)
            while not os.path.lexists(place):
                place = os.path.dirname(place)
            if not os.access(place, os.W_OK | os.X_OK):
                raise SaveError(f"{os.fsdecode(place)!r} cannot be written: nothing was saved, edits are still staged")

    def _checked_target(self, work: Work) -> Status:
        """Return the status of the file that is replaced or removed, if it is the one that was scanned."""
        try:
            status = os.lstat(self._target(work.path))
        except FileNotFoundError:
            if work.action == "create":
                return None
            name = os.fsdecode(work.path)
            text = f"{name!r} has gone since it was scanned: nothing was saved; rescan() shows what is there"
            raise SaveError(text) from None
        if work.action != "create" and stat.S_ISREG(status.st_mode) and Stamp.of(status) == work.stamp:
            return status
        name = os.fsdecode(work.path)
        if work.action == "create":
            raise SaveError(f"{name!r} is there already: nothing was saved; rescan() shows what it is")
        if stat.S_ISLNK(status.st_mode):
            raise SaveError(f"{name!r} is a link: saving would replace it; nothing was saved")
        raise SaveError(f"{name!r} changed since it was scanned: nothing was saved; rescan() shows what is there")

    def _keep_sources(self, rows: Sequence[_Row]) -> dict[bytes, tuple[bytes, Stamp]]:
        """Give files that go second names, where staged frames of other series are read from them."""
        wanted = self._edits.sources()
        # Where the stamps differ, these frames are stale already.
        going = [row for row in rows if row.action != "create" and wanted.get(row.path) == row.old]
        kept = self._edits.keep_files([(self._target(row.path), row.old) for row in going]) if going else {}
        return {row.path: kept[self._target(row.path)] for row in going}

    def _commit_ready(
        self, rows: Sequence[_Row], layers: Iterable[Layer], kept: Mapping[bytes, tuple[bytes, Stamp]]
    ) -> None:
        flat = [(*row[:5], *row.old, *row.new) for row in rows]
        with self._catalog.durably(), self._catalog.transaction() as connection:
            connection.executemany(f"INSERT INTO job_file VALUES ({', '.join('?' * 11)})", flat)
            connection.executemany("INSERT INTO job_layer VALUES (?, ?, ?, ?)", [(kind, *key) for kind, key in layers])
            self._edits.keep_sources(connection, kept)
            self._catalog.begin_job(connection)

    # -- behind it

    def _finish_surely(self, rows: Sequence[_Row], scan: Scan) -> list[_Row]:
        """Finish a save, again where something fails that may pass; return the files that changed outside."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._finish(rows, scan)
            except OSError as error:
                if attempt == _ATTEMPTS - 1:
                    self._give_up(rows, error)
                    raise SaveError(
                        f"the save is ready but could not be put in place ({error.strerror or error}): the next that "
                        "opens or edits the folder finishes it"
                    ) from error
                time.sleep(_PAUSE)
        return []

    def _give_up(self, rows: Sequence[_Row], error: OSError) -> None:
        """Call a save off where no file of it came into place."""
        if all(self._state(row) != "placed" for row in rows):
            self._forget_job()
            self._sweep()
            raise SaveError(f"nothing was saved, edits are still staged: {error.strerror or error}") from error

    def _finish(self, rows: Sequence[_Row], scan: Scan | None = None, *, verify: bool = False) -> list[_Row]:
        """Put every file in place, then forget job and edits; may be done again from any point.

        `scan` is what is in the new files, where that is known. Files that were changed by others meanwhile are left
        alone and returned, and their edits stay.
        """
        images = [row for row in rows if row.instance and row.action == "replace"]
        note_replaced(self._catalog.private, [(uid_hash(row.instance), row.new.mtime_ns) for row in images])
        with Freeing(self._catalog.root, len(rows)) as freeing:
            failed = [row for row in rows if not self._put_in_place(row, verify, freeing)]
            for folder in self._changed_folders(rows):
                if os.path.isdir(folder):
                    flush_directory(os.fsdecode(folder))
            layers = self._layers()
            paths = [row.path for row in rows]
            if failed or scan is None:
                scan = self._catalog.scan_again(paths)
            with self._catalog.durably(), self._catalog.transaction() as connection:
                self._edits.settle_within(
                    connection, layers, {row.path for row in failed}, {row.instance for row in failed if row.instance}
                )
                self._catalog.store_again(connection, paths, scan)
                connection.execute("DELETE FROM job_file")
                connection.execute("DELETE FROM job_layer")
            self._edits.refresh()
            self._sweep()
        return failed

    def _layers(self) -> list[Layer]:
        with self._catalog.reading():
            found = self._catalog.connection.execute("SELECT * FROM job_layer").fetchall()
        return [Layer(kind, SeriesKey(*key)) for kind, *key in found]

    def _forget_job(self) -> None:
        with self._catalog.durably(), self._catalog.transaction() as connection:
            connection.execute("DELETE FROM job_file")
            connection.execute("DELETE FROM job_layer")

    def _state(self, row: _Row, *, verify: bool = False) -> str:
        """Say what became of a file: "placed", "ready", "changed" by others, or "lost" before it came into place."""
        state = self._place_state(row)
        if state != "ready" or row.action == "remove":
            return state
        temp = self._temp(row)
        if stamp_of(temp) != row.new or (verify and checksum_of(temp) != row.digest):
            return "lost"
        return "ready"

    def _place_state(self, row: _Row) -> str:
        """Say what is in the place of a file: "placed", "changed", or, where it may still be put there, "ready"."""
        there = stamp_of(self._target(row.path))
        if row.action == "remove":
            return "placed" if there is None else "ready" if there == row.old else "changed"
        if there == row.new:
            return "placed"
        return "ready" if there == (None if row.action == "create" else row.old) else "changed"

    def _put_in_place(self, row: _Row, verify: bool, freeing: Freeing) -> bool:
        """Move one file to its place, or remove it; False where it is not what it was."""
        # What this process has just written need not be looked at again.
        state = self._state(row, verify=True) if verify else self._place_state(row)
        target = self._target(row.path)
        if state != "ready":
            return state == "placed"
        if row.action != "create":
            freeing.hold(target)
        if row.action == "remove":
            os.unlink(target)
            return True
        if row.action == "create":
            os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            if row.action == "create":
                return link_new(self._temp(row), target)
            os.replace(self._temp(row), target)
        except FileNotFoundError:
            if stamp_of(self._temp(row)) is None:
                return False
            raise
        return True

    def _changed_folders(self, rows: Iterable[_Row]) -> list[bytes]:
        """Return the folders where names change: those of files and, where they may be new, those above."""
        found: set[bytes] = set()
        for folder, is_new in {(os.path.dirname(row.path), row.action == "create") for row in rows}:
            found.add(folder)
            while is_new and folder:
                folder = os.path.dirname(folder)
                found.add(folder)
        return sorted(self._target(folder) for folder in found)


def _refuse_twice(works: Sequence[Work]) -> None:
    path, count = Counter(work.path for work in works).most_common(1)[0] if works else (b"", 0)
    if count > 1:
        raise SaveError(f"{os.fsdecode(path)!r} would be written {count} times: nothing was saved")


def _refusal(failed: Sequence[_Row], count: int) -> str:
    names = ", ".join(repr(os.fsdecode(row.path)) for row in failed[:3]) + (", ..." if len(failed) > 3 else "")
    return (
        f"{len(failed)} of {count} files changed while they were saved and were left as they are: {names}; their edits "
        "are kept, status() shows them"
    )
