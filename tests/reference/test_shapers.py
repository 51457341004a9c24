"""The shapers against their formulas, sample by sample in NumPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.activations import Activations, Head, Sample, Tap
from offmap.errors import ArgumentError, DegenerateError, FeaturesWarning, NeedsError
from offmap.metrics import auroc
from tests.conftest import World, fitted, make_world, plain, world_of
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"ashp", "ashb", "ashs", "ras", "lts", "dice", "vra", "optfs", "bats"}

Array = slow.Array


@pytest.fixture(scope="module")
def rectified() -> World:
    return make_world(relu=True)


def head_of(world: World) -> tuple[Array, Array]:
    return world.layer.weight.double().numpy(), world.layer.bias.double().numpy()


def features(acts: Activations) -> Array:
    return acts.features.double().numpy()


def energy(h: Array, weight: Array, bias: Array) -> slow.Pair:
    """Of the shaped logits, with the terms of these."""
    score, terms = slow.energy(h @ weight.T + bias)
    size = np.abs(h) @ np.abs(weight.T) + np.abs(bias)
    return score, terms + size.max(1)


def one(h: list[float], weight: Tensor) -> Activations:
    x = torch.tensor([h]).float()
    return Activations(x @ weight.T, x)


def blocks(n: int = 400) -> World:
    """Each class has 16 features of its own among 64, as after training; OOD a few of each.

    The head reads the features of a class, and a little of all others.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 4
    own = torch.arange(64)[None] // 16 == labels[:, None]
    noise = torch.rand(n, 64, generator=generator)
    known = torch.where(own, 1 + noise, 0.3 * noise)
    other = (2 * torch.rand(n, 64, generator=generator) - 1).relu()
    head = Head(torch.where(torch.arange(64)[None] // 16 == torch.arange(4)[:, None], 0.5, -0.1))
    return World(Activations(head(known), known), labels, Activations(head(other), other), head)


@pytest.mark.parametrize("name", ["ashp", "ashb", "ashs", "scale", "dice", "vra"])
def test_where_classes_have_features_of_their_own_ood_scores_are_higher(name: str) -> None:
    world = blocks()
    made = fitted(name, world)
    assert auroc(made.score(world.acts), made.score(world.ood)) > 0.99


# ASH: how many are large, and what becomes of them.


def pruned(h: Array, quantile: float, kind: str) -> Array:
    k = h.shape[1] - round(quantile * h.shape[1])
    rows = []
    for row in h:
        order = sorted(range(len(row)), key=lambda j: (-row[j], j))
        new = np.zeros_like(row)
        for j in order[:k]:
            new[j] = row.sum() / k if kind == "ashb" else row[j]
        if kind == "ashs" and new.sum() > 0:
            new *= np.exp(row.sum() / new.sum())
        rows.append(new)
    return np.stack(rows)


@pytest.mark.parametrize(("kind", "quantile"), [("ashp", 0.65), ("ashb", 0.65), ("ashs", 0.9)])
def test_ash(rectified: World, kind: str, quantile: float) -> None:
    for acts in (rectified.acts, rectified.ood):
        h = pruned(features(acts), quantile, kind)
        assert_parity(fitted(kind, rectified).score(acts), energy(h, *head_of(rectified)))


@pytest.mark.parametrize("kind", ["ashp", "ashb", "ashs"])
@pytest.mark.parametrize("row", [[0, 0, 0, 5, 0, 0], [2, 7, 2, 2, 1, 2], [0, 0, 0, 0, 0, 0]])
def test_ash_counts_features_where_a_quantile_cannot_tell_them_apart(
    kind: str, row: list[float]
) -> None:
    """Half of the features are large, those that come first among equal ones."""
    weight = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]])
    made = offmap.detector(f"{kind}(maxlogit, quantile=0.5)").fit(head=Head(weight))
    expected = pruned(np.array([row], dtype=np.float64), 0.5, kind) @ weight[0].double().numpy()
    assert made.score(one(row, weight)).tolist() == pytest.approx((-expected).tolist(), rel=1e-6)


def test_ash_b_gives_each_large_feature_an_equal_share_of_the_sum() -> None:
    made = offmap.ASHB(offmap.MaxLogit(), quantile=0.5).fit(head=Head(torch.ones(2, 4)))
    shaped = made.see(0, one([3, 0, 4, 1], torch.ones(2, 4)))
    assert shaped.features.tolist() == [[4, 0, 4, 0]]


