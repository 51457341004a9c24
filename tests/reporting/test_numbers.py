"""The numbers that the page moves are those that Python computes."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import offmap
from offmap.evaluation import Results, Row, SetInfo
from offmap.evaluation.significance import Significance
from offmap.guard.decide import alarm_rank, alarm_threshold
from offmap.guard.simultaneous import simultaneous_limits
from offmap.metrics import (
    accepted_and_right,
    detection,
    reliability,
    risk_coverage,
    roc_curve,
    share_interval,
)
from offmap.reporting.figures import histograms
from offmap.reporting.page import script
from tests.reporting.conftest import HOSTILE, RATE, SETS, evaluated

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="its script runs where node is installed")


@pytest.fixture(scope="module")
def data(results: Results) -> dict[str, Any]:
    """The data as they stand in the page."""
    html = offmap.report(results).html()
    text = html.partition('id="data">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def right_of(results: Results) -> Any:
    return results.predictions["id"] == results.labels["id"]


def test_the_embedded_counts_are_those_of_the_metrics(
    results: Results, data: dict[str, Any]
) -> None:
    rates = data["rates"]["rates"]
    assert rates[data["rates"]["start"]] == RATE
    assert len(rates) > 50
    assert min(rates) >= 1 / 151
    for d, name in enumerate(data["detectors"]):
        scores, curve = results.scores[name], data["rates"]["curves"][d]
        for p in [0, 3, data["rates"]["start"], len(rates) // 2, len(rates) - 1]:
            threshold = alarm_threshold(scores["calibration"], rates[p])
            assert curve["thresholds"][p] == pytest.approx(threshold, rel=1e-5)
            for s, of in enumerate(SETS):
                found = accepted_and_right(
                    scores["id"], right_of(results), scores[of], threshold=threshold
                )
                accepted_ood = 120 - curve["caught"][s][p]
                assert curve["right"][p] == found.right
                assert curve["accepted"][p] + accepted_ood == found.accepted


def test_at_its_own_rate_they_are_those_of_the_rows(results: Results, data: dict[str, Any]) -> None:
    start = data["rates"]["start"]
    for row in results.rows:
        curve = data["rates"]["curves"][data["detectors"].index(row.detector)]
        assert 1 - curve["accepted"][start] / 300 == pytest.approx(row.id_alarm)
        caught = curve["caught"][list(SETS).index(row.set)][start]
        assert caught / 120 == pytest.approx(row.ood_caught)


def test_the_bound_for_all_positions_at_once_holds() -> None:
    """Of 400 calibration sets, in at most 5% any position's true alarm rate is above its bound."""
    rng = np.random.default_rng(0)
    rates = offmap.report(evaluated()).data["rates"]
    n, failures = 150, 0
    ranks = np.array([alarm_rank(n, rate) for rate in rates["rates"]])
    for _ in range(400):
        calibration = np.sort(rng.uniform(size=n))  # so the true alarm rate above t is 1 - t
        failures += bool((1 - calibration[n - ranks] > np.array(rates["bounds"])).any())
    assert failures / 400 <= 0.05 + 3 * sqrt(0.05 * 0.95 / 400)


def test_without_calibration_data_thresholds_come_from_the_id_samples() -> None:
    results = evaluated(labels=False, calibration=False)
    rates = offmap.report(results).data["rates"]
    assert not rates["calibrated"]
    assert rates["n"] == 300
    curve, p = rates["curves"][0], rates["start"]
    threshold = alarm_threshold(results.scores[HOSTILE]["id"], rates["rates"][p])
    assert curve["accepted"][p] == (results.scores[HOSTILE]["id"] <= threshold).sum()
    assert curve["right"] is None


def test_the_drawings_are_of_the_metrics(results: Results, data: dict[str, Any]) -> None:
    weak = data["detectors"].index("weak")
    scores = results.scores["weak"]
    for s, name in enumerate(SETS):
        curve = roc_curve(scores["id"], scores[name])
        fpr, tpr = data["roc"][weak][s]
        assert np.interp(fpr, curve.fpr, curve.tpr) == pytest.approx(tpr, abs=0.05)
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    risk = risk_coverage(scores["id"], right_of(results))
    assert data["risk"][weak][1][-1] == pytest.approx(risk.risk[-1], abs=1e-4)
    for s, name in enumerate(SETS):
        of = data["histograms"][weak][s]
        edges = np.linspace(of["low"], of["high"], 41)
        for counts, key in zip(of["counts"], ("id", name), strict=True):
            values = np.clip(scores[key].astype(float), of["low"], of["high"])
            assert counts == np.histogram(values, edges)[0].tolist()


def test_far_scores_leave_id_its_bars() -> None:
    """OOD a thousand times as far is in the last bar, and ID is spread over a sixth of them."""
    results = evaluated()
    known = results.scores[HOSTILE]["id"]
    scores = {HOSTILE: results.scores[HOSTILE] | {"plain": 1000 + results.scores["weak"]["plain"]}}
    (of,) = histograms(replace(results, scores=scores), HOSTILE, ["plain"])
    assert of["counts"][1] == [0] * 39 + [120]
    first, last = np.quantile(known, [0.002, 0.998])
    assert of["low"] == pytest.approx(first, rel=1e-5)
    assert of["high"] == pytest.approx(first + 6 * (last - first), rel=1e-5)
    assert sum(count > 0 for count in of["counts"][0]) >= 6


