"""Stored values to real-world values and back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from xdicom.colour import Palette
from xdicom.errors import PixelError
from xdicom.formats import EXPLICIT_LITTLE, PixelFormat, stored_dtype, stored_limits
from xdicom.rescale import RESCALE_TAGS, Rescale, rescale_of, to_stored, to_values, value_dtype

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)


def integers(bits: int = 16, signed: bool = False) -> PixelFormat:
    """Return the format of integers of some bits."""
    return PixelFormat(EXPLICIT_LITTLE, 4, 4, bits_allocated=64, bits_stored=bits, high_bit=bits - 1, signed=signed)


def all_stored(fmt: PixelFormat, count: int = 4096) -> np.ndarray:
    """Return stored values over the whole range of a format, its ends included."""
    low, high = stored_limits(fmt)
    return np.unique(np.linspace(low, high, count).astype("i8").clip(low, high)).astype(stored_dtype(fmt))


def header(**values: Any) -> Any:
    """Return the function of a tag that readers ask."""
    return {tag_for_keyword(name): value for name, value in values.items()}.get


# -- from headers


def test_slope_and_intercept() -> None:
    """Slope and intercept come as floats, whatever the header has."""
    assert rescale_of(header(RescaleSlope=2, RescaleIntercept=-1024.0)) == Rescale(2.0, -1024.0)


def test_absent_is_identity() -> None:
    """Without slope and intercept the real-world values are the stored ones."""
    assert rescale_of(header()).is_identity


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("RescaleSlope", float("nan"), "RescaleSlope is nan"),
        ("RescaleSlope", float("inf"), "RescaleSlope is inf"),
        ("RescaleSlope", 0.0, "RescaleSlope is 0"),
        ("RescaleSlope", "", "RescaleSlope is present and empty"),
        ("RescaleSlope", (1.0, 2.0), r"RescaleSlope is \(1.0, 2.0\)"),
        ("RescaleSlope", "1,5", "RescaleSlope is '1,5'"),
        ("RescaleIntercept", "", "RescaleIntercept is present and empty"),
        ("RescaleIntercept", "x", "RescaleIntercept is 'x'"),
    ],
)
def test_unusable_rescale_says_which(name: str, value: object, text: str) -> None:
    """What is no finite number raises, names the attribute and the way to the stored values."""
    with pytest.raises(PixelError, match=f"{text}.*rescale=False"):
        rescale_of(header(**{name: value}))


def test_only_rescale_tags_are_asked_for() -> None:
    """RESCALE_TAGS lists every tag that decides the rescale."""
    asked: set[int] = set()
    rescale_of(lambda tag: asked.add(tag))  # type: ignore[func-returns-value]
    assert asked <= set(RESCALE_TAGS)


def test_equal_rescales_are_one_key() -> None:
    """1 and 1.0 make the same rescale, also to look at."""
    assert repr(Rescale(1, -1024)) == repr(Rescale(1.0, -1024.0))


def lut_item(first: int = 2) -> dict[str, object]:
    """Return a Modality LUT of four entries."""
    return {"LUTDescriptor": (4, first, 16), "LUTData": np.array([5, 60, 700, 8000], "<u2").tobytes()}


def test_modality_lut_is_applied_instead() -> None:
    """A Modality LUT counts more than slope and intercept, and gives what pydicom gives."""
    rescale = rescale_of(header(ModalityLUTSequence=[lut_item()], RescaleSlope=2.0))
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 2, 16], [5, 60, 700, 8000]
    item["LUTData"].VR = "US"
    ds = Dataset()
    ds.ModalityLUTSequence = [item]
    stored = np.arange(10, dtype="u2")
    np.testing.assert_array_equal(to_values(stored, integers(), rescale), apply_modality_lut(stored, ds))


def test_modality_lut_of_signed_pixels_starts_below_zero() -> None:
    """Its first entry may belong to a negative stored value."""
    rescale = rescale_of(header(ModalityLUTSequence=[lut_item(65535)], PixelRepresentation=1))
    stored = np.array([-3, -1, 0], "i2")
    assert to_values(stored, integers(signed=True), rescale).tolist() == [5, 5, 60]


def test_empty_modality_lut_raises() -> None:
    """A sequence item without a table raises."""
    with pytest.raises(PixelError, match="ModalityLUTSequence"):
        rescale_of(header(ModalityLUTSequence=[{}]))


# -- dtype of values


@pytest.mark.parametrize(
    ("fmt", "rescales", "dtype"),
    [
        (integers(12), [], "u2"),
        (integers(12), [Rescale()], "u2"),
        (integers(12), [Rescale(1, -1024)], "i2"),
        (integers(16, signed=True), [Rescale(1, -1024)], "i4"),
        (integers(8), [Rescale(16, 0)], "u2"),
        (integers(8), [Rescale(-1, 255)], "u1"),
        (integers(8), [Rescale(1, 0), Rescale(1, -1)], "i2"),
        (integers(64), [Rescale(2, 0)], "f8"),
        (integers(16), [Rescale(0.684, 0)], "f4"),
        (integers(16), [Rescale(1, 0), Rescale(0.5, 0)], "f4"),
        (integers(16), [Rescale(1, 0.5)], "f4"),
        (integers(16), [Rescale(1e-3, 1e6)], "f8"),
        (integers(32), [Rescale(0.684, 0)], "f8"),
        (integers(16), [Rescale(1e-42, 0)], "f8"),
        (integers(16), [Rescale(1e36, 0)], "f8"),
        (integers(16), [Rescale(padding=0)], "f4"),
        (integers(32), [Rescale(padding=0)], "f8"),
        (integers(16), [Rescale(lut=(0, 8, b"\1\2"))], "u1"),
        (PixelFormat(EXPLICIT_LITTLE, 4, 4, kind="float"), [Rescale()], "f4"),
        (PixelFormat(EXPLICIT_LITTLE, 4, 4, kind="float"), [Rescale(2, 0)], "f8"),
        (PixelFormat(EXPLICIT_LITTLE, 4, 4, palette=Palette(0, 8, b"", b"", b"")), [Rescale(2, 5)], "u1"),
    ],
)
def test_value_dtype(fmt: PixelFormat, rescales: list[Rescale], dtype: str) -> None:
    """Integers where the rescale is integral, else float32, float64 where float32 isn't enough."""
    assert value_dtype(fmt, rescales) == np.dtype(dtype)


