"""What every detector of the catalogue keeps, whatever its method."""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations, Sample
from offmap.detectors import (
    SOURCES,
    Detector,
    Needs,
    catalogue,
    detector,
    load,
    nodes,
    passes,
    save,
    sources,
)
from offmap.detectors.features.grad_norm import GradNorm
from offmap.detectors.gradients.adascale_a import AdaSCALEA
from offmap.detectors.layers.feature_norm import FeatureNorm
from offmap.detectors.layers.rank_feat import RankFeat
from offmap.detectors.logits.open_max import OpenMax
from offmap.detectors.shapers._largest import Largest
from offmap.detectors.shapers.dice import DICE
from offmap.detectors.shapers.vra import VRA
from offmap.errors import (
    ArgumentError,
    DataError,
    LabelError,
    NeedsError,
    NonFiniteError,
    NotFittedError,
    ShapeError,
)
from offmap.metrics import auroc
from tests.conftest import World, changed, fitted, make_world, plain, world_of

# The catalogue, and composites around detectors that learn in no, one, two and four passes.
SPECS = [*catalogue(), "react(vim)", "react(react(mahalanobis))", "knn(5, bank=200)"]
SPECS += ["membermean(vim)", "classgaussian(tied=True)", "scale(knn(5))"]
SPECS += ["combine([vim, react(energy)], how='fisher')"]
SPECS += [f"combine([knn(5), energy], how={how!r})" for how in ("max", "mean_rank")]
SPECS += ["perturbed(combine([vim, temperaturescaled], how='harmonic'))"]
# What these read says nothing of the direction in which OOD lies here: see their reference tests.
# GradNorm goes by the norm of the features, and OpenMax moves large logits: OOD features here are
# longer than ID ones, with logits of about 0.
OTHERWISE = (Largest, DICE, VRA, RankFeat, FeatureNorm, AdaSCALEA, GradNorm, OpenMax)
# As few samples, in as few batches, as show it: under type checks every call costs.
N, BATCH = 300, 100


def those(wanted: Callable[[Detector], object]) -> pytest.MarkDecorator:
    """A test of those detectors alone for which something is true."""
    return pytest.mark.parametrize(
        "spec", [s for s in SPECS if wanted(detector(s))], indirect=True, scope="module"
    )


def learns_labels(made: Detector) -> bool:
    return any(stage.labels for node in nodes(made) for stage in node.stages)


def fresh(spec: str) -> Detector:
    return detector(spec)


def for_relu(spec: str) -> bool:
    """Whether a part is made for features as from a ReLU."""
    return any(node.for_relu for node in nodes(detector(spec)))


def world_for(spec: str, n: int = N, seed: int = 0) -> World:
    return world_of(spec, make_world(n, seed=seed, relu=for_relu(spec)))


@pytest.fixture(scope="module")
def world(spec: str) -> World:
    return world_for(spec)


def fit(spec: str, world: World, size: int = BATCH) -> Detector:
    return fitted(spec, world, size)


@pytest.fixture(scope="module")
def made(spec: str, world: World) -> Detector:
    """Fitted once, for the tests that leave it as it is."""
    return fit(spec, world)


def equal(a: Activations | Sample, b: Activations | Sample) -> bool:
    """The same bits."""
    a, b = plain(a), plain(b)
    same = torch.equal(a.logits, b.logits) and len(a.members) == len(b.members)
    same &= not (a.has_features or b.has_features) or torch.equal(a.features, b.features)
    return same and all(equal(x, y) for x, y in zip(a.members, b.members, strict=True))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to 1e-5 of the size of the scores' terms, here taken from their largest."""
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


def cast(acts: Activations | Sample, dtype: torch.dtype) -> Activations | Sample:
    return changed(
        acts, lambda a: a.replace(logits=a.logits.to(dtype), features=a.features.to(dtype))
    )


@pytest.fixture(params=SPECS, scope="module")
def spec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_scores_are_finite_float32_one_a_sample(spec: str, world: World, made: Detector) -> None:
    scores = made.score(world.acts)
    assert scores.shape == (len(world.acts),)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


@those(lambda made: not isinstance(made, OTHERWISE))
def test_higher_is_more_ood(spec: str, world: World, made: Detector) -> None:
    """OOD features leave the mean in directions that the head does not read."""
    generator = torch.Generator().manual_seed(1)
    away = 6 * torch.randn(300, 16, generator=generator)
    unread = torch.eye(16) - torch.linalg.pinv(world.layer.weight) @ world.layer.weight
    h = world.features.mean(0) + away @ unread
    h = h.relu() if for_relu(spec) else h
    assert auroc(made.score(world.acts), made.score(world.of(h))) > 0.9


