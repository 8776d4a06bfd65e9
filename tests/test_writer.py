"""Facts about xdicom.writer: new files, byte for byte, and what happens when they can't be written."""

import errno
import hashlib
import os
import stat
import struct
import subprocess

import numpy as np
import pydicom
import pytest
from conftest import debian_tool
from factories import make_image, uid
from hypothesis import given
from hypothesis import strategies as st

import xdicom
from xdicom.errors import SaveError, TagValueError
from xdicom.header import read_header
from xdicom.source import Source
from xdicom.writer import (
    IMPLEMENTATION_CLASS_UID,
    check_pixel_module,
    element_bytes,
    flush_directory,
    sequence_bytes,
    write_file,
)

MR = "1.2.840.10008.5.1.4.1.1.4"


def us(number):
    """Return a raw US."""
    return struct.pack("<H", number)


def header(rows=2, columns=3, bits=16, signed=0, **more):
    """Return the elements of an image, by tag."""
    stored = more.get("stored", bits)
    return {
        0x00080016: ("UI", MR.encode()),
        0x00080018: ("UI", uid("instance").encode()),
        0x00100010: ("PN", b"Doe^Jane"),
        0x00280002: ("US", us(1)),
        0x00280004: ("CS", b"MONOCHROME2"),
        0x00280010: ("US", us(rows)),
        0x00280011: ("US", us(columns)),
        0x00280100: ("US", us(bits)),
        0x00280101: ("US", us(stored)),
        0x00280102: ("US", us(more.get("high_bit", stored - 1))),
        0x00280103: ("US", us(signed)),
    }


def listed(values):
    """Return elements by tag as a list."""
    return [(tag, vr, raw) for tag, (vr, raw) in values.items()]


PIXELS = np.arange(6, dtype="<u2").tobytes()


# What is written -----------------------------------------------------------------------------------------------------


def test_pydicom_reads_what_was_written(tmp_path):
    """Elements and pixels come back through pydicom, which warns of nothing."""
    write_file(tmp_path / "a.dcm", listed(header()), PIXELS)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    assert ds.PatientName == "Doe^Jane"
    assert ds.pixel_array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_elements_are_sorted(tmp_path):
    """Elements may come in any order, and are written sorted by tag."""
    write_file(tmp_path / "a.dcm", reversed(listed(header())), PIXELS)
    tags = [element.tag for element in pydicom.dcmread(tmp_path / "a.dcm")]
    assert tags == sorted(tags)


def test_elements_behind_the_pixels_stay_behind(tmp_path):
    """An element with a tag above PixelData is written after it."""
    write_file(tmp_path / "a.dcm", [*listed(header()), (0x7FE10010, "LO", b"CREATOR ")], PIXELS)
    assert next(reversed(list(pydicom.dcmread(tmp_path / "a.dcm")))).tag == 0x7FE10010


def test_group_2_is_new(tmp_path):
    """Group 2 says class, instance, syntax and who wrote it, with the length that it has; the old one is dropped."""
    old = [(0x00020010, "UI", b"1.2.840.10008.1.2"), (0x00020016, "AE", b"OLD ")]
    write_file(tmp_path / "a.dcm", [*old, *listed(header())], PIXELS)
    meta = pydicom.dcmread(tmp_path / "a.dcm").file_meta
    assert [element.tag.element for element in meta] == [0x00, 0x01, 0x02, 0x03, 0x10, 0x12, 0x13]
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (MR, uid("instance"))
    assert (meta.TransferSyntaxUID, meta.ImplementationClassUID) == ("1.2.840.10008.1.2.1", IMPLEMENTATION_CLASS_UID)
    assert meta.ImplementationVersionName == f"XDICOM_{xdicom.__version__}"
    raw = (tmp_path / "a.dcm").read_bytes()
    assert raw[:132] == bytes(128) + b"DICM"
    assert raw[144 + meta.FileMetaInformationGroupLength :].startswith(b"\x08\x00\x16\x00UI")


def test_group_lengths_are_left_out(tmp_path):
    """Retired group lengths would be wrong and are not written."""
    write_file(tmp_path / "a.dcm", [*listed(header()), (0x00080000, "UL", bytes(4))], PIXELS)
    assert 0x00080000 not in pydicom.dcmread(tmp_path / "a.dcm")


def test_own_header_reader_agrees(tmp_path):
    """What `read_header` reads is what was given, to the byte."""
    values = header()
    write_file(tmp_path / "a.dcm", listed(values), PIXELS)
    with Source(tmp_path / "a.dcm") as source:
        found = read_header(source)
        read = {tag: (found.vr(tag), found.raw(tag)) for tag in values}
    assert read == {
        tag: (vr, raw + (b" " if vr == "CS" else b"\0") * (len(raw) % 2)) for tag, (vr, raw) in values.items()
    }


