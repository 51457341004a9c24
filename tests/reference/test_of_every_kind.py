"""One detector of each kind that the contract carries, against its formula in slow NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

import offmap
from offmap.activations import Activations, Head, Sample, Tap
from offmap.detectors import Detector
from offmap.detectors.layers.rank_feat import without_leading_part
from offmap.errors import ArgumentError, DegenerateError, NeedsError
from tests.conftest import World, fitted, make_world, plain, world_of
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"scale", "mahalanobispp", "relativemahalanobispp", "klmatching", "temperaturescaled"}
NAMES |= {"classgaussian", "gram", "rankfeat", "odin", "perturbed", "combine"}


def arrays(acts: Any) -> tuple[slow.Array, slow.Array]:
    own = plain(acts)
    return own.logits.double().numpy(), own.features.double().numpy()


def units(h: slow.Array) -> slow.Array:
    return np.stack([slow.unit(row) for row in h])


def test_mahalanobis_of_normalised_features(world: World) -> None:
    _, train = arrays(world.acts)
    _, h = arrays(world.ood)
    y = world.labels.numpy()
    for name, twin in (
        ("mds++", slow.mahalanobis),
        ("rmds++", slow.relativemahalanobis),
        ("mahalanobis(normalize=True)", slow.mahalanobis),
    ):
        assert_parity(fitted(name, world).score(world.ood), twin(units(h), units(train), y))


def scaled(h: slow.Array, quantile: float) -> slow.Array:
    top = h.shape[1] - round(quantile * h.shape[1])
    rows = []
    for row in h:
        large = np.sort(row)[::-1][:top].sum()
        rows.append(row * np.exp(row.sum() / large) if large > 0 else row)
    return np.stack(rows)


def test_scale() -> None:
    world = make_world(relu=True)
    w, b = (x.double().numpy() for x in (world.layer.weight, world.layer.bias))
    for acts in (world.acts, world.ood):
        h = scaled(arrays(acts)[1], 0.85)
        score, terms = slow.energy(h @ w.T + b)
        size = np.abs(h) @ np.abs(w.T) + np.abs(b)
        assert_parity(fitted("scale", world).score(acts), (score, terms + size.max(1)))


def test_scale_lowers_the_energy_of_those_whose_sum_few_features_do_not_hold() -> None:
    """The factor is e to the ratio of sums: e where few features hold all, more where many do."""
    few, many = torch.zeros(1, 20), torch.ones(1, 20)
    few[0, 0] = 20
    made = offmap.SCALE(offmap.MaxLogit()).fit(head=Head(torch.ones(2, 20)))
    scores = made.score(Activations(torch.zeros(2, 2), torch.cat([few, many])))
    assert scores[0] == pytest.approx(-20 * np.e, rel=1e-6)
    assert scores[1] == pytest.approx(-20 * np.exp(20 / 3), rel=1e-6)


def test_scale_leaves_zeros_and_refuses_negative_features() -> None:
    made = offmap.SCALE(offmap.MaxLogit()).fit(head=Head(torch.ones(2, 4)))
    zeros = Activations(torch.zeros(1, 2), torch.zeros(1, 4))
    assert made.score(zeros).tolist() == [0]
    with pytest.raises(NeedsError, match="come from a ReLU, and these go down to -1"):
        made.score(Activations(torch.zeros(1, 2), -torch.ones(1, 4)))


def test_kl_matching(world: World) -> None:
    z, _ = arrays(world.acts)
    p = np.stack([slow.softmax(row) for row in z])
    label = z.argmax(1)
    means = [p[label == k].mean(0) for k in range(z.shape[1]) if (label == k).any()]
    rows = []
    for q in (slow.softmax(row) for row in arrays(world.ood)[0]):
        values = [np.sum(q * np.log(q / d)) for d in means]
        rows.append((min(values), np.abs(q * np.log(q)).sum() + max(map(abs, values))))
    assert_parity(fitted("klm", world).score(world.ood), slow.pairs(rows))


def noisy(world: World, share: float = 0.2) -> World:
    """A world in which a share of the labels is wrong, so that there is a best temperature."""
    wrong = torch.rand(600, generator=torch.Generator().manual_seed(3)) < share
    return World(
        world.acts, torch.where(wrong, (world.labels + 1) % 6, world.labels), world.ood, world.layer
    )


def test_temperature_scaled(world: World) -> None:
    world = noisy(world)
    z, _ = arrays(world.acts)
    y = world.labels.numpy()

    def loss(beta: float) -> float:
        return float(
            np.mean([slow.logsumexp(beta * r) - beta * r[k] for r, k in zip(z, y, strict=True)])
        )

    beta = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10}).x
    made = fitted("temperaturescaled", world)
    assert float(made.temperature_) == pytest.approx(1 / beta, rel=1e-5)
    score, _ = slow.msp(beta * arrays(world.ood)[0])
    assert np.allclose(made.score(world.ood).numpy(), score, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [10.0, 100.0, 1e4])
def test_a_temperature_follows_logits_that_are_far_too_large(world: World, scale: float) -> None:
    noise = noisy(world)
    large = replace(noise, acts=Activations(plain(noise.acts).logits * scale))
    temperature = float(fitted("temperaturescaled", noise).temperature_)
    found = float(fitted("temperaturescaled", large).temperature_)
    assert found == pytest.approx(scale * temperature, rel=1e-4)


def test_a_temperature_at_the_end_of_its_range_is_told(world: World) -> None:
    small = replace(world, acts=Activations(plain(world.acts).logits * 0.01))
    assert fitted("temperaturescaled", small).summary() == "temperature 0.05, the least there is"
    assert "least" not in fitted("temperaturescaled", noisy(world)).summary()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_where_every_label_is_right_scores_are_told_apart(scale: float) -> None:
    """The likelihood asks for T = 0 there, at which all confident samples would score 0."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (300,), generator=random)
    gaps = 4 + 16 * torch.rand(300, generator=random)
    z = torch.randn(300, 6, generator=random)
    z[torch.arange(300), labels] = z.amax(1) + gaps
    acts = Activations(scale * z)
    made = offmap.TemperatureScaled().fit(calibration=[(acts, labels)])
    scores = made.score(acts)
    assert len(scores.unique()) > 290
    right = acts.logits.gather(1, labels[:, None])[:, 0]
    height = float((right - acts.logits.mean(1)).double().mean())
    assert float(made.temperature_) == pytest.approx(height / 20, rel=1e-3)
    assert "by the size of the logits" in made.summary()
    parts = [(acts[rows], labels[rows]) for rows in torch.arange(300).split(7)]
    again = offmap.TemperatureScaled().fit(calibration=parts)
    assert torch.allclose(again.temperature_, made.temperature_, rtol=1e-10)


