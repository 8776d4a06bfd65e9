"""Saving and staging, killed or failing at every system call and at random moments: all old or all new, nothing lost.

By default an evenly spread tenth is run; `XDICOM_CRASH=all pytest -m crash` runs everything.
"""

import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import debian_tool
from crashes import EDITS, OTHER, RETURNED, Fault, Scenario, Server, assert_tidy, save, state, status, traced
from powerloss import after_power_loss, recorded

import xdicom

pytestmark = [pytest.mark.slow, pytest.mark.crash]
_SHARE = 1 if os.environ.get("XDICOM_CRASH") == "all" else 10
_WORKERS = 4
_KILLED = -9


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Give a folder of which a save writes six files."""
    return Scenario.make(tmp_path_factory.mktemp("six"), 6)


@pytest.fixture
def strace() -> None:
    """Skip where system calls cannot be disturbed."""
    if not sys.platform.startswith("linux"):
        pytest.skip("platform: strace is for Linux")
    debian_tool("strace", "strace")


def faults_of(server: Server, job: str, folder: Path, action: str) -> list[Fault]:
    """Return one fault for each file system call that a job makes."""
    _, _, lines = traced(server, job, folder)
    counts = Counter(line.split("(")[0].split()[-1] for line in lines)
    counts.pop("mmap", None)  # it is mostly about memory
    # The first read is the signal to begin.
    return [Fault(action, name, n + 1) for name, count in counts.items() for n in range(name == "read", count)]


def spread(things: Sequence[Fault]) -> list[Fault]:
    """Return the share of the faults that is run, which differs in its start from kind to kind."""
    return list(things[::_SHARE])


def run_all(faults: Sequence[Fault], run: Callable[[Server, Fault, Path], str], folder: Path) -> Counter[str]:
    """Run faults side by side; return how often each outcome was, and raise with all that went wrong."""

    def share(number: int) -> list[tuple[Fault, str, str]]:
        found = []
        with Server() as server:
            for index, fault in enumerate(faults[number::_WORKERS]):
                place = folder / f"{number}-{index}"
                try:
                    found.append((fault, run(server, fault, place), ""))
                except Exception as error:  # noqa: BLE001 - all of them are reported together
                    found.append((fault, "", f"{type(error).__name__}: {error}"[:500]))
                shutil.rmtree(place, ignore_errors=True)
        return found

    with ThreadPoolExecutor(_WORKERS) as pool:
        done = [item for part in pool.map(share, range(_WORKERS)) for item in part]
    wrong = [f"{fault}: {error}" for fault, _, error in done if error]
    assert not wrong, f"{len(wrong)} of {len(done)}:\n" + "\n".join(wrong[:10])
    kinds = Counter(kind for _, kind, _ in done)
    print(f"{len(done)} disturbed, afterwards {dict(kinds)}")  # for docs/reliability.md: pytest -rP
    return kinds


def disturbed(scenario: Scenario) -> Callable[[Server, Fault, Path], str]:
    """Return what disturbs a save and checks what is left."""

    def run(server: Server, fault: Fault, place: Path) -> str:
        code, _, _ = traced(server, "save", scenario.copy(place), fault)
        assert code != OTHER, "an error that is none of ours"
        return scenario.check(place, code)

    return run


ACTIONS = ["signal=KILL", "error=ENOSPC", "error=EIO"]


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("action", ACTIONS)
def test_save_is_all_or_nothing_at_every_call(action: str, scenario: Scenario, tmp_path: Path) -> None:
    """Killed, or failing for want of space or by a bad disk, at any call: all files are old or all are new.

    Staged edits are there exactly where files are old, nothing temporary is left once the folder was opened, the error
    tells the truth, and a second save completes the work.
    """
    with Server() as server:
        faults = faults_of(server, "save", scenario.copy(tmp_path / "count"), action)
    kinds = run_all(spread(faults), disturbed(scenario), tmp_path)
    assert kinds["old"]
    assert kinds["new"]


def test_save_is_all_or_nothing_at_random_moments(tmp_path: Path) -> None:
    """A save of 40 files that is killed at some moment leaves all files old or all new."""
    scenario = Scenario.make(tmp_path / "forty", 40)
    moments = moments_of("save", scenario.copy(tmp_path / "timed"))

    def run(server: Server, fault: Fault, place: Path) -> str:
        server.start("save", scenario.copy(place))
        server.go(fault.number / 1e6)
        return scenario.check(place, server.wait()[0])

    kinds = run_all(spread(moments), run, tmp_path)
    assert kinds["old"]


def moments_of(job: str, folder: Path) -> list[Fault]:
    """Return kills at random moments of a job; their numbers are microseconds from its start."""
    with Server() as server:
        server.start(job, folder)
        start = time.perf_counter()
        server.go()
        assert server.wait()[0] == RETURNED
        duration = time.perf_counter() - start
    rng = random.Random(20240229)
    return [Fault("signal=KILL", "", round(rng.uniform(0, 1.1 * duration) * 1e6)) for _ in range(300)]


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("action", ["signal=KILL", "error=EIO"])
@pytest.mark.parametrize("call", ["rename", "link", "unlink"])
def test_recovery_is_disturbed_too(action: str, call: str, scenario: Scenario, tmp_path: Path) -> None:
    """A save that was killed while files were put in place is finished, also if its finisher is killed."""
    pending = tmp_path / "pending"
    with Server() as server:
        faults = faults_of(server, "save", scenario.copy(tmp_path / "count"), "signal=KILL")
        middle = [fault for fault in faults if fault.call == call]
        code, _, _ = traced(server, "save", scenario.copy(pending), middle[len(middle) // 2])
        assert code == _KILLED
        half = Scenario(pending, scenario.old, scenario.new, scenario.staged, scenario.values)
        faults = faults_of(server, "open", half.copy(tmp_path / "count2"), action)

    def run(server: Server, fault: Fault, place: Path) -> str:
        traced(server, "open", half.copy(place), fault)
        return half.check(place, _KILLED)

    run_all(spread(faults), run, tmp_path)


class Staging:
    """A folder into which edits are staged one after the other, while that is disturbed."""

    def __init__(self, folder: Path) -> None:
        self.scenario = Scenario.make(folder / "made", 6)
        self.expected = []
        reference = self.scenario.copy(folder / "reference")
        for count in range(len(EDITS) + 1):
            db = xdicom.database(reference)
            if count:
                EDITS[count - 1](db)
            self.expected.append(status(db))
            db.close()

    def check(self, place: Path, code: int, acknowledged: int) -> str:
        """Check that what was acknowledged is staged and can be saved; return how many edits were."""
        assert code != OTHER, "an error that is none of ours"
        db = xdicom.database(place)
        found = status(db)
        db.close()
        assert found in self.expected[acknowledged:], f"{acknowledged} edits were acknowledged"
        assert state(place) == self.scenario.old
        assert_tidy(place)
        save(place)
        assert state(place).keys() == self.scenario.new.keys()
        return str(acknowledged)


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("action", ACTIONS)
def test_staging_loses_nothing_acknowledged(action: str, tmp_path: Path) -> None:
    """Killed or failing at any call of staging tags and pixels, what was acknowledged is staged, files untouched."""
    staging = Staging(tmp_path)
    with Server() as server:
        faults = faults_of(server, "stage", staging.scenario.copy(tmp_path / "count"), action)

    def run(server: Server, fault: Fault, place: Path) -> str:
        code, acknowledged, _ = traced(server, "stage", staging.scenario.copy(place), fault)
        return staging.check(place, code, acknowledged)

    assert len(run_all(spread(faults), run, tmp_path)) > 1


def test_staging_loses_nothing_acknowledged_at_random_moments(tmp_path: Path) -> None:
    """Killed at some moment of staging tags and pixels, what was acknowledged is staged, files are untouched."""
    staging = Staging(tmp_path)

    def run(server: Server, fault: Fault, place: Path) -> str:
        server.start("stage", staging.scenario.copy(place))
        server.go(fault.number / 1e6)
        return staging.check(place, *server.wait())

    run_all(spread(moments_of("stage", staging.scenario.copy(tmp_path / "timed"))), run, tmp_path)


# -- power


def losses(scenario: Scenario, folder: Path, rounds: int, **flushes: bool) -> Iterator[tuple[Path, int]]:
    """Save under a recorder; yield what is left of the folder when power goes after each step, and how it ended."""
    live = scenario.copy(folder / "live")
    db = xdicom.database(live)
    with recorded(live, **flushes) as recorder:
        recorder.begin(db._store.catalog.connection.serialize())
        db.save()
    db.close()
    points = list(range(len(recorder.events) + 1))
    for point in points[:: 1 if flushes else _SHARE // 5 or 1]:
        for number in range(rounds):
            place = folder / f"{point}-{number}"
            after_power_loss(recorder, point, random.Random(f"{point} {number}") if number else None, place)
            yield place, RETURNED if point == points[-1] else _KILLED
            shutil.rmtree(place)


@pytest.mark.parametrize("files", [6, 24])
def test_power_loss_at_any_point(files: int, tmp_path: Path) -> None:
    """Whatever of that which was not flushed is lost when power goes, all files are old or all are new."""
    scenario = Scenario.make(tmp_path / "made", files)
    kinds = Counter(
        scenario.check(place, outcome) for place, outcome in losses(scenario, tmp_path, 10 if _SHARE == 1 else 2)
    )
    print(f"{sum(kinds.values())} power losses, afterwards {dict(kinds)}")
    assert kinds["old"]
    assert kinds["new"]


@pytest.mark.parametrize("flushes", [{"flush_files": False}, {"flush_folders": False}])
def test_power_loss_is_seen_where_a_flush_is_left_out(flushes: dict[str, bool], tmp_path: Path) -> None:
    """Negative control: without the flush of files, or that of folders, the same check fails."""
    scenario = Scenario.make(tmp_path / "made", 6)
    wrong = []
    for place, outcome in losses(scenario, tmp_path, 2, **flushes):
        try:
            scenario.check(place, outcome)
        except AssertionError as error:
            wrong.append(str(error))
    assert any("a mixture" in text or "the process ended with 0" in text for text in wrong), wrong
