"""Facts about xdicom.conditions: which frames match."""

import numpy as np
import pytest
from fake_table import ABSENT, FakeFrames

from xdicom import tags
from xdicom.conditions import matching_rows
from xdicom.errors import UnknownTagError


class Table(FakeFrames):
    """A table that is asked by name, as Frames are."""

    def named(self, name):
        if name[:1].islower():
            return self.attributes[name], np.arange(self.count)
        return self.column(tags.as_tag(name))


TABLE = Table(
    FlipAngle=[5.0, 10.0, None, ABSENT],
    SeriesDescription=["ax", "ax 10", "sag", "ax"],
    ImageType=[("A", "B"), ("A", "C"), ("A", "B"), ABSENT],
    attributes={"image_type": ["PHASE", "MAGNITUDE", "PHASE", "PHASE"]},
)


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"FlipAngle": 5}, [0]),
        ({"FlipAngle": np.float32(10)}, [1]),
        ({"FlipAngle": [5, 10]}, [0, 1]),
        ({"FlipAngle": np.array([5, 7])}, [0]),
        ({"FlipAngle": {10.0}}, [1]),
        ({"FlipAngle": None}, [2]),
        ({"FlipAngle": [5, None]}, [0, 2]),
        ({"FlipAngle": []}, []),
        ({"FlipAngle": slice(5, 9)}, [0]),
        ({"FlipAngle": slice(5, 10)}, [0, 1]),
        ({"FlipAngle": slice(None, 9)}, [0]),
        ({"FlipAngle": slice(6, None)}, [1]),
        ({"FlipAngle": slice("a", "b")}, []),
        ({"FlipAngle": [slice(0, 6), 10]}, [0, 1]),
        ({"FlipAngle": lambda angle: angle > 5}, [1]),
        ({"FlipAngle": "5"}, []),
        ({"SeriesDescription": "ax"}, [0, 3]),
        ({"SeriesDescription": lambda text: text.startswith("ax")}, [0, 1, 3]),
        ({"SeriesDescription": slice("b", None)}, [2]),
        ({"SeriesDescription": tags.unique(["sag"])}, [2]),
        ({"ImageType": ("A", "B")}, [0, 2]),
        ({"ImageType": lambda parts: "C" in parts}, [1]),
        ({"image_type": "PHASE"}, [0, 2, 3]),
        ({"image_type": "PHASE", "SeriesDescription": "ax"}, [0, 3]),
    ],
)
def test_matching_rows(conditions, rows):
    """A frame matches a value, one of a list, a range with both ends, or a function; and all conditions together."""
    assert np.flatnonzero(matching_rows(TABLE, conditions)).tolist() == rows


def test_a_typo_raises():
    """A name that is no tag raises, with the nearest one."""
    with pytest.raises(UnknownTagError, match="FlipAngle"):
        matching_rows(TABLE, {"FlipAngel": 5})


def test_functions_are_asked_once_a_value():
    """Conditions look at distinct values, not at every frame."""
    asked = []
    matching_rows(Table(Rows=[7] * 100 + [8] * 100), {"Rows": asked.append})
    assert asked == [7, 8]
