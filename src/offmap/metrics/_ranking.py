"""The one sort from which every rank metric is read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import Self

import numpy as np
from jaxtyping import Float, Int64

from offmap.errors import ArgumentError
from offmap.metrics._scores import Scores, as_scores


@dataclass(frozen=True, eq=False)
class Ranking:
    """How many ID and OOD samples score at least as high as each distinct score.

    Args:
        thresholds: the ``k`` distinct scores of both arrays, highest first.
        id_counts: 0, then the number of ID scores ``>=`` each threshold, the last being all.
        ood_counts: the same for OOD.
    """

    thresholds: Float[np.ndarray, " k"]
    id_counts: Int64[np.ndarray, " k+1"]
    ood_counts: Int64[np.ndarray, " k+1"]

    @classmethod
    def of(cls, id_scores: Scores, ood_scores: Scores) -> Self:
        """The ranking of two arrays of scores; raises what ``as_scores`` raises."""
        in_dist, ood = as_scores(id_scores, ood_scores)
        # Sorting values is several times faster than sorting indices, and ascending queries
        # keep searchsorted within the cache. What is not ID below a threshold is OOD.
        merged = np.concatenate([in_dist, ood])
        merged.sort()
        below = np.flatnonzero(np.concatenate([[True], merged[1:] != merged[:-1], [True]]))
        distinct = merged[below[:-1]]
        id_below = np.append(np.searchsorted(np.sort(in_dist), distinct), len(in_dist))
        ood_below = below - id_below
        return cls(distinct[::-1], (len(in_dist) - id_below)[::-1], (len(ood) - ood_below)[::-1])

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

        What is asked with ID as the positive class is asked of this one.
        """
        return Ranking(
            -self.thresholds[::-1],
            self.n_ood - self.ood_counts[::-1],
            self.n_id - self.id_counts[::-1],
        )

    @cached_property
    def auroc(self) -> float:
        """Share of ID-OOD pairs in the right order, ties one half."""
        # In integers, and twice the pairs, so that the division is the only rounding.
        doubled = np.diff(self.ood_counts) @ (self.id_counts[1:] + self.id_counts[:-1])
        pairs = 2 * self.n_id * self.n_ood
        return (pairs - int(doubled)) / pairs

    def auroc_interval(self, level: float) -> tuple[float, float]:
        """Normal interval of the AUROC from DeLong's variance, cut to [0, 1]."""
        variance = self._placement_variance() + self.mirrored._placement_variance()
        half = normal_quantile(level) * sqrt(variance)
        return max(0.0, self.auroc - half), min(1.0, self.auroc + half)

    def average_precision(self) -> float:
        """Sum over the thresholds of the gain in recall times the precision; OOD is positive."""
        return float(np.diff(self.ood_counts) @ self.precision()) / self.n_ood

    def precision(self) -> Float[np.ndarray, " k"]:
        """Share of OOD among the samples at or above each threshold."""
        caught = self.ood_counts[1:]
        share: Float[np.ndarray, " k"] = caught / (self.id_counts[1:] + caught)
        return share

    def fpr_at_tpr(self, tpr: float) -> float:
        """Share of ID at or above the highest score that catches a share ``tpr`` of OOD."""
        if not 0 < tpr <= 1:
            raise ArgumentError(f"tpr must lie in (0, 1], but is {tpr}.")
        # The decimal that was typed: in binary 0.07 * 100 is above 7 and would ask for 8.
        needed = ceil(Fraction(str(float(tpr))) * self.n_ood)
        return int(self.id_counts[np.searchsorted(self.ood_counts, needed)]) / self.n_id

    def best_accuracy(self) -> tuple[float, float]:
        """Highest (TPR + TNR) / 2 of ``score > threshold``, and the highest such threshold."""
        # Over the common denominator, in integers, so that ties are ties.
        doubled = self.ood_counts[:-1] * self.n_id + (self.n_id - self.id_counts[:-1]) * self.n_ood
        best = int(doubled.argmax())
        return int(doubled[best]) / (2 * self.n_id * self.n_ood), float(self.thresholds[best])

    def _placement_variance(self) -> float:
        """Variance of the mean, over the OOD samples, of the share of ID below each.

        Infinite for a single sample, whose spread nobody knows.
        """
        if self.n_ood == 1:
            return inf
        below = 1 - (self.id_counts[1:] + self.id_counts[:-1]) / (2 * self.n_id)
        spread = np.diff(self.ood_counts) @ (below - self.auroc) ** 2
        return float(spread) / (self.n_ood - 1) / self.n_ood


def normal_quantile(level: float) -> float:
    """Half width, in standard deviations, of the central normal interval of that level."""
    if not 0 < level < 1:
        raise ArgumentError(f"level must lie in (0, 1), but is {level}.")
    return NormalDist().inv_cdf((1 + level) / 2)
