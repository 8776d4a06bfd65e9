"""Two frames in RLE, in files whose offsets, fragments and delimiters are right or wrong in every way."""

import struct
from collections.abc import Callable

import numpy as np
from rawdicom import FRAME, FRAMES, PIXELS, RLE, base, element, encoded, file, item


def rle(frame: np.ndarray) -> bytes:
    """Return a frame of 16 bits as RLE with literal runs only (PS3.5 annex G)."""
    planes = [(frame >> 8).astype("u1").tobytes(), (frame & 255).astype("u1").tobytes()]
    packed = [bytes([len(plane) - 1]) + plane + b"\0" * ((len(plane) + 1) % 2) for plane in planes]
    return struct.pack("<16I", 2, 64, 64 + len(packed[0]), *[0] * 13) + b"".join(packed)


def encapsulated(
    offsets: list[int], fragments: list[bytes], tail: bytes | None = None, **more: tuple[str, bytes]
) -> bytes:
    """Return a file of two frames in RLE with this Basic Offset Table and these fragments."""
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    tail = b"\xfe\xff\xdd\xe0\0\0\0\0" if tail is None else tail
    content = item(table) + b"".join(map(item, fragments)) + tail
    elements = base() | {int(name[1:], 16): value for name, value in more.items()}
    elements[FRAMES] = ("IS", b"2 ")
    del elements[PIXELS]
    return file(encoded(elements) + element(PIXELS, "OB", content, length=0xFFFFFFFF), RLE)


def extended(*offsets: int) -> dict[str, tuple[str, bytes]]:
    """Return an Extended Offset Table with its lengths."""
    size = len(rle(FRAME))
    lengths = struct.pack(f"<{len(offsets)}Q", *[size] * len(offsets))
    return {"t7fe00001": ("OV", struct.pack(f"<{len(offsets)}Q", *offsets)), "t7fe00002": ("OV", lengths)}


def rle_halves() -> list[bytes]:
    """Return FRAME twice, each in two fragments."""
    packed = rle(FRAME)
    return [packed[:70], packed[70:]] * 2


def rle_bomb() -> bytes:
    """Return a large matrix in a few bytes of RLE."""
    return encapsulated([], [rle(FRAME)] * 2, t00280010=("US", b"\xff\xff"), t00280011=("US", b"\xff\xff"))


NEXT = len(rle(FRAME)) + 8
ENCAPSULATED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "offsets_right": ("equal", lambda: encapsulated([0, NEXT], [rle(FRAME)] * 2)),
    "offsets_empty": ("equal", lambda: encapsulated([], [rle(FRAME)] * 2)),
    "offsets_wrong": ("either", lambda: encapsulated([0, 3], [rle(FRAME)] * 2)),
    "offsets_beyond_end": ("either", lambda: encapsulated([0, 1 << 30], [rle(FRAME)] * 2)),
    "offsets_three": ("either", lambda: encapsulated([0, NEXT, NEXT], [rle(FRAME)] * 2)),
    "extended_right": ("equal", lambda: encapsulated([], [rle(FRAME)] * 2, **extended(0, NEXT))),
    "extended_wrong": ("either", lambda: encapsulated([], [rle(FRAME)] * 2, **extended(0, 5))),
    "no_delimiter": ("equal", lambda: encapsulated([0, NEXT], [rle(FRAME)] * 2, b"")),
    "fragments_halves": ("either", lambda: encapsulated([0, NEXT + 8], rle_halves())),
    "fragments_halves_no_offsets": ("either", lambda: encapsulated([], rle_halves())),
    "fragments_too_few": ("refuse", lambda: encapsulated([], [rle(FRAME)])),
    "fragments_too_many": ("refuse", lambda: encapsulated([], [rle(FRAME)] * 3)),
    "fragment_damaged": ("refuse", lambda: encapsulated([0, NEXT], [rle(FRAME)[:80]] * 2)),
    "rle_bomb": ("refuse", rle_bomb),
}
