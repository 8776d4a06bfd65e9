"""Facts about xdicom.elements: headers of many rows, column by column, are what they are row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom.columns import Column
from xdicom.elements import (
    column_of,
    differences,
    explicit_columns,
    header_at,
    headers_of,
    overwritten,
    transformed,
)
from xdicom.explicit import explicit_values

SIGNED, PADDING, OWNER, OWNED = 0x00280103, 0x00280120, 0x00290010, 0x00291008
ITEM = b"\xfe\xff\x00\xe0"

RAWS = st.sampled_from([None, ("CS", b"A"), ("CS", b"B"), ("LO", b"A")])
TABLES = st.integers(1, 6).flatmap(
    lambda count: (
        st.dictionaries(st.integers(0x00080000, 0x00080005), st.lists(RAWS, min_size=count, max_size=count))
        .map(lambda table: {tag: raws for tag, raws in table.items() if any(raws)})
        .map(lambda table: (count, table))
    )
)


def columns_of(table):
    """Return the columns of lists of raw values."""
    return {tag: column_of(raws) for tag, raws in sorted(table.items())}


def rows_of(count, table):
    """Return the headers of lists of raw values, row by row."""
    return [{tag: raws[row] for tag, raws in sorted(table.items()) if raws[row]} for row in range(count)]


@given(TABLES)
def test_headers_of_columns(drawn):
    """Each row has the elements that its columns give it, in their order; one row alone is the same."""
    count, table = drawn
    columns = columns_of(table)
    headers = headers_of(columns, count)
    assert headers == rows_of(count, table)
    assert [list(header) for header in headers] == [sorted(header) for header in headers]
    assert [header_at(columns, row) for row in range(count)] == headers


@given(TABLES, st.sets(st.integers(0x00080000, 0x00080005)))
def test_transformed_is_what_each_row_gives(drawn, wanted):
    """A change that sees only some elements gives each row what it would give it alone, and is made once for equals."""
    count, table = drawn
    seen = []

    def change(header):
        seen.append(tuple(sorted(header.items())))
        return {0x00100010: ("PN", repr(sorted(header.items())).encode()), **dict(list(header.items())[1:])}

    made = headers_of(transformed(columns_of(table), wanted, change), count)
    assert len(seen) == len(set(seen))
    for header, before in zip(made, rows_of(count, table), strict=True):
        part = {tag: raw for tag, raw in before.items() if tag in wanted}
        rest = {tag: raw for tag, raw in before.items() if tag not in wanted}
        assert header == rest | change(part)


@given(TABLES, st.data())
def test_overwritten(drawn, data):
    """Cells take the place of what rows had; None takes an element away; all else stays."""
    count, table = drawn
    rows = st.dictionaries(st.integers(0, count - 1), RAWS)
    cells = data.draw(st.dictionaries(st.integers(0x00080003, 0x00080008), rows))
    expected = rows_of(count, table)
    for tag, new in cells.items():
        for row, raw in new.items():
            expected[row].pop(tag, None)
            if raw:
                expected[row][tag] = raw
    laid = overwritten(columns_of(table), cells, count)
    assert headers_of(laid, count) == expected
    assert all(len(set(column.values)) == len(column.values) for column in laid.values())


@given(TABLES, TABLES, st.data())
def test_differences(one, other, data):
    """The tags in which rows differ are told with the rows, whatever the codes of equal values."""
    places = st.lists(st.tuples(st.integers(0, one[0] - 1), st.integers(0, other[0] - 1)), min_size=1)
    rows = np.array(data.draw(places), np.intp)
    found = dict(differences(columns_of(one[1]), columns_of(other[1]), rows[:, 0], rows[:, 1]))
    headers = rows_of(*one), rows_of(*other)
    for tag in {*one[1], *other[1]}:
        differ = [headers[0][new].get(tag) != headers[1][old].get(tag) for new, old in rows.tolist()]
        assert found.get(tag, np.zeros(len(rows), bool)).tolist() == differ


@pytest.mark.parametrize("varies", [False, True])
def test_implicit_columns_get_the_vr_that_each_row_gives_them(varies):
    """What a VR depends on, the sign of the pixels and the creator of a block, counts row by row."""
    signs = [("US", b"\1\0"), ("US", b"\0\0" if varies else b"\1\0"), ("US", b"\1\0")]
    owners = [
        ("", b"SIEMENS CSA HEADER"),
        ("", b"SIEMENS CSA HEADER"),
        ("", b"ACME" if varies else b"SIEMENS CSA HEADER"),
    ]
    table = {SIGNED: signs, PADDING: [("", b"\2\0")] * 3, OWNER: owners, OWNED: [("", b"IMAGE"), None, ("", b"IMAGE")]}
    found = headers_of(explicit_columns(columns_of(table)), 3)
    assert found == [explicit_values(header, implicit=True) for header in rows_of(3, table)]
    assert (found[1][PADDING][0], found[2][OWNED][0]) == (("US", "UN") if varies else ("SS", "CS"))


def test_sequences_are_written_anew_unless_their_pixels_are_compressed():
    """Sequences come out in explicit VR with explicit lengths; one that holds compressed pixels is left out."""
    open_ended = ITEM + b"\xff\xff\xff\xff\x08\x00\x60\x00CS\x02\x00MR\xfe\xff\x0d\xe0\0\0\0\0"
    plain = ITEM + b"\x0a\0\0\0\x08\x00\x60\x00CS\x02\x00MR"
    compressed = ITEM + b"\xff\xff\xff\xff\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\xdd\xe0\0\0\0\0"
    implicit = ITEM + b"\x0a\0\0\0\x08\x00\x60\x00\x02\0\0\0MR"
    raws = [("SQ", open_ended), ("SQ", compressed), ("", implicit), None]
    found = explicit_columns({0x00081140: column_of(raws)})[0x00081140]
    assert [found.values[code] if code >= 0 else None for code in found.codes] == [
        ("SQ", plain),
        None,
        ("SQ", plain),
        None,
    ]
    assert explicit_columns({0x00880200: Column([("SQ", compressed)])}) == {}


def test_columns_that_need_nothing_are_as_they_were():
    """A column whose values have VRs, none of them a sequence, is not touched."""
    column = Column([("CS", b"A")], np.array([0, -1], np.int32))
    assert explicit_columns({0x00080060: column})[0x00080060] is column


def test_a_column_of_nothing():
    """Where no row has a value there is no column; where all have the same there are no codes."""
    assert column_of([None, None]) is None
    assert column_of([("CS", b"A")] * 3).codes is None
    assert column_of([("CS", b"A"), None], np.array([1, -1, 1])) is None
