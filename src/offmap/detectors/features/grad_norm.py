"""Norm of the last layer's gradient, without a backward pass."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes


@register("gradnorm")
class GradNorm(Detector):
    r"""Minus the L1 norm of the last weight's gradient of the divergence from uniform.

    .. math:: s(h, z) = -\Big\| \frac{\partial\, \mathrm{KL}(u \,\|\, p)}{\partial W} \Big\|_1
                      = -\|h\|_1 \sum_k \Big| \frac1c - p_k \Big|

    The gradient is :math:`(p - u) h^\top`, so its norm is a product: nothing is learned, no
    gradient is taken, and no head is needed. It is that of the last layer's weight alone, as the
    paper recommends.

    References:
        Huang, Geng and Li, NeurIPS 2021, arXiv:2110.00218. pytorch-ood takes the
        gradient of a binary cross entropy of the probabilities instead, for all parameters unless
        told otherwise.
    """

    needs = Needs.LOGITS | Needs.FEATURES
    year = 2021
    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        check_classes(acts.logits)
        p = acts.logits.double().softmax(1)
        return -acts.features.double().abs().sum(1) * (p - 1 / p.shape[1]).abs().sum(1)
