"""Make DICOM from a numpy array: with a geometry, and with patient, study and series of your choice."""

import numpy as np

import xdicom as xd

# A ball in a box: axes (slice, column, row), as the shape is read where no dims are named.
z, x, y = np.mgrid[-5:5, -20:20, -30:30]
ball = 1000.0 * (x**2 + y**2 + (4 * z) ** 2 < 300)

series = xd.as_series(
    ball,
    spacing=(1.0, 1.0, 4.0),  # mm between columns, rows and slices
    PatientName="Ball^Round",
    PatientID="B1",
    StudyDescription="Shapes",
    SeriesDescription="ball",
)
series.StudyDate = "2024-02-29"
series.AcquisitionTime = 12 * 60 * 60  # seconds since midnight
series.colormap = "viridis"

# A second series in the same study, derived from the first: geometry and references follow.
edge = series.new_sibling(SeriesDescription="edge")
da = series.to_xarray()
edge.set_xarray(abs(da.diff("column", label="lower")).reindex_like(da, fill_value=0))

series.database.save("shapes")

with xd.database("shapes") as db:
    print(db)
    back = db.series(SeriesDescription="ball")[0]
    assert np.array_equal(back.ndarray(dims="slice_location"), ball.transpose(1, 2, 0))
    print(back.affine)
    back.plot().savefig("ball.png")
