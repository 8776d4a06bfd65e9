"""What is staged in a folder but not yet in its DICOM files: new records and frames in SQLite, their pixels in zarr.

One SQLite transaction makes a staged change real; pixels are written and flushed before it. What is not staged is not
known here.
"""

import os
import shutil
import sqlite3
import struct
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from .catalog import Catalog, Problem, SeriesTables
from .columns import Column, Known, Raw
from .frames import Frames
from .packing import pack_integers, pack_raws, unpack_integers, unpack_raws
from .scan import SeriesKey
from .source import Stamp
from .staging import Progress, StagedArray, keep_file, stage_array
from .tables import Table
from .writer import flush_directory

PIXELS_FOLDER = "edits.zarr"


SAVED, NEW = 0, 1
# A pseudo-tag: the rows that have a value are removed.
REMOVED = -16
# The rows that have a value give way to staged ones with the same SOPInstanceUID.
REPLACED = -17
HIDDEN = (REMOVED, REPLACED)
# Of staged frames: the token that marks the saved rows which are removed for them or give way.
TOKEN = -18
# In place of such a token: removed for good.
GONE: Raw = ("", b"1")


class Layer(NamedTuple):
    """A table that edits are laid over: that of a series in the catalog (SAVED) or a staged one (NEW)."""

    kind: int
    key: SeriesKey


Overlay = dict[int, Column | None]


