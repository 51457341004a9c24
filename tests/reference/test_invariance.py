"""Gaussian detectors do not know the units of the features, nor their axes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import offmap
from offmap.activations import Activations

FEATURES = 6
LABELS = torch.arange(240) % 3
# On features of norm 1 another unit for one axis is another direction, so of the maps only those
# are left that keep angles.
ANY = ["mahalanobis", "relativemahalanobis", "classgaussian", "classgaussian(tied=True)"]
NORMALISED = ["mahalanobispp", "relativemahalanobispp", "classgaussian(normalize=True)"]


def data(seed: int, constant: bool = False) -> tuple[Tensor, Tensor]:
    """Features of three classes, and others; in float64, so that maps round nothing."""
    generator = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(3, FEATURES, generator=generator)
    train = means[LABELS] + torch.randn(240, FEATURES, generator=generator)
    other = 4 * torch.randn(60, FEATURES, generator=generator)
    if constant:
        train[:, 0] = other[:, 0] = 0.1
    return train.double(), other.double()


def scores(spec: str, train: Tensor, other: Tensor) -> Tensor:
    """In float64, before they are rounded."""
    made = offmap.detector(spec).fit([(Activations(features=train), LABELS)])
    return made(Activations(features=other))  # type: ignore[no-any-return]


def rotation(generator: torch.Generator) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(FEATURES, FEATURES, generator=generator).double())
    return q


def size(x: Tensor) -> float:
    return float(x.abs().max())


@pytest.mark.parametrize("spec", ANY)
@given(
    seed=st.integers(0, 1000),
    powers=st.lists(st.integers(-30, 30), min_size=FEATURES, max_size=FEATURES),
    constant=st.booleans(),
)
@settings(max_examples=4, deadline=None)
def test_other_units_change_no_bit(spec: str, seed: int, powers: list[int], constant: bool) -> None:
    """Units that are powers of two, whose products round nothing."""
    train, other = data(seed, constant)
    if constant:  # without a deviation of its own it has that of the others
        powers[0] = 0
    units = 2.0 ** torch.tensor(powers).double()
    before, after = scores(spec, train, other), scores(spec, train * units, other * units)
    if "gaussian" not in spec:
        assert torch.equal(before, after)
    else:  # a density is per volume, of which a constant feature's deviation is a factor too
        volume = float((after - before)[0]) if constant else sum(powers) * math.log(2)
        assert size(after - before - volume) <= 1e-12 * size(before)


@pytest.mark.parametrize("spec", ANY)
@given(seed=st.integers(0, 1000))
@settings(max_examples=4, deadline=None)
def test_a_linear_map_of_the_features_changes_nothing(spec: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    stretch = 0.5 + 1.5 * torch.rand(FEATURES, generator=generator).double()
    change = rotation(generator) * stretch @ rotation(generator)
    train, other = data(seed)
    before, after = scores(spec, train, other), scores(spec, train @ change, other @ change)
    volume = (
        float(change.det().abs().log()) if "gaussian" in spec else 0.0
    )  # a density is per volume
    # A relative distance is a difference of two, which alone have a size: the first is one of them.
    terms = scores("mahalanobis", train, other) if "relative" in spec else before
    assert size(after - before - volume) <= 1e-4 * size(terms)


@pytest.mark.parametrize("spec", NORMALISED)
@given(seed=st.integers(0, 1000), power=st.integers(-30, 30))
@settings(max_examples=4, deadline=None)
def test_of_norm_1_one_unit_for_all_axes_changes_no_bit(spec: str, seed: int, power: int) -> None:
    train, other = data(seed)
    unit = 2.0**power
    assert torch.equal(scores(spec, train, other), scores(spec, train * unit, other * unit))


@pytest.mark.parametrize("name", ["mahalanobispp", "relativemahalanobispp"])
@given(seed=st.integers(0, 1000))
@settings(max_examples=4, deadline=None)
def test_of_norm_1_other_axes_change_nothing(name: str, seed: int) -> None:
    """Without the ridge, which is one by axes, and counts where a direction hardly varies."""
    spec = f"{name}(ridge=0)"
    train, other = data(seed)
    turn = rotation(torch.Generator().manual_seed(seed))
    before, after = scores(spec, train, other), scores(spec, train @ turn, other @ turn)
    assert size(after - before) <= 1e-8 * size(before)
