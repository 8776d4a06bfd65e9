"""How large the graph of a lazy array is when it is sent to a worker."""

import pickle
from pathlib import Path
from typing import Any

import dask

import xdicom as xd

from .data import Grid, multiframe, synthetic
from .table import Row, judged

_COUNT = 10_000
_MOST = 40


def graph_size(folder: Path) -> list[Row]:
    """Measure the pickled graph of 10,000 frames in single files, and in one."""
    single = synthetic(Grid(100, _COUNT // 100, 128, has_pixels=False), folder / "single")
    several = multiframe(_COUNT, 128, folder / "several")
    return [
        _row("in one file each", xd.database(single), ("SliceLocation", "FlipAngle")),
        _row("in one file", xd.database(several), ("frame",)),
    ]


def _row(where: str, db: xd.Database, dims: tuple[str, ...]) -> Row:
    """Return the size of the graph of the only series, with default chunks."""
    da = db.series()[0].to_xarray(dims=dims)
    db.close()
    size = max(len(pickle.dumps(graph)) for graph in _graphs(da))
    chunks = da.data.npartitions
    return Row(
        "graph, pickled",
        f"{_COUNT:,} synthetic frames {where}, {chunks} chunks",
        f"{size:,} bytes, {size / _COUNT:.1f} a frame",
        goal=f"under {_MOST} a frame",
        verdict=judged(size / _COUNT < _MOST),
    )


def _graphs(da: Any) -> list[Any]:
    """Return the graph as it is, and as dask optimises it before it runs."""
    (optimised,) = dask.optimize(da.data)
    return [da.data.dask, optimised.dask]
