"""Tables of raw columns while they grow: rows appended run by run, tables joined and cut.

They become `Frames` when somebody reads them; nothing is decoded here.
"""

from collections.abc import Iterable, Mapping, Sequence
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
# The growing column of one tag: the code of each raw value, and spans of rows as (start, size, one code or many).
_Spans = list[tuple[int, int, int | list[int]]]
_Growing = tuple[dict[Raw, int], _Spans]
# The tags and VRs of elements; and rows that have one value each of all: the first, how many, and the values.
_Names = tuple[tuple[int, ...], tuple[str, ...]]
_Block = tuple[int, int, Sequence[Value]]


class TableBuilder:
    """The growing table of one series."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]] = []
        self._varying: dict[int, list[tuple[int, Sequence[Raw | None]]]] = {}
        self._constant: dict[_Names, list[_Block]] = {}

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

    def add_varying(self, tag: int, start: int, raws: Sequence[Raw | None]) -> None:
        """Give the rows from `start` one value each."""
        self._varying.setdefault(tag, []).append((start, raws))

    def finish(self) -> Table:
        """Return the table, in the order of files and frames in them."""
        file, number, offset, length = (_joined(column) for column in zip(*self._parts, strict=True))
        order = None if (np.diff(file) > 0).all() else np.lexsort((number, file))
        columns = {tag: _finished(column, self.count, order) for tag, column in self._grown().items()}
        arrays = (
            (file, number, offset, length)
            if order is None
            else (part[order] for part in (file, number, offset, length))
        )
        file, number, offset, length = arrays
        return Table(file.astype(np.int32), number.astype(np.int32), offset, length, columns)

    def _grown(self) -> dict[int, _Growing]:
        """Put the values of each tag together."""
        grown: dict[int, _Growing] = {}
        for names, blocks in self._constant.items():
            spans = _merged([block[:2] for block in blocks])
            for tag, vr, values in zip(*names, zip(*[block[2] for block in blocks], strict=True), strict=True):
                first = values[0]
                if values.count(first) < len(values):
                    _add_each(grown.setdefault(tag, ({}, [])), blocks, vr, values)
                elif first is not None:
                    index, found = grown.setdefault(tag, ({}, []))
                    code = index.setdefault((vr, first), len(index))
                    found += [(start, size, code) for start, size in spans]
        for tag, parts in self._varying.items():
            index, found = grown.setdefault(tag, ({}, []))
            for start, raws in parts:
                codes = [-1 if raw is None else index.setdefault(raw, len(index)) for raw in raws]
                found.append((start, len(codes), codes))
        return grown


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans of rows that follow each other."""
    joined: list[tuple[int, int]] = []
    for start, size in spans:
        if joined and sum(joined[-1]) == start:
            joined[-1] = joined[-1][0], joined[-1][1] + size
        else:
            joined.append((start, size))
    return joined


def _add_each(column: _Growing, blocks: Iterable[_Block], vr: str, values: Iterable[Value]) -> None:
    """Give each block its own value of one tag."""
    index, spans = column
    for (start, size, _), value in zip(blocks, values, strict=True):
        if value is not None:
            spans.append((start, size, index.setdefault((vr, value), len(index))))


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
