"""ResNet-18 for 32x32 images: that of He et al. (CVPR 2016), with a stem for small images."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from offmap._utils.arguments import positive, share, whole


class _Block(nn.Module):
    """Two 3x3 convolutions; where the shape changes, the shortcut is a 1x1 convolution."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample: nn.Module | None = None
        if inside != outside:  # option B of the paper
            conv = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet18(nn.Module):
    """Four stages of two blocks with 64, 128, 256 and 512 channels, average pooling, a linear head.

    The stem is one 3x3 convolution of stride 1 without pooling: that for ImageNet (7x7, stride 2,
    pooling) leaves 8x8 of 32x32 pixels before the first block. Parameter names are torchvision's.

    Args:
        width: factor of all channels, such as 0.5 for half of each.
        dropout: share of the features dropped before the head, in training.
        classes: number of classes.

    Raises:
        ArgumentError: an argument is out of range.

    References:
        He et al., CVPR 2016, arXiv:1512.03385, table 1.
    """

    def __init__(self, *, width: float = 1.0, dropout: float = 0.0, classes: int = 10) -> None:
        super().__init__()
        positive("width", width)
        share("dropout", dropout)
        whole("classes", classes)
        c1, c2, c3, c4 = (max(1, round(n * width)) for n in (64, 128, 256, 512))
        self.conv1 = nn.Conv2d(3, c1, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c1)
        self.layer1 = nn.Sequential(_Block(c1, c1, 1), _Block(c1, c1, 1))
        self.layer2 = nn.Sequential(_Block(c1, c2, 2), _Block(c2, c2, 1))
        self.layer3 = nn.Sequential(_Block(c2, c3, 2), _Block(c3, c3, 1))
        self.layer4 = nn.Sequential(_Block(c3, c4, 2), _Block(c4, c4, 1))
        self.dropout = dropout
        self.fc = nn.Linear(c4, classes)
        for module in self.modules():  # as in the paper (its reference 13): normal over the fan out
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        """The logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))
        # Not a layer inside ``fc``: the head stays one linear layer, whatever the dropout.
        return self.fc(F.dropout(x, self.dropout, self.training))  # type: ignore[no-any-return]


def resnet18(*, width: float = 1.0, dropout: float = 0.0, classes: int = 10) -> ResNet18:
    """ResNet-18 for 32x32 images: 11,173,962 parameters; 2,797,610 at half its width."""
    return ResNet18(width=width, dropout=dropout, classes=classes)
