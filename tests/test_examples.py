"""The scripts in examples/: each runs in an empty folder, and leaves what it says."""

import ast
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

import xdicom as xd

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
MADE = {
    "anonymise_folder": ["clean", "scans"],
    "edit_and_restore": ["scans"],
    "five_dimensions": ["five.png", "scans"],
    "from_numpy": ["ball.png", "shapes"],
    "open_series": ["scans", "series.png"],
    "overlay_mask": ["labels.png", "mapped.png"],
    "t1_on_cluster": ["results", "scans"],
    "to_zarr": ["again", "dynamic.zarr", "scans"],
}


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example in a folder, as a program."""
    path = str(REPOSITORY / "examples" / f"{name}.py")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [path])
    runpy.run_path(path, run_name="__main__")


def test_all_examples_are_known() -> None:
    """Each is in the table above."""
    assert [path.stem for path in EXAMPLES] == sorted(MADE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    """20 to 40 lines, the first of which says what it is about."""
    text = path.read_text(encoding="utf-8")
    assert 20 <= len(text.splitlines()) <= 40
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_in_the_documentation(path: Path) -> None:
    """Each is shown in docs/examples.md."""
    assert f"../examples/{path.name}" in (REPOSITORY / "docs" / "examples.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MADE))
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments and without warnings, and leave nothing but what they mean to."""
    run(name, tmp_path, monkeypatch)
    left = {path.name for path in tmp_path.iterdir()} - {"dask-worker-space", "dask-scratch-space"}
    assert sorted(left) == MADE[name]


@pytest.mark.slow
def test_edits_are_saved_and_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was restored is as it was, the rest as it was set."""
    run("edit_and_restore", tmp_path, monkeypatch)
    series = xd.database(tmp_path / "scans").series()[0]
    assert (series.EchoTime, series.SeriesDescription, series.PatientName) == (4.6, "T1 axial", "Roe^Ann")
    assert series.to_xarray().max() == 2 * (3 * 16 * 16 - 1)


@pytest.mark.slow
def test_t1_is_near_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map that workers fitted has the phantom's T1 where tissue is."""
    from xdicom.phantom import TISSUES, Phantom

    run("t1_on_cluster", tmp_path, monkeypatch)
    (series,) = xd.database(tmp_path / "results").series()
    phantom = Phantom(columns=48, rows=64, slices=6, flip_angles=(3.0, 8.0, 15.0))
    found, labels = series.to_xarray(("slice_location",)).values, phantom.labels(series.affine)
    for label, tissue in enumerate(TISSUES, 1):
        values = found[labels == label]
        if values.size > 100 and tissue.t1 < 2000:
            assert np.nanmedian(values) == pytest.approx(tissue.t1, rel=0.1), tissue.name


@pytest.mark.slow
def test_no_name_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the anonymised files nor in their names; in the originals it is."""
    run("anonymise_folder", tmp_path, monkeypatch)
    for folder, is_there in (("scans", True), ("clean", False)):
        files = [path for path in (tmp_path / folder).rglob("*.dcm") if ".xdicom" not in path.parts]
        texts = [str(path.relative_to(tmp_path)).encode() + path.read_bytes() for path in files]
        assert len(files) == 3
        assert all((b"Stradivari" in text or b"Amati" in text) == is_there for text in texts)
