"""Values that a user sets to columns laid over a table: encoded, checked, all or none.

It stages nothing itself; where columns go is known in `edits`.
"""

import struct
import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import tags
from .columns import ENCODING, STAGED, TILE, Column, Known, Ref, distinct_pairs
from .errors import BrokenFileError, EditError, TagValueError
from .explicit import to_explicit
from .frames import CHARSET, SIGNED, Frames
from .groups import ECHO_TIME, EFFECTIVE_ECHO_TIME, FRAME_GROUPS, SHARED_GROUPS
from .imagery import STORED_TAGS, tiled_rows
from .instance import INSTANCE_UID
from .overlay import has_text_beyond_ascii
from .scan import PATIENT_ID, SERIES_UID, STUDY_UID
from .strings import outside
from .tags import PrivateTag, UniqueValues
from .vendors import IMAGE_TYPE, decides_tiles, hints_at_tiles, owns_tiles
from .walker import IMPLICIT

_SOP_CLASS = 0x00080016
_UNDELETABLE = frozenset({PATIENT_ID, STUDY_UID, SERIES_UID, INSTANCE_UID, _SOP_CLASS})
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "SQ", "ST", "UC", "UT"})
_PIXELS = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010})
# The two names of one value in enhanced files.
_TWINS = {ECHO_TIME: EFFECTIVE_ECHO_TIME, EFFECTIVE_ECHO_TIME: ECHO_TIME}

Overlay = dict[int, Column | None]
Values = Mapping[int | PrivateTag, object]
Rows = NDArray[np.bool_]


def overlay_of(frames: Frames, values: Values, vrs: Mapping[object, str]) -> Overlay:
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
        If a VR cannot hold a value, or the character set its text.
    """
    plain = {name: _single(name, value) for name, value in values.items()}
    editor = _Editor(frames, plain, vrs)
    for name in sorted(plain, key=lambda name: (name != CHARSET, isinstance(name, PrivateTag))):
        if isinstance(name, PrivateTag):
            editor.set_private(name, plain[name])
        else:
            _check(name, plain[name])
            editor.set(name, plain[name])
    result = editor.result()
    _refuse_two_echo_times(frames, result)
    _refuse_moved_tiles(frames, result)
    return result


def _refuse_moved_tiles(frames: Frames, overlay: Overlay) -> None:
    """Refuse what would make other slices of the pictures that hold several."""
    if TILE not in frames.columns:
        return
    tiled = np.flatnonzero(tiled_rows(frames))
    for tag, column in overlay.items() if tiled.size else ():
        new = column.take(tiled) if column else None
        is_type = tag == IMAGE_TYPE and not (new and all(hints_at_tiles(tag, raw) for _, raw in _raws(new)))
        is_owner = owns_tiles(tag) and tag in frames.columns
        if (is_type or is_owner or decides_tiles(tag)) and not unchanged(frames.take(tiled), tag, new):
            raise EditError(
                f"{tags.label(tag)} says where the slices in a mosaic are, and cannot be edited there: make a new "
                "series first, series.new_sibling().set_xarray(series.to_xarray())"
            )


def _refuse_two_echo_times(frames: Frames, overlay: Overlay) -> None:
    if not overlay.keys() >= _TWINS.keys() or not _enhanced_rows(frames).any():
        return
    one, other = (frames.with_columns({tag: overlay[tag]}).unique(tag) for tag in _TWINS)
    if len(one) != len(other) or not np.allclose(one, other):
        raise EditError(
            f"EchoTime {list(one)} and EffectiveEchoTime {list(other)} are one value in enhanced files: set one"
        )


def _single(name: int | PrivateTag, value: object) -> object:
    """Return what a value of several kinds stands for: None only where the element goes."""
    if isinstance(value, UniqueValues):
        if len(value) != 1:
            label = tags.label(name) if isinstance(name, int) else str(tuple(name))
            raise EditError(f"{label} = {list(value)!r} are {len(value)} values: set one, such as .item()")
        value = "" if value[0] is None else value[0]
    return value.item() if isinstance(value, np.generic) else value


def _check(tag: int, value: object) -> None:
    """Refuse what cannot be set or removed."""
    if tag in _PIXELS:
        raise EditError(f"{tags.label(tag)} is set by set_ndarray() or set_xarray(), not as a tag")
    if tag >> 16 == 2 or not tag & 0xFFFF:
        raise EditError(f"{tags.label(tag)} describes the file and follows by itself: it cannot be set")
    if tag in (SHARED_GROUPS, FRAME_GROUPS):
        raise EditError(f"{tags.label(tag)} is set by the tags that are in it, such as RepetitionTime")
    empty = value is None or (isinstance(value, str | list | tuple | bytes) and not len(value))
    if empty and tag in _UNDELETABLE:
        raise EditError(f"{tags.label(tag)} identifies the object: it cannot be removed or empty")


def check_instances(tables: Iterable[Frames], values: Values) -> None:
    """Refuse one SOPInstanceUID for instances of several tables.

    Raises
    ------
    EditError
        If there are several.
    """
    if INSTANCE_UID in values:
        there = {value for table in tables for value in table.unique(INSTANCE_UID)}
        if len(there) > 1:
            raise EditError(
                f"one SOPInstanceUID for {len(there)} instances: they could not be told apart; set it on one"
            )


def unchanged(frames: Frames, tag: int, column: Column | None) -> bool:
    """Say whether every row of a table has this column's value already, however it is written."""
    if all(map(frames.is_uniform, (tag, CHARSET, SIGNED))) and (column is None or column.is_uniform):
        return _is_uniformly(frames, tag, column)
    raws, codes = frames.raw_values(tag)
    if column is None:
        return bool((codes < 0).all())
    new = column.all_codes(len(frames))
    pairs, _ = distinct_pairs(codes, new)
    if any((old < 0) != (code < 0) for old, code in pairs):
        return False
    if all(old < 0 or raws[old][1] == column.values[code][1] for old, code in pairs):
        return True
    after = frames.with_columns({tag: column})
    (before, codes), (values, new) = frames.column(tag), after.column(tag)
    pairs, _ = distinct_pairs(codes, new)
    return all(old < 0 or _equal(before[old], values[code]) for old, code in pairs)


