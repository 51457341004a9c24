"""Activation scaling."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Head
from offmap.detectors._checks import check_positive
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.errors import ArgumentError


@register("scale")
class SCALE(Shaper):
    r"""Multiplies the features by a factor that says how few of them hold their sum.

    .. math:: h' = h \exp(s_1 / s_2), \qquad z' = W h' + b

    with :math:`s_1` the sum of all features of a sample and :math:`s_2` that of the largest ones,
    ``d - round(quantile d)`` of them. Nothing is learned and nothing is pruned; a sample of zeros
    stays one. It suits convolutional networks whose features come from a ReLU.

    Args:
        inner: the detector that scores the scaled activations.
        quantile: the share of the features that does not count as large, in [0, 1).

    Raises:
        NeedsError: in scoring, if features are negative.

    References:
        Xu et al., ICLR 2024, arXiv:2310.00227; 0.85 in its section 4.
    """

    year = 2024
    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True

    def __init__(self, inner: Detector, *, quantile: float = 0.85) -> None:
        super().__init__(inner)
        if not 0 <= quantile < 1:
            raise ArgumentError(f"quantile must lie in [0, 1); seen {quantile}")
        self.quantile = quantile

    @classmethod
    def default(cls) -> Self:
        """SCALE around the energy, as in the paper."""
        return cls(Energy())

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        check_positive(features, self)
        width = features.shape[1]
        top = max(width - round(self.quantile * width), 1)
        x = features.double()
        large = x.topk(top, dim=1, sorted=False).values.sum(1)
        # Of a sample of zeros the ratio is 0 / 0, and any factor leaves it zero.
        ratio = x.sum(1) / large.clamp(min=torch.finfo(x.dtype).tiny)
        return (x * ratio.exp()[:, None]).float(), head

    def summary(self) -> str:
        return f"scales by the share above the {self.quantile:g} quantile; {self.inner.summary()}"
