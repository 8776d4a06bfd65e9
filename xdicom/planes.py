"""Where the images of an array lie in the patient, as the tags that say so.

It follows the array's coordinates, else the frames that headers are cloned from; it chooses none of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import tags
from .dims import AXES, MM_DECIMALS, ORIENTATION, POSITION, SLICE_DIMS, locate, vectors
from .errors import GeometryError
from .frames import Frames
from .geometry import FloatArray
from .placement import PIXEL_SPACING, SLICE_SPACING, is_counted, world_coordinates

Geometry = dict[int, tuple[float, ...] | None]
# By tag what images are given, shape (n, k); NaN where it is not known.
_Fields = dict[int, FloatArray]

SLICE_LOCATION = 0x00201041
_ROWS, _COLUMNS, _PATIENT_ORIENTATION = 0x00280010, 0x00280011, 0x00200020
_TOLERANCE = 1e-6
_DIGITS = 10


class Planes(NamedTuple):
    """Centre of the first pixel and (row, column) directions and spacings: shapes (n, 3), (n, 3), (n, 3), (n, 2)."""

    position: FloatArray
    row_direction: FloatArray
    column_direction: FloatArray
    spacing: FloatArray


def geometry_tags(
    array: xr.DataArray, lead: Sequence[str], template: Frames | None, rows: NDArray[np.intp], spacing: object = None
) -> list[Geometry]:
    """Return for each image the geometry that its header must be given, values by tag; None removes an element.

    Parameters
    ----------
    array, lead
        Dims (*lead, "row", "column"[, "sample"]).
    template, rows
        The frame that each image is cloned from, in C order of `lead`; None where headers are made anew. What it says
        already is left out, so that its text stays.
    spacing
        In mm, one number or (column step, row step); by default another matrix size keeps the field of view.

    Raises
    ------
    GeometryError
        If rows or columns have unequal steps.
    """
    placed = None if spacing is not None else planes_of(array, lead)
    if template is None:
        return [{} for _ in rows] if placed is None else _changes(_all_tags(placed), None)
    if placed is None and spacing is None and _stays(array, template, rows):
        return [{} for _ in rows]
    found = _adapted(array, lead, template, rows, spacing) if placed is None else _all_tags(placed)
    _add_slice_spacing(found, template, rows)
    return _changes(found, {tag: vectors(template, tag, width)[rows] for tag, width in _WIDTHS.items()})


def _stays(array: xr.DataArray, template: Frames, rows: NDArray[np.intp]) -> bool:
    """Say whether images are as large as their templates, one for each of these, and nothing places them elsewhere."""
    sizes = {_ROWS: array.sizes["row"], _COLUMNS: array.sizes["column"]}
    is_placed = any(name in array.coords for name in SLICE_DIMS)
    is_whole = len(rows) == len(template) == len(np.unique(rows))
    return is_whole and not is_placed and all((vectors(template, tag, 1) == size).all() for tag, size in sizes.items())


_WIDTHS = {POSITION: 3, ORIENTATION: 6, PIXEL_SPACING: 2, SLICE_LOCATION: 1, SLICE_SPACING: 1}


def planes_of(array: xr.DataArray, lead: Sequence[str]) -> Planes | None:
    """Return where the images of an array lie by its coordinates, None where these do not say it.

    Raises
    ------
    GeometryError
        If rows or columns have unequal steps.
    """
    coords = xr.DataArray(_nothing(array), array.coords, array.dims)
    steps = [_step(coords, name) for name in ("row", "column")]
    if any(step is None for step in steps):
        return None
    try:
        world = world_coordinates(coords.isel(row=0, column=0))
    except GeometryError:
        return None
    if not all(set(map(str, world[axis].dims)) <= set(lead) for axis in AXES):
        return None
    position = np.stack([per_image(coords, lead, world[axis].variable) for axis in AXES], axis=1)
    directions = [vector_coord(coords, lead, f"{name}_direction") for name in ("row", "column")]
    between_rows, between_columns = (per_image(coords, lead, step) for step in steps if step is not None)
    if directions[0] is None or directions[1] is None:
        return None
    return Planes(
        position,
        directions[0] * np.sign(between_columns)[:, None],
        directions[1] * np.sign(between_rows)[:, None],
        np.abs(np.stack([between_rows, between_columns], axis=1)),
    )


def centres(array: xr.DataArray, lead: Sequence[str], template: Frames) -> tuple[FloatArray, FloatArray] | None:
    """Return the centres of images and of frames in mm, shapes (n, 3) and (m, 3); None where these are not known.

    Centres are compared, not positions: images of another size, or turned, lie around what they show.
    """
    placed = planes_of(array, lead)
    matrix = [vectors(template, tag, 1) for tag in (_ROWS, _COLUMNS)]
    spacing, orientation = vectors(template, PIXEL_SPACING, 2), vectors(template, ORIENTATION, 6)
    if placed is None:
        return None
    sizes = np.array([[array.sizes["row"], array.sizes["column"]]])
    here = _centre(placed.position, placed.row_direction, placed.column_direction, placed.spacing, sizes)
    position = vectors(template, POSITION, 3)
    there = _centre(position, orientation[:, :3], orientation[:, 3:], spacing, np.concatenate(matrix, axis=1))
    return (here, there) if np.isfinite(there).all() else None


def _centre(
    position: FloatArray, row: FloatArray, column: FloatArray, spacing: FloatArray, sizes: NDArray[np.generic]
) -> FloatArray:
    half = (sizes.astype(np.float64) - 1) / 2 * spacing
    middle: FloatArray = position + column * half[:, :1] + row * half[:, 1:]
    return middle


def per_image(array: xr.DataArray, lead: Sequence[str], variable: xr.Variable) -> NDArray[np.generic]:
    """Return a variable along some of the dims `lead` as one value an image, in C order."""
    sizes = {dim: array.sizes[dim] for dim in lead}
    laid = variable.set_dims(sizes).transpose(*lead)  # type: ignore[no-untyped-call]
    values: NDArray[np.generic] = np.asarray(laid.values).reshape(-1)
    return values


def vector_coord(array: xr.DataArray, lead: Sequence[str], stem: str) -> FloatArray | None:
    """Return the coordinates "stem_x", "stem_y" and "stem_z" of each image, shape (n, 3); None where one lacks."""
    names = [f"{stem}_{axis}" for axis in AXES]
    if any(name not in array.coords or not set(map(str, array[name].dims)) <= set(lead) for name in names):
        return None
    parts = [per_image(array, lead, array.coords[name].variable).astype(np.float64) for name in names]
    return np.stack(parts, axis=1)


def _nothing(array: xr.DataArray) -> NDArray[np.bool_]:
    """Return an array of the same shape that takes no memory."""
    return np.broadcast_to(np.zeros((), bool), array.shape)


def _step(array: xr.DataArray, dim: str) -> xr.Variable | None:
    """Return the signed step along rows or columns in mm, None where it cannot be known."""
    if dim not in array.coords or f"{dim}_spacing" not in array.coords:
        return None
    along, spacing = array.coords[dim].values.astype(np.float64), array.coords[f"{dim}_spacing"].variable
    if len(along) < 2:
        single: xr.Variable = spacing
        return single
    index = along if is_counted(array, dim) else along / float(spacing.values.reshape(-1)[0])
    steps = np.diff(index)
    if np.ptp(steps) > 0.01 + 2 * 10.0**-MM_DECIMALS / float(spacing.values.min()) or not steps.all():
        raise GeometryError(
            f"{dim} has unequal steps, from {steps.min():.6g} to {steps.max():.6g} pixels, and those of "
            "DICOM images are equal. Take every n-th, or interpolate first"
        )
    step = (index[-1] - index[0]) / (len(index) - 1)
    whole = float(np.round(step)) if abs(step - np.round(step)) < 0.5e-2 else step
    signed: xr.Variable = spacing * whole
    return signed


def _all_tags(planes: Planes) -> _Fields:
    is_known = np.isfinite(np.concatenate(planes, axis=1)).all(axis=1, keepdims=True)
    normals = np.cross(planes.row_direction, planes.column_direction)
    found = {
        POSITION: planes.position,
        ORIENTATION: np.concatenate([planes.row_direction, planes.column_direction], axis=1),
        PIXEL_SPACING: planes.spacing,
        SLICE_LOCATION: _along(planes.position, normals),
    }
    return {tag: np.where(is_known, values, np.nan) for tag, values in found.items()}


def _along(positions: FloatArray, normals: FloatArray) -> FloatArray:
    location: FloatArray = (positions * normals).sum(axis=1, keepdims=True)
    return location


def _changes(found: _Fields, held: _Fields | None) -> list[Geometry]:
    """Return for each image what its header does not say already, or all of it; None removes an element."""
    # Adding 0.0 makes -0.0 of a flipped direction 0.0.
    told = {tag: np.round(values, _DIGITS) + 0.0 for tag, values in found.items()}
    changed = {tag: np.isfinite(values).all(axis=1) for tag, values in told.items()}
    if held is not None:
        for tag, values in told.items():
            changed[tag] &= ~(np.abs(values - held[tag]) <= _TOLERANCE).all(axis=1)
    count = len(told[POSITION])
    geometry: list[Geometry] = [{} for _ in range(count)]
    for row in np.flatnonzero(np.any([*changed.values()], axis=0)).tolist():
        own: Geometry = {tag: tuple(told[tag][row].tolist()) for tag, rows in changed.items() if rows[row]}
        geometry[row] = own if held is None else _settled(own, {tag: values[row] for tag, values in held.items()})
    return geometry


def _settled(own: Geometry, held: _Fields) -> Geometry:
    """Leave the slice location in the same plane; what is said of an orientation in letters goes with it."""
    if SLICE_LOCATION in own and not _left_plane(own, held):
        del own[SLICE_LOCATION]
    if ORIENTATION in own:
        own[_PATIENT_ORIENTATION] = None
    return own


def _left_plane(kept: Geometry, held: _Fields) -> bool:
    """Say whether an image lies in another plane than its template, which has a SliceLocation."""
    if not np.isfinite(held[SLICE_LOCATION]).all():
        return False
    orientations = [np.asarray(kept.get(ORIENTATION) or held[ORIENTATION]), held[ORIENTATION]]
    normal, before = (np.cross(values[:3], values[3:]) for values in orientations)
    shift = np.asarray(kept.get(POSITION) or held[POSITION]) - held[POSITION]
    return bool(abs(shift @ before) > 10.0**-MM_DECIMALS or abs(abs(normal @ before) - 1) > _TOLERANCE)


def _add_slice_spacing(found: _Fields, template: Frames, rows: NDArray[np.intp]) -> None:
    """Say how far slices are apart, where the template says it and slices were left out or put between."""
    said = vectors(template, SLICE_SPACING, 1)[:, 0]
    held = vectors(template, POSITION, 3), vectors(template, ORIENTATION, 6)
    if not np.isfinite(said).all() or not all(np.isfinite(part).all() for part in held):
        return
    own = []
    for tag, before in zip((POSITION, ORIENTATION), held, strict=True):
        values = found.get(tag, before[rows])
        own.append(np.where(np.isfinite(values).all(axis=1, keepdims=True), values, before[rows]))
    old, new = _slice_step(*held), _slice_step(*own)
    if old and new and abs(new - old) > 10.0**-MM_DECIMALS:
        found[SLICE_SPACING] = np.full((len(rows), 1), new)


def _slice_step(positions: FloatArray, orientations: FloatArray) -> float | None:
    """Return the distance of neighbouring slices along their normal; None for one slice or several orientations."""
    if np.ptp(orientations, axis=0).max() > _TOLERANCE:
        return None
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    places = np.unique(np.round(positions @ normal, MM_DECIMALS))
    return float(np.median(np.diff(places))) if len(places) > 1 else None


def _adapted(
    array: xr.DataArray, lead: Sequence[str], template: Frames, rows: NDArray[np.intp], spacing: object
) -> _Fields:
    """Take the geometry of the template; keep its field of view, and follow a slice coordinate."""
    positions, orientations = vectors(template, POSITION, 3)[rows], vectors(template, ORIENTATION, 6)[rows]
    before = vectors(template, PIXEL_SPACING, 2)[rows]
    matrix = np.concatenate([vectors(template, tag, 1) for tag in (_ROWS, _COLUMNS)], axis=1)[rows]
    after = before * matrix / [array.sizes["row"], array.sizes["column"]]
    if spacing is not None:
        after = np.broadcast_to(_in_plane(spacing), before.shape)
    # The corner of the image stays where it is, half a pixel from the centre of the first pixel.
    shift = (after - before) / 2
    moved = positions + orientations[:, :3] * shift[:, 1:] + orientations[:, 3:] * shift[:, :1]
    normal = np.cross(orientations[:, :3], orientations[:, 3:])
    along = _moved_along(array, lead, template, rows)
    if along is not None:
        moved = moved + normal * np.nan_to_num(along)[:, None]
    return {PIXEL_SPACING: after, POSITION: moved, SLICE_LOCATION: _along(moved, normal)}


def _in_plane(spacing: object) -> FloatArray:
    """Return (row spacing, column spacing) of a spacing in the order (column step, row step)."""
    steps = np.asarray(spacing, np.float64)
    if steps.shape not in ((), (2,), (3,)) or not (np.isfinite(steps) & (steps > 0)).all():
        raise GeometryError(f"spacing={spacing}: expected a number of mm, or (column step, row step)")
    column, row = np.broadcast_to(steps, 2) if steps.ndim == 0 else steps[:2]
    return np.array([row, column])


def _moved_along(
    array: xr.DataArray, lead: Sequence[str], template: Frames, rows: NDArray[np.intp]
) -> FloatArray | None:
    """Return how far each image lies from its template along the normal, by a slice coordinate; None without one."""
    places = locate(template)
    for name in SLICE_DIMS:
        if name not in array.coords or not set(map(str, array[name].dims)) <= set(lead):
            continue
        wanted = per_image(array, lead, array.coords[name].variable)
        held = vectors(template, SLICE_LOCATION, 1)[:, 0] if name == "SliceLocation" else places
        if wanted.dtype.kind in "iuf" and np.isfinite(held).any():
            # SliceLocation may count against the normal.
            sign = -1.0 if np.nansum((held - np.nanmean(held)) * (places - np.nanmean(places))) < 0 else 1.0
            moved: FloatArray = sign * (wanted.astype(np.float64) - held[rows])
            return np.where(np.abs(moved) > 10.0**-MM_DECIMALS, moved, 0.0)
    return None


def encoded_geometry(geometry: Geometry) -> dict[int, tuple[str, bytes] | None]:
    """Return raw values by tag."""
    return {
        tag: None if values is None else ("DS", tags.encode(tag, "DS", values if len(values) > 1 else values[0]))
        for tag, values in geometry.items()
    }
