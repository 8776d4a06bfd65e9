"""Facts about the dims of series as scanners write them: the array that comes out, or the error, voxel by voxel."""

from dataclasses import replace

import numpy as np
import pytest
from factories import AXIAL, OBLIQUE, make_enhanced, make_image, make_series

import xdicom as xd
from xdicom.errors import StackError

SAGITTAL = replace(AXIAL, row_direction=(0.0, 1.0, 0.0), column_direction=(0.0, 0.0, -1.0))
SLICES = 4
DIRECTIONS = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.8, 0.0), (0.0, 0.6, 0.8)]
UNWEIGHTED = 2
VOLUMES = UNWEIGHTED + len(DIRECTIONS)


def only(folder):
    """Return the only series of a folder."""
    (series,) = xd.database(folder).series()
    return series


def philips(ds, b_value, direction):
    """Write a b-value and a direction as the standard does."""
    ds.DiffusionBValue, ds.DiffusionGradientOrientation = float(b_value), list(direction or (0.0, 0.0, 0.0))


def siemens(ds, b_value, direction):
    """Write them as Siemens does; images without weighting have no direction."""
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", str(b_value))
    if direction:
        block.add_new(0x0E, "FD", list(direction))


def ge(ds, b_value, direction):
    """Write them as GE does, without times."""
    ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", [str(b_value), "8", "0", "0"])
    block = ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for element, part in zip((0xBB, 0xBC, 0xBD), direction or (0.0, 0.0, 0.0), strict=True):
        block.add_new(element, "DS", f"{part:.6f}")
    for keyword in ("AcquisitionTime", "AcquisitionNumber"):
        ds.pop(keyword, None)


def diffusion(folder, vendor, *, slice_by_slice=False, shuffled=False, derived=None):
    """Write volumes of diffusion-weighted images; the first ones have no weighting, and the last one is derived."""
    volumes = VOLUMES + (derived is not None)

    def change(ds, index):
        volume, position = divmod(index, SLICES)
        turn = (volume + position) % volumes if shuffled else volume
        ds.InstanceNumber = position * volumes + volume + 1 if slice_by_slice else index + 1
        ds.AcquisitionTime = f"1015{2 * turn:02d}.{position:03d}000"
        if volume == VOLUMES:
            ds.ImageType = derived
        elif volume < UNWEIGHTED:
            vendor(ds, 0, None)
        else:
            vendor(ds, 1000, DIRECTIONS[volume - UNWEIGHTED])

    return make_series(folder, SLICES, {"AcquisitionNumber": list(range(1, volumes + 1))}, change=change)


@pytest.mark.parametrize("slice_by_slice", [False, True])
@pytest.mark.parametrize("vendor", [philips, siemens, ge])
def test_diffusion_of_vendors_is_volumes(tmp_path, vendor, slice_by_slice):
    """Repeated images without weighting and directions are volumes, in the order in which they were taken."""
    made = diffusion(tmp_path, vendor, slice_by_slice=slice_by_slice)
    da = only(tmp_path).to_xarray()
    np.testing.assert_array_equal(da.transpose("volume", "slice", ...), made.values)
    expected = [0] * UNWEIGHTED + [1000] * len(DIRECTIONS)
    np.testing.assert_array_equal(da.b_value.transpose("volume", ...), expected)


@pytest.mark.parametrize("vendor", [philips, siemens])
def test_directions_keep_slices_together(tmp_path, vendor):
    """Where each slice has its directions in another order of time, volumes follow the directions."""
    made = diffusion(tmp_path, vendor, shuffled=True)
    da = only(tmp_path).to_xarray().transpose("volume", "slice", ...)
    weighted = [volume.values for volume in da if float(volume.b_value) > 0]
    np.testing.assert_array_equal(weighted, made.values[UNWEIGHTED:])


@pytest.mark.parametrize("vendor", [philips, siemens, ge])
def test_a_map_appended_to_diffusion_is_split_off(tmp_path, vendor):
    """A map of the diffusion coefficient at the end is no volume of the series."""
    made = diffusion(tmp_path, vendor, derived=["DERIVED", "SECONDARY", "ADC", "NONE"])
    series = only(tmp_path)
    with pytest.raises(StackError, match=r"There are 2 stacks: .* split\(\) gives them"):
        series.to_xarray()
    images, adc = series.split()
    np.testing.assert_array_equal(images.to_xarray().transpose("volume", "slice", ...), made.values[:-1])
    np.testing.assert_array_equal(adc.to_xarray(), made.values[-1])


