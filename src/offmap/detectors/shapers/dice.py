"""Directed sparsification."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.arguments import share
from offmap.activations import Activations, Head
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.errors import DegenerateError
from offmap.stats import Mean


@register("dice")
class DICE(Shaper):
    r"""Keeps the weights of the head that contribute most to the logits of the training data.

    .. math:: z' = (W \odot M) h + b, \qquad M = 1(W \odot \bar h^\top > t)

    with :math:`\bar h` the mean training features, and :math:`t` the quantile of the contributions
    :math:`W_{kj} \bar h_j` of all weights. It changes the head only, so around a detector that
    reads neither logits nor head it changes nothing: ``DICE(KNN())`` is KNN. It suits convolutional
    networks whose features come from a ReLU.

    Args:
        inner: the detector that scores the sparse head's logits.
        quantile: the share of the weights that is left out, in [0, 1).

    Attributes:
        kept_: which weights are kept, ``(c, d)``.

    Raises:
        DegenerateError: in fitting, if no weight contributes more than the quantile.

    References:
        Sun and Li, ECCV 2022, arXiv:2111.09805; 0.9 in the published ``demo-cifar.sh``.
    """

    stages = (Stage(reads=Needs.FEATURES),)
    year = 2022
    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True
    kept_: Tensor

    def __init__(self, inner: Detector, *, quantile: float = 0.9) -> None:
        super().__init__(inner)
        self.quantile = share("quantile", quantile)

    @classmethod
    def default(cls) -> Self:
        """DICE around the energy, as in the paper."""
        return cls(Energy())

    def collect(self, stage: int, acts: Activations, labels: Tensor | None) -> Mean:
        return Mean.of(acts.features)

    def solve(self, stage: int, stats: Mean) -> None:
        contributions = self.weight_.to(stats.mean) * stats.mean
        threshold = quantile_of(contributions, self.quantile)
        mask = contributions > threshold
        if not mask.any():
            raise DegenerateError(
                f"{self!r}: none of the {mask.numel()} weights contributes more than the quantile, "
                f"{float(threshold):.4g}, so that no weight is left: are all features 0? Else "
                "choose a lower one"
            )
        self.set_buffers(kept_=mask)

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        return features, Head(head.weight * self.kept_, head.bias)

    def summary(self) -> str:
        count = int(self.kept_.sum())
        return f"{count} of {self.kept_.numel()} weights kept; then {self.inner.summary()}"

    def footprint(self, classes: int, features: int) -> int:
        return 3 * 8 * classes * features  # the contributions, and their order


def quantile_of(x: Float64[Tensor, ...], q: float) -> Float64[Tensor, ""]:
    """The quantile of any number of values, as NumPy's ``linear``: torch's takes 16 million."""
    ordered = x.flatten().sort().values
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low)
