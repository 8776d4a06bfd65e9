"""Many files to tables of frames, one per series, reading each header once.

Files whose element headers are the same bytes share a layout, and are compared with each other as one array; the rest
go one by one. Nothing is stored here, and no value is decoded but the five that name a series.
"""

import os
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import tags
from .columns import ENCODING, Known, Raw, Ref
from .errors import BrokenFileError, NotDicomError
from .formats import NATIVE
from .groups import FRAME_GROUPS, SHARED_GROUPS
from .header import WINDOW, Header, read_header
from .instance import (
    NUMBER_OF_FRAMES,
    Instance,
    length_problem,
    native_frame_bits,
    read_instance,
)
from .layouts import Template
from .source import Source, Stamp, Start, read_start
from .tables import Table, TableBuilder, Value
from .vendors import HINTS, hints_at_tiles
from .walker import IMPLICIT, Layout, NeedMoreError, UnrecognisedError, walk_layout

LONG_VALUE = 1024
BATCH = 1024
_FIRST_BATCH = 16  # a few files show how much to read of the others
_FIRST_WINDOW, _MAX_WINDOW, _PAGE = 16384, 1 << 20, 4096
_MAX_MISSES = 8
_MAX_TEMPLATES = 16
_SAMPLES = 0x00280002

_DIRECTORY_RECORDS = 0x00041220
PATIENT_ID, PATIENT_NAME, BIRTH_DATE, STUDY_UID, SERIES_UID = 0x00100020, 0x00100010, 0x00100030, 0x0020000D, 0x0020000E
_KEY_TAGS = (PATIENT_ID, PATIENT_NAME, BIRTH_DATE, STUDY_UID, SERIES_UID)
_MATRIX_TAGS = (0x00280010, 0x00280011, 0x00280002, 0x00280100, 0x00280004)
_CHARSET = 0x00080005
GROUPING_TAGS = (*_KEY_TAGS, _CHARSET)
# These make a file more than one plain frame.
_UNUSUAL_TAGS = frozenset({NUMBER_OF_FRAMES, _DIRECTORY_RECORDS, SHARED_GROUPS, FRAME_GROUPS})


class SeriesKey(NamedTuple):
    """What a series is grouped by."""

    patient: str
    study: str
    series: str


@dataclass(slots=True)
class Outcome:
    """What became of one file: "ok", "skipped" (not DICOM) or "broken", and what is wrong with it."""

    stamp: Stamp
    status: str = "ok"
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Opened:
    """One file of a batch: its place in the list, its stamp and its first bytes."""

    file: int
    stamp: Stamp
    buffer: bytes


class _Template(Template):
    """A layout that many files are held against at once."""

    def matching(self, opened: Sequence[_Opened]) -> tuple["_Group", list[_Opened]]:
        """Part files of the size of this layout's into those that have it, and others."""
        matched: list[_Opened] = []
        left: list[_Opened] = []
        for file in opened:
            (matched if self.fits(file.buffer) else left).append(file)
        if not matched:
            return _Group([], np.zeros(self.layout.end, np.bool_)), left
        heads = _stacked([file.buffer for file in matched], self.layout.end)
        return _Group(matched, heads.min(axis=0) != heads.max(axis=0)), left


class _Group(NamedTuple):
    """Files of one layout, and for each byte of their heads whether it differs between them."""

    files: list[_Opened]
    varies: NDArray[np.bool_]


def _stacked(buffers: Sequence[bytes], end: int) -> NDArray[np.uint8]:
    """Return the first `end` bytes of buffers as an array, one a row."""
    width = len(buffers[0])
    if any(len(buffer) != width for buffer in buffers):
        buffers, width = [buffer[:end] for buffer in buffers], end
    return np.frombuffer(b"".join(buffers), np.uint8).reshape(-1, width)[:, :end]


def _is_plain(layout: Layout) -> bool:
    """Say whether a layout means one native frame, or no image."""
    if layout.pixels and (layout.pixels.length < 0 or layout.transfer_syntax not in NATIVE):
        return False
    if layout.implicit != (layout.transfer_syntax == IMPLICIT):
        return False
    return _UNUSUAL_TAGS.isdisjoint(layout.tags) and len(layout.places) == len(layout.tags)


