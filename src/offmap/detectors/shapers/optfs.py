"""Feature shaping that is optimal for the training data."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from offmap.activations import Activations, Head
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.logits.max_logit import MaxLogit
from offmap.errors import DegenerateError
from offmap.stats import Histogram, Mean, Product, Quantile, Statistic

# Both as in the published code: features outside of these quantiles become 0.
_QUANTILES = (1e-3, 1 - 1e-3)
_BINS = 100


@register("optfs")
class OptFS(Shaper):
    r"""Multiplies each feature by the contribution of its size to the predicted logit in training.

    .. math:: h'_j = \theta_{b(h_j)} h_j, \qquad \theta = 1000\, v / \|v\|, \qquad
              v_i = \mathbb E \sum_j w_{\hat y j} h_j\, 1(b(h_j) = i)

    with :math:`b(h_j)` the bin of a feature, among 100 equal ones between the 0.001 and 0.999
    quantiles of the training features of all units pooled, :math:`\hat y` the predicted class, and
    :math:`z' = W h' + b`. Outside of the bins features become 0. Fitting takes three passes over
    the training features.

    Args:
        inner: the detector that scores the shaped activations.

    Attributes:
        start_: where the first bin begins, ``()``, float64.
        width_: of a bin, ``()``, float64.
        theta_: factor of each bin, ``(100,)``.

    Raises:
        DegenerateError: in fitting, if the two quantiles are one, or nothing contributes.

    References:
        Zhao et al., ICLR 2024, arXiv:2402.00865; the published code sums the shaped logit of the
        class predicted before, without its bias, as "the maximum logit score".
    """

    stages = (Stage(reads=Needs.FEATURES),) * 3
    year = 2024
    suits = "any classifier with a linear head"
    start_: Tensor
    width_: Tensor
    theta_: Tensor

    def __init__(self, inner: Detector) -> None:
        super().__init__(inner)

    @classmethod
    def default(cls) -> Self:
        """OptFS around the maximum logit, as in the paper."""
        return cls(MaxLogit())

    def collect(self, stage: int, acts: Activations, labels: Tensor | None) -> Statistic:
        if stage == 0:
            return Histogram.coarse(acts.features)
        if stage == 1:
            return Product(tuple(Histogram.fine(acts.features, q.bins) for q in self._located()))
        return Mean.of(self._contributions(acts.features.double()))

    def _located(self) -> tuple[Quantile, ...]:
        return tuple(map(Quantile.unpacked, self.get_buffer("located_")))

    def _contributions(self, x: Float64[Tensor, "n d"]) -> Float64[Tensor, "n b"]:
        """The contributions of the features in each bin to the predicted logit."""
        weight, bias = self.weight_.double(), self.bias_.double()
        terms = weight[F.linear(x, weight, bias).argmax(1)] * x
        # One more bin at either end takes the features outside.
        sums = x.new_zeros(len(x), _BINS + 2).scatter_add(1, self._bins(x) + 1, terms)
        return sums[:, 1:-1]

    def _bins(self, x: Float64[Tensor, "n d"]) -> Int64[Tensor, "n d"]:
        """The bin of each feature; -1 below all of them, and one beyond the last above."""
        return ((x - self.start_) / self.width_).floor().clamp(-1, _BINS).long()

    def solve(self, stage: int, stats: Any) -> None:
        if stage == 0:
            located = [Quantile.locate(stats, q).packed() for q in _QUANTILES]
            self.set_buffers(located_=torch.stack(located))
        elif stage == 1:
            pairs = zip(self._located(), stats.parts, strict=True)
            self._set_bins(*(quantile.value(fine) for quantile, fine in pairs))
        else:
            self._set_theta(stats.mean)

    def _set_bins(self, start: Float64[Tensor, ""], end: Float64[Tensor, ""]) -> None:
        if not end > start:
            raise DegenerateError(
                f"{self!r}: the 0.001 and 0.999 quantiles of all features are both "
                f"{float(start):.4g}, so there are no bins between them: use {self.inner!r} itself"
            )
        self.drop_buffers("located_")
        self.set_buffers(start_=start, width_=(end - start) / _BINS)

    def _set_theta(self, v: Float64[Tensor, " b"]) -> None:
        if not v.any():
            raise DegenerateError(
                f"{self!r}: no feature contributes to the logit of the class that it is "
                "predicted as, so that no weight is left: does the head read these features?"
            )
        self.set_buffers(theta_=1000 * v / v.norm())

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        x = features.double()
        theta = F.pad(self.theta_, (1, 1))
        return (theta[self._bins(x) + 1] * x).float(), head

    def summary(self) -> str:
        start, end = float(self.start_), float(self.start_ + _BINS * self.width_)
        return f"100 factors for features from {start:.4g} to {end:.4g}; {self.inner.summary()}"
