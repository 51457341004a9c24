"""Calls in inference mode: from the second of a shape on, where nothing of them stays behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.activations import Activations
from offmap.detectors import Energy
from offmap.errors import NotFittedError
from offmap.networks import Ensemble

pytestmark = pytest.mark.filterwarnings("ignore::offmap.errors.ChanceWarning")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


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


class RememberingEnergy(Energy):
    """A detector that keeps what it saw, or what it made."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, acts: Activations) -> Tensor:
        scores = super().forward(acts)
        self.last = acts.logits if self.what == "logits" else scores
        return scores


def batch(n: int = 5) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(n))


def guard_of(network: Noted, detectors: Any = "energy", **options: Any) -> offmap.Guard:
    """A guard that no batch was given yet."""
    guard = offmap.Guard(network, detectors, head="fc", **options)
    guard.fit((batch(40), torch.arange(40) % 3)).calibrate(batch(60))
    network.modes.clear()
    return guard


def tensors(verdict: offmap.Verdict) -> list[Tensor]:
    return [verdict.labels, verdict.scores, verdict.p_values, verdict.is_ood]


def assert_equal(a: offmap.Verdict, b: offmap.Verdict) -> None:
    assert all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def train(network: Noted, x: Tensor) -> None:
    network(x).sum().backward()
    assert network.fc.weight.grad is not None


@pytest.mark.parametrize("detectors", ["vim", "auto", ["energy", "knn(k=3)"]])
def test_calls_of_a_shape_are_light_from_the_second_on(detectors: Any) -> None:
    network = Noted()
    guard = guard_of(network, detectors)
    first = guard(batch())
    for _ in range(3):
        assert_equal(guard(batch()), first)
    guard(batch(7))
    assert network.modes == [False, True, True, True, False]


def test_what_a_verdict_holds_may_be_trained_on() -> None:
    network = Noted()
    guard = guard_of(network)
    guard.control((batch(40), torch.arange(40) % 3), 0.9)
    network.modes.clear()
    for _ in range(3):
        verdict = guard(batch())
    assert network.modes[-1]
    assert verdict.accepted is not None
    assert not any(x.is_inference() for x in [*tensors(verdict), verdict.accepted])
    verdict.scores.requires_grad_().square().sum().backward()


@pytest.mark.parametrize("make", [Remembering, WithTable, WithGradients])
def test_a_network_can_be_trained_after_any_calls(make: Callable[[], Noted]) -> None:
    network = make()
    guard = guard_of(network)
    other = copy.deepcopy(guard)
    for n in (5, 5, 5, 9, 9, 9, 12):
        verdict = guard(batch(n))
        other.calibrate(batch(60))  # begins anew, and runs as usual
        assert_equal(verdict, other(batch(n)))
    train(network, batch(12))


def test_what_keeps_what_was_made_so_is_never_run_so_again() -> None:
    for network, detectors in ((Remembering(), "energy"), (Noted(), RememberingEnergy("logits"))):
        guard = guard_of(network, detectors)
        for _ in range(4):
            guard(batch())
        # The second call was one, was looked through, and done once more.
        assert network.modes == [False, True, False, False, False]
        assert not any(x.is_inference() for x in getattr(network, "features", []))
    (each,) = guard.each()
    assert not each.last.is_inference()


def test_what_a_detector_makes_itself_is_of_any_mode() -> None:
    network = Noted()
    guard = guard_of(network, RememberingEnergy("scores"))
    for _ in range(4):
        guard(batch())
    assert network.modes == [False, True, True, True]
    (each,) = guard.each()
    assert not each.last.is_inference()


@pytest.mark.parametrize("detectors", ["odin", "gradnormall", "knn(k=3)", "auto"])
def test_a_caller_may_be_in_inference_mode(detectors: str) -> None:
    network = Noted()
    expected = guard_of(network, detectors)(batch())
    with torch.inference_mode():
        guard = guard_of(network, detectors)
        inside = guard(batch())
    assert_equal(inside, expected)
    assert_equal(guard(batch()), expected)


def test_another_threshold_begins_anew() -> None:
    network = Noted()
    guard = guard_of(network)
    for _ in range(3):
        guard(batch())
    network.modes.clear()
    stricter = guard.at(0.2)
    stricter(batch())
    stricter(batch())
    guard.calibrate(batch(31))
    guard(batch())
    assert network.modes == [False, True, False, False]


def test_the_members_of_an_ensemble_bear_it() -> None:
    members = [Noted(), Noted()]
    ensemble = Ensemble(members)
    guard = offmap.Guard(ensemble, "MemberMean(energy)").fit((batch(40), torch.arange(40) % 3))
    guard.calibrate(batch(60))
    first = guard(batch())
    assert_equal(guard(batch()), first)
    assert [each.modes[-1] for each in members] == [True, True]


def test_an_error_of_the_network_is_its_own() -> None:
    class Failing(Noted):
        def hidden(self, x: Tensor) -> Tensor:
            if len(x) == 5 and len(self.modes) > 1:
                raise RuntimeError("no more")
            return super().hidden(x)

    guard = guard_of(Failing())
    guard(batch())
    with pytest.raises(RuntimeError, match="no more"):
        guard(batch())


def test_an_autocast_of_the_caller_keeps_no_weights_of_ours() -> None:
    network = Noted()
    guard = guard_of(network)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            guard(batch())
        train(network, batch())
    assert not any(network.modes)


def test_an_error_of_one_batch_does_not_end_it() -> None:
    class Choosy(Noted):
        def hidden(self, x: Tensor) -> Tensor:
            if x.max() > 100:
                raise RuntimeError("too large")
            return super().hidden(x)

    network = Choosy()
    guard = guard_of(network)
    for _ in range(2):
        guard(batch())
    with pytest.raises(RuntimeError, match="too large"):
        guard(batch() + 1000)
    guard(batch())
    assert network.modes[-1]


class Switched(Noted):
    """A whole number among its buffers says which of two functions it is."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("switch", torch.tensor(0))

    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x) if self.switch == 0 else super().hidden(-x)


def test_a_change_of_any_buffer_that_counts_is_noticed_in_light_calls() -> None:
    network = Switched()
    guard = guard_of(network)
    for _ in range(3):
        guard(batch())
    assert isinstance(network.switch, Tensor)
    network.switch.fill_(1)
    with pytest.raises(NotFittedError, match="weights have changed"):
        guard(batch())
