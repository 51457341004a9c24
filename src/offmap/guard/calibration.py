"""The rule that turns scores into p-values, learned from calibration data."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from offmap.errors import ArgumentError, StoreError
from offmap.guard.decide import alarm_rank, alarm_threshold, checked, p_ranks

RULES = ("plain", "per_class", "bonferroni", "fisher")


class Calibration(nn.Module):
    r"""Conformal p-values of one or several scores, against those of a calibration set.

    * ``plain``: one score, ``p = (1 + #{s_i >= s}) / (n + 1)``.
    * ``per_class``: the same among the calibration samples that were given the same label.
    * ``bonferroni``: of ``k`` scores, ``min(1, k min_j p_j)``: valid whatever their dependence.
    * ``fisher``: ``-sum_j log p_j``, with ``p_j`` from one half of the calibration set, as a score
      that is calibrated once more on the other half: exactly valid too.

    Args:
        rule: one of these.
        alarm_rate: a sample is called OOD where ``p <= alarm_rate``.

    Attributes:
        scores_: calibration scores, ``(k, n)``, each row in ascending order.
        labels_: the network's answers for them under ``per_class``, ``(n,)``.
        combined_: combined scores of the second half under ``fisher``, ascending, ``(m,)``.
    """

    scores_: Tensor
    labels_: Tensor
    combined_: Tensor

    def __init__(self, rule: str, alarm_rate: float) -> None:
        super().__init__()
        if rule not in RULES:
            raise ArgumentError(f"rule must be one of {', '.join(RULES)}; seen {rule!r}")
        self.rule = rule
        self.alarm_rate = float(alarm_rate)
        for name in ("scores_", "labels_", "combined_"):
            self.register_buffer(name, torch.empty(0))

    def learn(
        self, scores: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], classes: int, seed: int
    ) -> None:
        """Keep the calibration scores.

        Raises:
            ArgumentError: too few samples for the alarm rate; says how many are needed.
        """
        for column in scores.T:
            checked(column)
        if self.rule == "per_class":
            self._check_classes(labels, classes)
            order = scores[:, 0].argsort()
            self.scores_, self.labels_ = scores[order].T.contiguous(), labels[order]
        elif self.rule == "fisher":
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(scores), generator=generator).to(scores.device)
            first, second = order.tensor_split(2)
            self._check_half(len(second))
            self.scores_ = scores[first].T.contiguous().sort().values
            self.combined_ = self._fisher(scores[second]).sort().values
        else:
            alarm_rank(len(scores), self.alarm_rate, tests=scores.shape[1])
            self.scores_ = scores.T.contiguous().sort().values

    def _check_half(self, samples: int) -> None:
        try:
            alarm_rank(samples, self.alarm_rate)
        except ArgumentError as error:
            raise ArgumentError(
                f"half of the calibration data, which is what 'fisher' calibrates on: {error}"
            ) from error

    def _check_classes(self, labels: Int64[Tensor, " n"], classes: int) -> None:
        counts = torch.bincount(labels, minlength=classes)
        try:
            alarm_rank(int(counts.min()), self.alarm_rate)
        except ArgumentError as error:
            raise ArgumentError(f"class {int(counts.argmin())}: {error}") from error

    @property
    def threshold(self) -> float | None:
        """The score above which a sample is called OOD, where one score is held against one set."""
        if self.rule != "plain":
            return None
        return alarm_threshold(self.scores_[0], self.alarm_rate)

    def forward(
        self, scores: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Float64[Tensor, " b"], Bool[Tensor, " b"]]:
        """One score, its p-value, and whether the sample is called OOD."""
        if self.rule == "plain":
            score, p = scores[:, 0], _p(scores[:, 0], self.scores_[0])
        elif self.rule == "per_class":
            score, p = scores[:, 0], self._p_within_class(scores[:, 0], labels)
        elif self.rule == "bonferroni":
            # Whole numbers until the division, so that p is alarm_rate where it should be.
            lowest = (scores.shape[1] * self._ranks(scores).amin(1)).double() / self._counted
            score, p = -lowest.log().float(), lowest.clamp(max=1)
        else:
            score = self._fisher(scores)
            p = _p(score, self.combined_)
        return score, p, p <= self.alarm_rate

    def _ranks(self, scores: Float[Tensor, "b k"]) -> Int64[Tensor, "b k"]:
        columns = zip(scores.T, self.scores_, strict=True)
        return torch.stack([p_ranks(own, calibration) for own, calibration in columns], dim=1)

    @property
    def _counted(self) -> int:
        return self.scores_.shape[1] + 1

    def _fisher(self, scores: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        return -(self._ranks(scores).double() / self._counted).log().sum(1).float()

    def _p_within_class(
        self, scores: Float[Tensor, " b"], labels: Int64[Tensor, " b"]
    ) -> Float64[Tensor, " b"]:
        same = self.labels_ == labels[:, None]
        above = (same & (self.scores_[0] >= scores[:, None])).sum(1)
        return (1 + above).double() / (1 + same.sum(1))

    def explain(self) -> str:
        """The rule in words."""
        rule = {
            "plain": f"its score is above {self.threshold}",
            "per_class": "its p-value among calibration images of the same answer is at most that",
            "bonferroni": "its lowest p-value, times the number of detectors, is at most that",
            "fisher": "the p-value of its combined score is at most that",
        }[self.rule]
        count = self.scores_.shape[1] + len(self.combined_)
        return (
            f"Calibrated on {count:,} images for an alarm rate of {self.alarm_rate:.2%}: an image "
            f"is called unknown if {rule}."
        )

    def record(self) -> dict[str, Any]:
        """Rule and rate, as JSON keeps them."""
        return {"rule": self.rule, "alarm_rate": self.alarm_rate}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the buffers back that were saved."""
        if set(state) != {"scores_", "labels_", "combined_"}:
            raise StoreError(f"the calibration holds {sorted(state)}, which does not fit")
        for name, tensor in state.items():
            self.register_buffer(name, tensor)


def _p(scores: Float[Tensor, " b"], ascending: Float[Tensor, " n"]) -> Float64[Tensor, " b"]:
    """Conformal p-values against calibration scores in ascending order."""
    return p_ranks(scores, ascending).double() / (len(ascending) + 1)
