"""Stream an array into the chunk files of an uncompressed zarr array, block by block, as dask computes it.

Each frame is then a native little-endian image inside a chunk file. What it is staged for is known in `edits`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.callbacks import Callback
from numpy.typing import NDArray

from .errors import EditError
from .quantise import Extent, check_dtype
from .source import Stamp
from .writer import flush_directory

Progress = Callable[[int, int], None]
_CHUNK_BYTES = 32 << 20
_SAMPLE = 4096


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
    """

    files: Sequence[tuple[bytes, Stamp]]
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    nbytes: int
    dtype: np.dtype[Any]
    extent: Extent
    sample: NDArray[Any]


def stage_array(
    array: da.Array, folder: Path, frame_ndim: int = 2, progress: Progress | None = None
) -> StagedArray:
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
        If the values are no real numbers.
    """
    check_dtype(array.dtype)
    dtype = _staged_dtype(array.dtype)
    chunk = chunk_shape(array.shape, dtype.itemsize, frame_ndim)
    folder.mkdir(mode=0o700)
    _write_metadata(folder, array.shape, chunk, dtype)
    blocks = array.astype(dtype).rechunk(chunk)
    # Folders first: parallel writers would race to make them.
    grid = blocks.numblocks
    parts = [folder / "c" / "/".join(map(str, index[:-1])) for index in np.ndindex(grid)]
    for part in dict.fromkeys(parts):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    results = blocks.map_blocks(
        _write_block, folder=os.fspath(folder), chunk=chunk, dtype=object, chunks=tuple((1,) * n for n in grid), meta=_META
    )
    with _TaskProgress(progress) if progress else nullcontext():
        found: NDArray[Any] = np.asarray(results.compute()).reshape(-1)
    for part in dict.fromkeys(parts):
        flush_directory(part)
    flush_directory(folder)
    flush_directory(folder.parent)
    files = [(os.fsencode(item[0]), item[1]) for item in found]
    extent = Extent()
    for item in found:
        extent |= item[2]
    file, offset = _places(array.shape[: array.ndim - frame_ndim], chunk, grid, dtype.itemsize)
    nbytes = int(np.prod(array.shape[array.ndim - frame_ndim :])) * dtype.itemsize
    return StagedArray(files, file, offset, nbytes, dtype, extent, np.concatenate([item[3] for item in found]))


_META = np.empty(0, object)


class _TaskProgress(Callback):  # type: ignore[misc]
    """Tells how many of dask's tasks are done."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(posttask=self._count)
        self._progress = progress

    def _count(self, key: object, result: object, dsk: object, state: Mapping[str, Any], worker: object) -> None:
        done = len(state["finished"])
        self._progress(done, done + sum(len(state[kind]) for kind in ("ready", "waiting", "running")))


def chunk_shape(shape: Sequence[int], itemsize: int, frame_ndim: int) -> tuple[int, ...]:
    """Return chunks of whole frames, about 32 MB, the fastest dims whole first."""
    if 0 in shape:
        raise EditError(f"an array of shape {tuple(shape)} has no images")
    lead, frame = shape[: len(shape) - frame_ndim], shape[len(shape) - frame_ndim :]
    left = max(1, _CHUNK_BYTES // (int(np.prod(frame)) * itemsize))
    chunk = []
    for size in reversed(lead):
        chunk.append(min(size, left))
        left = max(1, left // size)
    return (*reversed(chunk), *frame)


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
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0 if dtype.kind != "f" else 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"} if dtype.itemsize > 1 else {}}],
        "attributes": {},
    }
    _write_flushed(folder / "zarr.json", json.dumps(metadata).encode())


def _write_flushed(path: Path, content: bytes | memoryview) -> Stamp:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        return Stamp.of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _write_block(
    block: NDArray[Any], folder: str = "", chunk: tuple[int, ...] = (), block_id: tuple[int, ...] = ()
) -> NDArray[np.object_]:
    """Write one block as a whole chunk; return its path, stamp, extent and a sample of its values."""
    path = Path(folder, "c", *map(str, block_id))
    whole = np.ascontiguousarray(block)
    if block.shape != chunk:
        padded = np.zeros(chunk, block.dtype)
        padded[tuple(slice(size) for size in block.shape)] = block
        whole = padded
    stamp = _write_flushed(path, memoryview(whole.reshape(-1)).cast("B"))
    flat = block.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    result = np.empty((1,) * block.ndim, object)
    result[(0,) * block.ndim] = (os.fspath(path), stamp, Extent.of(block), np.array(sample))
    return result


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

