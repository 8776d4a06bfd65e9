"""A table of frames and their pixels made of plain lists, for the tests of modules above `frames.py`."""

import copy

import numpy as np

from xdicom import tags
from xdicom.errors import UnknownTagError

ABSENT = object()


class FakeLocations:
    """Frames whose pixels are in memory, which remember what was read of them."""

    def __init__(self, pixels, token="frames"):
        self.pixels = pixels
        self.reads = []
        self.name = token

    def __len__(self):
        return len(self.pixels)

    def take(self, indices):
        """Return the locations of some frames; what is read of them is remembered here too."""
        taken = copy.copy(self)
        taken.pixels = self.pixels[np.asarray(indices)]
        taken.name = f"{self.name}{np.asarray(indices).tolist()}"
        return taken

    def token(self):
        """Return a text that is the same for the same frames."""
        return self.name

    def dtype(self, rescale=True):
        """Return the dtype of the pixels."""
        return self.pixels.dtype if rescale else np.dtype(np.int16)

    def frame_shape(self):
        """Return rows, columns, and 3 where there is colour."""
        return self.pixels.shape[1:]

    def read(self, indices, out, region, rescale=True, *, threads=1):
        """Read a part of some frames into an array."""
        self.reads.append((np.asarray(indices).tolist(), region))
        assert out.shape == (len(indices), *self.pixels[0][region].shape)
        out[...] = self.pixels[indices][(slice(None), *region)]


class FakeFrames:
    """A table from one list of values a tag: `FakeFrames(EchoTime=[5.0, 10.0])`; ABSENT where a frame has none."""

    def __init__(self, *, number=None, attributes=None, pixels=None, token="frames", **columns):
        self.lists = {tags.parse(name): list(values) for name, values in columns.items()}
        self.attributes = attributes or {}
        lists = [*self.lists.values(), *self.attributes.values()]
        self.count = len(lists[0]) if lists else 0 if pixels is None else len(pixels)
        assert all(len(values) == self.count for values in lists)
        self.number = np.zeros(self.count, int) if number is None else np.asarray(number)
        self.columns = {}
        pixels = np.arange(self.count * 12, dtype=np.int16).reshape(-1, 3, 4) if pixels is None else pixels
        self.locations = FakeLocations(pixels, token)

    def __len__(self):
        return self.count

    def check_pixels(self):
        """Do nothing: all frames have pixels."""

    def tags(self):
        """Return the tags of the table."""
        return sorted(tag for tag, values in self.lists.items() if any(value is not ABSENT for value in values))

    def column(self, tag):
        """Return the distinct values and their codes."""
        index = {}
        distinct = []
        codes = np.full(self.count, -1, np.int32)
        for row, value in enumerate(self.lists.get(tag, [])):
            if value is not ABSENT:
                if repr(value) not in index:
                    index[repr(value)] = len(distinct)
                    distinct.append(value)
                codes[row] = index[repr(value)]
        return distinct, codes

    def raw_values(self, tag):
        """Return the distinct raw values and their codes."""
        distinct, codes = self.column(tag)
        vr = "LO" if tag >> 16 & 1 else tags.concrete_vr(tag)
        return [(vr, tags.encode(tag, vr, value)) for value in distinct], codes

    def named(self, name):
        """Return the distinct values and the codes of a lower_case attribute or a tag; NaN, "" and None are none."""
        if name in self.attributes:
            return self._coded(self.attributes[name])
        if isinstance(name, str) and name.islower():
            raise UnknownTagError(f"{name!r} is no registered attribute")
        return self._coded([ABSENT] * self.count) if isinstance(name, tuple) else self.column(tags.parse(name))

    def _coded(self, values):
        index = {}
        codes = [
            -1 if value is ABSENT or value in (None, "") else index.setdefault(value, len(index)) for value in values
        ]
        return list(index), np.array(codes, np.int32)
