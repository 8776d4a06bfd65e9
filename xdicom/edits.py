"""What is staged in a folder but not yet in its DICOM files: new records and frames in SQLite, their pixels in zarr.

One SQLite transaction makes a staged change real; pixels are written and flushed before it. What is not staged is not
known here.
"""

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from .catalog import Catalog, Problem
from .columns import Column, Known, Raw
from .errors import CatalogError
from .folder import PRIVATE_NAME
from .frames import Frames
from .instance import INSTANCE_UID, uid_hash
from .overlays import GONE, HIDDEN, NEW, REMOVED, REPLACED, SAVED, TOKEN, Layer, Overlay, Overlays
from .scan import SeriesKey
from .seriestables import SeriesTables
from .source import Stamp
from .staging import Progress, StagedArray, keep_file, stage_array
from .tables import Table
from .writer import flush_directory

PIXELS_FOLDER = "edits.zarr"


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
        self._overlays = Overlays(catalog, self._base)

    def _base(self, layer: Layer) -> Frames | None:
        return self._catalog.frames(layer.key) if layer.kind == SAVED else self.frames(layer.key)

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
        """Return the edited columns of every table as it is now; None where an element is removed.

        Staged rows that are new pixels of a file that changed outside or went are hidden as if they were removed.
        """
        aligned, aside = self._overlays.aligned(), self._overlays.aside_uids()
        if not aside:
            return aligned
        found = dict(aligned)
        for key in self.keys():
            frames, layer = self.frames(key), Layer(NEW, key)
            if frames is not None and (rows := self._has_uid(frames, aside)).any():
                hidden = Column([GONE], np.where(rows, 0, -1).astype(np.int32))
                found[layer] = {**found.get(layer, {}), REMOVED: hidden}
        return found

    def aside(self) -> dict[Layer, Overlay]:
        """Return the edits whose files changed outside or went; only dropping them ends that."""
        return self._overlays.aside()

    def layers(self) -> list[Layer]:
        """Return the tables that have edits, set aside or not."""
        return list(dict.fromkeys([*self.overlays(), *self.aside()]))

    def has_files(self, key: SeriesKey) -> bool:
        """Say whether a staged record has more than its placeholder."""
        frames = self.frames(key)
        return frames is not None and bool((frames.file >= 0).any())

    @staticmethod
    def _has_uid(frames: Frames, hashes: set[int]) -> NDArray[np.bool_]:
        if not hashes:
            return np.zeros(len(frames), bool)
        values, codes = frames.column(INSTANCE_UID)
        return np.array([*(uid_hash(str(value)) in hashes for value in values), False], bool)[codes]

    def set_columns(self, changes: Mapping[Layer, Overlay], undone: Mapping[Layer, Iterable[int]]) -> None:
        """Stage edited columns, each in place of an earlier edit of the same tag, and drop others; all or none.

        Parameters
        ----------
        changes
            Columns by table and tag; None removes the element.
        undone
            Tags by table whose earlier edits are dropped.
        """
        try:
            with self._catalog.transaction() as connection:
                self._overlays.lay(connection, changes, undone)
        except BaseException:
            self.refresh()
            raise

    def forget(self, layers: Iterable[Layer]) -> None:
        """Drop the edits of tables and, where they are staged, these tables; their pixels are swept later."""
        with self._changing() as connection:
            self._forget_within(connection, layers)

    def _forget_within(self, connection: sqlite3.Connection, layers: Iterable[Layer]) -> None:
        for layer in layers:
            self._overlays.drop(connection, [layer])
            if layer.kind == NEW:
                self._drop_table(connection, layer.key)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction, whose outcome is read anew."""
        try:
            with self._catalog.transaction() as connection:
                yield connection
        finally:
            self.refresh()

    def _drop_table(self, connection: sqlite3.Connection, key: SeriesKey) -> None:
        self._tables.delete(key)
        connection.execute("DELETE FROM follows WHERE (patient, study, series) = (?, ?, ?)", key)

    def settle_within(
        self, connection: sqlite3.Connection, layers: Iterable[Layer], paths: set[bytes], uids: set[str]
    ) -> None:
        """Drop what a save made permanent, in a transaction of the caller's and before the catalog learns of it.

        Parameters
        ----------
        layers
            The tables that were saved.
        paths, uids
            Of the files that could not be put in place: their edits stay, as do those set aside.
        """
        failed = {uid_hash(uid) for uid in uids} | self._overlays.aside_uids()
        for layer in layers:
            if layer.kind == SAVED:
                self._overlays.settle(connection, layer, paths.__contains__)
                continue
            table = self._tables.read(layer.key)
            frames = self.frames(layer.key)
            stays = np.zeros(0, bool) if frames is None else self._has_uid(frames, failed)
            if table is None or frames is None or not stays.any():
                self._overlays.drop(connection, [layer])
                self._drop_table(connection, layer.key)
            else:
                self._tables.delete(layer.key)
                self._tables.insert(layer.key, table.take(np.flatnonzero(stays | (frames.file < 0))))

    def refresh(self) -> None:
        """Read everything anew when it is next asked for."""
        self._overlays.refresh()
        self._frames.clear()

    def realign(self) -> None:
        """Lay the edits out anew, after files came, changed or went."""
        self._overlays.refresh()

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

    def has_pixels(self) -> bool:
        """Say whether there are staged pixels, referred to or not."""
        folder = self._catalog.private / PIXELS_FOLDER
        return folder.is_dir() and any(folder.iterdir())

    def sweep(self) -> None:
        """Remove staged pixels that nothing refers to; for the writer only."""
        if not self.has_pixels():
            return
        with self._catalog.transaction():
            self._tables.drop_unused_files()
        for array in self._orphans():
            shutil.rmtree(array, ignore_errors=True)

    def _orphans(self) -> list[Path]:
        """Return folders of staged pixels that nothing refers to."""
        folder = self._catalog.private / PIXELS_FOLDER
        with self._catalog.lock:
            tables = [table for key in self.keys() if (table := self._tables.frames(key)) is not None]
        used = {os.fsdecode(path) for table in tables for path in _absolute(table)}
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

    def keep_sources(self, connection: sqlite3.Connection, kept: Mapping[bytes, tuple[bytes, Stamp]]) -> None:
        """Let staged frames read files that a save takes away by other names, in a transaction of the caller's."""
        here = os.path.join(self._catalog.root_bytes, b"")
        rows = [(path.removeprefix(here), *stamp, old) for old, (path, stamp) in kept.items()]
        connection.executemany(
            "UPDATE staged_file SET path = ?, size = ?, mtime_ns = ?, inode = ? WHERE path = ?", rows
        )

    def sources(self) -> dict[bytes, Stamp]:
        """Return the user's files that staged frames read, relative to the folder, with their stamps."""
        with self._catalog.lock:
            rows = self._catalog.connection.execute("SELECT path, size, mtime_ns, inode FROM staged_file")
            found = {row[0]: Stamp(*row[1:]) for row in rows}
        return {path: stamp for path, stamp in found.items() if not path.startswith((PRIVATE_NAME.encode(), b"/"))}

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
        with self._changing() as connection:
            self._tables.append(key, table)
            if source is not None:
                connection.execute("INSERT OR REPLACE INTO follows VALUES (?, ?, ?, ?, ?, ?)", [*key, *source])
        self._frames.pop(key, None)

    def stage_pixels(self, array: da.Array, frame_ndim: int = 2, progress: Progress | None = None) -> StagedArray:
        """Write pixels where staged ones are kept; nothing refers to them until `stage_frames`."""
        folder = self._catalog.private / PIXELS_FOLDER
        target = folder / uuid.uuid4().hex
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            return stage_array(array, target, frame_ndim, progress)
        except BaseException as error:
            shutil.rmtree(target, ignore_errors=True)
            if type(error) is OSError:
                raise CatalogError(f"the pixels cannot be staged: {error.strerror or error}") from error
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
        with self._changing() as connection:
            self._forget_within(connection, instead)
            self._append(key, frames)
            self._overlays.write(connection, hidden or {})

    def settle_keys(self, moved: Mapping[Layer, tuple[SeriesKey, Frames]]) -> None:
        """Write staged tables anew, edits included, under the keys that these have given them."""
        with self._changing() as connection:
            sources = {key: self.source_of(layer.key) for layer, (key, _) in moved.items()}
            self._forget_within(connection, moved)
            for key, frames in moved.values():
                self._append(key, frames)
            followed = [(*key, *source) for key, source in sources.items() if source is not None]
            connection.executemany("INSERT OR REPLACE INTO follows VALUES (?, ?, ?, ?, ?, ?)", followed)

    def _append(self, key: SeriesKey, frames: Frames) -> None:
        stamps = [tuple(row) for row in frames.files.stamps.tolist()]
        first = self._tables.add_files(list(zip(self._relative(frames), stamps, strict=True)))  # type: ignore[arg-type]
        file = np.where(frames.file < 0, -1, frames.file + np.int32(first)).astype(np.int32)
        self._tables.append(key, Table(file, frames.number, frames.offset, frames.length, frames.columns))

    def _relative(self, frames: Frames) -> list[bytes]:
        """Return the paths of files: relative where they are in the folder, which may be moved, else absolute."""
        here = os.path.join(self._catalog.root_bytes, b"")
        return [path.removeprefix(here) for path in _absolute(frames)]


def stamp_of(path: bytes) -> Stamp | None:
    """Return the stamp of a file, None where there is none."""
    try:
        return Stamp.of(os.stat(path))
    except OSError:
        return None


def _absolute(frames: Frames) -> list[bytes]:
    """Return the paths of files, which os.path.join takes as they are."""
    return [os.path.join(frames.files.root, path) for path in frames.files.paths]


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


__all__ = ["GONE", "HIDDEN", "NEW", "REMOVED", "REPLACED", "SAVED", "TOKEN", "Edits", "Layer", "Overlay", "inline"]
