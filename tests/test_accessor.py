"""Facts about `da.dicom`: geometry that stays right whatever xarray does with an array.

The truth is worked out voxel by voxel from position, orientation and spacing (PS3.3 C.7.6.2.1.1). It is also what the
pixels hold, so that whatever is linear (selections, averages, interpolation) does to the pixels what geometry must do.
"""

import dask.array
import numpy as np
import pytest
import xarray as xr
import zarr
from factories import make_series
from fake_table import FakeFrames
from hypothesis import given, settings
from hypothesis import strategies as st

import xdicom
from xdicom.array import to_dataarray
from xdicom.errors import EditError, GeometryError, TagValueError
from xdicom.stack import stack

ROWS, COLUMNS = 6, 8
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])
SPACING = (0.9375, 0.75)
REGULAR = np.array([[-10 + i, 5 - 2 * i, 3 * i] for i in range(6)], float)


def truth(positions, orientation=OBLIQUE, spacing=SPACING):
    """Return the centre of every voxel, shape (slices, rows, columns, 3), by the equation of PS3.3 C.7.6.2.1.1."""
    centres = np.empty((len(positions), ROWS, COLUMNS, 3))
    for k, position in enumerate(positions):
        for j in range(ROWS):
            for i in range(COLUMNS):
                along_row = np.array(orientation[:3]) * spacing[1] * i
                along_column = np.array(orientation[3:]) * spacing[0] * j
                centres[k, j, i] = np.asarray(position) + along_row + along_column
    return centres


def volumes(positions=REGULAR, *, orientation=OBLIQUE, spacing=SPACING, dims=("slice",), **more):
    """Return three arrays of the same slices, whose pixels are the x, y and z of their centres."""
    pixels = truth(positions, orientation, spacing)
    return [
        to_dataarray(frames, stack(frames, dims))
        for axis in range(3)
        for frames in [
            FakeFrames(
                ImagePositionPatient=[tuple(position) for position in positions],
                ImageOrientationPatient=[orientation] * len(positions),
                PixelSpacing=[spacing] * len(positions),
                InstanceNumber=list(range(len(positions))),
                EchoTime=[5.0] * len(positions),
                SliceThickness=[3.0] * len(positions),
                SOPInstanceUID=[f"1.2.{i}" for i in range(len(positions))],
                pixels=pixels[..., axis],
                token=f"axis {axis}",
                **more,
            )
        ]
    ]


def volume(*args, **options):
    """Return one array of slices."""
    return volumes(*args, **options)[0]


def check_world(arrays, atol=1e-9):
    """Fail unless world coordinates of arrays are what their pixels say."""
    world = arrays[0].dicom.world_coords()
    for axis, da in zip("xyz", arrays, strict=True):
        placed, values = xr.broadcast(world[axis].drop_vars(world[axis].coords), da.drop_vars(da.coords))
        np.testing.assert_allclose(placed.transpose(*values.dims), values, rtol=0, atol=atol)


def check_affine(arrays, atol=1e-9, dim="slice"):
    """Fail unless the affine takes the index of each voxel to where its pixel says it is."""
    matrix = arrays[0].dicom.affine
    full = [da.expand_dims([name for name in (dim, "row", "column") if name not in da.dims]) for da in arrays]
    full = [da.transpose("column", "row", dim, ...) for da in full]
    index = np.indices(full[0].shape[:3]).reshape(3, -1)
    placed = matrix[:3, :3] @ index + matrix[:3, 3:]
    for axis, da in enumerate(full):
        values = da.values.reshape(index.shape[1], -1)
        np.testing.assert_allclose(np.broadcast_to(placed[axis][:, None], values.shape), values, rtol=0, atol=atol)


# -- what may be done to an array

indices = st.one_of(
    st.builds(
        slice, st.none() | st.integers(0, 2), st.none() | st.integers(3, 8), st.sampled_from([None, 1, 2, 3, -1])
    ).filter(lambda key: key.step is None or key.step > 0 or key.start is None),
    st.sampled_from([slice(None, None, -1), slice(4, 0, -2)]),
    st.lists(st.integers(0, 1), min_size=1, max_size=3, unique=True),
    st.integers(0, 1),
)
spatial = st.sampled_from(["slice", "row", "column"])
steps = st.one_of(
    st.tuples(st.just("isel"), spatial, indices),
    st.tuples(st.just("coarsen"), spatial, st.integers(2, 4)),
    st.tuples(
        st.just("interp"), spatial, st.lists(st.integers(0, 16), min_size=1, max_size=3, unique=True).map(sorted)
    ),
    st.tuples(st.just("transpose"), st.permutations(["slice", "row", "column"]), st.none()),
    st.tuples(st.just("sortby"), spatial, st.booleans()),
    st.tuples(
        st.sampled_from(
            ["arithmetic", "map_blocks", "groupby", "astype", "where", "concat", "sel", "no attrs", "zarr"]
        ),
        spatial,
        st.none(),
    ),
)


