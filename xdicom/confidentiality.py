"""The Basic Application Level Confidentiality Profile of PS3.15 Annex E on one dataset, nested ones included.

It is stricter than its Table E.1-1: text, bytes and patient data stay only where they are known to be technical. It
knows no files.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from . import __version__

Tokens = frozenset[str]

_STANDARD_UID = "1.2.840.10008."
_DATES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TEXTS = _words("AE AS LO LT SH ST UC UR UT")
_BYTES = _words("OB OD OF OL OV OW UN")
_NUMBERS = _words("DS IS")
_LEAST_TOKEN = 3

# Groups of which nothing is technical: patient, trial, lens and place, study and visit management, hanging protocols,
# work lists, topic, authorisation, signatures, film, print, labels, reports, padding.
_GROUPS = frozenset(
    int(group, 16)
    for group in _words("0010 0012 0016 0032 0038 0072 0074 0088 0100 0400 2030 2100 2200 4000 4008 FFFA FFFC")
)
_EMPTIED = _words(
    "AccessionNumber StudyDate StudyTime StudyID ReferringPhysicianName PatientBirthDate PatientSex ContentDate "
    "ContentTime AcquisitionDate AcquisitionTime"
)
_PSEUDONYMS = _words("PatientID PatientName")
_CLASSES = _words("SOPClassUID ReferencedSOPClassUID")
_KEPT_TEXTS = _words(
    """
    AttenuationCorrectionMethod AxialAcceptance CodeMeaning CodeValue CodingSchemeDesignator CodingSchemeVersion
    CollimatorGridName ConvolutionKernel DimensionDescriptionLabel FilterType GridAbsorbingMaterial ImagedNucleus
    LUTExplanation LUTLabel LongCodeValue Manufacturer ManufacturerModelName MultiCoilConfiguration
    MultiCoilElementName PositionReferenceIndicator PulseSequenceName Radiopharmaceutical ReceiveCoilManufacturerName
    ReceiveCoilName ReconstructionMethod RescaleType ScatterCorrectionMethod SegmentAlgorithmName SegmentLabel
    SequenceName SoftwareVersions StackID TransmitCoilManufacturerName TransmitCoilName TriggerSourceOrType
    TypeOfFilters VolumeLocalizationTechnique WindowCenterWidthExplanation
    """
)
_KEPT_BYTES = _words(
    """
    AlphaPaletteColorLookupTableData BluePaletteColorLookupTableData DoubleFloatPixelData ExtendedOffsetTable
    ExtendedOffsetTableLengths FloatPixelData GreenPaletteColorLookupTableData LUTData PixelData
    RedPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData
    SegmentedGreenPaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData
    """
)
_REMOVED_SEQUENCES = re.compile(
    r"Identification|Performe|Physician|Observer|Participant|Station|Institution|Custodial|Recipient|Diagnos|Issuer"
    r"|ReasonFor|^RequestAttributes|^ReferencedStudy|^ReferencedPatient|^ReferencedPerformed|^UDI|^Content(?!Qualif)"
    r"|^GraphicAnnotation|^TextObject|^GraphicObject|^AcquisitionContext|^Specimen|^Flow|^ContributingEquipment"
    r"|^EncryptedAttributes|^PrescriptionNotes|^ROICreator|^ROIInterpreter|^AdmittingDiagnoses|^ScheduledProcedure|^VerbalSource"
)
# Values by which images are read: a name that is one of their words stays a word.
_CODES = _words(
    """
    ImageType FrameType Modality PhotometricInterpretation PixelPresentation VolumetricProperties
    LossyImageCompression PresentationLUTShape SpecificCharacterSet PatientPosition BodyPartExamined Laterality
    ImageLaterality PatientOrientation ScanningSequence SequenceVariant ScanOptions MRAcquisitionType
    """
)


@dataclass(frozen=True)
class Pseudonyms:
    """New identities that are always the same for the same old ones, and cannot be guessed without the key.

    Attributes
    ----------
    key
        A secret of up to 64 bytes; the same key gives the same identities another time.
    """

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def _digest(self, kind: str, text: str, size: int) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=size, key=self.key, person=kind.encode()).digest()

    def uid(self, uid: str) -> str:
        """Return the new UID for one that is no part of the standard."""
        return f"2.25.{int.from_bytes(self._digest('uid', uid, 16), 'big')}"

    def patient(self, *identity: str) -> str:
        """Return the new PatientID for an old one, with what else identifies the patient."""
        return f"ANON{self._digest('patient', '|'.join(identity), 6).hex().upper()}"


def deidentify(ds: Dataset, pseudonyms: Pseudonyms) -> None:
    """Take what identifies a patient out of a dataset, in place.

    Parameters
    ----------
    ds
        Without file meta information. Its pixels are not looked at.
    pseudonyms
        New identities, shared by all datasets that belong together.

    Notes
    -----
    Private elements, overlays, curves and unknown elements go. UIDs that are not the standard's are replaced. Dates and
    times are emptied or removed, in sequences a dummy. What is left of text is searched for the words of every
    person's name and for the identifiers that were there.
    """
    found = tokens_of(ds)
    names = [str(ds.get(name, "") or "") for name in ("PatientID", "PatientName", "PatientBirthDate")]
    patient = pseudonyms.patient(names[0]) if names[0] else pseudonyms.patient("", *names[1:])
    for name in _PSEUDONYMS:
        setattr(ds, name, patient)
    _clean(ds, pseudonyms, found, depth=0)
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = f"xdicom {__version__}, PS3.15 Basic Profile"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    ds.DeidentificationMethodCodeSequence = [code]
    ds.LongitudinalTemporalInformationModified = "REMOVED"


def tokens_of(ds: Dataset) -> Tokens:
    """Return words that identify somebody, in lower case: of persons' names and identifiers, at any depth."""
    found: set[str] = set()
    for element in _elements(ds):
        keyword = element.keyword
        if element.VR == "PN" or keyword.endswith(("PatientID", "PatientIDs", "AccessionNumber", "AdmissionID")):
            found |= {word.casefold() for word in re.split(r"[\W_]+", str(element.value or ""))}
        elif keyword == "PatientBirthDate":
            found.add(str(element.value or ""))
    return frozenset(word for word in found if len(word) >= _LEAST_TOKEN)


