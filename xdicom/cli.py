"""The command `xdicom`: scan and show a folder, and run the demo.

It parses words and writes text; what it shows comes from the library.
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from . import __version__
from .creation import database
from .database import Database, Patient, Series, Study
from .demo import run_demo
from .display import Progress, escape
from .errors import XdicomError
from .store import Store

ALL_WELL, PROBLEMS, FAILED = 0, 1, 2
INTERRUPTED, NO_READER = 128 + 2, 128 + 13  # as shells count the signals SIGINT and SIGPIPE

_EXAMPLES = """examples:
  xdicom demo                     make a phantom study, fit T1, write the map: all under ./xdicom-demo
  xdicom demo scans --out maps    the same with your own flip angles
  xdicom scan scans               read what is new or changed, list what is wrong
  xdicom tree scans --json        patients, studies and series for another program

scan and tree write nothing into the folder but its .xdicom, where they keep what they read.
The exit code is 0 where all is well, 1 where scan lists a problem, and 2 after an error.
"""

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with some words, by default those it was called with.

    Returns
    -------
    int
        0 where all is well, 1 where `scan` lists a problem, 2 after an error, which is told in one line; 130 after
        Ctrl-C, 141 where nobody reads the output any more.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a tree on a terminal that knows ASCII only
    command: Command | None = getattr(options, "command", None)
    if command is None:
        parser.print_help()
        return FAILED
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return command(options)
    except BrokenPipeError:
        # Python would complain once more when it flushes the stream at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except KeyboardInterrupt:
        return INTERRUPTED
    except (XdicomError, OSError) as error:
        sys.stderr.write(f"xdicom: {escape(error)}\n")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xdicom",
        description="A folder of DICOM as labelled arrays.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xdicom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="fit T1 of a phantom or of your own flip angles, and write it as DICOM",
        description="Without FOLDER a phantom study is made first. Nothing that exists is replaced.",
    )
    demo.add_argument("folder", nargs="?", help="a folder of DICOM with several flip angles; nothing in it is changed")
    demo.add_argument(
        "--out", default="xdicom-demo", help="a new or empty folder for all output (default: %(default)s)"
    )
    demo.set_defaults(command=_demo)
    scan = commands.add_parser(
        "scan",
        help="read what is new or changed in a folder, and list what is wrong",
        description="Files that are not DICOM are counted, and are no problem. The exit code is 1 if there is one.",
    )
    scan.set_defaults(command=_scan)
    tree = commands.add_parser("tree", help="show patients, studies and series, with frame counts and sizes")
    tree.set_defaults(command=_tree)
    for each in (scan, tree):
        each.add_argument("path", help="a folder of DICOM")
        each.add_argument("--json", action="store_true", help="write JSON")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _warn(message: Warning | str, *rest: Any, **more: Any) -> None:
    """Show a warning without the place in the code that it comes from."""
    sys.stderr.write(f"xdicom: warning: {escape(message)}\n")


def _demo(options: argparse.Namespace) -> int:
    run_demo(options.folder, options.out, say=_say)
    return ALL_WELL


def _scan(options: argparse.Namespace) -> int:
    store = Store(options.path)
    try:
        with Progress("scanning", unit="files") as progress:
            report = store.rescan(progress)
        problems = store.problems()
    finally:
        store.close()
    if options.json:
        _say(json.dumps({**report._asdict(), "problems": [problem._asdict() for problem in problems]}))
        return PROBLEMS if problems else ALL_WELL
    changes = f"{report.new} new, {report.changed} changed, {report.removed} removed since the last scan"
    _say(f"{report.files} files: {changes}")
    _say(f"not DICOM and skipped: {report.skipped}; broken: {report.broken}; problems: {len(problems)}")
    for problem in problems:
        _say(f"  {escape(problem.path)}: {escape(problem.reason)}")
    return PROBLEMS if problems else ALL_WELL


def _tree(options: argparse.Namespace) -> int:
    with database(options.path) as db:
        if options.json:
            _say(json.dumps(_as_json(db), default=str))
        else:
            for line in repr(db).split("\n"):
                _say(escape(line))
    return ALL_WELL


# -- JSON: a record has its tags, and what is below it


def _as_json(db: Database) -> dict[str, object]:
    return {"patients": [_patient(patient) for patient in db.patients()]}


def _patient(patient: Patient) -> dict[str, object]:
    return {**_values(patient, "PatientID", "PatientName"), "studies": [_study(study) for study in patient.studies()]}


def _study(study: Study) -> dict[str, object]:
    tags = _values(study, "StudyInstanceUID", "StudyDate", "StudyDescription")
    return {**tags, "series": [_series(series) for series in study.series()]}


def _series(series: Series) -> dict[str, object]:
    names = ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "Rows", "Columns")
    return {**_values(series, *names), "frames": len(series.frames())}


def _values(record: Database | Patient | Study | Series, *names: str) -> dict[str, object]:
    """Return tags by keyword: one value, null where there is none, a list where there are several."""
    found = {name: list(record[name]) for name in names}
    return {name: values[0] if len(values) == 1 else values or None for name, values in found.items()}


if __name__ == "__main__":
    sys.exit(main())
