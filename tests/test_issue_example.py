"""The main job as the README and the issue show it, verbatim, on real and on synthetic data."""

import gc
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import folder_hash
from factories import make_series

EXAMPLE = """
import xdicom as xd
db = xd.database("rider-flip-angles")        # scans what is new or changed, touches no file
print(db)                                    # patients / studies / series as a tree, with frame counts and sizes
study = db.studies(SeriesDescription="ax 5 flip")[0]      # a study that has such a series
series = study.series(SeriesDescription="ax 5 flip")[0]
series.Rows, series["Columns"], series[(0x28, 0x10)], series[["Rows", (0x28, 0x10)]], study.SeriesDescription
both = xd.merge(study.series(SeriesDescription=["ax 5 flip", "ax 10 flip"]))       # a series of copies
array = both.ndarray(dims=("SliceLocation", "FlipAngle"))                          # (x, y, z, t)
da = xd.to_xarray(study.series(SeriesDescription=["ax 5 flip", "ax 10 flip"]), dims=("SliceLocation", "FlipAngle"))
da.sel(FlipAngle=10).sel(SliceLocation=12.5, method="nearest")                     # lazy; reads that frame's bytes only
new = series.new_sibling(SeriesDescription="ratio")
new.set_xarray(da.sel(FlipAngle=10) / da.sel(FlipAngle=5))                         # still lazy until here
new.save("out")
"""


@pytest.fixture(params=["real", "synthetic"])
def example(request, tmp_path, monkeypatch):
    """What the example leaves behind, by name, run in a folder that holds its data."""
    if request.param == "real":
        request.getfixturevalue("real_copy")("rider-flip-angles")
    else:
        for number, angle in ((1, 5), (2, 10)):
            description = f"ax {angle} flip"
            values = np.random.default_rng(angle).integers(1, 4000, (3, 6, 5)).astype("u2")
            options = {"SeriesNumber": number, "SeriesDescription": description, "FlipAngle": angle, "pixels": values}
            make_series(tmp_path / "rider-flip-angles", name=description, **options)
    monkeypatch.chdir(tmp_path)
    before = folder_hash(tmp_path / "rider-flip-angles")
    names: dict = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "invalid value encountered in divide")  # of background by background
        warnings.filterwarnings("ignore", "divide by zero")
        exec(compile(EXAMPLE, "example", "exec"), names)
    assert folder_hash(tmp_path / "rider-flip-angles") == before
    yield names
    names.clear()
    gc.collect()


def test_the_example_runs_and_agrees_with_pydicom(example, capsys):
    """Merged array, DataArray and saved ratio hold what pydicom reads; the source folder is untouched."""
    print(example["db"])
    assert "ax 5 flip" in capsys.readouterr().out
    pixels = {}
    for path in Path("rider-flip-angles").rglob("*"):
        if path.is_file() and ".xdicom" not in path.parts:
            ds = pydicom.dcmread(path)
            pixels[ds.StudyInstanceUID, float(ds.SliceLocation), float(ds.get("FlipAngle", 0))] = ds.pixel_array
    da, array, study = example["da"], example["array"], example["study"]
    assert da.dims == ("SliceLocation", "FlipAngle", "row", "column")
    assert da.FlipAngle.values.tolist() == [5, 10]
    wanted = [[pixels[study.key[1], z, angle] for angle in (5, 10)] for z in da.SliceLocation.values.tolist()]
    assert np.array_equal(da.values, wanted)
    assert np.array_equal(array, np.transpose(wanted, (3, 2, 0, 1)))
    nearest = da.sel(FlipAngle=10).sel(SliceLocation=12.5, method="nearest")
    assert np.array_equal(nearest.values, pixels[study.key[1], float(nearest.SliceLocation), 10])


def test_the_saved_ratio(example):
    """The series that was saved has the ratio within half a step, the staged values to the bit, and no FlipAngle."""
    saved = sorted(map(pydicom.dcmread, Path("out").rglob("*.dcm")), key=lambda ds: float(ds.SliceLocation))
    da, new = example["da"], example["new"]
    with np.errstate(all="ignore"):
        ratio = da.sel(FlipAngle=10).values / da.sel(FlipAngle=5).values
    for ds, expected, staged in zip(saved, ratio, new.ndarray(dims=("SliceLocation",)).transpose(2, 1, 0), strict=True):
        stored = ds.pixel_array.astype(float)
        values = stored * ds.RescaleSlope + ds.RescaleIntercept
        if np.isnan(expected).any():
            values[ds.pixel_array == ds.PixelPaddingValue] = np.nan
        assert np.allclose(values, expected, rtol=0, atol=0.51 * ds.RescaleSlope, equal_nan=True)
        assert np.allclose(values, staged, rtol=1e-6, equal_nan=True)
        assert "FlipAngle" not in ds
        assert (ds.SeriesDescription, list(ds.ImageType)[:2]) == ("ratio", ["DERIVED", "SECONDARY"])
        assert ds.StudyInstanceUID == example["study"].key[1]


def test_the_tags_of_the_example(example):
    """Every notation of the example gives the same values."""
    series, study = example["series"], example["study"]
    found = (path for path in Path("rider-flip-angles").rglob("*") if path.is_file() and ".xdicom" not in path.parts)
    rows = pydicom.dcmread(next(found)).Rows
    assert series.Rows == series[(0x28, 0x10)] == rows
    assert series[["Rows", (0x28, 0x10)]] == [[rows], [rows]]
    assert series["Columns"].item() > 0
    assert study.SeriesDescription == ["ax 10 flip", "ax 5 flip", "merged", "ratio"]
    assert len(example["both"].SOPInstanceUID) == example["array"].shape[2] * 2
