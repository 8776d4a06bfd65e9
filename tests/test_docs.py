"""What the README and the documentation show runs as it stands, block after block."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A hidden comment `<!-- setup ... -->` is code that runs before the blocks after it.
_CODE = re.compile(r"<!-- setup\n(.*?)-->|```python\n(.*?)```", re.DOTALL)
_SETUP_OF_README = """
from pathlib import Path
from factories import make_series
for angle in (5, 20):
    make_series(Path("folder"), name=f"flip {angle}", FlipAngle=angle)
"""


def blocks(page):
    found = ["".join(match) for match in _CODE.findall(page.read_text("utf-8"))]
    return [_SETUP_OF_README, *found] if page.name == "README.md" else found


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """The blocks of a page run one after the other in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page.name} block {number}", "exec"), namespace)


def test_readme_names_the_two_commands():
    """The README holds the command that installs and tests, which CI runs, and the one that installs and demonstrates."""
    text = (ROOT / "README.md").read_text("utf-8")
    test = re.search(r"<!-- test command -->\n```sh\n(.*)\n```", text)
    demo = re.search(r"<!-- demo command -->\n```sh\n(.*)\n```", text)
    assert "pytest" in test[1]
    assert demo[1].endswith("xdicom demo")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text("utf-8")
