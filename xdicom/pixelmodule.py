"""Headers that follow new pixels: what describes stored integers, and the header of a derived image.

Pure functions on elements, {tag: (VR, raw little-endian value)}; they read and write no file.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .errors import SaveError
from .quantise import Quantisation
from .rescale import DOSE_SCALING
from .tags import PrivateTag, encode
from .writer import Values, sequence_bytes

NAN_PADDING = PrivateTag("xdicom", 0x0029, 0x01)
"""Private element, CS "YES": PixelPaddingValue stands for NaN. Without it, padding is a value like others."""

_CHARSET, _IMAGE_TYPE, _SOP_CLASS, _SOP_INSTANCE = 0x00080005, 0x00080008, 0x00080016, 0x00080018
_FRAME_TYPE, _CONVERSION, _PHASE_DIRECTION, _SCANNING = 0x00089007, 0x00080064, 0x00181312, 0x00180020
_LATERALITY, _FRAME_LATERALITY, _MANUFACTURER = 0x00200060, 0x00209072, 0x00080070
_DERIVATION, _SOURCES, _SERIES = 0x00082111, 0x00082112, 0x0020000E
_SAMPLES, _PHOTOMETRIC, _PLANAR, _ROWS, _COLUMNS = 0x00280002, 0x00280004, 0x00280006, 0x00280010, 0x00280011
_ALLOCATED, _STORED, _HIGH_BIT, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_SMALLEST, _LARGEST, _PADDING = 0x00280106, 0x00280107, 0x00280120
_CENTER, _WIDTH, _WINDOW_FUNCTION = 0x00281050, 0x00281051, 0x00281056
_INTERCEPT, _SLOPE, _RESCALE_TYPE = 0x00281052, 0x00281053, 0x00281054

# What describes pixels that are no longer there.
_STALE_PIXELS = frozenset(
    {
        *(_SAMPLES, _PHOTOMETRIC, _PLANAR, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _HIGH_BIT, _SIGNED),
        *(0x00280104, 0x00280105, _SMALLEST, _LARGEST, 0x00280108, 0x00280109, 0x00280110, 0x00280111),  # extremes
        *(_PADDING, 0x00280121, 0x00280122, 0x00280123, 0x00280124, 0x00280125),  # padding
        *(_CENTER, _WIDTH, 0x00281055, _WINDOW_FUNCTION, 0x00283010),  # VOI LUT
        *(_INTERCEPT, _SLOPE, _RESCALE_TYPE, 0x00283000),  # modality LUT
        *(0x00409096, *range(0x00409210, 0x00409217), 0x00409220, 0x00409224, 0x00409225),  # real-world value mapping
        *range(0x00281101, 0x00281105), *range(0x00281111, 0x00281114), 0x00281199,  # palettes
        *range(0x00281201, 0x00281205), *range(0x00281211, 0x00281215), *range(0x00281221, 0x00281225),
        *(0x00281402, 0x00281404, 0x00281405, 0x0028140B, 0x0028140C, 0x0028140D, 0x00281410, 0x00282000, 0x00282002),
        *(0x00287FE0, 0x00880200, 0x7FE00001, 0x7FE00002),  # provider, icon, offset tables
    }
)  # fmt: skip
# Of these, what says how the new ones are described.
_READ = frozenset({_SAMPLES, _PHOTOMETRIC, 0x00282000, 0x00282002, _INTERCEPT, _SLOPE, _RESCALE_TYPE})
STALE_UNREAD = _STALE_PIXELS - _READ
"""What `replace_pixels` takes away, whatever it says."""

# Philips' own scale of the stored integers.
STALE_PRIVATE = {
    *(("Philips MR Imaging DD 001", 0x2005, element) for element in (0x0D, 0x0E)),
    *(("Philips MR Imaging DD 005", 0x2005, element) for element in (0x09, 0x0A, 0x0B)),
}
"""Vendors' own scale of the stored integers: (creator, group, element)."""

