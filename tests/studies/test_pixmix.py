"""Study A on embedded data: the whole of it, in seconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import offmap
from offmap.activations import Activations
from offmap.errors import (
    ArgumentError,
    DataNotFoundError,
    StoreError,
    UnknownNameError,
)
from offmap.evaluation.subsets import at_ratio
from offmap.networks import WideResNet, densenet_bc100
from offmap.studies import pixmix
from offmap.studies._pixmix_features import Norm, effective_rank
from offmap.training.trained import open_trained
from tests.studies.conftest import run_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The command, as a user runs it."""
    out = tmp_path_factory.mktemp("study")
    return out, run_study("pixmix", out)


def test_it_prints_a_table_a_network_and_their_difference(study: tuple[Path, str]) -> None:
    _, text = study
    for heading in ("== plain: wrn10_1", "== pixmix: wrn10_1", "== pixmix minus plain ==",
                    "ID:OOD = 5:1", "mean AUROC over the sets", "alpha "):  # fmt: skip
        assert heading in text
    table = text.split("== plain: ")[1].split("ViM: ")[0]
    rows = [line for line in table.splitlines() if line.startswith(pixmix.SCORES)]
    assert [row.split()[0] for row in rows] == list(pixmix.SCORES)
    for column in range(1, 6):
        assert sum(row.split()[column].endswith("*") for row in rows) >= 1


def test_the_printed_figures_are_those_of_the_scores(study: tuple[Path, str]) -> None:
    out, text = study
    found = offmap.Results.load(out / "plain")
    auroc = offmap.metrics.auroc(found.scores["msp"]["id"], found.scores["msp"]["textures"])
    line = next(x for x in text.split("== plain: ")[1].splitlines() if x.startswith("msp"))
    assert f"{100 * auroc:.2f}" in line
    # The difference of every detector that both networks have.
    other = offmap.Results.load(out / "pixmix")
    for d in (d for d in other.detectors if d in found.detectors):
        gain = 100 * (other.mean(d) - found.mean(d))
        assert re.search(rf"^  {re.escape(d)} +{re.escape(f'{gain:+.2f}')} ", text, re.M), d


def test_what_happens_to_the_features_is_measured(study: tuple[Path, str]) -> None:
    out, text = study
    _, _, table = text.partition("== features: ")
    for name in pixmix.NETWORKS:
        scores = offmap.Results.load(out / name).scores
        assert re.search(
            rf"^{name}: effective rank of the training features: \d+\.\d, ", table, re.M
        )
        for size in ("norm", "residual", "mahalanobis"):
            known = np.median(scores[size]["id"])
            row = re.search(rf"^{name} {size} +(.*)$", table, re.M)
            assert row is not None
            shown = [float(x) for x in row[1].split()]
            sets = [s for s in scores[size] if s not in ("id", "calibration")]
            expected = [np.median(scores[size][s]) / known for s in sets]
            assert shown == pytest.approx(expected, abs=0.0051)


def test_the_effective_rank_counts_equal_directions() -> None:
    turned, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    values = torch.tensor([3.0, 3, 3, 3, 0, 0], dtype=torch.float64)
    assert float(effective_rank((turned * values) @ turned.T)) == pytest.approx(4)
    p = np.array([0.7, 0.2, 0.1])
    own = effective_rank(torch.tensor(np.diag(5 * p)))
    assert float(own) == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_the_spread_within_classes_is_that_of_the_formula() -> None:
    generator = np.random.default_rng(0)
    h, y = generator.normal(size=(40, 3)) * [3, 1, 0.1], np.arange(40) % 2
    h[y == 1] += 5
    found = Norm()
    acts = Activations(torch.zeros(40, 2), torch.tensor(h))
    found.fit([(acts, torch.tensor(y))])
    inside = np.concatenate([h[y == c] - h[y == c].mean(0) for c in (0, 1)])
    total, within = np.cov(h.T, bias=True), inside.T @ inside / 40
    assert float(found.variance_) == pytest.approx(np.trace(within) / np.trace(total), abs=0.02)
    assert float(found.within_) == pytest.approx(float(effective_rank(torch.tensor(within))))
    np.testing.assert_allclose(found.score(acts).numpy(), -np.linalg.norm(h, axis=1), rtol=1e-6)


