"""Let go of many files that lose their names in a thread: the system takes longer to free them than to rename others.

A descriptor keeps such a file until it is closed; a process that dies closes all. What replaces the files is not known.
"""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from .folder import is_network

# Fewer are freed as they lose their names.
_MANY, _BATCH, _MOST_BATCHES = 64, 128, 32


class Freeing:
    """Files that are about to lose their names.

    Parameters
    ----------
    folder
        Where they are.
    count
        How many there will be.
    """

    def __init__(self, folder: Path, count: int) -> None:
        # A network file system would give such a file another name, in the user's folder.
        self._is_worth_it = sys.platform == "linux" and count >= _MANY and not is_network(folder)
        self._held: list[int] = []
        self._full: SimpleQueue[list[int]] = SimpleQueue()
        self._places = threading.Semaphore(_batches())
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        """Let go of all files; some may take a moment longer."""
        self._hand_over()
        if not self._full.empty():
            self._start()
        if self._thread is not None:
            self._full.put([])

    def hold(self, path: bytes) -> None:
        """Keep a file until others are let go of too."""
        if not self._is_worth_it:
            return
        try:
            self._held.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
        except OSError:  # then it is freed at once
            self._is_worth_it = False
        if len(self._held) == _BATCH:
            self._hand_over()

    def _hand_over(self) -> None:
        if not self._held:
            return
        if not self._places.acquire(blocking=False):
            self._start()
            self._places.acquire()
        self._full.put(self._held)
        self._held = []

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._let_go, name="xdicom-freeing")
            self._thread.start()

    def _let_go(self) -> None:
        while batch := self._full.get():
            for first, behind in _ranges(batch):
                os.closerange(first, behind)  # one call without the interpreter's lock
            self._places.release()


def _batches() -> int:
    """Return how many batches may be held: all together half of the descriptors that a process may have."""
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ImportError:
        return 1
    limit = getrlimit(RLIMIT_NOFILE)[0]
    return _MOST_BATCHES if limit < 0 else max(1, min(_MOST_BATCHES, limit // (2 * _BATCH)))


def _ranges(descriptors: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of consecutive numbers: the first and the one behind the last."""
    first = last = -1
    for number in sorted(descriptors):
        if number != last + 1:
            if first >= 0:
                yield first, last + 1
            first = number
        last = number
    yield first, last + 1
