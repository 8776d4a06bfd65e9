"""What database, patient, study and series share: tags read like attributes, frames, arrays.

How a record finds its children, and how it is made, is in `database`.
"""

from __future__ import annotations

import difflib
import html
import itertools
import os
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from . import tags
from .conditions import matching_rows, nothing_matches
from .display import Progress
from .errors import EditError, SaveError, StaleError, UnknownTagError, XdicomError
from .exporting import Exporting
from .frames import ATTRIBUTES, Frames
from .notebook import html_of
from .outline import tree_of
from .reading import Duplicates, Missing, keep_alive, stacked_ndarray, stacked_xarray
from .saving import save_copy
from .tags import UniqueValues

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike

    from .catalog import Problem
    from .changes import Change
    from .scaling import Scale
    from .setting import Setter
    from .store import Store

_MOST_SHOWN = 50  # children of one record


class Record(Exporting):
    """A database, patient, study or series: a key into a store, and the tags of all frames under it.

    Reading a tag gives its distinct values in the record's frames: `record.Rows`, `record["Rows"]`,
    `record[(0x0028, 0x0010)]`, `record["Creator", 0x0029, 0x0C]` for private elements; a list of names gives a list.
    """

    def __init__(self, store: Store, key: tuple[str, ...]) -> None:
        self._store = store
        self._key = key

    # -- identity

    @property
    def key(self) -> tuple[str, ...]:
        """(PatientID, StudyInstanceUID, SeriesInstanceUID), up to the level of the record."""
        return self._key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return type(self) is type(other) and self._key == other._key and self._store is other._store

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key, id(self._store)))

    # Python would make an endless iteration of __getitem__, for every int is a tag.
    __iter__ = None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        kind = type(self).__name__
        raise TypeError(f"a {kind} is a handle on an open database and cannot be pickled: send its to_xarray() or path")

    def __repr__(self) -> str:
        kind = type(self).__name__
        try:
            self._require()
            return (f"{kind} " if self._key else "") + tree_of(self._store, self._key, limit=_MOST_SHOWN)
        except XdicomError as error:  # looking at a record raises nothing
            return f"<{kind}: {error}>"

    def _repr_html_(self) -> str:
        try:
            self._require()
            return html_of(self._store, self._key)
        except XdicomError as error:
            return html.escape(f"<{type(self).__name__}: {error}>")

    def _require(self) -> None:
        """Raise where the record is not there any more."""
        self._store.require(self._key)

    # -- tags

    def frames(self) -> Frames:
        """Return the table of the record's frames, in order of series, file and frame."""
        self._require()
        tables = self._store.tables(self._key)
        return Frames.concat(tables) if tables else Frames.empty()

    def _unique(self, name: Any) -> UniqueValues:
        self._require()
        # Without frames too, so that a typo is told.
        found = [table.unique(name) for table in self._store.tables(self._key) or [Frames.empty()]]
        return found[0] if len(found) == 1 else tags.unique(itertools.chain.from_iterable(found))

    def __getattr__(self, name: str) -> UniqueValues:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in ATTRIBUTES or name[:1].isupper() or name == "dBdt":
            return self._unique(name)
        near = difflib.get_close_matches(name, [known for known in dir(self) if known[:1] != "_"], 1)
        hint = f"did you mean {near[0]!r}?" if near else f"registered are {', '.join(sorted(ATTRIBUTES))}"
        if not near:
            tags.as_tag(name)  # says which keyword is meant by one in lower case
        raise UnknownTagError(f"a {type(self).__name__} has no attribute {name!r}; {hint}")

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, list):
            return [self._unique(each) for each in name]
        return self._unique(_checked_name(name))

    # -- editing

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        elif name in ATTRIBUTES or name[:1].isupper() or name == "dBdt":
            self._set({name: value})
        else:
            raise UnknownTagError(f"a {type(self).__name__} has no attribute {name!r} that can be set")

    def __setitem__(self, name: Any, value: Any) -> None:
        if not isinstance(name, list):
            self._set({_checked_name(name): value})
            return
        values = [value] if isinstance(value, str) else list(value)
        if len(values) != len(name):
            raise EditError(f"{len(values)} values for {len(name)} tags: give one each")
        self._set(dict(zip(map(_hashable, name), values, strict=True)))

    def __delattr__(self, name: str) -> None:
        self._set({name: None})

    def __delitem__(self, name: Any) -> None:
        self._set(dict.fromkeys(map(_hashable, name) if isinstance(name, list) else [_checked_name(name)]))

    def set(self, name: Any, value: Any, *, VR: str | None = None) -> None:
        """Stage a value in every dataset of the record; the same as `record[name] = value`.

        Parameters
        ----------
        name
            A tag, a private element ("Creator", group, element) or a lower_case attribute.
        value
            None removes the element, "" leaves it empty.
        VR
            Of a private element that no dictionary knows.
        """
        self._set({_checked_name(name): value}, {} if VR is None else {tags.parse(name): VR})

    def _set(self, values: dict[Any, Any], vrs: dict[object, str] | None = None) -> None:
        """Stage values by name, all or none."""
        found: dict[int | tags.PrivateTag, object] = {}
        setters: list[Setter] = []
        for name, value in values.items():
            if isinstance(name, str) and name in ATTRIBUTES:
                setters.append(_setter(name, value))
            else:
                found[tags.parse(name)] = value
        self._key = self._store.set_values(self._key, found, vrs or {}, setters)

    def restore(self, *names: Any) -> None:
        """Take back what is staged in this record, or only the edits of some tags.

        Parameters
        ----------
        *names
            Tags, private elements or lower_case attributes; all edits where none is given. New records and frames that
            were never saved go. One private element may be named as in `record["Creator", 0x0029, 0x0C]`.
        """
        is_private = [type(name) for name in names] == [str, int, int]  # small numbers, which are no tags
        each = (names,) if is_private and max(names[1:]) <= 0xFFFF else names
        wanted = {tag for name in each for tag in tags_of(self.frames(), name)} if names else None
        self._key = self._store.restore(self._key, wanted)

    def remove(self, **conditions: Any) -> None:
        """Stage the removal of everything in the record, or of some frames of it; `restore()` takes it back.

        `save()` deletes the files, and writes those of which some frames stay anew, under a new SOPInstanceUID. What
        was never saved is dropped at once.

        Parameters
        ----------
        **conditions
            Tags or lower_case attributes that frames to remove match: a value, a list (any of), a slice (low to high)
            or a function.

        Raises
        ------
        RecordError
            If no frame matches.
        """
        self._require()
        if not conditions:
            self._store.remove(self._key)
        elif not self._store.remove_rows(self._key, partial(matching_rows, conditions=conditions)):
            raise nothing_matches(self.frames(), conditions)

    def status(self) -> list[Change]:
        """Return each staged edit as (series, what, before, after); empty where all is saved."""
        return self._store.status(self._key)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *ATTRIBUTES]

    # -- arrays

    def ndarray(
        self,
        dims: Sequence[Any] | str | None = None,
        *,
        return_coords: bool = False,
        dtype: DTypeLike | None = None,
        missing: Missing = "raise",
        duplicates: Duplicates = "raise",
    ) -> Any:
        """Read the record's images into memory, in real-world values.

        Parameters
        ----------
        dims
            Tags or lower_case attributes along which frames are arranged, each ascending.
        return_coords
            Also return a dict of the coordinates of the dims.
        dtype
            By default the smallest that holds every value.
        missing
            "raise" or "fill" (with NaN) where no frame is at a grid point.
        duplicates
            "raise" or "first" where several are.

        Returns
        -------
        ndarray
            Shape (x, y, n), x the column index, y the row index and n the frames by InstanceNumber; with `dims`
            ``(x, y, *dims)``. Colour has a last axis.

        Raises
        ------
        StackError
            If the frames do not fill the grid, with what tells them apart and what to type.
        PixelError
            If some frame has no pixels, or frames differ in matrix.
        StaleError
            If a file changed since it was scanned.
        """
        options: dict[str, Any] = {"dtype": dtype, "missing": missing, "duplicates": duplicates}
        for left in (2, 1, 0):
            frames = self.frames()
            try:
                return stacked_ndarray(frames, dims, return_coords=return_coords, **options)
            except StaleError:
                # Another process may have saved since: then the frames are elsewhere now.
                if not left or self.frames().locations.token() == frames.locations.token():
                    raise
        return None

    array = ndarray

    def to_xarray(
        self,
        dims: Sequence[Any] | str | None = None,
        *,
        chunks: Any = "auto",
        rescale: Scale = True,
        mask_padding: bool = False,
        dtype: DTypeLike | None = None,
        missing: Missing = "raise",
        duplicates: Duplicates = "raise",
    ) -> xr.DataArray:
        """Return the record's images as a lazy, labelled DataArray.

        Parameters
        ----------
        dims
            Tags or lower_case attributes along which frames are arranged, each ascending; inferred where not given.
        chunks
            As in `xarray.DataArray.chunk`; "auto" gives whole frames, 16 to 64 MB a chunk.
        rescale
            True: values by RescaleSlope and RescaleIntercept, or the Modality LUT; False: stored ones; "philips-fp":
            the floating point values of Philips scanners, which compare between scans; "real-world", or
            "real-world:LABEL" where there are several: by RealWorldValueMappingSequence. The choice is in the
            attribute ``rescale``, the unit in ``units``.
        mask_padding
            Whether PixelPaddingValue, up to PixelPaddingRangeLimit, is NaN; the array is then one of floats.
        dtype
            By default the smallest that holds every value.
        missing
            "raise" or "fill" (with NaN) where no frame is at a grid point.
        duplicates
            "raise" or "first" where several are.

        Returns
        -------
        DataArray
            Named "pixels", dims ``(*dims, "row", "column"[, "sample"])``, with tags as coordinates and attributes.

        Raises
        ------
        StackError
            If the frames do not fill the grid, with what tells them apart and what to type.
        PixelError
            If some frame has no pixels or no such scale, or frames differ in matrix.
        """
        da = stacked_xarray(
            self.frames(),
            dims,
            chunks=chunks,
            rescale=rescale,
            mask_padding=mask_padding,
            dtype=dtype,
            missing=missing,
            duplicates=duplicates,
        )
        keep_alive(da, self._store)
        return da

    # -- writing

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write the record as DICOM files into a folder, under the same UIDs.

        Parameters
        ----------
        path
            A folder outside the database's own. What is staged is written too, and stays staged in the source. A
            database in memory, or the only series of one, lives in the folder from then on.

        Raises
        ------
        SaveError
            If there is nothing to write, no path for a database in memory, or the folder cannot take the files.
        """
        self._require()
        if path is None and self._store.in_memory:
            raise SaveError("this database is in memory: give a folder, save('folder')")
        with Progress("saving", unit="files") as progress:
            if path is None:
                self._save_here(progress)
            else:
                self._save_there(path, progress)

    def _save_here(self, progress: Progress) -> None:
        left = self._store.save(self._key, progress)
        if left:
            names = ", ".join(key.series or key.study or key.patient for key in left)
            warnings.warn(
                f"new records without images are not written, and stay unsaved: {names}", UserWarning, stacklevel=3
            )

    def _save_there(self, path: str | os.PathLike[str], progress: Progress) -> None:
        keys = self._store.keys(self._key)
        save_copy(self._store, keys, path, progress)
        if self._store.in_memory and keys == self._store.keys():
            self._store.settle(path)

    def problems(self) -> list[Problem]:
        """Return what is wrong with files of the database, each as (path, reason)."""
        return self._store.problems()


def _setter(name: str, value: Any) -> Setter:
    """Return what setting a lower_case attribute makes of a table."""
    setter = ATTRIBUTES[name].set
    if setter is None:
        raise EditError(f"{name} is derived from other tags and cannot be set")
    return partial(setter, value)


def tags_of(frames: Frames, name: Any) -> set[int]:
    """Return the tags that a name stands for in some frames."""
    if isinstance(name, str) and name in ATTRIBUTES:
        held = frames.unique(name)
        setter = _setter(name, held[0] if held else None)
        return {tag for each in setter(frames) for tag in tags_of(frames, each)}
    parsed = tags.parse(name)
    return set(frames.places(parsed)) if isinstance(parsed, tags.PrivateTag) else {parsed}


def _hashable(name: Any) -> Any:
    return tuple(name) if isinstance(name, list) else name


def _checked_name(name: Any) -> Any:
    """Refuse a tuple of names, which Python makes of `record["Rows", "Columns"]`."""
    is_names = isinstance(name, tuple) and len(name) > 1 and all(isinstance(part, str) for part in name)
    if is_names:
        raise UnknownTagError(f"several tags need a list: record[{list(name)!r}]")
    return name
