"""The main job on one page: DICOM opened as a labelled lazy array, T1 fitted in parallel, the map written as DICOM.

It tells what it does to a function that it is given, and prints nothing itself.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .anglesets import described, flip_angle_sets, passed_over
from .creation import database, to_xarray
from .database import Database, Series
from .display import escape, human_size, human_time
from .errors import MissingPackageError, SaveError
from .montage import Panel, montage_png
from .phantom import TISSUES, Phantom
from .phantomstudy import write_oddities, write_phantom
from .relaxation import estimate_noise, fit_t1

LONGEST_T1 = 6000.0  # ms; longer ones are clipped
_MOST_SLICES = 25  # in a picture
_MAP_WINDOW = (0.0, 2500.0)  # ms; CSF is brighter than anything then

Say = Callable[[str], None]


class TissueFit(NamedTuple):
    """What was fitted in one tissue, in ms: true T1, median, and quartiles; `unfitted` of the voxels have no T1."""

    tissue: str
    voxels: int
    unfitted: int
    truth: float
    median: float
    low_quartile: float
    high_quartile: float


@dataclass(frozen=True)
class Outcome:
    """What a demo made: the maps as read back from their files, PNG files, and the tissues of the phantom."""

    maps: list[Series]
    pictures: list[Path]
    tissues: list[TissueFit]


class _Report:
    """Tells what was done, with the time since the line before."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._begin = time.perf_counter()

    def say(self, text: str) -> None:
        """Tell one line; what headers say is no matter for a terminal."""
        self._say(escape(text))

    def done(self, text: str) -> None:
        now = time.perf_counter()
        self.say(f"{text:<88} {human_time(now - self._begin):>8}")
        self._begin = now


def run_demo(
    folder: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "xdicom-demo",
    *,
    phantom: Phantom | None = None,
    say: Say = lambda line: None,
) -> Outcome:
    """Make T1 maps from series that differ in flip angle: of a digital phantom, or of the user's own.

    Parameters
    ----------
    folder
        DICOM of spoiled gradient echoes; nothing in it is written but `.xdicom`. Without it a phantom is written to
        `out/dicom`.
    out
        A folder that is empty or not there yet. Maps go to `out/map`, pictures to `out/t1.png`, `out/t1-2.png`...
    phantom
        In place of the default one.
    say
        Called with each line of the report.

    Raises
    ------
    SaveError
        If `out` is not empty, or lies in `folder`.
    RecordError
        If no study has series that differ in flip angle and fit together.
    """
    target = Path(out)
    check_out(target, None if folder is None else Path(folder))
    report = _Report(say)
    if folder is None:
        return _on_phantom(phantom or Phantom(), target, report)
    return _on_folder(Path(folder), target, report)


def check_out(target: Path, folder: Path | None = None) -> None:
    """Raise SaveError where something of the user's could be touched."""
    shown = repr(os.fspath(target))
    if folder is not None and target.resolve().is_relative_to(folder.resolve()):
        raise SaveError(f"{shown} is inside {os.fspath(folder)!r}, where nothing is written: give another with --out")
    if target.exists() and not target.is_dir():
        raise SaveError(f"{shown} is a file: give a folder with --out")
    if target.exists() and any(target.iterdir()):
        raise SaveError(f"{shown} is not empty, and nothing in it is replaced: give another folder with --out")


# -- two journeys


def _on_phantom(phantom: Phantom, target: Path, report: _Report) -> Outcome:
    folder = target / "dicom"
    made = write_phantom(phantom, folder)
    odd = write_oddities(folder, made[0])
    size = f"{phantom.slices} oblique slices of {phantom.columns} x {phantom.rows}"
    report.done(f"phantom: {len(made)} series of {size}, and {len(odd)} odd files, in {folder}")
    with _opened(folder, report) as db:
        ((_, signal, saved),) = _mapped(db, target / "map", report)
        panels, tissues = _judged(saved, signal, phantom, report)
    return Outcome([saved], _pictured(target / "t1.png", panels, report), tissues)


