"""UniqueValues, and columns of values as arrays."""

import copy
import datetime
import math
import operator
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom.errors import NotOneValueError
from xdicom.values import UniqueValues, to_array, unique

ONE, SEVERAL, NONE = UniqueValues([23.0]), UniqueValues([1, 2, 3]), UniqueValues()
BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    divmod,
]
ORDER = [operator.lt, operator.le, operator.gt, operator.ge]
CONVERSIONS = [int, float, complex, operator.index, format, abs, round, operator.neg, operator.pos, range]


# -- the list


def test_it_is_a_list():
    """Truth, length, membership, iteration, indexing and repr are the list's."""
    assert isinstance(SEVERAL, list)
    assert (bool(NONE), len(SEVERAL), 2 in SEVERAL, list(SEVERAL), SEVERAL[1], repr(SEVERAL)) == (
        False,
        3,
        True,
        [1, 2, 3],
        2,
        "[1, 2, 3]",
    )


def test_a_single_zero_is_true():
    """Truth says whether there are values, not what they are."""
    assert UniqueValues([0])


def test_it_equals_a_list():
    """Comparison with a list is the list's, whatever is in it."""
    assert operator.eq(SEVERAL, [1, 2, 3])
    assert operator.eq([1, 2, 3], SEVERAL)
    assert SEVERAL != [1, "2"]
    assert NONE == []


def test_it_equals_another_one():
    """Two of them are compared as lists, also with several values."""
    assert UniqueValues([1, 2, 3]) == SEVERAL


def test_order_with_a_list_is_the_lists():
    """Ordering against a list is the list's."""
    assert UniqueValues([1, 2]) < [1, 3]
    assert not UniqueValues([1, 2]) > [1, 3]


def test_it_has_no_hash():
    """A list has no hash, and neither has this."""
    with pytest.raises(TypeError):
        hash(ONE)


@pytest.mark.parametrize("values", [ONE, SEVERAL, NONE])
@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_of_the_same_type(values, remake):
    """Copy, deep copy and pickle keep type and values."""
    again = remake(values)
    assert type(again) is UniqueValues
    assert again == list(values)


# -- one value


def test_item_is_the_single_value():
    """item() gives the one value."""
    assert ONE.item() == 23.0


@pytest.mark.parametrize("values", [SEVERAL, NONE])
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_conversions_need_one_value(values, conversion):
    """With several values or none, conversions raise and name .item()."""
    with pytest.raises(NotOneValueError, match=r"\.item\(\)"):
        conversion(values)


def test_the_error_shows_the_values():
    """The error of several values says how many, and the first."""
    with pytest.raises(NotOneValueError, match=r"5 values where one is needed: 1, 2, 3, \.\.\.;"):
        UniqueValues([1, 2, 3, 4, 5]).item()


def test_conversions():
    """One value converts as itself."""
    five = UniqueValues([5])
    assert (int(ONE), float(five), complex(five), list(range(five)), abs(UniqueValues([-5])), -five, +five) == (
        23,
        5.0,
        5 + 0j,
        [0, 1, 2, 3, 4],
        5,
        -5,
        5,
    )


def test_rounding():
    """round() and math.floor() take the value."""
    value = UniqueValues([2.567])
    assert (round(value), round(value, 1), math.floor(value)) == (3, 2.6, 2)


def test_format():
    """Format takes the value, with and without a specification."""
    assert f"{ONE:.2f} {ONE} {UniqueValues(['MR']):>4}" == "23.00 23.0   MR"


def test_a_float_is_no_index():
    """A float value cannot be an index, as a float cannot."""
    with pytest.raises(TypeError):
        range(ONE)


@pytest.mark.parametrize("operation", BINARY)
@pytest.mark.parametrize("other", [7, 2.5, np.float64(2.5), np.int16(3)], ids=repr)
def test_arithmetic_is_the_values(operation, other):
    """Every operation gives what it gives for the value, in both orders, and a scalar."""
    forward, backward = operation(UniqueValues([4]), other), operation(other, UniqueValues([4]))
    assert (forward, backward) == (operation(4, other), operation(other, 4))
    assert not isinstance(forward, list | np.ndarray)
    assert not isinstance(backward, list | np.ndarray)


@pytest.mark.parametrize("operation", BINARY)
def test_arithmetic_of_two(operation):
    """Two of one value each are operated on as values."""
    assert operation(UniqueValues([7]), UniqueValues([2])) == operation(7, 2)


@pytest.mark.parametrize("values", [SEVERAL, NONE])
@pytest.mark.parametrize("operation", BINARY)
def test_arithmetic_needs_one_value(values, operation):
    """With several values or none, arithmetic raises in both orders, never repeats the list."""
    for left, right in ((values, 2), (2, values), (values, values), (ONE, values)):
        with pytest.raises(NotOneValueError):
            operation(left, right)


