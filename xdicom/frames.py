"""The table: one row per frame, one column per tag, and where each frame's pixels are.

A column holds each distinct raw value once; it is decoded when somebody needs it. How rows become arrays is not known here.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from . import tags
from .errors import PixelError, StaleError, UnknownTagError
from .formats import FORMAT_TAGS, PixelFormat, pixel_format
from .instance import INSTANCE_UID, format_of, known_rescale
from .locations import Locations
from .pixelmodule import NAN_PADDING
from .rescale import RESCALE_TAGS, Rescale
from .source import Source, Stamp
from .tags import PrivateTag, TagLike, UniqueValues
from .walker import EXPLICIT

# A pseudo-tag: VR and tag of the pixel element, and the transfer syntax, also where the file names none.
ENCODING = -1
T = TypeVar("T")
# In place of a VR in that pseudo-tag: the pixels are staged, and the rest is their dtype.
STAGED = "staged"
_NAN = -2
CHARSET, SIGNED = 0x00080005, 0x00280103
_CLASS, _PADDING = 0x00080016, 0x00280120
_RESCALE_TAGS = (ENCODING, *RESCALE_TAGS, _PADDING)


class Ref(NamedTuple):
    """A value too long to be kept: where it lies in the row's own file, in bytes."""

    offset: int
    length: int


# A value as it stands in the file: VR as written ("" in implicit VR), and little-endian bytes or where these lie.
# A plain tuple: scanning makes one for every value that differs between files.
Raw = tuple[str, bytes | Ref]
Known = tuple[str, bytes]


@dataclass(frozen=True, eq=False)
class Column:
    """The raw values of one tag, each once.

    Attributes
    ----------
    values
        Distinct raw values.
    codes
        For each row the index of its value, -1 where it has none; None when all rows have the first.
    """

    values: Sequence[Raw]
    codes: NDArray[np.int32] | None = None

    def take(self, rows: NDArray[np.intp]) -> "Column | None":
        """Return the column of some rows, or None where no row has a value."""
        if self.codes is None:
            return self
        codes = self.codes[rows]
        used = np.unique(codes)
        if used.size == 0 or used[-1] < 0:
            return None
        if used.size == 1:
            return Column([self.values[used[0]]])
        has_none = used[0] < 0
        kept = used[1:] if has_none else used
        recoded = np.full(len(self.values) + 1, -1, np.int32)
        recoded[kept] = np.arange(len(kept), dtype=np.int32)
        return Column([self.values[i] for i in kept], recoded[codes])

    def all_codes(self, count: int) -> NDArray[np.int32]:
        """Return one code a row, also where all are the same."""
        return np.zeros(count, np.int32) if self.codes is None else self.codes