def _on_folder(folder: Path, target: Path, report: _Report) -> Outcome:
    maps: list[Series] = []
    pictures: list[Path] = []
    with _opened(folder, report) as db:
        for number, signal, saved in _mapped(db, target / "map", report):
            found = saved.to_xarray(("slice_location",)).load()
            report.say(f"  {_summary(found.values)}")
            name = "t1.png" if number == 1 else f"t1-{number}.png"
            pictures += _pictured(target / name, [_input_panel(signal), _panel("T1 fitted, ms", found)], report)
            maps.append(saved)
    return Outcome(maps, pictures, [])


def _mapped(db: Database, folder: Path, report: _Report) -> Iterator[tuple[int, xr.DataArray, Series]]:
    """Yield (number, input, T1 map) of each set of flip angles; the map is in files, and read back from them."""
    sets = flip_angle_sets(db)
    for series in passed_over(db, sets):
        report.say(f"  passed over: {described(series)}")
    for number, chosen in enumerate(sets, 1):
        report.say(_heading(chosen))
        signal = _stacked(chosen, report)
        new = chosen[0].new_sibling(SeriesDescription="T1 map")
        try:
            new.set_xarray(t1_map(signal), range=(0, LONGEST_T1))
            saved = _saved(new, folder, report)
        finally:
            new.restore()  # nothing stays staged in the folder that was read
        yield number, signal, saved


# -- steps


def _opened(folder: Path, report: _Report) -> Database:
    """Open a folder and show what is in it."""
    db = database(folder)
    report.done(f"opened {folder}")
    for line in repr(db).splitlines():
        report.say(f"  {line}")
    for path, reason in db.problems():
        report.say(f"  problem: {path}: {reason}")
    return db


def _heading(chosen: list[Series]) -> str:
    """Say of whom a map is, and from what."""
    patient = ", ".join(map(str, chosen[0].PatientID))
    numbers = ", ".join(str(value) for series in chosen for value in series.SeriesNumber)
    angles = ", ".join(f"{series.FlipAngle[0]:g}" for series in chosen)
    timing = f"TR {chosen[0].RepetitionTime[0]:g} ms"
    return f"T1 of {patient}: series {numbers} with flip angles {angles} degrees, {timing}"


def _stacked(chosen: list[Series], report: _Report) -> xr.DataArray:
    """Return series as one lazy array, one chunk a slice with all its flip angles."""
    signal = to_xarray(chosen, ("slice_location", "FlipAngle"), chunks={"slice_location": 1})
    sizes = ", ".join(f"{name}: {size}" for name, size in signal.sizes.items())
    report.done(f"stacked lazily: {sizes} ({human_size(signal.nbytes)}, {signal.data.npartitions} chunks)")
    return signal


