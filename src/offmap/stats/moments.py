"""Count, mean and scatter of features, over all samples or within classes.

Both use the form of Chan, Golub and LeVeque (1983): scatters are taken about the mean of their
own part, and joining two parts adds the scatter between their means. Nothing large is subtracted
from anything large, so classes that have collapsed to a point keep their covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.precision import wide
from offmap.stats.mean import mean_of
from offmap.stats.statistic import Statistic


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
        return cls(x.new_tensor(len(x)), mean, centred.T @ centred)

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

    def about(self, origin: Float[Tensor, " d"]) -> Float[Tensor, "d d"]:
        """Second moment about a given origin: the mean of ``(x - origin)(x - origin)'``."""
        gap = self.mean - origin
        return self.covariance + gap.outer(gap)


@dataclass(frozen=True)
class ClassMoments(Statistic):
    """Counts and means by class, and the pooled scatter within classes, in float64.

    Args:
        count: samples of each class, ``(c,)``.
        mean: mean of each class, ``(c, d)``; zero for a class without samples.
        scatter: sum over all samples of ``(x - mean_y)(x - mean_y)'``, ``(d, d)``.
    """

    count: Float[Tensor, " c"]
    mean: Float[Tensor, "c d"]
    scatter: Float[Tensor, "d d"]

    @classmethod
    def of(
        cls, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int | None = None
    ) -> Self:
        """Moments of one batch, of as many classes as are named, or seen."""
        x = wide(x)
        classes = count_of(labels) if classes is None else classes
        count = x.new_zeros(classes).index_add_(0, labels, x.new_ones(len(x)))
        total = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, x)
        mean = total / count.clamp(min=1)[:, None]
        centred = x - mean[labels]
        return cls(count, mean, centred.T @ centred)

    def __add__(self, other: Self) -> Self:
        """Moments of both parts together."""
        classes = max(len(self.count), len(other.count))
        a, b = self._of_classes(classes), other._of_classes(classes)
        count = a.count + b.count
        share = b.count / count.clamp(min=1)
        gap = b.mean - a.mean
        # A class that one part lacks adds nothing between the parts: a batch has few classes.
        both = (a.count > 0) & (b.count > 0)
        between = gap[both] * (a.count * share)[both].sqrt()[:, None]
        return type(self)(
            count,
            a.mean + gap * share[:, None],
            a.scatter + b.scatter + between.T @ between,
        )

    def _of_classes(self, classes: int) -> Self:
        """The same with so many classes, the last of them without samples."""
        if (more := classes - len(self.count)) == 0:
            return self
        return replace(
            self, count=F.pad(self.count, (0, more)), mean=F.pad(self.mean, (0, 0, 0, more))
        )

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Pooled covariance within classes: scatter divided by the number of samples."""
        return self.scatter / self.count.sum()

    def total(self) -> Moments:
        """Moments of all samples, whatever their class."""
        count = self.count.sum()
        mean = (self.count @ self.mean) / count
        gap = (self.mean - mean) * self.count.sqrt()[:, None]
        return Moments(count, mean, self.scatter + gap.T @ gap)


def count_of(labels: Int64[Tensor, " n"]) -> int:
    """How many classes the labels speak of."""
    return int(labels.max()) + 1 if len(labels) else 0