def test_both_networks_are_of_one_architecture_and_differ_in_weights(
    study: tuple[Path, str],
) -> None:
    out, _ = study
    one, other = (load_file(out / name / "weights.safetensors") for name in pixmix.NETWORKS)
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_everything_is_kept(study: tuple[Path, str]) -> None:
    out, _ = study
    for name in pixmix.NETWORKS:
        for file in ("card.json", "run.json", "metrics.csv", "curves.png", "results.json",
                     "scores.parquet", "roc.png", "histograms-vim.png"):  # fmt: skip
            assert (out / name / file).stat().st_size > 100, file
    assert (out / "differences.png").stat().st_size > 100


def test_at_five_to_one_the_counts_are_so(study: tuple[Path, str]) -> None:
    out, _ = study
    found = offmap.Results.load(out / "plain")
    for row, whole in zip(at_ratio(found).rows, found.rows, strict=True):
        assert row.n_id == 5 * row.n_ood
        assert row.n_ood == min(whole.n_id // 5, whole.n_ood)
        assert row.base_rate == pytest.approx(1 / 6)
        assert abs(row.auroc - whole.auroc) < 0.15
    assert at_ratio(found) == at_ratio(found)


def test_it_runs_on_weights_that_the_user_has(study: tuple[Path, str], tmp_path: Path) -> None:
    """A folder of a run, and a file in the form that the authors of PixMix publish."""
    out, _ = study
    torch.manual_seed(0)
    state = {f"module.{k}": v for k, v in WideResNet(10, 2, classes=9).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "best_acc": 0.5}, tmp_path / "checkpoint.pth.tar")
    given = {"plain": str(out / "plain"), "pixmix": str(tmp_path / "checkpoint.pth.tar")}
    with pytest.warns(UserWarning, match="plain is WRN-10-1, pixmix is WRN-10-2"):
        found = pixmix.run(
            tmp_path / "out", budget="smoke", weights=given, cache=tmp_path / "cache",
            show_progress=False,
        )  # fmt: skip
    assert list((tmp_path / "cache").iterdir())
    assert "width and augmentation are confounded" in found.report()
    before = offmap.Results.load(out / "plain")
    assert found.results["plain"].rows == before.rows
    # Each network carries its own normalisation.
    assert "125.3" not in found.results["pixmix"].settings["normalization"]
    assert "(0.5,)" in found.results["pixmix"].settings["normalization"]
    assert found.results["plain"].settings["normalization"] == before.settings["normalization"]
    assert not (tmp_path / "out" / "plain" / "card.json").exists()  # nothing was trained


def test_the_weights_of_a_run_bring_their_card_along(study: tuple[Path, str]) -> None:
    out, _ = study
    found = open_trained(str(out / "pixmix" / "weights.safetensors"), pixmix.NETWORKS["pixmix"])
    assert found.normalization == offmap.Normalization(*offmap.data.channel_statistics("cifar10"))


def test_the_width_of_a_checkpoint_is_read_from_it(tmp_path: Path) -> None:
    made = WideResNet(16, 3, classes=7)
    torch.save(made.state_dict(), tmp_path / "w.pt")
    found = open_trained(f"{tmp_path}/w.pt@0.1/0.2", pixmix.NETWORKS["plain"])
    assert isinstance(found.network, WideResNet)
    assert (found.network.depth, found.network.width) == (16, 3)
    assert found.normalization == offmap.Normalization((0.1,), (0.2,))
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.network(x), made.eval()(x))


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path: Path) -> None:
    made = WideResNet(16, 3, classes=7)
    (tmp_path / "me@home").mkdir()
    file = tmp_path / "me@home" / "w.pt"
    torch.save(made.state_dict(), file)
    for spec in (str(file), f"{file}@0.1/0.2"):
        found = open_trained(spec, pixmix.NETWORKS["plain"])
        assert isinstance(found.network, WideResNet)
    assert found.normalization == offmap.Normalization((0.1,), (0.2,))


