"""Tables of raw columns while they grow: rows appended run by run, tables joined and cut.

They become `Frames` when somebody reads them; nothing is decoded here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import Column, Raw, concat_columns


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


# The growing column of one tag: the code of each raw value, and spans of rows as (start, size, one code or many).
_Spans = list[tuple[int, int, int | list[int]]]
_Growing = tuple[dict[Raw, int], _Spans]


class TableBuilder:
    """The growing table of one series."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]] = []
        self._columns: dict[int, _Growing] = {}

    def add_rows(
        self, files: Sequence[int], numbers: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]
    ) -> int:
        """Append rows and return the first's number."""
        start = self.count
        self._parts.append((files, numbers, offsets, lengths))
        self.count += len(files)
        return start

    def add_constants(self, names: Sequence[int], start: int, size: int, raws: Sequence[Raw | None]) -> None:
        """Give `size` rows from `start` one value each of many tags; None gives nothing."""
        get = self._columns.get
        for tag, raw in zip(names, raws, strict=True):
            if raw is None:
                continue
            column = get(tag)
            if column is None:
                self._columns[tag] = {raw: 0}, [(start, size, 0)]
                continue
            index, spans = column
            code = index.setdefault(raw, len(index))
            last = spans[-1]
            if last[2] == code and last[0] + last[1] == start:
                spans[-1] = last[0], last[1] + size, code
            else:
                spans.append((start, size, code))

    def add_varying(self, tag: int, start: int, raws: Sequence[Raw | None]) -> None:
        """Give the rows from `start` one value each."""
        index, spans = self._columns.setdefault(tag, ({}, []))
        codes = [-1 if raw is None else index.setdefault(raw, len(index)) for raw in raws]
        spans.append((start, len(codes), codes))

    def finish(self) -> Table:
        """Return the table, in the order of files and frames in them."""
        file, number, offset, length = (_joined(column) for column in zip(*self._parts, strict=True))
        order = None if (np.diff(file) > 0).all() else np.lexsort((number, file))
        columns = {tag: _finished(column, self.count, order) for tag, column in self._columns.items()}
        arrays = (
            (file, number, offset, length)
            if order is None
            else (part[order] for part in (file, number, offset, length))
        )
        file, number, offset, length = arrays
        return Table(file.astype(np.int32), number.astype(np.int32), offset, length, columns)


def _joined(parts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])


def _finished(column: _Growing, count: int, order: NDArray[np.intp] | None) -> Column:
    """Return the column of `count` rows, rearranged."""
    index, spans = column
    start, size, code = spans[0]
    if size == count and not isinstance(code, list):
        return Column(list(index))
    codes = np.full(count, -1, np.int32)
    for start, size, code in spans:
        codes[start : start + size] = code
    if len(index) == 1 and not codes.any():
        return Column(list(index))
    return Column(list(index), codes if order is None else codes[order])