def names_somebody(text: str, tokens: Tokens) -> bool:
    """Say whether a text holds a word that identifies somebody."""
    folded = text.casefold()
    return any(token in folded for token in tokens)


def _elements(ds: Dataset) -> Iterator[DataElement]:
    """Yield the elements of a dataset and of all that are nested in it; those that cannot be read are left out."""
    for tag in list(ds.keys()):
        element = _read(ds, tag)
        if element is None:
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _read(ds: Dataset, tag: Any) -> DataElement | None:
    """Return an element, None where its value is none of its VR."""
    try:
        found: DataElement = ds[tag]
        return found
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError, EOFError):
        return None


def _clean(ds: Dataset, pseudonyms: Pseudonyms, tokens: Tokens, depth: int) -> None:
    for tag in list(ds.keys()):
        element = _read(ds, tag)
        if element is None or not _stays(element, depth):
            del ds[tag]
        elif element.VR == "SQ":
            for item in element.value:
                _clean(item, pseudonyms, tokens, depth + 1)
        elif not _rewrite(element, pseudonyms, tokens, depth):
            del ds[tag]


def _stays(element: DataElement, depth: int) -> bool:
    """Say whether an element may stay, with another value perhaps."""
    keyword, vr, group = element.keyword, element.VR, element.tag.group
    if not depth and (keyword in _EMPTIED or keyword in _PSEUDONYMS):
        return True
    if group % 2 or not keyword or group in _GROUPS or 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF:
        return False
    if vr == "SQ":
        return not _REMOVED_SEQUENCES.search(keyword)
    if vr in _TEXTS:
        return keyword in _KEPT_TEXTS
    if vr in _BYTES or "OW" in vr:
        return keyword in _KEPT_BYTES
    return vr != "PN" and keyword != "ModifyingDeviceID" and (vr not in _DATES or depth > 0)


def _rewrite(element: DataElement, pseudonyms: Pseudonyms, tokens: Tokens, depth: int) -> bool:
    """Give an element a value that identifies nobody; return False where it has to go."""
    keyword, vr = element.keyword, element.VR
    if keyword in _PSEUDONYMS:
        return True
    if not depth and keyword in _EMPTIED:
        element.value = ""
    elif vr in _DATES:
        element.value = _DATES[vr] if element.value else ""
    elif vr == "UI" and keyword not in _CLASSES:
        uids = element.value if element.VM > 1 else [element.value or ""]
        new = [uid if not uid or uid.startswith(_STANDARD_UID) else pseudonyms.uid(uid) for uid in map(str, uids)]
        element.value = new if len(new) > 1 else new[0]
    elif vr in _NUMBERS:
        return not isinstance(element.value, str)
    elif vr == "CS":
        return keyword in _CODES or not names_somebody(str(element.value), tokens)
    elif vr in _TEXTS:
        return not names_somebody(str(element.value), tokens)
    return True
