"""The probe: finds the head of any classifier, runs it once, and leaves it as it was."""

from __future__ import annotations

import copy
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import eval_frame

from offmap.activations import Tap
from offmap.errors import ArgumentError, NeedsError, ShapeError
from offmap.forward import Normalization, Probe, as_device
from offmap.forward._calls import Call, maps, tokens
from offmap.forward._head import _margin_of, tf32, tf32_of_convolutions
from offmap.networks import resnet20


class VGG(nn.Module):
    """The last of three linear layers is the head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.classifier = nn.Sequential(
            nn.Linear(32, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class ViT(nn.Module):
    """Patches, attention, and a head on the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.block(torch.cat([self.token.expand(len(x), -1, -1), x], dim=1))
        return self.head(x[:, 0])


class Returning(nn.Module):
    """Returns what ``wrap`` makes of logits and features."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.body, self.fc, self.wrap = nn.Linear(12, 7), nn.Linear(7, 5), wrap

    def forward(self, x: Tensor) -> Any:
        h = self.body(x.flatten(1)).relu()
        return self.wrap(self.fc(h), h)


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


class Squashed(nn.Module):
    """Its logits are not the output of its last linear layer."""

    def __init__(self, factor: float = 3.0) -> None:
        super().__init__()
        self.fc, self.factor = nn.Linear(12, 5), factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.fc(x.flatten(1)).tanh()


class Scaled(Squashed):
    """Its logits are the output of its last linear layer times a number."""

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.fc(x.flatten(1))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x).relu()).mean((2, 3))


def images(n: int = 6, size: int = 8) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def small() -> Tensor:
    return images(6, 2)


@pytest.mark.parametrize(
    ("network", "head"),
    [(resnet20(), "linear"), (VGG(), "classifier.4"), (ViT(), "head")],
    ids=["resnet", "vgg", "vit"],
)
def test_the_head_is_the_last_linear_layer(network: nn.Module, head: str) -> None:
    network.eval()
    with torch.no_grad():
        expected = network(images())
    with Probe(network) as probe:
        acts = probe(images())
        again = probe(images())
    assert probe.head_name == head
    assert torch.allclose(acts.logits, expected, atol=1e-5)
    assert torch.allclose(probe.head(acts.features), expected, atol=1e-4)
    assert torch.allclose(again.features, acts.features, atol=1e-5)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z, h: z,
        lambda z, h: (z, h),
        lambda z, h: {"logits": z, "hidden": h},
        lambda z, h: {"out": z},
        lambda z, h: Output(z, h),
    ],
    ids=["tensor", "tuple", "dict", "other dict", "object"],
)
def test_any_form_of_output(wrap: Any) -> None:
    network = Returning(wrap)
    with Probe(network) as probe:
        acts = probe(small())
    assert acts.logits.shape == (6, 5)
    assert acts.features.shape == (6, 7)
    assert probe.head is not None


@pytest.mark.parametrize("how", ["compiled", "compiled in place", "parallel", "inner compiled"])
def test_wrapped_networks_are_unwrapped(how: str) -> None:
    network: nn.Module = VGG()
    with Probe(network) as probe:
        expected = probe(images())
    if how == "compiled":
        network = torch.compile(network, backend="eager")  # type: ignore[assignment]
    elif how == "compiled in place":
        network.compile(backend="eager")
    elif how == "inner compiled":
        network.classifier = torch.compile(network.classifier, backend="eager")
    else:
        network = nn.DataParallel(network)
    with Probe(network) as probe:
        first, second = probe(images()), probe(images())
    for acts in (first, second):
        assert torch.equal(acts.logits, expected.logits)
        assert torch.equal(acts.features, expected.features)


def test_logits_that_are_not_the_layers_output_leave_no_head() -> None:
    with Probe(Squashed()) as probe:
        acts = probe(small())
    assert probe.head is None
    assert "'fc'" in probe.unverified
    assert "not the output of the last linear layer" in probe.why_no_head
    assert acts.features.shape == (6, 12)


def test_bf16_still_finds_the_head_and_not_a_scaled_one() -> None:
    with Probe(resnet20(), precision="bf16") as probe:
        acts = probe(images())
    assert probe.head is not None
    assert acts.logits.dtype == acts.features.dtype == torch.float32
    with Probe(Squashed(1.1), precision="bf16") as probe:
        probe(small())
    assert probe.head is None


def test_a_factor_on_the_logits_belongs_to_the_head() -> None:
    network = Scaled(3.0).eval()
    with Probe(network) as probe:
        acts = probe(small())
    assert torch.allclose(probe.head.weight, 3 * network.fc.weight)
    assert torch.allclose(probe.head(acts.features), network(small()), atol=1e-5)


def test_a_pointwise_convolution_is_a_head() -> None:
    network = Convolutional().eval()
    with Probe(network) as probe:
        acts = probe(images())
    assert probe.head_name == "last"
    pooled = network.body(images()).relu().mean((2, 3))
    assert torch.allclose(acts.features, pooled, atol=1e-6)
    assert torch.allclose(probe.head(pooled), network(images()), atol=1e-5)


def test_a_named_layer_gives_its_input_as_features() -> None:
    with Probe(Convolutional(), head="body") as probe:
        acts = probe(images())
    assert torch.allclose(acts.features, images().mean((2, 3)))
    assert probe.head is None
    assert not probe.unverified  # it was said that these are the features
    with Probe(VGG(), head="classifier.2") as probe:
        assert probe(images()).features.shape == (6, 20)
    assert "has 12 outputs, not 5" in probe.why_no_head


def test_the_head_goes_where_the_network_goes() -> None:
    """The device "meta" stands for another than that of the first batch."""
    x = images()
    network = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 5), nn.ReLU(), nn.Linear(5, 3))
    probe = Probe(network)
    probe(x)
    network.to("meta")
    with probe:
        assert probe.head is not None
        assert probe.head.weight.device.type == "meta"


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no layer 'fc'"):
        Probe(VGG(), head="fc")


def test_other_layers_are_reduced_inside_the_hook() -> None:
    with Probe(resnet20(), taps=[Tap("layer1"), Tap("layer2"), Tap(":stages", "max")]) as probe:
        for _ in range(2):
            acts = probe(images())
            assert {name: tuple(x.shape) for name, x in acts.layers.items()} == {
                "layer1|mean|0": (6, 16),
                "layer2|mean|0": (6, 32),
                ":stages|max|0": (6, 16),
                ":stages|max|1": (6, 32),
                ":stages|max|2": (6, 64),
            }
        assert probe.layers == {":stages": ("layer1", "layer2", "layer3")}


class OneReLU(nn.Module):
    """One ReLU for all stages and, if ``late``, for what follows them: each call is another map."""

    def __init__(self, *, late: bool = False) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.relu, self.pool, self.fc = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(3, 4)
        self.late = late

    def forward(self, x: Tensor) -> Tensor:
        for i, convolution in enumerate(self.convolutions):
            x = self.relu(convolution(self.pool(x) if i else x))
        h = x.mean((2, 3))
        return self.fc(self.relu(h) if self.late else h)


@pytest.mark.parametrize("late", [False, True])
def test_a_layer_that_is_called_at_several_sizes_is_no_stage(late: bool) -> None:
    network, x = OneReLU(late=late).eval(), torch.rand(6, 3, 8, 8)
    means, y = [], x.double()
    for i, conv in enumerate(network.convolutions):
        y = nn.functional.max_pool2d(y.relu(), 2) if i else y
        y = nn.functional.conv2d(y, conv.weight.double(), conv.bias.double(), padding=1)
        means.append(y.detach().numpy().mean((2, 3)))
    with Probe(network, taps=[Tap(":stages")]) as probe:
        for _ in range(2):  # the first batch resolves the rule, and hooks see the others
            kept = probe(x).tapped(Tap(":stages"))
            for found, expected in zip(kept, means, strict=True):
                np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
        cut = probe.sample(x).run(x, edit={":stages[-1]": torch.zeros_like})
        assert torch.equal(cut.features, torch.zeros(6, 3))


def test_a_place_in_a_rule_that_is_no_number_is_refused() -> None:
    network, x = OneReLU(late=False).eval(), torch.rand(6, 3, 8, 8)
    with Probe(network, taps=[Tap(":stages")]) as probe:
        sample = probe.sample(x)
        with pytest.raises(ArgumentError, match=r":stages\[last\]: the place in a rule is a whole"):
            sample.run(x, edit={":stages[last]": torch.zeros_like})


class Again(nn.Module):
    """One block, three times at one size."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.fc = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.block(x)
        return self.fc(x.mean((2, 3)))


