"""How far the AUROC of a sample can be trusted: DeLong's interval and his paired test.

Both treat the networks and detectors as fixed and the samples as drawn: they speak about other
test samples of the same kind, not about another training run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, inf, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from offmap.errors import ShapeError
from offmap.metrics._ranking import Ranking, normal_quantile
from offmap.metrics._scores import Scores, as_scores


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of a minus that of b, with interval and test.

    Args:
        difference: on the samples as they are.
        low: lower end of the confidence interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that the two are equal.
    """

    difference: float
    low: float
    high: float
    p_value: float


def delong_interval(id_scores: Scores, ood_scores: Scores, *, level: float = 0.95) -> Interval:
    r"""Confidence interval of the AUROC.

    .. math:: A \pm z \sqrt{\operatorname{var}(V_{ood}) / m + \operatorname{var}(V_{id}) / n}

    with the placements: ``V_ood``, for each OOD sample the share of ID below it, and ``V_id``, for
    each ID sample the share of OOD above it, ties one half; cut to [0, 1]. The interval is normal,
    which fits poorly close to 0 and 1: at exactly 0 or 1 the variance is zero and the interval a
    point, which says that no error was seen and not that none is possible. With a single sample
    on either side the variance is unknown and the interval is all of [0, 1].

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.
        level: share of such intervals that hold the true AUROC, in (0, 1).

    Raises:
        ArgumentError: ``level`` is outside its range.
        DataError, ShapeError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    References:
        DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; by sorting as in Sun and Xu, IEEE
        Signal Processing Letters 21, 2014.

    Example:
        >>> low, high = delong_interval([1, 2, 3, 4, 5], [3.5, 4.5, 5.5, 6.5])
        >>> print(f"{low:.3f} {high:.3f}")
        0.579 1.000
    """
    return Interval(*Ranking.of(id_scores, ood_scores).auroc_interval(level))


def delong_test(
    id_a: Scores, ood_a: Scores, id_b: Scores, ood_b: Scores, *, level: float = 0.95
) -> Difference:
    r"""Are two AUROC, measured on the same samples, different?

    .. math:: z = \frac{A_a - A_b}{\sqrt{\operatorname{var}(V_{ood}^a - V_{ood}^b) / m
              + \operatorname{var}(V_{id}^a - V_{id}^b) / n}}

    with the placements ``V`` of :func:`delong_interval`: the same as DeLong's covariance matrix,
    without making it. The scores may come from two detectors on one network or from two networks;
    only the samples, and their order, must be the same. A variance of zero (the same order of
    scores twice, or two AUROC that are each exactly 0 or 1) gives p = 1 if the AUROC are equal and
    p = 0 if not; a single sample on either side, where it is unknown, p = 1 and [-1, 1].

    Args:
        id_a: ID scores of the first, ``(n,)``.
        ood_a: OOD scores of the first, ``(m,)``.
        id_b: ID scores of the second, of the same samples in the same order, ``(n,)``.
        ood_b: OOD scores of the second, likewise, ``(m,)``.
        level: of the confidence interval of the difference, in (0, 1).

    Raises:
        ShapeError: the two do not have the same number of samples.
        ArgumentError: ``level`` is outside its range.
        DataError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    References:
        As :func:`delong_interval`.

    Example:
        >>> test = delong_test([1, 2, 3, 4], [3, 5, 6, 7], [1, 4, 2, 6], [3, 5, 6, 7])
        >>> print(f"{test.difference:.4f} [{test.low:.3f}, {test.high:.3f}] p={test.p_value:.3f}")
        0.1250 [-0.120, 0.370] p=0.317
    """
    return delong_test_of_mean(id_a, [ood_a], id_b, [ood_b], level=level)


