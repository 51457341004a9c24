"""The rule that turns scores into p-values and decisions, learned from calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import number
from offmap._utils.percent import percent
from offmap.errors import ArgumentError, NonFiniteError, ShapeError, StoreError
from offmap.guard._ranked import STATE, Ranked
from offmap.guard._restoring import check_restored
from offmap.guard.decide import exact_rate
from offmap.guard.limits import (
    any_rate_limits,
    certified_limits,
    delta_of,
    marginal_limits,
)
from offmap.guard.promise import not_finite, promise, too_few
from offmap.guard.sensitivity import SHARES, Contaminated, sensitivity_of

RULES = ("plain", "per_class", "bonferroni")


class Calibration(Ranked):
    r"""Conformal p-values of one or several scores, against those of a calibration set.

    The rank of a score is ``r = 1 + #{s_i >= s}`` among ``n`` calibration scores, and each rank has
    a limit :math:`a_r`: a sample is called OOD where the limit of its rank is at most the alarm
    rate. The limits are kept as a table, which is what is exported.

    * ``plain``: one score; ``p = r / (n + 1)``.
    * ``per_class``: the same among the calibration samples that were given the same label.
    * ``bonferroni``: of ``k`` scores, ``min(1, k min_j p_j)``: valid whatever their dependence.

    Without a confidence :math:`a_r = p`, and the rate holds on average over calibration sets. With
    one, ``a_r`` is the ``1 - delta`` quantile of Beta(r, n + 1 - r), and the rate holds for this
    calibration set, with that confidence: for rates named beforehand, which share ``delta``, as do
    classes and detectors. For any other rate, see :meth:`at`, the limits are a simultaneous band.

    A score that is not finite counts as the highest of all: in calibration too, so the rate holds.
    Thresholds are finite, so such a sample is always called OOD.

    Args:
        rule: one of these.
        alarm_rate: a sample is called OOD where its limit is at most that; of several, the first.
        confidence: ``1 - delta``; ``None`` for a rate on average.
        pool: join the classes that have too few samples into one group, told by their counts.

    Attributes:
        alarm_rates: the rates that were named.
        alarm_rate: the one in use.
        scores_: calibration scores, ``(k, n)``, each row in ascending order.
        labels_: the group of each of them under ``per_class``, ``(n,)``.
        counts_: calibration samples of each group, ``(g,)``: one group, or the classes.
        limits_: the limit of each rank in each group, ``(g, n + 1)``, float64.
        groups_: the group of each class, ``(c,)``, where some were joined.
        parts: samples of each part, where the set was extended.
        earlier: what was promised before the last extension.

    References:
        Bates et al., Annals of Statistics 51, 2023, arXiv:2104.08279; Vovk, ACML 2012,
        arXiv:1209.2673, proposition 2, for the Beta distribution of the rate.
    """

    def __init__(
        self,
        rule: str,
        alarm_rate: float | Sequence[float],
        *,
        confidence: float | None = None,
        pool: bool = False,
    ) -> None:
        if rule not in RULES:
            raise ArgumentError(f"rule must be one of {', '.join(RULES)}; seen {rule!r}")
        if isinstance(alarm_rate, np.ndarray | Tensor):
            alarm_rate = alarm_rate.tolist()
        is_list = isinstance(alarm_rate, Iterable) and not isinstance(alarm_rate, str)
        named: Any = alarm_rate if is_list else [alarm_rate]
        rates = tuple(dict.fromkeys(float(number("alarm_rate", rate)) for rate in named))
        if not rates:
            raise ArgumentError("give an alarm rate: seen none")
        super().__init__(rule, rates[0])
        self.alarm_rates = rates
        if confidence is not None:
            confidence = float(number("confidence", confidence, above=0, below=1))
        self.confidence = confidence
        self.pool = pool
        self.parts: tuple[int, ...] = ()
        self.earlier = ""

    def learn(
        self, scores: Float[Tensor, "n k"], predictions: Int64[Tensor, " n"], classes: int
    ) -> None:
        """Keep the calibration scores, and make the table of limits.

        Raises:
            ArgumentError: too few samples for an alarm rate, and how many are needed; or as many
                without a finite score as it has alarms.
            NonFiniteError: no score is finite.
        """
        if scores.ndim != 2:
            raise ShapeError(f"calibration scores must be (n, k); seen {tuple(scores.shape)}")
        scores = scores.where(scores.isfinite(), torch.inf)
        if bool(scores.isinf().all()):
            raise NonFiniteError("none of the calibration scores is finite")
        for rate in self.alarm_rates:
            exact_rate(rate, "alarm_rate")
        order = scores[:, 0].argsort(stable=True)
        if self.rule == "per_class":
            groups = self._group(predictions, classes)
            self.scores_, self.labels_ = scores[order].T.contiguous(), groups[order]
        else:
            self.counts_ = torch.tensor([len(scores)], device=scores.device)
            self.scores_ = scores.T.contiguous().sort().values
        self.limits_ = self.limits_of(self.counts_)
        self._check_enough()

    @property
    def named(self) -> bool:
        """Whether the rate in use was named before calibrating."""
        return self.alarm_rate in self.alarm_rates

    @property
    def ranks(self) -> Int64[Tensor, " g"]:
        """How many ranks of each group raise an alarm, which is ``k`` of the k-th highest score."""
        return (self.limits_ <= self.alarm_rate).sum(1)

    @property
    def threshold(self) -> float | None:
        """The score above which a sample is called OOD; none under the other rules."""
        if self.rule != "plain":
            return None
        return float(self.scores_[0][-int(self.ranks)])

    def at(self, alarm_rate: float) -> Calibration:
        """The same calibration set at another rate, with the limits that hold for it.

        Without a confidence these are the same. With one they are those of the rates named
        beforehand, if it is one of them, and else those that hold for all rates at once.

        Raises:
            ArgumentError: there are too few samples for that rate, or too few finite scores.
        """
        exact_rate(alarm_rate, "alarm_rate")
        rates = self.alarm_rates if self.confidence is not None else alarm_rate
        calibration = type(self)(self.rule, rates, confidence=self.confidence, pool=self.pool)
        calibration.alarm_rate = float(alarm_rate)
        calibration.parts, calibration.earlier = self.parts, self.earlier
        for name, tensor in self._buffers.items():
            calibration.register_buffer(name, tensor)  # shared
        if calibration.confidence is not None and calibration.named != self.named:
            calibration.limits_ = calibration.limits_of(self.counts_)
        calibration._check_enough()
        return calibration

    def for_any_rate(self) -> Float64[Tensor, "g r"]:
        """The limits that hold for rates that were not named beforehand."""
        if self.confidence is None:
            return self.limits_
        delta = delta_of(self.confidence, [self.alarm_rate])
        return any_rate_limits(self.counts_, delta, tests=self.tests)

    def limits_of(self, counts: Int64[Tensor, " g"]) -> Float64[Tensor, "g r"]:
        """The limit of each rank at the rate in use, if the groups had so many samples."""
        if self.confidence is None:
            return marginal_limits(counts, tests=self.tests)
        if not self.named:
            delta = delta_of(self.confidence, [self.alarm_rate])
            return any_rate_limits(counts, delta, tests=self.tests)
        delta = delta_of(self.confidence, self.alarm_rates)
        return certified_limits(counts, delta, tests=self.tests)

    def _group(self, predictions: Tensor, classes: int) -> Tensor:
        """The group of each sample: its prediction, unless classes with too few are joined."""
        self.counts_ = torch.bincount(predictions, minlength=classes)
        too_small = self.limits_of(self.counts_)[:, 0] > min(self.alarm_rates)
        if not (self.pool and too_small.any()):
            return predictions
        groups = torch.where(too_small, (~too_small).sum(), (~too_small).cumsum(0) - 1)
        self.groups_ = groups
        self.counts_ = torch.bincount(groups[predictions], minlength=int(groups.max()) + 1)
        return groups[predictions]

    def _check_enough(self) -> None:
        """Refuse rates for which there are too few samples, or too few finite scores."""
        rate = min(self.alarm_rates) if self.named else self.alarm_rate
        if groups := (self.limits_[:, 0] > rate).nonzero()[:, 0].tolist():
            raise ArgumentError(too_few(self, rate, groups))
        infinite = self.scores_.isinf()
        if self.rule == "per_class":
            counts = torch.bincount(self.labels_[infinite[0]], minlength=len(self.counts_))
        else:
            counts = infinite.sum(1).amax(0, keepdim=True)  # of the detector that has most
        alarms = (self.limits_ <= rate).sum(1)
        if groups := (counts >= alarms).nonzero()[:, 0].tolist():  # an infinite threshold
            raise ArgumentError(not_finite(self, rate, groups[0], int(counts[groups[0]])))

    def __repr__(self) -> str:
        samples = self.scores_.shape[-1]
        confidence = (
            "" if self.confidence is None else f", confidence {percent(self.confidence, 2)}"
        )
        rate = f"alarm rate {percent(self.alarm_rate, 2)}{confidence}"
        return f"Calibration({self.rule}, {samples:,} samples, {rate})"

    def explain(self) -> str:
        """The rule and what it promises, in words."""
        marginal = self.confidence is None
        rule = {
            "plain": f"its score is above {self.threshold}",
            "per_class": f"{'its p-value' if marginal else 'the limit of its rank'} among "
            "calibration samples of the same class is at most that",
            "bonferroni": "its lowest p-value, times the number of detectors, is at most that"
            if marginal
            else "the limit of its lowest rank is at most that",
        }[self.rule]
        count = self.scores_.shape[1]
        return (
            f"Calibrated on {count:,} samples for an alarm rate of {percent(self.alarm_rate, 2)}: "
            f"a sample is called OOD if {rule}.\n{self.promise}{self._extensions()}"
        )

    def _extensions(self) -> str:
        """A note on extensions: the parts, what they promise, and the promise before the last."""
        if not self.parts:
            return ""
        parts = " + ".join(f"{n:,}" for n in self.parts)
        return (
            f"\nThe samples came in parts, {parts}: each extension is a new promise, with a chance "
            "of its own to fail, for random samples of ID that the guard did not choose, of sizes "
            f"fixed beforehand. Before the last: {self.earlier}"
        )

    def sensitivity(self, shares: Sequence[float] = SHARES) -> list[Contaminated]:
        """Threshold and rate if the highest calibration scores were those of outliers.

        Args:
            shares: of the calibration samples, a row for each.

        Raises:
            ArgumentError: a share outside [0, 1).
        """
        return sensitivity_of(self, shares)

    def record(self) -> dict[str, Any]:
        """Rule and rates, and what they promise, as JSON keeps them."""
        rate = {} if self.confidence is None else {"alarm_rate": self.alarm_rate}
        return {
            "rule": self.rule,
            "alarm_rates": list(self.alarm_rates),
            "confidence": self.confidence,
            "samples": int(self.counts_.sum()),
            "promise": self.promise,
            **({"parts": list(self.parts), "earlier": self.earlier} if self.parts else {}),
            **rate,
        }

    @property
    def promise(self) -> str:
        """What is promised of the alarm rate, and what it may be, in one sentence each."""
        return promise(self) if self.scores_.numel() else ""

    @classmethod
    def restored(cls, record: dict[str, Any], state: dict[str, Tensor]) -> Calibration:
        """The calibration of a :meth:`record` and a ``state_dict``.

        Raises:
            StoreError: the two do not belong together.
        """
        if set(state) - {"groups_"} != set(STATE):
            raise StoreError(f"the calibration holds {sorted(state)}, which does not fit")
        confidence = record.get("confidence")
        calibration = cls(record["rule"], record["alarm_rates"], confidence=confidence)
        calibration.alarm_rate = float(record.get("alarm_rate", calibration.alarm_rate))
        calibration.parts = tuple(int(n) for n in record.get("parts", ()))
        calibration.earlier = str(record.get("earlier", ""))
        for name, tensor in state.items():
            calibration.register_buffer(name, tensor)
        check_restored(calibration, record["samples"])
        try:
            calibration._check_enough()
        except ArgumentError as error:
            raise StoreError(
                f"the record states a rate that was never calibrated: {error}"
            ) from error
        return calibration
