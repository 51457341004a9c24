"""The boundaries on which a linear head gives two classes the same logit."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap.errors import DegenerateError

# Share of the sum of two squares, below which the square of a difference is rounding.
_EQUAL = 1e-10


def inverse_gaps(weight: Float[Tensor, "c d"], name: str) -> Float64[Tensor, "c c"]:
    """The inverse distances between the rows of a head, and 0 for equal rows.

    The difference of two logits times this is the distance to the boundary of their classes, which
    equal rows do not have.

    Raises:
        DegenerateError: all rows are equal, or there is one.
    """
    w = weight.double()
    w = w - w.mean(0)  # a common offset would round the differences
    squares = w.square().sum(1)
    sums = squares[:, None] + squares
    gaps = sums - 2 * w @ w.T
    equal = (gaps <= _EQUAL * sums) | torch.eye(len(w), dtype=torch.bool, device=w.device)
    if bool(equal.all()):
        raise DegenerateError(
            f"{name}: no two of the head's {len(w)} rows differ, so that no boundary lies between "
            "classes: leave this detector out"
        )
    return gaps.masked_fill(equal, 1.0).rsqrt().masked_fill(equal, 0.0)