def through_zarr(da):
    """Return an array that was written and read again."""
    store = zarr.storage.MemoryStore()
    da.to_dataset(name="pixels").to_zarr(store, consolidated=False)
    return xr.open_zarr(store, consolidated=False)["pixels"].load()


ANYWHERE = {
    "transpose": lambda da, dims, how: da.transpose(*[name for name in dims if name in da.dims]),
    "arithmetic": lambda da, dim, how: (da * 2 + da) / 3,
    "map_blocks": lambda da, dim, how: da.map_blocks(lambda block: block + 0),
    "astype": lambda da, dim, how: da.astype(np.float64).clip(-1e9, 1e9),
    "where": lambda da, dim, how: da.where(da > -1e9),
    "no attrs": lambda da, dim, how: da.drop_attrs(),
    "zarr": lambda da, dim, how: through_zarr(da),
}
ALONG = {
    "sel": lambda da, dim, how: da.sel({dim: da[dim].values[::2]}),
    "sortby": lambda da, dim, how: da.sortby(dim, ascending=how),
    "groupby": lambda da, dim, how: da.groupby(dim).map(lambda part: part + 0),
    "concat": lambda da, dim, how: xr.concat([da.isel({dim: [i]}) for i in range(da.sizes[dim])], dim),
}


def isel(da, dim, how):
    """Select by index, the first where there are not so many."""
    outside = not isinstance(how, slice) and np.max(how) >= da.sizes[dim]
    part = da.isel({dim: 0 if outside else how})
    return part if part.size else da


def coarsen(da, dim, how):
    """Average neighbours, where there are enough."""
    # xarray averages text, too, and fails; see test_coordinates.py for what is done about it.
    da = da.drop_vars(["SOPInstanceUID"], errors="ignore")
    return da.coarsen({dim: how}, boundary="trim").mean() if da.sizes[dim] >= how else da


def interp(da, dim, how):
    """Interpolate at sixteenths of the whole length, where there is one."""
    low, high = da[dim].values.min(), da[dim].values.max()
    return da if low == high else da.interp({dim: low + (high - low) * np.array(how) / 16})


ALONG |= {"isel": isel, "coarsen": coarsen, "interp": interp}


def done(da, step):
    """Return an array after one step; unchanged where its dim is gone."""
    name, dim, how = step
    if name in ANYWHERE:
        return ANYWHERE[name](da, dim, how)
    return ALONG[name](da, dim, how) if dim in da.dims else da


positions = st.one_of(
    st.just(REGULAR),
    st.just(REGULAR[::-1].copy()),
    st.lists(st.integers(0, 60).map(lambda i: i / 4), min_size=2, max_size=7, unique=True).map(
        lambda places: np.array([np.array([1.0, 2.0, 3.0]) + NORMAL * place for place in places])
    ),
    st.floats(-0.4, 0.4).map(
        lambda tilt: np.array([NORMAL * 2.5 * k + np.array([0, tilt * k, 1.0]) for k in range(6)])
    ),
)


@settings(max_examples=80)
@given(positions, st.lists(steps, max_size=5), st.sampled_from([("slice",), ("InstanceNumber",)]))
def test_geometry_is_right_whatever_is_done(places, chain, dims):
    """After any chain of steps world coordinates are right, and the affine is right or raises."""
    arrays = [
        da.compute().rename({dims[0]: "slice"} if dims[0] != "slice" else {}) for da in volumes(places, dims=dims)
    ]
    for step in chain:
        arrays = [done(da, step) for da in arrays]
    # Interpolation is at coordinates rounded to 1e-3.
    check_world(arrays, atol=2e-3)
    try:
        matrix = arrays[0].dicom.affine
    except GeometryError:
        return
    assert np.isfinite(matrix).all()
    check_affine(arrays, atol=0.02 * np.linalg.norm(matrix[:3, 2]) + 2e-3)


# -- one fact each


def test_averaged_slices_have_no_affine():
    """After mean("slice") nobody knows where the slice is, and the error says what to do."""
    with pytest.raises(GeometryError, match="mean"):
        volume().mean("slice").dicom.affine  # noqa: B018