def test_augmented_assignment_is_arithmetic():
    """`*=` and `+=` give the scalar and leave the values alone."""
    kept = value = UniqueValues([4])
    value *= 2
    other = kept
    other += 3
    assert (value, other, kept) == (8, 7, [4])


def test_text_is_joined():
    """Text values are added as text."""
    name = UniqueValues(["knee"])
    assert (name + "!", "my " + name, name * 2) == ("knee!", "my knee", "kneeknee")


def test_adding_a_list_concatenates():
    """`+` with a list gives a plain list, whatever the number of values."""
    assert SEVERAL + [4] == [1, 2, 3, 4]  # noqa: RUF005
    assert [0] + SEVERAL == [0, 1, 2, 3]  # noqa: RUF005
    assert type(SEVERAL + [4]) is list  # noqa: RUF005
    assert sum([UniqueValues([1]), UniqueValues([2])], []) == [1, 2]  # noqa: RUF017


def test_an_augmented_list_leaves_the_values():
    """`+=` with a list makes a new list."""
    kept = values = UniqueValues([1])
    values += [2]
    assert (values, kept) == ([1, 2], [1])


def test_a_list_is_repeated_by_the_value():
    """A list times a value is what it is for an int."""
    assert [0] * UniqueValues([3]) == [0, 0, 0]


def test_arithmetic_with_an_array_is_elementwise():
    """A value times an array is an array of its shape, in both orders."""
    array = np.arange(3.0)
    np.testing.assert_array_equal(ONE * array, 23 * array)
    np.testing.assert_array_equal(array * ONE, array * 23)
    assert (np.ones((2, 2)) * UniqueValues([3])).shape == (2, 2)


def test_numpy_functions_take_the_list():
    """A ufunc sees a list of values."""
    np.testing.assert_array_equal(np.sqrt(UniqueValues([4.0, 9.0])), [2.0, 3.0])


def test_it_sizes_an_array():
    """Values of one serve as a shape."""
    assert np.zeros((UniqueValues([2]), UniqueValues([3]))).shape == (2, 3)


# -- comparison with a scalar


@pytest.mark.parametrize("other", [23, 23.0, np.float32(23), np.int64(23)], ids=repr)
def test_one_value_equals_the_scalar(other):
    """One value is compared as itself, in both orders, and the answer is a scalar."""
    for left, right in ((ONE, other), (other, ONE)):
        assert operator.eq(left, right)
        assert not operator.ne(left, right)
        assert isinstance(operator.eq(left, right), bool | np.bool_)


@pytest.mark.parametrize("other", ["23", None, (23.0,), {}, b"x"], ids=repr)
def test_one_value_differs_from_others(other):
    """Another value is not equal, and says so without raising."""
    assert not operator.eq(ONE, other)
    assert operator.ne(ONE, other)


def test_a_tuple_is_a_value():
    """A multi-valued element's value is a tuple, and compares as one value."""
    assert UniqueValues([(0.5, 0.5)]) == (0.5, 0.5)


def test_none_is_a_value():
    """Present and empty is None."""
    assert UniqueValues([None]) == None  # noqa: E711


@pytest.mark.parametrize("compare", [operator.eq, operator.ne, *ORDER])
def test_several_values_compare_with_no_scalar(compare):
    """With several values a scalar comparison raises."""
    with pytest.raises(NotOneValueError, match="item"):
        compare(SEVERAL, 2)


@pytest.mark.parametrize("compare", [operator.eq, *ORDER])
def test_no_value_compares_false(compare):
    """With no value a scalar comparison is False, in both orders."""
    assert compare(NONE, 5) is False
    assert compare(5, NONE) is False


def test_no_value_differs():
    """With no value `!=` is the opposite of `==`."""
    assert NONE != 5


@pytest.mark.parametrize("compare", ORDER)
@pytest.mark.parametrize("other", [20, 23.0, 30, np.float64(20), np.int8(30)], ids=repr)
def test_one_value_is_ordered(compare, other):
    """One value is ordered as itself, in both orders."""
    assert bool(compare(ONE, other)) == compare(23.0, float(other))
    assert bool(compare(other, ONE)) == compare(float(other), 23.0)


def test_comparison_with_an_array_is_elementwise():
    """Comparison with an array is numpy's, in both orders."""
    array = np.array([1, 5, 3])
    np.testing.assert_array_equal(operator.eq(array, SEVERAL), [True, False, True])
    np.testing.assert_array_equal(operator.eq(SEVERAL, array), [True, False, True])
    np.testing.assert_array_equal(array != SEVERAL, [False, True, False])
    np.testing.assert_array_equal(array > SEVERAL, [False, True, False])


def test_approximation():
    """pytest.approx and its like compare with the value."""
    assert UniqueValues([0.1 + 0.2]) == pytest.approx(0.3)


# -- distinct values


