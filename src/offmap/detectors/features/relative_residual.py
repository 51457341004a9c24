"""Share of the features that lies outside the principal space."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._registry import register
from offmap.detectors.features.residual import Residual


@register("relativeresidual", aliases=("nre",))
class RelativeResidual(Residual):
    r"""Share of the features' norm that is orthogonal to the principal space.

    .. math:: s(h) = \frac{\| R^\top (h - u) \|}{\| h - u \|}

    with :math:`R` and :math:`u` as in :class:`Residual`. It lies in [0, 1], and is far better than
    the residual itself where the norms of known and unknown samples differ. A sample at :math:`u`
    has no direction, and scores 1.

    Args:
        dim: dimension of the principal space; by default as in :class:`Residual`.

    Raises:
        ArgumentError: in fitting, if ``dim`` leaves no residual.
        DegenerateError: in fitting, as :class:`Residual`.

    References:
        Guan et al., ICCV 2023, whose published code divides by the norm of the features; origin
        and dimension are those of Wang et al., CVPR 2022, arXiv:2203.10807.
    """

    year = 2023

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        size: Tensor = torch.linalg.vector_norm(acts.features - self.origin_, dim=1)
        share = self.norms(acts) / size.clamp(min=torch.finfo(size.dtype).tiny)
        return torch.where(size > 0, share, 1.0)
