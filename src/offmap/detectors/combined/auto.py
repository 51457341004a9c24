"""The default detector: the mean of several scores of different kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap.activations import Activations, Sample
from offmap.detectors._common_scale import mean_and_deviation, softplus, standardised
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors._tolerant import Tolerant
from offmap.detectors.features.cadref import CADRef
from offmap.detectors.features.mahalanobis_pp import MahalanobisPP
from offmap.detectors.features.vim import ViM
from offmap.detectors.layers.multi_layer_mahalanobis import MultiLayerMahalanobis
from offmap.detectors.logits.energy import Energy
from offmap.detectors.shapers.ras import RAS
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Moments

_FROM = 3.0  # deviations


@register("auto")
class Auto(Tolerant):
    r"""The mean of several scores of different kinds, each on the scale of the calibration data.

    .. math:: s = \frac1k \sum_j \log\big(1 + \exp b(t_j)\big), \qquad
        t_j = \frac{s_j - \mu_j}{\sigma_j}, \qquad
        b(t) = \begin{cases} t & t \le 3 \\ 4 - \frac1{t - 2} & t > 3 \end{cases}

    with the mean and deviation of each score on *calibration* data. A score near its mean adds
    little. From three deviations on it adds ever less, and four at most: one of six scores that
    alone finds a sample strange, such as by noise that the others do not react to, is no alarm.
    By default of :class:`Energy`, :class:`CADRef`, :class:`ViM`, :class:`MahalanobisPP`,
    ``RAS(Energy())`` and :class:`MultiLayerMahalanobis`: one of the logits, three that read the
    features each in another way, one that puts them right, and one of the layers before. None
    keeps samples.

    A member is left out if it needs a head, labels, logits or feature maps where there are none, or
    cannot be solved; the summary says so. docs/auto.md tells how the members were chosen, and where
    single detectors are better.

    Args:
        members: other detectors than these; they are copied.

    Attributes:
        scale_: mean and deviation of each member's score that is used, ``(k, 2)``.

    Raises:
        NeedsError: in fitting, if none of the members can be used.
    """

    needs = Needs(0)
    stages = (Stage("calibration"),)
    parts_first = True
    scale_: Tensor

    def __init__(self, members: Sequence[Detector] | None = None) -> None:
        if members is None:
            members = _default_members()
        elif not isinstance(members, list | tuple) or not members:
            raise ArgumentError(f"Auto takes a list of detectors; seen {members!r}")
        super().__init__(list(members))

    @property
    def members(self) -> list[Detector]:
        """The members, as they were given."""
        return self.prototypes

    def __repr__(self) -> str:
        by_default = list(map(repr, self.prototypes)) == list(map(repr, _default_members()))
        return "Auto()" if by_default else super().__repr__()

    def collect(self, stage: int, acts: Any, labels: Int64[Tensor, " n"] | None) -> Moments:
        return Moments.of(self.score_columns(acts))

    def solve(self, stage: int, stats: Moments) -> None:
        if stats.constant.all():  # refused with all parts in place: other calibration data may do
            raise DegenerateError(
                f"{self!r}: each part that it can use gives all {int(stats.count)} calibration "
                "samples one score: give more calibration data, of samples that differ"
            )
        for i, constant in zip(self.used, stats.constant.tolist(), strict=True):
            if constant:
                self.leave_out(i, "it gives all calibration samples one score")
        self.set_buffers(scale_=mean_and_deviation(stats)[~stats.constant])

    def shares(self, acts: Activations | Sample) -> Float64[Tensor, "n k"]:
        """The contribution of each used member; their sum is the score."""
        terms = softplus(bounded(standardised(self.score_columns(acts), self.scale_)))
        return terms / terms.shape[1]

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        return self.shares(acts).sum(1)

    def summary(self) -> str:
        defaults = list(map(repr, _default_members()))
        members = [self.prototypes[i] for i in self.used]
        # Others with their arguments, which may have no default.
        names = ", ".join(type(m).__name__ if repr(m) in defaults else repr(m) for m in members)
        left_out = "".join(f"; without {name}: {reason}" for name, reason in self.left_out.items())
        return f"mean bounded softplus of {names}{left_out}"


def bounded(t: Float64[Tensor, "n k"], start: float = _FROM) -> Float64[Tensor, "n k"]:
    """The identity up to a start; from there it rises smoothly towards one more."""
    return torch.where(t > start, start + 1 - 1 / (t.clamp(min=start) - start + 1), t)


def _default_members() -> list[Detector]:
    return [Energy(), CADRef(), ViM(), MahalanobisPP(), RAS(Energy()), MultiLayerMahalanobis()]
