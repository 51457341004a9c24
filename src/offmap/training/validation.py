"""Loss and accuracy of a network on un-augmented data."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from offmap.activations import Activations
from offmap.data import ImageSet
from offmap.forward import Normalization, probe_of

_BATCH = 256


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
    loss, correct = 0.0, 0
    with probe_of(network, precision=precision, normalization=normalization) as probe:
        for images, labels in data.batches(_BATCH):
            assert labels is not None
            acts = Activations(probe.logits(images))  # no head is needed, as features would be
            acts.check_finite()
            truth = labels.to(acts.logits.device)
            loss += float(F.cross_entropy(acts.logits, truth, reduction="sum"))
            correct += int((acts.predictions == truth).sum())
    return loss / len(data), correct / len(data)
