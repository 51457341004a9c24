"""NAC against the published code, written slowly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations
from offmap.errors import ArgumentError, DegenerateError
from tests.conftest import World, fitted, make_world
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"nac"}


def edges(count: int) -> slow.Array:
    """As ``logspace`` of the published code."""
    x = np.linspace(1, np.sqrt(1e3), count // 2)
    left = np.log(x) / np.log(1e3)
    left[-1] = 0.5
    right = (1 - left)[::-1].copy()
    right[-1] += 1e-2
    return np.concatenate([left[:-1], right, [1.2]])


def states(h: slow.Array, world: World, alpha: float) -> slow.Array:
    """Of each feature: the sigmoid of what it is times the gradient with respect to it."""
    w, b = world.layer.weight.double().numpy(), world.layer.bias.double().numpy()
    rows = []
    for x in h:
        influence = np.zeros(len(x))
        for j, p in enumerate(slow.softmax(w @ x + b)):
            influence += (p - 1 / len(w)) * w[j]
        rows.append(1 / (1 + np.exp(-alpha * x * influence)))
    return np.stack(rows)


@pytest.mark.parametrize(("alpha", "full", "count"), [(100.0, 50, 50), (0.5, 7, 20)])
def test_the_mean_coverage_of_the_states(alpha: float, full: int, count: int) -> None:
    world = make_world(relu=True)
    known = states(world.features.double().numpy(), world, alpha)
    bounds = edges(count)
    assert len(bounds) == count
    rows = []
    for t in states(world.ood.features.double().numpy(), world, alpha):
        total = 0.0
        for i, value in enumerate(t):
            low = bounds[bounds <= value].max()
            high = bounds[bounds > value].min()
            inside = (known[:, i] >= low) & (known[:, i] < high)
            total += min(inside.sum() / full, 1.0)
        rows.append((-total / len(t), 1.0))
    made = fitted(f"nac(alpha={alpha}, full={full}, edges={count})", world)
    assert_parity(made.score(world.ood), slow.pairs(rows))


def test_a_seeded_sample_of_the_training_data_counts() -> None:
    world = make_world()
    made = fitted("nac(samples=100)", world)
    assert int((made.coverage_ * 50).round().sum()) <= 100 * 16
    again = fitted("nac(samples=100, seed=1)", world)
    assert not torch.equal(made.coverage_, again.coverage_)


def test_samples_that_do_not_differ_are_refused() -> None:
    world = make_world()
    zeros = Activations(world.acts.logits, torch.zeros_like(world.features))
    with pytest.raises(DegenerateError, match="600 training samples have all states in the same"):
        offmap.detectors.NAC().fit([(zeros, None)], head=world.head)


def test_bins_are_as_many_on_either_side() -> None:
    with pytest.raises(ArgumentError, match="edges must be even"):
        offmap.detectors.NAC(edges=7)
