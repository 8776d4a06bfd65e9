"""Stored values to real-world values and back: slope and intercept, Modality LUT, padding, and the dtype of the result.

The only place of this arithmetic (`to_values`, `to_stored`); it reads no files.

Notes
-----
A real-world value is stored * slope + intercept, computed exactly in integers where slope and intercept are integers,
else in float64 and rounded once to the dtype asked for.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colour import as_bytes, lut_descriptor, lut_entries
from .errors import PixelError
from .formats import PixelFormat, smallest_integer, stored_dtype, stored_limits

_SLOPE, _INTERCEPT, _LUT_SEQUENCE, _SIGNED = 0x00281053, 0x00281052, 0x00283000, 0x00280103
# Of RT Dose, which has no rescale: what stored values are multiplied by (PS3.3 C.8.8.3).
DOSE_SCALING = 0x3004000E
RESCALE_TAGS = (_SLOPE, _INTERCEPT, _LUT_SEQUENCE, _SIGNED, DOSE_SCALING)
"""Every tag that `rescale_of` asks for."""
_EXACT_FLOAT32, _EXACT_FLOAT64 = 2**24, 2**53
# Float32 is off by at most 2**-24 of a value, so that with this bound by at most a quarter of a step.
_STEPS_IN_FLOAT32 = 2**22
_BLOCK = 1 << 17

Writer = Callable[[NDArray[Any], NDArray[Any]], None]


@dataclass(frozen=True, slots=True)
class Rescale:
    """How stored values become real-world values.

    Attributes
    ----------
    slope, intercept
        Real-world value = stored * slope + intercept.
    lut
        Modality LUT, applied instead: stored value of its first entry, bits of an entry, little-endian entries.
    padding, padding_limit
        Stored value that stands for NaN; set for staged frames, for saved ones that say so, and where a user wants it.
        With a limit all from the one to the other, in either order.
    problem
        Why real-world values cannot be given ("" where they can); stored values can be read all the same.
    mapped
        Lowest and highest stored value that the rescale is for; others are NaN.
    table
        Real-world value of each stored value from the first of `mapped`, little-endian float64, in place of a slope.
    """

    slope: float = 1.0
    intercept: float = 0.0
    lut: tuple[int, int, bytes] | None = None
    padding: float | None = None
    problem: str = ""
    padding_limit: float | None = None
    mapped: tuple[float, float] | None = None
    table: bytes = b""

    def __post_init__(self) -> None:
        for name in ("slope", "intercept"):  # so that equal rescales also look equal, and digests agree
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def is_identity(self) -> bool:
        """Whether real-world values are the stored ones."""
        return self.is_unscaled and self.padding is None and self.mapped is None

    @property
    def is_unscaled(self) -> bool:
        """Whether real-world values are the stored ones, or NaN."""
        return self.slope == 1 and self.intercept == 0 and self.lut is None and not self.table

    @property
    def is_integral(self) -> bool:
        """Whether integers stay integers."""
        return self.slope.is_integer() and self.intercept.is_integer() and not self.table

    def is_complete(self, fmt: PixelFormat) -> bool:
        """Whether every stored value stands for a number."""
        if self.padding is not None:
            return False
        if self.mapped is None:
            return True
        low, high = stored_limits(fmt)
        return fmt.kind in ("int", "staged") and self.mapped[0] <= low and high <= self.mapped[1]


def rescale_of(get: Callable[[int], object]) -> Rescale:
    """Return the rescale that a header describes.

    Parameters
    ----------
    get
        Decoded value of a tag, None where it is absent, "" where it is present and empty; that of
        ModalityLUTSequence is a list of dicts by keyword.

    Raises
    ------
    PixelError
        Slope or intercept is empty, not one finite number, or the slope is 0. Keep the text in `Rescale.problem` to
        leave the stored values readable.
    """
    items = get(_LUT_SEQUENCE)
    if isinstance(items, list | tuple) and items:
        return Rescale(lut=_modality_lut(items[0], get(_SIGNED) == 1))
    name, value = "RescaleSlope", get(_SLOPE)
    if value is None:
        name, value = "DoseGridScaling", get(DOSE_SCALING)
    slope, intercept = _number(value, name, 1.0), _number(get(_INTERCEPT), "RescaleIntercept", 0.0)
    if slope == 0:
        raise PixelError(f"{name} is 0: every pixel would be the same; read the stored values (rescale=False)")
    return Rescale(slope, intercept)


def _number(value: object, name: str, default: float) -> float:
    """Return a slope or intercept, which must be one finite number."""
    if value is None:
        return default
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    empty = value in ("", (), [])
    found = "present and empty" if empty else repr(value)
    raise PixelError(f"{name} is {found}, expected one finite number; read the stored values (rescale=False)")


def _modality_lut(item: Any, signed: bool) -> tuple[int, int, bytes]:
    """Return the Modality LUT of a sequence item."""
    if not isinstance(item, dict) or "LUTDescriptor" not in item or "LUTData" not in item:
        raise PixelError("ModalityLUTSequence has no LUTDescriptor or no LUTData")
    entries, first, bits = lut_descriptor(item["LUTDescriptor"], "LUTDescriptor", signed)
    table = lut_entries(as_bytes(item["LUTData"], "LUTData"), entries, bits, "LUTData")
    return first, table.itemsize * 8, table.astype(table.dtype.newbyteorder("<")).tobytes()


def value_limits(fmt: PixelFormat, rescale: Rescale) -> tuple[float, float]:
    """Return the lowest and highest real-world value that headers allow; ints where the rescale is integral."""
    if rescale.lut is not None:
        return 0, (1 << rescale.lut[1]) - 1
    if rescale.table:
        table = _table(rescale)
        return float(table.min()), float(table.max())
    slope: float = int(rescale.slope) if rescale.is_integral else rescale.slope
    intercept: float = int(rescale.intercept) if rescale.is_integral else rescale.intercept
    ends = [stored * slope + intercept for stored in stored_limits(fmt)]
    return min(ends), max(ends)


def value_dtype(fmt: PixelFormat, rescales: Iterable[Rescale]) -> np.dtype[Any]:
    """Return the smallest dtype that holds every real-world value, known from headers alone.

    Parameters
    ----------
    fmt
        Pixel format of the frames.
    rescales
        Every rescale among them.

    Returns
    -------
    numpy.dtype
        An integer dtype where all rescales are integral and no stored value stands for NaN; else float32, or float64
        where float32 could be off by more than a quarter of a stored step.

    Raises
    ------
    PixelError
        A rescale has a problem.
    """
    stored = stored_dtype(fmt)
    distinct = set(rescales) or {Rescale()}
    for rescale in distinct:
        _refuse_problem(rescale)
    if fmt.palette is not None:
        return stored
    if stored.kind == "f":
        return stored if all(rescale.is_unscaled for rescale in distinct) else np.dtype("f8")
    limits = [value_limits(fmt, rescale) for rescale in distinct]
    if all(rescale.is_integral and rescale.is_complete(fmt) for rescale in distinct):
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        return smallest_integer(int(low), int(high)) or np.dtype("f8")
    enough = all(_in_float32(rescale, *ends) for rescale, ends in zip(distinct, limits, strict=True))
    return np.dtype("f4" if enough else "f8")


def _refuse_problem(rescale: Rescale) -> None:
    if rescale.problem:
        raise PixelError(rescale.problem)


def _in_float32(rescale: Rescale, low: float, high: float) -> bool:
    """Return whether float32 tells all stored values apart."""
    bound = max(abs(low), abs(high))
    if rescale.is_integral:
        return bound <= _EXACT_FLOAT32
    if rescale.table:
        return False
    step, limits = abs(rescale.slope), np.finfo(np.float32)
    return bool(step >= limits.tiny and bound <= min(step * _STEPS_IN_FLOAT32, float(limits.max)))


def to_values(
    stored: NDArray[Any], fmt: PixelFormat, rescale: Rescale, dtype: Any = None, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the real-world values of stored ones.

    Parameters
    ----------
    stored
        Stored values, of any shape.
    fmt, rescale
        How they are meant.
    dtype
        Of the result; by default the smallest, `value_dtype`.
    out
        Array of the same shape to write into, instead of `dtype`.

    Raises
    ------
    PixelError
        The rescale has a problem, or the dtype cannot hold the values.
    """
    if out is None:
        out = np.empty(stored.shape, value_dtype(fmt, [rescale]) if dtype is None else dtype)
    value_writer(fmt, rescale, out.dtype)(stored, out)
    return out


