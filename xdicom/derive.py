"""Arrays to staged frames: each image gets a header, cloned from the frame it resembles or made anew.

How pixels are staged is known in `staging`, what a derived header keeps in `pixelmodule`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import create, quantise, tags
from .dims import order_frames
from .edits import inline
from .errors import EditError
from .explicit import explicit_values
from .columns import ENCODING, STAGED, Column, Known
from .frames import Files, Frames
from .likeness import SLICE_NAMES, changed_tags, nearest_rows
from .naming import new_uid
from .pixelmodule import SourceImage, derived_header, pixel_module, replace_pixels
from .rows import row_headers
from .scan import SeriesKey
from .stack import stack
from .staging import Progress, StagedArray
from .store import Store
from .tables import TableBuilder
from .walker import EXPLICIT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Header = dict[int, Known]
Limits = tuple[float, float] | None
Spacing = float | Sequence[float] | None

_CLASS, _INSTANCE, _SERIES, _NUMBER = 0x00080016, 0x00080018, 0x0020000E, 0x00200013
_FRAMES, _POSITION, _LOCATION = 0x00280008, 0x00200032, 0x00201041


def as_dataarray(array: "ArrayLike", dims: Sequence[Any] | str | None, coords: Any) -> xr.DataArray:
    """Label an array of the shape that `ndarray` returns.

    Parameters
    ----------
    array
        Shape (x, y, n) or (x, y, *dims), or (x, y): numpy or dask.
    dims
        Names of the axes after y.
    coords
        One sequence of values a dim, in a mapping by dim or in the order of the dims.

    Raises
    ------
    EditError
        If dims or coords do not fit the shape.
    """
    values = array if isinstance(array, np.ndarray | da.Array) else np.asarray(array)
    if values.ndim == 2:
        values = values[..., None]
    names = (dims,) if isinstance(dims, str) else ("frame",) if dims is None else tuple(map(_dim_name, dims))
    samples = ("sample",) if values.ndim == len(names) + 3 and values.shape[-1] == 3 else ()
    if values.ndim != 2 + len(names) + len(samples):
        raise EditError(f"an array of shape {values.shape} does not fit (x, y, {', '.join(names)}): name its dims")
    given = dict(coords) if isinstance(coords, Mapping) else dict(zip(names, coords or (), strict=False))
    for name, size in zip(names, values.shape[2:], strict=False):
        if name in given and len(given[name]) != size:
            raise EditError(f"{len(given[name])} values of {name} for an axis of length {size}")
    named = xr.DataArray(values, dims=("column", "row", *names, *samples), coords={k: (k, v) for k, v in given.items()})
    return named.transpose(*names, "row", "column", *samples)


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
    given = {name: (name, np.asarray(along)) for name, along in (coords or {}).items()}
    for name, (_, along) in given.items():
        if name not in lead or along.shape != (ordered.shape[lead.index(name)],):
            raise EditError(f"coords of {name!r} with shape {along.shape} fit no axis of {lead} in {ordered.shape}")
    return xr.DataArray(ordered, dims=(*lead, "row", "column", *samples), coords=given)


def _dim_name(dim: Any) -> str:
    return dim if isinstance(dim, str) else tags.label(tags.as_tag(dim))


def fill_series(
    store: Store,
    key: SeriesKey,
    array: xr.DataArray,
    *,
    like: Frames | None = None,
    limits: Limits = None,
    spacing: Spacing = None,
    affine: "ArrayLike | None" = None,
    progress: Progress | None = None,
) -> None:
    """Stage the images of an empty series; a lazy array is computed once.

    Parameters
    ----------
    store, key
        The series.
    array
        Dims (*dims, "row", "column"[, "sample"]), real-world values.
    like
        The frames whose headers are cloned; else those that the array came from, else those that the series follows.
    limits
        (low, high) that values are clipped to.
    spacing, affine
        Geometry where nothing is cloned, see `create.slice_geometry`.
    progress
        Called with the number of tasks done and that of all.

    Raises
    ------
    EditError
        If the series has images already, the array has no dims "row" and "column", or DICOM cannot hold its values.
    """
    held = store.frames(key)
    if held is None or (held.file >= 0).any():
        raise EditError("the series has images already: make an empty one with new_series() or new_sibling()")
    store.begin()
    ordered, lead, frame_ndim = _ordered(array)
    template = like if like is not None else _source_frames(store, key, array)
    template = None if template is None else template.images()
    if template is not None and (spacing is not None or affine is not None):
        raise EditError("the geometry is that of the series that headers are cloned from: give no spacing or affine")
    staged, module = _stage_pixels(store, ordered, frame_ndim, limits, progress)
    fixed = {tag: held.raw_values(tag)[0][0] for tag in held.tags()}
    if template is None:
        headers = _synthetic_headers(ordered, lead, module, fixed, spacing, affine)
    else:
        headers = _derived_headers(ordered, lead, template, module, fixed, key)
    store.stage(key, staged_frames(staged, headers))


def replace_images(
    store: Store, key: SeriesKey, array: xr.DataArray, *, limits: Limits = None, progress: Progress | None = None
) -> None:
    """Stage new pixels for all images of a series; headers and SOP Instance UIDs stay.

    Parameters
    ----------
    store, key
        The series.
    array
        Dims (*dims, "row", "column"[, "sample"]) that arrange the series' frames; or one dim, in the order of `ndarray`.
    limits, progress
        As in `fill_series`.

    Raises
    ------
    EditError
        If the array does not have one image for each of the series.
    StackError
        If its dims do not arrange the series.
    """
    frames = store.frames(key)
    if frames is None:
        raise EditError("the series has no images to replace")
    store.begin()
    images = frames.images()
    ordered, lead, frame_ndim = _ordered(array)
    rows = _rows_of(images, ordered, lead)
    staged, module = _stage_pixels(store, ordered, frame_ndim, limits, progress)
    changes = changed_tags(ordered, lead, images, rows)
    headers = []
    for header, change in zip(row_headers(images.take(rows)), changes, strict=True):
        kept = {tag: raw for tag, raw in change.items() if raw is not None}
        headers.append({**replace_pixels(header, module), **kept})
    store.replace(key, staged_frames(staged, headers))


def _rows_of(images: Frames, array: xr.DataArray, lead: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the row of the series that each image of an array is new pixels for."""
    shape = tuple(array.sizes[name] for name in lead)
    if int(np.prod(shape)) != len(images):
        raise EditError(f"{int(np.prod(shape))} images of shape {shape} for {len(images)} in the series")
    if len(lead) == 1 and lead[0] in ("frame", "n"):
        return order_frames(images)
    grid = stack(images, lead)
    if grid.shape != shape:
        raise EditError(f"the array has shape {shape} along {lead}, and the series {grid.shape}")
    for name in lead:
        along = grid.coords[name][1]
        if name in array.coords and not np.array_equal(np.asarray(array.coords[name].values), along):
            raise EditError(f"the coordinates of {name} are not those of the series: {along.tolist()[:8]}")
    return grid.frames.reshape(-1)


