"""A dask array whose selections are selections of its source, so that any chain of them reads only what is left.

dask fuses a selection into the reading of a chunk, but only the first of a chain: `a[:, 3][7]` would read all of it.
"""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import dask.array
import numpy as np
from dask.base import normalize_token, tokenize
from numpy.typing import NDArray

Key = int | range


class Readable(Protocol):
    """What a selection selects from: an array that reads what it is asked for, and pickles small."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: Any) -> NDArray[Any]: ...


class Selection:
    """Part of a readable array, by an int or a range of indices along each of its axes.

    Parameters
    ----------
    source
        The whole.
    keys
        One for each axis of the whole; an int drops the axis.
    """

    def __init__(self, source: Readable, keys: tuple[Key, ...]) -> None:
        self.source, self.keys = source, keys
        self.dtype = source.dtype
        self.shape = tuple(len(key) for key in keys if isinstance(key, range))
        self.ndim = len(self.shape)

    @classmethod
    def all_of(cls, source: Readable) -> Self:
        """Return the selection of everything."""
        return cls(source, tuple(range(size) for size in source.shape))

    def select(self, key: Any) -> "Selection":
        """Return a part of it, by ints, slices and one ellipsis."""
        left = iter(self._expanded(key))
        return Selection(
            self.source, tuple(key if isinstance(key, int) else _picked(key, next(left)) for key in self.keys)
        )

    def plain(self, key: Any) -> tuple[Any, ...]:
        """Return a key with every slice in bounds and an entry for each axis: dask's own arithmetic of slices errs."""
        parts = zip(self._expanded(key), self.shape, strict=True)
        return tuple(_as_slice(range(size)[part]) if isinstance(part, slice) else part for part, size in parts)

    def _expanded(self, key: Any) -> list[Any]:
        """Return one key for each axis, or more where there is a new axis or an index too many."""
        parts = list(key) if isinstance(key, tuple) else [key]
        at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
        if at is None:
            return [*parts, *[slice(None)] * (self.ndim - len(parts))]
        return [*parts[:at], *[slice(None)] * (self.ndim - len(parts) + 1), *parts[at + 1 :]]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part of it: ints, slices, arrays of integers, and an ellipsis."""
        left = iter(self._expanded(key))
        keys = (key if isinstance(key, int) else _picked(key, next(left), whole=True) for key in self.keys)
        return self.source[tuple(keys)]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # What is inside a token is not normalised again, but shown as text.
        return normalize_token(self.source), repr(self.keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return Selection, (self.source, self.keys)


def _picked(key: range, part: Any, *, whole: bool = False) -> Any:
    """Return the indices that a key picks from a range; with `whole` as a key for the source itself."""
    if isinstance(part, slice):
        picked = key[part]
        return _as_slice(picked) if whole else picked
    if isinstance(part, int | np.integer):
        return key[int(part)]
    return np.arange(key.start, key.stop, key.step)[part]


def _as_slice(indices: range) -> slice:
    """Return the slice that means a range of indices, none of them negative."""
    if not len(indices):
        return slice(0, 0)
    stop = indices[-1] + (1 if indices.step > 0 else -1)
    return slice(indices[0], None if stop < 0 else stop, indices.step)


class SelectableArray(dask.array.Array):
    """A dask array of a selection: its own selections read from the source, all else is dask's."""

    selection: Selection

    def __getitem__(self, key: Any) -> dask.array.Array:
        parts = key if isinstance(key, tuple) else (key,)
        is_plain = all(part is Ellipsis or isinstance(part, int | np.integer | slice) for part in parts)
        if not is_plain or len(parts) - (Ellipsis in parts) > self.ndim:
            return super().__getitem__(key)  # type: ignore[no-untyped-call,no-any-return]
        chunks = super().__getitem__(self.selection.plain(key)).chunks  # type: ignore[no-untyped-call]
        return selectable(self.selection.select(key), chunks)


def selectable(
    selection: Selection, chunks: tuple[tuple[int, ...], ...], *, prefix: str = "pixels"
) -> dask.array.Array:
    """Return a dask array of a selection, named by what it reads.

    Parameters
    ----------
    selection
        What it reads.
    chunks
        Sizes of its chunks along each axis.
    prefix
        Of its name.
    """
    name = f"{prefix}-{tokenize(selection, chunks)}"
    meta = np.empty((0,) * selection.ndim, selection.dtype)
    plain: dask.array.Array = dask.array.from_array(selection, chunks, name=name, meta=meta, asarray=False)  # type: ignore[no-untyped-call]
    array = SelectableArray(plain.dask, plain.name, plain.chunks, meta=meta)  # type: ignore[no-untyped-call]
    array.selection = selection
    return array


def rechunked(array: dask.array.Array, chunks: tuple[tuple[int, ...], ...]) -> dask.array.Array:
    """Return an array in other chunks; one that is a selection reads them as such, instead of cutting and joining.

    Parameters
    ----------
    array
        Any dask array.
    chunks
        Sizes of the new chunks along each axis.
    """
    if isinstance(array, SelectableArray):
        return array if array.chunks == chunks else selectable(array.selection, chunks)
    again: dask.array.Array = array.rechunk(chunks)  # type: ignore[no-untyped-call]
    return again


def filled(sizes: Sequence[int], room: int) -> tuple[tuple[int, ...], ...]:
    """Return chunks along axes of some sizes that hold at most so many points, the last axes whole first.

    Examples
    --------
    >>> filled((3, 100), 250), filled((3, 100), 60)
    (((2, 1), (100,)), ((1, 1, 1), (60, 40)))
    """
    chunks: list[tuple[int, ...]] = []
    for size in reversed(sizes):
        step = max(1, min(size, room))
        chunks.insert(0, tuple(min(step, size - start) for start in range(0, size, step)))
        room = room // size if step == size else 1
    return tuple(chunks)
