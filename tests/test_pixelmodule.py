"""Facts about xdicom.pixelmodule: what describes new pixels, and headers of derived images."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import real_data
from dciodvfy import complaints
from factories import OBLIQUE, make_enhanced, make_series
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels import apply_voi_lut

from xdicom.columns import TILE
from xdicom.errors import BrokenFileError, NotDicomError, SaveError
from xdicom.explicit import explicit_values
from xdicom.header import read_header
from xdicom.instance import read_instance
from xdicom.naming import new_uid
from xdicom.pixelmodule import (
    NAN_PADDING,
    STALE_UNREAD,
    SourceImage,
    derived_header,
    pixel_module,
    private_block,
    replace_pixels,
    tags_of_pixels,
    wants_zero_intercept,
)
from xdicom.quantise import Extent, choose
from xdicom.source import Source
from xdicom.tags import PrivateTag
from xdicom.writer import check_pixel_module, element_bytes, write_file

MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
SLOPE, INTERCEPT, TYPE = 0x00281053, 0x00281052, 0x00281054
CENTRE, WIDTH, FUNCTION = 0x00281050, 0x00281051, 0x00281056


def quantised(values, **options):
    """Return what is chosen for values."""
    extent = Extent.of(values)
    return choose(
        np.asarray(values).dtype, extent.low, extent.high, has_nan=extent.has_nan, integral=extent.integral, **options
    )


def module(values=(0.0, 100.5), **options):
    """Return the pixel module of a frame of 2 rows and 3 columns."""
    extent = Extent.of(values)
    return pixel_module(quantised(values), **{"rows": 2, "columns": 3, "window": (extent.low, extent.high)} | options)


def derived(header, values=(0.0, 100.5), **options):
    """Return a derived header."""
    return derived_header(header, module(values), **{"sop_instance": "1.2.3", "series": "1.2"} | options)


SOURCE = {
    0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\M\\ND"),
    0x00080016: ("UI", MR.encode()),
    0x00080018: ("UI", b"9.9.9"),
    0x00100010: ("PN", b"Doe^Jane"),
    0x0020000E: ("UI", b"9.9"),
}


# Pixel module --------------------------------------------------------------------------------------------------------


def test_integers_have_no_rescale():
    """Slope 1 and intercept 0 are left out where the header had no rescale, and written where it had."""
    assert SLOPE not in replace_pixels(SOURCE, module([1, 2, 3]))
    had = SOURCE | {SLOPE: ("DS", b"2"), INTERCEPT: ("DS", b"-5")}
    assert replace_pixels(had, module([1, 2, 3]))[SLOPE] == ("DS", b"1")
    assert replace_pixels(had, module([1, 2, 3]))[INTERCEPT] == ("DS", b"0")


def test_floats_have_the_rescale_of_the_quantisation():
    """Slope and intercept are the texts that were chosen."""
    q = quantised([-0.5, 100.25])
    result = replace_pixels(SOURCE, module([-0.5, 100.25]))
    assert result[SLOPE] == ("DS", q.slope_text.encode())
    assert result[INTERCEPT] == ("DS", q.intercept_text.encode())


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("LO", b"US")),
        ({TYPE: ("LO", b"HU")}, ("LO", b"HU")),
        ({0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.2")}, None),
        ({0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.2.1")}, None),
    ],
)
def test_rescale_type(more, expected):
    """RescaleType is kept, else unspecified; in CT its absence means HU."""
    assert replace_pixels(SOURCE | more, module()).get(TYPE) == expected


def test_signs_follow_the_pixels():
    """Smallest, Largest and Padding are SS where the pixels are signed, US else."""
    signed = replace_pixels(SOURCE, module([-5.0, 7.0, np.nan], extent=(-5, 7)))
    assert (signed[0x00280106], signed[0x00280107]) == (("SS", b"\xfb\xff"), ("SS", b"\7\0"))
    assert signed[0x00280120] == ("SS", b"\x00\x80")
    assert replace_pixels(SOURCE, module([0.5, 7.5, np.nan], extent=(1, 7)))[0x00280120] == ("US", b"\0\0")


def test_colour():
    """Colour is RGB by pixel, without window, rescale and padding."""
    q = quantised(np.array([0, 255]), colour=True)
    result = replace_pixels(SOURCE, pixel_module(q, rows=2, columns=3, window=(0, 255), samples=3))
    assert (result[0x00280004], result[0x00280006], result[0x00280100]) == (
        ("CS", b"RGB"),
        ("US", b"\0\0"),
        ("US", b"\x08\0"),
    )
    assert not {SLOPE, CENTRE, 0x00280120} & set(result)


def test_inverted_images_stay_inverted():
    """MONOCHROME1 is how values are shown, and stays."""
    result = replace_pixels(SOURCE | {0x00280004: ("CS", b"MONOCHROME1 ")}, module())
    assert result[0x00280004] == ("CS", b"MONOCHROME1")


@pytest.mark.parametrize("values", [[0, 1], [-100, 500], [0.0, 0.003], [-1.5, 2.5], [7, 7], [0.3, 0.3]])
def test_window_shows_low_to_high(values):
    """Pydicom's VOI LUT maps the least value to black and the greatest to white."""
    ds = pydicom.Dataset()
    ds.BitsStored, ds.PixelRepresentation, ds.PhotometricInterpretation = 16, 0, "MONOCHROME2"
    for tag in (CENTRE, WIDTH, FUNCTION):
        if tag in module(values):
            vr, raw = module(values)[tag]
            ds.add_new(tag, vr, raw.decode().strip())
    shown = apply_voi_lut(np.array(values, dtype=float), ds)
    if values[0] != values[1]:
        assert (shown[0], shown[1]) == (0, pytest.approx(65535, abs=1))
    assert float(ds.WindowWidth) > 0