class Edits:
    """The staged changes of one folder.

    Parameters
    ----------
    catalog
        The catalog of the folder, whose database they share.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._tables = SeriesTables(catalog.connection, catalog.root_bytes, "staged_")
        self._frames: dict[SeriesKey, Frames | None] = {}
        self._overlays: dict[Layer, Overlay] | None = None

    def keys(self) -> list[SeriesKey]:
        """Return the keys of everything staged; those of new patients and studies end in ""."""
        with self._catalog.lock:
            return self._tables.keys()

    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the staged rows of a record, its placeholder first, or None."""
        with self._catalog.lock:
            if key not in self._frames:
                self._frames[key] = self._tables.frames(key)
            return self._frames[key]

    def overlays(self) -> dict[Layer, Overlay]:
        """Return the edited columns of every table that has some; None where an element is removed."""
        with self._catalog.lock:
            if self._overlays is None:
                self._overlays = {}
                for kind, *parts, tag, raws, codes in self._catalog.connection.execute("SELECT * FROM edit"):
                    layer = Layer(kind, SeriesKey(*parts))
                    rows = None if codes is None else _unpacked_codes(codes)
                    column = None if raws is None else Column(unpack_raws(raws), rows)
                    self._overlays.setdefault(layer, {})[tag] = column
            return self._overlays

    def set_columns(
        self, changes: Mapping[Layer, Overlay], undone: Mapping[Layer, Iterable[int]], gone: Iterable[Layer] = ()
    ) -> None:
        """Stage edited columns, each in place of an earlier edit of the same tag, and drop others; all or none.

        Parameters
        ----------
        changes
            Columns by table and tag; None removes the element.
        undone
            Tags by table whose earlier edits are dropped.
        gone
            Staged tables that are dropped.
        """
        with self._catalog.transaction() as connection:
            for layer, dropped in undone.items():
                self._forget_columns(connection, [layer], dropped)
            self._write_columns(connection, changes)
            self.forget_within(connection, gone)
        self.refresh()

    def forget_columns(self, layers: Iterable[Layer], wanted: Iterable[int] | None = None) -> None:
        """Drop the edits of tables, or those of some tags."""
        with self._catalog.transaction() as connection:
            self._forget_columns(connection, layers, wanted)
        self._overlays = None

    @staticmethod
    def _forget_columns(
        connection: sqlite3.Connection, layers: Iterable[Layer], wanted: Iterable[int] | None = None
    ) -> None:
        for layer in layers:
            if wanted is None:
                connection.execute(f"DELETE FROM edit WHERE {_IS_LAYER}", [layer.kind, *layer.key])
            else:
                rows = [(layer.kind, *layer.key, tag) for tag in wanted]
                connection.executemany(f"DELETE FROM edit WHERE {_IS_LAYER} AND tag = ?", rows)

    def forget(self, layers: Iterable[Layer]) -> None:
        """Drop the edits of tables and, where they are staged, these tables; their pixels are swept later."""
        with self._catalog.transaction() as connection:
            self.forget_within(connection, list(layers))
        self.refresh()

    def forget_within(self, connection: sqlite3.Connection, layers: Iterable[Layer]) -> None:
        """Drop edits and staged tables in a transaction of the caller's."""
        for layer in layers:
            self._forget_columns(connection, [layer])
            if layer.kind == NEW:
                self._tables.delete(layer.key)
                connection.execute("DELETE FROM follows WHERE (patient, study, series) = (?, ?, ?)", layer.key)

    def refresh(self) -> None:
        """Read everything anew when it is next asked for."""
        self._overlays = None
        self._frames.clear()

    def keep_files(self, files: Iterable[tuple[bytes, Stamp]]) -> dict[bytes, tuple[bytes, Stamp]]:
        """Put files, which others may rewrite or remove, beside the staged pixels as well.

        Parameters
        ----------
        files
            Absolute paths with the stamps that they must have.

        Returns
        -------
        dict
            New absolute path and stamp by old path.

        Raises
        ------
        StaleError
            If a file is not any more what it was.
        """
        folder = self._catalog.private / PIXELS_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / uuid.uuid4().hex
        target.mkdir(mode=0o700)
        try:
            kept = {path: keep_file(path, stamp, target / str(i)) for i, (path, stamp) in enumerate(files)}
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        for each in (target, folder):
            flush_directory(each)
        return kept

    def staged_files(self, layers: Iterable[Layer]) -> dict[bytes, Stamp]:
        """Return the files that staged tables point into: stamps by absolute path."""
        found: dict[bytes, Stamp] = {}
        for layer in layers:
            frames = self.frames(layer.key)
            if layer.kind == NEW and frames is not None:
                stamps = (Stamp(*row) for row in frames.files.stamps.tolist())
                found |= dict(zip(_absolute(frames), stamps, strict=True))
        return found

    def point_to(self, kept: Mapping[bytes, tuple[bytes, Stamp]]) -> None:
        """Let staged tables point into other files of the same content."""
        rows = [(path, *stamp, old) for old, (path, stamp) in kept.items()]
        with self._catalog.transaction() as connection:
            connection.executemany(
                "UPDATE staged_file SET path = ?, size = ?, mtime_ns = ?, inode = ? WHERE path = ?", rows
            )
        self.refresh()

    def sweep(self) -> None:
        """Remove staged pixels that nothing refers to; for the writer only."""
        for array in self._orphans():
            shutil.rmtree(array, ignore_errors=True)

    def _orphans(self) -> list[Path]:
        """Return folders of staged pixels that nothing refers to."""
        folder = self._catalog.private / PIXELS_FOLDER
        with self._catalog.lock:
            tables = [table for key in self.keys() if (table := self._tables.frames(key)) is not None]
        used = {os.fsdecode(path) for table in tables for path in table.files.paths}
        arrays = folder.iterdir() if folder.is_dir() else ()
        return [array for array in arrays if not any(path.startswith(f"{array}{os.sep}") for path in used)]

    def leftovers(self) -> list[Problem]:
        """Return orphans, and staged frames whose files are no longer what they were."""
        orphans = [
            Problem(str(path), "staged pixels that nothing refers to; the next edit removes them")
            for path in self._orphans()
        ]
        files = self.staged_files([Layer(NEW, key) for key in self.keys()])
        lost = [
            Problem(os.fsdecode(path), "staged frames point to this file, which changed or is gone")
            for path, stamp in files.items()
            if stamp_of(path) != stamp
        ]
        return [*orphans, *lost]

    def source_of(self, key: SeriesKey) -> SeriesKey | None:
        """Return the series that a new series follows, or None."""
        with self._catalog.lock:
            row = self._catalog.connection.execute(
                "SELECT source_patient, source_study, source_series FROM follows"
                " WHERE (patient, study, series) = (?, ?, ?)",
                key,
            ).fetchone()
        return None if row is None else SeriesKey(*row)

    def add_record(self, key: SeriesKey, header: Mapping[int, Known], source: SeriesKey | None = None) -> None:
        """Stage a new record as a placeholder row without a file, which holds its tags.

        Parameters
        ----------
        key
            Of the record, "" below its level.
        header
            Raw values by tag.
        source
            The series that a new series follows.
        """
        columns = {tag: Column([raw]) for tag, raw in header.items()}
        nothing, nowhere = np.zeros(1, np.int32), np.full(1, -1, np.int64)
        table = Table(np.full(1, -1, np.int32), nothing, nowhere, nowhere, columns)
        with self._catalog.transaction() as connection:
            self._tables.append(key, table)
            if source is not None:
                connection.execute("INSERT OR REPLACE INTO follows VALUES (?, ?, ?, ?, ?, ?)", [*key, *source])
        self._frames.pop(key, None)

    def stage_pixels(self, array: da.Array, frame_ndim: int = 2, progress: Progress | None = None) -> StagedArray:
        """Write pixels where staged ones are kept; nothing refers to them until `stage_frames`."""
        folder = self._catalog.private / PIXELS_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / uuid.uuid4().hex
        try:
            return stage_array(array, target, frame_ndim, progress)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def stage_frames(
        self,
        key: SeriesKey,
        frames: Frames,
        hidden: Mapping[Layer, Overlay] | None = None,
        instead: Iterable[Layer] = (),
    ) -> None:
        """Add new frames to a series; `frames` has the files that hold their pixels.

        Parameters
        ----------
        key
            Of the series, new or not.
        frames
            Rows whose values are complete and inline, without references into files.
        hidden
            Rows of saved tables that go or give way, as pseudo-tags.
        instead
            Staged tables whose place the frames take.
        """
        with self._catalog.transaction() as connection:
            self.forget_within(connection, instead)
            self._append(key, frames)
            self._write_columns(connection, hidden or {})
        self.refresh()

    def settle_keys(self, moved: Mapping[Layer, tuple[SeriesKey, Frames]]) -> None:
        """Write staged tables anew, edits included, under the keys that these have given them."""
        with self._catalog.transaction() as connection:
            sources = {key: self.source_of(layer.key) for layer, (key, _) in moved.items()}
            self.forget_within(connection, moved)
            for key, frames in moved.values():
                self._append(key, frames)
            followed = [(*key, *source) for key, source in sources.items() if source is not None]
            connection.executemany("INSERT OR REPLACE INTO follows VALUES (?, ?, ?, ?, ?, ?)", followed)
        self.refresh()

    def _append(self, key: SeriesKey, frames: Frames) -> None:
        stamps = [tuple(row) for row in frames.files.stamps.tolist()]
        first = self._tables.add_files(list(zip(_absolute(frames), stamps, strict=True)))  # type: ignore[arg-type]
        file = np.where(frames.file < 0, -1, frames.file + np.int32(first)).astype(np.int32)
        self._tables.append(key, Table(file, frames.number, frames.offset, frames.length, frames.columns))

    @staticmethod
    def _write_columns(connection: sqlite3.Connection, changes: Mapping[Layer, Overlay]) -> None:
        rows = [
            (layer.kind, *layer.key, tag, *_packed(column))
            for layer, overlay in changes.items()
            for tag, column in overlay.items()
        ]
        connection.executemany("INSERT OR REPLACE INTO edit VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


_COUNT = struct.Struct("<L")


def stamp_of(path: bytes) -> Stamp | None:
    """Return the stamp of a file, None where there is none."""
    try:
        return Stamp.of(os.stat(path))
    except OSError:
        return None


_IS_LAYER = "kind = ? AND patient = ? AND study = ? AND series = ?"


def _packed(column: Column | None) -> tuple[bytes | None, bytes | None]:
    if column is None:
        return None, None
    codes = None if column.codes is None else _COUNT.pack(len(column.codes)) + pack_integers(column.codes)
    return pack_raws(column.values), codes


def _unpacked_codes(blob: bytes) -> NDArray[np.int32]:
    return unpack_integers(blob[_COUNT.size :], np.int32, _COUNT.unpack_from(blob)[0])


def _absolute(frames: Frames) -> list[bytes]:
    """Return the paths of files, which os.path.join takes as they are."""
    root = Path(frames.files.root.decode("utf-8", "surrogateescape"))
    return [bytes(root / path.decode("utf-8", "surrogateescape")) for path in frames.files.paths]


def inline(frames: Frames) -> dict[int, Column]:
    """Return columns with long values read, so that they need the files no more."""
    columns: dict[int, Column] = {}
    for tag in frames.columns:
        if tag == TOKEN:
            continue
        if tag >= 0:
            raws, codes = frames.raw_values(tag)
            values: list[Raw] = list(raws)
            columns[tag] = Column(values, frames.columns[tag].codes if codes is None else codes)
        else:
            columns[tag] = frames.columns[tag]
    return columns
