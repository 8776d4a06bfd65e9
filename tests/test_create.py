"""Facts about xdicom.create: headers, geometry and axis order of series that are made from arrays."""

import subprocess
from pathlib import Path

import dask.array
import numpy as np
import pydicom
import pytest
from conftest import debian_tool
from dciodvfy import complaints, errors
from hypothesis import given
from hypothesis import strategies as st

from xdicom.create import (
    MR_IMAGE,
    dims_of,
    encoded,
    leading_dims,
    new_headers,
    slice_geometry,
    slices_of,
    sop_class,
    synthetic_header,
)
from xdicom.errors import EditError, GeometryError, UnknownTagError
from xdicom.geometry import affine as affine_of
from xdicom.geometry import slice_step
from xdicom.pixelmodule import pixel_module, replace_pixels
from xdicom.quantise import Extent, choose
from xdicom.writer import check_pixel_module, write_file

IPP, IOP, SPACING, LOCATION = 0x00200032, 0x00200037, 0x00280030, 0x00201041
OBLIQUE = np.array([[1.6, -0.54, 0.96, -10], [1.2, 0.72, -1.28, 20], [0, 1.2, 1.2, 30.5], [0, 0, 0, 1]])


def make(folder: Path, array, **options) -> list[Path]:
    """Write an array as new files, as a save does."""
    slices = slices_of(np.asarray(array))
    extent = Extent.of(array)
    q = choose(slices.dtype, extent.low, extent.high, has_nan=extent.has_nan, integral=extent.integral)
    window = (extent.low, extent.high)
    files = []
    leading = slices.shape[:-2]
    headers = new_headers(leading, dims=leading_dims(np.ndim(array)), **options)
    for header, frame in zip(headers, slices.reshape(-1, *slices.shape[-2:]), strict=True):
        with np.errstate(invalid="ignore"):
            codes = np.rint((frame.astype(float) - q.intercept) / q.slope)
        stored = np.where(np.isnan(codes), q.padding or 0, codes).astype(q.dtype)
        bounds = int(stored.min()), int(stored.max())
        module = pixel_module(q, rows=frame.shape[0], columns=frame.shape[1], window=window, extent=bounds)
        elements = replace_pixels(encoded(header, signed=q.signed), module)
        check_pixel_module(elements, *bounds)
        files.append(folder / f"{len(files)}.dcm")
        write_file(files[-1], [(tag, *value) for tag, value in elements.items()], stored.tobytes())
    return files


RANDOM = np.random.default_rng(1)
ARRAYS = {
    "float": RANDOM.normal(size=(3, 6, 5)),
    "nan": np.where(RANDOM.random((2, 6, 5)) < 0.1, np.nan, 1.5),
    "int16": RANDOM.integers(-100, 100, (2, 6, 5)),
    "labels": RANDOM.integers(0, 4, (2, 6, 5)),
    "mask": RANDOM.random((2, 6, 5)) < 0.5,
    "wide": RANDOM.integers(10**6, 10**6 + 99, (2, 6, 5)),
    "tiny": RANDOM.random((2, 6, 5)) * 1e-6,
    "4-D": RANDOM.normal(size=(2, 3, 6, 5)),
}


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARRAYS)
def test_new_files_have_no_errors(tmp_path, name):
    """Dciodvfy finds an MR image and no error in it, whatever the values."""
    for file in make(tmp_path, ARRAYS[name]):
        assert complaints(file)[0] == "MRImage"
        assert errors(file) == set()


def test_new_files_with_values_of_the_caller_have_no_errors(tmp_path):
    """Nor where patient, study and geometry are given."""
    values = {0x00100010: "Zo\u00eb^\u042f", 0x00100020: "P1", 0x00080020: "20221119", 0x0008103E: "T1 map"}
    for file in make(tmp_path, ARRAYS["float"], values=values, affine=OBLIQUE):
        assert errors(file) == set()


def test_integers_give_no_warning_of_a_rescale(tmp_path):
    """Integers have no rescale, which an MR image should not have."""
    assert not [text for _, text in complaints(make(tmp_path, ARRAYS["labels"])[0])[1] if "Rescale" in text]


def test_new_files_are_consistent(tmp_path):
    """Dcentvfy finds nothing to say about the files of one series."""
    tool = debian_tool("dcentvfy", "dicom3tools")
    result = subprocess.run([tool, *make(tmp_path, ARRAYS["4-D"])], capture_output=True, check=False)
    assert result.stdout + result.stderr == b""


