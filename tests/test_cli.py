"""The command says what it did, in words or JSON, and ends with a number that scripts can use."""

import json
import subprocess
import sys

import pytest
from conftest import folder_hash
from factories import make_series

from xdicom import __version__
from xdicom.cli import main


@pytest.fixture
def scan(tmp_path):
    """Return a folder with a series, a text and a broken file."""
    made = make_series(tmp_path / "in")
    (tmp_path / "in" / "notes.txt").write_text("notes")
    (tmp_path / "in" / "broken.dcm").write_bytes(made.files[0].read_bytes()[:400])
    return tmp_path / "in"


def test_scan_counts_and_names(scan, capsys):
    """`scan` counts files and lists what is wrong; broken files end it with 1."""
    assert main(["scan", str(scan)]) == 1
    text = capsys.readouterr().out
    assert "5 files, of which 1 are not DICOM and 1 are broken" in text
    assert "broken.dcm: the header is truncated" in text


def test_scan_as_json(scan, capsys):
    """With --json another program can read it."""
    main(["scan", str(scan), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["broken"]) == (5, 1)
    assert found["problems"][0]["path"] == "broken.dcm"


def test_tree_shows_records(scan, capsys):
    """`tree` shows patient, study and series with frame counts."""
    assert main(["tree", str(scan)]) == 0
    text = capsys.readouterr().out
    assert "Doe^Jane" in text
    assert "3 frames" in text


def test_tree_as_json(scan, capsys):
    """With --json there is an object a series."""
    main(["tree", str(scan), "--json"])
    (series,) = json.loads(capsys.readouterr().out)
    assert (series["patient"], series["frames"], series["Modality"]) == ("P1", 3, ["MR"])


def test_folder_stays_as_it_is(scan):
    """Neither changes a file."""
    before = folder_hash(scan)
    main(["scan", str(scan)])
    main(["tree", str(scan)])
    assert folder_hash(scan) == before


def test_errors_are_one_line(tmp_path, capsys):
    """A folder that is not there is told on standard error, with exit code 2."""
    assert main(["tree", str(tmp_path / "nowhere")]) == 2
    text = capsys.readouterr().err
    assert text.startswith("xdicom: ")
    assert text.count("\n") == 1


def test_controls_in_names_are_escaped(tmp_path, capsys):
    """An ESC in a file name does not reach the terminal."""
    folder = tmp_path / "in"
    made = make_series(folder)
    (folder / "a\x1b[31m.dcm").write_bytes(made.files[0].read_bytes()[:400])
    main(["scan", str(folder)])
    assert "\x1b" not in capsys.readouterr().out


def test_no_command_shows_help(capsys):
    """Without a command there is help with examples, and exit code 2."""
    assert main([]) == 2
    assert "xdicom demo" in capsys.readouterr().out


def test_version(capsys):
    """--version names the version."""
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"xdicom {__version__}\n"


def test_a_reader_that_leaves_is_no_error(scan):
    """`xdicom tree | head -0` prints no traceback, and nothing but text goes into a pipe."""
    command = f"{sys.executable} -m xdicom.cli tree {scan} | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