def test_some_slices_keep_world_coordinates():
    """Slices 0, 1 and 5 keep their places, and have no affine."""
    arrays = [da.isel(slice=[0, 1, 5]) for da in volumes()]
    check_world(arrays)
    with pytest.raises(GeometryError, match=r"unequal.*to_regular\(\)"):
        arrays[0].dicom.affine  # noqa: B018


def test_one_slice_keeps_its_affine():
    """One slice that is left knows its step to the next, tilt included."""
    arrays = [da.isel(slice=3) for da in volumes()]
    check_affine(arrays)
    np.testing.assert_allclose(arrays[0].dicom.affine[:3, 2], [1, -2, 3])


def test_one_slice_of_unequal_ones_keeps_its_affine():
    """One slice out of a stack with a gap has the step to the next one."""
    gap = volume(REGULAR[[0, 1, 4]])
    np.testing.assert_allclose(gap.isel(slice=1).dicom.affine[:3, 2], [3, -6, 9])


def test_the_same_slice_twice_has_no_affine():
    """A slice that is there twice has no step to itself."""
    with pytest.raises(GeometryError, match="same position"):
        volume().isel(slice=[2, 2]).dicom.affine  # noqa: B018


def test_arithmetic_of_two_series_keeps_what_they_share():
    """Two series of one geometry give an array with that geometry."""
    a, b = volume(), volume()
    np.testing.assert_array_equal((a - b).dicom.affine, a.dicom.affine)


def test_arithmetic_of_two_geometries_has_none():
    """Two series elsewhere in the patient, whose rows and slices align, give an array that is nowhere."""
    across = np.array(OBLIQUE[:3])
    difference = volume() - volume(REGULAR + across)
    assert difference.sizes["slice"] == len(REGULAR)
    with pytest.raises(GeometryError, match="arithmetic drops what differs"):
        difference.dicom.affine  # noqa: B018


def test_the_first_slice_is_subtracted_without_its_place():
    """With drop=True the difference keeps the geometry, without it the error says how."""
    da = volume()
    np.testing.assert_array_equal((da - da.isel(slice=0, drop=True)).dicom.affine, da.dicom.affine)
    with pytest.raises(GeometryError, match="drop=True"):
        (da - da.isel(slice=0)).dicom.affine  # noqa: B018


def test_points_have_world_coordinates_and_no_affine():
    """Points picked one by one lie along no row and no stack; each keeps its place."""
    points = xr.DataArray([0, 1, 2], dims="point")
    arrays = [da.isel(slice=points, row=points) for da in volumes()]
    check_world(arrays)
    with pytest.raises(GeometryError, match="row is along"):
        arrays[0].dicom.affine  # noqa: B018


def test_stacks_of_two_geometries_side_by_side_have_no_affine():
    """Two geometries along a new dim keep their places, and have no common affine."""
    across = np.array(OBLIQUE[:3])
    both = xr.concat([volume(), volume(REGULAR + across)], "EchoTime")
    with pytest.raises(GeometryError, match="several dims"):
        both.dicom.affine  # noqa: B018
    np.testing.assert_allclose(both.isel(EchoTime=[1]).dicom.affine, volume(REGULAR + across).dicom.affine)


def test_averages_over_other_dims_keep_the_affine():
    """A mean over echoes is where the echoes were."""
    frames = FakeFrames(
        ImagePositionPatient=[tuple(position) for position in [*REGULAR, *REGULAR]],
        ImageOrientationPatient=[OBLIQUE] * 12,
        PixelSpacing=[SPACING] * 12,
        EchoTime=[1.0] * 6 + [2.0] * 6,
        pixels=np.zeros((12, ROWS, COLUMNS)),
    )
    da = to_dataarray(frames, stack(frames, ("EchoTime", "slice")))
    np.testing.assert_array_equal(da.mean("EchoTime").dicom.affine, volume().dicom.affine)
    np.testing.assert_array_equal(da.groupby("EchoTime").mean().dicom.affine, volume().dicom.affine)


def test_padded_slices_have_no_affine():
    """A slice that was put in by pad() has no position."""
    with pytest.raises(GeometryError, match="no position"):
        volume().pad(slice=1).dicom.affine  # noqa: B018