def value_writer(fmt: PixelFormat, rescale: Rescale, dtype: np.dtype[Any]) -> Writer:
    """Return the function(stored, out) that writes real-world values into arrays of `dtype`, the fastest exact one."""
    _refuse_problem(rescale)
    if fmt.palette is not None:
        return stored_writer(fmt, dtype)
    writer = _plain_writer(fmt, rescale, dtype)
    if rescale.is_complete(fmt):
        return writer
    if dtype.kind not in "fc":
        found = "padding" if rescale.padding is not None else "what has no real-world value"
        raise PixelError(f"{found} is NaN, which {dtype} cannot hold; ask for a float dtype")

    def masked(stored: NDArray[Any], out: NDArray[Any]) -> None:
        absent = _is_absent(stored, rescale)
        writer(stored, out)
        out[absent] = np.nan

    return masked


def _is_absent(stored: NDArray[Any], rescale: Rescale) -> NDArray[np.bool_]:
    """Say which stored values stand for NaN."""
    if rescale.padding is not None and rescale.padding_limit is None and rescale.mapped is None:
        return np.asarray(stored == rescale.padding)
    absent = np.zeros(stored.shape, bool)
    if rescale.padding is not None:
        other = rescale.padding if rescale.padding_limit is None else rescale.padding_limit
        low, high = sorted((rescale.padding, other))  # PS3.3 C.7.5.1.1.2: the limit may be above or below
        absent |= (stored >= low) & (stored <= high)
    if rescale.mapped is not None:
        absent |= (stored < rescale.mapped[0]) | (stored > rescale.mapped[1])
    return absent


