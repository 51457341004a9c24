"""Variational rectified activations."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import number, share
from offmap.activations import Activations, Head
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.errors import DegenerateError
from offmap.stats import ColumnHistogram, ColumnQuantiles


@register("vra")
class VRA(Shaper):
    r"""Makes low features 0 and clips high ones, at quantiles of each feature of its own.

    .. math:: h'_j = 0 \text{ if } h_j < a_j, \text{ else } \min(h_j, b_j), \qquad z' = W h' + b

    with :math:`a_j` and :math:`b_j` two quantiles of feature :math:`j` over the training samples.
    They are exact, from four passes over the training features. It suits convolutional networks
    whose features come from a ReLU. pytorch-ood 0.4.0 lifts low features to :math:`a_j` in the
    place of making them 0.

    Args:
        inner: the detector that scores the rectified activations.
        low: the lower quantile, in [0, 1).
        high: the upper one, above ``low`` and at most 1.

    Attributes:
        low_: the lower quantile of each feature, ``(d,)``, float64.
        high_: the upper one, ``(d,)``, float64.

    Raises:
        DegenerateError: in fitting, if the upper quantile of every feature is 0.

    References:
        Xu et al., NeurIPS 2023, arXiv:2302.11716; the quantiles are those of the published code's
        ``readme.md`` for CIFAR.
    """

    stages = (Stage(reads=Needs.FEATURES),) * ColumnQuantiles.passes
    year = 2023
    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True
    low_: Tensor
    high_: Tensor

    def __init__(self, inner: Detector, *, low: float = 0.6, high: float = 0.95) -> None:
        super().__init__(inner)
        self.low = share("low", low)
        self.high = number("high", high, above=self.low, most=1)

    @classmethod
    def default(cls) -> Self:
        """VRA around the energy, as in the paper."""
        return cls(Energy())

    def _located(self) -> ColumnQuantiles:
        return ColumnQuantiles.unpacked(self.get_buffer("located_"))

    def collect(self, stage: int, acts: Activations, labels: Tensor | None) -> ColumnHistogram:
        prefixes = self._located().prefixes if stage else None
        return ColumnHistogram.of(acts.features, prefixes, stage)

    def solve(self, stage: int, stats: ColumnHistogram) -> None:
        if stage == 0:
            located = ColumnQuantiles.locate(stats, (self.low, self.high))
        else:
            located = self._located().narrowed(stats)
        if stage < len(self.stages) - 1:
            self.set_buffers(located_=located.packed())
            return
        low, high = located.values()
        if not high.any():
            raise DegenerateError(
                f"{self!r}: that quantile is 0 for each of the {len(high)} features, so that "
                "clipping there leaves nothing: choose a higher one"
            )
        self.drop_buffers("located_")
        self.set_buffers(low_=low, high_=high)

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        x = features.double()
        shaped = torch.where(x < self.low_, 0.0, x.minimum(self.high_))
        return shaped.float(), head

    def summary(self) -> str:
        return (
            f"keeps each feature between its quantiles {self.low:g} and {self.high:g}, on average "
            f"{float(self.low_.mean()):.4g} and {float(self.high_.mean()):.4g}; then "
            f"{self.inner.summary()}"
        )

    def footprint(self, classes: int, features: int) -> int:
        return 4 * 256 * 8 * features  # four order statistics of each are looked for
