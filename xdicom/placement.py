"""Where an array lies in the patient: geometry as coordinates, and from these back to affine and world coordinates.

Coordinates are all that is used on the way back, so that the answer stays right after any selection, step or flip.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import geometry
from .dims import AXES, MM_DECIMALS, ORIENTATION, POSITION, SLICE_DIMS, vectors
from .errors import GeometryError
from .geometry import FloatArray

if TYPE_CHECKING:
    from .frames import Frames
    from .stack import Coords, Grid

PIXEL_SPACING, THICKNESS, SLICE_SPACING = 0x00280030, 0x00180050, 0x00180088
POSITION_NAME = "ImagePositionPatient"
IN_PLANE_UNIT, PIXEL = "in_plane_unit", "pixel"

_DIRECTION_TOLERANCE = 1e-5
_SPACING_TOLERANCE = 1e-6
_AWAY = (
    "a reduction such as mean() drops it, select with isel() or sel() instead; arithmetic drops what differs between "
    "two arrays, select what is subtracted with drop=True or copy it with assign_coords()"
)


def place(frames: "Frames", grid: "Grid", rows: int, columns: int) -> tuple["Coords", str]:
    """Return the coordinates that say where frames on a grid lie.

    Parameters
    ----------
    frames
        Table of frames.
    grid
        Their arrangement.
    rows, columns
        Size of a frame.

    Returns
    -------
    coords : dict
        Dims and values by name. ``row`` and ``column`` in mm from the first pixel; exact
        ``ImagePositionPatient_x/y/z``; ``row_direction_x/y/z`` and ``column_direction_x/y/z``; ``row_spacing`` and
        ``column_spacing``; and, where it can be known, ``slice_step_x/y/z``. Where frames have no geometry, or a broken
        one, only ``row`` and ``column``, as pixel indices; where spacings vary these are indices, too, and
        ``in_plane_unit`` says so, since an average of indices looks like mm.
    problem : str
        What is wrong with the geometry, "" where nothing is, or where there is none at all.
    """
    used = np.unique(grid.frames[grid.frames >= 0])
    positions, directions, spacings = (
        vectors(frames, tag, width) for tag, width in ((POSITION, 3), (ORIENTATION, 6), (PIXEL_SPACING, 2))
    )
    coords: Coords = {"row": (("row",), np.arange(rows)), "column": (("column",), np.arange(columns))}
    problem = _problem(positions[used], directions[used], spacings[used])
    if problem:
        nothing = np.isnan(positions[used]).all() or np.isnan(directions[used]).all()
        return coords, "" if nothing else problem
    directions_on = _reduced(grid, directions, _DIRECTION_TOLERANCE)
    spacings_on = _reduced(grid, spacings, _SPACING_TOLERANCE)
    positions_on = _reduced(grid, positions, geometry.POSITION_TOLERANCE, kept=_slice_dims(grid))
    steps = _steps(frames, grid, positions_on, directions_on[1], used)
    coords |= _named((POSITION_NAME,), positions_on)
    coords |= _named(("row_direction", "column_direction"), directions_on)
    if steps is not None:
        coords |= _named(("slice_step",), steps)
    if spacings_on[0]:
        coords[IN_PLANE_UNIT] = (), np.array(PIXEL)
    for i, (name, size) in enumerate((("row", rows), ("column", columns))):
        coords[f"{name}_spacing"] = spacings_on[0], spacings_on[1][..., i]
        if not spacings_on[0]:
            coords[name] = (name,), _along(size, float(spacings_on[1][i]))
    return coords, ""


def regular_coords(affine: FloatArray, shape: tuple[int, int, int]) -> "Coords":
    """Return the coordinates of a regular grid.

    Parameters
    ----------
    affine
        4 x 4, from (column, row, slice) index to LPS mm.
    shape
        Numbers of slices, rows and columns.

    Returns
    -------
    dict
        As those of `place`, with the dims ``slice``, ``row`` and ``column``.

    Raises
    ------
    GeometryError
        If columns and rows are not at a right angle.
    """
    steps, lengths = affine[:3, :3].T, np.linalg.norm(affine[:3, :3], axis=0)
    directions = geometry.check_orientation((steps[:2] / lengths[:2, None]).reshape(-1))
    positions = affine[:3, 3] + np.arange(shape[0])[:, None] * steps[2]
    located = positions @ geometry.normal(directions)
    coords: Coords = {"slice": (("slice",), np.round(located, MM_DECIMALS))}
    for name, size, spacing in (("row", shape[1], lengths[1]), ("column", shape[2], lengths[0])):
        coords[name] = (name,), _along(size, float(spacing))
        coords[f"{name}_spacing"] = (), np.array(spacing)
    coords |= _named((POSITION_NAME,), (("slice",), positions))
    coords |= _named(("row_direction", "column_direction"), ((), directions))
    return coords | _named(("slice_step",), ((), steps[2]))


def affine_of(da: xr.DataArray) -> FloatArray:
    """Return the matrix from the indices of an array to the patient.

    Parameters
    ----------
    da
        An array with the coordinates of `place`, after any selection, step, flip or transposition.

    Returns
    -------
    ndarray
        Shape (4, 4): from ``(column index, row index, slice index, 1)`` to ``(x, y, z, 1)`` in LPS mm, in this order
        whatever the order of the dims.

    Raises
    ------
    GeometryError
        If there is no geometry, it isn't the same for all slices, slices, rows or columns have unequal steps, or there
        are none.
    """
    if not da.size:
        empty = ", ".join(str(dim) for dim, size in da.sizes.items() if not size)
        raise GeometryError(f"the array has no {empty}: nothing of it lies anywhere; was the selection outside?")
    orientation = np.concatenate([_constant(da, f"{name}_direction", AXES) for name in ("row", "column")])
    spacing = _constant(da, "", ("row_spacing", "column_spacing"))
    positions, step = _slices(da)
    first_row, between_rows = _regular(da, "row", spacing[0])
    first_column, between_columns = _regular(da, "column", spacing[1])
    origin = positions[0] + first_row * orientation[3:] + first_column * orientation[:3]
    return geometry.affine(origin, orientation, (between_rows, between_columns), step)


def world_coordinates(da: xr.DataArray) -> xr.Dataset:
    """Return where the centre of each voxel is.

    Parameters
    ----------
    da
        An array with the coordinates of `place`; its slices may have any positions.

    Returns
    -------
    Dataset
        ``x``, ``y`` and ``z`` in LPS mm, along the dims of slices, rows and columns, in the order of `da`; lazy where
        `da` is.

    Raises
    ------
    GeometryError
        If there is no geometry.
    """
    spacing = {name: _coord(da, f"{name}_spacing") for name in ("row", "column")}
    along = {name: _offset(da, name, spacing[name]) for name in spacing}
    found = {}
    for axis in AXES:
        position = _coord(da, f"{POSITION_NAME}_{axis}")
        if da.chunks is not None:
            position = position.chunk({dim: da.chunksizes[dim] for dim in position.dims})
        centres = (
            position
            # The row direction is the one in which columns follow each other.
            + along["column"] * _coord(da, f"row_direction_{axis}")
            + along["row"] * _coord(da, f"column_direction_{axis}")
        )
        found[axis] = centres.transpose(*(dim for dim in da.dims if dim in centres.dims))
        found[axis].attrs = {"units": "mm"}
    dims = {dim for variable in found.values() for dim in variable.dims}
    return xr.Dataset(found, {dim: da[dim] for dim in dims if dim in da.coords})


# -- from frames to coordinates


def _problem(positions: FloatArray, orientations: FloatArray, spacings: FloatArray) -> str:
    """Say why frames have no geometry, "" if they have one."""
    named = {"ImagePositionPatient": positions, "ImageOrientationPatient": orientations, "PixelSpacing": spacings}
    for name, values in named.items():
        lacking = int((~np.isfinite(values)).any(axis=1).sum())
        if lacking:
            return f"{lacking} of {len(values)} frames have no complete {name}"
    if (spacings <= 0).any():
        return f"PixelSpacing holds {spacings.min():g}, expected more than 0"
    problems = map(geometry.orientation_problem, np.unique(orientations, axis=0))
    return next(filter(None, problems), "")


def _slice_dims(grid: "Grid") -> list[int]:
    return [i for i, name in enumerate(grid.dims) if name in SLICE_DIMS or name.startswith(POSITION_NAME)]


def _reduced(
    grid: "Grid", values: FloatArray, tolerance: float, kept: Sequence[int] = ()
) -> tuple[tuple[str, ...], FloatArray]:
    """Lay numbers of shape (n, k) out on the grid, along the fewest dims within a tolerance.

    Axes in `kept` stay. Returns the names of the dims, and the values of shape (*dims, k).
    """
    laid = np.vstack([values, np.full((1, values.shape[1]), np.nan)])[grid.frames]
    dims = list(grid.dims)
    for axis in reversed(range(len(grid.dims))):
        lowest, highest = np.fmin.reduce(laid, axis=axis), np.fmax.reduce(laid, axis=axis)
        # NaN, where no frame is, differs from nothing.
        if axis not in kept and not (highest - lowest > tolerance).any():
            first = laid.take(0, axis=axis)
            laid = np.where(np.isnan(first), lowest, first)
            del dims[axis]
    return tuple(dims), laid


def _steps(
    frames: "Frames",
    grid: "Grid",
    positions: tuple[tuple[str, ...], FloatArray],
    directions: FloatArray,
    used: NDArray[Any],
) -> tuple[tuple[str, ...], FloatArray] | None:
    """Return the dims and values of the step from each slice to the next, None where it can't be known."""
    dims, points = positions
    slices = [grid.dims[i] for i in _slice_dims(grid)] or list(dims)
    if len(slices) > 1:
        return None
    if not slices or len(points[(0,) * dims.index(slices[0])]) == 1:
        return _step_of_one(frames, directions, used)
    axis = dims.index(slices[0])
    if len(dims) == 1:
        try:
            return (), geometry.slice_step(points)
        except GeometryError:
            pass  # slices that are not evenly spaced: each then has its own step
    steps = np.diff(points, axis=axis)
    steps = np.concatenate([steps, steps.take([-1], axis=axis)], axis=axis)
    if np.ptp(steps.reshape(-1, 3), axis=0).max() <= geometry.POSITION_TOLERANCE:
        return (), steps.reshape(-1, 3)[0]
    return dims, steps


