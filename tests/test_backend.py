"""Facts about the engine of xarray: what it opens, what it refuses, what it reads, and on which processes."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed
import factories
import numpy as np
import pytest
import xarray as xr
from conftest import folder_hash
from test_reads import Counter

import xdicom as xd
from xdicom import frames, locations
from xdicom.backend import XdicomBackendEntrypoint
from xdicom.errors import BrokenFileError, NotDicomError, PixelError, RecordError, StackError

GROUP = "/P1 Doe^Jane/20240229 Made for tests"


def opened(path, **options):
    """Open a dataset by the engine."""
    return xr.open_dataset(path, engine=XdicomBackendEntrypoint, **options)


def tree(path, **options):
    """Open a tree by the engine."""
    return xr.open_datatree(path, engine=XdicomBackendEntrypoint, **options)


@pytest.fixture
def made(tmp_path: Path) -> factories.Series:
    """A folder with one series of 4 slices."""
    return factories.make_series(tmp_path / "scan", slices=4, slope=0.5, intercept=-3)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A folder with three series, of which two have the same number, and a report."""
    for number, name in ((1, "a"), (2, "b"), (2, "c")):
        factories.make_series(tmp_path / "several", name=name, SeriesNumber=number)
    factories.make_report(tmp_path / "several" / "report.dcm", SeriesNumber=4)
    return tmp_path / "several"


# -- what is opened


def test_folder_with_one_series_is_opened(made):
    """A folder is a dataset with the variable pixels, coordinates, and the identity of the series as attributes."""
    dataset = opened(made.folder)
    assert dataset.pixels.dims == ("slice", "row", "column")
    np.testing.assert_allclose(dataset.pixels, made.values)
    assert dataset.attrs["SeriesDescription"] == "series a"
    assert dataset.encoding["source"] == str(made.folder)
    xr.testing.assert_identical(dataset.pixels, xd.database(made.folder).series()[0].to_xarray().compute())


def test_a_report_beside_the_images_does_not_matter(made):
    """Where one series has images, it is the one that is meant."""
    factories.make_report(made.folder / "report.dcm")
    assert opened(made.folder).pixels.shape == (4, 6, 5)


def test_file_is_opened_by_itself(made):
    """One file is one slice, and nothing is written beside it."""
    before = sorted(made.folder.iterdir())
    dataset = opened(made.files[2])
    assert dataset.pixels.shape == (1, 6, 5)
    np.testing.assert_allclose(dataset.pixels[0], made.values[2])
    assert sorted(made.folder.iterdir()) == before


def test_enhanced_file_is_opened_by_itself(tmp_path):
    """One file of many frames is a grid of them."""
    made = factories.make_enhanced(tmp_path / "e.dcm", dims={"FlipAngle": [5, 10]})
    dataset = opened(tmp_path / "e.dcm", dims=("FlipAngle", "slice"))
    np.testing.assert_array_equal(dataset.pixels, made.values)


def test_list_of_files_is_opened(made):
    """Files of a list are one series, whatever their order."""
    np.testing.assert_allclose(opened(list(reversed(made.files[:3]))).pixels, made.values[:3])


def test_opening_a_folder_makes_only_its_catalog(made):
    """Nothing in a folder changes, and .xdicom is all that is new."""
    before = folder_hash(made.folder)
    opened(made.folder).pixels.load()
    assert folder_hash(made.folder) == before
    assert (made.folder / ".xdicom" / "catalog.sqlite").is_file()


