"""Values by keyword as raw values, for new records.

It stages nothing.
"""

from collections.abc import Iterable, Mapping

from . import tags
from .columns import Known

_CHARSET = 0x00080005


def raw_values(values: Mapping[str, object]) -> dict[int, Known]:
    """Encode values by tag or keyword into raw ones, in UTF-8 where text needs it.

    Raises
    ------
    TagValueError
        If a value does not fit its VR.
    UnknownTagError
        If a keyword does not exist.
    """
    by_tag = {tags.as_tag(name): value for name, value in values.items()}
    charset = "" if _is_ascii(by_tag.values()) else "ISO_IR 192"
    encoded: dict[int, Known] = {}
    for tag, value in by_tag.items():
        if value is None:
            continue
        vr = tags.concrete_vr(tag)
        encoded[tag] = vr, tags.encode(tag, vr, value, charset=charset)
    if charset:
        encoded[_CHARSET] = "CS", charset.encode()
    return encoded


def _is_ascii(values: Iterable[object]) -> bool:
    return all(str(value).isascii() for value in values)

