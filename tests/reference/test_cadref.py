"""CARef and CADRef, written from their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations, Head
from offmap.errors import ArgumentError, DegenerateError
from tests.conftest import World, fitted, make_world
from tests.reference import slow
from tests.reference.test_of_every_kind import arrays
from tests.reference.test_scores import assert_parity

NAMES = {"caref", "cadref"}


def centres(z: slow.Array, h: slow.Array) -> slow.Array:
    """Means by predicted class; of a class that none is predicted as, the mean of all."""
    label = z.argmax(1)
    rows = [h[label == c].mean(0) if (label == c).any() else h.mean(0) for c in range(z.shape[1])]
    return np.stack(rows)


def caref(z: slow.Array, h: slow.Array, mu: slow.Array) -> slow.Pair:
    rows = []
    for logits, x in zip(z, h, strict=True):
        value = np.abs(x - mu[logits.argmax()]).sum() / np.abs(x).sum()
        rows.append((value, value))
    return slow.pairs(rows)


DIVISORS: dict[str, Any] = {
    "energy": slow.logsumexp,
    "max_logit": np.max,
    "msp": lambda row: slow.softmax(row).max(),
}


def cadref(
    z: slow.Array, h: slow.Array, mu: slow.Array, w: slow.Array, divisor: str, mean: float
) -> slow.Pair:
    rows = []
    for logits, x in zip(z, h, strict=True):
        y = logits.argmax()
        up = down = 0.0
        for i, value in enumerate(x - mu[y]):
            if np.sign(w[y, i]) * value > 0:
                up += abs(value)
            elif w[y, i] != 0:
                down += abs(value)
        size = np.abs(x).sum()
        sure = max(DIVISORS[divisor](logits), 1e-3 * mean)
        value = up / size / sure + down / size / mean
        rows.append((value, value))
    return slow.pairs(rows)


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_caref(relu: bool) -> None:
    world = make_world(300, relu=relu)
    z, train = arrays(world.acts)
    made = fitted("caref", world)
    for acts in (world.acts, world.ood):
        assert_parity(made.score(acts), caref(*arrays(acts), centres(z, train)))


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_cadref(relu: bool, divisor: str) -> None:
    world = make_world(300, relu=relu)
    z, train = arrays(world.acts)
    w = world.layer.weight.double().numpy()
    mean = float(np.mean([DIVISORS[divisor](row) for row in z]))
    made = fitted(f"cadref({divisor!r})", world)
    assert float(made.divisor_) == pytest.approx(mean, rel=1e-6)
    for acts in (world.acts, world.ood):
        expected = cadref(*arrays(acts), centres(z, train), w, divisor, mean)
        assert_parity(made.score(acts), expected)


def one(z: list[float], h: list[float]) -> Activations:
    return Activations(torch.tensor([z]).float(), torch.tensor([h]).float())


def by_hand() -> World:
    """Two classes whose centres are (3, 1) and (1, 3), and a head with a weight of 0."""
    h = torch.tensor([[2.0, 1], [4, 1], [1, 2], [1, 4]])
    z = torch.tensor([[5.0, 0], [5, 0], [0, 5], [0, 5]])
    head = Head(torch.tensor([[1.0, -1], [-1, 0]]))
    return World(Activations(z, h), torch.tensor([1, 1, 0, 0]), Activations(z, h), head)


def test_centres_are_those_of_the_predictions_and_not_of_the_labels() -> None:
    world = by_hand()  # every label is wrong
    made = fitted("caref", world)
    assert made.centres_.tolist() == [[3, 1], [1, 3]]
    assert made.score(one([9, 0], [4, 3])).tolist() == pytest.approx([(1 + 2) / 7])


def test_what_raises_the_logit_is_over_the_own_energy_and_the_rest_over_the_mean_one() -> None:
    world = by_hand()
    made = fitted("cadref", world)
    mean, own = np.log(np.exp(5) + 1), np.log(np.exp(9) + 1)
    # +1 along a weight of 1 raises, +2 along a weight of -1 lowers; a weight of 0 does neither.
    score = made.score(one([9, 0], [4, 3])).tolist()
    assert score == pytest.approx([1 / 7 / own + 2 / 7 / mean], rel=1e-6)
    score = made.score(one([0, 9], [0, 9])).tolist()
    assert score == pytest.approx([1 / 9 / own], rel=1e-6)


def test_a_class_never_predicted_has_the_mean_of_all() -> None:
    world = by_hand()
    z = torch.cat([world.acts.logits, torch.full((4, 1), -9.0)], dim=1)
    acts = Activations(z, world.acts.features)
    for made in (offmap.CARef(), offmap.CADRef()):
        made.fit([(acts, None)], head=Head(torch.cat([world.head.weight, torch.ones(1, 2)])))
        assert made.centres_.tolist() == [[3, 1], [1, 3], [2, 2]]
    score = offmap.CARef().fit([(acts, None)]).score(one([0, 0, 9], [4, 3]))
    assert score.item() == pytest.approx(3 / 7)


def test_a_sample_of_energy_below_0_scores_above_one_of_little_energy() -> None:
    """Divided by it, it would score below all that is known."""
    made = fitted("cadref", by_hand())
    scores = [made.score(one([z, z], [4, 1])).item() for z in (9.0, 1.0, -0.7, -3.0, -50.0)]
    assert scores[0] < scores[1] < scores[2] == scores[3] == scores[4]
    floor = 1e-3 * np.log(np.exp(5) + 1)
    assert scores[2] == pytest.approx(1 / 5 / floor, rel=1e-5)


def test_logits_whose_energy_is_not_positive_are_refused() -> None:
    world = make_world(300)
    logs = Activations(world.acts.logits.log_softmax(1) - 1, world.acts.features)
    for divisor, formula in (("energy", "logsumexp"), ("max_logit", "largest")):
        with pytest.raises(
            DegenerateError, match=rf"{formula} of the logits is -1.*use CARef, or another divisor"
        ):
            offmap.CADRef(divisor).fit([(logs, None)], head=world.head)
    made = offmap.CADRef("msp").fit([(logs, None)], head=world.head)
    assert len(made.score(logs).unique()) > 1


def test_a_divisor_that_is_none_is_named() -> None:
    with pytest.raises(ArgumentError, match="one of energy, max_logit, msp; seen 'gen'"):
        offmap.CADRef("gen")


@pytest.mark.parametrize("spec", ["caref", "cadref"])
def test_features_of_0_score_highest(spec: str) -> None:
    world = make_world(300, relu=True)
    made = fitted(spec, world)
    zero = made.score(Activations(world.acts.logits[:1], torch.zeros(1, 16)))
    assert zero.isfinite().all()
    assert zero > made.score(world.ood).max()


@pytest.mark.parametrize("spec", ["caref", "cadref", "cadref('msp')", "nnguide", "relation"])
def test_large_logits_score_finitely_and_apart(spec: str) -> None:
    world = make_world(300)
    acts = Activations(1e4 * world.acts.logits.sign() + world.acts.logits, world.features)
    scores = fitted(spec, World(acts, world.labels, acts, world.head)).score(acts)
    assert scores.isfinite().all()
    assert len(scores.unique()) > 290
