"""One dim of a grid: the distinct values of a tag or attribute, ascending, and which frame has which.

It arranges nothing: how several dims make a grid is `stack.py`'s.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import geometry, tags
from .errors import StackError, UnknownTagError
from .tags import PrivateTag

if TYPE_CHECKING:
    from pydicom.tag import BaseTag

    from .frames import Frames

    DimLike = str | int | tuple[int, int] | tuple[str, int, int] | BaseTag

IndexArray = NDArray[np.intp]
Codes = NDArray[np.intp] | NDArray[np.int32]

INSTANCE_NUMBER, INSTANCE_UID = 0x00200013, 0x00080018
POSITION, ORIENTATION, SLICE_LOCATION = 0x00200032, 0x00200037, 0x00201041

FROM_GEOMETRY = ("slice", "slice_location")
SLICE_DIMS = (*FROM_GEOMETRY, "SliceLocation")
RANKED = "_index"
STACK_DIMS = "stack_dims"
"""Coordinate of an array that names the dims along which its frames were stacked, also those that are gone since."""

AXES = ("x", "y", "z")
MM_DECIMALS = 3

_COMPONENT = re.compile(r"(?P<tag>[A-Z]\w*|tag_\w{4}_\w{4})_(?P<part>[xyz]|\d+)")
_NUMBERED = re.compile(r"tag_([0-9A-Fa-f]{4})_([0-9A-Fa-f]{4})")
ORIENTATION_TOLERANCE = 1e-3
_MOST_IDS = 2**62
_LONG = 1024


@dataclass(frozen=True, eq=False)
class Dim:
    """The distinct values of one dim.

    Attributes
    ----------
    name
        A keyword or lower_case name.
    values
        The distinct values, ascending, shape (k,).
    codes
        For each frame the index of its value, -1 where it has none, shape (n,).
    ranked
        Whether the rank of a value among those at its position is asked for, instead of the value.
    """

    name: str
    values: NDArray[Any]
    codes: IndexArray
    ranked: bool = False

    @property
    def is_position(self) -> bool:
        """Whether the values are places in the patient."""
        return self.name in SLICE_DIMS or self.name.startswith("ImagePositionPatient")


def resolve(frames: "Frames", dim: "DimLike") -> Dim:
    """Find the values of a dim.

    Parameters
    ----------
    frames
        Table of n frames.
    dim
        A tag; a lower_case attribute; "slice", mm along the normal of the frames; "frame", their order; one component
        of a tag with several numbers ("ImagePositionPatient_z", "PixelSpacing_0"); any of these with "_index" for its
        rank.

    Raises
    ------
    StackError
        If a frame has several numbers there, or something that is neither number nor text.
    UnknownTagError
        If there is no such tag or attribute.
    """
    if isinstance(dim, str) and dim.endswith(RANKED):
        base = resolve(frames, dim.removesuffix(RANKED))
        return Dim(base.name, base.values, base.codes, ranked=True)
    if dim in FROM_GEOMETRY:
        return _from_geometry(frames, str(dim))
    if dim == "frame":
        codes = np.empty(len(frames), np.intp)
        codes[order_frames(frames)] = np.arange(len(frames))
        return Dim("frame", np.arange(len(frames)), codes)
    if isinstance(dim, str) and (parts := _COMPONENT.fullmatch(dim)):
        return _component(frames, dim, **parts.groupdict())
    name, values, codes = column_of(frames, dim)
    found = dim_of(name, values, codes)
    if found is None:
        raise StackError(_not_scalar(name, values))
    return found


def dim_of(name: str, values: Sequence[object], codes: IndexArray) -> Dim | None:
    """Return the dim of a column, None where a value is neither a number nor text."""
    array = scalars(values)
    return None if array is None else _ascending(name, array, codes)


def name_of(tag: int) -> str:
    """Return what a tag is called in an array: its keyword, else a name that netCDF can hold, as "tag_0029_1010"."""
    label = tags.label(tag)
    return label if label.isidentifier() else f"tag_{tag >> 16:04X}_{tag & 0xFFFF:04X}"


def scalars(values: Sequence[object]) -> NDArray[Any] | None:
    """Return values as one array of numbers or of text.

    Returns
    -------
    ndarray or None
        Shape (n,): int64 or float64, NaN where a value is None or text among numbers; str, "" where None, the parts
        of a multi-valued text joined by backslashes. None if there are values of any other kind.
    """
    kinds = set(map(type, values))
    if kinds <= {int, bool}:
        return _integers(values)
    if kinds <= {int, bool, float, str, type(None)} and kinds & {int, bool, float}:
        return np.array([value if isinstance(value, int | float) else np.nan for value in values], float)
    if all(value is None or is_text(value) for value in values):
        return np.array([as_text(value) for value in values], str)
    return None


def _integers(values: Sequence[object]) -> NDArray[Any]:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array(values, float)


def is_text(value: object) -> bool:
    """Whether a value is text, or several texts."""
    return isinstance(value, str) or (
        isinstance(value, tuple) and all(part is None or isinstance(part, str) for part in value)
    )


def as_text(value: object) -> str:
    """Return a text, or several joined by backslashes, without what netCDF and Zarr cannot hold."""
    parts = value if isinstance(value, tuple) else (value,)
    joined = "\\".join("" if part is None else str(part) for part in parts)
    return joined.replace("\0", "").encode("utf-8", "replace").decode()


def matrix(values: Sequence[object], width: int) -> NDArray[np.float64]:
    """Return values with several numbers each as rows, NaN where a number is absent or no number.

    Returns
    -------
    ndarray
        Shape (n, width).
    """
    rows = np.full((len(values), width), np.nan)
    for row, value in zip(rows, values, strict=True):
        parts = value if isinstance(value, tuple) else (value,)
        numbers = [part if isinstance(part, int | float) else np.nan for part in parts[:width]]
        row[: len(numbers)] = numbers
    return rows


def vectors(frames: "Frames", tag: int, width: int) -> NDArray[np.float64]:
    """Return the numbers of a multi-valued tag frame by frame: shape (n, width), NaN where absent."""
    values, codes = frames.column(tag)
    return np.vstack([matrix(values, width), np.full((1, width), np.nan)])[codes]


def is_long(frames: "Frames", tag: int) -> bool:
    """Whether a tag holds more than 1 kB in some frame, too much to be a coordinate; its values are not read."""
    column = frames.columns.get(tag)
    return column is not None and any(not isinstance(value, bytes) or len(value) > _LONG for _, value in column.values)


def locate(frames: "Frames") -> NDArray[np.float64]:
    """Return position . normal of each frame in mm, NaN where there is no geometry: shape (n,)."""
    return geometry.slice_location(vectors(frames, POSITION, 3), vectors(frames, ORIENTATION, 6))


def order_frames(frames: "Frames") -> IndexArray:
    """Return the order of frames: by InstanceNumber, then frame number, then SOPInstanceUID.

    Returns
    -------
    ndarray
        Shape (n,), indices; frames without a usable InstanceNumber come last.
    """
    numbers, codes = frames.column(INSTANCE_NUMBER)
    instance = np.nan_to_num(np.append(matrix(numbers, 1)[:, 0], np.nan)[codes], nan=np.inf)
    order: IndexArray = np.lexsort((frames.number, instance))
    tied = (instance[order][1:] == instance[order][:-1]) & (np.diff(frames.number[order]) == 0)
    if tied.any():
        uids, uid_codes = frames.column(INSTANCE_UID)
        texts = np.array([*map(as_text, uids), ""], str)
        ranks = np.unique(texts, return_inverse=True)[1][uid_codes]
        order = np.lexsort((ranks, frames.number, instance))
    return order


def grid_points(dims: Sequence[Dim], count: int) -> tuple[IndexArray, int]:
    """Return the grid point of each of `count` frames, in C order, and how many points the grid has."""
    ids = np.zeros(count, np.intp)
    for i, dim in enumerate(dims):
        if math.prod(len(each.values) for each in dims[: i + 1]) > _MOST_IDS:
            ids = np.unique(ids, return_inverse=True)[1].reshape(-1)
        ids = ids * len(dim.values) + dim.codes
    return ids, math.prod(len(dim.values) for dim in dims)


def rank_within(ids: IndexArray, dim: Dim) -> tuple[IndexArray, int]:
    """Rank the values of a dim among those of the frames with the same id.

    Returns
    -------
    ranks : ndarray
        Shape (n,), from 0; equal values at one id have the same rank.
    count : int
        How many values each id has; 0 if not all have equally many.
    """
    groups = np.unique(ids, return_inverse=True)[1].reshape(-1)
    pairs, inverse = np.unique(groups * len(dim.values) + dim.codes, return_inverse=True)
    counts = np.bincount(pairs // len(dim.values))
    firsts = np.cumsum(counts) - counts
    ranks = (np.arange(len(pairs)) - np.repeat(firsts, counts))[inverse.reshape(-1)]
    return ranks, int(counts[0]) if (counts == counts[0]).all() else 0


def _from_geometry(frames: "Frames", name: str) -> Dim:
    if name == "slice" and len(orientations(frames)) > 1:
        raise StackError(
            f"{len(frames)} frames lie in {len(orientations(frames))} orientations and have no common slice direction; "
            "take those of one orientation, for example with subseries(ImageOrientationPatient=...)"
        )
    values, codes = geometry.distinct(locate(frames))
    return Dim(name, np.round(values, MM_DECIMALS) + 0.0, codes)


def orientations(frames: "Frames") -> NDArray[np.float64]:
    """Return the orientations of frames that differ by more than rounding: shape (k, 6)."""
    return clusters(frames, ORIENTATION, 6, ORIENTATION_TOLERANCE)[0]


def clusters(frames: "Frames", tag: int, width: int, tolerance: float) -> tuple[NDArray[np.float64], IndexArray]:
    """Tell the values of a tag with several numbers apart that differ by more than a tolerance.

    Returns
    -------
    values : ndarray
        Shape (k, width).
    codes : ndarray
        Shape (n,): the one of each frame, -1 where it has none.
    """
    values, codes = frames.column(tag)
    kept: list[NDArray[np.float64]] = []
    index = np.full(len(values) + 1, -1, np.intp)
    rows = matrix(values, width)
    for i in np.unique(codes[codes >= 0]).tolist():
        near = (n for n, row in enumerate(kept) if np.allclose(rows[i], row, rtol=0, atol=tolerance, equal_nan=True))
        index[i] = next(near, len(kept))
        if index[i] == len(kept):
            kept.append(rows[i])
    return np.array(kept).reshape(-1, width), index[codes]


def joint_codes(*codes: Codes) -> IndexArray:
    """Return one code for each frame from several, the same where all of them are; -1 counts as one more."""
    joint = np.zeros(len(codes[0]), np.intp)
    for each in codes:
        joint = np.unique(joint * (int(each.max(initial=0)) + 2) + each + 1, return_inverse=True)[1].reshape(-1)
    return joint


def column_of(frames: "Frames", dim: "DimLike") -> tuple[str, list[object], IndexArray]:
    """Return the name, the distinct values and the code of each frame (-1: none) of a tag or a lower_case attribute.

    Raises
    ------
    UnknownTagError
        If there is no such tag or attribute.
    """
    if isinstance(dim, str) and (found := _NUMBERED.fullmatch(dim)):
        dim = int(found[1] + found[2], 16)
    if isinstance(dim, str) and dim[:1].islower() and dim != "dBdt":
        values, codes = frames.named(dim)
        return dim, values, codes.astype(np.intp)
    parsed = tags.parse(dim)
    if isinstance(parsed, PrivateTag):
        # The block that a creator reserves may differ from file to file; the first possible one names the dim.
        name = name_of(parsed.group << 16 | 0x1000 | parsed.element)
        values, codes = frames.named((parsed.creator, parsed.group, parsed.element))
        return name, values, codes.astype(np.intp)
    values, codes = frames.column(parsed)
    return name_of(parsed), values, codes.astype(np.intp)


def _ascending(name: str, array: NDArray[Any], codes: IndexArray) -> Dim:
    """Order the values of a column; NaN and "" count as none."""
    if name == "SliceLocation" or name.startswith("ImagePositionPatient"):
        return Dim(name, *geometry.distinct(np.append(array.astype(float), np.nan)[codes]))
    used = np.zeros(len(array) + 1, bool)
    used[codes] = True
    used[-1] = False
    used[:-1] &= array != "" if array.dtype.kind == "U" else ~np.isnan(array)
    values, inverse = np.unique(array[used[:-1]], return_inverse=True)
    recoded = np.full(len(array) + 1, -1, np.intp)
    recoded[used] = inverse.reshape(-1)
    return Dim(name, values, recoded[codes])


def _component(frames: "Frames", dim: str, tag: str, part: str) -> Dim:
    _, values, codes = column_of(frames, tag)
    index = AXES.index(part) if part in AXES else int(part)
    width = max((len(value) for value in values if isinstance(value, tuple)), default=1)
    if values and index >= width:
        raise UnknownTagError(f"{dim!r}: {tag} holds {width} values; its components are {tag}_0 to {tag}_{width - 1}")
    return _ascending(dim, matrix(values, index + 1)[:, index], codes)


def _not_scalar(name: str, values: Sequence[object]) -> str:
    several = [value for value in values if isinstance(value, tuple)]
    if not several:
        return f"{name} holds {type(values[0]).__name__}, and a dim needs numbers or text: name another tag"
    instead = {"ImagePositionPatient": "'slice_location' or 'ImagePositionPatient_z'"}.get(name, repr(f"{name}_0"))
    return f"{name} holds {len(several[0])} numbers a frame, and a dim needs one: try {instead} in its place"
