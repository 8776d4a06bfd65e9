"""What `da.dicom` offers on every DataArray that has xdicom's coordinates; importing xdicom registers it.

It keeps nothing but the array: geometry and identity are in coordinates, which survive what xarray does with an array.
"""

import os
from typing import TYPE_CHECKING, Any

import xarray as xr

from . import conversion, plotting
from .creation import database as open_database
from .database import Database, Series
from .geometry import FloatArray
from .newseries import new_series
from .placement import affine_of, world_coordinates

if TYPE_CHECKING:
    import nibabel
    import SimpleITK
    from matplotlib.figure import Figure


@xr.register_dataarray_accessor("dicom")  # type: ignore[no-untyped-call]
class DicomAccessor:
    """Geometry of an array in the patient, and ways out of xarray.

    Parameters
    ----------
    da
        An array that came from `to_xarray`, through any selection, arithmetic, file and so on that left its
        coordinates.
    """

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da

    @property
    def affine(self) -> FloatArray:
        """Matrix from the indices of the array to the patient.

        Shape (4, 4): from ``(column index, row index, slice index, 1)`` to ``(x, y, z, 1)`` in LPS mm, in this order
        whatever the order of the dims. Of a tilted stack it is sheared.

        Raises
        ------
        GeometryError
            If there is no geometry, or slices, rows or columns are not equally spaced.
        """
        return affine_of(self._da)

    def world_coords(self) -> xr.Dataset:
        """Return where the centre of each voxel is.

        Returns
        -------
        Dataset
            ``x``, ``y`` and ``z`` in LPS mm, along the dims of slices, rows and columns; slices may have any positions.

        Raises
        ------
        GeometryError
            If there is no geometry.
        """
        return world_coordinates(self._da)

    def to_regular(self, *, step: float | None = None, order: int = 1) -> xr.DataArray:
        """Return the array on a grid with equal steps at right angles, lazily.

        Stacks with missing slices, unequal steps or a tilt have no affine, or a sheared one; on this grid they have a
        plain one.

        Parameters
        ----------
        step
            Between slices, in mm. By default the smallest distance of neighbours, if all others are multiples of it, as
            where slices are missing; else the median distance, adjusted so that the first and the last slice stay.
        order
            Of the spline between voxels: 1 is linear. 0 takes the nearest, as labels need it, and keeps the dtype.

        Returns
        -------
        DataArray
            Dims as before, slices along ``slice``. Rows and columns are those of the first slice, and more where
            slices are shifted against it, so that nothing is cut off. NaN outside, 0 in integers by order 0.

        Raises
        ------
        GeometryError
            If there is no geometry, slices are not parallel or two are at one place, or there is only one.
        """
        # Importing xdicom does not import scipy.
        from .regular import to_regular

        return to_regular(self._da, step=step, order=order)

    def to_nibabel(self) -> "nibabel.Nifti1Image":
        """Return the array as a NIfTI image in memory, with its values computed.

        Returns
        -------
        nibabel.Nifti1Image
            Axes ``(column, row, slice, *others)``: a dim that is time comes first of the others, else they are in the
            order of the array. The affine leads to RAS mm. Zooms are in mm, and in seconds along time where its steps
            are known and equal. Colour of 8 bits is RGB24.

        Raises
        ------
        GeometryError
            If the array has no affine, as with missing slices: see `to_regular`.
        MissingPackageError
            If nibabel is not installed.
        """
        return conversion.to_nibabel(self._da)

    def to_sitk(self) -> "SimpleITK.Image":
        """Return the array as a SimpleITK image, with its values computed.

        Returns
        -------
        SimpleITK.Image
            Axes ``(column, row, slice, *others)``, as SimpleITK reads a NIfTI file: four dims make a 4-D image. Origin,
            spacing and direction are LPS mm. Colour makes a vector image.

        Raises
        ------
        GeometryError
            If the array has no affine, or a sheared one, which SimpleITK cannot hold: see `to_regular`.
        MissingPackageError
            If SimpleITK is not installed.
        """
        return conversion.to_sitk(self._da)

    def to_series(
        self,
        database: Database,
        *,
        like: Series | None = None,
        range: tuple[float, float] | None = None,  # noqa: A002 - the word of S5
        **values: Any,
    ) -> Series:
        """Make a new series of the array, staged until it is saved; a lazy array is computed, once, now.

        Parameters
        ----------
        database
            Where it goes: into the study that the array came from, beside its series; else to the patient and study
            that its attributes name, or to new ones.
        like
            The series that it follows, and whose headers are cloned; by default the one that the array came from.
        range
            (low, high) that values are clipped to.
        **values
            Tags of the new series by keyword; of a new patient and study, too, where there are none to join.

        Returns
        -------
        Series
            With the array's geometry and coordinates; an array that fails leaves nothing behind.

        Raises
        ------
        EditError
            If DICOM cannot hold the array.
        """
        return new_series(database, self._da, like=like, range=range, values=values)

    def save(self, folder: str | os.PathLike[str], **values: Any) -> None:
        """Write the array as DICOM files, a new series, into a folder; its source is left alone.

        Parameters
        ----------
        folder
            As in `Series.save`.
        **values
            Tags of the series, its study and its patient, by keyword.

        Raises
        ------
        EditError
            If DICOM cannot hold the array.
        SaveError
            If the folder cannot take the files.
        """
        with open_database() as memory:
            self.to_series(memory, **values).save(folder)

    def plot(self, **options: Any) -> "Figure":
        """Draw the images of the array as a montage; see `xdicom.plotting.plot` for options and errors."""
        return plotting.plot(self._da, **options)
