"""Study D on embedded digits: a network that collapses, in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import offmap
from offmap.errors import ArgumentError, DataError, DataNotFoundError, UnknownNameError
from offmap.evaluation.collapse import cosines
from offmap.studies import collapse
from offmap.studies._collapse_tables import RECORDED, TERMINAL, relation, spearman, terminal
from offmap.training import recipe
from offmap.training.recording import record_run
from offmap.training.records import Records
from tests.studies.conftest import run_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The command, as a user runs it."""
    out = tmp_path_factory.mktemp("study")
    return out, run_study("collapse", out)


@pytest.fixture(scope="module")
def records(study: tuple[Path, str]) -> Records:
    return Records.read(study[0] / "records")


def test_the_network_collapses(records: Records) -> None:
    right = np.flatnonzero(records.of("accuracy") >= TERMINAL)
    nc1 = records.of("nc1")
    assert len(right) >= len(nc1) / 3
    assert nc1[right[0]] / nc1[-1] >= 3
    last = len(nc1) * 2 // 3
    assert spearman(np.array(records.epochs[last:]), nc1[last:]) <= -0.8
    assert records.of("nc4")[-1] < 0.01
    assert records.of("test_accuracy")[-1] > 0.95


def test_it_reports_records_and_networks(study: tuple[Path, str], records: Records) -> None:
    _, text = study
    for part in ("NC2 simplex", "from there NC1 falls", "rank correlation with NC1",
                 "== early: wrn10_1(classes=10), epoch 1 of 30 (smoke) ==", "== middle: ",
                 "NECO(dim=9)", "NECO(times_max_logit=False)", "NC5 faces"):  # fmt: skip
        assert part in text, part
    line = next(x for x in text.splitlines() if x.startswith("30 ")).split()
    row = records.collapse[-1]
    assert line[1:4] == [
        f"{100 * row['accuracy']:.4f}", f"{100 * row['test_accuracy']:.4f}", f"{row['nc1']:.4f}"
    ]  # fmt: skip


def test_the_last_network_is_that_of_the_last_record(
    study: tuple[Path, str], records: Records
) -> None:
    results = offmap.Results.load(study[0] / "last")
    right, samples = results.accuracy or (0, 0)
    assert right / samples == pytest.approx(records.collapse[-1]["test_accuracy"])
    for name in RECORDED:
        assert results.mean(name) == pytest.approx(records.auroc(name)[-1], abs=1e-6)


def test_figures_and_records_are_kept_and_activations_are_not(study: tuple[Path, str]) -> None:
    out, _ = study
    for file in ("records/collapse.png", "records/auroc.png", "cosines.png",
                 "early/plane.png", "last/plane.png",
                 "records/collapse.csv", "records/ood.csv", "run/curves.png", "run/card.json",
                 "run/epochs/0014.safetensors", "middle/scores.parquet"):  # fmt: skip
        assert (out / file).stat().st_size > 100, file
    assert not (out / "activations").exists()


def test_the_card_says_how_to_train_it_again(study: tuple[Path, str]) -> None:
    card = json.loads((study[0] / "run/card.json").read_text())
    assert card["command"] == "offmap study collapse --id digits --budget smoke --seed 0"


