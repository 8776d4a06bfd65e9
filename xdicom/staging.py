"""Stream an array into the chunk files of an uncompressed zarr array, block by block, as dask computes it.

Each frame is then a native little-endian image inside a chunk file. What it is staged for is known in `edits`.
"""

import json
import math
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.threaded
import numpy as np
from dask.callbacks import Callback
from numpy.typing import NDArray

from .errors import EditError, StaleError
from .quantise import Extent, check_dtype
from .source import Stamp
from .writer import flush_directory

Progress = Callable[[int, int], None]
_CHUNK_BYTES = 16 << 20
_RUN_BYTES = 2 << 20  # what stays in the cache of a core while it is laid out, measured and written
_SAMPLE = 4096
_LINES_AT_ONCE = 8192
_WORD = np.dtype(np.uint64)


@dataclass(frozen=True)
class StagedArray:
    """An array that was written.

    Attributes
    ----------
    files
        Chunk files, absolute, with their stamps.
    file, offset
        By frame, in C order of the leading dims: which chunk file, and at which byte.
    nbytes
        Of one frame.
    dtype
        Of the staged values, little endian.
    extent, sample
        What `quantise.choose` needs to know.
    low, high
        Least and greatest value of each frame, as `offset`; NaN where it holds a NaN.
    folder
        The zarr array.
    """

    files: Sequence[tuple[bytes, Stamp]]
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    nbytes: int
    dtype: np.dtype[Any]
    extent: Extent
    sample: NDArray[Any]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    folder: Path


