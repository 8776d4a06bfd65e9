"""Scanning: shared layouts give the same tables as one file at a time, whatever the order and the batches."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factories import make_enhanced, make_report, make_series, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from rawdicom import EXPLICIT, base, changed, element, encoded, file

from xdicom import scan
from xdicom.columns import ENCODING, Ref
from xdicom.scan import Scanner, SeriesKey
from xdicom.source import read_start
from xdicom.tables import Table

Rows = list[tuple[object, ...]]


def scanned(paths: list[Path]) -> Scanner:
    """Return a scanner that is through with files."""
    scanner = Scanner(b"", [bytes(path) for path in paths])
    scanner.scan(range(len(paths)))
    return scanner


def alone(paths: list[Path]) -> Scanner:
    """Return a scanner that took every file by itself."""
    scanner = Scanner(b"", [bytes(path) for path in paths])
    for number in range(len(paths)):
        opened = scanner._open(number)
        assert opened is not None
        scanner._scan_alone(opened)
    return scanner


def rows(scanner: Scanner) -> dict[SeriesKey, Rows]:
    """Return each series' rows with paths for file numbers and raw values for codes."""
    return {key: _rows(table, scanner.paths) for key, table in scanner.tables().items()}


def _rows(table: Table, paths: object) -> Rows:
    count = len(table.file)
    columns = {tag: (column.values, column.all_codes(count).tolist()) for tag, column in table.columns.items()}
    found = []
    for row in range(count):
        values = {tag: known[codes[row]] for tag, (known, codes) in columns.items() if codes[row] >= 0}
        place = paths[table.file[row]], int(table.number[row]), int(table.offset[row]), int(table.length[row])  # type: ignore[index]
        found.append((*place, values))
    return sorted(found, key=lambda row: row[:2])  # type: ignore[no-any-return]


def told(scanner: Scanner) -> dict[bytes, tuple[str, list[str]]]:
    """Return status and problems by path."""
    return {scanner.paths[i]: (outcome.status, outcome.problems) for i, outcome in scanner.outcomes.items()}


def lengthen(dataset: Dataset, index: int) -> None:
    """Give every third file another layout, and every fifth a private element."""
    dataset.ImageComments = "x" * (8 if index % 3 else 20)
    if index % 5 == 0:
        dataset.add_new(0x00290010, "LO", "FACTORY")
        dataset.add_new(0x00291010, "OB", bytes([index]) * (2000 if index % 2 else 6))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Several series of several layouts, an enhanced file, a report and what is no DICOM."""
    folder = tmp_path_factory.mktemp("mixture")
    files = make_series(folder / "a", 7, {"EchoTime": [1, 20]}, name="a", change=lengthen).files
    files += make_series(folder / "b", 5, name="b", syntax="implicit").files
    files += make_series(folder / "c", 3, name="c", shape=(4, 4), PatientID="P2", change=lengthen).files
    files += make_series(folder / "d", 3, name="d", syntax="big").files
    files += make_enhanced(folder / "e.dcm", 3, {"FlipAngle": [5, 10]}).files
    files += [make_report(folder / "report.dcm")]
    (folder / "notes.txt").write_text("These are notes.\n" * 20)
    (folder / "broken.dcm").write_bytes(files[0].read_bytes()[:400])
    return [*files, folder / "notes.txt", folder / "broken.dcm"]


@given(
    seed=st.integers(0, 2**32), batch=st.integers(1, 12), first=st.integers(1, 5), window=st.sampled_from([256, 4096])
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_groups_and_single_files_give_the_same(
    mixture: list[Path], seed: int, batch: int, first: int, window: int
) -> None:
    """Order, batch sizes and how much is read at once change nothing."""
    files = random.Random(seed).sample(mixture, len(mixture))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BATCH", batch)
        patch.setattr(scan, "_FIRST_BATCH", first)
        patch.setattr(scan, "_FIRST_WINDOW", window)
        patch.setattr(scan, "_MAX_MISSES", seed % 3)
        grouped = scanned(files)
    single = alone(files)
    assert rows(grouped) == rows(single)
    assert told(grouped) == told(single)


@pytest.mark.parametrize("size", [0, 10, 140, 1000, 10_000])
def test_known_starts_are_not_read(mixture: list[Path], monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """What is known of files need not be read, unless it is too little."""
    expected = scanned(mixture)
    starts = {i: read_start(bytes(path), size) for i, path in enumerate(mixture) if i % 3}
    scanner = Scanner(b"", [bytes(path) for path in mixture], starts=starts)
    read = []

    def counted(path: bytes, length: int) -> object:
        read.append(path)
        return read_start(path, length)

    monkeypatch.setattr(scan, "read_start", counted)
    scanner.scan(range(len(mixture)))
    assert rows(scanner) == rows(expected)
    assert told(scanner) == told(expected)
    if size == 10_000:
        assert read == [bytes(path) for i, path in enumerate(mixture) if i % 3 == 0]


def test_tables_are_in_the_order_of_files(mixture: list[Path]) -> None:
    """Rows follow the list of paths, then the frames of a file."""
    for table in scanned(mixture[::-1]).tables().values():
        pairs = list(zip(table.file.tolist(), table.number.tolist(), strict=True))
        assert pairs == sorted(pairs)


def test_same_layout_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose element headers are the same bytes are recognised, not walked."""
    files = make_series(tmp_path, 30, ImagePositionPatient=None, SliceLocation=None).files
    walks = []
    plain = scan.walk_layout

    def counted(buffer: bytes, size: int) -> object:
        walks.append(size)
        return plain(buffer, size)

    monkeypatch.setattr(scan, "walk_layout", counted)
    scanned(files)
    assert len(walks) <= 3  # SOPInstanceUID has one of two or three lengths


