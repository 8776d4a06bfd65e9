"""One writer at a time in a folder: a lock file that names its holder, and is broken only when that process is dead.

Readers never need it.
"""

import json
import os
import socket
import time
from pathlib import Path

from .errors import LockedError

NAME = "lock"
_PAUSE = 0.05


class WriterLock:
    """The writer lock of a folder.

    Parameters
    ----------
    folder
        The private folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._held = False

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
        """
        if self._held:
            return
        deadline = time.monotonic() + timeout
        while not self._create():
            if self._break_dead():
                continue
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{self._holder_text()} is editing this folder: wait until it saves, restores or closes"
                )
            time.sleep(_PAUSE)
        self._held = True

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        if self._held:
            self._held = False
            self._path.unlink(missing_ok=True)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._held

    def _create(self) -> bool:
        content = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "start": _start_of(os.getpid())})
        # Written beside and linked into place, so that nobody reads a lock half written.
        beside = self._path.with_name(f"{NAME}.{os.getpid()}.{id(self)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, content.encode())
        finally:
            os.close(descriptor)
        try:
            os.link(beside, self._path)
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        return True

    def _holder(self) -> dict[str, object]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _holder_text(self) -> str:
        holder = self._holder()
        return f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}"

    def _break_dead(self) -> bool:
        """Remove the lock of a process of this host that is dead."""
        holder = self._holder()
        pid = holder.get("pid")
        if holder.get("host") != socket.gethostname() or not isinstance(pid, int):
            return False
        if _start_of(pid) == holder.get("start") and _is_alive(pid):
            return False
        # Renamed first: of several that find it dead, one wins, and none removes a lock taken since.
        aside = self._path.with_name(f"{NAME}.dead.{os.getpid()}.{id(self)}")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return True
        taken = json.loads(aside.read_text("utf-8"))
        if taken != holder:
            os.link(aside, self._path)
        aside.unlink()
        return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_of(pid: int) -> str:
    """Return when a process started, for a number may be used again; "" where the platform does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
