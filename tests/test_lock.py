"""One writer at a time: who holds the lock is named, the dead lose it, nobody else does."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from xdicom import lock as lock_module
from xdicom.errors import CatalogError, LockedError
from xdicom.lock import WriterLock

_HOLD = """
import sys
from pathlib import Path
from xdicom.lock import WriterLock
WriterLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    """Start a process that takes the lock and keeps it until it is killed."""
    command = [sys.executable, "-c", _HOLD, str(folder)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a process and wait for it."""
    process.kill()
    process.communicate()


def write(folder: Path, **changes: object) -> Path:
    """Write a lock file as this process would, but for some fields."""
    content = {**lock_module._identity(os.getpid()), "token": "other", **changes}
    (folder / "lock").write_text(json.dumps(content), "utf-8")
    return folder / "lock"


def test_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    """The error names process and host of the holder."""
    process = holder(tmp_path)
    try:
        with pytest.raises(LockedError, match=f"process {process.pid} on {socket.gethostname()} is editing"):
            WriterLock(tmp_path).acquire(timeout=0)
    finally:
        end(process)


def test_lock_of_a_killed_process_is_broken(tmp_path: Path) -> None:
    """A process that was killed holds no lock."""
    end(holder(tmp_path))
    lock = WriterLock(tmp_path)
    assert not lock.is_taken()
    lock.acquire(timeout=0)
    assert lock.is_ours()


def test_lock_of_a_killed_process_that_nobody_waited_for_is_broken(tmp_path: Path) -> None:
    """A zombie holds no lock."""
    process = holder(tmp_path)
    process.kill()
    lock = WriterLock(tmp_path)
    lock.acquire(timeout=5)
    assert lock.is_ours()
    end(process)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="platform: no /proc")
def test_reused_process_number_holds_no_lock(tmp_path: Path) -> None:
    """A live process of the same number that started at another time is not the holder."""
    write(tmp_path, pid=os.getppid(), start="1")
    WriterLock(tmp_path).acquire(timeout=0)


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"space": "pid:[1]"}])
def test_lock_from_elsewhere_is_never_broken(changes: dict[str, str], tmp_path: Path) -> None:
    """Whether a process of another host or container lives can't be told: its lock stays, and the file is named."""
    path = write(tmp_path, pid=2**22 + 1, **changes)
    before = path.read_bytes()
    with pytest.raises(LockedError, match=r"if it is surely gone, delete '.*lock'"):
        WriterLock(tmp_path).acquire(timeout=0)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}'])
def test_lock_that_says_nothing_is_not_broken(content: bytes, tmp_path: Path) -> None:
    """A lock file without a name in it may be just being written."""
    (tmp_path / "lock").write_bytes(content)
    with pytest.raises(LockedError, match=r"process .* on an unknown host"):
        WriterLock(tmp_path).acquire(timeout=0)


def test_lock_that_stayed_empty_is_broken(tmp_path: Path) -> None:
    """Where a lock file has been empty for long, its writer died before it wrote its name."""
    (tmp_path / "lock").write_bytes(b"")
    os.utime(tmp_path / "lock", (0, 0))
    WriterLock(tmp_path).acquire(timeout=0)


def test_release_lets_the_next_in(tmp_path: Path) -> None:
    """After a release nothing is left, and another takes the lock."""
    first, second = WriterLock(tmp_path), WriterLock(tmp_path)
    first.acquire()
    with pytest.raises(LockedError, match="another database object of this process"):
        second.acquire(timeout=0)
    first.release()
    assert list(tmp_path.iterdir()) == []
    second.acquire(timeout=0)
    second.release()


def test_waits_until_the_lock_is_free(tmp_path: Path) -> None:
    """A writer that comes second waits for the first."""
    first, second = WriterLock(tmp_path), WriterLock(tmp_path)
    first.acquire()
    timer = threading.Timer(0.2, first.release)
    timer.start()
    second.acquire(timeout=30)
    timer.join()
    assert second.is_ours()


def test_lock_that_was_taken_away_is_not_given_back(tmp_path: Path) -> None:
    """Who lost the lock by hand knows, and does not remove that of the next."""
    first, second = WriterLock(tmp_path), WriterLock(tmp_path)
    first.acquire()
    (tmp_path / "lock").unlink()
    second.acquire(timeout=0)
    assert not first.is_ours()
    first.release()
    assert second.is_ours()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_holds_nothing(tmp_path: Path) -> None:
    """A child of the writer is not the writer, and takes nothing away from it."""
    lock = WriterLock(tmp_path)
    lock.acquire()
    child = os.fork()
    if not child:
        held = lock.held
        lock.release()
        os._exit(held)
    assert os.waitpid(child, 0)[1] == 0
    assert lock.is_ours()


def test_one_of_many_gets_the_lock_of_the_dead(tmp_path: Path) -> None:
    """Of many that find the holder dead at the same time, one at a time gets the lock."""
    end(holder(tmp_path))
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(5):
            lock = WriterLock(tmp_path)
            lock.acquire(timeout=60)
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            inside[0] -= 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_lock_that_was_read_is_closed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system fails to close the lock file, what was read of it counts."""
    lock = WriterLock(tmp_path)
    lock.acquire()
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "close", fail)
    assert lock.is_ours()
    monkeypatch.undo()
    lock.release()


def test_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links there is one writer, too."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = WriterLock(tmp_path)
    first.acquire(timeout=0)
    with pytest.raises(LockedError):
        WriterLock(tmp_path).acquire(timeout=0)
    first.release()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    """Where no lock file can be written, the error says why."""
    with pytest.raises(CatalogError, match="cannot be written: No such file"):
        WriterLock(tmp_path / "gone").acquire(timeout=0)


def test_what_dead_writers_left_is_swept(tmp_path: Path) -> None:
    """Files of processes that died while they took the lock go."""
    stray = tmp_path / f"lock.{2**22 + 1}.0"
    stray.write_bytes(b"")
    lock = WriterLock(tmp_path)
    assert lock.is_untidy()
    lock.acquire()
    assert not stray.exists()
