"""A guard in the terms that a trace can follow."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from offmap.activations import Activations, log_mean_probabilities
from offmap.forward import (
    AnyProbe,
    CascadeProbe,
    EnsembleProbe,
    Probe,
    features_of,
    logits_of,
)
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
        acts = _activations(self.probe, images.to(self.probe.device))
        label = acts.answers
        scores = torch.stack([each(acts).float() for each in self.detectors], dim=1)
        score, p, _ = self.calibration(scores, label)
        return label, score, p, p <= self.alarm_rate


def _activations(probe: AnyProbe, images: Tensor) -> Activations:
    if isinstance(probe, CascadeProbe):
        acts = _activations(probe.filter, images)
        return acts if probe.one_system else replace(acts, answer_logits=_logits(probe, images))
    x = _prepared(probe, images)
    if isinstance(probe, Probe):
        return _of_one(probe, x)
    each = tuple(_of_one(member, x) for member in probe.each)
    return Activations(log_mean_probabilities([acts.logits for acts in each]), members=each)


def _logits(cascade: CascadeProbe, images: Tensor) -> Tensor:
    """Those of the classifier."""
    probe, n = cascade.classifier, images.shape[0]
    x = _prepared(probe, images)
    if isinstance(probe, Probe):
        return logits_of(probe.network(x), n).float()
    return log_mean_probabilities([logits_of(each.network(x), n).float() for each in probe.each])


def _prepared(probe: Probe | EnsembleProbe, images: Tensor) -> Tensor:
    return probe.normalization(images) if images.dtype == torch.uint8 else images.float()


def _of_one(probe: Probe, x: Tensor) -> Activations:
    assert probe.head_name is not None
    inputs: list[Tensor] = []
    layer = probe.network.get_submodule(probe.head_name)
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        logits = logits_of(probe.network(x), x.shape[0])
    finally:
        handle.remove()
    return Activations(logits.float(), features_of(inputs[-1]).float())
