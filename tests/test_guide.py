"""Every call of the user guide, one by one on real images, and once all in the guide's order on one database."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import real_data
from guided import COLUMNS, FLIP_ANGLES, PHASE_ANGLE, ROWS, SLICES, prepared
from pydicom.data import get_testdata_file

import xdicom as xd

GRID = ("SliceLocation", "FlipAngle")


def sources_of(name):
    """Return the files of one real series."""
    if name == "pydicom":
        return [Path(get_testdata_file("MR_small.dcm"))]
    return sorted(real_data("rider-flip-angles").rglob("*ax 5 flip*/*.dcm"))[:1]


@pytest.fixture(scope="module", params=["pydicom", "rider"])
def master(request, tmp_path_factory):
    """Prepare the guide's folder once."""
    folder = tmp_path_factory.mktemp("guide") / "folder"
    prepared(folder, sources_of(request.param)).database.close()
    return folder


@pytest.fixture
def db(master, tmp_path):
    """Open a copy of the guide's folder."""
    shutil.copytree(master, tmp_path / "folder", ignore=shutil.ignore_patterns(".xdicom"))
    with xd.database(tmp_path / "folder") as database:
        yield database


@pytest.fixture
def series(db):
    """Return its one series."""
    return db.series()[0]


@pytest.fixture
def study(series):
    """Return its one study."""
    return series.study


# -- reading


def test_prepared_series_has_what_the_guide_asks_for(series):
    """Matrix, flip angles, repetition time and image types are those of the guide's conditions."""
    assert (series.Rows, series.Columns) == (ROWS, COLUMNS)
    assert series.FlipAngle == list(FLIP_ANGLES)
    assert series.RepetitionTime == 5
    assert series.image_type == ["MAGNITUDE", "PHASE"]


def test_nr_of_rows(series):
    """`series.Rows` is the number of rows."""
    nr_of_rows = series.Rows
    assert nr_of_rows == 128
    assert list(nr_of_rows) == [128]


def test_distinct_descriptions_of_a_study(study):
    """`study.SeriesDescription` lists the distinct descriptions."""
    study.series()[0].new_sibling(SeriesDescription="another").set_ndarray(np.ones((COLUMNS, ROWS, 1)))
    assert study.SeriesDescription == ["another", "guide"]


@pytest.mark.parametrize("name", ["Columns", (0x0028, 0x0011)], ids=str)
def test_list_notation(series, name):
    """A keyword or a (group, element) pair in brackets reads the same attribute."""
    assert series[name] == 192


def test_list_of_tags(series):
    """A list of tags gives a list with one item each."""
    dimensions = ["Rows", (0x0028, 0x0010)]
    assert series[dimensions] == [[128], [128]]


def test_list_of_tags_of_a_patient(series):
    """Lists of tags work on higher levels."""
    dimensions = ["Rows", (0x0028, 0x0010)]
    assert series.patient[dimensions] == [[128], [128]]


# -- editing


@pytest.mark.parametrize("name", ["EchoTime", (0x0018, 0x0081)], ids=str)
def test_set_in_list_notation(series, name):
    """A value set in brackets is read back."""
    series[name] = 23.0
    assert series.EchoTime == 23.0


def test_set_as_attribute(series):
    """A value set as an attribute is read back."""
    series.EchoTime = 23.0
    assert series["EchoTime"] == [23.0]


def test_set_several_tags(series):
    """Several tags are set in a line; values that the files have already are no edits, and warn of nothing."""
    shape = ["Rows", "Columns"]
    series[shape] = [128, 192]
    assert series[shape] == [[128], [192]]
    assert series.status() == []


def test_set_rows_of_every_dataset(series):
    """`series.Rows = 128` where it is 128 already changes nothing."""
    series.Rows = 128
    assert series.Rows == 128


def test_rows_that_the_pixels_do_not_have_warn(series):
    """Elements that describe the stored pixels are staged with a warning, and save() refuses them."""
    with pytest.warns(UserWarning, match="describes the stored pixels"):
        series.Rows = 64
    assert series.Rows == 64
    with pytest.raises(xd.errors.SaveError, match="Rows"):
        series.save()


