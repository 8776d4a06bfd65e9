"""A value as the text of a string VR, or why that cannot hold it.

Several values, character sets and padding are the business of `encoding`.
"""

import datetime
import math
import re
import sys
import warnings
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from pydicom.valuerep import PersonName, format_number_as_ds

# PS3.5 table 6.2-1, in characters.
_LONGEST = {"AE": 16, "CS": 16, "LO": 64, "SH": 16, "ST": 1024, "LT": 10240}
_CODE = re.compile(r"[A-Z0-9 _]*", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", re.ASCII)
_URI = re.compile(r"[\w:/?#\[\]@!$&'()*+,;=%\-.~]*", re.ASCII)
_AGE = re.compile(r"\d{3}[DWMY]", re.ASCII)
_EIGHT = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)
_ISO_DATE = re.compile(r"(\d{4})[-.](\d\d)[-.](\d\d)", re.ASCII)
_DAY_FIRST = re.compile(r"(\d\d)(\d\d)(\d{4})", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d|60)(\.\d{1,6})?)?)?", re.ASCII)
_DATE_TIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d(?:\.\d{1,6})?)?([+-]\d{4})?", re.ASCII)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_FORBIDDEN_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class UnfitError(Exception):
    """Why a value does not fit, and what to type instead."""


# -- numbers as text


def number_of(text: str) -> Decimal:
    """Return the number that a text in the form of DS stands for; UnfitError if none."""
    stripped = text.strip(" ")
    try:
        if _DECIMAL.fullmatch(stripped):
            return Decimal(stripped)
    except InvalidOperation:  # an exponent of dozens of digits
        pass
    raise UnfitError(f"{text!r} is no number")


def whole_number(value: object, vr: str, low: int, high: int) -> int:
    """Return a number, or text of one, as an int; UnfitError if it is not whole or not from `low` to `high`."""
    if isinstance(value, str):
        value = number_of(value)
    if not isinstance(value, int | float | Decimal):
        raise UnfitError(f"VR {vr} takes whole numbers")
    if not math.isfinite(value) or not low <= value <= high:
        raise UnfitError(f"VR {vr} holds {low} to {high}")
    if value != int(value):
        raise UnfitError(f"VR {vr} takes whole numbers; round {value} first")
    return int(value)


def _integer_text(value: object, vr: str) -> str:
    return str(whole_number(value, vr, -(2**31), 2**31 - 1))


def _decimal_text(value: object, vr: str) -> str:
    """Return up to 16 characters; text that fits stays as it is typed, also inside pydicom's numbers."""
    number = number_of(value) if isinstance(value, str) else value
    if not isinstance(number, int | float | Decimal):
        raise UnfitError(f"VR {vr} takes numbers")
    text = str(value).strip(" ")
    try:
        if len(text) > 16 or not _DECIMAL.fullmatch(text):
            # pydicom cuts off digits of a whole number rather than its ".0".
            near = float(number)
            whole = abs(near) < 1e15 and near.is_integer()
            text = str(int(near)) if whole else format_number_as_ds(near)
        if math.isfinite(float(text)):
            return text
    except (OverflowError, ValueError):  # of an int beyond floats; of NaN
        pass
    raise UnfitError("VR DS holds finite numbers only")


# -- dates and times


def _date_text(value: object, vr: str) -> str:
    if isinstance(value, datetime.date):
        return f"{value.year:04d}{value.month:02d}{value.day:02d}"
    text = _plain(value, vr, "a date, 'YYYYMMDD' or 'YYYY-MM-DD'")
    for form in (_EIGHT, _ISO_DATE):
        found = form.fullmatch(text)
        if found and _is_date(*map(int, found.groups())):
            return "".join(found.groups())
    found = _DAY_FIRST.fullmatch(text)
    if found and _is_date(int(found[3]), int(found[2]), int(found[1])):
        iso = f"{found[3]}-{found[2]}-{found[1]}"
        warnings.warn(
            f"{text!r} is no YYYYMMDD and was read as DDMMYYYY; type {iso!r}", UserWarning, stacklevel=outside()
        )
        return iso.replace("-", "")
    raise UnfitError("no such date; type it as 'YYYYMMDD' or 'YYYY-MM-DD'")


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