def test_a_block_that_is_called_again_at_one_size_is_its_stage() -> None:
    with Probe(Again().eval(), taps=[Tap(":stages")]) as probe:
        for _ in range(2):
            acts = probe(torch.rand(6, 3, 8, 8))
            assert torch.allclose(acts.tapped(Tap(":stages"))[0], acts.features)
        assert probe.layers == {":stages": ("block",)}


class Attending(nn.Module):
    """Attention over all places, or in four windows, with a layer for the dropout of its shares."""

    def __init__(self, windows: int) -> None:
        super().__init__()
        self.patches, self.fc = nn.Conv2d(3, 6, 2, stride=2), nn.Linear(6, 4)
        self.dropout, self.windows = nn.Dropout(0.1), windows

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        n, size = len(x), x.shape[1] // self.windows
        heads = x.reshape(n * self.windows, size, 2, 3).transpose(1, 2)
        shares = self.dropout((heads @ heads.mT).softmax(-1))
        return self.fc((shares @ heads).transpose(1, 2).reshape(n, -1, 6).mean(1))


@pytest.mark.parametrize("windows", [1, 4])
def test_shares_of_attention_are_no_feature_map(windows: int) -> None:
    """Their means are 1 over the number of places, whatever the input."""
    with Probe(Attending(windows).eval(), taps=[Tap(":stages")]) as probe:
        for _ in range(2):
            assert len(probe(torch.rand(6, 3, 8, 8)).tapped(Tap(":stages"))) == 1
        assert probe.layers == {":stages": ("patches",)}


