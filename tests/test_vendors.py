"""Slices side by side in one picture: Siemens mosaics and UIH grids become slices at their true places."""

import copy
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pydicom
import pytest
import xarray as xr
from factories import AXIAL, OBLIQUE, SYNTAXES, Layout, write, write_compressed
from mosaics import centres, csa1, csa2, grid, make_slices, mosaic, protocol
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

import xdicom as xd
from xdicom.errors import PixelError, StaleError
from xdicom.header import read_header
from xdicom.source import Source
from xdicom.vendors import Tiling, tiling_of

LAYOUTS = {"axial": AXIAL, "oblique": OBLIQUE}
POSITIONS = ("ImagePositionPatient_x", "ImagePositionPatient_y", "ImagePositionPatient_z")


def positions(da: xr.DataArray) -> np.ndarray:
    """Return ImagePositionPatient of each slice of an array, shape (slices, 3)."""
    return np.stack([np.broadcast_to(da[name], da.sizes["slice"]) for name in POSITIONS], axis=1)


def by_tiling(ds: Dataset, path: Path) -> Tiling | None:
    """Return what a file says of the slices in it."""
    with Source(write(path, ds)) as source:
        return tiling_of(read_header(source))


# -- Siemens


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("count", [2, 4, 5, 9, 11])
def test_mosaic_becomes_slices(count: int, layout: Layout, written: Any) -> None:
    """One picture gives all its slices and no empty tile, each with its pixels and its position."""
    slices = make_slices(count)
    da = written(mosaic(slices, layout=layout)).to_xarray()
    assert da.dims == ("slice", "row", "column")
    np.testing.assert_array_equal(da.values, slices)
    np.testing.assert_allclose(positions(da), [layout.position(i) for i in range(count)], atol=1e-6)


def test_affine_of_a_mosaic(written: Any) -> None:
    """The affine is that of the slices."""
    series = written(mosaic(make_slices(5), layout=OBLIQUE))
    np.testing.assert_allclose(series.affine, OBLIQUE.affine(), atol=1e-6)


def test_slices_against_the_normal(written: Any) -> None:
    """Where SliceNormalVector points the other way, so do the positions; the array is ascending all the same."""
    slices = make_slices(4)
    da = written(mosaic(slices, layout=OBLIQUE, reverse=True)).to_xarray()
    np.testing.assert_array_equal(da.values, slices[::-1])
    np.testing.assert_allclose(positions(da), [OBLIQUE.position(-i) for i in (3, 2, 1, 0)], atol=1e-6)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_mosaic_in_native_syntaxes(syntax: str, written: Any) -> None:
    """Little and big endian, implicit and deflated pictures give the same slices."""
    slices = make_slices(7)
    ds = mosaic(slices)
    if syntax == "big":
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    series = written(ds, syntax=syntax)
    np.testing.assert_array_equal(series.to_xarray().values, slices)
    np.testing.assert_array_equal(series.to_xarray().isel(slice=3, row=slice(1, 4)).values, slices[3, 1:4])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_mosaic_in_compressed_syntaxes(syntax: str, tmp_path: Path) -> None:
    """A compressed picture is taken apart after it is decoded."""
    slices = make_slices(7, 24, 20)
    write_compressed(tmp_path / "in" / "a.dcm", mosaic(slices), syntax)
    series = xd.database(tmp_path / "in").series()[0]
    np.testing.assert_array_equal(series.to_xarray().values, slices)


def test_volumes_over_time(written: Any) -> None:
    """Several mosaics are several volumes, told apart by what differs between files."""
    slices = [make_slices(4, seed=seed) for seed in range(3)]
    times = [mosaic(each, number=i + 1, AcquisitionNumber=i + 1) for i, each in enumerate(slices)]
    da = written(*times).to_xarray(dims=("AcquisitionNumber", "slice"))
    np.testing.assert_array_equal(da.values, slices)


