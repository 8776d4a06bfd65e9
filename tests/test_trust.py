"""A catalog that is damaged, or that somebody else wrote: it is refused, and nothing of it is believed."""

import sqlite3
from pathlib import Path

import pytest
from factories import make_report, make_series

from xdicom.catalog import Catalog
from xdicom.errors import CatalogError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that was scanned."""
    make_series(tmp_path / "a", 4, {"EchoTime": [1, 20]}, name="a")
    make_report(tmp_path / "report.dcm")
    made = Catalog(tmp_path)
    made.rescan()
    made.close()
    return tmp_path


def read_all(catalog: Catalog) -> None:
    """Unpack every column of every series."""
    for key in list(catalog.keys()):
        frames = catalog.frames(key)
        assert frames is not None
        for tag in frames.tags():
            frames.unique(tag)


def test_absent_folder_is_told(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(CatalogError, match="is no folder"):
        Catalog(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"junk" * 300, b"SQLite format 3\0" + b"\1" * 500], ids=["junk", "half"])
def test_damaged_catalog_is_told_with_a_remedy(folder: Path, content: bytes) -> None:
    """What to delete is in the text."""
    (folder / ".xdicom" / "catalog.sqlite").write_bytes(content)
    with pytest.raises(CatalogError, match=r"catalog\.sqlite.*delete it"):
        Catalog(folder)


@pytest.mark.parametrize("where", [4096, 8192, 12288, 20480, 28672])
def test_damaged_pages_raise_no_other_error(folder: Path, where: int) -> None:
    """Junk in the middle is told as a catalog's damage, or does not matter."""
    path = folder / ".xdicom" / "catalog.sqlite"
    content = bytearray(path.read_bytes())
    content[where : where + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    try:
        made = Catalog(folder)
    except CatalogError:
        return
    try:
        made.rescan()
        read_all(made)
    except CatalogError as error:
        text = str(error)
        assert "damaged" in text or "delete it" in text
    finally:
        made.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON file BEGIN DELETE FROM series; END",
        "CREATE VIEW v AS SELECT * FROM file",
        "CREATE TABLE extra (x)",
        "CREATE INDEX i ON file (path)",
        "ALTER TABLE file RENAME COLUMN status TO state",
    ],
)
def test_foreign_schema_is_refused(folder: Path, statement: str) -> None:
    """Triggers, views and tables that we did not make are not run."""
    other = sqlite3.connect(folder / ".xdicom" / "catalog.sqlite")
    other.execute(statement)
    other.commit()
    other.close()
    with pytest.raises(CatalogError, match="delete it to have the folder scanned anew"):
        Catalog(folder)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE series SET file = x'3d00000000000000ffffffff7f'",
        "UPDATE series SET frames = 1000000000",
        "UPDATE series SET \"offset\" = 'text'",
        "UPDATE value SET raws = x'ffffffffffffffff'",
        "UPDATE value SET raws = x'0000000000000000'",
        "UPDATE value SET codes = x'6205050505050505'",
        "UPDATE value SET raws = 7",
        "DELETE FROM file WHERE status = 'ok'",
    ],
)
def test_foreign_content_is_told(folder: Path, statement: str) -> None:
    """Blobs that do not fit each other allocate nothing and give no wrong rows."""
    made = Catalog(folder)
    made.connection.execute(statement)
    with pytest.raises(CatalogError, match="damaged"):
        read_all(made)
    made.close()


def test_link_in_place_of_the_catalog_is_refused(folder: Path) -> None:
    """Nothing is written through a link."""
    (folder / ".xdicom" / "catalog.sqlite").unlink()
    (folder / ".xdicom" / "catalog.sqlite").symlink_to(folder / "victim")
    with pytest.raises(CatalogError, match="delete it"):
        Catalog(folder)
    assert not (folder / "victim").exists()
