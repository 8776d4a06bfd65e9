"""Series derived from sources of every kind: character sets, encodings, enhanced files, colour, and none at all."""

import subprocess
import warnings

import numpy as np
import pytest
import xarray as xr
from conftest import debian_tool
from dciodvfy import errors
from derivations import derived, opened, saved
from factories import OBLIQUE, make_enhanced, make_image

import xdicom as xd
from xdicom.errors import EditError, UnknownTagError
from xdicom.placement import affine_of

pytestmark = pytest.mark.usefixtures("collected")


# Text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "name", "description", "expected"),
    [
        (None, "Doe^Jane", "ratio", None),
        (None, "Doe^Jane", "Verhältnis", "ISO_IR 192"),
        ("ISO_IR 100", "Doe^Jane", "比率", "ISO_IR 192"),
        ("ISO_IR 100", "Müller^Änne", "ratio", "ISO_IR 100"),
        ("ISO_IR 100", "Müller^Änne", "Verhältnis", "ISO_IR 100"),
        ("ISO_IR 192", "Müller^Änne", "比率", "ISO_IR 192"),
    ],
)
def test_character_sets(tmp_path, charset, name, description, expected):
    """New text is written in the source's character set, or this is switched where all other text is ASCII."""
    series = opened(tmp_path / "in", SpecificCharacterSet=charset, PatientName=name, PatientID="P")
    new = series.new_sibling(SeriesDescription=description)
    new.set_xarray(series.to_xarray())
    assert (new.PatientName, new.SeriesDescription) == (name, description)
    for ds in saved(new, tmp_path / "out"):
        assert (str(ds.PatientName), ds.SeriesDescription, ds.get("SpecificCharacterSet")) == (
            name,
            description,
            expected,
        )


