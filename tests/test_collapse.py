"""NC1 to NC5 against slow NumPy, on a constructed simplex, and on a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import offmap
from offmap.activations import Head
from offmap.data import ImageSet
from offmap.errors import ArgumentError, DegenerateError, LabelError, NeedsError
from offmap.evaluation.collapse import (
    Collapse,
    collapse,
    orthogonality,
    self_duality,
    simplex,
    within_class,
)
from offmap.networks import Ensemble
from offmap.stats import ClassMoments


class Features(nn.Module):
    """Its features are its images, and its head is given."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(weight.shape[1], len(weight))
        self.fc.weight.data, self.fc.bias.data = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def images(features: Tensor, labels: Tensor | None = None) -> ImageSet:
    return ImageSet("features", features.float()[:, :, None, None], labels)


def moments_of(x: np.ndarray, y: np.ndarray, classes: int) -> ClassMoments:
    return ClassMoments.of(torch.tensor(x), torch.tensor(y), classes=classes)


def slow(x: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray, ood: np.ndarray) -> Collapse:
    """Written from the definitions, with the full (d, d) matrices and a loop over samples."""
    kinds = sorted(set(y.tolist()))
    c = len(kinds)
    mean = {j: x[y == j].mean(0) for j in kinds}
    middle = np.mean([mean[j] for j in kinds], axis=0)
    inside = sum(np.outer(v - mean[j], v - mean[j]) for v, j in zip(x, y.tolist(), strict=True))
    between = sum(np.outer(mean[j] - middle, mean[j] - middle) for j in kinds) / c
    centred = np.array([mean[j] - middle for j in kinds])
    norms = np.sqrt((centred**2).sum(1))
    pairs = [centred[i] @ centred[j] / (norms[i] * norms[j])
             for i in range(c) for j in range(c) if i != j]  # fmt: skip
    logits = x @ w.T + b
    nearest = [kinds[int(np.argmin([((v - mean[j]) ** 2).sum() for j in kinds]))] for v in x]
    own = w[kinds]
    return Collapse(
        n=len(x),
        accuracy=float((logits.argmax(1) == y).mean()),
        nc1=float(np.trace(inside / len(x) @ np.linalg.pinv(between, rcond=1e-12)) / c),
        nc2_norms=float(norms.std() / norms.mean()),
        nc2_angles=float(np.std(pairs)),
        nc2_simplex=float(np.mean([abs(p + 1 / (c - 1)) for p in pairs])),
        nc3=float(np.linalg.norm(own / np.linalg.norm(own) - centred / np.linalg.norm(centred))),
        nc4=float((logits.argmax(1) != np.array(nearest)).mean()),
        nc5={"far": float(np.mean([abs(mean[j] @ ood.mean(0)) / np.linalg.norm(mean[j])
                                   / np.linalg.norm(ood.mean(0)) for j in kinds]))},
        means=torch.tensor(np.array([mean[j] for j in kinds])),
    )  # fmt: skip


