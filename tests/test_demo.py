"""Facts about the demo: the main job from DICOM through a lazy array to DICOM again."""

import shutil
import sys

import dciodvfy
import numpy as np
import pydicom
import pytest
from conftest import folder_hash
from factories import make_series

import xdicom as xd
from xdicom.demo import compare, run_demo, t1_map
from xdicom.errors import CatalogError, RecordError, SaveError
from xdicom.phantom import TISSUES, Phantom

pytestmark = pytest.mark.usefixtures("collected")

SMALL = Phantom(columns=32, rows=40, slices=6, flip_angles=(3.0, 6.0, 12.0, 20.0))
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID")
PNG = b"\x89PNG\r\n\x1a\n"


class Run:
    """One run of the demo: where it was told to write, what it said, and what it gave."""

    def __init__(self, target, *, folder=None, phantom=None):
        self.target, self.lines = target, []
        self.outcome = run_demo(folder, target, phantom=phantom, say=self.lines.append)

    def images(self, folder):
        """Return what pydicom reads of the images in a folder of the output."""
        return [pydicom.dcmread(path) for path in sorted((self.target / folder / "PHANTOM").rglob("*.dcm"))]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The demo with a small phantom, run once."""
    return Run(tmp_path_factory.mktemp("demo") / "out", phantom=SMALL)


def check_tissues(tissues, tolerance):
    """Compare medians and quartiles with the truth."""
    assert [each.tissue for each in tissues] == [tissue.name for tissue in TISSUES]
    for each in tissues:
        assert each.median == pytest.approx(each.truth, rel=tolerance), each
        assert each.low_quartile == pytest.approx(each.truth, rel=0.1), each
        assert each.high_quartile == pytest.approx(each.truth, rel=0.1), each
        assert each.unfitted <= 0.01 * each.voxels, each


def test_t1_is_that_of_the_tissues(small):
    """In each tissue the median of the map is within 3 % of the truth, at the places that its headers name."""
    check_tissues(small.outcome.tissues, 0.03)


def test_air_has_no_t1(small):
    """Where there is nothing, nothing is fitted, and NaN comes through the DICOM file."""
    found = small.outcome.maps[0].to_xarray(("slice_location",)).values
    assert np.isnan(found[SMALL.labels() == 0]).mean() > 0.999


def test_the_map_lies_where_the_images_lie(small):
    """Read by pydicom, position, orientation, spacing and frame of reference are to the letter those of the input."""
    of_map = {tuple(str(ds[name].value) for name in GEOMETRY) for ds in small.images("map")}
    of_input = {tuple(str(ds[name].value) for name in GEOMETRY) for ds in small.images("dicom")}
    assert len(small.images("map")) == SMALL.slices
    assert of_map == of_input


def test_pixels_of_the_map_are_those_that_were_fitted(small):
    """What pydicom rescales is what xdicom reads, but for padding."""
    found = small.outcome.maps[0].to_xarray(("slice_location",))
    by_position = {tuple(np.round(ds.ImagePositionPatient, 3)): ds for ds in small.images("map")}
    for index in range(SMALL.slices):
        one = found.isel(slice_location=index)
        ds = by_position[tuple(round(float(one[f"ImagePositionPatient_{axis}"]), 3) for axis in "xyz")]
        values = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        known = ~np.isnan(one.values)
        np.testing.assert_allclose(one.values[known], values[known], rtol=1e-6)
        assert (ds.pixel_array[~known] == ds.PixelPaddingValue).all()


def test_the_map_says_what_it_was_derived_from(small):
    """Each image of the map names its source, keeps patient and timing, and has no flip angle of its own."""
    sources = {ds.SOPInstanceUID: ds for ds in small.images("dicom")}
    for ds in small.images("map"):
        source = sources[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert (ds.PatientName, ds.StudyInstanceUID) == (source.PatientName, source.StudyInstanceUID)
        assert ds.RepetitionTime == source.RepetitionTime
        assert ds.ImageType[0] == "DERIVED"
        assert "FlipAngle" not in ds
        assert ds.SeriesInstanceUID != source.SeriesInstanceUID


def test_the_map_is_valid(small):
    """Dciodvfy finds no error in any image of the map."""
    files = sorted((small.target / "map" / "PHANTOM").rglob("*.dcm"))
    assert {error for path in files for error in dciodvfy.errors(path)} == set()


def test_odd_files_are_told(small):
    """The text file is counted, the broken file listed with the reason, and the report is in the tree."""
    text = "\n".join(small.lines)
    assert "1 not DICOM" in text
    assert "problem: truncated.dcm: the pixel data is truncated" in text
    assert "99 Remark SR" in text


def test_odd_files_cost_nothing(small):
    """Beside them all images are there, and all angles went into the map."""
    assert len(small.images("dicom")) == SMALL.slices * len(SMALL.flip_angles)
    assert "series 1, 2, 3, 4 with flip angles 3, 6, 12, 20 degrees" in "\n".join(small.lines)
    with xd.database(small.target / "dicom") as db:
        for angle in SMALL.flip_angles:
            (series,) = db.series(FlipAngle=angle)
            np.testing.assert_array_equal(series.ndarray("slice_location"), SMALL.image(angle).T)


def test_nothing_is_left_staged(small):
    """The folders that were read and written have no unsaved edits afterwards."""
    assert small.outcome.maps[0].database.status() == []
    with xd.database(small.target / "dicom") as db:
        assert db.status() == []


def test_everything_is_in_the_out_folder(small):
    """Data, map and picture are beside each other."""
    assert sorted(path.name for path in small.target.iterdir()) == ["dicom", "map", "t1.png"]


def test_a_picture_is_drawn(small):
    """It is a PNG."""
    assert small.outcome.pictures == [small.target / "t1.png"]
    assert small.outcome.pictures[0].read_bytes().startswith(PNG)


def test_each_tissue_is_reported(small):
    """There is one line a tissue, with truth, median and quartiles in ms and percent."""
    for each in small.outcome.tissues:
        (line,) = [line for line in small.lines if line.split()[:1] == each.tissue.split()[:1]]
        assert f"{each.truth:.0f}" in line
        assert line.count("%") == 2


def test_the_fit_is_lazy(small):
    """Up to `set_xarray` there is one dask chunk a slice, and what it will hold is what a direct fit gives."""
    with xd.database(small.target / "dicom") as db:
        chosen = db.series(FlipAngle=lambda angle: angle is not None)
        signal = xd.to_xarray(chosen, ("slice_location", "FlipAngle"), chunks={"slice_location": 1})
        lazy = t1_map(signal)
        assert lazy.chunksizes["slice_location"] == (1,) * SMALL.slices
        one = lazy.isel(slice_location=2).values
        np.testing.assert_array_equal(one, t1_map(signal.load()).isel(slice_location=2).values)


def test_a_flipped_map_would_be_noticed(small):
    """Compared at the wrong places, the map is far from the truth."""
    found = small.outcome.maps[0].to_xarray(("slice_location",)).values
    lesion = compare(found[..., ::-1], SMALL.labels())[3]
    assert abs(lesion.median / lesion.truth - 1) > 0.3


# -- on the user's own data


def test_own_data_gives_the_same_map(small, tmp_path):
    """Run on the folder that was made, the demo makes the same map, and changes nothing in the folder."""
    own = shutil.copytree(small.target / "dicom", tmp_path / "own", ignore=shutil.ignore_patterns(".xdicom"))
    before = folder_hash(own)
    again = Run(tmp_path / "out", folder=own)
    assert folder_hash(own) == before
    with xd.database(own) as db:
        assert db.status() == []
    first, second = (run.outcome.maps[0].to_xarray(("slice_location",)).values for run in (small, again))
    np.testing.assert_array_equal(first, second)


def test_own_data_with_several_sets(real_copy, tmp_path):
    """Four visits of two patients, axial at 5 and 10 degrees, give four maps of plausible T1 and four pictures."""
    folder = real_copy("rider-flip-angles")
    before = folder_hash(folder)
    run = Run(tmp_path / "out", folder=folder)
    assert folder_hash(folder) == before
    assert [path.name for path in run.outcome.pictures] == ["t1.png", "t1-2.png", "t1-3.png", "t1-4.png"]
    for series in run.outcome.maps:
        found = series.to_xarray(("slice_location",)).values
        assert 500 < np.nanmedian(found) < 1000
        assert np.nanmax(found) <= 6000.5
    assert sum("passed over: " in line and "sag 3d gre" in line for line in run.lines) == 4


def test_data_without_angles_are_refused(tmp_path):
    """The error names what was found, and no out folder appears."""
    make_series(tmp_path / "in", SeriesDescription="localizer")
    with pytest.raises(RecordError, match=r"Found: 1 localizer \(no FlipAngle\)"):
        run_demo(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    """The error names it."""
    with pytest.raises(CatalogError, match="nowhere"):
        run_demo(tmp_path / "nowhere", tmp_path / "out")


def test_escapes_in_headers_do_not_reach_the_terminal(tmp_path):
    """An ESC in a description comes out as text."""
    make_series(tmp_path / "in", SeriesDescription="red \x1b[31m", FlipAngle=5.0)
    lines = []
    with pytest.raises(RecordError):
        run_demo(tmp_path / "in", tmp_path / "out", say=lines.append)
    assert not any("\x1b" in line for line in lines)
    assert any("\\x1b[31m" in line for line in lines)


# -- nothing of the user's is touched


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    """The error says what to type, and the folder is as it was."""
    (tmp_path / "mine.txt").write_text("mine")
    before = folder_hash(tmp_path)
    with pytest.raises(SaveError, match=r"not empty.*--out"):
        run_demo(out=tmp_path, phantom=SMALL)
    assert folder_hash(tmp_path) == before


def test_a_file_in_place_of_the_out_folder_is_left_alone(tmp_path):
    """The error says that it is a file."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SaveError, match="is a file"):
        run_demo(out=tmp_path / "out", phantom=SMALL)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("inside", [".", "out", "a/../out"])
def test_nothing_is_written_into_the_users_folder(tmp_path, inside):
    """An out folder in the folder that is read is refused before anything is made."""
    (tmp_path / "in").mkdir()
    with pytest.raises(SaveError, match="where nothing is written"):
        run_demo(tmp_path / "in", tmp_path / "in" / inside)
    assert list((tmp_path / "in").iterdir()) == []


def test_without_matplotlib_the_rest_is_made(tmp_path, monkeypatch):
    """The report says how to install it, and the map is there."""
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = Run(tmp_path / "out", phantom=Phantom(columns=16, rows=20, slices=3, flip_angles=(4.0, 15.0)))
    assert run.outcome.pictures == []
    assert any("no picture" in line and "pip install" in line for line in run.lines)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dicom", "map"]


@pytest.mark.slow
def test_the_whole_demo(tmp_path):
    """At full size, T1 is within 1 % in each tissue, and 75 files are beside 12 of the map."""
    run = Run(tmp_path / "out")
    check_tissues(run.outcome.tissues, 0.01)
    assert len(run.images("dicom")) == 72
    assert len(run.images("map")) == 12
