"""Entropy of an ensemble."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, log_mean
from offmap.detectors._detector import Detector
from offmap.detectors._members import log_probabilities
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import entropy


@register("totalentropy")
class TotalEntropy(Detector):
    r"""Entropy of the mean of the members' probabilities, in nats.

    .. math:: s(q) = H(q) = -\sum_j q_j \log q_j, \qquad q = \tfrac1M \sum_m q_m

    It is the sum of :class:`ExpectedEntropy` and :class:`MutualInformation`. For ensembles, such as
    :class:`offmap.networks.Ensemble`.

    References:
        Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017, arXiv:1612.01474.
    """

    year = 2017
    suits = "ensembles of classifiers"
    needs = Needs.LOGITS | Needs.MEMBERS

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return entropy(log_mean(log_probabilities(acts)))
