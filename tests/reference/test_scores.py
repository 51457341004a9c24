"""Every detector against its slow twin, on ordinary, collapsed and extreme data."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import offmap
from offmap.activations import Activations, Head
from offmap.detectors import Detector, catalogue, entries
from offmap.errors import UnknownNameError
from tests.conftest import World, make_world, world_of
from tests.reference import slow

# What METHODS asks for, and more where classes have collapsed onto points.
PARITY = 1e-5


def twin(name: str, world: World, acts: Activations) -> slow.Pair:
    """The slow scores of a catalogue entry with its default arguments."""
    if acts.members:
        return of_members(name, acts)
    z = acts.logits.double().numpy()
    h = acts.features.double().numpy()
    train = world.acts.features.double().numpy()
    y = world.labels.numpy()
    w, b = world.layer.weight.double().numpy(), world.layer.bias.double().numpy()
    half = train.shape[1] // 2
    return {
        "msp": lambda: slow.msp(z),
        "maxlogit": lambda: slow.maxlogit(z),
        "energy": lambda: slow.energy(z),
        "entropy": lambda: slow.entropy(z),
        "kluniform": lambda: slow.kluniform(z),
        "gen": lambda: slow.gen(z),
        "mahalanobis": lambda: slow.mahalanobis(h, train, y),
        "relativemahalanobis": lambda: slow.relativemahalanobis(h, train, y),
        "knn": lambda: slow.knn(h, train),
        "residual": lambda: slow.residual(h, train, w, b, half),
        "vim": lambda: slow.vim(h, train, w, b, half),
        "neco": lambda: slow.neco(h, z, train, half),
        "react": lambda: slow.react(h, train, w, b),
        "anchordistance": lambda: slow.anchordistance(z),
    }[name]()


def of_members(name: str, acts: Activations) -> slow.Pair:
    """The same of an ensemble."""
    z = np.stack([member.logits.double().numpy() for member in acts.members])
    return {
        "maxprobability": lambda: slow.maxprobability(z),
        "totalentropy": lambda: slow.totalentropy(z),
        "expectedentropy": lambda: slow.expectedentropy(z),
        "mutualinformation": lambda: slow.mutualinformation(z),
        "membermean": lambda: slow.membermean([slow.msp(member) for member in z]),
    }[name]()


# Names with a slow twin above; every other method has a test file of its own that names it.
NAMES = (
    "msp",
    "maxlogit",
    "energy",
    "entropy",
    "kluniform",
    "gen",
    "mahalanobis",
    "knn",
    "residual",
)
NAMES += ("relativemahalanobis", "vim", "neco", "react", "anchordistance", "maxprobability")
NAMES += ("totalentropy", "expectedentropy", "mutualinformation", "membermean")


def test_every_detector_has_a_slow_twin() -> None:
    folder = Path(__file__).parent
    modules = [import_module(f"tests.reference.{p.stem}") for p in folder.glob("test_*.py")]
    named = {name for module in modules for name in getattr(module, "NAMES", ())}
    missing = [e.name for e in entries() if e.family != "own" and e.name not in named]
    assert not missing


def fitted(made: Detector, world: World) -> Detector:
    return made.fit(world.batches(), head=world.head)


def assert_parity(scores: torch.Tensor, pair: slow.Pair, tolerance: float = PARITY) -> None:
    expected, terms = pair
    error = np.abs(scores.double().numpy() - expected)
    assert (error <= tolerance * terms).all(), f"off by {(error / terms).max():.2g} of the terms"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_scores_equal_the_slow_formula(name: str, relu: bool) -> None:
    world = world_of(name, make_world(300, relu=relu))
    made = fitted(catalogue()[name].default(), world)
    for acts in (world.acts, world.ood):
        assert_parity(made.score(acts), twin(name, world, acts))


@pytest.mark.parametrize("name", NAMES)
def test_collapsed_classes_keep_their_digits(name: str) -> None:
    world = world_of(name, make_world(300, spread=0.01))
    made = fitted(catalogue()[name].default(), world)
    expected, terms = twin(name, world, world.acts)
    against = expected if name == "knn" else terms
    error = np.abs(made.score(world.acts).double().numpy() - expected)
    assert (error <= 1e-4 * against).all()


def test_knn_in_float32_orders_close_neighbours_by_their_distances() -> None:
    """64 features and many neighbours nearly alike: similarities alone are off by 2 % here."""
    world = make_world(3000, features=64, spread=0.01)
    h, train = world.acts[:60].features.double().numpy(), world.acts.features.double().numpy()
    expected, _ = slow.knn(h, train)
    scores = fitted(offmap.KNN(), world).score(world.acts[:60]).double().numpy()
    assert (np.abs(scores - expected) <= 1e-4 * expected).all()


def test_knn_in_float64_keeps_more_digits_where_classes_have_collapsed() -> None:
    world = make_world(300, spread=0.01)
    made = fitted(offmap.KNN(precision="float64"), world)
    expected, _ = twin("knn", world, world.acts)
    assert np.allclose(made.score(world.acts).numpy(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("denominator", ["scaled", "raw"])
@pytest.mark.parametrize("times_max_logit", [True, False])
def test_neco_in_every_variant(
    world: World, scale: bool, center: bool, denominator: str, times_max_logit: bool
) -> None:
    options = {
        "scale": scale,
        "center": center,
        "denominator": denominator,
        "times_max_logit": times_max_logit,
    }
    made = fitted(offmap.NECO(5, **options), world)
    train = world.acts.features.double().numpy()
    h, z = world.ood.features.double().numpy(), world.ood.logits.double().numpy()
    assert_parity(made.score(world.ood), slow.neco(h, z, train, 5, **options))


@pytest.mark.parametrize("backbone", ["vit", "resnet", "deit", "swin", "cifar_vit"])
def test_the_presets_of_neco_are_the_published_ones(world: World, backbone: str) -> None:
    """By scikit-learn's scaler and PCA, as the authors have it."""
    train, h = (acts.features.double().numpy() for acts in (world.acts, world.ood))
    scaler = StandardScaler(with_mean=backbone != "cifar_vit", with_std=backbone != "cifar_vit")
    scaled = scaler.fit_transform(train)
    reduced = PCA().fit(scaled).transform(scaler.transform(h))[:, :5]
    whole = h if backbone in ("deit", "swin") else scaler.transform(h)
    expected = np.linalg.norm(reduced, axis=1) / np.linalg.norm(whole, axis=1)
    if backbone != "resnet":
        expected *= world.ood.logits.double().numpy().max(1)
    made = fitted(offmap.NECO.preset(backbone, dim=5), world)
    assert_parity(made.score(world.ood), (-expected, abs(expected)))


