"""Facts about the command: what is shown of a folder, and where its problems are told."""

import json
import os
import re

import pytest
from commands import break_one, process, run
from conftest import folder_hash
from factories import make_report, make_series

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


@pytest.mark.parametrize(
    "words",
    [["scan"], ["tree"], ["show"], ["get", "Rows"], ["status"], ["check"], ["set", "EchoTime=5"], ["restore"]],
    ids=" ".join,
)
def test_nothing_in_the_folder_changes(folder, capsys, words):
    """All commands but save leave all but `.xdicom` as it was."""
    before = folder_hash(folder)
    assert run(capsys, words[0], folder, *words[1:])[0] == 0
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


# -- show and get


def test_show_tells_dims_geometry_and_header(echoes, capsys):
    """One series, by its number."""
    code, out, err = run(capsys, "show", echoes, "2")
    assert (code, err) == (0, "")
    assert "dims      slice 3 x row 6 x column 5, uint16" in out
    assert "pixels    2 mm between rows, 1.5 mm between columns" in out
    assert "direction columns to L (1, 0, 0); rows to P (0, 1, 0); slices to H (0, 0, 4)" in out
    assert re.search(r"^\(0020,0032\)  ImagePositionPatient +-10\\-20\\30, ", out, re.MULTILINE)


def test_show_writes_json(echoes, capsys):
    """Dims, affine and every tag; text and numbers as they are."""
    _, out, _ = run(capsys, "show", echoes, "T2", "--json")
    found = json.loads(out)
    assert found["dims"] == {"slice": 3, "row": 6, "column": 5}
    assert found["geometry"]["affine"] == [[1.5, 0, 0, -10], [0, 2, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]]
    assert found["header"]["PatientID"] == ["P2"]
    assert found["header"]["PixelSpacing"] == [[2, 1.5]]


def test_show_draws(echoes, tmp_path, capsys):
    """With --png a picture is written, and its name is told."""
    code, out, _ = run(capsys, "show", echoes, "2", "--png", tmp_path / "a.png")
    assert code == 0
    assert out == f"drew 2 T2: {tmp_path / 'a.png'}\n"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_show_wants_one_series(echoes, capsys):
    """Of several the names are listed."""
    assert run(capsys, "show", echoes)[2] == (
        "xdicom: 2 series match, and one is shown: name one of '1 fat T1', '2 T2'\n"
    )
    assert "no series is '9': there are '1 fat T1', '2 T2'" in run(capsys, "show", echoes, "9")[2]


def test_show_without_geometry(tmp_path, capsys):
    """An object without pixels has a header, and the reason why it has no dims."""
    make_report(tmp_path / "a.dcm")
    code, out, _ = run(capsys, "show", tmp_path)
    assert code == 0
    assert re.search(r"^dims +none: ", out, re.MULTILINE)
    assert "CompletionFlag" in out


def test_get_shows_values(echoes, capsys):
    """A row a series, a column a tag, however it is named; "-" where there is none."""
    _, out, _ = run(capsys, "get", echoes, "EchoTime", "0020,0011", "b_value", "FACTORY:0019,01")
    assert out.splitlines() == [
        "series    EchoTime  0020,0011  b_value  FACTORY:0019,01",
        "1 fat T1  4.6, 9.2  1          -        -",
        "2 T2      -         2          -        -",
    ]


def test_get_writes_json(echoes, capsys):
    """Values are lists by the names that were asked for."""
    _, out, _ = run(capsys, "get", echoes, "EchoTime", "--json")
    assert [each["values"] for each in json.loads(out)] == [{"EchoTime": [4.6, 9.2]}, {"EchoTime": []}]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["SeriesNumber=2"], ["T2"]),
        (["SeriesDescription=*T*"], ["fat T1", "T2"]),
        (["SeriesDescription=T2", "SeriesDescription=fat T1"], ["fat T1", "T2"]),
        (["SeriesDescription=*T*", "EchoTime=4:5"], ["fat T1"]),
        (["EchoTime=:5"], ["fat T1"]),
        (["PatientID=P2"], ["T2"]),
        (["ImageType=PRIMARY", "SeriesNumber=1"], ["fat T1"]),
        (["PixelSpacing=2.0\\1.5", "SeriesNumber=1"], ["fat T1"]),
        (["StudyTime=101500"], ["fat T1", "T2"]),
        (["StudyDate=20240101:20241231"], ["fat T1", "T2"]),
        (["AccessionNumber="], ["fat T1", "T2"]),
        (["image_type=MAGNITUDE"], ["fat T1", "T2"]),
        (["slice_location=0:31", "SeriesNumber=2"], ["T2"]),
    ],
)
def test_conditions(echoes, capsys, where, found):
    """A value, a pattern, a range or nothing; of one tag any, of several all must hold."""
    words = [part for each in where for part in ("--where", each)]
    _, out, err = run(capsys, "get", echoes, "Rows", "--json", *words)
    assert err == ""
    assert [each["SeriesDescription"] for each in json.loads(out)] == found


def test_get_shows_what_matches(echoes, capsys):
    """Conditions choose frames: of a series with two echoes the one that matches is shown."""
    _, out, _ = run(capsys, "get", echoes, "EchoTime", "--where", "EchoTime=9.2")
    assert out.splitlines()[1:] == ["1 fat T1  9.2"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["get", "EchoTme"], "did you mean 'EchoTime'"),
        (["get", "Rows", "--where", "SeriesNumber"], "is no condition: type --where SeriesNumber=VALUE"),
        (
            ["get", "Rows", "--where", "SeriesNumber=7"],
            "no series matches --where SeriesNumber=7; there are '1 fat T1'",
        ),
        (["set", "EchoTime"], "type EchoTime=VALUE, or --remove EchoTime"),
        (["set"], "nothing to set"),
        (["set", "=3"], "names no tag"),
        (["set", "EchoTime=long"], "EchoTime cannot be 'long'"),
        (["set", "EchoTime=5", "--where", "EchoTime=4.6"], "only 3 of 6 frames of series 1 fat T1 match"),
        (["restore", "EchoTme"], "did you mean 'EchoTime'"),
    ],
    ids=" ".join,
)
def test_wrong_names_are_told(echoes, capsys, words, text):
    """With what to type instead; nothing is staged then."""
    code, out, err = run(capsys, words[0], echoes, *words[1:])
    assert (code, out) == (2, "")
    assert text in err
    assert run(capsys, "status", echoes)[1] == "0 edits staged, not saved\n"


# -- check


def test_check_of_a_sound_folder(folder, capsys):
    """Nothing is wrong, and the exit code is 0."""
    assert run(capsys, "check", folder) == (0, "0 problems\n", "")


def test_check_lists_problems(folder, capsys):
    """A broken file is named, and the exit code is 1; in JSON too."""
    break_one(folder)
    code, out, _ = run(capsys, "check", folder)
    assert code == 1
    assert re.search(r"^1 problem\n  a_00003\.dcm: ", out)
    code, out, _ = run(capsys, "check", folder, "--json")
    assert (code, [each["path"] for each in json.loads(out)["problems"]]) == (1, ["a_00003.dcm"])
