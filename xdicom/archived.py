"""Datasets that hold all of a header: what frames share as an attribute, the rest frame by frame as a coordinate.

So a series can be made of them again. How they are stored and read is known in `zarrs` and by xarray.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .array import to_dataarray
from .columns import ENCODING, Column, Known
from .derive import header_columns
from .dicomjson import from_json, to_json
from .dims import order_frames
from .errors import BrokenFileError
from .frames import Files, Frames
from .overlay import charset_of
from .planes import per_image
from .reading import arranged
from .rows import row_headers
from .stack import Grid
from .trees import Arranging, as_dataset, tags_dataset
from .walker import EXPLICIT

SHARED = "dicom_header"
OWN = "dicom_frame_header"

Header = dict[int, Known]


def image_dataset(frames: Frames, how: Arranging) -> xr.Dataset:
    """Return the images of a series as a dataset with complete headers, see `trees.series_dataset`."""
    images, grid = arranged(frames, how.dims, missing=how.missing, duplicates=how.duplicates)
    da = to_dataarray(images, grid, rescale=how.rescale, mask_padding=how.mask_padding, dtype=how.dtype)
    shared, own = _headers(images, grid)
    da.attrs[SHARED] = shared
    return as_dataset(da.assign_coords({OWN: own}), frames)


def other_dataset(frames: Frames) -> xr.Dataset:
    """Return objects without pixels as a dataset with complete headers, see `trees.tags_dataset`."""
    shared, own = _headers(frames, Grid(("frame",), order_frames(frames), {}))
    return tags_dataset(frames).assign_attrs({SHARED: shared}).assign_coords({OWN: own})


def _headers(frames: Frames, grid: Grid) -> tuple[str, xr.Variable]:
    """Return what all frames on a grid share, and for each point what is the frame's own, as DICOM JSON."""
    rows = grid.frames.reshape(-1)
    headers = row_headers(frames.take(rows[rows >= 0]))
    first = headers[0]
    same = {tag for tag, value in first.items() if all(header.get(tag) == value for header in headers)}
    if any(charset_of(header) != charset_of(first) for header in headers):
        same = set()  # text means what it means only beside its character set
    shared = to_json({tag: first[tag] for tag in same})
    charset = charset_of(first)
    texts = iter(
        json.dumps(to_json({tag: value for tag, value in header.items() if tag not in same}, charset))
        for header in headers
    )
    own = np.array([next(texts) if row >= 0 else "" for row in rows.tolist()], object)
    return json.dumps(shared), xr.Variable(grid.dims, own.reshape(grid.shape))


def headers_of(array: xr.DataArray, lead: Sequence[str]) -> list[Header] | None:
    """Return the header of each image of an array, in C order of its leading dims; None where it does not bring them.

    Parameters
    ----------
    array
        As it was made here, or selected from that.
    lead
        Its dims but row, column and sample.

    Raises
    ------
    BrokenFileError
        If what it brings is no DICOM JSON.
    """
    coord = array.coords.get(OWN)
    if coord is None or not set(map(str, coord.dims)) <= set(lead):
        return None
    texts = [str(text) for text in per_image(array, lead, coord.variable).tolist()]
    if not all(texts):
        return None
    shared = shared_header(array)
    charset = charset_of(shared)
    return [shared | from_json(_parsed(text), charset) for text in texts]


def shared_header(array: xr.DataArray) -> Header:
    """Return the part of the header that is an attribute of an array; {} where there is none."""
    return from_json(_parsed(array.attrs.get(SHARED, "{}")))


def _parsed(text: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise BrokenFileError(f"{SHARED} is no DICOM JSON: {error}") from error
    if not isinstance(found, dict):
        raise BrokenFileError(f"{SHARED} is no DICOM JSON, but {type(found).__name__}")
    return found


def as_template(headers: Sequence[Header]) -> Frames:
    """Return headers as a table of images that are in no file, for others to be cloned from."""
    absent = np.full(len(headers), -1, np.int32)
    nowhere: NDArray[np.int64] = absent.astype(np.int64)
    columns = {**header_columns(headers), ENCODING: Column([("OW", f"{EXPLICIT}|7FE00010".encode())])}
    return Frames(Files(b"", [], np.zeros((0, 3), np.int64)), absent, absent * 0, nowhere, nowhere, columns)
