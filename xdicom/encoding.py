"""Plain Python to the bytes of an element's value, or why its VR cannot hold it.

Which elements may be set, and where the bytes go, is not known here.
"""

import math
import reprlib
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from .charsets import UTF8, encode_text
from .errors import TagValueError, UnknownTagError
from .keywords import LONG_VRS, NUMBER_CODES, as_tag, concrete_vr, dictionary_vm, is_private, label
from .strings import TEXTS, UnfitError, number_of, whole_number
from .values import UniqueValues

MAX_DEPTH = 200

_ARRAYS = {"OB": "u1", "OD": "<f8", "OF": "<f4", "OL": "<u4", "OV": "<u8", "OW": "<u2"}
_UNDIVIDED = frozenset(("LT", "ST", "UT", "UR"))
_CHARSET, _PIXEL_REPRESENTATION = 0x00080005, 0x00280103


def encode(
    tag: int,
    vr: str,
    value: object,
    *,
    charset: str = "",
    signed: bool = False,
    creator: str = "",
    implicit: bool = False,
) -> bytes:
    r"""Encode a value as the little-endian bytes of an element.

    Parameters
    ----------
    tag
        The tag; the dictionary says how many values it takes.
    vr
        The VR to encode in; the dictionaries serve where it is "", "UN" or no VR.
    value
        What `decode` gives, or: numpy scalars and arrays; several values as a list, a tuple or text with backslashes;
        numbers as text; DA a date, "YYYYMMDD", "YYYY-MM-DD", or "DDMMYYYY" with a warning where it can't be YYYYMMDD;
        TM seconds since midnight, a time, "HHMMSS.F" or "HH:MM:SS"; DT a datetime or text; AT also keywords; SQ dicts
        by any name of a tag, or pydicom Datasets; OB to OW also arrays of numbers. "" and [] make an empty element.
    charset
        The text of (0008,0005) in which text is written.
    signed
        Whether PixelRepresentation is 1.
    creator
        The private creator of a private element.
    implicit
        Whether the elements in a sequence are written in implicit VR.

    Returns
    -------
    bytes
        Of even length.

    Raises
    ------
    TagValueError
        If the VR cannot hold the value, or the character set its text.
    NotOneValueError
        For a UniqueValues of several values or none.

    Warns
    -----
    UserWarning
        Where a date was understood as DDMMYYYY.

    Examples
    --------
    >>> encode(0x00280030, "DS", [0.5, 0.75])
    b'0.5\\0.75'
    """
    try:
        return _encode_value(tag, vr, value, creator, _Context(charset, signed, implicit, 1))
    except UnfitError as reason:
        raise TagValueError(f"{label(tag)} cannot be {reprlib.repr(value)}: {reason}") from None


def _encode_value(tag: int, vr: str, value: object, creator: str, context: "_Context") -> bytes:
    known = concrete_vr(tag, vr, creator=creator, signed=context.signed)
    if isinstance(value, UniqueValues):
        value = value.item()
        value = "" if value is None else value
    if isinstance(value, np.ndarray) and not value.size:
        value = ""
    if value is None:
        raise UnfitError("None removes an element; type '' for an empty one")
    if known == "SQ" or (known == "UN" and _are_items(value)):
        return _encode_items(value, context._replace(implicit=context.implicit or "UN" in (vr, known)))
    return _encode_known(tag, known, value, context.charset, creator)


def _encode_known(tag: int, vr: str, value: object, charset: str, creator: str) -> bytes:
    if vr in _ARRAYS or vr == "UN":
        return _padded(_encode_binary(value, vr), b"\0")
    parts = _parts(value, vr)
    _check_count(tag, vr, len(parts), creator)
    if vr in _BINARY:
        return b"".join([_BINARY[vr](part, vr) for part in parts])
    texts = ["" if part is None or part == "" else TEXTS[vr](part, vr) for part in parts]
    if vr not in _UNDIVIDED and any("\\" in text for text in texts):
        raise UnfitError("a backslash separates values; leave it out")
    encoded = b"\\".join([_in_charset(text, charset, vr == "PN") for text in texts])
    return _padded(encoded, b"\0" if vr == "UI" else b" ")


def _padded(encoded: bytes, padding: bytes) -> bytes:
    return encoded + padding if len(encoded) % 2 else encoded


def _parts(value: object, vr: str) -> list[Any]:
    """Return the single values of what may be several."""
    if isinstance(value, np.ndarray):
        if value.ndim > 1:
            raise UnfitError(f"an array of shape {value.shape} is no list of values")
        value = value.tolist()
    if isinstance(value, str) and vr not in _UNDIVIDED and "\\" in value:
        value = value.split("\\")
    if vr == "AT" and _is_pair(value):
        value = [value]
    if not isinstance(value, str | bytes | bytearray | memoryview) and isinstance(value, Sequence):
        parts = [part.item() if isinstance(part, np.generic | UniqueValues) else part for part in value]
    else:
        parts = [value.item() if isinstance(value, np.generic) else value]
    if any(isinstance(part, list | np.ndarray) for part in parts):
        raise UnfitError("a list inside a list is no value")
    return [] if parts == [""] else parts


