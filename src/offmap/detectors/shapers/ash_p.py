"""Activation shaping that prunes."""

from __future__ import annotations

from jaxtyping import Float64
from torch import Tensor

from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors.shapers._largest import Largest, largest


@register("ashp")
class ASHP(Largest):
    r"""Keeps the largest features of each sample, and makes the others 0.

    .. math:: h'_i = h_i\, 1(i \in \mathrm{top}_k(h)), \qquad z' = W h' + b

    with :math:`k` = ``d - round(quantile d)``; of equal features those that come first. Nothing is
    learned. It suits convolutional networks whose features come from a ReLU.

    Args:
        inner: the detector that scores the pruned activations.
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
        return x * largest(x, count)
