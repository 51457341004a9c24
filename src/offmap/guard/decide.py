"""From scores to decisions whose error rates are known.

The calibration set is ID data that neither trained the network nor fitted the detector. If it and
a new ID sample are exchangeable, what stands here holds whatever the distribution, the network and
the detector.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import number, whole
from offmap._utils.samples import as_tensor
from offmap.errors import ArgumentError, NonFiniteError, ShapeError
from offmap.guard.simultaneous import simultaneous_limits


def alarm_threshold(scores: Float[Tensor, " n"] | np.ndarray, alarm_rate: float) -> float:
    """The score above which a sample is called OOD, so that ID raises few alarms.

    It is the ``floor(a (n + 1))``-th largest of ``n`` calibration scores: on average over
    calibration sets a share of at least ``1 - a`` of ID is kept, and ``score > threshold`` is the
    same event as ``p <= a`` for :func:`p_values`.

    Args:
        scores: OOD scores of the calibration set, a tensor or an array.
        alarm_rate: ``a``, the share of ID samples that may be called OOD.

    Raises:
        ArgumentError: the rate is not in (0, 1), or there are fewer than ``1/a - 1`` samples.

    >>> alarm_threshold(torch.arange(99.0), 0.05)
    94.0
    """
    scores = as_tensor(scores)
    check_scores(scores)
    return float(scores.topk(alarm_rank(len(scores), alarm_rate)).values[-1])


def alarm_rank(samples: int, alarm_rate: float) -> int:
    """The rank of the threshold among the calibration scores, from the largest.

    Args:
        samples: ``n``, the number of calibration scores.
        alarm_rate: ``a``.

    Raises:
        ArgumentError: the rate is not in (0, 1), or there are fewer than ``1 / a - 1`` samples.
    """
    rate = exact_rate(alarm_rate, "alarm_rate")
    rank = math.floor(rate * (samples + 1))
    # No decimal is 1/3, and the p-value of 1/3 is not above it: the rank says what p <= a says.
    if (rank + 1) / (samples + 1) <= alarm_rate:
        rank += 1
    if rank < 1:
        raise ArgumentError(
            f"an alarm rate of {alarm_rate} needs at least {least_samples(alarm_rate)} "
            f"calibration samples; there are {samples}"
        )
    return rank


def least_samples(alarm_rate: float, *, tests: int = 1) -> int:
    """How many calibration samples a rate on average needs; several tests share the rate.

    >>> least_samples(0.05), least_samples(1 / 3), least_samples(0.05, tests=2)
    (19, 2, 39)
    """
    n = math.ceil(tests / exact_rate(alarm_rate, "alarm_rate")) - 1
    return n - (n > 0 and tests / n <= alarm_rate)  # no decimal is 1/3: as for the rank


def p_values(
    scores: Float[Tensor, " m"] | np.ndarray, calibration: Float[Tensor, " n"] | np.ndarray
) -> Float64[Tensor, " m"]:
    r"""Split-conformal p-values: small for samples stranger than most of the calibration set.

    .. math:: p(s) = (1 + \#\{i : s_i \ge s\}) / (n + 1)

    For an ID sample the probability of ``p <= a`` is at most ``a``, for every ``a``.

    Args:
        scores: OOD scores, a tensor or an array.
        calibration: OOD scores of the calibration set, in any order, likewise.

    References:
        Bates et al., Annals of Statistics 51, 2023, arXiv:2104.08279.

    >>> p_values(torch.tensor([0.5, 8.5, 99.0]), torch.arange(9.0)).tolist()
    [0.9, 0.1, 0.1]
    """
    scores, calibration = as_tensor(scores), as_tensor(calibration)
    check_scores(calibration)
    return p_ranks(scores, calibration.sort().values).double() / (len(calibration) + 1)


def p_ranks(scores: Float[Tensor, " m"], ascending: Float[Tensor, " n"]) -> Int64[Tensor, " m"]:
    """``(n + 1) p`` against calibration scores in ascending order: whole numbers from 1."""
    if torch.compiler.is_exporting():
        return 1 + (ascending >= scores[:, None]).sum(1)  # searchsorted has no ONNX translation
    return len(ascending) + 1 - torch.searchsorted(ascending, scores.contiguous())


def false_discoveries(p: Float64[Tensor, " m"] | np.ndarray, rate: float) -> Bool[Tensor, " m"]:
    """Which samples of a batch to call OOD, so that few of those called are ID.

    Benjamini and Hochberg: with the p-values in ascending order, those up to the last ``i`` with
    ``p_i <= i rate / m``. The expected share of ID among them, the false-discovery rate, is at most
    ``rate``; conformal p-values that share a calibration set keep it (Bates et al., theorem 2).
    ``K`` samples can be called OOD only if ``n >= m / (rate K) - 1`` calibration scores are there.

    Args:
        p: p-values of the batch, a tensor or an array.
        rate: the share of false ones among those called OOD, in (0, 1).

    Raises:
        ArgumentError: the rate is not in (0, 1), or a p-value not in [0, 1].
        ShapeError: they are not ``(m,)``.

    References:
        Benjamini and Hochberg, JRSS B 57, 1995.

    >>> false_discoveries(torch.tensor([0.01, 0.9, 0.04, 0.03], dtype=torch.float64), 0.06).tolist()
    [True, False, True, True]
    """
    limit = float(exact_rate(rate, "rate"))
    p = as_tensor(p).double()
    if p.ndim != 1:
        raise ShapeError(f"p-values must have shape (m,); seen {tuple(p.shape)}")
    if count := int((~((p >= 0) & (p <= 1))).sum()):
        raise ArgumentError(
            f"{count} of {len(p)} p-values are not in [0, 1]: are they scores? p_values makes "
            "p-values of these"
        )
    ascending, order = p.sort()
    # In float64: whole numbers times a Python float would be float32.
    ranks = torch.arange(1, len(p) + 1, device=p.device, dtype=torch.float64)
    # Multiplied out: dividing by m first would round p = i rate / m to either side.
    passed = (ascending * len(p) <= ranks * limit * (1 + 1e-12)).nonzero()
    discoveries = torch.zeros_like(p, dtype=torch.bool)
    if len(passed):
        discoveries[order[: int(passed[-1]) + 1]] = True
    return discoveries


def adjusted_p_values(
    p: Float64[Tensor, " m"] | np.ndarray,
    samples: int,
    *,
    confidence: float = 0.95,
    method: str = "simes",
    tests: int = 1,
) -> Float64[Tensor, " m"]:
    r"""P-values that hold given this very calibration set, for all levels at once.

    .. math:: p = r / (n + 1) \;\mapsto\; b_r, \quad
        P(\exists a: P(b_r \le a \mid \text{calibration}) > a) \le \delta

    The p-values of :func:`p_values` hold on average over calibration sets, and all lean on one.
    With confidence ``1 - delta`` the adjusted ones of a batch are as independent p-values, so
    :func:`false_discoveries` of them keeps its rate given this calibration set.

    A guard of ``k`` detectors has :math:`p = \min(1, k r / (n + 1))`, with ``r`` the lowest of
    ``k`` ranks. Each detector then has its share of ``delta``, and the adjusted p-value is
    :math:`\min(1, k b_r)`.

    Args:
        p: of :func:`p_values`, or of a verdict; a tensor or an array. Of a guard that is calibrated
            per class: those of the samples of one group.
        samples: ``n``, of the calibration set; of one group likewise.
        confidence: ``1 - delta``.
        method: "simes", "dkw" or "monte_carlo" of Bates et al., or "local", which is the band of
            :meth:`offmap.Guard.at`; see ``offmap.guard.simultaneous``.
        tests: ``k``, the guard's detectors.

    Raises:
        ArgumentError: there is no such method, the confidence is not in (0, 1), or these are not
            p-values of so many calibration samples.

    References:
        Bates et al., Annals of Statistics 51, 2023, arXiv:2104.08279, section 3.

    >>> p = torch.tensor([1.0, 20.0, 1001.0], dtype=torch.float64) / 1001
    >>> [round(x, 4) for x in adjusted_p_values(p, 1000).tolist()]
    [0.006, 0.0322, 1.0]
    """
    delta = float(1 - exact_rate(confidence, "confidence"))
    p = as_tensor(p).double()
    tests = whole("tests", tests, 1)
    ranks = (p * (samples + 1) / tests).round()
    multiples = torch.isclose(tests * ranks / (samples + 1), p, rtol=1e-9, atol=0)
    highest = p == 1  # of several detectors no multiple, as it is cut there
    if not (highest | (multiples & (ranks >= 1) & (p < 1))).all():
        raise ArgumentError(
            f"these are no p-values of {samples} calibration samples, which are whole multiples of "
            f"{tests}/{samples + 1} up to 1: give the number of those that they come from"
        )
    limits = torch.from_numpy(simultaneous_limits(samples, delta / tests, method)).to(p.device)
    limits = torch.cat([(tests * limits).clamp(max=1), limits.new_ones(1)])
    return limits[ranks.masked_fill(highest, samples + 1).long() - 1]


def exact_rate(rate: float, name: str) -> Fraction:
    """A rate in (0, 1) as the decimal that was typed: in binary 0.29 * 100 is below 29."""
    return Fraction(str(float(number(name, rate, above=0, below=1))))


def check_scores(scores: Float[Tensor, " n"]) -> None:
    """Refuse calibration scores that are no list of finite numbers."""
    if scores.ndim != 1:
        raise ShapeError(f"calibration scores must have shape (n,); seen {tuple(scores.shape)}")
    if count := int((~scores.isfinite()).sum()):
        raise NonFiniteError(f"{count} of {len(scores)} calibration scores are not finite")
