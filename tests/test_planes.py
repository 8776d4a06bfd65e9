"""Facts about xdicom.planes: the geometry that images get from the coordinates of their array, or from a template."""

import numpy as np
import pytest
import xarray as xr
from fake_table import FakeFrames

from xdicom import tags
from xdicom.dims import ORIENTATION, POSITION
from xdicom.errors import GeometryError
from xdicom.planes import encoded_geometry, geometry_tags, planes_of

SPACING, LOCATION, SLICE_SPACING = 0x00280030, 0x00201041, 0x00180088


class Table(FakeFrames):
    """A table that can be cut and asked by name, as Frames are."""

    def named(self, name):
        return self.column(tags.as_tag(name))

    def take(self, rows):
        taken = Table(number=self.number[rows])
        taken.lists = {tag: [values[row] for row in rows] for tag, values in self.lists.items()}
        taken.count = len(rows)
        return taken


def template(slices=4, flips=(5.0, 10.0), step=3.0):
    """Return a table of axial slices at several flip angles, slices varying fastest."""
    places = [step * z for _ in flips for z in range(slices)]
    count = len(places)
    return Table(
        InstanceNumber=list(range(1, count + 1)),
        SOPInstanceUID=[f"1.{i}" for i in range(count)],
        ImagePositionPatient=[(-10.0, -20.0, z) for z in places],
        ImageOrientationPatient=[(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)] * count,
        PixelSpacing=[(2.0, 1.0)] * count,
        SliceLocation=places,
        SpacingBetweenSlices=[step] * count,
        FlipAngle=[flip for flip in flips for _ in range(slices)],
        Rows=[6] * count,
        Columns=[4] * count,
    )


def array(places, **coords):
    """Return an array of axial slices at these places."""
    zeros, count = np.zeros(len(places)), len(places)
    axes = {
        f"{name}_direction_{axis}": float(axis == way)
        for name, way in (("row", "x"), ("column", "y"))
        for axis in "xyz"
    }
    placed = {
        "ImagePositionPatient_x": ("slice", zeros - 10),
        "ImagePositionPatient_y": ("slice", zeros - 20),
        "ImagePositionPatient_z": ("slice", np.asarray(places, float)),
        "row": np.arange(6) * 2.0,
        "column": np.arange(4) * 1.0,
        "row_spacing": 2.0,
        "column_spacing": 1.0,
    }
    return xr.DataArray(np.zeros((count, 6, 4)), dims=("slice", "row", "column"), coords={**placed, **axes, **coords})


def geometry(images, frames=None, **options):
    """Return the geometry that the first image must be given."""
    rows = np.arange(images.sizes["slice"])
    return geometry_tags(images, ("slice",), template() if frames is None else frames, rows, **options)[0]


def test_what_did_not_change_is_left_out():
    """Coordinates that agree with the header within 1e-6 mm give no geometry."""
    assert geometry(array([0.0, 3.0, 6.0, 9.0])) == {}


def test_crops_flips_and_steps():
    """First pixel, directions and spacing follow what was selected."""
    images = array([0.0, 3.0, 6.0, 9.0])
    assert geometry(images.isel(row=slice(2, 5), column=slice(1, 3))) == {POSITION: (-9.0, -16.0, 0.0)}
    flipped = geometry(images.isel(column=slice(None, None, -1)))
    assert flipped[ORIENTATION] == (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert flipped[POSITION] == (-7.0, -20.0, 0.0)
    assert SPACING not in flipped
    assert flipped[0x00200020] is None
    assert geometry(images.isel(row=slice(None, None, 2), column=[1]))[SPACING] == (4.0, 1.0)
    assert geometry(images.isel(slice=slice(None, None, 2)))[SLICE_SPACING] == (6.0,)


def test_other_positions_move_the_slice_location():
    """Images in another plane get its location; those in the plane of their template keep the scanner's."""
    assert geometry(array([1.0, 4.0, 7.0, 10.0])) == {POSITION: (-10.0, -20.0, 1.0), LOCATION: (1.0,)}


@pytest.mark.parametrize("rows", [[0, 1, 3], [0, 3, 5], [0, 0, 0]])
def test_unequal_steps_are_refused(rows):
    """Rows with unequal steps are no image."""
    with pytest.raises(GeometryError, match="row has unequal steps"):
        planes_of(array([0.0]).isel(row=rows), ("slice",))


def test_coordinates_that_do_not_say_where():
    """Without the coordinates of place the template's geometry is kept, without a template there is none."""
    bare = xr.DataArray(np.zeros((4, 6, 4)), dims=("slice", "row", "column"))
    assert planes_of(bare, ("slice",)) is None
    assert geometry(bare) == {}
    assert geometry_tags(bare, ("slice",), None, np.zeros(4, int)) == [{}] * 4


def test_another_matrix():
    """Another matrix keeps the field of view; spacing= keeps the corner."""
    bare = xr.DataArray(np.zeros((4, 12, 4)), dims=("slice", "row", "column"))
    assert geometry(bare) == {SPACING: (1.0, 1.0), POSITION: (-10.0, -20.5, 0.0)}
    assert geometry(bare, spacing=(1.0, 4.0)) == {SPACING: (4.0, 1.0), POSITION: (-10.0, -19.0, 0.0)}
    for wrong in (-1, (1, 2, 3, 4), "wide", np.inf):
        with pytest.raises((GeometryError, ValueError)):
            geometry(bare, spacing=wrong)


def test_a_slice_location_that_counts_backwards():
    """Where SliceLocation counts against the normal, images follow it backwards."""
    frames = template(flips=(5.0,))
    frames.lists[LOCATION] = [-value for value in frames.lists[LOCATION]]
    bare = xr.DataArray(np.zeros((4, 6, 4)), dims=("SliceLocation", "row", "column"))
    bare = bare.assign_coords(SliceLocation=[-1.0, -4.0, -7.0, -10.0])
    found = geometry_tags(bare, ("SliceLocation",), frames, np.arange(4))
    assert found[0][POSITION] == (-10.0, -20.0, 1.0)


def test_encoded_geometry():
    """Numbers become DS, None removes."""
    found = encoded_geometry({POSITION: (1.0, 2.5, -3.0), LOCATION: (0.1,), SPACING: None})
    assert {tag: raw and raw[1].strip() for tag, raw in found.items()} == {
        POSITION: b"1.0\\2.5\\-3.0",
        LOCATION: b"0.1",
        SPACING: None,
    }
