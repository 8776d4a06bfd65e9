"""Facts about records as a user meets them: reading tags, filters and order, arrays, new records, other objects."""

import copy
import os
import pickle
import threading

import dask.array
import numpy as np
import pydicom
import pytest
from conftest import folder_hash
from factories import (
    OBLIQUE,
    make_series,
    uid,
)
from pydicom.tag import Tag

import xdicom as xd
from xdicom.errors import (
    NotOneValueError,
    PixelError,
    RecordError,
    StackError,
    UnknownTagError,
    XdicomError,
)

pytestmark = pytest.mark.usefixtures("collected")


@pytest.fixture
def folder(tmp_path):
    """Two patients; the first has two series of flip angles in one study, and a report."""
    for number, angle in ((1, 5.0), (2, 10.0)):
        tags = {"SeriesNumber": number, "SeriesDescription": f"ax {angle:g} flip", "FlipAngle": angle}
        make_series(tmp_path / "in", name=f"flip {number}", slices=3, layout=OBLIQUE, **tags)
    study = {"StudyInstanceUID": uid("study", 2), "StudyDate": "20230101", "PatientID": "P0"}
    make_series(tmp_path / "in", name="other", slices=1, shape=(4, 4), StudyDescription="later", **study)
    return tmp_path / "in"


@pytest.fixture
def database(folder):
    """The database of `folder`."""
    opened = xd.database(folder)
    yield opened
    opened.close()


def records(database):
    """Return one record of each level, the first patient's with two series."""
    study = database.studies(SeriesDescription="ax 5 flip")[0]
    return [database, study.patient, study, study.series()[0]]


# Reading (S1) ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(4))
def test_every_notation_at_every_level(database, level):
    """Attribute, keyword, pair, int, pydicom tag and the list of them read the same at each level."""
    record = records(database)[level]
    values = record.Columns
    names = ["Columns", (0x0028, 0x0011), 0x00280011, Tag("Columns"), Tag(0x0028, 0x0011)]
    assert all(record[name] == values for name in names)
    assert record[names] == [values] * len(names)
    assert values == ([4, 5] if level == 0 else [5])


def test_unique_values(database):
    """A list of distinct values, ascending; a single one also serves as that value, several raise."""
    angles = database.FlipAngle
    assert (isinstance(angles, list), angles) == (True, [5.0, 10.0])
    (series, *_) = database.series(SeriesDescription="ax 5 flip")
    assert (series.FlipAngle * 2, int(series.Rows), f"{series.FlipAngle:.1f}") == (10.0, 6, "5.0")
    assert [*range(series.Rows)] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(NotOneValueError, match="item"):
        int(angles)


def test_absent_and_empty(database):
    """An absent element is [], one that is there and empty is None; a typo is neither."""
    assert list(database.EchoTime) == []
    assert database.AccessionNumber == [None]
    assert not database.EchoTime


def test_private_elements(tmp_path):
    """A private element is named by its creator, group and element, whatever block it has."""
    for block, number in (("a", 0), ("b", 1)):

        def change(ds, index, number=number):
            for filler in range(number):
                ds.private_block(0x0029, f"FILLER {filler}", create=True)
            ds.private_block(0x0029, "MINE", create=True).add_new(0x0C, "IS", 7 + number)

        make_series(tmp_path, slices=1, name=block, change=change)
    database = xd.database(tmp_path)
    assert database["MINE", 0x0029, 0x0C] == [7, 8]
    assert database[["Rows", ("MINE", 0x0029, 0x0C)]] == [[6], [7, 8]]
    assert list(database["YOURS", 0x0029, 0x0C]) == []


def test_python_values(tmp_path):
    """DS is float, IS int, TM seconds, DA text, several values a tuple, sequences lists of dicts."""
    reference = pydicom.Dataset()
    reference.ReferencedSOPInstanceUID = "1.2.3"
    tags = {"EchoTime": 4.5, "StudyTime": "101530.25", "ReferencedImageSequence": [reference]}
    make_series(tmp_path, slices=1, **tags)
    series = xd.database(tmp_path).series()[0]
    assert (series.EchoTime, series.InstanceNumber, series.StudyTime, series.StudyDate) == (
        4.5,
        1,
        36930.25,
        "20240229",
    )
    assert series.ImageType == ("ORIGINAL", "PRIMARY", "M", "ND")
    assert series.ReferencedImageSequence == [[{"ReferencedSOPInstanceUID": "1.2.3"}]]
    assert [type(getattr(series, name).item()) for name in ("EchoTime", "InstanceNumber", "StudyTime")] == [
        float,
        int,
        float,
    ]