def test_any_part_of_a_slice(written: Any) -> None:
    """Steps, flips, single rows and columns count within the slice."""
    slices = make_slices(5)
    da = written(mosaic(slices)).to_xarray()
    for key in [
        (slice(None), slice(None, None, -1), slice(None, None, -1)),
        (2, slice(4, None, -2), slice(0, 3)),
        (slice(1, 4), 5, 4),
        (-1, slice(1, 2), slice(3, 0, -1)),
    ]:
        np.testing.assert_array_equal(da[key].values, slices[key])


def test_rows_and_columns_are_those_of_a_slice(written: Any) -> None:
    """A frame is a slice, and so Rows, Columns and SliceLocation are the slice's."""
    series = written(mosaic(make_slices(5, 6, 8)))
    assert (series.Rows, series.Columns, len(series.frames())) == (6, 8, 5)
    assert series.SliceLocation == [30, 34, 38, 42, 46]


def test_times_of_slices(written: Any) -> None:
    """MosaicRefAcqTimes is a column with the time of each slice."""
    series = written(mosaic(make_slices(4)))
    times = series.frames()["SIEMENS MR HEADER", 0x19, 0x29]
    np.testing.assert_allclose(times, [0, 3 * 100.5, 2 * 100.5, 100.5])


def test_first_version_of_the_header(written: Any) -> None:
    """Old CSA headers are read as new ones are."""
    slices = make_slices(4)
    ds = mosaic(slices)
    said = {"A": ["1", "2"], "NumberOfImagesInMosaic": ["4"], "SliceNormalVector": ["0", "0", "1"]}
    ds[0x0029, 0x1010].value = csa1(said)
    del ds[0x0019, 0x100A]
    np.testing.assert_array_equal(written(ds).to_xarray().values, slices)


def test_header_in_another_block(written: Any) -> None:
    """The CSA header is found by its private creator, wherever that put it."""
    slices = make_slices(4)
    ds = mosaic(slices, csa_header=False)
    ds.private_block(0x0029, "SIEMENS MEDCOM HEADER", create=True).add_new(0x10, "OB", b"else")
    said = {"NumberOfImagesInMosaic": ["4"], "SliceNormalVector": ["0", "0", "1"]}
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa2(said))
    np.testing.assert_array_equal(written(ds).to_xarray().values, slices)


def test_normal_from_the_protocol(written: Any) -> None:
    """Without SliceNormalVector the protocol tells in which direction slices follow, if it agrees with the position."""
    slices = make_slices(4)
    text = protocol(centres(OBLIQUE, slices, reverse=True))
    da = written(mosaic(slices, layout=OBLIQUE, csa={"SliceNormalVector": []}, series=text)).to_xarray()
    np.testing.assert_allclose(positions(da), [OBLIQUE.position(-i) for i in (3, 2, 1, 0)], atol=1e-6)


def test_spacing_from_the_protocol(written: Any) -> None:
    """Without SpacingBetweenSlices it is the protocol's, never SliceThickness, which leaves out the gap."""
    slices = make_slices(4)
    series = written(mosaic(slices, series=protocol(centres(AXIAL, slices)), SpacingBetweenSlices=None))
    np.testing.assert_allclose(series.affine, AXIAL.affine(), atol=1e-6)


def test_mosaic_without_csa_header(written: Any) -> None:
    """NumberOfImagesInMosaic alone, with the protocol of XA scanners, is enough."""
    slices = make_slices(4)
    ds = mosaic(slices, csa_header=False)
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 4)
    text = protocol(centres(AXIAL, slices))
    ds.private_block(0x0021, "SIEMENS MR SDS 01", create=True).add_new(0x19, "OB", text + b" " * (len(text) % 2))
    series = written(ds)
    np.testing.assert_array_equal(series.to_xarray().values, slices)
    np.testing.assert_allclose(series.affine, AXIAL.affine(), atol=1e-6)