@pytest.mark.parametrize(("bits", "vr"), [(8, b"OB"), (16, b"OW")])
def test_pixel_vr_follows_bits_allocated(tmp_path, bits, vr):
    """Pixels of 8 bits are OB, of 16 bits OW."""
    write_file(tmp_path / "a.dcm", listed(header(bits=bits)), bytes(6 * bits // 8))
    assert b"\xe0\x7f\x10\x00" + vr in (tmp_path / "a.dcm").read_bytes()


def test_odd_pixels_are_padded(tmp_path):
    """Nine bytes of pixels are followed by one of padding."""
    write_file(tmp_path / "a.dcm", listed(header(3, 3, bits=8)), bytes(range(9)))
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    assert len(ds.PixelData) == 10
    assert ds.pixel_array.ravel().tolist() == list(range(9))


def test_pixels_may_come_in_blocks(tmp_path):
    """Blocks of any sizes and kinds make the same file as the whole."""
    blocks = iter([PIXELS[:1], bytearray(PIXELS[1:6]), b"", memoryview(np.frombuffer(PIXELS[6:], "<u2"))])
    write_file(tmp_path / "blocks.dcm", listed(header()), blocks)
    write_file(tmp_path / "whole.dcm", listed(header()), PIXELS)
    assert (tmp_path / "blocks.dcm").read_bytes() == (tmp_path / "whole.dcm").read_bytes()


def test_blocks_are_not_gathered(tmp_path):
    """A block is written before the next is asked for."""

    def blocks():
        for n in range(4):
            assert not n or (tmp_path / "a.dcm").stat().st_size >= n << 20
            yield bytes(1 << 20)

    write_file(tmp_path / "a.dcm", listed(header(1 << 10, 1 << 11)), blocks())


def test_size_and_digest_are_those_of_the_file(tmp_path):
    """Size and blake2b digest are returned, so that nobody has to read the file again."""
    written = write_file(tmp_path / "a.dcm", listed(header()), PIXELS)
    raw = (tmp_path / "a.dcm").read_bytes()
    assert written == (len(raw), hashlib.blake2b(raw, digest_size=32).digest())


def test_object_without_pixels(tmp_path):
    """Without pixels there is no PixelData."""
    write_file(tmp_path / "a.dcm", listed({tag: header()[tag] for tag in (0x00080016, 0x00080018)}))
    assert "PixelData" not in pydicom.dcmread(tmp_path / "a.dcm")


def test_several_frames(tmp_path):
    """NumberOfFrames counts for the length of the pixels."""
    write_file(tmp_path / "a.dcm", [*listed(header()), (0x00280008, "IS", b"2 ")], PIXELS * 2)
    assert pydicom.dcmread(tmp_path / "a.dcm").pixel_array.shape == (2, 2, 3)


def test_dcmdump_is_silent(tmp_path):
    """DCMTK reads the file without a word."""
    tool = debian_tool("dcmdump", "dcmtk")
    write_file(tmp_path / "a.dcm", listed(header()), PIXELS)
    result = subprocess.run([tool, "-q", tmp_path / "a.dcm"], capture_output=True, check=True)
    assert result.stderr == b""


# One element ---------------------------------------------------------------------------------------------------------


def test_short_and_long_forms():
    """A 16 bit length for most VRs, a 32 bit length for OB, SQ, UN, UT and their like (PS3.5 7.1.2)."""
    assert element_bytes(0x00100010, "PN", b"ab") == b"\x10\x00\x10\x00PN\x02\x00ab"
    assert element_bytes(0x00420011, "OB", b"ab") == b"\x42\x00\x11\x00OB\x00\x00\x02\x00\x00\x00ab"


@pytest.mark.parametrize(("vr", "padding"), [("UI", b"\0"), ("OB", b"\0"), ("UN", b"\0"), ("LO", b" "), ("DS", b" ")])
def test_odd_values_are_padded(vr, padding):
    """UIDs and bytes are padded with NUL, text with a space."""
    assert element_bytes(0x00091001, vr, b"1").endswith(b"1" + padding)


def test_value_too_long_for_its_vr_is_un():
    """A DS of 64 kB is written as UN, as PS3.5 6.2.2 wants it."""
    assert element_bytes(0x30060050, "DS", b"1" * 65536)[4:6] == b"UN"
    assert element_bytes(0x30060050, "DS", b"1" * 65534)[4:6] == b"DS"


@pytest.mark.parametrize("vr", ["", "ZZ", "US or SS"])
def test_unknown_vr_raises(vr):
    """An element without a VR of the standard can't be written."""
    with pytest.raises(TagValueError, match="expected one of"):
        element_bytes(0x00100010, vr, b"")


elements = st.lists(
    st.tuples(st.integers(0x00091000, 0x0009FFFF), st.sampled_from(["LO", "UN", "OB", "UT"]), st.binary(max_size=9)),
    max_size=4,
    unique_by=lambda element: element[0],
)


@given(st.lists(elements, max_size=3))
def test_sequences_come_back(items):
    """The items of a sequence come back through pydicom, sorted by tag."""
    raw = sequence_bytes(items)
    buffer = pydicom.filebase.DicomBytesIO(element_bytes(0x00082112, "SQ", raw))
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    sequence = pydicom.filereader.read_dataset(buffer, False, True)[0x00082112]
    assert len(sequence.value) == len(items)
    for item, expected in zip(sequence.value, items, strict=True):
        found = [(element.tag, element.VR, (element.value or b"").rstrip(b" \0")) for element in item._dict.values()]
        assert found == [(tag, vr, raw.rstrip(b" \0")) for tag, vr, raw in sorted(expected)]


# What goes wrong -----------------------------------------------------------------------------------------------------


def test_existing_file_is_kept(tmp_path):
    """A target that exists raises and stays as it is."""
    (tmp_path / "a.dcm").write_bytes(b"precious")
    with pytest.raises(SaveError, match=r"a\.dcm' exists"):
        write_file(tmp_path / "a.dcm", listed(header()), PIXELS)
    assert (tmp_path / "a.dcm").read_bytes() == b"precious"


@pytest.mark.skipif(os.name == "nt", reason="platform: links need rights on Windows")
def test_links_are_not_followed(tmp_path):
    """A dangling link at the target raises, and nothing appears behind it."""
    (tmp_path / "a.dcm").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SaveError, match="exists"):
        write_file(tmp_path / "a.dcm", listed(header()), PIXELS)
    assert not (tmp_path / "elsewhere").exists()


def test_missing_folder_raises(tmp_path):
    """A folder that isn't there raises and names the file."""
    with pytest.raises(SaveError, match=r"a\.dcm' can't be created"):
        write_file(tmp_path / "no" / "a.dcm", listed(header()), PIXELS)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "from the source"), KeyboardInterrupt()])
