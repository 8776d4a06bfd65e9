"""A folder on which every example of the user guide works: real images, resampled, in slices by flip angles."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import xdicom as xd

ROWS, COLUMNS = 128, 192
FLIP_ANGLES = (5.0, 15.0, 20.0)
PHASE_ANGLE = 15.0
SLICES = 4


def resampled(image: np.ndarray, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Return an image of shape (x, y) with another number of columns and rows, nearest neighbours."""
    x = np.arange(columns) * image.shape[0] // columns
    y = np.arange(rows) * image.shape[1] // rows
    return image[np.ix_(x, y)]


def prepared(folder: Path, sources: Sequence[Path]) -> xd.Series:
    """Fill a folder with one series made of real images, saved; return it.

    Its frames fill a grid of SLICES slices and three flip angles; RepetitionTime is 5; those of PHASE_ANGLE are PHASE,
    the others MAGNITUDE.
    """
    folder.mkdir()
    for path in sources:
        shutil.copyfile(path, folder / path.name)
    db = xd.database(folder)
    series = db.series()[0]
    for other in db.series()[1:]:
        other.remove()
    first = resampled(series.ndarray()[..., 0]).astype(np.int16)
    places = series.slice_location[0] + 4.0 * np.arange(SLICES)
    values = first[..., None, None] + np.arange(SLICES)[:, None] * 7 + np.arange(3) * 11
    series.SliceLocation = series.slice_location[0]
    series.FlipAngle = FLIP_ANGLES[0]
    series.set_ndarray(values, dims=("SliceLocation", "FlipAngle"), coords=(places, FLIP_ANGLES))
    series.RepetitionTime = 5
    series.SeriesDescription = "guide"
    magnitude = series.subseries(FlipAngle=[angle for angle in FLIP_ANGLES if angle != PHASE_ANGLE])
    phase = series.subseries(FlipAngle=PHASE_ANGLE)
    magnitude.image_type, phase.image_type = "MAGNITUDE", "PHASE"
    mixed = xd.merge([magnitude, phase], SeriesDescription="guide")
    for each in (series, magnitude, phase):
        each.remove()
    db.save()
    return mixed
