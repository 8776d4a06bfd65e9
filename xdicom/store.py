"""What records read and write: the catalog of a folder with its edits laid over, and new frames staged into it.

Records are keys into a store; it knows levels of keys, not classes of records.
"""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import tags
from .catalog import Catalog, Problem, Report
from .columns import Column, Known
from .editing import check_instances, displaced, overlay_of, tied, unchanged, warn_of_pixels
from .edits import HIDDEN, NEW, REMOVED, REPLACED, SAVED, Edits, Layer, Overlay
from .errors import EditError, LockedError
from .frames import Frames
from .imagery import image_rows
from .instance import INSTANCE_UID
from .journal import Journal
from .layers import Layers, hidden_rows, with_edits
from .lock import WriterLock
from .naming import Instance, Paths
from .rows import instances_of
from .scan import SeriesKey
from .tags import PrivateTag
from .works import new_files, works_of

_STUDY_DATE, _STUDY_TIME, _SERIES_NUMBER, _CHARSET = 0x00080020, 0x00080030, 0x00200011, 0x00080005
LEVELS = ("database", "patient", "study", "series")


def _marked(rows: NDArray[np.bool_]) -> Column:
    """Return the pseudo-column that marks some rows."""
    return Column([("", b"1")], np.where(rows, 0, -1).astype(np.int32))


class Change(NamedTuple):
    """One staged edit: the series, the tag (or what else was done), and its values before and after."""

    series: SeriesKey
    what: str
    before: tags.UniqueValues
    after: tags.UniqueValues


