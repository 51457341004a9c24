"""Rows of an evaluation, and their figures from scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from offmap.guard.decide import alarm_threshold
from offmap.metrics import Detection, augrc, aurc, detection, oscr


@dataclass(frozen=True, kw_only=True)
class Row(Detection):
    """One detector on one OOD set.

    Args:
        detector: its name.
        set: name of the OOD set.
        group: the group that the caller put the set in, such as near or far.
        threshold: score above which a sample is called OOD, from the calibration set.
        id_alarm: share of evaluated ID samples above the threshold.
        ood_caught: share of OOD samples above it.
        oscr: area under the OSCR curve, where the ID samples have labels.
        aurc: area under the risk-coverage curve of the ID samples alone, likewise.
        augrc: the same of the generalised curve.
    """

    detector: str
    set: str
    group: str
    threshold: float | None = None
    id_alarm: float | None = None
    ood_caught: float | None = None
    oscr: float | None = None
    aurc: float | None = None
    augrc: float | None = None


def row_of(
    name: str,
    ood: str,
    group: str,
    scores: Mapping[str, Any],
    alarm_rate: float | None,
    right: Any,
) -> Row:
    """The figures of one detector on one OOD set, from its scores by set."""
    threshold = None
    if alarm_rate is not None:
        threshold = alarm_threshold(torch.from_numpy(scores["calibration"]), alarm_rate)
    figures = figures_of(scores["id"], scores[ood], threshold, right)
    return Row(detector=name, set=ood, group=group, threshold=threshold, **figures)


def figures_of(
    id_scores: Any, ood_scores: Any, threshold: float | None, right: Any
) -> dict[str, Any]:
    """The figures of a row, from the scores of its samples.

    Args:
        id_scores: ``(n,)``.
        ood_scores: ``(m,)``.
        threshold: where there is one.
        right: whether each ID sample is rightly predicted, where that is known.
    """
    figures: dict[str, Any] = asdict(detection(id_scores, ood_scores))
    if threshold is not None:
        figures["id_alarm"] = float((id_scores > threshold).mean())
        figures["ood_caught"] = float((ood_scores > threshold).mean())
    if right is not None:
        figures["oscr"] = oscr(id_scores, right, ood_scores)
        figures["aurc"] = aurc(id_scores, right)
        figures["augrc"] = augrc(id_scores, right)
    return figures
