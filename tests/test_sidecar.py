"""Facts about what is said of an image beside its voxels: names and units of BIDS, gradients of FSL, no identity."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from factories import AXIAL, OBLIQUE, make_series, write
from mosaics import make_slices, mosaic

import xdicom
from xdicom.conversion import volume_of
from xdicom.sidecar import gradient_texts, gradients, sidecar

PARAMETERS = {
    "RepetitionTime": 2500.0,
    "InversionTime": 900.0,
    "FlipAngle": 9.0,
    "MagneticFieldStrength": 3.0,
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Prisma",
    "InPlanePhaseEncodingDirection": "COL",
    "PatientName": "Bond^James",
    "PatientBirthDate": "19200101",
    "PatientID": "007",
    "InstitutionName": "MI6",
}
DIRECTIONS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0], [0, -0.6, 0.8], [-0.8, 0, 0.6]])
B_VALUES = [0.0, 700.0, 700.0, 1000.0, 1000.0, 1000.0, 1000.0]


def volume(folder, along=("slice",), **options):
    """Return the volume of a series of 3 slices."""
    make_series(folder, **options)
    with xdicom.database(folder) as db:
        return volume_of(db.series()[0].to_xarray(dims=along).compute())


def diffusion(folder, layout=OBLIQUE):
    """Return the folder of a diffusion series as Philips writes it, and its volume."""

    def gradient(ds, index):
        ds.DiffusionBValue = B_VALUES[index // 3]
        ds.DiffusionGradientOrientation = DIRECTIONS[index // 3].tolist()

    numbers = {"AcquisitionNumber": list(range(1, 8))}
    options = {"Manufacturer": "Philips Medical Systems", "ScanningSequence": "EP", "RescaleSlope": 1}
    return volume(
        folder, ("slice", "AcquisitionNumber"), dims=numbers, layout=layout, shape=(8, 8), change=gradient, **options
    )


# -- JSON


def test_times_are_seconds(tmp_path):
    """DICOM has milliseconds, BIDS seconds."""
    about = sidecar(volume(tmp_path, EchoTime=4.9, **PARAMETERS))
    assert (about["EchoTime"], about["RepetitionTime"], about["InversionTime"]) == (0.0049, 2.5, 0.9)


def test_parameters_have_names_of_bids(tmp_path):
    """Manufacturer, model, flip angle and field strength are there under the names that BIDS has."""
    about = sidecar(volume(tmp_path, **PARAMETERS))
    expected = {"Manufacturer": "SIEMENS", "ManufacturersModelName": "Prisma", "FlipAngle": 9.0}
    assert expected.items() <= about.items()
    assert about["MagneticFieldStrength"] == 3.0


def test_phase_encoding_has_an_axis_without_sign(tmp_path):
    """Along the columns is the second axis of the image; the sign is not in the standard."""
    assert sidecar(volume(tmp_path, **PARAMETERS))["PhaseEncodingAxis"] == "j"


def test_image_type_is_a_list(tmp_path):
    """The parts of ImageType are apart."""
    assert sidecar(volume(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "M"]))["ImageType"] == [
        "ORIGINAL",
        "PRIMARY",
        "M",
    ]


def test_identity_is_left_out(tmp_path):
    """Nothing says who was scanned, where and when."""
    about = repr(sidecar(volume(tmp_path, **PARAMETERS)))
    assert not [text for text in ("Bond", "007", "1920", "MI6", "2.25.") if text in about]


def test_identity_is_told_on_request(tmp_path):
    """With identity=True the DICOM keywords of it are there."""
    about = sidecar(volume(tmp_path, **PARAMETERS), identity=True)
    assert (about["PatientName"], about["PatientID"]) == ("Bond^James", "007")


def test_parameters_along_the_fourth_axis_are_lists(tmp_path):
    """Of several echoes the sidecar has each time."""
    about = sidecar(volume(tmp_path, ("EchoTime", "slice"), dims={"EchoTime": [5.0, 10.0]}))
    assert about["EchoTime"] == [0.005, 0.01]


def test_slices_of_volumes_have_their_times(tmp_path):
    """Where slices of a volume have their own times, they count from the first one."""

    def clock(ds, index):
        ds.AcquisitionTime = f"1200{10 + 3 * (index // 3):02d}.{(0, 500, 250)[index % 3]:03d}"

    dims = ("slice", "AcquisitionTime")
    found = volume(tmp_path, dims, dims={"AcquisitionNumber": [1, 2]}, change=clock)
    assert sidecar(found)["SliceTiming"] == [0.0, 0.5, 0.25]
    assert found.seconds == pytest.approx(3.0)


def test_slices_in_a_mosaic_have_their_times(tmp_path):
    """Siemens says when each slice of a mosaic was taken, in ms after the first one of the volume."""
    for number in (1, 2):
        write(tmp_path / f"{number}.dcm", mosaic(make_slices(4), number=number, AcquisitionNumber=number))
    with xdicom.database(tmp_path) as db:
        found = volume_of(db.series()[0].to_xarray(dims=("slice", "AcquisitionNumber")).compute())
    assert sidecar(found)["SliceTiming"] == [0.0, 0.3015, 0.201, 0.1005]


def test_absent_numbers_are_left_out(tmp_path):
    """A parameter that some images lack is none of the whole, and NaN is no JSON."""

    def lacking(ds, index):
        if index < 3:
            ds.InversionTime = 900.0

    about = sidecar(volume(tmp_path, ("EchoTime", "slice"), dims={"EchoTime": [5.0, 10.0]}, change=lacking))
    assert "InversionTime" not in about


# -- gradients


def test_gradients_are_along_the_axes_of_voxels(tmp_path):
    """A direction in the patient becomes one along rows, columns and slices; FSL counts the first axis backwards."""
    found = gradients(diffusion(tmp_path))
    assert found is not None
    axes = np.array([OBLIQUE.row_direction, OBLIQUE.column_direction, OBLIQUE.normal])
    expected = axes @ DIRECTIONS.T
    expected[0] *= -1
    np.testing.assert_allclose(found.directions, expected, atol=1e-9)
    np.testing.assert_array_equal(found.values, B_VALUES)


def test_flipped_slices_have_another_hand(tmp_path):
    """Slices in the other order turn the hand of the axes, so that the first one counts forwards."""
    straight = diffusion(tmp_path)
    turned = volume_of(straight.array.isel(slice=slice(None, None, -1)))
    plain, flipped = gradients(straight), gradients(turned)
    assert plain is not None
    assert flipped is not None
    np.testing.assert_allclose(flipped.directions, plain.directions * [[-1], [1], [-1]], atol=1e-9)


@pytest.mark.parametrize("layout", [AXIAL, OBLIQUE, replace(AXIAL, column_direction=(0.0, 0.0, -1.0))])
def test_gradients_are_those_of_dcm2niix(tmp_path, layout):
    """In the patient, the directions that dcm2niix writes are those that are written here."""
    dcm2niix, nibabel = pytest.importorskip("dcm2niix"), pytest.importorskip("nibabel")
    found = diffusion(tmp_path / "in", layout)
    (tmp_path / "out").mkdir()
    subprocess.run(
        [dcm2niix.bin, "-z", "n", "-f", "a", "-o", tmp_path / "out", tmp_path / "in"], check=True, capture_output=True
    )
    reference = nibabel.load(tmp_path / "out" / "a.nii")
    theirs = in_patient(np.loadtxt(tmp_path / "out" / "a.bvec"), reference.affine)
    mine = gradients(found)
    assert mine is not None
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out" / "a.bval"), mine.values)
    np.testing.assert_allclose(in_patient(mine.directions, np.diag([-1, -1, 1, 1]) @ found.affine), theirs, atol=1e-4)


def test_gradients_of_siemens_are_those_of_dcm2niix(tmp_path):
    """What Siemens wrote before the standard had b-values and directions is read, too."""
    dcm2niix, nibabel = pytest.importorskip("dcm2niix"), pytest.importorskip("nibabel")

    def gradient(ds, index):
        block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", int(B_VALUES[index // 3]))
        if B_VALUES[index // 3]:
            block.add_new(0x0E, "FD", DIRECTIONS[index // 3].tolist())

    numbers = {"AcquisitionNumber": list(range(1, 8))}
    options = {"Manufacturer": "SIEMENS", "ScanningSequence": "EP", "shape": (8, 8), "layout": OBLIQUE}
    found = volume(tmp_path / "in", ("slice", "AcquisitionNumber"), dims=numbers, change=gradient, **options)
    (tmp_path / "out").mkdir()
    subprocess.run(
        [dcm2niix.bin, "-z", "n", "-f", "a", "-o", tmp_path / "out", tmp_path / "in"], check=True, capture_output=True
    )
    mine = gradients(found)
    assert mine is not None
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out" / "a.bval"), mine.values)
    theirs = in_patient(np.loadtxt(tmp_path / "out" / "a.bvec"), nibabel.load(tmp_path / "out" / "a.nii").affine)
    np.testing.assert_allclose(in_patient(mine.directions, np.diag([-1, -1, 1, 1]) @ found.affine), theirs, atol=1e-4)


def in_patient(directions, affine):
    """Return directions of FSL as directions in RAS."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    first = -1 if np.linalg.det(axes) > 0 else 1
    return axes @ (directions * [[first], [1], [1]])


