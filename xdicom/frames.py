"""The table: one row per frame, one column per tag, and where each frame's pixels are.

A column holds each distinct raw value once, and is decoded when somebody needs it. How rows become arrays is not known.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import tags
from .columns import Column, Known, LaidColumns, Ref, concat_columns, distinct_pairs
from .errors import StaleError, UnknownTagError
from .imagery import check_pixels, image_rows, locate_pixels
from .locations import Locations
from .source import Source, Stamp
from .tags import PrivateTag, TagLike, UniqueValues

CHARSET, SIGNED = 0x00080005, 0x00280103

_NO_CODES = np.zeros(0, np.int32)


class Attribute(NamedTuple):
    """A lower_case attribute: how to get it from frames, and how setting it becomes tags."""

    get: Callable[["Frames"], Sequence[object]]
    set: Callable[[Any, "Frames"], Mapping[Any, object]] | None = None


ATTRIBUTES: dict[str, Attribute] = {}


@dataclass(frozen=True, eq=False)
class Files:
    """The files that rows point into: paths relative to the root, as bytes, and their stamps.

    `stamps` has shape (n, 3): size in bytes, mtime in ns, inode.
    """

    root: bytes
    paths: Sequence[bytes]
    stamps: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frames:
    """A table of frames.

    Attributes
    ----------
    files
        The files that `file` indexes.
    file, number, offset, length
        For each row its file, frame number (from 0) in it, and the bytes of its pixels (-1 where there are none).
    columns
        Raw values by tag.
    """

    files: Files
    file: NDArray[np.int32]
    number: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    columns: Mapping[int, Column]
    _decoded: dict[int, tuple[list[object], NDArray[np.int32]]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.file)

    @staticmethod
    def empty() -> "Frames":
        """Return a table without rows."""
        nothing = np.zeros(0, np.int32)
        wide = np.zeros(0, np.int64)
        return Frames(Files(b"", [], np.zeros((0, 3), np.int64)), nothing, nothing, wide, wide, {})

    def tags(self) -> list[int]:
        """Return the tags that at least one row has, ascending."""
        return sorted(tag for tag in self.columns if tag >= 0)

    def take(self, rows: Sequence[int] | NDArray[np.integer] | slice) -> "Frames":
        """Return the table of some rows, in that order."""
        index = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows, np.intp)
        columns = {tag: taken for tag, column in self.columns.items() if (taken := column.take(index)) is not None}
        parts = self.file[index], self.number[index], self.offset[index], self.length[index]
        return Frames(self.files, *parts, columns)

    @staticmethod
    def concat(tables: Sequence["Frames"]) -> "Frames":
        """Return the rows of several tables, one after the other."""
        tables = [table for table in tables if len(table)] or list(tables[:1])
        if len(tables) == 1:
            return tables[0]
        if all(table.files is tables[0].files for table in tables):
            files, shifts = tables[0].files, [0] * len(tables)
        else:
            files, shifts = _concat_files([table.files for table in tables])
        return Frames(
            files,
            np.concatenate(
                [
                    np.where(table.file < 0, -1, table.file + np.int32(shift)).astype(np.int32)
                    for table, shift in zip(tables, shifts, strict=True)
                ]
            ),
            np.concatenate([table.number for table in tables]),
            np.concatenate([table.offset for table in tables]),
            np.concatenate([table.length for table in tables]),
            concat_columns([table.columns for table in tables], [len(table) for table in tables]),
        )

    def with_columns(self, changed: Mapping[int, Column | None]) -> "Frames":
        """Return the table with some columns replaced, or removed where None."""
        rows = self.file, self.number, self.offset, self.length
        return Frames(self.files, *rows, LaidColumns(self.columns, changed), self._still_decoded(changed))

    def _still_decoded(self, changed: Iterable[int]) -> dict[int, tuple[list[object], NDArray[np.int32]]]:
        """Return what is decoded and stays so when other columns change."""
        if any(tag in (CHARSET, SIGNED) or tags.is_private(tag) for tag in changed):
            return {}
        decoded = self._decoded.copy()
        for tag in changed:
            decoded.pop(tag, None)
        return decoded

    # -- values

    def is_uniform(self, tag: int) -> bool:
        """Say whether it is known without a look at the rows that all have one raw value of a tag, or none has any."""
        column = self.columns.get(tag)
        return column is None or column.is_uniform

    def decoded(self, tag: int, raw: Known) -> object:
        """Return what a raw value means where character set and signedness are uniform."""
        ((_, charset, signed),) = self._with_context(tag, [raw], _NO_CODES)[1]
        return tags.decode(tag, *raw, charset=charset, signed=signed, creator=self._creator_of(tag))

    def column(self, tag: int) -> tuple[list[object], NDArray[np.int32]]:
        """Return the distinct decoded values of a tag, and for each row the index of its value (-1: none)."""
        found = self._decoded.get(tag)
        if found is None:
            found = self._decoded[tag] = self._decode(tag)
        return found

    def _decode(self, tag: int) -> tuple[list[object], NDArray[np.int32]]:
        column = self.columns.get(tag)
        if column is None:
            return [], np.full(len(self), -1, np.int32)
        raws, codes = self._read_refs(column, column.all_codes(len(self)))
        codes, pairs = self._with_context(tag, raws, codes)
        creator = self._creator_of(tag)
        values = [
            tags.decode(tag, vr, raw, charset=charset, signed=signed, creator=creator)
            for (vr, raw), charset, signed in pairs
        ]
        return _merge_equal(values, codes)

    def _with_context(
        self, tag: int, raws: Sequence[Known], codes: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], list[tuple[Known, str, bool]]]:
        """Pair each raw value with the character set and signedness of the rows that have it."""
        charsets, signs = self._context(CHARSET, tag), self._context(SIGNED, tag)
        if len(charsets[0]) <= 1 and len(signs[0]) <= 1:
            charset = _charset_text(charsets[0][0]) if charsets[0] else ""
            signed = bool(signs[0] and signs[0][0] == 1)
            return codes, [(raw, charset, signed) for raw in raws]
        combined = np.stack([codes, charsets[1], signs[1]], axis=1)
        unique, inverse = np.unique(combined, axis=0, return_inverse=True)
        pairs: list[tuple[Known, str, bool]] = []
        recoded = np.full(len(unique), -1, np.int32)
        for i, (code, charset_code, sign_code) in enumerate(unique.tolist()):
            if code >= 0:
                recoded[i] = len(pairs)
                charset = _charset_text(charsets[0][charset_code]) if charset_code >= 0 else ""
                pairs.append((raws[code], charset, sign_code >= 0 and signs[0][sign_code] == 1))
        return recoded[inverse.reshape(-1)], pairs

    def _context(self, context: int, tag: int) -> tuple[list[object], NDArray[np.int32]]:
        return ([], np.zeros(0, np.int32)) if tag in (CHARSET, SIGNED) else self.column(context)

    def _creator_of(self, tag: int) -> str:
        """Return the private creator of a private tag where all rows have the same, else ""."""
        if not tag >> 16 & 1 or tag & 0xFFFF < 0x1000:
            return ""
        values, _ = self.column(tag & 0xFFFF0000 | tag >> 8 & 0xFF)
        return str(values[0]) if len(values) == 1 else ""

    def _read_refs(self, column: Column, codes: NDArray[np.int32]) -> tuple[Sequence[Known], NDArray[np.int32]]:
        """Read long values from the files of the rows that have them."""
        if not any(isinstance(value, Ref) for _, value in column.values):
            return column.values, codes  # type: ignore[return-value]
        pairs, inverse = distinct_pairs(self.file, codes)
        index: dict[Known, int] = {}
        recoded = np.full(len(pairs), -1, np.int32)
        for i, (file, code) in enumerate(pairs):
            if code >= 0:
                vr, value = column.values[code]
                raw = self._read_range(file, value) if isinstance(value, Ref) else value
                recoded[i] = index.setdefault((vr, raw), len(index))
        return list(index), recoded[inverse]

    def _read_range(self, file: int, ref: Ref) -> bytes:
        path = os.path.join(self.files.root, self.files.paths[file])
        stamp = Stamp(*self.files.stamps[file].tolist())
        try:
            with Source(path) as source:
                if source.stamp == stamp:
                    return source.read(ref.offset, ref.length)
        except FileNotFoundError:
            pass  # as stale as one that changed
        raise StaleError(f"{os.fsdecode(path)!r} changed since it was scanned; call rescan()")

    def raw_values(self, tag: int) -> tuple[Sequence[Known], NDArray[np.int32]]:
        """Return the distinct raw values of a tag, long ones read, and for each row the index of its value."""
        column = self.columns.get(tag)
        if column is None:
            return [], np.full(len(self), -1, np.int32)
        return self._read_refs(column, column.all_codes(len(self)))

    def places(self, name: PrivateTag) -> dict[int, NDArray[np.bool_]]:
        """Return the tags that hold a private element, each with the rows in whose block it is."""
        found = {}
        for block in range(0x10, 0x100):
            creators, codes = self.column(name.group << 16 | block)
            for code, creator in enumerate(creators):
                if creator == name.creator:
                    found[name.group << 16 | block << 8 | name.element] = codes == code
        return found

    def _private(self, name: PrivateTag) -> tuple[list[object], NDArray[np.int32]]:
        values: list[object] = []
        codes = np.full(len(self), -1, np.int32)
        for tag, rows in self.places(name).items():
            here, here_codes = self.column(tag)
            rows = rows & (here_codes >= 0)
            codes[rows] = here_codes[rows] + len(values)
            values += here
        return _merge_equal(values, codes)

    def named(self, name: TagLike | tuple[str, int, int]) -> tuple[list[object], NDArray[np.int32]]:
        """Return the distinct values and codes of a tag, a private element or a lower_case attribute."""
        if isinstance(name, str) and name in ATTRIBUTES:
            values = list(ATTRIBUTES[name].get(self))
            has_value = np.array([value is not None for value in values], bool)
            return _merge_equal(values, np.where(has_value, np.arange(len(values)), -1).astype(np.int32))
        parsed = _parse(name)
        return self._private(parsed) if isinstance(parsed, PrivateTag) else self.column(parsed)

    def values(self, name: TagLike | tuple[str, int, int]) -> NDArray[np.generic]:
        """Return the value of each row as a numpy array; NaN or "" where a row has none.

        Parameters
        ----------
        name
            A tag, private element or lower_case attribute.

        Returns
        -------
        ndarray
            Shape (n,), or (n, k) for numeric tags with k values each.
        """
        distinct, codes = self.named(name)
        if len(distinct) == 0:
            return np.full(len(self), np.nan)
        if (codes < 0).any():
            distinct = [*distinct, None]
        array: NDArray[np.generic] = tags.to_array(distinct)[codes]
        return array

    def __getitem__(self, name: TagLike | tuple[str, int, int]) -> NDArray[np.generic]:
        return self.values(name)

    def unique(self, name: TagLike | tuple[str, int, int]) -> UniqueValues:
        """Return the distinct values of a tag or attribute, ascending where they can be ordered."""
        distinct, codes = self.named(name)
        used = np.unique(codes)
        return tags.unique(distinct[code] for code in used.tolist() if code >= 0)

    # -- pixels

    @cached_property
    def locations(self) -> Locations:
        """Where the pixels of every row are; rows without readable pixels have no format there."""
        return locate_pixels(self)

    def images(self) -> "Frames":
        """Return the rows that are images, readable or not; all others are browsable only."""
        rows = image_rows(self)
        return self if len(rows) == len(self) else self.take(rows)

    def check_pixels(self) -> None:
        """Raise PixelError where some row has no pixels that can be read, and say what it is."""
        check_pixels(self)


def _parse(name: object) -> int | PrivateTag:
    if isinstance(name, str) and name[:1].islower() and name != "dBdt":
        near = difflib.get_close_matches(name, ATTRIBUTES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(ATTRIBUTES))}"
        raise UnknownTagError(f"{name!r} is no registered attribute{hint}")
    return tags.parse(name)  # type: ignore[arg-type]


def _charset_text(value: object) -> str:
    if value is None:
        return ""
    return "\\".join(str(part or "") for part in value) if isinstance(value, tuple) else str(value)


def _merge_equal(values: list[object], codes: NDArray[np.int32]) -> tuple[list[object], NDArray[np.int32]]:
    """Give equal values one code: raw values may differ by padding only."""
    index: dict[object, int] = {}
    distinct: list[object] = []
    recoded = np.empty(len(values) + 1, np.int32)
    recoded[-1] = -1
    for i, value in enumerate(values):
        key = _key(value)
        if key not in index:
            index[key] = len(distinct)
            distinct.append(value)
        recoded[i] = index[key]
    if len(distinct) == len(values):
        return values, codes
    return distinct, recoded[codes]


def _key(value: object) -> object:
    """Return what tells values apart: 1 and 1.0 and True are kept apart from text, lists compare by content."""
    return repr(value) if isinstance(value, list | dict) else value


def _concat_files(parts: Sequence[Files]) -> tuple[Files, list[int]]:
    """Join file lists; where roots differ, paths become absolute."""
    roots = {part.root for part in parts}
    root = parts[0].root if len(roots) == 1 else b""
    paths: list[bytes] = []
    shifts = []
    for part in parts:
        shifts.append(len(paths))
        paths += part.paths if root else [os.path.join(part.root, path) for path in part.paths]
    return Files(root, paths, np.concatenate([part.stamps for part in parts])), shifts
