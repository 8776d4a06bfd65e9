"""New pixels for the images that a series has: headers and SOP Instance UIDs stay.

How pixels are staged, and headers of other images made, is known in `derive`.
"""

import dataclasses

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .derive import Header, Limits, Plan, computed, in_order
from .dims import order_frames
from .errors import EditError
from .frames import Frames
from .likeness import changed_tags
from .pixelmodule import replace_pixels, wants_zero_intercept
from .rows import row_headers
from .scan import SeriesKey
from .stack import stack
from .staging import Progress
from .store import Store

_IN_ORDER = ("frame", "n")


def replace_images(
    store: Store, key: SeriesKey, array: xr.DataArray, *, limits: Limits = None, progress: Progress | None = None
) -> None:
    """Stage new pixels for all images of a series; a lazy array is computed once.

    Parameters
    ----------
    store, key
        The series.
    array
        Dims that arrange the series' frames, and "row", "column"[, "sample"]; or "frame", in the order of `ndarray`.
    limits
        (low, high) that values are clipped to.
    progress
        Called with the number of tasks done and that of all.

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
    ordered, lead = in_order(array)
    rows = _rows_of(images, ordered, lead)
    old = row_headers(images.take(rows))
    changes = changed_tags(ordered, lead, images, rows)

    def headers(module: Header) -> list[Header]:
        pairs = zip(old, changes, strict=True)
        return [
            {**replace_pixels(header, module), **{tag: raw for tag, raw in change.items() if raw is not None}}
            for header, change in pairs
        ]

    build = Plan(headers, wants_zero_intercept(old[0]))
    staged = computed(store, ordered, build, limits=limits, progress=progress)
    # Frames of one file are told apart by their numbers in it.
    store.replace(key, dataclasses.replace(staged, number=images.number[rows], _decoded={}))


def _rows_of(images: Frames, array: xr.DataArray, lead: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the row of the series that each image of an array is new pixels for."""
    shape = tuple(array.sizes[name] for name in lead)
    if int(np.prod(shape)) != len(images):
        raise EditError(f"{int(np.prod(shape))} images of shape {shape} for {len(images)} in the series")
    if len(lead) == 1 and lead[0] in _IN_ORDER:
        return order_frames(images)
    grid = stack(images, lead)
    if grid.shape != shape:
        raise EditError(f"the array has shape {shape} along {lead}, and the series {grid.shape}")
    for name in lead:
        along = grid.coords[name][1]
        if name in array.coords and not np.array_equal(np.asarray(array.coords[name].values), along):
            raise EditError(f"the coordinates of {name} are not those of the series: {along.tolist()[:8]}")
    return grid.frames.reshape(-1)