# -- what is wrong


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"csa": {"SliceNormalVector": []}},
            "SliceNormalVector or SpacingBetweenSlices is missing, and there is no prot",
        ),
        ({"csa": {"SliceNormalVector": ["nan", "0", "1"]}}, r"SliceNormalVector is \[nan, 0.0, 1.0\]"),
        ({"csa": {"SliceNormalVector": ["1e999", "0", "1"]}}, "SliceNormalVector is"),
        ({"csa": {"SliceNormalVector": ["1", "0", "0"]}}, "is not at right angles to ImageOrientationPatient"),
        ({"csa": {"SliceNormalVector": ["0", "0", "0"]}}, "is not at right angles to ImageOrientationPatient"),
        ({"csa": {"SliceNormalVector": ["0", "0"]}}, "expected three numbers"),
        ({"SpacingBetweenSlices": 0}, "SpacingBetweenSlices is 0, expected more than 0"),
        ({"SpacingBetweenSlices": -4}, "SpacingBetweenSlices is -4, expected more than 0"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient is missing, or not 3 numbers"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not at a right angle"),
        ({"PixelSpacing": None}, "PixelSpacing is missing"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing is"),
        ({"csa": {"SliceNormalVector": []}, "series": protocol([[0, 0, 1]] * 3)}, "the protocol names 3 slices for 4"),
        (
            {"csa": {"SliceNormalVector": []}, "series": protocol([[0, 0, i] for i in range(4)])},
            "the protocol has other positions",
        ),
        (
            {"csa": {"SliceNormalVector": []}, "series": protocol([[0, 0, 1], [0, 0, 2], [0, 0, 4], [0, 0, 5]])},
            "slices in the protocol are uneven",
        ),
    ],
)
def test_slices_without_positions(change: Any, text: str, written: Any) -> None:
    """Where a position cannot be known, slices have none: they are read, and the reason is among the problems."""
    slices = make_slices(4)
    series = written(mosaic(slices, **change))
    (problem,) = series.problems()
    assert re.match(f"the slices of the mosaic have no positions: .*{text}", problem.reason)
    da = series.to_xarray()
    np.testing.assert_array_equal(da.values, slices)
    assert not any(name in da.coords for name in POSITIONS)
    assert series.ImagePositionPatient == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"csa": {"NumberOfImagesInMosaic": ["1000000000"]}}, "is 1e\\+09 and 4 in one file"),
        ({"csa": {"NumberOfImagesInMosaic": ["9"]}}, "is 9 and 4 in one file"),
        ({"csa": {"NumberOfImagesInMosaic": ["four"]}}, "is nan and 4 in one file"),
        ({"csa_header": False, "AcquisitionMatrix": None}, "nothing says of how many slices"),
        ({"csa_header": False}, r"nothing says of how many slices: there is no CSA header \(0029,1010\)"),
    ],
)
def test_lying_mosaic_is_refused(change: Any, text: str, written: Any) -> None:
    """A picture that cannot be taken apart for sure is no array: it raises with the reason, and is a problem."""
    series = written(mosaic(make_slices(4), **change))
    with pytest.raises(PixelError, match=text):
        series.to_xarray()
    assert len(series.problems()) == 1
    assert len(series.frames()) == 1


@pytest.mark.parametrize("count", ["1000000000", "17", "-3", "0.5", "nan", "1e999", "x"])
def test_number_of_slices_that_cannot_be(count: str, written: Any) -> None:
    """A number of slices that the picture cannot hold is refused before anything is allocated."""
    ds = mosaic(make_slices(4))
    ds[0x0029, 0x1010].value = csa2({"NumberOfImagesInMosaic": [count], "SliceNormalVector": ["0", "0", "1"]})
    del ds[0x0019, 0x100A]
    series = written(ds)
    with pytest.raises(PixelError, match=r"is made of|expected a whole number above 0"):
        series.to_xarray()


