"""Facts about edits from setting to files: what was staged is what is read, and every other byte is as it was."""

import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import debian_tool, folder_hash
from dciodvfy import complaints
from lossless import differences, flat, parsed, wrong_group_lengths

import xdicom as xd
from xdicom.columns import Column
from xdicom.edits import REMOVED, SAVED, Layer
from xdicom.errors import EditError, SaveError
from xdicom.scan import SeriesKey
from xdicom.tags import unique

# Real series, and whether they are enhanced.
REAL = {
    "pelvis-ct": False,
    "ge-fmri-4d": False,
    "siemens-two-echoes": False,
    "rider-flip-angles": False,
    "siemens-mosaic-nine-syntaxes": False,
    "ultrasound-palette": False,
    "xray-angio-compressed": False,
    "philips-enhanced-b0": True,
    "molli-enhanced": True,
    "multiframe": True,
    "siemens-enhanced-rest": True,
    "siemens-enhanced-colour": True,
}
ENHANCED = [name for name, enhanced in REAL.items() if enhanced]
GROUPS = (0x52009229, 0x52009230)
EDITS = {
    "longer": ("PatientName", "A^Very long name indeed, in several words"),
    "shorter": ("PatientName", "A"),
    "empty": ("PatientSex", ""),
    "removed": ("PatientSex", None),
    "new": ("ImageComments", "a comment that was not there"),
    "private": (("xdicom test", 0x0071, 0x01), "hello"),
    "sequence": ("ProcedureCodeSequence", [{"CodeValue": "T-1", "CodeMeaning": "meaning"}]),
    "number": ("SeriesNumber", 4711),
    "several": ("ImagedNucleus", "1H"),
}


def image_series(folder: Path) -> xd.Series:
    """Return the first series of a folder that has images, cut to a few files so that tests are quick."""
    for path in sorted(folder.rglob("*"))[12:]:
        if path.is_file():
            path.unlink()
    database = xd.database(folder)
    return next(series for series in database.series() if len(series.frames().images()))


def reopened(series: xd.Series) -> xd.Series:
    """Return a series as another process would open it."""
    return next(each for each in xd.database(series._store.root).series() if each.key == series.key)


def file_bytes(series: xd.Series) -> dict[str, bytes]:
    """Return the bytes of each file of a series by path."""
    files = series.frames().files
    paths = [os.path.join(files.root, path) for path in files.paths]
    return {os.fsdecode(path): Path(os.fsdecode(path)).read_bytes() for path in paths}


@pytest.mark.filterwarnings("ignore:files in implicit VR hold no VR")
@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("name", REAL)
def test_lossless(real_copy, name, kind):
    """After editing one tag of a real series and saving, every other element of its files is identical to the byte."""
    series = image_series(real_copy(name))
    before = file_bytes(series)
    tag, value = EDITS[kind]
    series.set(tag, value, VR="LO" if isinstance(tag, tuple) else None)
    staged = series[tag]
    series.save()
    assert series.status() == []
    read = [each.decode().strip() if isinstance(each, bytes) else each for each in reopened(series)[tag]]
    assert unique(read) == staged  # in implicit VR what no dictionary knows reads as bytes
    for path, old in before.items():
        new = Path(path).read_bytes()
        if isinstance(tag, tuple):
            edited = {key[0] for key in flat(new).keys() - flat(old).keys()}
            assert {each >> 16 for each in edited} == {0x0071}
        else:
            edited = {int(pydicom.tag.Tag(tag))}
        left = differences(old, new, edited, inside=GROUPS)
        assert [text for text in left if not text.startswith(tuple(f"{each:08X}/" for each in edited))] == []
        assert set(wrong_group_lengths(new)) <= set(wrong_group_lengths(old))


def test_a_save_without_edits(real_copy):
    """A save without edits rewrites nothing; nor does one of values that the files have already."""
    folder = real_copy("rider-flip-angles")
    before = folder_hash(folder)
    series = xd.database(folder).series()
    series[0].save()
    for each in series:
        each.EchoTime = each.EchoTime
        each.PatientName = each.PatientName.item()
        assert each.status() == []
        each.save()
    assert folder_hash(folder) == before


@pytest.mark.parametrize("name", REAL)
def test_pixels_stay(real_copy, name):
    """An edited header leaves the pixels, compressed or not, as they are; an array made before reads them still."""
    series = image_series(real_copy(name))
    before = series.ndarray()
    series.PatientName = "Longer^Than^It^Was^Before"
    series.save()
    assert np.array_equal(series.ndarray(), before)


# Functional groups -------------------------------------------------------------------------------------------------

