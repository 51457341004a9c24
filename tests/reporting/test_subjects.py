"""Reports of other things than one evaluation: what they say is what these hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import offmap
from offmap import plots
from offmap._utils.percent import at_most
from offmap.cli import main
from offmap.errors import ArgumentError, DataError, StoreError
from offmap.evaluation import aggregate
from offmap.guard import Certified
from offmap.metrics import share_interval
from offmap.reporting import Report
from offmap.reporting.redacted import hidden
from offmap.reporting.sections import Figure, Gallery, Table
from tests.reporting.conftest import CLASSES, HOSTILE, SETS, several, write_run


def drawing(report: Report, name: str) -> dict[str, Any]:
    figures = [b for s in report.sections for b in s.blocks if isinstance(b, Figure)]
    (found,) = [figure.drawing for figure in figures if figure.name == name]
    assert found is not None
    return dict(found)


def table(report: Report, section: str, which: int = 0) -> list[list[str]]:
    (part,) = [each for each in report.sections if each.name == section]
    return [list(row) for row in [b for b in part.blocks if isinstance(b, Table)][which].rows]


def words(report: Report, *names: str) -> str:
    return " ".join(report.text(*names).split())


def test_a_guard_says_its_promise_and_what_it_rests_on(guard: offmap.Guard) -> None:
    report = offmap.report(guard)
    calibration = guard.calibration
    assert calibration.promise in words(report, "verdict")
    assert "no ID data can show it" in words(report, "verdict")
    scores = drawing(report, "calibration-0")
    assert sum(scores["counts"][0]) == 400
    assert scores["limit"] == pytest.approx(calibration.threshold, rel=1e-5)
    rows = {row[0]: row for row in table(report, "rates")}
    assert rows["5% (in use)"][5] == "certified, named"
    assert rows["10%"][5] == "certified, named"
    assert rows["20%"][5] == "certified, by the band"
    assert rows["0.1%"][5] == "not for so few samples"
    for rate in (0.05, 0.1, 0.2):
        name = "5% (in use)" if rate == 0.05 else f"{100 * rate:.0f}%"
        at = guard.at(rate).calibration
        rank = int(at.ranks[0])
        assert rows[name][1] == f"{at.threshold:.6g}"
        assert rows[name][2] == f"{rank} of 400"
        assert rows[name][3].removeprefix("at most ") == f"{rank / 401:.2%}"
    sensitive = calibration.sensitivity()
    assert [row[1] for row in table(report, "sensitivity")] == [
        "too few" if row.threshold is None else f"{row.threshold:.6g}" for row in sensitive
    ]


def test_the_folder_of_a_guard_says_the_same(guard: offmap.Guard, tmp_path: Path) -> None:
    guard.save(tmp_path / "guard")
    of_folder, own = offmap.report(tmp_path / "guard"), offmap.report(guard)
    assert of_folder.sections[:-1] == own.sections[:-1]
    assert "4 named classes" in words(of_folder, "settings")


def test_a_guard_without_a_threshold_promises_nothing(guard: offmap.Guard) -> None:
    fresh = offmap.Guard(guard.network, "energy").fit([torch.randn(20, 3, 2, 2)])
    report = offmap.report(fresh)
    assert "promises nothing: calibrate it" in words(report)
    assert [section.name for section in report.sections] == ["verdict", "learned", "settings"]


@pytest.mark.parametrize("rule", ["per_class", "several"])
def test_guards_of_other_rules_are_reported(guard: offmap.Guard, rule: str) -> None:
    names = ["energy", "maxlogit"] if rule == "several" else "energy"
    other = offmap.Guard(guard.network, names).fit([torch.randn(20, 3, 2, 2)])
    held = torch.randn(400, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    other.calibrate([held], 0.1, per_class=rule == "per_class")
    report = offmap.report(other)
    assert {row[1] for row in table(report, "rates")} <= {"of ranks", ""}
    of_a_class = "are those of the class with the fewest samples" in words(report, "rates")
    assert of_a_class == (rule == "per_class")
    held_against = "those of its own predicted class" in words(report, "calibration")
    assert held_against == (rule == "per_class")
    figures = [b for s in report.sections for b in s.blocks if isinstance(b, Figure)]
    assert len(figures) == (2 if rule == "several" else 1)
    assert {figure.drawing["limit"] for figure in figures if figure.drawing} == {None}


def test_a_check_stands_in_the_report_of_its_guard(guard: offmap.Guard) -> None:
    check = guard.check([torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(3))])
    report = offmap.report(guard, checks={"photos/fresh": check})
    (row,) = table(report, "check")
    assert row[:4] == ["photos/fresh", "ID", "50", str(check.alarms)]
    assert row[5] == f"{check.low:.2%} to {check.high:.2%}"
    assert " ".join(str(check).split()) in words(report, "check")
    hidden = offmap.report(guard, checks={"photos/fresh": check}, redact_paths=True)
    assert table(hidden, "check")[0][0] == "data 1"
    absolute = offmap.report(guard, checks={"/data/my photos": check}, redact_paths=True)
    assert f"data 1: {' '.join(str(check).split())}" in words(absolute, "check")
    assert "photos" not in absolute.html()


def test_verdicts_are_counted(verdict: offmap.Verdict, log: Path) -> None:
    report = offmap.report(log)
    alarms = int(verdict.is_ood.sum())
    assert alarms >= 24
    low, high = share_interval(alarms, 120)
    found = words(report, "verdict")
    assert f"{alarms} of 120 samples are called OOD: {alarms / 120:.2%}" in found
    assert f"95% interval {low:.2%} to {high:.2%}" in found
    bins = np.ceil(20 * verdict.p_values.numpy()).astype(int) - 1
    assert drawing(report, "p-values")["counts"] == [np.bincount(bins, minlength=20).tolist()]
    classes = {row[0]: row[1:3] for row in table(report, "classes")}
    labels = verdict.labels
    for label in set(labels.tolist()):
        own = labels == label
        assert classes[str(label)] == [str(int(own.sum())), str(int((own & verdict.is_ood).sum()))]
    assert ["the network's output is not finite", "1"] in table(report, "notes")


def test_verdicts_in_a_log_are_watched(
    guard: offmap.Guard, verdict: offmap.Verdict, log: Path
) -> None:
    monitor = offmap.Monitor(guard)
    monitor.update(verdict)
    report = offmap.report(log)
    path = drawing(report, "wealth")
    assert path["limit"] == pytest.approx(math.log(20), rel=1e-5)
    assert path["lines"][0]["y"][-1] == pytest.approx(monitor.log_wealth, rel=1e-5)
    assert str(monitor).partition(" (")[0] in words(report, "watch")
    assert "of rows that are sorted, by class or by source, it does not hold" in words(report)
    certified = f"at most {at_most(monitor.rates[0])} OOD, with 95% confidence"
    assert certified in words(report, "verdict")


def test_of_several_detectors_p_values_are_not_said_to_be_level() -> None:
    """``k`` times the lowest of ``k`` lies at 1 for a good part of ID samples."""
    for rule, tests, level in (("plain", 1, 1 / 20), ("bonferroni", 3, None)):
        certified = Certified("g", rule, 0.06, (1000,), (20,), tests, True)
        monitor = offmap.Monitor(certified)
        monitor.see(False, 0, 1.0)
        report = offmap.report(monitor)
        assert drawing(report, "p-values")["expected"] == level
        assert ("the bars are level" in words(report, "p-values")) == (tests == 1)
        labels = [line.get_label() for line in plots.watch(monitor).axes[1].lines]
        assert ("if all were ID" in labels) == (tests == 1)


def gallery(report: Report) -> Gallery:
    return next(b for s in report.sections for b in s.blocks if isinstance(b, Gallery))


def test_the_strangest_samples_are_shown(
    verdict: offmap.Verdict, log: Path, pictures: list[str]
) -> None:
    samples = gallery(offmap.report(log)).samples
    assert samples[0].name == pictures[119]  # not finite, so above all scores
    assert samples[0].score is None
    assert samples[0].reason == "the network's output is not finite"
    order = sorted(range(119), key=lambda i: (verdict.p_values[i], -verdict.scores[i]))
    assert [sample.name for sample in samples[1:]] == [pictures[i] for i in order[:23]]
    there = {pictures[i] for i in range(60)}
    assert {s.name for s in samples if s.image} == {s.name for s in samples if s.name in there}
    assert any(sample.image for sample in samples)


def test_verdicts_can_be_sent_without_pictures_and_paths(log: Path, tmp_path: Path) -> None:
    command = "offmap report '/data/secret hideaway/log.jsonl'"
    plain = offmap.report(log, command=command)
    assert "secret hideaway" in plain.html()
    page = tmp_path / "r.html"
    offmap.report(log, page, command=command, redact_paths=True, thumbnails=False)
    for text in (page.read_text(encoding="utf-8"), page.with_suffix(".json").read_text()):
        assert "secret" not in text
        assert "hideaway" not in text
        assert "data:image" not in text
        assert "sample 120" in text


def test_reasons_do_not_name_training_samples_where_keys_are_hidden(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    reason = "said cat; nearest training samples patient 7.png, b.png (from 0.2)"
    row = {"path": "a.png", "label": 0, "score": 1.0, "p_value": 0.01, "is_ood": True}
    path.write_text(json.dumps(row | {"reason": reason}) + "\n")
    assert "patient 7.png" in offmap.report(path).html()
    hidden = offmap.report(path, redact_paths=True)
    assert "patient" not in hidden.html()
    assert gallery(hidden).samples[0].reason.endswith("training samples [keys] (from 0.2)")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_files_of_score_are_reported_with_the_guard_beside_them(
    guard: offmap.Guard,
    pictures: list[str],
    tmp_path: Path,
    suffix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from offmap.guard.files import score_files

    out, page = tmp_path / f"verdicts{suffix}", tmp_path / "page.html"
    summary = score_files(guard, pictures[:40], out, shape=(3, 2, 2), explain=True)
    without = offmap.report(out)
    assert f"{summary.unknown} of 40 samples are called OOD" in words(without, "verdict")
    assert "give the guard beside them" in words(without, "verdict")
    assert "with confidence" in gallery(without).samples[0].reason
    guard.save(tmp_path / "guard")
    with pytest.raises(SystemExit) as ended:
        main(["report", str(out), "--guard", str(tmp_path / "guard"), "--out", str(page)])
    assert not ended.value.code
    assert "was asked for an alarm rate of 5.00%" in " ".join(capsys.readouterr().out.split())
    content = json.loads(page.with_suffix(".json").read_text())
    assert "watch" in [section["name"] for section in content["sections"]]


def test_a_monitor_and_its_state_say_the_same(
    guard: offmap.Guard, verdict: offmap.Verdict, tmp_path: Path
) -> None:
    monitor = offmap.Monitor(guard)
    monitor.update(verdict)
    monitor.save(tmp_path / "state.json")
    report = offmap.report(monitor)
    assert offmap.report(tmp_path / "state.json") == report
    assert " ".join(monitor.explain().split()) in words(report, "verdict")


def test_networks_are_taken_together() -> None:
    together = aggregate(several())
    report = offmap.report(together)
    found = together.ranks()
    drawn = drawing(report, "ranks")
    assert drawn["names"] == sorted(found.mean, key=lambda d: found.mean[d])
    assert drawn["ranks"] == pytest.approx(sorted(found.mean.values()), rel=1e-5)
    assert drawn["difference"] == pytest.approx(found.critical_difference, rel=1e-5)
    best = drawn["names"][0]
    mean = together.values(best, list(SETS)).mean()
    assert f"is that of {best}, {mean:.2%} ±" in words(report, "verdict")
    grid = together.grid().texts()[best]
    cells = next(row for row in table(report, "detectors") if row[0] == best)[1:]
    assert [cell.rstrip(" ★☆") for cell in cells] == grid
    differences = {d.detector: d for d in together.differences()}
    for name, _, p in table(report, "differences"):
        assert p == f"{differences[name].p_value:.2g}"
    first = table(report, "networks", 1)[0]
    values = [f"{100 * r.mean(first[0]):.2f}" for r in together.results.values()]
    assert first[1:] == values


def test_a_study_is_its_networks_side_by_side_and_its_text(tmp_path: Path) -> None:
    """They need not share a detector."""
    networks = {name: results for name, results in several().items() if name != "seed 2"}
    networks["seed 1"] = networks["seed 1"].only(["msp"])
    networks["seed 0"] = networks["seed 0"].only(["weak", HOSTILE])
    for name, results in networks.items():
        results.save(tmp_path / name)
    (tmp_path / "report.txt").write_text("a table\n  as text\n")
    report = offmap.report(tmp_path)
    assert "a table\n  as text" in report.text("tables")
    assert "<pre" in report.html()
    rows = table(report, "detectors")
    means = {f"{n} {d}": r.mean(d) for n, r in networks.items() for d in r.detectors}
    assert [row[0] for row in rows] == sorted(means, key=lambda name: -means[name])
    assert rows[0][-1] == f"{100 * means[rows[0][0]]:.2f} ★"
    best = max(networks["seed 0"].detectors, key=networks["seed 0"].mean)
    assert table(report, "verdict")[0][2:] == [best, f"{100 * means[f'seed 0 {best}']:.2f}"]


def test_several_folders_are_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, results in several().items():
        results.save(tmp_path / name)
    folders = [f"s{i}={tmp_path / name}" for i, name in enumerate(several())]
    with pytest.raises(SystemExit) as ended:
        main(["report", *folders, "--out", str(tmp_path / "all.html")])
    assert not ended.value.code
    assert "over 3 OOD sets and 3 networks" in " ".join(capsys.readouterr().out.split())


def test_a_run_shows_its_curves(tmp_path: Path) -> None:
    write_run(tmp_path)
    report = offmap.report(tmp_path)
    assert "All 3 epochs are done, in 33 s." in words(report, "verdict")
    assert "right on 62.50% of the validation data" in words(report, "verdict")
    assert drawing(report, "accuracy")["lines"][1] == {
        **{"name": "validation", "x": [1, 2, 3], "y": [0.35, 0.55, 0.625]},
    }
    assert ["epochs", "3"] in table(report, "settings")
    assert "secret" not in offmap.report(tmp_path, redact_paths=True).html()


def test_of_a_command_no_word_of_a_quoted_path_is_left(tmp_path: Path) -> None:
    """Words between two spaces, and behind the last one, were."""
    write_run(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    command = (
        "offmap train --recipe '/data/my zebra quagga/an okapi' --set 'start=runs/the best one'"
    )
    (tmp_path / "run.json").write_text(json.dumps(record | {"command": command}))
    report = offmap.report(tmp_path, redact_paths=True)
    hidden = "offmap train --recipe '[path]' --set 'start=[path]'"
    assert table(report, "settings", 2) == [["command", hidden]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("offmap can't read /data/zebra here", "offmap can't read [path] here"),
        ("offmap calls 2 (of 9) OOD", "offmap calls 2 (of 9) OOD"),
        ("offmap fit --data '/data/my zebra'", "offmap fit --data '[path]'"),
    ],
)
def test_words_that_begin_as_a_command_does_are_hidden_too(text: str, shown: str) -> None:
    """The first was taken for a command, and for words, and so on without an end."""
    assert hidden(text) == shown
    assert hidden({"command": text}) == {"command": shown}


def test_networks_of_one_command_share_its_row() -> None:
    networks = several()
    commands = ("offmap study x", "offmap study x", "offmap study y")
    named = {
        name: replace(of, settings=of.settings | {"command": command})
        for (name, of), command in zip(networks.items(), commands, strict=True)
    }
    rows = table(offmap.report(aggregate(named)), "settings")
    assert rows[:2] == [["seed 0, seed 1", "offmap study x"], ["seed 2", "offmap study y"]]


def test_a_loss_that_is_not_finite_leaves_a_gap_in_its_curve(tmp_path: Path) -> None:
    """JSON has no word for it, and the page was refused."""
    write_run(tmp_path)
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(metrics.read_text().replace(",1.1,", ",inf,"))
    report = offmap.report(tmp_path, tmp_path / "report.html")
    train, validation = drawing(report, "loss")["lines"]
    assert (train["x"], validation["x"]) == ([1, 2, 3], [1, 2])
    (figure,) = (b for s in report.sections for b in s.blocks if getattr(b, "name", "") == "loss")
    assert getattr(figure, "text", "").endswith("at the end: train 1.2; validation inf.")


def test_a_history_that_csv_cannot_read_is_told_in_words(tmp_path: Path) -> None:
    """It was an error of the csv module."""
    write_run(tmp_path)
    (tmp_path / "metrics.csv").write_text(f"train_loss\n{'1' * 200_000}\n")
    with pytest.raises(StoreError, match="holds no run that can be read: field larger than"):
        offmap.report(tmp_path)


def test_results_whose_detectors_were_all_left_out(tmp_path: Path) -> None:
    """There is no best of none; a study may have other networks beside such a one."""
    of = {"msp": {"id": np.arange(30.0), "x": np.arange(20.0)}}
    results = offmap.evaluation.of_scores(of)
    empty = replace(results, rows=[], left_out={"vim": "needs training data"})
    with pytest.raises(ArgumentError, match=r"no detector to report on: left out: vim \(needs tr"):
        offmap.report(empty)
    results.save(tmp_path / "plain")
    empty.save(tmp_path / "other")
    rows = table(offmap.report(tmp_path), "verdict")
    assert [row[2] for row in rows] == ["all were left out", "msp"]


def test_a_table_of_an_engine_is_reported(tmp_path: Path) -> None:
    """``Scorer`` calls the p-value ``p``; a score that is not finite is infinite there."""
    columns = {"label": [1, 2], "score": [math.inf, 0.5], "p": [0.01, 0.6], "is_ood": [True, False]}
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    assert "1 of 2 samples are called OOD" in words(
        offmap.report(tmp_path / "v.parquet"), "verdict"
    )
    pq.write_table(pa.table({"is_ood": [True]}), tmp_path / "v.parquet")
    with pytest.raises(DataError, match="have no p-values"):
        offmap.report(tmp_path / "v.parquet")


def test_what_no_report_can_be_made_of_is_refused(tmp_path: Path, guard: offmap.Guard) -> None:
    with pytest.raises(StoreError, match="holds no results, guard, study, run or verdicts"):
        offmap.report(tmp_path)
    with pytest.raises(ArgumentError, match="there is no report of a Linear"):
        offmap.report(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    (tmp_path / "log.jsonl").write_text('{"certified": 3}\n')
    with pytest.raises(StoreError, match="not told what the guard certifies"):
        offmap.report(tmp_path / "log.jsonl")
    (tmp_path / "none.jsonl").write_text('{"is_ood": null, "error": "torn"}\n')
    with pytest.raises(DataError, match="there are no verdicts"):
        offmap.report(tmp_path / "none.jsonl")


def test_what_has_no_effect_is_refused(guard: offmap.Guard, log: Path) -> None:
    results = several()["seed 0"]
    for subject, given in (
        (results, {"guard": guard}),
        (guard, {"inputs": {"id": None}}),
        (log, {"checks": {"fresh": None}}),
        (offmap.Monitor(guard), {"guard": guard}),
    ):
        (name,) = given
        with pytest.raises(ArgumentError, match=f"{name} has no effect on a report of"):
            offmap.report(subject, **given)


def test_hostile_names_stay_texts_in_all_of_them(log: Path) -> None:
    for subject in (log, aggregate(several())):
        html = offmap.report(subject).html()
        assert html.count("<script") == 2
        assert "<i>" not in html
        assert HOSTILE not in html
    assert CLASSES[0] not in offmap.report(log).html()
