"""SSD, CTM, SHE, GradNorm, pNML and MCM against their formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations, Head
from offmap.detectors import Detector
from offmap.errors import ArgumentError, DegenerateError, NeedsError, ShapeError
from offmap.metrics import auroc
from offmap.networks import zero_shot
from tests.conftest import World, fitted, make_world
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"ssd", "ctm", "she", "gradnorm", "pnml", "mcm"}


def arrays(acts: Activations) -> tuple[slow.Array, slow.Array]:
    return acts.logits.double().numpy(), acts.features.double().numpy()


def head_of(world: World) -> tuple[slow.Array, slow.Array]:
    return world.layer.weight.double().numpy(), world.layer.bias.double().numpy()


@pytest.mark.parametrize("spread", [1.0, 0.01])
def test_ssd(spread: float) -> None:
    world = make_world(300, spread=spread)
    train = np.stack([slow.unit(x) for x in arrays(world.acts)[1]])
    centre = train.mean(0)
    inverse = np.linalg.inv(slow.ridged(np.cov(train.T, bias=True), 1e-6))
    rows = []
    for h in arrays(world.ood)[1]:
        gap = slow.unit(h) - centre
        rows.append((gap @ inverse @ gap,) * 2)
    assert_parity(fitted("ssd", world).score(world.ood), slow.pairs(rows))


def test_ssd_asks_for_no_labels(world: World) -> None:
    unlabelled = offmap.SSD().fit([(world.acts, None)])
    assert torch.allclose(unlabelled.score(world.ood), fitted("ssd", world).score(world.ood))


def cosine(a: slow.Array, b: slow.Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_the_largest_cosine_with_a_class_mean(centred: bool, relu: bool) -> None:
    world = make_world(300, relu=relu)
    # Of classes of unequal sizes, the mean of all is no mean of means.
    world = world.only(torch.cat([torch.arange(60), (world.labels == 1).nonzero()[:, 0]]))
    _, train = arrays(world.acts)
    origin = train.mean(0) if centred else np.zeros(16)
    means = slow.class_means(train, world.labels.numpy()).values()
    rows = [
        (-max(cosine(h - origin, mean - origin) for mean in means), 1.0)
        for h in arrays(world.ood)[1]
    ]
    assert_parity(fitted(f"ctm(centred={centred})", world).score(world.ood), slow.pairs(rows))


def test_the_mean_of_one_class_about_itself_has_no_direction(world: World) -> None:
    """It is rounding: 100 copies of a sum are not the sum of 100 copies."""
    one = world.only(world.labels == 3)
    with pytest.raises(DegenerateError, match=r"means of 1 class\(es\) of 100 .* several classes"):
        fitted("ctm(centred=True)", one)
    assert len(fitted("ctm", one).score(world.ood).unique()) > 1


@pytest.mark.parametrize("spec", ["ssd", "ctm"])
def test_one_feature_has_no_direction(spec: str) -> None:
    h = torch.randn(90, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ShapeError, match="a single feature is 1, 0 or -1"):
        offmap.detector(spec).fit([(Activations(features=h), torch.arange(90) % 3)])


def of_relu() -> World:
    return make_world(300, relu=True)


def with_wrong_predictions(world: World) -> World:
    """One label in five is another class's."""
    wrong = torch.arange(len(world.labels)) % 5 == 0
    return replace(world, labels=torch.where(wrong, (world.labels + 1) % 6, world.labels))


def she(world: World, acts: Activations, instead: tuple[int, ...] = ()) -> slow.Pair:
    z, train = arrays(world.acts)
    y = world.labels.numpy()
    right = z.argmax(1) == y
    rows = []
    for logits, h in zip(*arrays(acts), strict=True):
        c = logits.argmax()
        pattern = train[right].mean(0) if c in instead else train[right & (y == c)].mean(0)
        rows.append((-(h @ pattern), np.abs(h * pattern).sum()))
    return slow.pairs(rows)


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_she_leaves_wrong_predictions_out_of_the_patterns(relu: bool) -> None:
    world = with_wrong_predictions(make_world(300, relu=relu))
    made = fitted("she", world)
    assert_parity(made.score(world.ood), she(world, world.ood))
    y, h = world.labels, world.acts.features.double()
    assert not torch.allclose(made.patterns_[0], h[y == 0].mean(0), rtol=1e-3)


def test_she_of_a_class_without_right_predictions_takes_the_mean_of_all(world: World) -> None:
    without = world.only(world.labels != 4)
    assert_parity(fitted("she", without).score(world.ood), she(without, world.ood, (4,)))


def gradient_norms(world: World, acts: Activations) -> slow.Pair:
    """The L1 norm of the weight's gradient, entry by entry, by autograd in float64."""
    rows = []
    for h in acts.features.double():
        weight = world.layer.weight.double().requires_grad_()
        log_p = (weight @ h + world.layer.bias.double()).log_softmax(0)
        (-log_p.mean()).backward()  # the divergence from uniform, but for a constant
        norm = float(weight.grad.abs().sum())
        rows.append((-norm, norm))
    return slow.pairs(rows)