_COLOUR_SPACE = (0x00282000, 0x00282002)  # ICC profile and its name: of colours before and after
# What belongs to one object or to several frames, and not to an image derived from one of them.
_STALE_OBJECT = frozenset(
    {
        *(0x00080012, 0x00080013, 0x00080014, _DERIVATION, _SOURCES, 0x00089215),  # creation and derivation
        *(0x00280008, 0x00280009, 0x00286010, 0x00286020, 0x00286022, 0x00286023),  # frames
        *(0x00181063, 0x00181065, 0x00181066, 0x00180040, 0x00082142, 0x00082143, 0x00082144, 0x00181244),  # cine
        *(0x00200242, 0x00209161, 0x00209162, 0x00209163, 0x00209228),  # concatenation
        *(0x00209221, 0x00209222, 0x00209311, 0x52009229, 0x52009230),  # dimensions, functional groups
        *(0x00209056, 0x00209057, 0x00209128, 0x00209157, _FRAME_TYPE, 0x00089205, 0x00089206, 0x00089207),  # of frames
        *(0x04000100, 0x04000105, 0x04000401, 0x04000402, 0x4FFE0001, 0xFFFAFFFA, 0xFFFCFFFC),  # signatures, padding
    }
)  # fmt: skip
# Several images in one frame: Siemens' and UIH's own.
_TILED_TYPES = {b"MOSAIC", b"VFRAME"}
_STALE_TILES = {
    *(("SIEMENS CSA HEADER", 0x0029, element) for element in (0x08, 0x09, 0x10)),
    *(("SIEMENS MR HEADER", 0x0019, element) for element in (0x0A, 0x29)),
    *(("Image Private Header", 0x0065, element) for element in (0x50, 0x51)),
}

_CT, _MR, _PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
_SECONDARY, _ULTRASOUND, _XA = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.12"
_PROJECTION = "1.2.840.10008.5.1.4.1.1.1"
# PS3.3 C.8.7.2, C.8.11.3, C.8.19.3: only unsigned integers.
_UNSIGNED = {f"{_XA}.1", f"{_XA}.2", *(f"{_PROJECTION}.{n}" for n in ("1", "1.1", "2", "2.1", "3", "3.1"))}
_CLASSIC = {
    f"{_MR}.1": _MR, f"{_MR}.3": _MR, f"{_MR}.4": _MR, f"{_CT}.1": _CT, f"{_CT}.2": _CT,
    "1.2.840.10008.5.1.4.1.1.130": _PET, f"{_PET}.1": _PET,
    f"{_XA}.1.1": f"{_XA}.1", f"{_XA}.2.1": f"{_XA}.2",
    "1.2.840.10008.5.1.4.1.1.3.1": _ULTRASOUND, "1.2.840.10008.5.1.4.1.1.6.2": _ULTRASOUND,
    f"{_SECONDARY}.1": _SECONDARY, f"{_SECONDARY}.2": _SECONDARY, f"{_SECONDARY}.3": _SECONDARY,
    f"{_SECONDARY}.4": _SECONDARY,
    # Segmentation, label map, parametric map, RT dose: images of them are plain ones.
    "1.2.840.10008.5.1.4.1.1.66.4": _SECONDARY, "1.2.840.10008.5.1.4.1.1.66.7": _SECONDARY,
    "1.2.840.10008.5.1.4.1.1.30": _SECONDARY, "1.2.840.10008.5.1.4.1.1.481.2": _SECONDARY,
}  # fmt: skip
# PS3.3 C.7.3.1: Laterality is wanted for paired body parts, and where none is named (PS3.16 L).
_PAIRED = frozenset(
    b"ADRENAL ANKLE ARM AXILLA BREAST CALCANEUS CLAVICLE EAR ELBOW EXTREMITY EYE FEMUR FIBULA FINGER FOOT FOREARM HAND"
    b" HIP HUMERUS KIDNEY KNEE LEG LUNG OVARY PATELLA RADIUS RIB SCAPULA SHOULDER SIJOINT TESTIS THIGH THUMB TIBIA TMJ"
    b" TOE ULNA WRIST ZYGOMA".split()
)
_BODY_PART, _OTHER_SIDES = 0x00180015, (0x00082218, 0x00200062)
_SEGMENT_GROUP, _DOSE_GROUP = 0x0062, 0x3004
# Type 1 and 2 elements of the classic modules that their enhanced kin lack (PS3.3 C.8.2.1, C.8.3.1).
_REQUIRED: dict[str, dict[int, tuple[str, bytes]]] = {
    _MR: {
        0x00180021: ("CS", b"NONE"), 0x00180022: ("CS", b""), 0x00180023: ("CS", b""),
        0x00180081: ("DS", b""), 0x00180091: ("IS", b""), 0x00180080: ("DS", b""), 0x00180050: ("DS", b""),
        0x00201040: ("LO", b""),
    },
    _CT: {
        0x00180050: ("DS", b""), 0x00180060: ("DS", b""), 0x00200012: ("IS", b""), 0x00201040: ("LO", b""),
        _INTERCEPT: ("DS", b"0"), _SLOPE: ("DS", b"1"),
    },
    _SECONDARY: {_CONVERSION: ("CS", b"WSD"), 0x00200020: ("CS", b"")},
}  # fmt: skip