def test_series_of_one_layout_are_told_apart(tmp_path: Path) -> None:
    """Fresh UIDs of equal length make other series, not other layouts."""
    files = []
    for number in range(10, 15):
        for index in range(4):
            elements = base() | {
                0x0020000E: ("UI", f"2.25.{number}1".encode() + b"\0"),
                0x00080018: ("UI", f"2.25.{number}{index}".encode() + b"\0"),
            }
            files.append(tmp_path / f"{index}-{number}.dcm")
            files[-1].write_bytes(file(encoded(elements)))
    tables = scanned(sorted(files)).tables()
    assert sorted(key.series for key in tables) == [f"2.25.{number}1" for number in range(10, 15)]
    assert {len(table.file) for table in tables.values()} == {4}


def test_long_values_are_references(tmp_path: Path) -> None:
    """More than 1 kB is kept as a place in the row's own file."""
    files = make_series(tmp_path, 2, change=lambda ds, i: ds.add_new(0x00420011, "OB", bytes([i]) * 1026)).files
    (table,) = scanned(files).tables().values()
    column = table.columns[0x00420011]
    for index, (path, code) in enumerate(zip(files, column.all_codes(2), strict=True)):
        value = column.values[code][1]
        assert isinstance(value, Ref)
        assert path.read_bytes()[value.offset :][: value.length] == bytes([index]) * 1026


def test_values_of_one_kilobyte_are_kept(tmp_path: Path) -> None:
    """1024 bytes are not too many."""
    files = make_series(tmp_path, 1, change=lambda ds, i: ds.add_new(0x00420011, "OB", bytes(1024))).files
    (table,) = scanned(files).tables().values()
    assert table.columns[0x00420011].values == [("OB", bytes(1024))]


def test_group_lengths_are_no_columns(tmp_path: Path) -> None:
    """(gggg,0000) depends on how a file is written."""
    path = tmp_path / "file.dcm"
    path.write_bytes(changed(t00280000=("UL", b"\1\0\0\0")))
    (table,) = scanned([path]).tables().values()
    assert [tag for tag in table.columns if tag >= 0 and not tag & 0xFFFF] == []


def test_same_pixels_of_other_matrix_are_not_one_group(tmp_path: Path) -> None:
    """Where Rows differs in one layout every file is held against its own length."""
    paths = []
    for rows_ in (5, 6, 6):
        paths.append(tmp_path / f"{len(paths)}.dcm")
        paths[-1].write_bytes(changed(t00280010=("US", bytes([rows_, 0]))))
    scanner = scanned(paths)
    assert [bool(scanner.outcomes[i].problems) for i in range(3)] == [True, False, False]


def test_encoding_says_what_the_pixels_are(mixture: list[Path]) -> None:
    """A pseudo-tag holds VR, transfer syntax and pixel element, also of files that name none."""
    (table,) = [table for key, table in scanned(mixture).tables().items() if key.patient == "P2"]
    assert table.columns[ENCODING].values == [("OW", f"{EXPLICIT}|7FE00010".encode())]


