"""What an MR image shows, read from the terms in ImageType and its like, and written into them.

MAGNITUDE, PHASE, REAL, IMAGINARY; and WATER, FAT, IN_PHASE, OUT_PHASE.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import EditError
from .frames import Frames

IMAGE_TYPES = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
SIGNAL_TYPES = ("WATER", "FAT", "IN_PHASE", "OUT_PHASE")
UNKNOWN = "UNKNOWN"

Name = str | tuple[str, int, int]

# Siemens writes letters; Philips adds the kind of sequence.
_SUFFIXES = ("", "_FFE", "_SE", "_IR", "_B0", "_B1")
_IMAGE_TERMS = {f"{kind[0]}{suffix}": kind for kind in IMAGE_TYPES for suffix in _SUFFIXES} | {"PHASE MAP": "PHASE"}
_IMAGE_TERMS |= {kind: kind for kind in IMAGE_TYPES}
_SIGNAL_TERMS = {"W": "WATER", "F": "FAT", "IP": "IN_PHASE", "OP": "OUT_PHASE", "OPP": "OUT_PHASE"}
_SIGNAL_TERMS |= {"WATER": "WATER", "FAT": "FAT", "IN_PHASE": "IN_PHASE", "IN-PHASE": "IN_PHASE"}
_SIGNAL_TERMS |= dict.fromkeys(("OUT_PHASE", "OUT-PHASE", "OPP_PHASE", "OPPOSED_PHASE", "OUT_OF_PHASE"), "OUT_PHASE")

_PLACES = ("ComplexImageComponent", "FrameType", "ImageType")
# GE's RawDataType: 0 to 3, in the order of IMAGE_TYPES.
_GE_TYPE = ("GEMS_PARM_01", 0x0043, 0x2F)


def image_types(frames: Frames) -> list[object]:
    """Return MAGNITUDE, PHASE, REAL, IMAGINARY or UNKNOWN for each frame."""
    found = _found(frames, _IMAGE_TERMS)
    values, codes = frames.named(_GE_TYPE)
    known = range(len(IMAGE_TYPES))
    kinds = [IMAGE_TYPES[value] if isinstance(value, int) and value in known else UNKNOWN for value in values]
    return [kinds[code] if old == UNKNOWN and code >= 0 else old for code, old in zip(codes, found, strict=True)]


def signal_types(frames: Frames) -> list[object]:
    """Return WATER, FAT, IN_PHASE, OUT_PHASE or UNKNOWN for each frame."""
    return list(_found(frames, _SIGNAL_TERMS))


def _found(frames: Frames, terms: dict[str, str]) -> list[str]:
    """Return what the first place says that says anything."""
    found = [UNKNOWN] * len(frames)
    for name in reversed(_PLACES):
        values, codes = frames.named(name)
        kinds = [next((terms[part] for part in _telling(value) if part in terms), "") for value in values]
        found = [kinds[code] or old if code >= 0 else old for code, old in zip(codes.tolist(), found, strict=True)]
    return found


def _telling(value: object) -> Sequence[str]:
    """Return the value of ComplexImageComponent, or values 3 and on of an image type."""
    return _parts(value)[2:] if isinstance(value, tuple) else _parts(value)


def _parts(value: object) -> Sequence[str]:
    return [str(part) for part in value] if isinstance(value, tuple) else [str(value or "")]


def set_image_type(value: object, frames: Frames) -> dict[Name, object]:
    """Return the values by tag that make frames show one of IMAGE_TYPES."""
    wanted = _checked("image_type", value, IMAGE_TYPES)
    changes: dict[Name, object] = {"ImageType": _each(frames, "ImageType", lambda parts: _with_kind(parts, wanted))}
    if (frames.named("FrameType")[1] >= 0).all() and len(frames):
        changes["FrameType"] = _each(frames, "FrameType", lambda parts: _with_kind(parts, wanted))
    if (frames.named("ComplexImageComponent")[1] >= 0).any():
        changes["ComplexImageComponent"] = wanted
    if (frames.named(_GE_TYPE)[1] >= 0).any():
        changes[_GE_TYPE] = IMAGE_TYPES.index(wanted)
    return changes


def set_signal_type(value: object, frames: Frames) -> dict[Name, object]:
    """Return the values by tag that make frames show one of SIGNAL_TYPES."""
    wanted = _checked("signal_type", value, SIGNAL_TYPES)
    return {"ImageType": _each(frames, "ImageType", lambda parts: _with_signal(parts, wanted))}


def _checked(name: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise EditError(f"{name} = {value!r}: expected one of {', '.join(map(repr, allowed))}")
    return str(value)


def _each(frames: Frames, name: str, change: Callable[[list[str]], list[str]]) -> NDArray[np.object_]:
    """Return the changed terms of each frame."""
    values, codes = frames.named(name)
    changed = [tuple(change(list(_parts(value)))) for value in values] + [tuple(change([]))]
    found = np.empty(len(frames), object)
    for row, code in enumerate(codes.tolist()):
        found[row] = changed[code]
    return found


def _with_kind(parts: list[str], wanted: str) -> list[str]:
    """Replace the terms that say what an image shows, each by one of its own style; else add one."""
    if not any(part in _IMAGE_TERMS for part in parts[2:]):
        return [*_padded(parts), wanted]
    return [*parts[:2], *(_styled(part, wanted) if part in _IMAGE_TERMS else part for part in parts[2:])]


def _styled(part: str, wanted: str) -> str:
    is_letter = part[1:] in _SUFFIXES
    return wanted[0] + part[1:] if is_letter else wanted


def _with_signal(parts: list[str], wanted: str) -> list[str]:
    if not any(part in _SIGNAL_TERMS for part in parts[2:]):
        return [*_padded(parts), wanted]
    return [*parts[:2], *(wanted if part in _SIGNAL_TERMS else part for part in parts[2:])]


def _padded(parts: list[str]) -> list[str]:
    """Fill up the values that every MR image has (PS3.3 C.8.3.1.1.1), so that a term added comes after them."""
    filled = [part for part in parts if part]
    return [*filled, *("DERIVED", "SECONDARY", "OTHER")[len(filled) :]]
