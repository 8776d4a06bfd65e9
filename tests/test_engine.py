"""The engine as xarray finds it: its name, its options, and which files it takes for its own."""

import os
import shutil
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import factories
import numpy as np
import pytest
import xarray as xr
from conftest import REPOSITORY, corpus_files, corpus_id, write_metadata
from test_backend import opened
from xarray.backends.plugins import detect_parameters

from xdicom.backend import XdicomBackendEntrypoint


def guesses(path) -> bool:
    """Return whether the engine would open a path that nobody named it for."""
    return XdicomBackendEntrypoint().guess_can_open(path)


@pytest.fixture
def made(tmp_path: Path) -> factories.Series:
    """A folder with one series of 4 slices."""
    return factories.make_series(tmp_path / "scan", slices=4, slope=0.5, intercept=-3)


# -- the engine for xarray


def test_parameters_are_those_of_the_method():
    """A class given as the engine has the parameters that xarray would find by itself."""
    assert XdicomBackendEntrypoint.open_dataset_parameters == detect_parameters(XdicomBackendEntrypoint.open_dataset)


@pytest.mark.parametrize("path", corpus_files(), ids=corpus_id)
def test_guesses_files_that_say_so(path):
    """A file is guessed to be DICOM if, and only if, it says DICM behind its preamble."""
    assert guesses(path) == (path.read_bytes()[128:132] == b"DICM")


def test_guesses_folders_of_dicom(made, tmp_path):
    """A folder with DICOM among its first files is one, and one with .xdicom or a DICOMDIR."""
    assert guesses(made.folder)
    assert guesses(str(made.folder) + "/")
    several = tmp_path / "several"
    (several / "sub").mkdir(parents=True)
    assert not guesses(several / "sub")
    (several / "sub" / "DICOMDIR").touch()
    assert guesses(several / "sub")
    opened(made.folder)
    for file in made.files:
        file.unlink()
    assert guesses(made.folder)


def test_leaves_others_alone(tmp_path, made):
    """Zarr stores, other files and folders, FIFOs, addresses and what is no path are not guessed to be DICOM."""
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "a.zarr", consolidated=False)
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "store", consolidated=False)
    shutil.copy(made.files[0], tmp_path / "store" / "a.dcm")
    shutil.copytree(made.folder, tmp_path / "b.ZARR")
    (tmp_path / "short").write_bytes(b"DICM")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "pipe")
    names = ("a.zarr", "store", "b.ZARR", "short", "pipe", "pipes", "absent", "")
    assert not any(guesses(tmp_path / name) for name in names)
    assert not any(guesses(other) for other in (b"bytes", None, 3, "s3://bucket/a.dcm", "https://host/a.dcm"))


def test_xarray_opens_zarr_as_before(tmp_path):
    """With the engine installed, a zarr store is opened by zarr without naming an engine."""
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "a.zarr", consolidated=False)
    assert installed("xr.open_dataset('a.zarr', consolidated=False).a.values.tolist()", tmp_path) == "[1, 2]"


@pytest.mark.slow
def test_engine_has_its_name(made):
    """Installed, the engine is "xdicom": two lines open a folder, a guess opens a file, and it is listed."""
    assert installed("xr.open_dataset('scan', engine='xdicom').pixels.shape", made.folder.parent) == "(4, 6, 5)"
    name = os.path.relpath(made.files[0], made.folder.parent)
    assert installed(f"xr.open_dataset({name!r}).pixels.shape", made.folder.parent) == "(1, 6, 5)"
    assert "DICOM" in installed("xr.backends.list_engines()['xdicom'].description", made.folder.parent)
    assert installed("len(xr.open_datatree('scan', engine='xdicom').leaves)", made.folder.parent) == "1"


def installed(expression: str, folder: Path) -> str:
    """Return what an expression gives in a new process in a folder, where xdicom is as good as installed."""
    package = folder / "site-packages"
    package = package if package.exists() else write_metadata(package)
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", f"import xarray as xr; print({expression})"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_entry_point_leads_to_the_engine():
    """What pyproject.toml names is the class."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    ((name, value),) = project["entry-points"]["xarray.backends"].items()
    assert name == "xdicom"
    assert EntryPoint(name, value, "xarray.backends").load() is XdicomBackendEntrypoint


def test_opening_a_file_that_is_not_guessed(tmp_path):
    """A file without a preamble is opened when the engine is named."""
    made = factories.make_series(tmp_path, slices=1)
    made.files[0].write_bytes(made.files[0].read_bytes()[132:])
    assert not guesses(made.files[0])
    with warnings.catch_warnings():
        np.testing.assert_array_equal(opened(made.files[0]).pixels, made.values)
