"""Arrays with geometry as images of nibabel and SimpleITK.

Files with sidecars are `nifti.py`'s; both packages are optional.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import geometry
from .dims import RANKED
from .errors import GeometryError, MissingPackageError
from .geometry import FloatArray
from .placement import affine_of, slice_dim

if TYPE_CHECKING:
    import nibabel
    import SimpleITK

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_MOST_NIFTI, _MOST_NIFTI1_SIZE, _MOST_SITK = 7, 2**15 - 1, 5
_DAY = 86400.0
_STEADY = 0.05

# Seconds in the unit of tags that say when something was measured; 0 marks the text of a date with a time.
_CLOCKS = {
    "AcquisitionTime": 1.0,
    "ContentTime": 1.0,
    "TemporalPositionTimeOffset": 1.0,
    "TriggerTime": 1e-3,
    "FrameReferenceTime": 1e-3,
    "NominalCardiacTriggerDelayTime": 1e-3,
    "AcquisitionDateTime": 0.0,
    "FrameAcquisitionDateTime": 0.0,
    "FrameReferenceDateTime": 0.0,
}
_COUNTERS = ("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "InstanceNumber", "volume")


class Volume(NamedTuple):
    """An array in the order of an image file, with what its axes mean.

    Attributes
    ----------
    array
        Dims (column, row, slice dim, *others[, sample]); time, where it is a dim, is the first of the others.
    affine
        4 x 4, from (column, row, slice) index to LPS mm.
    others
        Names of the dims after the first three, without sample.
    seconds
        From one time to the next; None where no dim is time or its steps are unknown or unequal.
    """

    array: xr.DataArray
    affine: FloatArray
    others: tuple[str, ...]
    seconds: float | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, colour left out."""
        return self.array.shape[: 3 + len(self.others)]

    @property
    def is_sheared(self) -> bool:
        """Whether the slices are not stacked along their normal."""
        return sheared(self.affine, self.array.shape[2])


def volume_of(da: xr.DataArray) -> Volume:
    """Put the dims of an array into the order of image files.

    Parameters
    ----------
    da
        An array with the coordinates of geometry; a row, column or slice that was selected comes back as a dim.

    Raises
    ------
    GeometryError
        If it has no affine.
    """
    affine = affine_of(da)
    along = slice_dim(da)
    if along is None:
        along = "slice" if "slice" not in da.dims else "_slice"
    spatial = ("column", "row", along)
    for name in spatial:
        if name not in da.dims:
            da = da.expand_dims(name)
    others = [str(dim) for dim in da.dims if dim not in (*spatial, "sample")]
    times = [dim for dim in others if is_time(da, dim)]
    seconds = time_step(da, times[0]) if times else None
    ordered = (*times, *(dim for dim in others if dim not in times))
    return Volume(da.transpose(*spatial, *ordered, ...), affine, ordered, seconds)


def is_time(da: xr.DataArray, dim: str) -> bool:
    """Say whether a dim of an array is time: named after a clock, or a counter along which a clock runs."""
    name = dim.removesuffix(RANKED)
    return name in _CLOCKS or (name in _COUNTERS and time_step(da, dim) is not None)


def time_step(da: xr.DataArray, dim: str) -> float | None:
    """Return the seconds between neighbours along a dim, None where it is unknown or not steady.

    Notes
    -----
    By a clock that runs along the dim, else TemporalResolution, else RepetitionTime where a volume is taken in each
    (echo planar images in two dimensions).
    """
    is_epi = "EP" in str(da.attrs.get("ScanningSequence", "")).split("\\") and da.attrs.get("MRAcquisitionType") == "2D"
    repetition = _milliseconds(da.attrs.get("RepetitionTime")) if is_epi else None
    clock = _clock_step(da, dim)
    if clock is None:
        return _milliseconds(da.attrs.get("TemporalResolution")) or repetition
    if np.isnan(clock):
        return None
    # The clock ticks in milliseconds or seconds; a scan with pauses has a longer step.
    return repetition if repetition and abs(clock - repetition) <= _STEADY * repetition else clock


def _clock_step(da: xr.DataArray, dim: str) -> float | None:
    """Return the seconds between neighbours by a clock that runs along a dim: NaN if unsteadily, None without one."""
    for name, unit in _CLOCKS.items():
        if name in da.coords and dim in da.coords[name].dims and da.sizes[dim] > 1:
            steps = np.diff(_seconds(da.coords[name], unit), axis=da.coords[name].dims.index(dim))
            steps = steps % _DAY if name.endswith("Time") and unit == 1.0 else steps
            typical = float(np.median(steps))
            if typical > 0:
                return typical if (np.abs(steps - typical) <= _STEADY * typical).all() else np.nan
    return None


def _milliseconds(value: object) -> float | None:
    return float(value) / 1e3 if isinstance(value, int | float) and value > 0 else None


def _seconds(coord: xr.DataArray, unit: float) -> FloatArray:
    """Return times in seconds, NaN where there is none."""
    if unit:
        return coord.values.astype(float) * unit if coord.dtype.kind in "iuf" else np.full(coord.shape, np.nan)
    texts = coord.values.astype(str)
    found: FloatArray = np.array([_moment(text) for text in texts.reshape(-1)]).reshape(texts.shape)
    return found


