"""Functions of scipy.ndimage on series: each takes a series and returns a new one in the same study.

What scipy calls input is the series. Lengths are in mm in the patient, not in pixels. A new series is derived from its
source: it has the source's tags, refers to its images, and is staged until it is saved. Progress is shown on a
terminal. The arrays are computed block by block, on the active dask scheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..apply import derived_series
from ..dims import locate, orientations
from ..errors import GeometryError
from ..resample import check_order, resample, resample_mask

if TYPE_CHECKING:
    import xarray as xr

    from ..database import Series

Dims = Sequence[Any] | str | None


def map_to(
    series: Series,
    target: Series,
    *,
    order: int = 1,
    fill: float = np.nan,
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
    fill
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
    options = {"fill": 0, "dtype": source.dtype} if "sample" in source.dims else {"fill": fill}
    array = resample(source, grid, order=order, **options)
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


def _pair(series: Series, target: Series, dims: Dims, force: bool) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the array of a series, and one with the geometry of its target."""
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
    frames = series.frames()
    located = locate(frames)
    if np.isnan(located).any():
        raise GeometryError(
            f"{int(np.isnan(located).sum())} of {len(located)} frames of the target have no ImagePositionPatient and "
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
