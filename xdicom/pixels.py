"""Frame locations to 2-D arrays: native frames straight into the output, others through their decoder.

The only place that knows how the bytes of a frame lie; what values mean is in `rescale`, which codec in `decoders`.

Notes
-----
Pixels of MONOCHROME1 stay as stored (low is bright). Palettes and YBR become RGB. Rescale is not applied to palettes.
"""

import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import decoders
from .colour import expand_422, ybr_to_rgb
from .decoders import DecoderFallbackWarning, frees_gil
from .errors import PixelError
from .formats import (
    DEFLATED,
    FORMAT_TAGS,
    PixelFormat,
    container_dtype,
    frame_nbytes,
    frame_shape,
    pixel_format,
    stored_dtype,
)
from .header import inflated
from .rescale import RESCALE_TAGS, Rescale, rescale_of, stored_writer, to_stored, to_values, value_dtype, value_writer
from .source import Stamp
from .walker import walk_meta

__all__ = [
    "FORMAT_TAGS",
    "RESCALE_TAGS",
    "WHOLE",
    "DecoderFallbackWarning",
    "FrameReader",
    "PixelFormat",
    "Region",
    "Rescale",
    "frame_nbytes",
    "frame_shape",
    "frees_gil",
    "pixel_format",
    "read_into",
    "region_shape",
    "rescale_of",
    "stored_dtype",
    "to_stored",
    "to_values",
    "value_dtype",
    "within",
]

Region = tuple[slice | int, slice | int]
WHOLE: Region = (slice(None), slice(None))
_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_META = 1 << 16


class Bytes(Protocol):
    """What a reader needs of a `Source`."""

    path: bytes
    stamp: Stamp

    def read(self, offset: int, length: int) -> bytes: ...

    def read_into(self, offset: int, target: memoryview) -> int: ...


def read_into(
    source: Bytes,
    offset: int,
    length: int,
    fmt: PixelFormat,
    rescale: Rescale | None,
    out: NDArray[Any],
    region: Region = WHOLE,
    *,
    frame: int = 0,
) -> None:
    """Read one frame, or part of one, into an array.

    Parameters
    ----------
    source
        The open file.
    offset, length
        Bytes of the frame in the file; of an encapsulated frame those of its fragments, item headers included.
    fmt
        What the bytes mean.
    rescale
        To real-world values; None leaves stored values (of staged frames those of no rescale, see `FrameReader`).
    out
        Array of shape `region_shape(fmt, region)`, of any dtype that holds the values.
    region
        (rows, columns), each a slice, with any step, or an int, which drops that axis.
    frame
        Number of the frame in its file from 0; tells in which bit a frame of 1-bit pixels begins.

    Raises
    ------
    PixelError
        The frame is truncated, damaged, over the size limit, or `out` cannot hold its values.
    """
    reader = FrameReader(fmt, rescale or Rescale(), out.dtype, region, stored=rescale is None)
    reader.read(source, offset, length, out, frame=frame)


def region_shape(fmt: PixelFormat, region: Region = WHOLE) -> tuple[int, ...]:
    """Return the shape of part of a frame; samples, if there are several, come last."""
    sides = zip(region, (fmt.rows, fmt.columns), strict=True)
    kept = [len(range(*key.indices(size))) for key, size in sides if isinstance(key, slice)]
    return (*kept, *frame_shape(fmt)[2:])


def _steps(key: slice | int, size: int, axis: str) -> range:
    """Return the indices that a slice or int stands for."""
    if isinstance(key, slice):
        return range(*key.indices(size))
    index = key + size if key < 0 else key
    if not 0 <= index < size:
        raise IndexError(f"{axis} {key} is outside 0 to {size - 1}")
    return range(index, index + 1)


def within(tile: tuple[int, int, int, int], region: Region) -> Region:
    """Return a region of part of a picture as a region of the picture.

    Parameters
    ----------
    tile
        First row and column of the part, its rows and columns.
    region
        (rows, columns), each a slice or an int, counted in the part.
    """
    row, column, rows, columns = tile
    return _shifted(region[0], row, rows, "row"), _shifted(region[1], column, columns, "column")


def _shifted(key: slice | int, first: int, size: int, axis: str) -> slice | int:
    """Return a slice or int counted from `first`."""
    steps = _steps(key, size, axis)
    if not isinstance(key, slice):
        return first + steps[0]
    stop = steps.stop + first
    return slice(steps.start + first, stop if stop >= 0 else None, steps.step)


