"""Scan many files, in worker processes where that pays.

A worker is a fresh interpreter that talks through pipes, so that a user's script needs no main guard and no fork
happens beside threads.
"""

import io
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

import numpy as np

from .scan import BATCH, Outcome, Scanner, SeriesKey
from .source import Start
from .tables import Table


class Scan(NamedTuple):
    """What was read of some files: their paths, the tables of their series, and what became of each file."""

    paths: Sequence[bytes]
    tables: dict[SeriesKey, Table]
    outcomes: dict[int, Outcome]


Progress = Callable[[int, int], None]
# Starting workers costs about as much as this many seconds of scanning.
_WORTH_SECONDS = 1.0
_SHARE = 4 * BATCH


def scan_files(
    root: bytes,
    paths: Sequence[bytes],
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    places: Sequence[bytes] | None = None,
    starts: Mapping[int, Start] | None = None,
) -> tuple[dict[SeriesKey, Table], dict[int, Outcome]]:
    """Scan files into one table a series.

    Parameters
    ----------
    root
        The folder that paths are relative to.
    paths
        The files, as bytes.
    progress
        Called with the number of files done and that of all.
    workers
        How many processes; by default as many as there are processors, and only where the first batches show that they
        will pay.
    places
        Where the files are now, if they are not in their places yet; absolute.
    starts
        By place in `paths`, what of them need not be read.

    Returns
    -------
    tables, outcomes
        The table of each series, with `file` indexing `paths`; and for each file what became of it.
    """
    scanner = Scanner(root, paths, places, starts)
    count = len(paths)
    cores = workers if workers is not None else _processors()
    start = time.perf_counter()
    for first in range(0, count, BATCH):
        scanner.scan(range(first, min(first + BATCH, count)))
        done = min(first + BATCH, count)
        if progress:
            progress(done, count)
        left = (count - done) * (time.perf_counter() - start) / done
        if cores > 1 and done < count and (workers is not None or left > _WORTH_SECONDS):
            rest = _scan_in_workers((root, paths, places), range(done, count), cores, progress)
            return _merge([(scanner.tables(), scanner.outcomes), *rest])
    return scanner.tables(), scanner.outcomes


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_Part = tuple[dict[SeriesKey, Table], dict[int, Outcome]]
# The folder, the paths in it, and where the files are if not there.
_Files = tuple[bytes, Sequence[bytes], Sequence[bytes] | None]
_COMMAND = "from xdicom.parallel import serve; serve()"


def _scan_in_workers(among: _Files, files: range, workers: int, progress: Progress | None) -> list[_Part]:
    """Deal contiguous shares of files to processes; what a worker leaves undone is done here."""
    size = -(-len(files) // min(workers, -(-len(files) // BATCH)))
    shares = [range(start, min(start + size, files.stop)) for start in range(files.start, files.stop, size)]
    parts = []
    with ExitStack() as running:
        crew = []
        for _ in shares:
            crew.append(running.enter_context(_start_worker()))
            running.callback(crew[-1].kill)
        for share, worker in zip(shares, crew, strict=True):
            _give_work(worker, pickle.dumps((_share_of(among, share), share.start)))
        for share, worker in zip(shares, crew, strict=True):
            parts.append(_result(worker) or _scan_here(among, share))
            if progress:
                progress(share.stop, files.stop)
    return parts


def _share_of(among: _Files, share: range) -> _Files:
    root, paths, places = among
    chosen = slice(share.start, share.stop)
    return root, paths[chosen], None if places is None else places[chosen]


def _start_worker() -> subprocess.Popen[bytes]:
    # -P: a module in the current folder, which may be one of data, is never imported.
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def _result(worker: subprocess.Popen[bytes]) -> _Part | None:
    """Wait for what a worker found; None where it failed."""
    output = worker.communicate()[0]
    if worker.returncode or not output:
        return None
    tables, outcomes = pickle.loads(output)
    return tables, outcomes


def _give_work(worker: subprocess.Popen[bytes], message: bytes) -> None:
    """Send a worker its share; communicate() one after the other would leave the later ones without work."""
    if worker.stdin is None:
        return
    with suppress(BrokenPipeError):  # a dead worker is seen by its exit code
        worker.stdin.write(message)
        worker.stdin.close()
    worker.stdin = None


def _scan_here(among: _Files, share: range) -> _Part:
    scanner = Scanner(*among)
    scanner.scan(share)
    return scanner.tables(), scanner.outcomes


def serve() -> None:
    """Scan what standard input names and write the tables to standard output; for worker processes only."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    among, first = pickle.load(sys.stdin.buffer)
    scanner = Scanner(*among)
    scanner.scan(range(len(scanner.paths)))
    tables = {key: table._replace(file=table.file + np.int32(first)) for key, table in scanner.tables().items()}
    outcomes = {first + file: outcome for file, outcome in scanner.outcomes.items()}
    target = io.BytesIO()
    pickle.dump((tables, outcomes), target, protocol=5)
    output.write(target.getvalue())
    output.close()


def _merge(parts: Sequence[_Part]) -> _Part:
    """Join the tables of the same series, in the order of the files."""
    pieces: dict[SeriesKey, list[Table]] = {}
    outcomes: dict[int, Outcome] = {}
    for tables, found in parts:
        outcomes.update(found)
        for key, table in tables.items():
            pieces.setdefault(key, []).append(table)
    return {key: Table.concat(tables) for key, tables in pieces.items()}, outcomes
