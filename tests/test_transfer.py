"""New, copied, moved and removed records: in one database and between two, with UIDs, patient and study, and pixels."""

import gc

import numpy as np
import pydicom
import pytest
from conftest import folder_hash
from factories import make_enhanced, make_report, make_series, uid
from pydicom.uid import RLELossless

import xdicom as xd
from xdicom import errors

OTHER = {
    "PatientID": "P2",
    "PatientName": "Roe^Richard",
    "PatientBirthDate": None,
    "PatientSex": "M",
    "StudyInstanceUID": uid("other"),
    "StudyDescription": "The other",
    "AccessionNumber": None,
}


@pytest.fixture
def folder(tmp_path):
    """Two patients: the first with two series of three slices in a study, the second with one."""
    for name in "ab":
        make_series(tmp_path / "data" / name, 3, name=name, PatientWeight=70.0)
    make_series(tmp_path / "data" / "c", 3, name="c", **OTHER)
    return tmp_path / "data"


@pytest.fixture
def db(folder):
    """The folder, open."""
    with xd.database(folder) as database:
        yield database
    gc.collect()


@pytest.fixture
def second(tmp_path):
    """Another folder, with one series of a third patient."""
    make_series(tmp_path / "second", 2, name="d", PatientID="P3", StudyInstanceUID=uid("third"))
    with xd.database(tmp_path / "second") as database:
        yield database
    gc.collect()


def one(db, name="a"):
    """Return a series by the name that the factory gave it."""
    return next(series for series in db.series() if series.key[2] == uid("series", name))


def paths(folder):
    """Return the DICOM files of a folder."""
    return sorted(path for path in folder.rglob("*.dcm"))


# -- copies


def test_a_copied_series(db, folder):
    """A copy has new UIDs, the patient and study of its place, and the same pixels and tags otherwise."""
    source, target = one(db), one(db, "c").study
    copy = source.copy_to(target)
    assert copy.study == target
    assert copy.PatientName == "Roe^Richard"
    assert copy.StudyDescription == "The other"
    assert copy.SeriesDescription == source.SeriesDescription
    assert set(copy.SOPInstanceUID).isdisjoint(source.SOPInstanceUID)
    assert np.array_equal(copy.ndarray(), source.ndarray())
    db.save()
    assert len(paths(folder)) == 12
    assert np.array_equal(copy.ndarray(), source.ndarray())


def test_what_the_other_patient_lacks(db):
    """Of the source's patient and study nothing is left that the target does not say; type 2 elements are empty."""
    copy = one(db).copy_to(one(db, "c").study)
    assert copy[["PatientBirthDate", "PatientWeight", "AccessionNumber"]] == [[None], [], [None]]


def test_a_copied_study(db):
    """A copied study has all series under new UIDs."""
    study, patient = one(db).study, one(db, "c").patient
    copy = study.copy_to(patient)
    assert copy.patient == patient
    assert copy.key[1] != study.key[1]
    assert copy.StudyDescription == study.StudyDescription
    assert copy.PatientName == "Roe^Richard"
    assert len(copy.series()) == 2


def test_a_copied_patient(db):
    """A patient copied within a database gets another PatientID."""
    patient = one(db).patient
    copy = patient.copy_to(db)
    assert copy.key != patient.key
    assert copy.PatientName == patient.PatientName
    assert len(copy.series()) == 2
    assert len(db.series()) == 5


@pytest.mark.parametrize("level", ["patient", "study", "series"])
def test_copies_into_another_database(db, second, level):
    """Copies into another database are there, before and after saving it, and the source is as it was."""
    source, target = one(db), second.series()[0]
    before = folder_hash(db._store.root)
    if level == "series":
        copy = source.copy_to(target.study)
    else:
        copy = getattr(source, level).copy_to(target.patient if level == "study" else second)
    assert copy.database == second
    # Frames of equal numbers come in the order of their UIDs, which are new.
    expected = np.sort((source if level == "series" else getattr(source, level)).ndarray())
    assert np.array_equal(np.sort(copy.ndarray()), expected)
    second.save()
    assert second.status() == []
    assert np.array_equal(np.sort(copy.ndarray()), expected)
    assert folder_hash(db._store.root) == before
    assert db.status() == []


def test_a_copy_outlives_its_source(db, second):
    """A copy that is not saved yet is readable after its source is gone from the other folder."""
    source = one(db)
    values = source.ndarray()
    copy = source.copy_to(second.series()[0].study)
    source.remove()
    db.save()
    assert np.array_equal(copy.ndarray(), values)
    second.save()
    assert np.array_equal(copy.ndarray(), values)


