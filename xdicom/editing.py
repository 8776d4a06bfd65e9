"""Values that a user sets to columns laid over a table: encoded, checked, all or none.

It stages nothing itself; where columns go is known in `edits`.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import tags
from .columns import Column, Known
from .errors import EditError, TagValueError
from .frames import CHARSET, SIGNED, Frames
from .imagery import STORED_TAGS
from .instance import INSTANCE_UID
from .scan import BIRTH_DATE, PATIENT_ID, PATIENT_NAME, SERIES_UID, STUDY_UID
from .tags import PrivateTag, UniqueValues

KEY_TAGS = (PATIENT_ID, STUDY_UID, SERIES_UID)
_UNDELETABLE = frozenset({*KEY_TAGS, INSTANCE_UID, 0x00080016})
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_PIXELS = 0x7FE0

Overlay = dict[int, Column | None]


class _Charsets:
    """Which character set new text of a table is written in."""

    def __init__(self, frames: Frames) -> None:
        values, _ = frames.column(CHARSET)
        texts = {_joined(value) for value in values} or {""}
        self.current = next(iter(texts)) if len(texts) == 1 else ""
        self.switched = False
        self._frames = frames

    def encode(self, tag: int, vr: str, value: object, creator: str, signed: bool) -> bytes:
        """Encode a value, in UTF-8 where the table's character set does not hold it and nothing else speaks against."""
        options: dict[str, Any] = {"creator": creator, "signed": signed}
        if vr not in _TEXT_VRS or self.switched:
            return tags.encode(tag, vr, value, charset=self.current, **options)
        try:
            return tags.encode(tag, vr, value, charset=self.current, **options)
        except TagValueError:
            raw = tags.encode(tag, vr, value, charset=tags.UTF8, **options)
            other = self._not_ascii()
            if other:
                raise TagValueError(
                    f"{tags.label(tag)} = {value!r} does not fit the character set {self.current or 'ISO_IR 6'!r}, and "
                    f"{other} has text in it that is not ASCII: set SpecificCharacterSet and that text first"
                ) from None
            self.current, self.switched = tags.UTF8, True
            return raw

    def _not_ascii(self) -> str:
        """Return the name of an element whose text is not ASCII, or ""."""
        for tag in self._frames.tags():
            if tags.concrete_vr(tag) in _TEXT_VRS:
                raws, _ = self._frames.raw_values(tag)
                if any(not raw.isascii() or b"\x1b" in raw for _, raw in raws):
                    return tags.label(tag)
        return ""


def overlay_of(frames: Frames, values: Mapping[int | PrivateTag, object], vrs: Mapping[object, str]) -> Overlay:
    """Return the columns that give every row of a table these values.

    Parameters
    ----------
    frames
        The table as it is now.
    values
        By tag; None removes the element.
    vrs
        VR of private elements that no dictionary knows.

    Raises
    ------
    EditError
        If an element cannot be set or removed.
    TagValueError
        If a VR cannot hold a value.
    """
    charsets = _Charsets(frames)
    signed = frames.column(SIGNED)[0] == [1]
    overlay: Overlay = {}
    for name, value in values.items():
        creator = name.creator if isinstance(name, PrivateTag) else ""
        tag = _place(frames, name, overlay) if isinstance(name, PrivateTag) else name
        _check(frames, tag, value)
        if value is None:
            overlay[tag] = None
            continue
        vr = vrs.get(name) or _vr(frames, tag, creator, signed)
        known: Known = (vr, charsets.encode(tag, vr, _single(value, tag), creator, signed))
        overlay[tag] = Column([known])
    if charsets.switched:
        overlay[CHARSET] = Column([("CS", tags.UTF8.encode())])
    return overlay


def unchanged(frames: Frames, tag: int, column: Column | None) -> bool:
    """Say whether every row of a table has this column's value already."""
    before, codes = frames.raw_values(tag)
    if column is None:
        return not before or bool((codes < 0).all())
    if len(before) != 1 or (codes < 0).any() or len(column.values) != 1:
        return False
    (old_vr, old), (new_vr, new) = before[0], column.values[0]
    if old == new:
        return True
    same: bool = tags.decode(tag, old_vr, old) == tags.decode(tag, new_vr, bytes(new))
    return same


def _single(value: object, tag: int) -> object:
    if isinstance(value, UniqueValues) and len(value) != 1:
        raise EditError(f"{tags.label(tag)} = {list(value)!r} are {len(value)} values: set one, such as .item()")
    return value.item() if isinstance(value, UniqueValues | np.generic) else value


def _check(frames: Frames, tag: int, value: object) -> None:
    """Refuse what cannot be set; warn where pixels must follow."""
    label = tags.label(tag)
    if tag >> 16 == _PIXELS and tag & 0xFFFF in (8, 9, 0x10):
        raise EditError(f"{label} is set by set_ndarray() or set_xarray(), not as a tag")
    if tag >> 16 == 2 or not tag & 0xFFFF:
        raise EditError(f"{label} describes the file and follows by itself: it cannot be set")
    empty = value is None or (isinstance(value, str | list | tuple) and not len(value))
    if empty and tag in _UNDELETABLE:
        raise EditError(f"{label} identifies the object: it cannot be removed or empty")
    if tag == INSTANCE_UID and len(np.unique(frames.column(INSTANCE_UID)[1])) > 1:
        raise EditError("one SOPInstanceUID for several instances: they could not be told apart")
    if tag in STORED_TAGS and frames.unique(tag) != value:
        warnings.warn(
            f"{label} describes the stored pixels: they still decode by the file's value, and save() refuses "
            "the series until set_ndarray() makes it true or restore() drops it",
            UserWarning,
            stacklevel=2,
        )


def _vr(frames: Frames, tag: int, creator: str, signed: bool) -> str:
    """Return the VR that a value is written in: the file's, else the dictionary's."""
    column = frames.columns.get(tag)
    written = {vr for vr, _ in column.values if vr not in ("", "UN")} if column else set()
    vr = written.pop() if len(written) == 1 else tags.concrete_vr(tag, creator=creator, signed=signed)
    if vr == "UN" and tags.is_private(tag):
        raise EditError(
            f"no dictionary knows {tags.label(tag)}: give its VR, record.set({tags.label(tag)!r}, value, VR='LO')"
        )
    return vr


def _place(frames: Frames, name: PrivateTag, overlay: Overlay) -> int:
    """Return the tag of a private element, in the block of its creator, which is made where there is none."""
    group = name.group << 16
    free = 0
    for block in range(0x10, 0x100):
        creators, codes = frames.column(group | block)
        if name.creator in creators and len(creators) == 1 and (codes >= 0).all():
            return group | block << 8 | name.element
        if not creators and not free and group | block not in overlay:
            free = block
    staged = [tag for tag, column in overlay.items() if column and column.values[0][1] == name.creator.encode()]
    if staged:
        return group | (staged[0] & 0xFF) << 8 | name.element
    if not free:
        raise EditError(f"group {name.group:04X} has no free private block for {name.creator!r}")
    overlay[group | free] = Column([("LO", tags.encode(group | free, "LO", name.creator))])
    return group | free << 8 | name.element


def _joined(value: object) -> str:
    return "\\".join(map(str, value)) if isinstance(value, tuple) else str(value or "")


__all__ = ["BIRTH_DATE", "KEY_TAGS", "PATIENT_NAME", "Overlay", "overlay_of", "unchanged"]