def _is_uniformly(frames: Frames, tag: int, column: Column | None) -> bool:
    """Say the same without a look at the rows, which all have one value of everything that counts."""
    there = frames.columns.get(tag)
    if column is None or there is None:
        return column is there
    new = _raws(column)[0]
    return there.values[0][1] == new[1] or _equal(frames.column(tag)[0][0], frames.decoded(tag, new))


def _equal(one: object, other: object) -> bool:
    found = one == other
    return found if isinstance(found, bool) else bool(np.all(found))


def warn_of_pixels(overlays: Iterable[Overlay]) -> None:
    """Warn where pixels must follow an edit.

    Warns
    -----
    UserWarning
        With the tags.
    """
    found = sorted({tag for overlay in overlays for tag in overlay if tag in STORED_TAGS})
    if found:
        warnings.warn(
            f"{', '.join(map(tags.label, found))} describes the stored pixels: they still decode by the file's value, "
            "and save() refuses the series until set_ndarray() makes it true or restore() drops it",
            UserWarning,
            stacklevel=outside(),
        )


def displaced(frames: Frames, overlay: Overlay) -> list[int]:
    """Return the tags whose earlier edits give way: EchoTime and EffectiveEchoTime are one value in enhanced files."""
    found = [twin for tag, twin in _TWINS.items() if tag in overlay and twin not in overlay]
    return found if found and _enhanced_rows(frames).any() else []


def tied(overlay: Overlay, wanted: Iterable[int]) -> set[int]:
    """Return which edits have to go with some.

    Text goes with its character set, private elements with their creator, and this with the last of them.
    """
    found = set(wanted)
    if CHARSET in found:
        found |= {
            tag for tag, column in overlay.items() if column and has_text_beyond_ascii(dict(enumerate(_raws(column))))
        }
    creators = {tag for tag in found if tags.is_private(tag) and 0x10 <= tag & 0xFFFF <= 0xFF}
    found |= {tag for tag in overlay if tag >= 0 and _creator_of(tag) in creators}
    emptied = {_creator_of(tag) for tag in found & overlay.keys()} - {-1}
    return found | (emptied - {_creator_of(tag) for tag in overlay.keys() - found})