def test_calibration_is_that_of_the_confidence(results: Results, data: dict[str, Any]) -> None:
    found = reliability(1 - results.scores["msp"]["id"], right_of(results))
    assert data["reliability"]["ece"] == pytest.approx(found.ece)
    assert sum(data["reliability"]["count"]) == 300


def test_a_users_score_called_msp_is_no_confidence(results: Results) -> None:
    assert offmap.report(replace(results, summaries={})).data["reliability"] is None


def test_of_a_cascade_confidence_and_answers_are_of_two_networks(results: Results) -> None:
    """The scores are the filter's, and the predictions the classifier's."""
    cascade = results.settings | {"classifier": {"network": "Other"}}
    assert offmap.report(replace(results, settings=cascade)).data["reliability"] is None


def test_marks_of_the_table_are_the_corrected_tests(results: Results, data: dict[str, Any]) -> None:
    tests = Significance(results)
    for i, sets in enumerate([[name] for name in SETS]):
        against = tests.against_best(sets)
        for d, name in enumerate(data["detectors"]):
            alike = name != against.best and against.p_values[name] >= 0.05
            assert data["as_good"][d][i] == alike
            p = None if name == against.best else f"{against.p_values[name]:.2g}"
            assert data["p_values"][d][i] == p
            assert data["intervals"][d][i] == pytest.approx(against.intervals[name], abs=1e-5)


def run_script(data: dict[str, Any], steps: list[Any], folder: Path) -> dict[str, Any]:
    """What the page shows at first and after each step, and all that its functions say."""
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "script.js").write_text(script())
    here = Path(__file__).with_name("fake_page.js")
    done = subprocess.run(
        [str(NODE), str(here), str(folder / "script.js"), str(folder / "data.json")],
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_node
def test_the_script_computes_what_python_does(
    results: Results, data: dict[str, Any], tmp_path: Path
) -> None:
    found = run_script(data, [], tmp_path)
    rates = data["rates"]["rates"]
    for d, name in enumerate(data["detectors"]):
        scores = results.scores[name]
        for p in range(0, len(rates), 7):
            threshold = alarm_threshold(scores["calibration"], rates[p])
            now = found["every"][d][p]
            assert now["bound"] == simultaneous_limits(150, 0.05)[alarm_rank(150, rates[p]) - 1]
            for one, of in zip(now["sets"], SETS, strict=True):
                expected = accepted_and_right(
                    scores["id"], right_of(results), scores[of], threshold=threshold
                )
                assert one["f1"] == pytest.approx(expected.f1)
                assert one["precision"] == pytest.approx(expected.precision)
                exact = share_interval(one["caught"], 120)  # as `offmap check` says
                assert one["interval"] == pytest.approx(exact)
    shares = [(0, 9), (9, 9), (3, 70), (0, 1), (1, 1), (1, 10**6), (26032, 26032), (25000, 50000)]
    for interval, share in zip(found["intervals"], shares, strict=True):
        assert interval == pytest.approx(share_interval(*share), rel=1e-8)
    assert found["order"] == [[1, 0, 2], [0, 2, 1]]


@needs_node
def test_the_page_follows_the_slider_the_menus_and_the_headings(
    results: Results, data: dict[str, Any], tmp_path: Path
) -> None:
    weak, last = data["detectors"].index("weak"), len(data["rates"]["rates"]) - 1
    fpr = [m["low"] for m in data["metrics"]].index(True)
    steps = [["rate", last], ["detector", weak], ["sort", 3], ["sort", 3], ["metric", fpr]]
    pages = run_script(data, [*steps, ["curve", weak]], tmp_path)["pages"]
    at_first, moved, other, sorted_, turned, low, fewer = pages
    start = data["rates"]["start"]
    best = data["rates"]["curves"][data["best"]]
    assert "At a rate of 5.00%" in at_first["words"]
    ends = data["intervals"][weak][0]
    cell = f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}; p = {data['p_values'][weak][0]}"

    assert next(row for row in sorted_["table"] if row[0] == "weak")[1].endswith(cell)
    assert at_first["sets"][0][0] == HOSTILE
    for page, p in ((at_first, start), (moved, last)):
        for s, row in enumerate(page["sets"]):
            assert row[2] == f"{100 * best['caught'][s][p] / 120:.1f}%"
        assert page["ids"][0][1] == str(best["right"][p])
        assert page["ids"][2][1] == str(300 - best["accepted"][p])
    assert "95% confidence, for all positions of this detector at once" in moved["words"]
    assert other["words"].startswith("At a rate of 50.00%, weak keeps")
    names = [row[0] for row in sorted_["table"]]
    values = {d: results.get(d, "plain") for d in results.detectors}
    assert names == sorted(values, key=lambda d: -values[d])
    assert [row[0] for row in turned["table"]] == names[::-1]
    assert (sorted_["sorted"][3], turned["sorted"][3]) == ("descending", "ascending")
    assert "FPR@95TPR" in low["caption"]
    assert sorted_["drawings"] == {
        **{"menu": 0, "alarm": 0, "histograms": 3, "roc": 3, "risk": 1, "oscr": 3},
        "reliability": 1,
    }
    assert "weak: AUROC" in at_first["labels"][0]
    assert "weak: AUROC" not in fewer["labels"][0]


