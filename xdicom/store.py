"""What records read and write: the catalog of a folder with its edits laid over, and new frames staged into it.

Records are keys into a store; it knows levels of keys, not classes of records.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from .access import Access, seeing_one_state, writing_alone
from .catalog import Problem
from .changes import Change, changes_of, problems_of
from .columns import Column, Known
from .editing import check_instances, displaced, tied, warn_of_pixels
from .edits import GONE, NEW, REMOVED, REPLACED, SAVED, TOKEN, Layer, Overlay
from .errors import EditError, LockedError, RecordError, SaveError
from .frames import Files, Frames
from .imagery import image_rows
from .instance import INSTANCE_UID
from .layers import also_hiding, hidden_rows, hiding
from .naming import Instance, Paths
from .rows import instances_of
from .scan import SeriesKey
from .setting import Setter, leaves, overlay_for, spread, taken_back
from .source import Stamp
from .tags import PrivateTag
from .works import new_files, works_of

_STUDY_DATE, _STUDY_TIME, _SERIES_NUMBER = 0x00080020, 0x00080030, 0x00200011
LEVELS = ("database", "patient", "study", "series")


class Store(Access):
    """A folder of DICOM, or a temporary one that lives as long as its records: what is in it, and what is staged."""

    def forget(self) -> None:
        """Close the database and delete the private folder."""
        with self.writing():
            self.close()
            shutil.rmtree(self.catalog.private, ignore_errors=True)

    def check(self) -> list[Problem]:
        """Return what is wrong with files, with the catalog, and what interrupted processes left."""
        return [*self.problems(), *self.catalog.damage(), *self.edits.leftovers()]

    def settle(self, path: str | os.PathLike[str]) -> None:
        """Live in a folder from now on, in place of the temporary one; records that have no images yet come along."""
        empty = {
            key: ({tag: frames.raw_values(tag)[0][0] for tag in frames.tags()}, self.edits.source_of(key))
            for key in self.layers.by_key()
            if (frames := self.frames(key)) is not None and (frames.file < 0).all()
        }
        self.move_to_folder(path)
        self.rescan()
        for key, (values, source) in empty.items():
            if not self.exists(tuple(part for part in key if part)):
                self.add(key, values, source=source)

    @seeing_one_state
    def problems(self) -> list[Problem]:
        """Return what is wrong with files, and which edits are set aside."""
        found = self.catalog.problems() + problems_of(self.edits.aside())
        if self._unfinished:
            reason = f"a save was interrupted and cannot be finished: {self._unfinished}"
            found.append(Problem(os.fspath(self.catalog.private), reason))
        return found

    # -- keys

    @seeing_one_state
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

    @seeing_one_state
    def children(self, prefix: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Return the keys one level below a record, in order."""
        size = len(prefix) + 1
        keys = [key[:size] for key in self.keys(prefix, placeholders=True)]
        return [key for key in dict.fromkeys(keys) if key[-1]]

    @seeing_one_state
    def exists(self, key: tuple[str, ...]) -> bool:
        """Say whether a record is there."""
        return not key or any(each[: len(key)] == key for each in self.layers.by_key())

    def require(self, key: tuple[str, ...]) -> None:
        """Raise where a record is not there any more.

        Raises
        ------
        RecordError
            If there is none.
        """
        if not self.exists(key):
            raise _absent(key)

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

    @seeing_one_state
    def frames(self, key: SeriesKey) -> Frames | None:
        """Return the rows of one series, or the placeholder of a new record, or None."""
        return self.layers.frames(key)

    @seeing_one_state
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

    @seeing_one_state
    def nbytes(self, key: SeriesKey) -> int:
        """Return the size of a series' files, and of its staged frames, in bytes."""
        size = 0
        for layer in self.layers.by_key().get(key, ()):
            table = self.layers.base(layer)
            if table is not None:
                sizes = table.files.stamps[:, 0] if layer.kind == SAVED else np.maximum(table.length, 0)
                size += int(sizes.sum())
        return size

    @seeing_one_state
    def is_unsaved(self, key: SeriesKey) -> bool:
        """Say whether a series has something staged."""
        layers = self.layers.by_key().get(key, ())
        edited = self.edits.layers()
        return any(layer.kind == NEW or layer in edited for layer in layers)

    # -- new records

    @writing_alone
    def add(self, key: SeriesKey, values: Mapping[int, Known], *, source: SeriesKey | None = None) -> None:
        """Stage a new record; what is above it must exist.

        Raises
        ------
        EditError
            If a record with this key exists.
        """
        if self.exists(tuple(part for part in key if part)):
            raise EditError(f"there is a {LEVELS[sum(map(bool, key))]} with this identity already: {key!r}")
        self._make_way(key)
        self.edits.add_record(key, values, source)
        self._refresh()

    def _make_way(self, key: SeriesKey) -> None:
        """Settle staged tables under their present keys where one would be taken for another record's."""
        moved = self.layers.moved_from(key)
        if moved:
            self.edits.settle_keys(moved)
            self._refresh()

    @writing_alone
    def stage(self, key: SeriesKey, frames: Frames) -> None:
        """Stage new frames of a series."""
        self._make_way(key)
        self.edits.stage_frames(key, frames)
        self._refresh()

    @writing_alone
    def replace(self, key: SeriesKey, frames: Frames) -> None:
        """Stage frames in the place of all images of a series; those with a known SOPInstanceUID keep their file."""
        self._make_way(key)
        fresh, token = set(frames.column(INSTANCE_UID)[0]), ("", uuid.uuid4().bytes)
        hidden: dict[Layer, Overlay] = {}
        instead, kept = [], []
        here = self.layers.by_key().get(key, [])
        # A saved table that gives way as a whole is under no key.
        for layer in dict.fromkeys([*here, *self.layers.giving_way_to(here)]):
            base, table = self.layers.base(layer), self.layers.table(layer)
            if layer.kind == NEW and table is not None:
                instead.append(layer)
                kept.append(table.take(np.flatnonzero(table.file < 0)))
            elif base is not None:
                values, codes = base.column(INSTANCE_UID)
                stays = np.array([*(uid in fresh for uid in values), False], bool)[codes]
                is_image = np.isin(np.arange(len(base)), image_rows(base))
                pseudo = {REPLACED: stays, REMOVED: is_image & ~stays}
                hidden[layer] = {tag: hiding(rows, token) for tag, rows in pseudo.items()}
        marked = frames.with_columns({TOKEN: Column([token])})
        self.edits.stage_frames(key, Frames.concat([*kept, marked]), hidden, instead)
        self._refresh()

    def move(self, prefix: tuple[str, ...], columns: Callable[[Frames], Overlay]) -> tuple[str, ...]:
        """Lay columns over every table under a record, such as those of another study; return the record's new key."""
        with self.together():
            layers = self.layers.under(prefix)
            self._lay(layers, columns)
            return self._key_now(layers, prefix)

    def _lay(self, layers: Iterable[Layer], columns: Callable[[Frames], Overlay]) -> None:
        """Lay columns over tables; what a table says already is no edit, and ends an earlier one."""
        changes: dict[Layer, Overlay] = {}
        undone: dict[Layer, list[int]] = {}
        for layer in layers:
            table, base = self.layers.table(layer), self.layers.base(layer)
            if table is None or base is None:
                continue
            overlay = columns(table)
            if len(table) < len(base):
                hidden = hidden_rows(base, self.edits.overlays().get(layer, {}))
                overlay = {tag: spread(column, hidden) for tag, column in overlay.items()}
            same = [tag for tag, column in overlay.items() if leaves(base, tag, column)]
            undone[layer] = same + displaced(table, overlay)
            changes[layer] = {tag: column for tag, column in overlay.items() if tag not in same}
        warn_of_pixels(changes.values())
        self.edits.set_columns(changes, undone)
        self._order.clear()
        self.layers.relaid(changes)

    def _key_now(self, layers: Iterable[Layer], prefix: tuple[str, ...]) -> tuple[str, ...]:
        """Return the key of a record that had some tables when its key was `prefix`."""
        keys = (self.layers.key_of(layer) for layer in layers)
        return next((key[: len(prefix)] for key in keys if key is not None), prefix)

    # -- edits

    def set_values(
        self,
        prefix: tuple[str, ...],
        values: Mapping[int | PrivateTag, object],
        vrs: Mapping[object, str],
        setters: Sequence[Setter] = (),
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
        setters
            What lower_case attributes that are set make of each table, see `setting.overlay_for`.

        Returns
        -------
        tuple
            Key of the record from now on.

        Raises
        ------
        EditError, TagValueError
            If an element cannot be set, or its VR cannot hold the value; nothing is staged then.
        RecordError
            If the record is not there any more.
        """
        if not self.lock.held:
            self.require(prefix)
        with self.together():
            layers = self.layers.under(prefix)
            if prefix and not layers:
                raise _absent(prefix)
            tables = [table for layer in layers if (table := self.layers.table(layer)) is not None]
            check_instances(tables, values)
            self._lay(layers, partial(overlay_for, values=values, vrs=vrs, setters=setters))
            return self._key_now(layers, prefix)

    @writing_alone
    def restore(self, prefix: tuple[str, ...], wanted: Collection[int] | None = None) -> tuple[str, ...]:
        """Drop what is staged under a record, or the edits of some tags; return the record's key from now on."""
        here, layers = self.layers.under(prefix), self.layers.ever_under(prefix)
        if wanted is None:
            self.edits.forget(layers)
        else:
            # The header of a staged frame in place of a saved one took over what was edited before.
            replaced = self._replaced(layers)
            staged = [layer for layer in layers if layer.kind == NEW]
            tables = {layer: base for layer in staged if (base := self.layers.base(layer)) is not None}
            columns = {layer: taken_back(base, wanted, replaced) for layer, base in tables.items()}
            overlays = self.edits.overlays()
            self.edits.set_columns(columns, {layer: tied(overlays.get(layer, {}), wanted) for layer in layers})
        self._refresh()
        self.lock.release()
        return prefix if self.exists(prefix) else self._key_now(here, prefix)

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
        try:
            with self.writing():
                return self._save(prefix, progress)
        except OSError as error:
            if isinstance(error, SaveError | LockedError):
                raise
            raise SaveError(f"nothing was saved, edits are still staged: {error.strerror or error}") from error

    def _save(self, prefix: tuple[str, ...], progress: Callable[[int, int], None] | None) -> list[SeriesKey]:
        layers = self.layers.ever_under(prefix)
        now = {layer: key for key, found in self.layers.by_key().items() for layer in found}
        works = list(works_of(self.layers, layers, self.edits.overlays()))
        images = {layer: table for layer in layers if (table := self._staged_images(layer)) is not None}
        if images:
            paths, replaced = cache(lambda: Paths(self._paths_there())), self._replaced(layers)
            for layer, table in images.items():
                works += new_files(table, now[layer], paths, replaced)
        edits = self.edits.overlays()
        edited = [layer for layer in layers if layer in images or (layer.kind == SAVED and layer in edits)]
        written = {now[layer] for layer in edited if layer in now and self.layers.has_frames(now[layer])}
        # Frames that are not saved now, or are set aside, are no empty record.
        empty = [layer for layer in now if layer.kind == NEW and not self.edits.has_files(layer.key)]
        fulfilled = [layer for layer in empty if self._is_fulfilled(now[layer], written)]
        try:
            if works or edited or fulfilled:
                self._is_saving = True
                self.journal.save(works, [*edited, *fulfilled], progress)
                self._is_saving = False
        finally:
            self._refresh()
        self.catalog.truncate_log()
        self.lock.release()
        return [now[layer] for layer in empty if layer in layers and layer not in fulfilled]

    @writing_alone
    def own(self, frames: Frames) -> Frames:
        """Return frames of another folder with files of this one's, so that they outlive those."""
        root = frames.files.root
        stamps = [Stamp(*row) for row in frames.files.stamps.tolist()]
        paths = [os.path.join(root, path) for path in frames.files.paths]
        kept = self.edits.keep_files(zip(paths, stamps, strict=True))
        files = Files(
            b"", [kept[path][0] for path in paths], np.array([kept[path][1] for path in paths]).reshape(-1, 3)
        )
        return replace(frames, files=files, _decoded={})

    def _staged_images(self, layer: Layer) -> Frames | None:
        """Return the staged frames of a table, None where it has none."""
        table = self.layers.table(layer) if layer.kind == NEW else None
        rows = np.zeros(0, np.intp) if table is None else np.flatnonzero(table.file >= 0)
        return table.take(rows) if table is not None and rows.size else None

    def _is_fulfilled(self, key: SeriesKey, written: set[SeriesKey]) -> bool:
        """Say whether a new record is in the files, once those of some series are written."""
        prefix = tuple(part for part in key if part)
        return any(each[: len(prefix)] == prefix for each in (*written, *self.catalog.keys()))

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

    @writing_alone
    def remove(self, prefix: tuple[str, ...]) -> None:
        """Stage the removal of every frame under a record; what was only staged is dropped."""
        layers = self.layers.under(prefix)
        staged = [layer for layer in layers if layer.kind == NEW]
        saved = [*(layer for layer in layers if layer.kind == SAVED), *self.layers.giving_way_to(staged)]
        gone: Overlay = {REMOVED: Column([GONE])}
        with self.together():
            self.edits.set_columns(dict.fromkeys(saved, gone), dict.fromkeys(saved, (REPLACED,)))
            self.edits.forget(staged)
        self._refresh()

    @writing_alone
    def remove_rows(self, prefix: tuple[str, ...], matching: Callable[[Frames], NDArray[np.bool_]]) -> int:
        """Stage the removal of some frames under a record; those that were only staged are dropped.

        Parameters
        ----------
        prefix
            Key of the record.
        matching
            Says for each row of a table whether it goes.

        Returns
        -------
        int
            How many frames go.
        """
        now = {layer: key for key, found in self.layers.by_key().items() for layer in found}
        changes: dict[Layer, Overlay] = {}
        fewer: dict[Layer, tuple[SeriesKey, Frames]] = {}
        gone: list[Layer] = []
        count, dropped = 0, set()
        for layer in self.layers.under(prefix):
            base, table = self.layers.base(layer), self.layers.table(layer)
            if base is None or table is None:
                continue
            rows = matching(table) & (table.file >= 0)
            count += int(rows.sum())
            if rows.any() and layer.kind == SAVED:
                overlay = self.edits.overlays().get(layer, {})
                going = np.zeros(len(base), bool)
                going[~hidden_rows(base, overlay)] = rows
                changes[layer] = {REMOVED: also_hiding(overlay.get(REMOVED), going)}
            elif rows.any():
                dropped |= set(table.take(np.flatnonzero(rows)).unique(INSTANCE_UID))
                rest = table.take(np.flatnonzero(~rows))
                dropped -= set(rest.unique(INSTANCE_UID))
                if len(rest):
                    fewer[layer] = now[layer], rest
                else:
                    gone.append(layer)
        changes |= self._removed_for_good([*fewer, *gone], dropped)
        with self.together():
            self.edits.set_columns(changes, {})
            self.edits.forget(gone)
            self.edits.settle_keys(fewer)
        self._refresh()
        return count

    def _removed_for_good(self, staged: Iterable[Layer], uids: set[object]) -> dict[Layer, Overlay]:
        """Return the marks of saved rows that gave way to staged frames which are dropped without restoring those."""
        changes: dict[Layer, Overlay] = {}
        for layer in self.layers.giving_way_to(staged):
            base, overlay = self.layers.base(layer), self.edits.overlays()[layer]
            replaced = overlay.get(REPLACED)
            if base is not None and replaced is not None:
                values, codes = base.column(INSTANCE_UID)
                going = np.array([*(uid in uids for uid in values), False], bool)[codes]
                going &= hidden_rows(base, overlay, (REPLACED,))
                stays = Column(replaced.values, np.where(going, -1, replaced.all_codes(len(base))).astype(np.int32))
                changes[layer] = {REPLACED: stays, REMOVED: also_hiding(overlay.get(REMOVED), going)}
        return changes

    @seeing_one_state
    def status(self, prefix: tuple[str, ...]) -> list[Change]:
        """Return what is staged under a record."""
        return changes_of(self.layers, self.layers.ever_under(prefix), self.edits.overlays(), self.edits.aside())


def _absent(key: tuple[str, ...]) -> RecordError:
    return RecordError(f"this {LEVELS[len(key)]} has no frames any more: it was moved, removed or restored")


def _first(frames: Frames | None, tag: int) -> object:
    if frames is None:
        return ""
    values, codes = frames.column(tag)
    used = codes[codes >= 0]
    return "" if not used.size or values[used[0]] is None else values[used[0]]
