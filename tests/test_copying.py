"""Facts about xdicom.copying: files written anew with some elements changed, their pixels as they stand."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import base_dataset, make_enhanced, make_report, make_series, set_pixels, write
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from test_saving import files, pixel_bytes, refused

import xdicom as xd
from xdicom import copying
from xdicom.errors import EditError, SaveError

pytestmark = pytest.mark.usefixtures("collected")

NAMES = ("rider-flip-angles", "ge-fmri-4d", "philips-enhanced-b0", "siemens-enhanced-colour", "ultrasound-palette")
NAMES += ("xray-angio-compressed", "siemens-mosaic-nine-syntaxes", "molli-enhanced")


@pytest.fixture
def series(tmp_path):
    """A series of three files in "in"."""
    make_series(tmp_path / "in", slices=3)
    database = xd.database(tmp_path / "in")
    yield database.series()[0]
    database.close()


def merged(folder, target):
    """Merge all series of a folder, save the merged one, and return it with the files of source and copy by UID."""
    database = xd.database(folder)
    copy = xd.merge(database.series())
    copy.save(target)
    return database, copy


def pairs(database, copy, target):
    """Yield the paths of each source file and of its copy."""
    by_uid = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID: path for path in files(target).values()}
    frames = copy.frames()
    for row in range(len(frames)):
        source = Path(os.fsdecode(os.path.join(frames.files.root, frames.files.paths[frames.file[row]])))
        yield source, by_uid[frames["SOPInstanceUID"][row]]


COPIED = {
    "explicit": {"dtype": "int16"},
    "implicit": {"syntax": "implicit"},
    "big": {"syntax": "big"},
    "deflated": {"syntax": "deflated"},
    "12 bits": {"bits_stored": 12},
    "float": {"dtype": "float32"},
    "double": {"dtype": "float64"},
    "32 bits": {"dtype": "uint32"},
    "rgb": {"shape": (6, 5, 3), "dtype": "uint8"},
    "odd": {"shape": (5, 5), "dtype": "uint8"},
    "rle": {"compress": RLELossless},
    "jpeg-ls": {"compress": JPEGLSLossless},
}


@pytest.mark.parametrize("options", COPIED.values(), ids=COPIED)
def test_copies_hold_the_same_pixels(tmp_path, options):
    """Copies of any encoding read the same, before and after they are saved, under new UIDs."""
    series = make_series(tmp_path / "in", **options)
    database, copy = merged(tmp_path / "in", tmp_path / "out")
    back = xd.database(tmp_path / "out")
    assert np.array_equal(copy.ndarray(), database.series()[0].ndarray())
    assert np.array_equal(back.ndarray(), copy.ndarray())
    assert back.ndarray().dtype == copy.ndarray().dtype
    assert not set(back.SOPInstanceUID) & {pydicom.dcmread(path).SOPInstanceUID for path in series.files}


@pytest.mark.parametrize("options", [v for k, v in COPIED.items() if k not in ("big",)])
def test_copies_hold_the_same_bytes(tmp_path, options):
    """Pixel data is copied as it stands, compressed or not, and so is every element that did not have to change."""
    make_series(tmp_path / "in", **options)
    database, copy = merged(tmp_path / "in", tmp_path / "out")
    for source, target in pairs(database, copy, tmp_path / "out"):
        before, after = pydicom.dcmread(source), pydicom.dcmread(target)
        assert pixel_bytes(source) == pixel_bytes(target)
        changed = {element.keyword for element in before if after.get(element.tag) != element}
        assert changed - {"PixelData"} <= {"SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"}
        assert {element.keyword for element in after} == {element.keyword for element in before}


def test_copies_of_big_endian_files(tmp_path):
    """Copies of big-endian files are big endian, whatever the width of their words."""
    for dtype in ("uint16", "uint32"):
        made = make_series(tmp_path / dtype, slices=2, syntax="big", dtype=dtype)
        merged(tmp_path / dtype, tmp_path / f"out-{dtype}")
        stored = [pydicom.dcmread(path).pixel_array for path in files(tmp_path / f"out-{dtype}").values()]
        assert np.array_equal(stored, made.stored)


def test_copies_of_enhanced_files(tmp_path):
    """Frames of one file stay one file, with its functional groups."""
    made = make_enhanced(
        tmp_path / "in" / "e.dcm", dims={"FlipAngle": [5, 10]}, compress=JPEG2000Lossless, shape=(32, 32)
    )
    database, copy = merged(tmp_path / "in", tmp_path / "out")
    ((name, path),) = files(tmp_path / "out").items()
    before, after = pydicom.dcmread(made.files[0]), pydicom.dcmread(path)
    assert after.PerFrameFunctionalGroupsSequence == before.PerFrameFunctionalGroupsSequence
    assert after.PixelData == before.PixelData
    assert after.file_meta.TransferSyntaxUID == JPEG2000Lossless
    dims = ("SliceLocation", "FlipAngle")
    assert np.array_equal(xd.database(tmp_path / "out").ndarray(dims), database.series()[0].ndarray(dims))
    assert name.endswith("00001.dcm")
    assert len(copy.SOPInstanceUID) == 1


def test_copies_of_odd_pixels(tmp_path):
    """Pixels of one bit, YBR and palettes are copied as they stand."""
    rng = np.random.default_rng(1)
    bits = base_dataset("bits", "1.2.840.10008.5.1.4.1.1.7")
    set_pixels(bits, rng.integers(0, 255, (4, 6)).astype("u1"))
    bits.BitsAllocated = bits.BitsStored = 1
    bits.HighBit, bits.PixelData = 0, b"\x5a\xa5\x0f\x00"
    write(tmp_path / "in" / "bits.dcm", bits)
    ybr = base_dataset("ybr", "1.2.840.10008.5.1.4.1.1.7")
    set_pixels(ybr, rng.integers(0, 255, (4, 6, 3)).astype("u1"))
    ybr.PhotometricInterpretation = "YBR_FULL_422"
    ybr.PixelData = bytes(range(48))
    write(tmp_path / "in" / "ybr.dcm", ybr)
    database = xd.database(tmp_path / "in")
    for series in database.series():
        copy = xd.merge([series])
        copy.save(tmp_path / "out" / series.SeriesDescription.item())
        for source, target in pairs(database, copy, tmp_path / "out"):
            assert pixel_bytes(source) == pixel_bytes(target)
        again = xd.database(tmp_path / "out" / series.SeriesDescription.item())
        assert np.array_equal(again.ndarray(), series.ndarray())


def test_copies_of_reports(tmp_path):
    """Objects without pixels are copied, too."""
    make_report(tmp_path / "in" / "r.dcm", text="Nothing found.")
    merged(tmp_path / "in", tmp_path / "out")
    (path,) = files(tmp_path / "out").values()
    assert pydicom.dcmread(path).ContentSequence[0].TextValue == "Nothing found."


def test_copies_keep_text_readable(tmp_path):
    """New text on copies is in a character set that holds all of it, or it raises."""
    make_series(tmp_path / "in", slices=1, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Änne")
    series = xd.database(tmp_path / "in").series()
    xd.merge(series, SeriesDescription="Verhältnis").save(tmp_path / "out")
    (path,) = files(tmp_path / "out").values()
    ds = pydicom.dcmread(path)
    assert (str(ds.PatientName), ds.SeriesDescription) == ("Müller^Änne", "Verhältnis")
    with pytest.raises(EditError, match="ISO_IR 100"):
        xd.merge(series, SeriesDescription="比率")


def test_a_changed_source_of_a_copy(tmp_path, series):
    """A copy whose source changed since is not written."""
    copy = xd.merge([series])
    path = tmp_path / "in" / "a_00002.dcm"
    path.write_bytes(path.read_bytes() + b"\0\0")
    refused(copy, tmp_path / "out", "changed since it was scanned")


def test_part_of_a_file(tmp_path):
    """Of a multi-frame file some frames are written as a file of these; a frame that it does not have is refused."""
    make_enhanced(tmp_path / "in" / "e.dcm")
    frames = xd.database(tmp_path / "in").series()[0].frames()
    copying.copy_changed(frames.take([0, 2]), tmp_path / "out.dcm")
    assert pydicom.dcmread(tmp_path / "out.dcm").NumberOfFrames == 2
    with pytest.raises(SaveError, match="has 3 frames, and others"):
        copying.copy_changed(frames.take([0, 0]), tmp_path / "twice.dcm")
    assert not (tmp_path / "twice.dcm").exists()


def test_frames_given_twice(tmp_path, series):
    """Merging a series with itself, or with its study, is a slip."""
    with pytest.raises(EditError, match="given twice"):
        xd.merge([series, series.study])


@pytest.mark.parametrize("name", NAMES)
def test_real_copies_are_faithful(tmp_path, real_copy, name):
    """Real series, compressed, coloured and enhanced ones too, are the same after merging and saving."""
    database, copy = merged(real_copy(name), tmp_path / "out")
    for source, target in pairs(database, copy, tmp_path / "out"):
        is_turned = pydicom.dcmread(source).file_meta.TransferSyntaxUID == ExplicitVRBigEndian
        assert is_turned or pixel_bytes(source) == pixel_bytes(target)
    assert np.array_equal(xd.database(tmp_path / "out").ndarray(), copy.ndarray())
