"""Zoom, rotate and shift: the bare scipy call as the oracle, and places in the patient."""

import numpy as np
import pytest
from scipy import ndimage
from volumes import SHAPE, SPACING, close, noise, series_of, values_of

import xdicom as xd
from xdicom.errors import GeometryError
from xdicom.wrappers import scipy

IN_PLANE = ("row", "column")
INNER = (slice(2, -2), slice(3, -3), slice(3, -3))


@pytest.fixture
def series():
    """Give a series of noise."""
    made = series_of(noise(), SeriesDescription="noise")
    with made.database:
        yield made


def place(series, index):
    """Return where a (column, row, slice) index lies, mm."""
    return (series.affine @ [*index, 1])[:3]


# -- zoom


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("factors", [2, (2, 1, 1.5), (1, 0.5, 3)])
def test_zoom_is_scipys_in_grid_mode(series, factors, order):
    """Values are those of scipy with the borders of the field of view kept."""
    found = scipy.zoom(series, factors, order=order)
    options = {"order": order, "mode": "nearest", "grid_mode": True}
    expected = ndimage.zoom(noise().astype(np.float64), factors, **options)
    if order == 0:  # scipy takes the lower of two that are as near, and is no more right
        assert (values_of(found) == expected).mean() > 0.4
        return
    np.testing.assert_allclose(values_of(found), expected, atol=close(found), rtol=1e-5)


def test_zoom_keeps_the_field_of_view(series):
    """Spacing is divided by the factor, and the outer corners stay where they are in the patient."""
    found = scipy.zoom(series, (2, 3, 0.5))
    columns, rows, slices = np.array(found.ndarray().shape)
    np.testing.assert_allclose(place(found, [-0.5] * 3), place(series, [-0.5] * 3), atol=1e-6)
    outer = np.array(SHAPE[::-1]) - 0.5
    np.testing.assert_allclose(place(found, np.array([columns, rows, slices]) - 0.5), place(series, outer), atol=1e-6)
    assert (columns, rows, slices) == (8, 36, 14)
    assert found.SliceThickness == 2.0


def test_zoom_keeps_anatomy_in_its_place(series):
    """The zoomed series mapped back onto the source shows the same in the same place."""
    smooth = scipy.gaussian_filter(series, 6)
    back = scipy.map_to(scipy.zoom(smooth, 3), smooth)
    difference = (values_of(back) - values_of(smooth))[INNER]
    assert np.abs(difference).max() < 0.05 * np.ptp(values_of(smooth))


def test_zoom_within_slices(series):
    """In two dimensions slices stay what they are."""
    found = scipy.zoom(series, 2, axes=IN_PLANE)
    assert found.ndarray().shape == (30, 24, 7)
    assert found.slice_location == series.slice_location
    np.testing.assert_allclose(found.PixelSpacing[0], (1.0, 0.75))


def test_zoom_of_a_single_slice_keeps_it_single(series):
    """One slice stays one, of the same thickness."""
    found = scipy.zoom(series.subseries(InstanceNumber=2), 2)
    assert found.ndarray().shape == (30, 24, 1)
    assert found.SliceThickness == 4


def test_zoom_of_a_stack_with_gaps_works_within_slices(series):
    """Where slices are missing, rows and columns can be zoomed, and slices cannot."""
    part = series.subseries(InstanceNumber=[1, 2, 5])
    assert scipy.zoom(part, 2, axes=IN_PLANE).ndarray().shape == (30, 24, 3)
    with pytest.raises(GeometryError, match="unequal"):
        scipy.zoom(part, 2)


@pytest.mark.parametrize("factor", [0, -1, np.nan, (1, 2)])
def test_zoom_needs_positive_factors(series, factor):
    """A factor is more than 0."""
    with pytest.raises(ValueError, match="zoom"):
        scipy.zoom(series, factor)


# -- rotate


@pytest.mark.parametrize("angle", [30, -75, 90])
def test_rotate_is_scipys_on_square_pixels(angle):
    """Where pixels are square, it is scipy's rotation of each slice, in the same sense."""
    square = series_of(noise((4, 15, 15)), spacing=(4.0, 2.0, 2.0))
    found = values_of(scipy.rotate(square, angle, order=1))
    expected = ndimage.rotate(noise((4, 15, 15)).astype(float), angle, (1, 2), False, order=1, cval=np.nan)
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.mean() > 0.7
    np.testing.assert_allclose(found[both], expected[both], atol=0.1)


@pytest.mark.parametrize("axes", [IN_PLANE, ("slice", "column"), ("slice", "row")])
def test_rotate_is_one_in_mm(series, axes):
    """On voxels that are no cubes, it is scipy's affine transform with the rotation between two spacings."""
    first, second = (("slice", "row", "column").index(name) for name in axes)
    turn, angle = np.eye(3), np.deg2rad(20)
    turn[[first, second], [first, second]] = np.cos(angle)
    turn[first, second], turn[second, first] = np.sin(angle), -np.sin(angle)
    matrix = np.diag(1 / np.array(SPACING)) @ turn @ np.diag(SPACING)
    middle = (np.array(SHAPE) - 1) / 2
    expected = ndimage.affine_transform(
        noise().astype(float), matrix, middle - matrix @ middle, order=1, cval=np.nan, mode="constant"
    )
    found = scipy.rotate(series, 20, axes)
    both = np.isfinite(expected)
    np.testing.assert_allclose(values_of(found)[both], expected[both], atol=close(found), rtol=1e-5)


