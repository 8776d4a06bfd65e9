"""Functions of scipy on series: what comes back, where it lies, and what its headers say."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest
import scipy.ndimage
from factories import AXIAL, OBLIQUE, Layout, make_image, make_report, make_series
from grids import affine, rotation

import xdicom as xd
from xdicom.errors import EditError, GeometryError, RecordError, UnknownTagError
from xdicom.wrappers import scipy as wrapped

TURN = rotation(25, 0) @ rotation(-40, 2)


@pytest.fixture
def db(tmp_path):
    """Open a folder with one patient: an axial and an oblique series of one space, which overlap."""
    space = {"FrameOfReferenceUID": "1.2.3.4"}
    tmp_path = tmp_path / "in"
    make_series(tmp_path, 5, name="axial", shape=(16, 14), layout=AXIAL, SeriesDescription="axial", **space)
    middle = np.array(AXIAL.affine() @ [7, 8, 2, 1])[:3]
    placed = Layout(tuple(middle - 8), OBLIQUE.row_direction, OBLIQUE.column_direction, (1.5, 1.2), 2.5)
    make_series(tmp_path, 4, name="oblique", shape=(12, 13), layout=placed, SeriesDescription="oblique", **space)
    with xd.database(tmp_path) as database:
        yield database


@pytest.fixture
def axial(db):
    """Return the axial series."""
    return db.series(SeriesDescription="axial")[0]


@pytest.fixture
def oblique(db):
    """Return the oblique series."""
    return db.series(SeriesDescription="oblique")[0]


def half_step(series):
    """Return half of what one stored integer is worth: how exact values can be."""
    return float(series.RescaleSlope[0]) / 2 if len(series.RescaleSlope) else 0.0


# -- import


def test_scipy_itself_stays_scipy():
    """The wrapper has the name of the package that it wraps, and uses it."""
    assert wrapped.__name__ == "xdicom.wrappers.scipy"
    assert scipy.ndimage.__name__ == "scipy.ndimage"


def test_wrappers_are_imported_when_they_are_used():
    """`xdicom.wrappers.scipy` works without an import of its own, and scipy is not imported before."""
    code = """
import sys, xdicom
before = "scipy.ndimage" in sys.modules
xdicom.wrappers.scipy.map_to
print(before, "scipy.ndimage" in sys.modules, dir(xdicom.wrappers))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "['scipy']"]


def test_unknown_wrappers_say_which_there_are():
    """A wrong name gives the right ones."""
    with pytest.raises(AttributeError, match="scipy"):
        _ = xd.wrappers.skimage


# -- map_to


def test_result_is_a_new_series_of_the_study(axial, oblique):
    """A series in the source's study, derived from it, with its own UIDs; the source stays."""
    before = axial.ndarray()
    found = wrapped.map_to(axial, oblique)
    assert found.study == axial.study
    assert found not in (axial, oblique)
    assert found.ImageType[0][:2] == ("DERIVED", "SECONDARY")
    assert found.SeriesDescription == "axial map_to"
    assert found.DerivationDescription == "map_to order 1"
    np.testing.assert_array_equal(axial.ndarray(), before)


def test_result_has_the_targets_geometry(axial, oblique):
    """Affine, matrix, thickness and frame of reference are those of the target."""
    found = wrapped.map_to(axial, oblique)
    np.testing.assert_allclose(found.affine, oblique.affine, atol=1e-6)
    assert found.ndarray().shape == oblique.ndarray().shape
    assert (found.SliceThickness, found.FrameOfReferenceUID) == (2.5, "1.2.3.4")
    assert found.Rows == 12


def test_result_has_the_sources_other_tags(db, axial, oblique):
    """What is not geometry comes from the source."""
    axial.EchoTime, oblique.EchoTime = 7, 9
    axial.SequenceName = "source"
    found = wrapped.map_to(axial, oblique)
    assert (found.EchoTime, found.SequenceName) == (7, "source")


