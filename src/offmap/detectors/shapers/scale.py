"""Activation scaling."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from offmap.detectors._registry import register
from offmap.detectors.shapers._largest import Largest, sharpness


@register("scale")
class SCALE(Largest):
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

    def shaped(self, x: Float64[Tensor, "n d"], count: int) -> Float64[Tensor, "n d"]:
        return x * sharpness(x, count)
