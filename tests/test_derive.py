"""Facts about xdicom.derive: which headers the images of an array get, and what is staged."""

import threading
import warnings
from dataclasses import replace

import dask.array as da
import numpy as np
import pydicom
import pytest
import xarray as xr
from derivations import derived, opened, raw, saved
from factories import AXIAL, OBLIQUE, make_series
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import xdicom as xd
from xdicom import staging
from xdicom.errors import EditError, GeometryError
from xdicom.labelling import as_dataarray

pytestmark = pytest.mark.usefixtures("collected")


GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID", "SliceLocation")
# Sheared: slices shift along the rows, as a tilted gantry has them.
TILTED = replace(AXIAL, row_direction=(1.0, 0.0, 0.0), column_direction=(0.0, 0.8, 0.6))


# Pixels ------------------------------------------------------------------------------------------------------------


@st.composite
def images(draw):
    """Arrays of several images: any dtype, with NaN."""
    shape = draw(array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))
    dtype = draw(st.sampled_from(["?", "u1", "i1", "u2", "i2", "i4", "u4", "i8", "f2", "f4", "f8"]))
    if dtype[0] == "f":
        finite = st.floats(-1000, 1000, width=16)
        return draw(arrays(dtype, shape, elements=finite | st.just(np.nan))), draw(st.integers(1, 5))
    return draw(arrays(dtype, shape)), draw(st.integers(1, 5))


@given(images())
@settings(max_examples=40)
def test_values_agree_before_save_after_save_and_after_reopening(tmp_path_factory, drawn):
    """Every voxel is the same, to the bit, in the staged series, the saved one and the reopened one."""
    values, chunk = drawn
    folder = tmp_path_factory.mktemp("agree")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*are stored in steps of.*")
        series = xd.as_series(da.from_array(values, chunks=chunk), PatientID="P")
    staged = series.ndarray()
    lazily = series.to_xarray().values
    series.save(folder / "out")
    after = series.ndarray()
    with_database = xd.database(folder / "out")
    again = with_database.ndarray()
    for other in (after, again, lazily.transpose(2, 1, 0)):
        assert (other.dtype, other.tobytes()) == (staged.dtype, staged.tobytes())
    order = staged.transpose(2, 0, 1)
    assert np.array_equal(np.isnan(order.astype(float)), np.isnan(values.astype(float)))


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "i4", "f4", "f8"])
def test_small_integers_read_back_identical(tmp_path, dtype):
    """Integers that fit 16 bits are held exactly, whatever the dtype."""
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    series = xd.as_series(values)
    assert np.array_equal(series.ndarray(), values.transpose(1, 2, 0))


def test_the_graph_runs_once(tmp_path):
    """Setting a lazy array computes each of its blocks exactly once."""
    series = opened(tmp_path / "in", slices=4)
    count, lock = [], threading.Lock()

    def counted(block, block_id=None):
        with lock:
            count.append(block_id)
        return block * 1.5

    array = series.to_xarray(chunks={"slice": 1})
    array.data = array.data.map_blocks(counted, dtype=float, meta=np.empty((0,) * 3))
    new = series.new_sibling()
    new.set_xarray(array)
    assert np.array_equal(new.ndarray().shape, series.ndarray().shape)
    assert sorted(count) == [(i, 0, 0) for i in range(4)]


def test_setting_reads_little_at_a_time(tmp_path, monkeypatch):
    """A series of many frames is set chunk by chunk: memory holds a few chunks, never all."""
    import tracemalloc

    frame = np.zeros((256, 256), np.float32)
    array = da.concatenate([da.from_array(frame[None], chunks=(1, 256, 256), name=f"f{i}") + i for i in range(200)])
    monkeypatch.setattr(staging, "_CHUNK_BYTES", 4 * frame.nbytes)
    tracemalloc.start()
    xd.as_series(array, dims=("slice", "row", "column"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * 200 * frame.nbytes


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([[[1.0, np.inf]]]), r"range=\(low, high\)"),
        (np.array([[[1.0, -np.inf]]]), r"range=\(low, high\)"),
        (np.array([[[1j]]]), "numpy.angle"),
        (np.array([[["a"]]]), "no numbers"),
    ],
)
def test_what_dicom_cannot_hold_is_refused_with_the_remedy(tmp_path, values, text):
    """Infinite, complex and other values raise, leave no orphan, and the series is still empty."""
    series = opened(tmp_path / "in")
    new = series.new_sibling()
    with pytest.raises(EditError, match=text):
        new.set_ndarray(values)
    assert not list((tmp_path / "in" / ".xdicom").glob("edits.zarr/*"))
    new.set_ndarray(np.ones((2, 2, 1)))
    assert len(new.frames()) == 1


