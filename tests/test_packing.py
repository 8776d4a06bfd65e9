"""Packing for the catalog: what goes in comes out, and damage is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom.columns import Ref
from xdicom.errors import CatalogError
from xdicom.packing import pack_integers, pack_raws, unpack_integers, unpack_raws

_REFS = st.builds(Ref, st.integers(0, 2**63), st.integers(0, 2**40))
_RAWS = st.lists(st.tuples(st.sampled_from(["", "CS", "OW", "staged"]), st.binary(max_size=30) | _REFS), max_size=6)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_integers_come_back(values: list[int]) -> None:
    """Any 64-bit integers, none and one too."""
    array = np.array(values, np.int64)
    assert unpack_integers(pack_integers(array), np.int64, len(values)).tolist() == values


@pytest.mark.parametrize(("top", "width"), [(127, 1), (128, 2), (32768, 4), (2**31, 8)])
def test_integers_take_the_smallest_width(top: int, width: int) -> None:
    """One kind byte and then as few bytes each as hold them."""
    assert len(pack_integers(np.array([0, top], np.int64))) == 1 + 2 * width


def test_integers_of_another_number_are_told() -> None:
    """A constant of four thousand million entries is not allocated for two rows."""
    with pytest.raises(CatalogError, match="damaged"):
        unpack_integers(pack_integers(np.full(2, 7, np.int64))[:9] + b"\xff\xff\xff\xff", np.int64, 2)


def test_constant_integers_take_one_number() -> None:
    """A million equal ones are a few bytes."""
    assert len(pack_integers(np.full(1_000_000, 7, np.int64))) == 13


@given(_RAWS)
def test_raw_values_come_back(raws: list[tuple[str, bytes | Ref]]) -> None:
    """VRs, bytes and references, in order."""
    assert unpack_raws(pack_raws(raws)) == raws


@pytest.mark.parametrize("blob", [b"", b"x", b"z1234", b"h123", b"=12"])
def test_damaged_integers_are_told(blob: bytes) -> None:
    """Junk is a damaged catalog, not an array."""
    with pytest.raises(CatalogError, match="damaged"):
        unpack_integers(blob, np.int64, 2)


@given(_RAWS.filter(bool), st.data())
def test_cut_raw_values_are_told(raws: list[tuple[str, bytes | Ref]], data: st.DataObject) -> None:
    """A blob that ends early never gives shorter values."""
    blob = pack_raws(raws)
    with pytest.raises(CatalogError, match="damaged"):
        unpack_raws(blob[: data.draw(st.integers(0, len(blob) - 1))])


def test_raw_values_of_absurd_number_are_told() -> None:
    """A count that the blob cannot hold allocates nothing."""
    with pytest.raises(CatalogError, match="damaged"):
        unpack_raws(b"\xff" * 8 + b"CS    ")