def _raws(column: Column) -> list[Known]:
    return [(vr, raw) for vr, raw in column.values if isinstance(raw, bytes)]


def _creator_of(tag: int) -> int:
    """Return the tag of the private creator of an element, -1 for others."""
    return tag >> 16 << 16 | tag >> 8 & 0xFF if tags.is_private(tag) and tag & 0xFFFF >= 0x1000 else -1


def _enhanced_rows(frames: Frames) -> Rows:
    """Say which rows have functional groups."""
    columns = [frames.columns[tag] for tag in (SHARED_GROUPS, FRAME_GROUPS) if tag in frames.columns]
    found: Rows = np.zeros(len(frames), bool)
    for column in columns:
        found |= column.all_codes(len(frames)) >= 0
    return found


def with_twins(base: Frames, changes: Overlay) -> Overlay:
    """Return columns laid over a table, with the other name of an edited echo time where files are enhanced."""
    edited = [tag for tag in _TWINS if tag in changes]
    if len(edited) != 1 or not (rows := _enhanced_rows(base)).any():
        return changes
    twin, column = _TWINS[edited[0]], changes[edited[0]]
    known = [_as_twin(twin, raw) for raw in _raws(column)] if column else []
    codes = column.all_codes(len(base)) if column else np.full(len(base), -1, np.int32)
    raws, before = base.raw_values(twin)
    laid = np.where(rows, np.where(codes < 0, -1, codes + len(raws)), before).astype(np.int32)
    return {**changes, twin: Column([*raws, *known], laid).take(np.arange(len(laid)))}


def _as_twin(tag: int, value: Known) -> Known:
    """Turn the DS of EchoTime into the FD of EffectiveEchoTime, or back."""
    number = tags.decode(_TWINS[tag], *value)
    vr = "FD" if tag == EFFECTIVE_ECHO_TIME else "DS"
    try:
        return vr, tags.encode(tag, vr, "" if number is None else number)
    except TagValueError:
        return vr, b""


# -- one assignment


class _Context(NamedTuple):
    """What decides how a value is written: SpecificCharacterSet, and whether pixels are signed."""

    charset: str
    signed: bool


