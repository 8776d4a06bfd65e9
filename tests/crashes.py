"""A folder with staged edits whose save is disturbed, and what must be true of it afterwards.

The staged edits replace, create and remove files together. States are compared by digest, as saving is deterministic.
"""

import hashlib
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dask
import numpy as np
import pydicom
from factories import make_series

import xdicom
from xdicom.errors import SaveError, XdicomError

# How a disturbed process ended; it is killed by signal 9 otherwise.
RETURNED, REFUSED, UNFINISHED, OTHER = 0, 3, 4, 5
State = dict[str, str]


def save(folder: Path) -> None:
    """Save everything that is staged in a folder."""
    db = xdicom.database(folder)
    try:
        db.save()
    finally:
        db.close()


@dataclass(frozen=True)
class Scenario:
    """A prepared folder, which is copied for each disturbance.

    Attributes
    ----------
    folder
        The folder, with edits staged and no process at work.
    old, new
        Digests of its files by path, before and after a save.
    staged
        What `status()` says before.
    values
        The voxels of each series, by description, as they are from staging on.
    """

    folder: Path
    old: State
    new: State
    staged: list[tuple[str, list[Any], list[Any]]]
    values: dict[str, np.ndarray]

    @classmethod
    def make(cls, folder: Path, files: int = 6) -> "Scenario":
        """Make a folder of about that many files to write: half are edited, some get new pixels, some come, some go."""
        edited = max(2, files // 2)
        share = max(1, files // 6)
        make_series(folder / "data" / "a", edited, name="a")
        make_series(folder / "data" / "b", share, name="b", shape=(4, 3))
        make_series(folder / "data" / "c", share, name="c")
        make_series(folder / "data" / "kept", 1, name="kept")
        data = folder / "data"
        old = state(data)
        db = xdicom.database(data)
        series = {str(each.SeriesDescription.item()): each for each in db.series()}
        series["series a"].PatientComments = "a comment that makes the header longer than it was"
        series["series b"].set_ndarray(series["series b"].ndarray() // 2)
        made = series["series a"].study.new_series(SeriesDescription="made", SeriesNumber=9)
        made.set_xarray(series["series a"].to_xarray("slice_location")[:share] + 1)
        series["series c"].remove()
        staged, values = status(db), voxels(db)
        db.close()
        scenario = cls(data, old, {}, staged, values)
        target = scenario.copy(folder / "undisturbed")
        save(target)
        scenario.new.update(state(target))
        return scenario

    def copy(self, target: Path) -> Path:
        """Return a copy; files keep their inodes, by which they are known."""
        shutil.copytree(self.folder, target, copy_function=_link)
        return target

    # -- what must be true

    def check(self, folder: Path, outcome: int) -> str:
        """Reopen a folder after a disturbance and check it; return "old" or "new"."""
        db = xdicom.database(folder)
        try:
            now = state(folder)
            kind = self._check_files(folder, now, outcome)
            assert status(db) == (self.staged if kind == "old" else []), f"staged edits where the files are {kind}"
            self._check_voxels(db)
            assert not [problem for problem in db.problems() if "set aside" in problem.reason]
            assert_tidy(folder)
            db.save()
        finally:
            db.close()
        assert state(folder) == self.new, "a second save does not complete the work"
        db = xdicom.database(folder)
        try:
            assert status(db) == []
            self._check_voxels(db)
        finally:
            db.close()
        return kind

    def _check_files(self, folder: Path, now: State, outcome: int) -> str:
        assert now in (self.old, self.new), _difference(now, self.old, self.new)
        kind = "old" if now == self.old else "new"
        expected = {RETURNED: "new", UNFINISHED: "new", REFUSED: "old"}.get(outcome)
        assert expected in (None, kind), f"the process ended with {outcome}, but the files are {kind}"
        uids = [whole(folder / path, digest) for path, digest in now.items()]
        assert len(set(uids)) == len(uids), "a SOPInstanceUID is there twice"
        return kind

    def _check_voxels(self, db: Any) -> None:
        found = voxels(db)
        assert found.keys() == self.values.keys()
        for name, values in self.values.items():
            np.testing.assert_array_equal(found[name], values)


def _link(source: str, target: str) -> None:
    """Copy a file: the database truly, files that are never written in place by a link."""
    if "catalog.sqlite" in source or source.endswith("replaced"):
        shutil.copyfile(source, target)
    else:
        os.link(source, target)


def state(folder: Path) -> State:
    """Return the digest of each user's file in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if ".xdicom" not in relative.parts and path.is_file():
            found[relative.as_posix()] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return found


def _difference(now: State, old: State, new: State) -> str:
    kinds = {
        path: "old" if digest == old.get(path) else "new" if digest == new.get(path) else "neither"
        for path, digest in now.items()
    }
    return f"a mixture: {kinds}, gone: {sorted((old.keys() | new.keys()) - now.keys())}"


def status(db: Any) -> list[tuple[str, list[Any], list[Any]]]:
    """Return what is staged, without keys."""
    return sorted((change.what, list(change.before), list(change.after)) for change in db.status())


def voxels(db: Any) -> dict[str, np.ndarray]:
    """Return the voxels of each series by its description."""
    return {str(series.SeriesDescription.item()): series.ndarray() for series in db.series()}


_whole: dict[str, str] = {}


def whole(path: Path, digest: str) -> str:
    """Return the SOPInstanceUID of a file that pydicom can read to its last voxel."""
    if digest not in _whole:
        ds = pydicom.dcmread(path)
        assert ds.pixel_array.shape == (ds.Rows, ds.Columns)
        _whole[digest] = str(ds.SOPInstanceUID)
    return _whole[digest]


def assert_tidy(folder: Path) -> None:
    """Nothing temporary is left in the private folder."""
    allowed = {"catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "edits.zarr", "replaced"}
    found = {path.name for path in (folder / ".xdicom").iterdir()}
    assert found <= allowed, f"left over: {sorted(found - allowed)}"


# -- processes to disturb

_CODE = """
import ctypes, os, sys
sys.path.insert(0, {tests!r})
import crashes
crashes.serve()
"""


class Server:
    """A process that has imported everything, and forks one to disturb whenever it is asked to."""

    def __init__(self) -> None:
        code = _CODE.format(tests=os.path.dirname(__file__))
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process: Any = subprocess.Popen([sys.executable, "-c", code], env=env, text=True, **pipes)

    def __enter__(self) -> Self:
        """Give the server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, job: str, folder: Path) -> int:
        """Fork a process that opens a folder and then waits; return its number."""
        self._say(f"{job} {folder}")
        return int(self._process.stdout.readline())

    def go(self, seconds: float | None = None) -> None:
        """Let it run, for some seconds or to its end."""
        self._say(f"go {seconds}" if seconds is not None else "go")

    def wait(self) -> tuple[int, int]:
        """Return how it ended, and how many operations it acknowledged."""
        code, acknowledged = self._process.stdout.readline().split()
        return int(code), int(acknowledged)

    def _say(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def serve() -> None:
    """Fork a process for each job that standard input names, and tell how it ended."""
    _warm_up()
    for line in sys.stdin:
        job, _, folder = line.rstrip("\n").partition(" ")
        go, tell = os.pipe()
        acknowledged = mmap.mmap(-1, 1)  # counted without a system call, which would be disturbed as well
        heard, told = os.pipe()
        child = os.fork()
        if not child:
            os.close(tell)
            _allow_tracing()
            os._exit(_run(job, folder, go, told, acknowledged))
        os.close(go)
        os.close(told)
        os.read(heard, 1)  # it has opened the folder
        print(child, flush=True)
        _, _, seconds = sys.stdin.readline().partition(" ")
        os.write(tell, b"g")
        if seconds:
            time.sleep(float(seconds))
            os.kill(child, signal.SIGKILL)  # not waited for yet: nobody else can have its number
        _, code = os.waitpid(child, 0)
        os.close(tell)
        os.close(heard)
        print(os.waitstatus_to_exitcode(code), acknowledged[0], flush=True)


def _warm_up() -> None:
    """Import what staging and saving import when they first need it, so that it is not disturbed."""
    # Threads that are there before a fork are not behind it.
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="synchronous"):
        make_series(Path(folder), 1, name="kept")
        db = xdicom.database(folder)
        for edit in EDITS:
            edit(db)
        db.save()
        db.close()


def _allow_tracing() -> None:
    import ctypes

    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_long(-1), 0, 0, 0)  # PR_SET_PTRACER, any


def _run(job: str, folder: str, go: int, told: int, acknowledged: mmap.mmap) -> int:
    try:
        db = None if job == "open" else xdicom.database(folder)
        os.write(told, b"o")
        os.read(go, 1)
        if db is None:
            xdicom.database(folder)
        elif job == "save":
            db.save()
        else:
            for edit in EDITS:
                edit(db)
                acknowledged[0] += 1
    except SaveError as error:
        return UNFINISHED if "finishes it" in str(error) else REFUSED
    except XdicomError:
        return REFUSED
    except OSError as error:
        if job == "stage" and str(error.filename).endswith((".dcm", ".dcm'")):
            return REFUSED  # the disk, which could not give the pixels that are edited
        traceback.print_exc()
        return OTHER
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return OTHER
    return RETURNED


def _set_pixels(db: Any) -> None:
    series = db.series(SeriesDescription="series kept")[0]
    series.set_ndarray(series.ndarray() // 4)


# What is staged one after the other in the job "stage".
EDITS = (
    lambda db: db.series(SeriesDescription="series kept")[0].set("PatientComments", "first"),
    _set_pixels,
    lambda db: db.series(SeriesDescription="series kept")[0].set("ImageComments", "second"),
)

# strace's name for all that take a file's name or a descriptor.
CALLS = "%file,%desc"


@dataclass(frozen=True)
class Fault:
    """What strace does at one system call: kill the process there, or let the call fail."""

    action: str
    call: str
    number: int

    def expression(self) -> str:
        """Return it in strace's words."""
        return f"inject={self.call}:{self.action}:when={self.number}"


def traced(server: Server, job: str, folder: Path, fault: Fault | None = None) -> tuple[int, int, list[str]]:
    """Run a job under strace.

    Returns
    -------
    outcome, acknowledged
        As `Server.wait` gives them.
    lines
        The system calls that were traced.
    """
    log = folder.with_name(f"{folder.name}.strace")
    child = server.start(job, folder)
    options = ["-e", fault.expression()] if fault else []
    command = [
        "strace",
        "-f",
        "-o",
        str(log),
        "-e",
        f"trace={fault.call if fault else CALLS}",
        *options,
        "-p",
        str(child),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        first = strace.stderr.readline() if strace.stderr else ""
        assert "attached" in first, first
        server.go()
        code, acknowledged = server.wait()
        strace.wait()
    lines = log.read_text("utf-8", "replace").splitlines()
    log.unlink()
    return code, acknowledged, [line for line in lines if "+++" not in line and "---" not in line]