def test_averaged_indices_are_no_mm():
    """Where spacings vary, rows are counted; averaged ones are still counted, not mm."""
    spacings = [SPACING, (1.5, 1.5)]
    frames = FakeFrames(
        ImagePositionPatient=[tuple(position) for position in REGULAR[:2]],
        ImageOrientationPatient=[OBLIQUE] * 2,
        PixelSpacing=spacings,
        SliceThickness=[3.0] * 2,
        pixels=np.zeros((2, ROWS, COLUMNS)),
    )
    da = to_dataarray(frames, stack(frames, ("slice",))).coarsen(row=2).mean().isel(slice=1)
    np.testing.assert_allclose(da.dicom.affine[:3, 1], np.array(OBLIQUE[3:]) * 3.0)
    np.testing.assert_allclose(da.dicom.affine[:3, 3], REGULAR[1] + np.array(OBLIQUE[3:]) * 0.75)


@pytest.mark.parametrize("way", ["zarr", "h5netcdf", "netcdf4"])
def test_geometry_survives_files(tmp_path, way):
    """What is read back from Zarr and netCDF has the same affine and world coordinates, also after a selection."""
    da = volume().isel(row=slice(None, None, -2))
    if way == "zarr":
        da.to_zarr(tmp_path / "a.zarr", consolidated=False)
        opened = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    else:
        pytest.importorskip({"netcdf4": "netCDF4"}.get(way, way))
        da.to_netcdf(tmp_path / "a.nc", engine=way)
        opened = xr.open_dataset(tmp_path / "a.nc", engine=way, chunks={})
    with opened:
        back = opened["pixels"]
        np.testing.assert_array_equal(back.dicom.affine, da.dicom.affine)
        part = back.isel(slice=[0, 1, 4], column=slice(1, 4))
        for axis in "xyz":
            expected = da.isel(slice=[0, 1, 4], column=slice(1, 4)).dicom.world_coords()[axis]
            np.testing.assert_allclose(part.dicom.world_coords()[axis], expected)


def test_world_coordinates_are_lazy():
    """World coordinates of a lazy array are computed when they are asked for."""
    assert isinstance(volume().dicom.world_coords()["x"].data, dask.array.Array)
    assert isinstance(volume().compute().dicom.world_coords()["x"].data, np.ndarray)


def test_any_array_has_the_accessor():
    """An array that is not ours has it too, and says what is missing."""
    with pytest.raises(GeometryError, match="no coordinate"):
        xr.DataArray(np.zeros((2, 2))).dicom.affine  # noqa: B018


# -- series of arrays


@pytest.fixture
def scan(tmp_path):
    """Give a database of one series: 4 slices at 2 echo times."""
    make_series(tmp_path / "scan", slices=4, dims={"EchoTime": [5.0, 10.0]}, PatientName="Bond", RepetitionTime=100.0)
    with xdicom.database(tmp_path / "scan") as db:
        yield db


def test_new_series_is_beside_its_source(scan):
    """An array becomes a series of the study that it came from, with the headers of its source and its own values."""
    source = scan.series()[0]
    da = source.to_xarray(dims=("EchoTime", "slice"))
    made = (da.astype(float) * 0.5).isel(slice=slice(None, None, -2)).dicom.to_series(scan, SeriesDescription="half")
    assert (made.study, made.RepetitionTime, made.SeriesDescription) == (source.study, 100.0, "half")
    back = made.to_xarray(dims=("EchoTime", "slice"))
    np.testing.assert_allclose(back, da.isel(slice=[1, 3]) * 0.5, atol=0.01 * da.values.std())
    np.testing.assert_allclose(back.dicom.affine, da.isel(slice=[1, 3]).dicom.affine, atol=1e-6)


def test_new_series_of_averages_drops_their_tag(scan):
    """A mean over echoes has no EchoTime, also where attributes were dropped on the way."""
    da = scan.series()[0].to_xarray(dims=("EchoTime", "slice"))
    made = da.mean("EchoTime").drop_attrs().dicom.to_series(scan)
    assert list(made.EchoTime) == []
    assert made.RepetitionTime == 100.0


def test_new_series_without_source_joins_its_study(scan):
    """Where the source is not told, the study in the attributes is joined."""
    da = scan.series()[0].to_xarray(dims=("EchoTime", "slice")).drop_vars("source_series")
    assert da.dicom.to_series(scan).study == scan.studies()[0]
    del da.attrs["dicom_header"]
    assert da.dicom.to_series(scan).study == scan.studies()[0]