@pytest.mark.parametrize("name", ["YlGnBu", "Oranges", "gray"])
def test_colormap(series, name):
    """A colour map of matplotlib is set and read back as a list."""
    series.colormap = name
    cm_series = series.colormap
    assert cm_series == [name]


# -- save and restore


def test_database_save(db, series):
    """`database.save()` makes every change permanent."""
    series.EchoTime = 23.0
    db.save()
    db.restore()
    assert series.EchoTime == 23.0
    assert db.status() == []


def test_database_restore(db, series):
    """`database.restore()` goes back to the last saved state."""
    before = series.EchoTime
    series.EchoTime = 23.0
    db.restore()
    assert series.EchoTime == before


def test_series_restore(series):
    """`series.restore()` takes back the changes of this series only."""
    other = series.copy_to(series.study)
    series.database.save()
    before = series.EchoTime
    series.EchoTime = other.EchoTime = 23.0
    series.restore()
    assert series.EchoTime == before
    assert other.EchoTime == 23.0


def test_series_save(series):
    """`series.save()` saves this series, and no other."""
    other = series.copy_to(series.study)
    series.database.save()
    series.EchoTime = other.EchoTime = 23.0
    series.save()
    assert series.status() == []
    assert [change.what for change in other.status()] == ["EchoTime"]


# -- series


def test_ndarray(series):
    """`ndarray()` has dimensions (x, y, n)."""
    array = series.ndarray()
    assert array.shape == (192, 128, SLICES * 3)


def test_ndarray_with_dims(series):
    """`ndarray(dims=...)` has dimensions (x, y, z, t)."""
    array = series.ndarray(dims=("SliceLocation", "FlipAngle"))
    assert array.shape == (192, 128, SLICES, 3)


def test_set_ndarray(series):
    """An array takes the place of the images."""
    array = series.ndarray(dims=("SliceLocation", "FlipAngle")) + 1
    series.set_ndarray(array, dims=("SliceLocation", "FlipAngle"))
    assert np.array_equal(series.ndarray(dims=GRID), array)


@pytest.mark.parametrize(("kind", "frames"), [("PHASE", SLICES), ("MAGNITUDE", 2 * SLICES)])
def test_subseries_by_image_type(series, study, kind, frames):
    """Phase and magnitude become new series of the same study."""
    part = series.subseries(image_type=kind)
    assert part.image_type == kind
    assert len(part.frames()) == frames
    assert part in study.series()
    assert part != series


def test_subseries_by_tags(series):
    """Several conditions hold together."""
    sub = series.subseries(FlipAngle=20, RepetitionTime=5)
    assert sub.FlipAngle == 20
    assert len(sub.frames()) == SLICES


# -- from scratch


def random_noise():
    """Return an array to make images of."""
    return np.random.default_rng(0).normal(size=(10, 128, 192))


def test_as_series(tmp_path):
    """A series is made of an array, gets header elements, and is saved into a folder."""
    series = xd.as_series(random_noise())
    series.PatientName = "Random noise"
    with pytest.warns(UserWarning, match="read as DDMMYYYY"):
        series.StudyDate = "19112022"
    series.AcquisitionTime = 12 * 60 * 60
    path = tmp_path / "noise"
    series.save(path)
    files = [pydicom.dcmread(file) for file in path.rglob("*.dcm")]
    assert len(files) == 10
    assert {(str(ds.PatientName), ds.StudyDate, ds.AcquisitionTime) for ds in files} == {
        ("Random noise", "20221119", "120000")
    }