def test_partial_file_is_removed(tmp_path, error):
    """What the source of the pixels raises is raised, Ctrl-C too, and no part of the file stays."""

    def blocks():
        yield PIXELS[:4]
        raise error

    with pytest.raises(type(error)) as caught:
        write_file(tmp_path / "a.dcm", listed(header()), blocks())
    assert caught.value is error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_full_disk_raises_and_leaves_nothing(tmp_path, monkeypatch, call):
    """A full disk raises SaveError that names the file, whichever call tells of it, and nothing stays."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SaveError, match=r"a\.dcm' can't be written: the disk is full"):
        write_file(tmp_path / "a.dcm", listed(header()), PIXELS)
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_short_writes_are_continued(tmp_path, monkeypatch):
    """A write that takes part of the bytes is continued with the rest."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    written = write_file(tmp_path / "a.dcm", listed(header()), PIXELS)
    assert (tmp_path / "a.dcm").stat().st_size == written.size


@pytest.mark.parametrize("pixels", [PIXELS[:-1], PIXELS + b"\0", b""])
def test_pixels_of_wrong_length_raise(tmp_path, pixels):
    """Pixels that aren't as long as the header says raise, and nothing stays."""
    with pytest.raises(SaveError, match="where 12 were expected"):
        write_file(tmp_path / "a.dcm", listed(header()), [pixels])
    assert not list(tmp_path.iterdir())


def test_wrong_length_raises_before_anything(tmp_path):
    """A length that contradicts the header raises before a file is made."""
    with pytest.raises(SaveError, match=r"14 bytes where .* say 12"):
        write_file(tmp_path / "a.dcm", listed(header()), PIXELS, length=14)


def test_pixels_beyond_4_gb_raise(tmp_path):
    """Pixels that don't fit a 32 bit length raise."""
    values = [*listed(header(65535, 65535)), (0x00280008, "IS", b"9 ")]
    with pytest.raises(SaveError, match="4 GB"):
        write_file(tmp_path / "a.dcm", values, [])


