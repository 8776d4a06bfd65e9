"""Frames as PNG files, a file a frame and a pixel a pixel.

For many images in one picture there is `Record.plot`.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dims import order_frames, vectors
from .errors import EditError, SaveError
from .frames import Frames
from .montage import percentiles
from .pictures import Picture, colour_picture, encode_png, grey_picture, tinted
from .reading import readable

Progress = Callable[[int, int], None]
Window = tuple[float, float]

_SPACING, _PHOTOMETRIC = 0x00280030, 0x00280004
_SAMPLE = 9  # frames that a common window is chosen by


def write_pngs(
    frames: Frames,
    folder: str | os.PathLike[str],
    *,
    window: Window | None = None,
    colormap: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write every image among frames as a PNG file of 8 bits, with as many rows and columns as it has.

    Parameters
    ----------
    frames
        Objects without pixels among them are passed over.
    folder
        A folder that does not exist. Files are "00001.png" and so on, in the order of `Record.ndarray`: by
        InstanceNumber, then frame number.
    window
        (center, width) in the unit of the values, for all images. By default that of each image's header; where there
        is none, from the 1st to the 99th percentile of some of the images, the same for all.
    colormap
        Of matplotlib, for images that are not in colour; by default that of the series, else grey.
    progress
        Called with the number of images written and that of all.

    Returns
    -------
    list of Path
        The files. Each says the size of its pixels (in pixels per metre) where the header does.

    Raises
    ------
    SaveError
        If there is something at the path.
    PixelError
        If there are no images, or one cannot be read; then nothing is written.
    EditError
        If the window has no width, or matplotlib has no such colour map.
    """
    target = Path(folder).absolute()
    if os.path.lexists(target):
        raise SaveError(f"{str(target)!r} is there already, and nothing is replaced: give another folder")
    if window is not None and not window[1] > 0:
        raise EditError(f"window={window}: expected (center, width) with a width above 0")
    images = readable(frames)
    order = order_frames(images).tolist()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{uuid.uuid4().hex}.partial")
    unfinished.mkdir()
    try:
        names = _write_all(_Pictures(images, window, colormap), order, unfinished, progress)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return [target / name for name in names]


def _write_all(pictures: "_Pictures", order: Sequence[int], folder: Path, progress: Progress | None) -> list[str]:
    names = []
    for number, row in enumerate(order, 1):
        names.append(f"{number:05d}.png")
        (folder / names[-1]).write_bytes(encode_png(pictures.picture(row), pictures.spacing(row)))
        if progress:
            progress(number, len(order))
    return names


class _Pictures:
    """The frames of a table as pictures."""

    def __init__(self, frames: Frames, window: Window | None, colormap: str | None) -> None:
        self._locations = frames.locations
        self._windows = _by_row(frames, "window") if window is None else [window] * len(frames)
        self._colormaps = _by_row(frames, "colormap") if colormap is None else [colormap] * len(frames)
        self._inverted = [value == "MONOCHROME1" for value in _by_row(frames, _PHOTOMETRIC)]
        self._spacing = vectors(frames, _SPACING, 2)
        self._common: Window | None = None

    def spacing(self, row: int) -> Window | None:
        """Return the distances of rows and columns in mm, None where the header does not say them."""
        down, across = self._spacing[row].tolist()
        return (down, across) if 1e-3 < down < 1e3 and 1e-3 < across < 1e3 else None

    def picture(self, row: int) -> Picture:
        """Return one frame."""
        values = self._read(row)
        if values.ndim == 3:
            return colour_picture(values)
        grey = grey_picture(values, self._limits(row), inverted=self._inverted[row])
        colormap = self._colormaps[row]
        return grey if colormap in (None, "gray") else tinted(grey, colormap)

    def _read(self, row: int) -> NDArray[Any]:
        one = self._locations.take([row])
        values = np.empty((1, *one.frame_shape()), one.dtype())
        one.read([0], values)
        found: NDArray[Any] = values[0]
        return found

    def _limits(self, row: int) -> Window:
        window = self._windows[row]
        if window is not None and window[1] > 0:
            return window[0] - window[1] / 2, window[0] + window[1] / 2
        if self._common is None:
            rows = np.unique(np.linspace(0, len(self._locations) - 1, _SAMPLE).astype(int)).tolist()
            self._common = percentiles(np.concatenate([self._read(each).reshape(-1) for each in rows]))
        return self._common


def _by_row(frames: Frames, name: Any) -> list[Any]:
    """Return the value of each row, None where it has none."""
    values, codes = frames.named(name)
    return [values[code] if code >= 0 else None for code in codes.tolist()]
