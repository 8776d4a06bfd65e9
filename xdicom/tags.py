"""Tags: name an element; convert its values to and from Python and numpy; UniqueValues.

It only gathers what `keywords`, `values`, `charsets`, `decoding` and `encoding` hold, under one name for the rest.
"""

from .charsets import UTF8, fits
from .decoding import decode
from .encoding import encode
from .keywords import (
    PrivateTag,
    TagLike,
    as_tag,
    concrete_vr,
    dictionary_vm,
    dictionary_vr,
    is_private,
    label,
    parse,
    private_vr,
)
from .values import UniqueValues, to_array, unique

__all__ = [
    "UTF8",
    "PrivateTag",
    "TagLike",
    "UniqueValues",
    "as_tag",
    "concrete_vr",
    "decode",
    "dictionary_vm",
    "dictionary_vr",
    "encode",
    "fits",
    "is_private",
    "label",
    "parse",
    "private_vr",
    "to_array",
    "unique",
]
