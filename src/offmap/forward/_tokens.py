"""Heads that are applied to every token, where the logits are those of one: which token it was.

Language models classify by the last token of each text that is no padding. A mean over all tokens
would depend on how far a batch is padded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from offmap._utils.precision import without_autocast
from offmap.activations import Head


def all_tokens(x: Tensor) -> Tensor:
    """The vectors of each sample, in one row: ``(n, t, d)`` of ``(n, ..., d)``."""
    return x.flatten(1, -2)


def with_mean(x: Tensor) -> Tensor:
    """The mean of each sample's vectors, and these: ``(n, 1 + t, d)``."""
    if x.ndim < 3:
        return x.reshape(-1, 1, x.shape[-1])
    x = all_tokens(x)
    return torch.cat([x.mean(1, keepdim=True), x], dim=1)


def token_inputs(x: Tensor, head: Head, logits: Tensor) -> Tensor:
    """Of several vectors a sample, the one from which a head computes the logits: ``(n, d)``."""
    if torch.compiler.is_exporting():  # a graph has no gradients, and its own types
        places = _places(x, head, logits)
    else:
        with torch.no_grad(), without_autocast(x.device):
            places = _places(x, head, logits)
    return x.gather(1, places[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1)


def _places(x: Tensor, head: Head, logits: Tensor) -> Tensor:
    return (head(x.float()) - logits.unsqueeze(1)).abs().sum(2).argmin(1)
