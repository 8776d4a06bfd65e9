"""A grid of frames as a lazy DataArray: its pixels are read when they are computed, and only those that are asked for.

How bytes become values is known in `pixels.py`; which frame is where on the grid in `stack.py`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from .coordinates import Labels, describe, unit_labels
from .dims import SLICE_DIMS, STACK_DIMS
from .placement import POSITION_NAME, place
from .scaling import Scale, scaled
from .selection import Selection, selectable

if TYPE_CHECKING:
    from .frames import Frames
    from .locations import Locations
    from .stack import Coords, Grid

MEBIBYTE = 2**20
LEAST_CHUNK, MOST_CHUNK = 32 * MEBIBYTE, 64 * MEBIBYTE
_GOOD_COUNT = 16

Chunks = int | str | tuple[Any, ...] | Mapping[str, Any] | None
Index = NDArray[np.intp]
Slices = tuple[tuple[int, ...], ...]


def to_dataarray(
    frames: "Frames",
    grid: "Grid",
    *,
    chunks: Chunks = "auto",
    rescale: Scale = True,
    mask_padding: bool = False,
    dtype: DTypeLike | None = None,
) -> xr.DataArray:
    """Return the pixels of frames on a grid as a labelled array.

    Parameters
    ----------
    frames
        Table of frames.
    grid
        Their arrangement, as `xdicom.stack.stack` makes it.
    chunks
        "auto": whole frames, 16 to 64 MB, along the slowest dims. Or as in xarray: a dict by dim (dims that it doesn't
        name are whole), an int or a tuple. None: read now, into a numpy array.
    rescale, mask_padding
        What the values are, see `xdicom.scaling.scaled`.
    dtype
        Of the array, in place of the smallest one that holds the values of all frames.

    Returns
    -------
    DataArray
        Named ``pixels``, with dims ``(*grid.dims, "row", "column"[, "sample"])``. Points without a frame are NaN. For
        coordinates and attributes see `xdicom.placement.place` and `xdicom.coordinates.describe`. The attribute
        ``rescale`` says what the values are, and ``units`` in which unit; where that varies it is a coordinate.

    Raises
    ------
    PixelError
        If a frame has no pixels, or frames differ in shape.
    ValueError
        If `chunks` names a dim that isn't there, or `dtype` has no NaN where a point has no frame.
    """
    frames.check_pixels()
    values = scaled(frames, rescale, mask_padding=mask_padding)
    lazy = FrameArray.on_grid(values.locations, grid, rescale=values.applies, dtype=dtype)
    dims = (*grid.dims, "row", "column", *(["sample"] if lazy.ndim > len(grid.dims) + 2 else []))
    placed, problem = place(frames, grid, *lazy.shape[len(grid.dims) : len(grid.dims) + 2])
    described, attrs = describe(frames, grid, placed)
    if problem:
        attrs["geometry_problem"] = problem
    units_coord, units_attrs = unit_labels(grid, values.units, values.unit_codes)
    attrs |= {"rescale": values.name, **units_attrs}
    if grid.reason:
        attrs["stack_reason"] = grid.reason
    # A coordinate, for arithmetic may drop attributes.
    dims_coord: Coords = {STACK_DIMS: ((), np.array(" ".join(grid.dims)))}
    coords = {**described, **units_coord, **placed, **grid.coords, **dims_coord}
    data = lazy.read_all() if chunks is None else lazy.chunked(chunk_sizes(lazy.shape, lazy.dtype, dims, chunks))
    variables = {name: _variable(name, *coord) for name, coord in coords.items()}
    return xr.DataArray(data, variables, dims, name="pixels", attrs=attrs)


def _variable(name: str, dims: tuple[str, ...], values: NDArray[Any]) -> xr.Variable:
    kind = Labels if values.dtype.kind == "U" else xr.Variable
    return kind(dims, values, _units(name, values))


def _units(name: str, values: NDArray[Any]) -> dict[str, str]:
    """Return the attributes of a coordinate: its unit, where it is a length."""
    is_length = name in ("row", "column", *SLICE_DIMS) or name.startswith((POSITION_NAME, "slice_step"))
    return {"units": "mm"} if values.dtype.kind == "f" and (is_length or name.endswith("_spacing")) else {}


def chunk_sizes(shape: Sequence[int], dtype: np.dtype[Any], dims: Sequence[str], chunks: Chunks) -> Slices:
    """Return the sizes of the chunks along each dim.

    Parameters
    ----------
    shape, dtype
        Of the array.
    dims
        Its dims: those of a grid, then "row", "column" and perhaps "sample".
    chunks
        As in `to_dataarray`, but None.

    Raises
    ------
    ValueError
        If a dim isn't there.
    """
    if isinstance(chunks, Mapping):
        unknown = [name for name in chunks if name not in dims]
        if unknown:
            raise ValueError(f"chunks names {unknown}; the dims are {tuple(dims)}")
        chunks = tuple(chunks.get(name, -1) for name in dims) if chunks else "auto"
    if isinstance(chunks, str) and chunks == "auto":
        frame = len(dims) - list(dims).index("row")
        sizes = _auto(shape[:-frame], math.prod(shape[-frame:]) * dtype.itemsize)
        chunks = (*sizes, *shape[-frame:])
    normal: Slices = dask.array.core.normalize_chunks(chunks, tuple(shape), dtype=dtype)  # type: ignore[no-untyped-call]
    return normal


def _auto(shape: Sequence[int], frame_bytes: int) -> list[int]:
    """Return chunk sizes along the dims of a grid: contiguous runs of whole frames, the fastest dims whole first."""
    total = frame_bytes * math.prod(shape)
    most = min(max(total // _GOOD_COUNT, LEAST_CHUNK), MOST_CHUNK)
    room = max(most // max(frame_bytes, 1), 1)
    sizes: list[int] = []
    for size in reversed(shape):
        pieces = -(-size // room)
        sizes.insert(0, -(-size // max(pieces, 1)))
        room = room // size if pieces <= 1 and size else 1
        room = max(room, 1)
    return sizes


class FrameArray:
    """Frames on a grid as an array that reads what it is asked for: all that dask and xarray need of an array.

    Parameters
    ----------
    locations
        Where the pixels are, in the C order of the grid points that have a frame.
    grid_shape
        Shape of the grid.
    present
        For each grid point whether it has a frame, shape `grid_shape`; None where all have one.
    dtype
        Of what is read.
    rescale
        Real-world values, else stored ones.

    Attributes
    ----------
    shape
        (*grid_shape, rows, columns[, samples]).

    Notes
    -----
    It holds no open file and pickles small, so that workers can have it. Any number of threads may read from it.
    """

    def __init__(
        self,
        locations: "Locations",
        grid_shape: tuple[int, ...],
        present: NDArray[np.bool_] | None,
        dtype: np.dtype[Any],
        rescale: bool,
    ) -> None:
        self.locations = locations
        self.dtype = dtype
        self.shape = (*grid_shape, *locations.frame_shape())
        self.ndim = len(self.shape)
        self._rescale = rescale
        self._grid_ndim = len(grid_shape)
        self._present = present
        # The row of a frame in the table is its rank among the points that have one.
        self._rows = None if present is None else np.where(present.ravel(), np.cumsum(present) - 1, -1)

    @classmethod
    def on_grid(
        cls, locations: "Locations", grid: "Grid", *, rescale: bool = True, dtype: DTypeLike | None = None
    ) -> "FrameArray":
        """Return the array of frames on a grid; see `to_dataarray`."""
        table = grid.frames.ravel()
        present = table >= 0
        if not np.array_equal(table, np.arange(len(locations))):
            locations = locations.take(table[present])
        if present.all():
            wanted = np.dtype(dtype) if dtype is not None else locations.dtype(rescale)
            return cls(locations, grid.shape, None, wanted, rescale)
        if dtype is not None and np.dtype(dtype).kind not in "fc":
            raise ValueError(
                f"{(~present).sum()} points have no frame and are NaN, which {np.dtype(dtype)} cannot hold; "
                "ask for a float dtype"
            )
        wanted = np.dtype(dtype) if dtype is not None else np.result_type(locations.dtype(rescale), np.float32)
        return cls(locations, grid.shape, present.reshape(grid.shape), wanted, rescale)

    def chunked(self, sizes: Slices) -> dask.array.Array:
        """Return a dask array of it, named by what it reads: the same frames give the same name, others another."""
        return selectable(Selection.all_of(self), sizes)

    def read_all(self) -> NDArray[Any]:
        """Read all of it, now, on all processors where that helps."""
        spans = [slice(None)] * (self.ndim - self._grid_ndim)
        return self._read([np.arange(size) for size in self.shape[: self._grid_ndim]], spans, threads=None)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part: ints, slices with any step, arrays of integers or bool, and an ellipsis, as numpy does."""
        read, rest = self.covering(key, threads=1)
        return read if all(isinstance(part, slice) for part in rest) else read[rest]

    def covering(self, key: Any, threads: int | None = None) -> tuple[NDArray[Any], tuple[Any, ...]]:
        """Read the frames that a key needs, and return them with the key into them, an entry for each axis.

        Parameters
        ----------
        key
            As in `__getitem__`.
        threads
            How many read; None: one a processor.
        """
        keys = _expanded(key, self.ndim)
        picked = [_points(part, size) for part, size in zip(keys, self.shape[: self._grid_ndim], strict=False)]
        inner = [
            _range(part, size)
            for part, size in zip(keys[self._grid_ndim :], self.shape[self._grid_ndim :], strict=True)
        ]
        read = self._read([points for points, _ in picked], [span for span, _ in inner], threads)
        return read, tuple(left for _, left in (*picked, *inner))

    def _read(self, points: Sequence[Index], spans: Sequence[slice], threads: int | None = 1) -> NDArray[Any]:
        """Read the frames at the points that have one of some indices along each dim of the grid."""
        rows: Index = np.zeros((), np.intp)
        for index, size in zip(points, self.shape, strict=False):
            rows = rows[..., None] * size + index
        grid_shape, rows = rows.shape, rows.reshape(-1)
        if self._rows is not None:
            rows = self._rows[rows]
        region = (spans[0], spans[1])
        sizes = [len(range(*span.indices(size))) for span, size in zip(region, self.shape[-len(spans) :], strict=False)]
        out = np.empty((len(rows), *sizes, *self.shape[self._grid_ndim + 2 :]), self.dtype)
        present = rows >= 0
        if not out.size:
            pass
        elif present.all():
            self.locations.read(rows, out, region, self._rescale, threads=threads)
        else:
            found = np.empty((int(present.sum()), *out.shape[1:]), self.dtype)
            if found.size:
                self.locations.read(rows[present], found, region, self._rescale, threads=threads)
            out[present] = found
            out[~present] = np.nan
        read = out.reshape(*grid_shape, *out.shape[1:])
        return read[(..., spans[2])] if len(spans) > 2 else read

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    @cached_property
    def _token(self) -> tuple[Any, ...]:
        return (self.locations.token(), self.shape, _packed(self._present), self.dtype.str, self._rescale)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self._token

    def __reduce__(self) -> tuple[Any, ...]:
        grid_shape = self.shape[: self._grid_ndim]
        return _unpickled, (self.locations, grid_shape, _packed(self._present), self.dtype, self._rescale)

    def __repr__(self) -> str:
        return f"<xdicom.FrameArray {self.shape} {self.dtype}>"


