"""Facts about the stacks that one series holds, and about the parts that `split()` gives."""

from dataclasses import replace

import numpy as np
import pytest
from factories import AXIAL, OBLIQUE, make_series

import xdicom as xd
from xdicom.errors import EditError, StackError
from xdicom.splitting import stacks

SAGITTAL = replace(AXIAL, row_direction=(0.0, 1.0, 0.0), column_direction=(0.0, 0.0, -1.0))
CORONAL = replace(AXIAL, row_direction=(1.0, 0.0, 0.0), column_direction=(0.0, 0.0, -1.0))


def mixed(folder, *stacks_made):
    """Write stacks, each given as options of `make_series`, into one series; return what was made and the series."""
    made = []
    for number, options in enumerate(stacks_made):

        def change(ds, index, first=100 * number):
            ds.SeriesInstanceUID, ds.SeriesDescription = "1.2.3", "mixed"
            ds.InstanceNumber = first + index + 1

        made.append(make_series(folder, name=f"s{number}", change=change, **options))
    (series,) = xd.database(folder).series()
    return made, series


def assert_parts(parts, made):
    """Each part is the array that was written."""
    assert len(parts) == len(made)
    for part, source in zip(parts, made, strict=True):
        da = part.to_xarray()
        order = (*(name for name in da.dims if name in source.dims), "slice", "row", "column")
        extra = [name for name in da.dims if name not in order]
        np.testing.assert_array_equal(da.squeeze(extra, drop=True).transpose(*order), source.values)
        np.testing.assert_allclose(part.affine, source.layout.affine(), atol=1e-4)


def test_localizers_are_three_stacks(tmp_path):
    """A localizer in three planes is parted by orientation."""
    made, series = mixed(tmp_path, {"layout": AXIAL}, {"layout": SAGITTAL}, {"layout": CORONAL, "slices": 2})
    with pytest.raises(StackError, match=r"There are 3 stacks: 3 frames 5 x 6 axial .*split\(\) gives them") as caught:
        series.to_xarray()
    assert "8 frames are in 3 orientations" in str(caught.value)
    assert_parts(series.split(), made)


def test_matrix_sizes_are_stacks(tmp_path):
    """Images of another matrix are another stack."""
    made, series = mixed(tmp_path, {"shape": (6, 5)}, {"shape": (8, 8)})
    assert_parts(series.split(), made)


def test_secondary_captures_among_images(tmp_path):
    """Colour pictures without a position do not hide the volume that they lie among."""
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    made, series = mixed(tmp_path, {}, {"shape": (6, 5, 3), "dtype": "uint8", "slices": 1, **nowhere})
    volume, picture = series.split()
    assert_parts([volume], made[:1])
    np.testing.assert_array_equal(picture.to_xarray(), made[1].values)


def test_stacks_side_by_side(tmp_path):
    """Stacks at the same height beside one another are told apart."""
    beside = replace(AXIAL, origin=(90.0, -20.0, 30.0))
    made, series = mixed(tmp_path, {"layout": AXIAL}, {"layout": beside})
    assert_parts(series.split(), made)


def test_a_map_is_parted_from_images(tmp_path):
    """A map of a diffusion coefficient is parted from the images that it was computed from."""
    made, series = mixed(
        tmp_path,
        {"dims": {"DiffusionBValue": [0.0, 1000.0]}, "layout": OBLIQUE},
        {"ImageType": ["DERIVED", "SECONDARY", "ADC"], "DiffusionBValue": 1000.0, "layout": OBLIQUE},
    )
    with pytest.raises(StackError, match="There are 2 stacks"):
        series.to_xarray()
    images, adc = series.split()
    np.testing.assert_array_equal(images.to_xarray().transpose("b_value", "slice", ...), made[0].values)
    assert_parts([adc], made[1:])


