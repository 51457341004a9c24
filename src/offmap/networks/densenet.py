"""The densely connected network for 32x32 images of Huang et al. (CVPR 2017)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError
from offmap.networks.wide_resnet import as_published


class _Layer(nn.Module):
    """A 1x1 convolution to four times the growth and a 3x3 one, added to the channels so far."""

    def __init__(self, inside: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        return torch.cat([x, self.conv2(F.relu(self.bn2(y)))], dim=1)


class _Block(nn.Module):
    def __init__(self, inside: int, layers: int, growth: int) -> None:
        super().__init__()
        widths = range(inside, inside + layers * growth, growth)
        self.layer = nn.Sequential(*(_Layer(width, growth) for width in widths))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class _Transition(nn.Module):
    """A 1x1 convolution to half of the channels, and the mean of each 2x2 pixels."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, inside // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """DenseNet-BC: three blocks of bottleneck layers, with a reduction to one half between them.

    A 3x3 stem of twice ``growth`` channels; each layer reads all channels before it in its block
    and adds ``growth`` of its own. Parameter names are those of the published checkpoints of the
    DICE study.

    Args:
        depth: ``6 k + 4`` layers, for ``k`` bottleneck layers a block.
        growth: channels that a layer adds.
        classes: number of classes.

    Raises:
        ArgumentError: an argument is out of range.

    References:
        Huang et al., CVPR 2017, arXiv:1608.06993, section 3.
    """

    def __init__(self, depth: int, growth: int, *, classes: int = 10) -> None:
        super().__init__()
        whole("growth", growth)
        whole("classes", classes)
        if depth < 10 or (depth - 4) % 6:
            raise ArgumentError(f"depth must be 6 k + 4, as 40 or 100; seen {depth}")
        layers = (depth - 4) // 6
        width1 = 2 * growth + layers * growth
        width2 = width1 // 2 + layers * growth
        width3 = width2 // 2 + layers * growth
        self.conv1 = nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False)
        self.block1 = _Block(2 * growth, layers, growth)
        self.trans1 = _Transition(width1)
        self.block2 = _Block(width1 // 2, layers, growth)
        self.trans2 = _Transition(width2)
        self.block3 = _Block(width2 // 2, layers, growth)
        self.bn1 = nn.BatchNorm2d(width3)
        self.fc = nn.Linear(width3, classes)
        self.apply(as_published)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        """The logits."""
        x = self.trans1(self.block1(self.conv1(x)))
        x = self.block3(self.trans2(self.block2(x)))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))  # type: ignore[no-any-return]


def densenet_bc100(*, classes: int = 10) -> DenseNet:
    """DenseNet-BC of depth 100, growth 12: 769,162 parameters with ten classes."""
    return DenseNet(100, 12, classes=classes)
