"""Make files survive a power loss, one by one or a whole file system at once.

Which files have to is not known here.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from .writer import flush_directory

_SEVERAL = 8
# Smaller files cost more one by one than all together; others are told to the system by so many bytes or files.
_WORTH_IT, _AT_ONCE, _MOST_OPEN = 64 << 10, 8 << 20, 64


class EarlyWriting:
    """Closes new files, large ones once a thread has had the system begin to write them: a flush waits less then.

    Leaving waits for the thread, and closes all.
    """

    def __init__(self) -> None:
        self._aside = ThreadPoolExecutor(1)
        self._told: list[int] = []
        self._untold: list[int] = []
        self._size = 0
        self._job: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.shutdown()
        _close_all([*self._told, *self._untold])

    def close(self, descriptor: int, size: int) -> None:
        """Close a new file of `size` bytes, at once or later."""
        if size < _WORTH_IT or not hasattr(os, "posix_fadvise"):
            os.close(descriptor)
            return
        self._untold.append(descriptor)
        self._size += size
        if self._size < _AT_ONCE and len(self._untold) < _MOST_OPEN:
            return
        if self._job is not None and not self._job.done():  # the disk has enough to do
            gone, self._untold = self._untold, []
        else:
            gone, self._told, self._untold = self._told, self._untold, []
            self._job = self._aside.submit(_begin_to_write, self._told)
        self._size = 0
        _close_all(gone)


def _begin_to_write(descriptors: Iterable[int]) -> None:
    # As little as can be: each call of a thread stops for a moment the one that makes files.
    for descriptor in descriptors:
        with suppress(OSError):  # it is a hint, and files are flushed in any case
            # Linux begins at once to write what is said to be needed no more.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _close_all(descriptors: Iterable[int]) -> None:
    """Close files; raise an error when all are closed."""
    with ExitStack() as stack:
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)


@contextmanager
def flushed(paths: Sequence[bytes], folder: Path) -> Iterator[None]:
    """Flush files and the folder that they are in; where there are many, while the body runs.

    Raises
    ------
    OSError
        If what is in them may not be on the disk.
    """
    if len(paths) <= _SEVERAL:
        _flush_each(paths, folder)
        yield
        return
    with ThreadPoolExecutor(1) as aside:
        is_done = aside.submit(_flush_file_system, folder)
        yield
    if not is_done.result():
        _flush_each(paths, folder)


def _flush_each(paths: Sequence[bytes], folder: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _flush_file(descriptor)
        finally:
            os.close(descriptor)
    flush_directory(folder)


def _flush_file(descriptor: int) -> None:
    """Flush a file to the disk itself, where the system makes a difference."""
    try:
        from fcntl import F_FULLFSYNC, fcntl  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        os.fsync(descriptor)
        return
    fcntl(descriptor, F_FULLFSYNC)  # macOS


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
