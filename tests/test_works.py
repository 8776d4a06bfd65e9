"""Facts about xdicom.works: which files a save writes, with what in them, and what it refuses before writing any."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import rawdicom as raw
from conftest import folder_hash
from factories import make_enhanced, make_report, make_series
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

import xdicom as xd
from xdicom.columns import Column
from xdicom.edits import REMOVED, SAVED, Layer, Overlay
from xdicom.errors import SaveError, StaleError, XdicomError
from xdicom.scan import SeriesKey

FLIP, ECHO_TIME = 0x00181314, 0x00180081


def opened(folder: Path) -> xd.Series:
    """Return the first series of a folder."""
    return xd.database(folder).series()[0]


def reopened(series: xd.Series) -> xd.Series:
    """Return a series as another process would open it."""
    return next(each for each in xd.database(series._store.root).series() if each.key == series.key)


def stage(series: xd.Series, overlay: Overlay) -> None:
    """Lay columns over a saved series, as edits of some of its rows do."""
    store = series._store
    store.begin()
    store.edits.set_columns({Layer(SAVED, SeriesKey(*series.key)): overlay}, {})
    store._refresh()


def remove(series: xd.Series, rows: list[int]) -> None:
    """Stage the removal of some rows."""
    codes = np.full(len(series.frames()), -1, np.int32)
    codes[rows] = 0
    stage(series, {REMOVED: Column([("", b"1")], codes)})


def only_file(folder: Path) -> pydicom.Dataset:
    """Return the one DICOM file of a folder."""
    (path,) = folder.glob("*.dcm")
    return pydicom.dcmread(path)


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of each file."""
    return {path.name: hashlib.blake2b(path.read_bytes()).hexdigest() for path in folder.glob("*.dcm")}


# Rows of their own -------------------------------------------------------------------------------------------------


def test_only_files_that_change(tmp_path):
    """Of an edit that some files have already, only the others are written."""
    make_series(tmp_path, slices=3)
    series = opened(tmp_path)
    before = digests(tmp_path)
    column = Column([("DS", b"7 "), *series.frames().columns[0x00200032].values], np.array([-1, 0, -1], np.int32))
    stage(series, {ECHO_TIME: column})
    series.save()
    changed = [name for name, digest in digests(tmp_path).items() if before[name] != digest]
    assert len(changed) == 1


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated"])
def test_frames_of_one_file_that_differ(tmp_path, syntax):
    """Values of each frame of an enhanced file go into its own groups; what all share moves there."""
    make_enhanced(tmp_path / "e.dcm", syntax=syntax)
    series = opened(tmp_path)
    pixels = series.ndarray()
    stage(series, {FLIP: Column([("DS", b"1 "), ("DS", b"2 ")], np.array([0, 1, -1], np.int32))})
    assert series.frames().values("FlipAngle")[:2].tolist() == [1, 2]
    series.save()
    read = reopened(series).frames()
    assert read.values("FlipAngle")[:2].tolist() == [1, 2]
    assert read.column(FLIP)[1][2] == -1
    assert reopened(series).RepetitionTime == 5
    dataset = only_file(tmp_path)
    assert "MRTimingAndRelatedParametersSequence" not in dataset.SharedFunctionalGroupsSequence[0]
    assert np.array_equal(series.ndarray(), pixels)


def test_a_tag_of_the_whole_file(tmp_path):
    """A tag that only the file as a whole can have is refused where its frames differ in it, and nothing is written."""
    make_enhanced(tmp_path / "e.dcm")
    before = folder_hash(tmp_path)
    series = opened(tmp_path)
    stage(series, {0x00204000: Column([("LT", b"a ")], np.array([0, -1, -1], np.int32))})
    with pytest.raises(SaveError, match="no functional group holds"):
        series.save()
    assert folder_hash(tmp_path) == before
    assert [change.what for change in series.status()] == ["ImageComments"]


