"""Study C on embedded digits: the whole of it, in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import offmap
from offmap.errors import (
    ArgumentError,
    DataError,
    DataNotFoundError,
    ShapeError,
    StoreError,
    UnknownNameError,
)
from offmap.evaluation.cascades import Systems
from offmap.evaluation.subsets import held_out, only_correct
from offmap.networks import Ensemble, digits_cnn
from offmap.studies import disagreement
from offmap.studies._study import Data
from offmap.studies.disagreement import members_of, open_network
from tests.studies.conftest import run_study


@pytest.fixture(scope="module")
def found() -> Data:
    return disagreement.embedded_data()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The command, as a user runs it."""
    out = tmp_path_factory.mktemp("study")
    return out, run_study("disagreement", out)


@pytest.fixture(scope="module")
def results(study: tuple[Path, str]) -> dict[str, offmap.Results]:
    return {n: offmap.Results.load(study[0] / n) for n in ("plain", "disagreement", "single")}


def test_it_reports_both_ensembles_their_difference_and_the_systems(
    study: tuple[Path, str],
) -> None:
    _, text = study
    for part in ("== plain: ensemble(network='digits_cnn(classes=10)', members=2), 3 + 3 epochs",
                 "accuracy of its members: ", "fpr_ood_caught in %", "how sure it is",
                 "against the correctly classified ID images",
                 "disagreement minus plain, mutualinformation", "mean of the sets",
                 "decisions on noise", "cascade minus its filter alone: F1"):  # fmt: skip
        assert part in text, part


def test_results_and_report_say_what_made_them(
    study: tuple[Path, str], results: dict[str, offmap.Results]
) -> None:
    """The name of the ID set held which part of it, unlike that of other studies; no command."""
    command = "offmap study disagreement --budget smoke --seed 0"
    for of_network in results.values():
        assert of_network.settings["id"] == "embedded:digits"
        assert of_network.settings["command"] == command
    assert command in offmap.report(study[0]).text("settings")


def test_how_sure_it_is(study: tuple[Path, str], results: dict[str, offmap.Results]) -> None:
    text = study[1].split("how sure it is")[1]
    line = next(x for x in text.splitlines() if x.startswith("noise")).split()
    scores = results["plain"].scores
    confidence = 1 - scores["maxprobability"]["noise"].astype(float)
    entropy = scores["totalentropy"]["noise"]
    assert line[1] == f"{100 * (confidence > 0.99).mean():.2f}"
    assert line[2:4] == [f"{confidence.mean():.2f}", f"{confidence.std():.2f}"]
    assert line[4:6] == [f"{entropy.mean():.2f}", f"{entropy.std():.2f}"]


def test_the_members_accuracies_are_theirs(
    study: tuple[Path, str], results: dict[str, offmap.Results], found: Data
) -> None:
    out, text = study
    network = open_network("plain", str(out / "plain")).network
    images = offmap.Normalization(per_image=True)(found.test.images)
    own = [member(images).argmax(1) == found.test.labels for member in network.members]
    info = next(s for s in results["plain"].sets if s.role == "id")
    assert info.members == [int(right.sum()) for right in own]
    assert f"accuracy of its members: {info.members[0] / info.n:.2%}, " in text


def test_figures_and_records_are_kept(study: tuple[Path, str]) -> None:
    out, _ = study
    for name in ("plain", "disagreement"):
        for file in ("card.json", "metrics.csv", "curves.png", "scores.parquet", "roc.png",
                     "histograms-totalentropy.png", "histograms-mutualinformation.png",
                     "most_disputed.png"):  # fmt: skip
            assert (out / name / file).stat().st_size > 100, file


def test_thresholds_are_chosen_on_samples_that_are_not_evaluated(
    results: dict[str, offmap.Results], found: Data
) -> None:
    labels = found.test.labels.numpy()
    systems = Systems(results, labels, "noise", 0)
    for own in ("id", "ood"):
        held, rest = (set(getattr(part, own).tolist()) for part in (systems.held, systems.rest))
        assert held.isdisjoint(rest)
    assert len(systems.rest.id) == len(systems.rest.ood)
    test = systems.test()
    best = test.system
    (network,) = best.filter.networks
    scores = results[network].scores[best.filter.detector]
    right = results[best.classifier].predictions["id"] == labels
    kept = scores["id"][systems.rest.id] <= best.threshold
    let_in = scores["noise"][systems.rest.ood] <= best.threshold
    hits = (kept & right[systems.rest.id]).sum()
    f1 = 2 * hits / (kept.sum() + let_in.sum() + len(kept))
    assert test.outcomes[0].selection.f1 == pytest.approx(f1)
    # No other pair does better where the choice was made.
    for of in systems.filters:
        for name in results:
            if (name,) != of.networks:
                assert systems.tuned(of, name).f1 <= best.f1


