"""Edits of mosaics: tags are saved, and what would move slices is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import xarray as xr
from factories import AXIAL, OBLIQUE
from mosaics import make_slices, mosaic

import xdicom as xd
from xdicom.errors import EditError


def test_tag_edit_of_a_mosaic_is_saved(written: Any, tmp_path: Path) -> None:
    """An edited tag reaches the file, in which nothing else changes; the slices are the same before and after."""
    slices = make_slices(5)
    ds = mosaic(slices)
    series = written(ds)
    before = series.to_xarray().compute()
    series.PatientName, series.FlipAngle = "Roe^Jane", 7
    xr.testing.assert_equal(series.to_xarray().compute().drop_vars("source_series"), before.drop_vars("source_series"))
    series.save()
    saved = pydicom.dcmread(tmp_path / "in" / "0.dcm")
    assert (saved.PatientName, saved.FlipAngle, saved.Rows) == ("Roe^Jane", 7, 18)
    for keyword in ("ImagePositionPatient", "PixelData", "SpacingBetweenSlices"):
        assert saved[keyword].value == ds[keyword].value
    assert saved[0x0029, 0x1010].value == ds[0x0029, 0x1010].value
    np.testing.assert_array_equal(series.to_xarray().values, slices)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PixelSpacing", [1, 1]),
        ("ImagePositionPatient", [0, 0, 0]),
        ("ImageOrientationPatient", [0, 1, 0, 0, 0, 1]),
        ("SpacingBetweenSlices", 2),
        ("ImageType", ["DERIVED", "SECONDARY"]),
        (("SIEMENS CSA HEADER", 0x29, 0x10), None),
        (("SIEMENS MR HEADER", 0x19, 0x0A), 3),
    ],
)
def test_edit_that_would_move_slices_is_refused(name: Any, value: Any, written: Any) -> None:
    """What the places of the slices follow from cannot be edited in place; the text says what to type."""
    series = written(mosaic(make_slices(4)))
    with pytest.raises(EditError, match=r"says where the slices in a mosaic are.*new_sibling\(\)\.set_xarray"):
        series[name] = value
    assert series.status() == []


def test_harmless_edits_are_taken(written: Any) -> None:
    """A value that is there already, another ImageType of a mosaic, and xdicom's own elements are edits like others."""
    series = written(mosaic(make_slices(4)))
    series.PixelSpacing = [2, 1.5]
    series.ImageType = ["DERIVED", "PRIMARY", "M", "MOSAIC"]
    series.colormap = "viridis"
    series.save()
    assert series.colormap == "viridis"
    assert len(series.frames()) == 4


def test_matrix_edit_of_a_mosaic_still_reads(written: Any) -> None:
    """A staged Rows says what it likes: pixels decode by the file's own matrix."""
    slices = make_slices(4)
    series = written(mosaic(slices))
    with pytest.warns(UserWarning, match="Rows describes the stored pixels"):
        series.Rows = 99
    np.testing.assert_array_equal(series.ndarray(), slices.transpose(2, 1, 0))


def test_new_pixels_in_a_mosaic_are_refused(written: Any) -> None:
    """Mosaics are not written; the text says what to type instead."""
    series = written(mosaic(make_slices(4)))
    with pytest.raises(EditError, match=r"series\.new_sibling\(\)\.set_xarray"):
        series.set_xarray(series.to_xarray() * 2)
    with pytest.raises(EditError, match="the series lies in mosaics"):
        series.set_ndarray(series.ndarray())


def test_sibling_of_a_mosaic_is_classic_slices(written: Any, tmp_path: Path) -> None:
    """A new series has one file a slice, at the right position, that no reader takes for a mosaic."""
    slices = make_slices(5)
    series = written(mosaic(slices, layout=OBLIQUE, NumberOfFrames=1))
    target = series.new_sibling(SeriesDescription="apart")
    target.set_xarray(series.to_xarray())
    series.database.save()
    assert len(target.frames()) == 5
    np.testing.assert_array_equal(target.to_xarray().values, slices)
    np.testing.assert_allclose(target.affine, OBLIQUE.affine(), atol=1e-6)
    files = [pydicom.dcmread(path) for path in (tmp_path / "in").rglob("*.dcm") if path.name != "0.dcm"]
    assert len(files) == 5
    for ds in files:
        assert (ds.Rows, ds.Columns) == (6, 5)
        assert "MOSAIC" not in ds.ImageType
        assert "ReferencedFrameNumber" not in ds.SourceImageSequence[0]
        assert (0x0029, 0x1010) not in ds
        assert (0x0019, 0x100A) not in ds
    again = xd.database(shutil.copytree(tmp_path / "in", tmp_path / "again", ignore=shutil.ignore_patterns(".xdicom")))
    assert len(again.series(SeriesDescription="apart")[0].frames()) == 5


def test_part_of_a_mosaic_is_refused(written: Any) -> None:
    """Some slices of a picture make no series of their own; the text says what to type, and no series is left."""
    series = written(mosaic(make_slices(5)), mosaic(make_slices(5, seed=1), number=2))
    with pytest.raises(EditError, match=r"2 of the 5 slices in the one picture.*new_sibling\(\)\.set_xarray"):
        series.subseries(SliceLocation=slice(30, 34))
    assert len(series.study.series()) == 1


def test_whole_volumes_make_a_subseries(written: Any) -> None:
    """Whole pictures are copied as they are, and saved so."""
    slices = make_slices(5, seed=1)
    series = written(mosaic(make_slices(5)), mosaic(slices, number=2))
    part = series.subseries(InstanceNumber=2)
    np.testing.assert_array_equal(part.to_xarray().values, slices)
    part.save()
    np.testing.assert_array_equal(part.to_xarray().values, slices)
    np.testing.assert_allclose(part.affine, AXIAL.affine(), atol=1e-6)


def test_edited_copy_elsewhere(written: Any, tmp_path: Path) -> None:
    """A mosaic that was edited is written into another folder as the mosaic that it is."""
    slices = make_slices(5)
    series = written(mosaic(slices))
    series.PatientName = "Roe^Jane"
    series.save(tmp_path / "out")
    there = xd.database(tmp_path / "out").series()[0]
    np.testing.assert_array_equal(there.to_xarray().values, slices)
    assert there.PatientName == "Roe^Jane"
