"""A value as the text of a string VR."""

import datetime
import math
import warnings
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pydicom.valuerep import DSfloat, PersonName, is_valid_ds

from xdicom.strings import TEXTS, UnfitError, number_of, whole_number

UTC1 = datetime.timezone(datetime.timedelta(hours=1))
NOON = datetime.datetime(2022, 11, 19, 12, 30, 15)


def text(vr, value):
    """Return the text of a value in a VR."""
    return TEXTS[vr](value, vr)


@pytest.mark.parametrize(
    ("vr", "value", "wanted"),
    [
        ("AE", " STORE ", "STORE"),
        ("AS", "018M", "018M"),
        ("CS", "MR", "MR"),
        ("CS", "DERIVED_2 X", "DERIVED_2 X"),
        ("DS", 23.0, "23.0"),
        ("DS", 5, "5"),
        ("DS", True, "1"),
        ("DS", "1.50 ", "1.50"),
        ("DS", "0.10000000000000000001", "0.1"),
        ("DS", 1 / 3, "0.33333333333333"),
        ("DS", -math.pi * 1e20, "-3.141592654e+20"),
        ("DS", 10**20, "1e+20"),
        ("DS", 9.999999999999998, "10.0000000000000"),
        ("DS", -9999999999999.955, "-10000000000000"),
        ("DS", -10000000000001.0, "-10000000000001"),
        ("DS", Decimal("1.5"), "1.5"),
        ("DS", DSfloat("0.500"), "0.500"),
        ("IS", 12, "12"),
        ("IS", 12.0, "12"),
        ("IS", "12", "12"),
        ("IS", "1e3", "1000"),
        ("IS", -(2**31), "-2147483648"),
        ("LO", " a ", "a"),
        ("LT", " a\r\n\tb\\c ", " a\r\n\tb\\c"),
        ("SH", "x" * 16, "x" * 16),
        ("PN", "Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^太郎"),
        ("PN", PersonName("A^B"), "A^B"),
        ("UC", " a ", " a"),
        ("UI", "1.2.840.0", "1.2.840.0"),
        ("UI", UID("1.2"), "1.2"),
        ("UR", "http://a/b?c=d", "http://a/b?c=d"),
        ("DA", "20221119", "20221119"),
        ("DA", "2022-11-19", "20221119"),
        ("DA", "2022.11.19", "20221119"),
        ("DA", datetime.date(2022, 11, 19), "20221119"),
        ("DA", datetime.date(50, 1, 2), "00500102"),
        ("DA", NOON, "20221119"),
        ("DA", "11121012", "11121012"),
        ("TM", 12 * 60 * 60, "120000"),
        ("TM", 43200.5, "120000.500000"),
        ("TM", 43200.123456, "120000.123456"),
        ("TM", 0, "000000"),
        ("TM", 86399.999999, "235959.999999"),
        ("TM", datetime.time(12, 30, 15, 250000), "123015.250000"),
        ("TM", NOON, "123015"),
        ("TM", "12:30:15.25", "123015.25"),
        ("TM", "12:30", "1230"),
        ("TM", "12", "12"),
        ("TM", "123015.250", "123015.250"),
        ("DT", NOON, "20221119123015"),
        ("DT", NOON.replace(microsecond=5, tzinfo=UTC1), "20221119123015.000005+0100"),
        ("DT", datetime.date(2022, 11, 19), "20221119"),
        ("DT", "2022", "2022"),
        ("DT", "202211191230+0100", "202211191230+0100"),
        ("DT", "2022-11-19T12:30:15+01:00", "20221119123015+0100"),
        ("DT", datetime.datetime(99, 1, 1), "00990101000000"),
    ],
)
def test_what_a_vr_holds(vr, value, wanted):
    """Each VR takes the Python types that mean it."""
    assert text(vr, value) == wanted


