"""What records can be written as for other programs: tables, pictures, and Zarr stores.

DICOM is written by `saving`, NIfTI by `nifti`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .csvs import column_name, varying, write_csv
from .display import Progress
from .errors import MissingPackageError
from .nifti import Exported, export_nifti
from .pngs import write_pngs
from .scan import SeriesKey
from .trees import Arranging
from .zarrs import write_store

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

    from .frames import Frames
    from .reading import Duplicates, Missing
    from .scaling import Scale
    from .store import Store


class Exporting:
    """A record as far as others read it: see `records.Record`."""

    _store: Store
    _key: tuple[str, ...]

    def frames(self) -> Frames:
        """Return the table of the record's frames, in order of series, file and frame."""
        raise NotImplementedError

    def _require(self) -> None:
        raise NotImplementedError

    def to_pandas(self, *names: Any) -> pd.DataFrame:
        """Return the table of frames, one row a frame, as a pandas DataFrame.

        Parameters
        ----------
        *names
            Tags or attributes; all tags that vary where none is given.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingPackageError("to_pandas needs pandas: pip install pandas") from error
        frames = self.frames()
        columns = {}
        for name in names or varying(frames):
            values, codes = frames.named(name)
            columns[column_name(name)] = [values[code] if code >= 0 else None for code in codes.tolist()]
        return pd.DataFrame(columns)

    def to_csv(self, path: str | os.PathLike[str], *names: Any, escape_formulas: bool = True) -> None:
        """Write the table of frames, one row a frame, as CSV in UTF-8.

        Parameters
        ----------
        path
            A file that does not exist.
        *names
            Tags or attributes; all tags that vary where none is given.
        escape_formulas
            Put a "'" before text that a spreadsheet would execute, such as a name that begins with "=".

        Raises
        ------
        SaveError
            If there is something at the path.
        """
        write_csv(self.frames(), path, names, escape_formulas=escape_formulas)

    def to_nifti(self, folder: str | os.PathLike[str], *, identity: bool = False) -> Exported:
        """Write every series as NIfTI with a JSON sidecar, and with b-values and directions where these are known.

        Parameters
        ----------
        folder
            Where files go, named by number and description; nothing in it is replaced.
        identity
            Whether sidecars and names may say who was scanned, where and when.

        Returns
        -------
        Exported
            What was made, and what was left out and why; see `xdicom.nifti.export_nifti`.

        Raises
        ------
        SaveError
            If one of the files exists; then nothing is written.
        MissingPackageError
            If nibabel is not installed.
        """
        self._require()
        with Progress("exporting", unit="images") as progress:
            return export_nifti([self], folder, identity=identity, progress=progress)

    def to_png(
        self,
        folder: str | os.PathLike[str],
        *,
        window: tuple[float, float] | None = None,
        colormap: str | None = None,
    ) -> list[Path]:
        """Write every image as a PNG file of 8 bits, a pixel a pixel; for a montage see `plot`.

        Parameters
        ----------
        folder
            A folder that does not exist. Files are "00001.png" and so on, in the order of `ndarray`.
        window
            (center, width) for all images; by default that of each image's header, else one for all, from the 1st to
            the 99th percentile.
        colormap
            Of matplotlib; by default that of the series, else grey.

        Returns
        -------
        list of Path
            The files, which also say the size of a pixel.

        Raises
        ------
        SaveError
            If there is something at the path.
        PixelError
            If there are no images, or one cannot be read; then nothing is written.
        """
        with Progress("writing", unit="images") as progress:
            return write_pngs(self.frames(), folder, window=window, colormap=colormap, progress=progress)

    def to_zarr(
        self,
        path: str | os.PathLike[str],
        dims: Sequence[Any] | str | None = None,
        *,
        rescale: Scale = True,
        mask_padding: bool = False,
        missing: Missing = "raise",
        duplicates: Duplicates = "raise",
    ) -> None:
        """Write the record's images with all of their headers as a Zarr store, which opens without xdicom.

        Parameters
        ----------
        path
            A folder that does not exist. `xarray.open_zarr(path, consolidated=False)` opens that of a series;
            `xarray.open_datatree(path, engine="zarr", consolidated=False)` that of any other record, patients / studies
            / series. `xdicom.from_zarr` makes a series of it again.
        dims, rescale, mask_padding, missing, duplicates
            As in `to_xarray`.

        Raises
        ------
        SaveError
            If there is something at the path.
        StackError, PixelError
            As in `to_xarray`, of a series; in a tree such a series is written frame by frame, or without pixels.
        """
        self._require()
        how = Arranging(dims, rescale, mask_padding, None, missing, duplicates)
        is_series = len(self._key) == 3
        if is_series:
            tables = [(SeriesKey(*self._key), self.frames())]
        else:
            keys = self._store.keys(self._key)
            tables = [(key, table) for key in keys if (table := self._store.frames(key)) is not None]
        with Progress("writing", unit="groups") as progress:
            write_store(tables, path, how, is_series=is_series, progress=progress)
