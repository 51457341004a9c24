"""What a network returns: logits, or their softmax."""

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
    """Refuses probabilities where logits are expected, from the first rows of the outputs.

    Outputs of a sigmoid only raise a warning, as logits may look alike.

    Args:
        outputs: what the network is said to return.
    """

    def __init__(self, outputs: str) -> None:
        self._done = outputs != "logits"
        self._batches: list[Tensor] = []

    def look_at(self, logits: Float[Tensor, "n c"]) -> None:
        """Look at a batch, together with earlier ones while they are few rows.

        Raises:
            DataError: probabilities, or their logarithms, where logits are expected.

        Warns:
            OutputsWarning: all lie in [0, 1].
        """
        if self._done:
            return
        batches = [rows for rows in self._batches if rows.shape[1] == logits.shape[1]]
        self._batches = [*batches, logits.detach()[:_MANY]]
        rows = torch.cat(self._batches)
        if len(rows) < _FEWEST:
            return
        z = wide(rows)
        if bool((z >= 0).all()) and bool(((z.sum(1) - 1).abs() < _NEAR).all()):
            raise _no_logits("probabilities (each row is in [0, 1] and sums to 1)", "probabilities")
        if bool((z <= 0).all()) and bool((z.logsumexp(1).abs() < _NEAR).all()):
            kind = "logarithms of probabilities (the exponentials sum to 1)"
            raise _no_logits(kind, "log_probabilities")
        if len(rows) < _MANY:
            return
        if bool(((rows >= 0) & (rows <= 1)).all()):
            warn_user(
                f"all outputs of the network on its first {len(rows)} samples lie in [0, 1]: "
                "scores take a softmax of logits. If a sigmoid is its last layer, give it without",
                OutputsWarning,
            )
        self._done, self._batches = True, []


def _no_logits(kind: str, name: str) -> DataError:
    return DataError(
        f"the network returns {kind}, and not logits: scores would take a second softmax of them. "
        f"Give the network without its last softmax, or outputs={name!r}"
    )


def as_logits(outputs: Float[Tensor, "n c"], kind: str) -> Float[Tensor, "n c"]:
    """Logits whose softmax are the network's probabilities."""
    if kind != "probabilities":
        return outputs
    # A probability rounded to 0 stands for the smallest number of its type: it is not impossible.
    return outputs.clamp(min=torch.finfo(outputs.dtype).tiny).log()
