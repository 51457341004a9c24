"""Heads of every kind: where they are found, and what is said where they are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import offmap
from offmap.activations import Head
from offmap.errors import (
    ArgumentError,
    DataError,
    FeaturesWarning,
    HeadError,
    NeedsError,
    OutputsWarning,
    ShapeError,
)
from offmap.forward import Probe

CLASSES = 4


class Net(nn.Module):
    """Six pixels, a hidden layer of five and a head; ``end`` makes the logits of the features."""

    def __init__(self, end: Callable[[Net, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.body, self.fc, self.other = (
            nn.Linear(6, 5),
            nn.Linear(5, CLASSES),
            nn.Linear(5, CLASSES),
        )
        self.weight = nn.Parameter(torch.randn(CLASSES, 5))
        self.end = end

    def features(self, x: Tensor) -> Tensor:
        return self.body(x).relu()

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        return self.fc(h) if self.end is None else self.end(self, h)


class Keyed(nn.Module):
    """Runs the layers of a dict in turn."""

    def __init__(self, layers: nn.ModuleDict) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x


def samples(n: int = 8) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


ENDS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "by forward": lambda net, h: net.fc.forward(h),
    "by keyword": lambda net, h: net.fc(input=h),
    "functional": lambda net, h: F.linear(h, net.weight),
    "scaled": lambda net, h: net.fc(h) / 0.07,
    "not the last": lambda net, h: (net.fc(h), net.other(h.tanh()))[0],
    "in place behind": lambda net, h: (net.fc(h), h.relu_().mul_(0))[0],
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_head_is_found_however_it_is_called(end: Callable[[Net, Tensor], Tensor]) -> None:
    net = Net(end).eval()
    x = samples()
    with torch.no_grad():
        h, z = net.features(x), net(x)
    with Probe(net) as probe:
        for _ in range(2):  # the first batch takes another way than the later ones
            acts = probe(x)
            assert torch.equal(acts.features, h)
            assert torch.allclose(acts.logits, z)
            assert torch.allclose(probe.head(acts.features), z, atol=1e-5)
    assert not probe.unverified


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(6, CLASSES),
        nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, CLASSES))),
        Keyed(nn.ModuleDict({"a-b": nn.Linear(6, CLASSES)})),
    ],
    ids=["the network itself", "numbers", "keys"],
)
def test_a_head_of_any_name_keeps_its_features_in_every_call(network: nn.Module) -> None:
    probe = Probe(network)
    first, second = probe(samples()), probe(samples())
    assert probe.knows_head
    assert torch.equal(first.features, second.features)


def tied(layer: nn.Linear) -> nn.Linear:
    """The layer, whose weight stands in another one too, which the network has but does not run."""
    layer.other = nn.Linear(5, CLASSES)
    layer.other.weight = layer.weight
    return layer


HEADS: dict[str, Callable[[], nn.Module]] = {
    "normed": lambda: parametrizations.weight_norm(nn.Linear(5, CLASSES)),
    "normed, as in old times": lambda: nn.utils.weight_norm(nn.Linear(5, CLASSES)),
    "spectral": lambda: parametrizations.spectral_norm(nn.Linear(5, CLASSES, bias=False)),
    "tied": lambda: tied(nn.Linear(5, CLASSES)),
    "lazy": lambda: nn.LazyLinear(CLASSES),
    "lazy convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (5, 1, 1)), nn.LazyConv2d(CLASSES, 1), nn.Flatten()
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", HEADS)
def test_a_layer_whose_weight_is_no_parameter_of_its_own_is_hooked(kind: str) -> None:
    net = Net()
    net.fc = HEADS[kind]()
    x = samples()
    with Probe(net.eval()) as probe:
        for _ in range(2):
            acts = probe(x)
            assert torch.equal(acts.features, net.features(x))
        assert probe.head_name == ("fc.1" if kind == "lazy convolution" else "fc")
        layer = net.get_submodule(probe.head_name)
        weight = layer.weight.detach().double().numpy().reshape(CLASSES, 5)
        bias = 0 if layer.bias is None else layer.bias.detach().double().numpy()
        expected = acts.features.double().numpy() @ weight.T + bias
        np.testing.assert_allclose(acts.logits.numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(probe.head(acts.features).numpy(), expected, atol=1e-5)


def test_a_guard_of_a_normed_head_is_exported(tmp_path: object) -> None:
    net, x = Net(), samples(90)
    net.fc = parametrizations.weight_norm(net.fc)
    guard = offmap.Guard(net, "knn").fit([x[:60]]).calibrate([x[60:]])
    offmap.export(guard, f"{tmp_path}/guard.pt2", example=x[:4])
    assert torch.allclose(
        torch.export.load(f"{tmp_path}/guard.pt2").module()(x)[1], guard(x).scores, atol=1e-5
    )


def test_logits_that_are_the_mean_of_two_layers_have_one_head() -> None:
    """Distilled transformers: two tokens, two heads, the mean of both."""

    class Distilled(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x)
            return (self.fc(h) + self.other(h.square())) / 2

    net = Distilled().eval()
    with Probe(net) as probe:
        acts = [probe(samples()) for _ in range(2)][-1]
    h = net.features(samples())
    assert probe.head_name == "fc+other"
    assert torch.allclose(acts.features, torch.cat([h, h.square()], dim=1))
    assert torch.allclose(probe.head(acts.features), net(samples()), atol=1e-5)
    with Probe(net, head="fc+other") as named:
        assert torch.equal(named(samples()).features, acts.features)


class Cosine(Net):
    """Cosines of features and class vectors, by a product that no hook sees."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.normalize(self.features(x))
        return 20 * h @ F.normalize(self.weight).T


