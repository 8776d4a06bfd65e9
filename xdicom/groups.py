"""Functional groups of enhanced files: which macro holds a tag, and the sequences with some of them changed.

Pure functions on the raw values of the two sequences; where these lie in a file is not known here.
"""

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydicom.datadict import keyword_for_tag

from .columns import Known
from .errors import SaveError
from .keywords import as_tag, label
from .runs import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Style, changed, split_items, walk_run
from .walker import ItemElement, sequence_items
from .writer import item_bytes

SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230
EFFECTIVE_ECHO_TIME, ECHO_TIME, SLICE_LOCATION = 0x00189082, 0x00180081, 0x00201041
_CODE_VALUE = 0x00080100
_SEQUENCE_VRS = ("SQ", "UN", "")

# Macros of PS3.3 C.7.6.16 and C.8.13, and which of their attributes may be new to a file.
_MACROS = """
PixelMeasuresSequence PixelSpacing SliceThickness SpacingBetweenSlices
PlanePositionSequence ImagePositionPatient SliceLocation
PlaneOrientationSequence ImageOrientationPatient
FrameContentSequence FrameAcquisitionNumber FrameReferenceDateTime FrameAcquisitionDateTime FrameAcquisitionDuration
FrameContentSequence CardiacCyclePosition RespiratoryCyclePosition DimensionIndexValues TemporalPositionIndex StackID
FrameContentSequence InStackPositionNumber FrameComments FrameLabel
CardiacSynchronizationSequence NominalPercentageOfCardiacPhase NominalCardiacTriggerDelayTime
CardiacSynchronizationSequence ActualCardiacTriggerDelayTime RRIntervalTimeNominal
TemporalPositionSequence TemporalPositionTimeOffset
FrameAnatomySequence FrameLaterality
PixelValueTransformationSequence RescaleIntercept RescaleSlope RescaleType
FrameVOILUTSequence WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
MRTimingAndRelatedParametersSequence RepetitionTime FlipAngle EchoTrainLength RFEchoTrainLength
MRTimingAndRelatedParametersSequence GradientEchoTrainLength
MRFOVGeometrySequence InPlanePhaseEncodingDirection PercentSampling PercentPhaseFieldOfView
MREchoSequence EffectiveEchoTime
MRModifierSequence InversionRecovery InversionTimes FlowCompensation SpectrallySelectedSuppression
MRImagingModifierSequence MagnetizationTransfer BloodSignalNulling Tagging TransmitterFrequency PixelBandwidth
MRReceiveCoilSequence ReceiveCoilName ReceiveCoilType QuadratureReceiveCoil
MRTransmitCoilSequence TransmitCoilName TransmitCoilType
MRAveragesSequence NumberOfAverages
MRDiffusionSequence DiffusionBValue DiffusionDirectionality
MRDiffusionSequence/DiffusionGradientDirectionSequence DiffusionGradientOrientation
MRVelocityEncodingSequence VelocityEncodingDirection VelocityEncodingMinimumValue VelocityEncodingMaximumValue
"""

Path = tuple[int, ...]
Changes = Mapping[int, Sequence[Known | None]]


def _standard() -> dict[int, Path]:
    """Return by tag the macro, and the sequence inside it, that the standard puts it in."""
    found: dict[int, Path] = {}
    for line in _MACROS.strip().splitlines():
        macro, *keywords = line.split()
        path = tuple(as_tag(part) for part in macro.split("/"))
        found |= dict.fromkeys(map(as_tag, keywords), path)
    return found


STANDARD = _standard()


class Groups(NamedTuple):
    """The functional groups of a file.

    Attributes
    ----------
    shared, frames
        Elements of the item that all frames share, and of each frame's own, as bytes.
    shared_style, frame_style
        How they are encoded.
    """

    shared: bytes
    frames: Sequence[bytes]
    shared_style: Style
    frame_style: Style

    def shared_value(self) -> bytes:
        """Return the value of the shared sequence."""
        return item_bytes(self.shared)

    def frames_value(self) -> bytes:
        """Return the value of the per-frame sequence."""
        return b"".join(map(item_bytes, self.frames))


