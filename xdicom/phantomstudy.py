"""The phantom as a DICOM study in a folder, and beside it three files for a reader to stumble over.

What the phantom looks like is known in `phantom`.
"""

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from .creation import database
from .database import Series
from .naming import new_uid
from .phantom import Phantom

PATIENT_ID = "PHANTOM"
_DATE, _TIME = "20240101", "120000"
_BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


def write_phantom(phantom: Phantom, folder: Path) -> list[Series]:
    """Write a series of each flip angle, as scanners do.

    Parameters
    ----------
    phantom
        What is scanned, and how.
    folder
        Where to; made where needed.

    Returns
    -------
    list of Series
        Of a database that lives in the folder.
    """
    db = database()
    patient = db.new_patient(PatientID=PATIENT_ID, PatientName="Phantom^Digital")
    study = patient.new_study(StudyDescription="Variable flip angle", StudyDate=_DATE, StudyTime=_TIME, StudyID="1")
    frame_of_reference = new_uid()
    made = []
    for angle in phantom.flip_angles:
        series = study.new_series(
            SeriesDescription=f"spgr {angle:g} deg",
            FrameOfReferenceUID=frame_of_reference,
            ImageType=["ORIGINAL", "PRIMARY", "OTHER", "MAGNITUDE"],
            BodyPartExamined="HEAD",
            ScanningSequence="GR",
            SequenceVariant="SP",
            MRAcquisitionType="3D",
            RepetitionTime=phantom.repetition_time,
            EchoTime=phantom.echo_time,
            FlipAngle=angle,
        )
        # (slices, rows, columns) turned round is (x, y, n), which ndarray() returns and set_ndarray() takes.
        series.set_ndarray(phantom.image(angle).T, affine=phantom.affine)
        made.append(series)
    db.save(folder)
    return made


def write_oddities(folder: Path, like: Series) -> list[Path]:
    """Write a text file, a DICOM file that breaks off, and a structured report.

    Parameters
    ----------
    folder
        Where to.
    like
        A series there: one of its images is the one that breaks off, and the report is of its study.

    Returns
    -------
    list of Path
    """
    notes, broken, report = folder / "notes.txt", folder / "truncated.dcm", folder / "report.dcm"
    notes.write_text("This is no DICOM file: it is skipped and counted.\n", "utf-8")
    first = min((folder / PATIENT_ID).rglob("*.dcm"))
    content = first.read_bytes()
    broken.write_bytes(content[: len(content) * 2 // 3])
    _report(like).save_as(report, enforce_file_format=True)
    return [notes, broken, report]


def _report(like: Series) -> Dataset:
    """Return a Basic Text SR (PS3.3 A.35.1) of the study of a series."""
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID, report.SOPInstanceUID = _BASIC_TEXT_SR, new_uid()
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyID", "StudyDescription"):
        setattr(report, keyword, like[keyword][0])
    report.PatientBirthDate = report.PatientSex = report.AccessionNumber = report.ReferringPhysicianName = ""
    report.StudyDate = report.ContentDate = _DATE
    report.StudyTime = report.ContentTime = _TIME
    report.Modality, report.SeriesDescription, report.Manufacturer = "SR", "Remark", ""
    report.SeriesInstanceUID, report.SeriesNumber, report.InstanceNumber = new_uid(), 99, 1
    report.CompletionFlag, report.VerificationFlag = "COMPLETE", "UNVERIFIED"
    report.ReferencedPerformedProcedureStepSequence = []
    report.PerformedProcedureCodeSequence = []
    report.ValueType, report.ContinuityOfContent = "CONTAINER", "SEPARATE"
    report.ConceptNameCodeSequence = [_code("11528-7", "LN", "Radiology Report")]
    text = Dataset()
    text.RelationshipType, text.ValueType = "CONTAINS", "TEXT"
    text.ConceptNameCodeSequence = [_code("121106", "DCM", "Comment")]
    text.TextValue = "A digital phantom: no patient was scanned."
    report.ContentSequence = [text]
    return report


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
