"""The answer for each sample: what it is, and whether it is known at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from offmap.errors import MissingExtraError
from offmap.guard.decide import false_discoveries


@dataclass(frozen=True)
class Verdict:
    """What a guard says of a batch of ``n`` images.

    Args:
        labels: the answers of the network, ``(n,)``.
        scores: OOD scores, higher is more OOD, ``(n,)``.
        p_values: conformal p-values: how rare a score as high is among known samples, ``(n,)``.
        is_ood: whether each is called unknown: ``p_value <= alarm_rate``, ``(n,)``.
        classes: names of the labels, or none.
    """

    labels: Int64[Tensor, " n"]
    scores: Float[Tensor, " n"]
    p_values: Float64[Tensor, " n"]
    is_ood: Bool[Tensor, " n"]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | Tensor) -> Verdict:
        """The verdict on some of the images."""
        labels, scores = self.labels[rows], self.scores[rows]
        return Verdict(labels, scores, self.p_values[rows], self.is_ood[rows], self.classes)

    def discoveries(self, rate: float) -> Bool[Tensor, " n"]:
        """Which to call OOD so that at most a share ``rate`` of those called is ID, on average."""
        return false_discoveries(self.p_values, rate)

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns of plain values; ``answer`` is the label's name, or ``"unknown"``."""
        labels, is_ood = self.labels.tolist(), self.is_ood.tolist()
        names = [self.classes[i] if self.classes else str(i) for i in labels]
        return {
            "label": labels,
            "answer": ["unknown" if o else n for o, n in zip(is_ood, names, strict=True)],
            "score": self.scores.tolist(),
            "p_value": self.p_values.tolist(),
            "is_ood": is_ood,
        }

    def to_pandas(self) -> Any:
        """A pandas DataFrame of :meth:`to_dict`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("pandas", "pandas") from error
        return pd.DataFrame(self.to_dict())

    def __str__(self) -> str:
        unknown = int(self.is_ood.sum())
        return f"{len(self)} images: {unknown} unknown, {len(self) - unknown} known"
