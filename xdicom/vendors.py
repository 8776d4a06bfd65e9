"""What vendors say in their own elements: where the slices in a Siemens mosaic or UIH grid are, in picture and patient.

It reads headers only; where tiles lie in a picture is told to `locations`, which reads them.

Notes
-----
Both put the slices of a volume side by side into one picture, row by row. Siemens uses a square grid and gives the
position that a slice of the size of the whole picture would have about the centre of the first slice; UIH gives the
position of each slice. Neither is part of the standard.
"""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from . import geometry, tags
from .columns import Known
from .csa import csa_numbers, csa_values, protocol_slices
from .errors import BrokenFileError, GeometryError, PixelError
from .header import Header
from .walker import sequence_items

Tile = tuple[int, int, int, int]
"""First row, first column, rows and columns of a slice in the picture that holds it."""

IMAGE_TYPE, ROWS, COLUMNS = 0x00080008, 0x00280010, 0x00280011
POSITION, ORIENTATION, SPACING, SLICE_SPACING = 0x00200032, 0x00200037, 0x00280030, 0x00180088
SLICE_LOCATION = 0x00201041
_ACQUISITION_MATRIX = 0x00181310
_TIMES = (0x00080022, 0x0008002A, 0x00080032)  # AcquisitionDate, AcquisitionDateTime, AcquisitionTime
_UIH_COUNT, _UIH_FRAMES = 0x00651050, 0x00651051
_CSA, _MR = "SIEMENS CSA HEADER", "SIEMENS MR HEADER"
_PROTOCOL = ("SIEMENS MR SDS 01", 0x0021, 0x19)
MOSAIC, GRID = b"MOSAIC", b"VFRAME"
# CSA image header, NumberOfImagesInMosaic, and the number and sequence of slices of UIH: group, element in its block.
_DECISIVE = {(0x0029, 0x10), (0x0019, 0x0A), (0x0065, 0x50), (0x0065, 0x51)}
_COUNT = 0x0019100A
HINTS = (IMAGE_TYPE, _COUNT, _UIH_FRAMES)
"""Elements that hint at slices side by side."""
_MOST_TILES = 4096
_HARDLY_LARGER = 1.5  # interpolated slices are twice as large as acquired, like the smallest mosaics
_PARALLEL = 1e-3
_NEAR = 0.05  # mm, for positions with few decimals

_WHAT_NOW = "give the file with the scanner's private elements, or set ImageType without it to have one picture"


class Tiling(NamedTuple):
    """The slices in one picture.

    Attributes
    ----------
    tiles
        Where each slice is in the picture.
    columns
        What differs from slice to slice, by tag: for each a (VR, raw value) or None where it is not known.
    problem
        Why the slices have no positions, "" where they have.
    """

    tiles: Sequence[Tile]
    columns: dict[int, list[Known | None]]
    problem: str = ""


def decides_tiles(tag: int) -> bool:
    """Say whether an element tells how many slices there are in a picture, or where they lie."""
    if tag in (POSITION, ORIENTATION, SPACING, SLICE_SPACING, SLICE_LOCATION):
        return True
    return (tag >> 16, tag & 0xFF) in _DECISIVE and tag & 0xFFFF >= 0x1000


def owns_tiles(tag: int) -> bool:
    """Say whether an element may be the private creator of one that `decides_tiles`."""
    return 0x10 <= tag & 0xFFFF <= 0xFF and any(tag >> 16 == group for group, _ in _DECISIVE)


def hints_at_tiles(tag: int, raw: bytes) -> bool:
    """Say whether the raw value of one of HINTS may mean several slices side by side; `tiling_of` knows for sure."""
    return MOSAIC in raw or GRID in raw if tag == IMAGE_TYPE else raw not in (b"", b"\0\0", b"\1\0")


def tiling_of(header: Header) -> Tiling | None:
    """Return the slices in the one picture of a file, None where it is a picture of one slice.

    Raises
    ------
    PixelError
        If the file says that there are several, but not how many, or contradicts itself.
    """
    parts = {part.strip(b" \0") for part in _raw(header, IMAGE_TYPE).split(b"\\")}
    if GRID in parts or {_UIH_COUNT, _UIH_FRAMES} <= header.elements.keys():
        return _uih_grid(header)
    if MOSAIC in parts or _keeps_mosaic(header):
        return _siemens_mosaic(header)
    return None


# -- Siemens


