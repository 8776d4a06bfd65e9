"""Which frame each image of an array resembles, and which tags its coordinates change.

It reads coordinates and tables; geometry is in `planes`, and headers are made in `derive`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import tags
from .columns import Known
from .dims import INSTANCE_UID, MM_DECIMALS, POSITION, RANKED, as_text, order_frames, scalars, vectors
from .errors import UnknownTagError
from .frames import ATTRIBUTES, Frames
from .geometry import FloatArray
from .imagery import tiled_rows
from .modules import PATIENT_TAGS, STUDY_TAGS
from .pixelmodule import SourceImage
from .planes import centres, per_image, vector_coord

Changes = dict[int, Known | None]

# What identifies an image or follows from where it lies, and is not taken from coordinates.
_NOT_TAKEN = frozenset({"InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"})
_CLASS_UID, _NUMBER_OF_FRAMES = 0x00080016, 0x00280008
_MOST_COSTS = 1 << 22
# A micrometre of distance counts more than all tags.
_POSITION_WEIGHT = 1e6


class _Term(NamedTuple):
    """One thing to compare: a number an image and a frame, text as codes; or vectors, shapes (n, k) and (m, k)."""

    here: FloatArray
    there: FloatArray
    kind: str

    def costs(self, rows: slice) -> FloatArray:
        """Return how far some images are from each frame, shape (images, frames)."""
        difference = self.here[rows, None] - self.there[None]
        costs: FloatArray
        if self.kind == "position":
            costs = np.round(np.linalg.norm(difference, axis=2), MM_DECIMALS)
            costs = np.nan_to_num(costs, nan=1e9) * _POSITION_WEIGHT
        elif self.kind == "text":
            costs = (difference != 0).astype(np.float64)
        else:
            # As shares of the range, so that units do not matter.
            span = float(np.nanmax(self.there) - np.nanmin(self.there))
            costs = np.nan_to_num(np.abs(difference) / span, nan=1.0)
        return costs


def nearest_rows(array: xr.DataArray, lead: Sequence[str], template: Frames) -> NDArray[np.intp]:
    """Return for each image, in C order of the leading dims, the row of the frame that it resembles most.

    Parameters
    ----------
    array
        Has coordinates along `lead`.
    lead
        Its dims but row, column and sample.
    template
        The frames to choose from.

    Notes
    -----
    The place of its centre counts first, within 1e-3 mm; among those equally near, the tags that are dims or scalar
    coordinates count, by difference. Where nothing tells frames apart, the n-th image resembles the n-th frame.
    """
    return np.array([rows[0] for rows in alike_rows(array, lead, template)], np.intp)


def alike_rows(array: xr.DataArray, lead: Sequence[str], template: Frames) -> list[NDArray[np.intp]]:
    """Return for each image the rows of all frames that it resembles equally, as those along a dim that is gone.

    Parameters
    ----------
    array, lead, template
        As in `nearest_rows`, whose row is the first.
    """
    count = int(np.prod([array.sizes[name] for name in lead]))
    order = order_frames(template)
    terms = list(_terms(array, lead, template.take(order)))
    if not terms:
        return [order[[i * len(order) // max(count, len(order))]] for i in range(count)]
    found: list[NDArray[np.intp]] = []
    step = max(1, _MOST_COSTS // len(order))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        costs = sum((term.costs(rows) for term in terms), np.zeros((1, len(order))))
        found += [order[np.flatnonzero(alike)] for alike in costs <= costs.min(axis=1, keepdims=True)]
    return found


def source_images(frames: Frames) -> list[SourceImage | None]:
    """Return the reference to the image that each frame is, None where it has no identity."""
    kinds, uids = (frames.column(tag) for tag in (_CLASS_UID, INSTANCE_UID))
    several = (frames.column(_NUMBER_OF_FRAMES)[1] >= 0) & ~tiled_rows(frames)  # slices in one picture have none
    found: list[SourceImage | None] = []
    for row, (kind, uid) in enumerate(zip(kinds[1].tolist(), uids[1].tolist(), strict=True)):
        number = int(frames.number[row]) + 1 if several[row] else None
        known = kind >= 0 and uid >= 0 and kinds[0][kind] and uids[0][uid]
        found.append(SourceImage(str(kinds[0][kind]), str(uids[0][uid]), number) if known else None)
    return found


def _terms(array: xr.DataArray, lead: Sequence[str], template: Frames) -> Iterator[_Term]:
    """Yield what tells the frames of the template apart and is known of the images, too."""
    positions, held = _places(array, lead, template)
    has_position = positions is not None and np.isfinite(held).any()
    if has_position and positions is not None and len(np.unique(held, axis=0)) > 1:
        yield _Term(positions, held, "position")
    for name in _telling(array, lead):
        if has_position and name in ("slice", "slice_location", "SliceLocation"):
            continue
        here = per_image(array, lead, array.coords[name].variable)
        there = _column(template, "slice_location" if name == "slice" else name)
        if there is None or len(np.unique(there)) < 2:
            continue
        if here.dtype.kind in "biuf" and there.dtype.kind in "biuf":
            yield _Term(here.astype(np.float64), there.astype(np.float64), "number")
        elif here.dtype.kind == "U" and there.dtype.kind == "U":
            codes = np.unique(np.concatenate([here, there]), return_inverse=True)[1].astype(np.float64)
            yield _Term(codes[: len(here)], codes[len(here) :], "text")


def _places(array: xr.DataArray, lead: Sequence[str], template: Frames) -> tuple[FloatArray | None, FloatArray]:
    """Return where images and frames are, by their centres, else by their positions."""
    found = centres(array, lead, template)
    return (
        found
        if found is not None
        else (vector_coord(array, lead, "ImagePositionPatient"), vectors(template, POSITION, 3))
    )


def _telling(array: xr.DataArray, lead: Sequence[str]) -> list[str]:
    """Return the coordinates that frames are compared by: dims, the values behind ranks, scalars and the instance."""
    wanted = {*lead, *(name.removesuffix(RANKED) for name in lead), "SOPInstanceUID"}
    names = [str(name) for name, coord in array.coords.items() if not coord.ndim or name in wanted]
    return [name for name in names if set(map(str, array[name].dims)) <= set(lead)]


def _column(frames: Frames, name: str) -> NDArray[np.generic] | None:
    """Return the values of a tag or attribute frame by frame, numbers or text; None where it is neither."""
    if name not in ATTRIBUTES and not name[:1].isupper():
        return None
    try:
        values, codes = frames.named(name)
    except UnknownTagError:
        return None
    array = scalars([*values, None])
    return None if array is None or not values else array[codes]


def changed_tags(
    array: xr.DataArray, lead: Sequence[str], template: Frames | None, rows: NDArray[np.intp]
) -> list[Changes]:
    """Return for each image the raw values that its coordinates give, where they differ from its template's.

    Parameters
    ----------
    array, lead
        As in `nearest_rows`.
    template, rows
        The frame that each image is cloned from; None where headers are made anew.

    Raises
    ------
    TagValueError
        If the VR of a tag cannot hold the coordinate of its name.
    """
    changes: list[Changes] = [{} for _ in rows]
    for name, coord in array.coords.items():
        tag = _tag_of(str(name))
        if tag is None or not set(map(str, coord.dims)) <= set(lead):
            continue
        values = per_image(array, lead, coord.variable).tolist()
        cache: dict[object, Known | None] = {}
        for change, value, before in zip(changes, values, _held(template, tag, rows), strict=True):
            if _same(value, before):
                continue
            if value not in cache:
                cache[value] = _encoded(tag, value)
            change[tag] = cache[value]
    return changes


def attribute_tags(array: xr.DataArray) -> dict[int, Known]:
    """Return the raw values that the attributes of an array give of how it was acquired (group 0018)."""
    found: dict[int, Known] = {}
    for name, value in array.attrs.items():
        tag = _tag_of(str(name))
        if tag is None or tag >> 16 != 0x0018:
            continue
        raw = _encoded(tag, tuple(value) if isinstance(value, list | np.ndarray) else value)
        if raw is not None:
            found[tag] = raw
    return found


def _tag_of(name: str) -> int | None:
    """Return the tag that a coordinate may change, or None."""
    # No keyword has an underscore, as components and ranks have; to look for the nearest one takes long.
    if not name[:1].isupper() or not name.isalnum() or name in _NOT_TAKEN:
        return None
    try:
        tag = tags.as_tag(name)
    except UnknownTagError:
        return None
    is_identity = tags.dictionary_vr(tag) in ("UI", "SQ") or tag >> 16 in (2, 0x10, 0x28)
    return None if is_identity or tag in PATIENT_TAGS or tag in STUDY_TAGS or tag == INSTANCE_UID else tag


def _held(template: Frames | None, tag: int, rows: NDArray[np.intp]) -> list[object]:
    if template is None:
        return [None] * len(rows)
    values, codes = template.column(tag)
    return [values[code] if code >= 0 else None for code in codes[rows].tolist()]


def _same(value: object, before: object) -> bool:
    """Say whether a coordinate says what a header says; NaN and "" say that there is nothing."""
    if value == "" or (isinstance(value, float) and np.isnan(value)):
        return before is None
    return value == before or (isinstance(value, str) and value == as_text(before))


def _encoded(tag: int, value: object) -> Known | None:
    """Return the raw value of a coordinate; None, which removes the element, where it says that there is nothing."""
    if value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    vr = tags.concrete_vr(tag)
    if isinstance(value, float) and vr in ("IS", "US", "SS", "UL", "SL") and value.is_integer():
        value = int(value)
    return vr, tags.encode(tag, vr, value, charset=tags.UTF8)
