"""The loop: each sample once, labels beside it, and a cache that knows its content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.activations import Shards, Tap
from offmap.data import ImageSet
from offmap.detectors import fit
from offmap.errors import DataError, NonFiniteError, StoreError
from offmap.forward import Probe, forward


class Counting(nn.Module):
    """A classifier that counts the samples it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc, self.seen = nn.Linear(48, 6), nn.Linear(6, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.fc(self.body(x.flatten(1)).relu())

    def __repr__(self) -> str:
        return "Counting"


@pytest.fixture
def network() -> Counting:
    torch.manual_seed(0)
    return Counting()


@pytest.fixture
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return ImageSet("generated", pixels, torch.arange(50) % 3)


def joined(batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
    pairs = [(acts.logits, acts.features) for acts, _ in batches]
    return torch.cat([z for z, _ in pairs]), torch.cat([h for _, h in pairs])


def test_labels_come_with_their_activations(network: Counting, images: ImageSet) -> None:
    pairs = list(forward(network, images, batch_size=16))
    assert [len(acts) for acts, _ in pairs] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([labels for _, labels in pairs]), images.labels)
    assert network.seen == 50


@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: (x, y),
        lambda x, y: [x, y],
        lambda x, y: {"image": x, "label": y},
        lambda x, y: {"pixel_values": x, "labels": y},
    ],
)
def test_loaders_of_any_form(network: Counting, images: ImageSet, form: Any) -> None:
    loader = [form(x, y) for x, y in images.batches(16)]
    expected = joined(forward(network, images, batch_size=16))
    assert torch.equal(joined(forward(network, loader))[0], expected[0])


def test_a_cached_pass_refuses_what_is_not_finite_only_if_it_is_strict(
    network: Counting, images: ImageSet, tmp_path: Path
) -> None:
    with torch.no_grad():
        network.fc.bias[0] = torch.nan
    for _ in range(2):  # from the network, and from the cache
        batches = forward(network, images, batch_size=16, cache=tmp_path, strict=False)
        assert joined(batches)[0].isnan().any()
    assert network.seen == 50
    with pytest.raises(NonFiniteError, match="not finite for 16 samples"):
        list(forward(network, images, batch_size=16, cache=tmp_path))


def test_images_alone_have_no_labels(network: Counting, images: ImageSet) -> None:
    (_, labels), *_ = forward(network, [x for x, _ in images.batches(16)])
    assert labels is None


def test_empty_and_odd_data_are_refused(network: Counting) -> None:
    with pytest.raises(DataError, match="no samples"):
        list(forward(network, []))
    with pytest.raises(DataError, match="seen str"):
        list(forward(network, ["a.jpg"]))


def test_non_finite_activations_name_the_samples(network: Counting, images: ImageSet) -> None:
    pixels = images.images.float() / 255
    pixels[[20, 33]] = torch.inf
    bad = [(part, None) for part in pixels.split(16)]
    with pytest.raises(NonFiniteError, match=r"1 samples .* \[20\]"):
        list(forward(network, bad))


def test_an_abandoned_pass_removes_its_hooks(network: Counting, images: ImageSet) -> None:
    network.train()
    batches = forward(network, images, batch_size=16)
    next(batches)
    assert network.fc._forward_pre_hooks
    batches.close()
    assert not network.fc._forward_pre_hooks
    assert network.training


