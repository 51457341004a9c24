"""NegLabel against its formula, and how a network brings it names that are no class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.activations import Head, Shards
from offmap.detectors import ordinary
from offmap.detectors.features import neg_label
from offmap.errors import ArgumentError, NeedsError, ShapeError
from offmap.networks import zero_shot
from tests.conftest import World, fitted, negatives, world_of
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"neglabel"}


def shares(h: slow.Array, head: Head, temperature: float, groups: int) -> slow.Pair:
    names, others = (x.double().numpy() for x in (head.weight, head.negatives))
    groups = min(groups, len(others))
    others = others[: len(others) - len(others) % groups]
    scores = []
    for row in h:
        x = slow.unit(row)
        known = sum(np.exp(x @ slow.unit(name) / temperature) for name in names)
        mass = []
        for g in range(groups):
            group = [np.exp(x @ slow.unit(name) / temperature) for name in others[g::groups]]
            mass.append(sum(group) / (known + sum(group)))
        scores.append((np.mean(mass),) * 2)
    return slow.pairs(scores)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("groups", [1, 7, 40, 100])
def test_the_share_of_names_that_are_no_class(
    world: World, temperature: float, groups: int
) -> None:
    world = world_of("neglabel", world)
    made = fitted(f"neglabel(temperature={temperature}, groups={groups})", world)
    expected = shares(world.ood.features.double().numpy(), world.head, temperature, groups)
    assert_parity(made.score(world.ood), expected)


def test_in_small_parts_it_scores_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of("neglabel", world)
    made = fitted("neglabel", world)
    scores = made.score(world.ood)
    monkeypatch.setattr(neg_label, "_CHUNK", 8 * 46 * 7)
    assert torch.allclose(made.score(world.ood), scores, rtol=1e-6)


def test_a_head_without_such_names_is_refused(world: World) -> None:
    with pytest.raises(NeedsError, match=r"brings no such: give .*negatives=.*or use MCM"):
        offmap.NegLabel().fit(head=world.layer)
    assert "neglabel" not in ordinary()


class Encoder(nn.Module):
    """A linear encoder of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5, bias=False)
        nn.init.orthogonal_(self.layer.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def network(further: Tensor | None) -> nn.Module:
    texts = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    return zero_shot(Encoder(), texts, negatives=further)


def test_a_guard_of_a_zero_shot_network_reads_its_negative_names(tmp_path: Path) -> None:
    """They change no logit and no class, and no training data is asked for."""
    further = negatives(5)
    clip, plain = network(further), network(None)
    generator = torch.Generator().manual_seed(2)
    known = 3 * clip.head.weight.detach() @ clip.encoder.layer.weight.detach()
    images = known.repeat(40, 1) / 300 + 0.02 * torch.randn(120, 6, generator=generator)
    assert torch.equal(clip(images), plain(images))
    guard = offmap.Guard(clip, "neglabel", normalization=None)
    guard.calibrate(images, 0.05)
    verdict = guard(further @ clip.encoder.layer.weight.detach())
    assert verdict.is_ood.float().mean() > 0.9
    assert guard(images).is_ood.float().mean() <= 0.06
    guard.save(tmp_path / "guard")
    again = offmap.load(tmp_path / "guard", clip)
    assert torch.equal(again(images).scores, guard(images).scores)


def test_the_head_of_a_probe_has_them_and_shards_keep_them(tmp_path: Path) -> None:
    probe = offmap.Probe(network(negatives(5)))
    probe(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    unit = torch.nn.functional.normalize(negatives(5))
    assert torch.allclose(probe.head.negatives, unit)
    assert torch.equal(probe.head.to(torch.device("cpu")).negatives, probe.head.negatives)
    shards = Shards(tmp_path / "kept")
    shards.head = probe.head
    assert torch.equal(Shards(tmp_path / "kept").head.negatives, probe.head.negatives)
    without = offmap.Probe(network(None))
    without(torch.randn(4, 6))
    assert without.head.negatives is None


def test_negative_names_that_are_no_embeddings_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"one row of 5 numbers a name.*seen shape \(40, 4\)"):
        network(negatives(4))
    with pytest.raises(ArgumentError, match="negatives holds rows that are zero"):
        network(torch.zeros(2, 5))


def test_a_graph_holds_them(tmp_path: Path) -> None:
    clip = network(negatives(5))
    images = torch.randn(60, 6, generator=torch.Generator().manual_seed(2))
    guard = offmap.Guard(clip, "neglabel", normalization=None)
    guard.calibrate(images, 0.1)
    offmap.export(guard, tmp_path / "guard.pt2", example=images)
    module = torch.export.load(tmp_path / "guard.pt2").module()
    _, scores, *_ = module(images)
    assert torch.allclose(scores, guard(images).scores, rtol=1e-5, atol=1e-7)
