"""The engine of xarray: `xr.open_dataset(path, engine="xdicom")` and `xr.open_datatree(path, engine="xdicom")`.

It chooses series and leaves the rest to others: what series hold is known in `trees`, how pixels are read in `indexed`.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from numpy.typing import DTypeLike
from xarray.backends import BackendEntrypoint

from .display import Progress
from .errors import RecordError, StackError
from .folder import PRIVATE_NAME
from .frames import Frames
from .indexed import as_indexed, scale_attrs
from .locations import Locations
from .lone import lone_frames
from .outline import label
from .reading import Duplicates, Missing
from .scaling import Scale
from .scan import SeriesKey
from .source import read_start
from .store import Store
from .trees import (
    PIXELS,
    Arranging,
    Tables,
    has_images,
    node_paths,
    series_dataset,
    stack_frames,
    tree_datasets,
)

_LOOKED_AT = 8  # files of a folder, to see whether it is one of DICOM
_MOST_LISTED = 40
_NAMES = ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription")
_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")

PathLike = str | os.PathLike[str]


class XdicomBackendEntrypoint(BackendEntrypoint):
    """DICOM files and folders for xarray, as the engine "xdicom"."""

    description: ClassVar[str] = "Open DICOM files and folders of them"
    supports_groups: ClassVar[bool] = True
    # A class that is given as the engine itself is not asked for its parameters by xarray.
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = (
        "filename_or_obj",
        "drop_variables",
        "mask_and_scale",
        "series",
        "group",
        "dims",
        "rescale",
        "mask_padding",
        "dtype",
        "missing",
        "duplicates",
    )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool | Mapping[str, bool] = True,
        series: str | int | None = None,
        group: str | None = None,
        dims: Sequence[Any] | str | None = None,
        rescale: Scale = True,
        mask_padding: bool = False,
        dtype: DTypeLike | None = None,
        missing: Missing = "raise",
        duplicates: Duplicates = "raise",
    ) -> xr.Dataset:
        """Open one series; no pixels are read.

        Parameters
        ----------
        filename_or_obj
            A DICOM file, a folder of them, or a list of files. A folder is scanned as `xdicom.database` does it.
        drop_variables
            Variables and coordinates to leave out.
        mask_and_scale
            Real-world values; False gives stored ones, with ``scale_factor`` and ``add_offset`` as attributes where
            all frames have the same.
        series
            Which series: a SeriesInstanceUID, or a SeriesNumber or SeriesDescription that only one series has. May be
            left out where there is only one series of images.
        group
            Which series, by its path in the tree of `open_datatree`.
        dims, rescale, mask_padding, dtype, missing, duplicates
            As in `Series.to_xarray`.

        Returns
        -------
        Dataset
            With the variable ``pixels``. It holds no open file.

        Raises
        ------
        RecordError
            If several series could be meant, or none; the text lists them.
        StackError, PixelError
            As in `Series.to_xarray`.
        """
        how = _arranging(Arranging(dims, rescale, mask_padding, dtype, missing, duplicates), mask_and_scale)
        with _opened(filename_or_obj) as tables:
            chosen = _chosen(tables, filename_or_obj, series, group)
            try:
                return _finished(series_dataset(chosen, how), how, drop_variables)
            except StackError as error:
                raise StackError(f"{error}{_stacks_listed(tables, chosen)}") from error

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool | Mapping[str, bool] = True,
        group: str | None = None,
        dims: Sequence[Any] | str | None = None,
        rescale: Scale = True,
        mask_padding: bool = False,
        dtype: DTypeLike | None = None,
        missing: Missing = "raise",
        duplicates: Duplicates = "raise",
    ) -> dict[str, xr.Dataset]:
        """Open all series as datasets by path, see `open_datatree`."""
        how = _arranging(Arranging(dims, rescale, mask_padding, dtype, missing, duplicates), mask_and_scale)
        with _opened(filename_or_obj) as tables:
            nodes = tree_datasets(tables, how)
        if group is not None:
            nodes = _below(nodes, group)
        return {path: _finished(node, how, drop_variables) for path, node in nodes.items()}

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool | Mapping[str, bool] = True,
        group: str | None = None,
        dims: Sequence[Any] | str | None = None,
        rescale: Scale = True,
        mask_padding: bool = False,
        dtype: DTypeLike | None = None,
        missing: Missing = "raise",
        duplicates: Duplicates = "raise",
    ) -> xr.DataTree:
        """Open all series as a tree, patients / studies / series; no pixels are read.

        Parameters
        ----------
        group
            Only what is below this path.
        filename_or_obj, drop_variables, mask_and_scale, dims, rescale, mask_padding, dtype, missing, duplicates
            As in `open_dataset`; they hold for every series.

        Returns
        -------
        DataTree
            See `xdicom.trees.tree_datasets`.
        """
        return xr.DataTree.from_dict(
            self.open_groups_as_dict(
                filename_or_obj,
                drop_variables=drop_variables,
                mask_and_scale=mask_and_scale,
                group=group,
                dims=dims,
                rescale=rescale,
                mask_padding=mask_padding,
                dtype=dtype,
                missing=missing,
                duplicates=duplicates,
            )
        )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Say whether a path looks like DICOM: a file that says so, or a folder with one among its first files."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = os.fspath(filename_or_obj)
        if "://" in path or path.rstrip("/\\").lower().endswith(".zarr"):
            return False
        try:
            return _is_dicom_folder(path) if os.path.isdir(path) else _says_dicom(path)
        except OSError:
            return False


def _arranging(how: Arranging, mask_and_scale: bool | Mapping[str, bool]) -> Arranging:
    """Return how frames are arranged where xarray's own option has its say, too."""
    is_scaled = mask_and_scale.get(PIXELS, True) if isinstance(mask_and_scale, Mapping) else mask_and_scale
    return how if is_scaled else replace(how, rescale=False, mask_padding=False)


