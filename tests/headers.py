"""Compare a header with what pydicom reads: tags, VRs and raw bytes, sequences item by item."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.tag import Tag

from xdicom.header import Header, read_header
from xdicom.source import Source
from xdicom.walker import PIXEL_TAGS, ItemElement, sequence_items


def by_pydicom(path: Path) -> pydicom.Dataset:
    """Return the dataset with group 2 in it, values undecoded; pydicom's warnings are its own business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pydicom.dcmread(path, force=True)
    whole = pydicom.Dataset()
    for part in (read, read.file_meta):
        whole._dict.update(part._dict)
    return whole


def read(path: Path) -> Header:
    """Return the header of a file."""
    with Source(path) as source:
        return read_header(source)


def differences(header: Header, dataset: pydicom.Dataset) -> list[str]:
    """Return where a header and pydicom's dataset differ, pixel data apart."""
    theirs = {int(tag): element for tag, element in dataset._dict.items() if int(tag) not in PIXEL_TAGS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(_compared(header.items(), theirs, header.layout.implicit, ""))


def _compared(
    elements: Iterable[ItemElement], theirs: Mapping[int, object], implicit: bool, where: str
) -> Iterator[str]:
    ours = {element.tag: element for element in elements}
    for tag in sorted(ours.keys() | theirs.keys()):
        name = f"{where}({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if tag not in ours or tag not in theirs:
            yield f"{name} is only in {'ours' if tag in ours else 'theirs'}"
        else:
            yield from _element(ours[tag], theirs[tag], implicit, name)


def _element(mine: ItemElement, other: object, implicit: bool, name: str) -> Iterator[str]:
    other_vr = str(getattr(other, "VR", None) or "")
    if mine.vr and other_vr and mine.vr != other_vr and mine.vr != "UN":
        yield f"{name}: VR {mine.vr}, not {other_vr}"
    if isinstance(other, RawDataElement) and other.is_little_endian:
        if mine.raw != (other.value or b""):
            yield f"{name}: {mine.raw[:40]!r}, not {(other.value or b'')[:40]!r}"
        return
    element = convert_raw_data_element(other) if isinstance(other, RawDataElement) else other
    assert isinstance(element, DataElement)
    if element.VR == "SQ":
        yield from _sequence(mine, element, implicit, name)
    elif element.VR != "OW":  # pydicom leaves these words in the order of the file
        raw = RawDataElement(Tag(mine.tag), mine.vr or element.VR, len(mine.raw), mine.raw, 0, False, True)
        if convert_raw_data_element(raw).value != element.value:
            yield f"{name}: {mine.raw[:40]!r} is not {str(element.value)[:40]}"


def _sequence(mine: ItemElement, element: DataElement, implicit: bool, name: str) -> Iterator[str]:
    inside = implicit or mine.vr == "UN"
    items = list(sequence_items(mine.raw, inside))
    if len(items) != len(element.value):
        yield f"{name}: {len(items)} items, not {len(element.value)}"
    for number, (item, dataset) in enumerate(zip(items, element.value, strict=False)):
        yield from _compared(item, dataset._dict, inside, f"{name}[{number}]")
