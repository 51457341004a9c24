"""Virtual-logit matching."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.features.residual import Residual
from offmap.errors import DegenerateError
from offmap.stats import Mean, Statistic


@register("vim")
class ViM(Residual):
    r"""Virtual-logit matching: the scaled residual of the features, and the energy.

    .. math:: s(h, z) = \alpha \| R^\top (h - u) \| - \log \sum_j \exp z_j, \qquad
              \alpha = \frac{\sum_i \max_j z_{ij}}{\sum_i \| R^\top (h_i - u) \|}

    with :math:`R` and :math:`u` as in :class:`Residual`, and :math:`\alpha` over the training data.

    Args:
        dim: dimension of the principal space; by default as in :class:`Residual`.

    Attributes:
        alpha_: scale of the residual, ``()``.

    Raises:
        DegenerateError: in fitting, if alpha is not a positive finite number.

    References:
        Wang et al., CVPR 2022, arXiv:2203.10807.
    """

    needs = Needs.LOGITS | Needs.FEATURES | Needs.HEAD
    stages = (Stage(reads=Needs.FEATURES), Stage())
    alpha_: Tensor

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> Statistic:
        if stage == 0:
            return super().collect(stage, acts, labels)
        return Mean.of(torch.stack([acts.logits.amax(1).double(), self.norms(acts)], dim=1))

    def solve(self, stage: int, stats: Any) -> None:
        if stage == 0:
            super().solve(stage, stats)
        else:
            self._scale(*stats.mean.tolist())

    def _scale(self, max_logit: float, norm: float) -> None:
        scale = self.origin_.norm() + 1.0
        if not max_logit > 0 or norm <= 1e-12 * float(scale):
            raise DegenerateError(
                f"{self!r}: alpha is the mean maximum logit, {max_logit:.3g}, divided by the mean "
                f"residual norm, {norm:.3g}, and must be positive and finite: use Residual, or "
                "another dim"
            )
        self.set_buffers(alpha_=self.origin_.new_tensor(max_logit / norm))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.alpha_ * self.norms(acts) - acts.logits.double().logsumexp(1)

    def summary(self) -> str:
        return f"{super().summary()}; alpha {float(self.alpha_):.4g}"
