"""Lay elements over a header whose text may be in another character set: one of the two is found that holds all text.

Pure functions on elements in explicit VR, {tag: (VR, raw little-endian value)}.
"""

from collections.abc import Iterable

from . import tags
from .errors import BrokenFileError, EditError, TagValueError
from .modules import CHARSET
from .walker import sequence_items
from .writer import Values

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


def overlaid(header: Values, changes: Values) -> dict[int, tuple[str, bytes]]:
    """Return a header with elements replaced, all text readable in the SpecificCharacterSet that it ends up with.

    Parameters
    ----------
    header
        Elements in explicit VR.
    changes
        Elements laid over; their SpecificCharacterSet (ASCII where there is none) is that of their own text.

    Raises
    ------
    EditError
        If both have text beyond ASCII and the header's character set cannot hold that of the changes.
    """
    kept = {tag: value for tag, value in header.items() if tag not in changes}
    old, new = (charset_of(values) for values in (header, changes))
    if CHARSET in header:
        kept[CHARSET] = header[CHARSET]
    plain = {tag: value for tag, value in changes.items() if tag != CHARSET}
    if old == new or not has_text_beyond_ascii(plain):
        return kept | plain
    if not has_text_beyond_ascii(kept):
        return {**kept, **plain, CHARSET: ("CS", new.encode())}
    return kept | {tag: _recoded(tag, value, old, new) for tag, value in plain.items()}


def charset_of(values: Values) -> str:
    """Return SpecificCharacterSet as text, "" where there is none."""
    return values[CHARSET][1].decode("ascii", "replace").strip("\0 ") if CHARSET in values else ""


def has_text_beyond_ascii(values: Values) -> bool:
    """Say whether some text that depends on SpecificCharacterSet, in sequences too, needs more than ASCII."""
    return any(_is_beyond(vr, raw) for vr, raw in values.values())


def _is_beyond(vr: str, raw: bytes) -> bool:
    if vr in _TEXT_VRS:
        # ISO 2022 writes any character as ASCII behind an escape.
        return not raw.isascii() or b"\x1b" in raw
    return vr == "SQ" and not raw.isascii() and any(_is_beyond(*element) for element in _nested(raw))


def _nested(raw: bytes) -> Iterable[tuple[str, bytes]]:
    try:
        return [(element.vr, bytes(element.raw)) for item in sequence_items(raw, False) for element in item]
    except BrokenFileError:
        return [("LO", raw)]


def _recoded(tag: int, value: tuple[str, bytes], old: str, new: str) -> tuple[str, bytes]:
    """Return text of one character set in another."""
    vr, raw = value
    if not _is_beyond(vr, raw):
        return value
    text = tags.decode(tag, vr, raw, charset=new)
    try:
        return vr, tags.encode(tag, vr, text, charset=old)
    except TagValueError as error:
        raise EditError(
            f"{tags.label(tag)} {text!r} cannot be written in {old or 'ASCII'}, the character set of the other text: "
            "write it in letters of that set"
        ) from error
