"""Input perturbation around any differentiable score."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import share
from offmap.activations import Activations, Sample
from offmap.detectors._composite import Composite
from offmap.detectors._detector import Detector
from offmap.detectors._gradients import gradient
from offmap.detectors._needs import Needs
from offmap.detectors._plan import nodes
from offmap.detectors._registry import register
from offmap.detectors.logits.msp import MSP
from offmap.errors import ArgumentError


@register("perturbed")
class Perturbed(Composite):
    r"""A score of the input after a small step towards ID.

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

    year = 2018
    suits = "classifiers of images and other floats"
    needs = Needs.INPUTS
    magnitude: float

    def __init__(self, inner: Detector, *, magnitude: float = 0.0014) -> None:
        super().__init__([inner])
        self.magnitude = share("magnitude", magnitude)
        moves = (isinstance(node, Perturbed) and node.magnitude for node in nodes(inner))
        if self.magnitude and any(moves):
            raise ArgumentError(
                f"{inner!r} moves inputs itself, and its score has no gradient along which "
                f"{type(self).__name__} could move them once more: perturb once"
            )
        if not self.magnitude:
            self.needs = inner.needs

    def renew_needs(self) -> None:
        super().renew_needs()
        if not self.magnitude:
            self.needs = self.inner.needs

    @classmethod
    def default(cls) -> Self:
        """Around the maximum softmax probability."""
        return cls(MSP())

    @property
    def inner(self) -> Detector:
        """The score."""
        return self.part(0)

    def view_in_fit(self, i: int, acts: Activations | Sample) -> Activations | Sample:
        if isinstance(acts, Sample) and self.reads_inputs_to_learn(i):
            return acts
        return super().view(i, acts)

    def view(self, i: int, acts: Activations | Sample) -> Activations | Sample:
        if not self.magnitude:
            return super().view(i, acts)
        assert isinstance(acts, Sample)
        purpose = f"{self!r} moves inputs along the gradient of {self.inner!r}"
        step = self.direction(gradient(acts, self._score, purpose))
        x = acts.inputs - self.magnitude * step
        with torch.no_grad():
            sample = replace(acts, acts=acts.run(x), inputs=x)
        return self.inner.view_of(sample)

    def _score(self, sample: Sample) -> Tensor:
        return self.inner(self.inner.view_of(sample))  # type: ignore[no-any-return]

    def direction(self, gradient: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The direction of a step of size 1."""
        return gradient.sign()

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        return self.part_scores(acts)[0]
