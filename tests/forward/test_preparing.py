"""What is made of inputs before the network: layout, normalisation, types."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.errors import ArgumentError, DataError, InputsWarning
from offmap.forward import Normalization, Probe, forward
from offmap.forward._preparing import Preparing

GIVEN = Normalization((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


class Net(nn.Module):
    """A convolution and a head, with what it was given last."""

    def __init__(self, *, viewing: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 5)
        self.viewing = viewing

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        h = self.norm(self.conv(x)).relu()
        return self.fc(h.view(len(h), -1) if self.viewing else h.flatten(1))


def pixels(n: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)


def test_a_network_that_flattens_by_view_runs_as_it_does_by_itself() -> None:
    net = Net(viewing=True).eval()
    x = torch.rand(6, 3, 8, 8)
    with torch.no_grad():
        expected = net(x)
    with Probe(net) as probe:
        assert torch.allclose(probe(x).logits, expected, atol=1e-6)
    assert probe.channels_last is False
    with Probe(net, channels_last=True) as asked, pytest.raises(RuntimeError, match="view"):
        asked(x)
    with Probe(Net()) as other:
        other(x)
    assert other.network.given.is_contiguous(memory_format=torch.channels_last)


def contiguous_in_words(x: Tensor) -> None:
    if not x.is_contiguous():
        raise RuntimeError("input must be a CUDA tensor and contiguous")


def contiguous_in_none(x: Tensor) -> None:
    assert x.is_contiguous()


@pytest.mark.parametrize("asks", [contiguous_in_words, contiguous_in_none])
def test_kernels_that_take_one_layout_alone_are_given_it(asks: Callable[[Tensor], None]) -> None:
    class Asking(Net):
        def forward(self, x: Tensor) -> Tensor:
            asks(x)
            return super().forward(x)

    with Probe(Asking()) as probe:
        assert len(probe(torch.rand(6, 3, 8, 8)).logits) == 6


def test_a_probe_that_is_not_open_evaluates_and_leaves_all_as_it_was() -> None:
    net = Net().train()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    logits = Probe(net)(pixels()).logits
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    assert net.training
    with Probe(net) as probe:
        assert torch.equal(probe(pixels()).logits, logits)


def test_floats_in_the_unit_interval_are_normalised_and_this_is_told() -> None:
    x = pixels()
    with Probe(Net(), normalization=GIVEN) as probe:
        expected = probe(x).logits
        with pytest.warns(InputsWarning, match=r"lie in \[0, 1\].*normalised as uint8"):
            logits = probe(x / 255).logits
        assert torch.allclose(logits, expected, atol=1e-5)
        with pytest.raises(DataError, match=r"reach from -1 to 1: give all in one form"):
            probe(torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8))


def test_normalised_floats_pass_as_they_are_without_a_word() -> None:
    x = GIVEN(pixels())
    net = Net()
    with warnings.catch_warnings(), Probe(net, normalization=GIVEN) as probe:
        warnings.simplefilter("error")
        probe(x)
        assert torch.equal(net.given, x)
        probe(torch.full((1, 3, 8, 8), 0.5))  # the first floats were normalised, so these are
        assert torch.equal(net.given, torch.full((1, 3, 8, 8), 0.5))


def test_a_guard_that_is_read_back_knows_in_what_form_its_floats_came(tmp_path: Path) -> None:
    """One grey image lies in [0, 1] in either form, and must not be taken for the other."""
    net = Net().eval()
    x = GIVEN(pixels(120))
    guard = offmap.Guard(net, "knn", normalization=GIVEN).fit([x[:80]]).calibrate([x[80:]])
    guard.save(tmp_path)
    loaded = offmap.load(tmp_path, net)
    loaded(torch.full((1, 3, 8, 8), 0.5))
    assert torch.equal(net.given, torch.full((1, 3, 8, 8), 0.5))


@pytest.mark.parametrize("kind", [torch.int16, torch.int32, torch.int64])
def test_pixels_of_other_integers_have_no_range(kind: torch.dtype) -> None:
    probe = Probe(Net(), normalization=GIVEN)
    with pytest.raises(DataError, match="no known range: give uint8 from 0 to 255"):
        probe(pixels().to(kind))


def test_arguments_beside_a_probe_are_refused() -> None:
    with Probe(Net()) as probe, pytest.raises(ArgumentError, match="normalization: arguments"):
        next(forward(probe, [pixels()], normalization=GIVEN))


def test_images_of_another_size_are_told_of() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    x = torch.rand(90, 3, 8, 8)
    guard = offmap.Guard(net, "mahalanobis").fit([(x[:60], torch.arange(60) % 5)])
    guard.calibrate([x[60:]])
    with pytest.warns(InputsWarning, match=r"fitted on images of \(3, 8, 8\).*\(3, 16, 16\)"):
        guard(torch.rand(2, 3, 16, 16))
    with pytest.raises(DataError, match="no axis of samples"):
        guard(torch.rand(8, 8))


def test_one_float_image_does_not_take_their_meaning_from_pixels_before_and_behind_it() -> None:
    x = pixels()
    with Probe(Net()) as probe:
        before = probe(x).logits
        probe(torch.randn(1, *x.shape[1:]))
        assert torch.equal(probe(x).logits, before)


@pytest.mark.parametrize("alone", [False, True])
def test_a_network_whose_outputs_depend_on_their_company_is_told_of(alone: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8, track_running_stats=alone)
    network = nn.Sequential(nn.Linear(5, 8), norm, nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(40, 5)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        offmap.Guard(network, "energy").fit([x[:20], x[20:]])
    words = [str(each.message) for each in told if "rest of their batch" in str(each.message)]
    assert len(words) == (not alone)
    assert all("depends on what else is in a batch" in each for each in words)


def test_a_network_of_batches_of_one_size_may_refuse_others_in_any_way() -> None:
    class Pairs(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            assert x[19].ndim == 1  # an IndexError of fewer
            return super().forward(x)

    x = torch.randn(40, 5)
    offmap.Guard(Pairs(nn.Linear(5, 3)), "energy").fit([x[:20], x[20:]])


class OnGPU(Tensor):
    """A tensor that says to lie on a GPU, and tells how it is taken from there."""

    waits: bool

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Tensor:  # type: ignore[override]
        self.waits = not non_blocking
        return self.as_subclass(Tensor)


def test_what_comes_from_a_gpu_has_arrived_before_it_is_read() -> None:
    """A copy to the CPU that nobody waits for holds whatever was there before."""
    x = torch.rand(3, 3, 8, 8).as_subclass(OnGPU)
    Preparing(None, None)(x, torch.device("cpu"), torch.float32)
    assert x.waits
