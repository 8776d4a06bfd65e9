"""Which rows of a table edits were made for, so that they find them again when files come, go or change.

A row is known by SOPInstanceUID, frame number and matrix. What the edits are is not known here.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import Column, Raw
from .errors import CatalogError
from .frames import Frames
from .instance import INSTANCE_UID, uid_hash
from .packing import pack_integers, unpack_integers

# In place of a code: the row was not edited. (-1 stands for an element that was removed.)
UNEDITED = -2
_ROWS, _COLUMNS = 0x00280010, 0x00280011
_SIZES = struct.Struct("<QQ")
_MIX = tuple(np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


class Identity(NamedTuple):
    """What each row of a table is known by: a hash of its SOPInstanceUID, and one of frame number and matrix."""

    uid: NDArray[np.uint64]
    place: NDArray[np.uint64]

    @classmethod
    def of(cls, frames: Frames) -> "Identity":
        """Return the identity of the rows of a table; where a file has no SOPInstanceUID, its path stands for it."""
        values, codes = frames.column(INSTANCE_UID)
        hashes = np.array([*(uid_hash(str(value or "")) for value in values), 0], np.uint64)
        uid = hashes[codes]
        nameless = np.flatnonzero((codes < 0) | (uid == np.uint64(uid_hash(""))))
        for row in nameless[frames.file[nameless] >= 0].tolist():
            uid[row] = uid_hash(frames.files.paths[frames.file[row]].hex())
        numbers = frames.number.astype(np.uint64), *(_numbers(frames, tag) for tag in (_ROWS, _COLUMNS))
        place = np.zeros(len(frames), np.uint64)
        for number, odd in zip(numbers, _MIX, strict=True):
            place ^= (number + np.uint64(1)) * odd
        return cls(uid, place)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.uid)

    def digest(self) -> bytes:
        """Return 16 bytes that tell it from others."""
        return hashlib.blake2b(self.uid.tobytes() + self.place.tobytes(), digest_size=16).digest()

    def pack(self) -> bytes:
        """Return it as bytes."""
        parts = [pack_integers(array.view(np.int64)) for array in self]
        return _SIZES.pack(self.rows, len(parts[0])) + b"".join(parts)

    @classmethod
    def unpack(cls, blob: bytes) -> "Identity":
        """Return what `pack` packed."""
        if len(blob) < _SIZES.size:
            raise CatalogError("the catalog is damaged: rows of edits that cannot be unpacked")
        rows, size = _SIZES.unpack_from(blob)
        parts = blob[_SIZES.size : _SIZES.size + size], blob[_SIZES.size + size :]
        uid, place = (unpack_integers(part, np.int64, rows).view(np.uint64) for part in parts)
        return cls(uid, place)

    def take(self, rows: NDArray[np.intp]) -> "Identity":
        """Return that of some rows."""
        return Identity(self.uid[rows], self.place[rows])

    def concat(self, other: "Identity") -> "Identity":
        """Return that of the rows of two tables, one after the other."""
        return Identity(np.concatenate([self.uid, other.uid]), np.concatenate([self.place, other.place]))

    def find(self, other: "Identity") -> NDArray[np.intp]:
        """Return for each row of this table the row of another that is the same, or -1; of equal ones each once."""
        both = np.stack([np.concatenate([other.uid, self.uid]), np.concatenate([other.place, self.place])], axis=1)
        codes = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)  # numpy 2.0 keeps an axis
        there, here = _ranked(codes[: other.rows]), _ranked(codes[other.rows :])
        found = np.full(self.rows, -1, np.intp)
        order = np.lexsort(there.T[::-1])
        rows = {tuple(pair): int(row) for pair, row in zip(there[order].tolist(), order.tolist(), strict=True)}
        for row, pair in enumerate(here.tolist()):
            found[row] = rows.get(tuple(pair), -1)
        return found


def _ranked(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return pairs: each code, and how often it came before."""
    order = np.argsort(codes, kind="stable")
    _, first = np.unique(codes[order], return_index=True)
    starts = np.zeros(len(codes), np.intp)
    starts[first] = first
    ranks = np.empty(len(codes), np.intp)
    ranks[order] = np.arange(len(codes)) - np.maximum.accumulate(starts)
    return np.stack([codes, ranks], axis=1)


def _numbers(frames: Frames, tag: int) -> NDArray[np.uint64]:
    values, codes = frames.column(tag)
    numbers = [value if isinstance(value, int) and value >= 0 else 0 for value in values]
    return np.array([*numbers, 0], np.uint64)[codes]


def placed(column: Column | None, source: NDArray[np.intp]) -> Column:
    """Return an edited column for other rows: `source` has the row of each in it, or -1, which stays unedited."""
    values: list[Raw] = [] if column is None else list(column.values)
    if column is None:
        before = np.full(int(source.max(initial=-1)) + 1, -1, np.int32)
    elif column.codes is None:
        before = np.zeros(int(source.max(initial=-1)) + 1, np.int32)
    else:
        before = column.codes
    codes = np.append(before, np.int32(UNEDITED))[source]
    return Column(values, codes.astype(np.int32))


def merged(base: Column | None, edited: Column, count: int) -> Column | None:
    """Return a column with its edited rows over those of the base; None where no row has a value."""
    codes = edited.all_codes(count)
    rows = codes == UNEDITED
    if not rows.any():
        return _simple(edited.values, codes)
    if base is None:
        return _simple(edited.values, np.where(rows, -1, codes))
    under = base.all_codes(count)
    shifted = np.where(under < 0, -1, under + len(edited.values))
    return _simple([*edited.values, *base.values], np.where(rows, shifted, codes))


def joined(first: Column | None, second: Column, count: int, more: int) -> Column:
    """Return a column of `count` rows with `more` of another behind it."""
    upper = np.full(count, -1, np.int32) if first is None else first.all_codes(count)
    lower = second.all_codes(more)
    values = [] if first is None else list(first.values)
    codes = np.concatenate([upper, np.where(lower < 0, lower, lower + len(values))])
    return Column([*values, *second.values], codes.astype(np.int32))


def _simple(values: Sequence[Raw], codes: NDArray[np.int32]) -> Column | None:
    if (codes < 0).all():
        return None
    column = Column(list(values), codes.astype(np.int32))
    return column.take(np.arange(len(codes)))
