"""Facts about xdicom.splice and runs: an edited file has the old one's bytes but for the edit."""

import struct
import zlib
from pathlib import Path

import pydicom
import pytest
import rawdicom as raw
from conftest import corpus_files, corpus_id
from lossless import differences, flat, parsed, rest_is_same, wrong_group_lengths
from pydicom.uid import DeflatedExplicitVRLittleEndian

from xdicom.errors import BrokenFileError, NotDicomError, SaveError
from xdicom.header import read_header
from xdicom.instance import read_instance
from xdicom.placing import placed
from xdicom.source import Source
from xdicom.splice import NewPixels, spliced

NAME, DESCRIPTION, CHARSET, DATE = 0x00100010, 0x00081030, 0x00080005, 0x00080020
CODES, CLASS = 0x00081032, 0x00080016
ITEM = raw.item(raw.element(0x00080100, "SH", b"T-1 ") + raw.element(0x00080104, "LO", b"meaning "))
# An edit of each kind: VR and value of the element, None where it goes.
EDITS = {
    "longer": (NAME, ("PN", b"A^" + b"long name " * 5)),
    "shorter": (NAME, ("PN", b"A ")),
    "empty": (NAME, ("PN", b"")),
    "removed": (0x0020000D, None),
    "new": (0x00104000, ("LT", b"comments")),
    "private": (0x00710010, ("LO", b"xdicom test ")),
    "private, first": (0x00090010, ("LO", b"xdicom test ")),
    "sequence": (CODES, ("SQ", ITEM)),
    "last": (0x00400275, ("SQ", ITEM + ITEM)),
    "class": (CLASS, ("UI", b"1.2.840.10008.5.1.4.1.1.7\0")),
}


def edited(path: Path, changes: dict, **options: object) -> bytes:
    """Return a file with top-level elements changed."""
    with Source(path) as source:
        return b"".join(spliced(source, read_header(source), changes, **options))


def written(tmp_path: Path, content: bytes) -> Path:
    """Write bytes and return where."""
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    return path


def check(path: Path, tag: int, value: tuple[str, bytes] | None) -> bytes:
    """Edit one element; hold everything else against the old file, and the element against what it should be."""
    old, new = path.read_bytes(), edited(path, {tag: value})
    found = differences(old, new, {tag})
    if tag == CLASS:
        found = [text for text in found if not text.startswith("meta/00020002")]
    if value and value[0] == "SQ":
        found = [text for text in found if not text.startswith(f"{tag:08X}")]
    assert found == []
    assert set(wrong_group_lengths(new)) <= set(wrong_group_lengths(old))
    after = flat(new)
    if value is None:
        assert (tag,) not in after
    elif value[0] != "SQ":
        assert after[(tag,)][1] == value[1]
    return new


def readable(path: Path) -> bool:
    """Say whether xdicom reads a file."""
    try:
        with Source(path) as source:
            read_header(source)
    except (NotDicomError, BrokenFileError):
        return False
    return True


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("path", corpus_files(), ids=corpus_id)
def test_corpus(path, kind):
    """Of every corpus file that can be read, an edit changes its element and nothing else; none is refused."""
    if not readable(path):
        pytest.skip("platform: broken on purpose")
    tag, value = EDITS[kind]
    new = check(path, tag, value)
    if parsed(path.read_bytes()).file_meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        assert rest_is_same(path.read_bytes(), new, tag)


# Odd files ---------------------------------------------------------------------------------------------------------


def image(**options: object) -> bytes:
    """Return the elements of the valid image."""
    return raw.encoded(raw.base(options.get("order", "<")), **options)


def grouped(body: bytes, *, explicit: bool = True, order: str = "<") -> bytes:
    """Return elements behind a true length of group 0008."""
    end = body.index(struct.pack(order + "HH", 0x0010, 0x0010))
    length = struct.pack(order + "L", end)
    return raw.element(0x00080000, "UL", length, explicit=explicit, order=order) + body


