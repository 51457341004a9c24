"""Networks and the reading of foreign checkpoints."""

from __future__ import annotations

import argparse
import itertools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import offmap
from offmap.errors import ArgumentError, StoreError, UnknownNameError
from offmap.networks import (
    AnchorHead,
    DigitsCNN,
    Ensemble,
    build,
    densenet_bc100,
    digits_cnn,
    factories,
    is_own,
    letters_cnn,
    load_weights,
    mnist_cnn,
    resnet18,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    vgg16,
    wrn40_2,
    wrn40_4,
)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("make", "millions"), [(resnet20, 0.27), (resnet32, 0.46), (resnet44, 0.66), (resnet56, 0.85)]
)
def test_parameter_counts_are_the_papers(make: type[nn.Module], millions: float) -> None:
    """Table 6 of He et al. 2016."""
    assert round(count(make()) / 1e6, 2) == millions


def conv(size: int, inside: int, outside: int) -> int:
    return size * size * inside * outside


def linear(inside: int, outside: int) -> int:
    return inside * outside + outside


def wide(width: int) -> int:
    """Six blocks a stage; the first of each widens, by a 1x1 convolution beside it."""
    total, inside = conv(3, 3, 16), 16
    for outside in (16 * width, 32 * width, 64 * width):
        first = conv(3, inside, outside) + conv(3, outside, outside) + conv(1, inside, outside)
        rest = 5 * (2 * conv(3, outside, outside) + 4 * outside)
        total += first + 2 * inside + 2 * outside + rest
        inside = outside
    return total + 2 * inside + linear(inside, 10)


