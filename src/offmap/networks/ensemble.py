"""Several networks that predict together."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from offmap.activations import HasMembers, log_mean_probabilities
from offmap.errors import ArgumentError


class Ensemble(HasMembers):
    r"""Networks of the same classes that predict the mean of their probabilities.

    .. math:: z = \log \tfrac1M \sum_m \mathrm{softmax}(z_m)

    It holds its members alone: a probe runs each of them once over data, and keeps their
    activations apart.

    Args:
        members: one or more classifiers of the same classes and images.

    Raises:
        ArgumentError: there is no member.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not len(members):
            raise ArgumentError("an ensemble needs at least one member")
        self.members = nn.ModuleList(members)

    def forward(self, x: Float[Tensor, "n k h w"]) -> Float[Tensor, "n c"]:
        """Logarithms of the mean probabilities."""
        return log_mean_probabilities([member(x) for member in self.members])
