"""Study B on embedded digits: the whole of it, in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import offmap
from offmap import data
from offmap.errors import ArgumentError, DataNotFoundError, LabelError, UnknownNameError
from offmap.networks import AnchorHead, build, digits_cnn
from offmap.studies import _anchors_data, anchors
from offmap.studies._anchors_data import PROTOCOLS, embedded_data
from offmap.studies._study import Data
from offmap.training import with_estimated_anchors
from tests.studies.conftest import run_study

FIGURES = ("confusion-plain", "confusion-open", "confusion-binary", "known", "unknown", "mixed",
           "oscr", "places")  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Data:
    return embedded_data()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The command, as a user runs it."""
    out = tmp_path_factory.mktemp("study")
    return out, run_study("anchors", out)


def test_it_prints_decisions_and_splits(study: tuple[Path, str]) -> None:
    _, text = study
    for heading in ("== plain: digits_cnn(classes=10), 5 + 5 epochs (smoke) ==", "== estimated: ",
                    "decisions on faces", "anchors anchordistance, fixed 0.5",
                    "6 known classes"):  # fmt: skip
        assert heading in text


def test_the_printed_decisions_are_those_of_the_scores(
    study: tuple[Path, str], found: Data
) -> None:
    out, text = study
    labels = found.test.labels.numpy()
    results = offmap.Results.load(out / "anchors")
    scores = results.scores["anchordistance"]
    threshold = offmap.alarm_threshold(torch.tensor(scores["calibration"]), 0.05)
    known = scores["id"] <= threshold
    refused = scores["noise"] > threshold
    right = known & (results.predictions["id"] == labels)
    accuracy = (right.sum() + refused.sum()) / (len(known) + len(refused))
    line = next(
        x for x in text.split("decisions on noise")[1].splitlines()
        if x.startswith("anchors anchordistance, calibrated")
    )  # fmt: skip
    shown = line.split("calibrated")[1].split()
    assert shown[0] == f"{threshold:.3g}"
    assert shown[1:4] == [f"{100 * x:.2f}" for x in (known.mean(), refused.mean(), accuracy)]


def test_the_plain_and_the_anchor_network_start_from_the_same_weights(
    study: tuple[Path, str],
) -> None:
    out, _ = study
    files = [load_file(out / n / "weights.safetensors") for n in ("start", "plain", "anchors")]
    shapes = [{k.removeprefix("network."): x.shape for k, x in file.items()} for file in files]
    assert shapes[0] == shapes[1]
    assert shapes[0].items() <= shapes[2].items()
    assert all((out / n / "metrics.csv").read_text().count("\n") == 6 for n in ("plain", "anchors"))


def test_the_saved_guard_gives_the_studys_verdicts(study: tuple[Path, str], found: Data) -> None:
    out, _ = study
    guard = offmap.load(out / "guard", build("anchor_head(network='digits_cnn(classes=10)')"))
    images = found.ood["unknown"]["noise"].images
    results = offmap.Results.load(out / "anchors")
    verdict = guard(images)
    threshold = results.get("anchordistance", "noise", "threshold")
    assert np.allclose(verdict.scores, results.scores["anchordistance"]["noise"], rtol=1e-4)
    assert guard.calibration.threshold == pytest.approx(threshold, rel=1e-4)
    assert float(verdict.is_ood.double().mean()) == pytest.approx(
        results.get("anchordistance", "noise", "ood_caught"), abs=0.01
    )


def test_everything_is_kept(study: tuple[Path, str]) -> None:
    out, _ = study
    assert all((out / f"{name}.png").stat().st_size > 1000 for name in FIGURES)
    for name in ("plain", "anchors"):
        for file in ("card.json", "run.json", "curves.png", "results.json", "scores.parquet"):
            assert (out / name / file).stat().st_size > 100, file


