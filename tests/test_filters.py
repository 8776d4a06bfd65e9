"""Filters with lengths in mm: the bare scipy call on voxels that are no cubes as the oracle."""

import numpy as np
import pytest
from scipy import ndimage
from volumes import SHAPE, SPACING, close, noise, series_of, values_of

import xdicom as xd
from xdicom.errors import EditError, GeometryError
from xdicom.wrappers import blocks, filters, scipy

IN_PLANE = ("row", "column")


@pytest.fixture
def series():
    """Give a series of noise."""
    made = series_of(noise(), SeriesDescription="noise")
    with made.database:
        yield made


@pytest.fixture
def small_blocks(monkeypatch):
    """Let blocks have few slices."""
    monkeypatch.setattr(blocks, "LEAST_VOXELS", 1)
    monkeypatch.setattr(blocks, "MOST_VOXELS", 2 * SHAPE[1] * SHAPE[2])


def bare(func, values, *args, **options):
    """Return what scipy gives for float32."""
    return func(values.astype(np.float32), *args, **options)


def same(series, expected):
    """Compare a series with what is expected, as exactly as DICOM holds it."""
    np.testing.assert_allclose(values_of(series), expected, atol=close(series), rtol=1e-5)


# -- against scipy


@pytest.mark.parametrize("mode", filters.MODES)
def test_gaussian_in_mm(series, mode):
    """Sigma in mm, divided by the spacing of each axis, is scipy's sigma."""
    expected = bare(ndimage.gaussian_filter, noise(), 3.0 / np.array(SPACING), mode=mode)
    same(scipy.gaussian_filter(series, 3.0, mode=mode), expected)


def test_gaussian_with_a_sigma_for_each_axis(series):
    """Three sigmas are those of slices, rows and columns; 0 leaves an axis alone."""
    expected = bare(ndimage.gaussian_filter, noise(), (0, 2.5, 2.0))
    same(scipy.gaussian_filter(series, (0, 5.0, 3.0)), expected)


def test_gaussian_is_cut_where_asked(series):
    """Truncate is scipy's."""
    expected = bare(ndimage.gaussian_filter, noise(), 3.0 / np.array(SPACING), truncate=1.5)
    same(scipy.gaussian_filter(series, 3.0, truncate=1.5), expected)


@pytest.mark.parametrize(("size", "voxels"), [(6.0, (1, 3, 3)), (12.0, (3, 5, 7)), (0.1, (1, 1, 1))])
@pytest.mark.parametrize("name", ["uniform_filter", "median_filter"])
def test_boxes_in_mm(series, name, size, voxels):
    """A size in mm is the nearest odd number of voxels along each axis, of two the lower one."""
    same(getattr(scipy, name)(series, size), bare(getattr(ndimage, name), noise(), voxels))


def test_medians_are_values_of_the_source(series):
    """A median of integers is one of them, exactly."""
    found = values_of(scipy.median_filter(series, 6.0))
    np.testing.assert_array_equal(found, ndimage.median_filter(noise(), (1, 3, 3)))
    assert found.dtype.kind in "iu"


@pytest.mark.parametrize("axis", range(3), ids=["slice", "row", "column"])
def test_sobel_is_the_derivative_per_mm(series, axis):
    """It is scipy's, divided by the weights of the kernel and the distance of voxels."""
    expected = bare(ndimage.sobel, noise(), axis) / (2 * 16 * SPACING[axis])
    same(scipy.sobel(series, ("slice", "row", "column")[axis]), expected)


def test_sobel_of_a_slope_is_its_slope():
    """A value that grows by 30 a mm along rows has the derivative 30, and 0 along the others."""
    values = np.broadcast_to(np.arange(SHAPE[1])[:, None] * 60, SHAPE).astype(np.int16)
    inner = (slice(None), slice(1, -1), slice(None))
    np.testing.assert_allclose(values_of(scipy.sobel(series_of(values), "row"))[inner], 30, rtol=1e-4)
    np.testing.assert_allclose(values_of(scipy.sobel(series_of(values), "slice"))[inner], 0, atol=1e-3)


