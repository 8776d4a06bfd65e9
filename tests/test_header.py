"""Headers: equal to pydicom for any dataset, and what is told of damaged files."""

import io
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from faults import ELEMENTS, FAULTS, nested
from headers import by_pydicom, differences, read
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from rawdicom import (
    BIG,
    DEFLATED,
    EXPLICIT,
    FRAME,
    IMPLICIT,
    PIXELS,
    base,
    body,
    changed,
    element,
    encoded,
    file,
    item,
    meta,
)

from xdicom import header as header_module
from xdicom import walker
from xdicom.errors import BrokenFileError, NotDicomError
from xdicom.header import inflated
from xdicom.source import Source

SYNTAXES = [EXPLICIT, IMPLICIT, BIG, DEFLATED]
_TEXT = st.text("ABCXYZ 019", min_size=0, max_size=12)
_NUMBERS = st.lists(st.integers(0, 65535), max_size=5)
_VALUES = {
    0x00080008: ("CS", st.lists(st.sampled_from(["ORIGINAL", "PRIMARY", "M"]), max_size=3)),
    0x00081030: ("LO", _TEXT),
    0x00100010: ("PN", _TEXT),
    0x00181310: ("US", _NUMBERS),
    0x00189087: ("FD", st.floats(allow_nan=False, allow_infinity=False)),
    0x00189075: ("CS", st.just("NONE")),
    0x00209165: ("AT", st.sampled_from([0x00100010, 0x7FE00010])),
    0x00281053: ("DS", st.sampled_from(["1", "1.5", "-2.25"])),
    0x00091001: ("LO", _TEXT),
    0x00091002: ("OB", st.binary(max_size=9).map(lambda raw: raw + b"\0" * (len(raw) % 2))),
    0x00091003: ("UN", st.binary(max_size=9).map(lambda raw: raw + b"\0" * (len(raw) % 2))),
    0x00091004: ("UL", st.integers(0, 2**32 - 1)),
    0x00091005: ("SL", st.integers(-(2**31), 2**31 - 1)),
}
_SEQUENCES = [0x00081140, 0x0040A730, 0x00091007, 0x52009230]


@st.composite
def datasets(draw: st.DrawFn, depth: int = 3) -> Dataset:
    """Draw a dataset with sequences in it, of defined and undefined length, private ones too."""
    made = Dataset()
    made.add_new(0x00090010, "LO", "FACTORY")
    for tag in draw(st.sets(st.sampled_from(sorted(_VALUES)), max_size=6)):
        vr, values = _VALUES[tag]
        made.add_new(tag, vr, draw(values))
    for tag in draw(st.sets(st.sampled_from(_SEQUENCES), max_size=2)) if depth else []:
        made.add_new(tag, "SQ", Sequence(draw(st.lists(datasets(depth - 1), max_size=3))))
        made[tag].is_undefined_length = draw(st.booleans())
        for one in made[tag].value:
            one.is_undefined_length_sequence_item = draw(st.booleans())
    return made


