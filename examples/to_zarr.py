"""Write a series as a Zarr store, which opens elsewhere without xdicom, and make DICOM of it again."""

import numpy as np
import xarray as xr

import xdicom as xd

volumes = np.random.default_rng(0).integers(0, 1000, (5, 4, 32, 24)).astype(np.uint16)
dims = ("TemporalPositionIdentifier", "slice", "row", "column")
xd.as_series(
    volumes,
    dims,
    coords={"TemporalPositionIdentifier": [1, 2, 3, 4, 5]},
    spacing=(2, 2, 5),
    SeriesDescription="dynamic",
).save("scans")

with xd.database("scans") as db:
    db.series()[0].to_zarr("dynamic.zarr")

# Anybody with xarray and zarr reads this, lazily, with the same dims, coordinates and tags.
with xr.open_dataset("dynamic.zarr", engine="zarr", consolidated=False) as dataset:
    print(dataset.pixels.sizes, dataset.pixels.attrs["SeriesDescription"])
    peak = dataset.pixels.max("TemporalPositionIdentifier").compute()
    print("peak:", peak.shape, float(peak.max()))

# And back: a series that can be edited and saved as DICOM.
series = xd.from_zarr("dynamic.zarr")
series.SeriesDescription = "from Zarr"
series.save("again")
with xd.database("again") as db:
    (again,) = db.series()
    print(again)
    assert np.array_equal(again.to_xarray().transpose(*dims).values, volumes)
