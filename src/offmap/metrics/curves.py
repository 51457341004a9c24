"""The ROC and the precision-recall curve, exact and thinned for drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from offmap.errors import UnknownNameError
from offmap.metrics._curve import Curve
from offmap.metrics._ranking import Ranking
from offmap.metrics._scores import Scores


@dataclass(frozen=True, eq=False)
class RocCurve(Curve):
    """False and true positive rate of calling a sample OOD when ``score >= threshold``.

    From (0, 0) at an infinite threshold to (1, 1) at the lowest score, one point for each
    distinct score between; joined by lines, its area is the AUROC.

    Args:
        fpr: share of ID called OOD, ``(k,)``.
        tpr: share of OOD called OOD, ``(k,)``.
        thresholds: falling, ``(k,)``.
    """

    fpr: Float[np.ndarray, " k"]
    tpr: Float[np.ndarray, " k"]
    thresholds: Float[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class PrCurve(Curve):
    """Recall and precision of the positive class, one point for each distinct score.

    The first point, recall 0 at an infinite threshold, has precision 1 by convention. Drawn as
    steps that hold the precision of their right end, its area is the AUPR.

    Args:
        recall: rising from 0 to 1, ``(k,)``.
        precision: ``(k,)``.
        thresholds: the positive class is called at ``score >= threshold`` and they fall when OOD
            is positive; at ``score <= threshold`` and they rise when ID is, ``(k,)``.
    """

    recall: Float[np.ndarray, " k"]
    precision: Float[np.ndarray, " k"]
    thresholds: Float[np.ndarray, " k"]


def roc_curve(id_scores: Scores, ood_scores: Scores) -> RocCurve:
    """The ROC curve, OOD positive.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.

    Raises:
        DataError, ShapeError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    Example:
        >>> curve = roc_curve([0.0, 0.5], [0.5, 1.0])
        >>> print(curve.fpr, curve.tpr, curve.thresholds)
        [0.  0.  0.5 1. ] [0.  0.5 1.  1. ] [inf 1.  0.5 0. ]
    """
    ranking = Ranking.of(id_scores, ood_scores)
    return RocCurve(
        ranking.id_counts / ranking.n_id,
        ranking.ood_counts / ranking.n_ood,
        ranking.thresholds,
    )


def pr_curve(
    id_scores: Scores, ood_scores: Scores, *, positive: Literal["ood", "id"] = "ood"
) -> PrCurve:
    """The precision-recall curve of either class.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.
        positive: the class whose recall and precision are meant.

    Raises:
        UnknownNameError: ``positive`` is neither.
        DataError, ShapeError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    Example:
        >>> curve = pr_curve([0.0, 0.5], [0.5, 1.0], positive="id")
        >>> print(curve.recall, curve.thresholds)
        [0.  0.5 1.  1. ] [-inf  0.   0.5  1. ]
    """
    if positive not in ("ood", "id"):
        raise UnknownNameError(f"No class {positive!r}: use 'ood' or 'id'.")
    ranking = Ranking.of(id_scores, ood_scores)
    if positive == "id":
        ranking = ranking.mirrored
    called, right = ranking.id_counts[1:] + ranking.ood_counts[1:], ranking.ood_counts[1:]
    return PrCurve(
        ranking.ood_counts / ranking.n_ood,
        np.concatenate([[1.0], right / called]),
        -ranking.thresholds if positive == "id" else ranking.thresholds,
    )
