"""The scores of calibration data, part of which detectors may learn on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors import Detector, passes
from offmap.errors import DataError
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
        classes: how many the network tells apart.
        seen: all that went by, those learned on too.
    """

    scores: Float[Tensor, "n k"]
    predictions: Int64[Tensor, " n"]
    classes: int
    seen: Seen


def scored(
    guard: Fitted,
    data: Any,
    passing: Callable[[Seen], Iterator[Any]],
    learn_share: float,
    groups: Groups | None,
    *,
    learn: bool = True,
) -> Scored:
    """Let the detectors learn on their share of the data, and score what is left of it.

    Args:
        guard: whose probe is open.
        data: calibration data.
        passing: opens a pass of the network over it, that counts what goes by.
        learn_share: share to learn on, where a detector does.
        groups: of the samples; one of each counts.
        learn: whether detectors learn on it; else they stay as they are.

    Raises:
        DataError: there are no samples; or they are needed twice, and can be read once only.
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
            rest = parts.rest()
        else:
            rest = batches()
        scores, predictions, classes, keys = _score(guard, rest)
    if groups is not None:
        one = groups.one_each(keys).to(scores.device)
        scores, predictions = scores[one], predictions[one]
    return Scored(scores, predictions, classes, batches.seen)


def through(groups: Groups | None, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches themselves, whose groups are learned, if there are some."""
    return batches if groups is None else groups.through(batches)


def classes_of(acts: Activations) -> int:
    """How many classes the network tells apart; 0 without logits."""
    return acts.logits.shape[1] if acts.has_logits else 0


def _score(guard: Fitted, batches: Iterator[Any]) -> tuple[Tensor, Tensor, int, list[str]]:
    """Scores and predictions of all batches, the number of classes, and the keys."""
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
    return torch.cat(scores), torch.cat(predictions), classes, keys


def is_unbound(each: Detector) -> bool:
    """Whether it learns from no training data, and has not met the network yet."""
    return each.learns and "passes_" not in each._buffers and not passes(each, "train")