def _siemens_mosaic(header: Header) -> Tiling | None:
    image = _private(header, _CSA, 0x0029, 0x10)
    wanted = ("NumberOfImagesInMosaic", "SliceNormalVector", "MosaicRefAcqTimes")
    try:
        csa = csa_values(image, wanted) if image else {}
    except BrokenFileError as error:
        raise PixelError(f"ImageType says MOSAIC, but {error}; {_WHAT_NOW}") from None
    count = _mosaic_count(header, csa, bool(image))
    if count is None:
        return None
    tiles = _tiles(header, count, grid := math.isqrt(count - 1) + 1, grid, "a mosaic")
    columns: dict[int, list[Known | None]] = {}
    times = csa_numbers(csa.get("MosaicRefAcqTimes"))
    tag = _private_tag(header, _MR, 0x0019, 0x29)
    if tag and len(times) == count and np.isfinite(times).all():
        columns[tag] = [("FD", struct.pack("<d", time)) for time in times]
    elif tag:
        columns[tag] = _parts(header.raw(tag), count) or [None] * count
    try:
        origin, step = _mosaic_geometry(header, count, tiles[0], csa_numbers(csa.get("SliceNormalVector")))
        columns |= _placed(origin, step, count, _floats(header, ORIENTATION))
        problem = ""
    except GeometryError as error:
        columns |= {POSITION: [None] * count, SLICE_LOCATION: [None] * count}
        problem = f"the slices of the mosaic have no positions: {error}"
    return Tiling(tiles, columns, problem)


def _keeps_mosaic(header: Header) -> bool:
    """Say whether a picture is a mosaic though its ImageType, which is often rewritten, does not say so."""
    count, matrix = _element_count(header), _shorts(header, _ACQUISITION_MATRIX)
    sides = [_shorts(header, tag) for tag in (ROWS, COLUMNS)]
    if count is None or not 1 < count <= _MOST_TILES or not matrix or not all(sides):
        return False
    across = math.isqrt(int(count) - 1) + 1
    # An image that was derived of one slice may have kept the element: its tiles would be smaller than acquired.
    return all(side[0] % across == 0 for side in sides) and max(side[0] for side in sides) // across >= max(matrix)


def _element_count(header: Header) -> float | None:
    """Return NumberOfImagesInMosaic (0019,100A), None where a file lacks it."""
    tag = _private_tag(header, _MR, 0x0019, 0x0A)
    raw = header.raw(tag) if tag else b""
    if tag and header.vr(tag) in ("DS", "IS"):
        return next(iter(_numbers(raw)), math.nan)
    return float(struct.unpack_from("<H", raw)[0]) if len(raw) >= 2 else None


def _is_one_slice(header: Header, most: float) -> bool:
    """Say whether a picture is at most so many times as large as what was acquired of a slice."""
    matrix = _shorts(header, _ACQUISITION_MATRIX)
    sides = [*_shorts(header, ROWS), *_shorts(header, COLUMNS)]
    return bool(matrix and sides) and max(sides) <= most * max(matrix)


def _mosaic_count(header: Header, csa: dict[str, list[str]], has_csa: bool) -> int | None:
    """Return how many slices a mosaic has, None where it is no mosaic after all."""
    said = csa_numbers(csa.get("NumberOfImagesInMosaic"))
    element = _element_count(header)
    said += [] if element is None else [element]
    if (said and said[0] in (0, 1)) or _is_one_slice(header, 1 if said else _HARDLY_LARGER):
        return None
    if len(set(said)) > 1:
        raise PixelError(f"NumberOfImagesInMosaic is {said[0]:g} and {said[1]:g} in one file")
    if said:
        return _whole(said[0], "NumberOfImagesInMosaic")
    if has_csa:
        return None  # ImageType is a remnant: scanners and PACS that took a mosaic apart leave it
    raise PixelError(
        f"ImageType says MOSAIC, but nothing says of how many slices: there is no CSA header (0029,1010) and no "
        f"NumberOfImagesInMosaic (0019,100A), as after anonymisation; {_WHAT_NOW}"
    )


def _mosaic_geometry(
    header: Header, count: int, tile: Tile, said_normal: list[float]
) -> tuple[geometry.FloatArray, geometry.FloatArray]:
    """Return the position of the first slice and the step to the next, in LPS mm."""
    position, orientation, spacing = _vectors(header)
    problem = geometry.orientation_problem(orientation)
    if problem:
        raise GeometryError(problem)
    rows, columns = (_shorts(header, tag)[0] for tag in (ROWS, COLUMNS))
    # The position of the file is that of a picture about the same centre, but of the size of all tiles.
    aside = (columns - tile[3]) / 2 * spacing[1] * orientation[:3]
    origin = position + aside + (rows - tile[2]) / 2 * spacing[0] * orientation[3:]
    to_centre = ((tile[3] / 2) * spacing[1] * orientation[:3]) + ((tile[2] / 2) * spacing[0] * orientation[3:])
    normal = geometry.normal(orientation)
    between = _floats(header, SLICE_SPACING)
    if said_normal and between:
        return origin, _signed(normal, said_normal) * _distance(between[0])
    step = _protocol_step(header, count, origin + to_centre, normal)
    if said_normal:
        return origin, _signed(normal, said_normal) * abs(float(step @ normal))
    return origin, np.sign(step @ normal) * normal * (_distance(between[0]) if between else abs(float(step @ normal)))


