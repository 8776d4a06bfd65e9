"""Registry of lower_case attributes: what is read from frames and, where it can be, set on them.

The built-in ones are registered here; anybody may add more. They are evaluated frame by frame, from tags alone.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from . import geometry
from .errors import EditError
from .frames import ATTRIBUTES, Attribute, Frames
from .tags import TagLike

_FRAME_TYPES = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
# Third or fourth value of ImageType, by vendor.
_LETTERS = {"M": "MAGNITUDE", "M_FFE": "MAGNITUDE", "M_SE": "MAGNITUDE", "P": "PHASE", "PHASE MAP": "PHASE"}
_LETTERS |= {"R": "REAL", "I": "IMAGINARY", "P_FFE": "PHASE", "R_FFE": "REAL", "I_FFE": "IMAGINARY"}
# Private RawDataType of GE (0043,102F).
_GE_TYPES = {0: "MAGNITUDE", 1: "PHASE", 2: "REAL", 3: "IMAGINARY"}


def register_attribute(
    name: str,
    get: Callable[[Frames], Sequence[object]],
    set: Callable[[object, Frames], Mapping[TagLike, object]] | None = None,  # noqa: A002 - reads as series.name = value
) -> None:
    """Add a lower_case attribute to every record, to dims and to conditions.

    Parameters
    ----------
    name
        In lower case, an identifier; names that a record has are refused.
    get
        From frames to one value a frame (None where it has none).
    set
        From a value and frames to the tags that must be set; without it the attribute cannot be set.

    Raises
    ------
    EditError
        If the name is no lower_case identifier, or a record uses it for something else.

    Examples
    --------
    >>> register_attribute("slope", lambda frames: frames["RescaleSlope"].tolist())
    """
    if not name.isidentifier() or name != name.lower() or name.startswith("_"):
        raise EditError(f"{name!r} is no lower_case name")
    if name in RESERVED:
        raise EditError(f"{name!r} is a name that records have; choose another")
    ATTRIBUTES[name] = Attribute(get, set)


_METHODS = (
    "patients studies series patient study database children frames status problems check to_pandas to_xarray ndarray"
    " array set_ndarray set_xarray subseries split merge new_patient new_study new_series new_sibling copy_to move_to"
    " remove save restore plot close forget rescan affine key"
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
    found = ["UNKNOWN"] * len(frames)
    for name in ("ComplexImageComponent", "ImageType", "FrameType"):
        values, codes = frames.named(name)
        kinds = [_kind_of(value) for value in values]
        found = [kinds[code] if code >= 0 and kinds[code] else old for code, old in zip(codes, found, strict=True)]
    values, codes = frames.named(("GEMS_PARM_01", 0x0043, 0x2F))
    return [
        _GE_TYPES.get(values[code], old) if code >= 0 and isinstance(values[code], int) else old
        for code, old in zip(codes, found, strict=True)
    ]


def _kind_of(value: object) -> str:
    for part in value if isinstance(value, tuple) else (value,):
        if part in _FRAME_TYPES:
            return str(part)
        if part in _LETTERS:
            return _LETTERS[str(part)]
    return ""


def _b_value(frames: Frames) -> list[object]:
    """Diffusion b-value in s/mm2, from the standard element or the vendor's."""
    found: list[object] = [None] * len(frames)
    places = ("DiffusionBValue", ("SIEMENS MR HEADER", 0x0019, 0x0C), ("Philips Imaging DD 001", 0x2001, 0x03))
    for name in places:
        values, codes = frames.named(name)
        numbers = [float(value) if isinstance(value, int | float) else None for value in values]
        found = [
            numbers[code] if old is None and code >= 0 else old for code, old in zip(codes.tolist(), found, strict=True)
        ]
    return found


register_attribute("slice_location", _slice_location)
register_attribute("image_type", _image_type)
register_attribute("b_value", _b_value)
