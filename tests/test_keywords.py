"""Naming elements, and the VR that the dictionaries give them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import keyword_dict
from pydicom.tag import Tag

from xdicom.errors import UnknownTagError
from xdicom.keywords import (
    LONG_VRS,
    VRS,
    PrivateTag,
    as_tag,
    concrete_vr,
    dictionary_vm,
    dictionary_vr,
    is_private,
    label,
    parse,
    private_vr,
)

SIEMENS = "SIEMENS CSA HEADER"


@pytest.mark.parametrize(
    "name",
    [
        "EchoTime",
        (0x0018, 0x0081),
        [0x0018, 0x0081],
        0x00180081,
        Tag(0x0018, 0x0081),
        np.uint32(0x00180081),
        "(0018,0081)",
        "(0018, 0081)",
    ],
)
def test_every_notation_names_the_same_tag(name):
    """A keyword, a pair, an int, a pydicom tag, a numpy integer and a label name one element."""
    assert as_tag(name) == 0x00180081


def test_a_tag_is_a_plain_int():
    """Tags are ints, not pydicom's subclass, so that they pickle small and print as ints."""
    assert type(as_tag(Tag(0x0018, 0x0081))) is int


def test_a_typo_names_the_nearest_keyword():
    """The error of an unknown keyword has the one that was meant."""
    with pytest.raises(UnknownTagError, match=r"'EchoTim' is no DICOM keyword; did you mean 'EchoTime'"):
        as_tag("EchoTim")


@pytest.mark.parametrize("name", ["echotime", "echo_time", "Echo Time", "ECHOTIME"])
def test_another_spelling_names_the_keyword(name):
    """Case, spaces and underscores do not hide the keyword that is meant."""
    with pytest.raises(UnknownTagError, match="did you mean 'EchoTime'"):
        as_tag(name)


def test_a_protocol_name_gets_no_suggestion():
    """Names that begin with an underscore come from tools, and cost no search."""
    with pytest.raises(UnknownTagError) as caught:
        as_tag("__array_interface__")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyError, AttributeError])
def test_an_unknown_name_is_a_lookup_error(error):
    """An unknown name is a KeyError and an AttributeError."""
    with pytest.raises(error):
        as_tag("NoSuchThing")


@pytest.mark.parametrize("name", ["", -1, 1 << 32, True, None, 1.5, (1, 2, 3), (0x10000, 0), (0, -1), (), ("0018", 1)])
def test_what_is_no_tag_is_refused(name):
    """Anything else is an UnknownTagError that says what a tag is."""
    with pytest.raises(UnknownTagError):
        as_tag(name)


def test_a_tuple_of_names_shows_the_list_form():
    """Several names go in a list; the error of a tuple shows it."""
    with pytest.raises(UnknownTagError, match=r"type a list: \['EchoTime', 'FlipAngle'\]"):
        parse(("EchoTime", "FlipAngle"))


def test_a_private_name_is_parsed():
    """A creator, a group and the low byte of an element name a private element."""
    assert parse((SIEMENS, 0x0029, 0x10)) == PrivateTag(SIEMENS, 0x0029, 0x10)


def test_a_private_tag_parses_to_itself():
    """What parse returns can be given to it again."""
    name = PrivateTag(SIEMENS, 0x0029, 0x10)
    assert parse(name) == name


def test_parse_takes_public_names():
    """Parse returns the int of anything that is not private."""
    assert parse("Rows") == 0x00280010


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ((SIEMENS, 0x0028, 0x10), "no private group"),
        ((SIEMENS, 0x0029, 0x1010), "name it without its block, 0x10"),
        ((SIEMENS, 0x0029, "10"), "no tag"),
        ((SIEMENS, 0x10029, 0x10), "no private group"),
    ],
)
def test_a_wrong_private_name_is_refused(name, text):
    """An even group or an element with its block is refused, with what to type."""
    with pytest.raises(UnknownTagError, match=text):
        parse(name)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x00180081, "EchoTime"),
        (0x00291010, "(0029,1010)"),
        (0x00290010, "(0029,0010)"),
        (0x00080000, "(0008,0000)"),
        (0x60000010, "OverlayRows"),
        (0x60020010, "(6002,0010)"),
        (0x0010ABCD, "(0010,ABCD)"),
    ],
)
def test_a_label_is_the_keyword_or_the_numbers(tag, text):
    """Only a tag with a keyword of its own is labelled by it."""
    assert label(tag) == text


