"""Facts about series as nodes of a tree: their paths, and what a node holds."""

from pathlib import Path

import factories
import numpy as np
import pytest

from xdicom.lone import lone_frames
from xdicom.trees import Arranging, has_images, node_paths, tree_datasets


def tables(folder: Path):
    """Return the rows of every series in a folder."""
    return sorted(lone_frames(sorted(folder.rglob("*.dcm"))).items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A patient with two studies, of two series and a report, and another patient."""
    factories.make_series(tmp_path, name="a", SeriesNumber=1)
    factories.make_series(tmp_path, name="b", SeriesNumber=2, slope=0.5)
    factories.make_report(tmp_path / "r.dcm", SeriesNumber=3)
    factories.make_series(tmp_path, name="c", StudyInstanceUID="1.2", StudyDescription="Follow/up")
    factories.make_series(tmp_path, name="d", PatientID="P2", PatientName="Roe", StudyInstanceUID="1.3")
    return tmp_path


def test_nodes_are_named_as_people_name_them(folder):
    """Paths are patient / study / series, by identity, date and descriptions; a slash in a tag is none in a path."""
    paths = sorted(node_paths(tables(folder)).values())
    assert paths == [
        "/P1 Doe^Jane/20240229 Follow_up/1 series c MR",
        "/P1 Doe^Jane/20240229 Made for tests/1 series a MR",
        "/P1 Doe^Jane/20240229 Made for tests/2 series b MR",
        "/P1 Doe^Jane/20240229 Made for tests/3 series report SR",
        "/P2 Roe/20240229 Made for tests/1 series d MR",
    ]


def test_paths_are_those_of_one_series_only(tmp_path):
    """Series, studies and patients that are called the same are numbered."""
    for number, name in enumerate("abc"):
        patient, study = {"a": ("P/1", "1.1"), "b": ("P/1", "1.1"), "c": ("P_1", "1.2")}[name]
        tags = {"PatientID": patient, "StudyInstanceUID": study, "SeriesDescription": "same"}
        factories.make_series(tmp_path, slices=1, name=f"{name}{number}", **tags)
    found = node_paths(tables(tmp_path)).values()
    assert len(set(found)) == 3
    assert sum(path.endswith("1 same MR (2)") for path in found) == 1
    assert {path.split("/")[1] for path in found} == {"P_1 Doe^Jane", "P_1 Doe^Jane (2)"}


@pytest.mark.parametrize("name", [".", "..", "/", "a/b", "", "\u202e", "x" * 300])
def test_odd_identities_are_safe_in_paths(tmp_path, name):
    """Whatever a tag says, a node has a name that is not empty, no dot, and without slashes."""
    names = {"PatientID": name[:64], "PatientName": "", "SeriesDescription": name[:64]}
    factories.make_series(tmp_path, slices=1, SpecificCharacterSet="ISO_IR 192", **names)
    (path,) = node_paths(tables(tmp_path)).values()
    parts = path.split("/")
    assert len(parts) == 4
    assert all(part.strip(" .") for part in parts[1:])


def test_parents_hold_what_is_theirs(folder):
    """Patients and studies have attributes; series have pixels."""
    nodes = tree_datasets(tables(folder), Arranging())
    assert nodes["/P2 Roe"].attrs == {
        "PatientID": "P2",
        "PatientName": "Roe",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
    }
    assert nodes["/P2 Roe/20240229 Made for tests"].attrs["StudyInstanceUID"] == "1.3"
    pixels = nodes["/P1 Doe^Jane/20240229 Made for tests/2 series b MR"].pixels
    assert pixels.dims == ("slice", "row", "column")
    assert pixels.dtype == np.float32


def test_objects_without_pixels_are_there(folder):
    """A report is a node with its tags, without a variable and without a warning."""
    node = tree_datasets(tables(folder), Arranging())["/P1 Doe^Jane/20240229 Made for tests/3 series report SR"]
    assert not node.data_vars
    assert (node.attrs["Modality"], node.attrs["CompletionFlag"]) == ("SR", "COMPLETE")


def test_series_that_fill_no_grid_say_why(folder):
    """A series whose frames do not fit has them one after another, with the reason, and a warning names it."""
    made = [
        factories.make_series(folder, slices=2, name=f"e{number}", SeriesInstanceUID="1.9", SeriesNumber=9)
        for number in (1, 2)
    ]
    with pytest.warns(UserWarning, match=r"1 of 5 series .*\n.*9 series e1 MR"):
        nodes = tree_datasets(tables(folder), Arranging(dims="slice"))
    (node,) = (node for path, node in nodes.items() if "/9 " in path)
    assert "2 positions hold 2 frames" in node.attrs["problem"]
    assert node.pixels.dims == ("frame", "row", "column")
    there = {image.tobytes() for series in made for image in series.stored}
    assert {image.tobytes() for image in node.pixels.values} == there


def test_stacks_of_a_series_are_nodes(folder):
    """A series of images with two matrices is a node with one below it for each stack, and nothing is left out."""
    made = []
    for number, shape in ((1, (6, 5)), (2, (4, 5))):
        tags = {"SeriesInstanceUID": "1.9", "SeriesNumber": 9}
        made.append(factories.make_series(folder, slices=2, name=f"e{number}", shape=shape, **tags))
    nodes = tree_datasets(tables(folder), Arranging())
    (path,) = (path for path in nodes if "/9 " in path and path.count("/") == 3)
    assert (dict(nodes[path].sizes), nodes[path].attrs["SeriesInstanceUID"]) == ({}, "1.9")
    names = [name for name in nodes if name.startswith(f"{path}/")]
    assert [name.rpartition("/")[2][:16] for name in names] == ["1 2 frames 5 x 6", "2 2 frames 5 x 4"]
    for name, series in zip(names, made, strict=True):
        np.testing.assert_array_equal(nodes[name].pixels, series.stored)


def test_images_that_cannot_be_read_say_why(folder):
    """A series with an image that is torn is there with its tags and the reason."""

    def change(ds, index):
        if index == 1:
            ds.PixelData = b"\0" * 8

    factories.make_series(folder, slices=2, name="e", SeriesNumber=9, change=change)
    with pytest.warns(UserWarning, match="1 of 5"):
        nodes = tree_datasets(tables(folder), Arranging())
    (node,) = (node for path, node in nodes.items() if "/9 " in path)
    assert (dict(node.sizes), not node.data_vars, "pixels" in node.attrs["problem"]) == ({"frame": 2}, True, True)


def test_how_frames_are_arranged_holds_for_all(folder):
    """Dims, scale and dtype are handed on."""
    nodes = tree_datasets(tables(folder), Arranging(dims=("InstanceNumber",), rescale=False, dtype="float64"))
    found = [node.pixels for node in nodes.values() if "pixels" in node]
    assert {pixels.dims[0] for pixels in found} == {"InstanceNumber"}
    assert {pixels.dtype for pixels in found} == {np.dtype("float64")}


def test_images_are_told_from_reports(folder):
    """A series has images where a row has pixels."""
    found = {frames.unique("Modality").item(): has_images(frames) for _, frames in tables(folder)}
    assert found == {"MR": True, "SR": False}
