"""Ensembles in the loop: each member runs each sample once, and keeps its own head."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from offmap.activations import Activations, Head, Shards, Tap
from offmap.data import ImageSet
from offmap.errors import ArgumentError, InputsWarning, ShapeError
from offmap.forward import (
    EnsembleProbe,
    FilterAndClassifier,
    Normalization,
    Probe,
    Seen,
    cache_key,
    forward,
    probe_of,
)
from offmap.guard import Guard, load
from offmap.networks import Ensemble


class Member(nn.Module):
    """A classifier that counts the samples it has seen, and what type they came in."""

    def __init__(self, seed: int, *, features: int = 6, squash: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.fc, self.squash = nn.Linear(48, features), nn.Linear(features, 3), squash
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        self.inputs = x
        z = self.fc(self.body(x.flatten(1)).relu())
        return z.tanh() if self.squash else z


@pytest.fixture
def ensemble() -> Ensemble:
    """The second has features of its own width, and the third no linear head."""
    return Ensemble([Member(0), Member(1, features=8), Member(2, squash=True)])


@pytest.fixture
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return ImageSet("generated", pixels, torch.arange(50) % 3)


def test_every_member_normalises_what_the_first_takes_for_images(ensemble: Ensemble) -> None:
    # Only the first did in a graph of float images: the others were given them as they are.
    x = torch.rand(6, 3, 4, 4)
    probe = EnsembleProbe(ensemble, normalization=Normalization((0.5,), (0.25,)))
    with probe, pytest.warns(InputsWarning, match=r"lie in \[0, 1\]"):
        acts = probe(x)
    with probe, torch.no_grad():
        traced = probe.traced(x)
        logits = probe.traced_logits(x)
    assert torch.equal(logits, acts.logits)
    for a, b in zip(acts.members, traced.members, strict=True):
        assert torch.equal(a.logits, b.logits)


def equal(a: Activations, b: Activations) -> bool:
    """The same bits, in the same places."""
    if a.has_features != b.has_features or a.layers.keys() != b.layers.keys():
        return False
    same = torch.equal(a.logits, b.logits)
    same &= not a.has_features or torch.equal(a.features, b.features)
    same &= all(torch.equal(x, b.layers[name]) for name, x in a.layers.items())
    return same and all(equal(x, y) for x, y in zip(a.members, b.members, strict=True))


def joined(network: nn.Module | EnsembleProbe, data: ImageSet, **options: object) -> Activations:
    return Activations.joined([acts for acts, _ in forward(network, data, **options)])


def test_the_kind_of_probe_follows_from_the_network(ensemble: Ensemble) -> None:
    assert isinstance(probe_of(ensemble), EnsembleProbe)
    assert isinstance(probe_of(nn.DataParallel(ensemble)), EnsembleProbe)
    assert type(probe_of(Member(0))) is Probe
    namesake = Member(0)
    namesake.members = ["anna", "otto"]
    assert type(probe_of(namesake)) is Probe


def test_each_member_gives_what_a_probe_of_its_own_gives(
    ensemble: Ensemble, images: ImageSet
) -> None:
    options = {"normalization": Normalization((0.5,), (0.2,)), "taps": [Tap("body", "whole")]}
    acts = joined(ensemble, images, batch_size=16, **options)
    assert [member.seen for member in ensemble.members] == [50, 50, 50]
    assert not acts.has_features
    for member, seen in zip(ensemble.members, acts.members, strict=True):
        assert equal(seen, joined(member, images, batch_size=16, **options))
    p = np.mean([m.logits.double().softmax(1).numpy() for m in acts.members], axis=0)
    np.testing.assert_allclose(acts.logits.numpy(), np.log(p), rtol=1e-6, atol=1e-6)


def test_images_are_normalised_once_for_all(ensemble: Ensemble, images: ImageSet) -> None:
    calls: list[int] = []

    def normalization(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.double() / 255  # as it gives them, so are they seen

    with probe_of(ensemble.double(), normalization=normalization) as probe:
        probe(images.images)
    assert calls == [50]
    first, *others = (member.inputs for member in ensemble.members)
    assert all(torch.equal(first, x) for x in others)
    assert {member.inputs.dtype for member in ensemble.members} == {torch.float64}


def test_heads_are_those_of_the_members(ensemble: Ensemble, images: ImageSet) -> None:
    with probe_of(ensemble) as probe:
        assert probe.head == (None, None, None)
        assert not probe.knows_head
        probe(images.images)
        first, second, third = probe.head
        assert torch.equal(first.weight, ensemble.members[0].fc.weight)
        assert torch.equal(second.bias, ensemble.members[1].fc.bias)
        assert third is None
        assert probe.why_no_head.startswith("member 2: the logits are not the output")
        assert probe.head_name == ("fc", "fc", "fc")


def test_layers_are_named_in_each_member(ensemble: Ensemble, images: ImageSet) -> None:
    with probe_of(ensemble, head="body") as probe:
        assert [m.features.shape[1] for m in probe(images.images).members] == [48, 48, 48]
    with probe_of(ensemble, head=["body", None, "fc"]) as probe:
        assert [m.features.shape[1] for m in probe(images.images).members] == [48, 8, 6]
    with pytest.raises(ArgumentError, match=r"names 2 layers.*has 3 members"):
        probe_of(ensemble, head=["fc", "fc"])
    with pytest.raises(ArgumentError, match="no layer 'last'"):
        probe_of(ensemble, head="last")


def test_members_may_share_one_head_that_is_given(ensemble: Ensemble, images: ImageSet) -> None:
    member = ensemble.members[0]
    shared = Ensemble([member, member])
    head = Head(member.fc.weight.detach(), member.fc.bias.detach())
    with probe_of(shared, head=head) as probe:
        probe(images.images)
        assert [h is not None for h in probe.head] == [True, True]


def test_modes_and_hooks_are_as_before(ensemble: Ensemble, images: ImageSet) -> None:
    ensemble.train()
    ensemble.members[1].eval()
    before = [(m.training, len(m._forward_pre_hooks)) for m in ensemble.modules()]
    with probe_of(ensemble) as probe, probe:
        probe(images.images)
        assert not any(m.training for each in ensemble.members for m in each.modules())
    assert [(m.training, len(m._forward_pre_hooks)) for m in ensemble.modules()] == before


def test_members_may_share_modules(images: ImageSet) -> None:
    """Each probe's hooks fire in the other's run too, also in a thread that has seen neither."""
    one = Member(0)
    two = Member(1)
    two.body = one.body
    ensemble = Ensemble([one, two, one])
    found: list[Activations] = []
    with probe_of(ensemble, taps=[Tap("body", "whole")]) as probe:
        probe(images.images[:5])
        thread = threading.Thread(target=lambda: found.append(probe(images.images)))
        thread.start()
        thread.join()
    for member, seen in zip(ensemble.members, found[0].members, strict=True):
        with Probe(member, taps=[Tap("body", "whole")]) as own:
            assert equal(seen, own(images.images))


class Centring(nn.Module):
    """Works in place on what it is given."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return self.fc(x)

    def expected(self, x: Tensor) -> np.ndarray:
        weight, bias = (p.detach().double().numpy() for p in self.fc.parameters())
        return (x.double().numpy() - 0.5) @ weight.T + bias


