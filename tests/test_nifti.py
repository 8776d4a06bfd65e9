"""Facts about series as NIfTI files: what is made under which names, and what is not and why."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import AXIAL, make_report, make_series

import xdicom
from xdicom.cli import main
from xdicom.errors import SaveError
from xdicom.nifti import export_nifti

nibabel = pytest.importorskip("nibabel")


def files(folder: Path) -> list[str]:
    """Return the paths of all files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def scan(tmp_path):
    """Give a database of two series of one study."""
    make_series(tmp_path / "scan", name="a", SeriesNumber=3, SeriesDescription="T1 map", PatientName="Bond")
    make_series(tmp_path / "scan", name="b", SeriesNumber=4, SeriesDescription="T2 map", PatientName="Bond")
    with xdicom.database(tmp_path / "scan") as db:
        yield db


def test_every_series_becomes_an_image_with_a_sidecar(scan, tmp_path):
    """Files are named by number and description; the summary names them with their shapes."""
    done = export_nifti([scan], tmp_path / "out")
    assert files(tmp_path / "out") == ["3_T1_map.json", "3_T1_map.nii.gz", "4_T2_map.json", "4_T2_map.nii.gz"]
    assert [made.files for made in done.made] == [
        ["3_T1_map.nii.gz", "3_T1_map.json"],
        ["4_T2_map.nii.gz", "4_T2_map.json"],
    ]
    assert [made.shape for made in done.made] == [(5, 6, 3)] * 2
    assert done.left_out == []


def test_files_hold_what_the_array_does(scan, tmp_path):
    """Voxels and affine are those of to_nibabel()."""
    export_nifti(scan.series(SeriesNumber=3), tmp_path / "out")
    image = nibabel.load(tmp_path / "out" / "3_T1_map.nii.gz")
    expected = scan.series(SeriesNumber=3)[0].to_xarray().dicom.to_nibabel()
    np.testing.assert_array_equal(image.get_fdata(), expected.get_fdata())
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)


def test_records_write_themselves(scan, tmp_path):
    """Every record has to_nifti(), which returns the summary."""
    assert [len(record.to_nifti(tmp_path / name).made) for name, record in (("a", scan), ("b", scan.series()[0]))] == [
        2,
        1,
    ]
    assert files(tmp_path / "b") == ["3_T1_map.json", "3_T1_map.nii.gz"]


def test_nothing_that_exists_is_replaced(scan, tmp_path):
    """Where one of the files is there, nothing at all is written."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "4_T2_map.json").write_text("mine")
    with pytest.raises(SaveError, match=r"4_T2_map\.json.*nothing is replaced"):
        export_nifti([scan], tmp_path / "out")
    assert files(tmp_path / "out") == ["4_T2_map.json"]


def test_a_file_is_no_folder(scan, tmp_path):
    """A file in the place of the folder is told."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SaveError, match="is a file"):
        export_nifti([scan], tmp_path / "out")


def test_dry_run_writes_nothing(scan, tmp_path):
    """The summary is that of the export, and no file is there."""
    done = export_nifti([scan], tmp_path / "out", dry_run=True)
    assert len(done.made) == 2
    assert not (tmp_path / "out").exists()


def test_series_of_one_name_have_files_of_their_own(tmp_path):
    """A second series with the same number and description gets digits of its UID."""
    for name in ("a", "b", "c"):
        make_series(tmp_path / "scan", name=name, SeriesNumber=1, SeriesDescription="same" if name < "c" else "SAME")
    with xdicom.database(tmp_path / "scan") as db:
        done = export_nifti([db], tmp_path / "out")
    names = [made.files[0] for made in done.made]
    assert len({name.casefold() for name in names}) == 3
    assert len(files(tmp_path / "out")) == 6


def test_names_stay_inside_the_folder(tmp_path):
    """A description that is a path is a name."""
    make_series(tmp_path / "scan", SeriesNumber=1, SeriesDescription="../../etc/passwd")
    with xdicom.database(tmp_path / "scan") as db:
        export_nifti([db], tmp_path / "out")
    assert files(tmp_path / "out") == ["1_.._.._etc_passwd.json", "1_.._.._etc_passwd.nii.gz"]


def test_several_studies_have_folders_without_identity(tmp_path):
    """Each study has a folder, whose name says nothing of the patient; with identity=True it does."""
    make_series(tmp_path / "scan", name="a", PatientID="007", StudyInstanceUID="1.2.3")
    make_series(tmp_path / "scan", name="b", PatientID="006", StudyInstanceUID="1.2.4")
    with xdicom.database(tmp_path / "scan") as db:
        anonymous = export_nifti([db], tmp_path / "out")
        named = export_nifti([db], tmp_path / "named", identity=True)
    folders = [made.files[0].split("/")[0] for made in anonymous.made]
    assert len(set(folders)) == 2
    assert all(name.startswith("study-") for name in folders)
    assert {made.files[0].split("/")[0][:3] for made in named.made} == {"006", "007"}
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.json"))
    assert b"007" not in written


def test_objects_without_pixels_are_left_out(scan, tmp_path):
    """A report is no image, and the reason says so."""
    make_report(tmp_path / "scan" / "report.dcm")
    scan.rescan()
    done = export_nifti([scan], tmp_path / "out")
    assert len(done.made) == 2
    (left,) = done.left_out
    assert "no image" in left.reason
    assert not left.is_image


