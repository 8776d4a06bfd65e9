"""Series as NIfTI files, each with a JSON sidecar: what is made, and what is not and why.

An image in memory is `conversion`'s.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .conversion import nibabel_image, require_nibabel, volume_of
from .errors import MissingPackageError, SaveError, StackError, XdicomError
from .infer import first_copies
from .naming import folded, safe_name, uid_digits
from .quantities import QUANTITY_DIMS
from .reading import keep_alive, readable, stacked_xarray
from .sidecar import gradient_texts, gradients, sidecar
from .splitting import stacks

if TYPE_CHECKING:
    import xarray as xr

    from .conversion import Volume
    from .database import Series
    from .exporting import Exporting
    from .frames import Frames

Progress = Callable[[int, int], None]

_IMAGE, _SIDECAR, _VALUES, _DIRECTIONS = ".nii.gz", ".json", ".bval", ".bvec"
_SERIES_DEPTH = 3
_ENDS = (_IMAGE, _SIDECAR, _VALUES, _DIRECTIONS)


class Made(NamedTuple):
    """An image that was written, or would be: the series, the files relative to the folder, the shape, and a note."""

    series: str
    files: list[str]
    shape: tuple[int, ...]
    note: str = ""


class LeftOut(NamedTuple):
    """A series, or a part of one, of which nothing was made, and why; objects such as reports are no images at all."""

    series: str
    name: str
    reason: str
    is_image: bool


class Exported(NamedTuple):
    """What an export made, and what it left out."""

    made: list[Made]
    left_out: list[LeftOut]


class _Part(NamedTuple):
    """Frames of a series that make one array, the stem of its files below the folder, and what is to be said of it."""

    series: Series
    stem: str
    array: xr.DataArray
    note: str


def export_nifti(
    records: Sequence[Exporting],
    folder: str | os.PathLike[str],
    *,
    identity: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write every series as NIfTI with a sidecar; where it is diffusion with known gradients, also bval and bvec.

    Parameters
    ----------
    records
        Series, or records whose series are meant.
    folder
        Where files go: as ``<SeriesNumber>_<SeriesDescription>.nii.gz``; several studies get a folder each. A series
        of several stacks or quantities, such as magnitude and phase, makes several files. Of images with the same
        SOPInstanceUID, which are copies, one counts.
    identity
        Whether sidecars and names may say who was scanned, where and when. Without it, studies are named by a hash.
    dry_run
        Only tell what would be made; pixels are not read.
    progress
        Called with the number of images written and that of all.

    Returns
    -------
    Exported
        What was made and what was left out: objects that are no images, images without geometry, stacks without a
        common affine, and what cannot be read.

    Raises
    ------
    SaveError
        If one of the files exists; then nothing is written.
    MissingPackageError
        If nibabel is not installed.
    """
    require_nibabel()
    target = Path(folder)
    series = [each for record in records for each in _series_of(record)]
    parts, left_out = _planned(series, identity=identity)
    _refuse(target, parts)
    made = []
    for number, part in enumerate(parts):
        try:
            made.append(_write(target, part, identity=identity, dry_run=dry_run))
        except SaveError:
            raise
        except XdicomError as error:
            left_out.append(_left_out(part.series, part.stem, error))
        if progress is not None:
            progress(number + 1, len(parts))
    return Exported(made, left_out)


def _series_of(record: Any) -> list[Series]:
    return [record] if len(record.key) == _SERIES_DEPTH else record.series()


# -- which files


def _planned(series: Sequence[Series], *, identity: bool) -> tuple[list[_Part], list[LeftOut]]:
    """Return the arrays that become files, each under a name of its own, and what cannot."""
    studies = _study_folders(series, identity=identity)
    taken: set[str] = set()
    parts: list[_Part] = []
    left_out: list[LeftOut] = []
    for each in series:
        stem = studies[each.key[:2]] + _name(each)
        if folded(stem) in taken:
            stem = f"{stem}_{uid_digits(each.key[-1])}"
        for name, found, note in _arrays(each, stem):
            if isinstance(found, XdicomError):
                left_out.append(_left_out(each, name, found))
            else:
                parts.append(_Part(each, _free(name, taken), found, note))
            taken.add(folded(stem))
    return parts, left_out


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, with a number where it was, and take it."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    free = next(one for one in itertools.chain([name], numbered) if folded(one) not in taken)
    taken.add(folded(free))
    return free


def _left_out(series: Series, name: str, error: XdicomError) -> LeftOut:
    return LeftOut(series.key[-1], name, str(error), bool(len(series.frames().images())))


