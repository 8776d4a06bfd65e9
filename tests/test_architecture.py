"""The layout that `docs/architecture.md` describes: who imports whom, sizes, and what importing xdicom does."""

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "xdicom"

# A module imports only modules before it in this list.
ORDER = """
    errors
    -- values: know no file
    charsets strings values keywords decoding encoding tags geometry columns selection
    -- one file
    source walker writer explicit elements runs header layouts groups csa vendors codestream colour formats rescale
    scales decoders pixels instance folder replaced locations quantise modules overlay dicomjson pixelmodule placing
    splice
    -- one folder
    imagery frames scaling imagetypes attributes conditions naming tables packing scan lone rows parallel seriestables
    catalog copying identity overlays staging zarrmeta editing edits layers changes setting lock flushing
    freeing temporary journal
    works
    -- arrays
    dims quantities alike advice stack infer splitting placement coordinates array indexed planes slabs resample regular
    likeness conversion sidecar
    -- faces
    create labelling access store extremes derive replacing transfer saving export
    -- what people see
    display montage plotting pictures
    -- records
    reading outline trees archived zarrs restoring thumbnail notebook csvs pngs nifti exporting records parts database
    creation newseries apply backend accessor wrappers
    -- the demo and the command
    confidentiality anonymise relaxation phantom phantomstudy anglesets demo
    cli_words cli_output cli_read cli_edit cli_export cli
"""
MODULES = [word for line in ORDER.splitlines() if "--" not in line for word in line.split()]

# Where these may be imported at all; "function" allows it only inside functions.
RESTRICTED = {
    "sqlite3": ({"catalog", "edits"}, "anywhere"),
    "zarr": ({"edits", "staging", "pixels", "export"}, "anywhere"),
    "scipy": ({"resample", "apply", "wrappers"}, "anywhere"),
    "matplotlib": ({"attributes", "montage", "pictures", "plotting", "export"}, "function"),
    "imagecodecs": ({"decoders"}, "function"),
    "jpeg_ls": ({"decoders"}, "function"),
    "openjpeg": ({"decoders"}, "function"),
    "distributed": (set(MODULES), "function"),
    "nibabel": ({"conversion", "nifti"}, "function"),
    "SimpleITK": ({"conversion"}, "function"),
    "pandas": (set(MODULES), "function"),
    "pickle": ({"parallel"}, "anywhere"),  # what goes through pipes to its own workers, never a file
}


# Parts of a noun whose facts are tested through the whole.
TESTED_WITH = {
    "archived": "zarrs",
    "alike": "infer",
    "access": "lock",
    "changes": "guide",
    "cli_output": "cli",
    "cli_words": "cli",
    "columns": "tables",
    "errors": "stack",
    "exporting": "csvs",
    "identity": "edits",
    "imagery": "frames",
    "imagetypes": "attributes",
    "labelling": "derive",
    "layers": "database",
    "lone": "backend",
    "modules": "derive",
    "newseries": "accessor",
    "overlays": "edits",
    "parts": "splitting",
    "quantities": "infer",
    "reading": "database",
    "records": "database",
    "replaced": "journal",
    "restoring": "zarrs",
    "rows": "saving",
    "seriestables": "catalog",
    "setting": "guide",
    "temporary": "journal",
}


def modules() -> list[Path]:
    """Return the source files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def all_files() -> list[Path]:
    """Return the source files of the package, the tests, the examples and the documentation."""
    return [
        path for name in ("xdicom", "tests", "examples", "docs") for path in sorted((REPOSITORY / name).rglob("*.py"))
    ]


def name_of(path: Path) -> str:
    """Return the name in ORDER: the part below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def is_typing_only(node: ast.AST) -> bool:
    """Return whether a statement is `if TYPE_CHECKING:`, which runs nowhere."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(node: ast.AST, inside: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Yield (dotted name, level, inside a function) of what is imported when the code runs."""
    if is_typing_only(node):
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, 0, inside) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module, node.level, inside
    elif isinstance(node, ast.ImportFrom):
        yield from ((alias.name, node.level, inside) for alias in node.names)
    inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        yield from imports(child, inside)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a file."""
    return (node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    text = ast.get_docstring(function, clean=False)
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - (text.count("\n") + 1 if text else 0)


def test_every_module_has_its_place() -> None:
    """No module is missing in the list above."""
    assert {name_of(path) for path in modules()} - {"__init__", "__main__"} <= set(MODULES)


def test_no_place_is_taken_twice() -> None:
    """The list names every module once."""
    assert len(MODULES) == len(set(MODULES))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_modules_import_only_what_is_above_them(path: Path) -> None:
    """Data flows in one direction: a module knows nothing of those after it."""
    name = name_of(path)
    if name in ("__init__", "__main__"):
        return
    above = set(itertools.takewhile(lambda other: other != name, MODULES)) | {"__version__"}
    if path.parent != PACKAGE:
        above.add(name)
    used = {dotted.split(".")[0] for dotted, level, _ in imports(parsed(path)) if level}
    assert used <= above


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_modules_name_their_package_relatively(path: Path) -> None:
    """No module imports `xdicom` by its full name, which would dodge the rule above."""
    assert "xdicom" not in {dotted.split(".")[0] for dotted, level, _ in imports(parsed(path)) if not level}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_foreign_packages_stay_in_their_modules(path: Path) -> None:
    """SQLite, zarr, scipy, matplotlib, decoders and optional packages are each known to few modules."""
    for dotted, level, inside in imports(parsed(path)):
        homes, where = RESTRICTED.get(dotted.split(".")[0], (None, ""))
        if homes is not None and not level:
            assert name_of(path) in homes, dotted
            assert inside or where == "anywhere", f"{dotted} belongs inside a function"


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.stem)
def test_files_are_short(path: Path) -> None:
    """A file over 500 lines says that a noun is missing."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.stem)
