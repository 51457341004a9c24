"""Tables for the terminal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import offmap
from offmap._utils.table import render, short
from offmap.evaluation.results import Results, Row, SetInfo
from offmap.metrics import detection

PATHS = [f"/data/collection/2025/{place}/{part}" for place in "abcd" for part in ("day", "night")]
GROUPS = dict.fromkeys(PATHS[:3], "near") | dict.fromkeys(PATHS[3:], "far")
LONG = "Combine([energy, vim, mahalanobis, ReAct(Energy(), quantile=0.95)], how='fisher')"


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)


def evaluated(shift: float) -> Results:
    """Two detectors on eight folders of long names."""
    generator = np.random.default_rng(0)
    scores = {
        detector: {"id": generator.normal(size=50)}
        | {path: generator.normal(shift + i / 5, size=40) for i, path in enumerate(PATHS)}
        for detector in ("energy", LONG)
    }
    rows = [
        Row(detector=d, set=path, group=GROUPS[path], **detection(s["id"], s[path]).__dict__)
        for d, s in scores.items()
        for path in PATHS
    ]
    sets = [SetInfo(name="id", role="id", n=50, source="./photos", fingerprint="0")]
    sets += [SetInfo(name=p, role="ood", group=GROUPS[p], n=40, fingerprint=p) for p in PATHS]
    return Results(rows=rows, scores=scores, sets=sets)


@pytest.mark.usefixtures("no_terminal")
def test_tables_with_paths_are_no_wider_than_a_hundred_columns() -> None:
    """The figures are all there, each under its own heading."""
    results = evaluated(1.0)
    table = results.table()
    compared = offmap.compare({"a": results, "b": evaluated(0.5)}).table()
    assert max(map(len, f"{table}\n{compared}".splitlines())) <= 100
    assert table.count("a/day") == table.count("d/night") == 1
    for path in PATHS:
        assert f"{100 * results.get('energy', path):.2f}" in table
    assert "/data" not in table


@pytest.mark.parametrize("width", [30, 60, 100])
def test_columns_wrap_into_blocks_that_repeat_the_rows(width: int) -> None:
    columns = [f"set{i}" for i in range(9)]
    cells = {"one": [i / 10 for i in range(9)], "two": [0.9 - i / 10 for i in range(9)]}
    table = render(cells, columns, above=["x"] * 5 + ["y"] * 4, width=width)
    assert max(map(len, table.splitlines())) <= width
    seen: dict[str, list[str]] = {"one": [], "two": [], "detector": []}
    for line in table.splitlines():
        name, *rest = line.split() or [""]
        if name in seen:
            seen[name] += rest
    assert seen["detector"] == columns
    assert [float(x.rstrip("*")) for x in seen["one"]] == cells["one"]
    assert [x.endswith("*") for x in seen["two"]] == [x >= 0.45 for x in cells["two"]]


def test_a_wide_terminal_has_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert "\n\n" not in evaluated(1.0).table().partition("evaluated\n\n")[2]


def test_headings_of_one_name_are_told_apart() -> None:
    assert short(["/a/long/way/to/some/test", "./another/way/to/some/other"]) == ["test", "other"]
    assert short(["/data/one/of/many/test", "/data/two/of/many/test/"]) == [
        "one/of/many/test",
        "two/of/many/test",
    ]
    assert short(["cifar10", "noise:gaussian", "./near/test"]) == [
        "cifar10",
        "noise:gaussian",
        "./near/test",
    ]


def test_a_long_row_name_takes_several_lines() -> None:
    results = evaluated(1.0)
    lines = replace(results, rows=[r for r in results.rows if r.detector == LONG]).table()
    words = " ".join(line[:40].strip() for line in lines.splitlines())
    assert LONG in words
