"""Facts about xdicom.attributes: lower_case names that work at every level, as dims and in conditions."""

import inspect

import numpy as np
import pytest
from factories import OBLIQUE, make_enhanced, make_report, make_series

import xdicom as xd
from xdicom.attributes import RESERVED
from xdicom.errors import EditError, UnknownTagError
from xdicom.frames import ATTRIBUTES


@pytest.fixture
def register(monkeypatch):
    """Give register_attribute, whose attributes are forgotten after the test."""
    for name, attribute in ATTRIBUTES.items():
        monkeypatch.setitem(ATTRIBUTES, name, attribute)
    before = set(ATTRIBUTES)
    yield xd.register_attribute
    for name in set(ATTRIBUTES) - before:
        del ATTRIBUTES[name]


def test_an_attribute_works_everywhere(tmp_path, register):
    """A registered attribute is read at every level and in a list of names, filters, and is a dim."""
    register("position_number", lambda frames: np.argsort(np.argsort(frames["SliceLocation"])))
    made = make_series(tmp_path, slices=3)
    database = xd.database(tmp_path)
    for record in (database, *database.patients(), *database.studies(), *database.series()):
        assert record.position_number == [0, 1, 2]
    assert database[["Rows", "position_number"]] == [[6], [0, 1, 2]]
    assert all(type(value) is int for value in database.position_number)
    assert database.series(position_number=2) == database.series()
    assert database.series(position_number=3) == []
    assert np.array_equal(database.ndarray(dims=("position_number",)), made.values.transpose(2, 1, 0))
    assert database.frames()["position_number"].tolist() == [0, 1, 2]
    assert database.to_xarray(dims="position_number").dims == ("position_number", "row", "column")
    assert "position_number" in dir(database)


def test_no_value(tmp_path, register):
    """None and NaN say that a frame has no value: the attribute is [] where no frame has one."""
    register("nothing", lambda frames: [None] * len(frames))
    register("numbers", lambda frames: np.full(len(frames), np.nan))
    make_series(tmp_path)
    series = xd.database(tmp_path).series()[0]
    assert (list(series.nothing), list(series.numbers)) == ([], [])
    assert np.isnan(series.frames()["nothing"]).all()


def test_a_wrong_number_of_values(tmp_path, register):
    """An attribute that gives too few values says so."""
    register("short", lambda frames: [1])
    make_series(tmp_path, slices=3)
    with pytest.raises(EditError, match="'short' gave 1 values for 3 frames"):
        xd.database(tmp_path).series()[0].short  # noqa: B018 - reading it is the point


@pytest.mark.parametrize("name", ["series", "affine", "to_xarray", "class", "CamelCase", "_hidden", "two words", "1st"])
def test_names_that_are_refused(register, name):
    """Names that records have, Python's own and those that are no lower_case identifiers are refused."""
    with pytest.raises(EditError, match=name):
        register(name, lambda frames: [1] * len(frames))


def test_every_name_of_a_record_is_reserved():
    """No public name of a record can be taken by an attribute."""
    public = {
        name
        for kind in (xd.Database, xd.Patient, xd.Study, xd.Series)
        for name, _ in inspect.getmembers(kind)
        if name[0] != "_" and name == name.lower()
    }
    assert public <= RESERVED


def test_a_typo_names_the_nearest(tmp_path):
    """An unknown lower_case name raises with the attribute, method or keyword that is meant."""
    make_series(tmp_path)
    series = xd.database(tmp_path).series()[0]
    for typo, meant in (("slice_locaton", "slice_location"), ("ndaray", "ndarray"), ("rows", "Rows")):
        with pytest.raises(AttributeError, match=meant):
            getattr(series, typo)
    with pytest.raises(KeyError, match="slice_location"):
        series["slice_locaton"]
    with pytest.raises(UnknownTagError, match="slice_location"):
        series.ndarray(dims=("slice_locaton",))


def test_slice_location_is_geometry(tmp_path):
    """slice_location is the position along the normal, whatever SliceLocation says, and [] without geometry."""
    make_series(tmp_path / "a", layout=OBLIQUE, slices=3, SliceLocation=99.0)
    series = xd.database(tmp_path / "a").series()[0]
    wanted = [np.dot(OBLIQUE.position(i), OBLIQUE.normal) for i in range(3)]
    assert np.allclose(series.slice_location, sorted(wanted))
    make_report(tmp_path / "b" / "r.dcm")
    assert list(xd.database(tmp_path / "b").slice_location) == []


IMAGE_TYPES = {
    "MAGNITUDE": [["ORIGINAL", "PRIMARY", "M", "ND"], ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]],
    "PHASE": [["ORIGINAL", "PRIMARY", "P", "ND"], ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]],
    "REAL": [["ORIGINAL", "PRIMARY", "R", "ND"], ["ORIGINAL", "PRIMARY", "R_FFE", "R"]],
    "IMAGINARY": [["ORIGINAL", "PRIMARY", "I", "ND"]],
    "UNKNOWN": [["ORIGINAL", "PRIMARY"], ["ORIGINAL", "PRIMARY", "OTHER"], ["P", "M"]],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in IMAGE_TYPES.items() for value in values])
def test_image_type(tmp_path, kind, value):
    """Values 3 and on of ImageType say whether an image is magnitude, phase, real or imaginary."""
    make_series(tmp_path, slices=1, ImageType=value)
    assert xd.database(tmp_path).image_type == kind


def test_image_type_of_enhanced_frames(tmp_path):
    """In enhanced files the type of the frame counts, before that of the file."""
    make_enhanced(tmp_path / "e.dcm", slices=1, dims={"FrameType": [["ORIGINAL", "PRIMARY", "PHASE MAP", "NONE"]]})
    assert xd.database(tmp_path).image_type == "PHASE"


def test_image_type_of_ge(tmp_path):
    """GE says it in a private element."""

    def change(ds, index):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", index)

    make_series(tmp_path, slices=4, change=change)
    assert xd.database(tmp_path).image_type == ["IMAGINARY", "MAGNITUDE", "PHASE", "REAL"]


@pytest.mark.parametrize(
    ("creator", "group", "element", "vr", "value"),
    [
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "IS", 800),
        ("Philips Imaging DD 001", 0x2001, 0x03, "FL", 800.0),
        ("GEMS_PARM_01", 0x0043, 0x39, "IS", [800, 8, 0, 0]),
        ("GEMS_PARM_01", 0x0043, 0x39, "IS", [1000000800, 8, 0, 0]),
    ],
)
def test_b_value(tmp_path, creator, group, element, vr, value):
    """b_value is the standard's, else the vendor's."""
    change = lambda ds, i: ds.private_block(group, creator, create=True).add_new(element, vr, value)  # noqa: E731
    make_series(tmp_path / "vendor", slices=1, change=change)
    make_series(tmp_path / "standard", slices=1, change=change, DiffusionBValue=50.0)
    assert xd.database(tmp_path / "vendor").b_value == 800
    assert xd.database(tmp_path / "standard").b_value == 50


def test_real_slice_location(real_copy):
    """The pelvis has no SliceLocation, and slice_location gives 150 slices of 1 mm, as a dim too."""
    series = xd.database(real_copy("pelvis-ct")).series()[0]
    assert list(series.SliceLocation) == []
    assert np.allclose(np.diff(series.slice_location), 1.0)
    assert series.to_xarray(dims=("slice_location",)).sizes["slice_location"] == 150
