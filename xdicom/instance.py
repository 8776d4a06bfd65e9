"""One DICOM file as rows: how many frames it has, where the pixels of each lie, and what differs from frame to frame.

Values stay raw; decoding is the business of `tags` and `pixels`.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import tags
from .columns import TILE, UNTILED, Known, Raw, as_stored
from .errors import BrokenFileError, PixelError
from .formats import NATIVE, PixelFormat, pixel_format
from .groups import ECHO_TIME, EFFECTIVE_ECHO_TIME, FRAME_GROUPS, SHARED_GROUPS, SLICE_LOCATION, places
from .header import Header, read_header
from .rescale import Rescale, rescale_of
from .source import Source
from .vendors import COLUMNS, ROWS, Tile, Tiling, tiling_of
from .walker import DOUBLE_PIXELS, FLOAT_PIXELS, sequence_items

NUMBER_OF_FRAMES = 0x00280008
MAX_FRAMES = 10_000_000
_AXIAL = 0.999
EXTENDED_OFFSETS, EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_POSITION, _ORIENTATION, _FRAME_OFFSETS = 0x00200032, 0x00200037, 0x3004000C
INSTANCE_UID, _CHARSET, _SIGNED = 0x00080018, 0x00080005, 0x00280103
_BITS, _SAMPLES, _PHOTOMETRIC = 0x00280100, 0x00280002, 0x00280004


@dataclass
class Instance:
    """The frames of one file.

    Attributes
    ----------
    offsets, lengths
        Bytes of each frame in the file; -1 where its pixels cannot be located. Encapsulated frames include the item
        headers of their fragments.
    columns
        What differs from frame to frame, elements of functional groups or of the slices in a mosaic, by tag: for each
        frame a (VR, raw value) or None.
    has_pixels
        False for objects that are no images; they have one frame without a location.
    problems
        What is wrong with the file.
    """

    offsets: list[int]
    lengths: list[int]
    columns: dict[int, list[Known | None]] = field(default_factory=dict)
    has_pixels: bool = True
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    def values(self, tag: int, of_file: Known | None) -> list[Known | None]:
        """Return the value of each frame; without its own it has that of the file, but for a slice in a mosaic."""
        fallback = None if TILE in self.columns else of_file
        return [fallback if value is None else value for value in self.columns[tag]]


def read_instance(header: Header) -> Instance:
    """Find the frames of a file from its header.

    Parameters
    ----------
    header
        What `read_header` returned.

    Returns
    -------
    Instance
        Never raises for damage: that is told in `problems`, and such frames have no location.
    """
    problems = list(header.problems)
    if header.pixels is None:
        return Instance([-1], [-1], {}, False, problems)
    count = number_of_frames(header.raw(NUMBER_OF_FRAMES) if NUMBER_OF_FRAMES in header.elements else b"")
    if count < 1:
        problems.append("NumberOfFrames is no positive number; one frame is assumed")
        count = 1
    if count > MAX_FRAMES:
        problems.append(f"NumberOfFrames is {count}, more than {MAX_FRAMES}; no pixels can be read")
        return Instance([-1], [-1], {}, True, problems)
    spans = _frame_spans(header, count, problems)
    columns = _functional_groups(header, count, problems) or _dose_planes(header, count)
    if count == 1 and not columns:
        columns = _tile_columns(header, problems)
        spans *= len(columns.get(TILE, (None,)))
    return Instance([span[0] for span in spans], [span[1] for span in spans], columns, True, problems)


def _tile_columns(header: Header, problems: list[str]) -> dict[int, list[Known | None]]:
    """Return what differs between the slices in the one picture of a file, {} where it is a picture of one."""
    try:
        tiling = tiling_of(header)
    except PixelError as error:
        problems.append(str(error))
        return {TILE: [(UNTILED, str(error).encode())]}
    if tiling is None:
        return {}
    if tiling.problem:
        problems.append(tiling.problem)
    return {**tiling.columns, **_tile_places(header, tiling)}


def _tile_places(header: Header, tiling: Tiling) -> dict[int, list[Known | None]]:
    """Return where each slice is in the picture, whose matrix is kept beside that of the slices."""
    count = len(tiling.tiles)
    columns: dict[int, list[Known | None]] = {
        TILE: [("tile", b"%d,%d,%d,%d,%d" % (*tile, count)) for tile in tiling.tiles]
    }
    for tag, side in ((ROWS, 2), (COLUMNS, 3)):
        vr = header.vr(tag)
        columns[tag] = [(vr, struct.pack("<H", tile[side])) for tile in tiling.tiles]
        columns[as_stored(tag)] = [(vr, header.raw(tag))] * count
    return columns


class InPicture(NamedTuple):
    """Where a frame is in a picture, and how many are in it."""

    tile: Tile
    frames: int


def place_of(value: Raw) -> InPicture:
    """Return the place that the pseudo-tag of a tile says.

    Raises
    ------
    PixelError
        If the picture could not be taken apart, with the reason; or if the text is none of ours.
    """
    text = value[1] if isinstance(value[1], bytes) else b""
    if value[0] == UNTILED:
        raise PixelError(text.decode("utf-8", "replace"))
    numbers = text.split(b",")
    if len(numbers) != 5 or not all(number.isdigit() and len(number) <= 5 for number in numbers):
        raise PixelError("the catalog is damaged: a tile without a place")
    row, column, rows, columns, count = map(int, numbers)
    return InPicture((row, column, rows, columns), count)


def _frame_spans(header: Header, count: int, problems: list[str]) -> list[tuple[int, int]]:
    """Return (offset, length) of each frame, (-1, -1) where it cannot be located."""
    nowhere = [(-1, -1)] * count
    encapsulated = header.pixels is not None and header.pixels.length < 0
    if any("truncated" in text or "damaged" in text for text in header.problems):
        return nowhere
    if encapsulated == (header.transfer_syntax in NATIVE):
        kind = "encapsulated" if encapsulated else "not encapsulated"
        problems.append(f"pixels are {kind}, against transfer syntax {header.transfer_syntax!r}: they cannot be read")
        return nowhere
    frames = _encapsulated_frames if encapsulated else native_frames
    return frames(header, count, problems)


def number_of_frames(raw: bytes) -> int:
    """Return NumberOfFrames from its raw value; 1 where it is absent or empty, 0 where it is junk."""
    text = raw.strip(b"\0 ")
    if not text:
        return 1
    try:
        return int(text)
    except ValueError:
        return 0


def native_frame_bits(sizes: Sequence[int], photometric: bytes) -> int:
    """Return the size of one native frame in bits, from its rows, columns, samples and bits allocated."""
    rows, columns, samples, bits = sizes
    if photometric.strip(b"\0 ") == b"YBR_FULL_422":
        samples = 2  # PS3.3 C.7.6.3.1.2: one Cb and one Cr for two Y
    return rows * columns * samples * bits


def expected_bits(header: Header) -> int | None:
    """Return the size of one native frame in bits, or None where an attribute is missing or not two bytes."""
    sizes = []
    for tag, default in ((ROWS, None), (COLUMNS, None), (_SAMPLES, 1), (_BITS, None)):
        raw = header.raw(tag) if tag in header.elements else b""
        if len(raw) == 2:
            sizes.append(struct.unpack("<H", raw)[0])
        elif default is not None and not raw:
            sizes.append(default)
        else:
            return None
    photometric = header.raw(_PHOTOMETRIC) if _PHOTOMETRIC in header.elements else b""
    return native_frame_bits(sizes, photometric)


def length_problem(length: int, bits: int, count: int) -> tuple[bool, str]:
    """Hold the length of native pixel data against the header.

    Returns
    -------
    readable, problem
        Whether the frames can be read all the same, and what is wrong ("" where nothing is).
    """
    needed = math.ceil(bits * count / 8)
    surplus = length - needed
    if 0 <= surplus <= 1:
        return True, ""
    found = f"the pixel data has {length} bytes where {count} frame(s) need {needed}"
    if surplus < 0:
        return False, f"{found}: pixels cannot be read"
    if surplus >= bits // 8:
        return False, f"{found}: NumberOfFrames or the matrix must be wrong, pixels cannot be read"
    return True, f"{found}: the surplus is passed over"


def native_frames(header: Header, count: int, problems: list[str]) -> list[tuple[int, int]]:
    """Return (offset, length) of each native frame."""
    assert header.pixels is not None
    bits = expected_bits(header)
    nowhere = [(-1, -1)] * count
    if not bits:
        problems.append("Rows, Columns or BitsAllocated is missing or unusable: pixels cannot be read")
        return nowhere
    readable, problem = length_problem(header.pixels.length, bits, count)
    if problem:
        problems.append(problem)
    if not readable:
        return nowhere
    if bits % 8 and count > 1:
        problems.append("frames of 1 bit pixels do not begin at whole bytes: pixels cannot be read")
        return nowhere
    size = math.ceil(bits / 8)
    return [(header.pixels.offset + i * size, size) for i in range(count)]


def _encapsulated_frames(header: Header, count: int, problems: list[str]) -> list[tuple[int, int]]:
    """Return (offset, length) of each encapsulated frame, item headers included."""
    table, fragments = header.fragments[:1], header.fragments[1:]
    if not fragments:
        problems.append("the encapsulated pixel data is empty: pixels cannot be read")
        return [(-1, -1)] * count
    begins = [offset - 8 for offset, _ in fragments]
    if count == 1:
        starts = begins[:1]
    elif len(fragments) == count:
        starts = begins
    else:
        starts = _starts_from_tables(header, table[0], begins, count)
        if not starts:
            problems.append(
                f"{len(fragments)} fragments hold {count} frames and no offset table tells which: pixels cannot be read"
            )
            return [(-1, -1)] * count
    end = fragments[-1][0] + fragments[-1][1]
    return [(start, stop - start) for start, stop in zip(starts, [*starts[1:], end], strict=True)]


def _starts_from_tables(header: Header, table: tuple[int, int], begins: list[int], count: int) -> list[int]:
    """Return where frames begin by the Extended or Basic Offset Table, if one is there and fits the fragments."""
    candidates = []
    if EXTENDED_OFFSETS in header.elements:
        raw = header.raw(EXTENDED_OFFSETS)
        candidates.append(struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8]))
    candidates.append(header.offset_table)
    known = set(begins)
    for offsets in candidates:
        starts = [begins[0] + offset for offset in offsets]
        if len(starts) == count and starts[0] == begins[0] and starts == sorted(set(starts)) and known >= set(starts):
            return starts
    return []


def _functional_groups(header: Header, count: int, problems: list[str]) -> dict[int, list[Known | None]]:
    """Return the elements of the functional groups, frame by frame."""
    columns: dict[int, list[Known | None]] = {}
    try:
        _fill_from_groups(columns, header, count, problems)
    except BrokenFileError as error:
        problems.append(f"the functional groups are damaged: {error}")
    if EFFECTIVE_ECHO_TIME in columns and ECHO_TIME not in columns:
        columns[ECHO_TIME] = [_as_decimal_string(value) for value in columns[EFFECTIVE_ECHO_TIME]]
    if SLICE_LOCATION not in columns and {_POSITION, _ORIENTATION} <= columns.keys():
        pairs = zip(columns[_POSITION], columns[_ORIENTATION], strict=True)
        columns[SLICE_LOCATION] = [_slice_location(*pair) for pair in pairs]
    return columns


def _fill_from_groups(columns: dict[int, list[Known | None]], header: Header, count: int, problems: list[str]) -> None:
    """Fill in the shared functional groups, and over them those of each frame."""
    for tag in (SHARED_GROUPS, FRAME_GROUPS):
        if tag not in header.elements:
            continue
        implicit = header.layout.implicit or header.vr(tag) == "UN"
        items = list(sequence_items(header.raw(tag), implicit))
        if tag == FRAME_GROUPS and len(items) != count:
            problems.append(f"{len(items)} items of per-frame functional groups for {count} frames")
        for frame, item in enumerate(items[:count]):
            rows = range(count) if tag == SHARED_GROUPS else (frame,)
            for _, element in places(item, implicit):
                column = columns.setdefault(element.tag, [None] * count)
                for row in rows:
                    column[row] = element.vr, element.raw


def _dose_planes(header: Header, count: int) -> dict[int, list[Known | None]]:
    """Return the position of each plane of an RT Dose, {} where it tells none.

    Notes
    -----
    PS3.3 C.8.8.3.2: offsets from the first plane along the normal where the first offset is 0; else, of axial planes,
    the z of each.
    """
    if count < 2 or not {_FRAME_OFFSETS, _POSITION, _ORIENTATION} <= header.elements.keys():
        return {}
    offsets, position, directions = map(_numbers, map(header.raw, (_FRAME_OFFSETS, _POSITION, _ORIENTATION)))
    if (len(offsets), len(position), len(directions)) != (count, 3, 6):
        return {}
    normal = np.cross(directions[:3], directions[3:])
    if offsets[0] != 0:
        if offsets[0] != position[2] or abs(normal[2]) < _AXIAL:
            return {}
        normal, offsets = np.array([0.0, 0.0, 1.0]), offsets - offsets[0]
    places = np.round(position + offsets[:, None] * normal, 6)
    positions: list[Known | None] = [("DS", "\\".join(map(repr, place.tolist())).encode()) for place in places]
    orientation = header.vr(_ORIENTATION), header.raw(_ORIENTATION)
    return {_POSITION: positions, SLICE_LOCATION: [_slice_location(each, orientation) for each in positions]}


def _numbers(raw: bytes) -> NDArray[np.float64]:
    """Return the numbers of a DS, none where one is damaged."""
    try:
        numbers = np.array([float(part) for part in raw.strip(b"\0 ").split(b"\\")])
    except ValueError:
        return np.zeros(0)
    return numbers if np.isfinite(numbers).all() else np.zeros(0)


def _slice_location(position: Known | None, orientation: Known | None) -> Known | None:
    """Return position times normal as a DS, for enhanced files have no SliceLocation."""
    try:
        p = [float(part) for part in position[1].split(b"\\")] if position else []
        o = [float(part) for part in orientation[1].split(b"\\")] if orientation else []
    except ValueError:
        return None
    if len(p) != 3 or len(o) != 6:
        return None
    normal = o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]
    return "DS", repr(round(sum(a * b for a, b in zip(p, normal, strict=True)), 6)).encode()


def _as_decimal_string(value: Known | None) -> Known | None:
    """Turn the FD of EffectiveEchoTime into the DS of EchoTime."""
    if value is None or len(value[1]) != 8:
        return None
    return "DS", repr(struct.unpack("<d", value[1])[0]).encode()


class Found(NamedTuple):
    """A frame in a file as it is now: its bytes, what they mean, and which part of the picture it is."""

    offset: int
    length: int
    format: PixelFormat
    rescale: Rescale
    tile: Tile | None = None


def relocate(source: Source, uid: int, number: int) -> Found | None:
    """Find a frame in a file that may have changed.

    Parameters
    ----------
    source
        The file as it is now.
    uid
        `uid_hash` of the frame's SOPInstanceUID.
    number
        Frame number, from 0.

    Returns
    -------
    Found or None
        None where the file does not hold that frame.
    """
    header = read_header(source)
    if header.pixels is None or INSTANCE_UID not in header.elements:
        return None
    if uid_hash(header.raw(INSTANCE_UID).strip(b"\0 ").decode("ascii", "replace")) != uid:
        return None
    instance = read_instance(header)
    if number >= len(instance) or instance.offsets[number] < 0:
        return None
    charset = header.raw(_CHARSET).decode("ascii", "replace").strip() if _CHARSET in header.elements else ""

    def raw(tag: int) -> Known | None:
        of_file = (header.vr(tag), header.raw(tag)) if tag in header.elements else None
        return instance.values(tag, of_file)[number] if tag in instance.columns else of_file

    def get(tag: int) -> object:
        value = raw(as_stored(tag)) or raw(tag)
        if value is None:
            return None
        signed = _SIGNED in header.elements and header.raw(_SIGNED)[:1] == b"\1"
        decoded = tags.decode(tag, *value, charset=charset, signed=signed)
        return "" if decoded is None else decoded

    fmt = format_of(get, header.pixels.vr, header.pixels.tag, header.transfer_syntax)
    place = raw(TILE)
    tile = place_of(place).tile if place else None
    return Found(instance.offsets[number], instance.lengths[number], fmt, known_rescale(get), tile)


def format_of(get: Callable[[int], object], vr: str, element: int, transfer_syntax: str) -> PixelFormat:
    """Return the pixel format of a frame from its tags and those of its pixel element.

    Raises
    ------
    PixelError
        If an attribute is missing or contradicts another.
    """
    kind = {FLOAT_PIXELS: "float", DOUBLE_PIXELS: "double"}.get(element, "int")
    return pixel_format(get, transfer_syntax, kind, vr=vr)


def known_rescale(get: Callable[[int], object]) -> Rescale:
    """Return the rescale of a frame; one with a problem leaves the stored values readable."""
    try:
        return rescale_of(get)
    except PixelError as error:
        return Rescale(problem=str(error))


def uid_hash(uid: str) -> int:
    """Return 8 bytes of a SOPInstanceUID's hash as an unsigned integer."""
    return int.from_bytes(hashlib.blake2b(uid.encode(), digest_size=8).digest(), "little")
