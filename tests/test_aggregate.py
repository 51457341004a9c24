"""Several networks as one, and what of their differences is beyond chance."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

import offmap
from offmap.cli import main
from offmap.errors import ArgumentError, UnknownNameError
from offmap.evaluation import Results, Row, SetInfo
from offmap.evaluation.significance import Significance
from offmap.evaluation.subsets import at_ratio, only_correct
from offmap.metrics import delong_test, delong_test_of_mean, detection, holm

GROUPS = {"near": ["a", "b"], "far": ["c"]}
GAINS = {"weak": 0.5, "strong": 1.5, "strong2": 1.52}


def evaluated(seed: int, gains: dict[str, float] = GAINS, prints: str = "") -> Results:
    """Detectors on three OOD sets of 200 samples, on one network."""
    rng = np.random.default_rng(seed)
    base = {"id": rng.normal(size=300)} | {name: rng.normal(size=200) for name in "abc"}
    scores = {
        d: {name: x + (gain if name != "id" else 0) for name, x in base.items()}
        for d, gain in gains.items()
    }
    rows = [
        Row(detector=d, set=s, group=g, **detection(of["id"], of[s]).__dict__)
        for d, of in scores.items()
        for g, names in GROUPS.items()
        for s in names
    ]
    sets = [SetInfo(name="id", role="id", n=300, fingerprint=f"id{prints}")]
    sets += [SetInfo(name=s, role="ood", n=200, fingerprint=f"{s}{prints}") for s in "abc"]
    return Results(rows=rows, scores=scores, sets=sets)


@pytest.fixture(scope="module")
def three() -> list[Results]:
    return [evaluated(seed) for seed in range(3)]


def test_means_and_deviations_are_over_networks(three: list[Results]) -> None:
    found = offmap.aggregate(three)
    grid = found.grid()
    assert grid.columns == ["a", "b", "c", "near", "far", "all"]
    of_a = [each.get("weak", "a") for each in three]
    assert grid.cells["weak"][0] == pytest.approx(np.mean(of_a))
    assert grid.deviations is not None
    assert grid.deviations["weak"][0] == pytest.approx(np.std(of_a, ddof=1))
    # The deviation of a mean is that of the networks' means, and no mean of deviations.
    near = [each.mean("weak", group="near") for each in three]
    assert grid.deviations["weak"][3] == pytest.approx(np.std(near, ddof=1))
    cell = f"{100 * np.mean(of_a):.2f} ± {100 * np.std(of_a, ddof=1):.2f}"
    assert cell.replace(" ", "  ", 1) in found.table()  # a place for the star
    assert f"{cell} |" in found.to_markdown()
    mean, deviation = cell.split(" ± ")
    assert rf"{mean} {{\scriptsize $\pm$ {deviation}}}" in found.to_latex()
    assert "mean ± standard deviation over 3 networks: 1, 2, 3" in found.table()


def test_a_single_network_has_no_deviation(three: list[Results]) -> None:
    found = offmap.aggregate(three[:1])
    assert "± " not in found.table().partition("\n\n")[2].partition("mean over")[0]
    assert {each.p_value for each in found.differences()} == {None}


def test_differences_are_paired_and_corrected_over_all_pairs(three: list[Results]) -> None:
    found = {d.detector: d for d in offmap.aggregate(three).differences()}
    assert {d.against for d in found.values()} == {"strong2"}
    means = {d: [each.mean(d) for each in three] for d in GAINS}
    pairs = [("weak", "strong"), ("weak", "strong2"), ("strong", "strong2")]
    p_values = holm([float(ttest_rel(means[a], means[b]).pvalue) for a, b in pairs])
    assert found["weak"].p_value == pytest.approx(p_values[1])
    assert found["strong"].p_value == pytest.approx(p_values[2])
    gaps = np.subtract(means["weak"], means["strong2"])
    assert found["weak"].difference == pytest.approx(gaps.mean())
    assert found["weak"].deviation == pytest.approx(gaps.std(ddof=1))


def test_ranks_are_over_sets_and_ties_share_them() -> None:
    found = offmap.aggregate([evaluated(0, {"x": 1.0, "y": 1.0, "z": 2.0})]).ranks()
    assert found.mean == {"x": 2.5, "y": 2.5, "z": 1.0}
    assert found.sets == 3
    # Demšar, table 5: q is 2.343 for three, at 5 %.
    assert found.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 3)), rel=1e-3)


def test_detectors_that_are_all_alike_rank_alike() -> None:
    """Friedman's statistic divides by the spread of the ranks, and there is none."""
    found = offmap.aggregate([evaluated(0, dict.fromkeys("xyz", 9.0))])
    assert found.ranks().p_value == 1.0
    assert "Friedman p = 1" in found.table()


def test_a_low_metric_ranks_the_lowest_first(three: list[Results]) -> None:
    found = offmap.aggregate(three)
    ranks = found.ranks("fpr_id_kept").mean
    assert ranks["strong2"] < ranks["weak"]
    assert {d.against for d in found.differences("fpr_id_kept")} == {"strong2"}


def test_what_only_some_have_is_left_out_and_told(three: list[Results]) -> None:
    one = replace(three[1], rows=[r for r in three[1].rows if r.set != "b"]).only(["weak"])
    found = offmap.aggregate({"x": three[0], "y": one})
    assert found.detectors == ["weak"]
    assert found.groups == {"near": ["a"], "far": ["c"]}
    assert "left out, as not all have the detector: strong, strong2" in found.table()
    assert "left out, as not all have the OOD set: b" in found.table()


