"""Objectives against their formulas, written slowly in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from offmap.errors import ArgumentError, UnknownNameError
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
    with pytest.raises(UnknownNameError, match="cross_entropy, logit_norm"):
        objective("nonsense")
    with pytest.raises(ArgumentError, match="no option 'smoothing'"):
        objective("cross_entropy", smoothing=0.1)
