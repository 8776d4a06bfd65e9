"""Facts about the command: what it prints where, and its exit codes."""

import json
import os
import re
import subprocess
import sys

import pytest
from commands import process, run
from conftest import REPOSITORY

import xdicom
from xdicom import cli, cli_read
from xdicom.phantom import Phantom

# -- demo


def test_demo_makes_everything(tmp_path, capsys, monkeypatch):
    """Its report goes to standard output, and the exit code is 0."""
    small = Phantom(columns=16, rows=20, slices=3, flip_angles=(4.0, 15.0))
    monkeypatch.setattr("xdicom.demo.Phantom", lambda: small)
    code, out, err = run(capsys, "demo", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "phantom: 2 series of 3 oblique slices of 16 x 20" in out
    assert (tmp_path / "out" / "t1.png").is_file()


def test_demo_writes_json(tmp_path, capsys, monkeypatch):
    """One object in place of the report."""
    monkeypatch.setattr("xdicom.demo.Phantom", lambda: Phantom(columns=16, rows=20, slices=2, flip_angles=(4.0, 15.0)))
    _, out, _ = run(capsys, "demo", "--json", "--out", tmp_path / "out")
    found = json.loads(out)
    assert found["pictures"] == [str(tmp_path / "out" / "t1.png")]
    assert len(found["maps"]) == 1
    assert {tissue["tissue"] for tissue in found["tissues"]} >= {"grey matter"}


def test_demo_goes_into_the_current_folder(tmp_path, capsys, monkeypatch):
    """Without --out, xdicom-demo is made where one is; a second time it is refused."""
    monkeypatch.setattr("xdicom.demo.Phantom", lambda: Phantom(columns=16, rows=20, slices=2, flip_angles=(4.0, 15.0)))
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "demo")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["xdicom-demo"]
    code, _, err = run(capsys, "demo")
    assert code == 2
    assert "--out" in err


def test_demo_says_what_it_found(folder, tmp_path, capsys):
    """Data without flip angles end with 2 and a line that names them."""
    code, _, err = run(capsys, "demo", folder, "--out", tmp_path / "out")
    assert code == 2
    assert re.fullmatch(r"xdicom: .*Found: 1 T1 \(no FlipAngle\)\n", err)


# -- errors, and the command itself


@pytest.mark.parametrize("command", ["scan", "tree", "demo", "show", "status", "save", "restore", "check"])
def test_errors_are_one_line(tmp_path, capsys, command):
    """A folder that is not there ends with 2, a line on standard error, and no traceback."""
    out = ["--out", tmp_path / "out"] if command == "demo" else []
    code, printed, err = run(capsys, command, tmp_path / "no\x1bwhere", *out)
    assert (code, printed) == (2, "")
    assert re.fullmatch(r"xdicom: '.*no\\+x1bwhere' is no folder.*\n", err)


def test_errors_of_the_system_are_one_line(folder, capsys, monkeypatch):
    """A full disk or a lost drive is no traceback either."""

    def fail(*words, **options):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(cli_read, "Store", fail)
    assert run(capsys, "scan", folder) == (2, "", "xdicom: [Errno 28] No space left on device: 'somewhere'\n")


def test_warnings_are_one_line(folder, capsys, monkeypatch):
    """A warning has no place in the code."""

    def warned(options):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the step is large", UserWarning, stacklevel=1)
            warnings.warn("for programmers", DeprecationWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(cli_read, "tree", warned)
    assert run(capsys, "tree", folder) == (0, "", "xdicom: warning: the step is large\n")


def test_interruption_is_quiet(folder, capsys, monkeypatch):
    """Ctrl-C ends with 130 and no traceback."""

    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_read, "tree", interrupted)
    assert run(capsys, "tree", folder) == (130, "", "")


def test_a_reader_that_goes_away_is_no_error(folder):
    """`xdicom tree | head` ends with 141, as programs do that get SIGPIPE, and says nothing."""
    with process("tree", folder) as started:
        started.stdout.close()
        err = started.stderr.read()
        started.wait()
    assert (started.returncode, err) == (141, b"")


def test_progress_on_a_terminal(folder):
    """A bar is drawn on standard error, and wiped at the end."""
    pty = pytest.importorskip("pty", reason="platform: terminals of this kind are those of POSIX")
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "xdicom.cli", "scan", str(folder)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            check=True,
        )
        drawn = os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
    assert drawn.startswith(b"\rscanning ")
    assert drawn.endswith(b"\r\x1b[K")
    assert b"scanning" not in done.stdout


def test_no_progress_in_a_pipe(folder):
    """Standard error stays empty where it is no terminal."""
    with process("scan", folder) as started:
        out, err = started.communicate()
    assert (started.returncode, err) == (0, b"")
    assert b"\r" not in out


@pytest.mark.parametrize(
    "words", [["fly"], ["scan"], ["tree", "a", "b"], ["demo", "--size"], ["get", "a"], ["export", "a"]], ids=" ".join
)
def test_wrong_words_end_with_usage(capsys, words):
    """Words that are not understood end with 2 and the usage."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: xdicom")


def test_no_words_show_help(capsys):
    """Without a command there is help with examples, and the exit code is 2."""
    code, out, err = run(capsys)
    assert (code, err) == (2, "")
    assert "xdicom demo" in out


def test_version(capsys):
    """`--version` prints the version of the package."""
    assert run(capsys, "--version") == (0, f"xdicom {xdicom.__version__}\n", "")


COMMANDS = ["demo", "scan", "tree", "show", "get", "check", "set", "status", "save", "restore", "export"]


def test_help_shows_an_example_of_each_command(capsys):
    """Each command has a line that can be pasted, and the exit codes are told."""
    code, out, _ = run(capsys, "--help")
    listed = re.search(r"COMMAND\n(.*?)\n\n", out, re.DOTALL)[1]
    assert code == 0
    assert re.findall(r"^    (\w+)", listed, re.MULTILINE) == COMMANDS
    assert all(f"\n  xdicom {command} " in out for command in COMMANDS)
    assert "exit code" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(capsys, command):
    """`xdicom COMMAND --help` ends with lines that can be pasted; JSON is for all, dry runs for what writes."""
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"\n  xdicom {command} " in out
    assert "--json" in out
    assert ("--dry-run" in out) == (command in ("set", "save", "restore", "export"))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_documented(command):
    """A command that docs/cli.md does not name is a secret, and so is an option."""
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {command}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, command
    assert f"xdicom {command} " in section[1]
    (parser,) = [each for each in cli._parser()._actions if each.choices]
    for action in parser.choices[command]._actions:
        for option in action.option_strings:
            assert option in ("-h", "--help", "--json", "--dry-run", "--where") or f"`{option}" in section[1], option
