"""Several scores on a common scale, learned from calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import one_of
from offmap.activations import Activations, Sample
from offmap.detectors._composite import Composite
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.errors import DegenerateError
from offmap.stats import Bank, Moments, Statistic

How = Literal["softplus", "mean", "fisher", "mean_rank", "max", "harmonic"]
_OF_MOMENTS = ("softplus", "mean")
_BANK = 10_000  # calibration scores to keep
_TAIL = 0.9  # quantile from which an exponential tail takes over


class OnCommonScale(Composite):
    """The scores of the parts, brought to a common scale by *calibration* data, and added up.

    Args:
        parts: the scores.
        template: or a detector copied for each of them, see :class:`Composite`.
        how: a name of ``How``; :class:`offmap.Combine` says what each does.

    Attributes:
        scale_: mean and deviation of each score, ``(k, 2)``, for "softplus" and "mean"; else the
            calibration scores, each row in ascending order, ``(k, n)``.

    Raises:
        ArgumentError: there is no such ``how``.
        DegenerateError: in fitting, if a score does not vary on the calibration data.
    """

    needs = Needs(0)
    stages = (Stage("calibration"),)
    parts_first = True
    scale_: Tensor

    def __init__(
        self, parts: Sequence[Detector] = (), *, template: Detector | None = None, how: How
    ) -> None:
        one_of("how", how, get_args(How))
        super().__init__(parts, template=template)
        self.how = how

    def score_columns(self, acts: Activations | Sample) -> Float64[Tensor, "n k"]:
        scores = super().score_columns(acts)
        # Rounded as in the bank, where equal scores would else count as higher or lower.
        return scores if self.how in _OF_MOMENTS else scores.float().double()

    def collect(self, stage: int, acts: Any, labels: Int64[Tensor, " n"] | None) -> Statistic:
        scores = self.score_columns(acts)
        return Moments.of(scores) if self.how in _OF_MOMENTS else Bank.of(scores, size=_BANK)

    def solve(self, stage: int, stats: Moments | Bank) -> None:
        if isinstance(stats, Moments):
            self._check(~stats.constant)
            self.set_buffers(scale_=mean_and_deviation(stats))
            return
        ascending = stats.rows.double().T.sort().values
        self._check(ascending[:, -1] > ascending[:, 0])
        self.set_buffers(scale_=ascending.contiguous())

    def _check(self, varies: Tensor) -> None:
        for part, varying in zip(self.all_parts(), varies.tolist(), strict=True):
            if not varying:
                raise DegenerateError(
                    f"{self!r}: {part!r} gives all calibration samples one score: leave it out, or "
                    "give more calibration data"
                )

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        scores = self.score_columns(acts)
        if self.how in _OF_MOMENTS:
            t = standardised(scores, self.scale_)
            return (t if self.how == "mean" else softplus(t)).mean(1)
        if self.how == "mean_rank":
            return 1 - self._shares(scores).mean(1)
        u = self._surprisal(scores)
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

    def _surprisal(self, scores: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Minus the logarithm of the share, with an exponential tail."""
        start = torch.quantile(self.scale_, _TAIL, dim=1)
        excess = (self.scale_ - start[:, None]).relu()
        exceedances = (excess > 0).sum(1)
        count = exceedances.clamp(min=1)
        # Where the highest tenth is one score, no score above it gives the scale of a tail.
        spread = start - self.scale_.mean(1)
        mean = torch.where(exceedances > 0, excess.sum(1) / count, spread)
        mean = mean.clamp(min=torch.finfo(torch.float64).tiny)
        share = count / (self.scale_.shape[1] + 1)
        tail = (scores - start) / mean - share.log()
        return torch.where(scores > start, tail, -self._shares(scores).log())


def mean_and_deviation(stats: Moments) -> Float64[Tensor, "k 2"]:
    """The scale of each score."""
    return torch.stack([stats.mean, stats.covariance.diagonal().sqrt()], dim=1)


def standardised(
    scores: Float64[Tensor, "n k"], scale: Float64[Tensor, "k 2"]
) -> Float64[Tensor, "n k"]:
    """Each score minus its mean, divided by its deviation."""
    return (scores - scale[:, 0]) / scale[:, 1]


def softplus(t: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
    """``log(1 + exp t)``, by operators that ONNX Runtime has in float64."""
    return t.relu() + (-t.abs()).exp().log1p()
