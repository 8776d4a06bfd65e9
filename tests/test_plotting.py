"""Arrays as montages: which images, in which window, with which words and letters."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from factories import AXIAL, OBLIQUE, Layout, make_enhanced, make_image, make_series

import xdicom as xd
from xdicom.errors import EditError, GeometryError, StackError
from xdicom.plotting import edge_letters, plot

CORONAL = Layout(row_direction=(1.0, 0.0, 0.0), column_direction=(0.0, 0.0, -1.0))


def opened(path: Path, **options: object) -> xd.Series:
    """Return a series of a folder made for it."""
    make_series(path, **options)
    return xd.database(path).series()[0]


def texts(figure) -> list[str]:
    """Return all words in a figure: its own, titles, and those over the tiles."""
    own = [text.get_text() for text in figure.texts]
    titles = [axes.get_title() for axes in figure.axes]
    over = [text.get_text() for axes in figure.axes for text in axes.texts]
    return [text for text in (*own, *titles, *over) if text]


def tiles(figure) -> list:
    """Return the axes that hold images."""
    return [axes for axes in figure.axes if axes.images]


def shown(axes) -> np.ndarray:
    """Return what a tile shows."""
    return np.asarray(axes.images[0].get_array())


# -- which images


def test_every_slice_is_shown(tmp_path: Path) -> None:
    """Three slices are three tiles in order, each with its position in mm."""
    da = opened(tmp_path, layout=AXIAL).to_xarray()
    figure = plot(da)
    assert [axes.get_title() for axes in tiles(figure)] == ["slice 30 mm", "slice 34 mm", "slice 38 mm"]
    for axes, values in zip(tiles(figure), da.values, strict=True):
        np.testing.assert_array_equal(shown(axes), values)


def test_many_slices_are_chosen_evenly(tmp_path: Path) -> None:
    """Of 30 slices 5 are shown, the first and the last among them, and the figure says so."""
    da = opened(tmp_path, slices=30, layout=AXIAL).to_xarray()
    figure = plot(da, limit=5)
    assert len(tiles(figure)) == 5
    np.testing.assert_array_equal(shown(tiles(figure)[0]), da.values[0])
    np.testing.assert_array_equal(shown(tiles(figure)[-1]), da.values[-1])
    assert "5 of 30 along slice, evenly chosen" in texts(figure)[0]


def test_one_image_of_many_is_the_middle(tmp_path: Path) -> None:
    """A limit of one shows the slice in the middle."""
    da = opened(tmp_path, slices=5).to_xarray()
    np.testing.assert_array_equal(shown(tiles(plot(da, limit=1))[0]), da.values[2])


def test_two_dims_make_a_grid(tmp_path: Path) -> None:
    """The dim with fewer points goes down, the other across; both are named once."""
    da = opened(tmp_path, dims={"EchoTime": [4.6, 9.2]}, layout=AXIAL).to_xarray(("slice", "EchoTime"))
    figure = plot(da)
    np.testing.assert_array_equal(shown(tiles(figure)[1]), da.values[1, 0])
    np.testing.assert_array_equal(shown(tiles(figure)[3]), da.values[0, 1])
    assert [axes.get_title() for axes in tiles(figure)] == ["slice 30 mm", "slice 34 mm", "slice 38 mm", "", "", ""]
    assert {"EchoTime 4.6", "EchoTime 9.2"} <= set(texts(figure))


def test_of_three_dims_the_middle_one_stands_still(tmp_path: Path) -> None:
    """The figure says at which value."""
    dims = {"EchoTime": [4.6, 9.2, 13.8], "FlipAngle": [5, 10]}
    figure = plot(opened(tmp_path, dims=dims).to_xarray(("slice", "EchoTime", "FlipAngle")))
    assert "EchoTime 9.2, one of 3" in texts(figure)[0]
    assert len(tiles(figure)) == 6


def test_a_dim_is_picked_by_value(tmp_path: Path) -> None:
    """The nearest echo time is taken, and named."""
    da = opened(tmp_path, dims={"EchoTime": [4.6, 9.2]}).to_xarray(("slice", "EchoTime"))
    figure = plot(da, EchoTime=9)
    assert "EchoTime 9.2" in texts(figure)[0]
    np.testing.assert_array_equal(shown(tiles(figure)[2]), da.values[2, 1])


def test_a_range_and_a_list_pick_several(tmp_path: Path) -> None:
    """A slice goes from low to high, both included; a list takes each."""
    da = opened(tmp_path, slices=5, layout=AXIAL).to_xarray()
    assert len(tiles(plot(da, slice=slice(34, 42)))) == 3
    assert [axes.get_title() for axes in tiles(plot(da, slice=[46, 30]))] == ["slice 46 mm", "slice 30 mm"]


@pytest.mark.parametrize(
    ("where", "match"),
    [
        ({"FlipAngle": 5}, "no such dim to choose along; it has {'slice': 3}"),
        ({"row": 1}, "no such dim"),
        ({"slice": slice(1000, 2000)}, "nothing lies there; slice goes from"),
        ({"slice": "top"}, "expected a number"),
        ({"slice": []}, "is empty; slice goes from"),
        ({"window": 3}, "expected \\(center, width\\)"),
        ({"colormap": "viridsi"}, "did you mean 'viridis'"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, where: dict, match: str) -> None:
    """The error names what there is."""
    with pytest.raises(EditError, match=match):
        plot(opened(tmp_path).to_xarray(), **where)


def test_only_what_is_shown_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 lazy images 2 are read."""
    from xdicom.locations import Locations

    da = opened(tmp_path, slices=12).to_xarray(chunks={"slice": 1})
    read: list[int] = []
    original = Locations.read

    def counted(self, rows, *rest, **options):
        read.append(len(rows))
        return original(self, rows, *rest, **options)

    monkeypatch.setattr(Locations, "read", counted)
    plot(da, limit=2)
    assert sum(read) == 2