def test_read_only_folder_is_opened(made, monkeypatch):
    """A folder that cannot be written is opened all the same."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    assert opened(made.folder).pixels.shape == (4, 6, 5)
    assert not (made.folder / ".xdicom").exists()


def test_staged_edits_are_seen(made):
    """What is staged in a folder, and not saved yet, is what the engine shows, as everything else does."""
    with xd.database(made.folder) as database:
        (series,) = database.series()
        series.SeriesDescription = "edited"
        series.set_ndarray(series.ndarray() * 0 + 7)
        assert opened(made.folder).attrs["SeriesDescription"] == "edited"
        assert float(opened(made.folder).pixels.mean()) == 7


@pytest.mark.parametrize(
    "options",
    [{"dims": ("slice", "EchoTime"), "missing": "fill"}, {"dims": "slice", "duplicates": "first"}],
    ids=["missing", "duplicates"],
)
def test_options_are_those_of_to_xarray(tmp_path, options):
    """Dims, missing and duplicates mean what they mean for a series."""
    made = factories.make_series(tmp_path, dims={"EchoTime": [1, 2]})
    made.files[-1].unlink()
    dataset = opened(tmp_path, **options)
    xr.testing.assert_identical(dataset.pixels, xd.database(tmp_path).series()[0].to_xarray(**options).compute())


# -- which series


@pytest.mark.parametrize(
    ("series", "name"),
    [(1, "a"), ("1", "a"), ("series b", "b"), (factories.uid("series", "c"), "c")],
    ids=["number", "text", "description", "uid"],
)
def test_series_are_chosen(several, series, name):
    """A number or a description that one series has chooses it, and so does its UID."""
    assert opened(several, series=series).attrs["SeriesDescription"] == f"series {name}"


def test_several_series_are_listed(several):
    """Without series= the error lists all series of images, with what to type for each."""
    with pytest.raises(RecordError) as error:
        opened(several)
    text = str(error.value)
    assert "holds 3 series" in text
    assert all(each in text for each in ("series=1 ", "series='series b'", "series='series c'", "3 frames", "P1 Doe"))
    for line in text.splitlines()[1:]:
        typed = line.split("series=", 1)[1].split("  (")[0].strip("'")
        assert opened(several, series=typed).pixels.ndim == 3


def test_ambiguous_number_is_refused(several):
    """A number that two series have lists these two."""
    with pytest.raises(RecordError, match="2 series that series=2 may mean") as error:
        opened(several, series=2)
    assert len(str(error.value).splitlines()) == 3


def test_unknown_series_is_refused(several):
    """A series that is not there lists those that are, the report included."""
    with pytest.raises(RecordError, match="no series of series=99") as error:
        opened(several, series=99)
    assert "series=4 " in str(error.value)


def test_series_are_chosen_by_group(several):
    """The path of a node in the tree chooses a series, too."""
    assert opened(several, group=f"{GROUP}/2 series b MR").attrs["SeriesDescription"] == "series b"
    with pytest.raises(RecordError, match="no series of group="):
        opened(several, group="/P1")


def test_series_without_images_says_what_it_is(several):
    """Asking for the pixels of a report says that it is one."""
    with pytest.raises(PixelError, match="SR"):
        opened(several, series=4)


def test_frames_that_fill_no_grid_are_refused(tmp_path):
    """The error of the series says what to type."""
    factories.make_series(tmp_path, dims={"EchoTime": [1, 2], "FlipAngle": [3, 4]}, slices=2, change=_unordered)
    with pytest.raises(StackError, match="dims="):
        opened(tmp_path, dims="slice")


def _unordered(ds, index):
    ds.AcquisitionNumber = 1


@pytest.mark.parametrize("place", ["", "empty"])
def test_folder_without_dicom_is_refused(tmp_path, place):
    """The error says how many files there are, and why none is used."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("nothing here")
    with pytest.raises(RecordError, match="no DICOM"):
        opened(tmp_path / place)


def test_other_files_are_refused(tmp_path):
    """A text and a torn file say what they are; a path that is not there says that."""
    (tmp_path / "note.txt").write_text("nothing here")
    with pytest.raises(NotDicomError, match="note"):
        opened(tmp_path / "note.txt")
    made = factories.make_series(tmp_path / "a", slices=1)
    made.files[0].write_bytes(made.files[0].read_bytes()[:300])
    with pytest.raises(BrokenFileError):
        opened(made.files[0])
    with pytest.raises(RecordError, match="no file"):
        opened(tmp_path / "absent.dcm")
    with pytest.raises(TypeError, match="path"):
        opened(b"bytes")


