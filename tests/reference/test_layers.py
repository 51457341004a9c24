"""Scores of several layers against their formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import offmap
from offmap.activations import Activations, Sample, Tap
from offmap.detectors.layers.feature_norm import jigsaws
from offmap.errors import DegenerateError, NeedsError
from offmap.networks import build
from tests.conftest import fitted, make_world, plain, world_of
from tests.reference import slow
from tests.reference.test_of_every_kind import common
from tests.reference.test_scores import assert_parity

NAMES = {"featurenorm", "multilayermahalanobis"}


def norm(maps: slow.Array) -> float:
    """Of one map, channels by positions."""
    return float(np.mean([np.sqrt((np.maximum(channel, 0) ** 2).sum()) for channel in maps]))


def test_feature_norm() -> None:
    world = world_of("featurenorm", make_world())
    maps = plain(world.ood).features.double().numpy().reshape(-1, 4, 4)
    rows = [(-norm(of), norm(of)) for of in maps]
    assert_parity(fitted("featurenorm", world).score(world.ood), slow.pairs(rows))


def stages(images: Tensor) -> list[Tensor]:
    """Maps that no order of the tiles changes in norm, and means of 5x5 pixels, which it does."""
    return [images, F.avg_pool2d(images, 5, 1)]


def sample_of(images: Tensor) -> Sample:
    tap = Tap(":stages", "norm")

    def run(x: Tensor, edit: Any = None) -> Activations:
        layers = {tap.key(i): tap(of) for i, of in enumerate(stages(x))}
        return Activations(torch.zeros(len(x), 2), layers=layers)

    return Sample(run(images), images, run)


def smooth(n: int = 40) -> Tensor:
    """Images of one large spot each, of 9x9 pixels."""
    generator = torch.Generator().manual_seed(0)
    signs = F.avg_pool2d(torch.randn(n, 2, 13, 13, generator=generator), 5, 1)
    return signs - signs.mean((2, 3), keepdim=True)


def test_the_block_is_the_one_with_the_greatest_mean_ratio_of_a_sample_to_its_jigsaw() -> None:
    images = smooth()
    made = offmap.detectors.FeatureNorm(seed=3)
    batches = [(sample_of(part), None) for part in images.split(16)]
    made.fit(batches)
    ratios = []
    for known, cut in zip(images, jigsaws(images, 3, 3), strict=True):
        pairs = zip(stages(known[None]), stages(cut[None]), strict=True)
        ratios.append([norm(a[0].double().numpy()) / norm(b[0].double().numpy()) for a, b in pairs])
    expected = np.mean(ratios, axis=0)
    assert np.allclose(made.ratios_.numpy(), expected, rtol=1e-5)
    assert expected[0] == pytest.approx(1)
    assert expected[1] > 1.2
    assert made.chosen_.tolist() == [1]
    scores = made.score(sample_of(images))
    assert float(made.score(sample_of(jigsaws(images, 3, 5))).mean()) > float(scores.mean())


@pytest.mark.parametrize("shape", [(5, 2, 9, 10), (5, 11), (5, 2, 9)])
def test_a_jigsaw_holds_the_tiles_in_another_order(shape: tuple[int, ...]) -> None:
    """What three a side do not divide stays where it was; other axes are not cut."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    cut = jigsaws(x, 3, 0)
    size = shape[-1] // 3
    assert torch.equal(cut[..., 3 * size :], x[..., 3 * size :])

    def tiles(y: Tensor) -> list[tuple[float, ...]]:
        rows = y.split(shape[-2] // 3, -2) if len(shape) > 3 else [y]
        parts = [part for row in rows for part in row[..., : 3 * size].split(size, -1)]
        return [tuple(part.flatten().tolist()) for part in parts]

    for before, after in zip(x, cut, strict=True):
        assert not torch.equal(before, after)
        assert sorted(tiles(before)) == sorted(tiles(after))
    assert torch.equal(jigsaws(x[2:], 3, 0), cut[2:])  # whatever the batch


def test_maps_of_zeros_have_no_ratio() -> None:
    dark = -smooth().abs()
    with pytest.raises(DegenerateError, match="the maps of all 2 layers are 0 or below"):
        offmap.detectors.FeatureNorm().fit([(sample_of(dark), None)])


def test_inputs_smaller_than_the_tiles_are_refused() -> None:
    with pytest.raises(NeedsError, match=r"of shape \(2, 9, 9\) cannot be cut into 10 tiles"):
        offmap.detectors.FeatureNorm(tiles=10).fit([(sample_of(smooth()), None)])


def test_activations_alone_are_enough_to_score_and_too_little_to_learn_from() -> None:
    sample = sample_of(smooth())
    made = offmap.detectors.FeatureNorm().fit([(sample, None)])
    assert torch.equal(made.score(sample.acts), made.score(sample))
    with pytest.raises(NeedsError, match="runs the network again to learn"):
        offmap.detectors.FeatureNorm().fit([(sample.acts, None)])


def test_inside_of_others_it_learns_from_inputs_too() -> None:
    sample = sample_of(smooth())
    made = offmap.Combine([offmap.detectors.FeatureNorm(), offmap.detectors.FeatureNorm(seed=1)])
    made.fit([(sample, None)], calibration=[(sample, None)])
    assert made.score(sample.acts).isfinite().all()


def layered(n: int, seed: int) -> tuple[Activations, Tensor]:
    """Activations of two layers of other widths and units, with classes, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(3, 12, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(n) % 3
    x = 3 * means[labels] + torch.randn(n, 12, generator=generator)
    tap = Tap(":stages", "mean")
    layers = {tap.key(0): x[:, :4], tap.key(1): 100 * x[:, 4:]}
    return Activations(torch.zeros(n, 3), layers=layers), labels


@pytest.mark.parametrize("how", ["mean", "fisher"])
def test_multi_layer_mahalanobis(how: str) -> None:
    train, y = layered(300, 0)
    calibration, _ = layered(100, 1)
    tested, _ = layered(50, 2)
    tested.layers = {name: 1.3 * x for name, x in tested.layers.items()}
    made = offmap.detectors.MultiLayerMahalanobis(how=how)
    batches = [(train[:120], y[:120]), (train[120:], y[120:])]
    made.fit(batches, calibration=[(calibration, None)])

    def distances(acts: Activations) -> slow.Array:
        layers = zip(acts.layers.values(), train.layers.values(), strict=True)
        pairs = ((x.double().numpy(), known.double().numpy()) for x, known in layers)
        return np.stack([slow.mahalanobis(x, t, y.numpy())[0] for x, t in pairs], axis=1)

    known = distances(calibration)
    if how == "mean":
        t = (distances(tested) - known.mean(0)) / known.std(0)
        terms = np.abs(t).mean(1) + np.mean(known.mean(0) / known.std(0))
        assert_parity(made.score(tested), (t.mean(1), terms))
    else:
        expected = np.array([common(known, s, how) for s in distances(tested)])
        assert np.allclose(made.score(tested).numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("spec", ["featurenorm", "combine([featurenorm, energy])"])
def test_a_guard_learns_from_inputs_and_then_judges_activations(spec: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("digits_cnn(classes=3)")
    images = torch.randint(0, 256, (120, 1, 8, 8), dtype=torch.uint8)
    batches = [(part, torch.zeros(len(part)).long()) for part in images.split(40)]
    guard = offmap.Guard(network, spec).fit(batches)
    guard.calibrate(batches, alarm_rate=0.1)
    assert not guard.reads_inputs
    guard.save(tmp_path / "guard")
    loaded = offmap.load(tmp_path / "guard", network)
    verdict = loaded(images[:5])
    with guard.probe as probe:
        judged = guard.judge(probe(images[:5]))
    assert torch.equal(judged.scores, verdict.scores)
    assert len(verdict.scores.unique()) == 5


def test_an_evaluation_gives_inputs_to_what_learns_from_them_alone() -> None:
    """Training data pass twice, as images and as jigsaws; what is scored passes once."""
    torch.manual_seed(0)
    network, seen = build("digits_cnn(classes=3)"), []
    network.register_forward_pre_hook(lambda module, x: seen.append(len(x[0])))
    sets = {name: torch.rand(20 + i, 1, 8, 8) for i, name in enumerate(("train", "id", "ood"))}
    found = offmap.evaluate(
        network,
        train=[(sets["train"], None)],
        id_test=[(sets["id"], None)],
        ood={"ood": [(sets["ood"], None)]},
        detectors=["featurenorm"],
    )
    assert found.detectors == ["featurenorm"]
    assert sum(seen) == 20 + 20 + 21 + 22


def test_what_needs_inputs_and_several_passes_reads_its_data_again() -> None:
    """The clip of ReAct comes from two passes, beside a score that runs the network again."""
    torch.manual_seed(0)
    network = build("digits_cnn(classes=3)").eval()
    images = torch.rand(90, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    batches = [(part, torch.arange(30) % 3) for part in images.split(30)]
    spec = "Combine([ODIN(magnitude=0.1), ReAct(Energy(), quantile=0.99)])"
    guard = offmap.Guard(network, spec).fit(batches)
    plain_one = offmap.Guard(network, "ReAct(Energy(), quantile=0.99)").fit(batches)
    (both,), (alone,) = guard.each(), plain_one.each()
    assert torch.equal(both.all_parts()[1].threshold_, alone.threshold_)  # type: ignore[arg-type]
    assert guard.history.read["fit"]["samples"] == 90
    with pytest.raises(NeedsError, match="can be read once only: give a loader or a set"):
        offmap.Guard(network, spec).fit(iter(batches))
    found = offmap.evaluate(
        network,
        train=batches,
        calibration=[(images[:60], None)],
        id_test=[(images[60:] / 2, None)],
        ood={"ood": [(images[:20] / 3, None)]},
        detectors=[spec, "energy"],
    )
    assert found.detectors == [spec, "energy"]
    assert [s.n for s in found.sets if s.role == "train"] == [90]
