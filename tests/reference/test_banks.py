"""NNGuide and Relation, written from their formulas: they compare with a bank."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations
from offmap.detectors import Detector
from offmap.errors import ArgumentError, DegenerateError
from tests.conftest import World, fitted, make_world
from tests.reference import slow
from tests.reference.test_of_every_kind import arrays
from tests.reference.test_scores import assert_parity

NAMES = {"nnguide", "relation"}


def nnguide(z: slow.Array, h: slow.Array, bank: tuple[slow.Array, slow.Array], k: int) -> slow.Pair:
    guides = [slow.logsumexp(logits) * slow.unit(x) for logits, x in zip(*bank, strict=True)]
    rows = []
    for logits, x in zip(z, h, strict=True):
        own = slow.unit(x)
        nearest = sorted((float(g @ own) for g in guides), reverse=True)[:k]
        closest = sorted((float(np.abs(g) @ np.abs(own)) for g in guides), reverse=True)[:k]
        energy = slow.logsumexp(logits)
        rows.append((-energy * np.mean(nearest), abs(energy) * np.mean(closest)))
    return slow.pairs(rows)


def relation(
    z: slow.Array, h: slow.Array, bank: tuple[slow.Array, slow.Array], power: float, cut: float
) -> slow.Pair:
    known = [(slow.softmax(logits), slow.unit(x)) for logits, x in zip(*bank, strict=True)]
    rows = []
    for logits, x in zip(z, h, strict=True):
        p, own = slow.softmax(logits), slow.unit(x)
        total = 0.0
        for q, other in known:
            strength = max(own @ other, 0.0) * (p @ q)
            if abs(strength) > cut:
                total += strength**power
        rows.append((-total, total))
    return slow.pairs(rows)


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_nnguide(relu: bool, k: int) -> None:
    world = make_world(300, relu=relu)
    made = fitted(f"nnguide({k})", world)
    for acts in (world.acts, world.ood):
        assert_parity(made.score(acts), nnguide(*arrays(acts), arrays(world.acts), k))


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize(("power", "cut"), [(1.0, 0.03), (4.0, 0.1), (1.0, 0.0)])
def test_relation(relu: bool, power: float, cut: float) -> None:
    world = make_world(300, relu=relu)
    made = fitted(f"relation({power}, cut={cut})", world)
    for acts in (world.acts, world.ood):
        expected, terms = relation(*arrays(acts), arrays(world.acts), power, cut)
        assert_parity(made.score(acts), (expected, terms + 1e-3))


def test_known_samples_of_much_energy_near_the_bank_score_lowest() -> None:
    """The other sign gives an AUROC of 0.12 elsewhere."""
    bank = Activations(torch.tensor([[8.0, 0], [0, 8]]), torch.eye(2))
    made = offmap.NNGuide(1).fit([(bank, None)])
    h = torch.tensor([[1.0, 0], [1, 1], [1, 0], [-1, -1]])
    z = torch.tensor([[9.0, 0], [9, 0], [1, 0], [9, 0]])
    scores = made.score(Activations(z, h))
    assert (scores.diff()[[1, 2]] > 0).all()
    assert scores[0] < scores[1] < scores[3]
    own, known = np.log(np.exp(9) + 1), np.log(np.exp(8) + 1)
    assert scores[:2].tolist() == pytest.approx([-own * known, -own * known / 2**0.5], rel=1e-6)


def test_the_energy_of_a_row_counts_among_neighbours() -> None:
    """By cosine the first row is nearer; by product the second, whose energy is four times its."""
    bank = Activations(torch.tensor([[2.0, -9], [8, -9]]), torch.tensor([[1.0, 0], [1, 1]]))
    score = (
        offmap.NNGuide(1).fit([(bank, None)]).score(Activations(bank.logits[:1], bank.features[:1]))
    )
    assert score.item() == pytest.approx(-2 * 8 / 2**0.5, rel=1e-4)


def test_a_share_of_many_samples_and_all_of_few() -> None:
    world = make_world(3000)
    for spec, rows in (
        ("nnguide", 1000),
        ("nnguide(share=0.5)", 1500),
        ("nnguide(share=1)", 3000),
        ("nnguide(share=1, bank=1200)", 1200),
        ("relation", 3000),
        ("relation(bank=700)", 700),
    ):
        assert len(fitted(spec, world, 3000).bank_) == rows, spec
    assert len(fitted("nnguide", make_world(120)).bank_) == 120


@pytest.mark.parametrize("spec", ["nnguide(share=0.4, seed={})", "relation(bank=1200, seed={})"])
def test_a_bank_is_drawn_by_its_seed_and_not_by_the_order(spec: str) -> None:
    world = make_world(3000)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(0))
    first = fitted(spec.format(0), world, 1500).bank_
    assert torch.equal(fitted(spec.format(0), world.only(order), 700).bank_, first)
    assert not torch.equal(fitted(spec.format(1), world, 3000).bank_, first)


@pytest.mark.parametrize("spec", ["nnguide", "relation"])
def test_a_bank_keeps_the_keys_of_its_rows(spec: str) -> None:
    from offmap.detectors._keys import unpacked_keys

    world = make_world(60)
    keys = tuple(f"{i}.png" for i in range(60))
    acts = world.acts.replace(keys=keys)
    made = offmap.detector(spec).fit([(acts, None)])
    units = world.features / world.features.norm(dim=1, keepdim=True)
    rows = [int(key.removesuffix(".png")) for key in unpacked_keys(made.keys_)]
    bank = made.bank_ / made.bank_.norm(dim=1, keepdim=True)
    assert sorted(rows) == list(range(60))
    assert torch.allclose(bank, units[rows], atol=1e-6)


@pytest.mark.parametrize("spec", ["nnguide", "relation"])
def test_banks_in_parts_give_the_same_scores(
    spec: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fitted(spec, world)
    whole = made.score(world.ood)
    monkeypatch.setattr("offmap.detectors._chunks._BYTES", 50_000)
    assert torch.allclose(made.score(world.ood), whole, rtol=1e-6)


def test_a_sample_that_relates_to_nothing_scores_0_and_above_all_others() -> None:
    world = make_world(300, relu=True)
    made = fitted("relation", world)
    nothing = Activations(world.acts.logits[:1], torch.zeros(1, 16))
    assert made.score(nothing).item() == 0
    assert (made.score(world.acts) < 0).all()


def test_fewer_samples_than_neighbours_are_refused(world: World) -> None:
    with pytest.raises(DegenerateError, match="10 neighbours were asked for, and there are 6 tra"):
        fitted("nnguide", world.only(torch.arange(6)))


def test_energies_that_are_not_positive_are_refused(world: World) -> None:
    logs = Activations(world.acts.logits.log_softmax(1) - 1, world.acts.features)
    with pytest.raises(DegenerateError, match=r"logsumexp of the logits is -1 on average.*use KNN"):
        offmap.NNGuide().fit([(logs, None)])


@pytest.mark.parametrize("spec", ["nnguide", "relation"])
def test_features_that_are_all_0_are_refused(spec: str, world: World) -> None:
    flat = Activations(world.acts.logits, torch.zeros_like(world.features))
    with pytest.raises(DegenerateError, match="the features of all 600 training samples are 0"):
        offmap.detector(spec).fit([(flat, None)])


@pytest.mark.parametrize("spec", ["nnguide(share=1, bank=30000)", "relation(bank=30000)"])
def test_a_bank_too_large_for_a_graph_says_so(spec: str) -> None:
    h = torch.randn(20_001, 2, generator=torch.Generator().manual_seed(0))
    made: Detector = offmap.detector(spec).fit([(Activations(5 + h.abs(), h), None)])
    reason = made.not_exportable()
    assert reason is not None
    assert "compares with 20,001 rows" in reason
    assert "bank=20000" in reason


def test_arguments_out_of_range_are_refused() -> None:
    for make in (
        lambda: offmap.NNGuide(share=0),
        lambda: offmap.NNGuide(50, bank=20),
        lambda: offmap.Relation(0),
        lambda: offmap.Relation(cut=1),
    ):
        with pytest.raises(ArgumentError, match="seen"):
            make()
