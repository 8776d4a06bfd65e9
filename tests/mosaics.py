"""Synthetic pictures of several slices: Siemens mosaics with CSA headers of both versions, and UIH grids."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from factories import AXIAL, Layout, base_dataset, set_pixels, set_tags
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

Csa = Mapping[str, Sequence[object]]


def csa2(tags: Csa) -> bytes:
    """Return a CSA header of the second version."""
    parts = [b"SV10\4\3\2\1" + struct.pack("<II", len(tags), 77)]
    for name, items in tags.items():
        parts.append(_tag(name, len(items)))
        for value in items:
            text = f"{value}".encode() + b"\0"
            size = len(text) if f"{value}" else 0
            parts.append(struct.pack("<4i", size, size, 77, size) + text[:size] + b"\0" * (-size % 4))
    return b"".join(parts)


def csa1(tags: Csa) -> bytes:
    """Return a CSA header of the first version, whose lengths count in the items of the first tag."""
    parts = [struct.pack("<II", len(tags), 77)]
    surplus = len(next(iter(tags.values())))
    for name, items in tags.items():
        parts.append(_tag(name, len(items)))
        for value in items:
            text = f"{value}".encode() + b"\0"
            parts.append(struct.pack("<4i", len(text) + surplus, len(text), 77, 0) + text + b"\0" * (-len(text) % 4))
    return b"".join(parts)


def _tag(name: str, items: int) -> bytes:
    return struct.pack("<64si4siii", name.encode(), 1, b"IS", 6, items, 77)


def protocol(centres: Sequence[Sequence[float]]) -> bytes:
    """Return the text of a protocol with the centres of slices; what is 0 is left out, as scanners do."""
    lines = ["<XProtocol> {", "### ASCCONV BEGIN ###", 'tProtocolName = "epi"', f"sSliceArray.lSize = {len(centres)}"]
    for i, centre in enumerate(centres):
        for name, value in zip(("dSag", "dCor", "dTra"), centre, strict=True):
            if value:
                lines.append(f"sSliceArray.asSlice[{i}].sPosition.{name}\t = \t{value!r}")
    return "\n".join([*lines, "### ASCCONV END ###", "}"]).encode()


def picture(slices: np.ndarray, across: int, down: int) -> np.ndarray:
    """Lay slices (n, rows, columns) side by side, row by row."""
    count, rows, columns = slices.shape
    whole = np.zeros((down * rows, across * columns), slices.dtype)
    for i in range(count):
        top, left = i // across * rows, i % across * columns
        whole[top : top + rows, left : left + columns] = slices[i]
    return whole


def mosaic(
    slices: np.ndarray,
    *,
    layout: Layout = AXIAL,
    reverse: bool = False,
    csa: Csa | None = None,
    series: bytes = b"",
    number: int = 1,
    name: str = "mosaic",
    **tags: Any,
) -> Dataset:
    """Return a Siemens mosaic of slices (n, rows, columns), the first of which lies at the layout's origin.

    Parameters
    ----------
    reverse
        The slices follow each other against the normal.
    csa
        Laid over what the CSA image header says; a value of [] leaves a tag empty.
    series
        CSA series header.
    tags
        By keyword, None removes the element; `csa_header=False` leaves the private elements out.
    """
    count, rows, columns = slices.shape
    side = math.isqrt(count - 1) + 1
    with_csa = tags.pop("csa_header", True)
    ds = base_dataset(name, number=number, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    set_pixels(ds, picture(slices, side, side), bits_stored=12)
    # The picture of all tiles has its centre where the first slice has it.
    right, down = np.array(layout.row_direction), np.array(layout.column_direction)
    aside = (side - 1) / 2 * (columns * layout.spacing[1] * right + rows * layout.spacing[0] * down)
    ds.ImagePositionPatient = [round(float(x), 9) for x in np.array(layout.origin) - aside]
    ds.ImageOrientationPatient, ds.PixelSpacing = layout.orientation(), list(layout.spacing)
    ds.SliceThickness, ds.SpacingBetweenSlices = layout.step - 1, layout.step
    ds.AcquisitionMatrix = [rows, 0, 0, columns]
    if with_csa:
        normal = (-1 if reverse else 1) * layout.normal
        said: dict[str, Sequence[object]] = {
            "EchoLinePosition": ["32", "", ""],
            "NumberOfImagesInMosaic": [f"{count:8d}", "", ""],
            "SliceNormalVector": [f"{x:.8f}" for x in normal],
            "MosaicRefAcqTimes": [f"{100.5 * (i * 7 % count):.8f}" for i in range(count)],
            **(csa or {}),
        }
        block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x08, "CS", "IMAGE NUM 4")
        block.add_new(0x10, "OB", csa2(said))
        if series:
            block.add_new(0x20, "OB", series + b" " * (len(series) % 2))
        own = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        own.add_new(0x0A, "US", count)
        own.add_new(0x29, "FD", [100.5 * (i * 7 % count) for i in range(count)])
    set_tags(ds, tags)
    return ds


def centres(layout: Layout, slices: np.ndarray, *, reverse: bool = False) -> list[list[float]]:
    """Return the centres of slices, as a protocol has them: half a picture from the corner of its first pixel."""
    right, down = np.array(layout.row_direction), np.array(layout.column_direction)
    rows, columns = slices.shape[1:]
    to_centre = columns / 2 * layout.spacing[1] * right + rows / 2 * layout.spacing[0] * down
    steps = (-1 if reverse else 1) * np.arange(len(slices))
    return [[round(float(x), 6) for x in layout.position(step) + to_centre] for step in steps]


def grid(slices: np.ndarray, *, layout: Layout = AXIAL, number: int = 1, name: str = "grid", **tags: Any) -> Dataset:
    """Return a UIH grid of slices (n, rows, columns): as many columns of them as Siemens, as few rows as are needed."""
    count = len(slices)
    across = math.isqrt(count - 1) + 1
    ds = base_dataset(name, number=number, ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"], Manufacturer="UIH")
    set_pixels(ds, picture(slices, across, -(-count // across)), bits_stored=12)
    ds.ImageOrientationPatient, ds.PixelSpacing = layout.orientation(), list(layout.spacing)
    ds.SliceThickness, ds.SpacingBetweenSlices = layout.step - 1, layout.step
    items = []
    for i in range(count):
        item = Dataset()
        item.AcquisitionDate, item.AcquisitionTime = "20240229", f"1015{i:02}.500000"
        item.ImagePositionPatient = layout.position(i)
        items.append(item)
    block = ds.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(count))
    block.add_new(0x51, "SQ", Items(items))
    set_tags(ds, tags)
    return ds


def make_slices(count: int, rows: int = 6, columns: int = 5, seed: int = 0) -> np.ndarray:
    """Return random slices of 12 bits."""
    return np.random.default_rng(seed).integers(0, 4096, (count, rows, columns), np.uint16)
