"""The packed table of where pixels are: pickled small, read anywhere, never from a changed file unawares."""

import errno
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdicom import locations as locations_module
from xdicom.errors import PixelError
from xdicom.formats import EXPLICIT_LITTLE
from xdicom.instance import uid_hash
from xdicom.locations import Locations, pack_columns, unpack_columns
from xdicom.pixels import PixelFormat, Rescale
from xdicom.source import Source, Stamp

HEADER = 37
FMT = PixelFormat(EXPLICIT_LITTLE, 4, 6, signed=True)


def frame(index: int) -> np.ndarray:
    """Return the stored values of a frame."""
    return (np.arange(24).reshape(4, 6) * 7 + 1000 * index - 2000).astype("i2")


def table(
    folder: Path,
    files: int = 5,
    frames: int = 1,
    *,
    fmt: PixelFormat = FMT,
    rescales: tuple[Rescale, ...] = (Rescale(2, -10),),
) -> Locations:
    """Write files of some frames each and return where these are."""
    names = [f"IM{i}.dcm" for i in range(files)]
    for i, name in enumerate(names):
        data = b"".join(frame(i * frames + k).tobytes() for k in range(frames))
        (folder / name).write_bytes(bytes(HEADER) + data)
    count = files * frames
    return Locations.build(
        root=os.fsencode(folder),
        paths=[name.encode() for name in names],
        stamps=[Stamp.of((folder / name).stat()) for name in names],
        file=np.repeat(np.arange(files), frames),
        number=np.tile(np.arange(frames), files),
        offset=np.tile(HEADER + 48 * np.arange(frames), files),
        length=[48] * count,
        formats=[fmt],
        format_codes=[0] * count,
        rescales=rescales,
        rescale_codes=np.arange(count) % len(rescales),
        uids=[f"1.2.{i // frames}" for i in range(count)],
    )


def read(locations: Locations, indices: Any = None, **options: Any) -> np.ndarray:
    """Return stored values of frames, or of part of them."""
    indices = np.arange(len(locations)) if indices is None else np.asarray(indices)
    out = np.empty((len(indices), *options.pop("shape", (4, 6))), "i2")
    locations.read(indices, out, rescale=False, **options)
    return out


def synthetic(count: int, files: int, rescales: tuple[Rescale, ...] = (Rescale(1, -1024),)) -> Locations:
    """Return a table as a scan makes it, of files that aren't there."""
    rng = np.random.default_rng(1)
    mtimes = 1_700_000_000_000_000_000 + np.cumsum(rng.integers(10_000, 90_000, files))
    inodes = 1_234_567 + np.cumsum(rng.integers(1, 4, files))
    single = files == count
    return Locations.build(
        root=b"/data",
        paths=[b"series/IM%05d.dcm" % i for i in range(files)],
        stamps=np.stack([525_000 + 2 * rng.integers(0, 3, files), mtimes, inodes], axis=1),
        file=np.arange(count) if single else np.zeros(count),
        number=np.zeros(count) if single else np.arange(count),
        offset=1300 + 2 * rng.integers(0, 5, count) if single else 5000 + 8192 * np.arange(count),
        length=np.full(count, 524_288),
        formats=[FMT],
        format_codes=np.zeros(count),
        rescales=rescales,
        rescale_codes=np.arange(count) % len(rescales),
        uids=[f"1.2.3.{i if single else 0}" for i in range(count)],
    )


# -- the table


def test_build_checks_lengths(tmp_path: Path) -> None:
    """Columns of different lengths are refused."""
    with pytest.raises(ValueError, match="the columns differ in length"):
        Locations.build(
            root=b"",
            paths=[b"a"],
            stamps=[(1, 2, 3)],
            file=[0, 0],
            number=[0],
            offset=[0],
            length=[0],
            formats=[FMT],
            format_codes=[0],
            rescales=[Rescale()],
            rescale_codes=[0],
            uids=["1"],
        )


@pytest.mark.parametrize("indices", [[3, 0, 0], np.array([False, True, True, False, False]), [], [4]], ids=str)
def test_take(indices: Any, tmp_path: Path) -> None:
    """Frames are taken in any order, more than once, or by a mask."""
    taken = table(tmp_path).take(indices)
    expected = np.arange(5)[np.asarray(indices, None if len(indices) else int)]
    np.testing.assert_array_equal(read(taken), np.array([frame(i) for i in expected]).reshape(-1, 4, 6))


