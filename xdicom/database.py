"""Database, patient, study and series: their children, new ones, copies and moves, and images set.

Tags, arrays and saving are in `records`, how one gets a database or series in `creation`, what is on disk in `store`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import xarray as xr

from . import derive, transfer
from .conditions import matching_rows, nothing_matches
from .display import Progress
from .errors import StackError
from .frames import Frames
from .imagery import refuse_part_of_picture
from .labelling import as_dataarray
from .parts import Part
from .plotting import plot
from .reading import affine_from, readable
from .records import Record
from .replacing import replace_images
from .scan import SeriesKey
from .splitting import parted_by, stacks
from .store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from .catalog import Problem, Report

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
        """Close the database file; what is staged stays, and lazy arrays stay readable as long as the files do."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def forget(self) -> None:
        """Delete what xdicom keeps of the folder, the catalog and everything staged; the DICOM files stay.

        Warns
        -----
        UserWarning
            If there are unsaved edits, which are lost.
        """
        unsaved = len(self.status())
        if unsaved:
            warnings.warn(f"{unsaved} unsaved edits are lost with the folder's catalog", UserWarning, stacklevel=2)
        self._store.forget()

    def check(self) -> list[Problem]:
        """Look for what `problems` says, for damage in the catalog, and for what an interrupted process left behind."""
        return self._store.check()

    def new_patient(self, **values: Any) -> Patient:
        """Make a new patient, which is written when it has images and is saved.

        Parameters
        ----------
        **values
            Tags by keyword; PatientID is made from PatientName where not given.
        """
        return Patient(self._store, transfer.add_patient(self._store, values))


class _BelowDatabase(Record):
    @property
    def database(self) -> Database:
        """The database that the record is in."""
        return Database(self._store, ())

    @property
    def _place(self) -> tuple[Store, Any]:
        """Store and key."""
        return self._store, SeriesKey(*self._key) if len(self._key) == 3 else self._key

    def _moved_to(self, store: Store, key: tuple[str, ...]) -> None:
        """Be the copy in another store from now on; the original is removed there."""
        self.remove()
        self._store, self._key = store, key


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
        self._require()
        return Study(self._store, transfer.add_study(self._store, self._key, values))

    def copy_to(self, database: Database) -> Patient:
        """Copy the patient, all studies included, under new UIDs; in the same database under a new PatientID."""
        self._require()
        return Patient(database._store, transfer.copy_patient(self._store, self._key, database._store))

    def move_to(self, database: Database) -> None:
        """Move the patient into another database, where it joins the patient with the same PatientID; UIDs stay."""
        self._require()
        if database._store is not self._store:
            self._moved_to(database._store, transfer.copy_patient(*self._place, database._store, keep_uids=True))


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
        self._require()
        return Series(self._store, transfer.add_series(self._store, self._key, values))

    def copy_to(self, patient: Patient) -> Study:
        """Copy the study, all series included, to a patient of this database or another, under new UIDs."""
        self._require()
        patient._require()
        return Study(patient._store, transfer.copy_study(*self._place, patient._store, patient.key))

    def move_to(self, patient: Patient) -> None:
        """Move the study to a patient of this database or another; UIDs stay."""
        self._require()
        patient._require()
        if patient._store is self._store:
            self._key = transfer.move_below(*self._place, patient.key)
        else:
            key = transfer.copy_study(*self._place, patient._store, patient.key, keep_uids=True)
            self._moved_to(patient._store, key)


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
        return affine_from(self.frames())

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
            raise nothing_matches(frames, conditions)
        return self._copy_of(frames.take(rows))

    def split(self, *names: Any) -> list[Part]:
        """Part the series, for reading: into the stacks that it holds, or by the values of some tags or attributes.

        Parameters
        ----------
        *names
            Tags or lower_case attributes, such as "EchoTime" or "image_type". Where none is given, frames are parted
            that cannot lie in one array: other matrix, orientation, spacing or line of positions; and those that fill
            no grid by what they show (see ImageType), by stack or acquisition.

        Returns
        -------
        list of Part
            In the order of their first frames, or ascending by the values. Nothing is copied or staged; `to_series()`
            of one makes a series of copies.

        Raises
        ------
        PixelError
            If there are no images.
        """
        if names:
            frames = self.frames()
            return [Part(self, frames.take(rows)) for rows in parted_by(frames, names)]
        images = readable(self.frames())
        return [Part(self, images.take(rows)) for rows in stacks(images)]

    def _copy_of(self, frames: Frames) -> Series:
        """Make a new series in the same study of copies of some frames."""
        refuse_part_of_picture(frames)  # before there is a series
        names = frames.unique("SeriesDescription")
        values = {"SeriesDescription": names[0] or ""} if len(names) else {}
        target = transfer.add_series(self._store, self._key[:2], values)
        derive.copy_frames(self._store, target, frames)
        return Series(self._store, target)

    def copy_to(self, study: Study) -> Series:
        """Copy the series into a study, of this database or another, under new UIDs; it takes its patient and study."""
        self._require()
        study._require()
        return Series(study._store, transfer.copy_series(*self._place, study._store, study.key))

    def move_to(self, study: Study) -> None:
        """Move the series into a study, of this database or another; it takes that patient and study, and UIDs stay."""
        self._require()
        study._require()
        if study._store is self._store:
            self._key = transfer.move_below(*self._place, study.key)
        else:
            key = transfer.copy_series(*self._place, study._store, study.key, keep_uids=True)
            self._moved_to(study._store, key)

    def new_sibling(self, **values: Any) -> Series:
        """Make a new, empty series in the same study, whose images will be derived from this one's.

        Parameters
        ----------
        **values
            Tags by keyword; SeriesNumber is the next free one where not given.
        """
        self._require()
        key = SeriesKey(*self._key)
        return Series(self._store, transfer.add_series(self._store, key[:2], values, key))

    def plot(
        self,
        dims: Sequence[Any] | str | None = None,
        *,
        overlay: Any = None,
        figure: Figure | None = None,
        **options: Any,
    ) -> Figure:
        """Draw the images of the series; see `xdicom.plotting.plot`.

        Parameters
        ----------
        dims
            As in `to_xarray`. Where they are not given and cannot be inferred, images come by InstanceNumber.
        overlay
            A mask over the images, 0 outside: a series or an array on the same grid.
        figure
            Drawn into, such as `matplotlib.pyplot.figure()`; by default a new one, which a notebook shows.
        **options
            `window`, `colormap`, `limit`, `title`; and along which part of a dim, such as ``EchoTime=4.9``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        PixelError
            If the series has no images, or images of different size.
        GeometryError
            If the mask lies on another grid.
        """
        try:
            da = self.to_xarray(dims)
        except StackError:
            if dims is not None:
                raise
            da = self.to_xarray(("frame",))
        mask = overlay.to_xarray() if isinstance(overlay, Record) else overlay
        return plot(da, overlay=mask, figure=figure, **options)

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
                replace_images(self._store, key, da, limits=range, spacing=spacing, progress=progress)
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
        self.set_xarray(as_dataarray(array, dims, coords), **options)


def _matches(store: Store, key: tuple[str, ...], conditions: dict[str, Any]) -> bool:
    return any(matching_rows(table, conditions).any() for table in store.tables(key))
