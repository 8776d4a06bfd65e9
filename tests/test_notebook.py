"""Records as HTML."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from factories import make_report, make_series

import xdicom as xd
from xdicom import notebook

VOID = {"img", "br", "hr"}


class Page(HTMLParser):
    """Collects text, pictures and tags, and fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name == "src"]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[xd.Database]:
    """Two patients with three series."""
    make_series(tmp_path, name="a", SeriesDescription="T1")
    make_series(tmp_path, name="b", SeriesNumber=2, SeriesDescription="T2")
    make_series(tmp_path, name="c", SeriesNumber=3, PatientID="P2", StudyInstanceUID="2.25.1")
    with xd.database(tmp_path) as opened:
        yield opened


def test_the_tree_is_there(database: xd.Database) -> None:
    """Names, counts, sizes and dims, with a picture a series."""
    page = Page(database._repr_html_())
    assert "P1 Doe^Jane" in page.text
    assert "6 frames" in page.text
    assert "1 T1 MR" in page.text
    assert "slice 3 x 6 x 5" in page.text
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)


@pytest.mark.parametrize(("pick", "count"), [("patients", 2), ("studies", 2), ("series", 1)])
def test_each_level(database: xd.Database, pick: str, count: int) -> None:
    """A record shows what is below it."""
    page = Page(getattr(database, pick)()[0]._repr_html_())
    assert len(page.sources) == count
    assert "T1" in page.text


def test_unsaved_is_marked(database: xd.Database) -> None:
    """On the series that is edited."""
    database.series()[1].EchoTime = 5
    assert Page(database._repr_html_()).words.count("unsaved") == 1
    database.restore()
    assert "unsaved" not in Page(database._repr_html_()).words


def test_text_is_escaped(tmp_path: Path) -> None:
    """Markup and control characters of a header are text."""
    make_series(
        tmp_path, SeriesDescription="<script>alert('x')</script>&", PatientName="<b>\x1b[31m", PatientID='"><i>'
    )
    text = xd.database(tmp_path)._repr_html_()
    page = Page(text)
    assert not {"script", "b", "i"} & set(page.tags)
    assert "<script>" in page.text
    assert "\x1b" not in text


def test_only_a_few_have_pictures(database: xd.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large database reads few frames and shows few rows, and counts the others."""
    monkeypatch.setattr(notebook, "MOST_PICTURES", 1)
    monkeypatch.setattr(notebook, "MOST_ROWS", 2)
    page = Page(database._repr_html_())
    assert len(page.sources) == 1
    assert "and 1 more series" in page.text


def test_a_broken_frame_is_a_note(tmp_path: Path) -> None:
    """The reason stands in the place of the picture."""
    series = make_series(tmp_path)
    database = xd.database(tmp_path)
    for path in series.files:
        path.write_bytes(path.read_bytes()[:-30])
    page = Page(database._repr_html_())
    assert page.sources == []
    assert "no picture: " in page.text


def test_reports_and_empty_records(tmp_path: Path) -> None:
    """They are listed without a picture."""
    make_report(tmp_path / "a.dcm")
    assert Page(xd.database(tmp_path)._repr_html_()).sources == []
    memory = xd.database()
    assert "no DICOM here" in Page(memory._repr_html_()).text
    memory.new_patient(PatientName="Doe").new_study()
    assert "empty, unsaved" in Page(memory._repr_html_()).text
