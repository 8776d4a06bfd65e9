"""Morphology in mm: the bare scipy call with a ball of voxels as the oracle."""

import numpy as np
import pytest
from scipy import ndimage
from volumes import SHAPE, SPACING, blobs, close, noise, series_of, values_of

from xdicom.errors import EditError
from xdicom.wrappers import blocks, masks, scipy

IN_PLANE = ("row", "column")
RESHAPED = ["binary_erosion", "binary_dilation", "binary_opening", "binary_closing"]


@pytest.fixture
def mask():
    """Give a series of a mask."""
    made = series_of(blobs().astype(np.uint8), SeriesDescription="mask")
    with made.database:
        yield made


def ball(radius, spacing=SPACING):
    """Return the voxels whose centres are at most a radius away, one by one."""
    reach = [int(radius // step) for step in spacing]
    found = np.zeros([2 * size + 1 for size in reach], bool)
    for index in np.ndindex(found.shape):
        offset = (np.array(index) - reach) * spacing
        found[index] = np.sqrt((offset**2).sum()) <= radius
    return found


@pytest.mark.parametrize("radius", [2.1, 4.0, 5.0])
@pytest.mark.parametrize("name", RESHAPED)
def test_balls_in_mm(mask, name, radius):
    """A radius in mm is a structuring element of all voxels that are so near, fewer along slices than along columns."""
    expected = getattr(ndimage, name)(blobs(), ball(radius))
    np.testing.assert_array_equal(values_of(getattr(scipy, name)(mask, radius)), expected)


@pytest.mark.parametrize("name", RESHAPED)
def test_discs_within_slices(mask, name):
    """In two dimensions each slice is worked on alone."""
    disc = ball(2.1, SPACING[1:])
    expected = [getattr(ndimage, name)(part, disc) for part in blobs()]
    np.testing.assert_array_equal(values_of(getattr(scipy, name)(mask, 2.1, axes=IN_PLANE)), expected)


@pytest.mark.parametrize("name", RESHAPED)
def test_blocks_join_without_seams(mask, name, monkeypatch):
    """Blocks of two slices give what scipy gives for the whole."""
    monkeypatch.setattr(blocks, "LEAST_VOXELS", 1)
    monkeypatch.setattr(blocks, "MOST_VOXELS", 2 * SHAPE[1] * SHAPE[2])
    expected = getattr(ndimage, name)(blobs(), ball(5.0))
    np.testing.assert_array_equal(values_of(getattr(scipy, name)(mask, 5.0)), expected)


def test_inside_is_what_is_neither_zero_nor_nan():
    """Any values make a mask."""
    values = np.where(blobs(), 7.5, 0).astype(np.float32)
    values[0] = np.nan
    expected = ndimage.binary_dilation(np.nan_to_num(values) != 0, ball(4.0))
    np.testing.assert_array_equal(values_of(scipy.binary_dilation(series_of(values), 4.0)), expected)


@pytest.mark.parametrize("radius", [1.4, 0, 0.0])
def test_a_ball_of_one_voxel_is_refused(mask, radius):
    """A radius that reaches no neighbour changes nothing, and the error says how far the nearest is."""
    with pytest.raises(ValueError, match=r"nearest is 1\.5 mm away"):
        scipy.binary_erosion(mask, radius)


@pytest.mark.parametrize("radius", [-1, np.inf, np.nan])
def test_radii_are_lengths(mask, radius):
    """A radius is a number of mm."""
    with pytest.raises(ValueError, match="radius"):
        scipy.binary_dilation(mask, radius)


def test_balls_reach_exactly_their_radius():
    """A neighbour just as far away as the radius belongs to the ball, in spite of rounding."""
    found = scipy.binary_dilation(series_of(np.eye(9, dtype=np.uint8)[None], spacing=(1, 0.1, 0.1)), 0.3, axes=IN_PLANE)
    structure = ball(3, (1, 1))
    np.testing.assert_array_equal(values_of(found)[0], ndimage.binary_dilation(np.eye(9), structure))


def test_holes_are_filled():
    """A hollow ball becomes a full one, and in slices a ring a disc."""
    hollow = ball(14.0)
    hollow[3:-3, 4:-4, 5:-5] = False
    series = series_of(hollow.astype(np.uint8))
    np.testing.assert_array_equal(values_of(scipy.binary_fill_holes(series)), ndimage.binary_fill_holes(hollow))
    flat = [ndimage.binary_fill_holes(part) for part in hollow]
    np.testing.assert_array_equal(values_of(scipy.binary_fill_holes(series, axes=IN_PLANE)), flat)


@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_labels(mask, connectivity):
    """Parts are numbered as scipy numbers them, and the numbers are exact."""
    expected, count = ndimage.label(blobs(), ndimage.generate_binary_structure(3, connectivity))
    found = values_of(scipy.label(mask, connectivity=connectivity))
    np.testing.assert_array_equal(found, expected)
    assert (found.max(), found.dtype.kind) == (count, "u")


def test_labels_within_slices(mask):
    """In two dimensions each slice counts from 1."""
    expected = [ndimage.label(part)[0] for part in blobs()]
    np.testing.assert_array_equal(values_of(scipy.label(mask, axes=IN_PLANE)), expected)


def test_too_many_labels_are_refused(mask, monkeypatch):
    """More parts than DICOM's integers hold raise, instead of being rounded."""
    monkeypatch.setattr(masks, "_MOST_LABELS", 3)
    with pytest.raises(EditError, match="parts"):
        scipy.label(mask)
    assert mask.study.series() == [mask]


@pytest.mark.parametrize("connectivity", [0, 4])
def test_connectivity_is_one_to_three(mask, connectivity):
    """There are faces, edges and corners."""
    with pytest.raises(ValueError, match="expected 1 to 3"):
        scipy.label(mask, connectivity=connectivity)


def test_distances_in_mm(mask):
    """Distances are scipy's with the spacing of the voxels as sampling."""
    found = scipy.distance_transform_edt(mask)
    expected = ndimage.distance_transform_edt(blobs(), sampling=SPACING)
    np.testing.assert_allclose(values_of(found), expected, atol=close(found))


def test_distances_within_slices(mask):
    """In two dimensions only voxels of the same slice count."""
    found = scipy.distance_transform_edt(mask, axes=IN_PLANE)
    expected = [ndimage.distance_transform_edt(part, sampling=SPACING[1:]) for part in blobs()]
    np.testing.assert_allclose(values_of(found), expected, atol=close(found))


def test_distances_need_an_outside():
    """Where all is inside, there is no distance to the outside."""
    with pytest.raises(EditError, match="whole volume is inside"):
        scipy.distance_transform_edt(series_of(np.ones((3, 4, 5), np.uint8)))


@pytest.mark.parametrize(
    ("name", "args"),
    [*((name, (4.0,)) for name in RESHAPED), ("binary_fill_holes", ()), ("label", ()), ("distance_transform_edt", ())],
)
class TestEach:
    """What holds for every function of masks."""

    def test_result_is_a_derived_series_of_the_study(self, mask, name, args):
        """In the study, with references, named after the function, where the source lies."""
        found = getattr(scipy, name)(mask, *args, SeriesNumber=9)
        assert found.study == mask.study
        assert found.ImageType[0][:2] == ("DERIVED", "SECONDARY")
        named = {item["ReferencedSOPInstanceUID"] for items in found.SourceImageSequence for item in items}
        assert named == set(mask.SOPInstanceUID)
        assert (found.SeriesDescription, found.SeriesNumber) == (f"mask {name}", 9)
        np.testing.assert_allclose(found.affine, mask.affine, atol=1e-9)

    def test_volumes_along_other_dims_do_not_mix(self, name, args):
        """Each phase of a 4-D mask is worked on as it would be alone."""
        func, dims = getattr(scipy, name), ("EchoTime", "slice", "row", "column")
        both = np.stack([blobs(), blobs(seed=2)]).astype(np.uint8)
        found = func(series_of(both, dims=dims, coords={"EchoTime": [5, 10]}), *args, dims=("slice", "EchoTime"))
        alone = func(series_of(both[1]), *args)
        array = found.to_xarray(("EchoTime", "slice")).values[1]
        np.testing.assert_allclose(array, values_of(alone), atol=close(found) + close(alone))


def test_noise_is_no_mask_of_use_but_no_error():
    """Of a series that is nowhere 0, all is inside."""
    found = values_of(scipy.label(series_of(np.abs(noise()) + np.int16(1))))
    assert (found == 1).all()
