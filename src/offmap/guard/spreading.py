"""What lets other processes run a guard's network over data."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from offmap.activations import Activations, Sample
from offmap.detectors import Spread
from offmap.forward import Seen


class Spreading(Protocol):
    """Processes that learn and score for a :class:`Guard`; :mod:`offmap.scale` has some."""

    def over(
        self, guard: Any, data: Any, first: Activations | Sample, batch_size: int, seen: Seen
    ) -> Spread:
        """The data to fit on; ``seen`` counts the samples."""

    def scored(
        self, guard: Any, data: Any, learn_share: float, batch_size: int, seen: Seen
    ) -> tuple[Tensor, Tensor, int, list[str]]:
        """Calibration data: detectors learn on their share, and the other samples are scored.

        Returns:
            Scores, predictions, the number of classes and the keys.
        """