@pytest.mark.parametrize("kind", ["ashp", "ashb", "ashs"])
def test_ash_refuses_negative_features(kind: str) -> None:
    made = offmap.detector(kind).fit(head=Head(torch.ones(2, 4)))
    with pytest.raises(NeedsError, match="come from a ReLU, and these go down to -1"):
        made.score(one([1, 2, -1, 0], torch.ones(2, 4)))


def test_a_factor_beyond_float32_stays_a_number() -> None:
    """One feature in a thousand of equal ones: e to the thousandth power."""
    weight = torch.ones(2, 1000)
    made = offmap.ASHS(offmap.Energy(), quantile=0.999).fit(head=Head(weight))
    assert made.score(Activations(torch.zeros(1, 2), torch.ones(1, 1000))).isfinite().all()


# RAS


def ranked(h: Array, train: Array) -> Array:
    profile = np.mean([np.sort(row) for row in train], axis=0)
    shaped = np.zeros_like(h)
    for row, new in zip(h, shaped, strict=True):
        for rank, j in enumerate(np.argsort(row, kind="stable")):
            new[j] = profile[rank]
    return shaped


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_ras(relu: bool) -> None:
    """With features from a ReLU many are equal, namely 0."""
    world = make_world(relu=relu)
    for acts in (world.acts, world.ood):
        h = ranked(features(acts), features(world.acts))
        assert_parity(fitted("ras", world).score(acts), energy(h, *head_of(world)))


def test_ras_gives_every_sample_one_profile_and_keeps_the_order(world: World) -> None:
    made = fitted("ras", world)
    h = made.see(0, world.ood).features
    assert torch.equal(h.sort(1).values, made.profile_.expand_as(h))
    assert torch.equal(h.argsort(1), world.ood.features.argsort(1))


def test_the_verdict_on_a_sample_names_the_class_of_the_unshaped_network(world: World) -> None:
    network = nn.Linear(16, 6)
    network.load_state_dict({"weight": world.head.weight, "bias": world.head.bias})
    guard = offmap.Guard(network, "ras").fit([(world.features, world.labels)])
    guard.calibrate([(world.features, world.labels)], alarm_rate=0.1)
    made, x = fitted("ras", world), world.ood.features
    shaped = made.see(0, world.ood).logits.argmax(1)
    assert (shaped != world.ood.logits.argmax(1)).any()
    assert torch.equal(guard(x).labels, world.ood.logits.argmax(1))


@pytest.mark.parametrize("width", [1, 4])
def test_ras_refuses_features_without_an_order(width: int) -> None:
    h = torch.arange(5.0)[:, None].repeat(1, width)
    with pytest.raises(DegenerateError, match=r"are all equal, 2 on average, .* use Energy"):
        offmap.RAS(offmap.Energy()).fit([(Activations(h, h), None)], head=Head(torch.eye(width)))


def test_ras_refuses_a_head_that_weighs_all_features_alike(world: World) -> None:
    head = Head(torch.ones(6, 16) * torch.arange(6.0)[:, None])
    with pytest.raises(DegenerateError, match="weighs all features alike"):
        offmap.RAS(offmap.Energy()).fit(world.batches(), head=head)
    made = offmap.RAS(offmap.KNN(5)).fit(world.batches(), head=head)  # which reads no logits
    assert len(made.score(world.ood).unique()) > 200


# LTS


def test_lts(world: World) -> None:
    weight, bias = head_of(world)
    h = features(world.ood)
    rows = []
    for row in h:
        positive = np.maximum(row, 0)
        top = np.sort(positive)[::-1][: len(row) - round(0.95 * len(row))].sum()
        factor = (positive.sum() / top) ** 2 if top > 0 else 1.0
        score = -slow.logsumexp(factor * (weight @ row + bias))
        terms = factor * (np.abs(weight) @ np.abs(row) + np.abs(bias))
        rows.append((score, terms.max() + abs(score)))
    assert_parity(fitted("lts", world).score(world.ood), slow.pairs(rows))


def test_lts_multiplies_by_the_squared_ratio_of_the_sums() -> None:
    """Divided, the sample whose features are alike would be the less known one."""
    weight = torch.ones(2, 20)
    made = offmap.LTS(offmap.MaxLogit()).fit(head=Head(weight))
    few, many = [20.0] + 19 * [0.0], 20 * [1.0]
    assert made.score(one(few, weight)).tolist() == [-20]
    assert made.score(one(many, weight)).tolist() == [-20 * 20**2]
    assert made.score(one([-1.0] * 20, weight)).tolist() == [20]  # no positive one: as it is