def test_text_that_fits_no_common_character_set_is_refused(tmp_path):
    """Where the patient's name is Latin and the new text Chinese, nothing is garbled: it raises."""
    series = opened(tmp_path / "in", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Änne")
    with pytest.raises(EditError, match="ISO_IR 100"):
        series.new_sibling(SeriesDescription="比率").set_xarray(series.to_xarray())


# Kinds of sources --------------------------------------------------------------------------------------------------


def test_frames_of_enhanced_files_become_single_images(tmp_path):
    """Images derived from an enhanced file are classic ones, with the values of its functional groups."""
    made = make_enhanced(tmp_path / "in" / "e.dcm", slices=2, dims={"FlipAngle": [5, 10]})
    series = xd.database(tmp_path / "in").series()[0]
    array = series.to_xarray(dims=("SliceLocation", "FlipAngle"))
    found = derived(series, array + 1, tmp_path / "out")
    assert {ds.SOPClassUID.name for ds in found} == {"MR Image Storage"}
    assert [ds.FlipAngle for ds in found] == [5, 10, 5, 10]
    assert all("NumberOfFrames" not in ds and "SharedFunctionalGroupsSequence" not in ds for ds in found)
    assert [ds.SourceImageSequence[0].ReferencedFrameNumber for ds in found] == [1, 3, 2, 4]
    assert np.array_equal(found[0].pixel_array, made.values[0, 0] + 1)


def test_implicit_and_big_endian_sources(tmp_path):
    """Headers of any encoding are cloned as explicit little endian."""
    for syntax in ("implicit", "big", "deflated"):
        series = opened(tmp_path / syntax, syntax=syntax, slices=2)
        (ds, *_) = derived(series, series.to_xarray() + 1, tmp_path / "out" / syntax)
        assert np.array_equal(ds.pixel_array.T, series.ndarray()[..., 0] + 1)
        assert ds["Rows"].VR == "US"


def test_colour(tmp_path):
    """RGB in, RGB out, exact."""
    make_image(tmp_path / "in" / "a.dcm", np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    series = xd.database(tmp_path / "in").series()[0]
    array = 255 - series.to_xarray()
    (ds,) = derived(series, array, tmp_path / "out")
    assert ds.PhotometricInterpretation == "RGB"
    assert np.array_equal(ds.pixel_array, 255 - np.arange(60).reshape(4, 5, 3))
    with pytest.raises(EditError, match="2 samples"):
        series.new_sibling().set_xarray(array.isel(sample=[0, 1]))


def test_colour_of_grey_images(tmp_path):
    """Colour made of MR images, or of nothing, is a secondary capture: no MR image can hold it."""
    series = opened(tmp_path / "in", slices=1)
    grey = (series.to_xarray() % 256).astype("u1")
    rgb = xr.concat([grey, grey, 255 - grey], "sample").transpose(..., "sample")
    before = errors(next((tmp_path / "in").glob("*.dcm")))
    (ds,) = derived(series, rgb, tmp_path / "out")
    assert ds.SOPClassUID.name == "Secondary Capture Image Storage"
    assert errors(next((tmp_path / "out").rglob("*.dcm"))) - before == set()
    (ds,) = saved(xd.as_series(rgb.values, dims=("slice", "row", "column", "sample")), tmp_path / "new")
    assert np.array_equal(ds.pixel_array, rgb.values[0])
    assert errors(next((tmp_path / "new").rglob("*.dcm"))) == set()


def test_images_without_geometry(tmp_path):
    """Where the source has no geometry, none is made up."""
    make_image(tmp_path / "in" / "a.dcm", np.arange(20, dtype=np.uint8).reshape(4, 5))
    series = xd.database(tmp_path / "in").series()[0]
    (ds,) = derived(series, series.to_xarray() * 2, tmp_path / "out")
    assert "ImagePositionPatient" not in ds
    assert "PixelSpacing" not in ds


@pytest.mark.parametrize(
    "name", ["rider-flip-angles", "ge-fmri-4d", "philips-enhanced-b0", "pelvis-ct", "siemens-mosaic-fmri", "xray-angio"]
)
def test_derived_files_add_no_error(tmp_path, real_copy, name):
    """Files derived from real ones have no dciodvfy error that their source has not, and keep the geometry."""
    folder = real_copy(name)
    series = xd.database(folder).series()[0]
    frames = series.frames().take([0, 1] if len(series.frames()) > 1 else [0])
    new = series.new_sibling(SeriesDescription="derived")
    dims = ("InstanceNumber",) if len(series.InstanceNumber) == len(series.frames()) else ("frame",)
    array = series.to_xarray(dims=dims).isel({dims[0]: slice(0, len(frames))}) / 3
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*are stored in steps of.*")
        new.set_xarray(array)
    new.save(tmp_path / "out")
    source = next(path for path in sorted(folder.rglob("*")) if path.is_file() and ".xdicom" not in path.parts)
    before = errors(source)
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert errors(path) - before == set()


def test_values_of_pet_have_no_intercept(tmp_path):
    """PET images must have RescaleIntercept 0, also where another one would hold the values better."""
    pet = "1.2.840.10008.5.1.4.1.1.128"
    series = opened(tmp_path / "in", change=lambda ds, i: setattr(ds, "SOPClassUID", pet), slope=1.0, intercept=0.0)
    new = series.new_sibling()
    new.set_ndarray(np.linspace(100.3, 200.7, 90).reshape(5, 6, 3))
    assert (new.RescaleIntercept, new.SOPClassUID) == (0.0, pet)
    assert np.allclose(new.ndarray().ravel(), np.linspace(100.3, 200.7, 90), atol=0.01)


def test_dcentvfy_finds_no_contradiction(tmp_path, real_copy):
    """Derived files agree with their source on patient, study and frame of reference."""
    tool = debian_tool("dcentvfy", "dicom3tools")
    folder = real_copy("ge-fmri-4d")
    series = xd.database(folder).series()[0]
    derived(series, series.to_xarray(dims=("InstanceNumber",)).isel(InstanceNumber=slice(0, 4)), tmp_path / "out")
    sources = sorted(path for path in folder.rglob("*") if path.is_file() and ".xdicom" not in path.parts)
    found = [
        subprocess.run([tool, *paths], capture_output=True, check=False).stderr
        for paths in (sources[:4], [*sources[:4], *(tmp_path / "out").rglob("*.dcm")])
    ]
    assert [text.count(b"Error") for text in found] == [0, 0]


# New series --------------------------------------------------------------------------------------------------------


def test_series_from_nowhere(tmp_path):
    """An array without a source gets a synthetic header that dciodvfy accepts, with its coordinates and attributes."""
    array = xr.DataArray(
        np.arange(48.0).reshape(2, 2, 3, 4),
        dims=("FlipAngle", "slice", "row", "column"),
        coords={"FlipAngle": [5.0, 10.0], "slice": [10.0, 13.0]},
        attrs={"RepetitionTime": 5.5, "note": "no tag", "PatientName": "Nobody"},
    )
    series = xd.as_series(array, PatientName="Jane^Doe")
    found = saved(series, tmp_path / "out")
    assert [(ds.FlipAngle, ds.ImagePositionPatient[2], ds.RepetitionTime) for ds in found] == [
        (5, 10, 5.5),
        (5, 13, 5.5),
        (10, 10, 5.5),
        (10, 13, 5.5),
    ]
    assert {str(ds.PatientName) for ds in found} == {"Jane^Doe"}
    assert not [error for path in (tmp_path / "out").rglob("*.dcm") for error in errors(path)]


def test_an_array_of_another_database_keeps_its_place(tmp_path):
    """The coordinates of a DataArray say where its images lie, also where its source is not at hand."""
    series = opened(tmp_path / "in", layout=OBLIQUE, slices=3)
    made = xd.as_series(series.to_xarray() * 2)
    assert np.allclose(made.affine, series.affine)
    assert np.array_equal(made.to_xarray().values, series.to_xarray().values * 2)
    assert np.allclose(affine_of(made.to_xarray()), affine_of(series.to_xarray()))


def test_times_count_from_1():
    """The first axis of a 4-D array is time: temporal positions 1 to n, of n."""
    series = xd.as_series(np.zeros((3, 2, 4, 5)))
    assert series.TemporalPositionIdentifier == [1, 2, 3]
    assert series.NumberOfTemporalPositions == 3
    assert series.ndarray(dims=("slice_location", "TemporalPositionIdentifier")).shape == (4, 5, 2, 3)


def test_axes_that_are_no_tags_are_refused():
    """Frames along an axis of unknown name could not be told apart."""
    with pytest.raises(UnknownTagError):
        xd.as_series(np.zeros((3, 2, 4, 5)), dims=("weekday", "slice", "row", "column"))