def test_functions_are_short(path: Path) -> None:
    """A function over 60 lines says that a noun is missing."""
    assert not [(node.name, code_lines(node)) for node in functions(path) if code_lines(node) > 60]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_errors_are_caught_by_name(path: Path) -> None:
    """No bare except, and no handler that swallows everything."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, node.lineno
            catches_all = ast.unparse(node.type) in ("BaseException", "Exception")
            assert not (catches_all and all(isinstance(line, ast.Pass) for line in node.body)), node.lineno


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_prints_or_asks(path: Path) -> None:
    """A library neither prints nor asks; only the command line writes, and to streams."""
    called = {ast.unparse(node.func) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)}
    assert not called & {"print", "input", "breakpoint", "eval", "exec"}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_modules_say_what_they_do(path: Path) -> None:
    """Each module begins with a docstring."""
    assert ast.get_docstring(parsed(path))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_arguments_are_not_shared_between_calls(path: Path) -> None:
    """No default is a list, a dict or a set."""
    for function in functions(path):
        defaults = [*function.args.defaults, *function.args.kw_defaults]
        assert not [d for d in defaults if isinstance(d, ast.List | ast.Dict | ast.Set)], function.name


def test_documentation_has_the_same_order() -> None:
    """The table of docs/architecture.md names modules in the order of the list above."""
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [a-z ]+ \| (`.*) \|$", page, re.MULTILINE)
    named = [word for row in rows for word in re.findall(r"`(\w+)`", row)]
    assert len(named) > 50
    assert named == [name for name in MODULES if name in set(named)]


def run(code: str) -> str:
    """Run code in a new process from the root of the repository, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_changes_no_settings() -> None:
    """Importing xdicom leaves pydicom's settings, warning filters, numpy's error state and the logging alone."""
    code = """
import logging, warnings
import numpy, pydicom.config, dask.array, xarray, zarr, scipy
def state():
    config = {k: repr(v) for k, v in vars(pydicom.config).items() if not k.startswith("__")}
    config["settings"] = repr(vars(pydicom.config.settings))
    return (config, list(warnings.filters), numpy.geterr(), dask.config.config,
            logging.root.level, logging.root.handlers[:], xarray.get_options())
import copy
before = copy.deepcopy(state())
import xdicom
print(repr(before) == repr(state()))
"""
    assert run(code) == "True"


def test_import_is_light() -> None:
    """Importing xdicom imports no optional package, no decoder and no test tool."""
    heavy = [
        "matplotlib",
        "pandas",
        "distributed",
        "nibabel",
        "SimpleITK",
        "imagecodecs",
        "jpeg_ls",
        "openjpeg",
        "scipy",
        "zarr",
    ]
    code = f"""
import sys
import xarray, dask.array, pydicom, numpy
before = set(sys.modules)
import xdicom
print(sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({heavy!r})))
"""
    assert run(code) == "[]"


def test_public_names_are_those_of_the_design() -> None:
    """What `import xdicom` offers is what the documentation lists, and nothing by accident."""
    import xdicom

    functions = "database series as_series zeros ones full empty merge to_xarray apply register_attribute from_zarr"
    allowed = f"{functions} errors wrappers Database Patient Study Series"
    assert set(xdicom.__all__) <= set(allowed.split())


def test_there_is_one_version() -> None:
    """The version is written once, in the package."""
    import xdicom

    lines = [line for path in modules() for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if line.startswith("__version__")] == [f'__version__ = "{xdicom.__version__}"']
    assert 'dynamic = ["version"]' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_each_module_has_a_test_module() -> None:
    """`tests/test_<module>.py` exists for every module, or for the one that it is a part of."""
    tested = {path.stem.removeprefix("test_") for path in (REPOSITORY / "tests").glob("test_*.py")}
    named = {name_of(path) for path in modules()} - {"__init__", "__main__"}
    assert [name for name in sorted(named) if TESTED_WITH.get(name, name) not in tested] == []
