"""What several tests need: activations of separated classes, and the real data where it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from offmap.activations import Activations, Head, Heads
from offmap.detectors import catalogue, detector

# The tensors here are small: a second thread costs more than it brings, most on a busy machine.
torch.set_num_threads(1)


@dataclass
class World:
    """ID activations with labels, OOD activations, and the head that made the logits.

    In a world of ``distances`` the logits are minus the distances of the head's outputs to anchors,
    and there is no head to be known. In a world of ``members`` there are so many networks, each
    with features and a head of its own; those of the first are the world's without members.
    """

    acts: Activations
    labels: Tensor
    ood: Activations
    layer: Head
    distances: bool = False
    members: int = 0

    @property
    def head(self) -> Head | Heads | None:
        """The head, where the logits are its outputs; in a world of members the heads."""
        if self.members:
            return tuple(member_of(self.layer, i)[0] for i in range(self.members))
        return None if self.distances else self.layer

    @property
    def features(self) -> Tensor:
        """The ID features, of the first member where there are several."""
        return (self.acts.members[0] if self.members else self.acts).features

    def of(self, features: Tensor) -> Activations:
        """The activations of other features in this world."""
        return activations(features, self.layer, distances=self.distances, members=self.members)

    def member(self, i: int) -> World:
        """The world of one member alone."""
        return World(self.acts.members[i], self.labels, self.ood.members[i], self.head[i])

    def only(self, rows: Tensor) -> World:
        """The same with some of the ID samples, or with these in another order."""
        return replace(self, acts=self.acts[rows], labels=self.labels[rows])

    def batches(self, size: int = 64) -> list[tuple[Activations, Tensor]]:
        rows = torch.arange(len(self.acts)).split(size)
        return [(self.acts[r], self.labels[r]) for r in rows]


def activations(
    features: Tensor, layer: Head, *, distances: bool = False, members: int = 0
) -> Activations:
    """What a layer makes of features: logits, or minus the distances to anchors at 10."""
    if members:
        pairs = [member_of(layer, i) for i in range(members)]
        return Activations.of_members([activations(turn(features), own) for own, turn in pairs])
    z = layer(features)
    if distances:
        z = -(z[:, None] - 10 * torch.eye(len(layer.weight))).norm(dim=2)
    return Activations(z, features)


def member_of(layer: Head, i: int) -> tuple[Head, Callable[[Tensor], Tensor]]:
    """The head of a member, and what it makes of features: another order and another scale."""
    if i == 0:
        return layer, lambda features: features
    generator = torch.Generator().manual_seed(i)
    width = layer.weight.shape[1]
    order, scale = (
        torch.randperm(width, generator=generator),
        0.5 + torch.rand(width, generator=generator),
    )
    weight = layer.weight + 0.3 * torch.randn(layer.weight.shape, generator=generator)
    return Head(weight[:, order] / scale, layer.bias), lambda features: features[:, order] * scale


def changed(acts: Activations, change: Callable[[Activations], Activations]) -> Activations:
    """One change of one network's activations, or of those of every member."""
    if acts.members:
        return Activations.of_members([change(member) for member in acts.members])
    return change(acts)


def world_of(spec: str, world: World) -> World:
    """The world with what a detector reads."""
    needs = detector(spec).needs
    if not needs & {"distances", "members"}:
        return world
    kind = {"distances": "distances" in needs, "members": 3 if "members" in needs else 0}
    acts, ood = (
        activations(part.features, world.layer, **kind) for part in (world.acts, world.ood)
    )
    return replace(world, acts=acts, ood=ood, **kind)


def for_ensembles() -> list[str]:
    """Names of the catalogue's detectors for an ensemble."""
    return [name for name, method in catalogue().items() if "members" in method.default().needs]


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
