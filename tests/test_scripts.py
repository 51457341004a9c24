"""What the scripts of the workshop rest on: floors, the wheel's files, stored measurements."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from benchmarks import _measure, _stored, table
from packaging.requirements import Requirement
from packaging.version import Version
from safetensors.torch import load_file, save_file
from scripts.floors import TESTS, TOOLS, floors
from scripts.scores import ROOT, differences

from offmap.data import embedded
from offmap.demo import FAR, FAR28, pictures

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_floors_are_the_lowest_versions_that_are_stated() -> None:
    found = floors(PROJECT)
    for text in PROJECT["project"]["dependencies"]:
        stated = Requirement(text)
        lowest = Version(found[stated.name])
        assert lowest in stated.specifier
        assert {s.operator for s in stated.specifier} <= {">="}
    assert set(TOOLS) <= set(found)
    assert floors(PROJECT, torch="2.13.0") == found | {"torch": "2.13.0"}
    assert {"onnx", "onnxscript"} <= floors(PROJECT, extras=["onnx"]).keys() - found.keys()
    assert all((ROOT / path).exists() for path in TESTS)


def test_a_dependency_without_a_floor_is_told() -> None:
    project = PROJECT["project"] | {"dependencies": ["numpy"]}
    with pytest.raises(SystemExit, match="numpy states no lowest version"):
        floors(PROJECT | {"project": project})


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    source = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text()
    assert source.count("__version__ = ") == 1


@pytest.mark.parametrize(
    ("name", "size", "limit"),
    [*((name, 8, 300) for name in FAR), *((name, 28, 150) for name in FAR28)],
)
def test_the_pictures_of_the_demo_are_those_of_scikit_image(
    name: str, size: int, limit: int
) -> None:
    kept, made = pictures(name, size=size), embedded(name, size=size, limit=limit)
    assert (kept.images == made.images).all()
    assert kept.keys(0, len(kept)) == made.keys(0, len(made))
    assert (kept.name, kept.transform) == (made.name, made.transform)


def test_scores_that_differ_from_those_of_a_release_are_found(tmp_path: Path) -> None:
    scores = load_file(ROOT / "tests/golden/scores.safetensors")
    few = {name: scores[name] for name in ("msp", "energy")}
    few["energy"] = few["energy"] + 0.01 * few["energy"].abs().max()
    save_file(few, tmp_path / "before.safetensors")
    found = differences(tmp_path / "before.safetensors")
    assert found["msp"] < 1e-6
    assert found["energy"] == pytest.approx(0.01, rel=0.02)


def row(what: str, median: float, **more: Any) -> dict[str, Any]:
    return {"benchmark": "b", "what": what, "median": median, "low": median, "high": median} | more


def test_what_was_measured_is_kept_with_its_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    monkeypatch.setenv(_measure.ROWS, str(rows))
    _measure.Pairs(("a", [1.0, 3.0, 2.0]), ("b", [1.0, 1.0, 1.0])).print("at most 2")
    _stored.sign(rows, "one", "python -m benchmarks.one")
    _measure.Pairs(("a", [1.0, 3.0, 2.0]), ("b", [1.0, 1.0, 1.0])).print_difference("none")
    _stored.sign(rows, "two", "python -m benchmarks.two")
    ratio, difference = _stored.read_rows(rows)
    assert (ratio["benchmark"], ratio["what"], ratio["bar"]) == ("one", "a / b", "at most 2")
    assert (ratio["median"], ratio["low"], ratio["high"], ratio["runs"]) == (2, 1, 3, 3)
    assert (difference["benchmark"], difference["what"], difference["unit"]) == (
        "two",
        "a - b",
        "s",
    )
    assert difference["median"] == 1
    assert set(ratio["versions"]) == {"python", "offmap", "torch", "numpy"}


def test_rows_of_other_benchmarks_stay(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    _stored.add(path, [row("x", 1.0), row("y", 2.0), row("z", 3.0, benchmark="a")])
    _stored.add(path, [row("x", 5.0)])
    assert [(r["benchmark"], r["median"]) for r in _stored.stored(path)] == [("a", 3.0), ("b", 5.0)]


def test_medians_far_from_the_stored_ones_are_told(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    _stored.add(path, [row("x", 1.0), row("y", -2.0), row("z", 4.0, low=3.0, high=6.0)])
    now = [row("x", 1.3), row("y", -2.4), row("z", 6.9), row("new", 1.0)]
    said = list(_stored.warnings(path, now))
    assert said == [
        "::warning::b, x: 1.300 (1.300 to 1.300), and 1.000 is stored",
        "::notice::b, new: nothing stored to compare with",
    ]


def test_the_page_is_drawn_from_what_is_stored() -> None:
    rows = _stored.stored(table.STORED)
    assert rows == json.loads(table.STORED.read_text())["rows"]
    if table.PAGE.read_text() != table.page(rows):
        pytest.fail("docs/measured.md is not up to date: update by `python -m benchmarks.table`")
    for each in rows:
        assert each["command"].startswith(f"python -m benchmarks.{each['benchmark']}")
        assert each["low"] <= each["median"] <= each["high"]