def test_new_series_elsewhere_has_the_patient_and_study_of_its_header(scan):
    """In another database the array makes the patient and study that it came from, with its parameters."""
    source = scan.series()[0]
    da = source.to_xarray(dims=("EchoTime", "slice"))
    with xdicom.database() as other:
        made = (da * 2).dicom.to_series(other, SeriesDescription="twice")
        assert (made.patient.key, made.study.key) == (source.patient.key, source.study.key)
        assert (made.PatientName, made.RepetitionTime, made.SeriesDescription) == ("Bond", 100.0, "twice")
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
        np.testing.assert_array_equal(made.to_xarray(dims=("EchoTime", "slice")), da * 2)


def test_empty_elements_go_along(tmp_path):
    """An element that is there and empty, as the standard wants some, is no coordinate, and is there again."""
    make_series(tmp_path / "scan", AccessionNumber="", PatientSex="")
    with xdicom.database(tmp_path / "scan") as db, xdicom.database() as other:
        da = db.series()[0].to_xarray()
        assert "AccessionNumber" not in da.coords
        assert [list(da.dicom.to_series(other)[name]) for name in ("AccessionNumber", "PatientSex")] == [[None]] * 2


def test_new_series_elsewhere_leaves_nothing_where_its_tags_do_not_fit(scan):
    """A value that its tag cannot hold raises, and no series is left."""
    da = scan.series()[0].to_xarray(dims=("EchoTime", "slice"))
    with xdicom.database() as other:
        with pytest.raises(TagValueError):
            da.dicom.to_series(other, EchoTime="long")
        assert other.series() == []


def test_text_as_objects_chooses_the_headers(tmp_path):
    """Magnitude and phase find their headers also where text is objects, as some files give it."""
    dims = {"ImageType": [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]}

    def number(ds, index):
        ds.EchoNumbers = 1 + index // 3

    make_series(tmp_path / "scan", dims=dims, change=number)
    with xdicom.database(tmp_path / "scan") as db:
        da = (
            db.series()[0]
            .to_xarray(dims=("image_type", "slice"))
            .drop_vars(["EchoNumbers", "ImageType", "SOPInstanceUID", "InstanceNumber"], errors="ignore")
        )
        da = da.assign_coords(image_type=da["image_type"].values.astype(object))
        made = da.isel(image_type=slice(None, None, -1)).dicom.to_series(db)
        table = made.to_pandas("EchoNumbers", "image_type")
        assert set(map(tuple, table.values.tolist())) == {(1, "MAGNITUDE"), (2, "PHASE")}


def test_new_series_from_nowhere_has_a_new_patient(scan):
    """An array of no known study goes to a new patient, who has the tags that are given."""
    da = xr.DataArray(np.zeros((2, 3, 4)), dims=("slice", "row", "column"))
    made = da.dicom.to_series(scan, PatientID="new", StudyDescription="made", SeriesDescription="zeros")
    assert (made.patient.key, made.StudyDescription, made.SeriesDescription) == (("new",), "made", "zeros")


def test_new_series_follows_another_series(scan):
    """`like` gives headers and study to an array from nowhere."""
    source = scan.series()[0]
    da = xr.DataArray(np.zeros((8, 6, 5)), dims=("frame", "row", "column"))
    made = da.dicom.to_series(scan, like=source)
    assert (made.study, made.RepetitionTime, len(made.frames())) == (source.study, 100.0, 8)


def test_array_that_does_not_fit_leaves_nothing_behind(scan):
    """Complex values raise, and no empty series is left."""
    da = scan.series()[0].to_xarray(dims=("EchoTime", "slice"))
    with pytest.raises(EditError, match="complex"):
        (da * 1j).dicom.to_series(scan)
    assert len(scan.series()) == 1
    assert scan.status() == []


def test_array_is_saved_as_files(scan, tmp_path):
    """save() writes a series that reads back with the values and the geometry of the array."""
    da = scan.series()[0].to_xarray(dims=("EchoTime", "slice"))
    (da + 1).dicom.save(tmp_path / "out", SeriesDescription="plus one")
    with xdicom.database(tmp_path / "out") as out:
        (series,) = out.series()
        back = series.to_xarray(dims=("EchoTime", "slice"))
        np.testing.assert_array_equal(back, da + 1)
        np.testing.assert_allclose(back.dicom.affine, da.dicom.affine, atol=1e-6)
        assert (series.SeriesDescription, series.PatientName) == ("plus one", "Bond")
    assert scan.status() == []


def test_array_is_drawn(scan):
    """plot() draws the montage of the array."""
    pytest.importorskip("matplotlib")
    da = scan.series()[0].to_xarray(dims=("EchoTime", "slice"))
    figure = (da * 2).dicom.plot(title="twice")
    assert figure.get_size_inches().min() > 0
