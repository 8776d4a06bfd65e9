"""dciodvfy as an oracle: what it says of a file, and what it says of one file but not of another."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from conftest import debian_tool


def complaints(path: Path) -> tuple[str, set[tuple[str, str]]]:
    """Return the name of the IOD and the (severity, complaint) pairs, without item numbers and values.

    Without the line that names the IOD nothing was validated, and the test fails.
    """
    tool = debian_tool("dciodvfy", "dicom3tools")
    result = subprocess.run([tool, "-new", path], capture_output=True, check=False)
    text = (result.stdout + result.stderr).decode("latin-1")
    names = re.findall(r"^[A-Za-z]+$", text, re.MULTILINE)
    assert names, f"dciodvfy could not validate {path}:\n{text}"
    found = set()
    for severity, complaint in re.findall(r"^\s*(Error|Warning) - (.*)$", text, re.MULTILINE):
        found.add((severity, re.sub(r"<(?!/)[^<>]*>", "<>", re.sub(r"\[\d+\]", "[*]", complaint))))
    return names[0], found


def errors(path: Path) -> set[str]:
    """Return the errors of a file."""
    return {complaint for severity, complaint in complaints(path)[1] if severity == "Error"}


def contradictions(paths: Sequence[Path]) -> set[str]:
    """Return what dcentvfy says of files that do not fit together, without their values."""
    tool = debian_tool("dcentvfy", "dicom3tools")
    result = subprocess.run([tool, *paths], capture_output=True, check=False)
    text = (result.stdout + result.stderr).decode("latin-1")
    return {line.split(" - ")[1] for line in text.splitlines() if line.startswith("Error")}