def delong_test_of_mean(
    id_a: Scores,
    oods_a: Sequence[Scores],
    id_b: Scores,
    oods_b: Sequence[Scores],
    *,
    level: float = 0.95,
) -> Difference:
    r"""Are two mean AUROC over several OOD sets, measured on the same samples, different?

    .. math:: \operatorname{var} = \frac{1}{n} \operatorname{var}\Big(\frac{1}{S} \sum_s
              V_{id}^{a,s} - V_{id}^{b,s}\Big) + \frac{1}{S^2} \sum_s \frac{1}{m_s}
              \operatorname{var}(V_{ood}^{a,s} - V_{ood}^{b,s})

    The OOD sets are independent of each other, and all are held against the same ID samples: so the
    ID part is that of the mean placement, and not a mean of the ID parts. For one set it is
    :func:`delong_test`.

    Args:
        id_a: ID scores of the first, ``(n,)``.
        oods_a: its OOD scores, one array a set, ``(m_s,)``.
        id_b: ID scores of the second, of the same samples in the same order.
        oods_b: its OOD scores, likewise.
        level: of the confidence interval of the difference, in (0, 1).

    Raises:
        ShapeError: the two do not have the same number of samples, or there is no set.
        ArgumentError: ``level`` is outside its range.
        DataError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    References:
        As :func:`delong_interval`; the sum is that of independent contributions.
    """
    if len(oods_a) != len(oods_b) or not oods_a:
        raise ShapeError(
            f"a has {len(oods_a)} OOD sets, b has {len(oods_b)}: name the same, one up"
        )
    parts = [_gain(id_a, a, id_b, b) for a, b in zip(oods_a, oods_b, strict=True)]
    sets = len(parts)
    difference = sum(float(of_ood.mean()) for of_ood, _ in parts) / sets
    id_part = np.mean([of_id for _, of_id in parts], axis=0)
    ood_part = sum(_variance_of_mean(of_ood) for of_ood, _ in parts) / sets**2
    deviation = sqrt(_variance_of_mean(id_part) + ood_part)
    half = normal_quantile(level) * deviation
    return Difference(
        difference=difference,
        low=max(-1.0, difference - half),
        high=min(1.0, difference + half),
        p_value=_two_sided(difference, deviation),
    )


def _gain(
    id_a: Scores, ood_a: Scores, id_b: Scores, ood_b: Scores
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " n"]]:
    """Placements of a minus those of b, of OOD and of ID samples."""
    ood_wins_a, id_wins_a = _wins(id_a, ood_a)
    ood_wins_b, id_wins_b = _wins(id_b, ood_b)
    if len(id_wins_a) != len(id_wins_b) or len(ood_wins_a) != len(ood_wins_b):
        raise ShapeError(
            f"a has {len(id_wins_a)} ID and {len(ood_wins_a)} OOD scores, b has {len(id_wins_b)} "
            f"and {len(ood_wins_b)}: a paired test needs the same samples in the same order."
        )
    return (
        (ood_wins_a - ood_wins_b) / (2 * len(id_wins_a)),
        (id_wins_a - id_wins_b) / (2 * len(ood_wins_a)),
    )


def _wins(
    id_scores: Scores, ood_scores: Scores
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " n"]]:
    """For each OOD sample twice the number of ID below it, for each ID of OOD above; ties one."""
    in_dist, ood = as_scores(id_scores, ood_scores)
    id_sorted, ood_sorted = np.sort(in_dist), np.sort(ood)
    return (
        np.searchsorted(id_sorted, ood, "left") + np.searchsorted(id_sorted, ood, "right"),
        2 * len(ood)
        - np.searchsorted(ood_sorted, in_dist, "left")
        - np.searchsorted(ood_sorted, in_dist, "right"),
    )


def _variance_of_mean(values: Float[np.ndarray, " n"]) -> float:
    return inf if len(values) == 1 else float(values.var(ddof=1)) / len(values)


def _two_sided(difference: float, deviation: float) -> float:
    if deviation == 0:
        return float(difference == 0)
    # erfc keeps its digits where one minus the distribution function has none left.
    return erfc(abs(difference) / deviation / sqrt(2))
