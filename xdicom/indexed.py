"""Pixels as a variable that xarray indexes lazily without dask, and chunks under names that tell what is read.

How frames are read is known in `array`, which frames belong together elsewhere.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from dask.base import normalize_token, tokenize
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from .array import FrameArray, Slices
from .coordinates import Labels
from .rescale import Rescale
from .selection import SelectableArray, Selection, selectable

FRAME_DIMS = ("row", "column", "sample")
_NAME = "pixels"
_WHOLE: Mapping[Any, Any] = MappingProxyType({})


class PixelArray(BackendArray):
    """Frames on a grid as xarray wants a file's array: indexed lazily, read when values are asked for.

    Parameters
    ----------
    source
        What is read; it holds no open file.
    """

    def __init__(self, source: FrameArray) -> None:
        self.source = source
        self.shape, self.dtype = source.shape, source.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        read: NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )
        return read

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Read a part; several arrays in a key select independently of each other, unlike in numpy."""
        read, rest = self.source.covering(key)
        for axis, part in reversed(list(enumerate(rest))):
            if not isinstance(part, slice):
                read = read[(slice(None),) * axis + (part,)]
        return read

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        """Read a part in a thread of its own."""
        return await asyncio.to_thread(self.__getitem__, key)

    def __dask_tokenize__(self) -> object:
        return normalize_token(self.source)


class PixelVariable(xr.Variable):
    """A variable of pixels that names its dask array by what that reads, not by a path and its modification time.

    xarray names what an engine opened by the path, and for a folder that stays the same when a file inside it changes:
    results that are cached by name would be those of other pixels.
    """

    __slots__ = ()

    def chunk(  # type: ignore[override]
        self,
        chunks: Any = _WHOLE,
        name: str | None = None,
        lock: bool | None = None,
        inline_array: bool | None = None,
        chunked_array_type: Any = None,
        from_array_kwargs: Mapping[str, Any] | None = None,
        **chunks_kwargs: Any,
    ) -> xr.Variable:
        """Return the variable with a dask array, see `xarray.Variable.chunk`."""
        held = _held(self._data)
        options = dict(from_array_kwargs or {})
        if held is None or not _is_dask(chunked_array_type):
            chunked: xr.Variable = super().chunk(
                chunks, name, lock, inline_array, chunked_array_type, options, **chunks_kwargs
            )
            return chunked
        sizes = self._sizes(chunks_kwargs or chunks)
        selection = _selection(held)
        if selection is not None and not (inline_array or options.get("inline_array")):
            return xr.Variable(self.dims, selectable(selection, sizes), self.attrs, self.encoding, fastpath=True)
        options["name"] = f"{_NAME}-{tokenize(held.array, held.key.tuple, sizes)}"
        read: xr.Variable = super().chunk(
            dict(zip(self.dims, sizes, strict=True)), None, lock, inline_array, chunked_array_type, options
        )
        return read

    def _sizes(self, chunks: Any) -> Slices:
        """Return the sizes of chunks along each dim; dims that are not named are whole."""
        if isinstance(chunks, Mapping):
            chunks = tuple(chunks.get(dim, -1) for dim in self.dims)
        sizes: Slices = dask.array.core.normalize_chunks(chunks, self.shape, dtype=self.dtype)  # type: ignore[no-untyped-call]
        return sizes

    def __dask_tokenize__(self) -> object:
        held = _held(self._data)
        if held is None:
            return super().__dask_tokenize__()
        return normalize_token((type(self), self._dims, held.array, held.key.tuple, self._attrs))


class TagVariable(Labels):
    """A coordinate that is in memory and stays so: xarray takes what an engine returns for data on disk.

    As such it would be hidden in representations, and become a dask array of its own.
    """

    __slots__ = ()

    @property
    def data(self) -> Any:
        """The values."""
        return super().data

    @data.setter
    def data(self, data: Any) -> None:
        xr.Variable.data.fset(self, _in_memory(data))  # type: ignore[attr-defined]


def _in_memory(data: Any) -> Any:
    """Return the numpy array inside xarray's wrappers, or what there is."""
    inner = data
    while isinstance(inner, indexing.ExplicitlyIndexed) and hasattr(inner, "array"):
        inner = inner.array
    return inner if isinstance(inner, np.ndarray) and inner.shape == data.shape else data


def _held(data: Any) -> indexing.LazilyIndexedArray | None:
    """Return what is still to be read inside xarray's wrappers; None where it is in memory, or something else."""
    while not isinstance(data, indexing.LazilyIndexedArray) and hasattr(data, "array"):
        data = data.array
    return data if isinstance(data, indexing.LazilyIndexedArray) and isinstance(data.array, PixelArray) else None


def _is_dask(chunked_array_type: Any) -> bool:
    """Whether it is dask that shall hold the chunks, and not another package."""
    kind = getattr(chunked_array_type, "array_cls", None)
    return chunked_array_type in (None, "dask") or kind is dask.array.Array


def _selection(held: indexing.LazilyIndexedArray) -> Selection | None:
    """Return what is still to be read as a selection by ints and ranges; None where lists of indices select."""
    keys = held.key.tuple
    if not all(isinstance(part, int | np.integer | slice) for part in keys):
        return None
    return Selection.all_of(held.array.source).select(keys)


def as_indexed(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset for xarray to take as that of an engine: without dask.

    Parameters
    ----------
    dataset
        Its variables are lazy arrays as `xdicom.array.to_dataarray` makes them, not selected from or computed with.

    Returns
    -------
    Dataset
        Its variables are indexed lazily; ``encoding["preferred_chunks"]`` says that frames are stored whole.
    """
    plain = {name: coord.variable for name, coord in dataset.coords.items() if name not in dataset.xindexes}
    tags = {name: TagVariable(var.dims, var.data, var.attrs, var.encoding) for name, var in plain.items()}
    pixels = {name: _indexed(var) for name, var in dataset.data_vars.items()}
    # Variables that are given as coordinates lose their class in xarray.
    indexes = dataset.drop_vars([*tags, *pixels]).coords
    return xr.Dataset(pixels | tags, indexes, dataset.attrs).set_coords(tags)


def _indexed(da: xr.DataArray) -> PixelVariable:
    data = da.data
    if not isinstance(data, SelectableArray) or not isinstance(data.selection.source, FrameArray):
        raise TypeError(f"a lazy array of frames is expected, not {type(data).__name__}")
    lazy = indexing.LazilyIndexedArray(PixelArray(data.selection.source))
    stored = {dim: size if dim in FRAME_DIMS else 1 for dim, size in da.sizes.items()}
    encoding = {"preferred_chunks": stored, "original_shape": da.shape}
    return PixelVariable(da.dims, lazy, da.attrs, encoding)


def scale_attrs(rescales: set[Rescale]) -> dict[str, float | int]:
    """Return how stored values become real-world ones, in the words of CF: {} where no one rule does.

    Parameters
    ----------
    rescales
        Those of all frames.
    """
    if len(rescales) != 1:
        return {}
    (rescale,) = rescales
    if rescale.problem or rescale.lut is not None:
        return {}
    attrs: dict[str, float | int] = {}
    if (rescale.slope, rescale.intercept) != (1, 0):
        attrs |= {"scale_factor": rescale.slope, "add_offset": rescale.intercept}
    if rescale.padding is not None:
        attrs["_FillValue"] = rescale.padding
    return attrs