class Store:
    """A folder of DICOM, or a temporary one that lives as long as its records.

    Parameters
    ----------
    path
        The folder; None for a temporary one.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.in_memory = path is None
        folder = tempfile.mkdtemp(prefix="xdicom-") if path is None else path
        try:
            self._open(folder)
        except BaseException:
            if path is None:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _open(self, folder: str | os.PathLike[str]) -> None:
        self.catalog = Catalog(folder)
        self.edits = Edits(self.catalog)
        self.layers = Layers(self.catalog, self.edits)
        self.journal = Journal(self.catalog, self.edits)
        self.lock = WriterLock(self.catalog.private)
        self._lock = threading.RLock()
        self._order: dict[SeriesKey, tuple[object, ...]] = {}
        self._finalizer = weakref.finalize(self, _discard, self.catalog, self.lock, folder if self.in_memory else None)
        if self.journal.is_pending():
            self._recover()

    def _recover(self) -> None:
        """Finish an interrupted save, if the process that runs it is dead."""
        try:
            self.lock.acquire(timeout=0)
        except LockedError:
            return
        try:
            self.journal.recover()
        finally:
            self.lock.release()

    def begin(self) -> None:
        """Become the folder's only writer, and sweep up what earlier ones left.

        Raises
        ------
        LockedError
            If another process is writing, with its name.
        """
        if not self.lock.held:
            self.lock.acquire()
            self.journal.recover()
            self.edits.sweep()

    @property
    def root(self) -> Path:
        """The folder."""
        return self.catalog.root

    def close(self) -> None:
        """Close the database; a temporary folder is removed."""
        self._finalizer()

    def settle(self, path: str | os.PathLike[str]) -> None:
        """Live in a folder from now on, in place of the temporary one."""
        self._finalizer()
        self.in_memory = False
        self._open(path)
        self.rescan()

    def rescan(self, progress: Callable[[int, int], None] | None = None) -> Report:
        """Read what is new or changed in the folder."""
        report = self.catalog.rescan(progress)
        self._refresh()
        return report

    def _refresh(self) -> None:
        self._order.clear()
        self.layers.refresh()

    def problems(self) -> list[Problem]:
        """Return what is wrong with files."""
        return self.catalog.problems()

    # -- keys

    def keys(self, prefix: tuple[str, ...] = (), *, placeholders: bool = False) -> list[SeriesKey]:
        """Return the keys of the series under a record, ordered as S10 says.

        Parameters
        ----------
        prefix
            Key of the record.
        placeholders
            Also those of new patients and studies, which end in "".
        """
        found = [key for key in self.layers.by_key() if key[: len(prefix)] == prefix]
        chosen = [key for key in found if key.series or placeholders]
        return sorted(chosen, key=self._sort_key)

    def children(self, prefix: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Return the keys one level below a record, in order."""
        size = len(prefix) + 1
        keys = [key[:size] for key in self.keys(prefix, placeholders=True)]
        return [key for key in dict.fromkeys(keys) if key[-1]]

    def exists(self, key: tuple[str, ...]) -> bool:
        """Say whether a record is there."""
        return not key or bool(self.keys(key, placeholders=True))

    def _sort_key(self, key: SeriesKey) -> tuple[object, ...]:
        found = self._order.get(key)
        if found is None:
            frames = self.frames(key)
            texts = [str(_first(frames, tag)) for tag in (_STUDY_DATE, _STUDY_TIME)]
            number = _first(frames, _SERIES_NUMBER)
            is_number = isinstance(number, int)
            found = (key.patient, *texts, key.study, not is_number, number if is_number else 0, key.series)
            self._order[key] = found
        return found

    # -- frames

    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the rows of one series, or the placeholder of a new record, or None."""
        return self.layers.frames(key)

    def tables(self, prefix: tuple[str, ...], *, placeholders: bool = True) -> list[Frames]:
        """Return the rows of every series under a record, one table a series.

        Parameters
        ----------
        prefix
            Key of the record.
        placeholders
            Also the rows of new records that have no frames yet.
        """
        tables = [table for key in self.keys(prefix, placeholders=True) if (table := self.frames(key)) is not None]
        real = [table for table in tables if (table.file >= 0).any()]
        return real if real or not placeholders else tables

    def nbytes(self, key: SeriesKey) -> int:
        """Return the size of a series' files, and of its staged frames, in bytes."""
        size = 0
        for layer in self.layers.by_key().get(key, ()):
            table = self.layers.base(layer)
            if table is not None:
                sizes = table.files.stamps[:, 0] if layer.kind == SAVED else np.maximum(table.length, 0)
                size += int(sizes.sum())
        return size

    def is_unsaved(self, key: SeriesKey) -> bool:
        """Say whether a series has something staged."""
        edited = self.edits.overlays()
        return any(layer.kind == NEW or layer in edited for layer in self.layers.by_key().get(key, ()))

    # -- new records

    def add(self, key: SeriesKey, values: Mapping[int, Known], *, source: SeriesKey | None = None) -> None:
        """Stage a new record; what is above it must exist.

        Raises
        ------
        EditError
            If a record with this key exists.
        """
        self.begin()
        if self.exists(tuple(part for part in key if part)):
            raise EditError(f"there is a {LEVELS[sum(map(bool, key))]} with this identity already: {key!r}")
        self.edits.add_record(key, values, source)
        self._refresh()

    def stage(self, key: SeriesKey, frames: Frames) -> None:
        """Stage new frames of a series."""
        self.begin()
        self.edits.stage_frames(key, frames)
        self._refresh()

    def replace(self, key: SeriesKey, frames: Frames) -> None:
        """Stage frames in the place of all that a series has; those with a known SOPInstanceUID keep their file."""
        self.begin()
        fresh = set(frames.unique(INSTANCE_UID))
        hidden: dict[Layer, Overlay] = {}
        for layer in self.layers.by_key().get(key, ()):
            base = self.layers.base(layer)
            if layer.kind == SAVED and base is not None:
                values, codes = base.column(INSTANCE_UID)
                stays = np.array([*(uid in fresh for uid in values), False], bool)[codes]
                is_image = np.isin(np.arange(len(base)), image_rows(base))  # reports, raw data and the like stay
                pseudo = {REPLACED: stays, REMOVED: is_image & ~stays}
                hidden[layer] = {tag: _marked(rows) for tag, rows in pseudo.items() if rows.any()}
        self.edits.stage_frames(key, frames, hidden, anew=True)
        self._refresh()

    def move(self, prefix: tuple[str, ...], columns: Overlay) -> tuple[str, ...]:
        """Lay columns over every row under a record, such as those of another study; return the record's new key."""
        self.begin()
        layers = self.layers.under(prefix)
        self.edits.set_columns(dict.fromkeys(layers, columns), {})
        self._refresh()
        now = {layer: key for key, found in self.layers.by_key().items() for layer in found}
        return now[layers[0]][: len(prefix)] if layers and layers[0] in now else prefix

    # -- edits

    def set_values(
        self, prefix: tuple[str, ...], values: Mapping[int | PrivateTag, object], vrs: Mapping[object, str]
    ) -> tuple[str, ...]:
        """Stage values in every row under a record, all or none.

        Parameters
        ----------
        prefix
            Key of the record.
        values
            By tag; None removes the element.
        vrs
            VR of private elements that no dictionary knows.

        Returns
        -------
        tuple
            Key of the record from now on.

        Raises
        ------
        EditError, TagValueError
            If an element cannot be set, or its VR cannot hold the value; nothing is staged then.
        """
        self.begin()
        layers = self.layers.under(prefix)
        changes: dict[Layer, Overlay] = {}
        undone: dict[Layer, list[int]] = {}
        tables = {layer: table for layer in layers if (table := self.layers.table(layer)) is not None}
        check_instances(tables.values(), values)
        for layer, table in tables.items():
            base = self.layers.base(layer)
            if base is None:
                continue
            overlay = overlay_of(with_edits(base, self.edits.overlays().get(layer, {})), values, vrs)
            same = [tag for tag, column in overlay.items() if unchanged(base, tag, column)]
            undone[layer] = same + displaced(table, overlay)
            changes[layer] = {tag: column for tag, column in overlay.items() if tag not in same}
        warn_of_pixels(changes.values())
        self.edits.set_columns(changes, undone)
        self._refresh()
        now = {layer: key for key, found in self.layers.by_key().items() for layer in found}
        return now[layers[0]][: len(prefix)] if prefix and layers[0] in now else prefix

    def restore(self, prefix: tuple[str, ...], wanted: Iterable[int] | None = None) -> None:
        """Drop what is staged under a record, or the edits of some tags."""
        self.begin()
        layers = self.layers.ever_under(prefix)
        if wanted is None:
            self.edits.forget(layers)
        else:
            overlays, wanted = self.edits.overlays(), list(wanted)
            self.edits.set_columns({}, {layer: tied(overlays.get(layer, {}), wanted) for layer in layers})
        self._refresh()
        self.lock.release()

    def save(self, prefix: tuple[str, ...], progress: Callable[[int, int], None] | None = None) -> list[SeriesKey]:
        """Make what is staged under a record permanent, all of it or nothing.

        Returns
        -------
        list of SeriesKey
            New records that have no images, which stay staged.

        Raises
        ------
        SaveError
            If an edit cannot be written, or a file changed since it was scanned; edits stay staged then.
        """
        self.begin()
        layers = self.layers.ever_under(prefix)
        works = list(works_of(self.layers, layers, self.edits.overlays()))
        empty: list[SeriesKey] = []
        written: list[Layer] = []
        paths: Paths | None = None
        replaced = self._replaced(layers)
        for layer in layers:
            table = self.layers.table(layer) if layer.kind == NEW else None
            if table is None:
                continue
            images = table.take(np.flatnonzero(table.file >= 0))
            if not len(images):
                empty.append(layer.key)
                continue
            paths = paths or Paths(self._paths_there())
            key = next(key for key, found in self.layers.by_key().items() if layer in found)
            works += new_files(images, key, paths, replaced)
            written.append(layer)
        done = [layer for layer in layers if layer.kind == SAVED or layer in written]
        if works or done:
            self.journal.save(works, done, progress)
        self._refresh()
        self.lock.release()
        return empty

    def _replaced(self, layers: Iterable[Layer]) -> dict[str, tuple[Frames, int]]:
        """Return by SOPInstanceUID the saved rows that give way to staged ones."""
        found: dict[str, tuple[Frames, int]] = {}
        for layer in layers:
            base, overlay = self.layers.base(layer), self.edits.overlays().get(layer)
            if layer.kind == SAVED and base is not None and overlay:
                values, codes = base.column(INSTANCE_UID)
                for row in np.flatnonzero(hidden_rows(base, overlay, (REPLACED,))).tolist():
                    found[str(values[codes[row]])] = base, row
        return found

    def _paths_there(self) -> list[tuple[str, Instance | None]]:
        """Return every path in the folder, with what is in it."""
        found: dict[str, Instance | None] = {os.fsdecode(path): None for path in self.catalog.paths()}
        for key in self.catalog.keys():  # noqa: SIM118 - a method, no mapping
            frames = self.catalog.frames(key)
            if frames is not None:
                for row, instance in instances_of(frames, key):
                    found[os.fsdecode(frames.files.paths[frames.file[row]])] = instance
        return list(found.items())

    def remove(self, prefix: tuple[str, ...]) -> None:
        """Stage the removal of every frame under a record; what was only staged is dropped."""
        self.begin()
        layers = self.layers.under(prefix)
        gone = Column([("", b"1")])
        self.edits.set_columns({layer: {REMOVED: gone} for layer in layers if layer.kind == SAVED}, {})
        self.edits.forget([layer for layer in layers if layer.kind == NEW])
        self._refresh()

    def status(self, prefix: tuple[str, ...]) -> list[Change]:
        """Return what is staged under a record."""
        changes = []
        now = {layer: key for key, found in self.layers.by_key().items() for layer in found}
        overlays = self.edits.overlays()
        for layer in self.layers.ever_under(prefix):
            base = self.layers.base(layer)
            key = now.get(layer, layer.key)
            if layer.kind == NEW and base is not None:
                count = int((base.file >= 0).sum())
                changes.append(
                    Change(key, f"{count} new frames" if count else "new, empty", tags.unique([]), tags.unique([]))
                )
            table = self.layers.table(layer)
            for tag in sorted(overlays.get(layer, {})):
                if tag in HIDDEN:
                    what = "removed" if tag == REMOVED else "new pixels"
                    changes.append(Change(key, what, tags.unique([]), tags.unique([])))
                elif base is not None and table is not None:
                    changes.append(Change(key, tags.label(tag), base.unique(tag), table.unique(tag)))
        return changes


def _first(frames: Frames | None, tag: int) -> object:
    if frames is None:
        return ""
    values, codes = frames.column(tag)
    used = codes[codes >= 0]
    return "" if not used.size or values[used[0]] is None else values[used[0]]


def _discard(catalog: Catalog, lock: WriterLock, folder: str | os.PathLike[str] | None) -> None:
    lock.release()
    catalog.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def raw_values(values: Mapping[str, object]) -> dict[int, Known]:
    """Encode values by tag or keyword into raw ones, in UTF-8 where text needs it.

    Raises
    ------
    TagValueError
        If a value does not fit its VR.
    UnknownTagError
        If a keyword does not exist.
    """
    by_tag = {tags.as_tag(name): value for name, value in values.items()}
    charset = "" if _is_ascii(by_tag.values()) else "ISO_IR 192"
    encoded: dict[int, Known] = {}
    for tag, value in by_tag.items():
        if value is None:
            continue
        vr = tags.concrete_vr(tag)
        encoded[tag] = vr, tags.encode(tag, vr, value, charset=charset)
    if charset:
        encoded[_CHARSET] = "CS", charset.encode()
    return encoded


def _is_ascii(values: Iterable[object]) -> bool:
    return all(str(value).isascii() for value in values)
