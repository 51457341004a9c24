"""Placements: what each sample adds to an AUROC, from which DeLong's variances are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Self

import numpy as np
from jaxtyping import Float, Int64

from offmap.errors import ShapeError
from offmap.metrics._scores import Scores, as_scores


@dataclass(frozen=True, eq=False)
class Placements:
    r"""DeLong's placements under one detector: ranks among the other kind, for several OOD sets.

    They are integers, twice the counts with ties counting one, so that equal placements differ by
    exactly zero. With the placements of several detectors on the same samples, every pair is tested
    without another sort.

    Args:
        of_ood: for each OOD sample twice the number of ID samples below it, an array a set,
            ``(m_s,)``.
        of_id: for each ID sample twice the number of OOD samples above it, an array a set,
            ``(n,)``.
    """

    of_ood: tuple[Int64[np.ndarray, " _"], ...]
    of_id: tuple[Int64[np.ndarray, " n"], ...]

    @classmethod
    def of(cls, id_scores: Scores, oods: Sequence[Scores]) -> Self:
        """The placements of scores.

        Args:
            id_scores: ``(n,)``.
            oods: one array a set, ``(m_s,)``.

        Raises:
            ShapeError: there is no set.
            DataError, NonFiniteError: as :func:`offmap.metrics.auroc`.
        """
        if not oods:
            raise ShapeError("there is no OOD set: give at least one")
        arrays = [as_scores(id_scores, ood) for ood in oods]
        return cls(
            tuple(_counts(in_dist, ood) for in_dist, ood in arrays),
            tuple(2 * len(ood) - _counts(ood, in_dist) for in_dist, ood in arrays),
        )

    def only(self, sets: Sequence[int]) -> Self:
        """The placements of some of the sets, by position."""
        of_ood, of_id = ([arrays[i] for i in sets] for arrays in (self.of_ood, self.of_id))
        return type(self)(tuple(of_ood), tuple(of_id))

    def mean_and_deviation(self, minus: Placements | None = None) -> tuple[float, float]:
        r"""The mean AUROC over the sets, and its standard error; or those of a difference.

        .. math:: \frac{1}{n} \operatorname{var}\Big(\frac{1}{S} \sum_s V_{id}^s\Big)
                  + \frac{1}{S^2} \sum_s \frac{1}{m_s} \operatorname{var}(V_{ood}^s)

        The OOD sets are independent of each other, and all are held against the same ID samples: so
        the ID part is that of the mean placement, and not a mean of the ID parts.

        Args:
            minus: of another detector on the same samples in the same order.

        Raises:
            ShapeError: the two differ in their number of sets or samples.
        """
        if minus is not None and len(minus.of_ood) != len(self.of_ood):
            raise ShapeError(
                f"a has {len(self.of_ood)} OOD sets, b has {len(minus.of_ood)}: give the same sets"
            )
        parts = [self._set_placements(i, minus) for i in range(len(self.of_ood))]
        sets = len(parts)
        id_part = np.mean([of_id for _, of_id in parts], axis=0)
        ood_part = sum(_variance_of_mean(of_ood) for of_ood, _ in parts) / sets**2
        mean = sum(float(of_ood.mean()) for of_ood, _ in parts) / sets
        return mean, sqrt(_variance_of_mean(id_part) + ood_part)

    def _set_placements(
        self, i: int, minus: Placements | None
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " n"]]:
        of_ood, of_id = self.of_ood[i], self.of_id[i]
        n, m = len(of_id), len(of_ood)
        if minus is not None:
            if (len(minus.of_id[i]), len(minus.of_ood[i])) != (n, m):
                raise ShapeError(
                    f"a has {n} ID and {m} OOD scores, b has {len(minus.of_id[i])} and "
                    f"{len(minus.of_ood[i])}: a paired test needs the same samples in the same "
                    "order."
                )
            of_ood, of_id = of_ood - minus.of_ood[i], of_id - minus.of_id[i]
        return of_ood / (2 * n), of_id / (2 * m)


def _counts(
    scores: Float[np.ndarray, " k"], at: Float[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Twice the number of scores below each value, ties counting one."""
    rising = np.sort(scores)
    return np.searchsorted(rising, at, "left") + np.searchsorted(rising, at, "right")


def _variance_of_mean(values: Float[np.ndarray, " n"]) -> float:
    return inf if len(values) == 1 else float(values.var(ddof=1)) / len(values)