def test_a_single_image_has_axes_in_mm(tmp_path: Path) -> None:
    """Pixel edges are half a pixel outside the first and the last centre, and the slice is named."""
    da = opened(tmp_path, layout=AXIAL).to_xarray().isel(slice=1)
    figure = plot(da)
    (axes,) = tiles(figure)
    assert axes.get_xlim() == pytest.approx((-0.75, 4 * 1.5 + 0.75))
    assert axes.get_ylim() == pytest.approx((5 * 2 + 1.0, -1.0))
    assert axes.get_xlabel() == "column, mm"
    assert "slice 34 mm" in texts(figure)[0]


def test_any_order_of_dims(tmp_path: Path) -> None:
    """A transposed array makes the same picture."""
    da = opened(tmp_path).to_xarray()
    turned = plot(da.transpose("column", "row", "slice"))
    np.testing.assert_array_equal(shown(tiles(turned)[1]), da.values[1])


@pytest.mark.parametrize(
    ("da", "match"),
    [
        (xr.DataArray(np.zeros(3), dims=["time"]), "images have 'row' and 'column'"),
        (xr.DataArray(np.zeros((0, 3)), dims=["row", "column"]), "no image to show"),
        (xr.DataArray(np.zeros((2, 3), complex), dims=["row", "column"]), r"abs\(da\)"),
    ],
)
def test_what_is_no_image_is_refused(da: xr.DataArray, match: str) -> None:
    """The error says why."""
    with pytest.raises(ValueError, match=match):
        plot(da)


def test_bare_arrays_are_drawn() -> None:
    """Without any coordinate, also of booleans and of one pixel."""
    assert len(tiles(plot(xr.DataArray(np.ones((2, 3, 4), bool), dims=["time", "row", "column"])))) == 2
    assert len(tiles(plot(xr.DataArray(np.ones((1, 1)), dims=["row", "column"])))) == 1


# -- orientation and aspect


@pytest.mark.parametrize(
    ("layout", "letters"),
    [(AXIAL, ("R", "L", "A", "P")), (CORONAL, ("R", "L", "H", "F")), (OBLIQUE, ("RA", "LP", "FAL", "HPR"))],
    ids=["axial", "coronal", "oblique"],
)
def test_letters_follow_geometry(tmp_path: Path, layout: Layout, letters: tuple[str, ...]) -> None:
    """The patient's left is on the viewer's right in axial and coronal images; oblique ones have several letters."""
    one = opened(tmp_path, layout=layout).to_xarray().isel(slice=0)
    assert edge_letters(one) == letters


def test_a_flip_swaps_letters(tmp_path: Path) -> None:
    """What was at the right is at the left then; a single slice keeps its letters."""
    one = opened(tmp_path, layout=AXIAL).to_xarray().isel(slice=0)
    assert edge_letters(one.isel(column=slice(None, None, -1))) == ("L", "R", "A", "P")
    assert edge_letters(one.isel(row=slice(None, None, -2))) == ("R", "L", "P", "A")


def test_no_letters_without_geometry(tmp_path: Path) -> None:
    """A secondary capture is drawn without letters and mm."""
    make_image(tmp_path / "a.dcm", np.arange(12, dtype="u1").reshape(3, 4))
    figure = xd.database(tmp_path).series()[0].plot()
    (axes,) = tiles(figure)
    assert axes.texts[0].get_text() == ""
    assert axes.get_xlabel() == "column"


