"""A guard in the terms that a trace can follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offmap.guard.guard import Guard

Answers = tuple[Tensor, Tensor, Tensor, Tensor]


class Graph(nn.Module):
    """Images to label, score, p-value and decision, with no check that reads a value.

    A rate that is given takes the place of the guard's own. Where it was not named before
    calibrating with a confidence, it is held against the limits that hold for all rates at once.
    """

    alarm_rate: Tensor
    named: Tensor
    limits: Tensor
    for_any_rate: Tensor

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.network = guard.probe.network
        self.detectors = guard.detectors
        self.calibration = calibration = guard.calibration
        self.probe = guard.probe
        # Tensors, because ONNX translation rounds Python's numbers to float32, and p-values are
        # often equal to the rate.
        rates = {"alarm_rate": calibration.alarm_rate, "named": calibration.alarm_rates}
        for name, value in rates.items():
            rate = torch.tensor(value, dtype=torch.float64, device="cpu")
            self.register_buffer(name, rate.to(guard.probe.home))
        self.certified = calibration.confidence is not None
        if self.certified:
            own = calibration.at(calibration.alarm_rates[0]).limits_
            self.register_buffer("limits", own)
            self.register_buffer("for_any_rate", calibration.for_any_rate())

    def forward(self, images: Tensor, alarm_rate: Tensor | None = None) -> Answers:
        acts = self.probe.traced(images.to(self.probe.device))
        label = acts.labels
        scores = torch.stack([each(acts).float() for each in self.detectors], dim=1)
        # As in the guard: what is not finite, or comes of such, is OOD, and never below a limit.
        of_each = scores.isfinite() & acts.finite_rows()[:, None]
        scores, finite = torch.where(of_each, scores, torch.inf), of_each.all(1)
        if alarm_rate is None or not self.certified:
            rate = self.alarm_rate if alarm_rate is None else alarm_rate
            table = self.calibration.limits_
            score, p, limit = self.calibration.with_limits(scores, label, table)
            # At a rate that the guard refuses no rank is low enough, not even that of infinity.
            is_ood = (limit <= rate) | ~finite
            return label, torch.where(finite, score, torch.inf), p, is_ood
        tables = (self.limits, self.for_any_rate)
        score, p, own, other = self.calibration.with_limits(scores, label, *tables)
        limit = torch.where((self.named == alarm_rate).any(), own, other)
        is_ood = (limit <= alarm_rate) | ~finite
        return label, torch.where(finite, score, torch.inf), p, is_ood
