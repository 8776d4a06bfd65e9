"""The command as the tests run it: in this process, or as a program."""

import subprocess
import sys

from conftest import REPOSITORY

from xdicom import cli


def run(capsys, *words):
    """Return the exit code, and what went to standard output and to standard error."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def break_one(folder):
    """Cut the last image short."""
    path = sorted(folder.glob("*.dcm"))[-1]
    path.write_bytes(path.read_bytes()[:-20])


def process(*words, **options):
    """Start the command as a program."""
    return subprocess.Popen(
        [sys.executable, "-m", "xdicom.cli", *map(str, words)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
