"""Choose the integers, with slope and intercept, that can hold an array's values in DICOM.

It does no arithmetic on pixels: turning values to stored integers and back is the business of `pixels`.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydicom.valuerep import format_number_as_ds

from .errors import EditError

Number = int | float
Range = tuple[float, float]

_DS_LENGTH = 16  # PS3.5 6.2, DS: 16 bytes maximum
_EXACT = 2**53  # integers up to here are exact in float64, in which rescaling is done
_HUGE = 1e307  # beyond it, a difference of two values may overflow
_FLOAT32 = 2.0**-22  # what arithmetic in float32 may round away, as a share
_COARSE = 0.01  # of the interquartile range


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the values of a series become stored integers: value = stored * slope + intercept.

    Attributes
    ----------
    slope, intercept
        Exactly the numbers that `slope_text` and `intercept_text` say.
    slope_text, intercept_text
        What is written to RescaleSlope and RescaleIntercept, at most 16 characters (DS).
    dtype
        Of the stored integers, little endian.
    bits_allocated, bits_stored, high_bit, signed
        The elements of the same names.
    lowest, highest
        The stored integers that stand for values; `padding` is outside them.
    padding
        The stored integer that stands for NaN (PixelPaddingValue), or None.
    step
        Distance of the values that can be held, 0.0 where every value of the array is held exactly.
    """

    slope: float
    intercept: float
    slope_text: str
    intercept_text: str
    dtype: np.dtype[Any]
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    lowest: int
    highest: int
    padding: int | None
    step: float

    @property
    def exact(self) -> bool:
        """Whether every value of the array reads back identical."""
        return self.step == 0.0


@dataclass(frozen=True, slots=True)
class Extent:
    """What `choose` must know of an array; that of several blocks is their union, `a | b`.

    Attributes
    ----------
    low, high
        Least and greatest value, infinities included, NaN not: int for integers and bool, float for floats,
        None where there are none.
    has_nan
        Whether any value is NaN.
    integral
        Whether all values but NaN are integers.
    """

    low: Number | None = None
    high: Number | None = None
    has_nan: bool = False
    integral: bool = True

    @classmethod
    def of(cls, array: npt.ArrayLike) -> Self:
        """Return the extent of one block, of any shape.

        Raises
        ------
        EditError
            Where the values are no real numbers.
        """
        values = np.asarray(array)
        check_dtype(values.dtype)
        if values.dtype.kind != "f":
            return cls(int(values.min()), int(values.max())) if values.size else cls()
        nan = np.isnan(values)
        has_nan = bool(nan.any())
        values = values[~nan] if has_nan else values
        if not values.size:
            return cls(has_nan=has_nan)
        integral = bool((values == np.rint(values)).all())
        return cls(float(values.min()), float(values.max()), has_nan, integral)

    def __or__(self, other: "Extent") -> "Extent":
        lows = [low for low in (self.low, other.low) if low is not None]
        highs = [high for high in (self.high, other.high) if high is not None]
        return Extent(
            min(lows, default=None),
            max(highs, default=None),
            self.has_nan or other.has_nan,
            self.integral and other.integral,
        )


def check_dtype(dtype: npt.DTypeLike) -> None:
    """Raise EditError where `dtype` is none of real numbers: bool, integers, floats."""
    kind = np.dtype(dtype)
    if kind.kind == "c":
        raise EditError(
            f"pixels of dtype {kind} are complex, and DICOM holds real numbers: "
            "write abs(array) and numpy.angle(array), or array.real and array.imag, as two series"
        )
    if kind.kind not in "biuf":
        raise EditError(f"pixels of dtype {kind} are no numbers: expected bool, integers or floats")