def test_a_head_that_is_given_finds_its_features(tmp_path: object) -> None:
    net = Cosine().eval()
    head = Head(20 * F.normalize(net.weight.detach()))
    x = samples(64)
    with Probe(net, head=head) as probe:
        acts = [probe(x) for _ in range(2)][-1]
    assert torch.allclose(acts.features, F.normalize(net.features(x)))
    assert torch.allclose(probe.head(acts.features), net(x), atol=1e-4)
    guard = offmap.Guard(net, "residual", head=head).fit([(x, net(x).argmax(1))])
    guard.calibrate([samples(80)[64:]], alarm_rate=0.1)
    guard.save(str(tmp_path))
    assert torch.equal(offmap.load(str(tmp_path), net)(x).scores, guard(x).scores)


@pytest.mark.parametrize("n", [1, CLASSES, 5])
def test_a_batch_of_as_many_samples_as_classes_keeps_its_features(n: int) -> None:
    """The class vectors are an array of that shape, too."""
    net = Net(lambda net, h: F.normalize(h.tanh()) @ F.normalize(net.weight).T).eval()
    turned = Net(lambda net, h: (F.normalize(net.weight) @ F.normalize(h.tanh()).T).T).eval()
    turned.load_state_dict(net.state_dict())
    x = samples(20)
    w, b = (p.detach().double().numpy() for p in net.body.parameters())
    h = np.tanh(np.maximum(x.double().numpy() @ w.T + b, 0))
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    for each in (net, turned):
        with Probe(each, head=Head(F.normalize(each.weight.detach()))) as probe:
            for rows in (slice(0, 20), slice(0, n)):
                found = probe(x[rows]).features.numpy()
                np.testing.assert_allclose(found, h[rows], atol=1e-6)


def test_a_head_that_fits_nothing_is_refused() -> None:
    probe = Probe(Cosine(), head=Head(torch.randn(CLASSES, 5)))
    with pytest.raises(HeadError, match="give weight and bias as they stand in the network"):
        probe(samples())


