"""Make files survive a power loss, one by one or a whole file system at once.

Which files have to is not known here.
"""

import ctypes
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .writer import flush_directory

_SEVERAL = 8


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