def test_a_checkpoint_of_another_network_is_named_with_its_normalisation(tmp_path: Path) -> None:
    made = densenet_bc100(classes=3)
    torch.save({"state_dict": made.state_dict()}, tmp_path / "d.pth.tar")
    file = f"densenet_bc100:{tmp_path}/d.pth.tar"
    found = open_trained(f"{file}@0.1/0.2", pixmix.NETWORKS["plain"])
    assert found.normalization == offmap.Normalization((0.1,), (0.2,))
    assert found.source == "densenet_bc100, d.pth.tar, normalised by 0.1/0.2"
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.network(x), made.eval()(x))
    with pytest.raises(ArgumentError, match=r"normalised: add @cifar10, @imagenet"):
        open_trained(file, pixmix.NETWORKS["plain"])
    with pytest.raises(DataNotFoundError, match="no checkpoint at nowhere"):
        open_trained("resnet20:nowhere@cifar10", pixmix.NETWORKS["plain"])
    with pytest.raises(StoreError, match=r"fit WideResNet(.|\n)*resnet56:d.pth.tar@imagenet"):
        open_trained(str(tmp_path / "d.pth.tar"), pixmix.NETWORKS["plain"])


def test_a_limit_leaves_a_seeded_part_of_each_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, *like: object, **options: int) -> offmap.data.ImageSet:
        asked.append((name, options))
        return offmap.data.embedded("photographs", channels=3).take(options["limit"])

    monkeypatch.setattr(pixmix.data, "load", load)
    monkeypatch.setattr(pixmix.data, "load_like", load)
    monkeypatch.setattr(pixmix, "first_local", lambda *names: names[0])
    sets = pixmix.cifar_data(5, 40)
    names = ("cifar10:test", "svhn", "textures", "cifar100", "cifar10:train")
    assert asked == [(name, {"limit": 40, "seed": 5}) for name in names]
    assert {name: len(images) for name, images in sets.ood.items()}["rademacher"] == 40
    assert (len(sets.calibration), len(sets.test), len(sets.train)) == (4, 36, 40)
    with pytest.raises(ArgumentError, match="leave limit out"):
        pixmix.run("nowhere", budget="smoke", limit=3)
    for limit in (0, -3):
        with pytest.raises(ArgumentError, match="limit must be a whole number of at least 1"):
            pixmix.run("nowhere", budget="cpu", limit=limit)


def test_one_network_alone_has_no_difference(study: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = study
    given = {"plain": str(out / "plain")}
    found = pixmix.run(tmp_path, budget="smoke", weights=given, only="plain", show_progress=False)
    assert list(found.results) == ["plain"]
    assert "minus plain" not in found.report()


def test_a_missing_file_is_an_error_that_says_where_it_is_published(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"checkpoint.pth.tar at github.com/andyzoujm"):
        pixmix.run(tmp_path, budget="smoke", weights={"pixmix": "absent.pth.tar"})
    with pytest.raises(UnknownNameError, match="no budget 'tiny': there are smoke"):
        pixmix.run(tmp_path, budget="tiny")
    with pytest.raises(UnknownNameError, match="plain, pixmix"):
        pixmix.run(tmp_path, budget="smoke", weights={"pixmx": "x"})


def test_the_card_says_how_it_was_made(study: tuple[Path, str]) -> None:
    out, _ = study
    card = json.loads((out / "pixmix" / "card.json").read_text())
    assert card["command"] == "offmap study pixmix --budget smoke --seed 0"
    assert card["recipe"]["pixmix"]["k"] == 4
    assert card["data"]["mixing"]["images"] == 64
