"""What the bytes of a frame mean: matrix, samples, bits, sign, colour, and the dtype of the stored values in them.

It reads no pixels and knows nothing of real-world values.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .colour import Palette, palette_of
from .errors import PixelError

IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED)

_ROWS, _COLUMNS, _SAMPLES, _PHOTOMETRIC, _PLANAR = 0x00280010, 0x00280011, 0x00280002, 0x00280004, 0x00280006
_ALLOCATED, _STORED, _HIGH, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_PALETTE = (*range(0x00281101, 0x00281104), *range(0x00281201, 0x00281204), *range(0x00281221, 0x00281224))
FORMAT_TAGS = (_ROWS, _COLUMNS, _SAMPLES, _PHOTOMETRIC, _PLANAR, _ALLOCATED, _STORED, _HIGH, _SIGNED, *_PALETTE)
"""Every tag that `pixel_format` asks for."""

_BITS = {"int": (1, 8, 16, 32, 64), "float": (32,), "double": (64,)}
_KINDS = {"int": "iu", "float": "f", "double": "f"}
_STAGED_KINDS = "biuf"


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Everything that decides how the bytes of a frame become stored values.

    Attributes
    ----------
    transfer_syntax
        UID of the transfer syntax.
    rows, columns, samples
        Matrix, and samples per pixel.
    bits_allocated, bits_stored, high_bit
        Bits of a sample in native pixels, those that count, and the highest of these.
    signed
        Whether stored values are two's complement.
    photometric
        Photometric interpretation as in the header. MONOCHROME1 stays as stored; other colours become RGB.
    planar
        1 where native samples are ordered plane by plane.
    kind
        "int", "float" (Float Pixel Data, 32 bits), "double" (64 bits) or "staged".
    palette
        Lookup tables of PALETTE COLOR.
    staged_dtype
        Of kind "staged": numpy dtype of the little-endian frames, whose values become stored ones through `to_stored`.
    word_swapped
        Whether bytes lie swapped in 16-bit words (8-bit pixels as OW in a big-endian file).
    """

    transfer_syntax: str
    rows: int
    columns: int
    samples: int = 1
    bits_allocated: int = 16
    bits_stored: int = 16
    high_bit: int = 15
    signed: bool = False
    photometric: str = "MONOCHROME2"
    planar: int = 0
    kind: str = "int"
    palette: Palette | None = None
    staged_dtype: str = ""
    word_swapped: bool = False

    @property
    def is_native(self) -> bool:
        """Whether the frame is not compressed."""
        return self.kind == "staged" or self.transfer_syntax in NATIVE

    @property
    def is_subsampled(self) -> bool:
        """Whether native pixels share their colour with a neighbour."""
        return self.photometric == "YBR_FULL_422" and self.kind == "int" and self.is_native


def pixel_format(get: Callable[[int], object], transfer_syntax: str, kind: str = "int", *, vr: str = "") -> PixelFormat:
    """Return the pixel format that a header describes.

    Parameters
    ----------
    get
        Decoded value of a tag (an int 0xGGGGEEEE), or None where it is absent or empty.
    transfer_syntax
        UID of the transfer syntax.
    kind
        "int" for Pixel Data, "float" for Float Pixel Data, "double" for Double Float Pixel Data.
    vr
        VR of the pixel data; "OW" tells that 8-bit pixels of a big-endian file lie in swapped words.

    Returns
    -------
    PixelFormat

    Raises
    ------
    PixelError
        An attribute is missing, or attributes contradict each other; the text names it.
    """
    rows, columns = _positive(get, _ROWS, "Rows"), _positive(get, _COLUMNS, "Columns")
    samples = _positive(get, _SAMPLES, "SamplesPerPixel", 1)
    allocated = _positive(get, _ALLOCATED, "BitsAllocated")
    photometric = get(_PHOTOMETRIC)
    if not isinstance(photometric, str) or not photometric.strip():
        raise PixelError("PhotometricInterpretation is missing: what the pixels mean cannot be known")
    photometric = photometric.strip().upper()
    if allocated not in _BITS[kind]:
        expected = ", ".join(map(str, _BITS[kind]))
        raise PixelError(f"BitsAllocated is {allocated}, expected {expected} for {kind} pixels")
    planar = _integer(get, _PLANAR, "PlanarConfiguration", 0) if samples > 1 else 0
    stored, high, signed = _bits(get, allocated) if kind == "int" else (allocated, allocated - 1, True)
    _check_colour(photometric, samples, allocated)
    return PixelFormat(
        transfer_syntax=transfer_syntax,
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=signed,
        photometric=photometric,
        planar=planar,
        kind=kind,
        palette=palette_of(get, signed) if photometric == "PALETTE COLOR" and samples == 1 else None,
        word_swapped=transfer_syntax == EXPLICIT_BIG and allocated == 8 and vr == "OW",
    )


