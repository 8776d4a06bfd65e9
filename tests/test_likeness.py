"""Facts about xdicom.likeness: which frame an image resembles, and which tags its coordinates change."""

import numpy as np
import pytest
import xarray as xr
from fake_table import ABSENT
from test_planes import Table, array, template

from xdicom import likeness, tags
from xdicom.errors import TagValueError
from xdicom.likeness import alike_rows, attribute_tags, changed_tags, nearest_rows, source_images

# Nearest -----------------------------------------------------------------------------------------------------------


def test_position_counts_first():
    """The frame of the nearest position is taken, even if its flip angle is another."""
    one = template(flips=(5.0,))
    assert nearest_rows(array([2.9, 9.0], FlipAngle=10.0), ("slice",), one).tolist() == [1, 3]


def test_tags_count_where_positions_agree():
    """Among frames at one position, dims and scalar coordinates decide."""
    rows = nearest_rows(array([0.0, 3.0], FlipAngle=9.0), ("slice",), template())
    assert rows.tolist() == [4, 5]
    along = array([0.0, 3.0]).expand_dims(FlipAngle=[10.0, 5.0])
    assert nearest_rows(along, ("FlipAngle", "slice"), template()).tolist() == [4, 5, 0, 1]


def test_a_micrometre_is_no_difference():
    """Positions are equal within 1e-3 mm: a tag tells more than that."""
    frames = Table(ImagePositionPatient=[(0.0, 0.0, 0.0), (0.0, 0.0, 0.0004)], FlipAngle=[5.0, 10.0])
    assert nearest_rows(array([0.0]).assign_coords(FlipAngle=10.0), ("slice",), frames).tolist() == [1]


def test_text_tells_frames_apart():
    """Text agrees or does not; what is not known of a frame differs."""
    frames = Table(SeriesDescription=["a", "b", ABSENT], InstanceNumber=[1, 2, 3])
    images = xr.DataArray(np.zeros((2, 2, 2)), dims=("SeriesDescription", "row", "column"))
    images = images.assign_coords(SeriesDescription=["b", "a"])
    assert nearest_rows(images, ("SeriesDescription",), frames).tolist() == [1, 0]


def test_values_behind_ranks():
    """Of a ranked dim the values behind it tell, which lie along several dims."""
    frames = Table(
        SliceLocation=[0.0, 0.0, 1.0, 1.0], AcquisitionTime=[10.0, 20.0, 15.0, 25.0], InstanceNumber=[1, 2, 3, 4]
    )
    lead = ("SliceLocation", "AcquisitionTime_index")
    images = xr.DataArray(np.zeros((2, 2, 1, 1)), dims=(*lead, "row", "column"))
    images = images.assign_coords(SliceLocation=[1.0, 0.0], AcquisitionTime=(lead, [[25.0, 15.0], [10.0, 20.0]]))
    assert nearest_rows(images, lead, frames).tolist() == [3, 2, 0, 1]


@pytest.mark.parametrize(("count", "rows"), [(3, [0, 1, 2]), (2, [0, 1]), (6, [0, 0, 1, 1, 2, 2]), (1, [0])])
def test_without_anything_to_tell_frames_apart(count, rows):
    """The n-th image resembles the n-th frame by InstanceNumber; more images than frames are spread."""
    frames = Table(InstanceNumber=[3, 2, 1], SOPInstanceUID=["a", "b", "c"])
    images = xr.DataArray(np.zeros((count, 1, 1)), dims=("frame", "row", "column"))
    assert nearest_rows(images, ("frame",), frames).tolist() == [2 - row for row in rows]


def test_many_images_take_little_memory(monkeypatch):
    """Costs are made some images at a time: no more of them than the limit, and the rows are the same."""
    frames, images = template(slices=50, flips=(5.0,)), array(np.arange(200) * 0.75)
    whole = nearest_rows(images, ("slice",), frames)
    sizes = []
    costs = likeness._Term.costs
    monkeypatch.setattr(likeness, "_MOST_COSTS", 500)
    monkeypatch.setattr(likeness._Term, "costs", lambda term, rows: sizes.append(found := costs(term, rows)) or found)
    assert np.array_equal(nearest_rows(images, ("slice",), frames), whole)
    assert max(found.size for found in sizes) <= 500


