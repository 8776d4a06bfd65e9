"""One grid onto another: the values of a lazy array at the voxels of other slices, block by block.

Where voxels lie is known in `slabs`; series and their headers are not known here.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from .dims import STACK_DIMS
from .selection import SelectableArray, filled, rechunked
from .slabs import PLACED, Box, Slabs, Slices, slices_of, thickness_of

MOST_VOXELS = 2**21
"""How many voxels of source and of target one task holds at most."""

MOST_SLAB = 2**23
"""How many voxels the frames have, at most, that a row of blocks is a part of."""

# Beyond so many voxels, the spline coefficients of a value hang on others by less than 1e-12.
_MARGINS = {0: 1, 1: 1, 2: 18, 3: 24, 4: 30, 5: 36}
_PADDING = 12  # voxels, as scipy has it around a spline of mode "nearest"
_TIE = 1e-6  # so that rounding does not decide where a place is as near to one voxel as to another
_FROM_TARGET = PLACED | {f"slice_step_{axis}" for axis in "xyz"}
# What says where a slice lies and is no longer true; all else comes from the nearest slice.
_NOT_KEPT = _FROM_TARGET | {"slice", "slice_location", "SliceLocation", "SpacingBetweenSlices", "SliceThickness"}
_STALE_ATTRS = ("SliceThickness", "SliceLocation", "SpacingBetweenSlices", "Rows", "Columns", "geometry_problem")

FloatArray = NDArray[np.float64]


class Prepared(NamedTuple):
    """A volume as splines need it, and where it has no values; None where it has them everywhere."""

    volume: NDArray[Any]
    absent: NDArray[np.float32] | None


@dataclass(frozen=True)
class Interpolated:
    """Values between voxels; where a voxel that counts is NaN, so is the value.

    Attributes
    ----------
    order
        Of the spline.
    fill, dtype
        Outside, and of the result.
    """

    order: int
    fill: float
    dtype: np.dtype[Any]

    def prepare(self, volume: NDArray[Any]) -> Prepared:
        """Return the coefficients of the spline."""
        absent = None
        missing = np.isnan(volume) if volume.dtype.kind == "f" and self.order else np.zeros((), bool)
        if missing.any():
            volume = np.where(missing, 0, volume)
            grown = ndimage.maximum_filter(missing, self.order // 2 * 2 + 1) if self.order > 1 else missing
            absent = grown.astype(np.float32)
        if self.order > 1:
            volume = ndimage.spline_filter(np.pad(volume, _PADDING, "edge"), self.order, np.float64, "nearest")
        return Prepared(volume, absent)

    def at(self, prepared: Prepared, places: FloatArray) -> NDArray[Any]:
        """Return the values at fractional indices of shape (3, n)."""
        if not self.order:
            return _nearest(prepared.volume, places)
        shifted = places + _PADDING if self.order > 1 else places
        values: NDArray[Any] = ndimage.map_coordinates(
            prepared.volume, shifted, np.float64, self.order, mode="nearest", prefilter=False
        )
        if prepared.absent is not None:
            share = ndimage.map_coordinates(prepared.absent, places, order=1, mode="nearest")
            values[share > _TIE] = self.fill if self.dtype.kind in "iu" else np.nan
        if self.dtype.kind in "iu":
            bounds = np.iinfo(self.dtype)
            values = np.rint(values).clip(bounds.min, bounds.max)
        return values


def _nearest(volume: NDArray[Any], places: FloatArray) -> NDArray[Any]:
    """Return the values of the nearest voxels, of two that are as near the higher one, as in ITK."""
    last = np.array(volume.shape)[:, None] - 1
    index = np.clip(np.floor(places + (0.5 + _TIE)), 0, last).astype(np.intp)
    found: NDArray[Any] = volume[tuple(index)]
    return found


@dataclass(frozen=True)
class Inside:
    """1 where at least half of a mask, interpolated linearly, is inside; what is neither 0 nor NaN is inside."""

    order: int = 1
    fill: float = 0
    dtype: np.dtype[Any] = np.dtype(np.uint8)  # noqa: RUF009 - dtypes are immutable

    def prepare(self, volume: NDArray[Any]) -> Prepared:
        """Return the mask."""
        return Prepared(((volume != 0) & (volume == volume)).astype(np.float32), None)

    def at(self, prepared: Prepared, places: FloatArray) -> NDArray[Any]:
        """Return the values at fractional indices of shape (3, n)."""
        share = ndimage.map_coordinates(prepared.volume, places, np.float64, 1, mode="nearest")
        inside: NDArray[Any] = share >= 0.5 - _TIE
        return inside


Sampler = Interpolated | Inside


def resample(
    source: xr.DataArray, target: xr.DataArray, *, order: int = 1, fill: float = np.nan, dtype: DTypeLike | None = None
) -> xr.DataArray:
    """Return the values of an array at the voxels of another, lazily.

    Parameters
    ----------
    source
        With dims "row" and "column", one along which slices follow each other or none, and any others; and the
        geometry coordinates that `to_xarray` gives.
    target
        The same; only its coordinates are used.
    order
        Of the spline: 0 nearest, 1 linear, up to 5.
    fill
        Value outside the source.
    dtype
        By default float32, or float64 where float32 does not hold the source's values. Integers are rounded to.

    Returns
    -------
    DataArray
        The source's dims, with slices, rows and columns of the target; the target's geometry and the source's other
        coordinates and attributes. What varies from slice to slice is that of the nearest slice.

    Raises
    ------
    GeometryError
        If either has no geometry, or the source is no stack of parallel slices.

    Notes
    -----
    A voxel reaches half a step around its centre. Places between the outermost centres and the border of the stack
    take the value that it has at the outermost centres, as with `SimpleITK.Resample`. For stacks with gaps and single
    slices see `xdicom.slabs.Slabs`.
    """
    wanted = value_dtype(source.dtype) if dtype is None else np.dtype(dtype)
    return resampled(source, target, Interpolated(check_order(order), fill, wanted))


def resample_mask(source: xr.DataArray, target: xr.DataArray, *, labels: bool = False) -> xr.DataArray:
    """Return a mask at the voxels of another array, lazily; see `resample`.

    Parameters
    ----------
    source, target
        As in `resample`. Voxels that are neither 0 nor NaN are inside the mask.
    labels
        Keep the values of the nearest voxels. By default 1 where at least half of the mask, interpolated linearly, is
        inside.

    Returns
    -------
    DataArray
        0 outside the source.
    """
    if not labels:
        return resampled(source, target, Inside())
    found = resampled(source, target, Interpolated(0, 0, source.dtype))
    return found.fillna(0) if source.dtype.kind == "f" else found


def check_order(order: int) -> int:
    """Return the order of a spline, or raise ValueError where it is not one of 0 to 5."""
    if order not in _MARGINS:
        raise ValueError(f"order={order!r}; expected 0 (nearest), 1 (linear), or up to 5")
    return order


def value_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the smallest float type that holds the values of another type.

    Examples
    --------
    >>> value_dtype(np.dtype("int16")), value_dtype(np.dtype("int32"))
    (dtype('float32'), dtype('float64'))
    """
    return np.result_type(dtype, np.float32)


