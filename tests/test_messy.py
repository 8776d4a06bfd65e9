"""Each fault among good files: what problems() says, and that the good files stay usable."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import folder_hash
from factories import make_presentation_state, make_report, make_series, make_structure_set, uid
from faults import FAULTS, Fault
from rawdicom import FRAME, PIXELS, base, element, encoded, file

from xdicom.catalog import Catalog, Problem
from xdicom.frames import Frames
from xdicom.scan import SeriesKey

GOOD = SeriesKey("P1", uid("study"), uid("series", "good"))
# Faults whose name is kept by problems() in words that a reader must find.
REASONS = {
    "truncated_header": "truncated",
    "truncated_meta": "truncated",
    "truncated_pixels": "the pixel data is truncated: 60 bytes are announced, 40 are there",
    "pixels_twice": "NumberOfFrames or the matrix must be wrong",
    "frames_too_many": "the pixel data has 60 bytes where 4 frame(s) need 240",
    "frames_huge": "NumberOfFrames is 2147483647",
    "frames_text": "NumberOfFrames is no positive number",
    "matrix_huge": "the pixel data has 60 bytes",
    "no_rows": "Rows, Columns or BitsAllocated is missing",
    "no_bits_allocated": "Rows, Columns or BitsAllocated is missing",
    "rows_one_byte": "Rows, Columns or BitsAllocated is missing or unusable",
    "fragments_too_few": "1 fragments hold 2 frames",
    "fragments_too_many": "3 fragments hold 2 frames",
    "no_delimiter": "ends without a sequence delimiter",
    "nested_20000": "nested deeper than 200",
    "deflate_bomb": "the deflated dataset is larger than",
    "truncated_deflated": "the deflated dataset is truncated",
    "length_beyond_end": "the header is truncated",
    "little_is_big": "in big endian, against transfer syntax",
    "explicit_is_implicit": "in implicit VR, against transfer syntax",
    "implicit_is_explicit": "in explicit VR, against transfer syntax",
    "unknown_syntax": "against transfer syntax '1.2.3.4.5'",
    "trailing_garbage": "36 bytes that are no elements follow the pixel data",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good series."""
    make_series(tmp_path / "good", 3, name="good")
    return tmp_path


def scanned(folder: Path) -> tuple[list[Problem], dict[SeriesKey, Frames], int]:
    """Return problems, tables and how many files were skipped; the user's files are the same after it."""
    before = folder_hash(folder)
    catalog = Catalog(folder)
    report = catalog.rescan()
    keys = catalog.keys()
    found = {key: catalog.frames(key) for key in keys}
    problems = catalog.problems()
    catalog.close()
    assert folder_hash(folder) == before
    return problems, {key: frames for key, frames in found.items() if frames is not None}, report.skipped


def others(tables: dict[SeriesKey, Frames]) -> Frames | None:
    """Return the table that is not the good series'."""
    rest = [frames for key, frames in tables.items() if key != GOOD]
    assert len(rest) <= 1
    return rest[0] if rest else None


def made(folder: Path, name: str) -> Fault:
    """Put a fault into the folder, or skip where the system cannot."""
    if name == "unreadable" and os.geteuid() == 0:
        pytest.skip("platform: root may read anything")
    try:
        with warnings.catch_warnings():  # pydicom dislikes what is wrong on purpose
            warnings.simplefilter("ignore")
            FAULTS[name].make(folder)
    except OSError as error:
        pytest.skip(f"platform: cannot make {name}: {error}")
    return FAULTS[name]


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_good_files_stay_usable(folder: Path, name: str) -> None:
    """Whatever lies beside it, the good series has its three frames with pixels, and no problem."""
    made(folder, name)
    problems, tables, _ = scanned(folder)
    frames = tables[GOOD]
    assert [len(frames), int((frames.offset > 0).sum())] == [3, 3]
    assert [problem for problem in problems if problem.path.startswith("good/")] == []


@pytest.mark.parametrize("name", sorted(name for name, fault in FAULTS.items() if fault.header == "read"))
def test_readable_faults_have_rows(folder: Path, name: str) -> None:
    """A header that can be read gives rows."""
    made(folder, name)
    assert others(scanned(folder)[1]) is not None


