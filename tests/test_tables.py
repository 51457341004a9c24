"""Tables for the terminal."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import offmap
from offmap._utils.table import render, short
from offmap.errors import MissingExtraError, UnknownNameError
from offmap.evaluation.results import Results, SetInfo
from offmap.evaluation.rows import Row
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


NAMES = ["50 % of a_b & <i>x</i>", "c|d\n$\\input{e}$", "plain"]


@pytest.fixture
def hand_made() -> Results:
    """Three detectors of hard names on two sets; the first two are shown alike on the second."""
    cells = {NAMES[0]: (0.9, 0.700001), NAMES[1]: (0.8, 0.7), NAMES[2]: (0.95, 0.6)}
    figures = detection([0.0, 1.0], [0.5, 2.0]).__dict__
    rows = [
        Row(detector=d, set=s, group=g, **figures | {"auroc": value, "fpr_id_kept": 1 - value})
        for d, values in cells.items()
        for (s, g), value in zip([("x_1", "near"), ("y&z", "far")], values, strict=True)
    ]
    return Results(rows=rows, scores={}, sets=[SetInfo(name="id", role="id", n=2)])


def test_markdown_has_the_best_bold_and_the_second_underlined(hand_made: Results) -> None:
    head, rule, *rows = hand_made.to_markdown().splitlines()
    assert head == (
        "| auroc in %, higher is better | near: x\\_1 | far: y&amp;z | mean: near | mean: far | "
        "mean: all |"
    )
    assert rule == "| --- |" + " ---: |" * 5
    first, second, third = rows
    assert first == (
        "| 50 % of a\\_b &amp; &lt;i>x&lt;/i> | <u>90.00</u> | **70.00** | <u>90.00</u> "
        "| **70.00** | **80.00** |"
    )
    assert second.startswith("| c\\|d $\\\\input{e}$ | 80.00 | **70.00** |")
    assert "| **95.00** | <u>60.00</u> |" in third  # the only one behind the two
    low = hand_made.to_markdown("fpr_id_kept")
    assert "lower is better" in low
    assert "**5.00**" in low.splitlines()[4]


def test_numbers_that_are_shown_alike_have_one_mark(hand_made: Results) -> None:
    """In the terminal as in documents: 70.0001 is no better than 70 where both are 70.00."""
    table = [line.split() for line in hand_made.table().splitlines()]
    assert [line.count("70.00*") for line in table].count(2) == 2  # of a set and of its group
    assert sum(line[-1:] == ["80.00*"] for line in table) == 1


def test_latex_is_booktabs_with_every_sign_escaped(hand_made: Results) -> None:
    lines = hand_made.to_latex().splitlines()
    assert lines[:3] == [
        "% auroc in %, higher is better",
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{lrrrrr}",
    ]
    assert (
        lines[4]
        == r" & \multicolumn{1}{c}{near} & \multicolumn{1}{c}{far} & \multicolumn{3}{c}{mean} \\"
    )
    assert lines[5] == r"\cmidrule(lr){2-2}\cmidrule(lr){3-3}\cmidrule(lr){4-6}"
    assert lines[6] == r"detector & x\_1 & y\&z & near & far & all \\"
    assert lines[8] == (
        r"50 \% of a\_b \& {<}i{>}x{<}/i{>} & \underline{90.00} & \textbf{70.00} & "
        r"\underline{90.00} & \textbf{70.00} & \textbf{80.00} \\"
    )
    assert lines[9].startswith(r"c{|}d \$\textbackslash{}input\{e\}\$ & 80.00 & \textbf{70.00} &")
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]


def test_the_rows_are_a_data_frame(hand_made: Results) -> None:
    pytest.importorskip("pandas")
    frame = hand_made.to_pandas()
    assert frame.pivot(index="detector", columns="set", values="auroc").loc["plain", "x_1"] == 0.95
    assert list(frame.columns[:4]) == ["detector", "set", "group", "n_id"]
    assert len(frame) == 6


def test_without_pandas_the_extra_is_named(
    hand_made: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'offmap\[pandas\]'"):
        hand_made.to_pandas()


@pytest.mark.parametrize("name", ["auc", "AUROC", "ROC-AUC"])
def test_metrics_go_by_the_names_of_others(hand_made: Results, name: str) -> None:
    assert hand_made.table(name) == hand_made.table("auroc")
    assert hand_made.get("plain", "x_1", name) == 0.95


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fpr95", "'fpr95' has two readings: name fpr_id_kept, .* or fpr_ood_caught"),
        ("FPR@95TPR", "two readings: name fpr_id_kept"),
        ("aupr", "two readings: name aupr_in"),
        ("aurocc", "no metric 'aurocc': did you mean 'auroc'"),
        ("detector", "no metric 'detector'"),
    ],
)
def test_a_name_of_two_readings_says_which(hand_made: Results, name: str, words: str) -> None:
    for use in (hand_made.table, hand_made.to_latex, hand_made.to_markdown):
        with pytest.raises(UnknownNameError, match=words):
            use(name)


def test_numbers_that_are_no_shares_are_not_shown_in_percent(hand_made: Results) -> None:
    table = hand_made.table("n_ood")
    assert "n_ood; 2 ID samples" in table
    assert "2.0000" in table
    assert "*" not in table
