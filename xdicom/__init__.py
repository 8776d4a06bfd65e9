"""DICOM folders as labelled lazy arrays, and arrays as DICOM again.

The modules, in the order in which data flows, are listed in docs/architecture.md; each imports only those before it.
"""

from . import accessor as _accessor  # noqa: F401 - it registers da.dicom
from . import errors, wrappers
from .apply import apply
from .attributes import register_attribute
from .creation import as_series, database, empty, from_zarr, full, merge, ones, series, to_xarray, zeros
from .database import Database, Patient, Series, Study

__version__ = "0.1.0"

__all__ = [
    "Database",
    "Patient",
    "Series",
    "Study",
    "apply",
    "as_series",
    "database",
    "empty",
    "errors",
    "from_zarr",
    "full",
    "merge",
    "ones",
    "register_attribute",
    "series",
    "to_xarray",
    "wrappers",
    "zeros",
]
