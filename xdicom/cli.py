"""The command `xdicom`: scan and show a folder, and run the demo.

It parses words and writes text; what it shows comes from the library.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence

from . import __version__
from .creation import database
from .database import Database
from .demo import run_demo
from .display import escape
from .errors import XdicomError

_EXAMPLES = """examples:
  xdicom demo                     make a phantom study, fit T1, write the map: all under ./xdicom-demo
  xdicom demo scans --out maps    the same with your own flip angles
  xdicom scan scans               read what is new or changed, list what is wrong
  xdicom tree scans --json        patients, studies and series for another program
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with some words, by default those it was called with.

    Returns
    -------
    int
        0 where all is well, 1 where `scan` found broken files, 2 after an error.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] | None = getattr(options, "command", None)
    if command is None:
        parser.print_help()
        return 2
    try:
        return command(options)
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (XdicomError, OSError) as error:
        sys.stderr.write(f"xdicom: {escape(error)}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xdicom",
        description="A folder of DICOM as labelled arrays.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xdicom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    demo = commands.add_parser("demo", help="fit T1 of a phantom or of your own flip angles, and write it as DICOM")
    demo.add_argument("folder", nargs="?", help="a folder of DICOM with several flip angles; nothing in it is changed")
    demo.add_argument("--out", default="xdicom-demo", help="a new folder for all that is made (default: %(default)s)")
    demo.set_defaults(command=_demo)
    scan = commands.add_parser("scan", help="read what is new or changed in a folder, and list what is wrong")
    scan.set_defaults(command=_scan)
    tree = commands.add_parser("tree", help="show patients, studies and series, with frame counts and sizes")
    tree.set_defaults(command=_tree)
    for each in (scan, tree):
        each.add_argument("path", help="a folder of DICOM")
        each.add_argument("--json", action="store_true", help="write JSON")
    return parser


def _demo(options: argparse.Namespace) -> int:
    run_demo(options.folder, options.out, say=_say)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _scan(options: argparse.Namespace) -> int:
    db = database(options.path)
    report, problems = db.rescan(), db.problems()
    db.close()
    if options.json:
        _say(json.dumps({**report._asdict(), "problems": [problem._asdict() for problem in problems]}))
    else:
        _say(f"{report.files} files, of which {report.skipped} are not DICOM and {report.broken} are broken")
        for problem in problems:
            _say(f"{escape(problem.path)}: {escape(problem.reason)}")
    return 1 if report.broken else 0


def _tree(options: argparse.Namespace) -> int:
    db = database(options.path)
    _say(json.dumps(_as_json(db)) if options.json else repr(db))
    db.close()
    return 0


def _as_json(db: Database) -> list[dict[str, object]]:
    """Return the series with what tells them apart."""
    names = ("SeriesNumber", "SeriesDescription", "Modality", "Rows", "Columns")
    found = []
    for series in db.series():
        patient, study, uid = series.key
        row: dict[str, object] = {"patient": patient, "study": study, "series": uid, "frames": len(series.frames())}
        found.append(row | {name: list(series[name]) for name in names})
    return found


if __name__ == "__main__":
    sys.exit(main())