class _Editor:
    """The columns of one assignment, made tag by tag."""

    def __init__(self, frames: Frames, values: Values, vrs: Mapping[object, str]) -> None:
        self._before, self._vrs = frames, vrs
        self._after: Frames | None = frames
        self._values = values
        self._overlay: Overlay = {}
        self._fixed = CHARSET in values
        self._contexts, self._context_codes = self._distinct()

    def result(self) -> Overlay:
        return self._overlay

    def _distinct(self) -> tuple[list[_Context], NDArray[np.intp] | None]:
        """Return the contexts of the rows, and which one each has; None where there is one."""
        (charsets, first), (signs, second) = self._frames.column(CHARSET), self._frames.column(SIGNED)
        if self._frames.is_uniform(CHARSET) and self._frames.is_uniform(SIGNED):
            return [_Context(_joined(charsets[0]) if charsets else "", signs == [1])], None
        pairs, inverse = distinct_pairs(first, second)
        found = [
            _Context(_joined(charsets[one]) if one >= 0 else "", other >= 0 and signs[other] == 1)
            for one, other in pairs
        ]
        return found or [_Context("", False)], inverse

    def _lay(self, tag: int, column: Column | None) -> None:
        self._overlay[tag] = column
        self._after = None

    @property
    def _frames(self) -> Frames:
        """The table with what is set so far."""
        if self._after is None:
            self._after = self._before.with_columns(self._overlay)
        return self._after

    def set(self, tag: int, value: object) -> None:
        """Give all rows a value."""
        if value is None:
            self._refuse_orphans(tag)
            self._lay(tag, None)
            return
        self._require_creator(tag)
        owner = _creator_of(tag)
        names = self._frames.column(owner)[0] if owner >= 0 else []
        creator = str(names[0]) if len(names) == 1 else ""
        vr = self._vr(tag, value, self._vrs.get(tag, ""), creator)
        self._warn_of_lost_vr(tag, vr, creator, tag in self._vrs)
        self._lay(tag, self._column(tag, vr, value, creator))
        if tag == CHARSET:
            self._contexts, self._context_codes = self._distinct()
            self._warn_of_relabelled()

    def _vr(self, tag: int, value: object, given: str, creator: str) -> str:
        """Return the VR to write a value in: as given, else the file's, else the dictionary's; "" for US or SS."""
        column = self._frames.columns.get(tag)
        written = {vr for vr, _ in column.values} if column else set()
        if given:
            return given
        if len(written - {"", "UN"}) == 1 and not written & {"UN"}:
            return next(iter(written - {""}))
        if tags.dictionary_vr(tag) == "US or SS":
            return ""
        vr = tags.concrete_vr(tag, creator=creator)
        if vr == "UN" and not isinstance(value, bytes):
            name = f"({creator!r}, 0x{tag >> 16:04X}, 0x{tag & 0xFF:02X})" if creator else tags.label(tag)
            raise EditError(f"no dictionary knows {name}: give its VR, record.set({name}, value, VR='LO'), or bytes")
        return vr

    def _column(self, tag: int, vr: str, value: object, creator: str, rows: Rows | None = None) -> Column | None:
        """Return the column of a tag with some rows changed, or all."""
        encoded = self._encoded(tag, vr, value, creator)
        if len(set(encoded)) == 1 and (rows is None or rows.all()):
            return Column(encoded[:1])
        raws, codes = self._frames.raw_values(tag)
        contexts = 0 if self._context_codes is None else self._context_codes
        new = np.where(True if rows is None else rows, contexts + len(raws), codes).astype(np.int32)
        return Column([*raws, *encoded], new).take(np.arange(len(new)))

    def _encoded(self, tag: int, vr: str, value: object, creator: str) -> list[Known]:
        """Return a value as each context writes it; in UTF-8 where another character set lacks it and nothing minds."""
        try:
            return [self._known(tag, vr, value, creator, context) for context in self._contexts]
        except TagValueError:
            utf8 = [context._replace(charset=tags.UTF8) for context in self._contexts]
            if self._fixed or (vr not in _TEXT_VRS) or all(each.charset == tags.UTF8 for each in self._contexts):
                raise
            encoded = [self._known(tag, vr, value, creator, context) for context in utf8]
        other = self._text_beyond_ascii()
        if other:
            charsets = " and ".join(sorted({context.charset or "ISO_IR 6" for context in self._contexts}))
            raise TagValueError(
                f"{tags.label(tag)} = {value!r} does not fit the character set {charsets!r}, and {other} is not "
                f"ASCII either: set SpecificCharacterSet to {tags.UTF8!r} and both of them in one go"
            )
        self._contexts, self._fixed = utf8, False
        self._lay(CHARSET, Column([("CS", tags.UTF8.encode())]))
        return encoded

    def _known(self, tag: int, vr: str, value: object, creator: str, context: _Context) -> Known:
        own = vr or tags.concrete_vr(tag, creator=creator, signed=context.signed)
        raw = tags.encode(tag, own, value, creator=creator, charset=context.charset, signed=context.signed)
        return own, raw

    def _text_beyond_ascii(self) -> str:
        """Return the name of an element that is not set here and whose text is not ASCII, or ""."""
        for tag in self._before.tags():
            if tag not in self._values and self._has_text(tag):
                return tags.label(tag)
        return ""

    def _has_text(self, tag: int) -> bool:
        written = {vr for vr, _ in self._before.columns[tag].values}
        vrs = {vr or tags.concrete_vr(tag) for vr in written}
        if not vrs & _TEXT_VRS:
            return False
        return any(has_text_beyond_ascii({tag: _explicit(tag, *raw)}) for raw in self._before.raw_values(tag)[0])

    def _warn_of_relabelled(self) -> None:
        """Warn where text is read in another character set from now on."""
        same = [column.values for column in (self._before.columns.get(CHARSET), self._overlay[CHARSET]) if column]
        other = (
            ""
            if len(same) == 2 and unchanged(self._before, CHARSET, self._overlay[CHARSET])
            else self._text_beyond_ascii()
        )
        if other:
            warnings.warn(
                f"SpecificCharacterSet says how text is read, and does not turn what is there: {other} is not ASCII; "
                "set such text together with it",
                UserWarning,
                stacklevel=outside(),
            )

    def _warn_of_lost_vr(self, tag: int, vr: str, creator: str, is_given: bool) -> None:
        """Warn where a VR is given that some file will not hold, and that no dictionary knows."""
        known = tags.concrete_vr(tag, creator=creator)
        encoding = self._frames.columns.get(ENCODING)
        if not is_given or known == vr or encoding is None:
            return
        if any(kind != STAGED and _syntax_of(value) == IMPLICIT for kind, value in encoding.values):
            warnings.warn(
                f"files in implicit VR hold no VR: once saved, {tags.label(tag)} is read as {known}, not {vr}",
                UserWarning,
                stacklevel=outside(),
            )

    # -- private elements

    def set_private(self, name: PrivateTag, value: object) -> None:
        """Give all rows a private element, each in the block of its creator, which is made where there is none."""
        places = self._frames.places(name)
        if value is None:
            for tag, rows in places.items():
                raws, codes = self._frames.raw_values(tag)
                left = np.where(rows, -1, codes).astype(np.int32)
                self._lay(tag, Column(raws, left).take(np.arange(len(left))) if (left >= 0).any() else None)
            return
        nowhere = np.zeros(len(self._frames), bool)
        homeless = ~np.logical_or.reduce([*places.values(), nowhere])
        if homeless.any():
            tag = self._new_block(name, homeless)
            places[tag] = places.get(tag, nowhere) | homeless
        for tag, rows in places.items():
            vr = self._vr(tag, value, self._vrs.get(name, ""), name.creator)
            self._warn_of_lost_vr(tag, vr, name.creator, name in self._vrs)
            self._lay(tag, self._column(tag, vr, value, name.creator, rows))

    def _new_block(self, name: PrivateTag, rows: Rows) -> int:
        """Reserve a block for a creator in some rows, and return the tag of the element in it."""
        group = name.group << 16
        if not name.group & 1 or name.group in (1, 3, 5, 7, 0xFFFF):
            raise EditError(f"group {name.group:04X} holds no private elements: give an odd group from 0009 on")
        for block in range(0x10, 0x100):
            first = group | block << 8
            taken = any(
                (self._frames.raw_values(tag)[1][rows] >= 0).any()
                for tag in self._frames.columns
                if tag == group | block or first <= tag <= first | 0xFF
            )
            if not taken:
                self._lay(group | block, self._column(group | block, "LO", name.creator, "", rows))
                return first | name.element
        raise EditError(f"group {name.group:04X} has no free private block for {name.creator!r}")

    def _require_creator(self, tag: int) -> None:
        """Refuse a private element that nobody owns."""
        owner = _creator_of(tag)
        if tags.is_private(tag) and owner < 0 and not 0x10 <= tag & 0xFFFF <= 0xFF:
            raise EditError(f"{tags.label(tag)} is in no private block: elements lie from (gggg,1000) on")
        if owner < 0 or owner in self._values or tag in self._frames.columns:
            return
        if owner not in self._frames.columns or (self._frames.raw_values(owner)[1] < 0).any():
            raise EditError(
                f"{tags.label(tag)} has no private creator: name it, "
                f"record['creator', 0x{tag >> 16:04X}, 0x{tag & 0xFF:02X}]"
            )

    def _refuse_orphans(self, tag: int) -> None:
        """Refuse to remove the creator of private elements that stay."""
        if not tags.is_private(tag) or not 0x10 <= tag & 0xFFFF <= 0xFF:
            return
        left = [
            each for each in self._frames.tags() if _creator_of(each) == tag and self._values.get(each, "") is not None
        ]
        if left:
            raise EditError(
                f"{tags.label(tag)} is the creator of {len(left)} elements: remove {tags.label(left[0])} ... too"
            )


def _explicit(tag: int, vr: str, raw: bytes) -> Known:
    """Return a value with the VR that it has; sequences in explicit VR."""
    vr, implicit = vr or tags.concrete_vr(tag), not vr
    if vr != "SQ":
        return vr, raw
    try:
        return vr, to_explicit(raw, implicit=implicit)
    except (BrokenFileError, struct.error):
        return "LO", raw


def _syntax_of(encoding: bytes | Ref) -> str:
    return "" if isinstance(encoding, Ref) else encoding.decode().partition("|")[0]


def _joined(value: object) -> str:
    return "\\".join(str(part or "") for part in value) if isinstance(value, tuple) else str(value or "")
