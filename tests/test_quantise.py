"""Facts about xdicom.quantise: what integers, slope and intercept are chosen, and what reads back."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xdicom.errors import EditError
from xdicom.quantise import Extent, Quantisation, choose, interquartile_range, kept, limits


def stored(values, q):
    """Return the stored integers of `values`, as to_stored does."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        codes = np.clip(np.rint((values - q.intercept) / q.slope), q.lowest, q.highest)
    if q.padding is not None:
        codes[np.isnan(values)] = q.padding
    return codes.astype(q.dtype)


def values(codes, q):
    """Return the values of stored integers, as to_values does."""
    with np.errstate(over="ignore"):  # of the padding
        result = codes.astype(np.float64) * q.slope + q.intercept
    if q.padding is not None:
        result[codes == q.padding] = np.nan
    return result


def chosen(array, **options) -> Quantisation:
    """Return what is chosen for an array."""
    extent = Extent.of(array)
    return choose(
        np.asarray(array).dtype, extent.low, extent.high, has_nan=extent.has_nan, integral=extent.integral, **options
    )


def roundtrip(array, **options):
    """Return the array as it reads back, and what was chosen."""
    q = chosen(array, **options)
    if "range" in options:
        array = np.clip(array, *limits(array.dtype, options["range"]))
    return values(stored(array, q), q), q


def assert_half_a_step(array, **options):
    """Fail where a value is off by more than half a step and the rounding of float64."""
    array = np.asarray(array, dtype=np.float64)
    back, q = roundtrip(array, **options)
    largest = max(abs(q.intercept), np.nanmax(np.abs(array)))
    rounding = 4 * np.spacing(min(largest, 1e307))
    error = np.abs(back - array)
    assert np.array_equal(np.isnan(back), np.isnan(array))
    assert (error[~np.isnan(array)] <= q.step / 2 * (1 + 1e-9) + rounding).all(), q
    return q


# Exact ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_full_range_of_small_integers_reads_back_identical(dtype):
    """The whole range of an integer type of 8 or 16 bits is stored with slope 1 and intercept 0."""
    info = np.iinfo(dtype)
    array = np.arange(info.min, info.max + 1).astype(dtype)
    back, q = roundtrip(array)
    assert np.array_equal(back, array)
    assert (q.slope_text, q.intercept_text, q.exact) == ("1", "0", True)


def test_labels_read_back_identical():
    """Labels 1, 2, 3 are stored as 1, 2, 3."""
    assert stored([1, 2, 3], chosen(np.array([1, 2, 3]))).tolist() == [1, 2, 3]


def test_bool_is_stored_as_0_and_1():
    """A mask is stored as 0 and 1."""
    assert stored([False, True], chosen(np.array([False, True]))).tolist() == [0, 1]


def test_integral_floats_are_stored_as_integers():
    """Float labels 0.0, 1.0, 2.0 get slope 1 and intercept 0."""
    back, q = roundtrip(np.array([0.0, 1.0, 2.0]))
    assert back.tolist() == [0, 1, 2]
    assert (q.slope_text, q.intercept_text) == ("1", "0")


def test_int16_stays_signed():
    """An int16 array without negative values is stored signed, so that its type comes back."""
    assert chosen(np.array([0, 5], dtype="i2")).signed


def test_int64_is_unsigned_where_it_can_be():
    """The type of a plain Python list of integers says nothing, so they are stored unsigned."""
    assert not chosen(np.array([0, 40000])).signed


def test_negative_integers_are_signed():
    """Negative integers give PixelRepresentation 1."""
    q = chosen(np.array([-5, 5]))
    assert (q.signed, q.dtype) == (True, np.dtype("<i2"))


def test_wide_integers_get_an_integer_intercept():
    """Integers beyond 16 bits whose range fits 16 bits read back identical."""
    array = np.array([1_000_000, 1_065_535])
    back, q = roundtrip(array)
    assert back.tolist() == array.tolist()
    assert (q.slope_text, q.intercept_text) == ("1", "1000000")


