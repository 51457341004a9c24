"""The answer for each sample: what it is, and whether it is known at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from offmap._utils.precision import sum_is_finite
from offmap.activations import Activations
from offmap.errors import MissingExtraError
from offmap.guard.decide import false_discoveries


@dataclass(frozen=True)
class Answer:
    """What a guard says of one sample.

    Args:
        label: the class that the network gives, if it gives one.
        answer: its name, or "unknown"; "known" where it has none.
        score: OOD score, higher is more OOD; ``None`` where it is not finite.
        p_value: how rare a score as high is among known samples.
        is_ood: whether it is called OOD.
        error: why it has no score.
        key: what tells it from others, such as its path, where known.
        accepted: whether the guard's error control accepts it, where it has one.
    """

    label: int | None
    answer: str
    score: float | None
    p_value: float
    is_ood: bool
    error: str | None
    key: str | None = None
    accepted: bool | None = None


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a guard says of a batch of ``n`` images.

    Args:
        labels: the classes that the network gives, ``(n,)``; -1 where it gives features alone.
        scores: OOD scores, higher is more OOD, ``(n,)``.
        p_values: conformal p-values: how rare a score as high is among known samples, ``(n,)``.
        is_ood: whether each is called OOD: the limit of its rank is at most the alarm rate, which
            without a confidence is ``p_value <= alarm_rate``, ``(n,)``.
        classes: names of the labels, or none.
        keys: what tells each sample from others, such as its path, where known.
        reasons: why a sample has no finite score, and is called OOD for that; ``None`` for others.
        accepted: whether each is accepted under :meth:`Guard.control`, where that was asked for;
            with thresholds per class, or another alarm rate, it can be called OOD nevertheless.
        words: why each is judged so, of :func:`offmap.guard.explained`.
    """

    labels: Int64[Tensor, " n"]
    scores: Float[Tensor, " n"]
    p_values: Float64[Tensor, " n"]
    is_ood: Bool[Tensor, " n"]
    classes: tuple[str, ...] = ()
    keys: tuple[str, ...] | None = None
    reasons: tuple[str | None, ...] | None = None
    accepted: Bool[Tensor, " n"] | None = None
    words: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: int | slice | Tensor) -> Any:
        """The verdict on some of the samples; on one, as an :class:`Answer`."""
        if isinstance(rows, int | np.integer):
            return self._answer(range(len(self))[rows])  # an IndexError ends an iteration
        cpu_rows = rows.cpu() if isinstance(rows, Tensor) else rows
        indices = torch.arange(len(self), device="cpu")[cpu_rows].tolist()
        keys, reasons, words = (
            None if texts is None else tuple(texts[i] for i in indices)
            for texts in (self.keys, self.reasons, self.words)
        )
        labels, scores = self.labels[rows], self.scores[rows]
        p_values, is_ood = self.p_values[rows], self.is_ood[rows]
        accepted = None if self.accepted is None else self.accepted[rows]
        columns = (labels, scores, p_values, is_ood, self.classes, keys, reasons, accepted, words)
        return Verdict(*columns)

    def _answer(self, i: int) -> Answer:
        row = self[i : i + 1].to_dict()
        key = None if self.keys is None else self.keys[i]
        return Answer(key=key, **{name: values[0] for name, values in row.items()})

    def __iter__(self) -> Iterator[Answer]:
        """The answers one by one."""
        return (self._answer(i) for i in range(len(self)))

    def named(self, keys: tuple[str, ...]) -> Verdict:
        """The same with the keys of the samples, such as their files."""
        return replace(self, keys=keys)

    @classmethod
    def joined(cls, parts: Sequence[Verdict]) -> Verdict:
        """The verdicts on several batches as one."""
        columns = ("labels", "scores", "p_values", "is_ood")
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in columns}
        keys = [part.keys for part in parts]
        reasons = [part.reasons or (None,) * len(part) for part in parts]
        accepted = [part.accepted for part in parts if part.accepted is not None]
        words = [part.words for part in parts]
        return cls(
            **tensors,
            classes=parts[0].classes,
            keys=None if None in keys else tuple(k for each in keys for k in each or ()),
            reasons=tuple(chain(*reasons)) if any(part.reasons for part in parts) else None,
            accepted=torch.cat(accepted) if len(accepted) == len(parts) else None,
            words=None if None in words else tuple(w for each in words for w in each or ()),
        )

    def explain(self, i: int) -> str:
        """Why one sample was called known or unknown.

        Of a verdict of :func:`offmap.guard.explained` in full; else its class, score and p-value.
        """
        answer = self._answer(range(len(self))[i])
        label = "" if answer.label is None else f"said {self._name(answer.label)}; "
        reason = answer.error or f"{label}score {answer.score:.4g}, p-value {answer.p_value:.3g}"
        words = self.words[i] if self.words else reason
        return f"{'unknown' if answer.is_ood else 'known'}: {words}"

    def of_any_mode(self) -> Verdict:
        """The same, without a tensor of inference mode, such as labels that a network gave."""
        tensors = ("labels", "scores", "p_values", "is_ood", "accepted")
        columns = {name: x for name in tensors if (x := getattr(self, name)) is not None}
        copies = {name: x.clone() for name, x in columns.items() if x.is_inference()}
        return replace(self, **copies) if copies else self

    def discoveries(self, rate: float) -> Bool[Tensor, " n"]:
        """Which to call OOD so that at most a share ``rate`` of those called is ID, on average.

        Proved for a guard of one detector whose samples share one calibration set; not for one that
        is calibrated per class, nor for several detectors. See
        :func:`offmap.guard.false_discoveries`.
        """
        return false_discoveries(self.p_values, rate)

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns of plain values; ``answer`` is the label's name, or ``"unknown"``.

        A score that is not finite is ``None``, with its reason under ``error``; ``accepted`` is
        there where the guard controls its errors.
        """
        labels, is_ood = self.labels.tolist(), self.is_ood.tolist()
        names = [self._name(label) for label in labels]
        return {
            "label": [None if label < 0 else label for label in labels],
            "answer": ["unknown" if o else n for o, n in zip(is_ood, names, strict=True)],
            "score": [s if math.isfinite(s) else None for s in self.scores.tolist()],
            "p_value": self.p_values.tolist(),
            "is_ood": is_ood,
            "error": list(self.reasons or (None,) * len(self)),
            **({} if self.accepted is None else {"accepted": self.accepted.tolist()}),
        }

    def _name(self, label: int) -> str:
        if label < 0:
            return "known"
        return self.classes[label] if self.classes else str(label)

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

    def __repr__(self) -> str:
        return f"Verdict on {self}"

    def __str__(self) -> str:
        unknown = int(self.is_ood.sum())
        return f"{len(self):,} samples: {unknown:,} unknown, {len(self) - unknown:,} known"


def why_not_finite(
    acts: Activations, scores: Float[Tensor, "n k"]
) -> tuple[str | None, ...] | None:
    """Why samples have no finite score; ``None`` where all have one, which two sums tell."""
    if acts.is_finite and (sum_is_finite(scores) or bool(scores.isfinite().all())):
        return None
    of_network: Bool[Tensor, " n"] = acts.finite_rows().logical_not()
    words = {True: "the network's output is not finite", False: "the score is not finite"}
    failures = of_network | ~scores.isfinite().all(1)
    pairs = zip(failures.tolist(), of_network.tolist(), strict=True)
    return tuple(words[network] if failure else None for failure, network in pairs)
