"""Free energy of the logits."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import positive
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_sum_exp


@register("energy", aliases=("ebo",))
class Energy(Detector):
    r"""Free energy of the logits.

    .. math:: s(z) = -T \log \sum_j \exp(z_j / T)

    Args:
        temperature: divides the logits; positive.

    References:
        Liu et al., NeurIPS 2020, arXiv:2010.03759.
    """

    year = 2020

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return -self.temperature * log_sum_exp(acts.logits.double() / self.temperature)
