"""A labelled array as a montage: which images, in which window, with which words and orientation letters.

All is taken from the array's coordinates and attributes. How tiles are drawn is known in `montage`.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .attributes import check_colormap
from .dims import STACK_DIMS
from .errors import EditError, GeometryError
from .infer import VOLUME
from .montage import Look, Tile, letters, montage, scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT = 25
_MOST_DOWN = 8  # tiles along either of two dims
_MOST_PIXELS = 1024  # of a tile in either direction; of larger images every n-th pixel is shown
_MOST_TEXT = 24
_COLORMAP = re.compile(r"tag_0029_00(\w\w)")
_IMAGE_DIMS = ("row", "column", "sample")


class _Choice(NamedTuple):
    """What is shown: indices by dim, tiles in rows of `across`, what every tile shares, and what is left out."""

    picked: dict[str, list[int]]
    across: int | None
    fixed: list[str]
    notes: list[str]


def plot(
    da: xr.DataArray,
    *,
    overlay: Any = None,
    window: tuple[float, float] | None = None,
    colormap: str | None = None,
    limit: int = LIMIT,
    figure: "Figure | None" = None,
    title: str | None = None,
    **where: Any,
) -> "Figure":
    """Draw the images of an array: rows downwards and columns to the right, as they are stored.

    Axial images so have the patient's left on the viewer's right; letters at the edges say what is where, in oblique
    images several. Pixels have their aspect in mm. Only what is shown is read.

    Parameters
    ----------
    da
        Dims ``(*dims, "row", "column"[, "sample"])``, in any order. With one further dim all images are shown, or an
        even choice of them; with two some of each, in a grid; of more the middle one.
    overlay
        A mask or labels over the images, 0 outside: an array with the dims of `da` or fewer.
    window
        (center, width) in the unit of the values; by default WindowCenter and WindowWidth, else from the 1st to the
        99th percentile of what is shown.
    colormap
        Of matplotlib; by default that of the series, else gray.
    limit
        The most images shown.
    figure
        Drawn into, such as `matplotlib.pyplot.figure()`; by default a new one, which a notebook shows.
    title
        In place of the description of the series.
    **where
        Along a dim: a value (the nearest), a list of values, or a slice from low to high.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    EditError
        If `where` names no dim or nothing that is there, or window or colormap is none.
    GeometryError
        If the mask lies on another grid.
    MissingPackageError
        Matplotlib is not installed.
    ValueError
        If the array has no images.
    """
    checked = _checked(da)
    array, fixed = _selected(checked, where)
    if colormap is not None:
        check_colormap(colormap)
    choice = _chosen(array, max(limit, 1))
    shown = array.isel(choice.picked)
    stride = {dim: slice(None, None, -(-shown.sizes[dim] // _MOST_PIXELS)) for dim in ("row", "column")}
    shown = shown.isel(stride).compute()
    mask = None if overlay is None else _aligned(overlay, array).isel(choice.picked, missing_dims="ignore")
    mask = None if mask is None else mask.isel(stride).compute()
    tiles = _tiles(shown, mask, list(choice.picked))
    head = title if title is not None else _name(array)
    text = " · ".join([*([head] if head else []), *_taken_before(checked), *fixed, *choice.fixed, *choice.notes])
    look = _look(shown, window, colormap, text)
    if "sample" in shown.dims:
        tiles = [Tile(_colours(tile.values, shown), *_rest(tile)) for tile in tiles]
    return montage(tiles, look, across=choice.across, figure=figure)


def _rest(tile: Tile) -> tuple[Any, ...]:
    return tile.title, tile.side, tile.letters, tile.labels


# -- which images


def _checked(da: xr.DataArray) -> xr.DataArray:
    """Return an array with the dims of images last; refuse what is none."""
    if not {"row", "column"} <= set(da.dims):
        raise ValueError(f"the array has dims {tuple(da.dims)}; images have 'row' and 'column'")
    if not da.size:
        raise ValueError(f"there is no image to show: the array has sizes {dict(da.sizes)}")
    if da.dtype.kind not in "buif":
        raise ValueError(f"values of {da.dtype} have no brightness: plot their magnitude, such as abs(da)")
    array = da.transpose(..., *(dim for dim in _IMAGE_DIMS if dim in da.dims))
    return array.astype(np.uint8) if da.dtype.kind == "b" else array


def _selected(array: xr.DataArray, where: Mapping[str, Any]) -> tuple[xr.DataArray, list[str]]:
    """Return the part that conditions ask for, and what its images have in common because of them."""
    fixed = []
    for name, wanted in where.items():
        if name not in array.dims or name in _IMAGE_DIMS:
            there = {str(dim): size for dim, size in array.sizes.items() if dim not in _IMAGE_DIMS}
            raise EditError(f"{name}={wanted!r}: the array has no such dim to choose along; it has {there}")
        coord = array[name]
        if isinstance(wanted, slice):
            array = array.isel({name: _between(coord.values, wanted)})
            if not array.sizes[name]:
                raise EditError(f"{name}={wanted!r}: nothing lies there; {name} goes {_range(coord)}")
        elif isinstance(wanted, Sequence | np.ndarray) and not isinstance(wanted, str):
            array = array.isel({name: [_nearest(coord, each) for each in wanted]})
            if not array.sizes[name]:
                raise EditError(f"{name}={wanted!r} is empty; {name} goes {_range(coord)}")
        else:
            array = array.isel({name: _nearest(coord, wanted)})
            fixed.append(_shown(name, array))
    return array, fixed


def _taken_before(array: xr.DataArray) -> list[str]:
    """Say along which dims of the stack one point was selected before."""
    named = array.coords.get(STACK_DIMS)
    dims = str(named.values).split() if named is not None and named.ndim == 0 else []
    return [_shown(dim, array) for dim in dims if dim in array.coords and array.coords[dim].ndim == 0]


def _between(values: NDArray[Any], wanted: slice) -> NDArray[np.intp]:
    low = values.min() if wanted.start is None else wanted.start
    high = values.max() if wanted.stop is None else wanted.stop
    return np.flatnonzero((values >= low) & (values <= high))


def _nearest(coord: xr.DataArray, wanted: Any) -> int:
    """Return where a coordinate is nearest to a number, or equal to a text."""
    values = coord.values
    if values.dtype.kind in "biuf":
        try:
            return int(np.nanargmin(np.abs(values.astype(float) - float(wanted))))
        except (TypeError, ValueError) as error:
            raise EditError(f"{coord.name}={wanted!r}: expected a number; {coord.name} goes {_range(coord)}") from error
    found = np.flatnonzero(values == wanted)
    if not found.size:
        raise EditError(f"{coord.name}={wanted!r} is not there; {coord.name} has {values.tolist()[:8]}")
    return int(found[0])


def _range(coord: xr.DataArray) -> str:
    return f"from {coord.values.min()} to {coord.values.max()}"


def _chosen(array: xr.DataArray, limit: int) -> _Choice:
    """Choose what is shown: all images, or an even choice of them."""
    dims = [str(dim) for dim in array.dims if dim not in _IMAGE_DIMS]
    kept = [dim for dim in dims if array.sizes[dim] > 1]
    picked = {dim: [0] for dim in dims if dim not in kept}
    fixed = [_shown(dim, array.isel({dim: 0})) for dim in picked]
    while len(kept) > 2:
        # The first dim is that of slices, the last the fastest; those between stand still.
        dim = kept.pop(1)
        picked[dim] = [array.sizes[dim] // 2]
        fixed.append(f"{_shown(dim, array.isel({dim: picked[dim][0]}))}, one of {array.sizes[dim]}")
    if len(kept) == 1:
        picked[kept[0]] = _even(array.sizes[kept[0]], limit)
    elif kept:
        counts = _balanced([array.sizes[dim] for dim in kept], limit)
        picked |= {dim: _even(array.sizes[dim], count) for dim, count in zip(kept, counts, strict=True)}
        kept.sort(key=lambda dim: len(picked[dim]))
    notes = [
        f"{len(picked[dim])} of {array.sizes[dim]} along {dim}, evenly chosen"
        for dim in kept
        if len(picked[dim]) < array.sizes[dim]
    ]
    across = len(picked[kept[1]]) if len(kept) > 1 else None
    # Tiles follow the order of this dict: the last dim is the fastest.
    return _Choice({dim: picked[dim] for dim in (*(d for d in dims if d not in kept), *kept)}, across, fixed, notes)


def _even(size: int, count: int) -> list[int]:
    """Return indices at equal distances, the first and the last among them; of one the middle."""
    if count == 1:
        return [size // 2]
    return [int(index) for index in np.unique(np.linspace(0, size - 1, min(count, size)).round())]


def _balanced(sizes: Sequence[int], limit: int) -> list[int]:
    """Return how many of each of two dims are shown."""
    side = max(math.isqrt(limit), 1)
    fewest = min(min(sizes), side)
    most = min(max(sizes), _MOST_DOWN, max(limit // fewest, 1))
    return [fewest, most] if sizes[0] <= sizes[1] else [most, fewest]


# -- tiles


def _tiles(shown: xr.DataArray, mask: xr.DataArray | None, dims: Sequence[str]) -> list[Tile]:
    """Return the images in the order of `dims`, each with its words."""
    kept = [dim for dim in dims if shown.sizes[dim] > 1]
    found = []
    for index in itertools.product(*(range(shown.sizes[dim]) for dim in dims)):
        place = dict(zip(dims, index, strict=True))
        one = shown.isel(place)
        titles = [_shown(dim, one) for dim in kept]
        side = ""
        if len(kept) > 1:
            is_left, is_top = place[kept[1]] == 0, place[kept[0]] == 0
            side, titles = titles[0] if is_left else "", titles[1:] if is_top else []
        labels = None if mask is None else mask.isel(place, missing_dims="ignore").values
        found.append(Tile(one.values, ", ".join(titles), side, edge_letters(one), labels))
    return found


def _shown(dim: str, one: xr.DataArray) -> str:
    """Return a dim with its value, such as "slice 12.5 mm"."""
    if dim not in one.coords:
        return dim
    coord = one.coords[dim]
    value = coord.item()
    unit = coord.attrs.get("units", "")
    if isinstance(value, float):
        value = f"{round(value, 1) + 0.0:.7g}" if unit == "mm" else f"{value:.5g}"
    text = f"{dim} {value}{f' {unit}' if unit else ''}{_weighting(dim, one)}"
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def _weighting(dim: str, one: xr.DataArray) -> str:
    """Return the b-value of a volume, which its number does not say."""
    name = next((name for name in ("b_value", "DiffusionBValue") if name in one.coords and name != dim), None)
    if dim != VOLUME or name is None or one.coords[name].ndim:
        return ""
    return f", b {float(one.coords[name]):.5g}"


def edge_letters(image: xr.DataArray) -> tuple[str, str, str, str]:
    """Return what is at the left, right, top and bottom edge of one image.

    Parameters
    ----------
    image
        With scalar coordinates ``row_direction_x`` and so on; a flip of its rows or columns is followed.

    Returns
    -------
    tuple of str
        Letters of PatientOrientation, "" where there is no geometry.
    """
    found: list[str] = []
    # The row direction is the one in which columns follow each other.
    for stem, dim in (("row_direction", "column"), ("column_direction", "row")):
        names = [f"{stem}_{axis}" for axis in "xyz"]
        if not all(name in image.coords and image.coords[name].ndim == 0 for name in names):
            return ("", "", "", "")
        direction = np.array([float(image.coords[name]) for name in names]) * _sign(image, dim)
        found += [letters(-direction), letters(direction)]
    return found[0], found[1], found[2], found[3]


def _sign(image: xr.DataArray, dim: str) -> float:
    values = image.coords[dim].values if dim in image.coords else np.arange(2)
    return -1.0 if len(values) > 1 and values[-1] < values[0] else 1.0


def _colours(values: NDArray[Any], shown: xr.DataArray) -> NDArray[Any]:
    """Return colours from 0 to 1, of 8-bit ones as they are."""
    if values.dtype == np.uint8:
        return np.asarray(values / 255.0)
    highest = float(np.nan_to_num(shown.values).max())
    stored = shown.attrs.get("BitsStored")
    full = 2.0 ** int(stored) - 1 if isinstance(stored, int) and 0 < highest <= 2.0**stored - 1 else highest
    return np.asarray(np.clip(np.nan_to_num(values.astype(float)) / (full or 1.0), 0, 1))


# -- how they look


def _look(shown: xr.DataArray, window: tuple[float, float] | None, colormap: str | None, title: str) -> Look:
    low, high = _limits(shown, window)
    pixel = [_pixel_size(shown, dim) for dim in ("row", "column")]
    ratio = _ratio(shown) if None in pixel else abs(pixel[0] / pixel[1])  # type: ignore[operator]
    default = "gray_r" if shown.attrs.get("PhotometricInterpretation") == "MONOCHROME1" else "gray"
    unit = shown.attrs.get("units", shown.attrs.get("RescaleType", ""))
    return Look(
        title,
        (low, high),
        colormap or _own_colormap(shown) or default,
        ratio,
        _extent(shown),
        ("column, mm", "row, mm") if None not in pixel else ("column", "row"),
        "" if str(unit) == "US" else str(unit),
    )


def _limits(shown: xr.DataArray, window: tuple[float, float] | None) -> tuple[float, float]:
    """Return the lowest and highest value of the colour scale."""
    if window is not None:
        try:
            center, width = map(float, window)
        except (TypeError, ValueError) as error:
            raise EditError(f"window={window!r}: expected (center, width)") from error
        if not width > 0:
            raise EditError(f"window={window!r}: the width must be more than 0")
        return center - width / 2, center + width / 2
    return scale(shown.values, _own_window(shown))


def _own_window(shown: xr.DataArray) -> tuple[float, float] | None:
    """Return (low, high) of WindowCenter and WindowWidth, of several the median; None without."""
    pair = []
    for name in ("WindowCenter", "WindowWidth"):
        values = _numbers(shown, name)
        if values is None:
            return None
        pair.append(values)
    center, width = pair
    if not center.size or not (width > 0).all() or len({1, center.size, width.size}) > 2:
        return None
    return float(np.median(center - width / 2)), float(np.median(center + width / 2))


def _numbers(shown: xr.DataArray, name: str) -> NDArray[np.float64] | None:
    """Return the numbers of a tag that is an attribute or a coordinate, of a multi-valued one the first."""
    value = shown.attrs.get(name)
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if isinstance(value, int | float):
        return np.array([float(value)])
    for each in (name, f"{name}_0"):
        if each in shown.coords and shown.coords[each].dtype.kind in "iuf":
            values = shown.coords[each].values.astype(float).reshape(-1)
            return np.asarray(values[np.isfinite(values)])
    return None


def _own_colormap(shown: xr.DataArray) -> str | None:
    """Return the colormap of the series, which is in a private block of the creator xdicom."""
    for name, value in shown.attrs.items():
        block = _COLORMAP.fullmatch(str(name))
        if block and value == "xdicom":
            found = shown.attrs.get(f"tag_0029_{block[1].upper()}02")
            return found if isinstance(found, str) and _is_colormap(found) else None
    return None


def _is_colormap(name: str) -> bool:
    from matplotlib import colormaps

    return name in colormaps


def _pixel_size(shown: xr.DataArray, dim: str) -> float | None:
    """Return the signed distance of pixels along a dim in mm, None where it is not known."""
    if dim not in shown.coords or f"{dim}_spacing" not in shown.coords:
        return None
    values, spacing = shown.coords[dim].values, shown.coords[f"{dim}_spacing"].values.reshape(-1)
    if len(values) < 2:
        return float(spacing[0])
    step = (float(values[-1]) - float(values[0])) / (len(values) - 1)
    return step if values.dtype.kind == "f" else step * float(spacing[0])


def _ratio(shown: xr.DataArray) -> float:
    """Return the height of a pixel over its width where there is no geometry."""
    strides = [abs(_pixel_step(shown, dim)) for dim in ("row", "column")]
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        value = shown.attrs.get(name)
        if isinstance(value, list) and len(value) == 2 and min(value) > 0:
            return float(value[0] / value[1]) * strides[0] / strides[1]
    return strides[0] / strides[1]


def _pixel_step(shown: xr.DataArray, dim: str) -> float:
    values = shown.coords[dim].values if dim in shown.coords else np.arange(2)
    return float(values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else 1.0


def _extent(shown: xr.DataArray) -> tuple[float, float, float, float]:
    """Return (left, right, bottom, top) of the pixels' edges, in the unit of the coordinates."""
    edges: list[float] = []
    for dim in ("column", "row"):
        values = shown.coords[dim].values if dim in shown.coords else np.arange(shown.sizes[dim])
        half = (_pixel_step(shown, dim) if len(values) > 1 else _pixel_size(shown, dim) or 1.0) / 2
        edges += [float(values[0]) - half, float(values[-1]) + half]
    left, right, top, bottom = edges
    return left, right, bottom, top


