"""Headers for arrays that come from nowhere: a minimal synthetic MR Image for every slice.

It makes no files and stages nothing; values are plain Python, by tag, until `encoded`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from .errors import EditError, GeometryError
from .naming import new_uid
from .tags import UTF8, as_tag, concrete_vr, encode

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_KINDS = {"mrimage": MR_IMAGE, "mri": MR_IMAGE, "mr": MR_IMAGE}

_CHARSET, _SOP_INSTANCE, _INSTANCE_NUMBER = 0x00080005, 0x00080018, 0x00200013
_STUDY, _SERIES, _FRAME_OF_REFERENCE = 0x0020000D, 0x0020000E, 0x00200052
_THICKNESS, _STEP, _POSITION, _ORIENTATION = 0x00180050, 0x00180088, 0x00200032, 0x00200037
_SLICE_LOCATION, _SPACING = 0x00201041, 0x00280030
_TEMPORAL, _TEMPORAL_COUNT = 0x00200100, 0x00200105

_AXES = {
    "column": ("column", "columns", "x"),
    "row": ("row", "rows", "y"),
    "slice": ("slice", "slices", "z", "n", "frame"),
    "sample": ("sample", "samples", "rgb", "channel"),
    "TemporalPositionIdentifier": ("t", "time"),
}
_ALIASES = {alias: name for name, aliases in _AXES.items() for alias in aliases}
_DEFAULT_DIMS = {
    2: ("column", "row"),
    3: ("slice", "column", "row"),
    4: ("TemporalPositionIdentifier", "slice", "column", "row"),
}

# PS3.3 A.4.3: what an MR Image must have (type 1 with a value, type 2 empty).
_MINIMAL: dict[int, object] = {
    _CHARSET: UTF8,
    0x00080008: ("DERIVED", "SECONDARY", "OTHER"),
    0x00080016: MR_IMAGE,
    0x00080020: "",
    0x00080030: "",
    0x00080050: "",
    0x00080060: "MR",
    0x00080070: "",
    0x00080090: "",
    0x00100010: "",
    0x00100020: "",
    0x00100030: "",
    0x00100040: "",
    0x00180020: "RM",
    0x00180021: "NONE",
    0x00180022: "",
    0x00180023: "",
    0x00180080: "",
    0x00180081: "",
    0x00180091: "",
    0x00185100: "HFS",
    0x00200010: "1",
    0x00200011: "",
    0x00200012: "",
    0x00200060: "",
    0x00201040: "",
}


def sop_class(name: str) -> str:
    """Return the SOP class UID of a kind of image, "MRImage" or "mri".

    Raises
    ------
    EditError
        For any other: only for MR images there is a synthetic header.
    """
    try:
        return _KINDS[name.lower()]
    except KeyError:
        raise EditError(f"dtype={name!r} is no kind of image that can be made: expected 'MRImage' or 'mri'") from None


def dims_of(ndim: int, dims: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of an array's axes: "slice", "row", "column", "sample", and keywords for all others.

    Parameters
    ----------
    ndim
        Number of axes.
    dims
        Their names in order; "x", "y" and "z" stand for column, row and slice. Without, they are (columns, rows),
        (slices, columns, rows) or (times, slices, columns, rows).

    Raises
    ------
    EditError
        If the names don't fit the axes.
    """
    if dims is None:
        if ndim not in _DEFAULT_DIMS:
            raise EditError(
                f"an array with {ndim} axes can't be told from its shape: name them, "
                "such as dims=('EchoTime', 'slice', 'row', 'column')"
            )
        return _DEFAULT_DIMS[ndim]
    names = tuple(_ALIASES.get(name, name) for name in dims)
    if len(names) != ndim or len(set(names)) != ndim or not {"row", "column"} <= set(names):
        raise EditError(
            f"dims={tuple(dims)} don't name the {ndim} axes of the array: "
            "expected one name each, 'row' and 'column' among them"
        )
    return names


def slices_of(array: Any, dims: Sequence[str] | None = None) -> Any:
    """Return a view of an array in the order (..., slice, row, column[, sample]).

    Parameters
    ----------
    array
        numpy or dask.
    dims
        Names of its axes, see `dims_of`.

    Returns
    -------
    array
        Of the same kind, not copied; other axes come first, in their order. A slice axis of length 1 is added where
        there is none.
    """
    array = array if hasattr(array, "transpose") else np.asarray(array)
    names = dims_of(array.ndim, dims)
    order = [*leading_dims(array.ndim, dims), "row", "column", *(["sample"] if "sample" in names else [])]
    if "slice" not in names:
        array, names = array[None], ("slice", *names)
    return array.transpose([names.index(name) for name in order])