def test_laplace_is_per_square_mm(series):
    """Second differences are divided by the square of the distance along each axis."""
    values = noise().astype(np.float64)
    parts = [ndimage.correlate1d(values, [1, -2, 1], axis) / step**2 for axis, step in enumerate(SPACING)]
    same(scipy.laplace(series), sum(parts))


def test_laplace_of_cubes_is_scipys():
    """Of voxels that are cubes it is scipy's, divided by the square of their size."""
    found = scipy.laplace(series_of(noise(), spacing=(2.0, 2.0, 2.0)))
    same(found, bare(ndimage.laplace, noise()) / 4)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("gaussian_filter", (3.0,)),
        ("uniform_filter", (6.0,)),
        ("median_filter", (6.0,)),
        ("sobel", ("row",)),
        ("laplace", ()),
    ],
)
class TestEach:
    """What holds for every filter."""

    def test_in_two_dimensions_slices_do_not_mix(self, series, name, args):
        """Within slices, each is filtered as it would be alone."""
        func = getattr(scipy, name)
        alone = values_of(func(series.subseries(InstanceNumber=3), *args, axes=IN_PLANE))
        whole = func(series, *args, axes=IN_PLANE)
        np.testing.assert_allclose(values_of(whole)[2], alone[0], atol=2.1 * close(whole), rtol=1e-5)

    def test_a_single_slice_is_filtered_in_its_plane(self, series, name, args):
        """Of one slice nothing is along slices, and no error either."""
        func, one = getattr(scipy, name), series.subseries(InstanceNumber=3)
        np.testing.assert_array_equal(values_of(func(one, *args)), values_of(func(one, *args, axes=IN_PLANE)))

    def test_volumes_along_other_dims_do_not_mix(self, name, args):
        """Each echo of a 4-D series is filtered as it would be alone."""
        func, dims = getattr(scipy, name), ("EchoTime", "slice", "row", "column")
        both = series_of(np.stack([noise(), noise(seed=1)]), dims=dims, coords={"EchoTime": [5, 10]})
        found = func(both, *args, dims=("slice", "EchoTime"))
        assert found.EchoTime == [5, 10]
        alone = func(series_of(noise(seed=1)), *args)
        array = found.to_xarray(("EchoTime", "slice")).values[1]
        np.testing.assert_allclose(array, values_of(alone), atol=close(found) + close(alone), rtol=1e-5)

    def test_blocks_join_without_seams(self, series, name, args, small_blocks):
        """Many small blocks give what scipy gives for the whole."""
        func = getattr(scipy, name)
        blocked = values_of(func(series, *args))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "LEAST_VOXELS", 2**18)
            patch.setattr(blocks, "MOST_VOXELS", 2**22)
            whole = func(series, *args)
        np.testing.assert_allclose(blocked, values_of(whole), atol=2.1 * close(whole), rtol=1e-5)

    def test_nan_is_where_it_is_in_reach(self, name, args):
        """What NaN contributes to is NaN, and nothing else."""
        values = noise().astype(np.float32)
        values[3, 5, 2] = np.nan
        found = values_of(getattr(scipy, name)(series_of(values), *args))
        missing = np.isnan(found)
        assert missing[3, 5, 2]
        whole = values_of(getattr(scipy, name)(series_of(noise()), *args))
        assert not missing[:, :, -1].any()
        np.testing.assert_allclose(found[~missing], whole[~missing], atol=0.2, rtol=1e-3)

    def test_result_is_a_derived_series_of_the_study(self, series, name, args):
        """In the study, with references, named after the filter, where the source lies."""
        found = getattr(scipy, name)(series, *args, SeriesNumber=9)
        assert found.study == series.study
        assert found.ImageType[0][:2] == ("DERIVED", "SECONDARY")
        named = {item["ReferencedSOPInstanceUID"] for items in found.SourceImageSequence for item in items}
        assert named == set(series.SOPInstanceUID)
        assert (found.SeriesDescription, found.SeriesNumber) == (f"noise {name}", 9)
        assert found.DerivationDescription[0].startswith(name)
        np.testing.assert_allclose(found.affine, series.affine, atol=1e-9)


