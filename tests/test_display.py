"""Progress, trees and montages."""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from xdicom import display
from xdicom.display import Node, Panel, Progress, bar, escape, human_size, human_time, montage_png, tree_text
from xdicom.errors import MissingPackageError


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


def test_tiles_keep_every_slice() -> None:
    """Slices are laid out row by row, and what is left over is NaN."""
    values = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    tiles = display.tiled(values)
    assert tiles.shape == (4, 9)
    np.testing.assert_array_equal(tiles[:2, 3:6], values[1])
    np.testing.assert_array_equal(tiles[2:, 0:3], values[3])
    assert np.isnan(tiles[2:, 6:]).all()


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2, 2), (0, 4, 4)])
def test_tiles_refuse_other_shapes(shape: tuple[int, ...]) -> None:
    """An array that is no image is named with its shape."""
    with pytest.raises(ValueError, match="an image has shape"):
        display.tiled(np.zeros(shape))


def test_window_ignores_nan() -> None:
    """A window comes from finite values only, and has a width."""
    assert display.percentiles(np.array([np.nan, 5.0, np.inf])) == (5.0, 6.0)
    assert display.percentiles(np.array([np.nan])) == (0.0, 1.0)


def png_pixels(path: Path) -> np.ndarray:
    """Return the RGBA pixels of a PNG that matplotlib wrote: 8 bits, no interlace."""
    from matplotlib.image import imread

    return (imread(path) * 255).astype("u1")


def test_montage_is_a_png(tmp_path: Path) -> None:
    """The file is a valid PNG, as wide as its panels."""
    montage_png(tmp_path / "a.png", [Panel("one", np.eye(8)), Panel("two", np.ones((3, 4, 4)))])
    raw = (tmp_path / "a.png").read_bytes()
    width, height = struct.unpack(">II", raw[16:24])
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">I", raw[29:33])[0] == zlib.crc32(raw[12:29])
    assert width > height


def test_montage_has_aspect_in_mm(tmp_path: Path) -> None:
    """Pixels of 4 mm x 1 mm make a square of 10 x 40 pixels."""
    montage_png(tmp_path / "a.png", [Panel("", np.full((10, 40), 1.0), (0, 1), "gray_r", (4.0, 1.0))])
    black = (png_pixels(tmp_path / "a.png")[..., :3] < 5).all(axis=-1)
    solid = black[:, black.sum(axis=0) > 100]
    assert solid.shape[1] == pytest.approx(np.median(solid.sum(axis=0)), rel=0.02)


def test_montage_takes_nan_and_markup(tmp_path: Path) -> None:
    """A map with NaN only, and a title with dollars and control characters, can be drawn."""
    montage_png(tmp_path / "a.png", [Panel("T1 $\\frac{\x1b", np.full((4, 4), np.nan))])
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_montage_leaves_pyplot_alone(tmp_path: Path) -> None:
    """Drawing neither imports pyplot nor chooses a backend."""
    before = "matplotlib.pyplot" in sys.modules
    montage_png(tmp_path / "a.png", [Panel("", np.eye(3))])
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_montage_without_matplotlib_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package and the command."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r'no matplotlib .* pip install "xdicom\[all\]"'):
        montage_png(tmp_path / "a.png", [Panel("", np.eye(3))])
