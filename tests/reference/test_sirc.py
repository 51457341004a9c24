"""SIRC against its formula, and for what it is made."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations
from offmap.detectors.combined.sirc import log_entropy
from offmap.errors import ArgumentError, DegenerateError
from tests.conftest import World, fitted, make_world
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"sirc"}


def sirc(world: World, acts: Activations, first: str, second: str) -> slow.Pair:
    w, b = world.layer.weight.double().numpy(), world.layer.bias.double().numpy()
    train, h = (part.features.double().numpy() for part in (world.acts, acts))

    def other(x: slow.Array) -> slow.Array:
        if second == "l1":
            return np.array([np.abs(row).sum() for row in x])
        return -slow.residual(x, train, w, b, 8)[0]

    known = other(train)
    a, steep = known.mean() - 3 * known.std(), 1 / known.std()
    rows = []
    for z, s2 in zip(acts.logits.double().numpy(), other(h), strict=True):
        p = slow.softmax(z)
        gap = np.delete(p, p.argmax()).sum() if first == "msp" else slow.careful_entropy(p)
        terms = np.log(gap), np.logaddexp(0, -steep * (s2 - a))
        rows.append((sum(terms), np.abs(terms).sum()))
    return slow.pairs(rows)


@pytest.mark.parametrize("first", ["msp", "entropy"])
@pytest.mark.parametrize("second", ["l1", "residual"])
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_the_second_score_overrules_the_first(first: str, second: str, relu: bool) -> None:
    world = make_world(300, relu=relu)
    made = fitted(f"sirc({first!r}, {second!r})", world)
    for acts in (world.acts, world.ood):
        assert_parity(made.score(acts), sirc(world, acts, first, second))


def test_the_order_is_that_of_the_published_score(world: World) -> None:
    """``-(s1_max - s1)(1 + exp(-b (s2 - a)))`` is a confidence, and large for ID."""
    made = fitted("sirc", world)
    h = world.ood.features.double()
    p = world.ood.logits.double().softmax(1).amax(1)
    confidence = -(1 - p) * (1 + (-made.b_ * (h.abs().sum(1) - made.a_)).exp())
    told_apart = 1 - p > 1e-9
    order = made(world.ood)[told_apart].argsort()
    assert (confidence[told_apart][order].diff() <= 1e-12).all()


def test_what_is_known_and_unsure_comes_before_what_is_sure_and_unknown() -> None:
    """Of two samples as confident, the one of short features is worse; else confidence decides."""
    world = make_world(300, relu=True)
    made = fitted("sirc", world)
    z = torch.tensor([[4.0, 0, 0, 0, 0, 0]]).repeat(2, 1)
    usual = world.acts.features.mean(0)
    scores = made.score(Activations(z, torch.stack([usual, 0.01 * usual])))
    assert scores[1] > scores[0] + 1
    unsure = made.score(Activations(0.5 * z, usual.repeat(2, 1)))
    assert unsure[0] > scores[0]


@pytest.mark.parametrize("gap", [0.0, 1.0, 30.0, 700.0, 1e4])
def test_the_logarithm_of_the_entropy_does_not_underflow(gap: float) -> None:
    z = torch.tensor([[gap, 0.0, 0.0]], dtype=torch.float64)
    if gap < 700:
        p = slow.softmax(z[0].numpy())
        expected = math.log(slow.careful_entropy(p))
    else:  # the others have probabilities of e^-gap, and -log p is about gap for them
        expected = -gap + math.log(2) + math.log(gap + 1)
    assert float(log_entropy(z)) == pytest.approx(expected, rel=1e-6)


def test_what_it_is_not_made_of_is_refused() -> None:
    with pytest.raises(ArgumentError, match="first must be one of msp, entropy; seen 'energy'"):
        offmap.SIRC("energy")
    with pytest.raises(ArgumentError, match="dim is that of the residual, and second is 'l1'"):
        offmap.SIRC(dim=3)


def test_features_of_one_norm_are_refused() -> None:
    h = torch.eye(6).repeat(10, 1)
    with pytest.raises(DegenerateError, match="l1 is 1 for all 60 training samples"):
        offmap.SIRC().fit([(Activations(h, h), None)])