def parse_groups(shared: tuple[str, bytes] | None, frames: tuple[str, bytes] | None, *, implicit: bool) -> Groups:
    """Cut the two sequences into items.

    Parameters
    ----------
    shared, frames
        VR as written and raw value, None where a file has none.
    implicit
        Whether the file is in implicit VR.

    Raises
    ------
    BrokenFileError
        If they cannot be parsed.
    """
    styles = [
        IMPLICIT_LITTLE if implicit or (each and each[0] == "UN") else EXPLICIT_LITTLE for each in (shared, frames)
    ]
    items = [
        [content for content, _ in split_items(each[1], style)] if each else []
        for each, style in zip((shared, frames), styles, strict=True)
    ]
    if len(items[0]) > 1:
        raise SaveError(f"the shared functional groups have {len(items[0])} items: expected one")
    return Groups(items[0][0] if items[0] else b"", items[1], *styles)


# -- reading


class Place(NamedTuple):
    """Where an element of a functional group is: the sequences around it; and what it is."""

    path: Path
    element: ItemElement


def places(item: Sequence[ItemElement], implicit: bool) -> Iterator[Place]:
    """Yield the elements in the macros of one functional group item, and of their one inner level.

    Raises
    ------
    BrokenFileError
        If a sequence cannot be parsed.
    """
    for macro in item:
        if macro.vr in _SEQUENCE_VRS and is_macro(macro.tag):
            yield from _sequence_places(macro, implicit, (macro.tag,))


def is_macro(tag: int) -> bool:
    """Say whether the elements in a sequence of a functional group item become columns."""
    # Private groups are odd; group 0008 holds references and derivations, which are no columns.
    return not tag >> 16 & 1 and tag >> 16 != 0x0008


def _sequence_places(sequence: ItemElement, implicit: bool, path: Path) -> Iterator[Place]:
    """Yield the elements of the first item of a sequence; one more level of sequences is entered."""
    implicit = implicit or sequence.vr == "UN"
    item = next(sequence_items(sequence.raw, implicit), [])
    if any(element.tag == _CODE_VALUE for element in item):
        return
    for element in item:
        if element.tag >> 16 & 1:
            continue
        if element.vr == "SQ" or (not element.vr and keyword_for_tag(element.tag).endswith("Sequence")):
            if len(path) == 1 and element.tag >> 16 != 0x0008:
                yield from _sequence_places(element, implicit, (*path, element.tag))
        else:
            yield Place(path, element)


def _places(content: bytes, style: Style) -> Iterator[Place]:
    """Yield the elements in one functional group item, as `places` does."""
    run = walk_run(content, 0, len(content), style)
    rows = zip(run.tags, run.vrs, run.offsets, run.lengths, strict=True)
    item = [ItemElement(tag, vr, content[offset : offset + length]) for tag, vr, offset, length in rows]
    return places(item, style.implicit)


def _paths(content: bytes, style: Style) -> dict[int, Path]:
    """Return the path of each tag in one functional group item."""
    return {place.element.tag: place.path for place in _places(content, style)}


# -- writing


def edited(
    groups: Groups, changes: Changes, top_level: Collection[int], drop: Collection[int] = ()
) -> tuple[Groups, list[int]]:
    """Return functional groups with some elements changed.

    Parameters
    ----------
    groups
        With one item a frame.
    changes
        One value a frame by tag, None removes it.
    top_level
        Tags that the file has outside of the groups.
    drop
        Macros to remove.

    Returns
    -------
    groups, rest
        The new ones; and the tags that belong outside of functional groups.

    Notes
    -----
    What all frames share stays shared while it is the same for all; else its macro moves to the frames.

    Raises
    ------
    SaveError
        If frames differ in a tag that no macro holds.
    """
    editor = _Editor(groups)
    for macro in drop:
        editor.drop_macro(macro)
    rest = []
    for tag, values in changes.items():
        place = editor.path_of(tag, tag in top_level)
        if place is None:
            rest.append(tag)
            continue
        path, target = place
        if tag == ECHO_TIME and target == EFFECTIVE_ECHO_TIME:
            values = [_as_double(value) for value in values]
        editor.set(path, target, values)
        if tag in top_level and len(set(values)) == 1:
            rest.append(tag)
    return editor.result(), rest


