"""How long it takes from a catalog to pixels in memory, and how many bytes are read for one frame."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

import xdicom as xd
from xdicom import locations
from xdicom.source import Source

from .data import Absent, Grid, files_in, synthetic, warm, writable
from .table import Row, judged, seconds
from .timing import medians, medians_of, timed

_ROUNDS = 9
_DIMS = ("SliceLocation", "FlipAngle")


# -- whole series


def whole_series(folder: Path) -> list[Row]:
    """Measure reading a CT series to float32, beside a bare loop, SimpleITK and pydicom."""
    root = writable("pelvis-ct", folder / "series")
    files = files_in(root)
    warm(files)
    loop = BareLoop(files)
    calls: dict[str, Callable[[], object]] = {
        "bare": loop.run,
        "fresh": loop.run_fresh,
        "ndarray": lambda: series.ndarray(dtype="float32"),
        "compute": lambda: series.to_xarray(dtype="float32").compute(),
        "chunks=None": lambda: series.to_xarray(dtype="float32", chunks=None),
        "pydicom": lambda: _pydicom_loop(files),
    }
    rows = []
    try:
        calls["SimpleITK"] = _simpleitk(root)
    except Absent as reason:
        rows.append(Row("whole series to float32", "pelvis-ct", verdict=f"skipped: {reason}"))
    db = xd.database(root)
    (series,) = db.series()
    loop.check(series.ndarray(dtype="float32"))
    times = medians(calls, _ROUNDS)
    db.close()
    on = "pelvis-ct (150 x 512 x 512)"
    floors = {
        "bare": ("preadv + rescale, array ready", 1.5),
        "fresh": ("the same, new array", None),
        "SimpleITK": ("SimpleITK ImageSeriesReader", None),
        "pydicom": ("pydicom loop", None),
    }
    for peer, (title, goal) in floors.items():
        if peer in times:
            rows.append(_compared("series.ndarray()", on, times["ndarray"], title, times[peer], goal))
    for name in ("compute", "chunks=None"):
        what = "to_xarray().compute()" if name == "compute" else "to_xarray(chunks=None)"
        rows.append(_compared(what, on, times[name], floors["bare"][0], times["bare"], None))
    return rows


def whole_series_all_cores(folder: Path) -> list[Row]:
    """Measure reading a CT series to float32 on every processor; the bare loop has one."""
    root = writable("pelvis-ct", folder / "series")
    loop = BareLoop(files_in(root))
    db = xd.database(root)
    (series,) = db.series()
    times = medians(
        {
            "bare": loop.run,
            "ndarray": lambda: series.ndarray(dtype="float32"),
            "compute": lambda: series.to_xarray(dtype="float32").compute(),
        },
        _ROUNDS,
    )
    db.close()
    on = f"pelvis-ct, {os.cpu_count()} processors"
    title = "preadv + rescale, one processor"
    return [
        _compared("series.ndarray()", on, times["ndarray"], title, times["bare"], None),
        _compared("to_xarray().compute()", on, times["compute"], title, times["bare"], None),
    ]


def _compared(what: str, on: str, time: float, peer: str, other: float, goal: float | None) -> Row:
    """Return a row that compares two times; a goal is the most that the first may be of the second."""
    ratio = time / other
    text = f"{ratio:.2f} x the time" if ratio > 0.8 else f"{1 / ratio:.1f} x faster"
    return Row(
        what,
        on,
        seconds(time),
        f"{peer}: {seconds(other)}",
        text,
        f"at most {goal} x" if goal else "",
        judged(ratio <= goal) if goal else "reported",
    )


class BareLoop:
    """The least that anybody has to do: preadv into a buffer, slope and intercept into a float32 array.

    Where pixels are and how they are scaled is known beforehand.
    """

    def __init__(self, files: list[Path]) -> None:
        datasets = sorted((pydicom.dcmread(path) for path in files), key=lambda ds: int(ds.InstanceNumber))
        self._frames = [self._frame(ds) for ds in datasets]
        self._buffer = np.empty(datasets[0].pixel_array.shape, datasets[0].pixel_array.dtype)
        self._ready = np.zeros((len(files), *self._buffer.shape), np.float32)

    @staticmethod
    def _frame(ds: Any) -> tuple[str, int, np.float32, np.float32]:
        start = Path(ds.filename).read_bytes().rindex(ds.PixelData)
        return ds.filename, start, np.float32(ds.RescaleSlope), np.float32(ds.RescaleIntercept)

    def run(self) -> None:
        """Read into an array whose memory is there already."""
        self._fill(self._ready)

    def run_fresh(self) -> None:
        """Read into a new array, as whoever wants several series has to."""
        self._fill(np.empty(self._ready.shape, np.float32))

    def _fill(self, out: np.ndarray) -> None:
        target = [memoryview(self._buffer).cast("B")]
        for values, (path, start, slope, intercept) in zip(out, self._frames, strict=True):
            file = os.open(path, os.O_RDONLY)
            os.preadv(file, target, start)
            os.close(file)
            np.copyto(values, self._buffer)
            np.multiply(values, slope, out=values)
            np.add(values, intercept, out=values)

    def check(self, array: np.ndarray) -> None:
        """Hold what xdicom reads, shape (x, y, n), against what the loop does."""
        self.run()
        np.testing.assert_array_equal(np.moveaxis(array, (0, 1), (2, 1)), self._ready)


def _pydicom_loop(files: list[Path]) -> np.ndarray:
    datasets = sorted((pydicom.dcmread(path) for path in files), key=lambda ds: int(ds.InstanceNumber))
    return np.stack([ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept) for ds in datasets])


def _simpleitk(root: Path) -> Callable[[], object]:
    """Return a call of SimpleITK that names and reads the only series of a folder."""
    try:
        import SimpleITK as sitk
    except ImportError:
        raise Absent("no SimpleITK: pip install simpleitk") from None

    def read() -> object:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(os.fspath(root)))
        reader.SetOutputPixelType(sitk.sitkFloat32)
        return sitk.GetArrayViewFromImage(reader.Execute())

    return read


# -- one frame


class CountingSource(Source):
    """A source that counts the bytes which are read."""

    bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        block = super().read(offset, length)
        CountingSource.bytes_read += len(block)
        return block

    def read_into(self, offset: int, target: memoryview) -> int:
        count = super().read_into(offset, target)
        CountingSource.bytes_read += count
        return count


def one_frame(folder: Path) -> list[Row]:
    """Measure one labelled frame of 2,000, and count the bytes that are read for it."""
    grid = Grid(20, 100, 128)
    root = synthetic(grid, folder / "series")
    db = xd.database(root)
    da = db.series()[0].to_xarray(dims=_DIMS)
    db.close()
    angles = iter(np.random.default_rng(0).permutation(grid.angles) + 1)

    def read() -> object:
        return da.sel(FlipAngle=float(next(angles))).sel(SliceLocation=12.5, method="nearest").values

    read()
    time = medians({"read": read}, 50)["read"]
    locations.Source = CountingSource  # type: ignore[misc]
    read()
    locations.Source = Source  # type: ignore[misc]
    most = 2 * grid.side**2
    on = f"{grid.count:,} synthetic frames of {grid.side} x {grid.side}"
    return [
        Row("one labelled frame, graph too", on, seconds(time), goal="under 10 ms", verdict=judged(time < 10e-3)),
        Row(
            "bytes read for it",
            on,
            f"{CountingSource.bytes_read:,}",
            f"the frame: {most:,}",
            goal="no others",
            verdict=judged(CountingSource.bytes_read == most),
        ),
    ]


# -- from the table to an array


def to_two_dims(folder: Path) -> list[Row]:
    """Measure how the time to arrange frames in two dims grows with their number."""
    roots = {
        count: synthetic(Grid(20, count // 20, 128, has_pixels=False), folder / str(count)) for count in (2000, 4000)
    }
    for root in roots.values():
        xd.database(root).close()
    found = medians_of(
        {"2,000 frames": lambda: _arranged(roots[2000]), "4,000 frames": lambda: _arranged(roots[4000])}, _ROUNDS
    )
    ratio = found["4,000 frames"] / found["2,000 frames"]
    on = "synthetic frames of 128 x 128"
    return [
        Row(
            "4,000 frames to 2 dims",
            on,
            seconds(found["4,000 frames"]),
            f"2,000 frames: {seconds(found['2,000 frames'])}",
            f"{ratio:.2f} x the time",
            "at most 2.2 x",
            judged(ratio <= 2.2),
        ),
        Row("2,000 frames to 2 dims", on, seconds(found["2,000 frames"])),
    ]


def _arranged(root: Path) -> float:
    """Return the time from a table that nobody has looked at yet to a lazy array."""
    db = xd.database(root)
    try:
        (series,) = db.series()
        return timed(lambda: series.to_xarray(dims=_DIMS))
    finally:
        db.close()
