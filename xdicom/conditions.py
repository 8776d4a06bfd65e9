"""Conditions on tags and attributes: which rows of a table, and which records, match them.

A condition is a value, a list of values (any of them), a slice (low to high, both included) or a function of one value.
None is an element that is there and empty; functions are not asked about it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import RecordError
from .frames import Frames


def matching_rows(frames: Frames, conditions: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Say for each row whether it matches every condition.

    Raises
    ------
    UnknownTagError
        If a name is no tag and no attribute.
    """
    found = np.ones(len(frames), bool)
    for name, condition in conditions.items():
        values, codes = frames.named(name)
        test = _test(condition)
        # The last entry answers for code -1, rows without the element.
        verdicts = np.array([*(test(value) for value in values), False], bool)
        found &= verdicts[codes]
    return found


def nothing_matches(frames: Frames, conditions: Mapping[str, Any]) -> RecordError:
    """Return the error for conditions that no frame meets, with the values that there are."""
    there = {name: list(frames.unique(name))[:8] for name in conditions}
    return RecordError(f"no frame matches {conditions}; there are {there}")


def _test(condition: Any) -> Callable[[Any], bool]:
    """Return a function that says whether one value satisfies a condition."""
    if callable(condition):
        return lambda value: value is not None and bool(condition(value))
    if isinstance(condition, slice):
        return lambda value: _is_within(value, condition)
    if isinstance(condition, list | set | frozenset | np.ndarray):
        tests = [_test(each) for each in condition]
        return lambda value: any(test(value) for test in tests)
    wanted = condition.item() if isinstance(condition, np.generic) else condition
    return lambda value: bool(value == wanted)


def _is_within(value: Any, bounds: slice) -> bool:
    if value is None:
        return False
    try:
        above = bounds.start is None or value >= bounds.start
        return bool(above and (bounds.stop is None or value <= bounds.stop))
    except TypeError:
        return False
