"""The stacks that one series holds: localizers in three planes, other matrix sizes, maps among images.

It tells which frames belong together; nothing is copied.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .advice import PARAMETERS
from .alike import SHARED, located, matrices
from .dims import ORIENTATION, IndexArray, column_of, dim_of, joint_codes, order_frames, vectors
from .errors import StackError
from .infer import Choice, infer
from .quantities import kinds, quantities

if TYPE_CHECKING:
    from .frames import Frames

Rows = NDArray[np.intp]
Key = Callable[["Frames"], IndexArray]

_PLANES = ("sagittal", "coronal", "axial")
_OBLIQUE = 0.999
_MOST_SHOWN = 4


def _column(name: str) -> Key:
    return lambda frames: column_of(frames, name)[2]


# What may part frames that share all that a stack shares and fill no grid; the first that helps serves.
_PARTING: tuple[Key, ...] = (
    *(quantities, kinds),
    *map(_column, ("FrameType", "ImageType", "SeriesInstanceUID", "StackID")),
)
# The same, of frames that fill no grid with gaps either.
_PARTING_FURTHER: tuple[Key, ...] = tuple(
    map(_column, ("SeriesDescription", "SeriesNumber", "ProtocolName", "AcquisitionNumber", *PARAMETERS))
)
_MOST_PARTS = 200


def choose(frames: "Frames", *, missing: str = "raise", duplicates: str = "raise") -> Choice:
    """Choose the dims of frames; see `xdicom.infer.infer`.

    Raises
    ------
    StackError
        If nothing fits; where frames are several stacks the text says which and names `split()`.
    """
    try:
        return infer(frames, missing=missing, duplicates=duplicates)  # type: ignore[arg-type]
    except StackError as error:
        parts = stacks(frames)
        if len(parts) < 2:
            raise
        listed = "; ".join(described(frames.take(rows)) for rows in parts[:_MOST_SHOWN])
        more = "; ..." if len(parts) > _MOST_SHOWN else ""
        text = str(error).rstrip(".")
        raise StackError(
            f"{text}. There are {len(parts)} stacks: {listed}{more}. split() gives them one by one"
        ) from error


def stacks(frames: "Frames") -> list[Rows]:
    """Part frames into stacks.

    Parameters
    ----------
    frames
        Table of n frames.

    Returns
    -------
    list of ndarray
        The rows of each stack, in the order of their first frames. Frames that differ in matrix, orientation, spacing,
        frame of reference or line of positions are parted; those that fill no grid also by what they show (see
        ImageType), stack or acquisition, if that makes grids of them.
    """
    found: list[Rows] = []
    for rows in _groups(_shared(frames)):
        found += _parted(frames, rows)
    rank = np.argsort(order_frames(frames))
    return sorted(found, key=lambda rows: int(rank[rows].min()))


def parted_by(frames: "Frames", names: Sequence[str]) -> list[Rows]:
    """Part frames by the values of tags or attributes.

    Returns
    -------
    list of ndarray
        The rows of each combination of values, ascending; frames without one come first.
    """
    ranks = []
    for name in names:
        label, values, codes = column_of(frames, name)
        dim = dim_of(label, values, codes)
        ranks.append(codes if dim is None else dim.codes)
    return list(_groups(joint_codes(*ranks)))


def described(frames: "Frames") -> str:
    """Return what the frames of a stack are, in a few words."""
    words = [f"{len(frames)} {'frame' if len(frames) == 1 else 'frames'}"]
    sizes = [column_of(frames, name)[1] for name in ("Columns", "Rows")]
    if all(len(values) == 1 for values in sizes):
        words.append(f"{sizes[0][0]} x {sizes[1][0]}")
    words += [plane] if (plane := _plane(frames)) else []
    for name in ("FrameType", "ImageType"):
        kinds_here = column_of(frames, name)[1]
        if len(kinds_here) == 1:
            value = kinds_here[0]
            words.append("\\".join(map(str, value)) if isinstance(value, tuple) else str(value))
            break
    return " ".join(words)


def _shared(frames: "Frames") -> IndexArray:
    """Return the same code for frames that share all that the frames of a stack must."""
    at = located(frames).astype(bool)
    codes = joint_codes(located(frames), matrices(frames))
    if not at.any():
        return codes
    rows = np.flatnonzero(at)
    inside = frames if at.all() else frames.take(rows)
    for name in SHARED:
        laid = np.zeros(len(frames), np.intp)
        laid[rows] = _within(inside, codes[rows], SHARED[name])
        codes = joint_codes(codes, laid)
    return codes


def _within(frames: "Frames", groups: IndexArray, key: Key) -> IndexArray:
    """Return the codes of a key, which is asked about each group by itself."""
    codes = np.zeros(len(frames), np.intp)
    for rows in _groups(groups):
        codes[rows] = key(frames.take(rows))
    return codes


def _groups(codes: IndexArray) -> Iterator[Rows]:
    """Yield the rows of each code, ascending."""
    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    yield from np.split(order, bounds)


def _fits(frames: "Frames", **options: Any) -> bool:
    try:
        infer(frames, **options)
    except StackError:
        return False
    return True


def _parted(frames: "Frames", rows: Rows) -> list[Rows]:
    """Part frames until they fill grids; those that never do stay together."""
    here = frames.take(rows)
    if _fits(here):
        return [rows]
    parts = _parted_by(frames, rows, _PARTING)
    if len(parts) == 1 and not _fits(here, missing="fill") and not _fits(here, duplicates="first"):
        return _parted_by(frames, rows, _PARTING_FURTHER)
    return parts


def _parted_by(frames: "Frames", rows: Rows, keys: Sequence[Key]) -> list[Rows]:
    """Part frames by the first key, and if need be by those after it, that makes grids of them."""
    here = frames.take(rows)
    if _fits(here):
        return [rows]
    for i, key in enumerate(keys):
        groups = list(_groups(joint_codes(key(here))))
        if 1 < len(groups) <= _MOST_PARTS:
            parts = [part for group in groups for part in _parted_by(frames, rows[group], keys[i + 1 :])]
            if all(_fits(frames.take(part)) for part in parts):
                return parts
    return [rows]


def _plane(frames: "Frames") -> str:
    directions = vectors(frames, ORIENTATION, 6)
    normal = np.abs(np.cross(directions[0, :3], directions[0, 3:]))
    if not np.isfinite(normal).all():
        return ""
    name = _PLANES[int(normal.argmax())]
    return name if normal.max() >= _OBLIQUE else f"oblique {name}"
