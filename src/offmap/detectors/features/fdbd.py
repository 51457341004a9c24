"""Mean distance to the decision boundaries, relative to that to the training mean."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors._boundaries import inverse_gaps
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.stats import Mean

# A sample at the mean itself would be infinitely far from the boundaries.
_SMALLEST = 1e-12


@register("fdbd")
class FDBD(Detector):
    r"""Minus the mean distance to the boundaries of the predicted class, over that to the mean.

    .. math::
        s(h, z) = -\frac{1}{\| h - m \|} \cdot \frac{1}{c - 1} \sum_{k \neq \hat y}
        \frac{z_{\hat y} - z_k}{\| w_{\hat y} - w_k \|}

    with :math:`m` the mean of the training features. Classes whose rows of the head are equal have
    no boundary, and are left out of the mean; pytorch-ood divides by 0 there. It has no
    parameter.

    Attributes:
        mean_: of the training features, ``(d,)``.
        shares_: one over the distances between the head's rows and over their number, ``(c, c)``.

    Raises:
        DegenerateError: in fitting, if all rows of the head are equal, or there is one class.

    References:
        Liu and Qin, ICML 2024, arXiv:2312.11536.
    """

    year = 2024
    suits = "any classifier with a linear head"
    needs = Needs.LOGITS | Needs.FEATURES | Needs.HEAD
    stages = (Stage(reads=Needs.FEATURES),)
    mean_: Tensor
    shares_: Tensor

    def bind(self, head: Head) -> None:
        inverse = inverse_gaps(head.weight, repr(self))
        self.set_buffers(shares_=inverse / (inverse > 0).sum(1, keepdim=True))

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Mean:
        return Mean.of(acts.features)

    def solve(self, stage: int, stats: Mean) -> None:
        self.set_buffers(mean_=stats.mean)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        z = acts.logits.double()
        distances = (z.amax(1, keepdim=True) - z) * self.shares_[z.argmax(1)]
        size: Tensor = torch.linalg.vector_norm(acts.features.double() - self.mean_, dim=1)
        return -distances.sum(1) / size.clamp(min=_SMALLEST)

    def summary(self) -> str:
        return f"boundaries of {len(self.shares_)} classes; a mean of {len(self.mean_)} features"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes * classes
