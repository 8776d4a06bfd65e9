"""Facts about pixels that xarray indexes lazily, and about the names of their dask arrays."""

import asyncio
import copy
import pickle

import dask.array
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from fake_table import FakeFrames

from xdicom.array import to_dataarray
from xdicom.indexed import PixelVariable, TagVariable, as_indexed, scale_attrs
from xdicom.pixels import Rescale
from xdicom.stack import stack

SHAPE = (4, 3, 6, 5)


def frames(token="frames", **columns):
    """Return frames of 4 slices and 3 echoes."""
    places = [(s, e) for s in range(SHAPE[0]) for e in range(SHAPE[1])]
    pixels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(-1, *SHAPE[2:])
    return FakeFrames(
        SliceLocation=[float(s) for s, _ in places],
        EchoTime=[float(e) for _, e in places],
        pixels=pixels,
        token=token,
        **columns,
    )


def opened(table=None, **options):
    """Return the dataset of frames, as an engine gives it to xarray."""
    table = table or frames()
    da = to_dataarray(table, stack(table, ("SliceLocation", "EchoTime")), **options)
    return as_indexed(da.to_dataset())


VALUES = np.arange(np.prod(SHAPE)).reshape(SHAPE)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[...],
        np.s_[2],
        np.s_[1:3, -1],
        np.s_[::-1, :, 4:1:-2],
        np.s_[:, 1, 2, 3],
        np.s_[[3, 0], :, [1, 2]],
        np.s_[[True, False, False, True]],
    ],
)
def test_selections_give_what_numpy_gives(key):
    """Ints, slices, lists and masks select the same values as in memory, with and without chunks."""
    there = xr.DataArray(VALUES, dims=("SliceLocation", "EchoTime", "row", "column"))[key]
    lazy = opened().pixels[key]
    assert type(lazy.variable) is PixelVariable
    np.testing.assert_array_equal(lazy, there)
    np.testing.assert_array_equal(opened().pixels[key].chunk(), there)


def test_points_are_selected():
    """Arrays of indices that go together pick single pixels."""
    points = xr.DataArray([0, 3], dims="point")
    np.testing.assert_array_equal(opened().pixels.isel(SliceLocation=points, row=points), VALUES[[0, 3], :, [0, 3]])


def test_nothing_is_read_before_values_are_asked_for():
    """Making, selecting, pickling, copying and chunking read no pixels; values read the frames that are left."""
    table = frames()
    dataset = opened(table)
    part = dataset.isel(SliceLocation=1).sel(EchoTime=2.0)
    pickle.loads(pickle.dumps(part)), copy.deepcopy(part), part.chunk(), repr(part)
    assert table.locations.reads == []
    assert part.pixels.shape == (6, 5)
    part.pixels.load()
    assert [read[0] for read in table.locations.reads] == [[5]]


def test_it_is_pickled_and_copied():
    """What comes back reads the same values."""
    dataset = opened()
    for other in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        np.testing.assert_array_equal(other.pixels, VALUES)


def test_it_is_read_asynchronously():
    """`load_async` gives the same values."""
    np.testing.assert_array_equal(asyncio.run(opened().load_async()).pixels, VALUES)


def test_chunks_that_are_preferred_are_frames():
    """The encoding tells what chunks={} shall mean: a frame is what is stored."""
    encoding = opened(chunks={"SliceLocation": 2}).pixels.encoding
    assert encoding["preferred_chunks"] == {"SliceLocation": 1, "EchoTime": 1, "row": 6, "column": 5}
    assert encoding["original_shape"] == SHAPE


@pytest.mark.parametrize("key", [np.s_[...], np.s_[1:, ::2], np.s_[[0, 2]]])
def test_names_follow_from_what_is_read(key):
    """The same frames give the same dask name, another selection, other chunks or other frames another one."""
    first, again = (opened().pixels[key].chunk().data.name for _ in range(2))
    assert first == again
    others = [
        opened().pixels[key].isel(row=slice(2)).chunk().data.name,
        opened().pixels[key].chunk(row=2).data.name,
        opened(frames("changed")).pixels[key].chunk().data.name,
    ]
    assert len({first, *others}) == 4


def test_a_name_that_is_given_does_not_count():
    """Xarray's name, made of a path, gives way to that of the frames."""
    given = {"name": "open_dataset-pixels-123"}
    assert opened().pixels.variable.chunk({}, from_array_kwargs=given).data.name.startswith("pixels-")


def test_selections_of_chunks_read_only_what_is_left():
    """After chunk() any chain of selections reads the frames that are left."""
    table = frames()
    opened(table).pixels.chunk().sel(EchoTime=1.0)[2].compute()
    assert [read[0] for read in table.locations.reads] == [[7]]


def test_arrays_can_be_inlined():
    """inline_array=True gives a graph without a task of its own for the array, and the same values."""
    chunked = opened().pixels.chunk(inline_array=True)
    assert len(dict(chunked.__dask_graph__())) == 1
    np.testing.assert_array_equal(chunked, VALUES)


def test_computed_and_loaded_values_are_chunked_as_ever():
    """What is in memory by now becomes a dask array of these values."""
    dataset = opened()
    doubled = (dataset.pixels * 2).chunk(SliceLocation=1)
    assert doubled.chunksizes["SliceLocation"] == (1, 1, 1, 1)
    np.testing.assert_array_equal(doubled, VALUES * 2)
    dataset.load()
    dataset.pixels[0] = 7
    assert int(dataset.pixels.chunk()[0].mean()) == 7


def test_it_is_tokenized_without_being_read():
    """Dask's token of a dataset follows from the frames, not from their pixels."""
    table, other = frames(), frames("changed")
    assert tokenize(opened(table)) == tokenize(opened(frames()))
    assert tokenize(opened(table)) != tokenize(opened(other))
    assert table.locations.reads == []


def test_tags_stay_in_memory():
    """Coordinates that xarray wraps as it does those of files are numpy all the same, and so are shown."""
    variable = opened(frames(FlipAngle=[3.0] * 12)).coords["source_series"].variable
    assert type(variable) is TagVariable
    wrapped = xr.Variable("x", [1.0]).chunk().data
    assert isinstance(wrapped, dask.array.Array)
    tag = TagVariable("x", [1.0, 2.0])
    tag.data = xr.core.indexing.CopyOnWriteArray(np.array([3.0, 4.0]))
    assert isinstance(tag._data, np.ndarray)
    assert tag.data.tolist() == [3.0, 4.0]
    tag.data = dask.array.ones(2)
    assert isinstance(tag.data, dask.array.Array)


def test_other_arrays_are_refused():
    """Only lazy arrays of frames can be indexed so."""
    with pytest.raises(TypeError, match="lazy array of frames"):
        as_indexed(xr.Dataset({"pixels": ("x", [1, 2])}))


def test_one_scale_is_said_in_the_words_of_cf():
    """One slope and intercept are attributes; identity, several, or a table are none."""
    assert scale_attrs({Rescale(0.5, -3)}) == {"scale_factor": 0.5, "add_offset": -3}
    assert scale_attrs({Rescale(2, 0, padding=-9)}) == {"scale_factor": 2, "add_offset": 0, "_FillValue": -9}
    assert scale_attrs({Rescale()}) == {}
    assert scale_attrs({Rescale(1), Rescale(2)}) == {}
    assert scale_attrs({Rescale(lut=(0, 8, b"ab"))}) == {}
    assert scale_attrs({Rescale(2, problem="RescaleIntercept is missing")}) == {}
