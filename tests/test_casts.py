"""What a module around it is cast to, changes nothing of what was learned."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap import Probe
from offmap._utils import precision
from offmap.guard.calibration import Calibration

CASTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "half": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "float": nn.Module.float,
    "double": nn.Module.double,
    "to": lambda module: module.to(torch.bfloat16),
}


def types(module: nn.Module) -> dict[str, torch.dtype]:
    return {name: x.dtype for name, x in module.named_buffers()}


@pytest.mark.parametrize("name", CASTS)
def test_a_calibration_keeps_its_table(name: str) -> None:
    """1/20 in float32 is above 0.05, so that the 5 % of the highest score would be none."""
    calibration = Calibration("plain", 0.05)
    calibration.learn(torch.arange(19.0)[:, None], torch.zeros(19).long(), classes=2)
    before = types(calibration)
    CASTS[name](nn.ModuleList([calibration]))
    assert types(calibration) == before
    _, p, is_ood = calibration(torch.tensor([[18.5], [17.5]]), torch.zeros(2).long())
    assert p.tolist() == [0.05, 0.1]
    assert is_ood.tolist() == [True, False]
    assert {x.device.type for x in calibration.to("meta").buffers()} == {"meta"}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.flatten(1)).relu())  # type: ignore[no-any-return]


@pytest.fixture
def guard() -> offmap.Guard:
    torch.manual_seed(0)
    x, y = torch.rand(120, 3, 2, 2), torch.arange(120) % 3
    network = Network()
    with torch.no_grad():
        network.head.bias += 1.0  # of an untrained network the logits may all be negative
    made = offmap.Guard(network, "combine([vim(dim=3), mahalanobis, knn(5)])")
    return made.fit([(x, y)]).calibrate([(x + 0.01, y)])


@pytest.mark.parametrize("name", CASTS)
def test_a_guard_casts_its_network_alone(guard: offmap.Guard, name: str) -> None:
    x = torch.rand(60, 3, 2, 2)
    before, known = guard(x), types(guard)
    CASTS[name](guard)
    after = guard(x)
    assert types(guard) == known
    assert guard.network.body.weight.dtype != torch.float32 or name == "float"
    assert after.scores.dtype == torch.float32
    # What remains is the rounding of the network.
    assert torch.allclose(after.scores, before.scores, rtol=0.1, atol=0.1)
    if name == "float":
        assert torch.equal(after.is_ood, before.is_ood)


def test_what_is_learned_stays_where_float64_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device "meta" stands for one without it."""
    monkeypatch.setattr(precision, "_NARROW", {"meta"})
    calibration = Calibration("plain", 0.05)
    calibration.learn(torch.arange(19.0)[:, None], torch.zeros(19).long(), classes=2)
    nn.ModuleList([calibration]).to("meta")
    assert {x.device.type for x in calibration.buffers()} == {"cpu"}
    probe = Probe(nn.Linear(3, 2).to("meta"))
    assert (probe.device.type, probe.home.type) == ("meta", "cpu")
