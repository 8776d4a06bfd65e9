"""Compressed frames: named decoders, refusals before they run, fallbacks that are told."""

import struct
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian

from xdicom import decoders
from xdicom.decoders import DecoderFallbackWarning, decode, frees_gil
from xdicom.errors import MissingDecoderError, PixelError
from xdicom.formats import PixelFormat

RLE, JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
JPEG, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"


def noise(bits: int, *, signed: bool = False, samples: int = 1, rows: int = 40, columns: int = 48) -> np.ndarray:
    """Return a frame over the whole range of some bits; its upper part is flat, for encoders fail on mere noise."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    frame = np.random.default_rng(bits).integers(low, high, shape, endpoint=True)
    frame[: rows * 3 // 4] = 0
    frame.ravel()[:2] = low, high
    return frame.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def format_of(frame: np.ndarray, syntax: str, bits: int = 0, **changes: Any) -> PixelFormat:
    """Return the format that describes a frame."""
    allocated = frame.itemsize * 8
    stored = bits or allocated
    samples = 1 if frame.ndim == 2 else frame.shape[2]
    fields = {
        "transfer_syntax": syntax,
        "rows": frame.shape[0],
        "columns": frame.shape[1],
        "samples": samples,
        "bits_allocated": allocated,
        "bits_stored": stored,
        "high_bit": stored - 1,
        "signed": frame.dtype.kind == "i",
        "photometric": "RGB" if samples == 3 else "MONOCHROME2",
    }
    return PixelFormat(**(fields | changes))


def compressed(frame: np.ndarray, syntax: str, bits: int = 0) -> bytes:
    """Return the codestream that pydicom makes of a frame."""
    fmt = format_of(frame, syntax, bits)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Rows, ds.Columns, ds.SamplesPerPixel = fmt.rows, fmt.columns, fmt.samples
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = fmt.bits_allocated, fmt.bits_stored, fmt.high_bit
    ds.PixelRepresentation, ds.PhotometricInterpretation = int(fmt.signed), fmt.photometric
    if fmt.samples > 1:
        ds.PlanarConfiguration = 0
    ds.PixelData = frame.tobytes()
    ds["PixelData"].VR = "OW"
    ds.compress(syntax, generate_instance_uid=False)
    return next(generate_frames(ds.PixelData, number_of_frames=1))


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (12, False), (12, True), (16, False), (16, True)])
def test_grey_frames_are_exact(syntax: str, bits: int, signed: bool) -> None:
    """Lossless frames of any bits and sign come back identical."""
    frame = noise(bits, signed=signed)
    found, _ = decode(compressed(frame, syntax, bits), format_of(frame, syntax, bits))
    assert found.dtype == frame.dtype
    np.testing.assert_array_equal(found, frame)


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000])
def test_colour_frames_are_exact(syntax: str) -> None:
    """Lossless RGB comes back identical, its samples last."""
    frame = noise(8, samples=3)
    found, photometric = decode(compressed(frame, syntax), format_of(frame, syntax))
    np.testing.assert_array_equal(found, frame)
    assert photometric == "RGB"


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_lossless_is_exact(bits: int) -> None:
    """JPEG lossless (process 14) comes back identical."""
    imagecodecs = pytest.importorskip("imagecodecs")
    frame = noise(bits)
    data = imagecodecs.jpeg_encode(frame, lossless=True, bitspersample=bits)
    found, _ = decode(data, format_of(frame, JPEG_LOSSLESS, bits))
    np.testing.assert_array_equal(found, frame)


@pytest.mark.parametrize(("colorspace", "photometric"), [("YCBCR", "YBR_FULL"), ("RGB", "RGB")])
def test_jpeg_says_its_colour(colorspace: str, photometric: str) -> None:
    """Samples of JPEG stay in the colour of the codestream, which is told, whatever the header says."""
    imagecodecs = pytest.importorskip("imagecodecs")
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[..., 0] = 200
    data = imagecodecs.jpeg_encode(frame, 100, colorspace="RGB", outcolorspace=colorspace)
    found, told = decode(data, format_of(frame, JPEG, photometric="YBR_FULL_422"))
    assert told == photometric
    assert abs(int(found[0, 0, 0]) - (200 if photometric == "RGB" else 60)) <= 2


def test_sign_of_the_header_counts_more_than_that_of_jpeg_2000() -> None:
    """Values of a codestream whose sign contradicts the header are read with the header's sign."""
    frame = noise(12, signed=True)
    data = compressed(frame.view("u2") & 0xFFF, JPEG_2000, 12)
    found, _ = decode(data, format_of(frame, JPEG_2000, 12))
    np.testing.assert_array_equal(found, frame)


