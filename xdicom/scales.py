"""Scales that headers hold besides RescaleSlope: Philips' floating point values, and real-world value mappings.

It turns values of elements into a `Rescale`; which scale frames get is chosen in `scaling`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import PixelError
from .rescale import Rescale

Item = Mapping[str, Any]

_FIRST = ("RealWorldValueFirstValueMapped", "DoubleFloatRealWorldValueFirstValueMapped")
_LAST = ("RealWorldValueLastValueMapped", "DoubleFloatRealWorldValueLastValueMapped")
_MOST_ENTRIES = 1 << 16


def philips_rescale(scale_slope: object, scale_intercept: object, known: Rescale | None) -> Rescale:
    """Return the rescale to the floating point values of a Philips scanner, which compare between scans.

    Parameters
    ----------
    scale_slope, scale_intercept
        (2005,xx0E) and (2005,xx0D) of the creator Philips MR Imaging DD 001.
    known
        The rescale of the frame, None where it has no RescaleSlope.

    Raises
    ------
    PixelError
        If there is no usable scale slope, or neither a rescale nor a scale intercept.

    Notes
    -----
    FP = (SV * RS + RI) / (RS * SS), with stored value, rescale slope and intercept, and scale slope; the scale
    intercept is -RI / RS, so that FP = (SV - SI) / SS. Chenevert et al., Transl Oncol 7 (2014) 65.
    """
    if not _is_number(scale_slope) or scale_slope == 0:
        found = "is missing" if scale_slope is None else f"is {scale_slope!r}"
        raise PixelError(f"Philips' scale slope (2005,100E) {found}, expected a number other than 0")
    slope = float(scale_slope)  # type: ignore[arg-type]
    if known is not None:
        if known.problem or known.lut is not None:
            raise PixelError(known.problem or "there is a Modality LUT, of which Philips' scale knows nothing")
        return Rescale(1 / slope, known.intercept / (known.slope * slope))
    if not _is_number(scale_intercept):
        raise PixelError("there is neither RescaleSlope nor Philips' scale intercept (2005,100D)")
    return Rescale(1 / slope, -float(scale_intercept) / slope)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def chosen_mapping(items: Sequence[Item], label: str) -> Item:
    """Return the one real-world value mapping that is meant.

    Parameters
    ----------
    items
        Of RealWorldValueMappingSequence, by keyword.
    label
        LUTLabel of the one that is wanted, "" where there is one only.

    Raises
    ------
    PixelError
        If there is none, or several; the text says what to type.
    """
    there = [str(item.get("LUTLabel") or "") for item in items]
    found = [item for item, name in zip(items, there, strict=True) if label in ("", name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{name!r} ({units_of(item) or 'no units'})" for item, name in zip(items, there, strict=True))
    if not found:
        raise PixelError(f"no real-world value mapping is labelled {label!r}; there are {listed}")
    named = next((name for name in there if name and there.count(name) == 1), "")
    remedy = f"name one, such as rescale='real-world:{named}'" if named else "rescale=True gives rescaled values"
    raise PixelError(f"there are {len(found)} real-world value mappings, {listed}: {remedy}")


def real_world_rescale(item: Item) -> Rescale:
    """Return the rescale of a real-world value mapping (PS3.3 C.7.6.16.2.11): linear, or a table.

    Raises
    ------
    PixelError
        If it is incomplete, or contradicts itself.
    """
    first, last = (
        next((item[name] for name in names if _is_number(item.get(name))), None) for names in (_FIRST, _LAST)
    )
    mapped = None if first is None or last is None else (float(first), float(last))
    if mapped and mapped[1] < mapped[0]:
        raise PixelError(f"the real-world value mapping goes from {first} to {last}: expected the other way round")
    slope, intercept = item.get("RealWorldValueSlope"), item.get("RealWorldValueIntercept")
    if _is_number(slope) and _is_number(intercept):
        if slope == 0:
            raise PixelError("RealWorldValueSlope is 0: every pixel would be the same")
        return Rescale(float(slope), float(intercept), mapped=mapped)  # type: ignore[arg-type]
    table = item.get("RealWorldValueLUTData")
    if table is None:
        raise PixelError("the real-world value mapping has no slope and intercept, and no table")
    entries = np.atleast_1d(np.asarray(table, "<f8"))
    if mapped is None or len(entries) > _MOST_ENTRIES or mapped[1] - mapped[0] + 1 != len(entries):
        span = "no stored values" if mapped is None else f"{first} to {last}"
        raise PixelError(f"the table of the real-world value mapping has {len(entries)} entries for {span}")
    return Rescale(mapped=mapped, table=entries.tobytes())


def units_of(item: Item) -> str:
    """Return the unit of a real-world value mapping, a UCUM code such as "mm2/s"; "" where it names none."""
    codes = item.get("MeasurementUnitsCodeSequence")
    code = codes[0] if isinstance(codes, list) and codes else {}
    value = code.get("CodeValue") or code.get("LongCodeValue") or ""
    return str(value)
