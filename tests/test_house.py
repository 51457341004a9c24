"""The house: imports point one way, and the public names are those that are listed."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import offmap
from offmap import errors

ROOT = Path(__file__).parent.parent

# The rooms of docs/design.md, from the bottom up. A file imports only from lower rows.
LAYERS = [
    ["errors"],
    ["_utils"],
    ["activations", "stats", "metrics"],
    ["detectors", "forward", "networks", "data"],
    ["guard"],
    ["scale"],
    ["evaluation", "sklearn"],
    ["adapters"],
    ["plots", "reporting", "serve"],
    ["training"],
    ["demo", "studies"],
    ["cli"],
    ["__main__"],
]
LAYER = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def parent(module: str) -> str:
    return module.rpartition(".")[0]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("offmap", exclude_type_checking_imports=True, cache_dir=None)


def test_every_module_has_a_layer(graph: grimp.ImportGraph) -> None:
    assert {room(m) for m in graph.modules} - {""} == set(LAYER)


def test_imports_point_down(graph: grimp.ImportGraph) -> None:
    wrong = [
        f"{importer} -> {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if room(importer) != room(imported)
        and room(importer)
        and not (room(imported) and LAYER[room(imported)] < LAYER[room(importer)])
    ]
    assert not wrong


def test_private_modules_are_used_only_below_their_own_folder(graph: grimp.ImportGraph) -> None:
    wrong = [
        f"{importer} -> {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.rpartition(".")[2].startswith("_")
        and not f"{importer}.".startswith(f"{parent(imported)}.")
    ]
    assert not wrong


def test_there_is_no_import_cycle(graph: grimp.ImportGraph) -> None:
    wrong = [
        f"{importer} <-> {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if importer != parent(imported) and graph.chain_exists(imported, importer)
    ]
    assert not wrong


def test_the_tree_of_errors_has_them_all() -> None:
    drawn = set(re.findall(r"\w+", errors.__doc__ or ""))
    assert {name for name, each in vars(errors).items() if inspect.isclass(each)} <= drawn


def test_public_names_are_there() -> None:
    for name in offmap.__all__:
        assert getattr(offmap, name) is not None
    assert offmap.ViM is offmap.detectors.catalogue()["vim"]
    assert "ViM" in dir(offmap)
    with pytest.raises(AttributeError, match="nonsense"):
        offmap.nonsense  # noqa: B018


def test_the_names_for_type_checkers_are_the_listed_ones() -> None:
    source = (ROOT / "src/offmap/__init__.py").read_text()
    block = source[source.index("if TYPE_CHECKING:") : source.index("_HOMES")]
    lines = re.findall(r"import (\([^)]*\)|.*)", block)
    assert set(re.findall(r"\w+", " ".join(lines))) == set(offmap.__all__)
    # Strict checkers take a name for exported only where this is a list that can be read.
    listed = source[source.index("__all__ = ") :].removeprefix("__all__ = ")
    assert ast.literal_eval(listed[: listed.index("]") + 1]) == sorted(offmap.__all__)


@pytest.mark.parametrize(
    "module", ["evaluation.comparison", "forward", "detectors", "data", "guard.export"]
)
def test_importing_a_submodule_hides_no_public_name(module: str) -> None:
    code = (
        f"import offmap.{module}, offmap.studies, offmap.cli, offmap\n"
        "assert callable(offmap.evaluate) and callable(offmap.compare) and callable(offmap.fit)\n"
        "assert callable(offmap.detector) and isinstance(offmap.ViM, type)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_first_use_waits_for_nothing_that_it_may_not_need() -> None:
    code = (
        "import sys, offmap\n"
        "def refuse(*names): assert not (seen := set(names) & set(sys.modules)), seen\n"
        "offmap.Guard\n"
        "refuse('PIL', 'offmap.data', 'offmap.networks', 'offmap.metrics')\n"
        "offmap.evaluate, offmap.ViM\n"
        "refuse('pyarrow', 'scipy', 'rich', 'matplotlib', 'pandas', 'sklearn', 'jinja2', 'typer')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_offmap_and_its_command_line_needs_no_torch() -> None:
    code = "import sys, offmap, offmap.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "package",
    [
        "offmap",
        "offmap.activations",
        "offmap.detectors",
        "offmap.evaluation",
        "offmap.guard",
        "offmap.data",
        "offmap.forward",
        "offmap.metrics",
        "offmap.networks",
        "offmap.reporting",
        "offmap.scale",
        "offmap.serve",
        "offmap.sklearn",
        "offmap.adapters.maite",
    ],
)
def test_every_public_thing_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        assert inspect.getdoc(thing) or isinstance(thing, tuple), f"{package}.{name}"
        for method, value in inspect.getmembers(thing, inspect.isfunction):
            own = value.__module__.startswith("offmap") and not method.startswith("_")
            if inspect.isclass(thing) and own:
                found = inspect.getdoc(getattr(thing, method))
                assert found or method == "solve", f"{package}.{name}.{method}"


def test_any_folders_of_tests_can_be_run_together() -> None:
    # pytest knows a file outside of a package by its name alone.
    files = [p for p in (ROOT / "tests").rglob("*.py") if not (p.parent / "__init__.py").exists()]
    names = [path.name for path in files]
    assert [name for name in names if names.count(name) > 1] == []


def test_text_files_are_utf8_whatever_the_locale() -> None:
    places = []
    for path in (ROOT / "src").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
            position = {"read_text": 0, "write_text": 1}.get(name or "", 99)
            # The mode tells a file that is opened from whatever else has a method of that name.
            modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
            texts = any(re.fullmatch(r"[rwax]t?\+?t?", str(mode)) for mode in modes)
            as_text = position < 99 or (name == "open" and texts)
            names = [keyword.arg for keyword in call.keywords]
            if as_text and "encoding" not in names and len(call.args) <= position:
                places.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert not places, "give encoding='utf-8'"


def test_nothing_of_a_machine_is_in_the_tree() -> None:
    files = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.txt", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    for name in files:
        if name != "tests/test_house.py":
            text = (ROOT / name).read_text()
            assert not re.search(
                r"(?<![\w.])/(?:work|root|home|tmp)/|import torchvision|from torchvision", text
            ), name
