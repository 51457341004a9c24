"""VGG-16 for 32x32 images, with batch normalisation after each activation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from offmap._utils.arguments import positive, share, whole

# Channels of the 13 convolutions, in five stages; each stage ends with max pooling.
_STAGES = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions in five stages, each stage halving the image; three linear layers.

    Each convolution is followed by ReLU and *then* batch normalisation, so its bias is of use.
    Five times max pooling leave one pixel of 32x32; its 512 channels go through linear layers
    512-1024-512-``classes`` with ReLU between them. The features are the last 512.

    Args:
        width: factor of all channels and hidden units, such as 0.25 for a quarter of each.
        dropout: share of the units dropped before each of the linear layers, in training.
        classes: number of classes.

    Raises:
        ArgumentError: an argument is out of range.

    References:
        Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556, table 1, column D.
    """

    def __init__(self, *, width: float = 1.0, dropout: float = 0.0, classes: int = 10) -> None:
        super().__init__()
        positive("width", width)
        share("dropout", dropout)
        whole("classes", classes)
        layers: list[nn.Module] = []
        inside = 3
        for stage in _STAGES:
            for outside in (_scaled(channels, width) for channels in stage):
                conv = nn.Conv2d(inside, outside, 3, padding=1)
                layers += [conv, nn.ReLU(), nn.BatchNorm2d(outside)]
                inside = outside
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        outputs, hidden = _scaled(512, width), _scaled(1024, width)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(outputs, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(outputs, classes),
        )

    def forward(self, x: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n c"]:
        """The logits."""
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def vgg16(*, width: float = 1.0, dropout: float = 0.0, classes: int = 10) -> VGG16:
    """VGG-16 with batch normalisation: 15,778,378 parameters; 990,106 at a width of a quarter."""
    return VGG16(width=width, dropout=dropout, classes=classes)