def test_pydicom_reads_new_files(tmp_path):
    """Pydicom reads shape, values and text, and warns of nothing."""
    array = np.arange(30).reshape(1, 6, 5)
    ds = pydicom.dcmread(make(tmp_path, array, values={0x00100010: "Zo\u00eb"})[0])
    assert ds.pixel_array.tolist() == array[0].T.tolist()
    assert (ds.Columns, ds.Rows, ds.PatientName) == (6, 5, "Zo\u00eb")


# Headers -------------------------------------------------------------------------------------------------------------


def test_headers_of_a_series():
    """UIDs of study, series and frame of reference are shared, those of instances differ, numbers count from 1."""
    headers = list(new_headers((3,)))
    for tag in (0x0020000D, 0x0020000E, 0x00200052):
        assert len({header[tag] for header in headers}) == 1
    assert len({header[0x00080018] for header in headers}) == 3
    assert [header[0x00200013] for header in headers] == [1, 2, 3]


def test_two_series_have_different_uids():
    """Every call makes new UIDs."""
    assert synthetic_header()[0x0020000E] != synthetic_header()[0x0020000E]


def test_values_of_the_caller_come_first():
    """What the caller gives replaces the defaults; None removes them."""
    header = synthetic_header({0x0020000D: "1.2", 0x00100010: "A", 0x00185100: None})
    assert (header[0x0020000D], header[0x00100010], 0x00185100 in header) == ("1.2", "A", False)


def test_times_are_counted():
    """The first axis of a 4-D array is TemporalPositionIdentifier, from 1; slices run fastest."""
    headers = list(new_headers((2, 3), dims=("TemporalPositionIdentifier", "slice")))
    assert [header[0x00200100] for header in headers] == [1, 1, 1, 2, 2, 2]
    assert {header[0x00200105] for header in headers} == {2}
    assert [header[IPP][2] for header in headers] == [0, 1, 2, 0, 1, 2]


def test_coords_are_laid_over():
    """Coordinates of each image come last."""
    headers = list(new_headers((2, 1), dims=("EchoTime", "slice"), coords=[{0x00180081: 4.6}, {0x00180081: 9.2}]))
    assert [header[0x00180081] for header in headers] == [4.6, 9.2]


def test_a_dim_that_is_no_tag_raises():
    """A dim other than slice has to be a tag."""
    with pytest.raises(UnknownTagError):
        list(new_headers((2, 1), dims=("EchoTimee", "slice")))


@pytest.mark.parametrize("options", [{"dims": ("slice", "EchoTime")}, {"coords": [{}]}, {"dims": ("slice",)}])
def test_lengths_that_do_not_fit_raise(options):
    """Wrong numbers of dims or coordinates raise."""
    with pytest.raises(EditError, match=r"expected one each|don't name"):
        list(new_headers((2, 1), **{"dims": ("EchoTime", "slice")} | options))


@pytest.mark.parametrize("name", ["MRImage", "mri"])
def test_kinds_of_images(name):
    """'MRImage' and 'mri' are MR images."""
    assert sop_class(name) == MR_IMAGE


def test_unknown_kind_raises():
    """There is a synthetic header for MR images only."""
    with pytest.raises(EditError, match="'MRImage'"):
        sop_class("CTImage")


def test_encoding_of_private_elements():
    """A private element is encoded by the VR that its creator gives it."""
    values = encoded({0x00290010: "SIEMENS CSA HEADER", 0x00291008: "IMAGE NUM 4", 0x00280106: -1}, signed=True)
    assert values == {
        0x00280106: ("SS", b"\xff\xff"),
        0x00290010: ("LO", b"SIEMENS CSA HEADER"),
        0x00291008: ("CS", b"IMAGE NUM 4 "),
    }


# Geometry ------------------------------------------------------------------------------------------------------------


def test_default_geometry():
    """Without spacing, slices are axial and 1 mm apart."""
    first, second = slice_geometry(2)
    assert first[IOP] == (1, 0, 0, 0, 1, 0)
    assert (first[IPP], second[IPP]) == ((0, 0, 0), (0, 0, 1))