def test_shared_groups_alone_are_columns(tmp_path: Path) -> None:
    """A file with functional groups but no NumberOfFrames is no plain frame."""
    macro = element(0x00289110, "SQ", _item(element(0x00280030, "DS", b"3\\3 ")))
    path = tmp_path / "file.dcm"
    path.write_bytes(changed(t52009229=("SQ", _item(macro)), drop=0x00280030))
    (table,) = scanned([path, path]).tables().values()
    assert table.columns[0x00280030].values == [("DS", b"3\\3 ")]


def _item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + np.array(len(content), "<u4").tobytes() + content


def test_key_without_patient_id_is_name_and_birth_date(tmp_path: Path) -> None:
    """Patients without an ID are not all one."""
    path = tmp_path / "file.dcm"
    path.write_bytes(changed(drop=0x00100020, t00100030=("DA", b"19700101")))
    (key,) = scanned([path]).tables()
    assert key.patient == "Doe^Jane\x0019700101"


@pytest.mark.parametrize("is_absent", [False, True])
def test_files_without_series_uid_are_grouped_by_folder(tmp_path: Path, is_absent: bool) -> None:
    """What lies together belongs together."""
    paths = [tmp_path / name / f"{i}.dcm" for name in ("a", "b") for i in range(2)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(changed(drop=0x0020000E) if is_absent else changed(t0020000e=("UI", b"")))
    assert [len(table.file) for table in scanned(paths).tables().values()] == [2, 2]


def test_vanished_file_is_broken_and_tried_again(tmp_path: Path) -> None:
    """A file that is gone when it is opened has no stamp, so that the next scan takes it."""
    scanner = scanned([tmp_path / "gone.dcm"])
    outcome = scanner.outcomes[0]
    assert (outcome.status, outcome.stamp) == ("broken", (-1, -1, -1))
    assert "No such file" in outcome.problems[0]


@pytest.mark.parametrize("gone", [False, True])
def test_file_that_changes_while_it_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    """Between two reads another file may take the place: the rows are that file's, with its stamp."""
    path = make_series(tmp_path, 1, change=lambda ds, i: ds.add_new(0x00420011, "OB", bytes(600))).files[0]
    other = make_series(tmp_path / "other", 1, PatientID="P9").files[0].read_bytes()
    plain = Scanner._open

    def opened(self: Scanner, number: int) -> object:
        found = plain(self, number)
        path.unlink() if gone else path.write_bytes(other)
        return found

    monkeypatch.setattr(Scanner, "_open", opened)
    monkeypatch.setattr(scan, "_FIRST_WINDOW", 512)
    scanner = scanned([path])
    if gone:
        assert scanner.outcomes[0].status == "broken"
    else:
        assert [key.patient for key in scanner.tables()] == ["P9"]
        assert scanner.outcomes[0].stamp.size == len(other)


def test_read_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is broken, and the others are not touched by it."""
    files = make_series(tmp_path, 3).files
    plain = scan.read_start

    def refused(path: bytes, length: int) -> object:
        if path == bytes(files[1]):
            raise PermissionError(13, "Permission denied")
        return plain(path, length)

    monkeypatch.setattr(scan, "read_start", refused)
    scanner = scanned(files)
    assert told(scanner)[bytes(files[1])] == ("broken", ["it cannot be read: Permission denied"])
    assert [len(table.file) for table in scanner.tables().values()] == [2]


def test_dicomdir_is_skipped(tmp_path: Path) -> None:
    """A directory of files is no object."""
    path = write(tmp_path / "DICOMDIR", _directory())
    scanner = scanned([path])
    assert scanner.outcomes[0].status == "skipped"
    assert scanner.tables() == {}


def _directory() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.1.3.10", "2.25.9"
    dataset.DirectoryRecordSequence = []
    return dataset


@pytest.mark.parametrize("name", ["siemens-axial-orders", "rider-flip-angles", "siemens-two-echoes"])
def test_real_groups_and_single_files_give_the_same(name: str, real_data: Callable[[str], Path]) -> None:
    """On scanners' files as well."""
    files = sorted(path for path in real_data(name).rglob("*") if path.is_file())
    assert rows(scanned(files)) == rows(alone(files))