def test_derivation_says_what_was_done(series):
    """Function, lengths, unit and axes."""
    found = scipy.gaussian_filter(series, (2, 1.5), axes=IN_PLANE)
    assert found.DerivationDescription == "gaussian_filter sigma 2 x 1.5 mm along row, column"


def test_colours_stay_colours():
    """Each channel of an image in colour is filtered, and rounded to what colours are."""
    colours = np.random.default_rng(1).integers(0, 256, (3, 9, 8, 3)).astype(np.uint8)
    found = scipy.gaussian_filter(series_of(colours, dims=("slice", "row", "column", "sample")), 3.0)
    for channel in range(3):
        expected = bare(ndimage.gaussian_filter, colours[..., channel], 3.0 / np.array(SPACING))
        np.testing.assert_allclose(values_of(found)[..., channel], np.rint(expected), atol=1)
    with pytest.raises(EditError, match="colour"):
        scipy.laplace(series_of(colours, dims=("slice", "row", "column", "sample")))


@pytest.mark.slow
def test_real_oblique_images(real_copy):
    """An oblique field map of Philips, smoothed: scipy's values at its own spacings."""
    with xd.database(real_copy("multiframe")) as db:
        (series,) = db.series(SeriesDescription="Ax_localiser_BH")
        values = values_of(series)
        step = np.linalg.norm(series.affine[:3, :3], axis=0)[::-1]
        found = scipy.gaussian_filter(series, 4.0)
        np.testing.assert_allclose(
            values_of(found), ndimage.gaussian_filter(values, 4.0 / step), atol=close(found), rtol=1e-4
        )


# -- what is refused


def test_tilted_stacks_are_refused_in_three_dimensions():
    """Voxels of a tilted stack are no cuboids; within slices nothing is wrong with them."""
    matrix = np.diag([1.5, 2.0, 4.0, 1.0])
    matrix[1, 2] = 1.3
    tilted = xd.as_series(noise(), ("slice", "row", "column"), affine=matrix)
    with pytest.raises(GeometryError, match=r"axes=\('row', 'column'\)"):
        scipy.gaussian_filter(tilted, 3.0)
    assert scipy.gaussian_filter(tilted, 3.0, axes=IN_PLANE).ndarray().shape == (15, 12, 7)


def test_gaps_are_refused_in_three_dimensions(series):
    """Where slices are missing, neighbours are not as far apart as elsewhere."""
    part = series.subseries(InstanceNumber=[1, 2, 5, 6])
    with pytest.raises(GeometryError, match="unequal"):
        scipy.median_filter(part, 6.0)
    assert scipy.median_filter(part, 6.0, axes=IN_PLANE).ndarray().shape == (15, 12, 4)


def test_images_without_spacing_are_refused(series):
    """Where pixels have no size in mm, lengths in mm mean nothing."""
    del series.PixelSpacing
    with pytest.raises(GeometryError, match="spacing"):
        scipy.gaussian_filter(series, 1.0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: scipy.gaussian_filter(s, -1), "0 or more"),
        (lambda s: scipy.gaussian_filter(s, (1, 2)), "one for each of"),
        (lambda s: scipy.gaussian_filter(s, np.nan), "expected one number"),
        (lambda s: scipy.gaussian_filter(s, 1, axes=("row", "time")), "axes="),
        (lambda s: scipy.gaussian_filter(s, 1, axes=()), "axes="),
        (lambda s: scipy.gaussian_filter(s, 1, mode="wrap"), "mode='wrap'"),
        (lambda s: scipy.sobel(s, "time"), "axis='time'"),
        (lambda s: scipy.sobel(s, "slice", axes=IN_PLANE), "axis='slice'"),
    ],
)
def test_wrong_arguments_are_refused(series, call, match):
    """The error says what was expected, and nothing is left behind."""
    with pytest.raises(ValueError, match=match):
        call(series)
    assert series.study.series() == [series]


def test_only_slices_of_a_single_slice_is_refused(series):
    """Along slices there is nothing in one."""
    with pytest.raises(GeometryError, match="single slice"):
        scipy.gaussian_filter(series.subseries(InstanceNumber=1), 1.0, axes="slice")
