"""Arrays with labels: those of a plain array by its dims and coords, and labels brought into one order and form.

It makes no headers and stages nothing.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import create, tags
from .coordinates import MOST_CHARACTERS
from .dims import RANKED
from .errors import EditError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def as_dataarray(array: "ArrayLike", dims: Sequence[Any] | str | None, coords: Any) -> xr.DataArray:
    """Label an array of the shape that `ndarray` returns.

    Parameters
    ----------
    array
        Shape (x, y, n) or (x, y, *dims), or (x, y): numpy or dask. A last axis of 3 beyond these is colour.
    dims
        Names of the axes after y.
    coords
        One sequence of values a dim, in a mapping by dim or in the order of the dims. Values along several dims, which
        `ndarray` returns for dims that it ranked, have the shape of all dims.

    Raises
    ------
    EditError
        If dims or coords do not fit the shape.
    """
    values = array if isinstance(array, np.ndarray | da.Array) else np.asarray(array)
    if values.ndim == 2:
        values = values[..., None]
    names = ("frame",) if dims is None else tuple(map(_dim_name, [dims] if isinstance(dims, str) else dims))
    samples = ("sample",) if values.ndim == len(names) + 3 and values.shape[-1] == 3 else ()
    if values.ndim != 2 + len(names) + len(samples) or len(set(names)) < len(names):
        raise EditError(f"an array of shape {values.shape} does not fit (x, y, {', '.join(names)}): name its dims")
    shape = values.shape[2 : 2 + len(names)]
    given = {name: np.asarray(along) for name, along in _by_dim(names, coords).items()}
    names = tuple(name + RANKED if name in given and given[name].ndim > 1 else name for name in names)
    labels = {name: _along(name, along, names, shape) for name, along in given.items()}
    named = xr.DataArray(values, dims=("column", "row", *names, *samples), coords=labels)
    return named.transpose(*names, "row", "column", *samples)


def _by_dim(names: Sequence[str], coords: Any) -> dict[str, Any]:
    """Return coordinates by the names of their dims."""
    if isinstance(coords, Mapping):
        return {_dim_name(name): along for name, along in coords.items()}
    given = list(() if coords is None else coords)
    if given and len(given) != len(names):
        raise EditError(f"coords has {len(given)} sequences for the dims {tuple(names)}: expected one each")
    return dict(zip(names, given, strict=False))


def _along(
    name: str, values: NDArray[Any], names: Sequence[str], shape: Sequence[int]
) -> tuple[Sequence[str], NDArray[Any]]:
    """Return the dims of a coordinate with its values: one dim, or all of them."""
    if name in names and values.shape == (shape[names.index(name)],):
        return [name], values
    if name not in names and values.shape == tuple(shape):
        return names, values
    raise EditError(
        f"coords of {name} with shape {values.shape} do not fit: the dims are {dict(zip(names, shape, strict=True))}"
    )


def as_slices(array: "ArrayLike", dims: Sequence[str] | None, coords: Mapping[str, Any] | None) -> xr.DataArray:
    """Label an array of the shape that `as_series` takes.

    Parameters
    ----------
    array
        Numpy or dask, see `create.slices_of`.
    dims
        Names of its axes.
    coords
        Values along axes that are tags, by name.

    Raises
    ------
    EditError
        If dims or coords do not fit the shape.
    """
    values = array if isinstance(array, np.ndarray | da.Array) else np.asarray(array)
    lead = create.leading_dims(values.ndim, dims)
    ordered = create.slices_of(values, dims)
    samples = ("sample",) if ordered.ndim == len(lead) + 3 else ()
    sizes = dict(zip(lead, ordered.shape, strict=False))
    given = {name: np.asarray(along) for name, along in (coords or {}).items()}
    for name, along in given.items():
        if along.shape != (sizes.get(name),):
            raise EditError(f"coords of {name!r} with shape {along.shape} do not fit: the dims are {sizes}")
    for name in lead[:-1]:
        tags.as_tag(name)  # frames along an axis that is no tag could not be told apart
        given.setdefault(name, np.arange(1, sizes[name] + 1))
    labels = {name: (name, along) for name, along in given.items()}
    return xr.DataArray(ordered, dims=(*lead, "row", "column", *samples), coords=labels)


def _dim_name(dim: Any) -> str:
    return dim if isinstance(dim, str) else tags.label(tags.as_tag(dim))


def in_order(array: xr.DataArray) -> tuple[xr.DataArray, tuple[str, ...]]:
    """Return the array with row, column and sample last, and the names of its other dims.

    Coordinates of short text are numpy's fixed-length ones, however a file had them.
    """
    names = [str(dim) for dim in array.dims]
    if "row" not in names or "column" not in names:
        raise EditError(f"the array has dims {tuple(names)}; expected 'row' and 'column' among them")
    if not array.size:
        raise EditError(f"the array has no images: its dims are {dict(array.sizes)}")
    if array.sizes.get("sample", 3) != 3:
        raise EditError(f"the array has {array.sizes['sample']} samples a pixel; colour has 3, red, green and blue")
    last = ["row", "column", *(["sample"] if "sample" in names else [])]
    lead = tuple(name for name in names if name not in last)
    if not lead:
        array, lead = array.expand_dims("frame"), ("frame",)
    return _with_plain_text(array).transpose(*lead, *last), lead


def _with_plain_text(array: xr.DataArray) -> xr.DataArray:
    texts = {
        name: (coord.dims, np.array(coord.values.tolist(), str))
        for name, coord in array.coords.items()
        if coord.dtype.kind in "OT" and max(map(len, map(str, coord.values.flat)), default=0) <= MOST_CHARACTERS
    }
    return array.assign_coords(texts)
