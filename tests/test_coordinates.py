"""Facts about which tags become coordinates, along which dims, and which become attributes."""

import json

import numpy as np
import pytest
import xarray as xr
from fake_table import ABSENT, FakeFrames

from xdicom.array import to_dataarray
from xdicom.coordinates import Labels, plain
from xdicom.stack import stack


def array(dims=("SliceLocation", "EchoTime"), missing="raise", duplicates="raise", **columns):
    """Return 2 slices x 3 echoes with further columns, in table order slice by slice."""
    base = {"SliceLocation": [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], "EchoTime": [1.0, 2.0, 3.0] * 2}
    frames = FakeFrames(**{**base, **columns})
    return to_dataarray(frames, stack(frames, dims, missing=missing, duplicates=duplicates))


def gapped(**columns):
    """Return 2 slices x 2 echoes of which the last point has no frame."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0], EchoTime=[1.0, 2.0, 1.0], **columns)
    return to_dataarray(frames, stack(frames, ("SliceLocation", "EchoTime"), missing="fill"))


# -- coordinates


def test_dims_have_their_coordinates():
    """A dim has the values that made it."""
    np.testing.assert_array_equal(array()["EchoTime"], [1.0, 2.0, 3.0])


def test_tag_that_follows_one_dim_is_along_it():
    """A tag that changes from echo to echo only is a coordinate along the echoes."""
    da = array(FlipAngle=[10.0, 20.0, 30.0] * 2)
    assert da["FlipAngle"].dims == ("EchoTime",)
    np.testing.assert_array_equal(da["FlipAngle"], [10.0, 20.0, 30.0])


def test_tag_that_follows_all_dims_is_along_all():
    """A tag that changes from frame to frame is a coordinate along every dim."""
    np.testing.assert_array_equal(array(InstanceNumber=range(6))["InstanceNumber"], [[0, 1, 2], [3, 4, 5]])


def test_integers_stay_integers():
    """A varying tag of integers, in every frame, is an integer coordinate."""
    assert array(InstanceNumber=range(6))["InstanceNumber"].dtype == np.int64


def test_missing_number_is_nan():
    """A frame without a number has NaN."""
    da = array(FlipAngle=[ABSENT, 1.0, 2.0, None, 1.0, 2.0])
    np.testing.assert_array_equal(da["FlipAngle"], [[np.nan, 1.0, 2.0]] * 2)


def test_missing_integer_makes_floats():
    """Integers with a frame that has none are floats with NaN."""
    np.testing.assert_array_equal(array(InstanceNumber=[ABSENT, 1, 2, 3, 4, 5])["InstanceNumber"][0], [np.nan, 1, 2])


def test_missing_text_is_empty():
    """A frame without a text has an empty one."""
    da = array(PatientComments=[ABSENT, "b", "c"] * 2)
    np.testing.assert_array_equal(da["PatientComments"], ["", "b", "c"])


def test_texts_have_a_str_dtype():
    """Text coordinates are arrays of str, not of objects."""
    assert array(PatientComments=["a", "b", "c"] * 2)["PatientComments"].dtype.kind == "U"


def test_junk_among_numbers_is_nan():
    """Text where numbers are expected is NaN in the coordinate."""
    np.testing.assert_array_equal(array(FlipAngle=["junk", 1.0, 2.0] * 2)["FlipAngle"], [np.nan, 1.0, 2.0])


def test_several_numbers_are_a_coordinate_each():
    """A tag with several numbers gives one coordinate per component, each along the dims that it needs."""
    da = array(WindowCenter=[(1, 10), (2, 10), (3, 10)] * 2)
    np.testing.assert_array_equal(da["WindowCenter_0"], [1, 2, 3])
    assert da["WindowCenter_1"].item() == 10
    assert da["WindowCenter_1"].dims == ()


def test_fewer_numbers_than_others_end_in_nan():
    """Where frames have one or two numbers, what is absent is NaN."""
    da = array(WindowCenter=[(1.0, 10.0), 2.0, (3.0, 30.0)] * 2)
    np.testing.assert_array_equal(da["WindowCenter_0"], [1, 2, 3])
    np.testing.assert_array_equal(da["WindowCenter_1"], [10, np.nan, 30])


def test_several_texts_are_one():
    """ImageType that varies is one text, its parts joined by backslashes."""
    np.testing.assert_array_equal(
        array(ImageType=[("A", "B"), ("A", "C"), "D"] * 2)["ImageType"], ["A\\B", "A\\C", "D"]
    )


def test_position_without_geometry_is_named_by_axis():
    """Positions of frames that have no orientation are coordinates _x, _y, _z."""
    da = array(ImagePositionPatient=[(0.0, 0.0, 0.0)] * 3 + [(0.0, 0.0, 1.0)] * 3)
    np.testing.assert_array_equal(da["ImagePositionPatient_z"], [0.0, 1.0])


@pytest.mark.parametrize("value", [b"bytes", [{"PatientName": "x"}], "x" * 2000, tuple(range(200))])
def test_bytes_sequences_and_long_values_are_no_coordinates(value):
    """What is no number, no short text, or more than 1 kB doesn't become a coordinate."""
    da = array(PatientComments=[value, "b", "c"] * 2)
    assert not [name for name in da.coords if str(name).startswith("PatientComments")]


