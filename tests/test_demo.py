"""The demo makes a study, finds it again among odd files, and its map is T1 with the geometry of the images."""

import numpy as np
import pydicom
import pytest
from conftest import debian_tool, folder_hash
from dciodvfy import errors
from factories import make_series

import xdicom as xd
from xdicom.anglesets import flip_angle_sets
from xdicom.demo import run_demo
from xdicom.errors import RecordError, SaveError
from xdicom.phantom import Phantom
from xdicom.relaxation import fit_t1, spoiled_echo

SMALL = Phantom(columns=48, rows=64, slices=6)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the folder that a small demo wrote, its outcome and what it said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    said = []
    outcome = run_demo(out=out, phantom=SMALL, say=said.append)
    yield out, outcome, "\n".join(said)
    for series in outcome.maps:
        series.database.close()


def files(folder):
    """Return the DICOM files below a folder, in order."""
    return sorted(folder.rglob("*.dcm"))


def test_t1_is_near_the_truth(demo):
    """The median of every tissue is within 3 % of what the phantom is made of."""
    tissues = demo[1].tissues
    assert len(tissues) >= 4
    assert all(abs(fit.median - fit.truth) < 0.03 * fit.truth for fit in tissues)


def test_every_flip_angle_is_used(demo):
    """The truncated twin of an image hides none of the six series."""
    assert "FlipAngle: 6" in demo[2]


def test_odd_files_are_told(demo):
    """The text is counted, and the truncated file named with the reason."""
    assert "1 not DICOM" in demo[2]
    assert "truncated.dcm: the pixel data is truncated" in demo[2]


def test_map_lies_where_the_images_lie(demo):
    """Position, orientation, spacing and frame of reference are those of the input, slice by slice."""
    source = [pydicom.dcmread(path) for path in files(demo[0] / "dicom") if "spgr 2 deg" in str(path)]
    found = [pydicom.dcmread(path) for path in files(demo[0] / "map")]
    assert len(found) == len(source) == SMALL.slices

    def places(datasets):
        names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID")
        return sorted(tuple(str(ds[name].value) for name in names) for ds in datasets)

    assert places(found) == places(source)


def test_map_is_derived_and_names_its_source(demo):
    """ImageType and Source Image Sequence say what the map is; FlipAngle, a dim that is gone, is not in it."""
    ds = pydicom.dcmread(files(demo[0] / "map")[0])
    assert list(ds.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert len(ds.SourceImageSequence) == 1
    assert "FlipAngle" not in ds


def test_picture_is_a_png(demo):
    """The montage lies beside the data."""
    assert demo[1].pictures[0].read_bytes().startswith(b"\x89PNG")


def test_files_are_valid(demo):
    """Dciodvfy finds no error in the phantom nor in the map."""
    debian_tool("dciodvfy", "dicom3tools")
    for part in ("dicom/PHANTOM", "map"):
        assert errors(files(demo[0] / part)[0]) == set()


def test_nothing_of_the_users_is_replaced(tmp_path):
    """A folder that holds something is refused, and what it holds stays."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SaveError, match="not empty"):
        run_demo(out=tmp_path, phantom=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_own_data_stay_as_they_are(tmp_path):
    """With a folder, the maps go elsewhere and no file in it changes."""
    for angle in (5, 15):
        make_series(tmp_path / "in", name=f"flip {angle}", FlipAngle=angle, RepetitionTime=15, EchoTime=2)
    before = folder_hash(tmp_path / "in")
    outcome = run_demo(tmp_path / "in", tmp_path / "out")
    assert len(outcome.maps) == 1
    assert folder_hash(tmp_path / "in") == before
    outcome.maps[0].database.close()


def test_no_flip_angles_are_told(tmp_path):
    """Where no series differ in flip angle, the error says what there is."""
    make_series(tmp_path / "in", FlipAngle=5, RepetitionTime=15, EchoTime=2)
    db = xd.database(tmp_path / "in")
    with pytest.raises(RecordError, match="series a"):
        flip_angle_sets(db)
    db.close()


def test_fit_inverts_the_echo():
    """Without noise, T1 comes back from the signal."""
    angles = (2, 5, 10, 20)
    signal = spoiled_echo(1000, 900, repetition_time=12, flip_angle=angles)
    assert fit_t1(signal, flip_angles=angles, repetition_time=12) == pytest.approx(900, rel=1e-4)


def test_voxels_without_signal_are_nan():
    """Where there is nothing to fit there is no T1."""
    assert np.isnan(fit_t1(np.zeros(3), flip_angles=(2, 5, 10), repetition_time=12))