def test_systems_that_work_in_place_do_not_disturb_each_other() -> None:
    systems, x = [Centring(0), Centring(1)], torch.rand(20, 6)
    expected = [each.expected(x) for each in systems]
    with probe_of(Ensemble(systems)) as probe:
        for member, z in zip(probe(x).members, expected, strict=True):
            np.testing.assert_allclose(member.logits.numpy(), z, atol=1e-6)
    pair = FilterAndClassifier(filter=systems[0], classifier=systems[1])
    with probe_of(pair) as probe:
        acts = probe(x.clone())
        np.testing.assert_allclose(acts.logits.numpy(), expected[0], atol=1e-6)
        np.testing.assert_allclose(acts.classifier_logits.numpy(), expected[1], atol=1e-6)


def test_a_network_that_works_in_place_runs_again_on_the_same_inputs() -> None:
    system, x = Centring(0), torch.rand(20, 6)
    expected = system.expected(x)
    with Probe(system) as probe:
        sample = probe.sample(x)
        for acts in (sample.acts, sample.run(sample.inputs), sample.run(sample.inputs)):
            np.testing.assert_allclose(acts.logits.detach().numpy(), expected, atol=1e-6)
        leaf = sample.inputs.clone().requires_grad_()
        slope = torch.autograd.grad(sample.run(leaf).logits.sum(), leaf)[0]
        weight = system.fc.weight.detach().double().numpy().sum(0)
        np.testing.assert_allclose(slope.numpy(), np.tile(weight, (20, 1)), atol=1e-6)
        again = sample.logits_under(sample.inputs, sample.parameters)
        np.testing.assert_allclose(again.detach().numpy(), expected, atol=1e-6)
        assert torch.equal(sample.inputs, x)


