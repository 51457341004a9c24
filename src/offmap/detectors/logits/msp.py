"""Maximum softmax probability."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest


@register("msp", aliases=("maxsoftmax",))
class MSP(Detector):
    r"""One minus the maximum softmax probability.

    .. math:: s(z) = 1 - \max_j p_j = \sum_{j \ne \hat y} p_j

    The sum of the other probabilities orders the samples whose maximum rounds to 1.

    References:
        Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136.
    """

    year = 2017

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return log_rest(acts.logits.double()).exp()
