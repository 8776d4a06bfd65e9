"""What every test module shares: where real DICOM lies, the corpora that PyPI ships, and two guards on every test."""

import gc
import gzip
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pydicom import Dataset

    import xdicom as xd

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIRE_ALL = os.environ.get("XDICOM_REQUIRE_ALL", "") not in ("", "0")
# A skip whose reason starts so stays a skip in CI: no installation would make the test run there.
PLATFORM = "platform:"


def real_data(name: str) -> Path:
    """Return a folder of real DICOM, or skip the test; read from it, never write into it.

    Parameters
    ----------
    name
        A folder of the real set, such as "pelvis-ct". It is looked for in the environment variable XDICOM_DATA, else
        in `../shared/data` beside the repository.
    """
    root = Path(os.environ.get("XDICOM_DATA") or REPOSITORY.parent / "shared" / "data")
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"no real data: {name} is not in $XDICOM_DATA nor in ../shared/data")
    return folder


def debian_tool(command: str, package: str) -> str:
    """Return the path of a command of a Debian package, or skip the test."""
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"no {command}: apt-get install {package}")
    return path


def folder_hash(path: Path, ignore: tuple[str, ...] = (".xdicom",)) -> str:
    """Return a digest of names, kinds, modes, modification times and bytes of everything in a folder.

    Parameters
    ----------
    path
        The folder.
    ignore
        Names of entries that do not count, wherever they are.
    """
    digest = hashlib.blake2b(digest_size=16)
    for folder, folders, files in os.walk(os.fsencode(path)):
        folders[:] = sorted(name for name in folders if os.fsdecode(name) not in ignore)
        for name in sorted(folders + [name for name in files if os.fsdecode(name) not in ignore]):
            full = os.path.join(folder, name)
            status = os.lstat(full)
            digest.update(os.path.relpath(full, os.fsencode(path)) + b"\0%o\0" % status.st_mode)
            if stat.S_ISREG(status.st_mode):
                digest.update(b"%d\0%d\0" % (status.st_size, status.st_mtime_ns) + Path(os.fsdecode(full)).read_bytes())
            elif stat.S_ISLNK(status.st_mode):
                digest.update(os.readlink(full))
    return digest.hexdigest()


def _package_folder(package: str, *parts: str) -> Path | None:
    """Return a folder inside an installed package without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)
    return folder if folder.is_dir() else None


def _files_below(folder: Path | None) -> list[Path]:
    """Return the regular files below a folder that are not code or notes, sorted."""
    if folder is None:
        return []
    unwanted = {".py", ".pyc", ".md", ".txt", ".json", ".zip", ".gz", ".nii", ".bin"}
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() not in unwanted)


def pydicom_files() -> list[Path]:
    """Return the DICOM files inside the pydicom package, deliberately broken ones and DICOMDIRs too."""
    return _files_below(_package_folder("pydicom", "data", "test_files")) + charset_files()


def charset_files() -> list[Path]:
    """Return pydicom's files in the character sets of the standard."""
    return _files_below(_package_folder("pydicom", "data", "charset_files"))


def pydicom_data_files() -> list[Path]:
    """Return the DICOM files of the pydicom-data package."""
    return _files_below(_package_folder("data_store", "data"))


def nibabel_files() -> list[Path]:
    """Return the uncompressed DICOM files inside the nibabel package."""
    return [
        path for path in _files_below(_package_folder("nibabel", "nicom", "tests", "data")) if path.suffix == ".dcm"
    ]


def corpus_files() -> list[Path]:
    """Return every DICOM file that PyPI ships for tests: pydicom's, pydicom-data's and nibabel's."""
    return pydicom_files() + pydicom_data_files() + nibabel_files()


def corpus_id(path: Path) -> str:
    """Return a name for a corpus file in test ids: the same on every machine."""
    return "/".join(path.parts[-2:])


