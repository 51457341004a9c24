"""The one sort from which every rank metric is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from offmap._utils.arguments import number
from offmap.metrics._scores import Scores, as_scores

Counts: TypeAlias = NDArray[np.int64]

_BLOCK = 2**15
_LARGEST_KEPT = 2_000_000  # scores; their ranking takes 50 MB


@dataclass(frozen=True, eq=False)
class Ranking:
    """How many ID and OOD samples score at least as high as each distinct score.

    Args:
        thresholds: infinity, then the distinct scores of both arrays, highest first.
        id_counts: number of ID scores ``>=`` each threshold: from none to all.
        ood_counts: the same for OOD.
    """

    thresholds: Float[np.ndarray, " k"]
    id_counts: Int64[np.ndarray, " k"]
    ood_counts: Int64[np.ndarray, " k"]

    @classmethod
    def of(cls, id_scores: Scores, ood_scores: Scores) -> Ranking:
        """The ranking of two arrays of scores; raises what ``as_scores`` raises.

        The latest one is cached, so that metrics computed one by one share the sort.
        """
        in_dist, ood = as_scores(id_scores, ood_scores)
        if (cache := _Cache.last) is not None and cache.of(in_dist, ood):
            return cache.ranking
        ranking = cls._sorted(in_dist, ood)
        small = in_dist.size + ood.size <= _LARGEST_KEPT
        _Cache.last = _Cache(in_dist.copy(), ood.copy(), ranking) if small else None
        return ranking

    @classmethod
    def _sorted(cls, in_dist: Float[np.ndarray, " n"], ood: Float[np.ndarray, " m"]) -> Ranking:
        # Values are sorted several times faster than indices, and sorted queries keep searchsorted
        # within the cache. Negated, and behind an infinity of index 0, the last index of each run
        # of equal scores is the number of samples at or above it; those that are not ID are OOD.
        merged = np.concatenate([np.array([-inf], in_dist.dtype), -in_dist, -ood])
        merged.sort()
        counts = np.flatnonzero(np.append(merged[1:] != merged[:-1], True))
        negated = merged[counts]
        id_counts = np.searchsorted(np.sort(-in_dist), negated, side="right")
        return cls(-negated, id_counts, counts - id_counts)

    @property
    def n_id(self) -> int:
        """Number of ID samples."""
        return int(self.id_counts[-1])

    @property
    def n_ood(self) -> int:
        """Number of OOD samples."""
        return int(self.ood_counts[-1])

    @cached_property
    def mirrored(self) -> Ranking:
        """The ranking of the negated scores with ID and OOD in each other's place.

        Metrics with ID as the positive class are read from it.
        """
        return Ranking(
            np.concatenate([self.thresholds[:1], -self.thresholds[:0:-1]]),
            self.n_ood - self.ood_counts[::-1],
            self.n_id - self.id_counts[::-1],
        )

    @cached_property
    def auroc(self) -> float:
        """Share of ID-OOD pairs in the right order, ties one half."""
        # In integers, and twice the pairs, so that the division is the only rounding.
        wrong = sum(int((gained * (ids[1:] + ids[:-1])).sum()) for gained, ids, _ in self._blocks())
        pairs = 2 * self.n_id * self.n_ood
        return (pairs - wrong) / pairs

    def auroc_interval(self, level: float) -> tuple[float, float]:
        """Normal interval of the AUROC from DeLong's variance, cut to [0, 1]."""
        variance = self._placement_variance() + self.mirrored._placement_variance()
        half = normal_quantile(level) * sqrt(variance)
        return max(0.0, self.auroc - half), min(1.0, self.auroc + half)

    def average_precision(self) -> float:
        """Sum over the thresholds of the gain in recall times the precision; OOD is positive."""
        gains = (
            float((gained * (oods[1:] / (ids[1:] + oods[1:]))).sum())
            for gained, ids, oods in self._blocks()
        )
        return sum(gains) / self.n_ood

    def fpr_at_tpr(self, tpr: float) -> float:
        """Share of ID at or above the highest score that catches a share ``tpr`` of OOD."""
        share = float(number("tpr", tpr, above=0, most=1))
        # The decimal that was typed: in binary 0.07 * 100 is above 7 and would ask for 8.
        catches = ceil(Fraction(str(share)) * self.n_ood)
        return int(self.id_counts[np.searchsorted(self.ood_counts, catches)]) / self.n_id

    def best_accuracy(self) -> tuple[float, float]:
        """Highest (TPR + TNR) / 2 of ``score > threshold``, and the highest such threshold."""
        # Over the common denominator, in integers, so that ties are ties.
        doubled = self.ood_counts[:-1] * self.n_id + (self.n_id - self.id_counts[:-1]) * self.n_ood
        index = int(doubled.argmax())
        return int(doubled[index]) / (2 * self.n_id * self.n_ood), float(self.thresholds[index + 1])

    def _placement_variance(self) -> float:
        """Variance of the mean, over the OOD samples, of the share of ID below each.

        Infinite for a single sample, whose spread is unknown.
        """
        if self.n_ood == 1:
            return inf
        squares = sum(
            float((gained * (1 - (ids[1:] + ids[:-1]) / (2 * self.n_id) - self.auroc) ** 2).sum())
            for gained, ids, _ in self._blocks()
        )
        return squares / (self.n_ood - 1) / self.n_ood

    def _blocks(self) -> Iterator[tuple[Counts, Counts, Counts]]:
        """Blocks of OOD gains, ID counts and OOD counts; the counts start one threshold earlier."""
        # Small enough that whatever is computed from a block stays in the processor's cache. It is
        # summed by NumPy: BLAS would share a dot product among threads, slower on a busy machine.
        for start in range(0, len(self.thresholds) - 1, _BLOCK):
            block = slice(start, start + _BLOCK + 1)
            ids, oods = self.id_counts[block], self.ood_counts[block]
            yield np.diff(oods), ids, oods


@dataclass(frozen=True, eq=False)
class _Cache:
    """The latest ranking, with copies of its scores: the caller may overwrite the arrays."""

    in_dist: Float[np.ndarray, " n"]
    ood: Float[np.ndarray, " m"]
    ranking: Ranking

    last: ClassVar[_Cache | None] = None  # replaced in one step, so that threads never see half

    def of(self, in_dist: Float[np.ndarray, " n"], ood: Float[np.ndarray, " m"]) -> bool:
        """Whether these are its scores, in this order and type."""
        pairs = ((self.in_dist, in_dist), (self.ood, ood))
        return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def normal_quantile(level: float) -> float:
    """Half width, in standard deviations, of the central normal interval of that level."""
    return NormalDist().inv_cdf((1 + checked_level(level)) / 2)


def checked_level(level: float) -> float:
    """The level of a confidence interval, refused outside (0, 1)."""
    return number("level", level, above=0, below=1)
