"""What records read and write: the catalog of a folder with its edits laid over, and new frames staged into it.

Records are keys into a store; it knows levels of keys, not classes of records.
"""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .catalog import Catalog, Problem, Report
from .columns import Column, Known
from .editing import overlay_of, unchanged
from .edits import NEW, REMOVED, REPLACED, SAVED, Edits, Layer, Overlay
from .errors import EditError, LockedError, SaveError
from .frames import Frames
from .instance import INSTANCE_UID
from .journal import Journal
from .layers import Layers, hidden_rows
from .lock import WriterLock
from .naming import Instance, Paths
from .rawvalues import raw_values
from .rows import instances_of
from .scan import SeriesKey
from .status import Change, changes_under, problems_of
from .tags import PrivateTag
from .works import new_files, works_of

_STUDY_DATE, _STUDY_TIME, _SERIES_NUMBER = 0x00080020, 0x00080030, 0x00200011
Method = TypeVar("Method", bound=Callable[..., Any])
LEVELS = ("database", "patient", "study", "series")


def _marked(rows: NDArray[np.bool_]) -> Column:
    """Return the pseudo-column that marks some rows."""
    return Column([("", b"1")], np.where(rows, 0, -1).astype(np.int32))


def _seeing_one_state(method: Method) -> Method:
    """Let a method of a store see one committed state."""

    @wraps(method)
    def reads(self: "Store", *args: Any, **kwargs: Any) -> Any:
        with self.reading():
            return method(self, *args, **kwargs)

    return cast(Method, reads)


def _writing_alone(method: Method) -> Method:
    """Let a method of a store run as the folder's only writer."""

    @wraps(method)
    def writes(self: "Store", *args: Any, **kwargs: Any) -> Any:
        with self.writing():
            return method(self, *args, **kwargs)

    return cast(Method, writes)


