"""Records as HTML for a notebook: the tree with counts, sizes, dims and unsaved marks, and small pictures.

All text comes from headers and is escaped; there are no scripts, and nothing is loaded from elsewhere.
"""

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .display import Node, count_of, escape, human_size
from .outline import headline, node_of, nodes_of
from .scan import SeriesKey
from .store import Store
from .thumbnail import thumbnail

MOST_PICTURES = 8
"""Of more series than this only the first have pictures: each is a file that is read."""
MOST_ROWS = 200

_SMALL, _LARGE = 56, 160
_BLOCK = "margin-left:1.2em"
_CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:middle"
_FAINT = "opacity:.65"
_BADGE = "border:1px solid #d9822b;color:#d9822b;border-radius:3px;padding:0 4px;font-size:85%"


def html_of(store: Store, key: tuple[str, ...]) -> str:
    """Return a record as HTML.

    Parameters
    ----------
    store, key
        The record.
    """
    kind = ("Database", "Patient", "Study", "Series")[len(key)]
    budget = _Budget(MOST_PICTURES, MOST_ROWS)
    if len(key) == 3:
        head, body = kind, _table(store, [(key, node_of(store, key))], budget, _LARGE)
    elif key:
        node = node_of(store, key)
        head, body = f"{kind} {_heading(node)}", _below(store, key, node.children, budget)
    else:
        head = html.escape(escape(headline(store)))
        body = _below(store, key, nodes_of(store, key), budget) or "no DICOM here"
    more = len(store.keys(key)) - (MOST_ROWS - budget.rows)
    rest = f"<div style='{_FAINT}'>and {more:,} more series</div>" if more > 0 else ""
    return f"<div style='line-height:1.5'><div><strong>{head}</strong></div>{body}{rest}</div>"


@dataclass
class _Budget:
    """How many pictures and series may still be shown."""

    pictures: int
    rows: int


def _below(store: Store, key: tuple[str, ...], nodes: Sequence[Node], budget: _Budget) -> str:
    """Return what is below a record: patients and studies that unfold, series in a table."""
    children = list(zip(store.children(key), nodes, strict=True))
    if len(key) == 2:
        return _table(store, children, budget, _SMALL)
    return "".join(
        f"<details open style='{_BLOCK}'><summary>{_heading(node)}</summary>"
        f"{_below(store, child, node.children, budget)}</details>"
        for child, node in children
        if budget.rows > 0
    )


def _heading(node: Node) -> str:
    return html.escape(
        f"{escape(node.label)}  ·  {count_of(node.frames, 'frame')}  ·  {human_size(node.nbytes)}"
    ) + _mark(node)


def _mark(node: Node) -> str:
    return f" <span style='{_BADGE}'>{html.escape(escape(node.note))}</span>" if node.note else ""


def _table(store: Store, series: Sequence[tuple[tuple[str, ...], Node]], budget: _Budget, size: int) -> str:
    rows = []
    for key, node in series[: budget.rows]:
        has_picture = bool(node.frames) and budget.pictures > 0
        budget.rows -= 1
        budget.pictures -= has_picture
        cells = "".join(f"<td style='{_CELL}'>{cell}</td>" for cell in _cells(store, key, node, size * has_picture))
        rows.append(f"<tr>{cells}</tr>")
    return f"<table style='{_BLOCK};border-collapse:collapse'>{''.join(rows)}</table>"


def _cells(store: Store, key: tuple[str, ...], node: Node, size: int) -> Iterator[str]:
    yield _picture(store, key, size) if size else ""
    yield f"{html.escape(escape(node.label))}{_mark(node)}"
    yield count_of(node.frames, "frame")
    yield human_size(node.nbytes)
    yield f"<span style='{_FAINT}'>{html.escape(escape(node.dims))}</span>"


def _picture(store: Store, key: tuple[str, ...], size: int) -> str:
    """Return the middle frame of a series, or why there is none."""
    frames = store.frames(SeriesKey(*key))
    if frames is None or not len(frames.images()):
        return ""
    made = thumbnail(frames, size)
    if not made.png:
        reason = escape(made.reason)
        short = html.escape(reason if len(reason) <= 80 else reason[:79] + "…")
        return f"<span style='{_FAINT}' title='{html.escape(reason)}'>no picture: {short}</span>"
    data = base64.b64encode(made.png).decode("ascii")
    return f"<img alt='middle frame' width='{made.width}' height='{made.height}' src='data:image/png;base64,{data}'>"
