"""Objectives against their formulas, written slowly in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from offmap.errors import ArgumentError, UnknownNameError
from offmap.networks import AnchorHead
from offmap.training import Batch, objective


class Given(nn.Module):
    """Gives the rows that it is given, as logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def made_batch(n: int = 5, c: int = 4, m: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = 3 * torch.randn(n, 1, 1, c, generator=generator)
    outliers = 3 * torch.randn(m, 1, 1, c, generator=generator) if m else None
    return Batch(images, torch.arange(n) % c, outliers)


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - np.log(np.exp(z).sum())


def slow_cross_entropy(batch: Batch, smoothing: float = 0.0) -> float:
    losses = []
    for z, y in zip(batch.images.double().flatten(1).numpy(), batch.labels.tolist(), strict=True):
        target = np.full(len(z), smoothing / len(z))
        target[y] += 1 - smoothing
        losses.append(-(target * log_softmax(z)).sum())
    return float(np.mean(losses))


def slow_logit_norm(batch: Batch, temperature: float = 0.04) -> float:
    losses = []
    for z, y in zip(batch.images.double().flatten(1).numpy(), batch.labels.tolist(), strict=True):
        losses.append(-log_softmax(z / np.sqrt((z**2).sum()) / temperature)[y])
    return float(np.mean(losses))


def slow_outlier_exposure(batch: Batch, weight: float = 0.5) -> float:
    assert batch.outliers is not None
    rows = batch.outliers.double().flatten(1).numpy()
    uniform = [-(np.ones(len(z)) / len(z) * log_softmax(z)).sum() for z in rows]
    return slow_cross_entropy(batch) + weight * float(np.mean(uniform))


def slow_class_anchors(batch: Batch, weight: float = 0.1) -> float:
    losses = []
    for z, y in zip(batch.images.double().flatten(1).numpy(), batch.labels.tolist(), strict=True):
        d = -z
        others = [np.exp(d[y] - d[j]) for j in range(len(d)) if j != y]
        losses.append(np.log(1 + sum(others)) + weight * d[y])
    return float(np.mean(losses))


CASES: list[tuple[str, dict[str, float], int, Callable[[Batch], float]]] = [
    ("cross_entropy", {}, 0, slow_cross_entropy),
    ("cross_entropy", {"label_smoothing": 0.2}, 0, lambda b: slow_cross_entropy(b, 0.2)),
    ("logit_norm", {}, 0, slow_logit_norm),
    ("logit_norm", {"temperature": 0.5}, 0, lambda b: slow_logit_norm(b, 0.5)),
    ("outlier_exposure", {}, 3, slow_outlier_exposure),
    ("outlier_exposure", {"weight": 2.0}, 3, lambda b: slow_outlier_exposure(b, 2.0)),
]


@pytest.mark.parametrize(("name", "options", "outliers", "slow"), CASES)
def test_equals_the_slow_formula(
    name: str, options: dict[str, float], outliers: int, slow: Callable[[Batch], float]
) -> None:
    batch = made_batch(m=outliers)
    outcome = objective(name, **options)(Given(), batch)
    assert float(outcome.loss) == pytest.approx(slow(batch), rel=1e-5)
    assert torch.equal(outcome.logits, batch.images.flatten(1))


def distances(n: int = 8, c: int = 4) -> Batch:
    """Minus distances, labels of every class."""
    batch = made_batch(n, c)
    return Batch(-batch.images.abs(), batch.labels)


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_class_anchors_equal_the_slow_formula(weight: float) -> None:
    outcome = objective("class_anchors", weight=weight)(Given(), distances())
    assert float(outcome.loss) == pytest.approx(slow_class_anchors(distances(), weight), rel=1e-5)


@pytest.mark.parametrize("label", range(4))
def test_class_anchors_have_the_slow_formulas_gradient_for_every_class(label: int) -> None:
    """The last class too: a released library gets that one wrong."""
    batch = distances(1)
    images = batch.images.double().requires_grad_()
    one = Batch(images.float(), torch.tensor([label]))
    objective("class_anchors")(Given(), one).loss.backward()
    assert images.grad is not None
    step = 1e-6
    for j in range(4):
        moved = [batch.images.double().clone() for _ in range(2)]
        moved[0][0, 0, 0, j] += step
        moved[1][0, 0, 0, j] -= step
        high, low = (slow_class_anchors(Batch(x, torch.tensor([label]))) for x in moved)
        slope = (high - low) / (2 * step)
        assert float(images.grad[0, 0, 0, j]) == pytest.approx(slope, abs=1e-5)


def test_class_anchors_vanish_on_a_perfect_batch() -> None:
    network = AnchorHead(nn.Flatten(), classes=4)
    with torch.no_grad():
        network.linear.weight.copy_(torch.eye(4))
        network.linear.bias.zero_()
    images = (10 * torch.eye(4)).view(4, 1, 1, 4).requires_grad_()
    loss = objective("class_anchors")(network, Batch(images, torch.arange(4))).loss
    assert float(loss.detach()) == pytest.approx(np.log(1 + 3 * np.exp(-10 * np.sqrt(2))), abs=1e-6)
    loss.backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()  # the distance to the own anchor is exactly 0


def test_class_anchors_need_distances() -> None:
    with pytest.raises(ArgumentError, match="AnchorHead"):
        objective("class_anchors")(Given(), made_batch())


def test_logit_norm_does_not_reward_longer_logits() -> None:
    batch = made_batch()
    longer = Batch(10 * batch.images, batch.labels)
    run = objective("logit_norm")
    assert float(run(Given(), batch).loss) == pytest.approx(float(run(Given(), longer).loss))


def test_outlier_exposure_is_lowest_for_uniform_answers() -> None:
    batch = made_batch(m=3)
    flat = Batch(batch.images, batch.labels, torch.zeros(3, 1, 1, 4))
    run = objective("outlier_exposure")
    expected = slow_cross_entropy(batch) + 0.5 * np.log(4)
    assert float(run(Given(), flat).loss) == pytest.approx(expected, rel=1e-5)
    assert float(run(Given(), batch).loss) > expected


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(ArgumentError, match="needs outliers"):
        objective("outlier_exposure")(Given(), made_batch())
    with pytest.raises(UnknownNameError, match="cross_entropy, disagreement, logit_norm"):
        objective("nonsense")
    with pytest.raises(ArgumentError, match="no option 'smoothing'"):
        objective("cross_entropy", smoothing=0.1)
    with pytest.raises(ArgumentError, match="from 0 up and below 1"):
        objective("cross_entropy", label_smoothing=1.5)
    with pytest.raises(ArgumentError, match="temperature must be above 0; seen 0"):
        objective("logit_norm", temperature=0)
    with pytest.raises(ArgumentError, match="weight must be from 0 up; seen 'much'"):
        objective("outlier_exposure", weight="much")
