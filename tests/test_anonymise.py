"""A folder without what identifies patients."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import folder_hash
from factories import make_enhanced, make_image, make_report, make_series, write
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RLELossless

import xdicom as xd
from xdicom.anonymise import anonymise
from xdicom.errors import SaveError

NAME = "Stradivari"


def all_bytes(folder: Path) -> bytes:
    """Return every name and every byte in a folder."""
    found = [os.fsencode(path.relative_to(folder)) for path in folder.rglob("*")]
    return b"\n".join([*found, *(path.read_bytes() for path in folder.rglob("*") if path.is_file())])


def hide(ds: Dataset, index: int = 0) -> None:
    """Write a name wherever one has been found in real files."""
    ds.PatientName = f"{NAME}^Antonio"
    ds.ImageComments, ds.SequenceName = f"see {NAME}", f"tse_{NAME[:8]}"
    ds.ReferencedImageSequence = [Dataset()]
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    ds.ReferencedImageSequence[0].PurposeOfReferenceCodeSequence = [Dataset()]
    code = ds.ReferencedImageSequence[0].PurposeOfReferenceCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", f"of {NAME}"
    block = ds.private_block(0x0029, f"{NAME} INC", create=True)
    block.add_new(0x01, "LO", NAME)
    item = Dataset()
    item.OperatorsName = NAME
    block.add_new(0x02, "SQ", [item])
    ds.add_new(0x00189999, "UN", f"{NAME} ".encode())  # no element of the standard
    nested = b"\x08\0\x70\x10" + struct.pack("<I", len(NAME)) + NAME.encode()  # OperatorsName
    raw = struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested
    related = Tag("RelatedSeriesSequence")
    ds[related] = RawDataElement(related, "UN", len(raw), raw, 0, False, True)
    ds.add_new(0x60000022, "LO", NAME)
    ds.add_new(0x60003000, "OW", f"{NAME}!!".encode())
    ds.add_new(0x60004000, "LT", NAME)
    ds.add_new(0x50003000, "OW", f"{NAME}!!".encode())
    ds.add_new(0xFFFCFFFC, "OB", f"{NAME}!!".encode())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A series in folders that are named after the patient, with the name in every place."""
    folder = tmp_path / "in" / f"{NAME} Antonio" / "1956-12-03"
    series = make_series(folder, name=NAME, change=hide, PatientID="ID4711", StationName=NAME, SeriesDescription=NAME)
    for path in series.files:
        ds = dcmread(path)
        ds.file_meta.SourceApplicationEntityTitle = NAME
        ds.file_meta.PrivateInformationCreatorUID, ds.file_meta.PrivateInformation = "1.2.3", NAME.encode()
        ds.preamble = NAME.encode().ljust(128, b"\0")
        ds.save_as(path)
        with open(path, "ab") as file:
            file.write(b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<I", 10) + NAME.encode())
    return tmp_path / "in"


def test_no_name_is_left(source: Path, tmp_path: Path) -> None:
    """In no file and no file name: of sequences, private and unknown elements, overlays, file meta and preamble."""
    assert all_bytes(source).count(NAME.encode()) > 40
    result = anonymise(source, tmp_path / "out")
    assert (len(result.written), result.left_out, result.to_look_at) == (3, [], [])
    left = all_bytes(tmp_path / "out").lower()
    for word in (NAME, "Antonio", "ID4711", "19700101", "20240229", "1.2.3\0", "Made for tests"):
        assert word.lower().encode() not in left, word


def test_it_is_read_as_before(source: Path, tmp_path: Path) -> None:
    """Pixels and geometry are the same, and one series stays one."""
    anonymise(source, tmp_path / "out")
    (before,), (after,) = (xd.database(path).series() for path in (source, tmp_path / "out"))
    old, new = before.to_xarray(), after.to_xarray()
    np.testing.assert_array_equal(old.values, new.values)
    np.testing.assert_allclose(before.affine, after.affine)
    assert not set(before.SOPInstanceUID) & set(after.SOPInstanceUID)


def test_the_source_is_not_touched(source: Path, tmp_path: Path) -> None:
    """Nothing is written there."""
    before = folder_hash(source, ignore=())
    anonymise(source, tmp_path / "out")
    assert folder_hash(source, ignore=()) == before


def test_a_key_gives_the_same_again(source: Path, tmp_path: Path) -> None:
    """Two calls with one key write the same files; without a key others."""
    for name in "ab":
        anonymise(source, tmp_path / name, key=b"0123456789abcdef")
    anonymise(source, tmp_path / "c")
    names = [{path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.dcm")} for name in "abc"]
    assert names[0] == names[1]
    assert not names[0] & names[2]
    with pytest.raises(ValueError, match="a key of 3 bytes"):
        anonymise(source, tmp_path / "d", key=b"abc")


def test_what_cannot_be_cleaned_is_left_out(tmp_path: Path) -> None:
    """Reports, broken files, what shows text, and what is no DICOM, each with the reason."""
    source = tmp_path / "in"
    make_report(source / "a.dcm", text=NAME)
    make_image(source / "b.dcm", np.ones((4, 4), "u1"), BurnedInAnnotation="YES")
    good = make_image(source / "c.dcm", np.ones((4, 4), "u1"))
    (source / "d.dcm").write_bytes(good.read_bytes()[:200])
    (source / "e.txt").write_text(NAME)
    result = anonymise(source, tmp_path / "out")
    reasons = dict(result.left_out)
    assert sorted(reasons) == ["a.dcm", "b.dcm", "d.dcm", "e.txt"]
    assert "no pixels" in reasons["a.dcm"]
    assert "BurnedInAnnotation" in reasons["b.dcm"]
    assert reasons["e.txt"] == "it is no DICOM"
    assert len(result.to_look_at) == 1


def test_names_in_compressed_pixels_are_found(tmp_path: Path) -> None:
    """A comment that an encoder left in a frame keeps the file out."""
    source = tmp_path / "in"
    (path,) = make_series(source, slices=1, compress=RLELossless, PatientName=NAME).files
    assert anonymise(source, tmp_path / "one").left_out == []
    ds = dcmread(path)
    ds.PixelData += b"\xfe\xff\x00\xe0" + struct.pack("<I", 10) + NAME.encode()
    ds.save_as(path)
    assert anonymise(source, tmp_path / "two").left_out == [("a_00001.dcm", "a name is in its compressed pixels")]


def test_overlays_in_pixels_are_left_out(tmp_path: Path) -> None:
    """Bits above those that are stored may hold text."""
    make_series(tmp_path / "in", slices=1, change=lambda ds, i: ds.add_new(0x60000102, "US", 12))
    assert "overlay" in anonymise(tmp_path / "in", tmp_path / "out").left_out[0][1]


def test_enhanced_files(tmp_path: Path) -> None:
    """Frames keep their functional groups, with other UIDs and dates."""

    def change(ds: Dataset) -> None:
        for item in ds.PerFrameFunctionalGroupsSequence:
            item.FrameContentSequence[0].FrameAcquisitionDateTime = "20240229101500"
            item.FrameContentSequence[0].FrameComments = NAME

    make_enhanced(tmp_path / "in" / "a.dcm", dims={"EffectiveEchoTime": [4.6, 9.2]}, change=change, PatientName=NAME)
    anonymise(tmp_path / "in", tmp_path / "out")
    series = xd.database(tmp_path / "out").series()[0]
    assert series.EchoTime == [4.6, 9.2]
    assert series.to_xarray().sizes == {"slice": 3, "EchoTime": 2, "row": 6, "column": 5}
    left = all_bytes(tmp_path / "out")
    assert NAME.encode() not in left
    assert b"20240229" not in left


@pytest.mark.parametrize("syntax", ["implicit", "big", "deflated"])
def test_transfer_syntaxes_stay(tmp_path: Path, syntax: str) -> None:
    """Implicit, big-endian and deflated files are written as they were read."""
    made = make_series(tmp_path / "in", syntax=syntax, PatientName=NAME)
    result = anonymise(tmp_path / "in", tmp_path / "out")
    assert dcmread(result.written[0]).file_meta.TransferSyntaxUID == dcmread(made.files[0]).file_meta.TransferSyntaxUID
    np.testing.assert_array_equal(xd.database(tmp_path / "out").series()[0].to_xarray().values, made.values)


def test_folders_that_cannot_be(source: Path, tmp_path: Path) -> None:
    """The target is new or empty and outside, and the source is there."""
    with pytest.raises(SaveError, match="inside"):
        anonymise(source, source / "out")
    with pytest.raises(SaveError, match="new or empty folder"):
        anonymise(source, tmp_path)
    with pytest.raises(SaveError, match="no folder"):
        anonymise(tmp_path / "nowhere", tmp_path / "out")


def test_progress(source: Path, tmp_path: Path) -> None:
    """Each file is told."""
    told: list[tuple[int, int]] = []
    anonymise(source, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_duplicates_do_not_overwrite(tmp_path: Path) -> None:
    """Of two files of one instance the second is left out."""
    made = make_series(tmp_path / "in", slices=1)
    write(tmp_path / "in" / "copy.dcm", dcmread(made.files[0]))
    result = anonymise(tmp_path / "in", tmp_path / "out")
    assert len(result.written) == 1
    assert result.left_out == [("copy.dcm", "it is the same instance as another file")]
