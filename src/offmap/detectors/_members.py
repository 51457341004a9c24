"""Probabilities of an ensemble's members, as logarithms in float64."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._softmax import check_classes


def log_probabilities(acts: Activations) -> Float64[Tensor, "m n c"]:
    """``log q_m`` of every member."""
    check_classes(acts.members[0].logits)
    return torch.stack([member.logits.double().log_softmax(1) for member in acts.members])
