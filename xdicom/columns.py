"""Columns of raw values: what one tag is in each row of a table, every distinct value once.

Nothing is decoded here, and no file is known.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# A pseudo-tag: VR and tag of the pixel element, and the transfer syntax, also where the file names none.
ENCODING = -1
# In place of a VR in that pseudo-tag: the pixels are staged, and the rest is their dtype.
STAGED = "staged"
# A pseudo-tag of frames that are part of the picture in their file: first row and column, rows and columns.
TILE = -3
# In place of a VR in that pseudo-tag: the picture holds several frames and cannot be taken apart; and why not.
UNTILED = "untile"


def as_stored(tag: int) -> int:
    """Return the pseudo-tag under which a table keeps what the file says of its pixels where the column says else."""
    return ~tag - 0x100


class Ref(NamedTuple):
    """A value too long to be kept: where it lies in the row's own file, in bytes."""

    offset: int
    length: int


# A value as it stands in the file: VR as written ("" in implicit VR), and little-endian bytes or where these lie.
# A plain tuple: scanning makes one for every value that differs between files.
Raw = tuple[str, bytes | Ref]
Known = tuple[str, bytes]


@dataclass(frozen=True, eq=False)
class Column:
    """The raw values of one tag, each once.

    Attributes
    ----------
    values
        Distinct raw values.
    codes
        For each row the index of its value, -1 where it has none; None when all rows have the first.
    """

    values: Sequence[Raw]
    codes: NDArray[np.int32] | None = None

    def take(self, rows: NDArray[np.intp]) -> "Column | None":
        """Return the column of some rows, or None where no row has a value."""
        if self.codes is None:
            return self
        codes = self.codes[rows]
        used = np.unique(codes)
        if used.size == 0 or used[-1] < 0:
            return None
        if used.size == 1:
            return Column([self.values[used[0]]])
        has_none = used[0] < 0
        kept = used[1:] if has_none else used
        recoded = np.full(len(self.values) + 1, -1, np.int32)
        recoded[kept] = np.arange(len(kept), dtype=np.int32)
        return Column([self.values[i] for i in kept], recoded[codes])

    @property
    def is_uniform(self) -> bool:
        """Whether all rows have one value, without a look at any file: a long one may differ from file to file."""
        return self.codes is None and not isinstance(self.values[0][1], Ref)

    def all_codes(self, count: int) -> NDArray[np.int32]:
        """Return one code a row, also where all are the same."""
        return np.zeros(count, np.int32) if self.codes is None else self.codes


def distinct_pairs(
    first: NDArray[np.integer], second: NDArray[np.integer]
) -> tuple[list[tuple[int, int]], NDArray[np.intp]]:
    """Return the pairs of codes that some row has, ascending, and which of them each row has."""
    if not len(first):
        return [], np.zeros(0, np.intp)
    if (first == first[0]).all() and (second == second[0]).all():
        return [(int(first[0]), int(second[0]))], np.zeros(len(first), np.intp)
    low = int(second.min())
    width = int(second.max()) - low + 1
    keys, inverse = np.unique(first.astype(np.int64) * width + (second - low), return_inverse=True)
    ones, others = np.divmod(keys, width)
    return list(zip(ones.tolist(), (others + low).tolist(), strict=True)), inverse.reshape(-1)


class LaidColumns(Mapping[int, Column]):
    """Columns with others laid over some of them, of which None takes one away; none is unpacked or copied for that."""

    def __init__(self, columns: Mapping[int, Column], changed: Mapping[int, Column | None]) -> None:
        self._below: Mapping[int, Column] = columns
        self._changed: dict[int, Column | None] = dict(changed)
        if type(columns) is LaidColumns:
            self._below, self._changed = columns._below, {**columns._changed, **changed}

    def __getitem__(self, tag: int) -> Column:
        if tag not in self._changed:
            return self._below[tag]
        column = self._changed[tag]
        if column is None:
            raise KeyError(tag)
        return column

    def __contains__(self, tag: object) -> bool:
        if not isinstance(tag, int) or tag not in self._changed:
            return tag in self._below
        return self._changed[tag] is not None

    def __iter__(self) -> Iterator[int]:
        yield from (tag for tag in self._below if tag not in self._changed)
        yield from (tag for tag, column in self._changed.items() if column is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def concat_columns(tables: Sequence[Mapping[int, Column]], counts: Sequence[int]) -> dict[int, Column]:
    """Return the columns of tables laid one after the other."""
    joined = {}
    for tag in dict.fromkeys(tag for table in tables for tag in table):
        index: dict[Raw, int] = {}
        parts = []
        for table, count in zip(tables, counts, strict=True):
            column = table.get(tag)
            if column is None:
                parts.append(np.full(count, -1, np.int32))
                continue
            recoded = np.array([index.setdefault(raw, len(index)) for raw in column.values] + [-1], np.int32)
            parts.append(recoded[column.all_codes(count)])
        codes = np.concatenate(parts)
        joined[tag] = Column(list(index), None if len(index) == 1 and not (codes < 0).any() else codes)
    return joined
