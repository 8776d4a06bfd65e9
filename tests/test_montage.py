"""Tiles and panels in a figure."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from xdicom import montage
from xdicom.errors import MissingPackageError
from xdicom.montage import Look, Panel, Tile, letters, mask_colours, montage_png


def drawn(path: Path, tiles: list[Tile], look: Look, **options: object) -> np.ndarray:
    """Return the pixels of a montage."""
    montage.montage(tiles, look, **options).savefig(path)
    return png_pixels(path)


@pytest.mark.parametrize(
    ("direction", "text"),
    [
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 1, 0), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -1), "F"),
        ((0.8, -0.6, 0), "LA"),
        ((-0.36, 0.48, 0.8), "HPR"),
        ((0.999, 0.04, 0), "L"),
        ((np.nan, 0, 0), ""),
        ((0, 0, 0), ""),
    ],
)
def test_letters_of_directions(direction: tuple[float, ...], text: str) -> None:
    """A direction in LPS has the letters that it has a share in, the largest first, and none where it is unknown."""
    assert letters(direction) == text


def test_tiles_are_drawn_as_stored(tmp_path: Path) -> None:
    """The first row is at the top, the first column at the left."""
    values = np.zeros((10, 10))
    values[:5, :5] = 1
    pixels = drawn(tmp_path / "a.png", [Tile(values)], Look())
    rows, columns = np.nonzero((pixels[..., :3] < 5).all(axis=-1))
    height, width = rows.max() - rows.min(), columns.max() - columns.min()
    top, left = rows.min() + height // 4, columns.min() + width // 4
    assert pixels[top, left, 0] > 250
    assert pixels[top + height // 2, left, 0] < 5
    assert pixels[top, left + width // 2, 0] < 5


@pytest.mark.parametrize("count", [1, 2, 7, 25])
def test_tiles_have_aspect(count: int) -> None:
    """Pixels three times as high as wide stay so however many tiles there are."""
    figure = montage.montage([Tile(np.eye(8))] * count, Look(aspect=3.0))
    box = figure.axes[0].get_position()
    width, height = figure.get_size_inches()
    assert box.height * height / (box.width * width) == pytest.approx(3)
    assert len(figure.axes) == count + 1


def test_tiles_do_not_overlap() -> None:
    """Nor do they leave the figure."""
    figure = montage.montage([Tile(np.eye(8), "slice 1 mm", "side")] * 12, Look("title"))
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1 for box in boxes)
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])


def test_rows_of_tiles_are_full_where_they_can_be() -> None:
    """25 tiles make 5 rows of 5, 8 make 2 of 4."""
    found = {}
    for count in (8, 25):
        figure = montage.montage([Tile(np.eye(8))] * count, Look())
        found[count] = len({round(axes.get_position().x0, 3) for axes in figure.axes}) - 1
    assert found == {8: 4, 25: 5}


def test_colours_have_no_bar() -> None:
    """An image in colours has no colour scale."""
    assert len(montage.montage([Tile(np.zeros((4, 4, 3)))], Look()).axes) == 1


def test_a_figure_of_the_users_is_drawn_into() -> None:
    """The given figure comes back, with the tiles in it."""
    from matplotlib.figure import Figure

    own = Figure()
    assert montage.montage([Tile(np.eye(3))], Look(), figure=own) is own
    assert len(own.axes) == 2


def test_a_notebook_shows_it() -> None:
    """A figure that pyplot does not know has a PNG of itself."""
    assert montage.montage([Tile(np.eye(3))], Look())._repr_png_().startswith(b"\x89PNG")


def test_nothing_is_refused() -> None:
    """Without pixels there is no picture."""
    with pytest.raises(ValueError, match="no image to show"):
        montage.montage([], Look())
    with pytest.raises(ValueError, match="no image to show"):
        montage.montage([Tile(np.zeros((0, 4)))], Look())


def test_masks_have_a_colour_a_label() -> None:
    """0 and NaN are transparent, labels differ."""
    colours = mask_colours(np.array([[0, 1], [2, np.nan]]))
    assert colours.shape == (2, 2, 4)
    assert colours[0, 0, 3] == colours[1, 1, 3] == 0
    assert colours[0, 1, 3] == colours[1, 0, 3] > 0
    assert (colours[0, 1] != colours[1, 0]).any()


def test_ten_labels_differ() -> None:
    """The first ten labels have ten colours."""
    assert len(np.unique(mask_colours(np.arange(1, 11)[None])[0], axis=0)) == 10


def test_markup_and_control_characters_are_plain(tmp_path: Path) -> None:
    """Dollars, backslashes and an ESC in titles are drawn, not obeyed."""
    tile = Tile(np.eye(4), "$x^2$ \x1b[31m", "\\frac{", ("L$", "", "", ""))
    look = Look("T1 $\\frac", extent=(0, 1, 1, 0), axis_labels=("a$b", "c"), unit="$")
    assert drawn(tmp_path / "a.png", [tile], look).size > 1000


def test_tiles_keep_every_slice() -> None:
    """Slices are laid out row by row, and what is left over is NaN."""
    values = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    tiles = montage.tiled(values)
    assert tiles.shape == (4, 9)
    np.testing.assert_array_equal(tiles[:2, 3:6], values[1])
    np.testing.assert_array_equal(tiles[2:, 0:3], values[3])
    assert np.isnan(tiles[2:, 6:]).all()


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2, 2), (0, 4, 4)])
def test_tiles_refuse_other_shapes(shape: tuple[int, ...]) -> None:
    """An array that is no image is named with its shape."""
    with pytest.raises(ValueError, match="an image has shape"):
        montage.tiled(np.zeros(shape))


def test_window_ignores_nan() -> None:
    """A window comes from finite values only, and has a width."""
    assert montage.percentiles(np.array([np.nan, 5.0, np.inf])) == (5.0, 6.0)
    assert montage.percentiles(np.array([np.nan])) == (0.0, 1.0)


def png_pixels(path: Path) -> np.ndarray:
    """Return the RGBA pixels of a PNG that matplotlib wrote: 8 bits, no interlace."""
    from matplotlib.image import imread

    return (imread(path) * 255).astype("u1")


def test_montage_is_a_png(tmp_path: Path) -> None:
    """The file is a valid PNG, as wide as its panels."""
    montage_png(tmp_path / "a.png", [Panel("one", np.eye(8)), Panel("two", np.ones((3, 4, 4)))])
    raw = (tmp_path / "a.png").read_bytes()
    width, height = struct.unpack(">II", raw[16:24])
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">I", raw[29:33])[0] == zlib.crc32(raw[12:29])
    assert width > height


def test_montage_has_aspect_in_mm(tmp_path: Path) -> None:
    """Pixels of 4 mm x 1 mm make a square of 10 x 40 pixels."""
    montage_png(tmp_path / "a.png", [Panel("", np.full((10, 40), 1.0), (0, 1), "gray_r", (4.0, 1.0))])
    black = (png_pixels(tmp_path / "a.png")[..., :3] < 5).all(axis=-1)
    solid = black[:, black.sum(axis=0) > 100]
    assert solid.shape[1] == pytest.approx(np.median(solid.sum(axis=0)), rel=0.02)


def test_montage_takes_nan_and_markup(tmp_path: Path) -> None:
    """A map with NaN only, and a title with dollars and control characters, can be drawn."""
    montage_png(tmp_path / "a.png", [Panel("T1 $\\frac{\x1b", np.full((4, 4), np.nan))])
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_montage_leaves_pyplot_alone(tmp_path: Path) -> None:
    """Drawing neither imports pyplot nor chooses a backend."""
    before = "matplotlib.pyplot" in sys.modules
    montage_png(tmp_path / "a.png", [Panel("", np.eye(3))])
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_montage_without_matplotlib_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package and the command."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r'no matplotlib .* pip install "xdicom\[all\]"'):
        montage_png(tmp_path / "a.png", [Panel("", np.eye(3))])
