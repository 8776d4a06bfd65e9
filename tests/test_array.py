"""Facts about the lazy array: what it holds, what it reads, how it is named and kept."""

import pickle
import shutil

import dask
import numpy as np
import pydicom
import pytest
import xarray as xr
from conftest import real_data
from fake_table import ABSENT, FakeFrames, FakeLocations
from hypothesis import given
from hypothesis import strategies as st

from xdicom.array import FrameArray, chunk_sizes, to_dataarray
from xdicom.catalog import Catalog
from xdicom.locations import Locations
from xdicom.pixels import PixelFormat, Rescale
from xdicom.placement import affine_of
from xdicom.stack import Grid, stack

MIB = 2**20
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def series(slices=4, echoes=3, shape=(3, 4), dtype=np.int16, **more):
    """Return frames of slices x echoes in a scrambled order, whose pixels tell slice and echo."""
    places = [(s, e) for e in range(echoes) for s in reversed(range(slices))]
    offsets = np.arange(np.prod(shape)).reshape(shape)
    pixels = np.array([1000 * s + 100 * e + offsets for s, e in places]).astype(dtype)
    return FakeFrames(
        SliceLocation=[float(s) for s, _ in places], EchoTime=[float(e) for _, e in places], pixels=pixels, **more
    )


def array(frames=None, dims=("SliceLocation", "EchoTime"), **options):
    """Return the array of frames."""
    frames = frames or series()
    return to_dataarray(frames, stack(frames, dims), **options)


def expected(slices=4, echoes=3, shape=(3, 4)):
    """Return what the array holds, in numpy."""
    s, e = np.ogrid[:slices, :echoes]
    return (1000 * s + 100 * e)[..., None, None] + np.arange(np.prod(shape)).reshape(shape)


def gapped(stored=np.int16, **options):
    """Return an array of 2 x 2 points of which the last has no frame."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0], EchoTime=[1.0, 2.0, 1.0], pixels=np.ones((3, 2, 2), stored))
    return to_dataarray(frames, stack(frames, ("SliceLocation", "EchoTime"), missing="fill"), **options)


# -- what it is


def test_array_holds_each_frame_at_its_point():
    """Every point has the pixels of the frame whose values are the coordinates there."""
    np.testing.assert_array_equal(array(), expected())


def test_array_is_named_pixels_and_has_row_and_column_last():
    """The name is pixels; the dims are those of the grid, then row and column."""
    da = array()
    assert da.name == "pixels"
    assert da.dims == ("SliceLocation", "EchoTime", "row", "column")


def test_colour_has_a_sample_dim_last():
    """Frames of three samples have a dim sample."""
    da = array(FakeFrames(EchoTime=[1.0], pixels=np.zeros((1, 2, 2, 3), np.uint8)), ("EchoTime",))
    assert da.dims == ("EchoTime", "row", "column", "sample")


def test_nothing_is_read_before_it_is_computed():
    """Making the array reads no pixels."""
    frames = series()
    array(frames)
    assert frames.locations.reads == []


def test_no_chunks_read_now_into_numpy():
    """With chunks=None the array is in memory."""
    da = array(chunks=None)
    assert isinstance(da.data, np.ndarray)
    np.testing.assert_array_equal(da, expected())


def test_dtype_is_that_of_the_frames():
    """The dtype is the smallest one that the frames say."""
    assert array(series(dtype=np.uint8)).dtype == np.uint8


def test_dtype_can_be_asked_for():
    """Another dtype is read, not converted afterwards."""
    da = array(dtype="float64")
    assert da.dtype == np.float64
    np.testing.assert_array_equal(da, expected())


def test_stored_values_can_be_asked_for():
    """With rescale=False the dtype is that of the stored values."""
    assert array(series(dtype=np.float32), rescale=False).dtype == np.int16


def test_points_without_a_frame_are_nan():
    """A point without a frame is NaN, and integers become floats that hold them."""
    da = gapped()
    assert da.dtype == np.float32
    np.testing.assert_array_equal(da[:, :, 0, 0], [[1, 1], [1, np.nan]])


def test_wide_integers_with_gaps_become_wide_floats():
    """Integers of 32 bits need float64 beside NaN."""
    assert gapped(np.int32).dtype == np.float64


def test_integers_cannot_hold_a_point_without_a_frame():
    """An integer dtype with missing points is refused."""
    with pytest.raises(ValueError, match="1 points have no frame and are NaN, which int16 cannot hold"):
        gapped(dtype=np.int16)


def test_no_dims_make_a_single_frame():
    """One frame without dims is 2-D."""
    da = array(FakeFrames(EchoTime=[1.0]), ())
    np.testing.assert_array_equal(da, np.arange(12).reshape(3, 4))


def test_lengths_have_units():
    """Coordinates in mm say so; indices don't."""
    frames = FakeFrames(
        ImagePositionPatient=[(0.0, 0.0, 0.0)], ImageOrientationPatient=[AXIAL], PixelSpacing=[(1.0, 1.0)]
    )
    da = array(frames, ("slice",))
    assert [da[name].attrs.get("units") for name in ("slice", "row", "ImagePositionPatient_x")] == ["mm"] * 3
    assert array()["row"].attrs == {}


