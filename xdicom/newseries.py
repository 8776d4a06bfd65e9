"""An array as a new series of a database: in the study that it came from, where that is known.

How headers and pixels are made is known in `derive`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import tags
from .modules import PATIENT_TAGS, STUDY_TAGS

if TYPE_CHECKING:
    import xarray as xr

    from .database import Database, Series

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
    made = _placeholder(database, da, like, dict(values))
    try:
        made.set_xarray(da, like=like, range=range)
    except BaseException:
        # Nothing is left of what was begun, also after Ctrl-C.
        made.remove()
        raise
    return made


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
