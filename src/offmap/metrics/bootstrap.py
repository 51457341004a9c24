"""Do two systems differ on the same samples? The paired bootstrap, for any figure.

The systems are fixed and the samples are drawn: the result speaks about other test samples of
the same kind, not about another training run. For AUROC take :func:`offmap.metrics.delong_test`,
which needs no drawing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int64

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError, NonFiniteError, ShapeError
from offmap.metrics._ranking import checked_level
from offmap.metrics.acceptance import Outcomes
from offmap.metrics.intervals import Difference


def bootstrap_difference(
    difference: Callable[..., float],
    *sizes: int,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    r"""Interval and p-value of any difference between two systems on the same samples.

    Each group of samples (ID, OOD, ...) is drawn again with replacement, by itself and to its own
    size; both systems are read at the drawn indices, and so stay paired. With ``d`` the differences
    of ``B`` drawings, the interval holds the middle share ``level`` of them, and

    .. math:: p = \min\Big(1,\ 2\, \frac{1 + \min(\#\{d \le 0\}, \#\{d \ge 0\})}{B + 1}\Big)

    which is at least ``2 / (B + 1)``: more drawings are needed to say less. As always with
    percentiles, both are too optimistic for a few dozen samples.

    Args:
        difference: called with one int64 array of indices for each group, ``(size,)`` each; returns
            the figure of a minus that of b at these samples.
        sizes: number of samples in each group.
        samples: ``B``, how often to draw.
        level: share of such intervals that hold the true difference, in (0, 1).
        seed: of the drawing: the same seed, the same result.

    Raises:
        ArgumentError: no group, an empty one, no drawing, or ``level`` outside its range.
        NonFiniteError: the difference is NaN or infinite in some drawing.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 15; one is
        added to the counts as in Davison and Hinkley, Bootstrap Methods, 1997, section 4.2.

    Example:
        >>> a, b = np.arange(40) % 10 > 0, np.arange(40) % 4 > 0  # 90 % and 75 % right
        >>> result = bootstrap_difference(lambda i: a[i].mean() - b[i].mean(), 40)
        >>> print(f"{result.difference:.2f}", result.low < 0.15 < result.high)
        0.15 True
    """
    level, samples = checked_level(level), whole("samples", samples)
    if not sizes:
        raise ArgumentError("a bootstrap needs groups of samples: give the size of each")
    sizes = tuple(whole("the number of samples in a group", size) for size in sizes)
    rng = np.random.default_rng(whole("seed", seed, low=0))
    differences = [
        difference(*(rng.integers(0, size, size) for size in sizes)) for _ in range(samples)
    ]
    return _summary(difference(*map(np.arange, sizes)), np.array(differences, np.float64), level)


def f1_difference(
    a: Outcomes, b: Outcomes, *, samples: int = 2000, level: float = 0.95, seed: int = 0
) -> Difference:
    """Is the F1 of accepted-and-right of two systems, at their thresholds, different?

    :func:`bootstrap_difference` without its loop: F1 depends only on how many samples have
    which outcome under both systems, and the counts of a drawing are multinomial. The distribution
    is the same, and it takes milliseconds whatever the number of samples.

    Args:
        a: outcomes of the first, see :class:`Outcomes`.
        b: outcomes of the second, of the same samples in the same order.
        samples: how often to draw.
        level: of the interval, in (0, 1).
        seed: of the drawing.

    Raises:
        ShapeError: the two do not have the same number of samples.
        ArgumentError: as :func:`bootstrap_difference`.

    References:
        As :func:`bootstrap_difference`.

    Example:
        >>> scores = np.arange(100.0)
        >>> a = Outcomes.of(scores, scores % 10 > 0, scores + 80, threshold=90)
        >>> b = Outcomes.of(scores, scores % 10 > 0, scores + 20, threshold=90)
        >>> result = f1_difference(a, b)
        >>> print(f"{result.difference:.3f}", result.low > 0, f"{result.p_value:.4f}")
        0.184 True 0.0010
    """
    n, m = len(a.accepted), len(a.ood_accepted)
    if (n, m) != (len(b.accepted), len(b.ood_accepted)):
        raise ShapeError(
            f"a has {n} ID and {m} OOD samples, b has {len(b.accepted)} and "
            f"{len(b.ood_accepted)}: a paired test needs the same samples in the same order."
        )
    level, samples = checked_level(level), whole("samples", samples)
    rng = np.random.default_rng(whole("seed", seed, low=0))
    id_a, right_a, id_b, right_b = _counts(
        rng, np.stack([a.accepted, a.right, b.accepted, b.right]), samples
    )
    ood_a, ood_b = _counts(rng, np.stack([a.ood_accepted, b.ood_accepted]), samples)
    differences = 2 * right_a / (id_a + ood_a + n) - 2 * right_b / (id_b + ood_b + n)
    return _summary(a.selection.f1 - b.selection.f1, differences, level)


def _counts(
    rng: np.random.Generator, marks: Bool[np.ndarray, "k n"], samples: int
) -> Int64[np.ndarray, "k b"]:
    """How many samples have each mark, in each drawing of as many samples as there are."""
    patterns, counts = np.unique(marks, axis=1, return_counts=True)
    n = marks.shape[1]
    return patterns.astype(np.int64) @ rng.multinomial(n, counts / n, samples).T


def _summary(difference: float, samples: Float[np.ndarray, " b"], level: float) -> Difference:
    bad = int((~np.isfinite(np.append(samples, difference))).sum())
    if bad:
        raise NonFiniteError(
            f"the difference is NaN or infinite in {bad} of {len(samples) + 1} calls: a drawing "
            "may leave a class out, and the figure must have a value then too"
        )
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    tail = 1 + min(int((samples <= 0).sum()), int((samples >= 0).sum()))
    p_value = min(1.0, 2 * tail / (len(samples) + 1))
    return Difference(
        difference=float(difference), low=float(low), high=float(high), p_value=p_value
    )