def test_unsigned_header_over_signed_jpeg_2000() -> None:
    """The other way round too."""
    frame = noise(12)
    signed = ((frame.astype("i2") << 4).view("i2")) >> 4
    found, _ = decode(compressed(signed, JPEG_2000, 12), format_of(frame, JPEG_2000, 12))
    np.testing.assert_array_equal(found, frame)


def test_more_bits_than_stored_raise() -> None:
    """A codestream whose values pass BitsStored is refused: the dtype would not hold them."""
    frame = noise(16)
    with pytest.raises(PixelError, match="holds 0 to 65535, expected 0 to 4095 for 12 bits stored"):
        decode(compressed(frame, JPEG_2000, 16), format_of(frame, JPEG_2000, 12))


def test_more_bits_than_needed_are_fine() -> None:
    """A codestream that announces more bits than BitsStored, but has none, is read."""
    frame = noise(12)
    found, _ = decode(compressed(frame, JPEG_2000, 16), format_of(frame, JPEG_2000, 12))
    np.testing.assert_array_equal(found, frame)


# -- refusals


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("changes", [{"rows": 41}, {"columns": 49}, {"samples": 3}])
def test_another_matrix_is_refused_before_decoding(
    syntax: str, changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codestream of another size than Rows and Columns never reaches the decoder."""
    frame = noise(8)
    data = compressed(frame, syntax)
    monkeypatch.setattr(decoders, "_run", lambda *_: pytest.fail("the decoder ran"))
    with pytest.raises(PixelError, match=r"codestream holds 40 x 48 pixels of 1 sample\(s\), the header says"):
        decode(data, format_of(frame, syntax, **changes))


@pytest.mark.parametrize("syntax", [RLE, JPEG, JPEG_LS, JPEG_2000])
def test_huge_frames_are_refused(syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix over the limit raises before anything is allocated, and the limit can be set."""
    frame = noise(8)
    with pytest.raises(PixelError, match="more than the limit of 2147483648"):
        decode(b"", format_of(frame, syntax, rows=65535, columns=65535))
    monkeypatch.setattr(decoders, "MAX_FRAME_BYTES", 1919)
    with pytest.raises(PixelError, match="the frame needs 1920 bytes, more than the limit of 1919"):
        decode(b"", format_of(frame, syntax))


def rle(*segments: bytes) -> bytes:
    """Return an RLE frame of some segments."""
    starts = [64 + sum(map(len, segments[:i])) for i in range(len(segments))]
    return struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(segments))) + b"".join(segments)


def test_rle_bomb_is_refused() -> None:
    """A large matrix cannot come of a few bytes, and is not even allocated."""
    frame = noise(8)
    with pytest.raises(PixelError, match="an RLE frame of 66 bytes cannot hold 900000000 bytes"):
        decode(rle(b"\x81\x00"), format_of(frame, RLE, rows=30_000, columns=30_000))


def test_rle_surplus_is_left_alone() -> None:
    """A segment that would yield more than the frame holds is read as far as needed."""
    frame = np.full((6, 8), 7, np.uint8)
    found, _ = decode(rle(b"\x81\x07" * 100_000), format_of(frame, RLE))
    np.testing.assert_array_equal(found, frame)


def test_rle_no_operation_is_skipped() -> None:
    """The byte 128 stands for nothing."""
    frame = np.full((6, 8), 7, np.uint8)
    found, _ = decode(rle(b"\x80" + bytes([257 - 48]) + b"\x07"), format_of(frame, RLE))
    np.testing.assert_array_equal(found, frame)


