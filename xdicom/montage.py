"""Images laid out in a figure: tiles with titles and orientation letters, or panels side by side. Plain arrays in.

What is shown, and in which window, is chosen by the caller. The state of pyplot is left alone.
"""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .display import escape
from .errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from .geometry import FloatArray

_PANEL_INCHES = 3.6
_ABSENT = "0.75"  # grey, where there is no value
_FIGURE_INCHES = 9.0  # either way, at most, unless titles need more
_SINGLE_INCHES, _TILE_INCHES = 4.8, (1.1, 3.0)
_TITLE_INCHES, _HEAD_INCHES, _GAP_INCHES = 0.19, 0.3, 0.06
_SIDE_INCHES, _BAR_INCHES, _TICKS_INCHES = 0.3, 0.75, 0.55
_LANDSCAPE = 1.3
_ROOM = 0.16  # inches a character of a title needs at least, times two
_MASK_OPACITY = 0.45
_LEAST_INSIDE = 0.02  # share of the values that a window must tell apart
_LETTER_STYLE: dict[str, Any] = {"color": "#ffd54a", "fontsize": 7.5, "fontweight": "bold"}


@dataclass(frozen=True)
class Tile:
    """One image of a montage.

    Attributes
    ----------
    values
        Shape (rows, columns), or (rows, columns, 3 or 4) with colours from 0 to 1; NaN is left grey.
    title, side
        Text above it, and at the left of a row of tiles.
    letters
        What is at its left, right, top and bottom edge: such as ("R", "L", "A", "P").
    labels
        Of a mask, shape (rows, columns): 0 is outside.
    """

    values: NDArray[Any]
    title: str = ""
    side: str = ""
    letters: tuple[str, str, str, str] = ("", "", "", "")
    labels: NDArray[Any] | None = None


@dataclass(frozen=True)
class Look:
    """How all tiles of a montage are shown.

    Attributes
    ----------
    title
        Above all of them.
    window
        (low, high) of the colour scale.
    colormap
        A name that matplotlib knows.
    aspect
        Height of a pixel over its width.
    extent
        (left, right, bottom, top) of the pixel edges, for the axes of a single tile; None where it has no axes.
    axis_labels
        Of the horizontal and the vertical axis of a single tile.
    unit
        Of the values, beside the colour bar.
    """

    title: str = ""
    window: tuple[float, float] = (0.0, 1.0)
    colormap: str = "gray"
    aspect: float = 1.0
    extent: tuple[float, float, float, float] | None = None
    axis_labels: tuple[str, str] = ("", "")
    unit: str = ""


def montage(
    tiles: Sequence[Tile], look: Look, *, across: int | None = None, figure: "Figure | None" = None
) -> "Figure":
    """Draw tiles in rows, from left to right and from top to bottom, with one colour bar.

    Parameters
    ----------
    tiles
        At least one; all of one shape.
    look
        How they are shown.
    across
        How many tiles a row has; by default so many that the figure is a little wider than high.
    figure
        Drawn into, in place of a new one.

    Returns
    -------
    matplotlib.figure.Figure
        One that a notebook shows; `savefig` writes it.

    Raises
    ------
    MissingPackageError
        Matplotlib is not installed.
    ValueError
        There is no tile, or one has no pixels.
    """
    if not tiles or not all(tile.values.size for tile in tiles):
        raise ValueError("there is no image to show: the array has no elements")
    layout = _Layout.of(tiles, look, across)
    if figure is None:
        figure = new_figure(*layout.size)
    _head(figure, layout, look.title)
    image = None
    for index, tile in enumerate(tiles):
        axes = figure.add_axes(layout.box(index))
        image = _draw_tile(axes, tile, look, layout)
    if image is not None and layout.has_bar:
        bar = figure.colorbar(image, cax=figure.add_axes(layout.bar_box()))
        bar.ax.tick_params(labelsize=7)
        bar.set_label(_plain(look.unit), fontsize=8)
    return figure