class FrameReader:
    """Reads the same part of many frames of one format, in one rescale, into arrays of one dtype.

    With `stored` it gives stored values, which of staged frames depend on the rescale.

    Notes
    -----
    It holds a buffer, so that each thread needs its own.
    """

    def __init__(
        self,
        fmt: PixelFormat,
        rescale: Rescale,
        dtype: Any,
        region: Region = WHOLE,
        *,
        stored: bool = False,
    ) -> None:
        self.fmt = fmt
        self.shape = region_shape(fmt, region)
        self._rows = _steps(region[0], fmt.rows, "row")
        self._columns = _steps(region[1], fmt.columns, "column")
        self._dropped = tuple(slice(None) if isinstance(key, slice) else None for key in region)
        self._drops = None in self._dropped
        self._rescale = rescale
        self._is_plain = stored or rescale.is_identity
        dtype = np.dtype(dtype)
        self._write = stored_writer(fmt, dtype) if stored else value_writer(fmt, rescale, dtype)
        self._container = container_dtype(fmt)
        self._is_colour = fmt.palette is not None or fmt.photometric in ("YBR_FULL", "YBR_FULL_422")
        self._is_planar = fmt.planar == 1 and fmt.samples > 1
        # Bytes of the file are, but for unused bits, the stored values of the region in their order.
        self._is_direct = (
            fmt.is_native
            and not self._is_colour
            and not fmt.word_swapped
            and fmt.transfer_syntax != DEFLATED
            and fmt.bits_allocated > 1
            and not self._is_planar
            and self._rows.step == 1
            and self._columns == range(fmt.columns)
            and (fmt.kind != "staged" or (self._container == stored_dtype(fmt) and rescale.is_identity))
        )
        self._is_straight = self._is_direct and dtype == self._container
        self._line = fmt.columns * fmt.samples * self._container.itemsize
        self._needed = frame_nbytes(fmt)
        self._direct_shape = (len(self._rows), *frame_shape(fmt)[1:])
        self._scratch: NDArray[Any] | None = None
        self._scratch_bytes = memoryview(b"")
        self._inflated: tuple[Bytes, Bytes] | None = None

    def read(self, source: Bytes, offset: int, length: int, out: NDArray[Any], *, frame: int = 0) -> None:
        """Read one frame into `out`; see `read_into`."""
        if out.shape != self.shape:
            raise ValueError(f"the array to read into has shape {out.shape}, expected {self.shape}")
        if not out.size:
            return
        if self._is_direct:
            self._read_direct(source, offset, length, out)
            return
        if self.fmt.is_native:
            stored = self._native(source, offset, length, frame)
        else:
            stored = self._decoded(source, offset, length)
        self._write(stored, out[self._dropped] if self._drops else out)

    def _read_direct(self, source: Bytes, offset: int, length: int, out: NDArray[Any]) -> None:
        """Let the operating system write the bytes into the output itself, or into a buffer where dtypes differ."""
        self._check_length(length)
        offset += self._rows.start * self._line
        if self._is_straight and out.flags.c_contiguous:
            self._fill(source, offset, _bytes_of(out))
            stored = self._unpadded(out)
            if not self._is_plain:
                self._write(stored, out)
            return
        buffer = self._buffer(source, offset, self._direct_shape, self._container)
        self._fill(source, offset, self._scratch_bytes)
        self._write(self._unpadded(buffer), out[self._dropped] if self._drops else out)

    def _check_length(self, length: int) -> None:
        if length < self._needed:
            fmt = self.fmt
            size = f"{fmt.rows} x {fmt.columns} x {fmt.samples}"
            raise PixelError(
                f"the frame has {length} bytes, expected {self._needed} for {size} of {fmt.bits_allocated} bits"
            )

    @staticmethod
    def _fill(source: Bytes, offset: int, target: memoryview) -> None:
        """Fill memory from the file, or say that the file is too short."""
        if source.read_into(offset, target) < len(target):
            raise _too_short(source, offset, len(target))

    def _buffer(self, source: Bytes, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a buffer to read into, the last one if it fits; sizes are checked before it is allocated."""
        if self._scratch is None or self._scratch.shape != shape:
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if offset + size > source.stamp.size:
                raise _too_short(source, offset, size)
            if size > decoders.MAX_FRAME_BYTES:
                raise PixelError(f"the frame needs {size} bytes, more than the limit of {decoders.MAX_FRAME_BYTES}")
            self._scratch = np.empty(shape, dtype)
            self._scratch_bytes = _bytes_of(self._scratch)
        return self._scratch

    def _native(self, source: Bytes, offset: int, length: int, frame: int) -> NDArray[Any]:
        """Return stored values of the region, in RGB if they are colour."""
        self._check_length(length)
        fmt = self.fmt
        if fmt.transfer_syntax == DEFLATED and fmt.kind != "staged":
            source = self._inflate(source)
        if fmt.bits_allocated == 1 and fmt.kind != "staged":
            return self._bits(source, offset, frame)
        samples = self._swapped(source, offset, frame) if fmt.word_swapped else self._lines(source, offset)
        if fmt.kind == "staged":
            return to_stored(samples, fmt, self._rescale)
        return self._coloured(self._unpadded(samples), fmt.photometric)

    def _lines(self, source: Bytes, offset: int) -> NDArray[Any]:
        """Read the rows of the region, and no others; return its samples, (rows, columns[, samples])."""
        fmt, rows = self.fmt, self._rows
        planes = fmt.samples if self._is_planar else 1
        width = fmt.columns * (2 if fmt.is_subsampled else fmt.samples // planes)
        buffer = self._buffer(source, offset, (planes, len(rows), width), self._container)
        line, plane = width * self._container.itemsize, fmt.rows * width * self._container.itemsize
        # Bytes of lines before the first column and behind the last one; those between lines lie in the same pages.
        pixel = line // fmt.columns
        head = min(self._columns[0], self._columns[-1]) * pixel if not fmt.is_subsampled else 0
        tail = line - (max(self._columns[0], self._columns[-1]) + 1) * pixel if not fmt.is_subsampled else 0
        for number in range(planes):
            start = offset + number * plane + head
            if abs(rows.step) == 1 or len(rows) == 1:
                target = _bytes_of(buffer[number])
                self._fill(source, start + min(rows[0], rows[-1]) * line, target[head : len(target) - tail])
                continue
            for lines, index in zip(buffer[number], rows, strict=True):
                self._fill(source, start + index * line, _bytes_of(lines)[head : line - tail])
        picked: NDArray[Any] = buffer[:, ::-1] if rows.step == -1 and len(rows) > 1 else buffer
        if self._is_planar:
            return picked[:, :, self._column_slice()].transpose(1, 2, 0)
        if fmt.is_subsampled:
            return expand_422(self._paired(picked[0]))[:, self._column_slice()]
        if fmt.samples > 1:
            picked = picked[0].reshape(len(rows), fmt.columns, fmt.samples)
            return picked[:, self._column_slice()]
        return picked[0, :, self._column_slice()]

    def _paired(self, lines: NDArray[Any]) -> NDArray[Any]:
        if self.fmt.columns % 2:
            raise PixelError(f"Columns is {self.fmt.columns}, expected an even number for native YBR_FULL_422")
        return lines

    def _column_slice(self) -> slice:
        """Return the columns of the region as a slice."""
        columns = self._columns
        return slice(columns.start, columns.stop if columns.stop >= 0 else None, columns.step)

    def _picked(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return the region of a whole frame."""
        rows = self._rows
        stop = rows.stop if rows.stop >= 0 else None
        picked: NDArray[Any] = samples[rows.start : stop : rows.step, self._column_slice()]
        return picked

    def _unpadded(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Clear the bits beyond BitsStored, in place; extend the sign."""
        fmt = self.fmt
        if fmt.kind != "int" or fmt.bits_stored == fmt.bits_allocated:
            return samples
        unused = fmt.bits_allocated - fmt.bits_stored
        above = fmt.bits_allocated - 1 - fmt.high_bit
        if not fmt.signed and not unused - above:
            np.bitwise_and(samples, (1 << fmt.bits_stored) - 1, out=samples)
        else:
            np.left_shift(samples, above, out=samples)
            np.right_shift(samples, unused, out=samples)
        return samples

    def _bits(self, source: Bytes, offset: int, frame: int) -> NDArray[Any]:
        """Read the rows of the region of a frame of 1-bit pixels (PS3.5 8.1.1: the first pixel in the lowest bit)."""
        fmt, rows = self.fmt, self._rows
        line = fmt.columns * fmt.samples
        first = frame * fmt.rows * line % 8 + min(rows[0], rows[-1]) * line
        count = (abs(rows[-1] - rows[0]) + 1) * line
        skipped = first % 8
        packed = self._buffer(source, offset + first // 8, ((skipped + count + 7) // 8,), np.dtype("u1"))
        self._fill(source, offset + first // 8, _bytes_of(packed))
        plain = np.unpackbits(packed, bitorder="little")[skipped : skipped + count]
        shape = (fmt.columns,) if fmt.samples == 1 else (fmt.columns, fmt.samples)
        return plain.reshape(-1, *shape)[:: rows.step, self._column_slice()]

    def _swapped(self, source: Bytes, offset: int, frame: int) -> NDArray[Any]:
        """Read a frame of bytes that lie swapped in 16-bit words, which frames of odd length share."""
        fmt, size = self.fmt, frame_nbytes(self.fmt)
        odd = frame * size % 2
        words = self._buffer(source, offset - odd, ((odd + size + 1) // 2,), np.dtype("u2"))
        self._fill(source, offset - odd, _bytes_of(words))
        samples = words.byteswap().view(self._container)[odd : odd + size]
        if fmt.samples == 1:
            return self._picked(samples.reshape(fmt.rows, fmt.columns))
        if fmt.is_subsampled:
            return self._picked(expand_422(self._paired(samples.reshape(fmt.rows, -1))))
        if self._is_planar:
            return self._picked(samples.reshape(fmt.samples, fmt.rows, fmt.columns).transpose(1, 2, 0))
        return self._picked(samples.reshape(fmt.rows, fmt.columns, fmt.samples))

    def _decoded(self, source: Bytes, offset: int, length: int) -> NDArray[Any]:
        """Return stored values of the region of a compressed frame, in RGB if they are colour."""
        stored, photometric = decoders.decode(join_fragments(source, offset, length), self.fmt)
        return self._coloured(self._picked(stored), photometric)

    def _coloured(self, stored: NDArray[Any], photometric: str) -> NDArray[Any]:
        """Return RGB of palette colour and YBR, and anything else as it is."""
        if self.fmt.palette is not None:
            table = self.fmt.palette.table()
            index = np.subtract(stored, self.fmt.palette.first, dtype=np.int64, casting="unsafe")
            return np.asarray(table[np.clip(index, 0, len(table) - 1)])
        if photometric in ("YBR_FULL", "YBR_FULL_422") and self.fmt.samples == 3:
            return ybr_to_rgb(stored)
        return stored

    def _inflate(self, source: Bytes) -> Bytes:
        """Return the file as it would be without deflation, which offsets count in."""
        if self._inflated is None or self._inflated[0] is not source:
            self._inflated = (source, _Inflated(source))
        return self._inflated[1]


def _bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the memory of a contiguous array."""
    return memoryview(array.reshape(-1).view(np.uint8))


class _Inflated:
    """A deflated file in memory, inflated."""

    def __init__(self, source: Any) -> None:
        meta = walk_meta(source.read(0, min(_META, source.stamp.size)), source.stamp.size)
        self._buffer = inflated(source, meta.position)
        self.path: bytes = source.path
        self.stamp = Stamp(len(self._buffer), 0, 0)

    def read(self, offset: int, length: int) -> bytes:
        return self._buffer[offset : offset + length]

    def read_into(self, offset: int, target: memoryview) -> int:
        block = self._buffer[offset : offset + len(target)]
        target[: len(block)] = block
        return len(block)


def _too_short(source: Bytes, offset: int, size: int) -> PixelError:
    path = os.fsdecode(source.path)
    return PixelError(f"{path!r} ends at byte {source.stamp.size}, expected {size} bytes of pixels from byte {offset}")


def join_fragments(source: Bytes, offset: int, length: int) -> bytes:
    """Return the codestream of one encapsulated frame, its fragments joined without their item headers.

    Raises
    ------
    PixelError
        There is no item where one should be, or it reaches beyond the frame.
    """
    if offset + length > source.stamp.size:
        raise _too_short(source, offset, length)
    if length > decoders.MAX_FRAME_BYTES:
        raise PixelError(f"the frame has {length} bytes, more than the limit of {decoders.MAX_FRAME_BYTES}")
    data = source.read(offset, length)
    parts: list[bytes] = []
    position = 0
    while position + 8 <= len(data) and data[position : position + 4] != _SEQUENCE_END:
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] != _ITEM or position + 8 + size > len(data):
            raise PixelError(f"the frame at byte {offset} has no whole fragment {len(parts)}: it is damaged")
        parts.append(data[position + 8 : position + 8 + size])
        position += 8 + size
    if not parts:
        raise PixelError(f"the frame at byte {offset} has no fragment")
    return parts[0] if len(parts) == 1 else b"".join(parts)
