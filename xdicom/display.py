"""What people see as text: progress on a terminal, a tree of records, sizes and times.

It takes plain data and knows no record, file or tag.
"""

import os
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

_INTERVAL = 0.1  # seconds between two drawings of a bar
_SHARE = 0.01  # of the time may go into drawing
_HIDDEN = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}


def escape(text: object) -> str:
    r"""Return text that is safe on a terminal and stays on one line.

    Control, format and unassigned characters, and the surrogates of undecodable file names, are written as escapes.
    Values in headers come from others: an ESC in a name could rewrite the screen.

    Examples
    --------
    >>> escape("Doe\x1b[31m\n")
    'Doe\\x1b[31m\\n'
    """
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _HIDDEN else char for char in str(text)
    )


def human_size(nbytes: float) -> str:
    """Return a number of bytes in the decimal unit that people read.

    Examples
    --------
    >>> human_size(999), human_size(1500), human_size(78_643_200)
    ('999 B', '1.5 kB', '79 MB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 999.5 or unit == "TB":
            break
        nbytes /= 1000
    return f"{nbytes:.1f} {unit}" if nbytes < 9.95 and unit != "B" else f"{nbytes:.0f} {unit}"


def human_time(seconds: float) -> str:
    """Return a duration as people read it.

    Examples
    --------
    >>> human_time(0.0042), human_time(4.25), human_time(192)
    ('4 ms', '4.2 s', '3 min 12 s')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


class Progress:
    """A bar on a terminal, called with how much is done; silent where the stream is no terminal.

    Parameters
    ----------
    label
        What is going on.
    unit
        What is counted, such as "files".
    stream
        Where to draw; standard error by default, so that output can be piped.

    Notes
    -----
    It may be called from several threads, as often as one likes: the next drawing is put off until at most 1 % of the
    time goes into drawing.

    Examples
    --------
    >>> with Progress("reading", unit="files") as report:
    ...     for done in range(3):
    ...         report(done + 1, 3)
    """

    def __init__(self, label: str, *, unit: str = "", stream: TextIO | None = None) -> None:
        self._label, self._unit = escape(label), unit
        self._stream = sys.stderr if stream is None else stream
        self._live = _is_terminal(self._stream)
        self._lock = threading.Lock()
        self._start = self._next = time.monotonic()
        self._drawn = False

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` are done; `total` of None means unknown."""
        if not self._live or time.monotonic() < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            begin = time.monotonic()
            self._draw(done, total, begin - self._start)
            end = time.monotonic()
            self._next = end + max(_INTERVAL, (end - begin) / _SHARE)
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bar."""
        with self._lock:
            if self._drawn:
                self._stream.write("\r\x1b[K")
                self._stream.flush()
            self._live = False

    def _draw(self, done: int, total: int | None, elapsed: float) -> None:
        line = bar(self._label, done, total, elapsed, unit=self._unit)
        self._stream.write(f"\r{line[: _terminal_width(self._stream) - 1]}\x1b[K")
        self._stream.flush()
        self._drawn = True


def bar(label: str, done: int, total: int | None, elapsed: float, *, unit: str = "") -> str:
    """Return one line of progress, with the time that is left where that is known.

    Parameters
    ----------
    label
        What is going on.
    done, total
        How many; `total` of None where that is not known.
    elapsed
        Seconds since the beginning.
    unit
        What is counted.

    Examples
    --------
    >>> bar("reading", 5, 20, 2.0, unit="files")
    'reading [#####...............] 5/20 files, 6.0 s left'
    """
    unit = f" {unit}" if unit else ""
    if not total:
        return f"{label} {done}{unit}, {human_time(elapsed)}"
    share = min(done / total, 1.0)
    left = f", {human_time(elapsed * (1 - share) / share)} left" if 0 < share < 1 else ""
    filled = int(20 * share)
    return f"{label} [{'#' * filled}{'.' * (20 - filled)}] {done}/{total}{unit}{left}"


def _is_terminal(stream: TextIO) -> bool:
    """Return whether a bar can be drawn; a closed or missing stream is none."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def _terminal_width(stream: TextIO) -> int:
    """Return the columns of the terminal behind a stream."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


@dataclass(frozen=True)
class Node:
    """One line of a tree.

    Attributes
    ----------
    label
        Name, escaped when shown.
    frames
        How many 2-D frames it has.
    nbytes
        Size of its files in bytes.
    children
        What is below it.
    dims
        How its frames are arranged, such as "slice 36 x EchoTime 2 x 64 x 64".
    note
        Further remark at the end of the line, such as "unsaved".
    """

    label: str
    frames: int
    nbytes: int
    children: Sequence["Node"] = ()
    note: str = ""
    dims: str = ""


def tree_text(nodes: Sequence[Node], *, width: int = 60, limit: int | None = None) -> str:
    """Return nodes as an indented tree, with frame counts, sizes and dims in columns.

    Parameters
    ----------
    nodes
        The roots.
    width
        The most columns that names may take; longer ones are cut.
    limit
        The most children shown below one node; the others are counted.

    Examples
    --------
    >>> series = [Node("1 T1", 12, 3_145_728), Node("2 T2", 1, 900)]
    >>> print(tree_text([Node("P1", 13, 3_146_628, series)]))
    P1       13 frames  3.1 MB
    ├─ 1 T1  12 frames  3.1 MB
    └─ 2 T2   1 frame    900 B
    """
    rows = [row for node in nodes for row in _rows(node, "", "", limit)]
    names = [_cut(name, width) for name, _ in rows]
    widest = max(map(_columns, names), default=0)
    counts = [_frames(node.frames) if node else "" for _, node in rows]
    sizes = [human_size(node.nbytes) if node else "" for _, node in rows]
    dims = [escape(node.dims) if node else "" for _, node in rows]
    count_width, size_width, dims_width = (max(map(len, texts), default=0) for texts in (counts, sizes, dims))
    lines = []
    for name, count, size, dim, (_, node) in zip(names, counts, sizes, dims, rows, strict=True):
        arranged = f"  {dim:<{dims_width}}" if dims_width else ""
        note = f"  {escape(node.note)}" if node and node.note else ""
        filler = " " * (widest - _columns(name))
        lines.append(f"{name}{filler}  {count:>{count_width}}  {size:>{size_width}}{arranged}{note}".rstrip())
    return "\n".join(lines)


def _frames(count: int) -> str:
    """Return a count that lines up on the right with others."""
    return f"{count_of(count, 'frame')}{' ' if count == 1 else ''}"


def count_of(count: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> count_of(1, "frame"), count_of(1200, "edit")
    ('1 frame', '1,200 edits')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _rows(node: Node, lead: str, below: str, limit: int | None) -> Iterator[tuple[str, Node | None]]:
    """Yield (name with its branches, node); the node is None for the line that counts what is left out."""
    yield lead + escape(node.label), node
    shown = node.children if limit is None or len(node.children) <= limit else node.children[:limit]
    more = len(node.children) - len(shown)
    for index, child in enumerate(shown):
        last = index == len(shown) - 1 and not more
        yield from _rows(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), limit)
    if more:
        yield f"{below}└─ and {more:,} more", None


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes; East Asian characters take two."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _cut(text: str, width: int) -> str:
    """Return a text that takes at most `width` columns."""
    if _columns(text) <= width:
        return text
    while _columns(text) > width - 1:
        text = text[:-1]
    return text + "…"
