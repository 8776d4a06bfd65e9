"""Which dims frames have, where nobody says: what a scientist would name, an acquisition counter as the last resort.

It chooses, from tags alone; how frames are arranged along what it chose is `stack.py`'s.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import tags
from .advice import COUNTERS, PARAMETERS, crowded, no_grid, varying, way_out
from .alike import SHARED, count_of, located, matrices
from .dims import (
    INSTANCE_UID,
    Dim,
    IndexArray,
    column_of,
    dim_of,
    grid_points,
    is_long,
    joint_codes,
    name_of,
    order_frames,
    rank_within,
    resolve,
)
from .errors import StackError, UnknownTagError
from .quantities import QUANTITY_DIMS, kinds, quantities

if TYPE_CHECKING:
    from .frames import Frames

DIRECTIONS: tuple[Any, ...] = (
    *("gradient_direction", "DiffusionGradientOrientation", "DiffusionDirectionality"),
    *(("GEMS_ACQU_01", 0x0019, element) for element in (0xBB, 0xBC, 0xBD)),
    ("SIEMENS MR HEADER", 0x0019, 0x0E),
)
"""What tells diffusion-weighted images apart but, as several numbers or in a frame of the scanner's, is no dim."""

VOLUME = "volume"
_MOST_DIMS = 4
_OF_SERIES = ("SeriesNumber", "SeriesDescription", "ProtocolName", "SeriesInstanceUID")
_NO_PARAMETER = re.compile(
    "Window|PixelValue|Pixel(Spacing|Padding|Aspect)|Rescale|RealWorld|LUT|Position|Location|Orientation|Comments"
    "|Number|Index|Identifier|Date|Time|UID|Sequence|Icon|Lossy|Image(Type|sIn)|FrameType|Bits|HighBit|Private|Creator"
)


@dataclass(frozen=True)
class Choice:
    """Dims that were chosen, and why, in plain text."""

    dims: tuple[Dim, ...]
    reason: str


@dataclass(frozen=True, eq=False)
class Column:
    """A tag or attribute that varies: its code for each frame, and its dim where it can be one."""

    name: str
    codes: IndexArray
    dim: Dim | None


def infer(
    frames: "Frames",
    *,
    missing: Literal["raise", "fill"] = "raise",
    duplicates: Literal["raise", "first"] = "raise",
) -> Choice:
    """Choose the dims of frames.

    Parameters
    ----------
    frames
        Table of n frames.
    missing, duplicates
        With "fill" or "first" also dims that leave less than half of the points without a frame, or give less than
        half of them several.

    Returns
    -------
    Choice
        ``slice`` and (a) the fewest tags that tell all frames apart and fill a grid, parameters before counters; (b)
        ``volume``, along which several parameters vary together; (c) the rank of a counter within each position. Or
        ``frame`` where no frame has a position.

    Raises
    ------
    StackError
        If nothing fits, with what was tried and what to type; or if frames cannot lie in one stack.
    """
    if not len(frames):
        raise StackError("there are no frames to stack; at least 1 was expected")
    if not located(frames).any():
        _check_alike(frames, "matrix sizes", matrices(frames))
        frame = resolve(frames, "frame")
        return Choice((frame,), "no frame has a position in the patient, so they are enumerated")
    for words, codes_of in SHARED.items():
        _check_alike(frames, words, codes_of(frames))
    slices = resolve(frames, "slice")
    if np.bincount(slices.codes).max() == 1:
        _check_alike(frames, "quantities (see ImageType)", quantities(frames))
        return Choice((slices,), f"each of the {len(frames)} frames has its own position")
    return _Search(frames, slices).choose(missing, duplicates)


def first_copies(frames: "Frames") -> IndexArray:
    """Return the rows of all frames but those that are there already, with the same SOPInstanceUID and number."""
    uids = frames.column(INSTANCE_UID)[1].astype(np.intp)
    # Frames without a UID are copies of nothing.
    nameless = np.where(uids < 0, np.arange(len(frames)), -1)
    instances = joint_codes(uids, nameless, frames.number.astype(np.intp))
    order = order_frames(frames)
    return np.sort(order[np.unique(instances[order], return_index=True)[1]])


def _check_alike(frames: "Frames", words: str, codes: IndexArray) -> None:
    if count_of(codes) > 1:
        sizes = sorted(np.unique(codes, return_counts=True)[1].tolist(), reverse=True)
        listed = ", ".join(map(str, sizes[:4])) + (", ..." if len(sizes) > 4 else "")
        raise StackError(f"{len(frames)} frames are in {len(sizes)} {words} ({listed} frames)")


