"""Compressed frames to stored values: one named decoder per transfer syntax, after a look at the codestream's header.

It neither reads files nor converts colour: it tells in which colour the decoded samples are.

Notes
-----
python-gdcm (aborts the process on damaged data) and pylibjpeg-rle (panics with a BaseException) are never used.
"""

import struct
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .codestream import Codestream, jpeg2000_header, jpeg_header
from .errors import MissingDecoderError, PixelError
from .formats import PixelFormat, stored_limits

MAX_FRAME_BYTES = 2 << 30
"""Largest frame, in bytes, that is decoded or read through a buffer."""

_PACK_BITS_RATIO = 64  # two bytes stand for 128 at most

Decoded = NDArray[Any]
Decoder = Callable[[bytes, Codestream], Decoded]


class DecoderFallbackWarning(UserWarning):
    """A frame was decoded by another package than the one that xdicom names for its transfer syntax."""


class Family(NamedTuple):
    """Transfer syntaxes that share a codestream.

    `decoders` maps the name to install to the function, the named one first; `frees_gil` tells whether that one lets
    other threads run.
    """

    name: str
    header: Callable[[bytes], Codestream]
    decoders: dict[str, Decoder]
    frees_gil: bool = False


def decode(data: bytes, fmt: PixelFormat) -> tuple[Decoded, str]:
    """Decode one frame.

    Parameters
    ----------
    data
        The whole codestream, fragments joined.
    fmt
        Pixel format; of it the matrix, samples, bits and sign must hold for the codestream.

    Returns
    -------
    stored, photometric
        Stored values of shape (rows, columns) or (rows, columns, samples), and the photometric interpretation that
        these have.

    Raises
    ------
    MissingDecoderError
        The decoder is not installed; the text names the package.
    PixelError
        The transfer syntax is unknown, the codestream is damaged or contradicts the header, or the frame is larger
        than `MAX_FRAME_BYTES`.
    """
    size = fmt.rows * fmt.columns * fmt.samples * max(1, fmt.bits_allocated // 8)
    if size > MAX_FRAME_BYTES:
        raise PixelError(f"the frame needs {size} bytes, more than the limit of {MAX_FRAME_BYTES}")
    if fmt.transfer_syntax in (RLE, ENCAPSULATED):
        raw = _decode_rle(data, fmt) if fmt.transfer_syntax == RLE else _unpacked(data, fmt)
        return _masked(np.right_shift(raw, fmt.high_bit + 1 - fmt.bits_stored), fmt), fmt.photometric
    family = _FAMILIES.get(fmt.transfer_syntax)
    if family is None:
        raise PixelError(f"there is no decoder for transfer syntax {fmt.transfer_syntax or '(none)'}")
    stream = family.header(data)
    _check(stream, fmt, family.name)
    decoded = _run(family, data, stream)
    expected = (fmt.rows, fmt.columns) if fmt.samples == 1 else (fmt.rows, fmt.columns, fmt.samples)
    if decoded.shape != expected:
        raise PixelError(f"the decoder gave an array of shape {decoded.shape}, expected {expected}")
    if family is _JPEG:  # as native ones: its precision is that of BitsStored, or wider
        return _masked(decoded, fmt), _photometric(fmt, stream)
    return _resigned(decoded, fmt, stream.precision), _photometric(fmt, stream)


def frees_gil(transfer_syntax: str) -> bool:
    """Return whether frames of a transfer syntax gain from several threads: native ones do, most decoders do not."""
    family = _FAMILIES.get(transfer_syntax)
    return family.frees_gil if family else transfer_syntax != RLE


def _check(stream: Codestream, fmt: PixelFormat, name: str) -> None:
    """Hold the codestream's header against the dataset's before a decoder sees it."""
    found, expected = (stream.rows, stream.columns, stream.samples), (fmt.rows, fmt.columns, fmt.samples)
    if found != expected:
        raise PixelError(
            f"the {name} codestream holds {found[0]} x {found[1]} pixels of {found[2]} sample(s), "
            f"the header says {expected[0]} x {expected[1]} of {expected[2]}"
        )
    if not 1 <= stream.precision <= 32:
        raise PixelError(f"the {name} codestream has {stream.precision} bits a sample")


def _run(family: Family, data: bytes, stream: Codestream) -> Decoded:
    """Run the first decoder that is installed, and say so if it is not the named one."""
    named = next(iter(family.decoders))
    for package, decoder in family.decoders.items():
        try:
            decoded = decoder(data, stream)
        except ImportError:
            continue
        except Exception as error:
            raise PixelError(f"{package} cannot decode the {family.name} frame: {error}") from error
        if package != named:
            text = f"{family.name} frames are decoded by {package}, for {named} is missing: pip install {named}"
            warnings.warn(text, DecoderFallbackWarning, stacklevel=2)
        return decoded
    raise MissingDecoderError(f"{family.name} frames need {named}: pip install {named}")


def _photometric(fmt: PixelFormat, stream: Codestream) -> str:
    """Return the photometric interpretation of decoded samples; the codestream's own word counts more."""
    if fmt.samples != 3:
        return fmt.photometric
    if fmt.photometric in ("YBR_RCT", "YBR_ICT"):
        return "RGB"  # JPEG 2000 decoders undo its component transform
    return stream.photometric or fmt.photometric


def _masked(stored: Decoded, fmt: PixelFormat) -> Decoded:
    """Keep the lowest BitsStored bits, with sign."""
    if 8 * stored.dtype.itemsize < fmt.bits_stored:
        stored = stored.astype(f"u{fmt.bits_allocated // 8}")
    return _extend(stored, fmt.bits_stored, fmt.signed)


def _resigned(stored: Decoded, fmt: PixelFormat, precision: int) -> Decoded:
    """Read the codestream's bits with the sign that the header tells, for JPEG-LS knows none and JPEG 2000 may err."""
    if (stored.dtype.kind == "i") != fmt.signed or fmt.signed:
        stored = _extend(stored, precision, fmt.signed)
    low, high = stored_limits(fmt)
    if precision > fmt.bits_stored and not low <= stored.min() <= stored.max() <= high:
        found = f"{stored.min()} to {stored.max()}"
        raise PixelError(f"the frame holds {found}, expected {low} to {high} for {fmt.bits_stored} bits stored")
    return stored


def _extend(stored: Decoded, bits: int, signed: bool) -> Decoded:
    """Return the lowest `bits` bits of each value, read as signed or unsigned."""
    width = 8 * stored.dtype.itemsize
    values = stored.view(f"{'i' if signed else 'u'}{width // 8}")
    if bits >= width:
        return values
    if not signed:
        return np.asarray(np.bitwise_and(values, values.dtype.type((1 << bits) - 1)))
    return np.asarray(np.right_shift(np.left_shift(values, width - bits), width - bits))


def _unpacked(data: bytes, fmt: PixelFormat) -> Decoded:
    """Return an encapsulated but uncompressed frame."""
    dtype = np.dtype(f"<u{max(1, fmt.bits_allocated // 8)}")
    count = fmt.rows * fmt.columns * fmt.samples
    if fmt.bits_allocated == 1 or len(data) < count * dtype.itemsize:
        raise PixelError(f"the frame has {len(data)} bytes, expected {count * dtype.itemsize}")
    return _shaped(np.frombuffer(data, dtype, count).astype(dtype.newbyteorder("=")), fmt, bool(fmt.planar))


def _shaped(flat: Decoded, fmt: PixelFormat, planar: bool) -> Decoded:
    """Return a frame's samples as (rows, columns) or (rows, columns, samples)."""
    if fmt.samples == 1:
        return flat.reshape(fmt.rows, fmt.columns)
    if planar:
        return flat.reshape(fmt.samples, fmt.rows, fmt.columns).transpose(1, 2, 0)
    return flat.reshape(fmt.rows, fmt.columns, fmt.samples)


def _decode_rle(data: bytes, fmt: PixelFormat) -> Decoded:
    """Decode RLE Lossless (PS3.5 annex G); no segment may yield more bytes than the frame has pixels."""
    width, pixels = fmt.bits_allocated // 8, fmt.rows * fmt.columns
    expected = fmt.samples * width
    if len(data) < 64 or not expected:
        raise PixelError(f"an RLE frame of {len(data)} bytes and {fmt.bits_allocated} bits cannot be decoded")
    if len(data) * _PACK_BITS_RATIO < pixels * expected:
        raise PixelError(f"an RLE frame of {len(data)} bytes cannot hold {pixels * expected} bytes of pixels")
    count, *offsets = struct.unpack("<16I", data[:64])
    if count != expected:
        raise PixelError(f"the RLE frame has {count} segments, expected {expected}")
    ends = [*offsets[1:count], len(data)]
    planes = np.empty((fmt.samples, width, pixels), np.uint8)
    for index, (start, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        if not 64 <= start <= end <= len(data):
            raise PixelError(f"segment {index} of the RLE frame lies outside it")
        sample, byte = divmod(index, width)
        planes[sample, byte] = np.frombuffer(_unpack_bits(data[start:end], pixels), np.uint8)
    stored = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">u{width}")
    return _shaped(stored.astype(f"u{width}").ravel(), fmt, True)


def _unpack_bits(segment: bytes, length: int) -> bytearray:
    """Return `length` bytes of a PackBits segment; surplus is left alone, so that a bomb cannot go off."""
    found, position = bytearray(), 0
    extend = found.extend
    try:
        while len(found) < length:  # looked at every few runs, of 128 bytes at most each
            for _ in range((length - len(found) + 127) // 128):
                code = segment[position] + 1
                if code < 129:
                    extend(segment[position + 1 : position + 1 + code])
                    position += code + 1
                elif code > 129:
                    extend(segment[position + 1 : position + 2] * (258 - code))
                    position += 2
                else:  # 128 stands for nothing
                    position += 1
    except IndexError:
        raise PixelError(f"a segment of the RLE frame yields {len(found)} bytes, expected {length}") from None
    return found[:length]


def _container(precision: int) -> str:
    return "<u1" if precision <= 8 else "<u2" if precision <= 16 else "<u4"


def _by_pyjpegls(data: bytes, stream: Codestream) -> Decoded:
    import jpeg_ls  # type: ignore[import-untyped]

    buffer, info = jpeg_ls.decode_pixel_data(data)
    flat = np.frombuffer(buffer, _container(stream.precision))
    if stream.samples == 1:
        return flat.reshape(stream.rows, stream.columns)
    if info["interleave_mode"] == 0:
        return flat.reshape(stream.samples, stream.rows, stream.columns).transpose(1, 2, 0)
    return flat.reshape(stream.rows, stream.columns, stream.samples)


def _by_openjpeg(data: bytes, stream: Codestream) -> Decoded:
    from openjpeg import utils

    buffer = utils.decode_pixel_data(data, version=2)
    flat = np.frombuffer(buffer, _container(stream.precision).replace("u", "i" if stream.signed else "u"))
    shape = (stream.rows, stream.columns, stream.samples)
    return flat.reshape(shape[: 2 if stream.samples == 1 else 3])


def _jpeg_by_imagecodecs(data: bytes, stream: Codestream) -> Decoded:
    import imagecodecs

    if stream.samples == 1:
        return np.asarray(imagecodecs.jpeg_decode(data))
    # The same colour space in and out: samples stay as they are in the codestream.
    return np.asarray(imagecodecs.jpeg_decode(data, colorspace="YCBCR", outcolorspace="YCBCR"))


def _jpegls_by_imagecodecs(data: bytes, stream: Codestream) -> Decoded:
    import imagecodecs

    return np.asarray(imagecodecs.jpegls_decode(data))


def _jpeg2000_by_imagecodecs(data: bytes, stream: Codestream) -> Decoded:
    import imagecodecs

    return np.asarray(imagecodecs.jpeg2k_decode(data))


RLE, ENCAPSULATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.98"
_JPEG = Family("JPEG", jpeg_header, {"imagecodecs": _jpeg_by_imagecodecs}, frees_gil=True)
_JPEG_LS = Family("JPEG-LS", jpeg_header, {"pyjpegls": _by_pyjpegls, "imagecodecs": _jpegls_by_imagecodecs})
_JPEG_2000 = Family(
    "JPEG 2000", jpeg2000_header, {"pylibjpeg-openjpeg": _by_openjpeg, "imagecodecs": _jpeg2000_by_imagecodecs}
)
_FAMILIES = {
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG for number in (50, 51, 57, 70)},
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG_LS for number in (80, 81)},
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG_2000 for number in (90, 91, 201, 202, 203)},
}
