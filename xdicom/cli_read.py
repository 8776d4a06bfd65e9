"""The commands that read: scan, tree, show, get and check."""

import argparse
from typing import Any

import numpy as np
import xarray as xr

from . import tags
from .cli_output import ALL_WELL, PROBLEMS, say, say_json, say_problems, shown, table
from .cli_words import Name, checked_names, chosen, one_series, title
from .creation import database
from .database import Database, Patient, Series, Study
from .dims import is_long
from .display import Progress, human_size
from .errors import GeometryError, XdicomError
from .frames import Frames
from .montage import letters
from .outline import tree_of
from .store import Store


def scan(options: argparse.Namespace) -> int:
    """Read what is new or changed in a folder, and list what is wrong."""
    store = Store(options.folder)
    try:
        with Progress("scanning", unit="files") as progress:
            report = store.rescan(progress)
        problems = store.problems()
    finally:
        store.close()
    if options.json:
        say_json({**report._asdict(), "problems": [problem._asdict() for problem in problems]})
        return PROBLEMS if problems else ALL_WELL
    changes = f"{report.new} new, {report.changed} changed, {report.removed} removed since the last scan"
    say(f"{report.files} files: {changes}")
    say(f"not DICOM and skipped: {report.skipped}; broken: {report.broken}; problems: {len(problems)}")
    say_problems(problems)
    return PROBLEMS if problems else ALL_WELL


def check(options: argparse.Namespace) -> int:
    """Look for broken and stale files, damage in the catalog, and what interrupted processes left."""
    with database(options.folder) as db:
        problems = db.check()
    if options.json:
        say_json({"problems": [problem._asdict() for problem in problems]})
    else:
        say(f"{len(problems)} problem{'' if len(problems) == 1 else 's'}")
        say_problems(problems)
    return PROBLEMS if problems else ALL_WELL


def tree(options: argparse.Namespace) -> int:
    """Show patients, studies and series."""
    with database(options.folder) as db:
        if options.json:
            say_json({"patients": [_patient(patient) for patient in db.patients()]})
        else:
            for line in tree_of(db._store, ()).split("\n"):
                say(line)
    return ALL_WELL


def get(options: argparse.Namespace) -> int:
    """Show the values of tags in each series."""
    names = dict(zip(options.tags, checked_names(options.tags), strict=True))
    with database(options.folder) as db:
        found = []
        for series, rows in chosen(db, options.where):
            frames = series.frames().take(np.flatnonzero(rows))
            found.append((series, {word: list(frames.unique(name)) for word, name in names.items()}))
        if options.json:
            say_json([{**_names(series), "values": values} for series, values in found])
            return ALL_WELL
        lines = [["series", *names], *([title(series), *map(shown, values.values())] for series, values in found)]
        for line in table(lines):
            say(line)
    return ALL_WELL


def show(options: argparse.Namespace) -> int:
    """Show the dims, geometry and header of a series, or draw it."""
    with database(options.folder) as db:
        series = one_series(db, options.series, options.where)
        if options.png:
            figure = series.plot()
            figure.savefig(options.png, format="png")
            if options.json:
                say_json({**_names(series), "png": options.png})
            else:
                say(f"drew {title(series)}: {options.png}")
            return ALL_WELL
        da, problem = _array(series)
        if options.json:
            header = {_label(tag): _values(series.frames(), tag) for tag in series.frames().tags()}
            say_json({**_series(series), **_shape(da, problem), "header": header})
            return ALL_WELL
        for line in (*_summary(series, da, problem), "", *_header(series.frames())):
            say(line)
    return ALL_WELL


# -- one series


def _array(series: Series) -> tuple[xr.DataArray | None, str]:
    """Return the labelled array of a series, or why there is none."""
    try:
        return series.to_xarray(), ""
    except XdicomError as error:
        return None, str(error)


def _shape(da: xr.DataArray | None, problem: str) -> dict[str, object]:
    """Return dims and geometry as plain data."""
    if da is None:
        return {"dims": None, "dtype": None, "problem": problem, "geometry": None}
    return {"dims": dict(da.sizes), "dtype": str(da.dtype), "problem": None, "geometry": _geometry(da)}


def _geometry(da: xr.DataArray) -> dict[str, object] | None:
    """Return where an array lies in the patient; None where that is not known."""
    from .placement import affine_of

    if "row_direction_x" not in da.coords:
        return None
    found: dict[str, object] = {
        name: da.coords[name].values for name in ("row_spacing", "column_spacing") if name in da.coords
    }
    for stem in ("row_direction", "column_direction", "slice_step"):
        names = [f"{stem}_{axis}" for axis in "xyz"]
        if all(name in da.coords and da.coords[name].ndim == 0 for name in names):
            found[stem] = [float(da.coords[name]) for name in names]
    try:
        found["affine"] = affine_of(da)
    except GeometryError as error:
        found["affine"] = None
        found["problem"] = str(error)
    return found


