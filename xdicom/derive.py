"""Arrays to staged frames: each image gets a header, cloned from the frame it resembles or made anew.

How pixels are staged is known in `staging`, what a derived header keeps in `pixelmodule`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import create, quantise, tags
from .columns import ENCODING, STAGED, Column, Known
from .dims import RANKED, SLICE_DIMS, STACK_DIMS
from .edits import inline
from .elements import Header, column_of
from .errors import EditError
from .extremes import has_extremes, with_extremes
from .frames import Files, Frames
from .imagery import refuse_part_of_picture
from .labelling import in_order
from .likeness import alike_rows, attribute_tags, changed_tags, source_images
from .modules import CHARSET, PATIENT_TAGS, STUDY_TAGS, without
from .naming import new_uid
from .overlay import has_text_beyond_ascii, overlaid
from .pixelmodule import derived_header, pixel_module, replace_pixels, settle_class, wants_zero_intercept
from .planes import encoded_geometry, geometry_tags
from .rows import row_headers
from .scan import SeriesKey
from .staging import Progress, StagedArray, chunk_shape, discard
from .store import Store
from .walker import EXPLICIT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Limits = tuple[float, float] | None
Spacing = float | Sequence[float] | None

_CLASS, _INSTANCE, _SERIES, _NUMBER = 0x00080016, 0x00080018, 0x0020000E, 0x00200013
_BODY_PART, _LATERALITY = 0x00180015, 0x00200060
_FRAMES, _POSITION, _LOCATION = 0x00280008, 0x00200032, 0x00201041
_TEMPORAL, _TEMPORAL_COUNT = 0x00200100, 0x00200105
_ATTRIBUTE_TAGS = {"b_value": "DiffusionBValue"}


class Plan(NamedTuple):
    """What makes the headers of all images, column by column, once the elements that describe their pixels are known.

    With `scale`, slope and intercept that the values had before, these are kept where they still serve.
    """

    columns: Callable[[Header], Mapping[int, Column]]
    zero_intercept: bool = False
    extremes: Sequence[bool] = ()  # which images tell their least and greatest stored value
    scale: tuple[str, str] | None = None


def fill_series(
    store: Store,
    key: SeriesKey,
    array: xr.DataArray,
    *,
    like: Frames | None = None,
    limits: Limits = None,
    spacing: Spacing = None,
    affine: "ArrayLike | None" = None,
    scale: tuple[str, str] | None = None,
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
    scale
        See `Plan`.
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
    ordered, lead = in_order(array)
    template = like if like is not None else _source_frames(store, key, array)
    template = None if template is None else template.images()
    fixed = row_headers(held)[0]
    # All that can be refused is refused before the array is computed, which may take hours.
    if limits is not None:
        quantise.limits(ordered.dtype, limits)
    build = (
        _synthetic(ordered, lead, fixed, spacing, affine)
        if template is None or not len(template)
        else _derived(ordered, lead, template, fixed, key, spacing=spacing, affine=affine)
    )
    build = build._replace(scale=scale)
    store.stage(key, computed(store, ordered, build, limits=limits, progress=progress))


def computed(
    store: Store, ordered: xr.DataArray, build: Plan, *, limits: Limits = None, progress: Progress | None = None
) -> Frames:
    """Compute and stage the pixels of an array, and return its images with their headers; nothing refers to them yet.

    Parameters
    ----------
    store
        Where pixels are staged.
    ordered
        As `in_order` returns it.
    build
        Makes the headers.
    limits, progress
        As in `fill_series`.
    """
    bounds = None if limits is None else quantise.limits(ordered.dtype, limits)
    frame_ndim = 3 if "sample" in ordered.dims else 2
    data = ordered.data if isinstance(ordered.data, da.Array) else _as_dask(ordered.values, frame_ndim)
    staged = store.edits.stage_pixels(data if bounds is None else _clipped(data, *bounds), frame_ndim, progress)
    try:
        before = None
        if build.scale is not None and limits is None and frame_ndim == 2 and not staged.extent.integral:
            before = quantise.kept(*build.scale, staged.extent, staged.sample)
        chosen = before or _quantised(ordered, staged, limits, zero_intercept=build.zero_intercept)
        frames = staged_frames(staged, build.columns(_module(ordered, staged, chosen)))
        is_told = any(build.extremes) and frame_ndim == 2
        return with_extremes(frames, staged.low, staged.high, build.extremes) if is_told else frames
    except BaseException:
        discard(staged.folder)
        raise


def _source_frames(store: Store, key: SeriesKey, array: xr.DataArray) -> Frames | None:
    """Return the frames that an array came from, or that its series follows."""
    if "source_series" in array.coords:
        wanted = set(np.unique(array.coords["source_series"].values.astype(str)).tolist())
        keys = [other for other in store.keys() if other.series in wanted]  # noqa: SIM118 - a method, no mapping
        found = [table for other in keys if (table := store.frames(other)) is not None]
        if found:
            return Frames.concat(found)
    source = store.edits.source_of(key)
    return None if source is None else store.frames(source)


def _clipped(data: da.Array, low: float, high: float) -> da.Array:
    """Clip to bounds that the dtype of integers need not hold."""
    wide: da.Array = data if data.dtype.kind == "f" else data.astype(np.int64)  # type: ignore[no-untyped-call]
    clipped: da.Array = wide.clip(low, high)  # type: ignore[no-untyped-call]
    return clipped


class _Uncopied:
    """An array that dask takes parts of when it computes; it would copy a numpy array at once."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim

    def __getitem__(self, key: Any) -> NDArray[Any]:
        part: NDArray[Any] = self.values[key]
        return part


