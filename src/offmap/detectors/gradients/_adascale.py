"""The share of features that count as large, from their shift after a small step."""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import number, positive, share, whole
from offmap.activations import Activations, Head, Heads, Sample
from offmap.detectors._composite import Shaper
from offmap.detectors._detector import Detector
from offmap.detectors._gradients import gradient
from offmap.detectors._needs import Needs, Stage
from offmap.detectors.logits.energy import Energy
from offmap.errors import ArgumentError
from offmap.stats import Bank


class AdaSCALE(Shaper):
    """The base of both variants, see :class:`AdaSCALEA`. A subclass scales features or logits.

    Args:
        inner: the detector that scores the scaled activations.
        least: the smallest share of the features that does not count as large, in (0, 1).
        most: the largest one.
        k1: share of the features, the largest ones, that the correction sums up.
        k2: likewise, the shift.
        factor: weight of the shift.
        moved: share of the inputs' values that a step moves: those with the smallest gradient.
        magnitude: of the step, of the range of pixels if the images are uint8, else in the units
            of the inputs.
        samples: calibration samples to keep at most.

    Attributes:
        shifts_: of calibration samples, in ascending order, ``(m,)``.

    Raises:
        ArgumentError: ``inner`` needs inputs itself.
    """

    needs = Shaper.needs | Needs.LOGITS | Needs.INPUTS
    stages = (Stage("calibration", inputs=True),)
    year = 2025
    suits = "convolutional networks whose features come from a ReLU"
    for_relu = True
    shifts_: Tensor

    def __init__(
        self,
        inner: Detector,
        *,
        least: float = 0.75,
        most: float = 0.85,
        k1: float = 0.05,
        k2: float = 0.01,
        factor: float = 10.0,
        moved: float = 0.05,
        magnitude: float = 0.125,
        samples: int = 5000,
    ) -> None:
        # Before the constructor of the base class, whose errors print these arguments.
        self.least = share("least", least)
        self.most = number("most", most, least=self.least, below=1)
        self.k1, self.k2, self.factor = share("k1", k1), share("k2", k2), number("factor", factor)
        self.moved, self.magnitude = share("moved", moved), positive("magnitude", magnitude)
        self.samples = whole("samples", samples)
        super().__init__(inner)
        if Needs.INPUTS in inner.needs_to_learn:
            raise ArgumentError(
                f"{type(self).__name__} scores the features of the inputs as they are, and "
                f"{inner!r} runs the network on others: use one of the two"
            )

    @classmethod
    def default(cls) -> Self:
        """Around the energy, as in the paper."""
        return cls(Energy())

    def scaled(self, acts: Activations, head: Head, ratio: Float64[Tensor, "n 1"]) -> Activations:
        """The activations that ``inner`` scores."""
        raise NotImplementedError

    def view(self, i: int, acts: Activations | Sample) -> Activations:
        assert isinstance(acts, Sample)
        features = acts.acts.features.double().relu()
        return self.scaled(
            acts.acts, Head(self.weight_, self.bias_), self._ratio(features, self.shift(acts))
        )

    def head_of(self, i: int, head: Head | Heads | None) -> Head:
        return Head(self.weight_, self.bias_)

    def collect(self, stage: int, acts: Sample, labels: Int64[Tensor, " n"] | None) -> Bank:
        return Bank.of(self.shift(acts)[:, None], size=self.samples)

    def solve(self, stage: int, stats: Bank) -> None:
        self.set_buffers(shifts_=stats.rows[:, 0].sort().values)

    def shift(self, sample: Sample) -> Float[Tensor, " n"]:
        """How much the largest features shift with a step, and how large they then are."""
        with torch.no_grad():
            batches = sample.acts, sample.run(self._step(sample))
            features, shifted = (acts.features.double() for acts in batches)
        width = features.shape[1]
        n1, n2 = (max(int(width * k), 1) for k in (self.k1, self.k2))
        top = features.topk(max(n1, n2), dim=1).indices
        correction = shifted.relu().gather(1, top[:, :n1]).sum(1)
        change = (features - shifted).abs().gather(1, top[:, :n2]).sum(1)
        return (correction + self.factor * change).float()

    def _step(self, sample: Sample) -> Float[Tensor, "n ..."]:
        """The inputs after a step of those values on which the largest logit depends least."""
        purpose = f"{type(self).__name__} moves inputs along the gradient of the largest logit"
        step = gradient(sample, lambda batch: batch.acts.logits.amax(1), purpose).flatten(1)
        count = max(int(step.shape[1] * self.moved), 1)
        least = step.abs().topk(count, dim=1, largest=False).indices
        step = torch.zeros_like(step).scatter(1, least, step.gather(1, least).sign())
        return sample.inputs + self.magnitude * step.view_as(sample.inputs)

    def _ratio(
        self, features: Float64[Tensor, "n d"], shift: Float[Tensor, " n"]
    ) -> Float64[Tensor, "n 1"]:
        """The sum of all features over that of the large ones; 0 for a sample of zeros."""
        below = torch.searchsorted(self.shifts_, shift, right=True).double() / len(self.shifts_)
        quantile = self.least + (1 - below) * (self.most - self.least)
        width = features.shape[1]
        count = (width - (width * quantile).round().long()).clamp(min=1)
        sums = features.sort(dim=1, descending=True).values.cumsum(1)
        large = sums.gather(1, count[:, None] - 1)
        return sums[:, -1:] / large.clamp(min=torch.finfo(large.dtype).tiny)

    def summary(self) -> str:
        return (
            f"scales by the share above the {self.least:g} to {self.most:g} quantile, by the "
            f"shifts of {len(self.shifts_)} samples; {self.inner.summary()}"
        )
