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


class _ColumnBuilder:
    """Codes of one tag, as spans of rows."""

    __slots__ = ("index", "spans")

    def __init__(self) -> None:
        self.index: dict[Raw, int] = {}
        self.spans: list[tuple[int, int, int | list[int]]] = []

    def finish(self, count: int) -> Column:
        """Return the column of `count` rows."""
        values = list(self.index)
        start, size, code = self.spans[0]
        if size == count and not isinstance(code, list):
            return Column(values)
        codes = np.full(count, -1, np.int32)
        for start, size, code in self.spans:
            codes[start : start + size] = code
        constant = len(self.index) == 1 and bool((codes == 0).all())
        return Column(values, None if constant else codes)


class TableBuilder:
    """The growing table of one series."""

    def __init__(self) -> None:
        self.count = 0
        self.parts: list[tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]] = []
        self.columns: dict[int, _ColumnBuilder] = {}

    def add_rows(
        self, files: Sequence[int], numbers: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]
    ) -> int:
        """Append rows and return the first's number."""
        start = self.count
        self.parts.append((files, numbers, offsets, lengths))
        self.count += len(files)
        return start

    def add_constants(self, names: Sequence[int], start: int, size: int, raws: Sequence[Raw | None]) -> None:
        """Give `size` rows from `start` one value each of many tags; None gives nothing."""
        columns = self.columns
        for tag, raw in zip(names, raws, strict=True):
            if raw is None:
                continue
            column = columns.get(tag)
            if column is None:
                column = columns[tag] = _ColumnBuilder()
            index = column.index
            code = index.get(raw)
            if code is None:
                code = index[raw] = len(index)
            column.spans.append((start, size, code))

    def add_varying(self, tag: int, start: int, raws: Sequence[Raw | None]) -> None:
        """Give the rows from `start` one value each."""
        column = self.columns.get(tag)
        if column is None:
            column = self.columns[tag] = _ColumnBuilder()
        index = column.index
        codes = [-1 if raw is None else index.setdefault(raw, len(index)) for raw in raws]
        column.spans.append((start, len(codes), codes))

    def finish(self) -> Table:
        """Return the table."""
        columns = zip(*self.parts, strict=True)
        dtypes = (np.int32, np.int32, np.int64, np.int64)
        arrays = [
            np.concatenate([np.asarray(part, dtype) for part in column])
            for column, dtype in zip(columns, dtypes, strict=True)
        ]
        table = {tag: builder.finish(self.count) for tag, builder in self.columns.items()}
        return Table(arrays[0], arrays[1], arrays[2], arrays[3], table)
