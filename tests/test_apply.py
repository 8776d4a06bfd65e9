"""Array functions as series functions: numpy as the oracle, and what is asked of the function."""

import numpy as np
import pytest
from factories import AXIAL, OBLIQUE, make_series

import xdicom as xd
from xdicom.errors import EditError, GeometryError, RecordError, StackError
from xdicom.relaxation import fit_t1, spoiled_echo

ANGLES = [5, 10, 20]


@pytest.fixture
def db(tmp_path):
    """Open a folder with flip angles in one series, and each in one of its own."""
    rng = np.random.default_rng(0)
    t1 = rng.uniform(300, 2000, (3, 9, 8))
    echoes = np.stack([spoiled_echo(20000, t1, repetition_time=15, flip_angle=angle) for angle in ANGLES])
    echoes = np.rint(echoes).astype(np.uint16)
    options = {"shape": (9, 8), "layout": AXIAL, "RepetitionTime": 15, "FrameOfReferenceUID": "1.2.3"}
    folder = tmp_path / "in"
    make_series(folder, 3, {"FlipAngle": ANGLES}, name="all", pixels=echoes, SeriesDescription="all", **options)
    for angle, values in zip(ANGLES, echoes, strict=True):
        described = {"SeriesDescription": f"{angle}", "FlipAngle": angle}
        make_series(folder, 3, name=f"{angle}", pixels=values, **described, **options)
    with xd.database(folder) as database:
        yield database


@pytest.fixture
def series(db):
    """Return the series with all flip angles."""
    return db.series(SeriesDescription="all")[0]


@pytest.fixture
def apart(db):
    """Return the series of one flip angle each."""
    return [db.series(SeriesDescription=f"{angle}")[0] for angle in ANGLES]


def stacked(series):
    """Return the values, shape (slice, FlipAngle, row, column)."""
    return series.to_xarray(("slice", "FlipAngle")).values


def close(series):
    """Return how exact the stored values can be."""
    return 1.01 * float(series.RescaleSlope[0]) / 2 if len(series.RescaleSlope) else 0


def test_dims_go_away(series):
    """A function of all flip angles gives one image a slice, without the tag."""
    found = xd.apply(np.mean, series, dims="FlipAngle", kwargs={"axis": -1})
    np.testing.assert_allclose(found.to_xarray().values, stacked(series).mean(axis=1), atol=close(found), rtol=1e-6)
    assert found.FlipAngle == []


def test_result_is_a_new_series_of_the_study(series):
    """It is derived, refers to its source, and is named after the function."""
    found = xd.apply(np.mean, series, dims="FlipAngle", kwargs={"axis": -1})
    assert found.study == series.study
    assert found.ImageType[0][:2] == ("DERIVED", "SECONDARY")
    assert (found.SeriesDescription, found.DerivationDescription) == ("all mean", "mean")
    np.testing.assert_allclose(found.affine, AXIAL.affine(), atol=1e-6)


def test_result_refers_to_all_that_it_is_made_of(series):
    """Each image of a mean over flip angles names the image of every angle in its place."""
    found = xd.apply(np.mean, series, dims="FlipAngle", kwargs={"axis": -1})
    place = dict(zip(series.frames()["SOPInstanceUID"].tolist(), series.frames().values("slice_location"), strict=True))
    for items, location in zip(found.frames()["SourceImageSequence"], found.frames()["slice_location"], strict=True):
        named = [item["ReferencedSOPInstanceUID"] for item in items]
        assert len(set(named)) == len(named) == len(ANGLES)
        assert {place[uid] for uid in named} == {location}


def test_a_fit_over_flip_angles(series):
    """The T1 fit of the demo becomes a series function in a line."""
    found = xd.apply(
        fit_t1, series, dims="FlipAngle", kwargs={"flip_angles": ANGLES, "repetition_time": 15}, SeriesDescription="T1"
    )
    expected = fit_t1(np.moveaxis(stacked(series), 1, -1), flip_angles=ANGLES, repetition_time=15)
    np.testing.assert_allclose(found.to_xarray().values, expected, atol=close(found), rtol=1e-6)
    assert found.SeriesDescription == "T1"


