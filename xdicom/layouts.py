"""Recognise the layout that a file shares with earlier ones by its bytes, so that its elements need no walk.

How elements are walked is known in `walker`; many files at once are compared in `scan`.
"""

import threading
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .header import WINDOW, Header, read_header
from .source import Source
from .walker import UNDEFINED, Layout, NeedMoreError, UnrecognisedError, element_header, header_size

_SIZES, _A_SIZE = 256, 8
_MOST_STRETCHED = 16


class Template:
    """A layout and the bytes that a file must have to share it.

    Parameters
    ----------
    layout
        Of a file with a preamble, read as it stands.
    buffer
        The first bytes of that file.
    index
        `guard_index` of the layout, where it is known already.
    """

    def __init__(self, layout: Layout, buffer: bytes, index: NDArray[np.intp] | None = None) -> None:
        self.layout = layout
        self.index = layout.guard_index if index is None else index
        self.expected = np.frombuffer(buffer, np.uint8)[self.index]
        pixels = layout.pixels
        self.size = pixels.offset + pixels.length if pixels else layout.end
        # Masking all bytes takes less time than picking out those that count.
        self._mask = np.zeros(layout.end, np.uint8)
        self._mask[self.index] = 0xFF
        self._masked = self._held(buffer)

    def fits(self, buffer: bytes) -> bool:
        """Say whether a file of the same size begins like one of this layout."""
        return len(buffer) >= len(self._mask) and self._held(buffer) == self._masked

    def _held(self, buffer: bytes) -> bytes:
        return (np.frombuffer(buffer, np.uint8, len(self._mask)) & self._mask).tobytes()

    def stretched(self, buffer: bytes, size: int) -> Self | None:
        """Return the template of a file that has the same elements, some of them longer or shorter; None for others.

        `buffer` begins the file, which has `size` bytes. The template is the one that a walk would lead to: each header
        is where the value before it ends, and is the same but for its length.
        """
        held = _Stretched(self, buffer)
        changes = held.changes()
        if changes is None or self.size + sum(grown for _, grown in changes) != size:
            return None
        layout = self.layout
        places, grown = np.array(changes, np.intp).reshape(-1, 2).T
        lengths = np.array(layout.lengths, np.int64)
        lengths[places] += grown
        # What begins behind the header of a changed element is moved; its own value is not.
        moved = np.zeros(len(lengths) + 1, np.intp)
        moved[places + 1] = grown
        moved = np.cumsum(moved)
        starts = layout.guards[:, 0]
        behind = np.searchsorted(layout.offset_array, starts, side="right")
        pixels = layout.pixels
        return type(self)(
            replace(
                layout,
                offsets=tuple((layout.offset_array + moved[:-1]).tolist()),
                lengths=tuple(lengths.tolist()),
                pixels=pixels and pixels._replace(offset=pixels.offset + int(moved[-1])),
                end=layout.end + int(moved[-1]),
                guards=layout.guards + moved[behind][:, np.newaxis],
            ),
            buffer,
            held.index,
        )


class _Stretched:
    """A file held against a template whose elements it may have, with values of other lengths.

    `index` becomes the `guard_index` of its layout, if it has one.
    """

    def __init__(self, template: Template, buffer: bytes) -> None:
        self._layout, self._was = template.layout, template.index
        self.index, self._expected = template.index.copy(), template.expected.copy()
        self._buffer, self._head = buffer, np.frombuffer(buffer, np.uint8)

    def changes(self) -> list[tuple[int, int]] | None:
        """Return which elements are longer, and by how many bytes; None where anything else differs."""
        found: list[tuple[int, int]] = []
        known = 0
        while len(found) <= _MOST_STRETCHED:
            end = int(np.searchsorted(self.index, len(self._head)))
            differs = np.flatnonzero(self._head[self.index[known:end]] != self._expected[known:end])
            if not differs.size:
                return found if end == len(self.index) else None
            change = self._change_at(known + int(differs[0]))
            if change is None:
                return None
            place, grown, known = change
            found.append((place, grown))
        return None

    def _change_at(self, differing: int) -> tuple[int, int, int] | None:
        """Return which element is longer, by how many bytes, and where what follows it is in the index."""
        layout = self._layout
        place = int(np.searchsorted(layout.offset_array, self._was[differing], side="right"))
        if place == len(layout.offsets):
            return None
        tag, vr, offset = layout.tags[place], layout.vrs[place], layout.offsets[place]
        is_meta = tag >> 16 == 2
        implicit = layout.implicit and not is_meta
        start = offset - header_size(vr, implicit)
        first, behind, after = np.searchsorted(self._was, [start, offset, offset + layout.lengths[place]]).tolist()
        # The first element of the dataset tells implicit from explicit VR.
        decides = implicit and (place == 0 or layout.tags[place - 1] >> 16 == 2)
        is_guarded = differing < first or behind != after
        if decides or is_guarded or _length_in(self._expected[first:behind], implicit) == UNDEFINED:
            return None
        try:
            new = element_header(self._buffer, int(self.index[first]), implicit)
        except (NeedMoreError, UnrecognisedError):
            return None
        if new[:2] != (tag, vr):
            return None
        self._expected[first:behind] = self._head[self.index[first:behind]]
        grown = new[3] - layout.lengths[place]
        self.index[behind:] += grown
        return place, grown, behind


def _length_in(header: NDArray[np.uint8], implicit: bool) -> int:
    return element_header(header.tobytes(), 0, implicit)[3]


class Layouts:
    """Layouts of files that were read, for reading more of their kind; several threads may share it."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[Template]] = {}
        self._last: Template | None = None
        self._window = WINDOW
        self._lock = threading.Lock()

    def read_header(self, source: Source) -> Header:
        """Locate the elements and the pixels of one file; see `header.read_header`."""
        known = self._by_size.get(source.stamp.size, [])
        if known:
            buffer = source.start(max(template.layout.end for template in known))
            for place, template in enumerate(known):
                if template.fits(buffer):
                    if place:  # the next file probably has it too
                        self._by_size[source.stamp.size] = [template, *known[:place], *known[place + 1 :]]
                    return Header(template.layout, buffer)
        stretched = self._stretched(source)
        if stretched is not None:
            self._keep(stretched[1], source.stamp.size)
            return stretched[0]
        header = read_header(source, self._window)
        if _is_shared(header):
            self._keep(Template(header.layout, header.buffer), source.stamp.size)
        return header

    def _stretched(self, source: Source) -> tuple[Header, Template] | None:
        """Return the header of a file whose elements are those of the last other one, if they are."""
        if self._last is None:
            return None
        buffer = source.start(self._window)
        template = self._last.stretched(buffer, source.stamp.size)
        if template is None:
            return None
        return Header(template.layout, buffer), template

    def _keep(self, template: Template, size: int) -> None:
        with self._lock:
            self._window = max(self._window, 2 * template.layout.end)
            self._last = template
            if template.size == size and (len(self._by_size) < _SIZES or size in self._by_size):
                self._by_size[size] = [template, *self._by_size.get(size, [])][:_A_SIZE]


def _is_shared(header: Header) -> bool:
    """Say whether another file with the same element headers has the same header but for values."""
    return not (header.relocated or header.problems or header.tail or header.fragments) and (
        header.buffer[128:132] == b"DICM" and (header.pixels is None or header.pixels.length >= 0)
    )