_NAME = raw.element(NAME, "PN", b"Doe^Jane")
ODD = {
    "explicit": raw.file(image()),
    "implicit": raw.file(image(explicit=False), raw.IMPLICIT),
    "big endian": raw.file(image(order=">"), raw.BIG),
    "group lengths": raw.file(grouped(image())),
    "implicit group lengths": raw.file(grouped(image(explicit=False), explicit=False), raw.IMPLICIT),
    "big-endian group lengths": raw.file(grouped(image(order=">"), order=">"), raw.BIG),
    "no preamble": raw.meta(raw.EXPLICIT) + image(),
    "no meta": image(),
    "no meta, implicit": image(explicit=False),
    "no length of group 2": bytes(128) + b"DICM" + raw.meta(raw.EXPLICIT, group_length=None) + image(),
    "a preamble": raw.file(image(), preamble=b"II*\0" + bytes(range(124))),
    "behind the pixels": raw.file(image() + raw.element(0xFFFCFFFC, "OB", bytes(8))),
    "junk behind the pixels": raw.file(image() + b"\1\2\3\4\5\6\7"),
    "twice": raw.file(image().replace(_NAME, _NAME + raw.element(NAME, "PN", b"A "))),
    "out of order": raw.file(raw.element(0x00400275, "SQ", ITEM) + image()),
    "GE private": raw.file(image(explicit=False), "1.2.840.113619.5.2"),
    "truncated pixels": raw.file(image()[:-7]),
    "VR against syntax": raw.file(image(explicit=False), raw.EXPLICIT),
}


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("odd", ODD)
def test_odd(tmp_path, odd, kind):
    """Whatever surrounds the elements stays as it is, and group lengths stay true."""
    path = written(tmp_path, ODD[odd])
    tag, value = EDITS[kind]
    new = check(path, tag, value)
    assert wrong_group_lengths(new) == []
    assert odd in ("twice", "out of order") or rest_is_same(ODD[odd], new, tag)


def test_no_changes(tmp_path):
    """Without changes a file is the same to the byte."""
    for content in ODD.values():
        assert edited(written(tmp_path, content), {}) == content


UNDEFINED = 0xFFFFFFFF
END, ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0), struct.pack("<HHL", 0xFFFE, 0xE00D, 0)


@pytest.mark.parametrize("explicit", [True, False])
def test_undefined_lengths(tmp_path, explicit):
    """Sequences and items of undefined length stay so beside an edit; replaced ones go whole."""
    code = raw.element(0x00080100, "SH", b"T-1 ", explicit=explicit)
    opened = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
    inner = raw.element(0x00400008, "SQ", opened + code + ITEM_END, explicit=explicit, length=UNDEFINED) + END
    item = opened + code + inner + ITEM_END
    elements = raw.base()
    before = raw.encoded({tag: elements[tag] for tag in elements if tag < CODES}, explicit=explicit)
    after = raw.encoded({tag: elements[tag] for tag in elements if tag > CODES}, explicit=explicit)
    sequence = raw.element(CODES, "SQ", item, explicit=explicit, length=UNDEFINED) + END
    syntax = raw.EXPLICIT if explicit else raw.IMPLICIT
    path = written(tmp_path, raw.file(before + sequence + after, syntax))
    assert edited(path, {CODES: None}) == raw.file(before + after, syntax)
    assert edited(path, {NAME: ("PN", b"B ")}).count(sequence) == 1
    new = edited(path, {CODES: ("SQ", ITEM)})
    assert parsed(new).ProcedureCodeSequence[0].CodeMeaning == "meaning"
    assert rest_is_same(path.read_bytes(), new, CODES)


def test_an_edit_of_many(tmp_path):
    """Several edits of one file are as good as one after the other."""
    changes = dict(EDITS.values())
    path = written(tmp_path, ODD["group lengths"])
    at_once = edited(path, changes)
    for tag, value in changes.items():
        path.write_bytes(edited(path, {tag: value}))
    assert path.read_bytes() == at_once


def test_the_class_in_group_2_follows(tmp_path):
    """An edited SOPClassUID or SOPInstanceUID is in the file meta elements too."""
    path = written(tmp_path, ODD["explicit"])
    new = parsed(edited(path, {CLASS: ("UI", b"1.2.3\0"), 0x00080018: ("UI", b"1.2.4\0")}))
    meta = new.file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == ("1.2.3", "1.2.4")