@pytest.mark.parametrize("step", [1, 2])
def test_aspect_is_in_mm(tmp_path: Path, step: int) -> None:
    """Rows 2 mm apart and columns 1.5 mm apart make tiles of that shape, also of every second row."""
    da = opened(tmp_path, shape=(12, 12), layout=AXIAL).to_xarray().isel(row=slice(None, None, step))
    figure = plot(da)
    box, (width, height) = figure.axes[0].get_position(), figure.get_size_inches()
    assert box.height * height / (box.width * width) == pytest.approx(2 / 1.5)


def test_aspect_without_geometry(tmp_path: Path) -> None:
    """ImagerPixelSpacing serves where there is no orientation."""
    make_image(tmp_path / "a.dcm", np.zeros((8, 8), "u1"), ImagerPixelSpacing=[0.4, 0.2])
    figure = xd.database(tmp_path).series()[0].plot()
    box, (width, height) = figure.axes[0].get_position(), figure.get_size_inches()
    assert box.height * height / (box.width * width) == pytest.approx(2)


# -- window and colours


def limits(figure) -> tuple[float, float]:
    """Return the colour scale of a figure."""
    return tiles(figure)[0].images[0].get_clim()


def test_window_of_the_files(tmp_path: Path) -> None:
    """WindowCenter and WindowWidth make the colour scale, of several pairs the first."""
    series = opened(tmp_path, WindowCenter=[30000, 1], WindowWidth=[20000, 2])
    assert limits(series.plot()) == (20000, 40000)


def test_windows_that_vary_give_their_median(tmp_path: Path) -> None:
    """All tiles have one scale, so that they compare."""
    series = opened(tmp_path, change=lambda ds, i: ds.update({"WindowCenter": 30000 + 1000 * i, "WindowWidth": 20000}))
    assert limits(series.plot()) == (21000, 41000)


def test_window_that_shows_nothing_is_passed_over(tmp_path: Path) -> None:
    """Values that were computed since, and kept the attributes, are drawn by their percentiles."""
    da = opened(tmp_path, WindowCenter=30000, WindowWidth=20000).to_xarray()
    computed = (da / 1e6).assign_attrs(da.attrs)
    assert limits(plot(computed)) == pytest.approx(tuple(np.percentile(computed.values, (1, 99))))


def test_window_of_the_user(tmp_path: Path) -> None:
    """(center, width), as the attribute of a series."""
    series = opened(tmp_path, WindowCenter=30000, WindowWidth=20000)
    assert limits(series.plot(window=(100, 50))) == (75, 125)
    with pytest.raises(EditError, match="width must be more than 0"):
        series.plot(window=(1, 0))


def test_colormap_of_the_series(tmp_path: Path) -> None:
    """The attribute `colormap` is used, and an option goes before it."""
    series = opened(tmp_path)
    series.colormap = "viridis"
    assert tiles(series.plot())[0].images[0].get_cmap().name == "viridis"
    assert tiles(plot(series.to_xarray().isel(slice=0)))[0].images[0].get_cmap().name == "viridis"
    assert tiles(series.plot(colormap="hot"))[0].images[0].get_cmap().name == "hot"
    series.restore()


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    """In MONOCHROME1 low values are bright."""
    series = opened(tmp_path, change=lambda ds, i: ds.update({"PhotometricInterpretation": "MONOCHROME1"}))
    assert tiles(series.plot())[0].images[0].get_cmap().name == "gray_r"


def test_colour_images(tmp_path: Path) -> None:
    """RGB of 8 bits is shown as it is."""
    made = make_series(tmp_path, shape=(6, 5, 3), dtype="uint8")
    figure = xd.database(tmp_path).series()[0].plot()
    np.testing.assert_allclose(shown(tiles(figure)[1]), made.stored[1] / 255)


def test_missing_colours_are_drawn() -> None:
    """An image in colours of which nothing is known is black."""
    figure = plot(xr.DataArray(np.full((2, 2, 3), np.nan), dims=["row", "column", "sample"]))
    assert not shown(tiles(figure)[0]).any()


def test_volumes_say_their_weighting() -> None:
    """The b-value stands beside the number of a volume."""
    coords = {"volume": [0, 1], "b_value": ("volume", [0.0, 1000.0])}
    figure = plot(xr.DataArray(np.zeros((2, 4, 4)), coords, ["volume", "row", "column"]))
    assert [axes.get_title() for axes in tiles(figure)] == ["volume 0, b 0", "volume 1, b 1000"]


# -- masks


