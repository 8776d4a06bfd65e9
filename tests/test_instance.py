"""One file as rows: frames counted and located, functional groups as columns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from encapsulations import NEXT, encapsulated, extended, rle, rle_halves
from factories import base_dataset, make_enhanced, make_report, make_series, set_pixels, uid, write
from faults import FAULTS
from headers import read
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from rawdicom import FRAME, changed

from xdicom.instance import (
    ECHO_TIME,
    SLICE_LOCATION,
    Instance,
    length_problem,
    native_frame_bits,
    number_of_frames,
    read_instance,
    relocate,
    uid_hash,
)
from xdicom.source import Source

POSITION, FLIP, SPACING, SLOPE, ROWS = 0x00200032, 0x00181314, 0x00280030, 0x00281053, 0x00280010

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"


def instance(path: Path) -> Instance:
    """Return the rows of a file."""
    return read_instance(read(path))


def made(folder: Path, content: bytes) -> Path:
    """Write bytes into a file."""
    path = folder / "file.dcm"
    path.write_bytes(content)
    return path


# -- where frames are


@pytest.mark.parametrize(
    ("raw", "count"), [(b"", 1), (b"  ", 1), (b"12", 12), (b"7 ", 7), (b"\0", 1), (b"x", 0), (b"1.5", 0), (b"-3", -3)]
)
def test_number_of_frames(raw: bytes, count: int) -> None:
    """Absent or empty is one; junk is none."""
    assert number_of_frames(raw) == count


@pytest.mark.parametrize(
    ("length", "readable", "problem"),
    [
        (60, True, ""),
        (61, True, ""),
        (70, True, "the surplus is passed over"),
        (59, False, "pixels cannot be read"),
        (90, False, "the matrix must be wrong"),
        (120, False, "the matrix must be wrong"),
    ],
)
def test_length_is_held_against_the_header(length: int, readable: bool, problem: str) -> None:
    """Two frames of 30 bytes."""
    assert length_problem(length, 240, 2)[0] is readable
    assert problem in length_problem(length, 240, 2)[1]


def test_subsampled_colour_takes_two_samples() -> None:
    """YBR_FULL_422 has one Cb and one Cr for two Y."""
    assert native_frame_bits((4, 6, 3, 8), b"YBR_FULL_422") == 4 * 6 * 2 * 8
    assert native_frame_bits((4, 6, 3, 8), b"RGB ") == 4 * 6 * 3 * 8


def test_native_frames_follow_each_other(tmp_path: Path) -> None:
    """Every frame lies at its multiple of the frame's size."""
    series = make_enhanced(tmp_path / "e.dcm", 4)
    found = instance(series.files[0])
    content = series.files[0].read_bytes()
    frames = [content[start : start + size] for start, size in zip(found.offsets, found.lengths, strict=True)]
    assert frames == [frame.tobytes() for frame in series.stored.reshape(-1, 6, 5)]


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_compressed_frames_are_what_was_encoded(tmp_path: Path, syntax: str) -> None:
    """Each frame's bytes hold its fragment behind an item header."""
    path = make_enhanced(tmp_path / "e.dcm", 3, compress=RLELossless).files[0]
    header = read(path)
    found = read_instance(header)
    assert [offset + 8 for offset in found.offsets] == [start for start, _ in header.fragments[1:]]
    assert [size - 8 for size in found.lengths] == [size for _, size in header.fragments[1:]]


@pytest.mark.parametrize(
    ("offsets", "more"),
    [([0, NEXT + 8], {}), ([], {"t7fe00001": ("OV", np.array([0, NEXT + 8], "<u8").tobytes())})],
    ids=["basic", "extended"],
)
def test_offset_tables_tell_which_fragments_are_a_frame(
    tmp_path: Path, offsets: list[int], more: dict[str, tuple[str, bytes]]
) -> None:
    """Two frames of two fragments each."""
    content = encapsulated(offsets, rle_halves(), **more)
    header = read(made(tmp_path, content))
    found = read_instance(header)
    assert [offset + 8 for offset in found.offsets] == [header.fragments[1][0], header.fragments[3][0]]
    assert found.lengths == [len(rle(FRAME)) + 16] * 2


@pytest.mark.parametrize(
    ("offsets", "more"),
    [([0, 3], {}), ([0, NEXT + 8, NEXT + 9], {}), ([NEXT + 8, 0], {}), ([0, 0], {}), ([], {}), ([], extended(0, 5))],
)
def test_offset_tables_that_do_not_fit_are_not_believed(
    tmp_path: Path, offsets: list[int], more: dict[str, tuple[str, bytes]]
) -> None:
    """Nothing is guessed where fragments outnumber frames."""
    found = instance(made(tmp_path, encapsulated(offsets, rle_halves(), **more)))
    assert found.offsets == [-1, -1]
    assert found.problems == ["4 fragments hold 2 frames and no offset table tells which: pixels cannot be read"]


