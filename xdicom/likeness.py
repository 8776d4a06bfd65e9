"""Which frame each image of an array resembles, and which tags its coordinates change.

It reads coordinates and tables; headers are made in `derive`.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import tags
from .dims import order_frames
from .errors import TagValueError, UnknownTagError
from .columns import Known
from .frames import Frames

FloatArray = NDArray[np.float64]
Changes = dict[int, Known | None]

_POSITION, _ORIENTATION, _SPACING = 0x00200032, 0x00200037, 0x00280030
_SLICE_LOCATION, _ROWS, _COLUMNS = 0x00201041, 0x00280010, 0x00280011
SLICE_NAMES = ("SliceLocation", "slice_location", "slice")
# What identifies an image or follows from where it lies, and is not taken from coordinates.
_NOT_TAKEN = frozenset({"InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"})


def nearest_rows(array: xr.DataArray, lead: Sequence[str], template: Frames) -> NDArray[np.intp]:
    """Return for each image, in C order of the leading dims, the row of the frame that it resembles most.

    Parameters
    ----------
    array
        Has coordinates along `lead`.
    lead
        Its dims but row, column and sample.
    template
        The frames to choose from.

    Notes
    -----
    Position counts first, by distance; then the tags that are dims or scalar coordinates, by difference. Where nothing
    tells, the n-th image resembles the n-th frame.
    """
    count = int(np.prod([array.sizes[name] for name in lead]))
    costs: list[FloatArray] = []
    positions = frame_positions(array, lead)
    known = _vectors(template, _POSITION, 3)
    if positions is not None and known is not None:
        costs.append(np.linalg.norm(positions[:, None] - known[None], axis=2))
    for name, coord in array.coords.items():
        is_dim = str(name) in lead or coord.ndim == 0
        if not is_dim or (costs and name in SLICE_NAMES):
            continue
        values = _per_frame(array, lead, str(name))
        there = _numbers(template, str(name))
        if values is not None and values.dtype.kind in "if" and there is not None:
            costs.append(_relative(values.astype(np.float64), there))
    if costs:
        return np.argmin(np.nan_to_num(np.sum(costs, axis=0), nan=1e30), axis=1)
    order = order_frames(template)
    return order[np.minimum(np.arange(count) * len(order) // max(count, len(order)), len(order) - 1)]


def _relative(values: FloatArray, there: FloatArray) -> FloatArray:
    """Return differences as shares of the range, so that units do not matter."""
    span = float(np.nanmax(there) - np.nanmin(there)) if np.isfinite(there).any() else 0.0
    difference: FloatArray = np.abs(values[:, None] - there[None])
    return difference / span if span else difference


def _numbers(frames: Frames, name: str) -> FloatArray | None:
    try:
        values = frames.values(name)
    except UnknownTagError:
        return None
    if values.ndim != 1 or values.dtype.kind not in "if" or not np.isfinite(values.astype(np.float64)).any():
        return None
    return values.astype(np.float64)


def _vectors(frames: Frames, tag: int, size: int) -> FloatArray | None:
    values = frames.values(tag)
    usable = values.ndim == 2 and values.shape[1] == size and values.dtype.kind == "f"
    return values.astype(np.float64) if usable else None


def _per_frame(array: xr.DataArray, lead: Sequence[str], name: str) -> NDArray[np.generic] | None:
    """Return a coordinate as one value an image, or None where it lies along other dims."""
    if name not in array.coords or not set(map(str, array.coords[name].dims)) <= set(lead):
        return None
    sizes = {dim: array.sizes[dim] for dim in lead}
    laid = array.coords[name].variable.set_dims(sizes).transpose(*lead)
    values: NDArray[np.generic] = np.asarray(laid.values).reshape(-1)
    return values


def frame_positions(array: xr.DataArray, lead: Sequence[str]) -> FloatArray | None:
    """Return the position of the first pixel of each image, shape (images, 3) in LPS mm, or None where unknown."""
    parts = [_per_frame(array, lead, f"ImagePositionPatient_{axis}") for axis in "xyz"]
    if any(part is None for part in parts):
        return None
    position = np.stack([np.asarray(part, np.float64) for part in parts], axis=1)
    directions = _directions(array, lead)
    if directions is None or "row" not in array.coords or "column" not in array.coords:
        return position
    row_direction, column_direction = directions
    first_column, first_row = (float(array.coords[name].values[0]) for name in ("column", "row"))
    return position + row_direction * first_column + column_direction * first_row


def _directions(array: xr.DataArray, lead: Sequence[str]) -> tuple[FloatArray, FloatArray] | None:
    """Return row and column direction of each image, shape (images, 3)."""
    found = []
    for stem in ("row_direction", "column_direction"):
        parts = [_per_frame(array, lead, f"{stem}_{axis}") for axis in "xyz"]
        if any(part is None for part in parts):
            return None
        found.append(np.stack([np.asarray(part, np.float64) for part in parts], axis=1))
    return found[0], found[1]


def changed_tags(
    array: xr.DataArray, lead: Sequence[str], template: Frames | None, rows: NDArray[np.intp]
) -> list[Changes]:
    """Return for each image the raw values that its coordinates give, where they differ from its template's.

    Parameters
    ----------
    array, lead
        As in `nearest_rows`.
    template, rows
        The frame that each image is cloned from; None where headers are made anew.
    """
    count = len(rows)
    changes: list[Changes] = [{} for _ in range(count)]
    for name in map(str, array.coords):
        tag = _tag_of(name)
        values = None if tag is None else _per_frame(array, lead, name)
        if tag is None or values is None:
            continue
        held = _held(template, tag, rows)
        vr = tags.concrete_vr(tag)
        cache: dict[object, Known | None] = {}
        for change, value, before in zip(changes, values.tolist(), held, strict=True):
            if _same(value, before):
                continue
            if value not in cache:
                cache[value] = _encoded(tag, vr, value)
            if cache[value] is not None:
                change[tag] = cache[value]
    _add_geometry(array, lead, template, rows, changes)
    return changes


def _tag_of(name: str) -> int | None:
    """Return the tag that a coordinate may change, or None."""
    if not name[:1].isupper() or name in _NOT_TAKEN or name.startswith("ImagePositionPatient"):
        return None
    try:
        tag = tags.as_tag(name)
    except UnknownTagError:
        return None
    is_identity = tags.dictionary_vr(tag) in ("UI", "SQ") or tag >> 16 in (2, 0x10, 0x28)
    return None if is_identity else tag


def _held(template: Frames | None, tag: int, rows: NDArray[np.intp]) -> list[object]:
    if template is None:
        return [None] * len(rows)
    values, codes = template.column(tag)
    return [values[code] if code >= 0 else None for code in codes[rows].tolist()]


def _same(value: object, before: object) -> bool:
    if value == before or (value == "" and before is None):
        return True
    if isinstance(value, float) and np.isnan(value):
        return True
    joined = "\\".join(map(str, before)) if isinstance(before, tuple) else None
    return joined is not None and value == joined


def _encoded(tag: int, vr: str, value: object) -> Known | None:
    if isinstance(value, float) and vr in ("IS", "US", "SS", "UL", "SL") and value.is_integer():
        value = int(value)
    try:
        return vr, tags.encode(tag, vr, value, charset=tags.UTF8)
    except TagValueError:
        return None


def _add_geometry(
    array: xr.DataArray, lead: Sequence[str], template: Frames | None, rows: NDArray[np.intp], changes: list[Changes]
) -> None:
    """Give images the position, orientation and spacing of the array's coordinates, or keep the field of view."""
    positions, directions = frame_positions(array, lead), _directions(array, lead)
    if positions is None or directions is None or not {"row", "column"} <= set(map(str, array.coords)):
        if template is not None:
            _keep_view(array, template, rows, changes)
        return
    steps = [_step(array, name, f"{name}_spacing") for name in ("row", "column")]
    row_direction, column_direction = directions[0] * np.sign(steps[1]), directions[1] * np.sign(steps[0])
    normal = np.cross(row_direction, column_direction)
    spacing = (abs(steps[0]), abs(steps[1]))
    for i, change in enumerate(changes):
        orientation = (*row_direction[i].tolist(), *column_direction[i].tolist())
        own = {
            _POSITION: tuple(positions[i].tolist()),
            _ORIENTATION: orientation,
            _SPACING: spacing,
            _SLICE_LOCATION: float(positions[i] @ normal[i]),
        }
        for tag, value in own.items():
            before = _held(template, tag, rows[i : i + 1])[0]
            if not _close(value, before):
                change[tag] = "DS", tags.encode(tag, "DS", value)


