"""Where the voxels of a stack of slices lie in the patient, and which voxels a place in the patient falls between.

Geometry only: it reads no pixels.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import geometry
from .dims import AXES, MM_DECIMALS, SLICE_DIMS
from .errors import GeometryError
from .geometry import FloatArray
from .placement import POSITION_NAME, world_coordinates
from .planes import planes_of

PLACED = frozenset(
    {
        *("row", "column", "row_spacing", "column_spacing"),
        *(f"{stem}_{axis}" for stem in (POSITION_NAME, "row_direction", "column_direction") for axis in AXES),
    }
)
"""The coordinates that say where the pixels of a slice are."""

# Rounding may not push a place on the border of a voxel out of it, in voxels.
_MARGIN = 1e-6
_TILT = 1.0  # degrees; positions with two decimals may look tilted by less
_JOINED = 1e-2  # of a thickness may be missing between two slabs that touch

Box = tuple[slice, slice, slice]


class Slices(NamedTuple):
    """Slices in the patient, LPS mm.

    Attributes
    ----------
    dim
        Name of the dim that they lie along, None for a single one without.
    origin
        Centres of the first pixels, shape (n, 3).
    row_step, column_step
        From a row to the next, and from a column to the next, shape (n, 3).
    rows, columns
        Size of a slice.
    """

    dim: str | None
    origin: FloatArray
    row_step: FloatArray
    column_step: FloatArray
    rows: int
    columns: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of slices, rows and columns."""
        return len(self.origin), self.rows, self.columns

    def part(self, box: Box) -> "Slices":
        """Return some of the slices, rows and columns."""
        slices, rows, columns = box
        row, column = (span.indices(size) for span, size in ((rows, self.rows), (columns, self.columns)))
        moved = self.origin + row[0] * self.row_step + column[0] * self.column_step
        steps = self.row_step[slices], self.column_step[slices]
        return Slices(self.dim, moved[slices], *steps, len(range(*row)), len(range(*column)))

    def centres(self) -> FloatArray:
        """Return the centre of each slice, shape (n, 3)."""
        middle: FloatArray = (
            self.origin + (self.rows - 1) / 2 * self.row_step + (self.columns - 1) / 2 * self.column_step
        )
        return middle

    def corners(self) -> FloatArray:
        """Return the centres of the corner pixels of all slices, shape (4 n, 3)."""
        down, right = (self.rows - 1) * self.row_step, (self.columns - 1) * self.column_step
        return np.concatenate([self.origin, self.origin + down, self.origin + right, self.origin + down + right])

    def moved(self, rotation: FloatArray, shift: FloatArray) -> "Slices":
        """Return the slices at rotation @ place + shift."""
        steps = self.row_step @ rotation.T, self.column_step @ rotation.T
        return self._replace(origin=self.origin @ rotation.T + shift, row_step=steps[0], column_step=steps[1])


def slices_of(array: xr.DataArray) -> Slices:
    """Return where the slices of an array lie, by its coordinates.

    Parameters
    ----------
    array
        With dims "row" and "column" and the coordinates of `xdicom.placement.place`.

    Raises
    ------
    GeometryError
        If there is no geometry, rows or columns have unequal steps, or slices move along a second dim.
    """
    lacking = [name for name in ("row", "column") if name not in array.dims]
    if lacking:
        raise GeometryError(f"the array has dims {array.dims}; expected 'row' and 'column' among them")
    world_coordinates(array.isel(row=0, column=0))  # says what is missing
    varying = [dim for dim in map(str, array.dims) if _places(array, dim)]
    if len(varying) > 1:
        raise GeometryError(
            f"the slices move along {tuple(varying)}, and a stack has one such dim: take a part with isel() or sel()"
        )
    named = next((name for name in SLICE_DIMS if name in array.dims), None)
    dim = varying[0] if varying else named
    lead = [dim] if dim is not None else []
    single = array.isel({other: 0 for other in array.dims if other not in (dim, "row", "column")})
    planes = planes_of(single, lead)
    if planes is None:
        raise GeometryError("rows and columns have no places in mm: 'row', 'column' or their spacings are missing")
    spacing = planes.spacing
    return Slices(
        dim,
        planes.position,
        planes.column_direction * spacing[:, :1],
        planes.row_direction * spacing[:, 1:],
        array.sizes["row"],
        array.sizes["column"],
    )


def _places(array: xr.DataArray, dim: str) -> bool:
    """Say whether the place of slices depends on a dim."""
    return dim not in ("row", "column") and any(dim in array[name].dims for name in PLACED & set(array.coords))


