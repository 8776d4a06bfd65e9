"""An array as a new series of a database: in the study that it came from, where that is known.

How headers and pixels are made is known in `derive`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from . import tags
from .archived import shared_header
from .database import Database, Series
from .display import Progress
from .modules import PATIENT_TAGS, STUDY_TAGS
from .restoring import derive_series

if TYPE_CHECKING:
    import xarray as xr

_STUDY = "StudyInstanceUID"


def new_series(
    database: Database,
    da: xr.DataArray,
    *,
    like: Series | None = None,
    range: tuple[float, float] | None = None,  # noqa: A002 - the word of S5
    values: Mapping[str, Any],
) -> Series:
    """Make a series of an array; see `xdicom.accessor.DicomAccessor.to_series`."""
    if like is None and _source(database, da) is None and shared_header(da):
        made = _derived(database, da, range, values)
    else:
        made = _placeholder(database, da, like, dict(values))
        with _removed_on_failure(made):
            made.set_xarray(da, like=like, range=range)
    return made


def _derived(
    database: Database, da: xr.DataArray, limits: tuple[float, float] | None, values: Mapping[str, Any]
) -> Series:
    """Make a series by the header that an array brings: of the patient and the study that this names."""
    with Progress("computing", unit="tasks") as progress:
        key = derive_series(database._store, da, limits=limits, progress=progress)
    made = Series(database._store, key)
    with _removed_on_failure(made):
        made[list(values)] = list(values.values())
    return made


@contextmanager
def _removed_on_failure(made: Series) -> Iterator[None]:
    """Leave nothing of what was begun, also after Ctrl-C."""
    try:
        yield
    except BaseException:
        made.remove()
        raise


def _placeholder(database: Database, da: xr.DataArray, like: Series | None, values: dict[str, Any]) -> Series:
    """Make the empty series: beside the one that it follows, in the study of its array, or of a new patient."""
    source = _source(database, da) if like is None else like
    if source is not None and source.database == database:
        return source.new_sibling(**values)
    study = da.attrs.get(_STUDY) if like is None else like.key[1]
    for found in database.studies(**{_STUDY: study}) if study else ():
        return found.new_series(**values)
    patient = {name: values.pop(name) for name in list(values) if tags.as_tag(name) in PATIENT_TAGS}
    above = {name: values.pop(name) for name in list(values) if tags.as_tag(name) in STUDY_TAGS}
    return database.new_patient(**patient).new_study(**above).new_series(**values)


def _source(database: Database, da: xr.DataArray) -> Series | None:
    """Return the first series of a database that an array came from, None where it came from none of them."""
    if "source_series" not in da.coords:
        return None
    wanted = np.unique(da.coords["source_series"].values.astype(str)).tolist()
    found = {series.key[-1]: series for series in database.series()}
    return next((found[uid] for uid in wanted if uid in found), None)