def _plain_writer(fmt: PixelFormat, rescale: Rescale, dtype: np.dtype[Any]) -> Writer:
    """Return the writer of everything but padding."""
    if rescale.lut is not None:
        return _lut_writer(rescale.lut, dtype)
    if rescale.table:
        return _table_writer(rescale, dtype)
    slope, intercept = rescale.slope, rescale.intercept
    if slope == 1 and intercept == 0:
        return stored_writer(fmt, dtype)
    if dtype.kind in "iu":
        if not rescale.is_integral or stored_dtype(fmt).kind == "f":
            raise PixelError(f"real-world values are no integers (slope {slope}), which {dtype} cannot hold")
        low, high = value_limits(fmt, rescale)
        return _integer_writer(int(slope), int(intercept), int(low), int(high), dtype)
    if dtype == np.float32 and _is_exact_in_float32(fmt, rescale):
        return _float32_writer(np.float32(slope), np.float32(intercept))
    return _float_writer(slope, intercept)


def stored_writer(fmt: PixelFormat, dtype: np.dtype[Any]) -> Writer:
    """Return the function(stored, out) that writes stored values as they are."""
    native = stored_dtype(fmt)
    if dtype.kind in "iu" and native.kind in "iu" and not np.can_cast(native, dtype):
        limits = (0, np.iinfo(native).max) if fmt.palette is not None else stored_limits(fmt)
        if not _holds(dtype, *limits):
            return _checked(np.dtype("i8") if native.kind == "i" else np.dtype("u8"), _copy, dtype)
    if dtype.kind in "iu" and native.kind == "f":
        raise PixelError(f"the pixels are {native}, which {dtype} cannot hold")
    return _copy


