"""Rows of a table as what a file needs: all elements of one row, and the tags that name its file.

It writes nothing.
"""

from collections.abc import Iterator

import numpy as np

from .columns import Known
from .explicit import explicit_values
from .frames import Frames
from .instance import INSTANCE_UID
from .naming import Instance
from .scan import SeriesKey

Header = dict[int, Known]

_STUDY_DATE, _STUDY_DESCRIPTION, _PATIENT_ID = 0x00080020, 0x00081030, 0x00100020
_SERIES_NUMBER, _SERIES_DESCRIPTION, _INSTANCE_NUMBER, _SERIES_UID = 0x00200011, 0x0008103E, 0x00200013, 0x0020000E
_PATH_TAGS = (_PATIENT_ID, _STUDY_DATE, _STUDY_DESCRIPTION, _SERIES_NUMBER, _SERIES_DESCRIPTION, _INSTANCE_NUMBER)


def row_headers(frames: Frames) -> list[Header]:
    """Return the elements of each row in explicit VR, long ones read; group 2 and pseudo-tags left out."""
    headers: list[Header] = [{} for _ in range(len(frames))]
    for tag in frames.tags():
        if tag >> 16 == 2:
            continue
        raws, codes = frames.raw_values(tag)
        for header, code in zip(headers, codes.tolist(), strict=True):
            if code >= 0:
                header[tag] = raws[code]
    return [_explicit(header) for header in headers]


def _explicit(header: Header) -> Header:
    """Return elements in explicit VR, of which those without a VR come from implicit VR."""
    if all(vr for vr, _ in header.values()):
        return explicit_values(header, implicit=False)
    added = {tag: value for tag, value in header.items() if value[0] == "SQ"}
    others = {tag: value for tag, value in header.items() if tag not in added}
    return explicit_values(others, implicit=True) | explicit_values(added, implicit=False)


def instances_of(frames: Frames, key: SeriesKey) -> Iterator[tuple[int, Instance]]:
    """Yield the first row of each instance, and the tags that name its file."""
    columns = [frames.column(tag) for tag in (*_PATH_TAGS, INSTANCE_UID)]
    _, first = np.unique(np.stack([frames.file, columns[-1][1]], axis=1), axis=0, return_index=True)
    for row in np.sort(first).tolist():
        values = [found[codes[row]] if codes[row] >= 0 else None for found, codes in columns]
        patient, date, study, number, series, instance, uid = ("" if value is None else value for value in values)
        name = Instance(
            *key, str(uid), str(patient), str(date), str(study), _number(number), str(series), _number(instance)
        )
        yield row, name


def _number(value: object) -> int | str | None:
    return value if isinstance(value, int | str) else None
