"""A guard in the terms that a trace can follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offmap.guard.guard import Guard

Answers = tuple[Tensor, Tensor, Tensor, Tensor]


class Graph(nn.Module):
    """Images to label, score, p-value and decision, with no check that reads a value."""

    alarm_rate: Tensor

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.network = guard.probe.network
        self.detectors = guard.detectors
        self.calibration = guard.calibration
        self.probe = guard.probe
        # A tensor, because ONNX translation rounds Python's numbers to float32, and p-values
        # are often equal to the rate.
        rate = torch.tensor(guard.calibration.alarm_rate, dtype=torch.float64)
        self.register_buffer("alarm_rate", rate.to(guard.probe.device))

    def forward(self, images: Tensor) -> Answers:
        acts = self.probe.traced(images.to(self.probe.device))
        label = acts.labels
        scores = torch.stack([each(acts).float() for each in self.detectors], dim=1)
        score, p, _ = self.calibration(scores, label)
        return label, score, p, p <= self.alarm_rate
