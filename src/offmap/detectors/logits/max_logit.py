"""Maximum logit."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register


@register("maxlogit", aliases=("mls",))
class MaxLogit(Detector):
    r"""The negated maximum logit.

    .. math:: s(z) = -\max_j z_j

    References:
        Hendrycks et al., ICML 2022, arXiv:1911.11132.
    """

    year = 2022

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return -acts.logits.amax(1)
