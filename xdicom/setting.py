"""Columns that a user's assignments become, also where a value differs from frame to frame.

What a single value becomes is known in `editing`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import tags
from .columns import Column, Known, Raw
from .editing import Overlay, overlay_of, unchanged
from .errors import EditError
from .frames import Frames
from .instance import INSTANCE_UID
from .tags import PrivateTag, parse

Values = Mapping[int | PrivateTag, object]
_PIXEL_GROUP = 0x0028

Setter = Callable[[Frames], Mapping[Any, object]]


def overlay_for(frames: Frames, values: Values, vrs: Mapping[object, str], setters: Sequence[Setter] = ()) -> Overlay:
    """Return the columns that assignments give a table.

    Parameters
    ----------
    frames
        The table as it is now.
    values
        By tag, the same for all rows; None removes the element.
    vrs
        VR of private elements that no dictionary knows.
    setters
        Lower_case attributes that are set: from a table to values by tag, of which numpy arrays have one for each row.

    Raises
    ------
    EditError, TagValueError
        If an element cannot be set, or its VR cannot hold the value.
    """
    single = dict(values)
    varying: dict[int | PrivateTag, NDArray[Any]] = {}
    for setter in setters:
        for name, value in setter(frames).items():
            if isinstance(value, np.ndarray):
                varying[parse(name)] = _checked(value, frames)
            else:
                single[parse(name)] = value
    if not varying:
        return overlay_of(frames, single, vrs)
    keys = list(zip(*(map(repr, array) for array in varying.values()), strict=True))
    groups = [np.flatnonzero([key == each for each in keys]) for key in dict.fromkeys(keys)]
    parts = []
    for rows in groups:
        own = {name: array[rows[0]] for name, array in varying.items()}
        parts.append((rows, overlay_of(frames.take(rows), {**single, **own}, vrs)))
    return _joined(parts, frames)


def leaves(frames: Frames, tag: int, column: Column | None) -> bool:
    """Say whether every row of a table has a column's value already, so that it is no edit."""
    if column is None or column.codes is None:
        return unchanged(frames, tag, column)
    before, after = (_raws(table, tag) for table in (frames, frames.with_columns({tag: column})))
    return before == after


def spread(column: Column | None, hidden: NDArray[np.bool_]) -> Column | None:
    """Return the column of a table of which a column of the visible rows is known."""
    if column is None or column.codes is None or not hidden.any():
        return column
    codes = np.full(len(hidden), -1, np.int32)
    codes[~hidden] = column.codes
    return Column(column.values, codes)


def taken_back(staged: Frames, wanted: Iterable[int], replaced: Mapping[str, tuple[Frames, int]]) -> Overlay:
    """Return columns that give staged frames the values of the saved frames whose place they take.

    Parameters
    ----------
    staged
        Their table.
    wanted
        The tags; those that describe pixels are left out.
    replaced
        By SOPInstanceUID the saved table and the row in it.
    """
    uids = [str(uid) for uid in staged.values(INSTANCE_UID).tolist()]
    overlay: Overlay = {}
    for tag in wanted:
        held = _raws(staged, tag)
        if tag >> 16 == _PIXEL_GROUP or not replaced.keys() & set(uids):
            continue
        before = {id(base): _raws(base, tag) for base, _ in replaced.values()}
        laid = list(held)
        for i, uid in enumerate(uids):
            if uid in replaced:
                base, row = replaced[uid]
                laid[i] = before[id(base)][row]
        if [raw and raw[1] for raw in laid] != [raw and raw[1] for raw in held]:
            overlay[tag] = _column([raw and (raw[0] or tags.concrete_vr(tag), raw[1]) for raw in laid])
    return overlay


def _column(raws: Sequence[Known | None]) -> Column | None:
    index: dict[Raw, int] = {}
    codes = [-1 if raw is None else index.setdefault(raw, len(index)) for raw in raws]
    return Column(list(index), np.array(codes, np.int32)) if index else None


def _raws(frames: Frames, tag: int) -> list[Known | None]:
    raws, codes = frames.raw_values(tag)
    return [raws[code] if code >= 0 else None for code in codes.tolist()]


def _checked(values: NDArray[Any], frames: Frames) -> NDArray[Any]:
    if values.shape != (len(frames),):
        raise EditError(f"an array of shape {values.shape} for {len(frames)} frames: give one value each")
    return values


def _joined(parts: Sequence[tuple[NDArray[np.intp], Overlay]], frames: Frames) -> Overlay:
    """Lay columns of some rows each together; rows whose part has no such column keep what they have."""
    overlay: Overlay = {}
    for tag in dict.fromkeys(tag for _, part in parts for tag in part):
        laid = _raws(frames, tag)
        for rows, part in parts:
            column = part.get(tag)
            for row in rows.tolist() if tag in part else ():
                laid[row] = column.values[0] if column else None  # type: ignore[assignment]
        overlay[tag] = _column(laid)
    return overlay