def _as_dask(values: NDArray[Any], frame_ndim: int) -> da.Array:
    """Return an array as it is, in the chunks in which it is staged; naming it by its content would read all of it."""
    chunks = chunk_shape(values.shape, values.itemsize, frame_ndim)
    wrapped: da.Array = da.from_array(_Uncopied(values), chunks, name=False, asarray=False)  # type: ignore[no-untyped-call]
    return wrapped


def _quantised(
    array: xr.DataArray, staged: StagedArray, limits: Limits, *, zero_intercept: bool
) -> quantise.Quantisation:
    extent = staged.extent
    return quantise.choose(
        array.dtype,
        extent.low,
        extent.high,
        has_nan=extent.has_nan,
        integral=extent.integral,
        range=limits,
        iqr=quantise.interquartile_range(staged.sample),
        zero_intercept=zero_intercept,
        colour="sample" in array.dims,
    )


def _module(array: xr.DataArray, staged: StagedArray, chosen: quantise.Quantisation) -> Header:
    """Return the elements that describe the pixels, the same for all images."""
    extent = staged.extent
    low, high = (0.0 if end is None else float(end) for end in (extent.low, extent.high))
    finite = staged.sample[np.isfinite(staged.sample)]
    if not chosen.exact and finite.size:
        low, high = (float(value) for value in np.percentile(finite, [1, 99]))
    return pixel_module(
        chosen,
        rows=array.sizes["row"],
        columns=array.sizes["column"],
        window=(low, high),
        samples=array.sizes.get("sample", 1),
    )