def test_a_temperature_that_labels_contradict_is_refused(world: World) -> None:
    turned = World(world.acts, (world.labels + 1) % 6, world.ood, world.layer)
    with pytest.raises(DegenerateError, match="contradict the predictions"):
        fitted("temperaturescaled", turned)


@pytest.mark.parametrize("tied", [False, True])
def test_class_gaussian(world: World, tied: bool) -> None:
    _, train = arrays(world.acts)
    _, h = arrays(world.ood)
    y = world.labels.numpy()
    means = slow.class_means(train, y)
    pooled = slow.pooled(train, y)
    covariances = {
        c: slow.ridged(
            pooled if tied else np.cov(train[y == c].T, bias=True), 1e-6, np.diag(pooled)
        )
        for c in means
    }
    logs = np.stack(
        [
            np.log((y == c).mean()) + multivariate_normal(means[c], covariances[c]).logpdf(h)
            for c in means
        ],
        axis=1,
    )
    expected = np.array([-slow.logsumexp(row) for row in logs])
    made = fitted(f"classgaussian(tied={tied})", world)
    assert_parity(made.score(world.ood), (expected, np.abs(expected) + 20))


def test_a_covariance_a_class_that_memory_does_not_hold_is_refused_at_once() -> None:
    acts = Activations(torch.zeros(1, 20_000), torch.zeros(1, 4096))
    with pytest.raises(ArgumentError, match=r"would hold [\d.]+ GiB .* tied=True holds one"):
        offmap.ClassGaussian().fit([(acts, torch.zeros(1, dtype=torch.int64))])


def gram_values(x: slow.Array) -> slow.Array:
    """Of one map, channels by positions."""
    rows = []
    for p in range(1, 11):
        product = (x**p) @ (x**p).T
        sums = product.sum(1)
        rows.append(np.sign(sums) * np.abs(sums) ** (1 / p))
    return np.stack(rows)


