"""Filters of scipy.ndimage on series, with lengths in mm.

Masks are in `masks`; what brings values to other places is in `mapping`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from ..apply import derived_series
from ..errors import EditError
from ..resample import value_dtype
from ..wrappers.blocks import VOLUME, Dims, Lengths, Volumes, on_volumes, volumes

if TYPE_CHECKING:
    from ..database import Series

# At the border, the image is mirrored, has the value of its last voxel, or is 0.
MODES = ("reflect", "mirror", "nearest", "constant")

Axes = Sequence[str] | str
Filter = Callable[[NDArray[Any]], NDArray[Any]]


def gaussian_filter(
    series: Series,
    sigma: Lengths,
    *,
    truncate: float = 4.0,
    mode: str = "reflect",
    axes: Axes = VOLUME,
    dims: Dims = None,
    **values: Any,
) -> Series:
    """Smooth a series with a Gaussian; see `scipy.ndimage.gaussian_filter`.

    Parameters
    ----------
    series
        What is smoothed.
    sigma
        Standard deviation in mm; one number, or one for each of `axes`, slice before row before column. The full width
        at half maximum is 2.355 sigma.
    truncate
        Where the Gaussian is cut, in standard deviations.
    mode
        What lies beyond the border: "reflect", "mirror", "nearest" or "constant", which is 0.
    axes
        Along what: some of "slice", "row" and "column".
    dims, **values
        See above.

    Returns
    -------
    Series
        NaN where a NaN is in reach.
    """
    _check_mode(mode)
    found = volumes(series, axes, dims)
    width = found.voxels(sigma, "sigma")
    reach = (truncate * width + 0.5).astype(int)
    smooth = partial(ndimage.gaussian_filter, sigma=width, truncate=truncate, mode=mode)
    return _filtered(series, found, smooth, reach, "gaussian_filter", f"sigma {_told(sigma)} mm", values)


def uniform_filter(
    series: Series, size: Lengths, *, mode: str = "reflect", axes: Axes = VOLUME, dims: Dims = None, **values: Any
) -> Series:
    """Replace each value by the mean of a box around it; see `scipy.ndimage.uniform_filter`.

    Parameters
    ----------
    series
        What is smoothed.
    size
        Of the box, in mm; one number, or one for each of `axes`, slice before row before column. The nearest odd number
        of voxels is taken.
    mode, axes, dims, **values
        See `gaussian_filter`.
    """
    _check_mode(mode)
    found = volumes(series, axes, dims)
    box = _odd(found, size)
    mean = partial(ndimage.uniform_filter, size=box, mode=mode)
    return _filtered(series, found, mean, box // 2, "uniform_filter", f"size {_told(size)} mm", values)


def median_filter(
    series: Series, size: Lengths, *, mode: str = "reflect", axes: Axes = VOLUME, dims: Dims = None, **values: Any
) -> Series:
    """Replace each value by the median of a box around it; see `scipy.ndimage.median_filter`.

    Parameters
    ----------
    series
        What is filtered.
    size
        Of the box, in mm; one number, or one for each of `axes`, slice before row before column. The nearest odd number
        of voxels is taken.
    mode, axes, dims, **values
        See `gaussian_filter`.

    Returns
    -------
    Series
        Its values are among those of the source; NaN where a NaN is in reach.
    """
    _check_mode(mode)
    found = volumes(series, axes, dims)
    box = _odd(found, size)
    median = partial(ndimage.median_filter, size=tuple(box.tolist()), mode=mode)
    kept = found.array.dtype
    return _filtered(series, found, median, box // 2, "median_filter", f"size {_told(size)} mm", values, kept)


def sobel(
    series: Series,
    axis: str = "column",
    *,
    mode: str = "reflect",
    axes: Axes = VOLUME,
    dims: Dims = None,
    **values: Any,
) -> Series:
    """Return the derivative along one axis, smoothed along the others; see `scipy.ndimage.sobel`.

    Parameters
    ----------
    series
        Of which the derivative is taken.
    axis
        Along which, one of `axes`.
    mode, axes, dims, **values
        See `gaussian_filter`.

    Returns
    -------
    Series
        The change of the value per mm in the direction of increasing index: what scipy returns, divided by the weights
        of its kernel and by the distance of voxels. So derivatives along several axes are comparable.
    """
    _check_mode(mode)
    found = volumes(series, axes, dims)
    _refuse_colour(found)
    if axis not in found.names:
        raise ValueError(f"axis={axis!r}: expected one of {found.names}")
    at = found.names.index(axis)
    # The kernel is (-1, 0, 1) along the axis and (1, 2, 1) along each other.
    scale = 1 / (2 * found.spacing[at] * 4 ** (len(found.names) - 1))
    derivative = partial(_scaled, partial(ndimage.sobel, axis=at, mode=mode), scale)
    return _filtered(series, found, derivative, _one_each(found), "sobel", f"along {axis}, per mm", values)


def laplace(series: Series, *, mode: str = "reflect", axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Return the sum of the second derivatives; see `scipy.ndimage.laplace`.

    Parameters
    ----------
    series
        Of which the derivatives are taken.
    mode, axes, dims, **values
        See `gaussian_filter`.

    Returns
    -------
    Series
        The value's second derivatives in 1/mm2, added: each is the second difference divided by the square of the
        distance of voxels. Of cubes it is what scipy returns divided by that square.
    """
    _check_mode(mode)
    found = volumes(series, axes, dims)
    _refuse_colour(found)
    second = partial(ndimage.generic_laplace, derivative2=_second, mode=mode, extra_arguments=(found.spacing,))
    return _filtered(series, found, second, _one_each(found), "laplace", "per mm2", values)


