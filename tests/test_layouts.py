"""Facts about reading headers of files that share a layout: what is found is what a walk would find."""

import random
import tempfile
from pathlib import Path

import pytest
import rawdicom as raw
from conftest import corpus_files, corpus_id
from hypothesis import given, settings
from hypothesis import strategies as st

from xdicom import layouts
from xdicom.errors import BrokenFileError, NotDicomError
from xdicom.header import Header, read_header
from xdicom.layouts import Layouts, Template
from xdicom.source import Source
from xdicom.walker import Layout, walk_layout


def contents(header: Header) -> tuple[object, ...]:
    """Return what a header says, values included."""
    return list(header.items()), header.pixels, header.transfer_syntax, header.problems, header.relocated


def read(path: object, known: Layouts) -> Header:
    """Return the header of a file, read with known layouts."""
    with Source(path) as source:
        return known.read_header(source)


def assert_as_walked(known: Layouts, source: Source) -> None:
    """Fail unless known layouts lead to what a walk finds, or both fail in the same way."""
    try:
        expected = contents(read_header(source))
    except (BrokenFileError, NotDicomError) as error:
        with pytest.raises(type(error)):
            known.read_header(source)
    else:
        assert contents(known.read_header(source)) == expected, source.path


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


def test_other_lengths_are_another_layout(tmp_path, walked):
    """A file of the same size in which one element is longer and another shorter is not walked either."""
    first, second = tmp_path / "first.dcm", tmp_path / "second.dcm"
    first.write_bytes(raw.changed())
    second.write_bytes(raw.changed(t00100010=("PN", b"Roe^Jackie"), t00180050=("DS", b"4 ")))
    assert first.stat().st_size == second.stat().st_size
    known = Layouts()
    assert [read(path, known).raw(raw.NAME) for path in (first, second)] == [b"Doe^Jane", b"Roe^Jackie"]
    assert len(walked) == 1


def endless(text: bytes, *, explicit: bool) -> bytes:
    """Return a sequence without lengths that holds one text."""
    item = raw.element(0xFFFEE000, "", b"", explicit=False, length=0xFFFFFFFF)
    inside = raw.element(0x00080100, "SH", text, explicit=explicit)
    ends = b"".join(raw.element(tag, "", b"", explicit=False) for tag in (0xFFFEE00D, 0xFFFEE0DD))
    head = raw.element(0x00081032, "SQ", b"", explicit=explicit, length=0xFFFFFFFF)
    return head + item + inside + ends


LENGTHS = st.integers(0, 40).map(lambda half: 2 * half)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        0x00080005: st.sampled_from([("CS", b"ISO_IR 100"), ("CS", b"")]),
        0x00080018: LENGTHS.map(lambda size: ("UI", b"1" * size)),
        raw.NAME: LENGTHS.map(lambda size: ("PN", b"n" * size)),
        raw.PRIVATE: LENGTHS.flatmap(lambda size: st.sampled_from([("LO", b"p" * size), ("OB", b"p" * size)])),
        0x00209999: LENGTHS.map(lambda size: ("UN", b"u" * size)),
        raw.PIXELS: st.sampled_from([("OW", raw.FRAME.tobytes()), ("OW", b"\0" * 20), ("OB", raw.FRAME.tobytes())]),
    },
)


def a_file(others: raw.Elements, sequence: bytes | None, syntax: str | None) -> bytes:
    """Return a file with other elements than usual, and a sequence without lengths."""
    explicit = syntax != raw.IMPLICIT
    elements = raw.base() | others
    parts = [raw.encoded({tag: value}, explicit=explicit) for tag, value in sorted(elements.items())]
    place = sum(tag < 0x00081032 for tag in elements)
    inside = [] if sequence is None else [endless(sequence, explicit=explicit)]
    return raw.file(b"".join(parts[:place] + inside + parts[place:]), syntax)


FILES = st.tuples(OTHERS, st.sampled_from([None, b"", b"ab", b"abcd"]))


