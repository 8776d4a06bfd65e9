"""Frames along named dims: an N-D grid of them with its coordinates, or the reason why there is none.

It reads no pixels and makes no arrays of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from .advice import alternative, crowded, no_grid, shown, varying, verb, way_out
from .dims import (
    Dim,
    IndexArray,
    grid_points,
    order_frames,
    rank_within,
    resolve,
)
from .errors import StackError

if TYPE_CHECKING:
    from .dims import DimLike
    from .frames import Frames

__all__ = ["Grid", "arrange", "check_options", "fewest_dims", "order_frames", "stack"]

MOST_POINTS = 2**24
_MOST_SHOWN = 3

Coords = dict[str, tuple[tuple[str, ...], NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Grid:
    """Frames arranged along dims.

    Attributes
    ----------
    dims
        Names of the dims, slowest first.
    frames
        For each grid point the row of its frame in the table, -1 where there is none; as many axes as dims.
    coords
        Dims and values of the coordinates that the dims bring: their own, and values that were ranked.
    reason
        Why these dims, where they were chosen and not asked for.
    """

    dims: tuple[str, ...]
    frames: IndexArray
    coords: Coords
    reason: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many points the grid has along each dim."""
        return self.frames.shape


def stack(
    frames: "Frames",
    dims: "Sequence[DimLike] | str",
    *,
    missing: Literal["raise", "fill"] = "raise",
    duplicates: Literal["raise", "first"] = "raise",
) -> Grid:
    """Arrange frames along dims, each ascending.

    Parameters
    ----------
    frames
        Table of n frames.
    dims
        Tags or lower_case attributes; also "slice", "frame", components and ranks, see `xdicom.dims.resolve`.
        Slice positions are equal within 1e-3 mm, other values exactly.
    missing
        Whether a grid point without a frame is an error, or a point with -1.
    duplicates
        Whether several frames at a grid point are an error, or the first of them is kept.

    Returns
    -------
    Grid
        A dim is named by the keyword or lower_case name. A dim whose values fill no grid but are equally many at each
        position is ranked within each position: its name gets "_index", and its values are a coordinate along several
        dims.

    Raises
    ------
    StackError
        If a frame lacks a value, or points hold several frames or none; the text says what to type.
    UnknownTagError
        If there is no such tag or attribute.
    """
    check_options(missing, duplicates)
    if not len(frames):
        raise StackError("there are no frames to stack; at least 1 was expected")
    asked = [resolve(frames, dim) for dim in ([dims] if isinstance(dims, str) else dims)]
    return arrange(frames, asked, missing=missing, duplicates=duplicates)


def arrange(
    frames: "Frames",
    asked: Sequence[Dim],
    *,
    missing: Literal["raise", "fill"] = "raise",
    duplicates: Literal["raise", "first"] = "raise",
) -> Grid:
    """Arrange frames along dims whose values are known; see `stack`."""
    _check_values(frames, asked)
    ranked = _rank_asked(asked, len(frames))
    ids, points = grid_points(ranked, len(frames))
    used, counts = np.unique(ids, return_counts=True)
    rows = np.arange(len(frames))
    if counts.max() > 1:
        if duplicates == "raise":
            raise StackError(f"{no_grid(len(frames), asked)}: {crowded(counts)}. {way_out(frames, ranked)}")
        order = order_frames(frames)
        rows = order[np.unique(ids[order], return_index=True)[1]]
    if len(used) < points and missing == "raise":
        ranked = _rank_one(ranked, rows) or _refuse_gaps(asked, ranked, ids)
        ids, points = grid_points(ranked, len(frames))
    if points > MOST_POINTS:
        raise StackError(f"{no_grid(len(frames), asked)}: it has {points} points. Name other dims, or fewer")
    table = np.full(points, -1, np.intp)
    table[ids[rows]] = rows
    return _grid(ranked, table.reshape([len(dim.values) for dim in ranked]), asked)


def fewest_dims(codes: IndexArray) -> tuple[tuple[int, ...], IndexArray]:
    """Find the axes that codes on a grid depend on.

    Parameters
    ----------
    codes
        One code for each grid point; -1 where there is no frame, which agrees with any.

    Returns
    -------
    axes : tuple of int
        The axes that are needed, ascending.
    codes : ndarray
        The codes along these axes.
    """
    axes = list(range(codes.ndim))
    complete = bool((codes >= 0).all())
    for axis in range(codes.ndim):
        at = axes.index(axis)
        highest = codes.max(axis=at)
        compared = np.expand_dims(highest, at) == codes
        if (compared if complete else compared | (codes < 0)).all():
            axes.remove(axis)
            codes = highest
    return tuple(axes), codes


