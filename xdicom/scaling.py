"""What the values of an array are: stored, rescaled, Philips' floating point or real-world ones, with their units.

It looks up the elements of each frame, also in functional groups; the arithmetic is in `scales` and `rescale`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import tags
from .columns import Known
from .errors import BrokenFileError, PixelError, SaveError
from .groups import FRAME_GROUPS, SHARED_GROUPS, parse_groups
from .rescale import Rescale
from .runs import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Style, split_items, walk_run
from .scales import chosen_mapping, philips_rescale, real_world_rescale, units_of

if TYPE_CHECKING:
    from .frames import Frames
    from .locations import Locations

Scale = bool | str
PHILIPS, REAL_WORLD = "philips-fp", "real-world"

_SLOPE, _TYPE, _PET_UNITS, _SIGNED, _CHARSET = 0x00281053, 0x00281054, 0x00541001, 0x00280103, 0x00080005
_DOSE_UNITS = 0x30040002
_CLASS, _CT = 0x00080016, "1.2.840.10008.5.1.4.1.1.2"
_MAPPING = 0x00409096
_MAPPED = (0x00409225, 0x00409224, 0x00409216, 0x00409211)
_UNSPECIFIED = "US"
_PHILIPS, _PHILIPS_GROUPS = "Philips MR Imaging DD 001", ("Philips MR Imaging DD 005", 0x2005, 0x0F)
_SCALE_SLOPE, _SCALE_INTERCEPT = 0x0E, 0x0D
# Value and range limit, of integer, float and double pixels (PS3.3 C.7.5.1.1.2).
_PADDING = ((0x00280120, 0x00280121), (0x00280122, 0x00280124), (0x00280123, 0x00280125))


@dataclass(frozen=True, eq=False)
class Scaled:
    """Frames with the values that were asked for.

    Attributes
    ----------
    locations
        Where the pixels are, with the rescales that make these values.
    applies
        Whether the rescales are to be applied.
    name
        Of the choice: "stored", "rescaled", "philips-fp" or "real-world".
    units, unit_codes
        Distinct units, and for each frame the index of its own (-1: unknown).
    """

    locations: "Locations"
    applies: bool
    name: str
    units: list[str]
    unit_codes: NDArray[np.int32]


def scaled(frames: "Frames", scale: Scale = True, *, mask_padding: bool = False) -> Scaled:
    """Return frames with the values that were asked for.

    Parameters
    ----------
    frames
        Images, all of them readable.
    scale
        True: rescaled; False: stored; "philips-fp": Philips' floating point values; "real-world", or
        "real-world:LABEL" where there are several: by the real-world value mapping.
    mask_padding
        Whether PixelPaddingValue, up to PixelPaddingRangeLimit, is NaN.

    Raises
    ------
    PixelError
        If a frame lacks the elements of the scale, or these make no sense.
    ValueError
        If there is no such scale.
    """
    kind, _, label = scale.partition(":") if isinstance(scale, str) else (scale, "", "")
    if kind not in (True, False, PHILIPS, REAL_WORLD):
        raise ValueError(f"rescale={scale!r}; expected True, False, {PHILIPS!r} or {REAL_WORLD!r}")
    nothing = np.full(len(frames), -1, np.int32)
    if kind == PHILIPS:
        found = Scaled(_rescaled(frames, _philips(frames), PHILIPS), True, PHILIPS, [], nothing)
    elif kind == REAL_WORLD:
        items = _mappings(frames, label)
        units, codes = _coded([units_of(item) if isinstance(item, dict) else "" for item in items])
        rescales = [_attempt(real_world_rescale, item) if isinstance(item, dict) else item for item in items]
        found = Scaled(_rescaled(frames, rescales, REAL_WORLD), True, REAL_WORLD, units, codes)
    elif kind:
        found = Scaled(frames.locations, True, "rescaled", *_units(frames))
    else:
        found = Scaled(frames.locations, False, "stored", [], nothing)
    return _masked(frames, found) if mask_padding else found


def _attempt(build: Callable[..., Rescale], *args: Any) -> "Rescale | PixelError":
    try:
        return build(*args)
    except PixelError as error:
        return error


def _rescaled(frames: "Frames", rescales: Sequence[Any], kind: str) -> "Locations":
    """Return where the frames are with other rescales, one a row; raise where one has none."""
    bad = [row for row, rescale in enumerate(rescales) if not isinstance(rescale, Rescale)]
    staged = int(_is_staged(frames.locations).sum())
    if staged:
        raise PixelError(
            f"rescale={kind!r}: {staged} of {len(frames)} frames have new pixels, which have no such scale"
        )
    if bad:
        raise PixelError(
            f"rescale={kind!r}: {len(bad)} of {len(frames)} frames have no such scale; the first "
            f"({frames.locations.path(bad[0])}): {rescales[bad[0]]}; rescale=True gives rescaled values"
        )
    distinct, codes = _coded(rescales)
    return replace(frames.locations, rescales=tuple(distinct), rescale_codes=codes)


def _is_staged(locations: "Locations") -> NDArray[np.bool_]:
    kinds = np.array([fmt.kind == "staged" for fmt in locations.formats] + [False], bool)
    staged: NDArray[np.bool_] = kinds[locations.format_codes]
    return staged


def _coded(things: Sequence[Any]) -> tuple[list[Any], NDArray[np.int32]]:
    """Return the distinct things, but "", and the index of each (-1 of "")."""
    index: dict[Any, int] = {}
    codes = [-1 if thing == "" else index.setdefault(thing, len(index)) for thing in things]
    return list(index), np.array(codes, np.int32)


def _by_row(frames: "Frames", name: Any) -> list[object]:
    """Return the decoded value of each row, None where it has none."""
    values, codes = frames.named(name)
    return [values[code] if code >= 0 else None for code in codes.tolist()]


def _units(frames: "Frames") -> tuple[list[str], NDArray[np.int32]]:
    """Return the units of rescaled values: RescaleType, else Units of PET or dose, else HU of CT."""
    columns = [frames.column(tag) for tag in (_TYPE, _PET_UNITS, _DOSE_UNITS, _CLASS, _SLOPE)]
    distinct, inverse = np.unique(np.stack([codes for _, codes in columns], axis=1), axis=0, return_inverse=True)
    found = []
    for row in distinct.tolist():
        kind, unit, dose, sop_class, slope = (
            values[code] if code >= 0 else None for (values, _), code in zip(columns, row, strict=True)
        )
        if isinstance(kind, str) and kind.upper() != _UNSPECIFIED:
            found.append(kind)
        elif isinstance(unit, str) or isinstance(dose, str):
            found.append(str(unit or dose))
        else:  # PS3.3 C.11.1.1.2: without RescaleType, CT is in Hounsfield units
            found.append("HU" if kind is None and sop_class == _CT and slope is not None else "")
    units, codes = _coded(found)
    return units, codes[inverse.reshape(-1)]


# -- Philips


def _philips(frames: "Frames") -> "list[Rescale | PixelError]":
    """Return the rescale of each row to Philips' floating point values, or why it has none."""
    slopes, intercepts = (_by_row(frames, (_PHILIPS, 0x2005, element)) for element in (_SCALE_SLOPE, _SCALE_INTERCEPT))
    for row, own in enumerate(_in_groups(frames, _philips_elements)):
        if own:
            slopes[row] = own.get(_SCALE_SLOPE, slopes[row])
            intercepts[row] = own.get(_SCALE_INTERCEPT, intercepts[row])
    rescales, codes = frames.locations.rescales, frames.locations.rescale_codes.tolist()
    has_slope = [value is not None for value in _by_row(frames, _SLOPE)]
    known = [rescales[code] if there else None for code, there in zip(codes, has_slope, strict=True)]
    cache: dict[Any, Rescale | PixelError] = {}
    found = []
    for key in zip(slopes, intercepts, known, strict=True):
        if key not in cache:
            cache[key] = _attempt(philips_rescale, *key)
        found.append(cache[key])
    return found


