"""What a save keeps and refuses: modes, owners, links, full disks, read-only folders, arrays made before."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from crashes import assert_tidy, state, status
from factories import make_series

import xdicom
from xdicom import journal as journal_module
from xdicom.errors import CatalogError, SaveError, StaleError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a series of three files."""
    return make_series(tmp_path / "data", 3).folder


@pytest.fixture
def db(folder: Path) -> Iterator[Any]:
    """Give the database of that folder."""
    found = xdicom.database(folder)
    yield found
    found.close()


def edit(db: Any) -> Any:
    """Stage an edit and return the series."""
    series = db.series()[0]
    series.PatientComments = "a comment that makes the header longer"
    return series


def failing(number: int, real: Any = None, times: int = 10**9) -> Any:
    """Return a function that fails like a system call, a number of times, and then does what it should."""
    left = [times]

    def fail(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            return real(*args, **kwargs)
        raise OSError(number, os.strerror(number))

    return fail


# -- what a file keeps


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o664])
def test_edited_file_keeps_its_mode(mode: int, folder: Path, db: Any) -> None:
    """Permissions of a replaced file are those that it had."""
    for path in folder.glob("*.dcm"):
        path.chmod(mode)
    db.rescan()
    edit(db)
    db.save()
    assert {path.stat().st_mode & 0o7777 for path in folder.glob("*.dcm")} == {mode}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="platform: only root can give files away")
def test_edited_file_keeps_its_owner(folder: Path, db: Any) -> None:
    """Owner and group of a replaced file are those that it had."""
    for path in folder.glob("*.dcm"):
        os.chown(path, 12345, 23456)
    edit(db)
    db.save()
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folder.glob("*.dcm")} == {(12345, 23456)}


def test_file_of_another_user_is_refused(folder: Path, db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the owner cannot be kept nothing is saved."""
    edit(db)
    before = state(folder)
    monkeypatch.setattr(os, "lstat", _other_owner(os.lstat))
    monkeypatch.setattr(os, "fchown", failing(errno.EPERM))
    with pytest.raises(SaveError, match="is another user's, and would become yours: nothing was saved"):
        db.save()
    assert state(folder) == before


def _other_owner(real: Any) -> Any:
    def lstat(path: Any, **options: Any) -> os.stat_result:
        status = list(real(path, **options))
        exact = real(path, **options)
        status[4] = 54321
        return os.stat_result(status, {"st_mtime_ns": exact.st_mtime_ns, "st_atime_ns": exact.st_atime_ns})

    return lstat


def test_new_files_get_the_mode_of_the_umask(folder: Path, db: Any) -> None:
    """A new file is as readable as any other program's."""
    series = db.series()[0]
    series.copy_to(series.study)
    old = os.umask(0o027)
    try:
        db.save()
    finally:
        os.umask(old)
    made = [path for path in folder.rglob("*.dcm") if path.parent != folder]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o640}


def test_other_names_of_a_file_keep_the_old_bytes(folder: Path, db: Any, tmp_path: Path) -> None:
    """A save replaces a file and does not write through hard links."""
    os.link(folder / "a_00001.dcm", tmp_path / "other")
    before = (tmp_path / "other").read_bytes()
    edit(db)
    db.save()
    assert (tmp_path / "other").read_bytes() == before
    assert (folder / "a_00001.dcm").read_bytes() != before


def test_link_is_refused(folder: Path, tmp_path: Path) -> None:
    """A symbolic link is neither replaced nor written through."""
    shutil.move(folder / "a_00002.dcm", tmp_path / "real.dcm")
    (folder / "a_00002.dcm").symlink_to(tmp_path / "real.dcm")
    before = (tmp_path / "real.dcm").read_bytes()
    db = xdicom.database(folder)
    edit(db)
    with pytest.raises(SaveError, match=r"'a_00002.dcm' is a link"):
        db.save()
    assert (tmp_path / "real.dcm").read_bytes() == before
    assert (folder / "a_00002.dcm").is_symlink()
    assert status(db)
    db.close()


def test_folder_that_became_a_link_is_refused(tmp_path: Path) -> None:
    """A folder that was moved away and linked is not written into."""
    make_series(tmp_path / "data" / "sub", 2)
    db = xdicom.database(tmp_path / "data")
    edit(db)
    shutil.move(tmp_path / "data" / "sub", tmp_path / "outside")
    (tmp_path / "data" / "sub").symlink_to(tmp_path / "outside")
    before = state(tmp_path / "outside")
    with pytest.raises(SaveError, match="leads out of"):
        db.save()
    assert state(tmp_path / "outside") == before
    db.close()


def test_save_without_edits_rewrites_nothing(folder: Path, db: Any) -> None:
    """A save with nothing staged leaves every file and its time as they are."""
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.dcm")}
    db.save()
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.dcm")} == before