def test_against_right_answers_alone(results: dict[str, offmap.Results], found: Data) -> None:
    plain = results["plain"]
    right = plain.predictions["id"] == found.test.labels.numpy()
    scores = plain.scores["totalentropy"]
    expected = offmap.metrics.auroc(scores["id"][right], scores["noise"])
    assert only_correct(plain, right).get("totalentropy", "noise") == expected
    with pytest.raises(DataError, match="no ID sample is classified correctly"):
        only_correct(plain, np.zeros_like(right))


def test_saved_ensembles_and_members_skip_training(study: tuple[Path, str], tmp_path: Path) -> None:
    out, text = study
    weights = {"plain": str(out / "plain"), "disagreement": str(out / "disagreement")}
    report = disagreement.run(
        tmp_path, budget="smoke", weights=weights, show_progress=False
    ).report()
    assert not (tmp_path / "start").exists()
    start = "disagreement minus plain, maxprobability"
    assert f"{report[report.index(start) :]}\n" == text[text.index(start) :]


def test_both_ensembles_are_trained_from_a_start_that_is_given(
    study: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = study
    weights = {"start": str(out / "start")}
    found = disagreement.run(tmp_path, budget="smoke", weights=weights, show_progress=False)
    assert not (tmp_path / "start").exists()
    assert found.sources["plain"].endswith("members=2), start + 3 epochs (smoke)")
    for name in ("plain", "disagreement"):
        again, before = (load_file(d / name / "weights.safetensors") for d in (tmp_path, out))
        assert all(torch.equal(again[key], before[key]) for key in before)
    card = json.loads((tmp_path / "plain" / "card.json").read_text())
    assert f"--weights start={out / 'start'}" in card["command"]
    changes = {"network": "ensemble(network='digits_cnn(classes=10)', members=3)"}
    with pytest.raises(StoreError, match="start does not fit Ensemble"):
        disagreement.run(tmp_path / "b", budget="smoke", weights=weights, changes=changes)
    given = {name: str(out / name) for name in ("plain", "disagreement")}
    with pytest.raises(ArgumentError, match="nothing is trained from the start"):
        disagreement.run(tmp_path / "c", budget="smoke", weights=weights | given)


def test_further_networks_are_systems_too(study: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = study
    names = ("plain", "disagreement")
    weights = {name: str(out / name) for name in names} | {"single-start": str(out / "start")}
    found = disagreement.run(tmp_path, budget="smoke", weights=weights, show_progress=False)
    assert list(found.results) == [*names, "single-start"]
    report = found.report()
    assert "== single-start: start ==" in report
    assert report.count("cascade minus its classifier alone: F1") == 3  # one an OOD set


def test_thresholds_are_chosen_at_the_ratio_at_which_they_are_used() -> None:
    held, rest = held_out(1000, 400, seed=1)
    assert len(held.id) == len(held.ood) == 80
    assert len(rest.id) == len(rest.ood) == 320
    assert not set(held.id) & set(rest.id)


def test_what_cannot_be_loaded_is_named(study: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = study
    with pytest.raises(DataNotFoundError, match=r"member 2 of plain: .*members between commas"):
        open_network("plain", f"{out / 'plain'},nowhere")
    torch.save({"x": torch.zeros(1)}, tmp_path / "bad.pt")
    with pytest.raises(StoreError, match="member 1 of plain"):
        open_network("plain", f"{tmp_path / 'bad.pt'},{out / 'plain'}")
    with pytest.raises(UnknownNameError, match="plain, disagreement, start, single"):
        disagreement.run(tmp_path, budget="smoke", weights={"other": "x"})
    with pytest.raises(DataError, match="leaves a part empty"):
        held_out(100, 2)


def test_members_of_different_classes_are_refused() -> None:
    unequal = Ensemble([digits_cnn(classes=3), digits_cnn(classes=4)])
    images = torch.zeros(4, 1, 8, 8)
    with pytest.raises(ShapeError, match="members of an ensemble"):
        offmap.evaluate(
            unequal, id_test=[(images, torch.zeros(4).long())], ood={"x": [images]},
            detectors=["totalentropy"],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "members"),
    [
        ("a", ["a"]),
        ("a@0.5/0.25", ["a@0.5/0.25"]),
        ("a@0.5,0.4,.3/0.2,0.1,1e-1", ["a@0.5,0.4,.3/0.2,0.1,1e-1"]),
        ("a,b", ["a", "b"]),
        ("a@imagenet,b@imagenet", ["a@imagenet", "b@imagenet"]),
        ("a@0.5,0.4/1,1,vgg16:b@0.5,0.4/1,1", ["a@0.5,0.4/1,1", "vgg16:b@0.5,0.4/1,1"]),
        ("zoo:a,runs/b", ["zoo:a", "runs/b"]),
    ],
)
def test_members_stand_between_commas_each_with_its_normalisation(
    spec: str, members: list[str]
) -> None:
    assert members_of(spec) == members


def test_a_file_may_have_commas_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a,b@1").touch()
    assert members_of(str(tmp_path / "a,b@1")) == [str(tmp_path / "a,b@1")]