def test_members_of_other_classes_are_refused(images: ImageSet) -> None:
    two = Member(1)
    two.fc = nn.Linear(6, 4)
    with (
        probe_of(Ensemble([Member(0), two])) as probe,
        pytest.raises(ShapeError, match=r"one shape; seen \[\(50, 3\), \(50, 4\)\]"),
    ):
        probe(images.images)


def test_a_second_run_reads_every_member_from_the_cache(
    ensemble: Ensemble, images: ImageSet, tmp_path: Path
) -> None:
    options = {"batch_size": 16, "cache": tmp_path, "taps": [Tap("body", "whole")]}
    first = joined(ensemble, images, **options)
    with probe_of(ensemble, taps=[Tap("body", "whole")]) as probe:
        second = joined(probe, images, batch_size=16, cache=tmp_path)
        assert torch.equal(probe.head[1].weight, ensemble.members[1].fc.weight)
        assert probe.head[2] is None
    assert [member.seen for member in ensemble.members] == [50, 50, 50]
    assert equal(first, second)


def test_an_ensemble_and_what_it_is_asked_for_are_in_the_key(
    ensemble: Ensemble, images: ImageSet
) -> None:
    asked = [
        probe_of(ensemble),
        probe_of(ensemble, head="fc"),
        probe_of(ensemble, head=["fc", None, None]),
        probe_of(Ensemble(list(ensemble.members)[:2])),
        Probe(ensemble),
    ]
    assert len({cache_key(probe, images) for probe in asked}) == 5


def test_counts_of_members_add_over_parts_without_samples_or_labels(
    ensemble: Ensemble, images: ImageSet
) -> None:
    counts, unlabelled = Seen(), Seen()
    list(forward(ensemble, images, seen=counts))
    members, accuracy = list(counts.members), counts.accuracy
    counts.extend(Seen())
    assert (counts.members, counts.accuracy, counts.samples) == (members, accuracy, 50)
    list(forward(ensemble, [x for x, _ in images.batches(16)], seen=unlabelled))
    counts.extend(unlabelled)
    assert (counts.members, counts.accuracy, counts.samples) == (members, None, 100)


def test_heads_of_members_are_kept_beside(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    shards.head = (None, None)
    assert shards.head is None
    shards.head = (Head(torch.eye(3), torch.ones(3)), None, Head(torch.eye(2)))
    first, second, third = Shards(tmp_path).head
    assert torch.equal(first.weight, torch.eye(3))
    assert torch.equal(first.bias, torch.ones(3))
    assert second is None
    assert torch.equal(third.weight, torch.eye(2))
    assert third.bias is None


class Cosine(nn.Module):
    """A classifier whose head is no layer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.weight = nn.Linear(48, 6), nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1)).relu()
        return (self.weight * h[:, None]).sum(2)


def test_a_guard_keeps_the_heads_that_members_were_given(images: ImageSet, tmp_path: Path) -> None:
    members = [Cosine(0), Member(1), Cosine(2)]
    given = [Head(members[0].weight.detach()), "fc", Head(members[2].weight.detach())]
    ensemble, pixels = Ensemble(members), images.images.float() / 255
    guard = Guard(ensemble, "MemberMean(ReAct(Energy(), quantile=1.0))", head=given)
    guard.fit([(pixels, images.labels)]).calibrate([pixels])
    guard.save(tmp_path)
    loaded = load(tmp_path, ensemble)
    assert torch.equal(loaded(pixels).scores, guard(pixels).scores)
    assert loaded.probe.asked_head[1] == "fc"
    again = loaded.fit([(pixels, images.labels)]).calibrate([pixels])
    assert torch.equal(again(pixels).scores, guard(pixels).scores)
    assert again.probe.head[2] is not None


def test_a_guard_keeps_all_of_a_head_that_was_given(images: ImageSet, tmp_path: Path) -> None:
    network, pixels = Cosine(0), images.images.float() / 255
    head = Head(network.weight.detach(), negatives=torch.ones(2, 6))
    guard = Guard(network, "energy", head=head).fit([pixels]).calibrate([pixels])
    guard.save(tmp_path)
    kept = load(tmp_path, network).probe.asked_head
    assert torch.equal(kept.weight, head.weight)
    assert torch.equal(kept.negatives, head.negatives)
    assert kept.bias is None