def test_values_too_long_to_be_kept_are_not_read():
    """A column whose values lie in the files is left there."""
    frames = FakeFrames(EchoTime=[1.0, 2.0], PatientComments=["a", "b"])
    frames.columns = {0x00104000: type("Column", (), {"values": [("LT", object())]})}
    assert "PatientComments" not in to_dataarray(frames, stack(frames, ("EchoTime",))).coords


def test_dim_of_one_value_is_a_coordinate_not_an_attribute():
    """EchoTime along which the array has one point is its coordinate."""
    frames = FakeFrames(EchoTime=[1.0])
    da = to_dataarray(frames, stack(frames, ("EchoTime",)))
    assert "EchoTime" not in da.attrs
    np.testing.assert_array_equal(da["EchoTime"], [1.0])


def test_ranked_values_are_a_coordinate():
    """Values that were ranked are a 2-D coordinate, their rank one of integers."""
    frames = FakeFrames(SliceLocation=[0.0, 0.0, 1.0, 1.0], AcquisitionTime=[1.0, 3.0, 2.0, 4.0])
    da = to_dataarray(frames, stack(frames, ("SliceLocation", "AcquisitionTime")))
    np.testing.assert_array_equal(da["AcquisitionTime"], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(da["AcquisitionTime_index"], [0, 1])


def test_instances_are_a_coordinate_while_each_frame_has_its_own():
    """SOPInstanceUID is along all dims that tell frames apart."""
    da = array(SOPInstanceUID=[f"1.{i}" for i in range(6)])
    assert da["SOPInstanceUID"].values.tolist() == [["1.0", "1.1", "1.2"], ["1.3", "1.4", "1.5"]]


def test_instance_of_a_single_frame_is_a_coordinate():
    """One frame has its SOPInstanceUID as a scalar coordinate, so that arithmetic with another frame drops it."""
    frames = FakeFrames(SOPInstanceUID=["1.2"])
    da = to_dataarray(frames, stack(frames, ()))
    assert da["SOPInstanceUID"].item() == "1.2"
    assert "SOPInstanceUID" not in da.attrs


def test_instance_of_many_frames_is_an_attribute():
    """Frames of one enhanced file share their SOPInstanceUID."""
    assert array(SOPInstanceUID=["1.2"] * 6).attrs["SOPInstanceUID"] == "1.2"


def test_source_series_is_a_coordinate():
    """The series that frames came from is a scalar coordinate, or along the dim on which it differs."""
    assert array(SeriesInstanceUID=["1"] * 6)["source_series"].item() == "1"
    np.testing.assert_array_equal(array(SeriesInstanceUID=["1", "2", "3"] * 2)["source_series"], ["1", "2", "3"])


def test_private_tag_is_a_coordinate_by_number():
    """A private element that varies has a name that netCDF can hold."""
    frames = FakeFrames(EchoTime=[1.0, 2.0])
    frames.lists[0x0019100C] = [0, 1000]
    np.testing.assert_array_equal(to_dataarray(frames, stack(frames, ("EchoTime",)))["tag_0019_100C"], [0, 1000])


# -- points without a frame


def test_point_without_a_frame_is_nan_or_empty():
    """Coordinates along all dims are NaN or "" at a point without a frame."""
    da = gapped(InstanceNumber=[1, 2, 3], PatientComments=["a", "b", "c"])
    np.testing.assert_array_equal(da["InstanceNumber"], [[1, 2], [3, np.nan]])
    np.testing.assert_array_equal(da["PatientComments"], [["a", "b"], ["c", ""]])


def test_point_without_a_frame_needs_no_further_dim():
    """A tag that follows the echoes stays along them where a point has no frame."""
    assert gapped(FlipAngle=[5.0, 6.0, 5.0])["FlipAngle"].dims == ("EchoTime",)


def test_point_without_a_frame_leaves_constants_attributes():
    """A tag that all frames share is an attribute, also where a point has no frame."""
    assert gapped(FlipAngle=[5.0] * 3).attrs["FlipAngle"] == 5.0


def test_only_frames_on_the_grid_count():
    """A tag that differs only in a frame that was left out is constant."""
    frames = FakeFrames(EchoTime=[1.0, 1.0, 2.0], FlipAngle=[5.0, 9.0, 5.0], InstanceNumber=[1, 2, 3])
    da = to_dataarray(frames, stack(frames, ("EchoTime",), duplicates="first"))
    assert da.attrs["FlipAngle"] == 5.0


# -- attributes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5.0, 5.0),
        (3, 3),
        ("text", "text"),
        (("ORIGINAL", "PRIMARY"), "ORIGINAL\\PRIMARY"),
        ((1, 2), [1, 2]),
        ((1, 2.5), [1.0, 2.5]),
        (2**70, str(2**70)),
        (float("inf"), "inf"),
        ("nul\0", "nul"),
        ("\udcff", "?"),
        (None, None),
        ("", None),
        (b"bytes", None),
        ([{}], None),
        ((1, None), None),
        ("x" * 2000, None),
    ],
)
def test_attributes_are_what_netcdf_and_zarr_hold(value, expected):
    """Text, int, float and flat lists of numbers are attributes; nothing else is."""
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_constant_tags_are_attributes_by_keyword():
    """A tag that all frames share is an attribute."""
    assert array(FlipAngle=[5.0] * 6).attrs["FlipAngle"] == 5.0


