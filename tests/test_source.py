"""Reading bytes by range from local files."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xdicom import source as source_module
from xdicom.source import Source, Stamp

CONTENT = bytes(range(256)) * 40


@pytest.fixture(params=[True, False], ids=["preadv", "seek"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of known bytes, read both ways that platforms offer."""
    if request.param and not hasattr(os, "preadv"):
        pytest.skip("platform: no preadv")
    monkeypatch.setattr(source_module, "_HAS_PREADV", request.param)
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    return path


def test_stamp_is_that_of_stat(file: Path) -> None:
    """The stamp holds size, mtime and inode."""
    with Source(file) as source:
        assert source.stamp == Stamp.of(os.stat(file))


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (255, 300), (10_000, 240)])
def test_read_returns_the_range(file: Path, offset: int, length: int) -> None:
    """`read` returns exactly the bytes asked for."""
    with Source(file) as source:
        assert source.read(offset, length) == CONTENT[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(10_000, 1 << 50), (10_240, 5), (99_999, 5), (5, 0), (5, -3)])
def test_read_stops_at_the_end(file: Path, offset: int, length: int) -> None:
    """A length beyond the end of the file gives what there is, and allocates no more."""
    with Source(file) as source:
        assert source.read(offset, length) == CONTENT[offset : offset + max(length, 0)]


def test_read_into_fills_the_target(file: Path) -> None:
    """`read_into` writes into the memory that it is given."""
    target = bytearray(100)
    with Source(file) as source:
        assert source.read_into(200, memoryview(target)) == 100
    assert bytes(target) == CONTENT[200:300]


def test_read_into_tells_how_much_came(file: Path) -> None:
    """At the end of the file `read_into` returns fewer bytes."""
    with Source(file) as source:
        assert source.read_into(len(CONTENT) - 7, memoryview(bytearray(100))) == 7


def test_reads_go_on_where_one_call_gives_less(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges larger than what one system call may ask for come in parts."""
    monkeypatch.setattr(source_module, "_MOST", 64)
    with Source(file) as source:
        assert source.read(3, 1000) == CONTENT[3:1003]


def test_threads_may_share_a_source(file: Path) -> None:
    """Reads name their offset, so that threads don't disturb each other."""
    with Source(file) as source, ThreadPoolExecutor(4) as pool:
        offsets = [(37 * i) % 10_000 for i in range(400)]
        found = list(pool.map(lambda offset: source.read(offset, 100), offsets))
    assert found == [CONTENT[offset : offset + 100] for offset in offsets]


def test_path_may_be_any_bytes(tmp_path: Path) -> None:
    """Names that are no UTF-8 can be opened."""
    path = os.path.join(os.fsencode(tmp_path), b"\xff\n")
    try:
        Path(os.fsdecode(path)).write_bytes(b"x")
    except OSError:
        pytest.skip("platform: file names must be text")
    with Source(path) as source:
        assert source.read(0, 1) == b"x"


def test_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    """A FIFO, which would block for ever, raises."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("platform: no FIFOs")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        Source(tmp_path / "fifo")


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder raises OSError."""
    with pytest.raises(OSError):  # noqa: PT011 - the text is the platform's
        Source(tmp_path)


def test_close_twice_is_fine(file: Path) -> None:
    """A second close does nothing."""
    source = Source(file)
    source.close()
    source.close()


def test_stamp_tells_a_rewritten_file(file: Path) -> None:
    """A file that was replaced has another stamp."""
    with Source(file) as source:
        before = source.stamp
    other = file.with_name("b")
    other.write_bytes(CONTENT)
    os.replace(other, file)
    with Source(file) as source:
        assert source.stamp != before
