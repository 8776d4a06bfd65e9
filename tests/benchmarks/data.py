"""Data to measure on: copies of real series under fresh UIDs, and synthetic series of any size.

Everything is made in a folder that is given; the real data are only read.
"""

import os
import uuid
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    PYDICOM_ROOT_UID,
    ExplicitVRLittleEndian,
    MRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    generate_uid,
)

REPOSITORY = Path(__file__).resolve().parent.parent.parent
_UID_LENGTH = 64
_ZEROS, _AT_HAND = bytes(4 << 20), 512 << 20
# Of linux/fs.h: what chattr +T sets.
_GET_FLAGS, _SET_FLAGS, _SPREAD = 0x80086601, 0x40086602, 0x00020000


class Absent(Exception):
    """Data or a program that a measurement needs is not there."""


def real_data(name: str) -> Path:
    """Return a folder of real DICOM: in the environment variable XDICOM_DATA, else in ../shared/data.

    Raises
    ------
    Absent
        If it is not there.
    """
    root = Path(os.environ.get("XDICOM_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (root / name).is_dir():
        raise Absent(f"{name} is not in $XDICOM_DATA nor in ../shared/data")
    return root / name


def files_in(folder: Path) -> list[Path]:
    """Return the DICOM files below a folder, sorted; those of xdicom itself are none."""
    return sorted(path for path in folder.rglob("*.dcm") if ".xdicom" not in path.parts)


def copies(name: str, count: int, target: Path) -> Path:
    """Write a real series several times, each time under fresh UIDs of study, series and instances."""
    source = files_in(real_data(name))
    datasets = [pydicom.dcmread(path) for path in source]
    for number in range(count):
        (target / str(number)).mkdir(parents=True)
        fresh: dict[str, str] = {}
        for path, ds in zip(source, datasets, strict=True):
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
                setattr(ds, keyword, fresh.setdefault(str(ds[keyword].value), generate_uid()))
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.save_as(target / str(number) / path.name)
    return target


def longer(name: str, count: int, target: Path) -> Path:
    """Write a real series as one of so many files: it is repeated, each time later and under fresh instance UIDs."""
    source = files_in(real_data(name))
    datasets = [pydicom.dcmread(path) for path in source]
    target.mkdir(parents=True)
    for number in range(count):
        ds = datasets[number % len(source)]
        if number >= len(source):
            ds.InstanceNumber += len(source)
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.save_as(target / f"{number:05d}.dcm")
    return target


def diffusion(slices: int, volumes: int, side: int, target: Path) -> Path:
    """Write a diffusion series of MR images: one without weighting, the others each with a direction of its own."""
    target.mkdir(parents=True)
    directions = np.random.default_rng(0).normal(size=(volumes, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ds = _base(MRImageStorage, side)
    ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = [1, 0, 0, 0, 1, 0], [1, 1], 2
    ds.ImageType, ds.PixelData = ["ORIGINAL", "PRIMARY", "M"], bytes(2 * side**2)
    ds["PixelData"].VR = "OW"
    for number in range(slices * volumes):
        volume, position = divmod(number, slices)
        ds.SOPInstanceUID, ds.InstanceNumber = generate_uid(), number + 1
        ds.ImagePositionPatient, ds.SliceLocation = [-64, -64, 2 * position], 2 * position
        ds.AcquisitionTime = f"10{volume // 60:02d}{volume % 60:02d}.{position:03d}000"
        ds.DiffusionBValue = 1000.0 if volume else 0.0
        ds.DiffusionGradientOrientation = directions[volume].tolist() if volume else [0.0, 0.0, 0.0]
        dcmwrite(target / f"{number:05d}.dcm", ds, enforce_file_format=True)
    return target


def writable(name: str, target: Path) -> Path:
    """Return a copy of a real series in a folder that may be written into."""
    target.mkdir(parents=True)
    for path in files_in(real_data(name)):
        (target / path.name).write_bytes(path.read_bytes())
    return target


@dataclass(frozen=True)
class Grid:
    """What a synthetic series is like: one frame a file, slices x flip angles."""

    slices: int
    angles: int
    side: int
    has_pixels: bool = True

    @property
    def count(self) -> int:
        """How many frames."""
        return self.slices * self.angles


def synthetic(grid: Grid, target: Path) -> Path:
    """Write a synthetic series of MR images; without pixels, files have their size as a hole."""
    target.mkdir(parents=True)
    head, size = _template(grid.side), 2 * grid.side**2
    noise = np.random.default_rng(0).integers(0, 4096, 2 * grid.side**2, dtype=np.uint16).tobytes()
    for number in range(grid.count):
        path = target / f"{number:05d}.dcm"
        with path.open("wb") as file:
            file.write(_filled(head, _values(grid, number)))
            if grid.has_pixels:
                start = 2 * (number % (grid.side**2))
                file.write(noise[start : start + size])
            else:
                file.truncate(file.tell() + size)
    return target


def multiframe(count: int, side: int, target: Path) -> Path:
    """Write one file of many frames, whose pixels are a hole."""
    target.mkdir(parents=True)
    ds = _base(MultiFrameGrayscaleWordSecondaryCaptureImageStorage, side)
    ds.NumberOfFrames, ds.FrameIncrementPointer, ds.FrameTime = count, 0x00181063, 1.0
    ds.PixelData = b""
    path = target / "frames.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    size = 2 * side**2 * count
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)
    return target


def _base(sop_class: str, side: int) -> Dataset:
    """Return a dataset whose pixels are still missing."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, "5" * _UID_LENGTH
    ds.PatientName, ds.PatientID, ds.Modality = "Bench^Mark", "bench", "MR"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", side, side
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    return ds


_MARKS = {"InstanceNumber": "900001", "SliceLocation": "900000.002", "FlipAngle": "900003", "z": "900000.004"}


def _template(side: int) -> bytes:
    """Return the bytes before the pixels, with a mark of fixed length at each value that differs."""
    ds = _base(MRImageStorage, side)
    ds.ImageType, ds.SeriesNumber, ds.StudyDate = ["ORIGINAL", "PRIMARY", "M"], 1, "20240229"
    ds.RepetitionTime, ds.EchoTime, ds.MagneticFieldStrength, ds.ImagedNucleus = 5.0, 2.0, 3.0, "1H"
    ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = [1, 0, 0, 0, 1, 0], [1, 1], 2
    ds.ImagePositionPatient = ["-64", "-64", _MARKS["z"]]
    for keyword in ("InstanceNumber", "SliceLocation", "FlipAngle"):
        setattr(ds, keyword, _MARKS[keyword])
    ds.PixelData = bytes(2 * side**2)
    ds["PixelData"].VR = "OW"
    with pydicom.filebase.DicomBytesIO() as file:
        dcmwrite(file, ds, enforce_file_format=True)
        return file.getvalue()[: -2 * side**2]


def _values(grid: Grid, number: int) -> Iterator[tuple[str, str]]:
    angle, position = divmod(number, grid.slices)
    yield "5" * _UID_LENGTH, f"{PYDICOM_ROOT_UID}{uuid.uuid4().int % (9 * 10**37) + 10**37}"
    yield _MARKS["InstanceNumber"], f"{number + 1:6d}"
    yield _MARKS["SliceLocation"], f"{2.0 * position:10.3f}"
    yield _MARKS["z"], f"{2.0 * position:10.3f}"
    yield _MARKS["FlipAngle"], f"{angle + 1:6d}"


def _filled(head: bytes, values: Iterator[tuple[str, str]]) -> bytes:
    for mark, value in values:
        head = head.replace(mark.encode(), value.encode())
    return head


def spread(folder: Path) -> None:
    """Let each folder made in this one get a part of the disk of its own, where the file system can.

    ext4 puts new files near those of the same folder tree, and for minutes looks at all that were removed there for
    each that it makes: without this, whoever is measured later pays for what was replaced earlier.
    """
    try:
        from fcntl import ioctl
    except ImportError:
        return
    flags = array("i", [0])
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # another file system
            ioctl(descriptor, _GET_FLAGS, flags)
            flags[0] |= _SPREAD
            ioctl(descriptor, _SET_FLAGS, flags)
    finally:
        os.close(descriptor)


def settle(folder: Path) -> None:
    """Let all that was written reach the disk, and have memory at hand for what will be.

    Who flushes next flushes only what is his then. Memory that a virtual machine has not used for a while comes from
    its host page by page, which takes ten times as long as to write into it: by luck the one or the other would pay.
    """
    if hasattr(os, "sync"):
        os.sync()
    place = folder / "memory"
    with open(place, "wb", buffering=0) as file:
        for _ in range(_AT_HAND // len(_ZEROS)):
            file.write(_ZEROS)
    place.unlink()


def warm(paths: Sequence[Path]) -> None:
    """Read files, so that the operating system has them in memory."""
    for path in paths:
        path.read_bytes()
