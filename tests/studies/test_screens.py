"""What a study prints fits on one screen, on real data with their many and long names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import offmap
from offmap.evaluation.collapse import Collapse
from offmap.studies import anchors, collapse
from offmap.studies._anchors_tables import Splits
from offmap.training.records import Records

WIDTH, LINES = 100, 46  # the command adds four: where all tables are, and what was written


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def results_of(sets: dict[str, list[str]], detectors: list[str]) -> offmap.Results:
    """Random scores of 40 samples of each set."""
    draw = np.random.default_rng(0)
    names = [name for of_group in sets.values() for name in of_group]
    every = ["id", "calibration", *names]
    labels = {"id": draw.integers(0, 3, 40)}
    found = offmap.evaluation.of_scores(
        {d: {name: draw.normal(name in names, 1, 40) for name in every} for d in detectors},
        predictions={name: draw.integers(0, 3, 40) for name in every},
        labels=labels,
    )
    group_of = {name: group for group, of_group in sets.items() for name in of_group}
    return replace(found, rows=[replace(row, group=group_of[row.set]) for row in found.rows])


def fits(text: str) -> None:
    lines = text.splitlines()
    assert len(lines) <= LINES, f"{len(lines)} lines\n{text}"
    assert max(map(len, lines)) <= WIDTH, text


@pytest.fixture
def study_b() -> anchors.Study:
    unknown = ["cifar10", "notmnist", "emnist_letters", "omniglot", "fashion_mnist_partial"]
    sets = {"unknown": [*unknown, "noise"], "shifted": ["usps"]}
    every = {"plain": [*anchors.SCORES], "anchors": ["anchordistance", *anchors.SCORES]}
    every["estimated"] = ["anchordistance"]
    auroc = {f"{n} {d}": [0.9, 0.8, 0.85, 0.9, 0.7] for n, of in every.items() for d in of}
    splits = Splits([[1, 3, 4, 5, 7, 9]] * 5, auroc, {"plain": [0.99] * 5, "anchors": [0.98] * 5})
    results = {name: results_of(sets, of) for name, of in every.items()}
    sources = {"plain": "zoo:mnist-plain", "anchors": "zoo:mnist-anchors"}
    return anchors.Study(results, results["plain"].labels["id"], sources, splits)


def test_study_b_fits_with_its_splits(study_b: anchors.Study) -> None:
    text = study_b.summary()
    fits(text)
    for part in ("anchors energy", "decisions on cifar10", "6 known classes"):
        assert part in text
    assert "anchors maxlogit, fixed" not in text
    assert "anchors anchordistance, fixed 0.5" in study_b.report()


def test_the_mean_of_study_b_is_that_of_unknown_images(study_b: anchors.Study) -> None:
    """USPS are digits: to refuse them is no success."""
    text = study_b.summary()
    line = next(x for x in text.split("mean, unknown")[1].splitlines() if "plain energy" in x)
    plain = study_b.results["plain"]
    assert line.split()[-1].rstrip("*") == f"{100 * plain.mean('energy', group='unknown'):.2f}"
    assert plain.mean("energy", group="unknown") != plain.mean("energy")


def test_the_decisions_on_the_screen_are_the_calibrated_ones(study_b: anchors.Study) -> None:
    brief = study_b.summary().split("decisions on cifar10")[1]
    whole = study_b.report().split("decisions on cifar10")[1]
    ours = next(x for x in brief.splitlines() if x.startswith("plain energy"))
    theirs = next(x for x in whole.splitlines() if x.startswith("plain energy, calibrated"))
    assert ours.split()[2:4] == theirs.split("calibrated")[1].split()[1:3]


def test_study_d_fits_with_the_records_of_a_training() -> None:
    sets = {
        "near": ["cifar100", "tiny_imagenet"],
        "far": ["mnist", "textures", "places", "svhn370"],
    }
    every = [name for of_group in sets.values() for name in of_group]
    figures = Collapse(
        n=50000, accuracy=1.0, nc1=0.1, nc2_norms=0.1, nc2_angles=0.1, nc2_simplex=0.1, nc3=0.4,
        nc4=0.0, nc5=dict.fromkeys(every, 0.6), means=None,  # type: ignore[arg-type]
    )  # fmt: skip
    names = ["early", "middle", "last"]
    results = {name: results_of(sets, collapse.RECORDED) for name in names}
    sources = dict.fromkeys(names, "resnet18(width=0.5, dropout=0.5), epoch 20 of 20 (cpu)")
    epochs = [{"epoch": float(n)} | figures.figures() for n in range(1, 12)]
    rows: list[dict[str, Any]] = [
        {"epoch": n, "detector": d, "set": name, "auroc": n / 12}
        for n in range(1, 12)
        for d in collapse.RECORDED
        for name in every
    ]
    of = dict.fromkeys(names, figures)
    text = collapse.Study(results, of, Records(epochs, rows), sources).summary()
    fits(text)
    for part in ("NC5 svhn370", "Spearman", "last vim", "with NC5"):
        assert part in text