def leading_dims(ndim: int, dims: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the axes before row and column in what `slices_of` returns, "slice" as the last."""
    names = dims_of(ndim, dims)
    return *(name for name in names if name not in ("slice", "row", "column", "sample")), "slice"


def synthetic_header(values: Mapping[int, object] | None = None) -> dict[int, object]:
    """Return the values by tag that all images of a new MR series share; pixels and geometry are not among them.

    Parameters
    ----------
    values
        Laid over, such as those of patient and study; None removes an element.
    """
    header = _MINIMAL | {tag: new_uid() for tag in (_STUDY, _SERIES, _FRAME_OF_REFERENCE)}
    header[0x00200011] = 1
    return _laid_over(header, values or {})


def slice_geometry(
    count: int, *, spacing: float | Sequence[float] | None = None, affine: npt.ArrayLike | None = None
) -> list[dict[int, object]]:
    """Return the geometry of each slice, values by tag.

    Parameters
    ----------
    count
        Number of slices.
    spacing
        In mm, one number or (column step, row step, slice step): axial slices from the origin on.
    affine
        4 x 4, from indices in the order (column, row, slice) to patient coordinates (LPS, mm) of a pixel's centre.
        The slice step may be oblique to the slices. Without spacing and affine, steps are 1 mm.

    Raises
    ------
    GeometryError
        If both are given, or they are no geometry that DICOM can hold.
    """
    matrix = _affine(spacing, affine)
    steps, origin = matrix[:3, :3], matrix[:3, 3]
    lengths = np.linalg.norm(steps, axis=0)
    row_direction, column_direction = steps[:, 0] / lengths[0], steps[:, 1] / lengths[1]
    normal = np.cross(row_direction, column_direction)
    gap = float(abs(steps[:, 2] @ normal))
    shared: dict[int, object] = {
        _THICKNESS: gap,
        _STEP: gap,
        _ORIENTATION: tuple(map(float, (*row_direction, *column_direction))),
        _SPACING: (float(lengths[1]), float(lengths[0])),  # PS3.3 10.7.1.3: between rows, between columns
    }
    positions = [origin + index * steps[:, 2] for index in range(count)]
    return [
        shared | {_POSITION: tuple(map(float, position)), _SLICE_LOCATION: float(position @ normal)}
        for position in positions
    ]


def new_headers(
    shape: Sequence[int],
    *,
    dims: Sequence[str] = ("slice",),
    values: Mapping[int, object] | None = None,
    spacing: float | Sequence[float] | None = None,
    affine: npt.ArrayLike | None = None,
    coords: Sequence[Mapping[int, object]] | None = None,
) -> Iterator[dict[int, object]]:
    """Give the header of every image of a new series, values by tag, in the order of the array.

    Parameters
    ----------
    shape
        Lengths of the axes before row and column in what `slices_of` returns.
    dims
        Their names (`leading_dims`); those other than slice are tags, which count from 1 where `coords` doesn't say.
    values
        Of all images, see `synthetic_header`.
    spacing, affine
        See `slice_geometry`.
    coords
        Values by tag laid over, one mapping an image; None removes an element.

    Raises
    ------
    EditError
        If the lengths don't fit.
    GeometryError, UnknownTagError
        If spacing or affine is no geometry, or a dim is no tag.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if len(shape) != len(dims) or tuple(dims)[-1:] != ("slice",):
        raise EditError(f"dims={tuple(dims)} don't name the axes of shape {tuple(shape)}, slice as the last")
    if coords is not None and len(coords) != count:
        raise EditError(f"{len(coords)} sets of coordinates for {count} images: expected one each")
    header = synthetic_header(values)
    geometry = slice_geometry(shape[-1], spacing=spacing, affine=affine)
    counted = [as_tag(name) for name in dims[:-1]]
    if _TEMPORAL in counted:
        header.setdefault(_TEMPORAL_COUNT, shape[counted.index(_TEMPORAL)])
    for number, index in enumerate(itertools.product(*map(range, shape))):
        image = header | geometry[index[-1]] | {tag: i + 1 for tag, i in zip(counted, index, strict=False)}
        image |= {_SOP_INSTANCE: new_uid(), _INSTANCE_NUMBER: number + 1}
        yield _laid_over(image, coords[number] if coords is not None else {})


def encoded(values: Mapping[int, object], *, signed: bool = False) -> dict[int, tuple[str, bytes]]:
    """Return VR and raw little-endian value by tag, sorted.

    Parameters
    ----------
    values
        Plain Python values by tag; None leaves an element out.
    signed
        Whether PixelRepresentation is 1.

    Raises
    ------
    TagValueError
        If the VR of an element can't hold its value.
    """
    charset = str(values.get(_CHARSET) or "")
    result = {}
    for tag, value in sorted(values.items()):
        if value is not None:
            creator = str(values.get(tag >> 16 << 16 | tag >> 8 & 0xFF) or "") if tag >> 16 & 1 else ""
            vr = concrete_vr(tag, creator=creator, signed=signed)
            result[tag] = vr, encode(tag, vr, value, charset=charset, signed=signed, creator=creator)
    return result


def _laid_over(header: dict[int, object], values: Mapping[int, object]) -> dict[int, object]:
    return {tag: value for tag, value in (header | dict(values)).items() if value is not None}


def _affine(spacing: float | Sequence[float] | None, affine: npt.ArrayLike | None) -> NDArray[np.float64]:
    """Return a checked affine."""
    if affine is None:
        lengths = np.asarray(1.0 if spacing is None else spacing, dtype=np.float64)
        if lengths.shape not in ((), (3,)) or not (np.isfinite(lengths) & (lengths > 0)).all():
            raise GeometryError(f"spacing={spacing}: expected a number of mm, or (column step, row step, slice step)")
        return np.diag([*np.broadcast_to(lengths, 3), 1.0])
    if spacing is not None:
        raise GeometryError("spacing and affine are both given: expected one, since the affine holds the spacing")
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise GeometryError("affine is no 4 x 4 matrix of numbers with (0, 0, 0, 1) as its last row")
    steps = matrix[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    if not (lengths > 0).all() or abs(np.linalg.det(steps / lengths)) < 1e-6:
        raise GeometryError(f"affine is singular: its steps {steps.T.tolist()} don't span a volume")
    if abs(steps[:, 0] @ steps[:, 1]) > 1e-4 * lengths[0] * lengths[1]:
        raise GeometryError("rows and columns of the affine aren't at right angles, and DICOM can't hold that")
    return matrix
