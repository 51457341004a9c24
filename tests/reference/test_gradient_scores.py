"""Scores that rest on gradients, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import offmap
from offmap.activations import Sample
from offmap.detectors import detector
from offmap.errors import ArgumentError, NeedsError
from offmap.networks import build
from tests.conftest import World, fitted, make_world, plain, world_of
from tests.reference import slow
from tests.reference.test_of_every_kind import msp_gradient
from tests.reference.test_scores import assert_parity

NAMES = {"iodin", "adascalea", "adascalel", "gradnormall"}


def arrays(world: World) -> tuple[slow.Array, slow.Array]:
    """Weight and bias of the layer that is the network here."""
    w, b = (x.double().numpy() for x in (world.layer.weight, world.layer.bias))
    return w, b


def inputs(acts: object) -> slow.Array:
    return plain(acts).features.double().numpy()


def test_iodin_moves_the_value_with_the_largest_gradient_alone() -> None:
    spec = "iodin(magnitude=0.3)"
    world = world_of(spec, make_world())
    w, b = arrays(world)
    moved = inputs(world.ood).copy()
    for x in moved:
        gradient = msp_gradient(x, w, b, 1000.0)
        i = np.abs(gradient).argmax()
        x[i] -= 0.3 * np.sign(gradient[i])
    score, _ = slow.msp((moved @ w.T + b) / 1000)
    scores = fitted(spec, world).score(world.ood).double().numpy()
    assert np.allclose(scores, score, rtol=1e-6, atol=0)
    assert not np.allclose(scores, fitted("odin(magnitude=0.3)", world).score(world.ood), rtol=1e-6)


def test_iodin_is_odin_where_it_moves_nothing() -> None:
    world = make_world()
    a, b = (offmap.detector(f"{n}(magnitude=0)").score(world.ood) for n in ("iodin", "odin"))
    assert torch.equal(a, b)


K1, K2, FACTOR, MOVED, STEP = 0.3, 0.2, 10.0, 0.4, 0.5
ARGUMENTS = f"energy, k1={K1}, k2={K2}, factor={FACTOR}, moved={MOVED}, magnitude={STEP}"


def shift(x: slow.Array, w: slow.Array, b: slow.Array) -> float:
    """Of one sample, whose features are its inputs."""
    gradient = w[(w @ x + b).argmax()]
    other = x.copy()
    for i in np.argsort(np.abs(gradient))[: int(len(x) * MOVED)]:
        other[i] += STEP * np.sign(gradient[i])
    largest = np.argsort(-x)
    correction = sum(max(other[i], 0) for i in largest[: int(len(x) * K1)])
    return correction + FACTOR * sum(abs(other[i] - x[i]) for i in largest[: int(len(x) * K2)])


def ratio(x: slow.Array, quantile: float) -> float:
    top = len(x) - round(len(x) * quantile)
    positive = np.maximum(x, 0)
    return float(positive.sum() / np.sort(positive)[::-1][:top].sum())


@pytest.mark.parametrize("name", ["adascalea", "adascalel"])
def test_adascale(name: str) -> None:
    spec = f"{name}({ARGUMENTS})"
    world = world_of(spec, make_world(relu=True))
    w, b = arrays(world)
    known = np.array([shift(x, w, b) for x in inputs(world.acts)])
    rows = []
    for x in inputs(world.ood):
        below = (known <= shift(x, w, b)).mean()
        r = ratio(x, 0.75 + (1 - below) * 0.1)
        z = w @ (x * np.exp(r)) + b if name == "adascalea" else r**2 * (w @ x + b)
        size = np.abs(w) @ np.abs(x) + np.abs(b)
        rows.append((-slow.logsumexp(z), (size * max(np.exp(r), r**2)).max()))
    assert_parity(fitted(spec, world).score(world.ood), slow.pairs(rows))


def test_adascale_reads_the_same_shares_in_fitting_and_scoring() -> None:
    """Exchanged in one of the two, no sample would find its own shift among those learned."""
    spec = f"adascalea({ARGUMENTS})"
    world = world_of(spec, make_world(200, relu=True))
    made = fitted(spec, world)
    assert torch.equal(made.shift(world.acts).sort().values, made.shifts_)


def test_adascale_scales_those_less_that_shift_more() -> None:
    spec = f"adascalel({ARGUMENTS})"
    world = world_of(spec, make_world(relu=True))
    made = fitted(spec, world)
    features = plain(world.acts).features[:1].double().expand(2, -1)
    low, high = made.shifts_[0] - 1, made.shifts_[-1] + 1
    little, much = made._ratio(features, torch.stack([low, high])).flatten().tolist()
    assert little > much


def test_adascale_takes_no_scores_that_come_too_early_or_move_inputs() -> None:
    with pytest.raises(ArgumentError, match="training comes first"):
        detector("adascalea(vim)")
    with pytest.raises(ArgumentError, match="runs the network on others"):
        detector("adascalea(odin)")
    with pytest.raises(ArgumentError, match=r"most must lie in \[0.9, 1\); seen 0.8"):
        detector("adascalea(energy, least=0.9, most=0.8)")


def uniform_gradient(z: slow.Array) -> slow.Array:
    """Of the divergence of the softmax from uniform, with respect to the logits."""
    return slow.softmax(z) - 1 / len(z)


def test_the_gradient_of_one_layer() -> None:
    world = world_of("gradnormall", make_world())
    w, b = arrays(world)
    rows = []
    for x in inputs(world.ood):
        g = uniform_gradient(w @ x + b)
        total = np.abs(np.outer(g, x)).sum() + np.abs(g).sum()
        rows.append((-total, total))
    assert_parity(fitted("gradnormall", world).score(world.ood), slow.pairs(rows))


def test_no_samples_have_no_gradients() -> None:
    world = world_of("gradnormall", make_world(20))
    none = world.ood[torch.arange(0)]
    assert fitted("gradnormall", world).score(none).shape == (0,)


def test_the_gradient_of_two_layers() -> None:
    """By hand, through the hooks and the normalisation of a probe."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(70, 7)
    with offmap.Probe(network) as probe:
        scores = offmap.detectors.GradNormAll().score(probe.sample(x))
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in network.parameters())
    rows = []
    for row in x.double().numpy():
        h = np.maximum(w1 @ row + b1, 0)
        g = uniform_gradient(w2 @ h + b2)
        back = (w2.T @ g) * (h > 0)
        parts = (np.outer(g, h), g, np.outer(back, row), back)
        total = sum(np.abs(part).sum() for part in parts)
        rows.append((-total, total))
    assert_parity(scores, slow.pairs(rows))
    assert all(p.grad is None for p in network.parameters())


