"""Small series in memory with voxels that are no cubes, for the tests of functions of series."""

import numpy as np

import xdicom as xd

SPACING = (4.0, 2.0, 1.5)  # of slices, rows and columns, mm
SHAPE = (7, 12, 15)


def noise(shape=SHAPE, seed=0):
    """Return integers that 16 bits hold."""
    return np.random.default_rng(seed).integers(-500, 3000, shape).astype(np.int16)


def blobs(shape=SHAPE, seed=1):
    """Return a mask of a few parts."""
    from scipy import ndimage

    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1) > 0.08


def series_of(values, spacing=SPACING, dims=("slice", "row", "column"), **options):
    """Return a series of an array of shape (*others, slices, rows, columns)."""
    return xd.as_series(np.asarray(values), dims, spacing=spacing[::-1], **options)


def values_of(series, dims="slice"):
    """Return the values of a series, shape (slices, rows, columns)."""
    return series.to_xarray(dims).values


def close(series):
    """Return how exact the stored values of a series can be: half of what one stored integer is worth."""
    return 1.01 * float(series.RescaleSlope[0]) / 2 if len(series.RescaleSlope) else 1e-6
