"""Accept or refuse, over ID and OOD together: precision, recall and F1 of the right predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from offmap.metrics._scores import Scores, accepted, as_mask, as_scores


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The figures of one threshold on ID and OOD samples together.

    A prediction is right if the sample is accepted, is ID, and its label is right.

    Args:
        n_id: number of ID samples.
        n_ood: number of OOD samples.
        base_ratio: ID:OOD, ``n_id / n_ood``; precision and F1 depend on it.
        accepted: number of samples accepted, ID and OOD.
        right: number of right predictions.
        precision: ``right / accepted``; 0 if nothing is accepted, so that refusing all earns none.
        recall: ``right / n_id``.
        f1: their harmonic mean, ``2 right / (accepted + n_id)``.
        detection_accuracy: of the threshold, labels apart: ``(TPR + TNR) / 2``, balanced, as
            :func:`offmap.metrics.detection_accuracy`.
        decided: share of all samples rightly accepted or refused, labels apart; not balanced.
    """

    n_id: int
    n_ood: int
    base_ratio: float
    accepted: int
    right: int
    precision: float
    recall: float
    f1: float
    detection_accuracy: float
    decided: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """The outcome of each sample in a system; :func:`f1_difference` compares two systems.

    Args:
        accepted: which ID samples are accepted, ``(n,)``.
        right: which are accepted and rightly predicted, ``(n,)``.
        ood_accepted: which OOD samples are accepted, ``(m,)``.
    """

    accepted: Bool[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]
    ood_accepted: Bool[np.ndarray, " m"]

    @classmethod
    def of(
        cls, id_scores: Scores, right: ArrayLike, ood_scores: Scores, *, threshold: float
    ) -> Self:
        """Outcomes at a threshold; arguments and errors as :func:`accepted_and_right`."""
        in_dist, ood = as_scores(id_scores, ood_scores)
        mask = as_mask(right, len(in_dist))
        acceptance = accepted(in_dist, threshold)
        return cls(
            accepted=acceptance, right=acceptance & mask, ood_accepted=accepted(ood, threshold)
        )

    @property
    def selection(self) -> Selection:
        """The figures of these outcomes."""
        n, m = len(self.accepted), len(self.ood_accepted)
        of_id, of_ood = int(self.accepted.sum()), int(self.ood_accepted.sum())
        right = int(self.right.sum())
        return Selection(
            n_id=n,
            n_ood=m,
            base_ratio=n / m,
            accepted=of_id + of_ood,
            right=right,
            precision=right / max(of_id + of_ood, 1),
            recall=right / n,
            f1=2 * right / (of_id + of_ood + n),
            # Over the common denominator: the same number as detection_accuracy, to the bit.
            detection_accuracy=(of_id * m + (m - of_ood) * n) / (2 * n * m),
            decided=(of_id + m - of_ood) / (n + m),
        )


def accepted_and_right(
    id_scores: Scores, right: ArrayLike, ood_scores: Scores, *, threshold: float
) -> Selection:
    """Every figure of :class:`Selection`; a sample is accepted where ``score <= threshold``.

    Scores and labels may come from different networks: accept by the one, predict by the other. A
    threshold chosen on these samples flatters them: choose it on others, by
    :func:`best_f1_threshold` or :func:`offmap.metrics.detection_accuracy`.

    Args:
        id_scores: OOD scores of the ID samples, ``(n,)``.
        right: whether the label given to each is right, ``(n,)``.
        ood_scores: OOD scores of the OOD samples, ``(m,)``.
        threshold: the score above which a sample is refused; infinity accepts all.

    Raises:
        ShapeError: ``right`` is not one truth value for each ID sample.
        ArgumentError: the threshold is no number.
        DataError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    Example:
        >>> result = accepted_and_right(
        ...     [0.1, 0.2, 0.3, 0.9], [True, True, False, True], [0.2, 0.8], threshold=0.5
        ... )
        >>> result.precision, result.recall, result.f1  # 2 right of 4 accepted, of 4 ID
        (0.5, 0.5, 0.5)
    """
    return Outcomes.of(id_scores, right, ood_scores, threshold=threshold).selection


def best_f1_threshold(id_scores: Scores, right: ArrayLike, ood_scores: Scores) -> float:
    r"""The score that, as threshold, gives :func:`accepted_and_right` the largest F1.

    .. math:: \arg\max_t\ 2 R(t) / (A(t) + n)

    with ``R`` right predictions among the ``A`` accepted, of ``n`` ID samples. Only scores that
    occur are thresholds, so all samples of one score are accepted together. Of equally good ones it
    is the smallest, the one that accepts least; so it is the smallest of all if no prediction is
    right.

    Args:
        id_scores: OOD scores of the ID samples, ``(n,)``.
        right: whether the label given to each is right, ``(n,)``.
        ood_scores: OOD scores of the OOD samples, ``(m,)``.

    Raises:
        ShapeError, DataError, NonFiniteError: as :func:`accepted_and_right`.

    Example:
        >>> best_f1_threshold([0.1, 0.2, 0.3, 0.9], [True, True, False, True], [0.2, 0.8])
        0.9
        >>> best_f1_threshold([0.1, 0.2, 0.3, 0.9], [True, True, False, False], [0.2, 0.8])
        0.2
    """
    in_dist, ood = as_scores(id_scores, ood_scores)
    mask = as_mask(right, len(in_dist))
    scores = np.sort(np.concatenate([in_dist, ood]))
    thresholds = np.unique(scores)
    hits = np.searchsorted(np.sort(in_dist[mask]), thresholds, "right")
    f1 = 2 * hits / (np.searchsorted(scores, thresholds, "right") + len(in_dist))
    return float(thresholds[f1.argmax()])
