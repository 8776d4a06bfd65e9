"""From the tags of rows to where and what their pixels are, and why a row has none.

Each distinct combination of values is looked at once; bytes are read by `locations`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from . import tags
from .columns import ENCODING, STAGED, TILE, UNTILED, Column, as_stored
from .errors import EditError, PixelError
from .formats import FORMAT_TAGS, PixelFormat, pixel_format
from .instance import INSTANCE_UID, format_of, known_rescale, place_of
from .locations import Locations
from .pixelmodule import NAN_PADDING
from .rescale import RESCALE_TAGS, Rescale
from .vendors import Tile
from .walker import EXPLICIT

if TYPE_CHECKING:
    from .frames import Frames

T = TypeVar("T")
Get = Callable[[int], object]

_CLASS, _PADDING = 0x00080016, 0x00280120
# Asked for like a tag: whether padding stands for NaN.
_NAN = -2
STORED_TAGS = frozenset(
    {0x00280002, 0x00280004, 0x00280006, 0x00280008, *range(0x00280010, 0x00280012), *range(0x00280100, 0x00280104)}
)
"""Tags that describe the stored pixels: samples, photometry, planes, frames, matrix, bits."""
_NEEDED = (ENCODING, *RESCALE_TAGS, _PADDING)


def locate_pixels(frames: "Frames") -> Locations:
    """Return where the pixels of every row are; rows without readable pixels have no format there."""
    formats, format_codes, _ = _formats(frames)
    tiles, tile_codes, _ = _tiles(frames)
    rescales, rescale_codes = _combinations(frames, _NEEDED, _rescale)
    return Locations.build(
        root=frames.files.root,
        paths=frames.files.paths,
        stamps=frames.files.stamps,
        file=frames.file,
        number=frames.number,
        offset=frames.offset,
        length=frames.length,
        formats=formats,
        format_codes=format_codes,
        rescales=rescales,
        rescale_codes=rescale_codes,
        uids=[str(uid) for uid in frames.values(INSTANCE_UID)],
        tiles=tiles,
        tile_codes=tile_codes,
    )


def image_rows(frames: "Frames") -> NDArray[np.intp]:
    """Return the rows that are images, readable or not."""
    column = frames.columns.get(ENCODING)
    if column is None:
        return np.zeros(0, np.intp)
    is_image = [vr == STAGED or (isinstance(value, bytes) and b"|" in value) for vr, value in column.values]
    return np.flatnonzero(np.array([*is_image, False], bool)[column.all_codes(len(frames))])


def tiled_rows(frames: "Frames") -> NDArray[np.bool_]:
    """Say for each row whether it is one of several in the picture of its file."""
    column = frames.columns.get(TILE)
    if column is None:
        return np.zeros(len(frames), bool)
    kinds = np.array([vr != UNTILED for vr, _ in column.values] + [False], bool)
    tiled: NDArray[np.bool_] = kinds[column.all_codes(len(frames))]
    return tiled


def refuse_part_of_picture(frames: "Frames") -> None:
    """Refuse rows that are some of the slices in a picture and not all of them.

    Raises
    ------
    EditError
        If there are some: a file holds the whole picture.
    """
    tiled = np.flatnonzero(tiled_rows(frames))
    if not tiled.size:
        return
    column = frames.columns[TILE]
    counts = np.array([1 if raw[0] == UNTILED else place_of(raw).frames for raw in column.values])
    wanted = counts[column.all_codes(len(frames))[tiled]]
    files, inverse, there = np.unique(frames.file[tiled], return_inverse=True, return_counts=True)
    if (there[inverse] != wanted).any():
        row = int(np.argmax(there[inverse] != wanted))
        path = os.fsdecode(frames.files.paths[files[inverse[row]]])
        raise EditError(
            f"{there[inverse][row]} of the {wanted[row]} slices in the one picture of {path!r} cannot go without the "
            "others: take whole volumes, or make a new series of an array, "
            "series.new_sibling().set_xarray(series.to_xarray().sel(...))"
        )


def check_pixels(frames: "Frames") -> None:
    """Raise where some row has no pixels that can be read, and say what it is.

    Raises
    ------
    PixelError
        With how many rows, the reason of the first and its file.
    """
    if not len(frames):
        raise PixelError("there are no frames: set_ndarray() or set_xarray() gives a new series some")
    _, codes, reasons = _formats(frames)
    absent = np.flatnonzero((codes < 0) | (frames.offset < 0))
    if not absent.size:
        return
    row = int(absent[0])
    path = os.fsdecode(frames.files.paths[frames.file[row]]) if frames.file[row] >= 0 else "no file"
    reason = reasons.get(row) or "its pixels cannot be located: see problems()"
    kind = _kind(frames, row)
    raise PixelError(f"{len(absent)} of {len(frames)} frames have no pixels; the first ({kind}, {path}): {reason}")


def _formats(frames: "Frames") -> tuple[list[PixelFormat], NDArray[np.int32], dict[int, str]]:
    """Return the distinct pixel formats, the one of each row (-1: none), and by row why it has none."""
    found, codes = _combinations(frames, (ENCODING, *FORMAT_TAGS), _row_format)
    formats, recoded, reasons = _told_apart(found, codes)
    untiled = _tiles(frames)[2]
    recoded[list(untiled)] = -1
    return formats, recoded, {**reasons, **untiled}


def _tiles(frames: "Frames") -> tuple[list[Tile], NDArray[np.int32], dict[int, str]]:
    """Return the distinct parts of pictures, the one of each row (-1: the whole), and by row why there is none."""
    column = frames.columns.get(TILE)
    if column is None:
        return [], np.full(len(frames), -1, np.int32), {}
    found: list[Tile | PixelError] = []
    for raw in column.values:
        try:
            found.append(place_of(raw).tile)
        except PixelError as error:
            found.append(error)
    return _told_apart(found, column.all_codes(len(frames)))


def _told_apart(
    found: Sequence[T | PixelError], codes: NDArray[np.int32]
) -> tuple[list[T], NDArray[np.int32], dict[int, str]]:
    """Part things from the errors among them: return things, the one of each row (-1: none), and by row the error."""
    things = [thing for thing in found if not isinstance(thing, PixelError)]
    good = np.array([*(not isinstance(thing, PixelError) for thing in found), False])
    recoded = np.where(good, np.cumsum(good) - 1, -1).astype(np.int32)[codes]
    bad = np.flatnonzero((recoded < 0) & (codes >= 0)).tolist()
    return things, recoded, {row: str(found[codes[row]]) for row in bad}


def stored_column(frames: "Frames", tag: int) -> Column:
    """Return what the files say of a tag that tables have, where the column says else."""
    column, kept = frames.columns[tag], frames.columns.get(as_stored(tag))
    if kept is None:
        return column
    laid = kept.all_codes(len(frames))
    codes = np.where(laid >= 0, laid + len(column.values), column.all_codes(len(frames))).astype(np.int32)
    return Column([*column.values, *kept.values], codes).take(np.arange(len(frames))) or column


def _stored_values(frames: "Frames", tag: int) -> tuple[list[object], NDArray[np.int32]]:
    """Return values and codes of a tag as the stored pixels need them, whatever edits say."""
    values, codes = frames.column(tag)
    kept = as_stored(tag)
    if kept not in frames.columns:
        return values, codes
    column = frames.columns[kept]
    before = [tags.decode(tag, vr, raw) for vr, raw in column.values if isinstance(raw, bytes)]
    laid = column.all_codes(len(frames))
    return [*values, *before], np.where(laid >= 0, laid + len(values), codes).astype(np.int32)


def _combinations(
    frames: "Frames", wanted: Sequence[int], build: Callable[[Get], T]
) -> tuple[list[T], NDArray[np.int32]]:
    """Build one thing for each distinct combination of the values of some tags."""
    nan_rows = _nan_rows(frames) if _PADDING in wanted else np.zeros(0, bool)
    present = [tag for tag in wanted if tag != ENCODING and (tag in frames.columns or as_stored(tag) in frames.columns)]
    columns = [_stored_values(frames, tag) for tag in present]
    keys = [column[1] for column in columns if len(column[0]) > 1 or (column[1] < 0).any()]
    if ENCODING in frames.columns and frames.columns[ENCODING].codes is not None:
        keys.append(frames.columns[ENCODING].all_codes(len(frames)))
    if nan_rows.any():
        keys.append(nan_rows.astype(np.int32))
    if not keys:
        return [build(_getter(frames, 0, nan_rows))] if len(frames) else [], np.zeros(len(frames), np.int32)
    _, first, inverse = np.unique(np.stack(keys, axis=1), axis=0, return_index=True, return_inverse=True)
    made = [build(_getter(frames, row, nan_rows)) for row in first.tolist()]
    return made, inverse.reshape(-1).astype(np.int32)


def _nan_rows(frames: "Frames") -> NDArray[np.bool_]:
    """Return the rows in which a private element of xdicom says that padding stands for NaN."""
    if _PADDING not in frames.columns:
        return np.zeros(len(frames), bool)
    rows: NDArray[np.bool_] = frames.named(NAN_PADDING)[1] >= 0
    return rows


def _getter(frames: "Frames", row: int, nan_rows: NDArray[np.bool_]) -> Get:
    """Return what gives the decoded value of a tag in one row: None where absent, "" where empty."""

    def get(tag: int) -> object:
        if tag == _NAN:
            return bool(nan_rows[row])
        if tag == ENCODING:
            column = frames.columns.get(ENCODING)
            return None if column is None else column.values[column.all_codes(len(frames))[row]]
        values, codes = _stored_values(frames, tag)
        if codes[row] < 0:
            return None
        value = values[codes[row]]
        return "" if value is None else value

    return get


def _rescale(get: Get) -> Rescale:
    """Return the rescale of a row; NaN are known by their padding value where xdicom staged or wrote them."""
    encoding, padding = get(ENCODING), get(_PADDING)
    is_staged = isinstance(encoding, tuple) and encoding[0] == STAGED
    if isinstance(padding, int) and (is_staged or get(_NAN)):
        return replace(known_rescale(get), padding=padding)
    return known_rescale(get)


def _row_format(get: Get) -> PixelFormat | PixelError:
    """Return the pixel format of a row from its tags and its pseudo-tag, or the reason why it has none."""
    encoding = get(ENCODING)
    if not isinstance(encoding, tuple):
        return PixelError("it has no pixels")
    syntax, _, element = encoding[1].decode("ascii", "replace").partition("|")
    try:
        if encoding[0] == STAGED:
            return replace(pixel_format(get, EXPLICIT), kind="staged", staged_dtype=element)
        return format_of(get, encoding[0], int(element, 16), syntax) if element else PixelError("it is no image")
    except PixelError as error:
        return error


def _kind(frames: "Frames", row: int) -> str:
    """Say what object a row is."""
    values, codes = frames.column(_CLASS)
    return UID(str(values[codes[row]])).name if codes[row] >= 0 else "an object of unknown class"
