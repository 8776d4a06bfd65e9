"""Everything in README, docs and docstrings that looks as if it could be run, is run; examples are in test_examples.

In Markdown, the python blocks of a file run in order in one namespace, in an empty folder. What readers do not see is
written in comments on lines of their own:

    <!-- setup
    python code that makes the data that the next blocks read
    -->
    <!-- data: NAME -->         the next blocks need a copy of this folder of real DICOM; the file is skipped without it
    <!-- not run: REASON -->    the next block is not run
"""

import doctest
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PARTS = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->$|^<!-- data: (?P<data>\S+) -->$|^<!-- not run: (?P<reason>.+?) -->$"
    r"|^```\{?(?P<language>[\w+-]*).*?\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block, or what a comment asks for: kind is a language, "setup" or "data"."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that are to be run or looked at, in order."""
    text, left_out = page.read_text(encoding="utf-8"), False
    for match in PARTS.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["reason"] is not None:
            left_out = True
        elif match["code"] is None:
            yield Block("data", match["data"], line) if match["data"] else Block("setup", match["setup"], line)
        elif left_out:
            left_out = False
        else:
            yield Block(match["language"], match["code"], line)


def shell_lines(page: Path) -> list[str]:
    """Return the commands in the shell blocks of a page."""
    return [line for block in blocks(page) if block.kind == "sh" for line in block.text.splitlines() if line]


def identify(path: Path) -> str:
    """Return the name of a file in test ids."""
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_code_on_pages_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_copy: Callable[[str], Path]
) -> None:
    """A reader who pastes the python blocks of a page one after another gets no error and no warning."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.kind == "data":
            real_copy(block.text)
        elif block.kind in ("python", "setup"):
            # Blank lines in front make the line numbers of an error those of the page.
            exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_fences_name_their_language(page: Path) -> None:
    """A block without a language, or with one that is not checked here, would go by untested."""
    kinds = {block.kind for block in blocks(page)}
    assert kinds <= {"python", "setup", "data", "sh", "text", "toctree", "eval-rst"}
    assert page.read_text(encoding="utf-8").count("```") % 2 == 0


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link on a page names a file that exists."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def module_names() -> list[str]:
    """Return the dotted names of the modules of the package."""
    files = [path.relative_to(REPOSITORY).with_suffix("") for path in (REPOSITORY / "xdicom").rglob("*.py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in files if path.name != "__main__")


@pytest.mark.parametrize("name", module_names())
def test_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples in docstrings give what they show."""
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


def commands(kind: str) -> list[str]:
    """Return the lines of the shell block of the README that follows a comment such as `<!-- test command -->`."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^<!-- {kind} command -->\n```sh\n(.*)\n```$", text, re.MULTILINE)


@pytest.mark.parametrize(("kind", "end"), [("demo", ".venv/bin/xdicom demo"), ("test", ".venv/bin/pytest -n 2")])
def test_readme_has_one_line_for_each_task(kind: str, end: str) -> None:
    """One line each, with a virtual environment of its own, runs the demo and the tests on a bare machine."""
    (line,) = commands(kind)
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert line.endswith(end)


def test_ci_runs_the_commands_of_the_readme() -> None:
    """Every shell block of the README is one that `.ci/run` looks up there by its comment and runs."""
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    called = re.findall(r"^readme_command (\w+)", script, re.MULTILINE)
    assert sorted(called) == ["demo", "test"]
    assert shell_lines(REPOSITORY / "README.md") == [line for kind in called for line in commands(kind)]


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_shell_commands_of_xdicom_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command `xdicom NAME` in the text or in a shell block is one that the command line knows."""
    from xdicom import cli

    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"`(?:\S*/)?xdicom ([a-z]+)[^`]*`|\bbin/xdicom ([a-z]+)", text))
    for name in sorted(first or second for first, second in shown):
        with pytest.raises(SystemExit) as end:
            cli.main([name, "--help"])
        assert end.value.code == 0, name
        assert name in capsys.readouterr().out
