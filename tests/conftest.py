"""What several tests need: activations of separated classes, and the real data where it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from offmap.activations import Activations, Head

# The tensors here are small: a second thread costs more than it brings, most on a busy machine.
torch.set_num_threads(1)


@dataclass
class World:
    """ID activations with labels, OOD activations, and the head that made the logits."""

    acts: Activations
    labels: Tensor
    ood: Activations
    head: Head

    def batches(self, size: int = 64) -> list[tuple[Activations, Tensor]]:
        rows = torch.arange(len(self.acts)).split(size)
        return [(self.acts[r], self.labels[r]) for r in rows]


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
