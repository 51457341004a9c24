"""Ranked activation shift."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap.activations import Activations, Head
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.errors import DegenerateError
from offmap.stats import Mean


@register("ras")
class RAS(Shaper):
    r"""Gives every sample the same sorted features, and keeps their order.

    .. math:: h'_j = \bar h_{(r_j)}, \qquad \bar h_{(i)} = \frac1n \sum_m h_{m (i)}, \qquad
              z' = W h' + b

    with :math:`r_j` the rank of feature :math:`j` in its sample, and :math:`\bar h_{(i)}` the mean
    over the training samples of their i-th smallest feature. Equal features rank in the order in
    which they stand. There is no parameter, and features may be negative. The predicted class
    stays that of the network: the score alone is of the shaped logits.

    Args:
        inner: the detector that scores the shaped activations.

    Attributes:
        profile_: mean i-th smallest training feature, ascending, ``(d,)``.

    Raises:
        DegenerateError: in fitting, if the features of each sample are all equal, or the head
            weighs all features alike: then no order of them is another.

    References:
        Guglielmo and Masana, ECCV 2026, arXiv:2604.08572.
    """

    stages = (Stage(reads=Needs.FEATURES),)
    year = 2026
    suits = "any classifier with a linear head"
    profile_: Tensor

    def __init__(self, inner: Detector) -> None:
        super().__init__(inner)

    @classmethod
    def default(cls) -> Self:
        """RAS around the energy, as in the paper."""
        return cls(Energy())

    def collect(self, stage: int, acts: Activations, labels: Tensor | None) -> Mean:
        return Mean.of(acts.features.sort(dim=1).values)

    def solve(self, stage: int, stats: Mean) -> None:
        profile = stats.mean
        if profile[-1] - profile[0] <= 1e-12 * profile.abs().max():
            raise DegenerateError(
                f"{self!r}: the {len(profile)} feature(s) of each training sample are all equal, "
                f"{float(profile[0]):.4g} on average, and have no order: use {self.inner!r} itself"
            )
        if Needs.LOGITS in self.inner.needs and (self.weight_ == self.weight_[:, :1]).all():
            raise DegenerateError(
                f"{self!r}: the head weighs all features alike, so the shaped logits of all "
                f"samples are one: use {self.inner!r} itself"
            )
        self.set_buffers(profile_=profile.float())

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        values = self.profile_.expand_as(features)
        return torch.zeros_like(features).scatter(1, ascending(features), values), head

    def summary(self) -> str:
        low, high = float(self.profile_[0]), float(self.profile_[-1])
        return f"a profile from {low:.4g} to {high:.4g}; then {self.inner.summary()}"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * features


def ascending(features: Float[Tensor, "n d"]) -> Int64[Tensor, "n d"]:
    """Which feature is the smallest of its row, the second, and so on."""
    if torch.compiler.is_exporting():
        # Graphs have no stable sort, but theirs takes the first of equal values first.
        return features.sort(dim=1).indices
    return features.sort(dim=1, stable=True).indices