def test_a_failed_graph_leaves_no_orphan(tmp_path):
    """The error comes through, nothing stays on disk, and the series can be set again."""
    series = opened(tmp_path / "in")

    def fail(block):
        raise ZeroDivisionError

    array = series.to_xarray()
    new = series.new_sibling()
    bad = array.copy(data=array.data.map_blocks(fail, dtype=float, meta=np.empty((0,) * 3)))
    with pytest.raises(ZeroDivisionError):
        new.set_xarray(bad)
    assert not list((tmp_path / "in" / ".xdicom").glob("edits.zarr/*"))
    new.set_xarray(array)
    assert np.array_equal(new.ndarray(), series.ndarray())


def test_refusals_come_before_the_graph_runs(tmp_path):
    """An empty range or unequal rows are refused before anything is computed."""
    series = opened(tmp_path / "in")

    def fail(block):
        raise AssertionError("computed")

    array = series.to_xarray()
    array.data = array.data.map_blocks(fail, dtype=float, meta=np.empty((0,) * 3))
    new = series.new_sibling()
    with pytest.raises(EditError, match="no range"):
        new.set_xarray(array, range=(5, 1))
    with pytest.raises(GeometryError, match="unequal steps"):
        new.set_xarray(array.isel(row=[0, 1, 4]))


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "?"])
def test_range_clips(tmp_path, dtype):
    """Values outside range=(low, high) become its ends, for any dtype and beyond its limits."""
    values = np.array([[[0, 1, 1]]]).astype(dtype)
    assert xd.as_series(values, range=(-300, 0)).ndarray().max() == 0
    assert np.array_equal(xd.as_series(values, range=(-300, 300)).ndarray().ravel(), values.ravel())


def test_infinity_within_a_range_is_clipped():
    """With a range, infinity becomes an end of it."""
    found = xd.as_series(np.array([[[-np.inf, 0.0, np.inf]]]), range=(-1, 1)).ndarray()
    assert np.allclose(found.ravel(), [-1, 0, 1], atol=1e-4)


# Headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [AXIAL, OBLIQUE, TILTED])
def test_unchanged_geometry_keeps_its_text(tmp_path, layout):
    """Where nothing moved, position, orientation, spacing and frame of reference are the source's, to the letter."""
    series = opened(tmp_path / "in", layout=layout, slices=3)
    sources = {ds.SliceLocation: ds for ds in map(pydicom.dcmread, (tmp_path / "in").glob("*.dcm"))}
    for ds in derived(series, series.to_xarray() * 0.5, tmp_path / "out"):
        for keyword in GEOMETRY:
            assert raw(ds, keyword) == raw(sources[ds.SliceLocation], keyword), keyword


SELECTIONS = {
    "nothing": {},
    "crop": {"row": slice(1, 5), "column": slice(2, 4)},
    "flip rows": {"row": slice(None, None, -1)},
    "flip columns": {"column": slice(None, None, -1)},
    "flip slices": {"slice": slice(None, None, -1)},
    "every second": {"slice": slice(1, None, 2), "row": slice(None, None, 2)},
    "backwards by two": {"column": slice(4, 0, -2), "row": slice(None, None, -1)},
    "one slice": {"slice": [2]},
}


@pytest.mark.parametrize("layout", [AXIAL, OBLIQUE, TILTED, replace(OBLIQUE, spacing=(0.48828125, 1 / 3))])
@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
def test_geometry_follows_selections(tmp_path, layout, selection):
    """After crop, step and flip, in-plane and along slices, every voxel of the saved series is where it was."""
    series = opened(tmp_path / "in", layout=layout, slices=5, SpacingBetweenSlices=layout.step)
    array = series.to_xarray().isel(selection)
    derived(series, array, tmp_path / "out")
    back = xd.database(tmp_path / "out").series()[0].to_xarray()
    places = {}
    for da_, key in ((array, "before"), (back, "after")):
        world = lazy_world(da_)
        order = np.lexsort(np.round(world.T, 3))
        places[key] = world[order], da_.values.reshape(-1)[order]
    assert np.allclose(places["before"][0], places["after"][0], atol=1e-3)
    assert np.array_equal(places["before"][1], places["after"][1])


