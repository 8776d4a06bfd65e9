"""Which series of a database were acquired alike but for their flip angle, so that T1 can be fitted to them.

It reads tags and computes nothing.
"""

from collections.abc import Hashable, Iterable
from typing import Any

from .database import Database, Series
from .errors import PixelError, RecordError
from .reading import readable

_MOST_NAMED = 12
_SAME = ("Rows", "Columns", "RepetitionTime", "EchoTime", "FrameOfReferenceUID")
_NOT_SPOILED = {"SE", "IR", "EP"}  # terms of ScanningSequence, PS3.3 C.8.3.1


def flip_angle_sets(db: Database) -> list[list[Series]]:
    """Return the sets of series, each in one study, that share geometry and timing and differ in flip angle.

    Parameters
    ----------
    db
        The database. Series of phase images, spin echoes, several echoes or several repetitions are passed over; where
        two series have one flip angle, the first is taken.

    Returns
    -------
    list of list of Series
        Ordered by flip angle; each set has two or more.

    Raises
    ------
    RecordError
        If there is none, with what there is.
    """
    found = []
    for study in db.studies():
        alike: dict[Hashable, dict[float, Series]] = {}
        for series in study.series():
            key = _acquisition(series)
            if key is not None:
                alike.setdefault(key, {}).setdefault(float(series.FlipAngle[0]), series)
        found += [[angles[angle] for angle in sorted(angles)] for angles in alike.values() if len(angles) > 1]
    if not found:
        raise RecordError(_nothing(db))
    return found


def _acquisition(series: Series) -> Hashable | None:
    """Return what series with other flip angles must share with this one; None where it cannot serve."""
    one = [series[name] for name in (*_SAME[:4], "FlipAngle")]
    if any(len(values) != 1 or values[0] is None for values in one):
        return None
    if not set(series.image_type) <= {"MAGNITUDE", "UNKNOWN"} or _NOT_SPOILED & _terms(series["ScanningSequence"]):
        return None
    locations = [place for place in series.slice_location if place is not None]
    if not locations or len(locations) != _image_count(series):
        return None
    directions = [
        _rounded(series[name], digits) for name, digits in (("ImageOrientationPatient", 4), ("PixelSpacing", 4))
    ]
    return (*(tuple(series[name]) for name in _SAME), *directions, _rounded([locations], 2))


def _image_count(series: Series) -> int:
    """Return how many images can be read; 0 where one cannot."""
    try:
        return len(readable(series.frames()))
    except PixelError:
        return 0


def _terms(values: Iterable[Any]) -> set[str]:
    return {str(term) for value in values for term in (value if isinstance(value, tuple) else (value,))}


def _rounded(values: Iterable[Any], digits: int) -> tuple[tuple[float, ...], ...]:
    """Return vectors of numbers rounded, so that they compare equal where they nearly are; -0.0 becomes 0.0."""
    return tuple(tuple(round(float(number), digits) + 0.0 for number in value or ()) for value in values)


def described(series: Series) -> str:
    """Return a series in a few words."""
    name = next((str(value) for value in series["SeriesDescription"] if value), "(no description)")
    number = next((f"{value} " for value in series["SeriesNumber"] if value is not None), "")
    told = [f"{name}: {', '.join(f'{value:g}' for value in values)}" for name, values in _numbers(series) if values]
    return f"{number}{name} ({'; '.join(told) or 'no FlipAngle'})"


def _numbers(series: Series) -> list[tuple[str, list[float]]]:
    return [
        (short, [value for value in series[keyword] if isinstance(value, int | float)])
        for short, keyword in (("flip angle", "FlipAngle"), ("TR", "RepetitionTime"), ("TE", "EchoTime"))
    ]


def _nothing(db: Database) -> str:
    """Say what was looked for and what is there."""
    series = db.series()
    if not series:
        return "there are no DICOM series here: give the folder that holds spoiled gradient echoes"
    named = "; ".join(map(described, series[:_MOST_NAMED]))
    more = f" and {len(series) - _MOST_NAMED} more" if len(series) > _MOST_NAMED else ""
    return (
        "no study has two or more magnitude series that share matrix, slices, RepetitionTime and EchoTime and differ "
        f"in FlipAngle, which T1 needs. Found: {named}{more}"
    )