def _name(array: xr.DataArray) -> str:
    """Return what the series is called."""
    parts = [array.attrs.get(name) for name in ("SeriesNumber", "SeriesDescription")]
    return " ".join(str(part) for part in parts if part not in (None, ""))


# -- masks


def _aligned(overlay: Any, array: xr.DataArray) -> xr.DataArray:
    """Return a mask on the grid of an array, without the dims that it has not."""
    dims = [str(dim) for dim in array.dims if dim != "sample"]
    if not isinstance(overlay, xr.DataArray):
        values = np.asarray(overlay)
        shape = tuple(array.sizes[dim] for dim in dims)
        if values.ndim < 2 or values.shape != shape[len(shape) - values.ndim :]:
            raise GeometryError(f"the mask has shape {values.shape}, and the images {dict(zip(dims, shape))}")  # noqa: B905
        return xr.DataArray(values, dims=dims[len(dims) - values.ndim :])
    points = [name for name, coord in array.coords.items() if coord.ndim == 0]
    extra = [str(dim) for dim in overlay.dims if dim not in (*dims, *points) and overlay.sizes[dim] > 1]
    if extra:
        raise GeometryError(f"the mask has dims {extra} that the images {tuple(dims)} have not: select one first")
    mask = overlay
    for dim in overlay.dims:
        mask = _on(mask, array, str(dim))
    mask = mask.isel({dim: 0 for dim in mask.dims if dim not in dims}, drop=True)
    for name, tolerance in _SAME.items():
        if name in mask.coords and name in array.coords:
            apart = (mask.coords[name].variable - array.coords[name].variable).values
            if np.nanmax(np.abs(apart), initial=0) > tolerance:
                raise GeometryError(
                    f"the mask lies elsewhere in the patient: {name} differs by {np.nanmax(np.abs(apart)):g}. {_REMEDY}"
                )
    return mask


