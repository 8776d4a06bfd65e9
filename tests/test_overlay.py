"""Facts about xdicom.overlay: elements laid over others, with text that stays readable."""

import struct

import pytest

from xdicom import tags
from xdicom.errors import EditError
from xdicom.overlay import charset_of, has_text_beyond_ascii, overlaid
from xdicom.writer import sequence_bytes

CHARSET, NAME, DESCRIPTION = 0x00080005, 0x00100010, 0x0008103E


def text(value, charset, tag=NAME, vr="PN"):
    """Return elements of one text and its character set."""
    elements = {tag: (vr, tags.encode(tag, vr, value, charset=charset))}
    return elements | ({CHARSET: ("CS", charset.encode())} if charset else {})


@pytest.mark.parametrize(
    ("old", "old_set", "new", "new_set", "expected"),
    [
        ("Doe", "", "plain", "", ""),
        ("Doe", "ISO_IR 100", "plain", "", "ISO_IR 100"),
        ("Doe", "ISO_IR 100", "plain", "ISO_IR 192", "ISO_IR 100"),
        ("Doe", "ISO_IR 100", "比率", "ISO_IR 192", "ISO_IR 192"),
        ("Müller", "ISO_IR 100", "Größe", "ISO_IR 192", "ISO_IR 100"),
        ("Müller", "ISO_IR 192", "Größe", "ISO_IR 100", "ISO_IR 192"),
        ("Müller", "ISO_IR 192", "比率", "ISO_IR 192", "ISO_IR 192"),
    ],
)
def test_one_character_set_for_all_text(old, old_set, new, new_set, expected):
    """The result names a character set in which all of its text reads as before."""
    found = overlaid(text(old, old_set), text(new, new_set, DESCRIPTION, "LO"))
    assert charset_of(found) == expected
    read = [tags.decode(tag, *found[tag], charset=expected) for tag in (NAME, DESCRIPTION)]
    assert read == [old, new]


def test_text_without_a_common_character_set():
    """Where neither set holds all text, it raises with the text."""
    with pytest.raises(EditError, match=r"比率.*ISO_IR 100"):
        overlaid(text("Müller", "ISO_IR 100"), text("比率", "ISO_IR 192", DESCRIPTION, "LO"))


def test_text_that_is_replaced_does_not_count():
    """Text in another character set that is laid over is gone."""
    found = overlaid(text("Müller", "ISO_IR 100"), text("山田", "ISO_IR 192"))
    assert charset_of(found) == "ISO_IR 192"


def test_text_in_sequences_counts():
    """Text deep in a sequence is text; numbers that look like it are not."""
    name = (NAME, "PN", "Müller".encode("latin-1"))
    number = (0x00189087, "FD", struct.pack("<d", -1.1))
    inner = sequence_bytes([[(0x00081140, "SQ", sequence_bytes([[name]]))]])
    assert has_text_beyond_ascii({0x00081140: ("SQ", inner)})
    assert not has_text_beyond_ascii({0x00081140: ("SQ", sequence_bytes([[number]]))})
    assert has_text_beyond_ascii({NAME: ("PN", b"\x1b$B;3")})
    assert not has_text_beyond_ascii({0x7FE00010: ("OW", b"\xff\xff"), NAME: ("PN", b"Doe")})
