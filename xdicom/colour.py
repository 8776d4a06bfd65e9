"""Colour of stored pixels made RGB: palettes, and the YBR of PS3.3 C.7.6.3.1.2.

It reads no files; MONOCHROME1 is no colour and stays as stored.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import PixelError

_CHANNELS = ("Red", "Green", "Blue")
_DESCRIPTORS = (0x00281101, 0x00281102, 0x00281103)
_DATA = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED = (0x00281221, 0x00281222, 0x00281223)
_MAX_ENTRIES = 65536


class Palette(NamedTuple):
    """Three lookup tables: the stored value of their first entry, bits of an entry, little-endian entries."""

    first: int
    bits: int
    red: bytes
    green: bytes
    blue: bytes

    def table(self) -> NDArray[Any]:
        """Return the palette as an array of shape (entries, 3)."""
        entries = [np.frombuffer(channel, f"<u{self.bits // 8}") for channel in self[2:]]
        return np.stack(entries, axis=-1).astype(entries[0].dtype.newbyteorder("="))


def as_bytes(value: object, name: str) -> bytes:
    """Return LUT data as little-endian bytes, whether they were decoded as bytes or as 16-bit numbers."""
    if isinstance(value, bytes):
        return value
    numbers = value if isinstance(value, list | tuple) else (value,)
    try:
        return np.asarray([int(number) & 0xFFFF for number in numbers], "<u2").tobytes()
    except (TypeError, ValueError):
        raise PixelError(f"{name} holds {type(value).__name__}, expected bytes or integers") from None


def lut_descriptor(value: object, name: str, signed: bool) -> tuple[int, int, int]:
    """Return (entries, stored value of the first entry, bits of an entry) of a LUT Descriptor."""
    if not (isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(part, int) for part in value)):
        raise PixelError(f"{name} is {value!r}, expected three integers")
    entries, first, bits = value
    entries = entries & 0xFFFF or _MAX_ENTRIES  # PS3.3 C.7.6.3.1.5: 0 means 65536
    first &= 0xFFFF
    if signed and first > 0x7FFF:
        first -= 0x10000
    if not 8 <= bits <= 16:
        raise PixelError(f"{name} gives {bits} bits an entry, expected 8 to 16")
    return entries, first, bits


def lut_entries(data: bytes, entries: int, bits: int, name: str) -> NDArray[Any]:
    """Return LUT data as an array of unsigned integers; 8-bit entries may be stored in bytes or in words."""
    if len(data) >= 2 * entries:
        words = np.frombuffer(data, "<u2", entries)
        return words.astype("u1" if bits == 8 else "u2")
    if len(data) >= entries:
        return np.frombuffer(data, "u1", entries)
    raise PixelError(f"{name} has {len(data)} bytes, expected {entries} entries of {bits} bits")


def palette_of(get: Callable[[int], object], signed: bool) -> Palette:
    """Return the palette of a PALETTE COLOR image, segmented tables expanded.

    Parameters
    ----------
    get
        Decoded value of a tag, or None.
    signed
        Whether stored values, and so the first one that is mapped, are signed.

    Raises
    ------
    PixelError
        A table is missing, damaged or too short.
    """
    channels = []
    first = 0
    for channel, descriptor, data, segmented in zip(_CHANNELS, _DESCRIPTORS, _DATA, _SEGMENTED, strict=True):
        name = f"{channel}PaletteColorLookupTable"
        entries, first, bits = lut_descriptor(get(descriptor), f"{name}Descriptor", signed)
        plain, packed = get(data), get(segmented)
        if plain is not None:
            channels.append(lut_entries(as_bytes(plain, f"{name}Data"), entries, bits, f"{name}Data"))
        elif packed is not None:
            raw = as_bytes(packed, f"Segmented{name}Data")
            channels.append(_expand(raw, entries, bits, f"Segmented{name}Data"))
        else:
            raise PixelError(f"{name}Data is missing: the palette cannot be applied")
    if len({(channel.dtype, len(channel)) for channel in channels}) > 1:
        raise PixelError("the palette's red, green and blue tables differ in length or bits")
    red, green, blue = (channel.astype(channel.dtype.newbyteorder("<")).tobytes() for channel in channels)
    return Palette(first, channels[0].itemsize * 8, red, green, blue)


def _expand(data: bytes, entries: int, bits: int, name: str) -> NDArray[Any]:
    """Expand segmented LUT data (PS3.3 C.7.9.2)."""
    words = np.frombuffer(data, "<u2" if bits > 8 else "u1", len(data) // (2 if bits > 8 else 1)).tolist()
    try:
        table = _segments(words, 0, None, [], 2 if bits > 8 else 1)
    except (IndexError, ZeroDivisionError):
        raise PixelError(f"{name} is damaged: a segment reaches beyond its end") from None
    except RecursionError:
        raise PixelError(f"{name} is damaged: its segments refer to each other") from None
    if len(table) < entries:
        raise PixelError(f"{name} expands to {len(table)} entries, expected {entries}")
    return np.asarray(table[:entries], "u2" if bits > 8 else "u1")


def _segments(words: list[int], position: int, count: int | None, table: list[int], width: int) -> list[int]:
    """Append `count` segments (None: all) from `position` to `table` and return it."""
    while position + 1 < len(words) and count != 0:
        kind, length = words[position : position + 2]
        position += 2
        if kind == 0:
            table += words[position : position + length]
            position += length
        elif kind == 1:
            table += _line(table[-1], words[position], length)
            position += 1
        elif kind == 2:
            used = 4 // width
            offset = sum(word << (8 * width * i) for i, word in enumerate(words[position : position + used]))
            position += used
            _segments(words, offset // width, length, table, width)
        else:
            raise PixelError(f"a segmented palette has a segment of type {kind}, expected 0, 1 or 2")
        if len(table) > 2 * _MAX_ENTRIES:
            raise PixelError(f"a segmented palette expands to more than {_MAX_ENTRIES} entries")
        if count is not None:
            count -= 1
    return table


def _line(start: int, stop: int, length: int) -> list[int]:
    """Return `length` entries that lead in a line from behind `start` to `stop`."""
    step = (stop - start) / length
    values: list[float] = np.around(np.linspace(start + step, stop, length)).tolist()
    return [int(value) for value in values]


def ybr_to_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return RGB for 8-bit YBR_FULL pixels of shape (..., 3)."""
    from pydicom.pixels.processing import convert_color_space

    return convert_color_space(pixels, "YBR_FULL", "RGB")


def expand_422(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return YBR_FULL (..., columns, 3) for native YBR_FULL_422 (..., 2 columns): Y Y B R for two pixels."""
    quads = pixels.reshape(*pixels.shape[:-1], -1, 4)
    full = np.empty((*quads.shape[:-1], 2, 3), pixels.dtype)
    full[..., 0] = quads[..., :2]
    full[..., 1:] = quads[..., np.newaxis, 2:]
    return full.reshape(*pixels.shape[:-1], -1, 3)