def test_weights_at_hand_are_not_trained_again(study: tuple[Path, str], tmp_path: Path) -> None:
    out, text = study
    given = {name: str(out / name) for name in ("plain", "anchors")}
    found = anchors.run(
        tmp_path, budget="smoke", weights=given, splits=0, show_progress=False
    ).report()
    assert not (tmp_path / "start").exists()
    with pytest.raises(ArgumentError, match="DigitsCNN, whose logits are no distances"):
        anchors.run(tmp_path, budget="smoke", weights=given | {"anchors": given["plain"]})
    ours, theirs = (x.split("decisions on faces")[1].split("6 known")[0] for x in (found, text))
    assert ours.strip() == theirs.strip()


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"nowhere: give zoo:NAME"):
        anchors.run(tmp_path, budget="smoke", weights={"plain": "nowhere"})
    with pytest.raises(UnknownNameError, match="plain, anchors"):
        anchors.run(tmp_path, budget="smoke", weights={"pixmix": "x"})
    with pytest.raises(UnknownNameError, match="no budget"):
        anchors.run(tmp_path, budget="quick")
    with pytest.raises(UnknownNameError, match="no ID set 'cifar': there are mnist, cifar10"):
        anchors.run(tmp_path, id="cifar")
    with pytest.raises(ArgumentError, match="digits, which are embedded; seen mnist"):
        anchors.run(tmp_path, id="mnist", budget="smoke")
    assert not list(tmp_path.iterdir())


def test_estimated_anchors_are_means_of_the_samples_that_are_answered_rightly() -> None:
    torch.manual_seed(0)
    digits = data.embedded("digits", limit=300)
    network = AnchorHead(digits_cnn(classes=10), magnitude=0.05).eval()
    with pytest.warns(UserWarning, match=r"no sample of classes \["):
        moved = with_estimated_anchors(network, digits, show_progress=False, batch_size=70)
    with torch.no_grad():
        z = network.place(digits.images.float() / 255).double().numpy()
    anchors_ = network.anchors.double().numpy()
    answers = np.array([np.argmin(((row - anchors_) ** 2).sum(1)) for row in z])
    kept = 0
    for j in range(10):
        rows = z[(digits.labels.numpy() == j) & (answers == j)]
        kept += len(rows) == 0
        expected = rows.mean(0) if len(rows) else anchors_[j]
        assert np.allclose(moved.anchors[j], expected, atol=1e-5)
    assert 0 < kept < 10
    assert torch.equal(network.anchors, 0.05 * torch.eye(10))
    with pytest.raises(LabelError, match="no labels"):
        with_estimated_anchors(network, [digits.images], show_progress=False)


def test_fewer_splits_than_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="splits must be a whole number of at least 0; seen -1"):
        anchors.run(tmp_path, budget="smoke", splits=-1)


@pytest.mark.parametrize("seed", range(5))
def test_vehicles_of_cifar10_are_known_and_four_animals_are_not(seed: int) -> None:
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    known, others = ([names[i] for i in part] for part in PROTOCOLS["cifar10"].split(seed))
    assert {"airplane", "automobile", "ship", "truck"} < set(known)
    assert len(others) == 4
    assert sorted(known + others) == names


def test_classes_that_are_always_known_make_the_main_part_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = replace(_anchors_data._DIGITS, always=(0, 1, 8, 9), drawn=(2, 3, 4, 5, 6, 7), ten=False)
    monkeypatch.setattr(_anchors_data, "_DIGITS", some)
    known, others = some.split(3)
    study = anchors.run(
        tmp_path, budget="smoke", seed=3, splits=1, changes={"epochs": 1}, show_progress=False
    )
    digits = embedded_data(3).test
    of_set = {info.name: info.n for info in study.results["plain"].sets}
    assert of_set["id"] == sum(int((digits.labels == c).sum()) for c in known)
    assert of_set["others"] == sum(int((digits.labels == c).sum()) for c in others)
    folders = {"".join(map(str, some.split(seed)[0])) for seed in (0, 3)}
    assert {folder.name for folder in (tmp_path / "splits").iterdir()} == folders
    assert study.splits is not None
    assert study.splits.known == [some.split(0)[0]]
    assert sorted(study.labels.tolist()) == sorted(
        known.index(c) for c in digits.labels.tolist() if c in known
    )


@pytest.mark.parametrize(("name", "count"), [("mnist", 15), ("cifar10", 15)])
def test_no_split_counts_twice(name: str, count: int) -> None:
    """A mean and a deviation over splits take them for different ones."""
    how = PROTOCOLS[name]
    seeds = how.seeds(count)
    assert seeds[:5] == list(range(5))  # those of the published tables
    assert len({tuple(how.split(seed)[0]) for seed in seeds}) == count


def test_more_splits_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="these classes have 15 splits, and 16 were asked for"):
        anchors.run(tmp_path, id="cifar10", splits=16)
    assert not list(tmp_path.iterdir())


def test_a_bare_file_is_normalised_as_the_budget_trains() -> None:
    for budget, normalization in (("smoke", "0.305/0.376"), ("cpu", "mnist")):
        how = _anchors_data.protocol_of(None, budget)
        assert anchors.checkpoint(how, "plain", budget).normalization == normalization
