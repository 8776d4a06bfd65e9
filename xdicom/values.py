"""Decoded values in bulk: the distinct ones of a record, and a column of them as an array.

What bytes they come from is not known here.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import NotOneValueError

_SHOWN = 3


def _binary(operation: Callable[[Any, Any], Any]) -> Callable[["UniqueValues", Any], Any]:
    def method(self: "UniqueValues", other: Any) -> Any:
        return operation(self.item(), _single(other))

    return method


def _reflected(operation: Callable[[Any, Any], Any]) -> Callable[["UniqueValues", Any], Any]:
    def method(self: "UniqueValues", other: Any) -> Any:
        return operation(_single(other), self.item())

    return method


def _ordering(operation: Callable[[Any, Any], Any]) -> Callable[["UniqueValues", Any], Any]:
    def method(self: "UniqueValues", other: Any) -> Any:
        if isinstance(other, list | np.ndarray):
            return operation(list(self), list(other) if isinstance(other, list) else other)
        return operation(self.item(), other) if self else False

    return method


class UniqueValues(list[Any]):
    """The distinct values of a tag: a list, which serves as its value where it has a single one.

    Truth, `len`, `in`, iteration, indexing and `repr` are the list's. `.item()`, `int()`, `float()`, `format()`, use as
    an index, arithmetic, and comparison with anything but a list take the single value, as a numpy array of one
    element does.

    Raises
    ------
    NotOneValueError
        By these, where there are several values; where there is none too, but for comparison, which is then False.

    Notes
    -----
    A tuple is a value (of a multi-valued tag), not a list of values. `+` with a list concatenates to a plain list, as
    it does for any list; two UniqueValues are added as values. Comparison and arithmetic with a numpy array are
    elementwise.

    Examples
    --------
    >>> rows = UniqueValues([128])
    >>> rows * 2, rows == 128, rows == [128]
    (256, True, True)
    """

    # numpy's arrays and scalars then leave `array * values` to the methods below.
    __array_priority__ = 1000.0
    __hash__ = None

    def item(self) -> Any:
        """Return the single value.

        Raises
        ------
        NotOneValueError
            If there are several values, or none.
        """
        if len(self) == 1:
            return self[0]
        if not self:
            raise NotOneValueError("no value where one is needed: no frame has this element, so .item() has none")
        more = ", ..." if len(self) > _SHOWN else ""
        raise NotOneValueError(
            f"{len(self)} values where one is needed: {', '.join(map(repr, self[:_SHOWN]))}{more}; "
            ".item() and arithmetic take a single one: pick it by position, values[0], or loop over them"
        )

    def __eq__(self, other: object) -> Any:
        if isinstance(other, list):
            return list.__eq__(self, other)
        if isinstance(other, np.ndarray):
            return list(self) == other
        return self.item() == other if self else False

    def __ne__(self, other: object) -> Any:
        if isinstance(other, np.ndarray):
            return list(self) != other
        return not self == other

    __lt__ = _ordering(operator.lt)
    __le__ = _ordering(operator.le)
    __gt__ = _ordering(operator.gt)
    __ge__ = _ordering(operator.ge)

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        return operator.index(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec)

    def __neg__(self) -> Any:
        return -self.item()

    def __pos__(self) -> Any:
        return +self.item()

    def __abs__(self) -> Any:
        return abs(self.item())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.item(), digits)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, list) and not isinstance(other, UniqueValues):
            return [*self, *other]
        return self.item() + _single(other)

    def __radd__(self, other: Any) -> Any:
        return [*other, *self] if isinstance(other, list) else other + self.item()

    # Without these two, list's would append to the values and repeat them in place.
    __iadd__ = __add__
    __imul__ = _binary(operator.mul)
    __mul__ = _binary(operator.mul)
    __rmul__ = _reflected(operator.mul)
    __sub__ = _binary(operator.sub)
    __rsub__ = _reflected(operator.sub)
    __truediv__ = _binary(operator.truediv)
    __rtruediv__ = _reflected(operator.truediv)
    __floordiv__ = _binary(operator.floordiv)
    __rfloordiv__ = _reflected(operator.floordiv)
    __mod__ = _binary(operator.mod)
    __rmod__ = _reflected(operator.mod)
    __pow__ = _binary(operator.pow)
    __rpow__ = _reflected(operator.pow)
    __divmod__ = _binary(divmod)
    __rdivmod__ = _reflected(divmod)


def _single(value: Any) -> Any:
    return value.item() if isinstance(value, UniqueValues) else value


def unique(values: Iterable[object]) -> UniqueValues:
    """Return the distinct values, each once.

    Parameters
    ----------
    values
        Decoded values in any order; numpy scalars become Python's.

    Returns
    -------
    UniqueValues
        Ascending: numbers, then NaN, text, bytes and tuples, then what has no order (sequences) as it came, then None.
    """
    seen: dict[object, object] = {}
    unhashable: list[object] = []
    for value in values:
        plain = value.item() if isinstance(value, np.generic) else value
        try:
            seen.setdefault("nan" if plain != plain else (plain,), plain)
        except (TypeError, ValueError):  # no hash: a sequence; no truth: an array
            if not any(_same(plain, other) for other in unhashable):
                unhashable.append(plain)
    return UniqueValues(sorted([*seen.values(), *unhashable], key=_sort_key))


def _same(one: object, other: object) -> bool:
    return one is other or bool(np.all(one == other))


def _sort_key(value: object) -> tuple[Any, ...]:
    """Return what values of any kind can be ordered by."""
    if isinstance(value, int | float):
        return (0, value) if value == value else (1,)
    if isinstance(value, str | bytes):
        return (2 if isinstance(value, str) else 3, value)
    if isinstance(value, tuple):
        return (4, tuple(map(_sort_key, value)))
    return (6,) if value is None else (5,)


def to_array(values: Sequence[object]) -> NDArray[Any]:
    """Return decoded values, one a row, as a numpy array.

    Parameters
    ----------
    values
        n scalars, tuples or None, as `decode` gives them.

    Returns
    -------
    ndarray
        Shape (n,): bool; int64 (uint64 beyond it); float64 where a value is float or None (NaN); text, None as "".
        Shape (n, k), float64, for tuples of k numbers; rows of None are NaN. Text among numbers, which is what junk
        decodes to, is NaN. Anything else: objects, shape (n,).
    """
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    kinds = set(map(type, plain))
    if kinds <= {bool} and kinds:
        return np.array(plain, bool)
    if kinds <= {int, bool} and kinds:
        return _integers(plain)
    if kinds <= {int, float, bool, str, type(None)} and not kinds <= {str, type(None)}:
        return np.array([_number(value) for value in plain], np.float64)
    if kinds <= {type(None)}:
        return np.full(len(plain), np.nan)
    if kinds <= {str, type(None)}:
        return np.array(["" if value is None else value for value in plain], np.str_)
    return _tuples(plain)


def _integers(values: list[Any]) -> NDArray[Any]:
    low, high = min(values), max(values)
    if low >= -(2**63) and high < 2**63:
        return np.array(values, np.int64)
    return np.array(values, np.uint64 if low >= 0 and high < 2**64 else np.float64)


def _number(value: Any) -> float:
    return np.nan if value is None or isinstance(value, str) else value


def _tuples(values: list[Any]) -> NDArray[Any]:
    lengths = {len(value) if isinstance(value, tuple) else -1 for value in values if value is not None}
    parts = [part for value in values if isinstance(value, tuple) for part in value]
    numeric = all(isinstance(part, int | float | str | None) for part in parts)
    if len(lengths) == 1 and numeric and any(isinstance(part, int | float) for part in parts):
        missing = (None,) * lengths.pop()
        return np.array([[_number(part) for part in value or missing] for value in values], np.float64)
    array = np.empty(len(values), object)
    for row, value in enumerate(values):  # a slice would broadcast lists
        array[row] = value
    return array
