"""Disagreement of an ensemble against its formula, written slowly in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from offmap.errors import ArgumentError, ShapeError
from offmap.networks import Ensemble
from offmap.training import Batch, objective
from offmap.training.disagreement import mutual_information, norms_at_inference


def probabilities(z: np.ndarray) -> np.ndarray:
    shifted = np.exp(z - z.max())
    return shifted / shifted.sum()


def entropy(p: np.ndarray) -> float:
    return float(-sum(x * np.log(x) for x in p if x > 0))


def slow_mutual_information(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Entropy of the mean less the mean entropy, sample by sample."""
    found = []
    for rows in zip(*logits, strict=True):
        p = [probabilities(row.astype(np.float64)) for row in rows]
        found.append(entropy(np.mean(p, axis=0)) - float(np.mean([entropy(x) for x in p])))
    return np.array(found)


def slow_cross_entropy(z: np.ndarray, labels: Sequence[int]) -> float:
    rows = zip(z.astype(np.float64), labels, strict=True)
    return float(np.mean([-np.log(probabilities(row)[y]) for row, y in rows]))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Sequential):
    """Logits of images of 1x2x3."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(6, 4))


def ensemble(members: int = 3) -> Ensemble:
    torch.manual_seed(0)
    return Ensemble([Linear() for _ in range(members)])


def batch(members: int = 3, ordinary: bool = False) -> Batch:
    images = 3 * drawn(1, 5 * members, 1, 2, 3)
    labels = torch.arange(5 * members) % 4
    return Batch(images, labels, contrast=3 * drawn(2, 7, 1, 2, 3), ordinary=ordinary)


@given(
    seed=st.integers(0, 999),
    members=st.integers(1, 5),
    classes=st.integers(2, 6),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_mutual_information_equals_the_slow_formula(
    seed: int, members: int, classes: int, scale: float
) -> None:
    logits = list(scale * drawn(seed, members, 4, classes).double())
    found = mutual_information(logits).numpy()
    np.testing.assert_allclose(
        found, slow_mutual_information([z.numpy() for z in logits]), atol=1e-12
    )
    assert found.min() >= -1e-12
    assert found.max() <= np.log(members) + 1e-12


def test_it_is_nothing_where_all_agree_and_the_logarithm_of_the_members_where_none_do() -> None:
    z = drawn(0, 5, 4)
    assert mutual_information([z, z, z]).abs().max() < 1e-6
    apart = [1e4 * torch.eye(3)[[m]] for m in range(3)]
    assert float(mutual_information(apart)) == pytest.approx(np.log(3), rel=1e-6)


def test_its_gradient_is_that_of_the_formula() -> None:
    logits = [drawn(m, 3, 4).double().requires_grad_() for m in range(3)]
    assert torch.autograd.gradcheck(lambda *z: mutual_information(z), logits)


@pytest.mark.parametrize("ordinary", [False, True])
def test_the_objective_equals_the_slow_formula(ordinary: bool) -> None:
    network, seen = ensemble(), batch(ordinary=ordinary)
    assert seen.contrast is not None
    outcome = objective("disagreement", alpha=1.5, ordinary_alpha=0.25)(network, seen)
    own, apart = [], []
    for m, member in enumerate(network.members):
        rows = slice(5 * m, 5 * m + 5)
        own.append(member(seen.images[rows]).detach())
        apart.append(member(seen.contrast).detach().numpy())
    losses = [
        slow_cross_entropy(z.numpy(), seen.labels[5 * m : 5 * m + 5].tolist())
        for m, z in enumerate(own)
    ]
    weight = 0.25 if ordinary else 1.5
    expected = np.mean(losses) - weight * slow_mutual_information(apart).mean()
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(outcome.logits, torch.cat(own))


def test_without_weight_it_is_the_plain_ensemble_and_needs_no_contrast_images() -> None:
    network, seen = ensemble(), batch()
    alone = Batch(seen.images, seen.labels)
    plain = objective("cross_entropy")(network, alone)
    assert torch.equal(objective("disagreement", alpha=0)(network, alone).loss, plain.loss)
    each = [
        objective("cross_entropy")(member, Batch(x, y)).loss.item()
        for member, x, y in zip(
            network.members, seen.images.chunk(3), seen.labels.chunk(3), strict=True
        )
    ]
    assert plain.loss.item() == pytest.approx(np.mean(each), rel=1e-6)


def with_norms() -> nn.Sequential:
    """Batch normalisation in two and in one dimensions, and dropout."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 4)),
    )


