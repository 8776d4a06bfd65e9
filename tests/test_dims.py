"""Facts about what can be a dim, how it is named and ordered, and what is equal."""

import re

import numpy as np
import pytest
from fake_table import ABSENT, FakeFrames

from xdicom.dims import order_frames
from xdicom.errors import StackError, UnknownTagError
from xdicom.stack import stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6)


def raises(text):
    """Expect a StackError with exactly this text in it."""
    return pytest.raises(StackError, match=re.escape(text))


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


def test_orientations_have_no_common_slice_direction():
    """The dim slice needs one orientation."""
    frames = FakeFrames(ImagePositionPatient=[(0.0, 0.0, 0.0)] * 2, ImageOrientationPatient=[AXIAL, TILTED])
    with raises("2 frames lie in 2 orientations"):
        stack(frames, ("slice",))


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
