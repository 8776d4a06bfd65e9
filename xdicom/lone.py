"""Files that are read by themselves, without a catalog: tables of frames of a single file, or of a few.

What a file holds is found by `scan`; nothing is written anywhere.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import BrokenFileError, NotDicomError, RecordError
from .frames import Files, Frames
from .scan import Outcome, Scanner, SeriesKey


def lone_frames(paths: Sequence[str | os.PathLike[str]]) -> dict[SeriesKey, Frames]:
    """Read the headers of files into one table a series.

    Parameters
    ----------
    paths
        The files, each to be given once.

    Raises
    ------
    NotDicomError, BrokenFileError
        If a file is not DICOM, or cannot be used; all such files are named.
    RecordError
        If a file is not there.
    """
    names = [os.fsencode(Path(path).absolute()) for path in paths]
    absent = [os.fsdecode(name) for name in names if not os.path.isfile(name)]
    if absent:
        raise RecordError(f"{absent[0]!r} is no file: give a DICOM file, or a folder of them")
    scanner = Scanner(b"", names)
    scanner.scan(range(len(names)))
    _refuse([(os.fsdecode(name), scanner.outcomes[i]) for i, name in enumerate(names)])
    stamps = np.array([scanner.outcomes[i].stamp for i in range(len(names))], np.int64).reshape(-1, 3)
    files = Files(b"", names, stamps)
    return {key: Frames(files, *table) for key, table in scanner.tables().items()}


def _refuse(found: Sequence[tuple[str, Outcome]]) -> None:
    """Raise where some file could not be used."""
    bad = [(path, outcome) for path, outcome in found if outcome.status != "ok"]
    if bad:
        kind = BrokenFileError if any(outcome.status == "broken" for _, outcome in bad) else NotDicomError
        raise kind("; ".join(f"{path!r}: {' '.join(outcome.problems)}" for path, outcome in bad))
