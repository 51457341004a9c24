"""How far an AUROC can be trusted: DeLong's interval and paired test.

Both treat the networks and detectors as fixed and the samples as drawn: they speak about other
test samples of the same kind, not about another training run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import NamedTuple

from offmap.errors import ShapeError
from offmap.metrics._ranking import Ranking, normal_quantile
from offmap.metrics._scores import Scores
from offmap.metrics.placements import Placements


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
            f"a has {len(oods_a)} OOD sets, b has {len(oods_b)}: give the same sets, at least one"
        )
    return placed_difference(Placements.of(id_a, oods_a), Placements.of(id_b, oods_b), level=level)


def placed_difference(a: Placements, b: Placements, *, level: float = 0.95) -> Difference:
    """:func:`delong_test_of_mean` from placements, with no sort of its own.

    Args:
        a: placements of the first.
        b: of the second, on the same samples in the same order.
        level: of the confidence interval of the difference, in (0, 1).

    Raises:
        ShapeError: the two differ in their number of sets or samples.
        ArgumentError: ``level`` is outside its range.
    """
    difference, deviation = a.mean_and_deviation(minus=b)
    half = normal_quantile(level) * deviation
    # erfc keeps its digits where one minus the distribution function has none left.
    p_value = erfc(abs(difference) / deviation / sqrt(2)) if deviation else float(difference == 0)
    return Difference(
        difference=difference,
        low=max(-1.0, difference - half),
        high=min(1.0, difference + half),
        p_value=p_value,
    )


def delong_interval_of_mean(
    id_scores: Scores, oods: Sequence[Scores], *, level: float = 0.95
) -> Interval:
    """Confidence interval of the mean AUROC over several OOD sets that share their ID samples.

    Its variance is that of :meth:`Placements.mean_and_deviation`: what is common to all sets does
    not average out. For one set it is :func:`delong_interval`.

    Args:
        id_scores: ``(n,)``.
        oods: OOD scores, one array a set, ``(m_s,)``.
        level: share of such intervals that hold the true mean, in (0, 1).

    Raises:
        ShapeError: there is no set.
        ArgumentError: ``level`` is outside its range.
        DataError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    References:
        As :func:`delong_interval`.

    Example:
        >>> low, high = delong_interval_of_mean([1, 2, 3, 4, 5], [[3.5, 4.5, 5.5, 6.5]])
        >>> print(f"{low:.3f} {high:.3f}")
        0.579 1.000
    """
    return placed_interval(Placements.of(id_scores, oods), level=level)


def placed_interval(placements: Placements, *, level: float = 0.95) -> Interval:
    """:func:`delong_interval_of_mean` from placements, with no sort of its own."""
    mean, deviation = placements.mean_and_deviation()
    half = normal_quantile(level) * deviation
    return Interval(max(0.0, mean - half), min(1.0, mean + half))
