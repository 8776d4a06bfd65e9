"""Rows of a table as what a file needs: all elements of one row, and the tags that name its file.

It writes nothing.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import ENCODING, STAGED, Column, Known
from .elements import Header, explicit_columns, headers_of
from .frames import Frames
from .groups import FRAME_GROUPS, SHARED_GROUPS
from .instance import INSTANCE_UID
from .naming import Instance
from .scan import SeriesKey
from .writer import Block, check_pixel_module

_AHEAD_BYTES = 2 << 20
_STUDY_DATE, _STUDY_DESCRIPTION, _PATIENT_ID = 0x00080020, 0x00081030, 0x00100020
_SERIES_NUMBER, _SERIES_DESCRIPTION, _INSTANCE_NUMBER, _SERIES_UID = 0x00200011, 0x0008103E, 0x00200013, 0x0020000E
_PATH_TAGS = (_PATIENT_ID, _STUDY_DATE, _STUDY_DESCRIPTION, _SERIES_NUMBER, _SERIES_DESCRIPTION, _INSTANCE_NUMBER)


def row_headers(frames: Frames) -> list[Header]:
    """Return the elements of each row in explicit VR, long ones read.

    Left out are group 2, pseudo-tags and functional groups, whose elements are among those of their row.
    """
    return headers_of(row_columns(frames), len(frames))


def row_columns(frames: Frames) -> dict[int, Column]:
    """Return the elements of all rows, those of `row_headers`, column by column."""
    columns = {}
    for tag in frames.tags():
        if tag >> 16 == 2 or tag in (SHARED_GROUPS, FRAME_GROUPS):
            continue
        raws, codes = frames.raw_values(tag)
        if raws:
            columns[tag] = Column(raws, None if frames.columns[tag].codes is None and len(raws) == 1 else codes)
    return explicit_columns(columns)


def instances_of(frames: Frames, key: SeriesKey) -> Iterator[tuple[int, Instance]]:
    """Yield the first row of each instance, and the tags that name its file."""
    columns = [frames.column(tag) for tag in (*_PATH_TAGS, INSTANCE_UID)]
    _, first = np.unique(np.stack([frames.file, columns[-1][1]], axis=1), axis=0, return_index=True)
    for row in np.sort(first).tolist():
        values = [found[codes[row]] if codes[row] >= 0 else None for found, codes in columns]
        patient, date, study, number, series, instance, uid = ("" if value is None else value for value in values)
        name = Instance(
            *key, str(uid), str(patient), str(date), str(study), _number(number), str(series), _number(instance)
        )
        yield row, name


def _number(value: object) -> int | str | None:
    return value if isinstance(value, int | str) else None


def staged_rows(frames: Frames) -> NDArray[np.bool_]:
    """Say for each row whether its pixels are staged ones."""
    column = frames.columns.get(ENCODING)
    if column is None:
        return np.zeros(len(frames), bool)
    kinds = np.array([vr == STAGED for vr, _ in column.values] + [False], bool)
    found: NDArray[np.bool_] = kinds[column.all_codes(len(frames))]
    return found


class StoredPixels:
    """The pixels of the rows of a table as files store them; cheapest in the order of the rows."""

    def __init__(self, frames: Frames) -> None:
        self._locations = table = frames.locations
        codes = (table.format_codes.tolist(), table.rescale_codes.tolist(), table.tile_codes.tolist())
        self._codes: list[tuple[int, int, int]] = list(zip(*codes, strict=True))
        self._forms: dict[tuple[int, ...], tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._ahead: dict[int, tuple[Block, int, int]] = {}
        self._count = 1

    def nbytes(self, row: int) -> int:
        """Return the size of one row's pixels in bytes."""
        shape, dtype = self._form(row)
        return math.prod(shape) * dtype.itemsize

    def read(self, row: int, header: Mapping[int, Known]) -> Block:
        """Return the stored values of one row as little-endian bytes, held against its header."""
        if row not in self._ahead:
            # As long as all that was read ahead is asked for, more is.
            most = max(1, _AHEAD_BYTES // max(1, self.nbytes(row)))
            self._count = 1 if self._ahead else min(2 * self._count, most)
            self._ahead = self._read_from(row, self._count)
        block, low, high = self._ahead.pop(row)
        check_pixel_module(header, low, high)
        return block

    def _read_from(self, row: int, count: int) -> dict[int, tuple[Block, int, int]]:
        """Return bytes, least and greatest value of a row and of some after it that are alike."""
        shape, dtype = self._form(row)
        stop = row + 1
        while stop < min(row + count, len(self._locations)) and self._codes[stop] == self._codes[row]:
            stop += 1
        stored = np.empty((stop - row, *shape), dtype)
        self._locations.read(range(row, stop), stored, rescale=False)
        flat = stored.reshape(len(stored), -1)
        extremes = zip(flat.min(axis=1).tolist(), flat.max(axis=1).tolist(), strict=True)
        little = np.ascontiguousarray(flat, dtype.newbyteorder("<")).view(np.uint8)
        found = zip(range(row, stop), little, extremes, strict=True)
        return {i: (memoryview(frame), int(low), int(high)) for i, frame, (low, high) in found}

    def _form(self, row: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of one row's pixels, which depend on codes that many rows share."""
        codes = self._codes[row]
        if codes not in self._forms:
            one = self._locations.take([row])
            self._forms[codes] = one.frame_shape(), one.dtype(rescale=False)
        return self._forms[codes]
