"""Facts about arranging frames along dims, and about what an error says to type."""

import re

import numpy as np
import pytest
from fake_table import ABSENT, FakeFrames
from hypothesis import given
from hypothesis import strategies as st

from xdicom.errors import StackError, UnknownTagError
from xdicom.stack import fewest_dims, infer_dims, order_frames, stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6)


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


def test_lower_case_attribute_is_a_dim():
    """An attribute works like a tag, under its own name."""
    grid = stack(FakeFrames(attributes={"b_value": [1000.0, 0.0]}), ("b_value",))
    np.testing.assert_array_equal(grid.frames, [1, 0])


def test_texts_are_sorted_as_text():
    """A text dim is ordered as text."""
    grid = stack(FakeFrames(SeriesDescription=["t2", "t1", "a"]), ("SeriesDescription",))
    np.testing.assert_array_equal(grid.coords["SeriesDescription"][1], ["a", "t1", "t2"])


def test_text_with_several_values_is_one_text():
    """ImageType is a dim of its values joined by backslashes."""
    grid = stack(FakeFrames(ImageType=[("ORIGINAL", "P"), ("ORIGINAL", "M")]), ("ImageType",))
    np.testing.assert_array_equal(grid.coords["ImageType"][1], ["ORIGINAL\\M", "ORIGINAL\\P"])


def test_integers_stay_integers():
    """A dim of integers has an integer coordinate."""
    assert stack(FakeFrames(InstanceNumber=[2, 1]), ("InstanceNumber",)).coords["InstanceNumber"][1].dtype == np.int64


def test_slice_positions_are_equal_within_a_micrometre():
    """SliceLocation 1.0 and 1.0009 are one position."""
    frames = FakeFrames(SliceLocation=[1.0009, 1.0, 2.0, 2.0], EchoTime=[20.0, 10.0, 20.0, 10.0])
    assert stack(frames, ("SliceLocation", "EchoTime")).shape == (2, 2)


def test_other_values_are_equal_exactly():
    """EchoTime 1.0 and 1.0001 are two values."""
    assert stack(FakeFrames(EchoTime=[1.0001, 1.0]), ("EchoTime",)).shape == (2,)


def test_slice_is_position_along_the_normal_rounded():
    """The dim slice is position . normal in mm, rounded to 1e-3."""
    positions = [(0.0, 0.0, 2.00049), (5.0, 0.0, 1.0)]
    grid = stack(FakeFrames(ImagePositionPatient=positions, ImageOrientationPatient=[AXIAL] * 2), ("slice",))
    np.testing.assert_array_equal(grid.coords["slice"][1], [1.0, 2.0])


def test_component_of_a_position_is_a_dim():
    """ImagePositionPatient_x is the first number of the position, equal within 1e-3 mm."""
    grid = stack(FakeFrames(ImagePositionPatient=[(2.0, 0.0, 0.0), (1.0, 0.0, 0.0)]), ("ImagePositionPatient_x",))
    np.testing.assert_array_equal(grid.coords["ImagePositionPatient_x"][1], [1.0, 2.0])


def test_component_of_a_tag_is_a_dim():
    """WindowCenter_1 is the second number of WindowCenter."""
    grid = stack(FakeFrames(WindowCenter=[(1.0, 7.0), (1.0, 5.0)]), ("WindowCenter_1",))
    np.testing.assert_array_equal(grid.frames, [1, 0])


def test_private_tag_has_a_name_that_netcdf_can_hold():
    """A private element is called by its number without brackets, and this name is a dim, too."""
    frames = FakeFrames()
    frames.lists, frames.count = {0x0019100C: [1000.0, 0.0]}, 2
    assert stack(frames, ((0x0019, 0x100C),)).dims == ("tag_0019_100C",)
    np.testing.assert_array_equal(stack(frames, ("tag_0019_100C",)).frames, [1, 0])


def test_frame_is_the_order_of_frames():
    """The dim frame enumerates frames by InstanceNumber."""
    grid = stack(FakeFrames(InstanceNumber=[3, 1, 2]), ("frame",))
    np.testing.assert_array_equal(grid.frames, [1, 2, 0])


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


