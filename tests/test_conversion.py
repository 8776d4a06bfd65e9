"""Facts about images of nibabel and SimpleITK that arrays become: voxels, order of axes, mm and seconds."""

import builtins

import numpy as np
import pytest
from fake_table import FakeFrames

from xdicom.array import to_dataarray
from xdicom.conversion import is_time, sheared, time_step, volume_of
from xdicom.errors import GeometryError, MissingPackageError
from xdicom.stack import stack

nibabel = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])
SPACING = (0.9375, 0.75)
ORIGIN = np.array([-10.0, 5.0, 30.0])


def volume(dims=("slice",), *, slices=4, times=1, step=NORMAL * 2.5, dtype=np.int16, colour=False, **more):
    """Return slices of 6 rows x 8 columns, all slices of one time after the other."""
    count = slices * times
    rng = np.random.default_rng(1)
    frames = FakeFrames(
        ImagePositionPatient=[tuple(ORIGIN + step * (i % slices)) for i in range(count)],
        ImageOrientationPatient=[OBLIQUE] * count,
        PixelSpacing=[SPACING] * count,
        SliceThickness=[2.5] * count,
        InstanceNumber=list(range(count)),
        pixels=rng.integers(0, 100, (count, 6, 8, *([3] if colour else []))).astype(dtype),
        **more,
    )
    return to_dataarray(frames, stack(frames, dims))


def over_time(seconds=2.0, times=3, **options):
    """Return a volume at several AcquisitionTimes."""
    clock = [1000 + seconds * (i // 4) for i in range(4 * times)]
    return volume(("slice", "AcquisitionTime"), times=times, AcquisitionTime=clock, **options)


# -- nibabel


def test_nifti_leads_to_ras():
    """The first voxel lies at its position with x and y negated: LPS to RAS."""
    image = volume().dicom.to_nibabel()
    np.testing.assert_allclose(image.affine[:3, 3], ORIGIN * [-1, -1, 1])
    np.testing.assert_allclose(image.affine[:3, 0], np.array(OBLIQUE[:3]) * 0.75 * [-1, -1, 1])


def test_nifti_axes_are_column_row_slice():
    """Whatever the order of the dims, the axes are (column, row, slice)."""
    da = volume()
    for each in (da, da.transpose("row", "slice", "column")):
        np.testing.assert_array_equal(each.dicom.to_nibabel().get_fdata(), da.transpose("column", "row", "slice"))


def test_nifti_keeps_dtype_and_values():
    """Integers of 16 bits are written as such, without scaling."""
    image = volume().dicom.to_nibabel()
    assert image.get_data_dtype() == np.int16
    assert (image.dataobj[:] == volume().transpose("column", "row", "slice").values).all()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(bool, np.uint8), (np.float16, np.float32), (np.int64, np.int32), (np.uint64, np.int32), (np.float64, np.float64)],
)
def test_nifti_has_dtypes_that_readers_know(dtype, expected):
    """What NIfTI has no type for, or few readers know, is written without loss in another type."""
    image = volume().astype(dtype).dicom.to_nibabel()
    assert image.get_data_dtype() == expected
    np.testing.assert_array_equal(image.get_fdata(), volume().astype(dtype).transpose("column", "row", "slice"))


def test_nifti_keeps_wide_integers():
    """Integers beyond 32 bits stay 64 bits wide."""
    da = volume().astype(np.int64) + 2**40
    assert da.dicom.to_nibabel().get_data_dtype() == np.int64


def test_nifti_is_in_scanner_coordinates():
    """Both forms have the code of scanner coordinates, and say the same."""
    header = volume().dicom.to_nibabel().header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-5)


def test_nifti_keeps_the_shear_of_a_tilted_gantry():
    """A sheared stack keeps its positions in the sform, and has no quaternion."""
    image = volume(step=np.array([0.0, 0.8, 2.4])).dicom.to_nibabel()
    np.testing.assert_allclose(image.affine[:3, 2], [0.0, -0.8, 2.4])
    assert int(image.header["qform_code"]) == 0
    np.testing.assert_allclose(image.header.get_sform()[:3, 2], [0.0, -0.8, 2.4], atol=1e-6)


def test_nifti_survives_a_file(tmp_path):
    """What nibabel reads back has the same voxels and, but for rounding to 32 bits, the same affine."""
    da = over_time()
    da.dicom.to_nibabel().to_filename(tmp_path / "a.nii.gz")
    image = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.affine, da.dicom.to_nibabel().affine, atol=1e-5)
    np.testing.assert_array_equal(image.get_fdata(), da.transpose("column", "row", "slice", ...))