def _derived(
    array: xr.DataArray,
    lead: tuple[str, ...],
    template: Frames,
    fixed: Header,
    key: SeriesKey,
    *,
    spacing: Spacing,
    affine: "ArrayLike | None",
) -> Plan:
    """Clone a header for each image from the frame that it resembles."""
    if affine is not None:
        raise EditError("the geometry is that of the series that headers are cloned from: give no affine")
    alike = alike_rows(array, lead, template)
    rows = np.array([each[0] for each in alike], np.intp)
    changes = changed_tags(array, lead, template, rows)
    geometry = geometry_tags(array, lead, template, rows, spacing)
    gone = _gone(array, lead)
    used, place = np.unique(rows, return_inverse=True)
    sources = row_headers(template.take(used))
    references = source_images(template)

    def columns(module: Header) -> dict[int, Column]:
        made = []
        for i, row in enumerate(place.tolist()):
            source = sources[row]
            own = {**changes[i], **encoded_geometry(geometry[i])}
            clone = overlaid(source, with_charset({tag: raw for tag, raw in own.items() if raw is not None}))
            header = derived_header(
                clone,
                module,
                sop_instance=new_uid(),
                series=key.series,
                sources=[reference for near in alike[i].tolist() if (reference := references[near])],
                drop=[*gone, *(tag for tag, raw in own.items() if raw is None)],
            )
            # What was set on the new series holds for all of its images.
            header = overlaid(header, {tag: raw for tag, raw in fixed.items() if tag not in module})
            made.append(header | {_NUMBER: ("IS", str(i + 1).encode())})
        return header_columns(made)

    had = [has_extremes(source) for source in sources]
    return Plan(columns, wants_zero_intercept(sources[0]), [had[row] for row in place.tolist()])


def with_charset(values: Header) -> Header:
    """Add the character set in which tags of coordinates are encoded, where it matters."""
    return values | {CHARSET: ("CS", tags.UTF8.encode())} if has_text_beyond_ascii(values) else values


def _gone(array: xr.DataArray, lead: tuple[str, ...]) -> list[int]:
    """Return the tags of dims along which the source was stacked and the array is no more."""
    texts = array.coords[STACK_DIMS].values.astype(str).reshape(-1).tolist() if STACK_DIMS in array.coords else []
    before = [name.removesuffix(RANKED) for name in dict.fromkeys(" ".join(texts).split())]
    names = [_ATTRIBUTE_TAGS.get(name, name) for name in before if name not in lead and name not in array.coords]
    return [tags.as_tag(name) for name in names if name[:1].isupper() and name.isidentifier()]


def _synthetic(
    array: xr.DataArray, lead: tuple[str, ...], fixed: Header, spacing: Spacing, affine: "ArrayLike | None"
) -> Plan:
    """Make a header for each image of a series that comes from nowhere."""
    shape = [array.sizes[name] for name in lead]
    axis = next((i for i, name in enumerate(lead) if name in SLICE_DIMS), len(lead) - 1)
    index = np.indices(shape)[axis].reshape(-1)
    nowhere = np.zeros(len(index), np.intp)
    changes = changed_tags(array, lead, None, nowhere)
    slices = [create.encoded(values) for values in _slices(array, lead[axis], spacing, affine)]
    by_coords = geometry_tags(array, lead, None, nowhere) if spacing is None and affine is None else [{}] * len(index)
    shared: Header = create.encoded(create.synthetic_header()) | attribute_tags(array)
    times = array.sizes.get(tags.label(_TEMPORAL))
    if times:
        shared[_TEMPORAL_COUNT] = "IS", str(times).encode()

    def columns(module: Header) -> dict[int, Column]:
        made = []
        for i, place in enumerate(index.tolist()):
            own = {**slices[place], **changes[i], **encoded_geometry(by_coords[i])}
            present = {tag: raw for tag, raw in own.items() if raw is not None}
            described = replace_pixels(shared, module)
            settle_class(described, create.MR_IMAGE)
            header = overlaid(described, with_charset(present))
            header = overlaid(header, {tag: raw for tag, raw in fixed.items() if tag not in module})
            if _BODY_PART in header and not header.get(_LATERALITY, ("CS", b"?"))[1].strip():
                del header[_LATERALITY]  # PS3.3 C.7.3.1: empty only where the part is unknown and may be paired
            made.append(header | {_INSTANCE: ("UI", new_uid().encode()), _NUMBER: ("IS", str(i + 1).encode())})
        return header_columns(made)

    return Plan(columns)