def check_options(missing: str, duplicates: str) -> None:
    """Refuse what `missing` and `duplicates` cannot be.

    Raises
    ------
    ValueError
        With what they can be.
    """
    for name, value, allowed in (("missing", missing, "fill"), ("duplicates", duplicates, "first")):
        if value not in ("raise", allowed):
            raise ValueError(f"{name}={value!r}; expected 'raise' or {allowed!r}")


def _check_values(frames: "Frames", dims: Sequence[Dim]) -> None:
    """Refuse dims that some frames have no value for, and dims named twice."""
    names = [dim.name for dim in dims]
    for i, dim in enumerate(dims):
        if dim.name in names[:i]:
            raise StackError(f"{dim.name} is named twice in dims={tuple(names)}; name it once")
        lacking = int((dim.codes < 0).sum())
        if not lacking:
            continue
        text = f"{lacking} of {len(frames)} frames have no {dim.name}"
        others = [other for other in alternative(frames, dim.name) if other not in names]
        if others:
            asked = [*map(shown, dims[:i]), "?", *map(shown, dims[i + 1 :])]
            tries = [f"dims={tuple(other if name == '?' else name for name in asked)}" for other in others]
            raise StackError(f"{text}: try {' or '.join(tries)}")
        raise StackError(f"{text}. {varying(frames)}: try dims without {dim.name}")


def _rank_asked(dims: Sequence[Dim], count: int) -> list[Dim]:
    """Put ranks in place of the values of dims that were asked for with "_index"."""
    done = [dim for dim in dims if not dim.ranked]
    result = list(dims)
    for i, dim in enumerate(dims):
        if dim.ranked:
            ids, _ = grid_points(done, count)
            ranks, most = rank_within(ids, dim)
            if not most:
                others = ", ".join(other.name for other in done)
                raise StackError(
                    f"not every ({others}) holds equally many values of {dim.name}, so they have no common rank: "
                    f"try {dim.name!r} in place of {shown(dim)!r}, or another tag"
                )
            result[i] = Dim(dim.name, np.arange(most), ranks, ranked=True)
            done.append(result[i])
    return result


def _rank_one(dims: Sequence[Dim], rows: IndexArray) -> list[Dim] | None:
    """Put ranks in place of the values of the last dim for which that fills the grid."""
    for i in reversed(range(len(dims))):
        dim = dims[i]
        if dim.is_position or dim.ranked:
            continue
        others = [*dims[:i], *dims[i + 1 :]]
        ids, points = grid_points(others, len(dim.codes))
        ranks, most = rank_within(ids[rows], Dim(dim.name, dim.values, dim.codes[rows]))
        if most and points * most == len(rows):
            codes = np.zeros_like(dim.codes)
            codes[rows] = ranks
            return [*dims[:i], Dim(dim.name, np.arange(most), codes, ranked=True), *dims[i + 1 :]]
    return None


def _grid(dims: Sequence[Dim], table: IndexArray, asked: Sequence[Dim]) -> Grid:
    names = tuple(map(shown, dims))
    coords: Coords = {name: ((name,), dim.values) for name, dim in zip(names, dims, strict=True)}
    for dim, source in zip(dims, asked, strict=True):
        if dim.ranked:
            codes = np.append(source.codes, -1)[table]
            axes, fewest = fewest_dims(codes)
            coords[dim.name] = (tuple(names[axis] for axis in axes), _look_up(source.values, fewest))
    return Grid(names, table, coords)


def _look_up(values: NDArray[Any], codes: IndexArray) -> NDArray[Any]:
    """Return the values of codes, NaN or "" for the code -1."""
    if (codes < 0).any():
        values = np.append(values, "" if values.dtype.kind == "U" else np.nan)
    found: NDArray[Any] = values[codes]
    return found


def _refuse_gaps(asked: Sequence[Dim], dims: Sequence[Dim], ids: IndexArray) -> NoReturn:
    """Raise the error that says how many points have no frame, and where the first are."""
    used = np.unique(ids)
    points = grid_points(dims, len(ids))[1]
    lacking = points - len(used)
    # Among the first m + k points at most m have a frame, so that k gaps are there, if there are as many.
    first = np.setdiff1d(np.arange(min(points, len(used) + _MOST_SHOWN)), used)[:_MOST_SHOWN]
    where = ", ".join(_at(dims, index) for index in first.tolist()) + (", ..." if lacking > len(first) else "")
    shape = "x".join(str(len(dim.values)) for dim in dims)
    raise StackError(
        f"{no_grid(len(ids), asked)}: {lacking} of {shape} positions {verb('hold', lacking)} no frame, at {where}. "
        "Try missing='fill' to have NaN there"
    )


def _at(dims: Sequence[Dim], point: int) -> str:
    """Name a grid point by its coordinates."""
    parts: list[str] = []
    for dim in reversed(dims):
        point, index = divmod(point, len(dim.values))
        parts.insert(0, f"{shown(dim)}={dim.values[index].item()!r}")
    return f"({', '.join(parts)})"
