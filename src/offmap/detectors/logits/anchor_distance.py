"""Distance to class anchors."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest


@register("anchordistance", aliases=("cac",))
class AnchorDistance(Detector):
    r"""Distance to the nearest class anchor, times the share of the softmin that is not its own.

    .. math:: s(d) = \min_j d_j (1 - \mathrm{softmin}(d)_j), \qquad d = -z

    For networks whose logits are minus distances, such as :class:`offmap.networks.AnchorHead`. A
    larger distance has the smaller softmin, so the smallest product is that of the nearest anchor;
    its share is one minus the largest probability, summed from the others.

    References:
        Miller et al., WACV 2021, arXiv:2004.02434.
    """

    year = 2021
    suits = "networks trained with class anchors"
    needs = Needs.LOGITS | Needs.DISTANCES

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        logits = acts.logits.double()
        return -logits.amax(1) * log_rest(logits).exp()
