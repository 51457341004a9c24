"""The figures of a row, from scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from offmap.evaluation.results import Row
from offmap.guard.decide import alarm_threshold
from offmap.metrics import augrc, aurc, detection, oscr


def row_of(
    name: str,
    ood: str,
    group: str,
    scores: Mapping[str, Any],
    alarm_rate: float | None,
    right: Any,
) -> Row:
    """The figures of one detector on one OOD set, from its scores by set."""
    decided: dict[str, Any] = {}
    if alarm_rate is not None:
        threshold = alarm_threshold(torch.from_numpy(scores["calibration"]), alarm_rate)
        decided["threshold"] = threshold
        decided["id_alarm"] = float((scores["id"] > threshold).mean())
        decided["ood_caught"] = float((scores[ood] > threshold).mean())
    if right is not None:
        decided["oscr"] = oscr(scores["id"], right, scores[ood])
        decided["aurc"] = aurc(scores["id"], right)
        decided["augrc"] = augrc(scores["id"], right)
    figures = asdict(detection(scores["id"], scores[ood]))
    return Row(detector=name, set=ood, group=group, **decided, **figures)
