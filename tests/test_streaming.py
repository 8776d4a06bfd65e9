"""Arrays that are larger than what memory may hold go into DICOM files chunk by chunk."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

SCRIPT = """
import resource, sys
import dask.array
import numpy as np
import xdicom as xd

dask.config.set(num_workers=2)  # a chunk in flight for each

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

frames, before = 1600, peak()
ramp = dask.array.arange(frames, chunks=16, dtype="int16")
images = dask.array.broadcast_to(ramp, (512, 512, frames), chunks=((512,), (512,), ramp.chunks[0]))
images = images.map_blocks(lambda block: block + np.int16(1), dtype="int16")
db = xd.database("folder")
series = db.new_patient(PatientID="P").new_study().new_series(SeriesDescription="large")
series.set_ndarray(images, dims="InstanceNumber", coords=[np.arange(1, frames + 1)])
staged = peak()
db.save()
saved = peak()
da = db.series()[0].to_xarray(dims="InstanceNumber", chunks={"InstanceNumber": 16})
assert da.shape == (frames, 512, 512)
assert (da.isel(row=7, column=9).values == np.arange(1, frames + 1)).all()
series.set_xarray(da + 1)
db.save()
assert int(db.series()[0].to_xarray(dims="InstanceNumber")[-1, -1, -1]) == frames + 1
db.close()
print(images.nbytes, staged - before, saved - before, peak() - before)
"""


@pytest.mark.slow
def test_memory_holds_a_few_chunks(tmp_path: Path) -> None:
    """Staging, saving, changing and saving again 840 MB each take less than half of that, the chunks in flight."""
    (tmp_path / "folder").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    size, *grown = map(int, done.stdout.split())
    assert size == 1600 * 512 * 512 * 2
    assert max(grown) < size / 2
