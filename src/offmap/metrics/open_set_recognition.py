"""Predicting a class or "unknown": accuracy, confusion, and the OSCR curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from offmap._utils.arguments import whole
from offmap.errors import LabelError, ShapeError
from offmap.metrics._curve import Curve
from offmap.metrics._scores import Scores, accepted, as_mask, as_scores
from offmap.metrics.ranking import auroc


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenSet:
    """The figures of a classifier with ``c`` classes, and "unknown" as one more.

    Args:
        n_known: number of known samples.
        n_unknown: number of unknown samples.
        closed_accuracy: share of the known given their class, if nothing were rejected.
        accepted: share of the known that are accepted.
        rejected: share of the unknown that are rejected.
        accuracy: share of all samples, known and unknown, that are rightly predicted, "unknown"
            counting as a class.
        f1: mean F1 of the ``c + 1`` classes, without those that neither occur nor are predicted.
        auroc: of the scores, see :func:`offmap.metrics.auroc`.
        oscr: area under the OSCR curve, see :func:`oscr`.
        confusion: samples by truth (rows) and prediction (columns), "unknown" last,
            ``(c + 1, c + 1)``.
        binary: the same for known and unknown alone, ``(2, 2)``.
    """

    n_known: int
    n_unknown: int
    closed_accuracy: float
    accepted: float
    rejected: float
    accuracy: float
    f1: float
    auroc: float
    oscr: float
    confusion: Int64[np.ndarray, "k k"]
    binary: Int64[np.ndarray, "2 2"]


@dataclass(frozen=True, eq=False)
class OscrCurve(Curve):
    """Right predictions for the known against acceptance of the unknown.

    A sample is accepted where ``score <= threshold``. From (0, 0), nothing accepted, to the closed
    accuracy at 1, everything accepted; joined by lines, its area is :func:`oscr`.

    Args:
        fpr: share of the unknown that are accepted, ``(k,)``.
        ccr: share of the known that are accepted and rightly predicted, ``(k,)``.
        thresholds: rising; the first is minus infinity, ``(k,)``.
    """

    fpr: Float[np.ndarray, " k"]
    ccr: Float[np.ndarray, " k"]
    thresholds: Float[np.ndarray, " k"]


def oscr(id_scores: Scores, right: ArrayLike, ood_scores: Scores) -> float:
    r"""Area under the OSCR curve.

    .. math:: \frac{1}{n m} \sum_{i\ \text{right}} \sum_j [s_i < s_j] + \tfrac12 [s_i = s_j]

    The chance that a known sample is rightly predicted and scores below an unknown one: the AUROC
    if every prediction is right.

    Args:
        id_scores: OOD scores of the known samples, ``(n,)``.
        right: whether each is given its class, ``(n,)``.
        ood_scores: OOD scores of the unknown, ``(m,)``.

    Raises:
        ShapeError: ``right`` is of another length than ``id_scores``.
        DataError, NonFiniteError: as :func:`offmap.metrics.auroc`.

    References:
        Dhamija, Günther and Boult, NeurIPS 2018, arXiv:1811.04110.

    Example:
        >>> oscr([0.1, 0.2, 0.9], [True, False, True], [0.5, 0.8])
        0.3333333333333333
    """
    known, unknown = as_scores(id_scores, ood_scores)
    mask = as_mask(right, len(known))
    if not mask.any():
        return 0.0
    return auroc(known[mask], unknown) * int(mask.sum()) / len(known)


def oscr_curve(id_scores: Scores, right: ArrayLike, ood_scores: Scores) -> OscrCurve:
    """The OSCR curve, a point for each distinct score.

    Args:
        id_scores: OOD scores of the known samples, ``(n,)``.
        right: whether each is given its class, ``(n,)``.
        ood_scores: OOD scores of the unknown, ``(m,)``.

    Raises:
        ShapeError, DataError, NonFiniteError: as :func:`oscr`.
    """
    known, unknown = as_scores(id_scores, ood_scores)
    hits = np.sort(known[as_mask(right, len(known))])
    thresholds = np.concatenate([[-np.inf], np.unique(np.concatenate([known, unknown]))])
    return OscrCurve(
        np.searchsorted(np.sort(unknown), thresholds, "right") / len(unknown),
        np.searchsorted(hits, thresholds, "right") / len(known),
        thresholds,
    )


def open_set(
    labels: ArrayLike,
    predictions: ArrayLike,
    id_scores: Scores,
    unknown_predictions: ArrayLike,
    ood_scores: Scores,
    *,
    threshold: float,
    classes: int,
) -> OpenSet:
    """Every figure of :class:`OpenSet`; a sample is rejected where ``score > threshold``.

    Args:
        labels: classes of the known samples, ``(n,)``, from 0.
        predictions: the classes that the classifier gives them, before any rejection, ``(n,)``.
        id_scores: their OOD scores, ``(n,)``.
        unknown_predictions: the classes that it gives the unknown samples, ``(m,)``.
        ood_scores: their OOD scores, ``(m,)``.
        threshold: the score above which a sample is called unknown.
        classes: ``c``, the number of known classes.

    Raises:
        LabelError: a label or a prediction is no class from 0 to ``c - 1``.
        ShapeError: arrays of different lengths.
        ArgumentError: the threshold is no number.
        DataError, NonFiniteError: as :func:`offmap.metrics.auroc`.
    """
    known, unknown = as_scores(id_scores, ood_scores)
    classes = whole("classes", classes)
    truth = _classes(labels, len(known), classes, "labels")
    of_known = _classes(predictions, len(known), classes, "predictions")
    of_unknown = _classes(unknown_predictions, len(unknown), classes, "unknown_predictions")
    rows = np.concatenate([truth, np.full(len(unknown), classes)])
    columns = np.concatenate(
        [
            np.where(accepted(known, threshold), of_known, classes),
            np.where(accepted(unknown, threshold), of_unknown, classes),
        ]
    )
    confusion = _confusion(rows, columns, classes + 1)
    binary = _confusion(rows // classes, columns // classes, 2)  # "unknown" is the class c
    occurrences = confusion.sum(0) + confusion.sum(1)
    f1 = 2 * confusion.diagonal()[occurrences > 0] / occurrences[occurrences > 0]
    return OpenSet(
        n_known=len(known),
        n_unknown=len(unknown),
        closed_accuracy=float((truth == of_known).mean()),
        accepted=float(binary[0, 0] / len(known)),
        rejected=float(binary[1, 1] / len(unknown)),
        accuracy=float(confusion.trace() / confusion.sum()),
        f1=float(f1.mean()),
        auroc=auroc(known, unknown),
        oscr=oscr(known, truth == of_known, unknown),
        confusion=confusion,
        binary=binary,
    )


def _confusion(
    truth: Int64[np.ndarray, " n"], prediction: Int64[np.ndarray, " n"], size: int
) -> Int64[np.ndarray, "k k"]:
    counts = np.bincount(truth * size + prediction, minlength=size * size)
    return counts.reshape(size, size).astype(np.int64)


def _classes(values: ArrayLike, length: int, classes: int, name: str) -> Int64[np.ndarray, " n"]:
    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != (length,):
        raise ShapeError(f"{name} must have shape ({length},), as the scores; seen {array.shape}")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
        raise LabelError(
            f"{name} must be classes from 0 to {classes - 1}; seen {array.dtype} from "
            f"{array.min()} to {array.max()}"
        )
    return array.astype(np.int64)
