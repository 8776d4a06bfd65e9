"""Frames as pictures of 8 bits, and pictures as PNG files, made without any package for pictures.

Which frames, and what is beside them, is told by callers.
"""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import EditError, MissingPackageError

Picture = NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_METRE = 1


def grey_picture(values: NDArray[Any], limits: tuple[float, float], *, inverted: bool = False) -> Picture:
    """Return values as brightness.

    Parameters
    ----------
    values
        Shape (rows, columns); NaN becomes the middle.
    limits
        What becomes black and what becomes white; beyond these nothing can be told apart.
    inverted
        Whether low values are bright, as in MONOCHROME1.

    Returns
    -------
    ndarray
        uint8, of the same shape.
    """
    low, high = limits
    share = np.nan_to_num((values.astype(np.float64) - low) / (high - low), nan=0.5, posinf=1.0, neginf=0.0)
    picture = np.asarray(np.clip(255 * share, 0, 255).round(), np.uint8)
    return 255 - picture if inverted else picture


def colour_picture(values: NDArray[Any]) -> Picture:
    """Return colours, shape (rows, columns, 3), as 8 bits: as they are, else so that the brightest is full."""
    eight = values if values.dtype == np.uint8 else 255.0 * values / max(float(values.max()), 1.0)
    return np.asarray(np.clip(eight, 0, 255), np.uint8)


def tinted(picture: Picture, colormap: str) -> Picture:
    """Return a grey picture in the colours of a map of matplotlib, shape (rows, columns, 3).

    Raises
    ------
    EditError
        If matplotlib knows no such map.
    MissingPackageError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise MissingPackageError("colour maps need matplotlib: pip install matplotlib") from error
    if colormap not in colormaps:
        raise EditError(f"matplotlib has no colour map {colormap!r}, such as 'gray' or 'viridis'")
    table = colormaps[colormap](np.arange(256), bytes=True)[:, :3]
    return np.asarray(table[picture], np.uint8)


def encode_png(picture: Picture, spacing: tuple[float, float] | None = None) -> bytes:
    """Return a picture as a PNG file (ISO/IEC 15948).

    Parameters
    ----------
    picture
        8 bits; shape (rows, columns), or (rows, columns, 3) for RGB.
    spacing
        (row spacing, column spacing) in mm, which the file then says in pixels per metre.
    """
    rows, columns = picture.shape[:2]
    colour = 2 if picture.ndim == 3 else 0
    # Each row begins with the number of its filter, 0 for none.
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), picture.reshape(rows, -1)], axis=1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, colour, 0, 0, 0))]
    if spacing is not None:
        down, across = (round(1000 / size) for size in spacing)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, _METRE)))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