def _stage_pixels(
    store: Store, ordered: xr.DataArray, frame_ndim: int, limits: Limits, progress: Progress | None
) -> tuple[StagedArray, Header]:
    """Compute and stage pixels; return where they are and the elements that describe them."""
    data = ordered.data if isinstance(ordered.data, da.Array) else da.from_array(ordered.values)
    if limits is not None:
        data = data.clip(*limits)
    staged = store.edits.stage_pixels(data, frame_ndim, progress)
    chosen = quantise.choose(
        ordered.dtype,
        staged.extent.low,
        staged.extent.high,
        has_nan=staged.extent.has_nan,
        integral=staged.extent.integral,
        range=limits,
        iqr=quantise.interquartile_range(staged.sample),
        colour=frame_ndim == 3,
    )
    return staged, _module(ordered, staged, chosen)


def _ordered(array: xr.DataArray) -> tuple[xr.DataArray, tuple[str, ...], int]:
    """Return the array with row, column and sample last, the names of its other dims, and 2 or 3."""
    names = [str(dim) for dim in array.dims]
    if "row" not in names or "column" not in names:
        raise EditError(f"the array has dims {tuple(names)}; expected 'row' and 'column' among them")
    last = ["row", "column", *(["sample"] if "sample" in names else [])]
    lead = tuple(name for name in names if name not in last)
    if not lead:
        array, lead = array.expand_dims("frame"), ("frame",)
    return array.transpose(*lead, *last), lead, len(last)