@pytest.mark.parametrize("ask", ["getattr", "getitem", "list", "condition", "dim"])
def test_a_typo_names_the_nearest(database, ask):
    """A misspelt keyword raises with the right one, wherever it stands; also AttributeError and KeyError."""
    asks = {
        "getattr": lambda: database.FlipAngel,
        "getitem": lambda: database["FlipAngel"],
        "list": lambda: database[["Rows", "FlipAngel"]],
        "condition": lambda: database.series(FlipAngel=5),
        "dim": lambda: database.series()[0].ndarray(dims=("FlipAngel",)),
    }
    with pytest.raises(UnknownTagError, match="FlipAngle") as caught:
        asks[ask]()
    assert isinstance(caught.value, AttributeError)
    assert isinstance(caught.value, KeyError)


def test_typos_in_an_empty_database():
    """A typo raises where there are no frames at all, too."""
    with pytest.raises(AttributeError, match="Rows"):
        xd.database().Rowz  # noqa: B018 - reading it is the point


def test_a_tuple_of_names(database):
    """Several names without a list raise and show the list."""
    with pytest.raises(UnknownTagError, match=r"\['Rows', 'Columns'\]"):
        database["Rows", "Columns"]
    with pytest.raises(KeyError, match=r"\['Rows', 'Columns', 'FlipAngle'\]"):
        database["Rows", "Columns", "FlipAngle"]


def test_dbdt(tmp_path):
    """The one keyword that starts in lower case is an attribute like others."""
    make_series(tmp_path, slices=1, dBdt=2.5)
    series = xd.database(tmp_path).series()[0]
    assert (series.dBdt, series["dBdt"], series[(0x0018, 0x1318)]) == (2.5, 2.5, 2.5)
    assert series.database.series(dBdt=2.5) == [series]


def test_records_as_objects(database):
    """hasattr, getattr with a default, copy, equality and hash behave; pickle and iteration say why not."""
    series = database.series()[0]
    assert hasattr(series, "Rows")
    assert not hasattr(series, "Rowz")
    assert not hasattr(series, "__array__")
    assert getattr(series, "Rowz", 1) == 1
    assert copy.copy(series) == copy.deepcopy(series) == series
    assert database.series()[0] in {series}
    assert series != series.study
    with pytest.raises(TypeError, match="to_xarray"):
        pickle.dumps(series)
    with pytest.raises(TypeError):
        iter(series)
    with pytest.raises(TypeError):
        1 in series  # noqa: B015 - asking is the point


def test_frames_table(database):
    """frames() gives values frame by frame, also as pandas."""
    series = database.series(SeriesDescription="ax 5 flip")[0]
    assert series.frames()["InstanceNumber"].tolist() == [1, 2, 3]
    table = series.to_pandas("InstanceNumber", "slice_location", (0x28, 0x10))
    assert list(table) == ["InstanceNumber", "slice_location", "Rows"]
    assert table["Rows"].tolist() == [6, 6, 6]
    assert "SOPInstanceUID" in series.to_pandas()


# Filters and order (S10) -------------------------------------------------------------------------------------------


def test_filters(database):
    """Conditions are values, lists, ranges or functions, of tags or attributes, at every level."""
    names = lambda found: [series.SeriesDescription.item() for series in found]  # noqa: E731
    assert names(database.series(FlipAngle=5)) == ["ax 5 flip"]
    assert names(database.series(FlipAngle=[5, 10])) == ["ax 5 flip", "ax 10 flip"]
    assert names(database.series(FlipAngle=slice(6, 20))) == ["ax 10 flip"]
    assert names(database.series(FlipAngle=lambda angle: angle < 6, Rows=6)) == ["ax 5 flip"]
    assert names(database.series(image_type="MAGNITUDE", PatientID="P1")) == ["ax 5 flip", "ax 10 flip"]
    assert database.series(FlipAngle=7) == []
    assert [patient.PatientID for patient in database.patients(FlipAngle=5)] == ["P1"]
    assert [len(study.series()) for study in database.studies()] == [1, 2]
    assert database.patients()[1].studies(StudyDescription="later") == []


