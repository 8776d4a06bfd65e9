"""Arrange a series along five dimensions, and read only a part of it."""

import numpy as np

import xdicom as xd

# A series as a scanner might send it: 4 slices, 3 flip angles, 2 echoes, each image a file of its own.
angles, echoes = [5.0, 10.0, 20.0], [2.3, 4.6]
rng = np.random.default_rng(0)
signal = rng.integers(0, 4096, (4, 3, 2, 32, 24)).astype(np.uint16)
dims = ("slice", "FlipAngle", "EchoTime", "row", "column")
made = xd.as_series(signal, dims, coords={"FlipAngle": angles, "EchoTime": echoes}, spacing=(1.5, 1.5, 4))
made.SeriesDescription = "five dimensions"
made.save("scans")

with xd.database("scans") as db:
    (series,) = db.series(SeriesDescription="five dimensions")

    # Without dims they are inferred; with dims you choose, and their order is yours.
    print("inferred:", series.to_xarray().dims)
    da = series.to_xarray(dims=("slice", "FlipAngle", "EchoTime"))
    print(da.sizes)

    # Selecting reads the bytes of what is selected, here one image of 24.
    one = da.sel(FlipAngle=10, EchoTime=4.6).isel(slice=2)
    assert (one.values == signal[2, 1, 1]).all()

    # As numpy, with the axes of the DICOM standard: column, row, then the dims.
    array, coords = series.ndarray(dims=("SliceLocation", "FlipAngle", "EchoTime"), return_coords=True)
    print(array.shape, coords["EchoTime"])

    series.plot(EchoTime=4.6).savefig("five.png")
