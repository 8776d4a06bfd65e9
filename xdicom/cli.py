"""The command `xdicom`: its words, their help, and what it ends with.

What the commands do is in `cli_read`, `cli_edit` and `cli_export`, and comes from the library.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from . import __version__, cli_edit, cli_export, cli_read
from .cli_output import ALL_WELL, FAILED, INTERRUPTED, NO_READER, say, say_json
from .demo import run_demo
from .display import escape
from .errors import XdicomError

_EXAMPLES = r"""examples:
  xdicom demo                                make a phantom study, fit T1, write the map: under ./xdicom-demo
  xdicom demo scans --out maps               the same with your own flip angles
  xdicom scan scans                          read what is new or changed, list what is wrong
  xdicom tree scans --json                   patients, studies and series for another program
  xdicom show scans 3                        dims, geometry and header of series 3
  xdicom show scans 3 --png t1.png           a picture of it
  xdicom get scans EchoTime FlipAngle        values in each series
  xdicom get scans PixelSpacing --where "SeriesDescription=*T1*"
  xdicom set scans PatientID=P001 --remove PatientBirthDate --dry-run
  xdicom set scans EchoTime=4.9 --where SeriesNumber=3
  xdicom status scans                        what is staged and not saved
  xdicom save scans                          make the files say it
  xdicom restore scans EchoTime              or take it back
  xdicom export scans --to png --out pictures --where "SeriesDescription=*T1*"
  xdicom export scans --to nifti --out images   NIfTI with JSON sidecars, and what could not be made
  xdicom check scans                         problems, damage, what a crash left behind

set stages, and what is staged outlives the command; files change with save only. Nothing else writes into the folder
but its .xdicom, where xdicom keeps what it read and what is staged.
--where chooses the series that have a frame like this: a value, a pattern with * and ?, or numbers as LOW:HIGH. Of one
tag any, of several tags all must hold. A tag is a keyword, 0018,0081, CREATOR:0019,0C or an attribute such as b_value.
Several values are separated by a backslash.
The exit code is 0 where all is well, 1 where scan or check lists a problem or export leaves an image out, 2 after an
error, 130 after Ctrl-C and 141 where nobody reads the output any more.
"""

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with some words, by default those it was called with.

    Returns
    -------
    int
        0 where all is well, 1 where `scan` or `check` lists a problem or `export` leaves an image out, 2 after an
        error, which is told in one line; 130 after Ctrl-C, 141 where nobody reads the output any more.
    """
    parser = _parser()
    options = _parse(parser, arguments)
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


def _warn(message: Warning | str, category: type[Warning] = UserWarning, *rest: Any, **more: Any) -> None:
    """Show a warning without the place in the code that it comes from; those for programmers are left out."""
    if issubclass(category, DeprecationWarning | PendingDeprecationWarning):
        return
    sys.stderr.write(f"xdicom: warning: {escape(message)}\n")


def _demo(options: argparse.Namespace) -> int:
    made = run_demo(options.folder, options.out, say=_silent if options.json else say)
    if options.json:
        tissues = [tissue._asdict() for tissue in made.tissues]
        maps = [series.key[-1] for series in made.maps]
        say_json({"maps": maps, "pictures": list(map(str, made.pictures)), "tissues": tissues})
    return ALL_WELL


def _silent(line: str) -> None:
    """Say nothing."""


# -- words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xdicom",
        description="A folder of DICOM as labelled arrays.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xdicom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    demo = _command(commands, "demo", _demo, "fit T1 of a phantom or of your own flip angles, and write it as DICOM")
    demo.description = "Without FOLDER a phantom study is made first. Nothing that exists is replaced."
    demo.add_argument("folder", nargs="?", help="a folder of DICOM with several flip angles; nothing in it is changed")
    demo.add_argument(
        "--out", default="xdicom-demo", help="a new or empty folder for all output (default: %(default)s)"
    )
    _add_reading(commands)
    _add_editing(commands)
    return parser


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse words; those that may be left out may also come after options, which argparse does not see."""
    options, rest = parser.parse_known_args(arguments)
    name = getattr(options, "more_words", "")
    if rest and (not name or getattr(options, name) or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        setattr(options, name, rest)
    return options


def _command(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """Add a command with its examples and what all commands have."""
    lines = [line for line in _EXAMPLES.splitlines() if line.startswith(f"  xdicom {name} ")]
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[:1].upper()}{text[1:]}.",
        epilog="\n".join(["examples:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.add_argument("--json", action="store_true", help="write JSON")
    added.set_defaults(command=command)
    return added


def _add_reading(commands: Any) -> None:
    scan = _command(commands, "scan", cli_read.scan, "read what is new or changed in a folder, and list what is wrong")
    scan.description = "Files that are not DICOM are counted, and are no problem. The exit code is 1 if there is one."
    tree = _command(commands, "tree", cli_read.tree, "show patients, studies and series, with frame counts and sizes")
    show = _command(commands, "show", cli_read.show, "show dims, geometry and header of a series, or draw it")
    get = _command(commands, "get", cli_read.get, "show the values of tags in each series")
    check = _command(commands, "check", cli_read.check, "look for broken files, damage, and what a crash left behind")
    for each in (scan, tree, show, get, check):
        each.add_argument("folder", help="a folder of DICOM")
    show.add_argument("series", nargs="?", help="number, description or UID, where there are several")
    show.add_argument("--png", metavar="FILE", help="write a picture of the images into a file")
    get.add_argument("tags", nargs="+", metavar="TAG", help="a keyword, 0018,0081, CREATOR:0019,0C or an attribute")
    for each in (show, get):
        _add_where(each)


def _add_editing(commands: Any) -> None:
    setting = _command(commands, "set", cli_edit.set_values, "stage values, in every frame of the series chosen")
    status = _command(commands, "status", cli_edit.status, "show what is staged and not saved")
    save = _command(commands, "save", cli_edit.save, "make what is staged permanent, in the files")
    restore = _command(commands, "restore", cli_edit.restore, "take back what is staged, or the edits of some tags")
    export = _command(commands, "export", cli_export.export, "write series in another format")
    for each in (setting, status, save, restore, export):
        each.add_argument("folder", help="a folder of DICOM")
    setting.add_argument("assignments", nargs="*", metavar="TAG=VALUE", help="an empty VALUE leaves the element empty")
    setting.set_defaults(more_words="assignments")
    setting.add_argument("--remove", action="append", default=[], metavar="TAG", help="remove the element")
    setting.add_argument("--vr", help="of private elements that no dictionary knows")
    restore.add_argument("tags", nargs="*", metavar="TAG", help="by default all edits")
    restore.set_defaults(more_words="tags")
    export.add_argument("--to", required=True, choices=sorted(cli_export.WRITERS), help="the format")
    export.add_argument(
        "--out",
        default="xdicom-export",
        metavar="FOLDER",
        help="another folder; nothing in it is replaced (default: %(default)s)",
    )
    export.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="csv: a column; by default those that vary"
    )
    export.add_argument("--identity", action="store_true", help="nifti: say in the sidecars who was scanned, and when")
    for each in (setting, save, restore, export):
        _add_where(each)
        each.add_argument("--dry-run", action="store_true", help="only tell what would be done")


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="TAG=VALUE",
        help="series that have a frame like this; a pattern with * and ?, or numbers as LOW:HIGH",
    )


if __name__ == "__main__":
    sys.exit(main())
