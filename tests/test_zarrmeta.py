"""Facts about Zarr stores of unknown origin: what is believed of them, and what is refused before they are opened."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xdicom.errors import BrokenFileError
from xdicom.zarrmeta import check_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of one array with text beside it."""
    coords = {"name": ("slice", ["a", "b"]), "note": ("slice", np.array(["x", "yy"], object))}
    dims = ("slice", "row", "column")
    dataset = xr.Dataset({"pixels": (dims, np.zeros((2, 3, 4)))}, coords)
    dataset.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    return tmp_path / "a.zarr"


def change(path: Path, **values: object) -> None:
    """Change the metadata of a node; None removes an entry."""
    metadata = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in metadata.items() if value is not None}))


def test_stores_of_xarray_are_believed(store):
    """What xarray writes today is fine: groups and the names of their arrays are returned."""
    assert check_store(store) == {"/": ["name", "note", "pixels"]}


def test_groups_are_listed(tmp_path):
    """Groups in groups have paths."""
    tree = xr.DataTree.from_dict({"/a": xr.Dataset({"x": ("t", [1])}), "/a/b c": xr.Dataset({"y": ("t", [1])})})
    tree.to_zarr(tmp_path / "t.zarr", zarr_format=3, consolidated=False)
    assert check_store(tmp_path / "t.zarr") == {"/": [], "/a": ["x"], "/a/b c": ["y"]}


@pytest.mark.parametrize("codec", ["zstd", "gzip", "blosc", "crc32c"])
def test_usual_codecs_are_believed(tmp_path, codec):
    """Compressors that hold no code are fine, sharding with them inside too."""
    import zarr.codecs

    kinds = {
        "zstd": zarr.codecs.ZstdCodec(),
        "gzip": zarr.codecs.GzipCodec(),
        "blosc": zarr.codecs.BloscCodec(typesize=8),
        "crc32c": zarr.codecs.Crc32cCodec(),
    }
    encoding = {"pixels": {"compressors": [kinds[codec]], "chunks": (1, 4), "shards": (2, 4)}}
    dataset = xr.Dataset({"pixels": (("row", "column"), np.zeros((2, 4)))})
    dataset.to_zarr(tmp_path / "c.zarr", zarr_format=3, consolidated=False, encoding=encoding)
    check_store(tmp_path / "c.zarr")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "codec"),
        ({"codecs": [{"name": "vlen-utf8"}, {"name": "my.code"}]}, "my.code"),
        ({"codecs": []}, "codecs"),
        ({"codecs": "bytes"}, "codecs"),
        ({"codecs": [7]}, "codec"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "evil"}]}}]}, "evil"),
        ({"codecs": [{"name": "sharding_indexed"}]}, "codecs"),
        ({"data_type": "object"}, "object"),
        ({"data_type": {"name": "structured"}}, "structured"),
        ({"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": -4}}}, "utf32"),
        ({"data_type": None}, "None"),
        ({"shape": [2, -1, 4]}, "shape"),
        ({"shape": [2.5]}, "shape"),
        ({"shape": [1] * 40}, "shape"),
        ({"shape": None}, "shape"),
        ({"chunk_grid": {"name": "rectilinear"}}, "chunk grid"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}}}, "chunk grid"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**20, 2**20, 1]}}}, "too large"),
        ({"storage_transformers": [{"name": "x"}]}, "transformers"),
        ({"attributes": []}, "attributes"),
        ({"zarr_format": 2}, "version 3"),
        ({"node_type": "thing"}, "version 3"),
    ],
)
def test_what_is_not_known_is_refused(store, values, reason):
    """A codec, type, shape, grid or format that is not on the list is named."""
    change(store / "pixels" / "zarr.json", **values)
    with pytest.raises(BrokenFileError, match=reason):
        check_store(store)


def test_coordinates_that_would_fill_memory_are_refused(store):
    """A coordinate is read as a whole, so that its size is limited; an image is read chunk by chunk."""
    change(store / "pixels" / "zarr.json", shape=[2**30, 3, 4])
    check_store(store)
    change(store / "name" / "zarr.json", shape=[2**30])
    with pytest.raises(BrokenFileError, match="coordinate"):
        check_store(store)


@pytest.mark.parametrize("content", ["", "junk", "[]", "[" * 100000, "7", "null"])
def test_junk_is_refused(store, content):
    """Metadata that is no JSON object is told."""
    (store / "name" / "zarr.json").write_text(content)
    with pytest.raises(BrokenFileError, match=r"zarr\.json"):
        check_store(store)


@pytest.mark.parametrize("name", [".zarray", ".zgroup", ".zattrs", ".zmetadata"])
def test_version_2_is_refused(store, name):
    """Metadata of version 2, in which codecs may be pickles, is refused wherever it lies."""
    (store / "pixels" / name).write_text("{}")
    with pytest.raises(BrokenFileError, match="version 2"):
        check_store(store)


def test_links_are_refused(store, tmp_path):
    """A link would have other files of the user read as pixels."""
    (tmp_path / "secret").write_bytes(b"x")
    (store / "pixels" / "c" / "9").symlink_to(tmp_path / "secret")
    with pytest.raises(BrokenFileError, match="link"):
        check_store(store)


def test_fifos_are_refused(store):
    """What would block for ever is not opened."""
    os.mkfifo(store / "pixels" / "c" / "9")
    with pytest.raises(BrokenFileError, match="no file"):
        check_store(store)


def test_other_places_are_refused(tmp_path):
    """A folder without metadata, a file and nothing are no stores."""
    (tmp_path / "file").write_text("x")
    for name in ("", "file", "absent"):
        with pytest.raises(BrokenFileError, match="no Zarr store"):
            check_store(tmp_path / name)
