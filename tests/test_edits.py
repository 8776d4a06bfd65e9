"""What is staged: values at every level and in every notation, taken back, saved and shown; keys that change."""

import gc
import shutil

import numpy as np
import pydicom
import pytest
from conftest import folder_hash
from factories import make_series, uid

import xdicom as xd
from xdicom import errors


@pytest.fixture
def folder(tmp_path):
    """Two patients: the first with two series of three slices in a study, the second with one."""
    for name, angle in (("a", 5.0), ("b", 20.0)):
        make_series(tmp_path / "data" / name, 3, name=name, FlipAngle=angle, EchoTime=2.0)
    other = {"PatientID": "P2", "PatientName": "Roe^Richard", "StudyInstanceUID": uid("other")}
    make_series(tmp_path / "data" / "c", 3, name="c", FlipAngle=5.0, EchoTime=2.0, **other)
    return tmp_path / "data"


@pytest.fixture
def db(folder):
    """The folder, open."""
    with xd.database(folder) as database:
        yield database
    gc.collect()


def one(db, name="a"):
    """Return a series by the name that the factory gave it."""
    return next(series for series in db.series() if series.key[2] == uid("series", name))


def whats(record):
    """Return what is staged in a record."""
    return [change.what for change in record.status()]


# -- values


@pytest.mark.parametrize("level", ["database", "patient", "study", "series"])
def test_every_level(db, level):
    """A value set on a record is in all of its datasets, and in no others."""
    series = one(db)
    record = series if level == "series" else getattr(series, level)
    record.EchoTime = 7
    changed = [each.key[2] for each in db.series(EchoTime=7.0)]
    names = {"database": "abc", "patient": "ab", "study": "ab", "series": "a"}[level]
    assert sorted(changed) == sorted(uid("series", name) for name in names)


@pytest.mark.parametrize("name", ["EchoTime", (0x0018, 0x0081), 0x00180081], ids=str)
def test_every_notation(db, name):
    """Keyword, pair and int in brackets set the same element."""
    series = one(db)
    series[name] = 7
    assert series.EchoTime == 7.0


def test_a_list_of_names(db):
    """A list of names takes a list of values, one each."""
    series = one(db)
    series[["EchoTime", (0x0018, 0x1314)]] = [7, 12]
    assert series[["EchoTime", "FlipAngle"]] == [[7.0], [12.0]]


@pytest.mark.parametrize("values", [[7], [7, 8, 9], "78"])
def test_a_list_of_another_length(db, values):
    """Another number of values than of names is refused."""
    with pytest.raises(errors.EditError, match="values for 2 tags"):
        one(db)[["EchoTime", "FlipAngle"]] = values if values != "78" else "7"


def test_all_or_nothing(db):
    """Where one of several values does not fit, none is staged."""
    series = one(db)
    with pytest.raises(errors.TagValueError, match="no number"):
        series[["EchoTime", "FlipAngle"]] = [7, "wide"]
    assert db.status() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("EchoTime", "abc"), ("EchoTime", float("nan")), ("PatientBirthDate", "2020-13-01"), ("ImageType", "lower")],
)
def test_junk_stages_nothing(db, name, value):
    """A value that the VR cannot hold raises before anything is staged."""
    with pytest.raises(errors.TagValueError, match=name):
        one(db)[name] = value
    assert db.status() == []


def test_a_typo_stages_nothing(db):
    """A misspelt keyword raises with the nearest one."""
    with pytest.raises(errors.UnknownTagError, match="EchoTime"):
        one(db).EchoTme = 7
    with pytest.raises(AttributeError):
        one(db).color_map = "gray"
    assert db.status() == []


@pytest.mark.parametrize("name", ["PixelData", "TransferSyntaxUID"])
def test_what_cannot_be_set(db, name):
    """Pixels and the file's own description are refused, with what to type."""
    with pytest.raises(errors.EditError, match=name):
        one(db)[name] = b"\0\0"