def test_lts_and_dice_leave_a_score_of_the_features_alone(rectified: World) -> None:
    alone = fitted("knn(5)", rectified).score(rectified.ood)
    for name in ("lts", "dice"):
        assert torch.equal(fitted(f"{name}(knn(5))", rectified).score(rectified.ood), alone)


@pytest.mark.parametrize("inner", ["react(energy)", "combine([energy, dice(msp)])", "lts(energy)"])
def test_lts_around_what_makes_logits_anew_is_refused(inner: str) -> None:
    with pytest.raises(ArgumentError, match=r"put LTS inside, (ReAct|DICE|LTS)\(LTS\(\.\.\.\)\)"):
        offmap.detector(f"lts({inner})")


# DICE


def sparse(weight: Array, train: Array, quantile: float) -> Array:
    contributions = weight * train.mean(0)
    kept = contributions > np.percentile(contributions, 100 * quantile)
    return weight * kept


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9])
def test_dice(rectified: World, quantile: float) -> None:
    weight, bias = head_of(rectified)
    kept = sparse(weight, features(rectified.acts), quantile)
    made = fitted(f"dice(energy, quantile={quantile})", rectified)
    for acts in (rectified.acts, rectified.ood):
        assert_parity(made.score(acts), energy(features(acts), kept, bias))


def test_what_dice_wraps_is_bound_to_the_sparse_head(rectified: World) -> None:
    weight, bias = head_of(rectified)
    train = features(rectified.acts)
    kept = sparse(weight, train, 0.7)
    made = fitted("dice(vim(4), quantile=0.7)", rectified)
    assert_parity(
        made.score(rectified.ood), slow.vim(features(rectified.ood), train, kept, bias, 4)
    )


def test_dice_says_how_many_weights_are_kept_and_refuses_none(rectified: World) -> None:
    assert "10 of 96 weights kept" in fitted("dice", rectified).summary()
    zeros = Activations(torch.zeros(9, 6), torch.zeros(9, 16))
    with pytest.raises(DegenerateError, match="none of the 96 weights contributes more"):
        offmap.DICE(offmap.Energy()).fit([(zeros, None)], head=rectified.layer)


# VRA


def rectify(h: Array, train: Array, low: float, high: float) -> Array:
    a, b = np.quantile(train, low, axis=0), np.quantile(train, high, axis=0)
    shaped = np.zeros_like(h)
    for i, j in np.ndindex(*h.shape):
        shaped[i, j] = 0 if h[i, j] < a[j] else min(h[i, j], b[j])
    return shaped


@pytest.mark.parametrize(("low", "high"), [(0.6, 0.95), (0.0, 1.0), (0.3, 0.31)])
def test_vra(rectified: World, low: float, high: float) -> None:
    made = fitted(f"vra(energy, low={low}, high={high})", rectified)
    for acts in (rectified.acts, rectified.ood):
        h = rectify(features(acts), features(rectified.acts), low, high)
        assert_parity(made.score(acts), energy(h, *head_of(rectified)))


def test_the_quantiles_of_vra_are_those_of_each_feature(rectified: World) -> None:
    """Here the features differ a thousandfold, and one quantile of all would clip but a few."""
    h = rectified.features * torch.logspace(-3, 0, 16)
    made = offmap.VRA(offmap.Energy())
    made.fit([(Activations(rectified.layer(h), h), None)], head=rectified.layer)
    for buffer, q in ((made.low_, 0.6), (made.high_, 0.95)):
        assert np.allclose(buffer.numpy(), np.quantile(h.double().numpy(), q, axis=0), rtol=1e-12)


def test_vra_makes_low_features_0_and_does_not_lift_them() -> None:
    h = torch.arange(11.0)[:, None].repeat(1, 2)
    made = offmap.VRA(offmap.Energy(), low=0.6, high=0.9)
    made.fit([(Activations(h, h), None)], head=Head(torch.eye(2)))
    shaped = made.see(0, Activations(features=torch.tensor([[5.9, 6.0], [8.0, 9.5]])))
    assert torch.equal(shaped.features, torch.tensor([[0.0, 6.0], [8.0, 9.0]]))