def _close(value: object, before: object) -> bool:
    """Say whether geometry is as it was, so that its text need not change."""
    if before is None or np.shape(value) != np.shape(before):  # type: ignore[arg-type]
        return False
    return bool(np.allclose(np.asarray(value, float), np.asarray(before, float), rtol=0, atol=1e-6))


def _step(array: xr.DataArray, dim: str, spacing: str) -> float:
    """Return the step along row or column in mm; negative where the array was flipped."""
    along = array.coords[dim].values
    if len(along) > 1:
        return float(along[-1] - along[0]) / (len(along) - 1)
    return float(array.coords[spacing]) if spacing in array.coords and array.coords[spacing].ndim == 0 else 1.0


def _keep_view(array: xr.DataArray, template: Frames, rows: NDArray[np.intp], changes: list[Changes]) -> None:
    """Keep the field of view where the matrix is another than the template's."""
    sizes = array.sizes["row"], array.sizes["column"]
    for i, row in enumerate(rows.tolist()):
        before = [_held(template, tag, np.array([row]))[0] for tag in (_ROWS, _COLUMNS, _SPACING, _POSITION, _ORIENTATION)]
        if before[:2] == list(sizes) or not isinstance(before[2], tuple) or not all(isinstance(n, int) for n in before[:2]):
            continue
        factors = [old / new for old, new in zip(before[:2], sizes, strict=True)]  # type: ignore[operator]
        spacing = [float(length) * factor for length, factor in zip(before[2], factors, strict=True)]
        changes[i][_SPACING] = "DS", tags.encode(_SPACING, "DS", tuple(spacing))
        if isinstance(before[3], tuple) and isinstance(before[4], tuple):
            shift = [(new - float(old)) / 2 for new, old in zip(spacing, before[2], strict=True)]
            directions = np.reshape(before[4], (2, 3))
            position = np.array(before[3]) + directions[0] * shift[1] + directions[1] * shift[0]
            changes[i][_POSITION] = "DS", tags.encode(_POSITION, "DS", tuple(position.tolist()))