# -- scale, variables


def test_stored_values_decode_to_real_ones(made):
    """mask_and_scale=False gives stored values, which xarray's own decoding turns into the real-world ones."""
    stored = opened(made.folder, mask_and_scale=False)
    assert stored.pixels.dtype == np.uint16
    np.testing.assert_array_equal(stored.pixels, made.stored)
    assert (stored.pixels.scale_factor, stored.pixels.add_offset) == (0.5, -3)
    np.testing.assert_allclose(xr.decode_cf(stored).pixels, opened(made.folder).pixels)


@pytest.mark.parametrize("option", [{"rescale": False}, {"decode_cf": False}, {"mask_and_scale": {"pixels": False}}])
def test_other_ways_to_stored_values(made, option):
    """rescale=False, decode_cf=False and a mapping by variable mean the same."""
    np.testing.assert_array_equal(opened(made.folder, **option).pixels, made.stored)


def test_scales_that_differ_are_a_coordinate(tmp_path):
    """Where frames have scales of their own, these are along the slices, and no attribute claims one."""
    change = lambda ds, index: factories.set_tags(ds, {"RescaleSlope": index + 1})  # noqa: E731
    made = factories.make_series(tmp_path, slope=1, intercept=0, change=change)
    stored = opened(tmp_path, mask_and_scale=False)
    assert "scale_factor" not in stored.pixels.attrs
    np.testing.assert_array_equal(stored.pixels * stored.RescaleSlope, opened(tmp_path).pixels)
    np.testing.assert_array_equal(stored.pixels, made.stored)


def test_nan_is_the_fill_value(tmp_path):
    """Where padding stands for NaN, stored values say so as _FillValue."""
    xd.as_series(np.array([[[1.5, np.nan], [2, 3]]])).save(tmp_path / "nan")
    stored = opened(tmp_path / "nan", mask_and_scale=False)
    real = opened(tmp_path / "nan").pixels
    assert int(np.isnan(real).sum()) == 1
    np.testing.assert_allclose(xr.decode_cf(stored).pixels, real, atol=1e-4)


def test_variables_are_dropped(made):
    """drop_variables leaves out coordinates and the pixels themselves, as a name or a list."""
    assert "InstanceNumber" not in opened(made.folder, drop_variables="InstanceNumber").coords
    dataset = opened(made.folder, drop_variables=["pixels", "SliceLocation", "no such"])
    assert not dataset.data_vars
    assert "SliceLocation" not in dataset.coords


# -- what is read


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """What is read of DICOM files after they are scanned."""
    counted = Counter()
    monkeypatch.setattr(locations, "Source", counted.source())
    monkeypatch.setattr(frames, "Source", counted.source())
    return counted


def test_opening_reads_no_pixels(made, counter):
    """Only what values are asked for is read: the bytes of that frame, of those rows."""
    dataset = opened(made.folder)
    assert counter.nbytes == 0
    dataset.pixels[3].values  # noqa: B018
    assert counter.nbytes == 60
    assert opened(made.folder, chunks={}).pixels[3, 2:4].compute().shape == (2, 5)
    assert counter.nbytes == 60 + 20


def test_nothing_stays_open(made):
    """Neither a file nor the catalog is held: the folder can go while the dataset is there."""
    with opened(made.folder) as dataset:
        dataset.load()
    lazy = opened(made.folder)
    shutil.rmtree(made.folder)
    with pytest.raises(OSError, match="gone"):
        lazy.load()


def test_datasets_are_pickled(made):
    """A dataset goes through pickle, in or without chunks, and reads on the other side."""
    for options in ({}, {"chunks": {}}):
        np.testing.assert_allclose(pickle.loads(pickle.dumps(opened(made.folder, **options))).pixels, made.values)


# -- chunks


