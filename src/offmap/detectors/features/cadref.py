"""Relative distance to the predicted class, split by the signs of its weights."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from offmap._utils.arguments import one_of
from offmap.activations import Activations, Head
from offmap.detectors._confidences import CONFIDENCES, check_confidence, confidence
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors.features.caref import CARef
from offmap.stats import Mean, Product

# Share of the mean divisor, the least that a sample is divided by.
_SHARE = 1e-3


@register("cadref")
class CADRef(CARef):
    r"""Relative distance to the predicted class, decoupled by the signs of the head's weights.

    .. math::
        s(h, z) = \frac{E_p}{S(z)} + \frac{E_n}{\bar S}, \qquad
        E_p = \frac{\sum_i \max(d_i, 0)}{\| h \|_1}, \qquad
        E_n = \frac{\sum_i \max(-d_i, 0)}{\| h \|_1}, \qquad
        d = (h - \mu_{\hat y}) \odot \mathrm{sign}(w_{\hat y})

    with :math:`\mu_c` as in :class:`CARef`, :math:`S(z) = \log \sum_j \exp z_j` and
    :math:`\bar S` its mean over the training data. Deviations that raise the predicted logit count
    less where the network is sure. :math:`S` must be positive: a sample's is clamped from below at
    a thousandth of :math:`\bar S`, and where that is not positive a fit is refused. It follows the
    published code, which splits by the relative features; equations 7 and 8 print the features
    themselves. pytorch-ood does not clamp, so that a negative :math:`S` turns the sign.

    Args:
        divisor: :math:`S`: "energy" as above, "max_logit", or "msp", which is always positive.

    Attributes:
        signs_: of the head's weights, ``(c, d)``.
        divisor_: mean of :math:`S` over the training data, ``()``.

    Raises:
        DegenerateError: in fitting, if that mean is not positive.

    References:
        Ling et al., CVPR 2025, arXiv:2503.00325, equations 7 to 10; the energy in its table 1.
    """

    year = 2025
    suits = "any classifier with a linear head"
    needs = Needs.LOGITS | Needs.FEATURES | Needs.HEAD
    signs_: Tensor
    divisor_: Tensor

    def __init__(self, divisor: str = "energy") -> None:
        super().__init__()
        self.divisor = one_of("divisor", divisor, CONFIDENCES)

    def bind(self, head: Head) -> None:
        self.set_buffers(signs_=head.weight.float().sign())

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Product:
        confidences = confidence(acts.logits.double(), self.divisor)
        return Product((self._centres(acts), Mean.of(confidences[:, None])))

    def solve(self, stage: int, stats: Any) -> None:
        centres, confidences = stats.parts
        check_confidence(
            float(confidences.mean), repr(self), "CARef, or another divisor", self.divisor
        )
        super().solve(stage, centres)
        self.set_buffers(divisor_=confidences.mean[0])

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        d = self.relative(acts) * self.signs_[acts.logits.argmax(1)]
        up = d.relu().sum(1)
        down = up - d.sum(1)
        confidences = confidence(acts.logits.double(), self.divisor).maximum(_SHARE * self.divisor_)
        return (up / confidences + down / self.divisor_) / self.sizes(acts)

    def summary(self) -> str:
        return f"{super().summary()}; mean {self.divisor} {float(self.divisor_):.4g}"