def lazy_world(array):
    """Return the world coordinates of the voxels of an array in its order: shape (n, 3)."""
    from xdicom.placement import world_coordinates

    world = world_coordinates(array)
    full = [xr.broadcast(world[axis], array)[0].transpose(*array.dims).values.reshape(-1) for axis in "xyz"]
    return np.stack(full, axis=1)


def test_spacing_between_slices_follows(tmp_path):
    """Every second slice doubles SpacingBetweenSlices; thickness stays, and so does a scanner's SliceLocation."""
    series = opened(
        tmp_path / "in", slices=5, SpacingBetweenSlices=4.0, change=lambda ds, i: setattr(ds, "SliceLocation", i)
    )
    found = derived(series, series.to_xarray().isel(slice=slice(None, None, 2), row=slice(1, 4)), tmp_path / "out")
    assert [ds.SpacingBetweenSlices for ds in found] == [8, 8, 8]
    assert [ds.SliceThickness for ds in found] == [4, 4, 4]
    assert sorted(ds.SliceLocation for ds in found) == [0, 2, 4]


def test_a_flip_drops_the_orientation_in_letters(tmp_path):
    """PatientOrientation would be wrong after a flip, and stays after a crop."""
    series = opened(tmp_path / "in", PatientOrientation=["L", "P"])
    assert "PatientOrientation" in derived(series, series.to_xarray().isel(row=slice(2, 4)), tmp_path / "crop")[0]
    assert (
        "PatientOrientation"
        not in derived(series, series.to_xarray().isel(row=slice(None, None, -1)), tmp_path / "flip")[0]
    )


def test_another_matrix_keeps_the_field_of_view(tmp_path):
    """Twice the rows and columns halve the spacing; corner and extent of the image stay."""
    series = opened(tmp_path / "in", layout=OBLIQUE, slices=2, shape=(6, 4))
    new = series.new_sibling()
    new.set_ndarray(np.zeros((8, 12, 2)))
    assert new.PixelSpacing == (1.0, 0.75)
    before, after = (s.affine @ [-0.5, -0.5, 0, 1] for s in (series, new))
    assert np.allclose(before, after)
    assert np.allclose(series.affine @ [3.5, 5.5, 0, 1], new.affine @ [7.5, 11.5, 0, 1])


def test_spacing_can_be_given(tmp_path):
    """With spacing=(column step, row step) the corner of the image stays, and pixels have that size."""
    series = opened(tmp_path / "in", slices=2, shape=(6, 4))
    new = series.new_sibling()
    new.set_ndarray(np.zeros((8, 12, 2)), spacing=(3.0, 2.0))
    assert new.PixelSpacing == (2.0, 3.0)
    assert np.allclose(series.affine @ [-0.5, -0.5, 0, 1], new.affine @ [-0.5, -0.5, 0, 1])


def test_a_slice_coordinate_moves_images(tmp_path):
    """Images given other slice locations lie there, along the normal of the frame they resemble."""
    series = opened(tmp_path / "in", layout=OBLIQUE, slices=3)
    values, coords = series.ndarray(dims=("slice_location",), return_coords=True)
    new = series.new_sibling()
    new.set_ndarray(values, dims=("slice_location",), coords=[coords["slice_location"] + 1.0])
    moved = new.affine[:3, 3] - series.affine[:3, 3]
    assert np.allclose(moved, OBLIQUE.normal)
    assert np.allclose(new.frames()["SliceLocation"], series.frames()["SliceLocation"] + 1)


def test_dims_that_are_gone_are_dropped_and_scalars_set(tmp_path):
    """FlipAngle is dropped where the array lost it, and set where it is a scalar coordinate."""
    series = opened(tmp_path / "in", slices=2, dims={"FlipAngle": [5, 10]})
    array = series.to_xarray(dims=("SliceLocation", "FlipAngle"))
    with np.errstate(all="ignore"):
        ratio = array.sel(FlipAngle=10) / array.sel(FlipAngle=5)
    assert all("FlipAngle" not in ds for ds in derived(series, ratio.fillna(0), tmp_path / "ratio", range=(0, 10)))
    assert all("FlipAngle" not in ds for ds in derived(series, array.mean("FlipAngle"), tmp_path / "mean"))
    assert [ds.FlipAngle for ds in derived(series, array.sel(FlipAngle=10), tmp_path / "ten")] == [10, 10]
    assert [ds.FlipAngle for ds in derived(series, array, tmp_path / "all")] == [5, 10, 5, 10]


