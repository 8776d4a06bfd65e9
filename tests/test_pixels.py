"""Frames at a place in a file to arrays: native, compressed, staged; whole or in part."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xdicom import decoders
from xdicom.colour import Palette
from xdicom.errors import PixelError
from xdicom.formats import EXPLICIT_BIG, EXPLICIT_LITTLE
from xdicom.pixels import (
    WHOLE,
    FrameReader,
    PixelFormat,
    Region,
    Rescale,
    join_fragments,
    read_into,
    region_shape,
    stored_dtype,
    to_stored,
    to_values,
    value_dtype,
)
from xdicom.source import Source

RLE = "1.2.840.10008.1.2.5"
HEADER = b"header of odd length:"
ROWS, COLUMNS = 9, 12


class Counting(Source):
    """A source that counts the bytes that are read."""

    __slots__ = ("count", "targets")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.count = 0
        self.targets: list[int] = []

    def read_into(self, offset: int, target: memoryview) -> int:
        self.count += len(target)
        self.targets.append(np.frombuffer(target, np.uint8).ctypes.data)
        return super().read_into(offset, target)


@pytest.fixture
def stored_in(tmp_path: Path) -> Iterator[Callable[[bytes], Counting]]:
    """Give a function that writes bytes behind a header into a file and opens it."""
    opened = []

    def write(data: bytes) -> Counting:
        path = tmp_path / f"{len(opened)}"
        path.write_bytes(HEADER + data)
        opened.append(Counting(path))
        return opened[-1]

    yield write
    for source in opened:
        source.close()


def read(
    source: Source,
    fmt: PixelFormat,
    length: int | None = None,
    *,
    rescale: Rescale | None = None,
    region: Region = WHOLE,
    dtype: Any = None,
    frame: int = 0,
    offset: int = len(HEADER),
) -> np.ndarray:
    """Read a frame into an array of its own."""
    dtype = dtype or (stored_dtype(fmt) if rescale is None else value_dtype(fmt, [rescale]))
    out = np.full(region_shape(fmt, region), 99).astype(dtype)
    length = source.stamp.size - offset if length is None else length
    read_into(source, offset, length, fmt, rescale, out, region, frame=frame)
    return out


def grey(dtype: str, bits: int = 0, **changes: Any) -> tuple[PixelFormat, np.ndarray]:
    """Return the format of a grey frame and random values in it over the whole range of its bits."""
    kind = np.dtype(dtype)
    bits = bits or kind.itemsize * 8
    fmt = PixelFormat(EXPLICIT_LITTLE, ROWS, COLUMNS, 1, kind.itemsize * 8, bits, bits - 1, kind.kind == "i")
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind.kind == "i" else (0, (1 << bits) - 1)
    values = np.random.default_rng(bits).integers(low, high, (ROWS, COLUMNS), kind, endpoint=True)
    return replace(fmt, **changes), values


def rgb(dtype: str = "u1") -> tuple[PixelFormat, np.ndarray]:
    """Return the format of a colour frame and random values in it."""
    bits = np.dtype(dtype).itemsize * 8
    fmt = PixelFormat(EXPLICIT_LITTLE, ROWS, COLUMNS, 3, bits, bits, bits - 1, photometric="RGB")
    return fmt, np.random.default_rng(3).integers(0, 1 << bits, (ROWS, COLUMNS, 3), dtype)


def item(data: bytes) -> bytes:
    """Return a fragment with its item header."""
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(data)) + data


def rle(frame: np.ndarray) -> bytes:
    """Return an 8-bit grey frame as RLE with literal runs only."""
    raw = frame.tobytes()
    runs = [raw[i : i + 128] for i in range(0, len(raw), 128)]
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"".join(bytes([len(run) - 1]) + run for run in runs)


# -- native frames


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_integers_of_any_size(dtype: str, order: str, stored_in: Any) -> None:
    """Integers of 8 to 64 bits, signed or not, come back identical from either byte order."""
    fmt, values = grey(dtype, transfer_syntax=EXPLICIT_BIG if order == ">" else EXPLICIT_LITTLE)
    source = stored_in(values.astype(order + dtype).tobytes())
    found = read(source, fmt)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(("kind", "dtype"), [("float", "f4"), ("double", "f8")])
def test_float_pixels(kind: str, dtype: str, stored_in: Any) -> None:
    """Float and double pixel data come back identical, NaN and infinities too."""
    fmt = PixelFormat(EXPLICIT_LITTLE, 2, 3, bits_allocated=8 * np.dtype(dtype).itemsize, kind=kind)
    values = np.array([[1.5, np.nan, np.inf], [-0.0, 1e-30, -3]], dtype)
    np.testing.assert_array_equal(read(stored_in(values.tobytes()), fmt), values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("dtype", "bits"), [("u2", 12), ("i2", 12), ("u2", 8), ("i2", 7), ("u4", 17), ("i4", 31)])
def test_bits_beyond_those_stored_are_ignored(dtype: str, bits: int, order: str, stored_in: Any) -> None:
    """Garbage above HighBit does no harm, and the sign is extended."""
    fmt, values = grey(dtype, bits, transfer_syntax=EXPLICIT_BIG if order == ">" else EXPLICIT_LITTLE)
    kind = np.dtype(dtype)
    garbage = np.random.default_rng(0).integers(0, 1 << 8 * kind.itemsize - bits, values.shape)
    mask = (1 << bits) - 1
    words = (values.astype("i8") & mask) | (garbage << bits)
    source = stored_in(words.astype(f"{order}u{kind.itemsize}").tobytes())
    np.testing.assert_array_equal(read(source, fmt), values)
    found = read(source, fmt, dtype=np.float64)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_bits_may_lie_high_in_the_word(dtype: str, stored_in: Any) -> None:
    """BitsStored bits below a high HighBit are moved down."""
    fmt, values = grey(dtype, 10, high_bit=13)
    words = ((values.astype("i8") & 0x3FF) << 4) | 0xC00F
    np.testing.assert_array_equal(read(stored_in(words.astype("<u2").tobytes()), fmt), values)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colour_by_pixel_or_by_plane(dtype: str, planar: int, stored_in: Any) -> None:
    """RGB has its samples last, however they lie in the file."""
    fmt, values = rgb(dtype)
    data = values.transpose(2, 0, 1) if planar else values
    np.testing.assert_array_equal(read(stored_in(data.tobytes()), replace(fmt, planar=planar)), values)


def test_monochrome1_stays_as_stored(stored_in: Any) -> None:
    """MONOCHROME1 is not inverted."""
    fmt, values = grey("u2", photometric="MONOCHROME1")
    np.testing.assert_array_equal(read(stored_in(values.tobytes()), fmt), values)


@pytest.mark.parametrize("frame", [0, 1, 2, 3])
def test_frames_of_bits_begin_anywhere(frame: int, stored_in: Any) -> None:
    """Frames of 1-bit pixels whose size is no whole number of bytes follow each other without a gap."""
    fmt = PixelFormat(EXPLICIT_LITTLE, 3, 5, bits_allocated=1, bits_stored=1, high_bit=0)
    values = np.random.default_rng(0).integers(0, 2, (4, 3, 5), np.uint8)
    source = stored_in(np.packbits(values.ravel(), bitorder="little").tobytes())
    offset = len(HEADER) + frame * 15 // 8
    np.testing.assert_array_equal(read(source, fmt, frame=frame, offset=offset), values[frame])


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_bytes_swapped_in_words(frame: int, stored_in: Any) -> None:
    """8-bit pixels as OW of a big-endian file lie swapped; frames of odd size share a word."""
    fmt = PixelFormat(EXPLICIT_BIG, 3, 3, 1, 8, 8, 7, word_swapped=True)
    values = np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8)
    source = stored_in(np.frombuffer(values.tobytes() + b"\0", "u2").byteswap().tobytes())
    offset = len(HEADER) + 9 * frame
    np.testing.assert_array_equal(read(source, fmt, 9, frame=frame, offset=offset), values[frame])


# -- values


@pytest.mark.parametrize("dtype", [None, "f4", "f8", "i8"])
@pytest.mark.parametrize("rescale", [Rescale(), Rescale(1, -1024), Rescale(-3, 7)])
def test_values_are_rescaled(rescale: Rescale, dtype: str | None, stored_in: Any) -> None:
    """Real-world values are stored * slope + intercept, in any dtype that holds them."""
    fmt, stored = grey("i2")
    found = read(stored_in(stored.tobytes()), fmt, rescale=rescale, dtype=dtype)
    np.testing.assert_array_equal(found, stored.astype("i8") * int(rescale.slope) + int(rescale.intercept))


def test_values_may_be_computed_in_place(stored_in: Any) -> None:
    """Where stored and real-world values have one dtype the output is the only array."""
    fmt, stored = grey("u2", 12)
    source = stored_in(stored.tobytes())
    reader = FrameReader(fmt, Rescale(2, 1), np.uint16)
    out = np.empty((ROWS, COLUMNS), np.uint16)
    reader.read(source, len(HEADER), stored.nbytes, out)
    np.testing.assert_array_equal(out, stored * 2 + 1)
    assert source.targets == [out.ctypes.data]


def test_problem_rescale_leaves_stored_values(stored_in: Any) -> None:
    """A rescale that can't be used raises for values, not for stored ones."""
    fmt, stored = grey("i2")
    source = stored_in(stored.tobytes())
    broken = Rescale(problem="RescaleSlope is nan")
    with pytest.raises(PixelError, match="RescaleSlope is nan"):
        read_into(source, len(HEADER), stored.nbytes, fmt, broken, np.empty((ROWS, COLUMNS)))
    out = np.empty((ROWS, COLUMNS), "i2")
    FrameReader(fmt, broken, "i2", stored=True).read(source, len(HEADER), stored.nbytes, out)
    np.testing.assert_array_equal(out, stored)