def test_the_gradient_of_a_convolutional_network_is_that_of_each_sample_alone() -> None:
    torch.manual_seed(0)
    network = build("wrn10_1").eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    normalization = offmap.Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    with offmap.Probe(network, normalization=normalization) as probe:
        scores = offmap.detectors.GradNormAll().score(probe.sample(images))
    expected = []
    for image in images:
        z = network(normalization(image[None]))[0]
        grads = torch.autograd.grad(z.logsumexp(0) - z.mean(), list(network.parameters()))
        expected.append(-sum(float(g.abs().sum()) for g in grads))
    assert scores.tolist() == pytest.approx(expected, rel=1e-4)


def test_a_network_whose_parameters_are_not_to_be_had_is_refused() -> None:
    world = world_of("gradnormall", make_world())
    alone = Sample(plain(world.ood), plain(world.ood).features, world.ood.run)
    with pytest.raises(NeedsError, match="here there are none: use it on one network"):
        offmap.detectors.GradNormAll().score(alone)

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x if float(x.sum()) > 0 else -x)

    with (
        offmap.Probe(Branching()) as probe,
        pytest.raises(NeedsError, match="cannot be differentiated sample by sample"),
    ):
        offmap.detectors.GradNormAll().score(probe.sample(torch.randn(5, 4)))


class Words(nn.Module):
    """Takes tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.fc = nn.Embedding(9, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.table(tokens).mean(1)).relu())


def test_a_network_of_tokens_runs_again_and_has_no_gradient_along_them() -> None:
    torch.manual_seed(0)
    network, tokens = Words().eval(), torch.randint(0, 9, (60, 4))
    guard = offmap.Guard(network, "bats(energy, width=0.5)").fit([tokens])
    table, weight, bias = (
        x.detach().double().numpy()
        for x in (network.table.weight, network.fc.weight, network.fc.bias)
    )
    h = table[tokens.numpy()].mean(1) / np.sqrt(1 + network.norm.eps)
    low, high = (h.mean(0) + sign * 0.5 * h.std(0) for sign in (-1, 1))
    z = np.maximum(np.clip(h, low, high), 0) @ weight.T + bias
    guard.calibrate([tokens], alarm_rate=0.2)
    assert np.allclose(guard(tokens).scores, -np.log(np.exp(z).sum(1)), atol=1e-5)
    norms = []
    for row in tokens:
        z = network.double()(row[None])[0]
        gradients = torch.autograd.grad(z.logsumexp(0) - z.mean(), list(network.parameters()))
        norms.append(sum(float(g.abs().sum()) for g in gradients))
    guard = offmap.Guard(network.float(), "gradnormall").fit([tokens])
    guard.calibrate([tokens], alarm_rate=0.2)
    assert np.allclose(guard(tokens).scores, -np.array(norms), rtol=1e-5)
    for spec in ("odin", "adascale"):
        with pytest.raises(NeedsError, match="inputs of int64, such as tokens, have none"):
            offmap.Guard(network, spec).fit([tokens]).calibrate([tokens], alarm_rate=0.2)