def test_series_of_one_value_each_are_one_input(series, apart):
    """A list of series is stacked along the dims that the function needs."""
    together = xd.apply(np.mean, series, dims="FlipAngle", kwargs={"axis": -1})
    found = xd.apply(np.mean, apart, dims="FlipAngle", kwargs={"axis": -1})
    np.testing.assert_array_equal(found.ndarray(), together.ndarray())


def test_several_inputs(apart):
    """Each series is an argument of the function; tags are the first one's, and unsigned values do not wrap around."""
    found = xd.apply(np.subtract, apart[0], apart[1])
    expected = apart[0].ndarray().astype(int) - apart[1].ndarray()
    np.testing.assert_array_equal(found.ndarray(), expected)
    assert found.FlipAngle == 5


def test_inputs_may_have_fewer_dims(series, apart):
    """An input without the dims that go away is given as it is."""

    def ratio(all_angles, one):
        return all_angles.max(axis=-1) - one

    found = xd.apply(ratio, series, apart[0], dims="FlipAngle")
    expected = stacked(series).max(axis=1).astype(int) - apart[0].to_xarray().values
    np.testing.assert_array_equal(found.to_xarray().values, expected)


def test_rows_and_columns_stay(series):
    """A function of whole images gets them as its last axes, and returns images."""

    def centred(images):
        return images - images.mean(axis=(-2, -1), keepdims=True)

    found = xd.apply(centred, series, dims=("row", "column"), stack=("slice", "FlipAngle"))
    values = stacked(series).astype(float)
    expected = values - values.mean(axis=(-2, -1), keepdims=True)
    np.testing.assert_allclose(stacked(found), expected, atol=close(found) + 1e-3)


def test_functions_of_voxels_need_no_dims(apart):
    """Without dims, the function gets blocks of any shape."""
    found = xd.apply(np.sqrt, apart[0])
    np.testing.assert_allclose(found.ndarray(), np.sqrt(apart[0].ndarray()), atol=close(found), rtol=1e-6)


def test_new_dims_need_values(series):
    """A dim that is new gets its values from `coords`, as tags."""

    def both(echoes):
        return np.stack([echoes.min(axis=-1), echoes.max(axis=-1)], axis=-1)

    options = {"dims": "FlipAngle", "output_dims": "EchoTime"}
    with pytest.raises(EditError, match=r"coords=\{'EchoTime'"):
        xd.apply(both, series, **options)
    found = xd.apply(both, series, coords={"EchoTime": [1, 2]}, **options)
    assert found.EchoTime == [1, 2]
    array = found.to_xarray(("slice", "EchoTime"))
    np.testing.assert_array_equal(array.sel(EchoTime=2).values, stacked(series).max(axis=1))


def test_dims_may_change_their_size(series):
    """A dim that stays with other values gets these from `coords`."""
    found = xd.apply(np.diff, series, dims="FlipAngle", output_dims="FlipAngle", coords={"FlipAngle": [7.5, 15]})
    assert found.FlipAngle == [7.5, 15]
    np.testing.assert_array_equal(stacked(found), np.diff(stacked(series).astype(int), axis=1))


def test_functions_of_one_voxel_are_vectorized(series):
    """With `vectorize` the function is called for each voxel with the axes in dims only."""

    def slope(signal):
        return np.polyfit(ANGLES, signal, 1)[0]

    found = xd.apply(slope, series, dims="FlipAngle", vectorize=True)
    values = np.moveaxis(stacked(series), 1, -1)
    expected = np.apply_along_axis(slope, -1, values)
    np.testing.assert_allclose(found.to_xarray().values, expected, atol=close(found), rtol=1e-6)


def test_dtype_decides_how_it_is_stored(apart):
    """A mask of bool is stored as 0 and 1."""
    found = xd.apply(np.greater, apart[0], apart[1], dtype=bool)
    np.testing.assert_array_equal(found.ndarray(), apart[0].ndarray() > apart[1].ndarray())


