"""A folder of DICOM without what identifies patients: the basic profile of PS3.15 on every image, into another folder.

What is done to a dataset is known in `confidentiality`. What cannot be cleaned is left out, and told.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import dcmwrite
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

from .confidentiality import Pseudonyms, deidentify, tokens_of
from .errors import SaveError
from .folder import list_files
from .naming import inside, uid_digits

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_LEAST_BYTES = 5  # of a word that is looked for in compressed pixels: shorter ones are there by chance
# Images that often show text, of which nobody said that they do not.
_SHOWING_TEXT = frozenset(["US", "IVUS", "ES", "XC", "GM", "SM", "OP", "OT", "SC", "DOC"])


class Anonymised(NamedTuple):
    """What came of a folder: files written; files left out, and files to look at, each as (path, reason)."""

    written: list[Path]
    left_out: list[tuple[str, str]]
    to_look_at: list[tuple[str, str]]


def anonymise(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    key: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Anonymised:
    """Write the images of a folder into another one without what identifies patients.

    Parameters
    ----------
    source
        A folder of DICOM; nothing in it is written.
    target
        A new or empty folder outside of it. Its files are named by new UIDs.
    key
        A secret of 16 to 64 bytes, by which another call gives the same patients and UIDs the same new ones; without it
        nobody can, and images of one study belong together only if they are in one call.
    progress
        Called with the number of files done and that of all.

    Returns
    -------
    Anonymised
        Left out are files that are no DICOM or broken, objects without pixels (reports, documents, presentation
        states), images of which BurnedInAnnotation says that they show text, and those with a name in their compressed
        pixels. Images of kinds that often show text are written, and listed as to be looked at.

    Raises
    ------
    SaveError
        If the target is not empty, or lies in the source.
    ValueError
        If the key is too short or too long.

    Notes
    -----
    PS3.15 Annex E, Basic Application Level Confidentiality Profile, no options; see `confidentiality` for what is
    stricter. Pixels are not changed: faces in head scans, and text in them, stay. With private elements go what vendors
    hide there: b-values, and how Siemens mosaics are divided; with times the order of a dynamic series, unless
    InstanceNumber says it.
    """
    root, out = Path(source), Path(target)
    _refuse(root, out)
    if key is not None and not 16 <= len(key) <= 64:
        raise ValueError(f"a key of {len(key)} bytes; expected 16 to 64, such as secrets.token_bytes(32)")
    pseudonyms = Pseudonyms() if key is None else Pseudonyms(key)
    result = Anonymised([], [], [])
    files = sorted(path for path, _ in list_files(os.fsencode(root.resolve())))
    for number, name in enumerate(files):
        path = os.fsdecode(name)
        reason = _anonymise_file(
            Path(os.fsdecode(os.path.join(os.fsencode(root), name))), path, out, pseudonyms, result
        )
        if reason:
            result.left_out.append((path, reason))
        if progress:
            progress(number + 1, len(files))
    return result


def _refuse(root: Path, out: Path) -> None:
    if not root.is_dir():
        raise SaveError(f"{str(root)!r} is no folder; give the folder that holds the DICOM files")
    if out.resolve().is_relative_to(root.resolve()):
        raise SaveError(
            f"{str(out)!r} is inside {str(root)!r}, whose names it would be found under: give another folder"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SaveError(f"{str(out)!r} is not a new or empty folder, and nothing in it is replaced: give another")


def _anonymise_file(path: Path, shown: str, out: Path, pseudonyms: Pseudonyms, result: Anonymised) -> str:
    """Write one file; return why it is left out, "" where it is not."""
    with warnings.catch_warnings():
        # Of values that are against the standard; they are dropped or kept as the profile says.
        warnings.simplefilter("ignore")
        try:
            ds = dcmread(path)
            reason = _unfit(ds)
            if reason:
                return reason
            remark = _doubtful(ds)
            syntax = ds.file_meta.TransferSyntaxUID
            deidentify(ds, pseudonyms)
            written = _write(ds, syntax, out)
        except FileExistsError:
            return "it is the same instance as another file"
        except InvalidDicomError:
            return "it is no DICOM"
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, EOFError, OSError) as error:
            return f"it cannot be read or written: {type(error).__name__}"
    result.written.append(written)
    if remark:
        result.to_look_at.append((str(written), remark))
    return ""


def _unfit(ds: Dataset) -> str:
    """Say why an object cannot be cleaned, "" where it can."""
    name = next((name for name in _PIXELS if name in ds), "")
    if not name:
        return "it has no pixels: reports and the like are free text"
    if str(ds.get("BurnedInAnnotation", "")).upper() == "YES":
        return "BurnedInAnnotation is YES: its pixels show text"
    if any(0x6000 <= tag.group <= 0x60FF and tag.element == 0x0102 and ds[tag].value for tag in ds.keys()):  # noqa: SIM118
        return "an overlay is in the bits of its pixels"
    if ds.file_meta.TransferSyntaxUID.is_compressed and name == "PixelData":
        folded = ds.PixelData.lower()
        if any(word.encode() in folded for word in tokens_of(ds) if len(word) >= _LEAST_BYTES):
            return "a name is in its compressed pixels"
    return ""


def _doubtful(ds: Dataset) -> str:
    """Say why somebody should look at an image."""
    if str(ds.get("BurnedInAnnotation", "")).upper() == "NO":
        return ""
    modality = str(ds.get("Modality", ""))
    kinds = {modality, str(ds.get("ConversionType", "")) and "SC"}
    return f"{modality or 'an image of no modality'}: its pixels may show text" if kinds & _SHOWING_TEXT else ""


def _write(ds: Dataset, syntax: str, out: Path) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    ds.file_meta, ds.preamble = meta, b"\0" * 128
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    parts = [ds.PatientID, *(uid_digits(ds[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID"))]
    path = inside(out, "/".join([*parts, f"{uid_digits(ds.SOPInstanceUID, 16)}.dcm"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        dcmwrite(file, ds, enforce_file_format=True)
    return path
