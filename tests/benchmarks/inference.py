"""How long it takes to a lazy array whose dims nobody named, before any pixel is read."""

from pathlib import Path

import xdicom as xd

from .data import diffusion, longer
from .table import Row, judged, seconds
from .timing import medians_of, timed

_ROUNDS = 7
_MOST = 0.1
_SLICES, _VOLUMES = 40, 51


def inferred_dims(folder: Path) -> list[Row]:
    """Measure the first `to_xarray()` of a database that is opened anew each time, its catalog warm."""
    count = _SLICES * _VOLUMES
    heavy = longer("ge-fmri-4d", count, folder / "heavy")
    weighted = diffusion(_SLICES, _VOLUMES, 64, folder / "diffusion")
    return [
        _row(heavy, f"{count:,} frames of ge-fmri-4d, repeated"),
        _row(weighted, f"{count:,} synthetic frames of {_VOLUMES} diffusion volumes"),
    ]


def _row(folder: Path, on: str) -> Row:
    def clock() -> float:
        db = xd.database(folder)
        (series,) = db.series()
        found = timed(series.to_xarray)
        db.close()
        return found

    clock()
    time = medians_of({"first": clock}, _ROUNDS)["first"]
    return Row("to_xarray() without dims", on, seconds(time), goal="under 100 ms", verdict=judged(time < _MOST))