def test_unique_values_are_ascending():
    """Values come once each, ascending."""
    assert unique([3, 1.5, 2, 1.5, 3]) == [1.5, 2, 3]


def test_equal_numbers_are_one():
    """1 and 1.0 are one value, the first that came."""
    found = unique([1, 1.0])
    assert len(found) == 1
    assert type(found[0]) is int


def test_none_comes_last():
    """Present and empty is a member, behind the values."""
    assert unique([None, 2, None, 1]) == [1, 2, None]


def test_nan_is_one_value():
    """NaN comes once, behind numbers."""
    found = unique([math.nan, 1.0, float("nan"), None])
    assert len(found) == 3
    assert found[0] == 1.0
    assert math.isnan(found[1])


def test_junk_comes_behind_numbers():
    """Numbers and the text of junk are each ascending."""
    assert unique(["b", 2.0, "a", 1.0]) == [1.0, 2.0, "a", "b"]


def test_tuples_are_ordered():
    """Tuples are ascending, also where a part is missing or text."""
    assert unique([(2.0, None), (1.0, 3.0), (1.0, "x"), (1.0,)]) == [(1.0,), (1.0, 3.0), (1.0, "x"), (2.0, None)]


def test_sequences_are_unique():
    """Lists of dicts, which have no hash, come once each, as they came."""
    one, other = [{"CodeValue": "B"}], [{"CodeValue": "A"}]
    assert unique([one, other, [{"CodeValue": "B"}]]) == [one, other]


def test_numpy_scalars_become_python():
    """Values of attributes may be numpy's; members are plain."""
    found = unique([np.float32(1.5), np.int16(3), np.str_("x")])
    assert [type(value) for value in found] == [float, int, str]


def test_arrays_are_unique():
    """Even arrays can be members."""
    assert len(unique([np.eye(4), np.eye(4), np.zeros((4, 4))])) == 2


def test_unique_of_nothing_is_empty():
    """No values give an empty UniqueValues."""
    assert type(unique([])) is UniqueValues
    assert unique([]) == []


@given(st.lists(st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.tuples(st.floats(), st.text())))
def test_unique_never_raises_and_loses_nothing(values):
    """Values of any kinds have a list, the same whatever order they come in."""
    found = unique(values)
    assert repr(found) == repr(unique(found))
    assert all(value in found or value != value or isinstance(value, tuple) for value in values)


# -- columns


@pytest.mark.parametrize(
    ("values", "dtype", "wanted"),
    [
        ([1, 2], np.int64, [1, 2]),
        ([1, 2.5], np.float64, [1, 2.5]),
        ([1, None], np.float64, [1, np.nan]),
        ([1.0, "1,5"], np.float64, [1, np.nan]),
        ([None, None], np.float64, [np.nan, np.nan]),
        ([], np.float64, []),
        ([True, False], np.bool_, [True, False]),
        ([2**63, 1], np.uint64, [2**63, 1]),
        ([-1, 2**63], np.float64, [-1, 2.0**63]),
        ([(1.0, 2), (3, None)], np.float64, [[1, 2], [3, np.nan]]),
        ([(1.0, 2.0), None], np.float64, [[1, 2], [np.nan, np.nan]]),
        ([(1.0, "x")], np.float64, [[1, np.nan]]),
        ([np.float32(0.5), np.int8(1)], np.float64, [0.5, 1]),
    ],
)
def test_numbers_become_numeric_arrays(values, dtype, wanted):
    """The dtype is the smallest kind that holds all values; missing and junk are NaN."""
    array = to_array(values)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize(
    ("values", "wanted"), [(["a", "bcd"], ["a", "bcd"]), (["a", None], ["a", ""]), (["山", ""], ["山", ""])]
)
def test_text_becomes_text(values, wanted):
    """Text gives an array of fixed width, None the empty text."""
    array = to_array(values)
    assert array.dtype.kind == "U"
    assert array.tolist() == wanted


@pytest.mark.parametrize(
    "values",
    [
        [("ORIGINAL", "PRIMARY"), ("DERIVED", "PRIMARY")],
        [(1, 2), (1, 2, 3)],
        [(1, 2), 3],
        [b"x", b"yz"],
        [[{"a": 1}], [{"a": 2}]],
        [None, [{"a": 1}]],
        [datetime.date(2020, 1, 1), None],
    ],
)
def test_anything_else_stays_as_objects(values):
    """Tuples of text or of several lengths, bytes and sequences stay, one a row."""
    array = to_array(values)
    assert array.dtype == object
    assert array.shape == (len(values),)
    assert list(array) == values


@given(st.lists(st.none() | st.integers() | st.floats() | st.text() | st.tuples(st.floats() | st.text())))
def test_an_array_has_a_row_a_value(values):
    """There is a row for every value, whatever they are."""
    assert len(to_array(values)) == len(values)
