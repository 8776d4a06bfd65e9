"""Palettes and YBR to RGB."""

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut
from pydicom.uid import ExplicitVRLittleEndian

from xdicom.colour import Palette, expand_422, lut_descriptor, lut_entries, palette_of, ybr_to_rgb
from xdicom.errors import PixelError

CHANNELS = ("Red", "Green", "Blue")


def palette_dataset(descriptor: list[int], data: list[bytes], prefix: str = "") -> Dataset:
    """Return a dataset with a palette."""
    ds = Dataset()
    ds.PixelRepresentation = 0
    for channel, raw in zip(CHANNELS, data, strict=True):
        setattr(ds, f"{channel}PaletteColorLookupTableDescriptor", descriptor)
        setattr(ds, f"{prefix}{channel}PaletteColorLookupTableData", raw)
    return ds


def getter(ds: Dataset) -> Any:
    """Return the function of a tag that readers ask."""

    def get(tag: int) -> object:
        value = ds[tag].value if tag in ds else None
        return tuple(value) if isinstance(value, MultiValue) else value

    return get


def words(*values: int) -> bytes:
    """Return 16-bit numbers as bytes."""
    return np.array(values, "<u2").tobytes()


def test_palette_of_16_bits_is_that_of_pydicom() -> None:
    """Indices before and behind the table take its ends; the rest what pydicom gives."""
    ds = palette_dataset([4, 2, 16], [words(1, 2, 3, 4), words(5, 6, 7, 8), words(9, 10, 11, 65535)])
    palette = palette_of(getter(ds), signed=False)
    index = np.array([[2, 3], [4, 5]], np.uint16)
    np.testing.assert_array_equal(palette.table()[index - palette.first], apply_color_lut(index, ds))


def test_entries_of_8_bits_in_words_take_the_low_byte() -> None:
    """A table of 8-bit entries may be stored in 16-bit words."""
    np.testing.assert_array_equal(lut_entries(words(1, 2, 255), 3, 8, "x"), np.array([1, 2, 255], np.uint8))


def test_entries_may_be_numbers() -> None:
    """Tables that were decoded as numbers give the same palette as bytes."""
    data = [words(1, 2), words(3, 4), words(5, 6)]
    get = getter(palette_dataset([2, 0, 16], data))
    numbers = {tag: tuple(np.frombuffer(raw, "<u2").tolist()) for tag, raw in zip((0x00281201,), data, strict=False)}
    assert palette_of(lambda tag: numbers.get(tag, get(tag)), signed=False) == palette_of(get, signed=False)


def test_zero_entries_mean_65536() -> None:
    """0 in the descriptor stands for 65536 entries, and the first value may be negative."""
    assert lut_descriptor((0, 65535, 16), "x", signed=True) == (65536, -1, 16)


@pytest.mark.parametrize("value", [None, (1, 2), (1, 2, "16"), (4, 0, 3), "4\\0\\16"])
def test_bad_descriptor_raises(value: object) -> None:
    """A descriptor that is not three sensible integers raises and is shown."""
    with pytest.raises(PixelError, match="PaletteDescriptor"):
        lut_descriptor(value, "PaletteDescriptor", signed=False)


def test_segmented_palette_is_that_of_pydicom() -> None:
    """Discrete, linear and indirect segments expand as pydicom expands them."""
    table = words(0, 2, 10, 20, 1, 3, 50, 0, 1, 7, 2, 2, 0, 0)  # the indirect one: two segments from byte 0
    ds = palette_dataset([11, 0, 16], [table] * 3, "Segmented")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index = np.arange(11, dtype=np.uint16)
    palette = palette_of(getter(ds), signed=False)
    np.testing.assert_array_equal(palette.table()[index], apply_color_lut(index, ds))


@pytest.mark.parametrize(
    "table",
    [
        words(1, 3, 50),
        words(0, 2, 1, 2, 9, 9),
        words(0, 1, 1, 2, 1),
        words(0, 1, 1, 2, 5, 0, 0),
        words(0, 1, 5, 1, 0, 9),
        words(0, 1, 5, *[2, 9, 0, 0] * 20),
    ],
    ids=["linear first", "unknown", "truncated", "recursive", "empty line", "bomb"],
)
def test_damaged_segments_raise(table: bytes) -> None:
    """Segments that cannot be expanded raise PixelError, whatever they say."""
    ds = palette_dataset([10, 0, 16], [table] * 3, "Segmented")
    with pytest.raises(PixelError):
        palette_of(getter(ds), signed=False)


def test_short_or_missing_table_raises() -> None:
    """A table with fewer entries than announced, or none, raises and is named."""
    ds = palette_dataset([4, 0, 16], [words(1, 2, 3, 4)] * 2 + [b"\0\0"])
    with pytest.raises(PixelError, match="BluePaletteColorLookupTableData has 2 bytes, expected 4"):
        palette_of(getter(ds), signed=False)
    del ds.BluePaletteColorLookupTableData
    with pytest.raises(PixelError, match="BluePaletteColorLookupTableData is missing"):
        palette_of(getter(ds), signed=False)


def test_palette_keeps_entry_bits() -> None:
    """A palette of 8-bit entries gives bytes."""
    assert Palette(0, 8, b"\1", b"\2", b"\3").table().tolist() == [[1, 2, 3]]


def test_422_shares_colour_between_two_pixels() -> None:
    """Y1 Y2 Cb Cr becomes Y1 Cb Cr, Y2 Cb Cr."""
    found = expand_422(np.array([[1, 2, 8, 9]], np.uint8))
    assert found.tolist() == [[[1, 8, 9], [2, 8, 9]]]


def test_grey_ybr_is_grey_rgb() -> None:
    """Without chroma R, G and B equal Y."""
    ybr = np.array([[[7, 128, 128], [255, 128, 128]]], np.uint8)
    assert ybr_to_rgb(ybr).tolist() == [[[7, 7, 7], [255, 255, 255]]]


def test_indirect_segment_counts_in_bytes() -> None:
    """An indirect segment names its target by byte, not by entry (PS3.3 C.7.9.2.3)."""
    table = words(0, 2, 10, 20, 0, 1, 5, 2, 1, 8, 0)
    ds = palette_dataset([4, 0, 16], [table] * 3, "Segmented")
    assert palette_of(getter(ds), signed=False).table()[:, 0].tolist() == [10, 20, 5, 5]