@given(st.integers(1, 32), st.booleans(), FINITE.filter(lambda x: abs(x) > 1e-9), FINITE)
def test_stored_values_come_back_from_real_world_ones(bits: int, signed: bool, slope: float, intercept: float) -> None:
    """In the dtype that is chosen the stored values come back, unless float64 itself can't tell them apart."""
    fmt, rescale = integers(bits, signed), Rescale(slope, intercept)
    stored = all_stored(fmt, 200)
    bound = max(abs(float(x)) for x in stored_limits(fmt)) * abs(slope) + abs(intercept)
    if bound < abs(slope) * 2**48:
        np.testing.assert_array_equal(to_stored(to_values(stored, fmt, rescale), fmt, rescale), stored)


def test_problem_raises_for_values_only() -> None:
    """A rescale that can't be used raises its own text when real-world values are asked for."""
    with pytest.raises(PixelError, match="RescaleSlope is 0"):
        value_dtype(integers(), [Rescale(problem="RescaleSlope is 0")])
    with pytest.raises(PixelError, match="RescaleSlope is 0"):
        to_values(np.zeros(3, "u2"), integers(), Rescale(problem="RescaleSlope is 0"))


# -- arithmetic


@given(st.integers(1, 32), st.booleans(), st.integers(-5000, 5000).filter(bool), st.integers(-(10**6), 10**6))
def test_integral_rescale_is_exact(bits: int, signed: bool, slope: int, intercept: int) -> None:
    """Integers are computed exactly, whatever wraps on the way."""
    fmt = integers(bits, signed)
    stored = all_stored(fmt, 50)
    values = to_values(stored, fmt, Rescale(slope, intercept))
    assert values.dtype.kind in "iu"
    assert [int(v) for v in values] == [int(s) * slope + intercept for s in stored]


@given(st.integers(1, 32), st.booleans(), FINITE, FINITE)
def test_float32_is_float64_rounded_once(bits: int, signed: bool, slope: float, intercept: float) -> None:
    """Float32 results equal those of float64 rounded."""
    fmt = integers(bits, signed)
    stored = all_stored(fmt, 200)
    slope = slope or 1.0
    expected = (stored.astype("f8") * slope + intercept).astype("f4")
    np.testing.assert_array_equal(to_values(stored, fmt, Rescale(slope, intercept), np.float32), expected)