def test_gram() -> None:
    world = world_of("gram", make_world())
    maps, others = (arrays(a)[1].reshape(-1, 4, 4) for a in (world.acts, world.ood))
    train, ood = (np.stack([gram_values(x) for x in part]) for part in (maps, others))
    label, found = (arrays(a)[0].argmax(1) for a in (world.acts, world.ood))

    def deviation(g: slow.Array, y: int) -> float:
        low, high = train[label == y].min(0), train[label == y].max(0)
        below = np.maximum(low - g, 0) / (np.abs(low) + 1e-6)
        return float((below + np.maximum(g - high, 0) / (np.abs(high) + 1e-6)).sum())

    mean = np.mean([deviation(g, y) for g, y in zip(train, label, strict=True)]) + 1e-7
    expected = np.array([deviation(g, y) for g, y in zip(ood, found, strict=True)]) / mean
    scores = fitted("gram", world).score(world.ood).double().numpy()
    assert np.allclose(scores, expected, rtol=1e-3, atol=1e-3 * expected.max())


def test_the_gram_reduction_is_the_formula_whatever_the_size() -> None:
    x = torch.randn(3, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    for size in (1.0, 1e4):
        kept = Tap(":stages", "gram")(size * x).double().numpy()
        expected = np.stack([gram_values(m) for m in (size * x).double().flatten(2).numpy()])
        assert np.allclose(kept, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_leading_part_is_that_of_the_singular_values() -> None:
    for shape in ((4, 6, 3, 3), (4, 20, 2, 2)):
        maps = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        flat = maps.flatten(2).double().numpy()
        u, s, v = np.linalg.svd(flat, full_matrices=False)
        rest = flat - s[:, :1, None] * u[:, :, :1] @ v[:, :1]
        assert np.allclose(without_leading_part(maps).flatten(2).numpy(), rest, atol=1e-5)


def test_rank_feat() -> None:
    world = world_of("rankfeat", make_world())
    w, b = (x.double().numpy() for x in (world.layer.weight, world.layer.bias))
    maps = arrays(world.ood)[1].reshape(-1, 4, 4)
    u, s, v = np.linalg.svd(maps)
    rest = (maps - s[:, :1, None] * u[:, :, :1] @ v[:, :1]).reshape(-1, 16)
    score, terms = slow.energy(rest @ w.T + b)
    assert_parity(fitted("rankfeat", world).score(world.ood), (score, terms + 10))


def test_rankfeat_takes_one_layer_by_its_name_and_not_letter_by_letter() -> None:
    """Layers of a plain sequence are called "0" to "12"."""
    ood = world_of("rankfeat", make_world()).ood
    assert isinstance(ood, Sample)
    edited: list[str] = []

    def run(x: torch.Tensor, edit: dict[str, Any]) -> Activations:
        edited.extend(edit)
        return ood.acts

    offmap.detector("rankfeat(layers='12')").forward(replace(ood, run=run))
    assert edited == ["12"]


def msp_gradient(x: slow.Array, w: slow.Array, b: slow.Array, temperature: float) -> slow.Array:
    """Of one minus the maximum of softmax(z / T), with z = W x + b, for one input."""
    p = slow.softmax((w @ x + b) / temperature)
    top = p.argmax()
    return -p[top] / temperature * (w[top] - p @ w)


@pytest.mark.parametrize(
    ("spec", "temperature", "magnitude"),
    [("perturbed", 1.0, 0.0014), ("odin", 1000.0, 0.0014), ("odin(magnitude=0)", 1000.0, 0.0)],
)
def test_perturbation(spec: str, temperature: float, magnitude: float) -> None:
    world = world_of(spec, make_world())
    w, b = (x.double().numpy() for x in (world.layer.weight, world.layer.bias))
    moved = np.stack(
        [x - magnitude * np.sign(msp_gradient(x, w, b, temperature)) for x in arrays(world.ood)[1]]
    )
    score, _ = slow.msp((moved @ w.T + b) / temperature)
    scores = fitted(spec, world).score(world.ood).double().numpy()
    assert np.allclose(scores, score, rtol=1e-4, atol=1e-6)


def test_perturbation_without_a_gradient_is_refused() -> None:
    class Rank(Detector):
        def forward(self, acts: Activations) -> torch.Tensor:
            return acts.logits.argmax(1).float()

    world = world_of("odin", make_world())
    with pytest.raises(NeedsError, match="along the gradient of Rank"):
        offmap.Perturbed(Rank()).score(world.ood)


def common(calibration: slow.Array, s: slow.Array, how: str) -> float:
    """The combination of the scores of one sample, from those of the calibration data."""
    n = len(calibration)
    if how == "softplus":
        t = (s - calibration.mean(0)) / calibration.std(0)
        return float(np.mean(np.log1p(np.exp(t))))
    p = np.array([(1 + (calibration[:, j] >= s[j]).sum()) / (n + 1) for j in range(len(s))])
    if how == "mean_rank":
        return float(np.mean(1 - p))
    u = -np.log(p)
    for j in range(len(s)):
        start = np.quantile(calibration[:, j], 0.9)
        beyond = calibration[calibration[:, j] > start, j] - start
        scale = beyond.mean() if len(beyond) else start - calibration[:, j].mean()
        if s[j] > start:
            u[j] = (s[j] - start) / scale - np.log(max(len(beyond), 1) / (n + 1))
    return float({"fisher": u.sum(), "max": u.max(), "harmonic": np.log(np.mean(np.exp(u)))}[how])


@pytest.mark.parametrize("how", ["softplus", "fisher", "mean_rank", "max", "harmonic"])
def test_combine(world: World, how: str) -> None:
    parts = [offmap.Energy(), offmap.Mahalanobis()]
    made = offmap.Combine(parts, how)
    made.fit(world.batches(), calibration=world.batches(), head=world.head)
    near = world.of(world.features[:100] + 0.5)
    alone = [part.fit(world.batches()) for part in parts]
    known, scores = (
        np.stack([part.score(acts).double().numpy() for part in alone], axis=1)
        for acts in (world.acts, near)
    )
    expected = np.array([common(known, s, how) for s in scores])
    # Scores within rounding of a calibration score may count either way.
    assert np.allclose(made.score(near).numpy(), expected, rtol=1e-3, atol=4 / len(known))


@pytest.mark.parametrize("how", ["fisher", "mean_rank", "max", "harmonic"])
@pytest.mark.parametrize("least", [0, 120])
def test_combine_counts_equal_scores_as_equal(how: str, least: int) -> None:
    """Of 200 calibration samples 60 are one, in the middle or the highest; in float32 scores of it
    are rounded."""
    generator = torch.Generator().manual_seed(0)
    z = 4 * torch.rand(200, 4, generator=generator)
    z[:, 0] += torch.linspace(4, 9, 200)
    z[least : least + 60] = torch.tensor([0.1, 0, 0, 0]) if least else z[least + 30].clone()
    made = offmap.Combine([offmap.Energy(), offmap.Entropy()], how)
    made.fit(calibration=[(Activations(z), None)])
    far = torch.tensor([[0.0, 0, 0, 0], [-8, -8, -8, -8]])
    tested = Activations(torch.cat([z[least : least + 1], far, z[:1]]))
    parts = [offmap.Energy(), offmap.Entropy()]
    known, scores = (
        np.stack([part.score(acts).double().numpy() for part in parts], axis=1)
        for acts in (Activations(z), tested)
    )
    expected = np.array([common(known, s, how) for s in scores])
    found = made.score(tested).numpy()
    assert np.isfinite(found).all()
    assert np.allclose(found, expected, rtol=1e-4)


def test_a_part_that_does_not_vary_is_named() -> None:
    world = make_world()
    flat = Activations(torch.zeros(50, 6), world.features[:50])
    made = offmap.Combine([offmap.MaxLogit(), offmap.Mahalanobis()])
    with pytest.raises(
        DegenerateError, match=r"MaxLogit\(\) gives all calibration samples one score"
    ):
        made.fit(world.batches(), calibration=[(flat, None)])


def test_a_sample_scores_as_its_activations_do_where_no_input_is_read(world: World) -> None:
    sample = Sample(world.ood, world.features, lambda x: world.ood)
    assert torch.equal(offmap.Energy().score(sample), offmap.Energy().score(world.ood))
