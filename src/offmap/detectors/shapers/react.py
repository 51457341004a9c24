"""Rectified activations."""

from __future__ import annotations

from typing import Self

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Histogram, Quantile


@register("react")
class ReAct(Shaper):
    r"""Clips the features at a quantile of the training features.

    .. math:: h' = \min(h, t), \qquad z' = W h' + b

    with :math:`t` the quantile of the features of all units pooled: one number. It is exact,
    from two passes over the training features.

    Args:
        inner: the detector that scores the clipped activations.
        quantile: in (0, 1].

    Attributes:
        threshold_: where features are clipped, ``()``.

    Raises:
        DegenerateError: in fitting, if the quantile is the smallest feature, as where most are 0.

    References:
        Sun, Guo and Li, NeurIPS 2021, arXiv:2111.12797.
    """

    stages = (Stage(reads=Needs.FEATURES), Stage(reads=Needs.FEATURES))
    year = 2021
    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True
    threshold_: Tensor

    def __init__(self, inner: Detector, *, quantile: float = 0.9) -> None:
        super().__init__(inner)
        if not 0 < quantile <= 1:
            raise ArgumentError(f"quantile must lie in (0, 1]; seen {quantile}")
        self.quantile = quantile

    @classmethod
    def default(cls) -> Self:
        """ReAct around the energy, as in the paper."""
        return cls(Energy())

    def collect(self, stage: int, acts: Activations, labels: Tensor | None) -> Histogram:
        if stage == 0:
            return Histogram.coarse(acts.features)
        return Histogram.fine(acts.features, self._located().bins)

    def _located(self) -> Quantile:
        return Quantile.unpacked(self.get_buffer("located_"))

    def solve(self, stage: int, stats: Histogram) -> None:
        if stage == 0:
            self.set_buffers(located_=Quantile.locate(stats, self.quantile).packed())
            return
        quantile = self._located()
        value = quantile.value(stats)
        if quantile.is_least(stats):
            raise DegenerateError(
                f"{self!r}: that quantile is the smallest of all features, {float(value):.4g}, "
                "so clipping there leaves nothing: choose a higher one"
            )
        self.drop_buffers("located_")
        self.set_buffers(threshold_=value.float())

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        return features.minimum(self.threshold_), head

    def summary(self) -> str:
        return f"clips at {float(self.threshold_):.4g}; then {self.inner.summary()}"