@pytest.mark.parametrize(
    "data",
    [b"", bytes(63), bytes(64), rle(b"\x05ab"), rle(b"\xd1\x07", b"\xd1\x07"), struct.pack("<16I", 1, 9999, *[0] * 14)],
    ids=["empty", "short", "no segment", "truncated", "two segments", "outside"],
)
def test_damaged_rle_raises(data: bytes) -> None:
    """RLE that can't be decoded raises PixelError."""
    with pytest.raises(PixelError):
        decode(data, format_of(noise(8), RLE))


def test_high_bit_of_rle() -> None:
    """Bits that lie high in their word are moved down."""
    frame = noise(12, signed=True)
    data = compressed((frame.view("u2") << 4) | 0xF, RLE)
    found, _ = decode(data, format_of(frame, RLE, 12, high_bit=15))
    np.testing.assert_array_equal(found, frame)


def test_encapsulated_uncompressed() -> None:
    """Fragments may hold uncompressed pixels."""
    frame = noise(12, signed=True)
    found, _ = decode(frame.tobytes(), format_of(frame, decoders.ENCAPSULATED, 12))
    np.testing.assert_array_equal(found, frame)
    with pytest.raises(PixelError, match="3839 bytes, expected 3840"):
        decode(frame.tobytes()[:-1], format_of(frame, decoders.ENCAPSULATED, 12))


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000, JPEG])
def test_damaged_codestreams_raise_pixel_error(syntax: str) -> None:
    """Whatever a decoder raises on damaged data becomes PixelError; what it survives has the right shape."""
    frame = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    data = pytest.importorskip("imagecodecs").jpeg_encode(frame) if syntax == JPEG else compressed(frame, syntax)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data[: rng.integers(10, len(data))] if rng.random() < 0.3 else data)
        for place in rng.integers(2, len(damaged), 4):
            damaged[place] = rng.integers(256)
        try:
            found, _ = decode(bytes(damaged), format_of(frame, syntax))
        except PixelError:
            continue
        assert found.shape == frame.shape


def test_unknown_transfer_syntax_raises() -> None:
    """A transfer syntax that nobody decodes is named."""
    with pytest.raises(PixelError, match=r"no decoder for transfer syntax 1\.2\.840\.10008\.1\.2\.4\.100"):
        decode(b"", format_of(noise(8), "1.2.840.10008.1.2.4.100"))


# -- which decoder


@pytest.mark.parametrize(("syntax", "package"), [(JPEG_LS, "jpeg_ls"), (JPEG_2000, "openjpeg")])
def test_fallback_is_told(syntax: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the named decoder another one gives the same pixels, with a warning that says what to install."""
    pytest.importorskip("imagecodecs")
    frame = noise(12, signed=True)
    data = compressed(frame, syntax, 12)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.warns(DecoderFallbackWarning, match="are decoded by imagecodecs.*pip install py"):
        found, _ = decode(data, format_of(frame, syntax, 12))
    np.testing.assert_array_equal(found, frame)


@pytest.mark.parametrize(
    ("syntax", "named"), [(JPEG_LS, "pyjpegls"), (JPEG_2000, "pylibjpeg-openjpeg"), (JPEG, "imagecodecs")]
)
def test_missing_decoder_says_what_to_install(syntax: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any decoder the error is an ImportError too and names the package."""
    frame = noise(8)
    data = (
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x28\x00\x30\x01\x01\x11\x00" if syntax == JPEG else compressed(frame, syntax)
    )
    for package in ("jpeg_ls", "openjpeg", "imagecodecs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDecoderError, match=f"pip install {named}"):
        decode(data, format_of(frame, syntax))


def test_damage_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that the named decoder refuses is not tried elsewhere: others accept damaged data."""
    frame = noise(8)
    data = compressed(frame, JPEG_LS)[:-20]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DecoderFallbackWarning)
        with pytest.raises(PixelError, match="pyjpegls cannot decode the JPEG-LS frame"):
            decode(data, format_of(frame, JPEG_LS))


def test_threads_are_for_those_that_gain() -> None:
    """Native pixels and JPEG let other threads run; the other decoders do not."""
    found = [frees_gil(syntax) for syntax in (ExplicitVRLittleEndian, JPEG, RLE, JPEG_LS, JPEG_2000)]
    assert found == [True, True, False, False, False]
