"""Words of the command line: names of tags, assignments and conditions, and the series that conditions choose.

What is done with them is known in the modules of the commands.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import tags
from .conditions import matching_rows
from .database import Database, Series
from .errors import EditError, RecordError, XdicomError
from .frames import ATTRIBUTES

Name = str | tuple[int, int] | tuple[str, int, int]

_PAIR = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_PRIVATE = re.compile(r"(.+):([0-9A-Fa-f]{4}),([0-9A-Fa-f]{2})")
_NUMBERS = frozenset(["DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"])
_RANGED = frozenset(["DA", "DT", "TM"])
_MOST_LISTED = 12


class Chosen(NamedTuple):
    """A series, and which of its frames match the conditions, shape (n,)."""

    series: Series
    rows: NDArray[np.bool_]


def name_from(word: str) -> Name:
    """Return the name of a tag, private element or attribute that a word stands for.

    Examples
    --------
    >>> name_from("EchoTime"), name_from("0018,0081"), name_from("SIEMENS MR HEADER:0019,0C")
    ('EchoTime', (24, 129), ('SIEMENS MR HEADER', 25, 12))
    """
    if pair := _PAIR.fullmatch(word):
        return int(pair[1], 16), int(pair[2], 16)
    if private := _PRIVATE.fullmatch(word):
        return private[1], int(private[2], 16), int(private[3], 16)
    return word


def known_name(word: str) -> Name:
    """Return `name_from` of a word.

    Raises
    ------
    UnknownTagError
        If there is no such tag or attribute.
    """
    name = name_from(word)
    if name not in ATTRIBUTES:
        tags.parse(name)
    return name


def assignment(word: str) -> tuple[Name, Any]:
    r"""Return the name and value of a word such as "EchoTime=23" or "PixelSpacing=0.5\\0.5".

    Raises
    ------
    EditError
        If the word is none.
    UnknownTagError
        If there is no such tag or attribute.
    """
    name, sign, text = _divided(word, "Tag=value, or --remove Tag")
    if not sign:
        raise EditError(f"{word!r} is no assignment: type {word}=VALUE, or --remove {word}")
    known = known_name(name)
    return known, _attribute_value(text) if known in ATTRIBUTES else text


def _divided(word: str, form: str) -> tuple[str, str, str]:
    name, sign, text = word.partition("=")
    if not name.strip():
        raise EditError(f"{word!r} names no tag: type {form}")
    return name.strip(), sign, text


def _attribute_value(text: str) -> Any:
    """Return the value of an attribute that a text stands for: numbers where it reads so, a list by backslashes."""
    parts = [_as_number(part) for part in text.split("\\")]
    return parts[0] if len(parts) == 1 else parts


def _as_number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def conditions(words: Iterable[str]) -> dict[Any, list[Any]]:
    """Return the conditions that words such as "SeriesDescription=*T1*" or "FlipAngle=5:20" stand for, by name.

    Raises
    ------
    EditError
        If a word is no condition.
    UnknownTagError
        If there is no such tag or attribute.
    """
    found: dict[Any, list[Any]] = {}
    for word in words:
        name, sign, text = _divided(word, "--where Tag=value")
        if not sign:
            raise EditError(f"--where {word!r} is no condition: type --where {word}=VALUE")
        known = known_name(name)
        found.setdefault(known, []).append(_condition(known, text))
    return found


def _condition(name: Name, text: str) -> Any:
    if not text:
        return None
    if "*" in text or "?" in text:
        return _of_parts(lambda part: fnmatchcase(str(part), text))
    vr = _vr(name)
    low, colon, high = text.partition(":")
    if colon and ":" not in high and (vr in _NUMBERS or vr in _RANGED or name in ATTRIBUTES):
        return slice(*(_typed(name, vr, part) if part else None for part in (low, high)))
    wanted = _typed(name, vr, text)
    return lambda value: _is(value, wanted) or str(value) == text or _joined(value) == text


def _vr(name: Name) -> str:
    parsed = "" if name in ATTRIBUTES else tags.parse(name)
    return tags.dictionary_vr(parsed)[:2] if isinstance(parsed, int) else ""


def _typed(name: Name, vr: str, text: str) -> Any:
    """Return what a text is when it is read back from a file."""
    tag = tags.parse(name) if vr in _RANGED else 0
    if isinstance(tag, int) and tag:
        return tags.decode(tag, vr, tags.encode(tag, vr, text))
    return text if vr and vr not in _NUMBERS else _as_number(text)


def _of_parts(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a test of a value that holds if it holds for the value as text, or for any of several values."""
    return lambda value: test(_joined(value)) or (isinstance(value, tuple) and any(map(test, value)))


def _is(value: Any, wanted: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(part == wanted for part in parts)


def _joined(value: Any) -> str:
    return "\\".join(map(str, value)) if isinstance(value, tuple) else str(value)


def chosen(db: Database, words: Sequence[str]) -> list[Chosen]:
    """Return the series that have a frame matching every condition.

    Raises
    ------
    RecordError
        If conditions are given and no series matches.
    """
    wanted = conditions(words)
    found = [Chosen(series, matching_rows(series.frames(), wanted)) for series in db.series()]
    if not words:
        return found
    matching = [each for each in found if each.rows.any()]
    if not matching:
        raise RecordError(f"no series matches --where {' --where '.join(words)}; there are {listed(db.series())}")
    return matching


def whole(chosen_ones: Iterable[Chosen]) -> list[Series]:
    """Return series whose frames all match.

    Raises
    ------
    RecordError
        If only some frames of one do.
    """
    found = []
    for series, rows in chosen_ones:
        if not rows.all():
            raise RecordError(
                f"only {rows.sum()} of {len(rows)} frames of series {title(series)} match, and a command edits whole "
                "series: choose it by a tag that all its frames share, or split it in Python, series.split(...)"
            )
        found.append(series)
    return found


def one_series(db: Database, word: str | None, words: Sequence[str]) -> Series:
    """Return the series that a number, description or UID names, or the only one.

    Raises
    ------
    RecordError
        If there is none, or several.
    """
    candidates = [series for series, _ in chosen(db, words)]
    if word is not None:
        names = ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription")
        candidates = [series for series in candidates if any(word in map(str, series[name]) for name in names)]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise RecordError(f"no series is {word!r}: there are {listed(db.series())}")
    raise RecordError(f"{len(candidates)} series match, and one is shown: name one of {listed(candidates)}")


def title(series: Series) -> str:
    """Return the number and description of a series."""
    parts = [
        str(value)
        for name in ("SeriesNumber", "SeriesDescription")
        for value in series[name][:1]
        if value not in (None, "")
    ]
    return " ".join(parts) or str(series.key[-1])


def listed(series: Sequence[Series]) -> str:
    """Return the names of series for an error."""
    names = [repr(title(each)) for each in series[:_MOST_LISTED]]
    more = len(series) - len(names)
    return (", ".join(names) or "none") + (f" and {more} more" if more else "")


def checked_names(words: Iterable[str]) -> list[Name]:
    """Return the names of several words, all of them known.

    Raises
    ------
    XdicomError
        If one is not.
    """
    found, wrong = [], []
    for word in words:
        try:
            found.append(known_name(word))
        except XdicomError as error:
            wrong.append(str(error))
    if wrong:
        raise EditError("; ".join(wrong))
    return found
