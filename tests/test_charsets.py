"""Text in the character sets of the standard."""

import pydicom
import pytest
from conftest import charset_files, corpus_id
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PN_DELIMS

from xdicom.charsets import decode_text, encode_text, encodings, fits

JAPANESE = "\\ISO 2022 IR 87"
KOREAN = "\\ISO 2022 IR 149"
SINGLE = ["ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 126", "ISO_IR 127", "ISO_IR 138"]
SINGLE += ["ISO_IR 144", "ISO_IR 148", "ISO_IR 166", "ISO_IR 13", "ISO_IR 192", "GB18030", "GBK"]
EXTENDED = [
    JAPANESE,
    KOREAN,
    "\\ISO 2022 IR 58",
    "ISO 2022 IR 13\\ISO 2022 IR 87",
    "\\ISO 2022 IR 87\\ISO 2022 IR 159",
    "ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144",
    "\\ISO 2022 IR 100",
]
# PS3.5 annexes H, I, J and K.
ANNEX = [
    (
        JAPANESE,
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    (
        KOREAN,
        "Hong^Gildong=洪^吉洞=홍^길동",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    ("\\ISO 2022 IR 58", "Zhang^XiaoDong=张^小东", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"),
    ("GB18030", "Wang^XiaoDong=王^小东", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東", "Wang^XiaoDong=王^小東".encode()),
]


@pytest.mark.parametrize(("charset", "text", "raw"), ANNEX)
def test_names_of_the_standard_are_decoded(charset, text, raw):
    """The examples of PS3.5 annexes H to K read as printed there."""
    assert decode_text(raw, charset, names=True) == text


@pytest.mark.parametrize(("charset", "text", "raw"), ANNEX)
def test_names_of_the_standard_are_encoded(charset, text, raw):
    """The examples of PS3.5 annexes H to K are written byte for byte."""
    assert encode_text(text, charset, names=True) == raw


@pytest.mark.parametrize("path", [path for path in charset_files() if "SQ" not in path.stem], ids=corpus_id)
@pytest.mark.filterwarnings("ignore")
def test_names_of_files_decode_as_in_pydicom(path):
    """Patient names of pydicom's character set files are what pydicom reads."""
    dataset = pydicom.dcmread(path, force=True)
    charset = dataset.get("SpecificCharacterSet") or ""
    raw = dataset.get_item("PatientName")
    text = decode_text(raw.value, charset if isinstance(charset, str) else "\\".join(charset), names=True)
    assert text.rstrip(" =") == str(dataset.PatientName)


@pytest.mark.parametrize("charset", ["ISO-IR 100", "ISO_IR_100", "ISO 2022-IR 100", "ISO_IR 100 ", "latin-1"])
def test_misspelled_character_sets_are_known(charset):
    """Character sets in other spellings are read without a warning."""
    assert decode_text(b"M\xfcller", charset) == "Müller"


@pytest.mark.parametrize("charset", ["nonsense", "zip", "utf-16", "unicode_escape", "hex", "idna", "", "\0"])
def test_unknown_character_sets_are_the_default(charset):
    """What is no character set of text reads as Latin 1, as pydicom does."""
    assert encodings(charset) == ("iso8859",)


def test_bytes_that_do_not_decode_are_marked():
    """Undecodable bytes become U+FFFD without a warning."""
    assert decode_text(b"M\xfcller", "ISO_IR 192") == "M\ufffdller"


def test_an_unknown_escape_stays():
    """An escape sequence of a set that is not declared stays in the text."""
    assert decode_text(b"\x1b$B;3ED\x1b(B", "ISO_IR 100") == "\x1b$B;3ED"


def test_a_line_end_returns_to_the_first_set():
    """After a line end, bytes are of the first character set."""
    assert decode_text(b"\x1b-F\xc4\r\n\xc4", "ISO 2022 IR 100\\ISO 2022 IR 126") == "Δ\r\nÄ"


def test_a_caret_returns_to_the_first_set_in_names_only():
    """In a name, "^" ends the reach of an escape sequence; in other text it does not."""
    charset = "ISO 2022 IR 100\\ISO 2022 IR 126"
    raw = b"\x1b-F\xc4^\xc4"
    assert decode_text(raw, charset, names=True) == "Δ^Ä"
    assert decode_text(raw, charset) == "Δ^Δ"


def test_a_backslash_returns_to_the_first_set():
    """Each of several values begins in the first character set."""
    assert decode_text(b"\x1b-F\xc4\\\xc4", "ISO 2022 IR 100\\ISO 2022 IR 126") == "Δ\\Ä"


def test_the_default_is_ascii():
    """Without a character set only ASCII can be written, though Latin 1 is read."""
    assert fits("Muller", "")
    assert not fits("Müller", "")
    assert decode_text(b"M\xfcller", "") == "Müller"


def test_undeclared_latin_is_escaped():
    """Beside a default first set, Latin 1 needs its escape sequence."""
    assert encode_text("Ä", "\\ISO 2022 IR 100") == b"\x1b-A\xc4"


@pytest.mark.parametrize(
    ("text", "charset", "whether"),
    [
        ("山田", "ISO_IR 100", False),
        ("山田", "ISO_IR 13", False),
        ("ﾔﾏﾀﾞ", "ISO_IR 13", True),
        ("¥", "ISO_IR 13", False),
        ("山田", "ISO_IR 192", True),
        ("山田", JAPANESE, True),
        ("é", JAPANESE, False),
        ("홍", JAPANESE, False),
        ("\ud800", "ISO_IR 192", False),
        ("ΔЖÄ", "ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 144", True),
    ],
)
def test_whether_text_fits(text, charset, whether):
    """fits() says whether every character is in one of the sets."""
    assert fits(text, charset) is whether


@given(st.binary(), st.sampled_from(SINGLE + EXTENDED + ["", "nonsense"]), st.booleans())
def test_decoding_never_raises(raw, charset, names):
    """Any bytes decode in any character set."""
    assert isinstance(decode_text(raw, charset, names=names), str)


_TEXT = st.text(
    st.sampled_from("aZ9 -~ÄéßΔΩЖяđşกחعﾔｱ山田太郎丂洪吉홍길张东€") | st.characters(codec="utf-8", min_codepoint=0x20)
)


@given(_TEXT, st.sampled_from(SINGLE))
def test_text_comes_back_from_a_single_set(text, charset):
    """What a character set can write reads back."""
    if fits(text, charset):
        assert decode_text(encode_text(text, charset), charset) == text


@given(st.text(st.sampled_from("aZ9^=ÄéßΔΩЖяﾔｱ山田太郎丂洪吉홍길张东\r\n")), st.sampled_from(EXTENDED))
def test_text_comes_back_from_extended_sets(text, charset):
    """What character sets with escape sequences can write reads back, as text and as a name."""
    for names in (False, True):
        if fits(text, charset):
            assert decode_text(encode_text(text, charset, names=names), charset, names=names) == text


@given(st.text(st.sampled_from("aZ9^=Äéﾔｱ山田太郎丂洪吉홍길ΔΩЖя")), st.sampled_from(EXTENDED))
@pytest.mark.filterwarnings("ignore")
def test_pydicom_reads_what_is_written(text, charset):
    """Names with escape sequences are what pydicom reads, but for ISO 2022 IR 58, whose sequences it leaves in."""
    if fits(text, charset) and "58" not in charset:
        groups = encode_text(text, charset, names=True).split(b"=")
        known = convert_encodings(charset.split("\\"))
        assert "=".join(decode_bytes(group, known, PN_DELIMS) for group in groups) == text
