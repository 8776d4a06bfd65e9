"""Bytes of an element's value to plain Python.

It never raises: what does not fit its VR becomes the text or the bytes that stand in the file.
"""

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from .charsets import decode_text
from .keywords import LONG_VRS, NUMBER_CODES, concrete_vr, dictionary_vr, is_private, label

MAX_DEPTH = 200

_PADDING = " \0"
_BACKSLASH = b"\\"
# PS3.3 C.11.1.1: the number of entries is unsigned whatever the VR.
_LUT_DESCRIPTORS = frozenset({0x00281101, 0x00281102, 0x00281103, 0x00283002})
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{0,12}))?)?)?", re.ASCII)
_OLD_DATE = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)", re.ASCII)

_CHARSET, _PIXEL_REPRESENTATION = 0x00080005, 0x00280103
_ITEM, _ITEM_END, _SEQUENCE_END, _UNDEFINED = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFFFFFF
_ITEM_BYTES = b"\xfe\xff\x00\xe0"
_TAG_LENGTH = struct.Struct("<HHL").unpack_from
_TAG_VR_LENGTH = struct.Struct("<HH2sH").unpack_from
_LENGTH = struct.Struct("<L").unpack_from


def decode(
    tag: int,
    vr: str,
    raw: bytes,
    *,
    charset: str = "",
    signed: bool = False,
    creator: str = "",
    implicit: bool = False,
) -> object:
    r"""Decode the raw value of an element.

    Parameters
    ----------
    tag
        The tag.
    vr
        As written in the file, "" in implicit VR; the dictionaries serve where it is "", "UN" or no VR.
    raw
        The value in little endian, padding included, the delimiter of a sequence not.
    charset
        The text of (0008,0005), such as "ISO_IR 100" or "\\ISO 2022 IR 87".
    signed
        Whether PixelRepresentation is 1.
    creator
        The private creator of a private element.
    implicit
        Whether the elements in a sequence are in implicit VR; known without it where `vr` is "" or "UN".

    Returns
    -------
    object
        None where it is empty. DS FD FL float; IS US SS UL SL UV SV int; TM float, seconds since midnight; AT
        (group, element); OB OD OF OL OV OW and unknown bytes; all other text str, DA as YYYYMMDD; several values a
        tuple, in which an empty number is None; SQ a list of dicts by `label`. Junk in DS, IS and TM is the text
        without padding, a length that does not fit a binary VR the bytes.

    Examples
    --------
    >>> decode(0x00280030, "DS", b"0.5\\0.75")
    (0.5, 0.75)
    """
    if not raw:
        return None
    plain = _PLAIN.get(vr)
    if plain is not None and tag not in _LUT_DESCRIPTORS:
        return plain(raw)
    return _decode_rest(tag, vr, raw, creator, _Context(charset, signed, implicit, 1))


def _decode_rest(tag: int, vr: str, raw: bytes, creator: str, context: "_Context") -> object:
    """Decode what depends on more than VR and bytes."""
    text = _TEXT.get(vr)
    if text is not None:
        return text(raw, context.charset)
    written, vr = vr, concrete_vr(tag, vr, creator=creator, signed=context.signed)
    if vr == "SQ" or (vr == "UN" and raw.startswith(_ITEM_BYTES)):
        items = _sequence(raw, context._replace(implicit=context.implicit or written in ("", "UN")))
        return raw if items is None else items or None
    if vr == "UN":
        return raw
    if vr in _TEXT:
        return _TEXT[vr](raw, context.charset)
    value = _PLAIN[vr](raw)
    return _unsigned_first(value) if tag in _LUT_DESCRIPTORS else value


# -- text without a character set


def _split(text: str) -> "str | tuple[str, ...] | None":
    if "\\" in text:
        return tuple([part.strip(_PADDING) for part in text.split("\\")])
    return text.strip(_PADDING) or None


def _decode_text(raw: bytes) -> object:
    return _split(raw.decode("latin-1"))


def _decode_one_text(raw: bytes) -> object:
    return raw.decode("latin-1").rstrip(_PADDING) or None


def _decode_dates(raw: bytes) -> object:
    """Decode dates, those of ACR-NEMA with points too (PS3.5 table 6.2-1)."""
    text = raw.decode("latin-1")
    return _split(_OLD_DATE.sub(r"\1\2\3", text) if "." in text else text)


# -- text in a character set


def _decode_many(raw: bytes, charset: str) -> object:
    return _split(decode_text(raw, charset))


def _decode_unlimited(raw: bytes, charset: str) -> object:
    """Decode values whose leading spaces count."""
    parts = [part.rstrip(_PADDING) for part in decode_text(raw, charset).split("\\")]
    return tuple(parts) if len(parts) > 1 else parts[0] or None


