"""Facts about records as Zarr stores: that they open elsewhere, and that the way back gives the series that it was."""

import json
import subprocess
import sys
from pathlib import Path

import factories
import numpy as np
import pytest
import xarray as xr

import xdicom as xd
from xdicom.errors import BrokenFileError, EditError, PixelError, RecordError, SaveError, StackError
from xdicom.rows import row_headers
from xdicom.zarrs import file_chunks

# Elements that describe stored pixels, or follow from them.
PIXEL_TAGS = {0x00280002, 0x00280004, 0x00280006, 0x00280010, 0x00280011, *range(0x00280100, 0x00280121)}
PIXEL_TAGS |= {0x00281052, 0x00281053, 0x00281054}


@pytest.fixture
def made(tmp_path: Path) -> factories.Series:
    """A series of 3 slices at 2 echoes, with text beyond ASCII, private and nested elements that vary."""

    def change(ds, index):
        ds.private_block(0x0029, "MINE", create=True).add_new(0x0C, "OB", bytes([index, 255]) * 700)
        ds.OperatorsName = f"Müller^{index}"
        reference = factories.base_dataset("other", number=index)
        ds.ReferencedImageSequence = [factories.base_dataset("item", ReferencedImageSequence=[reference])]
        ds.ImageComments = "x" * 2000

    tags = {"SpecificCharacterSet": "ISO_IR 100", "WindowCenter": 40, "WindowWidth": 400}
    return factories.make_series(
        tmp_path / "scan", dims={"EchoTime": ["1.50", "20"]}, dtype="int16", change=change, **tags
    )


DIMS = ("EchoTime", "slice")


def opened(made):
    """Return the series of a folder."""
    return xd.database(made.folder).series()[0]


def headers(series):
    """Return the header of each image by its UID, without what describes stored pixels and without padding."""
    return {
        header[0x00080018][1].rstrip(b"\0"): {
            tag: (vr, raw.rstrip(b" \0")) for tag, (vr, raw) in header.items() if tag not in PIXEL_TAGS
        }
        for header in row_headers(series.frames())
    }


# -- out


