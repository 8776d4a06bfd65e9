"""Facts about tags as CSV, and about what records write for other programs."""

import csv
import json
from pathlib import Path

import factories
import pandas as pd
import pytest

import xdicom as xd
from xdicom.errors import SaveError, UnknownTagError


def opened(folder: Path, **options) -> xd.Database:
    """Return a database of one series made for it."""
    factories.make_series(folder / "in", **options)
    return xd.database(folder / "in")


def rows(path: Path) -> list[list[str]]:
    """Return the cells of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_rows_are_frames(tmp_path):
    """A row a frame, a column a tag or attribute; numbers can be read back, several values have backslashes."""
    db = opened(tmp_path, slices=2, dims={"EchoTime": [1.5, 20]})
    db.to_csv(tmp_path / "a.csv", "InstanceNumber", "EchoTime", (0x0008, 0x0008), "slice_location", "FlipAngle")
    assert rows(tmp_path / "a.csv") == [
        ["InstanceNumber", "EchoTime", "ImageType", "slice_location", "FlipAngle"],
        *[
            [str(number), str(echo), "ORIGINAL\\PRIMARY\\M\\ND", str(place), ""]
            for number, echo, place in zip(
                range(1, 5), [1.5, 1.5, 20.0, 20.0], db.frames()["slice_location"].tolist(), strict=True
            )
        ],
    ]


def test_tags_that_vary_are_the_default(tmp_path):
    """Without names the columns are those of to_pandas, and pandas reads them."""
    db = opened(tmp_path, dims={"EchoTime": [1, 2]})
    db.to_csv(tmp_path / "a.csv")
    found = pd.read_csv(tmp_path / "a.csv")
    assert list(found) == list(db.to_pandas())
    assert found["EchoTime"].tolist() == db.to_pandas()["EchoTime"].tolist()


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x")', "  =1", "\uff1d1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_would_be_executed_is_quoted(tmp_path, text):
    """A name that a spreadsheet would take for a formula gets a quote, unless that is turned off."""
    db = opened(tmp_path, slices=1, SpecificCharacterSet="ISO_IR 192", StudyDescription=text)
    kept = db.StudyDescription.item()
    db.to_csv(tmp_path / "a.csv", "StudyDescription")
    db.to_csv(tmp_path / "b.csv", "StudyDescription", escape_formulas=False)
    assert rows(tmp_path / "a.csv")[1] == [f"'{kept}"]
    assert rows(tmp_path / "b.csv")[1] == [kept]


def test_tabs_and_line_ends_are_quoted(tmp_path):
    """Text in several lines stays in its cell."""
    db = opened(tmp_path, slices=1, ImageComments='a,b\r\n=c\n"d"')
    db.to_csv(tmp_path / "a.csv", "ImageComments")
    assert rows(tmp_path / "a.csv")[1] == ['a,b\r\n=c\n"d"']
    db.StudyDescription = "x"
    factories.make_series(tmp_path / "tab", slices=1, ImageComments="\t=c")
    xd.database(tmp_path / "tab").to_csv(tmp_path / "t.csv", "ImageComments")
    assert rows(tmp_path / "t.csv")[1][0].lstrip().startswith("'")


def test_numbers_stay_numbers(tmp_path):
    """Negative numbers, alone or several, are no formulas."""
    db = opened(tmp_path, slices=1, layout=factories.AXIAL, FlipAngle=-5)
    db.to_csv(tmp_path / "a.csv", "FlipAngle", "ImagePositionPatient")
    assert rows(tmp_path / "a.csv")[1] == ["-5.0", "-10.0\\-20.0\\30.0"]


def test_names_of_columns_are_quoted_too(tmp_path):
    """A private creator is text of others."""

    def change(ds, index):
        ds.private_block(0x0029, "=CMD", create=True).add_new(0x0C, "LO", "@x")

    db = opened(tmp_path, slices=1, change=change)
    db.to_csv(tmp_path / "a.csv", ("=CMD", 0x0029, 0x0C))
    assert rows(tmp_path / "a.csv") == [["'=CMD:0029,0C"], ["'@x"]]
    assert list(db.to_pandas(("=CMD", 0x0029, 0x0C))) == ["=CMD:0029,0C"]


def test_sequences_and_bytes_are_text(tmp_path):
    """A sequence is JSON by keyword, bytes are base64."""
    item = factories.base_dataset("item")

    def change(ds, index):
        ds.ReferencedImageSequence = [item]
        ds.add_new(0x00282000, "OB", b"\1\2")

    opened(tmp_path, slices=1, change=change).to_csv(tmp_path / "a.csv", "ReferencedImageSequence", "ICCProfile")
    found = rows(tmp_path / "a.csv")[1]
    assert json.loads(found[0])[0]["PatientName"] == "Doe^Jane"
    assert found[1] == "AQI="


def test_nothing_is_replaced(tmp_path):
    """A file that is there stays, and an unknown name makes none."""
    db = opened(tmp_path, slices=1)
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(SaveError, match="there already"):
        db.to_csv(tmp_path / "a.csv", "Rows")
    assert (tmp_path / "a.csv").read_text() == "mine"
    with pytest.raises(UnknownTagError, match="Rows"):
        db.to_csv(tmp_path / "b.csv", "Rowz")
    assert not (tmp_path / "b.csv").exists()