def test_two_echoes_and_a_phase_difference(tmp_path):
    """Magnitude and phase that make no grid are two stacks."""
    made, series = mixed(
        tmp_path,
        {"dims": {"EchoTime": [4.0, 6.0]}},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"], "EchoTime": 6.0, "intercept": -4096.0, "slope": 2.0},
    )
    assert_parts(series.split(), made)


def test_an_interrupted_series_is_one_stack(tmp_path):
    """A volume without its last slices is no stack of its own."""
    made = make_series(tmp_path, 3, {"AcquisitionNumber": [1, 2, 3, 4]})
    made.files[-1].unlink()
    (series,) = xd.database(tmp_path).series()
    assert len(series.split()) == 1
    with pytest.raises(StackError, match="with 1 points left without one: try missing='fill'"):
        series.to_xarray()
    filled = series.to_xarray(missing="fill").transpose("AcquisitionNumber", "slice", ...)
    expected = made.values.astype(np.float32)
    expected[-1, -1] = np.nan
    np.testing.assert_array_equal(filled, expected)


def test_copies_of_files_are_told(tmp_path):
    """A file that is there twice is named as such, and dropped on request."""
    made = make_series(tmp_path, 3, {"EchoTime": [1.0, 2.0]})
    (tmp_path / "again.dcm").write_bytes(made.files[0].read_bytes())
    (series,) = xd.database(tmp_path).series()
    with pytest.raises(StackError, match="1 of them are copies, with the SOPInstanceUID of another"):
        series.to_xarray()
    da = series.to_xarray(duplicates="first").transpose("EchoTime", ...)
    np.testing.assert_array_equal(da, made.values)


def test_one_stack_is_one_part(tmp_path):
    """A series that is one array is not parted."""
    made, series = mixed(tmp_path, {"dims": {"EchoTime": [1.0, 2.0]}})
    assert_parts(series.split(), made)


def test_stacks_of_frames_cover_all_rows(tmp_path):
    """Every frame is in exactly one stack."""
    _, series = mixed(tmp_path, {"layout": AXIAL}, {"layout": SAGITTAL}, {"shape": (9, 9)})
    rows = np.concatenate(stacks(series.frames()))
    np.testing.assert_array_equal(np.sort(rows), np.arange(9))


# -- what a part is


def test_part_reads_like_a_series(tmp_path):
    """Tags, lists of tags, tables and arrays of a part are those of its frames."""
    _, series = mixed(tmp_path, {"layout": AXIAL}, {"layout": SAGITTAL, "slices": 1})
    one = series.split()[1]
    assert one.InstanceNumber == 101
    assert one[["Rows", "Columns"]] == [[6], [5]]
    assert one.ndarray().shape == (5, 6, 1)
    assert len(one.to_pandas("SOPInstanceUID")) == 1
    assert (one.whole, one.study, one.patient) == (series, series.study, series.patient)
    assert repr(one) == "Part: 1 frame 5 x 6 sagittal ORIGINAL\\PRIMARY\\M\\ND"


def test_part_becomes_a_series(tmp_path):
    """A part makes a series of copies in the same study."""
    made, series = mixed(tmp_path, {"layout": AXIAL}, {"layout": SAGITTAL})
    copy = series.split()[1].to_series()
    assert copy.study == series.study
    assert copy != series
    np.testing.assert_array_equal(copy.to_xarray(), made[1].values)


def test_splitting_stages_nothing(tmp_path):
    """Nothing is edited by a split."""
    _, series = mixed(tmp_path, {"layout": AXIAL}, {"layout": SAGITTAL})
    series.split()
    assert series.database.status() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda part: setattr(part, "EchoTime", 5.0),
        lambda part: part.remove(),
        lambda part: part.restore(),
        lambda part: part.save("somewhere"),
        lambda part: part.to_zarr("somewhere"),
    ],
)
def test_part_is_for_reading(tmp_path, change):
    """What would change a part is refused, with the way to a series."""
    _, series = mixed(tmp_path, {})
    with pytest.raises(EditError, match=r"to_series\(\) makes a series of it"):
        change(series.split()[0])
