"""Where the pixels of frames are: a packed, immutable table that travels to workers and reads frames there.

It holds no values of tags and no open file; how bytes become values is known in `pixels`.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .columns import distinct_pairs
from .errors import PixelError, StaleError, XdicomError
from .formats import DEFLATED
from .instance import relocate, uid_hash
from .pixels import (
    WHOLE,
    FrameReader,
    PixelFormat,
    Region,
    Rescale,
    frame_shape,
    frees_gil,
    stored_dtype,
    value_dtype,
    within,
)
from .replaced import was_replaced
from .source import Source
from .vendors import Tile

_COLUMNS = ("file", "number", "offset", "length", "format_codes", "rescale_codes", "uids", "tile_codes")
_DTYPES = (np.int32, np.int32, np.int64, np.int64, np.int32, np.int32, np.uint64, np.int32)


@dataclass(frozen=True, eq=False, slots=True)
class Locations:
    """Where the pixels of frames are; row i is frame i.

    Attributes
    ----------
    root
        Folder that paths are relative to, b"" where they are absolute.
    paths, stamps
        By file: its path, and shape (files, 3): size in bytes, mtime in ns, inode.
    formats, rescales, tiles
        The distinct ones.
    file, number, offset, length
        By frame: index of its file, its number in it from 0, and its bytes (offset -1: it has no pixels).
    format_codes, rescale_codes
        By frame: indices of its format (-1: it has no pixels) and rescale.
    uids
        By frame: hash of its SOPInstanceUID.
    tile_codes
        By frame: index of its place in a picture that holds several (-1: the picture is the frame).
    """

    root: bytes
    paths: Sequence[bytes]
    stamps: NDArray[np.int64]
    formats: tuple[PixelFormat, ...]
    rescales: tuple[Rescale, ...]
    tiles: tuple[Tile, ...]
    file: NDArray[np.int32]
    number: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    format_codes: NDArray[np.int32]
    rescale_codes: NDArray[np.int32]
    uids: NDArray[np.uint64]
    tile_codes: NDArray[np.int32]

    @classmethod
    def build(
        cls,
        *,
        root: bytes,
        paths: Sequence[bytes],
        stamps: ArrayLike,
        file: ArrayLike,
        number: ArrayLike,
        offset: ArrayLike,
        length: ArrayLike,
        formats: Iterable[PixelFormat],
        format_codes: ArrayLike,
        rescales: Iterable[Rescale],
        rescale_codes: ArrayLike,
        uids: Sequence[str],
        tiles: Iterable[Tile] = (),
        tile_codes: ArrayLike | None = None,
    ) -> Self:
        """Return a table from its columns, `uids` as text; see the class for the rest."""
        hashes = {uid: uid_hash(uid) for uid in set(uids)}
        codes = np.full(len(uids), -1, np.int32) if tile_codes is None else tile_codes
        columns = (file, number, offset, length, format_codes, rescale_codes, [hashes[uid] for uid in uids], codes)
        arrays = [np.array(column, dtype) for column, dtype in zip(columns, _DTYPES, strict=True)]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError(f"the columns differ in length: {[len(array) for array in arrays]}")
        stamps = np.array(stamps, np.int64).reshape(-1, 3)
        return cls(root, tuple(paths), stamps, tuple(formats), tuple(rescales), tuple(tiles), *arrays)

    def __len__(self) -> int:
        return len(self.file)

    def __repr__(self) -> str:
        return f"<xdicom.Locations of {len(self)} frames in {len(set(self.file.tolist()))} files>"

    # -- other tables

    def take(self, indices: ArrayLike) -> Self:
        """Return the table of some frames, in the order of `indices` (1-D, integers or bool)."""
        picked = np.asarray(indices)
        if not picked.size:
            picked = picked.astype(np.intp)
        return replace(self, **{name: getattr(self, name)[picked] for name in _COLUMNS})

    @classmethod
    def concat(cls, tables: Iterable["Locations"]) -> "Locations":
        """Return the frames of several tables, one after the other; where roots differ, paths become absolute."""
        parts = list(tables)
        if len(parts) == 1:
            return parts[0]
        if not parts:
            nothing: list[Any] = [np.empty(0, dtype) for dtype in _DTYPES]
            return cls(b"", (), np.empty((0, 3), np.int64), (), (), (), *nothing)
        root = parts[0].root if len({part.root for part in parts}) == 1 else b""
        paths: list[bytes] = []
        formats: dict[PixelFormat, int] = {}
        rescales: dict[Rescale, int] = {}
        tiles: dict[Tile, int] = {}
        columns: list[list[NDArray[Any]]] = [[] for _ in _COLUMNS]
        for part in parts:
            coded = replace(
                part,
                file=part.file + np.int32(len(paths)),
                format_codes=_recoded(part.formats, formats, part.format_codes),
                rescale_codes=_recoded(part.rescales, rescales, part.rescale_codes),
                tile_codes=_recoded(part.tiles, tiles, part.tile_codes),
            )
            for column, name in zip(columns, _COLUMNS, strict=True):
                column.append(getattr(coded, name))
            paths += part.paths if root == part.root else [os.path.join(part.root, path) for path in part.paths]
        stamps = np.concatenate([part.stamps for part in parts])
        distinct = tuple(formats), tuple(rescales), tuple(tiles)
        return cls(root, tuple(paths), stamps, *distinct, *map(np.concatenate, columns))

    def _compact(self) -> "Locations":
        """Return the same frames without unused files, formats, rescales and tiles, these in order of appearance."""
        files, file = _by_appearance(self.file)
        formats, format_codes = _by_appearance(self.format_codes)
        rescales, rescale_codes = _by_appearance(self.rescale_codes)
        tiles, tile_codes = _by_appearance(self.tile_codes)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in files),
            stamps=self.stamps[files],
            formats=tuple(self.formats[i] for i in formats),
            rescales=tuple(self.rescales[i] for i in rescales),
            tiles=tuple(self.tiles[i] for i in tiles),
            file=file,
            format_codes=format_codes,
            rescale_codes=rescale_codes,
            tile_codes=tile_codes,
        )

    def token(self) -> str:
        """Return a digest of everything that decides what is read: the same frames give the same one, always."""
        table = self._compact()
        digest = hashlib.blake2b(digest_size=16)
        parts = (table.root, *table.paths, repr((table.formats, table.rescales, table.tiles)).encode())
        digest.update(np.array([len(parts), *map(len, parts)], "<i8").tobytes() + b"".join(parts))
        for array in (table.stamps, *(getattr(table, name) for name in _COLUMNS)):
            digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes() + b"|")
        return digest.hexdigest()

    def __dask_tokenize__(self) -> str:
        return self.token()

    def __reduce__(self) -> tuple[Any, ...]:
        table = self._compact()
        columns = pack_columns([getattr(table, name) for name in _COLUMNS])
        stamps = pack_columns(list(table.stamps.T))
        scales = pack_columns([np.array([getattr(r, name) for r in table.rescales]) for name in ("slope", "intercept")])
        odd = {i: r for i, r in enumerate(table.rescales) if r != Rescale(r.slope, r.intercept)}
        paths = zlib.compress(b"\0".join(table.paths))
        counts = (len(table), len(table.paths), len(table.rescales))
        return _unpickled, (table.root, paths, counts, stamps, table.formats, table.tiles, scales, odd, columns)

    # -- what the frames have in common

    def frame_shape(self) -> tuple[int, ...]:
        """Return the shape of every frame, (rows, columns) or (rows, columns, samples).

        Raises
        ------
        PixelError
            A frame has no pixels, or frames differ in shape.
        """
        return self._shape(np.arange(len(self)))

    def dtype(self, rescale: bool = True) -> np.dtype[Any]:
        """Return the smallest dtype that holds the values of every frame, real-world or stored, from headers alone."""
        self._shape(np.arange(len(self)))
        pairs, _ = distinct_pairs(self.format_codes, self.rescale_codes)
        found = []
        for code, group in groupby(pairs, itemgetter(0)):
            fmt = self.formats[code]
            used = [self.rescales[pair[1]] for pair in group]
            found.append(value_dtype(fmt, used) if rescale else stored_dtype(fmt))
        return np.result_type(*found)

    def path(self, index: int) -> str:
        """Return the full path of a frame's file."""
        return os.fsdecode(os.path.join(self.root, self.paths[self.file[index]]))

    # -- reading

    def read(
        self,
        indices: ArrayLike,
        out: NDArray[Any],
        region: Region = WHOLE,
        rescale: bool = True,
        *,
        threads: int | None = 1,
    ) -> None:
        """Read frames, or the same part of each, into an array.

        Parameters
        ----------
        indices
            Frames, 1-D integers from 0.
        out
            Shape (frames, rows, columns[, samples]) of the region; an int in the region drops that axis.
        region
            (rows, columns), each a slice or an int.
        rescale
            Real-world values; False gives stored ones.
        threads
            Used where the decoder lets others run; None: one a processor.

        Raises
        ------
        PixelError
            A frame has no pixels or damaged ones, or frames differ in shape.
        StaleError
            A file changed since it was scanned, and its frame is no longer the same.
        """
        picked = np.asarray(indices, np.intp).reshape(-1)
        if len(out) != len(picked):
            raise ValueError(f"the array to read into holds {len(out)} frames, expected {len(picked)}")
        if not len(picked):
            return
        self._shape(picked)
        used = {self.formats[code].transfer_syntax for code in set(self.format_codes[picked].tolist())}
        # In the order of files and of what lies in them, whatever the order of the array.
        places = np.lexsort((self.offset[picked], self.file[picked]))
        picked = picked[places]
        workers = min(threads or _processors(), len(picked))
        if workers == 1 or not all(frees_gil(syntax) for syntax in used):
            self._read_part(picked, places, out, region, rescale)
            return
        ends = np.linspace(0, len(picked), workers + 1).astype(int).tolist()
        parts = [slice(*span) for span in pairwise(ends)]
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(self._read_part, picked[part], places[part], out, region, rescale) for part in parts]
            for job in jobs:
                job.result()

    def _shape(self, picked: NDArray[np.intp]) -> tuple[int, ...]:
        """Return the shape that some frames have in common."""
        if picked.size and not 0 <= picked.min() <= picked.max() < len(self):
            raise IndexError(f"frames {picked.min()} to {picked.max()} are outside 0 to {len(self) - 1}")
        codes = self.format_codes[picked]
        absent = np.flatnonzero((codes < 0) | (self.offset[picked] < 0))
        if absent.size:
            index = int(picked[absent[0]])
            path, number = self.path(index) if self.file[index] >= 0 else "(no file)", self.number[index]
            raise PixelError(f"frame {number} of {path!r} has no pixels that can be read")
        pairs, _ = distinct_pairs(codes, self.tile_codes[picked])
        shapes = sorted({self._shape_of(*pair) for pair in pairs})
        if len(shapes) != 1:
            found = " and ".join(map(str, shapes)) or "no"
            raise PixelError(f"the frames have {found} shape: take those of one shape")
        return shapes[0]

    def _shape_of(self, code: int, tile: int) -> tuple[int, ...]:
        """Return the shape of frames of one format and one place in their picture."""
        fmt = self.formats[code]
        if tile < 0:
            return frame_shape(fmt)
        row, column, rows, columns = self.tiles[tile]
        if row + rows > fmt.rows or column + columns > fmt.columns or not rows or not columns:
            raise PixelError(f"the tile {self.tiles[tile]} is not in a picture of {fmt.rows} x {fmt.columns} pixels")
        return (rows, columns, *frame_shape(fmt)[2:])

    def _read_part(
        self, picked: NDArray[np.intp], places: NDArray[np.intp], out: NDArray[Any], region: Region, rescale: bool
    ) -> None:
        """Read frames into their places in one thread, each file opened once per run of its frames."""
        readers: dict[tuple[int, int, int], FrameReader] = {}
        names = ("file", "format_codes", "rescale_codes", "tile_codes", "offset", "length", "number")
        columns = [getattr(self, name)[picked].tolist() for name in names]
        rows = zip(places.tolist(), picked.tolist(), *columns, strict=True)
        for file, run in groupby(rows, itemgetter(2)):
            frames = list(run)
            with _opened(os.path.join(self.root, self.paths[file])) as source:
                is_fresh = source.stamp == tuple(self.stamps[file].tolist())
                picture: tuple[tuple[int, int, int], NDArray[Any]] | None = None
                for row, index, _, code, scale, tile, offset, length, number in frames:
                    is_part = tile >= 0 and not self._pays_to_read_whole(code, tile, len(frames))
                    key = code, scale, tile if is_part else -1
                    reader = readers.get(key)
                    if reader is None:
                        part = within(self.tiles[tile], region) if is_part else region if tile < 0 else WHOLE
                        fmt, scaling = self.formats[code], self.rescales[scale]
                        reader = readers[key] = FrameReader(fmt, scaling, out.dtype, part, stored=not rescale)
                    if not is_fresh:
                        offset, length = self._found_again(source, index)
                    if tile < 0 or is_part:
                        reader.read(source, offset, length, out[row], frame=0 if is_part else number)
                        continue
                    if picture is None or picture[0] != (offset, code, scale):
                        picture = (offset, code, scale), np.empty(reader.shape, out.dtype)
                        reader.read(source, offset, length, picture[1])
                    out[row] = picture[1][within(self.tiles[tile], region)]

    def _pays_to_read_whole(self, code: int, tile: int, count: int) -> bool:
        """Say whether to read a picture whole, for so many of its parts, and not the rows of each part."""
        fmt = self.formats[code]
        return not fmt.is_native or fmt.transfer_syntax == DEFLATED or count * self.tiles[tile][2] >= fmt.rows

    def _found_again(self, source: Source, index: int) -> tuple[int, int]:
        """Return (offset, length) of a frame whose file changed, if it is still the same frame."""
        fmt, scale = self.formats[self.format_codes[index]], self.rescales[self.rescale_codes[index]]
        path, number = os.fsdecode(source.path), int(self.number[index])
        if fmt.kind == "staged":
            raise StaleError(f"the staged pixels in {path!r} are no longer those of this array: rescan()")
        if was_replaced(source.path, int(self.uids[index]), int(self.stamps[self.file[index], 1])):
            raise StaleError(f"{path!r} got new pixels since it was scanned: rescan()")
        try:
            found = relocate(source, int(self.uids[index]), number)
        except XdicomError as error:
            raise StaleError(f"{path!r} changed since it was scanned and can no longer be read: {error}") from error
        if found is None:
            raise StaleError(f"{path!r} changed since it was scanned: frame {number} is not in it any more: rescan()")
        changes = _changes(fmt, found.format) + _changes(scale, found.rescale)
        tile = self.tile_codes[index]
        if found.tile != (self.tiles[tile] if tile >= 0 else None):
            changes.append("the slice lies elsewhere in the picture")
        if changes:
            raise StaleError(f"{path!r} changed since it was scanned: {', '.join(changes)}: rescan()")
        return found.offset, found.length