def test_a_head_of_other_classes_is_refused_in_words() -> None:
    # Torch could not subtract logits of two widths, and said so.
    net = Cosine()
    probe = Probe(net, head=Head(torch.randn(CLASSES + 1, net.weight.shape[1])))
    message = rf"has {CLASSES + 1} classes, and the network returns {CLASSES} logits a sample"
    with probe, pytest.raises(HeadError, match=message):
        probe(samples())


class Lora(nn.Module):
    """A layer with a low-rank change beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Linear(base.in_features, 2, bias=False)
        self.b = nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


def test_features_that_cannot_be_verified_are_warned_of_by_name() -> None:
    net = Net()
    net.fc = Lora(net.fc)
    x = samples(120)
    guard = offmap.Guard(net, "knn")
    with pytest.warns(FeaturesWarning, match=r"the input of 'fc\.base'"):
        guard.fit([x])
    assert guard.detectors[0].bank_.shape[1] == 5  # not the two numbers inside
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        offmap.Guard(net, "msp").fit([x])  # nobody reads them
        offmap.Guard(net, "knn", head="fc").fit([x])  # it was said
        offmap.Guard(Net(), "knn").fit([x])  # the healthy twin


def test_a_sample_that_is_not_finite_does_not_hide_the_head() -> None:
    x = samples()
    x[2] = torch.nan
    with Probe(Net()) as probe:
        probe(x)
        assert torch.equal(probe.head.weight, probe.network.fc.weight)
    with Probe(Net()) as blind:
        blind(torch.full((3, 6), torch.nan))
    assert blind.head is None


def test_a_network_may_name_the_layer_itself() -> None:
    """By its name; a layer that happens to be called so is a layer like any other."""

    class Naming(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.features(x)).tanh()

    net, other = Naming(), Net()
    net.head_layer = "body"
    other.head_layer = other.fc
    with Probe(net) as probe:
        assert torch.equal(probe(samples()).features, samples())
    assert not probe.unverified
    with Probe(other) as found:
        assert torch.equal(found(samples()).features, other.features(samples()))


class SequenceFirst(nn.Module):
    """Tokens before samples, and a head that is no map of one vector a sample."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(6, 5), head

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.mix(x[:, None].expand(-1, 3, -1).transpose(0, 1)).relu()  # (3, n, 5)
        return self.head(tokens.permute(1, 2, 0)).mean(2)


def test_a_convolution_over_tokens_is_a_head_of_their_mean() -> None:
    net = SequenceFirst(nn.Conv1d(5, CLASSES, 1)).eval()
    with Probe(net) as probe:
        acts = [probe(samples()) for _ in range(2)][-1]
    assert probe.head_name == "head"
    assert torch.allclose(acts.features, net.mix(samples()).relu(), atol=1e-6)


def test_features_that_are_not_one_row_a_sample_are_refused() -> None:
    net = SequenceFirst(nn.Conv1d(5, CLASSES, 3, padding=1))
    with pytest.raises(NeedsError, match=r"'mix' is given 3 rows for 8 samples.*vector a sample"):
        offmap.Guard(net, "KNN(k=1)").fit([samples()])
    assert len(offmap.Guard(net, "msp").fit([samples()]).probe(samples()).logits) == 8


def test_a_network_without_linear_maps_has_scores_of_its_logits() -> None:
    net = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, CLASSES, (2, 3)), nn.Flatten())
    guard = offmap.Guard(net, ["msp", "energy"]).fit([samples(40)]).calibrate([samples(90)[40:]])
    assert len(guard(samples(5))) == 5
    with pytest.raises(NeedsError, match=r"calls no torch\.nn\.Linear.*last first: 2, 1"):
        offmap.Guard(net, "knn").fit([samples(60)])


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities"])
def test_outputs_that_are_no_logits_are_refused_and_have_a_way_in(kind: str) -> None:
    def soft(net: Net, h: Tensor) -> Tensor:
        z = net.fc(h)
        return z.softmax(1) if kind == "probabilities" else z.log_softmax(1)

    net, x = Net(soft).eval(), samples()
    words = "sums to 1" if kind == "probabilities" else "exponentials sum to 1"
    guard = offmap.Guard(net, "msp")
    for loader in ([x], [x], list(x.split(1)), [x[:1], x[1:]]):
        with pytest.raises(DataError, match=rf"{words}.*outputs='{kind}'"):
            guard.fit(loader).calibrate(loader)  # of small batches, the first few tell
    with Probe(net, outputs=kind) as probe:
        expected = net.fc(net.features(x)).softmax(1)
        assert torch.allclose(probe(x).logits.softmax(1), expected, atol=1e-6)


