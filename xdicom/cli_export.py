"""The command that exports: series as files for other programs."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .cli_output import ALL_WELL, PROBLEMS, say, say_json
from .cli_words import Chosen, chosen, title
from .creation import database
from .database import Database, Series
from .display import Progress
from .errors import SaveError
from .naming import safe_name, uid_digits
from .nifti import export_nifti

Write = Callable[[Series, Path], None]

NIFTI = "nifti"


def export(options: argparse.Namespace) -> int:
    """Write the series that are chosen in another format, each under its own name."""
    target = Path(options.out)
    if options.to == NIFTI:
        return _export_nifti(options, target)
    with database(options.folder) as db:
        planned = _planned(chosen(db, options.where), options.to, target)
        _refuse(db, planned, target)
        if not options.dry_run:
            target.mkdir(parents=True, exist_ok=True)
            for series, path in planned:
                WRITERS[options.to][1](series, path)
                if not options.json:
                    say(f"wrote {title(series)}: {path}")
        if options.json:
            written = [{"SeriesInstanceUID": series.key[-1], "path": str(path)} for series, path in planned]
            say_json({"dry_run": options.dry_run, "written": written})
        elif options.dry_run:
            for series, path in planned:
                say(f"would write {title(series)}: {path}")
    return ALL_WELL


def _export_nifti(options: argparse.Namespace, target: Path) -> int:
    """Write the series that are chosen as NIfTI, and tell what was made and what was left out."""
    with database(options.folder) as db:
        series = [each for each, _ in chosen(db, options.where)]
        _refuse(db, [], target)
        with Progress("exporting", unit="images") as progress:
            done = export_nifti(series, target, identity=options.identity, dry_run=options.dry_run, progress=progress)
    if options.json:
        written = [{"SeriesInstanceUID": made.series, "files": made.files, "shape": made.shape} for made in done.made]
        left_out = [{"SeriesInstanceUID": one.series, "name": one.name, "reason": one.reason} for one in done.left_out]
        say_json({"dry_run": options.dry_run, "written": written, "left_out": left_out})
    else:
        for made in done.made:
            shape = "x".join(map(str, made.shape))
            say(f"{'would write' if options.dry_run else 'wrote'} {target / made.files[0]}: {shape}")
        for one in done.left_out:
            say(f"left out {one.name}: {one.reason}")
    return PROBLEMS if any(one.is_image for one in done.left_out) else ALL_WELL


def _planned(found: list[Chosen], to: str, target: Path) -> list[tuple[Series, Path]]:
    """Return the path of each series: its number and description, told apart by its UID where that is needed."""
    suffix = WRITERS[to][0]
    if not suffix:
        return [(series, target) for series, _ in found]
    used: set[str] = set()
    planned = []
    for series, _ in found:
        name = safe_name(title(series), "series")
        if name.casefold() in used:
            name = f"{name} {uid_digits(series.key[-1])}"
        used.add(name.casefold())
        planned.append((series, target / f"{name}{suffix}"))
    return planned


def _refuse(db: Database, planned: list[tuple[Series, Path]], target: Path) -> None:
    """Raise before anything is written where something of the user's could be touched."""
    if target.resolve().is_relative_to(db._store.root):
        raise SaveError(f"{str(target)!r} is inside the folder that is read: give another with --out")
    if target.exists() and not target.is_dir():
        raise SaveError(f"{str(target)!r} is a file: give a folder with --out")
    there = [str(path) for _, path in planned if path != target and path.exists()]
    if there:
        raise SaveError(f"{there[0]!r} is there already, and nothing is replaced: give another folder with --out")


def _write_png(series: Series, path: Path) -> None:
    series.plot().savefig(path, format="png")


def _write_dicom(series: Series, path: Path) -> None:
    series.save(path)


WRITERS: dict[str, tuple[str, Write]] = {
    "dicom": ("", _write_dicom),
    "png": (".png", _write_png),
}
"""By format: what the file names end in, "" where the format names its files itself; and what writes a series."""