# -- what it reads


def reads(part):
    """Return the frames that computing a part of the array reads."""
    frames = series(8, 5)
    da = part(array(frames))
    result = da.compute(scheduler="synchronous")
    read = [index for indices, _ in frames.locations.reads for index in indices]
    np.testing.assert_array_equal(result, part(array(series(8, 5), chunks=None)))
    return len(read)


@pytest.mark.parametrize(
    ("part", "count"),
    [
        (lambda da: da.isel(SliceLocation=7, EchoTime=3), 1),
        (lambda da: da.sel(SliceLocation=7.0, EchoTime=3.0), 1),
        (lambda da: da.isel(SliceLocation=7, EchoTime=3).T, 1),
        (lambda da: da.isel(SliceLocation=2), 5),
        (lambda da: da.isel(SliceLocation=slice(None, None, 4)), 10),
        (lambda da: da.isel(SliceLocation=slice(5, 7), EchoTime=slice(0, 2)), 4),
        (lambda da: da.isel(row=0, SliceLocation=-1, EchoTime=-1), 1),
    ],
)
def test_only_the_frames_asked_for_are_read(part, count):
    """A selection of whatever kind reads its own frames and no others, though a chunk holds more."""
    assert reads(part) == count


def test_only_the_part_of_a_frame_asked_for_is_read():
    """A part of rows and columns is asked of the file as such."""
    frames = series()
    array(frames).isel(SliceLocation=0, EchoTime=0, row=slice(1, 3), column=2).compute(scheduler="synchronous")
    ((_, region),) = frames.locations.reads
    assert [range(*key.indices(4)) for key in region] == [range(1, 3), range(2, 3)]