def test_numbers_in_big_endian(tmp_path):
    """Numbers, tags and nested sequences go into a big-endian file in its byte order."""
    item = raw.item(raw.element(0x00281050, "DS", b"1 ") + raw.element(0x00280106, "US", b"\1\0"))
    nested = raw.item(raw.element(0x00283010, "SQ", item))
    changes = {
        0x00189089: ("FD", struct.pack("<3d", 1, 2, 3)),
        0x00280009: ("AT", b"\x18\0\x63\x10"),
        CODES: ("SQ", nested),
    }
    new = parsed(edited(written(tmp_path, ODD["big endian"]), changes))
    assert new.DiffusionGradientOrientation == [1, 2, 3]
    assert new.FrameIncrementPointer == 0x00181063
    assert new.ProcedureCodeSequence[0].VOILUTSequence[0].SmallestImagePixelValue == 1


def deflated(content: bytes) -> bytes:
    """Return elements as the dataset of a deflated file."""
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = engine.compress(content) + engine.flush()
    return raw.file(packed + b"\0" * (len(packed) % 2), raw.DEFLATED)


@pytest.mark.parametrize("kind", EDITS)
def test_deflated(tmp_path, kind):
    """A deflated file is inflated, spliced and deflated."""
    tag, value = EDITS[kind]
    new = check(written(tmp_path, deflated(ODD["behind the pixels"][len(raw.file(b"")) :])), tag, value)
    assert parsed(new).file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert len(new) % 2 == 0
    assert parsed(new)[0xFFFCFFFC].value == bytes(8)


def test_elements_behind_the_pixels(tmp_path):
    """What is, or belongs, behind the pixels is edited there."""
    path = written(tmp_path, ODD["behind the pixels"])
    new = parsed(edited(path, {0xFFFCFFFC: ("OB", b"ab"), 0xFFFAFFFA: ("SQ", b"")}))
    assert (new[0xFFFCFFFC].value, len(new[0xFFFAFFFA].value)) == (b"ab", 0)
    assert edited(path, {0xFFFCFFFC: None}) == ODD["explicit"]
    with pytest.raises(SaveError, match="cannot be parsed"):
        edited(written(tmp_path, ODD["junk behind the pixels"]), {0xFFFCFFFC: None})


def test_what_only_pydicom_reads(tmp_path):
    """A file with an unknown VR cannot be spliced safely: it is refused before anything is written, with the reason."""
    content = raw.file(raw.encoded({**raw.base(), 0x00080070: ("XX", b"ab")}))
    path = written(tmp_path, content)
    with Source(path) as source, pytest.raises(SaveError, match="cannot be edited safely"):
        spliced(source, read_header(source), {NAME: None})


# Pixels ------------------------------------------------------------------------------------------------------------

NEW = bytes(range(60))


def with_pixels(content: bytes, tmp_path: Path, changes: dict | None = None) -> pydicom.FileDataset:
    """Return a file after its pixels were replaced."""
    path = written(tmp_path, content)
    return parsed(edited(path, changes or {}, pixels=NewPixels(60, 16, lambda: [NEW[:30], NEW[30:]])))


@pytest.mark.parametrize("odd", ["explicit", "implicit", "no meta", "behind the pixels", "junk behind the pixels"])
def test_new_pixels(tmp_path, odd):
    """Native pixels take the place of native ones, and what is behind them stays."""
    new = with_pixels(ODD[odd], tmp_path)
    assert new.PixelData == NEW
    assert (
        differences(ODD[odd], edited(tmp_path / "a.dcm", {}, pixels=NewPixels(60, 16, lambda: [NEW])), {0x7FE00010})
        == []
    )


def test_new_pixels_in_big_endian(tmp_path):
    """In a big-endian file the words of new pixels are turned."""
    assert with_pixels(ODD["big endian"], tmp_path).PixelData == b"".join(NEW[i : i + 2][::-1] for i in range(0, 60, 2))


def test_new_pixels_of_a_deflated_file(tmp_path):
    """New pixels are deflated with the rest."""
    assert with_pixels(deflated(image()), tmp_path).PixelData == NEW


