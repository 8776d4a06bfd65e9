"""Where in a file the tags of its frames go: at the top level or into functional groups; and what fewer frames ask for.

It decides; how functional groups are encoded is known in `groups`, how a file is put together in `splice`.
"""

import itertools
import struct
from collections.abc import Collection, Sequence
from decimal import Decimal

from .columns import Known
from .encoding import encode
from .errors import SaveError
from .groups import (
    ECHO_TIME,
    FRAME_GROUPS,
    SHARED_GROUPS,
    STANDARD,
    Changes,
    Groups,
    edited,
    parse_groups,
    without_private,
)
from .header import Header
from .keywords import concrete_vr, label

_FRAMES, _POINTER, _TIME_VECTOR = 0x00280008, 0x00280009, 0x00181065
# Representative frame, frames of interest, trims.
_NAMING_FRAMES = (0x00286010, 0x00286020, 0x00286022, 0x00286023, 0x00082142, 0x00082143)


def placed(
    header: Header,
    count: int,
    changes: Changes,
    *,
    keep: Sequence[int] | None = None,
    drop: Collection[int] = (),
    scrub: Collection[tuple[str, int, int]] = (),
) -> dict[int, Known | None]:
    """Return the top-level elements of a file that change when tags of its frames do.

    Parameters
    ----------
    header, count
        Of the file, and how many frames it has.
    changes
        By tag one value a frame, or one for each that stays; None removes it.
    keep
        Numbers of the frames that stay, from 0.
    drop, scrub
        Macros, and private elements in the functional groups, that go.

    Raises
    ------
    SaveError
        If frames differ in a tag that only the file as a whole can have, or the functional groups do not fit them.
    BrokenFileError
        If these cannot be parsed.
    """
    kept = list(range(count)) if keep is None else list(keep)
    result: dict[int, Known | None] = {}
    outside: Collection[int] = changes
    is_partial = len(kept) < count
    if _has_groups(header) and (is_partial or drop or scrub or any(_may_be_inside(header, tag) for tag in changes)):
        before = _groups_of(header, count)
        groups = before._replace(frames=[before.frames[number] for number in kept])
        groups = without_private(groups, scrub) if scrub else groups
        groups, outside = edited(groups, changes, header.elements.keys(), drop)
        result = _sequences(header, before, groups)
    for tag in outside:
        if len(set(changes[tag])) > 1:
            raise SaveError(
                f"frames of one file differ in {label(tag)}, and no functional group holds it: set one value"
            )
        result[tag] = changes[tag][0]
    return {**_fewer_frames(header, count, kept), **result} if is_partial else result


def _has_groups(header: Header) -> bool:
    return header.pixels is not None and (SHARED_GROUPS in header.layout.places or FRAME_GROUPS in header.layout.places)


def _value(header: Header, tag: int) -> tuple[str, bytes] | None:
    return (header.vr(tag), header.raw(tag)) if tag in header.elements else None


def _may_be_inside(header: Header, tag: int) -> bool:
    """Say whether a tag may be in the functional groups, or get there."""
    if tag in STANDARD or tag == ECHO_TIME:
        return True
    name = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    return any(each and name in each[1] for each in (_value(header, SHARED_GROUPS), _value(header, FRAME_GROUPS)))


def _groups_of(header: Header, count: int) -> Groups:
    shared, frames = (_value(header, tag) for tag in (SHARED_GROUPS, FRAME_GROUPS))
    groups = parse_groups(shared, frames, implicit=header.layout.implicit)
    if frames is None:
        return groups._replace(frames=[b""] * count)
    if len(groups.frames) != count:
        raise SaveError(f"its functional groups have {len(groups.frames)} items for {count} frames")
    return groups


def _sequences(header: Header, before: Groups, after: Groups) -> dict[int, Known | None]:
    """Return those of the two sequences that changed."""
    result: dict[int, Known | None] = {}
    values = {
        SHARED_GROUPS: (before.shared, after.shared, after.shared_value),
        FRAME_GROUPS: (list(before.frames), list(after.frames), after.frames_value),
    }
    for tag, (old, new, value) in values.items():
        if old != new and (tag in header.elements or any(new)):
            written = header.vr(tag) if tag in header.elements else "SQ"
            result[tag] = ("" if header.layout.implicit else written), value()
    return result


def _fewer_frames(header: Header, count: int, kept: Sequence[int]) -> dict[int, Known | None]:
    """Return what follows from having fewer frames: their number, vectors with one value a frame, what names frames."""
    overlays = [
        tag for tag in header.elements if tag & 0xFF01FFFF == 0x60000015 and header.raw(tag).strip() not in (b"", b"1")
    ]
    if overlays:
        raise SaveError("its overlays have several frames, so that none can be removed")
    result: dict[int, Known | None] = {_FRAMES: ("IS", str(len(kept)).encode())}
    result |= {tag: None for tag in _NAMING_FRAMES if tag in header.elements}
    if _POINTER in header.elements:
        raw = header.raw(_POINTER)
        halves = struct.unpack(f"<{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4])
        for group, element in zip(halves[::2], halves[1::2], strict=True):
            tag = group << 16 | element
            if tag in header.elements:
                result |= _fewer_values(tag, _value(header, tag), count, kept)
    return result


def _fewer_values(
    tag: int, value: tuple[str, bytes] | None, count: int, kept: Sequence[int]
) -> dict[int, Known | None]:
    """Return a vector with the values of some frames; {} where it does not have one a frame."""
    vr, raw = value or ("", b"")
    vr = vr or concrete_vr(tag)
    if vr in ("US", "SS"):
        parts = [raw[i : i + 2] for i in range(0, len(raw), 2)]
        return {tag: (vr, b"".join(parts[i] for i in kept))} if len(parts) == count else {}
    texts = raw.strip(b" \0").split(b"\\")
    if len(texts) != count or count == 1:
        return {}
    if tag == _TIME_VECTOR:  # steps between frames, of which some are left out
        try:
            times = [sum(map(Decimal, (text.decode("ascii", "replace") for text in texts[1 : i + 1]))) for i in kept]
        except ArithmeticError:
            raise SaveError(f"{label(tag)} = {raw!r} are no numbers, so that no frame can be removed") from None
        steps = [Decimal(0), *(after - before for before, after in itertools.pairwise(times))]
        return {tag: (vr, encode(tag, vr, steps))}
    return {tag: (vr, b"\\".join(texts[i] for i in kept))}