TAGS = {
    "EchoTime": 23.5,
    "FlipAngle": 11.0,
    "RepetitionTime": 1234.5,
    "SliceThickness": 7.0,
    "SliceLocation": 3.0,
    "ImagePositionPatient": (1.0, 2.0, 3.0),
    "WindowCenter": 33.0,
    "FrameComments": "of a frame",
    "DiffusionBValue": 700.0,
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", ENHANCED)
def test_functional_groups(real_copy, name, tag):
    """A tag of functional groups is written into them, nothing else changes, and reads as staged after saving."""
    series = image_series(real_copy(name))
    before = file_bytes(series)
    series[tag] = TAGS[tag]
    staged = series.frames().values(tag)
    series.save()
    after = reopened(series)
    assert np.array_equal(after.frames().values(tag), staged)
    assert after[tag] == [TAGS[tag]]
    written = 0x00189082 if tag == "EchoTime" else int(pydicom.tag.Tag(tag))
    for path, old in before.items():
        content = Path(path).read_bytes()
        left = differences(old, content, {written, int(pydicom.tag.Tag(tag))}, inside=GROUPS)
        # A macro or the sequence that was not there counts as changed.
        assert [text for text in left if "None became" not in text] == []


@pytest.mark.parametrize("name", ENHANCED)
def test_removal_from_functional_groups(real_copy, name):
    """A removed tag is gone from all functional groups."""
    series = image_series(real_copy(name))
    del series["EchoTime"]
    del series["SliceThickness"]
    series.save()
    after = reopened(series)
    assert (after.EchoTime, after.SliceThickness) == ([], [])


def test_twin_names_of_the_echo_time(real_copy):
    """EchoTime and EffectiveEchoTime follow each other before and after saving; the later edit counts."""
    series = image_series(real_copy("philips-enhanced-b0"))
    series.EchoTime = 5
    assert series.EffectiveEchoTime == 5
    series.EffectiveEchoTime = 6.5
    assert [change.what for change in series.status()] == ["EffectiveEchoTime"]
    assert series.EchoTime == 6.5
    series.save()
    assert (series.EchoTime, series.EffectiveEchoTime) == ([6.5], [6.5])
    with pytest.raises(EditError, match="one value in enhanced files"):
        series[["EchoTime", "EffectiveEchoTime"]] = [1, 2]


# New pixels of enhanced files --------------------------------------------------------------------------------------


def doubled(values: np.ndarray) -> np.ndarray:
    """Return other values of the same kind."""
    return values // 2 if values.dtype.kind in "iu" else values * 2.5


@pytest.mark.parametrize("name", ["ultrasound-palette", "xray-angio-compressed", *ENHANCED])
def test_new_pixels(real_copy, name):
    """New pixels of a multi-frame file are all frames in one native PixelData, described where they have to be."""
    series = image_series(real_copy(name))
    uids = series.SOPInstanceUID
    frames = len(series.frames())
    before = file_bytes(series)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series.set_ndarray(doubled(series.ndarray()))
    staged = series.ndarray()
    series.save()
    assert np.array_equal(series.ndarray(), staged)
    after = reopened(series)
    assert np.array_equal(after.ndarray(), staged)
    assert (after.SOPInstanceUID, len(after.frames())) == (uids, frames)
    for path in before:
        dataset = pydicom.dcmread(path)
        if "PixelData" not in dataset:
            continue
        assert not dataset.file_meta.TransferSyntaxUID.is_compressed
        assert len(dataset.PixelData) == expected_length(dataset)
        assert 0x00281053 not in dataset or "SharedFunctionalGroupsSequence" not in dataset
        if "LossyImageCompression" in dataset:
            assert dataset.LossyImageCompression == parsed(before[path]).LossyImageCompression


def expected_length(dataset: pydicom.Dataset) -> int:
    """Return the length of native pixels, padding included."""
    bits = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated
    size = bits * int(dataset.get("NumberOfFrames", 1)) // 8
    return size + size % 2


# Some frames of a file ---------------------------------------------------------------------------------------------


def remove_rows(series: xd.Series, rows: list[int]) -> None:
    """Stage the removal of some rows of a saved series."""
    store = series._store
    store.begin()
    codes = np.full(len(series.frames()), -1, np.int32)
    codes[rows] = 0
    store.edits.set_columns({Layer(SAVED, SeriesKey(*series.key)): {REMOVED: Column([("", b"1")], codes)}}, {})
    store._refresh()


@pytest.mark.parametrize("name", ["ultrasound-palette", "xray-angio-compressed", *ENHANCED])
def test_frames_that_stay(real_copy, name):
    """Removing some frames of a file leaves a file of the others, with what was said of each."""
    series = image_series(real_copy(name))
    frames = series.frames()
    values = frames.values("SliceLocation")
    file = np.flatnonzero(frames.file == frames.file[frames.offset >= 0][0])
    gone = file[1 : len(file) : 2].tolist()
    stay = np.setdiff1d(np.arange(len(values)), gone)
    whole = _pixels(series, stay)
    remove_rows(series, gone)
    series.PatientName = "Some^Frames"
    assert len(series.frames()) == len(stay)
    series.save()
    after = reopened(series)
    assert np.array_equal(after.frames().values("SliceLocation"), values[stay], equal_nan=True)
    assert np.array_equal(_pixels(after, np.arange(len(stay))), whole)
    assert after.problems() == []


def _pixels(series: xd.Series, rows: np.ndarray) -> np.ndarray:
    frames = series.frames().take(rows)
    frames = frames.images()
    out = np.empty((len(frames), *frames.locations.frame_shape()), frames.locations.dtype())
    frames.locations.read(np.arange(len(frames)), out)
    return out


# The standard ------------------------------------------------------------------------------------------------------


def new_errors(path: str, old: bytes, tmp_path: Path) -> set[str]:
    """Return the errors that dciodvfy finds in a file and not in the one that it was."""
    source = tmp_path / "source.dcm"
    source.write_bytes(old)
    before, after = (complaints(Path(each))[1] for each in (source, path))
    return {text for severity, text in after - before if severity == "Error"}


@pytest.mark.filterwarnings("ignore:files in implicit VR hold no VR")
@pytest.mark.parametrize("name", REAL)
def test_no_new_errors(real_copy, tmp_path_factory, name):
    """Edited headers add no error to those that dciodvfy finds in the source."""
    debian_tool("dciodvfy", "dicom3tools")
    series = image_series(real_copy(name))
    before = file_bytes(series)
    series[["PatientName", "EchoTime", "ImageComments"]] = ["A^B", 3.25, "c"]
    series.set(("xdicom test", 0x0071, 1), "hello", VR="LO")
    series.save()
    for number, (path, old) in enumerate(before.items()):
        if number < 3:
            assert new_errors(path, old, tmp_path_factory.mktemp("old")) == set()


@pytest.mark.parametrize("name", ENHANCED)
def test_no_new_errors_with_new_pixels(real_copy, tmp_path_factory, name):
    """New pixels of enhanced files add no error to those that dciodvfy finds in the source."""
    debian_tool("dciodvfy", "dicom3tools")
    series = image_series(real_copy(name))
    before = file_bytes(series)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series.set_ndarray(doubled(series.ndarray()))
    series.save()
    for path, old in before.items():
        assert new_errors(path, old, tmp_path_factory.mktemp("old")) == set()


@pytest.mark.parametrize("name", ENHANCED)
def test_no_new_errors_with_fewer_frames(real_copy, tmp_path_factory, name):
    """Files of the frames that stay add no error to those that dciodvfy finds in the source."""
    debian_tool("dciodvfy", "dicom3tools")
    series = image_series(real_copy(name))
    before = file_bytes(series)
    remove_rows(series, [int(np.flatnonzero(series.frames().offset >= 0)[0])])
    series.save()
    for path, old in before.items():
        assert new_errors(path, old, tmp_path_factory.mktemp("old")) == set()


@pytest.mark.parametrize("name", ["ge-fmri-4d", "siemens-enhanced-rest"])
def test_no_new_errors_between_files(real_copy, name):
    """The files of an edited series contradict each other no more than before, as dcentvfy sees them."""
    tool = debian_tool("dcentvfy", "dicom3tools")
    series = image_series(real_copy(name))

    def errors() -> set[str]:
        result = subprocess.run([tool, *file_bytes(series)], capture_output=True, check=False)
        text = (result.stdout + result.stderr).decode("latin-1")
        return {line.split(" - ")[1] for line in text.splitlines() if line.startswith("Error")}

    before = errors()
    series.PatientName = "A^B"
    series.EchoTime = 3
    series.save()
    assert errors() <= before


def test_stored_tags_are_refused_at_saving(real_copy):
    """An edit of what describes stored pixels warns, and save() refuses it before anything is written."""
    folder = real_copy("rider-flip-angles")
    before = folder_hash(folder)
    series = xd.database(folder).series()[0]
    with pytest.warns(UserWarning, match="describes the stored pixels"):
        series.Rows = 77
    with pytest.raises(SaveError, match="Rows"):
        series.save()
    assert folder_hash(folder) == before
    series.restore("Rows")
    assert series.status() == []
    with pytest.raises(EditError):
        series.PixelData = b""
