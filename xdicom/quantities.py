"""What frames are images of: a signal, its phase, a map of T1; and whether they were measured or derived.

It reads image types as the standard and the vendors write them; which frames go together is decided elsewhere.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .dims import IndexArray, column_of, joint_codes
from .errors import UnknownTagError

if TYPE_CHECKING:
    from .frames import Frames

QUANTITY_DIMS = ("signal_type", "image_type", "FrameType", "ImageType")
"""What tells quantities apart as a dim, best first."""

# Terms of ImageType and FrameType that say how an image was acquired or corrected, not what it shows.
_HOW = {
    *("ND", "NORM", "DIS1D", "DIS2D", "DIS3D", "FM", "FIL", "SH", "FILTERED", "MFSPLIT", "MOCO", "RESAMPLED"),
    *("MOSAIC", "NONE", "OTHER", "UNSPECIFIED", "STANDARD", "EXTRACTED", "REGULAR", "STATIC", "DYNAMIC", "GATED"),
    *("DIFFUSION", "TRACEW", "COMBINED", "PERFUSION", "FMRI", "AXIAL", "HELICAL", "VOLUME"),
    *("SE", "FFE", "IR", "GR", "EPI"),
}
# What value 3 may say of the weighting of a signal; further on the same terms name a map.
_WEIGHTING = frozenset({"T1", "T2", "T2_STAR", "PROTON_DENSITY", "FLUID_ATTENUATED"})


def quantities(frames: "Frames") -> IndexArray:
    """Return a code for each frame, the same where frames show the same quantity.

    Magnitude and phase, water and fat, a diffusion coefficient and a signal are different quantities; a signal that is
    weighted otherwise is not.

    Returns
    -------
    ndarray
        Shape (n,).
    """
    return joint_codes(_attribute(frames, "image_type"), _told(frames, _shown))


def kinds(frames: "Frames") -> IndexArray:
    """Return a code for each frame, the same where frames show the same quantity, and are original or derived alike.

    Returns
    -------
    ndarray
        Shape (n,).
    """
    return joint_codes(quantities(frames), _told(frames, _origin))


def _attribute(frames: "Frames", name: str) -> IndexArray:
    try:
        return column_of(frames, name)[2]
    except UnknownTagError:
        return np.zeros(len(frames), np.intp)


def _told(frames: "Frames", tell: Callable[[object], object]) -> IndexArray:
    """Return codes of what FrameType tells, ImageType where a frame has none."""
    codes = np.full(len(frames), -1, np.intp)
    index: dict[object, int] = {}
    for name in ("ImageType", "FrameType"):
        _, values, found = column_of(frames, name)
        told = [index.setdefault(tell(value), len(index)) for value in values]
        codes = np.where(found >= 0, np.array([*told, -1], np.intp)[found], codes)
    return codes


def _shown(value: object) -> frozenset[str]:
    """Return the terms of an image type that say what is shown."""
    parts = [str(part or "") for part in value] if isinstance(value, tuple) else []
    third = {part for part in parts[2:3] if part not in _WEIGHTING}
    return frozenset((third | set(parts[3:])) - _HOW - {""})


def _origin(value: object) -> object:
    """Return ORIGINAL or DERIVED."""
    return value[0] if isinstance(value, tuple) and value else value