class Scanner:
    """Reads files batch by batch and collects the tables of their series.

    Parameters
    ----------
    root
        The folder that paths are relative to.
    paths
        The files, as bytes.
    places
        Where they are now, if they are not in their places yet; absolute.
    starts
        By place in the list, what of them need not be read.
    """

    def __init__(
        self,
        root: bytes,
        paths: Sequence[bytes],
        places: Sequence[bytes] | None = None,
        starts: Mapping[int, Start] | None = None,
    ) -> None:
        self.paths = paths
        prefix = os.path.join(root, b"")
        self._places = [prefix + path for path in paths] if places is None else places
        self._starts = starts or {}
        self.outcomes: dict[int, Outcome] = {}
        self._series: dict[SeriesKey, TableBuilder] = {}
        self._templates: list[_Template] = []
        self._window, self._batch = _FIRST_WINDOW, min(_FIRST_BATCH, BATCH)
        self._keys: dict[tuple[object, ...], SeriesKey] = {}

    def tables(self) -> dict[SeriesKey, Table]:
        """Return what was collected so far."""
        return {key: builder.finish() for key, builder in self._series.items()}

    def scan(self, files: range) -> None:
        """Scan the files with these places in the list."""
        start = files.start
        while start < files.stop:
            end = min(start + self._batch, files.stop)
            self._scan_batch(range(start, end))
            start, self._batch = end, BATCH

    def _scan_batch(self, files: range) -> None:
        by_size: dict[int, list[_Opened]] = {}
        for file in files:
            if (opened := self._open(file)) is not None:
                by_size.setdefault(opened.stamp.size, []).append(opened)
        for template in self._templates:
            if template.size in by_size:
                by_size[template.size] = self._take_matching(template, by_size[template.size])
        for pending in by_size.values():
            self._find_layouts(pending)
        if self._templates:
            longest = max(template.layout.end for template in self._templates)
            self._window = min(_MAX_WINDOW, -(-longest // _PAGE) * _PAGE)

    def _find_layouts(self, pending: list[_Opened]) -> None:
        """Scan files of one size that have none of the layouts that are known."""
        misses = 0
        while pending:
            found = self._walk(pending[0])
            if found is None:
                self._scan_alone(pending[0])
                pending = pending[1:]
            elif misses < _MAX_MISSES:
                left = self._take_matching(found, pending)
                misses += len(left) == len(pending) - 1
                if len(left) < len(pending) - 1:
                    self._templates = [found, *self._templates][:_MAX_TEMPLATES]
                pending = left
            else:
                self._add_group(found.layout, found.matching(pending[:1])[0])
                pending = pending[1:]

    def _open(self, file: int) -> _Opened | None:
        try:
            return _Opened(file, *(self._starts.get(file) or read_start(self._places[file], self._window)))
        except OSError as error:
            reason = f"it cannot be read: {error.strerror or error}"
            self.outcomes[file] = Outcome(Stamp(-1, -1, -1), "broken", [reason])
            return None

    def _walk(self, opened: _Opened) -> _Template | None:
        """Return the template of a file that the fast way may take, else None."""
        if (stretched := self._stretched(opened)) is not None:
            return stretched
        try:
            layout = self._layout(opened)
        except (NeedMoreError, UnrecognisedError, BrokenFileError):
            return None
        if len(opened.buffer) < layout.end or not _is_plain(layout):
            return None
        template = _Template(layout, opened.buffer)
        return template if template.size == opened.stamp.size else None

    def _stretched(self, opened: _Opened) -> _Template | None:
        """Return the template of a file whose elements are those of the last other one, if they are."""
        if not self._templates:
            return None
        last = self._templates[0]
        if len(opened.buffer) < min(last.layout.end + _PAGE, opened.stamp.size):
            self._widen(opened, last.layout.end + _PAGE)
        return last.stretched(opened.buffer, opened.stamp.size)

    def _layout(self, opened: _Opened) -> Layout:
        """Walk a file's header, with more of its bytes as long as these are few."""
        while True:
            try:
                return walk_layout(opened.buffer, opened.stamp.size)
            except NeedMoreError as need:
                wanted = max(need.end, 2 * len(opened.buffer))
                if need.end > opened.stamp.size or wanted > _MAX_WINDOW or not self._widen(opened, wanted):
                    raise

    def _widen(self, opened: _Opened, wanted: int) -> bool:
        """Read more of a file's beginning; False where it is not the file any more that was opened."""
        try:
            stamp, buffer = read_start(self._places[opened.file], wanted)
        except OSError:
            return False
        if stamp != opened.stamp:
            return False
        opened.buffer = buffer
        return True

    def _take_matching(self, template: _Template, pending: list[_Opened]) -> list[_Opened]:
        """Add the files that have this layout, of all that are of its size, and return the others."""
        end = template.layout.end
        for opened in pending:
            if len(opened.buffer) < end:
                self._widen(opened, end)
        matched, left = template.matching(pending)
        if matched.files:
            self._add_group(template.layout, matched)
        return left

    def _add_group(self, layout: Layout, found: _Group) -> None:
        """Add files of one layout, series by series."""
        group, varying = found.files, _varying_elements(layout, found.varies)
        names = {layout.tags[i] for i in varying}
        if not names.isdisjoint(_MATRIX_TAGS) or _hints_at_tiles(layout, group, names):
            for opened in group:
                self._scan_alone(opened)
            return
        constants = _constant_values(layout, group[0].buffer)
        key_places = [i for i in varying if layout.tags[i] in _KEY_TAGS]
        by_folder = not _has_series(_key_values(layout, group[0].buffer))
        if not key_places and not by_folder:
            self._add_series_group(layout, group, varying, constants)
            return
        split: dict[tuple[bytes, ...], list[_Opened]] = {}
        spans = [(layout.offsets[i], layout.offsets[i] + layout.lengths[i]) for i in key_places]
        for opened in group:
            folder = os.path.dirname(self.paths[opened.file]) if by_folder else b""
            key = folder, *[opened.buffer[start:end] for start, end in spans]
            split.setdefault(key, []).append(opened)
        for part in split.values():
            self._add_series_group(layout, part, varying, constants)

    def _add_series_group(
        self, layout: Layout, group: list[_Opened], varying: Sequence[int], constants: Sequence[Value]
    ) -> None:
        """Add files of one layout and one series."""
        first, count = group[0].buffer, len(group)
        builder = self._builder(_key_values(layout, first), self.paths[group[0].file])
        offset, length, problem = _plain_location(layout, first)
        start = builder.add_rows([opened.file for opened in group], [0] * count, [offset] * count, [length] * count)
        values = list(constants)
        buffers = [opened.buffer for opened in group]
        for i in varying:
            if values[i] is not None and layout.lengths[i] <= LONG_VALUE:
                values[i] = None
                vr, begin, end = layout.vrs[i], layout.offsets[i], layout.offsets[i] + layout.lengths[i]
                builder.add_differing(layout.tags[i], vr, start, [buffer[begin:end] for buffer in buffers])
        vr, encoding = _encoding(layout)
        builder.add_constants((*layout.tags, ENCODING), (*layout.vrs, vr), start, count, (*values, encoding))
        problems = [problem] if problem else []
        for opened in group:
            self.outcomes[opened.file] = Outcome(opened.stamp, "ok", problems)

    def _scan_alone(self, opened: _Opened) -> None:
        """Scan one file that shares no layout, or is more than one plain frame."""
        try:
            with Source(self._places[opened.file]) as source:
                outcome = self.outcomes[opened.file] = Outcome(source.stamp)
                header = read_header(source, max(WINDOW, len(opened.buffer)))
                instance = read_instance(header)
        except NotDicomError as error:
            outcome.status, outcome.problems = "skipped", [str(error)]
        except BrokenFileError as error:
            outcome.status, outcome.problems = "broken", [str(error)]
        except OSError as error:
            reason = f"it cannot be read: {error.strerror or error}"
            self.outcomes[opened.file] = Outcome(Stamp(-1, -1, -1), "broken", [reason])
        else:
            if _DIRECTORY_RECORDS in header.elements:
                outcome.status, outcome.problems = "skipped", ["it is a DICOMDIR, which lists files and holds none"]
                return
            outcome.problems = instance.problems
            self._add_instance(opened.file, header, instance)

    def _add_instance(self, file: int, header: Header, instance: Instance) -> None:
        """Add the frames of one file."""
        found = {element.tag: (element.vr, element.raw) for element in header.items() if element.tag & 0xFFFF}
        builder = self._builder(found, self.paths[file])
        count = len(instance)
        start = builder.add_rows([file] * count, range(count), instance.offsets, instance.lengths)
        constants: dict[int, Raw] = {ENCODING: _encoding(header.layout)}
        for tag, (vr, raw) in found.items():
            if tag in instance.columns:
                continue
            constants[tag] = vr, raw
            if len(raw) > LONG_VALUE and not header.relocated and tag in header.elements:
                constants[tag] = vr, Ref(header.elements[tag].offset, len(raw))
        vrs, known = zip(*constants.values(), strict=True)
        builder.add_constants(tuple(constants), vrs, start, count, known)
        for tag in instance.columns:
            values = instance.values(tag, found.get(tag))
            if any(value is not None for value in values):
                builder.add_varying(tag, start, values)

    def _builder(self, found: Mapping[int, Known], path: bytes) -> TableBuilder:
        """Return the builder of the series that a file belongs to."""
        folder = None if _has_series(found) else os.path.dirname(path)
        cache_key = (*[found.get(tag) for tag in GROUPING_TAGS], folder)
        key = self._keys.get(cache_key)
        if key is None:
            key = self._keys[cache_key] = series_key(found, path)
        builder = self._series.get(key)
        if builder is None:
            builder = self._series[key] = TableBuilder()
        return builder


def _has_series(found: Mapping[int, Known]) -> bool:
    """Say whether a file names its series; otherwise its folder stands for it."""
    return SERIES_UID in found and bool(found[SERIES_UID][1].strip(b"\0 "))


def series_key(found: Mapping[int, Known], path: bytes) -> SeriesKey:
    """Return what a file is grouped by, from its raw values.

    Notes
    -----
    Without PatientID, name and birth date stand for the patient; without SeriesInstanceUID, the folder for the series.
    """
    charset = _text(_CHARSET, found, "")

    def text(tag: int) -> str:
        return _text(tag, found, charset)

    patient = text(PATIENT_ID) or f"{text(PATIENT_NAME)}\0{text(BIRTH_DATE)}"
    series = text(SERIES_UID) or "\0" + os.fsdecode(os.path.dirname(path))
    return SeriesKey(patient, text(STUDY_UID) or "\0", series)


def _text(tag: int, found: Mapping[int, Known], charset: str) -> str:
    vr, raw = found.get(tag, ("", b""))
    value = tags.decode(tag, vr, raw, charset=charset)
    return "\\".join(map(str, value)) if isinstance(value, tuple) else str(value or "").strip()


def _key_values(layout: Layout, buffer: bytes) -> dict[int, Known]:
    """Return the raw values that name the series of a file."""
    found = {}
    for tag in GROUPING_TAGS:
        if tag in layout.places:
            i = layout.places[tag]
            found[tag] = layout.vrs[i], buffer[layout.offsets[i] : layout.offsets[i] + layout.lengths[i]]
    return found


def _constant_values(layout: Layout, buffer: bytes) -> list[Value]:
    """Return the value of each element; references for long ones, None for group lengths."""
    return [
        None if not tag & 0xFFFF else Ref(offset, length) if length > LONG_VALUE else buffer[offset : offset + length]
        for tag, offset, length in zip(layout.tags, layout.offsets, layout.lengths, strict=True)
    ]


def _varying_elements(layout: Layout, varies: NDArray[np.bool_]) -> list[int]:
    """Return the places of the elements whose bytes differ between files of one layout."""
    positions = np.flatnonzero(varies)
    if not len(positions):
        return []
    places = np.searchsorted(layout.offset_array, positions, side="right") - 1
    # Before the first element lies the preamble, which is free.
    return [place for place in np.unique(places).tolist() if place >= 0]


def _hints_at_tiles(layout: Layout, group: Sequence[_Opened], varying: Collection[int]) -> bool:
    """Say whether files of one layout may hold several slices in one picture."""
    for tag in HINTS:
        i = layout.places.get(tag)
        if i is not None:
            start, end = layout.offsets[i], layout.offsets[i] + layout.lengths[i]
            if any(
                hints_at_tiles(tag, opened.buffer[start:end]) for opened in (group if tag in varying else group[:1])
            ):
                return True
    return False


def _encoding(layout: Layout) -> Raw:
    """Return the value of the pseudo-tag that holds VR and tag of the pixels and the transfer syntax."""
    if layout.pixels is None:
        return "", layout.transfer_syntax.encode()
    return layout.pixels.vr, f"{layout.transfer_syntax}|{layout.pixels.tag:08X}".encode()


def _plain_location(layout: Layout, buffer: bytes) -> tuple[int, int, str]:
    """Return offset and length of the one frame of a plain file, and what is wrong with it."""
    if layout.pixels is None:
        return -1, -1, ""
    places = layout.places
    sizes: list[int] = []
    for tag in _MATRIX_TAGS[:4]:
        i = places.get(tag)
        if i is None and tag == _SAMPLES:
            sizes.append(1)
        elif i is None or layout.lengths[i] != 2:
            return -1, -1, "Rows, Columns or BitsAllocated is missing or unusable: pixels cannot be read"
        else:
            sizes.append(struct.unpack_from("<H", buffer, layout.offsets[i])[0])
    i = places.get(_MATRIX_TAGS[4])
    photometric = b"" if i is None else buffer[layout.offsets[i] : layout.offsets[i] + layout.lengths[i]]
    bits = native_frame_bits(sizes, photometric)
    readable, problem = length_problem(layout.pixels.length, bits, 1)
    if not readable:
        return -1, -1, problem
    return layout.pixels.offset, (bits + 7) // 8, problem