@pytest.fixture(scope="session")
def nibabel_gunzipped(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Nibabel's gzipped DICOM files, inflated into a temporary folder."""
    folder = _package_folder("nibabel", "nicom", "tests", "data")
    target = tmp_path_factory.mktemp("nibabel")
    made = []
    for packed in sorted(folder.glob("*.dcm.gz")) if folder else []:
        made.append(target / packed.stem)
        made[-1].write_bytes(gzip.decompress(packed.read_bytes()))
    return made


@pytest.fixture(name="real_data", scope="session")
def _real_data() -> Callable[[str], Path]:
    """Give `real_data` as a fixture."""
    return real_data


@pytest.fixture
def real_copy(tmp_path: Path) -> Callable[[str], Path]:
    """Give a function that copies a folder of real DICOM, where a test opens it as a database or writes into it."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        shutil.copytree(real_data(name), target, copy_function=shutil.copyfile)
        target.chmod(0o755)
        for path in target.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return target

    return copy


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., "xd.Series"]:
    """Give a function that writes datasets into a folder and returns the one series in it."""
    from factories import write

    from xdicom import database

    def open_series(*datasets: "Dataset", syntax: str = "explicit") -> "xd.Series":
        for number, ds in enumerate(datasets):
            write(tmp_path / "in" / f"{number}.dcm", ds, syntax)
        return database(tmp_path / "in").series()[0]

    return open_series


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A series of three images and a text file."""
    from factories import make_series

    made = make_series(tmp_path / "in", PatientName="Doe^Jane", SeriesDescription="T1")
    (made.folder / "notes.txt").write_text("no DICOM")
    return made.folder


@pytest.fixture
def echoes(tmp_path: Path) -> Path:
    """Two series: one with two echoes, one without."""
    from factories import AXIAL, make_series

    make_series(tmp_path / "in", dims={"EchoTime": [4.6, 9.2]}, name="a", layout=AXIAL, SeriesDescription="fat T1")
    make_series(tmp_path / "in", name="b", layout=AXIAL, SeriesNumber=2, SeriesDescription="T2", PatientID="P2")
    return tmp_path / "in"


@pytest.fixture
def collected() -> Iterator[None]:
    """Let go of databases that the frames of an exception hold."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache directory out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        yield folder


def write_metadata(folder: Path) -> Path:
    """Write into a folder what an installation of xdicom leaves for others to find, and return the folder."""
    metadata = folder / "xdicom-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: xdicom\nVersion: 0\n")
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session", autouse=True)
def found_by_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let xarray find the engine by its name, where the tests run from the sources and xdicom is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if not importlib.metadata.entry_points(group="xarray.backends", name="xdicom"):
            patch.syspath_prepend(write_metadata(tmp_path_factory.mktemp("installed")))
        yield


def _open_files() -> dict[int, str]:
    """Return the regular files that this process has open, by descriptor; {} where the system does not tell."""
    found = {}
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return {}
    for descriptor in descriptors:
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            regular = stat.S_ISREG(os.fstat(int(descriptor)).st_mode)
        except OSError:  # the descriptor of the listing itself
            continue
        if regular and not target.startswith(("/dev/", "/proc/", "/sys/", "/memfd:", sys.prefix, sys.base_prefix)):
            found[int(descriptor)] = target
    return found


def _opened_since(before: dict[int, str]) -> dict[int, str]:
    """Return what is open now and was not."""
    return {number: path for number, path in _open_files().items() if before.get(number) != path}


@pytest.fixture(autouse=True)
def open_file_guard() -> Iterator[None]:
    """Fail a test that leaves a regular file open."""
    before = _open_files()
    yield
    left = _opened_since(before)
    if left:
        gc.collect()  # what nobody can reach any more, but for a cycle, is closed with it
        left = _opened_since(before)
    if left:
        pytest.fail(f"left open: {sorted(left.values())}")


def _refused(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Return whether a skip has to be a failure: in CI everything that a test needs is installed."""
    if not REQUIRE_ALL or not report.skipped or hasattr(report, "wasxfail"):
        return False
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return not reason.removeprefix("Skipped: ").startswith(PLATFORM)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn skips into failures under XDICOM_REQUIRE_ALL=1."""
    report = yield
    if _refused(report):
        report.outcome, report.longrepr = "failed", f"skipped although XDICOM_REQUIRE_ALL is set: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Turn skips of whole modules into failures under XDICOM_REQUIRE_ALL=1."""
    report = yield
    if _refused(report):
        report.outcome, report.longrepr = "failed", f"skipped although XDICOM_REQUIRE_ALL is set: {report.longrepr}"
    return report


def _hypothesis_profile() -> None:
    """Let hypothesis neither time its examples nor keep a database of them."""
    if importlib.util.find_spec("hypothesis") is not None:
        from hypothesis import HealthCheck, settings

        settings.register_profile("xdicom", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("xdicom")


_hypothesis_profile()
