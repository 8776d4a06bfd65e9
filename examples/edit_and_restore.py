"""Edit tags and pixels, look at what is staged, take some of it back, and save the rest."""

import numpy as np

import xdicom as xd

volume = np.arange(3 * 16 * 16, dtype=np.int16).reshape(3, 16, 16)
xd.as_series(volume, SeriesDescription="T1", PatientName="Doe^Jane", EchoTime=4.6).save("scans")

with xd.database("scans") as db:
    series = db.series()[0]

    # An edit is staged: it is seen at once, and no file changes.
    series.SeriesDescription = "T1 axial"
    series.EchoTime = 5.0
    series.patient.PatientName = "Roe^Ann"
    del series.PatientSex

    # So are pixels.
    series.set_xarray(series.to_xarray() * 2)

for change in xd.database("scans").status():  # what is staged outlives the program
    print(change.what, list(change.before), "->", list(change.after))

with xd.database("scans") as db:
    series = db.series()[0]
    series.restore("EchoTime")  # one tag
    assert series.EchoTime == 4.6

    db.save()  # all files or none, also if the power fails
    assert db.status() == []
    print(db)

    series.remove()  # is staged as well
    db.restore()
    assert len(db.series()[0].frames()) == 3