class _Search:
    """The search for dims besides `slice`."""

    def __init__(self, frames: "Frames", slices: Dim) -> None:
        self.frames, self.slices = frames, slices
        self.kinds, self.quantities = kinds(frames), quantities(frames)
        self.counts = np.bincount(slices.codes)
        self.each = int(self.counts.max())
        self.is_even = bool(self.counts.min() == self.each)
        self.tried: list[str] = []

    def choose(self, missing: str, duplicates: str) -> Choice:
        """Return the first choice that fits, in the order of the rules."""
        found = self._complete() if self.is_even else None
        if found is None and missing == "fill":
            found = self._with_gaps()
        if found is None and duplicates == "first":
            found = self._with_copies()
        if found is None:
            raise StackError(self._explanation())
        return found

    # -- grids without gaps

    def _complete(self) -> Choice | None:
        parameters = self._columns([*PARAMETERS, *QUANTITY_DIMS, *DIRECTIONS])
        others = self._columns(self._other_tags(parameters))
        found = self._product(parameters) or self._counted(parameters, others) or self._volumes(parameters, others)
        if found is None and others:
            together = [*parameters, *others]
            found = self._product(together) or self._counted(together, []) or self._volumes(together, [])
        return found

    def _product(self, columns: Sequence[Column]) -> Choice | None:
        """Rule (a): the fewest parameters that tell all frames apart and fill a grid."""
        for dims in self._combinations(columns, least=1):
            if math.prod(len(dim.values) for dim in dims) == self.each and self._apart(dims):
                told = [dim.codes for dim in dims if dim.name in QUANTITY_DIMS]
                if _follows(self.quantities, told):
                    return Choice((self.slices, *dims), f"{_listed(dims)} {_tell(dims)} {self._frames_told()}")
        self.tried.append(f"the grids of {_names(columns)}" if columns else "parameters (none varies at a position)")
        return None

    def _counted(self, columns: Sequence[Column], others: Sequence[Column]) -> Choice | None:
        """Rules (a) and (c): few parameters, if any, and a counter, by its value or its rank at each position."""
        base = next((dims for dims in self._combinations(columns) if self._decides(dims, columns)), None)
        if base is None:
            return None
        cells, _ = grid_points((self.slices, *base), len(self.frames))
        counters = self._dims(self._counter_names())
        apart = [dim for dim in counters if len(np.unique(joint_codes(cells, dim.codes))) == len(cells)]
        left = self.each // math.prod(len(dim.values) for dim in base)
        for dim in apart:
            if len(dim.values) == left and self._consistent([*base, dim], others):
                dims = (*base, dim)
                return Choice((self.slices, *dims), f"{_listed(dims)} {_tell(dims)} {self._frames_told()}")
        slowly = [dim for dim in self._dims(PARAMETERS) if dim.name not in _named(base)]
        for dim in (*self._distinct(slowly, cells), *apart):
            ranks, most = rank_within(cells, dim)
            if most == left and self._consistent([*base, Dim(dim.name, np.arange(most), ranks)], others):
                ranked = Dim(dim.name, dim.values, dim.codes, ranked=True)
                reason = f"the rank of {dim.name} at each position tells {self._frames_told()}: its values fill no grid"
                return Choice((self.slices, *base, ranked), f"{_along(base)}{reason}")
        self.tried.append(
            f"{_along(base)}values and ranks of {', '.join(_named(counters)) or 'counters (none varies)'}"
        )
        return None

    def _volumes(self, columns: Sequence[Column], others: Sequence[Column]) -> Choice | None:
        """Rule (b): one dim along which several parameters vary together."""
        if not columns:
            return None
        self.tried.append(f"volumes by {_names(columns)} together")
        key = joint_codes(*(column.codes for column in columns))
        if count_of(self.kinds) > 1 or not self._is_volume_like(key):
            return None
        cells = joint_codes(self.slices.codes, key)
        repeats, by = self._repeats(cells)
        if repeats is None:
            return None
        together = joint_codes(key, repeats)
        first = np.full(int(together.max()) + 1, len(self.frames))
        np.minimum.at(first, together[order_frames(self.frames)], np.arange(len(self.frames)))
        volume = Dim(VOLUME, np.arange(len(first)), np.argsort(np.argsort(first))[together])
        if len(first) != self.each or not self._consistent([volume], others):
            return None
        again = f"; those that are alike in these are told apart by {by}" if by else ""
        verb = "varies" if len(columns) == 1 else "vary together"
        reason = f"{_names(columns)} {verb} along {len(first)} volumes, in the order of frames{again}"
        return Choice((self.slices, volume), reason)

    def _repeats(self, cells: IndexArray) -> tuple[IndexArray | None, str]:
        """Return the rank of each frame among those with the same parameters at its position, and what ranks them."""
        if len(np.unique(cells)) == len(cells):
            return np.zeros(len(cells), np.intp), ""
        for name in self._counter_names():
            dim = self._dim(name)
            if dim is not None and len(np.unique(joint_codes(cells, dim.codes))) == len(cells):
                groups = Dim(dim.name, dim.values, dim.codes)
                return rank_within(cells, groups)[0], dim.name
        return None, ""

    # -- grids with gaps, or several frames at a point

    def _with_gaps(self) -> Choice | None:
        """Return the dims that tell all frames apart and leave the fewest points without one, less than half."""
        best: tuple[int, Choice] | None = None
        for dims in self._loose():
            points = len(self.slices.values) * math.prod(len(dim.values) for dim in dims)
            if points <= 2 * len(self.frames) and (best is None or points < best[0]) and self._apart(dims):
                lacking = points - len(self.frames)
                reason = f"{_listed(dims)} {_tell(dims)} {self._frames_told()}, with {lacking} points left without one"
                best = points, Choice((self.slices, *dims), reason)
        return best[1] if best else None

    def _with_copies(self) -> Choice | None:
        """Return the fewest dims of which every point holds a frame, and less than half several."""
        for dims in self._loose(least=0):
            ids, points = grid_points((self.slices, *dims), len(self.frames))
            if points * 2 > len(ids) and points < len(ids) and len(np.unique(ids)) == points:
                doubled = int((np.bincount(ids) > 1).sum())
                if doubled * 2 <= points:
                    named = f"{_listed(dims)} {_tell(dims)}" if dims else "the positions tell"
                    reason = (
                        f"{named} {self._frames_told()}, but at {doubled} points there are several; the first counts"
                    )
                    return Choice((self.slices, *dims), reason)
        return None

    def _loose(self, least: int = 1) -> Iterator[tuple[Dim, ...]]:
        """Yield dims that keep kinds apart: parameters, a counter, both, and volumes that InstanceNumber counts."""
        parameters = [dim for dim in self._dims([*PARAMETERS, *QUANTITY_DIMS]) if len(dim.values) <= self.each]
        counters = self._dims(self._counter_names())
        counters = [*(dim for dim in counters if len(dim.values) <= 2 * self.each), *self._strides()]
        few = [dims for size in range(3) for dims in combinations(parameters, size)]
        for dims in (*few, *((*dims, counter) for dims in few for counter in counters)):
            told = [dim.codes for dim in dims if dim.name in QUANTITY_DIMS]
            if len(dims) >= least and _follows(self.kinds, told):
                yield dims

    def _strides(self) -> Iterator[Dim]:
        """Yield the volumes of a series in which InstanceNumber counts slices fast or slowly, also past gaps."""
        number = self._dim("InstanceNumber")
        if number is None or number.values.dtype.kind != "i":
            return
        counted = number.values[number.codes] - number.values[0]
        many = len(self.slices.values)
        for slice_of, volume_of in ((counted % many, counted // many), (counted // self.each, counted % self.each)):
            if _follows(slice_of, [self.slices.codes]) and _follows(self.slices.codes, [slice_of]):
                yield Dim(VOLUME, np.arange(int(volume_of.max()) + 1), volume_of.astype(np.intp))

    # -- what columns say

    def _columns(self, names: Sequence[Any]) -> list[Column]:
        """Return the tags and attributes that vary within positions, in each alike."""
        found = []
        for name in names:
            try:
                label, values, codes = column_of(self.frames, name)
            except UnknownTagError:
                continue
            if len(values) > 1 or (len(values) == 1 and (codes < 0).any()):
                whole = joint_codes(codes)
                if self._is_volume_like(whole) and not _follows(whole, [self.slices.codes]):
                    dim = dim_of(label, values, codes)
                    found.append(Column(label, whole, dim if dim is not None and (dim.codes >= 0).all() else None))
        return found

    def _dim(self, name: str) -> Dim | None:
        """Return a tag or attribute as a dim if every frame has it and it varies."""
        try:
            dim = resolve(self.frames, name)
        except (StackError, UnknownTagError):
            return None
        return dim if len(dim.values) > 1 and (dim.codes >= 0).all() else None

    def _dims(self, names: Sequence[str]) -> list[Dim]:
        return [dim for dim in map(self._dim, names) if dim is not None]

    def _counter_names(self) -> list[str]:
        """Return the counters, but for times of day where the day changes."""
        is_one_day = len(column_of(self.frames, "AcquisitionDate")[1]) <= 1
        pointers = column_of(self.frames, "DimensionIndexValues")[1]
        width = max((len(value) for value in pointers if isinstance(value, tuple)), default=0)
        indices = [f"DimensionIndexValues_{i}" for i in range(width)]
        names = [name for name in COUNTERS if is_one_day or name not in ("AcquisitionTime", "ContentTime")]
        return [*names[:-1], *indices, names[-1]]

    def _other_tags(self, known: Sequence[Column]) -> list[Any]:
        """Return standard tags that may be parameters nobody thought of, and what tells series apart."""
        names = {column.name for column in known} | {*PARAMETERS, *COUNTERS}
        found = [
            tag
            for tag in self.frames.tags()
            if not tag >> 16 & 1
            and tag >> 16 > 8
            and not _NO_PARAMETER.search(name := name_of(tag))
            and name not in names
            and tags.dictionary_vr(tag)[:2] not in ("UI", "DA", "TM", "DT", "SQ", "OB", "OW")
            and not is_long(self.frames, tag)
        ]
        return [*found, *_OF_SERIES]

    def _is_volume_like(self, codes: IndexArray) -> bool:
        """Say whether each position has the same values, each equally often."""
        table = codes[np.lexsort((codes, self.slices.codes))].reshape(-1, self.each)
        return bool((table == table[0]).all())

    def _combinations(self, columns: Sequence[Column], least: int = 0) -> Iterator[tuple[Dim, ...]]:
        dims = [column.dim for column in columns if column.dim is not None and len(column.dim.values) <= self.each]
        for size in range(least, _MOST_DIMS + 1):
            yield from combinations(dims, size)

    def _apart(self, dims: Sequence[Dim]) -> bool:
        ids, _ = grid_points((self.slices, *dims), len(self.frames))
        return len(np.unique(ids)) == len(ids)

    def _decides(self, dims: Sequence[Dim], columns: Sequence[Column]) -> bool:
        """Say whether all columns follow from dims, which occur in all combinations, equally often."""
        ids, points = grid_points(dims, len(self.frames))
        told = [dim.codes for dim in dims if dim.name in QUANTITY_DIMS]
        return (
            self.each % points == 0
            and len(np.unique(np.bincount(ids, minlength=points))) == 1
            and self._is_volume_like(ids)
            and all(_follows(column.codes, [ids]) for column in columns)
            and _follows(self.kinds, told)
        )

    def _consistent(self, dims: Sequence[Dim], others: Sequence[Column]) -> bool:
        """Say whether what else varies alike at each position follows from dims: else these mix what differs."""
        ids, _ = grid_points(dims, len(self.frames))
        return all(_follows(column.codes, [ids]) for column in others)

    def _distinct(self, dims: Sequence[Dim], cells: IndexArray) -> list[Dim]:
        """Return the dims of which no two frames of a cell share a value, and no frame a value with all positions."""
        return [
            dim
            for dim in dims
            if len(np.unique(joint_codes(cells, dim.codes))) == len(cells) and not self._is_volume_like(dim.codes)
        ]

    # -- words

    def _frames_told(self) -> str:
        each = f"{self.each} frames" if self.is_even else f"up to {self.each} frames"
        return f"the {each} at each of {len(self.slices.values)} positions apart"

    def _explanation(self) -> str:
        text = f"{no_grid(len(self.frames), [self.slices])}: {crowded(self.counts)}"
        single = int((self.counts == 1).sum())
        text += f", {single} one" if single else ""
        tried = f" Tried: {'; '.join(self.tried)}." if self.tried else ""
        spare = len(self.frames) - len(first_copies(self.frames))
        if spare:
            same = f"{spare} of them are copies, with the SOPInstanceUID of another"
            return f"{text}. {same}: try duplicates='first' to keep the first of each"
        gaps, copies = self._with_gaps(), self._with_copies()
        if gaps is not None:
            return f"{text}.{tried} {_sentence(gaps.reason)}: try missing='fill' to have NaN there"
        if copies is not None:
            return f"{text}.{tried} {_sentence(copies.reason)}: try duplicates='first'"
        return f"{text}.{tried} {varying(self.frames)}. {way_out(self.frames, [self.slices])}"


def _follows(codes: IndexArray, told: Sequence[IndexArray]) -> bool:
    """Say whether one code follows from others."""
    if not told:
        return count_of(codes) <= 1
    return count_of(joint_codes(*told, codes)) == count_of(joint_codes(*told))


def _named(dims: Sequence[Dim]) -> list[str]:
    return [dim.name for dim in dims]


def _names(columns: Sequence[Column]) -> str:
    return _joined([f"{column.name} ({count_of(column.codes)})" for column in columns])


def _listed(dims: Sequence[Dim]) -> str:
    return _joined([f"{dim.name} ({len(dim.values)})" for dim in dims])


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _tell(dims: Sequence[Dim]) -> str:
    return "tells" if len(dims) == 1 else "tell"


def _along(dims: Sequence[Dim]) -> str:
    return f"along {_listed(dims)} " if dims else ""


def _sentence(text: str) -> str:
    """Begin with a capital, but for the name of an attribute."""
    return text if "_" in text.split(" ", 1)[0] else text[:1].upper() + text[1:]
