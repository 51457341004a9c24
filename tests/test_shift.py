"""ID that has shifted: alarms, full-spectrum figures, accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import offmap
from offmap.errors import ArgumentError, OverlapWarning
from offmap.evaluation import Results
from offmap.evaluation.shift import shift_text
from offmap.evaluation.subsets import at_ratio
from offmap.reporting import report
from tests.test_evaluation import Net, image_set

DETECTORS = ["Energy", "msp", "Mahalanobis"]


def sets() -> dict[str, object]:
    return {
        "train": image_set("train", 240, 0),
        "id_test": image_set("test", 90, 1),
        "calibration": image_set("calibration", 60, 2),
        "ood": {
            "near": {"dim": image_set("dim", 50, 3, 0, 80)},
            "far": {"dark": image_set("dark", 30, 5, 0, 9)},
        },
    }


def shifted() -> dict[str, object]:
    return {"pale": image_set("pale", 70, 6, 60, 200), "grey": image_set("grey", 20, 7, 100, 140)}


@pytest.fixture(scope="module")
def results() -> Results:
    return offmap.evaluate(Net(), detectors=DETECTORS, id_shift=shifted(), **sets())


def slow_auroc(low: np.ndarray, high: np.ndarray) -> float:
    return float(np.mean([[(b > a) + (b == a) / 2 for a in low] for b in high]))


def test_figures_are_those_of_the_pairs(results: Results) -> None:
    assert [s.set for s in results.shifts] == ["pale"] * 3 + ["grey"] * 3 + ["all shifted"] * 3
    for shift in results.shifts:
        scores = {s: x.astype(np.float64) for s, x in results.scores[shift.detector].items()}
        own = ["pale", "grey"] if shift.set == "all shifted" else [shift.set]
        moved = np.concatenate([scores[s] for s in own])
        both = np.concatenate([scores["id"], moved])
        threshold = next(r.threshold for r in results.rows if r.detector == shift.detector)
        assert shift.told_apart == pytest.approx(slow_auroc(scores["id"], moved), abs=1e-12)
        for found, known in ((shift.auroc, scores["id"]), (shift.full_spectrum, both)):
            expected = np.mean([slow_auroc(known, scores[s]) for s in ("dim", "dark")])
            assert found == pytest.approx(expected, abs=1e-12)
        assert shift.alarm == np.mean(moved > threshold)
        assert shift.id_alarm == np.mean(scores["id"] > threshold)
        assert shift.auroc == pytest.approx(results.mean(shift.detector), abs=1e-12)


def test_rows_and_thresholds_are_those_without_shifted_sets(results: Results) -> None:
    plain = offmap.evaluate(Net(), detectors=DETECTORS, **sets())
    assert plain.rows == results.rows
    assert plain.shifts == []
    assert results.groups == {"near": ["dim"], "far": ["dark"]}


def test_accuracy_on_a_shifted_set_is_told(results: Results) -> None:
    data = shifted()["pale"]
    right = int((Net()(data.images.float() / 255).argmax(1) == data.labels).sum())
    info = next(s for s in results.sets if s.name == "pale")
    assert (info.role, info.right, info.n) == ("shift", right, 70)
    assert f"pale: accuracy {right / 70:.2%}" in shift_text(results)


def test_accuracies_stand_with_their_own_sets_where_names_begin_alike(results: Results) -> None:
    names = {"pale": "corrupt:contrast:3", "grey": "corrupt:contrast"}
    infos = [replace(info, name=names.get(info.name, info.name)) for info in results.sets]
    scores = {d: {names.get(s, s): x for s, x in of.items()} for d, of in results.scores.items()}
    blocks = shift_text(replace(results, sets=infos, scores=scores)).split("\n\n")[1:3]
    heads = [block.partition(": accuracy")[0] for block in blocks]
    assert heads == ["corrupt:contrast:3", "corrupt:contrast"]


def test_the_same_after_saving(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path)
    assert Results.load(tmp_path).shifts == results.shifts


def test_rows_of_some_samples_have_no_figures_of_all(results: Results) -> None:
    some = at_ratio(results, 5)
    assert len(some.rows) == len(results.rows)
    with pytest.raises(ArgumentError, match="rows of these results are of some of their samples"):
        _ = some.shifts


def test_without_thresholds_and_labels_the_rest_is_there() -> None:
    data = sets() | {"calibration": None}
    plain = image_set("plain", 30, 8)
    moved = {"plain": [(plain.images, None)]}
    found = offmap.evaluate(Net(), detectors=["Energy"], id_shift=moved, **data)
    (shift,) = found.shifts
    assert (shift.alarm, shift.id_alarm) == (None, None)
    assert "accuracy" not in shift_text(found)
    assert "its alarms" not in shift_text(found)


def test_two_sets_of_one_name_are_refused() -> None:
    with pytest.raises(ArgumentError, match="two data sets are called 'dim'"):
        offmap.evaluate(Net(), id_shift={"dim": image_set("dim", 20, 9)}, **sets())


def test_samples_that_are_in_the_id_set_too_are_told() -> None:
    test = image_set("test", 900, 1)
    other = image_set("other", 900, 11)
    pixels = torch.cat([other.images, test.images[:5]])
    moved = {"moved": offmap.data.ImageSet("moved", pixels)}
    with pytest.warns(OverlapWarning, match="shifted ID set 'moved'"):
        offmap.evaluate(Net(), detectors=["Energy"], id_shift=moved, **(sets() | {"id_test": test}))


def test_the_report_shows_a_table_of_each(results: Results, tmp_path: Path) -> None:
    report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "ID that has shifted" in page
    assert "all shifted" in page
    plain = offmap.evaluate(Net(), detectors=DETECTORS, **sets())
    report(plain, tmp_path / "plain.html")
    assert "ID that has shifted" not in (tmp_path / "plain.html").read_text()
