"""Activation shaping that prunes and sharpens."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors.shapers._largest import Largest, largest, sharpness


@register("ashs", aliases=("ash",))
class ASHS(Largest):
    r"""Keeps the largest features of each sample, times a factor, and makes the others 0.

    .. math:: h'_i = h_i \exp(s_1 / s_2)\, 1(i \in \mathrm{top}_k(h)), \qquad z' = W h' + b

    with :math:`s_1` the sum of all features of a sample, :math:`s_2` that of the largest ones, and
    :math:`k` = ``d - round(quantile d)`` of them; of equal features those that come first. A sample
    of zeros stays one. Nothing is learned. It suits convolutional networks whose features come from
    a ReLU, hundreds of them: of 64 the default leaves 6.

    Args:
        inner: the detector that scores the shaped activations.
        quantile: the share of the features that is pruned, in [0, 1).

    Raises:
        NeedsError: in scoring, if features are negative.

    References:
        Djurisic et al., ICLR 2023, arXiv:2209.09858; 0.9 in the configurations of the published
        code (``ash_s@90`` for CIFAR-10 and ImageNet), which shapes the pooled features, as here.
    """

    year = 2023

    def __init__(self, inner: Detector, *, quantile: float = 0.9) -> None:
        super().__init__(inner, quantile=quantile)

    def shaped(self, x: Float64[Tensor, "n d"], count: int) -> Float64[Tensor, "n d"]:
        return x * largest(x, count) * sharpness(x, count)