def test_long_values(tmp_path):
    """A long value, which is kept as a place in the file, is not taken for an edit of itself."""
    make_series(tmp_path, slices=2, ImageComments="x" * 3000)
    series = opened(tmp_path)
    before = digests(tmp_path)
    series.ImageComments = series.ImageComments
    assert series.status() == []
    stage(series, {0x00204000: Column([("LT", b"x" * 3000)])})
    series.save()
    assert digests(tmp_path) == before


# Frames that go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["", RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("gone", [[0], [2, 3], [0, 2, 4]])
def test_some_frames_go(tmp_path, gone, compress):
    """A file of the frames that stay has their items, their pixels, their number, and a new SOPInstanceUID."""
    make_enhanced(tmp_path / "e.dcm", slices=6, compress=compress, shape=(32, 32))
    series = opened(tmp_path)
    stay = np.setdiff1d(np.arange(6), gone)
    pixels, uid = series.ndarray()[..., stay], series.SOPInstanceUID.item()
    positions = series.frames().values("ImagePositionPatient")[stay]
    before = only_file(tmp_path)
    remove(series, gone)
    assert np.array_equal(series.ndarray(), pixels)
    series.save()
    after = reopened(series)
    assert np.array_equal(after.ndarray(), pixels)
    assert np.array_equal(after.frames().values("ImagePositionPatient"), positions)
    dataset = only_file(tmp_path)
    assert (dataset.NumberOfFrames, len(dataset.PerFrameFunctionalGroupsSequence)) == (len(stay), len(stay))
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID != uid
    assert dataset.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert np.array_equal(dataset.pixel_array, before.pixel_array[stay])


def test_arrays_made_before_frames_go(tmp_path):
    """An array made before frames went does not read other frames than it did: it raises."""
    make_enhanced(tmp_path / "e.dcm", slices=4)
    series = opened(tmp_path)
    lazy = series.to_xarray()
    remove(series, [0])
    series.save()
    with pytest.raises(StaleError):
        lazy.compute()
    series.database.close()


def test_all_frames_go(tmp_path):
    """A file of which all frames go goes."""
    make_enhanced(tmp_path / "e.dcm")
    series = opened(tmp_path)
    series.remove()
    series._store.save(())
    assert list(tmp_path.glob("*.dcm")) == []


def test_frames_and_tags(tmp_path):
    """Frames go and tags change in one save."""
    make_enhanced(tmp_path / "e.dcm")
    series = opened(tmp_path)
    series.FlipAngle = 33
    remove(series, [1])
    series.PatientName = "A^B"
    series.save()
    assert (reopened(series).FlipAngle, reopened(series).PatientName) == ([33], ["A^B"])
    assert len(series.frames()) == 2


def test_part_of_an_enhanced_file_in_another_series(tmp_path):
    """subseries() makes an enhanced file of the frames that match, under new UIDs; the original stays."""
    make_enhanced(tmp_path / "e.dcm", dims={"FlipAngle": [5, 10]})
    series = opened(tmp_path)
    before = (tmp_path / "e.dcm").read_bytes()
    wanted = series.ndarray(["SliceLocation", "FlipAngle"])[..., 1]
    sub = series.subseries(FlipAngle=10)
    series._store.save(())
    again = reopened(sub)
    assert (len(again.frames()), again.FlipAngle) == (3, [10])
    assert np.array_equal(again.ndarray("SliceLocation"), wanted)
    files = again.frames().files.paths
    assert len(files) == 1
    dataset = pydicom.dcmread(os.path.join(os.fsencode(tmp_path), files[0]).decode())
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"
    assert dataset.NumberOfFrames == 3
    assert (tmp_path / "e.dcm").read_bytes() == before