class SourceImage(NamedTuple):
    """One image of which another is derived; `frame` from 1 where it is one of several in a file."""

    sop_class: str
    sop_instance: str
    frame: int | None = None


def pixel_module(
    quantisation: Quantisation,
    *,
    rows: int,
    columns: int,
    window: tuple[float, float],
    extent: tuple[int, int] | None = None,
    samples: int = 1,
) -> dict[int, tuple[str, bytes]]:
    """Return the elements that describe stored pixels, their rescale and their window.

    Parameters
    ----------
    quantisation
        How values are stored.
    rows, columns, samples
        Of one frame.
    window
        Least and greatest real-world value to show.
    extent
        Least and greatest stored integer of the frame, for Smallest and Largest Image Pixel Value.
    """
    if not (0 < rows <= 65535 and 0 < columns <= 65535):
        raise SaveError(f"{rows} rows and {columns} columns don't fit DICOM: expected 1 to 65535 of each")
    sign = "SS" if quantisation.signed else "US"
    module = {
        _SAMPLES: _us(samples),
        _PHOTOMETRIC: ("CS", b"RGB" if samples == 3 else b"MONOCHROME2"),
        _ROWS: _us(rows),
        _COLUMNS: _us(columns),
        _ALLOCATED: _us(quantisation.bits_allocated),
        _STORED: _us(quantisation.bits_stored),
        _HIGH_BIT: _us(quantisation.high_bit),
        _SIGNED: _us(int(quantisation.signed)),
    }
    if samples > 1:
        return module | {_PLANAR: _us(0)}
    dependent = {_PADDING: quantisation.padding}
    if extent is not None:
        dependent |= {_SMALLEST: extent[0], _LARGEST: extent[1]}
    module |= {tag: (sign, struct.pack("<H", value & 0xFFFF)) for tag, value in dependent.items() if value is not None}
    module[_INTERCEPT] = "DS", quantisation.intercept_text.encode()
    module[_SLOPE] = "DS", quantisation.slope_text.encode()
    return module | _window(*window, exact=quantisation.exact)


def replace_pixels(header: Values, module: Values) -> dict[int, tuple[str, bytes]]:
    """Return a header in which `module` takes the place of whatever described other pixels.

    Parameters
    ----------
    header
        Elements in explicit VR (`explicit.explicit_values`).
    module
        What `pixel_module` returned. Slope 1 and intercept 0 are written only where the header had a rescale.
    """
    private = _of_creators(header, STALE_PRIVATE) | _of_creators(header, {NAN_PADDING})
    result = {tag: value for tag, value in header.items() if tag not in _STALE_PIXELS and tag not in private}
    if _code(module, _SAMPLES) == _code(header, _SAMPLES) == _us(3)[1].strip(b"\0 "):
        result |= {tag: header[tag] for tag in _COLOUR_SPACE if tag in header}
    result.update(module)
    if result[_PHOTOMETRIC][1] == b"MONOCHROME2" and _code(header, _PHOTOMETRIC) == b"MONOCHROME1":
        result[_PHOTOMETRIC] = "CS", b"MONOCHROME1"  # shown inverted, as before
    if _SLOPE in result and DOSE_SCALING in result:
        result[DOSE_SCALING] = result.pop(_SLOPE)
        del result[_INTERCEPT]
    elif _SLOPE in result:
        _settle_rescale(result, header)
    if _PADDING in module:
        creator, tag = private_block(result, NAN_PADDING)
        result[creator] = "LO", NAN_PADDING.creator.encode()
        result[tag] = "CS", b"YES"
        result.setdefault(_MANUFACTURER, ("LO", b""))  # PS3.3 C.7.5.1, the module that padding belongs to
    return result


def tags_of_pixels(tags: Iterable[int]) -> set[int]:
    """Return those tags, but for `STALE_UNREAD`, that `replace_pixels` looks at or that it changes."""
    elements: dict[int, set[int]] = {}
    for _, group, element in (*STALE_PRIVATE, NAN_PADDING):
        elements.setdefault(group, set()).add(element)
    wanted = _READ | {DOSE_SCALING, _SOP_CLASS, _MANUFACTURER}
    return {
        tag
        for tag in tags
        if tag in wanted or (tag >> 16 in elements and (tag & 0xFFFF < 0x100 or tag & 0xFF in elements[tag >> 16]))
    }


