"""Virtual-logit matching."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap._utils.warning import warn_user
from offmap.activations import Activations
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_sum_exp
from offmap.detectors.features.residual import Residual
from offmap.errors import DegenerateError, OffmapWarning
from offmap.stats import Mean, Statistic


@register("vim")
class ViM(Residual):
    r"""Virtual-logit matching: the scaled residual of the features, and the energy.

    .. math:: s(h, z) = \alpha \| R^\top (h - u) \| - \log \sum_j \exp z_j, \qquad
              \alpha = \frac{\sum_i \max_j z_{ij}}{\sum_i \| R^\top (h_i - u) \|}

    with :math:`R` and :math:`u` as in :class:`Residual`, and :math:`\alpha` over the training data.
    A constant added to all logits of a sample does not change its softmax. So where the mean
    maximum logit is not positive, and would reverse the sign of the residual, :math:`\alpha` counts
    each maximum from the sample's mean logit, and a warning says so.

    Args:
        dim: dimension of the principal space; by default as in :class:`Residual`.

    Attributes:
        alpha_: scale of the residual, ``()``.

    Raises:
        DegenerateError: in fitting, as :class:`Residual`, and if the logits of a sample are all
            equal, so that alpha would be 0.

    References:
        Wang et al., CVPR 2022, arXiv:2203.10807.
    """

    year = 2022
    needs = Needs.LOGITS | Needs.FEATURES | Needs.HEAD
    stages = (Stage(reads=Needs.FEATURES), Stage())
    alpha_: Tensor

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> Statistic:
        if stage == 0:
            return super().collect(stage, acts, labels)
        z = acts.logits.double()
        return Mean.of(torch.stack([z.amax(1), z.mean(1), self.norms(acts)], dim=1))

    def solve(self, stage: int, stats: Any) -> None:
        if stage == 0:
            super().solve(stage, stats)
        else:
            top, mean, norm = stats.mean.tolist()
            self.set_buffers(alpha_=self.origin_.new_tensor(self._mean_maximum(top, mean) / norm))

    def _mean_maximum(self, top: float, mean: float) -> float:
        """The mean maximum logit, to which the mean residual norm is scaled."""
        if top > 0:
            return top
        if not top - mean > 1e-12 * abs(top):
            raise DegenerateError(
                f"{self!r}: the logits of each training sample are all equal, {top:.3g} on "
                "average, so there is no scale for the residual (alpha): use Residual"
            )
        warn_user(
            f"{self!r}: the mean maximum logit of the training data is {top:.3g}, and not "
            "positive, as of logarithms of probabilities, or of an untrained network: alpha "
            f"counts it from the mean logit, {mean:.3g}",
            OffmapWarning,
        )
        return top - mean

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.alpha_ * self.norms(acts) - log_sum_exp(acts.logits.double())

    def summary(self) -> str:
        return f"{super().summary()}; alpha {float(self.alpha_):.4g}"
