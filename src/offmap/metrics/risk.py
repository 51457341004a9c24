"""Selective classification: how many predictions are wrong among those that are accepted.

Every function takes OOD scores, or any other doubt that is higher where a prediction is less
sure, and whether each prediction is right. Samples are accepted in the order of rising score. OOD
samples enter as samples whose prediction is never right: append their scores, and ``False`` for
each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike

from offmap._utils.arguments import number
from offmap.metrics._curve import Curve
from offmap.metrics._scores import Scores, as_array, as_mask


@dataclass(frozen=True, eq=False)
class RiskCoverage(Curve):
    """Errors against acceptance, a point for each distinct score: equal scores enter together.

    From coverage 0, where both risks are 0 by convention, to 1, where both are the share of wrong
    predictions. The joint risk, joined by lines, has the area :func:`augrc`.

    Args:
        coverage: share of all samples with ``score <= threshold``, the accepted ones, ``(k,)``.
        risk: share of wrong predictions among the accepted, ``(k,)``.
        joint_risk: share of all samples that are accepted and wrong, ``(k,)``.
        thresholds: rising; the first is minus infinity, ``(k,)``.
    """

    coverage: Float[np.ndarray, " k"]
    risk: Float[np.ndarray, " k"]
    joint_risk: Float[np.ndarray, " k"]
    thresholds: Float[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class _Counts:
    """How many samples, and how many wrong ones, score at most each threshold; the first none."""

    thresholds: Float[np.ndarray, " k"]
    accepted: Int64[np.ndarray, " k"]
    wrong: Int64[np.ndarray, " k"]


def risk_coverage(scores: Scores, right: ArrayLike) -> RiskCoverage:
    """The risk-coverage curve, with the generalised (joint) risk beside it.

    Args:
        scores: OOD scores, ``(n,)``.
        right: whether each prediction is right, ``(n,)``; never for an OOD sample.

    Raises:
        ShapeError: ``scores`` is not one-dimensional, or ``right`` no truth value for each.
        DataError: ``scores`` is empty, or its numbers do not fit float64.
        NonFiniteError: ``scores`` holds NaN or infinity.

    References:
        Geifman and El-Yaniv, NeurIPS 2017, arXiv:1705.08500; the joint risk: :func:`augrc`.

    Example:
        >>> curve = risk_coverage([0.1, 0.2, 0.2, 0.7], [True, False, True, False])
        >>> print(curve.coverage, curve.joint_risk)
        [0.   0.25 0.75 1.  ] [0.   0.   0.25 0.5 ]
    """
    counts = _counts(scores, right)
    n = counts.accepted[-1]
    return RiskCoverage(
        counts.accepted / n,
        counts.wrong / np.maximum(counts.accepted, 1),
        counts.wrong / n,
        counts.thresholds,
    )


def aurc(scores: Scores, right: ArrayLike) -> float:
    r"""Area under the risk-coverage curve: mean risk over the coverages ``1/n, 2/n, ..., 1``.

    .. math:: \frac{1}{n} \sum_{k=1}^{n} W_k / k

    with ``W_k`` wrong predictions among the ``k`` lowest scores. Among equal scores it is the
    expected number, the mean over all their orders: the order of the data changes nothing. It
    weighs the few most certain predictions heavily; :func:`augrc` does not.

    Args:
        scores: OOD scores, ``(n,)``.
        right: whether each prediction is right, ``(n,)``; never for an OOD sample.

    Raises:
        ShapeError, DataError, NonFiniteError: as :func:`risk_coverage`.

    References:
        Geifman, Uziel and El-Yaniv, ICLR 2019, arXiv:1805.08206.

    Example:
        >>> aurc([0.1, 0.2, 0.3, 0.7], [True, False, True, False])  # 0, 1/2, 1/3 and 1/2
        0.3333333333333333
    """
    counts = _counts(scores, right)
    places = np.arange(1, counts.accepted[-1] + 1)
    # Within a run of equal scores the expected number of wrong predictions rises by a line.
    return float((np.interp(places, counts.accepted, counts.wrong) / places).mean())


def augrc(scores: Scores, right: ArrayLike) -> float:
    r"""Area under the generalised risk-coverage curve: mean share of accepted wrong predictions.

    .. math:: (1 - A) \, a (1 - a) + \tfrac12 (1 - a)^2

    with ``a`` the share of right predictions and ``A`` the AUROC of the scores telling wrong from
    right ones, ties one half: the mean over all orders of equal scores. Counted in integers, so
    that the one division is the only rounding. From ``(1 - a)^2 / 2``, all wrong predictions last,
    to ``(1 - a^2) / 2``, all first.

    Args:
        scores: OOD scores, ``(n,)``.
        right: whether each prediction is right, ``(n,)``; never for an OOD sample.

    Raises:
        ShapeError, DataError, NonFiniteError: as :func:`risk_coverage`.

    References:
        Traub et al., NeurIPS 2024, arXiv:2407.01032.

    Example:
        >>> augrc([0.1, 0.2, 0.3, 0.7], [True, False, True, False])
        0.1875
    """
    counts = _counts(scores, right)
    doubled = int((np.diff(counts.accepted) * (counts.wrong[1:] + counts.wrong[:-1])).sum())
    return doubled / (2 * int(counts.accepted[-1]) ** 2)


def coverage_at_risk(scores: Scores, right: ArrayLike, risk: float) -> float:
    r"""Largest share of samples that can be accepted with at most that share of wrong predictions.

    .. math:: \max \{ A(t) / n : W(t) / A(t) \le r \}

    over the scores that occur, so equal scores are accepted together or not at all; 0.0 if there
    is none. Read off these samples: on others the risk at that threshold may be larger.

    Args:
        scores: OOD scores, ``(n,)``.
        right: whether each prediction is right, ``(n,)``; never for an OOD sample.
        risk: ``r``, the share of wrong predictions among the accepted, in [0, 1].

    Raises:
        ArgumentError: ``risk`` is outside its range.
        ShapeError, DataError, NonFiniteError: as :func:`risk_coverage`.

    References:
        Geifman and El-Yaniv, NeurIPS 2017, arXiv:1705.08500.

    Example:
        >>> coverage_at_risk([0.1, 0.2, 0.3, 0.7], [True, False, True, False], 0.4)
        0.75
    """
    risk = number("risk", risk, least=0, most=1)
    curve = risk_coverage(scores, right)
    return float(curve.coverage[curve.risk <= risk].max())


def _counts(scores: Scores, right: ArrayLike) -> _Counts:
    array = as_array(scores, "scores")
    wrong_sorted = np.sort(array[~as_mask(right, len(array))])
    scores_sorted = np.sort(array)
    thresholds = np.concatenate([[-np.inf], np.unique(scores_sorted)])
    return _Counts(
        thresholds,
        np.searchsorted(scores_sorted, thresholds, "right"),
        np.searchsorted(wrong_sorted, thresholds, "right"),
    )
