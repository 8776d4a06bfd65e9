"""The catalog: what is read again and what is not, who may look, and what becomes of damage."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import folder_hash
from factories import make_enhanced, make_report, make_series, uid

from xdicom import catalog as catalog_module
from xdicom import folder as folder_module
from xdicom import parallel, scan
from xdicom import source as source_module
from xdicom.catalog import Catalog, Report
from xdicom.errors import CatalogError, StaleError
from xdicom.scan import Scanner

INSTANCE, NAME = 0x00080018, 0x00100010


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two series, a report and a note."""
    make_series(tmp_path / "a", 4, name="a")
    make_series(tmp_path / "b", 3, name="b")
    make_report(tmp_path / "report.dcm")
    (tmp_path / "notes.txt").write_text("These are notes.\n" * 20)
    return tmp_path


@pytest.fixture
def catalog(folder: Path) -> Iterator[Catalog]:
    """The catalog of that folder, not yet scanned."""
    found = Catalog(folder)
    yield found
    found.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The user's files that are opened from now on."""
    found: list[bytes] = []
    plain = os.open

    def counted(path: object, flags: int, *args: object, **options: object) -> int:
        if isinstance(path, bytes):
            found.append(os.path.basename(path))
        return plain(path, flags, *args, **options)  # type: ignore[arg-type, call-overload]

    monkeypatch.setattr(source_module.os, "open", counted)
    return found


def instances(catalog: Catalog) -> dict[str, list[str]]:
    """Return the SOPInstanceUIDs of each series."""
    found = {}
    keys = catalog.keys()
    for key in keys:
        frames = catalog.frames(key)
        assert frames is not None
        found[key.series] = sorted(str(value) for value in frames.values(INSTANCE))
    return found


def fresh(folder: Path) -> dict[str, list[str]]:
    """Return what a catalog says that has just been made."""
    shutil.rmtree(folder / ".xdicom")
    made = Catalog(folder)
    made.rescan()
    found = instances(made)
    made.close()
    return found


# -- what is read


def test_first_scan_reads_everything(catalog: Catalog) -> None:
    """Each file is new once."""
    assert catalog.rescan() == Report(new=9, changed=0, removed=0, files=9, skipped=1, broken=0)
    assert catalog.counts() == Report(new=0, changed=0, removed=0, files=9, skipped=1, broken=0)


def test_second_scan_opens_nothing(catalog: Catalog, opened: list[bytes]) -> None:
    """Path, size, mtime and inode are enough."""
    catalog.rescan()
    opened.clear()
    assert catalog.rescan() == Report(new=0, changed=0, removed=0, files=9, skipped=1, broken=0)
    assert opened == []