def array_of(slices: Slices, thickness: FloatArray | None = None) -> xr.DataArray:
    """Return an array that takes no memory, with the geometry coordinates of slices.

    Parameters
    ----------
    slices
        With a dim.
    thickness
        SliceThickness in mm, shape () or (n,).
    """
    dim = str(slices.dim)
    coords: dict[str, Any] = {}
    for name, size, steps in (("row", slices.rows, slices.row_step), ("column", slices.columns, slices.column_step)):
        lengths = np.linalg.norm(steps, axis=1)
        # Columns follow each other in the row direction.
        other = "column" if name == "row" else "row"
        coords[f"{name}_spacing"] = _fewest(dim, lengths)
        coords[name] = name, np.arange(size) * lengths[0]
        for i, axis in enumerate(AXES):
            coords[f"{other}_direction_{axis}"] = _fewest(dim, steps[:, i] / lengths)
    for i, axis in enumerate(AXES):
        coords[f"{POSITION_NAME}_{axis}"] = dim, slices.origin[:, i]
    normal = np.cross(slices.column_step[0], slices.row_step[0])
    coords[dim] = dim, np.round(slices.origin @ (normal / np.linalg.norm(normal)), MM_DECIMALS)
    if thickness is not None:
        coords["SliceThickness"] = _fewest(dim, np.broadcast_to(thickness, len(slices.origin)))
    return xr.DataArray(np.broadcast_to(np.zeros((), bool), slices.shape), coords, (dim, "row", "column"))


def _fewest(dim: str, values: FloatArray) -> tuple[tuple[str, ...], FloatArray]:
    """Return values along a dim as a coordinate, without the dim where they are the same all along."""
    return ((dim,), values) if np.ptp(values) > 0 else ((), values[0])


def thickness_of(array: xr.DataArray, dim: str | None) -> FloatArray:
    """Return SliceThickness in mm of each slice, NaN where it is not known; shape (n,), or () if it is one for all."""
    if "SliceThickness" in array.coords:
        coord = array.coords["SliceThickness"]
        if set(coord.dims) <= {dim} and coord.dtype.kind in "iuf":
            along: FloatArray = coord.values.astype(np.float64)
            return along
    said = array.attrs.get("SliceThickness")
    return np.array(float(said) if isinstance(said, int | float) else np.nan)


