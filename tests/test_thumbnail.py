"""The middle frame as a small PNG."""

import io
from pathlib import Path

import numpy as np
from factories import AXIAL, Layout, make_image, make_report, make_series
from matplotlib.image import imread

import xdicom as xd
from xdicom.thumbnail import resized, thumbnail


def decoded(png: bytes) -> np.ndarray:
    """Return the pixels of a PNG as 8 bits."""
    return np.round(255 * imread(io.BytesIO(png))).astype(np.uint8)


def made(path: Path, size: int = 60, **options: object):
    """Return the thumbnail of a series made for it."""
    make_series(path, **options)
    return thumbnail(xd.database(path).series()[0].frames(), size)


def test_shrinking_takes_means() -> None:
    """Every pixel counts once."""
    np.testing.assert_array_equal(resized(np.array([[0, 10, 20, 30, 40]], np.uint8), 1, 2), [[5, 30]])


def test_growing_repeats() -> None:
    """No value comes in that was not there."""
    np.testing.assert_array_equal(resized(np.array([[1, 2]], np.uint8), 2, 4), [[1, 1, 2, 2], [1, 1, 2, 2]])


def test_it_is_the_middle_frame(tmp_path: Path) -> None:
    """By InstanceNumber, whatever the order of files; rows downwards, in the window of the header."""
    pixels = np.zeros((3, 4, 4), np.uint16)
    pixels[1, 0] = 1000
    pixels[1, 1] = 500
    found = made(
        tmp_path, 4, shape=(4, 4), pixels=pixels, layout=Layout(spacing=(1, 1)), WindowCenter=500, WindowWidth=1000
    )
    np.testing.assert_array_equal(decoded(found.png)[:, 0], [255, 128, 0, 0])


def test_aspect_is_in_mm(tmp_path: Path) -> None:
    """30 rows of 2 mm and 40 columns of 1.5 mm are a square."""
    found = made(tmp_path, shape=(30, 40), layout=AXIAL)
    assert (found.width, found.height) == (60, 60)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    """Low values are bright."""
    pixels = np.arange(4, dtype=np.uint16).reshape(1, 2, 2)
    plain = made(tmp_path / "a", 2, slices=1, shape=(2, 2), pixels=pixels)
    turned = made(
        tmp_path / "b",
        2,
        slices=1,
        shape=(2, 2),
        pixels=pixels,
        change=lambda ds, i: ds.update({"PhotometricInterpretation": "MONOCHROME1"}),
    )
    np.testing.assert_array_equal(decoded(turned.png), 255 - decoded(plain.png))


def test_colours(tmp_path: Path) -> None:
    """RGB stays RGB."""
    assert decoded(made(tmp_path, shape=(6, 6, 3), dtype="uint8").png).shape[-1] == 3


def test_a_frame_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that was cut since it was scanned gives the reason, no exception and no picture."""
    series = make_series(tmp_path)
    frames = xd.database(tmp_path).series()[0].frames()
    for path in series.files:
        path.write_bytes(path.read_bytes()[:-30])
    found = thumbnail(frames, 60)
    assert found.png == b""
    assert found.reason


def test_objects_without_pixels(tmp_path: Path) -> None:
    """A report has no picture either."""
    make_report(tmp_path / "a.dcm")
    assert thumbnail(xd.database(tmp_path).series()[0].frames(), 60).reason


def test_constant_and_extreme_frames(tmp_path: Path) -> None:
    """A frame of one value, and one of a single pixel, are pictures."""
    make_image(tmp_path / "a.dcm", np.full((4, 4), 7, "u1"))
    assert thumbnail(xd.database(tmp_path).series()[0].frames(), 60).png
    assert made(tmp_path / "b", shape=(1, 1)).png
    assert made(tmp_path / "c", shape=(1, 400)).height == 1