def test_duplicates_name_the_tag_that_tells_them_apart():
    """The error says how many positions hold how many frames, which tag differs, and what to type."""
    frames = FakeFrames(SliceLocation=[float(i % 60) for i in range(120)], EchoTime=[5.0 + i // 60 for i in range(120)])
    with pytest.raises(StackError) as caught:
        stack(frames, ("SliceLocation",))
    assert str(caught.value) == (
        "120 frames do not fill a grid along ('SliceLocation',): 60 positions hold 2 frames. "
        "EchoTime tells them apart: try dims=('SliceLocation', 'EchoTime')"
    )


def test_what_a_duplicate_error_says_works():
    """The dims that the error names fill a grid."""
    frames = two_tags(InstanceNumber=range(6), PatientName=["a"] * 6)
    with pytest.raises(StackError) as caught:
        stack(frames, ("SliceLocation",))
    dims = re.search(r"dims=(\(.*\))", str(caught.value))[1]
    assert stack(frames, [name.strip(" '") for name in dims.strip("()").split(",")]).shape == (3, 2)


def test_scientific_tag_is_named_before_another():
    """Where InstanceNumber and FlipAngle both tell frames apart, FlipAngle is named."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0], InstanceNumber=[1, 2], FlipAngle=[5.0, 10.0])
    with raises("FlipAngle tells them apart: try dims=('SliceLocation', 'FlipAngle')"):
        stack(frames, ("SliceLocation",))


def test_slice_is_named_where_no_dim_is_a_position():
    """Frames that differ in position are told apart by SliceLocation first."""
    with raises("SliceLocation tells them apart: try dims=('EchoTime', 'SliceLocation')"):
        stack(two_tags(), ("EchoTime",))


def test_attribute_tells_duplicates_apart():
    """A lower_case attribute is named where it tells frames apart."""
    with raises("try dims=('SliceLocation', 'image_type')"):
        stack(
            FakeFrames(SliceLocation=[0.0, 0.0], attributes={"image_type": ["PHASE", "MAGNITUDE"]}), ("SliceLocation",)
        )


def test_any_other_tag_tells_duplicates_apart():
    """A tag that no list names is found, too."""
    with raises("try dims=('SliceLocation', 'SeriesTime')"):
        stack(FakeFrames(SliceLocation=[0.0, 0.0], SeriesTime=[1.0, 2.0]), ("SliceLocation",))


def test_pair_of_tags_tells_duplicates_apart():
    """Where one tag isn't enough, two are named."""
    frames = FakeFrames(
        SliceLocation=[0.0] * 4,
        EchoTime=[1.0, 1.0, 2.0, 2.0],
        FlipAngle=[5.0, 9.0, 5.0, 9.0],
        InstanceNumber=[1, 2, 3, 3],
    )
    with raises("EchoTime and FlipAngle tell them apart: try dims=('SliceLocation', 'EchoTime', 'FlipAngle')"):
        stack(frames, ("SliceLocation",))


def test_rank_tells_duplicates_apart():
    """A tag that works by its rank is named."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0, 1.0], AcquisitionTime=[1.0, 3.0, 2.0, 4.0])
    with raises("AcquisitionTime tells them apart: try dims=('SliceLocation', 'AcquisitionTime')"):
        stack(frames, ("SliceLocation",))


def test_frames_of_equal_rank_are_told_apart():
    """Frames that share a rank name the tag that tells them apart."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0, 1.0], InstanceNumber=[1, 1, 2, 2], EchoTime=[1.0, 2.0, 1.0, 2.0])
    with raises("EchoTime tells them apart: try dims=('SliceLocation', 'InstanceNumber_index', 'EchoTime')"):
        stack(frames, ("SliceLocation", "InstanceNumber_index"))


def test_tag_that_leaves_gaps_is_named_with_the_option():
    """Where the tag that differs leaves points empty, the text says so and what to add."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0], EchoTime=[1.0, 2.0, 1.0])
    with raises(
        "EchoTime tells them apart, with 1 points left without a frame: try dims=('SliceLocation', 'EchoTime'), "
    ):
        stack(frames, ("SliceLocation",))


def test_indistinguishable_frames_say_duplicates_first():
    """Frames that no tag tells apart name the option that keeps one."""
    with raises("No tag and no pair of tags tells them apart: try duplicates='first'"):
        stack(FakeFrames(SliceLocation=[0.0, 0.0]), ("SliceLocation",))


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


def test_absent_tag_counts_the_frames_and_offers_the_nearest():
    """A tag that frames lack says how many, and which other could stand in."""
    frames = FakeFrames(
        ImagePositionPatient=[(0.0, 0.0, 1.0)] * 2, ImageOrientationPatient=[AXIAL] * 2, EchoTime=[1.0, 2.0]
    )
    with raises("2 of 2 frames have no SliceLocation: try dims=('slice_location', 'EchoTime')"):
        stack(frames, ("SliceLocation", "EchoTime"))


def test_partly_absent_tag_is_refused():
    """A tag that one frame lacks is no dim."""
    with raises("1 of 3 frames have no EchoTime"):
        stack(FakeFrames(EchoTime=[1.0, ABSENT, 2.0]), ("EchoTime",))


@pytest.mark.parametrize("nothing", [None, "", "junk"])
def test_empty_value_or_junk_among_numbers_is_absent(nothing):
    """An empty element and text among numbers are no values of a dim."""
    with raises("1 of 2 frames have no EchoTime"):
        stack(FakeFrames(EchoTime=[1.0, nothing]), ("EchoTime",))


def test_absent_tag_without_a_stand_in_lists_what_varies():
    """Where nothing is near, the tags that vary are listed."""
    with raises("The tags that vary are FlipAngle (2 values)"):
        stack(FakeFrames(FlipAngle=[1.0, 2.0]), ("TriggerTime",))


def test_stand_in_is_none_that_is_a_dim_already():
    """What is offered isn't named twice, and ranks keep their names."""
    with raises("2 of 2 frames have no slice. The tags that vary are EchoTime (2 values): try dims without slice"):
        stack(FakeFrames(InstanceNumber=[1, 2], EchoTime=[1.0, 2.0]), ("slice", "InstanceNumber_index"))
    with raises("try dims=('SliceLocation', 'EchoTime_index')"):
        stack(FakeFrames(SliceLocation=[1.0, 2.0], EchoTime=[1.0, 2.0]), ("slice", "EchoTime_index"))


def test_several_numbers_are_no_dim():
    """A tag with several numbers a frame is refused, with a component to type."""
    with raises("PixelSpacing holds 2 numbers a frame, and a dim needs one: try 'PixelSpacing_0' in its place"):
        stack(FakeFrames(PixelSpacing=[(1.0, 1.0), (2.0, 2.0)]), ("PixelSpacing",))


def test_position_is_no_dim_but_its_components_are():
    """ImagePositionPatient offers the slice location."""
    with raises("try 'slice_location' or 'ImagePositionPatient_z' in its place"):
        stack(FakeFrames(ImagePositionPatient=[(1.0, 1.0, 1.0)]), ("ImagePositionPatient",))


def test_component_beyond_the_last_is_unknown():
    """A component that a tag doesn't have is named, with those that it has."""
    with pytest.raises(UnknownTagError, match="its components are PixelSpacing_0 to PixelSpacing_1"):
        stack(FakeFrames(PixelSpacing=[(1.0, 1.0)]), ("PixelSpacing_2",))


def test_sequences_are_no_dim():
    """A sequence is neither number nor text."""
    with raises("ReferencedImageSequence holds list, and a dim needs numbers or text"):
        stack(FakeFrames(ReferencedImageSequence=[[{}], []]), ("ReferencedImageSequence",))


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


def test_orientations_have_no_common_slice_direction():
    """The dim slice needs one orientation."""
    frames = FakeFrames(ImagePositionPatient=[(0.0, 0.0, 0.0)] * 2, ImageOrientationPatient=[AXIAL, TILTED])
    with raises("2 frames lie in 2 orientations"):
        stack(frames, ("slice",))


# -- without dims


def volume(count, **more):
    """Return axial slices 2 mm apart."""
    positions = [(0.0, 0.0, 2.0 * i) for i in range(count)]
    return FakeFrames(ImagePositionPatient=positions, ImageOrientationPatient=[AXIAL] * count, **more)


def test_distinct_positions_are_a_slice_dim():
    """Frames each at its own position need no dims: they are slices."""
    assert infer_dims(volume(3)) == ("slice",)


def test_single_frame_with_a_position_is_a_slice():
    """One frame is a stack of one slice."""
    assert infer_dims(volume(1)) == ("slice",)


def test_frames_without_positions_are_frames():
    """Frames without geometry, as of ultrasound, are enumerated."""
    assert infer_dims(FakeFrames(InstanceNumber=[1, 2])) == ("frame",)


def test_several_frames_at_a_position_ask_for_dims():
    """Where the choice isn't plain, the error lists what varies and what to type."""
    frames = FakeFrames(
        ImagePositionPatient=[(0.0, 0.0, 0.0)] * 2, ImageOrientationPatient=[AXIAL] * 2, EchoTime=[1.0, 2.0]
    )
    with raises(
        "The tags that vary are EchoTime (2 values). EchoTime tells them apart: try dims=('slice', 'EchoTime')"
    ):
        infer_dims(frames)


def test_several_orientations_ask_for_dims():
    """A localizer of several orientations has no plain choice."""
    frames = FakeFrames(ImagePositionPatient=[(0.0, 0.0, 0.0)] * 2, ImageOrientationPatient=[AXIAL, TILTED])
    with raises("2 frames lie in 2 orientations"):
        infer_dims(frames)


# -- order


def test_frames_are_ordered_by_instance_then_frame_number_then_uid():
    """InstanceNumber comes first, then the frame number in the file, then the UID."""
    frames = FakeFrames(InstanceNumber=[2, 1, 1, 1], SOPInstanceUID=["1", "9", "8", "7"], number=[0, 1, 0, 0])
    np.testing.assert_array_equal(order_frames(frames), [3, 2, 1, 0])


@pytest.mark.parametrize("nothing", [ABSENT, None, "junk", (1, 2)])
def test_frames_without_an_instance_number_are_last(nothing):
    """A frame whose InstanceNumber is absent, empty or junk comes after the others; one of several numbers counts."""
    frames = FakeFrames(InstanceNumber=[nothing, 0], SOPInstanceUID=["1", "2"])
    np.testing.assert_array_equal(order_frames(frames), [1, 0])


def test_frames_without_any_number_keep_their_order():
    """A table without InstanceNumber and UID stays as it is."""
    np.testing.assert_array_equal(order_frames(FakeFrames(EchoTime=[3.0, 1.0, 2.0])), [0, 1, 2])


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
