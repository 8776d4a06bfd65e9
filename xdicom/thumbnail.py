"""The middle frame of a series as a small PNG, made without any package for pictures.

A frame that cannot be read is told, never raised.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .dims import order_frames
from .errors import XdicomError
from .frames import Frames
from .montage import scale
from .pictures import colour_picture, encode_png, grey_picture
from .reading import read_frames, readable

_MOST_STRETCHED = 8.0


class Thumbnail(NamedTuple):
    """A PNG file, b"" where there is none for the `reason`; its width and height in pixels."""

    png: bytes
    reason: str = ""
    width: int = 0
    height: int = 0


def thumbnail(frames: Frames, size: int) -> Thumbnail:
    """Return the middle frame of a table, in its window and with its aspect in mm.

    Parameters
    ----------
    frames
        Of a series, in any order.
    size
        The longer side in pixels.
    """
    try:
        images = readable(frames)
        order = order_frames(images)
        row = images.take(order[len(order) // 2 : len(order) // 2 + 1])
        pixels = _brightness(read_frames(row, np.zeros(1, np.intp), None)[0], row)
        small = resized(pixels, *_shape(row, pixels.shape, size))
        return Thumbnail(encode_png(small), "", small.shape[1], small.shape[0])
    except (XdicomError, OSError, ValueError, ArithmeticError, MemoryError) as error:
        return Thumbnail(b"", str(error) or type(error).__name__)


def _brightness(values: NDArray[Any], row: Frames) -> NDArray[np.uint8]:
    """Return one frame as 8 bits: grey by its window, colours as they are."""
    if values.ndim == 3:
        return colour_picture(values)
    window = next(iter(row.unique("window")), None)
    asked = None if window is None else (window[0] - window[1] / 2, window[0] + window[1] / 2)
    inverted = "MONOCHROME1" in row.unique("PhotometricInterpretation")
    return grey_picture(values, scale(values, asked), inverted=inverted)


def _shape(row: Frames, shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return rows and columns of the thumbnail: pixels square, the longer side `size`."""
    spacing = np.ravel(row.values("PixelSpacing"))
    ratio = float(spacing[0] / spacing[1]) if spacing.size == 2 and (spacing > 0).all() else 1.0
    ratio = min(max(ratio, 1 / _MOST_STRETCHED), _MOST_STRETCHED)
    height, width = shape[0] * ratio, float(shape[1])
    longest = max(height, width)
    return max(round(size * height / longest), 1), max(round(size * width / longest), 1)


def resized(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return an image of another size: means where it shrinks, repeated pixels where it grows.

    Parameters
    ----------
    image
        Shape (rows, columns) or (rows, columns, 3).
    rows, columns
        The new size.
    """
    found = image.astype(np.float64)
    for axis, count in enumerate((rows, columns)):
        length = found.shape[axis]
        starts = np.arange(count) * length // count
        if count < length:
            widths = np.diff(np.append(starts, length)).reshape(-1, *[1] * (found.ndim - 1 - axis))
            found = np.add.reduceat(found, starts, axis=axis) / widths
        else:
            found = found.take(starts, axis=axis)
    return np.asarray(found.round(), np.uint8)