def _moment(text: str) -> float:
    """Return the seconds of a DICOM date with time (YYYYMMDDHHMMSS.FFFFFF), its zone left out."""
    whole, _, fraction = text.split("+")[0].split("-")[0].partition(".")
    try:
        return datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        return np.nan


# -- nibabel


def to_nibabel(da: xr.DataArray) -> "nibabel.Nifti1Image":
    """Return an array as a NIfTI image in memory; see `xdicom.accessor.DicomAccessor.to_nibabel`."""
    require_nibabel()
    return nibabel_image(volume_of(da))


def require_nibabel() -> None:
    """Raise MissingPackageError where nibabel is not installed."""
    try:
        import nibabel  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("NIfTI needs nibabel: pip install nibabel") from error


def nibabel_image(volume: Volume) -> "nibabel.Nifti1Image":
    """Return a volume as a NIfTI image in memory, with its values computed.

    Raises
    ------
    GeometryError
        If it has more dims than NIfTI.
    """
    import nibabel

    colour = "sample" in volume.array.dims
    if 3 + len(volume.others) > _MOST_NIFTI:
        raise GeometryError(
            f"NIfTI has at most {_MOST_NIFTI} dims; the array has (column, row, slice) and {volume.others}. "
            "Take a part with isel() or sel()"
        )
    values = nifti_values(volume.array.values, colour)
    kind: Any = nibabel.Nifti1Image if max(values.shape) <= _MOST_NIFTI1_SIZE else nibabel.Nifti2Image
    affine = LPS_TO_RAS @ volume.affine
    image: Any = kind(values, affine, dtype=values.dtype)
    image.header.set_xyzt_units("mm", "sec" if volume.seconds else "unknown")
    # 1: the patient as the scanner sees it. A quaternion holds no shear.
    image.set_sform(affine, code=1, update_affine=False)
    image.set_qform(affine, code=0 if volume.is_sheared else 1, strip_shears=True, update_affine=False)
    if volume.seconds:
        image.header.set_zooms((*image.header.get_zooms()[:3], volume.seconds, *[1.0] * (values.ndim - 4)))
    made: nibabel.Nifti1Image = image
    return made


def nifti_values(values: NDArray[Any], colour: bool) -> NDArray[Any]:
    """Return values in a dtype that readers of NIfTI know, without loss; 64-bit integers where none narrower does."""
    if colour and values.dtype == np.uint8 and values.shape[-1] == 3:
        return np.ascontiguousarray(values).view(_RGB)[..., 0]
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        low, high = values.min(), values.max()
        for narrow in (np.int32, np.uint32):
            if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
                return values.astype(narrow)
    return values


# -- SimpleITK


def to_sitk(da: xr.DataArray) -> "SimpleITK.Image":
    """Return an array as a SimpleITK image; see `xdicom.accessor.DicomAccessor.to_sitk`."""
    try:
        import SimpleITK as sitk
    except ImportError as error:
        raise MissingPackageError("to_sitk needs SimpleITK: pip install SimpleITK") from error
    volume = volume_of(da)
    if volume.is_sheared:
        raise GeometryError(
            "the slices are not stacked along their normal (as with a tilted gantry), and the directions of a "
            "SimpleITK image are at right angles: da.dicom.to_regular() resamples onto such a grid"
        )
    ndim = 3 + len(volume.others)
    if ndim > _MOST_SITK:
        raise GeometryError(
            f"SimpleITK images have at most {_MOST_SITK} dims; the array has (column, row, slice) and {volume.others}. "
            "Take a part with isel() or sel()"
        )
    spatial = [str(dim) for dim in volume.array.dims[:3]]
    sample = [dim for dim in ("sample",) if dim in da.dims]
    values = volume.array.transpose(*reversed(volume.others), *reversed(spatial), *sample).values
    if values.dtype == bool or values.dtype == np.float16:
        values = values.astype(np.uint8 if values.dtype == bool else np.float32)
    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(values), isVector=bool(sample))
    lengths = np.linalg.norm(volume.affine[:3, :3], axis=0)
    direction = np.eye(ndim)
    direction[:3, :3] = volume.affine[:3, :3] / lengths
    rest = [volume.seconds or 1.0, *[1.0] * ndim][: ndim - 3]
    image.SetOrigin([*volume.affine[:3, 3].tolist(), *[0.0] * (ndim - 3)])
    image.SetSpacing([*lengths.tolist(), *rest])
    image.SetDirection(direction.reshape(-1).tolist())
    made: SimpleITK.Image = image
    return made


def sheared(affine: FloatArray, slices: int) -> bool:
    """Say whether a volume is a sheared block, as with a tilted gantry, so that right angles cannot hold it.

    Parameters
    ----------
    affine
        4 x 4, from (column, row, slice) index to mm.
    slices
        How many slices there are: a small angle adds up.

    Notes
    -----
    As in `geometry.slice_step`, a slice may be off its place by `geometry.STEP_TOLERANCE` of a step.
    """
    between_columns, between_rows, step = affine[:3, :3].T
    normal = np.cross(between_columns, between_rows)
    normal /= np.linalg.norm(normal)
    off = np.linalg.norm(step - (step @ normal) * normal) * max(slices - 1, 1)
    return bool(off > geometry.STEP_TOLERANCE * np.linalg.norm(step))