def test_vra_refuses_upper_quantiles_that_are_all_0() -> None:
    h = torch.zeros(100, 3)
    h[0] = 1
    with pytest.raises(DegenerateError, match="quantile is 0 for each of the 3 features"):
        offmap.VRA(offmap.Energy()).fit([(Activations(h, h), None)], head=Head(torch.eye(3)))
    with pytest.raises(ArgumentError, match=r"high must lie in \(0.9, 1\]; seen 0.5"):
        offmap.VRA(offmap.Energy(), low=0.9, high=0.5)


# OptFS


def optimal(h: Array, train: Array, weight: Array, bias: Array) -> Array:
    start, end = np.quantile(train, 1e-3), np.quantile(train, 1 - 1e-3)
    width = (end - start) / 100
    v = np.zeros(100)
    for row in train:
        terms = weight[(weight @ row + bias).argmax()] * row
        for x, term in zip(row, terms, strict=True):
            place = np.floor((x - start) / width)
            if 0 <= place < 100:
                v[int(place)] += term / len(train)
    theta = 1000 * v / np.linalg.norm(v)
    shaped = np.zeros_like(h)
    for i, j in np.ndindex(*h.shape):
        place = np.floor((h[i, j] - start) / width)
        shaped[i, j] = theta[int(place)] * h[i, j] if 0 <= place < 100 else 0
    return shaped


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_optfs(relu: bool) -> None:
    world = make_world(relu=relu)
    weight, bias = head_of(world)
    for acts in (world.acts, world.ood):
        h = optimal(features(acts), features(world.acts), weight, bias)
        score = -(h @ weight.T + bias).max(1)
        terms = (np.abs(h) @ np.abs(weight.T) + np.abs(bias)).max(1)
        assert_parity(fitted("optfs", world).score(acts), (score, terms))


def test_what_lies_outside_of_the_bins_of_optfs_becomes_0(world: World) -> None:
    made = fitted("optfs", world)
    assert float(made.theta_.norm()) == pytest.approx(1000)
    far = made.see(0, world.of(torch.full((1, 16), 1e4))).features
    low = made.see(0, world.of(torch.full((1, 16), -1e4))).features
    assert not far.any()
    assert not low.any()


def test_optfs_refuses_features_that_are_nearly_all_one_value() -> None:
    h = torch.ones(2000, 2)
    h[0, 0] = 5
    with pytest.raises(DegenerateError, match=r"0.999 quantiles of all features are both 1"):
        offmap.OptFS(offmap.MaxLogit()).fit([(Activations(h, h), None)], head=Head(torch.eye(2)))
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DegenerateError, match="no feature contributes"):
        offmap.OptFS(offmap.MaxLogit()).fit([(Activations(x, x), None)], head=Head(0 * h[:2]))


# ReAct: what the clipping does to the predictions.


def changed(world: World, threshold: float) -> float:
    """The share of training samples that are predicted otherwise once they are clipped."""
    weight, bias = head_of(world)
    h = features(world.acts)
    before, after = (x @ weight.T + bias for x in (h, np.minimum(h, threshold)))
    return float((before.argmax(1) != after.argmax(1)).mean())


@pytest.mark.parametrize("quantile", [0.5, 0.7, 0.9, 1.0])
def test_react_says_how_many_predictions_the_clipping_changes(
    rectified: World, quantile: float
) -> None:
    made = fitted(f"react(energy, quantile={quantile})", rectified)
    expected = changed(rectified, float(made.threshold_))
    assert float(made.changed_) == pytest.approx(expected, abs=2 / 600)
    assert f"changes the predicted class of {float(made.changed_):.2%}" in made.summary()


def test_react_warns_where_clipping_makes_another_network(rectified: World) -> None:
    batches, head = rectified.batches(), rectified.head
    quantile = 0.5
    share = changed(rectified, np.quantile(features(rectified.acts), quantile))
    assert share > 0.02
    with pytest.warns(FeaturesWarning, match=r"changes the predicted class of \d+\.\d% of the"):
        offmap.ReAct(offmap.Energy(), quantile=quantile).fit(batches, head=head)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        offmap.ReAct(offmap.Energy(), quantile=0.99).fit(batches, head=head)


# BATS