def _philips_elements(content: bytes, style: Style) -> dict[int, object]:
    """Return the decoded scale elements in a functional group item, and in Philips' own sequence in it."""
    sequence = _private(content, style, *_PHILIPS_GROUPS)
    inner = IMPLICIT_LITTLE if style.implicit or (sequence and sequence[0] == "UN") else EXPLICIT_LITTLE
    places = [(content, style)]
    if sequence:
        places += [(item, inner) for item, _ in list(split_items(sequence[1], inner))[:1]]
    found: dict[int, object] = {}
    for place in places:
        for element in (_SCALE_SLOPE, _SCALE_INTERCEPT):
            raw = _private(*place, _PHILIPS, 0x2005, element)
            if raw:
                found[element] = tags.decode(0x20051000 | element, *raw, creator=_PHILIPS)
    return found


def _private(content: bytes, style: Style, creator: str, group: int, element: int) -> Known | None:
    """Return VR and raw value of a private element among some elements."""
    run = walk_run(content, 0, len(content), style)
    for tag in run.tags:
        if tag >> 16 == group and 0x10 <= tag & 0xFFFF <= 0xFF:
            name = run.value(content, tag)
            if name and name[1].decode("latin-1").strip(" \0") == creator:
                return run.value(content, group << 16 | (tag & 0xFF) << 8 | element)
    return None


