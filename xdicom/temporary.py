"""New files aside of their places: written whole with a checksum, given the owner of what they replace, put in place.

Why a file is written, and when it may go to its place, is known in `journal`.
"""

import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .errors import SaveError
from .source import Stamp
from .writer import Block

Status = os.stat_result | None
"""What was in a place before; None where nothing was."""

# What is read or written at once, in bytes and in blocks.
_BLOCK, _MOST_BLOCKS = 4 << 20, 64
_MOST_START = 64 << 10
_HAS_WRITEV = hasattr(os, "writev")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Temporary(NamedTuple):
    """A file that was written: its stamp, its checksum, and its first block or the beginning of that."""

    stamp: Stamp
    checksum: bytes
    start: bytes


def write_temporary(
    path: bytes, blocks: Iterable[Block], before: Status, *, instead_of: bytes, close: Callable[[int, int], None]
) -> Temporary:
    """Write a new file with the owner and mode of the one that it will replace, if any.

    Parameters
    ----------
    path, blocks
        The file, which must not exist, and its bytes.
    before
        Status of the one that it will replace.
    instead_of
        The place that it is for; named in errors.
    close
        Closes the file, which is open under the first number and has the second as its size.

    Raises
    ------
    SaveError
        If it cannot get that owner, or is not as long as what was written.
    """
    checksum = size = 0
    start = b""
    # A file in a new place gets the mode that the umask gives.
    descriptor = os.open(path, _FLAGS, 0o666 if before is None else stat.S_IMODE(before.st_mode))
    try:
        for batch in _batches(blocks):
            for block in batch:
                checksum = zlib.crc32(block, checksum)
            start = start or bytes(batch[0][:_MOST_START])
            size += _write(descriptor, batch)
        status = os.fstat(descriptor)
        if before is not None and owner_of(status) != owner_of(before):
            _give_owner(descriptor, status, before, instead_of)
    finally:
        close(descriptor, size)
    if status.st_size != size:
        raise SaveError(f"of {os.fsdecode(instead_of)!r} {status.st_size} bytes were written, expected {size}")
    return Temporary(Stamp.of(status), checksum.to_bytes(4, "little"), start)


def _batches(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Yield blocks together that are written in one call."""
    waiting: list[Block] = []
    size = 0
    for block in blocks:
        if waiting and (size + len(block) > _BLOCK or len(waiting) == _MOST_BLOCKS):
            yield waiting
            waiting, size = [], 0
        waiting.append(block)
        size += len(block)
    if waiting:
        yield waiting


def _write(descriptor: int, blocks: list[Block]) -> int:
    """Write blocks one after the other; return how many bytes they have."""
    size = sum(map(len, blocks))
    written = os.writev(descriptor, blocks) if _HAS_WRITEV else 0
    if written < size:
        rest = memoryview(b"".join(blocks))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    return size


def owner_of(status: Status) -> tuple[int, int, int] | None:
    """Return owner, group and mode of a file."""
    return None if status is None else (status.st_uid, status.st_gid, status.st_mode)


def _give_owner(descriptor: int, mine: os.stat_result, wanted: os.stat_result, path: bytes) -> None:
    if not hasattr(os, "fchmod"):
        return
    if (wanted.st_uid, wanted.st_gid) != (mine.st_uid, mine.st_gid):
        try:
            os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
        except PermissionError as error:
            name = os.fsdecode(path)
            raise SaveError(f"{name!r} is another user's, and would become yours: nothing was saved") from error
    os.fchmod(descriptor, stat.S_IMODE(wanted.st_mode))  # last: a change of owner clears some bits


def checksum_of(path: bytes) -> bytes:
    """Return the checksum of a file as `write_temporary` gives it: CRC-32, which finds what a crash has garbled."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum.to_bytes(4, "little")


def stamp_of(path: bytes) -> Stamp | None:
    """Return the stamp of a file, not following a link; None where nothing is there."""
    try:
        return Stamp.of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def link_new(temporary: bytes, target: bytes) -> bool:
    """Give a file a name where nothing is; False where something came there.

    The old name stays until the new one is flushed: of two names in two folders, a power loss may spare either.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            return False
        os.rename(temporary, target)
    return True