def resampled(source: xr.DataArray, target: xr.DataArray, sampler: Sampler) -> xr.DataArray:
    """Return what a sampler makes of an array at the voxels of another; see `resample`."""
    at = slices_of(target)
    stack = Stack.of(source)
    values = stack.values(at, sampler)
    labelled = stack.labelled(values, at, target)
    return labelled if at.dim is not None else labelled.isel({stack.dim: 0})


class Stack:
    """A lazy array as voxels in the patient.

    Attributes
    ----------
    source
        The array, its slices in the order of their depths.
    slices, slabs
        Where they are.
    dim
        Along which slices follow each other.
    """

    def __init__(self, source: xr.DataArray, slices: Slices, slabs: Slabs) -> None:
        self.source, self.slices, self.slabs = source, slices, slabs
        self.dim = str(slices.dim)
        self._axes = tuple(source.dims.index(dim) for dim in (self.dim, "row", "column"))

    @classmethod
    def of(cls, source: xr.DataArray) -> "Stack":
        """Return the stack of an array with geometry coordinates.

        Raises
        ------
        GeometryError
            If it has no geometry, or is no stack of parallel slices.
        """
        slices = slices_of(source)
        slabs, ascending = Slabs.of(slices, thickness_of(source, slices.dim))
        if slices.dim is None:
            source, slices = source.expand_dims("slice"), slices._replace(dim="slice")
        if not np.array_equal(ascending, np.arange(len(ascending))):
            source = source.isel({slices.dim: _as_key(ascending)})
            slices = slices_of(source)
        return cls(source, slices, slabs)

    def values(self, at: Slices, sampler: Sampler) -> da.Array:
        """Return the values at some places as a dask array, the axes in the order of the source.

        Each block reads only the box of the source that it needs.
        """
        margin = _MARGINS[sampler.order]
        sizes = _block_sizes(self.slabs, at, margin)
        spans = [_spans(size, step) for size, step in zip(at.shape, sizes, strict=True)]
        parts = {
            (i, j, k): (a, b, c) for (i, a), (j, b), (k, c) in itertools.product(*(enumerate(along) for along in spans))
        }
        boxes = {index: self.slabs.box(at.part(part), margin) for index, part in parts.items()}
        largest = max((_volume(box) for box in boxes.values() if box is not None), default=0)
        chunks = self._lead_chunks(max(largest, math.prod(sizes)))
        blocks = {index: self._block(at.part(part), boxes[index], sampler, chunks) for index, part in parts.items()}
        first, second, third = map(len, spans)
        rows = [[[blocks[i, j, k] for k in range(third)] for j in range(second)] for i in range(first)]
        return self._joined([self._joined([self._joined(each, 2) for each in row], 1) for row in rows], 0)

    def _joined(self, arrays: list[da.Array], axis: int) -> da.Array:
        if len(arrays) == 1:
            return arrays[0]
        joined: da.Array = da.concatenate(arrays, axis=self._axes[axis])  # type: ignore[no-untyped-call]
        return joined

    def _block(self, at: Slices, box: Box | None, sampler: Sampler, lead: dict[int, tuple[int, ...]]) -> da.Array:
        chunks = self._chunks(at.shape, lead)
        if box is None:
            shape = tuple(map(sum, chunks))
            empty: da.Array = da.full(shape, sampler.fill, dtype=sampler.dtype, chunks=chunks)  # type: ignore[no-untyped-call]
            return empty
        key = dict(zip((self.dim, "row", "column"), box, strict=True))
        shape = tuple(span.stop - span.start for span in box)
        region = rechunked(_as_dask(self.source.variable[key]), self._chunks(shape, lead))
        start = np.array([span.start for span in box], np.float64)
        values: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
            _sampled,
            region,
            slabs=self.slabs,
            slices=at,
            start=start,
            sampler=sampler,
            axes=self._axes,
            chunks=chunks,
            meta=np.empty((0,) * region.ndim, sampler.dtype),
        )
        return values

    def _chunks(self, shape: Sequence[int], lead: dict[int, tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        """Return chunks with one along slices, rows and columns."""
        found = lead | {axis: (size,) for axis, size in zip(self._axes, shape, strict=True)}
        return tuple(found[axis] for axis in range(self.source.ndim))

    def _lead_chunks(self, voxels: int) -> dict[int, tuple[int, ...]]:
        """Return chunks of the other axes: those that are there, or where the source may choose, as many as fit."""
        data = self.source.data
        others = [axis for axis in range(self.source.ndim) if axis not in self._axes]
        if isinstance(data, da.Array) and not isinstance(data, SelectableArray):
            return {axis: data.chunks[axis] for axis in others}
        return dict(
            zip(others, filled([self.source.shape[axis] for axis in others], MOST_VOXELS // voxels), strict=True)
        )

    def labelled(self, values: da.Array, at: Slices, target: xr.DataArray) -> xr.DataArray:
        """Return values with the geometry of a target and what else the source says; see `resample`."""
        dim = self.dim if at.dim is None else at.dim
        source, nearest = self.source, xr.DataArray(self.slabs.nearest(at.centres()), dims=dim)
        kept: dict[Any, Any] = {}
        for name, coord in source.coords.items():
            if name in _NOT_KEPT or name == self.dim or {"row", "column"} & set(coord.dims):
                continue
            kept[name] = coord.variable
            if self.dim in coord.dims:
                kept[name] = coord.reset_coords(drop=True).isel({self.dim: nearest}).variable
        geometry = {name: coord.variable for name, coord in target.coords.items() if name in _FROM_TARGET | {at.dim}}
        thickness = thickness_of(target, at.dim)
        dims = [dim if name == self.dim else str(name) for name in source.dims]
        attrs = {name: value for name, value in source.attrs.items() if name not in _STALE_ATTRS}
        coords = kept | geometry | {"SliceThickness": ((dim,) if thickness.ndim else (), thickness)}
        if STACK_DIMS in source.coords:
            before = str(source.coords[STACK_DIMS].values).split()
            coords[STACK_DIMS] = (), np.array(" ".join(dim if name == self.dim else name for name in before))
        return xr.DataArray(values, coords, dims, name=source.name, attrs=attrs)


def _as_dask(variable: xr.Variable) -> da.Array:
    data = variable.data
    wrapped: da.Array = data if isinstance(data, da.Array) else da.from_array(variable.values, name=False)  # type: ignore[no-untyped-call]
    return wrapped


def _as_key(order: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return a descending order as a slice, which reads no more than it must."""
    is_reversed = np.array_equal(order, np.arange(len(order))[::-1])
    return slice(None, None, -1) if is_reversed else order


def _spans(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _volume(box: Box) -> int:
    return math.prod(span.stop - span.start for span in box)


def _block_sizes(slabs: Slabs, at: Slices, margin: int) -> tuple[int, int, int]:
    """Return how many slices, rows and columns of the target go into a block, so that a task holds few voxels."""

    def needed(sizes: Sequence[int]) -> int:
        return slabs.needed(at.part((slice(sizes[0]), slice(sizes[1]), slice(sizes[2]))), margin)

    # Whole frames are staged: those of a slab of blocks are held until it is complete.
    sizes = [max(1, min(len(at.origin), MOST_SLAB // (at.rows * at.columns))), at.rows, at.columns]
    while max(math.prod(sizes), needed(sizes)) > MOST_VOXELS and max(sizes) > 1:
        halves = [[*sizes[:axis], -(-sizes[axis] // 2), *sizes[axis + 1 :]] for axis in range(3) if sizes[axis] > 1]
        # Of nearly equal ones the first, so that frames stay whole as long as may be.
        most = 1.2 * min(map(needed, halves))
        sizes = next(half for half in halves if needed(half) <= most)
    return sizes[0], sizes[1], sizes[2]


def _sampled(
    region: NDArray[Any],
    *,
    slabs: Slabs,
    slices: Slices,
    start: FloatArray,
    sampler: Sampler,
    axes: tuple[int, ...],
) -> NDArray[Any]:
    """Return the values of a block from the box of the source that it needs, one slice after another."""
    last = tuple(range(-3, 0))
    moved = np.moveaxis(region, axes, last)
    prepared = [sampler.prepare(volume) for volume in moved.reshape(-1, *moved.shape[-3:])]
    out = np.full((len(prepared), *slices.shape), sampler.fill, sampler.dtype)
    for index in range(len(slices.origin)):
        coords, inside = slabs.locate(slices, index)
        if not inside.any():
            continue
        places = coords[:, inside] - start[:, None]
        for values, volume in zip(out, prepared, strict=True):
            values[index][inside] = sampler.at(volume, places)
    return np.moveaxis(out.reshape(*moved.shape[:-3], *slices.shape), last, axes)
