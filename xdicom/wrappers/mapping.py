"""Series brought to other places: onto the grid of another series, onto a finer or coarser one, turned and shifted.

How values between voxels are made is known in `resample`, where voxels lie in `slabs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..apply import derived_series, require_series
from ..dims import locate, orientations
from ..errors import GeometryError
from ..geometry import FloatArray, slice_step
from ..resample import Interpolated, Stack, check_order, resample_mask, resampled, value_dtype
from ..slabs import Slices, array_of, directions, slices_of, spacing_along, thickness_of
from ..wrappers.blocks import VOLUME, Dims, Lengths, in_order, per_axis

if TYPE_CHECKING:
    import xarray as xr

    from ..database import Series

Axes = Sequence[str] | str


def map_to(
    series: Series,
    target: Series,
    *,
    order: int = 1,
    cval: float = np.nan,
    dims: Dims = None,
    force: bool = False,
    **values: Any,
) -> Series:
    """Resample a series onto the slices, rows and columns of another.

    Parameters
    ----------
    series
        A stack of parallel slices of any orientation, tilted or not, a single slice, or several stacks along further
        dims such as time, each of which is resampled.
    target
        Gives the geometry: slices of any place and orientation.
    order
        Of the spline between voxels: 0 nearest, 1 linear, up to 5.
    cval
        Value outside the source; of images in colour always 0.
    dims
        How the frames of `series` are arranged, as `dims` in `Series.to_xarray`; by default inferred.
    force
        Also where nothing says that both lie in one space, and take their coordinates as if they did.
    **values
        Tags of the new series by keyword.

    Returns
    -------
    Series
        New, in the study of `series`, with the geometry of `target` and the other tags of `series`, those of the
        nearest slice where slices differ.

    Raises
    ------
    GeometryError
        If FrameOfReferenceUIDs differ or are missing, and `force` is not set; if either has no geometry; if slices of
        `series` are not parallel.

    Notes
    -----
    Slices with equal steps fill the space between them. With unequal steps, or if there is one slice, each is a slab
    of SliceThickness, and what lies in none is outside. A voxel reaches half a step around its centre, as with
    `SimpleITK.Resample`. The transform is computed in double precision from the tags as they are.
    """
    check_order(order)
    source, grid = _pair(series, target, dims, force)
    array = resampled(source, grid, _sampler(source, order, cval))
    return derived_series(series, array, "map_to", detail=f"order {order}", **(_space(target) | values))


def map_mask_to(
    series: Series, target: Series, *, labels: bool = False, dims: Dims = None, force: bool = False, **values: Any
) -> Series:
    """Resample a mask onto the slices, rows and columns of another series.

    Parameters
    ----------
    series
        A mask, or what can be taken as one: inside is what is neither 0 nor NaN. See `map_to`.
    target
        Gives the geometry.
    labels
        Keep the values, of the nearest voxel. By default the mask is interpolated linearly, and a voxel is 1 where at
        least half of it is inside.
    dims, force, **values
        As in `map_to`.

    Returns
    -------
    Series
        New, in the study of `series`, with the geometry of `target`; 0 outside.

    Raises
    ------
    GeometryError
        As in `map_to`.
    """
    source, grid = _pair(series, target, dims, force)
    array = resample_mask(source, grid, labels=labels)
    return derived_series(series, array, "map_mask_to", **(_space(target) | values))


def zoom(
    series: Series, zoom: Lengths, *, order: int = 1, axes: Axes = VOLUME, dims: Dims = None, **values: Any
) -> Series:
    """Give a series more or fewer voxels in the same field of view; see `scipy.ndimage.zoom`.

    Parameters
    ----------
    series
        A stack of parallel slices; with equal steps, if their number is to change.
    zoom
        How many times as many voxels; one number, or one for each of `axes`, slice before row before column. A single
        slice stays single.
    order
        Of the spline between voxels: 0 nearest, 1 linear, up to 5.
    axes
        Along what: some of "slice", "row" and "column".
    dims, **values
        See above.

    Returns
    -------
    Series
        Anatomy stays where it is in the patient: spacing, position and SliceThickness change, and the borders of the
        field of view stay. It is what scipy gives with ``grid_mode=True, mode="nearest"``.
    """
    require_series("this function", series)
    asked = in_order(axes)
    factors = dict.fromkeys(VOLUME, 1.0) | dict(zip(asked, per_axis(zoom, asked, "zoom").tolist(), strict=True))
    if min(factors.values()) <= 0:
        raise ValueError(f"zoom={zoom!r}: expected more than 0")
    source = series.to_xarray(dims)
    slices = slices_of(source)
    if len(slices.origin) == 1:
        factors["slice"] = 1.0
    counts = [max(1, round(size * factors[name])) for name, size in zip(VOLUME, slices.shape, strict=True)]
    ratios = np.array(slices.shape) / counts
    thickness = thickness_of(source, slices.dim) * ratios[0]
    target = array_of(_zoomed(slices, counts, ratios), thickness)
    array = resampled(source, target, _sampler(source, check_order(order), np.nan))
    detail = f"{' x '.join(f'{1 / ratio:g}' for ratio in ratios)} order {order}"
    return derived_series(series, array, "zoom", detail=detail, **values)


def _zoomed(slices: Slices, counts: Sequence[int], ratios: FloatArray) -> Slices:
    """Return slices of other numbers of slices, rows and columns within the same borders."""
    origin, row_step, column_step = slices.origin, slices.row_step, slices.column_step
    if counts[0] != len(origin):
        step = slice_step(origin)
        along = (np.arange(counts[0])[:, None] + 0.5) * ratios[0] - 0.5
        origin = origin[:1] + along * step
        row_step, column_step = (np.repeat(steps[:1], counts[0], axis=0) for steps in (row_step, column_step))
    origin = origin + (ratios[1] - 1) / 2 * row_step + (ratios[2] - 1) / 2 * column_step
    dim = slices.dim or "slice"
    return Slices(dim, origin, row_step * ratios[1], column_step * ratios[2], counts[1], counts[2])


def rotate(
    series: Series,
    angle: float,
    axes: Sequence[str] = ("row", "column"),
    *,
    order: int = 1,
    cval: float = np.nan,
    dims: Dims = None,
    **values: Any,
) -> Series:
    """Turn the content of a series about the middle of its grid; see `scipy.ndimage.rotate`.

    Parameters
    ----------
    series
        A stack of parallel slices.
    angle
        In degrees; in the plane of the image, as it is shown, counter-clockwise.
    axes
        Two of "slice", "row" and "column", which span the plane of the rotation. It is one in the patient, in mm, so
        that shapes stay what they are also where voxels are no cubes.
    order
        Of the spline between voxels: 0 nearest, 1 linear, up to 5.
    cval
        Value where there was nothing; of images in colour always 0.
    dims, **values
        See above.

    Returns
    -------
    Series
        With the same grid; what is turned out of it is lost, as with ``reshape=False``.
    """
    require_series("this function", series)
    asked = in_order(axes)
    if len(asked) != 2:
        raise ValueError(f"axes={axes!r}: expected two of {VOLUME}")
    stack = Stack.of(series.to_xarray(dims))
    if "slice" in asked:
        spacing_along(stack.slices)  # refuses what is not at right angles
    units = directions(stack.slices)
    first, second = (units[VOLUME.index(name)] for name in asked)
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = (
        np.eye(3)
        + (cos - 1) * (np.outer(first, first) + np.outer(second, second))
        + sin * (np.outer(first, second) - np.outer(second, first))
    )
    middle = stack.slices.centres()[[0, -1]].mean(axis=0)
    at = stack.slices.moved(matrix, middle - matrix @ middle)
    return _moved(series, stack, at, order, cval, "rotate", f"{angle:g} degrees along {', '.join(asked)}", values)


def shift(
    series: Series,
    shift: Lengths,
    *,
    order: int = 1,
    cval: float = np.nan,
    axes: Axes = VOLUME,
    dims: Dims = None,
    **values: Any,
) -> Series:
    """Move the content of a series within its grid; see `scipy.ndimage.shift`.

    Parameters
    ----------
    series
        A stack of parallel slices.
    shift
        In mm, in the direction of increasing index; one number, or one for each of `axes`, slice before row before
        column.
    order
        Of the spline between voxels: 0 nearest, 1 linear, up to 5.
    cval
        Value where there was nothing; of images in colour always 0.
    axes
        Along what: some of "slice", "row" and "column".
    dims, **values
        See above.

    Returns
    -------
    Series
        With the same grid; what is moved out of it is lost.
    """
    require_series("this function", series)
    asked = in_order(axes)
    lengths = per_axis(shift, asked, "shift")
    stack = Stack.of(series.to_xarray(dims))
    units = directions(stack.slices)
    by = sum((length * units[VOLUME.index(name)] for name, length in zip(asked, lengths, strict=True)), np.zeros(3))
    told = f"{' x '.join(f'{length:g}' for length in lengths)} mm along {', '.join(asked)}"
    return _moved(series, stack, stack.slices.moved(np.eye(3), -by), order, cval, "shift", told, values)


def _moved(
    series: Series, stack: Stack, at: Slices, order: int, cval: float, name: str, detail: str, values: dict[str, Any]
) -> Series:
    """Return a new series on the same grid whose values are those at other places."""
    data = stack.values(at, _sampler(stack.source, check_order(order), cval))
    return derived_series(series, stack.source.copy(data=data), name, detail=f"{detail} order {order}", **values)


def _sampler(source: xr.DataArray, order: int, cval: float) -> Interpolated:
    """Return how values are made; those of colours stay what they are, integers with black around them."""
    if "sample" in source.dims:
        return Interpolated(order, 0, source.dtype)
    return Interpolated(order, cval, value_dtype(source.dtype))


def _pair(series: Series, target: Series, dims: Dims, force: bool) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the array of a series, and one with the geometry of its target."""
    require_series("map_to", series, target)
    if not force:
        _require_one_space(series, target)
    return series.to_xarray(dims), grid_of(target)


