"""The wide residual networks for 32x32 images of Zagoruyko and Komodakis (BMVC 2016)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from offmap._utils.arguments import share, whole
from offmap.errors import ArgumentError, StoreError
from offmap.networks.checkpoint import place, read_weights

# One in each block of the first stage, whatever wrapper the names went through.
_FIRST_NORM = re.compile(r"(.+\.)?block1\.layer\.\d+\.bn1\.weight")


class _Block(nn.Module):
    """Normalisation and activation before each 3x3 convolution, dropout between the two."""

    def __init__(self, inside: int, outside: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.dropout = dropout
        self.convShortcut = (  # the name in the published checkpoints
            None if inside == outside else nn.Conv2d(inside, outside, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        # Where the width changes, the shortcut too starts from the activated input.
        shortcut = x if self.convShortcut is None else self.convShortcut(y)
        y = F.relu(self.bn2(self.conv1(y)))
        if self.dropout and self.training:  # even of no values, it costs as much as a convolution
            y = F.dropout(y, self.dropout)
        return self.conv2(y) + shortcut  # type: ignore[no-any-return]


class _Stage(nn.Module):
    def __init__(self, inside: int, outside: int, blocks: int, stride: int, drop: float) -> None:
        super().__init__()
        entry = _Block(inside, outside, stride, drop)
        tail = (_Block(outside, outside, 1, drop) for _ in range(blocks - 1))
        self.layer = nn.Sequential(entry, *tail)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """A 3x3 stem of 16 channels, three stages of 16, 32 and 64 times ``width``, average pooling.

    Parameter names are those of the checkpoints published with Outlier Exposure; those of PixMix
    say ``conv_shortcut``, which :func:`offmap.networks.load_weights` translates.

    Args:
        depth: ``6 k + 4`` layers, for ``k`` blocks a stage.
        width: factor of the channels.
        dropout: share of activations dropped between the two convolutions of a block.
        classes: number of classes.

    Raises:
        ArgumentError: an argument is out of range.

    References:
        Zagoruyko and Komodakis, BMVC 2016, arXiv:1605.07146.
    """

    def __init__(self, depth: int, width: int, *, dropout: float = 0.0, classes: int = 10) -> None:
        super().__init__()
        whole("width", width)
        share("dropout", dropout)
        whole("classes", classes)
        if depth < 10 or (depth - 4) % 6:
            raise ArgumentError(f"depth must be 6 k + 4, as 16, 28 or 40; seen {depth}")
        blocks = (depth - 4) // 6
        width1, width2, width3 = 16 * width, 32 * width, 64 * width
        self.depth, self.width = depth, width
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = _Stage(16, width1, blocks, 1, dropout)
        self.block2 = _Stage(width1, width2, blocks, 2, dropout)
        self.block3 = _Stage(width2, width3, blocks, 2, dropout)
        self.bn1 = nn.BatchNorm2d(width3)
        self.fc = nn.Linear(width3, classes)
        self.apply(as_published)

    @classmethod
    def like(cls, path: str | Path) -> Self:
        """The network of a checkpoint, of the depth, width and classes that are in it.

        Raises:
            StoreError: the file cannot be read, or is of another kind of network.
        """
        weights = read_weights(path)
        blocks = sum(bool(_FIRST_NORM.fullmatch(name)) for name in weights)
        head = next((x for name, x in weights.items() if name.endswith("fc.weight")), None)
        if head is None or head.ndim != 2 or not blocks:
            raise StoreError(f"{path} is no WideResNet: it has no block1.layer.0.bn1 and fc")
        classes, features = head.shape
        network = cls(6 * blocks + 4, max(features // 64, 1), classes=classes)
        place(network, weights, str(path))
        return network

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        """The logits."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))  # type: ignore[no-any-return]


def as_published(module: nn.Module) -> None:
    """Initialise as the published code: normal over the fan out; the head's bias at zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def wrn10_1(*, dropout: float = 0.0, classes: int = 10) -> WideResNet:
    """WRN-10-1: 77,850 parameters, for trying things out."""
    return WideResNet(10, 1, dropout=dropout, classes=classes)


def wrn40_2(*, dropout: float = 0.0, classes: int = 10) -> WideResNet:
    """WRN-40-2: 2,243,546 parameters with ten classes."""
    return WideResNet(40, 2, dropout=dropout, classes=classes)


def wrn40_4(*, dropout: float = 0.0, classes: int = 10) -> WideResNet:
    """WRN-40-4: 8,949,210 parameters with ten classes."""
    return WideResNet(40, 4, dropout=dropout, classes=classes)
