"""Input perturbation around any differentiable score."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.activations import Activations, Sample
from offmap.detectors._composite import Composite
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._plan import nodes
from offmap.detectors._registry import register
from offmap.detectors.logits.msp import MSP
from offmap.errors import ArgumentError, NeedsError


@register("perturbed")
class Perturbed(Composite):
    r"""A score of the input after a small step towards what is known.

    .. math:: s'(x) = s(x - \varepsilon\, \mathrm{sign} \nabla_x s(x))

    ID inputs react to the step more than OOD ones. What ``inner`` learns, it learns from inputs
    that are not moved. The network runs twice more for each input, once with gradients.

    Args:
        inner: the score.
        magnitude: :math:`\varepsilon`, in [0, 1) of the range of pixels if the images are uint8,
            else in the units of the inputs. 0 moves nothing, and needs no inputs.

    Raises:
        ArgumentError: ``inner`` moves inputs itself.
        NeedsError: in scoring, if ``inner`` has no gradient with respect to the inputs.

    References:
        Liang, Li and Srikant, ICLR 2018, arXiv:1706.02690; around a Mahalanobis distance Lee et
        al., NeurIPS 2018, arXiv:1807.03888.
    """

    needs = Needs.INPUTS
    magnitude: float

    def __init__(self, inner: Detector, *, magnitude: float = 0.0014) -> None:
        super().__init__([inner])
        if not 0 <= magnitude < 1:
            raise ArgumentError(f"magnitude must lie in [0, 1); seen {magnitude}")
        moves = (isinstance(node, Perturbed) and node.magnitude for node in nodes(inner))
        if magnitude and any(moves):
            raise ArgumentError(
                f"{inner!r} moves inputs itself, and its score has no gradient along which "
                f"{type(self).__name__} could move them once more: perturb once"
            )
        self.magnitude = magnitude
        if not magnitude:
            self.needs = inner.needs

    @classmethod
    def default(cls) -> Self:
        """Around the maximum softmax probability."""
        return cls(MSP())

    @property
    def inner(self) -> Detector:
        """The score."""
        return self.part(0)

    def view_in_fit(self, i: int, acts: Activations | Sample) -> Activations | Sample:
        return super().view(i, acts)

    def view(self, i: int, acts: Activations | Sample) -> Activations | Sample:
        if not self.magnitude:
            return super().view(i, acts)
        assert isinstance(acts, Sample)
        x = acts.inputs - self.magnitude * self._gradient(acts).sign()
        with torch.no_grad():
            moved = Sample(acts.run(x), x, acts.run)
        return self.inner.view_of(moved)

    @torch.enable_grad()
    def _gradient(self, sample: Sample) -> Tensor:
        """Of the score, with respect to the inputs."""
        x = sample.inputs.detach().clone().requires_grad_()
        scores = self.inner(self.inner.view_of(Sample(sample.run(x), x, sample.run)))
        if not scores.requires_grad:
            raise NeedsError(
                f"{self!r} moves inputs along the gradient of {self.inner!r}, which has none"
            )
        gradient: Tensor = torch.autograd.grad(scores.sum(), x)[0]
        return gradient

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        return self.part_scores(acts)[0]
