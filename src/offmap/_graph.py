"""A guard in the terms that a trace can follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offmap.activations import Activations
from offmap.forward import features_of, logits_of
from offmap.guard import Guard

Answers = tuple[Tensor, Tensor, Tensor, Tensor]


class Graph(nn.Module):
    """Images to label, score, p-value and decision, with no check that reads a value."""

    alarm_rate: Tensor

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        assert guard.calibration is not None
        assert guard.probe.head_name is not None
        self.network = guard.probe.network
        self.detectors = guard.detectors
        self.calibration = guard.calibration
        self.probe = guard.probe
        self.layer = guard.probe.head_name
        # A tensor, because ONNX translation rounds Python's numbers to float32, and p-values
        # are often equal to the rate.
        rate = torch.tensor(guard.calibration.alarm_rate, dtype=torch.float64)
        self.register_buffer("alarm_rate", rate.to(guard.probe.device))

    def forward(self, images: Tensor) -> Answers:
        acts = self._activations(images.to(self.probe.device))
        label = acts.logits.argmax(1)
        scores = torch.stack([each(acts).float() for each in self.detectors], dim=1)
        score, p, _ = self.calibration(scores, label)
        return label, score, p, p <= self.alarm_rate

    def _activations(self, images: Tensor) -> Activations:
        x = self.probe.normalization(images) if images.dtype == torch.uint8 else images.float()
        inputs: list[Tensor] = []
        layer = self.network.get_submodule(self.layer)
        handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            logits = logits_of(self.network(x), images.shape[0])
        finally:
            handle.remove()
        return Activations(logits.float(), features_of(inputs[-1]).float())