def test_outputs_of_a_sigmoid_are_told_of() -> None:
    x = samples(40)
    guard = offmap.Guard(Net(lambda net, h: net.fc(h).sigmoid()).eval(), "energy")
    with pytest.warns(OutputsWarning, match=r"first \d+ samples lie in \[0, 1\].*a sigmoid"):
        guard.fit(list(x.split(3))).calibrate([x])
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputsWarning)
        offmap.Guard(Net().eval(), "energy").fit([x]).calibrate([x])


def test_what_is_no_module_is_no_network() -> None:
    for wrong, kind in ((lambda x: x, "function"), ("resnet20", "str")):
        with pytest.raises(ArgumentError, match=rf"is a torch\.nn\.Module; seen {kind}: give"):
            offmap.Guard(wrong, "msp")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_network_of_torchscript_has_scores_of_its_logits() -> None:
    net, x = Net().eval(), samples(60)
    scripted = torch.jit.trace(net, x)
    plain, traced = (offmap.Guard(n, "msp").fit([x]).calibrate([x]) for n in (net, scripted))
    assert torch.allclose(traced(x).scores, plain(x).scores, atol=1e-6)


def test_a_batch_that_goes_another_way_has_logits_and_no_features() -> None:
    net = Net(lambda net, h: net.fc(h) if h.mean() < 10 else net.other(h)).eval()
    x = samples()
    with Probe(net) as probe:
        probe(x)
        acts = probe(1000 * x.abs())
        h = np.maximum(
            1000 * x.abs().double().numpy() @ net.body.weight.double().detach().numpy().T
            + net.body.bias.double().detach().numpy(),
            0,
        )
        z = (
            h @ net.other.weight.double().detach().numpy().T
            + net.other.bias.double().detach().numpy()
        )
        np.testing.assert_allclose(acts.logits.numpy(), z, rtol=1e-5)
        with pytest.raises(NeedsError, match="'fc' was called for the first batch, and not for"):
            _ = acts.features
        assert probe(x).has_features


def test_a_head_inside_an_exported_guard_must_be_a_layer(tmp_path: object) -> None:
    x = samples(90)
    net = Net(ENDS["by forward"])
    guard = offmap.Guard(net, "knn").fit([x[:60]]).calibrate([x[60:]])
    with pytest.raises(NeedsError, match=r"call the layer itself, as self\.fc\(h\)"):
        offmap.export(guard, f"{tmp_path}/guard.pt2", example=x[:4])


class Reader(nn.Module):
    """Scores every token; the answer is that of the last one that is no padding."""

    def __init__(self, how: str = "last") -> None:
        super().__init__()
        self.words, self.score = nn.Embedding(50, 5), nn.Linear(5, CLASSES)
        self.how = how

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        h = self.words(input_ids).cumsum(1)
        z = F.linear(h, self.score.weight) if self.how == "functional" else self.score(h)
        if self.how == "mean":
            return z.mean(1)
        length = (input_ids != 0).sum(1)
        return z[torch.arange(len(z)), length - 1]


def texts(n: int, longest: int, seed: int = 0) -> list[Tensor]:
    of = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (n,), generator=of).tolist()
    return [torch.randint(1, 50, (length,), generator=of) for length in lengths]


