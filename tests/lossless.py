"""Hold an edited file against the one that it was: by an independent parse, and byte by byte behind the edit."""

import io
import warnings
from collections.abc import Collection, Iterator

import pydicom
from pydicom.dataelem import DataElement, RawDataElement

Key = tuple[object, ...]
_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def parsed(content: bytes) -> pydicom.FileDataset:
    """Return what pydicom reads, values undecoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        if not dataset:  # pixels without an end: pydicom gives up on all of it
            dataset = pydicom.dcmread(io.BytesIO(content + _END), force=True)
        return dataset


def flat(content: bytes) -> dict[Key, object]:
    """Return every element, nested and private ones too, by where it is: VR and raw bytes."""
    dataset = parsed(content)
    found: dict[Key, object] = {("preamble",): dataset.preamble}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found |= dict(_elements(dataset.file_meta, ("meta",)))
        found |= dict(_elements(dataset, ()))
    return found


def _elements(dataset: pydicom.Dataset, where: Key) -> Iterator[tuple[Key, object]]:
    for tag, element in list(dataset._dict.items()):  # reading a sequence decodes others
        here = (*where, int(tag))
        if isinstance(element, RawDataElement) and not _is_sequence(element):
            yield here, (element.VR, element.value or b"")
            continue
        converted = element if isinstance(element, DataElement) else dataset[tag]
        if converted.VR != "SQ":
            yield here, (converted.VR, converted.value)
            continue
        yield here, len(converted.value)
        for number, item in enumerate(converted.value):
            yield from _elements(item, (*here, number))


def _is_sequence(element: RawDataElement) -> bool:
    items = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
    return element.VR == "SQ" or (element.VR is None and (element.value or b"").startswith(items))


def differences(old: bytes, new: bytes, edited: Collection[int], *, inside: Collection[int] = ()) -> list[str]:
    """Return where two files differ, but for group lengths and edited tags at the top level, or `inside` sequences."""
    before, after = flat(old), flat(new)
    found = []
    for key in sorted(before.keys() | after.keys(), key=str):
        last = key[-1]
        if (len(key) == 1 and last in edited) or (inside and key[0] in inside and last in edited):
            continue
        if isinstance(last, int) and not last & 0xFFFF:
            continue
        if before.get(key) != after.get(key):
            names = [f"{part:08X}" if isinstance(part, int) else str(part) for part in key]
            found.append(f"{'/'.join(names)}: {str(before.get(key))[:60]} became {str(after.get(key))[:60]}")
    return found


def wrong_group_lengths(content: bytes) -> list[str]:
    """Return the group lengths that are not true, by where the elements of a group begin and end."""
    dataset = parsed(content)
    found = []
    for part in (dataset.file_meta, dataset):
        raws = [element for element in part._dict.values() if isinstance(element, RawDataElement)]
        for element in raws:
            if element.tag.element == 0 and element.length == 4:
                order = "little" if element.is_little_endian else "big"
                end = element.value_tell + 4 + int.from_bytes(element.value, order)
                inside = [other for other in raws if other.tag.group == element.tag.group]
                last = max(inside, key=lambda other: other.value_tell)
                if last.length < 0xFFFFFFFF and last.value_tell + last.length != end and last.VR != "SQ":
                    found.append(f"({element.tag.group:04X},0000)")
    return found


def rest_is_same(old: bytes, new: bytes, tag: int) -> bool:
    """Say whether all bytes behind an edited tag, and so trailing ones, are as they were."""
    dataset = parsed(old)
    later = [e for t, e in dataset._dict.items() if int(t) > tag and int(t) >> 16 != tag >> 16]
    places = [e.value_tell if isinstance(e, RawDataElement) else e.file_tell for e in later]
    places = [place for place in places if place]
    return not places or new.endswith(old[min(places) :])
