"""Recognise the layout that a file shares with earlier ones by its bytes, so that its elements need no walk.

How elements are walked is known in `walker`; many files at once are compared in `scan`.
"""

import threading

import numpy as np

from .header import WINDOW, Header, read_header
from .source import Source
from .walker import Layout

_SIZES, _A_SIZE = 256, 8
_PROBES = 6


class Template:
    """A layout and the bytes that a file must have to share it.

    Parameters
    ----------
    layout
        Of a file with a preamble, read as it stands.
    buffer
        The first bytes of that file.
    """

    def __init__(self, layout: Layout, buffer: bytes) -> None:
        self.layout = layout
        self.index = layout.guard_index
        self.expected = np.frombuffer(buffer, np.uint8)[self.index]
        pixels = layout.pixels
        self.size = pixels.offset + pixels.length if pixels else layout.end
        spans = layout.guards[:: max(1, len(layout.guards) // _PROBES)][1:] + layout.guards[-1:]
        self._probes = [(start, buffer[start:stop]) for start, stop in spans]

    def may_fit(self, buffer: bytes) -> bool:
        """Say whether some element headers are where they should be: a file of another layout seldom passes."""
        for start, expected in self._probes:
            if not buffer.startswith(expected, start):
                return False
        return len(buffer) >= self.layout.end

    def fits(self, buffer: bytes) -> bool:
        """Say whether a file of the same size begins like one of this layout."""
        if not self.may_fit(buffer):
            return False
        return bool((np.frombuffer(buffer, np.uint8)[self.index] == self.expected).all())


class Layouts:
    """Layouts of files that were read, for reading more of their kind; several threads may share it."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[Template]] = {}
        self._window = WINDOW
        self._lock = threading.Lock()

    def read_header(self, source: Source) -> Header:
        """Locate the elements and the pixels of one file; see `header.read_header`."""
        known = self._by_size.get(source.stamp.size, [])
        if known:
            buffer = source.read(0, max(template.layout.end for template in known))
            for place, template in enumerate(known):
                if template.fits(buffer):
                    if place:  # the next file probably has it too
                        self._by_size[source.stamp.size] = [template, *known[:place], *known[place + 1 :]]
                    return Header(template.layout, buffer[: template.layout.end])
        header = read_header(source, self._window)
        if _is_shared(header):
            self._keep(Template(header.layout, header.buffer), source.stamp.size)
        return header

    def _keep(self, template: Template, size: int) -> None:
        with self._lock:
            self._window = max(self._window, 2 * template.layout.end)
            if template.size == size and (len(self._by_size) < _SIZES or size in self._by_size):
                self._by_size[size] = [template, *self._by_size.get(size, [])][:_A_SIZE]


def _is_shared(header: Header) -> bool:
    """Say whether another file with the same element headers has the same header but for values."""
    return not (header.relocated or header.problems or header.tail or header.fragments) and (
        header.buffer[128:132] == b"DICM" and (header.pixels is None or header.pixels.length >= 0)
    )
