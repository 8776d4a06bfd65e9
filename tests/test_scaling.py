"""What the values of an array are: chosen by `rescale` and `mask_padding`, told by attributes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import xarray as xr
from factories import make_enhanced, make_series
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import xdicom as xd
from xdicom.errors import PixelError

PET, CT = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.2"
PHILIPS, PRIVATE = "Philips MR Imaging DD 001", "Philips MR Imaging DD 005"


def opened(folder: Path) -> xd.Series:
    """Return the one series of a folder."""
    return xd.database(folder).series()[0]


def mapping(slope: float = 0.5, intercept: float = -3.0, unit: str = "mm2/s", **tags: Any) -> Dataset:
    """Return an item of RealWorldValueMappingSequence."""
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
    item.MeasurementUnitsCodeSequence = [code]
    item.RealWorldValueSlope, item.RealWorldValueIntercept, item.LUTLabel = slope, intercept, "ADC"
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 65535
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def with_scale(ds: Dataset, slope: float, intercept: float = 0.0) -> None:
    """Give some elements Philips' private scale."""
    block = ds.private_block(0x2005, PHILIPS, create=True)
    block.add_new(0x0E, "FL", slope)
    block.add_new(0x0D, "FL", intercept)


# -- rescaled and stored


def test_choice_is_an_attribute(tmp_path: Path) -> None:
    """The array says which values it holds, and keeps saying it through netCDF."""
    made = make_series(tmp_path, slope=2.0, intercept=-10.0)
    da = opened(tmp_path).to_xarray()
    np.testing.assert_array_equal(da.values, made.values)
    assert da.attrs["rescale"] == "rescaled"
    stored = opened(tmp_path).to_xarray(rescale=False)
    np.testing.assert_array_equal(stored.values, made.stored)
    assert stored.attrs["rescale"] == "stored"
    stored.astype("float32").to_netcdf(tmp_path / "a.nc", engine="scipy")
    with xr.open_dataarray(tmp_path / "a.nc", engine="scipy") as again:
        assert again.attrs["rescale"] == "stored"


def test_unknown_choice_is_refused(tmp_path: Path) -> None:
    """Another word says which there are."""
    make_series(tmp_path)
    with pytest.raises(ValueError, match="rescale='philips'; expected True, False, 'philips-fp' or 'real-world'"):
        opened(tmp_path).to_xarray(rescale="philips")


def test_ct_is_in_hounsfield_units(tmp_path: Path) -> None:
    """CT without RescaleType is in HU; its stored values are in nothing."""
    make_series(tmp_path, slope=1, intercept=-1024.0, SOPClassUID=CT, Modality="CT")
    assert opened(tmp_path).to_xarray().attrs["units"] == "HU"
    assert "units" not in opened(tmp_path).to_xarray(rescale=False).attrs


@pytest.mark.parametrize(("kind", "expected"), [("mrad", "mrad"), ("US", None), ("HU_MOD", "HU_MOD")])
def test_rescale_type_is_the_unit(kind: str, expected: str | None, tmp_path: Path) -> None:
    """RescaleType is the unit, but where it says that this is unspecified."""
    make_series(tmp_path, slope=1, intercept=0, RescaleType=kind)
    assert opened(tmp_path).to_xarray().attrs.get("units") == expected


