"""How one gets records: a folder opened, arrays and shapes made into series, series merged or read together.

What records can do is in `database`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import xarray as xr

from . import create, derive, tags, transfer
from .database import Database, Series
from .display import Progress
from .errors import RecordError
from .frames import Frames
from .labelling import as_slices
from .modules import PATIENT_TAGS, STUDY_TAGS
from .reading import keep_alive, stacked_xarray
from .records import Record
from .restoring import restore_series
from .scan import SeriesKey
from .store import Store
from .zarrs import read_store

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


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
    labelled = array if isinstance(array, xr.DataArray) else as_slices(array, dims, coords)
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
    store = first._store
    study = store.keys(first.key)[0][:2]
    target = transfer.add_series(store, study, {"SeriesDescription": "merged", **values})
    is_here = all(record._store is store for record in records)
    is_one_study = is_here and {key[:2] for record in records for key in store.keys(record.key)} == {study}
    derive.copy_frames(store, target, frames if is_here else store.own(frames), elsewhere=not is_one_study)
    return Series(store, target)


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
    defaults = {
        "chunks": "auto",
        "rescale": True,
        "mask_padding": False,
        "dtype": None,
        "missing": "raise",
        "duplicates": "raise",
    }
    unknown = options.keys() - defaults.keys()
    if unknown:
        raise TypeError(f"to_xarray has no option {sorted(unknown)}; there are {sorted(defaults)}")
    da = stacked_xarray(frames, dims, **{**defaults, **options})
    for record in records:
        keep_alive(da, record._store)
    return da


def from_zarr(path: str | os.PathLike[str], *, group: str | None = None, database: Database | None = None) -> Series:
    """Make a series of the images in a Zarr store, such as `Record.to_zarr` writes or `DataArray.to_zarr`.

    Parameters
    ----------
    path
        The store: a folder, of Zarr version 3. It may come from anywhere.
    group
        Of the series, where the store holds several; the error lists them.
    database
        Where the series is staged; by default in a new database in memory.

    Returns
    -------
    Series
        With the UIDs and the header that it had, where it was written by `Record.to_zarr`; else a new series, derived
        from the header that the array brings.

    Raises
    ------
    BrokenFileError
        If the store is damaged, or needs what is not trusted.
    RecordError
        If it has no images, or several groups of them.
    EditError
        If the series is in the database already.
    """
    store = Store() if database is None else database._store
    array = read_store(path, group)
    with Progress("reading", unit="tasks") as progress:
        return Series(store, restore_series(store, array, progress))


def _require_series(records: Sequence[Record]) -> None:
    strangers = [type(record).__name__ for record in records if not isinstance(record, Record)]
    if strangers or not records:
        raise RecordError(f"a list of series is expected, not {strangers or 'an empty list'}")
