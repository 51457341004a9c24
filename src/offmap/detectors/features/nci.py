"""Proximity of the centred features to the weight vector of the predicted class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap._utils.arguments import number
from offmap.activations import Activations, Head
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import Mean

# The centred features of a sample at the mean have no direction: its proximity is 0.
_SMALLEST = 1e-12


@register("nci")
class NCI(Detector):
    r"""Minus the projection of the predicted class's weights on the centred features.

    .. math:: s(h, z) = -\frac{w_{\hat y}^\top (h - m)}{\| h - m \|} - \alpha \| h \|_1

    with :math:`m` the mean of the training features: where classes have collapsed, centred
    features point along the weights of their class. The published code searches :math:`\alpha` on
    OOD data for each network, so by default it is 0, as in pytorch-ood.

    Args:
        alpha: weight of the features' norm; not negative.

    Attributes:
        mean_: of the training features, ``(d,)``.
        weight_: the head's weight, ``(c, d)``.

    References:
        Liu and Qin, CVPR 2025, arXiv:2311.01479.
    """

    year = 2025
    suits = "any classifier with a linear head, best where classes have collapsed"
    needs = Needs.LOGITS | Needs.FEATURES | Needs.HEAD
    stages = (Stage(reads=Needs.FEATURES),)
    mean_: Tensor
    weight_: Tensor

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__()
        self.alpha = number("alpha", alpha, least=0)

    def bind(self, head: Head) -> None:
        self.set_buffers(weight_=head.weight.float().clone())

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Mean:
        return Mean.of(acts.features)

    def solve(self, stage: int, stats: Mean) -> None:
        self.set_buffers(mean_=stats.mean)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = acts.features.double() - self.mean_
        size: Tensor = torch.linalg.vector_norm(x, dim=1)
        product = (x * self.weight_[acts.logits.argmax(1)]).sum(1)
        score = -product / size.clamp(min=_SMALLEST)
        return score - self.alpha * acts.features.double().abs().sum(1) if self.alpha else score

    def summary(self) -> str:
        classes, features = self.weight_.shape
        return f"weights of {classes} classes, and a mean of {features} features"

    def footprint(self, classes: int, features: int) -> int:
        return 4 * classes * features
