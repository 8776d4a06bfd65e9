"""Morphology of scipy.ndimage on series: masks grown and shrunk, parts numbered, distances measured, all in mm.

Inside is what is neither 0 nor NaN.
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
from ..wrappers.blocks import VOLUME, Dims, Volumes, on_volumes, volumes

if TYPE_CHECKING:
    from ..database import Series

Axes = Sequence[str] | str
Mask = NDArray[np.bool_]

_MOST_LABELS = 65535  # that 16 bits hold


def binary_erosion(series: Series, radius: float, *, axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Shrink a mask; see `scipy.ndimage.binary_erosion`.

    Parameters
    ----------
    series
        The mask. What lies beyond its border counts as outside.
    radius
        In mm. The structuring element is a ball: all voxels whose centres are at most so far away.
    axes
        Along what: some of "slice", "row" and "column"; two of them make the ball a disc.
    dims, **values
        See above.

    Raises
    ------
    ValueError
        If no neighbour of a voxel is as near as `radius`.
    """
    return _reshaped(series, ndimage.binary_erosion, radius, 1, axes, dims, values)


def binary_dilation(series: Series, radius: float, *, axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Grow a mask by a radius in mm; see `binary_erosion` and `scipy.ndimage.binary_dilation`."""
    return _reshaped(series, ndimage.binary_dilation, radius, 1, axes, dims, values)


def binary_opening(series: Series, radius: float, *, axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Remove what is thinner than a ball, in mm; see `binary_erosion` and `scipy.ndimage.binary_opening`."""
    return _reshaped(series, ndimage.binary_opening, radius, 2, axes, dims, values)


def binary_closing(series: Series, radius: float, *, axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Fill what is narrower than a ball, in mm; see `binary_erosion` and `scipy.ndimage.binary_closing`."""
    return _reshaped(series, ndimage.binary_closing, radius, 2, axes, dims, values)


def binary_fill_holes(series: Series, *, axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Fill the holes of a mask, which nothing connects with its border; see `scipy.ndimage.binary_fill_holes`.

    Parameters
    ----------
    series
        The mask. Each volume is worked on whole, in memory.
    axes
        With ("row", "column") holes are filled slice by slice.
    dims, **values
        See above.
    """
    found = volumes(series, axes, dims)
    array = on_volumes(found, partial(_on_mask, ndimage.binary_fill_holes), np.dtype(bool), reach=None)
    return derived_series(series, array, "binary_fill_holes", detail=found.told(), **values)


def label(series: Series, *, connectivity: int = 1, axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Give the connected parts of a mask numbers; see `scipy.ndimage.label`.

    Parameters
    ----------
    series
        The mask. Each volume is worked on whole, in memory.
    connectivity
        1 where voxels are connected by faces, 2 also by edges, 3 also by corners.
    axes
        With ("row", "column") parts are numbered anew in each slice.
    dims, **values
        See above.

    Returns
    -------
    Series
        Integers: 0 outside, 1, 2, 3... in the parts. How many there are is its maximum.

    Raises
    ------
    EditError
        If there are more parts than 16 bits hold.
    """
    found = volumes(series, axes, dims)
    if not 1 <= connectivity <= len(found.names):
        raise ValueError(f"connectivity={connectivity}: expected 1 to {len(found.names)} {found.told()}")
    structure = ndimage.generate_binary_structure(len(found.names), connectivity)
    array = on_volumes(found, partial(_numbered, structure), np.dtype(np.int32), reach=None)
    return derived_series(series, array, "label", detail=f"connectivity {connectivity} {found.told()}", **values)


def distance_transform_edt(series: Series, *, axes: Axes = VOLUME, dims: Dims = None, **values: Any) -> Series:
    """Measure how far inside a mask each voxel lies; see `scipy.ndimage.distance_transform_edt`.

    Parameters
    ----------
    series
        The mask. Each volume is worked on whole, in memory.
    axes
        With ("row", "column") distances are measured within slices.
    dims, **values
        See above.

    Returns
    -------
    Series
        The distance in mm to the centre of the nearest voxel outside; 0 outside.

    Raises
    ------
    EditError
        If a volume has no voxel outside.
    """
    found = volumes(series, axes, dims)
    array = on_volumes(found, partial(_distances, found.spacing), np.dtype(np.float32), reach=None)
    return derived_series(series, array, "distance_transform_edt", detail=f"mm {found.told()}", **values)


def ball(found: Volumes, radius: float) -> Mask:
    """Return a structuring element: the voxels whose centres are at most a radius in mm away.

    Raises
    ------
    ValueError
        If that is one voxel only, which changes nothing.
    """
    reach = np.floor(found.voxels(float(radius), "radius") + 1e-6).astype(int)
    if not reach.any():
        nearest = found.spacing.min()
        raise ValueError(
            f"radius={radius!r} mm reaches no neighbour: the nearest is {nearest:g} mm away {found.told()}"
        )
    index = np.stack(np.meshgrid(*(np.arange(-size, size + 1) for size in reach), indexing="ij"), axis=-1)
    inside: Mask = np.linalg.norm(index * found.spacing, axis=-1) <= radius * (1 + 1e-6)
    return inside


def _reshaped(
    series: Series,
    func: Callable[..., Mask],
    radius: float,
    steps: int,
    axes: Axes,
    dims: Dims,
    values: dict[str, Any],
) -> Series:
    """Return the mask that an operation with a ball makes, `steps` times as far as the ball reaches."""
    found = volumes(series, axes, dims)
    structure = ball(found, radius)
    reach = steps * (structure.shape[0] // 2) if "slice" in found.names else 0
    array = on_volumes(found, partial(_on_mask, partial(func, structure=structure)), np.dtype(bool), reach=reach)
    return derived_series(series, array, func.__name__, detail=f"radius {radius:g} mm {found.told()}", **values)


def _on_mask(func: Callable[[Mask], Mask], volume: NDArray[Any]) -> Mask:
    return func(_inside(volume))


def _inside(volume: NDArray[Any]) -> Mask:
    inside: Mask = (volume != 0) & (volume == volume)
    return inside


def _numbered(structure: Mask, volume: NDArray[Any]) -> NDArray[np.int32]:
    labels, count = ndimage.label(_inside(volume), structure)
    if count > _MOST_LABELS:
        raise EditError(f"the mask has {count} parts, and DICOM holds {_MOST_LABELS}: remove the small ones first")
    found: NDArray[np.int32] = labels
    return found


def _distances(spacing: NDArray[np.float64], volume: NDArray[Any]) -> NDArray[np.float64]:
    inside = _inside(volume)
    if inside.all():
        raise EditError("the whole volume is inside the mask, and there is nothing to measure distances from")
    found: NDArray[np.float64] = ndimage.distance_transform_edt(inside, sampling=spacing)
    return found
