"""Generalised entropy."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import number, whole
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest


@register("gen")
class GEN(Detector):
    r"""Generalised entropy of the largest probabilities.

    .. math:: s(z) = \sum_{j \in \mathrm{top}\ M} p_j^\gamma (1 - p_j)^\gamma

    Args:
        gamma: exponent, in (0, 1).
        top: how many of the largest probabilities count; all if there are fewer classes.

    References:
        Liu, Lochman and Zach, CVPR 2023.
    """

    year = 2023

    def __init__(self, gamma: float = 0.1, *, top: int = 100) -> None:
        super().__init__()
        self.gamma = number("gamma", gamma, above=0, below=1)
        self.top = whole("top", top)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        logits = acts.logits.double()
        log_p = logits.log_softmax(1)
        if self.top < logits.shape[1]:
            log_p = log_p.topk(self.top).values
        # The largest may round to 1, so its complement comes from the others; the rest are <= 1/2.
        top = log_p.argmax(1, keepdim=True)
        log_q = (-log_p.scatter(1, top, -1.0).exp()).log1p()
        log_q = log_q.scatter(1, top, log_rest(logits)[:, None])
        return (self.gamma * (log_p + log_q)).exp().sum(1)