def test_result_refers_to_its_source(axial, oblique):
    """Each image names the image of the source that it is nearest to."""
    found = wrapped.map_to(axial, oblique)
    named = {item["ReferencedSOPInstanceUID"] for items in found.SourceImageSequence for item in items}
    assert named <= set(axial.SOPInstanceUID)
    assert named


def test_values_are_interpolated(axial, oblique):
    """Values are those of `xdicom.resample`, within half a step of what DICOM stores."""
    from xdicom.resample import resample

    expected = resample(axial.to_xarray("slice"), oblique.to_xarray("slice")).values
    found = wrapped.map_to(axial, oblique)
    assert 0.01 < np.isnan(expected).mean() < 0.9
    values = found.to_xarray("slice").values
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1.01 * half_step(found))


def test_nearest_values_are_exact(axial, oblique):
    """With order 0 each value is one of the source's."""
    found = wrapped.map_to(axial, oblique, order=0).ndarray()
    assert set(found[np.isfinite(found)]) <= set(axial.ndarray().ravel())


def test_result_survives_saving(axial, oblique, tmp_path):
    """Written and read again, values and places are the same; pydicom sees the target's orientation."""
    found = wrapped.map_to(axial, oblique)
    values, matrix = found.ndarray(), found.affine
    found.save(tmp_path / "out")
    (again,) = xd.database(tmp_path / "out").series()
    np.testing.assert_array_equal(again.ndarray(), values)
    np.testing.assert_allclose(again.affine, matrix, atol=1e-6)
    first = pydicom.dcmread(sorted((tmp_path / "out").rglob("*.dcm"))[0])
    np.testing.assert_allclose(first.ImageOrientationPatient, OBLIQUE.orientation(), atol=1e-9)


def test_tags_can_be_given(axial, oblique):
    """Further keywords are tags of the new series."""
    found = wrapped.map_to(axial, oblique, SeriesDescription="overlay", SeriesNumber=77)
    assert (found.SeriesDescription, found.SeriesNumber) == ("overlay", 77)


def test_other_dims_pass_through(tmp_path):
    """Each flip angle of a series is mapped, and keeps its tags."""
    space = {"FrameOfReferenceUID": "1.2.3.4"}
    dims = {"FlipAngle": [5, 10]}
    make_series(tmp_path, 3, dims, name="angles", shape=(9, 8), layout=AXIAL, SeriesDescription="angles", **space)
    make_series(tmp_path, 2, name="other", shape=(7, 6), layout=OBLIQUE, SeriesDescription="other", **space)
    with xd.database(tmp_path) as db:
        other, angles = (db.series(SeriesDescription=name)[0] for name in ("other", "angles"))
        found = wrapped.map_to(angles, other, dims=("slice", "FlipAngle"))
        assert found.FlipAngle == [5, 10]
        array = found.to_xarray(("slice", "FlipAngle"))
        assert dict(array.sizes) == {"slice": 2, "FlipAngle": 2, "row": 7, "column": 6}
        alone = wrapped.map_to(angles.subseries(FlipAngle=10), other)
        close = half_step(found) + half_step(alone)
        np.testing.assert_allclose(array.sel(FlipAngle=10).values, alone.to_xarray().values, atol=1.01 * close)