def test_concat_of_one_folder_keeps_its_root(tmp_path: Path) -> None:
    """Tables of one root stay relative to it."""
    locations = table(tmp_path)
    joined = Locations.concat([locations.take([1]), locations.take([3])])
    assert joined.root == locations.root
    np.testing.assert_array_equal(read(joined), [frame(1), frame(3)])


def test_concat_of_folders_reads_from_both(tmp_path: Path) -> None:
    """Tables of several roots, formats and rescales are read side by side."""
    for name in "ab":
        (tmp_path / name).mkdir()
    first = table(tmp_path / "a", 2)
    second = table(tmp_path / "b", 2, fmt=replace(FMT, signed=False), rescales=(Rescale(3, 0), Rescale(2, -10)))
    joined = Locations.concat([first, second])
    assert (len(joined.formats), joined.rescales) == (2, (Rescale(2, -10), Rescale(3, 0)))
    out = np.empty((4, 4, 6))
    joined.read(range(4), out)
    unsigned = [frame(i).view("u2").astype("i8") for i in range(2)]
    expected = [frame(0) * 2 - 10, frame(1) * 2 - 10, unsigned[0] * 3, unsigned[1] * 2 - 10]
    np.testing.assert_array_equal(out, expected)


def test_concat_of_nothing_is_empty() -> None:
    """No tables make an empty one."""
    assert len(Locations.concat([])) == 0


# -- token


def test_token_is_the_same_in_every_process(tmp_path: Path) -> None:
    """A token depends on the frames only, not on what else is in the table or how it came about."""
    locations = table(tmp_path)
    again = locations.take([3, 1, 2]).take([2, 0])
    assert locations.take([2, 3]).token() == again.token() == pickle.loads(pickle.dumps(again)).token()


