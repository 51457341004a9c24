"""The residual networks for 32x32 images of He et al. (CVPR 2016), section 4.2."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from offmap._utils.arguments import whole


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride = stride
        self.padding = (outside - inside) // 2

    def shortcut(self, x: Tensor) -> Tensor:
        """Subsampled, with zero channels added on both sides (option A of the paper)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.padding, self.padding)) if self.padding else x

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem of 16 channels, three stages of 16, 32 and 64, average pooling, a linear head.

    Args:
        blocks: blocks a stage; the network has ``6 blocks + 2`` layers.
        classes: number of classes.

    Raises:
        ArgumentError: an argument is out of range.

    References:
        He et al., CVPR 2016, arXiv:1512.03385, section 4.2.
    """

    def __init__(self, blocks: int, *, classes: int = 10) -> None:
        super().__init__()
        whole("blocks", blocks)
        whole("classes", classes)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        """The logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def _stage(inside: int, outside: int, blocks: int, *, stride: int) -> nn.Sequential:
    entry = _Block(inside, outside, stride)
    return nn.Sequential(entry, *(_Block(outside, outside, 1) for _ in range(blocks - 1)))


def resnet20(*, classes: int = 10) -> ResNet:
    """ResNet-20: 269,722 parameters with ten classes."""
    return ResNet(3, classes=classes)


def resnet32(*, classes: int = 10) -> ResNet:
    """ResNet-32: 464,154 parameters with ten classes."""
    return ResNet(5, classes=classes)


def resnet44(*, classes: int = 10) -> ResNet:
    """ResNet-44: 658,586 parameters with ten classes."""
    return ResNet(7, classes=classes)


def resnet56(*, classes: int = 10) -> ResNet:
    """ResNet-56: 853,018 parameters with ten classes."""
    return ResNet(9, classes=classes)