def _source_frames(store: Store, key: SeriesKey, array: xr.DataArray) -> Frames | None:
    """Return the frames that an array came from, or that its series follows."""
    if "source_series" in array.coords:
        wanted = set(np.unique(array.coords["source_series"].values.astype(str)).tolist())
        found = [table for other in store.keys() if other.series in wanted if (table := store.frames(other)) is not None]
        if found:
            return Frames.concat(found)
    source = store.edits.source_of(key)
    return None if source is None else store.frames(source)


def _module(array: xr.DataArray, staged: StagedArray, chosen: quantise.Quantisation) -> Header:
    """Return the elements that describe the pixels, the same for all images."""
    extent = staged.extent
    low, high = (0.0 if end is None else float(end) for end in (extent.low, extent.high))
    finite = staged.sample[np.isfinite(staged.sample)] if staged.sample.dtype.kind == "f" else staged.sample
    if not chosen.exact and finite.size:
        low, high = (float(value) for value in np.percentile(finite, [1, 99]))
    return pixel_module(
        chosen,
        rows=array.sizes["row"],
        columns=array.sizes["column"],
        window=(low, high),
        samples=array.sizes.get("sample", 1),
    )


def _derived_headers(
    array: xr.DataArray, lead: tuple[str, ...], template: Frames, module: Header, fixed: Header, key: SeriesKey
) -> list[Header]:
    """Clone a header for each image from the frame that it resembles."""
    rows = nearest_rows(array, lead, template)
    changes = changed_tags(array, lead, template, rows)
    used, place = np.unique(rows, return_inverse=True)
    sources = [explicit_values(header, implicit=False) for header in row_headers(template.take(used))]
    gone = _gone(array, lead)
    # SeriesInstanceUID, SeriesDescription and the like as they were set on the new series.
    overlay = {tag: raw for tag, raw in fixed.items() if tag not in module}
    headers = []
    for i, row in enumerate(place.tolist()):
        source = sources[row]
        own: Header = {**overlay, **changes[i], _NUMBER: ("IS", str(i + 1).encode())}
        reference = _reference(source, int(template.number[used[row]]))
        header = derived_header(
            source,
            module,
            sop_instance=new_uid(),
            series=key.series,
            sources=[reference] if reference else [],
            drop=gone,
            changes={tag: raw for tag, raw in own.items() if raw is not None},
        )
        headers.append(header)
    return headers


def _reference(header: Header, number: int) -> SourceImage | None:
    """Return the reference to the image that a header is cloned from."""
    uids = [header.get(tag, ("UI", b""))[1].strip(b"\0 ").decode("ascii", "replace") for tag in (_CLASS, _INSTANCE)]
    if not all(uids):
        return None
    return SourceImage(uids[0], uids[1], number + 1 if _FRAMES in header else None)


def _gone(array: xr.DataArray, lead: tuple[str, ...]) -> list[int]:
    """Return the tags of dims along which the source was stacked and the array is no more."""
    before = str(array.attrs.get("stack_dims", "")).split()
    names = [name for name in before if name not in lead and name not in array.coords]
    return [tags.as_tag(name) for name in names if name[:1].isupper() and name.isidentifier()]


