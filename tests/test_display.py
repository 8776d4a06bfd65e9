"""Progress and trees."""

import io
import sys

import pytest

from xdicom import display
from xdicom.display import Node, Progress, bar, escape, human_size, human_time, tree_text


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still: its first entry is the time."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "text", ["a\x1b[31mb", "a\nb", "a\r\tb", "a\x00b", "a\x9bb", "a\u202eb", "a\u2028b", "a\udce9b"]
)
def test_hidden_characters_are_escaped(text: str) -> None:
    """Control, direction, line and undecodable characters never reach a terminal."""
    assert escape(text).isprintable()
    assert escape(text).isascii()


@pytest.mark.parametrize("text", ["Müller^Jörg", "山田^太郎", "a b\u3000c", "100 % | ünï"])
def test_names_are_left_alone(text: str) -> None:
    """Letters of any script and spaces stay as they are."""
    assert escape(text) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_960, "10 kB"),
        (999_600, "1.0 MB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_have_units(nbytes: float, text: str) -> None:
    """A size is shown with at most three digits and the unit that fits."""
    assert human_size(nbytes) == text


def test_times_have_units() -> None:
    """A duration is shown in ms, s or min."""
    assert [human_time(t) for t in (0.5, 59.9, 61)] == ["500 ms", "59.9 s", "1 min 1 s"]


def test_progress_is_silent_without_a_terminal(clock: list[float]) -> None:
    """Nothing is written into a file or a pipe."""
    stream = io.StringIO()
    with Progress("reading", stream=stream) as report:
        report(1, 2)
    assert stream.getvalue() == ""


def test_progress_survives_a_missing_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard error, as under pythonw, can report."""
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("reading") as report:
        report(1, 2)


def test_progress_draws_on_a_terminal(clock: list[float]) -> None:
    """A terminal gets the bar on one line, which is wiped at the end."""
    stream = Terminal()
    with Progress("reading", unit="files", stream=stream) as report:
        report(1, 2)
    assert stream.getvalue() == "\rreading [##########..........] 1/2 files, 0 ms left\x1b[K\r\x1b[K"


def test_progress_that_never_drew_wipes_nothing() -> None:
    """A task without a report leaves the terminal untouched."""
    stream = Terminal()
    with Progress("reading", stream=stream):
        pass
    assert stream.getvalue() == ""


def test_progress_is_throttled(clock: list[float]) -> None:
    """A thousand reports in no time draw once."""
    stream = Terminal()
    with Progress("reading", stream=stream) as report:
        for done in range(1000):
            report(done, 1000)
    assert stream.getvalue().count("reading") == 1


def test_slow_terminal_gets_less(clock: list[float]) -> None:
    """After a drawing that took 50 ms none follows for 5 s: 1 % of the time."""

    class Slow(Terminal):
        def flush(self) -> None:
            clock[0] += 0.05

    stream = Slow()
    report = Progress("reading", stream=stream)
    report(1, 9)
    clock[0] += 4.9
    report(2, 9)
    assert stream.getvalue().count("reading") == 1
    clock[0] += 0.2
    report(3, 9)
    assert stream.getvalue().count("reading") == 2


def test_progress_after_an_error_wipes_the_bar(clock: list[float]) -> None:
    """An error inside leaves a clean line for its text."""

    def fail() -> None:
        with Progress("reading", stream=stream) as report:
            report(1, 2)
            raise KeyError

    stream = Terminal()
    with pytest.raises(KeyError):
        fail()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_bar_without_total_counts() -> None:
    """Where the total is unknown, the bar says how many are done."""
    assert bar("scan", 12, None, 3.0, unit="files") == "scan 12 files, 3.0 s"


def test_bar_never_overflows() -> None:
    """More done than announced is a full bar."""
    assert "[####################] 7/5" in bar("scan", 7, 5, 1.0)


def test_tree_of_nothing_is_empty() -> None:
    """No records give no text."""
    assert tree_text([]) == ""


def test_tree_shows_children_in_columns() -> None:
    """Counts and sizes stand in columns beside the branches."""
    study = Node("2024 MR", 14, 14_000, [Node("1 T1", 12, 12_000), Node("2 T2", 2, 2000, note="unsaved")])
    assert tree_text([Node("P1 Doe", 15, 15_000, [study, Node("empty", 1, 1000)])]).splitlines() == [
        "P1 Doe      15 frames   15 kB",
        "├─ 2024 MR  14 frames   14 kB",
        "│  ├─ 1 T1  12 frames   12 kB",
        "│  └─ 2 T2   2 frames  2.0 kB  unsaved",
        "└─ empty     1 frame   1.0 kB",
    ]


def test_tree_escapes_labels() -> None:
    """A newline in a name makes no new line in the tree."""
    assert len(tree_text([Node("a\nb\x1b[2J", 1, 1, note="c\nd")]).splitlines()) == 1


def test_tree_cuts_long_labels() -> None:
    """A name of 500 characters takes no more than the width."""
    assert tree_text([Node("x" * 500, 1, 1)], width=20).startswith("x" * 19 + "…  1 frame")


def test_tree_counts_wide_characters() -> None:
    """East Asian names keep the columns in line."""
    one, two = tree_text([Node("山田", 1, 1), Node("abcdef", 1, 1)]).splitlines()
    assert (one, two) == ("山田    1 frame   1 B", "abcdef  1 frame   1 B")


def test_tree_limits_children() -> None:
    """What is left out of a long list is counted."""
    lines = tree_text([Node("P", 9, 9, [Node(str(i), 1, 1) for i in range(9)])], limit=2).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["P", "├─ 0", "├─ 1", "└─ and 7 more"]
