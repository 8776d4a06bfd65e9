"""Which images got new pixels under their old SOPInstanceUID, and when: arrays made before that are stale.

A file beside the catalog that is only appended to: 8 bytes of the UID's hash and the modification time of the new file.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .folder import private_folders_above

NAME = "replaced"
_ENTRY = np.dtype([("uid", "<u8"), ("mtime_ns", "<i8")])


def note_replaced(private: Path, images: Iterable[tuple[int, int]]) -> None:
    """Take down images whose pixels are about to be replaced: hash of the SOPInstanceUID, mtime of the new file."""
    entries = np.array(list(images), _ENTRY)
    if len(entries):
        with open(os.open(private / NAME, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(end - end % _ENTRY.itemsize)  # what a full disk cut off
            file.write(entries.tobytes())


def was_replaced(path: bytes, uid: int, mtime_ns: int) -> bool:
    """Say whether an image of a file got new pixels after that modification time."""
    for private in private_folders_above(path):
        try:
            with open(os.path.join(private, NAME.encode()), "rb") as file:
                content = file.read()
        except OSError:
            continue
        entries = np.frombuffer(content[: len(content) // _ENTRY.itemsize * _ENTRY.itemsize], _ENTRY)
        if ((entries["uid"] == np.uint64(uid)) & (entries["mtime_ns"] > mtime_ns)).any():
            return True
    return False
