"""Name an element: keyword, (group, element), int or private; and the VR that the dictionaries give it.

It knows nothing of values.
"""

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import RepeatersDictionary as _REPEATERS  # type: ignore[attr-defined]
from pydicom.datadict import (
    dictionary_VM,
    dictionary_VR,
    keyword_dict,
    keyword_for_tag,
    private_dictionary_VM,
    private_dictionary_VR,
    tag_for_keyword,
)

from .errors import UnknownTagError

# pydicom's BaseTag is an int.
TagLike = str | int | tuple[int, int]

# PS3.5 7.1.2: in explicit VR the long ones have two reserved bytes and a length of 32 bits.
LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
NUMBER_CODES = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI")
VRS = LONG_VRS | set(NUMBER_CODES) | set(_TEXT_VRS) | {"AT"}

_FORMS = "a tag is a keyword, a (group, element) pair, or a private ('Creator', group, element)"
_LABEL = re.compile(r"\(([0-9A-Fa-f]{4}), ?([0-9A-Fa-f]{4})\)")


# Elements of xdicom's own block in group 0029: whether padding is NaN, the colour map.
_OWN_VRS = {0x01: "CS", 0x02: "LO"}


class PrivateTag(NamedTuple):
    """A private element by its creator, wherever its block lies in a file.

    Attributes
    ----------
    creator
        Text of the private creator, such as "SIEMENS CSA HEADER".
    group
        An odd group number.
    element
        The low byte of the element number, 0x00 to 0xFF.
    """

    creator: str
    group: int
    element: int


def as_tag(name: TagLike) -> int:
    """Return the tag 0xGGGGEEEE that a name stands for.

    Parameters
    ----------
    name
        A keyword, a (group, element) pair, an int, a pydicom tag, or text such as "(0018,0081)". The keyword of a
        repeating group stands for its first group, "OverlayRows" for (6000,0010).

    Raises
    ------
    UnknownTagError
        If it is none of these; the text has the nearest keywords.

    Examples
    --------
    >>> hex(as_tag("EchoTime"))
    '0x180081'
    """
    if isinstance(name, str):
        return _from_text(name)
    if isinstance(name, tuple | list):
        return _from_pair(name)
    number = _integer(name)
    if number is None or not 0 <= number <= 0xFFFFFFFF:
        raise UnknownTagError(f"{name!r} is no tag; {_FORMS}")
    return number


def parse(name: TagLike | tuple[str, int, int]) -> int | PrivateTag:
    """Return the tag that a name stands for, or the private element that a (creator, group, element) names.

    Raises
    ------
    UnknownTagError
        If it is neither, or the group is even, or the element is more than a byte.
    """
    if not (isinstance(name, tuple) and len(name) == 3 and isinstance(name[0], str)):
        return as_tag(name)
    group, element = _integer(name[1]), _integer(name[2])
    if group is None or element is None:
        raise UnknownTagError(_not_a_pair(name))
    if not 0 < group <= 0xFFFF or group % 2 == 0:
        raise UnknownTagError(f"group {group:#06x} in {name!r} is no private group: these are odd, such as 0x0029")
    if not 0 <= element <= 0xFF:
        raise UnknownTagError(
            f"element {element:#x} in {name!r} is more than a byte: name it without its block, {element & 0xFF:#04x}"
        )
    return PrivateTag(name[0].strip(), group, element)


def label(tag: int) -> str:
    """Return the keyword of a tag, or "(gggg,eeee)" where it has none of its own.

    Notes
    -----
    `as_tag(label(tag)) == tag` for every tag; so only the first of a repeating group has a keyword.

    Examples
    --------
    >>> label(0x00180081), label(0x00291010)
    ('EchoTime', '(0029,1010)')
    """
    keyword = keyword_for_tag(int(tag))
    if keyword and _tag_of(keyword) == tag:
        return keyword
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def is_private(tag: int) -> bool:
    """Return whether the group of a tag is odd."""
    return bool(tag >> 16 & 1)


