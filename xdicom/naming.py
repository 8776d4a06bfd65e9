"""Name new things: UIDs, and the paths that new files get inside a folder.

It looks at no file: which names are taken is told by the caller.
"""

import hashlib
import os
import re
import unicodedata
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .errors import SaveError

_BYTES = 64
_DIGITS = 8
_SUFFIX = ".dcm"
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")
_SEPARATORS = re.compile(r'[\\/:*?"<>|]+')
_SPACES = re.compile(r"\s+")
# What Windows takes for devices, whatever follows the first dot.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE)


class Instance(NamedTuple):
    """The tags of one file that decide its path, decoded; "" or None where absent.

    `patient` identifies the patient (PatientID, or what stands for it where that is empty); the three UIDs the rest.
    """

    patient: str
    study_uid: str
    series_uid: str
    sop_uid: str
    patient_id: str = ""
    study_date: str = ""
    study_description: str = ""
    series_number: int | str | None = None
    series_description: str = ""
    instance_number: int | str | None = None

    @property
    def owners(self) -> tuple[str, str, str, str]:
        """What the patient's, the study's and the series' folder and the file belong to."""
        return self.patient, self.study_uid, self.series_uid, self.sop_uid


def new_uid() -> str:
    """Return a new UID made of a random UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def is_uid(text: str) -> bool:
    """Whether `text` is a UID as PS3.5 9.1 wants it: numbers without leading zeros, dots, at most 64 characters."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def uid_digits(uid: str, digits: int = _DIGITS) -> str:
    """Return the first hexadecimal digits of a hash of `uid`; the same on every machine."""
    return hashlib.blake2b(uid.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()[:digits]


def safe_name(text: str, fallback: str = "unnamed", *, suffix: str = "") -> str:
    """Return a name for a file or folder that says `text` and is safe on every system.

    Parameters
    ----------
    text
        Any text, such as the value of a tag.
    fallback
        What is used where nothing of `text` is left; a safe name itself.
    suffix
        Safe text at the end, such as ".dcm"; it is never cut.

    Returns
    -------
    str
        NFC, at most 64 bytes of UTF-8; without separators, control and format characters, leading or trailing dots
        and spaces; no name of a Windows device.
    """
    text = _SEPARATORS.sub("_", unicodedata.normalize("NFC", _SPACES.sub(" ", text)))
    # Cc, Cf (bidi overrides, zero width), Cn, Co and Cs: nothing that can be seen.
    text = "".join(char for char in text if not unicodedata.category(char).startswith("C"))
    text = unicodedata.normalize("NFC", _SPACES.sub(" ", text).lstrip(". "))
    text = _cut(text, _BYTES - len(suffix.encode()))
    name = (text or fallback) + suffix
    if _DEVICES.fullmatch(name.partition(".")[0].rstrip()):
        name = _cut("_" + text, _BYTES - len(suffix.encode())) + suffix
    return name


def folded(path: str) -> str:
    """Return what two paths have in common that a file system may take for one: NFC and case-folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def inside(root: str | os.PathLike[str], relative: str) -> Path:
    """Return `root` / `relative`, which doesn't leave `root`, also not through a link.

    Raises
    ------
    SaveError
        If it does.
    """
    path = Path(root, relative)
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise SaveError(f"{relative!r} leads out of {os.fspath(root)!r}: expected a path inside that folder")
    return path


class Paths:
    """Gives each new file of a folder a path of its own (DESIGN S13).

    Parameters
    ----------
    used
        The paths that are taken, relative to the folder and with "/", each with its instance; None for a file that is
        no DICOM or of which nothing is known.

    Notes
    -----
    A folder or file name belongs to the first that gets it; another patient, study, series or instance of that name
    gets eight digits of its UID's hash added. So paths depend only on the instances and on what was there before.
    """

    def __init__(self, used: Iterable[tuple[str, Instance | None]] = ()) -> None:
        self._owners: dict[str, set[str | None]] = {}
        for path, instance in used:
            self._take(path, instance)

    def path(self, instance: Instance) -> str:
        """Return the path for a new file, relative to the folder and with "/", and take it.

        Raises
        ------
        SaveError
            If the instance has got a path before.
        """
        path = ""
        names = (
            safe_name(instance.patient_id, "unknown patient"),
            safe_name(_joined(instance.study_date, instance.study_description), "unknown study"),
            safe_name(_joined(instance.series_number, instance.series_description), "unknown series"),
        )
        for name, owner in zip(names, instance.owners, strict=False):
            path += self._free(path, name, owner, shared=True) + "/"
        path += self._free(path, safe_name(_number(instance), suffix=_SUFFIX), instance.sop_uid, suffix=_SUFFIX)
        self._take(path, instance)
        return path

    def _take(self, path: str, instance: Instance | None) -> None:
        parts = folded(path).split("/")
        for depth in range(1, len(parts) + 1):
            owner = None if instance is None else instance.owners[3 if depth == len(parts) else min(depth, 3) - 1]
            self._owners.setdefault("/".join(parts[:depth]), set()).add(owner)

    def _free(self, folder: str, name: str, owner: str, *, shared: bool = False, suffix: str = "") -> str:
        """Return `name`, with digits where it belongs to another; a shared one may belong to `owner` already."""
        stem = name.removesuffix(suffix)
        for digits in (0, _DIGITS, 16, 32, 64):
            ending = f" {uid_digits(owner, digits)}{suffix}" if digits else suffix
            candidate = _cut(stem, _BYTES - len(ending)) + ending
            owners = self._owners.get(folded(folder + candidate), set())
            if not owners or (shared and owners == {owner}):
                return candidate
        raise SaveError(f"no free name for {name!r} in {folder!r}: the instance {owner} has a path there already")


def _cut(text: str, size: int) -> str:
    """Return the start of `text` that has at most `size` bytes of UTF-8, without trailing dots and spaces."""
    return text.encode("utf-8", "ignore")[: max(size, 0)].decode("utf-8", "ignore").rstrip(". ")


def _joined(*parts: int | str | None) -> str:
    return " ".join(str(part).strip() for part in parts if part not in (None, ""))


def _number(instance: Instance) -> str:
    number = instance.instance_number
    return f"{number:05d}" if isinstance(number, int) else str(number or "00000")