def test_missing_uid_raises(tmp_path):
    """Without SOPInstanceUID there can be no file."""
    values = header()
    del values[0x00080018]
    with pytest.raises(SaveError, match="SOPInstanceUID"):
        write_file(tmp_path / "a.dcm", listed(values), PIXELS)


def test_missing_rows_raise(tmp_path):
    """Pixels without Rows can't be written."""
    values = header()
    del values[0x00280010]
    with pytest.raises(SaveError, match=r"\(0028,0010\) is absent"):
        write_file(tmp_path / "a.dcm", listed(values), PIXELS)


def test_pixel_data_among_the_elements_raise(tmp_path):
    """PixelData is no element like others."""
    with pytest.raises(SaveError, match="separately"):
        write_file(tmp_path / "a.dcm", [*listed(header()), (0x7FE00010, "OW", PIXELS)], PIXELS)


def test_duplicate_element_raises(tmp_path):
    """An element given twice raises."""
    with pytest.raises(SaveError, match=r"\(0010,0010\) is given twice"):
        write_file(tmp_path / "a.dcm", [*listed(header()), (0x00100010, "PN", b"x ")], PIXELS)


@pytest.mark.skipif(os.name == "nt", reason="platform: POSIX modes")
@pytest.mark.parametrize(
    ("mode", "mask", "expected"), [(0o644, 0o022, 0o644), (0o644, 0o077, 0o600), (0o600, 0, 0o600)]
)
def test_mode_less_umask(tmp_path, mode, mask, expected):
    """The file has the mode asked for, less the umask."""
    before = os.umask(mask)
    try:
        write_file(tmp_path / "a.dcm", listed(header()), PIXELS, mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.dcm").stat().st_mode) == expected


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="platform: descriptors are named on Linux only")
def test_flush_directory_flushes_it(tmp_path, monkeypatch):
    """The directory is opened and flushed; file systems that can't are left in peace."""
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    flush_directory(tmp_path)
    assert flushed == [str(tmp_path)]


@pytest.mark.skipif(os.name == "nt", reason="platform: Windows can't flush directories")
def test_flush_directory_on_a_file_system_that_cannot(tmp_path, monkeypatch):
    """EINVAL from a network file system is no error; EIO is."""

    def failing(number):
        def fsync(_):
            raise OSError(number, "no")

        return fsync

    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    flush_directory(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="no"):
        flush_directory(tmp_path)


# The pixel description -----------------------------------------------------------------------------------------------


def test_good_pixel_module():
    """Values within BitsStored and VRs that follow PixelRepresentation are fine."""
    signed = header(signed=1) | {0x00280106: ("SS", struct.pack("<h", -5)), 0x00280120: ("SS", struct.pack("<h", -9))}
    check_pixel_module(signed, -5, 7)
    check_pixel_module(header(stored=12) | {0x00280107: ("US", us(4095))}, 0, 4095)


@pytest.mark.parametrize(
    ("values", "low", "high", "text"),
    [
        (header(stored=12), 0, 4096, "0 to 4095 that BitsStored"),
        (header(stored=12, signed=1), -2049, 0, "-2048 to 2047 that BitsStored"),
        (header(), -1, 5, "0 to 65535 that BitsStored"),
        (header(high_bit=14), 0, 5, "HighBit 14"),
        (header(bits=8, stored=9), 0, 5, "BitsStored 9"),
        (header() | {0x00280106: ("SS", us(0))}, 0, 5, r"\(0028,0106\) has VR SS .* wants US"),
        (header(signed=1) | {0x00280120: ("US", us(0))}, 0, 5, r"\(0028,0120\) has VR US .* wants SS"),
        (header() | {0x00280106: ("US", us(65531))}, 0, 5, r"\(0028,0106\) is 65531"),
        (header() | {0x00280107: ("US", us(4))}, 0, 5, r"\(0028,0107\) is 4"),
    ],
)
def test_bad_pixel_module(values, low, high, text):
    """What no validator sees raises."""
    with pytest.raises(SaveError, match=text):
        check_pixel_module(values, low, high)


def test_all_faults_are_told_at_once():
    """One error holds all faults."""
    with pytest.raises(SaveError, match=r"HighBit.*; .*BitsStored allows"):
        check_pixel_module(header(high_bit=3), 0, 70000)


def test_factories_pass(tmp_path):
    """A header from pydicom's writer passes the check, too."""
    file = make_image(tmp_path / "x.dcm", np.array([[1, 2]], dtype="u2"))
    with Source(file) as source:
        found = read_header(source)
        check_pixel_module({tag: (found.vr(tag), found.raw(tag)) for tag in found.elements}, 1, 2)