def stage_array(array: da.Array, folder: Path, frame_ndim: int = 2, progress: Progress | None = None) -> StagedArray:
    """Compute an array once and write it, flushed, into a new folder.

    Parameters
    ----------
    array
        Shape (*dims, rows, columns[, samples]).
    folder
        Must not exist; becomes a zarr v3 array.
    frame_ndim
        2, or 3 with samples.
    progress
        Called with the number of tasks done and that of all; not on a distributed cluster.

    Raises
    ------
    EditError
        If the values are no real numbers. Nothing is left of the folder then, or if the graph fails.
    """
    check_dtype(array.dtype)
    dtype = _staged_dtype(array.dtype)
    chunk = chunk_shape(array.shape, dtype.itemsize, frame_ndim)
    make_private(folder)
    try:
        _write_metadata(folder, array.shape, chunk, dtype)
        blocks = array.astype(dtype).rechunk(chunk)  # type: ignore[no-untyped-call]
        found = _write_blocks(blocks, folder, chunk, frame_ndim, progress)
    except BaseException:
        discard(folder)
        raise
    files = [(os.fsencode(item[0]), item[1]) for item in found]
    extent = Extent()
    for item in found:
        extent |= item[2]
    lead = array.shape[: array.ndim - frame_ndim]
    grid = [-(-size // length) for size, length in zip(lead, chunk, strict=False)]
    file, offset = _places(lead, chunk, grid, dtype.itemsize)
    nbytes = int(np.prod(array.shape[len(lead) :])) * dtype.itemsize
    sample = np.concatenate([item[3] for item in found])
    places = [
        tuple(slice(i * size, (i + 1) * size) for i, size in zip(index, chunk, strict=False))
        for index in np.ndindex(*grid)
    ]
    low, high = np.empty((2, *lead))
    for place, item in zip(places, found, strict=True):
        low[place], high[place] = item[4]
    return StagedArray(files, file, offset, nbytes, dtype, extent, sample, low.reshape(-1), high.reshape(-1), folder)


def make_private(folder: Path) -> None:
    """Make a new folder that only its owner may enter, whatever the umask."""
    folder.mkdir(mode=0o700)
    folder.chmod(0o700)


def keep_file(path: bytes, stamp: Stamp, target: Path) -> tuple[bytes, Stamp]:
    """Link a file to another place, or copy it where that cannot be, and return the new path and stamp.

    A save puts new files in the place of old ones, and never writes into these: a link keeps the old content.

    Raises
    ------
    StaleError
        If the file is not any more what it was.
    """
    name = os.fsencode(target)
    try:
        os.link(path, name, follow_symlinks=True)
    except OSError:
        shutil.copyfile(path, name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        found = Stamp.of(os.stat(path))
        kept = Stamp.of(os.stat(name))
    else:
        found = kept = Stamp.of(os.stat(name))
    if found != stamp:
        raise StaleError(f"{os.fsdecode(path)!r} changed since it was scanned; call rescan()")
    return name, kept


def discard(folder: Path) -> None:
    """Remove a staged array that nothing refers to."""
    # Under another name first: tasks of a failed graph may still be about to write into it.
    gone = folder.with_name(f"{uuid.uuid4().hex}.gone")
    with suppress(OSError):
        folder.rename(gone)
    for left in (gone, folder):
        shutil.rmtree(left, ignore_errors=True)


def _write_blocks(
    blocks: da.Array, folder: Path, chunk: tuple[int, ...], frame_ndim: int, progress: Progress | None
) -> NDArray[np.object_]:
    """Write every block and flush their folder; return what `_write_block` says of each, in C order."""
    grid = blocks.numblocks
    one_each = tuple((1,) * count for count in grid)
    options = {"folder": os.fspath(folder), "chunk": chunk, "frame_ndim": frame_ndim}
    results = da.map_blocks(  # type: ignore[no-untyped-call]
        _write_block, blocks, **options, dtype=object, chunks=one_each, meta=_META
    )
    with _TaskProgress(progress) if progress else nullcontext():
        found: NDArray[np.object_] = np.asarray(results.compute(**_scheduler())).reshape(-1)
    for part in (folder, folder.parent):
        flush_directory(part)
    return found


def _scheduler() -> dict[str, Any]:
    """Name the threads of this process where there is no other scheduler; dask would look for one, for 0.2 s."""
    is_chosen = "distributed" in sys.modules or any(dask.config.get(name, None) for name in ("scheduler", "get"))
    return {} if is_chosen else {"scheduler": dask.threaded.get}


_META = np.empty(0, object)


class _TaskProgress(Callback):
    """Tells how many of dask's tasks are done."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(posttask=self._count)  # type: ignore[no-untyped-call]
        self._progress = progress

    def _count(self, key: object, result: object, dsk: object, state: Mapping[str, Any], worker: object) -> None:
        done = len(state["finished"])
        self._progress(done, done + sum(len(state[kind]) for kind in ("ready", "waiting", "running")))


def chunk_shape(shape: Sequence[int], itemsize: int, frame_ndim: int) -> tuple[int, ...]:
    """Return chunks of whole frames, about 16 MB, the fastest dims whole first."""
    if 0 in shape:
        raise EditError(f"an array of shape {tuple(shape)} has no images")
    lead, frame = shape[: len(shape) - frame_ndim], shape[len(shape) - frame_ndim :]
    return (*_fastest_whole(lead, _CHUNK_BYTES // (math.prod(frame) * itemsize)), *frame)


def _fastest_whole(lead: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the sizes of a part of about `count` frames that are one after the other in C order, at least one."""
    part = []
    left = max(1, count)
    for size in reversed(lead):
        part.append(min(size, left))
        left = max(1, left // size)
    return tuple(reversed(part))


def _staged_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b":
        return np.dtype("u1")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype("<f4") if dtype.itemsize < 4 else np.dtype("<f8")
    return dtype.newbyteorder("<")


def _write_metadata(folder: Path, shape: Sequence[int], chunk: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Write zarr.json (zarr v3 core specification) for an uncompressed little-endian array."""
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0 if dtype.kind != "f" else 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"} if dtype.itemsize > 1 else {}}],
        "attributes": {},
    }
    _write_flushed(folder / "zarr.json", json.dumps(metadata).encode())


def _write_flushed(path: Path, content: bytes) -> None:
    with _private_file(path) as descriptor:
        _write_at(descriptor, 0, memoryview(content))
        os.fsync(descriptor)


@contextmanager
def _private_file(path: Path) -> Iterator[int]:
    """Open a new file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        path.chmod(0o600)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_at(descriptor: int, offset: int, content: memoryview) -> None:
    os.lseek(descriptor, offset, os.SEEK_SET)
    view = content
    while view:
        view = view[os.write(descriptor, view) :]
    if hasattr(os, "posix_fadvise"):
        # Linux begins at once to write what is said to be needed no more, and a flush has less to wait for.
        os.posix_fadvise(descriptor, offset, len(content), os.POSIX_FADV_DONTNEED)


def _write_block(
    block: NDArray[Any],
    folder: str = "",
    chunk: tuple[int, ...] = (),
    frame_ndim: int = 2,
    block_id: tuple[int, ...] = (),
) -> NDArray[np.object_]:
    """Write one block as a whole chunk; return its path, stamp, extent, a sample of its values, and those of frames."""
    path = Path(folder, ".".join(["c", *map(str, block_id)]))
    block = np.asarray(block)
    lead = block.shape[: block.ndim - frame_ndim]
    frame_size = math.prod(block.shape[len(lead) :])
    step = max(1, block.size // _SAMPLE)
    extent, sample = Extent(), []
    extremes = np.empty((2, math.prod(lead)))
    with _private_file(path) as descriptor:
        for first, place, run in _runs(block, chunk, frame_ndim):
            _write_at(descriptor, place * frame_size * block.itemsize, memoryview(run.reshape(-1)).cast("B"))
            sample.append(run.reshape(-1)[-first * frame_size % step :: step].copy())
            found = run.reshape(-1, frame_size)
            low, high = found.min(axis=1), found.max(axis=1)
            extremes[:, first : first + len(found)] = low, high
            extent |= Extent.of(run) if run.dtype.kind == "f" else Extent.of(np.stack([low, high]))
        if block.shape != chunk:
            os.ftruncate(descriptor, math.prod(chunk) * block.itemsize)  # what the block lacks of the chunk is 0
        os.fsync(descriptor)
        stamp = Stamp.of(os.fstat(descriptor))
    result = np.empty((1,) * block.ndim, object)
    told = os.fspath(path), stamp, extent, np.concatenate(sample), extremes.reshape(2, *lead)
    result[(0,) * block.ndim] = told
    return result


def _runs(block: NDArray[Any], chunk: Sequence[int], frame_ndim: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield a block as few frames at a time, in C order; each time in the same memory, unless the block is so already.

    With each come the number of its first frame in the block, and that in the chunk.
    """
    lead, frame = block.shape[: block.ndim - frame_ndim], block.shape[block.ndim - frame_ndim :]
    whole = tuple(chunk[: len(lead)])
    count = _RUN_BYTES // (math.prod(frame) * block.itemsize)
    # Beyond the last leading dim, frames follow each other in the file only where the block is as long as the chunk.
    is_dense = lead[1:] == whole[1:]
    part = _fastest_whole(lead, count) if is_dense else _fastest_whole((1,) * (len(lead) - 1) + lead[-1:], count)
    memory = None if block.flags.c_contiguous else np.empty(2 * math.prod((*part, *frame)), block.dtype)
    for index in np.ndindex(*(-(-size // length) for size, length in zip(lead, part, strict=True))):
        start = tuple(i * length for i, length in zip(index, part, strict=True))
        run = block[tuple(slice(i, i + length) for i, length in zip(start, part, strict=True))]
        first, place = (int(np.ravel_multi_index(start, shape)) if start else 0 for shape in (lead, whole))
        yield first, place, run if memory is None else _in_order(run, memory, frame_ndim)


def _in_order(run: NDArray[Any], memory: NDArray[Any], frame_ndim: int) -> NDArray[Any]:
    """Lay frames out in C order, in memory for twice their size.

    Where the values of neighbouring frames are neighbours, as in (x, y, n), several are moved at once and parted then.
    """
    laid = memory[: run.size].reshape(run.shape)
    along = run.ndim - frame_ndim - 1
    together = _WORD.itemsize // run.itemsize
    count = run.shape[along] // together * together if along >= 0 and run.strides[along] == run.itemsize else 0
    if together < 2 or not count:
        _copy_by_parts(run, laid, frame_ndim)
        return laid
    before = (slice(None),) * along
    bundles = np.moveaxis(run[(*before, slice(count))], along, -1).view(_WORD)
    bundles = np.moveaxis(bundles, -1, along)
    moved = memory[run.size : run.size + bundles.size * together].view(_WORD).reshape(bundles.shape)
    _copy_by_parts(bundles, moved, frame_ndim)
    parted = moved.view(run.dtype).reshape(*moved.shape, together)
    for i in range(together):
        laid[(*before, slice(i, count, together))] = parted[..., i]
    laid[(*before, slice(count, None))] = run[(*before, slice(count, None))]
    return laid


def _copy_by_parts(run: NDArray[Any], laid: NDArray[Any], frame_ndim: int) -> None:
    """Copy frames, a part of each at a time: those of (x, y, n) come twice as fast as all at once."""
    first = run.ndim - frame_ndim
    axis = first + int(np.argmax(np.abs(run.strides[first:])))
    length = max(1, _LINES_AT_ONCE * run.shape[axis] // math.prod(run.shape[first:]))
    for start in range(0, run.shape[axis], length):
        part = (slice(None),) * axis + (slice(start, start + length),)
        laid[part] = run[part]


def _places(
    lead: Sequence[int], chunk: Sequence[int], grid: Sequence[int], itemsize: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return chunk file and byte offset of each frame, in C order of the leading dims."""
    index = np.indices(lead).reshape(len(lead), -1) if lead else np.zeros((0, 1), int)
    file = np.zeros(index.shape[1], np.int64)
    inside = np.zeros(index.shape[1], np.int64)
    for axis, size in enumerate(chunk[: len(lead)]):
        file = file * grid[axis] + index[axis] // size
        inside = inside * size + index[axis] % size
    frame_bytes = int(np.prod(chunk[len(lead) :])) * itemsize
    return file.astype(np.int32), inside * frame_bytes
