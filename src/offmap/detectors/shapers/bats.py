"""Typical features: the outputs of a batch normalisation, clipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.arguments import positive
from offmap.activations import Activations, Sample, Tap
from offmap.detectors._composite import Composite
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors.logits.energy import Energy
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Mean

Edit = Callable[[Tensor], Tensor]


@register("bats")
class BATS(Composite):
    r"""Lets another detector see the network with one batch normalisation's outputs clipped.

    .. math:: x'_c = \min(\max(x_c, \mu_c - \lambda \sigma_c), \mu_c + \lambda \sigma_c)

    with :math:`\mu_c` and :math:`\sigma_c` mean and deviation of channel :math:`c` of a layer's
    output over the training samples and their positions, which for a batch normalisation are its
    bias and the size of its weight. Features and logits are those that follow. The network runs
    once more for each sample, in scoring and in what ``inner`` learns from. The published code
    clips pooled features in the place of a layer's output.

    Args:
        inner: the detector that sees what follows from the clipped outputs.
        layer: its name, or ":last_norm" for the last batch normalisation of the network.
        width: :math:`\lambda`, positive.

    Attributes:
        low_: lower bound of each channel, ``(k,)``.
        high_: upper bound, ``(k,)``.

    Raises:
        ArgumentError: ``inner`` is for an ensemble.
        DegenerateError: in fitting, if the layer's output does not vary.

    References:
        Zhu et al., NeurIPS 2022, arXiv:2210.04200; 3.25 is what the published code takes for
        CIFAR-10, and 1.05 for a ViT on ImageNet.
    """

    needs = Needs.INPUTS
    stages = (Stage(),)
    year = 2022
    suits = "networks with batch normalisation"
    low_: Tensor
    high_: Tensor

    def __init__(self, inner: Detector, *, layer: str = ":last_norm", width: float = 3.25) -> None:
        super().__init__([inner])
        if Needs.MEMBERS in self.needs:
            raise ArgumentError(
                f"BATS changes one network's layer, and {inner!r} is for an ensemble: put BATS "
                "inside, MemberMean(BATS(...))"
            )
        if not isinstance(layer, str):
            raise ArgumentError(f"layer must be the name of one; seen {layer!r}")
        self.layer = layer
        self.width = positive("width", width)

    @classmethod
    def default(cls) -> Self:
        """BATS around the energy."""
        return cls(Energy())

    @property
    def inner(self) -> Detector:
        """The detector that sees what follows from the clipped outputs."""
        return self.part(0)

    def taps(self) -> tuple[Tap, ...]:
        return (Tap(self.layer, "moments"),)

    def collect(self, stage: int, acts: Sample, labels: Tensor | None) -> Mean:
        (values,) = acts.acts.tapped(self.taps()[0])
        mean, variance = values.double().unbind(1)
        return Mean.of(torch.cat([mean, mean.square(), variance], dim=1))

    def solve(self, stage: int, stats: Mean) -> None:
        mean, square, within = stats.mean.chunk(3)
        deviation = (within + (square - mean.square()).clamp(min=0)).sqrt()
        if not deviation.any():
            raise DegenerateError(
                f"{self!r}: the output of {self.layer!r} is the same for all training samples: "
                "choose another layer"
            )
        low, high = mean - self.width * deviation, mean + self.width * deviation
        self.set_buffers(low_=low.float(), high_=high.float())

    def view(self, i: int, acts: Activations | Sample) -> Activations | Sample:
        assert isinstance(acts, Sample)
        network_run = acts.run

        def run(inputs: Tensor, *, edit: Mapping[str, Edit] | None = None) -> Activations:
            edits = dict(edit or {})
            inner = edits.get(self.layer)  # applied after the clipping
            edits[self.layer] = (lambda x: inner(self._clipped(x))) if inner else self._clipped
            return network_run(inputs, edit=edits)

        acts_clipped: Activations = run(acts.inputs).replace(keys=acts.acts.keys)
        return self.inner.view_of(Sample(acts_clipped, acts.inputs, run))

    def _clipped(self, output: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        # Channels come before the positions of a map or line, and after tokens, which a batch
        # normalisation never returns.
        tokens = output.ndim == 3 and self.layer != ":last_norm"
        tokens = tokens and output.shape[2] == len(self.low_)
        shape = [-1] if tokens else [-1] + [1] * (output.ndim - 2)
        low, high = (x.to(output.dtype).view(shape) for x in (self.low_, self.high_))
        return output.maximum(low).minimum(high)

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        return self.part_scores(acts)[0]

    def summary(self) -> str:
        return (
            f"clips {len(self.low_)} channels of {self.layer!r} at {self.width:g} deviations; then "
            f"{self.inner.summary()}"
        )
