"""The calls of the user guide that map one series onto another, on real images."""

import shutil

import numpy as np
import pytest
from guided import prepared
from test_guide import sources_of

import xdicom as xd


@pytest.fixture(scope="module", params=["pydicom", "rider"])
def master(request, tmp_path_factory):
    """Prepare the guide's folder once."""
    folder = tmp_path_factory.mktemp("guide") / "folder"
    prepared(folder, sources_of(request.param)).database.close()
    return folder


@pytest.fixture
def series(master, tmp_path):
    """Return one flip angle of the guide's series, in a copy of its folder."""
    shutil.copytree(master, tmp_path / "folder", ignore=shutil.ignore_patterns(".xdicom"))
    with xd.database(tmp_path / "folder") as database:
        yield database.series()[0].subseries(FlipAngle=20)


@pytest.fixture
def target(series):
    """Return the inner slices, with twice as many rows and columns."""
    inner = series.to_xarray("slice").isel(slice=slice(1, 3))
    twice = np.repeat(np.repeat(inner.values, 2, axis=1), 2, axis=2)
    made = series.new_sibling(SeriesDescription="target")
    made.set_ndarray(twice.T, dims="slice", coords=[inner["slice"].values])
    return made


def test_overlay_of_a_series(series, target):
    """`overlay = scipy.map_to(series, target)` is the series on the target's grid."""
    from xdicom.wrappers import scipy

    overlay = scipy.map_to(series, target)
    np.testing.assert_allclose(overlay.affine, target.affine, atol=1e-6)
    assert overlay.ndarray().shape == target.ndarray().shape
    blocks = overlay.ndarray().reshape(192, 2, 128, 2, 2).mean(axis=(1, 3))
    inner = series.ndarray()[..., 1:3]
    assert np.abs(blocks - inner)[1:-1, 1:-1].mean() < 0.05 * np.abs(inner).mean()


def test_overlay_of_a_mask(series, target):
    """`overlay = scipy.map_mask_to(series, target)` is a mask on the target's grid."""
    from xdicom.wrappers import scipy

    values = series.ndarray()
    mask = series.new_sibling(SeriesDescription="mask")
    mask.set_ndarray(values > np.median(values))
    overlay = scipy.map_mask_to(mask, target)
    np.testing.assert_allclose(overlay.affine, target.affine, atol=1e-6)
    found = overlay.ndarray()
    assert set(np.unique(found)) == {0, 1}
    assert found.mean() == pytest.approx(mask.ndarray()[..., 1:3].mean(), abs=0.05)


def test_overlay_of_all_flip_angles(series, target):
    """The guide's own series, with several flip angles at each position, keeps them."""
    from xdicom.wrappers import scipy

    whole = next(each for each in series.study.series() if len(each.FlipAngle) > 1)
    overlay = scipy.map_to(whole, target, dims=("SliceLocation", "FlipAngle"))
    assert overlay.FlipAngle == whole.FlipAngle
    assert len(overlay.frames()) == 2 * len(whole.FlipAngle)
    one = overlay.subseries(FlipAngle=20).to_xarray("slice").values
    np.testing.assert_allclose(one, scipy.map_to(series, target).to_xarray("slice").values, atol=0.1)
