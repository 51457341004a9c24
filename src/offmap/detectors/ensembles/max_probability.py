"""Maximum probability of an ensemble."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, log_mean
from offmap.detectors._detector import Detector
from offmap.detectors._members import log_probabilities
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest


@register("maxprobability")
class MaxProbability(Detector):
    r"""One minus the maximum of the mean of the members' probabilities.

    .. math:: s(q) = 1 - \max_j q_j = \sum_{j \ne \hat y} q_j, \qquad q = \tfrac1M \sum_m q_m

    The sum of the other probabilities orders the samples whose maximum rounds to 1. For ensembles,
    such as :class:`offmap.networks.Ensemble`.

    References:
        Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017, arXiv:1612.01474.
    """

    year = 2017
    suits = "ensembles of classifiers"
    needs = Needs.LOGITS | Needs.MEMBERS

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return log_rest(log_mean(log_probabilities(acts))).exp()
