"""Networks that were compiled stay compiled where only logits and features are wanted."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.activations import Tap
from offmap.errors import OffmapWarning
from offmap.forward import Probe
from offmap.networks import resnet20


class Counting:
    """A backend that counts how often compiled code runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        def run(*args: Tensor) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


class Net(nn.Module):
    def __init__(self, *, wrap: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc, self.wrap = nn.Linear(12, 7), nn.Linear(7, 5), wrap

    def forward(self, x: Tensor) -> Any:
        h = self.body(x.flatten(1)).relu()
        return {"logits": self.fc(h)} if self.wrap else self.fc(h)


class InPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1)).relu()
        z = self.fc(h)
        h.mul_(0)  # what was kept must not change with it
        return z


def batch(seed: int = 0) -> Tensor:
    return torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch.compiler.reset()


@pytest.mark.parametrize("network", [Net(), Net(wrap=True), InPlace()])
def test_compiled_code_runs_and_gives_the_same(network: nn.Module) -> None:
    backend = Counting()
    compiled = torch.compile(network.eval(), backend=backend)
    with Probe(network) as plain, Probe(compiled) as probe:
        probe(batch())  # as written: the head is looked for
        assert backend.runs == 0
        for seed in (1, 2, 3):
            found, expected = probe(batch(seed)), plain(batch(seed))
            assert torch.equal(found.logits, expected.logits)
            assert torch.equal(found.features, expected.features)
            assert torch.equal(probe.logits(batch(seed)), expected.logits)
    assert backend.runs == 6
    assert not network.fc._forward_pre_hooks
    with probe:  # opened once more, and nothing is compiled anew
        expected = plain(batch(4))
        assert torch.equal(probe(batch(4)).features, expected.features)
    assert backend.runs == 7


@pytest.mark.filterwarnings("ignore::offmap.errors.OffmapWarning")
def test_a_guard_says_the_same_of_a_compiled_network() -> None:
    network = resnet20(classes=4).eval()
    images = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(40) % 4
    backend = Counting()
    plain = offmap.Guard(network, "mahalanobis")
    guard = offmap.Guard(torch.compile(network, backend=backend), "mahalanobis")
    for each in (plain, guard):
        each.fit((images, labels)).calibrate([(images[:30], None)], 0.2)
    assert torch.equal(guard(images).scores, plain(images).scores)
    assert backend.runs > 0


def test_layers_are_kept_in_compiled_code_too() -> None:
    backend = Counting()
    taps = [Tap(":stages", "mean"), Tap("layer1", "max")]
    network = resnet20(classes=4).eval()
    compiled = torch.compile(network, backend=backend)
    x = torch.rand(3, 3, 32, 32)
    with Probe(network, taps=taps) as plain, Probe(compiled, taps=taps) as probe:
        for each in (plain, probe):
            each(x)  # rules are resolved, and the head is looked for
        assert backend.runs == 0
        found, expected = probe(x + 1), plain(x + 1)
        assert backend.runs > 0
    assert found.layers.keys() == expected.layers.keys()
    assert len(found.layers) > 2
    for key, value in expected.layers.items():
        assert torch.equal(found.layers[key], value)
    assert torch.equal(found.features, expected.features)


def test_gradients_run_as_they_are_written() -> None:
    backend = Counting()
    compiled = torch.compile(Net().eval(), backend=backend)
    with Probe(compiled) as probe:
        probe(batch())
        sample = probe.sample(batch(1))
        runs = backend.runs
        x = sample.inputs.clone().requires_grad_()
        sample.run(x).logits.sum().backward()
        assert x.grad is not None
        assert backend.runs == runs


def test_threads_get_their_own() -> None:
    compiled = torch.compile(Net().eval(), backend="eager")
    wrong = []
    with Probe(Net()) as plain, Probe(compiled) as probe:
        probe(batch())
        expected = {seed: plain(batch(seed)).features for seed in range(40)}

        def work(first: int) -> None:
            for seed in range(first, 40, 4):
                if not torch.equal(probe(batch(seed)).features, expected[seed]):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_where_the_compiler_stops_it_is_told_and_runs_as_written() -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        raise RuntimeError("no such instruction")

    compiled = torch.compile(Net().eval(), backend=broken)
    with Probe(Net()) as plain, Probe(compiled) as probe:
        probe(batch())
        with pytest.warns(OffmapWarning, match="runs as it is written"):
            found = probe(batch(1))
        assert torch.equal(found.features, plain(batch(1)).features)
        assert torch.equal(probe(batch(2)).features, plain(batch(2)).features)


def test_copies_run_as_written() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    probe = Probe(torch.compile(Net().eval(), backend="eager"))
    with probe:
        expected = probe(batch())
        probe(batch(1))
        copies = [copy.deepcopy(probe), cloudpickle.loads(cloudpickle.dumps(probe))]  # as Ray does
    copies += [copy.deepcopy(probe), pickle.loads(pickle.dumps(probe))]
    for each in copies:
        with each:
            assert torch.equal(each(batch()).features, expected.features)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call:UserWarning")
def test_a_guard_that_is_compiled_itself_says_the_same() -> None:
    """Hooks do not fire in compiled code: the guard runs as it is written, whatever holds it."""
    network = resnet20(classes=4).eval()
    images = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    guard = offmap.Guard(network, "mahalanobis").fit((images, torch.arange(40) % 4))
    guard.calibrate([(images[:30], None)], 0.2)
    answers = guard(images)
    holder = nn.Sequential(guard)
    cascade = offmap.Cascade(filter=guard, classifier=resnet20(classes=4).eval())
    for compiled in (guard, holder, cascade):
        given = torch.compile(compiled, backend="eager")(images)
        assert torch.equal(given.scores, answers.scores)
    guard.compile(backend="eager")
    assert torch.equal(guard(images).scores, answers.scores)