def _signed(normal: geometry.FloatArray, said: list[float]) -> geometry.FloatArray:
    """Return the normal of the slices in the direction that SliceNormalVector says."""
    vector = np.array(said)
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise GeometryError(f"SliceNormalVector is {said}, expected three numbers")
    along = float(vector @ normal)
    if abs(abs(along) - 1) > _PARALLEL:
        raise GeometryError(f"SliceNormalVector {said} is not at right angles to ImageOrientationPatient")
    signed: geometry.FloatArray = normal * np.sign(along)
    return signed


def _distance(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise GeometryError(f"SpacingBetweenSlices is {value:g}, expected more than 0")
    return value


def _protocol_step(
    header: Header, count: int, centre: geometry.FloatArray, normal: geometry.FloatArray
) -> geometry.FloatArray:
    """Return the step between slices by the protocol, if the first slice is at one of its ends."""
    text = _private(header, _CSA, 0x0029, 0x20) or _private(header, *_PROTOCOL)
    centres = np.array(protocol_slices(text))
    if len(centres) != count:
        found = f"the protocol names {len(centres)} slices for {count}" if text else "there is no protocol"
        raise GeometryError(f"SliceNormalVector or SpacingBetweenSlices is missing, and {found}")
    steps = np.diff(centres, axis=0)
    if np.ptp(steps, axis=0).max() > _NEAR or abs(abs(float(steps[0] @ normal)) - np.linalg.norm(steps[0])) > _NEAR:
        raise GeometryError(
            "SliceNormalVector or SpacingBetweenSlices is missing, and slices in the protocol are uneven"
        )
    ends = {1.0: centres[0], -1.0: centres[-1]}
    for sign, end in ends.items():
        if np.abs(end - centre).max() <= _NEAR:
            step: geometry.FloatArray = sign * (centres[-1] - centres[0]) / (count - 1)
            return step
    raise GeometryError("SliceNormalVector or SpacingBetweenSlices is missing, and the protocol has other positions")


def _vectors(header: Header) -> tuple[geometry.FloatArray, geometry.FloatArray, geometry.FloatArray]:
    """Return position, orientation and pixel spacing of a file."""
    found = []
    names = {
        POSITION: ("ImagePositionPatient", 3),
        ORIENTATION: ("ImageOrientationPatient", 6),
        SPACING: ("PixelSpacing", 2),
    }
    for tag, (name, width) in names.items():
        values = np.array(_floats(header, tag))
        if values.shape != (width,) or not np.isfinite(values).all():
            raise GeometryError(f"{name} is missing, or not {width} numbers")
        found.append(values)
    if (found[2] <= 0).any():
        raise GeometryError(f"PixelSpacing is {found[2].tolist()}, expected more than 0")
    return found[0], found[1], found[2]


def _placed(
    origin: geometry.FloatArray, step: geometry.FloatArray, count: int, orientation: Sequence[float]
) -> dict[int, list[Known | None]]:
    """Return positions and slice locations of evenly spaced slices."""
    return dict(_encoded(tuple(origin.tolist()), tuple(step.tolist()), count, tuple(orientation)))


@lru_cache(maxsize=64)
def _encoded(
    origin: tuple[float, ...], step: tuple[float, ...], count: int, orientation: tuple[float, ...]
) -> dict[int, list[Known | None]]:
    """Return raw values; the volumes of a time series have the same."""
    positions = np.array(origin) + np.arange(count)[:, None] * np.array(step)
    along = positions @ geometry.normal(np.array(orientation))
    return {
        POSITION: [_decimal(POSITION, position) for position in positions.tolist()],
        SLICE_LOCATION: [_decimal(SLICE_LOCATION, [place]) for place in along.tolist()],
    }


def _decimal(tag: int, values: Sequence[float]) -> Known:
    rounded = tuple(round(value, 9) + 0.0 for value in values)
    return "DS", tags.encode(tag, "DS", rounded if len(rounded) > 1 else rounded[0])


# -- United Imaging


def _uih_grid(header: Header) -> Tiling | None:
    said = _floats(header, _UIH_COUNT)
    if _UIH_COUNT not in header.elements:
        if _is_one_slice(header, _HARDLY_LARGER):
            return None
        raise PixelError(
            "ImageType says VFRAME, but nothing says of how many slices: (0065,1050) is missing, as after "
            f"anonymisation; {_WHAT_NOW}"
        )
    count = _whole(said[0] if len(said) == 1 else math.nan, "the number of slices in a volume (0065,1050)")
    if count == 1:
        return None
    across = math.isqrt(count - 1) + 1
    tiles = _tiles(header, count, -(-count // across), across, "a grid")
    columns: dict[int, list[Known | None]] = {POSITION: [None] * count, SLICE_LOCATION: [None] * count}
    try:
        items = _uih_items(header)
        if len(items) != count:
            raise GeometryError(f"(0065,1051) has {len(items)} items for {count} slices")
        columns |= {tag: [item.get(tag) for item in items] for tag in _TIMES if any(tag in item for item in items)}
        columns |= _uih_positions(items, _floats(header, ORIENTATION))
    except (BrokenFileError, GeometryError) as error:
        return Tiling(tiles, columns, f"the slices of the grid have no positions: {error}")
    return Tiling(tiles, columns)


def _uih_items(header: Header) -> list[dict[int, Known]]:
    """Return the elements of each item of the sequence of slices."""
    if _UIH_FRAMES not in header.elements:
        raise GeometryError("there is no sequence of slices (0065,1051)")
    implicit = header.layout.implicit or header.vr(_UIH_FRAMES) == "UN"
    return [
        {element.tag: (element.vr or tags.concrete_vr(element.tag), element.raw) for element in item}
        for item in sequence_items(header.raw(_UIH_FRAMES), implicit)
    ]


def _uih_positions(items: Sequence[dict[int, Known]], orientation: Sequence[float]) -> dict[int, list[Known | None]]:
    """Return the positions that the items give, and the slice locations of these."""
    positions = [_numbers(item.get(POSITION, ("", b""))[1]) for item in items]
    lacking = sum(len(position) != 3 or not np.isfinite(position).all() for position in positions)
    if lacking:
        raise GeometryError(f"{lacking} of {len(items)} items of (0065,1051) have no ImagePositionPatient")
    found: dict[int, list[Known | None]] = {POSITION: [item[POSITION] for item in items]}
    if not geometry.orientation_problem(orientation):
        places = geometry.slice_location(positions, np.tile(orientation, (len(items), 1)))
        found[SLICE_LOCATION] = [_decimal(SLICE_LOCATION, [place]) for place in places.tolist()]
    return found


# -- both


def _tiles(header: Header, count: int, down: int, across: int, kind: str) -> list[Tile]:
    """Return where slices are in a picture of `down` times `across` of them."""
    sides = [_shorts(header, tag) for tag in (ROWS, COLUMNS)]
    if not all(sides):
        raise PixelError("Rows or Columns is missing: pixels cannot be read")
    (rows,), (columns,) = sides
    if count > _MOST_TILES or rows % down or columns % across:
        raise PixelError(
            f"{kind} of {count} slices is made of {down} x {across} tiles, and {rows} x {columns} pixels are not: "
            "the number of slices or the matrix must be wrong"
        )
    size = rows // down, columns // across
    return [(i // across * size[0], i % across * size[1], *size) for i in range(count)]


def _whole(value: float, name: str) -> int:
    if not math.isfinite(value) or value < 1 or value != int(value):
        raise PixelError(f"{name} is {value:g}, expected a whole number above 0")
    return int(value)


def _raw(header: Header, tag: int) -> bytes:
    return header.raw(tag) if tag in header.elements else b""


def _shorts(header: Header, tag: int) -> list[int]:
    raw = _raw(header, tag)
    return list(struct.unpack(f"<{len(raw) // 2}H", raw[: len(raw) // 2 * 2]))


def _floats(header: Header, tag: int) -> list[float]:
    return _numbers(_raw(header, tag))


def _numbers(raw: bytes) -> list[float]:
    """Return the numbers of a DS, none where one of them is no number."""
    try:
        return [float(part) for part in raw.strip(b" \0").split(b"\\")]
    except ValueError:
        return []


def _private_tag(header: Header, creator: str, group: int, element: int) -> int:
    """Return the tag of a private element, 0 where a file lacks it; without any creator, that of the first block."""
    blocks = [tag for tag in header.elements if tag >> 16 == group and 0x10 <= tag & 0xFFFF <= 0xFF]
    mine = [tag & 0xFF for tag in blocks if header.raw(tag).decode("latin-1").strip(" \0") == creator]
    for block in mine or ([] if blocks else [0x10]):
        tag = group << 16 | block << 8 | element
        if tag in header.elements:
            return tag
    return 0


def _private(header: Header, creator: str, group: int, element: int) -> bytes:
    tag = _private_tag(header, creator, group, element)
    return header.raw(tag) if tag else b""


def _parts(raw: bytes, count: int) -> list[Known | None]:
    """Return the numbers of an FD, one a slice; none where there are more or fewer."""
    return [("FD", raw[i : i + 8]) for i in range(0, len(raw), 8)] if len(raw) == 8 * count else []
