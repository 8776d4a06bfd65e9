"""Facts about xdicom.saving: records as DICOM files in another folder, all of them or none."""

import errno
import os
import shutil

import numpy as np
import pydicom
import pytest
from conftest import folder_hash
from factories import make_image, make_report, make_series

import xdicom as xd
from xdicom import saving
from xdicom.errors import SaveError

pytestmark = pytest.mark.usefixtures("collected")


def files(folder):
    """Return the DICOM files of a folder by relative path."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".xdicom" not in path.parts)
    return {path.relative_to(folder).as_posix(): path for path in found}


def pixel_bytes(path):
    """Return the value of the pixel data as it stands in the file, fragments included."""
    ds = pydicom.dcmread(path)
    return next(
        (ds[name].value for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in ds), None
    )


# Unedited files ----------------------------------------------------------------------------------------------------


def test_unedited_files_are_copied_byte_for_byte(tmp_path):
    """What was not edited is the same file under a new name; the source folder is as it was."""
    made = make_series(tmp_path / "in", slices=3, syntax="implicit")
    make_report(tmp_path / "in" / "report.dcm")
    before = folder_hash(tmp_path / "in")
    xd.database(tmp_path / "in").save(tmp_path / "out")
    assert folder_hash(tmp_path / "in") == before
    sources = {path.read_bytes() for path in (*made.files, tmp_path / "in" / "report.dcm")}
    assert {path.read_bytes() for path in files(tmp_path / "out").values()} == sources


def test_names(tmp_path):
    """Files are patient / date and study / number and series / instance number of five digits."""
    make_series(tmp_path / "in", slices=2, PatientID="a/b", StudyDescription="x:y", SeriesNumber=7)
    xd.database(tmp_path / "in").save(tmp_path / "out")
    assert list(files(tmp_path / "out")) == [f"a_b/20240229 x_y/7 series a/0000{n}.dcm" for n in (1, 2)]


def test_clashing_names_get_digits(tmp_path):
    """Two series of one name, or two instances of one number, get eight digits of their UID's hash."""
    for name in "ab":
        make_series(tmp_path / "in", slices=2, name=name, SeriesDescription="same", InstanceNumber=1)
    xd.database(tmp_path / "in").save(tmp_path / "out")
    found = list(files(tmp_path / "out"))
    assert len(found) == 4
    assert len({path.split("/")[2] for path in found}) == 2
    assert all(path.split("/")[2].startswith("1 same") for path in found)


def test_a_second_save_adds_to_the_folder(tmp_path):
    """Series of one study saved one after the other stand side by side; nothing that was there changes."""
    for name, number in (("a", 1), ("b", 2)):
        make_series(tmp_path / "in", slices=1, name=name, SeriesNumber=number)
    one, two = xd.database(tmp_path / "in").series()
    one.save(tmp_path / "out")
    before = {name: path.read_bytes() for name, path in files(tmp_path / "out").items()}
    two.save(tmp_path / "out")
    after = {name: path.read_bytes() for name, path in files(tmp_path / "out").items()}
    assert before.items() < after.items()
    assert len(xd.database(tmp_path / "out").studies()[0].series()) == 2


