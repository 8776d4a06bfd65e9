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

import numpy as np

from . import tags
from .catalog import Catalog, Problem, Report
from .columns import Known
from .edits import Edits
from .errors import EditError, RecordError
from .frames import Frames
from .scan import SERIES_UID, STUDY_UID, SeriesKey

_STUDY_DATE, _STUDY_TIME, _SERIES_NUMBER, _CHARSET = 0x00080020, 0x00080030, 0x00200011, 0x00080005
LEVELS = ("database", "patient", "study", "series")


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
        self._lock = threading.RLock()
        self._order: dict[SeriesKey, tuple[object, ...]] = {}
        self._finalizer = weakref.finalize(self, _discard, self.catalog, folder if self.in_memory else None)

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
        self._order.clear()
        return report

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
        found = {key for key in (*self.catalog.keys(), *self.edits.keys()) if key[: len(prefix)] == prefix}
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
        parts = [part for part in (self.catalog.frames(key), self.edits.frames(key)) if part is not None]
        if not parts:
            return None
        joined = Frames.concat(parts) if len(parts) > 1 else parts[0]
        real = np.flatnonzero(joined.file >= 0)
        return joined if len(real) in (0, len(joined)) else joined.take(real)

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
        found = self.catalog.frames(key)
        staged = self.edits.frames(key)
        size = 0 if found is None else int(found.files.stamps[:, 0].sum())
        return size + (0 if staged is None else int(np.maximum(staged.length, 0).sum()))

    def is_unsaved(self, key: SeriesKey) -> bool:
        """Say whether a series has something staged."""
        return self.edits.frames(key) is not None

    # -- new records

    def add(self, key: SeriesKey, values: Mapping[int, Known], *, source: SeriesKey | None = None) -> None:
        """Stage a new record; what is above it must exist.

        Raises
        ------
        EditError
            If a record with this key exists.
        """
        if self.exists(tuple(part for part in key if part)):
            raise EditError(f"there is a {LEVELS[sum(map(bool, key))]} with this identity already: {key!r}")
        self.edits.add_record(key, values, source)
        self._order.pop(key, None)

    def stage(self, key: SeriesKey, frames: Frames) -> None:
        """Stage new frames of a series."""
        self.edits.stage_frames(key, frames)
        self._order.pop(key, None)


def _first(frames: Frames | None, tag: int) -> object:
    if frames is None:
        return ""
    values, codes = frames.column(tag)
    used = codes[codes >= 0]
    return "" if not used.size or values[used[0]] is None else values[used[0]]


def _discard(catalog: Catalog, folder: str | os.PathLike[str] | None) -> None:
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


__all__ = ["SERIES_UID", "STUDY_UID", "RecordError", "Store", "raw_values"]
