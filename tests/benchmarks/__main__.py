"""Run the measurements, each in a process of its own on one processor, and print one table."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from . import catalogs, editing, graphs, inference, reading
from .data import Absent
from .table import Row, markdown

MEASUREMENTS: dict[str, Callable[[Path], list[Row]]] = {
    "first-scan": catalogs.first_scan,
    "rescan": catalogs.rescan,
    "whole-series": reading.whole_series,
    "whole-series-all-cores": reading.whole_series_all_cores,
    "one-frame": reading.one_frame,
    "two-dims": reading.to_two_dims,
    "inferred-dims": inference.inferred_dims,
    "graph": graphs.graph_size,
    "read-one-tag": editing.read_one_tag,
    "stage": editing.stage_an_edit,
    "edit-and-save": editing.edit_and_save,
    "new-pixels": editing.new_pixels,
}
_ALL_CORES = {"whole-series-all-cores", "edit-and-save", "new-pixels"}
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", choices=MEASUREMENTS, action="append", help=", ".join(MEASUREMENTS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.only or list(MEASUREMENTS)
    if arguments.child:
        (name,) = names
        json.dump([asdict(row) for row in _measured(name)], sys.stdout)
        return
    rows = [row for name in names for row in _in_child(name)]
    print(markdown(rows))
    sys.exit(any(row.verdict.startswith(("missed", "failed")) for row in rows))


def _measured(name: str) -> list[Row]:
    """Run one measurement in this process, in a temporary folder."""
    if name not in _ALL_CORES and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="xdicom-bench-") as folder:
        try:
            return MEASUREMENTS[name](Path(folder))
        except Absent as reason:
            return [Row(name, "", verdict=f"skipped: {reason}")]


def _in_child(name: str) -> list[Row]:
    """Run one measurement in a new process, so that none profits from what another has warmed or imported."""
    threads = {} if name in _ALL_CORES else _ONE_THREAD
    command = [sys.executable, "-m", __package__, "--child", "--only", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, **threads}, check=False)
    if done.returncode:
        return [Row(name, "", verdict=f"failed: exit code {done.returncode}")]
    return [Row(**row) for row in json.loads(done.stdout)]


if __name__ == "__main__":
    main()