def _arrays(series: Series, stem: str) -> Iterator[tuple[str, xr.DataArray | XdicomError, str]]:
    """Yield what a series is made into, with names: an array a stack and quantity, or why there is none; and a note."""
    try:
        images = readable(series.frames())
        once = images.take(first_copies(images))
        pieces = _pieces(once)
    except MissingPackageError:
        raise
    except XdicomError as error:
        yield stem, error, ""
        return
    copies = len(images) - len(once)
    note = f"copies of images, with the same SOPInstanceUID, left out: {copies}" if copies else ""
    for number, frames in enumerate(pieces, 1):
        name = stem if len(pieces) == 1 else f"{stem}_stack{number}"
        try:
            array = _array(frames)
            volume_of(array)
        except XdicomError as error:
            yield name, error, note
            continue
        keep_alive(array, series._store)
        for suffix, part in _quantities(array):
            yield name + suffix, part, note


def _array(frames: Frames) -> xr.DataArray:
    return stacked_xarray(
        frames, None, chunks="auto", rescale=True, dtype=None, missing="raise", duplicates="raise", mask_padding=False
    )


def _pieces(frames: Frames) -> list[Frames]:
    """Return frames as they are where they are one stack, else the frames of each."""
    try:
        _array(frames)
    except StackError:
        parts = stacks(frames)
        if len(parts) < 2:
            raise
        return [frames.take(rows) for rows in parts]
    return [frames]


def _quantities(array: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield an array for each quantity: readers of NIfTI expect magnitude and phase in files of their own."""
    dims = [name for name in QUANTITY_DIMS if name in array.dims]
    for index in itertools.product(*(range(array.sizes[name]) for name in dims)):
        part = array.isel(dict(zip(dims, index, strict=True)))
        yield "".join(f"_{safe_name(str(part[name].values)).lower()}" for name in dims), part


def _study_folders(series: Sequence[Series], *, identity: bool) -> dict[tuple[str, ...], str]:
    """Return the folder of each study, "" where there is one study only."""
    keys = list(dict.fromkeys(each.key[:2] for each in series))
    if len(keys) <= 1:
        return dict.fromkeys(keys, "")
    folders: dict[tuple[str, ...], str] = {}
    for key in keys:
        digits = uid_digits("\0".join(key))
        name = f"study-{digits}"
        if identity:
            one = next(each for each in series if each.key[:2] == key)
            name = safe_name(_joined(one, "PatientID", "StudyDate", "StudyDescription"), name)
        if folded(name + "/") in map(folded, folders.values()):
            name = f"{name}_{digits}"
        folders[key] = f"{name}/"
    return folders


def _name(series: Series) -> str:
    return safe_name(_joined(series, "SeriesNumber", "SeriesDescription"), "series")


def _joined(series: Series, *names: str) -> str:
    texts = [str(value) for name in names for value in series[name][:1] if value not in (None, "")]
    return "_".join("_".join(texts).split())


def _refuse(target: Path, parts: Sequence[_Part]) -> None:
    if target.exists() and not target.is_dir():
        raise SaveError(f"{os.fspath(target)!r} is a file: give a folder")
    for part in parts:
        for end in _ENDS:
            _refuse_existing(target / f"{part.stem}{end}")


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise SaveError(f"{os.fspath(path)!r} is there already, and nothing is replaced: give another folder")


# -- writing


def _write(target: Path, part: _Part, *, identity: bool, dry_run: bool) -> Made:
    """Write the files of one array: all of them or none."""
    volume = volume_of(part.array)
    texts = _texts(volume, identity=identity)
    files = [part.stem + end for end in (_IMAGE, *texts)]
    if not dry_run:
        target.mkdir(parents=True, exist_ok=True)
        waiting = Path(tempfile.mkdtemp(prefix=".xdicom-", dir=target))
        try:
            nibabel_image(volume).to_filename(waiting / f"image{_IMAGE}")
            for end, text in texts.items():
                (waiting / f"image{end}").write_text(text, encoding="utf-8")
            (target / part.stem).parent.mkdir(parents=True, exist_ok=True)
            _put([(waiting / f"image{end}", target / f"{part.stem}{end}") for end in (_IMAGE, *texts)])
        finally:
            shutil.rmtree(waiting, ignore_errors=True)
    return Made(part.series.key[-1], files, volume.shape, part.note)


def _put(moves: Sequence[tuple[Path, Path]]) -> None:
    """Move files to where nothing is; undo all where one cannot be."""
    done: list[Path] = []
    try:
        for source, final in moves:
            _refuse_existing(final)
            os.rename(source, final)
            done.append(final)
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise


def _texts(volume: Volume, *, identity: bool) -> dict[str, str]:
    """Return the texts that go beside an image, by the end of their names."""
    from . import __version__

    about: dict[str, Any] = sidecar(volume, identity=identity)
    about |= {"ConversionSoftware": "xdicom", "ConversionSoftwareVersion": __version__}
    texts = {_SIDECAR: json.dumps(about, indent=2, ensure_ascii=False) + "\n"}
    found = gradients(volume)
    if found is not None:
        texts[_VALUES], texts[_DIRECTIONS] = gradient_texts(found)
    return texts
