"""Passes in inference mode: from the third on, and only where nothing of them stays behind."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from offmap.activations import Tap
from offmap.forward import Probe


class Noted(nn.Module):
    """Notes in which mode it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(4, 6), nn.Linear(6, 3)
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(torch.is_inference_mode_enabled())
        return self.fc(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:
        return self.body(x).relu()


class Remembering(Noted):
    """Keeps its features, as those do whose loss reads them."""

    def hidden(self, x: Tensor) -> Tensor:
        self.features = [super().hidden(x)]
        return self.features[0]


class WithTable(Noted):
    """Makes a table for each batch that is longer than those before, as of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.empty(0, 6)

    def hidden(self, x: Tensor) -> Tensor:
        if len(x) > len(self.table):
            self.table = torch.linspace(0, 1, len(x))[:, None] * torch.ones(6)
        return super().hidden(x) * self.table[: len(x)]


class WithGradients(Noted):
    """Takes gradients with respect to its inputs."""

    def hidden(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = super().hidden(x).square().sum()
            return super().hidden(x - torch.autograd.grad(energy, x)[0]).detach()


def batch(n: int = 5) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(n))


def train(network: Noted, x: Tensor) -> None:
    network(x).sum().backward()
    assert network.fc.weight.grad is not None


def test_passes_of_a_shape_are_light_from_the_second_on() -> None:
    network = Noted()
    probe = Probe(network)
    first = probe(batch())
    for _ in range(3):
        acts = probe(batch())
        assert torch.equal(acts.logits, first.logits)
        assert torch.equal(acts.features, first.features)
    probe(batch(7))
    assert network.modes == [False, True, True, True, False]


def test_what_is_kept_may_be_trained_on() -> None:
    network = Noted()
    probe = Probe(network, taps=[Tap("body", "mean")])
    for _ in range(3):
        acts = probe(batch())
    kept = [acts.logits, acts.features, *acts.layers.values()]
    assert network.modes[-1]
    assert not any(x.is_inference() for x in kept)
    head = nn.Linear(6, 2)
    head(acts.features).sum().backward()
    assert head.weight.grad is not None


@pytest.mark.parametrize("make", [Remembering, WithTable, WithGradients])
def test_a_network_can_be_trained_after_any_passes(make: Callable[[], Noted]) -> None:
    network = make()
    plain = copy.deepcopy(network)
    probe = Probe(network, head="fc")
    for n in (5, 5, 5, 9, 9, 9, 12):
        with torch.no_grad():
            expected = plain(batch(n))
        torch.testing.assert_close(probe(batch(n)).logits, expected)
    train(network, batch(12))


def test_a_network_that_keeps_what_it_makes_is_never_run_so_again() -> None:
    network = Remembering()
    probe = Probe(network)
    for _ in range(4):
        probe(batch())
    # The second pass was one, was looked through, and done once more.
    assert network.modes == [False, True, False, False, False]
    assert not network.features[0].is_inference()


def test_an_error_of_the_network_is_its_own() -> None:
    class Failing(Noted):
        def hidden(self, x: Tensor) -> Tensor:
            if len(self.modes) > 1:
                raise RuntimeError("no more")
            return super().hidden(x)

    probe = Probe(Failing())
    probe(batch())
    with pytest.raises(RuntimeError, match="no more"):
        probe(batch())


def test_an_autocast_of_the_caller_keeps_no_weights_of_ours() -> None:
    network = Noted()
    probe = Probe(network)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            probe(batch())
        train(network, batch())


def test_an_error_of_one_batch_does_not_end_it() -> None:
    class Choosy(Noted):
        def hidden(self, x: Tensor) -> Tensor:
            if x.max() > 100:
                raise RuntimeError("too large")
            return super().hidden(x)

    network = Choosy()
    probe = Probe(network)
    for _ in range(2):
        probe(batch())
    with pytest.raises(RuntimeError, match="too large"):
        probe(batch() + 1000)
    probe(batch())
    assert network.modes[-1]
