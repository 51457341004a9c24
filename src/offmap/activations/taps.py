"""Layers other than the last: which to keep, and how to reduce them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.errors import ArgumentError, UnknownNameError

Reduction = Callable[[Tensor], Tensor]

REDUCTIONS: dict[str, Reduction] = {}
# Layers by rule, resolved on the first batch: the last layer of each size of feature map, the last
# feature map of all, and the last batch normalisation.
RULES = (":stages", ":last_map", ":last_norm")


def reduction(name: str) -> Callable[[Reduction], Reduction]:
    """Register a function of a layer's output, ``(n, ...)``, under a name that records can keep.

    Raises:
        ArgumentError: another function has the name.
    """

    def enter(function: Reduction) -> Reduction:
        entry = REDUCTIONS.get(name)
        if entry is not None and entry.__qualname__ != function.__qualname__:
            raise ArgumentError(f"the reduction {name!r} is {entry.__qualname__} already")
        REDUCTIONS[name] = function
        return function

    return enter


@dataclass(frozen=True)
class Tap:
    """A layer to keep, and how it is reduced inside the hook, so that nothing large is kept.

    Args:
        layer: a name as in ``network.named_modules()``, or a rule: ":stages" for the last layer of
            each size of feature map, ":last_map" for the last feature map, ":last_norm" for the
            last batch normalisation.
        reduction: a name of ``REDUCTIONS``: "mean" over space or tokens, "max", "gram",
            "moments", "norm", "whole", or one registered by :func:`reduction`.

    Raises:
        UnknownNameError: no such rule or reduction.

    >>> Tap(":stages", "max").key(1)
    ':stages|max|1'
    """

    layer: str
    reduction: str = "mean"

    def __post_init__(self) -> None:
        if self.layer.startswith(":") and self.layer not in RULES:
            raise UnknownNameError(f"no rule {self.layer!r}: there are {', '.join(RULES)}")
        if self.reduction not in REDUCTIONS:
            raise UnknownNameError(
                f"no reduction {self.reduction!r}: there are {', '.join(REDUCTIONS)}; register "
                "others by offmap.activations.reduction"
            )

    def key(self, i: int = 0) -> str:
        """The key of its i-th layer in ``layers`` of :class:`Activations`."""
        return f"{self.layer}|{self.reduction}|{i}"

    def __call__(self, output: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The reduced output of the layer."""
        return REDUCTIONS[self.reduction](output)


@reduction("whole")
def whole(output: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """The output as it is."""
    return output


@reduction("mean")
def mean(output: Float[Tensor, "n ..."]) -> Float[Tensor, "n c"]:
    """Mean over the positions of a feature map ``(n, c, h, w)``, or over tokens ``(n, t, c)``."""
    return _channels(output).mean(2)


@reduction("max")
def maximum(output: Float[Tensor, "n ..."]) -> Float[Tensor, "n c"]:
    """Maximum over the positions of a feature map ``(n, c, h, w)``, or over tokens."""
    return _channels(output).amax(2)


@reduction("moments")
def moments(output: Float[Tensor, "n ..."]) -> Float[Tensor, "n 2 c"]:
    """Mean and variance of each channel over the positions of a map, or over tokens."""
    variance, mean = torch.var_mean(_channels(output).float(), dim=2, correction=0)
    return torch.stack([mean, variance], dim=1)


@reduction("norm")
def norm(output: Float[Tensor, "n ..."]) -> Float[Tensor, "n 1"]:
    """Mean over the channels of the L2 norm of the positive part over the positions."""
    norms: Tensor = torch.linalg.vector_norm(_channels(output).float().relu(), dim=2)
    return norms.mean(1, keepdim=True)


@reduction("gram")
def gram(output: Float[Tensor, "n ..."]) -> Float[Tensor, "n p c"]:
    r"""Row sums of the Gram matrices of powers 1 to 10: :math:`\sum_k (F^p F^{p\top})_{ik}^{1/p}`.

    With the sign kept. The sum over k comes before the root, as in the published code.
    """
    x = _channels(output).float()
    # Powers of the map divided by its largest value cannot overflow: the root of the product of two
    # of them grows with the square of the map.
    size = x.abs().amax((1, 2)).clamp(min=torch.finfo(x.dtype).tiny)[:, None]
    x = x / size[:, :, None]
    power, sums = torch.ones_like(x), []
    for p in range(1, 11):
        power = power * x
        # Row sums of the product are a product with the sum of the rows: no (c, c) matrix is made.
        total = (power @ power.sum(1)[:, :, None])[:, :, 0]
        sums.append(total.sign() * total.abs() ** (1 / p) * size**2)
    return torch.stack(sums, dim=1)


def _channels(output: Float[Tensor, "n ..."]) -> Float[Tensor, "n c s"]:
    """Channels and positions of feature maps, tokens or vectors."""
    if output.ndim == 3:  # tokens come before channels
        return output.transpose(1, 2)
    return output.flatten(2) if output.ndim > 3 else output[:, :, None]
