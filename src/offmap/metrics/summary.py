"""Every detection metric from one sort."""

from __future__ import annotations

from dataclasses import dataclass

from offmap.metrics._ranking import Ranking
from offmap.metrics._scores import Scores


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well scores tell OOD from ID.

    Args:
        n_id: number of ID samples.
        n_ood: number of OOD samples.
        base_rate: share of OOD among all, the AUPR-out of a detector that knows nothing.
        auroc: see :func:`offmap.metrics.auroc`.
        auroc_low: lower end of its 95 % interval, see :func:`offmap.metrics.delong_interval`.
        auroc_high: upper end.
        aupr_in: see :func:`offmap.metrics.aupr_in`.
        aupr_out: see :func:`offmap.metrics.aupr_out`.
        fpr_id_kept: share of OOD accepted when 95 % of ID is kept.
        fpr_ood_caught: share of ID rejected when 95 % of OOD is caught.
        detection_accuracy: see :func:`offmap.metrics.detection_accuracy`.
        detection_threshold: the score above which a sample is called OOD there.
    """

    n_id: int
    n_ood: int
    base_rate: float
    auroc: float
    auroc_low: float
    auroc_high: float
    aupr_in: float
    aupr_out: float
    fpr_id_kept: float
    fpr_ood_caught: float
    detection_accuracy: float
    detection_threshold: float


def detection(id_scores: Scores, ood_scores: Scores) -> Detection:
    """Every metric of :class:`Detection`, for the cost of sorting once.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.

    Raises:
        DataError, ShapeError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    Example:
        >>> result = detection([0.1, 0.4, 0.6], [0.5, 0.9])
        >>> result.auroc, result.base_rate, result.detection_threshold
        (0.8333333333333334, 0.4, 0.4)
    """
    ranking = Ranking.of(id_scores, ood_scores)
    low, high = ranking.auroc_interval(0.95)
    accuracy, threshold = ranking.best_accuracy()
    return Detection(
        n_id=ranking.n_id,
        n_ood=ranking.n_ood,
        base_rate=ranking.n_ood / (ranking.n_id + ranking.n_ood),
        auroc=ranking.auroc,
        auroc_low=low,
        auroc_high=high,
        aupr_in=ranking.mirrored.average_precision(),
        aupr_out=ranking.average_precision(),
        fpr_id_kept=ranking.mirrored.fpr_at_tpr(0.95),
        fpr_ood_caught=ranking.fpr_at_tpr(0.95),
        detection_accuracy=accuracy,
        detection_threshold=threshold,
    )
