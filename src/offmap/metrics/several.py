"""Several tests or counts at once: p-values for all of them together, and intervals of shares."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from offmap._utils.arguments import number, whole
from offmap.metrics._ranking import normal_quantile
from offmap.metrics.intervals import Interval


def holm(p_values: Sequence[float]) -> list[float]:
    r"""P-values corrected for their number, in the order given.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})

    Calling those at most ``a`` different is wrong anywhere with probability at most ``a``, however
    the tests depend on each other.

    Args:
        p_values: of ``m`` tests, in [0, 1].

    Raises:
        ArgumentError: one is outside [0, 1], or NaN.

    References:
        Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    p_values = [number("a p-value", p, least=0, most=1) for p in p_values]
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = highest
    return corrected


def share_interval(count: int, n: int, *, level: float = 0.95) -> Interval:
    r"""Wilson's interval of a share.

    .. math:: \frac{p + z^2/2n \pm z \sqrt{p (1 - p)/n + z^2/4n^2}}{1 + z^2/n}

    It never leaves [0, 1], and has a width at 0 and 1 too.

    Args:
        count: of ``n`` samples.
        n: at least 1.
        level: in (0, 1).

    Raises:
        ArgumentError: not ``0 <= count <= n``, or ``level`` is outside its range.

    References:
        Wilson, Journal of the American Statistical Association 22, 1927.

    Example:
        >>> low, high = share_interval(8, 10)
        >>> print(f"{low:.4f} {high:.4f}")
        0.4902 0.9433
    """
    n = whole("n", n)
    count = whole("count", count, low=0, high=n)
    z2 = normal_quantile(level) ** 2
    share = count / n
    centre, half = share + z2 / (2 * n), sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    scale = 1 + z2 / n
    low = 0.0 if count == 0 else (centre - half) / scale  # exactly, and not nearly
    return Interval(low, 1.0 if count == n else (centre + half) / scale)
