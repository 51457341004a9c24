"""Several scores as one, on a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap.activations import Activations, Sample
from offmap.detectors._composite import Composite
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.features.mahalanobis import Mahalanobis
from offmap.detectors.logits.energy import Energy
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Bank, Moments, Statistic

How = Literal["softplus", "fisher", "mean_rank", "max", "harmonic"]
_BANK = 10_000  # calibration scores to keep
_TAIL = 0.9  # quantile from which an exponential tail takes over


@register("combine")
class Combine(Composite):
    r"""Several scores, brought to a common scale by *calibration* data, and added up.

    * ``softplus``: mean of :math:`\log(1 + \exp((s_j - \mu_j) / \sigma_j))`, with the mean and
      deviation of each score. It rests on two moments a score, and never ties.
    * ``fisher``: sum of :math:`u_j = -\log p_j`, with :math:`p_j` the share of calibration scores
      that are as large. Beyond the 90 % quantile an exponential tail with their mean excess takes
      over: a share cannot fall below :math:`1 / (n + 1)`, and far OOD would tie.
    * ``max``: :math:`\max_j u_j`. ``harmonic``: :math:`\log \tfrac1k \sum_j \exp u_j`, minus the
      logarithm of the harmonic mean of the :math:`p_j`.
    * ``mean_rank``: mean of :math:`1 - p_j`, without the tail.

    None of them is a p-value: a guard calibrates the combined score once more, on other samples.

    Args:
        detectors: two or more, or their names; they are copied.
        how: one of these.

    Attributes:
        scale_: mean and deviation of each score, ``(k, 2)``, for ``softplus``; else the calibration
            scores, each row in ascending order, ``(k, n)``.

    Raises:
        DegenerateError: in fitting, if a score does not vary on the calibration data.
    """

    needs = Needs(0)
    stages = (Stage("calibration"),)
    parts_first = True
    scale_: Tensor

    def __init__(self, detectors: Sequence[Detector], how: How = "softplus") -> None:
        if how not in get_args(How):
            raise ArgumentError(f"how must be one of {', '.join(get_args(How))}; seen {how!r}")
        if isinstance(detectors, Detector | str) or len(detectors) < 2:
            raise ArgumentError(
                f"Combine takes a list of two detectors or more; seen {detectors!r}"
            )
        super().__init__(list(detectors))
        self.how = how

    @classmethod
    def default(cls) -> Self:
        """The energy and a Mahalanobis distance: one of the logits and one of the features."""
        return cls([Energy(), Mahalanobis()])

    @property
    def detectors(self) -> list[Detector]:
        """The parts."""
        return list(self.all_parts())

    def _scores(self, acts: Activations | Sample) -> Float64[Tensor, "n k"]:
        return torch.stack([scores.double() for scores in self.part_scores(acts)], dim=1)

    def collect(self, stage: int, acts: Any, labels: Int64[Tensor, " n"] | None) -> Statistic:
        scores = self._scores(acts)
        return Moments.of(scores) if self.how == "softplus" else Bank.of(scores, size=_BANK)

    def solve(self, stage: int, stats: Moments | Bank) -> None:
        if isinstance(stats, Moments):
            self._check(~stats.constant)
            self.set_buffers(scale_=mean_and_deviation(stats))
            return
        ascending = stats.rows.double().T.sort().values
        self._check(ascending[:, -1] > ascending[:, 0])
        self.set_buffers(scale_=ascending.contiguous())

    def _check(self, varies: Tensor) -> None:
        for part, good in zip(self.all_parts(), varies.tolist(), strict=True):
            if not good:
                raise DegenerateError(
                    f"{self!r}: {part!r} gives all calibration samples one score: leave it out, or "
                    "give more calibration data"
                )

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        scores = self._scores(acts)
        if self.how == "softplus":
            return softplus(scores, self.scale_).mean(1)
        if self.how == "mean_rank":
            return 1 - self._shares(scores).mean(1)
        u = self._surprise(scores)
        if self.how == "harmonic":
            return u.logsumexp(1) - torch.log(u.new_tensor(float(u.shape[1])))
        return u.sum(1) if self.how == "fisher" else u.amax(1)

    def _shares(self, scores: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """``(1 + #{s_i >= s}) / (n + 1)`` of each score."""
        if torch.compiler.is_exporting():
            above = (self.scale_ >= scores[:, :, None]).sum(2)
        else:
            below = torch.searchsorted(self.scale_, scores.T.contiguous())
            above = (self.scale_.shape[1] - below).T
        return (1 + above).double() / (self.scale_.shape[1] + 1)

    def _surprise(self, scores: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Minus the logarithm of the share, with the tail."""
        start = torch.quantile(self.scale_, _TAIL, dim=1)
        excess = (self.scale_ - start[:, None]).relu()
        beyond = (excess > 0).sum(1).clamp(min=1)
        mean = (excess.sum(1) / beyond).clamp(min=torch.finfo(torch.float64).tiny)
        share = beyond / (self.scale_.shape[1] + 1)
        tail = (scores - start) / mean - share.log()
        return torch.where(scores > start, tail, -self._shares(scores).log())

    def summary(self) -> str:
        names = ", ".join(type(part).__name__ for part in self.all_parts())
        return f"{self.how} of {names}"


def mean_and_deviation(stats: Moments) -> Float64[Tensor, "k 2"]:
    """The scale of each score."""
    return torch.stack([stats.mean, stats.covariance.diagonal().sqrt()], dim=1)


def softplus(
    scores: Float64[Tensor, "n k"], scale: Float64[Tensor, "k 2"]
) -> Float64[Tensor, "n k"]:
    """Softplus of each standardised score, in terms that ONNX Runtime has in float64."""
    t = (scores - scale[:, 0]) / scale[:, 1]
    return t.relu() + (-t.abs()).exp().log1p()