def test_networks_at_hand_are_not_trained_again(study: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = study
    weights = {"first": str(out / "run/epochs/0001.safetensors"), "end": str(out / "run")}
    found = collapse.run(tmp_path, budget="smoke", weights=weights, show_progress=False)
    assert found.records is None
    assert list(found.results) == ["first", "end"]
    assert not (tmp_path / "run").exists()
    known = offmap.Results.load(out / "last")
    assert found.results["end"].get("vim", "faces") == pytest.approx(known.get("vim", "faces"))
    assert found.collapse["end"].nc1 < found.collapse["first"].nc1 / 3
    assert "== end: run ==" in found.report()


def test_the_command_measures_a_run_afterwards(study: tuple[Path, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offmap", "collapse", str(study[0] / "run")]
    options = ["--ood", "embedded:faces", "noise:gaussian", "--detectors", "msp", "vim"]
    done = subprocess.run(
        [*command, *options, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = Records.read(tmp_path)
    assert found.epochs[:3] == [1, 2, 4]
    assert found.detectors == ["msp", "vim"]
    assert found.sets == ["embedded:faces", "noise:gaussian"]
    assert "NC5" in done.stdout
    assert (tmp_path / "auroc.png").exists()


def test_without_ood_sets_there_are_nc1_to_nc4_and_accuracy(
    study: tuple[Path, str], tmp_path: Path, records: Records
) -> None:
    found = record_run(study[0] / "run", out=tmp_path)
    assert not found.ood
    for name in ("nc1", "nc4", "accuracy", "test_accuracy"):
        assert found.of(name) == pytest.approx(records.of(name)), name


def test_data_that_the_run_has_not_seen_are_refused(
    study: tuple[Path, str], tmp_path: Path
) -> None:
    content = (study[0] / "run/run.json").read_text()
    (tmp_path / "run.json").write_text(content.replace('"holdout": 0.4', '"holdout": 0.2'))
    (tmp_path / "weights.safetensors").write_bytes(
        (study[0] / "run/weights.safetensors").read_bytes()
    )
    with pytest.raises(DataError, match="began with other train data"):
        record_run(tmp_path)


@pytest.mark.filterwarnings("ignore:KNN")  # few samples of each class
def test_a_limit_takes_so_many_of_each_set(study: tuple[Path, str], tmp_path: Path) -> None:
    weights = {"end": str(study[0] / "run")}
    found = collapse.run(tmp_path, budget="smoke", weights=weights, limit=150, show_progress=False)
    assert found.collapse["end"].n == 150
    sizes = {info.name: info.n for info in found.results["end"].sets}
    assert sizes["train"] == sizes["id"] == sizes["noise"] == max(sizes.values()) == 150
    assert "end: run; at most 150 images of each set" in found.summary()
    with pytest.raises(ArgumentError, match="limit must be a whole number of at least 1"):
        collapse.run(tmp_path, budget="smoke", weights=weights, limit=0)
    with pytest.raises(ArgumentError, match="name them as weights"):
        collapse.run(tmp_path, budget="smoke", limit=150)


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no ID set 'mnist'"):
        collapse.run(tmp_path, id="mnist")
    with pytest.raises(ArgumentError, match="smoke budget is for digits"):
        collapse.run(tmp_path, id="cifar10", budget="smoke")
    with pytest.raises(DataNotFoundError, match="give zoo:NAME"):
        collapse.run(tmp_path, budget="smoke", weights={"mine": "nowhere"}, show_progress=False)


def rows(**columns: list[float]) -> Records:
    return Records(
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], []
    )


def test_the_terminal_phase_starts_where_all_is_right() -> None:
    same = {name: [4.0, 3.0, 2.0, 1.0] for name in
            ("nc2_norms", "nc2_angles", "nc2_simplex", "nc3", "nc5_a", "nc1")}  # fmt: skip
    low = {"epoch": [1, 2, 3, 6], "nc4": [0.1, 0.02, 0.01, 0.005]}
    found = terminal(rows(accuracy=[0.5, 0.9991, 0.998, 1.0], **low, **same))
    assert "is 99.91% in epoch 2; from there NC1 falls 3.0 times, from 3 to 1" in found
    assert "last third, 1 records: training accuracy 100.00% and more, NC4 0.50% and less" in found
    assert "stays below 99.9%: 99.80% at the most" in terminal(
        rows(accuracy=[0.5, 0.99, 0.998, 0.99], **low, **same)
    )


def test_ranks_against_collapse() -> None:
    lines = [
        {"epoch": epoch, "detector": "msp", "set": name, "auroc": auroc}
        for epoch, name, auroc in ((1, "a", 0.9), (1, "b", 0.7), (2, "a", 0.7), (2, "b", 0.5))
    ]
    figures = [{"epoch": 1, "nc1": 2.0, "nc5_a": 1.0}, {"epoch": 2, "nc1": 1.0, "nc5_a": 3.0}]
    found = Records(figures, lines)
    assert found.auroc("msp").tolist() == pytest.approx([0.8, 0.6])
    line = relation(found).splitlines()[-1].split()
    assert line == ["msp", "80.00", "80.00", "60.00", "1.00", "-1.00"]
    assert np.isnan(spearman(np.ones(3), np.arange(3.0)))


def test_cosines_are_those_of_the_centred_means() -> None:
    means = np.random.default_rng(0).normal(size=(4, 6))
    about = means - means.mean(0)
    about /= np.linalg.norm(about, axis=1, keepdims=True)
    assert np.allclose(cosines(torch.tensor(means)).numpy(), about @ about.T)


def test_the_full_budget_is_that_of_the_study() -> None:
    of = recipe("collapse_cifar100", budget="full")
    assert (of.epochs, of.momentum, of.weight_decay, of.schedule) == (200, 0.95, 5e-4, "milestones")
    assert (of.crop, of.flip, of.rotation, of.erasing) == (4, True, 15, 0.25)
    assert of.jitter == [0.2, 0.2, 0.2, 0.1]
    assert of.network == "resnet18(dropout=0.5, classes=100)"