def test_points_without_a_frame_read_nothing():
    """Nothing is read for a point that has no frame."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0], EchoTime=[1.0, 2.0, 1.0])
    da = to_dataarray(frames, stack(frames, ("SliceLocation", "EchoTime"), missing="fill"))
    assert np.isnan(da[1, 1].compute(scheduler="synchronous")).all()
    assert frames.locations.reads == []


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_chunks_compute_under_any_scheduler(scheduler):
    """Chunks of one frame give the same array whatever runs them."""
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(array(chunks={"SliceLocation": 1, "EchoTime": 1}), expected())


def lazy(holes=False):
    """Return an array of 4 x 3 points, 5 rows and 6 columns, and what it holds."""
    pixels = np.arange(360, dtype=np.float32).reshape(12, 5, 6)
    table = np.random.default_rng(3).permutation(12).reshape(4, 3)
    held = pixels[table]
    if holes:
        table[1, 2] = table[3, 0] = -1
        held[1, 2] = held[3, 0] = np.nan
    grid = Grid(("a", "b"), table, {})
    return FrameArray.on_grid(FakeLocations(pixels), grid), held


def keys(size):
    """Return anything that selects from an axis but arrays."""
    ends = st.none() | st.integers(-size - 2, size + 2)
    steps = st.integers(-3, 3).filter(bool) | st.none()
    return st.integers(-size, size - 1) | st.builds(slice, ends, ends, steps)


@given(st.tuples(*map(keys, (4, 3, 5, 6))), st.integers(0, 4), st.booleans())
def test_indexing_is_that_of_numpy(key, count, holes):
    """Ints and slices with any step, negative ones and too large ones included, are those of numpy."""
    frames, held = lazy(holes)
    np.testing.assert_array_equal(frames[key[:count]], held[key[:count]])


@given(st.tuples(*map(keys, (4, 3, 5, 6))), st.integers(0, 3), st.data())
def test_one_array_among_the_indices_is_that_of_numpy(key, axis, data):
    """An array of integers, unordered and repeated, selects as in numpy."""
    frames, held = lazy()
    size = held.shape[axis]
    index = np.array(data.draw(st.lists(st.integers(-size, size - 1), max_size=6)), int)
    key = (*key[:axis], index, *key[axis + 1 :])
    np.testing.assert_array_equal(frames[key], held[key])


@pytest.mark.parametrize(
    "key",
    [
        (Ellipsis, 0),
        (0, Ellipsis),
        (Ellipsis, slice(1, 2), 3),
        Ellipsis,
        (),
        (np.array([True, False, True, False]),),
        (np.array([0, 1]), np.array([2, 0])),
        (slice(None), np.array([[0, 1], [2, 2]])),
        (np.int64(2), np.uint8(1)),
    ],
)
def test_other_indices_are_those_of_numpy(key):
    """Ellipsis, bools and several arrays select as in numpy."""
    frames, held = lazy()
    np.testing.assert_array_equal(frames[key], held[key])


@pytest.mark.parametrize("key", [4, (0, -4), (np.array([9]),), (0,) * 5, 1.5, (np.array([True]),)])
def test_wrong_index_is_refused(key):
    """What is outside, too many, or no index raises IndexError."""
    with pytest.raises(IndexError):
        lazy()[0][key]


def test_array_from_an_array_reads_each_frame_once():
    """Indices that repeat read a frame once."""
    frames, _ = lazy()
    frames.locations.reads.clear()
    frames[np.array([1, 1, 3]), 0]
    assert [len(indices) for indices, _ in frames.locations.reads] == [2]


def test_numpy_takes_it_as_an_array():
    """np.asarray reads everything."""
    frames, held = lazy()
    np.testing.assert_array_equal(np.asarray(frames), held)


# -- chunks


def sizes(shape, chunks="auto", itemsize=2):
    """Return the chunk sizes of an array with dims a, b... before row and column."""
    dims = (*"abc"[: len(shape) - 2], "row", "column")
    return chunk_sizes(shape, np.dtype(f"u{itemsize}"), dims, chunks)


def test_small_array_is_one_chunk():
    """Below the limit all frames are in one chunk."""
    assert sizes((10, 3, 64, 64)) == ((10,), (3,), (64,), (64,))


def test_fastest_dims_are_whole_first():
    """A chunk is a contiguous run of frames: whole along the fast dims, divided along the slowest that needs it."""
    a, b, *frame = sizes((100, 20, 512, 512))
    assert b == (20,)
    assert frame == [(512,), (512,)]
    assert len(set(a[:-1])) == 1


def test_slow_dims_are_single_where_fast_ones_are_divided():
    """Where the fastest dim is divided, the slower ones are one by one."""
    a, b, *_ = sizes((3, 1000, 512, 512))
    assert a == (1, 1, 1)
    assert max(b) * 512 * 512 * 2 <= 64 * MIB


@given(st.lists(st.integers(1, 400), min_size=1, max_size=3), st.integers(16, 1024), st.integers(16, 1024))
def test_chunks_are_whole_frames_of_16_to_64_mb(grid, rows, columns):
    """Chunks are whole frames, at most 64 MB, and at least 16 MB where the array has them and frames divide so."""
    found = sizes((*grid, rows, columns))
    assert found[-2:] == ((rows,), (columns,))
    biggest = [max(part) for part in found]
    nbytes = int(np.prod(biggest, dtype=object)) * 2
    total = int(np.prod([*grid, rows, columns], dtype=object)) * 2
    assert nbytes <= 64 * MIB
    assert nbytes >= min(total, 16 * MIB)


def test_frame_beyond_the_limit_is_a_chunk():
    """A frame of more than 64 MB is a chunk by itself."""
    assert sizes((3, 10000, 10000))[0] == (1, 1, 1)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ({"a": 2}, ((2, 2), (3,), (8,), (8,))),
        ({"a": 1, "row": 4}, ((1,) * 4, (3,), (4, 4), (8,))),
        ({}, ((4,), (3,), (8,), (8,))),
        (2, ((2, 2), (2, 1), (2,) * 4, (2,) * 4)),
        ((1, -1, -1, -1), ((1,) * 4, (3,), (8,), (8,))),
        (((3, 1), 3, 8, 8), ((3, 1), (3,), (8,), (8,))),
    ],
)
def test_chunks_can_be_given_as_in_xarray(chunks, expected):
    """A dict, an int and a tuple mean what they mean in xarray."""
    assert sizes((4, 3, 8, 8), chunks) == expected


def test_chunks_of_an_unknown_dim_are_refused():
    """A dict that names another dim says which there are."""
    with pytest.raises(ValueError, match=r"chunks names \['z'\]; the dims are \('a', 'row', 'column'\)"):
        sizes((4, 8, 8), {"z": 1})


# -- names and pickles


def test_same_frames_have_the_same_name():
    """The dask name doesn't change from one run to the next."""
    assert array().data.name == array().data.name


