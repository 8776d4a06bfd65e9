"""Which tags describe the patient, the study, the pixels or the frame: what new records and frames inherit.

Lists of the DICOM standard (PS3.3), nothing else.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from .columns import Column

V = TypeVar("V")

CHARSET = 0x00080005
PATIENT_TAGS = frozenset(
    {
        CHARSET,
        0x00100010, 0x00100020, 0x00100021, 0x00100022, 0x00100024, 0x00100026, 0x00100027, 0x00100030, 0x00100032,
        0x00100033, 0x00100034, 0x00100035, 0x00100040, 0x00100101, 0x00100102, 0x00100200, 0x00101000, 0x00101001,
        0x00101002, 0x00102160, 0x00102201, 0x00102202, 0x00102292, 0x00102293, 0x00102294, 0x00102295, 0x00102296,
        0x00102297, 0x00102298, 0x00102299, 0x00104000, 0x00120010, 0x00120020, 0x00120021, 0x00120030, 0x00120031,
        0x00120040, 0x00120042, 0x00120062, 0x00120063, 0x00120064, 0x00120081, 0x00120082,
    }
)  # fmt: skip
"""PS3.3 C.7.1: patient, clinical trial subject."""

STUDY_TAGS = frozenset(
    {
        0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080090, 0x00080096, 0x0008009C, 0x0008009D, 0x00081030,
        0x00081032, 0x00081048, 0x00081049, 0x00081060, 0x00081062, 0x00081080, 0x00081084, 0x00081110, 0x00101010,
        0x00101020, 0x00101021, 0x00101022, 0x00101023, 0x00101024, 0x00101030, 0x00102000, 0x00102110, 0x00102180,
        0x001021A0, 0x001021B0, 0x001021C0, 0x001021D0, 0x00102203, 0x0020000D, 0x00200010, 0x00120050, 0x00120051,
        0x00120052, 0x00120053, 0x00120083, 0x00321033, 0x00380010, 0x00380014, 0x00380060, 0x00380062, 0x00380064,
        0x00380500,
    }
)  # fmt: skip
"""PS3.3 C.7.2: study, patient study, clinical trial study."""

# PS3.3 C.7.1.1, C.7.2.1: of type 2, empty where nothing is known; with their VRs.
_TYPE_2 = {
    0x00080020: "DA",
    0x00080030: "TM",
    0x00080050: "SH",
    0x00080090: "PN",
    0x00100010: "PN",
    0x00100020: "LO",
    0x00100030: "DA",
    0x00100040: "CS",
    0x00200010: "SH",
}


def without(tags: Iterable[int]) -> dict[int, Column | None]:
    """Return the columns of a table that says nothing of some tags: empty ones where an element has to be there."""
    return {tag: Column([(_TYPE_2[tag], b"")]) if tag in _TYPE_2 else None for tag in tags}


def inherited(values: Mapping[int, V], *, study: bool) -> dict[int, V]:
    """Return what a new study takes from its patient, or a new series from its study."""
    wanted = PATIENT_TAGS | STUDY_TAGS if study else PATIENT_TAGS
    return {tag: value for tag, value in values.items() if tag in wanted}
