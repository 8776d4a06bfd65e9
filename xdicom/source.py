"""Bytes by range from a local file, with the stamp that tells whether it is still the same file.

It knows nothing of DICOM.
"""

import os
import stat
import threading
from types import TracebackType
from typing import NamedTuple, Self

_HAS_PREADV = hasattr(os, "preadv")
_MOST = 1 << 30  # macOS refuses calls of more than 2 GiB
_SEEKING = threading.Lock()  # where the position of a file has to be moved
# A FIFO without a writer blocks open() for ever; with O_NONBLOCK it opens, and fstat unmasks it.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Stamp(NamedTuple):
    """What tells one version of a file from another: size in bytes, mtime in ns, inode."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the stamp of a stat result."""
        # Past the named tuple's own __new__, which takes twice as long: each file that is saved has five.
        return tuple.__new__(cls, (status.st_size, status.st_mtime_ns, status.st_ino))


Start = tuple[Stamp, bytes]
"""The stamp of a file and its first bytes."""


class Source:
    """One open regular file, read by range.

    Notes
    -----
    Reads name their offset, so several threads may share a source.
    """

    __slots__ = ("_content", "_fd", "path", "stamp")

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        self.path = os.fsencode(path)
        self._fd = os.open(self.path, _FLAGS)
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{os.fsdecode(self.path)!r} is not a regular file")
        except BaseException:
            os.close(self._fd)
            raise
        self.stamp = Stamp.of(status)
        self._content: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1  # also where closing fails
            os.close(descriptor)

    def hold(self, most: int) -> None:
        """Read the whole file at once, if it has no more than `most` bytes: later reads take nothing from the disk."""
        if self.stamp.size <= most:
            self._content = self.read(0, self.stamp.size)

    def start(self, length: int) -> bytes:
        """Return at least the first `length` bytes, if there are so many: all of a file that is held."""
        return self.read(0, length) if self._content is None else self._content

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        length = max(0, min(length, self.stamp.size - offset))  # a header may announce any length
        if self._content is not None:
            return self._content[offset : offset + length]
        if _HAS_PREADV and length <= _MOST:
            block = os.pread(self._fd, length, offset)
            if len(block) == length or not block:
                return block
        parts = bytearray(length)
        return bytes(parts[: self.read_into(offset, memoryview(parts))])

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` (contiguous, bytes) from `offset` and return how many bytes came."""
        done = 0
        while done < len(target):
            part = target if not done and len(target) <= _MOST else target[done : done + _MOST]
            if _HAS_PREADV:
                count = os.preadv(self._fd, [part], offset + done)
            else:
                with _SEEKING:
                    os.lseek(self._fd, offset + done, os.SEEK_SET)
                    block = os.read(self._fd, len(part))
                count = len(block)
                target[done : done + count] = block
            if count == 0:
                break
            done += count
        return done


def read_start(path: bytes, length: int) -> Start:
    """Return the stamp and the first bytes of a regular file: what a scan does most, without a `Source`."""
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{os.fsdecode(path)!r} is not a regular file")
        block = os.pread(fd, length, 0) if _HAS_PREADV else os.read(fd, length)
        return Stamp.of(status), block
    finally:
        os.close(fd)