@pytest.mark.parametrize(
    "other",
    [
        lambda: array(series(token="edited")),
        lambda: array(dims=("EchoTime", "SliceLocation")),
        lambda: array(rescale=False),
        lambda: array(dtype="float64"),
        lambda: array(chunks=1),
    ],
)
def test_anything_else_has_another_name(other):
    """Other frames, another arrangement, other options give another name."""
    assert other().data.name != array().data.name


def test_name_says_pixels():
    """The dask name begins with what it is."""
    assert array().data.name.startswith("pixels-")


def test_array_pickles():
    """A worker gets the same array."""
    frames, held = lazy(holes=True)
    there = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(there[...], held)
    assert there.dtype == frames.dtype


def located(count):
    """Return the locations of frames one a file, as a scan gives them, with what can't be guessed at random."""
    rng = np.random.default_rng(1)
    fmt = PixelFormat("1.2.840.10008.1.2.1", 64, 64, 1, 16, 12, 11, False, "MONOCHROME2", 0, "int", None)
    return Locations.build(
        root=b"/folder",
        paths=[b"series/%05d.dcm" % i for i in range(count)],
        stamps=np.stack([np.full(count, 10000), rng.integers(0, 10**9, count), np.arange(count)], axis=1),
        file=np.arange(count),
        number=np.zeros(count),
        offset=np.full(count, 1200),
        length=np.full(count, 8192),
        formats=[fmt],
        format_codes=np.zeros(count),
        rescales=[Rescale()],
        rescale_codes=np.zeros(count),
        uids=[f"1.2.{i}" for i in range(count)],
    )


@pytest.mark.parametrize("order", [np.arange, np.random.default_rng(2).permutation])
def test_graph_of_many_frames_pickles_small(order):
    """The graph of 10,000 frames costs less than 40 bytes a frame, also where the files are in no order."""
    frames = FakeFrames(EchoTime=np.arange(10_000.0).tolist())
    frames.locations = located(10_000)
    grid = Grid(("a", "b"), order(10_000).reshape(100, 100), {})
    lazy = FrameArray.on_grid(frames.locations, grid)
    graph = lazy.chunked(chunk_sizes(lazy.shape, lazy.dtype, ("a", "b", "row", "column"), {"a": 1})).__dask_graph__()
    assert len(pickle.dumps(graph)) < 400_000


