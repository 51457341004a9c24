"""RelativeResidual, CoP and CoRP, written from their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations, Head
from offmap.detectors.features.corp import CoRP
from offmap.errors import ArgumentError, DegenerateError, ShapeError
from offmap.metrics import auroc
from tests.conftest import World, fitted, make_world
from tests.reference import slow
from tests.reference.test_of_every_kind import arrays, units
from tests.reference.test_scores import assert_parity

NAMES = {"relativeresidual", "cop", "corp"}


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_relative_residual(relu: bool) -> None:
    world = make_world(300, relu=relu)
    train = arrays(world.acts)[1]
    w, b = (x.double().numpy() for x in (world.layer.weight, world.layer.bias))
    origin, projector = slow.complement(train, w, b, 8)
    for acts in (world.acts, world.ood):
        rows = []
        for x in arrays(acts)[1]:
            share = np.linalg.norm(projector @ (x - origin)) / np.linalg.norm(x - origin)
            rows.append((share, 1.0))
        assert_parity(fitted("nre", world).score(acts), slow.pairs(rows))


def test_the_relative_residual_does_not_know_norms_and_lies_from_0_to_1(world: World) -> None:
    made = offmap.RelativeResidual(8).fit(world.batches(), head=Head(world.head.weight))
    scores = made.score(world.ood)
    far = Activations(world.ood.logits, 1e3 * world.ood.features)
    assert torch.allclose(made.score(far), scores, rtol=1e-5)
    assert ((scores >= 0) & (scores <= 1)).all()
    zero = Activations(world.ood.logits[:1], torch.zeros(1, 16))
    assert made.score(zero).item() == 1


def reconstruction(x: slow.Array, train: slow.Array, dim: int) -> slow.Pair:
    """Distances to the reconstruction from the leading directions of the centred rows."""
    mean = train.mean(0)
    _, _, directions = np.linalg.svd(train - mean)
    rows = []
    for row in x:
        rest = row - mean
        for direction in directions[:dim]:
            rest = rest - (direction @ (row - mean)) * direction
        rows.append((np.linalg.norm(rest), np.linalg.norm(row - mean)))
    return slow.pairs(rows)


def holding(train: slow.Array, share: float) -> int:
    """How few directions hold a share of the variance."""
    values = np.linalg.svd(train - train.mean(0), compute_uv=False) ** 2
    return next(q for q in range(1, len(values)) if values[:q].sum() >= share * values.sum())


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("dim", [None, 0.5, 0.97, 3])
def test_cop(relu: bool, dim: int | float | None) -> None:
    world = make_world(300, relu=relu)
    train = units(arrays(world.acts)[1])
    made = fitted("cop" if dim is None else f"cop({dim})", world)
    share = 0.85 if dim is None else dim
    number = int(share) if share >= 1 else holding(train, share)
    assert made.directions_.shape == (16, number)
    for acts in (world.acts, world.ood):
        expected = reconstruction(units(arrays(acts)[1]), train, number)
        assert_parity(made.score(acts), expected)


def fourier(x: slow.Array, made: CoRP) -> slow.Array:
    """The map, one random feature of one sample at a time."""
    frequencies, phases = made.frequencies_.numpy(), made.phases_.numpy()
    rows = [
        [np.cos(w @ row + u) for w, u in zip(frequencies, phases, strict=True)] for row in units(x)
    ]
    return np.sqrt(2 / len(phases)) * np.array(rows)


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("spec", ["corp", "corp(5, gamma=0.5, width=40, seed=3)"])
def test_corp(relu: bool, spec: str) -> None:
    world = make_world(300, relu=relu)
    made = fitted(spec, world)
    train = fourier(arrays(world.acts)[1], made)
    number = 5 if "5" in spec else holding(train, 0.8)
    assert made.directions_.shape == (40 if "40" in spec else 64, number)
    for acts in (world.acts, world.ood):
        assert_parity(
            made.score(acts), reconstruction(fourier(arrays(acts)[1], made), train, number)
        )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_random_fourier_features_have_the_products_of_the_kernel(gamma: float) -> None:
    world = make_world(60)
    made = CoRP(gamma=gamma, width=4000)  # the map is there without a fit
    x = torch.from_numpy(units(arrays(world.acts)[1]))
    kernel = (-gamma * torch.cdist(x, x).square()).exp()
    mapped = made.read(world.features)
    # A mean of 4000 terms of variance below 1: four deviations.
    assert (mapped @ mapped.T - kernel).abs().max() < 4 * 2 / 4000**0.5
    assert float((mapped @ mapped.T - kernel).mean().abs()) < 0.02


def test_random_features_are_drawn_by_their_seed_and_kept() -> None:
    world = make_world(300)
    first = fitted("corp", world)
    again, other = fitted("corp", world), fitted("corp(seed=1)", world)
    assert torch.equal(first.frequencies_, again.frequencies_)
    assert not torch.equal(first.frequencies_, other.frequencies_)
    first.frequencies_.zero_()  # is nobody else's
    assert torch.equal(fitted("corp", world).score(world.ood), again.score(world.ood))


def test_the_width_grows_with_the_features_up_to_4096() -> None:
    """For 512 and 2048 features the published code has 2048 and 4096."""
    widths = {d: CoRP().footprint(10, d) for d in (512, 2048, 4096)}
    assert widths == {512: 16 * 2048**2, 2048: 16 * 4096**2, 4096: 16 * 4096**2}


def test_a_direction_between_the_classes_is_known_to_cop_and_not_to_corp() -> None:
    """Three classes on a circle: the plane holds the whole of it, the kernel the classes alone."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.tensor([0.0, 2.1, 4.2]).repeat(200) + 0.05 * torch.randn(
        600, generator=generator
    )

    def acts(angle: torch.Tensor) -> Activations:
        rest = 0.05 * torch.randn(len(angle), 2, generator=generator)
        return Activations(
            features=torch.cat([angle.cos()[:, None], angle.sin()[:, None], rest], 1)
        )

    known, between = acts(angles), acts(angles + 1.05)
    cop = offmap.CoP().fit([(known, None)])
    assert abs(auroc(cop.score(known), cop.score(between)) - 0.5) < 0.1
    # The data of a circle are few directions; its curve needs some more than the plane.
    corp = offmap.CoRP(0.8, width=256).fit([(known, None)])
    assert auroc(corp.score(known), corp.score(between)) > 0.95


