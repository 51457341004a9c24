"""The scores of calibration data, part of which detectors may learn on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap._utils.warning import warn_user
from offmap.activations import Activations
from offmap.detectors import Detector, passes
from offmap.errors import DataError, OutputsWarning
from offmap.forward import EachPass, Seen
from offmap.guard.calibration_data import CalibrationData, acts_of
from offmap.guard.groups import Groups

if TYPE_CHECKING:
    from offmap.guard._fitted import Fitted


@dataclass
class Scored:
    """Calibration samples as the threshold is made from them.

    Attributes:
        scores: a column a detector.
        predictions: class indices.
        classes: of the network.
        seen: all samples that were read, also those learned on.
        keys: of the samples, where they have some.
    """

    scores: Float[Tensor, "n k"]
    predictions: Int64[Tensor, " n"]
    classes: int
    seen: Seen
    keys: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, guard: Fitted, batches: Iterator[Any], seen: Seen) -> Self:
        """The samples of all batches.

        Raises:
            DataError: there are none.
        """
        scores, predictions, classes = [], [], 0
        keys: list[str] = []
        fitting = guard.fitting()
        for batch, _ in batches:
            acts = acts_of(batch)
            fitting.bind(acts)
            scores.append(guard.calibration_scores(batch))
            predictions.append(acts.labels)
            classes = classes_of(acts)
            keys += acts.keys or ()
        if not scores:
            raise DataError("there are no samples to calibrate on: give more calibration data")
        return cls(torch.cat(scores), torch.cat(predictions), classes, seen, keys)

    def at(self, rows: Int64[Tensor, " g"]) -> Self:
        """Some of the samples."""
        keys = [self.keys[i] for i in rows.tolist()]
        rows = rows.to(self.scores.device)
        scores, predictions = self.scores[rows], self.predictions[rows]
        return replace(self, scores=scores, predictions=predictions, keys=keys)

    def warn_not_finite(self) -> None:
        """Warn of samples without a finite score."""
        if missing := int((~self.scores.isfinite().all(1)).sum()):
            warn_user(
                f"{missing:,} of {len(self.scores):,} calibration samples have no finite score: "
                "each counts as the highest score. Samples like these will be called OOD, and the "
                "rate holds",
                OutputsWarning,
            )


def scored(
    guard: Fitted,
    data: Any,
    passing: Callable[[Seen], Iterator[Any]],
    learn_share: float,
    groups: Groups | None,
    *,
    learn: bool = True,
) -> Scored:
    """Let the detectors learn on their share of the data, and score the other samples.

    Args:
        guard: with its probe open.
        data: calibration data.
        passing: opens a pass of the network over it, which counts the samples.
        learn_share: share to learn on, where a detector does.
        groups: of the samples; one of each counts.
        learn: whether detectors learn on it; else they stay as they are.

    Raises:
        DataError: there are no samples; or they are read twice, and an iterator gives them once.
    """
    batches = EachPass(lambda seen: through(groups, passing(seen)))
    with ExitStack() as stack:
        if learn and any(passes(each, "calibration") for each in guard.each()):
            parts = CalibrationData(
                data,
                batches,
                samples=guard.learns_from_inputs,
                learn_share=learn_share,
                stack=stack,
                groups=groups,
            )
            guard.fitting().learn("calibration", parts.to_learn_on)
            remainder = parts.rest()
        else:
            remainder = batches()
        samples = Scored.of(guard, remainder, batches.seen)
    return samples if groups is None else samples.at(groups.one_each(samples.keys))


def through(groups: Groups | None, batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches; where there are groups, these learn which samples are theirs."""
    return batches if groups is None else groups.through(batches)


def classes_of(acts: Activations) -> int:
    """The number of logits; 0 without logits."""
    return acts.logits.shape[1] if acts.has_logits else 0


def is_unbound(detector: Detector) -> bool:
    """Whether it learns from no training data, and was not bound to the network yet."""
    return detector.learns and "passes_" not in detector._buffers and not passes(detector, "train")
