"""Registry of lower_case attributes: what is read from frames and, where it can be, set on them.

The built-in ones are registered here; anybody may add more. They are evaluated frame by frame, from tags alone.
"""

import difflib
import keyword
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import geometry, imagetypes
from .errors import EditError
from .frames import ATTRIBUTES, Attribute, Frames
from .tags import PrivateTag, TagLike

Name = TagLike | tuple[str, int, int]

_RESERVED = """
    affine array check children close copy_to database forget frames key merge move_to ndarray new_patient new_series
    new_sibling new_study patient patients plot problems remove rescan restore save series set set_ndarray set_xarray
    split status studies study subseries to_csv to_nifti to_pandas to_png to_xarray to_zarr
"""
RESERVED = frozenset(_RESERVED.split())
"""What records use for something else."""

COLORMAP = PrivateTag("xdicom", 0x0029, 0x02)
"""Private element, LO: name of the colour map that an image is to be shown in."""

_SIEMENS_B, _PHILIPS_B = ("SIEMENS MR HEADER", 0x0019, 0x0C), ("Philips Imaging DD 001", 0x2001, 0x03)
# The first of four numbers; whether it comes with 1e9 added depends on the software version.
_GE_B = ("GEMS_PARM_01", 0x0043, 0x39)
_GE_OFFSET = 100_000


def register_attribute(
    name: str,
    get: Callable[[Frames], Sequence[object] | NDArray[Any]],
    set: Callable[[Any, Frames], Mapping[Any, object]] | None = None,  # noqa: A002 - reads as series.name = value
) -> None:
    """Add a lower_case attribute to every record, to dims and to conditions.

    Parameters
    ----------
    name
        In lower case, an identifier; names that a record has are refused. One that is registered already is replaced.
    get
        From frames to one value a frame, as an array or a sequence (None or NaN where it has none).
    set
        From a value (None where the attribute is deleted) and frames to the values by tag that must be set. A numpy
        array has one value for each frame, anything else goes into all of them. Without it the attribute cannot be set.

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


# -- built in


def _slice_location(frames: Frames) -> list[object]:
    """Position along the normal of the slice, in mm, whatever SliceLocation says."""
    position, orientation = frames.values("ImagePositionPatient"), frames.values("ImageOrientationPatient")
    if position.ndim != 2 or orientation.ndim != 2 or position.shape[1] != 3 or orientation.shape[1] != 6:
        return [None] * len(frames)
    found = np.round(geometry.slice_location(position, orientation), 6)
    return [None if np.isnan(value) else float(value) for value in found]


def _b_value(frames: Frames) -> list[object]:
    """Diffusion b-value in s/mm2, from the standard element or the vendor's."""
    found: list[object] = [None] * len(frames)
    for name in ("DiffusionBValue", _SIEMENS_B, _PHILIPS_B, _GE_B):
        values, codes = frames.named(name)
        numbers = [_number(value, name) for value in values]
        found = [
            numbers[code] if old is None and code >= 0 else old for code, old in zip(codes.tolist(), found, strict=True)
        ]
    return found


def _number(value: object, name: object) -> float | None:
    if name == _GE_B:
        first = value[0] if isinstance(value, tuple) else value
        return float(first % _GE_OFFSET) if isinstance(first, int) else None
    return float(value) if isinstance(value, int | float) else None


def _set_b_value(value: object, frames: Frames) -> dict[Name, object]:
    """Set the standard element, and the vendor's where it would say something else."""
    changes: dict[Name, object] = {"DiffusionBValue": value}
    for name in (_SIEMENS_B, _PHILIPS_B):
        if (frames.named(name)[1] >= 0).all() and len(frames):
            changes[name] = value
    return changes


def _window(frames: Frames) -> list[object]:
    """Return (center, width), the first pair where there are several."""
    pairs = zip(*(_firsts(frames, name) for name in ("WindowCenter", "WindowWidth")), strict=True)
    return [None if None in pair else pair for pair in pairs]


def _firsts(frames: Frames, name: str) -> list[object]:
    values, codes = frames.named(name)
    firsts = [value[0] if isinstance(value, tuple) else value for value in values]
    return [firsts[code] if code >= 0 else None for code in codes.tolist()]


def _set_window(value: object, frames: Frames) -> dict[Name, object]:
    if value is None:
        center, width = None, None
    elif isinstance(value, list | tuple) and len(value) == 2:
        center, width = value
    else:
        raise EditError(f"window = {value!r}: expected (center, width)")
    if isinstance(width, int | float) and width <= 0:
        raise EditError(f"window = {value!r}: the width must be more than 0")
    # One pair has one explanation, and a table of values would take precedence.
    return {"WindowCenter": center, "WindowWidth": width, "WindowCenterWidthExplanation": None}


def _colormap(frames: Frames) -> list[object]:
    values, codes = frames.named(COLORMAP)
    return [values[code] if code >= 0 else None for code in codes.tolist()]


def _set_colormap(value: object, frames: Frames) -> dict[Name, object]:
    if value is not None:
        check_colormap(value)
    return {COLORMAP: value}


def check_colormap(name: object) -> None:
    """Refuse what is no colour map of matplotlib, where that is installed.

    Raises
    ------
    EditError
        With names that are near.
    """
    if not isinstance(name, str) or not name:
        raise EditError(f"colormap = {name!r}: expected a name such as 'gray' or 'viridis'")
    try:
        from matplotlib import colormaps
    except ImportError:
        return
    if name not in colormaps:
        near = difflib.get_close_matches(name, colormaps, 3, 0.6)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise EditError(f"matplotlib has no colour map {name!r}{hint}")


register_attribute("slice_location", _slice_location)
register_attribute("b_value", _b_value, _set_b_value)
register_attribute("window", _window, _set_window)
register_attribute("colormap", _colormap, _set_colormap)
register_attribute("image_type", imagetypes.image_types, imagetypes.set_image_type)
register_attribute("signal_type", imagetypes.signal_types, imagetypes.set_signal_type)
