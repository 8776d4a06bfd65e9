"""Every DICOM file at hand: headers equal to pydicom's element for element, and pixels where pydicom finds them."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from conftest import corpus_files, corpus_id
from headers import by_pydicom, differences, read
from pydicom.encaps import generate_fragments

from xdicom.errors import BrokenFileError, NotDicomError
from xdicom.header import Header
from xdicom.instance import read_instance
from xdicom.scan import Scanner
from xdicom.source import Source

BROKEN = {
    "rtplan_truncated.dcm": BrokenFileError,
    "no_meta.dcm": NotDicomError,  # a stray byte stands before its first element
    "crayons.icc": NotDicomError,
    "README": NotDicomError,
    "rtplan.dump": NotDicomError,
    "rtstruct.dump": NotDicomError,
}
# pydicom gives up without a word.
UNREADABLE_BY_PYDICOM = {"emri_small_jpeg_2k_lossless_too_short.dcm"}
READABLE = [path for path in corpus_files() if path.name not in {*BROKEN, *UNREADABLE_BY_PYDICOM}]
FOLDERS = [
    "ge-fmri-4d",
    "molli-enhanced",
    "multiframe",
    "pelvis-ct",
    "philips-enhanced-b0",
    "rider-flip-angles",
    "siemens-axial-orders",
    "siemens-enhanced-colour",
    "siemens-enhanced-rest",
    "siemens-mosaic-fmri",
    "siemens-mosaic-nine-syntaxes",
    "siemens-two-echoes",
    "ultrasound-palette",
    "xray-angio",
    "xray-angio-compressed",
]


def real_files(folder: Path) -> list[Path]:
    """Return the files of a folder of real DICOM."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")


def pixel_faults(path: Path, header: Header, dataset: pydicom.Dataset) -> list[str]:
    """Return where the pixel element is not what pydicom reads."""
    pixels = header.pixels
    tags = [tag for tag in (0x7FE00008, 0x7FE00009, 0x7FE00010) if tag in dataset]
    if pixels is None or not tags:
        return [] if pixels is None and not tags else [f"{path.name}: {pixels} against {tags}"]
    content = path.read_bytes()
    value = dataset.get_item(tags[0]).value
    if header.transfer_syntax == "1.2.840.10008.1.2.1.99":
        return [] if pixels.length == len(value) else [f"{path.name}: {pixels.length} bytes, not {len(value)}"]
    if pixels.length >= 0:
        found = [content[pixels.offset : pixels.offset + pixels.length]]
        expected = [value]
    else:
        found = [content[start : start + length] for start, length in header.fragments[1:]]
        expected = list(generate_fragments(value))[1:]
    return [] if found == expected else [f"{path.name}: the pixel data differs"]


@pytest.mark.parametrize("path", READABLE, ids=corpus_id)
def test_header_equals_pydicom(path: Path) -> None:
    """Tags, VRs and raw values are pydicom's, in sequences too, and no warning gets out."""
    assert differences(read(path), by_pydicom(path)) == []


@pytest.mark.parametrize("path", [path for path in READABLE if path.name != "MR_truncated.dcm"], ids=corpus_id)
def test_pixels_lie_where_pydicom_finds_them(path: Path) -> None:
    """Offset and length give PixelData, or its fragments."""
    assert pixel_faults(path, read(path), by_pydicom(path)) == []


@pytest.mark.parametrize("path", [path for path in READABLE if path.name != "badVR.dcm"], ids=corpus_id)
def test_frames_are_counted_as_the_header_says(path: Path) -> None:
    """One row a frame of NumberOfFrames, one for an object without pixels."""
    dataset = by_pydicom(path)
    header = read(path)
    count = int(dataset.get("NumberOfFrames") or 1) if header.pixels else 1
    assert len(read_instance(header)) == count


@pytest.mark.parametrize(("name", "error"), BROKEN.items())
def test_broken_files_of_the_corpus_are_refused(name: str, error: type[Exception]) -> None:
    """Files that cannot be trusted raise, as broken or as no DICOM."""
    paths = [path for path in corpus_files() if path.name == name]
    if not paths:
        pytest.skip(f"{name} is not among the installed files")
    for path in paths:
        with pytest.raises(error):
            read(path)


def test_nibabels_gzipped_files_are_equal(nibabel_gunzipped: list[Path]) -> None:
    """Headers and pixels of the files that nibabel ships packed are pydicom's."""
    faults = []
    for path in nibabel_gunzipped:
        header, dataset = read(path), by_pydicom(path)
        faults += differences(header, dataset) + pixel_faults(path, header, dataset)
    assert faults == []


@pytest.mark.parametrize("name", FOLDERS)
def test_real_data_is_equal(name: str, real_data: Callable[[str], Path]) -> None:
    """Headers and pixels of real scanners' files are pydicom's."""
    faults = []
    for path in real_files(real_data(name)):
        header, dataset = read(path), by_pydicom(path)
        faults += [f"{path.name}: {text}" for text in differences(header, dataset)]
        faults += pixel_faults(path, header, dataset)
    assert faults == []


@pytest.mark.parametrize("name", FOLDERS)
def test_real_data_has_no_problems(name: str, real_data: Callable[[str], Path]) -> None:
    """Nothing is wrong with these files, and each gives its rows."""
    folder = real_data(name)
    paths = [bytes(path) for path in real_files(folder)]
    scanner = Scanner(b"", paths)
    scanner.scan(range(len(paths)))
    assert {outcome.status for outcome in scanner.outcomes.values()} == {"ok"}
    assert set(itertools.chain(*[outcome.problems for outcome in scanner.outcomes.values()])) == set()


def test_corpus_scans_without_an_exception() -> None:
    """A scan of everything ends, with a status for every file."""
    paths = [bytes(path) for path in corpus_files()]
    scanner = Scanner(b"", paths)
    scanner.scan(range(len(paths)))
    assert sorted(scanner.outcomes) == list(range(len(paths)))


def test_no_pixel_byte_is_read_of_native_files(
    real_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a header touches the window at the front only."""
    asked = []
    plain = Source.read

    def counted(self: Source, offset: int, length: int) -> bytes:
        asked.append(offset + length)
        return plain(self, offset, length)

    monkeypatch.setattr(Source, "read", counted)
    read(real_files(real_data("pelvis-ct"))[0])
    assert max(asked) <= 16384
