"""What every detector of the catalogue keeps, whatever its method."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import offmap
from offmap.activations import Activations
from offmap.detectors import Detector, catalogue, detector
from offmap.detectors import _store as store
from offmap.errors import (
    DataError,
    LabelError,
    NeedsError,
    NonFiniteError,
    NotFittedError,
    ShapeError,
)
from offmap.metrics import auroc
from tests.conftest import World, changed, make_world, world_of

# The catalogue, and shapers around detectors that fit in one, two and four stages.
SPECS = [*catalogue(), "react(vim)", "react(react(mahalanobis))", "knn(5, bank=200)"]
SPECS += ["membermean(vim)"]


def fresh(spec: str) -> Detector:
    return detector(spec)


@pytest.fixture(scope="module")
def world(spec: str, world: World) -> World:
    return world_of(spec, world)


def fit(spec: str, world: World, size: int = 64) -> Detector:
    return fresh(spec).fit(world.batches(size), head=world.head)


def equal(a: Activations, b: Activations) -> bool:
    """The same bits."""
    same = torch.equal(a.logits, b.logits) and len(a.members) == len(b.members)
    same &= a.features is b.features is None or torch.equal(a.features, b.features)
    return same and all(equal(x, y) for x, y in zip(a.members, b.members, strict=True))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to 1e-5 of the size of the scores' terms, here taken from their largest."""
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@pytest.fixture(params=SPECS, scope="module")
def spec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_scores_are_finite_float32_one_a_sample(spec: str, world: World) -> None:
    scores = fit(spec, world).score(world.acts)
    assert scores.shape == (len(world.acts),)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


def test_higher_is_more_ood(spec: str) -> None:
    """OOD features leave the mean in directions that the head does not read."""
    world = world_of(spec, make_world())
    generator = torch.Generator().manual_seed(1)
    away = 6 * torch.randn(300, 16, generator=generator)
    unread = torch.eye(16) - torch.linalg.pinv(world.layer.weight) @ world.layer.weight
    h = world.features.mean(0) + away @ unread
    made = fit(spec, world)
    assert auroc(made.score(world.acts), made.score(world.of(h))) > 0.9


@given(size=st.integers(20, 600))
@settings(max_examples=5, deadline=None)
def test_any_split_of_the_data_gives_the_same_detector(spec: str, world: World, size: int) -> None:
    assert close(fit(spec, world, size).score(world.ood), fit(spec, world, 600).score(world.ood))


def test_the_order_of_the_data_does_not_matter(spec: str, world: World) -> None:
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    assert close(fit(spec, world.only(order)).score(world.ood), fit(spec, world).score(world.ood))


@given(cut=st.integers(1, 299))
@settings(max_examples=5, deadline=None)
def test_a_score_does_not_depend_on_its_batch(spec: str, world: World, cut: int) -> None:
    made = fit(spec, world)
    parts = torch.cat([made.score(world.ood[:cut]), made.score(world.ood[cut:])])
    assert close(parts, made.score(world.ood))


def test_one_sample(spec: str, world: World) -> None:
    made = fit(spec, world)
    assert close(made.score(world.ood[:1]), made.score(world.ood)[:1])


def test_a_one_shot_iterable_is_enough(spec: str, world: World) -> None:
    def once() -> Iterator[tuple[Activations, torch.Tensor]]:
        yield from world.batches()

    made = fresh(spec).fit(once(), head=world.head)
    assert torch.equal(made.score(world.ood), fit(spec, world).score(world.ood))


def test_fitting_again_forgets(spec: str, world: World) -> None:
    other = world_of(spec, make_world(400, seed=5))
    made = fit(spec, other)
    made.fit(world.batches(), head=world.head)
    assert torch.equal(made.score(world.ood), fit(spec, world).score(world.ood))