# New pixels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["", RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("shape", [(32, 32), (20, 24)])
def test_new_pixels_of_an_enhanced_file(tmp_path, compress, shape):
    """New pixels, of another matrix too, go into one native PixelData; rescale and window into the groups."""
    make_enhanced(tmp_path / "e.dcm", slices=3, compress=compress, shape=(32, 32), slopes=[1, 2, 3])
    series = opened(tmp_path)
    uid = series.SOPInstanceUID
    values = np.linspace(-3, 900.5, shape[0] * shape[1] * 3).reshape(shape[1], shape[0], 3)
    values[0, 0, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series.set_ndarray(values)
    staged = series.ndarray()
    assert np.allclose(staged, values, atol=0.05, equal_nan=True)
    series.save()
    after = reopened(series)
    assert np.array_equal(after.ndarray(), staged, equal_nan=True)
    assert after.SOPInstanceUID == uid
    dataset = only_file(tmp_path)
    assert not dataset.file_meta.TransferSyntaxUID.is_compressed
    assert (dataset.Rows, dataset.Columns, dataset.NumberOfFrames) == (*shape, 3)
    assert "RescaleSlope" not in dataset
    assert "WindowCenter" not in dataset
    for item in dataset.PerFrameFunctionalGroupsSequence:
        assert float(item.PixelValueTransformationSequence[0].RescaleSlope) == after.RescaleSlope
    assert "WindowWidth" in dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]


def test_frames_out_of_order(tmp_path):
    """New pixels go to the frames that they are for, whatever the order of frames in the file."""
    make_enhanced(tmp_path / "e.dcm", slices=4, order=[2, 0, 3, 1])
    series = opened(tmp_path)
    values = series.ndarray("SliceLocation") // 2
    series.set_ndarray(values, dims="SliceLocation")
    series.save()
    assert np.array_equal(reopened(series).ndarray("SliceLocation"), values)


