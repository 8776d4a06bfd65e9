"""The private folder, and the walk over the user's files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import FAULTS

from xdicom import folder as folder_module
from xdicom.folder import PRIVATE_NAME, is_network, list_files, private_folder
from xdicom.source import Stamp


@pytest.fixture(params=[0o022, 0o000, 0o777], ids=["usual", "none", "all"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each umask in turn."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def listed(root: Path) -> dict[bytes, object]:
    """Return what is found under a folder by path."""
    return dict(list_files(os.fsencode(root)))


def mode(path: Path) -> int:
    """Return the permissions of a path."""
    return path.stat().st_mode & 0o777


def test_private_folder_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Nobody else may look into it."""
    assert private_folder(tmp_path) == tmp_path / PRIVATE_NAME
    assert mode(tmp_path / PRIVATE_NAME) == 0o700


def test_private_folder_that_was_opened_up_is_closed(tmp_path: Path) -> None:
    """One that came with looser permissions, as from an archive, loses them."""
    (tmp_path / PRIVATE_NAME).mkdir()
    (tmp_path / PRIVATE_NAME).chmod(0o755)
    assert mode(private_folder(tmp_path)) == 0o700


def test_cache_serves_where_the_folder_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data on a read-only medium have their catalog in the user's cache, one a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    data = [tmp_path / "a", tmp_path / "b"]
    for one in data:
        one.mkdir()
    found = [private_folder(one) for one in data]
    assert found[0].parent == found[1].parent == tmp_path / "cache" / "xdicom"
    assert found[0] != found[1]
    assert [mode(path) for path in found] == [0o700, 0o700]
    assert list(data[0].iterdir()) == []


def test_cache_serves_where_the_folder_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where access() is wrong, as on some network drives, the error decides."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = Path.mkdir

    def refused(self: Path, *args: object, **options: object) -> None:
        if self.name == PRIVATE_NAME:
            raise OSError(30, "Read-only file system")
        plain(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refused)
    assert private_folder(tmp_path).parent == tmp_path / "cache" / "xdicom"


def test_private_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else put beside the data is not trusted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    private_folder(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert private_folder(tmp_path).parent == tmp_path / "cache" / "xdicom"


@pytest.mark.parametrize("kind", ["link", "file"])
def test_private_name_that_is_no_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A link may lead anywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    if kind == "link":
        (data / PRIVATE_NAME).symlink_to(elsewhere)
    else:
        (data / PRIVATE_NAME).write_text("mine")
    assert private_folder(data).parent == tmp_path / "cache" / "xdicom"
    assert list(elsewhere.iterdir()) == []


def test_files_come_in_order_with_their_stamps(tmp_path: Path) -> None:
    """Every regular file by its path under the root, folder after folder."""
    for name in ("b/2", "b/1", "a", "c/d/e"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    found = listed(tmp_path)
    assert list(found) == [b"a", b"b/1", b"b/2", b"c/d/e"]
    status = (tmp_path / "c/d/e").stat()
    assert found[b"c/d/e"] == (5, status.st_mtime_ns, status.st_ino)


def test_own_folder_is_passed_over(tmp_path: Path) -> None:
    """Also that of a folder below."""
    for one in (tmp_path, tmp_path / "below"):
        (one / PRIVATE_NAME).mkdir(parents=True)
        (one / PRIVATE_NAME / "catalog.sqlite").write_bytes(b"x")
    assert listed(tmp_path) == {}


def test_links_to_files_are_followed_and_to_folders_not(tmp_path: Path) -> None:
    """A link to a folder may lead round in a circle, or to the whole disk."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "file").write_bytes(b"x")
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").symlink_to(real / "file")
    (data / "folder").symlink_to(real)
    (data / "circle").symlink_to(data)
    assert list(listed(data)) == [b"file"]


@pytest.mark.parametrize(("name", "reason"), [("loop", "symbolic links"), ("dangling", "No such file")])
def test_links_to_nothing_come_with_the_error(tmp_path: Path, name: str, reason: str) -> None:
    """A link that cannot be followed is told."""
    (tmp_path / name).symlink_to(name if name == "loop" else "nowhere")
    error = listed(tmp_path)[name.encode()]
    assert isinstance(error, OSError)
    assert reason in str(error)


def test_special_files_are_passed_over(tmp_path: Path) -> None:
    """FIFOs and sockets would block whoever opens them."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link to fifo").symlink_to("fifo")
    assert listed(tmp_path) == {}


@pytest.mark.parametrize("name", [b"\xff\xfe.dcm", b"two\nlines.dcm", b"-rf", "ä".encode(), b" "])
def test_any_name_will_do(tmp_path: Path, name: bytes) -> None:
    """Names are bytes."""
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    assert list(listed(tmp_path)) == [name]


def test_folder_that_cannot_be_listed_comes_with_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of other folders are found."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    plain = os.scandir

    def refused(path: bytes) -> object:
        if path.endswith(b"/a"):
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(folder_module.os, "scandir", refused)
    found = listed(tmp_path)
    assert isinstance(found[b"a"], PermissionError)
    assert b"b/file" in found


def test_deep_folders_do_not_end_the_stack(tmp_path: Path) -> None:
    """A thousand levels are walked without recursion."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(800):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    assert [path[-4:] for path in listed(tmp_path)] == [b"file"]


def test_file_systems_of_other_machines_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount with the longest matching path decides."""
    lines = [
        "1 0 0:1 / / rw - ext4 /dev/sda rw",
        f"2 1 0:2 / {tmp_path} rw - nfs4 server:/data rw",
        f"3 1 0:3 / {tmp_path}/local rw - ext4 /dev/sdb rw",
    ]
    monkeypatch.setattr(Path, "read_text", lambda self, *args: "\n".join(lines))
    (tmp_path / "local").mkdir()
    assert [is_network(path) for path in (tmp_path, tmp_path / "local", Path("/"))] == [True, False, False]


def test_every_place_fault_is_listed_or_passed_over(tmp_path: Path) -> None:
    """No kind of file stops the walk."""
    for name in ("fifo", "socket", "loop", "dangling"):
        if name in FAULTS:
            FAULTS[name].make(tmp_path)
    assert all(isinstance(stamp, OSError) for stamp in listed(tmp_path).values())


def test_stamps_that_nobody_asks_for_are_left_out(tmp_path: Path) -> None:
    """Links lead to stamps all the same, for what they lead to has to be looked at."""
    for name in ("asked", "not"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "link").symlink_to("not")
    os.mkfifo(tmp_path / "pipe")
    found = dict(list_files(os.fsencode(tmp_path), {b"asked"}))
    every = listed(tmp_path)
    assert found == {b"asked": every[b"asked"], b"link": every[b"link"], b"not": None}
    assert isinstance(every[b"not"], Stamp)