@pytest.fixture
def normed() -> Ensemble:
    """Two members in training, with running statistics of their own."""
    torch.manual_seed(0)
    network = Ensemble([with_norms(), with_norms()])
    for m, member in enumerate(network.members):
        member(5 + 3 * drawn(m, 40, 1, 2, 3))
    return network


def buffers(network: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in network.named_buffers()}


def test_inside_batch_norm_is_as_at_inference_and_dropout_as_in_training(normed: Ensemble) -> None:
    images, before = drawn(9, 6, 1, 2, 3), buffers(normed)
    member = normed.members[0]
    with norms_at_inference(normed):
        assert [m.training for m in member] == [True, False, True, True, True, False, True, True]
        found = member[:6](images)
        assert not torch.equal(member(images), member(images))  # of dropout
    assert all(m.training for m in normed.modules())
    assert all(torch.equal(x, before[name]) for name, x in buffers(normed).items())
    assert torch.equal(found, member.eval()[:6](images))


def test_modes_and_gradients_come_back_after_an_error(normed: Ensemble) -> None:
    normed.members[1].eval()
    with pytest.raises(ValueError, match="stop"), norms_at_inference(normed, affine=False):
        raise ValueError("stop")
    assert all(m.training for m in normed.members[0].modules())
    assert not any(m.training for m in normed.members[1].modules())
    assert all(p.requires_grad for p in normed.parameters())


def test_contrast_images_leave_the_running_statistics_as_they_are(normed: Ensemble) -> None:
    """Those that a step ends with are those of the members' own images alone."""
    start = buffers(normed)
    ends = []
    for alpha in (0, 2):
        for name, x in normed.named_buffers():
            x.copy_(start[name])
        seen = Batch(drawn(3, 8, 1, 2, 3), torch.arange(8) % 4, contrast=50 * drawn(4, 9, 1, 2, 3))
        objective("disagreement", alpha=alpha)(normed, seen)
        ends.append(buffers(normed))
    assert all(torch.equal(x, ends[1][name]) for name, x in ends[0].items())
    assert ends[0]["members.0.1.num_batches_tracked"] == 2


@pytest.mark.parametrize("ordinary", [False, True])
def test_gradients_of_contrast_images_reach_all_weights_but_those_held_back(
    ordinary: bool, normed: Ensemble
) -> None:
    seen = Batch(
        drawn(3, 8, 1, 2, 3), torch.arange(8) % 4, contrast=drawn(4, 9, 1, 2, 3), ordinary=ordinary
    )
    found = []
    for alpha in (0.0, 1.0):
        torch.manual_seed(1)  # of dropout
        normed.zero_grad()
        objective("disagreement", alpha=alpha, ordinary_alpha=alpha)(normed, seen).loss.backward()
        found.append(
            {k: p.grad.clone() for k, p in normed.named_parameters() if p.grad is not None}
        )
    assert found[0].keys() == dict(normed.named_parameters()).keys()
    same = {name for name, x in found[0].items() if torch.equal(x, found[1][name])}
    affine = {
        f"members.{m}.{i}.{kind}" for m in (0, 1) for i in (1, 5) for kind in ("weight", "bias")
    }
    assert same == (affine if ordinary else set())


def test_what_is_missing_is_named() -> None:
    seen = batch()
    with pytest.raises(ArgumentError, match="needs an ensemble"):
        objective("disagreement")(Linear(), seen)
    with pytest.raises(ArgumentError, match="needs contrast images"):
        objective("disagreement")(ensemble(), Batch(seen.images, seen.labels))
    with pytest.raises(ArgumentError, match="alpha must be from 0 up; seen -1"):
        objective("disagreement", alpha=-1)
    with pytest.raises(ShapeError, match="15 images do not divide into equal parts for 2 members"):
        objective("disagreement")(ensemble(2), seen)