@pytest.mark.parametrize("size", [{"rows": 0}, {"columns": 65536}])
def test_matrix_that_does_not_fit_raises(size):
    """Rows and Columns are 1 to 65535."""
    with pytest.raises(SaveError, match="1 to 65535"):
        module(**size)


def test_stale_description_is_dropped():
    """Palettes, modality and VOI LUTs, real-world maps, old extremes and icons describe pixels that are gone."""
    stale = (0x00280106, 0x00280108, 0x00281101, 0x00281201, 0x00283000, 0x00283010, 0x00409096, 0x00880200, 0x00281055)
    result = replace_pixels(SOURCE | dict.fromkeys(stale, ("UN", b"")), module())
    assert not set(stale) & set(result)
    assert result[0x00100010] == SOURCE[0x00100010]


def test_philips_scale_is_dropped():
    """The scale of Philips' own is dropped, wherever its block lies, and no other private element."""
    header = SOURCE | {
        0x20050011: ("LO", b"Philips MR Imaging DD 001 "),
        0x2005110E: ("FL", bytes(4)),
        0x20051110: ("FL", bytes(4)),
        0x20050012: ("LO", b"other "),
        0x2005120E: ("FL", bytes(4)),
    }
    assert set(header) - set(replace_pixels(header, module())) == {0x2005110E}


_ELEMENTS = {
    0x00080016: st.sampled_from([MR, ENHANCED_MR, "1.2.840.10008.5.1.4.1.1.2"]).map(lambda uid: ("UI", uid.encode())),
    0x00080070: st.just(("LO", b"ACME")),
    0x00100010: st.just(("PN", b"Doe")),
    0x00280002: st.sampled_from([("US", b"\1\0"), ("US", b"\3\0")]),
    0x00280004: st.sampled_from([("CS", b"MONOCHROME1 "), ("CS", b"RGB ")]),
    **dict.fromkeys((SLOPE, INTERCEPT), st.just(("DS", b"2 "))),
    TYPE: st.just(("LO", b"HU")),
    **dict.fromkeys((0x3004000E, 0x00282000, 0x00281055, 0x00280120, 0x00291011), st.just(("UN", b"ab"))),
    **dict.fromkeys(
        (0x00290010, 0x00290011, 0x20050010, 0x20050011),
        st.sampled_from(["xdicom", "ACME", "Philips MR Imaging DD 001"]).map(lambda name: ("LO", name.encode())),
    ),
    **dict.fromkeys((0x00291001, 0x00291101, 0x2005100D, 0x2005110E, 0x20051010), st.just(("FL", bytes(4)))),
}