@needs_node
def test_the_page_shows_the_figures_of_the_tables(results: Results, tmp_path: Path) -> None:
    """Shares of 800 samples lie halfway between two figures, and others close to it."""
    values = [481 / 800, 483 / 800, 489 / 800, 497 / 800, 0.912349997, 0.876549996, 0.5, 1.0, 0.25]
    rows = [replace(row, auroc=x) for row, x in zip(results.rows, values, strict=True)]
    changed = replace(results, rows=rows)
    (page,) = run_script(offmap.report(changed).data, [], tmp_path)["pages"]
    found = {row[0]: row[1:] for row in page["table"]}
    for detector, texts in changed.grid().texts().items():
        for cell, text in zip(found[detector], texts, strict=True):
            assert cell.startswith(text)


@needs_node
def test_limits_are_rounded_up_and_rates_stay_as_they_were_typed(tmp_path: Path) -> None:
    """A limit of 0.149% is not "at most 0.1%", and a rate of 0.025% is neither 0.03% nor 0.02%."""
    rng = np.random.default_rng(0)
    of = {"id": rng.normal(size=50), "x": rng.normal(size=20), "calibration": rng.normal(size=8000)}
    results = offmap.evaluation.of_scores({"a": of}, alarm_rate=0.00025)
    report = offmap.report(results)
    words = run_script(report.data, [], tmp_path)["pages"][0]["words"]
    rates = report.data["rates"]
    assert "At a rate of 0.025%, " in words
    bound = rates["bounds"][rates["start"]]
    told = float(
        words.partition("for all positions of this detector at once, at most ")[2].split("%")[0]
    )
    assert bound <= told / 100 < 1.1 * bound
    assert "at most 0.025% OOD, on average" in " ".join(report.text("verdict").split())


@needs_node
def test_scores_that_differ_in_late_digits_are_told_apart(tmp_path: Path) -> None:
    """Cosines of a collapsed network lie within 1e-7 of minus one."""
    rng = np.random.default_rng(0)
    sizes = {"id": (80, 0), "x": (40, 1), "calibration": (80, 0)}
    of = {name: -1 + 1e-8 * rng.normal(at, 1, n) for name, (n, at) in sizes.items()}
    report = offmap.report(offmap.evaluation.of_scores({"ctm": of}))
    (drawn,) = report.data["histograms"][0]
    assert drawn["low"] < drawn["high"]
    rates = report.data["rates"]
    (curve,), start = rates["curves"], rates["start"]
    assert drawn["low"] < curve["thresholds"][start] < drawn["high"]
    (page,) = run_script(report.data, [], tmp_path)["pages"]
    told = float(page["words"].partition("its threshold is ")[2].split(" ")[0].rstrip("."))
    assert (of["id"] <= told).sum() == curve["accepted"][start]


@needs_node
def test_the_page_runs_without_labels_and_calibration_data(tmp_path: Path) -> None:
    report = offmap.report(evaluated(labels=False, calibration=False))
    (page,) = run_script(report.data, [], tmp_path)["pages"]
    assert "for all positions" not in page["words"]
    assert [row[0] for row in page["ids"]] == ["accepted", "called OOD"]
    assert page["drawings"]["risk"] == page["drawings"]["reliability"] == 0


@pytest.mark.parametrize(
    ("scores", "n_ood"),
    [(np.zeros, 40), (np.arange, 1), (lambda n: 1e300 * np.arange(n), 40)],
    ids=["all equal", "one OOD sample", "huge"],
)
@needs_node
def test_scores_of_any_kind_make_a_report(scores: Any, n_ood: int, tmp_path: Path) -> None:
    """One detector on one set, whose scores are as odd as metrics allow."""
    of = {"id": scores(60) * 1.0, "only": scores(n_ood) * 1.0, "calibration": scores(30) * 1.0}
    figures = detection(of["id"], of["only"]).__dict__
    rows = [Row(detector="odd", set="only", group="ood", **figures)]
    sets = [SetInfo(name="id", role="id", n=60), SetInfo(name="only", role="ood", n=n_ood)]
    report = offmap.report(Results(rows=rows, scores={"odd": of}, sets=sets))
    assert "The one detector is odd." in report.text("verdict")
    (page,) = run_script(report.data, [], tmp_path)["pages"]
    assert page["sets"][0][0] == "only"
    assert "NaN" not in json.dumps(page)
    json.dumps(report.record(), allow_nan=False)
