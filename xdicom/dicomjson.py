"""Elements as DICOM JSON (PS3.18 F) and back: a header as text that other programs read, too, and that loses nothing.

Of each value it is made sure that the way back gives the same bytes, padding aside; what JSON cannot say is in base64.
"""

import base64
import binascii
import re
import reprlib
import struct
from collections.abc import Mapping
from typing import Any

from .charsets import decode_text, encode_text
from .errors import BrokenFileError
from .keywords import NUMBER_CODES, VRS
from .walker import sequence_items
from .writer import Values, sequence_bytes

Model = dict[str, Any]

_CHARSET = 0x00080005
_SINGLE = frozenset({"LT", "ST", "UR", "UT"})
_IN_CHARSET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_PLAIN = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
_TEXT = _IN_CHARSET | _PLAIN
_NAME_PARTS = ("Alphabetic", "Ideographic", "Phonetic")
_TAG = re.compile(r"[0-9A-F]{8}")
_PADDING = b" \0"
_MOST_DEPTH = 50  # of sequences in sequences; deeper ones are told by their bytes


class _UnfitError(Exception):
    """There is no JSON for a value but that of its bytes."""


def to_json(elements: Values, charset: str = "") -> dict[str, Model]:
    """Return elements as DICOM JSON.

    Parameters
    ----------
    elements
        In explicit VR: VR and raw little-endian value by tag.
    charset
        SpecificCharacterSet where it is not among them.

    Returns
    -------
    dict
        By tag as "GGGGEEEE". Numbers of DS and IS are text where the number alone would not give it back.

    Examples
    --------
    >>> to_json({0x00181314: ("DS", b"12"), 0x00080060: ("CS", b"MR")})
    {'00080060': {'vr': 'CS', 'Value': ['MR']}, '00181314': {'vr': 'DS', 'Value': [12]}}
    """
    return _dataset(elements, charset, 0)


def from_json(model: Mapping[str, Any], charset: str = "") -> dict[int, tuple[str, bytes]]:
    """Return the elements that DICOM JSON describes, see `to_json`.

    Parameters
    ----------
    model
        From anywhere: nothing in it is believed.
    charset
        SpecificCharacterSet where it is not in it.

    Raises
    ------
    BrokenFileError
        If it is not DICOM JSON.
    """
    return _elements(model, charset, 0)


def _dataset(elements: Values, charset: str, depth: int) -> dict[str, Model]:
    charset = _charset_in(elements, charset)
    return {f"{tag:08X}": _model(vr, raw, charset, depth) for tag, (vr, raw) in sorted(elements.items())}


def _charset_in(elements: Values, charset: str) -> str:
    found = elements.get(_CHARSET)
    return charset if found is None else found[1].decode("ascii", "replace").strip(" \0")


def _model(vr: str, raw: bytes, charset: str, depth: int) -> Model:
    if not raw or (vr in _TEXT and not raw.rstrip(_PADDING)):
        return {"vr": vr}
    try:
        values = _values(vr, raw, charset, depth)
        if vr == "SQ" or _bytes(vr, values, charset).rstrip(_PADDING) == raw.rstrip(_PADDING):
            return {"vr": vr, "Value": values}
    except (_UnfitError, BrokenFileError, UnicodeError, ValueError, struct.error):
        pass  # told by its bytes
    return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode("ascii")}


def _values(vr: str, raw: bytes, charset: str, depth: int) -> list[Any]:
    """Return a value as JSON has it."""
    if vr == "SQ":
        if depth == _MOST_DEPTH:
            raise _UnfitError
        items = [{element.tag: (element.vr, bytes(element.raw)) for element in item} for item in _items(raw)]
        return [_dataset(item, charset, depth + 1) for item in items]
    if vr in NUMBER_CODES:
        numbers = struct.unpack(f"<{len(raw) // struct.calcsize(NUMBER_CODES[vr])}{NUMBER_CODES[vr]}", raw)
        if any(number - number != 0 for number in numbers):
            raise _UnfitError  # JSON has neither infinity nor NaN
        return list(numbers)
    if vr == "AT":
        words = struct.unpack(f"<{len(raw) // 2}H", raw)
        return [f"{group:04X}{element:04X}" for group, element in zip(words[::2], words[1::2], strict=True)]
    if vr not in _TEXT:
        raise _UnfitError
    text = decode_text(raw.rstrip(_PADDING), charset if vr in _IN_CHARSET else "", names=vr == "PN")
    parts = [text] if vr in _SINGLE else text.split("\\")
    return [_part(vr, part) for part in parts]