def test_conditions_hold_together_in_one_frame(database):
    """A record matches where one frame matches all conditions, not one each."""
    assert database.patients(SeriesNumber=2, FlipAngle=5) == []


def test_order(tmp_path):
    """Patients by ID; studies by date, time, UID; series by number, then UID, numberless ones last."""
    made = [("B", "20200101", "1000", 1), ("A", "20200102", "0900", 2), ("A", "20200101", "1100", 10)]
    made += [("A", "20200101", "0900", 10), ("A", "20200101", "0900", 9), ("A", "20200101", "0900", None)]
    for index, (patient, date, time, number) in enumerate(made):
        tags = {"PatientID": patient, "StudyDate": date, "StudyTime": time, "SeriesNumber": number}
        make_series(tmp_path, slices=1, name=str(index), StudyInstanceUID=uid(patient, date, time), **tags)
    database = xd.database(tmp_path)
    assert [p.PatientID.item() for p in database.patients()] == ["A", "B"]
    assert [(s.StudyDate.item(), s.StudyTime.item()) for s in database.patients()[0].studies()] == [
        ("20200101", 32400.0),
        ("20200101", 39600.0),
        ("20200102", 32400.0),
    ]
    numbers = [list(s.SeriesNumber) for s in database.patients()[0].studies()[0].series()]
    assert numbers == [[9], [10], []]


def test_the_tree(database):
    """The database prints as a tree with frame counts and sizes, each record as its part of it."""
    text = repr(database)
    for part in ("P0", "P1 Doe^Jane", "1 ax 5 flip MR", "3 frames", "1 frame"):
        assert part in text
    assert repr(database.series()[0]).startswith("Series ")
    assert repr(database.patients()[0]).startswith("Patient ")


def test_relatives(database):
    """Every record knows what it is in and what is in it."""
    _, patient, study, series = records(database)
    assert (series.study, series.patient, series.database) == (study, patient, database)
    assert (database.children, patient.children, study.children) == (database.patients(), [study], study.series())
    assert series.children == []


# Arrays (S4, S7) ---------------------------------------------------------------------------------------------------


def test_ndarray_by_instance_number(tmp_path):
    """Without dims the shape is (x, y, n), n by InstanceNumber."""
    made = make_series(tmp_path, slices=4, shape=(6, 5), change=lambda ds, i: setattr(ds, "InstanceNumber", 10 - i))
    found = xd.database(tmp_path).series()[0].ndarray()
    assert found.shape == (5, 6, 4)
    assert np.array_equal(found, made.stored.transpose(2, 1, 0)[..., ::-1])


def test_ndarray_with_dims(database):
    """With dims the shape is (x, y, *dims), each ascending, on any record."""
    study = records(database)[2]
    found, coords = study.ndarray(dims=("SliceLocation", "FlipAngle"), return_coords=True)
    assert found.shape == (5, 6, 3, 2)
    assert coords["FlipAngle"].tolist() == [5, 10]
    assert np.all(np.diff(coords["SliceLocation"]) > 0)
    for index, series in enumerate(study.series()):
        assert np.array_equal(found[..., index], series.array(dims="SliceLocation"))
    assert np.array_equal(
        xd.to_xarray(study.series(), dims=("SliceLocation", "FlipAngle")).values, found.transpose(2, 3, 1, 0)
    )