def padded(batch: list[Tensor], longer: int = 0) -> dict[str, Tensor]:
    ids = nn.utils.rnn.pad_sequence([*batch, torch.zeros(longer).long()], batch_first=True)
    return {"input_ids": ids[: len(batch)], "attention_mask": (ids[: len(batch)] != 0).long()}


@pytest.mark.parametrize("how", ["last", "functional"])
@pytest.mark.parametrize("first", [6, 1])
def test_the_features_of_a_text_do_not_depend_on_its_padding(how: str, first: int) -> None:
    network = Reader(how)
    given = texts(6, 7)
    expected = torch.cat([network.words(x).sum(0, keepdim=True) for x in given]).detach()
    with Probe(network) as probe:
        probe(padded(texts(6, first, seed=1)))  # of one word each, nothing tells it from a mean
        assert probe.head is not None, probe.why_no_head
        for longer in (0, 20):
            acts = probe(padded(given, longer))
            torch.testing.assert_close(acts.features, expected)
            torch.testing.assert_close(probe.head(acts.features), acts.logits)


def test_of_one_word_each_a_mean_over_tokens_stays_a_mean() -> None:
    network = Reader("mean")
    with Probe(network) as probe:
        probe(padded(texts(6, 1)))
        batch = padded(texts(6, 7, seed=1))
        expected = network.words(batch["input_ids"]).cumsum(1).mean(1).detach()
        torch.testing.assert_close(probe(batch).features, expected)