def test_damaged_csa_header_is_refused(written: Any) -> None:
    """Junk in place of the CSA header says so."""
    ds = mosaic(make_slices(4))
    ds[0x0029, 0x1010].value = b"junk" * 30
    with pytest.raises(PixelError, match="ImageType says MOSAIC, but the CSA header announces"):
        written(ds).to_xarray()


def test_remnant_of_a_mosaic_is_one_slice(written: Any) -> None:
    """MOSAIC stays in ImageType where a mosaic was taken apart; the CSA header, or the matrix, tells that it was."""
    slices = make_slices(2)
    plain = [mosaic(each[None], number=i + 1, csa_header=False) for i, each in enumerate(slices)]
    for ds, i in zip(plain, range(2), strict=True):
        ds.ImagePositionPatient = AXIAL.position(i)
    da = written(*plain).to_xarray()
    np.testing.assert_array_equal(da.values, slices)


def test_slice_that_kept_the_header_of_its_mosaic(written: Any) -> None:
    """An image as small as what was acquired is one slice, whatever its CSA header says of the mosaic it came from."""
    slices = make_slices(1, 12, 12)
    ds = mosaic(slices, csa={"NumberOfImagesInMosaic": ["4"]}, ImagePositionPatient=[1, 2, 3])
    ds[0x0019, 0x100A].value = 4
    da = written(ds).to_xarray()
    np.testing.assert_array_equal(da.values, slices)
    np.testing.assert_array_equal(positions(da), [[1, 2, 3]])


def test_mosaic_whose_type_was_rewritten(written: Any) -> None:
    """A mosaic is one though its ImageType no longer says so, if NumberOfImagesInMosaic and the matrix do."""
    slices = make_slices(4)
    times = [mosaic(slices, ImageType=["DERIVED", "PRIMARY", "M"], number=i + 1) for i in range(3)]
    series = written(*times)
    assert len(series.frames()) == 12
    np.testing.assert_allclose(series.affine, AXIAL.affine(), atol=1e-6)


def test_derived_slice_with_the_element_of_a_mosaic(written: Any) -> None:
    """An image that kept NumberOfImagesInMosaic, without the ImageType of one, is what it looks like."""
    slices = make_slices(1, 12, 12)
    ds = mosaic(slices, ImageType=["DERIVED", "SECONDARY"])
    ds[0x0019, 0x100A].value = 4
    np.testing.assert_array_equal(written(ds).to_xarray().values, slices)


def test_way_out_of_a_lost_header(written: Any) -> None:
    """A mosaic without its private elements becomes one picture where ImageType is edited, as the error says."""
    ds = mosaic(make_slices(4), csa_header=False)
    series = written(ds)
    with pytest.raises(PixelError, match="or set ImageType without it to have one picture"):
        series.to_xarray()
    series.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    series.save()
    np.testing.assert_array_equal(series.to_xarray().values[0], ds.pixel_array)


def test_csa_header_that_names_no_mosaic(written: Any) -> None:
    """A CSA header without NumberOfImagesInMosaic is that of one slice."""
    ds = mosaic(make_slices(1, 12, 12), csa={"NumberOfImagesInMosaic": []})
    del ds[0x0019, 0x100A]
    ds.AcquisitionMatrix = [4, 0, 0, 4]
    assert written(ds).to_xarray().shape == (1, 12, 12)


def test_multi_frame_file_is_no_mosaic(written: Any) -> None:
    """XA scanners leave MOSAIC in files whose frames are slices already."""
    slices = make_slices(4)
    ds = mosaic(make_slices(4), csa_header=False, NumberOfFrames=4)
    ds.Rows, ds.Columns = slices.shape[1:]
    ds.PixelData = slices.tobytes()
    assert written(ds).to_xarray(dims=("frame",)).shape == slices.shape


