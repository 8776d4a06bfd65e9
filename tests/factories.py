"""Synthetic DICOM made with pydicom: classic series, enhanced files and objects without pixels.

Everything is deterministic: the same call makes the same bytes, UIDs included.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
GRAYSCALE_PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"


@dataclass(frozen=True)
class Layout:
    """Where slices lie, in the patient (LPS, mm).

    Attributes
    ----------
    origin
        Centre of the first pixel of the first slice.
    row_direction, column_direction
        Directions of increasing column index and of increasing row index, unit vectors.
    spacing
        (row spacing, column spacing), as PixelSpacing has them.
    step
        From one slice to the next along the normal.
    """

    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0)
    row_direction: tuple[float, float, float] = (1.0, 0.0, 0.0)
    column_direction: tuple[float, float, float] = (0.0, 1.0, 0.0)
    spacing: tuple[float, float] = (2.0, 1.5)
    step: float = 4.0

    @property
    def normal(self) -> np.ndarray:
        """Unit vector along which slices follow."""
        return np.cross(self.row_direction, self.column_direction)

    def position(self, index: float) -> list[float]:
        """Return ImagePositionPatient of a slice."""
        return [round(float(x), 6) for x in np.asarray(self.origin) + index * self.step * self.normal]

    def orientation(self) -> list[float]:
        """Return ImageOrientationPatient."""
        return [*self.row_direction, *self.column_direction]

    def affine(self) -> np.ndarray:
        """Return the 4 x 4 matrix from (column, row, slice) to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, 0] = np.asarray(self.row_direction) * self.spacing[1]
        matrix[:3, 1] = np.asarray(self.column_direction) * self.spacing[0]
        matrix[:3, 2] = self.normal * self.step
        matrix[:3, 3] = self.origin
        return matrix


AXIAL = Layout()
# Exact in decimal: the directions are those of the 3-4-5 triangle, turned about two axes.
OBLIQUE = replace(AXIAL, row_direction=(0.8, 0.6, 0.0), column_direction=(-0.36, 0.48, 0.8))


@dataclass(frozen=True)
class Series:
    """A series on disk, with what a reader has to find in it.

    Attributes
    ----------
    folder, files
        Where it is; files in the order of InstanceNumber.
    stored, values
        Shape (*dims, slices, rows, columns[, 3]): stored integers, and real-world values.
    dims
        The dims in order, without slices.
    layout
        Its geometry.
    """

    folder: Path
    files: list[Path]
    stored: np.ndarray
    values: np.ndarray
    dims: dict[str, list[Any]]
    layout: Layout


def uid(*names: object) -> str:
    """Return a valid UID that depends on the names only."""
    digest = hashlib.blake2b("\0".join(map(str, names)).encode(), digest_size=15).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