class FirstToken(Net):
    """Scores all tokens, and answers with the first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]


def test_a_guard_of_the_token_that_answers_is_exported(tmp_path: object) -> None:
    net, x = FirstToken(), torch.randn(90, 3, 6, generator=torch.Generator().manual_seed(0))
    guard = offmap.Guard(net, "KNN(k=5)").fit([x[:60]]).calibrate([x[60:]])
    assert torch.allclose(guard.probe(x).features, net.features(x)[:, 0], atol=1e-6)
    offmap.export(guard, f"{tmp_path}/guard.pt2", example=x[:4])
    assert torch.allclose(
        torch.export.load(f"{tmp_path}/guard.pt2").module()(x)[1], guard(x).scores, atol=1e-5
    )


class Embedding(nn.Module):
    """An embedding by a linear layer, and logits of it; ``between`` stands before these."""

    def __init__(
        self, form: Callable[[Tensor, Tensor, Tensor], object], between: nn.Module
    ) -> None:
        super().__init__()
        self.body, self.embed, self.between = nn.Linear(6, 5), nn.Linear(5, 8), between
        self.fc, self.second, self.form = nn.Linear(8, CLASSES), nn.Linear(5, 7), form

    def forward(self, x: Tensor) -> object:
        h = self.body(x).relu()
        embedding = self.embed(h)
        return self.form(embedding, self.fc(self.between(embedding)), self.second(h))


@pytest.mark.parametrize("between", [nn.Identity(), nn.ReLU()])
@pytest.mark.parametrize(
    "form", [lambda e, z, _: (e, z), lambda e, z, _: {"embedding": e, "output": z}]
)
def test_an_embedding_that_stands_before_the_logits_is_not_taken_for_them(
    form: Callable[[Tensor, Tensor, Tensor], object], between: nn.Module
) -> None:
    words = r"of shape \(9, 8\), was taken .* its last linear layer 'fc' gives"
    with pytest.raises(ShapeError, match=words):
        Probe(first_two(Embedding(form, between)))(torch.randn(9, 6))


def first_two(network: nn.Module) -> nn.Module:
    """Without the layer that would be called last."""
    network.second = nn.Identity()
    return network


@pytest.mark.parametrize(
    "form", [lambda e, z, _: (z, e), lambda e, z, _: {"embedding": e, "logits": z}]
)
def test_logits_beside_an_embedding_are_taken(
    form: Callable[[Tensor, Tensor, Tensor], object],
) -> None:
    acts = Probe(Embedding(form, nn.Identity()))(torch.randn(9, 6))
    assert acts.logits.shape == (9, CLASSES)
    assert acts.features.shape == (9, 8)


def test_a_second_head_is_no_sign_of_an_embedding() -> None:
    network = Embedding(lambda e, _z, second: (e, second), nn.Identity())
    assert Probe(network)(torch.randn(9, 6)).logits.shape == (9, 8)


def test_logits_that_are_named_stay_them_whatever_else_is_returned() -> None:
    class Prototypes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.centres = nn.Linear(6, 5), nn.Parameter(torch.randn(CLASSES, 5))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            h = self.body(x)
            return {"logits": -torch.cdist(h, self.centres), "features": h}

    assert Probe(Prototypes())(torch.randn(9, 6)).logits.shape == (9, CLASSES)


def test_a_head_behind_a_loop_of_any_length_keeps_its_features() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step, self.weight = nn.Linear(11, 5), nn.Parameter(torch.randn(CLASSES, 5))

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 5)
            for t in range(x.shape[1]):
                h = self.step(torch.cat([x[:, t], h], 1)).tanh()
            return F.linear(h, self.weight)

    probe = Probe(Steps())
    for steps in (3, 2, 5):
        acts = probe(torch.randn(9, steps, 6))
        assert probe.head is not None
        assert torch.allclose(probe.head(acts.features), acts.logits, atol=1e-5)


def test_a_factor_that_one_sample_shows_is_borne_out_by_others_or_refused() -> None:
    x = torch.randn(9, 6)
    probe = Probe(Net(lambda net, h: net.fc(h) / 1.7))
    probe(x[:1])
    acts = probe(x)
    assert probe.head is not None
    assert torch.allclose(probe.head(acts.features), acts.logits, atol=1e-5)
    probe = Probe(Net(lambda net, h: net.fc(h) / net.other(h)[:, :1].sigmoid()))
    probe(x[:1])
    with pytest.raises(HeadError, match="start with a batch of several samples"):
        probe(x)


class WithoutLayer(nn.Module):
    """Logits by a plain product of an embedding, which a layer makes; ``form`` returns both."""

    def __init__(self, form: Callable[[Tensor, Tensor], object], *, layer: bool) -> None:
        super().__init__()
        self.body, self.form = nn.Linear(6, 5) if layer else nn.Conv1d(1, 5, 6), form
        self.weight = nn.Parameter(torch.randn(5, CLASSES))

    def forward(self, x: Tensor) -> object:
        h = self.body(x if isinstance(self.body, nn.Linear) else x[:, None]).flatten(1)
        return self.form(h, F.normalize(h) @ self.weight)


@pytest.mark.parametrize("layer", [True, False])
@pytest.mark.parametrize("form", [lambda h, z: (h, z), lambda h, z: {"h": h, "z": z}])
def test_an_embedding_before_logits_of_no_layer_is_told(
    form: Callable[[Tensor, Tensor], object], layer: bool
) -> None:
    with pytest.warns(OutputsWarning, match=r"of shape \(9, 5\), .*of shape \(9, 4\), is made"):
        Probe(WithoutLayer(form, layer=layer))(torch.randn(9, 6))


@pytest.mark.parametrize("form", [lambda h, z: (z, h), lambda h, z: {"h": h, "logits": z}])
def test_logits_of_no_layer_that_stand_first_are_taken_in_silence(
    form: Callable[[Tensor, Tensor], object],
) -> None:
    assert Probe(WithoutLayer(form, layer=True))(torch.randn(9, 6)).logits.shape == (9, CLASSES)


def test_features_beside_logits_that_are_used_on_are_no_sign_of_an_embedding() -> None:
    class Sure(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
            h = self.body(x)
            z = self.fc(h)
            return z, h, z.softmax(1)

    assert Probe(Sure())(torch.randn(9, 6)).logits.shape == (9, CLASSES)
