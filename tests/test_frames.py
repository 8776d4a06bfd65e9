"""The table of frames: values by tag, decoded once, whatever rows are taken or joined."""

from pathlib import Path

import numpy as np
import pytest
from factories import make_enhanced, make_report, make_series, uid
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from xdicom.columns import Column
from xdicom.errors import PixelError, UnknownTagError
from xdicom.frames import ATTRIBUTES, Attribute, Files, Frames
from xdicom.scan import Scanner

ECHO, FLIP, NAME, POSITION = 0x00180081, 0x00181314, 0x00100010, 0x00200032


def table(folder: Path, *paths: Path) -> Frames:
    """Return the rows of files of one series."""
    return tables(folder, *paths)[0]


def tables(folder: Path, *paths: Path) -> list[Frames]:
    """Return one table a series."""
    names = [bytes(path.relative_to(folder)) for path in paths]
    scanner = Scanner(bytes(folder), names)
    scanner.scan(range(len(names)))
    stamps = np.array([scanner.outcomes[i].stamp for i in range(len(names))], np.int64).reshape(-1, 3)
    files = Files(bytes(folder), names, stamps)
    return [Frames(files, *found) for found in scanner.tables().values()]


def of_values(values: list[str | None], tag: int = ECHO, vr: str = "DS") -> Frames:
    """Return a table of one column without files."""
    known = sorted({value for value in values if value is not None})
    codes = np.array([-1 if value is None else known.index(value) for value in values], np.int32)
    count = len(values)
    columns = {tag: Column([(vr, value.encode()) for value in known], codes)} if known else {}
    nothing, wide = np.zeros(count, np.int32), np.full(count, -1, np.int64)
    files = Files(b"", [b"x"], np.zeros((1, 3), np.int64))
    return Frames(files, nothing, nothing, wide, wide, columns)


@pytest.fixture
def frames(tmp_path: Path) -> Frames:
    """Two echoes of three slices."""
    return table(tmp_path, *make_series(tmp_path, 3, {"EchoTime": [1.5, 20]}).files)


# -- values


def test_values_are_one_a_row(frames: Frames) -> None:
    """In the order of rows."""
    assert frames.values("EchoTime").tolist() == [1.5] * 3 + [20] * 3
    assert frames[ECHO].tolist() == frames.values((0x0018, 0x0081)).tolist()


def test_multi_valued_numbers_are_columns(frames: Frames) -> None:
    """A position is three numbers a row."""
    assert frames.values("ImagePositionPatient").shape == (6, 3)


def test_distinct_values_are_ascending(frames: Frames) -> None:
    """Each once."""
    assert frames.unique("EchoTime") == [1.5, 20]
    assert frames.unique("PatientName") == ["Doe^Jane"]


def test_absent_tag_has_no_values(frames: Frames) -> None:
    """Not an error: NaN a row, and nothing distinct."""
    assert frames.unique("InversionTime") == []
    assert np.isnan(frames.values("InversionTime")).all()


def test_present_and_empty_is_none(frames: Frames) -> None:
    """AccessionNumber is there without a value."""
    assert frames.unique("AccessionNumber") == [None]


@pytest.mark.parametrize("name", ["EchoTim", "echo_time", "NoSuchTag"])
def test_typos_raise(frames: Frames, name: str) -> None:
    """No answer to a name that is none."""
    with pytest.raises(UnknownTagError):
        frames.values(name)


def test_values_equal_but_for_padding_are_one() -> None:
    """'20' and '20.0' are the same echo time."""
    frames = of_values(["20", "20.0 ", "1"])
    assert frames.unique(ECHO) == [1, 20]
    assert frames.column(ECHO)[1].tolist() == [frames.column(ECHO)[1][1]] * 2 + [frames.column(ECHO)[1][2]]


