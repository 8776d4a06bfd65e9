"""Siemens' own headers inside an element: the binary CSA header, and the slices of the protocol text in it.

Pure functions on bytes; what the values mean for a picture is known in `vendors`.

Notes
-----
A CSA header is a list of named tags with texts: a count of tags, then for each 84 bytes that say its name and how many
items follow, each of 16 bytes and a text. "SV10" in front marks the second version. The layout is Siemens' own; it is
described at https://nipy.org/nibabel/dicom/siemens_csa.html.
"""

import math
import re
import struct
from collections.abc import Collection

from .errors import BrokenFileError

_MOST_TAGS, _MOST_ITEMS = 1024, 4096
_TAG = struct.Struct("<64si4siii")
_ITEM = struct.Struct("<4i")
_BEGIN = b"### ASCCONV BEGIN"
_END = b"### ASCCONV END"
_SLICE = re.compile(
    rb"^\s*sSliceArray\.asSlice\[(\d{1,4})\]\.sPosition\.(dSag|dCor|dTra)\s*=\s*(\S{1,40})", re.MULTILINE
)
_AXES = {b"dSag": 0, b"dCor": 1, b"dTra": 2}

Vector = tuple[float, float, float]


def csa_values(raw: bytes, wanted: Collection[str]) -> dict[str, list[str]]:
    """Return the texts of some tags of a CSA header.

    Parameters
    ----------
    raw
        Value of (0029,xx10) or (0029,xx20) of the creator SIEMENS CSA HEADER.
    wanted
        Names of tags.

    Returns
    -------
    dict
        By name the items that are not empty; tags that are not there are left out.

    Raises
    ------
    BrokenFileError
        If the bytes are no CSA header.
    """
    is_second = raw[:4] == b"SV10"
    position = 8 if is_second else 0
    try:
        count = struct.unpack_from("<I", raw, position)[0]
        if not 1 <= count <= _MOST_TAGS:
            raise BrokenFileError(f"the CSA header announces {count} tags, expected 1 to {_MOST_TAGS}")
        position += 8
        found = {}
        surplus = 0
        for number in range(count):
            name, _, _, _, items, _ = _TAG.unpack_from(raw, position)
            if number == 0 and not is_second:
                surplus = items  # the first version adds to lengths the number of items of the first tag
            if not 0 <= items <= _MOST_ITEMS:
                raise BrokenFileError(f"a tag of the CSA header announces {items} items, expected 0 to {_MOST_ITEMS}")
            text = name.partition(b"\0")[0].decode("latin-1")
            spans, position = _items(raw, position + _TAG.size, items, None if is_second else surplus)
            if text in wanted:
                values = [raw[start:stop].partition(b"\0")[0].decode("latin-1").strip() for start, stop in spans]
                found[text] = [value for value in values if value]
    except struct.error:
        raise BrokenFileError("the CSA header is truncated") from None
    return found


def _items(raw: bytes, position: int, count: int, surplus: int | None) -> tuple[list[tuple[int, int]], int]:
    """Return where the texts of the items at `position` begin and end, and where the items end."""
    spans = []
    for _ in range(count):
        sizes = _ITEM.unpack_from(raw, position)
        size = sizes[1] if surplus is None else sizes[0] - surplus
        position += _ITEM.size
        if surplus is not None and not 0 <= size <= len(raw) - position:
            break  # the first version ends a list of items so
        if not 0 <= size <= len(raw) - position:
            raise BrokenFileError(
                f"an item of the CSA header has {size} bytes, of which {len(raw) - position} are there"
            )
        spans.append((position, position + size))
        position += -(-size // 4) * 4
    return spans, position


def csa_numbers(values: list[str] | None) -> list[float]:
    """Return the items of a tag as numbers; NaN for what is none."""
    numbers = []
    for value in values or ():
        try:
            numbers.append(float(value))
        except ValueError:
            numbers.append(math.nan)
    return numbers


def protocol_slices(raw: bytes) -> list[Vector]:
    """Return the centres of the slices that a protocol names, in its order.

    Parameters
    ----------
    raw
        Bytes that hold the text of a protocol, such as the CSA series header.

    Returns
    -------
    list
        (x, y, z) in LPS mm of each slice; empty where the text names none.
    """
    start = raw.find(_BEGIN)
    if start < 0:
        return []
    stop = raw.find(_END, start)
    centres: dict[int, list[float]] = {}
    for index, axis, number in _SLICE.findall(raw[start : stop if stop > 0 else len(raw)]):
        try:
            centres.setdefault(int(index), [0.0, 0.0, 0.0])[_AXES[axis]] = float(number)
        except ValueError:
            return []
    # A slice at the isocentre of all three axes has no line at all.
    count = max(centres, default=-1) + 1
    return [tuple(centres.get(i, [0.0, 0.0, 0.0])) for i in range(count)]  # type: ignore[misc]
