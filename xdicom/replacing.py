"""New pixels for a series that has images: which image keeps which frame, which are added, which go.

How pixels are staged is known in `derive`, which frame an image resembles in `likeness`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import tags
from .columns import TILE, Column, Known
from .derive import Limits, Plan, Spacing, computed, with_charset
from .dims import RANKED, SLICE_DIMS, order_frames, resolve
from .elements import Columns, Header, header_at, overwritten, transformed
from .errors import EditError, StackError, UnknownTagError
from .extremes import tell_extremes
from .frames import Frames
from .labelling import in_order
from .likeness import Changes, changed_tags, nearest_rows
from .modules import CHARSET
from .naming import new_uid
from .overlay import has_text_beyond_ascii, overlaid
from .pixelmodule import STALE_UNREAD, replace_pixels, tags_of_pixels, wants_zero_intercept
from .planes import encoded_geometry, geometry_tags, per_image
from .rows import row_columns
from .scan import SeriesKey
from .stack import stack
from .staging import Progress
from .store import Store

_INSTANCE, _NUMBER, _SLICE_LOCATION, _FRAMES = 0x00080018, 0x00200013, 0x00201041, 0x00280008
_WITHOUT_COORDS = ("frame", "n")
_TOLERANCE = 1e-3

Rows = NDArray[np.intp]


def replace_images(
    store: Store,
    key: SeriesKey,
    array: xr.DataArray,
    *,
    limits: Limits = None,
    spacing: Spacing = None,
    progress: Progress | None = None,
) -> None:
    """Stage new pixels for the images of a series; frames whose coordinates match keep their headers and UIDs.

    Parameters
    ----------
    store, key
        The series.
    array
        Dims that arrange the series' frames, and "row", "column"[, "sample"]; or "frame", in the order of `ndarray`.
        Where it has other coordinates than the series, frames are added, each cloned from the nearest, or removed.
    limits
        (low, high) that values are clipped to.
    spacing
        In mm, one number or (column step, row step); by default another matrix size keeps the field of view.
    progress
        Called with the number of tasks done and that of all.

    Raises
    ------
    EditError
        If the array has another number of images and nothing tells which is which.
    StackError
        If its dims do not arrange the series.
    """
    frames = store.frames(key)
    if frames is None:
        raise EditError("the series has no images to replace")
    images = frames.images()
    _refuse_pictures(images)
    ordered, lead = in_order(array)
    rows = matching_rows(images, ordered, lead)
    if (rows < 0).any() or len(rows) < len(images):
        _refuse_parts(images)
    plan = plan_of(images, ordered, lead, rows, spacing)
    store.begin()
    staged = computed(store, ordered, plan, limits=limits, progress=progress)
    # Frames of one file are told apart by their numbers in it.
    numbers = np.where(rows < 0, 0, images.number[rows]).astype(np.int32)
    store.replace(key, dataclasses.replace(staged, number=numbers, _decoded={}))


def matching_rows(images: Frames, array: xr.DataArray, lead: Sequence[str]) -> Rows:
    """Return for each image of an array the row of the frame that it is new pixels for, -1 where it is a new image."""
    shape = tuple(array.sizes[name] for name in lead)
    count = int(np.prod(shape))
    if len(lead) == 1 and lead[0] in _WITHOUT_COORDS:
        if count != len(images):
            raise EditError(_how_many(count, shape, len(images)))
        return order_frames(images)
    found = _by_instance(images, array, lead)
    if found is not None:
        return found
    if count == len(images):
        found = _by_grid(images, array, lead, shape)
        if found is not None:
            return found
    return _by_coords(images, array, lead, shape)


def _by_instance(images: Frames, array: xr.DataArray, lead: Sequence[str]) -> Rows | None:
    """Match by the SOPInstanceUID that `to_xarray` gives an array; None where it does not tell."""
    if "SOPInstanceUID" not in array.coords or not set(map(str, array["SOPInstanceUID"].dims)) <= set(lead):
        return None
    wanted = per_image(array, lead, array.coords["SOPInstanceUID"].variable).tolist()
    held = images.values(_INSTANCE).tolist()
    place = {uid: row for row, uid in enumerate(held)}
    if len(place) < len(held) or len(set(wanted)) < len(wanted) or not place.keys() & set(wanted):
        return None
    return np.array([place.get(uid, -1) for uid in wanted], np.intp)


def _by_grid(images: Frames, array: xr.DataArray, lead: Sequence[str], shape: tuple[int, ...]) -> Rows | None:
    """Match by place in the grid of the series; None where the array's coordinates are others."""
    grid = stack(images, lead)
    if grid.shape != shape:
        raise EditError(f"the array has shape {shape} along {tuple(lead)}, and the series {grid.shape}")
    for name in lead:
        held = grid.coords.get(name)
        if name not in array.coords or held is None:
            continue
        given = np.asarray(array.coords[name].values)
        if not _equal(given, np.asarray(held[1]), name):
            return None
    return grid.frames.reshape(-1)