def test_a_second_run_reads_the_cache(network: Counting, images: ImageSet, tmp_path: Path) -> None:
    first = joined(forward(network, images, batch_size=16, cache=tmp_path))
    with Probe(network) as probe:
        second = joined(forward(probe, images, batch_size=16, cache=tmp_path))
        assert probe.head is not None
        assert torch.equal(probe.head.weight, network.fc.weight)
    assert network.seen == 50
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_changed_weights_images_or_precision_are_another_key(
    network: Counting, images: ImageSet, tmp_path: Path
) -> None:
    list(forward(network, images, cache=tmp_path))
    list(forward(network, images.subset(torch.arange(49)), cache=tmp_path))
    list(forward(network, images, cache=tmp_path, precision="bf16"))
    with torch.no_grad():
        network.fc.bias += 1e-3
    list(forward(network, images, cache=tmp_path))
    assert network.seen == 50 + 49 + 50 + 50
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def interrupted(
    network: Counting, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The cache of a pass that was broken off after three batches, each in a shard of its own."""
    plain = Shards.__init__
    monkeypatch.setattr(Shards, "__init__", lambda self, folder: plain(self, folder, shard_bytes=1))
    batches = forward(network, images, batch_size=10, cache=tmp_path)
    for _ in range(3):
        next(batches)
    batches.close()
    return tmp_path


def test_an_interrupted_pass_goes_on_where_it_stopped(
    network: Counting, images: ImageSet, interrupted: Path
) -> None:
    assert network.seen == 30
    resumed = joined(forward(network, images, batch_size=10, cache=interrupted))
    assert network.seen <= 60  # what was stored is not run again; the last batch may not have been
    assert torch.equal(resumed[0], joined(forward(network, images, batch_size=10))[0])


def test_detectors_of_an_interrupted_pass_still_have_their_head(
    network: Counting, images: ImageSet, interrupted: Path
) -> None:
    with Probe(network) as probe:
        made = offmap.ViM(2)
        fit(
            [made],
            train=forward(probe, images, batch_size=10, cache=interrupted),
            head=lambda: probe.head,
        )
    assert made.fitted


def test_corrected_labels_are_not_read_from_the_cache(
    network: Counting, images: ImageSet, tmp_path: Path
) -> None:
    other = replace(images, labels=(images.labels + 1) % 3)
    for data in (images, other):
        pairs = list(forward(network, data, cache=tmp_path))
        assert torch.equal(torch.cat([labels for _, labels in pairs]), data.labels)


def test_the_same_images_under_other_names_have_their_own_keys(
    network: Counting, images: ImageSet, tmp_path: Path
) -> None:
    for name in ("before", "after"):
        keys = tuple(f"{name}/{i}.png" for i in range(50))
        named = replace(images, sample_keys=keys)
        pairs = list(forward(network, named, batch_size=16, cache=tmp_path))
        assert tuple(key for acts, _ in pairs for key in acts.keys) == keys
    assert network.seen == 50


def test_stored_activations_come_to_the_device_of_the_probe(
    network: Counting, images: ImageSet, tmp_path: Path
) -> None:
    """The device "meta" stands for one that files are not read onto."""
    list(forward(network, images, cache=tmp_path))
    with Probe(network) as probe:
        probe.device = torch.device("meta")
        pairs = list(forward(probe, images, cache=tmp_path))
        assert {x.device.type for acts, y in pairs for x in (acts.logits, acts.features, y)} == {
            "meta"
        }
        assert probe.head is not None
        assert probe.head.weight.device.type == "meta"


def test_loaders_are_not_cached(network: Counting, images: ImageSet, tmp_path: Path) -> None:
    list(forward(network, list(images.batches(16)), cache=tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_an_error_that_names_it(
    network: Counting, images: ImageSet, tmp_path: Path
) -> None:
    list(forward(network, images, cache=tmp_path))
    (shard,) = tmp_path.glob("*/0*.safetensors")
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"000000\.safetensors"):
        list(forward(network, images, cache=tmp_path))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["a.png", "b.png"], None),
        ([{"box": 1}, {"box": 2}], None),
        ({"boxes": [1, 2]}, None),
        ([[1], [1, 2]], None),
        (np.array([3, 4]), [3, 4]),
        ([3, 4], [3, 4]),
        ((torch.tensor(3), torch.tensor(4)), [3, 4]),
    ],
)
def test_labels_are_numbers_or_none(network: Counting, given: Any, kept: Any) -> None:
    [(_, labels)] = forward(network, [(torch.zeros(2, 3, 4, 4), given)])
    assert (None if labels is None else labels.tolist()) == kept


def test_another_reduction_is_another_key(
    network: Counting, images: ImageSet, tmp_path: Path
) -> None:
    kept = []
    for name in ("mean", "max", "mean"):
        tap = Tap("body", name)
        batches = forward(network, images, taps=[tap], cache=tmp_path)
        kept.append(torch.cat([acts.tapped(tap)[0] for acts, _ in batches]))
    assert network.seen == 2 * 50
    assert torch.equal(kept[2], kept[0])


def test_keys_are_those_of_the_samples_that_were_read(network: Counting) -> None:
    """A set passes over what is damaged, and the keys behind it do not move up."""

    class Damaged(ImageSet):
        def keyed_batches(self, batch_size: int, start: int = 0) -> Iterator[Any]:
            for i in range(start, len(self), 2):  # the others cannot be read
                yield self.images[i : i + 1], None, self.keys(i, i + 1)

    whole = Damaged("some", torch.zeros(5, 3, 4, 4, dtype=torch.uint8))
    keys = [key for acts, _ in forward(network, whole) for key in acts.keys]
    assert keys == [whole.keys(i, i + 1)[0] for i in (0, 2, 4)]


def test_activations_leave_on_one_device_wherever_layers_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device "meta" stands for that of a network that is spread over several."""
    monkeypatch.setattr(Probe, "home", torch.device("meta"))
    maps = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    network = nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    taps = [Tap(":stages", "mean"), Tap("0.0", "max")]
    with Probe(network, taps=taps) as probe:
        for _ in range(2):  # the first batch is that by which head and layers are found
            acts = probe(torch.rand(40, 3, 8, 8))
            there = [acts.logits, acts.features, *acts.layers.values()]
            assert {x.device.type for x in there} == {"meta"}
            assert len(acts.layers) == 2
        assert probe.head is not None
        assert probe.head.weight.device.type == "meta"


def test_a_head_follows_a_network_that_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(nn.Linear(4, 3))
    probe(torch.rand(40, 4))
    monkeypatch.setattr(Probe, "home", torch.device("meta"))
    with probe:
        assert probe.head is not None
        assert probe.head.weight.device.type == "meta"
