"""Series as nodes of a tree, patient / study / series: what each is called, and what it holds as a dataset.

Where series come from is told; how a tree is opened by xarray is known in `backend`, how it is written in `zarrs`.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from .coordinates import describe, plain
from .dims import name_of, order_frames
from .errors import GeometryError, PixelError, StackError
from .frames import Frames
from .modules import CHARSET, PATIENT_TAGS, STUDY_TAGS
from .naming import safe_name
from .outline import label
from .reading import Duplicates, Missing, readable, stacked_xarray
from .scaling import Scale
from .scan import SeriesKey
from .splitting import described, stacks
from .stack import Grid

PIXELS = "pixels"
_SERIES_NAMES = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality")

Tables = Sequence[tuple[SeriesKey, Frames]]
Make = Callable[[Frames, "Arranging"], xr.Dataset]
Describe = Callable[[Frames], xr.Dataset]


@dataclass(frozen=True)
class Arranging:
    """How the frames of a series become an array, see `Record.to_xarray`."""

    dims: Sequence[Any] | str | None = None
    rescale: Scale = True
    mask_padding: bool = False
    dtype: DTypeLike | None = None
    missing: Missing = "raise"
    duplicates: Duplicates = "raise"


def has_images(frames: Frames) -> bool:
    """Say whether a series has images, readable or not: reports, for example, have none."""
    return bool((frames.file >= 0).any()) and len(frames.images()) > 0


def series_dataset(frames: Frames, how: Arranging) -> xr.Dataset:
    """Return the images of a series as a dataset of one lazy variable, ``pixels``, with its coordinates.

    Raises
    ------
    StackError, PixelError
        As in `Record.to_xarray`.
    """
    da = stacked_xarray(
        frames,
        how.dims,
        chunks="auto",
        rescale=how.rescale,
        mask_padding=how.mask_padding,
        dtype=how.dtype,
        missing=how.missing,
        duplicates=how.duplicates,
    )
    return as_dataset(da, frames)


def as_dataset(da: xr.DataArray, frames: Frames) -> xr.Dataset:
    """Return an array of a series as a dataset, with the identity of the series as attributes."""
    return da.to_dataset(name=PIXELS).assign_attrs(identity(frames).attrs)


def tags_dataset(frames: Frames) -> xr.Dataset:
    """Return what tags say of frames, one after another along ``frame``, and no pixels."""
    grid = Grid(("frame",), order_frames(frames), {})
    coords, attrs = describe(frames, grid, {})
    return xr.Dataset(coords=coords, attrs=attrs)


def node_paths(tables: Tables) -> dict[SeriesKey, str]:
    """Return the path of each series in the tree, as "/patient/study/series": readable, and one only for each."""
    taken: dict[str, tuple[str, ...]] = {}
    paths: dict[tuple[str, ...], str] = {(): ""}
    for key, frames in tables:
        for depth in (1, 2, 3):
            record = tuple(key[:depth])
            if record not in paths:
                name = safe_name(label(record, [frames]))
                paths[record] = _free(f"{paths[record[:-1]]}/{name}", record, taken)
    return {key: paths[key] for key, _ in tables}


def _free(path: str, record: tuple[str, ...], taken: dict[str, tuple[str, ...]]) -> str:
    """Return a path that no other record has, and take it."""
    number, free = 1, path
    while taken.setdefault(free, record) != record:
        number += 1
        free = f"{path} ({number})"
    return free


def tree_datasets(
    tables: Tables, how: Arranging, *, images: Make = series_dataset, others: Describe = tags_dataset
) -> dict[str, xr.Dataset]:
    """Return a dataset for each node of the tree, by path, parents first.

    Parameters
    ----------
    tables
        The rows of each series.
    how
        Holds for every series.
    images, others
        Make the dataset of a series with images, and of one without.

    Returns
    -------
    dict
        Patients and studies have attributes only; a series has its pixels. A series that holds several stacks has a
        node below it for each, and itself attributes only. A series of objects without pixels has coordinates and
        attributes.

    Warns
    -----
    UserWarning
        If images of a series fill no grid: its frames are then one after another. If they cannot be read, or differ in
        matrix: it has coordinates and attributes only. ``attrs["problem"]`` has the reason.
    """
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset()}
    paths = node_paths(tables)
    for key, frames in tables:
        patient, study = _parents(paths[key])
        nodes.setdefault(patient, xr.Dataset(attrs=_constants(frames, map(name_of, sorted(PATIENT_TAGS - {CHARSET})))))
        nodes.setdefault(study, xr.Dataset(attrs=_constants(frames, map(name_of, sorted(STUDY_TAGS)))))
        nodes |= _series_nodes(paths[key], frames, how, images, others)
    problems = [f"{path!r}: {node.attrs['problem']}" for path, node in nodes.items() if "problem" in node.attrs]
    if problems:
        count = sum(has_images(frames) for _, frames in tables)
        text = "\n".join(problems)
        warnings.warn(f"{len(problems)} of {count} series could not be arranged:\n{text}", stacklevel=2)
    return nodes


def stack_frames(path: str, frames: Frames) -> dict[str, Frames]:
    """Return the frames of each stack that a series holds, by the path of its node; at most one where it is one stack.

    Parameters
    ----------
    path
        Of the node of the series.
    frames
        Its rows.
    """
    try:
        images = readable(frames)
    except PixelError:
        return {}
    parts = [images.take(rows) for rows in stacks(images)]
    return {f"{path}/{safe_name(f'{number} {described(part)}')}": part for number, part in enumerate(parts, 1)}


def _series_nodes(path: str, frames: Frames, how: Arranging, images: Make, others: Describe) -> dict[str, xr.Dataset]:
    """Return the nodes of a series: one, or where it holds several stacks one more for each."""
    if not has_images(frames):
        return {path: others(frames)}
    try:
        return {path: images(frames, how)}
    except (StackError, GeometryError, PixelError):
        parts = stack_frames(path, frames) if how.dims is None else {}
    if len(parts) < 2:
        return {path: _image_node(frames, how, images, others)}
    return {path: identity(frames)} | {child: _image_node(part, how, images, others) for child, part in parts.items()}


def identity(frames: Frames) -> xr.Dataset:
    """Return what names a series, as the attributes of a dataset that holds nothing."""
    return xr.Dataset(attrs=_constants(frames, _SERIES_NAMES))


def _image_node(frames: Frames, how: Arranging, images: Make, others: Describe) -> xr.Dataset:
    """Return the dataset of a series with images: arranged, else frame by frame, else without pixels."""
    try:
        return images(frames, how)
    except (StackError, GeometryError) as error:
        problem = str(error)
    except PixelError as error:
        return others(frames).assign_attrs(problem=str(error))
    try:
        return images(frames, replace(how, dims="frame")).assign_attrs(problem=problem)
    except PixelError as error:
        return others(frames).assign_attrs(problem=str(error))


def _parents(path: str) -> tuple[str, str]:
    """Return the paths of the patient and the study of a series."""
    _, patient, study, _ = path.split("/", 3)
    return f"/{patient}", f"/{patient}/{study}"


def _constants(frames: Frames, names: Sequence[str] | Iterator[str]) -> dict[str, Any]:
    """Return the values of some tags that are the same in all rows, as attributes hold them."""
    found = {}
    for name in names:
        values, codes = frames.named(name)
        used = np.unique(codes)
        if used.size == 1 and used[0] >= 0:
            attr = plain(values[int(used[0])])
            if attr is not None:
                found[name] = attr
    return found
