"""From a folder to values: which bytes of which files are read, counted at the source, and how large a graph is."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import factories
import numpy as np
import pytest
import xarray as xr
from test_locations import synthetic

import xdicom as xd
from xdicom import frames, locations
from xdicom.array import FrameArray, chunk_sizes
from xdicom.source import Source

ROWS, COLUMNS = 6, 5
FRAME = ROWS * COLUMNS * 2
ANGLES = [5, 10, 15, 20]
DIMS = ("SliceLocation", "FlipAngle")


class Counter:
    """What was read: the bytes, and how often a file was opened."""

    def __init__(self) -> None:
        self.nbytes, self.opened = 0, 0

    def source(self) -> type[Source]:
        """Return a class of sources that tell this counter."""
        counter = self

        class CountingSource(Source):
            """A source that tells what is read."""

            def __init__(self, path: Any) -> None:
                super().__init__(path)
                counter.opened += 1

            def read(self, offset: int, length: int) -> bytes:
                block = super().read(offset, length)
                counter.nbytes += len(block)
                return block

            def read_into(self, offset: int, target: memoryview) -> int:
                count = super().read_into(offset, target)
                counter.nbytes += count
                return count

        return CountingSource


@pytest.fixture
def made(tmp_path: Path) -> factories.Series:
    """A series of 3 slices at 4 flip angles."""
    return factories.make_series(
        tmp_path / "data", 3, {"FlipAngle": ANGLES}, shape=(ROWS, COLUMNS), slope=2.0, intercept=1.0
    )


@pytest.fixture
def series(made: factories.Series) -> Iterator[xd.Series]:
    """It, in an open database."""
    db = xd.database(made.folder)
    yield db.series()[0]
    db.close()


@pytest.fixture
def counter(series: xd.Series, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """A counter of whatever is read after the scan."""
    counter = Counter()
    for module in (locations, frames):
        monkeypatch.setattr(module, "Source", counter.source())
    return counter


def test_lazy_array_opens_no_file(series: xd.Series, counter: Counter) -> None:
    """Making a lazy array, with all its coordinates and attributes, opens no file."""
    series.to_xarray(dims=DIMS)
    assert (counter.opened, counter.nbytes) == (0, 0)


def test_labelled_frame_reads_its_bytes_only(series: xd.Series, made: factories.Series, counter: Counter) -> None:
    """A frame picked by labels, one after the other, reads the bytes of its pixels and no others."""
    da = series.to_xarray(dims=DIMS)
    picked = da.sel(FlipAngle=10).sel(SliceLocation=float(da.SliceLocation[1]) + 0.5, method="nearest")
    np.testing.assert_array_equal(picked.values, made.values[1, 1])
    assert (counter.opened, counter.nbytes) == (1, FRAME)


@pytest.mark.parametrize(
    ("select", "opened", "nbytes"),
    [
        pytest.param(lambda da: da.sel(FlipAngle=10), 3, 3 * FRAME, id="volume"),
        pytest.param(lambda da: da.sel(FlipAngle=slice(10, 15)), 6, 6 * FRAME, id="slice of labels"),
        pytest.param(lambda da: da.isel(SliceLocation=0, FlipAngle=0, row=2), 1, COLUMNS * 2, id="row of a frame"),
        pytest.param(lambda da: da.isel(SliceLocation=0, row=slice(1, 3)), 4, 4 * 2 * COLUMNS * 2, id="rows of frames"),
        pytest.param(
            lambda da: da.isel(SliceLocation=slice(None, None, -2)), 8, 8 * FRAME, id="every other slice back"
        ),
        pytest.param(lambda da: da.isel(SliceLocation=slice(0, 0)), 0, 0, id="nothing"),
    ],
)
def test_selection_reads_its_bytes_only(
    select: Callable[[xr.DataArray], xr.DataArray], opened: int, nbytes: int, series: xd.Series, counter: Counter
) -> None:
    """Each selection opens the files of its frames only, and reads the rows in it only."""
    select(series.to_xarray(dims=DIMS)).compute()
    assert (counter.opened, counter.nbytes) == (opened, nbytes)


def test_ndarray_reads_every_frame_once(series: xd.Series, counter: Counter) -> None:
    """Reading a series into memory opens each file once and reads each pixel once."""
    series.ndarray(dtype="float32")
    assert (counter.opened, counter.nbytes) == (12, 12 * FRAME)


def test_every_tag_is_answered_without_opening_a_file(series: xd.Series, counter: Counter) -> None:
    """Any tag of a series that is known to the catalog is answered from it."""
    for tag in series.frames().tags():
        series[tag]
    assert counter.opened == 0


# -- what is sent to workers


@pytest.mark.parametrize(
    ("files", "most"), [pytest.param(10_000, 40, id="a file each"), pytest.param(1, 1, id="one file")]
)
def test_graph_of_10000_frames_is_small(files: int, most: float) -> None:
    """The graph of 10,000 frames with default chunks takes less than 40 bytes a frame, before and after optimising."""
    table = synthetic(10_000, files)
    table = replace(table, formats=tuple(replace(fmt, rows=128, columns=128) for fmt in table.formats))
    whole = FrameArray(table, (100, 100), None, np.dtype("int16"), rescale=True)
    sizes = chunk_sizes(whole.shape, whole.dtype, ("SliceLocation", "FlipAngle", "row", "column"), "auto")
    array = whole.chunked(sizes)
    (optimised,) = dask.optimize(array)
    assert array.npartitions > 1
    assert max(len(pickle.dumps(graph)) for graph in (array.dask, optimised.dask)) < most * 10_000