def test_a_preset_that_is_none_is_named() -> None:
    with pytest.raises(UnknownNameError, match="no preset 'vgg': there are vit, resnet"):
        offmap.NECO.preset("vgg")


def test_neco_takes_as_many_directions_as_the_share_of_variance_asks(world: World) -> None:
    train = world.acts.features.double().numpy()
    x = (train - train.mean(0)) / train.std(0)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    wanted = int(np.searchsorted(np.cumsum(values) / values.sum(), 0.8)) + 1
    assert fitted(offmap.NECO(0.8), world).directions_.shape == (16, wanted)


def test_react_around_vim_fits_vim_on_clipped_features(world: World) -> None:
    made = fitted(offmap.ReAct(offmap.ViM(4), quantile=0.8), world)
    train = world.acts.features.double().numpy()
    limit = np.quantile(train, 0.8)
    w, b = world.head.weight.double().numpy(), world.head.bias.double().numpy()
    h = np.minimum(world.ood.features.double().numpy(), limit)
    assert_parity(made.score(world.ood), slow.vim(h, np.minimum(train, limit), w, b, 4))


def test_react_clips_at_numpys_quantile_of_all_units_together(world: World) -> None:
    made = fitted(offmap.ReAct(offmap.Energy(), quantile=0.37), world)
    expected = np.quantile(world.acts.features.double().numpy(), 0.37)
    assert float(made.threshold_) == pytest.approx(expected, rel=1e-7)


def test_vim_projector_is_the_one_of_the_slow_formula(world: World) -> None:
    made = fitted(offmap.ViM(4), world)
    w, b = world.head.weight.double().numpy(), world.head.bias.double().numpy()
    _, projector = slow.complement(world.acts.features.double().numpy(), w, b, 4)
    basis = made.residual_.numpy()
    assert np.allclose(basis @ basis.T, projector, atol=1e-9)