def test_a_tilted_stack_is_where_it_is():
    """Of a stack with sheared slices, a voxel's value is found at the place that equation C.7.6.2.1-1 gives it."""
    rows, columns, slices = 12, 10, 6
    matrix = affine((1.0, 1.0, 3.0), tilt=1.1, origin=(0, 0, 0))
    column, row, index = np.meshgrid(np.arange(columns), np.arange(rows), np.arange(slices), indexing="ij")
    place = np.einsum("ij,jxyz->ixyz", matrix[:3, :3], np.stack([column, row, index]))
    height = 100 + 3 * place[1] + 2 * place[2]
    source = xd.as_series(height, ("column", "row", "slice"), affine=matrix)
    target = source.study.new_series(SeriesDescription="upright", FrameOfReferenceUID=source.FrameOfReferenceUID[0])
    target.set_ndarray(np.zeros((columns, rows, 11)), affine=affine((1.0, 1.0, 1.5), origin=(0, 3, 0)))
    found = wrapped.map_to(source, target)
    values, (y, z) = found.ndarray(), np.meshgrid(3 + np.arange(rows), 1.5 * np.arange(11), indexing="ij")
    inside = (y >= 1.1 * z / 3) & (y <= 1.1 * z / 3 + rows - 1)
    close = 1.01 * (half_step(source) + half_step(found))
    np.testing.assert_allclose(values[4][inside], (100 + 3 * y + 2 * z)[inside], rtol=0, atol=close)


def test_one_slice_is_enough(axial, oblique):
    """A series of one image is a slab of its thickness, as source and as target."""
    (one,) = (axial.subseries(InstanceNumber=3),)
    found = wrapped.map_to(one, oblique)
    assert 0 < np.isfinite(found.ndarray()).mean() < 0.6
    assert wrapped.map_to(oblique, one).ndarray().shape == one.ndarray().shape


def test_gaps_are_outside(axial):
    """A series that lacks a slice gives none there."""
    part = axial.subseries(InstanceNumber=[1, 2, 4, 5])
    found = wrapped.map_to(part, axial).to_xarray("slice").values
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(found[[0, 1, 3, 4]], axial.to_xarray("slice").values[[0, 1, 3, 4]])


def test_colours_stay_colours(tmp_path):
    """Of an image in colour each channel is mapped, and what is outside is black."""
    colours = np.random.default_rng(1).integers(1, 255, (4, 10, 9, 3)).astype(np.uint8)
    space = {"FrameOfReferenceUID": "1.2.3.4", "PhotometricInterpretation": "RGB"}
    make_series(tmp_path, 4, name="c", shape=(10, 9, 3), dtype="uint8", layout=AXIAL, pixels=colours, **space)
    with xd.database(tmp_path) as db:
        (series,) = db.series()
        found = wrapped.map_to(series, series.subseries(InstanceNumber=[2, 3]))
        np.testing.assert_array_equal(found.to_xarray("slice").values, colours[1:3])