def test_stacks_with_a_gap_are_left_out_with_the_way_out(tmp_path):
    """Missing slices have no affine; the reason names to_regular()."""
    folder = tmp_path / "scan"
    series = make_series(folder, slices=5)
    series.files[1].unlink()
    with xdicom.database(folder) as db:
        done = export_nifti([db], tmp_path / "out")
    assert done.made == []
    (left,) = done.left_out
    assert "to_regular()" in left.reason
    assert left.is_image


def test_stacks_of_one_series_have_files_of_their_own(tmp_path):
    """Localizers in two planes make two images."""
    folder = tmp_path / "scan"
    for name, layout in (("a", AXIAL), ("b", replace(AXIAL, column_direction=(0.0, 0.0, -1.0)))):
        make_series(
            folder, name=name, layout=layout, SeriesInstanceUID="1.2.3", SeriesNumber=1, SeriesDescription="loc"
        )
    with xdicom.database(folder) as db:
        done = export_nifti([db], tmp_path / "out")
        assert len(db.series()) == 1
        assert db.status() == []
    assert sorted(made.files[0] for made in done.made) == ["1_loc_stack1.nii.gz", "1_loc_stack2.nii.gz"]
    assert done.left_out == []


def test_copies_of_images_count_once(tmp_path):
    """A file that is there twice does not keep a series from being exported, and the summary says so."""
    made = make_series(tmp_path / "scan", SeriesNumber=1, SeriesDescription="twice")
    shutil.copyfile(made.files[0], tmp_path / "scan" / "copy.dcm")
    with xdicom.database(tmp_path / "scan") as db:
        done = export_nifti([db], tmp_path / "out")
    assert [(each.files[0], each.shape) for each in done.made] == [("1_twice.nii.gz", (5, 6, 3))]
    assert done.made[0].note.endswith("left out: 1")


def test_quantities_have_files_of_their_own(tmp_path):
    """Magnitude and phase, each at two echo times, make two images of four dims."""
    dims = {"ImageType": [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]], "EchoTime": [5.0, 10.0]}
    make_series(tmp_path / "scan", dims=dims, SeriesNumber=1, SeriesDescription="field")
    with xdicom.database(tmp_path / "scan") as db:
        done = export_nifti([db], tmp_path / "out")
    assert [made.files[0] for made in done.made] == ["1_field_magnitude.nii.gz", "1_field_phase.nii.gz"]
    assert [made.shape for made in done.made] == [(5, 6, 3, 2)] * 2
    about = json.loads((tmp_path / "out" / "1_field_phase.json").read_text(encoding="utf-8"))
    assert about["ImageType"] == ["ORIGINAL", "PRIMARY", "P"]
    assert about["Dims"] == ["column", "row", "slice", "EchoTime"]


def test_damaged_pixels_leave_no_file(tmp_path):
    """A series that cannot be read to its end is left out, and nothing of it stays."""
    folder = tmp_path / "scan"
    make_series(folder, name="good", SeriesNumber=1, SeriesDescription="good")
    bad = make_series(folder, name="bad", SeriesNumber=2, SeriesDescription="bad")
    with xdicom.database(folder) as db:
        data = bad.files[1].read_bytes()
        bad.files[1].write_bytes(data[:-20])
        done = export_nifti([db], tmp_path / "out")
    assert [left.name for left in done.left_out] == ["2_bad"]
    assert files(tmp_path / "out") == ["1_good.json", "1_good.nii.gz"]


def test_sidecar_is_json_without_identity(scan, tmp_path):
    """The sidecar says what made it and nothing of the patient."""
    export_nifti([scan], tmp_path / "out")
    text = (tmp_path / "out" / "3_T1_map.json").read_text(encoding="utf-8")
    assert json.loads(text)["ConversionSoftware"] == "xdicom"
    assert "Bond" not in text


def test_progress_is_told(scan, tmp_path):
    """The callback gets the number of images done, and that of all."""
    seen = []
    export_nifti([scan], tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


# -- the command


def test_command_tells_what_was_made_and_what_not(scan, tmp_path, capsys):
    """Each image has a line with its shape, each series left out one with the reason; images left out make it 1."""
    gap = make_series(tmp_path / "scan", slices=5, name="gap", SeriesNumber=9, SeriesDescription="gap")
    gap.files[1].unlink()
    code = main(["export", str(tmp_path / "scan"), "--to", "nifti", "--out", str(tmp_path / "out")])
    told = capsys.readouterr().out.splitlines()
    assert code == 1
    assert told[0].endswith("3_T1_map.nii.gz: 5x6x3")
    assert told[2].startswith("left out 9_gap: the slice steps are unequal")


def test_command_gives_json(scan, tmp_path, capsys):
    """--json has the same for programs; --dry-run writes nothing; all well is 0."""
    arguments = [
        "export",
        str(tmp_path / "scan"),
        "--to",
        "nifti",
        "--out",
        str(tmp_path / "out"),
        "--json",
        "--dry-run",
    ]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert [made["files"][0] for made in told["written"]] == ["3_T1_map.nii.gz", "4_T2_map.nii.gz"]
    assert told["left_out"] == []
    assert not (tmp_path / "out").exists()


def test_command_tells_identity_on_request_only(scan, tmp_path):
    """--identity puts the patient into the sidecars."""
    main(["export", str(tmp_path / "scan"), "--to", "nifti", "--out", str(tmp_path / "out"), "--identity"])
    assert "Bond" in (tmp_path / "out" / "3_T1_map.json").read_text(encoding="utf-8")