class _Editor:
    """Functional groups while they are edited."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._shared, self._frames = groups.shared, list(groups.frames)
        self._shared_paths = _paths(self._shared, groups.shared_style)
        self._frame_paths = [_paths(content, groups.frame_style) for content in self._frames]

    def result(self) -> Groups:
        return self._groups._replace(shared=self._shared, frames=self._frames)

    def path_of(self, tag: int, is_top_level: bool) -> tuple[Path, int] | None:
        """Return the path that a tag has or gets, and the tag that stands for it; None where it belongs outside."""
        for wanted in (tag, EFFECTIVE_ECHO_TIME) if tag == ECHO_TIME else (tag,):
            found = next((paths[wanted] for paths in (self._shared_paths, *self._frame_paths) if wanted in paths), None)
            if found is not None:
                return found, wanted
        if tag == SLICE_LOCATION and self._has_position():  # else the derived one would hide it
            return STANDARD[tag], tag
        if is_top_level:
            return None
        if tag == ECHO_TIME:
            return STANDARD[EFFECTIVE_ECHO_TIME], EFFECTIVE_ECHO_TIME
        return (STANDARD[tag], tag) if tag in STANDARD else None

    def _has_position(self) -> bool:
        position = as_tag("ImagePositionPatient")
        return any(position in paths for paths in (self._shared_paths, *self._frame_paths))

    def set(self, path: Path, tag: int, values: Sequence[Known | None]) -> None:
        """Give each frame its value of an element."""
        uniform = len(set(values)) == 1
        in_frames = any(tag in paths for paths in self._frame_paths)
        if uniform and values[0] is None:
            self._set_shared(path, tag, None)
        elif not in_frames and uniform and not self._macro_in_frames(path):
            self._set_shared(path, tag, values[0])
            return
        elif not in_frames or tag in self._shared_paths:
            self._share_out(path[0])
        for number, value in enumerate(values):
            self._set_frame(number, path, tag, value)

    def _macro_in_frames(self, path: Path) -> bool:
        """Say whether frames have a macro of their own that all frames do not share."""
        tags = [walk_run(content, 0, len(content), self._groups.frame_style).tags for content in self._frames]
        shared = walk_run(self._shared, 0, len(self._shared), self._groups.shared_style).tags
        return path[0] not in shared and any(path[0] in there for there in tags)

    def _set_shared(self, path: Path, tag: int, value: Known | None) -> None:
        self._shared = _with_element(self._shared, path, tag, value, self._groups.shared_style)
        self._note(self._shared_paths, path, tag, value)

    def _set_frame(self, number: int, path: Path, tag: int, value: Known | None) -> None:
        paths = self._frame_paths[number]
        if value is None and tag not in paths:
            return
        own = paths.get(tag, path)
        self._frames[number] = _with_element(self._frames[number], own, tag, value, self._groups.frame_style)
        self._note(paths, own, tag, value)

    @staticmethod
    def _note(paths: dict[int, Path], path: Path, tag: int, value: Known | None) -> None:
        if value is None:
            paths.pop(tag, None)
        else:
            paths[tag] = path

    def _share_out(self, macro: int) -> None:
        """Move a shared macro to the frames that have none of their own."""
        style, frame_style = self._groups.shared_style, self._groups.frame_style
        found = walk_run(self._shared, 0, len(self._shared), style).value(self._shared, macro)
        if found is None:
            return
        if style != frame_style:
            raise SaveError(f"{label(macro)} cannot move to the frames: the functional groups have two encodings")
        for number, content in enumerate(self._frames):
            run = walk_run(content, 0, len(content), style)
            if macro not in run.tags:
                self._frames[number] = changed(
                    content, run, {macro: ("" if style.implicit else found[0], found[1])}, style
                )
                self._frame_paths[number] = _paths(self._frames[number], style)
                continue
            for path, (tag, vr, raw) in _places(self._shared, style):
                if path[0] == macro and tag not in self._frame_paths[number]:
                    self._set_frame(number, path, tag, (vr, raw))
        self.drop_shared(macro)

    def drop_shared(self, macro: int) -> None:
        """Remove a macro from what all frames share."""
        self._shared = _without(self._shared, macro, self._groups.shared_style)
        self._shared_paths = _paths(self._shared, self._groups.shared_style)

    def drop_macro(self, macro: int) -> None:
        """Remove a macro from everywhere."""
        self.drop_shared(macro)
        style = self._groups.frame_style
        self._frames = [_without(content, macro, style) for content in self._frames]
        self._frame_paths = [_paths(content, style) for content in self._frames]


def _without(content: bytes, tag: int, style: Style) -> bytes:
    return changed(content, walk_run(content, 0, len(content), style), {tag: None}, style)


def _with_element(content: bytes, path: Path, tag: int, value: Known | None, style: Style) -> bytes:
    """Return the elements of an item with an element changed in the sequences of a path; emptied ones go."""
    run = walk_run(content, 0, len(content), style)
    if not path:
        return changed(content, run, {tag: value}, style)
    there = run.value(content, path[0])
    vr, raw = there or ("SQ", b"")
    if there is None and value is None:
        return content
    inner = IMPLICIT_LITTLE if style.implicit or vr == "UN" else EXPLICIT_LITTLE
    items = list(split_items(raw, inner))
    first = _with_element(items[0][0] if items else b"", path[1:], tag, value, inner)
    rest = b"".join(whole for _, whole in items[1:])
    if not first and not rest:
        return changed(content, run, {path[0]: None}, style)
    # In implicit VR the items are as they have to be already.
    return changed(content, run, {path[0]: ("" if style.implicit else vr, item_bytes(first) + rest)}, style)


def without_private(groups: Groups, unwanted: Collection[tuple[str, int, int]]) -> Groups:
    """Return functional groups without some private elements, (creator, group, element), at any depth."""
    shared = _scrubbed(groups.shared, unwanted, groups.shared_style)
    return groups._replace(
        shared=shared, frames=[_scrubbed(each, unwanted, groups.frame_style) for each in groups.frames]
    )


def _scrubbed(content: bytes, unwanted: Collection[tuple[str, int, int]], style: Style) -> bytes:
    run = walk_run(content, 0, len(content), style)
    creators: dict[int, str] = {}
    wanted: dict[int, Known | None] = {}
    for tag, vr, offset, length in zip(run.tags, run.vrs, run.offsets, run.lengths, strict=True):
        raw = content[offset : offset + length]
        if not tag >> 16 & 1:
            continue
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            creators[tag] = raw.decode("latin-1").strip(" \0")
        elif (creators.get(tag >> 16 << 16 | tag >> 8 & 0xFF, ""), tag >> 16, tag & 0xFF) in unwanted:
            wanted[tag] = None
        elif _holds_items(vr, raw):
            inner = IMPLICIT_LITTLE if style.implicit or vr == "UN" else EXPLICIT_LITTLE
            items = [(_scrubbed(inside, unwanted, inner), inside, whole) for inside, whole in split_items(raw, inner)]
            if any(new != inside for new, inside, _ in items):
                value = b"".join(whole if new == inside else item_bytes(new) for new, inside, whole in items)
                wanted[tag] = ("" if style.implicit else vr), value
    return changed(content, run, wanted, style)


def _holds_items(vr: str, raw: bytes) -> bool:
    return vr == "SQ" or (vr in ("UN", "") and raw[:4] == b"\xfe\xff\x00\xe0")


def _as_double(value: Known | None) -> Known | None:
    """Turn the DS of EchoTime into the FD of EffectiveEchoTime."""
    if value is None:
        return None
    text = value[1].strip(b"\0 ")
    try:
        return "FD", struct.pack("<d", float(text)) if text else b""
    except ValueError:
        raise SaveError(f"EchoTime = {text!r} is no number, as EffectiveEchoTime has to be") from None
