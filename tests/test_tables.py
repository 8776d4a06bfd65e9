"""Tables while they grow: rows appended in any order, joined and cut."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom.columns import Column, LaidColumns, Raw, distinct_pairs
from xdicom.tables import Table, TableBuilder

CS = "CS"
_ROWS = st.lists(
    st.tuples(st.sampled_from([None, b"a", b"b"]), st.sampled_from([None, b"x", b"y", b"z"])), min_size=1, max_size=12
)


def values(table: Table, tag: int) -> list[Raw | None]:
    """Return the raw value of each row."""
    column = table.columns.get(tag)
    if column is None:
        return [None] * len(table.file)
    return [None if code < 0 else column.values[code] for code in column.all_codes(len(table.file)).tolist()]


def built(rows: list[tuple[bytes | None, bytes | None]], runs: list[int]) -> Table:
    """Return a table of two columns; runs tell where it is cut into groups."""
    builder = TableBuilder()
    bounds = sorted({0, len(rows), *(run % (len(rows) + 1) for run in runs)})
    for start, stop in itertools.pairwise(bounds):
        group = rows[start:stop]
        first = builder.add_rows(range(start, stop), [0] * len(group), [0] * len(group), [1] * len(group))
        for tag, column in ((1, [row[0] for row in group]), (2, [row[1] for row in group])):
            raws = [None if raw is None else (CS, raw) for raw in column]
            if len(set(raws)) == 1:
                builder.add_constants((tag,), (CS,), first, len(group), [None if raws[0] is None else raws[0][1]])
            else:
                builder.add_varying(tag, first, raws)
    return builder.finish()


@given(_ROWS, st.lists(st.integers(0, 12), max_size=4))
def test_rows_come_out_as_they_went_in(rows: list[tuple[bytes | None, bytes | None]], runs: list[int]) -> None:
    """However rows are grouped, each keeps its values."""
    table = built(rows, runs)
    for place in (0, 1):
        expected = [None if row[place] is None else (CS, row[place]) for row in rows]
        assert values(table, place + 1) == expected


@given(_ROWS, st.data())
def test_cut_and_joined_tables_keep_their_rows(
    rows: list[tuple[bytes | None, bytes | None]], data: st.DataObject
) -> None:
    """Taking rows and joining tables are the same as for lists."""
    table = built(rows, [])
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    joined = Table.concat([table, table.take(np.array(chosen))])
    expected = values(table, 2) + [values(table, 2)[i] for i in chosen]
    assert values(joined, 2) == expected


def test_rows_are_ordered_by_file_and_frame() -> None:
    """The order in which groups were found leaves no trace."""
    builder = TableBuilder()
    for files, raw in (([4, 9], b"b"), ([1, 5], b"a")):
        start = builder.add_rows(files, [0, 0], files, [1, 1])
        builder.add_constants((1,), (CS,), start, 2, [raw])
    table = builder.finish()
    assert table.file.tolist() == [1, 4, 5, 9]
    assert table.offset.tolist() == [1, 4, 5, 9]
    assert values(table, 1) == [(CS, b"a"), (CS, b"b"), (CS, b"a"), (CS, b"b")]


def test_constant_columns_have_no_codes() -> None:
    """One value for all rows is kept once."""
    table = built([(b"a", b"x"), (b"a", b"y"), (b"a", b"x")], [1, 2])
    assert table.columns[1].codes is None
    assert table.columns[2].codes is not None


def test_value_that_some_rows_lack_has_codes() -> None:
    """Absent is not the same as equal."""
    table = built([(b"a", None), (None, None)], [1])
    assert values(table, 1) == [(CS, b"a"), None]


@given(st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 70_000)), max_size=20))
def test_distinct_pairs(rows):
    """The pairs of two columns are those that some row has, ascending, and every row finds its own."""
    first, second = (np.array([row[i] for row in rows], np.int32) for i in (0, 1))
    pairs, inverse = distinct_pairs(first, second)
    assert pairs == sorted(set(rows))
    assert [pairs[i] for i in inverse.tolist()] == rows


def test_columns_laid_over_others():
    """Columns laid over others, twice, are those of a dict that was changed twice."""
    one, two, three = (Column([("LO", bytes([letter]))]) for letter in b"abc")
    laid = LaidColumns(LaidColumns({1: one, 2: two}, {2: None, 3: three}), {1: None, 2: one})
    assert dict(laid) == {2: one, 3: three}
    assert (len(laid), 1 in laid, 2 in laid, None in laid) == (2, False, True, False)
    with pytest.raises(KeyError):
        laid[1]