def test_missing_numbers_are_nan_and_missing_text_empty() -> None:
    """A row without the element."""
    assert np.isnan(of_values(["1", None])[ECHO][1])
    assert of_values(["a", None], NAME, "PN")[NAME].tolist() == ["a", ""]


def test_lists_are_told_apart_by_content(tmp_path: Path) -> None:
    """A sequence is a list of dicts by keyword."""
    item = Dataset()
    item.CodeValue = "1"
    made = make_series(tmp_path, 2, change=lambda ds, i: setattr(ds, "ProcedureCodeSequence", [item]))
    frames = table(tmp_path, *made.files)
    assert frames.unique("ProcedureCodeSequence") == [[{"CodeValue": "1"}]]


@pytest.mark.parametrize(("charset", "expected"), [("ISO_IR 100", "Dö"), ("ISO_IR 192", "Dö")])
def test_text_is_decoded_by_its_own_charset(tmp_path: Path, charset: str, expected: str) -> None:
    """Also where it differs from row to row."""

    def change(dataset: Dataset, index: int) -> None:
        dataset.SpecificCharacterSet = charset if index else "ISO_IR 101"
        dataset.PatientName = expected

    frames = table(tmp_path, *make_series(tmp_path, 2, change=change).files)
    assert frames.unique("PatientName") == [expected]


def test_text_is_decoded_anew_where_its_character_set_is_replaced(tmp_path: Path) -> None:
    """What was decoded before is not taken over then, but is where another column is replaced."""
    frames = table(tmp_path, *make_series(tmp_path, 2, SpecificCharacterSet="ISO_IR 100", PatientName="Dö").files)
    assert frames.unique("PatientName") == ["Dö"]
    assert frames.with_columns({0x00104000: Column([("LT", b"x ")])}).unique("PatientName") == ["Dö"]
    assert frames.with_columns({0x00080005: Column([("CS", b"ISO_IR 144")])}).unique("PatientName") == ["D\u0456"]
    assert frames.with_columns({0x00100010: Column([("PN", b"D\xe4")])}).unique("PatientName") == ["Dä"]


def test_private_element_is_found_by_its_creator(tmp_path: Path) -> None:
    """Wherever its block lies in each file."""

    def change(dataset: Dataset, index: int) -> None:
        block = 0x10 + index
        for other in range(0x10, block + 1):
            dataset.add_new(0x00290000 | other, "LO", "FACTORY" if other == block else "OTHER")
        dataset.add_new(0x00290000 | block << 8 | 0x0C, "LO", f"v{index}")

    frames = table(tmp_path, *make_series(tmp_path, 3, change=change).files)
    assert frames.values(("FACTORY", 0x0029, 0x0C)).tolist() == ["v0", "v1", "v2"]


