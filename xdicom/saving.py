"""Write the frames of records as DICOM files into another folder: all of them or none.

Unedited files are copied byte for byte, copies keep the bytes of their pixels, and staged images are written anew. What
is written inside the source folder is not its business.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .catalog import Catalog
from .columns import Known
from .copying import copy_changed, copy_file
from .edits import NEW
from .errors import CatalogError, SaveError, XdicomError
from .folder import PRIVATE_NAME, list_files
from .frames import Files, Frames
from .naming import Instance, Paths, inside
from .parallel import scan_files
from .rows import StoredPixels, instances_of, row_headers, staged_rows
from .scan import SeriesKey
from .store import Store
from .works import refuse_stored_tags
from .writer import flush_directory, write_file

Progress = Callable[[int, int], None]


class _Job(NamedTuple):
    """One file to write: its name, and what writes it to a given path."""

    instance: Instance
    write: Callable[[Path], None]


def save_copy(
    store: Store, keys: Sequence[SeriesKey], path: str | os.PathLike[str], progress: Progress | None = None
) -> int:
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
        If the folder is inside the source's, holds one of the instances already, or cannot be written; or if a source
        changed, cannot be read or cannot be written faithfully. Nothing is left of the files then.
    """
    target = Path(path).absolute()
    _refuse_inside(store, target)
    jobs = [job for key in keys for job in _jobs(store, key)]
    if not jobs:
        raise SaveError("there is nothing to save yet: set_ndarray() or set_xarray() gives a series its images")
    _refuse_twice(jobs)
    made: list[Path] = []
    try:
        _make_folders(target, Path(target.anchor), made)
        used = _instances_there(target)
        _refuse_known(jobs, used, target)
        names = Paths(used)
        _write_all(target, jobs, [names.path(job.instance) for job in jobs], progress)
    except BaseException as error:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, XdicomError) and not isinstance(error, SaveError):
            raise SaveError(f"nothing was saved: {error}") from error
        if isinstance(error, OSError) and not isinstance(error, SaveError):
            raise SaveError(f"{os.fspath(target)!r} cannot be written: {error.strerror or error}") from error
        raise
    return len(jobs)


def _refuse_inside(store: Store, target: Path) -> None:
    if not store.in_memory and target.resolve().is_relative_to(store.root):
        source = os.fspath(store.root)
        raise SaveError(
            f"{os.fspath(target)!r} is inside {source!r}, where it would be read again: give another folder"
        )
    if target.exists() and not target.is_dir():
        raise SaveError(f"{os.fspath(target)!r} is a file: give a folder")


def _refuse_twice(jobs: Sequence[_Job]) -> None:
    seen: set[str] = set()
    for job in jobs:
        uid = job.instance.sop_uid
        if uid in seen:
            raise SaveError(f"two files have the SOPInstanceUID {uid}, and cannot be told apart in a new folder")
        seen.add(uid)


def _refuse_known(jobs: Sequence[_Job], used: Sequence[tuple[str, Instance | None]], target: Path) -> None:
    there = {instance.sop_uid: path for path, instance in used if instance is not None}
    for job in jobs:
        if job.instance.sop_uid in there:
            found = os.path.join(target, there[job.instance.sop_uid])
            raise SaveError(f"{found!r} already is the instance {job.instance.sop_uid}: give another folder")


def _instances_there(target: Path) -> list[tuple[str, Instance | None]]:
    """Return the files of a folder, DICOM ones with their tags."""
    files = [path for path, stamp in list_files(os.fsencode(target)) if not isinstance(stamp, OSError)]
    found: dict[bytes, Instance | None] = dict.fromkeys(files)
    for key, frames in _tables_there(target, files):
        for row, instance in instances_of(frames, key):
            found[frames.files.paths[frames.file[row]]] = instance
    return [(os.fsdecode(path).replace(os.sep, "/"), instance) for path, instance in found.items()]


def _tables_there(target: Path, files: Sequence[bytes]) -> Iterator[tuple[SeriesKey, Frames]]:
    """Yield the tables of a folder; one without a catalog gets none."""
    if (target / PRIVATE_NAME).exists():
        catalog = Catalog(target)
        try:
            catalog.rescan()
            keys = catalog.keys()
            yield from ((key, table) for key in keys if (table := catalog.frames(key)) is not None)
        except CatalogError as error:
            raise SaveError(f"{os.fspath(target)!r} cannot be looked through: {error}") from error
        finally:
            catalog.close()
        return
    tables, outcomes = scan_files(os.fsencode(target), files)
    stamps = np.array([outcomes[i].stamp for i in range(len(files))], np.int64).reshape(-1, 3)
    known = Files(os.fsencode(target), files, stamps)
    for key, part in tables.items():
        yield key, Frames(known, part.file, part.number, part.offset, part.length, part.columns)


def _jobs(store: Store, key: SeriesKey) -> Iterator[_Job]:
    """Yield what must be written for one series, edits included."""
    for layer in store.layers.by_key().get(key, ()):
        table = store.layers.table(layer)
        if table is None:
            continue
        refuse_stored_tags(store.edits.overlays().get(layer, {}))
        is_edited = layer.kind == NEW or layer in store.edits.overlays()
        is_new = staged_rows(table)
        images = table.take(np.flatnonzero(is_new))
        headers = row_headers(images)
        for row, instance in instances_of(images, key):
            yield _Job(instance, partial(_write_image, images, row, headers[row]))
        files = table.take(np.flatnonzero((table.file >= 0) & ~is_new))
        for row, instance in instances_of(files, key):
            _require_uid(files, row, instance)
            rows = files.take(np.flatnonzero(files.file == files.file[row]))
            yield _Job(instance, partial(copy_changed, rows) if is_edited else partial(copy_file, files, row))


def _require_uid(frames: Frames, row: int, instance: Instance) -> None:
    if not instance.sop_uid:
        path = os.fsdecode(frames.files.paths[frames.file[row]])
        raise SaveError(f"{path!r} has no SOPInstanceUID: set one before saving")


def _write_image(frames: Frames, row: int, header: Mapping[int, Known], target: Path) -> None:
    """Write one staged image as a new file."""
    elements = [(tag, vr, raw) for tag, (vr, raw) in header.items()]
    write_file(target, elements, StoredPixels(frames).read(row, header))


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
            _make_folders(final.parent, target, made)
            if os.path.lexists(final):
                raise SaveError(f"{os.fspath(final)!r} is there already")
            os.rename(waiting / f"{number}", final)
            moved.append(final)
        for folder in {target, *(path.parent for path in (*moved, *made))}:
            flush_directory(folder)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _make_folders(folder: Path, root: Path, made: list[Path]) -> None:
    """Make the folders down to `folder` that are missing, outermost first, and append them to `made`."""
    missing = []
    while folder != root and not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir()
        made.append(each)