def _summary(series: Series, da: xr.DataArray | None, problem: str) -> list[str]:
    """Return what a series is, in a few lines."""
    lines = [
        ("series", f"{title(series)}  {shown(series.Modality)}  {series.key[-1]}"),
        ("study", f"{shown(series.StudyDate)} {shown(series.StudyDescription)}"),
        ("patient", f"{shown(series.PatientID)} {shown(series.PatientName)}"),
        ("frames", f"{len(series.frames()):,} in {human_size(series._store.nbytes(_key(series)))}"),
    ]
    edits = len(series.status())
    if edits:
        lines.append(("unsaved", f"{edits} edit{'' if edits == 1 else 's'}, see xdicom status"))
    if da is None:
        lines.append(("dims", f"none: {problem}"))
    else:
        sizes = " x ".join(f"{name} {size}" for name, size in da.sizes.items())
        lines.append(("dims", f"{sizes}, {da.dtype}"))
        lines += _geometry_lines(da)
    return [f"{name:<10}{text}" for name, text in lines]


def _key(series: Series) -> Any:
    return series._place[1]


def _geometry_lines(da: xr.DataArray) -> list[tuple[str, str]]:
    found = _geometry(da)
    if found is None:
        return [("geometry", str(da.attrs.get("geometry_problem", "none")))]
    lines = []
    spacings = [np.unique(found[name]) for name in ("row_spacing", "column_spacing")]  # type: ignore[call-overload]
    if all(len(each) == 1 for each in spacings):
        lines.append(
            ("pixels", f"{float(spacings[0][0]):.6g} mm between rows, {float(spacings[1][0]):.6g} mm between columns")
        )
    words = [
        f"{what} to {letters(vector)} {_numbers(vector)}"
        for what, stem in (("columns", "row_direction"), ("rows", "column_direction"), ("slices", "slice_step"))
        if isinstance(vector := found.get(stem), list)
    ]
    lines.append(("direction", "; ".join(words) or "it varies"))
    for dim in da.dims:
        if dim in da.coords and dim not in ("row", "column", "sample"):
            values = da.coords[dim]
            unit = values.attrs.get("units", "")
            lines.append((str(dim), f"{shown(values.values.tolist())}{f' {unit}' if unit else ''}"))
    if "problem" in found:
        lines.append(("affine", f"none: {found['problem']}"))
    return lines


def _numbers(vector: list[float]) -> str:
    return "(" + ", ".join(f"{value + 0.0:.6g}" for value in vector) + ")"


def _header(frames: Frames) -> list[str]:
    """Return all tags with their values, a line each."""
    rows = []
    for tag in frames.tags():
        label = _label(tag)
        number = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        rows.append([number, "" if label == number else label, _text(frames, tag)])
    return table(rows) if rows else []


def _text(frames: Frames, tag: int) -> str:
    return "more than 1 kB" if is_long(frames, tag) else shown(frames.unique(tag))


def _values(frames: Frames, tag: int) -> list[Any] | None:
    """Return the distinct values of a tag, None where they are long."""
    return None if is_long(frames, tag) else list(frames.unique(tag))


def _label(tag: int) -> str:
    return tags.label(tag)


# -- JSON: a record has its tags, and what is below it


def _patient(patient: Patient) -> dict[str, object]:
    return {**_tags(patient, "PatientID", "PatientName"), "studies": [_study(study) for study in patient.studies()]}


def _study(study: Study) -> dict[str, object]:
    found = _tags(study, "StudyInstanceUID", "StudyDate", "StudyDescription")
    return {**found, "series": [_series(series) for series in study.series()]}


def _series(series: Series) -> dict[str, object]:
    frames = series.frames()
    count = int((frames.file >= 0).sum())
    key = _key(series)
    sizes = {"frames": count, "bytes": series._store.nbytes(key), "unsaved": series._store.is_unsaved(key)}
    return {**_names(series), **_tags(series, "Modality", "Rows", "Columns"), **sizes}


def _names(series: Series) -> dict[str, object]:
    return _tags(series, "SeriesInstanceUID", "SeriesNumber", "SeriesDescription")


def _tags(record: Database | Patient | Study | Series, *names: Name) -> dict[str, object]:
    """Return tags by keyword: one value, null where there is none, a list where there are several."""
    found = {str(name): list(record[name]) for name in names}
    return {name: values[0] if len(values) == 1 else values or None for name, values in found.items()}
