"""fDBD, ORA and NCI, written from their formulas: they read the head's rows and a mean."""

from __future__ import annotations

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

NAMES = {"fdbd", "ora", "nci"}


def head_of(world: World) -> tuple[slow.Array, slow.Array]:
    return world.layer.weight.double().numpy(), world.layer.bias.double().numpy()


def fdbd(h: slow.Array, mean: slow.Array, w: slow.Array, b: slow.Array) -> slow.Pair:
    rows = []
    for x in h:
        z = w @ x + b
        y = z.argmax()
        others = [k for k in range(len(w)) if not np.array_equal(w[y], w[k])]
        distances = [abs(z[y] - z[k]) / np.linalg.norm(w[y] - w[k]) for k in others]
        value = np.mean(distances) / np.linalg.norm(x - mean)
        rows.append((-value, value))
    return slow.pairs(rows)


def angle(a: slow.Array, b: slow.Array) -> float:
    """By both legs of the triangle of the unit vectors, which no rounding hurts (Kahan)."""
    a, b = slow.unit(a), slow.unit(b)
    return float(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


def ora(h: slow.Array, centre: slow.Array, w: slow.Array, b: slow.Array) -> slow.Pair:
    rows = []
    for x in h:
        z = w @ x + b
        y = z.argmax()
        angles = []
        for k in range(len(w)):
            if np.array_equal(w[y], w[k]):
                continue
            normal = w[y] - w[k]
            on_boundary = x - (z[y] - z[k]) / (normal @ normal) * normal
            assert abs((w[y] - w[k]) @ on_boundary + b[y] - b[k]) < 1e-9 * (1 + abs(z).max())
            angles.append(angle(x - centre, on_boundary - centre))
        rows.append((-max(angles), max(angles)))
    return slow.pairs(rows)


def nci(
    h: slow.Array, mean: slow.Array, w: slow.Array, b: slow.Array, alpha: float = 0.0
) -> slow.Pair:
    rows = []
    for x in h:
        row = w[(w @ x + b).argmax()]
        size, filtered = np.linalg.norm(x - mean), alpha * np.abs(x).sum()
        terms = np.abs(row * (x - mean)).sum() / size + filtered
        rows.append((-(row @ (x - mean)) / size - filtered, terms))
    return slow.pairs(rows)


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("spread", [1.0, 0.01])
def test_fdbd_and_nci(relu: bool, spread: float) -> None:
    world = make_world(300, relu=relu, spread=spread)
    mean, head = arrays(world.acts)[1].mean(0), head_of(world)
    for acts in (world.acts, world.ood):
        h = arrays(acts)[1]
        assert_parity(fitted("fdbd", world).score(acts), fdbd(h, mean, *head))
        assert_parity(fitted("nci", world).score(acts), nci(h, mean, *head))
        found = fitted("nci(0.01)", world).score(acts)
        assert_parity(found, nci(h, mean, *head, alpha=0.01))


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("spread", [1.0, 0.01])
def test_ora(relu: bool, spread: float) -> None:
    world = make_world(300, relu=relu, spread=spread)
    _, train = arrays(world.acts)
    means = slow.class_means(train, world.labels.numpy())
    centre = np.mean(list(means.values()), axis=0)
    for acts in (world.acts, world.ood):
        expected = ora(arrays(acts)[1], centre, *head_of(world))
        assert_parity(fitted("ora", world).score(acts), expected)


def test_ora_of_a_triangle() -> None:
    """From the origin, (3, 4) and its projection (0, 4) on the boundary x = 0."""
    head = Head(torch.tensor([[1.0, 0], [-1, 0]]), torch.zeros(2))
    train = torch.tensor([[1.0, 0], [-1, 0]])
    made = offmap.ORA().fit([(Activations(head(train), train), torch.tensor([0, 1]))], head=head)
    h = torch.tensor([[3.0, 4], [3, 0], [-1e-6, 1], [0, 0]])
    expected = [-np.arctan(3 / 4), 0, -1e-6, 0]
    assert made.score(Activations(head(h), h)).tolist() == pytest.approx(expected, rel=1e-6)


def test_ora_of_a_projection_behind_the_centre() -> None:
    """The boundary is x = -1: seen from the origin (1, 0) is before it, and (-1, 0) behind."""
    head = Head(torch.tensor([[1.0, 0], [-1, 0]]), torch.tensor([1.0, -1.0]))
    train = torch.tensor([[1.0, 0], [-1, 0]])
    made = offmap.ORA().fit([(Activations(head(train), train), torch.tensor([0, 1]))], head=head)
    h = torch.tensor([[1.0, 0], [1, 1], [1, 1e-5]])
    expected = [-np.pi, -np.pi / 2, -(np.pi - 2e-5)]
    assert made.score(Activations(head(h), h)).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_centre_of_ora_weighs_classes_alike() -> None:
    world = make_world(300)
    rows = torch.cat([torch.arange(300), (world.labels == 0).nonzero()[:, 0].repeat(5)])
    means = slow.class_means(arrays(world.acts)[1], world.labels.numpy())
    made = fitted("ora", world.only(rows))
    assert np.allclose(made.centre_.numpy(), np.mean(list(means.values()), axis=0), rtol=1e-9)


def doubled(world: World) -> Head:
    """The head with its first class twice, the second time with another bias."""
    weight = torch.cat([world.layer.weight, world.layer.weight[:1]])
    return Head(weight, torch.cat([world.layer.bias, world.layer.bias[:1] - 3]))


@pytest.mark.parametrize("spec", ["fdbd", "ora"])
def test_rows_that_are_equal_have_no_boundary(spec: str) -> None:
    """They are at distance 0 of each other; from the other classes both count."""
    world = make_world(300)
    head = doubled(world)
    acts, ood = (Activations(head(a.features), a.features) for a in (world.acts, world.ood))
    other = fitted(spec, World(acts, world.labels, ood, head)).score(ood)
    assert other.isfinite().all()
    h, train = arrays(world.ood)[1], arrays(world.acts)[1]
    w, b = head.weight.double().numpy(), head.bias.double().numpy()
    means = np.stack(list(slow.class_means(train, world.labels.numpy()).values()))
    twin = fdbd(h, train.mean(0), w, b) if spec == "fdbd" else ora(h, means.mean(0), w, b)
    assert_parity(other, twin)


@pytest.mark.parametrize("spec", ["fdbd", "ora"])
def test_a_head_whose_rows_are_all_equal_is_refused(spec: str) -> None:
    world = make_world(300)
    head = Head(world.layer.weight[:1].repeat(6, 1), world.layer.bias)
    with pytest.raises(DegenerateError, match="no two of the head's 6 rows differ"):
        offmap.detector(spec).fit(world.batches(), head=head)


@pytest.mark.parametrize("spec", ["fdbd", "ora", "nci"])
def test_a_sample_at_the_mean_scores_finitely(spec: str) -> None:
    h = torch.tensor([[2.0, 0], [0, 2]])
    head = Head(torch.eye(2), torch.tensor([0.0, 0.5]))
    made = offmap.detector(spec)
    made.fit([(Activations(head(h), h), torch.tensor([0, 1]))], head=head)
    middle = torch.ones(1, 2)
    assert made.score(Activations(head(middle), middle)).isfinite().all()


@pytest.mark.parametrize("spec", ["fdbd", "ora", "nci"])
def test_large_logits_score_finitely_and_apart(spec: str) -> None:
    world = make_world(300)
    head = Head(1e4 * world.layer.weight, 1e4 * world.layer.bias)
    acts = Activations(head(world.features), world.features)
    scores = fitted(spec, World(acts, world.labels, acts, head)).score(acts)
    assert scores.isfinite().all()
    assert len(scores.unique()) > 290
    if spec != "nci":  # distances do not know the size of the weights
        assert torch.allclose(scores, fitted(spec, world).score(world.acts), rtol=1e-4)


def test_ora_in_parts_gives_the_same_scores(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fitted("ora", world)
    whole = made.score(world.ood)
    monkeypatch.setattr("offmap.detectors._chunks._BYTES", 5000)
    assert torch.equal(made.score(world.ood), whole)


def test_alpha_is_not_negative() -> None:
    with pytest.raises(ArgumentError, match="alpha must be a number of at least 0; seen -1"):
        offmap.NCI(-1)