@given(st.fixed_dictionaries({}, optional=_ELEMENTS), st.sampled_from([(1, 2), (0.5, 7.25), (0.5, np.nan)]))
def test_new_pixels_bear_on_few_tags(header, values):
    """Pixels replaced in the part of a header that they bear on are replaced in all of it."""
    part = {tag: header[tag] for tag in tags_of_pixels(header.keys() - STALE_UNREAD)}
    rest = {tag: raw for tag, raw in header.items() if tag not in part and tag not in STALE_UNREAD}
    assert replace_pixels(header, module(values)) == rest | replace_pixels(part, module(values))


# NaN -----------------------------------------------------------------------------------------------------------------


def test_nan_is_marked():
    """Where padding stands for NaN, a private element says so, in the first free block."""
    header = SOURCE | {0x00290010: ("LO", b"SIEMENS CSA HEADER"), 0x00291010: ("OB", b"SV10")}
    result = replace_pixels(header, module([0.5, np.nan]))
    assert result[0x00290011] == ("LO", b"xdicom")
    assert result[0x00291101] == ("CS", b"YES")
    assert result[0x00291010] == ("OB", b"SV10")


def test_mark_of_nan_goes_with_the_padding():
    """New pixels without NaN have neither padding nor mark."""
    result = replace_pixels(replace_pixels(SOURCE, module([0.5, np.nan])), module([0.5, 1.0]))
    assert not {0x00280120, 0x00291001} & set(result)


def test_mark_of_nan_is_not_repeated():
    """A block of xdicom's is used again."""
    once = replace_pixels(SOURCE, module([0.5, np.nan]))
    assert replace_pixels(once, module([0.5, np.nan])) == once


def test_no_free_block_raises():
    """A group whose blocks are all taken raises."""
    header = {0x00290000 | block: ("LO", b"x") for block in range(0x10, 0x100)}
    with pytest.raises(SaveError, match="0029 are taken"):
        private_block(header, NAN_PADDING)


def test_own_block_is_found():
    """The block of a creator is found wherever it is."""
    header = {0x00290010: ("LO", b"x "), 0x00290012: ("LO", b"mine")}
    assert private_block(header, PrivateTag("mine", 0x0029, 0x05)) == (0x00290012, 0x00291205)


# Derived images ------------------------------------------------------------------------------------------------------


def test_derived_image_says_so():
    """ImageType starts with DERIVED and SECONDARY and keeps the rest; UIDs are the new ones."""
    result = derived(SOURCE)
    assert result[0x00080008] == ("CS", b"DERIVED\\SECONDARY\\M\\ND")
    assert (result[0x00080018], result[0x0020000E]) == (("UI", b"1.2.3"), ("UI", b"1.2"))
    assert result[0x00100010] == SOURCE[0x00100010]


def test_source_header_is_not_changed():
    """The header given stays as it is."""
    before = dict(SOURCE)
    derived(SOURCE)
    assert before == SOURCE


def test_sources_are_named_once():
    """Source Image Sequence holds each source once, with its frame where it is one of several."""
    sources = [SourceImage(MR, "1.1"), SourceImage(MR, "1.1"), SourceImage(ENHANCED_MR, "2.2", 7)]
    element = element_bytes(0x00082112, *derived(SOURCE, sources=sources)[0x00082112])
    buffer = pydicom.filebase.DicomBytesIO(element)
    items = pydicom.filereader.read_dataset(buffer, is_implicit_VR=False, is_little_endian=True)[0x00082112].value
    assert [item.ReferencedSOPInstanceUID for item in items] == ["1.1", "2.2"]
    assert [item.get("ReferencedFrameNumber") for item in items] == [None, 7]


def test_description_in_the_character_set_of_the_header():
    """DerivationDescription is encoded as the header says."""
    header = SOURCE | {0x00080005: ("CS", b"ISO_IR 192")}
    assert derived(header, description="T\u2082 map")[0x00082111] == ("ST", "T\u2082 map".encode())


def test_lossy_stays_lossy():
    """What was lossy once is lossy for ever."""
    lossy = {0x00282110: ("CS", b"01"), 0x00282112: ("DS", b"10"), 0x00282114: ("CS", b"ISO_10918_1 ")}
    assert lossy.items() <= derived(SOURCE | lossy).items()


