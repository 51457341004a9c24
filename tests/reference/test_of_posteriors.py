"""DOCTOR, IGEOOD and OpenMax against their formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import weibull_min

import offmap
from offmap.activations import Activations
from offmap.errors import ArgumentError, DegenerateError
from offmap.metrics import auroc
from tests.conftest import World, fitted, make_world
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"doctor", "igeood", "openmax"}


def logits(acts: Activations) -> slow.Array:
    return acts.logits.double().numpy()


@pytest.mark.parametrize("kind", ["alpha", "beta"])
def test_the_odds_of_an_error(world: World, kind: str) -> None:
    rows = []
    for z in logits(world.ood):
        p = slow.softmax(z)
        rest = [np.delete(p, j).sum() for j in range(len(p))]
        wrong = sum(a * b for a, b in zip(p, rest, strict=True))
        value = wrong / (p**2).sum() if kind == "alpha" else rest[p.argmax()] / p.max()
        rows.append((value, value))
    assert_parity(offmap.DOCTOR(kind).score(world.ood), slow.pairs(rows))


def test_doctor_orders_what_a_float32_probability_does_not_tell_apart() -> None:
    """The gaps are 20 and more: the largest probability rounds to 1, and 1 minus it to 0."""
    gaps = torch.tensor([20.0, 25.0, 30.0, 60.0])
    acts = Activations(torch.stack([gaps, torch.zeros(4), torch.zeros(4)], dim=1))
    odds = 2 * np.exp(-gaps.double().numpy())
    assert np.allclose(offmap.DOCTOR("beta").score(acts).numpy(), odds, rtol=1e-6, atol=0)
    assert np.allclose(offmap.DOCTOR().score(acts).numpy(), 2 * odds, rtol=1e-6, atol=0)


def test_the_beta_of_doctor_has_the_order_of_msp(world: World) -> None:
    beta, msp = (made.score(world.ood) for made in (offmap.DOCTOR("beta"), offmap.MSP()))
    assert torch.equal(beta.argsort(stable=True), msp.argsort(stable=True))


def test_another_kind_of_doctor_is_refused() -> None:
    with pytest.raises(ArgumentError, match="kind must be one of alpha, beta; seen 'gamma'"):
        offmap.DOCTOR("gamma")


def fisher_rao(p: slow.Array, q: slow.Array) -> float:
    return float(2 * np.arccos(min(np.sqrt(p * q).sum(), 1.0)))


@pytest.mark.parametrize("temperature", [1.0, 5.3])
def test_the_mean_fisher_rao_distance(world: World, temperature: float) -> None:
    centres = slow.class_means(logits(world.acts), world.labels.numpy())
    q = [slow.softmax(z / temperature) for z in centres.values()]
    rows = []
    for z in logits(world.ood):
        mean = np.mean([fisher_rao(slow.softmax(z / temperature), each) for each in q])
        rows.append((-mean, mean))
    made = fitted(f"igeood({temperature})", world)
    assert_parity(made.score(world.ood), slow.pairs(rows))


def test_a_softmax_between_all_centres_is_the_most_ood() -> None:
    """The sum of the distances is a confidence: the sign that reads it as a distance fails."""
    world = make_world(300, spread=0.5)
    made = fitted("igeood", world)
    undecided = Activations(0.01 * torch.randn(200, 6, generator=torch.Generator().manual_seed(0)))
    assert auroc(made.score(world.acts), made.score(undecided)) == 1


def test_the_distances_to_one_class_say_nothing_of_the_others(world: World) -> None:
    with pytest.raises(DegenerateError, match=r"all 100 training samples are of one class.*fit on"):
        fitted("igeood", world.only(world.labels == 3))


def tails(world: World, tail: int) -> tuple[dict[int, slow.Array], dict[int, slow.Array]]:
    """Mean logits of the rightly predicted samples of each class, and their largest distances."""
    z, y = logits(world.acts), world.labels.numpy()
    right = z.argmax(1) == y
    centres = {c: z[right & (y == c)].mean(0) for c in range(6) if (right & (y == c)).any()}
    own = {}
    for c, centre in centres.items():
        distances = [np.linalg.norm(row - centre) for row in z[right & (y == c)]]
        own[c] = np.sort(distances)[-tail:]
    return centres, own


def open_max(
    world: World, acts: Activations, tail: int = 20, alpha: int = 10, pooled: tuple[int, ...] = ()
) -> slow.Pair:
    """By SciPy's distribution, whose fit stops at four digits or so."""
    centres, own = tails(world, tail)
    every = np.sort(np.concatenate(list(own.values())))[-tail:]
    shape, scale = {}, {}
    for c, largest in own.items():
        fit = weibull_min.fit(every if c in pooled else largest, floc=0)
        shape[c], scale[c] = fit[0], fit[2]
    rows = []
    for z in logits(acts):
        alpha = min(alpha, len(z))
        revised, unknown = z.copy(), 0.0
        for i, c in enumerate(np.argsort(-z)[:alpha], start=1):
            cdf = 1.0
            if c in centres:
                cdf = weibull_min.cdf(np.linalg.norm(z - centres[c]), shape[c], 0, scale[c])
            off = z[c] * cdf * (alpha + 1 - i) / alpha
            revised[c] -= off
            unknown += off
        p = slow.softmax(np.concatenate([[unknown], revised]))
        rows.append((p[0], 1.0))
    return slow.pairs(rows)


