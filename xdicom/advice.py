"""What to type instead, where dims do not arrange frames: which tag tells them apart, which one is there.

It only finds words for an error; nothing is arranged by it.
"""

import difflib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .dims import (
    INSTANCE_NUMBER,
    ORIENTATION,
    POSITION,
    RANKED,
    SLICE_DIMS,
    Dim,
    IndexArray,
    grid_points,
    is_long,
    name_of,
    rank_within,
    resolve,
)
from .errors import XdicomError

if TYPE_CHECKING:
    from .frames import Frames

PARAMETERS = (
    *("EchoTime", "EffectiveEchoTime", "FlipAngle", "InversionTime", "b_value", "DiffusionBValue", "RepetitionTime"),
    *("MagnetizationTransfer", "TagSpacingFirstDimension", "VelocityEncodingMaximumValue", "KVP"),
    *("ASLContext", "ConvolutionKernel", "ReceiveCoilName", "EchoNumbers"),
)
"""What a scientist would name, in the order in which it is tried."""

COUNTERS = (
    *("AcquisitionTime", "TriggerTime", "NominalCardiacTriggerDelayTime", "NominalPercentageOfCardiacPhase"),
    *("TemporalPositionTimeOffset", "FrameReferenceTime", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("AcquisitionNumber", "FrameAcquisitionNumber", "AcquisitionDateTime", "FrameAcquisitionDateTime"),
    *("ContentTime", "InstanceNumber"),
)
"""What counts or times acquisitions, in the order in which it is tried."""

PREFERRED = (
    *PARAMETERS,
    *("image_type", "signal_type", "StackID"),
    *COUNTERS,
    *("SeriesNumber", "SeriesInstanceUID", "SeriesDescription"),
)
"""What may tell frames apart, in the order in which it is offered."""

STAND_INS = {
    "slice": ("SliceLocation", "InstanceNumber"),
    "slice_location": ("SliceLocation", "InstanceNumber"),
    "SliceLocation": ("slice_location",),
    "ImagePositionPatient": ("slice_location", "SliceLocation"),
    "EchoTime": ("EffectiveEchoTime", "EchoNumbers"),
    "DiffusionBValue": ("b_value",),
    "b_value": ("DiffusionBValue",),
    "AcquisitionTime": ("AcquisitionDateTime", "ContentTime", "TriggerTime", "TemporalPositionIdentifier"),
    "TemporalPositionIdentifier": ("TemporalPositionIndex", "AcquisitionTime", "AcquisitionNumber"),
}
_MOST_CLOSE = 3
_MOST_SHOWN = 3
_MOST_NAMES = 8
_FILE_META = 0x0002


def way_out(frames: "Frames", dims: Sequence[Dim]) -> str:
    """Say what tells frames apart that share grid points.

    Parameters
    ----------
    frames
        Table of n frames.
    dims
        Dims along which several frames are at one point.

    Returns
    -------
    str
        A sentence or two with the `dims` or the option to type.
    """
    ids, points = grid_points(dims, len(frames))
    names = [shown(dim) for dim in dims]
    preferred = list(_candidates(frames, dims, _preferred(dims)))
    for found in _exact(frames, dims, preferred, ids, points):
        verb = "tell" if len(found) > 1 else "tells"
        return f"{' and '.join(found)} {verb} them apart: try dims={(*names, *found)}"
    for dim in preferred:
        if _apart(ids, [dim]) and rank_within(ids, dim)[1] and len(np.unique(ids)) == points:
            return f"{dim.name} tells them apart: try dims={(*names, dim.name)}"
    for dim in preferred:
        if _apart(ids, [dim]) and len(ids) * 2 > points * len(dim.values):
            lacking = points * len(dim.values) - len(ids)
            return (
                f"{dim.name} tells them apart, with {lacking} points left without a frame: "
                f"try dims={(*names, dim.name)}, missing='fill'"
            )
    return "No tag and no pair of tags tells them apart: try duplicates='first' to keep the first one at each point"


def alternative(frames: "Frames", name: str) -> list[str]:
    """Return what could stand in for a dim that frames lack, best first."""
    offered = []
    for other in (*STAND_INS.get(name, ()), *_close(frames, name)):
        dim = next(_candidates(frames, (), [other], least=1), None)
        if dim is not None and (dim.codes >= 0).all():
            offered.append(other)
    return offered


def shown(dim: Dim) -> str:
    """Return the name by which a dim was asked for."""
    return dim.name + RANKED if dim.ranked else dim.name


def no_grid(count: int, dims: Sequence[Dim]) -> str:
    """Say that frames do not fill a grid."""
    return f"{count} frames do not fill a grid along {tuple(map(shown, dims))}"


def crowded(counts: IndexArray) -> str:
    """Say how many positions hold how many frames."""
    kinds, times = np.unique(counts[counts > 1], return_counts=True)
    order = np.argsort(-times, kind="stable")[:_MOST_SHOWN]
    parts = [f"{times[i]} {_plural('position', times[i])} {verb('hold', times[i])} {kinds[i]} frames" for i in order]
    return ", ".join(parts) + (" and others more" if len(kinds) > _MOST_SHOWN else "")


def varying(frames: "Frames") -> str:
    """List the tags that vary, those with the fewest values first."""
    found = []
    for tag in frames.tags():
        # File meta information and private elements say little to a reader.
        if tag >> 16 == _FILE_META or tag >> 16 & 1 or is_long(frames, tag):
            continue
        count = len(frames.column(tag)[0])
        if count > 1 and tag not in (POSITION, ORIENTATION, INSTANCE_NUMBER):
            found.append((count, name_of(tag)))
    shortest = sorted(found)[:_MOST_NAMES]
    listed = ", ".join(f"{name} ({count} values)" for count, name in shortest)
    return (
        f"The tags that vary are {listed}" + (", ..." if len(found) > _MOST_NAMES else "") if found else "No tag varies"
    )


def verb(verb: str, count: int) -> str:
    """Return a verb in the form that goes with a count."""
    return verb + "s" if count == 1 else verb


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + "s"


def _close(frames: "Frames", name: str) -> list[str]:
    names = [name_of(tag) for tag in frames.tags()]
    return [other for other in difflib.get_close_matches(name, names, _MOST_CLOSE, 0.75) if other != name]


def _preferred(dims: Sequence[Dim]) -> list[str]:
    has_slices = any(dim.is_position for dim in dims)
    return [*(() if has_slices else ("SliceLocation", "slice_location")), *PREFERRED]


def _candidates(frames: "Frames", dims: Sequence[Dim], names: Sequence[str], least: int = 2) -> Iterator[Dim]:
    """Yield dims, by name, that every frame has and that hold several values."""
    taken = {dim.name for dim in dims}
    for name in names:
        if name in taken:
            continue
        try:
            dim = resolve(frames, name)
        except XdicomError:
            continue
        if len(dim.values) >= least and (dim.codes >= 0).all():
            yield dim


def _exact(
    frames: "Frames", dims: Sequence[Dim], preferred: Sequence[Dim], ids: IndexArray, points: int
) -> Iterator[list[str]]:
    """Yield the names of one dim, else of two, that tell all frames apart and fill the grid."""
    if len(ids) % points:
        return
    times = len(ids) // points
    singles = [dim for dim in preferred if len(dim.values) == times]
    names = (
        {name_of(tag) for tag in frames.tags() if tag >> 16 != _FILE_META and not is_long(frames, tag)}
        - {dim.name for dim in preferred}
        - set(SLICE_DIMS)
    )
    others = (dim for dim in _candidates(frames, dims, sorted(names)) if len(dim.values) == times)
    for dim in (*singles, *others):
        if _apart(ids, [dim]):
            yield [dim.name]
    for first, second in combinations(preferred, 2):
        if len(first.values) * len(second.values) == times and _apart(ids, [first, second]):
            yield [first.name, second.name]


def _apart(ids: IndexArray, dims: Sequence[Dim]) -> bool:
    """Whether no two frames of one id agree in all of some dims."""
    own, count = grid_points(dims, len(ids))
    groups = np.unique(ids, return_inverse=True)[1].reshape(-1)
    return len(np.unique(groups * count + own)) == len(ids)
