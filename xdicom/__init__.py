"""DICOM folders as labelled lazy arrays, and arrays as DICOM again.

Modules, in the order in which data flows; each imports only those before it:
values (`errors`, `tags`, `geometry`), one file (`source`, `walker`, `header`, `pixels`, `instance`, `locations`, `writer`),
one folder (`frames`, `attributes`, `scan`, `catalog`, `edits`), arrays (`stack`, `array`), faces (`create`, `derive`,
`display`, `store`, `saving`, `records`, `database`, `cli`).
"""

from . import errors
from .attributes import register_attribute
from .database import (
    Database,
    Patient,
    Series,
    Study,
    as_series,
    database,
    empty,
    full,
    merge,
    ones,
    series,
    to_xarray,
    zeros,
)

__version__ = "0.1.0"

__all__ = [
    "Database",
    "Patient",
    "Series",
    "Study",
    "as_series",
    "database",
    "empty",
    "errors",
    "full",
    "merge",
    "ones",
    "register_attribute",
    "series",
    "to_xarray",
    "zeros",
]
