"""Write the images of a folder into another one without what identifies the patient (PS3.15, basic profile)."""

import secrets

import numpy as np

import xdicom as xd
from xdicom.anonymise import anonymise

# A scan with a name where names are found in practice.
scan = xd.as_series(
    np.zeros((3, 16, 16)), PatientName="Stradivari^Antonio", PatientID="4711", PatientBirthDate="1956-12-03"
)
scan.SeriesDescription = "Stradivari follow up"
scan.ImageComments = "compare with Stradivari 2019"
scan.ReferencedStudySequence = [
    {"ReferencedSOPClassUID": "1.2.840.10008.3.1.2.3.1", "ReferencedSOPInstanceUID": "1.2.3"}
]
scan.OperatorsName = "Amati^Nicola"
scan.set(("ACME", 0x0029, 0x01), "op. Amati", VR="LO")
scan.save("scans/Stradivari")

# One key for all parts of a project gives the same patients the same new identity; without it nobody finds back.
key = secrets.token_bytes(32)
result = anonymise("scans", "clean", key=key)
print(len(result.written), "files written")
for path, reason in result.left_out:
    print("left out:", path, reason)
for path, reason in result.to_look_at:
    print("look at:", path, reason)  # the pixels are not changed: who may show text or a face, is for you to see

with xd.database("clean") as db:
    print(db)
    assert all(b"Stradivari" not in path.read_bytes() for path in result.written)
    assert db.series()[0].PatientIdentityRemoved == "YES"