def test_the_norm_of_the_last_layers_gradient() -> None:
    world = of_relu()
    made = offmap.GradNorm()
    for acts in (world.acts[:100], world.ood[:100]):
        assert_parity(made.score(acts), gradient_norms(world, acts))


def test_short_and_undecided_features_have_small_gradients() -> None:
    world = of_relu()
    short = world.of(0.3 * world.acts.features)
    assert auroc(*(offmap.GradNorm().score(acts) for acts in (world.acts, short))) > 0.95


def test_the_gradient_of_a_uniform_softmax_is_0() -> None:
    acts = Activations(torch.tensor([[2.0, 2.0], [4.0, 0.0]]), torch.ones(2, 3))
    p = 1 / (1 + np.exp(-4.0))
    assert offmap.GradNorm().score(acts).tolist() == pytest.approx([0, -3 * 2 * (p - 0.5)])


def pnml(world: World, acts: Activations) -> slow.Pair:
    x = np.stack([slow.unit(h) for h in arrays(world.acts)[1]])
    inverse = np.linalg.pinv(x.T @ x, hermitian=True)
    w, b = head_of(world)
    rows = []
    for h in arrays(acts)[1]:
        unit = slow.unit(h)
        square = unit @ inverse @ unit
        p, kappa = slow.softmax(w @ unit + b), square / (1 + square)
        regret = np.log(sum(q / (q + (1 - q) * q**kappa) for q in p)) / np.log(len(p))
        rows.append((regret, regret))
    return slow.pairs(rows)


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_the_regret_of_the_last_layer(relu: bool) -> None:
    world = make_world(300, relu=relu)
    for acts in (world.acts, world.ood):
        assert_parity(fitted("pnml", world).score(acts), pnml(world, acts))


def test_the_regret_is_a_share_of_what_is_possible(world: World) -> None:
    scores = fitted("pnml", world).score(world.ood)
    assert ((scores > 0) & (scores <= 1)).all()


def test_directions_without_training_features_do_not_count(world: World) -> None:
    dead = torch.ones(16)
    dead[[2, 5]] = 0
    half = replace(world, acts=world.of(world.acts.features * dead))
    assert fitted("pnml", half).root_.shape == (16, 14)
    assert_parity(fitted("pnml", half).score(world.ood), pnml(half, world.ood))


@pytest.mark.parametrize("size", [1e3, 1e5])
def test_the_regret_is_finite_where_probabilities_underflow(world: World, size: float) -> None:
    """The sum has terms 0 / 0 there, and p to a negative power."""
    steep = Head(size * world.layer.weight, size * world.layer.bias)
    made = offmap.PNML().fit(world.batches(), head=steep)
    scores = made.score(world.ood)
    assert scores.isfinite().all()
    assert (scores >= 0).all()


def mcm(h: slow.Array, names: slow.Array, temperature: float) -> slow.Pair:
    rows = []
    for row in h:
        p = slow.softmax(np.array([cosine(row, name) for name in names]) / temperature)
        rest = np.delete(p, p.argmax()).sum()
        rows.append((rest, rest))
    return slow.pairs(rows)


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_mcm(world: World, temperature: float) -> None:
    made = fitted(f"mcm({temperature})", world)
    expected = mcm(arrays(world.ood)[1], head_of(world)[0], temperature)
    assert_parity(made.score(world.ood), expected)


class Encoder(torch.nn.Module):
    """Embeddings that are the inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def zero_shot_scores(made: Detector, scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    texts, images = torch.randn(5, 8, generator=generator), torch.randn(40, 8, generator=generator)
    network = zero_shot(Encoder(), texts, scale)
    probe = offmap.Probe(network)
    with torch.no_grad():
        acts = probe(images)
    return made.fit(head=probe.head).score(acts)


def test_mcm_reads_cosines_whatever_the_scale_of_the_network() -> None:
    a, b = (zero_shot_scores(offmap.MCM(), scale) for scale in (1.0, 100.0))
    assert torch.allclose(a, b, rtol=1e-5)
    as_msp = zero_shot_scores(offmap.MCM(0.01), 100.0)
    assert not torch.allclose(a, as_msp, rtol=0.1)


def test_names_that_are_one_are_refused() -> None:
    with pytest.raises(DegenerateError, match="3 rows of the head's weight are one direction"):
        offmap.MCM().fit(head=Head(torch.ones(3, 4)))
    with pytest.raises(ArgumentError, match="temperature must be a number above 0; seen 0"):
        offmap.MCM(0)


@pytest.mark.parametrize("spec", ["gradnorm", "igeood", "pnml", "mcm", "doctor"])
def test_one_class_has_no_other(spec: str) -> None:
    h = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    head = Head(torch.ones(1, 4))
    acts = Activations(head(h), h)

    def scores() -> torch.Tensor:
        made = offmap.detector(spec).fit([(acts, torch.zeros(20).long())], head=head)
        return made.score(acts)

    with pytest.raises(NeedsError, match="one logit a sample"):
        scores()
