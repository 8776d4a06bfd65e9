"""Frames to arrays: in memory with shape (x, y, *dims), or lazy and labelled.

Which frames, and of which record, is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import array as lazy
from .dims import order_frames
from .infer import first_copies
from .instance import INSTANCE_UID
from .placement import affine_of
from .selection import SelectableArray
from .splitting import choose
from .stack import arrange, check_options, stack

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike, NDArray

    from .frames import Frames
    from .geometry import FloatArray
    from .scaling import Scale
    from .stack import Grid
    from .store import Store

Missing = Literal["raise", "fill"]
Duplicates = Literal["raise", "first"]


def stacked_ndarray(
    frames: Frames,
    dims: Sequence[Any] | str | None,
    *,
    return_coords: bool,
    dtype: DTypeLike | None,
    missing: Missing,
    duplicates: Duplicates,
) -> Any:
    """Read frames into shape (x, y, *dims), straight from where they are; see `Record.ndarray`."""
    frames = readable(frames)
    if dims is None:
        order, coords = order_frames(frames), {}
        shape: tuple[int, ...] = (len(frames),)
    else:
        grid = stack(frames, _as_dims(dims), missing=missing, duplicates=duplicates)
        order, shape = grid.frames.reshape(-1), grid.shape
        coords = {name: values for name, (_, values) in grid.coords.items()}
    values = read_frames(frames, order, dtype)
    values = values.reshape(*shape, *values.shape[1:])
    moved = np.moveaxis(values, [len(shape) + 1, len(shape)], [0, 1])
    return (moved, coords) if return_coords else moved


def keep_alive(da: xr.DataArray, store: Store) -> None:
    """Let the temporary folder of a database in memory live as long as a lazy array of it."""
    if isinstance(da.data, SelectableArray):
        da.data.selection.source.owner = store.temporary  # type: ignore[attr-defined]


def readable(frames: Frames) -> Frames:
    """Return the rows that are images; raise where there are none, or one cannot be read.

    A damaged file does not count where another is the same instance, and whole.
    """
    images = frames.images()
    damaged = images.offset < 0
    if damaged.any() and not damaged.all():
        instances = np.stack([images.column(INSTANCE_UID)[1], images.number], axis=1)
        whole = {tuple(instance) for instance in instances[~damaged].tolist()}
        spare = [bad and tuple(one) in whole for bad, one in zip(damaged.tolist(), instances.tolist(), strict=True)]
        images = images.take(np.flatnonzero(~np.array(spare)))
    (images if len(images) else frames).check_pixels()
    return images


def read_frames(frames: Frames, order: NDArray[np.intp], dtype: DTypeLike | None) -> NDArray[Any]:
    """Read frames in some order into a new array of shape (n, rows, columns[, samples]); -1 gives NaN."""
    locations = frames.locations
    absent = order < 0
    wanted = np.dtype(dtype) if dtype is not None else locations.dtype()
    if absent.any() and wanted.kind != "f":
        wanted = np.result_type(wanted, np.float32)
    target = np.empty((len(order), *locations.frame_shape()), wanted)
    if absent.any():
        target[absent] = np.nan
        for place in np.flatnonzero(~absent).tolist():
            locations.read(order[place : place + 1], target[place : place + 1])
    else:
        locations.read(order, target, threads=None)
    return target


def stacked_xarray(
    frames: Frames,
    dims: Sequence[Any] | str | None,
    *,
    chunks: Any,
    rescale: Scale,
    dtype: DTypeLike | None,
    missing: Missing,
    duplicates: Duplicates,
    mask_padding: bool = False,
) -> xr.DataArray:
    """Arrange frames as a lazy DataArray; see `Record.to_xarray`."""
    images, grid = arranged(frames, dims, missing=missing, duplicates=duplicates)
    return lazy.to_dataarray(images, grid, chunks=chunks, rescale=rescale, mask_padding=mask_padding, dtype=dtype)


def arranged(
    frames: Frames, dims: Sequence[Any] | str | None, *, missing: Missing, duplicates: Duplicates
) -> tuple[Frames, Grid]:
    """Return the images among frames, and their arrangement; see `Record.to_xarray`."""
    images = readable(frames)
    if dims is not None:
        return images, stack(images, _as_dims(dims), missing=missing, duplicates=duplicates)
    check_options(missing, duplicates)
    if duplicates == "first":
        images = images.take(first_copies(images))
    choice = choose(images, missing=missing, duplicates=duplicates)
    grid = arrange(images, choice.dims, missing=missing, duplicates=duplicates)
    return images, replace(grid, reason=choice.reason)


def affine_from(frames: Frames) -> FloatArray:
    """Return the 4 x 4 matrix from (column, row, slice) index to LPS mm; see `Series.affine`."""
    grid = stack(frames, ("slice_location",), duplicates="first")
    return affine_of(lazy.to_dataarray(frames, grid))


def _as_dims(dims: Sequence[Any] | str) -> Sequence[Any]:
    return (dims,) if isinstance(dims, str) else dims