def made(
    seed: int, n: int = 200, d: int = 9, c: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice(c, n, p=np.arange(1, c + 1) / (c * (c + 1) / 2))  # unequal classes
    x = (3 * rng.normal(size=(c, d)))[y] + rng.normal(size=(n, d)) + 2
    w, b = rng.normal(size=(c, d)), rng.normal(size=c)
    x, w, b = (v.astype(np.float32).astype(np.float64) for v in (x, w, b))
    return x, y, w, b, rng.normal(size=(50, d)).astype(np.float32).astype(np.float64) + 1


def measured(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray, ood: np.ndarray, size: int = 64
) -> Collapse:
    network = Features(torch.tensor(w).float(), torch.tensor(b).float())
    return collapse(
        network,
        images(torch.tensor(x), torch.tensor(y)),
        ood={"far": images(torch.tensor(ood))},
        batch_size=size,
        show_progress=False,
    )


def assert_equal(a: Collapse, b: Collapse, tolerance: float = 1e-6) -> None:
    assert (a.n, a.accuracy, a.nc4) == (b.n, pytest.approx(b.accuracy), pytest.approx(b.nc4))
    for name in ("nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=tolerance), name
    assert a.nc5 == pytest.approx(b.nc5, rel=tolerance)
    torch.testing.assert_close(a.means, b.means)


@given(seed=st.integers(0, 10_000), size=st.integers(10, 200))
@settings(max_examples=8, deadline=None)
def test_it_equals_the_definitions_whatever_the_batches(seed: int, size: int) -> None:
    data = made(seed)
    assert_equal(measured(*data, size=size), slow(*data))


def test_a_class_without_samples_counts_nowhere() -> None:
    x, y, w, b, ood = made(3)
    kept = y > 0
    found = measured(x[kept], y[kept], w, b, ood)
    assert_equal(found, slow(x[kept], y[kept], w, b, ood))


def test_a_simplex_of_points_has_collapsed_exactly() -> None:
    c, d, each = 5, 8, 6
    rng = np.random.default_rng(0)
    corners = np.eye(c) - 1 / c  # a simplex about the origin
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0][:c]
    means = 7 * corners @ turn
    y = np.repeat(np.arange(c), each)
    moments = moments_of(means[y], y, c)
    assert within_class(moments) < 1e-25
    assert max(simplex(moments)) < 1e-12
    assert self_duality(moments, Head(torch.tensor(0.3 * means))) < 1e-12
    across = np.linalg.qr(np.concatenate([turn, rng.normal(size=(d - c, d))]).T)[0][:, -1]
    assert orthogonality(moments, torch.tensor(5 * across)) < 1e-12
    found = measured(means[y], y, means, np.zeros(c), across[None])
    assert found.nc4 == 0
    assert found.accuracy == 1
    assert found.nc1 < 1e-10


def test_a_class_whose_mean_is_the_origin_has_no_part_in_nc5() -> None:
    means = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
    moments = moments_of(means, np.arange(3), 3)
    assert orthogonality(moments, torch.tensor([2.0, 0.0]).double()) == pytest.approx((1 + 0.6) / 2)


def test_random_features_have_not() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(3000) % 10
    moments = moments_of(rng.normal(size=(3000, 20)), y, 10)
    assert within_class(moments) > 10
    assert simplex(moments)[0] > 0.05
    assert self_duality(moments, Head(torch.tensor(rng.normal(size=(10, 20))))) == pytest.approx(
        2**0.5, abs=0.3
    )


def test_collapsed_classes_far_from_the_origin_keep_their_digits() -> None:
    """Float32 features at 1000 with a spread of 0.01: raw second moments would show nothing."""
    x, y, _, _, _ = made(1)
    means = np.array([x[y == j].mean(0) for j in range(4)])
    tight = means[y] + 0.01 * (x - means[y])
    near, far = (within_class(moments_of(tight + shift, y, 4)) for shift in (0.0, 1000.0))
    assert far == pytest.approx(near, rel=1e-6)


def test_what_cannot_be_measured_is_refused() -> None:
    x, y, w, b, ood = made(0)
    with pytest.raises(DegenerateError, match="1 of them with samples"):
        measured(x[y == 2], y[y == 2], w, b, ood)
    with pytest.raises(LabelError, match="needs labels"):
        collapse(Features(torch.tensor(w).float(), torch.tensor(b).float()),
                 images(torch.tensor(x)), show_progress=False)  # fmt: skip
    pair = Ensemble([Features(torch.tensor(w).float(), torch.tensor(b).float())] * 2)
    data = images(torch.tensor(x), torch.tensor(y))
    with pytest.raises(NeedsError, match="Ensemble has several networks: measure each"):
        collapse(pair, data, show_progress=False)
    twice = {"near": {"far": data}, "far": {"far": data}}
    with pytest.raises(ArgumentError, match="two data sets are called 'far'"):
        collapse(pair.members[0], data, ood=twice, show_progress=False)


def test_a_network_whose_logits_are_distances_has_no_nc3() -> None:
    x, y, w, b, _ = made(0)
    network = offmap.networks.AnchorHead(Features(torch.tensor(w).float(), torch.tensor(b).float()))
    found = collapse(network, images(torch.tensor(x), torch.tensor(y)), show_progress=False)
    assert found.nc3 is None
    assert found.nc1 > 0