@pytest.mark.parametrize(
    ("vr", "value", "says"),
    [
        ("AE", "x" * 17, "17 characters where VR AE holds 16"),
        ("AE", "é", "no such characters"),
        ("AS", "18M", "three digits"),
        ("AS", "18", "three digits"),
        ("CS", "mr", "type 'MR'"),
        ("CS", "a-b", "capital letters"),
        ("CS", "X" * 17, "17 characters"),
        ("CS", 5, "takes text; type '5'"),
        ("DS", math.nan, "finite"),
        ("DS", math.inf, "finite"),
        ("DS", "1,5", "no number"),
        ("DS", "nan", "no number"),
        ("DS", None, "takes numbers"),
        ("DS", 1j, "takes numbers"),
        ("DS", 10**400, "finite"),
        ("DS", "1e400", "finite"),
        ("DS", "1e" + "9" * 50, "no number"),
        ("IS", 1.5, "round 1.5"),
        ("IS", 2**31, "-2147483648 to 2147483647"),
        ("IS", "x", "no number"),
        ("IS", math.nan, "holds"),
        ("IS", "1e9999999", "holds"),
        ("LO", "x" * 65, "65 characters where VR LO holds 64"),
        ("LO", "a\nb", "control character"),
        ("LO", "a\x1bb", "control character"),
        ("LO", b"x", "takes text"),
        ("LT", "x" * 10241, "10241 characters"),
        ("LT", "a\0b", "control character"),
        ("SH", "x" * 17, "17 characters where VR SH holds 16"),
        ("SH", 12, "type '12'"),
        ("ST", "x" * 1025, "1025 characters"),
        ("PN", "a=b=c=d", "3 groups"),
        ("PN", "a^b^c^d^e^f", "5 components"),
        ("PN", "x" * 65, "64 characters"),
        ("UI", "1.02", "no part begins with 0"),
        ("UI", "1.2.", "UID"),
        ("UI", "1.a", "UID"),
        ("UI", "1." + "2" * 63, "up to 64"),
        ("UI", "../../etc", "UID"),
        ("UR", "a b", "no such characters"),
        ("DA", "2022", "no such date"),
        ("DA", "20221332", "no such date"),
        ("DA", "2022-02-30", "no such date"),
        ("DA", "32132022", "no such date"),
        ("DA", 20221119, "takes a date"),
        ("TM", -1, "0 to 86399.999999"),
        ("TM", 86400, "0 to 86399.999999"),
        ("TM", 86399.9999999, "0 to 86399.999999"),
        ("TM", math.nan, "0 to 86399.999999"),
        ("TM", "25", "no such time"),
        ("TM", "12000", "no such time"),
        ("TM", "12:60", "no such time"),
        ("TM", datetime.time(12, tzinfo=UTC1), "no time zone"),
        ("TM", None, "takes seconds"),
        ("DT", "20221301", "no such time"),
        ("DT", "2022111924", "no such time"),
        ("DT", "2022+9900", "no such time"),
        ("DT", 5, "takes a datetime"),
    ],
)
def test_what_a_vr_does_not_hold(vr, value, says):
    """Anything else is refused with what was expected."""
    with pytest.raises(UnfitError, match=says):
        text(vr, value)


def test_a_date_of_the_guide():
    """DDMMYYYY is understood where it cannot be YYYYMMDD, with a warning that says how to type it."""
    with pytest.warns(UserWarning, match="'19112022' is no YYYYMMDD .* type '2022-11-19'"):
        assert text("DA", "19112022") == "20221119"


def test_a_date_that_can_be_both():
    """What can be YYYYMMDD is, without a warning."""
    assert text("DA", "12121012") == "12121012"


def test_the_warning_points_at_the_caller():
    """The warning names the line outside the package."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        text("DA", "19112022")
    assert caught[0].filename == __file__


@given(st.floats(-1.7976e308, 1.7976e308))
def test_decimals_are_short_and_near(value):
    """DS has 16 characters at most, and as many digits as these hold."""
    found = text("DS", value)
    assert is_valid_ds(found)
    assert float(found) == pytest.approx(value, rel=1e-8, abs=0)


@given(st.integers())
def test_integers_have_a_decimal(value):
    """Any int that a float holds is a DS, exact up to 15 digits."""
    if abs(value) < 1e300:
        found = text("DS", value)
        assert len(found) <= 16
        assert abs(value) >= 10**15 or found == str(value)


@given(st.times(timezones=st.none()))
def test_a_time_and_its_seconds_are_one(value):
    """A time and its seconds since midnight have the same text."""
    seconds = (value.hour * 60 + value.minute) * 60 + value.second + value.microsecond / 1e6
    assert text("TM", seconds) == text("TM", value)


@given(st.dates())
def test_a_date_and_its_texts_are_one(value):
    """A date, its ISO text and its DICOM text are the same."""
    assert text("DA", value) == text("DA", value.isoformat()) == text("DA", text("DA", value))


@given(st.datetimes(timezones=st.none() | st.just(UTC1)))
def test_a_datetime_and_its_texts_are_one(value):
    """A datetime, its ISO text and its DICOM text are the same."""
    assert text("DT", value) == text("DT", value.isoformat()) == text("DT", text("DT", value))


@given(st.none() | st.text() | st.floats() | st.integers() | st.binary() | st.dates() | st.times() | st.booleans())
def test_only_unfit_errors(value):
    """A value is written or refused, whatever it is."""
    for vr in TEXTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert isinstance(text(vr, value), str)
            except UnfitError as reason:
                assert str(reason)  # noqa: PT017


def test_numbers_in_text():
    """A number in text is exact."""
    assert number_of(" 0.1 ") == Decimal("0.1")


def test_a_whole_number_has_a_range():
    """Whole numbers are refused outside their range."""
    assert whole_number(5.0, "US", 0, 5) == 5
    with pytest.raises(UnfitError, match="holds 0 to 5"):
        whole_number(6, "US", 0, 5)
