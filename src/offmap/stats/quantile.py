"""Exact quantiles of any number of values, in a few passes and constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64
from torch import Tensor

from offmap.stats.statistic import Statistic

_BITS = 16
_BINS = 1 << _BITS
_HALF = _BINS // 2
# For histograms by column: there may be thousands of them.
_DIGIT = 8
_DIGITS = 1 << _DIGIT


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
        upper = (_bits(values).flatten() >> _BITS) + _HALF
        counts = torch.bincount(upper, minlength=_BINS)
        # By signed upper bits the negative values stand reversed.
        return cls(torch.cat([counts[:_HALF].flip(0), counts[_HALF:]])[None])

    @classmethod
    def fine(cls, values: Float[Tensor, ...], bins: Int64[Tensor, " k"]) -> Self:
        """Counts by the lower bits of the values in each of the upper ``bins``."""
        bits = _bits(values).flatten()
        upper, lower = bits >> _BITS, bits & (_BINS - 1)
        counts = {b: _count(lower, upper == b, _BINS) for b in set(_upper(bins).tolist())}
        rows = (counts[b] if b >= 0 else counts[b].flip(0) for b in _upper(bins).tolist())
        return cls(torch.stack(list(rows)))

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
        weight = torch.tensor(q * last - low, dtype=torch.float64, device="cpu").to(below.device)
        return cls(bins, ranks - lower, weight, lower)

    def packed(self) -> Float64[Tensor, 7]:
        """All of it as one tensor, for a detector to keep between two passes."""
        parts = (self.bins, self.ranks, self.weight[None], self.below)
        return torch.cat([x.double() for x in parts])  # whole numbers below 2**53: exact

    @classmethod
    def unpacked(cls, x: Float64[Tensor, 7]) -> Self:
        """The inverse of :meth:`packed`."""
        return cls(x[:2].long(), x[2:4].long(), x[4], x[5:].long())

    def roughly(self) -> Float64[Tensor, ""]:
        """The quantile from the first pass alone, to four parts in a thousand."""
        middle = _value(self.bins * _BINS + _BINS // 2).double()
        return torch.lerp(middle[0], middle[1], self.weight)

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


@dataclass(frozen=True)
class ColumnHistogram(Statistic):
    """How many float32 values of each column have each value of their next 8 bits.

    As :class:`Histogram`, for every column by itself: with 256 bins a pass, of which there are
    four, so that thousands of columns take little memory.

    Args:
        counts: for each prefix and each column, ``(k, d, 256)``.
    """

    counts: Int64[Tensor, "k d 256"]

    @classmethod
    def of(
        cls,
        values: Float[Tensor, "n d"],
        prefixes: Int64[Tensor, "k d"] | None = None,
        digits: int = 0,
    ) -> Self:
        """Counts of one batch, of the values that begin with one of the column's prefixes.

        Args:
            values: of all columns.
            prefixes: the digits that precede; by default there are none, and all values count.
            digits: the number of 8-bit digits in a prefix.
        """
        bits = _bits(values)
        ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # signed: what shifts in are copies of a sign
        digit = (ordered >> (24 - _DIGIT * digits)) & (_DIGITS - 1)
        if prefixes is None:
            digit = digit ^ (_DIGITS // 2)  # the sign is the first of its bits
            return cls(_by_column(digit, torch.ones_like(digit, dtype=torch.bool))[None])
        heads = ordered >> (32 - _DIGIT * digits)
        signed = (prefixes - (1 << (_DIGIT * digits - 1))).int()
        counts = [_by_column(digit, heads == signed[0])]
        for previous, row in pairwise(signed):  # most columns of neighbours share a prefix
            columns = (previous != row).nonzero()[:, 0]
            counts.append(counts[-1].clone())
            counts[-1][columns] = _by_column(digit[:, columns], heads[:, columns] == row[columns])
        return cls(torch.stack(counts))

    def __add__(self, other: Self) -> Self:
        """Counts of both parts together."""
        return type(self)(self.counts + other.counts)


@dataclass(frozen=True)
class ColumnQuantiles:
    """Where the quantiles of each column lie, as far as the passes so far tell.

    Each quantile has two rows: the neighbouring order statistics that it lies between.

    Args:
        prefixes: the first digits of each, ``(2q, d)``.
        ranks: its rank among the values of the column with that prefix, from 0, ``(2q, d)``.
        weights: share of the second one, ``(q,)``.
    """

    passes: ClassVar[int] = 32 // _DIGIT

    prefixes: Int64[Tensor, "r d"]
    ranks: Int64[Tensor, "r d"]
    weights: Float64[Tensor, " q"]

    @classmethod
    def locate(cls, first: ColumnHistogram, quantiles: Sequence[float]) -> Self:
        """From the counts of the first pass."""
        counts = first.counts[0]
        last = int(counts[0].sum()) - 1
        low = [min(int(q * last), last) for q in quantiles]
        rows = torch.tensor([r for k in low for r in (k, min(k + 1, last))], device=counts.device)
        ranks = rows[:, None].expand(-1, len(counts))
        gaps = [q * last - k for q, k in zip(quantiles, low, strict=True)]
        weights = torch.tensor(gaps, dtype=torch.float64, device="cpu").to(counts.device)
        histogram = ColumnHistogram(counts.expand(len(rows), -1, -1))
        return cls(torch.zeros_like(ranks), ranks, weights).narrowed(histogram)

    def narrowed(self, behind: ColumnHistogram) -> Self:
        """One digit further, from the counts of the digit after these prefixes."""
        below = behind.counts.cumsum(2)
        digit = torch.searchsorted(below, self.ranks[:, :, None].contiguous(), right=True)
        lower = (below - behind.counts).gather(2, digit)[:, :, 0]
        prefixes = self.prefixes * _DIGITS + digit[:, :, 0]
        return type(self)(prefixes, self.ranks - lower, self.weights)

    def packed(self) -> Float64[Tensor, "k d"]:
        """All of it as one tensor, for a detector to keep between two passes."""
        weights = self.weights[:, None].expand(-1, self.ranks.shape[1])
        return torch.cat([self.prefixes, self.ranks, weights])  # whole numbers below 2**53: exact

    @classmethod
    def unpacked(cls, x: Float64[Tensor, "k d"]) -> Self:
        """The inverse of :meth:`packed`."""
        rows = 2 * len(x) // 5
        return cls(x[:rows].long(), x[rows : 2 * rows].long(), x[2 * rows :, 0])

    def values(self) -> Float64[Tensor, "q d"]:
        """The quantiles of each column, after the last pass."""
        ends: Tensor = _value(self.prefixes).double()
        return torch.lerp(ends[::2], ends[1::2], self.weights[:, None])


def _bits(values: Float[Tensor, ...]) -> Int32[Tensor, ...]:
    """The bits of the float32 values; -0.0 has those of 0.0, as the two are one value."""
    return (values.detach().float() + 0.0).contiguous().view(torch.int32)


def _count(values: Int32[Tensor, ...], mask: Bool[Tensor, ...], bins: int) -> Int64[Tensor, ...]:
    """Count the values under the mask; the rest share one more bin, which saves a copy."""
    return torch.bincount(torch.where(mask, values, bins).flatten(), minlength=bins + 1)[:bins]


def _by_column(digit: Int32[Tensor, "n d"], mask: Bool[Tensor, "n d"]) -> Int64[Tensor, "d 256"]:
    """How often each digit occurs in each column, under the mask."""
    columns = torch.arange(digit.shape[1], device=digit.device, dtype=torch.int32)
    counts = _count(digit + columns * _DIGITS, mask, len(columns) * _DIGITS)
    return counts.view(-1, _DIGITS)


def _upper(bins: Int64[Tensor, " k"]) -> Int64[Tensor, " k"]:
    """The signed upper bits of the values in such bins."""
    return torch.where(bins >= _HALF, bins - _HALF, -1 - bins)


def _value(ordered: Int64[Tensor, ...]) -> Float[Tensor, ...]:
    """The float32 values of such integers."""
    bits = torch.where(ordered >= 1 << 31, ordered - (1 << 31), 0xFFFFFFFF - ordered)
    return torch.where(bits >= 1 << 31, bits - (1 << 32), bits).int().view(torch.float32)
