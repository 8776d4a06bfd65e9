"""Any array function as a function of series: arranged along dims, computed block by block, staged as a new series.

What a function does is its own affair; which frames lie where is known in `stack`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from .creation import to_xarray
from .database import Series
from .dims import SLICE_DIMS
from .errors import EditError, GeometryError, RecordError, StackError
from .placement import POSITION_NAME
from .records import Record
from .selection import filled, rechunked

LEAST_BYTES, MOST_BYTES = 2**20, 2**25
"""How much of one array a task works on, unless the dims that a function needs whole are more."""

_GOOD_COUNT = 16  # of tasks
_FRAME_DIMS = ("row", "column", "sample")
_PLACED = (POSITION_NAME, "row_direction", "column_direction", "row_spacing", "column_spacing")
_TOLERANCE = 1e-3
_LONGEST = 64  # characters of an LO

Dims = Sequence[Any] | str | None
Input = Series | Sequence[Series]


def apply(
    func: Callable[..., Any],
    *series: Input,
    dims: Sequence[str] | str = (),
    output_dims: Sequence[str] | str | None = None,
    coords: Mapping[str, Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    dtype: DTypeLike | None = None,
    stack: Dims = None,
    vectorize: bool = False,
    range: tuple[float, float] | None = None,  # noqa: A002 - the word of S5
    **values: Any,
) -> Series:
    """Apply a function of arrays to series, and return the result as a new series in the same study.

    Parameters
    ----------
    func
        Takes one numpy array for each input, and returns one. It gets blocks: the dims that it needs whole are the
        last axes, in the order of `dims`; all others come before and may be cut anywhere. Without `dims` it works
        voxel by voxel. Values are floats: float32, or float64 where float32 does not hold them.
    *series
        Series; a list of series, such as one for each flip angle, is one input. They must have the same geometry.
    dims
        The dims that `func` needs whole: tags, "slice", "row" and "column".
    output_dims
        The dims of what it returns, the last axes of it. By default row and column stay, and other dims go.
    coords
        For each dim that is new or has another size, its values.
    kwargs
        Passed on to `func`.
    dtype
        Of the result; by default float32, or float64 where float32 does not hold the values of the first input.
        Integers are rounded to.
    stack
        How the frames are arranged, as `dims` in `Series.to_xarray`; by default inferred, else by slice and `dims`.
    vectorize
        Whether `func` takes and returns only the axes in `dims`, and has to be called for each voxel (slow).
    range
        (low, high) that values are clipped to.
    **values
        Tags of the new series by keyword.

    Returns
    -------
    Series
        New, staged, in the study of the first series. Its images refer to those that they are derived from.

    Raises
    ------
    StackError
        If the frames do not fill a grid along the dims.
    GeometryError
        If inputs lie in different places; `xdicom.wrappers.scipy.map_to` brings one onto the other.
    EditError
        If `func` returns another shape than said, or DICOM cannot hold its values.

    Examples
    --------
    >>> import numpy as np
    >>> import xdicom as xd
    >>> echoes = np.stack([np.full((3, 16, 16), 90.0), np.full((3, 16, 16), 60.0)])
    >>> dims = ("EchoTime", "slice", "row", "column")
    >>> series = xd.as_series(echoes, dims, coords={"EchoTime": [5, 10]}, SeriesDescription="T2*")
    >>> mean = xd.apply(np.mean, series, dims="EchoTime", kwargs={"axis": -1})
    >>> mean.ndarray().shape, float(mean.ndarray().max())
    ((16, 16, 3), 75.0)
    """
    core = _names(dims)
    require_series("apply", *(each for given in series for each in ([given] if isinstance(given, Record) else given)))
    first = _array(series[0], stack, core)
    others = [_array(each, *_varying(each, stack, core)) for each in series[1:]]
    arrays = [first, *(_on_same_grid(other, first) for other in others)]
    out = tuple(name for name in core if name in _FRAME_DIMS) if output_dims is None else _names(output_dims)
    wanted = np.result_type(first.dtype, np.float32) if dtype is None else np.dtype(dtype)
    found = _applied(
        functools.partial(func, **(kwargs or {})), arrays, core, out, coords or {}, wanted, vectorize=vectorize
    )
    name = getattr(func, "__name__", type(func).__name__)
    return derived_series(_first(series[0]), found, name, range=range, **values)


def require_series(name: str, *records: object) -> None:
    """Refuse what is no series.

    Parameters
    ----------
    name
        Of the function that takes them.
    *records
        What it was given.

    Raises
    ------
    RecordError
        If there is none, or one is something else.
    """
    strangers = sorted({type(record).__name__ for record in records if not isinstance(record, Series)})
    if strangers or not records:
        raise RecordError(f"{name} takes at least one series, not {', '.join(strangers) or 'none'}")


def derived_series(
    source: Series,
    array: xr.DataArray,
    name: str,
    *,
    detail: str = "",
    range: tuple[float, float] | None = None,  # noqa: A002 - the word of S5
    **values: Any,
) -> Series:
    """Stage an array as a new series in the study of a series; nothing is left of it if that fails.

    Parameters
    ----------
    source
        What it is derived from.
    array
        As `Series.set_xarray` takes it.
    name
        Of the function, for SeriesDescription and DerivationDescription.
    detail
        Arguments, for DerivationDescription.
    range
        As in `Series.set_xarray`.
    **values
        Tags of the new series by keyword.
    """
    before = next((str(text) for text in source.SeriesDescription if text), "")
    described = {
        "SeriesDescription": f"{before[: _LONGEST - len(name) - 1]} {name}".strip()[:_LONGEST],
        "DerivationDescription": f"{name} {detail}".strip(),
    }
    new = source.new_sibling(**(described | values))
    try:
        new.set_xarray(array, range=range)
    except BaseException:
        new.remove()
        raise
    return new


def _names(dims: Sequence[str] | str) -> tuple[str, ...]:
    return (dims,) if isinstance(dims, str) else tuple(dims)


def _first(each: Input) -> Series:
    return each if isinstance(each, Series) else each[0]


def _array(each: Input, stack: Dims, core: tuple[str, ...]) -> xr.DataArray:
    """Return one input as a lazy array with the dims that a function needs."""
    records = [each] if isinstance(each, Series) else list(each)
    extra = tuple(name for name in core if name not in ("slice", *_FRAME_DIMS))
    if stack is not None:
        return to_xarray(records, stack)
    try:
        array = to_xarray(records)
    except StackError as error:
        if not extra:
            raise StackError(str(error).replace("try dims=", "try stack=")) from error
    else:
        if set(extra) <= set(array.dims):
            return array
    return to_xarray(records, ("slice", *extra))


def _varying(each: Input, stack: Dims, core: tuple[str, ...]) -> tuple[Dims, tuple[str, ...]]:
    """Return `stack` and `dims` for a further input, without tags that have one value in it."""
    frames = [record.frames() for record in ([each] if isinstance(each, Series) else each)]

    def varies(name: Any) -> bool:
        is_place = name in SLICE_DIMS or name in ("frame", *_FRAME_DIMS)
        return is_place or len({str(value) for table in frames for value in table.unique(name)}) > 1

    asked = (stack,) if isinstance(stack, str) else stack
    return None if asked is None else tuple(filter(varies, asked)), tuple(filter(varies, core))


def _on_same_grid(other: xr.DataArray, first: xr.DataArray) -> xr.DataArray:
    """Return an input without what the first one says, too, or raise where it lies elsewhere."""
    for name in (*map(str, first.dims), *map(str, first.coords)):
        if name not in first.coords or name not in other.coords or not (name in first.dims or name.startswith(_PLACED)):
            continue
        here, there = first.coords[name], other.coords[name]
        numeric = here.dtype.kind in "iuf" and there.dtype.kind in "iuf"
        equal = here.shape == there.shape and (
            np.allclose(here, there, rtol=0, atol=_TOLERANCE) if numeric else np.array_equal(here, there)
        )
        if not equal:
            raise GeometryError(
                f"the inputs differ along {name}: {_shown(here)} in the first and {_shown(there)} in another; "
                "expected the same. xdicom.wrappers.scipy.map_to(other, first) brings one onto the other"
            )
    return other.drop_vars([name for name in other.coords if name not in other.dims]).assign_coords(
        {name: first.coords[name].variable for name in other.dims if name in first.coords}
    )


def _shown(coord: xr.DataArray) -> str:
    values = coord.values.reshape(-1)
    return f"{len(values)} values from {values[0]} to {values[-1]}" if len(values) > 1 else str(values.tolist()[0])


def _applied(
    func: Callable[..., Any],
    arrays: Sequence[xr.DataArray],
    core: tuple[str, ...],
    out: tuple[str, ...],
    coords: Mapping[str, Any],
    dtype: np.dtype[Any],
    *,
    vectorize: bool,
) -> xr.DataArray:
    """Return the lazy result of a function with its coordinates."""
    sizes = {name: size for array in reversed(arrays) for name, size in array.sizes.items()}
    unknown = [name for name in core if name not in sizes]
    if unknown:
        raise StackError(f"the frames have dims {tuple(sizes)}, and {unknown} is not among them: name them in stack=")
    given = {name: np.asarray(along) for name, along in coords.items()}
    new = [name for name in out if name not in core]
    lacking = [name for name in new if name not in given]
    if lacking:
        raise EditError(
            f"output_dims has {lacking}, which are new: give their values, coords={{{lacking[0]!r}: [...]}}"
        )
    kept = tuple(name for name in sizes if name not in core)
    if not {"row", "column"} <= {*kept, *out}:
        raise EditError(
            f"the result has dims {(*kept, *out)}, and images need row and column: name them in output_dims"
        )
    out_sizes = {name: len(given[name]) if name in given else sizes[name] for name in out}
    cores = [tuple(name for name in core if name in array.dims) for array in arrays]
    checked = functools.partial(_checked, func, tuple(map(len, cores)), tuple(out_sizes.values()), dtype)
    found: xr.DataArray = xr.apply_ufunc(
        func if vectorize else checked,
        *(_as_floats(_whole_along(array, core)) for array in arrays),
        input_core_dims=cores,
        output_core_dims=[out],
        exclude_dims={name for name in core if name in given},
        vectorize=vectorize,
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={"output_sizes": {name: out_sizes[name] for name in out if name in given}},
        keep_attrs=True,
        join="exact",
    )
    return found.assign_coords({name: (name, along) for name, along in given.items() if name in out})


def _whole_along(array: xr.DataArray, core: Sequence[str]) -> xr.DataArray:
    """Return an array in chunks that are whole along some dims, and small but of whole frames along others."""
    frame_first = [name for name in array.dims if name not in core]
    core_bytes = array.dtype.itemsize * math.prod(array.sizes[name] for name in core if name in array.dims)
    room = min(max(array.nbytes // _GOOD_COUNT, LEAST_BYTES), MOST_BYTES) // core_bytes
    cut = dict(zip(frame_first, filled([array.sizes[name] for name in frame_first], room), strict=True))
    return array.copy(data=rechunked(array.data, tuple(cut.get(name, (array.sizes[name],)) for name in array.dims)))


def _as_floats(array: xr.DataArray) -> xr.DataArray:
    """Return an array in floats, in which no difference wraps around as it does in unsigned integers."""
    return array.astype(np.result_type(array.dtype, np.float32), keep_attrs=True)


def _checked(
    func: Callable[..., Any],
    cores: tuple[int, ...],
    sizes: tuple[int, ...],
    dtype: np.dtype[Any],
    *blocks: NDArray[Any],
) -> NDArray[Any]:
    """Call a function on blocks, and refuse a shape that would put values in the wrong place."""
    values = np.asarray(func(*blocks))
    before = [block.shape[: block.ndim - count] for block, count in zip(blocks, cores, strict=True)]
    expected = (*np.broadcast_shapes(*before), *sizes)
    if values.shape != expected:
        raise EditError(
            f"the function returned shape {values.shape} for blocks of shape {[block.shape for block in blocks]}; "
            f"expected {expected}: what comes before dims, then output_dims"
        )
    if dtype.kind in "iu" and values.dtype.kind in "iuf" and values.dtype != dtype:
        return _rounded(values, dtype)
    return values.astype(dtype, copy=False)


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as the integers nearest to them, or raise where a dtype does not hold them."""
    nearest, bounds = np.rint(values), np.iinfo(dtype)
    if not ((nearest >= bounds.min) & (nearest <= bounds.max)).all():
        raise EditError(
            f"the function returned values from {values.min():.6g} to {values.max():.6g}, and {dtype} holds integers "
            f"from {bounds.min} to {bounds.max}: give another dtype="
        )
    return nearest.astype(dtype)