def test_ranked_dims_that_are_gone_are_dropped(tmp_path):
    """A dim that was ranked goes with its tag."""
    change = lambda ds, i: setattr(ds, "AcquisitionTime", f"1000{i:02d}")  # noqa: E731
    series = opened(tmp_path / "in", slices=2, dims={"AcquisitionNumber": [1, 2]}, change=change)
    array = series.to_xarray(dims=("SliceLocation", "AcquisitionTime"))
    assert "AcquisitionTime_index" in array.dims
    assert all(
        "AcquisitionTime" not in ds for ds in derived(series, array.mean("AcquisitionTime_index"), tmp_path / "a")
    )
    times = [ds.AcquisitionTime for ds in derived(series, array, tmp_path / "b")]
    assert sorted(times) == ["100000", "100001", "100002", "100003"]


def test_each_image_is_cloned_from_the_frame_it_resembles(tmp_path):
    """Source Image Sequence names the frame of the same slice and values, whatever the order of the array."""
    series = opened(tmp_path / "in", slices=3, dims={"EchoTime": [5, 10]}, name="e")
    array = series.to_xarray(dims=("EchoTime", "SliceLocation")).isel(SliceLocation=[2, 0], EchoTime=[1, 0])
    by_uid = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, (tmp_path / "in").glob("*.dcm"))}
    found = derived(series, array, tmp_path / "out")
    assert len({ds.SOPInstanceUID for ds in found} - by_uid.keys()) == 4
    for ds in found:
        (item,) = ds.SourceImageSequence
        source = by_uid[item.ReferencedSOPInstanceUID]
        assert (source.EchoTime, source.SliceLocation) == (ds.EchoTime, ds.SliceLocation)
        assert np.array_equal(source.pixel_array, ds.pixel_array)


def test_text_dims_choose_the_template(tmp_path):
    """Images along a dim of text, such as image_type, are cloned from the frames of that text."""
    kinds = {1: "M", 2: "P"}
    change = lambda ds, i: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", kinds[ds.EchoNumbers]])  # noqa: E731
    series = opened(tmp_path / "in", slices=2, dims={"EchoNumbers": [1, 2]}, change=change)
    array = series.to_xarray(dims=("slice_location", "image_type"))
    found = derived(series, array.isel(image_type=[1]), tmp_path / "out")
    assert [list(ds.ImageType) for ds in found] == [["DERIVED", "SECONDARY", "P"]] * 2
    assert [ds.EchoNumbers for ds in found] == [2, 2]


def test_series_of_the_coordinates_are_the_source(tmp_path):
    """An array of two series clones each image from its own series, also on a sibling of one of them."""
    make_series(tmp_path / "in", name="a", ProtocolName="first", FlipAngle=5)
    make_series(tmp_path / "in", name="b", ProtocolName="second", FlipAngle=10)
    study = xd.database(tmp_path / "in").studies()[0]
    array = xd.to_xarray(study.series(), dims=("SliceLocation", "FlipAngle"))
    found = derived(study.series()[0], array.isel(SliceLocation=[0]), tmp_path / "out")
    assert [(ds.FlipAngle, ds.ProtocolName) for ds in found] == [(5, "first"), (10, "second")]


def test_like_names_the_source(tmp_path):
    """With like=, headers are cloned from that series."""
    make_series(tmp_path / "in", name="a", ProtocolName="first")
    make_series(tmp_path / "in", name="b", ProtocolName="second")
    one, two = xd.database(tmp_path / "in").series()
    assert {ds.ProtocolName for ds in derived(one, one.to_xarray(), tmp_path / "out", like=two)} == {
        two.ProtocolName.item()
    }


def test_what_was_set_on_the_new_series_wins(tmp_path):
    """SeriesDescription and the like of the new series are not replaced by coordinates or the source."""
    series = opened(tmp_path / "in", dims={"SeriesDescription": ["one", "two"]}, FlipAngle=5)
    array = series.to_xarray(dims=("SliceLocation", "SeriesDescription"))
    new = series.new_sibling(SeriesDescription="mine", FlipAngle=7)
    new.set_xarray(array.isel(SeriesDescription=1))
    found = saved(new, tmp_path / "out")
    assert {(ds.SeriesDescription, float(ds.FlipAngle)) for ds in found} == {("mine", 7.0)}