def test_what_is_no_image_is_passed_over(axial, oblique, db, tmp_path):
    """A report in the target's series has no place, and does not count."""
    uids = {name: oblique[name][0] for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    make_report(tmp_path / "in" / "report.dcm", PatientID=oblique.PatientID[0], **uids)
    db.rescan()
    assert len(oblique.frames()) == 5
    assert len(wrapped.map_to(axial, oblique).frames()) == 4


def test_different_spaces_are_refused(axial, oblique):
    """Series of different frames of reference are not mapped unless forced, and then lie in the target's."""
    oblique.FrameOfReferenceUID = "1.2.3.5"
    with pytest.raises(GeometryError, match=r"1\.2\.3\.4 and that of the target 1\.2\.3\.5.*force=True"):
        wrapped.map_to(axial, oblique)
    assert wrapped.map_to(axial, oblique, force=True).FrameOfReferenceUID == "1.2.3.5"


def test_unknown_spaces_are_refused(axial, oblique):
    """Without a FrameOfReferenceUID nothing says that two series lie in one space."""
    del axial.FrameOfReferenceUID, oblique.FrameOfReferenceUID
    with pytest.raises(GeometryError, match="none"):
        wrapped.map_mask_to(axial, oblique)
    assert wrapped.map_mask_to(axial, oblique, force=True).FrameOfReferenceUID == []


def test_a_target_without_geometry_is_refused(axial, tmp_path):
    """A secondary capture lies nowhere, and the error says so."""
    make_image(tmp_path / "other" / "capture.dcm", np.zeros((4, 5), np.uint8), FrameOfReferenceUID="1.2.3.4")
    with xd.database(tmp_path / "other") as db, pytest.raises(GeometryError, match="lie nowhere"):
        wrapped.map_to(axial, db.series()[0])


def test_what_is_no_series_is_refused(axial, oblique):
    """Arrays and studies are no series, and the error says what they are."""
    for call in (
        lambda: wrapped.map_to(axial, oblique.to_xarray()),
        lambda: wrapped.map_to(axial.to_xarray(), oblique),
        lambda: wrapped.gaussian_filter(axial.to_xarray(), 2),
        lambda: wrapped.zoom(axial.to_xarray(), 2),
        lambda: wrapped.rotate(axial.to_xarray(), 2),
        lambda: wrapped.shift(axial.to_xarray(), 2),
    ):
        with pytest.raises(RecordError, match="series, not DataArray"):
            call()


def test_nothing_is_left_of_what_failed(axial, oblique):
    """An error leaves no empty series behind."""
    before = axial.database.status()
    with pytest.raises(ValueError, match="order"):
        wrapped.map_to(axial, oblique, order=9)
    with pytest.raises(EditError):
        wrapped.map_to(axial, oblique, cval=np.inf)
    with pytest.raises(UnknownTagError):
        wrapped.map_to(axial, oblique, NoSuchTag=1)
    assert len(axial.study.series()) == 2
    assert axial.database.status() == before


# -- map_mask_to


def masked(series, values):
    """Return a series of a mask in the place of another."""
    mask = series.new_sibling(SeriesDescription="mask")
    mask.set_ndarray(values)
    return mask


def test_a_mask_stays_a_mask(axial, oblique):
    """Values are 0 and 1, whatever stood for inside, and 0 outside the source."""
    found = wrapped.map_mask_to(masked(axial, 7 * (axial.ndarray() > 30000)), oblique)
    assert set(np.unique(found.ndarray())) == {0, 1}
    assert found.ndarray().dtype.kind == "u"


def test_a_mask_onto_its_own_grid_is_itself(axial):
    """Nothing moves where nothing has to."""
    values = (axial.ndarray() > 30000).astype(np.uint8)
    np.testing.assert_array_equal(wrapped.map_mask_to(masked(axial, values), axial).ndarray(), values)


def test_any_series_can_be_taken_as_a_mask(axial, oblique):
    """Inside is what is not zero; where a whole stack is, the mask says where it lies in the target."""
    inside = np.isfinite(wrapped.map_to(axial, oblique, order=0).ndarray())
    axial.set_ndarray(np.ones_like(axial.ndarray()))
    np.testing.assert_array_equal(wrapped.map_mask_to(axial, oblique).ndarray(), inside)


def test_labels_are_kept_by_option(axial, oblique):
    """With `labels` values are those of the nearest voxels, exact in DICOM."""
    labels = np.random.default_rng(0).integers(0, 4, axial.ndarray().shape).astype(np.uint8)
    found = wrapped.map_mask_to(masked(axial, labels), oblique, labels=True)
    expected = wrapped.map_to(masked(axial, labels), oblique, order=0).ndarray()
    assert set(np.unique(found.ndarray())) == {0, 1, 2, 3}
    np.testing.assert_array_equal(found.ndarray(), np.nan_to_num(expected))


# -- on a cluster


@pytest.mark.slow
def test_a_cluster_computes_the_same(axial, oblique):
    """Processes of a cluster get what they need, and give what threads give."""
    distributed = pytest.importorskip("distributed")
    here = [wrapped.map_to(axial, oblique), wrapped.median_filter(axial, 6.0), xd.apply(np.sqrt, axial)]
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        there = [wrapped.map_to(axial, oblique), wrapped.median_filter(axial, 6.0), xd.apply(np.sqrt, axial)]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.ndarray(), other.ndarray())
