"""Detectors together: fitted at once, one inside another, made from text."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import offmap
from offmap import Activations, Head, MemberMean, ReAct
from offmap.detectors import Detector, Stage, detector, fit
from offmap.errors import ArgumentError, LabelError, NeedsError, NotFittedError, ShapeError
from offmap.stats import Counts
from tests.conftest import World, make_world, world_of


def test_all_batches_come_to_the_device_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device "meta" stands for one that spooled activations are not read onto."""

    class Recorder(Detector):
        stages = (Stage(), Stage())
        seen: ClassVar[set[str]] = set()

        def collect(self, stage: int, acts: Activations, labels: Any) -> Counts:
            assert labels is not None
            self.seen.update((acts.logits.device.type, labels.device.type))
            return Counts(labels.new_zeros(1).long())

        def solve(self, stage: int, stats: Counts) -> None: ...

    monkeypatch.setattr(Activations, "check_finite", lambda *_, **__: None)
    monkeypatch.setattr("offmap.detectors._steps.without_autocast", lambda _: nullcontext())
    labels = torch.zeros(3, dtype=torch.int64)
    there = Activations(torch.empty(3, 2, device="meta")), labels.to("meta")
    Recorder().fit([there, (Activations(torch.zeros(3, 2)), labels)])
    assert Recorder.seen == {"meta"}


def test_one_detector_is_not_fitted_twice_at_once(world: World) -> None:
    with pytest.raises(ArgumentError, match="given twice"):
        fit([made := detector("vim(5)"), made], train=world.batches(), head=world.head)


@pytest.mark.parametrize("outer", [ReAct, MemberMean])
def test_what_is_wrapped_is_copied(outer: type[Detector], world: World) -> None:
    """Fitting the wrapper, on other activations, leaves the detector of the caller alone."""
    inner = detector("mahalanobis").fit(world.batches(), head=world.head)
    before, other = inner.score(world.ood), world_of(outer.__name__, world)
    outer(inner).fit(other.batches(), head=other.head)
    assert torch.equal(inner.score(world.ood), before)


def test_a_shaper_has_a_head_of_its_own(world: World) -> None:
    head = Head(world.layer.weight.clone(), world.layer.bias.clone())
    made = ReAct(detector("energy")).fit(world.batches(), head=head)
    before = made.score(world.ood)
    head.weight.mul_(2)
    assert torch.equal(made.score(world.ood), before)


@pytest.mark.parametrize(
    "spec",
    [
        *("KNN(k=5.0)", "KNN(bank=1e5)", "KNN(9, bank=5)", "KNN(0)", "KNN(k={[]: 1})"),
        *("ViM(dim=4.0)", "GEN(top=2.5)", None, 3, offmap.ViM),
    ],
)
def test_what_describes_no_detector_is_refused(spec: Any) -> None:
    with pytest.raises(ArgumentError):
        inspect.unwrap(detector)(spec)  # without the tests' own check of types


def test_aliases_with_pluses_stand_inside_of_expressions() -> None:
    made = detector("Combine([energy, mds++, react(rmds++)], how='max')")
    same = "Combine([energy, mahalanobispp, react(relativemahalanobispp)], how='max')"
    assert repr(made) == repr(detector(same))
    with pytest.raises(ArgumentError, match=r"no detector is called 'other\+\+'"):
        detector("Combine([energy, other++])")


def test_what_was_scored_once_does_not_spare_the_next_its_checks() -> None:
    vim = offmap.ViM(dim=2)
    acts = Activations(torch.randn(40, 3), torch.randn(40, 6))
    vim.fit([(acts, None)], head=Head(torch.randn(3, 6), torch.randn(3)))
    vim.score(acts)
    with pytest.raises(ShapeError, match="5 columns"):
        vim.score(Activations(torch.randn(2, 3), torch.randn(2, 5)))
    with pytest.raises(NeedsError, match="features"):
        vim.score(Activations(torch.randn(2, 3)))
    other = offmap.ViM(dim=2)
    wide = Activations(torch.randn(40, 3), torch.randn(40, 6))
    other.fit([(wide, None)], head=Head(torch.randn(3, 6), torch.randn(3)))
    vim.load_state_dict({**other.state_dict(), "columns_": torch.tensor([4, 6, 0])})
    with pytest.raises(ShapeError, match="logits have 3 columns"):
        vim.score(acts)
    vim.reset()
    with pytest.raises(NotFittedError):
        vim.score(acts)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.uint16, torch.int32])
def test_labels_of_a_type_that_does_not_hold_the_number_of_classes(dtype: torch.dtype) -> None:
    h = torch.rand(90, 4, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(90) % 90).to(dtype)
    acts = Activations(torch.zeros(90, 300), h)
    made = offmap.CTM().fit([(acts, labels)])
    array = h.double().numpy()
    expected = array / np.linalg.norm(array, axis=1, keepdims=True)
    assert np.allclose(made.means_.numpy(), expected, atol=1e-12)
    with pytest.raises(LabelError, match=r"1 labels lie outside 0 … 88"):
        offmap.CTM().fit([(Activations(torch.zeros(90, 89), h), labels)])


@pytest.mark.parametrize("spec", ["ras(multilayermahalanobis)", "dice(auto)"])
def test_layers_that_a_composite_hands_to_its_parts_are_there_in_later_passes(spec: str) -> None:
    world = world_of(spec, make_world(300, relu=True))
    again, once = world.batches(100), [iter(world.batches(100)) for _ in range(2)]
    made = detector(spec).fit(again, calibration=again, head=world.head)
    streamed = detector(spec).fit(once[0], calibration=once[1], head=world.head)
    assert streamed.summary() == made.summary()
    assert torch.equal(streamed.score(world.ood), made.score(world.ood))