def limits(dtype: npt.DTypeLike, range: Range) -> tuple[Number, Number]:  # noqa: A002 - the word of S5
    """Return the least and greatest value that `range` lets an array of `dtype` have, as arguments of `numpy.clip`.

    Integers stay integers: for them 0.5 to 9.5 is 1 to 9.

    Raises
    ------
    EditError
        Where the range is empty or not finite.
    """
    low, high = range
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise EditError(f"range=({low}, {high}) is no range: expected two finite numbers, the lower one first")
    if np.dtype(dtype).kind == "f":
        return float(low), float(high)
    first, last = math.ceil(low), math.floor(high)
    if first > last:
        raise EditError(f"range=({low}, {high}) holds no integer, and the array has dtype {np.dtype(dtype)}")
    return first, last


def choose(
    dtype: npt.DTypeLike,
    low: Number | None,
    high: Number | None,
    *,
    has_nan: bool,
    integral: bool,
    range: Range | None = None,  # noqa: A002 - the word of S5
    iqr: float | None = None,
    zero_intercept: bool = False,
    colour: bool = False,
) -> Quantisation:
    """Return the slope, intercept and stored integers for an array whose values lie in [low, high].

    Parameters
    ----------
    dtype
        Of the array. int8 and int16 are stored signed, other integers unsigned where they can be.
    low, high
        Least and greatest value that is not NaN, as in `Extent`; None where there is none.
    has_nan
        Whether a stored integer has to stand for NaN.
    integral
        Whether all other values are integers.
    range
        (low, high) to which the values are clipped, see `limits`.
    iqr
        Interquartile range of the values (`interquartile_range` of a sample); with it, a step above 1 % of it warns.
    zero_intercept
        Whether the intercept must be 0 (PS3.3 C.8.9.4: PET images).
    colour
        Whether the array has samples, which DICOM stores without rescale.

    Returns
    -------
    Quantisation
        Exact for integers that fit 16 bits, directly or by an integer intercept. Else one slope and intercept
        with an error of at most half a step (and the rounding of float64), under which 0 stays exactly 0.

    Raises
    ------
    EditError
        For complex or infinite values, values that are no numbers, an empty range, or colour that can't be stored.
    """
    check_dtype(dtype)
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        low, high = 0, 0
    if range is not None:
        low, high, integral = _clipped(low, high, integral, limits(dtype, range))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise EditError(
            f"the values reach from {low} to {high}, and DICOM can't hold infinity: "
            "give range=(low, high) to clip them, or replace them by NaN"
        )
    if colour:
        return _colour(dtype, low, high, exact=integral and not has_nan)
    exact = _exact(np.dtype(dtype), int(low), int(high), has_nan, zero_intercept) if integral else None
    chosen = exact or _scaled(float(low), float(high), has_nan, zero_intercept)
    if iqr is not None and iqr > 0 and chosen.step > _COARSE * iqr:
        _warn(chosen, low, high, iqr)
    return chosen


def kept(slope: str, intercept: str, extent: Extent, sample: npt.ArrayLike) -> Quantisation | None:
    """Return a scale that values had before, where they are multiples of its slope still; None where they are not.

    Parameters
    ----------
    slope, intercept
        As headers have them.
    extent, sample
        Of the array: where all of a sample fits, all of it is taken to.
    """
    try:
        step, start = float(slope), float(intercept)
    except ValueError:
        return None
    if extent.low is None or extent.high is None or not (0 < step < _HUGE and math.isfinite(start)):
        return None
    values = np.asarray(sample, np.float64).ravel()
    values = np.append(values[np.isfinite(values)], [extent.low, extent.high])
    stored = np.rint((values - start) / step)
    rounding = _FLOAT32 * np.maximum(np.abs(values), abs(start))
    if not (np.abs(stored * step + start - values) <= np.maximum(rounding, 1e-9 * step)).all():
        return None
    for lowest, highest, padding in _ranges(extent.has_nan):
        if lowest <= stored.min() and stored.max() <= highest:
            return _quantisation(slope, intercept, lowest, highest, padding, step=step)
    return None