def _packed(present: NDArray[np.bool_] | None) -> bytes | None:
    return None if present is None else np.packbits(present).tobytes()


def _unpickled(
    locations: "Locations", shape: tuple[int, ...], packed: bytes | None, dtype: np.dtype[Any], rescale: bool
) -> FrameArray:
    present = None
    if packed is not None:
        present = np.unpackbits(np.frombuffer(packed, np.uint8), count=math.prod(shape)).astype(bool).reshape(shape)
    return FrameArray(locations, shape, present, dtype, rescale)


def _expanded(key: Any, ndim: int) -> list[Any]:
    """Return one key for each axis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    at = next((i for i, part in enumerate(keys) if part is Ellipsis), None)
    if at is None:
        keys.append(Ellipsis)
        at = len(keys) - 1
    if len(keys) - 1 > ndim:
        raise IndexError(f"{len(keys) - 1} indices for an array of {ndim} axes")
    keys[at : at + 1] = [slice(None)] * (ndim - len(keys) + 1)
    return keys


def _points(key: Any, size: int) -> tuple[Index, Any]:
    """Return the indices that a key needs, each once, and the key into them."""
    if isinstance(key, slice):
        return np.arange(*key.indices(size)), slice(None)
    index = _positive(key, size)
    points, inverse = np.unique(index, return_inverse=True)
    return points, inverse.reshape(index.shape) if index.ndim else 0


def _range(key: Any, size: int) -> tuple[slice, Any]:
    """Return the slice that a key needs, and the key into it."""
    if isinstance(key, slice):
        return key, slice(None)
    index = _positive(key, size)
    low = int(index.min()) if index.size else 0
    span = slice(low, int(index.max()) + 1) if index.size else slice(0, 0)
    return span, index - low if index.ndim else 0


def _positive(key: Any, size: int) -> Index:
    """Return integers, or where bools are true, as indices from 0."""
    index = np.asarray(key)
    if index.dtype == bool:
        if index.shape != (size,):
            raise IndexError(f"a bool index of shape {index.shape} for an axis of {size}")
        index = np.flatnonzero(index)
    if index.size and index.dtype.kind not in "iu":
        raise IndexError(f"{key!r} is no index; integers, slices and arrays of integers are")
    index = index.astype(np.intp)
    if index.size and not -size <= index.min() <= index.max() < size:
        raise IndexError(f"index {key} is outside an axis of {size}")
    return np.where(index < 0, index + size, index)