@contextmanager
def _opened(path: bytes) -> Iterator[Source]:
    """Open a file; errors of the system that come while it is read name it."""
    try:
        with Source(path) as source:
            yield source
    except (FileNotFoundError, NotADirectoryError):
        raise StaleError(f"{os.fsdecode(path)!r} has gone since it was scanned: rescan()") from None
    except XdicomError:
        raise
    except OSError as error:
        raise PixelError(f"{os.fsdecode(path)!r} cannot be read: {error.strerror or error}") from error


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _changes(old: PixelFormat | Rescale, new: PixelFormat | Rescale) -> list[str]:
    """Say which fields differ."""
    pairs = [(field.name, getattr(old, field.name), getattr(new, field.name)) for field in fields(old)]
    changed = [(name, before, after) for name, before, after in pairs if before != after]
    tables = ("palette", "lut")
    return [f"{name}" if name in tables else f"{name} {before} became {after}" for name, before, after in changed]


def _recoded(things: Sequence[Any], index: dict[Any, int], codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return codes into `index`, which takes up what it lacks."""
    table = np.array([index.setdefault(thing, len(index)) for thing in things] + [-1], np.int32)
    return table[codes]


def _by_appearance(codes: NDArray[np.int32]) -> tuple[list[int], NDArray[np.int32]]:
    """Return the distinct codes above -1 in order of appearance, and the codes that index them."""
    distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first[distinct >= 0], kind="stable")
    ranks = np.full(len(distinct), -1, np.int32)
    ranks[np.flatnonzero(distinct >= 0)[order]] = np.arange(len(order))
    return distinct[distinct >= 0][order].tolist(), ranks[inverse]


def pack_columns(columns: Sequence[NDArray[Any]]) -> bytes:
    """Pack 1-D columns of numbers: differences of neighbours, byte planes, zlib."""
    planes = []
    for column in columns:
        bits = np.ascontiguousarray(column)
        bits = bits.view("u8") if bits.dtype.kind == "f" else bits.astype(np.uint64)
        planes.append(np.diff(bits, prepend=np.uint64(0)).astype("<u8").view(np.uint8).reshape(-1, 8).T.tobytes())
    return zlib.compress(b"".join(planes))


def unpack_columns(blob: bytes, count: int, dtypes: Sequence[Any]) -> list[NDArray[Any]]:
    """Return the columns of `count` numbers that `pack_columns` packed."""
    planes = np.frombuffer(zlib.decompress(blob), np.uint8).reshape(len(dtypes), 8, count)
    columns = []
    for plane, dtype in zip(planes, map(np.dtype, dtypes), strict=True):
        bits = np.cumsum(np.ascontiguousarray(plane.T).view("<u8").ravel(), dtype=np.uint64)
        columns.append(bits.view(dtype) if dtype.kind == "f" else bits.astype(dtype))
    return columns


def _unpickled(
    root: bytes,
    paths: bytes,
    counts: tuple[int, int, int],
    stamps: bytes,
    formats: tuple[PixelFormat, ...],
    tiles: tuple[Tile, ...],
    scales: bytes,
    odd: dict[int, Rescale],
    columns: bytes,
) -> Locations:
    """Return the table that was pickled."""
    frames, files, rescales = counts
    names = tuple(zlib.decompress(paths).split(b"\0")) if files else ()
    slopes, intercepts = (column.tolist() for column in unpack_columns(scales, rescales, ("f8", "f8")))
    plain = [odd.get(i) or Rescale(*pair) for i, pair in enumerate(zip(slopes, intercepts, strict=True))]
    table = np.stack(unpack_columns(stamps, files, (np.int64,) * 3), axis=1)
    return Locations(root, names, table, formats, tuple(plain), tiles, *unpack_columns(columns, frames, _DTYPES))