def test_spacing_is_column_row_slice():
    """Spacing has the order of the affine; PixelSpacing has the rows first."""
    second = slice_geometry(2, spacing=(1, 2, 3))[1]
    assert (second[SPACING], second[IPP], second[0x00180050]) == ((2, 1), (0, 0, 3), 3)


def test_affine_comes_back():
    """The affine of the headers is the one given, also oblique and tilted."""
    for tilt in (0.0, 0.3):
        matrix = OBLIQUE.copy()
        matrix[:3, 2] += tilt * matrix[:3, 1]
        slices = slice_geometry(4, affine=matrix)
        step = slice_step(np.array([s[IPP] for s in slices]))
        found = affine_of(slices[0][IPP], slices[0][IOP], slices[0][SPACING], step)
        assert np.allclose(found, matrix)


@given(st.tuples(*[st.floats(-5, 5)] * 3), st.tuples(*[st.floats(0.1, 10)] * 3))
def test_slice_location_is_position_along_the_normal(origin, spacing):
    """SliceLocation is the position times the normal of the slices, and the gap its difference."""
    matrix = OBLIQUE.copy()
    matrix[:3, :3] = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) * spacing
    matrix[:3, 3] = origin
    slices = slice_geometry(3, affine=matrix)
    normal = np.cross(slices[0][IOP][:3], slices[0][IOP][3:])
    assert [s[LOCATION] for s in slices] == pytest.approx([s[IPP] @ normal for s in slices], abs=1e-9)
    assert abs(slices[1][LOCATION] - slices[0][LOCATION]) == pytest.approx(slices[0][0x00180088])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"spacing": (1, 2)}, "spacing"),
        ({"spacing": 0}, "spacing"),
        ({"spacing": (1, 1, np.nan)}, "spacing"),
        ({"spacing": 1, "affine": np.eye(4)}, "both"),
        ({"affine": np.eye(3)}, "4 x 4"),
        ({"affine": np.full((4, 4), np.nan)}, "4 x 4"),
        ({"affine": np.diag([1, 1, 0, 1])}, "singular"),
        ({"affine": np.eye(4)[[0, 1, 1, 3]]}, "singular"),
        ({"affine": np.eye(4) + np.eye(4)[[3, 0, 3, 3]] * [[0], [1], [0], [0]]}, "right angles"),
    ],
)
def test_impossible_geometry_raises(options, text):
    """What DICOM can't hold raises."""
    with pytest.raises(GeometryError, match=text):
        slice_geometry(2, **options)


# Axes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dims", "expected"),
    [
        ((128, 192), None, (1, 192, 128)),
        ((10, 128, 192), None, (10, 192, 128)),
        ((4, 10, 128, 192), None, (4, 10, 192, 128)),
        ((128, 192, 10), ("x", "y", "z"), (10, 192, 128)),
        ((10, 192, 128), ("slice", "row", "column"), (10, 192, 128)),
        ((10, 3, 192, 128), ("slice", "EchoTime", "row", "column"), (3, 10, 192, 128)),
        ((3, 192, 128), ("EchoTime", "row", "column"), (3, 1, 192, 128)),
        ((10, 192, 128, 3), ("slice", "row", "column", "sample"), (10, 192, 128, 3)),
    ],
)
@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_order_of_axes(shape, dims, expected, kind):
    """Arrays are read as (times, slices, columns, rows), or as named, and come out as (..., slice, row, column)."""
    array = np.zeros(shape) if kind == "numpy" else dask.array.zeros(shape)
    result = slices_of(array, dims)
    assert result.shape == expected
    assert type(result) is type(array)


def test_slices_are_not_copied():
    """The result is a view."""
    array = np.zeros((2, 3, 4))
    assert np.shares_memory(slices_of(array), array)


def test_names_of_leading_axes():
    """The leading axes are tags, with slice as the last."""
    assert leading_dims(4) == ("TemporalPositionIdentifier", "slice")
    assert leading_dims(3, ("EchoTime", "y", "x")) == ("EchoTime", "slice")


@pytest.mark.parametrize(
    ("ndim", "dims"), [(5, None), (1, None), (3, ("x", "y")), (3, ("x", "x", "y")), (3, ("a", "b", "row"))]
)
def test_axes_that_can_not_be_told_raise(ndim, dims):
    """Other numbers of axes need names, which have to fit."""
    with pytest.raises(EditError, match="dims="):
        dims_of(ndim, dims)