@pytest.mark.parametrize(
    "change",
    [
        {"root": b"/elsewhere"},
        {"paths": (b"x",) * 5},
        {"stamps": np.ones((5, 3), np.int64)},
        {"offset": np.ones(5, np.int64)},
        {"number": np.ones(5, np.int32)},
        {"uids": np.ones(5, np.uint64)},
        {"formats": (replace(FMT, bits_stored=12),)},
        {"rescales": (Rescale(2, -11),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_token_follows_everything_that_is_read(change: dict[str, Any], tmp_path: Path) -> None:
    """A changed file, place, format or rescale gives another token."""
    locations = table(tmp_path)
    assert replace(locations, **change).token() != locations.token()


def test_token_serves_dask(tmp_path: Path) -> None:
    """Dask names arrays by the token."""
    from dask.base import tokenize

    locations = table(tmp_path)
    assert tokenize(locations) == tokenize(locations.take(range(5)))


# -- pickle


def assert_same(found: Locations, expected: Locations) -> None:
    """Fail unless two tables read the same."""
    assert found.token() == expected.token()
    for name in ("file", "number", "offset", "length", "format_codes", "rescale_codes", "uids", "stamps"):
        assert getattr(found, name).dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.root, tuple(found.paths), found.formats, found.rescales) == (
        expected.root,
        tuple(expected.paths),
        expected.formats,
        expected.rescales,
    )


def test_single_frame_files_pickle_below_40_bytes_a_frame() -> None:
    """10,000 single-frame files travel in less than 40 bytes a frame, 8 of which are the hash of the UID."""
    locations = synthetic(10_000, 10_000)
    packed = pickle.dumps(locations)
    assert len(packed) < 40 * 10_000
    assert_same(pickle.loads(packed), locations)


def test_multi_frame_file_pickles_to_nothing() -> None:
    """10,000 frames of one file travel in a few hundred bytes."""
    locations = synthetic(10_000, 1)
    packed = pickle.dumps(locations)
    assert len(packed) < 2000
    assert_same(pickle.loads(packed), locations)


def test_slopes_of_their_own_pickle_small() -> None:
    """A rescale a frame, as in PET, adds no more than its numbers."""
    locations = synthetic(10_000, 10_000, tuple(Rescale(0.5 + i / 7, 0.0) for i in range(10_000)))
    packed = pickle.dumps(locations)
    assert len(packed) < 40 * 10_000
    assert_same(pickle.loads(packed), locations)


def test_taken_frames_pickle_without_the_rest() -> None:
    """Files, formats and rescales that no frame uses stay behind."""
    assert len(pickle.dumps(synthetic(10_000, 10_000).take([5000]))) < 1000


def test_unusual_rescales_survive_pickling(tmp_path: Path) -> None:
    """Lookup tables, padding and problems travel too."""
    rescales = (Rescale(2, 1), Rescale(lut=(0, 8, b"\1\2")), Rescale(padding=-5), Rescale(problem="RescaleSlope is 0"))
    locations = table(tmp_path, rescales=rescales)
    assert_same(pickle.loads(pickle.dumps(locations)), locations)


def test_frames_without_pixels_survive_pickling(tmp_path: Path) -> None:
    """So do rows without a file or format."""
    locations = replace(
        table(tmp_path),
        file=np.array([0, -1, 2, -1, 4], np.int32),
        format_codes=np.array([0, -1, 0, -1, 0], np.int32),
    )
    found = pickle.loads(pickle.dumps(locations))
    assert found.format_codes.tolist() == [0, -1, 0, -1, 0]
    assert found.file.tolist() == [0, -1, 1, -1, 2]


def test_empty_table_survives_pickling() -> None:
    """No frames travel as well."""
    assert len(pickle.loads(pickle.dumps(Locations.concat([])))) == 0


@pytest.mark.parametrize("dtype", ["i4", "i8", "u8", "f8"])
def test_columns_pack_exactly(dtype: str) -> None:
    """Differences that wrap around 64 bits come back right."""
    kind = np.dtype(dtype)
    values = [-1.5, np.inf, 0, 1e300] if kind.kind == "f" else [np.iinfo(kind).max, np.iinfo(kind).min, 0, 1]
    column = np.array(values, kind)
    np.testing.assert_array_equal(unpack_columns(pack_columns([column]), 4, [kind])[0], column)


def test_uid_hash_is_fixed() -> None:
    """The hash of a UID is the same everywhere and for ever."""
    assert uid_hash("1.2.3") == 15126846397147187743


# -- reading


def test_read_stored_and_real_world_values(tmp_path: Path) -> None:
    """Frames come in the order asked for, stored or rescaled each by its own rescale."""
    locations = table(tmp_path, rescales=(Rescale(2, -10), Rescale(0.5, 0)))
    np.testing.assert_array_equal(read(locations, [4, 0, 1]), [frame(4), frame(0), frame(1)])
    out = np.empty((3, 4, 6), np.float32)
    locations.read([4, 0, 1], out)
    np.testing.assert_array_equal(out, [frame(4) * 2.0 - 10, frame(0) * 2.0 - 10, frame(1) * 0.5])


def test_read_part_of_frames(tmp_path: Path) -> None:
    """A region is read of every frame, and an int drops its axis."""
    locations = table(tmp_path)
    region = (slice(3, None, -2), 2)
    np.testing.assert_array_equal(
        read(locations, region=region, shape=(2,)), np.array([frame(i)[region] for i in range(5)])
    )


def test_read_nothing(tmp_path: Path) -> None:
    """No indices read no file."""
    assert read(replace(table(tmp_path), paths=(b"gone",) * 5), []).shape == (0, 4, 6)


def test_each_file_is_opened_once_per_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbouring frames of one file share a descriptor."""
    locations = table(tmp_path, 2, 4)
    opened = []

    class Spy(Source):
        def __init__(self, path: bytes) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(locations_module, "Source", Spy)
    np.testing.assert_array_equal(read(locations), [frame(i) for i in range(8)])
    assert len(opened) == 2


def test_fault_of_the_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system while pixels are read is a PixelError that says which file."""
    locations = table(tmp_path)

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Source, "read_into", fail)
    monkeypatch.setattr(Source, "read", fail)
    with pytest.raises(PixelError, match=r"'.*' cannot be read: Input/output error"):
        read(locations)


@pytest.mark.parametrize("threads", [2, 3, None])
def test_threads_read_the_same(threads: int | None, tmp_path: Path) -> None:
    """Several threads fill the same array."""
    locations = table(tmp_path, 5, 3)
    np.testing.assert_array_equal(read(locations, threads=threads), [frame(i) for i in range(15)])


def test_threads_are_not_used_for_decoders_that_hold_the_gil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of such decoders are read by the calling thread."""
    locations = table(tmp_path)
    threads = set()
    monkeypatch.setattr(locations_module, "frees_gil", lambda syntax: False)
    monkeypatch.setattr(
        Locations, "_read_part", lambda self, *rest: threads.add(threading.current_thread()), raising=True
    )
    read(locations, threads=4)
    assert threads == {threading.current_thread()}


def test_frames_of_one_file_keep_their_bits(tmp_path: Path) -> None:
    """The number of a frame tells in which bit it begins."""
    fmt = PixelFormat(EXPLICIT_LITTLE, 3, 5, bits_allocated=1, bits_stored=1, high_bit=0)
    values = np.random.default_rng(0).integers(0, 2, (4, 3, 5), np.uint8)
    path = tmp_path / "bits"
    path.write_bytes(np.packbits(values.ravel(), bitorder="little").tobytes())
    locations = Locations.build(
        root=os.fsencode(tmp_path),
        paths=[b"bits"],
        stamps=[Stamp.of(path.stat())],
        file=[0] * 4,
        number=range(4),
        offset=[i * 15 // 8 for i in range(4)],
        length=[2] * 4,
        formats=[fmt],
        format_codes=[0] * 4,
        rescales=[Rescale()],
        rescale_codes=[0] * 4,
        uids=["1"] * 4,
    )
    out = np.empty((4, 3, 5), np.uint8)
    locations.read(range(4), out)
    np.testing.assert_array_equal(out, values)


def test_shape_and_dtype_are_known_without_reading(tmp_path: Path) -> None:
    """Shape and the smallest dtype of all frames follow from headers."""
    locations = replace(table(tmp_path, rescales=(Rescale(1, 0), Rescale(1, -1024))), paths=(b"gone",) * 5)
    assert locations.frame_shape() == (4, 6)
    assert locations.dtype() == np.dtype("i4")
    assert locations.dtype(rescale=False) == np.dtype("i2")
    assert locations.take([0]).dtype() == np.dtype("i2")


def test_dtype_of_several_formats_holds_all(tmp_path: Path) -> None:
    """Frames of different bits and signs share the dtype that holds both."""
    locations = table(tmp_path, rescales=(Rescale(),))
    codes = np.array([0, 1, 0, 1, 0], np.int32)
    mixed = replace(locations, formats=(FMT, replace(FMT, signed=False)), format_codes=codes)
    assert mixed.dtype() == np.dtype("i4")


def test_frames_of_several_shapes_raise(tmp_path: Path) -> None:
    """One array cannot hold frames of different matrices, and the text gives these."""
    locations = table(tmp_path)
    codes = np.array([0, 1, 0, 0, 0], np.int32)
    mixed = replace(locations, formats=(FMT, replace(FMT, rows=2)), format_codes=codes)
    with pytest.raises(PixelError, match=r"\(2, 6\) and \(4, 6\) shape"):
        read(mixed)
    np.testing.assert_array_equal(read(mixed, [0, 4]), [frame(0), frame(4)])


@pytest.mark.parametrize("column", ["offset", "format_codes", "file"])
def test_frame_without_pixels_raises(column: str, tmp_path: Path) -> None:
    """A row without a location says so."""
    locations = table(tmp_path)
    values = getattr(locations, column).copy()
    values[2] = -1
    without = replace(locations, **{column: values})
    if column == "file":
        without = replace(without, format_codes=np.array([0, 0, -1, 0, 0], np.int32))
    with pytest.raises(PixelError, match=r"frame 0 of .* has no pixels that can be read"):
        read(without)


@pytest.mark.parametrize("index", [-1, 5])
def test_index_outside_raises(index: int, tmp_path: Path) -> None:
    """Indices do not wrap around."""
    with pytest.raises(IndexError, match="outside 0 to 4"):
        read(table(tmp_path), [index])


def test_output_of_another_length_raises(tmp_path: Path) -> None:
    """The array must hold as many frames as are asked for."""
    with pytest.raises(ValueError, match="holds 2 frames, expected 3"):
        table(tmp_path).read([0, 1, 2], np.empty((2, 4, 6), "i2"))