@pytest.mark.parametrize(("tail", "alpha"), [(20, 10), (20, 3), (5, 6)])
def test_open_max(world: World, tail: int, alpha: int) -> None:
    made = fitted(f"openmax(tail={tail}, alpha={alpha})", world)
    for acts in (world.acts, world.ood):
        assert_parity(made.score(acts), open_max(world, acts, tail, alpha), tolerance=1e-4)


def test_large_logits_far_from_all_classes_are_unknown(world: World) -> None:
    """As of images that were made to fool a network: the softmax is sure of them."""
    fooling = world.acts.replace(logits=3 * world.acts.logits)
    made = fitted("openmax", world)
    assert auroc(made.score(world.acts), made.score(fooling)) > 0.95
    assert auroc(*(offmap.MSP().score(acts) for acts in (world.acts, fooling))) < 0.5


def test_the_weibull_distributions_are_the_most_likely_ones(world: World) -> None:
    made = fitted("openmax", world)
    _, own = tails(world, 20)
    for c, largest in own.items():
        likelihood = weibull_min.logpdf(largest, float(made.shape_[c]), 0, float(made.scale_[c]))
        shape, _, scale = weibull_min.fit(largest, floc=0)
        assert likelihood.sum() >= weibull_min.logpdf(largest, shape, 0, scale).sum() - 1e-9


def test_a_class_of_one_sample_takes_the_distribution_of_all(world: World) -> None:
    first = (world.labels == 4).nonzero()[:1, 0]
    few = world.only(torch.cat([(world.labels != 4).nonzero()[:, 0], first]))
    made = fitted("openmax", few)
    assert_parity(made.score(world.ood), open_max(few, world.ood, pooled=(4,)), tolerance=1e-4)


def test_a_class_that_was_never_rightly_predicted_is_unknown(world: World) -> None:
    without = world.only(world.labels != 4)
    made = fitted("openmax", without)
    assert_parity(made.score(world.ood), open_max(without, world.ood), tolerance=1e-4)
    of_it = made.score(world.acts[world.labels == 4])
    assert float(of_it.min()) > 0.9


def test_another_unit_of_the_logits_changes_no_distribution(world: World) -> None:
    """Where a distribution begins at a fixed distance below its tail, that is another one."""
    made = fitted("openmax", world)
    larger = replace(world, acts=world.acts.replace(logits=1000 * world.acts.logits))
    other = offmap.OpenMax().fit(larger.batches())
    assert torch.allclose(other.shape_, made.shape_, rtol=1e-4)
    assert torch.allclose(other.scale_, 1000 * made.scale_, rtol=1e-6)


@pytest.mark.parametrize("spec", ["openmax", "she"])
def test_labels_that_no_prediction_agrees_with_are_refused(spec: str, world: World) -> None:
    z = world.acts.logits
    wrong = replace(world, labels=(z.argmax(1) + 1) % 6)
    with pytest.raises(DegenerateError, match="no training sample is predicted as its label says"):
        fitted(spec, wrong)


def test_logits_below_0_cannot_be_moved_to_an_unknown_class(world: World) -> None:
    """Logarithms of probabilities, or minus distances: far samples would be the least unknown."""
    logs = world.acts.replace(logits=world.acts.logits.log_softmax(1))
    with pytest.raises(DegenerateError, match=r"largest of the logits is -.*: use MaxLogit"):
        fitted("openmax", replace(world, acts=logs))


def test_samples_at_one_distance_have_no_tail() -> None:
    z = 5 * torch.eye(3).repeat(4, 1)
    with pytest.raises(
        DegenerateError, match=r"12 rightly predicted .* at one distance: give more"
    ):
        offmap.OpenMax().fit([(Activations(z), torch.arange(3).repeat(4))])


@pytest.mark.parametrize("top", [3, 20])
def test_entropies_keep_their_digits_from_undecided_to_certain(top: int) -> None:
    """Against extended precision, for logits of deviations from a tenth to a hundred."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 20, generator=generator) * torch.logspace(-1, 2, 200)[:, None]
    z = logits.numpy().astype(np.longdouble)
    z -= z.max(1, keepdims=True)
    q = np.where(z < 0, np.exp(z), 0)
    rest = q.sum(1, keepdims=True)
    entropy = (np.log1p(rest) - (q * z).sum(1, keepdims=True) / (1 + rest))[:, 0]
    p = np.where(z < 0, q, 1) / (1 + rest)
    others = np.where(z < 0, 1 - p, rest / (1 + rest))
    order = np.argsort(-p, axis=1)[:, :top]
    p, others = (np.take_along_axis(x, order, axis=1) for x in (p, others))
    expected = ((p * others) ** np.longdouble(0.1)).sum(1)
    acts = Activations(logits)
    assert np.allclose(offmap.GEN(top=top).score(acts).numpy(), expected, rtol=1e-6, atol=0)
    assert np.allclose(offmap.Entropy().score(acts).numpy(), entropy, rtol=1e-6, atol=1e-37)