def _items(raw: bytes) -> list[list[Any]]:
    items = list(sequence_items(raw, False))
    if any(len(element.vr) != 2 for item in items for element in item):
        raise _UnfitError
    return items


def _part(vr: str, text: str) -> Any:
    """Return one of several values of text."""
    if not text:
        return None
    if vr == "PN":
        return {name: part for name, part in zip(_NAME_PARTS, text.split("="), strict=False) if part}
    if vr in ("DS", "IS"):
        for kind in (int, float) if vr == "DS" else (int,):
            try:
                number = kind(text)
            except ValueError:
                continue
            if str(number) == text and number - number == 0:
                return number
    return text


def _elements(model: Any, charset: str, depth: int) -> dict[int, tuple[str, bytes]]:
    if depth > _MOST_DEPTH or not isinstance(model, Mapping):
        raise BrokenFileError(f"{_shown(model)} is no dataset of DICOM JSON")
    listed = sorted(model.items(), key=lambda entry: str(entry[0]))
    charset = _stated_charset(model, charset)
    return {int(tag, 16): _element(tag, element, charset, depth) for tag, element in listed if _is_tag(tag)}


def _is_tag(name: Any) -> bool:
    if not isinstance(name, str) or not _TAG.fullmatch(name):
        raise BrokenFileError(f"{_shown(name)} is no tag of DICOM JSON, such as '00080060'")
    return True


def _stated_charset(model: Mapping[str, Any], charset: str) -> str:
    stated = model.get(f"{_CHARSET:08X}")
    values = stated.get("Value") if isinstance(stated, Mapping) else None
    return "\\".join(str(value or "") for value in values) if isinstance(values, list) else charset


def _element(tag: str, element: Any, charset: str, depth: int) -> tuple[str, bytes]:
    vr = element.get("vr") if isinstance(element, Mapping) else None
    if vr not in VRS and vr != "SQ":
        raise BrokenFileError(f"({tag[:4]},{tag[4:]}) is {_shown(element)} in the DICOM JSON, and has no VR")
    try:
        if "InlineBinary" in element:
            return vr, base64.b64decode(element["InlineBinary"], validate=True)
        values = element.get("Value", [])
        if vr == "SQ":
            items = [_elements(item, charset, depth + 1) for item in values]
            return vr, sequence_bytes([[(tag, *value) for tag, value in item.items()] for item in items])
        return vr, _bytes(vr, values, charset) if values else b""
    except BrokenFileError:
        raise
    except (_UnfitError, UnicodeError, ValueError, TypeError, struct.error, binascii.Error) as error:
        raise BrokenFileError(f"({tag[:4]},{tag[4:]}) is {_shown(element)}, which is no {vr}") from error


def _bytes(vr: str, values: list[Any], charset: str) -> bytes:
    """Return the raw value of what JSON has, without padding."""
    if vr in NUMBER_CODES:
        return struct.pack(f"<{len(values)}{NUMBER_CODES[vr]}", *values)
    if vr == "AT":
        pairs = [(int(value[:4], 16), int(value[4:], 16)) for value in values]
        return b"".join(struct.pack("<HH", *pair) for pair in pairs)
    if vr not in _TEXT:
        raise _UnfitError
    text = "\\".join(_text(value) for value in values)
    return encode_text(text, charset if vr in _IN_CHARSET else "", names=vr == "PN")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "=".join(str(value.get(name, "")) for name in _NAME_PARTS).rstrip("=")
    if not isinstance(value, str | int | float):
        raise _UnfitError
    return str(value)


def _shown(value: Any) -> str:
    return reprlib.repr(value)
