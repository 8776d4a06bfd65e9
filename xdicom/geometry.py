"""Orientation, position, spacing and the affine of frames, as numpy arrays in mm in the patient's LPS system.

It knows no tags and no files: what is absent comes in as NaN, and goes out as NaN.

Terms are those of PS3.3 C.7.6.2.1.1. An *orientation* is six direction cosines: the *row direction*, along which the
column index increases, and the *column direction*, along which the row index increases. A *position* is the centre of
the first pixel. A *spacing* is (row spacing, column spacing): the distance between rows, then that between columns.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import GeometryError

FloatArray = NDArray[np.float64]

POSITION_TOLERANCE = 1e-3
"""Positions closer than this, in mm, are the same."""

COSINE_TOLERANCE = 5e-3
"""How far direction cosines may be from unit length and a right angle: room for cosines of three decimals."""

STEP_TOLERANCE = 2e-2
"""How far a slice may be from its place in a regular stack, as a part of the step: positions may have two decimals."""


def orientation_problem(orientation: ArrayLike) -> str:
    """Say what is wrong with an orientation, "" where nothing is.

    Parameters
    ----------
    orientation
        Six direction cosines, shape (6,).

    Returns
    -------
    str
        Empty if both directions are unit vectors at a right angle to each other, within `COSINE_TOLERANCE`.
    """
    cosines = np.asarray(orientation, float)
    if cosines.shape != (6,):
        return f"an orientation has 6 direction cosines, not shape {cosines.shape}"
    if not np.isfinite(cosines).all():
        return "there is no orientation, or it holds no finite numbers"
    for name, part in (("row", cosines[:3]), ("column", cosines[3:])):
        length = float(np.linalg.norm(part))
        if abs(length - 1) > COSINE_TOLERANCE:
            return f"the {name} direction {tuple(part.tolist())} has length {length:.4g}, not 1"
    dot = float(cosines[:3] @ cosines[3:])
    if abs(dot) > COSINE_TOLERANCE:
        return f"row and column direction are not at a right angle: their dot product is {dot:.4g}, not 0"
    return ""


def check_orientation(orientation: ArrayLike) -> FloatArray:
    """Return an orientation as floats, shape (6,).

    Raises
    ------
    GeometryError
        If it is absent, or its directions are not two unit vectors at a right angle.
    """
    problem = orientation_problem(orientation)
    if problem:
        raise GeometryError(f"{problem}; ImageOrientationPatient must be two unit vectors at a right angle")
    return np.asarray(orientation, float)


def normal(orientation: ArrayLike) -> FloatArray:
    """Return the unit normals of planes: row direction x column direction.

    Parameters
    ----------
    orientation
        Shape (6,) or (n, 6).

    Returns
    -------
    ndarray
        Shape (3,) or (n, 3), LPS; NaN where the orientation is absent or not two unit vectors at a right angle.
    """
    cosines = np.asarray(orientation, float)
    rows, columns = cosines[..., :3], cosines[..., 3:]
    with np.errstate(invalid="ignore", divide="ignore"):
        crossed = np.cross(rows, columns)
        length = np.linalg.norm(crossed, axis=-1, keepdims=True)
        dot = np.abs((rows * columns).sum(axis=-1, keepdims=True))
        lengths = [np.linalg.norm(part, axis=-1, keepdims=True) for part in (rows, columns)]
        good = (dot <= COSINE_TOLERANCE) & np.all([np.abs(part - 1) <= COSINE_TOLERANCE for part in lengths], axis=0)
        result: FloatArray = np.where(good, crossed / length, np.nan)
    return result


def slice_location(position: ArrayLike, orientation: ArrayLike) -> FloatArray:
    """Return positions along the normals of their own planes: position . normal.

    Parameters
    ----------
    position
        Shape (3,) or (n, 3), LPS mm.
    orientation
        Shape (6,) or (n, 6).

    Returns
    -------
    ndarray
        Shape () or (n,), mm; NaN where position or orientation is absent or no orientation.
    """
    located: FloatArray = (np.asarray(position, float) * normal(orientation)).sum(axis=-1)
    return located


def distinct(values: ArrayLike, tolerance: float = POSITION_TOLERANCE) -> tuple[FloatArray, NDArray[np.intp]]:
    """Tell numbers apart that differ by more than a tolerance.

    Parameters
    ----------
    values
        Shape (n,), any order.
    tolerance
        Largest difference between equal values, in the unit of the values.

    Returns
    -------
    values : ndarray
        The distinct values, ascending: of each group of equal ones the lowest.
    codes : ndarray
        Shape (n,): for each value the index of its distinct value, -1 where it is NaN.

    Raises
    ------
    GeometryError
        If a value is infinite.

    Notes
    -----
    A group begins at its lowest value and reaches no further than `tolerance` above it. So a long run of values, each
    close to the next, is cut into groups of at most that width and never merged into one.
    """
    array = np.asarray(values, float).reshape(-1)
    if np.isinf(array).any():
        raise GeometryError("positions hold infinite numbers; they must be finite, in mm")
    ordered, inverse = np.unique(array, return_inverse=True, equal_nan=True)
    count = ordered.size - int(np.isnan(ordered[-1:]).sum())
    finite = ordered[:count]
    starts = _group_starts(finite, tolerance)
    groups = np.full(ordered.size, -1, np.intp)
    groups[:count] = np.cumsum(starts) - 1
    return finite[starts], groups[inverse.reshape(-1)]


def _group_starts(ordered: FloatArray, tolerance: float) -> NDArray[np.bool_]:
    """Mark where a group begins in ascending values."""
    # Room for rounding: decimal texts 1e-3 apart may differ by a little more as floats.
    tolerance *= 1 + 1e-6
    starts = np.ones(ordered.size, bool)
    starts[1:] = np.diff(ordered) > tolerance
    bounds = np.append(np.flatnonzero(starts), ordered.size)
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        while ordered[last - 1] - ordered[first] > tolerance:
            first += int(np.searchsorted(ordered[first:last], ordered[first] + tolerance, side="right"))
            starts[first] = True
    return starts


def slice_step(positions: ArrayLike) -> FloatArray:
    """Return the step from each slice to the next of a regular stack.

    Parameters
    ----------
    positions
        Shape (n, 3) with n > 1, LPS mm, in the order of the stack.

    Returns
    -------
    ndarray
        Shape (3,), LPS mm. Of a tilted stack it isn't along the normal: the shear stays.

    Raises
    ------
    GeometryError
        If there is one slice only, a position is absent, or a slice is further than `STEP_TOLERANCE` from its place.
    """
    points = np.asarray(positions, float)
    if len(points) < 2:
        raise GeometryError(f"{len(points)} slice has no step to the next; at least 2 were expected")
    if not np.isfinite(points).all():
        raise GeometryError("a slice has no position; every slice needs ImagePositionPatient")
    step: FloatArray = (points[-1] - points[0]) / (len(points) - 1)
    length = float(np.linalg.norm(step))
    if length <= POSITION_TOLERANCE / 10:
        raise GeometryError(
            f"the slices lie at the same position {tuple(points[0].tolist())}; there is no step between them"
        )
    off = np.linalg.norm(points - points[0] - np.arange(len(points))[:, None] * step, axis=1)
    if off.max() > max(STEP_TOLERANCE * length, POSITION_TOLERANCE):
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        raise GeometryError(
            f"the slice steps are unequal: {steps.min():.6g} to {steps.max():.6g} mm between {len(points)} slices; "
            "one affine needs equal ones. Take a regular part, or use the world coordinates"
        )
    return step


def affine(position: ArrayLike, orientation: ArrayLike, spacing: ArrayLike, step: ArrayLike) -> FloatArray:
    """Return the matrix from voxel indices to the patient.

    Parameters
    ----------
    position
        Centre of the first voxel, shape (3,), LPS mm.
    orientation
        Six direction cosines, shape (6,).
    spacing
        Row spacing and column spacing in mm, shape (2,), as in PixelSpacing.
    step
        From a slice to the next, shape (3,), LPS mm.

    Returns
    -------
    ndarray
        Shape (4, 4). It takes ``(column index, row index, slice index, 1)`` to ``(x, y, z, 1)`` in LPS mm: the axes
        are those of a numpy array of shape (x, y, z), as equation C.7.6.2.1-1 of PS3.3 has them, with the step as
        third column.

    Raises
    ------
    GeometryError
        If the orientation is none, or position, spacing or step are absent.
    """
    cosines = check_orientation(orientation)
    between_rows, between_columns = np.asarray(spacing, float)
    matrix = np.eye(4)
    matrix[:3, 0] = cosines[:3] * between_columns
    matrix[:3, 1] = cosines[3:] * between_rows
    matrix[:3, 2] = step
    matrix[:3, 3] = position
    if not np.isfinite(matrix).all() or not (between_rows and between_columns):
        raise GeometryError(
            f"position {_numbers(position)}, spacing {_numbers(spacing)} and slice step {_numbers(step)} "
            "must be finite, and the spacing not 0"
        )
    return matrix


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(np.asarray(values, float).tolist())
