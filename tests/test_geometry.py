"""Facts about geometry, worked out by hand from PS3.3 C.7.6.2.1.1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom import geometry
from xdicom.errors import GeometryError

AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]
CORONAL = [1, 0, 0, 0, 0, -1]
TILTED = [1, 0, 0, 0, 0.8, -0.6]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(AXIAL, [0, 0, 1]), (SAGITTAL, [-1, 0, 0]), (CORONAL, [0, 1, 0]), (TILTED, [0, 0.6, 0.8])],
)
def test_normal_is_row_direction_times_column_direction(orientation, expected):
    """The normal is the cross product of the row and the column direction."""
    np.testing.assert_allclose(geometry.normal(orientation), expected, atol=1e-12)


def test_normal_of_many_has_one_row_each():
    """Orientations of shape (n, 6) give normals of shape (n, 3)."""
    np.testing.assert_array_equal(geometry.normal([AXIAL, CORONAL]), [[0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize(
    "bad", [[np.nan] * 6, [1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 1, 0], [0] * 6, [1, 0, 0, 0, 1, np.nan]]
)
def test_normal_is_nan_where_the_orientation_is_none(bad):
    """An absent, parallel, overlong or zero orientation has a NaN normal, and its neighbours keep theirs."""
    normals = geometry.normal([AXIAL, bad])
    assert np.isnan(normals[1]).all()
    np.testing.assert_array_equal(normals[0], [0, 0, 1])


def test_slice_location_is_position_along_the_normal():
    """The slice location is position . normal: 0.6 * 20 + 0.8 * 30 = 36 for a slice tilted about x."""
    assert geometry.slice_location([10, 20, 30], TILTED) == pytest.approx(36)


def test_slice_location_is_nan_where_the_position_is_absent():
    """A frame without a position has no slice location; the others keep theirs."""
    located = geometry.slice_location([[0, 0, 7], [np.nan] * 3], [AXIAL, AXIAL])
    np.testing.assert_array_equal(located, [7, np.nan])


def test_slice_location_does_not_change_within_the_plane():
    """Moving within the plane leaves the slice location."""
    moved = np.array([10, 20, 30]) + 5 * np.array(TILTED[:3]) - 3 * np.array(TILTED[3:])
    assert geometry.slice_location(moved, TILTED) == pytest.approx(36)


def test_affine_has_the_column_index_first():
    """Axis 0 of the affine is the column index, along the row direction with the column spacing; axis 1 the row."""
    matrix = geometry.affine([10, 20, 30], SAGITTAL, [0.5, 2.0], [-4, 0, 0])
    expected = [[0, 0, -4, 10], [2, 0, 0, 20], [0, -0.5, 0, 30], [0, 0, 0, 1]]
    np.testing.assert_array_equal(matrix, expected)


def test_affine_is_equation_c7621_of_the_standard():
    """P = S + X * column spacing * column index + Y * row spacing * row index, with X and Y from the orientation."""
    matrix = geometry.affine([-1, -2, -3], TILTED, [0.5, 0.25], [0, 0, 1])
    point = matrix @ [8, 4, 0, 1]
    np.testing.assert_allclose(point, [-1 + 8 * 0.25, -2 + 0.8 * 4 * 0.5, -3 - 0.6 * 4 * 0.5, 1])


def test_affine_keeps_the_shear_of_a_tilted_stack():
    """The third column is the step as it is, also where it is not along the normal."""
    matrix = geometry.affine([0, 0, 0], AXIAL, [1, 1], [0, -0.5, 2])
    np.testing.assert_array_equal(matrix[:3, 2], [0, -0.5, 2])


@pytest.mark.parametrize("spacing", [[np.nan, 1], [0, 1], [1, 0]])
def test_affine_without_spacing_is_refused(spacing):
    """A spacing that is absent or zero has no affine."""
    with pytest.raises(GeometryError, match="must be finite, and the spacing not 0"):
        geometry.affine([0, 0, 0], AXIAL, spacing, [0, 0, 1])


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ([1, 0, 0, 1, 0, 0], "right angle"),
        ([1, 0, 0, 0, 2, 0], "column direction .* has length 2, not 1"),
        ([0, 0, 0, 0, 1, 0], "row direction .* has length 0, not 1"),
        ([np.nan] * 6, "no orientation"),
        ([1, 0, 0], "6 direction cosines"),
    ],
)
def test_orientation_that_is_none_is_refused_with_the_reason(bad, text):
    """Directions must be two unit vectors at a right angle; the text says which is not."""
    with pytest.raises(GeometryError, match=text):
        geometry.check_orientation(bad)


def test_orientation_of_three_decimals_is_good():
    """Cosines that were rounded to three decimals pass."""
    assert geometry.orientation_problem([0.707, 0.707, 0, -0.707, 0.707, 0]) == ""


def test_step_is_from_slice_to_slice():
    """The step of a regular stack is the vector from each slice to the next."""
    np.testing.assert_allclose(geometry.slice_step([[0, 0, 0], [0, 1, 2], [0, 2, 4]]), [0, 1, 2])


def test_step_allows_positions_of_two_decimals():
    """Positions 0.625 mm apart that were rounded to two decimals are a regular stack."""
    points = [[0, 0, round(0.625 * k, 2)] for k in range(50)]
    np.testing.assert_allclose(geometry.slice_step(points), [0, 0, 0.625], atol=1e-3)


def test_unequal_steps_are_refused_with_the_values():
    """A gap in the stack has no single step, and the text says from what to what."""
    with pytest.raises(GeometryError, match="unequal: 1 to 2 mm between 3 slices"):
        geometry.slice_step([[0, 0, 0], [0, 0, 1], [0, 0, 3]])


@pytest.mark.parametrize(
    ("points", "text"),
    [([[0, 0, 0]], "1 slice"), ([[0, 0, 0], [np.nan] * 3], "no position"), ([[1, 2, 3], [1, 2, 3]], "same position")],
)
def test_step_that_cannot_be_known_is_refused(points, text):
    """One slice, an absent position and equal positions have no step."""
    with pytest.raises(GeometryError, match=text):
        geometry.slice_step(points)


def test_positions_within_a_micrometre_are_one():
    """Positions within 1e-3 mm are equal and take the lowest; beyond they are distinct."""
    values, codes = geometry.distinct([5.0, 0.0, 0.0009, 5.0011])
    np.testing.assert_array_equal(values, [0.0, 5.0, 5.0011])
    np.testing.assert_array_equal(codes, [1, 0, 0, 2])


def test_decimal_texts_exactly_one_tolerance_apart_are_one():
    """The tolerance itself counts as equal, whatever binary floats make of 12.345 and 12.346."""
    assert len(geometry.distinct([12.345, 12.346])[0]) == 1


def test_long_run_of_close_positions_is_not_merged_into_one():
    """Values each 0.4e-3 from the next form groups no wider than 1e-3, not one group."""
    values, codes = geometry.distinct(np.arange(9) * 0.4e-3)
    np.testing.assert_allclose(values, [0, 1.2e-3, 2.4e-3])
    np.testing.assert_array_equal(codes, [0, 0, 0, 1, 1, 1, 2, 2, 2])


def test_nan_has_no_distinct_value():
    """NaN gets code -1 and no value."""
    values, codes = geometry.distinct([np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(values, [1.0])
    np.testing.assert_array_equal(codes, [-1, 0, -1])


def test_no_values_have_no_distinct_ones():
    """An empty array gives empty answers."""
    values, codes = geometry.distinct([])
    assert values.size == codes.size == 0


def test_infinite_position_is_refused():
    """An infinite number is no position."""
    with pytest.raises(GeometryError, match="finite"):
        geometry.distinct([0.0, np.inf])


@given(st.lists(st.floats(-1e3, 1e3), max_size=40))
def test_every_value_is_within_the_tolerance_of_its_group(numbers):
    """Each value is at most the tolerance above its distinct value, and distinct values are further apart than that."""
    values, codes = geometry.distinct(numbers)
    assert ((numbers - values[codes]) >= 0).all()
    assert ((numbers - values[codes]) <= 1.00001e-3).all()
    assert (np.diff(values) > 1e-3).all()