@pytest.mark.parametrize("how", ["edited", "removed", "new pixels"])
def test_a_copy_outlives_a_save_of_its_source(db, how):
    """A copy that is not saved yet is readable after its source was saved: edited, removed or with new pixels."""
    source = one(db)
    values = source.ndarray()
    copy = source.copy_to(one(db, "c").study)
    if how == "edited":
        source.PatientName = "A much longer name than before"
    elif how == "removed":
        source.remove()
    else:
        source.set_ndarray(values * 0)
    one(db, "b").study.save()
    assert copy.status() != []
    assert np.array_equal(copy.ndarray(), values)
    copy.save()
    assert np.array_equal(copy.ndarray(), values)


def test_compressed_pixels_are_copied_as_they_are(tmp_path):
    """A copy of compressed images holds the same bytes of pixels."""
    made = make_series(tmp_path / "data", 2, compress=RLELossless)
    with xd.database(tmp_path / "data") as db:
        part = db.series()[0].subseries(InstanceNumber=1)
        part.save()
        path = tmp_path / "data" / part.frames().files.paths[0].decode()
        source, copy = pydicom.dcmread(made.files[0]), pydicom.dcmread(path)
        assert copy.PixelData == source.PixelData
        assert copy.file_meta.TransferSyntaxUID == RLELossless


def test_objects_without_pixels_are_copied(tmp_path):
    """A report is copied with its content."""
    make_report(tmp_path / "data" / "report.dcm", text="No finding.")
    with xd.database(tmp_path / "data") as db, xd.database() as memory:
        copy = db.series()[0].copy_to(memory.new_patient(PatientName="A").new_study())
        assert copy.ContentSequence[0][0]["TextValue"] == "No finding."
        copy.save(tmp_path / "copies")
        assert pydicom.dcmread(paths(tmp_path / "copies")[0]).ContentSequence[0].TextValue == "No finding."


def test_enhanced_files_are_copied_whole(tmp_path):
    """A copy of an enhanced file is one file with all frames."""
    make_enhanced(tmp_path / "data" / "enhanced.dcm", 3)
    with xd.database(tmp_path / "data") as db:
        series = db.series()[0]
        copy = series.copy_to(series.study)
        db.save()
        assert len(paths(tmp_path / "data")) == 2
        assert np.array_equal(copy.ndarray(), series.ndarray())


@pytest.mark.parametrize("names", [("Müller^Jörg", "山田^太郎"), ("山田^太郎", "Müller^Jörg")])
def test_names_in_other_character_sets(tmp_path, names):
    """Patient and series keep their text where a copy or a move brings character sets together, or it raises."""
    sets = {"Müller^Jörg": "ISO_IR 100", "山田^太郎": "ISO_IR 192"}
    for name, patient in zip("ab", names, strict=True):
        keys = {"PatientID": patient, "PatientName": patient, "StudyInstanceUID": uid(name)}
        make_series(tmp_path / "data" / name, 2, name=name, SpecificCharacterSet=sets[patient], **keys)
    with xd.database(tmp_path / "data") as db:
        source, target = one(db), one(db, "b")
        copy = source.copy_to(target.study)
        assert copy.PatientName == names[1]
        source.move_to(target.study)
        assert source.PatientName == names[1]
        db.save()
        assert db.PatientName == [names[1]]
        assert {str(pydicom.dcmread(path).PatientName) for path in paths(tmp_path / "data")} == {names[1]}


# -- moves


def test_a_moved_series(db, folder):
    """A moved series is in its new study only, keeps its UIDs and files, and its handle follows."""
    series, target = one(db), one(db, "c").study
    uids, files = series.SOPInstanceUID, paths(folder)
    series.move_to(target)
    assert series.study == target
    assert series.PatientName == "Roe^Richard"
    assert series.PatientWeight == []
    assert series.SOPInstanceUID == uids
    assert len(db.series()) == 3
    db.save()
    assert paths(folder) == files
    assert pydicom.dcmread(files[0]).PatientName == "Roe^Richard"


def test_a_moved_study(db):
    """A moved study takes its series along."""
    study, patient = one(db).study, one(db, "c").patient
    study.move_to(patient)
    assert study.patient == patient
    assert len(patient.studies()) == 2
    assert len(db.patients()) == 1
    assert study.StudyDescription == "Made for tests"


def test_moved_there_and_back(db):
    """A series that is moved away and back is not edited."""
    series = one(db)
    study = series.study
    series.move_to(one(db, "c").study)
    series.move_to(study)
    assert db.status() == []


@pytest.mark.parametrize("which", ["source", "target"])
def test_restore_puts_back_once(db, which):
    """Restoring either study after moving a series puts it back once."""
    series, home, away = one(db), one(db).study, one(db, "c").study
    series.move_to(away)
    (home if which == "source" else away).restore()
    assert len(db.series()) == 3
    assert len(home.series()) == 2
    assert len(away.series()) == 1
    assert db.status() == []