def test_ndarray_of_colour_and_dtype(tmp_path):
    """Colour has a last axis; dtype= is kept."""
    pixels = np.arange(90, dtype="u1").reshape(1, 6, 5, 3)
    make_series(tmp_path, slices=1, shape=(6, 5, 3), dtype="uint8", pixels=pixels)
    series = xd.database(tmp_path).series()[0]
    assert np.array_equal(series.ndarray(), pixels.transpose(2, 1, 0, 3))
    assert series.ndarray(dtype="float64").dtype == np.float64


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"dtype": "uint16", "bits_stored": 12}, "uint16"),
        ({"dtype": "uint8"}, "uint8"),
        ({"dtype": "int16"}, "int16"),
        ({"dtype": "uint16", "bits_stored": 12, "slope": 1.0, "intercept": -1024.0}, "int16"),
        ({"dtype": "int16", "slope": 0.5, "intercept": 0}, "float32"),
        ({"dtype": "uint32", "slope": 0.1, "intercept": 0}, "float64"),
    ],
)
def test_dtypes(tmp_path, options, dtype):
    """The dtype is the smallest that holds every value that the header allows."""
    made = make_series(tmp_path, slices=2, **options)
    found = xd.database(tmp_path).series()[0].ndarray()
    assert found.dtype == dtype
    assert np.allclose(found, made.values.transpose(2, 1, 0), rtol=1e-6)


def test_frames_that_fill_no_grid(database):
    """Several frames at one point, or none, raise with the tag that tells them apart and what to type."""
    study = records(database)[2]
    with pytest.raises(StackError, match=r"2 frames.*dims=\('SliceLocation', 'FlipAngle'\)"):
        study.ndarray(dims=("SliceLocation",))
    assert study.ndarray(dims=("SliceLocation",), duplicates="first").shape == (5, 6, 3)
    with pytest.raises(StackError, match="EchoTime"):
        study.ndarray(dims=("EchoTime",))


def test_grids_with_gaps(database, folder):
    """A grid point without a frame raises, with where it is and what to type; missing="fill" makes it NaN."""
    (folder / "flip 2_00002.dcm").unlink()
    database.rescan()
    study = records(database)[2]
    with pytest.raises(StackError, match=r"1 of 3x2 positions holds no frame.*FlipAngle=10.0.*missing='fill'"):
        study.ndarray(dims=("SliceLocation", "FlipAngle"))
    filled = study.ndarray(dims=("SliceLocation", "FlipAngle"), missing="fill")
    assert np.isnan(filled[..., 1, 1]).all()
    assert np.isnan(filled).sum() == 30


def test_frames_of_several_sizes(database):
    """Frames of different matrices make no array, and the error says which there are."""
    with pytest.raises(PixelError, match=r"\(4, 4\) and \(6, 5\)"):
        database.ndarray()


def test_to_xarray_is_lazy(database):
    """to_xarray reads nothing until it is computed."""
    series = records(database)[3]
    array = series.to_xarray()
    assert array.dims == ("slice", "row", "column")
    assert array.name == "pixels"
    assert isinstance(array.data, dask.array.Array)
    assert np.array_equal(array.values.transpose(2, 1, 0), series.ndarray(dims=("slice_location",)))
    with pytest.raises(TypeError, match="no option"):
        xd.to_xarray([series], cunks=1)


@pytest.mark.parametrize(
    ("name", "shape", "dims"),
    [
        ("pelvis-ct", (512, 512, 150), ("slice_location",)),
        ("ge-fmri-4d", (64, 64, 15, 10), ("SliceLocation", "TemporalPositionIdentifier")),
        ("siemens-two-echoes", None, ("SliceLocation", "EchoTime")),
        ("siemens-enhanced-colour", None, None),
    ],
)
def test_real_shapes(real_copy, name, shape, dims):
    """Real series have the shape that their dims say, and hold what pydicom reads."""
    folder = real_copy(name)
    before = folder_hash(folder)
    series = xd.database(folder).series()[0]
    try:
        array = series.ndarray(dims=dims)
    except StackError as error:
        assert "try dims" in str(error)  # noqa: PT017 - the advice is the fact
        return
    assert shape is None or array.shape == shape
    assert array.size
    frames = series.ndarray()
    ds = pydicom.dcmread(os.path.join(folder, os.fsdecode(series.frames().files.paths[0])))
    assert frames.shape[:2] == (ds.Columns, ds.Rows)
    assert folder_hash(folder) == before


# Merge and new records ---------------------------------------------------------------------------------------------


