"""A guard in the terms that a trace can follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offmap.guard.guard import Guard

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]


class Graph(nn.Module):
    """Images to label, score, p-value and decision, with no check that reads a value.

    An alarm rate among the inputs replaces the guard's own. One that was not named before
    calibrating with a confidence is compared with the limits that hold for all rates at once.
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
            limits = calibration.at(calibration.alarm_rates[0]).limits_
            self.register_buffer("limits", limits)
            self.register_buffer("for_any_rate", calibration.for_any_rate())

    def forward(self, images: Tensor, alarm_rate: Tensor | None = None) -> Outputs:
        acts = self.probe.traced(images.to(self.probe.device))
        label = acts.labels
        scores = torch.stack([detector(acts).float() for detector in self.detectors], dim=1)
        # As in the guard: a score or output that is not finite is OOD, whatever the limits.
        finite_scores = scores.isfinite() & acts.finite_rows()[:, None]
        scores, finite = torch.where(finite_scores, scores, torch.inf), finite_scores.all(1)
        if alarm_rate is None or not self.certified:
            rate = self.alarm_rate if alarm_rate is None else alarm_rate
            table = self.calibration.limits_
            score, p, limit = self.calibration.with_limits(scores, label, table)
            # At a rate that the guard refuses not even the first rank is low enough.
            is_ood = (limit <= rate) | ~finite
            return label, torch.where(finite, score, torch.inf), p, is_ood
        tables = (self.limits, self.for_any_rate)
        score, p, named_limit, any_limit = self.calibration.with_limits(scores, label, *tables)
        limit = torch.where((self.named == alarm_rate).any(), named_limit, any_limit)
        is_ood = (limit <= alarm_rate) | ~finite
        return label, torch.where(finite, score, torch.inf), p, is_ood
