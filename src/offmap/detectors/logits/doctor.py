"""Odds that the predicted class is wrong."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import one_of
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest, log_softmax

_KINDS = ("alpha", "beta")


@register("doctor")
class DOCTOR(Detector):
    r"""Odds that a class is wrong: one drawn from the softmax, or the predicted one.

    .. math:: s_\alpha(z) = \frac{1 - g}{g}, \quad g = \sum_j p_j^2, \qquad
              s_\beta(z) = \frac{1 - \max_j p_j}{\max_j p_j}

    ``beta`` orders the samples exactly as :class:`MSP` does, so it is another scale of that score
    and no other detector. What is missing to 1 is summed from :math:`p_j (1 - p_j)`, or from the
    other probabilities: the difference itself rounds to 0 for confident samples.

    Args:
        kind: "alpha", which the paper prefers, or "beta".

    References:
        Granese, Romanelli, Gorla, Palamidessi and Piantanida, NeurIPS 2021, arXiv:2106.02395:
        without temperature and input perturbation, as in its "totally black box" setting.
    """

    year = 2021

    def __init__(self, kind: str = "alpha") -> None:
        super().__init__()
        self.kind = one_of("kind", kind, _KINDS)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        logits = acts.logits.double()
        log_p = log_softmax(logits)
        if self.kind == "beta":
            return (log_rest(logits) - log_p.amax(1)).exp()
        p = log_p.exp()
        return -(p * log_p.expm1()).sum(1) / p.square().sum(1)
