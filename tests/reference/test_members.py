"""Scores of ensembles: their laws, extreme logits, and the mean over members of other scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import offmap
from offmap.activations import Activations
from offmap.detectors import Detector, ordinary, restored
from offmap.errors import ArgumentError, DegenerateError, ShapeError, StoreError
from tests.conftest import World, make_world, world_of
from tests.reference import slow
from tests.reference.test_scores import NAMES, assert_parity, fitted, twin

PROBABILISTIC = [offmap.MaxProbability, offmap.TotalEntropy, offmap.ExpectedEntropy]
PROBABILISTIC += [offmap.MutualInformation]


def of_logits(z: Tensor) -> Activations:
    return Activations.of_members([Activations(member) for member in z])


@st.composite
def logits(draw: st.DrawFn) -> Tensor:
    """Of one to four members, near to or far from each other, up to 1e4 in size."""
    members, classes = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    size, apart = (10 ** draw(st.floats(-6, 4)) for _ in range(2))
    common = size * torch.randn(1, 8, classes, generator=generator)
    return common + apart * torch.randn(members, 8, classes, generator=generator)


@given(z=logits())
@settings(max_examples=60, deadline=None)
def test_total_entropy_is_expected_entropy_and_mutual_information(z: Tensor) -> None:
    acts = of_logits(z)
    total, expected, information = (made()(acts) for made in PROBABILISTIC[1:])
    assert torch.allclose(total, expected + information, rtol=1e-12, atol=1e-14 * z.shape[2])
    assert (information >= 0).all()
    assert (expected >= 0).all()
    assert (total <= np.log(z.shape[2]) + 1e-12).all()
    assert (information <= np.log(z.shape[0]) + 1e-12).all()


@given(z=logits())
@settings(max_examples=30, deadline=None)
def test_members_that_agree_have_no_mutual_information(z: Tensor) -> None:
    for members in (1, 3):
        same = of_logits(z[:1].expand(members, -1, -1))
        assert (offmap.MutualInformation().score(same) == 0).all()
        single = same.members[0]
        for ours, theirs in (
            (offmap.MaxProbability(), offmap.MSP()),
            (offmap.TotalEntropy(), offmap.Entropy()),
            (offmap.ExpectedEntropy(), offmap.Entropy()),
        ):
            assert torch.allclose(ours.score(same), theirs.score(single), rtol=1e-6, atol=0)


@pytest.mark.parametrize("made", PROBABILISTIC)
def test_extreme_logits_have_finite_scores(made: type[Detector]) -> None:
    """Sure of the same, sure of different classes, and one that knows nothing."""
    sure = torch.tensor([[1e4, 0.0, -1e4]] * 3)
    other = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4], [0.0, 0.0, 0.0]])
    scores = made().score(of_logits(torch.stack([sure, other])))
    half = {"MaxProbability": 0.5, "TotalEntropy": np.log(2), "ExpectedEntropy": 0.0}
    known = half.get(made.__name__, np.log(2))
    assert scores[:2].tolist() == pytest.approx([0.0, known], abs=1e-7)
    z = torch.stack([sure, other])[:, 2:].double().numpy()
    expected, _ = getattr(slow, made.__name__.lower())(z)
    assert float(scores[2]) == pytest.approx(float(expected[0]), rel=1e-6)


def test_mutual_information_of_members_that_nearly_agree_keeps_its_digits() -> None:
    """By the second order: half of the mean squared gaps of the logits about their own means."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 20, 5, generator=generator)
    gap = 2.0**-26 * torch.randint(-9, 9, (4, 20, 5), generator=generator)
    acts = of_logits(z.double() + gap)
    p = slow_softmax(z[0].double().numpy())
    d = gap.double().numpy()
    d = d - (p * d).sum(2, keepdims=True)  # of the log-probabilities, to first order
    expected = 0.5 * (p * (d - d.mean(0)) ** 2).sum(2).mean(0)
    found = offmap.MutualInformation().score(acts).double().numpy()
    assert np.abs(found / expected - 1).max() < 1e-4
    naive = offmap.TotalEntropy()(acts) - offmap.ExpectedEntropy()(acts)
    assert np.abs(naive.numpy() / expected - 1).max() > 1e-3


def slow_softmax(z: np.ndarray) -> np.ndarray:
    return np.stack([slow.softmax(row) for row in z])


def test_samples_of_which_all_members_are_sure_keep_their_order() -> None:
    gaps = torch.tensor([20.0, 25.0, 30.0, 60.0])
    one = torch.stack([gaps, torch.zeros(4), torch.zeros(4)], dim=1)
    acts = of_logits(torch.stack([one, one + torch.tensor([1.0, 0.0, 0.5])]))
    for made in PROBABILISTIC:
        assert (made().score(acts).diff() < 0).all(), made


