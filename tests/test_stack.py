"""Facts about arranging frames along dims, and about what an error says to type."""

import re

import numpy as np
import pytest
from fake_table import ABSENT, FakeFrames
from hypothesis import given
from hypothesis import strategies as st

from xdicom.errors import StackError
from xdicom.stack import fewest_dims, stack


def two_tags(**more):
    """Return 6 frames in a scrambled order: 3 slice locations x 2 echo times."""
    return FakeFrames(
        SliceLocation=[3.0, 1.0, 2.0, 2.0, 1.0, 3.0], EchoTime=[20.0, 10.0, 20.0, 10.0, 20.0, 10.0], **more
    )


def raises(text):
    """Expect a StackError with exactly this text in it."""
    return pytest.raises(StackError, match=re.escape(text))


# -- what a grid is


def test_frames_lie_where_their_values_say():
    """Each grid point holds the frame whose values are the coordinates there, each dim ascending."""
    grid = stack(two_tags(), ("SliceLocation", "EchoTime"))
    np.testing.assert_array_equal(grid.frames, [[1, 4], [3, 2], [5, 0]])


def test_dims_keep_their_order():
    """The dims of the grid are those asked for, in that order."""
    grid = stack(two_tags(), ("EchoTime", "SliceLocation"))
    assert grid.dims == ("EchoTime", "SliceLocation")
    assert grid.shape == (2, 3)


def test_coordinates_are_the_values_ascending():
    """The coordinate of a dim holds its distinct values, ascending."""
    grid = stack(two_tags(), ("SliceLocation", "EchoTime"))
    dims, values = grid.coords["EchoTime"]
    assert dims == ("EchoTime",)
    np.testing.assert_array_equal(values, [10.0, 20.0])


@pytest.mark.parametrize("dim", ["EchoTime", (0x0018, 0x0081), 0x00180081])
def test_tag_is_named_by_its_keyword_however_it_is_written(dim):
    """A dim is called by its keyword, also when it was given by number."""
    assert stack(two_tags(), ("SliceLocation", dim)).dims == ("SliceLocation", "EchoTime")


def test_one_dim_may_be_given_as_text():
    """A single name serves as the tuple of it."""
    assert stack(FakeFrames(EchoTime=[2.0, 1.0]), "EchoTime").dims == ("EchoTime",)


def test_no_dims_hold_a_single_frame():
    """Without dims, one frame is a grid of no axes."""
    assert stack(FakeFrames(EchoTime=[1.0]), ()).frames.shape == ()


# -- ranks


def times():
    """Return 2 slices x 3 times, no time shared by two slices, listed in a scrambled order."""
    return FakeFrames(
        SliceLocation=[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], AcquisitionTime=[11.0, 40.0, 31.0, 10.0, 51.0, 30.0]
    )


def test_dim_that_fills_no_grid_is_ranked_within_each_position():
    """AcquisitionTime, equally often at each position, becomes its rank there."""
    grid = stack(times(), ("SliceLocation", "AcquisitionTime"))
    assert grid.dims == ("SliceLocation", "AcquisitionTime_index")
    np.testing.assert_array_equal(grid.frames, [[3, 5, 1], [0, 2, 4]])


def test_ranked_values_are_a_coordinate_along_both_dims():
    """The values that were ranked stay, as a 2-D coordinate under the name of the tag."""
    dims, values = stack(times(), ("SliceLocation", "AcquisitionTime")).coords["AcquisitionTime"]
    assert dims == ("SliceLocation", "AcquisitionTime_index")
    np.testing.assert_array_equal(values, [[10.0, 30.0, 40.0], [11.0, 31.0, 51.0]])


def test_rank_can_be_asked_for_by_name():
    """The dims of a ranked grid can be typed as they are."""
    grid = stack(times(), ("AcquisitionTime_index", "SliceLocation"))
    np.testing.assert_array_equal(grid.frames, [[3, 0], [5, 2], [1, 4]])


def test_rank_asked_for_where_it_is_unequal_is_refused():
    """A position with fewer values than another has no common rank."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0], AcquisitionTime=[1.0, 2.0, 3.0])
    with raises("not every (SliceLocation) holds equally many values of AcquisitionTime"):
        stack(frames, ("SliceLocation", "AcquisitionTime_index"))


def test_positions_are_never_ranked():
    """Slice positions that fill no grid are an error: they aren't a sequence within something else."""
    frames = FakeFrames(EchoTime=[1.0, 1.0, 2.0, 2.0], SliceLocation=[0.0, 1.0, 2.0, 3.0])
    assert stack(frames, ("EchoTime", "SliceLocation"), missing="fill").shape == (2, 4)
    assert stack(frames, ("EchoTime", "SliceLocation")).dims == ("EchoTime_index", "SliceLocation")


# -- duplicates and gaps


