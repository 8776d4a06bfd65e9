"""Records as Zarr stores that open elsewhere without xdicom, and arrays out of such stores, whoever wrote them.

What a store holds of a series is known in `archived`.
"""

import os
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from .archived import image_dataset, other_dataset
from .errors import PixelError, RecordError, SaveError, StackError
from .frames import Frames
from .indexed import FRAME_DIMS
from .trees import PIXELS, Arranging, Tables, identity, stack_frames, tree_datasets
from .writer import flush_directory
from .zarrmeta import check_store

Progress = Callable[[int, int], None]

_CHUNK_BYTES = 8 << 20


def write_store(
    tables: Tables,
    path: str | os.PathLike[str],
    how: Arranging,
    *,
    is_series: bool,
    progress: Progress | None = None,
) -> None:
    """Write series as a Zarr store (version 3): all of it or nothing.

    Parameters
    ----------
    tables
        The rows of each series.
    path
        A folder that does not exist.
    how
        How frames are arranged.
    is_series
        Whether it is the store of one series, which is then the outermost group, or if it holds several stacks their
        groups are below that; else of a tree, see `trees`.
    progress
        Called with the number of groups written and that of all.

    Raises
    ------
    SaveError
        If there is something at the path.
    StackError, PixelError
        If the frames of the one series fill no grid, or cannot be read.
    """
    if not tables:
        Frames.empty().check_pixels()  # which says what to do
    target = Path(path).absolute()
    if os.path.lexists(target):
        raise SaveError(f"{str(target)!r} is there already, and nothing is replaced: give another path")
    if is_series:
        nodes = _series_nodes(tables[0][1], how)
    else:
        nodes = tree_datasets(tables, how, images=image_dataset, others=other_dataset)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        for done, (group, node) in enumerate(nodes.items(), 1):
            _write_group(node, unfinished, group)
            if progress:
                progress(done, len(nodes))
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    flush_directory(target.parent)


def _series_nodes(frames: Frames, how: Arranging) -> dict[str, xr.Dataset]:
    """Return the groups of one series."""
    try:
        return {"/": image_dataset(frames, how)}
    except (StackError, PixelError):
        parts = stack_frames("", frames) if how.dims is None else {}
        if len(parts) < 2:
            raise
    return {"/": identity(frames)} | {path: image_dataset(part, how) for path, part in parts.items()}


def _write_group(node: xr.Dataset, store: Path, group: str) -> None:
    """Write one dataset, its pixels in chunks of whole frames."""
    encoding = {}
    if PIXELS in node:
        chunks = file_chunks(node[PIXELS])
        node = node.assign({PIXELS: node[PIXELS].chunk(chunks)})
        encoding[PIXELS] = {"chunks": tuple(chunks.values())}
    with warnings.catch_warnings():
        # zarr before 3.2 says of text in arrays what has been settled since.
        warnings.filterwarnings("ignore", "The (codec|data type|dtype) .*Zarr (format|V)")
        node.to_zarr(store, group=group, mode="a", zarr_format=3, consolidated=False, encoding=encoding)


def file_chunks(da: xr.DataArray) -> dict[str, int]:
    """Return the size of a chunk file along each dim: whole frames, at most 8 MB of values, the fastest dims whole."""
    frame = {str(dim): size for dim, size in da.sizes.items() if dim in FRAME_DIMS}
    room = _CHUNK_BYTES // da.dtype.itemsize
    for size in frame.values():
        room //= max(size, 1)
    lead = {}
    for dim in reversed([str(dim) for dim in da.dims if dim not in FRAME_DIMS]):
        lead[dim] = min(max(room, 1), da.sizes[dim])
        room //= max(da.sizes[dim], 1)
    return {str(dim): {**frame, **lead}[str(dim)] for dim in da.dims}


def read_store(path: str | os.PathLike[str], group: str | None = None) -> xr.DataArray:
    """Return the array of images in a Zarr store, lazily, its coordinates in memory.

    Parameters
    ----------
    path
        The store; nothing that it says of itself is believed.
    group
        Of the series, where there are several.

    Raises
    ------
    BrokenFileError
        If the store is not one that can be trusted, see `zarrmeta.check_store`.
    RecordError
        If no group has images, or several have; the text lists them.
    """
    groups = check_store(path)
    wanted = None if group is None else "/" + group.strip("/")
    found = [name for name in groups if wanted in (None, name) and _images_in(path, name) is not None]
    if len(found) != 1:
        there = found or [name for name in groups if _images_in(path, name) is not None]
        listed = "\n".join(f"  group={name!r}" for name in there) or "  (none)"
        raise RecordError(
            f"{os.fspath(path)!r} has {len(found)} groups of images to choose from: give one of\n{listed}"
        )
    da = _images_in(path, found[0])
    if da is None:
        raise RecordError(f"{os.fspath(path)!r} has no images any more")
    loaded = da.coords.to_dataset().compute()  # together: each one by itself would load all that lie along its dims
    return da.assign_coords({name: coord.variable for name, coord in loaded.coords.items()})


def _images_in(path: str | os.PathLike[str], group: str) -> xr.DataArray | None:
    """Return the array of a group with rows and columns: the one called "pixels", else the only one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The (codec|data type|dtype) .*Zarr (format|V)")
        # Units such as "seconds" are those of the values, and make no dates of them.
        options: dict[str, Any] = {
            "consolidated": False,
            "zarr_format": 3,
            "decode_times": False,
            "decode_timedelta": False,
        }
        dataset = xr.open_zarr(os.fspath(path), group=group, chunks={}, **options)
    found: dict[str, xr.DataArray] = {
        str(name): da for name, da in dataset.data_vars.items() if {"row", "column"} <= set(da.dims)
    }
    if PIXELS in found:
        return found[PIXELS]
    return next(iter(found.values())) if len(found) == 1 else None