def over_time(folder, **tags):
    """Write three volumes whose slices each have a time of their own, odd ones first."""

    def change(ds, index):
        volume, position = divmod(index, SLICES)
        ds.AcquisitionTime = f"1015{3 * volume + position % 2:02d}.{position:03d}000"

    return make_series(folder, SLICES, {"AcquisitionNumber": [1, 1, 1]}, change=change, **tags)


def test_times_of_interleaved_slices_are_ranked(tmp_path):
    """Slices that were taken one after the other have times of their own, which count volumes."""
    made = over_time(tmp_path)
    da = only(tmp_path).to_xarray()
    assert da.dims[:2] == ("slice", "AcquisitionTime_index")
    np.testing.assert_array_equal(da.transpose("AcquisitionTime_index", "slice", ...), made.values)
    assert da.AcquisitionTime.shape == (SLICES, 3)


def test_an_interrupted_series_names_the_way_out(tmp_path):
    """Without its last slices a series raises; missing="fill" puts NaN there and nowhere else."""
    made = over_time(tmp_path)
    for path in made.files[-2:]:
        path.unlink()
    series = only(tmp_path)
    with pytest.raises(StackError, match="2 points left without one: try missing='fill'"):
        series.to_xarray()
    expected = made.values.astype(np.float32)
    expected[-1, -2:] = np.nan
    np.testing.assert_array_equal(series.to_xarray(missing="fill").transpose("volume", "slice", ...), expected)


def test_a_lost_file_in_the_middle_shifts_nothing(tmp_path):
    """Where a file of the second volume is lost, those after it stay in theirs."""
    made = over_time(tmp_path)
    made.files[SLICES + 1].unlink()
    with pytest.raises(StackError, match="missing='fill'"):
        only(tmp_path).to_xarray()
    expected = made.values.astype(np.float32)
    expected[1, 1] = np.nan
    np.testing.assert_array_equal(only(tmp_path).to_xarray(missing="fill").transpose("volume", "slice", ...), expected)


def test_a_slice_that_was_taken_twice(tmp_path):
    """A repeated slice raises; duplicates="first" keeps the earlier one."""

    def change(ds, index):
        if index == SLICES:
            ds.ImagePositionPatient = OBLIQUE.position(1)

    made = make_series(tmp_path, SLICES + 1, change=change)
    with pytest.raises(StackError, match="try duplicates='first'"):
        only(tmp_path).to_xarray()
    np.testing.assert_array_equal(only(tmp_path).to_xarray(duplicates="first"), made.values[:SLICES])


