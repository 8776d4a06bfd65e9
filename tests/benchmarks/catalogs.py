"""How long a scan takes: the first one, with the catalog written, and one that finds nothing new."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pydicom

import xdicom as xd

from .data import Absent, Grid, copies, files_in, synthetic, warm
from .table import Row, judged, seconds
from .timing import medians, medians_of, timed

_COPIES = 10
_ROUNDS = 5
_TEN_TAGS = (
    (0x0008, 0x0018),
    (0x0008, 0x0060),
    (0x0010, 0x0020),
    (0x0018, 0x0081),
    (0x0020, 0x000D),
    (0x0020, 0x000E),
    (0x0020, 0x0013),
    (0x0020, 0x0032),
    (0x0020, 0x0037),
    (0x0028, 0x0030),
)


def first_scan(folder: Path) -> list[Row]:
    """Measure the first scan of two real series, ten copies of each, beside pydicom and gdcm."""
    return _first_scan("pelvis-ct", folder, 8, None) + _first_scan("ge-fmri-4d", folder, 8, 3)


def _first_scan(name: str, folder: Path, pydicom_goal: float, gdcm_goal: float | None) -> list[Row]:
    root = copies(name, _COPIES, folder / name)
    files = files_in(root)
    warm(files)
    clocks = {
        "xdicom": lambda: _scan_time(root),
        "pydicom": partial(timed, lambda: _pydicom_headers(files)),
    }
    on = f"{name}, {_COPIES} copies ({len(files)} files)"
    try:
        clocks["gdcm"] = partial(timed, _gdcm_scan([os.fspath(path) for path in files]))
    except Absent as reason:
        problem = str(reason)
    times = medians_of(clocks, _ROUNDS)
    rows = []
    for peer, title, goal in (
        ("pydicom", "pydicom dcmread, no pixels", pydicom_goal),
        ("gdcm", "gdcm.Scanner, 10 tags", gdcm_goal),
    ):
        if peer not in times:
            rows.append(Row("first scan", on, verdict=f"skipped: {problem}"))
            continue
        ratio = times[peer] / times["xdicom"]
        rows.append(
            Row(
                "first scan with catalog",
                on,
                f"{seconds(times['xdicom'] / len(files))} a file",
                f"{title}: {seconds(times[peer] / len(files))} a file",
                f"{ratio:.1f} x faster",
                f"at least {goal} x" if goal else "",
                judged(ratio >= goal) if goal else "reported",
            )
        )
    return rows


def _scan_time(root: Path) -> float:
    """Return how long it takes until a folder that was never scanned is in a catalog, committed."""
    shutil.rmtree(root / ".xdicom", ignore_errors=True)
    opened: list[xd.Database] = []
    time = timed(lambda: opened.append(xd.database(root)))
    opened[0].close()
    return time


def _pydicom_headers(files: list[Path]) -> None:
    for path in files:  # none is kept: many live objects slow Python down
        pydicom.dcmread(path, stop_before_pixels=True)


def _gdcm_scan(names: list[str]) -> Callable[[], object]:
    """Return a call of gdcm's scanner."""
    try:
        import gdcm
    except ImportError:
        raise Absent("no gdcm: pip install python-gdcm") from None

    def scan() -> None:
        scanner = gdcm.Scanner()
        for group, element in _TEN_TAGS:
            scanner.AddTag(gdcm.Tag(group, element))
        if not scanner.Scan(names):
            raise Absent("gdcm.Scanner refused the files")

    return scan


def rescan(folder: Path) -> list[Row]:
    """Measure a scan that finds nothing new."""
    count = 20_000
    root = synthetic(Grid(100, count // 100, 16), folder / "many")
    with_catalog = xd.database(root)
    try:
        time = medians({"rescan": with_catalog.rescan}, _ROUNDS)["rescan"] / count
        reopened = medians({"open": lambda: xd.database(root).close()}, _ROUNDS)["open"] / count
    finally:
        with_catalog.close()
    on = f"{count:,} synthetic files"
    return [
        Row("rescan, nothing changed", on, f"{seconds(time)} a file", goal="under 15 us", verdict=judged(time < 15e-6)),
        Row("database() again", on, f"{seconds(reopened)} a file"),
    ]
