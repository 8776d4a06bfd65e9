"""Siemens' CSA headers and protocol text, from bytes."""

import math
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaics import csa1, csa2, protocol

from xdicom.csa import csa_numbers, csa_values, protocol_slices
from xdicom.errors import BrokenFileError

TAGS = {"EchoLinePosition": ["32", "", ""], "SliceNormalVector": ["0.1", "-0.25", "1e-3"], "Empty": [], "Last": ["x"]}


@pytest.mark.parametrize("made", [csa1, csa2])
def test_wanted_tags_are_found(made: object) -> None:
    """Both versions give the items that are not empty, of the tags that were asked for."""
    found = csa_values(made(TAGS), ("SliceNormalVector", "EchoLinePosition", "Empty", "Absent"))  # type: ignore[operator]
    assert found == {"EchoLinePosition": ["32"], "SliceNormalVector": ["0.1", "-0.25", "1e-3"], "Empty": []}


def test_other_bytes_are_refused() -> None:
    """What is no CSA header says so."""
    with pytest.raises(BrokenFileError, match="the CSA header announces 538976288 tags, expected 1 to 1024"):
        csa_values(b" " * 200, ("A",))


def test_truncated_header_is_refused() -> None:
    """A header that ends within its tags says so."""
    with pytest.raises(BrokenFileError, match="the CSA header is truncated"):
        csa_values(csa2(TAGS)[:200], ("A",))


def test_lying_length_is_refused() -> None:
    """An item that is longer than the header says so, and nothing is allocated for it."""
    raw = bytearray(csa2({"A": ["1"]}))
    raw[16 + 84 + 4 : 16 + 84 + 8] = struct.pack("<i", 2**31 - 1)
    with pytest.raises(BrokenFileError, match="an item of the CSA header has 2147483647 bytes, of which 4 are there"):
        csa_values(bytes(raw), ("A",))


def test_negative_number_of_items_is_refused() -> None:
    """A number of items that makes no sense says so."""
    raw = bytearray(csa2({"A": ["1"]}))
    raw[16 + 76 : 16 + 80] = struct.pack("<i", -1)
    with pytest.raises(BrokenFileError, match="announces -1 items"):
        csa_values(bytes(raw), ("A",))


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, second: bool) -> None:
    """Whatever the bytes are, there is a dict or the one error."""
    raw = (b"SV10" if second else b"") + data
    with suppress(BrokenFileError):
        assert isinstance(csa_values(raw, ("A",)), dict)


@given(st.data())
def test_damaged_header_is_read_or_refused(data: st.DataObject) -> None:
    """A header with any one byte changed gives a dict or the one error."""
    raw = bytearray(csa2(TAGS))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BrokenFileError):
        assert isinstance(csa_values(bytes(raw), tuple(TAGS)), dict)


def test_numbers_of_items() -> None:
    """Items become numbers, junk NaN, nothing none."""
    assert csa_numbers(["1.5", "-2e3"]) == [1.5, -2000]
    assert math.isnan(csa_numbers(["x"])[0])
    assert csa_numbers(None) == []


def test_slices_of_a_protocol() -> None:
    """The centres are found in the text of a protocol, axes without a line are 0."""
    assert protocol_slices(protocol([[1.5, 0, -2], [0, 0, 0], [0, 3, 2e-5]])) == [(1.5, 0, -2), (0, 0, 0), (0, 3, 2e-5)]


def test_protocol_without_slices() -> None:
    """Other text has none, nor has a line outside of the protocol."""
    assert protocol_slices(b"sSliceArray.asSlice[0].sPosition.dTra = 1") == []
    assert protocol_slices(b"### ASCCONV BEGIN\n### ASCCONV END\nsSliceArray.asSlice[0].sPosition.dTra = 1") == []


def test_protocol_with_junk_has_no_slices() -> None:
    """A number that is none leaves no slices rather than a wrong one."""
    assert protocol_slices(protocol([[1, 2, 3], [1, 2, 4]]).replace(b"4", b"4_mm")) == []
