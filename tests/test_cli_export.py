"""Facts about the command: what is written for other programs, and where."""

import json
import os
import re

import numpy as np
import pytest
from commands import run
from factories import make_image, make_report, make_series
from pydicom import dcmread

import xdicom

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
