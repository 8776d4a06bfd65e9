"""What BIDS wants to know of an image beside its voxels: parameters in its units, and the gradients of diffusion.

Names and units are those of BIDS 1.10 where it has them. Who was scanned, where and on what day is left out unless it
is asked for.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from .conversion import LPS_TO_RAS, Volume, time_step
from .geometry import FloatArray

_MILLI = 1e-3

# By DICOM keyword: the name in BIDS, and what numbers are multiplied by.
_NUMBERS: Mapping[str, tuple[str, float]] = {
    "EchoTime": ("EchoTime", _MILLI),
    "RepetitionTime": ("RepetitionTime", _MILLI),
    "InversionTime": ("InversionTime", _MILLI),
    "TriggerTime": ("TriggerTime", _MILLI),
    "FlipAngle": ("FlipAngle", 1.0),
    "MagneticFieldStrength": ("MagneticFieldStrength", 1.0),
    "ImagingFrequency": ("ImagingFrequency", 1.0),
    "EchoTrainLength": ("EchoTrainLength", 1.0),
    "EchoNumbers": ("EchoNumber", 1.0),
    "PixelBandwidth": ("PixelBandwidth", 1.0),
    "NumberOfAverages": ("NumberOfAverages", 1.0),
    "PercentPhaseFieldOfView": ("PercentPhaseFOV", 1.0),
    "PercentSampling": ("PercentSampling", 1.0),
    "SAR": ("SAR", 1.0),
    "SliceThickness": ("SliceThickness", 1.0),
    "SpacingBetweenSlices": ("SpacingBetweenSlices", 1.0),
    "SeriesNumber": ("SeriesNumber", 1.0),
    "AcquisitionNumber": ("AcquisitionNumber", 1.0),
    "KVP": ("KVP", 1.0),
    "XRayTubeCurrent": ("XRayTubeCurrent", 1.0),
    "Exposure": ("XRayExposure", 1.0),
    "ExposureTime": ("ExposureTime", _MILLI),
    "GantryDetectorTilt": ("GantryDetectorTilt", 1.0),
    "FrameReferenceTime": ("FrameReferenceTime", _MILLI),
    "ActualFrameDuration": ("FrameDuration", _MILLI),
    "DecayFactor": ("DecayFactor", 1.0),
    "b_value": ("DiffusionBValue", 1.0),
    "DiffusionBValue": ("DiffusionBValue", 1.0),
}
_TEXTS: Mapping[str, str] = {
    "Modality": "Modality",
    "Manufacturer": "Manufacturer",
    "ManufacturerModelName": "ManufacturersModelName",
    "SoftwareVersions": "SoftwareVersions",
    "BodyPartExamined": "BodyPartExamined",
    "PatientPosition": "PatientPosition",
    "SeriesDescription": "SeriesDescription",
    "ProtocolName": "ProtocolName",
    "ScanningSequence": "ScanningSequence",
    "SequenceVariant": "SequenceVariant",
    "ScanOptions": "ScanOptions",
    "SequenceName": "SequenceName",
    "PulseSequenceName": "PulseSequenceDetails",
    "MRAcquisitionType": "MRAcquisitionType",
    "ReceiveCoilName": "ReceiveCoilName",
    "TransmitCoilName": "TransmitCoilName",
    "ConvolutionKernel": "ConvolutionKernel",
    "Units": "Units",
    "RescaleType": "RescaleType",
    "ContrastBolusAgent": "ContrastBolusIngredient",
}
_IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "PatientSize"),
    *("StudyInstanceUID", "SeriesInstanceUID", "StudyID", "AccessionNumber", "StudyDescription", "StudyDate"),
    *("SeriesDate", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "OperatorsName", "InstitutionName", "InstitutionAddress"),
    *("InstitutionalDepartmentName", "StationName", "DeviceSerialNumber"),
)
# MosaicRefAcqTimes, of the slices in a Siemens mosaic, and the private creator that it is of.
_MOSAIC_TIMES, _MOSAIC_CREATOR = "tag_0019_1029", "tag_0019_0010"
_PHASE_AXIS = {"COL": "j", "COLUMN": "j", "ROW": "i"}
_SIEMENS = ("tag_0019_0010", "SIEMENS MR HEADER")
_SIEMENS_B, _SIEMENS_DIRECTION = "tag_0019_100C", "tag_0019_100E"


class Gradients(NamedTuple):
    """b-values in s/mm2, shape (n,), and directions as FSL has them, shape (3, n); 0 where nothing was applied."""

    values: FloatArray
    directions: FloatArray


def sidecar(volume: Volume, *, identity: bool = False) -> dict[str, Any]:
    """Return what goes into the JSON file beside an image.

    Parameters
    ----------
    volume
        The image.
    identity
        Also who was scanned, where and when, by DICOM keyword.

    Returns
    -------
    dict
        Times in seconds, lengths in mm, angles in degrees. A parameter that varies along an axis after the third is a
        list; "Dims" names the axes where there are more than three.
    """
    da = volume.array
    found: dict[str, Any] = {}
    for keyword, (name, factor) in _NUMBERS.items():
        value = _value(volume, keyword)
        numbers = value if isinstance(value, list) else [value]
        if numbers and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            scaled = [_scaled(number, factor) for number in numbers]
            found[name] = scaled if isinstance(value, list) else scaled[0]
    found |= {name: da.attrs[keyword] for keyword, name in _TEXTS.items() if isinstance(da.attrs.get(keyword), str)}
    image_type = _value(volume, "ImageType")
    if isinstance(image_type, str):
        found["ImageType"] = image_type.split("\\")
    axis = _PHASE_AXIS.get(str(da.attrs.get("InPlanePhaseEncodingDirection", "")))
    if axis is not None:
        found["PhaseEncodingAxis"] = axis  # the sign is known to the vendor only
    timing = _slice_timing(volume)
    if timing is not None:
        found["SliceTiming"] = timing
    if volume.others:
        found["Dims"] = ["column", "row", "slice", *volume.others]
    if identity:
        found |= {keyword: da.attrs[keyword] for keyword in _IDENTITY if keyword in da.attrs}
    return found


def _scaled(number: float, factor: float) -> float:
    # 4.9 ms are 0.0049 s, not 0.0049000000000000007.
    return number if factor == 1 else float(f"{number * factor:.12g}")


def _value(volume: Volume, keyword: str) -> Any:
    """Return the value of a tag: one for the image, or a list along one further axis; None where it is neither."""
    da = volume.array
    if keyword not in da.coords:
        return da.attrs.get(keyword)
    coord = da.coords[keyword]
    if not coord.dims or (len(coord.dims) == 1 and coord.dims[0] in volume.others):
        return coord.values.tolist()
    return None


def _slice_timing(volume: Volume) -> list[float] | None:
    """Return when each slice of the first volume was taken, in seconds after the first one."""
    da = volume.array
    along = str(da.dims[2])
    in_mosaic = da.coords.get(_MOSAIC_TIMES)
    if in_mosaic is not None and along in in_mosaic.dims and da.attrs.get(_MOSAIC_CREATOR) == "SIEMENS MR HEADER":
        return _after_first(in_mosaic, along, _MILLI)
    if "AcquisitionTime" not in da.coords or not volume.seconds or not volume.others:
        return None
    times = da.coords["AcquisitionTime"]
    if along not in times.dims or time_step(da, volume.others[0]) is None:
        return None
    after = _after_first(times, along)
    return after if after and max(after) < volume.seconds else None


def _after_first(times: xr.DataArray, along: str, unit: float = 1.0) -> list[float] | None:
    """Return the times of the slices of the first volume in seconds after the first of them, None if one is unknown."""
    first = times.isel({dim: 0 for dim in times.dims if dim != along}).values.astype(float) * unit
    return [round(each, 6) for each in (first - first.min()).tolist()] if np.isfinite(first).all() else None


def gradients(volume: Volume) -> Gradients | None:
    """Return b-values and directions along the fourth axis, None where they are not all known.

    Parameters
    ----------
    volume
        The image.

    Notes
    -----
    FSL counts directions along the axes of the voxels, the first one backwards where the axes are right-handed (of
    which NIfTI has the handedness in RAS).
    """
    da = volume.array
    if len(volume.others) != 1:
        return None
    size = da.sizes[volume.others[0]]
    names_of_values, stems = _names_of_gradients(da)
    values = next((found for name in names_of_values if (found := _along(volume, name)) is not None), None)
    names = next((names for names in map(_xyz, stems) if any(name in da.coords for name in names)), None)
    if values is None or names is None:
        return None
    parts = [_along(volume, name) for name in names]
    if any(part is None for part in parts) or not np.isfinite(values).all() or not (values > 0).any():
        return None
    patient = np.nan_to_num(np.array([np.broadcast_to(part, size) for part in parts if part is not None]))
    values = np.broadcast_to(values, size)
    length = np.linalg.norm(patient, axis=0)
    if (np.abs(length - 1) > 1e-2)[values > 0].any():
        return None  # isotropic or trace images among them
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    directions = np.linalg.solve(axes, np.where(values > 0, patient, 0.0))
    if np.linalg.det((LPS_TO_RAS @ volume.affine)[:3, :3]) > 0:
        directions[0] *= -1
    return Gradients(np.array(values, float), directions + 0.0)


def _names_of_gradients(da: xr.DataArray) -> tuple[list[str], list[str]]:
    """Return what b-values may be called, and directions in the patient: by the standard, and by Siemens before it."""
    values, directions = ["b_value", "DiffusionBValue"], ["DiffusionGradientOrientation"]
    creator, name = _SIEMENS
    if _value_of(da, creator) == name:
        values.append(_SIEMENS_B)
        directions.append(_SIEMENS_DIRECTION)
    return values, directions


def _xyz(stem: str) -> list[str]:
    return [f"{stem}_{part}" for part in range(3)]


def _value_of(da: xr.DataArray, name: str) -> Any:
    """Return an attribute, or a coordinate that is the same for the whole array."""
    if name in da.coords and not da.coords[name].dims:
        return da.coords[name].item()
    return da.attrs.get(name)


def _along(volume: Volume, name: str) -> FloatArray | None:
    """Return numbers along the fourth axis, of shape () where they are the same all along."""
    value = _value(volume, name)
    numbers = np.asarray(np.nan if value is None else value)
    return numbers.astype(float) if value is not None and numbers.dtype.kind in "iuf" else None


def gradient_texts(found: Gradients) -> tuple[str, str]:
    """Return the text of a bval and of a bvec file."""
    values = " ".join(f"{value:g}" for value in found.values.tolist())
    rows = [" ".join(f"{number:.8g}" for number in row) for row in found.directions.tolist()]
    return f"{values}\n", "\n".join(rows) + "\n"