@dataclass(frozen=True, eq=False)
class Slabs:
    """Parallel slices as voxels: what `map_to` takes values from.

    Slices with equal steps fill the space between them, whatever their thickness; each voxel reaches half a step
    around its centre. Slices with unequal steps, or a single one, are slabs of SliceThickness: where two of them touch
    or overlap, the space between their centres is filled, else a place outside every slab is outside.

    Attributes
    ----------
    origin
        LPS mm of the first pixel of the first slice, shape (3,).
    inverse
        Takes a place, less the origin, to (depth in mm along the normal, row index, column index); shape (3, 3).
    offsets
        The same of each slice's first pixel, shape (n, 3), depths ascending.
    reach
        How far each slab reaches from its slice, mm, shape (n,).
    joined
        Whether the space between a slice and the next is filled, shape (n - 1,).
    regular
        Whether steps are equal, so that `offsets` are multiples of the last one by its index.
    rows, columns
        Size of a slice.
    """

    origin: FloatArray
    inverse: FloatArray
    offsets: FloatArray
    reach: FloatArray
    joined: NDArray[np.bool_]
    regular: bool
    rows: int
    columns: int

    @classmethod
    def of(cls, slices: Slices, thickness: FloatArray) -> tuple[Self, NDArray[np.intp]]:
        """Return the slabs of slices, and the order of the slices in which their depths ascend.

        Parameters
        ----------
        slices
            All of one orientation and spacing.
        thickness
            In mm, shape (n,) or (); NaN where it is not known, which slices with equal steps don't need.

        Raises
        ------
        GeometryError
            If slices are not parallel, two are at one place, or a thickness is needed and not known.
        """
        _require_parallel(slices)
        row, column = slices.row_step[0], slices.column_step[0]
        normal = np.cross(column, row)
        normal = normal / np.linalg.norm(normal)
        inverse = np.linalg.inv(np.stack([normal, row, column], axis=1))
        depths = slices.origin @ normal
        order = np.argsort(depths, kind="stable")
        positions = slices.origin[order]
        offsets = (positions - positions[0]) @ inverse.T
        if (np.diff(offsets[:, 0]) <= geometry.POSITION_TOLERANCE).any():
            raise GeometryError(
                f"{len(offsets)} slices lie in {1 + int((np.diff(offsets[:, 0]) > 1e-3).sum())} planes; "
                "a stack has each once: name the dims that tell them apart, such as dims=('slice', 'EchoTime')"
            )
        regular = _is_regular(positions)
        reach, joined = _half_steps(offsets) if regular else _slabs(offsets, np.broadcast_to(thickness, len(order)))
        if regular:
            offsets = np.arange(len(offsets))[:, None] * (offsets[-1] / (len(offsets) - 1))
        return cls(positions[0], inverse, offsets, reach, joined, regular, slices.rows, slices.columns), order

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of slices, rows and columns."""
        return len(self.offsets), self.rows, self.columns

    def nearest(self, places: FloatArray) -> NDArray[np.intp]:
        """Return the index of the slice whose plane is nearest to each place, shape (n,) for places of shape (n, 3)."""
        depth = (places - self.origin) @ self.inverse[0]
        found: NDArray[np.intp] = np.abs(depth[:, None] - self.offsets[None, :, 0]).argmin(axis=1)
        return found

    def locate(self, slices: Slices, index: int) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return where the pixels of one slice lie among the voxels.

        Parameters
        ----------
        slices, index
            The slices of a target, and which of them.

        Returns
        -------
        coords : ndarray
            Fractional indices (slice, row, column), shape (3, rows, columns).
        inside : ndarray
            Whether a pixel is inside, shape (rows, columns).
        """
        first = self.inverse @ (slices.origin[index] - self.origin)
        down, right = self.inverse @ slices.row_step[index], self.inverse @ slices.column_step[index]
        rows, columns = np.arange(slices.rows)[:, None], np.arange(slices.columns)[None, :]
        coords = first[:, None, None] + down[:, None, None] * rows + right[:, None, None] * columns
        places, inside = self._among(coords[0])
        below = self._offsets_at(places)
        coords[0] = places
        coords[1] -= below[0]
        coords[2] -= below[1]
        for axis, size in ((1, self.rows), (2, self.columns)):
            inside &= (coords[axis] >= -0.5 - _MARGIN) & (coords[axis] <= size - 0.5 + _MARGIN)
        return coords, inside

    def _among(self, depth: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return fractional slice indices of depths in mm, and whether they are inside."""
        depths = self.offsets[:, 0]
        if self.regular:
            places = depth / depths[1]
            return places, (places >= -0.5 - _MARGIN) & (places <= len(depths) - 0.5 + _MARGIN)
        if len(depths) == 1:
            return np.zeros_like(depth), np.abs(depth) <= self.reach[0] * (1 + _MARGIN)
        lower = np.clip(np.searchsorted(depths, depth, side="right") - 1, 0, len(depths) - 2)
        above, below = depth - depths[lower], depths[lower + 1] - depth
        share = np.clip(above / (above + below), 0, 1)
        near_lower, near_upper = (
            np.abs(distance) <= self.reach[slab] * (1 + _MARGIN)
            for distance, slab in ((above, lower), (below, lower + 1))
        )
        between = self.joined[lower] & (above >= 0) & (below >= 0)
        # Where slabs do not touch, each has one value all through.
        share = np.where(between, share, np.where(np.abs(above) <= np.abs(below), 0.0, 1.0))
        return lower + share, between | near_lower | near_upper

    def _offsets_at(self, places: FloatArray) -> tuple[Any, Any]:
        """Return the row and column offsets at fractional slice indices; of upright stacks both are 0."""
        if self.regular:
            return places * self.offsets[1, 1], places * self.offsets[1, 2]
        if not self.offsets[:, 1:].any():
            return 0.0, 0.0
        index = np.arange(len(self.offsets))
        return np.interp(places, index, self.offsets[:, 1]), np.interp(places, index, self.offsets[:, 2])

    def needed(self, slices: Slices, margin: int) -> int:
        """Return how many voxels the box of some slices holds at most, wherever slices of this size lie."""
        extent = np.ptp(slices.corners() @ self.inverse.T, axis=0)
        steps = np.diff(self.offsets, axis=0) if len(self.offsets) > 1 else np.array([[np.inf, 0.0, 0.0]])
        extent[1:] += (np.abs(steps[:, 1:]) / steps[:, :1]).max(axis=0) * extent[0]
        extent[0] /= steps[:, 0].min()
        return int(np.minimum(np.ceil(extent) + 2 * margin + 2, self.shape).prod())

    def box(self, slices: Slices, margin: int) -> Box | None:
        """Return the smallest box of voxels that the values at all pixels of some slices depend on, None if none do.

        Parameters
        ----------
        slices
            Of a target.
        margin
            How many voxels around its place a value depends on.
        """
        corners = (slices.corners() - self.origin) @ self.inverse.T
        depth = np.array([corners[:, 0].min(), corners[:, 0].max()])
        depths, reach = self.offsets[:, 0], self.reach
        if depth[0] > depths[-1] + reach[-1] * (1 + _MARGIN) or depth[1] < depths[0] - reach[0] * (1 + _MARGIN):
            return None
        low, high = np.interp(depth, depths, np.arange(len(depths)))
        first, last = int(np.floor(low)), int(np.ceil(high))
        # Offsets go on growing for half a step beyond the first and the last slice.
        spread = self.offsets[first : last + 1, 1:]
        beyond = np.abs(self.offsets[1, 1:]) / 2 if self.regular else np.zeros(2)
        lows = corners[:, 1:].min(axis=0) - spread.max(axis=0) - beyond
        highs = corners[:, 1:].max(axis=0) - spread.min(axis=0) + beyond
        sizes = np.array([self.rows, self.columns])
        if (highs < -0.5 - _MARGIN).any() or (lows > sizes - 0.5 + _MARGIN).any():
            return None
        spans = [(float(first), float(last)), *zip(lows.tolist(), highs.tolist(), strict=True)]
        found = [_span(*span, size, margin) for span, size in zip(spans, self.shape, strict=True)]
        return found[0], found[1], found[2]


def _span(low: float, high: float, size: int, margin: int) -> slice:
    first, last = np.clip([np.floor(low) - margin, np.ceil(high) + margin], 0, size - 1).astype(int).tolist()
    return slice(first, last + 1)


def _require_parallel(slices: Slices) -> None:
    for name, steps in (("rows", slices.row_step), ("columns", slices.column_step)):
        spread = float(np.ptp(steps, axis=0).max())
        # Over the whole image, half a voxel's worth of disagreement would be seen.
        if spread * max(slices.rows, slices.columns) > 0.05 * float(np.linalg.norm(steps[0])):
            raise GeometryError(
                f"{len(steps)} slices differ in orientation or spacing (their steps between {name} by {spread:.3g} mm) "
                "and make no stack: take those of one orientation, for example with "
                "subseries(ImageOrientationPatient=...) or split('ImageOrientationPatient')"
            )


def _is_regular(positions: FloatArray) -> bool:
    if len(positions) < 2:
        return False
    try:
        geometry.slice_step(positions)
    except GeometryError:
        return False
    return True


def _half_steps(offsets: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    count = len(offsets)
    return np.full(count, offsets[-1, 0] / (count - 1) / 2), np.ones(count - 1, bool)


def _slabs(offsets: FloatArray, thickness: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return how far slabs reach, and which touch."""
    if not (np.isfinite(thickness) & (thickness > 0)).all():
        steps = np.diff(offsets[:, 0])
        why = f"have steps from {steps.min():.4g} to {steps.max():.4g} mm" if len(steps) else "is single"
        raise GeometryError(
            f"the stack of {len(offsets)} slices {why}, and no SliceThickness says how far each reaches: set it, "
            "such as series.SliceThickness = 5"
        )
    reach: FloatArray = thickness / 2
    joined = np.diff(offsets[:, 0]) <= (reach[:-1] + reach[1:]) * (1 + _JOINED)
    return reach, joined


def directions(slices: Slices) -> FloatArray:
    """Return unit vectors in the direction of increasing slice, row and column index, shape (3, 3)."""
    row, column = slices.row_step[0], slices.column_step[0]
    along = slices.origin[-1] - slices.origin[0]
    steps = np.stack([along if along.any() else np.cross(column, row), row, column])
    units: FloatArray = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    return units


def spacing_along(slices: Slices) -> FloatArray:
    """Return the distances of slices, rows and columns in mm, shape (3,), of a stack that is a rectangular grid.

    Raises
    ------
    GeometryError
        If slices have unequal steps, or are not at a right angle to the step between them.
    """
    _require_parallel(slices)
    in_plane = [float(np.linalg.norm(steps[0])) for steps in (slices.row_step, slices.column_step)]
    if len(slices.origin) < 2:
        return np.array([np.nan, *in_plane])
    step = geometry.slice_step(slices.origin)
    normal = np.cross(slices.column_step[0], slices.row_step[0])
    upright = abs(float(step @ normal)) / float(np.linalg.norm(step) * np.linalg.norm(normal))
    tilt = float(np.degrees(np.arccos(min(1.0, upright))))
    if tilt > _TILT:
        raise GeometryError(
            f"the slices are tilted by {tilt:.1f} degrees against the direction in which they follow each other, so "
            "that distances are not those of a rectangular grid: work within slices, axes=('row', 'column'), or "
            "map_to() a series that is not tilted first"
        )
    return np.array([float(np.linalg.norm(step)), *in_plane])
