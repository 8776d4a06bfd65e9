"""What a Zarr store of unknown origin may say of itself: checked before zarr opens it.

Only version 3, known codecs and types, sizes that chunks and memory can hold, and no links. Values are not looked at.
"""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import BrokenFileError

METADATA = "zarr.json"
MOST_CHUNK_BYTES = 2**31
MOST_COORDINATE_BYTES = 2**30

_MOST_METADATA = 2**28
_OLDER = frozenset({".zarray", ".zgroup", ".zattrs", ".zmetadata"})
_MOST_DIMS = 32
_ITEMSIZES = {
    "bool": 1,
    **{f"{kind}{bits}": bits // 8 for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
    "string": 16,  # of unknown length: a text takes at least that
}
_TEXT = "fixed_length_utf32"
# None of them can hold code: PickleCodec and its like are from version 2.
_CODECS = frozenset(
    {"bytes", "blosc", "crc32c", "gzip", "sharding_indexed", "transpose", "vlen-utf8", "zstd"}
    | {f"numcodecs.{name}" for name in ("blosc", "gzip", "zlib", "zstd", "shuffle")}
)


def check_store(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Check every group and array of a store.

    Parameters
    ----------
    path
        A folder.

    Returns
    -------
    dict
        By the path of each group ("/" is the outermost) the names of its arrays.

    Raises
    ------
    BrokenFileError
        If it is no Zarr store of version 3, or says what xdicom does not trust; nothing of it has been opened then.
    """
    root = Path(path)
    if not (root / METADATA).is_file():
        raise BrokenFileError(f"{str(root)!r} is no Zarr store of version 3: there is no {METADATA} in it")
    groups: dict[str, list[str]] = {}
    for folder in _folders(root):
        metadata = _metadata(folder / METADATA)
        name = "/" + folder.relative_to(root).as_posix().removeprefix(".")
        if metadata.get("node_type") == "group":
            groups[name] = []
        else:
            _check_array(folder, metadata)
            parent, _, own = name.rpartition("/")
            groups.setdefault(parent or "/", []).append(own)
    return groups


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders with metadata, outer ones first, and refuse what is no plain file or folder."""
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders.sort()
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise BrokenFileError(f"{path!r} is a link, or no file: copy the store with what its links lead to")
            if name in _OLDER:
                raise BrokenFileError(f"{path!r} is of Zarr version 2, whose codecs may run code: expected version 3")
        if METADATA in files:
            yield Path(folder)


def _raise(error: OSError) -> None:
    raise error


def _metadata(path: Path) -> Mapping[str, Any]:
    """Return the metadata of a node."""
    if path.stat().st_size > _MOST_METADATA:
        raise BrokenFileError(f"{str(path)!r} has {path.stat().st_size} bytes: expected at most {_MOST_METADATA}")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{str(path)!r} is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("zarr_format") != 3 or found.get("node_type") not in ("array", "group"):
        raise BrokenFileError(f"{str(path)!r} describes no group or array of Zarr version 3")
    if not isinstance(found.get("attributes", {}), dict):
        raise BrokenFileError(f"{str(path)!r} has attributes that are no mapping")
    return found


def _check_array(folder: Path, metadata: Mapping[str, Any]) -> None:
    shape = metadata.get("shape")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMS or not all(map(_is_size, shape)):
        raise BrokenFileError(f"{str(folder)!r} has the shape {shape!r}: expected a list of sizes")
    if metadata.get("storage_transformers"):
        raise BrokenFileError(f"{str(folder)!r} has storage transformers, which xdicom does not know")
    itemsize = _itemsize(folder, metadata.get("data_type"))
    _check_codecs(folder, metadata.get("codecs"), 0)
    chunk = _chunk_shape(folder, metadata.get("chunk_grid"), len(shape))
    if math.prod(chunk) * itemsize > MOST_CHUNK_BYTES:
        raise BrokenFileError(f"{str(folder)!r} has chunks of {math.prod(chunk) * itemsize} bytes: too large to trust")
    is_image = {"row", "column"} <= set(_names(metadata))
    if not is_image and math.prod(shape) * itemsize > MOST_COORDINATE_BYTES:
        raise BrokenFileError(f"{str(folder)!r} is a coordinate of {math.prod(shape) * itemsize} bytes: too large")


def _names(metadata: Mapping[str, Any]) -> list[str]:
    names = metadata.get("dimension_names")
    return [str(name) for name in names] if isinstance(names, list) else []


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _itemsize(folder: Path, dtype: object) -> int:
    """Return the bytes of one value, of a type that is known."""
    if isinstance(dtype, str) and dtype in _ITEMSIZES:
        return _ITEMSIZES[dtype]
    if isinstance(dtype, dict) and dtype.get("name") == _TEXT:
        length = _configuration(dtype).get("length_bytes")
        if _is_size(length):
            return max(int(length), 1)  # type: ignore[call-overload, no-any-return]
    raise BrokenFileError(f"{str(folder)!r} holds {dtype!r}: expected one of {sorted(_ITEMSIZES)} or {_TEXT}")


def _check_codecs(folder: Path, codecs: object, depth: int) -> None:
    if not isinstance(codecs, list) or not codecs or depth > 2:
        raise BrokenFileError(f"{str(folder)!r} has the codecs {codecs!r}: expected a list")
    for codec in codecs:
        name = codec if isinstance(codec, str) else codec.get("name") if isinstance(codec, dict) else None
        if name not in _CODECS:
            raise BrokenFileError(f"{str(folder)!r} needs the codec {name!r}: expected some of {sorted(_CODECS)}")
        for inner in ("codecs", "index_codecs") if name == "sharding_indexed" else ():
            _check_codecs(folder, _configuration(codec).get(inner), depth + 1)


def _configuration(node: object) -> Mapping[str, object]:
    found = node.get("configuration") if isinstance(node, dict) else None
    return found if isinstance(found, dict) else {}


def _chunk_shape(folder: Path, grid: object, ndim: int) -> list[int]:
    """Return the shape of the chunks, of a regular grid."""
    chunk = _configuration(grid).get("chunk_shape")
    is_regular = isinstance(grid, dict) and grid.get("name") == "regular"
    if not is_regular or not isinstance(chunk, list) or len(chunk) != ndim or not all(map(_is_size, chunk)):
        raise BrokenFileError(f"{str(folder)!r} has the chunk grid {grid!r}: expected a regular one of its {ndim} dims")
    return chunk