def test_merge(database, folder):
    """Merge makes a series of copies in the first's study, under new UIDs; the sources stay."""
    before = folder_hash(folder)
    study = records(database)[2]
    both = xd.merge(study.series(), SeriesDescription="both")
    assert both.study == study
    assert (both.SeriesDescription, both.SeriesNumber, len(both.frames())) == ("both", 3, 6)
    assert not set(both.SOPInstanceUID) & {value for series in study.series()[:2] for value in series.SOPInstanceUID}
    assert both.ndarray(dims=("SliceLocation", "FlipAngle")).shape == (5, 6, 3, 2)
    assert [len(series.frames()) for series in study.series()] == [3, 3, 6]
    assert folder_hash(folder) == before


def test_merge_of_nothing(database):
    """No series, no frames and other things raise."""
    for wrong in ([], [1], [database.series()[0], "text"]):
        with pytest.raises(RecordError, match="list of series"):
            xd.merge(wrong)


def test_merge_of_other_studies(database):
    """Copies take the patient and study of the first series."""
    one, two = database.series()[0], database.series()[1]
    both = xd.merge([one, two])
    assert (both.PatientID, both.StudyDescription) == (one.PatientID, one.StudyDescription)
    assert len(two.frames()) == 3


def test_new_sibling(database):
    """A sibling is an empty series of the study with the next number, shown as unsaved."""
    series = records(database)[3]
    new = series.new_sibling(SeriesDescription="new")
    assert new.study == series.study
    assert (new.SeriesNumber, new.SeriesDescription, new.PatientID) == (3, "new", "P1")
    assert new in series.study.series(SeriesDescription="new")
    assert "empty, unsaved" in repr(new)
    with pytest.raises(XdicomError):
        new.ndarray()


def test_new_records_outlive_the_process(database, folder):
    """A new series, and what was set on it, is there when the folder is opened again."""
    series = records(database)[3]
    new = series.new_sibling(SeriesDescription="new")
    new.set_xarray(series.to_xarray() * 2)
    again = xd.database(folder).series(SeriesDescription="new")[0]
    assert np.array_equal(again.ndarray(), new.ndarray())
    assert again.key == new.key


@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_set_ndarray(database, kind):
    """What ndarray gives goes back in, numpy or dask, 2, 3 or 4 axes."""
    study = records(database)[2]
    dims = ("SliceLocation", "FlipAngle")
    array, coords = study.ndarray(dims=dims, return_coords=True)
    given = dask.array.from_array(array, chunks=2) if kind == "dask" else array
    new = study.series()[0].new_sibling()
    new.set_ndarray(given, dims=dims, coords=coords, like=study.series()[0])
    assert np.array_equal(new.ndarray(dims=dims), array)
    assert new.FlipAngle == [5, 10]
    flat = study.series()[0].new_sibling()
    flat.set_ndarray(given[..., 0, 0])
    assert np.array_equal(flat.ndarray()[..., 0], array[..., 0, 0])


def test_set_xarray_is_lazy_until_then(database):
    """The graph runs when set_xarray is called, in dask's threads, not before and not after."""
    series = records(database)[3]
    seen = []

    def note(block):
        seen.append(threading.current_thread())
        return block

    array = series.to_xarray()
    array.data = array.data.map_blocks(note, dtype=array.dtype, meta=np.empty((0,) * 3, array.dtype))
    new = series.new_sibling()
    assert seen == []
    new.set_xarray(array)
    count = len(seen)
    new.ndarray()
    assert len(seen) == count == 1


# The folder -------------------------------------------------------------------------------------------------------


def test_rescan(database, folder):
    """Files that came or went since are seen by rescan(), and records of those that went say so."""
    series = database.series(FlipAngle=10)[0]
    for path in folder.glob("flip 2*"):
        path.unlink()
    make_series(folder, slices=1, name="late", SeriesNumber=9)
    report = database.rescan()
    assert (report.new, report.removed) == (1, 3)
    assert database.series(SeriesNumber=9)
    with pytest.raises(RecordError, match="no frames any more"):
        series.Rows  # noqa: B018 - reading it is the point


def test_nothing_in_the_folder_changes(database, folder):
    """Reading, staging and saving elsewhere change nothing in the folder but .xdicom."""
    before = folder_hash(folder)
    study = records(database)[2]
    both = xd.merge(study.series())
    new = study.series()[0].new_sibling()
    new.set_xarray(both.to_xarray(dims=("SliceLocation", "FlipAngle")).mean("FlipAngle"))
    study.save(folder.parent / "out")
    assert folder_hash(folder) == before
