"""The small network of the demo, for grey 28x28 images."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from offmap._utils.arguments import share, whole


class LettersCNN(nn.Sequential):
    """Three convolutions, each halved by pooling, and two linear layers; 128 features.

    Args:
        classes: number of known classes.
        dropout: share of the 576 values dropped before the linear layers, in training.

    Raises:
        ArgumentError: an argument is out of range.
    """

    def __init__(self, classes: int = 10, *, dropout: float = 0.3) -> None:
        whole("classes", classes)
        share("dropout", dropout)
        super().__init__(
            *_convolution(1, 16),
            *_convolution(16, 32),
            *_convolution(32, 64),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(64 * 3 * 3, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )

    def forward(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n c"]:
        """The logits."""
        return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]


def _convolution(inside: int, outside: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)


def letters_cnn(*, dropout: float = 0.3, classes: int = 10) -> LettersCNN:
    """The network of the demo: 98,442 parameters."""
    return LettersCNN(classes, dropout=dropout)