def test_centres_are_compared_not_corners():
    """An image turned about its centre, or with another field of view, resembles the frame around that centre."""
    wide = array([0.0, 3.0, 6.0, 9.0])
    wide = wide.assign_coords(ImagePositionPatient_x=("slice", wide["ImagePositionPatient_z"].values * 40 - 130))
    wide = wide.assign_coords(column_spacing=1.0).isel(slice=[2])
    found = nearest_rows(wide, ("slice",), template(flips=(5.0,)))
    turned = array([2.0]).assign_coords(
        {"row_direction_x": 0.0, "row_direction_z": 1.0, "ImagePositionPatient_x": ("slice", [-8.5])}
    )
    assert found.tolist() == [2]
    # Columns go up from 2 mm: the centre is at 3.5 mm, nearer to the slice at 3 mm than to that at 0.
    assert nearest_rows(turned, ("slice",), template(flips=(5.0,))).tolist() == [1]


def test_all_that_is_alike_along_a_dim_that_is_gone():
    """Where flip angles are gone, an image resembles the frames of all of them at its place, the first one first."""
    found = [rows.tolist() for rows in alike_rows(array([3.0, 9.0]), ("slice",), template())]
    assert found == [[1, 5], [3, 7]]


def test_references_name_class_instance_and_frame():
    """A frame of a file with several has its number; one without identity has no reference."""
    frames = Table(
        SOPClassUID=["1.2", "1.2", ABSENT], SOPInstanceUID=["1.3", "1.4", "1.5"], NumberOfFrames=[ABSENT, 20, ABSENT]
    )
    frames.number[:] = [0, 7, 0]
    assert source_images(frames) == [("1.2", "1.3", None), ("1.2", "1.4", 8), None]


# Changed tags ------------------------------------------------------------------------------------------------------


def changes(images, frames, lead=("slice",)):
    """Return the changes of the tags of the first image, by keyword."""
    rows = np.zeros(int(np.prod([images.sizes[name] for name in lead])), int)
    return {tags.label(tag): raw for tag, raw in changed_tags(images, lead, frames, rows)[0].items()}


@pytest.mark.parametrize(
    ("coords", "expected"),
    [
        ({"FlipAngle": 5.0}, {}),
        ({"FlipAngle": 6}, {"FlipAngle": ("DS", b"6 ")}),
        ({"EchoTime": 4.5}, {"EchoTime": ("DS", b"4.5 ")}),
        ({"EchoNumbers": 2.0}, {"EchoNumbers": ("IS", b"2 ")}),
        ({"FlipAngle": np.nan}, {"FlipAngle": None}),
        ({"EchoTime": np.nan, "ProtocolName": ""}, {}),
        ({"ImageType": "A\\B"}, {}),
        ({"ImageType": "A\\C"}, {"ImageType": ("CS", b"A\\C ")}),
        ({"PatientName": "X", "StudyDate": "20200101", "StudyInstanceUID": "9", "Rows": 9, "InstanceNumber": 9}, {}),
        ({"not_a_tag": 1, "PixelSpacing_0": 9.0, "Nonsense": 1}, {}),
        ({"ProtocolName": "Größe"}, {"ProtocolName": ("LO", "Größe".encode() + b" ")}),
    ],
)
def test_changed_tags(coords, expected):
    """Coordinates that say another thing than the header are changes; NaN and "" remove an element."""
    frames = Table(FlipAngle=[5.0], ImageType=[("A", "B")])
    assert (
        changes(xr.DataArray(np.zeros((1, 1, 1)), dims=("slice", "row", "column"), coords=coords), frames) == expected
    )


def test_a_coordinate_that_does_not_fit_its_tag():
    """A value that the VR cannot hold raises, and names the tag."""
    images = xr.DataArray(np.zeros((1, 1, 1)), dims=("slice", "row", "column"), coords={"EchoTime": "late"})
    with pytest.raises(TagValueError, match="EchoTime"):
        changes(images, Table(FlipAngle=[5.0]))


def test_attributes_say_how_an_image_was_acquired():
    """Of attributes only elements of group 0018 are taken: nothing of patient, study or pixels."""
    attrs = {"EchoTime": 4.5, "PatientName": "X", "Rows": 7, "note": "n", "ScanningSequence": "SE", "SOPClassUID": "1"}
    found = attribute_tags(xr.DataArray(0, attrs=attrs))
    assert found == {0x00180081: ("DS", b"4.5 "), 0x00180020: ("CS", b"SE")}


def test_coordinates_that_are_no_keywords_are_passed_over_at_once(monkeypatch):
    """No keyword near to a component of a tag or a rank is looked for, which takes long."""
    monkeypatch.setattr("difflib.get_close_matches", None)
    images = xr.DataArray(np.zeros((1, 2, 2)), dims=("slice", "row", "column")).assign_coords(
        ImagePositionPatient_x=("slice", [1.0]), AcquisitionTime_index=("slice", [0])
    )
    assert changed_tags(images, ("slice",), None, np.zeros(1, np.intp)) == [{}]
