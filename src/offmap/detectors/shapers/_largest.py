"""Shapers by the largest features of a sample."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from offmap._utils.arguments import share
from offmap.activations import Head
from offmap.detectors._checks import check_positive
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors.logits.energy import Energy

# Its exponential times a feature is still a float32.
_LARGEST_EXPONENT = 80.0


class Largest(Shaper):
    """Shapes a sample by which of its features are the largest.

    A subclass gives :meth:`shaped`. There are ``d - round(quantile d)`` of them, at least one: a
    fixed number, as ties may leave none above a value.

    Args:
        inner: the detector that scores the shaped features.
        quantile: the share of the features that does not count as large, in [0, 1).

    Raises:
        NeedsError: in scoring, if features are negative.
    """

    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True

    def __init__(self, inner: Detector, *, quantile: float = 0.85) -> None:
        super().__init__(inner)
        self.quantile = share("quantile", quantile)

    @classmethod
    def default(cls) -> Self:
        """Around the energy, as in the paper."""
        return cls(Energy())

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        check_positive(features, self)
        count = number_of_largest(features.shape[1], self.quantile)
        return self.shaped(features.double(), count).float(), head

    def shaped(self, x: Float64[Tensor, "n d"], count: int) -> Float64[Tensor, "n d"]:
        """The features after shaping, with ``count`` of them as the large ones."""
        raise NotImplementedError

    def summary(self) -> str:
        return f"shapes by the features above the {self.quantile:g} quantile; " + (
            self.inner.summary()
        )


def number_of_largest(features: int, quantile: float) -> int:
    """The number of large features: at least one."""
    return max(features - round(quantile * features), 1)


def largest(x: Float[Tensor, "n d"], count: int) -> Bool[Tensor, "n d"]:
    """Which entries are the ``count`` largest of their row; of equal ones those that come first."""
    least = x.topk(count, dim=1).values[:, -1:]
    above, equal = x > least, x == least
    quota = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.long().cumsum(1) <= quota))


def ratio_of_sums(x: Float64[Tensor, "n d"], count: int) -> Float64[Tensor, "n 1"]:
    """The sum of a row over that of its largest entries; of a row of zeros the least, 1."""
    large = x.topk(count, dim=1, sorted=False).values.sum(1, keepdim=True)
    ratio = x.sum(1, keepdim=True) / large.clamp(min=torch.finfo(x.dtype).tiny)
    return torch.where(large > 0, ratio, 1.0)


def sharpness(x: Float64[Tensor, "n d"], count: int) -> Float64[Tensor, "n 1"]:
    """The exponential of that ratio."""
    return ratio_of_sums(x, count).clamp(max=_LARGEST_EXPONENT).exp()
