"""Confidences that other scores are divided or multiplied by, and that must be positive."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float64
from torch import Tensor

from offmap.detectors._softmax import log_sum_exp
from offmap.errors import DegenerateError

# By name: each is high for ID samples.
CONFIDENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "energy": log_sum_exp,
    "max_logit": lambda z: z.amax(1),
    "msp": lambda z: z.softmax(1).amax(1),
}


def confidence(logits: Float64[Tensor, "n c"], name: str = "energy") -> Float64[Tensor, " n"]:
    """The log of the sum of exponentials, the maximum logit, or the maximum probability."""
    return CONFIDENCES[name](logits)


def check_confidence(mean: float, detector: str, instead: str, name: str = "energy") -> None:
    """Refuse logits whose score is not positive on average, as of logarithms of probabilities."""
    if not mean > 0:
        formula = {"energy": "logsumexp", "max_logit": "largest"}.get(name, name)
        raise DegenerateError(
            f"{detector}: the {formula} of the logits is {mean:.3g} on average over the training "
            f"data, and the score needs it to be positive: use {instead}"
        )
