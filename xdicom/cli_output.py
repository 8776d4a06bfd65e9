"""What commands write: lines for people, JSON for programs, and the codes that they end with."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .catalog import Problem
from .changes import Change
from .display import escape

ALL_WELL, PROBLEMS, FAILED = 0, 1, 2
INTERRUPTED, NO_READER = 128 + 2, 128 + 13  # as shells count the signals SIGINT and SIGPIPE

_MOST_SHOWN = 6
_MOST_TEXT = 72
_MOST_BYTES = 1024


def say(text: str) -> None:
    """Write one line; what headers say is no matter for a terminal."""
    sys.stdout.write(f"{escape(text)}\n")
    sys.stdout.flush()


def say_json(data: object) -> None:
    """Write one JSON value, in ASCII."""
    sys.stdout.write(f"{json.dumps(plain(data), allow_nan=False)}\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """Return a value as what JSON holds: bytes in hexadecimal, long ones as their number; NaN and inf as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return value.hex() if len(value) <= _MOST_BYTES else f"{len(value)} bytes"
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def shown(values: Iterable[Any]) -> str:
    """Return the values of a tag on one line, the first of many."""
    found = list(values)
    if not found:
        return "-"
    if len(found) > 2 * _MOST_SHOWN:
        middle = ", ".join(map(_one, found[:_MOST_SHOWN]))
        text = f"{middle}, ... {_one(found[-1])} ({len(found)} values)"
    else:
        text = ", ".join(map(_one, found))
    return text if len(text) <= 2 * _MOST_TEXT else text[: 2 * _MOST_TEXT - 1] + "…"


def _one(value: Any) -> str:
    """Return one value as people read it."""
    if value is None:
        return "(empty)"
    if isinstance(value, bytes):
        return value[:12].hex() + ("..." if len(value) > 12 else "") + f" ({len(value)} bytes)"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return "\\".join(map(_one, value))
    if isinstance(value, list):
        return f"sequence of {len(value)} item{'' if len(value) == 1 else 's'}"
    text = str(value)
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def table(rows: Iterable[Iterable[str]]) -> list[str]:
    """Return rows of texts as lines whose columns line up."""
    cells = [[escape(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def say_changes(changes: Iterable[Change], names: Mapping[str, str]) -> None:
    """Write staged edits, series by series; `names` are those of series by UID."""
    series = None
    for change in changes:
        if change.series != series:
            series = change.series
            uid = next((part for part in reversed(series) if part), "")
            say(names.get(uid, uid))
        has_values = change.before or change.after
        say(f"  {change.what}" + (f": {shown(change.before)} -> {shown(change.after)}" if has_values else ""))


def changes_as_json(changes: Iterable[Change]) -> list[dict[str, object]]:
    """Return staged edits as plain data."""
    return [
        {
            "PatientID": change.series.patient,
            "StudyInstanceUID": change.series.study,
            "SeriesInstanceUID": change.series.series,
            "what": change.what,
            "before": list(change.before),
            "after": list(change.after),
        }
        for change in changes
    ]


def say_problems(problems: Iterable[Problem]) -> None:
    """Write what is wrong, a line each."""
    for problem in problems:
        say(f"  {problem.path}: {problem.reason}")
