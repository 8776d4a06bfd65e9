"""Facts about the command: what it prints where, and its exit codes."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY, folder_hash
from factories import make_series

import xdicom
from xdicom import cli
from xdicom.phantom import Phantom


@pytest.fixture
def folder(tmp_path):
    """A series of three images and a text file."""
    made = make_series(tmp_path / "in", PatientName="Doe^Jane", SeriesDescription="T1")
    (made.folder / "notes.txt").write_text("no DICOM")
    return made.folder


def run(capsys, *words):
    """Return the exit code, and what went to standard output and to standard error."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def process(*words, **options):
    """Start the command as a program."""
    return subprocess.Popen(
        [sys.executable, "-m", "xdicom.cli", *map(str, words)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def break_one(folder):
    """Cut the last image short."""
    path = sorted(folder.glob("*.dcm"))[-1]
    path.write_bytes(path.read_bytes()[:-20])


# -- scan


def test_scan_counts(folder, capsys):
    """A first scan finds new files, and counts those that are not DICOM."""
    code, out, err = run(capsys, "scan", folder)
    assert (code, err) == (0, "")
    assert "4 files: 4 new, 0 changed, 0 removed" in out
    assert "not DICOM and skipped: 1; broken: 0; problems: 0" in out


def test_scan_counts_what_changed_since(folder, capsys):
    """A second scan tells what is new, changed and removed since the first."""
    run(capsys, "scan", folder)
    first, second, _ = sorted(folder.glob("*.dcm"))
    first.unlink()
    second.write_bytes(second.read_bytes() + b"\0\0")
    (folder / "more.txt").write_text("no DICOM")
    _, out, _ = run(capsys, "scan", folder)
    assert "4 files: 1 new, 1 changed, 1 removed" in out


def test_scan_lists_problems(folder, capsys):
    """A broken file is named with the reason, and the exit code is 1."""
    break_one(folder)
    code, out, err = run(capsys, "scan", folder)
    assert (code, err) == (1, "")
    assert re.search(r"^  a_00003\.dcm: the pixel data is truncated", out, re.MULTILINE)


def test_scan_counts_what_is_broken(folder, capsys):
    """A file that breaks off in the header is none of the images, and is counted."""
    (folder / "broken.dcm").write_bytes(sorted(folder.glob("*.dcm"))[0].read_bytes()[:400])
    code, out, _ = run(capsys, "scan", folder)
    assert code == 1
    assert "skipped: 1; broken: 1; problems: 1" in out
    assert "  broken.dcm: the header is truncated" in out


def test_problems_are_told_again(folder, capsys):
    """A second scan, which reads nothing, still ends with 1."""
    break_one(folder)
    run(capsys, "scan", folder)
    assert run(capsys, "scan", folder)[0] == 1


def test_scan_writes_json(folder, capsys):
    """The same as one JSON object."""
    break_one(folder)
    code, out, _ = run(capsys, "scan", "--json", folder)
    found = json.loads(out)
    (problem,) = found.pop("problems")
    assert code == 1
    assert found == {"new": 4, "changed": 0, "removed": 0, "files": 4, "skipped": 1, "broken": 0}
    assert problem["path"] == "a_00003.dcm"
    assert "truncated" in problem["reason"]


@pytest.mark.parametrize("command", ["scan", "tree"])
def test_nothing_in_the_folder_changes(folder, capsys, command):
    """Both commands leave all but `.xdicom` as it was."""
    before = folder_hash(folder)
    run(capsys, command, folder)
    assert folder_hash(folder) == before


# -- tree


def test_tree_shows_the_records(folder, capsys):
    """Patient, study and series are indented, with counts of frames."""
    code, out, err = run(capsys, "tree", folder)
    assert (code, err) == (0, "")
    assert re.search(r"^P1 Doe\^Jane .*3 frames", out, re.MULTILINE)
    assert re.search(r"^   └─ 1 T1 MR .*3 frames", out, re.MULTILINE)


def test_tree_writes_json(folder, capsys):
    """Patients have studies, which have series, which have tags and a count of frames."""
    code, out, _ = run(capsys, "tree", folder, "--json")
    (patient,) = json.loads(out)["patients"]
    (study,) = patient["studies"]
    (series,) = study["series"]
    assert code == 0
    assert (patient["PatientID"], patient["PatientName"]) == ("P1", "Doe^Jane")
    assert (study["StudyDate"], study["StudyDescription"]) == ("20240229", "Made for tests")
    assert (series["SeriesNumber"], series["Rows"], series["Columns"], series["frames"]) == (1, 6, 5, 3)


def test_json_has_null_and_lists(tmp_path, capsys):
    """A tag that is absent is null, one with several values is a list."""
    make_series(tmp_path, dims={"SeriesDescription": ["one", "two"]}, SeriesNumber=None)
    _, out, _ = run(capsys, "tree", tmp_path, "--json")
    series = json.loads(out)["patients"][0]["studies"][0]["series"][0]
    assert (series["SeriesNumber"], series["SeriesDescription"]) == (None, ["one", "two"])


@pytest.mark.parametrize("words", [["tree"], ["tree", "--json"]], ids=" ".join)
def test_control_characters_are_escaped(tmp_path, capsys, words):
    """An ESC in a header cannot rewrite the terminal."""
    make_series(tmp_path, SeriesDescription="red \x1b[31m")
    _, out, _ = run(capsys, *words, tmp_path)
    assert "\x1b" not in out
    assert "[31m" in out


def test_control_characters_in_names_of_broken_files_are_escaped(folder, capsys):
    """Nor can a file name."""
    break_one(folder)
    sorted(folder.glob("*.dcm"))[-1].rename(folder / "red \x1b[31m.dcm")
    _, out, _ = run(capsys, "scan", folder)
    assert "red \\x1b[31m.dcm: " in out


def test_a_tree_fits_any_encoding(folder):
    """Where output is ASCII, branches are escaped rather than the command failing."""
    with process("tree", folder, env={**os.environ, "PYTHONIOENCODING": "ascii"}) as started:
        out, err = started.communicate()
    assert (started.returncode, err) == (0, b"")
    assert out.isascii()


# -- demo


def test_demo_makes_everything(tmp_path, capsys, monkeypatch):
    """Its report goes to standard output, and the exit code is 0."""
    small = Phantom(columns=16, rows=20, slices=3, flip_angles=(4.0, 15.0))
    monkeypatch.setattr("xdicom.demo.Phantom", lambda: small)
    code, out, err = run(capsys, "demo", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "phantom: 2 series of 3 oblique slices of 16 x 20" in out
    assert (tmp_path / "out" / "t1.png").is_file()


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


@pytest.mark.parametrize("command", ["scan", "tree", "demo"])
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

    monkeypatch.setattr(cli, "Store", fail)
    assert run(capsys, "scan", folder) == (2, "", "xdicom: [Errno 28] No space left on device: 'somewhere'\n")


def test_warnings_are_one_line(folder, capsys, monkeypatch):
    """A warning has no place in the code."""

    def warned(options):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the step is large", UserWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(cli, "_tree", warned)
    assert run(capsys, "tree", folder) == (0, "", "xdicom: warning: the step is large\n")


def test_interruption_is_quiet(folder, capsys, monkeypatch):
    """Ctrl-C ends with 130 and no traceback."""

    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_tree", interrupted)
    assert run(capsys, "tree", folder) == (130, "", "")


def test_a_reader_that_goes_away_is_no_error(folder):
    """`xdicom tree | head` ends with 141, as programs do that get SIGPIPE, and says nothing."""
    with process("tree", folder) as started:
        started.stdout.close()
        err = started.stderr.read()
        started.wait()
    assert (started.returncode, err) == (141, b"")


def test_no_progress_in_a_pipe(folder):
    """Standard error stays empty where it is no terminal."""
    with process("scan", folder) as started:
        out, err = started.communicate()
    assert (started.returncode, err) == (0, b"")
    assert b"\r" not in out


@pytest.mark.parametrize("words", [["fly"], ["scan"], ["tree", "a", "b"], ["demo", "--size"]], ids=" ".join)
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


def test_help_shows_an_example_of_each_command(capsys):
    """Each command has a line that can be pasted, and the exit codes are told."""
    code, out, _ = run(capsys, "--help")
    listed = re.search(r"COMMAND\n(.*?)\n\n", out, re.DOTALL)[1]
    commands = re.findall(r"^    (\w+)", listed, re.MULTILINE)
    assert code == 0
    assert commands == ["demo", "scan", "tree"]
    assert all(f"\n  xdicom {command} " in out for command in commands)
    assert "exit code" in out


@pytest.mark.parametrize("command", ["demo", "scan", "tree"])
def test_each_command_is_in_the_readme(command):
    """A command that the README does not name is a secret."""
    assert f"`xdicom {command} " in (REPOSITORY / "README.md").read_text(encoding="utf-8")