def test_moved_tiles_are_stale(written: Any) -> None:
    """An array that was opened before its file became another mosaic raises, and reads no wrong slice."""
    ds = mosaic(make_slices(4, 6, 6))
    series = written(ds)
    da = series.to_xarray()
    other = mosaic(make_slices(9, 4, 4))
    other.SOPInstanceUID = ds.SOPInstanceUID
    write(Path(series.frames().locations.path(0)), other)
    with pytest.raises(StaleError, match="the slice lies elsewhere in the picture"):
        da.compute()


# -- United Imaging


@pytest.mark.parametrize("count", [2, 3, 5, 7, 9])
def test_grid_becomes_slices(count: int, written: Any) -> None:
    """A UIH grid has as few rows of slices as are needed, and the position of each slice in a sequence."""
    slices = make_slices(count)
    da = written(grid(slices, layout=OBLIQUE)).to_xarray()
    np.testing.assert_array_equal(da.values, slices)
    np.testing.assert_allclose(positions(da), [OBLIQUE.position(i) for i in range(count)], atol=1e-6)


@pytest.mark.parametrize("syntax", ["implicit", "big", "deflated"])
def test_grid_in_native_syntaxes(syntax: str, written: Any) -> None:
    """The sequence of slices is read from any encoding."""
    slices = make_slices(5)
    ds = grid(slices)
    if syntax == "big":
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    series = written(ds, syntax=syntax)
    np.testing.assert_array_equal(series.to_xarray().values, slices)
    np.testing.assert_allclose(series.affine, AXIAL.affine(), atol=1e-6)


def test_times_in_a_grid(written: Any) -> None:
    """Each slice of a grid has its own AcquisitionTime."""
    assert written(grid(make_slices(3))).AcquisitionTime == [36900.5, 36901.5, 36902.5]


@pytest.mark.parametrize("count", ["1000000000", "0", "x", "2.5", "50"])
def test_lying_grid_is_refused(count: str, written: Any) -> None:
    """A number of slices that the picture cannot hold is refused."""
    ds = grid(make_slices(5, 7, 7))
    ds[0x0065, 0x1050]._value = count
    with pytest.raises(PixelError, match=r"is made of|expected a whole number above 0"):
        written(ds).to_xarray()


def test_grid_without_its_number_of_slices(written: Any) -> None:
    """A grid that lost its private elements is refused, unless it is as small as one slice."""
    ds = grid(make_slices(5, 6, 6), AcquisitionMatrix=[6, 0, 0, 6])
    for tag in ((0x0065, 0x1050), (0x0065, 0x1051), (0x0065, 0x0010)):
        del ds[tag]
    with pytest.raises(PixelError, match="ImageType says VFRAME, but nothing says of how many slices"):
        written(ds).to_xarray()


@pytest.mark.parametrize("change", ["fewer", "none", "unplaced"])
def test_grid_without_positions(change: str, written: Any) -> None:
    """A sequence that does not fit leaves the slices without positions, and says so."""
    slices = make_slices(5)
    ds = grid(slices)
    if change == "fewer":
        del ds[0x0065, 0x1051].value[0]
    elif change == "none":
        del ds[0x0065, 0x1051]
    else:
        del ds[0x0065, 0x1051].value[2].ImagePositionPatient
    series = written(ds)
    assert series.problems()[0].reason.startswith("the slices of the grid have no positions: ")
    np.testing.assert_array_equal(series.to_xarray().values, slices)


# -- real mosaics

REAL = ["siemens-mosaic-fmri", "siemens-mosaic-nine-syntaxes", "siemens-axial-orders"]


