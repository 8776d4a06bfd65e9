"""Registry of lower_case attributes: what is read from frames and, where it can be, set on them.

The built-in ones are registered here; anybody may add more. They are evaluated frame by frame, from tags alone.
"""

import keyword
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import geometry
from .errors import EditError
from .frames import ATTRIBUTES, Attribute, Frames
from .tags import TagLike

_FRAME_TYPES = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
# Third value of ImageType or one after it, by vendor.
_LETTERS = {"M": "MAGNITUDE", "M_FFE": "MAGNITUDE", "M_SE": "MAGNITUDE", "P": "PHASE", "PHASE MAP": "PHASE"}
_LETTERS |= {"R": "REAL", "I": "IMAGINARY", "P_FFE": "PHASE", "R_FFE": "REAL", "I_FFE": "IMAGINARY"}
# Private RawDataType of GE (0043,102F).
_GE_TYPES = {0: "MAGNITUDE", 1: "PHASE", 2: "REAL", 3: "IMAGINARY"}


def register_attribute(
    name: str,
    get: Callable[[Frames], Sequence[object] | NDArray[Any]],
    set: Callable[[object, Frames], Mapping[TagLike, object]] | None = None,  # noqa: A002 - reads as series.name = value
) -> None:
    """Add a lower_case attribute to every record, to dims and to conditions.

    Parameters
    ----------
    name
        In lower case, an identifier; names that a record has are refused.
    get
        From frames to one value a frame, as an array or a sequence (None or NaN where it has none).
    set
        From a value and frames to the tags that must be set; without it the attribute cannot be set.

    Raises
    ------
    EditError
        If the name is no lower_case identifier, or a record uses it for something else.

    Examples
    --------
    >>> register_attribute("slope", lambda frames: frames["RescaleSlope"])
    """
    if not name.isidentifier() or name != name.lower() or name.startswith("_") or keyword.iskeyword(name):
        raise EditError(f"{name!r} is no lower_case name")
    if name in RESERVED:
        raise EditError(f"{name!r} is a name that records have; choose another")
    ATTRIBUTES[name] = Attribute(partial(_plain_values, name, get), set)


def _plain_values(
    name: str, get: Callable[[Frames], Sequence[object] | NDArray[Any]], frames: Frames
) -> Sequence[object]:
    """Return one value a frame as plain Python; NaN is none."""
    found = get(frames)
    values = found.tolist() if isinstance(found, np.ndarray) else list(found)
    if len(values) != len(frames):
        raise EditError(f"the attribute {name!r} gave {len(values)} values for {len(frames)} frames: give one each")
    return [None if isinstance(value, float) and np.isnan(value) else _plain(value) for value in values]


def _plain(value: object) -> object:
    """Return a value as records have it: no numpy scalars, and tuples for lists."""
    plain = value.item() if isinstance(value, np.generic) else value
    return tuple(plain) if isinstance(plain, list) else plain


_METHODS = (
    "patients studies series patient study database children frames status problems check to_pandas to_xarray ndarray"
    " array set_ndarray set_xarray subseries split merge new_patient new_study new_series new_sibling copy_to move_to"
    " remove save restore plot close forget rescan affine key set"
)
RESERVED = frozenset(_METHODS.split())


def _slice_location(frames: Frames) -> list[object]:
    """Position along the normal of the slice, in mm, whatever SliceLocation says."""
    position, orientation = frames.values("ImagePositionPatient"), frames.values("ImageOrientationPatient")
    if position.ndim != 2 or orientation.ndim != 2 or position.shape[1] != 3 or orientation.shape[1] != 6:
        return [None] * len(frames)
    found = np.round(geometry.slice_location(position, orientation), 6)
    return [None if np.isnan(value) else float(value) for value in found]


def _image_type(frames: Frames) -> list[object]:
    """MAGNITUDE, PHASE, REAL, IMAGINARY or UNKNOWN."""
    columns = [frames.named(name) for name in ("ComplexImageComponent", "FrameType", "ImageType")]
    verdicts = [[*map(_kind_of, values), ""] for values, _ in columns]
    values, codes = frames.named(("GEMS_PARM_01", 0x0043, 0x2F))
    columns.append((values, codes))
    verdicts.append([*(_GE_TYPES.get(value, "") if isinstance(value, int) else "" for value in values), ""])
    found: list[object] = []
    for row in range(len(frames)):
        kinds = (verdict[codes[row]] for verdict, (_, codes) in zip(verdicts, columns, strict=True))
        found.append(next(filter(None, kinds), "UNKNOWN"))
    return found


def _kind_of(value: object) -> str:
    """Return what the value of ComplexImageComponent, or values 3 and on of an image type, say."""
    for part in value[2:] if isinstance(value, tuple) else (value,):
        if part in _FRAME_TYPES:
            return str(part)
        if part in _LETTERS:
            return _LETTERS[str(part)]
    return ""


def _b_value(frames: Frames) -> list[object]:
    """Diffusion b-value in s/mm2, from the standard element or the vendor's."""
    found: list[object] = [None] * len(frames)
    for name, number in _B_VALUES.items():
        values, codes = frames.named(name)
        numbers = [*map(number, values), None]
        found = [numbers[code] if old is None else old for code, old in zip(codes.tolist(), found, strict=True)]
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _ge_number(value: object) -> float | None:
    """Return the b-value of GE, to which a scanner may add a multiple of 100,000."""
    first = value[0] if isinstance(value, tuple) else value
    return float(first % 100_000) if isinstance(first, int) else None


_B_VALUES: dict[str | tuple[str, int, int], Callable[[object], float | None]] = {
    "DiffusionBValue": _number,
    ("SIEMENS MR HEADER", 0x0019, 0x0C): _number,
    ("Philips Imaging DD 001", 0x2001, 0x03): _number,
    ("GEMS_PARM_01", 0x0043, 0x39): _ge_number,
}

register_attribute("slice_location", _slice_location)
register_attribute("image_type", _image_type)
register_attribute("b_value", _b_value)