class Windows(nn.Module):
    """A map of windows, each of which is a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.inner, self.fc = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        parts = self.inner(x.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1))
        return self.fc(parts.unflatten(0, (len(x), 2)).mean((1, 3, 4)))


def test_a_map_that_is_not_one_row_a_sample_is_no_stage() -> None:
    with Probe(Windows().eval(), taps=[Tap(":stages"), Tap(":last_map", "max")]) as probe:
        for _ in range(2):
            assert probe(torch.rand(6, 3, 8, 8)).layers.keys() == {
                ":stages|mean|0",
                ":last_map|max|0",
            }
        assert probe.layers == {":stages": ("conv",), ":last_map": ("conv",)}


def test_the_last_batch_normalisation_is_found_by_rule() -> None:
    with Probe(resnet20(), taps=[Tap(":last_norm", "moments"), Tap(":stages", "max")]) as probe:
        for _ in range(2):
            acts = probe(images())
            assert acts.layers[":last_norm|moments|0"].shape == (6, 2, 64)
        assert probe.layers[":last_norm"] == ("layer3.2.bn2",)
        assert probe.layers[":stages"] == ("layer1", "layer2", "layer3")


def test_everything_is_as_before_at_the_end() -> None:
    network = VGG().train()
    network.features.eval()
    network.classifier[1].register_forward_hook(lambda *_: None)
    modes = [m.training for m in network.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    with Probe(network) as probe:
        probe(images())
        assert not any(m.training for m in network.modules())
        with pytest.raises(RuntimeError):
            probe(torch.zeros(2, 5, 8, 8))
    assert [m.training for m in network.modules()] == modes
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()] == hooks


def test_a_probe_opens_again_with_the_head_that_it_found() -> None:
    network = VGG().train()
    probe = Probe(network)
    with probe:
        first = probe(images())
    with probe, probe:
        again = probe(images())
        assert len(network.classifier[4]._forward_pre_hooks) == 1
    assert torch.equal(first.features, again.features)
    assert network.training
    assert not network.classifier[4]._forward_pre_hooks


def test_hooks_are_removed_when_the_network_fails_on_the_first_batch() -> None:
    network = VGG()
    with Probe(network) as probe, pytest.raises(RuntimeError):
        probe(torch.zeros(2, 5, 8, 8))
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_no_gradient_is_kept() -> None:
    with Probe(VGG()) as probe:
        acts = probe(images())
    assert not acts.logits.requires_grad
    assert not acts.features.requires_grad
    assert torch.is_grad_enabled()


def test_two_probes_on_one_network_do_not_disturb_each_other() -> None:
    network = VGG()
    with Probe(network) as a, Probe(network, head="classifier.2") as b:
        first, second = a(images()), b(images())
        assert torch.equal(a(images()).features, first.features)
        assert torch.equal(b(images()).features, second.features)
    assert first.features.shape != second.features.shape


def test_threads_sharing_a_probe_see_their_own_features() -> None:
    network = VGG().eval()
    inputs = [images(4) * (i + 1) for i in range(16)]
    wrong: list[int] = []
    with Probe(network) as probe:
        expected = [probe(x).features for x in inputs]

        def work(i: int) -> None:
            for _ in range(20):
                if not torch.equal(probe(inputs[i]).features, expected[i]):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_only_uint8_images_are_normalised() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    raw = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    by_hand = (raw / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with Probe(VGG(), normalization=Normalization(mean, std)) as probe:
        assert torch.allclose(probe(raw).logits, probe(by_hand).logits, atol=1e-5)


def test_images_with_other_channels_than_the_normalisation_are_refused() -> None:
    normalization = Normalization((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    with (
        Probe(VGG(), normalization=normalization) as probe,
        pytest.raises(ShapeError, match="1 ch"),
    ):
        probe(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_output_without_logits_says_what_was_returned() -> None:
    network = Returning(lambda z, h: {"score": z[:, 0]})
    with Probe(network) as probe, pytest.raises(ShapeError, match="a dict of score: a tensor"):
        probe(small())


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ArgumentError, match="fp8"):
        Probe(VGG(), precision="fp8")


def test_the_last_of_overlapping_probes_puts_the_network_back() -> None:
    network = VGG().train()
    with Probe(network):
        second = Probe(network)
        second.__enter__()
    with Probe(network.classifier) as third:
        assert not network.training
        second.__exit__(None, None, None)
        assert network.training
        assert network.features[0].training
        assert not network.classifier[0].training  # the third still runs it
        third.logits(torch.zeros(2, 32))
    assert all(module.training for module in network.modules())


def test_a_caller_who_trains_meanwhile_goes_on_training() -> None:
    network = VGG().train()
    with Probe(network):
        network.train()
        with Probe(network):
            assert not network.training
        assert not network.training  # the first is open yet
    assert all(module.training for module in network.modules())


def test_threads_on_a_compiled_network_leave_the_compilers_stance() -> None:
    network = VGG().eval()
    network.compile(backend="eager")
    x = images()

    def work() -> None:
        with Probe(network) as probe:
            for _ in range(100):
                probe(x)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert eval_frame._stance.stance == "default"


def test_one_logit_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    with Probe(network) as probe, pytest.raises(ShapeError, match="a column of zeros"):
        probe(images())


@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda z, h: (h, z), "number 2"),
        (lambda z, h: {"features": h, "output": z}, "'output'"),
        (lambda z, h: (z[:, :, None, None], h), "number 1"),
    ],
)
def test_features_are_not_taken_for_logits(wrap: Any, where: str) -> None:
    with Probe(Returning(wrap)) as probe, pytest.raises(ShapeError, match=f"but {where} is what"):
        probe(torch.rand(6, 12))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z, h: z[:, :, None, None],
        lambda z, h: {"logits": z[:, :, None, None], "features": h},
        lambda z, h: (h[:, :, None, None], z),
    ],
)
def test_maps_of_one_pixel_are_logits_where_there_are_no_others(wrap: Any) -> None:
    network, x = Returning(wrap), torch.rand(6, 12)
    with Probe(network) as probe:
        for _ in range(2):
            acts = probe(x)
            h = x.double().numpy() @ network.body.weight.double().detach().numpy().T
            h = np.maximum(h + network.body.bias.double().detach().numpy(), 0)
            z = h @ network.fc.weight.double().detach().numpy().T
            z = z + network.fc.bias.double().detach().numpy()
            np.testing.assert_allclose(acts.logits.numpy(), z, atol=1e-5)
        assert probe.knows_head


def test_what_is_called_logits_is_not_passed_over() -> None:
    network = Returning(lambda z, h: {"logits": z[:, :, None].repeat(1, 1, 2), "features": h})
    with Probe(network) as probe, pytest.raises(ShapeError, match="must return logits of shape"):
        probe(torch.rand(6, 12))


def test_torchscript_gives_logits_and_takes_no_hooks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(VGG().eval(), images())
    with pytest.raises(ArgumentError, match="TorchScript takes no hooks"):
        Probe(scripted, head="classifier.4")
    with Probe(scripted) as probe:
        acts = probe(images())
        assert torch.allclose(acts.logits, scripted(images()), atol=1e-6)
        with pytest.raises(NeedsError, match=r"calls no torch\.nn\.Linear"):
            _ = acts.features


def test_an_exported_program_and_quantised_layers_give_logits() -> None:
    network = VGG().eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (images(2),), dynamic_shapes=dynamic).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what it will move elsewhere
        quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear})
    for other in (program, quantised):
        with Probe(other) as probe:
            acts = [probe(images()) for _ in range(2)][-1]
            assert torch.allclose(acts.logits, other(images()), atol=1e-6)
        assert not acts.has_features
        assert "calls no torch.nn.Linear" in probe.why_no_head


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_types_than_float32(dtype: torch.dtype) -> None:
    network = VGG().eval()
    with Probe(network) as probe:
        expected = probe(images())
    with Probe(network.to(dtype)) as probe:
        acts = probe(images())
        assert probe.head is not None, probe.why_no_head
    assert acts.logits.dtype == acts.features.dtype == torch.float32
    near = 1e-5 if dtype == torch.float64 else 0.05
    assert torch.allclose(acts.logits, expected.logits, atol=near)


def test_an_empty_first_batch_is_refused() -> None:
    with Probe(VGG()) as probe:
        with pytest.raises(ArgumentError, match="the first batch holds no images"):
            probe(images()[:0])
        probe(images())
        assert len(probe(images()[:0])) == 0


@pytest.mark.parametrize("older", [True, False])
def test_either_way_to_ask_for_tf32_is_seen(older: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    assert not tf32()
    try:
        if older:
            matmul.allow_tf32 = True
        else:
            matmul.fp32_precision = "tf32"
        assert tf32()
    finally:
        matmul.fp32_precision = before


class Pair(nn.Module):
    """A block that returns two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x


