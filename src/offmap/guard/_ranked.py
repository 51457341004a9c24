"""The rank of a score among calibration scores, and the decision that a table makes of it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from offmap._utils.precision import KeepsTypes
from offmap.guard.decide import p_ranks

STATE = ("scores_", "labels_", "counts_", "limits_")


class Ranked(KeepsTypes):
    """Calibration scores with the limit of each rank; ``Calibration`` learns these.

    The rule and the buffers are those of :class:`~offmap.guard.calibration.Calibration`.
    """

    scores_: Tensor
    labels_: Tensor
    counts_: Tensor
    limits_: Tensor
    groups_: Tensor | None

    def __init__(self, rule: str, alarm_rate: float) -> None:
        super().__init__()
        self.rule = rule
        self.alarm_rate = alarm_rate
        self._places: tuple[Any, tuple[Tensor, Tensor, Tensor]] | None = None
        for name in STATE:
            self.register_buffer(name, torch.empty(0, device="cpu"))
        self.register_buffer("groups_", None)

    @property
    def tests(self) -> int:
        """How many detectors share the rate; the lowest of their ranks counts."""
        return len(self.scores_) if self.rule == "bonferroni" else 1

    def forward(
        self, scores: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Float64[Tensor, " b"], Bool[Tensor, " b"]]:
        """One score, its p-value, and whether the sample is called OOD."""
        if self.rule == "plain" and not torch.compiler.is_compiling():
            score = scores.select(1, 0)
            ascending, p, is_ood = self._by_place()
            place = torch.searchsorted(ascending, score.contiguous())
            return score, p.index_select(0, place), is_ood.index_select(0, place)
        score, rank, group = self._ranked(scores, labels)
        is_ood = _limit_at(self.limits_, group, rank) <= self.alarm_rate
        return score, self._p_value(rank, group), is_ood

    def _by_place(self) -> tuple[Tensor, Tensor, Tensor]:
        """Calibration scores, with p-value and decision for each place among them: saves time."""
        scores, limits, rate = source = self.scores_, self.limits_, self.alarm_rate
        if self._places is not None:
            (of_scores, of_limits, of_rate), places = self._places
            if of_scores is scores and of_limits is limits and of_rate == rate:
                return places
        ascending = scores[0]
        rank = torch.arange(len(ascending) + 1, 0, -1, device=ascending.device)
        is_ood = _limit_at(limits, None, rank) <= rate
        places = ascending, self._p_value(rank, None), is_ood
        self._places = source, places
        return places

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of; without the places, which may lie on another device."""
        return {**vars(self), "_places": None}

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Take scores of as many samples with equal limits: tensors hold no rule and no rate."""
        self._places = None  # buffers are filled in place
        buffers = {"counts_": self.counts_, "limits_": self.limits_}
        if all(torch.equal(state.get(prefix + n, x).to(x), x) for n, x in buffers.items()):
            super()._load_from_state_dict(state, prefix, *args)
            return
        errors = args[-1]
        errors.append(
            f"{prefix.rstrip('.')} was calibrated otherwise (rule, rates, confidence or number of "
            "samples), which a state_dict does not hold: write guards by save(folder), and open "
            "them by offmap.load(folder)"
        )

    def with_limits(
        self, scores: Float[Tensor, "b k"], labels: Int64[Tensor, " b"], *tables: Tensor
    ) -> tuple[Tensor, ...]:
        """One score, its p-value, and the limit of its rank in each table."""
        score, rank, group = self._ranked(scores, labels)
        limits = (_limit_at(table, group, rank) for table in tables)
        return score, self._p_value(rank, group), *limits

    def _p_value(
        self, rank: Int64[Tensor, " b"], group: Int64[Tensor, " b"] | None
    ) -> Float64[Tensor, " b"]:
        multiple = rank if self.tests == 1 else self.tests * rank
        counts = self.counts_ if group is None else self.counts_[group]
        # A ratio of whole numbers, and exactly alarm_rate where it should be.
        return (multiple.double() / (counts + 1)).clamp(max=1)

    def _ranked(
        self, scores: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b"], Int64[Tensor, " b"], Int64[Tensor, " b"] | None]:
        """One score, its rank, and the group of samples among which it is ranked, if of several."""
        first = scores[:, 0]
        if self.rule == "per_class":
            if self.groups_ is not None:
                labels = self.groups_[labels]
            same = self.labels_ == labels[:, None]
            return first, 1 + (same & (self.scores_[0] >= first[:, None])).sum(1), labels
        if self.rule == "plain":
            return first, p_ranks(first, self.scores_[0]), None
        columns = zip(scores.T, self.scores_, strict=True)
        ranks = [p_ranks(column, ascending) for column, ascending in columns]
        rank = torch.stack(ranks, dim=1).amin(1)
        # The score is minus the logarithm of the p-value: scores of several kinds have no sum.
        return (
            -((len(self.scores_) * rank).double() / (self.counts_ + 1)).log().float(),
            rank,
            None,
        )


def _limit_at(
    table: Float64[Tensor, "g r"], group: Int64[Tensor, " b"] | None, rank: Int64[Tensor, " b"]
) -> Float64[Tensor, " b"]:
    """The limits of ranks; of one group by a call that is faster at batch 1."""
    row = rank - 1
    return table[0].index_select(0, row) if group is None else table[group, row]
