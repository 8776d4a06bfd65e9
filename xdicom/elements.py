"""Elements of many headers in explicit VR, column by column, so that what headers share is worked on once.

It knows no table of frames and no file: columns are made elsewhere, and where they go is not its business.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from .columns import Column, Known, Raw
from .explicit import CompressedPixelsError, to_explicit
from .keywords import concrete_vr

Header = dict[int, Known]
Columns = Mapping[int, Column]
Cells = Mapping[int, Mapping[int, Known | None]]

_SIGNED = 0x00280103


def explicit_columns(columns: Columns) -> dict[int, Column]:
    """Return columns in explicit VR, in the order of their tags.

    Parameters
    ----------
    columns
        By tag, all values known. Those without a VR come from implicit VR, and so do sequences without one.

    Raises
    ------
    BrokenFileError
        If a sequence can't be parsed.

    Notes
    -----
    Sequences with compressed pixels, such as an icon, are left out.
    """
    found = {}
    for tag, column in sorted(columns.items()):
        if all(vr and vr != "SQ" for vr, _ in column.values):
            found[tag] = column
        elif (converted := _converted(tag, column, columns)) is not None:
            found[tag] = converted
    return found


def _converted(tag: int, column: Column, columns: Columns) -> Column | None:
    """Return a column with each value that rows have, in the context that they have, converted once."""
    creator = columns.get(tag >> 16 << 16 | tag >> 8 & 0xFF) if tag >> 16 & 1 and tag & 0xFF00 else None
    context = [columns.get(_SIGNED), creator]
    numbers, rows = _combinations([column, *context])
    values: list[Known | None] = []
    for code, *codes in numbers:
        sign, owner = (
            each.values[number][1] if each is not None and number >= 0 else b""
            for each, number in zip(context, codes, strict=True)
        )
        is_signed = len(sign) == 2 and sign != b"\0\0"
        name = str(owner, "latin-1").strip(" \0") if isinstance(owner, bytes) else ""
        values.append(None if code < 0 else _explicit(tag, column.values[code], is_signed, name))  # type: ignore[arg-type]
    return column_of(values, rows)


def _explicit(tag: int, raw: Known, signed: bool, creator: str) -> Known | None:
    written, value = raw
    vr = written or concrete_vr(tag, creator=creator, signed=signed)
    if vr != "SQ":
        return vr, value
    with suppress(CompressedPixelsError):
        return vr, to_explicit(value, implicit=not written, signed=signed)
    return None


def _combinations(columns: Iterable[Column | None]) -> tuple[list[list[int]], NDArray[np.intp] | None]:
    """Return the codes that rows have together in some columns, and for each row which; None where all may have all.

    Where only the first column varies, or none does, its values are told in order, whether or not rows have them.
    """
    listed = list(columns)
    first, *others = listed
    varying = [column for column in others if column is not None and column.codes is not None]
    if first is not None and not varying:
        codes = None if first.codes is None else first.codes.astype(np.intp)
        rest = [-1 if column is None else 0 for column in others]
        count = 1 if codes is None else len(first.values)
        return [[code, *rest] for code in range(count)], codes
    size = next(len(column.codes) for column in varying if column.codes is not None)
    table = np.stack([np.full(size, -1) if column is None else column.all_codes(size) for column in listed], axis=1)
    pairs, inverse = np.unique(table, axis=0, return_inverse=True)
    return pairs.tolist(), inverse.reshape(-1)


def column_of(values: Sequence[Known | None], rows: NDArray[np.integer] | None = None) -> Column | None:
    """Return the column of some values: of each row its own, or by the number of it (-1: none); None if no row has one.

    Parameters
    ----------
    values
        None stands for nothing.
    rows
        For each row the number of its value; by default each value is that of one row.
    """
    index: dict[Raw, int] = {}
    codes = np.array([*(-1 if raw is None else index.setdefault(raw, len(index)) for raw in values), -1], np.int32)
    laid = codes[:-1] if rows is None else codes[rows]
    return Column(list(index), laid).take(np.arange(len(laid)))


def headers_of(columns: Columns, count: int) -> list[Header]:
    """Return the elements of each of `count` rows, in the order of columns; all values must be known."""
    shared: Header = {tag: column.values[0] for tag, column in columns.items()}  # type: ignore[misc]
    varying = [
        (tag, column.values, column.codes.tolist()) for tag, column in columns.items() if column.codes is not None
    ]
    headers = []
    for row in range(count):
        header = shared.copy()
        for tag, values, codes in varying:
            code = codes[row]
            if code >= 0:
                header[tag] = values[code]
            else:
                del header[tag]
        headers.append(header)
    return headers


def header_at(columns: Columns, row: int) -> Header:
    """Return the elements of one row."""
    codes = {tag: 0 if column.codes is None else int(column.codes[row]) for tag, column in columns.items()}
    return {tag: columns[tag].values[code] for tag, code in codes.items() if code >= 0}  # type: ignore[misc]


def values_at(column: Column | None, rows: NDArray[np.intp]) -> list[Known | None]:
    """Return the element of each of some rows, None where it has none."""
    if column is None:
        return [None] * len(rows)
    codes = [0] * len(rows) if column.codes is None else column.codes[rows].tolist()
    return [column.values[code] if code >= 0 else None for code in codes]  # type: ignore[misc]


def transformed(columns: Columns, wanted: Collection[int], change: Callable[[Header], Header]) -> dict[int, Column]:
    """Return columns in which some elements of each row became others, once for all rows that are alike in them.

    Parameters
    ----------
    columns
        The elements of all rows.
    wanted
        Tags of those that are given to `change`, and taken away.
    change
        Returns what takes their place.
    """
    part = {tag: column for tag, column in columns.items() if tag in wanted}
    kept = {tag: column for tag, column in columns.items() if tag not in wanted}
    varying = [column.codes for column in part.values() if column.codes is not None]
    if varying:
        _, first, inverse = np.unique(np.stack(varying, axis=1), axis=0, return_index=True, return_inverse=True)
        rows: NDArray[np.intp] | None = inverse.reshape(-1)
        made = [change(header_at(part, row)) for row in first.tolist()]
    else:
        rows, made = None, [change(header_at(part, 0))]
    for tag in dict.fromkeys(tag for header in made for tag in header):
        column = column_of([header.get(tag) for header in made], rows)
        if column is not None:
            kept[tag] = column
    return kept


def overwritten(columns: Columns, cells: Cells, count: int) -> dict[int, Column]:
    """Return columns with the elements of some of `count` rows replaced.

    Parameters
    ----------
    columns
        The elements of all rows.
    cells
        By tag and row the new element; None takes it away.
    """
    found = dict(columns)
    for tag, new in cells.items():
        column = found.pop(tag, Column([], np.full(count, -1, np.int32)))
        index = {raw: code for code, raw in enumerate(column.values)}
        codes = column.all_codes(count).copy()
        for row, raw in new.items():
            codes[row] = -1 if raw is None else index.setdefault(raw, len(index))
        laid = Column(list(index), codes).take(np.arange(count))
        if laid is not None:
            found[tag] = laid
    return found


def differences(
    new: Columns, old: Columns, rows: NDArray[np.intp], old_rows: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield the tags in which some rows differ, and which of the rows do.

    Parameters
    ----------
    new, old
        The elements of two tables.
    rows, old_rows
        Which row of the one is held against which of the other.
    """
    for tag in sorted({*new, *old}):
        one, other = new.get(tag), old.get(tag)
        if one and other and one.codes is other.codes is None and one.values[0] == other.values[0]:
            continue
        index: dict[Raw, int] = {}
        codes = [
            np.full(len(rows), -1, np.int32) if column is None else _codes_in(index, column, places)
            for column, places in ((one, rows), (other, old_rows))
        ]
        differ = codes[0] != codes[1]
        if differ.any():
            yield tag, differ


def _codes_in(index: dict[Raw, int], column: Column, rows: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return codes of the values of some rows that are the same for several columns."""
    recoded = np.array([*(index.setdefault(raw, len(index)) for raw in column.values), -1], np.int32)
    return np.full(len(rows), recoded[0]) if column.codes is None else recoded[column.codes[rows]]
