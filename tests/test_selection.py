"""Chains of selections read only what is left of them, and give what numpy gives."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom.selection import Selection, filled, rechunked, selectable

SHAPE = (4, 3, 5, 6)
WHOLE = np.arange(np.prod(SHAPE)).reshape(SHAPE)


class Recorder:
    """An array that remembers how many numbers were read."""

    shape, dtype = SHAPE, WHOLE.dtype

    def __init__(self):
        self.read = 0

    def __getitem__(self, key):
        found = WHOLE[key]
        self.read += found.size
        return found

    def __dask_tokenize__(self):
        return ("recorder",)


def array(source=None):
    """Return a dask array of everything that the source has."""
    return selectable(Selection.all_of(source or Recorder()), ((4,), (3,), (5,), (6,)))


def test_chain_of_selections_reads_one_frame():
    """`a[:, 1][2]` reads that frame's numbers and no others."""
    source = Recorder()
    np.testing.assert_array_equal(array(source)[:, 1][2].compute(scheduler="synchronous"), WHOLE[2, 1])
    assert source.read == 30


@pytest.mark.parametrize(
    "chain",
    [
        (slice(None, None, -1), 1),
        (slice(1, 4), slice(1, 2), 0),
        ((Ellipsis, 2), (0,), slice(None, None, -2)),
        ((slice(None), 2), (slice(None), slice(1, None, 2)), (3, 1)),
        (slice(3, 3),),
        (np.int64(2), -1),
    ],
)
def test_chain_gives_what_numpy_gives(chain):
    """Ints, slices with any step, ellipses, one after the other."""
    lazy, eager = array(), WHOLE
    for key in chain:
        lazy, eager = lazy[key], eager[key]
    np.testing.assert_array_equal(lazy.compute(), eager)


@given(st.lists(st.slices(6), min_size=1, max_size=4))
def test_slices_of_slices_compose(slices):
    """Any chain of slices along the last axis is the chain that numpy makes."""
    lazy, eager = array(), WHOLE
    for part in slices:
        lazy, eager = lazy[..., part], eager[..., part]
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), eager)


@pytest.mark.parametrize("key", [[2, 0], np.array([1, 1, 3]), np.array([True, False, True, True]), None])
def test_other_keys_are_left_to_dask(key):
    """Lists, masks and new axes work as in any dask array, after selections too."""
    np.testing.assert_array_equal(
        array()[::2, 1:][key if key is None else np.array([1, 0])].compute(),
        WHOLE[::2, 1:][key if key is None else np.array([1, 0])],
    )
    np.testing.assert_array_equal(array()[key].compute(), WHOLE[key])


def test_too_many_indices_raise():
    """As in numpy."""
    with pytest.raises(IndexError):
        array()[0, 0, 0, 0, 0]


def test_index_outside_raises():
    """As in numpy."""
    with pytest.raises(IndexError):
        array()[7]


def test_selections_have_names_of_their_own():
    """The same selection has the same name, another another."""
    assert array()[1].name == array()[1].name
    assert len({array().name, array()[1].name, array()[2].name, array()[:, 1].name}) == 4


def test_survives_pickle():
    """A pickled selection reads the same."""
    lazy = array()[1:, 2]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)).compute(), WHOLE[1:, 2])


def test_arithmetic_and_chunks_are_dasks():
    """Beyond selecting it is any dask array."""
    lazy = (array()[1] * 2).rechunk(1).sum(axis=0)
    np.testing.assert_array_equal(lazy.compute(), (WHOLE[1] * 2).sum(axis=0))


def test_other_chunks_of_a_selection_are_read_as_such():
    """A selection in other chunks reads each chunk from the source; no chunk is cut out of one that was read."""
    source = Recorder()
    again = rechunked(array(source), ((2, 2), (1, 1, 1), (5,), (6,)))
    np.testing.assert_array_equal(again.blocks[0, 1].compute(scheduler="synchronous"), WHOLE[:2, 1:2])
    assert source.read == 60


def test_other_arrays_are_rechunked_by_dask():
    """An array that is no selection is cut and joined."""
    again = rechunked(array() * 2, ((2, 2), (3,), (5,), (6,)))
    assert again.chunks[0] == (2, 2)
    np.testing.assert_array_equal(again.compute(scheduler="synchronous"), 2 * WHOLE)


@given(st.lists(st.integers(1, 12), max_size=4), st.integers(0, 200))
def test_filled_chunks_cover_everything_and_hold_no_more_than_allowed(sizes, room):
    """Chunks add up to the sizes, and hold at most so many points, or one."""
    chunks = filled(sizes, room)
    assert [sum(along) for along in chunks] == sizes
    assert np.prod([max(along) for along in chunks]) <= max(room, 1)
