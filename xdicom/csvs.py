"""Tags of frames as CSV, a row a frame, in which no cell is a formula.

A name that begins with "=" is a name to DICOM and a program to a spreadsheet.
"""

import base64
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import tags
from .errors import SaveError
from .frames import Frames

# OWASP, CSV injection: with these a spreadsheet takes a cell for a formula, full-width ones too.
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_QUOTE = "'"


def write_csv(
    frames: Frames, path: str | os.PathLike[str], names: Sequence[Any] = (), *, escape_formulas: bool = True
) -> None:
    """Write tags of frames, a row a frame, in UTF-8.

    Parameters
    ----------
    frames
        The rows.
    path
        A file that does not exist.
    names
        Tags, private elements or lower_case attributes, which are columns; all tags that vary where none is given.
        Numbers are as Python writes them, several values are separated by a backslash, sequences are JSON, bytes are
        base64, and what a frame does not have is empty.
    escape_formulas
        Put a "'" before text that a spreadsheet would execute. Other programs then have to take it off.

    Raises
    ------
    SaveError
        If there is something at the path.
    UnknownTagError
        If there is no such tag or attribute.
    """
    wanted = names or varying(frames)
    columns = [_cells(frames, name, escape_formulas) for name in wanted]
    try:
        with Path(path).open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_safe(column_name(name), escape_formulas) for name in wanted)
            writer.writerows(zip(*columns, strict=True))
    except FileExistsError:
        raise SaveError(f"{os.fspath(path)!r} is there already, and nothing is replaced: give another path") from None


def varying(frames: Frames) -> tuple[int, ...]:
    """Return the tags that have several values in some frames."""
    return tuple(tag for tag in frames.tags() if len(frames.column(tag)[0]) > 1)


def column_name(name: Any) -> str:
    """Return what a column of a tag, a private element or an attribute is called."""
    if isinstance(name, str):
        return name
    parsed = tags.parse(name)
    return (
        tags.label(parsed) if isinstance(parsed, int) else f"{parsed.creator}:{parsed.group:04X},{parsed.element:02X}"
    )


def _cells(frames: Frames, name: Any, escape_formulas: bool) -> list[str]:
    """Return the cells of a column."""
    values, codes = frames.named(name)
    texts = [_cell(value, escape_formulas) for value in values]
    return [texts[code] if code >= 0 else "" for code in codes.tolist()]


def _cell(value: object, escape_formulas: bool) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, list):
        return json.dumps(value, default=_json)
    if isinstance(value, tuple):
        parts = ["" if part is None else str(part) for part in value]
        text = "\\".join(parts)
        return text if all(isinstance(part, int | float) for part in value) else _safe(text, escape_formulas)
    return _safe(str(value), escape_formulas)


def _json(value: object) -> str:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _safe(text: str, escape_formulas: bool) -> str:
    """Return text that is one to a spreadsheet, too."""
    return _QUOTE + text if escape_formulas and text.lstrip(" ").startswith(_STARTS) else text