def dense(classes: int) -> int:
    """Sixteen bottleneck layers a block; a reduction to a half between the blocks."""
    total, inside = conv(3, 3, 24), 24
    for block in range(3):
        for _ in range(16):
            total += 2 * inside + conv(1, inside, 48) + 2 * 48 + conv(3, 48, 12)
            inside += 12
        if block < 2:
            total += 2 * inside + conv(1, inside, inside // 2)
            inside //= 2
    return total + 2 * inside + linear(inside, classes)


def eighteen(classes: int) -> int:
    total, inside = conv(3, 3, 64) + 2 * 64, 64
    for outside in (64, 128, 256, 512):
        total += conv(3, inside, outside) + 3 * conv(3, outside, outside) + 4 * 2 * outside
        total += 0 if inside == outside else conv(1, inside, outside) + 2 * outside
        inside = outside
    return total + linear(512, classes)


def sixteen(unit: int) -> int:
    """Channels in units of 64; a bias and batch normalisation for each convolution."""
    channels = [3, *(unit * n for n in (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8))]
    convolutions = sum(conv(3, i, o) + o + 2 * o for i, o in itertools.pairwise(channels))
    last = 8 * unit
    return convolutions + linear(last, 2 * last) + linear(2 * last, last) + linear(last, 10)


MNIST = sum((25 * 32 + 32, conv(5, 32, 32) + 32, conv(5, 32, 64) + 64, linear(576, 256)))
LETTERS = sum(
    (9 * 16 + 16, conv(3, 16, 32) + 32, conv(3, 32, 64) + 64, linear(576, 128), linear(128, 10))
)
DIGITS = sum((9 * 16 + 16, conv(3, 16, 32) + 32, linear(512, 64), linear(64, 8)))


@pytest.mark.parametrize(
    ("spec", "worked_out", "known"),
    [
        ("wrn40_2", wide(2), 2_243_546),
        ("wrn40_4", wide(4), 8_949_210),
        ("resnet18", eighteen(10), 11_173_962),
        ("resnet18(classes=100, dropout=0.5)", eighteen(100), 11_220_132),
        ("densenet_bc100", dense(10), 769_162),
        ("densenet_bc100(classes=100)", dense(100), 800_032),
        ("vgg16", sixteen(64), 15_778_378),
        ("vgg16(width=0.25)", sixteen(16), 990_106),
        ("mnist_cnn", MNIST + linear(256, 10), 228_010),
        ("digits_cnn", DIGITS, 38_152),
        ("letters_cnn", LETTERS, 98_442),
    ],
)
def test_parameter_counts_are_those_worked_out_by_hand(
    spec: str, worked_out: int, known: int
) -> None:
    assert count(build(spec)) == worked_out == known


SHAPES = {"digits_cnn": (1, 8, 8), "mnist_cnn": (1, 28, 28), "letters_cnn": (1, 28, 28)}
AROUND = ("anchor_head", "ensemble")


@pytest.mark.parametrize("name", AROUND)
def test_the_count_of_what_stands_around_networks_is_in_its_docstring(name: str) -> None:
    assert f"{count(build(name)):,} parameters" in str(factories()[name].__doc__)


@pytest.mark.parametrize("name", [name for name in factories() if name not in AROUND])
def test_every_network_maps_images_to_logits_and_has_a_head(name: str) -> None:
    torch.manual_seed(0)
    network = build(f"{name}(classes=7)")
    images = torch.randn(3, *SHAPES.get(name, (3, 32, 32)))
    with offmap.Probe(network) as probe:
        acts = probe(images)
    assert acts.logits.shape == (3, 7)
    assert probe.head is not None, probe.why_no_head
    assert probe.head.weight.shape == (7, acts.features.shape[1])
    # Counts stand in the docstrings, for the default classes.
    assert f"{count(build(name)):,} parameters" in str(factories()[name].__doc__)


@pytest.mark.parametrize("make", [resnet18, vgg16, mnist_cnn, digits_cnn, letters_cnn, wrn40_2])
def test_dropout_acts_in_training_alone(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, *SHAPES.get(make.__name__, (3, 32, 32)))
    network = make(dropout=0.5).eval()
    assert torch.equal(network(images), network(images))
    for module in network.modules():  # batch normalisation alone would not differ between calls
        module.training = not isinstance(module, nn.BatchNorm2d)
    assert not torch.equal(network(images), network(images))
    # Without dropout, the weights have the same names: a network trained with it loads into one.
    assert make(dropout=0.0).state_dict().keys() == network.state_dict().keys()


def test_the_head_of_resnet18_stays_a_linear_layer_behind_dropout() -> None:
    with offmap.Probe(resnet18(classes=5, dropout=0.5)) as probe:
        acts = probe(torch.randn(2, 3, 32, 32))
    assert probe.head_name == "fc"
    assert probe.head is not None
    assert acts.features.shape == (2, 512)


def test_resnet18_keeps_small_images_large_and_has_the_usual_names() -> None:
    network = resnet18().eval()
    sizes = {}
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        layer = network.get_submodule(name)
        layer.register_forward_hook(lambda m, x, y, n=name: sizes.update({n: tuple(y.shape[1:])}))
    network(torch.zeros(1, 3, 32, 32))
    assert sizes == {
        "conv1": (64, 32, 32),
        "layer1": (64, 32, 32),
        "layer2": (128, 16, 16),
        "layer3": (256, 8, 8),
        "layer4": (512, 4, 4),
    }
    names = set(network.state_dict())
    assert {"bn1.running_var", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias"} < names
    assert {"layer3.0.downsample.1.running_mean", "fc.weight", "fc.bias"} < names
    assert not any(name.startswith("layer1.0.downsample") for name in names)


def test_the_wide_network_is_the_published_code() -> None:
    """Written again from the names of the weights, as the authors' forward pass goes."""
    network = randomised(build("offmap.networks:WideResNet(depth=16, width=2)")).double().eval()
    w = network.state_dict()

    def activated(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, scale, shift = (
            w[f"{name}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    x = images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    x = nn.functional.conv2d(x, w["conv1.weight"], padding=1)
    for block in (1, 2, 3):
        for i in range(2):
            here, stride = f"block{block}.layer.{i}", 2 if block > 1 and i == 0 else 1
            out = activated(x, f"{here}.bn1")
            if i == 0:  # the widening block activates its shortcut too
                x = nn.functional.conv2d(out, w[f"{here}.convShortcut.weight"], stride=stride)
            out = nn.functional.conv2d(out, w[f"{here}.conv1.weight"], stride=stride, padding=1)
            out = activated(out, f"{here}.bn2")
            x = x + nn.functional.conv2d(out, w[f"{here}.conv2.weight"], padding=1)
    x = nn.functional.avg_pool2d(activated(x, "bn1"), 8).flatten(1)
    torch.testing.assert_close(network(images), x @ w["fc.weight"].T + w["fc.bias"])


def test_the_dense_network_is_the_published_code() -> None:
    """Written again from the names of the weights: every layer reads all before it."""
    network = build("offmap.networks:DenseNet(depth=16, growth=4)")
    network = randomised(network).double().eval()
    w = network.state_dict()

    def activated(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        values = (w[f"{name}.{part}"] for part in parts)
        return nn.functional.batch_norm(x, *values).clamp(min=0)

    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    channels = [nn.functional.conv2d(images, w["conv1.weight"], padding=1)]
    for block in (1, 2, 3):
        for i in range(2):
            here = f"block{block}.layer.{i}"
            x = activated(torch.cat(channels, 1), f"{here}.bn1")
            x = activated(nn.functional.conv2d(x, w[f"{here}.conv1.weight"]), f"{here}.bn2")
            channels.append(nn.functional.conv2d(x, w[f"{here}.conv2.weight"], padding=1))
        if block < 3:
            x = activated(torch.cat(channels, 1), f"trans{block}.bn1")
            x = nn.functional.conv2d(x, w[f"trans{block}.conv1.weight"])
            channels = [x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))]
    x = activated(torch.cat(channels, 1), "bn1").mean((2, 3))
    torch.testing.assert_close(network(images), x @ w["fc.weight"].T + w["fc.bias"])


def test_vgg_normalises_after_the_activation() -> None:
    kinds = [type(layer).__name__ for layer in vgg16(width=0.05).features]
    stage = ["Conv2d", "ReLU", "BatchNorm2d"]
    counts = (2, 2, 3, 3, 3)
    assert kinds == [kind for n in counts for kind in [*(stage * n), "MaxPool2d"]]


def test_the_mnist_network_averages_after_its_second_and_third_convolution() -> None:
    torch.manual_seed(0)
    network, x = mnist_cnn().eval(), torch.randn(2, 1, 28, 28)
    one, two, three = network.conv1, network.conv2, network.conv3
    y = two(one(x).relu()).relu().unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    y = three(y).relu().unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    assert y.shape == (2, 64, 3, 3)
    expected = network.fc2(network.fc1(y.flatten(1)).relu())
    torch.testing.assert_close(network(x), expected)


def published_names(depth: int = 40) -> set[str]:
    """The names in the checkpoints of the wide networks, as their authors' code makes them."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{part}" for part in norm)}
    for block in (1, 2, 3):
        names.add(f"block{block}.layer.0.convShortcut.weight")
        for i in range((depth - 4) // 6):
            here = f"block{block}.layer.{i}"
            names |= {f"{here}.{bn}.{part}" for bn in ("bn1", "bn2") for part in norm}
            names |= {f"{here}.{conv}.weight" for conv in ("conv1", "conv2")}
    return names


def randomised(network: nn.Module) -> nn.Module:
    """With other values in every tensor, so that one which is not loaded shows."""
    generator = torch.Generator().manual_seed(1)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
        else:
            value.fill_(7)
    return network


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_the_original_wide_baseline_loads(tmp_path: Path) -> None:
    """A bare state dict, ``cifar10_wrn_baseline_epoch_99.pt``."""
    source = randomised(wrn40_2())
    assert set(source.state_dict()) == published_names()
    torch.save(source.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert_same(source, build("wrn40_2(dropout=0.3)", weights=tmp_path / "w.pt"))


def test_the_original_pixmix_file_loads(tmp_path: Path) -> None:
    """``checkpoint.pth.tar``: names of DataParallel, another for the shortcut, an optimizer."""
    source = randomised(wrn40_4())
    names = {name: name.replace("convShortcut", "conv_shortcut") for name in published_names()}
    state = {f"module.{names[name]}": value for name, value in source.state_dict().items()}
    assert "module.block2.layer.0.conv_shortcut.weight" in state
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 99, "model": "wrn", "best_acc": 0.96, "optimizer": optimizer}
    torch.save({**content, "state_dict": state}, tmp_path / "checkpoint.pth.tar")
    assert_same(source, load_weights(wrn40_4(), tmp_path / "checkpoint.pth.tar"))
    with pytest.raises(StoreError, match=r"bn1\.weight: shape \(64,\), not \(32,\)"):
        load_weights(wrn40_2(), tmp_path / "checkpoint.pth.tar")


def test_files_of_the_resnet20_family_load(tmp_path: Path) -> None:
    source = randomised(resnet20())
    state = {f"module.{name}": value for name, value in source.state_dict().items()}
    expected = {"module.conv1.weight", "module.layer3.2.bn2.running_var", "module.linear.bias"}
    assert expected < set(state)
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "w.th")
    assert_same(source, load_weights(resnet20(), tmp_path / "w.th"))
    named = {name.replace("linear.", "fc."): value for name, value in source.state_dict().items()}
    torch.save(named, tmp_path / "fc.th")
    assert_same(source, load_weights(resnet20(), tmp_path / "fc.th"))


def test_the_dense_networks_of_the_dice_study_load(tmp_path: Path) -> None:
    """``state_dict`` beside an epoch; as many classes as are in the file, or else a refusal."""
    source = randomised(densenet_bc100(classes=100))
    names = {"block3.layer.15.bn2.running_var", "trans2.conv1.weight", "bn1.weight", "fc.bias"}
    assert names < set(source.state_dict())
    path = tmp_path / "w.pth.tar"
    torch.save({"epoch": 100, "state_dict": source.state_dict()}, path)
    assert_same(source, build("densenet_bc100", weights=path))
    assert_same(source, build("densenet_bc100(classes=100)", weights=path))
    with pytest.raises(StoreError, match=r"fc\.weight: shape \(100, 342\), not \(7, 342\)"):
        build("densenet_bc100(classes=7)", weights=path)


@pytest.mark.parametrize("name", [name for name in factories() if name not in AROUND])
def test_a_network_has_as_many_classes_as_its_checkpoint(name: str, tmp_path: Path) -> None:
    source = build(f"{name}(classes=3)")
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    assert_same(source, build(name, weights=tmp_path / "w.pt"))


@pytest.mark.parametrize("head", ["fc", "linear", "fc.1"])
def test_resnet18s_of_others_load(tmp_path: Path, head: str) -> None:
    source = randomised(resnet18(classes=3))
    state = {
        name.replace("downsample", "shortcut").replace("fc.", f"{head}."): value
        for name, value in source.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pt")
    assert_same(source, load_weights(resnet18(classes=3), tmp_path / "w.pt"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_other_precisions_become_the_networks(
    tmp_path: Path, dtype: torch.dtype, name: str
) -> None:
    source = resnet20()
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)
    loaded = load_weights(resnet20(), tmp_path / name).state_dict()
    for key, value in source.state_dict().items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value.to(dtype).to(value.dtype))


def test_quantised_weights_are_not_taken_for_the_weights(tmp_path: Path) -> None:
    state = DigitsCNN(4).state_dict()
    state["0.weight"] = (100 * state["0.weight"]).to(torch.int8)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(StoreError, match=r"0\.weight: torch\.int8, not torch\.float32"):
        load_weights(DigitsCNN(4), tmp_path / "w.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"args": argparse.Namespace(lr=0.1)}, r"argparse\.Namespace"),
        ({"optimizer": {"best": np.float64(0.9)}}, r"numpy\S*\.scalar"),
        ({"network": nn.Linear(2, 2)}, r"torch\.nn\.modules\.linear\.Linear"),
    ],
)
def test_objects_beside_the_weights_are_named(
    tmp_path: Path, beside: dict[str, Any], named: str, zipped: bool
) -> None:
    content = {"state_dict": DigitsCNN(4).state_dict(), **beside}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(StoreError, match=rf"holds objects \(.*{named}.*save the tensors alone"):
        load_weights(DigitsCNN(4), tmp_path / "w.pt")


@pytest.mark.parametrize(
    "files",
    [
        ["model.ckpt.index", "model.ckpt.data-00000-of-00001"],
        ["model.h5"],
        ["model.keras"],
        ["saved_model.pb"],
    ],
)
def test_tensorflow_checkpoints_are_refused_with_the_way_out(
    tmp_path: Path, files: list[str]
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"content")
    whole = [tmp_path / "model.ckpt"] if len(files) == 2 else []
    folder = [tmp_path] if files == ["saved_model.pb"] else []
    for path in [*(tmp_path / name for name in files), *whole, *folder]:
        with pytest.raises(StoreError, match=r"TensorFlow.*To convert it.*save_file"):
            load_weights(DigitsCNN(4), path)


def test_keras_weights_are_known_by_their_content_and_folders_by_kind(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"\x89HDF\r\n\x1a\n and more")
    with pytest.raises(StoreError, match="TensorFlow"):
        load_weights(DigitsCNN(4), tmp_path / "w.pt")
    with pytest.raises(StoreError, match="is a folder"):
        load_weights(DigitsCNN(4), tmp_path)
    # Lightning too calls its checkpoints .ckpt.
    torch.save({"state_dict": DigitsCNN(4).state_dict()}, tmp_path / "last.ckpt")
    load_weights(DigitsCNN(4), tmp_path / "last.ckpt")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "module._orig_mod.", "_orig_mod.module.", "model.net."]
)
def test_foreign_checkpoints(tmp_path: Path, wrap: object, prefix: str) -> None:
    torch.manual_seed(0)
    network = DigitsCNN(4)
    state = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pt")  # type: ignore[operator]
    loaded = load_weights(DigitsCNN(4), tmp_path / "w.pt")
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_counters_that_old_files_lack_are_no_difference(tmp_path: Path) -> None:
    state = {k: v for k, v in resnet20().state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(resnet20(), tmp_path / "w.safetensors")


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = DigitsCNN(5).state_dict()
    state["extra"] = torch.zeros(1)
    del state["0.bias"]
    save_file(state, tmp_path / "w.safetensors")
    network = DigitsCNN(4)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(StoreError) as error:
        load_weights(network, tmp_path / "w.safetensors")
    for line in ("9.weight: shape (5, 64), not (4, 64)", "0.bias: missing", "extra: unexpected"):
        assert line in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # what a hostile file might do


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "w.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Payload()))
    for name in ("w.pt", "plain.pkl"):
        with pytest.raises(StoreError, match="tensors alone"):
            load_weights(DigitsCNN(4), name)
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02."])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError):
            load_weights(DigitsCNN(4), tmp_path / name)
    with pytest.raises(StoreError, match="no checkpoint at"):
        load_weights(DigitsCNN(4), tmp_path / "absent.pt")


def test_models_by_name(tmp_path: Path) -> None:
    assert isinstance(build("resnet20"), nn.Module)
    assert isinstance(build("offmap.networks:resnet20"), nn.Module)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nnet = lambda: nn.Linear(2, 3)\nx = int\n"
    )
    assert isinstance(build(f"{tmp_path}/mine.py:net"), nn.Linear)
    with pytest.raises(ArgumentError, match=r"must return a torch\.nn\.Module"):
        build(f"{tmp_path}/mine.py:x")


def test_a_file_may_have_dataclasses_and_neighbours(tmp_path: Path) -> None:
    (tmp_path / "layers_x.py").write_text("from torch import nn\nLayer = nn.Linear\n")
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from layers_x import Layer\n@dataclass\nclass Sizes:\n    a: int = 2\n"
        "def make():\n    return Layer(Sizes().a, 3)\n"
    )
    before = list(sys.path)
    assert isinstance(build(f"{tmp_path}/net.py:make"), nn.Linear)
    assert sys.path == before
    (tmp_path / "lost.py").write_text("import no_such_neighbour\n")
    with pytest.raises(UnknownNameError, match=r"no_such_neighbour.*beside the file"):
        build(f"{tmp_path}/lost.py:make")


def test_specs_carry_arguments(tmp_path: Path) -> None:
    network = build("wrn40_2(dropout=0.25, classes=3)")
    assert network.get_submodule("block1.layer.0").dropout == 0.25
    assert build("offmap.networks:resnet20( classes = 4 )").linear.out_features == 4
    assert build("offmap.networks:WideResNet(depth=16, width=1)").fc.in_features == 64
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(sizes, note='', **rest):\n"
        "    made = nn.Linear(*sizes)\n"
        "    made.note, made.rest = note, rest\n"
        "    return made\n"
    )
    made = build(f"{tmp_path}/mine.py:net(sizes=[2, 3], note='a:b(c=1)', deep={{'x': None}})")
    assert isinstance(made, nn.Linear)
    assert made.weight.shape == (3, 2)
    assert made.note == "a:b(c=1)"
    assert made.rest == {"deep": {"x": None}}


@pytest.mark.parametrize(
    "arguments",
    [
        "__import__('os').system('touch ran')",
        "classes=__import__('os').system('touch ran')",
        "classes=open('ran', 'w')",
        "classes=[x for x in (1,)]",
        "classes={1, 2}",
        "classes=b'1'",
        "classes=1e999",
        "classes=" + "(" * 300 + ")" * 300,
        "10",
        "*[1]",
        "**{'classes': 3}",
        "classes=3, classes=4",
        "classes=3)(classes=4",
        "classes=",
        "colour=3",
        "classes=0",
        "classes=True",
        "classes='ten'",
        "classes=1e3",
        "classes=10**30",
    ],
)
@pytest.mark.parametrize("place", ["", "offmap.networks:"])
def test_arguments_are_plain_values_that_the_factory_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = ArgumentError if not place else (ArgumentError, TypeError)
    with pytest.raises(expected):
        build(f"{place}resnet20({arguments})")
    assert not Path("ran").exists()


def test_a_wrong_argument_is_told_from_a_fault_in_the_factory(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def net(classes):\n    return len(classes)\n")
    for wrong in ("colour=3", ""):
        with pytest.raises(ArgumentError, match=r"its arguments are \(classes\)"):
            build(f"{tmp_path}/mine.py:net({wrong})")
    with pytest.raises(TypeError, match=r"has no len\(\)"):
        build(f"{tmp_path}/mine.py:net(classes=3)")


@pytest.mark.parametrize(
    "spec",
    [
        *("resnet18(dropout=1.0)", "resnet18(dropout=-0.1)", "vgg16(width=0)", "vgg16(width=-1)"),
        *(
            "mnist_cnn(dropout=2)",
            "wrn40_2(dropout=1)",
            "wrn40_4(classes=0)",
            "digits_cnn(classes=-1)",
        ),
        *(
            "resnet20(classes=1000000000000)",
            "",
            "resnet20(",
            "resnet20()()",
            "a b",
            "zoo(name='x')",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(spec: str) -> None:
    with pytest.raises(ArgumentError):
        build(spec)


def test_what_may_be_built_on_the_word_of_a_record() -> None:
    assert all(is_own(name) for name in factories())
    assert is_own("vgg16(width=0.25)")
    foreign = ["os:system", "offmap.networks:resnet20", "mine.py:net", "load_weights", "build", "x"]
    assert not any(is_own(spec) for spec in [*foreign, "WideResNet(depth=16, width=1)", "zoo", ""])
    assert {"build", "load_weights", "factories", "is_own", "zoo"}.isdisjoint(factories())


@pytest.mark.parametrize(
    "spec",
    [
        *("resnet21", "offmap.networks:no", "no.such.module:f", "absent.py:f"),
        *(".relative:f", "absent.py:f(classes=3)", "resnet21(classes=3)"),
    ],
)
def test_unknown_models_are_refused(spec: str) -> None:
    with pytest.raises(UnknownNameError):
        build(spec)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean wrn40_2"):
        build("wrn402")


def test_an_anchor_head_gives_minus_the_distances() -> None:
    torch.manual_seed(0)
    network = AnchorHead(digits_cnn(classes=5), magnitude=3.0).eval()
    x = torch.rand(4, 1, 8, 8)
    place = network.place(x).detach().double().numpy()
    for i, row in enumerate(network(x).detach()):
        for j, value in enumerate(row.tolist()):
            gap = place[i] - 3.0 * np.eye(5)[j]
            assert -value == pytest.approx(np.sqrt((gap**2).sum()), rel=1e-5)


def test_an_anchor_head_takes_its_classes_from_the_network_or_the_caller() -> None:
    assert AnchorHead(resnet20(classes=7)).anchors.shape == (7, 7)
    assert AnchorHead(nn.Flatten(), classes=3).anchors.shape == (3, 3)
    with pytest.raises(ArgumentError, match="give classes="):
        AnchorHead(nn.Flatten())
    with pytest.raises(ArgumentError, match="magnitude"):
        AnchorHead(resnet20(), magnitude=0.0)
    # In the state, so that weights that load again give the same answers.
    assert "anchors" in AnchorHead(resnet20()).state_dict()


def test_an_ensemble_answers_with_the_mean_of_its_members_probabilities() -> None:
    network = build("ensemble(network='digits_cnn', members=3)").eval()
    x = torch.randn(5, 1, 8, 8)
    p = torch.stack([member(x).double().softmax(1) for member in network.members]).mean(0)
    assert torch.allclose(network(x).double(), p.log(), atol=1e-6)
    weights = [member[0].weight for member in network.members]
    assert not torch.equal(weights[0], weights[1])


def test_ensembles_and_anchor_heads_of_the_library_hold_plain_networks_of_it() -> None:
    assert build("anchor_head(network='digits_cnn(classes=5)', magnitude=3)").anchors.max() == 3
    with pytest.raises(ArgumentError, match="at least one member"):
        Ensemble([])
    with pytest.raises(ArgumentError, match=r"members.*seen 0"):
        build("ensemble(members=0)")
    with pytest.raises(ArgumentError, match="at most 100 members"):
        build("ensemble(members=1000000)")
    with pytest.raises(ArgumentError, match="cannot stand inside"):
        build("ensemble(network='anchor_head', members=2)")
    with pytest.raises(UnknownNameError):
        build("anchor_head(network='os:system')")