# -- real-world values


def _mappings(frames: "Frames", label: str) -> list[Any]:
    """Return the real-world value mapping of each row, or why it has none."""
    found = _by_row(frames, _MAPPING)
    charset, signed = _by_row(frames, _CHARSET), _by_row(frames, _SIGNED)
    for row, own in enumerate(_in_groups(frames, _mapping_element)):
        if own:
            (vr, raw), implicit = own
            named = charset[row]
            text = "\\".join(map(str, named)) if isinstance(named, tuple) else str(named or "")
            found[row] = tags.decode(
                _MAPPING, vr or "SQ", raw, charset=text, signed=signed[row] == 1, implicit=implicit
            )
    edits = [_by_row(frames, tag) for tag in _MAPPED]
    chosen: list[Any] = []
    for row, items in enumerate(found):
        if not isinstance(items, list) or not items:
            chosen.append(PixelError("it has no RealWorldValueMappingSequence"))
            continue
        if len(items) == 1:  # columns of functional groups hold staged edits, too
            values = zip(map(tags.label, _MAPPED), (column[row] for column in edits), strict=True)
            items = [{**items[0], **{name: value for name, value in values if value is not None}}]
        try:
            chosen.append(chosen_mapping(items, label))
        except PixelError as error:
            chosen.append(error)
    return chosen


def _mapping_element(content: bytes, style: Style) -> tuple[Known, bool] | None:
    value = walk_run(content, 0, len(content), style).value(content, _MAPPING)
    return None if value is None else (value, style.implicit)


# -- functional groups


def _in_groups(frames: "Frames", find: Callable[[bytes, Style], Any]) -> list[Any]:
    """Return what a function finds in the functional group item of each row, else in the shared one, else None."""
    found: list[Any] = [None] * len(frames)
    if not {SHARED_GROUPS, FRAME_GROUPS} & frames.columns.keys():
        return found
    raws, codes = zip(*(frames.raw_values(tag) for tag in (SHARED_GROUPS, FRAME_GROUPS)), strict=True)
    pairs, inverse = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    for number, pair in enumerate(pairs.tolist()):
        shared, own = (values[code] if code >= 0 else None for values, code in zip(raws, pair, strict=True))
        if shared is None and own is None:
            continue
        try:
            groups = parse_groups(shared, own, implicit=any(each and not each[0] for each in (shared, own)))
            of_all = find(groups.shared, groups.shared_style)
            for row in np.flatnonzero(inverse.reshape(-1) == number).tolist():
                item = groups.frames[frames.number[row]] if frames.number[row] < len(groups.frames) else b""
                found[row] = find(item, groups.frame_style) or of_all
        except (BrokenFileError, SaveError) as error:
            raise PixelError(f"the functional groups cannot be read: {error}") from error
    return found


# -- padding


def _masked(frames: "Frames", found: Scaled) -> Scaled:
    """Return frames whose padding is NaN."""
    locations = found.locations
    staged = _is_staged(locations)
    if not found.applies and staged.any():
        raise PixelError(
            f"mask_padding=True, rescale=False: {int(staged.sum())} of {len(frames)} frames have new pixels, whose "
            "stored values are chosen when they are saved: save() first, or leave rescale=True"
        )
    kinds = [{"int": 0, "float": 1, "double": 2}.get(fmt.kind, 0) for fmt in locations.formats]
    columns = [[_by_row(frames, tag) for tag in pair] for pair in _PADDING]
    rescales = []
    for row, (code, fmt) in enumerate(
        zip(locations.rescale_codes.tolist(), locations.format_codes.tolist(), strict=True)
    ):
        rescale = locations.rescales[code] if found.applies else Rescale()
        value, limit = (column[row] for column in columns[kinds[fmt]])
        if isinstance(value, int | float) and not staged[row]:
            bound = float(limit) if isinstance(limit, int | float) else None
            rescale = replace(rescale, padding=float(value), padding_limit=bound)
        rescales.append(rescale)
    distinct, codes = _coded(rescales)
    return replace(found, locations=replace(locations, rescales=tuple(distinct), rescale_codes=codes), applies=True)
