"""Philips' floating point values and real-world value mappings, from values of elements to a rescale."""

import math
from typing import Any

import numpy as np
import pytest

from xdicom.errors import PixelError
from xdicom.formats import EXPLICIT_LITTLE, PixelFormat
from xdicom.rescale import Rescale, to_values
from xdicom.scales import chosen_mapping, philips_rescale, real_world_rescale, units_of

FMT = PixelFormat(EXPLICIT_LITTLE, 1, 4, bits_stored=12, high_bit=11)
STORED = np.array([[0, 1, 100, 4095]], np.uint16)
UNITS = {"MeasurementUnitsCodeSequence": [{"CodeValue": "mm2/s", "CodingSchemeDesignator": "UCUM"}]}
LINEAR = {"RealWorldValueSlope": 0.5, "RealWorldValueIntercept": -3.0, "LUTLabel": "ADC", **UNITS}


def test_philips_formula() -> None:
    """FP = (SV * RS + RI) / (RS * SS)."""
    values = to_values(STORED, FMT, philips_rescale(0.25, None, Rescale(2, -10)))
    np.testing.assert_allclose(values, (STORED * 2.0 - 10) / (2 * 0.25))


def test_philips_scale_intercept_stands_for_the_rescale() -> None:
    """Without RescaleSlope, FP = (SV - SI) / SS, which is the same."""
    with_intercept = philips_rescale(0.25, 5.0, None)
    assert with_intercept == philips_rescale(0.25, None, Rescale(2, -10))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((None, 0.0, Rescale()), r"scale slope \(2005,100E\) is missing"),
        ((0.0, 0.0, Rescale()), "scale slope .* is 0.0, expected a number other than 0"),
        ((math.nan, 0.0, Rescale()), "is nan"),
        (("junk", 0.0, Rescale()), "is 'junk'"),
        ((1.0, None, None), r"neither RescaleSlope nor Philips' scale intercept \(2005,100D\)"),
        ((1.0, 0.0, Rescale(problem="RescaleSlope is 0")), "RescaleSlope is 0"),
        ((1.0, 0.0, Rescale(lut=(0, 8, b"\0"))), "there is a Modality LUT"),
    ],
)
def test_philips_scale_that_cannot_be(args: Any, text: str) -> None:
    """What is missing or makes no sense is told."""
    with pytest.raises(PixelError, match=text):
        philips_rescale(*args)


def test_linear_mapping() -> None:
    """Slope and intercept are applied to stored values, whatever RescaleSlope says."""
    np.testing.assert_array_equal(to_values(STORED, FMT, real_world_rescale(LINEAR)), STORED * 0.5 - 3)


def test_values_outside_the_mapping_are_nan() -> None:
    """A mapping is for the stored values from the first to the last one, and for no others."""
    mapped = {"RealWorldValueFirstValueMapped": 1, "RealWorldValueLastValueMapped": 100}
    values = to_values(STORED, FMT, real_world_rescale({**LINEAR, **mapped}))
    np.testing.assert_array_equal(values, [[np.nan, -2.5, 47, np.nan]])


def test_mapping_of_all_values_stays_integral() -> None:
    """A mapping that covers all stored values has no NaN, so that integers stay integers."""
    mapped = {"RealWorldValueFirstValueMapped": 0, "RealWorldValueLastValueMapped": 4095}
    rescale = real_world_rescale({"RealWorldValueSlope": 2.0, "RealWorldValueIntercept": 0.0, **mapped})
    assert to_values(STORED, FMT, rescale).dtype == np.uint16


def test_float_mapping() -> None:
    """Float pixels have their range in elements of their own."""
    fmt = PixelFormat(EXPLICIT_LITTLE, 1, 3, bits_allocated=32, kind="float")
    names = ("DoubleFloatRealWorldValueFirstValueMapped", "DoubleFloatRealWorldValueLastValueMapped")
    item = {"RealWorldValueSlope": 2.0, "RealWorldValueIntercept": 1.0, names[0]: 0.5, names[1]: 2.0}
    values = to_values(np.array([[0.25, 0.5, 4]], np.float32), fmt, real_world_rescale(item))
    np.testing.assert_array_equal(values, [[np.nan, 2, np.nan]])


def test_table_of_values() -> None:
    """A table has a value for each stored one."""
    item = {
        "RealWorldValueLUTData": (0.1, 0.2, 1e-3),
        "RealWorldValueFirstValueMapped": 1,
        "RealWorldValueLastValueMapped": 3,
    }
    values = to_values(np.array([[0, 1, 3, 4]], np.uint16), FMT, real_world_rescale(item))
    np.testing.assert_array_equal(values, [[np.nan, 0.1, 1e-3, np.nan]])
    assert values.dtype == np.float64


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({}, "no slope and intercept, and no table"),
        ({"RealWorldValueSlope": 1.0}, "no slope and intercept, and no table"),
        ({"RealWorldValueSlope": math.inf, "RealWorldValueIntercept": 0.0}, "no slope and intercept"),
        ({"RealWorldValueSlope": 0.0, "RealWorldValueIntercept": 0.0}, "RealWorldValueSlope is 0"),
        ({"RealWorldValueLUTData": (1.0, 2.0)}, "has 2 entries for no stored values"),
        (
            {
                "RealWorldValueLUTData": (1.0, 2.0),
                "RealWorldValueFirstValueMapped": 0,
                "RealWorldValueLastValueMapped": 2**31,
            },
            "has 2 entries for 0 to 2147483648",
        ),
        (
            {**LINEAR, "RealWorldValueFirstValueMapped": 5, "RealWorldValueLastValueMapped": 4},
            "goes from 5 to 4: expected the other way round",
        ),
    ],
)
def test_mapping_that_cannot_be(item: Any, text: str) -> None:
    """What is missing or makes no sense is told."""
    with pytest.raises(PixelError, match=text):
        real_world_rescale(item)


def test_only_mapping_needs_no_label() -> None:
    """One mapping is the one that is meant; a label must be its own."""
    assert chosen_mapping([LINEAR], "") is LINEAR
    assert chosen_mapping([LINEAR], "ADC") is LINEAR
    with pytest.raises(PixelError, match=r"no real-world value mapping is labelled 'T1'; there are 'ADC' \(mm2/s\)"):
        chosen_mapping([LINEAR], "T1")


def test_several_mappings_need_a_label() -> None:
    """Of several one is named; the error lists them and says what to type."""
    other = {**LINEAR, "LUTLabel": "raw", "MeasurementUnitsCodeSequence": []}
    assert chosen_mapping([LINEAR, other], "raw") is other
    with pytest.raises(
        PixelError, match=r"'ADC' \(mm2/s\), 'raw' \(no units\): name one, such as rescale='real-world:ADC'"
    ):
        chosen_mapping([LINEAR, other], "")


def test_pieces_of_one_label_are_refused() -> None:
    """Several mappings of one label, piece by piece, are not put together."""
    with pytest.raises(PixelError, match="there are 2 real-world value mappings"):
        chosen_mapping([LINEAR, LINEAR], "ADC")


def test_units() -> None:
    """The unit is the code of its sequence, "" where there is none."""
    assert units_of(LINEAR) == "mm2/s"
    assert units_of({"MeasurementUnitsCodeSequence": [{"LongCodeValue": "long"}]}) == "long"
    assert units_of({}) == units_of({"MeasurementUnitsCodeSequence": None}) == ""
