"""Activations of ensembles: cut, joined and checked together with those of the members."""

from __future__ import annotations

import pytest
import torch

from offmap.activations import Activations
from offmap.errors import NeedsError, NonFiniteError, ShapeError


def of_members(samples: int = 10, seed: int = 0) -> Activations:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(3, samples, 4, generator=generator)
    h = torch.randn(3, samples, 5, generator=generator)
    return Activations.of_members(
        [Activations(a, b, {"conv": b}) for a, b in zip(z, h, strict=True)]
    )


def test_rows_of_an_ensemble_are_those_of_its_members() -> None:
    acts = of_members()
    for rows in (slice(2, 5), torch.tensor([7, 0])):
        some = acts[rows]
        assert torch.equal(some.logits, acts.logits[rows])
        for part, whole in zip(some.members, acts.members, strict=True):
            assert torch.equal(part.features, whole.features[rows])
            assert torch.equal(part.layers["conv"], whole.layers["conv"][rows])


def test_joined_parts_are_the_whole() -> None:
    acts = of_members()
    whole = Activations.joined([acts[:3], acts[3:4], acts[4:]])
    assert torch.equal(whole.logits, acts.logits)
    assert not whole.has_features
    for part, member in zip(whole.members, acts.members, strict=True):
        assert torch.equal(part.logits, member.logits)
        assert torch.equal(part.features, member.features)


def test_a_part_that_one_batch_lacks_is_absent_of_them_all() -> None:
    # A KeyError, if the first batch had it.
    x = torch.randn(2, 3)
    whole, bare = Activations(x, x), Activations(x, absent="the layer was not called")
    for parts in ([whole, bare], [bare, whole]):
        acts = Activations.joined(parts)
        assert torch.equal(acts.logits, torch.cat([x, x]))
        with pytest.raises(NeedsError, match="the layer was not called"):
            _ = acts.features


def test_answers_are_those_of_the_network_that_answers() -> None:
    z, other = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]]), torch.eye(2)[[0, 1, 0]]
    assert Activations(z).predictions.tolist() == [1, 0, 1]
    acts = Activations(z, classifier_logits=other)
    assert acts.predictions.tolist() == [0, 1, 0]
    assert acts[1:].predictions.tolist() == [1, 0]
    assert Activations.joined([acts[2:], acts[:2]]).predictions.tolist() == [0, 0, 1]
    other[2, 1] = torch.inf
    with pytest.raises(NonFiniteError, match=r"classifier_logits .* 1 samples .* \[12\]"):
        acts.check_finite(start=10)


def test_members_must_agree_on_their_classes() -> None:
    with pytest.raises(ShapeError, match=r"one shape; seen \[\(2, 3\), \(2, 4\)\]"):
        Activations.of_members([Activations(torch.zeros(2, 3)), Activations(torch.zeros(2, 4))])


@pytest.mark.parametrize("name", ["logits", "features"])
def test_maps_are_no_rows(name: str) -> None:
    parts = {"logits": torch.zeros(6, 3), "features": torch.zeros(6, 5)}
    parts[name] = parts[name][:, :, None, None]
    with pytest.raises(ShapeError, match=rf"{name} must be one row a sample.* \(6, .*average maps"):
        Activations(**parts)


def test_a_member_that_is_not_finite_is_refused() -> None:
    acts = of_members()
    acts.members[1].features[4] = torch.nan
    with pytest.raises(NonFiniteError, match=r"features .* 1 samples .* \[104\]"):
        acts.check_finite(start=100)
