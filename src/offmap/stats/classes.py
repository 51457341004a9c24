"""Means, scatters and extremes of each class apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.precision import wide
from offmap.stats.moments import count_of
from offmap.stats.statistic import Statistic


@dataclass(frozen=True)
class ClassMeans(Statistic):
    """Count and mean of each class, in float64.

    Args:
        count: samples of each class, ``(c,)``.
        mean: their means, ``(c, d)``; zero for a class without samples.
    """

    count: Float[Tensor, " c"]
    mean: Float[Tensor, "c d"]

    @classmethod
    def of(cls, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int) -> Self:
        """The means of one batch."""
        x = wide(x)
        count = x.new_zeros(classes).index_add_(0, labels, x.new_ones(len(x)))
        total = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, x)
        return cls(count, total / count.clamp(min=1)[:, None])

    def __add__(self, other: Self) -> Self:
        """The means of both parts together."""
        count = self.count + other.count
        share = (other.count / count.clamp(min=1))[:, None]
        return type(self)(count, self.mean + (other.mean - self.mean) * share)


@dataclass(frozen=True)
class ClassScatters(Statistic):
    """Count, mean and scatter about the mean of each class, in float64 and Chan's form.

    Args:
        count: samples of each class, ``(c,)``.
        mean: ``(c, d)``.
        scatter: sum of ``(x - mean_y)(x - mean_y)'`` over the samples of each class, ``(c, d, d)``.
    """

    count: Float[Tensor, " c"]
    mean: Float[Tensor, "c d"]
    scatter: Float[Tensor, "c d d"]

    @classmethod
    def of(
        cls, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int | None = None
    ) -> Self:
        """The scatters of one batch."""
        classes = count_of(labels) if classes is None else classes
        means = ClassMeans.of(x, labels, classes=classes)
        centred = wide(x) - means.mean[labels]
        scatter = centred.new_zeros(classes, x.shape[1], x.shape[1])
        for y in labels.bincount().nonzero()[:, 0].tolist():  # a batch has few classes
            rows = centred[labels == y]
            scatter[y] = rows.T @ rows
        return cls(means.count, means.mean, scatter)

    def __add__(self, other: Self) -> Self:
        """The scatters of both parts together."""
        classes = max(len(self.count), len(other.count))
        a, b = self._of_classes(classes), other._of_classes(classes)
        count = a.count + b.count
        share = b.count / count.clamp(min=1)
        gap = b.mean - a.mean
        between = (a.count * share)[:, None, None] * gap[:, :, None] * gap[:, None, :]
        return type(self)(count, a.mean + gap * share[:, None], a.scatter + b.scatter + between)

    def _of_classes(self, classes: int) -> Self:
        """The same with so many classes, the last of them without samples."""
        if (more := classes - len(self.count)) == 0:
            return self
        return type(self)(
            F.pad(self.count, (0, more)),
            F.pad(self.mean, (0, 0, 0, more)),
            F.pad(self.scatter, (0, 0, 0, 0, 0, more)),
        )


@dataclass(frozen=True)
class Extremes(Statistic):
    """The least and the greatest value of each class.

    Args:
        low: ``(c, d)``; infinite for a class without samples.
        high: likewise, minus infinite.
    """

    low: Float[Tensor, "c d"]
    high: Float[Tensor, "c d"]

    @classmethod
    def of(cls, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int) -> Self:
        """The extremes of one batch."""
        index = labels[:, None].expand(-1, x.shape[1])
        low = x.new_full((classes, x.shape[1]), torch.inf)
        high = -low
        return cls(
            low.scatter_reduce(0, index, x, "amin"), high.scatter_reduce(0, index, x, "amax")
        )

    def __add__(self, other: Self) -> Self:
        """The extremes of both parts together."""
        return type(self)(self.low.minimum(other.low), self.high.maximum(other.high))


@dataclass(frozen=True)
class Counts(Statistic):
    """How many labels of each class there were.

    Args:
        counts: ``(c,)``, of as many classes as were seen.
    """

    counts: Int64[Tensor, " c"]

    @classmethod
    def of(cls, labels: Int64[Tensor, " n"] | None, device: torch.device) -> Self:
        """The counts of one batch; labels below 0 are nobody's."""
        if labels is None:
            return cls(torch.zeros(0, dtype=torch.int64, device=device))
        return cls(labels[labels >= 0].long().bincount())

    def __add__(self, other: Self) -> Self:
        """The counts of both parts together."""
        classes = max(len(self.counts), len(other.counts))
        a, b = (F.pad(x, (0, classes - len(x))) for x in (self.counts, other.counts))
        return type(self)(a + b)