def _is_pair(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(isinstance(part, int) and 0 <= part <= 0xFFFF for part in value)


def _check_count(tag: int, vr: str, count: int, creator: str) -> None:
    """Refuse a number of values that the dictionary does not allow (PS3.5 6.4)."""
    allowed = "1" if vr in _UNDIVIDED else dictionary_vm(tag, creator)
    low, _, high = allowed.partition("-")
    if count == 0 or not low.isdigit():
        return
    step = int(high[:-1] or 1) if high.endswith("n") else 1
    most = math.inf if high.endswith("n") else int(high or low)
    if not int(low) <= count <= most or (step > 1 and count % step):
        raise UnfitError(f"{count} values where {allowed} may stand")


# -- binary VRs


def _encode_binary(value: Any, vr: str) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | Sequence) and not value:
        return b""
    if vr == "UN":
        raise UnfitError("no dictionary has this element; give its VR, or bytes")
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UnfitError(f"VR {vr} takes bytes or an array of numbers")
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(_ARRAYS[vr])
    if vr in ("OF", "OD"):
        exact = bool(np.array_equal(np.isfinite(array), np.isfinite(converted)))
    else:
        exact = bool(np.array_equal(array, converted))
    if not exact:
        raise UnfitError(f"VR {vr} holds {converted.dtype.name}, which these numbers exceed")
    return converted.tobytes()


def _encode_integer(value: object, vr: str) -> bytes:
    bits = 8 * struct.calcsize("<" + NUMBER_CODES[vr])
    low, high = (0, 2**bits - 1) if vr[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return struct.pack("<" + NUMBER_CODES[vr], whole_number(value, vr, low, high))


def _encode_float(value: object, vr: str) -> bytes:
    if isinstance(value, str):
        value = number_of(value)
    if not isinstance(value, int | float | Decimal):
        raise UnfitError(f"VR {vr} takes numbers")
    try:
        return struct.pack("<f" if vr == "FL" else "<d", value)
    except (OverflowError, struct.error):
        raise UnfitError(f"VR {vr} holds no number as large as this") from None


def _encode_tag(value: Any, vr: str) -> bytes:
    try:
        tag = as_tag(value)
    except UnknownTagError as reason:
        raise UnfitError(str(reason)) from None
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)


_BINARY: dict[str, Callable[[Any, str], bytes]] = {
    **dict.fromkeys(NUMBER_CODES, _encode_integer),
    **dict.fromkeys(("FL", "FD"), _encode_float),
    "AT": _encode_tag,
}


def _in_charset(text: str, charset: str, names: bool) -> bytes:
    try:
        return encode_text(text, charset, names=names)
    except UnicodeError:
        written = charset.replace("\0", "").strip() or "ISO_IR 6 (ASCII)"
        raise UnfitError(f"not in its character set, {written}; {UTF8} has all: set SpecificCharacterSet") from None


# -- sequences


class _Context(NamedTuple):
    """What elements in a sequence inherit."""

    charset: str
    signed: bool
    implicit: bool
    depth: int


def _are_items(value: object) -> bool:
    if isinstance(value, Mapping | Dataset):
        return True
    return isinstance(value, Sequence) and any(isinstance(item, Mapping | Dataset) for item in value)


def _encode_items(value: Any, context: _Context) -> bytes:
    items = [value] if isinstance(value, Mapping | Dataset) else value
    if context.depth > MAX_DEPTH:
        raise UnfitError(f"sequences are nested deeper than {MAX_DEPTH}")
    if not isinstance(items, Sequence) or not all(isinstance(item, Mapping | Dataset) for item in items):
        raise UnfitError("a sequence takes a list of dicts or pydicom Datasets")
    encoded = []
    for item in items:
        content = _encode_item(item, context)
        encoded += [struct.pack("<HHL", 0xFFFE, 0xE000, len(content)), content]
    return b"".join(encoded)


def _encode_item(item: Mapping[Any, Any] | Dataset, context: _Context) -> bytes:
    """Encode the elements of an item, whose own character set and signedness go before inherited ones."""
    if isinstance(item, Dataset):
        elements = {int(element.tag): (str(element.VR), element.value) for element in item}
    else:
        elements = {as_tag(name): ("", value) for name, value in item.items()}
    if _CHARSET in elements:
        own = elements[_CHARSET][1]
        context = context._replace(charset=own if isinstance(own, str) else "\\".join(own or ()))
    if _PIXEL_REPRESENTATION in elements:
        context = context._replace(signed=elements[_PIXEL_REPRESENTATION][1] == 1)
    encoded = []
    for tag in sorted(elements):
        if tag & 0xFFFF:  # group lengths would no longer be true
            creator = elements.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF, ("", ""))[1] if is_private(tag) else ""
            encoded.append(_encode_element(tag, *elements[tag], str(creator), context))
    return b"".join(encoded)


def _encode_element(tag: int, vr: str, value: object, creator: str, context: _Context) -> bytes:
    vr = concrete_vr(tag, vr, creator=creator, signed=context.signed)
    vr = "SQ" if vr == "UN" and _are_items(value) else vr
    try:
        if value is None:
            raw = b""
        elif vr == "SQ":
            raw = _encode_items(value, context._replace(depth=context.depth + 1))
        else:
            raw = _encode_known(tag, vr, value, context.charset, creator)
    except UnfitError as reason:
        raise UnfitError(f"{label(tag)} in it: {reason}") from None
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if context.implicit:
        return head + struct.pack("<L", len(raw)) + raw
    if vr in LONG_VRS or len(raw) > 0xFFFF:  # PS3.5 6.2.2: what is too long for its VR is UN
        vr = vr if vr in LONG_VRS else "UN"
        return head + vr.encode() + struct.pack("<HL", 0, len(raw)) + raw
    return head + vr.encode() + struct.pack("<H", len(raw)) + raw
