"""Entropy of the softmax."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import entropy


@register("entropy")
class Entropy(Detector):
    r"""Entropy of the softmax, in nats.

    .. math:: s(z) = -\sum_j p_j \log p_j

    Finite however small a probability is: a term whose probability underflows is 0.
    """

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return entropy(acts.logits.double())