def test_range_across_zero_beyond_16_bits_signed_gets_an_intercept():
    """-40000 to 20000 fits neither int16 nor uint16 but reads back identical."""
    array = np.array([-40000, 0, 20000])
    assert roundtrip(array)[0].tolist() == array.tolist()


@given(st.integers(-(10**14), 10**14), st.integers(0, 65535), st.booleans())
def test_integers_with_a_range_of_16_bits_are_exact(low, span, nan):
    """Any integers whose range fits 16 bits, with NaN one less, read back identical."""
    high = low + min(span, 65534) if nan else low + span
    array = np.array([low, (low + high) // 2, high, *([np.nan] if nan else [])])
    back, q = roundtrip(array)
    assert np.array_equal(back, array, equal_nan=True)
    assert q.exact


def test_integers_beyond_float64_are_scaled():
    """Integers above 2**53 can't be exact in the arithmetic of rescale, and get a step."""
    assert not chosen(np.array([2**60, 2**60 + 1])).exact


def test_constant_array_is_exact():
    """A constant with a short text reads back identical."""
    back, q = roundtrip(np.full(3, 0.1))
    assert back.tolist() == [0.1] * 3
    assert q.step == 0.0


@pytest.mark.parametrize("constant", [1 / 3, -1 / 3, 1e300, -1e-300, 5e-324])
def test_constant_with_a_long_text_is_right_to_rounding(constant):
    """A constant whose text needs more than 16 characters reads back to the rounding of float64."""
    assert_half_a_step([constant, constant])


def test_empty_array_is_zero():
    """An array without values gets slope 1 and intercept 0."""
    assert chosen(np.zeros((0, 4))).slope == 1.0


# Scaled --------------------------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False)
ordinary = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
@example([1.7976931348623157e308, -1.7976931348623157e308], False)
@example([1.7976931348623157e308, 1e308], True)
@example([5e-324, 0.0], True)
@example([5e-324, -5e-324], False)
@example([1e-310, 0.3e-310, -2e-310], False)
@example([1e6, 1e6 + 1e-9], True)
@example([-1e300, 1.0], False)
@example([0.5, 65535.5], False)
def test_error_is_half_a_step(array, nan):
    """Any finite floats read back within half a step, whatever their size, and NaN reads back NaN."""
    assert_half_a_step([*array, *([np.nan] if nan else [])])


@given(ordinary, ordinary, st.booleans())
def test_error_is_half_a_step_all_over_the_range(low, high, nan):
    """Values all over an ordinary range read back within half a step."""
    grid = np.linspace(low, high, 1001)
    assert_half_a_step(np.append(grid, np.nan) if nan else grid)


@given(st.floats(1e-30, 1e30), st.floats(0, 1), st.booleans())
def test_step_is_near_the_best(span, fraction, nan):
    """The step is within 0.2 % of the range over 2**16, for ranges around or near 0."""
    low = -span * fraction
    q = chosen(np.array([low, low + span, *([np.nan] if nan else [])]))
    assert q.step <= span / 65535 * 1.002


@given(st.floats(-1e30, -1e-30), st.floats(1e-30, 1e30), st.booleans())
def test_zero_stays_zero(low, high, nan):
    """Where 0 is in the range it reads back as exactly 0, so that a background stays a background."""
    back, _ = roundtrip(np.array([low, 0.0, high, *([np.nan] if nan else [])]))
    assert back[1] == 0.0


def test_positive_data_that_reach_down_to_zero_have_intercept_zero():
    """Values from nearly 0 up get no intercept."""
    assert chosen(np.array([0.0001, 100.5])).intercept_text == "0"


@given(st.lists(finite, min_size=2, max_size=2), st.booleans())
def test_texts_fit_ds_and_are_the_numbers(array, nan):
    """RescaleSlope and RescaleIntercept have at most 16 characters and are exactly the numbers used."""
    q = chosen(np.array([*array, *([np.nan] if nan else [])]))
    assert max(len(q.slope_text), len(q.intercept_text)) <= 16
    assert (float(q.slope_text), float(q.intercept_text)) == (q.slope, q.intercept)


def test_zero_intercept_is_signed_for_negative_values():
    """With zero_intercept (PET), values on both sides of 0 are stored signed with intercept 0."""
    q = assert_half_a_step(np.array([-1.5, 0, 100.25]), zero_intercept=True)
    assert (q.intercept_text, q.signed) == ("0", True)


@given(st.lists(finite, min_size=1, max_size=9), st.booleans())
def test_zero_intercept_keeps_the_half_step(array, nan):
    """With zero_intercept the error is half a step, too."""
    q = assert_half_a_step([*array, *([np.nan] if nan else [])], zero_intercept=True)
    assert q.intercept == 0.0


# NaN, infinity, complex ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array", [[0.0, 3.0], [-32768.0, 5.0], [1.0, 65535.0], [0.0, 65534.0], [0.25, 9.5], [7.5, 7.5]]
)
def test_nan_reads_back_nan(array):
    """NaN has a stored integer of its own, outside those of the values."""
    array = np.array([*array, np.nan])
    back, q = roundtrip(array)
    assert not q.lowest <= q.padding <= q.highest
    assert np.isnan(back).tolist() == [False, False, True]


def test_padding_is_below_the_values():
    """The padding is less than the values where possible, since viewers then show it black."""
    q = chosen(np.array([0, 5, np.nan]))
    assert q.padding < q.lowest


def test_full_16_bits_and_nan_get_a_step():
    """65,536 integers and NaN don't fit 16 bits, so they are scaled."""
    q = assert_half_a_step([0.0, 65535.0, np.nan])
    assert 1 < q.step < 1.001


def test_all_nan_reads_back_nan():
    """An array of NaN alone can be stored."""
    assert np.isnan(roundtrip(np.full(3, np.nan))[0]).all()


def test_no_nan_no_padding():
    """Without NaN there is no PixelPaddingValue."""
    assert chosen(np.array([0.5, 1.5])).padding is None


def test_infinity_raises():
    """Infinity raises, and the text names range=."""
    with pytest.raises(EditError, match="range="):
        chosen(np.array([0.0, np.inf]))


def test_complex_raises():
    """Complex numbers raise, and the text says what to write instead."""
    with pytest.raises(EditError, match="abs"):
        chosen(np.array([1j]))


def test_text_raises():
    """Text is no pixel."""
    with pytest.raises(EditError, match="numbers"):
        chosen(np.array(["a"]))


# range ---------------------------------------------------------------------------------------------------------------


def test_range_clips():
    """range= gives finer steps, and values beyond it read back as its ends."""
    array = np.array([0.5, 10.0, 1e9])
    back, q = roundtrip(array, range=(0, 100))
    assert back[2] == pytest.approx(100, abs=q.step)
    assert q.step < 100 / 65000


def test_range_clips_infinity():
    """With range= infinity is its upper end."""
    assert roundtrip(np.array([0.0, np.inf]), range=(0, 100))[0].tolist() == [0, 100]


def test_range_makes_integers_fit():
    """Integers beyond 16 bits are exact within a range that fits."""
    assert chosen(np.array([0, 10**9]), range=(0, 1000)).exact


def test_range_with_fractions_on_integral_floats():
    """Where a fractional end of the range becomes a value, floats are no longer all integers."""
    assert not chosen(np.array([0.0, 10.0]), range=(0.5, 9)).exact


def test_limits_of_integers_are_integers():
    """For integers 0.5 to 9.5 is 1 to 9."""
    assert limits(np.int16, (0.5, 9.5)) == (1, 9)


@pytest.mark.parametrize("bad", [(2, 1), (0, np.inf), (np.nan, 1)])
def test_bad_range_raises(bad):
    """An empty or endless range raises."""
    with pytest.raises(EditError, match="range"):
        limits(np.float32, bad)


def test_range_without_integer_raises():
    """A range that holds no integer raises for integers."""
    with pytest.raises(EditError, match="no integer"):
        limits(np.int16, (0.2, 0.8))


# Coarse steps --------------------------------------------------------------------------------------------------------


def test_coarse_step_warns_with_the_step():
    """One extreme value makes steps above 1 % of the interquartile range, which warns."""
    array = np.append(np.linspace(0, 1, 1000), 1e6)
    with pytest.warns(UserWarning, match=r"steps of 15\.3, .* interquartile range of 0\.5"):
        chosen(array, iqr=interquartile_range(array))


def test_fine_step_does_not_warn(recwarn):
    """Ordinary data give no warning."""
    array = np.linspace(0, 1, 1000)
    chosen(array, iqr=interquartile_range(array))
    assert not recwarn


def test_labels_do_not_warn(recwarn):
    """Exact integers give no warning however small their range."""
    chosen(np.array([0, 1, 2]), iqr=1.0)
    assert not recwarn


def test_interquartile_range_without_background():
    """A background of more than half the sample is left out."""
    sample = np.append(np.zeros(1000), np.linspace(10, 20, 101))
    assert interquartile_range(sample) == pytest.approx(5)


def test_interquartile_range_ignores_what_is_not_finite():
    """NaN and infinity don't count, and nothing at all gives 0."""
    assert interquartile_range([np.nan, np.inf]) == 0.0
    assert interquartile_range([0, 1, 2, 3, 4, np.nan]) == 2.0


# Colour --------------------------------------------------------------------------------------------------------------


def test_colour_of_8_bits():
    """RGB up to 255 is stored in 8 bits."""
    q = chosen(np.array([0, 255], dtype="u1"), colour=True)
    assert (q.bits_allocated, q.bits_stored, q.high_bit, q.dtype) == (8, 8, 7, np.dtype("u1"))


@pytest.mark.parametrize("array", [[0.5, 1.0], [-1.0, 3.0], [0.0, 70000.0], [0.0, np.nan]])
def test_colour_without_rescale_raises(array):
    """Colour that would need a rescale raises."""
    with pytest.raises(EditError, match="colour"):
        chosen(np.array(array), colour=True)


# Extent --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.floats(), st.just(math.nan)), min_size=0, max_size=9), st.integers(0, 9))
def test_extent_of_blocks_is_that_of_the_whole(array, cut):
    """The union of the extents of two blocks is the extent of both."""
    array = np.array(array, dtype=float)
    assert Extent.of(array[:cut]) | Extent.of(array[cut:]) == Extent.of(array)


def test_extent_of_integers_is_exact():
    """Ends of integers are Python integers, also beyond float64."""
    extent = Extent.of(np.array([2**64 - 1, 1], dtype="u8"))
    assert (extent.low, extent.high) == (1, 2**64 - 1)


def test_a_scale_is_kept_where_it_serves():
    """Values that are multiples of a slope, within float32, keep it; others, or too many steps, do not."""
    stored = np.array([0, 5, 4095])
    values = (stored * np.float32(0.37) - np.float32(12.5)).astype(np.float32)
    found = kept("0.37", "-12.5", Extent.of(values), values)
    assert found is not None
    assert (found.slope_text, found.intercept_text, found.signed, found.padding) == ("0.37", "-12.5", False, None)
    assert kept("0.37", "-12.5", Extent.of(values + 0.1), values + 0.1) is None
    assert kept("0.0001", "0", Extent.of(values), values) is None
    assert kept("-0.37", "0", Extent.of(values), values) is None
    assert kept("junk", "0", Extent.of(values), values) is None
    holed = np.append(values, np.nan)
    with_nan = kept("0.37", "-12.5", Extent.of(holed), holed)
    assert with_nan is not None
    assert with_nan.padding == -32768
    nothing = np.array([np.nan])
    assert kept("0.37", "-12.5", Extent.of(nothing), nothing) is None