def _second(
    volume: NDArray[Any], axis: int, output: NDArray[Any], mode: str, cval: float, spacing: NDArray[np.float64]
) -> NDArray[Any]:
    """Return the second derivative along an axis; the signature is scipy's."""
    weights = np.array([1.0, -2.0, 1.0]) / spacing[axis] ** 2
    found: NDArray[Any] = ndimage.correlate1d(volume, weights, axis, output, mode, cval, 0)
    return found


def _scaled(func: Filter, scale: float, volume: NDArray[Any]) -> NDArray[Any]:
    return func(volume) * scale


def _filtered(
    series: Series,
    found: Volumes,
    func: Filter,
    reach: NDArray[np.int_],
    name: str,
    detail: str,
    values: dict[str, Any],
    dtype: np.dtype[Any] | None = None,
) -> Series:
    """Return the new series that a filter makes, NaN where a NaN is in its reach."""
    work = value_dtype(found.array.dtype) if dtype is None else dtype
    kept = found.array.dtype if "sample" in found.array.dims else work
    along_slices = int(reach[0]) if "slice" in found.names else 0
    array = on_volumes(found, partial(_around_nan, func, reach, work), kept, reach=along_slices)
    return derived_series(series, array, name, detail=f"{detail} {found.told()}", **values)


def _around_nan(func: Filter, reach: NDArray[np.int_], dtype: np.dtype[Any], volume: NDArray[Any]) -> NDArray[Any]:
    """Filter a volume; what a NaN contributes to is NaN, however the filter sums."""
    values = volume.astype(dtype, copy=False)
    missing = np.isnan(values) if dtype.kind == "f" else np.zeros((), bool)
    if not missing.any():
        return func(values)
    found = func(np.where(missing, 0, values))
    found[ndimage.maximum_filter(missing, tuple((2 * reach + 1).tolist()))] = np.nan
    return found


def _odd(found: Volumes, size: Lengths) -> NDArray[np.int_]:
    """Return the odd number of voxels nearest to lengths in mm, of two the lower one."""
    return 2 * np.ceil(found.voxels(size, "size") / 2 - 1 - 1e-6).clip(0).astype(int) + 1


def _one_each(found: Volumes) -> NDArray[np.int_]:
    return np.ones(len(found.names), int)


def _told(lengths: Lengths) -> str:
    return " x ".join(f"{length:g}" for length in np.atleast_1d(np.asarray(lengths, float)))


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: expected one of {MODES}")


def _refuse_colour(found: Volumes) -> None:
    if "sample" in found.array.dims:
        raise EditError("the images are in colour, and DICOM holds no derivatives of colours: take one channel first")