def _step_of_one(
    frames: "Frames", directions: FloatArray, used: NDArray[Any]
) -> tuple[tuple[str, ...], FloatArray] | None:
    """Return the step of a single slice: along its normal, by the spacing between slices, else the thickness."""
    if directions.ndim > 1:
        return None
    for tag in (SLICE_SPACING, THICKNESS):
        values = vectors(frames, tag, 1)[used, 0]
        if np.ptp(values) == 0 and np.isfinite(values[0]) and values[0]:
            return (), geometry.normal(directions) * abs(values[0])
    return None


def _named(stems: Sequence[str], laid: tuple[tuple[str, ...], FloatArray]) -> "Coords":
    """Name the components of vectors, "slice_step_x" and so on."""
    dims, values = laid
    names = [f"{stem}_{axis}" for stem in stems for axis in AXES]
    return {name: (dims, np.array(values[..., i])) for i, name in enumerate(names)}


def _along(size: int, spacing: float) -> FloatArray:
    """Return the places of pixels along a row or column in mm, rounded so that equal geometries align."""
    return np.round(np.arange(size) * spacing, _decimals(spacing))


def _decimals(spacing: float) -> int:
    """Return how many decimals of mm are kept: 3, and more where pixels are a few micrometres or less apart."""
    return max(MM_DECIMALS, 1 - int(np.floor(np.log10(spacing))))