def _ranges(nan: bool) -> list[tuple[int, int, int | None]]:
    """Return the stored integers that may stand for values, and the one for NaN, in 16 bits."""
    if nan:  # viewers show the padding darkest where it lies below the values
        return [(-32767, 32767, -32768), (1, 65535, 0), (0, 65534, 65535), (-32768, 32766, 32767)]
    return [(0, 65535, None), (-32768, 32767, None)]


def interquartile_range(sample: npt.ArrayLike) -> float:
    """Return the distance of the quartiles of the finite values of a sample; 0.0 where it has none.

    Where one value (a background) makes up so much of the sample that this is 0, it is left out.
    """
    values = np.asarray(sample).ravel()
    values = values[np.isfinite(values)].astype(np.float64)
    if not values.size:
        return 0.0
    first, median, third = np.percentile(values, [25, 50, 75])
    if first == third:
        values = values[values != median]
        first, third = np.percentile(values, [25, 75]) if values.size else (first, third)
    return float(third - first)


def _clipped(low: Number, high: Number, integral: bool, bounds: tuple[Number, Number]) -> tuple[Number, Number, bool]:
    clipped = [min(max(value, bounds[0]), bounds[1]) for value in (low, high)]
    return clipped[0], clipped[1], integral and all(float(value).is_integer() for value in clipped)


def _warn(chosen: Quantisation, low: Number, high: Number, iqr: float) -> None:
    warnings.warn(
        f"values from {low:.6g} to {high:.6g} are stored in steps of {chosen.step:.3g}, "
        f"{100 * chosen.step / iqr:.2g} % of their interquartile range of {iqr:.3g}: "
        "a few extreme values may cause it; range=(low, high) clips them",
        UserWarning,
        stacklevel=3,
    )


def _colour(dtype: npt.DTypeLike, low: Number, high: Number, *, exact: bool) -> Quantisation:
    if not exact or low < 0 or high > 65535:
        raise EditError(
            f"colour of dtype {np.dtype(dtype)} with values from {low} to {high} can't be stored: "
            "DICOM colour has no rescale, so give integers from 0 to 255 (or to 65535)"
        )
    return _quantisation("1", "0", 0, 255 if high <= 255 else 65535, bits=8 if high <= 255 else 16)


def _quantisation(
    slope: str,
    intercept: str,
    lowest: int,
    highest: int,
    padding: int | None = None,
    *,
    step: float = 0.0,
    bits: int = 16,
) -> Quantisation:
    signed = min(lowest, lowest if padding is None else padding) < 0
    dtype = np.dtype("u1") if bits == 8 else np.dtype("<i2" if signed else "<u2")
    fixed = (bits, bits, bits - 1, signed)
    return Quantisation(float(slope), float(intercept), slope, intercept, dtype, *fixed, lowest, highest, padding, step)


def _exact(dtype: np.dtype[Any], low: int, high: int, nan: bool, zero_intercept: bool) -> Quantisation | None:
    """Return slope 1 with intercept 0, else with an integer intercept; None where neither holds the integers."""
    small = dtype.kind == "i" and dtype.itemsize <= 2
    plain = _ranges(nan)
    if small and not nan:
        plain.reverse()
    for lowest, highest, padding in plain:
        if lowest <= low and high <= highest:
            return _quantisation("1", "0", lowest, highest, padding)
    lowest = int(nan)
    intercept = str(low - lowest)
    fits = high - low + lowest <= 65535 and len(intercept) <= _DS_LENGTH
    if zero_intercept or not fits or max(abs(low) + lowest, abs(high)) > _EXACT:
        return None
    return _quantisation("1", intercept, lowest, 65535, 0 if nan else None)


def _scaled(low: float, high: float, nan: bool, zero_intercept: bool) -> Quantisation:
    if zero_intercept or max(-low, high) > _HUGE:
        candidates = _through_zero(low, high, nan)
    elif low <= 0 <= high or 0 < low < (high - low) / 1000:  # an intercept of 0 costs 0.1 % of precision at most
        candidates = _around_zero(min(low, 0.0), high, nan)
    else:
        candidates = _above_intercept(low, high, nan)
    usable = (candidate for candidate in candidates if _fits(candidate, low, high))
    first = next(usable)
    if _keeps_zero(first) or not low <= 0 <= high:
        return first
    return next((other for other in usable if _keeps_zero(other)), first)


