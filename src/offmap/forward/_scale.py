"""What a network returns: logits, or what a softmax has made of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.precision import wide
from offmap._utils.warning import warn_user
from offmap.errors import DataError, OutputsWarning

OUTPUTS = ("logits", "probabilities", "log_probabilities", "features")
# How far sums may be from 1, in bf16 too.
_NEAR = 1e-2
_FEWEST = 4  # rows that show a softmax
_MANY = 32  # rows that would not all lie in [0, 1] by chance


class ScaleCheck:
    """Refuses outputs whose first rows are surely not what they are said to be.

    Those that only look so, as a sigmoid would leave them, are told of.

    Args:
        outputs: what they are said to be.
    """

    def __init__(self, outputs: str) -> None:
        self._done = outputs != "logits"
        self._first: list[Tensor] = []

    def look_at(self, logits: Float[Tensor, "n c"]) -> None:
        """Those of a batch, which may be too small to tell anything by itself.

        Raises:
            DataError: probabilities, or their logarithms, where logits are expected.

        Warns:
            OutputsWarning: all lie in [0, 1].
        """
        if self._done:
            return
        before = [rows for rows in self._first if rows.shape[1] == logits.shape[1]]
        self._first = [*before, logits.detach()[:_MANY]]
        first = torch.cat(self._first)
        if len(first) >= _FEWEST:
            _check(first)
        if len(first) >= _MANY:
            _tell(first)
            self._done, self._first = True, []


def _check(logits: Float[Tensor, "n c"]) -> None:
    z = wide(logits)
    if bool((z >= 0).all()) and bool(((z.sum(1) - 1).abs() < _NEAR).all()):
        _refuse("probabilities (each row is in [0, 1] and sums to 1)", "probabilities")
    if bool((z <= 0).all()) and bool((z.logsumexp(1).abs() < _NEAR).all()):
        _refuse("logarithms of probabilities (the exponentials sum to 1)", "log_probabilities")


def _tell(logits: Float[Tensor, "n c"]) -> None:
    if bool(((logits >= 0) & (logits <= 1)).all()):
        warn_user(
            f"all outputs of the network on its first {len(logits)} samples lie in [0, 1]: scores "
            "take a softmax of logits. If a sigmoid is its last layer, give it without",
            OutputsWarning,
        )


def _refuse(what: str, name: str) -> None:
    raise DataError(
        f"the network returns {what}, and not logits: scores would take a second softmax of them. "
        f"Give the network without its last softmax, or outputs={name!r}"
    )


def as_logits(outputs: Float[Tensor, "n c"], kind: str) -> Float[Tensor, "n c"]:
    """Logits of which the softmax is what the network means."""
    if kind != "probabilities":
        return outputs
    # A probability that was rounded to 0 is as small as its type can say, and not impossible.
    return outputs.clamp(min=torch.finfo(outputs.dtype).tiny).log()
