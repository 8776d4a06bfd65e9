"""A stack with gaps, unequal steps or a tilt on a regular grid: what affine, NIfTI and SimpleITK want.

How values are found between voxels is known in `resample`.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from . import geometry
from .errors import GeometryError
from .geometry import FloatArray
from .placement import regular_coords
from .resample import resample
from .slabs import Slices, slices_of, thickness_of

_MULTIPLE_TOLERANCE = 0.05  # of a distance


class _Grid(NamedTuple):
    """An upright grid: 4 x 4 from (column, row, slice) index to LPS mm, and numbers of slices, rows and columns."""

    affine: FloatArray
    shape: tuple[int, int, int]


def to_regular(da: xr.DataArray, *, step: float | None = None, order: int = 1) -> xr.DataArray:
    """Return an array on a regular grid; see `xdicom.accessor.DicomAccessor.to_regular`."""
    if step is not None and not (np.isfinite(step) and step > 0):
        raise ValueError(f"step={step!r}; expected mm, more than 0")
    slices = slices_of(da)
    if slices.dim is None or len(slices.origin) < 2:
        raise GeometryError("the array has one slice, and a stack of at least 2 was expected: it is regular as it is")
    grid = _grid(slices, step)
    nothing = np.broadcast_to(np.zeros((), bool), grid.shape)
    target = xr.DataArray(nothing, regular_coords(grid.affine, grid.shape), ("slice", "row", "column"))
    thickness = thickness_of(da, slices.dim)
    is_one = np.isfinite(thickness).all() and np.ptp(thickness) == 0
    distance = float(np.linalg.norm(grid.affine[:3, 2]))
    target.attrs["SliceThickness"] = float(thickness.reshape(-1)[0]) if is_one else distance
    fill = 0 if order == 0 and da.dtype.kind in "biu" else np.nan
    return resample(_joined(da, slices), target, order=order, fill=fill, dtype=da.dtype if order == 0 else None)


def _joined(da: xr.DataArray, slices: Slices) -> xr.DataArray:
    """Return the array with slices so thick that nothing is between them."""
    gaps = np.linalg.norm(np.diff(_sorted(slices), axis=0), axis=1)
    return da.assign_coords(SliceThickness=(slices.dim, np.full(len(slices.origin), 2 * gaps.max())))


def _normal(slices: Slices) -> FloatArray:
    """Return the unit normal that points from the first slice towards the last."""
    normal = np.cross(slices.column_step[0], slices.row_step[0])
    normal = normal / np.linalg.norm(normal)
    towards: FloatArray = -normal if (slices.origin[-1] - slices.origin[0]) @ normal < 0 else normal
    return towards


def _sorted(slices: Slices) -> FloatArray:
    return slices.origin[np.argsort(slices.origin @ _normal(slices), kind="stable")]


def _usual(gaps: FloatArray) -> float:
    """Return the distance of slices: the smallest where the others are multiples of it, as where slices are missing."""
    smallest = float(gaps.min())
    if smallest <= geometry.POSITION_TOLERANCE:
        return smallest
    multiples = gaps / smallest
    is_missing = (np.abs(multiples - np.round(multiples)) <= _MULTIPLE_TOLERANCE).all()
    return smallest if is_missing else float(np.median(gaps))


def _grid(slices: Slices, step: float | None) -> _Grid:
    """Choose the grid: the pixels of the first slice, and more of them where slices are shifted against it."""
    normal, positions = _normal(slices), _sorted(slices)
    depths = positions @ normal
    length = float(depths[-1] - depths[0])
    distance = _usual(np.diff(depths)) if step is None else step
    if min(distance, length) <= geometry.POSITION_TOLERANCE:
        raise GeometryError("slices lie at the same position: name the dims that tell them apart")
    if step is None:
        # Both ends stay slices.
        count = max(1, round(length / distance))
        distance = length / count
    else:
        count = int(length / distance + geometry.STEP_TOLERANCE)
    in_plane = np.stack([normal, slices.row_step[0], slices.column_step[0]], axis=1)
    shifts = np.linalg.solve(in_plane, (positions - positions[0]).T)[1:]
    least = np.floor(shifts.min(axis=1) + geometry.STEP_TOLERANCE)
    most = np.ceil(shifts.max(axis=1) - geometry.STEP_TOLERANCE)
    more = (most - least).astype(int)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = slices.column_step[0], slices.row_step[0], normal * distance
    affine[:3, 3] = positions[0] + least[0] * slices.row_step[0] + least[1] * slices.column_step[0]
    return _Grid(affine, (count + 1, slices.rows + int(more[0]), slices.columns + int(more[1])))
