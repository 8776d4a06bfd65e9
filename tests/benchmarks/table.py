"""Rows of the table of measurements, and the table as text.

How numbers come about is in `catalogs`, `reading` and `graphs`.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True)
class Row:
    """One measurement as text, cell by cell.

    Attributes
    ----------
    what, on
        What was measured, on which data.
    measured, peer, ratio
        Of xdicom; of another program, or a floor; how they compare. "" where there is nothing to compare.
    goal
        "" where the number is only reported.
    verdict
        "ok", "missed", "reported" or "skipped: why".
    """

    what: str
    on: str
    measured: str = ""
    peer: str = ""
    ratio: str = ""
    goal: str = ""
    verdict: str = "reported"


def judged(good: bool) -> str:
    """Return the verdict on a goal."""
    return "ok" if good else "missed"


def seconds(time: float) -> str:
    """Return a time in the unit that people read.

    Examples
    --------
    >>> seconds(0.0123), seconds(2.5), seconds(4.2e-5)
    ('12.3 ms', '2.50 s', '42.0 us')
    """
    if time >= 1:
        return f"{time:.2f} s"
    return f"{time * 1e3:.1f} ms" if time >= 1e-3 else f"{time * 1e6:.1f} us"


def markdown(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table, columns aligned."""
    header = tuple(field.name for field in fields(Row))
    cells = [header, *(astuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
