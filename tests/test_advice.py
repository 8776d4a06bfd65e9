"""Facts about what an error says to type: each sentence names what works."""

import re

import pytest
from fake_table import FakeFrames

from xdicom.errors import StackError
from xdicom.stack import stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def two_tags(**more):
    """Return 6 frames in a scrambled order: 3 slice locations x 2 echo times."""
    return FakeFrames(
        SliceLocation=[3.0, 1.0, 2.0, 2.0, 1.0, 3.0], EchoTime=[20.0, 10.0, 20.0, 10.0, 20.0, 10.0], **more
    )


def raises(text):
    """Expect a StackError with exactly this text in it."""
    return pytest.raises(StackError, match=re.escape(text))


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


def test_absent_tag_counts_the_frames_and_offers_the_nearest():
    """A tag that frames lack says how many, and which other could stand in."""
    frames = FakeFrames(
        ImagePositionPatient=[(0.0, 0.0, 1.0)] * 2, ImageOrientationPatient=[AXIAL] * 2, EchoTime=[1.0, 2.0]
    )
    with raises("2 of 2 frames have no SliceLocation: try dims=('slice_location', 'EchoTime')"):
        stack(frames, ("SliceLocation", "EchoTime"))


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
