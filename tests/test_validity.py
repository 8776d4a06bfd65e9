"""Facts about what validators say of written files: nothing that they did not say of the files that these come from."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import debian_tool
from dciodvfy import complaints, contradictions
from factories import make_series

import xdicom as xd

REAL = [
    "pelvis-ct",
    "ge-fmri-4d",
    "siemens-two-echoes",
    "rider-flip-angles",
    "philips-enhanced-b0",
    "siemens-enhanced-rest",
    "xray-angio-compressed",
    "ultrasound-palette",
]
SIGN_DEPENDENT = (0x00280106, 0x00280107, 0x00280108, 0x00280109, 0x00280120, 0x00280121)


@pytest.fixture(autouse=True)
def validators() -> None:
    """Skip where the validators are not there."""
    for tool in ("dciodvfy", "dcentvfy"):
        debian_tool(tool, "dicom3tools")


def pixel_faults(path: Path) -> list[str]:
    """Return what no validator sees: values beyond BitsStored, and VRs against PixelRepresentation."""
    dataset = pydicom.dcmread(path)
    if "PixelData" not in dataset:
        return []
    signed = bool(dataset.PixelRepresentation)
    wanted = "SS" if signed else "US"
    faults = [
        f"{tag:08X} is {dataset[tag].VR}" for tag in SIGN_DEPENDENT if tag in dataset and wanted != dataset[tag].VR
    ]
    if not dataset.file_meta.TransferSyntaxUID.is_compressed and dataset.BitsAllocated in (8, 16):
        values = np.frombuffer(dataset.PixelData, f"<{'i' if signed else 'u'}{dataset.BitsAllocated // 8}")
        half = 2 ** (dataset.BitsStored - 1)
        low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
        if values.min() < low or values.max() > high:
            faults.append(f"{values.min()} to {values.max()} in {dataset.BitsStored} bits")
    return faults


def images(folder: Path) -> xd.Series:
    """Return the first series of a folder that has images, cut to a few files."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[3:]:
        path.unlink()
    database = xd.database(folder)
    return next(series for series in database.series() if len(series.frames().images()))


def files_of(series: xd.Series) -> list[Path]:
    """Return the files of a series."""
    root = Path(series._store.root)
    return [root / path.decode() for path in series.frames().files.paths if (root / path.decode()).exists()]


def halved(series: xd.Series) -> np.ndarray:
    """Return other values for the pixels of a series."""
    values = series.ndarray()
    if values.ndim > 3:
        return (values // 257).astype(np.uint8)
    return values // 2 if values.dtype.kind in "iu" else values * 0.5


def new_pixels(series: xd.Series) -> xd.Series:
    """Give a series other pixels."""
    series.set_ndarray(halved(series))
    return series


def signed_pixels(series: xd.Series) -> xd.Series:
    """Give a series pixels with negative values."""
    series.set_ndarray(series.ndarray().astype(np.int32) // 2 - 300)
    return series


def scaled_pixels(series: xd.Series) -> xd.Series:
    """Make a new series of fractions, some of them absent."""
    values = series.ndarray() / 7
    values[0, 0, ...] = np.nan
    new = series.new_sibling(SeriesDescription="fractions")
    new.set_ndarray(values)
    return new


def another_matrix(series: xd.Series) -> xd.Series:
    """Give a series smaller images."""
    series.set_ndarray(halved(series)[::2, ::2])
    return series


def part(series: xd.Series) -> xd.Series:
    """Copy some of the frames into a series of their own."""
    return series.subseries(InstanceNumber=series.InstanceNumber[0])


def copied(series: xd.Series) -> xd.Series:
    """Copy a series into a new study."""
    study = series.patient.new_study(StudyDescription="copies")
    return series.copy_to(study)


def moved(series: xd.Series) -> xd.Series:
    """Move a series to a new patient."""
    study = series.database.new_patient(PatientID="other", PatientName="Other^One").new_study()
    return series.move_to(study) or series


OPERATIONS = [new_pixels, signed_pixels, scaled_pixels, another_matrix, part, copied, moved]
# Ultrasound is in colour, which has neither fractions nor negative values; X-ray images are unsigned.
IMPOSSIBLE = {("ultrasound-palette", signed_pixels), ("ultrasound-palette", scaled_pixels)}
IMPOSSIBLE |= {("xray-angio-compressed", signed_pixels)}


CASES = [(name, operation) for name in REAL for operation in OPERATIONS if (name, operation) not in IMPOSSIBLE]


@pytest.mark.parametrize(("name", "operation"), CASES, ids=[f"{name}-{done.__name__}" for name, done in CASES])
def test_written_files_have_no_new_errors(name: str, operation: Callable[[xd.Series], xd.Series], real_copy):
    """Whatever is done with a real series, the files written have no error, alone or together, that it had not."""
    series = images(real_copy(name))
    sources = files_of(series)
    before = {complaint for path in sources for complaint in complaints(path)[1]}
    together = contradictions(sources)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pixels lose is not the question here
        written = operation(series)
        series.database.save()
    files = files_of(written)
    assert files
    found = {complaint for path in files for complaint in complaints(path)[1]}
    assert sorted(text for severity, text in found - before if severity == "Error") == []
    assert sorted(contradictions(files) - together) == []
    assert [fault for path in files for fault in pixel_faults(path)] == []


def test_the_faults_that_no_validator_sees(tmp_path):
    """The check of pixel values and VRs of this module finds both faults in a file that has them."""
    (path, *_) = make_series(tmp_path, slices=1).files
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit = 2, 1
    dataset.add_new(0x00280106, "SS", -5)
    dataset.save_as(path)
    assert len(pixel_faults(path)) == 2
