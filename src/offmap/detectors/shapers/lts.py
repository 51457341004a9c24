"""Logit scaling."""

from __future__ import annotations

from typing import Self

from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import share
from offmap.activations import Activations, Head
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._plan import nodes
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.detectors.shapers._largest import number_of_largest, ratio_of_sums
from offmap.errors import ArgumentError


@register("lts")
class LTS(Shaper):
    r"""Multiplies the logits by a factor that says how few features hold their sum.

    .. math:: z' = \Big(\frac{s_1}{s_2}\Big)^2 (W h + b)

    with :math:`s_1` the sum of the positive features of a sample, and :math:`s_2` that of the
    largest ones, ``d - round(quantile d)`` of them. Without a positive feature the factor is 1, its
    least. Nothing is learned. The features stay, so around a detector that reads no logits it
    changes nothing: ``LTS(KNN())`` is KNN. pytorch-ood 0.4.0 divides the logits by the factor.

    Args:
        inner: the detector that scores the scaled logits.
        quantile: the share of the features that does not count as large, in [0, 1).

    Raises:
        ArgumentError: ``inner`` makes logits anew of the features.

    References:
        Djurisic, Liu and Nikolic, 2024, arXiv:2409.01175: the largest 5 %.
    """

    year = 2024
    suits = "convolutional networks; published for transformers too"

    def __init__(self, inner: Detector, *, quantile: float = 0.95) -> None:
        super().__init__(inner)
        self.quantile = share("quantile", quantile)
        if shaper := next((n for n in nodes(inner) if isinstance(n, Shaper)), None):
            name = type(shaper).__name__
            raise ArgumentError(
                f"{shaper!r} makes logits anew of the features, and nothing of the scaling would "
                f"be left: put LTS inside, {name}(LTS(...))"
            )

    @classmethod
    def default(cls) -> Self:
        """LTS around the energy, as in the paper."""
        return cls(Energy())

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        return features, head

    def see(self, i: int, acts: Activations) -> Activations:
        acts = super().see(i, acts)
        x = acts.features.double().relu()
        factor = ratio_of_sums(x, number_of_largest(x.shape[1], self.quantile)).square()
        return acts.replace(logits=(acts.logits * factor).float())

    def summary(self) -> str:
        return f"scales by the share above the {self.quantile:g} quantile; {self.inner.summary()}"
