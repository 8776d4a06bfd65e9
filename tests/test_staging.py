"""Facts about xdicom.staging: a lazy array becomes chunk files, computed once, block by block."""

import os
import stat
import threading

import dask
import dask.array as da
import dask.local
import numpy as np
import pytest
import zarr
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xdicom import staging
from xdicom.errors import EditError
from xdicom.quantise import Extent
from xdicom.staging import chunk_shape, discard, make_private, stage_array

DTYPES = ["?", "i1", "u1", "i2", ">i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "g"]


def frames_of(staged, shape):
    """Return the staged frames, read at the places that were told."""
    read = []
    for file, offset in zip(staged.file.tolist(), staged.offset.tolist(), strict=True):
        with open(staged.files[file][0], "rb") as source:
            source.seek(offset)
            read.append(np.frombuffer(source.read(staged.nbytes), staged.dtype))
    return np.reshape(read, shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_frames_are_where_the_table_says(tmp_path, dtype):
    """Each frame lies, native and little endian, at its offset in its chunk file."""
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
    staged = stage_array(da.from_array(values, chunks=(1, 2, 3, 4)), tmp_path / "a")
    assert np.array_equal(frames_of(staged, values.shape), values)
    assert staged.dtype.newbyteorder("<") == staged.dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_staged_pixels_are_a_zarr_array(tmp_path, dtype):
    """Zarr opens the folder as a v3 array with the same values."""
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    stage_array(da.from_array(values), tmp_path / "a")
    opened = zarr.open_array(tmp_path / "a", mode="r")
    assert (opened.metadata.zarr_format, opened.shape) == (3, values.shape)
    assert np.array_equal(opened[...], values)


def test_chunks_that_do_not_divide_the_array(tmp_path, monkeypatch):
    """The last chunks are padded as zarr wants them; frames and zarr agree."""
    monkeypatch.setattr(staging, "_CHUNK_BYTES", 3 * 4 * 5 * 8)
    values = np.random.default_rng(1).normal(size=(2, 7, 4, 5))
    staged = stage_array(da.from_array(values, chunks=(1, 4, 2, 5)), tmp_path / "a")
    assert len(staged.files) == 6
    assert np.array_equal(frames_of(staged, values.shape), values)
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], values)


@given(
    arrays(
        st.sampled_from(["i2", "u1", "f4", "f8"]),
        st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple),
        elements=None,
        fill=st.nothing(),
    ),
    st.data(),
)
def test_any_array_and_chunks(values, data):
    """Shape and chunks do not matter: what is staged is what was computed, bit for bit, NaN included."""
    chunks = tuple(data.draw(st.integers(1, size)) for size in values.shape)
    with pytest.MonkeyPatch.context() as patch, TemporaryFolder() as folder:
        patch.setattr(staging, "_CHUNK_BYTES", data.draw(st.integers(1, 2000)))
        staged = stage_array(da.from_array(values, chunks=chunks), folder / "a")
        assert frames_of(staged, values.shape).tobytes() == values.astype(staged.dtype).tobytes()


class TemporaryFolder:
    """A folder for one example of hypothesis."""

    def __enter__(self):
        from pathlib import Path
        from tempfile import TemporaryDirectory

        self.folder = TemporaryDirectory()
        return Path(self.folder.name)

    def __exit__(self, *args):
        self.folder.cleanup()


def test_the_graph_runs_once(tmp_path):
    """Every block is computed exactly once, and told in the extent and the sample."""
    calls, lock = [], threading.Lock()

    def block(values, block_id=None):
        with lock:
            calls.append(block_id)
        return values + 1.5

    array = da.zeros((6, 4, 5), chunks=(1, 4, 5)).map_blocks(block, dtype=float, meta=np.empty((0, 0, 0)))
    staged = stage_array(array, tmp_path / "a")
    assert sorted(calls) == [(i, 0, 0) for i in range(6)]
    assert staged.extent == Extent(1.5, 1.5, False, False)
    assert set(staged.sample.tolist()) == {1.5}


def test_few_blocks_are_in_memory_at_a_time(tmp_path, monkeypatch):
    """Of many chunks only a few are held at once: those that threads work on."""
    import dask

    monkeypatch.setattr(staging, "_CHUNK_BYTES", 8 * 64 * 64)
    alive, most, lock = set(), [0], threading.Lock()
    write = staging._write_block

    def block(values, block_id=None):
        with lock:
            alive.add(block_id)
            most[0] = max(most[0], len(alive))
        return values

    def written(values, block_id=(), **options):
        result = write(values, block_id=block_id, **options)
        with lock:
            alive.discard(block_id)
        return result

    monkeypatch.setattr(staging, "_write_block", written)
    array = da.zeros((200, 64, 64), chunks=(1, 64, 64)).map_blocks(block, dtype=float, meta=np.empty((0, 0, 0)))
    with dask.config.set(scheduler="threads", num_workers=4):
        stage_array(array, tmp_path / "a")
    assert most[0] <= 8