def test_restore_puts_new_pixels_back_once(db):
    """New pixels of a series that was moved go with it when its first study is restored."""
    series, home = one(db), one(db).study
    values = series.ndarray()
    series.set_ndarray(values * 0)
    series.move_to(one(db, "c").study)
    home.restore()
    assert np.array_equal(one(db).ndarray(), values)
    assert len(db.frames()) == 9
    assert db.status() == []


def test_a_new_series_that_moved_is_not_its_first_studys(db):
    """Restoring a study leaves alone a new series that was moved out of it."""
    home, away = one(db).study, one(db, "c").study
    made = home.new_series(SeriesDescription="made")
    made.set_ndarray(np.ones((5, 6, 1)))
    made.move_to(away)
    home.restore()
    assert made.study == away
    assert made.SeriesDescription == "made"


def test_save_of_new_pixels_in_another_study(db, folder):
    """Saving the study to which new pixels were moved writes them into the file that they replace."""
    series, away = one(db), one(db, "c").study
    series.set_ndarray(np.zeros((5, 6, 3), np.int16))
    series.move_to(away)
    away.save()
    assert len(paths(folder)) == 9
    assert series.ndarray().max() == 0
    assert db.status() == []


@pytest.mark.parametrize("level", ["patient", "study", "series"])
def test_moves_into_another_database(db, second, level):
    """What is moved into another database keeps its UIDs there, and is gone here; restore brings it back here."""
    source, target = one(db), second.series()[0]
    record = source if level == "series" else getattr(source, level)
    uids, values = record.SOPInstanceUID, record.ndarray()
    record.move_to({"series": target.study, "study": target.patient, "patient": second}[level])
    assert record.database == second
    assert record.SOPInstanceUID == uids
    assert uid("series", "a") not in [each.key[2] for each in db.series()]
    db.save()
    second.save()
    assert record.SOPInstanceUID == uids
    assert np.array_equal(record.ndarray(), values)


# -- removal


@pytest.mark.parametrize(("level", "left"), [("series", 6), ("study", 3), ("patient", 3), ("database", 0)])
def test_removal(db, folder, level, left):
    """What is removed is gone at once, its files with the save; restore takes it back before."""
    series = one(db)
    record = series if level == "series" else getattr(series, level)
    record.remove()
    assert len(db.frames()) == left
    db.restore()
    assert len(db.frames()) == 9
    one(db).study.restore()
    record.remove()
    db.save()
    assert len(paths(folder)) == left
    assert len(db.frames()) == left


def test_removal_behind_new_pixels(db, folder):
    """A series whose pixels were replaced is removed with the files that they would have replaced."""
    series = one(db)
    series.set_ndarray(series.ndarray() * 0)
    series.remove()
    db.save()
    assert len(paths(folder)) == 6
    assert len(db.series()) == 2


# -- subseries, split, merge


def test_subseries_without_a_match(db):
    """No match raises with what there is, and makes no series."""
    with pytest.raises(errors.RecordError, match="InstanceNumber"):
        one(db).subseries(InstanceNumber=99)
    assert db.status() == []


def test_split(tmp_path):
    """Split makes one series for each combination of values, in their order."""
    make_series(tmp_path / "data", 2, {"FlipAngle": [20.0, 5.0], "EchoTime": [1.0, 2.0]})
    with xd.database(tmp_path / "data") as db:
        parts = db.series()[0].split("FlipAngle", "EchoTime")
        assert [(part.FlipAngle.item(), part.EchoTime.item()) for part in parts] == [
            (5.0, 1.0),
            (5.0, 2.0),
            (20.0, 1.0),
            (20.0, 2.0),
        ]
        assert all(part.study == db.studies()[0] for part in parts)


def test_merge_between_databases(db, second):
    """Merging series of two databases copies into the first's study."""
    merged = xd.merge([one(db), second.series()[0]])
    assert len(merged.frames()) == 5
    assert merged.study == one(db).study
    assert merged.PatientID == "P1"


# -- new records


def test_new_records_inherit(db):
    """A new study has its patient's tags, a new series those of its study, and both the values given."""
    study = one(db, "c").patient.new_study(StudyDescription="fresh")
    series = study.new_series(SeriesDescription="made")
    assert series[["PatientName", "PatientSex", "StudyDescription"]] == [["Roe^Richard"], ["M"], ["fresh"]]
    assert series.SeriesNumber == 1
    assert study.new_series().SeriesNumber == 2


def test_new_records_below_another(db):
    """A key that contradicts the parent's is refused, and so is one that exists."""
    study = one(db).study
    with pytest.raises(errors.EditError, match="P9"):
        study.new_series(PatientID="P9")
    with pytest.raises(errors.EditError, match="already"):
        study.new_series(SeriesInstanceUID=uid("series", "a"))
    with pytest.raises(errors.UnknownTagError):
        study.new_series(SeriesDescripton="typo")
    assert db.status() == []
