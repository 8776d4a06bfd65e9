"""What others make of DICOM: dcm2niix; and the frames of a file by pydicom, with their places by PS3.3 C.7.6.2."""

import gzip
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

_RELATIVE = 1e-6
_APART = 997
# Outlines of overlays, and volumes that dcm2niix interpolates from tilted or unequally spaced slices.
_NO_VOLUMES = ("_ROI", "_Tilt", "_Eq")
_AXES = ("x", "y", "z")


class Frame(NamedTuple):
    """A frame with its values, shape (rows, columns[, 3]), and the centres of three corner pixels, (3, 3) in LPS mm."""

    values: np.ndarray
    corners: np.ndarray | None


def opened(path: Path, **options: Any) -> Dataset:
    """Read a dataset, from a file that may be gzipped."""
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            return pydicom.dcmread(file, force=True, **options)
    return pydicom.dcmread(path, force=True, **options)


def copied(files: Sequence[Path], folder: Path) -> Path:
    """Copy files into a new folder, those that are gzipped inflated."""
    folder.mkdir()
    for number, path in enumerate(files):
        content = path.read_bytes()
        (folder / f"{number:04}.dcm").write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
    return folder


# -- dcm2niix


def by_dcm2niix(program: str, folder: Path, target: Path) -> list[Any]:
    """Return the images that dcm2niix makes of a folder: no crops, nothing interpolated, not Philips' own scale."""
    import nibabel

    target.mkdir()
    options = ["-p", "n", "-x", "i", "-z", "n", "-b", "n", "-f", "%s_%d"]
    subprocess.run([program, *options, "-o", target, folder], capture_output=True, timeout=60, check=False)
    made = [path for path in sorted(target.glob("*.nii")) if not any(word in path.stem for word in _NO_VOLUMES)]
    return [nibabel.load(path, mmap=False) for path in made]


def values_of(image: Any) -> np.ndarray:
    """Return the voxels of a NIfTI image, shape (x, y, z[, n][, 3])."""
    values = np.array(image.dataobj)  # not mapped: the file would stay open
    return np.stack([values[name] for name in values.dtype.names], axis=-1) if values.dtype.names else values


def volumes_of(image: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the volumes of a NIfTI image, shape (n, x, y, z[, 3]), and its affine, both closest to RAS."""
    import nibabel

    image = nibabel.as_closest_canonical(image)
    values = values_of(image)
    end = values.shape[-1:] if image.get_data_dtype().names else ()
    return np.moveaxis(values.reshape(*values.shape[:3], -1, *end), 3, 0), image.affine


def corner_distance(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> float:
    """Return by how many mm the corners of a grid differ under two affines."""
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij")).reshape(3, -1)
    difference = np.asarray(first, float) - np.asarray(second, float)
    return float(np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max())


# -- comparing


def same(first: np.ndarray, second: np.ndarray, step: float = 0.0) -> bool:
    """Say whether all values are equal, but for slopes of 32 bits and a step where pixels were compressed with loss."""
    if first.shape != second.shape:
        return False
    if not step and first.dtype.kind in "iu" and second.dtype.kind in "iu":
        return bool((first == second).all())
    few = (first.reshape(-1)[::_APART].astype(float), second.reshape(-1)[::_APART].astype(float))
    if first.size > _APART and not same(*few, step + float(np.abs(second).max()) * _RELATIVE):
        return False
    first, second = first.astype(float), second.astype(float)
    room = step + float(np.abs(second).max(initial=0)) * _RELATIVE
    return bool(np.allclose(first, second, rtol=0, atol=room, equal_nan=True))


def matched(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], taken: set[int], step: float = 0.0) -> list[int]:
    """Return which of our arrays each of theirs is, -1 where none is; each of ours is taken once."""
    found: list[int] = []
    for values in theirs:
        likely = range(found[-1] + 1 if found else 0, len(ours))  # most often the next one
        free = (i for i in (*likely, *range(len(ours))) if i not in taken and same(ours[i], values, step))
        found.append(next(free, -1))
        taken.add(found[-1])
    return found


# -- PS3.3 C.7.6.2, by pydicom


def true_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of a file in order."""
    ds = opened(path)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if ds.original_encoding[0] else ExplicitVRLittleEndian
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        _swap_palettes(ds)
    values = ds.pixel_array
    count = int(ds.get("NumberOfFrames", 1) or 1)
    for number, stored in enumerate(values if count > 1 else [values]):
        groups = _groups_of(ds, number)
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, ds)
        item = next((group for group in groups if "RescaleSlope" in group), ds)
        real = apply_modality_lut(stored, item)
        corners = _corners(groups, *stored.shape[:2])
        if corners is not None and "GridFrameOffsetVector" in ds and count > 1:  # C.8.8.3.2, offsets from the first
            x, y = np.reshape(np.array(ds.ImageOrientationPatient, float), (2, 3))
            corners = corners + np.cross(x, y) * float(ds.GridFrameOffsetVector[number])
        yield Frame(np.asarray(real), corners)


