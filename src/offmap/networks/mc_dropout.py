"""MC dropout: one network as an ensemble of its sampled sub-networks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from offmap._utils.arguments import whole
from offmap._utils.draws import uniform
from offmap.errors import ArgumentError, ShapeError
from offmap.networks.ensemble import Ensemble

# Number of leading axes of a sample along which the mask differs; None: all of them.
_AXES: dict[type[nn.Module], int | None] = {
    nn.Dropout: None,
    nn.Dropout1d: 1,
    nn.Dropout2d: 1,
    nn.Dropout3d: 1,
}
_UNSUPPORTED = (nn.AlphaDropout, nn.FeatureAlphaDropout)


class FixedDropout(nn.Module):
    r"""Dropout whose mask is drawn once, and is the same for every sample and in every mode.

    .. math:: y = \frac{b}{1 - p} x, \qquad b \sim \mathrm{Bernoulli}(1 - p)

    Args:
        p: share of the values dropped, in [0, 1).
        draw: seed, member and layer: from these the mask is drawn, at the first input.
        axes: leading axes of a sample along which the mask differs; by default all.

    Attributes:
        draw: saved with the weights, because it determines the network, ``(3,)``.
        mask: 0 or ``1 / (1 - p)``, of the shape of one sample; ``None`` before the first input.
    """

    draw: Tensor
    mask: Tensor | None

    def __init__(self, p: float, draw: tuple[int, int, int], *, axes: int | None = None) -> None:
        super().__init__()
        self.p = p
        self.axes = axes
        self.register_buffer("draw", torch.tensor(draw))
        self.register_buffer("mask", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The input with the dropped values at 0, and the others scaled."""
        axes = x.ndim - 1 if self.axes is None else self.axes
        shape = (*x.shape[1 : 1 + axes], *[1] * (x.ndim - 1 - axes))
        if self.mask is None:
            # A mask made in inference mode could not be used with gradients afterwards.
            with torch.inference_mode(False):
                self.mask = self._random_mask(shape).to(x.device)
        if self.mask.shape != shape:
            raise ShapeError(
                f"this dropout has a mask of shape {tuple(self.mask.shape)}, and its input asks "
                f"for {shape}: give images of one size, and each place a dropout of its own"
            )
        return x * self.mask.to(x.dtype)

    def _random_mask(self, shape: tuple[int, ...]) -> Tensor:
        seed, member, layer = self.draw.tolist()
        state = seed
        for number in (member, layer):
            state = (state * 1_000_003 + number + 1) % (1 << 63)
        mask = uniform(*shape, generator=torch.Generator().manual_seed(state)) >= self.p
        return mask.float() / (1 - self.p)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.mask = None  # the draw may be another now

    def extra_repr(self) -> str:
        """The rate, and the numbers that the mask is drawn from."""
        return f"p={self.p}, draw={tuple(self.draw.tolist())}"


def mc_dropout(network: nn.Module, samples: int = 10, seed: int = 0) -> Ensemble:
    """The network as an ensemble of sub-networks, each with its own values dropped for good.

    Each member is the network with a fixed mask in the place of every dropout layer, so that its
    prediction for a sample does not depend on the batch. Members share the network's parameters and
    buffers; the network itself is not changed.

    Args:
        network: a classifier with dropout layers (``nn.Dropout``, or ``nn.Dropout1d`` to ``3d``,
            which drop channels); calls of ``torch.nn.functional.dropout`` are not seen.
        samples: how many members.
        seed: of the masks.

    Raises:
        ArgumentError: there is no dropout layer that drops anything, or one of another kind.

    References:
        Gal and Ghahramani, ICML 2016, arXiv:1506.02142.
    """
    whole("samples", samples)
    for name, layer in network.named_modules():
        if isinstance(layer, _UNSUPPORTED):
            raise ArgumentError(
                f"{name or 'the network'} is {layer}, which is no plain dropout: use nn.Dropout, "
                "or nn.Dropout1d to 3d"
            )
        if _rate(layer) >= 1:
            raise ArgumentError(f"{name or 'the network'} drops everything: its p must be below 1")
    if not any(_rate(layer) for layer in network.modules()):
        raise ArgumentError(
            f"{type(network).__name__} has no dropout layer that drops anything, so all samples of "
            "it would be one network: give one with nn.Dropout modules and p above 0; calls of "
            "torch.nn.functional.dropout are not seen"
        )
    shared = {id(x): x for x in (*network.parameters(), *network.buffers())}
    copies = (copy.deepcopy(network, dict(shared)) for _ in range(samples))
    return Ensemble([_with_fixed_masks(twin, seed, i) for i, twin in enumerate(copies)])


def _rate(layer: nn.Module) -> float:
    """The share that a layer drops."""
    return float(layer.p) if type(layer) in _AXES else 0.0  # type: ignore[arg-type]


def _with_fixed_masks(network: nn.Module, seed: int, member: int) -> nn.Module:
    """The network with every dropout layer replaced."""
    layers = [m for m in network.modules() if _rate(m)]
    replacements = {
        id(layer): FixedDropout(_rate(layer), (seed, member, i), axes=_AXES[type(layer)])
        for i, layer in enumerate(layers)
    }
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in replacements:
                setattr(parent, name, replacements[id(child)])
    return replacements.get(id(network), network)