def test_any_split_of_the_data_gives_the_same_detector(
    spec: str, world: World, made: Detector
) -> None:
    """Into uneven batches here; that of any statistic into any is a law of its own."""
    assert close(fit(spec, world, 64).score(world.ood), made.score(world.ood))


def test_the_order_of_the_data_does_not_matter(spec: str, world: World, made: Detector) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    assert close(fit(spec, world.only(order)).score(world.ood), made.score(world.ood))


@pytest.mark.parametrize("cut", [1, 107])
def test_a_score_does_not_depend_on_its_batch(world: World, made: Detector, cut: int) -> None:
    parts = torch.cat([made.score(world.ood[:cut]), made.score(world.ood[cut:])])
    assert close(parts, made.score(world.ood))


def test_rows_that_are_scored_apart_are_joined_in_order(
    world: World, made: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a batch of more than two thousand is on a processor."""
    expected = made.score(world.ood)
    monkeypatch.setattr("offmap.detectors._chunks._ROWS", 107)
    assert close(made.score(world.ood), expected)


def test_a_one_shot_iterable_is_enough(spec: str, world: World, made: Detector) -> None:
    def once() -> Iterator[tuple[Activations | Sample, torch.Tensor]]:
        yield from world.batches(BATCH)

    again = fresh(spec)
    if reads_inputs_again(again):
        with pytest.raises(NeedsError, match="can be read once only: give a loader or a set"):
            again.fit(once(), calibration=once(), head=world.head)
        return
    again.fit(once(), calibration=once(), head=world.head)
    assert torch.equal(again.score(world.ood), made.score(world.ood))


def reads_inputs_again(made: Detector) -> bool:
    """Whether a second pass over one source runs the network."""
    return Needs.INPUTS in made.needs_to_learn and any(
        passes(made, source) > 1 for source in SOURCES
    )


def test_fitting_again_forgets(spec: str, world: World, made: Detector) -> None:
    again = fit(spec, world_for(spec, 300, seed=5), 300)
    batches = world.batches(BATCH)
    again.fit(batches, calibration=batches, head=world.head)
    assert torch.equal(again.score(world.ood), made.score(world.ood))


def test_saved_and_loaded_scores_are_equal_bit_for_bit(
    world: World, made: Detector, tmp_path: Path
) -> None:
    folder = tmp_path / "detector"
    save(made, folder)
    loaded = load(folder)
    assert repr(loaded) == repr(made)
    assert torch.equal(loaded.score(world.ood), made.score(world.ood))


def test_repr_and_record_rebuild_it(spec: str) -> None:
    made = fresh(spec)
    assert repr(detector(repr(made))) == repr(made)
    record = json.loads(json.dumps(made.record()))
    assert repr(detector(record)) == repr(made)


# What no argument may be, of whatever kind; True is a flag, and text may be the name of a layer.
WRONG = (math.nan, math.inf, -math.inf, -1, 10**400, 1j, True, "yes", [0.5], object())


def arguments(name: str) -> Iterator[tuple[str, Any]]:
    """Those of a detector that are no detectors themselves, as they are by default."""
    for argument, value in detector(name).params.items():
        if not isinstance(value, Detector | list):
            yield argument, value


@pytest.mark.parametrize("name", catalogue())
def test_arguments_that_cannot_be_right_are_refused_by_name(name: str) -> None:
    made = detector(name)
    for argument, value in arguments(name):
        for wrong in WRONG:
            flag = isinstance(value, bool) and isinstance(wrong, bool)
            text = argument in ("layer", "layers") and isinstance(wrong, str)
            weight = argument == "factor" and wrong == -1  # which may have any sign
            if flag or text or weight:
                continue
            others = made.params | {argument: wrong}
            with pytest.raises(ArgumentError, match=rf"{argument} (must|is)"):
                type(made)(**others)


@pytest.mark.parametrize("name", catalogue())
def test_numbers_of_numpy_are_kept_as_pythons_own(name: str) -> None:
    made = detector(name)
    kinds = {bool: np.bool_, int: np.int32, float: np.float32}
    given = {a: kinds[type(v)](v) for a, v in arguments(name) if type(v) in kinds}
    again = type(made)(**made.params | given)
    assert repr(again) == repr(made)
    assert json.loads(json.dumps(again.record())) == made.record()


def test_inputs_are_untouched_and_no_gradient_is_kept(
    spec: str, world: World, made: Detector
) -> None:
    before = copy.deepcopy(world.acts)
    scores = made.score(world.acts)
    assert equal(world.acts, before)
    assert not scores.requires_grad
    assert not list(made.parameters())
    assert not any(buffer.requires_grad for buffer in made.buffers())


def test_scores_of_a_network_in_another_precision(world: World, made: Detector) -> None:
    """They are float32, and those of the same numbers in float32."""
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        other = cast(world.ood, dtype)
        scores = made.score(other)
        assert scores.dtype == torch.float32
        assert close(scores, made.score(cast(other, torch.float32)))


def test_a_class_without_samples_changes_nothing_but_its_absence(spec: str, world: World) -> None:
    """With class 0 gone, fitting works; a false mean at the origin would draw OOD scores down."""
    rows = world.labels > 0
    made = fit(spec, world.only(rows))
    assert made.score(world.ood).isfinite().all()


def test_features_of_zero(world: World, made: Detector) -> None:
    zeros = torch.zeros(3, 16)
    scores = made.score(world.of(zeros))
    assert scores.isfinite().all()


@those(lambda made: made.learns)
def test_before_fitting_it_says_so(spec: str, world: World) -> None:
    made = fresh(spec)
    with pytest.raises(NotFittedError, match="fit"):
        made.score(world.acts)
    with pytest.raises(NotFittedError):
        save(made, "nowhere")


@those(lambda made: not made.learns)
def test_what_learns_nothing_scores_at_once(spec: str, world: World) -> None:
    assert fresh(spec).score(world.acts).isfinite().all()


@those(lambda made: Needs.HEAD in made.needs and not made.goes_on)
def test_a_head_is_asked_for(spec: str, world: World) -> None:
    with pytest.raises(NeedsError, match="last linear layer"):
        fresh(spec).fit(world.batches(N), calibration=world.batches(N))


@those(lambda made: Needs.HEAD in made.needs and not sources(made))
def test_a_head_is_enough_where_nothing_is_learned(spec: str, world: World) -> None:
    """Binding is not fitting: no data is needed for it."""
    assert fresh(spec).fit(head=world.head).score(world.acts).isfinite().all()


@those(lambda made: learns_labels(made) and not made.goes_on)
def test_labels_are_asked_for(spec: str, world: World) -> None:
    unlabelled = [(world.acts, None)]
    with pytest.raises(LabelError, match="needs labels"):
        fresh(spec).fit(unlabelled, calibration=unlabelled, head=world.head)


@those(lambda made: Needs.FEATURES in made.needs and not made.goes_on)
def test_features_are_asked_for(spec: str, world: World, made: Detector) -> None:
    bare = changed(world.acts, lambda a: Activations(a.logits, layers=a.layers))
    if sources(fresh(spec)):
        data = [(bare, world.labels)]
        with pytest.raises(NeedsError, match="features"):
            fresh(spec).fit(data, calibration=data, head=world.head)
    with pytest.raises(NeedsError, match="features"):
        made.score(bare)


@those(lambda made: Needs.LOGITS not in made.needs)
def test_logits_are_not_asked_for_where_they_are_not_read(
    spec: str, world: World, made: Detector
) -> None:
    bare = changed(world.acts, lambda a: Activations(features=a.features))
    ood = changed(world.ood, lambda a: Activations(features=a.features))
    without = fresh(spec).fit([(bare, world.labels)], head=world.head)
    assert close(without.score(ood), made.score(world.ood))


@those(lambda made: made.learns and Needs.FEATURES in made.needs)
def test_activations_of_another_width_are_refused(spec: str, world: World, made: Detector) -> None:
    wide = changed(world.ood, lambda a: a.replace(features=a.features.repeat(1, 2)))
    with pytest.raises(ShapeError, match=r"32 columns.*fitted on 16"):
        made.score(wide)


@those(lambda made: bool(sources(made)))
def test_non_finite_data_is_refused(spec: str, world: World) -> None:
    spoil = torch.zeros(N, 1)
    spoil[[3, 70]] = torch.nan
    acts = changed(world.acts, lambda a: a.replace(logits=a.logits + spoil))
    bad = replace(world, acts=acts)
    with pytest.raises(NonFiniteError, match=r"2 samples.*\[3, 70\]"):
        fit(spec, bad, N)


@those(learns_labels)
def test_labels_outside_the_classes_are_refused(spec: str, world: World) -> None:
    for labels, message in (
        (world.labels * 2, "150 labels lie outside 0 … 5"),
        (world.labels.float(), "integers"),
    ):
        data = [(world.acts, labels)]
        with pytest.raises(LabelError, match=message):
            fresh(spec).fit(data, calibration=data, head=world.head)


@those(lambda made: bool(passes(made, "calibration")))
def test_training_data_does_not_take_the_place_of_calibration_data(spec: str, world: World) -> None:
    made = fresh(spec)
    with pytest.raises(NeedsError, match="needs calibration data to learn on: give calibration="):
        made.fit(world.batches(N), head=world.head)
    assert not made.fitted
    assert made.waiting_for == "calibration"
    with pytest.raises(NotFittedError, match="learns on calibration data and has not seen any"):
        made.score(world.acts)


def test_one_network_and_an_ensemble_are_told_apart(
    spec: str, world: World, made: Detector
) -> None:
    acts = plain(world.acts)
    if Needs.MEMBERS in made.needs:
        other, message = acts.members[0], "is for an ensemble, see offmap.networks.Ensemble"
    else:
        other, message = Activations.of_members([acts] * 2), r"wrap it: MemberMean\(\.\.\.\)"
    sample = Sample(other, world.features, lambda x: other)
    with pytest.raises(NeedsError, match=message):
        made.score(sample)
    if sources(made):
        data = [(sample, world.labels)]
        with pytest.raises(NeedsError, match=message):
            fresh(spec).fit(data, calibration=data, head=world.layer)


def test_a_summary_in_words(made: Detector) -> None:
    assert made.summary()


def test_learned_buffers_end_in_an_underscore_and_move_together(
    spec: str, world: World, made: Detector
) -> None:
    names = [name.rpartition(".")[2] for name, _ in made.named_buffers()]
    assert all(name.endswith("_") for name in names)
    assert {b.device.type for b in copy.deepcopy(made).to("meta").buffers()} <= {"meta"}


def test_empty_batches_change_nothing(spec: str, world: World, made: Detector) -> None:
    none = (world.acts[:0], world.labels[:0])
    batches = [none, *world.batches(BATCH), none]
    other = fresh(spec).fit(batches, calibration=batches, head=world.head)
    assert torch.equal(other.score(world.ood), made.score(world.ood))


@those(lambda made: bool(sources(made)))
def test_no_samples_at_all_are_refused(spec: str, world: World) -> None:
    none = [(world.acts[:0], world.labels[:0])]
    with pytest.raises(DataError, match="every batch is empty"):
        fresh(spec).fit(none, calibration=none, head=world.head)


def test_half_precision_around_it_changes_no_bit(spec: str, world: World, made: Detector) -> None:
    before = made.score(world.ood)
    for cast in (torch.nn.Module.half, torch.nn.Module.bfloat16, torch.nn.Module.float):
        assert torch.equal(cast(made).score(world.ood), before)


def test_what_a_sample_adds_is_not_read_unasked(spec: str, world: World, made: Detector) -> None:
    """Only what needs inputs is given them, however deep it stands."""
    if Needs.INPUTS in made.needs:
        with pytest.raises(NeedsError, match="runs the network again on the inputs"):
            made.score(plain(world.ood))
    else:
        sample = Sample(plain(world.ood), world.features, lambda x: pytest.fail("the network ran"))
        assert torch.equal(made.score(sample), made.score(world.ood))


def test_an_unsolved_stage_leaves_it_unfitted() -> None:
    """A failure in the middle must not leave a detector that scores with half of its state."""
    world = make_world()
    made = offmap.ViM(4).fit(world.batches(), head=world.head)
    flat = Activations(torch.zeros_like(world.acts.logits), world.acts.features)
    with pytest.raises(offmap.errors.DegenerateError, match="alpha"):
        made.fit([(flat, world.labels)], head=world.head)
    assert not made.fitted


def test_a_class_without_samples_leaves_no_false_mean() -> None:
    world = make_world()
    made = fitted("mahalanobis", world.only(world.labels > 0))
    assert len(made.centres_) == 5


def test_every_detector_has_a_page_of_its_own_in_its_docstring() -> None:
    for name, method in catalogue().items():
        text = inspect.getdoc(method) or ""
        assert ".. math::" in text or "Args:" in text, name
        assert method.default().needs, name


def test_the_year_of_a_detector_is_that_of_its_source() -> None:
    for name, method in catalogue().items():
        references = (inspect.getdoc(method) or "").partition("References:")[2]
        assert bool(references) == (method.year is not None), name
        assert method.year is None or str(method.year) in references, name