@contextmanager
def _opened(place: Any) -> Iterator[Tables]:
    """Give the rows of every series in a folder, a file or a list of files."""
    if isinstance(place, list | tuple):
        yield list(lone_frames(place).items())
        return
    if not isinstance(place, str | os.PathLike):
        raise TypeError(f"a path or a list of paths is expected, not {type(place).__name__}")
    path = Path(place)
    if not path.is_dir():
        yield list(lone_frames([path]).items())
        return
    store = Store(path)
    try:
        with Progress("scanning", unit="files") as progress:
            store.rescan(progress)
        keys = store.keys(placeholders=True)
        tables = [(key, table) for key in keys if (table := store.frames(key)) is not None]
        if not tables:
            counts = store.catalog.counts()
            found = f"{counts.files} files: {counts.skipped} are not DICOM, {counts.broken} are broken"
            raise RecordError(f"there is no DICOM in {str(path)!r} ({found}); give a folder that holds some")
        yield tables
    finally:
        store.close()


def _chosen(tables: Tables, place: Any, series: str | int | None, group: str | None) -> Frames:
    """Return the rows of the one series that is meant."""
    if group is not None:
        found = _at(tables, "/" + group.strip("/"))
    elif series is not None:
        found = _matching(tables, series)
    else:
        found = [entry for entry in tables if has_images(entry[1])] or list(tables)
    if len(found) == 1:
        return found[0][1]
    if found:
        what = f"{len(found)} series" + ("" if series is None else f" that series={series!r} may mean")
        text = f"{os.fspath(place)!r} holds {what}, and a dataset is of one: give one of"
    else:
        given = f"series={series!r}" if group is None else f"group={group!r}"
        found, text = list(tables), f"{os.fspath(place)!r} holds no series of {given}: give one of"
    raise RecordError("\n".join([text, *_listed(found, tables)]))


def _at(tables: Tables, path: str) -> list[tuple[SeriesKey, Frames]]:
    """Return the series, or the stack of one, at a path of the tree."""
    for key, above in node_paths(tables).items():
        if path == above:
            return [entry for entry in tables if entry[0] == key]
        if path.startswith(f"{above}/"):
            parts = [stack_frames(above, frames).get(path) for other, frames in tables if other == key]
            return [(key, part) for part in parts if part is not None]
    return []


def _stacks_listed(tables: Tables, chosen: Frames) -> str:
    """Say what to type for each stack of a series; nothing where it holds one only."""
    paths = node_paths(tables)
    parts = [path for key, frames in tables if frames is chosen for path in stack_frames(paths[key], frames)]
    return "\n".join([". With xarray give one of", *(f"  group={path!r}" for path in parts)]) if len(parts) > 1 else ""


def _matching(tables: Tables, series: str | int) -> list[Any]:
    """Return the series that a UID, a number or a description names."""
    for name in _NAMES:
        found = [entry for entry in tables if str(series) in map(str, entry[1].unique(name))]
        if found:
            return found
    return []


def _listed(found: Tables, tables: Tables) -> list[str]:
    """Say of each series what to type for it."""
    counts = Counter(
        text for _, frames in tables for text in {str(value) for name in _NAMES for value in frames.unique(name)}
    )
    lines = []
    for key, frames in found[:_MOST_LISTED]:
        values = [value for name in _NAMES[1:] for value in frames.unique(name)[:1]]
        names = [value for value in values if value not in (None, "") and counts[str(value)] == 1]
        context = ", ".join(label(tuple(key[:depth]), [frames]) for depth in (1, 2, 3))
        lines.append(f"  series={(names[0] if names else key.series)!r}  ({context}, {len(frames)} frames)")
    left = len(found) - len(lines)
    return [*lines, f"  ... and {left} more"] if left else lines


def _below(nodes: Mapping[str, xr.Dataset], group: str) -> dict[str, xr.Dataset]:
    """Return the nodes at and below a path, which becomes the root."""
    top = "/" + group.strip("/")
    found = {path[len(top) :] or "/": node for path, node in nodes.items() if f"{path}/".startswith(f"{top}/")}
    if not found:
        raise RecordError(f"there is no group {group!r}; there are {', '.join(map(repr, nodes))}")
    return found


def _finished(dataset: xr.Dataset, how: Arranging, drop_variables: str | Iterable[str] | None) -> xr.Dataset:
    """Return a dataset without dask, and without what shall be left out."""
    if PIXELS in dataset and how.rescale is False:
        locations: Locations = dataset[PIXELS].data.selection.source.locations
        codes = set(locations.rescale_codes.tolist())
        dataset[PIXELS].attrs.update(scale_attrs({locations.rescales[code] for code in codes}))
    names = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    return as_indexed(dataset.drop_vars(names, errors="ignore"))


def _says_dicom(path: str) -> bool:
    """Whether a file has the letters of PS3.10 7.1 behind its preamble."""
    return read_start(os.fsencode(path), 132)[1][128:] == b"DICM"


def _is_dicom_folder(path: str) -> bool:
    """Whether a folder was opened before, has a DICOMDIR, or a file of DICOM among the first that are listed."""
    if any(os.path.lexists(os.path.join(path, name)) for name in _ZARR):
        return False
    if any(os.path.lexists(os.path.join(path, name)) for name in (PRIVATE_NAME, "DICOMDIR")):
        return True
    with os.scandir(path) as entries:
        return any(entry.is_file() and _says_dicom(entry.path) for entry in islice(entries, _LOOKED_AT))