def test_only_the_owner_can_read(tmp_path):
    """The folder is 0700 and its files are 0600, whatever the umask."""
    for number, umask in enumerate((0o000, 0o022, 0o377)):
        before = os.umask(umask)
        try:
            stage_array(da.zeros((2, 3, 4, 5), chunks=1), tmp_path / str(number))
        finally:
            os.umask(before)
        modes = {(path.is_file(), stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / str(number)).rglob("*")}
        assert modes == {(True, 0o600)}
        assert stat.S_IMODE((tmp_path / str(number)).stat().st_mode) == 0o700


def test_a_graph_that_fails_leaves_nothing(tmp_path):
    """The error of the graph comes through, and no file is left."""

    def fail(values, block_id=None):
        if block_id[0] == 5:
            raise ZeroDivisionError("in the graph")
        return values

    array = da.zeros((9, 4, 5), chunks=(1, 4, 5)).map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0)))
    with pytest.raises(ZeroDivisionError, match="in the graph"):
        stage_array(array, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path):
    """Pixels are write-once: a folder of that name is neither written nor removed."""
    stage_array(da.ones((1, 2, 2)), tmp_path / "a")
    with pytest.raises(FileExistsError):
        stage_array(da.zeros((1, 2, 2)), tmp_path / "a")
    assert zarr.open_array(tmp_path / "a", mode="r")[...].all()


def test_discard_and_make_private(tmp_path):
    """A discarded array is gone; discarding nothing does nothing."""
    make_private(tmp_path / "a")
    (tmp_path / "a" / "file").write_bytes(b"x")
    discard(tmp_path / "a")
    discard(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "M8[s]"])
def test_what_is_no_real_number_is_refused(tmp_path, dtype):
    """Dtypes other than bool, integers and floats are refused before anything is written."""
    with pytest.raises(EditError):
        stage_array(da.from_array(np.zeros((1, 2, 2), dtype), chunks=2), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_chunk_shape():
    """Chunks are whole frames, the fastest dims whole first, about 16 MB."""
    assert chunk_shape((100, 50, 256, 256), 2, 2) == (2, 50, 256, 256)
    assert chunk_shape((3, 10000, 10000), 8, 2) == (1, 10000, 10000)
    assert chunk_shape((4, 5, 6, 3), 1, 3) == (4, 5, 6, 3)
    with pytest.raises(EditError, match="no images"):
        chunk_shape((0, 5, 6), 1, 2)


def test_progress_counts_tasks(tmp_path):
    """Progress is told after each task and ends with all."""
    told = []
    array = da.zeros((4, 2, 2), chunks=1)
    stage_array(array, tmp_path / "a", progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert tokenize(array) == tokenize(da.zeros((4, 2, 2), chunks=1))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)])
@pytest.mark.parametrize("frames", [1, 2, 7, 100])
def test_memory_of_any_order_is_laid_out_few_frames_at_a_time(tmp_path, monkeypatch, order, frames):
    """Arrays whose frames lie anyhow in memory are staged as they are, also where chunks reach beyond the array."""
    values = np.random.default_rng(2).normal(size=(5, 7, 4, 6)).transpose(order)
    values[0, 0, 0, 0] = np.nan
    frame_bytes = values[0, 0].size * 8
    monkeypatch.setattr(staging, "_RUN_BYTES", frames * frame_bytes)
    monkeypatch.setattr(staging, "_CHUNK_BYTES", 8 * frame_bytes)
    monkeypatch.setattr(staging, "_LINES_AT_ONCE", 5)
    staged = stage_array(da.from_array(values, chunks=values.shape, name=False), tmp_path / "a")
    assert np.array_equal(frames_of(staged, values.shape), values, equal_nan=True)
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], values, equal_nan=True)
    flat = values.reshape(-1, values[0, 0].size)
    assert np.array_equal(staged.low, flat.min(axis=1), equal_nan=True)
    assert np.array_equal(staged.high, flat.max(axis=1), equal_nan=True)
    assert staged.extent == Extent.of(values)
    assert np.isin(staged.sample[~np.isnan(staged.sample)], values).all()


def test_the_chosen_scheduler_runs_the_graph(tmp_path):
    """A scheduler that dask is told of runs the graph; without one the threads of this process do."""
    calls = []

    def get(graph, keys, **options):
        calls.append(keys)
        return dask.local.get_sync(graph, keys, **options)

    stage_array(da.ones((1, 2, 2)), tmp_path / "threads")
    with dask.config.set(scheduler=get):
        stage_array(da.ones((1, 2, 2)), tmp_path / "chosen")
    assert len(calls) == 1