def _slices(array: xr.DataArray, dim: str, spacing: Spacing, affine: "ArrayLike | None") -> list[dict[int, object]]:
    """Return the geometry of each slice; a slice coordinate in mm says where slices lie, if nothing else does."""
    count = array.sizes[dim]
    along = array.coords[dim].values if dim in SLICE_DIMS and dim in array.coords else None
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


def staged_frames(staged: StagedArray, columns: Mapping[int, Column]) -> Frames:
    """Return the table of staged images with these elements."""
    count = len(staged.file)
    encoding = {ENCODING: Column([(STAGED, f"{EXPLICIT}|{staged.dtype.str}".encode())])}
    stamps = np.array([stamp for _, stamp in staged.files], np.int64).reshape(-1, 3)
    files = Files(b"", [path for path, _ in staged.files], stamps)
    length = np.full(count, staged.nbytes, np.int64)
    return Frames(files, staged.file, np.zeros(count, np.int32), staged.offset, length, {**columns, **encoding})


def header_columns(headers: Sequence[Header]) -> dict[int, Column]:
    """Return the columns of a table whose rows have these elements."""
    found = {}
    for tag in sorted({tag for header in headers for tag in header}):
        column = column_of([header.get(tag) for header in headers])
        if column is not None:
            found[tag] = column
    return found


def copy_frames(
    store: Store, key: SeriesKey, frames: Frames, *, elsewhere: bool = False, keep_uids: bool = False
) -> None:
    """Stage copies of frames in a series; pixels stay where they are.

    Parameters
    ----------
    store, key
        The series that they go into; what its placeholder says of the series is laid over.
    frames
        Rows with or without pixels; frames of one instance stay one instance.
    elsewhere
        Whether they come from another study: then they get the placeholder's patient and study, too, and lose what
        the other said of its own.
    keep_uids
        Whether they keep their SOP Instance UIDs, as those that are moved do.

    Raises
    ------
    EditError
        If a frame is there twice, or a part of the slices in one picture.
    """
    _refuse_twice(frames)
    refuse_part_of_picture(frames)
    held = store.frames(key)
    fixed = {} if held is None else row_headers(held)[0]
    outer = (PATIENT_TAGS | STUDY_TAGS) - {CHARSET}
    if not elsewhere:
        fixed = {tag: raw for tag, raw in fixed.items() if tag not in outer}
    gone = outer - fixed.keys() if elsewhere else frozenset()
    kept = frames.with_columns(without(gone & frames.columns.keys()))
    columns = inline(kept) | laid_columns(kept, fixed)
    if not keep_uids:
        columns[_INSTANCE] = _fresh_uids(frames)
    store.stage(key, Frames(frames.files, frames.file, frames.number, frames.offset, frames.length, columns))


def _fresh_uids(frames: Frames) -> Column:
    """Return new SOP Instance UIDs, one for each instance."""
    _, codes = frames.column(_INSTANCE)
    _, instance = np.unique(np.stack([frames.file, codes], axis=1), axis=0, return_inverse=True)
    fresh: list[Known] = [("UI", new_uid().encode()) for _ in range(int(instance.max(initial=-1)) + 1)]
    return Column(fresh, instance.reshape(-1).astype(np.int32))


def laid_columns(frames: Frames, values: Header) -> dict[int, Column]:
    """Return columns that give every row these elements, with all text readable in the character set of its row."""
    if not has_text_beyond_ascii(values):
        return {tag: Column([raw]) for tag, raw in values.items() if tag != CHARSET}
    laid = [overlaid(header, values) for header in row_headers(frames)]
    return header_columns([{tag: header[tag] for tag in (*values, CHARSET) if tag in header} for header in laid])


def _refuse_twice(frames: Frames) -> None:
    keys = [frames.files.paths[file] if file >= 0 else b"" for file in frames.file.tolist()]
    places = list(zip(keys, frames.number.tolist(), frames.offset.tolist(), strict=True))
    twice = len(places) - len(set(places))
    if twice:
        raise EditError(f"{twice} of {len(places)} frames are given twice: give each series once")
