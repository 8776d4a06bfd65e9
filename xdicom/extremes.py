"""SmallestImagePixelValue and LargestImagePixelValue of staged images, where the images that they come from had them.

Other elements that describe pixels are the same for all images of an array, and made in `pixelmodule`.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .columns import Column, Known, Raw, distinct_pairs
from .elements import Columns, Header, headers_of
from .frames import Frames
from .pixels import to_stored

_SMALLEST, _LARGEST = 0x00280106, 0x00280107
_SAMPLES, _FRAMES = 0x00280002, 0x00280008


def has_extremes(header: Header) -> bool:
    """Say whether a header tells the extremes of one image, and not those of several in its file."""
    (_, samples), (_, count) = (header.get(tag, ("", b"")) for tag in (_SAMPLES, _FRAMES))
    is_one = samples in (b"", b"\1\0") and count.strip(b"\0 ") in (b"", b"1")
    return is_one and (_SMALLEST in header or _LARGEST in header)


def tell_extremes(columns: Columns, count: int) -> list[bool]:
    """Say for each of `count` rows whether its header tells the extremes of one image."""
    if _SMALLEST not in columns and _LARGEST not in columns:
        return [False] * count
    wanted = {tag: columns[tag] for tag in (_SMALLEST, _LARGEST, _SAMPLES, _FRAMES) if tag in columns}
    return [has_extremes(header) for header in headers_of(wanted, count)]


def with_extremes(
    frames: Frames, low: NDArray[np.float64], high: NDArray[np.float64], wanted: Sequence[bool]
) -> Frames:
    """Return staged frames with the extremes of their stored values.

    Parameters
    ----------
    frames
        The frames.
    low, high
        Least and greatest real-world value of each; NaN where it is padded, so that it tells none.
    wanted
        Which of them tell their extremes.
    """
    rows = np.flatnonzero(np.asarray(wanted, bool) & np.isfinite(low))
    if not rows.size:
        return frames
    locations = frames.locations
    pairs, inverse = distinct_pairs(locations.format_codes[rows], locations.rescale_codes[rows])
    values: list[list[Known | None]] = [[None] * len(frames) for _ in range(2)]
    for number, (form, scale) in enumerate(pairs):
        fmt, rescale = locations.formats[form], locations.rescales[scale]
        chosen = rows[inverse == number]
        stored = to_stored(np.stack([low[chosen], high[chosen]]), fmt, rescale)
        vr = "SS" if stored.dtype.kind == "i" else "US"
        for place, numbers in zip(values, stored.tolist(), strict=True):
            for row, value in zip(chosen.tolist(), numbers, strict=True):
                place[row] = vr, struct.pack("<H", value & 0xFFFF)
    return frames.with_columns({_SMALLEST: _column(values[0]), _LARGEST: _column(values[1])})


def _column(raws: Sequence[Known | None]) -> Column:
    index: dict[Raw, int] = {}
    codes = [-1 if raw is None else index.setdefault(raw, len(index)) for raw in raws]
    return Column(list(index), np.array(codes, np.int32))
