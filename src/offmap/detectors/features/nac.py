"""Coverage of the features' states by training samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from offmap._utils.arguments import positive, whole
from offmap.activations import Activations, Head
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs, Stage
from offmap.detectors._registry import register
from offmap.detectors._softmax import check_classes
from offmap.errors import ArgumentError, DegenerateError
from offmap.stats import Bank

_BASE = 1e3  # of the logarithmic bins, as in the published code


@register("nac", aliases=("nacue",))
class NAC(Detector):
    r"""Minus how well training samples cover the states of the features.

    .. math:: s(h) = -\frac1d \sum_{i=1}^d \min\Big(\frac{n_i(t_i)}{O}, 1\Big), \qquad
              t = \sigma\big(\alpha\, h \odot W^\top (p - \tfrac1c)\big)

    with :math:`n_i(t_i)` how many of 1,000 training samples have state :math:`i` in the bin of
    :math:`t_i`. What features are multiplied by is the gradient of the divergence of the softmax
    from the uniform distribution, in closed form. The bins are those of the published code: finest
    about 1/2, where a feature moves nothing. It reads the last layer alone, as that code does by
    default; further layers, each with three numbers of its own, were chosen on OOD data.

    Args:
        alpha: steepness of the sigmoid. The published code has 100 for a ResNet-18 on CIFAR-10, 50
            on CIFAR-100, and 3000 for a ResNet-50 on ImageNet, all chosen on OOD data. It goes
            with the size of features and weights: where most states of ID data come out as 0 or 1,
            as for 100 on a ResNet-20, it is too steep.
        full: :math:`O`, samples that cover a bin in full.
        edges: of the bins, of which there is one fewer; even.
        samples: training samples to count at most: those with the smallest seeded hash. The
            published code takes as many of each class.
        seed: chooses among them.

    Attributes:
        weight_: the head's weight, ``(c, d)``.
        coverage_: of each state in each bin, in [0, 1], ``(d, edges - 1)``.

    Raises:
        DegenerateError: in fitting, if all samples have their states in the same bins.

    References:
        Liu et al., ICLR 2024, arXiv:2306.02879, section 3; its published code (ood_coverage),
        ``configs/postprocessors/nac/resnet/nac_cifar10.yml``.
    """

    year = 2024
    suits = "convolutional networks like the ResNets of its presets"
    needs = Needs.LOGITS | Needs.FEATURES | Needs.HEAD
    stages = (Stage(),)
    weight_: Tensor
    coverage_: Tensor

    def __init__(
        self,
        *,
        alpha: float = 100.0,
        full: int = 50,
        edges: int = 50,
        samples: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.alpha = positive("alpha", alpha)
        self.full = whole("full", full)
        self.edges = whole("edges", edges, low=4)
        if self.edges % 2:
            raise ArgumentError(f"edges must be even, as many on either side of 1/2; seen {edges}")
        self.samples = whole("samples", samples)
        self.seed = whole("seed", seed, low=0)

    def bind(self, head: Head) -> None:
        self.set_buffers(weight_=head.weight.double().clone())

    def _bins(
        self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]
    ) -> Int64[Tensor, "n d"]:
        """The bin of each state."""
        influence = (logits.double().softmax(1) - 1 / logits.shape[1]) @ self.weight_
        states = (self.alpha * features.double() * influence).sigmoid()
        inner = edges_of(self.edges).to(states)[1:-1]
        if torch.compiler.is_exporting():
            return (states[:, :, None] >= inner).sum(2)
        return torch.bucketize(states, inner, right=True)

    def collect(self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None) -> Bank:
        check_classes(acts.logits)
        rows = torch.cat([acts.logits.float(), acts.features.float()], dim=1)
        return Bank.of(rows, size=self.samples, seed=self.seed)

    def solve(self, stage: int, stats: Bank) -> None:
        classes, width = self.weight_.shape
        bins = self._bins(stats.rows[:, :classes], stats.rows[:, classes:])
        if len(bins) > 1 and bool((bins == bins[:1]).all()):
            raise DegenerateError(
                f"{self!r}: {len(bins)} training samples have all states in the same bins: raise "
                "alpha, or fit on samples that differ"
            )
        counts = self._places(bins).flatten().bincount(minlength=width * (self.edges - 1))
        coverage = (counts.double() / self.full).clamp(max=1)
        self.set_buffers(coverage_=coverage.view(width, self.edges - 1))

    def _places(self, bins: Int64[Tensor, "n d"]) -> Int64[Tensor, "n d"]:
        """The index of each state's bin among the bins of all states."""
        return bins + (self.edges - 1) * torch.arange(bins.shape[1], device=bins.device)

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        check_classes(acts.logits)
        places = self._places(self._bins(acts.logits, acts.features))
        return -self.coverage_.flatten()[places].mean(1)

    def footprint(self, classes: int, features: int) -> int:
        return 4 * self.samples * (classes + features) + 8 * features * self.edges

    def summary(self) -> str:
        share = float((self.coverage_ > 0).double().mean())
        return f"{self.edges - 1} bins of {len(self.coverage_)} states, {share:.0%} of them covered"


def edges_of(count: int) -> Float64[Tensor, " m"]:
    """Edges of the bins: logarithmic from 0 to 1/2, mirrored from there to 1 and beyond."""
    x = torch.linspace(1, _BASE**0.5, count // 2, dtype=torch.float64, device="cpu")
    lower = x.log() / x[-1].log() / 2
    upper = 1 - lower.flip(0)
    upper[-1] += 0.01
    return torch.cat([lower[:-1], upper, upper.new_tensor([1.2])])