@lru_cache(maxsize=8192)
def dictionary_vr(tag: int) -> str:
    """Return the VR of a tag in the standard's dictionary.

    Returns
    -------
    str
        Such as "DS" or "US or SS"; "LO" for a private creator, "UL" for a group length, "UN" for what is not known.
    """
    if is_private(tag):
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        vr = dictionary_VR(int(tag))
    except KeyError:
        return "UL" if tag & 0xFFFF == 0 else "UN"
    return "UN" if vr == "NONE" else vr


@lru_cache(maxsize=8192)
def dictionary_vm(tag: int, creator: str = "") -> str:
    """Return the value multiplicity of a tag, such as "1", "3" or "2-2n"; "1-n" for what is not known."""
    try:
        return private_dictionary_VM(int(tag), creator) if is_private(tag) else dictionary_VM(int(tag))
    except KeyError:
        return "1-n"


def private_vr(creator: str, tag: int) -> str:
    """Return the VR that pydicom's private dictionary gives an element in the block of a creator, or "UN"."""
    if is_private(tag) and tag & 0xFF00:
        if creator == "xdicom" and tag >> 16 == 0x0029:
            return _OWN_VRS.get(tag & 0xFF, "UN")
        try:
            return private_dictionary_VR(int(tag), creator)
        except KeyError:
            return "UN"
    return dictionary_vr(tag)


def concrete_vr(tag: int, vr: str = "", *, creator: str = "", signed: bool = False) -> str:
    """Return the VR, one of two letters, by which a value is decoded and encoded.

    Parameters
    ----------
    tag
        The tag.
    vr
        As written in the file. For "", "UN" and what is no VR the dictionaries serve.
    creator
        The private creator of the block that the tag lies in.
    signed
        Whether PixelRepresentation is 1, which decides between US and SS.

    Returns
    -------
    str
        "UN" where nothing is known.
    """
    if vr not in VRS or vr == "UN":
        known = vr if " or " in vr else private_vr(creator, tag) if creator else dictionary_vr(tag)
        # Of "US or OW" (LUTData) and the like OW holds any length; nearly all files have it.
        vr = known if known in VRS else ("SS" if signed else "US") if known == "US or SS" else "OW"
    return vr


@lru_cache(maxsize=1024)
def _tag_of(keyword: str) -> int | None:
    """Return the tag of a keyword, the first one for a repeating group."""
    tag = tag_for_keyword(keyword) if keyword else None
    if tag is None and keyword:
        masks = [mask for mask, entry in _REPEATERS.items() if entry[4] == keyword]
        tag = int(masks[0].replace("x", "0"), 16) if masks else None
    return tag


def _from_text(text: str) -> int:
    tag = _tag_of(text)
    if tag is not None:
        return tag
    found = _LABEL.fullmatch(text)
    if found:
        return int(found[1] + found[2], 16)
    raise UnknownTagError(f"{text!r} is no DICOM keyword{_nearest(text)}; {_FORMS}")


def _nearest(text: str) -> str:
    """Return the keywords that a typo may stand for, as the end of a sentence."""
    if text.startswith("_"):  # asked for by tools that look for a protocol, never a typo
        return ""
    folded = text.replace(" ", "").replace("_", "").casefold()
    found = [keyword for keyword in keyword_dict if keyword and keyword.casefold() == folded]
    found = found or difflib.get_close_matches(text, keyword_dict, 3, 0.7)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def _from_pair(pair: Sequence[object]) -> int:
    numbers = [_integer(part) for part in pair]
    if len(pair) == 2 and None not in numbers:
        group, element = (int(number) for number in numbers if number is not None)
        if 0 <= group <= 0xFFFF and 0 <= element <= 0xFFFF:
            return group << 16 | element
        raise UnknownTagError(f"({group:#x}, {element:#x}) is no tag: group and element have 16 bits each")
    raise UnknownTagError(_not_a_pair(pair))


def _not_a_pair(names: Sequence[object]) -> str:
    if isinstance(names, tuple) and any(isinstance(name, str) for name in names):
        return f"{names!r} is no tag; {_FORMS}; for several tags type a list: {list(names)!r}"
    return f"{names!r} is no tag; {_FORMS}"


def _integer(value: object) -> int | None:
    """Return an int or a numpy integer as an int, None for anything else."""
    index: Callable[[], int] | None = getattr(value, "__index__", None)
    return None if index is None or isinstance(value, bool) else operator.index(index())
