"""Database, patient, study and series, and how one gets them.

Reading tags and arrays is in `records`, what is on disk behind `store`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import dask.array
import numpy as np
import xarray as xr

from . import create, derive, tags
from .array import to_dataarray
from .columns import Column, Known
from .conditions import matching_rows
from .display import Node, Progress, tree_text
from .errors import RecordError
from .frames import Frames
from .modules import PATIENT_TAGS, STUDY_TAGS, inherited
from .naming import new_uid
from .overlay import overlaid
from .placement import affine_of
from .records import Record, stacked_xarray
from .replacing import replace_images
from .rows import row_headers
from .scan import SeriesKey
from .stack import stack
from .store import Store, raw_values

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .catalog import Report

_SERIES_NUMBER = 0x00200011
R = TypeVar("R", bound="Record")


class _Parent(Record):
    """A record with series below it."""

    def _children(self, kind: Callable[[Store, tuple[str, ...]], R], depth: int, conditions: dict[str, Any]) -> list[R]:
        """Return the records `depth` keys long below this one whose frames match."""
        self._require()
        level = [self._key]
        while level and len(level[0]) < depth:
            level = [child for key in level for child in self._store.children(key)]
        return [kind(self._store, key) for key in level if not conditions or _matches(self._store, key, conditions)]

    def series(self, **conditions: Any) -> list[Series]:
        """Return the series, those that have a frame matching every condition; ordered as in S10 of the design.

        Parameters
        ----------
        **conditions
            Tags or lower_case attributes: a value, a list (any of), a slice (low to high) or a function.
        """
        return self._children(Series, 3, conditions)


class _AboveStudies(_Parent):
    def studies(self, **conditions: Any) -> list[Study]:
        """Return the studies that have a frame matching every condition; see `series`."""
        return self._children(Study, 2, conditions)


class Database(_AboveStudies):
    """The patients, studies and series in a folder of DICOM.

    See Also
    --------
    xdicom.database : opens one.
    """

    def patients(self, **conditions: Any) -> list[Patient]:
        """Return the patients that have a frame matching every condition; see `series`."""
        return self._children(Patient, 1, conditions)

    @property
    def children(self) -> list[Patient]:
        """The patients."""
        return self.patients()

    def rescan(self) -> Report:
        """Read the files that are new or changed since the last scan.

        Returns
        -------
        Report
            How many files are new, changed, removed; and how many there are, were skipped, are broken.
        """
        with Progress("scanning", unit="files") as progress:
            return self._store.rescan(progress)

    def close(self) -> None:
        """Close the database file; records and lazy arrays made before stay readable as long as files stay."""
        self._store.close()

    def new_patient(self, **values: Any) -> Patient:
        """Make a new patient, which is written when it has images and is saved.

        Parameters
        ----------
        **values
            Tags by keyword; PatientID is made from PatientName where not given.
        """
        patient = str(values.pop("PatientID", "") or self._free_patient_id(str(values.get("PatientName", ""))))
        header = raw_values({"PatientName": "", **values, "PatientID": patient})
        self._store.add(SeriesKey(patient, "", ""), header)
        return Patient(self._store, (patient,))

    def _free_patient_id(self, name: str) -> str:
        stem = name.replace("^", " ").strip() or "anonymous"
        if not self._store.exists((stem,)):
            return stem
        return f"{stem} {new_uid()[-8:]}"

    def __repr__(self) -> str:
        counts = self._store.catalog.counts()
        left_out = [f"{n} {what}" for n, what in ((counts.skipped, "not DICOM"), (counts.broken, "broken")) if n]
        place = "in memory" if self._store.in_memory else str(self._store.root)
        head = f"Database {place}" + (f" ({', '.join(left_out)}: see problems())" if left_out else "")
        nodes = [_node(self._store, key) for key in self._store.children(())]
        return f"{head}\n{tree_text(nodes)}" if nodes else f"{head}\nno DICOM here"


class _BelowDatabase(Record):
    @property
    def database(self) -> Database:
        """The database that the record is in."""
        return Database(self._store, ())

    def __repr__(self) -> str:
        self._require()
        return f"{type(self).__name__} {tree_text([_node(self._store, self._key)])}"


class Patient(_BelowDatabase, _AboveStudies):
    """A patient, whose frames share PatientID (or, where that is empty, name and birth date)."""

    @property
    def children(self) -> list[Study]:
        """The studies."""
        return self.studies()

    def new_study(self, **values: Any) -> Study:
        """Make a new study of this patient, which is written when it has images and is saved.

        Parameters
        ----------
        **values
            Tags by keyword.
        """
        header = {**inherited(_first_header(self), study=False)}
        uid = str(values.pop("StudyInstanceUID", "") or new_uid())
        header = overlaid(header, raw_values({**values, "StudyInstanceUID": uid}))
        key = SeriesKey(self._key[0], uid, "")
        self._store.add(key, header)
        return Study(self._store, key[:2])


class Study(_BelowDatabase, _Parent):
    """A study of a patient, whose frames share StudyInstanceUID."""

    @property
    def patient(self) -> Patient:
        """The patient that the study is of."""
        return Patient(self._store, self._key[:1])

    @property
    def children(self) -> list[Series]:
        """The series."""
        return self.series()

    def new_series(self, **values: Any) -> Series:
        """Make a new, empty series in this study, to be filled by `set_ndarray` or `set_xarray`.

        Parameters
        ----------
        **values
            Tags by keyword; SeriesNumber is the next free one where not given.
        """
        return _new_series(self, values, None)


class Series(_BelowDatabase):
    """A series of a study, whose frames share SeriesInstanceUID."""

    @property
    def patient(self) -> Patient:
        """The patient that the series is of."""
        return Patient(self._store, self._key[:1])

    @property
    def study(self) -> Study:
        """The study that the series is in."""
        return Study(self._store, self._key[:2])

    @property
    def children(self) -> list[Record]:
        """Always empty: below a series are frames, see `frames()`."""
        return []

    @property
    def affine(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """4 x 4 matrix from (column, row, slice) index to LPS mm.

        Raises
        ------
        GeometryError
            If there is no geometry, or slices are not equally spaced.
        """
        frames = self.frames()
        grid = stack(frames, ("slice_location",), duplicates="first")
        return affine_of(to_dataarray(frames, grid))

    def subseries(self, **conditions: Any) -> Series:
        """Make a new series in the same study, of copies of the frames that match every condition.

        Parameters
        ----------
        **conditions
            Tags or lower_case attributes: a value, a list (any of), a slice (low to high) or a function.

        Raises
        ------
        RecordError
            If no frame matches.
        """
        frames = self.frames()
        rows = np.flatnonzero(matching_rows(frames, conditions))
        if not rows.size:
            there = {name: list(frames.unique(name))[:8] for name in conditions}
            raise RecordError(f"no frame matches {conditions}; there are {there}")
        names = self["SeriesDescription"]
        target = _new_series(self.study, {"SeriesDescription": names[0] or ""} if len(names) else {}, None)
        derive.copy_frames(self._store, SeriesKey(*target.key), frames.take(rows))
        return target

    def copy_to(self, study: Study) -> Series:
        """Copy the series into a study, of this database or another, under new UIDs; it takes its patient and study."""
        return _copied(self, study)

    def move_to(self, study: Study) -> None:
        """Move the series into a study, of this database or another; it takes that patient and study."""
        study._require()
        if study._store is not self._store:
            moved = _copied(self, study)
            self.remove()
            self._store, self._key = moved._store, moved._key
            return
        header = inherited(_first_header(study), study=True)
        here = {
            tag for table in self._store.tables(self._key) for tag in inherited(dict.fromkeys(table.tags()), study=True)
        }
        columns: dict[int, Column | None] = {
            tag: Column([header[tag]]) if tag in header else None for tag in here | header.keys()
        }
        self._key = self._store.move(self._key, columns)

    def new_sibling(self, **values: Any) -> Series:
        """Make a new, empty series in the same study, whose images will be derived from this one's.

        Parameters
        ----------
        **values
            Tags by keyword; SeriesNumber is the next free one where not given.
        """
        return _new_series(self.study, values, SeriesKey(*self._key))

    def set_xarray(
        self,
        da: xr.DataArray,
        *,
        like: Series | None = None,
        range: tuple[float, float] | None = None,  # noqa: A002 - the word of S5
        spacing: float | Sequence[float] | None = None,
        affine: ArrayLike | None = None,
    ) -> None:
        """Give a series its images; the graph of a lazy array runs once, now.

        An empty series gets new images; one with as many images gets new pixels, while headers and UIDs stay.

        Parameters
        ----------
        da
            Dims ``(*dims, "row", "column"[, "sample"])``, real-world values. Its coordinates become tags.
        like
            The series whose headers are cloned; by default the one that the array came from, or on which
            `new_sibling` was called.
        range
            (low, high) that values are clipped to.
        spacing, affine
            Geometry where there is no such series: (column, row, slice) step in mm; or 4 x 4, from (column, row,
            slice) index to LPS mm.

        Raises
        ------
        EditError
            If the array does not fit the images that the series has, or DICOM cannot hold its values.
        """
        key = SeriesKey(*self._key)
        held = self._store.frames(key)
        if held is not None and (held.file >= 0).any():
            with Progress("computing", unit="tasks") as progress:
                replace_images(self._store, key, da, limits=range, progress=progress)
            return
        template = None if like is None else like.frames()
        with Progress("computing", unit="tasks") as progress:
            derive.fill_series(
                self._store,
                key,
                da,
                like=template,
                limits=range,
                spacing=spacing,
                affine=affine,
                progress=progress,
            )

    def set_ndarray(
        self, array: ArrayLike, dims: Sequence[Any] | str | None = None, coords: Any = None, **options: Any
    ) -> None:
        """Give a series its images, in the shape that `ndarray` returns; see `set_xarray`.

        Parameters
        ----------
        array
            Shape (x, y, n) or ``(x, y, *dims)``: x the column index, y the row index; numpy or dask.
        dims
            Names of the further axes.
        coords
            One sequence of values a dim.
        **options
            As in `set_xarray`.

        Raises
        ------
        EditError
            If shapes and coords disagree, the array does not fit the series' images, or DICOM cannot hold it.
        """
        self.set_xarray(derive.as_dataarray(array, dims, coords), **options)


def _require_series(records: Sequence[Record]) -> None:
    strangers = [type(record).__name__ for record in records if not isinstance(record, Record)]
    if strangers or not records:
        raise RecordError(f"a list of series is expected, not {strangers or 'an empty list'}")


def _series_keys(record: Record) -> list[SeriesKey]:
    return record._store.keys(record.key)


def _matches(store: Store, key: tuple[str, ...], conditions: dict[str, Any]) -> bool:
    return any(matching_rows(table, conditions).any() for table in store.tables(key))


def _first_header(record: Record) -> dict[int, Known]:
    """Return the elements of the first row under a record, in explicit VR."""
    for table in record._store.tables(record._key):
        return row_headers(table.take([0]))[0]
    return {}


def _new_series(study: Study, values: dict[str, Any], source: SeriesKey | None) -> Series:
    """Stage an empty series in a study."""
    study._require()
    header = inherited(_first_header(study), study=True)
    uid = str(values.pop("SeriesInstanceUID", "") or new_uid())
    numbers = [child["SeriesNumber"] for child in study.series()]
    known = [number for found in numbers for number in found if isinstance(number, int)]
    number = values.pop("SeriesNumber", None) or max([0, *known]) + 1
    header = overlaid(header, raw_values({**values, "SeriesNumber": number, "SeriesInstanceUID": uid}))
    key = SeriesKey(study.key[0], study.key[1], uid)
    study._store.add(key, header, source=source)
    return Series(study._store, key)


def _copied(series: Series, study: Study) -> Series:
    """Copy a series into a study under a new UID."""
    study._require()
    source = series._store.frames(SeriesKey(*series.key))
    if source is None:
        raise RecordError("the series has no frames any more")
    kept = {name: value for name in ("SeriesDescription", "SeriesNumber") if (value := _only(series[name])) is not None}
    target = _new_series(study, kept, None)
    if (source.file >= 0).any():
        derive.copy_frames(target._store, SeriesKey(*target.key), source)
    return target


def _only(values: tags.UniqueValues) -> Any:
    return values[0] if len(values) == 1 else None


def _node(store: Store, key: tuple[str, ...]) -> Node:
    """Return a record as plain data for the tree."""
    if len(key) < 3:
        children = [_node(store, child) for child in store.children(key)]
        frames = sum(child.frames for child in children)
        note = "" if children else "empty, unsaved"
        return Node(_label(store, key), frames, sum(child.nbytes for child in children), children, note)
    series_key = SeriesKey(*key)
    table = store.frames(series_key)
    count = 0 if table is None else int((table.file >= 0).sum())
    note = "unsaved" if store.is_unsaved(series_key) else ""
    return Node(_label(store, key), count, store.nbytes(series_key), (), note if count else "empty, unsaved")


_LABELS = {
    1: ("PatientID", "PatientName"),
    2: ("StudyDate", "StudyDescription"),
    3: ("SeriesNumber", "SeriesDescription", "Modality"),
}


def _label(store: Store, key: tuple[str, ...]) -> str:
    """Return what a record is called in a tree."""
    tables = store.tables(key)
    parts: list[str] = []
    for name in _LABELS[len(key)]:
        value = next((value for table in tables[:1] for value in table.unique(name) if value not in (None, "")), None)
        if value is not None and str(value) not in parts:
            parts.append(str(value))
    return " ".join(parts) or f"({key[-1].strip(chr(0))[:24] or 'no name'})"


# ---------------------------------------------------------------- how one gets them


def database(path: str | os.PathLike[str] | None = None) -> Database:
    """Open a folder of DICOM: read what is new or changed, touch no file.

    Parameters
    ----------
    path
        The folder. Without it, an empty database in memory.

    Returns
    -------
    Database

    Raises
    ------
    CatalogError
        If the folder does not exist, or its catalog is damaged.

    Examples
    --------
    >>> db = database()
    >>> db.patients()
    []
    """
    store = Store(path)
    if path is not None:
        with Progress("scanning", unit="files") as progress:
            store.rescan(progress)
    return Database(store, ())


def as_series(
    array: ArrayLike | xr.DataArray,
    dims: Sequence[str] | None = None,
    *,
    coords: Any = None,
    spacing: float | Sequence[float] | None = None,
    affine: ArrayLike | None = None,
    range: tuple[float, float] | None = None,  # noqa: A002 - the word of S5
    dtype: str | None = None,
    **values: Any,
) -> Series:
    """Make a DICOM series in memory from an array.

    Parameters
    ----------
    array
        Shape (columns, rows), (slices, columns, rows) or (times, slices, columns, rows); or as `dims` says; numpy or
        dask. A DataArray brings its own dims and coordinates.
    dims
        Names of the axes, "slice", "row" and "column" among them; others are tags, such as "FlipAngle".
    coords
        Values along the axes that are tags, by name.
    spacing
        In mm: one number, or (column step, row step, slice step).
    affine
        In place of spacing: 4 x 4, from (column, row, slice) index to LPS mm.
    range
        (low, high) that values are clipped to.
    dtype
        Kind of DICOM image: 'MRImage' or 'mri', the only one.
    **values
        Tags of the series, its study and its patient, by keyword.

    Returns
    -------
    Series
        The only one of a database in memory; `save(path)` writes it.

    Raises
    ------
    EditError
        If dims do not fit, or DICOM cannot hold the values.
    GeometryError
        If spacing or affine is no geometry.
    """
    if dtype is not None:
        create.sop_class(dtype)
    labelled = array if isinstance(array, xr.DataArray) else derive.as_slices(array, dims, coords)
    patient = {name: values.pop(name) for name in list(values) if tags.as_tag(name) in PATIENT_TAGS}
    study = {name: values.pop(name) for name in list(values) if tags.as_tag(name) in STUDY_TAGS}
    made = database().new_patient(**patient).new_study(**study).new_series(**values)
    derive.fill_series(made._store, SeriesKey(*made.key), labelled, limits=range, spacing=spacing, affine=affine)
    return made


def full(shape: Sequence[int], fill_value: float, dtype: str | None = None, **options: Any) -> Series:
    """Make a DICOM series in memory whose pixels all have one value.

    Parameters
    ----------
    shape
        (slices, columns, rows), (columns, rows) or (times, slices, columns, rows).
    fill_value
        The value; an integer gives an integer series.
    dtype, **options
        As in `as_series`.
    """
    kind = np.int16 if float(fill_value).is_integer() and abs(fill_value) < 2**15 else np.float64
    filled = dask.array.full(tuple(shape), fill_value, dtype=kind)  # type: ignore[no-untyped-call]
    return as_series(filled, dtype=dtype, **options)


def zeros(shape: Sequence[int], dtype: str | None = None, **options: Any) -> Series:
    """Make a DICOM series in memory of zeros; see `full`."""
    return full(shape, 0, dtype, **options)


def ones(shape: Sequence[int], dtype: str | None = None, **options: Any) -> Series:
    """Make a DICOM series in memory of ones; see `full`."""
    return full(shape, 1, dtype, **options)


def empty(shape: Sequence[int], dtype: str | None = None, **options: Any) -> Series:
    """Make a DICOM series in memory whose pixels are of no account; see `full`."""
    return full(shape, 0, dtype, **options)


def series(array: Any, dtype: str | None = None, **options: Any) -> Series:
    """Make a DICOM series in memory from a shape, or from an array.

    Parameters
    ----------
    array
        A shape such as (10, 128, 192), which is 10 slices of 128 columns and 192 rows; or an array, see `as_series`.
    dtype, **options
        As in `as_series`.
    """
    is_shape = isinstance(array, tuple | list) and all(isinstance(size, int | np.integer) for size in array)
    return empty(array, dtype, **options) if is_shape else as_series(array, dtype=dtype, **options)


def merge(records: Sequence[Record], **values: Any) -> Series:
    """Copy the frames of several series into one new series of the first's study.

    Parameters
    ----------
    records
        Series (or studies, patients).
    **values
        Tags of the new series by keyword.

    Returns
    -------
    Series
        Its frames are copies under new SOP Instance UIDs; their pixels are read from where they were.
    """
    _require_series(records)
    first = records[0]
    frames = Frames.concat([record.frames() for record in records])
    if not len(frames):
        raise RecordError("there are no frames to merge")
    study = Study(first._store, _series_keys(first)[0][:2])
    target = study.new_series(**{"SeriesDescription": "merged", **values})
    derive.copy_frames(target._store, SeriesKey(*target.key), frames)
    return target


def to_xarray(records: Sequence[Record], dims: Sequence[Any] | str | None = None, **options: Any) -> xr.DataArray:
    """Return the images of several records as one lazy, labelled DataArray; see `Series.to_xarray`.

    Parameters
    ----------
    records
        Series, studies or patients.
    dims, **options
        As in `Series.to_xarray`.
    """
    _require_series(records)
    frames = Frames.concat([record.frames() for record in records])
    defaults = {"chunks": "auto", "rescale": True, "dtype": None, "missing": "raise", "duplicates": "raise"}
    unknown = options.keys() - defaults.keys()
    if unknown:
        raise TypeError(f"to_xarray has no option {sorted(unknown)}; there are {sorted(defaults)}")
    return stacked_xarray(frames, dims, **{**defaults, **options})