def _equal(given: NDArray[np.generic], held: NDArray[np.generic], name: str) -> bool:
    if given.shape != held.shape:
        return False
    if given.dtype.kind in "iuf" and held.dtype.kind in "iuf" and _is_position(name):
        return bool(np.allclose(given.astype(float), held.astype(float), rtol=0, atol=_TOLERANCE))
    return bool(np.array_equal(given, held))


def _is_position(name: str) -> bool:
    return name in SLICE_DIMS or name.startswith("ImagePositionPatient")


def _by_coords(images: Frames, array: xr.DataArray, lead: Sequence[str], shape: tuple[int, ...]) -> Rows:
    """Match by the coordinates of every dim: positions within 1e-3 mm, others exactly."""
    lacking = [name for name in lead if name not in array.coords or name.endswith(RANKED)]
    if lacking:
        raise EditError(f"{_how_many(int(np.prod(shape)), shape, len(images))}; there are none along {lacking}")
    matches = np.ones((int(np.prod(shape)), len(images)), bool)
    for name in lead:
        wanted = per_image(array, lead, array.coords[name].variable)
        matches &= _same(wanted, _held(images, name), name)
    if (matches.sum(axis=1) > 1).any():
        raise StackError(f"{tuple(lead)} do not tell the frames of the series apart: name one more of its dims")
    if (matches.sum(axis=0) > 1).any():
        raise EditError(f"the coordinates along {tuple(lead)} hold a value twice: give each image its own")
    return np.where(matches.any(axis=1), matches.argmax(axis=1), -1)


def _held(images: Frames, name: str) -> NDArray[np.generic]:
    """Return the value of each frame along a dim."""
    try:
        dim = resolve(images, name)
    except UnknownTagError as error:
        raise EditError(f"{name!r} is no dim that the series has: {error}") from error
    if (dim.codes < 0).any():
        raise StackError(f"{int((dim.codes < 0).sum())} of {len(images)} frames have no {name}")
    values: NDArray[np.generic] = dim.values[dim.codes]
    return values


def _same(wanted: NDArray[np.generic], held: NDArray[np.generic], name: str) -> NDArray[np.bool_]:
    """Say which image (axis 0) has the value of which frame (axis 1)."""
    if _is_position(name):
        nearby: NDArray[np.bool_] = np.abs(wanted.astype(float)[:, None] - held.astype(float)[None]) <= _TOLERANCE
        return nearby
    if (wanted.dtype.kind in "biuf") != (held.dtype.kind in "biuf"):
        raise EditError(f"{name} is {wanted.tolist()[:3]} in the array and {held.tolist()[:3]} in the series")
    equal: NDArray[np.bool_] = wanted[:, None] == held[None]
    return equal


def _how_many(count: int, shape: tuple[int, ...], held: int) -> str:
    return (
        f"{count} images of shape {shape} for the {held} of the series: "
        "give dims= and coords=, one sequence of values a dim, which say what is what"
    )


