"""Open a folder of DICOM, look at what is in it, and read one series as a labelled array."""

import shutil
from pathlib import Path

import pydicom

import xdicom as xd

# Some files that pydicom ships: three patients with CR, CT and MR.
shutil.copytree(Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests", "scans", dirs_exist_ok=True)

with xd.database("scans") as db:
    print(db)  # the tree; in a notebook, `db` alone shows it with pictures

    # Lists of records take conditions: a value, a list of values, a slice, or a function.
    (series,) = db.series(Modality=["MR", "CT"], SeriesDescription=lambda text: "Gated" in text)
    print(series.PatientName, series.StudyDate, series.SeriesDescription)

    # Every tag gives its distinct values in the series; `frames()` gives them frame by frame.
    print("positions:", series.SliceLocation, "rows:", series.Rows.item())
    print(series.frames()["InstanceNumber"])

    # Nothing is read of the pixels until they are computed.
    da = series.to_xarray()
    print(da.dims, da.shape, da.dtype, da.attrs["Modality"])
    print("brightest voxel:", float(da.max()))

    series.plot().savefig("series.png")