@given(st.integers(0, 0xFFFFFFFF) | st.sampled_from(sorted(keyword_dict.values())))
def test_a_label_names_its_tag(tag):
    """as_tag(label(tag)) is the tag, for every tag."""
    assert as_tag(label(tag)) == tag


def test_every_keyword_is_a_tag():
    """All keywords of the dictionary are known."""
    assert [as_tag(keyword) for keyword in keyword_dict if keyword] == [
        tag for keyword, tag in keyword_dict.items() if keyword
    ]


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        (0x00180081, "DS"),
        (0x00280106, "US or SS"),
        (0x60003000, "OB or OW"),
        (0x60023000, "OB or OW"),
        (0x00290010, "LO"),
        (0x00291010, "UN"),
        (0x00080000, "UL"),
        (0x0010ABCD, "UN"),
        (0xFFFEE000, "UN"),
    ],
)
def test_the_dictionary_gives_a_vr(tag, vr):
    """Repeating groups, private creators and group lengths have a VR too; what is not known is UN."""
    assert dictionary_vr(tag) == vr


@pytest.mark.parametrize(
    ("creator", "tag", "vr"),
    [
        ("SIEMENS MR HEADER", 0x0019100C, "IS"),
        ("SIEMENS MR HEADER", 0x0019110C, "IS"),
        ("SIEMENS MR HEADER", 0x001910FF, "UN"),
        ("NOBODY", 0x0019100C, "UN"),
        ("NOBODY", 0x00190010, "LO"),
        ("", 0x00280010, "US"),
    ],
)
def test_the_private_dictionary_gives_a_vr(creator, tag, vr):
    """A private element is looked up by its creator, in whatever block it is."""
    assert private_vr(creator, tag) == vr


@pytest.mark.parametrize(
    ("tag", "vm"), [(0x00280030, "2"), (0x00280010, "1"), (0x00200037, "6"), (0x0010ABCD, "1-n"), (0x0019100C, "1-n")]
)
def test_the_dictionary_gives_a_multiplicity(tag, vm):
    """The value multiplicity is the dictionary's, 1-n where it has none."""
    assert dictionary_vm(tag) == vm


def test_the_private_dictionary_gives_a_multiplicity():
    """A private element's multiplicity is that under its creator."""
    assert dictionary_vm(0x0019100E, "SIEMENS MR HEADER") == "3"


@pytest.mark.parametrize(
    ("tag", "vr", "signed", "concrete"),
    [
        (0x00280106, "", False, "US"),
        (0x00280106, "", True, "SS"),
        (0x00280106, "US", True, "US"),
        (0x00280010, "UN", False, "US"),
        (0x00280010, "??", False, "US"),
        (0x7FE00010, "", False, "OW"),
        (0x00283006, "", False, "OW"),
        (0x00291010, "", False, "UN"),
        (0x00291010, "SQ", False, "SQ"),
        (0x00280106, "US or SS", True, "SS"),
    ],
)
def test_a_concrete_vr_has_two_letters(tag, vr, signed, concrete):
    """What is written counts, else the dictionary; the sign decides between US and SS."""
    assert concrete_vr(tag, vr, signed=signed) == concrete


def test_a_concrete_vr_of_a_private_element_needs_its_creator():
    """UN of a known private element is what the private dictionary says."""
    assert concrete_vr(0x0019100C, "UN", creator="SIEMENS MR HEADER") == "IS"


def test_every_vr_is_known():
    """The VRs are the 34 of the standard."""
    assert len(VRS) == 34
    assert LONG_VRS <= VRS


def test_private_is_odd():
    """A tag of an odd group is private."""
    assert (is_private(0x00291010), is_private(0x00280010)) == (True, False)
