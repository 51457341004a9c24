"""Gradients of scores with respect to the inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Sample
from offmap.errors import NeedsError


@torch.inference_mode(False)  # a caller may be in inference mode, which has no gradients
@torch.enable_grad()
def gradient(
    sample: Sample, score: Callable[[Sample], Float[Tensor, " n"]], purpose: str
) -> Float[Tensor, "n ..."]:
    """The gradient of each sample's score with respect to its inputs.

    Args:
        sample: the inputs, and the way to run them.
        score: of a batch.
        purpose: what moves inputs along which gradient, for error messages.

    Raises:
        NeedsError: the score does not depend on the inputs in a way that has one.
    """
    if not sample.inputs.is_floating_point():
        kind = str(sample.inputs.dtype).removeprefix("torch.")
        raise NeedsError(f"{purpose}, and inputs of {kind}, such as tokens, have none: use another")
    x = sample.inputs.detach().clone().requires_grad_()
    scores = score(replace(sample, acts=sample.run(x), inputs=x))
    if not scores.requires_grad:
        raise NeedsError(f"{purpose}, which has none")
    gradients: Tensor = torch.autograd.grad(scores.sum(), x)[0]
    return gradients