# -- from coordinates back


def _coord(da: xr.DataArray, name: str) -> xr.Variable:
    """Return a coordinate as a variable of floats."""
    if name in da.coords:
        found: xr.Variable = da.coords[name].variable.astype(float)
        return found
    if "row_direction_x" not in da.coords:
        raise GeometryError(
            f"the array has no coordinate {name!r}: its frames have no complete position, orientation and spacing "
            "(as X-ray angiography, ultrasound and secondary captures), or the coordinates were dropped"
        )
    raise GeometryError(f"the array has no coordinate {name!r} (any more): {_AWAY}")


def _constant(da: xr.DataArray, stem: str, parts: Sequence[str]) -> FloatArray:
    """Return coordinates that must be the same everywhere, one number each."""
    numbers = []
    for part in parts:
        name = f"{stem}_{part}" if stem else part
        values = _coord(da, name).values.reshape(-1)
        if np.ptp(values) > _DIRECTION_TOLERANCE:
            raise GeometryError(
                f"{name} varies from {values.min():.6g} to {values.max():.6g}; one affine needs it constant. "
                "Take a part with isel() or sel(), or use the world coordinates"
            )
        numbers.append(values[0])
    return np.array(numbers)


def slice_dim(da: xr.DataArray) -> str | None:
    """Return the dim along which the slices of an array follow each other, None where it has one slice and no such dim.

    Raises
    ------
    GeometryError
        If there is no geometry, or positions vary along several dims.
    """
    found = _coord(da, f"{POSITION_NAME}_x").sizes
    dims = [dim for dim, size in found.items() if size > 1] or list(found)[:1]
    if len(dims) > 1:
        raise GeometryError(
            f"positions vary along several dims, {tuple(map(str, dims))}; one affine needs one. "
            "Take a part with isel() or sel(), or use the world coordinates"
        )
    return str(dims[0]) if dims else None