class Store:
    """A folder of DICOM, or a temporary one that lives as long as its records.

    Parameters
    ----------
    path
        The folder; None for a temporary one.
    timeout
        Seconds that an edit waits for another writer.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, timeout: float = 10.0) -> None:
        self.timeout = timeout
        self.in_memory = path is None
        folder = tempfile.mkdtemp(prefix="xdicom-") if path is None else path
        try:
            self._open(folder)
        except BaseException:
            if path is None:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _open(self, folder: str | os.PathLike[str]) -> None:
        self.catalog = Catalog(folder)
        self.edits = Edits(self.catalog)
        self.layers = Layers(self.catalog, self.edits)
        self.journal = Journal(self.catalog, self.edits)
        self.lock = WriterLock(self.catalog.private)
        self._lock = threading.RLock()
        self._order: dict[SeriesKey, tuple[object, ...]] = {}
        self._finalizer = weakref.finalize(
            self, _discard, os.getpid(), self.catalog, self.lock, folder if self.in_memory else None
        )
        self._unfinished = ""
        if self.journal.is_untidy() or self.lock.is_untidy():
            self._recover()

    def _recover(self) -> None:
        """Finish an interrupted save, if the process that runs it is dead."""
        try:
            self.lock.acquire(timeout=0)
            self.journal.recover()
        except LockedError:
            return
        except OSError as error:  # the files can be read all the same, as they were before the save
            self._unfinished = str(error.strerror or error)
        finally:
            self.lock.release()

    def begin(self) -> None:
        """Become the folder's only writer, and sweep up what earlier ones left.

        Raises
        ------
        LockedError
            If another process is writing, with its name.
        SaveError
            If an interrupted save cannot be finished.
        """
        if not self.lock.held:
            self.lock.acquire(self.timeout)
            self._become_writer()
        elif not self.lock.is_ours():
            raise LockedError("the lock of this database was taken away: close it and open it again")
        elif self.journal.is_pending():
            self._become_writer()

    def _become_writer(self) -> None:
        try:
            self.journal.recover()
            self.edits.sweep()
        except OSError as error:
            self.lock.release()
            raise SaveError(f"an interrupted save cannot be finished: {error.strerror or error}") from error
        self._unfinished = ""
        if self.catalog.leave_memory():
            self.catalog.rescan()
        self._refresh()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the folder's only writer, and the only thread of this process that writes, for one operation."""
        with self._lock, self.catalog.guarded():
            self.begin()
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """Stage several things as one: others see all of them or none, and on any error none is staged."""
        with self.writing():
            try:
                with self.catalog.transaction():
                    yield
            except BaseException:
                self.edits.refresh()
                self._refresh()
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one committed state in an operation, whatever other processes write meanwhile."""
        if self.catalog.is_outdated():
            self.rescan()
        with self.catalog.reading():
            yield

    @property
    def root(self) -> Path:
        """The folder."""
        return self.catalog.root

    def close(self) -> None:
        """Close the database; a temporary folder is removed."""
        self._finalizer()

    def settle(self, path: str | os.PathLike[str]) -> None:
        """Live in a folder from now on, in place of the temporary one."""
        self._finalizer()
        self.in_memory = False
        self._open(path)
        self.rescan()

    def rescan(self, progress: Callable[[int, int], None] | None = None) -> Report:
        """Read what is new or changed in the folder."""
        with self.catalog.lock:
            report = self.catalog.rescan(progress, in_memory=self.lock.is_taken())
            self._refresh()
        return report

    def _refresh(self) -> None:
        self._order.clear()
        self.edits.realign()
        self.layers.refresh()

    @_seeing_one_state
    def problems(self) -> list[Problem]:
        """Return what is wrong with files, and which edits are set aside."""
        found = self.catalog.problems() + problems_of(self.edits)
        if self._unfinished:
            reason = f"a save was interrupted and cannot be finished: {self._unfinished}"
            found.append(Problem(os.fspath(self.catalog.private), reason))
        return found

    # -- keys

    @_seeing_one_state
    def keys(self, prefix: tuple[str, ...] = (), *, placeholders: bool = False) -> list[SeriesKey]:
        """Return the keys of the series under a record, ordered as S10 says.

        Parameters
        ----------
        prefix
            Key of the record.
        placeholders
            Also those of new patients and studies, which end in "".
        """
        found = [key for key in self.layers.by_key() if key[: len(prefix)] == prefix]
        chosen = [key for key in found if key.series or placeholders]
        return sorted(chosen, key=self._sort_key)

    @_seeing_one_state
    def children(self, prefix: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Return the keys one level below a record, in order."""
        size = len(prefix) + 1
        keys = [key[:size] for key in self.keys(prefix, placeholders=True)]
        return [key for key in dict.fromkeys(keys) if key[-1]]

    @_seeing_one_state
    def exists(self, key: tuple[str, ...]) -> bool:
        """Say whether a record is there."""
        return not key or bool(self.keys(key, placeholders=True))

    def _sort_key(self, key: SeriesKey) -> tuple[object, ...]:
        found = self._order.get(key)
        if found is None:
            frames = self.frames(key)
            texts = [str(_first(frames, tag)) for tag in (_STUDY_DATE, _STUDY_TIME)]
            number = _first(frames, _SERIES_NUMBER)
            is_number = isinstance(number, int)
            found = (key.patient, *texts, key.study, not is_number, number if is_number else 0, key.series)
            self._order[key] = found
        return found

    # -- frames

    @_seeing_one_state
    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the rows of one series, or the placeholder of a new record, or None."""
        return self.layers.frames(key)

    @_seeing_one_state
    def tables(self, prefix: tuple[str, ...], *, placeholders: bool = True) -> list[Frames]:
        """Return the rows of every series under a record, one table a series.

        Parameters
        ----------
        prefix
            Key of the record.
        placeholders
            Also the rows of new records that have no frames yet.
        """
        tables = [table for key in self.keys(prefix, placeholders=True) if (table := self.frames(key)) is not None]
        real = [table for table in tables if (table.file >= 0).any()]
        return real if real or not placeholders else tables

    @_seeing_one_state
    def nbytes(self, key: SeriesKey) -> int:
        """Return the size of a series' files, and of its staged frames, in bytes."""
        size = 0
        for layer in self.layers.by_key().get(key, ()):
            table = self.layers.base(layer)
            if table is not None:
                sizes = table.files.stamps[:, 0] if layer.kind == SAVED else np.maximum(table.length, 0)
                size += int(sizes.sum())
        return size

    @_seeing_one_state
    def is_unsaved(self, key: SeriesKey) -> bool:
        """Say whether a series has something staged."""
        layers = self.layers.by_key().get(key, ())
        edited = self.edits.layers()
        return any(layer.kind == NEW or layer in edited for layer in layers)

    # -- new records

    @_writing_alone
    def add(self, key: SeriesKey, values: Mapping[int, Known], *, source: SeriesKey | None = None) -> None:
        """Stage a new record; what is above it must exist.

        Raises
        ------
        EditError
            If a record with this key exists.
        """
        if self.exists(tuple(part for part in key if part)):
            raise EditError(f"there is a {LEVELS[sum(map(bool, key))]} with this identity already: {key!r}")
        self.edits.add_record(key, values, source)
        self._refresh()

    @_writing_alone
    def stage(self, key: SeriesKey, frames: Frames) -> None:
        """Stage new frames of a series."""
        self.edits.stage_frames(key, frames)
        self._refresh()

    @_writing_alone
    def replace(self, key: SeriesKey, frames: Frames) -> None:
        """Stage frames in the place of all that a series has; those with a known SOPInstanceUID keep their file."""
        fresh = set(frames.unique(INSTANCE_UID))
        hidden: dict[Layer, Overlay] = {}
        for layer in self.layers.by_key().get(key, ()):
            base = self.layers.base(layer)
            if layer.kind == SAVED and base is not None:
                values, codes = base.column(INSTANCE_UID)
                stays = np.array([*(uid in fresh for uid in values), False], bool)[codes]
                pseudo = {REPLACED: stays, REMOVED: ~stays}
                hidden[layer] = {tag: _marked(rows) for tag, rows in pseudo.items() if rows.any()}
        self.edits.stage_frames(key, frames, hidden, anew=True)
        self._refresh()

    @_writing_alone
    def move(self, prefix: tuple[str, ...], columns: Overlay) -> tuple[str, ...]:
        """Lay columns over every row under a record, such as those of another study; return the record's new key."""
        layers = self.layers.under(prefix)
        self.edits.set_columns(dict.fromkeys(layers, columns), {})
        self._refresh()
        return self._now(layers, prefix)

    def _now(self, layers: list[Layer], prefix: tuple[str, ...]) -> tuple[str, ...]:
        """Return the key that a record has now, of whose tables it knows."""
        now = {layer: key for key, found in self.layers.by_key().items() for layer in found}
        return now[layers[0]][: len(prefix)] if prefix and layers and layers[0] in now else prefix

    # -- edits

    @_writing_alone
    def set_values(
        self, prefix: tuple[str, ...], values: Mapping[int | PrivateTag, object], vrs: Mapping[object, str]
    ) -> tuple[str, ...]:
        """Stage values in every row under a record, all or none.

        Parameters
        ----------
        prefix
            Key of the record.
        values
            By tag; None removes the element.
        vrs
            VR of private elements that no dictionary knows.

        Returns
        -------
        tuple
            Key of the record from now on.

        Raises
        ------
        EditError, TagValueError
            If an element cannot be set, or its VR cannot hold the value; nothing is staged then.
        """
        layers = self.layers.under(prefix)
        changes: dict[Layer, Overlay] = {}
        undone: dict[Layer, list[int]] = {}
        for layer in layers:
            table, base = self.layers.table(layer), self.layers.base(layer)
            if table is None or base is None:
                continue
            overlay = overlay_of(table, values, vrs)
            undone[layer] = [tag for tag, column in overlay.items() if unchanged(base, tag, column)]
            changes[layer] = {tag: column for tag, column in overlay.items() if tag not in undone[layer]}
        self.edits.set_columns(changes, undone)
        self._refresh()
        return self._now(layers, prefix)

    @_writing_alone
    def restore(self, prefix: tuple[str, ...], wanted: Iterable[int] | None = None) -> None:
        """Drop what is staged under a record, or the edits of some tags."""
        layers = self.layers.ever_under(prefix)
        if wanted is None:
            self.edits.forget(layers)
        else:
            self.edits.forget_columns(layers, wanted)
        self._refresh()
        self.lock.release()

    def save(self, prefix: tuple[str, ...], progress: Callable[[int, int], None] | None = None) -> list[SeriesKey]:
        """Make what is staged under a record permanent, all of it or nothing.

        Returns
        -------
        list of SeriesKey
            New records that have no images, which stay staged.

        Raises
        ------
        SaveError
            If an edit cannot be written, or a file changed since it was scanned; edits stay staged then.
        """
        try:
            with self.writing():
                return self._save(prefix, progress)
        except OSError as error:
            if isinstance(error, SaveError | LockedError):
                raise
            raise SaveError(f"nothing was saved, edits are still staged: {error.strerror or error}") from error

    def _save(self, prefix: tuple[str, ...], progress: Callable[[int, int], None] | None) -> list[SeriesKey]:
        layers = self.layers.ever_under(prefix)
        edited = set(self.edits.layers())
        works = list(works_of(self.layers, layers, self.edits.overlays()))
        new, empty = self._staged_images(layers)
        if new:
            paths, replaced = Paths(self._paths_there()), self._replaced(layers)
            now = {layer: key for key, found in self.layers.by_key().items() for layer in found}
            for layer, images in new.items():
                works += new_files(images, now[layer], paths, replaced)
        done = [layer for layer in layers if layer in new or (layer.kind == SAVED and layer in edited)]
        try:
            if works or done:
                self.journal.save(works, done, progress)
        finally:
            self._refresh()
        self.catalog.truncate_log()
        self.lock.release()
        return empty

    def _staged_images(self, layers: Iterable[Layer]) -> tuple[dict[Layer, Frames], list[SeriesKey]]:
        """Return the staged rows to write, by table, and the keys of new records that have none."""
        found: dict[Layer, Frames] = {}
        empty = []
        for layer in layers:
            table = self.layers.table(layer) if layer.kind == NEW else None
            if table is None:
                continue
            images = table.take(np.flatnonzero(table.file >= 0))
            if len(images):
                found[layer] = images
            elif not self.edits.has_files(layer.key):  # else what is in it is set aside
                empty.append(layer.key)
        return found, empty

    def _replaced(self, layers: Iterable[Layer]) -> dict[str, tuple[Frames, int]]:
        """Return by SOPInstanceUID the saved rows that give way to staged ones."""
        found: dict[str, tuple[Frames, int]] = {}
        for layer in layers:
            base, overlay = self.layers.base(layer), self.edits.overlays().get(layer)
            if layer.kind == SAVED and base is not None and overlay:
                values, codes = base.column(INSTANCE_UID)
                for row in np.flatnonzero(hidden_rows(base, overlay, (REPLACED,))).tolist():
                    found[str(values[codes[row]])] = base, row
        return found

    def _paths_there(self) -> list[tuple[str, Instance | None]]:
        """Return every path in the folder, with what is in it."""
        found: dict[str, Instance | None] = {os.fsdecode(path): None for path in self.catalog.paths()}
        for key in self.catalog.keys():
            frames = self.catalog.frames(key)
            if frames is not None:
                for row, instance in instances_of(frames, key):
                    found[os.fsdecode(frames.files.paths[frames.file[row]])] = instance
        return list(found.items())

    @_writing_alone
    def remove(self, prefix: tuple[str, ...]) -> None:
        """Stage the removal of every frame under a record; what was only staged is dropped."""
        layers = self.layers.under(prefix)
        gone = Column([("", b"1")])
        self.edits.set_columns({layer: {REMOVED: gone} for layer in layers if layer.kind == SAVED}, {})
        self.edits.forget([layer for layer in layers if layer.kind == NEW])
        self._refresh()

    @_seeing_one_state
    def status(self, prefix: tuple[str, ...]) -> list[Change]:
        """Return what is staged under a record."""
        return changes_under(prefix, self.layers, self.edits)


def _first(frames: Frames | None, tag: int) -> object:
    if frames is None:
        return ""
    values, codes = frames.column(tag)
    used = codes[codes >= 0]
    return "" if not used.size or values[used[0]] is None else values[used[0]]


def _discard(pid: int, catalog: Catalog, lock: WriterLock, folder: str | os.PathLike[str] | None) -> None:
    if pid != os.getpid():  # a forked child: all of this is its parent's
        return
    lock.release()
    catalog.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["Change", "Store", "raw_values"]
