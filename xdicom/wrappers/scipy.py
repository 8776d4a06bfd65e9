"""Functions of scipy.ndimage on series: each takes a series and returns a new one in the same study.

What scipy calls input is the series. Lengths are in mm in the patient, not in pixels, so that voxels need not be cubes.
`axes` names the dims that a function works along, "slice", "row" and "column" by default; each frame or volume along
other dims is worked on alone. `dims` says how the frames of the series are arranged, as in `Series.to_xarray`, where
that is not plain. Further keywords are tags of the new series, and `range=(low, high)` clips its values.

A new series is derived from its source: it has the source's tags, refers to its images, and is staged until it is
saved. Arrays are computed block by block, on the active dask scheduler, with progress on a terminal.
"""

from ..wrappers.filters import gaussian_filter, laplace, median_filter, sobel, uniform_filter
from ..wrappers.mapping import map_mask_to, map_to, rotate, shift, zoom
from ..wrappers.masks import (
    binary_closing,
    binary_dilation,
    binary_erosion,
    binary_fill_holes,
    binary_opening,
    distance_transform_edt,
    label,
)

__all__ = [
    "binary_closing",
    "binary_dilation",
    "binary_erosion",
    "binary_fill_holes",
    "binary_opening",
    "distance_transform_edt",
    "gaussian_filter",
    "label",
    "laplace",
    "map_mask_to",
    "map_to",
    "median_filter",
    "rotate",
    "shift",
    "sobel",
    "uniform_filter",
    "zoom",
]
