"""What continuous integration names is there: targets, scripts, modules, files, pinned actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            for step in job["steps"]:
                yield f"{path.name}: {name}", step


def missing(line: str) -> list[str]:
    """What a line of a workflow names and the repository lacks."""
    words = line.split(" #")[0].split()
    lacks = []
    for before, word in zip(["", *words], words, strict=False):
        script = word.startswith(("scripts/", "tests/", "benchmarks/")) and ":" not in word
        if script and not (ROOT / word).exists():
            lacks.append(word)
        if before == "make" and word not in TARGETS:
            lacks.append(f"make {word}")
        own = word.startswith(("benchmarks", "offmap"))
        known = own or word in ("pytest", "sphinx", "mypy")
        if before == "-m" and known and find_spec(word) is None:
            lacks.append(f"-m {word}")
    return lacks


def test_every_line_that_is_run_names_what_is_there() -> None:
    lines = [
        (where, line)
        for where, step in steps()
        for line in str(step.get("run", "")).splitlines()
        if line
    ]
    assert len(lines) > 25
    assert {(where, line): lack for where, line in lines if (lack := missing(line))} == {}


@pytest.mark.parametrize(
    ("line", "lack"),
    [
        ("make nonsense", ["make nonsense"]),
        ("python scripts/nonsense.py --tag x", ["scripts/nonsense.py"]),
        ("python -m benchmarks.nonsense", ["-m benchmarks.nonsense"]),
        ("make test && python scripts/wheel.py", []),
    ],
)
def test_a_line_that_names_what_is_not_there_is_found(line: str, lack: list[str]) -> None:
    assert missing(line) == lack


def test_actions_are_pinned_to_a_version_and_each_step_does_something() -> None:
    for where, step in steps():
        assert ("uses" in step) != ("run" in step), where
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+|[0-9a-f]{40})", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_workflow_may_write_unasked(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    # YAML 1.1 reads the key "on" as true.
    assert workflow[True]
    for name, job in workflow["jobs"].items():
        writes = {k for k, v in job.get("permissions", {}).items() if v == "write"}
        pushed = job.get("if") == "github.event_name == 'push'"  # no request of a stranger
        assert not writes or path.name == "release.yml" or pushed, name
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(workflow["jobs"])


def test_the_pythons_of_the_matrix_are_those_that_are_stated() -> None:
    stated = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    matrix = read(ROOT / ".github/workflows/ci.yml")["jobs"]["newest"]["strategy"]["matrix"]
    assert matrix["python"] == stated
    assert len(matrix["os"]) == 3


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_of_an_issue_asks_something(path: Path) -> None:
    form = read(path)
    if path.name == "config.yml":
        return
    assert form["name"]
    assert form["description"]
    fields = form["body"]
    assert all(field["type"] in ("input", "textarea") for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_the_citation_has_what_a_citation_needs() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "title", "authors", "message", "license"} <= set(citation)
    assert "version" not in citation  # it stands in one place, which is not this