def derived_header(
    header: Values,
    module: Values,
    *,
    sop_instance: str,
    series: str,
    sources: Iterable[SourceImage] = (),
    description: str = "",
    drop: Iterable[int] = (),
    changes: Values | None = None,
) -> dict[int, tuple[str, bytes]]:
    """Return the header of a single-frame image that is derived from another.

    Parameters
    ----------
    header
        Top-level elements of the frame that it resembles, in explicit VR. Of an enhanced file, with the values of
        the frame's functional groups among them; it becomes an image of the classic kind.
    module
        What `pixel_module` returned for the new pixels.
    sop_instance, series
        UIDs of the new image and of its series.
    sources
        What goes into Source Image Sequence; each once.
    description
        Derivation Description.
    drop
        Tags of dims that are gone, and whatever else isn't true of the new image.
    changes
        Elements laid over at the end, such as position, InstanceNumber or SeriesDescription.

    Notes
    -----
    PS3.3 C.7.6.1.1.2 and C.12.4. LossyImageCompression stays: what was lossy once is lossy for ever.
    """
    tiled = bool(_TILED_TYPES & set(_image_type(header)))
    private = _of_creators(header, _STALE_TILES) if tiled else frozenset()
    unwanted = _STALE_OBJECT | private | set(drop)
    kept = {tag: value for tag, value in header.items() if tag not in unwanted and not _is_overlay(tag)}
    kept.pop(DOSE_SCALING, None)  # an image that is derived of dose is none, and has a rescale
    result = replace_pixels(kept, module)
    result[_IMAGE_TYPE] = "CS", _derived_type(header)
    result[_SOP_INSTANCE], result[_SERIES] = ("UI", sop_instance.encode()), ("UI", series.encode())
    settle_class(result, _text(header, _SOP_CLASS))
    items = [_reference(source) for source in dict.fromkeys(sources)]
    if items:
        result[_SOURCES] = "SQ", sequence_bytes(items)
    if description:
        result[_DERIVATION] = "ST", encode(_DERIVATION, "ST", description, charset=_text(header, _CHARSET))
    return dict(sorted((result | dict(changes or {})).items()))


def wants_zero_intercept(header: Values) -> bool:
    """Whether an image of this header must have intercept 0, PET (PS3.3 C.8.9.4) and dose, for `quantise.choose`."""
    sop_class = _text(header, _SOP_CLASS)
    return _CLASSIC.get(sop_class, sop_class) == _PET or DOSE_SCALING in header


def private_block(header: Mapping[int, object], private: PrivateTag) -> tuple[int, int]:
    """Return the tags of a private creator and of one of its elements: in its block, else in the first free one.

    Raises
    ------
    SaveError
        If all blocks of the group are taken.
    """
    group = private.group << 16
    mine = [
        tag for tag in range(group | 0x10, group | 0x100) if tag in header and _creator(header[tag]) == private.creator
    ]
    free = (tag for tag in range(group | 0x10, group | 0x100) if tag not in header)
    creator = mine[0] if mine else next(free, None)
    if creator is None:
        raise SaveError(f"all private blocks of group {private.group:04X} are taken: remove one to add {private}")
    return creator, group | (creator & 0xFF) << 8 | private.element


def _creator(value: object) -> str:
    raw = value[1] if isinstance(value, tuple) else b""
    return raw.decode("latin-1").strip(" \0")


def _of_creators(header: Values, unwanted: Iterable[tuple[str, int, int]]) -> frozenset[int]:
    """Return the tags that private elements have in this header."""
    wanted = {(creator, group, element) for creator, group, element in unwanted}
    found = set()
    for tag in header:
        owner = tag >> 16 << 16 | tag >> 8 & 0xFF
        if tag >> 16 & 1 and tag & 0xFF00 and owner in header:
            name = _creator(header[owner])
            if (name, tag >> 16, tag & 0xFF) in wanted:
                found.add(tag)
    return frozenset(found)


def _is_overlay(tag: int) -> bool:
    return tag >> 24 == 0x60 and not tag >> 16 & 1


def _text(header: Values, tag: int) -> str:
    return _code(header, tag).decode("ascii", "replace")


def _image_type(header: Values) -> list[bytes]:
    """Return the type of the frame, which in enhanced files says more than that of the file."""
    value = header.get(_FRAME_TYPE) or header.get(_IMAGE_TYPE) or ("CS", b"")
    return [part.strip(b" \0") for part in value[1].split(b"\\")]


def _derived_type(header: Values) -> bytes:
    return b"\\".join([b"DERIVED", b"SECONDARY", *(v for v in _image_type(header)[2:] if v not in _TILED_TYPES)])


