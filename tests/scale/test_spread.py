"""Statistics collected in parts, apart from each other: the detector is that of one process."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from offmap.activations import Activations
from offmap.detectors import (
    Collected,
    Detector,
    Fitting,
    Spread,
    Task,
    catalogue,
    collected_apart,
    detector,
)
from offmap.errors import DataError, LabelError, NeedsError
from offmap.scale._part import on_device
from offmap.stats import Bank, Moments, Product
from tests.conftest import World, make_world, world_of
from tests.scale.alike import alike

COMPOSITES = ["ReAct(ViM(dim=4))", "Combine([energy, knn(k=5)])", "MemberMean(ReAct(ViM(dim=4)))"]


class Parts(Spread):
    """Batches in three parts, each collected by what is pickled, as in another process."""

    def __init__(self, batches: list[Any]) -> None:
        self.first = batches[0][0]
        self.parts = [batches[:4], batches[4:5], batches[5:]]

    def collect(self, task: Task, fitting: Fitting) -> Iterator[Collected]:
        for part in self.parts:
            found = collected_apart(pickle.loads(pickle.dumps(task)), part)
            yield pickle.loads(pickle.dumps(found))


def spread(spec: str, world: World, size: int = 32) -> Detector:
    made = detector(spec)
    fitting = Fitting([made], world.head)
    fitting.begin()
    for source in ("train", "calibration"):
        fitting.learn(source, Parts(world.batches(size)))  # type: ignore[arg-type]
    return made


def whole(spec: str, world: World, size: int = 32) -> Detector:
    batches = world.batches(size)
    return detector(spec).fit(batches, calibration=batches, head=world.head)


@pytest.mark.parametrize("spec", [*catalogue(), *COMPOSITES])
def test_parts_give_the_detector_of_the_whole(spec: str) -> None:
    world = world_of(spec, make_world(360, relu=True))
    one, parts = whole(spec, world), spread(spec, world)
    ours, theirs = parts.state_dict(), one.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not alike(ours[name], theirs[name])] == []
    for acts in (world.acts, world.ood):
        assert torch.allclose(parts.score(acts), one.score(acts), rtol=1e-5, atol=1e-6)


def test_a_part_left_out_anywhere_is_left_out_of_the_whole() -> None:
    """The labels of the last batches are missing: those who need them are done without."""
    world = make_world(360, relu=True)

    def batches() -> list[Any]:
        return [(a, y if i < 7 else None) for i, (a, y) in enumerate(world.batches(32))]

    one = detector("auto").fit(batches(), calibration=batches(), head=world.head)
    parts = detector("auto")
    fitting = Fitting([parts], world.head)
    fitting.begin()
    fitting.learn("train", Parts(batches()))
    fitting.learn("calibration", Parts(batches()))
    without = ["MahalanobisPP(ridge=1e-06)", repr(detector("multilayermahalanobis"))]
    assert list(one.left_out) == without  # type: ignore[attr-defined]
    assert parts.left_out == one.left_out  # type: ignore[attr-defined]
    assert torch.allclose(parts.score(world.ood), one.score(world.ood), rtol=1e-5, atol=1e-6)


def test_what_is_wrong_in_one_part_is_refused_as_in_one_process() -> None:
    world = make_world(360)
    acts, labels = world.acts, world.labels.clone()
    labels[-1] = 6
    world.labels = labels
    with pytest.raises(LabelError, match="1 labels lie outside 0 … 5"):
        spread("mahalanobis", world)
    assert isinstance(acts, Activations)
    acts.features[-1, 0] = torch.nan
    with pytest.raises(DataError, match=r"not finite|NaN"):
        spread("knn", world)
    with pytest.raises(NeedsError, match="needs training data to learn on"):
        Fitting([detector("knn")], world.head).learn("train", None)


def test_parts_without_samples_change_no_bit() -> None:
    world = make_world(360)
    batches = world.batches(32)

    class WithEmpty(Parts):
        def __init__(self) -> None:
            super().__init__(batches)
            self.parts = [[], *self.parts, [(batches[0][0][:0], batches[0][1][:0])], []]

    fitted = []
    for parts in (Parts(batches), WithEmpty()):
        made = detector("ReAct(ViM(dim=4))")
        fitting = Fitting([made], world.head)
        fitting.begin()
        fitting.learn("train", parts)
        fitted.append(made.state_dict())
    assert all(torch.equal(fitted[0][name], fitted[1][name]) for name in fitted[0])


def test_a_statistic_moves_with_all_that_is_in_it() -> None:
    x = torch.randn(5, 3)
    whole = Product((Bank.of(x, size=4, keys=tuple("abcde")), Moments.of(x)))
    bank, moments = on_device(on_device(whole, torch.device("meta")), torch.device("meta")).parts
    assert {each.device.type for each in (*bank.parts[0][:2], moments.mean, moments.scatter)} == {
        "meta"
    }
    assert (bank.size, bank.parts[0][2]) == (4, tuple("abcde"))
    bank, _ = on_device(whole, torch.device("cpu")).parts
    assert torch.equal(bank.rows, whole.parts[0].rows)  # type: ignore[attr-defined]