def base_dataset(name: str = "a", sop_class: str = MRImageStorage, number: int = 1, **tags: Any) -> Dataset:
    """Return a dataset of patient, study and series without pixels; `name` tells series apart."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid("instance", name, sop_class, number)
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20240229", "101500", ""
    ds.Modality, ds.Manufacturer = "MR", "Factory"
    ds.StudyDescription, ds.SeriesDescription = "Made for tests", f"series {name}"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "P1", "19700101", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series", name)
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, number
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid("frame of reference"), ""
    set_tags(ds, tags)
    return ds


def set_tags(ds: Dataset, tags: Mapping[str, Any]) -> None:
    """Set elements by keyword; a value of None removes the element."""
    for keyword, value in tags.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)


def write(path: Path, ds: Dataset, syntax: str = "explicit") -> Path:
    """Write a dataset as a Part 10 file; `syntax` is a key of SYNTAXES or a UID of native pixels."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = SYNTAXES.get(syntax, syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def write_compressed(path: Path, ds: Dataset, syntax: str, **options: Any) -> Path:
    """Write a dataset with its pixels compressed; `syntax` is the UID of a syntax that pydicom can encode."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(syntax, generate_instance_uid=False, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def set_pixels(ds: Dataset, frames: np.ndarray, *, bits_stored: int | None = None, big: bool = False) -> None:
    """Set native pixels and the elements that describe them.

    Parameters
    ----------
    ds
        Changed in place.
    frames
        One frame (rows, columns[, 3]), or several with a first axis; uint8 to int32, float32 or float64. Several
        frames are told from one by `ds.NumberOfFrames`, which the caller has set.
    bits_stored
        Fewer bits than the dtype has.
    big
        Give the bytes in big endian.
    """
    samples = 3 if frames.ndim == (4 if "NumberOfFrames" in ds else 3) else 1
    end = -1 if samples == 3 else frames.ndim
    bits = frames.dtype.itemsize * 8
    ds.Rows, ds.Columns = frames.shape[:end][-2:]
    ds.SamplesPerPixel = samples
    ds.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = bits
    data = frames.astype(frames.dtype.newbyteorder(">" if big else "<")).tobytes()
    if frames.dtype.kind == "f":
        setattr(ds, "FloatPixelData" if bits == 32 else "DoubleFloatPixelData", data)
        return
    ds.BitsStored = bits_stored or bits
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(frames.dtype.kind == "i")
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"


def make_pixels(count: int, shape: Sequence[int], dtype: str, bits_stored: int | None, seed: object) -> np.ndarray:
    """Return random frames over the whole range of the stored bits, shape (count, *shape)."""
    rng = np.random.default_rng(int(uid("pixels", seed)[5:]) % 2**32)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(100, 30, (count, *shape)).astype(kind)
    bits = bits_stored or kind.itemsize * 8
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind.kind == "i" else (0, 2**bits)
    return rng.integers(low, high, (count, *shape)).astype(kind)


def make_series(
    folder: Path,
    slices: int = 3,
    dims: Mapping[str, Sequence[Any]] | None = None,
    *,
    name: str = "a",
    shape: Sequence[int] = (6, 5),
    dtype: str = "uint16",
    bits_stored: int | None = None,
    layout: Layout = OBLIQUE,
    syntax: str = "explicit",
    compress: str = "",
    slope: float | None = None,
    intercept: float | None = None,
    pixels: np.ndarray | None = None,
    change: Callable[[Dataset, int], None] | None = None,
    **tags: Any,
) -> Series:
    """Write a series of one frame a file that fills the grid slices x dims.

    Parameters
    ----------
    folder
        Made if absent; files are named `<name>_00001.dcm` by InstanceNumber.
    slices
        How many, one after another along the normal.
    dims
        Keyword to the values it takes, such as {"FlipAngle": [5, 10]}; the last one and the slices vary fastest.
    name
        Tells series of one study apart: it goes into SeriesInstanceUID and SeriesDescription.
    shape
        (rows, columns) or (rows, columns, 3).
    dtype, bits_stored
        Of the stored values; float32 and float64 give FloatPixelData and DoubleFloatPixelData.
    layout
        Geometry; AXIAL or OBLIQUE or another.
    syntax, compress
        A key of SYNTAXES; or the UID of a compressed syntax that pydicom can encode, such as RLELossless. JPEG and
        JPEG 2000 want at least 32 x 32 pixels. Compressed frames use half the bits, as noise in all would not shrink.
    slope, intercept
        RescaleSlope and RescaleIntercept; absent where None.
    pixels
        Stored values instead of random ones, shape (*dims, slices, rows, columns).
    change
        Called with each dataset and its index before it is written.
    tags
        Further elements of every file by keyword; None removes one.

    Returns
    -------
    Series
        The files, with what a reader has to find in them.
    """
    dims = {key: list(values) for key, values in (dims or {}).items()}
    grid = [len(values) for values in dims.values()] + [slices]
    count = int(np.prod(grid))
    used = np.dtype(dtype).itemsize * 4 if compress else bits_stored
    frames = make_pixels(count, shape, dtype, used, name) if pixels is None else pixels.reshape(count, *shape)
    files = []
    for index, (*values, position) in enumerate(itertools.product(*dims.values(), range(slices))):
        ds = base_dataset(name, number=index + 1)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = layout.position(position), layout.orientation()
        ds.PixelSpacing, ds.SliceThickness = list(layout.spacing), layout.step
        ds.SliceLocation = round(float(np.dot(layout.position(position), layout.normal)), 6)
        set_tags(ds, {"RescaleSlope": slope, "RescaleIntercept": intercept} | dict(zip(dims, values, strict=True)))
        set_tags(ds, tags)
        set_pixels(ds, frames[index], bits_stored=bits_stored, big=syntax == "big")
        if change is not None:
            change(ds, index)
        path = folder / f"{name}_{index + 1:05d}.dcm"
        files.append(write_compressed(path, ds, compress) if compress else write(path, ds, syntax))
    stored = frames.reshape(*grid, *shape)
    rescaled = slope is not None or intercept is not None
    values = stored * (1 if slope is None else slope) + (intercept or 0) if rescaled else stored
    return Series(folder, files, stored, values, dims, layout)


def _item(**tags: Any) -> list[Dataset]:
    """Return a sequence of one item."""
    ds = Dataset()
    set_tags(ds, tags)
    return [ds]


def _frame_item(layout: Layout, position: int, values: Mapping[str, Any], index: Sequence[int]) -> Dataset:
    """Return the per-frame functional groups of one frame."""
    ds = Dataset()
    ds.FrameContentSequence = _item(
        StackID="1", InStackPositionNumber=position + 1, DimensionIndexValues=[i + 1 for i in index]
    )
    ds.PlanePositionSequence = _item(ImagePositionPatient=layout.position(position))
    for keyword, value in values.items():
        setattr(ds, FRAME_MACROS[keyword], _item(**{keyword: value}))
    return ds


FRAME_MACROS = {
    "EffectiveEchoTime": "MREchoSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "LUTLabel": "RealWorldValueMappingSequence",
}


def make_enhanced(
    path: Path,
    slices: int = 3,
    dims: Mapping[str, Sequence[Any]] | None = None,
    *,
    name: str = "enhanced",
    shape: Sequence[int] = (6, 5),
    dtype: str = "uint16",
    layout: Layout = OBLIQUE,
    syntax: str = "explicit",
    compress: str = "",
    slopes: Sequence[float] | None = None,
    order: Sequence[int] | None = None,
    change: Callable[[Dataset], None] | None = None,
    **tags: Any,
) -> Series:
    """Write one Enhanced MR file with shared and per-frame functional groups.

    Parameters
    ----------
    path
        The file.
    slices, dims, name, shape, dtype, layout, syntax, compress, tags
        As in `make_series`; keywords of `dims` are those of FRAME_MACROS.
    slopes
        A RescaleSlope for each frame, in per-frame groups; else a shared slope of 1.
    order
        Order of the frames in the file, a permutation of the grid's (*dims, slices).
    change
        Called with the dataset before it is written.

    Returns
    -------
    Series
        With arrays in the order of the grid, not of the file.
    """
    dims = {key: list(values) for key, values in (dims or {}).items()}
    grid = [len(values) for values in dims.values()] + [slices]
    count = int(np.prod(grid))
    order = list(range(count)) if order is None else list(order)
    stored = make_pixels(count, shape, dtype, np.dtype(dtype).itemsize * 4 if compress else None, name)
    ds = base_dataset(name, EnhancedMRImageStorage)
    ds.ImageType, ds.NumberOfFrames = ["ORIGINAL", "PRIMARY", "M", "NONE"], count
    ds.SharedFunctionalGroupsSequence = [shared := Dataset()]
    shared.PixelMeasuresSequence = _item(PixelSpacing=list(layout.spacing), SliceThickness=layout.step)
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=layout.orientation())
    if "FlipAngle" not in dims:
        shared.MRTimingAndRelatedParametersSequence = _item(RepetitionTime=5.0, FlipAngle=12.0)
    if slopes is None:
        shared.PixelValueTransformationSequence = _item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")
    items = []
    for frame in order:
        *index, position = np.unravel_index(frame, grid)
        values = {key: dims[key][i] for key, i in zip(dims, index, strict=True)}
        items.append(_frame_item(layout, int(position), values, [*map(int, index), int(position)]))
        if slopes is not None:
            items[-1].PixelValueTransformationSequence = _item(
                RescaleSlope=slopes[frame], RescaleIntercept=0, RescaleType="US"
            )
    ds.PerFrameFunctionalGroupsSequence = items
    set_tags(ds, tags)
    set_pixels(ds, stored[order], big=syntax == "big")
    if change is not None:
        change(ds)
    file = write_compressed(path, ds, compress) if compress else write(path, ds, syntax)
    values = stored if slopes is None else stored * np.reshape(slopes, (-1,) + (1,) * len(shape))
    full = (*grid, *shape)
    return Series(path.parent, [file], stored.reshape(full), values.reshape(full), dims, layout)


def make_image(path: Path, frame: np.ndarray, syntax: str = "explicit", *, bits_stored: int = 0, **tags: Any) -> Path:
    """Write one image without geometry (secondary capture) from a frame; tags come last and may contradict it."""
    ds = base_dataset(path.stem, SecondaryCaptureImageStorage, Modality="OT", ConversionType="WSD")
    set_pixels(ds, frame, bits_stored=bits_stored or None, big=syntax == "big")
    set_tags(ds, tags)
    return write(path, ds, syntax)


def make_report(path: Path, text: str = "No finding.", **tags: Any) -> Path:
    """Write a structured report: an object without pixels."""
    ds = base_dataset("report", BASIC_TEXT_SR, Modality="SR")
    ds.CompletionFlag, ds.VerificationFlag, ds.ValueType, ds.ContinuityOfContent = (
        "COMPLETE",
        "UNVERIFIED",
        "CONTAINER",
        "SEPARATE",
    )
    ds.ConceptNameCodeSequence = _item(CodeValue="18748-4", CodingSchemeDesignator="LN", CodeMeaning="Report")
    ds.ContentSequence = _item(RelationshipType="CONTAINS", ValueType="TEXT", TextValue=text)
    set_tags(ds, tags)
    return write(path, ds)


def make_presentation_state(path: Path, **tags: Any) -> Path:
    """Write a grayscale presentation state: an object without pixels that refers to images."""
    ds = base_dataset("presentation", GRAYSCALE_PRESENTATION_STATE, Modality="PR", ContentLabel="TEST")
    ds.ReferencedSeriesSequence = _item(SeriesInstanceUID=uid("series", "a"))
    set_tags(ds, tags)
    return write(path, ds)


def make_structure_set(path: Path, **tags: Any) -> Path:
    """Write an RT structure set: an object without pixels but with long nested sequences."""
    ds = base_dataset("structures", RT_STRUCTURE_SET, Modality="RTSTRUCT", StructureSetLabel="TEST")
    ds.ROIContourSequence = _item(
        ReferencedROINumber=1,
        ContourSequence=_item(ContourGeometricType="POINT", NumberOfContourPoints=1, ContourData=[1.5, 2.5, -3.25]),
    )
    set_tags(ds, tags)
    return write(path, ds)
