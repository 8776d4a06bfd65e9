"""A digital head: tissues in the patient's space, and what a spoiled gradient echo in oblique slices sees of them.

Arrays only: `demo` makes DICOM of them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .relaxation import FloatArray, spoiled_echo

_GAIN = 24_000  # stored units for M0 = 1, so that 12 bits suffice
_FIELD = (192.0, 240.0, 60.0)  # mm along columns, rows, slices
_TILT, _TURN = 18.0, 7.0  # degrees about the axes from right to left and from feet to head


class Tissue(NamedTuple):
    """What a voxel is made of: T1 in ms at 3 T (literature, rounded) and M0 as a share of that of water."""

    name: str
    t1: float
    m0: float


class _Ellipsoid(NamedTuple):
    """A part of the head: centre and semi-axes in LPS mm; later ones lie over earlier ones."""

    tissue: int
    centre: tuple[float, float, float]
    axes: tuple[float, float, float]


TISSUES = (
    Tissue("fat", 380, 0.90),
    Tissue("white matter", 850, 0.70),
    Tissue("grey matter", 1350, 0.82),
    Tissue("lesion", 1900, 0.88),
    Tissue("CSF", 4000, 1.00),
)
_FAT, _WHITE, _GREY, _LESION, _CSF, _NOTHING = 1, 2, 3, 4, 5, 0
_HEAD = (
    _Ellipsoid(_FAT, (0, 0, 0), (80, 102, 92)),
    _Ellipsoid(_NOTHING, (0, 0, 0), (74, 96, 86)),  # skull
    _Ellipsoid(_CSF, (0, 0, 0), (69, 91, 81)),
    _Ellipsoid(_GREY, (0, 0, 0), (65, 87, 77)),
    _Ellipsoid(_WHITE, (0, 0, 0), (55, 77, 67)),
    _Ellipsoid(_CSF, (13, -4, 6), (8, 32, 18)),
    _Ellipsoid(_CSF, (-13, -4, 6), (8, 32, 18)),
    _Ellipsoid(_GREY, (31, 4, 0), (9, 20, 14)),
    _Ellipsoid(_GREY, (-31, 4, 0), (9, 20, 14)),
    _Ellipsoid(_LESION, (34, -42, 4), (12, 15, 16)),  # left and in front, so that a flip would show
)


@dataclass(frozen=True)
class Phantom:
    """A head and how it is scanned.

    Attributes
    ----------
    columns, rows, slices
        Size of the images, whatever it is the field of view is 192 x 240 x 60 mm.
    flip_angles
        In degrees.
    repetition_time, echo_time
        In ms.
    noise
        Standard deviation in the real and the imaginary channel, in stored units; white matter has about 1600.
    """

    columns: int = 96
    rows: int = 128
    slices: int = 12
    flip_angles: tuple[float, ...] = (2.0, 4.0, 7.0, 11.0, 16.0, 22.0)
    repetition_time: float = 15.0
    echo_time: float = 2.3
    noise: float = 25.0

    @property
    def affine(self) -> FloatArray:
        """4 x 4, from (column, row, slice) index to LPS mm: double oblique about the middle of the head."""
        spacing = np.divide(_FIELD, (self.columns, self.rows, self.slices))
        steps = _rotation(_TURN, 2) @ _rotation(_TILT, 0) * spacing
        middle = (np.array([self.columns, self.rows, self.slices]) - 1) / 2
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = steps, -steps @ middle
        return affine

    def labels(self, affine: ArrayLike | None = None) -> NDArray[np.uint8]:
        """Return what each voxel is made of: 0 for nothing, n for the n-th tissue.

        Parameters
        ----------
        affine
            Where the voxels are; by default `self.affine`.

        Returns
        -------
        ndarray
            Shape (slices, rows, columns).
        """
        matrix = self.affine if affine is None else np.asarray(affine, np.float64)
        slices, rows, columns = np.indices((self.slices, self.rows, self.columns)).astype(np.float64)
        place = np.stack([columns, rows, slices], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
        labels = np.zeros(place.shape[:-1], np.uint8)
        for part in _HEAD:
            inside = (((place - part.centre) / part.axes) ** 2).sum(axis=-1) < 1
            labels[inside] = part.tissue
        return labels

    def t1(self, affine: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return the true T1 in ms, shape (slices, rows, columns), NaN where there is no tissue; see `labels`."""
        return _by_tissue([np.nan, *(tissue.t1 for tissue in TISSUES)])[self.labels(affine)]

    def image(self, flip_angle: float) -> NDArray[np.uint16]:
        """Return the magnitude images of a spoiled gradient echo with noise, shape (slices, rows, columns).

        Parameters
        ----------
        flip_angle
            In degrees. Of one angle the noise is always the same.
        """
        seen = [
            spoiled_echo(tissue.m0 * _GAIN, tissue.t1, repetition_time=self.repetition_time, flip_angle=flip_angle)
            for tissue in TISSUES
        ]
        signal = _by_tissue([0.0, *map(float, seen)])[self.labels()]
        random = np.random.default_rng([int(1000 * flip_angle)])
        real, imaginary = random.normal(scale=self.noise, size=(2, *signal.shape))
        magnitude: NDArray[np.uint16] = np.rint(np.hypot(signal + real, imaginary)).astype(np.uint16)
        return magnitude


def _by_tissue(values: list[float]) -> NDArray[Any]:
    return np.array(values, np.float32)


def _rotation(degrees: float, axis: int) -> FloatArray:
    """Return the 3 x 3 rotation about an axis."""
    angle = np.deg2rad(degrees)
    i, j = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    matrix[[i, j], [i, j]] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix
