"""The maximum softmax probability at a high temperature, after input perturbation."""

from __future__ import annotations

from typing import Self

from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import positive
from offmap.activations import Activations
from offmap.detectors._detector import Detector
from offmap.detectors._registry import register
from offmap.detectors._softmax import log_rest
from offmap.detectors.combined.perturbed import Perturbed


class _Tempered(Detector):
    """One minus the maximum softmax probability at a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        return log_rest(acts.logits.double() / self.temperature).exp()


@register("odin")
class ODIN(Perturbed):
    r"""One minus the maximum of ``softmax(z / T)``, after a step of the input towards a larger one.

    .. math:: s(x) = 1 - \max_j p_j(x'), \qquad
              x' = x + \varepsilon\, \mathrm{sign} \nabla_x \log \max_j p_j(x)

    It is :class:`Perturbed` around that score.

    Args:
        temperature: divides the logits; positive.
        magnitude: :math:`\varepsilon`, of the range of pixels if the images are uint8, else in the
            units of the inputs. 0 moves nothing, and needs no inputs.

    References:
        Liang, Li and Srikant, ICLR 2018, arXiv:1706.02690; :math:`T` and :math:`\varepsilon` of its
        section 4. The published code divides the gradient by the deviations of the normalisation,
        so its step, too, is one in pixels.
    """

    year = 2018

    def __init__(self, *, temperature: float = 1000.0, magnitude: float = 0.0014) -> None:
        tempered = _Tempered(positive("temperature", temperature))
        super().__init__(tempered, magnitude=magnitude)
        self.temperature = tempered.temperature

    @classmethod
    def default(cls) -> Self:
        """The values of the paper."""
        return cls()
