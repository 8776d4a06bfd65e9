"""The command that exports: series as files for other programs."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .cli_output import ALL_WELL, PROBLEMS, say, say_json
from .cli_words import checked_names, chosen, title
from .creation import database
from .database import Series
from .display import Progress
from .errors import SaveError, XdicomError
from .naming import safe_name, uid_digits
from .nifti import LeftOut, export_nifti
from .reading import readable


class _Outcome(NamedTuple):
    """What was made, a dict for JSON and a line for people each; and what was left out."""

    written: list[tuple[dict[str, object], str]]
    left_out: list[LeftOut]


def export(options: argparse.Namespace) -> int:
    """Write the series that are chosen in another format."""
    target = Path(options.out)
    with database(options.folder) as db:
        series = [each for each, _ in chosen(db, options.where)]
        _refuse(db._store.root, target)
        found = WRITERS[options.to](series, target, options)
    if options.json:
        left_out = [{"SeriesInstanceUID": one.series, "name": one.name, "reason": one.reason} for one in found.left_out]
        say_json({"dry_run": options.dry_run, "written": [made for made, _ in found.written], "left_out": left_out})
    else:
        for _, line in found.written:
            say(f"{'would write' if options.dry_run else 'wrote'} {line}")
        for one in found.left_out:
            say(f"left out {one.name}: {one.reason}")
    return PROBLEMS if any(one.is_image for one in found.left_out) else ALL_WELL


def _refuse(root: Path, target: Path) -> None:
    """Raise before anything is written where something of the user's could be touched."""
    if target.resolve().is_relative_to(root):
        raise SaveError(f"{str(target)!r} is inside the folder that is read: give another with --out")
    if target.exists() and not target.is_dir():
        raise SaveError(f"{str(target)!r} is a file: give a folder with --out")


def _nifti(series: list[Series], target: Path, options: argparse.Namespace) -> _Outcome:
    with Progress("exporting", unit="images") as progress:
        done = export_nifti(series, target, identity=options.identity, dry_run=options.dry_run, progress=progress)
    written: list[tuple[dict[str, object], str]] = []
    for made in done.made:
        shape = "x".join(map(str, made.shape))
        entry: dict[str, object] = {
            "SeriesInstanceUID": made.series,
            "files": made.files,
            "shape": made.shape,
            "note": made.note,
        }
        written.append((entry, f"{target / made.files[0]}: {shape}" + (f" ({made.note})" if made.note else "")))
    return _Outcome(written, done.left_out)


def _dicom(series: list[Series], target: Path, options: argparse.Namespace) -> _Outcome:
    for each in series if not options.dry_run else ():
        each.save(target)
    return _Outcome([_written(each, target) for each in series], [])


def _written(series: Series, path: Path) -> tuple[dict[str, object], str]:
    return {"SeriesInstanceUID": series.key[-1], "path": str(path)}, f"{title(series)}: {path}"


class _Form(NamedTuple):
    """What a format makes of one series: what its name ends in, what writes it, and what finds out if it can be."""

    suffix: str
    write: Callable[[Series, Path], object]
    check: Callable[[Series], object]


def _pictures(series: list[Series], target: Path, options: argparse.Namespace) -> _Outcome:
    form = _Form(".png", lambda each, path: each.plot().savefig(path, format="png"), _images)
    return _one_each(series, target, options, form)


def _frames(series: list[Series], target: Path, options: argparse.Namespace) -> _Outcome:
    return _one_each(series, target, options, _Form("", lambda each, path: each.to_png(path), _images))


def _tables(series: list[Series], target: Path, options: argparse.Namespace) -> _Outcome:
    names = checked_names(options.tag)
    return _one_each(
        series, target, options, _Form(".csv", lambda each, path: each.to_csv(path, *names), Series.frames)
    )


def _zarr(series: list[Series], target: Path, options: argparse.Namespace) -> _Outcome:
    form = _Form(".zarr", lambda each, path: each.to_zarr(path), Series.to_xarray)
    return _one_each(series, target, options, form)


def _images(series: Series) -> object:
    return readable(series.frames())


def _one_each(series: list[Series], target: Path, options: argparse.Namespace, form: _Form) -> _Outcome:
    """Write a file or folder a series, named by its number and description, and by its UID where that is needed."""
    paths: dict[str, Path] = {}
    used: set[str] = set()
    for each in series:
        name = safe_name(title(each), "series")
        if name.casefold() in used:
            name = f"{name} {uid_digits(each.key[-1])}"
        used.add(name.casefold())
        paths[each.key[-1]] = target / f"{name}{form.suffix}"
    there = [str(path) for path in paths.values() if path.exists()]
    if there:
        raise SaveError(f"{there[0]!r} is there already, and nothing is replaced: give another folder with --out")
    found = _Outcome([], [])
    with Progress("writing", unit="series") as progress:
        for number, each in enumerate(series):
            try:
                if options.dry_run:
                    form.check(each)
                else:
                    target.mkdir(parents=True, exist_ok=True)
                    form.write(each, paths[each.key[-1]])
                found.written.append(_written(each, paths[each.key[-1]]))
            except SaveError:
                raise
            except XdicomError as error:
                found.left_out.append(LeftOut(each.key[-1], title(each), str(error), len(each.frames().images()) > 0))
            progress(number + 1, len(series))
    return found


WRITERS: dict[str, Callable[[list[Series], Path, argparse.Namespace], _Outcome]] = {
    "csv": _tables,
    "dicom": _dicom,
    "frames": _frames,
    "nifti": _nifti,
    "png": _pictures,
    "zarr": _zarr,
}
"""What writes series into a folder, by format."""