def settle_class(result: dict[int, tuple[str, bytes]], old: str) -> None:
    """Give an image the SOP class of a single frame that can hold its pixels, and what that class requires.

    Parameters
    ----------
    result
        Its elements, those that describe the pixels included; changed in place.
    old
        The SOP class of what it is derived from.
    """
    new = _CLASSIC.get(old, old)
    samples, bits, signed = (int.from_bytes(result[tag][1], "little") for tag in (_SAMPLES, _ALLOCATED, _SIGNED))
    is_grey = new in _UNSIGNED or new in (_MR, _CT, _PET)
    if (new == _ULTRASOUND and bits > 8) or (new in _UNSIGNED and signed) or (is_grey and samples > 1):
        new = _SECONDARY
    if new == old:
        return
    result[_SOP_CLASS] = "UI", new.encode()
    if new == _MR:
        _settle_mr(result)
    if new == _SECONDARY:
        for tag in [tag for tag in result if tag >> 16 in (_SEGMENT_GROUP, _DOSE_GROUP)]:
            del result[tag]
    part, side = _code(result, _BODY_PART), _code(result, _FRAME_LATERALITY)
    result.pop(_FRAME_LATERALITY, None)
    if side in (b"R", b"L") or part in _PAIRED or not (part or any(tag in result for tag in _OTHER_SIDES)):
        result.setdefault(_LATERALITY, ("CS", side if side in (b"R", b"L") else b""))
    for tag, value in _REQUIRED.get(new, {}).items():
        result.setdefault(tag, value)


def _settle_mr(result: dict[int, tuple[str, bytes]]) -> None:
    """Say in the terms of the classic MR image (PS3.3 C.8.3.1) what the enhanced one says in its own."""
    if _SCANNING not in result:
        echo = _code(result, 0x00189008)
        terms = {
            b"SE": echo in (b"SPIN", b"BOTH"),
            b"GR": echo in (b"GRADIENT", b"BOTH"),
            b"IR": _code(result, 0x00189009) == b"YES" or 0x00180082 in result,
            b"EP": _code(result, 0x00189018) == b"YES",
        }
        result[_SCANNING] = "CS", b"\\".join(term for term, holds in terms.items() if holds) or b"RM"
    direction = _code(result, _PHASE_DIRECTION)
    if direction == b"COLUMN":
        result[_PHASE_DIRECTION] = "CS", b"COL"
    elif direction == b"OTHER":
        del result[_PHASE_DIRECTION]


def _code(header: Values, tag: int) -> bytes:
    return header[tag][1].strip(b"\0 ") if tag in header else b""


def _settle_rescale(result: dict[int, tuple[str, bytes]], header: Values) -> None:
    """Leave out a rescale that says nothing, or give it a type as the header does (PS3.3 C.11.1)."""
    if (result[_SLOPE][1], result[_INTERCEPT][1]) == (b"1", b"0") and _SLOPE not in header:
        del result[_SLOPE], result[_INTERCEPT]
    elif _RESCALE_TYPE in header:
        result[_RESCALE_TYPE] = header[_RESCALE_TYPE]
    elif _CLASSIC.get(_text(header, _SOP_CLASS), _text(header, _SOP_CLASS)) not in (_CT, _PET):
        result[_RESCALE_TYPE] = "LO", b"US"  # unspecified; in CT its absence means HU


def _window(low: float, high: float, *, exact: bool) -> dict[int, tuple[str, bytes]]:
    """Return the window that shows low to high: LINEAR for integers, LINEAR_EXACT for what may be less than 1 wide."""
    if exact:  # PS3.3 C.11.2.1.2.1: the LINEAR function is meant for integers
        centre, width = (low + high + 1) / 2, high - low + 1
        return {_CENTER: _ds(_CENTER, centre), _WIDTH: _ds(_WIDTH, width)}
    width = min(high - low, 1e308) if high > low else 1.0
    window = {_CENTER: _ds(_CENTER, low / 2 + high / 2), _WIDTH: _ds(_WIDTH, width)}
    return window | {_WINDOW_FUNCTION: ("CS", b"LINEAR_EXACT")}


def _us(value: int) -> tuple[str, bytes]:
    return "US", struct.pack("<H", value)


def _ds(tag: int, value: float) -> tuple[str, bytes]:
    return "DS", encode(tag, "DS", float(value))


def _reference(source: SourceImage) -> list[tuple[int, str, bytes]]:
    """Return an item of Image SOP Instance Reference (PS3.3 10.3)."""
    item = [(0x00081150, "UI", source.sop_class.encode()), (0x00081155, "UI", source.sop_instance.encode())]
    return item if source.frame is None else [*item, (0x00081160, "IS", str(source.frame).encode())]