def _synthetic_headers(
    array: xr.DataArray,
    lead: tuple[str, ...],
    module: Header,
    fixed: Header,
    spacing: Spacing,
    affine: "ArrayLike | None",
) -> list[Header]:
    """Make a header for each image of a series that comes from nowhere."""
    shape = [array.sizes[name] for name in lead]
    axis = next((i for i, name in enumerate(lead) if name in SLICE_NAMES), len(lead) - 1)
    shared = create.encoded(create.synthetic_header())
    geometry = [create.encoded(values) for values in _slices(array, lead[axis], spacing, affine)]
    index = np.indices(shape)[axis].reshape(-1).tolist()
    changes = changed_tags(array, lead, None, np.zeros(len(index), np.intp))
    headers = []
    for i, place in enumerate(index):
        own = {_INSTANCE: ("UI", new_uid().encode()), _NUMBER: ("IS", str(i + 1).encode())}
        kept = {tag: raw for tag, raw in changes[i].items() if raw is not None}
        headers.append({**shared, **geometry[place], **module, **fixed, **kept, **own})
    return headers


def _slices(
    array: xr.DataArray, dim: str, spacing: Spacing, affine: "ArrayLike | None"
) -> list[dict[int, object]]:
    """Return the geometry of each slice; a slice coordinate in mm says where slices lie, if nothing else does."""
    count = array.sizes[dim]
    along = array.coords[dim].values if dim in SLICE_NAMES and dim in array.coords else None
    if along is None or affine is not None or along.dtype.kind not in "if":
        return create.slice_geometry(count, spacing=spacing, affine=affine)
    steps = np.diff(along.astype(np.float64))
    step = float(np.median(np.abs(steps))) if steps.size and steps.all() else 1.0
    in_plane = np.broadcast_to(1.0 if spacing is None else np.asarray(spacing, float), 3)
    placed = create.slice_geometry(count, spacing=(float(in_plane[0]), float(in_plane[1]), step))
    return [
        {**values, _POSITION: (0.0, 0.0, float(place)), _LOCATION: float(place)}
        for values, place in zip(placed, along.tolist(), strict=True)
    ]


def staged_frames(staged: StagedArray, headers: Sequence[Header]) -> Frames:
    """Return the table of staged images."""
    count = len(headers)
    offset = staged.offset.tolist()
    builder = TableBuilder()
    builder.add_rows(staged.file.tolist(), [0] * count, offset, [staged.nbytes] * count)
    encoding = {ENCODING: Column([(STAGED, f"{EXPLICIT}|{staged.dtype.str}".encode())])}
    columns = {**header_columns(headers), **encoding}
    table = builder.finish()
    stamps = np.array([stamp for _, stamp in staged.files], np.int64).reshape(-1, 3)
    files = Files(b"", [path for path, _ in staged.files], stamps)
    return Frames(files, table.file, table.number, table.offset, table.length, columns)


def header_columns(headers: Sequence[Header]) -> dict[int, Column]:
    """Return the columns of a table whose rows have these elements."""
    builder = TableBuilder()
    builder.add_rows([0] * len(headers), [0] * len(headers), [0] * len(headers), [0] * len(headers))
    for tag in sorted({tag for header in headers for tag in header}):
        builder.add_varying(tag, 0, [header.get(tag) for header in headers])
    return dict(builder.finish().columns)


def copy_frames(store: Store, key: SeriesKey, frames: Frames) -> None:
    """Stage copies of frames in a series, under new SOP Instance UIDs; pixels stay where they are.

    Parameters
    ----------
    store, key
        The series that they go into; what its placeholder says of patient, study and series is laid over.
    frames
        Rows with or without pixels.
    """
    held = store.frames(key)
    fixed = {} if held is None else {tag: Column([held.raw_values(tag)[0][0]]) for tag in held.tags()}
    fresh: list[Known] = [("UI", new_uid().encode()) for _ in range(len(frames))]
    columns = inline(frames)
    columns.update(fixed)
    columns[_INSTANCE] = Column(fresh, np.arange(len(frames), dtype=np.int32))
    store.stage(key, Frames(frames.files, frames.file, frames.number, frames.offset, frames.length, columns))