def _fits(q: Quantisation, low: float, high: float) -> bool:
    """Whether both ends get a stored integer that stands for values and reads back finite."""
    if not (q.slope > 0 and math.isfinite(q.slope) and math.isfinite(q.intercept)):
        return False
    first, last = round((low - q.intercept) / q.slope), round((high - q.intercept) / q.slope)
    return q.lowest <= first and last <= q.highest and all(math.isfinite(n * q.slope) for n in (first, last))


def _keeps_zero(q: Quantisation) -> bool:
    return round(-q.intercept / q.slope) * q.slope + q.intercept == 0.0


def _text(value: float | Decimal) -> str:
    text = format_number_as_ds(value)
    return "0" if float(text) == 0 else text.removesuffix(".0")


def _growths() -> Iterator[float]:
    """Give factors for a slope whose text is not right at once: tiny ones first, then (denormals) up to 2."""
    yield from (1.0, 1 - 1e-9, 1 + 1e-9)
    yield from (1 + n * 1e-5 for n in range(1, 40))
    yield from (1 + 2.0**-n for n in range(9, -1, -1))


def _through_zero(low: float, high: float, nan: bool) -> Iterator[Quantisation]:
    """Give quantisations with intercept 0, signed if need be."""
    if low < 0:
        lowest, highest, padding = (-32767, 32767, -32768) if nan else (-32768, 32767, None)
    else:
        lowest, highest, padding = (0, 65534, 65535) if nan else (0, 65535, None)
    slope = max(low / lowest if low < 0 else 0.0, high / highest, 5e-324)
    for growth in _growths():
        text = _text(slope * growth)
        yield _quantisation(text, "0", lowest, highest, padding, step=float(text))


def _around_zero(low: float, high: float, nan: bool) -> Iterator[Quantisation]:
    """Give quantisations for low <= 0 <= high whose intercept is a multiple of the slope, decimal digit by digit."""
    lowest, highest, padding = (1, 65535, 0) if nan else (0, 65535, None)
    slope = max((high - low) / (highest - lowest), 5e-324)
    zero = min(max(lowest + round(-low / slope), lowest), highest)
    if zero == 0:
        yield _quantisation(_text(slope), "0", lowest, highest, padding, step=float(_text(slope)))
    # The intercept is the multiple exactly if its text can hold the digits of the slope's and five more.
    for digits, growth in [(d, 1 + n * 10.0**-d) for d in (6, 4) for n in range(40)] + [(4, g) for g in _growths()]:
        text = _text(float(f"{slope * growth:.{digits}e}"))
        intercept = _text(-zero * Decimal(text))
        yield _quantisation(text, intercept, lowest, highest, padding, step=float(text))


def _above_intercept(low: float, high: float, nan: bool) -> Iterator[Quantisation]:
    """Give quantisations for values all above or all below 0; their intercept is a text just below them."""
    if low == high and float(_text(low)) == low:
        yield _quantisation("1", _text(low), 0, 65534, 65535 if nan else None)
    # Padding below the values needs an intercept a step lower, which float64 may not tell from `low`.
    for lowest, highest, padding in [(1, 65535, 0), (0, 65534, 65535)] if nan else [(0, 65535, None)]:
        intercept = _text_below(low - lowest * (high - low) / 65534)
        for growth in _growths():
            slope = _text(max((high - float(intercept)) / highest, 5e-324) * growth)
            yield _quantisation(slope, intercept, lowest, highest, padding, step=float(slope))


def _text_below(value: float) -> str:
    """Return a text of at most 16 characters whose number is `value` or next below it."""
    text = _text(value)
    excess = float(text) - value
    while float(text) > value:
        text = _text(value - excess)
        excess *= 2
    return text
