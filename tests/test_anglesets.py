"""Facts about which series are taken to differ in flip angle only."""

import pytest
from factories import AXIAL, base_dataset, make_enhanced, make_report, make_series, uid

import xdicom as xd
from xdicom.anglesets import described, flip_angle_sets, passed_over
from xdicom.errors import RecordError

pytestmark = pytest.mark.usefixtures("collected")

TIMING = {"RepetitionTime": 15.0, "EchoTime": 2.0, "ScanningSequence": "GR"}


def add(folder, angle, name="", **options):
    """Write a series of one flip angle; the name tells series apart."""
    name = name or f"{angle:g} degrees"
    make_series(folder, name=name, **{"FlipAngle": angle, "SeriesNumber": int(angle), **TIMING, **options})


def turned(angle):
    """Return what gives an enhanced dataset a flip angle."""

    def change(ds):
        ds.SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence[0].FlipAngle = angle

    return change


def angles_of(folder):
    """Return the flip angles of each set in a folder."""
    return [[series.FlipAngle[0] for series in chosen] for chosen in flip_angle_sets(xd.database(folder))]


def test_series_alike_but_for_the_angle_belong_together(tmp_path):
    """Two series of a study make a set, in the order of angles, whatever that of series."""
    add(tmp_path, 20.0, SeriesNumber=1)
    add(tmp_path, 5.0, SeriesNumber=2)
    assert angles_of(tmp_path) == [[5.0, 20.0]]


def test_each_study_has_its_own_sets(tmp_path):
    """Series of two studies are never mixed."""
    for study in (1, 2):
        for angle in (5.0, 10.0):
            add(tmp_path, angle, f"{study} {angle}", StudyInstanceUID=uid("study", study))
    assert angles_of(tmp_path) == [[5.0, 10.0], [5.0, 10.0]]


@pytest.mark.parametrize(
    "other",
    [
        {"RepetitionTime": 20.0},
        {"EchoTime": 4.0},
        {"shape": (5, 5)},
        {"layout": AXIAL},
        {"slices": 4},
        {"FrameOfReferenceUID": uid("another")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_was_acquired_otherwise_does_not_belong(tmp_path, other):
    """A series with another timing, matrix, orientation, extent or frame of reference is left out of the set."""
    add(tmp_path, 5.0)
    add(tmp_path, 10.0)
    add(tmp_path, 15.0, **other)
    assert angles_of(tmp_path) == [[5.0, 10.0]]


@pytest.mark.parametrize(
    "other",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
        {"ScanningSequence": "SE"},
        {"ScanningSequence": ["GR", "IR"]},
        {"RepetitionTime": None},
        {"ImagePositionPatient": None},
        {"dims": {"TemporalPositionIdentifier": [1, 2]}},
        {"dims": {"EchoTime": [2.0, 4.0]}},
    ],
    ids=["phase", "spin echo", "inversion", "no TR", "no position", "two repetitions", "two echoes"],
)
def test_what_cannot_serve_is_passed_over(tmp_path, other):
    """Phase, spin echo, inversion, repetitions, echoes, and series without timing or geometry make no set."""
    add(tmp_path, 5.0)
    add(tmp_path, 10.0)
    add(tmp_path, 15.0, **other)
    db = xd.database(tmp_path)
    sets = flip_angle_sets(db)
    assert [[series.FlipAngle[0] for series in chosen] for chosen in sets] == [[5.0, 10.0]]
    assert [series.FlipAngle for series in passed_over(db, sets)] == [[15.0]]


def test_the_first_of_two_series_with_one_angle_is_taken(tmp_path):
    """A repeated series does not make the grid ambiguous."""
    add(tmp_path, 5.0)
    add(tmp_path, 10.0, "first", SeriesNumber=3)
    add(tmp_path, 10.0, "second", SeriesNumber=2)
    (chosen,) = flip_angle_sets(xd.database(tmp_path))
    assert [series.SeriesNumber for series in chosen] == [[5], [2]]


def test_orientations_that_differ_by_rounding_are_the_same(tmp_path):
    """The 10th digit of a direction cosine is no other geometry, nor is -0.0."""
    add(tmp_path, 5.0, layout=AXIAL)
    add(tmp_path, 10.0, layout=AXIAL, ImageOrientationPatient=[1, -2.05e-10, -0.0, 2.05e-10, 1, 0])
    assert angles_of(tmp_path) == [[5.0, 10.0]]


def test_a_broken_copy_of_an_image_does_not_count(tmp_path):
    """Half a file beside the whole one leaves its series in the set."""
    add(tmp_path, 5.0, shape=(40, 40))
    add(tmp_path, 10.0, shape=(40, 40))
    whole = next(tmp_path.glob("5 degrees*")).read_bytes()
    (tmp_path / "half.dcm").write_bytes(whole[: len(whole) // 2])
    assert angles_of(tmp_path) == [[5.0, 10.0]]


def test_other_objects_do_not_disturb(tmp_path):
    """A structured report in the study is no series of images."""
    add(tmp_path, 5.0)
    add(tmp_path, 10.0)
    make_report(tmp_path / "report.dcm", StudyInstanceUID=base_dataset().StudyInstanceUID)
    assert angles_of(tmp_path) == [[5.0, 10.0]]


def test_enhanced_files_serve_as_well(tmp_path):
    """Flip angles and timing in functional groups are found."""
    for angle in (5.0, 10.0):
        make_enhanced(
            tmp_path / f"{angle}.dcm", name=f"{angle}", dims={"EffectiveEchoTime": [2.0]}, change=turned(angle)
        )
    assert angles_of(tmp_path) == [[5.0, 10.0]]


def test_where_there_is_none_the_error_names_what_there_is(tmp_path):
    """The error says what is needed, and which series with which angles and timing were found."""
    add(tmp_path, 5.0, RepetitionTime=20.0)
    add(tmp_path, 10.0)
    with pytest.raises(RecordError) as caught:
        angles_of(tmp_path)
    text = str(caught.value)
    assert "FlipAngle, which T1 needs" in text
    assert "5 series 5 degrees (flip angle: 5; TR: 20; TE: 2)" in text
    assert "10 series 10 degrees (flip angle: 10; TR: 15; TE: 2)" in text


def test_the_error_names_a_dozen_series_at_most(tmp_path):
    """A folder of many series gives a text that can be read."""
    for number in range(14):
        add(tmp_path, 5.0, f"s{number}", slices=1, RepetitionTime=15.0 + number)
    with pytest.raises(RecordError, match=r"and 2 more$"):
        angles_of(tmp_path)


def test_an_empty_folder_says_so(tmp_path):
    """Without any DICOM the error asks for another folder."""
    with pytest.raises(RecordError, match="no DICOM series here"):
        angles_of(tmp_path)


def test_a_series_without_tags_can_be_described(tmp_path):
    """Absent description, number and angle are no error."""
    make_series(tmp_path, SeriesDescription=None, SeriesNumber=None)
    assert described(xd.database(tmp_path).series()[0]) == "(no description) (no FlipAngle)"
