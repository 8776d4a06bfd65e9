"""Tables of raw columns while they grow: rows appended run by run, tables joined and cut.

They become `Frames` when somebody reads them; nothing is decoded here.
"""

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import Column, Raw, Ref, concat_columns


class Table(NamedTuple):
    """The rows of one series; `file` indexes the list of paths that was scanned."""

    file: NDArray[np.int32]
    number: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    columns: Mapping[int, Column]

    def take(self, rows: NDArray[np.intp]) -> "Table":
        """Return some rows."""
        columns = {tag: taken for tag, column in self.columns.items() if (taken := column.take(rows)) is not None}
        return Table(self.file[rows], self.number[rows], self.offset[rows], self.length[rows], columns)

    @staticmethod
    def concat(tables: Sequence["Table"]) -> "Table":
        """Return the rows of several tables, one after the other."""
        if len(tables) == 1:
            return tables[0]
        columns = concat_columns([table.columns for table in tables], [len(table.file) for table in tables])
        return Table(
            np.concatenate([table.file for table in tables]),
            np.concatenate([table.number for table in tables]),
            np.concatenate([table.offset for table in tables]),
            np.concatenate([table.length for table in tables]),
            columns,
        )


Value = bytes | Ref | None
# The tags and VRs of elements; and rows that have one value each of all: the first, how many, and the values.
_Names = tuple[tuple[int, ...], tuple[str, ...]]
_Block = tuple[int, int, Sequence[Value]]
# Rows of one tag: the first, how many, the VR, and the value of all or one each; without a VR these have their own.
_Piece = tuple[int, int, str | None, Value | list[bytes] | list[Raw | None]]


class TableBuilder:
    """The growing table of one series; no row is given two values of one tag."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]] = []
        self._constant: dict[_Names, list[_Block]] = {}
        self._varying: dict[int, list[_Piece]] = {}

    def add_rows(
        self, files: Sequence[int], numbers: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]
    ) -> int:
        """Append rows and return the first's number."""
        start = self.count
        self._parts.append((files, numbers, offsets, lengths))
        self.count += len(files)
        return start

    def add_constants(
        self, names: tuple[int, ...], vrs: tuple[str, ...], start: int, size: int, values: Sequence[Value]
    ) -> None:
        """Give `size` rows from `start` one value each of many tags; None gives nothing."""
        self._constant.setdefault((names, vrs), []).append((start, size, values))

    def add_differing(self, tag: int, vr: str, start: int, values: list[bytes]) -> None:
        """Give the rows from `start` one value each, all of one VR."""
        self._varying.setdefault(tag, []).append((start, len(values), vr, values))

    def add_varying(self, tag: int, start: int, raws: Sequence[Raw | None]) -> None:
        """Give the rows from `start` one value each, or none, of any VR."""
        self._varying.setdefault(tag, []).append((start, len(raws), None, list(raws)))

    def finish(self) -> Table:
        """Return the table, in the order of files and frames in them."""
        file, number, offset, length = (_joined(column) for column in zip(*self._parts, strict=True))
        columns = self._columns()
        if not (np.diff(file) > 0).all():
            order = np.lexsort((number, file))
            file, number, offset, length = (part[order] for part in (file, number, offset, length))
            columns = {
                tag: column if column.codes is None else Column(column.values, column.codes[order])
                for tag, column in columns.items()
            }
        return Table(file.astype(np.int32), number.astype(np.int32), offset, length, columns)

    def _columns(self) -> dict[int, Column]:
        """Put the values of each tag together."""
        columns: dict[int, Column] = {}
        pieces: dict[int, list[_Piece]] = {}
        for names, blocks in self._constant.items():
            spans = _merged([block[:2] for block in blocks])
            is_all = spans == [(0, self.count)]
            for tag, vr, values in zip(*names, zip(*[block[2] for block in blocks], strict=True), strict=True):
                first = values[0]
                if values.count(first) < len(values):
                    each = [(*block[:2], vr, value) for block, value in zip(blocks, values, strict=True)]
                    pieces.setdefault(tag, []).extend(piece for piece in each if piece[3] is not None)
                elif is_all and first is not None:
                    columns[tag] = Column([(vr, first)])
                elif first is not None:
                    pieces.setdefault(tag, []).extend([(*span, vr, first) for span in spans])
        for tag, varying in self._varying.items():
            pieces.setdefault(tag, []).extend(varying)
        return columns | {tag: _column_of(found, self.count) for tag, found in pieces.items()}


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans of rows that follow each other."""
    joined: list[tuple[int, int]] = []
    for start, size in spans:
        if joined and sum(joined[-1]) == start:
            joined[-1] = joined[-1][0], joined[-1][1] + size
        else:
            joined.append((start, size))
    return joined


def _joined(parts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])


def _column_of(pieces: list[_Piece], count: int) -> Column:
    """Return the column of `count` rows."""
    pieces.sort(key=itemgetter(0))
    vrs = {piece[2] for piece in pieces}
    vr = vrs.pop() if len(vrs) == 1 else None
    listed: list[Hashable] = []
    for _, size, own, value in pieces:
        values = value if isinstance(value, list) else [value] * size
        listed += values if own == vr or own is None else [(own, each) for each in values]
    index: defaultdict[Hashable, int] = defaultdict(itertools.count().__next__, {None: -1})
    codes = np.fromiter(map(index.__getitem__, listed), np.int32, len(listed))
    if len(codes) < count:
        found, codes = codes, np.full(count, -1, np.int32)
        place = 0
        for start, size, _, _ in pieces:
            codes[start : start + size] = found[place : place + size]
            place += size
    del index[None]
    raws = list(index) if vr is None else [(vr, each) for each in index]
    return Column(raws) if len(raws) == 1 and not codes.any() else Column(raws, codes)  # type: ignore[arg-type]
