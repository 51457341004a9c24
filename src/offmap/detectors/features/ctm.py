"""Cosine to the nearest class mean."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import flag
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._directions import check_directions, directions
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.errors import DegenerateError
from offmap.stats import ClassMeans

# A mean that is shorter than this share of the longest one is rounding, and has no direction.
_ROUNDING = 1e-12


@register("ctm")
class CTM(Detector):
    r"""Minus the largest cosine of the features with a class mean.

    .. math:: s(h) = -\max_c \cos(h, \mu_c), \qquad
              s_{\mathrm{centred}}(h) = -\max_c \cos(h - m, \mu_c - m)

    with :math:`\mu_c` the mean training features of class :math:`c`, and :math:`m` that of all.
    Features that come from a ReLU lie in one corner, where all cosines are large; centred ones
    spread. Features of norm 0 have the cosine 0; classes without samples, or whose mean has no
    direction, are left out.

    Args:
        centred: subtract the mean of all training features first.

    Attributes:
        origin_: :math:`m`, or 0, ``(d,)``.
        means_: class means about the origin, of norm 1, ``(k, d)``.

    Raises:
        DegenerateError: in fitting, if no class mean has a direction: that of a single class, say,
            about the mean of all.
        ShapeError: in fitting, of a single feature.

    References:
        Ngoc-Hieu, Hung-Quang, Ta, Nguyen-Tang, Doan and Thanh-Tung, 2023, arXiv:2306.14920,
        "class typical matching".
    """

    needs = Needs.FEATURES
    stages = (Stage(labels=True),)
    year = 2023
    origin_: Tensor
    means_: Tensor

    def __init__(self, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = flag("centred", centred)

    def collect(self, stage: int, acts: Activations, labels: Any) -> ClassMeans:
        classes = acts.logits.shape[1] if acts.has_logits else None
        return ClassMeans.of(acts.features, labels, classes=classes)

    def solve(self, stage: int, stats: ClassMeans) -> None:
        check_directions(stats.mean.shape[1], repr(self))
        means = stats.mean[stats.count > 0]
        total = (stats.count @ stats.mean) / stats.count.sum()
        origin = total if self.centred else torch.zeros_like(total)
        longest = means.norm(dim=1).amax()
        directed = (means - origin).norm(dim=1) > _ROUNDING * longest
        if not directed.any():
            raise DegenerateError(
                f"{self!r}: the means of {len(means)} class(es) of {int(stats.count.sum())} "
                "training samples lie at the origin, and have no direction: "
                + ("fit on samples of several classes" if longest > 0 else "give other features")
            )
        self.set_buffers(origin_=origin, means_=directions(means[directed] - origin))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = directions(acts.features.double() - self.origin_)
        return -(x @ self.means_.T).amax(1)

    def summary(self) -> str:
        about = " about the mean of all" if self.centred else ""
        return f"directions of {len(self.means_)} class means{about}"

    def footprint(self, classes: int, features: int) -> int:
        return 8 * classes * features