FRAGMENTS = [b"first frame ", b"2nd ", b"third "]


def compressed(*, table: bool, extended: bool = False) -> bytes:
    """Return a file of three RLE frames, one fragment each."""
    places = [0, 20, 32]
    elements = {tag: value for tag, value in raw.base().items() if tag != raw.PIXELS} | {raw.FRAMES: ("IS", b"3 ")}
    if extended:
        elements[0x7FE00001] = "OV", struct.pack("<3Q", *places)
        elements[0x7FE00002] = "OV", struct.pack("<3Q", *map(len, FRAGMENTS))
    value = raw.item(struct.pack("<3L", *places) if table else b"") + b"".join(map(raw.item, FRAGMENTS)) + END
    return raw.file(raw.encoded(elements) + raw.element(raw.PIXELS, "OB", value, length=UNDEFINED), raw.RLE)


def test_compressed_pixels_stay(tmp_path):
    """The header of a compressed file changes, its fragments and tables do not."""
    content = compressed(table=True, extended=True)
    new = check(written(tmp_path, content), *EDITS["longer"])
    assert new.endswith(content[content.index(b"\xe0\x7f\x01\0") :])


def test_native_pixels_for_compressed_ones(tmp_path):
    """New pixels of a compressed file are native: the transfer syntax says so, and offset tables go."""
    new = with_pixels(compressed(table=True, extended=True), tmp_path, {raw.FRAMES: ("IS", b"1 ")})
    assert new.PixelData == NEW
    assert new.file_meta.TransferSyntaxUID == raw.EXPLICIT
    assert 0x7FE00001 not in new
    assert 0x7FE00002 not in new
    assert wrong_group_lengths(edited(tmp_path / "a.dcm", {}, pixels=NewPixels(60, 16, lambda: [NEW]))) == []


@pytest.mark.parametrize("keep", [[0], [1], [0, 2], [1, 2]])
@pytest.mark.parametrize("tables", [(True, False), (False, False), (False, True)])
def test_frames_that_stay_compressed(tmp_path, keep, tables):
    """Of a compressed file some frames stay as they are, and the tables say where they lie now."""
    path = written(tmp_path, compressed(table=tables[0], extended=tables[1]))
    count = {raw.FRAMES: ("IS", f"{len(keep)} ".encode())}
    new = written(tmp_path, edited(path, count, keep=keep))
    with Source(new) as source:
        header = read_header(source)
        spans = [source.read(*span) for span in header.fragments[1:]]
        instance = read_instance(header)
        assert [
            source.read(start + 8, size - 8) for start, size in zip(instance.offsets, instance.lengths, strict=True)
        ] == spans
    assert spans == [FRAGMENTS[i] for i in keep]
    assert bool(header.offset_table) == tables[0]
    if tables[1]:
        assert struct.unpack(f"<{len(keep)}Q", header.raw(0x7FE00002)) == tuple(len(FRAGMENTS[i]) for i in keep)


def test_frames_that_stay_native(tmp_path):
    """Of a native file the bytes of some frames stay."""
    elements = raw.base() | {raw.FRAMES: ("IS", b"3 "), raw.PIXELS: ("OW", NEW * 3)}
    elements |= {raw.ROWS: ("US", b"\6\0"), raw.COLUMNS: ("US", b"\5\0")}
    elements[raw.PIXELS] = "OW", NEW + NEW[::-1] + NEW
    path = written(tmp_path, raw.file(raw.encoded(elements)))
    assert parsed(edited(path, {raw.FRAMES: ("IS", b"1 ")}, keep=[1])).PixelData == NEW[::-1]


def test_pixels_that_cannot_be_told_apart(tmp_path):
    """Frames of damaged pixels cannot be removed."""
    path = written(tmp_path, ODD["truncated pixels"])
    with pytest.raises(SaveError, match="cannot be told apart"):
        edited(path, {}, keep=[0])


def test_placed_at_the_top_level(tmp_path):
    """In a plain file every edit goes to the top level."""
    with Source(written(tmp_path, ODD["explicit"])) as source:
        assert placed(read_header(source), 1, {NAME: [None]}) == {NAME: None}
