"""One writer, many readers: others read committed states without errors, in other processes and other threads."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from crashes import state, status
from factories import make_series

import xdicom
from xdicom import journal as journal_module
from xdicom.errors import LockedError
from xdicom.store import Store

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a series of four files."""
    return make_series(tmp_path / "data", 4).folder


@pytest.fixture
def db(folder: Path) -> Iterator[Any]:
    """Give the database of that folder."""
    found = xdicom.database(folder)
    yield found
    found.close()


@pytest.fixture
def other(folder: Path, db: Any) -> Iterator[Any]:
    """Give another database object of it, which does not wait for the lock."""
    found = xdicom.database(folder)
    found._store.timeout = 0
    yield found
    found.close()


# -- what a reader sees


def test_reader_sees_staged_edits_at_its_next_operation(db: Any, other: Any) -> None:
    """What one stages, another sees."""
    seen = other.series()[0]
    assert seen.PatientComments == []
    db.series()[0].PatientComments = "staged"
    assert seen.PatientComments == ["staged"]
    assert status(other) == status(db)
    db.series()[0].set_ndarray(db.series()[0].ndarray() // 2)
    np.testing.assert_array_equal(seen.ndarray(), db.series()[0].ndarray())
    db.save()
    assert status(other) == []
    assert seen.PatientComments == ["staged"]
    np.testing.assert_array_equal(seen.ndarray(), db.series()[0].ndarray())


STEPS: dict[str, Callable[[Any, Path], object]] = {
    "a value": lambda db, _: setattr(db.series()[0], "PatientComments", "one"),
    "another value": lambda db, _: setattr(db.series()[0], "PatientComments", "two"),
    "another element": lambda db, _: setattr(db.series()[0], "SeriesDescription", "mine"),
    "the value of the files": lambda db, _: setattr(db, "SeriesDescription", "series a"),
    "no element": lambda db, _: delattr(db.series()[0], "PatientSex"),
    "text that needs another character set": lambda db, _: setattr(db, "PatientName", "Łódź"),
    "values that differ": lambda db, _: setattr(db, "window", (40, 400)),
    "another patient": lambda db, _: setattr(db, "PatientID", "moved"),
    "one tag restored": lambda db, _: db.restore("PatientComments"),
    "a value once more": lambda db, _: setattr(db.series()[0], "PatientComments", "three"),
    "some images removed": lambda db, _: db.series()[0].remove(InstanceNumber=1),
    "a value of those left": lambda db, _: setattr(db.series()[0], "ImageComments", "left"),
    "a copy": lambda db, _: db.series()[0].copy_to(db.studies()[0]),
    "a value of both": lambda db, _: setattr(db, "ImageComments", "both"),
    "a file that went": lambda db, folder: ((folder / "a_00003.dcm").unlink(), db.rescan()),
    "a value beside one set aside": lambda db, _: setattr(db, "ImageComments", "beside"),
    "a file that came": lambda db, folder: (make_series(folder / "more", 1, name="more"), db.rescan()),
    "a value of all": lambda db, _: setattr(db, "PatientComments", "four"),
    "the first patient": lambda db, _: setattr(db, "PatientID", "P2"),
    "all restored": lambda db, _: db.restore(),
    "a value after that": lambda db, _: setattr(db, "PatientComments", "five"),
}


def contents(frames: Any) -> dict[int, list[object]]:
    """Return the value of each row by tag."""
    columns = {tag: frames.column(tag) for tag in frames.tags()}
    return {tag: [values[code] if code >= 0 else None for code in codes] for tag, (values, codes) in columns.items()}


def test_writer_knows_what_others_read(folder: Path, db: Any) -> None:
    """After every step of a row of edits the writer, which reads none of them again, says what a newcomer says."""
    for name, step in STEPS.items():
        step(db, folder)
        newcomer = xdicom.database(folder)
        try:
            assert status(newcomer) == status(db), name
            for one, other in zip(newcomer.series(), db.series(), strict=True):
                assert one.key == other.key, name
                assert contents(one.frames()) == contents(other.frames()), name
        finally:
            newcomer.close()


def test_second_writer_is_refused_until_the_first_is_done(db: Any, other: Any) -> None:
    """A second writer gets LockedError until the first saves, restores or closes; nothing of its edit is staged."""
    for end in (db.save, db.restore, db.close):
        db.series()[0].PatientComments = "mine"
        with pytest.raises(LockedError, match="is editing this folder"):
            other.series()[0].ImageComments = "theirs"
        end()
        assert [what for what, _, _ in status(other)] in ([], ["PatientComments"])
        other.series()[0].ImageComments = "theirs"
        other.restore()


def test_failed_edit_of_the_first_keeps_the_lock(db: Any, other: Any) -> None:
    """Who is writing stays the writer when an edit or a save of it is refused."""
    db.series()[0].PatientComments = "mine"
    with pytest.raises(Exception, match="PatientBirthDate"):
        db.series()[0].PatientBirthDate = "no date"
    with pytest.raises(LockedError):
        other.series()[0].ImageComments = "theirs"


def test_lock_that_was_taken_away_stops_the_writer(folder: Path, db: Any, other: Any) -> None:
    """Where the lock file was removed by hand, its former holder writes no more."""
    db.series()[0].PatientComments = "mine"
    (folder / ".xdicom" / "lock").unlink()
    with pytest.raises(LockedError, match="was taken away: close it and open it again"):
        db.save()
    other.save()
    assert status(other) == []


def test_killed_writer_leaves_its_edits_to_the_next(folder: Path) -> None:
    """After the writer is killed its staged edits are there, and another may edit at once."""
    edit = "db.series()[0].PatientComments = 'first'"
    code = f"import sys, os, xdicom\ndb = xdicom.database(sys.argv[1])\n{edit}\nos._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(folder)], env=ENV, check=False).returncode == 9
    assert (folder / ".xdicom" / "lock").exists()
    db = xdicom.database(folder)
    assert not (folder / ".xdicom" / "lock").exists()
    db._store.timeout = 0
    db.series()[0].ImageComments = "second"
    assert [what for what, _, _ in status(db)] == ["ImageComments", "PatientComments"]
    db.close()


def test_reader_keeps_what_is_new_in_memory(folder: Path, db: Any, request: pytest.FixtureRequest) -> None:
    """While another is writing, a reader sees files that came, and writes nothing."""
    db.series()[0].PatientComments = "staged"
    make_series(folder / "more", 2, name="more")
    (folder / "a_00002.dcm").unlink()
    before = dict(db._store.catalog.connection.execute("SELECT path, id FROM file"))
    other = xdicom.database(folder)
    request.addfinalizer(other.close)
    assert {len(series.frames()) for series in other.series()} == {2, 3}
    seen = other.series(SeriesDescription="series a")[0]
    assert seen.PatientComments == ["staged"]
    assert dict(db._store.catalog.connection.execute("SELECT path, id FROM file")) == before
    db.series()[0].ImageComments = "seen as well"
    assert seen.ImageComments == ["seen as well"]
    db.rescan()
    db.save()
    assert {len(series.frames()) for series in other.series()} == {2, 3}
    seen.ImageComments = "and now it writes"
    other.save()
    assert all("set aside" in problem.reason for problem in other.problems())  # those of the file that went


def test_what_is_staged_together_is_seen_together(db: Any, other: Any) -> None:
    """Of several steps that are staged as one, others see none before the last, and none after an error."""
    series = db.series()[0]
    with db._store.together():
        series.copy_to(series.study)
        assert len(db.series()) == 2
        assert len(other.series()) == 1
    assert [len(each.frames()) for each in other.series()] == [4, 4]
    staged = status(db)

    def fail() -> None:
        with db._store.together():
            series.copy_to(series.study)
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert status(db) == status(other) == staged
    assert len(db.series()) == 2


# -- while a save is going on


@pytest.fixture
def half_saved(db: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that runs something when half of a save's files are in place, in another thread."""
    steps: list[Any] = []
    real = journal_module.Journal._put_in_place

    def put(self: Any, row: Any, *rest: Any) -> bool:
        if len(steps) < 4:
            steps.append(row)
            if len(steps) == 3:
                thread = threading.Thread(target=run)
                thread.start()
                thread.join(60)
                assert not thread.is_alive(), "it waits for the save"
        return real(self, row, *rest)

    found: list[Any] = []

    def run() -> None:
        try:
            found.append(action[0]())
        except BaseException as error:  # noqa: BLE001
            found.append(error)

    action: list[Any] = []

    def save_and(do: Any) -> Any:
        action.append(do)
        monkeypatch.setattr(journal_module.Journal, "_put_in_place", put)
        db.save()
        assert len(steps) == 4
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    return save_and


def test_opening_during_a_save(folder: Path, db: Any, half_saved: Any) -> None:
    """Who opens a folder while files are put in place sees the state before the save, edits included."""
    series = db.series()[0]
    series.PatientComments = "a comment that makes the header longer"
    made = series.copy_to(series.study)
    expected, new_values = series.ndarray(), made.ndarray()

    def look() -> Any:
        seen = xdicom.database(folder)
        try:
            assert [len(each.frames()) for each in seen.series()] == [4, 4]
            assert seen.series()[0].PatientComments == ["a comment that makes the header longer"]
            assert len(status(seen)) == 2
            np.testing.assert_array_equal(seen.series()[0].ndarray(), expected)
            np.testing.assert_array_equal(seen.series()[1].ndarray(), new_values)
            assert not seen.problems()
            seen.rescan()
            assert [len(each.frames()) for each in seen.series()] == [4, 4]
            assert len(status(seen)) == 2
        finally:
            seen.close()

    half_saved(look)
    assert status(db) == []
    assert len(state(folder)) == 8


def test_reading_during_a_save(db: Any, other: Any, half_saved: Any) -> None:
    """A reader that was there before goes on reading while files are put in place."""
    series, seen = db.series()[0], other.series()[0]
    array = seen.to_xarray().transpose("column", "row", ...)
    expected = series.ndarray()
    series.PatientComments = "a comment that makes the header longer"

    def look() -> Any:
        np.testing.assert_array_equal(seen.ndarray(), expected)
        np.testing.assert_array_equal(array.values, expected)
        return seen.PatientComments

    assert half_saved(look) == ["a comment that makes the header longer"]
    np.testing.assert_array_equal(seen.ndarray(), expected)


def test_edit_from_another_thread_waits_for_the_save(folder: Path, db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread stages while a save goes on is neither saved nor forgotten by it."""
    series = db.series()[0]
    series.PatientComments = "first"
    real = journal_module.Journal._finish
    threads: list[threading.Thread] = []

    def finish(self: Any, rows: Any, *rest: Any, **options: Any) -> Any:
        if not threads:
            threads.append(threading.Thread(target=series.set, args=("ImageComments", "second")))
            threads[0].start()
            threads[0].join(0.2)
        return real(self, rows, *rest, **options)

    monkeypatch.setattr(journal_module.Journal, "_finish", finish)
    db.save()
    threads[0].join()
    assert status(db) == [("ImageComments", [], ["second"])]
    assert pydicom.dcmread(folder / "a_00001.dcm").PatientComments == "first"
    assert "ImageComments" not in pydicom.dcmread(folder / "a_00001.dcm")


def test_opening_does_not_wait_for_a_transaction(folder: Path, db: Any) -> None:
    """A folder opens while another connection is in the middle of writing the catalog."""
    with db._store.catalog.transaction() as connection:
        connection.execute("INSERT INTO property VALUES ('test', '')")
        store = Store(folder)
        store.catalog.connection.execute("PRAGMA busy_timeout=0")
        assert store.rescan().files == 4
        store.close()
        connection.execute("DELETE FROM property WHERE name = 'test'")


def test_many_open_a_new_folder_at_once(folder: Path) -> None:
    """Processes that open a folder without a catalog at the same time all see all of it."""
    code = "import sys, xdicom\nsys.stdin.read(1)\nprint(len(xdicom.database(sys.argv[1]).frames()))"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    many = [subprocess.Popen([sys.executable, "-c", code, str(folder)], env=ENV, **pipes) for _ in range(6)]
    assert [process.communicate("g")[0] for process in many] == ["4\n"] * 6


_WATCH = """
import sys
import xdicom
db = xdicom.database(sys.argv[1])
print("open", flush=True)
states = set()
import threading
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(1), stop.set()), daemon=True).start()
while not stop.is_set():
    if len(states) % 2:
        db.close()
        db = xdicom.database(sys.argv[1])
    frames = db.frames()
    comments, sizes = set(map(str, frames.values("PatientComments"))), len(frames)
    assert len(comments) == 1, comments
    assert (db.series(SeriesDescription="series a")[0].ndarray() == 7).all()
    states.add((comments.pop(), sizes))
print(len(states), flush=True)
"""


@pytest.mark.slow
def test_readers_see_committed_states_only(folder: Path) -> None:
    """While one process edits, saves, adds and removes, others see each edit on all frames or on none."""
    for path in folder.glob("*.dcm"):
        path.unlink()
    make_series(folder, 12, pixels=np.full((12, 6, 5), 7, np.uint16))
    db = xdicom.database(folder)
    command = [sys.executable, "-W", "error", "-c", _WATCH, str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    watchers = [subprocess.Popen(command, env=ENV, **pipes) for _ in range(3)]
    for watcher in watchers:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "open\n"
    for number in range(25):
        db.set("PatientComments", f"comment {'x' * number}")
        if number % 3 == 0:
            with db._store.together():
                db.series()[0].copy_to(db.studies()[0])
        if number % 2:
            db.save()
        if number % 5 == 4:
            db.series()[-1].remove()
    db.save()
    db.close()
    outputs = [watcher.communicate("s")[0] for watcher in watchers]
    assert [watcher.returncode for watcher in watchers] == [0, 0, 0]
    assert all(int(output) > 1 for output in outputs)
