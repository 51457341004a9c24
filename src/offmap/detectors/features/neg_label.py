"""Softmax mass on names that are no class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from offmap._utils.arguments import positive, whole
from offmap.activations import Activations, Head
from offmap.detectors._detector import Detector
from offmap.detectors._directions import directions
from offmap.detectors._needs import Needs
from offmap.detectors._registry import register
from offmap.errors import NeedsError

_CHUNK = 32 << 20  # bytes of similarities at a time


@register("neglabel")
class NegLabel(Detector):
    r"""Share of the softmax that falls on names far from all classes, as a mean over groups.

    .. math:: s(h) = 1 - \frac1G \sum_g \frac{\sum_c \exp(\cos(h, W_c) / T)}
              {\sum_c \exp(\cos(h, W_c) / T) + \sum_{j \in g} \exp(\cos(h, N_j) / T)}

    with the rows of the head's weight :math:`W` the embeddings of the classes' names, and :math:`N`
    the embeddings of names that are none, which a network brings by
    ``offmap.networks.zero_shot(..., negatives=...)``. They fall into :math:`G` groups of one size,
    row :math:`j` into group :math:`j \bmod G`; the last rows, which fill no group, are left out.

    The paper takes as negatives the nouns and adjectives of WordNet that lie farthest from the
    classes: 15 percent of them, by the 95 percent quantile of their cosines.

    Args:
        temperature: divides the cosines; positive.
        groups: :math:`G`, or as many as there are negatives if those are fewer.

    Attributes:
        names_: embeddings of the classes, of norm 1, ``(c, d)``.
        negatives_: those of the negatives, ``(m, d)``.

    Raises:
        NeedsError: in binding, if the network has no negatives.

    References:
        Jiang et al., ICLR 2024, arXiv:2403.20078; temperature and number of groups are those of
        the published code, which deals the rows at random.
    """

    needs = Needs.FEATURES | Needs.HEAD | Needs.NEGATIVES
    year = 2024
    suits = "zero-shot networks of images and texts, with negative names"
    names_: Tensor
    negatives_: Tensor

    def __init__(self, *, temperature: float = 0.01, groups: int = 100) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.groups = whole("groups", groups)

    def bind(self, head: Head) -> None:
        if head.negatives is None:
            raise NeedsError(
                f"{self!r} compares the classes with names that are none, and the network brings "
                "no such: give offmap.networks.zero_shot(..., negatives=), or "
                "offmap.Head(..., negatives=); or use MCM"
            )
        rows = head.negatives
        whole_groups = len(rows) - len(rows) % min(self.groups, len(rows))
        self.set_buffers(names_=directions(head.weight), negatives_=directions(rows[:whole_groups]))

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        x = directions(acts.features)
        width = len(self.names_) + len(self.negatives_)
        rows = max(1, _CHUNK // (x.element_size() * width))
        # A graph has no loop over chunks, whose number would depend on the batch.
        parts = [x] if torch.compiler.is_exporting() else torch.split(x, rows)
        return torch.cat([self._shares(part) for part in parts])

    def _shares(self, x: Float64[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        log_classes = (x @ self.names_.T / self.temperature).logsumexp(1, keepdim=True)
        groups = min(self.groups, len(self.negatives_))
        size = len(self.negatives_) // groups
        log_negatives = (x @ self.negatives_.T / self.temperature).reshape(x.shape[0], size, groups)
        shares: Tensor = (log_negatives.logsumexp(1) - log_classes).sigmoid().mean(1)
        return shares

    def summary(self) -> str:
        return f"{len(self.names_)} class names against {len(self.negatives_)} negative ones"