def test_pet_has_a_slope_each_slice(tmp_path: Path) -> None:
    """PET is rescaled slice by slice, in the unit of (0054,1001)."""
    slopes = [0.5, 0.125, 3.7]

    def change(ds: Dataset, index: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = slopes[index], 0

    made = make_series(tmp_path, slices=3, change=change, SOPClassUID=PET, Modality="PT", Units="BQML")
    da = opened(tmp_path).to_xarray()
    np.testing.assert_allclose(da.values, made.stored * np.reshape(slopes, (3, 1, 1)), rtol=1e-6)
    assert da.attrs["units"] == "BQML"


def test_units_that_vary_are_a_coordinate(tmp_path: Path) -> None:
    """Where frames have other units, these are a coordinate along what they depend on."""

    def change(ds: Dataset, index: int) -> None:
        ds.RescaleType = "mrad" if ds.FlipAngle == 5 else "Hz"

    make_series(tmp_path, dims={"FlipAngle": [5, 10]}, slope=1, intercept=0, change=change)
    da = opened(tmp_path).to_xarray(dims=("FlipAngle", "slice"))
    assert da["units"].dims == ("FlipAngle",)
    assert da["units"].values.tolist() == ["mrad", "Hz"]
    assert "units" not in da.attrs


def test_dose_is_scaled(tmp_path: Path) -> None:
    """RT Dose has no rescale: stored values are multiplied by DoseGridScaling, in the unit that DoseUnits says."""
    path = Path(get_testdata_file("rtdose.dcm", download=False))
    shutil.copyfile(path, tmp_path / "dose.dcm")
    series = opened(tmp_path)
    ds = pydicom.dcmread(path)
    da = series.to_xarray(dims=("frame",))
    np.testing.assert_allclose(da.values, ds.pixel_array * ds.DoseGridScaling, rtol=1e-6)
    assert da.attrs["units"] == "RELATIVE"
    np.testing.assert_array_equal(series.to_xarray(dims=("frame",), rescale=False).values, ds.pixel_array)


@pytest.mark.parametrize("apart", [True, False])
def test_new_dose(apart: bool, tmp_path: Path) -> None:
    """New dose is scaled by DoseGridScaling again, so that other readers find it, too; a derived image by a rescale."""
    path = Path(get_testdata_file("rtdose.dcm", download=False))
    shutil.copyfile(path, tmp_path / "dose.dcm")
    series = opened(tmp_path)
    doubled = series.ndarray() * 2.0
    target = series.new_sibling() if apart else series
    target.set_ndarray(doubled)
    np.testing.assert_allclose(target.ndarray(), doubled, atol=1e-4)
    target.save()
    np.testing.assert_allclose(target.ndarray(), doubled, atol=1e-4)
    if not apart:
        ds = pydicom.dcmread(tmp_path / "dose.dcm")
        assert "RescaleSlope" not in ds
        np.testing.assert_allclose((ds.pixel_array * ds.DoseGridScaling).transpose(2, 1, 0), doubled, atol=1e-4)


# -- Philips


def test_philips_floating_point_values(tmp_path: Path) -> None:
    """FP = (SV * RS + RI) / (RS * SS), frame by frame."""
    scales = [0.25, 0.5, 0.125]

    def change(ds: Dataset, index: int) -> None:
        with_scale(ds, scales[index])

    made = make_series(tmp_path, slices=3, slope=2.0, intercept=-10.0, change=change)
    da = opened(tmp_path).to_xarray(rescale="philips-fp")
    expected = (made.stored * 2.0 - 10) / (2 * np.reshape(scales, (3, 1, 1)))
    np.testing.assert_allclose(da.values, expected, rtol=1e-6)
    assert da.attrs["rescale"] == "philips-fp"
    assert "units" not in da.attrs


def test_philips_values_follow_an_edit(tmp_path: Path) -> None:
    """A staged RescaleSlope counts, as everywhere."""
    make_series(tmp_path, slope=2.0, intercept=-10.0, change=lambda ds, _: with_scale(ds, 0.5))
    series = opened(tmp_path)
    before = series.to_xarray(rescale="philips-fp").compute()
    series.RescaleSlope = 4
    np.testing.assert_allclose(series.to_xarray(rescale="philips-fp").values, before.values + 5, rtol=1e-6)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
@pytest.mark.parametrize("nested", [True, False])
def test_philips_values_in_functional_groups(nested: bool, syntax: str, tmp_path: Path) -> None:
    """In enhanced files each frame has its scale in Philips' private sequence, or beside it."""
    scales = [0.25, 0.5, 0.125]

    def change(ds: Dataset) -> None:
        for item, scale in zip(ds.PerFrameFunctionalGroupsSequence, scales, strict=True):
            inner = Dataset() if nested else item
            with_scale(inner, scale)
            if nested:
                item.private_block(0x2005, PRIVATE, create=True).add_new(0x0F, "SQ", Sequence([inner]))

    made = make_enhanced(tmp_path / "a.dcm", slices=3, slopes=[2, 3, 4], change=change, syntax=syntax)
    da = opened(tmp_path).to_xarray(rescale="philips-fp")
    np.testing.assert_allclose(da.values, made.stored / np.reshape(scales, (3, 1, 1)), rtol=1e-6)


def test_philips_scale_of_all_frames(tmp_path: Path) -> None:
    """A scale in the shared functional groups is that of every frame."""

    def change(ds: Dataset) -> None:
        with_scale(ds.SharedFunctionalGroupsSequence[0], 0.25)

    made = make_enhanced(tmp_path / "a.dcm", slices=3, change=change)
    da = opened(tmp_path).to_xarray(rescale="philips-fp")
    np.testing.assert_allclose(da.values, made.stored / 0.25)


def test_philips_scale_that_some_lack(tmp_path: Path) -> None:
    """Frames without the element are counted, the first is named, and the way out told."""

    def change(ds: Dataset, index: int) -> None:
        if index:
            with_scale(ds, 0.25)

    make_series(tmp_path, slices=3, slope=2.0, intercept=0, change=change)
    text = r"1 of 3 frames have no such scale; the first \(.*\): Philips' scale slope .* is missing.*rescale=True gives"
    with pytest.raises(PixelError, match=text):
        opened(tmp_path).to_xarray(rescale="philips-fp")


def test_new_pixels_have_no_philips_scale(tmp_path: Path) -> None:
    """A derived series has lost the scale of the scanner's integers, before and after it is saved."""
    make_series(tmp_path, slope=2.0, intercept=0, change=lambda ds, _: with_scale(ds, 0.5))
    series = opened(tmp_path)
    target = series.new_sibling()
    target.set_xarray(series.to_xarray(rescale="philips-fp"))
    with pytest.raises(PixelError, match="have new pixels, which have no such scale"):
        target.to_xarray(rescale="philips-fp")
    target.save()
    with pytest.raises(PixelError, match="Philips' scale slope"):
        target.to_xarray(rescale="philips-fp")
    np.testing.assert_allclose(
        target.to_xarray().values, series.to_xarray(rescale="philips-fp").values, rtol=1e-3, atol=5
    )


# What dcm2niix -p y gives for the same files: lowest and highest value of each kind of image.
REAL = {
    ("philips-enhanced-b0", "1"): (0.0, 235659224.1953125),
    ("philips-enhanced-b0", "Hz"): (-495.60430908203125, 497.31964111328125),
    ("multiframe", "mrad"): (-3.141592502593994, 3.1404948234558105),
}


@pytest.mark.parametrize(("folder", "unit"), REAL)
def test_real_philips_values_are_those_of_dcm2niix(folder: str, unit: str, real_copy: Any) -> None:
    """Floating point values of Philips' enhanced files agree with another reader."""
    found = []
    for series in xd.database(real_copy(folder)).series():
        try:
            units = series.to_xarray(dims=("frame",), rescale="real-world")["units"]
        except PixelError:
            continue
        values = series.to_xarray(dims=("frame",), rescale="philips-fp").values
        found += [values[i] for i in range(len(values)) if units.values[i] == unit]
    assert found
    np.testing.assert_allclose((np.min(found), np.max(found)), REAL[folder, unit], rtol=1e-5, atol=1e-3)


# -- real-world values


def test_real_world_values(tmp_path: Path) -> None:
    """Slope and intercept of the mapping take the place of the rescale, and it names the unit."""

    def change(ds: Dataset, index: int) -> None:
        ds.RealWorldValueMappingSequence = [mapping(slope=index + 0.5)]

    made = make_series(tmp_path, slices=3, slope=7, intercept=1, change=change)
    da = opened(tmp_path).to_xarray(rescale="real-world")
    np.testing.assert_allclose(da.values, made.stored * np.reshape([0.5, 1.5, 2.5], (3, 1, 1)) - 3, rtol=1e-6)
    assert (da.attrs["rescale"], da.attrs["units"]) == ("real-world", "mm2/s")


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_real_world_values_in_functional_groups(syntax: str, tmp_path: Path) -> None:
    """Enhanced files have a mapping each frame, whose unit is found though code sequences are no columns."""

    def change(ds: Dataset) -> None:
        for number, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
            item.RealWorldValueMappingSequence = [mapping(slope=number + 0.5, unit="ms")]

    made = make_enhanced(tmp_path / "a.dcm", slices=3, change=change, syntax=syntax)
    da = opened(tmp_path).to_xarray(rescale="real-world")
    np.testing.assert_allclose(da.values, made.stored * np.reshape([0.5, 1.5, 2.5], (3, 1, 1)) - 3, rtol=1e-6)
    assert da.attrs["units"] == "ms"


def test_real_world_values_follow_an_edit(tmp_path: Path) -> None:
    """A staged slope in functional groups counts, as everywhere."""

    def change(ds: Dataset) -> None:
        for item in ds.PerFrameFunctionalGroupsSequence:
            item.RealWorldValueMappingSequence = [mapping()]

    made = make_enhanced(tmp_path / "a.dcm", slices=3, change=change)
    series = opened(tmp_path)
    series.RealWorldValueSlope = 2.0
    np.testing.assert_allclose(series.to_xarray(rescale="real-world").values, made.stored * 2.0 - 3)


def test_real_world_table(tmp_path: Path) -> None:
    """A table of values is looked up; stored values that it lacks are NaN."""
    table = [0.5, 0.25, -1e-3]

    def change(ds: Dataset, index: int) -> None:
        item = mapping(RealWorldValueLUTData=table, RealWorldValueLastValueMapped=2)
        del item.RealWorldValueSlope, item.RealWorldValueIntercept
        ds.RealWorldValueMappingSequence = [item]

    pixels = np.array([[0, 1], [2, 3]], np.uint16)
    make_series(tmp_path, slices=1, shape=(2, 2), pixels=pixels[None], change=change)
    da = opened(tmp_path).to_xarray(rescale="real-world")
    np.testing.assert_array_equal(da.values, [[[0.5, 0.25], [-1e-3, np.nan]]])


def test_one_of_several_mappings(tmp_path: Path) -> None:
    """Several mappings are told apart by their label, and the error lists them."""

    def change(ds: Dataset, index: int) -> None:
        ds.RealWorldValueMappingSequence = [mapping(), mapping(slope=2.0, unit="1", LUTLabel="raw")]

    made = make_series(tmp_path, change=change)
    series = opened(tmp_path)
    with pytest.raises(PixelError, match=r"2 real-world value mappings, 'ADC' \(mm2/s\), 'raw' \(1\): name one"):
        series.to_xarray(rescale="real-world")
    np.testing.assert_allclose(series.to_xarray(rescale="real-world:raw").values, made.stored * 2.0 - 3)


def test_no_mapping_is_refused(tmp_path: Path) -> None:
    """Without a mapping the error says so, and what to type."""
    make_series(tmp_path)
    with pytest.raises(PixelError, match="it has no RealWorldValueMappingSequence; rescale=True gives"):
        opened(tmp_path).to_xarray(rescale="real-world")


# -- padding


def padded(folder: Path, **tags: Any) -> tuple[np.ndarray, xd.Series]:
    """Return stored values of one slice, and its series."""
    pixels = np.array([[0, 1, 2], [100, 4000, 4095]], np.uint16)
    make_series(folder, slices=1, shape=(2, 3), pixels=pixels[None], **tags)
    return pixels, opened(folder)


def test_padding_is_nan_on_demand(tmp_path: Path) -> None:
    """A scanner's padding stays a number, but where it is asked to be NaN; the array is then one of floats."""
    pixels, series = padded(tmp_path, PixelPaddingValue=0, slope=2.0, intercept=-1024.0)
    assert series.to_xarray().dtype.kind == "i"
    da = series.to_xarray(mask_padding=True)
    np.testing.assert_array_equal(da.values[0], np.where(pixels == 0, np.nan, pixels * 2.0 - 1024))
    assert da.dtype == np.float32


@pytest.mark.parametrize("ends", [(100, 4000), (4000, 100)])
def test_range_of_padding(ends: tuple[int, int], tmp_path: Path) -> None:
    """PixelPaddingRangeLimit is the other end of what is padding, above or below."""
    pixels, series = padded(tmp_path, PixelPaddingValue=ends[0], PixelPaddingRangeLimit=ends[1])
    values = series.to_xarray(mask_padding=True).values[0]
    np.testing.assert_array_equal(np.isnan(values), (pixels >= 100) & (pixels <= 4000))


def test_stored_values_with_padding(tmp_path: Path) -> None:
    """Stored values can have their padding as NaN, too."""
    pixels, series = padded(tmp_path, PixelPaddingValue=4095, slope=2.0, intercept=1)
    da = series.to_xarray(rescale=False, mask_padding=True)
    np.testing.assert_array_equal(da.values[0], np.where(pixels == 4095, np.nan, pixels))
    assert da.attrs["rescale"] == "stored"


def test_padding_of_real_world_values(tmp_path: Path) -> None:
    """Padding is a stored value, whatever scale is chosen."""

    def change(ds: Dataset, index: int) -> None:
        ds.RealWorldValueMappingSequence = [mapping()]

    pixels, series = padded(tmp_path, PixelPaddingValue=1, change=change)
    values = series.to_xarray(rescale="real-world", mask_padding=True).values[0]
    np.testing.assert_array_equal(values, np.where(pixels == 1, np.nan, pixels * 0.5 - 3))


def test_negative_padding(tmp_path: Path) -> None:
    """Padding of signed pixels is signed."""
    pixels = np.array([[[-2000, -1, 5]]], np.int16)
    make_series(tmp_path, slices=1, shape=(1, 3), dtype="int16", pixels=pixels, PixelPaddingValue=-2000)
    np.testing.assert_array_equal(opened(tmp_path).to_xarray(mask_padding=True).values, [[[np.nan, -1, 5]]])


def test_float_padding(tmp_path: Path) -> None:
    """Float pixels have a padding value of their own, and stay float32."""
    pixels = np.array([[[0.5, -9999, 3]]], np.float32)
    make_series(tmp_path, slices=1, shape=(1, 3), dtype="float32", pixels=pixels, FloatPixelPaddingValue=-9999.0)
    da = opened(tmp_path).to_xarray(mask_padding=True)
    np.testing.assert_array_equal(da.values, [[[0.5, np.nan, 3]]])
    assert da.dtype == np.float32


def test_no_padding_changes_nothing(tmp_path: Path) -> None:
    """Where no frame names padding, integers stay integers."""
    made = make_series(tmp_path)
    da = opened(tmp_path).to_xarray(mask_padding=True)
    np.testing.assert_array_equal(da.values, made.values)
    assert da.dtype == made.values.dtype


def test_integers_cannot_hold_padding(tmp_path: Path) -> None:
    """An integer dtype that is asked for has no NaN, and says so."""
    _, series = padded(tmp_path, PixelPaddingValue=0)
    with pytest.raises(PixelError, match="padding is NaN, which int32 cannot hold; ask for a float dtype"):
        series.to_xarray(mask_padding=True, dtype="int32").compute()


def test_padding_of_new_pixels(tmp_path: Path) -> None:
    """NaN that were written are NaN, asked for or not; stored values of what is not saved are not known yet."""
    make_series(tmp_path, slices=1)
    series = opened(tmp_path)
    target = series.new_sibling()
    da = series.to_xarray().astype("float32")
    da[0, 0, 0] = np.nan
    target.set_xarray(da)
    np.testing.assert_array_equal(target.to_xarray(mask_padding=True).values, target.to_xarray().values)
    with pytest.raises(PixelError, match=r"whose stored values are chosen when they are saved: save\(\) first"):
        target.to_xarray(rescale=False, mask_padding=True)
    target.save()
    assert np.isnan(target.to_xarray(rescale=False, mask_padding=True).values[0, 0, 0])


def test_names_differ_by_choice(tmp_path: Path) -> None:
    """Arrays of other values have other dask names."""
    _, series = padded(tmp_path, PixelPaddingValue=0)
    names = {series.to_xarray(mask_padding=mask).data.name for mask in (True, False)}
    assert len(names | {series.to_xarray(rescale=False).data.name}) == 3
