"""Facts about SmallestImagePixelValue and LargestImagePixelValue of images with new pixels."""

import numpy as np
import pydicom
import pytest
from factories import make_series

import xdicom as xd

KEYWORDS = ["SmallestImagePixelValue", "LargestImagePixelValue"]


def stored(folder):
    """Return what each file says of its extremes, and what they are."""
    datasets = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    told = [tuple(dataset.get(keyword) for keyword in KEYWORDS) for dataset in datasets]
    return told, [(dataset.pixel_array.min(), dataset.pixel_array.max()) for dataset in datasets]


def made(folder):
    """Return a series of three images that tell their extremes."""
    make_series(folder, slices=3, SmallestImagePixelValue=0, LargestImagePixelValue=4000)
    return xd.database(folder).series()[0]


@pytest.mark.parametrize("kind", ["unsigned", "signed", "scaled"])
def test_extremes_follow(tmp_path, kind):
    """Each image tells the least and greatest of its own stored values, before and after saving."""
    series = made(tmp_path)
    values = np.arange(series.ndarray().size).reshape(series.ndarray().shape)
    series.set_ndarray({"unsigned": values, "signed": values - 40, "scaled": values * 0.37 - 3}[kind])
    staged = [series.frames().values(keyword).tolist() for keyword in KEYWORDS]
    series.save()
    told, found = stored(tmp_path)
    assert told == found
    assert [series.frames().values(keyword).tolist() for keyword in KEYWORDS] == staged
    assert sorted(zip(*staged, strict=True)) == sorted(found)


def test_a_new_series_too(tmp_path):
    """Images that are cloned from some with extremes tell their own."""
    series = made(tmp_path)
    new = series.new_sibling(SeriesDescription="new")
    new.set_ndarray(series.ndarray() * 2 + 7)
    low, high = (new.frames().values(keyword) for keyword in KEYWORDS)
    stack = new.ndarray()
    assert sorted(high.tolist()) == sorted(stack.max(axis=(0, 1)).tolist())
    assert sorted(low.tolist()) == sorted(stack.min(axis=(0, 1)).tolist())


def test_only_where_present(tmp_path):
    """Images that did not tell their extremes get none."""
    make_series(tmp_path, slices=2)
    series = xd.database(tmp_path).series()[0]
    series.set_ndarray(series.ndarray() * 2)
    series.save()
    assert stored(tmp_path)[0] == [(None, None)] * 2


def test_padding(tmp_path):
    """An image in which some values are absent tells none."""
    series = made(tmp_path)
    values = series.ndarray().astype(float)
    values[0, 0, 1] = np.nan
    series.set_ndarray(values)
    series.save()
    assert stored(tmp_path)[0].count((None, None)) == 1