def test_leftovers_are_dropped():
    """Overlays, frames, dimensions, concatenations, signatures and padding belong to the object that was."""
    tags = (0x60000010, 0x60023000, 0x00280008, 0x00209222, 0x52009230, 0x00209161, 0xFFFAFFFA, 0xFFFCFFFC, 0x00080014)
    assert not set(tags) & set(derived(SOURCE | dict.fromkeys(tags, ("UN", b""))))


def test_drop_and_changes():
    """Tags of dims that are gone are dropped, and changes come last."""
    header = SOURCE | {0x00180081: ("DS", b"4.6 "), 0x00200013: ("IS", b"7 ")}
    result = derived(header, drop=[0x00180081], changes={0x00200013: ("IS", b"1 ")})
    assert 0x00180081 not in result
    assert result[0x00200013] == ("IS", b"1 ")


def test_elements_are_sorted():
    """The result is in the order of tags."""
    assert list(derived(SOURCE)) == sorted(derived(SOURCE))


def test_tiles_of_a_mosaic_are_no_mosaic():
    """An image of one tile has no MOSAIC in its type and no description of tiles, but other private elements."""
    header = SOURCE | {
        0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC "),
        0x00190010: ("LO", b"SIEMENS MR HEADER "),
        0x0019100A: ("US", b"\4\0"),
        0x0019100C: ("IS", b"1000"),
    }
    result = derived(header)
    assert result[0x00080008] == ("CS", b"DERIVED\\SECONDARY\\M\\ND")
    assert 0x0019100A not in result
    assert 0x0019100C in result


def test_enhanced_becomes_classic():
    """An enhanced MR becomes an MR image with the terms of that, and the type of its frame."""
    header = SOURCE | {
        0x00080016: ("UI", ENHANCED_MR.encode()),
        0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\MIXED\\NONE"),
        0x00089007: ("CS", b"ORIGINAL\\PRIMARY\\T1\\NONE"),
        0x00189008: ("CS", b"GRADIENT"),
        0x00189018: ("CS", b"YES "),
        0x00181312: ("CS", b"COLUMN"),
    }
    result = derived(header)
    assert result[0x00080016] == ("UI", MR.encode())
    assert result[0x00080008] == ("CS", b"DERIVED\\SECONDARY\\T1\\NONE")
    assert (result[0x00180020], result[0x00181312]) == (("CS", b"GR\\EP"), ("CS", b"COL"))
    assert 0x00089007 not in result


@pytest.mark.parametrize(
    ("enhanced", "classic"),
    [
        ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2"),
        ("1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7"),
        ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2"),
    ],
)
def test_classes(enhanced, classic):
    """Multi-frame classes become those of single frames; others stay."""
    assert derived(SOURCE | {0x00080016: ("UI", enhanced.encode())})[0x00080016] == ("UI", classic.encode())


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.12.1"])
def test_classes_that_can_not_hold_the_pixels(sop_class):
    """Ultrasound of 16 bits and signed angiography become secondary captures."""
    result = derived(SOURCE | {0x00080016: ("UI", sop_class.encode())}, [-1, 1])
    assert result[0x00080016] == ("UI", b"1.2.840.10008.5.1.4.1.1.7")


@pytest.mark.parametrize(("part", "expected"), [(b"KIDNEY", b""), (b"BRAIN ", None), (b"", b"")])
def test_laterality(part, expected):
    """Laterality is empty for paired body parts and where none is named, and absent for unpaired ones."""
    header = SOURCE | {0x00080016: ("UI", ENHANCED_MR.encode()), 0x00180015: ("CS", part), 0x00209072: ("CS", b"U ")}
    assert derived(header).get(0x00200060, ("CS", None))[1] == expected


def test_laterality_of_the_frame():
    """The side of the frame becomes that of the image."""
    header = SOURCE | {0x00080016: ("UI", ENHANCED_MR.encode()), 0x00209072: ("CS", b"L ")}
    assert derived(header)[0x00200060] == ("CS", b"L")