def test_new_file_alone_is_opened(catalog: Catalog, folder: Path, opened: list[bytes]) -> None:
    """The others are known."""
    catalog.rescan()
    make_series(folder / "c", 1, name="c")
    opened.clear()
    assert catalog.rescan().new == 1
    assert set(opened) == {b"c_00001.dcm"}


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_changed_file_alone_is_opened(catalog: Catalog, folder: Path, opened: list[bytes], change: str) -> None:
    """Each part of the stamp tells of a change."""
    path = folder / "a" / "a_00002.dcm"
    catalog.rescan()
    status = path.stat()
    if change == "size":
        path.write_bytes(path.read_bytes() + bytes(4))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    else:
        shutil.copy2(path, folder / "copy")
        os.replace(folder / "copy", path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    opened.clear()
    assert catalog.rescan() == Report(new=0, changed=1, removed=0, files=9, skipped=1, broken=0)
    assert set(opened) == {b"a_00002.dcm"}


def test_removed_file_goes(catalog: Catalog, folder: Path, opened: list[bytes]) -> None:
    """Its rows go, and nothing is opened for it."""
    catalog.rescan()
    (folder / "a" / "a_00002.dcm").unlink()
    opened.clear()
    assert catalog.rescan().removed == 1
    assert opened == []
    assert instances(catalog) == fresh(folder)


def test_series_without_files_goes(catalog: Catalog, folder: Path) -> None:
    """The last file takes the series with it."""
    catalog.rescan()
    shutil.rmtree(folder / "b")
    catalog.rescan()
    assert uid("series", "b") not in instances(catalog)


def test_file_moves_between_series(catalog: Catalog, folder: Path) -> None:
    """A file that now belongs to another series is in that one only."""
    catalog.rescan()
    make_series(folder / "moved", 4, name="a", SeriesInstanceUID=uid("series", "b"))
    (folder / "moved" / "a_00003.dcm").replace(folder / "a" / "a_00003.dcm")
    shutil.rmtree(folder / "moved")
    catalog.rescan()
    found = instances(catalog)
    assert (len(found[uid("series", "a")]), len(found[uid("series", "b")])) == (3, 4)
    assert found == fresh(folder)


def test_many_small_scans_equal_one(catalog: Catalog, folder: Path) -> None:
    """Adding, changing and removing step by step ends where a first scan does."""
    for number in range(4):
        make_series(folder / "d", 1 + number, {"EchoTime": [1, 20]}, name="d")
        if number == 2:
            (folder / "a" / "a_00001.dcm").unlink()
        catalog.rescan()
    before = instances(catalog)
    assert before == fresh(folder)


def test_any_tag_is_answered_without_opening_files(catalog: Catalog, folder: Path, opened: list[bytes]) -> None:
    """A catalog that is opened anew knows every short value."""
    catalog.rescan()
    catalog.close()
    opened.clear()
    again = Catalog(folder)
    keys = again.keys()
    for key in keys:
        frames = again.frames(key)
        assert frames is not None
        for tag in frames.tags():
            frames.unique(tag)
    again.close()
    assert opened == []


def test_long_values_are_read_from_their_file(folder: Path, catalog: Catalog, opened: list[bytes]) -> None:
    """Only they open files, and a file that changed is told."""
    long = make_series(
        folder / "long", 2, name="long", change=lambda ds, i: ds.add_new(0x00420011, "OB", bytes([i]) * 1500)
    )
    catalog.rescan()
    keys = catalog.keys()
    (key,) = [key for key in keys if key.series == uid("series", "long")]
    frames = catalog.frames(key)
    assert frames is not None
    opened.clear()
    assert sorted(frames.unique(0x00420011)) == [bytes(1500), b"\1" * 1500]
    assert sorted(opened) == [b"long_00001.dcm", b"long_00002.dcm"]
    long.files[0].write_bytes(b"other")
    with pytest.raises(StaleError, match="rescan"):
        frames.take([0, 1]).unique(0x00420011)


def test_enhanced_file_is_many_rows(catalog: Catalog, folder: Path) -> None:
    """One file, one row a frame."""
    make_enhanced(folder / "enhanced.dcm", 3, {"FlipAngle": [5, 10]})
    catalog.rescan()
    assert len(instances(catalog)[uid("series", "enhanced")]) == 6


# -- one transaction


@pytest.mark.parametrize("where", ["scan", "store"])
def test_exception_leaves_the_old_state(
    catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """All of a rescan or nothing."""
    catalog.rescan()
    before = instances(catalog)
    make_series(folder / "c", 2, name="c")
    (folder / "a" / "a_00001.dcm").unlink()

    def failing(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "scan":
            patch.setattr(catalog_module, "scan_files", failing)
        else:
            patch.setattr(catalog_module.SeriesTables, "exchange", failing)
        with pytest.raises(KeyboardInterrupt):
            catalog.rescan()
    assert instances(catalog) == before
    catalog.rescan()
    assert instances(catalog) == fresh(folder)


def test_threads_may_scan_at_once(catalog: Catalog) -> None:
    """They take turns, and one of them finds everything new."""
    reports: list[Report] = []
    threads = [threading.Thread(target=lambda: reports.append(catalog.rescan())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.new for report in reports) == [0, 0, 0, 9]


def test_processes_may_scan_at_once(folder: Path) -> None:
    """Each ends, and the catalog is whole."""
    script = (
        "import sys; from xdicom.catalog import Catalog; c = Catalog(sys.argv[1]); print(c.rescan().new); c.close()"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )
        for _ in range(3)
    ]
    found = [int(process.communicate()[0]) for process in running]
    assert sorted(found) == [0, 0, 9]


def test_rescan_of_another_process_is_seen(catalog: Catalog, folder: Path) -> None:
    """What was read before is not kept for ever."""
    catalog.rescan()
    assert len(instances(catalog)[uid("series", "a")]) == 4
    (folder / "a" / "a_00001.dcm").unlink()
    other = Catalog(folder)
    other.rescan()
    other.close()
    assert len(instances(catalog)[uid("series", "a")]) == 3


def test_busy_catalog_is_told(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long learns why."""
    monkeypatch.setattr(catalog_module, "_BUSY_SECONDS", 0)
    other = Catalog(folder)
    with catalog.transaction(), pytest.raises(CatalogError, match="another process scans or edits"):
        other.rescan()
    other.close()


# -- who may look


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_permissions_are_private_whatever_the_umask(folder: Path, umask: int) -> None:
    """0700 and 0600, those that SQLite makes while it is open too."""
    before = os.umask(umask)
    try:
        made = Catalog(folder)
        made.rescan()
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / ".xdicom").iterdir()}
        made.close()
    finally:
        os.umask(before)
    assert set(found.values()) == {0o600}
    assert {"catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"} <= found.keys()
    assert stat.S_IMODE((folder / ".xdicom").stat().st_mode) == 0o700


def test_permissions_are_tightened(catalog: Catalog, folder: Path) -> None:
    """A catalog that came with looser permissions loses them."""
    catalog.close()
    path = folder / ".xdicom" / "catalog.sqlite"
    path.chmod(0o644)
    Catalog(folder).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_cache_serves_a_folder_that_cannot_be_written(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is made in it, and the catalog is found again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(folder_module.os, "access", lambda path, mode: False)
    before = folder_hash(folder, ignore=())
    for expected in (9, 0):
        made = Catalog(folder)
        assert made.rescan().new == expected
        made.close()
    assert folder_hash(folder, ignore=()) == before


def test_nothing_of_the_user_changes(folder: Path) -> None:
    """Names, bytes, modes and times stay as they are; only .xdicom comes."""
    before = folder_hash(folder)
    made = Catalog(folder)
    made.rescan()
    instances(made)
    made.problems()
    made.close()
    assert folder_hash(folder) == before
    assert {path.name for path in folder.iterdir()} == {"a", "b", "report.dcm", "notes.txt", ".xdicom"}


def test_folder_can_be_moved(folder: Path, tmp_path_factory: pytest.TempPathFactory, opened: list[bytes]) -> None:
    """Paths are relative: the catalog moves along."""
    made = Catalog(folder)
    made.rescan()
    before = instances(made)
    made.close()
    moved = tmp_path_factory.mktemp("moved") / "data"
    folder.rename(moved)
    opened.clear()
    made = Catalog(moved)
    assert made.rescan() == Report(new=0, changed=0, removed=0, files=9, skipped=1, broken=0)
    assert (instances(made), opened) == (before, [])
    made.close()


# -- files that fail


def test_unreadable_file_is_tried_each_time(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as long as it fails, and read when it can be."""
    plain = scan.read_start
    bad = bytes(folder / "a" / "a_00002.dcm")

    def refused(path: bytes, length: int) -> object:
        if path == bad:
            raise PermissionError(13, "Permission denied")
        return plain(path, length)

    with monkeypatch.context() as patch:
        patch.setattr(scan, "read_start", refused)
        for _ in range(2):
            assert catalog.rescan().broken == 1
            assert catalog.problems() == [("a/a_00002.dcm", "it cannot be read: Permission denied")]
    assert catalog.rescan() == Report(new=0, changed=1, removed=0, files=9, skipped=1, broken=0)


def test_dangling_link_stays_told(catalog: Catalog, folder: Path) -> None:
    """Scan after scan, without another row for it."""
    (folder / "link.dcm").symlink_to("nowhere")
    for _ in range(3):
        assert catalog.rescan().files == 10
        assert catalog.problems() == [("link.dcm", "it cannot be read: No such file or directory")]


def test_file_that_vanishes_during_the_scan(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and gone at the next scan."""
    plain = Scanner._scan_batch

    def vanishing(self: Scanner, files: range) -> None:
        (folder / "b" / "b_00001.dcm").unlink(missing_ok=True)
        plain(self, files)

    monkeypatch.setattr(Scanner, "_scan_batch", vanishing)
    assert catalog.rescan().broken == 1
    assert catalog.rescan() == Report(new=0, changed=0, removed=1, files=8, skipped=1, broken=0)


@pytest.mark.parametrize("name", [b"\xff\xfe.dcm", b"two\nlines.dcm", b"'; DROP TABLE file; --"])
def test_any_file_name_will_do(catalog: Catalog, folder: Path, name: bytes) -> None:
    """Names that are no UTF-8 and hold anything are read, told and found again."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
    shutil.copyfile(folder / "a" / "a_00001.dcm", path)
    catalog.rescan()
    (problem,) = catalog.problems()  # one SOPInstanceUID in two files, of which the first by name is the good one
    good, other = sorted([os.fsdecode(name), "a/a_00001.dcm"])
    assert problem == (other, f"it has the same SOPInstanceUID as {good!r}")
    assert catalog.rescan().new == 0


def test_duplicates_are_told(catalog: Catalog, folder: Path) -> None:
    """Two files of one SOPInstanceUID are both there, with a warning on the second, which names the first."""
    shutil.copyfile(folder / "a" / "a_00001.dcm", folder / "a" / "copy.dcm")
    catalog.rescan()
    assert catalog.problems() == [("a/copy.dcm", "it has the same SOPInstanceUID as 'a/a_00001.dcm'")]
    assert len(instances(catalog)[uid("series", "a")]) == 5


def test_the_whole_one_of_duplicates_is_no_problem(catalog: Catalog, folder: Path) -> None:
    """Where the first is damaged, it is told, and the copy is not."""
    first = folder / "a" / "a_00001.dcm"
    shutil.copyfile(first, folder / "a" / "copy.dcm")
    first.write_bytes(first.read_bytes()[:-20])
    catalog.rescan()
    assert {problem.path for problem in catalog.problems()} == {"a/a_00001.dcm"}


def test_close_may_be_called_twice(catalog: Catalog) -> None:
    """And nothing happens."""
    catalog.close()
    catalog.close()


def test_workers_fill_the_same_catalog(folder: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who scans leaves no trace in it."""
    plain = parallel.scan_files
    monkeypatch.setattr(parallel, "BATCH", 2)
    monkeypatch.setattr(catalog_module, "scan_files", lambda *args: plain(*args, workers=2))
    catalog.rescan()
    found = instances(catalog)
    monkeypatch.undo()
    assert found == fresh(folder)
