"""False-discovery control of a stream of verdicts, by the procedures of ``online-fdr``.

::

    from online_fdr.p_values import BatchBH             # pip install offmap[fdr]
    from offmap.adapters.online_fdr import Stream

    stream = Stream(guard, BatchBH(alpha=0.1))
    for images in batches:
        unknown = stream(guard(images))                  # which of them are discoveries

Nothing of it is imported here: a procedure is what has ``test_batch`` or ``test_one``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from offmap.errors import ArgumentError
from offmap.guard import Guard, Verdict, adjusted_p_values

__all__ = ["Batches", "Single", "Stream"]


@runtime_checkable
class Batches(Protocol):
    """A procedure that takes a batch at a time."""

    def test_batch(self, p_vals: Sequence[float], /) -> Sequence[bool]:
        """Which of them are discoveries."""


@runtime_checkable
class Single(Protocol):
    """A procedure that takes one sample at a time."""

    def test_one(self, p_val: float, /) -> bool:
        """Whether it is a discovery."""


class Stream:
    """Which samples of a stream to call OOD, so that few of all those called are ID.

    The procedures want p-values that are independent, and those of a guard all lean on one
    calibration set. So each is replaced by its simultaneous bound, see
    :func:`offmap.guard.adjusted_p_values`: with that confidence in the calibration set, the
    p-values of ID samples that come independently are at least as large as uniform ones, whatever
    came before, and the procedure keeps its rate.

    The bound is never below ``smallest``, some six times 1/n, and a procedure whose levels fall
    below it finds nothing more: 1,000 calibration samples are few here, and 5,000 are not. Those
    that take batches (``BatchBH``) find most.

    Args:
        guard: calibrated, with one set of calibration scores.
        procedure: of ``online_fdr.p_values``, or alike; its state is its own (``snapshot()``).
        confidence: that the bounds hold for this calibration set.
        method: of the bounds, as for :func:`offmap.guard.adjusted_p_values`.

    Attributes:
        smallest: the smallest p-value there can be.

    Raises:
        NotFittedError: the guard is not calibrated.
        ArgumentError: it compares a sample with the calibration scores of its class alone, or of
            several detectors; or the procedure is none.

    References:
        Bates et al., Annals of Statistics 51, 2023, arXiv:2104.08279, section 3. Zrnic, Jiang,
        Ramdas and Jordan, 2020, on batches, arXiv:1910.04968.
    """

    def __init__(
        self,
        guard: Guard,
        procedure: Batches | Single,
        *,
        confidence: float = 0.95,
        method: str = "simes",
    ) -> None:
        calibration = guard.calibration
        if calibration.rule != "plain":
            raise ArgumentError(
                f"a guard of rule {calibration.rule!r} has p-values of several sets of scores: "
                "calibrate it for one detector, without per_class"
            )
        if not isinstance(procedure, Batches | Single):
            raise ArgumentError(
                f"{type(procedure).__name__} has neither test_batch nor test_one: give a procedure "
                "of online_fdr.p_values"
            )
        self.procedure, self.samples = procedure, calibration.scores_.shape[1]
        self._how: dict[str, Any] = {"confidence": confidence, "method": method}
        least = torch.tensor([1 / (self.samples + 1)], dtype=torch.float64, device="cpu")
        self.smallest = float(adjusted_p_values(least, self.samples, **self._how))

    def __call__(self, verdict: Verdict) -> Bool[Tensor, " n"]:
        """Which samples are discoveries, in the order in which they came.

        A sample without a finite score is called OOD, and is not part of the stream.
        """
        discoveries = torch.ones(len(verdict), dtype=torch.bool, device=verdict.p_values.device)
        scored = verdict.scores.isfinite()
        if scored.any():
            p = adjusted_p_values(verdict.p_values[scored], self.samples, **self._how).tolist()
            if isinstance(self.procedure, Batches):
                results = [bool(each) for each in self.procedure.test_batch(p)]
            else:
                results = [bool(self.procedure.test_one(each)) for each in p]
            discoveries[scored] = torch.tensor(results, device=discoveries.device)
        return discoveries