def test_attributes_are_asked_like_tags(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered name computes its values from the rows."""
    monkeypatch.setitem(ATTRIBUTES, "twice", Attribute(lambda rows: (2 * rows[ECHO]).tolist()))
    assert frames.unique("twice") == [3, 40]


def test_per_frame_values_of_an_enhanced_file(tmp_path: Path) -> None:
    """Functional groups are columns like any other."""
    frames = table(tmp_path, *make_enhanced(tmp_path / "e.dcm", 2, {"FlipAngle": [5, 10]}).files)
    assert frames["FlipAngle"].tolist() == [5, 5, 10, 10]
    assert frames["SliceLocation"].shape == (4,)


def test_frame_without_its_own_value_has_the_files(tmp_path: Path) -> None:
    """Per-frame groups lie over the elements of the file."""

    def partly(dataset: Dataset) -> None:
        dataset.FlipAngle = 77
        for item in list(dataset.PerFrameFunctionalGroupsSequence)[2:]:
            del item.MRTimingAndRelatedParametersSequence

    frames = table(tmp_path, *make_enhanced(tmp_path / "e.dcm", 2, {"FlipAngle": [5, 10]}, change=partly).files)
    assert frames["FlipAngle"].tolist() == [5, 5, 77, 77]


# -- rows


_COLUMN = st.lists(st.sampled_from([None, "1", "2", "3.5"]), min_size=1, max_size=10)


def plain(frames: Frames) -> list[float | None]:
    """Return the decoded value of each row."""
    distinct, codes = frames.column(ECHO)
    return [None if code < 0 else distinct[code] for code in codes.tolist()]  # type: ignore[misc]


@given(_COLUMN, st.data())
def test_rows_taken_keep_their_values(values: list[str | None], data: st.DataObject) -> None:
    """In any order, twice too."""
    frames = of_values(values)
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=8))
    assert plain(frames.take(rows)) == [plain(frames)[row] for row in rows]


@given(st.lists(_COLUMN, min_size=1, max_size=4))
def test_joined_tables_keep_their_values(parts: list[list[str | None]]) -> None:
    """One after the other."""
    joined = Frames.concat([of_values(part) for part in parts])
    assert plain(joined) == [value for part in parts for value in plain(of_values(part))]


def test_tables_of_other_folders_are_joined(tmp_path: Path) -> None:
    """Paths become absolute where the roots differ."""
    parts = [table(tmp_path / name, *make_series(tmp_path / name, 2, name=name).files) for name in "ab"]
    joined = Frames.concat(parts)
    paths = [joined.files.paths[file] for file in joined.file]
    assert [joined.files.root + path if joined.files.root else path for path in paths] == [
        bytes(tmp_path / name / f"{name}_{number:05d}.dcm") for name in "ab" for number in (1, 2)
    ]


def test_empty_table() -> None:
    """No rows, no tags."""
    frames = Frames.empty()
    assert (len(frames), frames.tags(), len(Frames.concat([frames, frames]))) == (0, [], 0)


def test_columns_can_be_replaced_and_removed(frames: Frames) -> None:
    """In a table of its own."""
    changed = frames.with_columns({ECHO: Column([("DS", b"7 ")]), NAME: None})
    assert (changed.unique(ECHO), changed.unique(NAME)) == ([7], [])
    assert frames.unique(ECHO) == [1.5, 20]


# -- pixels


def test_locations_read_every_frame(tmp_path: Path) -> None:
    """The table knows where pixels are, and what they mean."""
    made = make_series(tmp_path, 3, slope=2.0, intercept=-5.0)
    frames = table(tmp_path, *made.files)
    out = np.zeros((3, 6, 5), np.float64)
    frames.locations.read(np.arange(3), out)
    assert np.array_equal(out, made.values.reshape(3, 6, 5))


def test_rows_of_several_formats_each_have_their_own(tmp_path: Path) -> None:
    """Matrix and rescale may differ from row to row."""
    first = make_series(tmp_path, 2, slope=2.0).files
    second = make_series(tmp_path / "x", 2, shape=(3, 3), slope=4.0).files
    frames = table(tmp_path, *first, *second)
    assert len(frames.locations.formats) == 2
    assert sorted({scale.slope for scale in frames.locations.rescales}) == [2, 4]


def test_objects_without_pixels_say_what_they_are(tmp_path: Path) -> None:
    """With their class and file."""
    frames = table(tmp_path, make_report(tmp_path / "report.dcm"))
    with pytest.raises(PixelError, match=r"Basic Text SR Storage, report\.dcm.*no image"):
        frames.check_pixels()
    assert len(frames.images()) == 0


def test_images_are_told_from_other_objects(tmp_path: Path) -> None:
    """In one series."""
    made = make_series(tmp_path, 2, name="report")
    report = make_report(tmp_path / "report.dcm")
    frames = table(tmp_path, report, *made.files)
    assert (len(frames), len(frames.images())) == (3, 2)
    assert frames.unique("SeriesInstanceUID") == [uid("series", "report")]


def test_readable_pixels_pass(frames: Frames) -> None:
    """Nothing is raised."""
    frames.check_pixels()
