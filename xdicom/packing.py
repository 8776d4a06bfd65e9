"""Arrays of integers and lists of raw values to bytes and back, for the catalog.

It knows neither SQLite nor files.
"""

import struct
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .columns import Raw, Ref
from .errors import CatalogError

_KINDS = {b"b": "<i1", b"h": "<i2", b"i": "<i4", b"q": "<i8"}
_NAME = 6
_CONSTANT = b"="
Integer = TypeVar("Integer", np.int32, np.int64)
_REPEATED = struct.Struct("<qL")
_COUNTS = struct.Struct("<LL")
_ONE = struct.Struct(f"<LL{_NAME}sl")
_REF = struct.Struct("<QQ")


def pack_integers(array: NDArray[np.integer]) -> bytes:
    """Pack a 1-D array into the smallest dtype that holds it; a constant one into one number."""
    if array.size == 0:
        return b"b"
    low, high = int(array.min()), int(array.max())
    if low == high:
        return _CONSTANT + _REPEATED.pack(low, array.size)
    for kind, dtype in _KINDS.items():
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return kind + array.astype(dtype).tobytes()
    raise CatalogError(f"{high} does not fit 64 bits")


def unpack_integers(blob: bytes, dtype: type[Integer], count: int) -> NDArray[Integer]:
    """Return the `count` integers that `pack_integers` packed.

    Raises
    ------
    CatalogError
        If the bytes hold something else.
    """
    kind = blob[:1]
    if kind == _CONSTANT and len(blob) == 1 + _REPEATED.size:
        value, found = _REPEATED.unpack_from(blob, 1)
        if found == count and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return np.full(count, value, dtype)
    elif kind in _KINDS and len(blob) == 1 + count * np.dtype(_KINDS[kind]).itemsize:
        return np.frombuffer(blob, _KINDS[kind], offset=1).astype(dtype)
    raise CatalogError("the catalog is damaged: an array that cannot be unpacked")


def pack_raws(raws: Sequence[Raw]) -> bytes:
    """Pack raw values and references: VRs, then lengths (-1 for a reference), then bytes."""
    vr, first = raws[0] if raws else ("", b"")
    if len(raws) == 1 and not isinstance(first, Ref):  # most columns
        return _ONE.pack(1, 1, f"{vr:6}".encode(), len(first)) + first
    vrs = [vr for vr, _ in raws]
    lengths = [-1 if isinstance(value, Ref) else len(value) for _, value in raws]
    body = b"".join([_REF.pack(*value) if isinstance(value, Ref) else value for _, value in raws])
    names = vrs[:1] if len(set(vrs)) == 1 else vrs
    return (
        _COUNTS.pack(len(raws), len(names))
        + "".join([f"{name:6}" for name in names]).encode()
        + _pack_lengths(lengths)
        + body
    )


def _pack_lengths(lengths: list[int]) -> bytes:
    return struct.pack(f"<{len(lengths)}l", *lengths)


def unpack_raws(blob: bytes) -> list[Raw]:
    """Return what `pack_raws` packed."""
    try:
        count, names = _COUNTS.unpack_from(blob)
        if count > len(blob) or names > count:
            raise ValueError
        position = _COUNTS.size + _NAME * names
        text = blob[_COUNTS.size : position].decode("ascii")
        vrs = [text[i : i + _NAME].strip() for i in range(0, _NAME * names, _NAME)] * (count if names == 1 else 1)
        lengths = struct.unpack_from(f"<{count}l", blob, position)
        position += 4 * count
        raws: list[Raw] = []
        for vr, length in zip(vrs, lengths, strict=True):
            if length < 0:
                raws.append((vr, Ref(*_REF.unpack_from(blob, position))))
                position += _REF.size
            else:
                raws.append((vr, blob[position : position + length]))
                position += length
        if position != len(blob):
            raise ValueError
    except (struct.error, TypeError, ValueError):
        raise CatalogError("the catalog is damaged: values that cannot be unpacked") from None
    return raws