def _refuse_pictures(images: Frames) -> None:
    """Refuse new pixels for slices that lie side by side in one picture."""
    if TILE in images.columns:
        raise EditError(
            "the series lies in mosaics, pictures of several slices each, which are not written: "
            "make a new series, series.new_sibling().set_xarray(...)"
        )


def _refuse_parts(images: Frames) -> None:
    """Refuse to add or remove frames of a file with several."""
    values, codes = images.column(_FRAMES)
    if any(values[code] not in (None, 1) for code in np.unique(codes[codes >= 0]).tolist()):
        raise EditError(
            "the series lies in files of several frames, to which none can be added or removed: "
            "make a new series, series.new_sibling().set_ndarray(...)"
        )


def plan_of(images: Frames, array: xr.DataArray, lead: Sequence[str], rows: Rows, spacing: Spacing = None) -> Plan:
    """Return what makes the header of each image: that of its frame, or a clone of the nearest one's.

    Parameters
    ----------
    images
        The frames.
    array, lead
        As in `matching_rows`.
    rows
        The row of the frame of each image of the array, -1 where it is new.
    spacing
        As in `replace_images`.
    """
    is_new = rows < 0
    sources = np.where(is_new, nearest_rows(array, lead, images), rows) if is_new.any() else rows
    changes = changed_tags(array, lead, images, sources)
    geometry = geometry_tags(array, lead, images, sources, spacing)
    numbers = _numbers(images, is_new) if is_new.any() else []
    held = row_columns(images.take(sources))
    own: list[Changes] = [{**one, **encoded_geometry(other)} for one, other in zip(changes, geometry, strict=True)]
    for row in np.flatnonzero(is_new).tolist():
        own[row] |= {tag: raw for tag, raw in changes[row].items() if tag == _SLICE_LOCATION}
        own[row] |= {_INSTANCE: ("UI", new_uid().encode()), _NUMBER: ("IS", str(numbers[row]).encode())}
    location = {tag: column for tag, column in held.items() if tag == _SLICE_LOCATION}
    for row in np.flatnonzero(~is_new).tolist():
        if _SLICE_LOCATION in own[row]:
            _keep_location(header_at(location, row), own[row])
    kept = {tag: column for tag, column in held.items() if tag not in STALE_UNREAD}

    def build(module: Header) -> dict[int, Column]:
        replaced = transformed(kept, tags_of_pixels(kept), lambda header: replace_pixels(header, module))
        return _laid_over(replaced, own)

    return Plan(build, wants_zero_intercept(header_at(held, 0)), tell_extremes(held, len(rows)))


def _keep_location(header: Header, own: Changes) -> None:
    """Leave a SliceLocation that an array has rounded as it stands."""
    before, after = header.get(_SLICE_LOCATION), own.get(_SLICE_LOCATION)
    if before and after:
        old, new = (tags.decode(_SLICE_LOCATION, *raw) for raw in (before, after))
        if isinstance(old, float) and isinstance(new, float) and abs(old - new) <= _TOLERANCE:
            del own[_SLICE_LOCATION]


def _laid_over(columns: Columns, own: Sequence[Changes]) -> dict[int, Column]:
    """Return columns with what is each image's own laid over, all text readable in the character set of its image."""
    cells: dict[int, dict[int, Known | None]] = {}
    for row, changes in enumerate(own):
        if not changes:
            continue
        laid = {tag: raw for tag, raw in changes.items() if raw is not None}
        if has_text_beyond_ascii(laid):
            header = {tag: raw for tag, raw in header_at(columns, row).items() if tag not in changes or tag in laid}
            both = overlaid(header, with_charset(laid))
            laid = {tag: both[tag] for tag in (*laid, CHARSET) if tag in both}
        for tag, raw in {**changes, **laid}.items():
            cells.setdefault(tag, {})[row] = raw
    return overwritten(columns, cells, len(own))


def _numbers(images: Frames, is_new: NDArray[np.bool_]) -> list[int]:
    """Return InstanceNumbers for new images: those after the last one."""
    held = [number for number in images.unique(_NUMBER) if isinstance(number, int)]
    return (max([0, *held]) + np.cumsum(is_new)).tolist()
