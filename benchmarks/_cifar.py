"""CIFAR-10, its six OOD sets and the foreign ResNet-20: what several benchmarks run on."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks._measure import arguments, print_settings
from offmap import data, networks
from offmap.data import ImageSet

# The checkpoint was trained with ImageNet's channel means and deviations.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OOD = {
    "near": ("cifar100", "tiny_imagenet"),
    "far": ("textures", "places", "mnist", "svhn370"),
}


@dataclass(frozen=True)
class Sets:
    """Everything that one evaluation reads, in memory.

    Args:
        train: 50,000 for fitting.
        test: 9,000 of the test split.
        calibration: the other 1,000.
        ood: by group and name.
    """

    train: ImageSet
    test: ImageSet
    calibration: ImageSet
    ood: dict[str, dict[str, ImageSet]]

    @property
    def all_ood(self) -> dict[str, ImageSet]:
        """OOD sets by name."""
        return {name: found for group in self.ood.values() for name, found in group.items()}

    @property
    def all(self) -> list[ImageSet]:
        """Every set once."""
        return [self.train, self.test, self.calibration, *self.all_ood.values()]


def read(limit: int | None = None) -> Sets:
    """The sets, cut to ``limit`` samples each."""
    calibration, test = load("cifar10:test", limit).split(0.1)
    ood = {group: {name: load(name, limit) for name in names} for group, names in OOD.items()}
    return Sets(load("cifar10:train", limit), test, calibration, ood)


def load(name: str, limit: int | None = None) -> ImageSet:
    """One set as 32x32 colour images, in memory."""
    found = data.load(name, size=32, channels=3, limit=limit)
    assert isinstance(found, ImageSet)
    return found


def network(weights: str) -> nn.Module:
    """ResNet-20 in evaluation mode."""
    return networks.build("resnet20", weights=weights).eval()


def bare_normalization() -> tuple[Tensor, Tensor]:
    """Scale and shift of ``uint8 * scale + shift``."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    return 1 / (255 * std), -mean / std


def parser(doc: str | None, *, pairs: int = 7, batch_size: int = 64) -> argparse.ArgumentParser:
    """The options of a benchmark that runs the network."""
    made = arguments(doc, pairs=pairs)
    made.add_argument("--weights", required=True, help="the checkpoint resnet20-12fca82f.th")
    made.add_argument("--batch-size", type=int, default=batch_size, help=f"({batch_size})")
    made.add_argument("--contiguous", action="store_true", help="instead of channels last")
    made.add_argument("--threads", type=int, help="of torch; by default as torch chooses")
    return made


def started(made: argparse.ArgumentParser, *packages: str) -> argparse.Namespace:
    """The options given, with the threads set and everything printed."""
    options = made.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print_settings(
        packages,
        threads=torch.get_num_threads(),
        batch=options.batch_size,
        precision="fp32",
        layout="contiguous" if options.contiguous else "channels last",
        limit=options.limit or "none",
    )
    return options
