"""The small network of the digits."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from offmap._utils.arguments import share, whole


class DigitsCNN(nn.Sequential):
    """Two convolutions and two linear layers for grey 8x8 images; 64 features.

    Args:
        classes: number of known classes.
        dropout: share of the 512 values dropped before the linear layers, in training.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(self, classes: int = 8, *, dropout: float = 0.3) -> None:
        whole("classes", classes)
        share("dropout", dropout)
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    def forward(self, x: Float[Tensor, "n 1 8 8"]) -> Float[Tensor, "n c"]:
        """The logits."""
        return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]


def digits_cnn(*, dropout: float = 0.3, classes: int = 8) -> DigitsCNN:
    """The network of the digits in ``offmap.demo``: 38,152 parameters."""
    return DigitsCNN(classes, dropout=dropout)
