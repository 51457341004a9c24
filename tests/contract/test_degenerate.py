"""From too little data every detector scores, or refuses in words: no NaN, no constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import offmap
from offmap.activations import Activations, Head
from offmap.detectors import Needs, catalogue, detector
from offmap.errors import ArgumentError, DegenerateError, NeedsError, ShapeError
from tests.conftest import World, activations, fitted, make_world, plain, world_of
from tests.contract.test_catalogue import for_relu

SPECS = [*catalogue(), "classgaussian(tied=True)", "neco(times_max_logit=False)", "knn(2)"]
SPECS += ["residual(12)", "react(residual)", "combine([vim, knn(2)])"]


def of(world: World, change: Callable[[Tensor], Tensor], rows: Tensor) -> World:
    """Some samples of a world, with other features."""
    acts, ood = (
        activations(change(plain(part).features), world.layer) for part in (world.acts, world.ood)
    )
    return replace(world, acts=acts, ood=ood).only(rows)


def unpredicted(world: World) -> World:
    bias = world.layer.bias - 100 * torch.eye(6)[5]
    return of(replace(world, layer=Head(world.layer.weight, bias)), lambda h: h, torch.arange(300))


def constant(h: Tensor) -> Tensor:
    return torch.cat([torch.full_like(h[:, :1], 0.1), h[:, 1:]], dim=1)


# Too little of the data, or data that vary too little. `same` are two samples, each repeated.
WORLDS: dict[str, Callable[[World], World]] = {
    "fewer samples than features": lambda w: of(w, lambda h: h, torch.arange(12)),
    "one sample a class": lambda w: of(w, lambda h: h, torch.arange(6)),
    "one sample": lambda w: of(w, lambda h: h, torch.arange(1)),
    "one class": lambda w: of(w, lambda h: h, w.labels.eq(2).nonzero()[:, 0]),
    "the same samples again": lambda w: of(w, lambda h: h, torch.arange(2).repeat(60)),
    "a constant feature": lambda w: of(w, constant, torch.arange(300)),
    "features of 0": lambda w: of(w, torch.zeros_like, torch.arange(300)),
    "a class never predicted": unpredicted,
}


WAYS_OUT = ("use ", "give ", "fit on", "lower", "choose", "leave", "?")


def outcome(spec: str, world: World) -> Tensor | Exception:
    try:
        return fitted(spec, world, 300).score(world.ood)
    except (DegenerateError, ArgumentError, NeedsError) as error:
        return error


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("spec", [spec for spec in SPECS if detector(spec).learns])
def test_a_score_or_a_refusal(spec: str, name: str) -> None:
    world = WORLDS[name](make_world(300, relu=for_relu(spec)))
    result = outcome(spec, world_of(spec, world))
    if isinstance(result, Tensor):
        assert result.isfinite().all()
        if name != "features of 0":  # with which all samples are one
            assert len(result.unique()) > 1
    else:
        assert any(word in str(result) for word in WAYS_OUT)


@pytest.mark.parametrize("spec", [s for s in SPECS if not Needs.INPUTS & detector(s).needs])
def test_of_one_logit_a_sample_no_score_is_constant(spec: str) -> None:
    generator = torch.Generator().manual_seed(0)
    h, layer = torch.rand(120, 16, generator=generator), Head(torch.ones(1, 16))
    acts, ood = Activations(layer(h), h), Activations(layer(2 * h), 2 * h)
    world = World(acts, torch.zeros(120).long(), ood, layer)
    result = outcome(spec, world_of(spec, world))
    if isinstance(result, Tensor):
        assert result.isfinite().all()
        assert len(result.unique()) > 1
    else:
        assert isinstance(result, DegenerateError | NeedsError)


WORDS = {
    "vim": r"12 training samples, 64 features: .* 12 directions, and outside of the leading 32 "
    r"nothing is left: give more than 33 samples, or choose dim= below 12",
    "residual": r"12 training samples, 64 features: .* choose dim= below 12",
    "neco": r"12 training samples, 64 features: .* 11 directions.* choose dim= below 11",
    "knn": r"neighbour 50 was asked for, and there are 12 training samples",
}


@pytest.mark.parametrize("spec", WORDS)
def test_fewer_samples_than_features_are_counted_in_the_refusal(spec: str) -> None:
    world = make_world(12, features=64)
    with pytest.raises(DegenerateError, match=WORDS[spec]):
        fitted(spec, world)
    made = offmap.KNN(3) if spec == "knn" else detector(f"{spec}(dim=8)")
    made.fit([(world.acts, None)], head=world.head)
    assert len(made.score(world.ood).unique()) == len(world.ood)


@pytest.mark.parametrize(("spec", "rank"), [("vim", 6), ("residual", 6), ("neco", 5)])
def test_features_that_lie_in_a_subspace_are_refused_as_few_samples_are(
    spec: str, rank: int
) -> None:
    """However many they are, nothing known has a part outside. The origin u is one more point."""
    world = make_world(300)
    h = world.features * (torch.arange(16) < 5)
    with pytest.raises(
        DegenerateError, match=rf"300 training samples, 16 features: they span {rank} dir"
    ):
        fitted(spec, replace(world, acts=world.of(h)))


@pytest.mark.parametrize("spec", ["rmds", "rmds++", "react(rmds)"])
def test_the_relative_distance_of_one_class_is_refused(spec: str) -> None:
    world = make_world()
    one = world.only(world.labels == 3)
    with pytest.raises(DegenerateError, match=r"all 100 training samples are of one class.* is 0"):
        fitted(spec, one)
    assert len(fitted(spec, world.only(world.labels >= 4)).score(world.ood).unique()) > 1


def test_a_class_of_one_sample_has_no_gaussian_of_its_own() -> None:
    world = make_world(60)
    rows = torch.cat([(world.labels != 4).nonzero()[:, 0], torch.tensor([4])])
    with pytest.raises(DegenerateError, match=r"the 1 samples of class 4 are one point.*tied=True"):
        fitted("classgaussian", world.only(rows))
    assert fitted("classgaussian(tied=True)", world.only(rows)).score(world.ood).isfinite().all()


@pytest.mark.parametrize("spec", ["knn(5)", "mds++", "rmds++", "classgaussian(normalize=True)"])
def test_a_single_feature_has_no_direction(spec: str) -> None:
    h = torch.randn(90, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ShapeError, match="a single feature is 1, 0 or -1"):
        detector(spec).fit([(Activations(features=h), torch.arange(90) % 3)])


def test_a_constant_feature_that_changes_is_far_out() -> None:
    """It has no deviation of its own: by default a thousandth of the others' median counts."""
    world = make_world(300)
    h = world.features.double()
    h[:, 0] = 0.1
    made = offmap.Mahalanobis().fit([(Activations(features=h), world.labels)])
    moved = h[:1].clone()
    moved[0, 0] += 1.0
    within = h - torch.stack([h[world.labels == c].mean(0) for c in range(6)])[world.labels]
    deviation = within[:, 1:].square().mean(0).sqrt().median()
    gain = made(Activations(features=moved)) - made(Activations(features=h[:1]))
    ridge = 1e-6 * 15 / 16  # of the mean variance of the standardised features, one of which is 0
    assert float(gain) == pytest.approx(1 / float(deviation**2 * ridge), rel=1e-6)
