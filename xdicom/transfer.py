"""New, copied and moved patients, studies and series: what they inherit, and which UIDs they get.

Records are known by store and key; whose methods these are is in `database`.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from . import tags
from .columns import Known
from .derive import copy_frames, laid_columns
from .edits import Overlay
from .errors import EditError, RecordError
from .frames import Frames
from .modules import PATIENT_TAGS, STUDY_TAGS, inherited, without
from .naming import new_uid
from .overlay import overlaid
from .rows import row_headers
from .scan import SeriesKey
from .store import Store

Key = tuple[str, ...]
Header = dict[int, Known]

_PATIENT_ID, _STUDY_UID, _SERIES_NUMBER, _CHARSET = 0x00100020, 0x0020000D, 0x00200011, 0x00080005


def first_header(store: Store, prefix: Key) -> Header:
    """Return the elements of the first row under a record, in explicit VR."""
    for table in store.tables(prefix):
        return row_headers(table.take([0]))[0]
    return {}


# -- new records


def add_patient(store: Store, values: Mapping[str, Any]) -> Key:
    """Stage an empty patient; PatientID is made from PatientName where not given."""
    given = dict(values)
    patient = str(given.pop("PatientID", "") or free_patient_id(store, str(given.get("PatientName", ""))))
    _add(store, SeriesKey(patient, "", ""), {"PatientName": "", **given, "PatientID": patient}, {})
    return (patient,)


def free_patient_id(store: Store, name: str) -> str:
    """Return a PatientID that no patient has."""
    stem = name.replace("^", " ").strip() or "anonymous"
    return stem if not store.exists((stem,)) else f"{stem} {new_uid()[-8:]}"


def add_study(store: Store, patient: Key, values: Mapping[str, Any]) -> Key:
    """Stage an empty study of a patient."""
    uid = str(values.get("StudyInstanceUID") or new_uid())
    header = inherited(first_header(store, patient), study=False)
    _add(store, SeriesKey(patient[0], uid, ""), {**values, "StudyInstanceUID": uid}, header)
    return patient[0], uid


def add_series(store: Store, study: Key, values: Mapping[str, Any], source: SeriesKey | None = None) -> SeriesKey:
    """Stage an empty series in a study; SeriesNumber is the next free one where not given."""
    uid = str(values.get("SeriesInstanceUID") or new_uid())
    number = values.get("SeriesNumber") or _next_number(store, study)
    key = SeriesKey(study[0], study[1], uid)
    header = inherited(first_header(store, study), study=True)
    _add(store, key, {**values, "SeriesNumber": number, "SeriesInstanceUID": uid}, header, source)
    return key


def _next_number(store: Store, study: Key) -> int:
    found = [table.unique(_SERIES_NUMBER) for table in store.tables(study)]
    return max([0, *(number for values in found for number in values if isinstance(number, int))]) + 1


def _add(
    store: Store, key: SeriesKey, values: Mapping[str, Any], header: Header, source: SeriesKey | None = None
) -> None:
    """Stage a placeholder with values laid over what it inherits."""
    upper = dict(zip((_PATIENT_ID, _STUDY_UID), key, strict=False))
    by_tag = {tags.as_tag(name): value for name, value in values.items()}
    for tag, part in upper.items():
        if part and by_tag.get(tag, part) != part:
            raise EditError(f"{tags.label(tag)} = {by_tag[tag]!r}: the new record is below {part!r}")
    store.add(key, overlaid(header, raw_values(dict(values))), source=source)


# -- copies


def copy_series(source: Store, key: SeriesKey, store: Store, study: Key, *, keep_uids: bool = False) -> SeriesKey:
    """Stage a copy of a series in a study, of this folder or another, with that patient and study.

    Parameters
    ----------
    source, key
        The series.
    store, study
        Where it goes.
    keep_uids
        Whether the UIDs of series and instances stay, as for what is moved.
    """
    frames = source.frames(key)
    if frames is None:
        raise RecordError("the series has no frames any more")
    names = ["SeriesDescription", "SeriesNumber", *(["SeriesInstanceUID"] if keep_uids else [])]
    kept = {name: found[0] for name in names if len(found := frames.unique(name)) == 1}
    target = add_series(store, study, kept)
    real = frames.take(np.flatnonzero(frames.file >= 0))
    if len(real):
        real = real if store is source else store.own(real)
        copy_frames(store, target, real, elsewhere=True, keep_uids=keep_uids)
    return target


def copy_study(source: Store, key: Key, store: Store, patient: Key, *, keep_uids: bool = False) -> Key:
    """Stage a copy of a study with all its series for a patient, of this folder or another."""
    header = {tag: raw for tag, raw in first_header(source, key).items() if tag in STUDY_TAGS or tag == _CHARSET}
    target = patient[0], key[1] if keep_uids else new_uid()
    if not (keep_uids and store.exists(target)):
        inner = overlaid(inherited(first_header(store, patient), study=False), header)
        store.add(SeriesKey(*target, ""), inner | {_STUDY_UID: ("UI", target[1].encode())})
    for series in source.keys(key):
        copy_series(source, series, store, target, keep_uids=keep_uids)
    return target


def copy_patient(source: Store, key: Key, store: Store, *, keep_uids: bool = False) -> Key:
    """Stage a copy of a patient with all studies; in the same folder under a new PatientID."""
    header = {tag: raw for tag, raw in first_header(source, key).items() if tag in PATIENT_TAGS}
    held = source.frames(source.keys(key, placeholders=True)[0])
    identity = held.unique(_PATIENT_ID) if held is not None else []
    name = str(identity[0] or "") if identity else ""
    target = name if store is not source and name else free_patient_id(store, f"{name or 'anonymous'} copy")
    if not store.exists((target,)):
        own = raw_values({"PatientID": target})
        store.add(SeriesKey(target, "", ""), overlaid(header, own))
    for study in source.children(key):
        copy_study(source, study, store, (target,), keep_uids=keep_uids)
    return (target,)


# -- moves within a folder


def move_below(store: Store, key: Key, target: Key) -> Key:
    """Stage the move of a series into a study, or of a study to a patient; return its new key."""
    is_series = len(key) == 3
    modules = PATIENT_TAGS | STUDY_TAGS if is_series else PATIENT_TAGS
    header = inherited(first_header(store, target), study=is_series)
    return store.move(key, partial(_laid_modules, header=header, modules=modules - {_CHARSET}))


def _laid_modules(table: Frames, *, header: Header, modules: frozenset[int]) -> Overlay:
    """Return the columns that give a table the modules of a header, and take away what that has not."""
    gone: Overlay = without(tag for tag in table.tags() if tag in modules and tag not in header)
    return {**gone, **laid_columns(table, header)}


def raw_values(values: Mapping[str, object]) -> dict[int, Known]:
    """Encode values by tag or keyword into raw ones, in UTF-8 where text needs it.

    Raises
    ------
    TagValueError
        If a value does not fit its VR.
    UnknownTagError
        If a keyword does not exist.
    """
    by_tag = {tags.as_tag(name): value for name, value in values.items()}
    charset = "" if _is_ascii(by_tag.values()) else "ISO_IR 192"
    encoded: dict[int, Known] = {}
    for tag, value in by_tag.items():
        if value is None:
            continue
        vr = tags.concrete_vr(tag)
        encoded[tag] = vr, tags.encode(tag, vr, value, charset=charset)
    if charset:
        encoded[_CHARSET] = "CS", charset.encode()
    return encoded


def _is_ascii(values: Iterable[object]) -> bool:
    return all(str(value).isascii() for value in values)