@pytest.mark.parametrize("name", ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_what_cannot_be_deleted(db, name):
    """Identifiers cannot be removed."""
    with pytest.raises(errors.EditError, match=name):
        del one(db)[name]


def test_deletion(db):
    """`del` and None remove an element; "" leaves it empty."""
    series = one(db)
    del series.EchoTime
    series.FlipAngle = None
    series.SeriesDescription = ""
    assert series[["EchoTime", "FlipAngle", "SeriesDescription"]] == [[], [], [None]]


def test_deletion_of_a_list(db):
    """`del` takes a list of names."""
    series = one(db)
    del series[["EchoTime", "FlipAngle"]]
    assert series[["EchoTime", "FlipAngle"]] == [[], []]


def test_a_unique_value_is_unwrapped(db):
    """What one record has can be set on another, if it is one value."""
    one(db, "c").FlipAngle = one(db, "b").FlipAngle
    assert one(db, "c").FlipAngle == 20.0
    with pytest.raises(errors.EditError, match="2 values"):
        one(db, "c").FlipAngle = one(db).study.FlipAngle


def test_a_sequence(db, folder):
    """A list of dicts becomes a sequence, in the files too."""
    series = one(db)
    series.ReferencedImageSequence = [{"ReferencedSOPInstanceUID": "1.2.3"}]
    series.save()
    assert series.ReferencedImageSequence[0][0]["ReferencedSOPInstanceUID"] == "1.2.3"
    ds = pydicom.dcmread(folder / "a" / "a_00001.dcm")
    assert ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3"


def test_a_private_element(db, folder):
    """A private element goes into the block of its creator, and out of it again."""
    series = one(db)
    series.set(("My lab", 0x0071, 0x01), "yes", VR="LO")
    series.save()
    assert series["My lab", 0x0071, 0x01] == "yes"
    assert pydicom.dcmread(folder / "a" / "a_00001.dcm").private_block(0x0071, "My lab")[0x01].value == "yes"
    del series["My lab", 0x0071, 0x01]
    assert series["My lab", 0x0071, 0x01] == []


def test_an_attribute_set_frame_by_frame(db):
    """An attribute's numpy array gives each frame its own value."""
    numbers = lambda value, frames: {"EchoNumbers": frames["InstanceNumber"] + value}  # noqa: E731
    xd.register_attribute("echo_offset", lambda frames: frames["EchoNumbers"], numbers)
    try:
        series = one(db)
        series.echo_offset = 10
        assert series.EchoNumbers == [11, 12, 13]
        series.save()
        assert series.EchoNumbers == [11, 12, 13]
    finally:
        from xdicom.frames import ATTRIBUTES

        del ATTRIBUTES["echo_offset"]


def test_the_same_value_is_no_edit(db):
    """A value that the files have already is not staged, and takes back an earlier edit."""
    series = one(db)
    series.EchoTime = 2
    assert series.status() == []
    series.EchoTime = 7
    series.EchoTime = 2.0
    assert series.status() == []


# -- what is shown


def test_status(db):
    """status() has series, tag and values before and after."""
    series = one(db)
    series.EchoTime = 7
    assert db.status() == [(series.key, "EchoTime", [2.0], [7.0])]
    assert one(db, "b").status() == []


def test_repr(db):
    """The tree says which series are unsaved."""
    one(db).EchoTime = 7
    assert repr(db).count("unsaved") == 1
    assert "unsaved" in repr(one(db))
    assert "unsaved" not in repr(one(db, "b"))


# -- save and restore


def test_nothing_is_written_before_save(db, folder):
    """Staging and restoring leave the folder as it was, to the byte and the second."""
    before = folder_hash(folder)
    db.EchoTime = 7
    db.PatientName = "Other"
    one(db).remove()
    db.restore()
    assert folder_hash(folder) == before


def test_save_without_edits_writes_nothing(db, folder):
    """A save of nothing leaves the folder as it was."""
    before = folder_hash(folder)
    db.save()
    assert folder_hash(folder) == before


@pytest.mark.parametrize("level", ["patient", "study", "series"])
def test_save_of_one_record_leaves_the_others(db, level):
    """Saving a record leaves the edits of all others staged."""
    db.EchoTime = 7
    series = one(db, "c")
    (series if level == "series" else getattr(series, level)).save()
    assert series.status() == []
    assert {change.series.series for change in db.status()} == {uid("series", "a"), uid("series", "b")}


@pytest.mark.parametrize("level", ["patient", "study", "series"])
def test_restore_of_one_record_leaves_the_others(db, level):
    """Restoring a record leaves the edits of all others staged."""
    db.EchoTime = 7
    series = one(db, "c")
    (series if level == "series" else getattr(series, level)).restore()
    assert series.EchoTime == 2.0
    assert one(db).EchoTime == one(db, "b").EchoTime == 7.0


def test_restore_of_a_tag(db):
    """restore() of a name takes back that tag only."""
    series = one(db)
    series[["EchoTime", "FlipAngle"]] = [7, 8]
    series.restore("EchoTime")
    assert series[["EchoTime", "FlipAngle"]] == [[2.0], [8.0]]


@pytest.mark.parametrize("name", ["colormap", ("xdicom", 0x0029, 0x02)], ids=str)
def test_restore_of_a_name(db, name):
    """restore() takes lower_case attributes and private elements as well."""
    series = one(db)
    series.colormap, series.EchoTime = "gray", 7
    series.restore(name)
    assert series.colormap == []
    assert series.EchoTime == 7.0


def test_restore_of_a_tag_behind_new_pixels(db):
    """A tag that was edited before the pixels were replaced is taken back as well."""
    series = one(db)
    series.EchoTime = 7
    series.set_ndarray(series.ndarray() // 2)
    series.restore("EchoTime")
    assert series.EchoTime == 2.0
    series.save()
    assert series.EchoTime == 2.0


def test_unsaved_edits_survive(db, folder):
    """Another handle on the folder, and a later one, see what is staged."""
    one(db).EchoTime = 7
    with xd.database(folder) as other:
        assert one(other).EchoTime == 7.0
    db.close()
    with xd.database(folder) as later:
        assert whats(later) == ["EchoTime"]
        later.restore()
        assert one(later).EchoTime == 2.0


def test_forget_warns_of_unsaved_edits(db, folder):
    """forget() deletes what xdicom keeps, after a warning, and no file of the user's."""
    files = folder_hash(folder)
    one(db).EchoTime = 7
    with pytest.warns(UserWarning, match="1 unsaved"):
        db.forget()
    assert not (folder / ".xdicom").exists()
    with xd.database(folder) as again:
        assert one(again).EchoTime == 2.0
    shutil.rmtree(folder / ".xdicom")
    assert folder_hash(folder) == files


def test_check_reports_orphans(db, folder):
    """check() tells of staged pixels that nothing refers to; the next edit removes them."""
    assert db.check() == []
    orphan = folder / ".xdicom" / "edits.zarr" / "orphan"
    orphan.mkdir(parents=True)
    assert [problem.path for problem in db.check()] == [str(orphan)]
    one(db).EchoTime = 7
    assert db.check() == []


# -- keys


def test_a_key_that_is_edited(db, folder):
    """Editing a key through a record re-keys it: the same handle, with what is in it."""
    patient = one(db).patient
    patient.PatientID = "P9"
    assert patient.key == ("P9",)
    assert len(patient.series()) == 2
    patient.save()
    with xd.database(folder) as again:
        assert [each.PatientID.item() for each in again.patients()] == ["P2", "P9"]


def test_a_key_that_exists(db):
    """Where the key exists both handles are equal and frames merge, until restore."""
    first, second = one(db), one(db, "b")
    first.SeriesInstanceUID = second.key[2]
    assert first == second
    assert hash(first) == hash(second)
    assert len(second.frames()) == 6
    assert len(second.study.series()) == 1
    first.restore()
    assert len(one(db).frames()) == len(one(db, "b").frames()) == 3


def test_a_handle_follows_its_restore(db):
    """A record that restores its own key is the record that it was."""
    series = one(db)
    key = series.key
    series.SeriesInstanceUID = "1.2.3"
    series.restore()
    assert series.key == key
    assert series.EchoTime == 2.0


def test_a_handle_without_frames_says_so(db):
    """A handle whose frames are gone raises, and does not come back as another's."""
    series = one(db)
    other = one(db)
    series.SeriesInstanceUID = "1.2.3"
    with pytest.raises(errors.RecordError, match="no frames any more"):
        other.frames()
    with pytest.raises(errors.RecordError, match="no frames any more"):
        other.EchoTime = 3


def test_one_instance_uid_for_several(db):
    """One SOPInstanceUID for several instances is refused."""
    with pytest.raises(errors.EditError, match="SOPInstanceUID"):
        one(db).SOPInstanceUID = "1.2.3"


# -- new records


def test_placeholders_are_named_and_stay(db, folder):
    """save() names new records without images; they stay unsaved, also after reopening."""
    patient = db.new_patient(PatientName="New^One")
    patient.PatientBirthDate = "2000-01-01"
    with pytest.warns(UserWarning, match="New One"):
        db.save()
    assert whats(db) == ["new, empty", "PatientBirthDate"]
    with xd.database(folder) as again:
        assert again.patients(PatientID="New One")[0].PatientBirthDate == "20000101"


def test_placeholders_end_with_the_save(db):
    """Once a new series is saved, new patient and study are in the files, and nothing is left staged."""
    study = db.new_patient(PatientName="New^One").new_study(StudyDescription="fresh")
    study.new_series().set_ndarray(np.ones((3, 2, 2)))
    study.save()
    assert db.status() == []
    assert db.patients(PatientID="New One")[0].StudyDescription == "fresh"


def test_placeholders_come_back(db):
    """When the last series of a new study is removed, the empty study is there again."""
    study = one(db).patient.new_study(StudyDescription="fresh")
    series = study.new_series()
    series.set_ndarray(np.ones((3, 2, 2)))
    series.remove()
    assert study.StudyDescription == "fresh"
    assert study.series() == []


def test_new_record_with_a_moved_key(db):
    """A new series may take the UID that another new series had before it was moved."""
    study = one(db).study
    first = study.new_series(SeriesInstanceUID="1.2.3", SeriesDescription="first")
    first.set_ndarray(np.ones((3, 2, 2)))
    first.SeriesInstanceUID = "1.2.4"
    second = study.new_series(SeriesInstanceUID="1.2.3", SeriesDescription="second")
    second.set_ndarray(np.full((3, 2, 2), 2))
    assert (first.SeriesDescription, second.SeriesDescription) == (["first"], ["second"])
    assert (first.ndarray().max(), second.ndarray().max()) == (1, 2)
    study.save()
    assert (first.ndarray().max(), second.ndarray().max()) == (1, 2)
