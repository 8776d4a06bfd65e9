"""One writer at a time in a folder: a lock file that names its holder, and is broken only when that process is dead.

Readers never need it.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import CatalogError, LockedError

fcntl: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None  # not on Windows

NAME = "lock"
_MOST = 1 << 16  # bytes of a lock file that are looked at
_PAUSE = 0.05
_GRACE = 10.0  # seconds until a lock file that stays empty counts as dead


class WriterLock:
    """The writer lock of a folder.

    Parameters
    ----------
    folder
        The private folder.

    Notes
    -----
    Not for several threads at once: the caller keeps them apart. A forked child does not hold the lock of its parent.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._content = b""
        self._pid = 0

    def acquire(self, timeout: float = 10.0) -> None:
        """Take the lock, or do nothing where this object holds it.

        Parameters
        ----------
        timeout
            Seconds to wait for another writer.

        Raises
        ------
        LockedError
            If another process still holds it then; the text names that process.
        CatalogError
            If the lock file cannot be written.
        """
        if self.held:
            return
        content = json.dumps({**_identity(os.getpid()), "token": uuid.uuid4().hex}).encode()
        deadline = time.monotonic() + timeout
        try:
            while not self._create(content):
                if self._break_dead():
                    continue
                if time.monotonic() >= deadline:
                    raise LockedError(self._refusal())
                time.sleep(_PAUSE)
        except LockedError:
            raise
        except OSError as error:
            raise CatalogError(f"{str(self._path)!r} cannot be written: {error.strerror or error}") from error
        self._content, self._pid = content, os.getpid()
        self._sweep()

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held. Where that fails, it stays held."""
        if not self.held:
            return
        try:
            if self._path.read_bytes() == self._content:
                self._path.unlink()
        except FileNotFoundError:
            pass  # somebody removed it by hand: there is nothing to give back
        except OSError:
            return
        self._content = b""

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, in this process."""
        return bool(self._content) and self._pid == os.getpid()

    @property
    def was_held(self) -> bool:
        """Whether this object has ever held the lock, in this process."""
        return self._pid == os.getpid()

    def is_ours(self) -> bool:
        """Say whether the lock file still is the one that this object wrote: somebody may have removed it by hand."""
        return self.held and self._read() == self._content

    def is_taken(self) -> bool:
        """Say whether another process, or another object of this one, is writing."""
        return not self.held and self._path.exists() and not self._is_dead(self._read())

    def is_untidy(self) -> bool:
        """Say whether a dead process may have left something."""
        return not self.held and any(self._path.parent.glob(f"{NAME}*"))

    def _read(self) -> bytes:
        # Every edit asks: a file object costs twice as much.
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except OSError:
            return b""
        try:
            return os.read(descriptor, _MOST)
        except OSError:
            return b""
        finally:
            with contextlib.suppress(OSError):  # what was read is true all the same
                os.close(descriptor)

    def _create(self, content: bytes) -> bool:
        # Written beside and linked into place, so that nobody reads a lock half written.
        beside = self._path.with_name(f"{NAME}.{os.getpid()}.{uuid.uuid4().hex}")
        try:
            _write_new(beside, content)
            os.link(beside, self._path)
        except FileExistsError:
            return False
        except OSError:
            if self._path.exists():
                return False
            return self._create_directly(content)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        return True

    def _create_directly(self, content: bytes) -> bool:
        """Create the lock on file systems without hard links."""
        try:
            _write_new(self._path, content)
        except FileExistsError:
            return False
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        return True

    def _refusal(self) -> str:
        holder = _parsed(self._read())
        pid, host = holder.get("pid", "?"), holder.get("host", "an unknown host")
        if (pid, host) == (os.getpid(), socket.gethostname()):
            return "another database object of this process is editing this folder: save, restore or close it"
        return (
            f"process {pid} on {host} is editing this folder: wait until it saves, restores or closes"
            f" (if it is surely gone, delete {str(self._path)!r})"
        )

    def _is_dead(self, content: bytes) -> bool:
        """Say whether the process that wrote this lock was of this host and is gone."""
        holder = _parsed(content)
        pid = holder.get("pid")
        if not isinstance(pid, int):
            # Created, but its writer died before it wrote its name (file systems without hard links).
            with contextlib.suppress(OSError):
                return not content and time.time() - self._path.stat().st_mtime > _GRACE
            return False
        if any(holder.get(name) != value for name, value in _place().items()):
            return False
        # The number may be used again: then the start differs.
        return not _is_alive(pid) or holder.get("start") != _start_of(pid)

    def _break_dead(self) -> bool:
        """Remove the lock of a dead process; of several that try, one at a time."""
        if not self._is_dead(self._read()):
            return False
        with _alone(self._path.parent):
            # Only those who come here remove the lock of a dead process: what is dead now stays until it is removed.
            if self._is_dead(self._read()):
                self._path.unlink(missing_ok=True)
        return True

    def _sweep(self) -> None:
        """Remove what writers left that died while they took the lock."""
        for path in self._path.parent.glob(f"{NAME}.*.*"):
            pid = path.name.split(".")[1]
            if pid.isdigit() and int(pid) != os.getpid() and not _is_alive(int(pid)):
                with contextlib.suppress(OSError):
                    path.unlink()


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _parsed(content: bytes) -> dict[str, object]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out that come here, where the platform can."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems can't
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _place() -> dict[str, object]:
    """Return what process numbers are counted in: the host and, in containers, the space of process numbers."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return {"host": socket.gethostname(), "space": space}


def _identity(pid: int) -> dict[str, object]:
    """Return what tells a process of this host from all others."""
    return {**_place(), "pid": pid, "start": _start_of(pid)}


def _is_alive(pid: int) -> bool:
    if _state_of(pid)[:1] in (["Z"], ["X"]):  # killed, and its parent has not asked for it yet
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _state_of(pid: int) -> list[str]:
    """Return what Linux tells of a process, from its state on; [] elsewhere."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _start_of(pid: int) -> str:
    """Return when a process started, for a number may be used again; "" where the platform does not tell."""
    if os.path.exists("/proc/self/stat"):
        return "".join(_state_of(pid)[19:20])
    return _start_by_ps(pid) if os.name == "posix" else ""


def _start_by_ps(pid: int) -> str:
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