def _copy(stored: NDArray[Any], out: NDArray[Any]) -> None:
    np.copyto(out, stored, casting="unsafe")


def _holds(dtype: np.dtype[Any], low: int, high: int) -> bool:
    return bool(np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max)


def _checked(wide: np.dtype[Any], writer: Writer, dtype: np.dtype[Any]) -> Writer:
    """Return a writer for an integer dtype that holds what is there, though not what headers allow."""

    def write(stored: NDArray[Any], out: NDArray[Any]) -> None:
        values = np.empty(stored.shape, wide)
        writer(stored, values)
        if values.size and not _holds(dtype, int(values.min()), int(values.max())):
            raise PixelError(f"values {values.min()} to {values.max()} do not fit {dtype}; leave dtype to be chosen")
        np.copyto(out, values, casting="unsafe")

    return write


def _integer_writer(slope: int, intercept: int, low: int, high: int, dtype: np.dtype[Any]) -> Writer:
    """Return the writer of an integral rescale into integers."""
    if not _holds(dtype, low, high):
        wide = smallest_integer(low, high)
        if wide is None:
            raise PixelError(f"real-world values {low} to {high} do not fit {dtype}; ask for float64")
        return _checked(wide, _integer_writer(slope, intercept, low, high, wide), dtype)
    # Arithmetic modulo 2**bits: whatever wraps on the way, the result fits.
    factor, offset = _modular(slope, dtype), _modular(intercept, dtype)

    def write(stored: NDArray[Any], out: NDArray[Any]) -> None:
        if slope == 1:
            np.copyto(out, stored, casting="unsafe")
        else:
            np.multiply(stored, factor, out=out, dtype=dtype, casting="unsafe")
        if intercept:
            np.add(out, offset, out=out)

    return write


