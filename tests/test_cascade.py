"""Two systems as one: the filter is scored, and the classifier answers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap import demo
from offmap.activations import Activations, Tap
from offmap.errors import ArgumentError, InputsWarning, NotFittedError, ShapeError, StoreError
from offmap.forward import CascadeProbe, FilterAndClassifier, Probe, cache_key, forward, probe_of
from offmap.networks import DigitsCNN, Ensemble

NORMALIZATION = demo.NORMALIZATION
OTHER = offmap.Normalization((0.5,), (0.25,))


class Convolutions(nn.Sequential):
    """A classifier without a linear layer."""

    def __init__(self, classes: int = 8) -> None:
        torch.manual_seed(2)
        super().__init__(nn.Conv2d(1, classes, 8), nn.Flatten())


class FailsAbove(nn.Module):
    """A classifier that divides by nothing where an image is brighter than any."""

    def __init__(self, network: nn.Module, brightest: float) -> None:
        super().__init__()
        self.network, self.brightest = network, brightest

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) / (x.amax((1, 2, 3)) <= self.brightest)[:, None]


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


@pytest.fixture(scope="module")
def good() -> DigitsCNN:
    return demo.shipped()


@pytest.fixture(scope="module")
def bad() -> DigitsCNN:
    """Other weights: it answers otherwise on most images."""
    torch.manual_seed(1)
    return DigitsCNN(8)


@pytest.fixture(scope="module")
def guard(sets: demo.Digits, bad: DigitsCNN) -> offmap.Guard:
    return calibrated(sets, bad)


def calibrated(sets: demo.Digits, network: nn.Module, spec: Any = "vim") -> offmap.Guard:
    guard = offmap.Guard(network, spec, normalization=NORMALIZATION)
    return guard.fit(sets.train).calibrate(sets.calibration, 0.1)


def arguments(sets: demo.Digits) -> dict[str, Any]:
    """The data of an evaluation: 866, 361, 174 and 180 images."""
    return {"train": sets.train, "id_test": sets.test, "ood": sets.ood["near"]}


def logits(network: nn.Module, images: Tensor, how: offmap.Normalization = NORMALIZATION) -> Any:
    """In float64, by the network itself; of an ensemble the logarithms of mean probabilities."""
    if isinstance(network, Ensemble):
        p = np.mean([softmax(logits(each, images, how)) for each in network.members], axis=0)
        return np.log(p)
    with torch.no_grad():
        return copy.deepcopy(network).eval().double()(how(images).double()).numpy()


def softmax(z: Any) -> Any:
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


@contextmanager
def counted(*networks: nn.Module) -> Iterator[list[int]]:
    """How many samples each network, and each member of an ensemble, runs in the block."""
    each = [m for n in networks for m in (n.members if isinstance(n, Ensemble) else [n])]
    seen = [0] * len(each)

    def count(i: int) -> Callable[..., None]:
        def add(module: nn.Module, inputs: tuple[Tensor]) -> None:
            seen[i] += len(inputs[0])

        return add

    handles = [network.register_forward_pre_hook(count(i)) for i, network in enumerate(each)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def test_each_part_of_the_verdict_is_of_the_right_system(
    sets: demo.Digits, guard: offmap.Guard, good: DigitsCNN
) -> None:
    images = torch.cat([sets.test.images, sets.ood["near"]["nines"].images])
    found, own = offmap.Cascade(filter=guard, classifier=good)(images), guard(images)
    assert torch.equal(found.scores, own.scores)
    assert torch.equal(found.p_values, own.p_values)
    assert torch.equal(found.is_ood, own.is_ood)
    assert np.array_equal(found.labels, logits(good, images).argmax(1))
    assert (found.labels != own.labels).float().mean() > 0.5
    assert found.classes == guard.classes


def test_a_guard_as_classifier_gives_names_and_its_own_normalisation(
    sets: demo.Digits, guard: offmap.Guard, good: DigitsCNN
) -> None:
    classifier = offmap.Guard(good, "msp", classes=tuple("abcdefgh"), normalization=OTHER)
    cascade = offmap.Cascade(filter=guard, classifier=classifier)  # unfitted, and no matter
    found = cascade(sets.test.images)
    expected = logits(good, sets.test.images, OTHER).argmax(1)
    assert np.array_equal(found.labels, expected)
    assert (expected != logits(good, sets.test.images).argmax(1)).any()
    assert found.classes == tuple("abcdefgh")
    assert torch.equal(found.scores, guard(sets.test.images).scores)


def test_what_the_filter_calibrated_within_its_answers_stays_so(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN
) -> None:
    guard = offmap.Guard(good, "maxlogit", normalization=NORMALIZATION).fit(sets.train)
    guard.calibrate(sets.calibration, 0.1, per_class=True)
    found = offmap.Cascade(filter=guard, classifier=bad)(sets.test.images)
    assert torch.equal(found.p_values, guard(sets.test.images).p_values)


@pytest.mark.parametrize("kind", ["networks", "ensemble filters", "ensemble answers", "no linear"])
def test_evaluate_scores_the_filter_and_counts_the_classifiers_answers(
    kind: str, sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN
) -> None:
    torch.manual_seed(3)
    ensemble = Ensemble([DigitsCNN(8), DigitsCNN(8)])
    first = ensemble if kind == "ensemble filters" else bad
    second = {"ensemble answers": ensemble, "no linear": Convolutions()}.get(kind, good)
    specs = ["maxprobability", "membermean(vim)"] if first is ensemble else ["msp", "vim"]
    options = {**arguments(sets), "detectors": specs, "normalization": NORMALIZATION}
    with counted(first, second) as seen:
        found = offmap.evaluate(offmap.Cascade(filter=first, classifier=second), **options)
    assert set(seen) == {866 + 361 + 174 + 180}
    alone = offmap.evaluate(first, **options)
    for spec in found.detectors:
        for name, scores in alone.scores[spec].items():
            assert np.array_equal(found.scores[spec][name], scores)
    answers = logits(second, sets.test.images).argmax(1)
    assert found.accuracy == (int((answers == sets.test.labels.numpy()).sum()), len(answers))
    assert np.array_equal(found.predictions["id"], answers)
    p = softmax(logits(first, sets.test.images))
    assert np.allclose(found.scores[found.detectors[0]]["id"], 1 - p.max(1), atol=1e-6)
    assert all(info.members == [] for info in found.sets)  # none of them answers
    assert found.settings["network"] == type(first).__name__
    assert found.settings["classifier"]["network"] == type(second).__name__


def test_one_system_in_both_places_runs_once(
    sets: demo.Digits, good: DigitsCNN, guard: offmap.Guard, bad: DigitsCNN
) -> None:
    images = sets.test.images
    with counted(bad) as seen:
        found = offmap.Cascade(filter=guard, classifier=bad)(images)
    assert seen == [len(images)]
    assert found.to_dict() == guard(images).to_dict()
    ensemble = Ensemble([good, bad])
    with (
        counted(ensemble) as seen,
        probe_of(FilterAndClassifier(filter=ensemble, classifier=ensemble)) as probe,
    ):
        assert torch.equal(probe(images).predictions, probe(images).logits.argmax(1))
    assert seen == [2 * len(images)] * 2
    other_way = offmap.Guard(bad, "msp", normalization=OTHER)
    with counted(bad) as seen:
        found = offmap.Cascade(filter=guard, classifier=other_way)(images)
    assert seen == [2 * len(images)]
    assert np.array_equal(found.labels, logits(bad, images, OTHER).argmax(1))


@pytest.mark.parametrize("inside", ["networks", "guard and network", "ensemble and network"])
def test_a_guard_around_a_cascade_keeps_rate_answers_and_bits(
    inside: str, sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN, tmp_path: Path
) -> None:
    def make(first: nn.Module, second: nn.Module) -> offmap.Cascade:
        if inside == "guard and network":
            first = offmap.Guard(first, "msp", normalization=NORMALIZATION)
        elif inside == "ensemble and network":
            first = Ensemble([first, copy.deepcopy(second)])
        return offmap.Cascade(filter=first, classifier=second)

    spec = "membermean(vim)" if inside == "ensemble and network" else "vim"
    made = calibrated(sets, make(good, bad), spec)
    images = sets.ood["near"]["eights"].images
    verdict = made(images)
    assert np.array_equal(verdict.labels, logits(bad, images).argmax(1))
    bare = make(good, bad).probe.filter.network
    assert torch.equal(verdict.scores, calibrated(sets, bare, spec)(images).scores)
    assert int(made(sets.calibration.images).is_ood.sum()) == 21 - 1  # of 217, 21 raise an alarm
    made.save(tmp_path, weights=True)
    fresh = make(DigitsCNN(8), DigitsCNN(8))
    loaded = offmap.load(tmp_path, fresh)
    assert loaded(images).to_dict() == verdict.to_dict()
    assert loaded.explain() == made.explain()
    assert loaded.explain().startswith("Network FilterAndClassifier.")


def test_a_loaded_cascade_needs_both_its_networks(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN, tmp_path: Path
) -> None:
    made = calibrated(sets, offmap.Cascade(filter=good, classifier=bad), "maxlogit")
    made.save(tmp_path)
    for filter, classifier in ((good, DigitsCNN(8)), (DigitsCNN(8), bad), (bad, good)):
        with pytest.raises(StoreError, match="other weights"):
            offmap.load(tmp_path, offmap.Cascade(filter=filter, classifier=classifier))
    with pytest.raises(StoreError, match="other weights"):
        offmap.load(tmp_path, good)
    again = offmap.load(tmp_path, offmap.Cascade(filter=good, classifier=bad))
    assert again(sets.test.images).to_dict() == made(sets.test.images).to_dict()


def test_a_guard_around_a_cascade_calibrates_within_the_classifiers_answers(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN
) -> None:
    made = offmap.Guard(
        offmap.Cascade(filter=bad, classifier=good), "maxlogit", normalization=NORMALIZATION
    )
    made.fit(sets.train).calibrate(sets.calibration, 0.1, per_class=True)
    verdict = made(sets.calibration.images)
    answers = logits(good, sets.calibration.images).argmax(1)
    for label in range(8):
        own = answers == label
        assert int(verdict.is_ood[own].sum()) == int(0.1 * (own.sum() + 1)) - 1


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_an_exported_cascade_answers_with_the_classifier(
    suffix: str, sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN, tmp_path: Path
) -> None:
    several = Ensemble([good, copy.deepcopy(good)])
    classifier = several if suffix == ".pt2" else good
    made = calibrated(sets, offmap.Cascade(filter=bad, classifier=classifier), "maxlogit")
    images = sets.test.images[:50]
    path = tmp_path / f"guard{suffix}"
    offmap.export(made, path, example=images)
    if suffix == ".pt2":
        with torch.no_grad():
            label, score, *_ = torch.export.load(path).module()(images)
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
        label, score = session.run(["label", "score"], {"images": images.numpy()})
    assert np.array_equal(label, logits(good, images).argmax(1))
    assert np.allclose(score, -logits(bad, images).max(1), atol=1e-4)


def test_a_part_in_another_precision_has_no_graph(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN, tmp_path: Path
) -> None:
    rough = offmap.Guard(good, "msp", precision="bf16", normalization=NORMALIZATION)
    made = calibrated(sets, offmap.Cascade(filter=bad, classifier=rough), "maxlogit")
    with pytest.raises(ArgumentError, match="precision 'fp32'; this guard has 'bf16'"):
        offmap.export(made, tmp_path / "guard.pt2", example=sets.test.images[:5])


def test_a_cascade_that_cannot_decide_says_what_to_do(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN
) -> None:
    guard = offmap.Guard(good, "msp", normalization=NORMALIZATION)
    with pytest.raises(NotFittedError, match=r"calibrate it .* or put a guard around the whole"):
        offmap.Cascade(filter=guard, classifier=bad)(sets.test.images)
    with pytest.raises(ArgumentError, match=r"is a DigitsCNN, which has no threshold: .*Guard\("):
        offmap.Cascade(filter=good, classifier=bad)(sets.test.images)


def test_other_classes_are_refused(sets: demo.Digits, guard: offmap.Guard) -> None:
    cascade = offmap.Cascade(filter=guard, classifier=Convolutions(5))
    with pytest.raises(ShapeError, match="filter has 8 classes, and the classifier 5"):
        cascade(sets.test.images)
    mixed = Ensemble([Convolutions(5), Convolutions(8)])
    with pytest.raises(ShapeError, match="members of an ensemble must give logits of one shape"):
        offmap.Cascade(filter=guard, classifier=mixed)(sets.test.images)


def test_a_cascade_in_a_cascade_is_refused(
    guard: offmap.Guard, good: DigitsCNN, bad: DigitsCNN
) -> None:
    inner = offmap.Cascade(filter=guard, classifier=good)
    with pytest.raises(ArgumentError, match="the filter of this cascade is a cascade itself"):
        offmap.Cascade(filter=inner, classifier=bad)
    with pytest.raises(ArgumentError, match="the classifier of this cascade is a cascade itself"):
        offmap.Cascade(filter=guard, classifier=offmap.Guard(inner, "vim"))


@pytest.mark.parametrize("detectors", ["vim", ["vim", "msp"]])
def test_one_image_without_finite_output_costs_no_other_its_verdict(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN, detectors: Any
) -> None:
    """Of the first the filter gives nothing finite, of the second the classifier alone."""
    guard = calibrated(sets, bad, detectors)
    images = NORMALIZATION(sets.test.images[:20])
    cascade = offmap.Cascade(filter=guard, classifier=FailsAbove(good, 50))
    expected = cascade(images)
    assert expected.reasons is None
    images[0], images[1] = torch.nan, 100.0
    verdict = cascade(images)
    for name in ("labels", "scores", "p_values", "is_ood"):
        assert torch.equal(getattr(verdict, name)[2:], getattr(expected, name)[2:]), name
    assert verdict.is_ood[:2].all()
    assert verdict.reasons == ("the network's output is not finite",) * 2 + (None,) * 18
    assert verdict.to_dict()["score"][:2] == [None, None]
    tests, n = len(guard.detectors), len(sets.calibration)
    assert verdict.p_values[:2].tolist() == [tests / (n + 1)] * 2


def test_where_a_classifier_gives_nothing_finite_all_is_unknown_and_nothing_accepted(
    sets: demo.Digits, guard: offmap.Guard, good: DigitsCNN
) -> None:
    broken = copy.deepcopy(good)
    with torch.no_grad():
        broken[-1].bias[3] = torch.nan
    cascade = offmap.Cascade(filter=guard, classifier=broken)
    verdict = cascade(sets.test.images)
    assert verdict.is_ood.all()
    assert verdict.reasons == ("the network's output is not finite",) * len(sets.test)
    with pytest.raises(ArgumentError, match="do not show an error rate"):
        cascade.control(sets.test, 0.9)  # what it says of threes is right by chance alone


def test_what_is_controlled_is_gone_with_what_it_was_controlled_on(
    sets: demo.Digits, good: DigitsCNN
) -> None:
    guard = offmap.Guard(good, "mahalanobis", normalization=NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    cascade = offmap.Cascade(filter=guard, classifier=copy.deepcopy(good))
    cascade.control(sets.test, 0.05)
    assert copy.deepcopy(cascade)(sets.test.images).accepted.any()
    with torch.no_grad():
        cascade.classifier[-1].bias[3] += 1
    with pytest.raises(NotFittedError, match="classifier of this cascade has been trained on"):
        cascade(sets.test.images)
    assert cascade.control(sets.test, 0.05)(sets.test.images).accepted.any()
    guard.calibrate(sets.calibration, 0.1)
    assert cascade.control_ is None
    assert cascade(sets.test.images).accepted is None


def test_a_guard_inside_knows_in_what_form_its_images_come(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN
) -> None:
    """The first image of the cascade lies in [0, 1] by chance, and was normalised all the same."""
    guard = offmap.Guard(good, "mahalanobis", normalization=OTHER)
    guard.fit([(OTHER(sets.train.images), sets.train.labels)])
    guard.calibrate([OTHER(sets.calibration.images)])
    cascade = offmap.Cascade(filter=guard, classifier=bad)
    grey = torch.full((1, 1, 8, 8), 0.5)
    assert torch.equal(cascade(grey).scores, guard(grey).scores)


def test_what_was_loaded_normalises_for_each_part_as_before(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN, tmp_path: Path
) -> None:
    """The filter takes images in [0, 1] as they are, and the classifier normalises them."""
    images = sets.train.images.float() / 255
    parts = offmap.Guard(good, "energy"), offmap.Guard(bad, "energy", normalization=OTHER)
    cascade = offmap.Cascade(filter=parts[0], classifier=parts[1])
    with pytest.warns(InputsWarning, match="first float images lie in"):
        guard = offmap.Guard(cascade, "energy").fit([images])
    guard.calibrate([sets.calibration.images.float() / 255])
    tested = sets.test.images.float() / 255
    verdict = guard(tested)
    guard.save(tmp_path)
    with pytest.warns(InputsWarning, match="first float images lie in"):
        loaded = offmap.load(tmp_path, cascade)(tested)
    assert torch.equal(loaded.labels, verdict.labels)
    assert torch.equal(loaded.scores, verdict.scores)


def test_a_filter_that_was_trained_on_is_refused(sets: demo.Digits, good: DigitsCNN) -> None:
    network = copy.deepcopy(good)
    guard = offmap.Guard(network, "mahalanobis", normalization=NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    cascade = offmap.Cascade(filter=guard, classifier=good)
    cascade(sets.test.images)
    with torch.no_grad():
        network[-1].bias[3] += 1
    for call in (lambda: cascade(sets.test.images), lambda: cascade.control(sets.test)):
        with pytest.raises(NotFittedError, match="weights have changed"):
            call()


def test_a_second_pass_reads_both_from_the_cache(
    sets: demo.Digits, good: DigitsCNN, bad: DigitsCNN, tmp_path: Path
) -> None:
    pair = FilterAndClassifier(filter=good, classifier=bad)
    options: dict[str, Any] = {"batch_size": 100, "cache": tmp_path, "normalization": NORMALIZATION}
    with counted(good, bad) as seen:
        first, second = (
            Activations.joined([acts for acts, _ in forward(pair, sets.test, **options)])
            for _ in range(2)
        )
    assert seen == [361, 361]
    assert torch.equal(first.predictions, second.predictions)
    assert torch.equal(
        first[40:60].predictions, torch.from_numpy(logits(bad, sets.test.images[40:60]).argmax(1))
    )
    other_way = offmap.Guard(bad, "msp", normalization=OTHER)
    asked = [
        probe_of(pair),
        probe_of(pair, normalization=NORMALIZATION),
        probe_of(FilterAndClassifier(filter=bad, classifier=good)),
        probe_of(FilterAndClassifier(filter=good, classifier=other_way)),
        probe_of(good),
    ]
    assert len({cache_key(probe, sets.test) for probe in asked}) == 5


def test_head_and_layers_are_the_filters(
    sets: demo.Digits, guard: offmap.Guard, good: DigitsCNN
) -> None:
    cascade = offmap.Cascade(filter=good, classifier=Convolutions())
    with probe_of(cascade, head="7", taps=[Tap("1", "whole")]) as probe:
        assert isinstance(probe, CascadeProbe)
        acts = probe(sets.test.images)
        assert acts.features.shape == (361, 512)
        assert not probe.knows_head
        assert "has 64 outputs, not 8" in probe.why_no_head
    assert list(acts.layers) == [Tap("1", "whole").key()]
    with (
        probe_of(offmap.Cascade(filter=guard, classifier=good)) as probe,
        Probe(guard.network) as own,
    ):
        assert torch.equal(
            probe(sets.test.images).predictions, probe.classifier(sets.test.images).predictions
        )
        own(sets.test.images)
        assert torch.equal(probe.head.weight, own.head.weight)


def test_modes_and_hooks_are_as_before(
    sets: demo.Digits, guard: offmap.Guard, good: DigitsCNN, bad: DigitsCNN
) -> None:
    networks = copy.deepcopy(good).train(), copy.deepcopy(bad).eval()
    before = [(m.training, len(m._forward_pre_hooks)) for n in networks for m in n.modules()]
    with probe_of(FilterAndClassifier(filter=networks[0], classifier=networks[1])) as probe:
        probe(sets.test.images)
        assert not any(m.training for m in networks[0].modules())
    assert before == [
        (m.training, len(m._forward_pre_hooks)) for n in networks for m in n.modules()
    ]
