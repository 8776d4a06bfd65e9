"""Columns of the table as coordinates and attributes of an array: what varies on a grid, and what doesn't.

Where frames lie in the patient is `placement.py`'s.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .columns import Column
from .dicomjson import to_json
from .dims import (
    AXES,
    INSTANCE_UID,
    Codes,
    as_text,
    column_of,
    is_long,
    is_text,
    matrix,
    name_of,
    scalars,
)
from .elements import explicit_columns, header_at
from .errors import UnknownTagError
from .modules import CHARSET
from .stack import fewest_dims

if TYPE_CHECKING:
    from .frames import Frames
    from .stack import Coords, Grid

SERIES_UID = 0x0020000E
B_VALUE = "b_value"
_FILE_META = 0x0002
MOST_COMPONENTS = 16
MOST_CHARACTERS = 1024
_MOST_NUMBERS = 128

Attrs = dict[str, Any]


def describe(frames: "Frames", grid: "Grid", placed: "Coords") -> tuple["Coords", Attrs]:
    """Return the coordinates and attributes that the tags of frames make on a grid.

    Parameters
    ----------
    frames
        Table of frames.
    grid
        Their arrangement.
    placed
        Coordinates that are there already, from geometry.

    Returns
    -------
    coords : dict
        Dims and values by name, for each tag that varies along the fewest dims that it depends on: numbers, with NaN
        where a frame has none; texts, with ""; a coordinate per component of a tag with several numbers. Also
        ``source_series``, and ``SOPInstanceUID`` where each frame has its own.
    attrs : dict
        The tags that are the same for all frames, as text, bool, int, float or flat list of numbers, and all of them,
        as DICOM JSON, in ``dicom_header``.
    """
    layout = Layout(grid)
    coords: Coords = {}
    attrs: Attrs = {}
    constants: list[int] = []
    taken = {*grid.coords, *placed}
    if "row_direction_x" in placed:
        taken |= {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"}
    for tag in frames.tags():
        if is_long(frames, tag):
            continue
        name = name_of(tag)
        values, codes = frames.column(tag)
        if layout.is_constant(codes):
            constants.append(tag)
            single = values[int(codes[layout.first])]
            attr = plain(single)
            if tag == INSTANCE_UID and layout.count == 1:
                coords[name] = (), np.array(as_text(single))
            elif attr is not None and name not in grid.coords:
                attrs[name] = attr
        elif name not in taken:
            coords.update(layout.varying(name, values, codes))
    coords.update(_weightings(frames, layout))
    coords.update(layout.along("source_series", *_texts(frames, SERIES_UID)))
    attrs["dicom_header"] = header_json(frames, constants, layout.first)
    return {name: coord for name, coord in coords.items() if name not in taken}, attrs


def _weightings(frames: "Frames", layout: "Layout") -> "Coords":
    """Return b-values that vary as a coordinate: vendors keep them in elements of their own, which need a name."""
    try:
        name, values, codes = column_of(frames, B_VALUE)
    except UnknownTagError:
        return {}
    return {} if not values or layout.is_constant(codes) else layout.varying(name, values, codes)


class Labels(xr.Variable):
    """A coordinate of text, of which `coarsen` leaves "" where xarray would average it and fail.

    It stays one through selections and arithmetic; elsewhere xarray may make a plain variable of it.
    """

    def coarsen(self, windows: Mapping[Any, int], func: Any, *args: Any, **kwargs: Any) -> xr.Variable:
        """Return the text of each window, "" where it has several."""
        if self.dtype.kind == "U" and getattr(func, "__name__", func) == "mean":
            func = _common_text
        coarse: xr.Variable = super().coarsen(windows, func, *args, **kwargs)  # type: ignore[no-untyped-call]
        return coarse

    def to_base_variable(self) -> xr.Variable:
        """Stay what it is, where xarray makes plain variables of coordinates."""
        return self.copy(deep=False)

    def set_dims(self, *args: Any, **kwargs: Any) -> xr.Variable:
        """Stay what it is, where xarray compares the coordinates of two arrays."""
        spread: xr.Variable = super().set_dims(*args, **kwargs)  # type: ignore[no-untyped-call]
        return type(self)(spread.dims, spread.data, spread.attrs, spread.encoding)


def _common_text(windows: NDArray[Any], axis: tuple[int, ...], **_: Any) -> NDArray[Any]:
    """Reduce some axes to the text that is the same all along them."""
    moved = np.moveaxis(windows, axis, range(len(axis)))
    texts = moved.reshape(-1, *moved.shape[len(axis) :])
    return np.where((texts == texts[0]).all(axis=0), texts[0], "")


def unit_labels(grid: "Grid", units: Sequence[str], codes: Codes) -> tuple["Coords", Attrs]:
    """Return the units of the values on a grid: an attribute where all are the same, a coordinate where some differ.

    Parameters
    ----------
    grid
        The arrangement.
    units, codes
        Distinct units, and for each frame the index of its own (-1: unknown).
    """
    layout = Layout(grid)
    single = layout.constant(units, codes)
    if single is not None:
        return {}, {"units": single}
    return (layout.along("units", np.array(units, str), codes) if units else {}), {}


class Layout:
    """The codes of frames laid out on a grid.

    Parameters
    ----------
    grid
        The arrangement.
    """

    def __init__(self, grid: "Grid") -> None:
        self.dims = grid.dims
        self.table = grid.frames
        self.holes = grid.frames < 0
        self.has_holes = bool(self.holes.any())
        self.count = grid.frames.size - int(self.holes.sum())
        self.first = int(grid.frames[~self.holes].flat[0])

    def constant(self, values: Sequence[object], codes: Codes) -> object:
        """Return the value that all frames on the grid have, None if they differ or lack it."""
        return values[int(codes[self.first])] if self.is_constant(codes) else None

    def is_constant(self, codes: Codes) -> bool:
        """Say whether all frames on the grid have the same value, also an empty one."""
        laid = codes[self.table]
        same = (laid == codes[self.first]) | self.holes if self.has_holes else laid == codes[self.first]
        return bool(codes[self.first] >= 0 and same.all())

    def along(self, name: str, values: NDArray[Any], codes: Codes) -> "Coords":
        """Return the coordinate of values by their codes, along the fewest dims; NaN or "" where the code is -1."""
        laid = codes[self.table].astype(np.intp)
        absent = len(values)
        if laid.min(initial=0) < 0:
            laid = np.where(laid < 0, absent, laid)
        if self.has_holes:
            laid = np.where(self.holes, -1, laid)
        axes, fewest = fewest_dims(laid)
        if ((fewest < 0) | (fewest == absent)).any():
            values = np.append(values, "" if values.dtype.kind == "U" else np.nan)
        return {name: (tuple(self.dims[axis] for axis in axes), np.asarray(values[fewest]))}

    def varying(self, name: str, values: Sequence[object], codes: Codes) -> "Coords":
        """Return the coordinates of a tag, none if it holds neither numbers nor short texts."""
        array = scalars(values)
        if array is not None:
            is_short = array.dtype.kind != "U" or array.dtype.itemsize <= 4 * MOST_CHARACTERS
            return self.along(name, array, codes) if is_short else {}
        width = max(len(value) if isinstance(value, tuple) else 1 for value in values)
        if width > MOST_COMPONENTS or not all(map(_is_numbers, values)):
            return {}
        is_position = name == "ImagePositionPatient" and width == len(AXES)
        parts = AXES if is_position else [str(i) for i in range(width)]
        found: Coords = {}
        for part, column in zip(parts, matrix(values, width).T, strict=True):
            numbers, inverse = np.unique(column, return_inverse=True)
            recoded = np.append(inverse.reshape(-1), -1)[codes]
            found.update(self.along(f"{name}_{part}", numbers, recoded))
        return found


def plain(value: object) -> str | bool | int | float | list[int] | list[float] | None:
    """Return a value as what netCDF and Zarr hold in an attribute, None if it is nothing of the kind, empty or long."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_text(value):
        text = as_text(value)
        return text if 0 < len(text) <= MOST_CHARACTERS else None
    if isinstance(value, tuple) and len(value) <= _MOST_NUMBERS:
        parts = [plain(part) for part in value]
        if all(isinstance(part, int) for part in parts):
            return [int(part) for part in parts]  # type: ignore[arg-type]
        if all(isinstance(part, int | float) for part in parts):
            return [float(part) for part in parts]  # type: ignore[arg-type]
    return None


def header_json(frames: "Frames", shared: Iterable[int], row: int) -> str:
    """Return elements that all frames share as DICOM JSON, as one row has them; group 2, of the file, is left out."""
    charsets, charset_codes = frames.column(CHARSET)
    charset = as_text(charsets[charset_codes[row]]) if charset_codes[row] >= 0 else ""
    columns = {}
    for tag in shared:
        if tag >> 16 != _FILE_META:
            raws, codes = frames.raw_values(tag)
            columns[tag] = Column([raws[int(codes[row])]])
    return json.dumps(to_json(header_at(explicit_columns(columns), 0), charset))


def _is_numbers(value: object) -> bool:
    """Whether a value is nothing, a number, or several of either and of junk."""
    parts = value if isinstance(value, tuple) else (value,)
    return all(part is None or isinstance(part, int | float | str) for part in parts)


def _texts(frames: "Frames", tag: int) -> tuple[NDArray[Any], Codes]:
    values, codes = frames.column(tag)
    return np.array(list(map(as_text, values)), str), codes