def _modular(number: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    bits = 8 * dtype.itemsize
    return np.array(number % (1 << bits), f"u{dtype.itemsize}").astype(dtype)


def _is_exact_in_float32(fmt: PixelFormat, rescale: Rescale) -> bool:
    """Return whether arithmetic in float32 gives what float64, rounded once, gives."""
    if stored_dtype(fmt).kind == "f":
        return False
    bound = max(map(abs, stored_limits(fmt)))
    slope, intercept = rescale.slope, rescale.intercept
    if rescale.is_integral:
        return max(bound, bound * abs(slope), abs(intercept), bound * abs(slope) + abs(intercept)) <= _EXACT_FLOAT32
    return intercept == 0 and bound <= _EXACT_FLOAT32 and float(np.float32(slope)) == slope


def _float32_writer(slope: np.float32, intercept: np.float32) -> Writer:
    """Return the writer in float32 arithmetic."""

    def write(stored: NDArray[Any], out: NDArray[Any]) -> None:
        np.copyto(out, stored, casting="unsafe")  # then in place: faster than one ufunc that casts as it goes
        if slope != 1:
            np.multiply(out, slope, out=out)
        if intercept:
            np.add(out, intercept, out=out)

    return write


def _float_writer(slope: float, intercept: float) -> Writer:
    """Return the writer in float64 arithmetic, in blocks that stay in the processor's cache.

    It keeps a buffer: each thread needs its own.
    """
    scratch = np.empty(0, np.float64)

    def write(stored: NDArray[Any], out: NDArray[Any]) -> None:
        if out.dtype == np.float64:
            np.multiply(stored, slope, out=out, dtype=np.float64)
            np.add(out, intercept, out=out)
            return
        nonlocal scratch
        stored, out = np.atleast_1d(stored), np.atleast_1d(out)
        rows = max(1, _BLOCK // max(1, out[:1].size))
        if scratch.shape[1:] != out.shape[1:] or len(scratch) < min(rows, len(out)):
            scratch = np.empty((min(rows, len(out)), *out.shape[1:]), np.float64)
        for start in range(0, len(out), rows):
            part = scratch[: min(rows, len(out) - start)]
            np.copyto(part, stored[start : start + rows])
            np.multiply(part, slope, out=part)
            np.add(part, intercept, out=part)
            np.copyto(out[start : start + rows], part, casting="unsafe")

    return write


def _lut_writer(lut: tuple[int, int, bytes], dtype: np.dtype[Any]) -> Writer:
    """Return the writer through a Modality LUT; stored values beyond its ends take the end's entry."""
    first, bits, data = lut
    table = np.frombuffer(data, f"<u{bits // 8}")
    if dtype.kind in "iu" and not _holds(dtype, int(table.min()), int(table.max())):
        raise PixelError(f"the Modality LUT gives {table.min()} to {table.max()}, which {dtype} cannot hold")
    table = table.astype(dtype)

    def write(stored: NDArray[Any], out: NDArray[Any]) -> None:
        index = np.subtract(stored, first, dtype=np.int64, casting="unsafe")
        np.copyto(out, table[np.clip(index, 0, len(table) - 1, out=index)])

    return write


def _table(rescale: Rescale) -> NDArray[np.float64]:
    return np.frombuffer(rescale.table, "<f8").astype(np.float64)


def _table_writer(rescale: Rescale, dtype: np.dtype[Any]) -> Writer:
    """Return the writer through a table of real-world values; what it has none for is masked by others."""
    if dtype.kind not in "fc":
        raise PixelError(f"the real-world values are floats, which {dtype} cannot hold")
    table, first = _table(rescale).astype(dtype), rescale.mapped[0] if rescale.mapped else 0.0

    def write(stored: NDArray[Any], out: NDArray[Any]) -> None:
        index = np.subtract(stored, int(first), dtype=np.int64, casting="unsafe")
        np.copyto(out, table[np.clip(index, 0, len(table) - 1, out=index)])

    return write


def to_stored(values: NDArray[Any], fmt: PixelFormat, rescale: Rescale) -> NDArray[Any]:
    """Return the stored values of real-world ones: the nearest, clipped to what BitsStored holds; NaN is padding.

    Parameters
    ----------
    values
        Real-world values, of any shape; bool, integers or floats.
    fmt, rescale
        How they are stored.

    Returns
    -------
    numpy.ndarray
        Of dtype `stored_dtype(fmt)`.

    Raises
    ------
    PixelError
        There are NaN but no padding value.
    """
    dtype, (low, high) = stored_dtype(fmt), _usable(fmt, rescale.padding)
    if values.dtype.kind in "biu" and rescale.slope == 1 and rescale.intercept == 0:
        clipped: NDArray[Any] = _clipped(values, low, high).astype(dtype)
        return clipped
    scaled = np.subtract(values, rescale.intercept, dtype=np.float64)
    np.divide(scaled, rescale.slope, out=scaled)
    np.rint(scaled, out=scaled)
    np.clip(scaled, low, high, out=scaled)
    absent = np.isnan(scaled)
    if absent.any():
        if rescale.padding is None:
            raise PixelError("there are NaN among the values, and no padding value that could stand for them")
        scaled[absent] = rescale.padding
    stored: NDArray[Any] = scaled.astype(dtype)
    return stored


def _usable(fmt: PixelFormat, padding: float | None) -> tuple[int, int]:
    """Return the stored values that may stand for numbers: a padding value at an end is left out."""
    low, high = stored_limits(fmt)
    return low + (padding == low), high - (padding == high)


def _clipped(values: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    if values.dtype.kind == "b":
        return values
    held = np.iinfo(values.dtype)
    return np.asarray(np.clip(values, max(low, int(held.min)), min(high, int(held.max))))