class Attribute(NamedTuple):
    """A lower_case attribute: how to get it from frames, and how setting it becomes tags."""

    get: Callable[["Frames"], Sequence[object]]
    set: Callable[[object, "Frames"], Mapping[TagLike, object]] | None = None


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
                [np.where(table.file < 0, -1, table.file + np.int32(shift)).astype(np.int32)
                 for table, shift in zip(tables, shifts, strict=True)]
            ),
            np.concatenate([table.number for table in tables]),
            np.concatenate([table.offset for table in tables]),
            np.concatenate([table.length for table in tables]),
            concat_columns([table.columns for table in tables], [len(table) for table in tables]),
        )

    def with_columns(self, changed: Mapping[int, Column | None]) -> "Frames":
        """Return the table with some columns replaced, or removed where None."""
        columns = {**self.columns, **changed}
        return replace(self, columns={tag: column for tag, column in columns.items() if column}, _decoded={})

    # -- values

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
        pairs, recoded = [], np.full(len(unique), -1, np.int32)
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
        pairs, inverse = np.unique(np.stack([self.file, codes], axis=1), axis=0, return_inverse=True)
        index: dict[Known, int] = {}
        recoded = np.full(len(pairs), -1, np.int32)
        for i, (file, code) in enumerate(pairs.tolist()):
            if code >= 0:
                vr, value = column.values[code]
                raw = self._read_range(file, value) if isinstance(value, Ref) else value
                recoded[i] = index.setdefault((vr, raw), len(index))
        return list(index), recoded[inverse.reshape(-1)]

    def _read_range(self, file: int, ref: Ref) -> bytes:
        path = os.path.join(self.files.root, self.files.paths[file])
        stamp = Stamp(*self.files.stamps[file].tolist())
        try:
            with Source(path) as source:
                if source.stamp == stamp:
                    return source.read(ref.offset, ref.length)
        except FileNotFoundError:
            pass
        raise StaleError(f"{os.fsdecode(path)!r} changed since it was scanned; call rescan()")

    def raw_values(self, tag: int) -> tuple[Sequence[Known], NDArray[np.int32]]:
        """Return the distinct raw values of a tag, long ones read, and for each row the index of its value."""
        column = self.columns.get(tag)
        if column is None:
            return [], np.full(len(self), -1, np.int32)
        return self._read_refs(column, column.all_codes(len(self)))

    def _resolve(self, name: PrivateTag) -> dict[int, NDArray[np.bool_]]:
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
        for tag, rows in self._resolve(name).items():
            here, here_codes = self.column(tag)
            rows = rows & (here_codes >= 0)
            codes[rows] = here_codes[rows] + len(values)
            values += here
        return _merge_equal(values, codes)

    def named(self, name: TagLike | tuple[str, int, int]) -> tuple[list[object], NDArray[np.int32]]:
        """Return the distinct values and codes of a tag, a private element or a lower_case attribute."""
        if isinstance(name, str) and name in ATTRIBUTES:
            values = list(ATTRIBUTES[name].get(self))
            return _merge_equal(values, np.arange(len(values), dtype=np.int32))
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
        formats, format_codes, _ = self._formats
        rescales, rescale_codes = self._combinations(_RESCALE_TAGS, _rescale)
        return Locations.build(
            root=self.files.root,
            paths=self.files.paths,
            stamps=self.files.stamps,
            file=self.file,
            number=self.number,
            offset=self.offset,
            length=self.length,
            formats=formats,
            format_codes=format_codes,
            rescales=rescales,
            rescale_codes=rescale_codes,
            uids=[str(uid) for uid in self.values(INSTANCE_UID)],
        )

    @cached_property
    def _formats(self) -> tuple[list[PixelFormat], NDArray[np.int32], dict[int, str]]:
        """The distinct pixel formats, the one of each row, and by row why it has none."""
        found, codes = self._combinations((ENCODING, *FORMAT_TAGS), self._format)
        good = [i for i, fmt in enumerate(found) if isinstance(fmt, PixelFormat)]
        recoded = np.full(len(found) + 1, -1, np.int32)
        recoded[good] = np.arange(len(good))
        reasons = {row: str(found[code]) for row, code in enumerate(codes.tolist()) if code not in good} if len(
            good
        ) < len(found) else {}
        return [fmt for fmt in found if isinstance(fmt, PixelFormat)], recoded[codes], reasons

    def _combinations(
        self, wanted: Sequence[int], build: Callable[[Callable[[int], object]], T]
    ) -> tuple[list[T], NDArray[np.int32]]:
        """Build one thing for each distinct combination of the values of some tags."""
        columns = [self.column(tag) for tag in wanted if tag in self.columns and tag != ENCODING]
        keys = [column[1] for column in columns if len(column[0]) > 1 or (column[1] < 0).any()]
        if ENCODING in self.columns and self.columns[ENCODING].codes is not None:
            keys.append(self.columns[ENCODING].all_codes(len(self)))
        if _PADDING in wanted and self._nan_rows.any():
            keys.append(self._nan_rows.astype(np.int32))
        if not keys:
            return [build(self._getter(0))], np.zeros(len(self), np.int32)
        _, first, inverse = np.unique(np.stack(keys, axis=1), axis=0, return_index=True, return_inverse=True)
        return [build(self._getter(row)) for row in first.tolist()], inverse.reshape(-1).astype(np.int32)

    @cached_property
    def _nan_rows(self) -> NDArray[np.bool_]:
        """The rows in which a private element of xdicom says that padding stands for NaN."""
        if _PADDING not in self.columns:
            return np.zeros(len(self), bool)
        rows: NDArray[np.bool_] = self._private(NAN_PADDING)[1] >= 0
        return rows

    def _getter(self, row: int) -> Callable[[int], object]:
        """Return what gives the decoded value of a tag in one row: None where absent, "" where empty."""

        def get(tag: int) -> object:
            if tag == _NAN:
                return bool(self._nan_rows[row])
            if tag == ENCODING:
                column = self.columns.get(ENCODING)
                return None if column is None else column.values[column.all_codes(len(self))[row]]
            values, codes = self.column(tag)
            if codes[row] < 0:
                return None
            value = values[codes[row]]
            return "" if value is None else value

        return get

    @staticmethod
    def _format(get: Callable[[int], object]) -> PixelFormat | PixelError:
        """Return the format of a row, or the reason why it has none."""
        encoding = get(ENCODING)
        try:
            return _row_format(get, *encoding) if isinstance(encoding, tuple) else PixelError("it has no pixels")
        except PixelError as error:
            return error

    def images(self) -> "Frames":
        """Return the rows that are images, readable or not; all others are browsable only."""
        column = self.columns.get(ENCODING)
        if column is None:
            return self.take([])
        is_image = np.array([vr == STAGED or b"|" in value for vr, value in column.values] + [False], bool)  # type: ignore[operator]
        rows = np.flatnonzero(is_image[column.all_codes(len(self))])
        return self if len(rows) == len(self) else self.take(rows)

    def check_pixels(self) -> None:
        """Raise where some row has no pixels that can be read, and say what it is.

        Raises
        ------
        PixelError
            With how many rows, the reason of the first and its file.
        """
        if not len(self):
            raise PixelError("there are no frames")
        codes, reasons = self._formats[1], self._formats[2]
        absent = np.flatnonzero((codes < 0) | (self.offset < 0))
        if not absent.size:
            return
        row = int(absent[0])
        path = os.fsdecode(self.files.paths[self.file[row]]) if self.file[row] >= 0 else "no file"
        kind = self._kind(row)
        reason = reasons.get(row) or "its pixels cannot be located: see problems()"
        raise PixelError(f"{len(absent)} of {len(self)} frames have no pixels; the first ({kind}, {path}): {reason}")

    def _kind(self, row: int) -> str:
        """Say what object a row is."""
        values, codes = self.column(_CLASS)
        if codes[row] < 0:
            return "an object of unknown class"
        uid = UID(str(values[codes[row]]))
        return uid.name