def test_store_opens_without_xdicom(made, tmp_path):
    """A process that never heard of xdicom reads values, coordinates and the header of each image."""
    opened(made).to_zarr(tmp_path / "a.zarr", DIMS)
    code = """
import sys
sys.modules["xdicom"] = None  # it cannot be imported, not by a plugin of xarray either
import json, xarray as xr
ds = xr.open_zarr("a.zarr", consolidated=False)
own = json.loads(str(ds.dicom_frame_header.values[1, 2]))
print(ds.pixels.dims, ds.EchoTime.values.tolist(), ds.pixels.attrs["Modality"], int(ds.pixels.sum()),
      json.loads(ds.pixels.attrs["dicom_header"])["00080060"], own["00081070"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = f"('EchoTime', 'slice', 'row', 'column') [1.5, 20.0] MR {made.stored.sum(dtype=int)}"
    name = {"vr": "PN", "Value": [{"Alphabetic": "Müller^5"}]}
    assert done.stdout.strip() == f"{expected} { {'vr': 'CS', 'Value': ['MR']} } {name}"


def test_values_and_coordinates_are_those_of_to_xarray(made, tmp_path):
    """The store holds what `to_xarray` gives, and what no coordinate can hold as DICOM JSON."""
    series = opened(made)
    series.to_zarr(tmp_path / "a.zarr", DIMS)
    there = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).pixels
    here = series.to_xarray(DIMS)
    assert set(there.coords) - set(here.coords) == {"dicom_frame_header"}
    for name, coord in here.coords.items():
        np.testing.assert_array_equal(np.array(there[name].values.tolist()), coord.values, err_msg=name)
    np.testing.assert_array_equal(there, here)
    assert {name: value for name, value in there.attrs.items() if name != "dicom_header"} == {
        name: value for name, value in here.attrs.items() if name != "dicom_header"
    }


def test_tree_is_written(tmp_path):
    """A database is a tree of groups, reports included, that xarray opens as one."""
    for number in (1, 2):
        factories.make_series(tmp_path / "in", name=f"s{number}", SeriesNumber=number)
    factories.make_report(tmp_path / "in" / "r.dcm", SeriesNumber=3)
    xd.database(tmp_path / "in").to_zarr(tmp_path / "out.zarr")
    tree = xr.open_datatree(tmp_path / "out.zarr", engine="zarr", consolidated=False)
    nodes = {node.path.rpartition("/")[2]: node for node in tree.leaves}
    assert sorted(nodes) == ["1 series s1 MR", "2 series s2 MR", "3 series report SR"]
    report = nodes["3 series report SR"]
    assert json.loads(str(report.dicom_frame_header.values[0])) == {}
    (content,) = json.loads(report.attrs["dicom_header"])["0040A730"]["Value"]
    assert content["0040A160"]["Value"] == ["No finding."]


def test_chunks_are_whole_frames():
    """A chunk file holds at most 8 MB of whole frames, the fastest dims whole."""
    da = xr.DataArray(np.broadcast_to(np.int16(0), (10, 50, 256, 256)), dims=("t", "slice", "row", "column"))
    assert file_chunks(da) == {"t": 1, "slice": 50, "row": 256, "column": 256}
    assert file_chunks(da.isel(slice=slice(7))) == {"t": 9, "slice": 7, "row": 256, "column": 256}
    big = xr.DataArray(np.broadcast_to(0.0, (3, 4096, 4096)), dims=("slice", "row", "column"))
    assert file_chunks(big) == {"slice": 1, "row": 4096, "column": 4096}


def test_nothing_is_replaced(made, tmp_path):
    """What is at the path stays, and an export that fails leaves nothing behind."""
    (tmp_path / "there").mkdir()
    with pytest.raises(SaveError, match="there already"):
        opened(made).to_zarr(tmp_path / "there")
    with pytest.raises(StackError):
        opened(made).to_zarr(tmp_path / "new.zarr", "slice")
    made.files[2].unlink()
    series = opened(made)
    made.files[0].write_bytes(b"")
    with pytest.raises(OSError, match="changed"):
        series.to_zarr(tmp_path / "new.zarr", "InstanceNumber")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan", "there"]


# -- back


def test_series_comes_back_as_it_was(made, tmp_path):
    """Pixels, UIDs and every element of every header are those of the files: nested, private, long and not ASCII."""
    series = opened(made)
    series.to_zarr(tmp_path / "a.zarr", DIMS)
    back = xd.from_zarr(tmp_path / "a.zarr")
    assert back.key == series.key
    assert headers(back) == headers(series)
    np.testing.assert_array_equal(back.ndarray(DIMS), series.ndarray(DIMS))
    back.save(tmp_path / "out")
    saved = xd.database(tmp_path / "out").series()[0]
    assert headers(saved) == headers(series)
    np.testing.assert_array_equal(saved.ndarray(DIMS), series.ndarray(DIMS))


def test_series_that_came_back_is_edited_and_saved(made, tmp_path):
    """It is a series like any other: tags and pixels can be set, and it is saved."""
    opened(made).to_zarr(tmp_path / "a.zarr", DIMS)
    back = xd.from_zarr(tmp_path / "a.zarr")
    back.PatientID = "P9"
    back.set_ndarray(back.ndarray(DIMS) * 0 + 3, DIMS)
    back.save(tmp_path / "out")
    (saved,) = xd.database(tmp_path / "out").series()
    assert (saved.PatientID, int(saved.ndarray().max())) == ("P9", 3)


def test_series_goes_into_a_database(made, tmp_path):
    """It joins its patient and study where these are, and is not staged twice."""
    opened(made).to_zarr(tmp_path / "a.zarr", DIMS)
    factories.make_series(tmp_path / "other", name="b")
    db = xd.database(tmp_path / "other")
    back = xd.from_zarr(tmp_path / "a.zarr", database=db)
    assert back.study == db.series(SeriesDescription="series b")[0].study
    assert len(db.patients()) == 1
    with pytest.raises(EditError, match="copy_to"):
        xd.from_zarr(tmp_path / "a.zarr", database=db)
    db.save()
    assert len(xd.database(tmp_path / "other").series()) == 2


def test_changed_coordinates_are_changed_tags(made, tmp_path):
    """What was changed in the store with other tools is what the series says; a part of it is a part of the series."""
    opened(made).to_zarr(tmp_path / "a.zarr", DIMS)
    dataset = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).load()
    changed = dataset.assign_coords(EchoTime=[3.0, 20.0]).isel(slice=slice(1, None))
    for variable in changed.variables.values():
        variable.encoding.clear()
    changed.to_zarr(tmp_path / "b.zarr", zarr_format=3, consolidated=False)
    back = xd.from_zarr(tmp_path / "b.zarr")
    assert back.EchoTime == [3.0, 20.0]
    assert len(back.frames()) == 4
    np.testing.assert_array_equal(back.to_xarray(DIMS), made.values[:, 1:])


def test_array_of_a_series_makes_a_derived_one(made, tmp_path):
    """`DataArray.to_zarr` keeps the shared part of the header: patient and study stay, and the series is a new one."""
    series = opened(made)
    series.to_xarray(DIMS).mean("EchoTime").to_zarr(tmp_path / "m.zarr", zarr_format=3, consolidated=False)
    lacking = xd.from_zarr(tmp_path / "m.zarr")
    assert lacking.ndarray().shape == (5, 6, 3)
    with xr.set_options(keep_attrs=True):
        mean = series.to_xarray(DIMS).mean("EchoTime")
    mean.to_zarr(tmp_path / "k.zarr", zarr_format=3, consolidated=False)
    back = xd.from_zarr(tmp_path / "k.zarr")
    assert back.key[:2] == series.key[:2]
    assert back.key != series.key
    assert (back.PatientName, back.SeriesDescription) == ("Doe^Jane", "series a")
    assert back.ImageType.item()[:2] == ("DERIVED", "SECONDARY")
    np.testing.assert_allclose(back.to_xarray("slice"), mean, atol=1)
    np.testing.assert_allclose(back.affine, series.subseries(EchoTime=1.5).affine, atol=1e-6)


def test_enhanced_files_become_single_images(tmp_path):
    """Frames of one file come back as images of a new series, with their own tags and places."""
    factories.make_enhanced(tmp_path / "in" / "e.dcm", dims={"FlipAngle": [5, 10]})
    (series,) = xd.database(tmp_path / "in").series()
    dims = ("FlipAngle", "slice")
    series.to_zarr(tmp_path / "e.zarr", dims)
    back = xd.from_zarr(tmp_path / "e.zarr")
    assert (back.key[:2], back.key != series.key) == (series.key[:2], True)
    assert back.FlipAngle == [5.0, 10.0]
    xr.testing.assert_equal(back.to_xarray(dims).variable, series.to_xarray(dims).compute().variable)
    assert len(set(back.frames()["SOPInstanceUID"])) == 6
    np.testing.assert_allclose(back.subseries(FlipAngle=5).affine, series.subseries(FlipAngle=5).affine, atol=1e-6)


def test_arrays_from_elsewhere_become_series(tmp_path):
    """A store that knows nothing of DICOM makes a series with a synthetic header, in mm of its coordinates."""
    da = xr.DataArray(
        np.arange(24.0).reshape(2, 3, 4), {"slice": [0.0, 2.5]}, ("slice", "row", "column"), name="density"
    )
    da.to_zarr(tmp_path / "x.zarr", zarr_format=3, consolidated=False)
    back = xd.from_zarr(tmp_path / "x.zarr")
    np.testing.assert_array_equal(back.to_xarray("slice"), da)
    assert float(np.diff(back.to_xarray("slice").slice)[0]) == 2.5


def test_one_of_several_groups_is_named(tmp_path):
    """A tree has several series: the error lists their groups, and each of them comes back."""
    for number in (1, 2):
        factories.make_series(tmp_path / "in", name=f"s{number}", SeriesNumber=number)
    db = xd.database(tmp_path / "in")
    db.to_zarr(tmp_path / "out.zarr")
    with pytest.raises(RecordError) as error:
        xd.from_zarr(tmp_path / "out.zarr")
    groups = [line.split("=", 1)[1].strip("'") for line in str(error.value).splitlines()[1:]]
    assert [xd.from_zarr(tmp_path / "out.zarr", group=group).key for group in groups] == [
        series.key for series in db.series()
    ]
    with pytest.raises(RecordError, match="0 groups"):
        xd.from_zarr(tmp_path / "out.zarr", group="/P1")


@pytest.mark.parametrize("name", ["scalar", "lines", "two"])
def test_stores_without_images_are_refused(tmp_path, name):
    """A store has to have one array with rows and columns."""
    plane = (("row", "column"), np.zeros((2, 2)))
    variables = {"scalar": {"a": 1}, "lines": {"a": ("row", [1, 2])}, "two": {"a": plane, "b": plane}}
    xr.Dataset(variables[name]).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(RecordError, match="0 groups of images"):
        xd.from_zarr(tmp_path / "a.zarr")


def test_headers_that_are_none_are_refused(made, tmp_path):
    """What stands for a header and is no DICOM JSON is told, and nothing is staged."""
    opened(made).to_zarr(tmp_path / "a.zarr", DIMS)
    path = tmp_path / "a.zarr" / "pixels" / "zarr.json"
    metadata = json.loads(path.read_text())
    for text in ("junk", "[]", '{"0010": {}}', '{"00100010": {"vr": "ZZ"}}'):
        metadata["attributes"]["dicom_header"] = text
        path.write_text(json.dumps(metadata))
        with pytest.raises(BrokenFileError, match="JSON"):
            xd.from_zarr(tmp_path / "a.zarr")


def test_real_series_come_back(real_copy, tmp_path):
    """Real CT and MR series come back: values, and each element that does not describe stored pixels."""
    for name in ("pelvis-ct", "rider-flip-angles"):
        for number, series in enumerate(xd.database(real_copy(name)).series()[:3]):
            part = series.to_xarray("slice")
            series.to_zarr(tmp_path / f"{name}{number}.zarr", "slice")
            back = xd.from_zarr(tmp_path / f"{name}{number}.zarr")
            np.testing.assert_array_equal(back.to_xarray("slice")[:5], part[:5])
            assert headers(back).keys() == headers(series).keys()
            for uid, header in headers(series).items():
                known = {tag: raw for tag, raw in headers(back)[uid].items() if tag in header}
                assert known == header


def test_units_of_time_are_no_dates(tmp_path):
    """Values in seconds stay numbers."""
    da = xr.DataArray(np.ones((1, 2, 2)), dims=("slice", "row", "column"), name="t", attrs={"units": "seconds"})
    da.to_zarr(tmp_path / "t.zarr", zarr_format=3, consolidated=False)
    np.testing.assert_array_equal(xd.from_zarr(tmp_path / "t.zarr").ndarray(), 1)


def test_parts_of_a_series_come_together_again(made, tmp_path):
    """Images that were stored apart join the series that they are of, each once."""
    series = opened(made)
    series.to_zarr(tmp_path / "a.zarr", DIMS)
    for number in (0, 1):
        part = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).isel(EchoTime=[number]).load()
        for variable in part.variables.values():
            variable.encoding.clear()
        part.to_zarr(tmp_path / f"{number}.zarr", zarr_format=3, consolidated=False)
    first = xd.from_zarr(tmp_path / "0.zarr")
    whole = xd.from_zarr(tmp_path / "1.zarr", database=first.database)
    assert whole == first
    np.testing.assert_array_equal(whole.ndarray(DIMS), series.ndarray(DIMS))
    with pytest.raises(EditError, match="already"):
        xd.from_zarr(tmp_path / "1.zarr", database=first.database)


def test_series_without_images_is_told(made, tmp_path):
    """A new series has nothing to write yet."""
    with pytest.raises(PixelError, match="no pixels"):
        opened(made).new_sibling().to_zarr(tmp_path / "n.zarr")


@pytest.mark.parametrize("enhanced", [False, True])
def test_values_of_one_scale_come_back_exactly(tmp_path, enhanced):
    """Where all images have one slope that is no integer, it is kept, and no value is rounded anew."""
    if enhanced:
        factories.make_enhanced(tmp_path / "in" / "e.dcm", slices=4, slopes=[0.37] * 4)
    else:
        factories.make_series(tmp_path / "in", slices=4, slope=0.37, intercept=-12.5, bits_stored=12)
    (series,) = xd.database(tmp_path / "in").series()
    series.to_zarr(tmp_path / "a.zarr")
    back = xd.from_zarr(tmp_path / "a.zarr")
    assert back.RescaleSlope == 0.37
    np.testing.assert_array_equal(back.ndarray(), series.ndarray())
    back.save(tmp_path / "out")
    np.testing.assert_array_equal(xd.database(tmp_path / "out").series()[0].ndarray(), series.ndarray())


def test_stacks_of_a_series_are_groups(tmp_path):
    """A series of two matrices is a store with a group for each stack, and they become one series again."""
    for number, shape in ((1, (6, 5)), (2, (4, 5))):
        tags = {"SeriesInstanceUID": "1.9", "SeriesNumber": 9}
        factories.make_series(tmp_path / "in", slices=2, name=f"e{number}", shape=shape, **tags)
    (series,) = xd.database(tmp_path / "in").series()
    series.to_zarr(tmp_path / "out.zarr")
    with pytest.raises(RecordError, match="2 groups") as error:
        xd.from_zarr(tmp_path / "out.zarr")
    groups = [line.split("=", 1)[1].strip("'") for line in str(error.value).splitlines()[1:]]
    back = xd.from_zarr(tmp_path / "out.zarr", group=groups[0])
    back = xd.from_zarr(tmp_path / "out.zarr", group=groups[1], database=back.database)
    assert (back.key, headers(back)) == (series.key, headers(series))