def _slices(da: xr.DataArray) -> tuple[FloatArray, FloatArray]:
    """Return the positions of the slices, shape (n, 3), and the step between them."""
    slice_dim(da)
    positions = _vectors(da, POSITION_NAME).reshape(-1, 3)
    if len(positions) > 1:
        try:
            return positions, geometry.slice_step(positions)
        except GeometryError as error:
            raise GeometryError(f"{error}. On a regular grid it is da.dicom.to_regular()") from error
    if "slice_step_x" not in da.coords:
        raise GeometryError(
            "the array has one slice, without SpacingBetweenSlices or SliceThickness, or its slices have no common "
            "direction: the step to a next slice can't be known. Use the world coordinates"
        )
    return positions, _vectors(da, "slice_step").reshape(-1, 3)[0]


def _vectors(da: xr.DataArray, stem: str) -> FloatArray:
    """Return the three coordinates of a vector, along the dims that any of them has: shape (*dims, 3)."""
    parts = [_coord(da, f"{stem}_{axis}") for axis in AXES]
    sizes = {dim: size for part in parts for dim, size in part.sizes.items()}
    spread = [part.set_dims(sizes).transpose(*sizes) for part in parts]  # type: ignore[no-untyped-call]
    return np.stack([part.values for part in spread], axis=-1)


def is_counted(da: xr.DataArray, name: str) -> bool:
    """Say whether `row` or `column` are pixel indices, not mm."""
    return da.coords[name].dtype.kind in "iu" or IN_PLANE_UNIT in da.coords


def _offset(da: xr.DataArray, name: str, spacing: xr.Variable) -> xr.Variable:
    """Return `row` or `column` in exact mm: the coordinate is rounded, the spacing isn't."""
    if name not in da.coords:
        raise GeometryError(f"the array has no coordinate {name!r} (any more): {_AWAY}")
    coord = da.coords[name].variable
    if is_counted(da, name):
        return xr.Variable(coord.dims, coord.values.astype(float)) * spacing
    if spacing.ndim:
        raise GeometryError(f"{name!r} is in mm, but {name}_spacing varies along {spacing.dims}")
    one = float(spacing)
    # Averages of two or four pixels lie between pixels.
    index = np.round(coord.values.astype(float) / one * 2) / 2
    exact = np.abs(index * one - coord.values) <= 0.51 * 10.0 ** -_decimals(one)
    return xr.Variable(coord.dims, np.where(exact, index * one, coord.values))


def _regular(da: xr.DataArray, name: str, spacing: float) -> tuple[float, float]:
    """Return the first place along rows or columns and the step, which must be the same all along."""
    dims = () if name not in da.coords else da.coords[name].dims
    if dims not in ((), (name,)):
        raise GeometryError(
            f"{name} is along {tuple(map(str, dims))}; one affine needs a dim {name!r}, or one {name} that was selected"
        )
    values = np.atleast_1d(_offset(da, name, xr.Variable((), spacing)).values)
    if len(values) == 1:
        return float(values[0]), float(spacing)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if np.abs(values - values[0] - np.arange(len(values)) * step).max() > geometry.STEP_TOLERANCE * abs(step):
        raise GeometryError(
            f"{name} has unequal steps; one affine needs equal ones. Take every n-th, or use the world coordinates"
        )
    return float(values[0]), float(step)
