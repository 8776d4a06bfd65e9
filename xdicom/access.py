"""A folder as records share it: opened, locked for the one that writes, and seen in one state by those that read.

What is in the folder is not known here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from .catalog import Catalog, Report
from .edits import Edits
from .errors import LockedError, SaveError, XdicomError
from .journal import Journal
from .layers import Layers
from .lock import WriterLock
from .scan import SeriesKey

Method = TypeVar("Method", bound=Callable[..., Any])


def seeing_one_state(method: Method) -> Method:
    """Let a method see one committed state."""

    @wraps(method)
    def reads(self: Access, *args: Any, **kwargs: Any) -> Any:
        with self.reading():
            return method(self, *args, **kwargs)

    return cast(Method, reads)


def writing_alone(method: Method) -> Method:
    """Let a method run as the folder's only writer."""

    @wraps(method)
    def writes(self: Access, *args: Any, **kwargs: Any) -> Any:
        with self.writing():
            return method(self, *args, **kwargs)

    return cast(Method, writes)


class TemporaryFolder:
    """A folder that goes when nobody refers to this object any more, or at exit."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="xdicom-"))
        self.remove = weakref.finalize(self, _remove, os.getpid(), self.path)


class Access:
    """A folder of DICOM, or a temporary one that lives as long as its records.

    Parameters
    ----------
    path
        The folder; None for a temporary one.
    timeout
        Seconds that an edit waits for another writer.

    Attributes
    ----------
    temporary
        What keeps the temporary folder, None for another.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, timeout: float = 10.0) -> None:
        self.timeout = timeout
        self.temporary: TemporaryFolder | None = None
        if path is None:
            self.temporary = TemporaryFolder()
            path = self.temporary.path
        self._open(path)

    def _open(self, folder: str | os.PathLike[str]) -> None:
        self.catalog = Catalog(folder)
        self.edits = Edits(self.catalog)
        self.layers = Layers(self.catalog, self.edits)
        self.journal = Journal(self.catalog, self.edits)
        self.lock = WriterLock(self.catalog.private)
        self._lock = threading.RLock()
        self._order: dict[SeriesKey, tuple[object, ...]] = {}
        self._finalizer = weakref.finalize(self, _discard, os.getpid(), self.catalog, self.edits, self.lock)
        self._unfinished = ""
        self._is_saving = False  # and after a save that failed, which may wait to be finished
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
        elif self._is_saving and self.journal.is_pending():
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
    def in_memory(self) -> bool:
        """Whether the folder is a temporary one."""
        return self.temporary is not None

    @property
    def root(self) -> Path:
        """The folder."""
        return self.catalog.root

    def close(self) -> None:
        """Close the database; a temporary folder is removed."""
        self._finalizer()
        if self.temporary is not None:
            self.temporary.remove()

    def move_to_folder(self, path: str | os.PathLike[str]) -> None:
        """Live in a folder from now on; the temporary one stays as long as arrays refer to it."""
        self._finalizer()
        self.temporary = None
        self._open(path)

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


def _discard(pid: int, catalog: Catalog, edits: Edits, lock: WriterLock) -> None:
    if pid != os.getpid():  # a forked child: all of this is its parent's
        return
    if lock.was_held:
        with suppress(XdicomError, OSError), catalog.guarded():  # else the next writer sweeps
            if edits.has_pixels():
                lock.acquire(timeout=0)
                edits.sweep()
    lock.release()
    catalog.close()


def _remove(pid: int, folder: Path) -> None:
    if pid == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)