def test_bats() -> None:
    """The map of the test world has four channels of four positions."""
    world = world_of("bats", make_world())
    train, ood = (features(plain(a)).reshape(-1, 4, 4) for a in (world.acts, world.ood))
    clipped = np.zeros_like(ood)
    for c in range(4):
        mean, deviation = train[:, c].mean(), train[:, c].std()
        for i, x in np.ndindex(len(ood), 4):
            value = ood[i, c, x]
            clipped[i, c, x] = min(max(value, mean - 1.5 * deviation), mean + 1.5 * deviation)
    assert (clipped != ood).mean() > 0.1
    made = fitted("bats(energy, width=1.5)", world)
    assert_parity(made.score(world.ood), energy(clipped.reshape(-1, 16), *head_of(world)))


def test_the_moments_of_a_layer_are_those_over_samples_and_positions() -> None:
    """Means of a thousand deviations: the squares of float32 values would tell no variance."""
    generator = torch.Generator().manual_seed(0)
    maps = (
        torch.randn(50, 3, 4, 5, generator=generator)
        + torch.tensor([0.0, 1e3, -1.0])[:, None, None]
    )
    tap = Tap(":last_norm", "moments")
    acts = Activations(torch.zeros(50, 2), layers={tap.key(): tap(maps)})
    made = offmap.BATS(offmap.Energy(), width=1)
    made.fit([(Sample(acts, maps, lambda x, edit=None: acts), None)])
    array = maps.double().numpy()
    mean, deviation = array.mean((0, 2, 3)), array.std((0, 2, 3))
    assert np.allclose(made.low_.numpy(), mean - deviation, rtol=1e-6)
    assert np.allclose((made.high_ - made.low_).numpy(), 2 * deviation, rtol=1e-3)


def test_bats_clips_the_last_batch_normalisation_of_a_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    images = torch.randn(60, 1, 8, 8)
    for _ in range(300):  # running moments become those of the images
        network(images)
    guard = offmap.Guard(network, "bats(energy, width=0.5)").fit([(images, torch.arange(60) % 3)])
    guard.calibrate([(images, torch.arange(60) % 3)], alarm_rate=0.2)
    norm = network[4]
    bias, size = norm.bias.detach(), norm.weight.detach().abs()
    made = guard.detectors[0]
    assert torch.allclose(made.low_, bias - 0.5 * size, atol=0.03)
    assert torch.allclose(made.high_, bias + 0.5 * size, atol=0.03)
    with torch.no_grad():
        clipped = network.eval()[:5](images).maximum(made.low_.view(-1, 1, 1))
        logits = network[5:](clipped.minimum(made.high_.view(-1, 1, 1)))
    assert torch.allclose(guard(images).scores, -logits.logsumexp(1), atol=1e-5)


@pytest.mark.parametrize("positions", [4, 9])
def test_bats_clips_the_channels_of_a_network_of_one_dimension(positions: int) -> None:
    """They stand before the positions; with as many of both, too."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    series = torch.randn(60, 2, positions)
    guard = offmap.Guard(network, "bats(energy, width=0.5)").fit([series])
    guard.calibrate([series], alarm_rate=0.2)
    with torch.no_grad():
        lines = network.eval()[:2](series).double().numpy()
    mean, deviation = lines.mean((0, 2)), lines.std((0, 2))
    low, high = mean - 0.5 * deviation, mean + 0.5 * deviation
    assert np.allclose(guard.detectors[0].low_.numpy(), low, atol=1e-5)
    clipped = np.clip(lines, low[:, None], high[:, None])
    weight, bias = (x.detach().double().numpy() for x in network[5].parameters())
    z = np.maximum(clipped, 0).mean(2) @ weight.T + bias
    expected = -np.log(np.exp(z).sum(1))
    scores = guard(series).scores
    assert not scores.requires_grad  # though the network ran again
    assert np.allclose(scores.numpy(), expected, atol=1e-5)


def test_a_network_without_batch_normalisation_is_told() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(NeedsError, match="the network has no such layer"):
        offmap.Guard(network, "bats").fit([(torch.randn(20, 1, 8, 8), torch.arange(20) % 3)])


def test_bats_refuses_a_layer_that_does_not_vary_and_an_ensembles_score() -> None:
    tap = Tap(":last_norm", "moments")
    acts = Activations(torch.zeros(5, 2), layers={tap.key(): torch.zeros(5, 2, 3)})
    with pytest.raises(DegenerateError, match=r"the output of .* is the same for all"):
        offmap.BATS(offmap.Energy()).fit([(Sample(acts, acts.logits, lambda x: acts), None)])
    with pytest.raises(ArgumentError, match=r"put BATS inside, MemberMean\(BATS"):
        offmap.detector("bats(totalentropy)")
