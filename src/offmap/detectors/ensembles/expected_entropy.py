"""Entropy of an ensemble's members."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import entropy


@register("expectedentropy")
class ExpectedEntropy(Detector):
    r"""Mean of the entropies of the members' probabilities, in nats.

    .. math:: s(q) = \tfrac1M \sum_m H(q_m)

    What the members do not know one by one; where they disagree it is not seen, see
    :class:`MutualInformation`. For ensembles, such as :class:`offmap.networks.Ensemble`.

    References:
        Depeweg et al., ICML 2018, arXiv:1710.07283.
    """

    year = 2018
    suits = "ensembles of classifiers"
    needs = Needs.LOGITS | Needs.MEMBERS

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return torch.stack([entropy(member.logits.double()) for member in acts.members]).mean(0)