@pytest.mark.parametrize("slope", [1, 2, 0.5, 0.1, 3.774114])
def test_large_frames_are_computed_in_blocks(slope: float) -> None:
    """Blocks neither miss nor repeat a row."""
    fmt, rescale = integers(), Rescale(slope, -7.5)
    stored = np.random.default_rng(0).integers(0, 65536, (1025, 257)).astype("u2")
    expected = (stored * np.float64(slope) - 7.5).astype("f4")
    np.testing.assert_array_equal(to_values(stored, fmt, rescale), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4"])
def test_any_dtype_that_holds_the_values(dtype: str) -> None:
    """Values can be had in a wider dtype than the smallest."""
    found = to_values(np.array([0, 4095], "u2"), integers(12), Rescale(1, -1024), dtype)
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), [-1024, 3071])


def test_narrower_integers_hold_what_is_there() -> None:
    """An integer dtype that can't hold what headers allow is fine while it holds the values that are there."""
    fmt, rescale = integers(16, signed=True), Rescale(1, -1024)
    assert to_values(np.array([0, 3000], "i2"), fmt, rescale, np.int16).tolist() == [-1024, 1976]
    with pytest.raises(PixelError, match="values -33792 to 1976 do not fit int16"):
        to_values(np.array([-32768, 3000], "i2"), fmt, rescale, np.int16)


def test_integers_cannot_hold_fractions() -> None:
    """Asking for integers of a fractional rescale raises."""
    with pytest.raises(PixelError, match="no integers"):
        to_values(np.zeros(3, "u2"), integers(), Rescale(0.5), np.int16)


def test_palette_colours_are_not_rescaled() -> None:
    """RGB of a palette stays as it is, whatever the rescale."""
    fmt = PixelFormat(EXPLICIT_LITTLE, 4, 4, palette=Palette(0, 8, b"", b"", b""))
    assert to_values(np.array([3, 255], "u1"), fmt, Rescale(2, 5)).tolist() == [3, 255]


def test_padding_reads_as_nan() -> None:
    """The padding value becomes NaN, the rest is rescaled."""
    found = to_values(np.array([0, 1, 2], "u2"), integers(), Rescale(2, 1, padding=0))
    np.testing.assert_array_equal(found, [np.nan, 3, 5])
    with pytest.raises(PixelError, match="NaN, which int32 cannot hold"):
        to_values(np.zeros(3, "u2"), integers(), Rescale(padding=0), np.int32)


# -- and back


@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "i8", "u8", "f4", "f8"])
def test_small_integers_are_stored_as_they_are(dtype: str) -> None:
    """Labels of any dtype are stored identical without a rescale."""
    found = to_stored(np.array([0, 1], dtype), integers(), Rescale())
    assert (found.dtype, found.tolist()) == (np.dtype("u2"), [0, 1])


def test_values_are_rounded_and_clipped() -> None:
    """The nearest stored value is taken, within what BitsStored holds."""
    fmt = integers(8)
    assert to_stored(np.array([-9.0, 0.26, 0.74, 1e9]), fmt, Rescale(0.5)).tolist() == [0, 1, 1, 255]
    assert to_stored(np.array([-9, 300], "i4"), fmt, Rescale()).tolist() == [0, 255]


def test_error_is_at_most_half_a_step() -> None:
    """Values within the range come back within half a slope."""
    fmt, rescale = integers(), Rescale(1e-3, -20.0)
    values = np.random.default_rng(1).uniform(-20, 45, 1000)
    back = to_values(to_stored(values, fmt, rescale), fmt, rescale, np.float64)
    assert np.abs(back - values).max() <= 0.5e-3 * (1 + 1e-9)


def test_round_trip_is_stable() -> None:
    """What was read once is stored and read again identical."""
    fmt, rescale = integers(), Rescale(0.0371, -20.0)
    once = to_values(to_stored(np.random.default_rng(1).uniform(-20, 45, 1000), fmt, rescale), fmt, rescale)
    np.testing.assert_array_equal(to_values(to_stored(once, fmt, rescale), fmt, rescale), once)


def test_nan_is_stored_as_padding_and_numbers_never_are() -> None:
    """NaN takes the padding value; numbers beyond the range stop beside it."""
    fmt, rescale = integers(8), Rescale(0.5, padding=0)
    assert to_stored(np.array([np.nan, -100.0, 3.0]), fmt, rescale).tolist() == [0, 1, 6]


def test_nan_without_padding_raises() -> None:
    """NaN that nothing stands for raises."""
    with pytest.raises(PixelError, match="NaN"):
        to_stored(np.array([np.nan]), integers(8), Rescale(0.5))