def test_magnitude_and_phase_of_echoes(tmp_path):
    """Echoes, each with magnitude and phase, have both as dims."""

    def change(ds, index):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "MP"[index // 3 % 2], "ND"]

    made = make_series(tmp_path, 3, {"EchoTime": [1.0, 2.0, 3.0], "NumberOfAverages": [1, 1]}, change=change)
    da = only(tmp_path).to_xarray().transpose("EchoTime", "image_type", "slice", ...)
    assert list(da.image_type.values) == ["MAGNITUDE", "PHASE"]
    np.testing.assert_array_equal(da, made.values)


def test_captures_of_the_screen_among_images(tmp_path):
    """Secondary captures in colour, without a place, are parted from the volume."""
    made = make_series(tmp_path, SLICES)
    uid = only(tmp_path).SeriesInstanceUID.item()
    study = only(tmp_path).StudyInstanceUID.item()
    screens = np.random.default_rng(0).integers(0, 255, (2, 9, 8, 3), dtype=np.uint8)
    for number, screen in enumerate(screens):
        tags = {"SeriesInstanceUID": uid, "StudyInstanceUID": study, "InstanceNumber": 90 + number}
        make_image(tmp_path / f"screen{number}.dcm", screen, **tags)
    db = xd.database(tmp_path)
    db.rescan()
    (series,) = db.series()
    with pytest.raises(StackError, match=r"split\(\) gives them"):
        series.to_xarray()
    volume, captured = series.split()
    np.testing.assert_array_equal(volume.to_xarray(), made.values)
    np.testing.assert_array_equal(captured.to_xarray(), screens)


# -- enhanced multi-frame


def test_frames_of_an_enhanced_file_in_any_order(tmp_path):
    """The order of frames in the file does not matter."""
    order = np.random.default_rng(1).permutation(12)
    made = make_enhanced(tmp_path / "a.dcm", 4, {"FlipAngle": [5.0, 10.0, 15.0]}, order=order)
    da = only(tmp_path).to_xarray().transpose("FlipAngle", "slice", ...)
    np.testing.assert_array_equal(da, made.values)


def test_a_private_dimension_is_no_matter(tmp_path):
    """A dimension that points to a private element does not hide the others."""
    from pydicom.dataset import Dataset

    def change(ds):
        item = Dataset()
        item.DimensionIndexPointer, item.FunctionalGroupPointer = 0x2005140F, 0x2005140F
        item.DimensionIndexPrivateCreator = "Philips MR Imaging DD 005"
        ds.DimensionIndexSequence = [item]

    made = make_enhanced(tmp_path / "a.dcm", 4, {"FlipAngle": [5.0, 10.0]}, change=change)
    np.testing.assert_array_equal(only(tmp_path).to_xarray().transpose("FlipAngle", ...), made.values)


def test_stacks_of_an_enhanced_file(tmp_path):
    """Two stacks of one file in different planes come one by one."""

    def change(ds):
        for number, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
            second = number >= 3
            if second:
                item.PlaneOrientationSequence = [type(ds)()]
                item.PlaneOrientationSequence[0].ImageOrientationPatient = SAGITTAL.orientation()
                item.PlanePositionSequence[0].ImagePositionPatient = SAGITTAL.position(number - 3)
            item.FrameContentSequence[0].StackID = str(1 + second)

    made = make_enhanced(tmp_path / "a.dcm", 6, layout=AXIAL, change=change)
    with pytest.raises(StackError, match="There are 2 stacks: 3 frames 5 x 6 axial"):
        only(tmp_path).to_xarray()
    for part, values in zip(only(tmp_path).split(), (made.values[:3], made.values[3:]), strict=True):
        np.testing.assert_array_equal(part.to_xarray(), values)


def test_several_enhanced_files_are_one_array(tmp_path):
    """Files that each hold a volume make a dim of what tells them apart."""
    made = []
    for number in (1, 2, 3):
        path = tmp_path / f"{number}.dcm"
        tags = {"InstanceNumber": number, "SeriesInstanceUID": "1.2.3", "AcquisitionNumber": number}
        made.append(make_enhanced(path, 4, name=f"f{number}", **tags).values)
    da = only(tmp_path).to_xarray()
    assert da.sizes["slice"] == 4
    np.testing.assert_array_equal(da.transpose("AcquisitionNumber", "slice", ...), made)


@pytest.mark.parametrize("sign", [1, -1])
def test_decubitus_and_flipped_stacks(tmp_path, sign):
    """Any orientation gives slices ascending along its normal, and an affine through the positions."""
    layout = replace(AXIAL, row_direction=(0.0, float(sign), 0.0), column_direction=(-1.0, 0.0, 0.0))
    made = make_series(tmp_path, SLICES, layout=layout)
    da = only(tmp_path).to_xarray()
    np.testing.assert_array_equal(da, made.values)
    np.testing.assert_allclose(da.dicom.affine, layout.affine(), atol=1e-5)


def test_twelve_bits_with_others_above_them(tmp_path):
    """Bits above BitsStored are no part of values."""
    pixels = np.random.default_rng(2).integers(0, 2**12, (SLICES, 6, 5)).astype(np.uint16)

    def change(ds, index):
        ds.PixelData = (pixels[index] | 0xA000).tobytes()

    make_series(tmp_path, SLICES, bits_stored=12, pixels=pixels, change=change)
    np.testing.assert_array_equal(only(tmp_path).to_xarray(), pixels)