def overlays(figure) -> list[np.ndarray]:
    """Return where the masks over the tiles are."""
    return [np.asarray(axes.images[1].get_array())[..., 3] > 0 for axes in tiles(figure)]


def test_a_mask_lies_over_its_slices(tmp_path: Path) -> None:
    """Also over a part of the images, by position, and along a dim that it has not."""
    da = opened(tmp_path, dims={"EchoTime": [4.6, 9.2]}).to_xarray(("slice", "EchoTime"))
    mask = da.isel(EchoTime=0) > 30000
    for found, index in zip(overlays(plot(da, overlay=mask)), [0, 1, 2, 0, 1, 2], strict=True):
        np.testing.assert_array_equal(found, mask.values[index])
    (found,) = overlays(plot(da.isel(slice=1, EchoTime=1), overlay=mask))
    np.testing.assert_array_equal(found, mask.values[1])
    (found,) = overlays(plot(da.isel(slice=1, EchoTime=1, row=slice(1, 4)), overlay=mask))
    np.testing.assert_array_equal(found, mask.values[1, 1:4])


def test_a_series_is_a_mask(tmp_path: Path) -> None:
    """Its frames may come in any order."""
    series = opened(tmp_path)
    mask = series.new_sibling(SeriesDescription="mask")
    inside = series.to_xarray() > 30000
    mask.set_xarray(inside)
    for found, wanted in zip(overlays(series.plot(overlay=mask)), inside.values, strict=True):
        np.testing.assert_array_equal(found, wanted)
    series.study.restore()


def test_a_numpy_mask_has_the_shape_of_the_images(tmp_path: Path) -> None:
    """Or of one image, and is drawn over each then."""
    da = opened(tmp_path).to_xarray()
    mask = np.eye(6, 5)
    assert all((found == mask).all() for found in overlays(plot(da, overlay=mask)))
    with pytest.raises(GeometryError, match=r"shape \(5, 6\)"):
        plot(da, overlay=mask.T)


@pytest.mark.parametrize("origin", [(-10.0, -20.0, 31.0), (-9.0, -20.0, 30.0)], ids=["between slices", "in plane"])
def test_a_mask_elsewhere_is_refused(tmp_path: Path, origin: tuple[float, ...]) -> None:
    """A mask on another grid is never drawn as if it were on this one."""
    da = opened(tmp_path / "a", layout=AXIAL).to_xarray()
    other = opened(tmp_path / "b", layout=Layout(origin=origin)).to_xarray()
    with pytest.raises(GeometryError, match="map_mask_to"):
        plot(da, overlay=other > 0)


def test_a_turned_mask_is_refused(tmp_path: Path) -> None:
    """One of another orientation neither."""
    da = opened(tmp_path / "a", layout=AXIAL).to_xarray().isel(slice=0, drop=True)
    other = opened(tmp_path / "b", layout=OBLIQUE).to_xarray().isel(slice=0, drop=True)
    with pytest.raises(GeometryError, match=r"elsewhere in the patient: row_direction_x differs by 0\.2"):
        plot(da, overlay=other > 0)


def test_a_mask_with_a_dim_too_many_is_refused(tmp_path: Path) -> None:
    """It is the user's choice which part is drawn."""
    da = opened(tmp_path, dims={"EchoTime": [4.6, 9.2]}).to_xarray(("slice", "EchoTime"))
    with pytest.raises(GeometryError, match=r"dims \['EchoTime'\]"):
        plot(da.isel(EchoTime=0, drop=True), overlay=da > 0)


# -- series


def test_series_that_make_no_grid_come_by_number(tmp_path: Path) -> None:
    """Where dims cannot be inferred, images are shown as they come; named dims raise."""
    series = opened(tmp_path, slices=2, change=lambda ds, i: ds.update({"ImageOrientationPatient": _turned(i)}))
    assert [axes.get_title() for axes in tiles(series.plot())] == ["frame 0", "frame 1"]
    with pytest.raises(StackError):
        series.plot(("slice",))


def _turned(index: int) -> list[float]:
    return list((AXIAL, CORONAL)[index].orientation())


def test_enhanced_series(tmp_path: Path) -> None:
    """Frames of one file are drawn like others."""
    make_enhanced(tmp_path / "a.dcm", layout=AXIAL)
    assert len(tiles(xd.database(tmp_path).series()[0].plot())) == 3


def test_title(tmp_path: Path) -> None:
    """The series is named, unless a title is given."""
    series = opened(tmp_path, SeriesDescription="T1 $x$")
    assert texts(series.plot())[0] == r"1 T1 \$x\$"
    assert texts(series.plot(title="mine"))[0] == "mine"
