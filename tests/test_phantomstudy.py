"""Facts about the phantom as a DICOM study, and the files beside it."""

import dciodvfy
import numpy as np
import pydicom
import pytest

import xdicom as xd
from xdicom.phantom import Phantom
from xdicom.phantomstudy import write_oddities, write_phantom

PHANTOM = Phantom(columns=24, rows=30, slices=4, flip_angles=(3.0, 12.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the study and the three odd files."""
    target = tmp_path_factory.mktemp("phantom")
    write_oddities(target, write_phantom(PHANTOM, target)[0])
    return target


@pytest.fixture(scope="module")
def images(folder):
    """What pydicom reads of the images, by flip angle and position along the slices."""
    found = [pydicom.dcmread(path) for path in (folder / "PHANTOM").rglob("*.dcm")]
    normal = PHANTOM.affine[:3, 2]
    return sorted(found, key=lambda ds: (ds.FlipAngle, np.dot(ds.ImagePositionPatient, normal)))


def test_each_angle_is_a_series(images):
    """There are as many series as angles, in one study and one frame of reference, with all slices in each."""
    assert len(images) == 2 * 4
    assert len({(ds.FlipAngle, ds.SeriesInstanceUID, ds.SeriesNumber) for ds in images}) == 2
    assert len({(ds.PatientID, ds.StudyInstanceUID, ds.FrameOfReferenceUID) for ds in images}) == 1


def test_pixels_are_those_of_the_phantom(images):
    """Read by pydicom, each image is the slice of the phantom, rows and columns not swapped."""
    for angle, start in ((3.0, 0), (12.0, 4)):
        np.testing.assert_array_equal([ds.pixel_array for ds in images[start : start + 4]], PHANTOM.image(angle))


def test_headers_say_where_the_phantom_lies(images):
    """Position, orientation and spacing give the affine of the phantom back."""
    for index, ds in enumerate(images[:4]):
        row, column = np.reshape(ds.ImageOrientationPatient, (2, 3))
        np.testing.assert_allclose(row * ds.PixelSpacing[1], PHANTOM.affine[:3, 0], atol=1e-6)
        np.testing.assert_allclose(column * ds.PixelSpacing[0], PHANTOM.affine[:3, 1], atol=1e-6)
        np.testing.assert_allclose(ds.ImagePositionPatient, (PHANTOM.affine @ [0, 0, index, 1])[:3], atol=1e-6)


def test_headers_say_how_it_was_scanned(images):
    """Timing and sequence are those of a spoiled gradient echo."""
    ds = images[0]
    assert (ds.RepetitionTime, ds.EchoTime, ds.ScanningSequence, ds.SequenceVariant) == (15, 2.3, "GR", "SP")


def test_images_and_report_are_valid(folder):
    """Dciodvfy finds no error in an image of each series, nor in the report."""
    files = [*(folder / "PHANTOM").rglob("00001.dcm"), folder / "report.dcm"]
    assert len(files) == 3
    assert {error for path in files for error in dciodvfy.errors(path)} == set()


def test_the_report_belongs_to_the_study(folder):
    """A reader shows it beside the images, and its pixels cannot be asked for."""
    (study,) = xd.database(folder).studies()
    (report,) = study.series(Modality="SR")
    assert len(study.series()) == 3
    with pytest.raises(xd.errors.PixelError, match="Text SR"):
        report.ndarray()


def test_the_broken_file_announces_more_than_it_has(folder):
    """It breaks off amid the pixels, as an interrupted copy does."""
    (problem, *_) = [each for each in xd.database(folder).problems() if "truncated" in each.reason]
    assert problem.path == "truncated.dcm"


def test_the_notes_are_no_dicom(folder):
    """The text file is skipped and counted."""
    assert xd.database(folder).rescan().skipped == 1
