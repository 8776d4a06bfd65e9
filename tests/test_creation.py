"""Series and databases from nothing: shapes, values, geometry, tags, and where they live once they are saved."""

import gc

import dask.array
import numpy as np
import pydicom
import pytest
import xarray as xr
from factories import OBLIQUE

import xdicom as xd
from xdicom import errors

pytestmark = pytest.mark.usefixtures("collected")


def files(folder):
    """Return the DICOM files of a folder."""
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (lambda: xd.series((10, 128, 192)), (128, 192, 10)),
        (lambda: xd.series((10, 128, 192), dtype="mri"), (128, 192, 10)),
        (lambda: xd.as_series(np.random.default_rng(1).normal(size=(3, 12, 19))), (12, 19, 3)),
        (lambda: xd.series(np.zeros((3, 12, 19))), (12, 19, 3)),
        (lambda: xd.as_series(np.zeros((12, 19))), (12, 19, 1)),
        (lambda: xd.zeros((3, 12, 19)), (12, 19, 3)),
        (lambda: xd.ones((2, 3, 12, 19)), (12, 19, 6)),
        (lambda: xd.full((3, 12, 19), 2.5), (12, 19, 3)),
        (lambda: xd.empty((3, 12, 19)), (12, 19, 3)),
        (lambda: xd.as_series(np.zeros((12, 19, 3)), dims=("row", "column", "slice")), (19, 12, 3)),
    ],
)
def test_shapes(made, shape):
    """(n, columns, rows) is n slices of that many columns and rows; dims= names another order."""
    series = made()
    assert series.ndarray().shape == shape
    assert (series.Columns, series.Rows) == shape[:2]
    assert len(series.slice_location) == len(series.ndarray(dims=("slice_location",), duplicates="first")[0, 0])


@pytest.mark.parametrize(
    ("make", "value"), [(xd.zeros, 0), (xd.ones, 1), (lambda s: xd.full(s, 7), 7), (lambda s: xd.full(s, 2.5), 2.5)]
)
def test_values(make, value):
    """The pixels have the value that was asked for."""
    assert np.unique(make((2, 3, 4)).ndarray()).tolist() == [value]


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_as_series(lazy):
    """An array (slices, columns, rows) reads back as (columns, rows, slices)."""
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    series = xd.as_series(dask.array.from_array(array) if lazy else array)
    assert np.array_equal(series.ndarray(), np.moveaxis(array, 0, -1))


def test_four_axes():
    """A fourth axis in front is time."""
    array = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5)
    found = xd.as_series(array).ndarray(("slice_location", "TemporalPositionIdentifier"))
    assert np.array_equal(found, array.transpose(2, 3, 1, 0))


def test_named_axes():
    """dims= names another order, and coords= the values of a tag."""
    array = np.arange(40, dtype=np.int16).reshape(4, 5, 2)
    series = xd.as_series(array, dims=("row", "column", "FlipAngle"), coords={"FlipAngle": [5, 20]})
    assert np.array_equal(series.ndarray("FlipAngle"), array.transpose(1, 0, 2))


def test_dataarray():
    """A DataArray brings its dims and coordinates."""
    da = xr.DataArray(np.ones((2, 4, 5)), dims=("EchoTime", "row", "column"), coords={"EchoTime": [1.0, 2.0]})
    assert xd.as_series(da).EchoTime == [1.0, 2.0]


def test_geometry():
    """Spacing and affine say where slices lie."""
    assert np.allclose(xd.zeros((3, 4, 5), spacing=(1, 2, 3)).affine, np.diag([1, 2, 3, 1]))
    affine = np.diag([2.0, 2.0, -4.0, 1.0])
    affine[:3, 3] = 10, 20, 30
    found = xd.zeros((3, 4, 5), affine=affine).affine
    assert np.allclose(found[:3, :2], affine[:3, :2])
    assert np.allclose(np.abs(found[2, 2]), 4)
    assert np.allclose(xd.zeros((3, 4, 5), affine=OBLIQUE.affine()).affine, OBLIQUE.affine())


def test_tags_of_each_level():
    """Tags go to patient, study and series."""
    series = xd.zeros((2, 3, 4), PatientName="Doe^Jane", StudyDescription="made", SeriesDescription="zeros")
    assert series.patient.PatientName == "Doe^Jane"
    assert series.study.StudyDescription == "made"
    assert series.SeriesDescription == "zeros"


@pytest.mark.parametrize("dtype", ["MRImage", "mri"])
def test_kinds_of_image(dtype):
    """Dtype names the only kind of image, in both of its spellings."""
    assert xd.series((2, 3, 4), dtype).SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
    assert xd.zeros((2, 3, 4), dtype=dtype).Modality == "MR"


def test_other_kinds_of_image():
    """Another kind raises, and says which there is."""
    with pytest.raises(errors.EditError, match="MRImage"):
        xd.series((2, 3, 4), "CTImage")


