"""Count, mean and scatter of features.

The form is that of Chan, Golub and LeVeque (1983): scatters are taken about the mean of their
own part, and joining two parts adds the scatter between their means. Nothing large is subtracted
from anything large, so classes that have collapsed to a point keep their covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from offmap._utils.precision import wide
from offmap.stats.mean import mean_of
from offmap.stats.statistic import Statistic

_BLOCK = 128  # columns at a time; their products with earlier columns are mirrored


@dataclass(frozen=True)
class Moments(Statistic):
    """Count, mean and scatter about the mean, in float64.

    Args:
        count: number of samples, ``()``.
        mean: ``(d,)``.
        scatter: sum of ``(x - mean)(x - mean)'``, ``(d, d)``.
    """

    count: Float[Tensor, ""]
    mean: Float[Tensor, " d"]
    scatter: Float[Tensor, "d d"]

    @classmethod
    def of(cls, x: Float[Tensor, "n d"]) -> Self:
        """Moments of one batch."""
        x = wide(x)
        mean = mean_of(x)
        centred = x - mean
        return cls(x.new_tensor(len(x)), mean, squares(centred))

    def __add__(self, other: Self) -> Self:
        """Moments of both parts together."""
        count = self.count + other.count
        gap = other.mean - self.mean
        share = other.count / count.clamp(min=1)
        between = (self.count * other.count / count.clamp(min=1)) * gap.outer(gap)
        return type(self)(
            count,
            self.mean + gap * share,
            self.scatter + other.scatter + between,
        )

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Scatter divided by the count."""
        return self.scatter / self.count

    @property
    def constant(self) -> Bool[Tensor, " d"]:
        """Which features vary by no more than rounding."""
        return constant_features(self.scatter.diagonal(), self.count, self.mean)

    def about(self, origin: Float[Tensor, " d"]) -> Float[Tensor, "d d"]:
        """Second moment about a given origin: the mean of ``(x - origin)(x - origin)'``."""
        gap = self.mean - origin
        return self.covariance + gap.outer(gap)


def squares(x: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """``x' x``, one half computed and mirrored: float64 products are most of a fit."""
    features = x.shape[1]
    product = x.new_empty(features, features)
    for start in range(0, features, _BLOCK):
        end = min(start + _BLOCK, features)
        product[start:end, start:] = x[:, start:end].T @ x[:, start:]
        product[end:, start:end] = product[start:end, end:].T
    return product


def constant_features(
    scatter: Float[Tensor, " d"], count: Float[Tensor, ""], size: Float[Tensor, " d"]
) -> Bool[Tensor, " d"]:
    """Which features are constant, up to the rounding of a sum of ``count`` values of that size.

    The bound is that of scikit-learn's ``StandardScaler``.
    """
    eps = torch.finfo(scatter.dtype).eps
    return scatter / count <= (count * size * eps).square()