def test_rotate_keeps_the_grid(series):
    """The content turns, and the grid stays."""
    found = scipy.rotate(series, 33)
    np.testing.assert_allclose(found.affine, series.affine, atol=1e-9)
    assert found.DerivationDescription == "rotate 33 degrees along row, column order 1"


def test_rotate_by_a_full_turn_changes_nothing(series):
    """360 degrees are none."""
    found = scipy.rotate(series, 360)
    np.testing.assert_allclose(values_of(found), noise(), atol=close(found))


def test_rotate_in_a_tilted_stack():
    """Within its slices a tilted stack turns; through them it is refused."""
    matrix = np.diag([1.5, 2.0, 4.0, 1.0])
    matrix[1, 2] = 1.3
    tilted = xd.as_series(noise(), ("slice", "row", "column"), affine=matrix)
    straight = values_of(scipy.rotate(series_of(noise()), 20))
    middle = SHAPE[0] // 2  # the shear moves the others against the axis of the rotation
    np.testing.assert_allclose(values_of(scipy.rotate(tilted, 20))[middle], straight[middle], atol=0.1)
    with pytest.raises(GeometryError, match="tilted"):
        scipy.rotate(tilted, 20, ("slice", "row"))


@pytest.mark.parametrize("axes", ["row", ("row",), ("row", "row"), ("row", "time"), ("slice", "row", "column")])
def test_rotate_needs_two_axes(series, axes):
    """Two axes span a plane."""
    with pytest.raises(ValueError, match="axes="):
        scipy.rotate(series, 20, axes)


# -- shift


@pytest.mark.parametrize("order", [0, 1, 3])
def test_shift_is_scipys_in_mm(series, order):
    """Lengths in mm, divided by the spacing, are scipy's, away from the border."""
    found = values_of(scipy.shift(series, (2.2, -3.1, 1.7), order=order))
    by = np.array([2.2, -3.1, 1.7]) / SPACING
    expected = ndimage.shift(noise().astype(float), by, order=order, mode="nearest")
    np.testing.assert_allclose(found[INNER], expected[INNER], atol=0.1)


def test_shift_moves_towards_higher_indices(series):
    """A shift by whole voxels moves values, and leaves NaN behind."""
    found = values_of(scipy.shift(series, (4.0, 0, 3.0)))
    np.testing.assert_allclose(found[1:, :, 2:], noise()[:-1, :, :-2], atol=0.1)
    assert np.isnan(found[0]).all()
    assert np.isnan(found[:, :, :2]).all()


def test_shift_fills_with_what_is_asked(series):
    """`cval` is the value where there was nothing."""
    found = values_of(scipy.shift(series, 4.0, axes="slice", cval=0, order=0))
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_array_equal(found[1:], noise()[:-1])


def test_shift_keeps_the_grid(series):
    """The content moves, and the grid stays."""
    found = scipy.shift(series, 1.0)
    np.testing.assert_allclose(found.affine, series.affine, atol=1e-9)
    assert found.DerivationDescription == "shift 1 x 1 x 1 mm along slice, row, column order 1"


@pytest.mark.parametrize(
    ("name", "args"), [("zoom", (2,)), ("rotate", (20,)), ("shift", (1.0,))], ids=["zoom", "rotate", "shift"]
)
class TestEach:
    """What holds for each."""

    def test_result_is_a_derived_series_of_the_study(self, series, name, args):
        """In the study, with references, named after the function."""
        found = getattr(scipy, name)(series, *args, SeriesNumber=9)
        assert found.study == series.study
        assert found.ImageType[0][:2] == ("DERIVED", "SECONDARY")
        named = {item["ReferencedSOPInstanceUID"] for items in found.SourceImageSequence for item in items}
        assert named == set(series.SOPInstanceUID)
        assert (found.SeriesDescription, found.SeriesNumber) == (f"noise {name}", 9)

    def test_volumes_along_other_dims_do_not_mix(self, name, args):
        """Each echo of a 4-D series is worked on as it would be alone."""
        func, dims = getattr(scipy, name), ("EchoTime", "slice", "row", "column")
        both = series_of(np.stack([noise(), noise(seed=1)]), dims=dims, coords={"EchoTime": [5, 10]})
        found = func(both, *args, dims=("slice", "EchoTime"))
        alone = func(series_of(noise(seed=1)), *args)
        array = found.to_xarray(("EchoTime", "slice")).values[1]
        np.testing.assert_allclose(array, values_of(alone), atol=close(found) + close(alone), rtol=1e-5)

    def test_orders_are_those_of_splines(self, series, name, args):
        """An order that is none is refused, and nothing is left behind."""
        with pytest.raises(ValueError, match="order=9"):
            getattr(scipy, name)(series, *args, order=9)
        assert series.study.series() == [series]

    def test_colours_stay_colours(self, name, args):
        """Of an image in colour, each channel is worked on, and what is outside is black."""
        colours = np.random.default_rng(1).integers(1, 256, (3, 9, 8, 3)).astype(np.uint8)
        found = getattr(scipy, name)(series_of(colours, dims=("slice", "row", "column", "sample")), *args)
        assert values_of(found).shape[-1] == 3
        assert values_of(found).dtype == np.uint8