def test_duplicates_first_keeps_the_first_by_instance_number():
    """Of the frames at one point the one with the lowest InstanceNumber stays."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0], InstanceNumber=[9, 2, 3])
    np.testing.assert_array_equal(stack(frames, ("SliceLocation",), duplicates="first").frames, [1, 2])


def test_gap_says_how_many_and_where():
    """The error counts the points without a frame, gives the coordinates of the first, and the option."""
    frames = FakeFrames(SliceLocation=[1.0, 1.0, 2.0], EchoTime=[10.0, 20.0, 20.0])
    with raises(
        "3 frames do not fill a grid along ('SliceLocation', 'EchoTime'): 1 of 2x2 positions holds no frame, "
        "at (SliceLocation=2.0, EchoTime=10.0). Try missing='fill' to have NaN there"
    ):
        stack(frames, ("SliceLocation", "EchoTime"))


def test_many_gaps_name_the_first_three():
    """Of many gaps three are named."""
    frames = FakeFrames(SliceLocation=[0.0, 1.0, 2.0, 3.0, 3.0], EchoTime=[0.0, 1.0, 2.0, 3.0, 2.0])
    with raises("11 of 4x4 positions hold no frame, at (SliceLocation=0.0, EchoTime=1.0), "):
        stack(frames, ("SliceLocation", "EchoTime"))


def test_missing_fill_leaves_points_without_a_frame():
    """With missing="fill" a point without a frame is -1."""
    frames = FakeFrames(SliceLocation=[1.0, 1.0, 2.0], EchoTime=[10.0, 20.0, 20.0])
    grid = stack(frames, ("SliceLocation", "EchoTime"), missing="fill")
    np.testing.assert_array_equal(grid.frames, [[0, 1], [-1, 2]])


# -- what cannot be a dim


def test_partly_absent_tag_is_refused():
    """A tag that one frame lacks is no dim."""
    with raises("1 of 3 frames have no EchoTime"):
        stack(FakeFrames(EchoTime=[1.0, ABSENT, 2.0]), ("EchoTime",))


@pytest.mark.parametrize("nothing", [None, "", "junk"])
def test_empty_value_or_junk_among_numbers_is_absent(nothing):
    """An empty element and text among numbers are no values of a dim."""
    with raises("1 of 2 frames have no EchoTime"):
        stack(FakeFrames(EchoTime=[1.0, nothing]), ("EchoTime",))


def test_dim_named_twice_is_refused():
    """One tag cannot be two dims."""
    with raises("EchoTime is named twice"):
        stack(two_tags(), ("EchoTime", 0x00180081))


def test_no_frames_are_refused():
    """An empty table has no grid."""
    with raises("no frames to stack"):
        stack(FakeFrames(), ("EchoTime",))


@pytest.mark.parametrize("options", [{"missing": "nan"}, {"duplicates": "last"}])
def test_unknown_option_is_refused_with_the_known_ones(options):
    """A wrong option value names the right ones."""
    with pytest.raises(ValueError, match="expected 'raise' or"):
        stack(two_tags(), ("EchoTime",), **options)


def test_grid_beyond_reason_is_refused():
    """Dims that make millions of points for a few frames are refused before anything is allocated."""
    many = [float(i) for i in range(300)]
    frames = FakeFrames(EchoTime=many, FlipAngle=many, InversionTime=many, RepetitionTime=many)
    with raises("it has 8100000000 points"):
        stack(frames, ("EchoTime", "FlipAngle", "InversionTime", "RepetitionTime"), missing="fill")


# -- fewest dims


def test_codes_depend_on_the_axes_along_which_they_change():
    """Codes that change along the second axis only are given along it."""
    axes, codes = fewest_dims(np.array([[0, 1, 2], [0, 1, 2]]))
    assert axes == (1,)
    np.testing.assert_array_equal(codes, [0, 1, 2])


def test_point_without_a_frame_agrees_with_any_code():
    """A gap doesn't make codes depend on more axes."""
    axes, codes = fewest_dims(np.array([[0, -1, 2], [0, 1, 2]]))
    assert axes == (1,)
    np.testing.assert_array_equal(codes, [0, 1, 2])


def test_constant_codes_depend_on_nothing():
    """One code everywhere needs no axes."""
    axes, codes = fewest_dims(np.full((2, 3), 4))
    assert axes == ()
    assert codes == 4


@given(st.data())
def test_values_come_back_from_the_fewest_dims(data):
    """Laid out along all axes again, the codes are those of every point that has a frame."""
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    parts = [data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)) for size in shape]
    kept = data.draw(st.sets(st.integers(0, 2)))
    full = np.zeros(shape, int)
    for axis in kept:
        full = full * 2 + np.array(parts[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
    full[tuple(data.draw(st.integers(0, size - 1)) for size in shape)] = -1
    axes, codes = fewest_dims(full)
    spread = np.broadcast_to(np.expand_dims(codes, [a for a in range(3) if a not in axes]), shape)
    assert ((spread == full) | (full < 0)).all()
    assert set(axes) <= kept


@given(st.permutations(range(24)))
def test_grid_does_not_depend_on_the_order_of_frames(order):
    """Whatever order the table is in, each point holds the frame with its values."""
    slices, echoes = [float(i // 4) for i in order], [float(i % 4) for i in order]
    grid = stack(FakeFrames(SliceLocation=slices, EchoTime=echoes), ("SliceLocation", "EchoTime"))
    np.testing.assert_array_equal(np.array(order)[grid.frames], np.arange(24).reshape(6, 4))