@pytest.mark.parametrize("name", [n for n in NAMES if n in ordinary()])
def test_a_mean_over_members_is_that_of_detectors_fitted_on_each(name: str) -> None:
    world = world_of("membermean", make_world(300))
    made = fitted(offmap.MemberMean(offmap.detector(name)), world)
    each = [fitted(offmap.detector(name), world.member(i)) for i in range(3)]
    own = [d.score(world.ood.members[i]).double() for i, d in enumerate(each)]
    assert torch.allclose(made.score(world.ood).double(), torch.stack(own).mean(0), rtol=1e-6)
    twins = [twin(name, world.member(i), world.ood.members[i]) for i in range(3)]
    assert_parity(made.score(world.ood), slow.membermean(twins))


@pytest.fixture
def members(world: World) -> World:
    return world_of("membermean", world)


def test_members_may_have_features_of_their_own_width(members: World) -> None:
    def narrow(acts: Activations) -> Activations:
        first, *others = acts.members
        return Activations.of_members([Activations(first.logits, first.features[:, :9]), *others])

    acts, ood = narrow(members.acts), narrow(members.ood)
    made = offmap.MemberMean(offmap.Mahalanobis()).fit([(acts, members.labels)])
    assert [len(each.centre_) for each in made.parts] == [9, 16, 16]
    assert made.score(ood).isfinite().all()
    with pytest.raises(ShapeError, match=r"16 columns.*fitted on 9"):
        made.score(members.ood)


def test_what_is_wrapped_is_not_fitted_itself(members: World) -> None:
    inner = offmap.ViM(4).fit(members.member(0).batches(), head=members.layer)
    made = offmap.MemberMean(inner)
    assert not made.fitted
    fitted(made, members)
    assert inner.fitted  # by its owner; what is wrapped is a copy
    assert not made.inner.fitted
    assert len({id(each) for each in made.parts}) == 3


def test_another_number_of_members_is_refused(members: World) -> None:
    two = Activations.of_members(members.ood.members[:2])
    made = fitted(offmap.MemberMean(offmap.KNN(5)), members)
    with pytest.raises(ShapeError, match=r"fitted on 3 members.*of 2"):
        made.score(two)
    batches = [*members.batches(300), (two, members.labels[:300])]
    with pytest.raises(ShapeError, match=r"fitted on 3 members.*of 2"):
        made.fit(batches)
    assert offmap.MemberMean(offmap.MSP()).fit(members.batches()).score(two).isfinite().all()


def test_heads_are_one_for_each_member(members: World) -> None:
    made = offmap.MemberMean(offmap.ViM(4))
    with pytest.raises(ShapeError, match=r"one head for each of 3 members.*seen a single one"):
        made.fit(members.batches(), head=members.layer)
    with pytest.raises(ShapeError, match=r"one head for each of 3 members.*seen 2"):
        made.fit(members.batches(), head=members.head[:2])
    with pytest.raises(offmap.errors.NeedsError, match="last linear layer"):
        made.fit(members.batches(), head=(*members.head[:2], None))


def test_a_member_that_cannot_be_solved_leaves_it_unfitted(members: World) -> None:
    made = fitted(offmap.MemberMean(offmap.ViM(4)), members)
    first, second, third = members.acts.members
    flat = Activations(torch.zeros_like(third.logits), third.features)
    acts = Activations.of_members([first, second, flat])
    with pytest.raises(DegenerateError, match="alpha"):
        made.fit([(acts, members.labels)], head=members.head)
    assert not made.fitted


def test_what_it_cannot_wrap_is_refused() -> None:
    for inner in (offmap.MemberMean(offmap.MSP()), offmap.TotalEntropy()):
        with pytest.raises(ArgumentError, match="for an ensemble already"):
            offmap.MemberMean(inner)
        with pytest.raises(ArgumentError, match=r"put the shaper inside, MemberMean\(ReAct"):
            offmap.ReAct(inner)


def test_a_damaged_state_makes_no_room(members: World) -> None:
    """Room is made for as many members as there are, and not for as many as a name may say."""
    made = fitted(offmap.MemberMean(offmap.Mahalanobis()), members)
    state = made.state_dict()
    far = {k.replace("parts.2", "parts.999999999"): x for k, x in state.items()}
    for damaged in (far, {"parts.x.centre_": torch.zeros(1)}):
        with pytest.raises(StoreError, match="does not learn"):
            restored(made.record(), damaged, "there")
    del state["parts.1.centres_"]
    with pytest.raises(StoreError, match="lacks part"):
        restored(made.record(), state, "there")