@pytest.mark.parametrize("spec", ["cop", "corp"])
def test_norms_do_not_matter(spec: str, world: World) -> None:
    made = fitted(spec, world)
    far = Activations(world.ood.logits, 100 * world.ood.features)
    assert torch.allclose(made.score(far), made.score(world.ood), rtol=1e-5)


@pytest.mark.parametrize("spec", ["cop", "corp"])
def test_reconstruction_in_parts_gives_the_same_scores(
    spec: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fitted(spec, world)
    whole = made.score(world.ood)
    monkeypatch.setattr("offmap.detectors._chunks._BYTES", 30_000)
    assert torch.allclose(made.score(world.ood), whole, rtol=1e-6)


@pytest.mark.parametrize("spec", ["cop", "corp"])
def test_what_reconstruction_cannot_do_is_refused(spec: str, world: World) -> None:
    rays = torch.arange(1.0, 61)[:, None] * torch.ones(16)
    with pytest.raises(DegenerateError, match="normalised training features are one point"):
        offmap.detector(spec).fit([(Activations(features=rays), None)])
    single = torch.randn(60, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ShapeError, match="a single feature is 1, 0 or -1"):
        offmap.detector(spec).fit([(Activations(features=single), None)])
    with pytest.raises(ArgumentError, match=r"directions are kept.*choose dim below"):
        fitted(f"{spec}(64)", world)
    with pytest.raises(DegenerateError, match=r"12 training samples.*choose dim= below 11"):
        fitted(f"{spec}(11)", world.only(torch.arange(12)))


@pytest.mark.parametrize("dim", [0, -1, 1.5, True])
def test_a_dim_that_is_none_is_refused(dim: float) -> None:
    with pytest.raises(ArgumentError, match="dim must be a"):
        offmap.CoP(dim)
