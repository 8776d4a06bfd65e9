"""What `da.dicom` offers on every DataArray that has xdicom's coordinates; importing xdicom registers it.

It keeps nothing but the array: geometry and identity are in coordinates, which survive what xarray does with an array.
"""

from typing import TYPE_CHECKING

import xarray as xr

from . import conversion
from .geometry import FloatArray
from .placement import affine_of, world_coordinates

if TYPE_CHECKING:
    import nibabel
    import SimpleITK


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

    def to_nibabel(self) -> "nibabel.Nifti1Image":
        """Return the array as a NIfTI image in memory, with its values computed.

        Returns
        -------
        nibabel.Nifti1Image
            Axes (column, row, slice, *others): a dim that is time comes first of the others, else they are in the order
            of the array. The affine leads to RAS mm. Zooms are in mm, and in seconds along time where its steps are
            known and equal. Colour of 8 bits is RGB24.

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
            Axes (column, row, slice, *others), as SimpleITK reads a NIfTI file: four dims make a 4-D image. Origin,
            spacing and direction are LPS mm. Colour makes a vector image.

        Raises
        ------
        GeometryError
            If the array has no affine, or a sheared one, which SimpleITK cannot hold: see `to_regular`.
        MissingPackageError
            If SimpleITK is not installed.
        """
        return conversion.to_sitk(self._da)