def test_chunks_are_those_asked_for(made):
    """chunks= means what it means for other engines; {} is a frame each; coordinates stay in memory."""
    assert opened(made.folder).pixels.chunks is None
    assert opened(made.folder, chunks={}).pixels.chunks == ((1, 1, 1, 1), (6,), (5,))
    dataset = opened(made.folder, chunks={"slice": 3})
    assert dataset.pixels.chunks == ((3, 1), (6,), (5,))
    assert opened(made.folder, chunks=-1).pixels.chunks == ((4,), (6,), (5,))
    assert opened(made.folder, chunks="auto").pixels.chunks == ((4,), (6,), (5,))
    assert dataset.InstanceNumber.chunks is None
    np.testing.assert_allclose(dataset.pixels, made.values)


def test_names_follow_from_the_files(made):
    """Opened again the dask name is the same; when a file inside the folder changes it is another (S18)."""
    options = {"chunks": {"slice": 1}}
    first = opened(made.folder, **options).pixels.data.name
    assert opened(made.folder, **options).pixels.data.name == first
    ds = made.files[1].read_bytes()
    made.files[1].write_bytes(ds[:-60] + bytes(60))
    os.utime(made.folder, (1, 1))
    changed = opened(made.folder, **options)
    assert changed.pixels.data.name != first
    assert int(opened(made.folder, rescale=False).pixels[1].max()) == 0


def test_opening_makes_no_difference_to_other_ways(made):
    """The same frames in the same chunks have the same name as from `to_xarray`."""
    series = xd.database(made.folder).series()[0]
    assert series.to_xarray().data.name == opened(made.folder, chunks="auto").pixels.data.name


@pytest.fixture
def cluster() -> Iterator[distributed.Client]:
    """Two worker processes on this machine."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.mark.slow
def test_worker_processes_read(made, cluster):
    """Workers get places in files, and read there; chunks that are not dask's too."""
    dataset = opened(made.folder, chunks={"slice": 1})
    workers = set(cluster.run(os.getpid).values())
    assert os.getpid() not in workers
    np.testing.assert_allclose(dataset.pixels.compute(), made.values)
    np.testing.assert_allclose((dataset.pixels * 2).mean("slice"), made.values.mean(0) * 2)
    lazy = opened(made.folder).pixels
    np.testing.assert_allclose(cluster.submit(lambda part: part.values, lazy[1]).result(), made.values[1])


# -- several files by xarray


def test_files_are_combined_by_xarray(made):
    """open_mfdataset puts files of one slice together, by the slice coordinate, in the order of the slices."""
    options = {"combine": "by_coords", "combine_attrs": "drop_conflicts", "coords": "different", "compat": "equals"}
    found = xr.open_mfdataset(
        reversed(made.files), engine=XdicomBackendEntrypoint, data_vars="all", join="outer", **options
    )
    whole = opened(made.folder)
    np.testing.assert_array_equal(found.pixels, whole.pixels)
    np.testing.assert_array_equal(found.SOPInstanceUID, whole.SOPInstanceUID)
    assert "InstanceNumber" not in found.pixels.attrs


# -- trees


def test_tree_is_patients_studies_series(several):
    """Each series is a node with its pixels, a report one without; nothing is left out."""
    found = tree(several)
    assert [node.path for node in found.leaves] == [
        f"{GROUP}/{name}" for name in ("1 series a MR", "2 series b MR", "2 series c MR", "4 series report SR")
    ]
    assert found[f"{GROUP}/2 series c MR"].pixels.shape == (3, 6, 5)
    assert found["/P1 Doe^Jane"].attrs["PatientID"] == "P1"
    assert not found[f"{GROUP}/4 series report SR"].data_vars


def test_tree_takes_chunks_and_group(several):
    """chunks= goes to every node, under the names that datasets have; group= cuts a branch."""
    branch = tree(several, group=GROUP, chunks={"slice": 1})
    assert sorted(branch.children) == ["1 series a MR", "2 series b MR", "2 series c MR", "4 series report SR"]
    name = branch["1 series a MR"].pixels.data.name
    assert name == opened(several, series=1, chunks={"slice": 1}).pixels.data.name
    with pytest.raises(RecordError, match="no group"):
        tree(several, group="/nobody")


