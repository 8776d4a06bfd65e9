"""Facts about xdicom.naming: UIDs, names that are safe everywhere, and paths that don't clash."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdicom.errors import SaveError
from xdicom.naming import Instance, Paths, folded, inside, is_uid, new_uid, safe_name, uid_digits


def instance(number=1, **tags) -> Instance:
    """Return an instance of an ordinary series."""
    given = {"patient": "P1", "study_uid": "1.1", "series_uid": "1.1.1", "sop_uid": f"1.1.1.{number}"}
    named = {"patient_id": "P1", "study_date": "20221119", "study_description": "MRI"}
    return Instance(
        **given | named | {"series_number": 3, "series_description": "T1", "instance_number": number} | tags
    )


# UIDs ----------------------------------------------------------------------------------------------------------------


def test_new_uid_is_valid_and_new():
    """A new UID is valid, starts with 2.25 and differs from the next."""
    uid = new_uid()
    assert is_uid(uid)
    assert uid.startswith("2.25.")
    assert uid != new_uid()


@pytest.mark.parametrize("text", ["", "1", "1..2", "1.02", "1.a", "1.2\n", "../1.2", "1." * 32 + "11", ".1.2", "1.2."])
def test_invalid_uids(text):
    """Leading zeros, empty components, letters, line ends and more than 64 characters make no UID."""
    assert not is_uid(text)


def test_digits_of_a_uid_are_always_the_same():
    """The digits depend on nothing but the UID."""
    assert uid_digits("1.2.3") == "02470b3a"


# safe_name -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Doe^Jane", "Doe^Jane"),
        ("T1 / T2", "T1 _ T2"),
        ("..", "unnamed"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\\b:c", "a_b_c"),
        (".hidden", "hidden"),
        (".xdicom", "xdicom"),
        ("dot. ", "dot"),
        ("line\r\nbreak\x00\x1b[31m", "line break[31m"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\ud800", "unnamed"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("Com1", "_Com1"),
        ("LPT\u00b9", "_LPT\u00b9"),
        ("console", "console"),
        ("  two   spaces ", "two spaces"),
        ("", "unnamed"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_safe_names(text, name):
    """What can't be in a name is left out or becomes an underscore."""
    assert safe_name(text) == name


@given(st.text(st.characters(codec=None), max_size=100), st.sampled_from(["", ".dcm"]))
def test_any_text_gives_a_safe_name(text, suffix):
    """Whatever the text, the name is one component of at most 64 bytes, NFC, and the same when made safe again."""
    name = safe_name(text, suffix=suffix)
    assert 0 < len(name.encode()) <= 64
    assert os.path.basename(name) == name not in (".", "..")
    assert unicodedata.is_normalized("NFC", name)
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert not set(name) & set('\\/:*?"<>|\0\n')
    assert suffix or safe_name(name) == name


def test_long_names_are_cut_between_characters():
    """A name of more than 64 bytes is cut, but not inside a character, and keeps its suffix."""
    assert safe_name("\u65e5" * 40) == "\u65e5" * 21
    assert safe_name("\u65e5" * 40, suffix=".dcm") == "\u65e5" * 20 + ".dcm"


@pytest.mark.skipif(os.name == "nt", reason="platform: POSIX file names")
@given(st.text(st.characters(codec=None), max_size=30))
def test_safe_names_can_be_encoded(text):
    """A safe name survives the way to the file system and back."""
    name = safe_name(text)
    assert os.fsdecode(name.encode()) == name


# Paths ---------------------------------------------------------------------------------------------------------------


def test_path_says_patient_study_series_and_number():
    """The path names the patient, date and description of the study, number and description of the series."""
    assert Paths().path(instance(7)) == "P1/20221119 MRI/3 T1/00007.dcm"


def test_path_without_tags():
    """Tags that are absent have names, too."""
    bare = Instance("", "1.1", "1.1.1", "1.1.1.1")
    assert Paths().path(bare) == "unknown patient/unknown study/unknown series/00000.dcm"


def test_series_of_one_name_get_digits():
    """The second series of a name gets eight digits of its UID's hash."""
    paths = Paths()
    paths.path(instance())
    other = instance(series_uid="1.1.2", sop_uid="1.1.2.1")
    assert paths.path(other) == f"P1/20221119 MRI/3 T1 {uid_digits('1.1.2')}/00001.dcm"