def test_pet_wants_intercept_zero():
    """PET images have no intercept."""
    assert wants_zero_intercept({0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.128")})
    assert wants_zero_intercept({0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.130\0")})
    assert not wants_zero_intercept(SOURCE)


# Real files ----------------------------------------------------------------------------------------------------------


def flattened(path: Path):
    """Return the elements of the first frame of a file, and how many frames it has."""
    with Source(path) as source:
        header = read_header(source)
        instance = read_instance(header)
        values = {tag: (vr, raw) for tag, vr, raw in header.items() if tag >> 16 != 2}
    if not instance.has_pixels:
        raise NotDicomError("no image")
    values |= {tag: column[0] for tag, column in instance.columns.items() if tag >= 0 and column[0] is not None}
    frames = 1 if TILE in instance.columns else len(instance)  # slices in one picture have no numbers
    return explicit_values(values, implicit=header.layout.implicit), frames


def written(path: Path, target: Path) -> None:
    """Write an image that is derived from the first frame of a file, with floats and NaN, and check it."""
    values, frames = flattened(path)
    rows, columns = (struct.unpack("<H", values[tag][1])[0] for tag in (0x00280010, 0x00280011))
    array = np.linspace(-10, 100.5, rows * columns)
    array[0] = np.nan
    q = quantised(array, zero_intercept=wants_zero_intercept(values))
    stored = np.rint((np.nan_to_num(array, nan=0) - q.intercept) / q.slope).astype(q.dtype)
    stored[0] = q.padding
    extent = int(stored.min()), int(stored.max())
    sop_class, instance = (values[tag][1].strip(b"\0 ").decode() for tag in (0x00080016, 0x00080018))
    made = derived_header(
        values,
        pixel_module(q, rows=rows, columns=columns, window=(-10, 100.5), extent=extent),
        sop_instance=new_uid(),
        series=new_uid(),
        sources=[SourceImage(sop_class, instance, 1 if frames > 1 else None)],
        description="Derived for a test",
    )
    check_pixel_module(made, *extent)
    write_file(target, [(tag, *value) for tag, value in made.items()], stored.tobytes())


def assert_no_new_errors(path: Path, target: Path) -> None:
    """Fail where dciodvfy finds errors in a derived image that its source has not."""
    written(path, target)
    (_, before), (_, after) = complaints(path), complaints(target)
    # A source whose own UID is wrong is referred to by that UID.
    referred = "SourceImageSequence(0008,2112)[*]/ReferencedSOPInstanceUID"
    new = {text for severity, text in after - before if severity == "Error" and referred not in text}
    assert new == set()
    assert pydicom.dcmread(target).pixel_array.size


FOLDERS = [
    "ge-fmri-4d",
    "molli-enhanced",
    "multiframe",
    "pelvis-ct",
    "philips-enhanced-b0",
    "rider-flip-angles",
    "siemens-axial-orders",
    "siemens-enhanced-colour",
    "siemens-enhanced-rest",
    "siemens-mosaic-fmri",
    "siemens-mosaic-nine-syntaxes",
    "siemens-two-echoes",
    "ultrasound-palette",
    "xray-angio",
    "xray-angio-compressed",
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_derived_images_of_real_ones_have_no_new_errors(folder, tmp_path):
    """Dciodvfy finds no error in an image derived from a real one that the real one has not."""
    tested = 0
    for path in sorted(path for path in real_data(folder).rglob("*") if path.is_file())[:9]:
        try:
            flattened(path)
        except (NotDicomError, BrokenFileError):
            continue
        assert_no_new_errors(path, tmp_path / f"{tested}.dcm")
        tested += 1
    assert tested


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_derived_images_of_synthetic_ones_have_no_new_errors(syntax, tmp_path):
    """Nor in one derived from a synthetic image of any transfer syntax that dciodvfy reads."""
    series = make_series(tmp_path / "in", slices=1, syntax=syntax, layout=OBLIQUE)
    assert_no_new_errors(series.files[0], tmp_path / "out.dcm")


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_derived_images_of_synthetic_enhanced_ones(syntax, tmp_path):
    """An image derived from an enhanced one is a classic MR image."""
    enhanced = make_enhanced(tmp_path / "in" / "e.dcm", slices=2, syntax=syntax)
    written(enhanced.files[0], tmp_path / "out.dcm")
    assert complaints(tmp_path / "out.dcm")[0] == "MRImage"
    assert pydicom.dcmread(tmp_path / "out.dcm").SOPClassUID == MR