@dataclass(frozen=True)
class _Layout:
    """Where things are, in inches from the upper left corner."""

    across: int
    down: int
    tile: tuple[float, float]
    side: float
    foot: float
    has_titles: bool
    has_bar: bool

    @classmethod
    def of(cls, tiles: Sequence[Tile], look: Look, across: int | None) -> "_Layout":
        rows, columns = tiles[0].values.shape[:2]
        ratio = min(max(rows * look.aspect / columns, 0.05), 20.0)
        count = len(tiles)
        across = across or _across(count, ratio)
        longest = max(len(tile.title) for tile in tiles)
        low = max(_TILE_INCHES[0], longest * _ROOM / 2)
        width = _SINGLE_INCHES if count == 1 else min(max(_FIGURE_INCHES / across, low), max(_TILE_INCHES[1], low))
        width = max(min(width, _FIGURE_INCHES / (-(-count // across) * ratio)), low)
        has_ticks = count == 1 and look.extent is not None
        side = _TICKS_INCHES + 0.1 if has_ticks else _SIDE_INCHES if any(tile.side for tile in tiles) else 0.1
        has_bar = tiles[0].values.ndim == 2
        foot = _TICKS_INCHES if has_ticks else 0.1
        return cls(across, -(-count // across), (width, width * ratio), side, foot, longest > 0, has_bar)

    @property
    def _title(self) -> float:
        return _TITLE_INCHES if self.has_titles else 0.0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        bar = _BAR_INCHES + 0.1 if self.has_bar else 0.1
        width = self.side + self.across * (self.tile[0] + _GAP_INCHES) + bar
        return width, _HEAD_INCHES + self.down * (self._title + self.tile[1] + _GAP_INCHES) + self.foot

    def _fractions(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        full_width, full_height = self.size
        bottom = full_height - top - height
        return left / full_width, bottom / full_height, width / full_width, height / full_height

    def box(self, index: int) -> tuple[float, float, float, float]:
        """Return (left, bottom, width, height) of a tile, as parts of the figure."""
        row, column = divmod(index, self.across)
        left = self.side + column * (self.tile[0] + _GAP_INCHES)
        top = _HEAD_INCHES + self._title + row * (self._title + self.tile[1] + _GAP_INCHES)
        return self._fractions(left, top, *self.tile)

    def bar_box(self) -> tuple[float, float, float, float]:
        """Return the box of the colour bar."""
        top = _HEAD_INCHES + self._title
        height = self.size[1] - top - self.foot - _GAP_INCHES
        left = self.side + self.across * (self.tile[0] + _GAP_INCHES) + 0.06
        return self._fractions(left, top, 0.12, min(height, 4.0))


def _across(count: int, ratio: float) -> int:
    """Return how many tiles a row has: near to a figure a little wider than high, and with few places left empty."""
    ideal = min(max(round(math.sqrt(count * ratio * _LANDSCAPE)), 1), count)
    near = [n for n in (ideal, ideal + 1, ideal - 1) if 1 <= n <= count]
    return min(near, key=lambda n: -count % n)


def _head(figure: "Figure", layout: _Layout, title: str) -> None:
    """Write the title of the figure, in as many lines as it needs."""
    width, height = layout.size
    most = max(int(width / 0.075), 12)
    text = _plain(title if len(title) <= most else title[: most - 1] + "…")
    figure.text(0.1 / width, 1 - 0.06 / height, text, ha="left", va="top", fontsize=9)


def _draw_tile(axes: "Axes", tile: Tile, look: Look, layout: _Layout) -> "AxesImage":
    """Draw one image with what is around and over it."""
    from matplotlib import colormaps

    rows, columns = tile.values.shape[:2]
    extent = look.extent or (-0.5, columns - 0.5, rows - 0.5, -0.5)
    colours = colormaps[look.colormap].with_extremes(bad=_ABSENT)
    values = np.ma.masked_invalid(tile.values) if tile.values.dtype.kind == "f" else tile.values
    image = axes.imshow(values, cmap=colours, vmin=look.window[0], vmax=look.window[1], aspect="auto", extent=extent)
    if tile.labels is not None:
        axes.imshow(mask_colours(tile.labels), aspect="auto", extent=extent, interpolation="nearest")
    axes.set_title(_plain(tile.title), fontsize=8, pad=2)
    if tile.side:
        axes.text(-0.03, 0.5, _plain(tile.side), transform=axes.transAxes, **_SIDE_STYLE)
    if look.extent is None or layout.across * layout.down > 1:
        axes.set_axis_off()
    else:
        axes.tick_params(labelsize=7)
        axes.set_xlabel(_plain(look.axis_labels[0]), fontsize=8)
        axes.set_ylabel(_plain(look.axis_labels[1]), fontsize=8)
    _draw_letters(axes, tile.letters)
    return image


_SIDE_STYLE: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 8}
_EDGES = (((0.02, 0.5), "left", "center"), ((0.98, 0.5), "right", "center"))
_ENDS = (((0.5, 0.98), "center", "top"), ((0.5, 0.02), "center", "bottom"))


def _draw_letters(axes: "Axes", letters: Sequence[str]) -> None:
    from matplotlib.patheffects import withStroke

    for text, (place, horizontal, vertical) in zip(letters, (*_EDGES, *_ENDS), strict=True):
        drawn = axes.text(*place, text, transform=axes.transAxes, ha=horizontal, va=vertical, **_LETTER_STYLE)
        drawn.set_path_effects([withStroke(linewidth=1.5, foreground="black")])


def mask_colours(labels: NDArray[Any]) -> "FloatArray":
    """Return the colours of a mask.

    Parameters
    ----------
    labels
        Shape (rows, columns): 0 (or NaN) is outside, other numbers are labels.

    Returns
    -------
    ndarray
        RGBA from 0 to 1, shape (rows, columns, 4); transparent outside. Labels differ in colour, the first ten at
        least.
    """
    from matplotlib import colormaps

    palette = np.array([*colormaps["Set1"](range(9)), colormaps["Set2"](0)])[:, :3]
    values = np.nan_to_num(np.asarray(labels, float))
    colours = np.zeros((*values.shape, 4))
    inside = values != 0
    index = (np.abs(values[inside]).astype(np.int64) - 1) % len(palette)
    colours[inside] = np.column_stack([palette[index], np.full(len(index), _MASK_OPACITY)])
    return colours


def letters(direction: Sequence[float] | NDArray[Any]) -> str:
    """Return the letters of a direction in the patient, as PatientOrientation has them (PS3.3 C.7.6.1.1.1).

    Parameters
    ----------
    direction
        A vector in LPS, of any length.

    Returns
    -------
    str
        Of L, R, A, P, H (head), F (feet) those that the direction has a share in, the largest first; shares under 9
        degrees are left out. "" where the direction is not finite.

    Examples
    --------
    >>> letters([1, 0, 0]), letters([0.8, -0.6, 0]), letters([0, 0, -1])
    ('L', 'LA', 'F')
    """
    vector = np.asarray(direction, float)
    length = float(np.linalg.norm(vector))
    if not math.isfinite(length) or not length:
        return ""
    parts = vector / length
    order = sorted(range(3), key=lambda axis: -abs(parts[axis]))
    return "".join("LPH"[axis] if parts[axis] > 0 else "RAF"[axis] for axis in order if abs(parts[axis]) > _LEAST_SHARE)


_LEAST_SHARE = math.sin(math.radians(9))


def _plain(text: str) -> str:
    """Return text that matplotlib takes literally, on one line."""
    return escape(text).replace("$", r"\$")


@cache
def _picture_class(base: "type[Figure]") -> "type[Figure]":
    """Return a figure that a notebook shows although pyplot does not know it."""

    class Picture(base):  # type: ignore[misc,valid-type]
        """A figure that a notebook shows."""

        def _repr_png_(self) -> bytes:
            target = io.BytesIO()
            self.savefig(target, format="png")
            return target.getvalue()

    return Picture


def new_figure(width: float, height: float, **options: Any) -> "Figure":
    """Return an empty figure of its own, in inches, that leaves the state of pyplot alone.

    Raises
    ------
    MissingPackageError
        Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(
            'no matplotlib is installed, and pictures need it: pip install "xdicom[all]"'
        ) from error
    figure = _picture_class(Figure)(figsize=(width, height), dpi=130, **options)
    FigureCanvasAgg(figure)
    return figure


# -- panels side by side


@dataclass(frozen=True)
class Panel:
    """One part of a montage.

    Attributes
    ----------
    title
        What it shows; with the unit of the values, if any.
    values
        Shape (rows, columns), or (slices, rows, columns), which are tiled; NaN is left grey.
    window
        (low, high) of the colour scale; None takes the 1st and the 99th percentile.
    colormap
        A name that matplotlib knows.
    spacing
        (row spacing, column spacing) in mm, for the right aspect.
    """

    title: str
    values: NDArray[Any]
    window: tuple[float, float] | None = None
    colormap: str = "gray"
    spacing: tuple[float, float] = (1.0, 1.0)


def montage_png(path: str | os.PathLike[str], panels: Sequence[Panel]) -> None:
    """Write panels side by side, each with its colour bar, as a PNG file.

    Parameters
    ----------
    path
        The file; replaced if it exists.
    panels
        At least one.

    Raises
    ------
    MissingPackageError
        Matplotlib is not installed.
    ValueError
        An array has neither two nor three dimensions, or is empty.
    """
    tiles = [tiled(panel.values) for panel in panels]
    heights = [
        tile.shape[0] * panel.spacing[0] / (tile.shape[1] * panel.spacing[1])
        for tile, panel in zip(tiles, panels, strict=True)
    ]
    height = _PANEL_INCHES * min(max(heights), 3.0) + 0.9  # title and colour bar
    figure = new_figure(_PANEL_INCHES * len(panels), height, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, tile, panel in zip(axes, tiles, panels, strict=True):
        _draw_panel(figure, axis, tile, panel)
    figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.05)


def _draw_panel(figure: "Figure", axis: "Axes", tile: NDArray[Any], panel: Panel) -> None:
    """Draw one panel and its colour bar."""
    from matplotlib import colormaps

    low, high = percentiles(tile) if panel.window is None else panel.window
    colours = colormaps[panel.colormap].with_extremes(bad=_ABSENT)
    image = axis.imshow(
        np.ma.masked_invalid(tile),
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect=panel.spacing[0] / panel.spacing[1],
        interpolation="nearest",
    )
    axis.set_title(_plain(panel.title), fontsize=9)
    axis.set_axis_off()
    figure.colorbar(image, ax=axis, orientation="horizontal", fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)


def tiled(values: NDArray[Any]) -> NDArray[Any]:
    """Return slices laid out in a rectangle that is about as many tiles high as wide.

    Parameters
    ----------
    values
        Shape (rows, columns), returned as float, or (slices, rows, columns).

    Returns
    -------
    numpy.ndarray
        Float, shape (tiles down * rows, tiles across * columns); tiles without a slice are NaN.

    Raises
    ------
    ValueError
        There are neither two nor three dimensions, or no elements.
    """
    stack = np.asarray(values, dtype=np.result_type(values, np.float32))
    if stack.ndim not in (2, 3) or not stack.size:
        raise ValueError(f"an image has shape (rows, columns) or (slices, rows, columns), not {stack.shape}")
    if stack.ndim == 2:
        return stack
    count, rows, columns = stack.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    full = np.full((down * across, rows, columns), np.nan, stack.dtype)
    full[:count] = stack
    return full.reshape(down, across, rows, columns).swapaxes(1, 2).reshape(down * rows, across * columns)


def percentiles(values: NDArray[Any]) -> tuple[float, float]:
    """Return a window from the 1st to the 99th percentile of the finite values, never of zero width."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (1, 99))
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def scale(values: NDArray[Any], window: tuple[float, float] | None) -> tuple[float, float]:
    """Return a window that tells values apart.

    Parameters
    ----------
    values
        What is shown.
    window
        (low, high) that headers ask for; None where they say nothing.

    Returns
    -------
    tuple of float
        The window, or percentiles without one or where hardly a value lies in it: of values that were computed since.
    """
    if window is not None:
        finite = values[np.isfinite(values)]
        inside = np.count_nonzero((finite > window[0]) & (finite < window[1]))
        if inside >= _LEAST_INSIDE * finite.size:
            return window
    return percentiles(values)
