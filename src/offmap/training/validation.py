"""Loss and accuracy of a network on un-augmented data."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from offmap.data import ImageSet
from offmap.forward import Normalization, forward


def validated(
    network: nn.Module, data: ImageSet, normalization: Normalization, *, precision: str = "fp32"
) -> tuple[float, float]:
    """Mean cross entropy and accuracy; of an ensemble, those of its mean probabilities.

    Args:
        network: a classifier.
        data: with labels.
        normalization: of its images.
        precision: fp32 or bf16.
    """
    loss, right = 0.0, 0
    for acts, labels in forward(
        network, data, precision=precision, normalization=normalization, show_progress=False
    ):
        assert labels is not None
        loss += float(F.cross_entropy(acts.logits, labels, reduction="sum"))
        right += int((acts.answers == labels).sum())
    return loss / len(data), right / len(data)
