"""Gap between the largest logit and the others."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import whole
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes


@register("logitgap")
class LogitGap(Detector):
    r"""Minus the gap between the largest logit and the mean of those that follow it.

    .. math:: s(z) = -\Big(z_{(1)} - \frac1{N-1} \sum_{j=2}^{N} z_{(j)}\Big)

    with :math:`z_{(j)}` the j-th largest logit.

    Args:
        top: :math:`N`, how many of the largest logits count; by default all of them.

    References:
        Liang, Hou, Hu, Chang, Shan and Chen, NeurIPS 2025, arXiv:2510.20134.
    """

    year = 2025

    def __init__(self, top: int | None = None) -> None:
        super().__init__()
        self.top = None if top is None else whole("top", top, low=2)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        check_classes(acts.logits)
        classes = acts.logits.shape[1]
        top = classes if self.top is None else min(self.top, classes)
        largest = acts.logits.double().topk(top, dim=1).values
        return largest[:, 1:].mean(1) - largest[:, 0]