def _rescale(get: Callable[[int], object]) -> Rescale:
    """Return the rescale of a row; NaN are known by their padding value where xdicom staged or wrote them."""
    encoding, padding = get(ENCODING), get(_PADDING)
    is_staged = isinstance(encoding, tuple) and encoding[0] == STAGED
    if isinstance(padding, int) and (is_staged or get(_NAN)):
        return replace(known_rescale(get), padding=padding)
    return known_rescale(get)


def _row_format(get: Callable[[int], object], vr: str, encoding: bytes) -> PixelFormat:
    """Return the pixel format of a row from its tags and its pseudo-tag."""
    syntax, _, element = encoding.decode("ascii", "replace").partition("|")
    if vr == STAGED:
        return replace(pixel_format(get, EXPLICIT), kind="staged", staged_dtype=element)
    if not element:
        raise PixelError("it is no image")
    return format_of(get, vr, int(element, 16), syntax)


def _parse(name: object) -> int | PrivateTag:
    if isinstance(name, str) and name[:1].islower() and name != "dBdt":
        known = ", ".join(sorted(ATTRIBUTES))
        raise UnknownTagError(f"{name!r} is no registered attribute; there are {known}")
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


def concat_columns(tables: Sequence[Mapping[int, Column]], counts: Sequence[int]) -> dict[int, Column]:
    """Return the columns of tables laid one after the other."""
    joined = {}
    for tag in dict.fromkeys(tag for table in tables for tag in table):
        index: dict[Raw, int] = {}
        parts = []
        for table, count in zip(tables, counts, strict=True):
            column = table.get(tag)
            if column is None:
                parts.append(np.full(count, -1, np.int32))
                continue
            recoded = np.array([index.setdefault(raw, len(index)) for raw in column.values] + [-1], np.int32)
            parts.append(recoded[column.all_codes(count)])
        codes = np.concatenate(parts)
        joined[tag] = Column(list(index), None if len(index) == 1 and not (codes < 0).any() else codes)
    return joined
