"""Every composite around every other: each is what its parts give by hand, and it saves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

import offmap
from offmap.activations import Activations, Sample
from offmap.detectors import Composite, Needs, Shaper, catalogue, detector, load, save
from offmap.errors import ArgumentError
from tests.conftest import World, activations, fitted, make_world, network, plain, world_of

Batch = Activations | Sample
LEAF = "vim(dim=4)"  # it learns in two passes, and has a gradient
AROUND: dict[str, str] = {
    "react": "react({}, quantile=0.8)",
    "scale": "scale({}, quantile=0.5)",
    "membermean": "membermean({})",
    "combine": "combine([{}, {partner}])",
    "perturbed": "perturbed({}, magnitude=0.01)",
    "bats": "bats({}, width=1.0)",
}
REFUSED = {
    ("react", "membermean"): r"put the shaper inside, MemberMean\(ReAct",
    ("scale", "membermean"): r"put the shaper inside, MemberMean\(SCALE",
    ("bats", "membermean"): r"put BATS inside, MemberMean\(BATS",
    ("membermean", "membermean"): "for an ensemble already",
    ("perturbed", "perturbed"): "moves inputs itself, .* has no gradient",
}
# These learn on calibration data first, so nothing inside of them learns on training data.
EARLY = {"adascalea": "adascalea({}, k1=0.3)", "adascalel": "adascalel({}, k1=0.3)"}
# Every shaper wraps by the same means, so two of them stand in the matrix for all; the others are
# held against what they let the inner detector see.
SHAPERS = [
    name for name, method in catalogue().items() if issubclass(method, Shaper) and name not in EARLY
]
STACKS = [f"{name}({LEAF})" for name in SHAPERS]
STACKS += [f"react({name}({LEAF}), quantile=0.8)" for name in SHAPERS]
# LTS refuses what makes logits anew.
STACKS += [f"{name}(react({LEAF}))" for name in SHAPERS if name != "lts"]
PAIRS = [pair for pair in product(AROUND, AROUND) if pair not in REFUSED]


def around(outer: str, inner: str) -> str:
    """The outer composite around a detector; what it is combined with reads the same network."""
    members = Needs.MEMBERS in detector(inner).needs
    return AROUND[outer].format(inner, partner="totalentropy" if members else "energy")


def world_for(spec: str) -> World:
    """With features that stay positive where an input, which they are here, is moved a little."""
    world = make_world(120, relu=True)
    kind = world_of(spec, world).kind
    kind = replace(kind, members=2 if kind.members else 0)
    acts, ood = (
        activations(plain(part).features + 0.5, world.layer, kind)
        for part in (world.acts, world.ood)
    )
    return replace(world, acts=acts, ood=ood, kind=kind)


def fit(spec: str, world: World) -> offmap.Detector:
    return fitted(spec, world, len(world.labels))


def seen(world: World, change: Callable[[Activations], Activations]) -> World:
    acts, ood = (
        part.seen(change) if isinstance(part, Sample) else change(part)
        for part in (world.acts, world.ood)
    )
    return replace(world, acts=acts, ood=ood)


def shaped(inner: str, world: World, shape: Callable[[Tensor], Tensor]) -> Tensor:
    def change(acts: Activations) -> Activations:
        h = shape(acts.features)
        return acts.replace(features=h, logits=world.layer(h))

    other = seen(world, change)
    return fit(inner, other).score(other.ood)


def react(inner: str, world: World) -> Tensor:
    clip = plain(world.acts).features.flatten().double().quantile(0.8).float()
    return shaped(inner, world, lambda h: h.minimum(clip))


def scale(inner: str, world: World) -> Tensor:
    return shaped(inner, world, lambda h: h * (h.sum(1) / h.topk(8).values.sum(1)).exp()[:, None])


def bats(inner: str, world: World) -> Tensor:
    maps = plain(world.acts).features.unflatten(1, (4, 4))
    centre, width = maps.mean((0, 2))[:, None], maps.std((0, 2), correction=0)[:, None]

    def change(acts: Activations) -> Activations:
        h = acts.features.unflatten(1, (4, 4)).maximum(centre - width).minimum(centre + width)
        return network(h.flatten(1), world.layer, world.kind)

    other = seen(world, change)
    return fit(inner, other).score(other.ood)


def membermean(inner: str, world: World) -> Tensor:
    scores = []
    for i, head in enumerate(world.head):
        kind = replace(world.kind, members=0)
        one = seen(world, lambda acts, i=i: acts.members[i])
        one = replace(one, layer=head, kind=kind)
        scores.append(fit(inner, one).score(one.ood))
    return torch.stack(scores).mean(0)


def combine(inner: str, world: World) -> Tensor:
    members = Needs.MEMBERS in detector(inner).needs
    parts = [fit(spec, world) for spec in (inner, "totalentropy" if members else "energy")]
    terms = []
    for part in parts:
        known, scores = part.score(world.acts).double(), part.score(world.ood).double()
        t = (scores - known.mean()) / known.std(correction=0)
        terms.append(t.exp().log1p())
    return torch.stack(terms).mean(0)


def perturbed(inner: str, world: World) -> Tensor:
    made, ood = fit(inner, world), world.ood
    x = ood.inputs.clone().requires_grad_()
    made(made.view_of(Sample(ood.run(x), x, ood.run))).sum().backward()
    moved = ood.inputs - 0.01 * x.grad.sign()
    return made.score(Sample(ood.run(moved), moved, ood.run))


BY_HAND = {f.__name__: f for f in (react, scale, bats, membermean, combine, perturbed)}


def test_the_matrix_holds_every_composite_that_wraps() -> None:
    wraps = {
        name
        for name, method in catalogue().items()
        if issubclass(method, Composite) and {"inner", "detectors"} & method.default().params.keys()
    }
    assert wraps - set(SHAPERS) == (set(AROUND) | set(EARLY)) - {"react", "scale"}


@pytest.mark.parametrize("spec", STACKS)
def test_a_shaper_inside_and_around_another(spec: str) -> None:
    """The inner detector is the one that is fitted on what the outer one lets it see."""
    world = world_for(spec)
    made = fit(spec, world)
    other = replace(seen(world, lambda acts: made.see(0, acts)), layer=made.head_of(0, world.head))
    expected = fit(repr(made.inner), other).score(other.ood)
    assert torch.allclose(made.score(world.ood), expected, rtol=1e-6)


@pytest.mark.parametrize("inner", EARLY)
@pytest.mark.parametrize("outer", ["membermean", "combine"])
def test_a_composite_around_one_that_learns_on_calibration_data_first(
    outer: str, inner: str
) -> None:
    within = EARLY[inner].format("klm")
    spec = around(outer, within)
    world = world_for(spec)
    expected = BY_HAND[outer](within, world)
    scores = fit(spec, world).score(world.ood)
    assert torch.allclose(scores.double(), expected.double(), rtol=1e-4, atol=1e-6)
    assert len(scores.unique()) > len(scores) / 2


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_a_composite_around_another(outer: str, inner: str, tmp_path: Path) -> None:
    within = around(inner, LEAF)
    spec = around(outer, within)
    world = world_for(spec)
    made = fit(spec, world)
    scores, expected = made.score(world.ood), BY_HAND[outer](within, world)
    assert scores.dtype == torch.float32
    assert torch.allclose(
        scores, expected.float(), rtol=1e-4, atol=1e-5 * float(expected.abs().max())
    )
    assert repr(detector(json.loads(json.dumps(made.record())))) == repr(made)
    save(made, tmp_path / "made")
    loaded = load(tmp_path / "made")
    assert repr(loaded) == repr(made)
    assert torch.equal(loaded.score(world.ood), scores)


@pytest.mark.parametrize("inner", ["multilayermahalanobis", "auto"])
def test_a_mean_over_members_of_what_makes_copies_or_goes_without_parts(
    inner: str, tmp_path: Path
) -> None:
    """Both are told what there is by the activations of each member, not by those of all."""
    world = world_for(f"membermean({inner})")
    made = fit(f"membermean({inner})", world)
    expected = membermean(inner, world)
    assert torch.allclose(made.score(world.ood), expected, rtol=1e-5)
    save(made, tmp_path / "made")
    assert torch.equal(load(tmp_path / "made").score(world.ood), made.score(world.ood))


def test_a_member_goes_without_what_it_lacks_itself() -> None:
    world = world_for("membermean(auto)")

    def lacking(acts: Activations) -> Activations:
        first, second = acts.members
        return Activations.of_members([first, second.replace(layers={})])

    world = replace(world, acts=lacking(world.acts), ood=lacking(world.ood))
    made = fit("membermean(auto)", world)
    assert [len(part.left_out) for part in made.parts] == [0, 1]
    assert torch.allclose(made.score(world.ood), membermean("auto", world), rtol=1e-5)


@pytest.mark.parametrize(("outer", "inner"), REFUSED)
def test_what_cannot_stand_around_another_says_why(outer: str, inner: str) -> None:
    with pytest.raises(ArgumentError, match=REFUSED[outer, inner]):
        detector(around(outer, around(inner, LEAF)))