_LEAST_SHIFT = 1e-2  # mm
_SAME = {
    **{f"{stem}_direction_{axis}": 1e-3 for stem in ("row", "column") for axis in "xyz"},
    **{f"ImagePositionPatient_{axis}": _LEAST_SHIFT for axis in "xyz"},
}
_REMEDY = "Bring it onto their grid with xdicom.wrappers.scipy.map_mask_to()"


def _on(mask: xr.DataArray, array: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the part of a mask at the places of an array along one dim."""
    if dim not in mask.coords or dim not in array.coords or mask.coords[dim].dtype.kind not in "iuf":
        if mask.sizes[dim] != array.sizes.get(dim, 1):
            held = array.sizes.get(dim, 1)
            raise GeometryError(f"the mask has size {mask.sizes[dim]} along {dim}, and the images {held}. {_REMEDY}")
        return mask
    places, wanted = mask.coords[dim].values.astype(float), np.atleast_1d(array.coords[dim].values.astype(float))
    distance = np.abs(places[None, :] - wanted[:, None])
    index = distance.argmin(axis=1)
    if distance.min(axis=1).max() > _LEAST_SHIFT:
        raise GeometryError(
            f"the mask lies elsewhere along {dim}: from {places.min():g} to {places.max():g}, and the images from "
            f"{wanted.min():g} to {wanted.max():g}. {_REMEDY}"
        )
    return mask.isel({dim: index})
