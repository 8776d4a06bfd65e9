"""Facts about the command: edits are staged, shown, saved and taken back."""

import json

import pytest
from commands import run
from conftest import folder_hash
from pydicom import dcmread

import xdicom

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