# -- what fails


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("platform: no small file system can be mounted")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_loses_nothing(small_disk: Path) -> None:
    """A save that does not fit raises before anything is changed, and is done once there is room."""
    make_series(small_disk / "data", 3, shape=(256, 256))
    (small_disk / "ballast").write_bytes(bytes(1_200_000))
    db = xdicom.database(small_disk / "data")
    edit(db)
    before, staged = state(small_disk / "data"), status(db)
    with pytest.raises(SaveError, match="nothing was saved, edits are still staged: No space left"):
        db.save()
    assert state(small_disk / "data") == before
    assert status(db) == staged
    (small_disk / "ballast").unlink()
    db.save()
    assert status(db) == []
    db.close()
    xdicom.database(small_disk / "data").close()
    assert_tidy(small_disk / "data")


def test_files_on_another_file_system_are_saved(tmp_path: Path, small_disk: Path) -> None:
    """A subfolder that is another file system is saved into as well, and nothing is left there."""
    make_series(tmp_path / "here", 2)
    make_series(small_disk / "there", 2, name="b")
    db = xdicom.database(tmp_path)
    db.set("PatientComments", "on both")
    db.save()
    comments = {pydicom.dcmread(path).PatientComments for path in tmp_path.rglob("*.dcm")}
    assert comments == {"on both"}
    assert sorted(path.name for path in small_disk.rglob("*")) == ["b_00001.dcm", "b_00002.dcm", "there"]
    db.close()
    assert_tidy(tmp_path)


def test_full_disk_while_staging_loses_nothing(small_disk: Path) -> None:
    """Pixels that do not fit raise, and leave what was staged before."""
    make_series(small_disk / "data", 3, shape=(256, 256))
    db = xdicom.database(small_disk / "data")
    series = edit(db)
    before = status(db)
    values = series.ndarray()
    (small_disk / "ballast").write_bytes(bytes(1_200_000))
    with pytest.raises(CatalogError, match="the pixels cannot be staged: No space left"):
        series.set_ndarray(values // 2)
    assert status(db) == before
    np.testing.assert_array_equal(series.ndarray(), values)
    db.close()


def test_folder_that_cannot_be_written_is_refused(folder: Path, db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without write permission stops the save before anything is written."""
    edit(db)
    before, staged = state(folder), status(db)
    monkeypatch.setattr(journal_module.os, "access", lambda path, mode: os.fsdecode(path).rstrip("/") != str(folder))
    with pytest.raises(SaveError, match="cannot be written: nothing was saved, edits are still staged"):
        db.save()
    assert state(folder) == before
    assert status(db) == staged


def heeding_modes(run: Callable[[], None]) -> None:
    """Run a function where modes of files count: for root in a thread that gave up the right to ignore them."""
    if os.geteuid() != 0:
        return run()
    with ThreadPoolExecutor(1, initializer=_give_up_privileges) as pool:
        return pool.submit(run).result()


def _give_up_privileges() -> None:
    """Let this thread of root's respect the modes of files."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the call, and: this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice 32 bits of each
    assert libc.capget(header, rights) == 0
    for i in range(2):
        rights[i] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, rights) == 0


@pytest.mark.skipif(not sys.platform.startswith(("linux", "darwin")), reason="platform: folders have no modes")
@pytest.mark.parametrize("place", ["", "sub"])
def test_read_only_folder_is_refused(place: str, tmp_path: Path) -> None:
    """A folder without write permission stops the save before anything is written, and edits stay staged."""
    make_series(tmp_path / "data" / "sub", 2)
    data = tmp_path / "data"
    db = xdicom.database(data)
    edit(db)
    db.series()[0].copy_to(db.patients()[0].new_study())
    before, staged = state(tmp_path), status(db)

    def refused() -> None:
        with pytest.raises(SaveError, match="cannot be written: nothing was saved, edits are still staged"):
            db.save()

    (data / place).chmod(0o555)
    heeding_modes(refused)
    (data / place).chmod(0o755)
    assert state(tmp_path) == before
    assert status(db) == staged
    db.save()
    assert status(db) == []
    db.close()


_LIMITED = """
import resource, sys
import xdicom
from xdicom.errors import SaveError
db = xdicom.database(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    db.save()
except SaveError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith(("linux", "darwin")), reason="platform: no limits of size")
def test_limit_of_size_loses_nothing(tmp_path: Path) -> None:
    """Files that may not become as large as they must raise, and are saved once they may; no disk must be made."""
    make_series(tmp_path, 3, shape=(512, 512))
    db = xdicom.database(tmp_path)
    edit(db)
    before, staged = state(tmp_path), status(db)
    db.close()
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    assert "nothing was saved, edits are still staged: File too large" in done.stdout, done.stderr
    db = xdicom.database(tmp_path)
    assert state(tmp_path) == before
    assert status(db) == staged
    assert_tidy(tmp_path)
    db.save()
    assert status(db) == []
    db.close()


def test_save_is_called_off_where_nothing_can_be_put_in_place(
    folder: Path, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first file already cannot be replaced, nothing was saved and the error says so."""
    edit(db)
    before, staged = state(folder), status(db)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(errno.EROFS))
        with pytest.raises(SaveError, match="nothing was saved, edits are still staged: Read-only"):
            db.save()
    assert state(folder) == before
    assert status(db) == staged
    db.save()
    assert status(db) == []


