"""On real data: published and known figures come out. Skipped where OFFMAP_DATA is not set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn import functional as F

import offmap
from offmap.data import ImageSet, load
from offmap.networks import build, load_weights

pytestmark = pytest.mark.real


class OutlierExposureCNN(nn.Module):
    """The MNIST network of Hendrycks et al. (ICLR 2019), whose checkpoints are published."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        def gelu(x: Tensor) -> Tensor:
            return x * torch.sigmoid(1.702 * x)

        x = gelu(F.max_pool2d(self.conv1(x), 2))
        x = gelu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(gelu(self.fc1(x.flatten(1))))


def test_resnet20_has_its_known_accuracy(real_data: Path) -> None:
    weights = real_data / "checkpoints" / "resnet20-12fca82f.th"
    normalization = offmap.Normalization(*offmap.data.channel_statistics("imagenet"))
    test = load("cifar10:test")
    right = 0
    with offmap.Probe(build("resnet20", weights=weights), normalization=normalization) as probe:
        for acts, labels in offmap.forward.forward(probe, test):
            right += int((acts.logits.argmax(1) == labels).sum())
        assert probe.head_name == "linear"
        assert probe.head is not None
    assert abs(right - 9173) <= 3  # rounding differs between machines on a few images


def test_the_dense_network_of_the_dice_study_has_its_known_accuracy(real_data: Path) -> None:
    """94.3 % on the whole test set: of some images as many right as that makes likely."""
    weights = real_data / "checkpoints" / "densenet_bc100_cifar10.pth.tar"
    normalization = offmap.Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    images = load("cifar10:test", limit=400)
    right = 0
    with offmap.Probe(
        build("densenet_bc100", weights=weights), normalization=normalization
    ) as probe:
        for acts, labels in offmap.forward.forward(probe, images, batch_size=100):
            right += int((acts.logits.argmax(1) == labels).sum())
        assert probe.head_name == "fc"
    low, high = binom(len(images), 0.943).interval(0.999)
    assert low <= right <= high


def test_the_dense_network_of_a_hundred_classes_is_known_by_its_file(real_data: Path) -> None:
    weights = real_data / "checkpoints" / "densenet_bc100_cifar100.pth.tar"
    network = build("densenet_bc100", weights=weights)
    assert sum(p.numel() for p in network.parameters()) == 800_032


def test_published_figures_of_the_outlier_exposure_study(real_data: Path) -> None:
    """MSP on MNIST: error 0.94 %; AUROC of noise 99.96, CIFAR-10 99.87, notMNIST 96.04."""
    network = load_weights(
        OutlierExposureCNN(), real_data / "checkpoints" / "mnist_baseline_epoch_9.pt"
    )
    test = load("mnist:test")
    generator = torch.Generator().manual_seed(0)
    noise = (0.5 + 0.5 * torch.randn(2000, 1, 28, 28, generator=generator)).clamp(0, 1)
    ood = {
        "noise": ImageSet("noise", noise),
        "cifar10": offmap.data.load_like("cifar10", test, limit=2000),
        "notmnist": offmap.data.load_like("notmnist", test, limit=2000),
    }
    found = offmap.evaluate(network, id_test=test, ood=ood, detectors=["msp"])
    right, total = found.accuracy or (0, 1)
    assert 1 - right / total == pytest.approx(0.0094, abs=2e-4)
    assert found.get("msp", "noise") == pytest.approx(0.9996, abs=5e-4)
    # The samples drawn are not the authors': their grey conversion and choice are not known.
    assert found.get("msp", "cifar10") == pytest.approx(0.9987, abs=2e-3)
    assert found.get("msp", "cifar10", "fpr_ood_caught") == pytest.approx(0.0086, abs=8e-3)
    assert found.get("msp", "notmnist") == pytest.approx(0.9604, abs=1.5e-2)


def test_knn_distances_are_those_of_scikit_learn(real_data: Path) -> None:
    from sklearn.neighbors import NearestNeighbors

    weights = real_data / "checkpoints" / "resnet20-12fca82f.th"
    network = build("resnet20", weights=weights)
    features = []
    for split, limit in (("train", 5000), ("test", 500)):
        batches = offmap.forward.forward(network, load(f"cifar10:{split}", limit=limit))
        features.append(torch.cat([acts.features for acts, _ in batches]))
    train, test = (x.double().numpy() for x in features)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test)]
    expected = NearestNeighbors(n_neighbors=50).fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    logits = torch.zeros(len(train), 2)
    made = offmap.KNN().fit([(offmap.Activations(logits, features[0]), None)])
    scores = made.score(offmap.Activations(logits[: len(test)], features[1]))
    assert np.allclose(scores, expected, rtol=1e-5, atol=1e-6)