def grid_of(series: Series) -> xr.DataArray:
    """Return an array with the geometry of a series, each place once.

    Raises
    ------
    GeometryError
        If a frame has no position and orientation.
    """
    frames = series.frames().images()
    located = locate(frames)
    if np.isnan(located).any():
        raise GeometryError(
            f"{int(np.isnan(located).sum())} of {len(located)} images of the target have no ImagePositionPatient and "
            "ImageOrientationPatient, so that they lie nowhere"
        )
    return series.to_xarray("slice" if len(orientations(frames)) == 1 else "frame", duplicates="first")


def _require_one_space(series: Series, target: Series) -> None:
    spaces = [list(record.FrameOfReferenceUID) for record in (series, target)]
    if series != target and (spaces[0] != spaces[1] or len(spaces[0]) != 1 or not spaces[0][0]):
        said = [", ".join(map(str, space)) or "none" for space in spaces]
        raise GeometryError(
            f"the FrameOfReferenceUID of the series is {said[0]} and that of the target {said[1]}: nothing says that "
            "both were scanned in one position of the patient. Register them, or, if you know better, type force=True"
        )


def _space(target: Series) -> dict[str, Any]:
    """Return the space of a target, which is that of what is mapped onto it, whatever the source says."""
    found = target.FrameOfReferenceUID
    return {"FrameOfReferenceUID": found[0]} if len(found) == 1 and found[0] else {}