def test_other_samples_under_one_name_are_told(three: list[Results]) -> None:
    moved = evaluated(7, prints="'")
    assert (
        "not the same samples in all of them: id, a, b, c"
        in offmap.aggregate([three[0], moved]).table()
    )
    assert "not the same samples" not in offmap.aggregate(three).table()


def test_what_cannot_be_aggregated_is_refused(three: list[Results]) -> None:
    with pytest.raises(ArgumentError, match="at least one"):
        offmap.aggregate([])
    with pytest.raises(ArgumentError, match="1 and 2 are one evaluation"):
        offmap.aggregate([three[0], evaluated(0)])
    with pytest.raises(ArgumentError, match="share no detector"):
        offmap.aggregate([three[0], evaluated(1, {"other": 1.0})])
    with pytest.raises(UnknownNameError, match="two readings"):
        offmap.aggregate(three).table("fpr95")


def test_one_detector_is_held_against_no_other() -> None:
    found = offmap.aggregate([evaluated(seed, {"alone": 1.0}) for seed in range(3)])
    assert "alone" in found.table()
    for compared in (found.differences_table, found.ranks_table):
        with pytest.raises(ArgumentError, match="there is alone alone"):
            compared()


def test_compare_corrects_for_the_number_of_its_tests() -> None:
    a, b, c = evaluated(0), evaluated(0, {d: g + 0.1 for d, g in GAINS.items()}), evaluated(1)
    found = offmap.compare({"a": a, "b": b, "c": c}).differences
    assert len(found) == 18
    assert [d.corrected for d in found] == holm([d.p_value for d in found])
    table = offmap.compare({"a": a, "b": b, "c": c}).table()
    assert "p of the paired DeLong test, corrected for 18 tests (Holm)" in table


def test_significance_is_corrected_over_all_pairs_of_detectors(three: list[Results]) -> None:
    results = three[0]
    found = Significance(results).against_best(["a"])
    scores = results.scores
    pairs = [("weak", "strong"), ("weak", "strong2"), ("strong", "strong2")]
    p_values = holm(
        [
            delong_test(scores[a]["id"], scores[a]["a"], scores[b]["id"], scores[b]["a"]).p_value
            for a, b in pairs
        ]
    )
    assert found.best == "strong2"
    assert found.pairs == 3
    assert found.p_values == pytest.approx(
        {"strong2": 1.0, "weak": p_values[1], "strong": p_values[2]}
    )
    assert not found.as_good("weak")
    assert found.as_good("strong2")


def test_significance_of_a_mean_shares_the_id_samples(three: list[Results]) -> None:
    scores = three[0].scores
    pair = three[0].only(["weak", "strong"])
    found = Significance(pair).against_best(["a", "b", "c"])
    test = delong_test_of_mean(
        scores["weak"]["id"],
        [scores["weak"][s] for s in "abc"],
        scores["strong"]["id"],
        [scores["strong"][s] for s in "abc"],
    )
    assert found.p_values["weak"] == test.p_value
    low, high = found.intervals["weak"]
    assert low < pair.mean("weak") < high


def test_rows_of_some_samples_are_not_tested_by_the_scores_of_all(three: list[Results]) -> None:
    """Of 300 ID and 200 OOD samples, a ratio of 5:1 leaves out OOD alone."""
    words = "rows of these results are of some of their samples"
    rows = [replace(row, n_id=100) for row in three[0].rows]
    some = replace(three[0], rows=rows), at_ratio(three[0], 5)
    assert {row.n_id for row in some[1].rows} == {len(three[0].scores["weak"]["id"])}
    for results in some:
        with pytest.raises(ArgumentError, match=words):
            Significance(results)
        with pytest.raises(ArgumentError, match=words):
            offmap.compare({"all": three[1], "some": results})


def test_a_table_of_some_samples_says_how_many(three: list[Results]) -> None:
    right = np.arange(len(three[0].scores["weak"]["id"])) < 30
    assert "; 30 ID samples evaluated" in only_correct(three[0], right).table()


def test_saved_results_are_compared_and_averaged_by_a_command(
    three: list[Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, each in enumerate(three):
        each.save(tmp_path / f"seed{i}")
    folders = [str(tmp_path / f"seed{i}") for i in range(3)]
    main_ok(["compare", *folders, "--mean"])
    assert "over 3 networks: seed0, seed1, seed2" in capsys.readouterr().out
    main_ok(["compare", *folders, "--mean", "--metric", "fpr_id_kept", "--format", "latex"])
    out = capsys.readouterr().out
    assert out.startswith("% fpr_id_kept in %, lower is better")
    assert r"\pm" in out
    main_ok(["compare", f"old={folders[0]}", f"new={folders[1]}"])
    assert "== new minus old ==" in capsys.readouterr().out


def main_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert not stopped.value.code


def test_a_terminal_takes_names_that_are_no_text(
    three: list[Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo that could not be read, and whose name is of other bytes than UTF-8, is told."""
    skipped = [[os.fsdecode(b"\xff.png"), "truncated"]]
    for name, each in zip("ab", three, strict=False):
        sets = [replace(info, skipped=skipped) for info in each.sets]
        replace(each, sets=sets).save(tmp_path / name)
    told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr("sys.stdout", told)
    main_ok(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    told.seek(0)
    assert "1 unreadable, first \\xff.png (truncated)" in told.read()