def test_stale_scales_go(tmp_path):
    """Real-world value maps and vendors' own scales, which were of other pixels, are not kept."""

    def change(dataset: pydicom.Dataset) -> None:
        for item in dataset.PerFrameFunctionalGroupsSequence:
            block = item.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
            inner = pydicom.Dataset()
            inner.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 2.0)
            block.add_new(0x0F, "SQ", [inner])
            mapping = pydicom.Dataset()
            mapping.LUTLabel, mapping.RealWorldValueSlope = "scale", 3.0
            item.RealWorldValueMappingSequence = [mapping]

    make_enhanced(tmp_path / "e.dcm", change=change)
    series = opened(tmp_path)
    series.set_ndarray(series.ndarray() // 2)
    series.save()
    for item in only_file(tmp_path).PerFrameFunctionalGroupsSequence:
        assert "RealWorldValueMappingSequence" not in item
        assert 0x2005100E not in item[0x2005100F].value[0]


@pytest.mark.parametrize("compress", [RLELossless, JPEGLSLossless])
def test_new_pixels_of_compressed_images(tmp_path, compress):
    """New pixels of compressed single images are native, and flags of earlier loss stay."""
    make_series(tmp_path, slices=2, compress=compress, shape=(32, 32), LossyImageCompression="01")
    series = opened(tmp_path)
    values = series.ndarray() // 2
    series.set_ndarray(values)
    series.save()
    assert np.array_equal(reopened(series).ndarray(), values)
    for path in tmp_path.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID == raw.EXPLICIT
        assert dataset.LossyImageCompression == "01"


@pytest.mark.parametrize("syntax", ["implicit", "big", "deflated"])
def test_new_pixels_in_other_encodings(tmp_path, syntax):
    """New pixels keep the encoding of an uncompressed file."""
    make_series(tmp_path, slices=2, syntax=syntax)
    series = opened(tmp_path)
    before = {path.name: pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in tmp_path.glob("*.dcm")}
    values = series.ndarray() // 2
    series.set_ndarray(values)
    series.save()
    assert np.array_equal(reopened(series).ndarray(), values)
    for path in tmp_path.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID == before[path.name]
    stored = [pydicom.dcmread(path).pixel_array.max() for path in tmp_path.glob("*.dcm")]
    assert sorted(stored) == sorted(values.max(axis=(0, 1)))


def test_other_objects_of_a_series_stay(tmp_path):
    """New pixels of a series leave a report in it alone."""
    made = make_series(tmp_path, slices=2)
    uid = pydicom.dcmread(made.files[0])
    make_report(
        tmp_path / "report.dcm",
        StudyInstanceUID=uid.StudyInstanceUID,
        SeriesInstanceUID=uid.SeriesInstanceUID,
        PatientID=uid.PatientID,
    )
    series = opened(tmp_path)
    before = (tmp_path / "report.dcm").read_bytes()
    series.set_ndarray(series.ndarray() // 2)
    series.save()
    assert (tmp_path / "report.dcm").read_bytes() == before


def test_new_pixels_of_images_that_share_an_instance(tmp_path):
    """New pixels of images with one SOPInstanceUID are refused, and nothing is written: which is whose is not known."""
    make_series(tmp_path, slices=3)
    one, other = sorted(tmp_path.glob("*.dcm"))[:2]
    dataset = pydicom.dcmread(other)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.dcmread(one).SOPInstanceUID
    dataset.save_as(other)
    before = digests(tmp_path)
    series = opened(tmp_path)
    series.set_ndarray(series.ndarray() // 2)
    with pytest.raises(SaveError, match="2 new images have the SOPInstanceUID of"):
        series.save()
    assert digests(tmp_path) == before


def test_new_pixels_and_new_images_at_once(tmp_path):
    """Images that keep their files, some with other tags, are saved along with added ones; all read back."""
    make_series(tmp_path, slices=3)
    series = opened(tmp_path)
    array = series.to_xarray()
    step = float(array["slice"][1] - array["slice"][0])
    wider = array.reindex(slice=[*array["slice"].values, float(array["slice"][-1]) + step], fill_value=7)
    kept = array.to_numpy() // 2
    series.set_ndarray(
        np.concatenate([kept, np.full_like(kept[:1], 7)]).T, dims="slice", coords=[wider["slice"].values.tolist()]
    )
    series.EchoTime = 7.5
    series.save()
    after = reopened(series)
    assert np.array_equal(after.to_xarray()[:3], kept)
    assert (after.to_xarray()[3] == 7).all()
    assert (after.EchoTime, len(list(tmp_path.rglob("*.dcm")))) == ([7.5], 4)


# Refusals ----------------------------------------------------------------------------------------------------------


def test_a_file_that_only_pydicom_reads(tmp_path):
    """Its edits stay staged, and a save that they are in is refused with the reason, before anything is written."""
    make_series(tmp_path, slices=2)
    uids = pydicom.dcmread(next(tmp_path.glob("*.dcm")))
    elements = raw.base() | {0x00080070: ("XX", b"ab")}
    elements[0x00100020] = "LO", raw.text(uids.PatientID)
    elements[0x0020000D] = "UI", raw.text(uids.StudyInstanceUID, "\0")
    elements[0x0020000E] = "UI", raw.text(uids.SeriesInstanceUID, "\0")
    (tmp_path / "odd.dcm").write_bytes(raw.file(raw.encoded(elements)))
    before = folder_hash(tmp_path)
    series = opened(tmp_path)
    series.PatientName = "A^B"
    with pytest.raises(SaveError, match=r"odd\.dcm.*only pydicom reads"):
        series.save()
    assert folder_hash(tmp_path) == before
    assert [change.what for change in series.status()] == ["PatientName"]
    assert list((tmp_path / ".xdicom").glob("tmp/*")) == []


def test_text_in_no_character_set(tmp_path):
    """Text whose character set was taken away is refused rather than garbled."""
    make_series(tmp_path, slices=1, SpecificCharacterSet=None)
    series = opened(tmp_path)
    stage(series, {0x00100010: Column([("PN", "山田".encode())])})
    with pytest.raises(SaveError, match="SpecificCharacterSet"):
        series.save()


def test_a_copy_of_new_pixels_that_are_not_saved(tmp_path):
    """A copy of an enhanced series whose new pixels are not saved yet is refused: its file does not have them."""
    make_enhanced(tmp_path / "e.dcm")
    series = opened(tmp_path)
    series.set_ndarray(series.ndarray() // 2)
    copy = series.copy_to(series.study)
    with pytest.raises(XdicomError, match="save that series first"):
        copy.save()