def test_fault_that_passes_does_not_stop_a_save(folder: Path, db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the point of no return a failing call is tried again."""
    edit(db)
    monkeypatch.setattr(os, "replace", failing(errno.EIO, os.replace, times=2))
    db.save()
    assert status(db) == []
    assert {pydicom.dcmread(path).PatientComments for path in folder.glob("*.dcm")} == {
        "a comment that makes the header longer"
    }


def test_save_that_hangs_half_way_is_finished_by_the_next(
    folder: Path, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where some files are in place and others cannot be, the error says that the next one finishes, and it does."""
    series = edit(db)
    real, calls = os.replace, []

    def replace(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) > 1:
            raise OSError(errno.EIO, "Input/output error")
        real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(SaveError, match=r"is ready but could not be put in place .* finishes it"):
            db.save()
        assert series.PatientComments == ["a comment that makes the header longer"]
        with pytest.raises(SaveError, match="an interrupted save cannot be finished"):
            series.PatientComments = "more"
        other = xdicom.database(folder)
        assert any("cannot be finished" in problem.reason for problem in other.problems())
        assert other.series()[0].PatientComments == ["a comment that makes the header longer"]
        assert other.series()[0].ndarray().shape == (5, 6, 3)
        other.close()
    other = xdicom.database(folder)
    assert status(other) == []
    other.close()
    assert status(db) == []
    assert {pydicom.dcmread(path).PatientComments for path in folder.glob("*.dcm")} == {
        "a comment that makes the header longer"
    }


def test_damaged_temporary_file_is_never_put_in_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose files a disk lost after it had flushed them is undone; its edits stay."""
    db = xdicom.database(folder)
    edit(db)
    before, staged = state(folder), status(db)

    class Stopped(BaseException):
        pass

    def stop(self: Any, rows: Any, scan: Any) -> None:
        for row in rows:
            temp = Path(os.fsdecode(self._temp(row)))
            times = temp.stat()
            temp.write_bytes(bytes(times.st_size))
            os.utime(temp, ns=(times.st_atime_ns, times.st_mtime_ns))
        raise Stopped

    monkeypatch.setattr(journal_module.Journal, "_finish_surely", stop)
    with pytest.raises(Stopped):
        db.save()
    db.close()
    db = xdicom.database(folder)
    assert state(folder) == before
    assert status(db) == staged
    db.close()


# -- arrays made before


_READ = """
import sys
import numpy as np, xdicom
from xdicom.errors import StaleError
db = xdicom.database(sys.argv[1])
series = db.series()[0]
array = series.to_xarray()
expected = array.values.copy()
lazy = series.to_xarray(chunks=1)
db.close()
print("open", flush=True)
for line in sys.stdin:
    for each in (array, lazy):
        try:
            print("same" if np.array_equal(each.copy().values, expected) else "other")
        except StaleError:
            print("stale")
    print(flush=True)
"""


@pytest.mark.parametrize("change", ["tag", "pixels", "restore", "remove", "move"])
def test_array_made_before_is_right_or_stale(change: str, folder: Path, db: Any) -> None:
    """An array opened before an edit, a save or a restore reads the same voxels afterwards or raises StaleError."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "ignore", "-c", _READ, str(folder)]
    series = db.series()[0]
    expected = series.ndarray()
    here = [series.to_xarray(), series.to_xarray(chunks=1)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for step in _steps(change, db, series):
            step()
            process.stdin.write("read\n")
            process.stdin.flush()
            answers = [process.stdout.readline().strip() for _ in range(3)][:2]
            assert set(answers) <= {"same", "stale"}
            if change in ("tag", "move"):
                assert answers == ["same", "same"]
            for array in here:
                try:
                    values = array.copy().transpose("column", "row", ...).values
                except StaleError:
                    assert change not in ("tag", "move")
                else:
                    np.testing.assert_array_equal(values, expected)
        process.stdin.close()


def _steps(change: str, db: Any, series: Any) -> list[Any]:
    """Return what is done one after the other."""
    halved = series.ndarray() // 2
    if change == "tag":
        return [lambda: series.set("PatientComments", "longer than it was"), db.save]
    if change == "pixels":
        return [lambda: series.set_ndarray(halved), db.save, lambda: series.set("PatientComments", "x"), db.save]
    if change == "restore":
        return [lambda: series.set_ndarray(halved), db.restore, lambda: series.set("PatientComments", "x")]
    if change == "remove":
        return [series.remove, db.save]
    return [lambda: series.set("SeriesInstanceUID", "1.2.3"), db.save]


def test_array_of_staged_pixels_is_right_or_stale(folder: Path, db: Any) -> None:
    """An array of pixels that were staged reads the same after save, and is stale after the next writer swept them."""
    series = db.series()[0]
    halved = series.ndarray() // 2
    series.set_ndarray(halved)
    array = series.to_xarray().transpose("column", "row", ...)
    np.testing.assert_array_equal(array.copy().values, halved)
    db.save()
    np.testing.assert_array_equal(array.copy().values, halved)
    series.PatientComments = "the next writer sweeps"
    with pytest.raises(StaleError):
        _ = array.copy().values
