"""Facts about xdicom.flushing: when new files are closed, and what the system is told of them."""

import errno
import os

import numpy as np
import pytest
from conftest import folder_hash
from factories import make_series

import xdicom as xd
from xdicom import flushing
from xdicom.errors import SaveError
from xdicom.flushing import EarlyWriting

LARGE = 64 << 10

needs_hints = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="platform: no posix_fadvise")


@pytest.fixture
def descriptors(tmp_path):
    """Give a function that opens new files."""
    return lambda count: [os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT) for number in range(count)]


def is_open(descriptor):
    """Say whether a descriptor is one of an open file."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@needs_hints
def test_large_files_are_closed_later_small_ones_at_once(descriptors):
    """All are closed in the end."""
    small, large = descriptors(2)
    with EarlyWriting() as early:
        early.close(small, LARGE - 1)
        early.close(large, LARGE)
        assert not is_open(small)
        assert is_open(large)
    assert not is_open(large)


@needs_hints
@pytest.mark.parametrize("size", [LARGE, 2 << 20])
def test_few_are_open_at_once(descriptors, size):
    """Whatever their number and size, some 128 files wait to be closed."""
    opened = descriptors(300)
    with EarlyWriting() as early:
        for number, descriptor in enumerate(opened, 1):
            early.close(descriptor, size)
            assert sum(map(is_open, opened[:number])) <= 128
    assert not any(map(is_open, opened))


@needs_hints
def test_the_system_is_told_of_large_files(descriptors, monkeypatch):
    """Each is told once, whole, while it is open; those at the end are left to the flush."""
    told = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *what: told.append((*what, is_open(what[0]))))
    opened = descriptors(5)
    with EarlyWriting() as early:
        for descriptor in opened:
            early.close(descriptor, 4 << 20)
            while early._job is not None and not early._job.done():
                pass
    assert told == [(descriptor, 0, 0, os.POSIX_FADV_DONTNEED, True) for descriptor in opened[:4]]


@needs_hints
def test_a_file_system_without_hints(descriptors, monkeypatch):
    """An error of what is only a hint is none of a save."""

    def refused(*_):
        raise OSError(errno.EINVAL, "no hints here")

    monkeypatch.setattr(os, "posix_fadvise", refused)
    opened = descriptors(3)
    with EarlyWriting() as early:
        for descriptor in opened:
            early.close(descriptor, 8 << 20)
    assert not any(map(is_open, opened))


def test_a_platform_without_hints(descriptors, monkeypatch):
    """Files are closed at once then."""
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    (descriptor,) = descriptors(1)
    with EarlyWriting() as early:
        early.close(descriptor, 8 << 20)
        assert not is_open(descriptor)


@needs_hints
def test_an_error_at_closing_is_told_when_all_are_closed(descriptors, monkeypatch):
    """A network file system may say only then that a file is not written."""
    close = os.close
    opened = descriptors(3)

    def closing(descriptor):
        close(descriptor)
        if descriptor == opened[1]:
            raise OSError(errno.EIO, "not written")

    early = EarlyWriting()
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", closing)
        for descriptor in opened:
            early.close(descriptor, LARGE)
        with pytest.raises(OSError, match="not written"):
            early.__exit__(None, None, None)
    assert not any(map(is_open, opened))


def test_large_files_are_saved(tmp_path):
    """New pixels of many large files are those that were set."""
    made = make_series(tmp_path / "in", 70, shape=(200, 180))
    values = np.random.default_rng(0).integers(0, 4000, (180, 200, 70), np.int16)
    with xd.database(made.folder) as database:
        database.series()[0].set_ndarray(values)
        database.save()
    with xd.database(made.folder) as database:
        np.testing.assert_array_equal(database.series()[0].ndarray(), values)


@needs_hints
def test_a_file_that_cannot_be_closed_is_not_saved(tmp_path, monkeypatch):
    """Nothing has changed then, and edits stay staged."""
    made = make_series(tmp_path / "in", 3, shape=(200, 180))
    before = folder_hash(made.folder)

    close_all = flushing._close_all

    def failing(descriptors):
        close_all(descriptors)
        raise OSError(errno.EIO, "not written")

    with xd.database(made.folder) as database:
        database.PatientName = "Roe^Jane"
        with monkeypatch.context() as patch:
            patch.setattr(flushing, "_close_all", failing)
            with pytest.raises(SaveError, match="nothing was saved, edits are still staged: not written"):
                database.save()
        assert folder_hash(made.folder) == before
        assert database.status()
