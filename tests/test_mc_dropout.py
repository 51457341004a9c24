"""MC dropout: members that share their weights, and are each one fixed sub-network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import offmap
from offmap.data import ImageSet
from offmap.errors import ArgumentError, ShapeError
from offmap.forward import weights_digest
from offmap.networks import FixedDropout, mc_dropout, mnist_cnn


def linear(p: float = 0.3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(p), nn.Linear(12, 4)).eval()


def images(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def test_members_share_the_networks_tensors_and_leave_it_as_it_is() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), *linear())
    ensemble = mc_dropout(network, 3)
    for member in ensemble.members:
        assert member[0].running_mean is network[0].running_mean
        assert member[3].weight is network[3].weight
        assert isinstance(member[2], FixedDropout)
        assert member[3] is not network[3]  # hooks of a member are its own
    assert type(network[2]) is nn.Dropout
    assert len(list(ensemble.parameters())) == len(list(network.parameters()))


def test_a_member_is_the_network_on_what_its_mask_keeps() -> None:
    network, x = linear(0.3), images()
    w, b = (t.detach().double().numpy() for t in network[2].parameters())
    for member in mc_dropout(network, 4).members:
        found = member(x).detach().numpy()
        kept = member[1].mask.double().numpy()
        assert set(np.unique(kept).round(6)) <= {0.0, round(1 / 0.7, 6)}
        expected = (x.flatten(1).double().numpy() * kept) @ w.T + b
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mask_that_was_drawn_in_inference_mode_takes_part_in_gradients() -> None:
    ensemble, x = mc_dropout(linear(), 2), images().requires_grad_()
    with torch.inference_mode():
        ensemble(x)
    ensemble(x).sum().backward()
    assert x.grad is not None


def test_a_sample_is_answered_alike_in_any_batch_mode_and_run() -> None:
    x = images()
    first, again, other = (mc_dropout(linear(), 5, seed) for seed in (0, 0, 1))
    for a, b, c in zip(first.members, again.members, other.members, strict=True):
        whole = a(x)
        assert torch.allclose(b(x[2:3])[0], whole[2], atol=1e-6)
        assert torch.equal(b.train()(x), whole)
        assert not torch.equal(c(x), whole)
    masks = torch.stack([member[1].mask for member in first.members])
    assert len(masks.unique(dim=0)) == 5


def test_masks_keep_the_share_that_they_should_and_their_mean_is_the_network() -> None:
    network, x = linear(0.4), images(3)
    ensemble = mc_dropout(network, 400)
    with torch.no_grad():
        mean = torch.stack([member(x) for member in ensemble.members]).mean(0)
        expected = network(x)
    terms = x.flatten(1).square() @ network[2].weight.square().T
    deviation = (terms * 0.4 / 0.6 / 400).sqrt()  # of a mean of 400, by the formula
    assert ((mean - expected).abs() < 5 * deviation).all()
    dropped = torch.stack([m[1].mask == 0 for m in ensemble.members]).double().mean(0)
    assert ((dropped - 0.4).abs() < 5 * (0.4 * 0.6 / 400) ** 0.5).all()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Dropout1d, (5, 8, 4)), (nn.Dropout2d, (5, 8, 4, 4)), (nn.Dropout3d, (5, 8, 2, 2, 2))],
)
def test_channels_are_dropped_whole(layer: type[nn.Module], shape: tuple[int, ...]) -> None:
    (member,) = mc_dropout(nn.Sequential(layer(0.5)), 1).members
    y = member(torch.ones(shape)).flatten(2)
    assert torch.equal(y, y[:1, :, :1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_a_layer_that_stands_twice_is_one_and_one_that_drops_nothing_stays() -> None:
    drop = nn.Dropout(0.5)
    network = nn.Sequential(drop, nn.Dropout(0.0), nn.Linear(4, 4), drop)
    (member,) = mc_dropout(network, 1).members
    assert member[0] is member[3]
    assert type(member[1]) is nn.Dropout
    with pytest.raises(ShapeError, match=r"mask of shape \(4,\), and its input asks for \(5,\)"):
        member[0](member(torch.ones(2, 4)).new_ones(2, 5))
    assert isinstance(mc_dropout(nn.Dropout(0.5), 1).members[0], FixedDropout)


def test_what_has_no_plain_dropout_is_refused() -> None:
    for network in (nn.Linear(3, 3), nn.Sequential(nn.Dropout(0.0))):
        with pytest.raises(ArgumentError, match="no dropout layer that drops anything"):
            mc_dropout(network)
    with pytest.raises(ArgumentError, match="no plain dropout"):
        mc_dropout(nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.5)))
    with pytest.raises(ArgumentError, match="drops everything"):
        mc_dropout(nn.Sequential(nn.Dropout(1.0)))
    with pytest.raises(ArgumentError, match=r"samples.*seen 0"):
        mc_dropout(linear(), 0)


def test_the_draw_is_part_of_what_the_network_is() -> None:
    one, other, x = mc_dropout(linear(), 2), mc_dropout(linear(), 2, seed=7), images()
    assert weights_digest(one) != weights_digest(other)
    assert repr(one) != repr(other)
    expected, _ = one(x), other(x)
    digest = weights_digest(one)
    assert digest == weights_digest(mc_dropout(linear(), 2))  # before and after the first input
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(x), expected)


def test_evaluation_of_sampled_networks() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, 28, 28), generator=generator, dtype=torch.uint8)
    sets = [ImageSet(str(i), pixels[i::2]) for i in range(2)]
    torch.manual_seed(0)
    ensemble = mc_dropout(mnist_cnn(), 4)
    options = {"id_test": sets[0], "ood": {"ood": sets[1]}, "detectors": "mutualinformation"}
    first, second = (offmap.evaluate(ensemble, **options, batch_size=b) for b in (7, 30))
    scores = first.scores["mutualinformation"]["ood"]
    assert (scores > 0).all()
    assert np.allclose(scores, second.scores["mutualinformation"]["ood"], rtol=1e-3)