def _swap_palettes(ds: Dataset) -> None:
    """Turn the palettes of a big-endian file into little endian, as which pydicom takes them."""
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTableData"
        if keyword in ds:
            ds[keyword].value = np.frombuffer(ds[keyword].value, ">u2").astype("<u2").tobytes()


def _groups_of(ds: Dataset, number: int) -> list[Dataset]:
    """Return the dataset and its functional groups for a frame, those of the frame first."""
    found = []
    for keyword, index in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        for item in list(ds.get(keyword, []))[index : index + 1]:
            found += [element.value[0] for element in item if element.VR == "SQ" and element.value]
    return [*found, ds]


def _corners(groups: Sequence[Dataset], rows: int, columns: int) -> np.ndarray | None:
    """Return the centres of the pixels (0, 0), (0, last column) and (last row, 0), by equation C.7.6.2.1-1."""
    position, orientation, spacing = (
        next((group.get(name) for group in groups if group.get(name)), None)
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    if position is None or orientation is None or spacing is None:
        return None
    s, x, y = (np.array(part, float) for part in (position, orientation[:3], orientation[3:]))
    between_rows, between_columns = map(float, spacing)
    return np.array([s, s + x * between_columns * (columns - 1), s + y * between_rows * (rows - 1)])


def our_frames(da: xr.DataArray) -> Iterator[Frame]:
    """Yield the frames of an array with the places that its coordinates give them."""
    end = [name for name in ("row", "column", "sample") if name in da.dims]
    flat = da.stack(every=[dim for dim in da.dims if dim not in end]) if da.ndim > len(end) else da.expand_dims("every")
    flat = flat.transpose("every", *end)
    values = flat.values
    for number in range(flat.sizes["every"]):
        frame = flat.isel(every=number)
        if "ImagePositionPatient_x" not in da.coords:
            yield Frame(values[number], None)
            continue
        s, x, y = (
            np.array([float(frame[f"{name}_{axis}"]) for axis in _AXES])
            for name in ("ImagePositionPatient", "row_direction", "column_direction")
        )
        far_row, far_column = (float(frame[f"{dim}_spacing"]) * (frame.sizes[dim] - 1) for dim in ("row", "column"))
        yield Frame(values[number], np.array([s, s + x * far_column, s + y * far_row]))


def assert_same_frames(ours: Sequence[Frame], truth: Sequence[Frame], step: float = 0.0) -> None:
    """Each true frame is one of ours, with equal values and corners within a micrometre, and there are no more."""
    assert len(ours) == len(truth)
    left = list(ours)
    for frame in truth:
        near = (
            i
            for i, each in enumerate(left)
            if _close(each.corners, frame.corners) and same(each.values, frame.values, step)
        )
        index = next(near, None)
        assert index is not None, f"no frame at {frame.corners}"
        del left[index]


def _close(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.allclose(first, second, rtol=0, atol=1e-3))
