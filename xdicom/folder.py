"""The private folder `.xdicom` beside the data (or in the user's cache), and the walk over the user's files.

It creates nothing but that folder, and follows no directory link.
"""

import hashlib
import os
import stat
from collections.abc import Container, Iterator
from pathlib import Path

from platformdirs import user_cache_dir

from .source import Stamp

PRIVATE_NAME = ".xdicom"
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "9p"}
)


def private_folder(root: Path) -> Path:
    """Return the folder for catalog and edits, created where needed.

    Parameters
    ----------
    root
        The user's folder of DICOM.

    Returns
    -------
    Path
        `root/.xdicom`, or a folder in the user's cache where `root` cannot be written or `.xdicom` is another user's.
    """
    inside = root / PRIVATE_NAME
    if _is_ours(inside):
        if inside.stat().st_mode & 0o077:  # copied or unpacked, perhaps
            inside.chmod(0o700)
        return inside
    if not os.path.lexists(inside) and os.access(root, os.W_OK):
        try:
            inside.mkdir(mode=0o700)
        except OSError:
            return _cache_folder(root)
        inside.chmod(0o700)
        return inside
    return _cache_folder(root)


def _is_ours(folder: Path) -> bool:
    """Say whether a folder is a real one, owned by this user and writable (not a link that leads elsewhere)."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    owned = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and owned and os.access(folder, os.W_OK)


def _cache_path(root: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16).hexdigest()
    return Path(user_cache_dir("xdicom", appauthor=False)) / name


def _cache_folder(root: Path) -> Path:
    folder = _cache_path(root)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def private_folders_above(path: bytes) -> Iterator[bytes]:
    """Yield the private folders, in the data or in the user's cache, that may know of a file, innermost first."""
    folder = os.path.dirname(os.path.abspath(path))
    while True:
        cached = os.fsencode(_cache_path(Path(os.fsdecode(folder))))
        for private in (os.path.join(folder, PRIVATE_NAME.encode()), cached):
            if os.path.isdir(private):
                yield private
        if folder == os.path.dirname(folder):
            return
        folder = os.path.dirname(folder)


def is_network(folder: Path) -> bool:
    """Say whether a folder is on a network file system, where SQLite's WAL does not work; False where unknown."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False
    path, best, kind = str(folder.resolve()), "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4]
        if len(mount) >= len(best) and (path + "/").startswith(mount.rstrip("/") + "/"):
            best, kind = mount, right.split()[0]
    return kind in _NETWORK


def list_files(root: bytes, stamped: Container[bytes] | None = None) -> Iterator[tuple[bytes, Stamp | OSError | None]]:
    """Yield every regular file under a folder, as a relative path with its stamp, in order.

    Files that cannot be looked at come with the error. Links to files are followed, links to folders are not; FIFOs,
    sockets and devices are passed over.

    Parameters
    ----------
    root
        The folder.
    stamped
        Paths whose stamps are asked for, by default all; others may come with None, which takes less time.
    """
    pending = [b""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield folder, error
            continue
        folders = []
        for entry in entries:
            path = folder + b"/" + entry.name if folder else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != PRIVATE_NAME.encode():
                        folders.append(path)
                    continue
                if stamped is not None and path not in stamped and entry.is_file(follow_symlinks=False):
                    yield path, None
                    continue
                # On Windows a directory entry knows no inode.
                status = entry.stat() if os.name != "nt" else os.stat(entry.path)
            except OSError as error:
                yield path, error
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
        pending += reversed(folders)