def test_changed_coordinates_become_tags(tmp_path):
    """A coordinate that was changed is written; one that says nothing removes the element."""
    series = opened(tmp_path / "in", slices=2, EchoTime=5.0, RepetitionTime=100.0)
    array = series.to_xarray().assign_coords(EchoTime=("slice", [6.0, 7.0]), RepetitionTime=np.nan, ProtocolName="new")
    found = derived(series, array, tmp_path / "out")
    assert [(ds.EchoTime, ds.ProtocolName, "RepetitionTime" in ds) for ds in found] == [
        (6, "new", False),
        (7, "new", False),
    ]


def test_patient_and_study_are_not_taken_from_coordinates(tmp_path):
    """Coordinates about patient and study do not reach the new series: it is in the study where it was made."""
    series = opened(tmp_path / "in")
    array = series.to_xarray().assign_coords(PatientName="Someone^Else", StudyDate="19000101")
    (ds, *_) = derived(series, array, tmp_path / "out")
    assert (str(ds.PatientName), ds.StudyDate) == ("Doe^Jane", "20240229")


# Labels ------------------------------------------------------------------------------------------------------------


def test_labels_of_arrays_as_ndarray_returns_them(tmp_path):
    """What ndarray returns with its coords goes in again, values along several dims too."""
    change = lambda ds, i: setattr(ds, "AcquisitionTime", f"1000{i:02d}")  # noqa: E731
    series = opened(tmp_path / "in", slices=2, dims={"AcquisitionNumber": [1, 2]}, change=change)
    dims = ("SliceLocation", "AcquisitionTime")
    values, coords = series.ndarray(dims=dims, return_coords=True)
    new = series.new_sibling()
    new.set_ndarray(values * 2, dims=dims, coords={key: coords[key] for key in dims})
    assert np.array_equal(new.ndarray(dims=dims), values * 2)


@pytest.mark.parametrize(
    ("shape", "dims", "coords", "text"),
    [
        ((2, 3, 4), ("EchoTime", "FlipAngle"), None, "does not fit"),
        ((2, 3, 4), ("EchoTime",), {"EchoTime": [1, 2]}, "do not fit"),
        ((2, 3, 4), ("EchoTime",), {"FlipAngle": [1, 2, 3]}, "do not fit"),
        ((2, 3, 4, 5), ("EchoTime", "FlipAngle"), [[1, 2, 3, 4]], "1 sequences"),
        ((2, 3, 4, 5), ("EchoTime", "EchoTime"), None, "does not fit"),
        ((2,), None, None, "does not fit"),
    ],
)
def test_labels_that_do_not_fit(shape, dims, coords, text):
    """Dims and coords that do not fit the shape raise, and say both."""
    with pytest.raises(EditError, match=text):
        as_dataarray(np.zeros(shape), dims, coords)


def test_labels():
    """A 2-D array is one image, a last axis of 3 colour, and dims may be tags."""
    assert as_dataarray(np.zeros((2, 3)), None, None).dims == ("frame", "row", "column")
    assert as_dataarray(np.zeros((2, 3, 4, 3)), ("EchoTime",), None).dims == ("EchoTime", "row", "column", "sample")
    labelled = as_dataarray(np.zeros((2, 3, 4)), [(0x18, 0x81)], {(0x18, 0x81): [1, 2, 3, 4]})
    assert labelled.EchoTime.values.tolist() == [1, 2, 3, 4]
    assert labelled.sizes == {"EchoTime": 4, "row": 3, "column": 2}


def test_real_arrays_keep_their_text(tmp_path, real_copy):
    """On real data, geometry of derived files has the text of the source, and Source Image Sequence its UID."""
    folder = real_copy("rider-flip-angles")
    series = xd.database(folder).studies(SeriesDescription="ax 5 flip")[0].series(SeriesDescription="ax 5 flip")[0]
    by_uid = {}
    for path in folder.rglob("*"):
        if path.is_file() and ".xdicom" not in path.parts:
            ds = pydicom.dcmread(path)
            by_uid[ds.SOPInstanceUID] = ds
    for ds in derived(series, series.to_xarray() / 2, tmp_path / "out"):
        source = by_uid[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]
        for keyword in GEOMETRY:
            assert raw(ds, keyword).rstrip() == raw(source, keyword).rstrip()