def outside() -> int:
    """Return the stack level of the caller of this package, for warnings."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame, level = frame.f_back, level + 1
    return level


def _time_text(value: object, vr: str) -> str:
    if isinstance(value, datetime.datetime | datetime.time):
        if value.tzinfo is not None:
            raise UnfitError("VR TM holds no time zone; TimezoneOffsetFromUTC does")
        return f"{value:%H%M%S}" + (f".{value.microsecond:06d}" if value.microsecond else "")
    if isinstance(value, int | float | Decimal):
        return _seconds_text(value)
    text = _plain(value, vr, "seconds since midnight, 'HHMMSS' or 'HH:MM:SS'")
    found = _TIME.fullmatch(text)
    if not found:
        raise UnfitError("no such time; type seconds since midnight, 'HHMMSS' or 'HH:MM:SS'")
    return "".join(part or "" for part in found.groups())


def _seconds_text(seconds: int | float | Decimal) -> str:
    if not math.isfinite(seconds) or not 0 <= (micro := round(Decimal(float(seconds)) * 10**6)) < 86400 * 10**6:
        raise UnfitError("a time is 0 to 86399.999999 seconds since midnight")
    whole, fraction = divmod(micro, 10**6)
    text = f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}"
    return text + (f".{fraction:06d}" if fraction else "")


def _date_time_text(value: object, vr: str) -> str:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return _date_text(value, vr)
    if not isinstance(value, datetime.datetime):
        text = _plain(value, vr, "a datetime, 'YYYYMMDDHHMMSS' or 'YYYY-MM-DDTHH:MM:SS'")
        if _is_date_time(text):
            return text
        try:
            value = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise UnfitError("no such time; type it as 'YYYYMMDDHHMMSS' or 'YYYY-MM-DDTHH:MM:SS'") from None
    fraction = f".{value.microsecond:06d}" if value.microsecond else ""
    return f"{_date_text(value, vr)}{value:%H%M%S}{fraction}{f'{value:%z}'[:5]}"


def _is_date_time(text: str) -> bool:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return False
    year, month, day, hour, minute, second, zone = found.groups()
    parts = [year, month or "01", day or "01"]
    in_time = int(hour or 0) < 24 and int(minute or 0) < 60 and float(second or 0) < 61
    in_zone = zone is None or (abs(int(zone)) <= 1400 and int(zone[3:]) < 60)
    return _is_date(*map(int, parts)) and in_time and in_zone


# -- text


def _plain(value: object, vr: str, wanted: str = "text") -> str:
    if isinstance(value, str | PersonName):
        return str(value).strip(" \0")
    typed = f"; type {str(value)!r}" if wanted == "text" and isinstance(value, int | float) else ""
    raise UnfitError(f"VR {vr} takes {wanted}{typed}")


def _checked(text: str, vr: str, forbidden: re.Pattern[str] = _CONTROLS) -> str:
    if len(text) > _LONGEST.get(vr, len(text)):
        raise UnfitError(f"{len(text)} characters where VR {vr} holds {_LONGEST[vr]}")
    found = forbidden.search(text)
    if found:
        raise UnfitError(f"VR {vr} holds no control character such as {found[0]!r}")
    return text


def _line_text(value: object, vr: str) -> str:
    return _checked(_plain(value, vr), vr)


def _paragraph_text(value: object, vr: str) -> str:
    _plain(value, vr)
    return _checked(str(value).rstrip(" \0"), vr, _FORBIDDEN_IN_TEXT)


def _unlimited_text(value: object, vr: str) -> str:
    _plain(value, vr)
    return _checked(str(value).rstrip(" \0"), vr)


def _code_text(value: object, vr: str) -> str:
    text = _checked(_plain(value, vr), vr)
    if not _CODE.fullmatch(text):
        typed = f"; type {text.upper()!r}" if _CODE.fullmatch(text.upper()) else ""
        raise UnfitError(f"VR CS holds capital letters, digits, spaces and underscores{typed}")
    return text


def _ascii_text(value: object, vr: str) -> str:
    text = _checked(_plain(value, vr), vr)
    if not text.isascii() or (vr == "UR" and not _URI.fullmatch(text)):
        raise UnfitError(f"VR {vr} holds no such characters")
    return text


def _age_text(value: object, vr: str) -> str:
    text = _plain(value, vr)
    if text and not _AGE.fullmatch(text):
        raise UnfitError("an age is three digits and D, W, M or Y, such as '018M'")
    return text


def _uid_text(value: object, vr: str) -> str:
    text = _plain(value, vr)
    if text and (len(text) > 64 or not _UID.fullmatch(text)):
        raise UnfitError("a UID is up to 64 digits and points, such as '1.2.840.10008.1.1', no part begins with 0")
    return text


def _name_text(value: object, vr: str) -> str:
    text = _checked(_plain(value, vr), vr)
    groups = text.split("=")
    if len(groups) > 3 or any(group.count("^") > 4 or len(group) > 64 for group in groups):
        raise UnfitError(
            "a name is up to 3 groups apart by '=', each up to 64 characters in 5 components apart by '^', "
            "such as 'Yamada^Tarou=山田^太郎'"
        )
    return text


TEXTS: dict[str, Callable[[Any, str], str]] = {
    **dict.fromkeys(("LO", "SH"), _line_text),
    **dict.fromkeys(("LT", "ST", "UT"), _paragraph_text),
    **dict.fromkeys(("AE", "UR"), _ascii_text),
    "AS": _age_text,
    "CS": _code_text,
    "DA": _date_text,
    "DS": _decimal_text,
    "DT": _date_time_text,
    "IS": _integer_text,
    "PN": _name_text,
    "TM": _time_text,
    "UC": _unlimited_text,
    "UI": _uid_text,
}