def test_wrong_table_does_not_matter_where_fragments_are_frames(tmp_path: Path) -> None:
    """As many fragments as frames need no table."""
    found = instance(made(tmp_path, encapsulated([0, 3], [rle(FRAME)] * 2)))
    assert found.problems == []
    assert found.offsets[1] - found.offsets[0] == NEXT


def test_objects_without_pixels_are_one_row(tmp_path: Path) -> None:
    """Without a location."""
    found = instance(make_report(tmp_path / "r.dcm"))
    assert (found.offsets, found.has_pixels, found.problems) == ([-1], False, [])


def test_truncated_pixels_have_rows_without_location(tmp_path: Path) -> None:
    """The header is usable, the pixels are not guessed."""
    path = make_enhanced(tmp_path / "e.dcm", 3).files[0]
    path.write_bytes(path.read_bytes()[:-10])
    found = instance(path)
    assert found.offsets == [-1, -1, -1]
    assert "truncated" in found.problems[0]


# -- functional groups


def test_frame_values_are_columns(tmp_path: Path) -> None:
    """Shared macros give every frame a value, others each its own."""
    path = make_enhanced(tmp_path / "e.dcm", 2, {"FlipAngle": [5, 10]}).files[0]
    columns = instance(path).columns
    assert [float(value[1]) for value in columns[FLIP] if value] == [5, 5, 10, 10]
    assert set(columns[SPACING]) == {("DS", b"2.0\\1.5 ")}


def test_implicit_groups_are_columns_without_vr(tmp_path: Path) -> None:
    """In implicit VR the dictionary decides later."""
    path = make_enhanced(tmp_path / "e.dcm", 2, syntax="implicit").files[0]
    assert set(instance(path).columns[SPACING]) == {("", b"2.0\\1.5 ")}


@pytest.mark.parametrize("syntax", ["big", "deflated"])
def test_groups_of_other_encodings_are_the_same(tmp_path: Path, syntax: str) -> None:
    """Big endian and deflated files give what explicit ones do."""
    plain = make_enhanced(tmp_path / "a.dcm", 2, {"FlipAngle": [5, 10]}).files[0]
    other = make_enhanced(tmp_path / "b.dcm", 2, {"FlipAngle": [5, 10]}, syntax=syntax).files[0]
    assert instance(other).columns == instance(plain).columns


def test_frame_value_goes_over_the_shared_one(tmp_path: Path) -> None:
    """What a frame says of itself counts."""

    def both(dataset: Dataset) -> None:
        item = Dataset()
        item.PixelSpacing = [9, 9]
        dataset.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = [item]

    columns = instance(make_enhanced(tmp_path / "e.dcm", 3, change=both).files[0]).columns
    assert [value[1] if value else None for value in columns[SPACING]] == [b"2.0\\1.5 ", b"9.0\\9.0 ", b"2.0\\1.5 "]


def test_echo_time_and_slice_location_are_filled_in(tmp_path: Path) -> None:
    """EffectiveEchoTime stands for EchoTime, position times normal for SliceLocation."""
    series = make_enhanced(tmp_path / "e.dcm", 3, {"EffectiveEchoTime": [1.5, 20]})
    columns = instance(series.files[0]).columns
    assert [value and value[1] for value in columns[ECHO_TIME]] == [b"1.5"] * 3 + [b"20.0"] * 3
    places = [float(value[1]) for value in columns[SLICE_LOCATION] if value]
    layout = series.layout
    assert places == pytest.approx([float(np.dot(layout.position(i), layout.normal)) for i in (0, 1, 2)] * 2)


def test_private_and_code_sequences_are_no_columns(tmp_path: Path) -> None:
    """Nor are references in group 0008."""

    def more(dataset: Dataset) -> None:
        frame = dataset.PerFrameFunctionalGroupsSequence[0]
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "X", "one"
        anatomy = Dataset()
        anatomy.AnatomicRegionSequence, anatomy.FrameLaterality = [code], "U"
        frame.FrameAnatomySequence = [anatomy]
        image = Dataset()
        image.ReferencedSOPInstanceUID = "1.2.3"
        frame.ReferencedImageSequence = [image]
        frame.add_new(0x00290010, "LO", "FACTORY")
        frame.add_new(0x00291001, "SQ", [image])

    columns = instance(make_enhanced(tmp_path / "e.dcm", 2, change=more).files[0]).columns
    assert 0x00209072 in columns
    assert {0x00080100, 0x00081155, 0x00291001} & columns.keys() == set()