def test_integers_are_rounded_to_and_hold_all_values(apart):
    """An integer dtype rounds, and values that it does not hold raise, as NaN does."""

    def half(values):
        return values / 2 + 0.2

    found = xd.apply(half, apart[0], dtype=np.int16)
    np.testing.assert_array_equal(found.ndarray(), np.rint(apart[0].ndarray() / 2 + 0.2))
    for func in (np.negative, lambda values: values * 100, lambda values: values * np.nan):
        with pytest.raises(EditError, match="uint16 holds integers from 0 to 65535"):
            xd.apply(func, apart[0], dtype=np.uint16)


def test_range_clips(apart):
    """Values beyond the range are clipped to it."""
    values = apart[0].ndarray()
    found = xd.apply(np.negative, apart[0], range=(-1500, 0))
    np.testing.assert_array_equal(found.ndarray(), np.maximum(-values.astype(int), -1500))
    assert values.max() > 1500


def test_blocks_are_computed_apart(series):
    """The function gets parts of the volume, and never more than it needs whole."""
    seen = []

    def record(block):
        seen.append(block.shape)
        return block.mean(axis=-1)

    big = xd.as_series(np.ones((2, 40, 64, 256), np.int16), ("FlipAngle", "slice", "row", "column"))
    xd.apply(record, big, dims="FlipAngle")
    assert len(seen) > 1
    assert {shape[-1] for shape in seen} == {2}


# -- what is refused


def test_wrong_shapes_are_refused(series):
    """A function that reduces the wrong axis is told what came and what was expected, and nothing is staged."""
    with pytest.raises(EditError, match=r"returned shape \(\).*expected"):
        xd.apply(np.mean, series, dims="FlipAngle")
    assert len(series.study.series()) == 4


def test_errors_of_the_function_come_through(series):
    """What the function raises is raised, and no empty series stays."""

    def fails(block):
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError):
        xd.apply(fails, series, dims="FlipAngle")
    assert len(series.study.series()) == 4
    assert series.study.status() == []


def test_inputs_in_different_places_are_refused(apart, tmp_path):
    """Series whose images do not lie in the same place are not mixed; the error names map_to."""
    make_series(tmp_path / "other", 3, name="oblique", shape=(9, 8), layout=OBLIQUE)
    with xd.database(tmp_path / "other") as other, pytest.raises(GeometryError, match="map_to"):
        xd.apply(np.add, apart[0], other.series()[0])


def test_inputs_of_other_size_are_refused(apart):
    """Nor are series with other slices."""
    with pytest.raises(GeometryError, match="slice"):
        xd.apply(np.add, apart[0], apart[1].subseries(InstanceNumber=[1, 2]))


def test_images_need_rows_and_columns(series):
    """A function that leaves no image cannot make a series."""
    with pytest.raises(EditError, match="need row and column"):
        xd.apply(np.sum, series, dims=("row", "column"), output_dims=(), stack=("slice", "FlipAngle"))


def test_unknown_dims_are_refused(series):
    """A dim that no frame has is named."""
    with pytest.raises(StackError, match="EchoTime"):
        xd.apply(np.mean, series, dims="EchoTime", stack=("slice", "FlipAngle"))


def test_what_tells_frames_apart_is_said(series):
    """Where frames do not fill the grid, the error says what to type here."""
    with pytest.raises(StackError, match=r"try stack=|FlipAngle"):
        xd.apply(np.mean, series, dims="EchoTime", kwargs={"axis": -1})


def test_a_series_is_needed():
    """Without a series there is nothing to apply a function to."""
    with pytest.raises(RecordError, match="at least one series"):
        xd.apply(np.mean)


def test_what_is_no_series_is_refused(series):
    """Arrays and studies are no series, and the error says what they are."""
    for stranger in (series.to_xarray("slice", duplicates="first"), series.study, [series, series.study]):
        with pytest.raises(RecordError, match=r"at least one series, not (DataArray|Study)"):
            xd.apply(np.sqrt, stranger)