def written(dataset: Dataset, syntax: str, folder: Path) -> Path:
    """Write a dataset as a file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "2.25.1"
    target = io.BytesIO()
    dcmwrite(target, dataset, enforce_file_format=True)
    path = folder / "made.dcm"
    path.write_bytes(target.getvalue())
    return path


def made(folder: Path, content: bytes) -> Path:
    """Write bytes into a file."""
    path = folder / "file.dcm"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(dataset=datasets())
def test_any_dataset_equals_pydicom(dataset: Dataset, syntax: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever pydicom writes is read as pydicom reads it."""
    path = written(dataset, syntax, tmp_path_factory.mktemp("any"))
    assert differences(read(path), by_pydicom(path)) == []


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(dataset=datasets(), data=st.data())
def test_any_cut_of_a_file_is_noticed(
    dataset: Dataset, syntax: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file cut inside its pixel data or its header raises or tells a problem."""
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated, dataset.SamplesPerPixel, dataset.PixelRepresentation = 16, 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.add_new(PIXELS, "OW", bytes(32))
    path = written(dataset, syntax, tmp_path_factory.mktemp("cut"))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(400, len(whole) - 2))])
    try:
        header = read(path)
    except BrokenFileError:
        return
    assert header.problems or header.pixels is None


@given(where=st.integers(132, 900), value=st.binary(min_size=1, max_size=4))
def test_damaged_bytes_never_escape(where: int, value: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Junk anywhere in a header gives a header, or one of two errors, and no warning."""
    whole = bytearray(file(encoded(base())))
    whole[where : where + len(value)] = value
    path = made(tmp_path_factory.mktemp("junk"), bytes(whole))
    with suppress(BrokenFileError, NotDicomError):
        read(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_are_little_endian_whatever_the_file(tmp_path: Path, order: str) -> None:
    """Raw values of a big-endian file are turned round, text is not."""
    syntax = EXPLICIT if order == "<" else BIG
    header = read(made(tmp_path, file(encoded(base(order), order=order), syntax)))
    assert (header.raw(0x00280010), header.raw(0x00100010)) == (b"\6\0", b"Doe^Jane")


def test_values_are_not_touched_by_the_fallback(tmp_path: Path) -> None:
    """Trailing spaces and junk numbers in a file that pydicom reads stay as they are."""
    elements = base(">") | {0x00180050: ("DS", b"four    "), 0x0008103E: ("LO", b"x     ")}
    header = read(made(tmp_path, file(encoded(elements, order=">"), BIG)))
    assert (header.raw(0x00180050), header.raw(0x0008103E)) == (b"four    ", b"x     ")


def test_elements_behind_the_pixels_are_read(tmp_path: Path) -> None:
    """Trailing padding is an element by value."""
    header = read(made(tmp_path, file(body() + element(0xFFFCFFFC, "OB", b"abcd"))))
    assert header.raw(0xFFFCFFFC) == b"abcd"


def test_elements_behind_big_endian_pixels_are_read(tmp_path: Path) -> None:
    """So it is in big endian."""
    content = encoded(base(">"), order=">") + element(0xFFFCFFFC, "OB", b"abcd", order=">")
    assert read(made(tmp_path, file(content, BIG))).raw(0xFFFCFFFC) == b"abcd"


def test_junk_behind_the_pixels_is_a_problem(tmp_path: Path) -> None:
    """Bytes that are no elements are told, and the file is read."""
    header = read(made(tmp_path, file(body() + b"\xde\xad\xbe\xef" * 9)))
    assert header.problems == ["36 bytes that are no elements follow the pixel data"]


def test_zeros_behind_the_pixels_are_none(tmp_path: Path) -> None:
    """Padding to a block size is common and harmless."""
    assert read(made(tmp_path, file(body() + bytes(512)))).problems == []


def test_of_duplicates_the_last_counts(tmp_path: Path) -> None:
    """As pydicom has it."""
    header = read(FAULTS["duplicate_tag"].make(tmp_path))
    assert header.raw(0x00291001) == b"second"


@pytest.mark.parametrize(
    ("content", "syntax"),
    [
        (meta(EXPLICIT) + body(), EXPLICIT),
        (body(), EXPLICIT),
        (encoded(base(), explicit=False), IMPLICIT),
        (encoded(base(">"), order=">"), BIG),
    ],
    ids=["no preamble", "explicit", "implicit", "big endian"],
)
def test_files_without_preamble_or_meta_are_read(tmp_path: Path, content: bytes, syntax: str) -> None:
    """The encoding is seen from the first element; offsets point into the file."""
    path = made(tmp_path, content)
    header = read(path)
    assert header.pixels is not None
    assert header.transfer_syntax == syntax
    order = ">" if syntax == BIG else "<"
    assert content[header.pixels.offset :] == FRAME.astype(f"{order}u2").tobytes()


@pytest.mark.parametrize(("syntax", "explicit"), [(EXPLICIT, False), (IMPLICIT, True)])
def test_wrong_vr_encoding_is_read_and_told(tmp_path: Path, syntax: str, explicit: bool) -> None:
    """The elements decide, not the transfer syntax."""
    header = read(made(tmp_path, file(encoded(base(), explicit=explicit), syntax)))
    assert header.raw(0x00100010) == b"Doe^Jane"
    assert "against transfer syntax" in header.problems[0]


def test_big_endian_under_another_name_is_told(tmp_path: Path) -> None:
    """The byte order is seen from the elements; pydicom would read junk."""
    with pytest.raises(BrokenFileError, match="in big endian, against transfer syntax"):
        read(FAULTS["little_is_big"].make(tmp_path))


@pytest.mark.parametrize("end", [300, 333, 450])
def test_truncated_big_endian_header_is_broken(tmp_path: Path, end: int) -> None:
    """Where pydicom takes what is there of the last value, the file is refused."""
    with pytest.raises(BrokenFileError):
        read(made(tmp_path, file(encoded(base(">"), order=">"), BIG)[:end]))


@pytest.mark.parametrize("name", ["truncated_header", "truncated_meta", "deflate_bomb", "nested_20000"])
def test_damage_is_broken(tmp_path: Path, name: str) -> None:
    """What cannot be trusted raises with a reason in one line."""
    with pytest.raises(BrokenFileError) as caught:
        read(FAULTS[name].make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["zero_bytes", "text_short", "text_long", "csv", "json", "gzip", "jpeg", "zeros"])
def test_foreign_files_are_no_dicom(tmp_path: Path, name: str) -> None:
    """What is something else is not called broken."""
    with pytest.raises(NotDicomError):
        read(FAULTS[name].make(tmp_path))


def test_deepest_nesting_is_read_by_pydicoms_way_too(tmp_path: Path) -> None:
    """A big-endian or deflated file nested as deep as is allowed does not end Python's stack."""
    assert ELEMENTS["nested_100"]
    header = read(made(tmp_path, nested(150)))
    assert 0x00081140 in header.elements


def test_truncated_pixels_leave_the_header(tmp_path: Path) -> None:
    """Everything before the pixels is there, and the problem says how many bytes are missing."""
    header = read(FAULTS["truncated_pixels"].make(tmp_path))
    assert header.raw(0x00100010) == b"Doe^Jane"
    assert header.problems == ["the pixel data is truncated: 60 bytes are announced, 40 are there"]


def test_flood_of_elements_is_broken(tmp_path: Path) -> None:
    """8 MB of empty elements are given up, whoever reads."""
    flood = element(0x00091001, "LO", b"") * 1_000_000
    with pytest.raises(BrokenFileError, match="more than 50000 elements"):
        read(made(tmp_path, file(flood)))


def test_flood_for_pydicom_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds in the fallback."""
    monkeypatch.setattr(header_module, "MAX_ELEMENTS", 100)
    flood = b"".join(element(0x00091001 + i, "LO", b"", order=">") for i in range(200))
    with pytest.raises(BrokenFileError, match="more than 100 elements"):
        read(made(tmp_path, file(flood, BIG)))


def test_huge_sparse_file_is_read_in_a_moment(tmp_path: Path) -> None:
    """Three gigabytes of pixels are not read: only the front of the file is."""
    elements = base()
    del elements[PIXELS]
    content = file(encoded(elements) + element(PIXELS, "OW", b"", length=3 << 30))
    path = made(tmp_path, content)
    with open(path, "r+b") as target:
        target.truncate(len(content) + (3 << 30))
    header = read(path)
    assert header.pixels is not None
    assert header.pixels.length == 3 << 30


def test_inflation_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deflated dataset of more than the limit is refused before it is held."""
    monkeypatch.setattr(header_module, "MAX_INFLATED", 300)
    path = FAULTS["valid_deflated"].make(tmp_path)
    with Source(path) as source, pytest.raises(BrokenFileError, match="larger than 300 bytes"):
        inflated(source, walker.walk_meta(path.read_bytes(), 10**6).position)


def test_warnings_of_pydicom_become_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pydicom warns of is told of the file and goes no further."""
    plain = header_module._through_pydicom

    def warned(source: Source) -> header_module.Header:
        warnings.warn("something odd\nin two lines", UserWarning, stacklevel=1)
        return plain(source)

    monkeypatch.setattr(header_module, "_through_pydicom", warned)
    assert read(FAULTS["valid_big_endian"].make(tmp_path)).problems == ["pydicom: something odd"]


def test_fragments_are_listed_with_the_table_first(tmp_path: Path) -> None:
    """Encapsulated pixels are located fragment by fragment."""
    fragments = item(b"\0\0\0\0") + item(b"abcd") + item(b"ef")
    content = file(
        element(PIXELS, "OB", fragments, length=0xFFFFFFFF) + b"\xfe\xff\xdd\xe0\0\0\0\0", "1.2.840.10008.1.2.5"
    )
    header = read(made(tmp_path, content))
    assert [content[start : start + size] for start, size in header.fragments] == [b"\0\0\0\0", b"abcd", b"ef"]
    assert header.offset_table == (0,)


def test_absent_elements_raise_keyerror(tmp_path: Path) -> None:
    """No value is invented."""
    header = read(made(tmp_path, changed(drop=0x00100010)))
    with pytest.raises(KeyError):
        header.raw(0x00100010)


def test_odd_numbers_stay_whole(tmp_path: Path) -> None:
    """A big-endian value whose length is no multiple of its number keeps its last byte."""
    elements = base(">") | {0x00181310: ("US", np.array([1, 2], ">u2").tobytes() + b"\7")}
    header = read(made(tmp_path, file(encoded(elements, order=">"), BIG)))
    assert header.raw(0x00181310) == b"\1\0\2\0\7"