@pytest.mark.parametrize("count", [2, 6])
def test_items_that_are_not_as_many_as_frames_are_told(tmp_path: Path, count: int) -> None:
    """Frames without an item have no value of their own."""

    def fewer(dataset: Dataset) -> None:
        items = list(dataset.PerFrameFunctionalGroupsSequence)
        dataset.PerFrameFunctionalGroupsSequence = (items * 2)[:count]

    found = instance(make_enhanced(tmp_path / "e.dcm", 4, change=fewer).files[0])
    assert found.problems == [f"{count} items of per-frame functional groups for 4 frames"]
    assert [value is not None for value in found.columns[POSITION]] == [i < count for i in range(4)]


def test_damaged_groups_are_a_problem(tmp_path: Path) -> None:
    """The frames stay."""
    junk = b"\xfe\xff\x00\xe0\xff\x00\x00\x00junk"
    found = instance(made(tmp_path, changed(t52009230=("SQ", junk))))
    assert len(found) == 1
    assert found.problems[0].startswith("the functional groups are damaged")


@pytest.mark.parametrize("name", ["philips-enhanced-b0", "molli-enhanced", "siemens-enhanced-rest"])
def test_real_enhanced_files_have_all_columns(name: str, real_data: Callable[[str], Path]) -> None:
    """Position and orientation of each frame are there."""
    for path in sorted(real_data(name).iterdir()):
        header = read(path)
        if 0x52009230 not in header.elements:
            continue
        found = read_instance(header)
        assert all(value is not None for value in found.columns[POSITION])
        assert found.problems == []


# -- found again


@pytest.mark.parametrize(
    ("offsets", "heights"),
    [
        ([0.0, 4.0, 9.0], [b"-7.0", b"-3.0", b"2.0"]),
        ([-7.0, -3.0, 2.0], [b"-7.0", b"-3.0", b"2.0"]),
        ([1.0, 2.0, 3.0], None),
        ([0.0, 4.0], None),
    ],
)
def test_planes_of_a_dose_have_their_positions(
    tmp_path: Path, offsets: list[float], heights: list[bytes] | None
) -> None:
    """GridFrameOffsetVector counts from the first plane, or tells the z of each; one that does neither tells none."""
    ds = base_dataset("dose", RT_DOSE, Modality="RTDOSE", NumberOfFrames=3)
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, 2, -7], [1, 0, 0, 0, 1, 0]
    ds.GridFrameOffsetVector = offsets
    set_pixels(ds, np.arange(60, dtype=np.uint16).reshape(3, 4, 5))
    columns = instance(write(tmp_path / "dose.dcm", ds)).columns
    if heights is None:
        assert columns == {}
    else:
        assert columns[0x00200032] == [("DS", b"1.0\\2.0\\" + height) for height in heights]


def test_frame_is_found_again_where_it_lies_now(tmp_path: Path) -> None:
    """By SOPInstanceUID and number, after the header grew."""
    path = make_enhanced(tmp_path / "e.dcm", 3).files[0]
    before = instance(path)
    make_enhanced(tmp_path / "e.dcm", 3, PatientName="Longer^Name^Than^Before")
    name = uid("instance", "enhanced", "1.2.840.10008.5.1.4.1.1.4.1", 1)
    with Source(path) as source:
        found = relocate(source, uid_hash(name), 2)
    assert found is not None
    assert found[0] > before.offsets[2]
    assert found[:2] == (instance(path).offsets[2], before.lengths[2])


@pytest.mark.parametrize(("name", "number"), [("2.25.1", 0), ("right", 1), ("right", 9)])
def test_other_frames_are_not_found(tmp_path: Path, name: str, number: int) -> None:
    """Another instance, or a number that is not there."""
    path = make_series(tmp_path, 1).files[0]
    header = read(path)
    right = header.raw(0x00080018).strip(b"\0").decode()
    with Source(path) as source:
        assert relocate(source, uid_hash(right if name == "right" else name), number) is None


def test_every_fault_is_no_exception(tmp_path: Path) -> None:
    """Whatever header can be read gives rows."""
    for name, fault in FAULTS.items():
        if fault.header == "read" and fault.pixels in ("equal", "refuse", "either", "other"):
            assert len(instance(fault.make(tmp_path))) >= 1, name
