"""Text in the character sets of Specific Character Set (0008,0005), to bytes and back.

Padding, length and multiplicity are the business of `decoding` and `encoding`.
"""

import re
import warnings
from functools import lru_cache

from pydicom.charset import (
    CODES_TO_ENCODINGS,
    ENCODINGS_TO_CODES,
    convert_encodings,
    default_encoding,
)

UTF8 = "ISO_IR 192"

_ESCAPE = b"\x1b"
# Python's codecs of these read and write the escape sequences themselves.
_SELF_ESCAPING = ("iso2022_jp", "iso2022_jp_2")
_FRAGMENTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_PRINTABLE = bytes(range(0x20, 0x7F)) + rb"\x41"
# PS3.5 6.1.2.5.3: what returns to the first character set; "^" and "=" only in names.
_RESETS = {False: re.compile(rb"[\r\n\t\f\\]"), True: re.compile(rb"[\r\n\t\f\\^=]")}
_PIECES = {False: re.compile(r"([\r\n\t\f]+)"), True: re.compile(r"([\r\n\t\f^=]+)")}
_TO_ASCII, _TO_ROMAN = b"\x1b(B", b"\x1b(J"


@lru_cache(maxsize=256)
def encodings(charset: str) -> tuple[str, ...]:
    """Return Python's names of the encodings of a character set.

    Parameters
    ----------
    charset
        The text of (0008,0005), values separated by backslashes; misspelled and unknown ones are read as pydicom does.

    Returns
    -------
    tuple of str
        At least one. The default, "iso8859", reads what the standard calls ISO_IR 6.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = convert_encodings([part.strip(" \0") for part in charset.split("\\")])
        except LookupError:  # under pydicom's strictest setting
            found = [default_encoding]
        return tuple(name if _is_text(name) else default_encoding for name in found)


def _is_text(encoding: str) -> bool:
    """Return whether ASCII means itself in a codec, and any bytes decode: pydicom takes "zip" and "idna" too."""
    try:
        bytes(range(256)).decode(encoding, "replace")
        return _PRINTABLE.decode(encoding) == _PRINTABLE.decode("ascii")
    except (LookupError, ValueError):
        return False


def decode_text(raw: bytes, charset: str, *, names: bool = False) -> str:
    """Decode text; what cannot be decoded becomes U+FFFD.

    Parameters
    ----------
    raw
        The bytes, padding included.
    charset
        The text of (0008,0005).
    names
        Whether it is a person's name, in which "^" and "=" return to the first character set.
    """
    if _ESCAPE not in raw:
        if raw.isascii():
            return raw.decode("ascii")
        return raw.decode(encodings(charset)[0], "replace")
    known = encodings(charset)
    return "".join(_decode_fragment(part, known, _RESETS[names]) for part in _FRAGMENTS.findall(raw))


def _decode_fragment(part: bytes, known: tuple[str, ...], resets: re.Pattern[bytes]) -> str:
    """Decode bytes that hold an escape sequence at their start, if any."""
    escape = part[: 4 if part.startswith((b"\x1b$(", b"\x1b$)")) else 3]
    encoding = CODES_TO_ENCODINGS.get(escape)
    if encoding is None or encoding not in (*known, default_encoding):
        return part.decode(known[0], "replace")
    if encoding in _SELF_ESCAPING:
        return part.decode(encoding, "replace")
    rest = part[len(escape) :]
    found = resets.search(rest)
    here = found.start() if found else len(rest)
    return rest[:here].decode(encoding, "replace") + rest[here:].decode(known[0], "replace")


def encode_text(text: str, charset: str, *, names: bool = False) -> bytes:
    """Encode text, with escape sequences where the character set has several.

    Raises
    ------
    UnicodeError
        If a character is in none of the sets.
    """
    if text.isascii():
        return text.encode("ascii")
    known = ["ascii" if name == default_encoding else name for name in encodings(charset)]
    if len(known) == 1:
        return _encode_strictly(text, known[0])
    encoded = b"".join(_encode_extended(piece, known) for piece in _PIECES[names].split(text))
    if decode_text(encoded, charset, names=names) != text:
        raise UnicodeError(f"no way to write {text!r} in {charset!r}")
    return encoded


def fits(text: str, charset: str) -> bool:
    """Return whether text can be written in a character set.

    Examples
    --------
    >>> fits("Müller", "ISO_IR 100"), fits("山田", "ISO_IR 100"), fits("山田", "ISO_IR 192")
    (True, False, True)
    """
    try:
        encode_text(text, charset)
    except UnicodeError:
        return False
    return True


def _encode_strictly(text: str, encoding: str) -> bytes:
    encoded = text.encode(encoding)
    # ISO_IR 13 is the one-byte half of Shift JIS; its codec makes a backslash of the yen sign.
    if encoding == "shift_jis" and (len(encoded) != len(text) or encoded.decode(encoding) != text):
        raise UnicodeError(f"{text!r} is not JIS X 0201")
    return encoded


def _encode_extended(piece: str, known: list[str]) -> bytes:
    """Encode a piece between two resets, character by character in the set that was used last or the first that can."""
    runs: list[tuple[str, str]] = []
    current = known[0]
    for character in piece:
        candidates = [current, *known]
        current = next((name for name in candidates if _holds(name, character)), "")
        if not current:
            raise UnicodeError(f"{character!r} is in none of {known}")
        if runs and runs[-1][0] == current:
            runs[-1] = (current, runs[-1][1] + character)
        else:
            runs.append((current, character))
    encoded = b""
    for place, (name, run) in enumerate(runs):
        encoded += _encode_run(run, name, known[0], place == 0)
    return encoded


def _holds(encoding: str, character: str) -> bool:
    try:
        encoded = _encode_strictly(character, encoding)
    except UnicodeError:
        return False
    if encoding in _SELF_ESCAPING and _ESCAPE in encoded:
        return encoded.startswith(ENCODINGS_TO_CODES[encoding])
    return encoding not in _SELF_ESCAPING or encoded.isascii()


def _encode_run(run: str, encoding: str, first: str, is_start: bool) -> bytes:
    """Encode characters of one set, behind the escape sequence that begins it."""
    encoded = _encode_strictly(run, encoding)
    if encoding in _SELF_ESCAPING and _ESCAPE in encoded:
        back = _TO_ROMAN if first == "shift_jis" else _TO_ASCII
        return encoded.removesuffix(_TO_ASCII) + back if encoded.endswith(_TO_ASCII) else encoded
    if is_start and encoding == first:
        return encoded
    if encoding == "shift_jis":
        return (_TO_ROMAN if encoded.isascii() else ENCODINGS_TO_CODES[encoding]) + encoded
    return ENCODINGS_TO_CODES.get(encoding, _TO_ASCII) + encoded
