"""The network of the open-set study, for grey 28x28 images."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from offmap._utils.arguments import share, whole


class MnistCNN(nn.Module):
    """Three 5x5 convolutions with 32, 32 and 64 channels, two linear layers; 256 features.

    Without padding, 28x28 pixels become 24, 20, half of it by average pooling, 6 and again half:
    64 channels of 3x3 are the 576 inputs of the first linear layer. ReLU follows every layer but
    the last; dropout stands before the linear layers.

    Args:
        dropout: share of the 576 values dropped, in training.
        classes: number of classes.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(self, *, dropout: float = 0.5, classes: int = 10) -> None:
        super().__init__()
        share("dropout", dropout)
        whole("classes", classes)
        self.conv1 = nn.Conv2d(1, 32, 5)
        self.conv2 = nn.Conv2d(32, 32, 5)
        self.conv3 = nn.Conv2d(32, 64, 5)
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(64 * 3 * 3, 256)
        self.fc2 = nn.Linear(256, classes)

    def forward(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n c"]:
        """The logits."""
        x = F.relu(self.conv1(x))
        x = F.avg_pool2d(F.relu(self.conv2(x)), 2)
        x = F.avg_pool2d(F.relu(self.conv3(x)), 2)
        x = F.relu(self.fc1(self.dropout(x.flatten(1))))
        return self.fc2(x)  # type: ignore[no-any-return]


def mnist_cnn(*, dropout: float = 0.5, classes: int = 10) -> MnistCNN:
    """The convolutional network of the open-set study: 228,010 parameters."""
    return MnistCNN(dropout=dropout, classes=classes)
