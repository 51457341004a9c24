"""A guard in the terms that a trace can follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offmap.activations import Activations, log_mean_probabilities
from offmap.forward import EnsembleProbe, Probe, features_of, logits_of
from offmap.guard import Guard

Answers = tuple[Tensor, Tensor, Tensor, Tensor]


class Graph(nn.Module):
    """Images to label, score, p-value and decision, with no check that reads a value."""

    alarm_rate: Tensor

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        assert guard.calibration is not None
        self.network = guard.probe.network
        self.detectors = guard.detectors
        self.calibration = guard.calibration
        self.probe = guard.probe
        self.each = self.probe.each if isinstance(self.probe, EnsembleProbe) else [self.probe]
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
        each = tuple(_activations(probe, x) for probe in self.each)
        if not isinstance(self.probe, EnsembleProbe):
            return each[0]
        return Activations(log_mean_probabilities([acts.logits for acts in each]), members=each)


def _activations(probe: Probe, x: Tensor) -> Activations:
    assert probe.head_name is not None
    inputs: list[Tensor] = []
    layer = probe.network.get_submodule(probe.head_name)
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        logits = logits_of(probe.network(x), x.shape[0])
    finally:
        handle.remove()
    return Activations(logits.float(), features_of(inputs[-1]).float())
