"""How long it takes to stage, to save, and to read what was staged: beside pydicom, and beside plain files.

Each round works on a copy of its own in a part of the disk of its own, and all copies are made before the first: a
file system that just removed thousands of files is slow to make new ones.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

import xdicom as xd
from xdicom import flushing

from .data import Grid, copies, files_in, settle, spread, synthetic, warm
from .table import Row, judged, seconds
from .timing import medians, timed

_ROUNDS = 9


# -- one tag in many files


def edit_and_save(folder: Path) -> list[Row]:
    """Measure one tag edited in four copies of a GE series and saved, beside pydicom and beside plain files."""
    spread(folder)
    first = copies("ge-fmri-4d", 4, folder / "0")
    rounds = [first, *(_copied(first, folder / str(number)) for number in range(1, 2 * _ROUNDS))]
    contents = [path.read_bytes() for path in files_in(first)]
    times: dict[str, list[float]] = {"xdicom": [], "pydicom": [], "floor": []}
    for number in range(_ROUNDS):
        times["xdicom"].append(_edited(rounds[2 * number]))
        times["pydicom"].append(_edited_by_pydicom(rounds[2 * number + 1]))
        times["floor"].append(_written(contents, folder / f"floor {number}"))
    on = f"ge-fmri-4d, 4 copies ({len(contents)} files)"
    faster = _paired(times["pydicom"], times["xdicom"])
    slower = _paired(times["xdicom"], times["floor"])
    found = {name: seconds(statistics.median(each)) for name, each in times.items()}
    what = "edit one tag and save, durable"
    peer, floor = f"pydicom, not durable: {found['pydicom']}", f"the same bytes, one flush: {found['floor']}"
    return [
        Row(what, on, found["xdicom"], peer, f"{faster:.1f} x faster", "at least 15 x", judged(faster >= 15)),
        Row(what, on, found["xdicom"], floor, f"{slower:.2f} x the time", "at most 3 x", judged(slower <= 3)),
    ]


def _copied(source: Path, target: Path) -> Path:
    for path in files_in(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return target


def _paired(these: list[float], others: list[float]) -> float:
    """Return the median ratio of times that were measured one after the other."""
    return statistics.median(one / other for one, other in zip(these, others, strict=True))


def _edited(folder: Path) -> float:
    warm(files_in(folder))
    db = xd.database(folder)

    def edit() -> None:
        db.PatientName = "Anonymous^A"
        db.save()

    settle(folder.parent)
    try:
        return timed(edit)
    finally:
        db.close()


def _edited_by_pydicom(folder: Path) -> float:
    files = files_in(folder)
    warm(files)

    def edit() -> None:
        for path in files:
            dataset = pydicom.dcmread(path)
            dataset.PatientName = "Anonymous^A"
            dataset.save_as(path)

    settle(folder.parent)
    return timed(edit)


def _written(contents: list[bytes], folder: Path) -> float:
    """Return how long plain new files take, flushed all at once."""
    folder.mkdir()

    def write() -> None:
        names = [os.fsencode(folder / str(number)) for number in range(len(contents))]
        for name, content in zip(names, contents, strict=True):
            with open(name, "wb", buffering=0) as file:
                file.write(content)
        with flushing.flushed(names, folder):
            pass

    settle(folder.parent)
    return timed(write)


# -- new pixels


def new_pixels(folder: Path) -> list[Row]:
    """Measure new pixels for a series, staged and saved, beside plain files."""
    spread(folder)
    grid = Grid(500, 1, 256)
    rounds = [synthetic(grid, folder / str(number)) for number in range(_ROUNDS)]
    values = np.random.default_rng(0).integers(-1000, 3000, (grid.side, grid.side, grid.slices), np.int16)
    times: dict[str, list[float]] = {"xdicom": [], "floor": []}
    for number, place in enumerate(rounds):
        times["xdicom"].append(_replaced(place, values))
        times["floor"].append(_written([path.read_bytes() for path in files_in(place)], folder / f"floor {number}"))
    ratio = _paired(times["xdicom"], times["floor"])
    found = {name: seconds(statistics.median(each)) for name, each in times.items()}
    return [
        Row(
            "set_ndarray() and save()",
            f"{grid.count} x {grid.side} x {grid.side} int16",
            found["xdicom"],
            f"the same bytes, one flush: {found['floor']}",
            f"{ratio:.2f} x the time",
            "at most 2.5 x",
            judged(ratio <= 2.5),
        )
    ]


def _replaced(folder: Path, values: np.ndarray) -> float:
    db = xd.database(folder)
    (series,) = db.series()

    def replace() -> None:
        series.set_ndarray(values)
        series.save()

    settle(folder.parent)
    try:
        time_taken = timed(replace)
        np.testing.assert_array_equal(series.ndarray(), values)
        return time_taken
    finally:
        db.close()


# -- without files


def stage_an_edit(folder: Path) -> list[Row]:
    """Measure staging an edit of a small and of a large series."""
    rows = []
    for slices, angles in ((20, 5), (100, 200)):
        root = synthetic(Grid(slices, angles, 16, has_pixels=False), folder / f"{slices * angles}")
        db = xd.database(root)
        (series,) = db.series()
        names = iter(f"Number^{number}" for number in range(1000))

        def stage(series: xd.Series = series, names: object = names) -> None:
            series.PatientName = next(names)  # type: ignore[call-overload]

        stage()
        time_taken = medians({"stage": stage}, 50)["stage"]
        db.restore()
        db.close()
        on = f"{slices * angles:,} synthetic files"
        row = Row("stage an edit", on, seconds(time_taken), goal="under 1 ms", verdict=judged(time_taken < 1e-3))
        rows.append(row)
    return rows


def read_one_tag(folder: Path) -> list[Row]:
    """Measure a tag that was never read before, with the catalog of an earlier process."""
    grid = Grid(20, 100, 16)
    root = synthetic(grid, folder / "series")
    xd.database(root).close()
    found: dict[str, float] = {}
    for tag in ("FlipAngle", "PatientName"):
        found[tag] = statistics.median(_first_read(root, lambda series, tag=tag: series[tag]) for _ in range(_ROUNDS))
    slowest = max(found.values())
    on = f"{grid.count:,} synthetic files"
    return [Row("read one tag", on, seconds(slowest), goal="under 20 ms", verdict=judged(slowest < 20e-3))]


def _first_read(root: Path, read: Callable[[xd.Series], object]) -> float:
    db = xd.database(root)
    try:
        (series,) = db.series()
        gc.collect()
        start = time.perf_counter()
        read(series)
        return time.perf_counter() - start
    finally:
        db.close()