def test_images_without_direction_have_no_gradients(tmp_path):
    """A trace image has a b-value and no direction, and then nothing is said."""
    found = diffusion(tmp_path)
    traces = found.array.copy()
    traces["DiffusionGradientOrientation_0"] = traces["DiffusionGradientOrientation_0"] * np.nan
    assert gradients(found._replace(array=traces)) is None


def test_other_images_have_no_gradients(tmp_path):
    """Without b-values there is nothing to be said."""
    assert gradients(volume(tmp_path, ("EchoTime", "slice"), dims={"EchoTime": [5.0, 10.0]})) is None


def test_gradient_files_are_those_of_fsl(tmp_path):
    """One line of b-values, three of directions."""
    found = gradients(diffusion(tmp_path))
    assert found is not None
    values, directions = gradient_texts(found)
    assert values == "0 700 700 1000 1000 1000 1000\n"
    assert [len(line.split()) for line in directions.splitlines()] == [7, 7, 7]


def test_arrays_without_attributes_have_an_empty_sidecar(tmp_path):
    """What arithmetic left without attributes says nothing."""
    found = volume(tmp_path)
    bare = xr.DataArray(found.array.values, found.array.coords, found.array.dims)
    assert set(sidecar(found._replace(array=bare))) <= {"TriggerTime"}