def test_nifti_has_seconds_along_time():
    """The zoom of the fourth axis is the time from one volume to the next."""
    image = over_time().dicom.to_nibabel()
    np.testing.assert_allclose(image.header.get_zooms(), (0.75, 0.9375, 2.5, 2.0))
    assert image.header.get_xyzt_units() == ("mm", "sec")


def test_nifti_has_time_as_fourth_axis():
    """Time comes before other dims, which keep their order."""
    echo = [1.0 + i // 8 for i in range(16)]
    clock = [10.0 * (i // 4 % 2) for i in range(16)]
    da = volume(("EchoTime", "slice", "AcquisitionTime"), times=4, EchoTime=echo, AcquisitionTime=clock)
    image = da.dicom.to_nibabel()
    assert volume_of(da).others == ("AcquisitionTime", "EchoTime")
    np.testing.assert_array_equal(
        image.get_fdata(), da.transpose("column", "row", "slice", "AcquisitionTime", "EchoTime").values
    )
    assert image.header.get_zooms()[3:] == (10.0, 1.0)


def test_nifti_without_known_time_has_no_unit_of_time():
    """Echoes are no time, and the header says nothing of seconds."""
    da = volume(("slice", "EchoTime"), times=2, EchoTime=[1.0] * 4 + [2.0] * 4)
    assert da.dicom.to_nibabel().header.get_xyzt_units() == ("mm", "unknown")


def test_nifti_of_colour_is_rgb():
    """Colour of 8 bits is the RGB type of NIfTI."""
    da = volume(dtype=np.uint8, colour=True)
    image = da.dicom.to_nibabel()
    assert image.get_data_dtype().names == ("R", "G", "B")
    np.testing.assert_array_equal(np.asarray(image.dataobj)["G"], da.isel(sample=1).transpose("column", "row", "slice"))


def test_nifti_of_one_slice_has_three_axes():
    """A slice, a row or a column that was selected comes back as an axis of one."""
    assert volume().isel(slice=2).dicom.to_nibabel().shape == (8, 6, 1)
    part = volume().isel(slice=2, row=3).dicom.to_nibabel()
    assert part.shape == (8, 1, 1)
    np.testing.assert_array_equal(part.get_fdata()[:, 0, 0], volume().isel(slice=2, row=3))


def test_nifti_refuses_gaps():
    """With a slice missing there is no affine, and the error names the way out."""
    with pytest.raises(GeometryError, match=r"unequal.*to_regular\(\)"):
        volume().isel(slice=[0, 1, 3]).dicom.to_nibabel()


def test_nifti_has_seven_dims_at_most():
    """Beyond seven dims the error counts them."""
    da = volume().expand_dims(["a", "b", "c", "d", "e"])
    with pytest.raises(GeometryError, match="at most 7 dims"):
        da.dicom.to_nibabel()


# -- time


def test_times_across_midnight_go_on():
    """From 23:59:59 to 0:00:01 there are two seconds."""
    da = over_time()
    da = da.assign_coords(AcquisitionTime=[86399.0, 1.0, 3.0])
    assert time_step(da, "AcquisitionTime") == 2.0


def test_unequal_times_have_no_step():
    """One zoom cannot hold times 0, 2 and 7."""
    assert time_step(over_time().assign_coords(AcquisitionTime=[0.0, 2.0, 7.0]), "AcquisitionTime") is None


def test_ranks_have_the_step_of_their_values():
    """Times that differ from slice to slice are a coordinate along two dims, whose step counts."""
    clock = [1000 + 2.0 * (i // 4) + 0.1 * (i % 4) for i in range(12)]
    da = volume(("slice", "AcquisitionTime"), times=3, AcquisitionTime=clock)
    assert da.dims[1] == "AcquisitionTime_index"
    assert volume_of(da).seconds == pytest.approx(2.0)


def test_milliseconds_become_seconds():
    """TriggerTime counts milliseconds."""
    da = volume(("slice", "TriggerTime"), times=2, TriggerTime=[0.0] * 4 + [40.0] * 4)
    assert volume_of(da).seconds == pytest.approx(0.04)


def test_dates_with_time_have_a_step():
    """FrameAcquisitionDateTime is text, of which seconds are made."""
    texts = ["20200101235959.5"] * 4 + ["20200102000001.5"] * 4
    da = volume(("slice", "FrameAcquisitionDateTime"), times=2, FrameAcquisitionDateTime=texts)
    assert volume_of(da).seconds == pytest.approx(2.0)


def test_counters_are_time_where_a_clock_runs_along_them():
    """AcquisitionNumber is time where AcquisitionTime follows it steadily, and none where nothing is known."""
    numbers = [1] * 4 + [2] * 4
    da = volume(("slice", "AcquisitionNumber"), times=2, AcquisitionNumber=numbers)
    assert not is_time(da, "AcquisitionNumber")
    timed = da.assign_coords(AcquisitionTime=("AcquisitionNumber", [1.0, 4.0]))
    assert is_time(timed, "AcquisitionNumber")


def test_volumes_of_echo_planar_images_follow_each_other_in_repetition_times():
    """Without a clock the repetition time is the step of two-dimensional echo planar images, and of no others."""
    numbers = [i // 4 for i in range(8)]
    da = volume(("slice", "TemporalPositionIdentifier"), times=2, TemporalPositionIdentifier=numbers)
    named = da.assign_attrs(ScanningSequence="EP\\GR", MRAcquisitionType="2D", RepetitionTime=3000.0)
    assert volume_of(named).seconds == 3.0
    assert volume_of(named.assign_attrs(MRAcquisitionType="3D")).seconds is None


def test_repetition_time_is_the_exact_step_where_the_clock_agrees():
    """A clock of some milliseconds' ticks agrees with the repetition time, which is exact; one with pauses does not."""
    da = over_time(seconds=3.0125).assign_attrs(ScanningSequence="EP", MRAcquisitionType="2D", RepetitionTime=3000.0)
    assert volume_of(da).seconds == 3.0
    assert volume_of(da.assign_attrs(RepetitionTime=2000.0)).seconds == pytest.approx(3.0125)
    assert volume_of(da.assign_coords(AcquisitionTime=[0.0, 3.0, 60.0])).seconds is None


# -- SimpleITK


def test_sitk_places_every_voxel():
    """SimpleITK says of each index what the affine says."""
    da = volume()
    image = da.dicom.to_sitk()
    matrix = da.dicom.affine
    for index in ((0, 0, 0), (7, 5, 3), (2, 1, 3)):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), (matrix @ [*index, 1])[:3], atol=1e-9)
        assert image[index] == da.transpose("column", "row", "slice").values[index]


def test_sitk_of_four_dims_is_four_dimensional():
    """Time is the fourth axis, as in a NIfTI file that SimpleITK reads."""
    da = over_time(seconds=2.0)
    image = da.dicom.to_sitk()
    assert (image.GetDimension(), image.GetSize(), image.GetSpacing()[3]) == (4, (8, 6, 4, 3), 2.0)
    assert image[3, 2, 1, 2] == da.isel(column=3, row=2, slice=1, AcquisitionTime=2).compute().item()


def test_sitk_of_a_nifti_file_is_the_same(tmp_path):
    """What SimpleITK reads of the NIfTI file is what it is given directly."""
    da = volume()
    da.dicom.to_nibabel().to_filename(tmp_path / "a.nii.gz")
    read, made = sitk.ReadImage(tmp_path / "a.nii.gz"), da.dicom.to_sitk()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(made))
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(read, get)(), getattr(made, get)(), atol=1e-5)


def test_sitk_of_colour_is_a_vector_image():
    """The samples of a pixel are its components."""
    image = volume(dtype=np.uint8, colour=True).dicom.to_sitk()
    assert (image.GetDimension(), image.GetNumberOfComponentsPerPixel()) == (3, 3)


def test_sitk_takes_masks():
    """A mask of bools is 0 and 1."""
    image = (volume() > 50).dicom.to_sitk()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume() > 50)


def test_sitk_refuses_shear():
    """A tilted stack raises, and the error names the way out."""
    with pytest.raises(GeometryError, match=r"tilted gantry.*to_regular\(\)"):
        volume(step=np.array([0.0, 0.8, 2.4])).dicom.to_sitk()


def test_sitk_takes_flipped_stacks():
    """Slices in decreasing order make a left-handed direction, which SimpleITK holds."""
    da = volume().isel(slice=slice(None, None, -1), row=slice(None, None, -1))
    image = da.dicom.to_sitk()
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((0, 0, 1)), (da.dicom.affine @ [0, 0, 1, 1])[:3])


def test_rounding_is_no_shear():
    """Positions of two decimals leave the normal by less than the tolerance; a tilt of half a degree does not."""
    matrix = np.diag([0.5, 0.5, 2.0, 1.0])
    matrix[0, 2] = 0.0001
    assert not sheared(matrix, 100)
    matrix[0, 2] = 2 * np.tan(np.radians(0.5))
    assert sheared(matrix, 100)


@pytest.mark.parametrize(("method", "package"), [("to_nibabel", "nibabel"), ("to_sitk", "SimpleITK")])
def test_missing_packages_are_named(monkeypatch, method, package):
    """Where the package is not installed, the error says how to install it."""
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPackageError, match=f"pip install {package}"):
        getattr(volume().dicom, method)()
