"""Exact quantiles of any number of values, in two passes and constant memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap.stats.statistic import Statistic

_BITS = 16
_BINS = 1 << _BITS


@dataclass(frozen=True)
class Histogram(Statistic):
    """How many float32 values fall in each bin, by the bits of the value.

    The first pass counts by the upper 16 bits; the second counts the values of chosen upper bins
    by their lower 16 bits, which tells float32 values apart one by one.

    Args:
        counts: one row for each upper bin looked into, or one row for the first pass.
    """

    counts: Int64[Tensor, "k 65536"]

    @classmethod
    def coarse(cls, values: Float[Tensor, ...]) -> Self:
        """Counts by the upper bits."""
        return cls(torch.bincount(_ordered(values) >> _BITS, minlength=_BINS)[None])

    @classmethod
    def fine(cls, values: Float[Tensor, ...], bins: Int64[Tensor, " k"]) -> Self:
        """Counts by the lower bits of the values in each of the upper ``bins``."""
        ordered = _ordered(values)
        inside = (ordered[(ordered >> _BITS) == b] % _BINS for b in bins)
        return cls(torch.stack([torch.bincount(x, minlength=_BINS) for x in inside]))

    def __add__(self, other: Self) -> Self:
        """Counts of both parts together."""
        return type(self)(self.counts + other.counts)


@dataclass(frozen=True)
class Quantile:
    """Where a quantile lies: between two neighbouring order statistics, as NumPy's ``linear``.

    Args:
        bins: upper bin of each of the two, ``(2,)``.
        ranks: rank of each within its bin, from 0, ``(2,)``.
        weight: share of the second one, ``()``.
        below: number of values in lower bins, for each of the two, ``(2,)``.
    """

    bins: Int64[Tensor, 2]
    ranks: Int64[Tensor, 2]
    weight: Float64[Tensor, ""]
    below: Int64[Tensor, 2]

    @classmethod
    def locate(cls, coarse: Histogram, q: float) -> Self:
        """Find the two bins from the counts of the first pass."""
        below = coarse.counts[0].cumsum(0)
        last = int(below[-1]) - 1
        low = min(int(q * last), last)
        ranks = torch.tensor([low, min(low + 1, last)], device=below.device)
        bins = torch.searchsorted(below, ranks, right=True)
        lower = (below - coarse.counts[0])[bins]
        weight = torch.tensor(q * last - low, dtype=torch.float64).to(below.device)
        return cls(bins, ranks - lower, weight, lower)

    def packed(self) -> Float64[Tensor, 7]:
        """All of it as one tensor, for a detector to keep between two passes."""
        parts = (self.bins, self.ranks, self.weight[None], self.below)
        return torch.cat([x.double() for x in parts])  # whole numbers below 2**53: exact

    @classmethod
    def unpacked(cls, x: Float64[Tensor, 7]) -> Self:
        """From what :meth:`packed` gave."""
        return cls(x[:2].long(), x[2:4].long(), x[4], x[5:].long())

    def value(self, fine: Histogram) -> Float64[Tensor, ""]:
        """The quantile, from the counts of the second pass in ``self.bins``."""
        below = fine.counts.cumsum(1)
        lower = torch.searchsorted(below, self.ranks[:, None], right=True)[:, 0]
        value: Tensor = _value(self.bins * _BINS + lower).double()
        return torch.lerp(value[0], value[1], self.weight)

    def is_least(self, fine: Histogram) -> bool:
        """Whether no value lies below the quantile."""
        last = int(self.weight > 0)  # the second counts only with a share
        row = fine.counts[last]
        return bool(self.below[last] == 0) and bool(self.ranks[last] < row[row > 0][0])


def _ordered(values: Float[Tensor, ...]) -> Int64[Tensor, " n"]:
    """Integers from 0 to 2**32 - 1 in the order of the float32 values."""
    bits = values.detach().float().flatten().view(torch.int32).long() & 0xFFFFFFFF
    return torch.where(bits >= 1 << 31, 0xFFFFFFFF - bits, bits + (1 << 31))


def _value(ordered: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The float32 values of such integers."""
    bits = torch.where(ordered >= 1 << 31, ordered - (1 << 31), 0xFFFFFFFF - ordered)
    return torch.where(bits >= 1 << 31, bits - (1 << 32), bits).int().view(torch.float32)
