"""Facts about the command: what it prints where, and its exit codes."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY, folder_hash
from factories import AXIAL, make_image, make_report, make_series
from pydicom import dcmread

import xdicom
from xdicom import cli, cli_read
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


@pytest.fixture
def echoes(tmp_path):
    """Two series: one with two echoes, one without."""
    make_series(tmp_path / "in", dims={"EchoTime": [4.6, 9.2]}, name="a", layout=AXIAL, SeriesDescription="fat T1")
    make_series(tmp_path / "in", name="b", layout=AXIAL, SeriesNumber=2, SeriesDescription="T2", PatientID="P2")
    return tmp_path / "in"


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


# -- set, status, save, restore


def test_set_stages(echoes, capsys):
    """What is staged outlives the command, and is told with values before and after."""
    code, out, err = run(capsys, "set", echoes, "EchoTime=5", "PatientName=Roe^Ann", "--where", "SeriesNumber=1")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "2 edits staged",
        "1 fat T1",
        "  PatientName: Doe^Jane -> Roe^Ann",
        "  EchoTime: 4.6, 9.2 -> 5",
    ]
    assert "EchoTime: 4.6, 9.2 -> 5" in run(capsys, "status", echoes)[1]


def test_set_tells_only_its_own_edits(echoes, capsys):
    """Not those that were staged before."""
    run(capsys, "set", echoes, "EchoTime=5", "--where", "SeriesNumber=1")
    _, out, _ = run(capsys, "set", echoes, "FlipAngle=12", "--json", "--where", "SeriesNumber=1")
    (edit,) = json.loads(out)["edits"]
    assert (edit["what"], edit["before"], edit["after"]) == ("FlipAngle", [], [12])


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("PixelSpacing=1.5\\2", "PixelSpacing", [1.5, 2]),
        ("0018,0081=7", "EchoTime", 7),
        ("ImageComments=a=b", "ImageComments", "a=b"),
        ("AccessionNumber=A1", "AccessionNumber", "A1"),
        ("SeriesDescription=", "SeriesDescription", None),
        ("AcquisitionTime=12:00:00", "AcquisitionTime", 43200),
        ("window=40\\400", "WindowCenter", 40),
        ("colormap=viridis", "colormap", "viridis"),
    ],
)
def test_values_are_read_by_their_vr(folder, capsys, word, name, value):
    """Numbers, several values, times, text with an equals sign, and nothing."""
    assert run(capsys, "set", folder, word)[0] == 0
    _, out, _ = run(capsys, "get", folder, name, "--json")
    assert json.loads(out)[0]["values"][name] == [value]


def test_set_removes(folder, capsys):
    """--remove takes the element out."""
    run(capsys, "set", folder, "--remove", "PatientBirthDate")
    assert json.loads(run(capsys, "get", folder, "PatientBirthDate", "--json")[1])[0]["values"] == {
        "PatientBirthDate": []
    }


def test_private_elements_need_a_vr(folder, capsys):
    """--vr gives it."""
    assert run(capsys, "set", folder, "FACTORY:0019,01=abc")[0] == 2
    assert run(capsys, "set", folder, "FACTORY:0019,01=abc", "--vr", "LO")[0] == 0
    assert "abc" in run(capsys, "get", folder, "FACTORY:0019,01")[1]


@pytest.mark.parametrize(
    "words", [["set", "EchoTime=7", "Manufacturer=New"], ["save"], ["restore"], ["restore", "EchoTime"]]
)
def test_dry_runs_change_nothing(folder, capsys, words):
    """They tell what would be done; neither files nor what is staged change."""
    run(capsys, "set", folder, "EchoTime=5")
    before, staged = folder_hash(folder), run(capsys, "status", folder)[1]
    code, out, _ = run(capsys, words[0], folder, *words[1:], "--dry-run")
    assert code == 0
    assert "would be" in out.splitlines()[0]
    assert "EchoTime" in out
    assert (folder_hash(folder), run(capsys, "status", folder)[1]) == (before, staged)


def test_a_command_that_fails_stages_nothing(echoes, capsys):
    """All or none, also across series."""
    assert run(capsys, "set", echoes, "FlipAngle=3", "SOPInstanceUID=1.2.3")[0] == 2
    assert run(capsys, "status", echoes)[1] == "0 edits staged, not saved\n"


def test_save_writes(folder, capsys):
    """The files have the values then, and nothing is staged."""
    run(capsys, "set", folder, "EchoTime=5")
    code, out, err = run(capsys, "save", folder)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "1 edit saved, in 3 files"
    assert all(dcmread(path).EchoTime == 5 for path in folder.glob("*.dcm"))
    assert run(capsys, "status", folder)[1] == "0 edits staged, not saved\n"


@pytest.mark.filterwarnings("always:Rows describes the stored pixels")
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry run", "save"])
def test_a_save_that_is_refused_ends_with_2(folder, capsys, dry):
    """A dry run finds out too, and what is staged stays."""
    run(capsys, "set", folder, "Rows=3", "EchoTime=5")
    code, out, err = run(capsys, "save", folder, *dry)
    assert (code, out) == (2, "")
    assert "Rows was edited, but the pixels were not" in err
    assert run(capsys, "status", folder)[1].startswith("2 edits")


def test_save_counts_new_and_removed_files(folder, capsys):
    """Also those of images that were staged in Python."""
    with xdicom.database(folder) as db:
        series = db.series()[0]
        series.new_sibling(SeriesDescription="copy").set_xarray(series.to_xarray())
    assert run(capsys, "save", folder, "--dry-run")[1].startswith("1 edit would be saved, in 3 files")
    run(capsys, "save", folder)
    assert len(list(folder.rglob("*.dcm"))) == 6
    with xdicom.database(folder) as db:
        series = db.series(SeriesDescription="copy")[0]
        series.set_xarray(series.to_xarray() // 2)
    assert run(capsys, "save", folder)[1].startswith("1 edit saved, in 3 files")
    with xdicom.database(folder) as db:
        db.series(SeriesDescription="copy")[0].remove()
    assert run(capsys, "save", folder)[1].startswith("1 edit saved, in 3 files")
    assert len(list(folder.rglob("*.dcm"))) == 3


def test_save_of_some_series(echoes, capsys):
    """--where saves these and leaves the others staged."""
    run(capsys, "set", echoes, "FlipAngle=5")
    run(capsys, "save", echoes, "--where", "SeriesNumber=2")
    assert run(capsys, "status", echoes)[1].splitlines()[:2] == ["1 edit staged, not saved", "1 fat T1"]


def test_restore_takes_back(folder, capsys):
    """One tag, or all."""
    run(capsys, "set", folder, "EchoTime=5", "FlipAngle=3", "b_value=1000")
    assert run(capsys, "restore", folder, "b_value", "FlipAngle")[1].splitlines()[0] == "2 edits taken back"
    assert "EchoTime: - -> 5" in run(capsys, "status", folder)[1]
    run(capsys, "restore", folder)
    assert run(capsys, "status", folder)[1] == "0 edits staged, not saved\n"


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


# -- export


def test_export_of_pictures(echoes, tmp_path, capsys):
    """A file a series, named by number and description."""
    code, out, err = run(capsys, "export", echoes, "--to", "png", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1 fat T1.png", "2 T2.png"]
    assert out.splitlines()[1] == f"wrote 2 T2: {tmp_path / 'out' / '2 T2.png'}"


def test_export_for_other_programs(echoes, tmp_path, capsys):
    """A table, a Zarr store, and a folder of pictures a series."""
    for to, name in (("csv", "2 T2.csv"), ("zarr", "2 T2.zarr/zarr.json"), ("frames", "2 T2/00003.png")):
        code, _, err = run(capsys, "export", echoes, "--to", to, "--out", tmp_path / to)
        assert (code, err) == (0, "")
        assert (tmp_path / to / name).is_file()
        assert len(list((tmp_path / to).iterdir())) == 2


def test_export_of_dicom(echoes, tmp_path, capsys):
    """What is staged is written too, and stays staged."""
    run(capsys, "set", echoes, "EchoTime=5", "--where", "SeriesNumber=2")
    run(capsys, "export", echoes, "--to", "dicom", "--out", tmp_path / "out", "--where", "SeriesNumber=2")
    found = list((tmp_path / "out").rglob("*.dcm"))
    assert [dcmread(path).EchoTime for path in found] == [5, 5, 5]
    assert run(capsys, "status", echoes)[1].startswith("1 edit")


def test_export_of_nifti(echoes, tmp_path, capsys):
    """An image and a sidecar a series; what has no geometry is left out and told, with exit code 1."""
    make_image(echoes / "scan.dcm", np.ones((4, 4), "u1"), SeriesNumber=9, SeriesDescription="paper")
    words = ["export", echoes, "--to", "nifti", "--out", tmp_path / "out"]
    code, out, _ = run(capsys, *words, "--dry-run")
    assert (code, (tmp_path / "out").exists()) == (1, False)
    assert "2_T2.nii.gz: 5x6x3" in out
    code, out, err = run(capsys, *words)
    assert (code, err) == (1, "")
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 2
    assert len(list((tmp_path / "out").rglob("*.json"))) == 2
    assert re.search("^left out .*paper", out, re.MULTILINE)
    assert run(capsys, *words, "--json")[0] == 2


def test_export_of_zarr(echoes, tmp_path, capsys):
    """A store a series, which xdicom makes a series of again."""
    code, _, err = run(capsys, "export", echoes, "--to", "zarr", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1 fat T1.zarr", "2 T2.zarr"]
    assert xdicom.from_zarr(tmp_path / "out" / "2 T2.zarr").PatientID == "P2"


@pytest.mark.parametrize("to", ["png", "frames", "zarr", "nifti"])
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry run", "written"])
def test_reports_are_left_out(tmp_path, capsys, to, dry):
    """They are no images, so that the exit code is 0; a dry run says so too."""
    make_report(tmp_path / "in" / "a.dcm")
    code, out, _ = run(capsys, "export", tmp_path / "in", "--to", to, "--out", tmp_path / "out", *dry)
    assert code == 0
    assert out.startswith("left out ")


def test_columns_of_a_table_are_chosen(echoes, tmp_path, capsys):
    """By --tag, however it is named; an unknown one writes nothing."""
    words = ["export", echoes, "--to", "csv", "--where", "SeriesNumber=1", "--out", tmp_path / "out"]
    assert run(capsys, *words, "--tag", "EchoTme")[0] == 2
    assert not (tmp_path / "out").exists()
    run(capsys, *words, "--tag", "EchoTime", "--tag", "0020,0011")
    lines = (tmp_path / "out" / "1 fat T1.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("EchoTime,")
    assert len(lines) == 7


def test_names_of_exports_are_safe_and_differ(tmp_path, capsys):
    """Separators are replaced; two series of one name are told apart by their UIDs."""
    for name in "ab":
        make_series(tmp_path / "in", name=name, SeriesDescription="../x")
    _, out, _ = run(capsys, "export", tmp_path / "in", "--to", "png", "--out", tmp_path / "out", "--json", "--dry-run")
    paths = [each["path"] for each in json.loads(out)["written"]]
    assert len(set(paths)) == 2
    assert all(os.path.dirname(path) == str(tmp_path / "out") for path in paths)
    assert not (tmp_path / "out").exists()


def test_export_replaces_nothing(echoes, tmp_path, capsys):
    """A second time it is refused, and so is the folder that is read."""
    words = ["export", echoes, "--to", "png", "--out"]
    run(capsys, *words, tmp_path / "out")
    assert "is there already" in run(capsys, *words, tmp_path / "out")[2]
    assert "inside the folder that is read" in run(capsys, *words, echoes / "out")[2]
    assert "is a file" in run(capsys, *words, tmp_path / "out" / "2 T2.png")[2]


def test_export_has_a_folder_by_default(echoes, tmp_path, capsys, monkeypatch):
    """Without --out it is ./xdicom-export."""
    monkeypatch.chdir(tmp_path)
    code, _, _ = run(capsys, "export", echoes, "--to", "csv")
    assert code == 0
    assert list((tmp_path / "xdicom-export").glob("*.csv"))


@pytest.mark.parametrize("command", ["set", "restore"])
def test_words_may_come_after_options(command, echoes, capsys):
    """Of `set FOLDER --dry-run TAG=VALUE` no word is lost, and one that is not understood is an error."""
    word = {"set": "EchoTime=5", "restore": "EchoTime"}[command]
    run(capsys, "set", echoes, "EchoTime=6")
    code, out, _ = run(capsys, command, echoes, "--where", "SeriesNumber=*", "--dry-run", word)
    assert code == 0
    assert "EchoTime" in out
    assert run(capsys, command, echoes, "--dry-run", word, "--foo")[0] == 2
    assert run(capsys, "status", echoes, "EchoTime")[0] == 2


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
