"""ODIN that moves a single value of the input."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.detectors._registry import register
from offmap.detectors.gradients.odin import ODIN


@register("iodin", aliases=("i-odin",))
class IODIN(ODIN):
    r"""ODIN, where only the value of the input with the largest gradient is moved.

    .. math:: s(x) = 1 - \max_j p_j(x'), \qquad
              x'_i = x_i + \varepsilon\, \mathrm{sign}(g_i)\, 1[i = \arg\max_k |g_k|], \qquad
              g = \nabla_x \log \max_j p_j(x)

    with :math:`p` the softmax of the logits divided by a temperature, and :math:`i` over pixels
    and channels, as in the published code.

    Args:
        temperature: divides the logits; positive.
        magnitude: :math:`\varepsilon`, of the range of pixels if the images are uint8, else in the
            units of the inputs. 0 moves nothing, and needs no inputs.

    References:
        Regmi, 2024, arXiv:2411.10794; values and step of its code in OpenOOD, where the largest
        gradient is one with respect to the normalised image.
    """

    year = 2024

    def __init__(self, *, temperature: float = 1000.0, magnitude: float = 0.0014) -> None:
        super().__init__(temperature=temperature, magnitude=magnitude)

    @classmethod
    def default(cls) -> Self:
        """The values of the published code."""
        return cls()

    def direction(self, gradient: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        flat = gradient.flatten(1)
        largest = flat.abs().argmax(1, keepdim=True)
        step = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
        return step.view_as(gradient)
