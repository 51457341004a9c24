"""How training with PixMix changes the features that scores read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.table import render
from offmap.activations import Activations
from offmap.detectors import Detector, Needs, Stage
from offmap.evaluation import Results
from offmap.stats import ClassMoments
from offmap.studies._study import sets_of

NORM = "norm"
_SIZES = (NORM, "residual", "mahalanobis")


class Norm(Detector):
    r"""Minus the norm of the features: :math:`s(h) = -\|h\|`.

    In fitting it measures over how many directions the training features spread: the effective
    rank :math:`\exp(-\sum_i p_i \log p_i)` of the eigenvalues' shares :math:`p_i` of a covariance.

    Attributes:
        total_: effective rank of the covariance of all features, ``()``.
        within_: of the covariance within classes, ``()``.
        variance_: share of the variance that lies within classes, ``()``.

    References:
        Roy and Vetterli, EUSIPCO 2007 (effective rank).
    """

    needs = Needs.FEATURES
    stages = (Stage(labels=True),)
    total_: Tensor
    within_: Tensor
    variance_: Tensor

    def collect(self, stage: int, acts: Activations, labels: Any) -> ClassMoments:
        return ClassMoments.of(acts.features.double(), labels, classes=acts.logits.shape[1])

    def solve(self, stage: int, stats: ClassMoments) -> None:
        total, within = stats.total().covariance, stats.covariance
        self.set_buffers(
            total_=effective_rank(total),
            within_=effective_rank(within),
            variance_=within.trace() / total.trace(),
        )

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        norms: Tensor = torch.linalg.vector_norm(acts.features, dim=1)
        return -norms

    def summary(self) -> str:
        return (
            f"effective rank of the training features: {float(self.total_):.1f}, within classes "
            f"{float(self.within_):.1f}; {float(self.variance_):.1%} of their variance lies there"
        )


def effective_rank(covariance: Float64[Tensor, "d d"]) -> Float64[Tensor, ""]:
    """The number of directions that would have this entropy if all had the same variance."""
    values = torch.linalg.eigvalsh(covariance).clamp(min=0)
    entropy: Tensor = torch.special.entr(values / values.sum()).sum()
    return entropy.exp()


def table(results: Mapping[str, Results]) -> str:
    """Over how many directions features spread, and how large they are on OOD sets.

    Sizes are medians, as multiples of the median on the known test samples: 1 is no difference.
    """
    if not all(NORM in of.scores for of in results.values()):
        return "== features: a network has none =="
    shared = [size for size in _SIZES if all(size in of.scores for of in results.values())]
    sets = sets_of(next(iter(results.values())))
    cells = {}
    for size in shared:
        for name, of in results.items():
            medians = {set: np.median(scores) for set, scores in of.scores[size].items()}
            cells[f"{name} {size}"] = [float(medians[set] / medians["id"]) for set in sets]
    ranks = [f"{name}: {of.summaries[NORM]}" for name, of in results.items()]
    body = render(cells, sets, star=False, corner="network, size")
    heading = "== features: median of each set over that of the known test samples =="
    return "\n\n".join([heading, "\n".join(ranks), body])
