"""Facts about reading headers of files that share a layout: what is found is what a walk would find."""

import pytest
import rawdicom as raw
from conftest import corpus_files, corpus_id

from xdicom import layouts
from xdicom.errors import BrokenFileError, NotDicomError
from xdicom.header import Header, read_header
from xdicom.layouts import Layouts
from xdicom.source import Source


def contents(header: Header) -> tuple[object, ...]:
    """Return what a header says, values included."""
    return list(header.items()), header.pixels, header.transfer_syntax, header.problems, header.relocated


def read(path: object, known: Layouts) -> Header:
    """Return the header of a file, read with known layouts."""
    with Source(path) as source:
        return known.read_header(source)


@pytest.fixture
def walked(monkeypatch):
    """Give a list of the files that were walked."""
    paths = []

    def walk(source: Source, window: int) -> Header:
        paths.append(source.path)
        return read_header(source, window)

    monkeypatch.setattr(layouts, "read_header", walk)
    return paths


@pytest.mark.parametrize("path", corpus_files(), ids=corpus_id)
def test_same_as_a_walk(path):
    """The second reading of any file finds what the first one found, or fails in the same way."""
    known = Layouts()
    try:
        with Source(path) as source:
            expected = contents(read_header(source))
    except (BrokenFileError, NotDicomError) as error:
        for _ in range(2):
            with pytest.raises(type(error)):
                read(path, known)
        return
    assert [contents(read(path, known)) for _ in range(2)] == [expected, expected]


def test_a_known_layout_is_not_walked(tmp_path, walked):
    """A file with the element headers of an earlier one and other values is read without a walk."""
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    first.write_bytes(raw.changed())
    second.write_bytes(raw.changed(t00100010=("PN", b"Roe^Jack")))
    known = Layouts()
    assert [read(path, known).raw(raw.NAME) for path in (first, second)] == [b"Doe^Jane", b"Roe^Jack"]
    assert len(walked) == 1


def test_other_lengths_are_walked(tmp_path, walked):
    """A file of the same size in which one element is longer and another shorter has its own layout."""
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    first.write_bytes(raw.changed())
    second.write_bytes(raw.changed(t00100010=("PN", b"Roe^Jackie"), t00180050=("DS", b"4 ")))
    assert first.stat().st_size == second.stat().st_size
    known = Layouts()
    assert [read(path, known).raw(raw.NAME) for path in (first, second)] == [b"Doe^Jane", b"Roe^Jackie"]
    assert len(walked) == 2


@pytest.mark.parametrize("syntax", [raw.EXPLICIT, raw.IMPLICIT])
def test_one_byte_differs(tmp_path, syntax):
    """Whichever byte differs from a known file, what is read is what a walk finds."""
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    content = raw.file(raw.encoded(raw.base(), explicit=syntax == raw.EXPLICIT), syntax)
    first.write_bytes(content)
    known = Layouts()
    read(first, known)
    for place in range(128, len(content)):
        second.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with Source(second) as source:
            try:
                expected = contents(read_header(source))
            except (BrokenFileError, NotDicomError) as error:
                with pytest.raises(type(error)):
                    known.read_header(source)
            else:
                assert contents(known.read_header(source)) == expected