@pytest.mark.parametrize("name", sorted(name for name, fault in FAULTS.items() if fault.header == "problem"))
def test_damage_is_told(folder: Path, name: str) -> None:
    """A file that cannot be trusted is named with a reason in one line."""
    made(folder, name)
    problems, _, skipped = scanned(folder)
    assert problems
    assert not skipped
    assert all(problem.reason and "\n" not in problem.reason for problem in problems)


def test_links_that_lead_nowhere_are_told(folder: Path) -> None:
    """A link is somebody's wish to have a file there."""
    made(folder, "link_dangling")
    made(folder, "link_to_itself")
    assert [problem.reason[:18] for problem in scanned(folder)[0]] == ["it cannot be read:"] * 2


_FOREIGN = {name for name, fault in FAULTS.items() if fault.header == "skip"} - {"link_dangling", "link_to_itself"}


@pytest.mark.parametrize("name", sorted(_FOREIGN))
def test_foreign_files_are_no_problem(folder: Path, name: str) -> None:
    """What is no DICOM is counted at most."""
    made(folder, name)
    problems, tables, skipped = scanned(folder)
    assert problems == []
    assert others(tables) is None
    assert skipped <= 1


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_reason_says_what_is_wrong(folder: Path, name: str, reason: str) -> None:
    """In words, with numbers."""
    made(folder, name)
    assert reason in scanned(folder)[0][0].reason


@pytest.mark.parametrize("name", sorted(name for name, fault in FAULTS.items() if fault.pixels == "equal"))
def test_good_pixels_are_found(folder: Path, name: str) -> None:
    """Pixels that can be read are read, whatever else is odd."""
    made(folder, name)
    frames = others(scanned(folder)[1])
    assert frames is not None
    out = np.zeros((1, *FRAME.shape), np.float64)
    frames.take([len(frames) - 1]).locations.read([0], out)
    assert np.array_equal(out[0], FRAME)


@pytest.mark.parametrize("make", [make_report, make_presentation_state, make_structure_set])
def test_objects_without_pixels_are_browsable(folder: Path, make: object) -> None:
    """One row without a location, with all their tags, and no problem."""
    make(folder / "object.dcm")  # type: ignore[operator]
    problems, tables, _ = scanned(folder)
    frames = others(tables)
    assert frames is not None
    assert (problems, frames.offset.tolist()) == ([], [-1])
    assert frames.unique("PatientID") == ["P1"]


def test_hundred_problems_are_told_together(folder: Path) -> None:
    """One a file, in the order of paths."""
    content = file(encoded(base()))[:499]  # within an element
    for number in range(100):
        (folder / f"{number:03d}.dcm").write_bytes(content)
    problems = scanned(folder)[0]
    assert [problem.path for problem in problems] == [f"{number:03d}.dcm" for number in range(100)]


def test_flood_of_elements_is_a_problem(folder: Path) -> None:
    """A million empty elements in 8 MB cost neither time nor memory."""
    (folder / "flood.dcm").write_bytes(file(element(0x00091001, "LO", b"") * 1_000_000))
    assert scanned(folder)[0] == [Problem("flood.dcm", "there are more than 50000 elements")]


def test_huge_file_is_scanned_in_a_moment(tmp_path: Path) -> None:
    """Of three gigabytes a few pages are read, and the frames are located."""
    size = 3 << 30
    elements = base() | {0x00280010: ("US", b"\0\x40"), 0x00280011: ("US", b"\0\x40"), 0x00280008: ("IS", b"6 ")}
    del elements[PIXELS]
    content = file(encoded(elements) + element(PIXELS, "OW", b"", length=size))
    path = tmp_path / "huge.dcm"
    path.write_bytes(content)
    with open(path, "r+b") as target:
        target.truncate(len(content) + size)
    catalog = Catalog(tmp_path)
    catalog.rescan()
    frames = catalog.frames(catalog.keys()[0])
    problems = catalog.problems()
    catalog.close()
    assert problems == []
    assert frames is not None
    assert frames.offset.tolist() == [len(content) + i * (size // 6) for i in range(6)]