def test_saved_and_loaded_scores_are_equal_bit_for_bit(
    spec: str, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("detector")
    made = fit(spec, world)
    store.save(made, folder)
    loaded = store.load(folder)
    assert repr(loaded) == repr(made)
    assert torch.equal(loaded.score(world.ood), made.score(world.ood))


def test_repr_and_record_rebuild_it(spec: str) -> None:
    made = fresh(spec)
    assert repr(detector(repr(made))) == repr(made)
    record = json.loads(json.dumps(made.record()))
    assert repr(detector(record)) == repr(made)


def test_inputs_are_untouched_and_no_gradient_is_kept(spec: str, world: World) -> None:
    before = copy.deepcopy(world.acts)
    made = fit(spec, world)
    scores = made.score(world.acts)
    assert equal(world.acts, before)
    assert not scores.requires_grad
    assert not list(made.parameters())
    assert not any(buffer.requires_grad for buffer in made.buffers())


def test_bfloat16_activations(spec: str, world: World) -> None:
    half = changed(world.ood, lambda a: Activations(a.logits.bfloat16(), a.features.bfloat16()))
    rounded = changed(half, lambda a: Activations(a.logits.float(), a.features.float()))
    made = fit(spec, world)
    assert close(made.score(half), made.score(rounded))


def test_a_class_without_samples_changes_nothing_but_its_absence(spec: str, world: World) -> None:
    """With class 0 gone, fitting works; a false mean at the origin would draw OOD scores down."""
    rows = world.labels > 0
    made = fit(spec, world.only(rows))
    assert made.score(world.ood).isfinite().all()
    if spec == "mahalanobis":
        assert len(made.centres_) == 5


def test_features_of_zero(spec: str, world: World) -> None:
    zeros = torch.zeros(3, 16)
    scores = fit(spec, world).score(world.of(zeros))
    assert scores.isfinite().all()


def test_before_fitting_it_says_so(spec: str, world: World) -> None:
    made = fresh(spec)
    if made.learned_names() or made.stages:
        with pytest.raises(NotFittedError, match="fit"):
            made.score(world.acts)
        with pytest.raises(NotFittedError):
            store.save(made, "nowhere")
    else:
        assert made.score(world.acts).isfinite().all()


def test_what_it_needs_is_asked_for(spec: str, world: World) -> None:
    made = fresh(spec)
    if "head" in made.needs:
        with pytest.raises(NeedsError, match="last linear layer"):
            made.fit(world.batches())
    if "labels" in made.needs:
        with pytest.raises(LabelError, match="needs labels"):
            made.fit([(world.acts, None)], head=world.head)
    if "features" in made.needs:
        bare = changed(world.acts, lambda a: Activations(a.logits))
        with pytest.raises(NeedsError, match="features"):
            made.fit([(bare, world.labels)], head=world.head)
        with pytest.raises(NeedsError, match="features"):
            fit(spec, world).score(bare)


def test_activations_of_another_width_are_refused(spec: str, world: World) -> None:
    made = fit(spec, world)
    if "features" in made.needs:
        wide = changed(world.ood, lambda a: Activations(a.logits, a.features.repeat(1, 2)))
        with pytest.raises(ShapeError, match=r"32 columns.*fitted on 16"):
            made.score(wide)


def test_non_finite_training_data_is_refused(spec: str, world: World) -> None:
    if fresh(spec).stages:
        spoil = torch.zeros(600, 1)
        spoil[[3, 70]] = torch.nan
        acts = changed(world.acts, lambda a: Activations(a.logits + spoil, a.features))
        bad = replace(world, acts=acts)
        with pytest.raises(NonFiniteError, match=r"2 samples.*\[3, 70\]"):
            fit(spec, bad, 600)


def test_labels_outside_the_classes_are_refused(spec: str, world: World) -> None:
    if "labels" in fresh(spec).needs:
        with pytest.raises(LabelError, match="300 labels lie outside 0 … 5"):
            fresh(spec).fit([(world.acts, world.labels * 2)], head=world.head)
        with pytest.raises(LabelError, match="integers"):
            fresh(spec).fit([(world.acts, world.labels.float())], head=world.head)


def test_one_network_and_an_ensemble_are_told_apart(spec: str, world: World) -> None:
    made = fit(spec, world)
    if "members" in made.needs:
        other, message = world.acts.members[0], "is for an ensemble, see offmap.networks.Ensemble"
    else:
        other, message = Activations.of_members([world.acts] * 2), r"wrap it: MemberMean\(\.\.\.\)"
    with pytest.raises(NeedsError, match=message):
        made.score(other)
    if made.stages:
        with pytest.raises(NeedsError, match=message):
            made.fit([(other, world.labels)], head=world.layer)


def test_a_summary_in_words(spec: str, world: World) -> None:
    assert fit(spec, world).summary()


def test_learned_buffers_end_in_an_underscore_and_move_together(spec: str, world: World) -> None:
    made = fit(spec, world)
    names = [name.rpartition(".")[2] for name, _ in made.named_buffers()]
    assert all(name.endswith("_") for name in names)
    assert {b.device.type for b in made.to("meta").buffers()} <= {"meta"}


def test_empty_batches_change_nothing(spec: str, world: World) -> None:
    none = (world.acts[:0], world.labels[:0])
    made = fresh(spec).fit([none, *world.batches(), none], head=world.head)
    assert torch.equal(made.score(world.ood), fit(spec, world).score(world.ood))
    if made.stages:
        with pytest.raises(DataError, match="every batch is empty"):
            fresh(spec).fit([none], head=world.head)


def test_an_unsolved_stage_leaves_it_unfitted() -> None:
    """A failure in the middle must not leave a detector that scores with half of its state."""
    world = make_world()
    made = offmap.ViM(4).fit(world.batches(), head=world.head)
    flat = Activations(-world.acts.logits.abs() - 1, world.acts.features)
    with pytest.raises(offmap.errors.DegenerateError, match="alpha"):
        made.fit([(flat, world.labels)], head=world.head)
    assert not made.fitted