# -- parts of frames

PALETTE = Palette(0, 16, *(np.random.default_rng(c).integers(0, 65536, 256).astype("<u2").tobytes() for c in range(3)))
BYTES = PixelFormat(EXPLICIT_LITTLE, ROWS, COLUMNS, 1, 8, 8, 7)
FORMATS = {
    "grey": grey("i2")[0],
    "12 bits": grey("i2", 12)[0],
    "big": grey("i2", transfer_syntax=EXPLICIT_BIG)[0],
    "rgb": rgb()[0],
    "planar": replace(rgb()[0], planar=1),
    "ybr": replace(rgb()[0], photometric="YBR_FULL"),
    "422": replace(rgb()[0], photometric="YBR_FULL_422"),
    "bits": replace(BYTES, bits_allocated=1, bits_stored=1, high_bit=0),
    "palette": replace(BYTES, photometric="PALETTE COLOR", palette=PALETTE),
    "swapped": replace(BYTES, transfer_syntax=EXPLICIT_BIG, word_swapped=True),
    "rle": replace(BYTES, transfer_syntax=RLE),
    "staged": PixelFormat("", ROWS, COLUMNS, kind="staged", staged_dtype="float32"),
}
REGIONS: list[Region] = [
    (slice(2, 7), slice(None)),
    (slice(None), slice(3, 9)),
    (slice(1, 8, 2), slice(0, 12, 5)),
    (slice(None, None, -1), slice(None, None, -1)),
    (slice(7, 0, -3), slice(10, None, -4)),
    (4, slice(None)),
    (slice(None), -1),
    (-9, 3),
    (slice(5, 5), slice(None)),
    (slice(8, 99), slice(11, 99)),
]


