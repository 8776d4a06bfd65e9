"""Objects of every kind in a folder (S16): reports, broken files, images without geometry, enhanced files, none."""

import numpy as np
import pytest
from factories import (
    OBLIQUE,
    make_enhanced,
    make_image,
    make_presentation_state,
    make_report,
    make_series,
    make_structure_set,
    uid,
)

import xdicom as xd
from xdicom.errors import (
    CatalogError,
    PixelError,
    XdicomError,
)

pytestmark = pytest.mark.usefixtures("collected")


def test_objects_without_pixels(tmp_path):
    """Reports and the like are browsable; asking for their pixels says what they are."""
    make_report(tmp_path / "sr.dcm", SeriesInstanceUID=uid("sr"))
    make_presentation_state(tmp_path / "pr.dcm", SeriesInstanceUID=uid("pr"))
    make_structure_set(tmp_path / "rt.dcm", SeriesInstanceUID=uid("rt"))
    database = xd.database(tmp_path)
    assert sorted(database.Modality) == ["PR", "RTSTRUCT", "SR"]
    kinds = {"SR": "Basic Text SR", "PR": "Grayscale Softcopy Presentation State", "RTSTRUCT": "RT Structure Set"}
    for series in database.series():
        for ask in (series.ndarray, series.to_xarray):
            with pytest.raises(PixelError, match=kinds[series.Modality.item()]):
                ask()


def test_reports_beside_images(tmp_path):
    """A report in the folder or series of images does not keep these from being read."""
    made = make_series(tmp_path, slices=2)
    make_report(tmp_path / "sr.dcm", SeriesInstanceUID=uid("series", "a"))
    database = xd.database(tmp_path)
    assert len(database.series()) == 1
    assert np.array_equal(database.series()[0].ndarray(), made.stored.transpose(2, 1, 0))


def test_broken_and_foreign_files(tmp_path):
    """Broken files are listed, foreign ones counted, and the good ones are there."""
    made = make_series(tmp_path, slices=2)
    (tmp_path / "broken.dcm").write_bytes(made.files[0].read_bytes()[:500])
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    database = xd.database(tmp_path)
    assert len(database.frames()) == 2
    assert [problem.path for problem in database.problems()] == ["broken.dcm"]
    assert "(2 not DICOM, 1 broken: see problems())" in repr(database)


def test_images_without_geometry(tmp_path):
    """Where there is no geometry, affine says so and the dim is "frame"."""
    make_image(tmp_path / "a.dcm", np.ones((4, 5), "u1"))
    series = xd.database(tmp_path).series()[0]
    assert series.to_xarray().dims == ("frame", "row", "column")
    with pytest.raises(XdicomError):
        series.affine  # noqa: B018 - reading it is the point


def test_enhanced_files_read_like_classic_ones(tmp_path):
    """Tags of functional groups are columns, and dims."""
    made = make_enhanced(tmp_path / "e.dcm", dims={"EffectiveEchoTime": [5.0, 10.0]})
    series = xd.database(tmp_path).series()[0]
    assert (series.EchoTime, series.FlipAngle) == ([5, 10], 12)
    found = series.ndarray(dims=("SliceLocation", "EchoTime"))
    assert np.array_equal(found, made.values.transpose(3, 2, 1, 0))
    assert np.allclose(series.affine, OBLIQUE.affine())


def test_folders(tmp_path):
    """A folder that is not there, or is a file, raises; an empty one is an empty database."""
    with pytest.raises(CatalogError, match="no folder"):
        xd.database(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CatalogError, match="no folder"):
        xd.database(tmp_path / "file")
    database = xd.database(tmp_path)
    assert database.patients() == []
    assert "no DICOM here" in repr(database)
