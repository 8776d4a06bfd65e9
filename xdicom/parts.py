"""A part of a series, to be read like one: what `split()` gives.

It is no record: nothing is copied or staged, and nothing can be set on it. Which frames it has is told.
"""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import EditError
from .reading import affine_from
from .records import Record
from .splitting import described

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .database import Patient, Series, Study
    from .frames import Frames
    from .tags import UniqueValues


class Part(Record):
    """Some frames of a series, as they were when it was split; read only.

    Tags, `frames()`, `to_pandas()`, `ndarray()`, `to_xarray()` and `affine` are those of its frames. `to_series()`
    makes a series of copies, which can be edited and saved.
    """

    def __init__(self, whole: Series, frames: Frames) -> None:
        super().__init__(whole._store, whole.key)
        self._whole = whole
        self._frames = frames

    @property
    def whole(self) -> Series:
        """The series that it is a part of."""
        return self._whole

    @property
    def study(self) -> Study:
        """The study that the series is in."""
        return self._whole.study

    @property
    def patient(self) -> Patient:
        """The patient that the series is of."""
        return self._whole.patient

    @property
    def affine(self) -> NDArray[np.float64]:
        """4 x 4 matrix from (column, row, slice) index to LPS mm; see `Series.affine`."""
        return affine_from(self._frames)

    def frames(self) -> Frames:
        """Return the table of its frames."""
        return self._frames

    def to_series(self) -> Series:
        """Make a new series in the same study, of copies of the frames."""
        return self._whole._copy_of(self._frames)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Part: {described(self._frames)}"

    def _repr_html_(self) -> str:
        return html.escape(repr(self))

    def _unique(self, name: Any) -> UniqueValues:
        return self._frames.unique(name)

    def _set(self, values: dict[Any, Any], vrs: dict[object, str] | None = None) -> NoReturn:
        self._refuse("set " + ", ".join(map(str, values)))

    def restore(self, *names: Any) -> NoReturn:
        """Refuse: nothing is staged in a part."""
        self._refuse("restore")

    def remove(self, **conditions: Any) -> NoReturn:
        """Refuse: a part cannot be removed by itself."""
        self._refuse("remove")

    def save(self, path: str | os.PathLike[str] | None = None) -> NoReturn:
        """Refuse: a part has no files of its own."""
        self._refuse("save")

    def to_zarr(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: a store holds whole series; `to_xarray().to_zarr()` writes an array."""
        self._refuse("write a store")

    def _refuse(self, what: str) -> NoReturn:
        raise EditError(f"cannot {what}: a part of a series is for reading; to_series() makes a series of it")