def t1_map(signal: xr.DataArray) -> xr.DataArray:
    """Return T1 in ms as a lazy array, fitted chunk by chunk.

    Parameters
    ----------
    signal
        Spoiled gradient echoes with FlipAngle as a dim and RepetitionTime as an attribute, as `to_xarray` gives them.

    Returns
    -------
    DataArray
        Without FlipAngle; float32, NaN where there is no T1, see `xdicom.relaxation.fit_t1`.
    """
    middle = signal.isel(slice_location=signal.sizes["slice_location"] // 2)
    mapped: xr.DataArray = xr.apply_ufunc(
        fit_t1,
        signal,
        input_core_dims=[["FlipAngle"]],
        kwargs={
            "flip_angles": signal["FlipAngle"].values,
            "repetition_time": float(signal.attrs["RepetitionTime"]),
            "noise": estimate_noise(middle.transpose("FlipAngle", "row", "column").values),
        },
        dask="parallelized",
        output_dtypes=[np.float32],
        keep_attrs=True,
    )
    return mapped


def _saved(new: Series, folder: Path, report: _Report) -> Series:
    """Write a map as DICOM, and return it as read back from the files."""
    report.done("fitted T1 and staged the map")
    uid = new.key[-1]
    count = len(new.frames())
    new.save(folder)
    report.done(f"wrote the map: {count} DICOM files in {folder}")
    (saved,) = database(folder).series(SeriesInstanceUID=uid)
    return saved


def _judged(
    saved: Series, signal: xr.DataArray, phantom: Phantom, report: _Report
) -> tuple[list[Panel], list[TissueFit]]:
    """Compare a map with the phantom at the places where its files say that it is, and tell the difference."""
    found = saved.to_xarray(("slice_location",)).load()
    tissues = compare(found.values, phantom.labels(saved.affine))
    report.done("read the map back and compared it with the truth, where its headers say that it is")
    report.say(f"  {'T1 in ms':<14}{'voxels':>8}{'truth':>8}{'median':>8}{'error':>16}{'quartiles of the error':>26}")
    for each in tissues:
        low, high = each.low_quartile - each.truth, each.high_quartile - each.truth
        error = each.median - each.truth
        report.say(
            f"  {each.tissue:<14}{each.voxels:>8}{each.truth:>8.0f}{each.median:>8.0f}"
            f"{error:>+7.1f} ({100 * error / each.truth:+.2f} %)"
            f"{low:>+10.1f} to {high:+.1f} ({100 * low / each.truth:+.1f} to {100 * high / each.truth:+.1f} %)"
        )
    truth = found.copy(data=phantom.t1(saved.affine))
    maps = [_panel(title, da, _MAP_WINDOW) for title, da in (("T1 fitted, ms", found), ("T1 true, ms", truth))]
    return [_input_panel(signal), *maps], tissues


def compare(found: NDArray[np.floating], labels: NDArray[np.uint8]) -> list[TissueFit]:
    """Return how fitted T1 is spread in each tissue.

    Parameters
    ----------
    found
        T1 in ms, NaN where there is none.
    labels
        Of the same shape, see `Phantom.labels`.
    """
    fits = []
    for label, tissue in enumerate(TISSUES, 1):
        values = found[labels == label]
        fitted = values[np.isfinite(values)]
        if fitted.size:
            low, middle, high = np.percentile(fitted, (25, 50, 75)).tolist()
            missing = values.size - fitted.size
            fits.append(TissueFit(tissue.name, values.size, missing, tissue.t1, middle, low, high))
    return fits


def _summary(values: NDArray[np.floating]) -> str:
    fitted = values[np.isfinite(values)]
    if not fitted.size:
        return "no voxel could be fitted"
    low, middle, high = np.percentile(fitted, (25, 50, 75))
    return f"T1 of {fitted.size:,} voxels: median {middle:.0f} ms, quartiles {low:.0f} and {high:.0f} ms"


# -- pictures


def _input_panel(signal: xr.DataArray) -> Panel:
    """Return the panel of the flip angle in the middle."""
    one = signal.isel(FlipAngle=signal.sizes["FlipAngle"] // 2)
    return _panel(f"input, flip angle {float(one['FlipAngle']):g} degrees", one)


def _panel(title: str, da: xr.DataArray, window: tuple[float, float] | None = None) -> Panel:
    """Return some slices of a volume as a panel, maps in colour."""
    count = da.sizes["slice_location"]
    chosen = np.linspace(0, count - 1, min(count, _MOST_SLICES)).round().astype(int)
    spacing = (float(da["row_spacing"]), float(da["column_spacing"]))
    colormap = "gray" if title.startswith("input") else "viridis"
    return Panel(title, da.isel(slice_location=chosen).values, window, colormap, spacing)


def _pictured(path: Path, panels: list[Panel], report: _Report) -> list[Path]:
    try:
        montage_png(path, panels)
    except MissingPackageError as error:
        report.say(f"no picture: {error}")
        return []
    report.done(f"drew {path}")
    return [path]
