"""Arrays with geometry coordinates, made by hand from equation C.7.6.2.1-1 of PS3.3."""

import numpy as np
import xarray as xr

AXES = "xyz"


def rotation(degrees, axis):
    """Return the 3 x 3 rotation about an axis."""
    angle = np.deg2rad(degrees)
    i, j = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    matrix[[i, j], [i, j]] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def affine(spacing=(1.5, 2.0, 4.0), *, turn=None, origin=(-10.0, -20.0, 30.0), tilt=0.0):
    """Return the 4 x 4 matrix from (column, row, slice) to LPS mm.

    Parameters
    ----------
    spacing
        (column step, row step, slice step).
    turn
        3 x 3 rotation of the directions.
    origin
        Centre of the first voxel.
    tilt
        How far a slice is moved along the column direction from the one before, mm.
    """
    steps = np.diag(np.asarray(spacing, float))
    steps[1, 2] += tilt
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if turn is None else turn) @ steps
    matrix[:3, 3] = origin
    return matrix


def grid(values, matrix, *, places=None, thickness=None, dims=("slice", "row", "column"), **coords):
    """Return an array whose voxels lie where a matrix says.

    Parameters
    ----------
    values
        Shape (*others, slices, rows, columns).
    matrix
        As `affine` returns it.
    places
        Of the slices, as multiples of the slice step; 0, 1, 2... by default.
    thickness
        SliceThickness.
    dims
        Names of the axes.
    coords
        Further coordinates.
    """
    values = np.asarray(values)
    slices, rows, columns = values.shape[-3:]
    steps = matrix[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    places = np.arange(slices) if places is None else np.asarray(places, float)
    positions = matrix[:3, 3] + places[:, None] * steps[:, 2]
    found = {
        "slice": ("slice", positions @ np.cross(steps[:, 0], steps[:, 1]) / lengths[0] / lengths[1]),
        "row": ("row", np.arange(rows) * lengths[1]),
        "column": ("column", np.arange(columns) * lengths[0]),
        "row_spacing": lengths[1],
        "column_spacing": lengths[0],
    }
    for i, axis in enumerate(AXES):
        found[f"ImagePositionPatient_{axis}"] = "slice", positions[:, i]
        # The row direction is that of increasing column index.
        found[f"row_direction_{axis}"] = steps[i, 0] / lengths[0]
        found[f"column_direction_{axis}"] = steps[i, 1] / lengths[1]
    attrs = {} if thickness is None else {"SliceThickness": thickness}
    return xr.DataArray(values, {**found, **coords}, dims, name="pixels", attrs=attrs)


def world(matrix, shape, places=None):
    """Return where the voxels of a grid lie: shape (3, slices, rows, columns), LPS mm."""
    index = np.indices(shape).astype(float)
    if places is not None:
        index[0] = np.asarray(places, float)[:, None, None]
    found = np.einsum("ij,jkrc->ikrc", matrix[:3, :3], index[::-1])
    return found + matrix[:3, 3][:, None, None, None]


def linear(points, *, weights=(0.7, -0.4, 0.9), offset=5.0):
    """Return a function of the place that linear interpolation reproduces exactly."""
    return np.einsum("i,i...->...", np.asarray(weights), points) + offset
