"""Facts about xdicom.editing: what can be set, how it is written, and what is refused before anything is staged."""

import datetime
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import make_series
from hypothesis import given, settings
from hypothesis import strategies as st

import xdicom as xd
from xdicom.errors import EditError, SaveError, TagValueError, XdicomError


@pytest.fixture
def series(tmp_path):
    """Give a saved series of three images."""
    make_series(tmp_path / "in", slices=3)
    database = xd.database(tmp_path / "in")
    yield database.series()[0]
    database.close()


def saved(series: xd.Series) -> list[pydicom.Dataset]:
    """Save a series, and return what pydicom reads of its files."""
    series.save()
    assert series.status() == []
    frames = series.frames()
    return [pydicom.dcmread(Path(frames.files.root.decode()) / path.decode()) for path in frames.files.paths]


# Values ------------------------------------------------------------------------------------------------------------

VALUES = {
    "DS": ("EchoTime", 3.25, 3.25, "3.25"),
    "DS of 16 characters": ("SliceThickness", 1 / 3, 0.33333333333333, "0.33333333333333"),
    "IS": ("SeriesNumber", 12, 12, 12),
    "number as text": ("EchoTime", "3.5", 3.5, "3.5"),
    "several": ("PixelSpacing", [0.5, 0.75], (0.5, 0.75), [0.5, 0.75]),
    "text with backslashes": ("PixelSpacing", "0.5\\0.75", (0.5, 0.75), [0.5, 0.75]),
    "DA": ("StudyDate", datetime.date(2024, 2, 29), "20240229", "20240229"),
    "ISO date": ("StudyDate", "2024-02-28", "20240228", "20240228"),
    "TM in seconds": ("StudyTime", 3723.5, 3723.5, "010203.500000"),
    "TM": ("StudyTime", "10:02:03", 36123.0, "100203"),
    "AT": ("FrameIncrementPointer", "FrameTime", (0x0018, 0x1063), "(0018,1063)"),
    "FD": ("EffectiveEchoTime", 1.5, 1.5, 1.5),
    "numpy": ("EchoTime", np.float32(1.5), 1.5, "1.5"),
    "array": ("PixelSpacing", np.array([0.5, 0.75]), (0.5, 0.75), [0.5, 0.75]),
    "empty": ("PatientSex", "", None, ""),
    "empty list": ("PatientSex", [], None, ""),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values(series, kind):
    """A value reads back decoded before saving, after it, and by pydicom."""
    name, value, decoded, written = VALUES[kind]
    series[name] = value
    assert series[name] == [decoded]
    for dataset in saved(series):
        assert str(dataset[name].value) == str(written)
    assert series[name] == [decoded]


REFUSED = {
    "DS beyond text": ("EchoTime", float("nan")),
    "infinite DS": ("EchoTime", float("inf")),
    "text for a number": ("EchoTime", "soon"),
    "IS too large": ("SeriesNumber", 2**31),
    "IS not whole": ("SeriesNumber", 1.5),
    "too many values": ("PixelSpacing", [1, 2, 3]),
    "too few values": ("ImagePositionPatient", [1.0]),
    "CS in lower case": ("PatientSex", "female"),
    "SH too long": ("StudyID", "x" * 17),
    "UI": ("FrameOfReferenceUID", "1.2.x"),
    "DA": ("StudyDate", "20240230"),
    "TM": ("StudyTime", "25:00"),
    "US negative": ("AcquisitionMatrix", [-1, 0, 0, 1]),
    "PixelData": ("PixelData", b""),
    "group 2": ("TransferSyntaxUID", "1.2"),
    "group length": ((0x0008, 0x0000), 1),
    "functional groups": ("SharedFunctionalGroupsSequence", []),
    "PatientID removed": ("PatientID", None),
    "PatientID empty": ("PatientID", ""),
    "class removed": ("SOPClassUID", None),
    "series removed": ("SeriesInstanceUID", None),
    "one instance UID for several": ("SOPInstanceUID", "1.2.3"),
    "several values": ("EchoTime", xd.tags.UniqueValues([1, 2])),
    "no value": ("EchoTime", xd.tags.UniqueValues([])),
    "private without creator": ((0x0029, 0x1010), "x"),
    "private without VR": (("Nobody", 0x0029, 0x01), "x"),
    "private in an even group": (("Nobody", 0x0028, 0x01), "x"),
    "sequence of text": ("ReferencedImageSequence", "x"),
    "item that does not fit": ("ReferencedImageSequence", [{"ReferencedSOPInstanceUID": "x y"}]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(series, kind):
    """What an element cannot hold, or what cannot be set, raises before anything is staged."""
    name, value = REFUSED[kind]
    with pytest.raises(XdicomError):
        series[name] = value
    assert series.status() == []


def test_all_or_nothing(series):
    """Of a list of assignments none is staged where one is refused."""
    with pytest.raises(TagValueError):
        series[["PatientName", "EchoTime"]] = ["A^B", float("nan")]
    assert series.status() == []


def test_a_value_that_is_there(series):
    """A value that the files have already, however written, is no edit, and takes an earlier one back."""
    before = series.SliceThickness.item()
    series.SliceThickness = f"{before:.4f}"
    assert series.status() == []
    series.SliceThickness = 99
    series.SliceThickness = before
    assert series.status() == []


def test_unique_values(series):
    """The values of one tag, where they are one, serve as the value of another."""
    series.AccessionNumber = series.PatientID
    assert series.AccessionNumber == series.PatientID
    series.AccessionNumber = xd.tags.UniqueValues([None])
    assert series.AccessionNumber == [None]
    with pytest.raises(EditError, match="cannot be removed or empty"):
        series.PatientID = xd.tags.UniqueValues([None])


def test_dates_with_the_day_first(series):
    """A date that can only be DDMMYYYY is understood, with a warning."""
    with pytest.warns(UserWarning, match="DDMMYYYY"):
        series.StudyDate = "19112022"
    assert series.StudyDate == "20221119"


def test_removal(series):
    """None and del remove an element from every file."""
    del series.SliceThickness
    series["PatientSex"] = None
    assert (series.SliceThickness, series.PatientSex) == ([], [])
    assert all("SliceThickness" not in dataset and "PatientSex" not in dataset for dataset in saved(series))


def test_stored_pixels_warn(series):
    """An edit of what describes stored pixels warns once, and one that says what is there does not."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        series[["Rows", "Columns"]] = [99, 98]
    assert len(told) == 1
    assert "Rows, Columns describes the stored pixels" in str(told[0].message)
    assert told[0].filename == __file__
    with pytest.raises(SaveError, match="Rows"):
        series.save()
    series.restore()
    series.Rows = series.Rows


# Sequences ---------------------------------------------------------------------------------------------------------


def test_sequences(series):
    """Sequences take dicts and pydicom Datasets, nested too."""
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2", "1.3"
    other = {"ReferencedSOPClassUID": "1.4", "ReferencedSOPInstanceUID": "1.5"}
    series.ReferencedImageSequence = [item, other]
    assert series.ReferencedImageSequence[0][1] == other
    nested = {
        "PurposeOfReferenceCodeSequence": [{"CodeValue": "1", "CodeMeaning": "é"}],
        "ReferencedSOPClassUID": "1.2",
    }
    series.SourceImageSequence = [nested]
    for dataset in saved(series):
        assert [each.ReferencedSOPInstanceUID for each in dataset.ReferencedImageSequence] == ["1.3", "1.5"]
        assert dataset.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeMeaning == "é"


# Private elements --------------------------------------------------------------------------------------------------


def test_private_blocks(series):
    """A private element goes into its creator's block; a new creator takes the first free one, in every file."""
    series.set(("One", 0x0071, 0x01), "a", VR="LO")
    series.set(("Two", 0x0071, 0x01), 2.5, VR="FD")
    series.set(("One", 0x0071, 0x02), [1, 2], VR="US")
    for dataset in saved(series):
        assert dataset.private_block(0x71, "One")[1].value == "a"
        assert dataset.private_block(0x71, "One")[2].value == [1, 2]
        assert dataset.private_block(0x71, "Two")[1].value == 2.5
        assert sum(1 for element in dataset.group_dataset(0x71)) == 5


def test_private_elements_in_one_go(series):
    """Several elements of a new creator, set together, share a block."""
    series._set(
        {("One", 0x71, 1): "a", ("One", 0x71, 2): "b"}, {xd.tags.PrivateTag("One", 0x71, n): "LO" for n in (1, 2)}
    )
    assert all(len(dataset.group_dataset(0x71)) == 3 for dataset in saved(series))


def test_blocks_that_differ_between_files(tmp_path):
    """Where files have a creator in different blocks, or not at all, each is edited in its own."""
    make_series(tmp_path, slices=3)
    for number, path in enumerate(sorted(tmp_path.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        if number < 2:
            for creator in ["Other", "One"][number:]:
                dataset.private_block(0x71, creator, create=True).add_new(1, "LO", creator.lower())
        dataset.save_as(path)
    series = xd.database(tmp_path).series()[0]
    series.set(("One", 0x71, 1), "new", VR="LO")
    assert series["One", 0x71, 1] == "new"
    datasets = saved(series)
    assert [len(dataset.group_dataset(0x71)) for dataset in datasets] == [4, 2, 2]
    assert [dataset.private_block(0x71, "One")[1].value for dataset in datasets] == ["new"] * 3
    assert datasets[0].private_block(0x71, "Other")[1].value == "other"
    del series["One", 0x71, 1]
    assert all(1 not in dataset.private_block(0x71, "One") for dataset in saved(series))


def test_a_vr_that_is_not_written(tmp_path):
    """In implicit VR, who gives a VR that no dictionary knows is told what becomes of the value."""
    make_series(tmp_path, slices=2, syntax="implicit")
    series = xd.database(tmp_path).series()[0]
    with pytest.warns(UserWarning, match="is read as UN, not LO"):
        series.set(("One", 0x0071, 0x01), "a", VR="LO")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series.set(("One", 0x0071, 0x02), b"ab", VR="UN")
        series.set(("SIEMENS MR HEADER", 0x0019, 0x0C), "700", VR="IS")
        series.EchoTime = 5
    series.save()
    assert series["One", 0x0071, 0x01] == b"a "
    assert series["SIEMENS MR HEADER", 0x0019, 0x0C] == 700


def test_a_vr_that_is_written(series):
    """In explicit VR, a VR that is given is kept."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series.set(("One", 0x0071, 0x01), "a", VR="LO")
    series.save()
    assert series["One", 0x0071, 0x01] == "a"


def test_removing_what_is_not_there(series):
    """Removing an absent private element stages nothing."""
    del series["Nobody", 0x0071, 0x01]
    assert series.status() == []


def test_creators_stay(series):
    """A private creator cannot be removed without its elements."""
    series.set(("One", 0x71, 1), "a", VR="LO")
    with pytest.raises(EditError, match="creator of 1"):
        series[(0x71, 0x10)] = None
    series.restore((0x71, 0x10))
    assert series.status() == []


# Character sets ----------------------------------------------------------------------------------------------------


def test_japanese_into_ascii(tmp_path):
    """A name beyond the character set switches it to UTF-8 where all other text is ASCII."""
    make_series(tmp_path, slices=2, SpecificCharacterSet=None, PatientName="A^B")
    series = xd.database(tmp_path).series()[0]
    series.PatientName = "Yamada^Tarou=山田^太郎"
    assert series.PatientName == "Yamada^Tarou=山田^太郎"
    for dataset in saved(series):
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert dataset.PatientName.ideographic == "山田^太郎"


def test_japanese_beside_latin(tmp_path):
    """Where other text is not ASCII it raises, and nothing is garbled; set in one go, both are written."""
    make_series(tmp_path, slices=2, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Änne", StudyDescription="x")
    series = xd.database(tmp_path).series()[0]
    with pytest.raises(TagValueError, match="PatientName is not ASCII"):
        series.StudyDescription = "山田"
    series.StudyDescription = "Größe"
    with pytest.raises(TagValueError):
        series.StudyID = "山田"
    series[["SpecificCharacterSet", "PatientName", "StudyDescription"]] = ["ISO_IR 192", "山田", "Größe"]
    for dataset in saved(series):
        assert (str(dataset.PatientName), dataset.StudyDescription) == ("山田", "Größe")


def test_another_character_set_alone(tmp_path):
    """SpecificCharacterSet alone does not turn the text that is there, and says so."""
    make_series(tmp_path, slices=1, SpecificCharacterSet="ISO_IR 100", PatientName="Müller")
    series = xd.database(tmp_path).series()[0]
    with pytest.warns(UserWarning, match="PatientName"):
        series.SpecificCharacterSet = "ISO_IR 192"


def test_text_goes_with_its_character_set(tmp_path):
    """Taking back a switched character set takes back the text that needs it."""
    make_series(tmp_path, slices=1, SpecificCharacterSet=None, PatientName="A^B")
    series = xd.database(tmp_path).series()[0]
    series.PatientName = "山田"
    series.StudyID = "7"
    series.restore("SpecificCharacterSet")
    assert [change.what for change in series.status()] == ["StudyID"]


# US or SS ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "value"), [("int16", -5), ("uint16", 65000)])
def test_us_or_ss(tmp_path, dtype, value):
    """An element of VR US or SS follows PixelRepresentation."""
    make_series(tmp_path, slices=2, dtype=dtype)
    series = xd.database(tmp_path).series()[0]
    series.SmallestImagePixelValue = value
    assert series.SmallestImagePixelValue == value
    for dataset in saved(series):
        assert (dataset["SmallestImagePixelValue"].VR, dataset.SmallestImagePixelValue) == (
            "SS" if value < 0 else "US",
            value,
        )
    with pytest.raises(TagValueError):
        series.SmallestImagePixelValue = 65000 if value < 0 else -5


def test_signed_and_unsigned_files(tmp_path):
    """In a series of signed and unsigned files each gets its own VR."""
    make_series(tmp_path, slices=2, dtype="int16")
    path = sorted(tmp_path.glob("*.dcm"))[0]
    dataset = pydicom.dcmread(path)
    dataset.PixelRepresentation = 0
    dataset.save_as(path)
    series = xd.database(tmp_path).series()[0]
    series.LargestImagePixelValue = 5
    assert [each["LargestImagePixelValue"].VR for each in saved(series)] == ["US", "SS"]
    with pytest.raises(TagValueError):
        series.LargestImagePixelValue = 65000


# Any value ---------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\\^="), max_size=16)
ANY = {
    "EchoTime": st.floats(-1e15, 1e15, allow_nan=False),
    "PixelSpacing": st.tuples(*[st.floats(1e-3, 1e3)] * 2),
    "SeriesNumber": st.integers(-(2**31), 2**31 - 1),
    "EffectiveEchoTime": st.floats(allow_nan=False, allow_infinity=False),
    "StudyID": TEXT,
    "PatientName": TEXT,
    "ImageComments": st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=50),
    "StudyTime": st.integers(0, 86399).map(float),
    "StudyDate": st.dates(datetime.date(1900, 1, 1)).map(lambda date: f"{date:%Y%m%d}"),
    "AcquisitionMatrix": st.tuples(*[st.integers(0, 65535)] * 4),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Give a series that all examples edit."""
    folder = tmp_path_factory.mktemp("shared")
    make_series(folder, slices=2, SpecificCharacterSet=None)
    return folder


@given(values=st.fixed_dictionaries({}, optional=ANY))
@settings(max_examples=40)
def test_any_values(shared, values):
    """Whatever is set reads back the same before saving, after it, and in another process' eyes."""
    database = xd.database(shared)
    series = database.series()[0]
    try:
        series[list(values)] = list(values.values())
        before = {name: series[name] for name in values}
        series.save()
        again = xd.database(shared)
        read = {name: again.series()[0][name] for name in values}
        again.close()
        assert read == before
        for name, value in values.items():
            found = series[name].item()
            if isinstance(value, float):
                assert found == pytest.approx(value, rel=1e-9)
            elif isinstance(value, tuple):
                assert found == pytest.approx(value)
            else:
                assert found == (value if value != "" else None)
    finally:
        database.close()


@pytest.mark.parametrize("names", [(("Maker", 0x0071, 1),), ("Maker", 0x0071, 1)])
def test_restoring_a_private_element(tmp_path, names):
    """A private element is taken back by either of its names, and its creator with the last of a block."""
    make_series(tmp_path, slices=1)
    series = xd.database(tmp_path).series()[0]
    series.set(("Maker", 0x0071, 1), "one", VR="LO")
    series.set(("Maker", 0x0071, 2), "two", VR="LO")
    series.restore(*names)
    assert (series["Maker", 0x0071, 1], series["Maker", 0x0071, 2]) == ([], ["two"])
    series.restore(("Maker", 0x0071, 2))
    assert series.status() == []
