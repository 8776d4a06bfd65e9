"""A series from an array that brings its headers: as it was, or cloned from what headers there are, or made anew.

How headers are kept in an array is known in `archived`.
"""

import numpy as np
import xarray as xr

from .archived import Header, as_template, headers_of, shared_header
from .columns import Column
from .derive import Limits, Plan, computed, fill_series, header_columns
from .errors import EditError
from .frames import Frames
from .labelling import in_order
from .modules import PATIENT_TAGS, STUDY_TAGS
from .naming import new_uid
from .replacing import plan_of
from .scan import SERIES_UID, STUDY_UID, SeriesKey, series_key
from .staging import Progress
from .store import Store

_INSTANCE, _CLASS, _FRAMES, _PATIENT_ID = 0x00080018, 0x00080016, 0x00280008, 0x00100020
_WINDOW = (0x00281050, 0x00281051, 0x00281055, 0x00281056)
_SCALE, _TABLE = (0x00281053, 0x00281052), 0x00283000
_SERIES_TAGS = (0x00080005, 0x00080060, 0x0008103E, SERIES_UID, 0x00200011)


def restore_series(store: Store, array: xr.DataArray, progress: Progress | None = None) -> SeriesKey:
    """Stage an array as a series; a lazy one is computed once.

    Parameters
    ----------
    store
        Where to.
    array
        Dims (*dims, "row", "column"[, "sample"]), real-world values.
    progress
        Called with the number of tasks done and that of all.

    Returns
    -------
    SeriesKey
        Where each image brings its own header, that of the series as it was, with the same UIDs: coordinates that were
        changed since are changed tags. Where frames lay in one file, or the array was computed, a new series is derived
        from what headers there are.

    Raises
    ------
    EditError
        If the series is in the database already, or the array is none of images.
    BrokenFileError
        If what stands for the headers is no DICOM JSON.
    """
    ordered, lead = in_order(array)
    headers = headers_of(ordered, lead)
    if headers is not None and _are_whole(headers):
        template = as_template(headers)
        plan = _with_windows(plan_of(template, ordered, lead, np.arange(len(headers))), headers)
        key = series_key(headers[0], b"")
        _refuse_present(store, key, template)
        store.begin()  # which sweeps staged pixels that nothing refers to
        frames = computed(store, ordered, plan, progress=progress)
        with store.together():
            _make_room(store, key, headers[0])
            store.stage(key, frames)
        return key
    return derive_series(store, array, progress=progress)


def derive_series(
    store: Store, array: xr.DataArray, *, limits: Limits = None, progress: Progress | None = None
) -> SeriesKey:
    """Stage an array as a new series, cloned from what headers it brings; a lazy one is computed once.

    Parameters
    ----------
    store
        Where to.
    array
        Dims (*dims, "row", "column"[, "sample"]), real-world values.
    limits
        (low, high) that values are clipped to.
    progress
        Called with the number of tasks done and that of all.

    Returns
    -------
    SeriesKey
        Below the patient and the study that the headers name, which are made where they are not there.

    Raises
    ------
    EditError
        If the array is none of images.
    BrokenFileError
        If what stands for the headers is no DICOM JSON.
    """
    ordered, lead = in_order(array)
    known = headers_of(ordered, lead) or [shared_header(array)]
    key = _new_key(known[0])
    like = as_template(known) if all(_CLASS in header for header in known) else None
    with store.together():
        _make_room(store, key, known[0])
        fill_series(store, key, ordered, like=like, limits=limits, scale=_scale_of(known), progress=progress)
    return key


def _are_whole(headers: list[Header]) -> bool:
    """Say whether headers are those of one image a file, all of one series."""
    uids = {header.get(_INSTANCE, ("", b""))[1].strip(b"\0 ") for header in headers}
    several = {header[_FRAMES][1].strip(b"\0 ") for header in headers if _FRAMES in header}
    keys = {series_key(header, b"") for header in headers}
    named = all(_CLASS in header and STUDY_UID in header and SERIES_UID in header for header in headers)
    return named and len(uids) == len(headers) and b"" not in uids and several <= {b"", b"1"} and len(keys) == 1


def _new_key(header: Header) -> SeriesKey:
    """Return the key of a new series, of the patient and study that a header names, or of new ones."""
    key = series_key({tag: raw for tag, raw in header.items() if tag != SERIES_UID}, b"")
    patient = key.patient if key.patient.strip("\0") else "anonymous"
    return SeriesKey(patient, key.study.strip("\0") or new_uid(), new_uid())


def _with_windows(plan: Plan, headers: list[Header]) -> Plan:
    """Keep the windows that images had: they are about real-world values, which are what an array holds."""
    windows = header_columns([{tag: header[tag] for tag in _WINDOW if tag in header} for header in headers])

    def build(module: Header) -> dict[int, Column]:
        return {tag: column for tag, column in plan.columns(module).items() if tag not in _WINDOW} | windows

    return plan._replace(columns=build, scale=_scale_of(headers))


def _scale_of(headers: list[Header]) -> tuple[str, str] | None:
    """Return slope and intercept where all images have the same and no table in their place."""
    texts = {tuple(header.get(tag, ("DS", b""))[1].strip(b"\0 ") for tag in _SCALE) for header in headers}
    if len(texts) > 1 or any(_TABLE in header for header in headers):
        return None
    slope, intercept = (text.decode("ascii", "replace") for text in texts.pop())
    return (slope, intercept) if slope and intercept else None


def _refuse_present(store: Store, key: SeriesKey, template: Frames) -> None:
    """Refuse images that the series in the database has already; others, such as those of another stack, join it."""
    held = store.frames(key)
    if held is not None and set(held.unique(_INSTANCE)) & set(template.unique(_INSTANCE)):
        raise EditError(
            f"images of the series {key.series} are in the database already: remove it first, "
            "or leave out database= and copy_to() a study, for a copy under new UIDs"
        )


def _make_room(store: Store, key: SeriesKey, header: Header) -> None:
    """Stage the patient, the study and the series of a key, those that are not there."""
    patient = {tag: raw for tag, raw in header.items() if tag in PATIENT_TAGS} | {_PATIENT_ID: ("LO", b"")}
    patient[_PATIENT_ID] = header.get(_PATIENT_ID) or ("LO", key.patient.split("\0")[0].encode())
    study = patient | {tag: raw for tag, raw in header.items() if tag in STUDY_TAGS}
    study[STUDY_UID] = "UI", key.study.encode()
    series = study | {tag: raw for tag, raw in header.items() if tag in _SERIES_TAGS}
    series[SERIES_UID] = "UI", key.series.encode()
    for size, values in enumerate((patient, study, series), 1):
        if not store.exists(tuple(key[:size])):
            store.add(SeriesKey(*key[:size], *[""] * (3 - size)), values)