def build(database):
    """Build the guide's database of two patients."""
    james_bond = database.new_patient(PatientName="James Bond")
    james_bond_mri = james_bond.new_study(StudyDescription="MRI")
    james_bond_mri.new_series(SeriesDescription="Localizer")
    james_bond_mri.new_series(SeriesDescription="T2w")
    james_bond_xray = james_bond.new_study(StudyDescription="Xray")
    james_bond_xray.new_series(SeriesDescription="Chest")
    james_bond_xray.new_series(SeriesDescription="Head")
    scarface = database.new_patient(PatientName="Scarface")
    scarface_mri = scarface.new_study(StudyDescription="MRI")
    scarface_mri.new_series(SeriesDescription="Localizer")
    scarface_mri.new_series(SeriesDescription="T2w")
    scarface_xray = scarface.new_study(StudyDescription="Xray")
    scarface_xray.new_series(SeriesDescription="Chest")
    scarface_xray.new_series(SeriesDescription="Head")


def check_built(database):
    """Check what `build` has built."""
    names = {patient.PatientName.item() for patient in database.patients()}
    assert {"James Bond", "Scarface"} <= names
    for patient in database.patients(PatientName=["James Bond", "Scarface"]):
        assert sorted(study.StudyDescription.item() for study in patient.studies()) == ["MRI", "Xray"]
        found = {study.StudyDescription.item(): study.SeriesDescription for study in patient.studies()}
        assert found == {"MRI": ["Localizer", "T2w"], "Xray": ["Chest", "Head"]}


def test_database_from_scratch():
    """Patients, studies and series are built from nothing."""
    database = xd.database()
    build(database)
    check_built(database)
    assert len(database.series()) == 8


def test_series_from_a_shape():
    """`series((10, 128, 192))` has 10 slices of 128 columns and 192 rows."""
    series = xd.series((10, 128, 192))
    assert (series.Columns, series.Rows) == (128, 192)
    assert len(series.slice_location) == 10
    assert series.SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"


# -- the whole guide on one database


def test_the_guide_from_top_to_bottom(db, series, study, tmp_path):
    """All calls in the guide's order, then save: what is there after reopening is what was there before."""
    assert series.Rows == series[(0x0028, 0x0010)] == study["Rows"]
    series.EchoTime = 23.0
    series["EchoTime"] = 24.0
    series[(0x0018, 0x0081)] = 23.0
    series[["Rows", "Columns"]] = [128, 192]
    series.Rows = 128
    series.colormap = "YlGnBu"
    series.colormap = "Oranges"
    db.save()
    series.EchoTime = 1.0
    db.restore()
    series.EchoTime = 2.0
    series.restore()
    series.save()
    array = series.ndarray(dims=GRID)
    series.set_ndarray(array[::-1] + 1, dims=GRID)
    phase = series.subseries(image_type="PHASE")
    magn = series.subseries(image_type="MAGNITUDE")
    sub = series.subseries(FlipAngle=20, RepetitionTime=5)
    noise = xd.as_series(random_noise())
    noise.PatientName = "Random noise"
    noise.save(tmp_path / "noise")
    build(db)
    shape = xd.series((10, 128, 192)).copy_to(study)

    def state(database):
        return {
            each.SeriesInstanceUID.item(): (
                each.key,
                each.ndarray().tobytes(),
                each.EchoTime,
                each.colormap,
                each.image_type,
            )
            for each in database.series(Rows=[128, 192])
        }

    before = state(db)
    assert len(before) == 5
    with pytest.warns(UserWarning, match="without images"):
        db.save()
    assert state(db) == before
    check_built(db)
    db.close()
    with xd.database(tmp_path / "folder") as again:
        assert state(again) == before
        check_built(again)
        assert {change.what for change in again.status()} == {"new, empty"}
        reopened = again.series(SeriesInstanceUID=series.key[2])[0]
        assert np.array_equal(reopened.ndarray(dims=GRID), array[::-1] + 1)
        assert reopened.EchoTime == 23.0
        assert reopened.colormap == "Oranges"
        kinds = [again.series(SeriesInstanceUID=part.key[2])[0].FlipAngle for part in (phase, magn, sub, shape)]
        others = [angle for angle in FLIP_ANGLES if angle != PHASE_ANGLE]
        assert kinds == [[PHASE_ANGLE], others, [20.0], []]
    with xd.database(tmp_path / "noise") as saved:
        assert saved.series()[0].PatientName == "Random noise"
