"""Scanning in worker processes: the same tables, also when a worker dies."""

import os
import sys
from pathlib import Path

import pytest
from factories import make_series
from test_scan import Rows, _rows

from xdicom import parallel
from xdicom.parallel import scan_files
from xdicom.scan import SeriesKey


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Files of three series, one by one in turn, and one that is no DICOM."""
    folder = tmp_path_factory.mktemp("series")
    series = [make_series(folder / name, 8, name=name).files for name in "abc"]
    (folder / "notes.txt").write_text("notes")
    files = [path for group in zip(*series, strict=True) for path in group]
    return [os.path.relpath(path, folder).encode() for path in (*files, folder / "notes.txt")] + [bytes(folder)]


def scanned(paths: list[bytes], workers: int | None) -> tuple[dict[SeriesKey, Rows], dict[int, str]]:
    """Return rows by series and status by file."""
    tables, outcomes = scan_files(paths[-1], paths[:-1], workers=workers)
    found = {key: _rows(table, paths) for key, table in tables.items()}
    return found, {file: outcome.status for file, outcome in sorted(outcomes.items())}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every worker have a share."""
    monkeypatch.setattr(parallel, "BATCH", 4)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("workers", [2, 5])
def test_workers_give_the_same_tables(paths: list[bytes], workers: int) -> None:
    """However many processes share the files."""
    assert scanned(paths, workers) == scanned(paths, 1)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    "command",
    [
        "import os; os.kill(os.getpid(), 9)",
        "import sys; sys.stdin.buffer.read(); sys.exit(3)",
        "import sys; sys.stdin.close(); sys.stdout.close()",
        "import sys; sys.stdin.buffer.read()",
    ],
    ids=["killed", "failed", "closed its pipes", "said nothing"],
)
def test_a_worker_that_dies_is_made_good(paths: list[bytes], monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Its share is scanned here."""
    expected = scanned(paths, 1)
    monkeypatch.setattr(parallel, "_COMMAND", command)
    assert scanned(paths, 2) == expected


@pytest.mark.usefixtures("small_batches")
def test_modules_in_the_current_folder_are_not_imported(
    paths: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A folder of data cannot bring code along."""
    (tmp_path / "numpy.py").write_text("print('mine'); raise SystemExit(1)")
    (tmp_path / "pickle.py").write_text("print('mine'); raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    scanned(paths, 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("small_batches")
def test_progress_ends_at_the_number_of_files(paths: list[bytes]) -> None:
    """It counts up to all."""
    told: list[tuple[int, int]] = []
    scan_files(paths[-1], paths[:-1], lambda done, count: told.append((done, count)), workers=2)
    assert told[-1] == (25, 25)
    assert told == sorted(told)


@pytest.mark.usefixtures("small_batches")
def test_an_error_here_leaves_no_worker_behind(paths: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the workers too."""
    started = []
    plain = parallel._start_worker

    def start() -> object:
        started.append(plain())
        return started[-1]

    def interrupted(done: int, count: int) -> None:
        if started:
            raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "_start_worker", start)
    with pytest.raises(KeyboardInterrupt):
        scan_files(paths[-1], paths[:-1], interrupted, workers=2)
    assert [worker.poll() is not None for worker in started] == [True, True]


def test_no_files_give_nothing() -> None:
    """An empty folder is fine."""
    assert scan_files(b"", []) == ({}, {})