def _integer(get: Callable[[int], object], tag: int, name: str, default: int | None = None) -> int:
    """Return an attribute that is one integer."""
    value = get(tag)
    if value is None and default is not None:
        return default
    if value is None:
        raise PixelError(f"{name} is missing: the pixels cannot be read without it")
    if not isinstance(value, int):
        raise PixelError(f"{name} is {value!r}, expected one integer")
    return value


def _positive(get: Callable[[int], object], tag: int, name: str, default: int | None = None) -> int:
    """Return an attribute that is one integer above 0."""
    value = _integer(get, tag, name, default)
    if value < 1:
        raise PixelError(f"{name} is {value}, expected at least 1")
    return value


def _bits(get: Callable[[int], object], allocated: int) -> tuple[int, int, bool]:
    """Return BitsStored, HighBit and the sign of integer pixels."""
    stored = _positive(get, _STORED, "BitsStored", allocated)
    if stored > allocated:
        raise PixelError(f"BitsStored is {stored}, more than BitsAllocated, {allocated}")
    high = _integer(get, _HIGH, "HighBit", stored - 1)
    if not stored - 1 <= high < allocated:
        raise PixelError(f"HighBit is {high}, expected {stored - 1} for {stored} bits stored of {allocated}")
    signed = _integer(get, _SIGNED, "PixelRepresentation", 0 if allocated == 1 else None)
    if signed not in (0, 1):
        raise PixelError(f"PixelRepresentation is {signed}, expected 0 (unsigned) or 1 (signed)")
    return stored, high, bool(signed) and allocated > 1


def _check_colour(photometric: str, samples: int, allocated: int) -> None:
    """Refuse colour that contradicts the other attributes."""
    if photometric.startswith(("YBR", "RGB")) and samples != 3:
        raise PixelError(f"SamplesPerPixel is {samples}, expected 3 for {photometric}")
    if photometric.startswith("YBR_FULL") and allocated != 8:
        raise PixelError(f"BitsAllocated is {allocated}, expected 8 for {photometric}")
    if photometric == "PALETTE COLOR" and samples != 1:
        raise PixelError(f"SamplesPerPixel is {samples}, expected 1 for PALETTE COLOR")


def stored_limits(fmt: PixelFormat) -> tuple[int, int]:
    """Return the lowest and highest stored value that BitsStored and sign allow."""
    if fmt.signed:
        return -(1 << fmt.bits_stored - 1), (1 << fmt.bits_stored - 1) - 1
    return 0, (1 << fmt.bits_stored) - 1


def smallest_integer(low: int, high: int) -> np.dtype[Any] | None:
    """Return the smallest integer dtype that holds `low` and `high`, or None."""
    for size in (1, 2, 4, 8):
        dtype = np.dtype(f"{'i' if low < 0 else 'u'}{size}")
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return None


def stored_dtype(fmt: PixelFormat) -> np.dtype[Any]:
    """Return the dtype of stored values: the smallest for BitsStored and sign, of a palette that of its entries."""
    if fmt.kind in ("float", "double"):
        return np.dtype("f4" if fmt.kind == "float" else "f8")
    if fmt.palette is not None:
        return np.dtype(f"u{fmt.palette.bits // 8}")
    dtype = smallest_integer(*stored_limits(fmt))
    assert dtype is not None
    return dtype


def container_dtype(fmt: PixelFormat) -> np.dtype[Any]:
    """Return the dtype in which one native sample lies in the file, byte order included (1-bit pixels: bytes)."""
    if fmt.kind == "staged":
        dtype = np.dtype(fmt.staged_dtype).newbyteorder("<")
        if dtype.kind not in _STAGED_KINDS:
            raise PixelError(f"staged pixels of dtype {fmt.staged_dtype!r} cannot be read")
        return dtype
    order = ">" if fmt.transfer_syntax == EXPLICIT_BIG else "<"
    kind = "f" if fmt.kind != "int" else "i" if fmt.signed else "u"
    return np.dtype(f"{order}{kind}{max(fmt.bits_allocated, 8) // 8}")


def frame_shape(fmt: PixelFormat) -> tuple[int, ...]:
    """Return (rows, columns), or (rows, columns, samples) of colour; palettes become RGB."""
    samples = 3 if fmt.palette is not None else fmt.samples
    return (fmt.rows, fmt.columns) if samples == 1 else (fmt.rows, fmt.columns, samples)


def frame_nbytes(fmt: PixelFormat) -> int:
    """Return the bytes of one frame as it lies in the file when native."""
    samples = 2 if fmt.is_subsampled else fmt.samples
    count = fmt.rows * fmt.columns * samples
    bits = 8 * container_dtype(fmt).itemsize if fmt.kind == "staged" else fmt.bits_allocated
    return math.ceil(count * bits / 8)