def _decode_single(raw: bytes, charset: str) -> object:
    """Decode text in which leading spaces and backslashes count."""
    return decode_text(raw, charset).rstrip(_PADDING) or None


def _decode_names(raw: bytes, charset: str) -> object:
    parts = [part.rstrip(_PADDING).rstrip("=") for part in decode_text(raw, charset, names=True).split("\\")]
    return tuple(parts) if len(parts) > 1 else parts[0] or None


# -- numbers


def _decode_decimals(raw: bytes) -> object:
    try:
        if _BACKSLASH in raw:
            numbers = tuple(map(float, raw.split(_BACKSLASH)))
            plain = all(number - number == 0.0 for number in numbers)
            return numbers if plain and b"_" not in raw else _split_with(raw, _decimal)
        number = float(raw)
    except ValueError:
        return _split_with(raw, _decimal)
    return number if number - number == 0.0 and b"_" not in raw else _split_with(raw, _decimal)


def _decimal(text: str) -> object:
    """Return a finite number, or the text: float() takes "nan" and "1_0" too, which DS does not."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if "_" in text or number - number != 0.0 or not text.isascii() else number


def _decode_integers(raw: bytes) -> object:
    try:
        if b"_" not in raw:
            return int(raw)
    except ValueError:
        pass  # several, or padded in other ways
    return _split_with(raw, _integer)


def _integer(text: str) -> object:
    """Return an int also for "5.0", a float for "5.5" (which pydicom reads so too), else the text."""
    number = _decimal(text)
    if not isinstance(number, float) or not number.is_integer():
        return number
    try:
        return int(text)
    except ValueError:
        return int(number) if abs(number) < 2**53 else number


def _decode_times(raw: bytes) -> object:
    return _split_with(raw, _time)


def _time(text: str) -> object:
    """Return seconds since midnight, or the text where it is no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return text
    hours, minutes, seconds = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if hours > 23 or minutes > 59 or seconds > 60:
        return text
    whole, fraction = (hours * 60 + minutes) * 60 + seconds, found[4] or ""
    # One division of integers gives the float nearest to the decimal number.
    return (whole * 10 ** len(fraction) + int(fraction or 0)) / 10 ** len(fraction)


def _split_with(raw: bytes, convert: Callable[[str], object]) -> object:
    parts = [part.strip(_PADDING + "\t\r\n") for part in raw.decode("latin-1").split("\\")]
    values = [convert(part) if part else None for part in parts]
    return tuple(values) if len(values) > 1 else values[0]


def _unpacker(code: str) -> Callable[[bytes], object]:
    size = struct.calcsize("<" + code)
    single = struct.Struct("<" + code).unpack

    def unpack(raw: bytes) -> object:
        if len(raw) == size:
            return single(raw)[0]
        count, rest = divmod(len(raw), size)
        return raw if rest else struct.unpack(f"<{count}{code}", raw)

    return unpack


def _decode_tags(raw: bytes) -> object:
    if len(raw) % 4:
        return raw
    numbers = struct.unpack(f"<{len(raw) // 2}H", raw)
    pairs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return pairs if len(pairs) > 1 else pairs[0]


def _as_bytes(raw: bytes) -> object:
    return raw


def _unsigned_first(value: object) -> object:
    if isinstance(value, tuple) and isinstance(value[0], int) and value[0] < 0:
        return (value[0] + 65536, *value[1:])
    return value


_PLAIN: dict[str, Callable[[bytes], object]] = {
    **dict.fromkeys(("AE", "AS", "CS", "DT", "UI"), _decode_text),
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW"), _as_bytes),
    **{vr: _unpacker(code) for vr, code in NUMBER_CODES.items()},
    "AT": _decode_tags,
    "DA": _decode_dates,
    "DS": _decode_decimals,
    "IS": _decode_integers,
    "TM": _decode_times,
    "UR": _decode_one_text,
}
_TEXT: dict[str, Callable[[bytes, str], object]] = {
    **dict.fromkeys(("LO", "SH"), _decode_many),
    **dict.fromkeys(("LT", "ST", "UT"), _decode_single),
    "PN": _decode_names,
    "UC": _decode_unlimited,
}


# -- sequences: first all elements are found, then values are decoded, since a creator may stand behind its block

_Element = tuple[int, str, "memoryview | _Items"]
_Items = list[list[_Element]]


class _Context(NamedTuple):
    """What values in a sequence inherit."""

    charset: str
    signed: bool
    implicit: bool
    depth: int


class _MalformedError(Exception):
    """The bytes are no sequence."""