def test_a_target_without_a_catalog_gets_none(tmp_path):
    """Saving into a folder that was never opened leaves nothing but DICOM there."""
    make_series(tmp_path / "in", slices=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    xd.database(tmp_path / "in").save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["P1", "notes.txt"]


def test_staged_edits_are_written_and_stay_staged(tmp_path, series):
    """The files in the other folder have the edits; the source keeps them staged, and its files as they were."""
    before = folder_hash(tmp_path / "in")
    series.EchoTime = 7.5
    series.save(tmp_path / "out")
    saved = [pydicom.dcmread(path) for path in files(tmp_path / "out").values()]
    assert [ds.EchoTime for ds in saved] == [7.5] * 3
    assert {ds.SOPInstanceUID for ds in saved} == set(series.SOPInstanceUID)
    assert folder_hash(tmp_path / "in") == before
    assert [change.what for change in series.status()] == ["EchoTime"]
    series.restore()
    assert list(series.EchoTime) == []


# Refusals ----------------------------------------------------------------------------------------------------------


def refused(record, target, match):
    """Fail unless saving raises and leaves the target as it was."""
    before = folder_hash(target) if target.exists() else None
    parents = set(target.parent.parent.rglob("*"))
    with pytest.raises(SaveError, match=match):
        record.save(target)
    assert (folder_hash(target) if target.exists() else None) == before
    assert set(target.parent.parent.rglob("*")) == parents


@pytest.fixture
def series(tmp_path):
    """A series of three files in "in"."""
    make_series(tmp_path / "in", slices=3)
    database = xd.database(tmp_path / "in")
    yield database.series()[0]
    database.close()


def test_a_path_inside_the_source(tmp_path, series):
    """A folder inside the source, also through a link, is refused: it would be read again."""
    refused(series, tmp_path / "in" / "out", "is inside")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    refused(series, tmp_path / "link" / "deep" / "out", "is inside")


def test_a_path_that_is_a_file(tmp_path, series):
    """A file is no folder, neither as the target nor above it."""
    (tmp_path / "file").write_text("mine")
    refused(series, tmp_path / "file", "is a file")
    refused(series, tmp_path / "file" / "out", "cannot be written")


def test_an_instance_that_is_there(tmp_path, series):
    """An instance that is in the target already is refused, and named."""
    series.save(tmp_path / "out")
    refused(series, tmp_path / "out", "already is the instance")


def test_nothing_to_save(tmp_path, series):
    """A record without images says how to give it some."""
    refused(series.new_sibling(), tmp_path / "out", "set_xarray")


def test_edits_that_would_garble_pixels(tmp_path, series):
    """Elements that describe the stored pixels are not written without the pixels."""
    with pytest.warns(UserWarning, match="Rows describes the stored pixels"):
        series.Rows = 3
    refused(series, tmp_path / "out", "Rows was edited")


def test_no_path(tmp_path):
    """An in-memory database has no place of its own: save() asks for a folder."""
    with pytest.raises(SaveError, match=r"save\('folder'\)"):
        xd.as_series(np.ones((1, 2, 2))).save()


def test_two_files_of_one_instance(tmp_path):
    """Two files with one SOPInstanceUID cannot both go into a folder."""
    made = make_series(tmp_path / "in", slices=1)
    shutil.copy(made.files[0], tmp_path / "in" / "copy.dcm")
    refused(xd.database(tmp_path / "in"), tmp_path / "out", "cannot be told apart")


def test_a_changed_source(tmp_path, series):
    """A file that changed since it was scanned is not copied."""
    path = tmp_path / "in" / "a_00002.dcm"
    path.write_bytes(path.read_bytes() + b"\0\0")
    refused(series, tmp_path / "new" / "out", r"a_00002.*changed since it was scanned")


def test_a_source_that_is_gone(tmp_path, series):
    """A file that is gone is named."""
    (tmp_path / "in" / "a_00002.dcm").unlink()
    refused(series, tmp_path / "new" / "out", "a_00002.*cannot be read")


@pytest.mark.parametrize("make", [lambda s: s, lambda s: xd.merge([s]), lambda s: s.new_sibling()])
def test_a_full_disk(tmp_path, series, make, monkeypatch):
    """When the disk is full nothing is left behind, whatever is being written."""
    record = make(series)
    if not len(record.InstanceNumber):
        record.set_xarray(series.to_xarray() * 2)
    count = [0]

    def full(descriptor):
        count[0] += 1
        if count[0] > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(record, tmp_path / "new" / "out", "disk is full|No space left")


def test_an_interrupt(tmp_path, series):
    """Ctrl-C leaves nothing behind, in a new folder or an old one."""

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    for target in (tmp_path / "out", tmp_path / "new" / "deep"):
        before = set(tmp_path.rglob("*"))
        with pytest.raises(KeyboardInterrupt):
            saving.save_copy(series._store, series._store.keys(), target, stop)
        assert set(tmp_path.rglob("*")) == before


def test_a_rename_that_fails(tmp_path, series, monkeypatch):
    """Files that were in place already are taken back when a later one cannot be put there."""
    rename, count = os.rename, [0]

    def fail(source, target):
        count[0] += 1
        if count[0] == 3:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    refused(series, tmp_path / "new" / "out", "Input/output error")


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="platform: root may all")
def test_a_folder_that_cannot_be_written(tmp_path, series):
    """A target without permission is named."""
    (tmp_path / "out").mkdir(mode=0o500)
    refused(series, tmp_path / "out" / "deep", "cannot be written")


# In memory ---------------------------------------------------------------------------------------------------------


def test_a_database_in_memory_lives_in_the_folder_afterwards(tmp_path):
    """After save(path) the same records are those of the folder, and the temporary one is gone."""
    series = xd.as_series(np.ones((2, 3, 4)), PatientID="P")
    temporary = series._store.root
    series.save(tmp_path / "out")
    assert series._store.root == (tmp_path / "out").resolve()
    assert not temporary.exists()
    assert (series.PatientID, len(series.frames())) == ("P", 2)
    assert xd.database(tmp_path / "out").series()[0].key == series.key
    assert "unsaved" not in repr(series)


def test_one_of_several_series_in_memory_is_copied(tmp_path):
    """One of several series in memory is copied, and all stay in memory."""
    study = xd.database().new_patient(PatientName="A").new_study()
    one, two = study.new_series(), study.new_series()
    for series in (one, two):
        series.set_ndarray(np.ones((2, 3, 1)))
    one.save(tmp_path / "out")
    assert one._store.in_memory
    assert [s.key for s in xd.database(tmp_path / "out").series()] == [one.key]
    two.save(tmp_path / "out")
    assert len(xd.database(tmp_path / "out").studies()) == 1


def test_new_series_of_a_folder_stay_staged(tmp_path, series):
    """Saving a staged series elsewhere leaves it staged where it is, and the source's files alone."""
    before = folder_hash(tmp_path / "in")
    new = series.new_sibling()
    new.set_xarray(series.to_xarray())
    new.save(tmp_path / "out")
    assert folder_hash(tmp_path / "in") == before
    assert "unsaved" in repr(new)
    reopened = xd.database(tmp_path / "in").series()
    assert np.array_equal(reopened[1].ndarray(), series.ndarray())


def test_image_files_without_names(tmp_path):
    """Objects without patient, study or series texts still get a path."""
    make_image(tmp_path / "in" / "x.dcm", np.ones((2, 2), "u1"), PatientID=None, StudyDate=None, StudyDescription=None)
    xd.database(tmp_path / "in").save(tmp_path / "out")
    (name,) = files(tmp_path / "out")
    assert name == "unknown patient/unknown study/1 series x/00001.dcm"
