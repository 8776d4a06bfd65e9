"""What the frames of one stack share: matrix, orientation, spacing, frame of reference, quantity.

It tells frames apart that cannot lie in one stack; it arranges none.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import geometry
from .dims import (
    ORIENTATION,
    ORIENTATION_TOLERANCE,
    POSITION,
    IndexArray,
    clusters,
    column_of,
    joint_codes,
    locate,
    vectors,
)

if TYPE_CHECKING:
    from .frames import Frames

_SPACING_TOLERANCE = 1e-4
_PIXEL_SPACING = 0x00280030


def matrices(frames: "Frames") -> IndexArray:
    """Return a code for each frame, the same where rows, columns and samples are."""
    names = ("Rows", "Columns", "SamplesPerPixel")
    return joint_codes(*(column_of(frames, name)[2] for name in names))


def located(frames: "Frames") -> IndexArray:
    """Return 1 for each frame with position and orientation, 0 for others."""
    return np.isfinite(locate(frames)).astype(np.intp)


def orientations(frames: "Frames") -> IndexArray:
    """Return a code for each frame, the same where directions are within a thousandth."""
    return clusters(frames, ORIENTATION, 6, ORIENTATION_TOLERANCE)[1]


def spacings(frames: "Frames") -> IndexArray:
    """Return a code for each frame, the same where PixelSpacing is within 0.1 micrometres."""
    return clusters(frames, _PIXEL_SPACING, 2, _SPACING_TOLERANCE)[1]


def references(frames: "Frames") -> IndexArray:
    """Return a code for each frame, the same where FrameOfReferenceUID is."""
    return column_of(frames, "FrameOfReferenceUID")[2]


def sides(frames: "Frames") -> IndexArray:
    """Return a code for each frame, the same where frames lie above one another.

    Frames at the same slice position that are more than half a pixel away from each other within the plane lie side
    by side. Where there are none, all have one code: the slices of a tilted stack shift from one to the next.
    """
    at = locate(frames)
    if not np.isfinite(at).all() or not len(frames):
        return np.zeros(len(frames), np.intp)
    within = _within_plane(frames)
    slices = geometry.distinct(at)[1]
    room = _half_pixel(frames)
    order = np.argsort(slices, kind="stable")
    starts = np.flatnonzero(np.diff(slices[order], prepend=-1))
    spread = np.maximum.reduceat(within[order], starts) - np.minimum.reduceat(within[order], starts)
    if (spread <= room).all():
        return np.zeros(len(frames), np.intp)
    return joint_codes(*(geometry.distinct(within[:, axis], room)[1] for axis in range(2)))


SHARED: dict[str, Callable[["Frames"], IndexArray]] = {
    "matrix sizes": matrices,
    "kinds with and without position and orientation": located,
    "orientations": orientations,
    "pixel spacings": spacings,
    "frames of reference": references,
    "places side by side": sides,
}
"""What all frames of a stack must share: words for several, and the codes."""


def count_of(codes: IndexArray) -> int:
    """Return how many different codes there are."""
    return len(np.unique(codes))


def _within_plane(frames: "Frames") -> NDArray[np.float64]:
    """Return where frames lie along their row and their column direction, in mm: shape (n, 2)."""
    positions, directions = vectors(frames, POSITION, 3), vectors(frames, ORIENTATION, 6)
    return np.stack([(positions * directions[:, :3]).sum(axis=1), (positions * directions[:, 3:]).sum(axis=1)], axis=1)


def _half_pixel(frames: "Frames") -> float:
    sizes = vectors(frames, _PIXEL_SPACING, 2)
    known = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(known.min()) / 2 if known.size else 0.5