# -- real series


@pytest.fixture
def real(tmp_path):
    """Return a function that gives the frames of the only image series of a real folder, and their datasets."""
    opened = []

    def frames_of(name):
        shutil.copytree(real_data(name), tmp_path / name)
        catalog = Catalog(tmp_path / name)
        opened.append(catalog)
        catalog.rescan()
        (key,) = catalog.keys()
        return catalog.frames(key), [pydicom.dcmread(path) for path in sorted((tmp_path / name).rglob("*.dcm"))]

    yield frames_of
    for catalog in opened:
        catalog.close()


def test_two_echoes_lie_where_pydicom_says(real):
    """Each frame of a real series is at the point of its slice location and echo time."""
    frames, datasets = real("siemens-two-echoes")
    da = array(frames).compute()
    assert da.shape[:2] == (36, 2)
    for ds in datasets:
        frame = da.sel(SliceLocation=float(ds.SliceLocation), EchoTime=float(ds.EchoTime), method="nearest")
        assert frame["SOPInstanceUID"].item() == ds.SOPInstanceUID
        np.testing.assert_array_equal(frame, ds.pixel_array)


def test_times_of_a_real_series_are_ranked(real):
    """Ten volumes of fifteen slices whose numbers never repeat are arranged by the rank of their number."""
    frames, datasets = real("ge-fmri-4d")
    da = array(frames, ("slice", "InstanceNumber"))
    assert da.sizes["slice"] == 15
    assert da.sizes["InstanceNumber_index"] == 10
    assert sorted(da["InstanceNumber"].values.ravel()) == sorted(int(ds.InstanceNumber) for ds in datasets)


def test_affine_of_a_real_volume_places_each_slice(real):
    """The affine takes the first voxel of each slice to the position in its header."""
    frames, datasets = real("pelvis-ct")
    da = array(frames, ("slice",))
    matrix = affine_of(da)
    places = {ds.SOPInstanceUID: ds.ImagePositionPatient for ds in datasets}
    for k, uid in enumerate(da["SOPInstanceUID"].values.tolist()):
        np.testing.assert_allclose((matrix @ [0, 0, k, 1])[:3], places[uid], atol=1e-6)


# -- what it survives


def described():
    """Return an array with coordinates and attributes of every kind."""
    frames = series(
        PatientName=["Bond^James"] * 12,
        ImageType=[("ORIGINAL", "PRIMARY")] * 12,
        PixelSpacing=[(1.0, 2.0)] * 12,
        SeriesNumber=[7] * 12,
        ReferencedImageSequence=[[{}]] * 12,
        InstanceNumber=list(range(12)),
        FlipAngle=[ABSENT, *[5.0] * 11],
        SOPInstanceUID=[f"1.2.{i}" for i in range(12)],
        SeriesInstanceUID=["1.2"] * 12,
        ImagePositionPatient=[(0.0, 0.0, float(3 - i % 4)) for i in range(12)],
        ImageOrientationPatient=[AXIAL] * 12,
    )
    frames.lists |= {0x0019100C: ["private"] * 12, 0x0019100D: [f"private{i}" for i in range(12)]}
    return array(frames)


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_array_survives_netcdf(tmp_path, engine):
    """Values, coordinates and attributes come back from a netCDF file."""
    if engine == "h5netcdf":
        pytest.importorskip("h5py", reason="h5netcdf writes with h5py")
    da = described()
    da.to_netcdf(tmp_path / "a.nc", engine=engine)
    with xr.open_dataarray(tmp_path / "a.nc", engine=engine) as back:
        xr.testing.assert_equal(back.load(), da.load())
        for name, value in da.attrs.items():
            np.testing.assert_array_equal(back.attrs[name], value)


def test_array_survives_zarr(tmp_path):
    """Values, coordinates and attributes come back from a Zarr store."""
    da = described()
    da.to_zarr(tmp_path / "a.zarr", consolidated=False)
    back = xr.open_dataarray(tmp_path / "a.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_identical(back.load(), da.load())