@given(st.lists(FILES, min_size=2, max_size=4), st.sampled_from([raw.EXPLICIT, raw.IMPLICIT, None]))
@settings(max_examples=200)
def test_whatever_is_longer(files, syntax):
    """However values differ in length from those of files before, what is found is what a walk finds."""
    known = Layouts()
    with tempfile.TemporaryDirectory() as folder:
        for number, (others, sequence) in enumerate(files):
            path = Path(folder, f"{number}.dcm")
            path.write_bytes(a_file(others, sequence, syntax))
            with Source(path) as source:
                assert contents(known.read_header(source)) == contents(read_header(source))


def parts(layout: Layout) -> tuple[object, ...]:
    """Return what a layout says."""
    columns = layout.tags, layout.vrs, layout.offsets, layout.lengths
    return layout.transfer_syntax, layout.implicit, *columns, layout.pixels, layout.end, layout.guards.tolist()


@given(FILES, FILES, st.sampled_from([raw.EXPLICIT, raw.IMPLICIT]))
@settings(max_examples=300)
def test_a_stretched_layout_is_that_of_a_walk(one, other, syntax):
    """What a template is stretched to is all that a walk finds, and it is stretched where only lengths differ."""
    first, second = a_file(*one, syntax), a_file(*other, syntax)
    found = Template(walk_layout(first, len(first)), first).stretched(second, len(second))
    expected = walk_layout(second, len(second))
    if found is not None:
        assert parts(found.layout) == parts(expected)
        assert found.index.tolist() == expected.guard_index.tolist()
    elif one[1] == other[1] and syntax == raw.EXPLICIT:
        was = walk_layout(first, len(first))
        assert (
            (was.tags, was.vrs) != (expected.tags, expected.vrs)
            or was.pixels[:2] != expected.pixels[:2]
            or (was.pixels.length != expected.pixels.length)
        )


def read_as_a_walk_does(folder: Path, first: bytes, second: bytes) -> None:
    """Fail where a file is read as another than a walk finds, after one that is like it."""
    known = Layouts()
    for name, content in (("first", first), ("second", second)):
        path = folder / name
        path.write_bytes(content)
        with Source(path) as source:
            assert_as_walked(known, source)


def test_a_length_that_looks_like_a_vr(tmp_path):
    """In implicit VR, the first element may be so long that its length is a VR."""
    length = int.from_bytes(b"DS", "little")
    usual = raw.base() | {raw.PRIVATE: ("LO", b" " * length)}  # so that as much is read of the other file at once
    other = usual | {0x00080005: ("CS", b" " * length)}
    one, two = (raw.file(raw.encoded(elements, explicit=False), raw.IMPLICIT) for elements in (usual, other))
    read_as_a_walk_does(tmp_path, one, two)


def test_a_transfer_syntax_that_ends_like_another(tmp_path):
    """A longer transfer syntax is another one, also where all that was known of it is there two bytes later."""
    read_as_a_walk_does(tmp_path, raw.file(raw.body()), raw.file(raw.body(), f"1.{raw.EXPLICIT}"))


def test_an_empty_endless_sequence_that_gets_a_length(tmp_path):
    """A sequence of undefined length is another thing than one with a length before the same delimiter."""
    tag, end = 0x00081032, raw.element(0xFFFEE0DD, "", b"", explicit=False)
    before, behind = ({t: v for t, v in raw.base().items() if (t < tag) == first} for first in (True, False))
    one, other = (
        raw.file(raw.encoded(before) + raw.element(tag, "SQ", value, length=length) + end + raw.encoded(behind))
        for value, length in ((b"", 0xFFFFFFFF), (b"\0" * 8, 8))
    )
    read_as_a_walk_does(tmp_path, one, other)


def test_one_after_the_other_is_the_same_as_a_walk():
    """In whichever order files come, none is taken for one like those before it."""
    known = Layouts()
    paths = corpus_files()
    random.Random(0).shuffle(paths)
    for path in [path for path in paths for _ in range(2)]:
        with Source(path) as source:
            assert_as_walked(known, source)


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
            assert_as_walked(known, source)
