"""Cross entropy to the uniform distribution."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes, log_sum_exp


@register("kluniform")
class KLUniform(Detector):
    r"""Negated cross entropy from the uniform distribution to the softmax.

    .. math:: s(z) = \frac1c \sum_j z_j - \log \sum_j \exp z_j = \frac1c \sum_j \log p_j

    It is :math:`-\mathrm{KL}(u \,\|\, p)` up to the constant :math:`\log c`: highest, at
    :math:`-\log c`, where the softmax is uniform.

    References:
        Hendrycks et al., ICLR 2019, arXiv:1812.04606.
    """

    year = 2019

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        check_classes(acts.logits)
        logits = acts.logits.double()
        return logits.mean(1) - log_sum_exp(logits)
