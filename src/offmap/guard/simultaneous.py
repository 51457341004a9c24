r"""Upper limits of all alarm rates at once, given one calibration set.

With thresholds at the calibration scores, the true alarm rates are the order statistics
:math:`U_{(1)} < \dots < U_{(n)}` of ``n`` uniform numbers. Limits ``b`` hold for all ranks at once
with confidence ``1 - delta`` where :math:`P(\exists r: U_{(r)} > b_r) \le \delta`.

References:
    Bates et al., Annals of Statistics 51, 2023, arXiv:2104.08279, section 3.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from offmap.errors import ArgumentError

METHODS = ("local", "simes", "dkw", "monte_carlo")
# Beyond it the exact probability takes minutes.
_EXACT = 10_000
_RANKS = 300

Bounds = Float64[np.ndarray, " n"]


def simultaneous_limits(n: int, delta: float, method: str = "local") -> Bounds:
    r"""Limits of the ranks 1 to ``n`` that hold together with confidence ``1 - delta``.

    * ``local``: equal local level on the lower half of the ranks,
      :math:`P(U_{(r)} > b_r) = \lambda` for ``r <= n / 2``, and 1 above: rates beyond one half
      are not asked for. For more than 10,000 samples, 300 ranks share ``delta`` instead, and those
      between them have the limit of the next.
    * ``simes``: :math:`b_r = 1 - \delta^{1/k} \prod_{j=0}^{k-1} ((i - j) / (n - j))^{1/k}` with
      ``i = n + 1 - r`` and ``k = n / 2``.
    * ``dkw``: :math:`b_r = r / n + \sqrt{\log(2 / \delta) / (2 n)}`.
    * ``monte_carlo``: :math:`b_r = r / n + c \sqrt{r (n - r) / n} / n` on the lower half, a line
      above, with ``c`` such that the probability is ``delta``: here by that probability itself
      and not by draws. (Bates et al. take the lower of these and Simes', whose probability is
      ``delta`` already; what is left of that is Simes'.) Simes' beyond 10,000 samples.

    Args:
        n: calibration samples.
        delta: one minus the confidence.
        method: one of these.

    Raises:
        ArgumentError: there is no such method.
    """
    if method not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(METHODS)}; seen {method!r}")
    make = {"local": _local, "simes": _simes, "dkw": _dkw, "monte_carlo": _monte_carlo}[method]
    limits: Bounds = np.minimum(make(n, delta), 1.0)
    return limits


def crossing_probability(limits: Bounds) -> float:
    r"""The probability that some order statistic lies above its limit.

    The first to do so, ``r``, does it with exactly ``r - 1`` numbers below :math:`b_r`. So the
    probabilities :math:`f_r` of being first solve, with binomial probabilities ``B``,
    :math:`B(r - 1; n, b_r) = f_r + \sum_{j < r} f_j B(r - j; n - j + 1, (b_r - b_j) / (1 - b_j))`.
    The weights of the rounding errors are themselves such probabilities, so these do not grow.

    Args:
        limits: not falling, ``(n,)``; those of 1 are never passed.

    References:
        The renewal form of Noe's and Steck's recursions; Shorack and Wellner, Empirical Processes
        with Applications to Statistics, 1986, chapter 9.

    >>> round(crossing_probability(np.array([0.5, 1.0])), 12)  # both of two numbers above one half
    0.25
    """
    from scipy import special  # here: it takes a second

    n, b = len(limits), limits[limits < 1]
    log_factorial = special.gammaln(np.arange(n + 1) + 1.0)
    log_b, log_complement = np.log(b), np.log1p(-b)
    first = np.zeros(len(b))
    for k in range(len(b)):  # k numbers lie below the limit of rank k + 1
        j, upper = np.arange(k), n - k
        above = log_factorial[n - j] - log_factorial[k - j] - log_factorial[upper]
        with np.errstate(divide="ignore"):  # equal limits have nothing between them
            step = np.log((b[k] - b[:k]) / (1 - b[:k]))
        later = np.exp(above + (k - j) * step + upper * (log_complement[k] - log_complement[:k]))
        binomial = log_factorial[n] - log_factorial[k] - log_factorial[upper]
        first[k] = math.exp(binomial + k * log_b[k] + upper * log_complement[k]) - first[:k] @ later
    return float(first.sum())


def beta_limits(n: int, delta: float, ranks: np.ndarray | None = None) -> Bounds:
    """The ``1 - delta`` quantiles of Beta(r, n + 1 - r), each for its rank alone."""
    from scipy import stats  # here: it takes a second

    r = np.arange(1, n + 1) if ranks is None else ranks
    return np.asarray(stats.beta.isf(delta, r, n + 1 - r), dtype=np.float64)


def _local(n: int, delta: float) -> Bounds:
    half = max(1, n // 2)
    if n > _EXACT:
        ranks = np.unique(np.geomspace(1, half, _RANKS).round().astype(int))
        quantiles = beta_limits(n, delta / len(ranks), ranks)
        below = quantiles[np.searchsorted(ranks, np.arange(1, half + 1))]
    else:
        below = beta_limits(n, local_level(n, delta), np.arange(1, half + 1))
    return np.concatenate([below, np.ones(n - half)])


@lru_cache(maxsize=1024)
def local_level(n: int, delta: float) -> float:
    """The level of each rank up to ``n / 2``: some limit is exceeded with probability ``delta``."""
    from scipy import optimize  # here: it takes a second

    half = max(1, n // 2)

    def excess(log_level: float) -> float:
        limits = beta_limits(n, math.exp(log_level), np.arange(1, half + 1))
        return math.log(crossing_probability(np.concatenate([limits, np.ones(n - half)])) / delta)

    if half == 1:
        return delta
    root = optimize.brentq(excess, math.log(delta / half), math.log(delta), xtol=1e-5)
    return math.exp(root - 1e-5)  # on the side that keeps the promise


def _simes(n: int, delta: float) -> Bounds:
    from scipy import special  # here: it takes a second

    k = max(1, n // 2)
    i = np.arange(k, n + 1)
    log_ratio = special.gammaln(i + 1) - special.gammaln(i - k + 1)
    log_ratio -= special.gammaln(n + 1) - special.gammaln(n - k + 1)
    limits = np.ones(n)
    limits[n - i] = -np.expm1((math.log(delta) + log_ratio) / k)
    return limits


def _dkw(n: int, delta: float) -> Bounds:
    return np.arange(1, n + 1) / n + math.sqrt(math.log(2 / delta) / (2 * n))


def _monte_carlo(n: int, delta: float) -> Bounds:
    from scipy import optimize  # here: it takes a second

    if n < 4 or n > _EXACT:  # no shape yet, or too long a search
        return _simes(n, delta)

    def excess(width: float) -> float:
        return crossing_probability(_asymptotic(n, width)) - delta

    low = next((width for width in (0.1, 0.0) if excess(width) > 0), None)
    if low is None:  # a confidence so low that the mean itself is enough
        return _asymptotic(n, 0.0)
    width = optimize.brentq(excess, low, 100.0, xtol=1e-6)
    return _asymptotic(n, width + 1e-6)


def _asymptotic(n: int, width: float) -> Bounds:
    """Limits ``width`` deviations above the mean; a line in the upper half, where these fall."""
    i = np.arange(1, n + 1)
    limits = i / n + width * np.sqrt(i * (n - i) / n) / n
    half = n // 2
    slope = limits[half - 1] - limits[half - 2]
    limits[half:] = limits[half - 1] + slope * (i[half:] - half)
    return np.minimum(limits, 1.0)
