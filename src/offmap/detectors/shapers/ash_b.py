"""Activation shaping that makes features binary."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors.shapers._largest import Largest, largest


@register("ashb")
class ASHB(Largest):
    r"""Shares the sum of the features out equally among the largest, and makes the others 0.

    .. math:: h'_i = \frac{s_1}{k}\, 1(i \in \mathrm{top}_k(h)), \qquad z' = W h' + b

    with :math:`s_1` the sum of all features of a sample and :math:`k` = ``d - round(quantile d)``.
    There are always :math:`k`, as in the published code: where fewer features than that are
    positive, zeros count as large too, those that come first. A sample of zeros stays one. Nothing
    is learned. It suits convolutional networks whose features come from a ReLU.

    Args:
        inner: the detector that scores the binary activations.
        quantile: the share of the features that is pruned, in [0, 1).

    Raises:
        NeedsError: in scoring, if features are negative.

    References:
        Djurisic et al., ICLR 2023, arXiv:2209.09858; 0.65 is the default of the published
        ``ash.py``, which shapes the pooled features, as here.
    """

    year = 2023

    def __init__(self, inner: Detector, *, quantile: float = 0.65) -> None:
        super().__init__(inner, quantile=quantile)

    def shaped(self, x: Float64[Tensor, "n d"], count: int) -> Float64[Tensor, "n d"]:
        return largest(x, count) * (x.sum(1, keepdim=True) / count)