def test_nothing_is_left_of_what_fails():
    """A tag that does not exist raises before a series is there."""
    with pytest.raises(errors.UnknownTagError, match="PatientName"):
        xd.zeros((2, 3, 4), PatientNme="typo")


# -- databases


def test_in_memory():
    """Without a path a database is in memory, cannot be saved without one, and its folder goes with it."""
    database = xd.database()
    root = database._store.root
    database.new_patient(PatientName="A")
    assert root.is_dir()
    with pytest.raises(errors.SaveError, match="folder"):
        database.save()
    database.close()
    assert not root.exists()


def test_a_database_in_memory_lives_where_it_is_saved(tmp_path):
    """After save(path) the database is that folder."""
    series = xd.ones((2, 3, 4), PatientName="A^B")
    series.EchoTime = 3
    series.save(tmp_path / "made")
    assert {ds.EchoTime for ds in files(tmp_path / "made")} == {3}
    assert series.database.status() == []
    series.EchoTime = 4
    series.save()
    assert {ds.EchoTime for ds in files(tmp_path / "made")} == {4}


def test_one_of_several_series_in_memory_is_copied(tmp_path):
    """Of several series in memory one is written, and all stay where they are."""
    series = xd.ones((2, 3, 4))
    other = series.new_sibling()
    other.set_ndarray(series.ndarray() * 2)
    series.save(tmp_path / "made")
    assert len(files(tmp_path / "made")) == 2
    assert len(series.database.series()) == 2
    with pytest.raises(errors.SaveError, match="folder"):
        series.save()


def test_a_copy_of_a_folder(tmp_path):
    """A record of a folder is written elsewhere with its edits, which stay staged here."""
    xd.ones((2, 3, 4), PatientName="A^B").save(tmp_path / "first")
    with xd.database(tmp_path / "first") as database:
        series = database.series()[0]
        series.EchoTime, series.image_type = 3, "PHASE"
        series.save(tmp_path / "second")
        assert {ds.EchoTime for ds in files(tmp_path / "second")} == {3}
        assert {ds.ImageType[-1] for ds in files(tmp_path / "second")} == {"PHASE"}
        assert {ds.EchoTime for ds in files(tmp_path / "first")} == {None}
        assert {change.what for change in database.status()} == {"EchoTime", "ImageType"}


def test_children():
    """Each record has its children."""
    series = xd.zeros((2, 3, 4))
    assert series.database.children == [series.patient]
    assert series.patient.children == [series.study]
    assert series.study.children == [series]
    assert series.children == []


def test_pandas():
    """to_pandas has a row a frame."""
    pytest.importorskip("pandas")
    table = xd.zeros((2, 3, 4)).to_pandas("InstanceNumber", "slice_location")
    assert table["InstanceNumber"].tolist() == [1, 2]
    assert table["slice_location"].tolist() == [0.0, 1.0]


def test_nothing_is_left_of_a_database_in_memory():
    """The temporary folder goes with the last record."""
    series = xd.zeros((1, 2, 2))
    root = series._store.root
    array = series.to_xarray()
    del series
    gc.collect()
    assert array.values.shape == (1, 2, 2)
    del array
    gc.collect()
    assert not root.exists()


def test_the_guide_database():
    """The database of the user guide: two patients with a study or two of several series each."""
    database = xd.database()
    bond = database.new_patient(PatientName="James Bond")
    mri, xray = bond.new_study(StudyDescription="MRI"), bond.new_study(StudyDescription="Xray")
    names = {mri: ["Localizer", "T2w"], xray: ["Chest", "Head"]}
    for study, descriptions in names.items():
        for description in descriptions:
            study.new_series(SeriesDescription=description)
    scarface = database.new_patient(PatientName="Scarface")
    scarface.new_study(StudyDescription="MRI").new_series(SeriesDescription="Localizer")
    assert [str(patient.PatientName.item()) for patient in database.patients()] == ["James Bond", "Scarface"]
    assert len(database.series()) == 5
    assert [s.SeriesNumber.item() for s in mri.series()] == [1, 2]
    assert database.series(SeriesDescription="Head")[0].study == xray
    assert database.series(SeriesDescription="Head")[0].PatientName == "James Bond"
    with pytest.raises(errors.EditError, match="already"):
        database.new_patient(PatientID=bond.PatientID.item())


def test_empty_series_survive_a_save(tmp_path):
    """New records without images stay, unsaved, when a database in memory moves into a folder."""
    study = xd.database().new_patient(PatientName="A").new_study()
    full, empty = study.new_series(SeriesDescription="full"), study.new_series(SeriesDescription="empty")
    full.set_ndarray(np.ones((2, 3, 1)))
    study.database.save(tmp_path / "out")
    assert [s.SeriesDescription.item() for s in study.database.series()] == ["full", "empty"]
    assert "empty, unsaved" in repr(empty)
