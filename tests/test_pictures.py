"""Facts about frames as pictures of 8 bits."""

import io

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from xdicom.errors import EditError
from xdicom.pictures import colour_picture, encode_png, grey_picture, tinted


def decoded(png: bytes) -> np.ndarray:
    """Return the pixels of a PNG as 8 bits."""
    return np.round(255 * imread(io.BytesIO(png))).astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 7, 3)])
def test_png_is_read_back(shape):
    """Grey and RGB pixels are what they were, with and without the size of a pixel."""
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(decoded(encode_png(picture)), picture)
    np.testing.assert_array_equal(decoded(encode_png(picture, (2.0, 0.5))), picture)


def test_png_says_the_size_of_a_pixel():
    """Rows 2 mm apart are 500 a metre, columns 0.5 mm apart 2000."""
    png = encode_png(np.zeros((2, 2), np.uint8), (2.0, 0.5))
    at = png.index(b"pHYs") + 4
    assert png[at : at + 9] == (2000).to_bytes(4, "big") + (500).to_bytes(4, "big") + b"\1"


def test_values_become_brightness():
    """Limits are black and white, what is beyond is cut, NaN is in the middle; inverted the other way round."""
    values = np.array([[-5.0, 0, 50, 100, 200, np.nan, np.inf, -np.inf]])
    assert grey_picture(values, (0, 100)).tolist() == [[0, 0, 128, 255, 255, 128, 255, 0]]
    assert grey_picture(values, (0, 100), inverted=True).tolist() == [[255, 255, 127, 0, 0, 127, 0, 255]]


def test_colours_of_8_bits_stay():
    """Bytes are what they were; more bits are scaled to the brightest."""
    bytes_ = np.array([[[1, 2, 3]]], np.uint8)
    assert colour_picture(bytes_) is not None
    np.testing.assert_array_equal(colour_picture(bytes_), bytes_)
    np.testing.assert_array_equal(colour_picture(np.array([[[0, 100, 200]]], np.uint16)), [[[0, 127, 255]]])


def test_colour_maps_are_those_of_matplotlib():
    """Grey values become the colours that matplotlib gives them."""
    picture = np.array([[0, 100, 255]], np.uint8)
    np.testing.assert_array_equal(tinted(picture, "viridis"), colormaps["viridis"](picture, bytes=True)[..., :3])
    with pytest.raises(EditError, match="nosuch"):
        tinted(picture, "nosuch")
