"""The rule that turns scores into p-values and decisions, learned from calibration data."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from offmap._utils.precision import KeepsTypes
from offmap.errors import ArgumentError, NonFiniteError, ShapeError, StoreError
from offmap.guard.decide import alarm_rank, alarm_threshold, p_ranks

RULES = ("plain", "per_class", "bonferroni")
_STATE = ("scores_", "labels_", "counts_", "limits_")


class Calibration(KeepsTypes):
    r"""Conformal p-values of one or several scores, against those of a calibration set.

    The rank of a score is ``r = 1 + #{s_i >= s}`` among ``n`` calibration scores, and each rank has
    a limit :math:`a_r`: a sample is called OOD where the limit of its rank is at most the alarm
    rate. The limits are kept as a table, which is what is exported.

    * ``plain``: one score; ``p = a_r = r / (n + 1)``.
    * ``per_class``: the same among the calibration samples that were given the same label.
    * ``bonferroni``: of ``k`` scores, ``min(1, k min_j p_j)``: valid whatever their dependence.

    A score that is not finite counts as the highest of all: in calibration too, so the rate holds.

    Args:
        rule: one of these.
        alarm_rate: a sample is called OOD where its limit is at most that.

    Attributes:
        scores_: calibration scores, ``(k, n)``, each row in ascending order.
        labels_: the network's predictions for them under ``per_class``, ``(n,)``.
        counts_: calibration samples of each group, ``(g,)``: one group, or the classes.
        limits_: the limit of each rank in each group, ``(g, n + 1)``, float64.
    """

    scores_: Tensor
    labels_: Tensor
    counts_: Tensor
    limits_: Tensor

    def __init__(self, rule: str, alarm_rate: float) -> None:
        super().__init__()
        if rule not in RULES:
            raise ArgumentError(f"rule must be one of {', '.join(RULES)}; seen {rule!r}")
        self.rule = rule
        self.alarm_rate = float(alarm_rate)
        for name in _STATE:
            self.register_buffer(name, torch.empty(0))

    def learn(
        self, scores: Float[Tensor, "n k"], predictions: Int64[Tensor, " n"], classes: int
    ) -> None:
        """Keep the calibration scores, and make the table of limits.

        Raises:
            ArgumentError: too few samples for the alarm rate; says how many are needed.
        """
        if scores.ndim != 2:
            raise ShapeError(f"calibration scores must be (n, k); seen {tuple(scores.shape)}")
        scores = scores.where(scores.isfinite(), torch.inf)
        if bool(scores.isinf().all()):
            raise NonFiniteError("none of the calibration scores is finite")
        order = scores[:, 0].argsort(stable=True)
        if self.rule == "per_class":
            self.counts_ = torch.bincount(predictions, minlength=classes)
            self._check_classes()
            self.scores_, self.labels_ = scores[order].T.contiguous(), predictions[order]
        else:
            alarm_rank(len(scores), self.alarm_rate, tests=scores.shape[1])
            self.counts_ = torch.tensor([len(scores)], device=scores.device)
            self.scores_ = scores.T.contiguous().sort().values
        self.limits_ = limits(self.counts_, tests=scores.shape[1])

    def _check_classes(self) -> None:
        try:
            alarm_rank(int(self.counts_.min()), self.alarm_rate)
        except ArgumentError as error:
            raise ArgumentError(f"class {int(self.counts_.argmin())}: {error}") from error

    @property
    def threshold(self) -> float | None:
        """The score above which a sample is called OOD, where one score is held against one set."""
        if self.rule != "plain":
            return None
        return alarm_threshold(self.scores_[0], self.alarm_rate, finite=False)

    def forward(
        self, scores: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Float64[Tensor, " b"], Bool[Tensor, " b"]]:
        """One score, its p-value, and whether the sample is called OOD."""
        score, rank, group = self._ranked(scores, labels)
        limit = self.limits_[group, rank - 1]
        # The p-value is a ratio of whole numbers, and exactly alarm_rate where it should be.
        tests = len(self.scores_) if self.rule == "bonferroni" else 1
        p = (tests * rank).double() / (self.counts_[group] + 1)
        return score, p.clamp(max=1), limit <= self.alarm_rate

    def _ranked(
        self, scores: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Int64[Tensor, " b"], Int64[Tensor, " b"]]:
        """One score, its rank, and the group of samples among which it is ranked."""
        first = scores[:, 0]
        if self.rule == "per_class":
            same = self.labels_ == labels[:, None]
            return first, 1 + (same & (self.scores_[0] >= first[:, None])).sum(1), labels
        group = torch.zeros_like(labels)
        if self.rule == "plain":
            return first, p_ranks(first, self.scores_[0]), group
        columns = zip(scores.T, self.scores_, strict=True)
        rank = torch.stack([p_ranks(own, known) for own, known in columns], dim=1).amin(1)
        # What is shown is minus the logarithm of the p-value: scores of several kinds have no sum.
        return (
            -((len(self.scores_) * rank).double() / (self.counts_ + 1)).log().float(),
            rank,
            group,
        )

    def __repr__(self) -> str:
        samples = self.scores_.shape[-1]
        return f"Calibration({self.rule}, {samples:,} samples, alarm rate {self.alarm_rate:.2%})"

    def explain(self) -> str:
        """The rule in words."""
        rule = {
            "plain": f"its score is above {self.threshold}",
            "per_class": "its p-value among calibration samples of the same class is at most that",
            "bonferroni": "its lowest p-value, times the number of detectors, is at most that",
        }[self.rule]
        count = self.scores_.shape[1]
        return (
            f"Calibrated on {count:,} samples for an alarm rate of {self.alarm_rate:.2%}: a sample "
            f"is called OOD if {rule}."
        )

    def record(self) -> dict[str, Any]:
        """Rule and rates, as JSON keeps them."""
        return {
            "rule": self.rule,
            "alarm_rates": [self.alarm_rate],
            "confidence": None,
            "samples": int(self.counts_.sum()),
        }

    @classmethod
    def restored(cls, record: dict[str, Any], state: dict[str, Tensor]) -> Calibration:
        """From what :meth:`record` and ``state_dict`` gave.

        Raises:
            StoreError: the two do not belong together.
        """
        if set(state) != set(_STATE):
            raise StoreError(f"the calibration holds {sorted(state)}, which does not fit")
        calibration = cls(record["rule"], record["alarm_rates"][0])
        for name, tensor in state.items():
            calibration.register_buffer(name, tensor)
        return calibration


def limits(counts: Int64[Tensor, " g"], *, tests: int = 1) -> Float64[Tensor, "g r"]:
    """The limit of each rank from 1: ``tests * r / (n + 1)``, and 1 beyond the last.

    Args:
        counts: calibration samples of each group.
        tests: how many ranks share the rate, of which the lowest counts.
    """
    ranks = torch.arange(1, int(counts.max()) + 2, device=counts.device)
    return ((tests * ranks).double() / (counts[:, None] + 1)).clamp(max=1)