class Behind(nn.Module):
    """A classifier that works in place on what its head has read, behind a block of a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.pair(x)
        logits = self.fc(h)
        h.zero_()
        return logits


def test_a_block_that_returns_a_tuple_is_tapped_by_its_first_tensor() -> None:
    x = torch.rand(5, 3, 2, 2)
    with Probe(Behind(), taps=[Tap("pair", "whole")]) as probe:
        for _ in range(2):
            assert torch.equal(probe(x.clone()).tapped(Tap("pair", "whole"))[0], x.flatten(1))


def test_what_is_kept_does_not_change_when_something_works_in_place_on_it() -> None:
    x = torch.rand(5, 3, 2, 2)
    with Probe(Behind()) as probe:
        for _ in range(2):
            acts = probe(x.clone())
            assert torch.equal(acts.features, x.flatten(1))
        assert probe.knows_head
        again = probe.sample(x.clone()).run(x.clone())
        assert torch.equal(again.features, x.flatten(1))


def test_a_sample_runs_other_inputs_with_gradients_and_edits() -> None:
    network = resnet20().eval()
    x = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    with Probe(
        network, taps=[Tap(":last_map")], normalization=Normalization((0.5,), (0.2,))
    ) as probe:
        sample = probe.sample(x)
        assert torch.allclose(sample.inputs, x / 255)
        again = sample.run(sample.inputs.requires_grad_())
        assert torch.allclose(again.logits, probe(x).logits, atol=1e-5)
        assert torch.autograd.grad(again.features.sum(), sample.inputs)[0].abs().sum() > 0
        cut = sample.run(sample.inputs, edit={":last_map": torch.zeros_like})
        assert torch.equal(cut.features, torch.zeros_like(cut.features))
        assert torch.equal(probe(x).features, sample.acts.features)


def test_a_network_is_copied_while_a_probe_is_open() -> None:
    network = resnet20().eval()
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with Probe(network) as probe:
        probe(x)
        other = copy.deepcopy(network)
        assert torch.equal(other(x), network(x))


def test_a_convolution_on_a_gpu_may_miss_by_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are rounded to TF32 there, unless somebody switches that off."""
    by_maps, by_rows = (Call("head", torch.zeros(2, 3), of, None) for of in (maps, tokens))
    assert tf32_of_convolutions() in (True, False)
    monkeypatch.setattr("offmap.forward._head.tf32_of_convolutions", lambda: True)
    assert _margin_of([by_maps], torch.device("cuda"), 1e-5) == 2e-3
    assert _margin_of([by_maps], torch.device("cpu"), 1e-5) == 1e-5
    assert _margin_of([by_rows], torch.device("cuda"), 1e-5) == 1e-5
    monkeypatch.setattr("offmap.forward._head.tf32_of_convolutions", lambda: False)
    assert _margin_of([by_maps], torch.device("cuda"), 1e-5) == 1e-5


@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    if not getattr(torch, name).is_available():
        with pytest.raises(ArgumentError, match=f"{name}.*no such device"):
            Probe(nn.Linear(4, 3), device=name)


def test_a_gpu_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors there say cuda:0, and a network that is there already is not moved at each call."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    known = [as_device(name) for name in ("cuda", "cuda:1", "cpu", None)]
    assert known == [torch.device("cuda:0"), torch.device("cuda:1"), torch.device("cpu"), None]
    with pytest.raises(ArgumentError, match=r"cuda:2.*sees no such device"):
        as_device("cuda:2")


def test_a_pass_that_failed_holds_on_to_nothing() -> None:
    """After an error for want of memory, what its layers gave must not fill it further."""

    class Failing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = super().forward(x)
            if len(x) > 8:
                raise RuntimeError("out of memory")
            return z

    network = Failing(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    with Probe(network, taps=[Tap("0")]) as probe:
        probe(torch.randn(8, 6))
        with pytest.raises(RuntimeError, match="out of memory"):
            probe(torch.randn(9, 6))
        assert not probe._keeping._values
