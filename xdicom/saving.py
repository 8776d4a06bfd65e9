"""Write the frames of records as DICOM files into another folder: whole or not at all.

Unedited files are copied byte for byte; staged images are written anew. What is written inside the source folder is not
its business.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .catalog import Catalog
from .errors import CatalogError, SaveError
from .folder import PRIVATE_NAME
from .frames import Frames
from .instance import INSTANCE_UID
from .naming import Instance, Paths, inside
from .rows import instances_of, row_headers
from .scan import SeriesKey
from .source import Source, Stamp
from .store import Store
from .writer import check_pixel_module, flush_directory, write_file

_BLOCK = 4 << 20

Progress = Callable[[int, int], None]


class _Job(NamedTuple):
    """One file to write: its name, and what writes it to a given path."""

    instance: Instance
    write: Callable[[Path], None]


def save_copy(store: Store, keys: Sequence[SeriesKey], path: str | os.PathLike[str], progress: Progress | None = None) -> int:
    """Write series, what is staged in them included, as DICOM files into a folder.

    Parameters
    ----------
    store, keys
        The series.
    path
        The folder, made where needed; it may hold other DICOM.
    progress
        Called with the number of files written and that of all.

    Returns
    -------
    int
        How many files were written.

    Raises
    ------
    SaveError
        If the folder is inside the source's, holds one of the instances already, or cannot be written. Nothing is left
        of the files then.
    """
    target = Path(path).absolute()
    _refuse_inside(store, target)
    jobs = [job for key in keys for job in _jobs(store, key)]
    if not jobs:
        raise SaveError("there are no images or other objects to save: set_ndarray() or set_xarray() gives a series some")
    _refuse_twice(jobs)
    was_there = target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        used = _instances_there(target)
    except OSError as error:
        raise SaveError(f"{os.fspath(target)!r} cannot be written: {error.strerror or error}") from error
    _refuse_known(jobs, used, target)
    names = Paths(used)
    places = [names.path(job.instance) for job in jobs]
    try:
        _write_all(target, jobs, places, progress)
    except BaseException:
        if not was_there:
            shutil.rmtree(target, ignore_errors=True)
        raise
    return len(jobs)


def _refuse_inside(store: Store, target: Path) -> None:
    if not store.in_memory and target.resolve().is_relative_to(store.root):
        raise SaveError(f"{os.fspath(target)!r} is inside {os.fspath(store.root)!r}, where it would be read again: give another folder")
    if target.exists() and not target.is_dir():
        raise SaveError(f"{os.fspath(target)!r} is a file: give a folder")


def _refuse_twice(jobs: Sequence[_Job]) -> None:
    seen: set[str] = set()
    for job in jobs:
        uid = job.instance.sop_uid
        if uid in seen:
            raise SaveError(f"two of the files have the SOPInstanceUID {uid}: they cannot be told apart in a new folder")
        seen.add(uid)


def _refuse_known(jobs: Sequence[_Job], used: Sequence[tuple[str, Instance | None]], target: Path) -> None:
    there = {instance.sop_uid: path for path, instance in used if instance is not None}
    for job in jobs:
        if job.instance.sop_uid in there:
            found = os.path.join(target, there[job.instance.sop_uid])
            raise SaveError(f"{found!r} already is the instance {job.instance.sop_uid}: give another folder")


def _instances_there(target: Path) -> list[tuple[str, Instance | None]]:
    """Return the files of a folder, DICOM ones with their tags; a new folder gets no catalog."""
    if not any(target.iterdir()):
        return []
    found: dict[str, Instance | None] = {}
    for folder, _, names in os.walk(target):
        if PRIVATE_NAME not in Path(folder).relative_to(target).parts:
            found |= {os.path.relpath(os.path.join(folder, name), target).replace(os.sep, "/"): None for name in names}
    try:
        catalog = Catalog(target)
    except CatalogError as error:
        raise SaveError(f"{os.fspath(target)!r} cannot be looked through: {error}") from error
    try:
        catalog.rescan()
        for key in catalog.keys():
            frames = catalog.frames(key)
            if frames is not None:
                for row, instance in instances_of(frames, key):
                    found[os.fsdecode(frames.files.paths[frames.file[row]])] = instance
    finally:
        catalog.close()
    return list(found.items())


def _jobs(store: Store, key: SeriesKey) -> Iterator[_Job]:
    """Yield what must be written for one series."""
    saved, staged = store.catalog.frames(key), store.edits.frames(key)
    if saved is not None:
        for row, instance in instances_of(saved, key):
            _require_uid(saved, row, instance)
            yield _Job(instance, _copier(saved, row))
    if staged is not None:
        staged = staged.take(np.flatnonzero(staged.file >= 0))
        headers = row_headers(staged)
        for row, instance in instances_of(staged, key):
            yield _Job(instance, _image_writer(staged, row, headers[row]))


def _require_uid(frames: Frames, row: int, instance: Instance) -> None:
    if not instance.sop_uid:
        path = os.fsdecode(frames.files.paths[frames.file[row]])
        raise SaveError(f"{path!r} has no SOPInstanceUID: set one before saving")


def _copier(frames: Frames, row: int) -> Callable[[Path], None]:
    """Return what copies the file of a row byte for byte, if it is still the file that was scanned."""
    path = os.path.join(frames.files.root, frames.files.paths[frames.file[row]])
    stamp = Stamp(*frames.files.stamps[frames.file[row]].tolist())

    def write(target: Path) -> None:
        with Source(path) as source, open(target, "xb") as file:
            if source.stamp != stamp:
                raise SaveError(f"{os.fsdecode(path)!r} changed since it was scanned: rescan()")
            for start in range(0, stamp.size, _BLOCK):
                file.write(source.read(start, min(_BLOCK, stamp.size - start)))
            file.flush()
            os.fsync(file.fileno())

    return write


def _image_writer(frames: Frames, row: int, header: dict[int, tuple[str, bytes]]) -> Callable[[Path], None]:
    """Return what writes one staged frame as a new file."""

    def write(target: Path) -> None:
        elements = [(tag, vr, raw) for tag, (vr, raw) in header.items()]
        if frames.offset[row] < 0:
            write_file(target, elements)
            return
        locations = frames.locations
        stored = np.empty((1, *locations.take([row]).frame_shape()), locations.take([row]).dtype(rescale=False))
        locations.read([row], stored, rescale=False)
        check_pixel_module(header, int(stored.min()), int(stored.max()))
        write_file(target, elements, stored.astype(stored.dtype.newbyteorder("<")).tobytes())

    return write


def _write_all(target: Path, jobs: Sequence[_Job], places: Sequence[str], progress: Progress | None) -> None:
    """Write every file beside its place, then move all into place; undo everything on any failure."""
    waiting = target / f".{uuid.uuid4().hex}.part"
    waiting.mkdir(mode=0o700)
    moved: list[Path] = []
    made: list[Path] = []
    try:
        for number, job in enumerate(jobs):
            job.write(waiting / f"{number}")
            if progress:
                progress(number + 1, len(jobs))
        for number, place in enumerate(places):
            final = inside(target, place)
            made += _make_folders(final.parent, target)
            if os.path.lexists(final):
                raise SaveError(f"{os.fspath(final)!r} is there already")
            os.rename(waiting / f"{number}", final)
            moved.append(final)
        for folder in {path.parent for path in moved}:
            flush_directory(folder)
        flush_directory(target)
    except BaseException as error:
        for path in moved:
            path.unlink(missing_ok=True)
        for folder in reversed(made):
            folder.rmdir()
        if isinstance(error, OSError) and not isinstance(error, SaveError):
            raise SaveError(f"{os.fspath(target)!r} cannot be written: {error.strerror or error}") from error
        raise
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _make_folders(folder: Path, root: Path) -> list[Path]:
    """Make the folders down to `folder` that are missing, and return them, outermost first."""
    missing = []
    while folder != root and not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir()
    return missing[::-1]



