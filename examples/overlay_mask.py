"""Draw a mask over images, also one that was drawn on another series with other slices."""

import numpy as np

import xdicom as xd
from xdicom.wrappers import scipy


def head(heights: np.ndarray) -> np.ndarray:
    """Return slices of an ellipsoid at some heights in mm: shape (slices, columns, rows)."""
    z, x, y = np.meshgrid(heights, np.arange(-96, 96, 4), np.arange(-128, 128, 4), indexing="ij")
    return 800.0 * ((x / 80) ** 2 + (y / 112) ** 2 + (z / 48) ** 2 < 1)


# Two scans of one patient: 12 thin slices from -44 mm on, and 4 thick ones from -40 mm on, which lie between those.
affine = np.array([[4.0, 0, 0, -96], [0, 4, 0, -128], [0, 0, 8, -44], [0, 0, 0, 1]])
fine = xd.as_series(head(np.arange(-44, 48, 8)), affine=affine, FrameOfReferenceUID="2.25.7")
affine[2, 2:] = 24, -40
coarse = xd.as_series(head(np.arange(-40, 48, 24)), affine=affine, FrameOfReferenceUID="2.25.7")

# A mask is a series like others: here of what is bright, less its rim.
mask = fine.new_sibling(SeriesDescription="brain")
mask.set_xarray(xd.apply(np.sqrt, fine).to_xarray() > 20)
labels = fine.new_sibling(SeriesDescription="left and right")
da = fine.to_xarray()
labels.set_xarray((da > 0) * (1 + (da.column > da.column.mean())))

# On the same grid a mask is laid over the images; on another one this raises and says what to do.
fine.plot(overlay=labels, limit=6).savefig("labels.png")
try:
    coarse.plot(overlay=mask)
except xd.errors.GeometryError as error:
    print(error)

# So it is brought onto the grid of the other series first.
there = scipy.map_mask_to(mask, coarse)
coarse.plot(overlay=there).savefig("mapped.png")
print(int(there.ndarray().sum()), "voxels inside")