def test_tree_of_stored_values(several):
    """mask_and_scale and drop_variables hold for all nodes."""
    found = tree(several, mask_and_scale=False, drop_variables="SOPInstanceUID")
    assert all("SOPInstanceUID" not in node.coords for node in found.subtree)


def test_groups_are_a_dict(several):
    """open_groups gives the same datasets by path."""
    found = xr.open_groups(several, engine=XdicomBackendEntrypoint)
    assert found[f"{GROUP}/1 series a MR"].pixels.shape == (3, 6, 5)
    assert {"/", "/P1 Doe^Jane", GROUP} <= found.keys()


def test_tree_of_one_file(made):
    """A file is a tree of one series."""
    assert [node.pixels.shape for node in tree(made.files[0]).leaves] == [(1, 6, 5)]


def test_tree_of_real_folders(real_copy):
    """Twelve series, some of the same name, are twelve nodes with pixels."""
    found = tree(real_copy("rider-flip-angles"))
    assert sum("pixels" in node for node in found.subtree) == 12
    assert len(found.children) == 2


@pytest.mark.parametrize("name", ["pelvis-ct", "siemens-two-echoes", "ultrasound-palette"])
def test_real_folders_are_those_of_to_xarray(real_copy: Callable[[str], Path], name: str):
    """Real series are the same by the engine as by a record, or refused for the same reason."""
    folder = real_copy(name)
    for series in xd.database(folder).series():
        uid = series.SeriesInstanceUID.item()
        try:
            there = series.to_xarray()
        except (StackError, PixelError) as error:
            with pytest.raises(type(error)):
                opened(folder, series=uid)
            continue
        xr.testing.assert_identical(opened(folder, series=uid).pixels[:2], there[:2].compute())


def test_padding_is_masked_where_asked_for(tmp_path):
    """mask_padding=True gives NaN where a scanner padded; stored values are never masked."""
    pixels = np.array([[[0, 5], [7, 9]]], np.uint16)
    factories.make_series(tmp_path, slices=1, pixels=pixels, shape=(2, 2), PixelPaddingValue=0)
    assert int(opened(tmp_path).pixels.min()) == 0
    assert int(np.isnan(opened(tmp_path, mask_padding=True).pixels).sum()) == 1
    assert opened(tmp_path, mask_padding=True, mask_and_scale=False).pixels.dtype == np.uint16


def test_other_scales_are_asked_for(tmp_path):
    """rescale= takes what `to_xarray` takes, and says in the error what there is not."""
    factories.make_series(tmp_path)
    with pytest.raises(PixelError, match="hilips"):
        opened(tmp_path, rescale="philips-fp")


@pytest.fixture
def stacked(tmp_path: Path) -> list[factories.Series]:
    """A series of two stacks of different matrices."""
    tags = {"SeriesInstanceUID": "1.9", "SeriesNumber": 9}
    return [
        factories.make_series(tmp_path / "scan", slices=2, name=f"e{number}", shape=shape, **tags)
        for number, shape in ((1, (6, 5)), (2, (4, 5)))
    ]


def test_stacks_of_a_series_are_chosen_by_group(stacked):
    """A series of several stacks says so with the groups to type, each of which opens one."""
    folder = stacked[0].folder
    with pytest.raises(StackError) as error:
        opened(folder)
    groups = [line.split("group=", 1)[1].strip("'") for line in str(error.value).splitlines() if "group=" in line]
    assert len(groups) == 2
    for group, made in zip(groups, stacked, strict=True):
        np.testing.assert_array_equal(opened(folder, group=group).pixels, made.stored)
        np.testing.assert_array_equal(tree(folder)[group].pixels, made.stored)
    with pytest.raises(RecordError, match="no series of group"):
        opened(folder, group=f"{groups[0]}x")