def test_tag_that_some_frames_lack_is_no_attribute():
    """A tag with one value that some frames lack varies."""
    da = array(FlipAngle=[5.0, ABSENT, 5.0] * 2)
    assert "FlipAngle" not in da.attrs
    np.testing.assert_array_equal(da["FlipAngle"], [5.0, np.nan, 5.0])


def test_header_is_dicom_json():
    """Everything that frames share is in one text, as DICOM JSON."""
    da = array(
        PatientName=["Bond^James"] * 6,
        FlipAngle=[5.0] * 6,
        ImageType=[("A", "B")] * 6,
        ReferencedImageSequence=[[{"ReferencedSOPInstanceUID": "1.2"}]] * 6,
        FrameIncrementPointer=[(0x0018, 0x1063)] * 6,
        ICCProfile=[b"\x01\x02"] * 6,
    )
    assert json.loads(da.attrs["dicom_header"]) == {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Bond^James"}]},
        "00181314": {"vr": "DS", "Value": [5.0]},
        "00080008": {"vr": "CS", "Value": ["A", "B"]},
        "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]},
        "00280009": {"vr": "AT", "Value": ["00181063"]},
        "00282000": {"vr": "OB", "InlineBinary": "AQI="},
    }


# -- text under coarsen


def test_coarsen_leaves_text_that_is_the_same():
    """Of windows of text, what is the same is left, and "" where it differs; the rest is averaged as usual."""
    da = xr.DataArray(
        np.arange(4.0), {"t": Labels("x", np.array(["a", "a", "b", "c"])), "n": ("x", [1.0, 2.0, 3.0, 4.0])}, ("x",)
    )
    coarse = da.coarsen(x=2).mean()
    assert coarse["t"].values.tolist() == ["a", ""]
    assert coarse["n"].values.tolist() == [1.5, 3.5]


def test_text_can_be_coarsened_after_selections_and_arithmetic():
    """Selecting and computing keep what makes coarsen work."""
    da = xr.DataArray(np.arange(4.0), {"t": Labels("x", np.array(["a", "a", "b", "c"]))}, ("x",))
    other = (da.isel(x=slice(None, None, -1)).compute() * 2 + da[::-1]).where(da[::-1] > -1).transpose().astype(int)
    assert other.coarsen(x=2).mean()["t"].values.tolist() == ["", "a"]


def test_coarsen_of_text_by_another_function_is_xarrays():
    """Who names a function gets that function."""
    da = xr.DataArray(np.arange(4.0), {"t": Labels("x", np.array(["a", "b", "c", "d"]))}, ("x",))
    first = da.coarsen(x=2, coord_func={"t": lambda windows, axis: windows.take(0, axis[0])}).mean()
    assert first["t"].values.tolist() == ["a", "c"]
