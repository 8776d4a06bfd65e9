"""Frames against independent readers: pydicom on everything that PyPI ships, pydicom and ITK on real data."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conftest import corpus_files, corpus_id, real_data
from pydicom.encaps import generate_fragmented_frames
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.tag import Tag

from xdicom.errors import PixelError
from xdicom.formats import DEFLATED, EXPLICIT_BIG
from xdicom.pixels import Rescale, frame_shape, pixel_format, read_into, stored_dtype, to_values
from xdicom.source import Source

PIXELS = {"PixelData": "int", "FloatPixelData": "float", "DoubleFloatPixelData": "double"}


def item(data: bytes) -> bytes:
    """Return a fragment with its item header."""
    return b"\xfe\xff\x00\xe0" + len(data).to_bytes(4, "little") + data


def with_pixels(paths: list[Path]) -> list[Any]:
    """Return the files that describe a matrix, as test parameters."""
    found = []
    for path in paths:
        try:
            with warnings.catch_warnings(action="ignore"):
                ds = pydicom.dcmread(path, force=True, specific_tags=["BitsAllocated", *PIXELS])
        except Exception:  # noqa: BLE001 - deliberately broken files
            continue
        if "BitsAllocated" in ds and any(name in ds for name in PIXELS):
            found.append(pytest.param(path, id=corpus_id(path)))
    return found


class Located:
    """Format and frames of a file as pydicom finds them."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.dataset = ds = pydicom.dcmread(path, force=True)
        self.name = next(name for name in PIXELS if name in ds)
        self.syntax = str(ds.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
        element = ds.get_item(self.name)
        self.fmt = pixel_format(self.get, self.syntax, PIXELS[self.name], vr=element.VR or "OW")
        self.count = int(ds.get("NumberOfFrames") or 1)
        if self.fmt.is_native:
            start = element.value_tell
            if self.syntax == DEFLATED:
                start += 132 + 12 + ds.file_meta.FileMetaInformationGroupLength
            bits = self.fmt.rows * self.fmt.columns * self.fmt.samples * self.fmt.bits_allocated
            if self.fmt.is_subsampled:
                bits = bits * 2 // 3
            size = -(-bits // 8)
            self.frames = [(start + i * bits // 8, size) for i in range(self.count)]
        else:
            self._unpack(folder, element.value)

    def _unpack(self, folder: Path, value: bytes) -> None:
        """Write the frames' fragments into a file of their own."""
        self.path = folder / "fragments"
        self.frames = []
        with self.path.open("wb") as file:
            for fragments in generate_fragmented_frames(value, number_of_frames=self.count):
                start = file.tell()
                for fragment in fragments:
                    file.write(item(fragment))
                self.frames.append((start, file.tell() - start))

    def get(self, tag: int) -> object:
        """Return the decoded value of a tag, words in little endian."""
        if tag not in self.dataset:
            return None
        element = self.dataset[Tag(tag)]
        if self.syntax == EXPLICIT_BIG and element.VR == "OW":
            return np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
        value = element.value
        return tuple(value) if isinstance(value, MultiValue) else value

    def read(self) -> np.ndarray:
        """Return all frames as xdicom reads them."""
        out = np.empty((self.count, *frame_shape(self.fmt)), stored_dtype(self.fmt))
        with Source(self.path) as source:
            for i, (offset, length) in enumerate(self.frames[: self.count]):
                read_into(source, offset, length, self.fmt, None, out[i], frame=i)
        return out

    def expected(self) -> np.ndarray:
        """Return all frames as pydicom reads them."""
        pixels = pixel_array(self.dataset)
        if self.dataset.PhotometricInterpretation == "PALETTE COLOR":
            for name in ("Red", "Green", "Blue"):  # pydicom takes plain tables for little endian in any file
                keyword = f"{name}PaletteColorLookupTableData"
                if keyword in self.dataset:
                    setattr(self.dataset, keyword, self.get(Tag(keyword)))
            pixels = apply_color_lut(pixels, self.dataset)
        return pixels.reshape(-1, *frame_shape(self.fmt))[: self.count]


# Deliberately broken, or beyond pydicom's decoders.
REFUSED = {"MR_truncated.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"}
NO_SYNTAX = {"OT-PAL-8-face.dcm", "meta_missing_tsyntax.dcm"}
TWELVE_BIT_JPEG = {"JPEG-lossy.dcm", "JPGExtended.dcm"}
BAD_NUMBER_OF_FRAMES = {"badVR.dcm"}
OUTSIDE = REFUSED | NO_SYNTAX | TWELVE_BIT_JPEG | BAD_NUMBER_OF_FRAMES
QUIET = pytest.mark.filterwarnings("ignore", "error::xdicom.decoders.DecoderFallbackWarning")


@QUIET
@pytest.mark.parametrize("path", [p for p in with_pixels(corpus_files()) if p.values[0].name not in OUTSIDE])
def test_corpus_is_as_pydicom_reads_it(path: Path, tmp_path: Path) -> None:
    """Every file with pixels that PyPI ships reads as pydicom reads it: stored values equal, colour in RGB.

    Lossy JPEG too: both decode by libjpeg-turbo, and colour is converted by the same function.
    """
    located = Located(path, tmp_path)
    np.testing.assert_array_equal(located.read(), located.expected())


@QUIET
@pytest.mark.parametrize("path", [p for p in with_pixels(corpus_files()) if p.values[0].name in REFUSED])
def test_broken_corpus_is_refused(path: Path, tmp_path: Path) -> None:
    """Truncated and damaged files raise PixelError."""
    with pytest.raises(PixelError):
        Located(path, tmp_path).read()


@QUIET
@pytest.mark.parametrize("path", [p for p in with_pixels(corpus_files()) if p.values[0].name in TWELVE_BIT_JPEG])
def test_twelve_bit_jpeg_is_read(path: Path, tmp_path: Path) -> None:
    """12-bit lossy JPEG, which none of pydicom's decoders reads, has values within 12 bits."""
    found = Located(path, tmp_path).read()
    assert 255 < found.max() <= 4095


REAL = {
    "ge-fmri-4d": 3,
    "molli-enhanced": 3,
    "multiframe": 2,
    "pelvis-ct": 3,
    "philips-enhanced-b0": 1,
    "rider-flip-angles": 3,
    "siemens-axial-orders": 2,
    "siemens-enhanced-colour": 1,
    "siemens-mosaic-nine-syntaxes": 9,
    "siemens-two-echoes": 2,
    "ultrasound-palette": 1,
    "xray-angio": 1,
    "xray-angio-compressed": 1,
}


@QUIET
@pytest.mark.parametrize("name", REAL)
def test_real_data_is_as_pydicom_reads_it(name: str, tmp_path: Path) -> None:
    """Files of real scanners read as pydicom reads them."""
    files = [p for p in sorted(real_data(name).rglob("*")) if p.is_file() and b"DICM" in p.read_bytes()[:132]]
    tried = [path for path in files if "PixelData" in pydicom.dcmread(path)][: REAL[name]]
    assert tried
    for path in tried:
        located = Located(path, tmp_path)
        np.testing.assert_array_equal(located.read(), located.expected(), err_msg=os.fspath(path))


@QUIET
@pytest.mark.parametrize("name", ["pelvis-ct", "siemens-mosaic-nine-syntaxes", "siemens-enhanced-colour"])
def test_real_data_is_as_itk_reads_it(name: str, tmp_path: Path) -> None:
    """SimpleITK (GDCM) reads the same real-world values and colours."""
    sitk = pytest.importorskip("SimpleITK")
    path = sorted(p for p in real_data(name).rglob("*") if p.is_file())[0]
    located = Located(path, tmp_path)
    slope, intercept = (float(located.dataset.get(key, d)) for key, d in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    image = sitk.ReadImage(os.fspath(path))
    found = to_values(located.read(), located.fmt, Rescale(slope, intercept))
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(image).reshape(found.shape))