@pytest.mark.parametrize("name", REAL)
def test_real_mosaics_agree_with_nibabel(name: str, real_copy: Any) -> None:
    """Every voxel and every position is that of nibabel's MosaicWrapper."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrappers = pytest.importorskip("nibabel.nicom.dicomwrappers", reason="nibabel is not installed")
    folder = real_copy(name)
    compared = 0
    for series in xd.database(folder).series():
        frames = series.frames()
        for file in np.unique(frames.file):
            part = frames.take(np.flatnonzero(frames.file == file))
            wrapper = wrappers.wrapper_from_data(pydicom.dcmread(part.locations.path(0)))
            read = np.empty((len(part), *part.locations.frame_shape()), part.locations.dtype())
            part.locations.read(np.arange(len(part)), read)
            np.testing.assert_array_equal(read, wrapper.get_data().transpose(2, 0, 1))
            expected = [(wrapper.affine @ [0, 0, i, 1])[:3] for i in range(len(part))]
            np.testing.assert_allclose(part["ImagePositionPatient"], expected, atol=1e-6)
            compared += 1
    assert compared == {"siemens-mosaic-fmri": 6, "siemens-mosaic-nine-syntaxes": 9, "siemens-axial-orders": 14}[name]


def test_diffusion_mosaics_of_nibabel(nibabel_gunzipped: list[Path], tmp_path: Path) -> None:
    """Mosaics that nibabel ships, with fields that are not square to the patient, agree with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrappers = pytest.importorskip("nibabel.nicom.dicomwrappers", reason="nibabel is not installed")
    found = [path for path in nibabel_gunzipped if path.name.startswith("siemens_dwi")]
    assert len(found) == 2
    for path in found:
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copyfile(path, folder / "a.dcm")
        series = xd.database(folder).series()[0]
        wrapper = wrappers.wrapper_from_data(pydicom.dcmread(path))
        np.testing.assert_array_equal(series.to_xarray(rescale=False).values, wrapper.get_data().transpose(2, 0, 1))
        expected = [(wrapper.affine @ [0, 0, i, 1])[:3] for i in range(wrapper.image_shape[2])]
        np.testing.assert_allclose(np.sort(series.frames()["ImagePositionPatient"], 0), np.sort(expected, 0), atol=1e-3)
        assert len(series.b_value) == 1


@pytest.mark.parametrize("name", ["axdesc36", "axint35", "axasc35"])
def test_real_order_of_slices_is_in_the_times(name: str, real_copy: Any) -> None:
    """Ascending, descending and interleaved scans have the same positions and other times of slices."""
    series = xd.database(real_copy("siemens-axial-orders") / name).series()[0]
    frames = series.frames()
    first = frames.take(np.flatnonzero(frames.file == 0))
    times = first["SIEMENS MR HEADER", 0x19, 0x29]
    steps = np.sign(np.diff(times[np.argsort(first["SliceLocation"])]))
    assert {"axdesc36": (steps < 0).all(), "axasc35": (steps > 0).all(), "axint35": len(set(steps)) == 2}[name]


def test_real_normal_agrees_with_the_protocol(real_copy: Any) -> None:
    """The protocol alone gives the positions that SliceNormalVector gives."""
    folder = real_copy("siemens-axial-orders")
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[::2]:
        ds = pydicom.dcmread(path)
        whole = by_tiling(ds, folder / "whole.dcm")
        blind = copy.deepcopy(ds)
        blind[0x0029, 0x1010].value = blind[0x0029, 0x1010].value.replace(b"SliceNormalVector", b"NoNormalVector\0\0\0")
        found = by_tiling(blind, folder / "blind.dcm")
        assert whole is not None
        assert found is not None
        assert found.problem == ""
        for one, other in zip(whole.columns[0x00200032], found.columns[0x00200032], strict=True):
            numbers = [np.array([float(part) for part in each[1].split(b"\\")]) for each in (one, other) if each]
            np.testing.assert_allclose(numbers[0], numbers[1], atol=1e-4)


def test_reading_is_lazy_and_named(written: Any) -> None:
    """Slices of one picture have another dask name each, the same every time."""
    series = written(mosaic(make_slices(4)))
    names = {dask.base.tokenize(series.frames().locations.take([i])) for i in range(4)}
    assert len(names) == 4
    assert series.to_xarray().data.name == series.to_xarray().data.name
