"""What several tests need: activations of separated classes, and the real data where it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors import catalogue, detector

# The tensors here are small: a second thread costs more than it brings, most on a busy machine.
torch.set_num_threads(1)


@dataclass
class World:
    """ID activations with labels, OOD activations, and the head that made the logits.

    In a world of ``distances`` the logits are minus the distances of the head's outputs to anchors,
    and there is no head to be known.
    """

    acts: Activations
    labels: Tensor
    ood: Activations
    layer: Head
    distances: bool = False

    @property
    def head(self) -> Head | None:
        """The head, where the logits are its outputs."""
        return None if self.distances else self.layer

    def of(self, features: Tensor) -> Activations:
        """The activations of other features in this world."""
        return activations(features, self.layer, distances=self.distances)

    def only(self, rows: Tensor) -> World:
        """The same with some of the ID samples, or with these in another order."""
        return replace(self, acts=self.acts[rows], labels=self.labels[rows])

    def batches(self, size: int = 64) -> list[tuple[Activations, Tensor]]:
        rows = torch.arange(len(self.acts)).split(size)
        return [(self.acts[r], self.labels[r]) for r in rows]


def activations(features: Tensor, layer: Head, *, distances: bool) -> Activations:
    """What a layer makes of features: logits, or minus the distances to anchors at 10."""
    z = layer(features)
    if distances:
        z = -(z[:, None] - 10 * torch.eye(len(layer.weight))).norm(dim=2)
    return Activations(z, features)


def world_of(spec: str, world: World) -> World:
    """The world with what a detector reads."""
    if "distances" not in detector(spec).needs:
        return world
    of = [
        activations(part.features, world.layer, distances=True) for part in (world.acts, world.ood)
    ]
    return replace(world, acts=of[0], ood=of[1], distances=True)


def ordinary() -> list[str]:
    """Names of the catalogue's detectors for a network whose logits come from a linear layer."""
    return [
        name for name, method in catalogue().items() if "distances" not in method.default().needs
    ]


def make_world(
    n: int = 600,
    *,
    classes: int = 6,
    features: int = 16,
    spread: float = 1.0,
    relu: bool = False,
    seed: int = 0,
) -> World:
    """Classes around directions of their own; OOD around the origin and far off."""
    generator = torch.Generator().manual_seed(seed)
    means = 4 * torch.randn(classes, features, generator=generator)
    labels = torch.arange(n) % classes
    h = means[labels] + spread * torch.randn(n, features, generator=generator)
    far = 6 * torch.randn(n // 2, features, generator=generator)
    if relu:
        h, far = h.relu(), far.relu()
    centred = means - means.mean(0)
    head = Head(centred / 16, -0.05 * (centred**2).sum(1) / 16 + 0.1)
    return World(Activations(head(h), h), labels, Activations(head(far), far), head)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; the test is skipped where there is none."""
    folder = os.environ.get("OFFMAP_DATA")
    if not folder or not (Path(folder) / "cifar10").is_dir():
        pytest.skip("OFFMAP_DATA does not point to the real data sets")
    return Path(folder)
