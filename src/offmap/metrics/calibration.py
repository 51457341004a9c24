"""Whether a network is right as often as it says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike

from offmap._utils.arguments import whole
from offmap.errors import DataError
from offmap.metrics._scores import Scores, as_array, as_mask


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions by confidence, in bins of equal width over [0, 1].

    Args:
        count: predictions in each bin, ``(b,)``.
        confidence: their mean confidence; NaN in an empty bin, ``(b,)``.
        accuracy: share of right ones among them, likewise.
        ece: expected calibration error, see :func:`reliability`.
    """

    count: Int64[np.ndarray, " b"]
    confidence: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    ece: float


def reliability(confidence: Scores, right: ArrayLike, *, bins: int = 15) -> Reliability:
    r"""The reliability diagram of a classifier, and its expected calibration error.

    .. math:: \sum_b \frac{n_b}{n} \left| \operatorname{acc}_b - \operatorname{conf}_b \right|

    A bin holds its upper end and not its lower one; the first holds 0 too.

    Args:
        confidence: maximum softmax probabilities, ``(n,)``.
        right: whether each prediction is right, ``(n,)``.
        bins: how many.

    Raises:
        DataError: a confidence is outside [0, 1], or there is none.
        ArgumentError: no bin.
        ShapeError, NonFiniteError: as :func:`offmap.metrics.risk_coverage`.

    References:
        Guo et al., ICML 2017, arXiv:1706.04599.

    Example:
        >>> round(reliability([0.95, 0.95, 0.65, 0.65], [True, True, True, False], bins=10).ece, 9)
        0.1
    """
    values = as_array(confidence, "confidence").astype(np.float64)
    mask = as_mask(right, len(values))
    bins = whole("bins", bins)
    if values.min() < 0 or values.max() > 1:
        raise DataError(
            f"confidence must lie in [0, 1]; seen {values.min():.4g} to {values.max():.4g}"
        )
    edges = np.arange(bins + 1) / bins  # not linspace, whose 5/7 is below 5/7
    place = np.clip(np.searchsorted(edges, values, "left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, x, minlength=bins) for x in (values, mask)]
    with np.errstate(invalid="ignore"):
        means = [total / count for total in sums]
    ece = float(np.abs(sums[0] - sums[1]).sum() / len(values))
    return Reliability(count, means[0], means[1], ece)
