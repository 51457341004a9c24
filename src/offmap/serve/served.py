"""A guard as it is served: what it reads, what it promises, and its verdicts on rows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from offmap._utils.inputs import Inputs
from offmap._utils.percent import about
from offmap.data import OwnTransform
from offmap.guard import Certified, Guard, Verdict
from offmap.guard.reasons import reasons_of
from offmap.serve.reading import Reads

Columns = dict[str, list[Any]]
_RATES = 32  # guards at other rates in memory; they share their tensors


class Served:
    """A guard, with what requests need to know of it.

    Args:
        guard: calibrated.
        own: the function that makes its images, where it was fitted through one.

    Raises:
        NotFittedError: it has no threshold.
        ArgumentError: it does not know the shape of its inputs, or another function made them.
    """

    def __init__(self, guard: Guard, own: OwnTransform | None = None) -> None:
        self.guard, self.own = guard, own
        self.certified = Certified.of(guard)
        guard.check_transform(own)
        self.reads = Reads.of(guard)
        self.at = lru_cache(_RATES)(guard.at)
        self.requests = 0  # in work

    def promise(self, rate: float | None) -> str:
        """What holds for its verdicts, at its own rate or another."""
        guard = self.guard if rate is None else self.at(rate)
        return guard.calibration.promise

    def judge(
        self, inputs: Inputs, rate: float | None, *, explain: bool
    ) -> tuple[Verdict, Columns]:
        """The verdict at the guard's own rate, and columns at the rate that was asked for."""
        guard = self.guard
        reasons: tuple[str, ...] = ()
        if rate is None and not explain:
            verdict = answer = guard(inputs)
        else:
            with guard.activations(inputs) as acts:
                scores = guard.score_activations(acts)
                verdict = answer = guard.decided(guard.calibration, acts, scores)
                if rate is not None:
                    answer = guard.decided(self.at(rate).calibration, acts, scores)
                reasons = reasons_of(guard, acts, verdict) if explain else ()
        columns = answer.to_dict()
        columns["reason"] = list(reasons) or [
            error if error is not None else f"about {about(p)} of known samples score as high"
            for p, error in zip(columns["p_value"], columns["error"], strict=True)
        ]
        return verdict, columns