def test_vim_of_logits_below_0_counts_each_maximum_from_the_mean(world: World) -> None:
    """Logarithms of probabilities, say: alpha would be negative, and the residual's sign turned."""
    train, ood = (a.replace(logits=a.logits.log_softmax(1)) for a in (world.acts, world.ood))
    made = offmap.ViM(4)
    with pytest.warns(
        UserWarning, match=r"mean maximum logit of the training data is -0\.\d+, and"
    ):
        made.fit([(train, None)], head=world.head)
    w, b = world.head.weight.double().numpy(), world.head.bias.double().numpy()
    h, z = train.features.double().numpy(), train.logits.double().numpy()
    alpha = (z.max(1) - z.mean(1)).mean() / slow.residual(h, h, w, b, 4)[0].mean()
    norms, _ = slow.residual(ood.features.double().numpy(), h, w, b, 4)
    energies = np.array([slow.logsumexp(row) for row in ood.logits.double().numpy()])
    assert_parity(made.score(ood), (alpha * norms - energies, alpha * norms + abs(energies)))


def test_a_head_without_bias_has_its_origin_at_zero(world: World) -> None:
    made = offmap.Residual(4).fit(world.batches(), head=Head(world.head.weight))
    assert not made.origin_.any()


def test_confident_samples_keep_their_order() -> None:
    """A float32 maximum probability is exactly 1 for all of these."""
    gaps = torch.tensor([20.0, 25.0, 30.0, 60.0])
    logits = torch.stack([gaps, torch.zeros(4), torch.zeros(4)], dim=1)
    assert (logits.softmax(1).amax(1) == 1).all()
    for made in (offmap.MSP(), offmap.GEN(), offmap.Entropy()):
        scores = made.score(Activations(logits))
        assert (scores.diff() < 0).all(), made
    exact = 2 * np.exp(-gaps.double().numpy())
    assert np.allclose(offmap.MSP().score(Activations(logits)).numpy(), exact, rtol=1e-6, atol=0)


def test_probabilities_that_underflow_leave_finite_scores() -> None:
    logits = torch.tensor([[1000.0, 0.0, -1000.0], [0.0, 0.0, 0.0]])
    for made in (offmap.MSP(), offmap.Entropy(), offmap.KLUniform(), offmap.GEN(), offmap.Energy()):
        assert made.score(Activations(logits)).isfinite().all(), made


def test_gen_counts_only_the_largest_probabilities() -> None:
    logits = torch.randn(20, 30, generator=torch.Generator().manual_seed(0)) * 3
    scores = offmap.GEN(0.3, top=4).score(Activations(logits))
    assert_parity(scores, slow.gen(logits.double().numpy(), 0.3, 4))


def test_energy_divides_by_the_temperature() -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) * 3
    scores = offmap.Energy(2.5).score(Activations(logits))
    assert_parity(scores, slow.energy(logits.double().numpy(), 2.5))


