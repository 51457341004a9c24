"""Means, scatters and extremes by class.

Scatters have the form of :mod:`offmap.stats.moments`. Parts may differ in their number of
classes: without logits it is read from the labels, and a batch may lack the last class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap._utils.precision import wide
from offmap.stats.moments import Moments, constant_features, squares
from offmap.stats.statistic import Statistic

_HELD = 64 << 20  # bytes of rows that are held at most


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
    def of(
        cls, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int | None = None
    ) -> Self:
        """The means of one batch, over ``classes``, or over those in its labels."""
        return cls(*_means(wide(x), labels, classes))

    def __add__(self, other: Self) -> Self:
        """The means of both parts together."""
        count, mean, _, _ = _merge(self, other)
        return type(self)(count, mean)


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
        """Moments of one batch, over ``classes``, or over those in its labels."""
        x = wide(x)
        count, mean = _means(x, labels, classes)
        return cls(count, mean, squares(x - mean[labels]))

    def __add__(self, other: Self) -> Self:
        """Moments of both parts together."""
        count, mean, gap, weight = _merge(self, other)
        # A class that one part lacks adds nothing between the parts: a batch has few classes.
        classes = weight > 0
        between = gap[classes] * weight[classes].sqrt()[:, None]
        return type(self)(count, mean, self.scatter + other.scatter + between.T @ between)

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Pooled covariance within classes, the scatter divided by the number of samples."""
        return self.scatter / self.count.sum()

    @property
    def constant(self) -> Bool[Tensor, " d"]:
        """Which features vary within the classes by no more than rounding."""
        size = self.mean.abs().amax(0)
        return constant_features(self.scatter.diagonal(), self.count.sum(), size)

    def total(self) -> Moments:
        """Moments of all samples, whatever their class."""
        count = self.count.sum()
        mean = (self.count @ self.mean) / count
        gap = (self.mean - mean) * self.count.sqrt()[:, None]
        return Moments(count, mean, self.scatter + gap.T @ gap)


@dataclass(frozen=True)
class ClassScatters(Statistic):
    """Count, mean and scatter about the mean of each class, in float64 and Chan's form.

    Rows are held until there are many: adding to the scatters at every batch would write all of
    them each time.

    Args:
        sums: of the rows summed so far, if any.
        held: rows that are not summed yet, and their labels.
        classes: lower bound on the number of classes.
    """

    sums: _Scatters | None
    held: tuple[tuple[Float[Tensor, "_ d"], Int64[Tensor, " _"]], ...]
    classes: int

    @classmethod
    def of(
        cls, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, classes: int | None = None
    ) -> Self:
        """The scatters of one batch."""
        if classes is None:
            classes = int(labels.max()) + 1 if len(labels) else 0
        # Copies: what they are views of may be filled anew.
        return cls(None, ((wide(x).clone(), labels.clone()),), classes)

    def __add__(self, other: Self) -> Self:
        """The scatters of both parts together."""
        if self.sums is None or other.sums is None:
            sums = self.sums or other.sums
        else:
            sums = self.sums.with_sums(other.sums)
        batches, classes = self.held + other.held, max(self.classes, other.classes)
        scatters = type(self)(sums, batches, classes)
        if sum(x.nbytes for x, _ in batches) <= _HELD:
            return scatters
        return type(self)(scatters._summed, (), classes)

    @cached_property
    def _summed(self) -> _Scatters:
        """All rows in the sums, and all classes."""
        if not self.held:
            assert self.sums is not None  # there is one or the other
            return self.sums
        x, labels = (torch.cat(parts) for parts in zip(*self.held, strict=True))
        sums = _Scatters.none(x) if self.sums is None else self.sums
        return sums.with_rows(x, labels, self.classes)

    @property
    def count(self) -> Float[Tensor, " c"]:
        """Samples of each class."""
        return self._summed.count

    @property
    def mean(self) -> Float[Tensor, "c d"]:
        """Their means; zero for a class without samples."""
        return self._summed.mean

    @property
    def scatter(self) -> Float[Tensor, "c d d"]:
        """Sum of ``(x - mean_y)(x - mean_y)'`` over the samples of each class."""
        return self._summed.scatter

    def pooled(self) -> ClassMoments:
        """The same with one scatter within all classes."""
        return ClassMoments(self.count, self.mean, self.scatter.sum(0))


@dataclass(frozen=True)
class _Scatters:
    """The sums of :class:`ClassScatters`."""

    count: Float[Tensor, " c"]
    mean: Float[Tensor, "c d"]
    scatter: Float[Tensor, "c d d"]

    @classmethod
    def none(cls, x: Float[Tensor, "n d"]) -> Self:
        """Sums over no class, of the width of these rows."""
        d = x.shape[1]
        return cls(x.new_zeros(0), x.new_zeros(0, d), x.new_zeros(0, d, d))

    def with_rows(self, x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], classes: int) -> Self:
        """The sums with these rows added."""
        means = ClassMeans.of(x, labels, classes=classes)
        order = labels.argsort(stable=True)
        rows = torch.split((x - means.mean[labels])[order], means.count.long().tolist())
        return self._merge_with(means, lambda y, into: into.addmm_(rows[y].T, rows[y]))

    def with_sums(self, other: _Scatters) -> Self:
        """The sums of both."""
        return self._merge_with(other, lambda y, into: into.add_(other.scatter[y]))

    def _merge_with(
        self, other: ClassMeans | _Scatters, add: Callable[[int, Tensor], object]
    ) -> Self:
        count, mean, gap, weight = _merge(self, other)
        scatter = gap.new_zeros(*gap.shape, gap.shape[1])
        scatter[: len(self.scatter)] = self.scatter
        for y in other.count.nonzero()[:, 0].tolist():
            add(y, scatter[y])
            scatter[y].addr_(gap[y], gap[y], alpha=float(weight[y]))
        return type(self)(count, mean, scatter)


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
        """The counts of one batch; labels below 0 belong to no class."""
        if labels is None:
            return cls(torch.zeros(0, dtype=torch.int64, device=device))
        return cls(labels[labels >= 0].long().bincount())

    def __add__(self, other: Self) -> Self:
        """The counts of both parts together."""
        a, b = _pad_classes(self.counts, other.counts)
        return type(self)(a + b)


def _means(
    x: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], classes: int | None
) -> tuple[Float[Tensor, " c"], Float[Tensor, "c d"]]:
    """Count and mean of each class of a batch."""
    if classes is None:
        classes = int(labels.max()) + 1 if len(labels) else 0
    count = x.new_zeros(classes).index_add_(0, labels, x.new_ones(len(x)))
    total = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, x)
    return count, total / count.clamp(min=1)[:, None]


def _merge(
    a: ClassMeans | ClassMoments | _Scatters, b: ClassMeans | ClassMoments | _Scatters
) -> tuple[Float[Tensor, " c"], Float[Tensor, "c d"], Float[Tensor, "c d"], Float[Tensor, " c"]]:
    """Count and mean of both together, the gap of their means, and the weight of its square."""
    m, n = _pad_classes(a.count, b.count)
    mean_a, mean_b = _pad_classes(a.mean, b.mean)
    share = n / (m + n).clamp(min=1)
    gap = mean_b - mean_a
    return m + n, mean_a + gap * share[:, None], gap, m * share


def _pad_classes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Pad both to the larger number of classes, the added ones without samples."""
    classes = max(len(a), len(b))
    trailing = (0, 0) * (a.ndim - 1)
    return F.pad(a, (*trailing, 0, classes - len(a))), F.pad(b, (*trailing, 0, classes - len(b)))
