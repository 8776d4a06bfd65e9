"""Facts about frames as PNG files: which, how many, how large, how bright."""

from pathlib import Path

import factories
import numpy as np
import pytest
from matplotlib.image import imread

import xdicom as xd
from xdicom.errors import EditError, PixelError, SaveError


def images(paths: list[Path]) -> np.ndarray:
    """Return the pixels of PNG files as 8 bits."""
    return np.stack([np.round(255 * imread(path)).astype(np.uint8) for path in paths])


@pytest.fixture
def made(tmp_path: Path) -> factories.Series:
    """A series of 12 slices with a window, written in a scrambled order of files."""
    pixels = np.arange(12 * 4 * 3, dtype=np.uint16).reshape(12, 4, 3)
    tags = {"WindowCenter": 72, "WindowWidth": 144}
    return factories.make_series(tmp_path / "in", slices=12, shape=(4, 3), pixels=pixels, **tags)


def test_each_frame_is_a_file_of_its_size(made, tmp_path):
    """Files are numbered in the order of ndarray; rows downwards, columns to the right, in the header's window."""
    series = xd.database(made.folder).series()[0]
    paths = series.to_png(tmp_path / "out")
    assert [path.name for path in paths] == [f"{number:05d}.png" for number in range(1, 13)]
    expected = np.round(255 * series.ndarray().transpose(2, 1, 0) / 144)
    np.testing.assert_array_equal(images(paths), expected)


def test_window_and_colours_are_chosen(made, tmp_path):
    """A window is for all images; a colour map gives RGB, that of the series where none is named."""
    series = xd.database(made.folder).series()[0]
    assert images(series.to_png(tmp_path / "a", window=(0.5, 1))).max() == 255
    assert set(np.unique(images(series.to_png(tmp_path / "b", window=(0.5, 1)))).tolist()) == {0, 255}
    assert images(series.to_png(tmp_path / "c", colormap="viridis"))[0, 0, 0].tolist()[:3] == [68, 1, 84]
    series.colormap = "viridis"
    assert images(series.to_png(tmp_path / "d"))[0, 0, 0].tolist()[:3] == [68, 1, 84]
    assert images(series.to_png(tmp_path / "e", colormap="gray")).ndim == 3
    with pytest.raises(EditError, match="width"):
        series.to_png(tmp_path / "f", window=(5, 0))


def test_images_without_a_window_share_one(tmp_path):
    """Brightness can be compared between images: the window is from percentiles of all of them."""
    pixels = np.array([np.full((4, 4), value, np.uint16) for value in (0, 50, 100)])
    factories.make_series(tmp_path / "in", pixels=pixels, shape=(4, 4))
    found = images(xd.database(tmp_path / "in").to_png(tmp_path / "out"))
    assert found[:, 0, 0].tolist() == [0, 128, 255]


def test_inverted_images_are_inverted(tmp_path):
    """In MONOCHROME1 low values are bright."""
    pixels = np.array([[[0, 100]]], np.uint16)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 50, "WindowWidth": 100}
    change = lambda ds, index: factories.set_tags(ds, tags)  # noqa: E731
    factories.make_series(tmp_path / "in", slices=1, pixels=pixels, shape=(1, 2), change=change)
    assert images(xd.database(tmp_path / "in").to_png(tmp_path / "out")).tolist() == [[[255, 0]]]


def test_colour_stays_as_it_is(tmp_path):
    """RGB frames are written as they are; frames of several matrices go into one folder."""
    frame = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    factories.make_image(tmp_path / "in" / "a.dcm", frame)
    factories.make_image(tmp_path / "in" / "b.dcm", frame[:3], InstanceNumber=2)
    paths = xd.database(tmp_path / "in").to_png(tmp_path / "out")
    np.testing.assert_array_equal(images(paths[:1])[0], frame)
    assert imread(paths[1]).shape[:2] == (3, 2)


def test_the_size_of_a_pixel_is_said(made, tmp_path):
    """2 mm between rows and 1.5 mm between columns."""
    (path, *_) = xd.database(made.folder).to_png(tmp_path / "out")
    png = path.read_bytes()
    at = png.index(b"pHYs") + 4
    assert png[at : at + 8] == (667).to_bytes(4, "big") + (500).to_bytes(4, "big")


def test_nothing_is_replaced_and_nothing_half_written(made, tmp_path):
    """A folder that is there stays; a frame that cannot be read, or a report, leaves no folder behind."""
    db = xd.database(made.folder)
    (tmp_path / "there").mkdir()
    with pytest.raises(SaveError, match="there already"):
        db.to_png(tmp_path / "there")
    made.files[-1].write_bytes(b"gone")
    with pytest.raises(OSError, match="changed"):
        db.to_png(tmp_path / "out")
    factories.make_report(tmp_path / "reports" / "r.dcm")
    with pytest.raises(PixelError, match="SR"):
        xd.database(tmp_path / "reports").to_png(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "reports", "there"]