@pytest.mark.parametrize(("rows", "k"), [(1, 1), (7, 3), (7, 7), (200, 1), (997, 5), (3000, 50)])
def test_knn_finds_the_kth_neighbour_for_any_bank(rows: int, k: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    train = torch.randn(rows, 4, generator=generator)
    queries = torch.randn(40, 4, generator=generator)
    queries[0] = 0  # has no direction
    made = offmap.KNN(k, bank=max(rows, k)).fit([(Activations(train[:, :2], train), None)])
    scores = made.score(Activations(queries[:, :2], queries))
    assert_parity(scores, slow.knn(queries.double().numpy(), train.double().numpy(), k))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_knn_among_training_rows_of_norm_0(precision: str) -> None:
    """A product orders them as if at a right angle, and they are nearer."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(25, 3, generator=generator)
    train[::5] = 0
    queries = torch.randn(40, 3, generator=generator)
    queries[0] = 0
    for k in (1, 5, 6, 8, 25):
        made = offmap.KNN(k, precision=precision).fit([(Activations(train, train), None)])
        expected = slow.knn(queries.double().numpy(), train.double().numpy(), k)
        assert_parity(made.score(Activations(queries, queries)), expected)


@pytest.mark.parametrize("spread", [1e-3, 1e-4])
def test_knn_finds_the_neighbour_in_a_tight_cluster_of_thousands(spread: float) -> None:
    """More rows than float32 can order lie nearer than the 50th neighbour."""
    world = make_world(4000, classes=2, spread=spread)
    h, train = world.acts[:40].features.double().numpy(), world.acts.features.double().numpy()
    expected, _ = slow.knn(h, train)
    scores = fitted(offmap.KNN(), world).score(world.acts[:40]).double().numpy()
    # The rows of the bank are float32, which is 6e-8 of a unit vector in each coordinate.
    assert (np.abs(scores - expected) <= 1e-4 * expected + 3e-7).all()


@pytest.mark.parametrize("variant", ["cifar_vit", "deit"])
def test_neco_of_a_sample_of_norm_0_is_0(variant: str, world: World) -> None:
    made = fitted(offmap.NECO.preset(variant, dim=3), world)
    zero = torch.zeros_like(world.acts.features[:1])
    assert float(made.score(Activations(world.layer(zero), zero))) == 0


def test_neco_of_logits_below_0_is_refused_where_they_are_a_factor(world: World) -> None:
    """Times a negative number, the samples with the largest share would score highest."""
    train = world.acts.replace(logits=world.acts.logits.log_softmax(1))
    with pytest.raises(
        offmap.errors.DegenerateError,
        match=r"largest of the logits is -.*use NECO\(times_max_logit=False\)",
    ):
        offmap.NECO().fit([(train, None)])
    made = offmap.NECO(times_max_logit=False).fit([(train[:200], None), (train[200:], None)])
    assert torch.allclose(made.score(train), fitted(made, world).score(train), rtol=1e-6)


@pytest.mark.parametrize("spec", ["neco", "residual", "vim", "mahalanobis", "react"])
def test_features_without_spread_are_refused(spec: str) -> None:
    for value in (0.0, 0.1):
        h = torch.full((60, 4), value)
        made = offmap.detector(spec)
        with pytest.raises(offmap.errors.DegenerateError):
            made.fit(
                [(Activations(h[:, :3], h), torch.arange(60) % 3)],
                head=offmap.Head(torch.eye(4)[:3]),
            )


def test_react_refuses_a_quantile_below_which_nothing_lies() -> None:
    """Features of which nine tenths are 0 would all be clipped to 0."""
    generator = torch.Generator().manual_seed(0)
    h = torch.rand(400, 20, generator=generator)
    h[torch.rand(400, 20, generator=generator) > 0.07] = 0
    head = offmap.Head(torch.randn(3, 20, generator=generator))
    batches = [(Activations(head(h), h), None)]
    with pytest.raises(offmap.errors.DegenerateError, match="smallest of all features"):
        offmap.ReAct(offmap.Energy()).fit(batches, head=head)
    made = offmap.ReAct(offmap.Energy(), quantile=0.96).fit(batches, head=head)
    assert float(made.threshold_) > 0


def test_knn_warns_where_a_class_is_smaller_than_k() -> None:
    world = make_world(120, classes=3)
    with pytest.warns(UserWarning, match="smallest class has about 40 samples in the bank"):
        fitted(offmap.KNN(41), world)
    fitted(offmap.KNN(40), world)
    with pytest.warns(UserWarning, match="about 10 samples"):
        fitted(offmap.KNN(20, bank=30), world)
    unlabelled = [(acts, None) for acts, _ in world.batches()]
    offmap.KNN(41).fit(unlabelled)  # nothing is known of the classes


def test_knn_with_ties_and_repeated_rows() -> None:
    train = torch.eye(4).repeat(50, 1)
    made = offmap.KNN(60).fit([(Activations(train, train), None)])
    scores = made.score(Activations(torch.eye(4), torch.eye(4)))
    assert torch.allclose(scores, torch.full((4,), 2**0.5))


def test_knn_in_small_chunks_gives_the_same_scores(world: World) -> None:
    whole = fitted(offmap.KNN(), world).score(world.ood)
    assert torch.equal(fitted(offmap.KNN(chunk_mb=1), world).score(world.ood), whole)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_of_equal_rows_the_same_are_nearest_whatever_the_batch(precision: str) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 16, generator=generator).repeat(8, 1)
    names = tuple(f"{i:03}" for i in range(240))
    other = torch.randn(40, 16, generator=generator)
    found = []
    for order in (torch.arange(240), torch.arange(240).flip(0)):
        keys = tuple(names[i] for i in order.tolist())
        made = offmap.KNN(3, precision=precision)
        made.fit([(Activations(features=rows[order]).replace(keys=keys), None)])
        _, alone = made.nearest(Activations(features=other[:1]), 3)
        _, together = made.nearest(Activations(features=other), 3)
        assert alone == together[:1]
        found.append(together)
    assert found[0] == found[1]
    for row in found[0]:  # the first of the eight that are equal
        assert list(row) == [f"{int(row[0]) + 30 * i:03}" for i in range(3)]
