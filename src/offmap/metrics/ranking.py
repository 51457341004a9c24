"""Numbers that depend on the order of the scores alone.

Every function takes ID scores, then OOD scores: one-dimensional, any real numbers, higher is more
OOD. They are compared as they are given: not squashed, binned or rounded.

Calls on the same scores share one sort, up to two million scores; above,
:func:`offmap.metrics.detection` reads all of them from one.
"""

from __future__ import annotations

from typing import Literal

from offmap.errors import UnknownNameError
from offmap.metrics._ranking import Ranking
from offmap.metrics._scores import Scores


def auroc(id_scores: Scores, ood_scores: Scores) -> float:
    r"""Area under the ROC curve: the chance that an OOD sample scores above an ID sample.

    .. math:: P(s_{ood} > s_{id}) + \tfrac12 P(s_{ood} = s_{id})

    Counted in integers over all pairs, so that the one division is the only rounding.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.

    Raises:
        ShapeError: an array is not one-dimensional.
        DataError: an array is empty, or its numbers do not fit float64.
        NonFiniteError: an array holds NaN or infinity.

    References:
        Hanley and McNeil, Radiology 143, 1982.

    Example:
        >>> auroc([0.1, 0.4, 0.5], [0.5, 0.9])  # one of the six pairs is a tie
        0.9166666666666666
    """
    return Ranking.of(id_scores, ood_scores).auroc


def aupr_out(id_scores: Scores, ood_scores: Scores) -> float:
    r"""Area under the precision-recall curve with OOD as the positive class.

    .. math:: \sum_k (R_k - R_{k-1}) P_k

    over the distinct scores, highest first: average precision, by step. A detector that knows
    nothing gets the share of OOD among the samples, so the two must be read together.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.

    Raises:
        DataError, ShapeError, NonFiniteError: as :func:`auroc`.

    References:
        Davis and Goadrich, ICML 2006, on why not to join the points by lines.

    Example:
        >>> aupr_out([0.1, 0.4, 0.6], [0.5, 0.9])  # precision 1 at recall 1/2, 2/3 at recall 1
        0.8333333333333333
    """
    return Ranking.of(id_scores, ood_scores).average_precision()


def aupr_in(id_scores: Scores, ood_scores: Scores) -> float:
    """Area under the precision-recall curve with ID as the positive class.

    :func:`aupr_out` of the negated scores with the roles exchanged.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.

    Raises:
        DataError, ShapeError, NonFiniteError: as :func:`auroc`.

    Example:
        >>> aupr_in([0.1, 0.4, 0.6], [0.5, 0.9])  # 1 up to recall 2/3, 3/4 at recall 1
        0.9166666666666666
    """
    return Ranking.of(id_scores, ood_scores).mirrored.average_precision()


def fpr_at_tpr(
    id_scores: Scores,
    ood_scores: Scores,
    tpr: float = 0.95,
    *,
    reading: Literal["id_kept", "ood_caught"] = "id_kept",
) -> float:
    """False positive rate at a true positive rate, in either of the two readings in use.

    - ``id_kept``: at the lowest score ``t`` for which a share ``tpr`` of ID has ``score <= t``,
      the share of OOD that also has. Its threshold needs ID data alone.
    - ``ood_caught``: at the highest score ``t`` for which a share ``tpr`` of OOD has
      ``score >= t``, the share of ID that also has.

    The two answer different questions and can lie far apart: name the one you report.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.
        tpr: the share to reach, in (0, 1], read as a decimal: 0.95 of 20 is 19.
        reading: which class is the positive one.

    Raises:
        ArgumentError: ``tpr`` is outside its range.
        UnknownNameError: there is no such reading.
        DataError, ShapeError, NonFiniteError: as :func:`auroc`.

    References:
        ``id_kept``: Liu et al., NeurIPS 2020 (energy). ``ood_caught``: Hendrycks et al., ICLR
        2019 (outlier exposure); OpenOOD.

    Example:
        >>> id_scores, ood_scores = [1, 2, 3, 4], [0, 5, 6, 7]  # one OOD sample is missed
        >>> fpr_at_tpr(id_scores, ood_scores), fpr_at_tpr(
        ...     id_scores, ood_scores, reading="ood_caught"
        ... )
        (0.25, 1.0)
    """
    if reading not in ("id_kept", "ood_caught"):
        raise UnknownNameError(f"No reading {reading!r}: use 'id_kept' or 'ood_caught'.")
    ranking = Ranking.of(id_scores, ood_scores)
    return (ranking.mirrored if reading == "id_kept" else ranking).fpr_at_tpr(tpr)


def detection_accuracy(id_scores: Scores, ood_scores: Scores) -> tuple[float, float]:
    r"""Best balanced accuracy of the rule ``score > threshold``, and that threshold.

    .. math:: \max_t \tfrac12 \left( P(s_{ood} > t) + P(s_{id} \le t) \right)

    Only scores that occur are thresholds. Of equally good ones it is the highest, the one with
    the fewest alarms. Never below one half: the highest score of all raises no alarm.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.

    Raises:
        DataError, ShapeError, NonFiniteError: as :func:`auroc`.

    References:
        Liang et al., ICLR 2018 (ODIN), where one minus this is the detection error.

    Example:
        >>> detection_accuracy([0.1, 0.4, 0.6], [0.5, 0.9])
        (0.8333333333333334, 0.4)
    """
    return Ranking.of(id_scores, ood_scores).best_accuracy()