def test_instances_of_one_number_get_digits():
    """The second file of an InstanceNumber gets eight digits of its UID's hash."""
    paths = Paths()
    paths.path(instance(1))
    assert paths.path(instance(1, sop_uid="9.9")) == f"P1/20221119 MRI/3 T1/00001 {uid_digits('9.9')}.dcm"


def test_one_series_shares_its_folder():
    """Files of one series are in one folder."""
    paths = Paths()
    assert {paths.path(instance(n)).rpartition("/")[0] for n in range(1, 20)} == {"P1/20221119 MRI/3 T1"}


def test_names_are_compared_case_folded():
    """Patients "anna" and "Anna" don't share a folder, since some file systems take the names for one."""
    paths = Paths()
    paths.path(instance(patient="Anna", patient_id="Anna"))
    second = paths.path(instance(patient="anna", patient_id="anna", study_uid="2", series_uid="2.1", sop_uid="2.1.1"))
    assert second.startswith(f"anna {uid_digits('anna')}/")


def test_names_are_compared_normalised():
    """Composed and decomposed letters are one name."""
    assert folded("E\u0301") == folded("\u00e9")


def test_existing_files_keep_their_series_folder():
    """A new file of a series goes where its files of the same layout are."""
    paths = Paths([("P1/20221119 MRI/3 T1/00001.dcm", instance(1))])
    assert paths.path(instance(2)) == "P1/20221119 MRI/3 T1/00002.dcm"


def test_foreign_files_are_not_overwritten():
    """A path taken by a file that is no DICOM is not given out."""
    paths = Paths([("P1", None)])
    assert paths.path(instance()).startswith(f"P1 {uid_digits('P1')}/")


def test_folders_of_another_layout_are_not_shared():
    """A folder that holds files of several series belongs to none of them."""
    other = instance(2, series_uid="5", sop_uid="5.1")
    paths = Paths([("P1/20221119 MRI/3 T1/a", instance(1)), ("P1/20221119 MRI/3 T1/b", other)])
    assert paths.path(instance(3)) == f"P1/20221119 MRI/3 T1 {uid_digits('1.1.1')}/00003.dcm"


def test_same_instance_twice_ends_in_an_error():
    """An instance gets new digits until none are left; it never gets a path that is taken."""
    paths = Paths()
    given_out = [paths.path(instance()) for _ in range(5)]
    assert len(set(given_out)) == 5
    with pytest.raises(SaveError, match="no free name"):
        paths.path(instance())


@given(
    st.lists(st.tuples(*[st.sampled_from(["a", "A", "\u00df", "ss", "", ".."])] * 3, st.integers(0, 2)), max_size=12)
)
def test_paths_never_clash(tags):
    """However tags repeat, each instance gets a path of its own, and a folder is of one series."""
    paths, folders, given_out = Paths(), {}, set()
    for n, (patient, study, series, number) in enumerate(tags):
        study_uid, series_uid = f"{patient}-{study}", f"{patient}-{study}-{series}"
        path = paths.path(
            Instance(patient, study_uid, series_uid, str(n), patient, "", study, None, series, number),
        )
        assert folded(path) not in given_out
        assert folders.setdefault(folded(path.rpartition("/")[0]), series_uid) == series_uid
        given_out.add(folded(path))


def test_number_as_text():
    """An InstanceNumber that is no number is made safe."""
    assert Paths().path(instance(instance_number="../x")).endswith("/_x.dcm")


# inside --------------------------------------------------------------------------------------------------------------


def test_inside_gives_the_path(tmp_path):
    """A path inside the folder is given back."""
    assert inside(tmp_path, "a/b.dcm") == tmp_path / "a" / "b.dcm"


@pytest.mark.parametrize("relative", ["../x", "a/../../x", "/etc/passwd"])
def test_leaving_the_folder_raises(tmp_path, relative):
    """A path that leaves the folder raises."""
    with pytest.raises(SaveError, match="leads out"):
        inside(tmp_path, relative)


@pytest.mark.skipif(os.name == "nt", reason="platform: links need rights on Windows")
def test_leaving_the_folder_by_a_link_raises(tmp_path):
    """A link inside the folder to somewhere else raises."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(SaveError, match="leads out"):
        inside(tmp_path / "root", "link/x.dcm")
