"""Functions of numpy volumes on the lazy array of a series, volume by volume, with the spacing of its voxels.

Which functions, is known in `filters` and `masks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..apply import require_series
from ..errors import GeometryError
from ..selection import filled, rechunked
from ..slabs import slices_of, spacing_along

if TYPE_CHECKING:
    from ..database import Series

VOLUME = ("slice", "row", "column")
LEAST_VOXELS, MOST_VOXELS = 2**18, 2**22
"""How many voxels a block has, unless a function needs whole volumes or a slice has more."""

_GOOD_COUNT = 16  # of blocks

Dims = Sequence[Any] | str | None
Lengths = float | Sequence[float]


class Volumes(NamedTuple):
    """The array of a series, and along what it is worked on.

    Attributes
    ----------
    array
        Lazy.
    asked
        What was asked to work along, in the order of `VOLUME`.
    names
        What is worked along: the same, but for "slice" where there is only one.
    axes
        The axes of the array that these are.
    spacing
        Distances of voxels along them, in mm.
    """

    array: xr.DataArray
    asked: tuple[str, ...]
    names: tuple[str, ...]
    axes: tuple[int, ...]
    spacing: NDArray[np.float64]

    def told(self) -> str:
        """Return what is worked along, as text."""
        return f"along {', '.join(self.names)}"

    def voxels(self, lengths: Lengths, name: str) -> NDArray[np.float64]:
        """Return lengths in mm, one for all or one for each axis asked for, as numbers of voxels along each axis.

        Raises
        ------
        ValueError
            If there are more or fewer than axes, or one is negative or no number.
        """
        given = per_axis(lengths, self.asked, name)
        if (given < 0).any():
            raise ValueError(f"{name}={lengths!r}: expected mm, 0 or more")
        return given[[self.asked.index(each) for each in self.names]] / self.spacing


def per_axis(numbers: Lengths, axes: Sequence[str], name: str) -> NDArray[np.float64]:
    """Return one number for each axis.

    Raises
    ------
    ValueError
        If there are neither one nor as many as axes, or one is infinite or NaN.
    """
    given = np.asarray(numbers, np.float64)
    if given.shape not in ((), (len(axes),)) or not np.isfinite(given).all():
        raise ValueError(f"{name}={numbers!r}: expected one number, or one for each of {tuple(axes)}")
    return np.broadcast_to(given, len(axes)).copy()


def in_order(axes: Sequence[str] | str) -> tuple[str, ...]:
    """Return names of axes in the order slice, row, column.

    Raises
    ------
    ValueError
        If one is something else, is there twice, or there is none.
    """
    asked = (axes,) if isinstance(axes, str) else tuple(axes)
    if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(VOLUME):
        raise ValueError(f"axes={axes!r}: expected some of {VOLUME}, each once")
    return tuple(name for name in VOLUME if name in asked)


def volumes(series: Series, axes: Sequence[str] | str, dims: Dims) -> Volumes:
    """Return the lazy array of a series with what is worked along.

    Parameters
    ----------
    series
        Any with geometry.
    axes
        Of "slice", "row" and "column".
    dims
        How its frames are arranged, as in `Series.to_xarray`.

    Raises
    ------
    GeometryError
        If it has no spacing, or slices are needed and have no equal steps at right angles.
    ValueError
        If `axes` names something else.
    """
    require_series("this function", series)
    asked = in_order(axes)
    array = series.to_xarray(dims)
    slices = slices_of(array)
    single = slices.dim is None or array.sizes[slices.dim] == 1
    names = tuple(name for name in asked if not (single and name == "slice"))
    if not names:
        raise GeometryError("the series has a single slice, and there is nothing along 'slice' to work on")
    try:
        spacing = spacing_along(slices if "slice" in names else slices.part((slice(1), slice(None), slice(None))))
    except GeometryError as error:
        raise GeometryError(f"{error}. Or stay within slices: axes=('row', 'column')") from error
    places = [array.dims.index(slices.dim if name == "slice" else name) for name in names]
    return Volumes(array, asked, names, tuple(places), spacing[[VOLUME.index(name) for name in names]])


def on_volumes(
    found: Volumes, func: Callable[[NDArray[Any]], NDArray[Any]], dtype: np.dtype[Any], *, reach: int | None
) -> xr.DataArray:
    """Return what a function makes of each volume, lazily.

    Parameters
    ----------
    found
        As `volumes` returns it.
    func
        Takes and returns an array with the axes of `found.names`.
    dtype
        Of the result; integers are rounded to.
    reach
        On how many slices to each side a value depends; None if on all.
    """
    array = found.array
    data = rechunked(array.data, _chunks(found, whole=reach is None))
    options = {
        "each": func,
        "axes": found.axes,
        "out": dtype,
        "dtype": dtype,
        "meta": np.empty((0,) * array.ndim, dtype),
    }
    axis = found.axes[0]
    if reach and "slice" in found.names and len(data.chunks[axis]) > 1:
        depth = {axis: min(reach, array.shape[axis])}
        values: da.Array = da.map_overlap(_each, data, depth=depth, boundary="none", **options)  # type: ignore[no-untyped-call]
    else:
        values = da.map_blocks(_each, data, **options)  # type: ignore[no-untyped-call]
    return array.copy(data=values)


def _chunks(found: Volumes, *, whole: bool) -> tuple[tuple[int, ...], ...]:
    """Return chunks of whole rows and columns, and of whole volumes where a function needs them."""
    array = found.array
    kept = {
        axis for axis in range(array.ndim) if array.dims[axis] in ("row", "column") or (whole and axis in found.axes)
    }
    cut = [axis for axis in range(array.ndim) if axis not in kept]
    room = min(max(array.size // _GOOD_COUNT, LEAST_VOXELS), MOST_VOXELS) // math.prod(
        array.shape[axis] for axis in kept
    )
    chunks = dict(zip(cut, filled([array.shape[axis] for axis in cut], room), strict=True))
    return tuple(chunks.get(axis, (size,)) for axis, size in enumerate(array.shape))


def _each(
    block: NDArray[Any], *, each: Callable[[NDArray[Any]], NDArray[Any]], axes: tuple[int, ...], out: np.dtype[Any]
) -> NDArray[Any]:
    """Call a function on each volume of a block."""
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(block, axes, last)
    values = np.empty(moved.shape, out)
    for index in np.ndindex(moved.shape[: moved.ndim - len(axes)]):
        values[index] = _as_dtype(each(moved[index]), out)
    return np.moveaxis(values, last, axes)


def _as_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind in "iu" and values.dtype.kind == "f":
        bounds = np.iinfo(dtype)
        values = np.rint(values).clip(bounds.min, bounds.max)
    return values