def _sequence(raw: bytes, context: _Context) -> list[dict[str, object]] | None:
    """Return the decoded items; None where the bytes are no sequence, or too deep a one."""
    for implicit in (context.implicit, not context.implicit):  # UN that holds explicit VR exists
        try:
            items, _ = _read_items(memoryview(raw), 0, len(raw), implicit, context.depth)
            return [_values(item, context._replace(implicit=implicit)) for item in items]
        except (_MalformedError, struct.error, RecursionError):
            continue
    return None


def _read_items(raw: memoryview, at: int, end: int, implicit: bool, depth: int) -> tuple[_Items, int]:
    """Return the items from byte `at` to the delimiter or `end`, and where they end."""
    if depth > MAX_DEPTH:
        raise _MalformedError
    items: _Items = []
    while end - at >= 8:
        group, element, length = _TAG_LENGTH(raw, at)
        tag, at = group << 16 | element, at + 8
        if tag == _SEQUENCE_END:
            return items, at
        if tag != _ITEM or (length != _UNDEFINED and at + length > end):
            raise _MalformedError
        item, after = _read_item(raw, at, end if length == _UNDEFINED else at + length, implicit, depth)
        items.append(item)
        at = after if length == _UNDEFINED else at + length
    return items, at


def _read_item(raw: memoryview, at: int, end: int, implicit: bool, depth: int) -> tuple[list[_Element], int]:
    """Return the elements from byte `at` to the delimiter or `end`, and where they end."""
    elements: list[_Element] = []
    # Some writers of explicit VR put implicit items into sequences, as pydicom knows too.
    implicit = implicit or not bytes(raw[at + 4 : at + 6]).isalpha()
    while at < end:
        tag, vr, at, length = _element_header(raw, at, implicit)
        if tag == _ITEM_END:
            break
        if length != _UNDEFINED:
            if at + length > end:
                raise _MalformedError
            elements.append((tag, vr, _defined(raw, at, length, tag, vr, depth)))
            at += length
        elif vr in ("SQ", "UN", ""):
            items, at = _read_items(raw, at, end, implicit or vr == "UN", depth + 1)
            elements.append((tag, vr, items))
        else:
            start, at = at, _skip_fragments(raw, at, end)
            elements.append((tag, vr, raw[start : at - 8]))
    return elements, at


def _defined(raw: memoryview, at: int, length: int, tag: int, vr: str, depth: int) -> "memoryview | _Items":
    """Return a value of defined length: items where it is a sequence, else bytes."""
    if vr == "SQ" or (vr == "" and dictionary_vr(tag) == "SQ"):
        try:
            return _read_items(raw, at, at + length, vr == "", depth + 1)[0]
        except (_MalformedError, struct.error):
            pass  # only this one is left as bytes
    return raw[at : at + length]


def _element_header(raw: memoryview, at: int, implicit: bool) -> tuple[int, str, int, int]:
    """Return tag, VR, offset and length of the value of the element at byte `at`."""
    group, element, length = _TAG_LENGTH(raw, at)
    tag = group << 16 | element
    if implicit or tag == _ITEM_END:
        return tag, "", at + 8, length
    group, element, code, length = _TAG_VR_LENGTH(raw, at)
    vr = code.decode("latin-1")
    if vr not in LONG_VRS:
        return tag, vr, at + 8, length
    return tag, vr, at + 12, _LENGTH(raw, at + 8)[0]


def _skip_fragments(raw: memoryview, at: int, end: int) -> int:
    """Return where encapsulated data ends, behind its delimiter."""
    while at < end:
        group, element, length = _TAG_LENGTH(raw, at)
        at += 8
        if group << 16 | element == _SEQUENCE_END:
            return at
        at += length
    raise _MalformedError


def _values(elements: list[_Element], context: _Context) -> dict[str, object]:
    """Return the decoded values of an item, whose own character set and signedness go before inherited ones."""
    raws = {tag: value for tag, _, value in elements if isinstance(value, memoryview)}
    if _CHARSET in raws:
        context = context._replace(charset=_latin(raws[_CHARSET]))
    if _PIXEL_REPRESENTATION in raws:
        context = context._replace(signed=raws[_PIXEL_REPRESENTATION].tobytes() == b"\1\0")
    inner = context._replace(depth=context.depth + 1)
    values: dict[str, object] = {}
    for tag, vr, value in elements:
        if isinstance(value, list):
            values[label(tag)] = [_values(item, inner) for item in value] or None
        else:
            creator = raws.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF, b"") if is_private(tag) and tag & 0xFF00 else b""
            raw = bytes(value)
            values[label(tag)] = _decode_rest(tag, vr, raw, _latin(creator), inner) if raw else None
    return values


def _latin(raw: memoryview | bytes) -> str:
    return bytes(raw).decode("latin-1").strip(_PADDING)