def bytes_of(fmt: PixelFormat) -> bytes:
    """Return the bytes of a random frame of a format."""
    rng = np.random.default_rng(5)
    if fmt.kind == "staged":
        return rng.uniform(0, 100, (ROWS, COLUMNS)).astype("<f4").tobytes()
    raw = rng.integers(0, 256, ROWS * COLUMNS * fmt.samples * max(1, fmt.bits_allocated // 8), np.uint8)
    return item(rle(raw)) if fmt.transfer_syntax == RLE else raw.tobytes()


@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_part_of_a_frame_is_that_of_the_whole(name: str, region: Region, stored_in: Any) -> None:
    """Any rows and columns, by slice or int, of any kind of frame equal numpy's indexing of the whole frame."""
    fmt = FORMATS[name]
    source = stored_in(bytes_of(fmt))
    rescale = Rescale(0.5, -3)
    whole, part = read(source, fmt, rescale=rescale), read(source, fmt, rescale=rescale, region=region)
    assert part.shape == region_shape(fmt, region)
    np.testing.assert_array_equal(part, whole[region])


@pytest.mark.parametrize("region", [(9, slice(None)), (slice(None), -13)])
def test_int_outside_the_frame_raises(region: Region, stored_in: Any) -> None:
    """A row or column that isn't there raises IndexError."""
    fmt = FORMATS["grey"]
    with pytest.raises(IndexError, match="is outside 0 to"):
        read(stored_in(bytes_of(fmt)), fmt, region=region)


@pytest.mark.parametrize(
    ("name", "region", "count"),
    [
        ("grey", WHOLE, 9 * 24),
        ("grey", (slice(2, 5), slice(None)), 3 * 24),
        ("grey", (slice(2, 5), slice(1, 3)), 3 * 24 - 20),
        ("grey", (slice(None, None, 4), slice(None)), 3 * 24),
        ("grey", (slice(6, 0, -3), slice(None)), 2 * 24),
        ("grey", (4, 4), 2),
        ("12 bits", (slice(2, 5), slice(None)), 3 * 24),
        ("rgb", (slice(2, 5), slice(None)), 3 * 36),
        ("planar", (slice(2, 5), slice(None)), 3 * 36),
        ("422", (slice(2, 5), slice(None)), 3 * 24),
        ("staged", (slice(2, 5), slice(None)), 3 * 48),
    ],
)
def test_only_the_rows_needed_are_read(name: str, region: Region, count: int, stored_in: Any) -> None:
    """Part of a frame reads the bytes from its first pixel to its last, and no others."""
    fmt = FORMATS[name]
    source = stored_in(bytes_of(fmt))
    read(source, fmt, region=region)
    assert source.count == count


@pytest.mark.parametrize("region", [WHOLE, (slice(2, 5), slice(None))])
def test_native_frames_go_straight_into_the_output(region: Region, stored_in: Any) -> None:
    """Where dtype and order allow, the operating system writes into the output itself."""
    fmt, values = grey("i2")
    source = stored_in(values.tobytes())
    out = np.empty((2, *region_shape(fmt, region)), "i2")
    read_into(source, len(HEADER), values.nbytes, fmt, Rescale(), out[1], region)
    np.testing.assert_array_equal(out[1], values[region])
    assert source.targets == [out[1].ctypes.data]


def test_output_need_not_be_contiguous(stored_in: Any) -> None:
    """A strided output is filled through a buffer."""
    fmt, values = grey("i2")
    out = np.zeros((ROWS, 2 * COLUMNS), "i2")
    read_into(stored_in(values.tobytes()), len(HEADER), values.nbytes, fmt, None, out[:, ::2])
    np.testing.assert_array_equal(out[:, ::2], values)
    assert not out[:, 1::2].any()


def test_output_of_another_shape_raises(stored_in: Any) -> None:
    """An output that isn't of the region's shape raises ValueError."""
    fmt, values = grey("i2")
    with pytest.raises(ValueError, match=r"shape \(3, 3\), expected \(9, 12\)"):
        read_into(stored_in(values.tobytes()), len(HEADER), values.nbytes, fmt, None, np.empty((3, 3), "i2"))


# -- damage


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_file_raises(name: str, stored_in: Any) -> None:
    """A file that ends within the frame raises PixelError, never gives stale memory."""
    fmt = FORMATS[name]
    data = bytes_of(fmt)
    whole = len(data) if name not in ("bits", "422") else {"bits": 14, "422": 216}[name]
    with pytest.raises(PixelError, match="ends at byte"):
        read(stored_in(data[: whole - 2]), fmt, len(data))


def test_truncated_file_raises_with_a_buffer_in_use(stored_in: Any) -> None:
    """A reader that has a buffer of an earlier frame does not give that frame again."""
    fmt, values = grey("i2")
    reader = FrameReader(fmt, Rescale(), np.float32)
    out = np.empty((ROWS, COLUMNS), np.float32)
    reader.read(stored_in(values.tobytes()), len(HEADER), values.nbytes, out)
    with pytest.raises(PixelError, match="ends at byte"):
        reader.read(stored_in(values.tobytes()[:-2]), len(HEADER), values.nbytes, out)


def test_frame_shorter_than_its_matrix_raises(stored_in: Any) -> None:
    """A location of too few bytes raises and says how many are needed."""
    fmt, values = grey("i2")
    with pytest.raises(PixelError, match="the frame has 214 bytes, expected 216 for 9 x 12 x 1 of 16 bits"):
        read(stored_in(values.tobytes()), fmt, 214)


def test_huge_matrix_is_refused_before_allocation(stored_in: Any) -> None:
    """Sizes are held against the file and the limit before a buffer is allocated."""
    fmt = PixelFormat(EXPLICIT_LITTLE, 65535, 65535, bits_stored=12, high_bit=11)
    reader = FrameReader(fmt, Rescale(), np.float32)
    out = np.broadcast_to(np.zeros(1, np.float32), (65535, 65535))
    with pytest.raises(PixelError, match="ends at byte"):
        reader.read(stored_in(bytes(100)), len(HEADER), 1 << 40, out)


def test_buffers_have_a_limit(stored_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that need a larger buffer than the limit raise; those that need none are read."""
    fmt, values = grey("i2")
    source = stored_in(values.tobytes())
    monkeypatch.setattr(decoders, "MAX_FRAME_BYTES", 100)
    np.testing.assert_array_equal(read(source, fmt), values)
    with pytest.raises(PixelError, match="needs 216 bytes, more than the limit of 100"):
        read(source, fmt, dtype=np.float32)


def test_odd_columns_cannot_share_colour(stored_in: Any) -> None:
    """Native YBR_FULL_422 needs pairs of columns."""
    fmt = replace(FORMATS["422"], columns=11)
    with pytest.raises(PixelError, match="Columns is 11, expected an even number"):
        read(stored_in(bytes(1000)), fmt)


# -- fragments


def test_fragments_are_joined(stored_in: Any) -> None:
    """A frame of several fragments is decoded as one codestream."""
    fmt = FORMATS["rle"]
    values = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), np.uint8)
    stream = rle(values)
    source = stored_in(item(stream[:70]) + item(stream[70:71]) + item(b"") + item(stream[71:]))
    np.testing.assert_array_equal(read(source, fmt), values)


def test_sequence_end_closes_the_frame(stored_in: Any) -> None:
    """What follows the sequence delimiter is no fragment."""
    source = stored_in(item(b"ab") + b"\xfe\xff\xdd\xe0\0\0\0\0" + item(b"cd"))
    assert join_fragments(source, len(HEADER), source.stamp.size - len(HEADER)) == b"ab"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "has no fragment"),
        (b"x" * 20, "no whole fragment 0"),
        (item(b"ab") + item(b"cd")[:-1], "no whole fragment 1"),
        (b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + bytes(8), "no whole fragment 0"),
    ],
)
def test_damaged_fragments_raise(data: bytes, text: str, stored_in: Any) -> None:
    """Items that aren't there, or reach beyond the frame, raise."""
    source = stored_in(data)
    with pytest.raises(PixelError, match=text):
        join_fragments(source, len(HEADER), len(data))


# -- staged frames


@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "u2", "i8", "f4", "f8"])
def test_staged_frames_read_as_they_will_after_saving(dtype: str, stored_in: Any) -> None:
    """Staged values take the same round trip through stored integers as saved ones."""
    values = (np.random.default_rng(2).uniform(0, 50, (ROWS, COLUMNS)) % 2 if dtype == "bool" else 0) + np.arange(
        ROWS * COLUMNS
    ).reshape(ROWS, COLUMNS)
    values = values.astype(dtype)
    fmt = PixelFormat("", ROWS, COLUMNS, kind="staged", staged_dtype=dtype)
    source = stored_in(values.tobytes())
    for rescale in (Rescale(), Rescale(0.37, -1)):
        expected = to_values(to_stored(values, fmt, rescale), fmt, rescale)
        np.testing.assert_array_equal(read(source, fmt, rescale=rescale), expected)


def test_staged_labels_are_identical(stored_in: Any) -> None:
    """Integers without a rescale go straight into the output."""
    fmt, values = grey("u2", kind="staged", staged_dtype="uint16")
    source = stored_in(values.tobytes())
    np.testing.assert_array_equal(read(source, fmt, rescale=Rescale()), values)


def test_staged_nan_reads_nan(stored_in: Any) -> None:
    """NaN is stored as the padding value and reads back NaN."""
    fmt = PixelFormat("", 1, 3, kind="staged", staged_dtype="float64")
    found = read(stored_in(np.array([np.nan, 1, 2]).tobytes()), fmt, rescale=Rescale(0.5, 0, padding=0))
    np.testing.assert_array_equal(found, [[np.nan, 1, 2]])


def test_stored_values_of_staged_frames(stored_in: Any) -> None:
    """Stored values of staged frames are the integers that a save will write."""
    fmt, rescale = PixelFormat("", 1, 3, kind="staged", staged_dtype="float64"), Rescale(0.5)
    source = stored_in(np.array([0.1, 1, 2.3]).tobytes())
    out = np.empty((1, 3), np.uint16)
    FrameReader(fmt, rescale, np.uint16, stored=True).read(source, len(HEADER), 24, out)
    assert out.tolist() == [[0, 2, 5]]
