"""Count, mean and scatter of features, over all samples or within classes.

Both use the form of Chan, Golub and LeVeque (1983): scatters are taken about the mean of their
own part, and joining two parts adds the scatter between their means. Nothing large is subtracted
from anything large, so classes that have collapsed to a point keep their covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from jaxtyping import Float, Float64, Int64
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter about the mean, in float64.

    Args:
        count: number of samples, ``()``.
        mean: ``(d,)``.
        scatter: sum of ``(x - mean)(x - mean)'``, ``(d, d)``.
    """

    count: Float64[Tensor, ""]
    mean: Float64[Tensor, " d"]
    scatter: Float64[Tensor, "d d"]

    @classmethod
    def of(cls, x: Float[Tensor, "n d"]) -> Self:
        """Moments of one batch."""
        x = x.double()
        mean = x.mean(0)
        centred = x - mean
        return cls(x.new_tensor(len(x)), mean, centred.T @ centred)

    def __add__(self, other: Self) -> Self:
        """Moments of both parts together."""
        count = self.count + other.count
        gap = other.mean - self.mean
        between = (self.count * other.count / count) * gap.outer(gap)
        return type(self)(
            count,
            self.mean + gap * (other.count / count),
            self.scatter + other.scatter + between,
        )

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """Scatter divided by the count."""
        return self.scatter / self.count

    def about(self, origin: Float64[Tensor, " d"]) -> Float64[Tensor, "d d"]:
        """Second moment about a given origin: the mean of ``(x - origin)(x - origin)'``."""
        gap = self.mean - origin
        return self.covariance + gap.outer(gap)


@dataclass(frozen=True)
class ClassMoments:
    """Counts and means by class, and the pooled scatter within classes, in float64.

    Args:
        count: samples of each class, ``(c,)``.
        mean: mean of each class, ``(c, d)``; zero for a class without samples.
        scatter: sum over all samples of ``(x - mean_y)(x - mean_y)'``, ``(d, d)``.
    """

    count: Float64[Tensor, " c"]
    mean: Float64[Tensor, "c d"]
    scatter: Float64[Tensor, "d d"]

    @classmethod
    def of(cls, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int) -> Self:
        """Moments of one batch."""
        x = x.double()
        count = x.new_zeros(classes).index_add_(0, labels, x.new_ones(len(x)))
        total = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, x)
        mean = total / count.clamp(min=1)[:, None]
        centred = x - mean[labels]
        return cls(count, mean, centred.T @ centred)

    def __add__(self, other: Self) -> Self:
        """Moments of both parts together."""
        count = self.count + other.count
        share = other.count / count.clamp(min=1)
        gap = other.mean - self.mean
        # A class that one part lacks adds nothing between the parts: a batch has few classes.
        both = (self.count > 0) & (other.count > 0)
        between = gap[both] * (self.count * share)[both].sqrt()[:, None]
        return type(self)(
            count,
            self.mean + gap * share[:, None],
            self.scatter + other.scatter + between.T @ between,
        )

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """Pooled covariance within classes: scatter divided by the number of samples."""
        return self.scatter / self.count.sum()

    def total(self) -> Moments:
        """Moments of all samples, whatever their class."""
        count = self.count.sum()
        mean = (self.count @ self.mean) / count
        gap = (self.mean - mean) * self.count.sqrt()[:, None]
        return Moments(count, mean, self.scatter + gap.T @ gap)
